"""Areas with more work than one search takes, and with far more than the crews have hours for."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fieldsvc.geo import drafting
from fieldsvc.geo.drafting import Candidate
from fieldsvc.geo.model import Goals, PlanCrew, PlanJob, Window
from fieldsvc.geo.parts import WHOLE, parts
from fieldsvc.geo.planner import plan
from fieldsvc.geo.timing import Draft
from fieldsvc.geo.travel import Geodesic, Matrix, Place
from tests.plancheck import faults

NOW = datetime(2026, 11, 20, 0, 0, tzinfo=UTC)
TRAVEL = Geodesic({"urban": 40.0}, factor=1.3)
QUICK = Goals(effort=0)


def job(number: int, pick: random.Random, **more: Any) -> PlanJob:
    place = 111 + pick.random() / 3, 35 + pick.random() / 3
    facts: dict[str, Any] = {"service_min": 20.0, "tier": pick.choice(["hazard", *["planned"] * 19])}
    return PlanJob(f"j{number:05}", *place, "t", "repair", frozenset({"repair"}), **facts | more)


def crew(number: int, pick: random.Random) -> PlanCrew:
    place = 111 + pick.random() / 3, 35 + pick.random() / 3
    return PlanCrew(
        f"c{number:02}",
        *place,
        frozenset({"t"}),
        frozenset({"repair"}),
        Window(NOW, NOW + timedelta(hours=8)),
        end_lon=place[0],
        end_lat=place[1],
    )


def test_a_large_plan_is_solved_in_parts_and_is_sound_and_the_same_every_time() -> None:
    pick = random.Random(4)
    jobs = [job(number, pick) for number in range(WHOLE + 20)]
    crews = [crew(number, pick) for number in range(16)]
    made = plan(jobs, crews, NOW, TRAVEL, QUICK)
    assert faults(jobs, crews, NOW, TRAVEL, made, QUICK) == []
    assert made == plan(jobs[::-1], crews[::-1], NOW, TRAVEL, QUICK)
    assert not made.unassigned


def test_parts_hold_every_task_and_team_once_and_none_is_cut_that_need_not_be() -> None:
    pick = random.Random(5)
    draft = drafted([job(number, pick) for number in range(WHOLE + 1)], [crew(number, pick) for number in range(12)])
    assert len(parts(draft, range(WHOLE), 0)) == 1
    for turn in range(4):
        found = parts(draft, range(WHOLE + 1), turn)
        assert len(found) > 1
        assert sorted(team for part in found for team in part.teams) == list(range(12))
        assert sorted(task for part in found for task in part.tasks) == list(range(WHOLE + 1))
    assert parts(draft, range(WHOLE + 1), 0) != parts(draft, range(WHOLE + 1), 1)


def drafted(jobs: list[PlanJob], crews: list[PlanCrew]) -> Draft:
    candidates = [Candidate(one, crews, QUICK.tiers[one.tier], 0) for one in jobs]
    return drafting.drafted(candidates, NOW, TRAVEL, QUICK).draft


class Counting:
    """Remembers for how many places it was asked."""

    name = "counting"

    def __init__(self) -> None:
        self.asked: list[int] = []

    def matrix(self, places: Sequence[Place]) -> Matrix:
        self.asked.append(len(places))
        return TRAVEL.matrix(places)


@pytest.mark.parametrize("number", [60, 3000])
def test_far_more_jobs_than_hours_cost_no_more_than_the_day_there_is(number: int) -> None:
    pick = random.Random(6)
    jobs = [job(n, pick, tier="hazard" if n % 600 == 7 else "planned", service_min=60.0) for n in range(number)]
    crews = [crew(n, pick) for n in range(2)]
    travel = Counting()
    made = plan(jobs, crews, NOW, travel, QUICK)
    assert faults(jobs, crews, NOW, TRAVEL, made, QUICK) == []
    assert travel.asked[0] <= 64
    done = {stop.job_id for stop in made.stops}
    assert {one.id for one in jobs if one.tier == "hazard"} <= done
    assert Counter(one.reason for one in made.unassigned)["outranked"] == number - len(done)
    assert all(" min on site" in one.detail for one in made.unassigned)
