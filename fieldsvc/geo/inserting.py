"""One job more in a day that stands: the crew keeps its order, and begins nothing sooner, nor later than it has to.

A search over the whole day drives a little less and tells the crew everything anew. Here each place between two jobs is
tried in turn; what stands before it stays as it is, what stands behind gives way as far as it must.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from fieldsvc.geo.model import Goals, PlanCrew, PlanJob, Route, Stop, Window
from fieldsvc.geo.routes import END, START, Visit, Walk, Ways, sets_out, walk
from fieldsvc.geo.travel import Place, TravelTimes

SAME_TIME = timedelta(minutes=1)
"""A crew is not told anew of a job that it begins this little sooner or later."""
MOST_STANDING = 20
"""In a day of more jobs no other one is tried at another place: there are too many such orders."""
_FAR = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Standing:
    """A job of the day as it stands. ``start``: when it is to begin, None: no time was said. ``fixed``: it begins then
    and at no other time, since another crew goes by it."""

    job: PlanJob
    start: datetime | None
    fixed: bool = False


@dataclass(frozen=True)
class _Day:
    """What stays while places are tried. ``starts``: when each job was to begin; ``found``: what a search over all of
    the day has found for it; ``goals``: with windows, since times that stand are kept by them."""

    crew: PlanCrew
    starts: Mapping[str, datetime | None]
    found: Mapping[str, Stop]
    ways: Ways
    goals: Goals
    now: datetime


def put_in(
    crew: PlanCrew,
    standing: Sequence[Standing],
    more: Sequence[PlanJob],
    found: Sequence[Stop],
    now: datetime,
    travel: TravelTimes,
    goals: Goals,
) -> Route | None:
    """The day of ``crew`` with ``more`` jobs in it, one after the other by rank, and all else in the order it has.

    Where that cannot be, one other job goes to another place.

    Of the places between the jobs that one counts which breaks the fewest promises, the higher ranks first; then the
    one that moves the fewest jobs, and those the least; then the one with the least driving. A job of a soonest rank
    begins as soon as it can, but for ``Goals.soonest_slack_min``, and puts those before it by rank off by no more.

    :param standing: in the order of the day; ``found``: what a search over the whole day found, with the same jobs.
    :return: None: that would break a rule, or more promises than ``found`` does.
    """
    jobs = [one.job for one in standing]
    day = _Day(
        crew,
        {one.job.id: one.start for one in standing},
        {stop.job_id: stop for stop in found},
        _ways(crew, [*jobs, *more], travel),
        replace(goals, off=goals.off - {"window"}),
        now,
    )
    order = [_held(one, goals) for one in standing]
    free = {one.job.id: _held(Standing(one.job, None), goals) for one in standing if not one.fixed}
    first, best = len(order), None
    for job in sorted((_held(Standing(job, None), goals) for job in more), key=lambda job: _rank(job, goals)):
        best = _best(day, order, job, _places(order, job)) or _best(day, order, job, _one_elsewhere(order, free, job))
        if best is None:
            return None
        order, first = best.order, min(first, best.first)
    if best is None or _broken(day, best.walk)[0] > _broken_in(found, [*jobs, *more], goals)[0]:
        return None
    return _route(day, best.walk, first, {job.id for job in more})


class _Order(NamedTuple):
    """An order of the day. ``first``: the first place that is another than before."""

    first: int
    order: list[PlanJob]


class _Tried(NamedTuple):
    first: int
    order: list[PlanJob]
    walk: Walk


def _places(order: Sequence[PlanJob], job: PlanJob) -> Iterator[_Order]:
    """The job at every place of the order."""
    for place in range(len(order) + 1):
        yield _Order(place, [*order[:place], job, *order[place:]])


def _one_elsewhere(order: Sequence[PlanJob], free: Mapping[str, PlanJob], job: PlanJob) -> Iterator[_Order]:
    """The same with one other job at another place than it had, in its time or not."""
    if len(order) > MOST_STANDING:
        return
    for was, one in enumerate(order):
        if one.id in free:
            rest = [*order[:was], *order[was + 1 :]]
            for place in range(len(order)):
                if place != was:
                    for first, tried in _places([*rest[:place], free[one.id], *rest[place:]], job):
                        yield _Order(min(first, was, place), tried)


def _best(day: _Day, before: Sequence[PlanJob], job: PlanJob, orders: Iterable[_Order]) -> _Tried | None:
    """Of the orders with the job in them the one that counts; None: none can be."""
    limits = _limits(day, before, job)
    sound = [
        tried
        for one in orders
        for tried in [_Tried(*one, _walked(day, one.order))]
        if not tried.walk.faults
        and all(visit.begin_at <= limits.get(visit.job.id, visit.begin_at) for visit in tried.walk.visits)
    ]
    if day.goals.tiers[job.tier].soonest:
        begins = [one.walk.visit(job.id).begin_at for one in sound]
        latest = min([day.found[job.id].begin_at, *begins]) + _slack(day.goals)
        sound = [one for one, begin in zip(sound, begins, strict=True) if begin <= latest]
    return min(
        sound,
        key=lambda one: (_broken(day, one.walk), _moved(day, one.walk), one.walk.seconds, one.first),
        default=None,
    )


def _limits(day: _Day, before: Sequence[PlanJob], job: PlanJob) -> dict[str, datetime]:
    """When those that go before the job by a soonest rank begin at the latest: the job puts them off by no more than
    the slack."""
    mine = _rank(job, day.goals)
    return {
        visit.job.id: visit.begin_at + _slack(day.goals)
        for visit in _walked(day, before).visits
        if day.goals.tiers[visit.job.tier].soonest and _rank(visit.job, day.goals) < mine
    }


def _ways(crew: PlanCrew, jobs: Sequence[PlanJob], travel: TravelTimes) -> Ways:
    places = [Place(crew.lon, crew.lat), *(Place(job.lon, job.lat, job.site_class) for job in jobs)]  # type: ignore[arg-type]
    rows = {START: 0} | {job.id: row for row, job in enumerate(jobs, 1)}
    if crew.end_lon is not None and crew.end_lat is not None:
        rows[END] = len(places)
        places.append(Place(crew.end_lon, crew.end_lat))
    return Ways(travel.matrix(places), rows)


def _held(one: Standing, goals: Goals) -> PlanJob:
    """The job with its time: not sooner than it is to begin, and not later where others go by it."""
    job = replace(one.job, windows=()) if "window" in goals.off else one.job
    if one.start is None or job.starts_at is not None:
        return job
    if one.fixed:
        return replace(job, starts_at=one.start)
    later = [Window(max(span.start, one.start), span.end) for span in job.windows or (Window(one.start, _FAR),)]
    return replace(job, windows=tuple(span for span in later if span.start <= span.end) or job.windows)


def _rank(job: PlanJob, goals: Goals) -> tuple[Any, ...]:
    """The order in which jobs are served, as the planner has it."""
    return (goals.tiers[job.tier].rank, -job.customers, job.priority, job.due or _FAR, job.id)


def _walked(day: _Day, order: Sequence[PlanJob]) -> Walk:
    return walk(day.crew, order, day.ways, day.goals, day.now)


def _slack(goals: Goals) -> timedelta:
    return timedelta(minutes=goals.soonest_slack_min)


def _broken(day: _Day, walked: Walk) -> tuple[tuple[int, ...], int]:
    """How many promises of each rank are broken, the highest first, and by how many minutes in all."""
    return _lateness([(visit.job, visit.late_min) for visit in walked.visits], day.goals)


def _broken_in(found: Sequence[Stop], jobs: Sequence[PlanJob], goals: Goals) -> tuple[tuple[int, ...], int]:
    by_id = {job.id: job for job in jobs}
    return _lateness([(by_id[stop.job_id], stop.late_min) for stop in found if stop.job_id in by_id], goals)


def _lateness(late: Sequence[tuple[PlanJob, float]], goals: Goals) -> tuple[tuple[int, ...], int]:
    ranks = sorted({tier.rank for tier in goals.tiers.values()})
    counted = [goals.tiers[job.tier].rank for job, minutes in late if round(minutes, 1) > 0]
    return tuple(map(counted.count, ranks)), round(sum(minutes for _, minutes in late))


def _moved(day: _Day, walked: Walk) -> tuple[int, int]:
    """How many jobs begin at another time than they were to, and by how many minutes in all."""
    starts = [(day.starts.get(visit.job.id), visit.begin_at) for visit in walked.visits]
    moved = [abs(begin - start) for start, begin in starts if start is not None and abs(begin - start) >= SAME_TIME]
    return len(moved), round(sum(moved, timedelta()) / timedelta(minutes=1))


def _route(day: _Day, walked: Walk, first: int, new: set[str]) -> Route:
    """The walk as a route. What stands before the ``first`` new job keeps the time it was given."""
    stops: list[Stop] = []
    before = START
    for place, visit in enumerate(walked.visits):
        start = day.starts.get(visit.job.id)
        slipped = start is not None and place < first and visit.begin_at > start
        stays = start is not None and (slipped or abs(visit.begin_at - start) < SAME_TIME)
        begin = start if stays and start is not None else visit.begin_at
        way, far = day.ways.seconds(before, visit.job.id) or 0, day.ways.metres(before, visit.job.id)
        stops.append(_stop(day, visit, begin, place, way, far))
        before = visit.job.id
    added = walked.seconds - _walked(day, [v.job for v in walked.visits if v.job.id not in new]).seconds
    if len(new) == 1:
        stops = [
            replace(one, why={**one.why, "added_min": round(added / 60, 1)}) if one.job_id in new else one
            for one in stops
        ]
    return Route(
        day.crew.id,
        tuple(stops),
        sets_out(day.crew, day.now),
        walked.end_at,
        round(walked.metres, 1),
        round(walked.seconds / 60, 2),
        round(walked.overtime_min, 2),
    )


def _stop(day: _Day, visit: Visit, begin: datetime, place: int, way: int, far: float) -> Stop:
    job, found = visit.job, day.found[visit.job.id]
    late = round(max(0.0, (begin - job.due) / timedelta(minutes=1)), 1) if job.due else 0.0
    why = {name: value for name, value in found.why.items() if name not in ("added_min", "late_min")}
    why |= {"distance_m": round(far), "travel_min": round(way / 60, 1)} | ({"late_min": late} if late else {})
    return Stop(
        job.id,
        day.crew.id,
        day.crew.load + place + 1,
        min(visit.arrive_at, begin),
        begin,
        begin + timedelta(minutes=job.service_min),
        travel_min=round(way / 60, 2),
        distance_m=round(far, 1),
        late_min=late,
        why=why,
    )
