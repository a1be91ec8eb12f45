from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry import box

from fieldsvc.base.errors import Invalid
from fieldsvc.geo.territories import TerritoryIndex, TerritoryShape, area_m2, read_geojson
from fieldsvc.geo.travel import distance_m

SQUARE = [[[111.0, 35.0], [111.1, 35.0], [111.1, 35.1], [111.0, 35.1], [111.0, 35.0]]]


def feature(coordinates: Any = SQUARE, kind: str = "Polygon", **properties: Any) -> dict[str, Any]:
    geometry = {"type": kind, "coordinates": coordinates}
    return {"type": "Feature", "properties": {"code": "A", "name": "Alpha"} | properties, "geometry": geometry}


def collection(*features: Any, **members: Any) -> dict[str, Any]:
    return {"type": "FeatureCollection", "features": list(features), **members}


def territory(code: str, west: float, south: float, size: float, priority: int = 0) -> TerritoryShape:
    return TerritoryShape(code, code, code, None, 1, "urban", priority, box(west, south, west + size, south + size))


class TestReading:
    def test_a_plain_feature_is_taken_as_it_is(self) -> None:
        shapes, report = read_geojson(collection(feature(name_local="甲", site_class="remote", priority=3, level="2")))
        (shape,) = shapes
        assert report == []
        assert (shape.id, shape.code, shape.name, shape.name_local) == ("A", "A", "Alpha", "甲")
        assert (shape.site_class, shape.priority, shape.level) == ("remote", 3, 2)
        assert shape.geometry.equals(box(111.0, 35.0, 111.1, 35.1))

    def test_bytes_with_a_byte_order_mark_are_read(self) -> None:
        assert len(read_geojson(b"\xef\xbb\xbf" + json.dumps(collection(feature())).encode()).shapes) == 1

    def test_holes_are_kept(self) -> None:
        hole = [[111.02, 35.02], [111.02, 35.04], [111.04, 35.04], [111.04, 35.02], [111.02, 35.02]]
        shapes, report = read_geojson(collection(feature([SQUARE[0], hole])))
        assert not report
        index = TerritoryIndex(shapes, tolerance_m=10)
        assert index.locate(111.03, 35.03).how == "outside"
        assert index.locate(111.05, 35.05).how == "inside"

    def test_the_caller_may_say_which_property_is_which(self) -> None:
        wanted = feature(gid=7, label="Seven", zh="七", grade="rural", rank="-2", tier=4.0)
        (shape,) = read_geojson(
            collection(wanted),
            code_field="gid",
            name_field="label",
            name_local_field="zh",
            site_class_field="grade",
            priority_field="rank",
            level_field="tier",
        ).shapes
        assert (shape.code, shape.name, shape.name_local) == ("7", "Seven", "七")
        assert (shape.site_class, shape.priority, shape.level) == ("rural", -2, 4)

    def test_a_feature_without_name_is_called_by_its_code(self) -> None:
        assert read_geojson(collection(feature(name=None))).shapes[0].name == "A"

    def test_a_feature_without_code_is_known_by_its_id_and_then_by_its_name(self) -> None:
        first, second = feature(code=None) | {"id": 12}, feature(code="")
        assert [s.code for s in read_geojson(collection(first, second)).shapes] == ["12", "Alpha"]

    @pytest.mark.parametrize(
        ("bad", "words"),
        [
            (None, "not a GeoJSON Feature"),
            ({"type": "Feature", "properties": [], "geometry": None}, "geometry is null"),
            ({"type": "Feature", "properties": {"code": "B"}, "geometry": None}, "geometry is null"),
            ({"type": "Feature", "properties": "x", "geometry": None}, "properties"),
            (feature([111, 35], "Point"), "Polygon or MultiPolygon"),
            (feature([[[211.0, 35.0], [111.1, 35.0], [111.1, 35.1], [211.0, 35.0]]]), "longitude 211 is outside"),
            (feature([[[111.0, 95.0], [111.1, 35.0], [111.1, 35.1], [111.0, 95.0]]]), "latitude 95 is outside"),
            (feature([[["111", 35.0], [111.1, 35.0], [111.1, 35.1], [111.0, 35.0]]]), "not a number"),
            (feature([[[111.0], [111.1, 35.0], [111.1, 35.1], [111.0, 35.0]]]), "position"),
            (feature([[111.0, 35.0], [111.1, 35.0]]), "position"),
            (feature([[[179, 0], [-179, 0], [-179, 1], [179, 1], [179, 0]]]), "crosses the 180th meridian"),
            (feature("coordinates"), "nested lists"),
            (feature([SQUARE[0]], "MultiPolygon"), "position"),
            (feature([]), "empty"),
            (feature([[[111.0, 35.0], [111.1, 35.0], [111.0, 35.0]]]), "at least four"),
            (feature([[[111.0, 35.0], [111.1, 35.0], [111.2, 35.0], [111.0, 35.0]]]), "beyond repair"),
            (feature(site_class="lunar"), "site class"),
            (feature(priority=1.5), "priority"),
            (feature(priority=10**30), "priority"),
            (feature(level=-1), "level"),
            (feature(name={"a": 1}), "name"),
            (feature(name="nul\x00l"), "name"),
            (feature(code="x" * 61), "code"),
        ],
    )
    def test_one_bad_feature_is_refused_with_its_reason_and_stops_no_other(self, bad: Any, words: str) -> None:
        if isinstance(bad, dict) and isinstance(bad["properties"], list):
            bad = bad | {"properties": {"code": "L"}}
        shapes, report = read_geojson(collection(bad, feature(code="Good")))
        assert [shape.code for shape in shapes] == ["Good"]
        (entry,) = report
        assert (entry["index"], entry["severity"], entry["action"]) == (0, "refused", "left out")
        assert words in entry["problem"]

    def test_the_second_use_of_a_code_is_refused(self) -> None:
        shapes, report = read_geojson(collection(feature(), feature(name="Again")))
        assert len(shapes) == 1
        assert report[0]["name"] == "Again"
        assert "feature 0" in report[0]["problem"]

    def test_a_bow_tie_is_made_valid_and_its_change_of_area_told(self) -> None:
        tie = [[[111.0, 35.0], [111.1, 35.1], [111.1, 35.0], [111.0, 35.1], [111.0, 35.0]]]
        (shape,), (entry,) = read_geojson(collection(feature(tie)))
        assert shape.geometry.is_valid
        assert shape.geometry.geom_type == "MultiPolygon"
        assert entry["severity"] == "repaired"
        assert "Self-intersection" in entry["problem"]
        assert entry["area_change_m2"] > 1e7

    def test_only_areas_are_kept_of_what_a_repair_leaves(self) -> None:
        spike = [
            [[111.0, 35.0], [111.1, 35.0], [111.1, 35.1], [111.1, 35.3], [111.1, 35.1], [111.0, 35.1], [111.0, 35.0]]
        ]
        (shape,), (entry,) = read_geojson(collection(feature(spike)))
        assert shape.geometry.geom_type == "Polygon"
        assert entry["severity"] == "repaired"
        assert area_m2(shape.geometry) == pytest.approx(area_m2(box(111.0, 35.0, 111.1, 35.1)))

    def test_an_open_ring_is_closed_and_told(self) -> None:
        (shape,), (entry,) = read_geojson(collection(feature([SQUARE[0][:-1]])))
        assert shape.geometry.equals(box(111.0, 35.0, 111.1, 35.1))
        assert "not closed" in entry["problem"]

    def test_a_hole_with_too_few_points_is_dropped_and_told(self) -> None:
        (shape,), (entry,) = read_geojson(
            collection(feature([SQUARE[0], [[111.0, 35.0], [111.1, 35.0], [111.0, 35.0]]]))
        )
        assert len(shape.geometry.interiors) == 0
        assert entry["problem"] == "1 ring(s) with fewer than 4 points"

    @pytest.mark.parametrize(
        ("document", "words"),
        [
            (b"{", "not JSON"),
            (b"\xff\xfe", "not JSON"),
            (b"[1,2]", "FeatureCollection"),
            (b"[" * 3000, "not JSON"),
            (feature(), "a bare Feature"),
            ({"type": "Polygon", "coordinates": SQUARE}, "a bare Polygon"),
            ({"type": "FeatureCollection"}, "list of features"),
            ({"type": "FeatureCollection", "features": {}}, "list of features"),
            (collection(crs={"type": "name", "properties": {"name": "EPSG:2263"}}), "EPSG:2263"),
            (collection(crs={"type": "link", "properties": {"href": "x"}}), "unreadable"),
            (collection(crs=7), "unreadable"),
        ],
    )
    def test_a_file_nobody_could_trust_is_refused_whole(self, document: Any, words: str) -> None:
        with pytest.raises(Invalid) as caught:
            read_geojson(document)
        assert words in str(caught.value)

    @pytest.mark.parametrize("name", ["urn:ogc:def:crs:OGC:1.3:CRS84", "EPSG:4326", "urn:ogc:def:crs:EPSG::4326"])
    def test_an_old_crs_member_that_says_wgs84_is_fine(self, name: str) -> None:
        crs = {"type": "name", "properties": {"name": name}}
        assert len(read_geojson(collection(feature(), crs=crs)).shapes) == 1

    @given(
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
            lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
            max_leaves=20,
        )
    )
    def test_rubbish_as_coordinates_never_breaks_the_reader(self, rubbish: Any) -> None:
        shapes, report = read_geojson(collection(feature(rubbish), feature(rubbish, "MultiPolygon", code="B")))
        assert len(shapes) + sum(entry["severity"] == "refused" for entry in report) == 2


