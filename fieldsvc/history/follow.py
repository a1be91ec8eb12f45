"""Follow the history as it grows: nothing of it is missed, whatever the order in which transactions commit.

An entry gets its number when it is written and is seen when its transaction commits, so a smaller number may appear
after a larger one. A number that is missing below others is therefore looked for again, until it has been missing for
so long that its transaction must have been rolled back.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, select

from fieldsvc.base.db import db
from fieldsvc.history.models import HistoryEntry

WINDOW = 20_000
"""So far back a missing number is looked for."""
GLANCE = 1000
"""So far back :func:`mark` sees at once that one has come; one further back is read with the next that comes."""
PATIENCE = timedelta(seconds=60)
"""So long a transaction may take from its first entry to its commit."""
_COLUMNS = tuple(getattr(HistoryEntry, name) for name in "seq entity job_id crew_id territory_id before".split())


def newest() -> int:
    """A number up to which everything is there: the newest, or the one before the first that is missing."""
    last = _last()
    recent = HistoryEntry.seq > last - WINDOW
    first, count = db.session.execute(select(func.min(HistoryEntry.seq), func.count()).where(recent)).one()
    if count == 0 or last - first + 1 == count:
        return last
    expected = first
    for seq in db.session.scalars(select(HistoryEntry.seq).where(recent).order_by(HistoryEntry.seq)):
        if seq != expected:
            break
        expected += 1
    return int(expected) - 1


def mark() -> tuple[int, int]:
    """Differs from the one before when something was added since: the newest number, and how many there are in a short
    window below it."""
    last = _last()
    return last, db.session.scalar(select(func.count()).where(HistoryEntry.seq > last - GLANCE)) or 0


def _last() -> int:
    return db.session.scalar(select(func.max(HistoryEntry.seq))) or 0


class Follower:
    """Who reads the history from ``since`` on, each entry once.

    ``settled`` is where another one can go on: it may read an entry twice, and misses none.
    """

    def __init__(self, since: int) -> None:
        self.settled = since
        self._seen: set[int] = set()
        self._missing: dict[int, datetime] = {}

    def read(self, now: datetime, most: int) -> Sequence[Any] | None:
        """What was added, in order, with the columns seq, entity, job_id, crew_id, territory_id and before; None: more
        than ``most``, or ``since`` was no number of this history.
        """
        query = select(*_COLUMNS).where(HistoryEntry.seq > self.settled).order_by(HistoryEntry.seq)
        rows = db.session.execute(query.limit(len(self._seen) + most + 1)).all()
        news = [row for row in rows if row.seq not in self._seen]
        if len(news) > most or (not rows and self.settled > _last()):
            return None
        self._settle({row.seq for row in rows}, now)
        return news

    def _settle(self, seqs: set[int], now: datetime) -> None:
        """Move up over all that is there, and over what has been missing for too long."""
        last = max(seqs, default=self.settled)
        missing: dict[int, datetime] = {}
        settled = max(self.settled, last - WINDOW)
        for seq in range(settled + 1, last + 1):
            if seq not in seqs:
                since = self._missing.get(seq, now)
                if now - since < PATIENCE:
                    missing[seq] = since
            if not missing:
                settled = seq
        self.settled, self._missing = settled, missing
        self._seen = {seq for seq in seqs if seq > settled}
