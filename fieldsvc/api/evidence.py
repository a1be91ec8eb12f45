"""Evidence for the office: the files crews have sent, what is known of each, their content and thumbnails.

A file is never served as a page of ours: whatever it claims to be, a browser is told to save it and to run nothing.
"""

from __future__ import annotations

import mimetypes
import re
import unicodedata
from typing import Any
from urllib.parse import quote

from flask import Response, current_app, g, stream_with_context

from fieldsvc.api import access, paging
from fieldsvc.api.frame import Blueprint, document
from fieldsvc.api.jobs import Position
from fieldsvc.api.schemas import Choice, Flag, Ident, Int, Member, PageArgs, Schema, Text, UtcTime, page_of
from fieldsvc.base.db import reading
from fieldsvc.base.errors import NotFound
from fieldsvc.base.store import Store
from fieldsvc.sync import evidence, uploads
from fieldsvc.sync.evidence import Shown
from fieldsvc.sync.models import Attachment
from fieldsvc.sync.pictures import LOOKED_AT
from fieldsvc.work import queries

blp = Blueprint("evidence", __name__, url_prefix="/v1", description="Evidence: the files crews have sent")

STATES = ("expected", "uploading", "verified", "empty", "wrong_hash", "wrong_size", "unreadable")
_OCTETS = "application/octet-stream"


class AttachmentAnswer(Schema):
    id = Ident(required=True)
    attachment_id = Text(80, required=True, metadata={"description": "As its device calls it."})
    op_id = Text(80, required=True, metadata={"description": "The operation that names it."})
    job_id = Text(80, allow_none=True, required=True)
    device_id = Ident(required=True)
    crew_id = Ident(required=True)
    sha256 = Text(64, required=True, metadata={"description": "As the operation says; the file's when it is verified."})
    size = Int(0, 2**53, required=True)
    type = Text(100, min=0, required=True, metadata={"description": "As the operation says."})
    required = Flag(required=True)
    in_effect = Flag(required=True, metadata={"description": "Its operation was applied: it counts for the job."})
    state = Choice(*STATES, required=True)
    received = Int(0, 2**53, required=True, metadata={"description": "Bytes that are here."})
    fault = Text(200, allow_none=True, required=True)
    filename = Text(200, allow_none=True, required=True)
    width = Int(allow_none=True, required=True)
    height = Int(allow_none=True, required=True)
    taken_text = Text(
        80,
        allow_none=True,
        required=True,
        metadata={"description": "When it was taken, as the picture says: evidence."},
    )
    taken_at = UtcTime(
        allow_none=True, required=True, metadata={"description": "The same in UTC, if it says its zone."}
    )
    taken_position = Member(Position, allow_none=True, required=True)
    content = Flag(required=True, metadata={"description": "Whether the file is here."})
    thumbnail = Flag(required=True, metadata={"description": "Whether there is a thumbnail."})
    named_at = UtcTime(required=True)
    verified_at = UtcTime(allow_none=True, required=True)
    rev = Int(required=True)


def _binary(*types: str) -> Any:
    """Document an answer of bytes of one of ``types``."""
    answer = {"description": "OK", "content": {name: {"schema": {"type": "string"}} for name in types}}
    return lambda view: document(view, responses={"200": answer})


@blp.get("/jobs/<id:job_id>/attachments")
@access.staff()
@blp.arguments(PageArgs, location="query")
@blp.response(200, page_of(AttachmentAnswer))
@blp.errors("bad-cursor")
def list_attachments(args: dict[str, Any], job_id: str) -> Any:
    """The files that operations on a job name, whether they have come or not"""
    with reading():
        job = queries.job(job_id, g.actor.scope)
        page = paging.fetch(evidence.of_job(job.id), (Attachment.id,), args, descending=False)
        pages = {one.row.id: one.page() for one in evidence.shown(page.rows)}
        body, headers = paging.answer(page, lambda row: pages[row.id])
    return body, 200, headers


@blp.get("/attachments/<id:attachment_key>")
@access.staff()
@blp.response(200, AttachmentAnswer)
def get_attachment(attachment_key: str) -> Any:
    """One file: what is known of it"""
    with reading():
        return evidence.find(attachment_key, g.actor).page()


@blp.get("/attachments/<id:attachment_key>/content")
@access.staff()
@_binary(_OCTETS, *LOOKED_AT)
def content(attachment_key: str) -> Response:
    """The file itself, as it came; to be saved, never to be shown as a page"""
    with reading():
        one = evidence.find(attachment_key, g.actor)
        return _served(one, uploads.file_path(one.row.sha256), one.file.type if one.file else None)


@blp.get("/attachments/<id:attachment_key>/thumbnail")
@access.staff()
@_binary("image/jpeg")
def thumbnail(attachment_key: str) -> Response:
    """A small JPEG of a picture, without anything the picture says of itself"""
    with reading():
        one = evidence.find(attachment_key, g.actor)
        if one.file is None or not one.file.thumbnail:
            raise NotFound("thumbnail of attachment", attachment_key)
        return _served(one, uploads.thumbnail_path(one.row.sha256), "image/jpeg")


def _served(one: Shown, path: str, kind: str | None) -> Response:
    store: Store = current_app.extensions["fieldsvc.store"]
    if one.file is None:
        raise NotFound("content of attachment", one.row.id)
    try:
        pieces = store.pieces(path)
    except FileNotFoundError:
        raise NotFound("content of attachment", one.row.id) from None
    kind = kind if kind in LOOKED_AT else _OCTETS
    response = Response(stream_with_context(pieces), mimetype=kind)
    name = one.filename or one.row.attachment_id + (mimetypes.guess_extension(one.row.type) or "")
    response.headers.set("Content-Disposition", "attachment", **saved_as(name))
    response.headers["Content-Security-Policy"] = "sandbox; default-src 'none'"
    response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
    return response


def saved_as(name: str) -> dict[str, str]:
    """Parameters of Content-Disposition (RFC 6266): ``name`` in ASCII and, where that is not all of it, whole. A header
    is ASCII; what turns the direction of writing or cannot be seen is left out, and so are folders.
    """
    name = "".join(char for char in re.sub(r"[/\\]", "_", name) if char.isprintable())
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode() or "file"
    whole = {} if name.isascii() else {"filename*": "UTF-8''" + quote(name, safe="")}
    return {"filename": plain} | whole
