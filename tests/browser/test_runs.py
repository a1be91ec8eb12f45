"""A plan in a browser: asked for, watched until it has ended, looked at, a part of it accepted."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from playwright.sync_api import expect

from fieldsvc.base.clock import format_time, utc_now
from tests import factories
from tests.browser.console import TABLET, Console
from tests.running import Running


def test_a_plan_is_watched_looked_at_and_accepted_in_part(console: Callable[..., Console], served: Running) -> None:
    app, office = served.field.app, served.field.office
    west, south = 60.3, -45.7
    area = factories.make_territories(app, factories.square("RUNS", west, south, name="Runs"))["RUNS"]
    at = {"lon": west + 0.05, "lat": south + 0.05}
    crew = factories.make_crew(app, "RUN-1", [area], **at)
    blind = factories.make_crew(app, "RUN-2", [area], ["repair"], **at)
    make = {"kind": "safety_inspection", "title": "Lantern", "address": "Quay 1", **at}
    lead = office.post("/v1/jobs", json=make).json
    office.post("/v1/jobs", json={**make, "follows_job_id": lead["id"]})
    stays = office.post("/v1/jobs", json=make).json
    later = format_time(utc_now() + timedelta(hours=7))
    office.post(f"/v1/jobs/{stays['id']}/assign", json={"crew_id": crew, "pin": True, "planned_start": later})
    person = console(territory_ids=[area])
    page = person.open("/runs/new")
    page.get_by_role("radio", name="Plan anew").check()
    expect(page.get_by_role("radio", name="Show me first")).to_be_checked()
    assert person.violations() == []
    page.get_by_role("button", name="Make the plan").click()
    expect(page.get_by_role("heading", name="What changes")).to_be_visible()
    page.locator("#picture").scroll_into_view_if_needed()
    expect(page.locator("#picture")).to_have_attribute("data-drawn", "2")
    expect(page.locator(".run-time .vis-item.mark-new").first).to_be_visible()
    expect(page.locator(".run-time .vis-item.mark-same")).to_contain_text(stays["number"])
    expect(page.locator(".run-map .beside-dot")).to_have_count(1)
    page.get_by_role("button", name="Before", exact=True).click()
    expect(page.locator(".run-time .vis-item.mark-new")).to_have_count(0)
    why = page.locator("tr[data-job]").last
    why.get_by_text("Why not another?").click()
    expect(why.get_by_label("Why not:")).to_be_visible()
    expect(why.locator(".htmx-added, .htmx-settling")).to_have_count(0)
    why.get_by_label("Why not:").select_option(blind)
    expect(why.get_by_text("RUN-2 lacks")).to_be_visible()
    assert person.violations() == []
    page.get_by_role("checkbox", name="Accept the change of").last.check()
    expect(page.locator("#ticked")).to_have_text("1 ticked")
    page.get_by_role("button", name="Accept what is ticked").click()
    expect(page.get_by_role("heading", name="1 more change has to go along")).to_be_visible()
    page.get_by_role("button", name="Accept, with these").click()
    expect(page.get_by_text("Carried out").first).to_be_visible()
    page.set_viewport_size({"width": TABLET[0], "height": TABLET[1]})
    assert person.fits()
    person.open("/runs")
    expect(page.get_by_text("Accepted", exact=True)).to_be_visible()
    assert person.violations() == []
