"""What maps are drawn of: outlines of the own territories, streets of the loaded network, what may be kept of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from flask import Flask

from fieldsvc.geo import streets
from fieldsvc.geo.source import TravelSource
from tests import factories
from tests.visitor import Visitor


def test_outlines_are_of_the_own_territories_and_need_not_be_sent_twice(app: Flask) -> None:
    ids = factories.make_territories(app)
    own = Visitor(app, territory_ids=[ids["A"], ids["B"]])
    answer = own.get("/map/territories?zoom=12", Accept="application/json")
    assert (answer.status_code, answer.mimetype) == (200, "application/geo+json")
    found = answer.json
    assert found is not None
    assert [feature["properties"]["code"] for feature in found["features"]] == ["A", "B"]
    assert found["bbox"] == pytest.approx([111.5, 35.4, 111.7, 35.5])
    first = found["features"][0]
    west, south, east, north = first["properties"]["box"]
    lon, lat = first["properties"]["at"]
    assert west < lon < east
    assert south < lat < north
    assert {"private", "no-cache"} <= set(answer.headers["Cache-Control"].split(", "))
    again = own.get("/map/territories?zoom=12", Accept="application/json", If_None_Match=answer.headers["ETag"])
    assert (again.status_code, again.text) == (304, "")
    everything = Visitor(app, "auditor").get("/map/territories", Accept="application/json")
    assert everything.headers["ETag"] != answer.headers["ETag"]
    near_b = own.get("/map/territories?bbox=111.65,35.42,111.66,35.43", Accept="application/json").json
    assert near_b is not None
    assert [feature["properties"]["code"] for feature in near_b["features"]] == ["B"]
    nothing = own.get("/map/territories?bbox=0,0,1,1", Accept="application/json").json
    assert nothing == {"type": "FeatureCollection", "features": []}


@pytest.mark.parametrize(
    "query",
    ["", "bbox=1,2,3", "bbox=a,b,c,d", "bbox=-200,0,0,1", "bbox=0,1,1,0", "bbox=0,0,1,1&zoom=99", "bbox=0,0,1,1&x=1"],
)
def test_a_box_that_is_none_is_refused(app: Flask, query: str) -> None:
    assert Visitor(app).get(f"/map/streets?{query}", Accept="application/json").status_code == 422


def _town(folder: Path) -> str:
    """Three blocks of a street, both ways, with a fast road across its end."""
    folder.mkdir()
    nodes = ["a,111.500,35.400", "b,111.501,35.400", "c,111.502,35.400", "d,111.502,35.410"]
    edges = ["a,b,90,20", "b,a,90,20", "b,c,90,20", "c,b,90,20", "c,d,1110,60"]
    (folder / "nodes.csv").write_text("\n".join(["node_id,lon,lat", *nodes]), "utf-8")
    (folder / "edges.csv").write_text("\n".join(["from_node,to_node,length_m,travel_time_s", *edges]), "utf-8")
    return f"roads:{folder}"


def test_streets_of_the_loaded_network_stand_in_for_tiles(app: Flask, tmp_path: Path) -> None:
    visitor = Visitor(app, "auditor")
    box = "/map/streets?bbox=111.49,35.39,111.51,35.42&zoom=16"
    assert visitor.get(box, Accept="application/json").json == {"lines": []}
    app.extensions["fieldsvc.travel"] = TravelSource.of(_town(tmp_path / "town"))
    answer = visitor.get(box, Accept="application/json")
    assert answer.json == {"lines": [[[111.5, 35.4], [111.502, 35.4], [111.502, 35.41]]]}
    assert "max-age=3600" in answer.headers["Cache-Control"]
    assert visitor.get(box, Accept="application/json", If_None_Match=answer.headers["ETag"]).status_code == 304
    elsewhere = visitor.get("/map/streets?bbox=10,10,11,11", Accept="application/json")
    assert elsewhere.json == {"lines": []}
    # Of too many the main roads stay.
    network = app.extensions["fieldsvc.travel"].network
    assert streets.of(network).within((111, 35, 112, 36), 0.0, most=1) == [[[111.502, 35.4], [111.502, 35.41]]]


def test_only_who_may_assign_can_drop_jobs_on_crews(app: Flask) -> None:
    assert "data-assign" in Visitor(app).get("/").text
    assert "data-assign" not in Visitor(app, "auditor").get("/").text


def test_a_stranger_gets_no_map(app: Flask) -> None:
    for path in ("/map/territories", "/map/streets?bbox=0,0,1,1"):
        answer = app.test_client().get(
            path, base_url="https://console.example.org", headers={"Accept": "application/json"}
        )
        assert answer.status_code == 401
