"""Checks a plan against what was asked for, knowing nothing of how plans are made.

``faults(...)`` walks every route by the travel matrix and the clock alone and lists what is broken, in words; an empty
list is a sound plan. Benches and tests use the same one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from fieldsvc.geo.model import REASONS, Goals, Plan, PlanCrew, PlanJob, Route, Stop
from fieldsvc.geo.travel import Matrix, Place, TravelTimes

_SECOND = timedelta(seconds=1)


def faults(
    jobs: Sequence[PlanJob],
    crews: Sequence[PlanCrew],
    now: datetime,
    travel: TravelTimes,
    plan: Plan,
    goals: Goals | None = None,
) -> list[str]:
    """Everything that is wrong with ``plan`` as an answer to the rest."""
    goals = goals or Goals()
    by_id = {job.id: job for job in jobs}
    fleet = {crew.id: crew for crew in crews}
    found = _counted(by_id, plan)
    ways = _Ways(by_id, fleet, plan, travel)
    for route in plan.routes:
        if route.crew_id not in fleet:
            found.append(f"{route.crew_id}: no such crew")
        elif any(stop.job_id not in by_id for stop in route.stops):
            found.append(f"{route.crew_id}: a stop that is no job")
        else:
            found += _route(route, fleet[route.crew_id], by_id, now, ways, goals)
    return found + _between(by_id, plan)


def _counted(jobs: Mapping[str, PlanJob], plan: Plan) -> list[str]:
    """Every job once: in a stop, or left with a reason."""
    times = Counter([stop.job_id for stop in plan.stops] + [one.job_id for one in plan.unassigned])
    found = [f"{ident}: stands {times[ident]} times" for ident in sorted(jobs) if times[ident] != 1]
    found += [f"{ident}: nobody asked for it" for ident in sorted(times.keys() - jobs.keys())]
    if len({route.crew_id for route in plan.routes}) != len(plan.routes):
        found.append("a crew has two routes")
    for one in plan.unassigned:
        if one.reason not in REASONS or not one.detail:
            found.append(f"{one.job_id}: left for {one.reason!r}: {one.detail!r}")
    return found


class _Ways:
    """The matrix of all places that a plan touches."""

    def __init__(
        self, jobs: Mapping[str, PlanJob], crews: Mapping[str, PlanCrew], plan: Plan, travel: TravelTimes
    ) -> None:
        places: dict[Any, Place] = {}
        for stop in plan.stops:
            if stop.job_id in jobs:
                job = jobs[stop.job_id]
                places[job.id] = Place(job.lon, job.lat, job.site_class)  # type: ignore[arg-type]
        for route in plan.routes:
            crew = crews.get(route.crew_id)
            if crew is not None:
                places["from", crew.id] = Place(crew.lon, crew.lat)  # type: ignore[arg-type]
                if crew.end_lon is not None and crew.end_lat is not None:
                    places["to", crew.id] = Place(crew.end_lon, crew.end_lat)
        self.row = {key: number for number, key in enumerate(places)}
        self.matrix: Matrix = travel.matrix(list(places.values()))

    def seconds(self, here: Any, there: Any) -> int:
        return int(self.matrix.seconds[self.row[here], self.row[there]])

    def metres(self, here: Any, there: Any) -> float:
        return float(self.matrix.metres[self.row[here], self.row[there]])


def _route(
    route: Route, crew: PlanCrew, jobs: Mapping[str, PlanJob], now: datetime, ways: _Ways, goals: Goals
) -> list[str]:
    start = max(now, crew.shift.start, crew.free_at or now)
    found = []
    if not start <= route.start_at < start + _SECOND:
        found.append(f"{crew.id}: sets out {route.start_at}, not {start}")
    latest = crew.shift.end + timedelta(minutes=goals.overtime_min)
    if route.end_at > latest:
        found.append(f"{crew.id}: ends {route.end_at}, after {latest}")
    over = max(0.0, (route.end_at - crew.shift.end).total_seconds() / 60)
    if abs(route.overtime_min - over) > 0.02:
        found.append(f"{crew.id}: {route.overtime_min} min of overtime are {over}")
    load = sum(jobs[stop.job_id].load for stop in route.stops)
    if crew.capacity is not None and load > crew.capacity and "capacity" not in goals.off:
        found.append(f"{crew.id}: carries {load} of {crew.capacity}")
    for place, stop in enumerate(route.stops):
        job = jobs[stop.job_id]
        found += [f"{job.id} by {crew.id}: {fault}" for fault in _able(job, crew, goals)]
        found += [f"{job.id} by {crew.id}: {fault}" for fault in _timed(job, stop, now, goals)]
        if stop.sequence != crew.load + place + 1:
            found.append(f"{job.id}: sequence {stop.sequence} at place {place}")
    return found + _walked(route, crew, ways, goals)


def _able(job: PlanJob, crew: PlanCrew, goals: Goals) -> list[str]:
    found = []
    if not job.skills <= crew.skills and "skill" not in goals.off:
        found.append(f"lacks {sorted(job.skills - crew.skills)}")
    if not job.equipment <= crew.equipment and "equipment" not in goals.off:
        found.append(f"carries no {sorted(job.equipment - crew.equipment)}")
    pinned = job.pinned and job.crew_id is not None
    if pinned and job.crew_id != crew.id:
        found.append(f"pinned to {job.crew_id}")
    served = job.territory_id in crew.home or job.territory_id in crew.reach
    if not pinned and not served and "territory" not in goals.off:
        found.append(f"territory {job.territory_id} is not served")
    return found


def _timed(job: PlanJob, stop: Stop, now: datetime, goals: Goals) -> list[str]:
    found = []
    if not stop.arrive_at <= stop.begin_at:
        found.append(f"begins {stop.begin_at}, before arriving {stop.arrive_at}")
    service = timedelta(minutes=job.service_min)
    if not service <= stop.leave_at - stop.begin_at < service + _SECOND:
        found.append(f"{stop.leave_at - stop.begin_at} on site, not {service}")
    due = job.due
    if job.pinned and job.crew_id is not None and job.starts_at is not None:
        if job.starts_at >= now:
            if not job.starts_at <= stop.begin_at < job.starts_at + _SECOND:
                found.append(f"begins {stop.begin_at}, not {job.starts_at}")
        else:
            due = job.starts_at
    elif not _inside(job, stop.begin_at) and "window" not in goals.off:
        found.append(f"begins {stop.begin_at}, outside of its windows")
    late = 0.0 if due is None else max(0.0, (stop.begin_at - due).total_seconds() / 60)
    if abs(stop.late_min - late) > 0.06:
        found.append(f"{stop.late_min} min late are {late}")
    return found


def _inside(job: PlanJob, begin: datetime) -> bool:
    return not job.windows or any(window.start <= begin <= window.end for window in job.windows)


def _walked(route: Route, crew: PlanCrew, ways: _Ways, goals: Goals) -> list[str]:
    """The ways between the stops, with the breaks somewhere in between."""
    found = []
    gaps: list[tuple[datetime, datetime, int]] = []
    here, free, metres, seconds = ("from", crew.id), route.start_at, 0.0, 0
    for stop in route.stops:
        way = ways.seconds(here, stop.job_id)
        if way < 0:
            found.append(f"{stop.job_id} by {crew.id}: no way leads there")
        if stop.arrive_at < free + timedelta(seconds=way):
            found.append(f"{stop.job_id} by {crew.id}: arrives {stop.arrive_at}, {way} s after {free}")
        if abs(stop.travel_min * 60 - way) > 1 or abs(stop.distance_m - ways.metres(here, stop.job_id)) > 1:
            found.append(f"{stop.job_id} by {crew.id}: {stop.travel_min} min, {stop.distance_m} m is not the way")
        gaps.append((free, stop.begin_at, way))
        metres, seconds = metres + ways.metres(here, stop.job_id), seconds + way
        here, free = stop.job_id, stop.leave_at  # type: ignore[assignment]
    if ("to", crew.id) in ways.row and goals.return_to_base:
        way = ways.seconds(here, ("to", crew.id))
        if way >= 0:  # a base that no way leads to is left out of account, and the plan says so
            metres, seconds = metres + ways.metres(here, ("to", crew.id)), seconds + way
        if route.end_at < free + timedelta(seconds=max(way, 0)):
            found.append(f"{crew.id}: is home {route.end_at}, {way} s after {free}")
        gaps.append((free, route.end_at, max(way, 0)))
        home = max(0, ways.seconds(("from", crew.id), ("to", crew.id)))
    else:
        home = 0
        gaps.append((free, max(route.end_at, crew.shift.end), 0))
    if abs(route.travel_min * 60 - seconds) > 1 or abs(route.distance_m - metres) > 1:
        found.append(f"{crew.id}: {route.travel_min} min and {route.distance_m} m in all are {seconds / 60}, {metres}")
    if "break" not in goals.off and not _rested(gaps, _breaks(crew, route.start_at, home)):
        found.append(f"{crew.id}: no room for its breaks")
    return found


def _breaks(crew: PlanCrew, start: datetime, home: int) -> list[tuple[datetime, datetime, timedelta]]:
    """The breaks that a crew could take which has nothing to do but to drive ``home``, so many seconds away."""
    due: list[tuple[datetime, datetime, timedelta]] = []
    free = start
    for one in sorted(crew.breaks, key=lambda one: (one.earliest, one.latest)):
        length = timedelta(minutes=one.minutes)
        begin = max(free, one.earliest)
        still = timedelta(seconds=home) - (begin - start - sum((other[2] for other in due), timedelta()))
        if length > timedelta() and begin <= one.latest and begin + length + max(timedelta(), still) <= crew.shift.end:
            due.append((one.earliest, one.latest, length))
            free = begin + length
    return due


def _rested(
    gaps: Sequence[tuple[datetime, datetime, int]], breaks: Sequence[tuple[datetime, datetime, timedelta]]
) -> bool:
    """Whether the breaks, in their order, fit into the gaps, with the driving that is due in each."""
    if not breaks:
        return True
    if not gaps:
        return False
    (start, end, way), *rest = gaps
    for number in range(len(breaks), -1, -1):
        at, taken = start, timedelta(seconds=way)
        for earliest, latest, length in breaks[:number]:
            at = max(at, earliest)
            if at > latest:
                break
            at, taken = at + length, taken + length
        else:
            if at <= end + _SECOND and start + taken <= end + _SECOND and _rested(rest, breaks[number:]):
                return True
    return False


def _between(jobs: Mapping[str, PlanJob], plan: Plan) -> list[str]:
    """What one job asks of another: order, and beginning together."""
    at = {stop.job_id: stop for stop in plan.stops}
    found = []
    for job in jobs.values():
        stop = at.get(job.id)
        before = at.get(job.follows or "")
        if stop is not None and job.follows in jobs and (before is None or stop.begin_at < before.leave_at):
            found.append(f"{job.id}: begins before {job.follows} is done")
        if job.assists in jobs and job.assists != job.id:
            lead = at.get(job.assists)
            if (stop is None) != (lead is None):
                found.append(f"{job.id}: only one of it and {job.assists} is planned")
            elif stop is not None and lead is not None and stop.begin_at != lead.begin_at:
                found.append(f"{job.id}: does not begin with {job.assists}")
            elif stop is not None and lead is not None and stop.crew_id == lead.crew_id:
                found.append(f"{job.id}: the same crew as {job.assists}")
    return found
