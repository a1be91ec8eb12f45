"""The horizon: for how long the feed remembers what has gone.

What a scope holds stays. What has left it, and news that are over once heard, are forgotten after a time: else the feed
would grow with everything that ever was. Nothing of it is lost: what became of an operation stays in the inbox.

Once a day it is noted how far each scope has come. When such a mark is old enough, the scope's horizon moves up to it:
from then on whoever stands behind it takes the copy anew. The rows go an hour later, when every answer that was begun
before has ended; so a reader looks at the horizon once, before it reads.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, bindparam, delete, exists, func, or_, select, text, update

from fieldsvc.base.db import among, db
from fieldsvc.feed.models import SyncCounter, SyncDoc, SyncFeed, SyncMark

NEWS = ("outcome", "attachment")
"""Entities a device needs to hear of once: what they say can be asked for as well."""

MARK_EVERY = timedelta(days=1)
GRACE = timedelta(hours=1)
SCOPES, ROWS = 200, 1000
"""The most that is done at once, so that no transaction is long."""


def move(now: datetime, horizon: timedelta) -> None:
    """Mark where scopes stand, once a day, and move their horizons up to marks that are older than ``horizon``."""
    _mark(now)
    _move(now, now - horizon)


def _mark(now: datetime) -> None:
    if db.session.scalar(select(SyncMark.scope).where(SyncMark.at > now - MARK_EVERY).limit(1)) is None:
        db.session.execute(_MARK, {"now": now})


_MARK = text(
    "INSERT INTO sync_mark (scope, n, at) SELECT c.scope, c.n, :now FROM sync_counter c WHERE c.n > c.horizon "
    "AND NOT EXISTS (SELECT 1 FROM sync_mark m WHERE m.scope = c.scope AND m.n >= c.n) ON CONFLICT DO NOTHING"
).bindparams(bindparam("now", type_=SyncMark.at.type))


def _gone() -> ColumnElement[bool]:
    return or_(SyncFeed.op != "put", SyncFeed.entity.in_(NEWS))


def _move(now: datetime, cutoff: datetime) -> None:
    """Move horizons up to marks that are older than ``cutoff``, scope by scope in the order writers lock them in."""
    due = db.session.execute(
        select(SyncMark.scope, func.max(SyncMark.n).label("n"))
        .where(SyncMark.at <= cutoff, SyncMark.told_at.is_(None))
        .group_by(SyncMark.scope)
        .order_by(SyncMark.scope)
        .limit(SCOPES)
    ).all()
    for scope, n in sorted((row.scope, row.n) for row in due):
        last = db.session.scalar(
            select(SyncFeed.seq).where(SyncFeed.scope == scope, SyncFeed.seq <= n, _gone())
            .order_by(SyncFeed.seq.desc()).limit(1)
        )  # fmt: skip
        mine = SyncMark.scope == scope
        db.session.execute(delete(SyncMark).where(mine, SyncMark.n < n if last else SyncMark.n <= n))
        if last is not None:
            db.session.execute(update(SyncMark).where(mine, SyncMark.n == n).values(told_at=now))
            db.session.execute(
                update(SyncCounter).where(SyncCounter.scope == scope, SyncCounter.horizon < last).values(horizon=last)
            )


def forget(now: datetime) -> int:
    """Forget rows behind horizons that were moved an hour ago, at most 1,000; answers how many.

    Documents are locked first, as writers do: neither waits for the other in a ring, and no document goes that somebody
    is about to show again. Call in a transaction of its own.
    """
    told = SyncMark.told_at <= now - GRACE
    marks = db.session.execute(
        select(SyncMark.scope, SyncMark.n).where(told).order_by(SyncMark.scope, SyncMark.n).limit(SCOPES)
    ).all()
    found: dict[str, Sequence[Any]] = {}
    room = ROWS
    for scope, n in marks:
        rows = db.session.execute(
            select(SyncFeed.seq, SyncFeed.entity, SyncFeed.entity_id)
            .where(SyncFeed.scope == scope, SyncFeed.seq <= n, _gone())
            .order_by(SyncFeed.seq)
            .limit(room)
        ).all()
        found[scope] = rows
        if len(rows) == room:
            break  # it is not known to be done: its mark stays for the next time
        room -= len(rows)
        db.session.execute(delete(SyncMark).where(SyncMark.scope == scope, SyncMark.n == n))
    keys = sorted({(row.entity, row.entity_id) for rows in found.values() for row in rows})
    _lock(keys)
    for scope, rows in found.items():
        seqs = [row.seq for row in rows]
        db.session.execute(delete(SyncFeed).where(SyncFeed.scope == scope, SyncFeed.seq.in_(seqs), _gone()))
    shown = exists().where(SyncFeed.entity == SyncDoc.entity, SyncFeed.entity_id == SyncDoc.entity_id)
    for entity, ids in _by_entity(keys):
        db.session.execute(delete(SyncDoc).where(SyncDoc.entity == entity, among(SyncDoc.entity_id, ids), ~shown))
    return sum(len(rows) for rows in found.values())


def _lock(keys: Iterable[tuple[str, str]]) -> None:
    for entity, ids in _by_entity(keys):
        wanted = select(SyncDoc.entity_id).where(SyncDoc.entity == entity, among(SyncDoc.entity_id, ids))
        db.session.execute(wanted.order_by(SyncDoc.entity_id).with_for_update()).all()


def _by_entity(keys: Iterable[tuple[str, str]]) -> list[tuple[str, list[str]]]:
    found: dict[str, list[str]] = {}
    for entity, entity_id in keys:
        found.setdefault(entity, []).append(entity_id)
    return sorted(found.items())
