"""Read the feed: everything after a checkpoint, in the order of each scope, with the documents as they are now.

The counters are read first, in one statement: whatever commits after that is left for the next pull. The rows of one
transaction in several scopes therefore show together once a reader has caught up, and nothing between can be missed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from itsdangerous import BadSignature, URLSafeSerializer
from sqlalchemy import select, text

from fieldsvc.base.db import among, db
from fieldsvc.base.errors import FieldsvcError
from fieldsvc.feed.models import SyncCounter, SyncDoc, SyncEpoch, SyncFeed


@dataclass(frozen=True)
class Page:
    """``changes`` are ready for orjson, with documents as they are kept; ``reset`` says that the checkpoint belongs to
    another life of the feed. ``begun`` and ``reached`` say how far the reader had come in each scope, and how far it
    comes with this page.
    """

    changes: list[dict[str, Any]]
    checkpoint: str
    has_more: bool
    reset: bool = False
    begun: Mapping[str, int] = field(default_factory=dict)
    reached: Mapping[str, int] = field(default_factory=dict)


def epoch() -> str:
    """The life of this feed."""
    return db.session.scalar(_EPOCH) or _NO_EPOCH


_NO_EPOCH = "e0"
_EPOCH = select(SyncEpoch.__table__.c.epoch).limit(1)


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
    return _life_and_standing(scopes)[1]


def _life_and_standing(scopes: Sequence[str]) -> tuple[str, dict[str, Standing]]:
    rows = db.session.execute(_STANDING, {"scopes": scopes}).all()
    life = rows[0][0] if rows else epoch()
    return life or _NO_EPOCH, {scope: Standing(n, horizon) for _, scope, n, horizon in rows}


_counter = SyncCounter.__table__.c
_STANDING = select(_EPOCH.scalar_subquery(), _counter.scope, _counter.n, _counter.horizon).where(
    among(_counter.scope, "scopes")
)


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
    life, stand = _life_and_standing(scopes)
    wanted = fingerprint(scopes)
    seen: dict[str, int] = {}
    since: dict[str, int] = {}
    if checkpoint is not None:
        try:
            mark = signer.loads(checkpoint)
        except BadSignature:
            raise FieldsvcError("bad-cursor", "the checkpoint was not given out by this service") from None
        if mark["e"] != life or mark["f"] != wanted or forgotten(stand, mark["n"], mark.get("s", {})):
            empty = signer.dumps({"e": life, "f": wanted, "n": {}})
            return Page([], str(empty), has_more=True, reset=True)
        seen, since = mark["n"], mark.get("s", {})
    begun = seen
    changes: list[dict[str, Any]] = []
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
        changes += [told(row) for row in rows[:room]]
        if len(rows) > room:
            since = since if scope in seen else since | {scope: end}
            seen = seen | {scope: rows[room - 1][-1]}
            has_more = True
            break
        seen = seen | {scope: end}
    mark = {"e": life, "f": wanted, "n": seen}
    since = {scope: n for scope, n in since.items() if seen.get(scope, 0) < n}
    checkpoint = str(signer.dumps(mark | {"s": since} if since else mark))
    return Page(changes, checkpoint, has_more, begun=begun, reached=seen)


_ROWS = text(
    f"SELECT f.entity, f.entity_id, f.rev, f.op, f.reason, d.body, f.seq FROM {SyncFeed.__tablename__} f "
    f"LEFT JOIN {SyncDoc.__tablename__} d ON f.op = 'put' AND d.entity = f.entity AND d.entity_id = f.entity_id "
    "WHERE f.scope = :scope AND f.seq > :begin AND f.seq <= :end ORDER BY f.seq LIMIT :limit"
)


def told(row: Sequence[Any]) -> dict[str, Any]:
    """One change for orjson. ``row`` begins with entity, entity_id, rev, op, reason and, of a put, the document's text.

    It is read by place: asking a row for its columns by name takes longer than all the rest of a pull.
    """
    entity, entity_id, rev, op, reason, body, *_ = row
    change: dict[str, Any] = {"op": op, "entity": entity, "id": entity_id, "rev": rev}
    if op == "put":
        change["doc"] = orjson.Fragment(body)
    elif reason is not None:
        change["reason"] = reason
    return change


def change(row: Sequence[Any]) -> bytes:
    """The same as JSON text."""
    return orjson.dumps(told(row))
