"""How the crews stand right now: who is on shift, where it sets out from, and what it holds, as a plan sees it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import lazyload

from fieldsvc import kinds
from fieldsvc.base.clock import parse_time
from fieldsvc.base.db import db
from fieldsvc.geo.explain import Candidate, Day
from fieldsvc.geo.model import Break, PlanCrew, PlanJob, Window
from fieldsvc.people.models import Crew, Shift
from fieldsvc.work import jobs
from fieldsvc.work.models import Job

HORIZON = timedelta(hours=24)
"""Shifts that begin within this time are looked at."""
UNDER_WAY = ("enroute", "on_site", "in_progress")
"""States in which a crew is bound to a job: it sets out for the next one from there."""
AHEAD = ("scheduled", "dispatched", "accepted")
"""States in which a job lies ahead of its crew."""


def crews(scope: Collection[str] | None, also: str | None) -> list[Crew]:
    """The crews with a home in ``scope`` (``None``: all), and the one called ``also``."""
    found = db.session.scalars(select(Crew).options(lazyload(Crew.members)).order_by(Crew.id))
    return [one for one in found if scope is None or one.id == also or not set(scope).isdisjoint(one.territory_ids)]


def shifts(crew_ids: Collection[str], now: datetime) -> dict[str, list[Shift]]:
    """Crew id → the shifts that have not ended and begin within :data:`HORIZON`, by start."""
    query = select(Shift).where(Shift.ends_at > now, Shift.starts_at < now + HORIZON)
    found: dict[str, list[Shift]] = {}
    for shift in db.session.scalars(query.order_by(Shift.starts_at, Shift.id)):
        if shift.crew_id in crew_ids:
            found.setdefault(shift.crew_id, []).append(shift)
    return found


def held(crew_ids: Collection[str]) -> dict[str, list[Job]]:
    """Crew id → what it holds, in the order it will be done."""
    query = select(Job).where(Job.crew_id.in_(sorted(crew_ids)), Job.status.in_((*UNDER_WAY, *AHEAD)))
    found: dict[str, list[Job]] = {}
    for job in db.session.scalars(query.order_by(Job.crew_id, Job.planned_order, Job.planned_start, Job.id)):
        if job.crew_id is not None:
            found.setdefault(job.crew_id, []).append(job)
    return found


def plan_job(job: Job, skills: Mapping[str, str], *, named: bool = True) -> PlanJob:
    """The job as a plan sees it.

    :param skills: kind → the skill it needs; ``named``: whether its number may be told.
    """
    skill = skills.get(job.kind, job.kind)
    return PlanJob(
        id=job.id,
        lon=job.lon,
        lat=job.lat,
        territory_id=job.territory_id,
        kind=job.kind,
        skills=frozenset({skill, *job.required_skills}),
        tier="hazard" if job.hazards else "planned",
        priority=job.priority,
        service_min=job.service_minutes,
        number=job.number if named else "",
        customers=job.customers_affected or 0,
        windows=_windows(job),
        due=job.due_at,
        equipment=frozenset(job.required_equipment),
        load=job.load,
        crew_id=job.crew_id,
        pinned=job.pinned,
        starts_at=job.pinned_start,
        follows=job.follows_job_id,
        assists=job.assists_job_id,
        site_class=job.site_class,
    )


def _windows(job: Job) -> tuple[Window, ...]:
    if job.window_start is None and job.window_end is None:
        return ()
    forever = timedelta(days=365)
    start = job.window_start or (job.window_end or job.created_at) - forever
    return (Window(start, job.window_end or start + forever),)


def skills(now: datetime) -> dict[str, str]:
    """Kind of job → the skill it needs."""
    return {name: jobs.skill_for(kind, now) for name, kind in kinds.discover().items()}


def candidate(
    crew: Crew, on_duty: Sequence[Shift], holds: Sequence[Job], now: datetime, planned: Mapping[str, PlanJob]
) -> Candidate:
    """The crew as it stands.

    :param planned: what it holds, as a plan sees it, by id of the job.
    """
    bound = [job for job in holds if job.status in UNDER_WAY]
    ahead = [job for job in holds if job.status in AHEAD]
    lon, lat = crew.base_lon, crew.base_lat
    if bound and bound[-1].lon is not None:
        lon, lat = bound[-1].lon, bound[-1].lat
    free_at = max((_done_at(job, now) for job in bound), default=None)
    days = [
        Day(
            PlanCrew(
                id=crew.id,
                lon=lon if number == 0 else crew.base_lon,
                lat=lat if number == 0 else crew.base_lat,
                home=frozenset(crew.territory_ids),
                skills=frozenset(crew.skills),
                shift=Window(shift.starts_at, shift.ends_at),
                code=crew.code,
                equipment=frozenset(crew.equipment),
                capacity=crew.capacity,
                breaks=tuple(_breaks(shift)),
                free_at=free_at if number == 0 else None,
                end_lon=crew.base_lon,
                end_lat=crew.base_lat,
            ),
            tuple(planned[job.id] for job in ahead if _day_of(job, on_duty) == number),
        )
        for number, shift in enumerate(on_duty)
    ]
    return Candidate(crew.id, crew.code, active=crew.active, days=tuple(days))


def _done_at(job: Job, now: datetime) -> datetime:
    """When a crew is done with what is under way: as planned, else after its whole time on site."""
    if job.planned_end is not None and job.planned_end > now:
        return job.planned_end
    return now + timedelta(minutes=job.service_minutes)


def _day_of(job: Job, on_duty: Sequence[Shift]) -> int:
    """The last shift that has begun when the job is planned, else the first."""
    if job.planned_start is None:
        return 0
    return max((number for number, shift in enumerate(on_duty) if shift.starts_at <= job.planned_start), default=0)


def _breaks(shift: Shift) -> list[Break]:
    return [
        Break(parse_time(one["earliest"]), parse_time(one["latest"]), float(one["minutes"])) for one in shift.breaks
    ]
