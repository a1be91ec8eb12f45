"""Which incidents are one fault: limits from both sides, and the same answer in any order."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest

from fieldsvc.geo.storms import REASONS, Fault, Group, Limit, box, distances, groups

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
AREA, FEEDER, NEAR = REASONS
LIMITS = {AREA: Limit(60, 2, 3), FEEDER: Limit(30, 3, 6), NEAR: Limit(20, 3, 6, metres=250)}


def fault(name: str, minute: float = 0, calls: int = 1, **members: object) -> Fault:
    when = NOON + timedelta(minutes=minute)
    values = {"areas": frozenset(), "feeder": None, "lon": None, "lat": None, "first": when, "last": when} | members
    return Fault(id=name, kind="repair", calls=calls, **values)  # type: ignore[arg-type]


def on(area: str, name: str, minute: float = 0, calls: int = 1, feeder: str | None = None) -> Fault:
    return fault(name, minute, calls, areas=frozenset({area}), feeder=feeder)


def one(*faults: Fault, **limits: Limit) -> Group | None:
    found = groups(faults, limits or LIMITS)
    assert len(found) <= 1
    return found[0] if found else None


@pytest.mark.parametrize(("calls", "merge"), [(1, None), (2, False), (3, True)])
def test_calls_of_an_area_are_proposed_from_two_and_merged_from_three_on(calls: int, merge: bool | None) -> None:
    found = one(*(on("TA-1", f"i{number}", number) for number in range(calls)))
    assert (found.merge if found else None) is merge


@pytest.mark.parametrize(("minutes", "together"), [(60, True), (60.1, False)])
def test_the_span_counts_from_the_last_call(minutes: float, together: bool) -> None:
    long = on("TA-1", "a", 0, calls=5)
    long = Fault(**{name: getattr(long, name) for name in long.__slots__} | {"last": NOON + timedelta(minutes=40)})
    assert (one(long, on("TA-1", "b", 40 + minutes)) is not None) is together
    before = NOON - timedelta(minutes=minutes)
    assert (one(long, on("TA-1", "b", (before - NOON).total_seconds() / 60)) is not None) is together


def test_on_a_feeder_areas_are_counted_not_calls() -> None:
    assert one(on("TA-1", "a", calls=40, feeder="F"), on("TA-2", "b", feeder="F")) is None
    found = one(*(on(f"TA-{number}", f"i{number}", feeder="F") for number in range(3)))
    assert found and (found.reason, found.merge) == (FEEDER, False)
    found = one(*(on(f"TA-{number}", f"i{number}", calls=2, feeder="F") for number in range(6)))
    assert found and found.merge and found.words == "12 calls from 6 transformer areas of feeder F within 1 minutes"


def test_near_is_near_the_leader_not_its_neighbours_and_the_network_knows_better() -> None:
    row = [fault(f"i{n}", lon=111.0, lat=35.0 + n * 200 / 110_950) for n in range(30)]
    for group in groups(row, {NEAR: Limit(20, 2, metres=250)}):
        assert len(group.ids) <= 3
    known = [fault(f"i{n}", lon=111.0, lat=35.0, areas=frozenset({f"TA-{n}"})) for n in range(6)]
    assert one(*known, **{NEAR: LIMITS[NEAR]}) is None
    assert one(*known[:1], *(fault(f"n{n}", lon=111.0, lat=35.0) for n in range(5)))


def test_another_kind_of_work_is_another_fault() -> None:
    other = on("TA-1", "b")
    other = Fault(**{name: getattr(other, name) for name in other.__slots__} | {"kind": "inspection"})
    assert one(on("TA-1", "a"), other) is None


def test_a_rule_without_merge_never_merges_and_one_that_is_missing_is_not_asked() -> None:
    many = [on("TA-1", f"i{number}") for number in range(50)]
    found = one(*many, **{AREA: Limit(60, 2)})
    assert found and not found.merge and len(found.ids) == 50
    assert groups(many, {}) == []


@pytest.mark.parametrize("lat", [0.0, 35.0, 68.0, -45.0])
def test_the_box_to_look_in_holds_all_that_is_near(lat: float) -> None:
    west, south, east, north = box(111.0, lat, 250)
    corners = [fault("c", lon=lon, lat=at) for lon, at in ((west, lat), (east, lat), (111.0, south), (111.0, north))]
    assert all(250 < far < 270 for far in distances(fault("p", lon=111.0, lat=lat), corners))


@pytest.mark.parametrize("seed", range(5))
def test_the_groups_are_the_same_in_any_order_and_no_incident_is_in_two(seed: int) -> None:
    chance = random.Random(seed)
    faults = [
        fault(
            f"i{number}",
            chance.uniform(0, 90),
            chance.choice((1, 1, 1, 4)),
            areas=frozenset(chance.choice(((), ("TA-1",), ("TA-2",), ("TA-3",), ("TA-4",)))),
            feeder=chance.choice((None, "F-1", "F-2")),
            lon=111.0 + chance.uniform(0, 0.01),
            lat=35.0 + chance.uniform(0, 0.01),
        )
        for number in range(150)
    ]
    found = groups(faults, LIMITS)
    named = [ident for group in found for ident in group.ids]
    assert found and len(named) == len(set(named))
    chance.shuffle(faults)
    assert groups(faults, LIMITS) == found
