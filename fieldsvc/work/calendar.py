"""A crew's shifts and planned jobs as an iCalendar feed (RFC 5545, with the refresh hint and name of RFC 7986).

Calendar apps keep what they have fetched and show it to whoever looks at the screen, so an event says what a crew has
to do, when and where; it has no telephone number, no customer's name, no way into the house and no caller's words.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Collection, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from icalendar import Calendar, Event, vGeo
from sqlalchemy import or_, select

from fieldsvc import __version__, kinds
from fieldsvc.base.db import db
from fieldsvc.people.models import Crew, Shift
from fieldsvc.work.models import Assignment, Job

BEHIND, AHEAD = timedelta(days=7), timedelta(days=60)
"""How far back and ahead the feed reaches; what was taken from the crew is shown as cancelled for as long as that."""
MOST = 1000
"""How many jobs, and how many shifts, one feed holds: the first ones."""
REFRESH = timedelta(minutes=15)
"""How often a calendar should ask again."""

_TAKEN = ("cancelled", "reassigned", "unassigned")


class Feed(NamedTuple):
    """``text`` is the same as long as nothing in it has changed; ``changed_at`` is when something last did."""

    text: bytes
    changed_at: datetime | None


class _Planned(NamedTuple):
    """A job of the crew at the time it is, or was, to be done."""

    job: Job
    start: datetime
    end: datetime | None
    cancelled: bool


def of_crew(crew: Crew, now: datetime, scope: Collection[str] | None, zone: ZoneInfo) -> Feed:
    """The calendar of a crew; a job outside of ``scope`` takes its time, and says nothing of itself.

    :param zone: local time, for the words of an event. Its times are UTC.
    """
    calendar = Calendar()
    calendar.add("prodid", f"-//fieldsvc//{__version__}//EN")
    calendar.add("version", "2.0")
    calendar.add("calscale", "GREGORIAN")
    for name in ("name", "x-wr-calname"):
        calendar.add(name, _text(crew.name))
    calendar.add("refresh-interval", REFRESH, parameters={"VALUE": "DURATION"})
    calendar.add("x-published-ttl", "PT15M")
    span = (now - BEHIND, now + AHEAD)
    changes = []
    for shift in _shifts(crew.id, *span):
        calendar.add_component(_shift_event(crew, shift))
    for planned in _planned(crew.id, now, *span):
        seen = scope is None or planned.job.territory_id in scope
        calendar.add_component(_job_event(crew, planned, zone) if seen else _busy_event(crew, planned))
        changes.append(planned.job.updated_at)
    return Feed(calendar.to_ical(), max(changes, default=None))


def _shifts(crew_id: str, since: datetime, until: datetime) -> list[Shift]:
    query = select(Shift).where(Shift.crew_id == crew_id, Shift.ends_at > since, Shift.starts_at < until)
    return list(db.session.scalars(query.order_by(Shift.starts_at, Shift.id).limit(MOST)))


def _planned(crew_id: str, now: datetime, since: datetime, until: datetime) -> Iterator[_Planned]:
    """What the crew has to do, then what was taken from it."""
    has = select(Job).where(Job.crew_id == crew_id, Job.planned_start > since, Job.planned_start < until)
    for job in db.session.scalars(has.order_by(Job.planned_start, Job.id).limit(MOST)):
        assert job.planned_start is not None
        yield _Planned(job, job.planned_start, job.planned_end, job.status == "cancelled")
    had = (
        select(Assignment, Job)
        .join(Job, Job.id == Assignment.job_id)
        .where(Assignment.crew_id == crew_id, Assignment.ended_at > now - BEHIND, Assignment.ended_reason.in_(_TAKEN))
        .where(Assignment.planned_start > since, Assignment.planned_start < until)
        .where(or_(Job.crew_id.is_(None), Job.crew_id != crew_id))
        .order_by(Assignment.ended_at.desc(), Assignment.id)
        .limit(MOST)
    )
    told: set[str] = set()
    for assignment, job in db.session.execute(had):
        if job.id not in told:
            told.add(job.id)
            yield _Planned(job, assignment.planned_start or now, assignment.planned_end, True)


def _event(crew: Crew, what: str, sequence: int, start: datetime, end: datetime, changed_at: datetime) -> Event:
    event = Event()
    event.add("uid", f"{uuid.uuid5(uuid.NAMESPACE_URL, f'fieldsvc:{crew.id}:{what}')}@fieldsvc")
    event.add("sequence", sequence)
    event.add("dtstamp", _second(changed_at))
    event.add("last-modified", _second(changed_at))
    event.add("dtstart", _second(start))
    event.add("dtend", max(_second(end), _second(start) + timedelta(minutes=1)))
    return event


def _second(time: datetime) -> datetime:
    """In UTC; RFC 5545 knows no fractions."""
    return time.astimezone(UTC).replace(microsecond=0)


def _shift_event(crew: Crew, shift: Shift) -> Event:
    event = _event(crew, shift.id, crew.rev, shift.starts_at, shift.ends_at, min(shift.starts_at, _made_at(shift)))
    event.add("summary", _text(f"{crew.name}: on duty"))
    event.add("status", "CONFIRMED")
    event.add("transp", "TRANSPARENT")
    event.add("categories", ["shift"])
    return event


def _made_at(shift: Shift) -> datetime:
    """When the shift was entered: its id says so (RFC 9562, version 7)."""
    found = uuid.UUID(shift.id)
    return datetime.fromtimestamp((found.int >> 80) / 1000, UTC) if found.version == 7 else shift.starts_at


def _ends(planned: _Planned) -> datetime:
    return planned.end or planned.start + timedelta(minutes=planned.job.service_minutes)


def _busy_event(crew: Crew, planned: _Planned) -> Event:
    job = planned.job
    event = _event(crew, job.id, job.rev, planned.start, _ends(planned), job.updated_at)
    event.add("summary", _text(f"{crew.name}: a job in another territory"))
    event.add("status", "CANCELLED" if planned.cancelled else "CONFIRMED")
    return event


def _job_event(crew: Crew, planned: _Planned, zone: ZoneInfo) -> Event:
    job = planned.job
    event = _event(crew, job.id, job.rev, planned.start, _ends(planned), job.updated_at)
    event.add("created", _second(job.created_at))
    event.add("summary", _text(f"{job.number} {job.title}"))
    event.add("description", _text(_description(job, zone)))
    event.add("status", "CANCELLED" if planned.cancelled else "CONFIRMED")
    event.add("priority", job.priority)
    event.add("categories", [job.kind])
    if job.address:
        event.add("location", _text(job.address))
    if job.lon is not None and job.lat is not None:
        event.add("geo", vGeo((job.lat, job.lon)))
    return event


_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]+")


def _text(text: str) -> str:
    """Without control characters: RFC 5545 allows none, and a carriage return would begin another line of the feed."""
    return _CONTROL.sub(" ", text)


def _description(job: Job, zone: ZoneInfo) -> str:
    title = kinds.discover()[job.kind].title if job.kind in kinds.discover() else job.kind
    lines = [f"{title}, {job.status.replace('_', ' ')}, priority {job.priority}, {job.service_minutes} min"]
    if job.hazards:
        lines.append("Hazards: " + ", ".join(str(hazard) for hazard in job.hazards))
    if job.window_start is not None or job.window_end is not None:
        lines.append(f"Window: {_local(job.window_start, zone)} to {_local(job.window_end, zone)} ({zone.key})")
    if job.due_at is not None:
        lines.append(f"Due: {_local(job.due_at, zone)} ({zone.key})")
    return "\n".join(lines)


def _local(time: Any, zone: ZoneInfo) -> str:
    return "open" if time is None else time.astimezone(zone).strftime("%Y-%m-%d %H:%M")
