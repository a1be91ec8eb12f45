from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldsvc import rules
from fieldsvc.geo.goals import goals_of
from fieldsvc.geo.model import (
    HARD_RULES,
    REASONS,
    Break,
    Goals,
    Plan,
    PlanCrew,
    PlanJob,
    Stop,
    TravelReport,
    Window,
)
from fieldsvc.geo.planner import plan
from fieldsvc.geo.travel import NO_WAY, Geodesic, Matrix, Place
from fieldsvc.rules.dispatch import HARD
from tests.plancheck import faults

NOW = datetime(2026, 11, 20, 0, 0, tzinfo=UTC)
TRAVEL = Geodesic({"urban": 60.0}, factor=1.0)  # a kilometre a minute
QUICK = Goals(effort=0)
KM = 1 / 91.3
"""Degrees of longitude that are a kilometre at 35° north."""


def at(minutes: float) -> datetime:
    return NOW + timedelta(minutes=minutes)


def job(ident: str, km: float = 0.0, **more: Any) -> PlanJob:
    facts: dict[str, Any] = {
        "territory_id": "t",
        "kind": "repair",
        "skills": frozenset({"repair"}),
        "service_min": 60.0,
    }
    return PlanJob(ident, *more.pop("place", (111.0 + km * KM, 35.0)), **facts | more)


def crew(ident: str, km: float = 0.0, **more: Any) -> PlanCrew:
    facts: dict[str, Any] = {
        "home": frozenset({"t"}),
        "skills": frozenset({"repair"}),
        "shift": Window(NOW, at(480)),
    }
    return PlanCrew(ident, *more.pop("place", (111.0 + km * KM, 35.0)), **facts | more)


def made(
    jobs: Sequence[PlanJob],
    crews: Sequence[PlanCrew],
    goals: Goals = QUICK,
    now: datetime = NOW,
    travel: Any = TRAVEL,
) -> Plan:
    """The plan, which is sound and does not hang on the order of the input."""
    result = plan(jobs, crews, now, travel, goals)
    assert faults(jobs, crews, now, travel, result, goals) == []
    assert plan(list(jobs)[::-1], list(crews)[::-1], now, travel, goals) == result
    return result


def stops(result: Plan) -> dict[str, Stop]:
    return {stop.job_id: stop for stop in result.stops}


def left(result: Plan) -> dict[str, str]:
    return {one.job_id: one.reason for one in result.unassigned}


def refusal(one: PlanJob, *crews: PlanCrew, **more: Any) -> tuple[str, str]:
    result = made([one], crews, **more)
    assert not result.routes
    return result.unassigned[0].reason, result.unassigned[0].detail


# -- one job, one crew ---------------------------------------------------------------------------------------------


def test_the_crew_that_drives_least_for_it_gets_the_job_and_the_plan_says_why() -> None:
    result = made([job("j", 10)], [crew("far", 40), crew("near", 20), crew("other", 10, home=frozenset("x"))])
    (stop,) = result.stops
    assert (stop.crew_id, stop.sequence) == ("near", 1)
    assert stop.why["rule"] == "least_added_driving"
    assert stop.why["considered"] == 2
    assert stop.distance_m == pytest.approx(10_000, abs=20)
    assert stop.travel_min == pytest.approx(10, abs=0.1)
    assert stop.begin_at == stop.arrive_at == at(0) + timedelta(seconds=round(stop.travel_min * 60))
    assert stop.leave_at - stop.begin_at == timedelta(minutes=60)
    (route,) = result.routes
    assert (route.distance_m, route.travel_min) == (stop.distance_m, stop.travel_min)


def test_the_way_home_counts_and_has_to_fit_in() -> None:
    home = {"end_lon": 111.0, "end_lat": 35.0}
    (route,) = made([job("j", 10)], [crew("a", **home)]).routes
    assert route.distance_m == pytest.approx(20_000, abs=40)
    assert route.end_at == route.stops[0].leave_at + timedelta(seconds=round(route.stops[0].travel_min * 60))
    assert len(made([job("j", 10, service_min=459.9)], [crew("a", **home)]).stops) == 1
    assert refusal(job("j", 10, service_min=460.1), crew("a", **home))[0] == "no_shift_time"
    free = replace(QUICK, return_to_base=False)
    assert len(made([job("j", 10, service_min=469.9)], [crew("a", **home)], free).stops) == 1


