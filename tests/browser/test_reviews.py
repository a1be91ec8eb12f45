"""Deciding what waits, by keyboard alone; the sync desk beside it."""

from __future__ import annotations

from collections.abc import Callable

from playwright.sync_api import expect

from fieldsvc.console.words import vocabulary
from tests import factories
from tests.browser.console import Console
from tests.field import Field, Phone, exchange, repaired
from tests.running import Running

WEST, SOUTH = -80.0, -50.0
SAID = vocabulary()


def _scene(field: Field) -> tuple[str, Phone, list[str]]:
    """A crew's territory, its phone and three jobs: one was cancelled, at one a register fell, one was done twice."""
    territory = factories.make_territories(field.app, factories.square("REV", WEST, SOUTH))["REV"]
    phone = field.phone(field.crew(territory_ids=[territory], lon=WEST + 0.05, lat=SOUTH + 0.05))
    place = field.place({"total": "999990.0"}, lon=WEST + 0.05, lat=SOUTH + 0.05)
    jobs = [field.job(kind, phone.crew_id, place) for kind in ("repair", "meter_change", "repair")]
    field.cancel(jobs[0])
    ops = [
        phone.op("job.complete", jobs[0], repaired()),
        phone.op("meter.exchange", jobs[1], exchange(place, f"NEW-{jobs[1][-6:]}", "25.0")),
        phone.op("job.complete", jobs[2], repaired()),
        phone.op("job.complete", jobs[2], repaired(work_done="did it again")),
    ]
    assert phone.send(*ops) == ["parked", "parked", "applied", "parked"]
    return territory, phone, jobs


def test_three_in_a_row_by_keyboard(served: Running, console: Callable[..., Console]) -> None:
    territory, phone, jobs = _scene(served.field)
    person = console(territory_ids=[territory])
    page = person.open("/reviews")
    assert person.violations() == []
    page.keyboard.press("o")
    heading = page.locator("h1")
    expect(heading).to_have_text(SAID["completed_after_cancel"]["en"])
    page.wait_for_load_state("load")  # keys work from then on
    assert person.violations() == []

    page.keyboard.press("a")
    expect(page.locator("#f-note-fault")).to_be_visible()
    page.wait_for_load_state("load")  # keys work from then on
    page.keyboard.press("n")
    page.keyboard.type("asked the crew: it was done")
    page.keyboard.press("Escape")
    page.keyboard.press("a")
    expect(page.locator("#notices")).to_contain_text("is told with its next contact")
    expect(heading).to_have_text(SAID["register_fell"]["en"])
    page.wait_for_load_state("load")  # keys work from then on
    assert person.violations() == []
    page.keyboard.press("1")
    expect(page.locator("#f-note")).to_have_value("Photo checked")
    page.keyboard.press("w")
    expect(heading).to_have_text(SAID["duplicate_work"]["en"])
    page.wait_for_load_state("load")  # keys work from then on
    page.keyboard.press("1")
    page.keyboard.press("d")
    expect(page.locator("#notices")).to_contain_text("Nothing else waits here.")
    expect(page.locator(".empty")).to_be_visible()
    assert [served.field.status(job) for job in jobs] == ["completed", "in_progress", "completed"]

    page.wait_for_load_state("load")  # keys work from then on
    page.keyboard.press("g")
    page.keyboard.press("s")
    expect(page.locator("h1")).to_have_text("Sync desk")
    expect(page.locator("#desk")).to_contain_text("outcomes have not been fetched")
    assert person.violations() == []
    page.locator("#tile-unheard").focus()
    phone.pull()
    page.evaluate("() => htmx.ajax('GET', location.pathname, {target: '#desk', source: '#desk'})")
    expect(page.locator("#desk")).not_to_contain_text("outcomes have not been fetched")
    expect(page.locator("#desk-q")).to_be_visible()
