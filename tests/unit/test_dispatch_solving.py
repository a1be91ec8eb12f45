"""What a run that puts one job in, or does without one crew, may touch: on days that a plan has filled before."""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import replace
from datetime import UTC, timedelta
from itertools import pairwise
from typing import Any

import pytest

from fieldsvc.geo import planner
from fieldsvc.geo.inserting import SAME_TIME
from fieldsvc.geo.model import Plan, PlanJob, Stop, Window
from fieldsvc.work.dispatch.basis import Asked, Work
from fieldsvc.work.dispatch.days import Day
from fieldsvc.work.dispatch.solving import Basis, solved
from tests.unit.geo.test_planner import NOW, QUICK, TRAVEL, at, crew, job

CREWS = [crew(name, km) for name, km in (("a", 0), ("b", 20), ("c", 40))]
ASKED = Asked(NOW, Window(NOW, NOW + timedelta(hours=24)), UTC, NOW)


def work(one: PlanJob, crew_id: str | None, start: Any = None, order: int | None = None) -> Work:
    held = replace(one, crew_id=crew_id, pinned=crew_id is not None)
    return Work(held, [], "dispatched" if crew_id else "waiting_to_be_scheduled", crew_id, start, order, False)


def some(draw: random.Random, number: int) -> PlanJob:
    tier = draw.choice(["planned", "planned", "at_risk", "emergency"])
    due = at(draw.randrange(30, 480)) if tier != "planned" else None
    opens = draw.randrange(0, 300)
    windows = (Window(at(opens), at(opens + 120)),) if draw.random() < 0.2 else ()
    km, minutes = draw.randrange(-20, 60), draw.choice([20, 40, 60, 90])
    return job(f"j{number}", km, tier=tier, due=due, windows=windows, service_min=minutes)


def a_day(seed: int) -> Basis:
    """Days as a plan has made them, some of their times shifted since, and a job to be put in."""
    draw = random.Random(seed)
    jobs = [some(draw, number) for number in range(draw.randrange(6, 18))]
    for number in range(1, len(jobs)):
        if draw.random() < 0.1:
            jobs[number] = replace(jobs[number], **{draw.choice(["follows", "assists"]): f"j{number - 1}"})
    made = planner.plan(jobs, CREWS, NOW, TRAVEL, QUICK)
    by_id = {one.id: one for one in jobs}
    works = []
    for route in made.routes:
        for stop in route.stops:
            later = timedelta(minutes=draw.choice([0, 0, 10, -15]))
            works.append(work(by_id[stop.job_id], route.crew_id, stop.begin_at + later, stop.sequence))
    new = job("new", draw.randrange(-20, 60), tier=draw.choice(["hazard", "emergency", "planned"]), due=at(60))
    held: dict[str, list[Work]] = defaultdict(list)
    for one in works:
        held[one.crew_id or ""].append(one)
    days = [Day(one, free=held[one.id]) for one in CREWS]
    kept = frozenset(one.job.id for one in works)
    everything = [work(new, None), *works]
    return Basis("insert", ASKED, everything, days, kept, CREWS, [], QUICK, [])


def planned(made: Plan) -> dict[str, tuple[str, Any]]:
    return {stop.job_id: (stop.crew_id, stop.begin_at) for stop in made.stops}


def without_a(basis: Basis) -> Basis:
    """The same days without crew a, whose work looks for others."""
    works = [
        replace(one, job=replace(one.job, pinned=False)) if one.crew_id == "a" else one
        for one in basis.works
        if one.crew_id is not None
    ]
    kept = frozenset(one.job.id for one in works if one.job.pinned)
    return replace(basis, mode="crew_out", works=works, days=basis.days[1:], crews=CREWS[1:], kept=kept)


@pytest.mark.parametrize("mode", ["insert", "crew_out"])
@pytest.mark.parametrize("seed", [*range(12), 130, 237, 533, 632, 839, 861])
def test_nothing_is_touched_without_need_and_nothing_gets_lost(seed: int, mode: str) -> None:
    basis = a_day(seed) if mode == "insert" else without_a(a_day(seed))
    narrowed, made = solved(basis, TRAVEL, planner.plan)
    before = {one.job.id: one for one in basis.works}
    after = planned(made)
    left = {one.job_id for one in made.unassigned}
    decided = {one.job.id for one in narrowed.works}
    assert decided == after.keys() | left and not after.keys() & left
    assert {one.job.id for one in basis.works if not one.job.pinned} <= decided
    touched = {crew_id for crew_id, _ in after.values()}
    linked = any(one.job.follows or one.job.assists for one in basis.works)
    getting = {crew_id for job_id, (crew_id, _) in after.items() if crew_id != before[job_id].crew_id}
    assert touched == getting or linked, "only who gets something, but for work that goes together"
    assert all(one.job.id in decided for one in basis.works if one.crew_id in touched), "a day is told whole"
    days: dict[str, list[Stop]] = defaultdict(list)
    for stop in made.stops:
        days[stop.crew_id].append(stop)
    for stops in days.values():
        for one, then in pairwise(sorted(stops, key=lambda stop: stop.sequence)):
            both_stay = all(stop.begin_at == before[stop.job_id].start for stop in (one, then))
            assert one.leave_at <= then.begin_at or both_stay
    order_holds(before, {one: after[one][1] if one in after else None for one in decided})


def order_holds(before: dict[str, Work], after: dict[str, Any]) -> None:
    """What was done in order, or together, still is."""
    begins = {job_id: after.get(job_id, one.start) for job_id, one in before.items()}
    for job_id, one in before.items():
        for other, ends in ((one.job.follows, True), (one.job.assists, False)):
            was, now = begins.get(other or ""), begins[job_id]
            if other is None or was is None or now is None:
                continue
            lasting = timedelta(minutes=before[other].job.service_min if ends else 0)
            assert one.start is not None and before[other].start is not None
            if ends and one.start >= before[other].start + lasting:
                assert now >= was + lasting - SAME_TIME
            if not ends and one.start == before[other].start:
                assert abs(now - was) < SAME_TIME
