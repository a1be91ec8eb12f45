"""Territories in the console: looked at, drawn, edited, and imported after a look at what would become of the file."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from typing import Any

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from fieldsvc.config import Settings
from tests.factories import collection, make_crew, make_staff, make_territories, square
from tests.visitor import Visitor

BOW_TIE = {"type": "Polygon", "coordinates": [[[0, 50], [1, 51], [1, 50], [0, 51], [0, 50]]]}
SMALL = 200_000


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """With so little room for a file that a test can exceed it."""
    return replace(settings, request_bytes=SMALL)


def send(visitor: Visitor, path: str, file: Any, piece: bool = True, **fields: str) -> TestResponse:
    """Send a file as the page of the import does."""
    content = file if isinstance(file, bytes) else json.dumps(file).encode()
    headers = {"HX-Request": "true"} if piece else {}
    return visitor.post(path, headers=headers, file=(io.BytesIO(content), "areas.geojson"), **fields)


def messy() -> dict[str, Any]:
    """New, unchanged and changed ones, one to be repaired, three that are refused."""
    changed = square("B", 111.6, 35.4, site_class="rural", name="<b>New</b> name")
    return collection(
        square("NEW", 112, 35),
        square("A", 111.5, 35.4),
        changed,
        {"type": "Feature", "properties": {"code": "BOW", "name": "Bow tie"}, "geometry": BOW_TIE},
        square("FAR", 500, 35),
        {"type": "Feature", "properties": {"code": "NONE"}, "geometry": None},
        square("NEW", 113, 35),
    )


def codes(app: Flask) -> dict[str, dict[str, Any]]:
    rows = make_staff(app).get("/v1/territories?limit=200").json["items"]
    return {row["code"]: row for row in rows}


def seen(piece: str) -> str:
    found = re.search(r'name="seen" value="([0-9a-f]+)"', piece)
    assert found
    return found.group(1)


def test_a_file_is_looked_at_before_anything_is_stored_and_stored_as_it_was_shown(app: Flask) -> None:
    make_territories(app)
    visitor = Visitor(app, "supervisor")
    assert "GeoJSON file" in visitor.get("/territories/import").text
    before = codes(app)
    look = send(visitor, "/territories/import/check", messy())
    assert look.status_code == 200
    for text in ("2 new", "1 changed", "1 as they are", "1 repaired", "3 refused"):
        assert text in look.text
    assert "Self-intersection" in look.text
    assert "longitude 500 is outside" in look.text
    assert "geometry is null" in look.text
    assert "taken by feature 0 already" in look.text
    assert "&lt;b&gt;New&lt;/b&gt; name" in look.text
    assert "<b>New" not in look.text
    drawing = json.loads(re.search(r'id="import-drawing">(.*?)</script>', look.text).group(1))  # type: ignore[union-attr]
    sides = {(one["properties"]["index"], one["properties"]["side"]) for one in drawing["features"]}
    assert {(3, "raw"), (3, "after"), (0, "after")} <= sides
    assert codes(app) == before
    done = send(visitor, "/territories/import", messy(), seen=seen(look.text))
    assert (done.status_code, done.headers["HX-Redirect"]) == (204, "/territories")
    notice = visitor.get("/territories").text
    assert "2 new, 1 changed, 1 as they were, 1 repaired, 3 refused" in notice
    assert {"NEW", "BOW"} <= codes(app).keys()
    again = send(visitor, "/territories/import/check", messy()).text
    assert "There is nothing to store" in again


def test_what_is_confirmed_is_what_was_seen(app: Flask) -> None:
    make_territories(app)
    visitor = Visitor(app, "supervisor")
    look = seen(send(visitor, "/territories/import/check", messy()).text)
    other = collection(square("OTHER", 10, 10))
    for file, fields in ((other, {}), (messy(), {"level": "7"})):
        refused = send(visitor, "/territories/import", file, seen=look, **fields)
        assert "has changed since you looked" in refused.text
    make_territories(app, square("NEW", 112, 35))
    moved = send(visitor, "/territories/import", messy(), piece=False, seen=look)
    assert (moved.status_code, "has changed since you looked" in moved.text) == (409, True)
    assert codes(app).keys() == {"A", "B", "C", "NEW"}
    assert send(visitor, "/territories/import", messy()).status_code == 422


def test_the_fields_of_the_file_are_chosen_among_its_own(app: Flask) -> None:
    visitor = Visitor(app, "supervisor")
    file = collection(square("x", 10, 50, grid="G-7", nom="Nord", classe="rural"))
    del file["features"][0]["properties"]["code"]
    guessed = send(visitor, "/territories/import/check", file).text
    for name in ("grid", "nom", "classe"):
        assert f'<option value="{name}"' in guessed
    assert "guessed: name" in guessed
    chosen = {"code_field": "grid", "name_field": "nom", "site_class_field": "classe", "priority": "5"}
    look = send(visitor, "/territories/import/check", file, **chosen).text
    assert re.search(r'<option value="grid" selected', look)
    send(visitor, "/territories/import", file, seen=seen(look), **chosen)
    stored = codes(app)["G-7"]
    assert (stored["name"], stored["site_class"], stored["priority"]) == ("Nord", "rural", 5)


def test_files_that_are_no_use_get_clear_words(app: Flask) -> None:
    visitor = Visitor(app, "supervisor")
    mercator = collection(square("A", 1, 1)) | {"crs": {"type": "name", "properties": {"name": "EPSG:3857"}}}
    wrong: list[tuple[Any, str]] = [
        (b"", "The file is empty"),
        (b"PK\x03\x04 a zip", "not JSON"),
        (b'{"type": "FeatureCollection"', "not JSON"),
        (square("A", 1, 1), "FeatureCollection is needed"),
        (mercator, "EPSG:3857"),
        ({"type": "FeatureCollection", "features": 7}, "must be a list of features"),
        (collection(square("A", 1, 1)), ""),
    ]
    for file, words in wrong:
        answer = send(visitor, "/territories/import/check", file)
        assert answer.status_code == (422 if words else 200)
        assert words in answer.text
    assert "Choose a file" in visitor.post("/territories/import/check").text
    wide = {"type": "Feature", "properties": {"name": "x" * (SMALL - 2_000)}, "geometry": None}
    assert send(visitor, "/territories/import/check", collection(wide)).status_code == 200
    wide["properties"]["name"] += "x" * 4_000
    large = send(visitor, "/territories/import/check", collection(wide))
    assert (large.status_code, "too large" in large.text) == (413, True)


def test_a_territory_is_drawn_looked_at_and_edited_and_who_was_faster_is_told(app: Flask) -> None:
    ids = make_territories(app)
    one, two = Visitor(app, "supervisor"), Visitor(app, "supervisor")
    border = json.dumps(square("x", 111.55, 35.45, 0.02)["geometry"])
    look = one.post("/territories/look", geometry=border, code="N")
    assert "places in both go here, as this area is smaller" in look.text
    higher = one.post("/territories/look", geometry=border, code="N", priority="-1")
    assert "places in both go there, as its priority is higher" in higher.text
    assert "not JSON" in one.post("/territories/look", geometry="{").text
    drawn = {"code": "N", "name": "<i>North</i>", "name_local": "北部", "geometry": border, "site_class": "urban"}
    added = one.post("/territories/new", **drawn)
    assert added.status_code == 303
    page = one.get(added.location).text
    assert "&lt;i&gt;North" in page
    assert "北部" in page
    assert "Territory A" in page  # what lies over it
    again = one.post("/territories/new", **drawn)
    assert (again.status_code, 'id="f-code-fault"' in again.text) == (409, True)
    where = make_staff(app).get("/v1/territories/locate?lon=111.56&lat=35.46").json["territory"]
    assert where["code"] == "N"
    edit = {"rev": "1", "name": "North", "geometry": border, "site_class": "rural", "priority": "2", "level": "1"}
    assert one.post(f"{added.location}/edit", **edit).status_code == 303
    late = two.post(f"{added.location}/edit", **edit | {"name": "South"})
    assert late.status_code == 412
    assert one.username in late.text
    assert 'value="South"' in late.text
    assert 'name="rev" value="2"' in late.text
    actions = [row["action"] for row in make_staff(app).get("/v1/history").json["items"]]
    assert {"territory.created", "territory.changed"} <= set(actions)
    assert ids.keys() | {"N"} == codes(app).keys()


def test_a_border_that_has_to_be_repaired_is_stored_only_when_one_says_so(app: Flask) -> None:
    visitor = Visitor(app, "supervisor")
    fields = {"code": "BOW", "name": "Bow tie", "geometry": json.dumps(BOW_TIE)}
    look = visitor.post("/territories/look", geometry=fields["geometry"])
    assert "has to be repaired" in look.text
    asked = visitor.post("/territories/new", **fields)
    assert asked.status_code == 422
    assert 'id="f-geometry-fault"' in asked.text
    assert 'name="repaired"' in asked.text
    assert 'value="Bow tie"' in asked.text
    assert codes(app) == {}
    assert visitor.post("/territories/new", **fields, repaired="true").status_code == 303
    for wrong in ("{", "[]", '{"type": "Point", "coordinates": [1, 2]}', json.dumps(square("x", 300, 1))):
        answer = visitor.post("/territories/new", code="X", name="X", geometry=wrong)
        assert (answer.status_code, 'id="f-geometry-fault"' in answer.text) == (422, True)


def test_a_coast_may_be_longer_than_other_forms(app: Flask, settings: Settings) -> None:
    app.config["MAX_CONTENT_LENGTH"] = 16 * 1024 * 1024
    visitor = Visitor(app, "supervisor")
    ring = [[10 + at / 10_000, 50 + (at % 2) / 1000] for at in range(30_000)] + [[13, 49], [10, 49], [10, 50]]
    border = json.dumps({"type": "Polygon", "coordinates": [ring]})
    assert len(border) > 500_000
    assert visitor.post("/territories/new", code="COAST", name="Coast", geometry=border).status_code == 303


def test_territories_keep_to_scope_and_roles(app: Flask) -> None:
    ids = make_territories(app)
    make_crew(app, "OTHER", [ids["B"]])
    make_crew(app, "MINE", [ids["A"]])
    make_staff(app).post("/v1/jobs", json={"kind": "repair", "title": "In the sea <b>", "lon": 1, "lat": 1})
    everywhere = Visitor(app, "auditor")
    listed = everywhere.get("/territories").text
    assert "1 open job lies in no territory" in listed
    assert "Draw one" not in listed
    tray = everywhere.get("/territories/tray").text
    assert "In the sea &lt;b&gt;" in tray
    assert "outside of every territory" in tray
    mine = Visitor(app, "supervisor", [ids["A"]])
    listed = mine.get("/territories").text
    assert "Territory A" in listed
    assert "Territory B" not in listed
    assert "in no territory" not in listed
    assert "MINE" in mine.get(f"/territories/{ids['A']}").text
    assert mine.get(f"/territories/{ids['B']}").status_code == 404
    # Importing, and so drawing, needs an account for all territories, as in the API.
    refused = ["/territories/tray", "/territories/new", "/territories/import", f"/territories/{ids['A']}/edit"]
    assert [mine.get(path).status_code for path in refused] == [403] * 4
    assert send(mine, "/territories/import/check", messy()).status_code == 403
    assert mine.post("/territories/new", code="X", name="X", geometry=json.dumps(BOW_TIE)).status_code == 403
    for role in ("dispatcher", "auditor"):
        visitor = Visitor(app, role)
        for path in ("/territories/new", "/territories/import", "/territories/look", f"/territories/{ids['A']}/edit"):
            assert visitor.post(path).status_code == 403


def test_jobs_in_no_territory_are_placed_once_there_is_one(app: Flask) -> None:
    staff = make_staff(app)
    for lon, title in ((10.05, "Inside"), (20, "Still outside")):
        staff.post("/v1/jobs", json={"kind": "repair", "title": title, "lon": lon, "lat": 50.05})
    visitor = Visitor(app, "dispatcher")
    assert "Place them" not in visitor.get("/territories/tray").text
    ids = make_territories(app, square("LATE", 10, 50))
    tray = visitor.get("/territories/tray").text
    assert "in LATE by now" in tray
    assert "Place them" in tray
    assert visitor.post("/territories/tray").status_code == 303
    assert "Inside" not in visitor.get("/territories/tray").text
    placed = staff.get("/v1/jobs?limit=10").json["items"]
    assert {job["title"]: job["territory_id"] for job in placed} == {"Inside": ids["LATE"], "Still outside": None}
    assert Visitor(app, "auditor").post("/territories/tray").status_code == 403
