"""The nearest crew takes it: the planner we had before a solver, on today's jobs and crews.

Jobs in order of rank, customers, priority, what is promised, and id; each is put where it costs the crews the least
extra driving, never in front of a job that outranks it. What must be soonest goes to the crew that can be there first.
It keeps every hard rule the comparison has: skills, equipment, territories, windows, capacity, shift and the way home.
A promise counts as a window first; for what does not fit that way, it is given up and all of it is done once more.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, NamedTuple

from bench.walk import Day
from fieldsvc.geo.model import PlanCrew, PlanJob


class _Where(NamedTuple):
    """A way to put a job into a crew's route: its place there, what it adds in seconds, when work begins."""

    crew_id: str
    place: int
    added: int
    begin: datetime


def plan(day: Day) -> dict[str, list[str]]:
    """Job ids in order by crew id."""
    broken: set[str] = set()
    while True:
        routes: dict[str, list[PlanJob]] = {crew.id: [] for crew in day.crews}
        missed = set()
        for job in sorted(day.jobs, key=lambda job: _order(day, job)):
            where = _best(day, job, routes, broken)
            if where:
                routes[where.crew_id].insert(where.place, job)
            elif job.due and job.id not in broken:
                missed.add(job.id)
        if not missed:
            return {crew_id: [job.id for job in route] for crew_id, route in routes.items()}
        broken |= missed


def _rank(day: Day, job: PlanJob) -> int:
    return day.goals.tiers[job.tier].rank


def _order(day: Day, job: PlanJob) -> tuple[Any, ...]:
    due = job.due.timestamp() if job.due else float("inf")
    return _rank(day, job), -job.customers, job.priority, due, job.id


def _best(day: Day, job: PlanJob, routes: dict[str, list[PlanJob]], broken: set[str]) -> _Where | None:
    soonest = day.goals.tiers[job.tier].soonest
    found: tuple[tuple[Any, ...], _Where] | None = None
    for crew in day.crews:
        if not day.able(job, crew):
            continue
        route = routes[crew.id]
        if crew.capacity is not None and sum(one.load for one in route) + job.load > crew.capacity:
            continue
        first = max((at + 1 for at, one in enumerate(route) if _rank(day, one) < _rank(day, job)), default=0)
        for place in range(first, len(route) + 1):
            where = _put(day, job, crew, route, place, broken)
            if where is None:
                continue
            cost = (where.begin, where.added) if soonest else (where.added, where.begin)
            key = (*cost, len(route), crew.id, place)
            if found is None or key < found[0]:
                found = (key, where)
    return found[1] if found else None


def _put(day: Day, job: PlanJob, crew: PlanCrew, route: list[PlanJob], place: int, broken: set[str]) -> _Where | None:
    """The job at ``place`` of the route; None when a window, a promise still held or the shift would be broken."""
    start, end, _ = day.crew[crew.id]
    at, clock, began = start, day.begins(crew), None
    for number, one in enumerate([*route[:place], job, *route[place:]]):
        row = day.job[one.id][0]
        begin = _begin(one, clock + timedelta(seconds=int(day.seconds[at, row])), one.id in broken)
        if begin is None:
            return None
        if number == place:
            began = begin
        at, clock = row, begin + timedelta(minutes=one.service_min)
    if day.goals.return_to_base:
        clock += timedelta(seconds=int(day.seconds[at, end]))
    if clock > crew.shift.end + timedelta(minutes=day.goals.overtime_min):
        return None
    assert began is not None
    row = day.job[job.id][0]
    before = day.job[route[place - 1].id][0] if place else start
    added = int(day.seconds[before, row])
    if place < len(route) or day.goals.return_to_base:
        after = day.job[route[place].id][0] if place < len(route) else end
        added += int(day.seconds[row, after]) - (int(day.seconds[before, after]) if route else 0)
    return _Where(crew.id, place, added, began)


def _begin(job: PlanJob, arrive: datetime, broken: bool) -> datetime | None:
    """When work can begin there; None when it is too late for that."""
    begin: datetime | None = arrive
    if job.windows:
        begin = next((max(arrive, window.start) for window in job.windows if window.end >= arrive), None)
    if begin is None or (job.due and not broken and begin > job.due):
        return None
    return begin
