"""The files crews have sent: pictures to be looked at, everything else to be saved. None is ever a page of ours.

Which type a browser is told is decided here, by what the file was seen to be when it came, never by what its device
says of it.
"""

from __future__ import annotations

import mimetypes

from flask import Response, current_app, request

from fieldsvc.api.evidence import saved_as
from fieldsvc.base.db import reading
from fieldsvc.base.errors import NotFound
from fieldsvc.base.store import Store
from fieldsvc.console.frame import actor, page, pages
from fieldsvc.sync import evidence, uploads
from fieldsvc.sync.evidence import Shown
from fieldsvc.sync.pictures import LOOKED_AT

POLICY = "default-src 'none'; frame-ancestors 'none'; sandbox"
"""The Content-Security-Policy of a file: should it come to be opened as a page, it may do nothing at all."""


@pages.get("/photos/<id:attachment_id>")
@page()
def photo(attachment_id: str) -> Response:
    """A file of a job in one's territories; ``?size=small`` its thumbnail, ``?save=1`` to be saved in any case."""
    with reading():
        one = evidence.find(attachment_id, actor())
        small = request.args.get("size") == "small"
        if one.file is None or (small and not one.file.thumbnail):
            raise NotFound("file", attachment_id)
        where = uploads.thumbnail_path(one.row.sha256) if small else uploads.file_path(one.row.sha256)
        picture = "image/jpeg" if small else one.file.type if one.file.fault is None else None
        return _served(one, where, picture if picture in LOOKED_AT else None, small)


def _served(one: Shown, where: str, picture: str | None, small: bool) -> Response:
    """``picture``: its type when it may be looked at, None when it is only to be saved."""
    response = Response(mimetype=picture or "application/octet-stream")
    response.set_etag(f"{one.row.sha256}{'-small' if small else ''}")
    response.headers["Cache-Control"] = "private, no-cache"  # asked for again each time: whoever may see it may change
    response.headers["Content-Security-Policy"] = POLICY
    response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
    inline = picture is not None and "save" not in request.args
    name = one.filename or one.row.attachment_id + (mimetypes.guess_extension(picture or one.row.type) or "")
    response.headers.set("Content-Disposition", "inline" if inline else "attachment", **saved_as(name))
    response.make_conditional(request)
    if response.status_code != 304:
        store: Store = current_app.extensions["fieldsvc.store"]
        try:
            response.response = store.pieces(where)
        except FileNotFoundError:
            raise NotFound("content of file", one.row.id) from None
        del response.headers["Content-Length"]  # of nothing, as it was when the tag was compared
        if not small:
            response.content_length = one.row.size
    return response
