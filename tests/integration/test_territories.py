"""Territories: import with a report, look up, find by point; by API and by command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from flask import Flask

from fieldsvc.cli import main
from fieldsvc.config import Settings
from tests.factories import collection, make_crew, make_device, make_staff, make_territories, square

BOW_TIE = [[0, 50], [1, 51], [1, 50], [0, 51], [0, 50]]


def messy() -> dict:
    """Three that overlap, one with a hole, one in two parts, one with a crossing ring, and three that are no use."""
    hole = square("HOLE", 10, 50, 1)
    hole["geometry"]["coordinates"].append([[10.4, 50.4], [10.4, 50.6], [10.6, 50.6], [10.6, 50.4], [10.4, 50.4]])
    parts = square("PARTS", 20, 50, 1)
    other = square("x", 22, 50, 1)["geometry"]["coordinates"]
    parts["geometry"] = {"type": "MultiPolygon", "coordinates": [parts["geometry"]["coordinates"], other]}
    crossing = square("CROSS", 0, 50)
    crossing["geometry"]["coordinates"] = [BOW_TIE]
    nowhere = square("NOWHERE", 500, 50)
    empty = square("EMPTY", 0, 0) | {"geometry": None}
    return collection(
        square("BIG", 30, 50, 2),
        square("SMALL", 30.5, 50.5, 0.5),
        square("FIRST", 30.6, 50.6, 1, priority=5),
        hole,
        parts,
        crossing,
        nowhere,
        empty,
        square("BIG", 40, 50),
    )


def test_a_messy_file_is_imported_with_a_report_and_again_changes_nothing(app: Flask) -> None:
    caller = make_staff(app, "supervisor")
    answer = caller.post("/v1/territories/import", json=messy())
    assert answer.status_code == 200
    report = answer.json
    assert (report["created"], report["repaired"], report["refused"]) == (6, 1, 3)
    assert {(entry["index"], entry["severity"]) for entry in report["entries"]} == {
        (5, "repaired"),
        (6, "refused"),
        (7, "refused"),
        (8, "refused"),
    }
    assert all(entry["problem"] and entry["action"] and entry["name"] for entry in report["entries"])
    again = caller.post("/v1/territories/import", data=json.dumps(messy()), content_type="application/geo+json").json
    assert (again["created"], again["updated"], again["unchanged"]) == (0, 0, 6)


def locate(caller, lon: float, lat: float) -> dict:
    answer = caller.get(f"/v1/territories/locate?lon={lon}&lat={lat}")
    assert answer.status_code == 200
    return answer.json


def test_a_point_belongs_to_the_highest_priority_then_the_smallest(app: Flask) -> None:
    caller = make_staff(app, "supervisor")
    caller.post("/v1/territories/import", json=messy())

    def code(lon: float, lat: float) -> str | None:
        territory = locate(caller, lon, lat)["territory"]
        return territory and territory["code"]

    assert code(30.1, 50.1) == "BIG"
    assert code(30.55, 50.55) == "SMALL"
    assert code(30.7, 50.7) == "FIRST"
    assert len(locate(caller, 30.7, 50.7)["candidates"]) == 3
    assert code(10.1, 50.1) == "HOLE"
    assert code(20.5, 50.5) == code(22.5, 50.5) == "PARTS"
    assert code(0.9, 50.5) == "CROSS"
    in_hole = locate(caller, 10.5, 50.5)
    assert (in_hole["territory"], in_hole["how"]) == (None, "outside")
    assert "nearest" in in_hole["reason"] and in_hole["distance_m"] > 5000
    near = locate(caller, 29.997, 51)
    assert (near["territory"]["code"], near["how"]) == ("BIG", "nearest")
    assert 150 < near["distance_m"] < 250


def test_a_changed_territory_is_found_at_once_and_its_crews_see_it(app: Flask) -> None:
    ids = make_territories(app)
    caller = make_staff(app)
    handheld = make_device(app, make_crew(app, territory_ids=[ids["A"]]))
    assert locate(caller, 111.55, 35.45)["territory"]["code"] == "A"
    moved = square("A", 100, 30, name="Moved", site_class="remote")
    report = caller.post("/v1/territories/import", json=collection(moved)).json
    assert (report["updated"], report["unchanged"]) == (1, 0)
    assert locate(caller, 111.55, 35.45)["territory"] is None
    assert locate(caller, 100.05, 30.05)["territory"]["name"] == "Moved"
    docs = [c["doc"] for c in handheld.client.get("/sync/v1/pull").json["changes"] if c["entity"] == "territory"]
    assert [(doc["name"], doc["site_class"]) for doc in docs] == [("Moved", "remote")]


def test_territories_are_listed_shown_and_given_as_geojson(app: Flask) -> None:
    ids = make_territories(app)
    caller = make_staff(app, "auditor")
    listed = caller.get("/v1/territories?limit=2").json
    assert [row["code"] for row in listed["items"]] == ["A", "B"]
    rest = caller.get("/v1/territories?geometry=true&limit=2&cursor=" + listed["next"])
    assert rest.mimetype == "application/geo+json"
    assert rest.json["type"] == "FeatureCollection" and rest.json["next"] is None
    assert [feature["properties"]["code"] for feature in rest.json["features"]] == ["C"]
    one = caller.get(f"/v1/territories/{ids['B']}")
    assert one.json["geometry"]["type"] == "Polygon" and one.json["properties"]["site_class"] == "rural"
    assert [row["id"] for row in caller.get("/v1/territories?code=B").json["items"]] == [ids["B"]]


def test_what_lies_outside_of_the_scope_is_not_named(app: Flask) -> None:
    ids = make_territories(app)
    caller = make_staff(app, "dispatcher", [ids["A"]])
    assert [row["code"] for row in caller.get("/v1/territories").json["items"]] == ["A"]
    assert caller.get(f"/v1/territories/{ids['B']}").status_code == 404
    there = locate(caller, 111.65, 35.45)
    assert (there["territory"], there["candidates"]) == (None, [])
    assert "Territory B" not in json.dumps(there)
    assert "Territory" not in locate(caller, 50, 50)["reason"]
    assert "0/0" in locate(caller, 0, 0)["reason"]


def test_only_who_sees_all_territories_may_import(app: Flask) -> None:
    ids = make_territories(app)
    for caller in (
        make_staff(app, "dispatcher"),
        make_staff(app, "auditor"),
        make_staff(app, "supervisor", [ids["A"]]),
    ):
        refused = caller.post("/v1/territories/import", json=collection(square("N", 0, 10)))
        assert (refused.status_code, refused.json["type"]) == (403, "/problems/forbidden")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"\xff\xfe", 400),
        (b"[" * 100_000, 400),
        (b"[]", 422),
        (b'"text"', 422),
        (b'{"type":"Feature"}', 422),
        (b'{"type":"FeatureCollection"}', 422),
        (b'{"type":"FeatureCollection","features":{}}', 422),
        (b'{"type":"FeatureCollection","features":[],"crs":{"properties":{"name":"EPSG:2263"}}}', 422),
    ],
)
def test_what_is_no_feature_collection_is_refused(app: Flask, body: bytes, status: int) -> None:
    refused = make_staff(app).post("/v1/territories/import", data=body, content_type="application/geo+json")
    assert (refused.status_code, refused.mimetype) == (status, "application/problem+json")


@pytest.mark.parametrize(
    "query",
    [
        "",
        "lon=1",
        "lon=181&lat=0",
        "lon=0&lat=-90.5",
        "lon=x&lat=0",
        "lon=nan&lat=0",
        "lon=1e999&lat=0",
        "lon=1&lat=1&x=1",
        "lon=1&lon=2&lat=1",
        "lon=1&lat=",
        "lon=%00&lat=1",
        "lon=%ff&lat=1",
        "lon=1%20&lat=1",
    ],
)
def test_a_place_not_on_earth_is_refused(app: Flask, query: str) -> None:
    refused = make_staff(app).get(f"/v1/territories/locate?{query}")
    assert (refused.status_code, refused.json["type"]) == (422, "/problems/invalid")
    assert refused.json["errors"][0]["field"] in ("lon", "lat", "x", "query")


def command(settings: Settings, *arguments: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("DATABASE_URL", settings.database_url)
    monkeypatch.setenv("FIELDSVC_SECRET_KEY", "a key for tests")
    done = CliRunner().invoke(main, [*arguments, "--data-dir", str(settings.data_dir)])
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.shared_data
def test_real_territories_are_imported_by_the_command_twice(
    app: Flask, settings: Settings, monkeypatch: pytest.MonkeyPatch, shared_data: Path
) -> None:
    folder = shared_data / "nyc_territories"
    file = str(folder / "community_districts.geojson")
    out = command(settings, "import", "territories", file, monkeypatch=monkeypatch)
    assert "59 created, 0 updated, 0 unchanged, 0 repaired, 0 refused" in out
    out = command(settings, "import", "territories", file, monkeypatch=monkeypatch)
    assert "0 created, 0 updated, 59 unchanged" in out
    caller = make_staff(app)
    assert locate(caller, -73.9857, 40.7484)["territory"]["code"] == "105"
    precincts = str(folder / "police_precincts_2013.geojson")
    out = command(settings, "import", "territories", precincts, "--name-field", "Precinct", monkeypatch=monkeypatch)
    assert "1 repaired" in out and "fewer than 4 points" in out
