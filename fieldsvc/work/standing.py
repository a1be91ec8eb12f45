"""How the crews stand right now: who is on shift, where it sets out from, and what it holds, as a plan sees it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime, timedelta, tzinfo
from typing import Any

from sqlalchemy import Row, select

from fieldsvc.base.db import among, db
from fieldsvc.geo import areas
from fieldsvc.geo.explain import Candidate, Day, Question, open_to
from fieldsvc.geo.model import PlanJob, Window
from fieldsvc.geo.travel import TravelTimes
from fieldsvc.people import territories
from fieldsvc.people.models import Crew
from fieldsvc.work.dispatch import days
from fieldsvc.work.dispatch.area import HORIZON
from fieldsvc.work.dispatch.basis import HELD, MOVABLE, Asked, Work, crew_of, read_crews, read_jobs
from fieldsvc.work.dispatch.rules import Rules, helping
from fieldsvc.work.models import Job

FARTHEST_M = 200_000.0
"""How far another territory is, is told up to here."""


def question(
    job: Job, book: Rules, zone: tzinfo, now: datetime, fresh: timedelta, until: datetime | None = None
) -> tuple[Question, Asked]:
    """The job as a run would plan it now, and what it is read by.

    :param until: how far ahead shifts are looked at, beyond what a run plans.
    """
    end = max(now + HORIZON, until or now)
    asked = Asked.at(now, Window(now, end), zone, now + timedelta(minutes=book.at_risk_minutes), fresh)
    planned = read_jobs(asked, Job.id == job.id)[0].job
    # That it assists another job was made into a window, the time at which that one begins; it is another crew's still.
    planned = _timely(replace(planned, assists=job.assists_job_id), now)
    return Question(planned, book.goals, now, zone, end), asked


def crews(scope: Collection[str] | None, also: str | None) -> list[Row[Any]]:
    """The crews with a home in ``scope`` (``None``: all), and the one called ``also``."""
    columns = select(Crew.id, Crew.code, Crew.name, Crew.active, Crew.territory_ids, Crew.help_out_m)
    found = db.session.execute(columns.order_by(Crew.id))
    return [one for one in found if scope is None or one.id == also or not set(scope).isdisjoint(one.territory_ids)]


def candidates(
    asked_for: Question,
    asked: Asked,
    fleet: Sequence[Row[Any]],
    book: Rules,
    travel: TravelTimes,
    scope: Collection[str] | None,
    closely: Collection[str] = (),
) -> list[Candidate]:
    """The crews as they stand. What they hold is read of those only that could have the job at all, and of ``closely``.

    :param scope: jobs outside of it keep their places in the routes and lose their numbers.
    """
    job, now = asked_for.job, asked_for.now
    wanted = {job.territory_id} if job.territory_id else set()
    shifts = helping(book, read_crews(asked, [crew.id for crew in fleet]), wanted, now)
    bare = {crew.id: Candidate(crew.id, crew.code, active=crew.active) for crew in fleet}
    for crew_id, own in _by_crew([Day(shift) for shift in shifts if shift.shift.end > now]).items():
        bare[crew_id] = replace(bare[crew_id], days=own)
    near = (
        open_to(asked_for, list(bare.values())) | (({job.crew_id} if job.crew_id else set()) | {*closely}) & bare.keys()
    )
    held = read_jobs(asked, among(Job.crew_id, sorted(near)), Job.status.in_(HELD))
    ahead = {work.job.id for work in held if work.status in MOVABLE}
    loaded = days.hold([day.crew for crew_id in sorted(near) for day in bare[crew_id].days], held, ahead, ())
    settled = [(days.settle(day, now, travel, book.goals)[0], day.free) for day in loaded]
    now_held = _by_crew([Day(crew, tuple(_told(work, job, scope, now) for work in free)) for crew, free in settled])
    return [replace(one, days=now_held.get(one.crew_id, one.days)) for one in bare.values()]


def _by_crew(of: Sequence[Day]) -> dict[str, tuple[Day, ...]]:
    found: dict[str, tuple[Day, ...]] = {}
    for day in of:
        crew_id = crew_of(day.crew.id)
        found[crew_id] = (*found.get(crew_id, ()), day)
    return found


def _told(work: Work, job: PlanJob, scope: Collection[str] | None, now: datetime) -> PlanJob:
    """A job on a route; the one in question as it was put."""
    if work.job.id == job.id:
        return job
    named = scope is None or work.job.territory_id in scope
    return _timely(work.job if named else replace(work.job, number=""), now)


def _timely(job: PlanJob, now: datetime) -> PlanJob:
    """A time that was agreed on and has passed is not a limit any more; the work is late by it."""
    if job.starts_at is None or job.starts_at >= now:
        return job
    return replace(job, starts_at=None, due=job.starts_at)


def beyond(one: Candidate, crew: Row[Any], job: PlanJob, book: Rules, now: datetime) -> Candidate:
    """The candidate with how far the job's territory is from its own, and how far it may help out."""
    near = areas.distances(territories.index(now).shapes, {job.territory_id or ""}, FARTHEST_M)
    away = near.get(job.territory_id or "", {})
    metres = min((away[home] for home in crew.territory_ids if home in away), default=None)
    return replace(one, away_m=metres, help_out_m=book.help_out_m if crew.help_out_m is None else crew.help_out_m)
