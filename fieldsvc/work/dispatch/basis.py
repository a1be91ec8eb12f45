"""What a plan is made on: jobs and the days of crews, read from the tables as plain values of ``geo.model``.

Only the columns that planning needs are read. A crew with two shifts in the time that is planned is two
:class:`~fieldsvc.geo.model.PlanCrew`; their ids tell them apart (:func:`crew_of`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, tzinfo
from typing import Any

from sqlalchemy import ColumnElement, exists, select
from sqlalchemy.orm import aliased

from fieldsvc import kinds
from fieldsvc.base.clock import parse_time
from fieldsvc.base.db import among, db
from fieldsvc.base.plain import plain
from fieldsvc.geo.model import Break, PlanCrew, PlanJob, Window
from fieldsvc.people import positions
from fieldsvc.people.models import Crew, Shift
from fieldsvc.records.models import Customer
from fieldsvc.work import change, jobs, windows
from fieldsvc.work.models import CommitmentClock, Job
from fieldsvc.work.tiers import Standing, tier

FRESH = timedelta(minutes=30)
"""Where a crew was longer ago says nothing about where it sets out, if the service says nothing else."""
HELD = ("scheduled", "dispatched", "accepted", "enroute", "on_site", "in_progress", "waiting_on_material", "suspended")
"""States in which a job takes time of its crew."""
MOVABLE = ("scheduled", "dispatched", "accepted")
"""States in which a job of a crew may still be given to another: nobody is on the way."""
SEEN = (
    "status crew_id assignment_rev kind lon lat territory_id priority hazards service_minutes window_start window_end "
    "due_at site_class required_skills required_equipment load follows_job_id pinned pinned_start planned_start "
    "planned_order"
).split()
"""Everything of a job that a plan rests on; a decision is carried out only while none of it has changed."""
_FURTHER = "id number assists_job_id customers_affected planned_end updated_at".split()
_lead = aliased(Job)


@dataclass(frozen=True)
class Asked:
    """What is the same for all that is read.

    :param span: what is planned; ``zone``: what the hours of rules mean; ``at_risk_from``: see ``tiers.Standing``;
        ``fresh``: how old a position may be to tell where a crew is.
    """

    now: datetime
    span: Window
    zone: tzinfo
    at_risk_from: datetime
    fresh: timedelta = FRESH
    skills: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def at(cls, now: datetime, span: Window, zone: tzinfo, at_risk_from: datetime, fresh: timedelta = FRESH) -> Asked:
        """With the skills that kinds of work need at that time."""
        skills = {name: jobs.skill_for(kind, now) for name, kind in kinds.discover().items()}
        return cls(now, span, zone, at_risk_from, fresh, skills)


@dataclass(frozen=True)
class Work:
    """A job as it was read: for the planner, and what must not have changed when a decision about it is carried out."""

    job: PlanJob
    seen: list[Any]
    status: str
    crew_id: str | None
    start: datetime | None
    order: int | None
    pinned: bool
    ends: datetime | None = None
    updated_at: datetime | None = None

    @property
    def movable(self) -> bool:
        """Whether a plan may decide about it."""
        return self.crew_id is None or (self.status in MOVABLE and not self.pinned)


def crew_of(day_id: str) -> str:
    """The crew of a :class:`~fieldsvc.geo.model.PlanCrew`'s id."""
    return day_id.partition("/")[0]


def seen(job: Any) -> list[Any]:
    """The values of :data:`SEEN`, as JSON keeps them."""
    return [plain(getattr(job, name)) for name in SEEN]


def read_jobs(asked: Asked, *conditions: ColumnElement[bool]) -> list[Work]:
    """The jobs that meet ``conditions``, the most urgent first; then as they came in."""
    promised = exists().where(CommitmentClock.job_id == Job.id, CommitmentClock.verdict == "running")
    query = (
        select(
            *(getattr(Job, name) for name in (*SEEN, *_FURTHER)),
            Customer.importance,
            Customer.customer_class,
            promised.label("promised"),
            _lead.kind.label("lead_kind"),
        )
        .outerjoin(Customer, Customer.id == Job.customer_id)
        .outerjoin(_lead, _lead.id == Job.assists_job_id)
        .where(*conditions)
        .order_by(Job.priority, Job.created_at, Job.id)
    )
    return _in_order([_work(asked, row) for row in db.session.execute(query)], asked)


