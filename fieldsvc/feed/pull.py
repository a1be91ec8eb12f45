"""Read the feed: everything after a checkpoint, in the order of each scope, with the documents as they are now.

The counters are read first, in one statement: whatever commits after that is left for the next pull. The rows of one
transaction in several scopes therefore show together once a reader has caught up, and nothing between can be missed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
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
    """Signs and reads checkpoints: ``{"e": epoch, "f": fingerprint of the scopes, "n": {scope: counter}}``, and
    ``"s"``, the ``since`` of :func:`forgotten`, where a scope is being read from its beginning.
    """
    return URLSafeSerializer(secret, salt="fieldsvc.checkpoint")


def fingerprint(scopes: Sequence[str]) -> str:
    """Which scopes a checkpoint is about, without naming them."""
    return hashlib.sha256("\n".join(sorted(scopes)).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Standing:
    """How far a scope has come, and up to where it may have forgotten what has gone."""

    n: int
    horizon: int


def standing(scopes: Sequence[str]) -> dict[str, Standing]:
    """How each scope stands: whoever reads this first, then the rows up to there, can miss nothing."""
    wanted = select(SyncCounter.scope, SyncCounter.n, SyncCounter.horizon).where(SyncCounter.scope.in_(list(scopes)))
    return {row.scope: Standing(row.n, row.horizon) for row in db.session.execute(wanted)}


def counters(scopes: Sequence[str]) -> dict[str, int]:
    """How far each scope has come."""
    return {scope: stands.n for scope, stands in standing(scopes).items()}


def forgotten(stand: Mapping[str, Standing], seen: Mapping[str, int], since: Mapping[str, int]) -> bool:
    """Whether something has gone from a scope that a reader was told of, and the feed no longer says so.

    :param seen: how far the reader has come in each scope it has begun.
    :param since: where a scope stood when the reader began it from nothing: what had gone by then it was never told of.
    """
    return any(max(n, since.get(scope, 0)) < stand[scope].horizon for scope, n in seen.items() if scope in stand)


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
    stand = standing(scopes)
    seen: dict[str, int] = {}
    since: dict[str, int] = {}
    if checkpoint is not None:
        try:
            told = signer.loads(checkpoint)
        except BadSignature:
            raise FieldsvcError("bad-cursor", "the checkpoint was not given out by this service") from None
        if told["e"] != life or told["f"] != wanted or forgotten(stand, told["n"], told.get("s", {})):
            empty = signer.dumps({"e": life, "f": wanted, "n": {}})
            return Page([], str(empty), has_more=True, reset=True)
        seen, since = told["n"], told.get("s", {})
    changes: list[bytes] = []
    has_more = False
    for scope in scopes:
        begin, end = seen.get(scope, 0), stand[scope].n if scope in stand else 0
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
            since = since if scope in seen else since | {scope: end}
            seen = seen | {scope: rows[room - 1].seq}
            has_more = True
            break
        seen = seen | {scope: end}
    mark = {"e": life, "f": wanted, "n": seen}
    since = {scope: n for scope, n in since.items() if seen.get(scope, 0) < n}
    return Page(changes, str(signer.dumps(mark | {"s": since} if since else mark)), has_more)


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
