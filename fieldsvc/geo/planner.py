"""Who does what, in which order, arriving when: by territory, skill and the nearest crew with free shift time.

A greedy plan, made to be explained: jobs in order of rank (pinned, hazards, priority, deadline, id), each put where it
costs the crews the least extra driving, never in front of a job that outranks it. Whoever waits for a hazard or for
priority 1 gets the crew that can be there first instead. Every assignment says why, every refusal gives a stable
reason. The same input always gives the same plan. This module is the one place where a better solver would go.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Any, NamedTuple

from fieldsvc.geo.crs import lonlat_fault
from fieldsvc.geo.travel import Leg, TravelTimes

REASONS = ("no_place", "no_territory", "no_crew_in_territory", "no_skill", "no_shift_time", "window_missed")
"""Every reason a job can be left unassigned for; the list only grows."""


@dataclass(frozen=True)
class PlanJob:
    """A job to be planned.

    :param priority: 1 is the most urgent.
    :param service_min: minutes on site.
    :param earliest: the crew may not begin before; ``latest``: must have begun by then. A promised
        window, not a due date.
    :param pinned_crew: the dispatcher has chosen this crew: its territory does not matter then, its skill still does.
    :param hazard: danger to life: goes before every priority.
    :param site_class: decides the speed of getting there.
    """

    id: str
    lon: float | None
    lat: float | None
    territory_id: str | None
    kind: str
    skill: str
    priority: int
    service_min: float
    earliest: datetime | None = None
    latest: datetime | None = None
    pinned_crew: str | None = None
    hazard: bool = False
    site_class: str = "urban"


@dataclass(frozen=True)
class PlanCrew:
    """A crew on shift, starting at ``lon``/``lat``.

    :param territory_ids: the territories it serves.
    :param busy_until: when what it already holds ends; ``load``: how many jobs that is; sequence numbers
        go on from it.
    """

    id: str
    lon: float
    lat: float
    territory_ids: frozenset[str]
    skills: frozenset[str]
    shift_start: datetime
    shift_end: datetime
    busy_until: datetime | None = None
    load: int = 0


@dataclass(frozen=True)
class Assignment:
    """One job given to one crew. ``distance_m``: straight line from the stop before. Times are UTC."""

    job_id: str
    crew_id: str
    sequence: int
    arrive_at: datetime
    leave_at: datetime
    distance_m: float
    why: dict[str, Any]


class Unassigned(NamedTuple):
    """A job nobody got: ``reason`` is one of :data:`REASONS`, ``detail`` a sentence for the dispatcher."""

    job_id: str
    reason: str
    detail: str


@dataclass(frozen=True)
class Plan:
    """Assignments by crew and sequence, refusals by job id."""

    assignments: list[Assignment]
    unassigned: list[Unassigned]


@dataclass
class _Stop:
    job: PlanJob
    lon: float
    lat: float
    rank: tuple[int, int, int]
    leg: Leg
    arrive: datetime
    leave: datetime
    rule: str = ""
    considered: int = 0


@dataclass
class _Route:
    crew: PlanCrew
    start: datetime
    stops: list[_Stop] = field(default_factory=list)

    def is_full_for(self, service: timedelta) -> bool:
        """Whether another ``service`` on site cannot fit anywhere. A detour costs time; only a wait for a window could
        take it up."""
        waits = any(stop.job.earliest for stop in self.stops)
        return not waits and bool(self.stops) and self.stops[-1].leave + service > self.crew.shift_end


class _Place(NamedTuple):
    """A way to put a job into a route: its position and what that costs."""

    route: _Route
    position: int
    added_min: float
    arrive: datetime
    to_job: Leg
    from_job: Leg | None


def plan(jobs: Sequence[PlanJob], crews: Sequence[PlanCrew], now: datetime, travel: TravelTimes) -> Plan:
    """Assign ``jobs`` to ``crews`` from ``now`` on.

    :raises ValueError: an id occurs twice.
    """
    for what, ids in (("job", [j.id for j in jobs]), ("crew", [c.id for c in crews])):
        if len(ids) != len(set(ids)):
            raise ValueError(f"a {what} id occurs twice")
    routes = {}
    for crew in sorted(crews, key=attrgetter("id")):
        starts = [now, crew.shift_start] + ([crew.busy_until] if crew.busy_until else [])
        routes[crew.id] = _Route(crew, max(starts))
    in_territory: dict[str, list[_Route]] = {}
    for route in routes.values():
        for territory_id in route.crew.territory_ids:
            in_territory.setdefault(territory_id, []).append(route)
    unassigned = []
    for job in sorted(jobs, key=_order):
        refusal = _assign(job, routes, in_territory, now, travel)
        if refusal:
            unassigned.append(Unassigned(job.id, *refusal))
    assignments = [a for route in routes.values() for a in _assignments(route)]
    return Plan(assignments, sorted(unassigned))


def _rank(job: PlanJob) -> tuple[int, int, int]:
    return (0 if job.pinned_crew else 1, 0 if job.hazard else 1, job.priority)


def _order(job: PlanJob) -> tuple[Any, ...]:
    far = float("inf")
    latest = job.latest.timestamp() if job.latest else far
    earliest = job.earliest.timestamp() if job.earliest else far
    return (*_rank(job), latest, earliest, job.id)


def _assign(
    job: PlanJob, routes: dict[str, _Route], in_territory: dict[str, list[_Route]], now: datetime, travel: TravelTimes
) -> tuple[str, str] | None:
    """Put the job where it fits best; otherwise the reason and detail of its refusal."""
    if job.lon is None or job.lat is None or lonlat_fault(job.lon, job.lat):
        return "no_place", "the job has no usable coordinates"
    if job.pinned_crew:
        if job.pinned_crew not in routes:
            return "no_shift_time", f"the pinned crew {job.pinned_crew} is not on shift"
        crews = [routes[job.pinned_crew]]
    elif job.territory_id is None:
        return "no_territory", "the job lies in no territory"
    else:
        crews = in_territory.get(job.territory_id, [])
        if not crews:
            return "no_crew_in_territory", f"no crew on shift serves territory {job.territory_id}"
    skilled = [route for route in crews if job.skill in route.crew.skills]
    if not skilled:
        return "no_skill", f"{_crews(len(crews))} on shift in the territory, none with the skill {job.skill}"
    if job.latest and job.latest < now:
        return "window_missed", "the time window ended before the plan was made"
    best = _best(job, skilled, travel, obey_window=True)
    if best is None:
        if (job.latest or job.earliest) and _best(job, skilled, travel, obey_window=False):
            return "window_missed", f"{_crews(len(skilled))} could come, but not inside the time window"
        return "no_shift_time", f"{_crews(len(skilled))} of the territory with the skill, and no shift time left"
    rule = "pinned" if job.pinned_crew else "soonest_arrival" if _urgent(job) else "nearest_crew"
    _insert(best, job, rule, len(skilled))
    return None


def _crews(number: int) -> str:
    return "one crew" if number == 1 else f"{number} crews"


def _urgent(job: PlanJob) -> bool:
    return job.hazard or job.priority <= 1


def _best(job: PlanJob, routes: list[_Route], travel: TravelTimes, *, obey_window: bool) -> _Place | None:
    """The cheapest way to fit the job in, over all ``routes``: one bulk question to the travel provider."""
    points: list[tuple[float, float]] = []
    for route in routes:
        points += [(route.crew.lon, route.crew.lat), *((stop.lon, stop.lat) for stop in route.stops)]
    assert job.lon is not None and job.lat is not None
    there = travel.legs([p[0] for p in points], [p[1] for p in points], job.lon, job.lat, job.site_class)
    best: tuple[tuple[Any, ...], _Place] | None = None
    offset = 0
    for route in routes:
        legs = there[offset : offset + len(route.stops) + 1]
        offset += len(legs)
        for place in _places(job, route, legs, travel, obey_window=obey_window):
            ends = (place.arrive, place.added_min) if _urgent(job) else (round(place.added_min, 3), place.arrive)
            key = (*ends, route.crew.load + len(route.stops), route.crew.id, place.position)
            if best is None or key < best[0]:
                best = (key, place)
    return best[1] if best else None


def _places(job: PlanJob, route: _Route, legs: list[Leg], travel: TravelTimes, *, obey_window: bool) -> list[_Place]:
    """Every position in ``route`` at which the job fits without breaking a shift or a window; ``legs[i]`` leads to the
    job from the i-th point of the route (0: its start)."""
    rank = _rank(job)
    first = max((i + 1 for i, stop in enumerate(route.stops) if stop.rank < rank), default=0)
    service = timedelta(minutes=job.service_min)
    if route.is_full_for(service):
        return []
    found = []
    for position in range(len(route.stops), first - 1, -1):
        before = route.stops[position - 1].leave if position else route.start
        arrive = _arrive(before, legs[position].minutes, job, obey_window)
        if arrive is None or arrive + service > route.crew.shift_end:
            continue
        onward = None
        added = legs[position].minutes
        if position < len(route.stops):
            following = route.stops[position]
            assert job.lon is not None and job.lat is not None
            onward = travel.legs([job.lon], [job.lat], following.lon, following.lat, following.job.site_class)[0]
            added += onward.minutes - following.leg.minutes
            if not _rest_fits(route, position, arrive + service, onward.minutes):
                continue
        found.append(_Place(route, position, added, arrive, legs[position], onward))
    return found


def _arrive(free: datetime, minutes: float, job: PlanJob, obey_window: bool = True) -> datetime | None:
    """When work can begin there: not before the window opens; ``None`` when it has closed by then."""
    arrive = free + timedelta(minutes=minutes)
    if not obey_window:
        return arrive
    if job.earliest and arrive < job.earliest:
        arrive = job.earliest
    return None if job.latest and arrive > job.latest else arrive


def _rest_fits(route: _Route, position: int, free: datetime, minutes: float) -> bool:
    """Whether the stops from ``position`` on keep their windows and the shift when the crew is free that late."""
    for number in range(position, len(route.stops)):
        stop = route.stops[number]
        arrive = _arrive(free, minutes if number == position else stop.leg.minutes, stop.job)
        if arrive is None:
            return False
        free = arrive + timedelta(minutes=stop.job.service_min)
    return free <= route.crew.shift_end


def _insert(place: _Place, job: PlanJob, rule: str, considered: int) -> None:
    assert job.lon is not None and job.lat is not None
    leave = place.arrive + timedelta(minutes=job.service_min)
    stop = _Stop(job, job.lon, job.lat, _rank(job), place.to_job, place.arrive, leave, rule, considered)
    stops = place.route.stops
    if place.from_job is not None:
        stops[place.position].leg = place.from_job
    stops.insert(place.position, stop)
    for number in range(place.position + 1, len(stops)):
        arrive = _arrive(stops[number - 1].leave, stops[number].leg.minutes, stops[number].job)
        assert arrive is not None  # _rest_fits has walked the same way
        stops[number].arrive = arrive
        stops[number].leave = arrive + timedelta(minutes=stops[number].job.service_min)


def _assignments(route: _Route) -> list[Assignment]:
    result = []
    for number, stop in enumerate(route.stops, route.crew.load + 1):
        why = {
            "rule": stop.rule,
            "distance_m": round(stop.leg.distance_m),
            "travel_min": round(stop.leg.minutes, 1),
            "considered": stop.considered,
        }
        arrive, leave = stop.arrive.replace(microsecond=0), stop.leave.replace(microsecond=0)
        result.append(Assignment(stop.job.id, route.crew.id, number, arrive, leave, round(stop.leg.distance_m, 1), why))
    return result
