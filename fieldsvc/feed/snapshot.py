"""The whole copy of some scopes as lines, in order, a page at a time: what a first sync and a reset read.

The checkpoint is taken before the first row is read and travels in every position: what changes while the copy is being
read, or between a cut and its continuation, is behind that checkpoint and comes with the next pull. Between two pages
no transaction is open and no connection is held, however slow the line.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from itsdangerous import BadSignature, URLSafeSerializer
from sqlalchemy import text

from fieldsvc.base.db import db, reading
from fieldsvc.base.errors import FieldsvcError
from fieldsvc.feed.models import SyncDoc, SyncFeed
from fieldsvc.feed.pull import change, checkpoints, counters, epoch, fingerprint

PAGE_ROWS = 200
"""Lines between two positions, and the most that is held in memory at once."""


@dataclass(frozen=True)
class Place:
    """Where a copy stands: at ``seq`` in ``scopes[scope]``; each scope is read up to its number in ``ends``."""

    life: str
    ends: dict[str, int]
    scope: int = 0
    seq: int = 0


def start(scopes: Sequence[str], position: str | None, secret: str) -> Place:
    """The place a position names; without one the beginning, with a checkpoint of this moment.

    :raises FieldsvcError: ``bad-cursor`` for a position that is not ours, of other scopes or of another epoch.
    """
    with reading():
        life = epoch()
        if position is None:
            return Place(life, dict.fromkeys(scopes, 0) | counters(scopes))
    try:
        told = _positions(secret).loads(position)
    except BadSignature:
        raise FieldsvcError("bad-cursor", "the position was not given out by this service") from None
    if told["e"] != life or told["f"] != fingerprint(scopes):
        raise FieldsvcError("bad-cursor", "the position is of another copy: drop it and begin anew, without a position")
    return Place(life, told["n"], told["s"], told["q"])


def lines(scopes: Sequence[str], place: Place, secret: str) -> Iterator[bytes]:
    """NDJSON in pieces of whole lines: up to :data:`PAGE_ROWS` puts and a position each, the checkpoint at the end.

    Its database block is open only while a piece is being read.
    """
    mark = fingerprint(scopes)
    seq = place.seq
    for number in range(place.scope, len(scopes)):
        end = place.ends.get(scopes[number], 0)
        while seq < end:
            rows = _read(scopes[number], seq, end)
            seq = rows[-1].seq if len(rows) == PAGE_ROWS else end
            if rows:
                told = {"e": place.life, "f": mark, "n": place.ends, "s": number, "q": seq}
                position = orjson.dumps({"position": str(_positions(secret).dumps(told))})
                yield b"\n".join([*(change(row) for row in rows), position, b""])
        seq = 0
    checkpoint = checkpoints(secret).dumps({"e": place.life, "f": mark, "n": place.ends})
    yield orjson.dumps({"checkpoint": str(checkpoint)}) + b"\n"


def _read(scope: str, begin: int, end: int) -> Sequence[Any]:
    with reading():
        return db.session.execute(_ROWS, {"scope": scope, "begin": begin, "end": end, "limit": PAGE_ROWS}).all()


def _positions(secret: str) -> URLSafeSerializer:
    return URLSafeSerializer(secret, salt="fieldsvc.snapshot")


_ROWS = text(
    f"SELECT f.entity, f.entity_id, f.rev, f.op, f.reason, d.body, f.seq FROM {SyncFeed.__tablename__} f "
    f"JOIN {SyncDoc.__tablename__} d ON d.entity = f.entity AND d.entity_id = f.entity_id "
    "WHERE f.scope = :scope AND f.op = 'put' AND f.seq > :begin AND f.seq <= :end ORDER BY f.seq LIMIT :limit"
)
