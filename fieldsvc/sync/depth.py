"""How much waits in the inbox to be decided, and how long devices should therefore wait before they send more."""

from __future__ import annotations

from sqlalchemy import text

from fieldsvc.base.db import db
from fieldsvc.sync.models import WAITING

MOST_S = 300


def depth(most: int) -> int:
    """How many operations wait for a worker, counted up to ``most``: one look at the small index of what waits."""
    return int(db.session.scalar(_DEPTH, {"most": most}) or 0)


_DEPTH = text(f"SELECT count(*) FROM (SELECT 1 FROM operation WHERE {WAITING} LIMIT :most) AS waiting")  # noqa: S608


def backoff_s(depth: int, deep: int, full: int) -> int:
    """Seconds a device should wait: 0 up to ``deep``, then in proportion, :data:`MOST_S` at ``full`` and beyond."""
    if depth <= deep:
        return 0
    return min(MOST_S, 1 + MOST_S * (depth - deep) // max(1, full - deep))
