from __future__ import annotations

import pytest

from fieldsvc.geo.travel import Geodesic, distance_m


def test_a_minute_of_latitude_is_about_a_nautical_mile() -> None:
    assert distance_m(111.57, 35.0, 111.57, 35.0 + 1 / 60) == pytest.approx(1852, rel=0.005)


def test_minutes_come_from_distance_detour_and_the_speed_of_the_place() -> None:
    travel = Geodesic({"urban": 30.0, "remote": 60.0}, factor=1.5)
    (urban,) = travel.legs([111.5], [35.0], 111.6, 35.0, "urban")
    (remote,) = travel.legs([111.5], [35.0], 111.6, 35.0, "remote")
    assert urban.distance_m == distance_m(111.5, 35.0, 111.6, 35.0)
    assert urban.minutes == pytest.approx(urban.distance_m * 1.5 / 500)
    assert remote.minutes == pytest.approx(urban.minutes / 2)


def test_an_unknown_site_class_is_driven_at_the_slowest_speed() -> None:
    travel = Geodesic({"urban": 30.0, "remote": 60.0})
    assert travel.legs([111.5], [35], 111.6, 35, "moon") == travel.legs([111.5], [35], 111.6, 35, "urban")


def test_no_origin_no_leg() -> None:
    assert Geodesic().legs([], [], 1, 1, "urban") == []


@pytest.mark.parametrize(("speeds", "factor"), [({"urban": 0.0}, 1.3), ({}, 1.3), ({"urban": 25.0}, 0.9)])
def test_speeds_and_factors_that_make_no_sense_are_refused(speeds: dict[str, float], factor: float) -> None:
    with pytest.raises(ValueError, match="speeds must be above 0"):
        Geodesic(speeds, factor)
