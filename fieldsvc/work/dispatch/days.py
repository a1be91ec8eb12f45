"""The days of crews: what they hold, what of it a plan may move, and what a plan comes to in metres and lateness."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from fieldsvc.geo.crs import lonlat_fault
from fieldsvc.geo.model import Goals, Plan, PlanCrew, PlanJob
from fieldsvc.geo.routes import END, START, Visit, Walk, Ways, walk
from fieldsvc.geo.travel import Place, TravelTimes
from fieldsvc.work.change import UNDER_WAY
from fieldsvc.work.dispatch.basis import MOVABLE, Work, crew_of

_FAR = datetime.max.replace(tzinfo=UTC)


@dataclass
class Day:
    """One shift of a crew and what it holds in it, in order.

    :param crew: as the shift begins, or as it stands now. ``fixed`` stays as it is; ``free`` is what the plan decides
        about; ``elsewhere`` is held by this crew and decided about in another area.
    """

    crew: PlanCrew
    fixed: list[Work] = field(default_factory=list)
    free: list[Work] = field(default_factory=list)
    elsewhere: list[Work] = field(default_factory=list)

    @property
    def held(self) -> list[Work]:
        """All of it, in the order of the plan in force."""
        return sorted((*self.fixed, *self.free, *self.elsewhere), key=_place)


def _place(work: Work) -> tuple[Any, ...]:
    under_way = work.status in UNDER_WAY or work.status == "enroute"
    stopped = not under_way and work.status not in MOVABLE
    return not under_way, stopped, work.order is None, work.order or 0, work.start or _FAR, work.job.id


def hold(
    crews: Sequence[PlanCrew], works: Iterable[Work], free: Collection[str], elsewhere: Collection[str]
) -> list[Day]:
    """The days of ``crews`` with the ``works`` they hold, each in the shift that it is planned in.

    :param free: ids of the jobs that the plan decides about; ``elsewhere``: that another plan does.
    """
    days = [Day(crew) for crew in crews]
    by_crew: dict[str, list[Day]] = defaultdict(list)
    for day in days:
        by_crew[crew_of(day.crew.id)].append(day)
    for work in sorted(works, key=_place):
        own = by_crew.get(work.crew_id or "")
        if own:
            day = next((day for day in own if work.start is None or work.start < day.crew.shift.end), own[-1])
            kept = day.free if work.job.id in free else day.elsewhere if work.job.id in elsewhere else day.fixed
            kept.append(work)
    return days


def settle(day: Day, now: datetime, travel: TravelTimes, goals: Goals) -> tuple[PlanCrew, list[PlanJob]]:
    """The crew as it is once it has done what is fixed, and what of that lies ahead at its time.

    A crew does what is fixed without a pause, and is free from there on. Where it would have to wait for a time that
    was agreed, the rest stays where it is, and the plan may fill the time before.
    """
    chain = [_remaining(work, now) for work in day.fixed]
    walked = _walk(replace(day.crew, breaks=()), chain, now, travel, goals)
    begun: list[Visit] = []
    for visit in walked.visits if walked else ():
        if visit.begin_at > visit.arrive_at and visit.job.service_min:
            break
        begun.append(visit)
    ahead = [
        replace(
            visit.job,
            crew_id=day.crew.id,
            pinned=True,
            starts_at=visit.begin_at,
            windows=(),
            follows=None,
            assists=None,
        )
        for visit in (walked.visits[len(begun) :] if walked else ())
    ]
    load = sum(work.job.load for work in day.fixed)
    capacity = None if day.crew.capacity is None else max(day.crew.capacity - load, 0)
    crew = replace(day.crew, capacity=capacity, load=len(day.fixed) - len(ahead))
    if begun:
        last = begun[-1]
        crew = replace(crew, lon=last.job.lon, lat=last.job.lat, free_at=last.leave_at)
    return crew, ahead


def _remaining(work: Work, now: datetime) -> PlanJob:
    """What is left of a job: of one that a crew is at, what it has not spent there yet."""
    job = replace(work.job, follows=None, assists=None)
    if work.status in UNDER_WAY:
        spent = (now - work.updated_at) / timedelta(minutes=1) if work.updated_at else 0.0
        return replace(job, service_min=max(job.service_min - spent, 0.0), windows=(), starts_at=None)
    return job if work.status in MOVABLE else replace(job, windows=(), starts_at=None)


def _walk(crew: PlanCrew, jobs: Sequence[PlanJob], now: datetime, travel: TravelTimes, goals: Goals) -> Walk | None:
    """The crew's way through the jobs that have a place; None: the crew has none."""
    if crew.lon is None or crew.lat is None:
        return None
    placed = [job for job in jobs if _has_place(job)]
    places = [Place(crew.lon, crew.lat), *(Place(j.lon, j.lat, j.site_class) for j in placed)]  # type: ignore[arg-type]
    rows = {START: 0} | {job.id: row for row, job in enumerate(placed, 1)}
    if crew.end_lon is not None and crew.end_lat is not None:
        rows[END] = len(places)
        places.append(Place(crew.end_lon, crew.end_lat))
    return walk(crew, placed, Ways(travel.matrix(places), rows), goals, now)


