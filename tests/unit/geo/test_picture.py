from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import pytest
from shapely.geometry import box

from fieldsvc.geo.picture import MapCrew, MapJob, MapRoute, svg
from fieldsvc.geo.territories import TerritoryShape

SVG = "{http://www.w3.org/2000/svg}"
HERE = [
    TerritoryShape("a", "A1", "Gujiang", "古绛", 1, "urban", 0, box(111.4, 35.4, 111.6, 35.6)),
    TerritoryShape("b", "B1", "Beidong", None, 1, "remote", 0, box(111.6, 35.4, 111.8, 35.6)),
]


def drawn(**what: list) -> ET.Element:
    facts = {"territories": HERE, "jobs": [], "crews": [], "routes": []} | what
    return ET.fromstring(svg(**facts, title="A day", attribution="GeoNames"))


def texts(root: ET.Element) -> list[str]:
    return ["".join(node.itertext()) for node in root.iter(f"{SVG}text")]


def test_the_picture_names_territories_attribution_scale_and_counts() -> None:
    said = texts(drawn(jobs=[MapJob(111.5, 35.5, "repair", "completed")]))
    for wanted in ("A day", "GeoNames", "Gujiang 古绛", "Beidong", "1 job", "2 territories", "urban", "remote"):
        assert wanted in said
    assert any(re.fullmatch(r"\d+ km", text) for text in said)


def test_kinds_differ_in_form_and_states_in_colour() -> None:
    forms = {"repair": "circle", "meter_change": "polygon", "safety_inspection": "polygon", "tree_cutting": "polygon"}
    fills = set()
    shapes = set()
    for kind, form in forms.items():
        for state in ("waiting_to_be_scheduled", "dispatched", "in_progress", "closed", "returned"):
            root = drawn(jobs=[MapJob(111.5, 35.5, kind, state, "the job")])
            (marker,) = [n for n in root.iter(f"{SVG}{form}") if n.find(f"{SVG}title") is not None]
            fills.add(marker.get("fill"))
            shapes.add((form, len((marker.get("points") or "").split()), (marker.get("points") or "")[:6]))
    assert len(fills) == 5
    assert len(shapes) == 4


@pytest.mark.parametrize("status", ["waiting_to_be_scheduled", "scheduled", "suspended", "cancelled", "not heard of"])
def test_every_status_can_be_drawn(status: str) -> None:
    assert "1 job" in texts(drawn(jobs=[MapJob(111.5, 35.5, "repair", status)]))


def test_names_are_escaped_and_what_xml_cannot_hold_is_left_out() -> None:
    crew = MapCrew('<b>"&', "x\x00y\ud800z", 111.5, 35.5)
    root = drawn(crews=[crew], jobs=[MapJob(111.5, 35.5, "<k>", "closed", "<script>alert(1)</script>")])
    assert not list(root.iter(f"{SVG}script"))
    assert '<b>"&' in texts(root)
    assert any("xyz" in text for text in texts(root))


def test_a_route_runs_from_the_base_through_its_stops_in_the_crews_colour() -> None:
    crews = [MapCrew("C1", "One", 111.45, 35.45), MapCrew("C2", "Two", 111.7, 35.5)]
    routes = [MapRoute("C1", ((111.5, 35.5), (111.55, 35.45))), MapRoute("C2", ((111.65, 35.5),))]
    lines = [
        line for line in drawn(crews=crews, routes=routes).iter(f"{SVG}polyline") if line.get("stroke") != "#ffffff"
    ]
    assert [len((line.get("points") or "").split()) for line in lines] == [3, 2]
    assert lines[0].get("stroke") != lines[1].get("stroke")


def test_twelve_crews_can_be_told_apart() -> None:
    crews = [MapCrew(f"C{i}", f"Crew {i}", 111.5, 35.5) for i in range(12)]
    routes = [MapRoute(crew.code, ((111.6, 35.5),)) for crew in crews]
    lines = [n for n in drawn(crews=crews, routes=routes).iter(f"{SVG}polyline") if n.get("stroke") != "#ffffff"]
    assert len({(line.get("stroke"), line.get("stroke-dasharray")) for line in lines}) == 12


def test_tags_of_crews_at_one_base_do_not_cover_each_other() -> None:
    root = drawn(crews=[MapCrew(f"C{i}", f"Crew {i}", 111.5, 35.5) for i in range(5)])
    tags = [node for node in root.iter(f"{SVG}rect") if node.get("rx") == "4" and node.get("height") == "18"]
    places = {(tag.get("x"), tag.get("y")) for tag in tags}
    assert len(places) == 5


def test_jobs_beyond_the_map_are_counted_not_drawn() -> None:
    root = drawn(jobs=[MapJob(120.0, 35.5, "repair", "closed", "far")])
    assert "beyond the map" in texts(root)
    assert not [node for node in root.iter(f"{SVG}circle") if node.find(f"{SVG}title") is not None]


@pytest.mark.parametrize("jobs", [[], [MapJob(111.5, 35.5, "repair", "closed")]])
def test_without_territories_the_jobs_make_the_map(jobs: list[MapJob]) -> None:
    root = drawn(territories=[], jobs=jobs)
    assert root.get("width") == "1200"
    assert "beyond the map" not in texts(root)


def test_the_same_day_gives_the_same_picture() -> None:
    again = [svg(HERE, [], [], [], "A day", "GeoNames") for _ in range(2)]
    assert again[0] == again[1]
