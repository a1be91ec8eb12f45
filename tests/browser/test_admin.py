"""The console's administration in a browser: a border drawn on the map and typed as text, a file looked at before it is
stored, a device that enrols while one looks at its code, and nothing that keeps anybody out."""

from __future__ import annotations

import json
from collections.abc import Callable

from playwright.sync_api import Page, expect

from tests.browser.console import Console
from tests.factories import collection, make_crew, make_territories, square
from tests.running import Running

WEST, SOUTH = 150.0, -48.0
"""Where no other test has anything."""


def geometry(page: Page) -> dict[str, object]:
    found: dict[str, object] = json.loads(page.locator("[name=geometry]").input_value())
    return found


def test_a_border_is_typed_and_drawn_and_says_what_it_lies_over(
    served: Running, console: Callable[..., Console]
) -> None:
    make_territories(served.field.app, square("OLD", WEST, SOUTH, 0.2, name="Old harbour"))
    person = console("supervisor")
    page = person.open("/territories/new")
    expect(page.locator("#draw-map .leaflet-control-zoom")).to_be_visible()
    page.locator("[name=code]").fill("DRAWN")
    page.locator("[name=name]").fill("Drawn by hand")
    page.get_by_text("The border as text").click()
    text = page.locator("[name=geometry]")
    text.fill(json.dumps(square("x", WEST + 0.05, SOUTH + 0.05, 0.05)["geometry"]))
    text.blur()
    look = page.locator("#border-look")
    expect(look).to_contain_text("Old harbour")
    expect(look).to_contain_text("places in both go here, as this area is smaller")
    expect(page.locator("#draw-map path.area")).to_have_count(1)

    # A second part beside the first, with the mouse: the text follows the map.
    box = page.locator("#draw-map").bounding_box()
    assert box is not None
    page.get_by_role("button", name="Draw a rectangle", exact=True).click()
    x, y = box["x"] + box["width"] * 0.85, box["y"] + box["height"] * 0.15
    page.mouse.move(x, y)
    page.mouse.click(x, y)
    page.mouse.move(x + 30, y + 20)
    page.mouse.click(x + 60, y + 40)
    expect(page.locator("#draw-map path.area")).to_have_count(2)
    assert geometry(page)["type"] == "MultiPolygon"
    assert person.violations() == []
    page.get_by_role("button", name="Add the territory").click()
    expect(page.locator("h1")).to_contain_text("Drawn by hand")
    expect(page.locator("#territory-map path.area-plain")).to_be_attached()


def test_a_file_is_looked_at_and_then_stored(served: Running, console: Callable[..., Console]) -> None:
    make_territories(served.field.app, square("FILE-1", WEST + 1, SOUTH, 0.2))
    bow_tie = square("FILE-3", WEST + 2, SOUTH, 0.2)
    ring = bow_tie["geometry"]["coordinates"][0]
    ring[1], ring[2] = ring[2], ring[1]
    new = square("FILE-2", WEST + 1.5, SOUTH, 0.2, grid="FILE-2b")
    file = collection(square("FILE-1", WEST + 1, SOUTH, 0.2), new, bow_tie, square("FILE-4", 500, SOUTH))
    person = console("supervisor")
    page = person.open("/territories/import")
    page.locator("#f-file").set_input_files(
        {"name": "areas.geojson", "mimeType": "application/json", "buffer": json.dumps(file).encode()}
    )
    preview = page.locator("#preview")
    expect(preview.locator(".counts")).to_contain_text("2 new")
    expect(preview.locator("#import-map path.area-raw")).to_be_attached()
    page.locator("[name=code_field]").select_option("grid")
    expect(preview.locator(".counts")).to_contain_text("1 new")
    page.locator("[name=code_field]").select_option("")
    expect(preview.locator(".counts")).to_contain_text("2 new")
    preview.get_by_role("button", name="Show on the map").first.click()
    assert person.violations() == []
    preview.get_by_role("button", name="Import", exact=True).click()
    expect(page.locator(".notice")).to_contain_text("2 new, 0 changed, 1 as they were, 1 repaired, 1 refused")
    expect(page.locator("#territories-map path.area-quiet").first).to_be_attached()


def test_a_code_is_shown_until_a_device_has_used_it(served: Running, console: Callable[..., Console]) -> None:
    app = served.field.app
    territory_id = make_territories(app, square("DEVICES", WEST + 3, SOUTH, 0.2))["DEVICES"]
    crew_id = make_crew(app, territory_ids=[territory_id], lon=WEST + 3.1, lat=SOUTH + 0.1)
    person = console("supervisor", territory_ids=[territory_id])
    page = person.open(f"/crews/{crew_id}")
    expect(page.locator("#crew-map .crew")).to_be_attached()
    expect(page.locator("#crew-way")).to_contain_text("Taken to be at its base")
    page.get_by_role("button", name="Enrol a device").click()
    expect(page.locator(".qr svg")).to_be_visible()
    expect(page.locator("#code-state")).to_contain_text("Time left: 15 min")
    code = page.locator(".secret").inner_text()
    assert code not in page.url
    assert person.violations() == []
    told = {"code": code, "install_id": "tablet-of-the-test", "platform": "android 15", "app_version": "3.2.0"}
    assert app.test_client().post("/sync/v1/enrol", json=told).status_code == 201
    expect(page.locator("#code-state")).to_contain_text("tablet-of-the-test")
    page.get_by_role("link", name="tablet-of-the-test").click()
    expect(page.get_by_role("heading", name="Revoke")).to_be_visible()


def test_forms_of_what_is_there_keep_nobody_out(served: Running, console: Callable[..., Console]) -> None:
    territory_id = make_territories(served.field.app, square("AXE", WEST + 4, SOUTH, 0.2))["AXE"]
    crew_id = make_crew(served.field.app, territory_ids=[territory_id], lon=WEST + 4.1, lat=SOUTH + 0.1)
    person = console("admin", theme="dark")
    for path in (f"/crews/{crew_id}/edit", f"/territories/{territory_id}/edit", f"/users/{person.staff_id}"):
        person.open(path)
        assert person.violations() == [], path