def test_order_numbers_go_on_from_what_the_crew_holds() -> None:
    result = made([job("a"), job("b", 1)], [crew("c", load=3)])
    assert sorted(stop.sequence for stop in result.stops) == [4, 5]


def test_an_id_that_occurs_twice_is_an_error_of_the_caller() -> None:
    with pytest.raises(ValueError, match="job id"):
        plan([job("j"), job("j")], [], NOW, TRAVEL)
    with pytest.raises(ValueError, match="crew id"):
        plan([], [crew("c"), crew("c")], NOW, TRAVEL)


# -- refusals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", [(None, 35.0), (111.0, None), (200.0, 35.0), (0, 0), (float("nan"), 35.0)])
def test_without_a_usable_place_nobody_can_be_sent(place: tuple[Any, Any]) -> None:
    assert refusal(job("j", place=place), crew("a"))[0] == "no_place"


@pytest.mark.parametrize(
    ("facts", "crews", "reason", "words"),
    [
        ({"territory_id": None}, {}, "no_territory", "no territory"),
        ({"tier": "urgent"}, {}, "unknown_tier", "urgent"),
        ({"territory_id": "x"}, {}, "no_crew_in_territory", "one crew on shift serves territory x"),
        ({"skills": frozenset({"repair", "welding"})}, {}, "no_skill", "none with welding"),
        ({"equipment": frozenset({"crane"})}, {}, "no_equipment", "none carries crane"),
        ({"load": 4}, {"capacity": 3}, "no_capacity", "needs 4 units of load, the largest vehicle holds 3"),
        ({"windows": (Window(at(60), at(30)),)}, {}, "window_impossible", "before it begins"),
        ({"windows": (Window(at(-60), at(-1)),)}, {}, "window_missed", "before the plan begins"),
        ({"windows": (Window(at(481), at(500)),)}, {}, "window_impossible", "outside of every shift"),
        ({"windows": (Window(at(430), at(440)),)}, {}, "window_missed", "not inside"),
        ({"windows": (Window(at(0), at(5)),)}, {"free_at": at(6)}, "window_impossible", "outside of every shift"),
        (
            {"windows": (Window(at(0), at(5)),)},
            {"place": (111.1, 35.0)},
            "window_missed",
            "would be there 2026-11-20 00:09",
        ),
        ({"service_min": 481.0}, {}, "no_shift_time", "do not fit; the longest shift has 480 left"),
        ({"pinned": True, "crew_id": "gone"}, {}, "pinned_crew_away", "gone"),
        ({}, {"shift": Window(at(-480), at(0))}, "no_shift_time", "no shift has time left"),
        ({}, {"place": (None, None)}, "no_crew_base", "without a base or position"),
        ({"follows": "j"}, {}, "predecessor_unplanned", "wait for it"),
    ],
)
def test_every_refusal_names_its_reason_and_the_numbers(
    facts: dict[str, Any], crews: dict[str, Any], reason: str, words: str
) -> None:
    got, detail = refusal(job("j", **facts), crew("a", **crews))
    assert got == reason
    assert words in detail


def test_a_window_may_be_met_on_its_last_second_and_a_shift_used_up_to_its_end() -> None:
    assert len(made([job("j", windows=(Window(at(-5), at(0)),))], [crew("a")]).stops) == 1
    assert len(made([job("j", windows=(Window(at(420), at(500)),))], [crew("a")]).stops) == 1
    assert len(made([job("j", service_min=480)], [crew("a")]).stops) == 1


def test_one_bad_job_or_crew_keeps_nobody_else_from_being_planned() -> None:
    jobs = [job("good"), job("nowhere", place=(0, 0)), job("when", windows=(Window(at(9), at(1)),)), job("x", tier="?")]
    crews = [crew("a"), crew("b", place=(None, None), code="B7"), crew("c", place=(500.0, 0.0))]
    result = made(jobs, crews)
    assert stops(result).keys() == {"good"}
    assert left(result) == {"nowhere": "no_place", "when": "window_impossible", "x": "unknown_tier"}
    assert any("B7" in note for note in result.notes)
    assert any("crew c" in note for note in result.notes)


