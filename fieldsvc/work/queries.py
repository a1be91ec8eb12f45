"""Read jobs and tickets: filtered, and never outside of the reader's territories."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, func, or_, select

from fieldsvc.base.db import among, db
from fieldsvc.base.errors import NotFound
from fieldsvc.base.plain import plain
from fieldsvc.kinds.lifecycle import ACTIVE
from fieldsvc.people.models import Crew, Territory
from fieldsvc.records.models import Customer
from fieldsvc.work.change import WAITING
from fieldsvc.work.documents import NO_EVIDENCE
from fieldsvc.work.models import Assignment, CommitmentClock, Job, Ticket


@dataclass(frozen=True)
class Wanted:
    """Which jobs; every member given narrows, values inside one member widen.

    ``since`` (inclusive) and ``until`` (exclusive) are on ``created_at``. ``bbox`` is minlon, minlat, maxlon, maxlat;
    one across the 180th meridian has minlon > maxlon (RFC 7946). ``text`` is looked for in number, title and address.
    """

    status: Collection[str] = ()
    kind: Collection[str] = ()
    territory_id: Collection[str] = ()
    crew_id: Collection[str] = ()
    priority: Collection[int] = ()
    customer_id: str | None = None
    usage_point_id: str | None = None
    bbox: tuple[float, float, float, float] | None = None
    since: datetime | None = None
    until: datetime | None = None
    text: str | None = None


def jobs(wanted: Wanted, scope: Collection[str] | None) -> Select[Job]:
    """The jobs that are wanted and lie in ``scope`` (``None``: everywhere), to be ordered and paged by the caller."""
    query = select(Job).where(*_conditions(wanted))
    return query if scope is None else query.where(Job.territory_id.in_(sorted(scope)))


def _conditions(wanted: Wanted) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    among: list[tuple[Any, Collection[Any]]] = [
        (Job.status, wanted.status),
        (Job.kind, wanted.kind),
        (Job.territory_id, wanted.territory_id),
        (Job.crew_id, wanted.crew_id),
        (Job.priority, wanted.priority),
    ]
    found += [column.in_(sorted(values)) for column, values in among if values]
    if wanted.customer_id is not None:
        found.append(Job.customer_id == wanted.customer_id)
    if wanted.usage_point_id is not None:
        found.append(Job.usage_point_id == wanted.usage_point_id)
    if wanted.bbox is not None:
        west, south, east, north = wanted.bbox
        found.append(Job.lat.between(south, north))
        found.append(Job.lon.between(west, east) if west <= east else or_(Job.lon >= west, Job.lon <= east))
    if wanted.since is not None:
        found.append(Job.created_at >= wanted.since)
    if wanted.until is not None:
        found.append(Job.created_at < wanted.until)
    if wanted.text:
        columns = (Job.number, Job.title, Job.address)
        found.append(or_(*(column.icontains(wanted.text, autoescape=True) for column in columns)))
    return found


def job(job_id: str, scope: Collection[str] | None) -> Job:
    """One job.

    :raises NotFound: there is none, or it lies outside of the reader's territories.
    """
    found = db.session.get(Job, job_id)
    if found is None or not _within(found.territory_id, scope):
        raise NotFound("job", job_id)
    return found


def planned_starts(crew_id: str, since: datetime, until: datetime) -> list[datetime]:
    """When the open jobs of a crew are planned to begin, from ``since`` until before ``until``."""
    query = select(Job.planned_start).where(Job.crew_id == crew_id, Job.status.in_((*WAITING, *ACTIVE)))
    query = query.where(Job.planned_start >= since, Job.planned_start < until)
    return [start for start in db.session.scalars(query.order_by(Job.planned_start)) if start is not None]


def open_by_territory(ids: Collection[str]) -> dict[str, tuple[int, int]]:
    """Territory id -> how many jobs in it wait for a crew, and how many are with one."""
    query = select(Job.territory_id, Job.status, func.count()).where(among(Job.territory_id, ids))
    query = query.where(Job.status.in_((*WAITING, *ACTIVE))).group_by(Job.territory_id, Job.status)
    found = dict.fromkeys(ids, (0, 0))
    for territory_id, status, count in db.session.execute(query):
        assert territory_id is not None
        waiting, given = found[territory_id]
        found[territory_id] = (waiting + count, given) if status in WAITING else (waiting, given + count)
    return found


def tray() -> Select[Job]:
    """The open jobs that lie in no territory, to be ordered and paged by the caller: for readers of all territories."""
    return select(Job).where(Job.territory_id.is_(None), Job.status.in_((*WAITING, *ACTIVE)))


def tickets(
    scope: Collection[str] | None,
    *,
    incident_id: str | None = None,
    customer_id: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> Select[Ticket]:
    """The tickets in ``scope``; ``since`` (inclusive) and ``until`` (exclusive) are on ``received_at``."""
    query = select(Ticket)
    if scope is not None:
        query = query.where(Ticket.territory_id.in_(sorted(scope)))
    if incident_id is not None:
        query = query.where(Ticket.incident_id == incident_id)
    if customer_id is not None:
        query = query.where(Ticket.customer_id == customer_id)
    if since is not None:
        query = query.where(Ticket.received_at >= since)
    if until is not None:
        query = query.where(Ticket.received_at < until)
    return query


def ticket(ticket_id: str, scope: Collection[str] | None) -> Ticket:
    """One ticket; :raises NotFound: as :func:`job`."""
    found = db.session.get(Ticket, ticket_id)
    if found is None or not _within(found.territory_id, scope):
        raise NotFound("ticket", ticket_id)
    return found


def _within(territory_id: str | None, scope: Collection[str] | None) -> bool:
    return scope is None or territory_id in scope


_JOB_FIELDS = (
    "id number external_key kind status priority title description hazards access_note contact_phone notes tags "
    "lon lat address site_class territory_id territory_reason customer_id usage_point_id incident_id crew_id "
    "assignment_rev planned_start planned_end planned_order pinned pinned_start service_minutes window_start "
    "window_end due_at reported_at required_skills required_equipment load follows_job_id assists_job_id "
    "customers_affected checklist checklist_version details result attention completed_at created_at updated_at rev"
).split()

_TICKET_FIELDS = (
    "id number external_key reporting_kind trouble_code description hazards caller_name caller_phone customer_id "
    "usage_point_id lon lat address territory_id incident_id job_id received_at created_at"
).split()


def job_row(found: Job) -> dict[str, Any]:
    """A job as the office sees it, JSON-ready, with ``position`` as a GeoJSON point (or ``None``)."""
    row = {name: plain(getattr(found, name)) for name in _JOB_FIELDS}
    place = found.lon is not None and found.lat is not None
    row["evidence"] = found.evidence or NO_EVIDENCE
    row["position"] = {"type": "Point", "coordinates": [found.lon, found.lat]} if place else None
    return row


def job_page(found: Job) -> dict[str, Any]:
    """A job with its promises, its crew and who had it before."""
    row = job_row(found)
    clocks = db.session.scalars(
        select(CommitmentClock).where(CommitmentClock.job_id == found.id).order_by(CommitmentClock.due_at)
    )
    row["clocks"] = [clock_row(clock) for clock in clocks]
    had = db.session.execute(
        select(Assignment, Crew.code, Crew.name)
        .join(Crew, Crew.id == Assignment.crew_id)
        .where(Assignment.job_id == found.id)
        .order_by(Assignment.assignment_rev.desc())
        .limit(50)
    )
    row["assignments"] = [_assignment_row(assignment, code, name) for assignment, code, name in had]
    row["assignment"] = next((a for a in row["assignments"] if a["ended_at"] is None), None)
    row["crew"] = _named(Crew, found.crew_id)
    row["territory"] = _named(Territory, found.territory_id)
    customer = db.session.get(Customer, found.customer_id) if found.customer_id else None
    row["customer"] = {"id": customer.id, "number": customer.number, "name": customer.name} if customer else None
    return row


def _named(model: type[Crew] | type[Territory], ident: str | None) -> dict[str, Any] | None:
    found: Any = db.session.get(model, ident) if ident else None
    return {"id": found.id, "code": found.code, "name": found.name} if found else None


def clock_row(clock: CommitmentClock) -> dict[str, Any]:
    """A promise: since when, until when, what became of it, and the rule it comes from."""
    names = "kind started_at due_at verdict reached_at known_at source".split()
    return {name: plain(getattr(clock, name)) for name in names}


def _assignment_row(assignment: Assignment, code: str, name: str) -> dict[str, Any]:
    fields = "crew_id assignment_rev assigned_at ended_at ended_reason run_id".split()
    row = {field: plain(getattr(assignment, field)) for field in fields}
    return row | {"crew_code": code, "crew_name": name}


def ticket_row(found: Ticket) -> dict[str, Any]:
    """A ticket as it came in, JSON-ready."""
    return {name: plain(getattr(found, name)) for name in _TICKET_FIELDS}


def jobs_around(
    scope: Collection[str] | None, *, customer_id: str | None = None, usage_point_id: str | None = None, most: int
) -> dict[str, Any]:
    """The newest jobs in ``scope`` of a customer or usage point as a record page shows them: ``{"items", "more"}``."""
    query = jobs(Wanted(customer_id=customer_id, usage_point_id=usage_point_id), scope)
    rows = list(db.session.scalars(query.order_by(Job.created_at.desc(), Job.id.desc()).limit(most + 1)))
    fields = "id number kind status priority title usage_point_id crew_id due_at completed_at created_at result".split()
    items = [{name: plain(getattr(row, name)) for name in fields} for row in rows[:most]]
    return {"items": items, "more": len(rows) > most}
