"""Read the feed: everything after a checkpoint, in the order of each scope, with the documents as they are now.

The counters are read first, in one statement: whatever commits after that is left for the next pull. The rows of one
transaction in several scopes therefore show together once a reader has caught up, and nothing between can be missed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from itsdangerous import BadSignature, URLSafeSerializer
from sqlalchemy import select, text

from fieldsvc.base.db import db
from fieldsvc.base.errors import FieldsvcError
from fieldsvc.feed.models import SyncCounter, SyncDoc, SyncEpoch, SyncFeed


@dataclass(frozen=True)
class Page:
    """``changes`` is JSON text per change; ``reset`` says that the checkpoint belongs to another life of the feed."""

    changes: list[bytes]
    checkpoint: str
    has_more: bool
    reset: bool = False


def epoch() -> str:
    """The life of this feed."""
    return db.session.scalar(select(SyncEpoch.epoch).limit(1)) or "e0"


def checkpoints(secret: str) -> URLSafeSerializer:
    """Signs and reads checkpoints: ``{"e": epoch, "f": fingerprint of the scopes, "n": {scope: counter}}``."""
    return URLSafeSerializer(secret, salt="fieldsvc.checkpoint")


def fingerprint(scopes: Sequence[str]) -> str:
    """Which scopes a checkpoint is about, without naming them."""
    return hashlib.sha256("\n".join(sorted(scopes)).encode()).hexdigest()[:12]


def counters(scopes: Sequence[str]) -> dict[str, int]:
    """How far each scope has come: whoever reads these first, then the rows up to them, can miss nothing."""
    wanted = select(SyncCounter.scope, SyncCounter.n).where(SyncCounter.scope.in_(list(scopes)))
    return {row.scope: row.n for row in db.session.execute(wanted)}


def is_first(scopes: Sequence[str], checkpoint: str | None, secret: str) -> bool:
    """Whether a pull from ``checkpoint`` is part of a first sync: it has not been to the end of every scope yet."""
    if checkpoint is None:
        return True
    try:
        seen = checkpoints(secret).loads(checkpoint)["n"]
    except BadSignature:
        return False
    return any(scope not in seen for scope in scopes)


def page(scopes: Sequence[str], checkpoint: str | None, limit: int, secret: str) -> Page:
    """At most ``limit`` changes of ``scopes`` after ``checkpoint`` (None: from the beginning).

    :raises FieldsvcError: ``bad-cursor`` for a checkpoint we did not sign.
    """
    signer = checkpoints(secret)
    life = epoch()
    wanted = fingerprint(scopes)
    seen: dict[str, int] = {}
    if checkpoint is not None:
        try:
            told = signer.loads(checkpoint)
        except BadSignature:
            raise FieldsvcError("bad-cursor", "the checkpoint was not given out by this service") from None
        if told["e"] != life or told["f"] != wanted:
            empty = signer.dumps({"e": life, "f": wanted, "n": {}})
            return Page([], str(empty), has_more=True, reset=True)
        seen = told["n"]
    ends = counters(scopes)
    changes: list[bytes] = []
    has_more = False
    for scope in scopes:
        begin, end = seen.get(scope, 0), ends.get(scope, 0)
        if begin >= end:
            seen = {scope: end} | seen
            continue
        room = limit - len(changes)
        if room <= 0:
            has_more = True
            break
        rows = db.session.execute(_ROWS, {"scope": scope, "begin": begin, "end": end, "limit": room + 1}).all()
        changes += [change(row) for row in rows[:room]]
        if len(rows) > room:
            seen = seen | {scope: rows[room - 1].seq}
            has_more = True
            break
        seen = seen | {scope: end}
    return Page(changes, str(signer.dumps({"e": life, "f": wanted, "n": seen})), has_more)


_ROWS = text(
    f"SELECT f.seq, f.entity, f.entity_id, f.rev, f.op, f.reason, d.body FROM {SyncFeed.__tablename__} f "
    f"LEFT JOIN {SyncDoc.__tablename__} d ON f.op = 'put' AND d.entity = f.entity AND d.entity_id = f.entity_id "
    "WHERE f.scope = :scope AND f.seq > :begin AND f.seq <= :end ORDER BY f.seq LIMIT :limit"
)


def change(row: Any) -> bytes:
    """One change as JSON text. ``row``: op, entity, entity_id, rev, reason and, of a put, the document's ``body``."""
    told: dict[str, Any] = {"op": row.op, "entity": row.entity, "id": row.entity_id, "rev": row.rev}
    if row.op == "put":
        told["doc"] = orjson.Fragment(row.body)
    elif row.reason is not None:
        told["reason"] = row.reason
    return orjson.dumps(told)