def test_nothing_to_plan_is_a_plan() -> None:
    assert made([], [crew("a")]).routes == ()
    assert refusal(job("j"))[0] == "no_crew_in_territory"


# -- hard rules and what is weighed --------------------------------------------------------------------------------


def test_the_rules_in_the_pack_are_the_goals_of_a_plan() -> None:
    goals = goals_of(rules.load().dispatch(NOW.date()))
    assert goals == Goals()
    assert {*HARD_RULES, "return_to_base"} == HARD


def test_a_hard_rule_that_is_switched_off_does_not_hold() -> None:
    odd = job(
        "j",
        territory_id=None,
        skills=frozenset({"x"}),
        equipment=frozenset({"y"}),
        load=5,
        windows=(Window(at(-9), at(-5)),),
    )
    rested = crew("a", capacity=1, breaks=(Break(at(0), at(480), 60),), shift=Window(NOW, at(90)))
    result = made([odd], [rested], replace(QUICK, off=frozenset(HARD_RULES)))
    assert len(result.stops) == 1


def test_a_crew_helps_out_where_it_may_when_that_costs_less() -> None:
    helper = crew("helper", home=frozenset({"u"}), reach={"t": 1500.0})
    near, far = crew("own", 15), crew("own", 30)
    assert stops(made([job("j")], [helper, near]))["j"].crew_id == "own"
    stop = stops(made([job("j")], [helper, far]))["j"]
    assert (stop.crew_id, stop.why["rule"], stop.why["beyond_home_m"]) == ("helper", "helping_out", 1500)


def test_one_crew_is_sent_out_rather_than_two_when_sending_costs() -> None:
    jobs, crews = [job("w", -2), job("e", 2)], [crew("a", -2), crew("b", 2)]
    assert len(made(jobs, crews).routes) == 2
    assert len(made(jobs, crews, replace(QUICK, crew_cost_min=10)).routes) == 1


def test_a_vehicle_is_not_loaded_beyond_its_capacity() -> None:
    jobs = [job(f"j{n}", n, load=2, service_min=10) for n in range(4)]
    result = made(jobs, [crew("a", capacity=5), crew("b", 20, capacity=3)])
    assert len(result.stops) == 3
    assert set(left(result).values()) == {"no_shift_time"}


def test_overtime_is_planned_only_for_what_would_be_left_out() -> None:
    jobs = [job(f"j{n}", service_min=100) for n in range(5)]
    over = replace(QUICK, overtime_min=30)
    assert len(made(jobs, [crew("a")]).stops) == 4
    (route,) = made(jobs, [crew("a")], over).routes
    assert (len(route.stops), route.overtime_min) == (5, 20.0)
    assert made(jobs[:4], [crew("a")], over).routes[0].overtime_min == 0


# -- breaks, nights, clocks ----------------------------------------------------------------------------------------


def test_a_break_is_taken_in_its_time_and_may_interrupt_a_drive() -> None:
    lunch = Break(at(30), at(40), 30)
    (stop,) = made([job("j", 60)], [crew("a", breaks=(lunch,))]).stops
    assert stop.begin_at == at(0) + timedelta(seconds=round(stop.travel_min * 60), minutes=30)
    two = made([job("a", service_min=35), job("b", service_min=35)], [crew("a", breaks=(lunch,))])
    assert sorted(stop.begin_at for stop in two.stops) == [at(0), at(65)]


def test_a_break_that_is_over_or_does_not_fit_any_more_takes_no_time() -> None:
    late = crew("a", free_at=at(60), breaks=(Break(at(10), at(50), 30), Break(at(470), at(479), 30)))
    (stop,) = made([job("j", service_min=420)], [late]).stops
    assert stop.begin_at == at(60)


