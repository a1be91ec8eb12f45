from __future__ import annotations

import random
import time
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldsvc.geo.planner import REASONS, Plan, PlanCrew, PlanJob, plan
from fieldsvc.geo.travel import Geodesic

NOW = datetime(2026, 11, 20, 0, 0, tzinfo=UTC)
TRAVEL = Geodesic({"urban": 60.0}, factor=1.0)  # a kilometre a minute


def at(minutes: float) -> datetime:
    return NOW + timedelta(minutes=minutes)


def job(ident: str, lon: float | None = 111.0, lat: float | None = 35.0, **more: Any) -> PlanJob:
    facts: dict[str, Any] = {"territory_id": "t", "kind": "repair", "skill": "repair", "priority": 3, "service_min": 60}
    return PlanJob(ident, lon, lat, **facts | more)


def crew(ident: str, lon: float = 111.0, lat: float = 35.0, **more: Any) -> PlanCrew:
    facts: dict[str, Any] = {
        "territory_ids": frozenset({"t"}),
        "skills": frozenset({"repair"}),
        "shift_start": NOW,
        "shift_end": at(480),
    }
    return PlanCrew(ident, lon, lat, **facts | more)


def made(jobs: Sequence[PlanJob], crews: Sequence[PlanCrew], now: datetime = NOW) -> Plan:
    return plan(jobs, crews, now, TRAVEL)


def reason(one: PlanJob, *crews: PlanCrew, now: datetime = NOW) -> str:
    result = made([one], crews, now)
    assert not result.assignments
    assert result.unassigned[0].detail
    return result.unassigned[0].reason


def test_the_nearest_crew_gets_the_job_and_the_plan_says_why() -> None:
    (got,) = made(
        [job("j")], [crew("far", 111.5), crew("near", 111.1), crew("elsewhere", territory_ids=frozenset("x"))]
    ).assignments
    assert (got.crew_id, got.sequence) == ("near", 1)
    assert got.why["rule"] == "nearest_crew"
    assert got.why["considered"] == 2
    assert got.why["distance_m"] == pytest.approx(9127, abs=10)
    assert got.why["travel_min"] == pytest.approx(9.1, abs=0.1)
    assert got.arrive_at == at(got.distance_m / 1000).replace(microsecond=0)
    assert got.leave_at - got.arrive_at == timedelta(minutes=60)


def test_a_tie_goes_to_the_lower_id_whatever_the_order_of_the_input() -> None:
    crews = [crew("b"), crew("a"), crew("c")]
    for order in (crews, crews[::-1]):
        assert made([job("j")], order).assignments[0].crew_id == "a"


def test_of_two_at_the_same_place_the_one_with_less_to_do_is_taken() -> None:
    assert made([job("j")], [crew("a", load=3), crew("b", load=1)]).assignments[0].crew_id == "b"


@pytest.mark.parametrize("place", [(None, 35.0), (111.0, None), (200.0, 35.0), (0, 0)])
def test_without_a_usable_place_nobody_can_be_sent(place: tuple[Any, Any]) -> None:
    assert reason(job("j", *place), crew("a")) == "no_place"


def test_every_other_refusal_has_its_stable_reason() -> None:
    assert reason(job("j", territory_id=None), crew("a")) == "no_territory"
    assert reason(job("j", territory_id="x"), crew("a")) == "no_crew_in_territory"
    assert reason(job("j", skill="welding"), crew("a")) == "no_skill"
    assert reason(job("j", service_min=500), crew("a")) == "no_shift_time"
    assert reason(job("j", latest=at(5)), crew("a", busy_until=at(6))) == "window_missed"
    assert reason(job("j", latest=at(-1)), crew("a")) == "window_missed"
    assert reason(job("j", earliest=at(450)), crew("a")) == "window_missed"
    assert reason(job("j", pinned_crew="gone"), crew("a")) == "no_shift_time"


def test_a_job_may_end_with_the_shift_but_not_after_it() -> None:
    assert made([job("j", service_min=480)], [crew("a")]).assignments
    assert reason(job("j", service_min=481), crew("a")) == "no_shift_time"


