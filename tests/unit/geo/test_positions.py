"""Which positions are kept: standing, driving, jumps; on two real rides."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise, takewhile
from pathlib import Path

import pytest

from fieldsvc.base.clock import parse_time
from fieldsvc.geo.positions import FASTEST_KMH, Fix, Sampling, sift
from fieldsvc.geo.travel import distance_m

EVERY = Sampling(30, 25)
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


def fix(seconds: float, metres: float = 0, accuracy_m: float | None = None) -> Fix:
    """A position so many metres east of a place on the equator, so long after noon."""
    at = NOON + timedelta(seconds=seconds)
    return Fix(at, at, 10 + metres / 111_319.49, 0, accuracy_m)


def sift_all(fixes: Sequence[Fix], at_once: int = 1000) -> list[Fix]:
    """Everything that is kept in the end when ``fixes`` come in pushes of ``at_once``."""
    stored: dict[datetime, Fix] = {}
    last = doubtful = None
    for begin in range(0, len(fixes), at_once):
        kept, doubtful = sift(last, doubtful, fixes[begin : begin + at_once], EVERY)
        stored |= {one.at: one for one in kept}
        last = kept[-1] if kept else last
    return list(stored.values())


def test_positions_are_no_denser_than_the_limits_on_both_sides() -> None:
    assert len(sift_all([fix(0), fix(30, 25.1)])) == 2
    assert len(sift_all([fix(0), fix(29, 25.1)])) == 1, "too soon"
    (stood,) = sift_all([fix(0), fix(30, 24.9)])
    assert stood.until - stood.at == timedelta(seconds=30), "too near: it stands"


def test_a_rough_position_within_its_own_accuracy_is_no_move() -> None:
    assert len(sift_all([fix(0), fix(60, 400, accuracy_m=401)])) == 1
    assert len(sift_all([fix(0), fix(60, 400, accuracy_m=399)])) == 2


def test_what_is_faster_than_any_vehicle_waits_to_be_confirmed() -> None:
    most = FASTEST_KMH / 3.6 * 60
    assert len(sift_all([fix(0), fix(60, most - 1)])) == 2
    assert sift(fix(0), None, [fix(60, most + 1)], EVERY).doubtful is not None
    back = [fix(0), fix(60, 50_000), fix(90, 100), fix(120, 50_100), fix(150, 200)]
    assert [one.at for one in sift_all(back)] == [fix(0).at, fix(90).at, fix(150).at]
    there = [fix(0), fix(60, 50_000), fix(61, 50_010), fix(120, 50_500)]
    assert [one.at for one in sift_all(there)] == [fix(0).at, fix(60).at, fix(120).at]


def read_gpx(file: Path) -> list[tuple[datetime, float, float]]:
    """Time, degrees east and degrees north of every point of a track."""
    space = "{http://www.topografix.com/GPX/1/1}"
    found = []
    for point in ET.parse(file).iter(f"{space}trkpt"):
        at = parse_time(str(point.findtext(f"{space}time")))
        found.append((at, float(point.attrib["lon"]), float(point.attrib["lat"])))
    return found


def length_m(fixes: Sequence[Fix]) -> float:
    return sum(distance_m(one.lon, one.lat, other.lon, other.lat) for one, other in pairwise(fixes))


@pytest.mark.shared_data
@pytest.mark.parametrize("name", ["bus304_to_UL_2019-02-18.gpx", "graphhopper_test1_leipzig.gpx"])
def test_a_real_ride_keeps_its_way_and_its_stops(shared_data: Path, name: str) -> None:
    ride = [Fix(at, at, lon, lat) for at, lon, lat in read_gpx(shared_data / "gps_traces" / name)]
    kept = sift_all(ride)
    assert [(one.at, one.until) for one in sift_all(ride, at_once=7)] == [(one.at, one.until) for one in kept]
    assert len(kept) <= (ride[-1].at - ride[0].at) / timedelta(seconds=EVERY.seconds) + 1
    assert all(after.at - before.until >= timedelta(seconds=EVERY.seconds) for before, after in pairwise(kept))
    assert 0.9 * length_m(ride) < length_m(kept) <= length_m(ride)
    for one in (one for one in kept if one.until - one.at >= timedelta(seconds=20)):
        while_there = [point for point in ride if one.at <= point.at <= one.until]
        far = [point for point in while_there if distance_m(one.lon, one.lat, point.lon, point.lat) > EVERY.metres]
        assert len(far) <= len(while_there) / 4, "it has stood there, give or take a moment"
    at_first = list(takewhile(lambda point: distance_m(point.lon, point.lat, ride[0].lon, ride[0].lat) <= 25, ride))
    assert kept[0].until >= at_first[-1].at

    def wild(index: int, point: Fix) -> Fix:
        return replace(point, lat=point.lat + 0.5) if index % 50 == 25 else point

    told = [wild(index, point) for index, point in enumerate(ride)]
    assert max(one.lat for one in sift_all(told)) <= max(point.lat for point in ride), "55 km for a moment: never shown"
