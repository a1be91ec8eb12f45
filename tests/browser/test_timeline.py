"""The crews' timeline in a browser: dragging, what breaks, the keyboard, taking back, two dispatchers on one job."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, Route, expect

from fieldsvc.base.clock import format_time, utc_now
from tests.browser.console import Console
from tests.factories import make_crew, make_territories, square
from tests.field import Field, done
from tests.running import Running

WEST, SOUTH = 7.0, -12.0
MARKUP = "<img src=x onerror=alert(1)>"


@dataclass
class Day:
    """Two crews on duty, ALL that can do everything and FIX that only repairs, and jobs that wait."""

    field: Field
    territory_id: str
    crews: dict[str, str]
    jobs: dict[str, dict[str, Any]]

    def now(self, name: str) -> dict[str, Any]:
        return self.field.get(f"/v1/jobs/{self.jobs[name]['id']}")


@pytest.fixture(scope="module")
def day(served: Running) -> Day:
    field, app = served.field, served.field.app
    ident = make_territories(app, square("TL", WEST, SOUTH))["TL"]
    crews = {}
    for code, skills in (("TL-ALL", ("repair", "metering", "inspection")), ("TL-FIX", ("repair",))):
        crews[code] = make_crew(app, code, [ident], skills, lon=WEST + 0.05, lat=SOUTH + 0.05)
        phone = field.phone(crews[code])  # a crew that has been heard of
        done(phone.client.post("/sync/v1/hello", json={"device_time": format_time(utc_now())}))
    jobs = {}
    late = {"due_at": format_time(utc_now() + timedelta(minutes=40))}
    members: dict[str, dict[str, Any]] = {
        "easy": {"title": MARKUP}, "late": late, "meter": {"kind": "meter_change"}, "keys": {}, "both": {},
    }  # fmt: skip
    for place, (name, more) in enumerate(members.items()):
        wanted: dict[str, Any] = {"kind": "repair", "title": name, "service_minutes": 30, **more}
        wanted = {"due_at": format_time(utc_now() + timedelta(hours=12)), **wanted}
        where = {"lon": WEST + 0.02 + 0.01 * place, "lat": SOUTH + 0.05}
        jobs[name] = done(field.office.post("/v1/jobs", json={**where, **wanted}), 201)
    return Day(field, ident, crews, jobs)


def row(page: Page, crew: str) -> Locator:
    return page.locator("#timeline .vis-label").filter(has_text=crew)


def drag(page: Page, what: Locator, crew: str, share: float, over: Callable[[], None] | None = None) -> None:
    """To the row of a crew, at a share of its width."""
    start, end, rows = what.bounding_box(), row(page, crew).bounding_box(), page.locator("#timeline .vis-center")
    area = rows.first.bounding_box()
    assert start is not None and end is not None and area is not None
    page.mouse.move(start["x"] + 12, start["y"] + start["height"] / 2)
    page.mouse.down()
    x, y = area["x"] + area["width"] * share, end["y"] + end["height"] / 2
    page.mouse.move(x - 40, y - 8, steps=4)
    page.mouse.move(x, y, steps=3)
    if over:
        over()
    page.mouse.up()


def test_dragging_says_what_breaks_and_is_taken_back(console: Callable[..., Console], day: Day) -> None:
    person = console(territory_ids=[day.territory_id])
    page = person.open("/")
    chip = {name: page.locator(f'.tl-chip[data-job="{job["id"]}"]') for name, job in day.jobs.items()}
    item = {name: page.locator(f'.vis-item [data-job="{job["id"]}"]') for name, job in day.jobs.items()}
    hint, dialog, told = page.locator(".drag-hint"), page.locator("dialog.assign-dialog"), page.locator("#notices")
    expect(row(page, "TL-FIX")).to_be_visible()
    expect(chip["easy"]).to_be_visible()
    assert page.locator("#timeline img").count() == 0  # text of a record is text
    # nothing breaks: done at once, and taken back by a key
    drag(page, chip["easy"], "TL-ALL", 0.25, lambda: expect(hint).to_contain_text("Nothing breaks"))
    expect(told).to_contain_text("is with TL-ALL now, planned for")
    expect(item["easy"]).to_be_visible()
    assert day.now("easy")["crew_id"] == day.crews["TL-ALL"]
    page.keyboard.press("z")
    expect(told).to_contain_text("Taken back")
    expect(chip["easy"]).to_be_visible()
    assert day.now("easy")["crew_id"] is None
    # a promise: it is said while dragging, and asked for
    drag(page, chip["late"], "TL-ALL", 0.45, lambda: expect(hint).to_contain_text("promised is"))
    expect(dialog).to_contain_text("at a price")
    page.keyboard.press("Enter")
    expect(item["late"]).to_be_visible()
    # from one crew to another, at another time, on the rows
    drag(page, item["late"], "TL-FIX", 0.35, lambda: expect(hint).to_contain_text("Crew"))
    expect(dialog).to_contain_text("promised is")
    page.keyboard.press("Enter")
    expect(told).to_contain_text("is with TL-FIX now")
    assert day.now("late")["crew_id"] == day.crews["TL-FIX"]
    # against a rule: cancelled, nothing has happened
    drag(page, chip["meter"], "TL-FIX", 0.3, lambda: expect(hint).to_contain_text("TL-FIX lacks metering"))
    expect(dialog).to_contain_text("against the rules")
    assert person.violations() == []
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    assert day.now("meter")["rev"] == 1
    assert person.violations() == []
    _by_finger(page, item["late"], hint)


def _by_finger(page: Page, what: Locator, hint: Locator) -> None:
    """A swipe over a job moves the rows; once tapped on, the job is dragged. It falls back where the finger is lost."""
    finger = page.context.new_cdp_session(page)
    finger.send("Emulation.setTouchEmulationEnabled", {"enabled": True})
    page.reload()

    def touch(kind: str, *at: float) -> None:
        points = [{"x": x, "y": at[1]} for x in at[:1]]
        finger.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    def drag_along() -> None:
        box = what.bounding_box()
        assert box is not None
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        touch("touchStart", x, y)
        for step in (15, 30, 45):
            touch("touchMove", x + step, y)

    expect(what).to_be_visible()
    drag_along()
    expect(hint).to_have_count(0)
    touch("touchEnd")
    page.get_by_role("button", name="Show the whole day").click()
    what.click()
    expect(what).to_have_class(re.compile("selected"))
    drag_along()
    expect(hint).to_be_visible()
    touch("touchCancel")


def test_by_keyboard_and_two_windows_on_one_job(console: Callable[..., Console], day: Day) -> None:
    first, second = (console(territory_ids=[day.territory_id], name=name) for name in ("Wang Fang", "Ana Ruiz"))
    # the second window's line is down, so that it does not know what the first one does
    second.page.route("**/board/stream*", lambda route: route.abort())
    pages = [first.open("/"), second.open("/")]
    chips = [page.locator(f'.tl-chip[data-job="{day.jobs["both"]["id"]}"]') for page in pages]
    for page, chip in zip(pages, chips, strict=True):
        expect(chip).to_be_visible()
        chip.focus()
        page.keyboard.press("m")
        dialog = page.locator("dialog.assign-dialog")
        expect(dialog.locator("optgroup").first).to_be_attached()
        dialog.get_by_label("Crew", exact=True).select_option(day.crews["TL-ALL" if page is first.page else "TL-FIX"])
        dialog.locator(".primary").click()
        if page is first.page:
            expect(page.locator("#notices")).to_contain_text("is with TL-ALL now")
    page, dialog = second.page, second.page.get_by_role("alertdialog")
    expect(dialog).to_contain_text("Wang Fang")
    expect(dialog).to_contain_text("TL-ALL")
    expect(dialog).to_contain_text("Nothing has been overwritten")
    assert day.now("both")["crew_id"] == day.crews["TL-ALL"]
    assert second.violations() == []
    dialog.get_by_role("button", name="Do it all the same").click()
    expect(page.locator("#notices")).to_contain_text("is with TL-FIX now")
    assert day.now("both")["crew_id"] == day.crews["TL-FIX"]
    # the first can no longer take back, and hears why
    first.page.keyboard.press("z")
    expect(first.page.locator("#notices")).to_contain_text("Ana Ruiz")
    assert day.now("both")["crew_id"] == day.crews["TL-FIX"]
    # arrows go from job to job
    first.page.locator(f'.tl-chip[data-job="{day.jobs["keys"]["id"]}"]').focus()
    first.page.keyboard.press("ArrowLeft")
    focused = first.page.evaluate("document.activeElement.dataset.job")
    assert focused and focused != day.jobs["keys"]["id"]


def test_who_may_only_look_drags_nothing(console: Callable[..., Console], day: Day) -> None:
    person = console("auditor", territory_ids=[day.territory_id])
    page = person.page

    def silent(route: Route) -> None:
        answer = route.fetch()
        body = answer.json()
        route.fulfill(response=answer, json=body | {"crews": [crew | {"silent": True} for crew in body["crews"]]})

    page.route("**/board/data*", silent, times=1)
    person.open("/")
    expect(row(page, "TL-ALL").locator(".tl-silent")).to_be_visible()
    page.get_by_role("button", name="The next day").click()
    expect(row(page, "TL-ALL").locator(".tl-silent")).to_have_count(0)  # heard of again, it keeps its row
    expect(row(page, "TL-ALL")).not_to_contain_text("%")  # and has no shift that day
    assert page.locator("#timeline [data-key=m], #timeline .tl-chip").count() == 0