def test_a_window_holds_to_the_minute_on_both_sides() -> None:
    (got,) = made([job("j", earliest=at(30), latest=at(30))], [crew("a")]).assignments
    assert got.arrive_at == at(30)
    assert made([job("j", latest=at(10))], [crew("a", busy_until=at(10))]).assignments
    assert reason(job("j", latest=at(10)), crew("a", busy_until=at(11))) == "window_missed"


def test_nobody_starts_before_now_before_the_shift_or_while_busy() -> None:
    assert made([job("j")], [crew("a")], now=at(20)).assignments[0].arrive_at == at(20)
    assert made([job("j")], [crew("a", shift_start=at(45))]).assignments[0].arrive_at == at(45)
    (got,) = made([job("j")], [crew("a", busy_until=at(90), load=2)]).assignments
    assert (got.arrive_at, got.sequence) == (at(90), 3)


def test_hazards_go_before_priorities_and_priorities_before_the_rest() -> None:
    jobs = [
        job("late", priority=2),
        job("b1", priority=1),
        job("danger", priority=5, hazard=True),
        job("any", priority=4),
    ]
    assert [a.job_id for a in made(jobs, [crew("a")]).assignments] == ["danger", "b1", "late", "any"]


def test_when_time_is_short_the_lower_priority_stays_behind() -> None:
    result = made([job("low", priority=4), job("high", priority=2)], [crew("a", shift_end=at(60))])
    assert [a.job_id for a in result.assignments] == ["high"]
    assert result.unassigned[0].job_id == "low"


def test_for_a_hazard_the_crew_that_can_be_there_first_is_sent() -> None:
    crews = [crew("near", 111.01, busy_until=at(120)), crew("free", 111.2)]
    (got,) = made([job("j", hazard=True)], crews).assignments
    assert (got.crew_id, got.why["rule"]) == ("free", "soonest_arrival")
    assert made([job("j")], crews).assignments[0].crew_id == "near"


def test_equals_are_visited_in_the_order_that_drives_least() -> None:
    jobs = [job("a", 111.3), job("b", 111.1), job("c", 111.2)]
    result = made(jobs, [crew("k")]).assignments
    assert [a.job_id for a in result] == ["b", "c", "a"]
    assert [a.sequence for a in result] == [1, 2, 3]
    assert all(a.why["distance_m"] == pytest.approx(9127, abs=30) for a in result)


def test_nothing_is_put_in_front_of_a_job_that_outranks_it() -> None:
    jobs = [job("urgent", 111.3, priority=2), job("onway", 111.1, priority=3)]
    assert [a.job_id for a in made(jobs, [crew("k")]).assignments] == ["urgent", "onway"]


def test_a_later_insertion_never_breaks_an_earlier_promise() -> None:
    promised = job("promised", 111.2, latest=at(20), service_min=10)
    result = made([promised, job("onway", 111.1, service_min=30)], [crew("k")]).assignments
    assert [a.job_id for a in result] == ["promised", "onway"]


def test_a_pinned_job_goes_to_its_crew_whatever_the_territory_but_not_without_the_skill() -> None:
    crews = [crew("near"), crew("chosen", 111.4, territory_ids=frozenset())]
    (got,) = made([job("j", pinned_crew="chosen", territory_id=None)], crews).assignments
    assert (got.crew_id, got.why["rule"], got.why["considered"]) == ("chosen", "pinned", 1)
    assert reason(job("j", pinned_crew="chosen", skill="welding"), *crews) == "no_skill"


def test_an_id_that_occurs_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="job id"):
        made([job("j"), job("j")], [])
    with pytest.raises(ValueError, match="crew id"):
        made([], [crew("a"), crew("a")])


def test_nothing_to_do_is_no_error() -> None:
    assert made([], []) == Plan([], [])


