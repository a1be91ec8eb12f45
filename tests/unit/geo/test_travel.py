from __future__ import annotations

import math

import numpy as np
import pytest

from fieldsvc.geo.travel import NO_WAY, Geodesic, Place, distance_m


def test_a_minute_of_latitude_is_about_a_nautical_mile() -> None:
    assert distance_m(111.57, 35.0, 111.57, 35.0 + 1 / 60) == pytest.approx(1852, rel=0.005)


def test_a_matrix_reads_from_row_to_column_at_the_speed_of_where_one_arrives() -> None:
    travel = Geodesic({"urban": 30.0, "remote": 60.0}, factor=1.5)
    town, moor = Place(111.5, 35.0), Place(111.6, 35.0, "remote")
    got = travel.matrix([town, moor, town])
    metres = distance_m(111.5, 35.0, 111.6, 35.0)
    assert got.metres == pytest.approx(np.array([[0, metres, 0], [metres, 0, metres], [0, metres, 0]]))
    there, back = round(metres * 1.5 * 3.6 / 60), round(metres * 1.5 * 3.6 / 30)
    assert got.seconds.tolist() == [[0, there, 0], [back, 0, back], [0, there, 0]]
    assert got.seconds.dtype == np.int32
    assert (got.report.provider, got.report.pairs, got.report.holes) == ("geodesic", 6, 0)


def test_a_matrix_of_an_unknown_site_class_goes_at_the_slowest_speed() -> None:
    got = Geodesic({"urban": 30.0, "remote": 60.0}).matrix([Place(1, 1), Place(1.1, 1, "moon"), Place(1.1, 1, "urban")])
    assert got.seconds[0, 1] == got.seconds[0, 2] > 0


@pytest.mark.parametrize("nowhere", [(math.nan, 3.0), (3.0, math.nan), (math.inf, 3.0), (4.0, 91.0)])
def test_to_a_place_that_is_none_there_is_no_way(nowhere: tuple[float, float]) -> None:
    got = Geodesic().matrix([Place(1, 1), Place(*nowhere), Place(1.1, 1)])
    assert (got.seconds == NO_WAY).tolist() == [[False, True, False], [True, False, True], [False, True, False]]
    assert np.isfinite(got.metres).all()
    assert got.report.holes == 4


def test_a_matrix_of_nothing_is_empty() -> None:
    assert Geodesic().matrix([]).seconds.shape == (0, 0)
    assert Geodesic().matrix([Place(1, 1)]).seconds.tolist() == [[0]]


@pytest.mark.parametrize(("speeds", "factor"), [({"urban": 0.0}, 1.3), ({}, 1.3), ({"urban": 25.0}, 0.9)])
def test_speeds_and_factors_that_make_no_sense_are_refused(speeds: dict[str, float], factor: float) -> None:
    with pytest.raises(ValueError, match="speeds must be above 0"):
        Geodesic(speeds, factor)
