"""Where crews are and were: what their devices reported, thinned out, for as long as the settings say.

Only dispatchers and supervisors of a crew's territories may ask; nothing of it goes into history, feeds or logs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, delete, insert, select, update
from sqlalchemy.orm import aliased

from fieldsvc.base.clock import new_id
from fieldsvc.base.db import among, db
from fieldsvc.geo.positions import Fix, Sampling, sift
from fieldsvc.people.models import Crew, CrewPosition

_FORGOTTEN_AT_ONCE = 2000


def keep(device_id: str, crew_id: str, fixes: Sequence[Fix], sampling: Sampling) -> None:
    """Store what is worth keeping of ``fixes`` (by time) of one device; pushes of a device come one at a time."""
    newest = select(CrewPosition).where(CrewPosition.device_id == device_id, CrewPosition.crew_id == crew_id)
    stored = db.session.scalars(newest.order_by(CrewPosition.until_at.desc(), CrewPosition.id.desc()).limit(2)).all()
    doubtful = next((_fix(row) for row in stored[:1] if row.doubtful), None)
    last = next((_fix(row) for row in stored if not row.doubtful), None)
    kept, still_doubtful = sift(last, doubtful, fixes, sampling)
    for fix in (fix for fix in kept if fix.id is not None):
        changed = update(CrewPosition).where(CrewPosition.id == fix.id).values(until_at=fix.until, doubtful=False)
        db.session.execute(changed.execution_options(synchronize_session=False))
    if doubtful is not None and doubtful.id not in {still_doubtful and still_doubtful.id, *(fix.id for fix in kept)}:
        db.session.execute(delete(CrewPosition).where(CrewPosition.id == doubtful.id))
    new = [fix for fix in (*kept, *filter(None, [still_doubtful])) if fix.id is None]
    if new:
        shared = {"crew_id": crew_id, "device_id": device_id}
        db.session.execute(insert(CrewPosition), [shared | _row(fix) for fix in new])


def _fix(row: CrewPosition) -> Fix:
    return Fix(row.at, row.until_at, row.lon, row.lat, row.accuracy_m, row.id, row.doubtful)


def _row(fix: Fix) -> dict[str, Any]:
    return {
        "id": new_id(),
        "at": fix.at,
        "until_at": fix.until,
        "lon": fix.lon,
        "lat": fix.lat,
        "accuracy_m": fix.accuracy_m,
        "doubtful": fix.doubtful,
    }


def last(crew_ids: Iterable[str], since: datetime) -> dict[str, CrewPosition]:
    """Crew id -> where it was last, for those of ``crew_ids`` whose devices told something since then."""
    return {row.CrewPosition.crew_id: row.CrewPosition for row in db.session.execute(newest(list(crew_ids), since))}


def newest(crew_ids: Collection[str] | None, since: datetime) -> Select[Any]:
    """The same of all crews (``crew_ids`` None) or these, beside the crew; to be ordered and paged by the caller."""
    both: Any = select(Crew, CrewPosition)
    query: Select[Any] = both.join(CrewPosition, _newest_of_crew()).where(CrewPosition.until_at >= since)
    return query if crew_ids is None else query.where(among(Crew.id, crew_ids))


def _newest_of_crew() -> ColumnElement[bool]:
    """Whether a position is the newest one of the ``Crew`` beside it: one look into the index per crew."""
    other = aliased(CrewPosition)
    found = select(other.id).where(other.crew_id == Crew.id, ~other.doubtful)
    found = found.order_by(other.until_at.desc(), other.id.desc()).limit(1)
    return CrewPosition.id == found.correlate(Crew).scalar_subquery()


def track(crew_id: str, since: datetime, until: datetime | None) -> Select[CrewPosition]:
    """Where a crew has been between two times; to be ordered by ``until_at`` and ``id`` and paged by the caller."""
    query = select(CrewPosition).where(
        CrewPosition.crew_id == crew_id, ~CrewPosition.doubtful, CrewPosition.until_at >= since
    )
    return query if until is None else query.where(CrewPosition.at <= until)


def forget(before: datetime) -> None:
    """Remove what is older, a bounded number at a time; call inside a transaction."""
    old = select(CrewPosition.id).where(CrewPosition.until_at < before).limit(_FORGOTTEN_AT_ONCE)
    db.session.execute(
        delete(CrewPosition).where(CrewPosition.id.in_(old)).execution_options(synchronize_session=False)
    )
