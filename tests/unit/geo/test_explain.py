"""Why this crew and not that one: every rule with its numbers, on both sides of its limit."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from fieldsvc.geo.explain import COSTS, HARD_RULES, Candidate, Day, Explanation, Question, Verdict, explain, fault_of
from fieldsvc.geo.model import Break, Goals, PlanCrew, PlanJob, TravelReport, Window
from fieldsvc.geo.sentences import ruled_out
from fieldsvc.geo.travel import Matrix, Place

NOW = datetime(2026, 11, 21, 8, 0, tzinfo=UTC)
SHIFT = Window(NOW - timedelta(hours=1), NOW + timedelta(hours=9))


class Grid:
    """One minute and one kilometre per hundredth of a degree, east and north added; no way leads west of 110 E."""

    name = "grid"

    def matrix(self, places: list[Place]) -> Matrix:
        lon = np.array([place.lon for place in places]) * 100
        lat = np.array([place.lat for place in places]) * 100
        steps = np.rint(np.abs(lon[:, None] - lon) + np.abs(lat[:, None] - lat))
        seconds = (steps * 60).astype(np.int32)
        west = lon < 11000
        seconds[west[:, None] != west] = -1
        return Matrix(seconds, steps * 1000.0, TravelReport(self.name))


def clock(hour: int, minute: int = 0) -> datetime:
    return NOW.replace(hour=hour, minute=minute)


def job(name: str = "j", east: float = 10, **members: Any) -> PlanJob:
    """A job ``east`` steps east of where crews start."""
    members = {"territory_id": "A", "number": name.upper()} | members
    return PlanJob(name, 111.0 + east / 100, 35.0, kind="repair", skills=frozenset({"repair"}), **members)


def crew(name: str = "c", east: float = 0, **members: Any) -> PlanCrew:
    lon = 111.0 + east / 100
    members = {"home": frozenset({"A"}), "skills": frozenset({"repair"}), "shift": SHIFT} | members
    return PlanCrew(name, lon, 35.0, code=name.upper(), end_lon=lon, end_lat=35.0, **members)


def one(of: PlanCrew | None = None, *held: PlanJob, **members: Any) -> Candidate:
    of = of or crew()
    return Candidate(of.id, of.code, days=(Day(of, held),), **members)


def ask(wanted: PlanJob, *candidates: Candidate, **members: Any) -> Explanation:
    return explain(Question(wanted, members.pop("goals", Goals()), NOW, **members), candidates, Grid())


def verdict(wanted: PlanJob, candidate: Candidate, **members: Any) -> Verdict:
    found = ask(wanted, candidate, **members).of(candidate.crew_id)
    assert found is not None and found.rule in (HARD_RULES if not found.possible else COSTS)
    return found


def test_a_crew_that_could_is_told_with_what_it_would_take() -> None:
    found = verdict(job(service_min=30, due=clock(8, 5)), one())
    assert (found.possible, found.rule) == (True, "could")
    assert found.numbers["begin_at"] == clock(8, 10) and found.numbers["end_at"] == clock(8, 50)
    assert (found.numbers["added_min"], found.numbers["added_km"], found.numbers["late_min"]) == (20, 20, 5)
    assert found.words == "C could: begins at 08:10 as stop 1 of 1, 20.0 min of driving more (+20.0 km), 5.0 min late"


def test_the_job_goes_where_it_adds_least_and_says_who_is_late_for_it() -> None:
    held = (job("near", 5, service_min=60), job("far", 20, service_min=60, due=clock(9, 30)))
    assert verdict(job(service_min=60), one(crew(), *held)).numbers["makes_late"] == []  # on the way home
    found = verdict(job(service_min=60, windows=(Window(NOW, clock(9, 10)),)), one(crew(), *held))
    assert (found.numbers["stop"], found.numbers["stops"], found.numbers["added_min"]) == (2, 3, 0)
    assert found.numbers["begin_at"] == clock(9, 10)
    # far would have begun at 9:20, in time; now an hour later, 50 minutes after it was due
    assert found.numbers["makes_late"] == [
        {"job_number": "FAR", "begin_at": clock(10, 20), "later_min": 60, "late_min": 50}
    ]
    assert "FAR would be 50.0 min late" in found.words


@pytest.mark.parametrize(
    ("wanted", "candidate", "rule", "words"),
    [
        (job(pinned=True, crew_id="other"), one(), "pinned_elsewhere", "pinned the job to another crew"),
        (job(), one(active=False), "not_active", "C is not active"),
        (job(), Candidate("c", "C"), "off_shift", "C has no shift"),
        (job(), one(replace(crew(), lon=None)), "no_base", "neither a base nor a known position"),
        (job(), one(crew(skills=frozenset({"metering"}))), "skill", "C lacks repair (skills needed: repair; it has: m"),
        (
            job(equipment=frozenset({"bucket"})),
            one(),
            "equipment",
            "C lacks bucket (equipment needed: bucket; it has: n",
        ),
        (
            job(territory_id="B"),
            one(away_m=12300, help_out_m=5000),
            "territory",
            "12.3 km beyond its own is farther than the 5.0 km",
        ),
        (job(assists="lead"), one(crew(), job("lead")), "second_crew", "C has LEAD already"),
        (
            job(load=3),
            one(crew(capacity=20), job("held", load=18)),
            "capacity",
            "holds 18; the job needs 3, 2 are left",
        ),
        (job(east=-200), one(), "unreachable", "no way for C"),
        (
            job(windows=(Window(NOW, clock(8, 9)),)),
            one(),
            "window",
            "there at 08:10 at the earliest, the window closes",
        ),
        (
            job(east=-5, service_min=80),
            one(crew(), job("held", windows=(Window(NOW, clock(8, 20)),), service_min=450)),
            "shift_end",
            "done at 17:20, its shift ends at 17:00",
        ),
    ],
)
def test_every_hard_rule_is_named_with_its_numbers(
    wanted: PlanJob, candidate: Candidate, rule: str, words: str
) -> None:
    found = verdict(wanted, candidate)
    assert (found.possible, found.rule) == (False, rule)
    assert words in found.words


@pytest.mark.parametrize(
    ("wanted", "candidate"),
    [
        (job(pinned=True, crew_id="c"), one(crew(home=frozenset({"B"})))),
        (job(load=3), one(crew(capacity=20), job("held", load=17))),
        (job(windows=(Window(NOW, clock(8, 10)),)), one()),
        (job(service_min=520), one()),
        (job(territory_id="B"), one(crew(reach={"B": 4000.0}))),
        (job(equipment=frozenset({"bucket"})), one(crew(equipment=frozenset({"bucket", "cable"})))),
    ],
)
def test_at_its_limit_a_rule_does_not_say_no(wanted: PlanJob, candidate: Candidate) -> None:
    assert verdict(wanted, candidate).possible


def test_a_minute_over_the_shift_is_a_minute_too_much_unless_overtime_is_allowed() -> None:
    found = verdict(job(service_min=521), one())
    assert found.rule == "shift_end" and found.numbers["excess_min"] == 1
    found = verdict(job(service_min=521), one(), goals=Goals(overtime_min=1))
    assert found.possible and found.numbers["overtime_min"] == 1 and "1.0 min of overtime" in found.words


def test_a_break_is_taken_where_it_costs_least_and_can_say_no() -> None:
    noon = Break(clock(8, 30), clock(9, 0), 30)
    begins = verdict(job(windows=(Window(clock(9, 30), clock(10)),)), one(crew(breaks=(noon,))))
    assert begins.numbers["begin_at"] == clock(9, 30)  # taken while waiting for the window
    found = verdict(job(windows=(Window(NOW, clock(8, 15)),), service_min=60), one(crew(breaks=(noon,))))
    assert found.rule == "break" and "09:10, which has to begin by 09:00" in found.words
    assert verdict(job(windows=(Window(NOW, clock(8, 15)),), service_min=50), one(crew(breaks=(noon,)))).possible


def test_what_the_job_would_do_to_others_says_no_but_not_what_was_wrong_before() -> None:
    other = job("held", 20, windows=(Window(NOW, clock(8, 30)),))
    found = verdict(job(east=-10, windows=(Window(NOW, clock(8, 30)),)), one(crew(), other))
    assert found.rule == "others_window" and "at HELD at 09:10, whose window closes at 08:30" in found.words
    missed = job("held", 20, windows=(Window(NOW, clock(8, 5)),))
    assert verdict(job(east=30), one(crew(), missed)).possible
    hazard = job("held", 20, tier="hazard")
    assert verdict(job(windows=(Window(NOW, clock(8, 10)),)), one(crew(), hazard)).rule == "outranked"
    first = job(tier="hazard", customers=2, windows=(Window(NOW, clock(8, 10)),))
    assert verdict(first, one(crew(), replace(hazard, customers=1))).possible
    assert verdict(first, one(crew(), replace(hazard, customers=3))).rule == "outranked"
    settled = ask(first, one(crew(), first, replace(hazard, customers=3))).holder
    assert settled is not None and settled.rule == "has_it"  # the order within a rank was the plan's to choose
    assert verdict(
        replace(first, service_min=5), one(crew(), replace(hazard, customers=3))
    ).possible  # within the slack


def test_an_order_between_two_jobs_is_kept() -> None:
    first = job("first", 20, follows="j")
    found = verdict(job(east=30), one(crew(), first))
    assert found.possible and found.numbers["stop"] == 1
    last = job(east=10, follows="first", windows=(Window(NOW, clock(8, 10)),))
    assert verdict(last, one(crew(), job("first", 20))).rule == "window"


def test_the_crew_that_has_it_is_compared_with_the_others() -> None:
    mine, near, far = job(), crew("near"), crew("far", -10)
    told = ask(mine, one(near, mine), one(far), one(crew("idle", skills=frozenset())), one(crew("off"), active=False))
    assert told.holder is not None and told.holder.words.startswith("NEAR has it: begins at 08:10")
    assert [(v.code, v.rule) for v in told.possible] == [("FAR", "more_driving")]
    assert told.possible[0].words.endswith("40.0 min of driving more (+40.0 km); NEAR, which has it, adds 20.0 min")
    assert told.counts == {"not_active": 1, "skill": 1}
    turned = ask(mine, one(near), one(far, mine))
    assert turned.possible[0].rule == "better_now" and "taken alone that is better" in turned.possible[0].words


def test_for_the_soonest_the_begin_decides_for_the_rest_promises_then_driving_then_help() -> None:
    urgent, busy = job(tier="emergency"), crew("busy", 9, free_at=clock(9))
    told = ask(urgent, one(crew("free"), urgent), one(busy))
    assert told.possible[0].rule == "later_begin" and "FREE, which has it, begins at 08:10" in told.possible[0].words
    first, nearer = crew("first", 5), crew("nearer", free_at=clock(8, 10))
    later = job("later", 10, tier="emergency", due=clock(8, 30), service_min=60)
    emergency = job(tier="emergency", due=clock(9), customers=2, service_min=60)
    told = ask(emergency, one(nearer, emergency), one(first, later))
    assert told.possible[0].rule == "more_late"  # it begins sooner, and another emergency is late for it
    hazard = replace(emergency, tier="hazard")
    assert ask(hazard, one(nearer, hazard), one(first, later)).possible[0].rule == "better_now"
    promised = job(due=clock(8, 30))
    told = ask(promised, one(crew("free"), promised), one(busy))
    assert told.possible[0].rule == "more_late" and "FREE, which has it, keeps every promise" in told.possible[0].words
    helper = crew("near", 8, home=frozenset({"B"}), reach={"A": 900.0})
    plain = job()
    told = ask(plain, one(crew("free"), plain), one(helper))
    assert told.possible[0].rule == "helping_out" and "helping out beyond its own" in told.possible[0].words
    told = ask(plain, one(crew("free"), plain), one(crew("base", 9)), one(crew("out", 40), job("held", 41)))
    assert {v.code: v.rule for v in told.possible} == {"BASE": "better_now", "OUT": "more_driving"}
    told = ask(plain, one(crew("out"), job("held", 5), plain), one(crew("base", 9)), goals=Goals(crew_cost_min=60))
    assert told.possible[0].rule == "one_more_crew" and "OUT, which has it, is out anyway" in told.possible[0].words


def test_a_crew_with_two_shifts_is_judged_by_the_better_one() -> None:
    tomorrow = Window(SHIFT.start + timedelta(days=1), SHIFT.end + timedelta(days=1))
    days = (Day(crew()), Day(crew(shift=tomorrow)))
    wanted = job(windows=(Window(NOW + timedelta(hours=23), NOW + timedelta(hours=24)),))
    found = verdict(wanted, Candidate("c", "C", days=days))
    assert found.possible and "begins at 07:10 on 2026-11-22" in found.words
    local = verdict(wanted, Candidate("c", "C", days=days), zone=ZoneInfo("Asia/Shanghai"))
    assert "begins at 15:10 on 2026-11-22" in local.words


def test_only_so_many_crews_are_looked_at_closely_and_it_is_said() -> None:
    told = ask(job(), *(one(crew(f"c{number:03}", number % 7)) for number in range(203)))
    assert (len(told.possible), told.cut) == (200, 3)
    assert ask(job(), *(one(crew(f"c{number:03}")) for number in range(200))).cut == 0


@pytest.mark.parametrize(
    ("wanted", "fault"),
    [
        (replace(job(), lon=None), "no_place"),
        (replace(job(), lon=0.0, lat=0.0), "no_place"),
        (replace(job(), lat=91.0), "no_place"),
        (job(territory_id=None), "no_territory"),
        (job(territory_id=None, pinned=True), None),
        (job(windows=(Window(clock(9), clock(8)),)), "window_impossible"),
        (job(), None),
    ],
)
def test_a_job_that_no_crew_at_all_can_have(wanted: PlanJob, fault: str | None) -> None:
    assert fault_of(wanted) == fault


def test_the_page_names_every_rule() -> None:
    page = Path(__file__).resolve().parents[3] / "docs" / "dispatch" / "why.md"
    named = set(re.findall(r"`([a-z_]+)`", page.read_text(encoding="utf-8")))
    assert {*HARD_RULES, *COSTS} - named == set()


def test_those_who_cannot_are_counted_in_words() -> None:
    lacking = {"missing": ["metering"]}
    refusals = [("off_shift", {}), ("skill", lacking), ("skill", lacking), ("off_shift", {}), ("skill", lacking)]
    assert ruled_out(refusals) == "3 crews lack metering, 2 are off shift"
    assert ruled_out([("shift_end", {})]) == "1 crew has too little time left in its shift"
    assert ruled_out([]) == ""
    assert all(ruled_out([(rule, {})]) for rule in HARD_RULES if rule not in ("skill", "equipment"))
