from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from fieldsvc.geo.inserting import Standing, put_in
from fieldsvc.geo.model import Break, Goals, PlanCrew, PlanJob, Route, Window
from fieldsvc.geo.planner import plan
from tests.unit.geo.test_planner import NOW, QUICK, TRAVEL, at, crew, job


def put(one: PlanCrew, standing: Sequence[Standing], *more: PlanJob, goals: Goals = QUICK) -> Route | None:
    """The day with ``more`` in it, beside what the planner finds for the same jobs."""
    jobs = [replace(held.job, crew_id=one.id, pinned=True) for held in standing]
    (found,) = plan([*jobs, *more], [one], NOW, TRAVEL, goals).routes
    return put_in(one, standing, more, found.stops, NOW, TRAVEL, goals)


def begins(route: Route | None) -> dict[str, float]:
    """Job → the minute it begins at, in the order of the route."""
    assert route is not None
    return {stop.job_id: (stop.begin_at - NOW).total_seconds() / 60 for stop in route.stops}


def stands(ident: str, km: float, start: float, *, fixed: bool = False, **more: Any) -> Standing:
    return Standing(job(ident, km, **more), at(start), fixed)


ONE = crew("one")


def test_what_has_no_haste_goes_where_it_moves_nothing_and_then_where_it_drives_least() -> None:
    day = [stands("a", 10, 30), stands("b", 20, 180)]
    route = put(ONE, day, job("new", 20, service_min=20))
    assert begins(route) == pytest.approx({"a": 30, "new": 100, "b": 180}, abs=0.1)
    assert route is not None and [stop.sequence for stop in route.stops] == [1, 2, 3]
    assert route.stops[1].why["added_min"] == 0.0 and route.stops[1].distance_m == pytest.approx(10_000, rel=0.01)
    assert begins(put(ONE, day, job("new", 20))) == pytest.approx({"a": 30, "new": 100, "b": 180}, abs=0.1)
    assert list(begins(put(ONE, day, job("new", 20, service_min=90)))) == ["a", "b", "new"], "it would push b"


def test_an_emergency_is_first_and_the_others_keep_their_order_and_give_way_no_further_than_they_must() -> None:
    day = [stands("far", 30, 40), stands("near", 5, 130), stands("late", 6, 400)]
    route = put(ONE, day, job("new", 1, tier="hazard"))
    assert begins(route) == pytest.approx({"new": 1, "far": 90, "near": 175, "late": 400}, abs=0.5)
    assert begins(put(ONE, [stands("h", 1, 1, tier="hazard")], job("new", 2, tier="emergency"))) == pytest.approx(
        {"h": 1, "new": 62}, abs=0.1
    ), "a hazard is not put off by less"


def test_what_stands_before_it_keeps_its_time_even_if_the_crew_has_slipped() -> None:
    slipped = [stands("a", 30, -20), stands("b", 31, 91 - 0.5)]
    assert begins(put(ONE, slipped, job("new", 31))) == pytest.approx({"a": -20, "b": 90.5, "new": 151}, abs=0.6)


def test_several_go_in_by_rank() -> None:
    assert list(begins(put(ONE, [stands("a", 5, 5)], job("low", 6), job("high", 7, tier="hazard")))) == [
        "high",
        "a",
        "low",
    ]


def test_where_the_order_leaves_no_time_one_other_job_goes_to_another_place() -> None:
    short = replace(ONE, shift=Window(NOW, at(325)))
    day = [stands("east", 30, 30), stands("west", -30, 150)]
    new = job("new", -30, tier="hazard")
    assert begins(put(short, day, new)) == pytest.approx({"new": 30, "west": 90, "east": 210}, abs=0.5)
    held = [day[0], replace(day[1], fixed=True)]
    assert begins(put(ONE, held, job("new", -30))) == pytest.approx({"east": 30, "west": 150, "new": 210}, abs=0.5)


def test_an_emergency_puts_off_what_ranks_below_it_and_nothing_else() -> None:
    day = [stands("lines", 1, 1, tier="emergency", customers=5), stands("one", 2, 62, tier="emergency")]
    found = begins(put(ONE, day, job("new", 1, tier="emergency", customers=2)))
    assert found == pytest.approx({"lines": 1, "new": 61, "one": 122}, abs=0.5)


@pytest.mark.parametrize(
    ("day", "new"),
    [
        ([stands("a", 1, 1, fixed=True)], job("new", 0, tier="hazard")),
        ([stands("far", 60, 61), stands("b", 0, 200, due=at(90))], job("new", 0, tier="hazard", service_min=30)),
        ([stands("a", 1, 400, windows=(Window(at(0), at(420)),))], job("new", 0, service_min=450, tier="hazard")),
    ],
    ids=["another crew goes by it", "a promise that the search would keep", "a window"],
)
def test_where_the_order_cannot_stay_nothing_is_said(day: list[Standing], new: PlanJob) -> None:
    jobs = [replace(one.job, crew_id="one", pinned=True) for one in day]
    found = plan([*jobs, new], [ONE], NOW, TRAVEL, QUICK).stops
    assert put_in(ONE, day, [new], found, NOW, TRAVEL, QUICK) is None


def test_breaks_are_kept_and_windows_that_do_not_hold_are_not() -> None:
    pausing = replace(ONE, breaks=(Break(at(60), at(90), 30),))
    assert begins(put(pausing, [stands("a", 1, 1)], job("new", 1))) == pytest.approx({"a": 1, "new": 91}, abs=0.1)
    off = replace(QUICK, off=frozenset({"window"}))
    shut = job("new", 1, windows=(Window(at(200), at(210)),))
    assert begins(put(ONE, [stands("a", 1, 30)], shut, goals=off)) == pytest.approx({"a": 30, "new": 90}, abs=0.1)
