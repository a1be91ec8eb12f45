"""``/sync/v1/attachments``: files of operations by tus 1.0 (https://tus.io/protocols/resumable-upload), resumable.

With the extensions creation, creation-with-upload, checksum, termination and expiration.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from flask import Response, current_app, g, request
from werkzeug.exceptions import ClientDisconnected
from werkzeug.http import http_date

from fieldsvc import queue
from fieldsvc.api import access
from fieldsvc.api.frame import Blueprint, document
from fieldsvc.api.lanes import lane
from fieldsvc.api.sync import current_settings
from fieldsvc.base.clock import utc_now
from fieldsvc.base.db import reading, transaction
from fieldsvc.base.errors import Conflict, FieldsvcError
from fieldsvc.base.store import Store
from fieldsvc.sync import uploads
from fieldsvc.sync.uploads import Check, Promise

blp = Blueprint(
    "attachments", __name__, url_prefix="/sync/v1/attachments", description="Files of operations, by tus 1.0"
)

VERSION = "1.0.0"
EXTENSIONS = "creation,creation-with-upload,checksum,termination,expiration"
OCTETS = "application/offset+octet-stream"
_PIECE = 64 * 1024

_BYTES = {"type": "string", "contentMediaType": OCTETS}


def _header(name: str, description: str, pattern: str, *, required: bool = False) -> dict[str, Any]:
    schema = {"type": "string", "pattern": pattern}
    return {"name": name, "in": "header", "required": required, "description": description, "schema": schema}


_RESUMABLE = _header("Tus-Resumable", "The version of tus spoken.", "^1\\.0\\.0$", required=True)
_OFFSET = _header("Upload-Offset", "How many bytes have been sent before.", "^[0-9]{1,15}$", required=True)
_CHECKSUM = _header(
    "Upload-Checksum",
    "`sha1` or `sha256`, a blank, the digest of this piece in base64.",
    "^sha(1|256) [0-9A-Za-z+/=]+$",
)
_TOLD = {"Tus-Resumable": {"schema": {"type": "string"}}}
_TOLD_OFFSET = {"Upload-Offset": {"schema": {"type": "string"}}, **_TOLD}


@blp.after_request
def _speak(response: Response) -> Response:
    response.headers["Tus-Resumable"] = VERSION
    if response.status_code == 412:
        response.headers["Tus-Version"] = VERSION
    return response


def _version() -> None:
    if request.headers.get("Tus-Resumable") != VERSION:
        raise FieldsvcError("precondition-failed", f"send Tus-Resumable: {VERSION}")


def _options() -> Response:
    headers = {
        "Tus-Version": VERSION,
        "Tus-Extension": EXTENSIONS,
        "Tus-Max-Size": str(current_settings().attachment_bytes),
        "Tus-Checksum-Algorithm": ",".join(uploads.CHECKSUMS),
    }
    return Response(status=204, headers=headers)


@blp.route("", methods=["OPTIONS"])
@access.public("it says what the service can do, and nothing of anybody")
@blp.response(204)
def discover() -> Response:
    """What this server speaks"""
    return _options()


@blp.route("/<id:upload_id>", methods=["OPTIONS"])
@access.public("it says what the service can do, and nothing of anybody")
@blp.response(204)
def discover_here(upload_id: str) -> Response:
    """What this server speaks"""
    return _options()


_CREATE = (
    _RESUMABLE,
    _header("Upload-Length", "Bytes of the whole file.", "^[0-9]{1,15}$", required=True),
    _header(
        "Upload-Metadata",
        "Pairs of a key and its value in base64, with commas: `id` and `sha256` of the attachment as the operation"
        " names it; maybe `filename` and `filetype`.",
        "^[!-~ ]{1,4000}$",
        required=True,
    ),
    _CHECKSUM,
)


def _documented(*parameters: dict[str, Any]) -> Any:
    return lambda view: document(view, parameters=parameters)


@blp.post("")
@access.device(work=True)
@lane("evidence")
@_documented(*_CREATE)
@blp.response(201, headers={"Location": {"schema": {"type": "string"}}, **_TOLD_OFFSET})
@blp.errors(
    "bad-request",
    "precondition-failed",
    "too-large",
    "unsupported-media-type",
    "too-many-requests",
    "checksum-mismatch",
    "offset-mismatch",
)
def create() -> Response:
    """Begin an upload, with its first bytes if they are sent along"""
    _version()
    now, settings = utc_now(), current_settings()
    length = _number("Upload-Length")
    if length > settings.attachment_bytes:
        raise FieldsvcError(
            "too-large", f"an attachment has at most {settings.attachment_bytes} bytes", limit=settings.attachment_bytes
        )
    promise = _promise(length)
    with_bytes = bool(request.content_length) or "Transfer-Encoding" in request.headers
    if with_bytes and request.mimetype != OCTETS:
        raise FieldsvcError("unsupported-media-type", f"bytes of the file are sent as {OCTETS}")
    check = _check()
    with transaction():
        upload = uploads.create(g.actor.device_id, promise, now, timedelta(seconds=settings.upload_ttl))
        upload_id, expires_at = upload.id, upload.expires_at
    offset = _take_in(upload_id, 0, length, check) if with_bytes else 0
    if offset == length:
        queue.ring("inspect_attachment", upload_id)
    headers = {"Location": f"{blp.url_prefix}/{upload_id}", "Upload-Offset": str(offset)}
    return Response(status=201, headers=headers | _expiry(expires_at, offset == length))


@blp.route("/<id:upload_id>", methods=["HEAD"])
@access.device(work=True)
@_documented(_RESUMABLE)
@blp.response(200, headers=_TOLD_OFFSET)
@blp.errors("precondition-failed", "upload-expired")
def offset_of(upload_id: str) -> Response:
    """How far an upload is"""
    _version()
    with reading():
        upload = uploads.find(upload_id, g.actor.device_id, utc_now())
    headers = {
        "Upload-Offset": str(upload.received),
        "Upload-Length": str(upload.length),
        "Upload-Metadata": _metadata(upload),
        "Cache-Control": "no-store",
    }
    return Response(headers=headers | _expiry(upload.expires_at, upload.state != "open"))


@blp.patch("/<id:upload_id>")
@access.device(work=True)
@lane("evidence")
@_documented(_RESUMABLE, _OFFSET, _CHECKSUM)
@blp.raw_body(_BYTES, content_types=(OCTETS,))
@blp.response(204, headers=_TOLD_OFFSET)
@blp.errors("precondition-failed", "upload-expired", "offset-mismatch", "checksum-mismatch")
def append(upload_id: str) -> Response:
    """Send on, from the offset that was reached"""
    return _append(upload_id)


@blp.delete("/<id:upload_id>")
@access.device(work=True)
@_documented(_RESUMABLE)
@blp.response(204, headers=_TOLD)
@blp.errors("precondition-failed", "upload-expired", "state-not-allowed")
def terminate(upload_id: str) -> Response:
    """Give up an unfinished upload"""
    return _terminate(upload_id)


@blp.post("/<id:upload_id>")
@access.device(work=True)
@lane("evidence")
@_documented(
    _RESUMABLE,
    _header(
        "X-HTTP-Method-Override", "PATCH or DELETE, for those who cannot send it.", "^(PATCH|DELETE)$", required=True
    ),
)
@blp.response(204, headers=_TOLD)
@blp.errors(
    "bad-request",
    "precondition-failed",
    "too-large",
    "unsupported-media-type",
    "upload-expired",
    "offset-mismatch",
    "checksum-mismatch",
    "state-not-allowed",
)
def instead(upload_id: str) -> Response:
    """PATCH or DELETE, by a client that can only POST"""
    wanted = {"PATCH": _append, "DELETE": _terminate}.get(request.headers.get("X-HTTP-Method-Override", ""))
    if wanted is None:
        raise _bad("X-HTTP-Method-Override", "must be PATCH or DELETE here")
    return wanted(upload_id)


def _append(upload_id: str) -> Response:
    _version()
    if request.mimetype != OCTETS:
        raise FieldsvcError("unsupported-media-type", f"send the bytes as {OCTETS}")
    offset, check = _number("Upload-Offset"), _check()
    with reading():
        upload = uploads.find(upload_id, g.actor.device_id, utc_now())
    if upload.received != offset:
        raise Conflict(f"the upload is at {upload.received}, not {offset}", "offset-mismatch", offset=upload.received)
    end = _take_in(upload_id, offset, upload.length, check)
    if end == upload.length and upload.state == "open":
        queue.ring("inspect_attachment", upload_id)
    headers = {"Upload-Offset": str(end)}
    return Response(status=204, headers=headers | _expiry(upload.expires_at, end == upload.length))


def _terminate(upload_id: str) -> Response:
    _version()
    with transaction():
        uploads.terminate(upload_id, g.actor.device_id, utc_now())
    _store().remove_all(uploads.folder(upload_id))
    return Response(status=204)


def _take_in(upload_id: str, offset: int, length: int, check: Check | None) -> int:
    """Store what the body holds; answers how far the upload is then."""
    room = length - offset
    if (request.content_length or 0) > room:
        raise FieldsvcError(
            "too-large", f"the upload lacks {room} bytes, {request.content_length} were sent", limit=room
        )
    try:
        return uploads.append(_store(), upload_id, offset, _pieces(room), room, check)
    except uploads.Cut:
        raise FieldsvcError("bad-request", "the line was cut; what had come is kept: ask for the offset") from None


def _pieces(room: int) -> Iterator[bytes]:
    """The body as it comes.

    :raises Cut: the line was cut, or nothing came for too long.
    """
    request.max_content_length = room + 1  # an upload is bounded by its length, not by what other requests may hold
    while True:
        with _line():
            piece = request.stream.read(_PIECE)
        if not piece:
            return
        yield piece


@contextmanager
def _line() -> Iterator[None]:
    try:
        yield
    except (ClientDisconnected, OSError) as error:
        raise uploads.Cut from error


def _store() -> Store:
    found: Store = current_app.extensions["fieldsvc.store"]
    return found


def _bad(name: str, reason: str) -> FieldsvcError:
    return FieldsvcError("bad-request", f"{name}: {reason}", errors=[{"field": name, "reason": reason}])


def _number(name: str) -> int:
    raw = request.headers.get(name, "")
    if not re.fullmatch(r"\d{1,15}", raw, re.ASCII):
        raise _bad(name, "must be a whole number of bytes" if raw else "is missing")
    return int(raw)


def _check() -> Check | None:
    raw = request.headers.get("Upload-Checksum")
    if raw is None:
        return None
    algorithm, _, digest = raw.partition(" ")
    if algorithm not in uploads.CHECKSUMS:
        raise _bad("Upload-Checksum", f"the algorithm must be one of {', '.join(uploads.CHECKSUMS)}")
    try:
        return Check(algorithm, base64.b64decode(digest, validate=True))
    except (binascii.Error, ValueError):
        raise _bad("Upload-Checksum", "the digest must be base64") from None


_FORMS = {
    "id": (r"[A-Za-z0-9._:-]{1,80}", "must be the id of an attachment"),
    "sha256": (r"[0-9a-f]{64}", "must be a SHA-256 in small hexadecimal"),
    "filename": (r"[^\x00-\x1f\x7f]{0,200}", "must be at most 200 characters"),
    "filetype": (r"[ -~]{0,100}", "must be at most 100 characters"),
}


def _promise(length: int) -> Promise:
    """What ``Upload-Metadata`` says; keys that are not known here are left out."""
    said: dict[str, str] = {}
    for pair in filter(None, (part.strip() for part in request.headers.get("Upload-Metadata", "").split(","))):
        key, _, value = pair.partition(" ")
        if key in said:
            raise _bad(f"Upload-Metadata {key[:40]}", "is given more than once")
        try:
            said[key] = base64.b64decode(value, validate=True).decode()
        except (binascii.Error, ValueError):
            raise _bad(f"Upload-Metadata {key[:40]}", "must be UTF-8 in base64") from None
    for key in ("id", "sha256"):
        if key not in said:
            raise _bad(f"Upload-Metadata {key}", "is missing")
    for key, (form, reason) in _FORMS.items():
        if key in said and not re.fullmatch(form, said[key], re.ASCII if key != "filename" else 0):
            raise _bad(f"Upload-Metadata {key}", reason)
    return Promise(said["id"], said["sha256"], length, said.get("filename") or None, said.get("filetype") or None)


def _metadata(upload: Any) -> str:
    said = {
        "id": upload.attachment_id,
        "sha256": upload.sha256,
        "filename": upload.filename,
        "filetype": upload.filetype,
    }
    return ",".join(f"{key} {base64.b64encode(value.encode()).decode()}" for key, value in said.items() if value)


def _expiry(expires_at: datetime, whole: bool) -> dict[str, str]:
    return {} if whole else {"Upload-Expires": http_date(expires_at)}
