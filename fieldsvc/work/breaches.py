"""What breaks if a job goes to a crew at a time, before anybody has decided it: the crew and its day are read here, the
rules are those of ``geo.breaches``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, tzinfo
from typing import Any

from sqlalchemy import Row, select

from fieldsvc.base.db import db
from fieldsvc.base.errors import NotFound
from fieldsvc.geo import breaches, sentences
from fieldsvc.geo.breaches import HARD, SOFT, Breach
from fieldsvc.geo.explain import Candidate, Day, Question, fault_of
from fieldsvc.geo.travel import TravelTimes
from fieldsvc.people.models import Crew
from fieldsvc.work import change, queries, standing
from fieldsvc.work.dispatch import basis
from fieldsvc.work.dispatch.rules import Rules, helping
from fieldsvc.work.models import Job

_A_DAY = timedelta(days=1)


@dataclass(frozen=True)
class Offer:
    """A job held out to a crew.

    :param allowed: whether ``jobs.assign`` would do it; what is hard is a plan's rule, which a dispatcher may break.
    :param begin_at: when it would begin; None: nobody can say.
    """

    job: Job
    crew: Crew
    start: datetime | None
    allowed: bool
    breaches: tuple[Breach, ...]
    begin_at: datetime | None

    @property
    def worst(self) -> str | None:
        """``hard``, ``soft`` or, when nothing breaks, None."""
        found = {breach.severity for breach in self.breaches}
        return HARD if HARD in found else SOFT if found else None


def of(
    job_id: str,
    crew_id: str,
    start: datetime | None,
    *,
    scope: Collection[str] | None,
    travel: TravelTimes,
    zone: tzinfo,
    now: datetime,
    fresh: timedelta,
) -> Offer:
    """What breaks if the crew gets the job, to begin at ``start``; None: wherever it fits best in its day.

    :param scope: the caller's territories, ``None`` for all.
    :raises NotFound: the job or the crew is not there for the caller.
    """
    job = queries.job(job_id, scope)
    rows = [row for row in standing.crews(scope, None) if row.id == crew_id]
    if not rows:
        raise NotFound("crew", crew_id)
    crew = db.session.get_one(Crew, crew_id)
    told = (now, zone)
    found = list(_standing_against(job, crew, start, *told))
    if job.status in change.ENDED or job.status in change.UNDER_WAY:
        return Offer(job, crew, start, False, tuple(found), None)
    book = Rules.on(now)
    question, candidate = _put(job, rows[0], start, book, scope, travel, zone, now, fresh)
    held = _held(job, crew_id)
    begin = start
    if start is None:
        more, begin = breaches.at_its_best(question, candidate, travel)
    else:
        starts = {row.id: row.planned_start for row in held if row.planned_start is not None}
        more = breaches.at_a_time(question, candidate, travel, start, starts)
        found += _overlaps(job, crew, start, held, scope, *told)
    if fault_of(question.job) == "no_place":
        found.append(Breach("no_place", SOFT, sentences.without_place()))
    return Offer(job, crew, start, crew.active, tuple(_in_order([*found, *more])), begin)


def _put(
    job: Job,
    row: Row[Any],
    start: datetime | None,
    book: Rules,
    scope: Collection[str] | None,
    travel: TravelTimes,
    zone: tzinfo,
    now: datetime,
    fresh: timedelta,
) -> tuple[Question, Candidate]:
    """The question as a plan would put it, but that a dispatcher decides about pin and time; the crew as it stands."""
    question, asked = standing.question(job, book, zone, now, fresh, until=start and start + _A_DAY)
    free = replace(question.job, pinned=False, starts_at=None, due=job.due_at)
    question = replace(question, job=free)
    candidate = standing.candidates(question, asked, [row], book, travel, scope, closely={row.id})[0]
    if not candidate.days:
        idle = helping(book, [basis.off_duty(row.id, now)], {job.territory_id or ""}, now)
        candidate = replace(candidate, days=(Day(idle[0]),))
    return question, standing.beyond(candidate, row, free, book, now)


def _standing_against(job: Job, crew: Crew, start: datetime | None, now: datetime, zone: tzinfo) -> Iterator[Breach]:
    """What the job itself, and whoever has it, has against it."""
    if job.status in change.ENDED or job.status in change.UNDER_WAY:
        yield Breach("state", HARD, f"job {job.number} is {job.status} and cannot be assigned")
        return
    holder = db.session.get(Crew, job.crew_id) if job.crew_id else None
    if holder is None:
        return
    if job.status == "enroute" and holder.id != crew.id:
        yield Breach("on_its_way", HARD, sentences.on_its_way(holder.code, job.number))
    elsewhere = holder.id != crew.id or (job.pinned_start is not None and start not in (None, job.pinned_start))
    if job.pinned and elsewhere:
        yield Breach("pinned", HARD, sentences.pinned_to(holder.code, job.pinned_start, now, zone))


def _held(job: Job, crew_id: str) -> list[Row[Any]]:
    """What takes the crew's time besides the job."""
    columns = select(Job.id, Job.number, Job.territory_id, Job.planned_start, Job.planned_end)
    query = columns.where(Job.crew_id == crew_id, Job.status.in_(basis.HELD), Job.id != job.id)
    return list(db.session.execute(query.order_by(Job.planned_start, Job.id)))


def _overlaps(
    job: Job,
    crew: Crew,
    start: datetime,
    held: list[Row[Any]],
    scope: Collection[str] | None,
    now: datetime,
    zone: tzinfo,
) -> Iterator[Breach]:
    end = start + timedelta(minutes=job.service_minutes)
    for row in held:
        if row.planned_start is None or row.planned_end is None:
            continue
        if row.planned_start < end and row.planned_end > start:
            number = row.number if scope is None or row.territory_id in scope else None
            words = sentences.overlap(crew.code, number, row.planned_start, row.planned_end, now, zone)
            yield Breach("overlap", SOFT, words)


def _in_order(found: list[Breach]) -> list[Breach]:
    """What is hard first; the same is said once."""
    return sorted(dict.fromkeys(found), key=lambda breach: breach.severity != HARD)
