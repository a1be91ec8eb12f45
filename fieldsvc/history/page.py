"""Read the history: what is wanted of it, and never outside of the reader's territories."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Select, func, select

from fieldsvc.base.clock import format_time
from fieldsvc.base.db import db
from fieldsvc.history.models import HistoryEntry


@dataclass(frozen=True)
class Wanted:
    """Which entries; every member given narrows. ``since`` is inclusive, ``until`` exclusive, by the server's time."""

    actor_id: str | None = None
    job_kind: str | None = None
    job_id: str | None = None
    customer_id: str | None = None
    crew_id: str | None = None
    device_id: str | None = None
    op_id: str | None = None
    action: str | None = None
    since: datetime | None = None
    until: datetime | None = None


def entries(wanted: Wanted, scope: Collection[str] | None) -> Select[HistoryEntry]:
    """The entries that are wanted, to be ordered by ``seq`` and paged by the caller.

    :param scope: the territories the reader may see, ``None`` for all. Entries that belong to no territory (accounts,
        imports of territories …) are for readers of all territories only.
    """
    query = _narrow(select(HistoryEntry), wanted)
    return query if scope is None else query.where(HistoryEntry.territory_id.in_(sorted(scope)))


def _narrow(query: Select[HistoryEntry], wanted: Wanted) -> Select[HistoryEntry]:
    equal = {
        HistoryEntry.actor_id: wanted.actor_id,
        HistoryEntry.job_kind: wanted.job_kind,
        HistoryEntry.job_id: wanted.job_id,
        HistoryEntry.customer_id: wanted.customer_id,
        HistoryEntry.crew_id: wanted.crew_id,
        HistoryEntry.device_id: wanted.device_id,
        HistoryEntry.op_id: wanted.op_id,
        HistoryEntry.action: wanted.action,
    }
    for column, value in equal.items():
        if value is not None:
            query = query.where(column == value)
    if wanted.since is not None:
        query = query.where(HistoryEntry.recorded_at >= wanted.since)
    if wanted.until is not None:
        query = query.where(HistoryEntry.recorded_at < wanted.until)
    return query


def latest(
    actions: Collection[str], most: int, *, entity_id: str | None = None, crew_id: str | None = None
) -> list[HistoryEntry]:
    """The last entries with one of ``actions`` about one thing or one crew, the newest first: who has changed it."""
    query = select(HistoryEntry).where(HistoryEntry.action.in_(actions))
    if entity_id is not None:
        query = query.where(HistoryEntry.entity_id == entity_id)
    if crew_id is not None:
        query = query.where(HistoryEntry.crew_id == crew_id)
    return list(db.session.scalars(query.order_by(HistoryEntry.seq.desc()).limit(most)))


def actions() -> list[str]:
    """Every action there is an entry of, by name: one look into the index for each, however long the history is."""
    found: list[str] = []
    while (
        following := db.session.scalar(
            select(func.min(HistoryEntry.action)).where(HistoryEntry.action > (found[-1] if found else ""))
        )
    ) is not None:
        found.append(following)
    return found


def rendered(entry: HistoryEntry) -> dict[str, Any]:
    """One entry as the API shows it; ``times`` keeps the device's words, the estimate and the server's time apart."""
    return {
        "seq": entry.seq,
        "actor": {"kind": entry.actor_kind, "id": entry.actor_id, "name": entry.actor_name},
        "action": entry.action,
        "entity": entry.entity,
        "entity_id": entry.entity_id,
        "times": {
            "device": entry.device_at,
            "estimated": format_time(entry.estimated_at) if entry.estimated_at else None,
            "recorded": format_time(entry.recorded_at),
        },
        "before": entry.before,
        "after": entry.after,
        "job_id": entry.job_id,
        "job_kind": entry.job_kind,
        "customer_id": entry.customer_id,
        "crew_id": entry.crew_id,
        "device_id": entry.device_id,
        "territory_id": entry.territory_id,
        "op_id": entry.op_id,
        "note": entry.note,
    }