def test_a_shift_over_midnight_and_over_the_change_of_clocks_is_a_shift() -> None:
    berlin_autumn = datetime(2026, 10, 24, 20, 0, tzinfo=UTC)
    night = Window(berlin_autumn, berlin_autumn + timedelta(hours=9))
    only_at_night = Window(berlin_autumn + timedelta(hours=4), berlin_autumn + timedelta(hours=8))
    hospital = job("h", windows=(only_at_night,), service_min=120)
    result = made([hospital, job("j")], [crew("a", shift=night)], now=berlin_autumn)
    assert stops(result)["h"].begin_at == only_at_night.start
    assert stops(result)["j"].begin_at == berlin_autumn


def test_a_job_stays_with_the_crew_that_has_it_unless_another_saves_driving() -> None:
    crews = [crew("a"), crew("b"), crew("c", 30)]
    assert stops(made([job("j", 5)], crews))["j"].crew_id == "a"
    assert stops(made([job("j", 5, crew_id="b")], crews))["j"].crew_id == "b"
    assert stops(made([job("j", 5, crew_id="c")], crews))["j"].crew_id == "a"


def test_a_plan_from_an_odd_moment_begins_with_the_next_second() -> None:
    odd = NOW + timedelta(microseconds=1)
    (stop,) = made([job("j")], [crew("a")], now=odd).stops
    assert stop.begin_at == NOW + timedelta(seconds=1)


# -- ranks ---------------------------------------------------------------------------------------------------------


def test_a_hazard_gets_the_crew_that_is_there_first_and_nothing_delays_it() -> None:
    jobs = [job("hazard", 30, tier="hazard"), *(job(f"p{n}", n, service_min=30) for n in range(6))]
    result = made(jobs, [crew("a"), crew("b", 50, free_at=at(5)), crew("c", 31, free_at=at(40))])
    stop = stops(result)["hazard"]
    assert (stop.crew_id, stop.why["rule"], stop.why["considered"]) == ("b", "soonest_arrival", 3)
    assert stop.begin_at <= at(25 + QUICK.soonest_slack_min + 0.2)
    assert not result.unassigned


def test_emergencies_keep_the_most_promises_where_soonest_one_by_one_breaks_some() -> None:
    facts = {"tier": "emergency", "service_min": 10.0}
    jobs = [job("near", 1, due=at(80), priority=1, **facts), job("far", -30, due=at(31), **facts)]
    begun = stops(made([*jobs, job("other", 30)], [crew("a")]))
    assert [begun[ident].late_min for ident in ("near", "far")] == [0.0, 0.0]
    assert begun["far"].why["rule"] == "most_promises"
    dark = stops(made([replace(jobs[0], customers=2), jobs[1]], [crew("a")]))
    assert dark["near"].begin_at < dark["far"].begin_at
    hazards = stops(made([replace(one, tier="hazard") for one in jobs], [crew("a")]))
    assert hazards["near"].begin_at < hazards["far"].begin_at


def test_hazards_go_by_customers_then_priority_then_promise() -> None:
    one = {"tier": "hazard", "service_min": 60.0}
    jobs = [
        job("a", due=at(50), **one),
        job("b", due=at(40), **one),
        job("c", priority=1, **one),
        job("d", customers=3, **one),
    ]
    order = sorted(made(jobs, [crew("x")]).stops, key=lambda stop: stop.begin_at)
    assert [stop.job_id for stop in order] == ["d", "c", "b", "a"]


def test_nobody_is_left_out_for_work_of_a_lower_rank() -> None:
    tiers = ["planned"] * 9 + ["at_risk"] * 3 + ["important"] * 2
    jobs = [job(f"j{n:02}", 3 * (tier != "planned"), tier=tier, service_min=110) for n, tier in enumerate(tiers)]
    result = made(jobs, [crew("a")])
    done = [tiers[int(stop.job_id[1:])] for stop in result.stops]
    assert sorted(done) == ["at_risk", "at_risk", "important", "important"]
    assert set(left(result).values()) == {"outranked"}
    details = {one.job_id: one.detail for one in result.unassigned}
    assert "4 of the 4 jobs they have go before it by rank" in details["j00"]


# -- promises ------------------------------------------------------------------------------------------------------