def _work(asked: Asked, row: Any) -> Work:
    customer: Any = row if row.importance is not None else None
    skill = asked.skills.get(row.lead_kind or row.kind, row.kind)
    standing = Standing(bool(row.hazards), row.promised, row.importance, row.due_at, asked.at_risk_from)
    job = PlanJob(
        id=row.id,
        number=row.number,
        lon=row.lon,
        lat=row.lat,
        territory_id=row.territory_id,
        kind=row.kind,
        skills=frozenset((skill, *row.required_skills)),
        tier=tier(standing),
        priority=row.priority,
        service_min=row.service_minutes,
        customers=row.customers_affected or 0,
        windows=windows.for_job(row, customer, asked.span, asked.zone),
        due=row.due_at,
        equipment=frozenset(row.required_equipment),
        load=row.load,
        crew_id=row.crew_id,
        pinned=row.pinned,
        starts_at=row.pinned_start,
        follows=row.follows_job_id,
        assists=row.assists_job_id,
        site_class=row.site_class,
    )
    return Work(
        job,
        seen(row),
        row.status,
        row.crew_id,
        row.planned_start,
        row.planned_order,
        row.pinned,
        row.planned_end,
        row.updated_at,
    )


def _in_order(found: Sequence[Work], asked: Asked) -> list[Work]:
    """What waits for a job that is not part of this may begin when that one is planned to end, or has ended."""
    inside = {work.job.id for work in found}
    outside = {
        other for work in found for other in (work.job.follows, work.job.assists) if other and other not in inside
    }
    if not outside:
        return list(found)
    rows = db.session.execute(
        select(Job.id, Job.status, Job.planned_start, Job.planned_end).where(among(Job.id, sorted(outside)))
    )
    others = {row.id: row for row in rows}
    return [replace(work, job=_after(work.job, others, asked)) for work in found]


def _after(job: PlanJob, others: Mapping[str, Any], asked: Asked) -> PlanJob:
    first, lead = others.get(job.follows or ""), others.get(job.assists or "")
    if first is not None and first.status in change.ENDED:
        job = replace(job, follows=None)
    elif first is not None and first.planned_end is not None:
        job = replace(job, follows=None, windows=_clipped(job, Window(first.planned_end, asked.span.end)))
    if lead is not None and lead.planned_start is not None:
        at = max(lead.planned_start, asked.span.start)
        job = replace(job, assists=None, windows=(Window(at, at),))
    return job


def _clipped(job: PlanJob, span: Window) -> tuple[Window, ...]:
    """The job's windows inside ``span``; where nothing is left, ``span`` from its very end: it cannot be done in it."""
    clipped = [Window(max(one.start, span.start), min(one.end, span.end)) for one in job.windows or (span,)]
    return tuple(one for one in clipped if one.start <= one.end) or (Window(span.end, span.end),)


def read_crews(asked: Asked, crew_ids: Collection[str]) -> list[PlanCrew]:
    """The shifts of these crews in the time that is planned, by crew and start, without what they hold.

    A crew sets out from its last known position, if that is not old and the shift has begun, else from its base;
    without either it has no place (``PlanCrew.lon`` None).
    """
    span, wanted = asked.span, sorted(crew_ids)
    shifts: dict[str, list[Any]] = defaultdict(list)
    running = select(Shift.crew_id, Shift.starts_at, Shift.ends_at, Shift.breaks)
    running = running.where(Shift.ends_at > span.start, Shift.starts_at < span.end)
    for shift in db.session.execute(running.where(among(Shift.crew_id, wanted)).order_by(Shift.starts_at, Shift.id)):
        shifts[shift.crew_id].append(shift)
    last = positions.last(sorted(shifts), asked.now - asked.fresh)
    names = "id code skills territory_ids base_lon base_lat equipment capacity".split()
    crews = db.session.execute(
        select(*(getattr(Crew, name) for name in names))
        .where(Crew.active, among(Crew.id, sorted(shifts)))
        .order_by(Crew.id)
    )
    found = []
    for crew in crews:
        for number, shift in enumerate(shifts[crew.id]):
            day = _day(crew, shift, number)
            at = last.get(crew.id)
            if number == 0 and at is not None and shift.starts_at <= asked.now:
                day = replace(day, lon=at.lon, lat=at.lat)
            found.append(day)
    return found


def off_duty(crew_id: str, at: datetime) -> PlanCrew:
    """A crew with a shift of no length at ``at``: what it can and where it belongs, when it has no shift."""
    crew = db.session.get_one(Crew, crew_id)
    return _day(crew, Shift(crew_id=crew.id, starts_at=at, ends_at=at, breaks=[]), 0)


def _day(crew: Any, shift: Any, number: int) -> PlanCrew:
    pauses = [Break(parse_time(one["earliest"]), parse_time(one["latest"]), one["minutes"]) for one in shift.breaks]
    return PlanCrew(
        id=crew.id if number == 0 else f"{crew.id}/{number}",
        code=crew.code,
        lon=crew.base_lon,
        lat=crew.base_lat,
        home=frozenset(crew.territory_ids),
        skills=frozenset(crew.skills),
        shift=Window(shift.starts_at, shift.ends_at),
        equipment=frozenset(crew.equipment),
        capacity=crew.capacity,
        breaks=tuple(pauses),
        end_lon=crew.base_lon,
        end_lat=crew.base_lat,
    )
