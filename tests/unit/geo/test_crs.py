from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldsvc.base.errors import Invalid
from fieldsvc.geo.crs import check_lonlat, gcj02_to_wgs84, lonlat_fault, to_wgs84, wgs84_to_gcj02
from fieldsvc.geo.travel import distance_m


@pytest.mark.parametrize(
    ("lon", "lat"), [(180, 90), (-180, -90), (111.57, 35.49), (0, 51.5), (32.5, 0), (180.0, -90.0)]
)
def test_a_place_on_earth_has_no_fault(lon: float, lat: float) -> None:
    assert lonlat_fault(lon, lat) is None
    assert check_lonlat(lon, lat) == (float(lon), float(lat))


@pytest.mark.parametrize(
    ("lon", "lat", "field", "words"),
    [
        (180.0001, 0, "lon", "outside"),
        (-181, 5, "lon", "outside"),
        (5, 90.0001, "lat", "outside"),
        (5, -90.0001, "lat", "outside"),
        (10**400, 5, "lon", "huge"),
        (math.nan, 5, "lon", "finite"),
        (5, math.inf, "lat", "finite"),
        ("5", 5, "lon", "number"),
        (True, 5, "lon", "number"),
        (None, 5, "lon", "number"),
        (5, None, "lat", "number"),
        (0, 0.0, "lon", "missing"),
    ],
)
def test_what_is_no_place_is_refused_naming_field_and_reason(lon: object, lat: object, field: str, words: str) -> None:
    with pytest.raises(Invalid) as caught:
        check_lonlat(lon, lat)
    assert caught.value.errors[0]["field"] == field
    assert words in caught.value.errors[0]["reason"]


def test_the_caller_may_name_the_field() -> None:
    with pytest.raises(Invalid) as caught:
        check_lonlat(200, 0, field="/position")
    assert caught.value.errors[0]["field"] == "/position"


def test_feet_of_missouri_become_st_louis() -> None:
    lon, lat = to_wgs84(907000, 1018000, "ESRI:102696")
    assert distance_m(lon, lat, -90.196, 38.629) < 100


def test_feet_of_new_york_become_new_york() -> None:
    lon, lat = to_wgs84(987295, 211800, "epsg:2263")
    assert distance_m(lon, lat, -73.99, 40.748) < 1000


@pytest.mark.parametrize("name", ["WGS84", "EPSG:4326", "CRS84", "urn:ogc:def:crs:OGC:1.3:CRS84", " wgs84 "])
def test_degrees_stay_as_they_are(name: str) -> None:
    assert to_wgs84(111.5, 35.4, name) == (111.5, 35.4)


@pytest.mark.parametrize("name", ["EPSG:999999", "nonsense", "", "EPSG:" + "9" * 100, "+proj=merc", "EPSG:5773"])
def test_an_unknown_system_is_refused(name: str) -> None:
    with pytest.raises(Invalid) as caught:
        to_wgs84(1, 2, name)
    assert caught.value.errors[0]["field"] == "crs"


@pytest.mark.parametrize(("x", "y"), [(math.nan, 1.0), (1e13, 1.0), (1.0, math.inf), (1e11, 1e11), (0, 0)])
def test_a_point_outside_of_its_system_is_refused(x: float, y: float) -> None:
    with pytest.raises(Invalid):
        to_wgs84(x, y, "ESRI:102696")


def test_the_chinese_offset_is_the_known_one() -> None:
    assert wgs84_to_gcj02(116.404, 39.915) == pytest.approx((116.41024449916938, 39.91640428150164), abs=1e-12)


def test_outside_of_china_there_is_no_offset() -> None:
    assert wgs84_to_gcj02(-73.98, 40.75) == (-73.98, 40.75)
    assert to_wgs84(-73.98, 40.75, "GCJ-02") == (-73.98, 40.75)


@given(st.floats(74, 135), st.floats(4, 53))
def test_there_and_back_again_is_within_a_centimetre(lon: float, lat: float) -> None:
    assert distance_m(*gcj02_to_wgs84(*wgs84_to_gcj02(lon, lat)), lon, lat) < 0.01