def test_promises_are_kept_where_they_can_be_and_missed_by_little_where_not() -> None:
    jobs = [job("a", due=at(0)), job("b", due=at(0)), job("c", 5)]
    result = made(jobs, [crew("x")])
    begun = stops(result)
    assert sorted(stop.late_min for stop in begun.values()) == [0.0, 0.0, 60.0]
    assert begun["c"].begin_at > max(begun["a"].begin_at, begun["b"].begin_at)
    late = next(stop for stop in result.stops if stop.late_min)
    assert late.why["late_min"] == 60.0


def test_a_promise_broken_already_is_late_not_lost() -> None:
    (stop,) = made([job("j", due=at(-600))], [crew("a")]).stops
    assert stop.late_min == 600.0


# -- pins, order, two crews ----------------------------------------------------------------------------------------


def test_a_pinned_job_stays_with_its_crew_wherever_that_is_at_home() -> None:
    pinned = job("j", pinned=True, crew_id="far", territory_id=None)
    (stop,) = made([pinned], [crew("near"), crew("far", 50, home=frozenset({"x"}))]).stops
    assert (stop.crew_id, stop.why["rule"]) == ("far", "pinned")
    assert refusal(replace(pinned, skills=frozenset({"x"})), crew("far"))[0] == "no_skill"


def test_a_fixed_beginning_is_kept_to_the_second_and_the_rest_goes_around_it() -> None:
    fixed = job("fixed", 5, pinned=True, crew_id="a", starts_at=at(100))
    result = made([fixed, *(job(f"j{n}", n, service_min=45) for n in range(5))], [crew("a")])
    assert stops(result)["fixed"].begin_at == at(100)
    assert len(result.stops) == 6


def test_a_fixed_beginning_that_has_passed_makes_the_job_late() -> None:
    (stop,) = made([job("j", pinned=True, crew_id="a", starts_at=at(-10))], [crew("a")]).stops
    assert stop.late_min == 10.0


def test_a_job_begins_when_what_it_follows_is_done_also_by_another_crew() -> None:
    other = frozenset({"dig"})
    jobs = [job("fill", follows="mend", skills=other), job("mend", follows="dig"), job("dig", skills=other)]
    begun = stops(made(jobs, [crew("a"), crew("b", skills=other)]))
    assert begun["dig"].leave_at <= begun["mend"].begin_at
    assert begun["mend"].leave_at <= begun["fill"].begin_at
    gone = made([job("b", follows="a"), job("a", place=(0, 0))], [crew("x")])
    assert left(gone) == {"a": "no_place", "b": "predecessor_unplanned"}


def test_what_a_hazard_waits_for_is_as_urgent_as_the_hazard() -> None:
    jobs = [job("first", 20), job("hazard", 20, tier="hazard", follows="first"), job("planned", service_min=400)]
    begun = stops(made(jobs, [crew("a")]))
    assert begun.keys() == {"first", "hazard"}
    assert begun["first"].why["rule"] == "soonest_arrival"


def test_work_that_follows_in_a_circle_is_refused_and_nothing_else() -> None:
    jobs = [job("a", follows="b"), job("b", follows="a"), job("c", follows="a"), job("d"), job("e", follows="gone")]
    result = made(jobs, [crew("x")])
    assert left(result) == dict.fromkeys("abc", "predecessor_unplanned")
    assert stops(result).keys() == {"d", "e"}


def test_two_crews_begin_together_at_the_first_moment_both_can() -> None:
    pair = [job("lead", 10), job("second", 10, assists="lead")]
    crews = [crew("a"), crew("b", 10, free_at=at(90)), crew("c", 10, free_at=at(30))]
    begun = stops(made([*pair, job("other", 3)], crews))
    assert {begun["lead"].crew_id, begun["second"].crew_id} == {"a", "c"}
    assert begun["lead"].begin_at == begun["second"].begin_at == at(30)
    assert {begun["lead"].why["rule"], begun["second"].why["rule"]} == {"two_crews", "assists"}
    assert left(made(pair, [crew("a")])) == {"lead": "no_second_crew", "second": "no_second_crew"}
    lone = made([pair[0], replace(pair[1], skills=frozenset({"x"}))], crews)
    assert left(lone) == {"lead": "no_second_crew", "second": "no_skill"}


