"""``Idempotency-Key``: a creating POST that is sent again gets its first answer again.

The key is claimed, the view runs, and the answer is kept, all in one transaction: a crash in between leaves nothing
behind, and the same request sent twice at once is answered once, the other waiting for it. Errors are not kept. Answers
that hold a secret (tokens, enrolment codes) are never kept either, so those routes do not use this.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import wraps
from typing import Any

from flask import Response, g, request
from sqlalchemy import delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from fieldsvc.api.frame import document
from fieldsvc.api.models import IdempotencyKey
from fieldsvc.base.clock import utc_now
from fieldsvc.base.db import db, transaction
from fieldsvc.base.errors import Conflict, Invalid

KEPT = timedelta(days=7)
"""How long a key is remembered; the longest a client may wait before it sends a creation again."""

_KEY = re.compile(r"[!-~]{1,120}\Z")
_PARAMETER = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "Any text of your own for this one creation. Sent again with the same body it gets the first answer "
    "again (`Idempotent-Replay: true`); with another body, 409. Remembered for 7 days.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 120, "pattern": "^[!-~]+$"},
}


def creates(view: Callable[..., Any]) -> Callable[..., Any]:
    """Run ``view`` inside one transaction, at most once per ``Idempotency-Key``.

    The view must not open a transaction itself. What has to follow the commit (ringing a worker) goes into
    ``flask.after_this_request``. Stands below the access decorator and above ``response``.
    """

    @wraps(view)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        # Read the body before the transaction: a slow sender must not hold the database's write lock meanwhile.
        request.get_data(cache=True)
        key = request.headers.get("Idempotency-Key")
        if key is None:
            with transaction():
                return view(*args, **kwargs)
        if not _KEY.match(key):
            raise Invalid.field("Idempotency-Key", "must be 1 to 120 visible ASCII characters")
        digest = _digest()
        with transaction():
            if not _claim(key, digest):
                return _replay(key, digest)
            answer = view(*args, **kwargs)
            _keep(key, answer)
            return answer

    return document(wrapper, parameters=[_PARAMETER], errors=["idempotency-key-reused"])


def forget(now: datetime) -> None:
    """Remove answers kept for longer than :data:`KEPT`; call inside a transaction."""
    db.session.execute(delete(IdempotencyKey).where(IdempotencyKey.created_at < now - KEPT))


def _digest() -> str:
    """What makes two requests the same one: method, address, query and body, byte for byte."""
    head = f"{request.method} {request.path}?".encode() + request.query_string
    return hashlib.sha256(head + b"\n" + request.get_data(cache=True)).hexdigest()


def _claim(key: str, digest: str) -> bool:
    """Whether this request is the first with ``key``; waits for another one that is just running."""
    row = {
        "actor_id": g.actor.id,
        "key": key,
        "request_sha256": digest,
        "status": 0,
        "body": "",
        "created_at": utc_now(),
    }
    try:
        with db.session.begin_nested():
            db.session.execute(insert(IdempotencyKey).values(**row))
    except IntegrityError:
        return False
    return True


def _row(key: str) -> Any:
    return (IdempotencyKey.actor_id == g.actor.id) & (IdempotencyKey.key == key)


def _replay(key: str, digest: str) -> Response:
    kept = db.session.scalars(select(IdempotencyKey).where(_row(key))).one()
    if kept.request_sha256 != digest:
        raise Conflict("this Idempotency-Key came with another request before", code="idempotency-key-reused")
    headers = {"Idempotent-Replay": "true"}
    if kept.location:
        headers["Location"] = kept.location
    if kept.etag:
        headers["ETag"] = kept.etag
    return Response(kept.body, status=kept.status, mimetype="application/json", headers=headers)


def _keep(key: str, answer: Any) -> None:
    if not isinstance(answer, Response):
        raise TypeError("idempotency.creates must stand above @blp.response: it keeps the finished answer")
    db.session.execute(
        update(IdempotencyKey)
        .where(_row(key))
        .values(
            status=answer.status_code,
            body=answer.get_data(as_text=True),
            location=answer.headers.get("Location"),
            etag=answer.headers.get("ETag"),
        )
    )