def _has_place(job: PlanJob) -> bool:
    return job.lon is not None and job.lat is not None and not lonlat_fault(job.lon, job.lat)


NOTHING = {"jobs": 0, "assigned": 0, "late": 0, "metres": 0, "travel_minutes": 0, "overtime_minutes": 0}
"""The totals of no plan at all."""


def before(
    days: Sequence[Day], works: Sequence[Work], now: datetime, travel: TravelTimes, goals: Goals
) -> dict[str, int]:
    """The totals of the plan in force."""
    totals = _totals([(day.crew, [_remaining(work, now) for work in day.held]) for day in days], now, travel, goals)
    return totals | {"jobs": len(works), "assigned": sum(work.crew_id is not None for work in works)}


def after(
    days: Sequence[Day], works: Sequence[Work], plan: Plan, now: datetime, travel: TravelTimes, goals: Goals
) -> dict[str, int]:
    """The totals of ``plan``, walked the same way as those of the plan in force."""
    by_id = {work.job.id: work for work in works}
    planned: dict[str, list[PlanJob]] = defaultdict(list)
    for stop in sorted(plan.stops, key=lambda stop: (stop.begin_at, stop.sequence)):
        if stop.job_id in by_id:
            planned[stop.crew_id].append(by_id[stop.job_id].job)
    begins = {stop.job_id: stop.begin_at for stop in plan.stops}
    routes = []
    for day in days:
        fixed = [_remaining(work, now) for work in day.fixed]
        ahead = [job for job in fixed if job.id in begins]
        done = [job for job in fixed if job.id not in begins]
        rest = sorted((*ahead, *planned[day.crew.id]), key=lambda job: begins[job.id])
        routes.append((day.crew, [*done, *rest]))
    assigned = sum(stop.job_id in by_id for stop in plan.stops)
    return _totals(routes, now, travel, goals) | {"jobs": len(works), "assigned": assigned}


def _totals(
    routes: Sequence[tuple[PlanCrew, Sequence[PlanJob]]], now: datetime, travel: TravelTimes, goals: Goals
) -> dict[str, int]:
    late, metres, seconds, overtime = 0, 0.0, 0, 0.0
    for crew, jobs in routes:
        walked = (
            _walk(crew, [replace(job, follows=None, assists=None) for job in jobs], now, travel, goals)
            if jobs
            else None
        )
        if walked is not None:
            late += sum(visit.late_min > 0 for visit in walked.visits)
            metres += walked.metres
            seconds += walked.seconds
            overtime += walked.overtime_min
    numbers = {"late": late, "metres": round(metres), "travel_minutes": round(seconds / 60)}
    return NOTHING | numbers | {"overtime_minutes": round(overtime)}


def add(totals: Iterable[Mapping[str, int] | None], sign: int = 1) -> dict[str, int]:
    """The sum of totals."""
    found = dict(NOTHING)
    for one in totals:
        for name in found:
            found[name] += sign * (one or NOTHING)[name]
    return found