class TestLocating:
    def test_in_an_overlap_the_highest_priority_wins_then_the_smallest_then_the_id(self) -> None:
        big, small = territory("big", 111.0, 35.0, 1.0), territory("small", 111.2, 35.2, 0.2)
        twin, first = territory("small2", 111.2, 35.2, 0.2), territory("first", 110.0, 34.0, 4.0, priority=1)
        assert TerritoryIndex([big, twin, small]).locate(111.3, 35.3).candidates == ("small", "small2", "big")
        assert TerritoryIndex([big, small, first]).locate(111.3, 35.3).territory_id == "first"

    def test_a_point_on_a_shared_border_belongs_to_one(self) -> None:
        index = TerritoryIndex([territory("b", 111.1, 35.0, 0.1), territory("a", 111.0, 35.0, 0.1)])
        assert index.locate(111.1, 35.05).territory_id == "a"
        assert index.locate(111.1, 35.05).how == "inside"

    @pytest.mark.parametrize(("metres", "how"), [(490, "nearest"), (510, "outside")])
    def test_a_point_outside_goes_to_the_nearest_within_the_tolerance(self, metres: float, how: str) -> None:
        index = TerritoryIndex([territory("a", 111.0, 35.0, 0.1)])
        degree = distance_m(111.1, 35.05, 111.2, 35.05) / 0.1
        found = index.locate(111.1 + metres / degree, 35.05)
        assert found.how == how
        assert found.distance_m == pytest.approx(metres, abs=1)
        assert (found.territory_id == "a") is (how == "nearest")
        if how == "outside":
            assert "a is nearest, 0.5 km away" in (found.reason or "")

    def test_near_is_measured_in_metres_not_in_degrees(self) -> None:
        # At 70° north a degree of longitude is a third of one of latitude.
        index = TerritoryIndex([territory("north", 20.0, 70.003, 0.1), territory("east", 20.006, 69.9, 0.1)])
        assert index.locate(20.0, 70.0).territory_id == "east"

    def test_without_territories_everything_is_outside_and_told_why(self) -> None:
        found = TerritoryIndex([]).locate(111, 35)
        assert (found.territory_id, found.how) == (None, "outside")
        assert "imported" in (found.reason or "")

    def test_no_points_give_no_answers(self) -> None:
        assert TerritoryIndex([territory("a", 111, 35, 1)]).locate_many([], []) == []

    def test_a_point_off_the_earth_is_refused_naming_its_position(self) -> None:
        with pytest.raises(Invalid) as caught:
            TerritoryIndex([territory("a", 111, 35, 1)]).locate_many([111, 999], [35, 35])
        assert caught.value.errors[0]["field"] == "/1"

    @pytest.mark.parametrize(
        ("lons", "lats", "words"),
        [
            ([111, True], [35, 35], "longitude is not a number"),
            ([111, "111"], [35, 35], "longitude is not a number"),
            ([111, 111], [35, None], "latitude is not a number"),
            ([111, float("nan")], [35, 35], "longitude is not a finite number"),
            ([111, 111], [35, float("inf")], "latitude is not a finite number"),
            ([111, 10**400], [35, 35], "longitude .* is outside"),
            ([111, 180.1], [35, 35], "longitude 180.1 is outside"),
            ([111, 111], [35, -90.1], "latitude -90.1 is outside"),
            ([111, 0], [35, 0.0], "0/0 is not a place"),
        ],
    )
    def test_of_many_points_the_one_that_is_none_is_named(self, lons: list[Any], lats: list[Any], words: str) -> None:
        index = TerritoryIndex([territory("a", 111, 35, 1)])
        for locate in (index.locate_many, index.locate_ids):
            with pytest.raises(Invalid) as caught:
                locate(lons, lats)
            assert caught.value.errors[0]["field"] == "/1"
            assert re.search(words, caught.value.errors[0]["reason"])

    def test_points_at_the_ends_of_the_earth_are_taken(self) -> None:
        index = TerritoryIndex([territory("a", 111, 35, 1)])
        assert index.locate_ids([180, -180.0, 111, 111.0, 0, 1], [35.5, 35, 90.0, -90, 1, 0]) == [None] * 6

    @settings(max_examples=40)
    @given(
        shapes=st.lists(
            st.tuples(st.integers(0, 12), st.integers(0, 12), st.integers(1, 8), st.integers(-1, 1)), max_size=8
        ),
        spots=st.lists(st.tuples(st.integers(-4, 24), st.integers(-4, 24)), min_size=1, max_size=20),
    )
    def test_many_points_are_located_as_the_rule_says_one_by_one(
        self, shapes: list[tuple[int, int, int, int]], spots: list[tuple[int, int]]
    ) -> None:
        """Squares and points on a lattice of about 100 m, so that borders, corners and overlaps are met."""
        step = 0.001
        drawn = [
            territory(f"t{i}", 111 + x * step, 60 + y * step, size * step, priority)
            for i, (x, y, size, priority) in enumerate(shapes)
        ]
        areas = {shape.id: area_m2(shape.geometry) for shape in drawn}
        index = TerritoryIndex(drawn, tolerance_m=250)
        lons, lats = [111 + x * step for x, _ in spots], [60 + y * step for _, y in spots]
        found = index.locate_many(lons, lats)
        assert index.locate_ids(lons, lats) == [where.territory_id for where in found]
        for lon, lat, where in zip(lons, lats, found, strict=True):
            assert where == index.locate(lon, lat)
            inside = [s for s in drawn if s.geometry.intersects(shapely.Point(lon, lat))]
            inside.sort(key=lambda s: (-s.priority, areas[s.id], s.id))
            assert where.candidates == tuple(s.id for s in inside) or not inside
            assert (where.how == "inside") is bool(inside)
            if not inside and drawn:
                # squares: the nearest place is the point itself, held to the square's sides
                far = sorted(
                    (distance_m(lon, lat, min(max(lon, w), e), min(max(lat, s), n)), shape.id)
                    for shape in drawn
                    for w, s, e, n in [shape.geometry.bounds]
                )
                assert where.distance_m == pytest.approx(far[0][0], abs=0.2)
                near = {name for metres, name in far if metres < 249.9}
                assert near <= set(where.candidates) <= {name for metres, name in far if metres < 250.1}

    def test_threads_may_share_one_index(self) -> None:
        index = TerritoryIndex([territory(f"t{i}", 100 + i * 0.1, 35.0, 0.1) for i in range(50)])
        answers: list[list[str | None]] = []

        def ask() -> None:
            answers.append([index.locate(100.05 + i * 0.1, 35.05).territory_id for i in range(50)])

        threads = [Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert answers == [[f"t{i}" for i in range(50)]] * 8


@pytest.mark.shared_data
class TestRealFiles:
    def test_the_precinct_with_broken_rings_is_repaired_and_reported(self, shared_data: Path) -> None:
        source = (shared_data / "nyc_territories/police_precincts_2013.geojson").read_bytes()
        shapes, report = read_geojson(source)
        assert len(shapes) == 76
        (entry,) = report
        assert (entry["index"], entry["name"], entry["severity"]) == (70, "113", "repaired")
        assert entry["problem"] == "64 ring(s) with fewer than 4 points"
        assert all(shape.geometry.is_valid for shape in shapes)

    def test_the_districts_are_taken_whole_and_every_complaint_is_located(self, shared_data: Path) -> None:
        shapes, report = read_geojson((shared_data / "nyc_territories/community_districts.geojson").read_bytes())
        assert (len(shapes), report) == (59, [])
        assert sum(len(shapely.get_parts(shape.geometry)) for shape in shapes) == 102
        with (shared_data / "nyc_streetlights/complaints_2024-01_2025-09.csv").open(
            encoding="utf-8", newline=""
        ) as file:
            rows = list(csv.DictReader(file))
        found = TerritoryIndex(shapes).locate_many(
            [float(row["longitude"]) for row in rows], [float(row["latitude"]) for row in rows]
        )
        assert sum(where.how != "inside" for where in found) == 343
        boards = {"MANHATTAN": "1", "BRONX": "2", "BROOKLYN": "3", "QUEENS": "4", "STATEN ISLAND": "5"}
        agree = 0
        for row, where in zip(rows, found, strict=True):
            number, _, borough = row["community_board"].partition(" ")
            agree += where.territory_id == f"{boards.get(borough)}{number}"
        assert agree / len(rows) > 0.96

    def test_the_overlapping_councils_are_all_candidates(self, shared_data: Path) -> None:
        shapes, report = read_geojson((shared_data / "la_territories/neighborhood_councils_2019.json").read_bytes())
        assert (len(shapes), report) == (99, [])
        index = TerritoryIndex(shapes)
        tree = shapely.STRtree([shape.geometry for shape in shapes])
        one, other = tree.query([shape.geometry for shape in shapes], predicate="overlaps")
        overlap = max(
            (shapes[a].geometry.intersection(shapes[b].geometry) for a, b in zip(one, other, strict=True)),
            key=lambda g: g.area,
        )
        spot = overlap.representative_point()
        found = index.locate(spot.x, spot.y)
        assert len(found.candidates) > 1
        areas = {shape.id: area_m2(shape.geometry) for shape in shapes}
        assert areas[found.candidates[0]] == min(areas[c] for c in found.candidates)
