"""The board's map in a browser: marks, areas that select, keyboard, text that stays text, and no tiles needed."""

from __future__ import annotations

import re
from collections.abc import Callable

from playwright.sync_api import CDPSession, Page, Route, expect

from tests.browser.console import Console
from tests.browser.scene import Scene
from tests.running import Running

_MARKUP = "<img src=x onerror=document.title='caught'>"


def _middle(page: Page, selector: str) -> tuple[float, float]:
    box = page.locator(selector).first.bounding_box()
    assert box is not None
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def _many(route: Route) -> None:
    """The first silent crew forty times."""
    answer = route.fetch()
    body = answer.json()
    silent = next(crew for crew in body["crews"] if crew["silent"])
    many = [silent | {"id": f"{silent['id']}-{n}", "code": f"{silent['code']}-{n}"} for n in range(39)]
    route.fulfill(response=answer, json=body | {"crews": body["crews"] + many})


def _touch(finger: CDPSession, what: str, *at: tuple[float, float]) -> None:
    finger.send("Input.dispatchTouchEvent", {"type": what, "touchPoints": [{"x": x, "y": y} for x, y in at]})


def _select(page: Page, mark: str, job_id: str) -> None:
    """An area selects what lies in it; so does a button, and its key, for everything in view."""
    here = page.locator("#map")
    told = here.get_by_role("status")
    here.get_by_role("button", name="Draw a rectangle to select jobs").click()
    x, y = _middle(page, mark)
    page.mouse.click(x - 15, y - 15)
    page.mouse.move(x, y)
    page.mouse.click(x + 15, y + 15)
    expect(told).to_have_text("Jobs selected: 1")
    expect(here.locator(f".mark.selected[data-job='{job_id}']")).to_be_attached()
    here.get_by_role("button", name="Select all jobs in view").focus()
    page.keyboard.press("Enter")
    expect(told).not_to_have_text("Jobs selected: 1")
    everything = page.evaluate("() => document.querySelectorAll('#map .mark.selected, #map .cluster.selected').length")
    assert everything > 5
    here.get_by_role("button", name="Select none").click()
    expect(here.locator(".mark.selected")).to_have_count(0)


def test_the_map_shows_the_day_selects_by_area_and_by_keyboard_and_takes_drops(
    served: Running, console: Callable[..., Console]
) -> None:
    scene = Scene(served.field)
    odd = scene.job(_MARKUP, 0.08, 0.05)
    person = console(territory_ids=[scene.territory_id])
    page = person.open("/")
    here = page.locator("#map")

    # Without tiles the own territory is the ground, with its name; nothing is asked of anybody else.
    expect(here.locator("path.territory")).to_have_count(1)
    expect(here.locator(".territory-name")).to_contain_text("Harbour")
    assert here.locator("img, .leaflet-tile").count() == 0
    # The crews say when they were last heard of; what waits is marked by kind, urgency and progress.
    expect(here.locator(f".crew.silent[data-crew='{scene.crews['silent']}']")).to_be_attached()
    expect(here.locator(f".crew.fresh:not(.at-base)[data-crew='{scene.crews['near']}'] .crew-age")).to_have_text(
        re.compile(r"^(now|\d+ min)$")
    )
    expect(here.locator(".cluster.hazard .cluster-sign.hazard")).to_have_text("!")
    expect(here.locator(f".mark.over[data-job='{scene.jobs['done']}']")).to_be_attached()

    # Field text is text: in what is shown on pointing, and in what opens on a click.
    mark = f"#map .mark[data-job='{odd}'] .mark-body"
    page.mouse.move(*_middle(page, mark))
    expect(here.locator(".leaflet-tooltip")).to_contain_text(_MARKUP)
    expect(here.locator(".halo")).to_be_attached()
    page.mouse.click(*_middle(page, mark))
    expect(here.locator(".leaflet-popup-content")).to_contain_text(_MARKUP)
    expect(here.get_by_role("link", name=re.compile("Open J-"))).to_have_attribute("href", f"/jobs/{odd}")
    assert here.locator("img, .leaflet-tile").count() == 0
    assert page.title() != "caught"
    here.locator(".leaflet-popup-close-button").click()

    _select(page, mark, odd)
    # By keyboard there is a way past it, and the legend can be read.
    here.get_by_role("link", name="Skip the map").focus()
    page.keyboard.press("Enter")
    expect(here.locator(".map-end")).to_be_focused()
    here.get_by_text("Legend").click()
    expect(here.get_by_text("Safety inspection")).to_be_visible()
    assert [fault for fault in person.violations() if "map-" in fault or "leaflet" in fault] == []

    _crowd(person)

    # A job dropped on a crew is given to it, after what breaks there has been said beside the pointer.
    here.get_by_text("Legend").click()
    near = f"#map .crew[data-crew='{scene.crews['near']}'] .crew-pill"
    _by_finger(page, mark, near)
    page.mouse.move(*_middle(page, mark))
    page.mouse.down()
    page.mouse.move(*_middle(page, near), steps=4)
    expect(page.locator(".drag-hint")).to_contain_text("Crew")
    page.mouse.up()
    expect(page.locator(f"#map .mark.given[data-job='{odd}'], dialog[open]").first).to_be_attached()


def _crowd(person: Console) -> None:
    page, here = person.page, person.page.locator("#map")
    # Of many crews in one place one says its name, a silent one, and how many others there are; who is pointed at says
    # its own.
    page.route("**/board/data*", _many, times=1)
    page.reload()
    named = here.locator(".crew:not(.crowded)")
    expect(here.locator(".crew.crowded.at-base.silent")).to_have_count(39)
    expect(named.filter(has_text=re.compile(r"\+\d+$"))).to_have_class(re.compile("silent"))
    hidden = here.locator(".crew.crowded").first
    expect(hidden.locator(".crew-pill")).to_be_hidden()
    code = hidden.get_attribute("data-crew")
    page.locator(f"#timeline .tl-crew[data-crew='{code}']").hover()
    expect(hidden.locator(".crew-pill")).to_be_visible()
    person.open("/")
    expect(here.locator(".crew-more").filter(has_text="+")).to_have_count(0)


def _by_finger(page: Page, mark: str, near: str) -> None:
    """A finger rests on ``mark`` first; what is taken from it over ``near`` falls back."""
    finger = page.context.new_cdp_session(page)
    _touch(finger, "touchStart", _middle(page, mark))
    expect(page.locator(".drag-ghost")).to_be_visible()
    _touch(finger, "touchMove", _middle(page, near))
    expect(page.locator(".drag-hint")).to_contain_text("Crew")
    _touch(finger, "touchCancel")
    expect(page.locator(".drag-ghost")).to_have_count(0)
