"""The schedule of bulk work, judged by a checker that shares nothing with it but the values."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from itertools import combinations
from zoneinfo import ZoneInfo

import pytest

from fieldsvc.geo import hours
from fieldsvc.geo.campaign import Cut, Outage, Placed, Point, Pool, Schedule, Terms, schedule, working_days
from fieldsvc.geo.model import Window

ZONE = ZoneInfo("Asia/Shanghai")
NIGHT = (hours.read({"from": "22:00", "to": "06:00"}),)
EARLY = (hours.read({"from": "22:00", "to": "09:00"}),)
TERMS = Terms(
    zone=ZONE,
    day_shift=hours.read({"from": "08:00", "to": "18:00"}),
    night_shift=hours.read({"from": "22:00", "to": "08:00"}),
    crew_minutes=420,
    to_area=20,
    between=4,
    days_between_cuts=30,
)
MONDAY = date(2027, 3, 1)
DAYS = working_days(MONDAY, MONDAY + timedelta(days=25), {5, 6}, {date(2027, 3, 3)})
ONE = [Pool(None, 1)]


def at(day: date, hour: int, minute: int = 0) -> datetime:
    return datetime.combine(day, time(hour, minute), ZONE).astimezone(UTC)


def house(number: int, area: str | None = "T1", **members: object) -> Point:
    plain = Point(f"p{number}", f"U{number:04}", f"c{number}", area, "A", 30)
    return replace(plain, **members)  # type: ignore[arg-type]


def outage(area: str, day: date, first: int = 8, last: int = 14) -> Outage:
    return Outage(f"o-{area}-{day}", area, Window(at(day, first), at(day, last)))


def check(
    made: Schedule, points: Sequence[Point], outages: Sequence[Outage], pools: Sequence[Pool], terms: Terms = TERMS
) -> None:
    """Everything a schedule promises, looked up in the input and counted anew."""
    by_id = {point.id: point for point in points}
    named = [*(one.point_id for one in made.placed), *(one.point_id for one in made.left)]
    assert sorted(named) == sorted(by_id), "every point once"
    for one in made.placed:
        _check_hours(one, by_id[one.point_id], outages)
    _check_capacity(made, by_id, pools, terms)
    _check_cuts(made, by_id, outages, terms)


def _check_hours(one: Placed, point: Point, outages: Sequence[Outage]) -> None:
    work_ends = one.window.end + timedelta(minutes=point.minutes)
    assert one.window.start <= one.window.end
    assert one.day in DAYS
    if one.outage_id is not None:
        used = next(found for found in outages if found.id == one.outage_id)
        assert used.area == point.area and used.window.start <= one.window.start and work_ends <= used.window.end
        return
    step = one.window.start
    while step < work_ends:  # minute by minute, as a clock on the wall shows it
        local = step.astimezone(ZONE).time()
        if point.hours:
            assert any(local >= h.begin or local < h.end for h in point.hours), "only in the customer's own hours"
        assert (local >= time(22) or local < time(8)) if one.night else time(8) <= local < time(18)
        step += timedelta(minutes=1)


def _check_capacity(made: Schedule, by_id: dict[str, Point], pools: Sequence[Pool], terms: Terms) -> None:
    """Work, a way per customer, and one way per crew and area: all in the minutes of the crews of that shift."""
    customers: dict[tuple[int, date, bool, str], Counter[str]] = defaultdict(Counter)
    for one in made.placed:
        point = by_id[one.point_id]
        pool = next(
            (n for n, pool in enumerate(pools) if pool.territory_ids and point.territory_id in pool.territory_ids),
            next((n for n, pool in enumerate(pools) if pool.territory_ids is None), -1),
        )
        customers[pool, one.day, one.night, point.area or point.id][point.customer_id] += point.minutes
    used: Counter[tuple[int, date, bool]] = Counter()
    for (number, day, night, _), found in customers.items():
        minutes = sum(found.values()) + len(found) * terms.between
        ways = -(-minutes // (terms.crew_minutes - terms.to_area)) * terms.to_area
        used[number, day, night] += minutes + ways
    for (number, day, night), minutes in used.items():
        crews = pools[number].night_crews if night else pools[number].day_crews
        assert minutes <= crews * terms.crew_minutes, f"{minutes} minutes for {crews} crews on {day}"


def _check_cuts(made: Schedule, by_id: dict[str, Point], outages: Sequence[Outage], terms: Terms) -> None:
    gap = timedelta(days=terms.days_between_cuts)
    days: dict[str, set[tuple[date, bool]]] = defaultdict(set)
    for one in made.placed:
        point = by_id[one.point_id]
        days[point.customer_id].add((one.day, one.outage_id is not None))
        if one.outage_id is None:
            cut_days = [cut.window.start.astimezone(ZONE).date() for cut in point.cuts]
            cut_days += [o.window.start.astimezone(ZONE).date() for o in outages if o.area == point.area]
            assert all(abs(cut - one.day) >= gap for cut in cut_days), "cut twice"
    for found in days.values():
        for (a, in_outage), (b, in_other) in combinations(found, 2):
            assert a == b or abs(a - b) >= gap or (in_outage and in_other), "visited twice"


@pytest.mark.parametrize("seed", range(6))
def test_whatever_comes_the_schedule_holds_and_is_the_same_again(seed: int) -> None:
    chance = random.Random(seed)
    points = [
        house(
            n,
            chance.choice([None, *(f"T{area}" for area in range(8))]),
            customer_id=f"c{chance.randrange(100)}" if chance.random() < 0.1 else f"c{n}",
            territory_id=chance.choice(["A", "B", "C", None]),
            hours=chance.choice([(), (), (), NIGHT, EARLY]),
            minutes=chance.choice([30, 30, 30, 45, 90]),
            cuts=(Cut(Window(at(MONDAY, 9), at(MONDAY, 10)), "job J-1"),) if chance.random() < 0.05 else (),
            lon=chance.choice([None, chance.uniform(111, 112)]),
            lat=35.5,
        )
        for n in range(160)
    ]
    outages = [outage(f"T{area}", MONDAY + timedelta(days=chance.randrange(30))) for area in range(3)]
    pools = [Pool(frozenset({"A"}), 2, 1), Pool(frozenset({"B", "C"}), 1), *([Pool(None, 1, 1)] if seed % 2 else [])]
    made = schedule(points, outages, pools, DAYS, TERMS)
    check(made, points, outages, pools)
    assert made.placed and made.left
    shuffled = chance.sample(points, len(points))
    assert schedule(shuffled, outages[::-1], pools, DAYS, TERMS) == made


def test_a_whole_area_is_one_day_and_the_next_area_another() -> None:
    points = [house(n, f"T{n % 3}") for n in range(24)]  # eight houses are 8 x 34 + 20 minutes: one area a day
    made = schedule(points, [], ONE, DAYS, TERMS)
    check(made, points, [], ONE)
    days = {area: {one.day for one in made.placed if one.point_id in members} for area, members in _areas(points)}
    assert days == {"T0": {DAYS[0]}, "T1": {DAYS[1]}, "T2": {DAYS[2]}}
    assert {one.reason for one in made.placed} == {"with_area"}


def _areas(points: Sequence[Point]) -> list[tuple[str, set[str]]]:
    return [(area, {p.id for p in points if p.area == area}) for area in sorted({p.area or "" for p in points})]


def test_neighbouring_areas_share_a_crews_day() -> None:
    west, east = 111.0, 111.5
    points = [house(n, f"T{n % 4}", lon=(west, east)[n % 2] + n % 4 / 100, lat=35.5) for n in range(20)]
    made = schedule(points, [], ONE, DAYS, TERMS)  # five houses an area: two areas fill the day of a crew
    check(made, points, [], ONE)
    days = {area: {one.day for one in made.placed if one.point_id in members} for area, members in _areas(points)}
    assert days == {"T0": {DAYS[0]}, "T2": {DAYS[0]}, "T1": {DAYS[1]}, "T3": {DAYS[1]}}


@pytest.mark.parametrize(("houses", "days"), [(11, 1), (12, 2)])
def test_a_day_is_full_when_the_minutes_are(houses: int, days: int) -> None:
    points = [house(n) for n in range(houses)]  # 11 x 34 + 20 = 394; the twelfth would take a second way
    made = schedule(points, [], ONE, DAYS, TERMS)
    check(made, points, [], ONE)
    assert len({one.day for one in made.placed}) == days
    assert {one.reason for one in made.placed} == {"with_area" if days == 1 else "area_spread"}


def test_an_area_with_an_outage_goes_into_it_and_who_does_not_fit_is_not_cut_again() -> None:
    day = DAYS[4]
    points = [house(n) for n in range(15)] + [house(99, hours=NIGHT)]
    planned = [outage("T1", day)]
    made = schedule(points, planned, ONE, DAYS, TERMS)
    check(made, points, planned, ONE)
    assert {(one.day, one.outage_id) for one in made.placed} == {(day, planned[0].id)}
    assert len(made.placed) == 10, "six hours for one crew, ways included"
    assert {one.reason for one in made.left} == {"cut_twice"}
    assert made.left[0].detail == f"would be cut twice within 30 days: planned outage on {day.isoformat()}"


@pytest.mark.parametrize(("days_after", "placed"), [(29, 0), (30, 1)])
def test_how_near_two_cuts_may_be(days_after: int, placed: int) -> None:
    before = MONDAY - timedelta(days=days_after)
    point = house(1, cuts=(Cut(Window(at(before, 9), at(before, 10)), "job J-1"),))
    made = schedule([point], [], ONE, [MONDAY], TERMS)
    assert len(made.placed) == placed and [one.reason for one in made.left] == ["cut_twice"] * (1 - placed)


def test_an_outage_on_a_day_off_is_nobodys_and_bars_its_customers() -> None:
    saturday = MONDAY + timedelta(days=5)
    made = schedule([house(1)], [outage("T1", saturday)], ONE, DAYS, TERMS)
    assert [one.reason for one in made.left] == ["cut_twice"]


def test_own_hours_by_night_early_or_not_at_all() -> None:
    points = [house(1), house(2, hours=NIGHT), house(3, hours=EARLY)]
    by_night = schedule(points, [], [Pool(None, 1, 1)], DAYS, TERMS)
    check(by_night, points, [], [Pool(None, 1, 1)])
    found = {one.point_id: one for one in by_night.placed}
    assert (found["p2"].night, found["p2"].window) == (True, Window(at(MONDAY, 22), at(DAYS[1], 5, 30)))
    assert (found["p3"].night, found["p3"].window) == (False, Window(at(MONDAY, 8), at(MONDAY, 8, 30)))
    assert {one.day for one in by_night.placed} == {MONDAY}, "on their area's day"
    by_day = schedule(points, [], ONE, DAYS, TERMS)
    assert [(one.point_id, one.reason) for one in by_day.left] == [("p2", "no_night_capacity")]
    noon = (hours.read({"from": "19:00", "to": "20:00"}),)
    never = schedule([house(4, hours=noon)], [], [Pool(None, 1, 1)], DAYS, TERMS)
    assert [one.reason for one in never.left] == ["no_window"]


def test_one_hour_before_opening_is_one_hour() -> None:
    points = [house(n, hours=EARLY) for n in range(4)]  # from eight to nine a crew does one, with the way to the next
    made = schedule(points, [], ONE, DAYS, TERMS)
    check(made, points, [], ONE)
    assert [one.day for one in made.placed] == list(DAYS[:4])
    two = schedule(points, [], [Pool(None, 2)], DAYS, TERMS)
    assert sorted(Counter(one.day for one in two.placed).values()) == [1, 3], "two crews: 120 minutes"


def test_a_customer_with_points_in_two_areas_is_visited_on_one_day_or_a_month_apart() -> None:
    points = [house(1), house(2, "T2", customer_id="c1"), house(3, "T2"), *(house(n) for n in range(10, 21))]
    made = schedule(points, [], ONE, DAYS, TERMS)
    check(made, points, [], ONE)
    assert len(made.placed) + len(made.left) == len(points)


def test_more_than_a_day_of_work_at_one_customer_is_divided() -> None:
    points = [house(n, customer_id="landlord") for n in range(30)]
    made = schedule(points, [], ONE, DAYS, TERMS)
    assert len(made.placed) == 30 and len({one.day for one in made.placed}) == 3


def test_whoever_has_no_crew_is_told_so() -> None:
    strangers = schedule([house(1, territory_id="Z")], [], [Pool(frozenset({"A"}), 1)], DAYS, TERMS)
    assert strangers.left[0] == ("p1", "no_capacity", "no crews are named for its territory")
    full = schedule([house(n) for n in range(300)], [], ONE, DAYS, TERMS)
    check(full, [house(n) for n in range(300)], [], ONE)
    assert full.left[0].detail == "no crew has time until 2027-03-26"
    assert schedule([house(1)], [], ONE, (), TERMS).left[0].reason == "no_capacity"


def test_days_off() -> None:
    assert len(DAYS) == 19 and date(2027, 3, 3) not in DAYS and DAYS[0] == MONDAY
    assert working_days(MONDAY, MONDAY, (), ()) == (MONDAY,)