# -- travel --------------------------------------------------------------------------------------------------------


class Holed:
    """No way leads over 111.5° east."""

    name = "holed"

    def matrix(self, places: Sequence[Place]) -> Matrix:
        whole = TRAVEL.matrix(places)
        east = np.array([place.lon > 111.5 for place in places])
        apart = east[:, None] != east[None, :]
        seconds = np.where(apart, NO_WAY, whole.seconds).astype(np.int32)
        return Matrix(seconds, whole.metres, TravelReport(self.name, pairs=whole.report.pairs, holes=int(apart.sum())))


def test_holes_in_the_matrix_are_planned_around_and_reported() -> None:
    jobs = [job("west"), job("island", place=(111.6, 35.0))]
    result = made(jobs, [crew("a")], travel=Holed())
    assert left(result) == {"island": "unreachable"}
    assert result.travel.holes == 2
    both = made(jobs, [crew("a"), crew("b", place=(111.7, 35.0))], travel=Holed())
    assert {stop.job_id: stop.crew_id for stop in both.stops} == {"west": "a", "island": "b"}


def test_a_base_that_no_way_leads_to_is_left_out_of_account_and_said() -> None:
    result = made([job("j")], [crew("a", end_lon=111.9, end_lat=35.0)], travel=Holed())
    assert len(result.stops) == 1
    assert "no way leads" in result.notes[0]


# -- anything ------------------------------------------------------------------------------------------------------


def day(seed: int) -> tuple[list[PlanJob], list[PlanCrew], Goals]:
    """Jobs and crews of every sort, some of them impossible."""
    pick = random.Random(seed)
    crew_ids = [f"c{n}" for n in range(pick.randrange(1, 5))]
    jobs = []
    for n in range(pick.randrange(1, 18)):
        begin, pinned = pick.randrange(-60, 420), pick.random() < 0.15
        jobs.append(
            job(
                f"j{n:02}",
                place=(111 + pick.random() / 8, 35 + pick.random() / 8) if pick.random() < 0.97 else (0.0, 0.0),
                tier=pick.choice(["hazard", "emergency", "important", "at_risk", "planned", "planned"]),
                territory_id=pick.choice(["t", "t", "t", "u"]),
                service_min=pick.choice([20.0, 45.0, 90.0]),
                skills=frozenset(pick.choice([["repair"], ["repair"], ["repair", "weld"]])),
                windows=(Window(at(begin), at(begin + 90)),) if pick.random() < 0.2 else (),
                due=at(begin) if pick.random() < 0.4 else None,
                load=pick.randrange(3),
                pinned=pinned,
                crew_id=pick.choice([*crew_ids, "gone"]) if pinned else None,
                starts_at=at(begin) if pinned and pick.random() < 0.5 else None,
                follows=f"j{pick.randrange(18):02}" if pick.random() < 0.1 else None,
                assists=f"j{pick.randrange(18):02}" if pick.random() < 0.1 else None,
            )
        )
    crews = [
        crew(
            ident,
            place=(111 + pick.random() / 8, 35 + pick.random() / 8),
            skills=frozenset(pick.choice([["repair"], ["repair", "weld"]])),
            reach=pick.choice([{}, {"u": 400.0}]),
            shift=Window(at(pick.randrange(-60, 60)), at(pick.randrange(120, 540))),
            free_at=pick.choice([None, at(50)]),
            capacity=pick.choice([None, 6]),
            breaks=pick.choice(
                [(), (Break(at(100), at(200), 30),), (Break(at(0), at(40), 10), Break(at(180), at(260), 45))]
            ),
            end_lon=111.0,
            end_lat=35.0,
        )
        for ident in crew_ids
    ]
    return jobs, crews, replace(QUICK, overtime_min=pick.choice([0, 45]))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 100_000))
def test_any_day_gives_a_sound_plan_and_the_same_one_every_time(seed: int) -> None:
    result = made(*day(seed))
    assert all(one.reason in REASONS for one in result.unassigned)