def _check(jobs: Sequence[PlanJob], crews: Sequence[PlanCrew], result: Plan) -> None:
    """What every plan must keep, recomputed from the outside."""
    jobs_by_id, crews_by_id = {j.id: j for j in jobs}, {c.id: c for c in crews}
    assert sorted([a.job_id for a in result.assignments] + [u.job_id for u in result.unassigned]) == sorted(jobs_by_id)
    assert {u.reason for u in result.unassigned} <= set(REASONS)
    routes = defaultdict(list)
    for got in result.assignments:
        routes[got.crew_id].append(got)
    for crew_id, route in routes.items():
        who = crews_by_id[crew_id]
        place, free = (who.lon, who.lat), max(NOW, who.shift_start, who.busy_until or NOW)
        for number, got in enumerate(route, who.load + 1):
            what = jobs_by_id[got.job_id]
            assert got.sequence == number
            assert what.skill in who.skills
            assert what.pinned_crew == crew_id or what.territory_id in who.territory_ids
            (leg,) = TRAVEL.legs([place[0]], [place[1]], what.lon or 0.0, what.lat or 0.0, what.site_class)
            assert got.arrive_at >= free + timedelta(minutes=leg.minutes) - timedelta(seconds=2)
            assert what.earliest is None or got.arrive_at >= what.earliest
            assert what.latest is None or got.arrive_at <= what.latest
            assert got.leave_at <= who.shift_end
            place, free = (what.lon or 0.0, what.lat or 0.0), got.leave_at


_MINUTES = st.integers(-30, 500)
_JOBS = st.lists(
    st.builds(
        lambda lon, lat, territory, skill, priority, service, opens, length, hazard, pin: {
            "lon": lon,
            "lat": lat,
            "territory_id": territory,
            "skill": skill,
            "priority": priority,
            "service_min": service,
            "earliest": None if opens is None else at(opens),
            "latest": None if opens is None or length is None else at(opens + length),
            "hazard": hazard,
            "pinned_crew": pin,
        },
        st.floats(111.0, 111.5),
        st.floats(35.0, 35.5),
        st.sampled_from(["t", "u", None]),
        st.sampled_from(["repair", "meter_change"]),
        st.integers(1, 5),
        st.integers(5, 120),
        st.none() | _MINUTES,
        st.none() | st.integers(0, 200),
        st.booleans(),
        st.sampled_from([None, None, None, "c0", "c9"]),
    ),
    max_size=25,
)
_CREWS = st.lists(
    st.tuples(
        st.floats(111.0, 111.5),
        st.sampled_from([{"t"}, {"u"}, {"t", "u"}]),
        st.sampled_from([{"repair"}, {"repair", "meter_change"}]),
        st.integers(0, 60),
        st.none() | st.integers(0, 200),
    ),
    max_size=4,
)


@settings(deadline=None)
@given(_JOBS, _CREWS, st.randoms())
def test_every_plan_keeps_shifts_windows_skills_and_territories_in_any_input_order(
    raw_jobs: list[dict[str, Any]], raw_crews: list[Any], shuffle: random.Random
) -> None:
    jobs = [job(f"j{i}", **facts) for i, facts in enumerate(raw_jobs)]
    crews = [
        crew(f"c{i}", lon, territory_ids=frozenset(home), skills=frozenset(skills), shift_start=at(start), load=i,
             busy_until=None if busy is None else at(busy))
        for i, (lon, home, skills, start, busy) in enumerate(raw_crews)
    ]  # fmt: skip
    result = made(jobs, crews)
    _check(jobs, crews, result)
    shuffle.shuffle(jobs)
    shuffle.shuffle(crews)
    assert made(jobs, crews) == result


def test_two_thousand_jobs_and_sixty_crews_take_seconds() -> None:
    chance = random.Random(1)
    homes = [f"t{k}" for k in range(50)]
    jobs = [
        job(
            f"j{i:04}",
            111 + chance.random(),
            35 + chance.random(),
            territory_id=chance.choice(homes),
            priority=chance.randint(1, 5),
            service_min=20,
        )
        for i in range(2000)
    ]
    crews = [
        crew(f"c{i:02}", 111 + chance.random(), 35 + chance.random(), territory_ids=frozenset(homes[i % 5 :: 5]))
        for i in range(60)
    ]
    begin = time.perf_counter()
    result = made(jobs, crews)
    assert time.perf_counter() - begin < 10
    assert len(result.assignments) > 600
    _check(jobs, crews, result)
