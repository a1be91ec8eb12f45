"""One area solved. Where one job or one crew is the matter, only the days of those who get something are made anew.

A search over whole days drives a little less and changes everybody's order, which nobody asked for. So the solver says
who gets what; a day that gets nothing stays as it stands, and what keeps its time breaks no promise.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from fieldsvc.geo import inserting
from fieldsvc.geo.inserting import Standing
from fieldsvc.geo.model import Goals, Plan, PlanCrew, PlanJob, Route, Stop
from fieldsvc.geo.travel import TravelTimes
from fieldsvc.work.dispatch.basis import Asked, Work
from fieldsvc.work.dispatch.days import Day

Solver = Callable[[Sequence[PlanJob], Sequence[PlanCrew], datetime, TravelTimes, Goals], Plan]
MOST_ROUNDS = 4
"""What gives way to one job may push out another; so often it is asked who could take that."""
GIVES_WAY = ("window_missed", "no_second_crew", "predecessor_unplanned", "no_shift_time", "outranked")
"""Reasons for which a job may no longer fit where it is because of another. For any other it did not fit before."""


@dataclass(frozen=True)
class Basis:
    """What one area is planned on. ``works``: what the plan decides about; ``kept``: ids of those that stay with their
    crew unless they no longer fit there. ``out``: the days of crews that the run does without. ``mode``: that of the
    run, or ``border``."""

    mode: str
    asked: Asked
    works: list[Work]
    days: list[Day]
    kept: frozenset[str]
    crews: list[PlanCrew]
    ahead: list[PlanJob]
    goals: Goals
    out: list[Day]


def solved(basis: Basis, travel: TravelTimes, plan: Solver) -> tuple[Basis, Plan]:
    """The plan, and the basis without what it leaves exactly as it stands."""
    crews = [crew for crew in basis.crews if crew.shift.end > basis.asked.span.start]
    if basis.mode not in ("insert", "crew_out"):
        jobs = [work.job for work in basis.works]
        return basis, plan([*jobs, *basis.ahead], crews, basis.asked.span.start, travel, basis.goals)
    loose: frozenset[str] = frozenset()
    for _ in range(MOST_ROUNDS):
        found = _Given(basis, crews, travel, plan, loose)
        routes, touched = _routes(basis, found, travel)
        left = found.without_room(touched)
        if not left & basis.kept - loose:
            break
        loose |= left & basis.kept
    ahead = {job.id for job in basis.ahead}
    planned = {stop.job_id for route in routes for stop in route.stops} - ahead
    decided = planned | {one.job_id for one in found.made.unassigned if one.job_id in found.given | left}
    made = replace(
        found.made,
        routes=tuple(sorted(routes, key=lambda route: route.crew_id)),
        unassigned=tuple(one for one in found.made.unassigned if one.job_id in decided),
    )
    return _narrowed(basis, decided, touched), made


class _Given:
    """Who gets what: the job or the jobs that the run is about, and whatever has to give way to them.

    :param loose: jobs that are known to have to give way.
    :ivar made: the solver's plan for everybody. ``given``: the jobs that look for a crew; ``getting``: the days that
        get one of them.
    """

    def __init__(
        self,
        basis: Basis,
        crews: Sequence[PlanCrew],
        travel: TravelTimes,
        plan: Solver,
        loose: Collection[str],
    ) -> None:
        self.day_of = {work.job.id: day.crew.id for day in basis.days for work in day.free}
        wanted = {w.job.id for w in basis.works if not w.job.pinned or w.job.id not in self.day_of}
        self.given = wanted.union(loose)
        linked = {one for one, _ in _links(basis)}
        jobs = {work.job.id: work.job for work in basis.works}
        jobs |= {job_id: replace(jobs[job_id], pinned=False) for job_id in loose}
        first: dict[str, Stop] = {}
        for turn in range(MOST_ROUNDS):
            made = plan([*jobs.values(), *basis.ahead], crews, basis.asked.span.start, travel, basis.goals)
            stops = [stop for stop in made.stops if stop.job_id in self.given]
            self.getting = {
                stop.crew_id for stop in stops if stop.job_id in wanted or self.day_of.get(stop.job_id) != stop.crew_id
            }
            self.made = _as_first(made, first)
            more = self.without_room(self.getting) & basis.kept
            if not more or turn == MOST_ROUNDS - 1:
                return
            if not turn:
                first = {stop.job_id: stop for stop in stops}
                jobs |= {i: replace(jobs[i], crew_id=stop.crew_id, pinned=True) for i, stop in first.items()}
            jobs |= {job_id: replace(jobs[job_id], pinned=False) for job_id in more}
            self.given |= more
            # Whose own work does not fit takes none of it; but what waits for another job may only lack that one.
            out = {one.job_id for one in made.unassigned} - linked
            full = {self.day_of[job_id] for job_id in out if job_id in self.day_of} - self.getting
            crews = [crew for crew in crews if crew.id not in full]

    def without_room(self, days: Collection[str]) -> frozenset[str]:
        """What no longer fits into the day it stands in, of these days."""
        out = (one.job_id for one in self.made.unassigned if one.reason in GIVES_WAY)
        return frozenset(job_id for job_id in out if job_id not in self.given and self.day_of.get(job_id) in days)


def _as_first(made: Plan, first: Mapping[str, Stop]) -> Plan:
    """The plan with the reasons for which its jobs were given before they were held there."""

    def told(stop: Stop) -> Stop:
        if stop.job_id not in first:
            return stop
        why = {name: first[stop.job_id].why[name] for name in ("rule", "considered") if name in first[stop.job_id].why}
        return replace(stop, why={**stop.why, **why})

    return replace(made, routes=tuple(replace(one, stops=tuple(map(told, one.stops))) for one in made.routes))


def _routes(basis: Basis, found: _Given, travel: TravelTimes) -> tuple[list[Route], set[str]]:
    """The days that are another than before, and their ids: in the order they have, where that does; else as the
    solver has them, and with them the days whose work goes together with theirs. A day that is left empty has none."""
    by_solver = {route.crew_id: route for route in found.made.routes}
    now_in = {stop.job_id: stop.crew_id for stop in found.made.stops}
    links = _links(basis)
    kept: dict[str, Route] = {}
    for day, crew in zip(basis.days, basis.crews, strict=True):
        if crew.id in found.getting and basis.mode == "insert":
            route = _in_order(basis, day, crew, found, links, now_in, by_solver[crew.id].stops, travel)
            if route is not None:
                kept[crew.id] = route
    anew = found.getting - kept.keys()
    more = set(anew)
    days = found.day_of | now_in  # what the solver had no room for still stands where it is
    while more:
        beside = {days[other] for one, other in links if days.get(one) in more and other in days}
        more = beside - anew
        anew |= more
    routes = [by_solver[day_id] for day_id in sorted(anew) if day_id in by_solver]
    routes += [route for day_id, route in kept.items() if day_id not in anew]
    return routes, anew | kept.keys()


def _links(basis: Basis) -> set[tuple[str, str]]:
    """The pairs of jobs that go together or one after the other, both ways round."""
    works = {work.job.id: work.job for day in basis.days for work in day.held}
    works |= {work.job.id: work.job for work in basis.works}
    pairs = {(job.id, other) for job in works.values() for other in (job.follows, job.assists) if other}
    return pairs | {(other, one) for one, other in pairs}


def _in_order(
    basis: Basis,
    day: Day,
    crew: PlanCrew,
    found: _Given,
    links: Collection[tuple[str, str]],
    now_in: Mapping[str, str],
    stops: Sequence[Stop],
    travel: TravelTimes,
) -> Route | None:
    """The day with what it gets, in its order; None: that cannot be, or breaks more promises."""
    beside = {one for one, other in links if now_in.get(other) != crew.id}
    jobs = {work.job.id: work.job for work in basis.works} | {job.id: job for job in basis.ahead}
    here = {stop.job_id for stop in stops}
    more = {i for i in here & found.given if found.day_of.get(i) != crew.id or not jobs[i].pinned}
    held = [work for work in day.held if work.job.id in here - more]
    pending = {job.id for job in basis.ahead if job.crew_id == crew.id}
    if more & beside or not pending <= here or len(held) + len(more) != len(here):
        return None
    standing = [
        Standing(job, job.starts_at if job.id in pending else work.start, job.id in beside)
        for work in held
        for job in [jobs[work.job.id]]
    ]
    return inserting.put_in(
        crew, standing, [jobs[i] for i in sorted(more)], stops, basis.asked.span.start, travel, basis.goals
    )


def _narrowed(basis: Basis, decided: Collection[str], touched: Iterable[str]) -> Basis:
    """The basis with what was ``decided``, and the days that are another by that."""
    days = []
    for day in basis.days:
        free = [work for work in day.free if work.job.id in decided]
        if free or day.crew.id in set(touched):
            stays = [work for work in day.held if work not in free]
            days.append(Day(day.crew, stays, free))
    works = [work for work in basis.works if work.job.id in decided]
    return replace(basis, works=works, days=days)
