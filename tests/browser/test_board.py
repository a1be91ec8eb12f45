"""The board in a browser: linked views, changes that come by themselves, a line that comes back, all by keyboard."""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import urlsplit

from playwright.sync_api import Route, expect

from tests.browser.console import TABLET, Console
from tests.browser.scene import Scene
from tests.running import Running


def test_views_are_linked_and_keys_move_select_and_open(served: Running, console: Callable[..., Console]) -> None:
    scene = Scene(served.field)
    person = console(territory_ids=[scene.territory_id])
    page = person.page
    expect(page.locator("#line")).to_have_attribute("data-state", "live")
    expect(page.locator("#jobs .job .what").first).to_have_text("Soon")
    expect(page.locator("#jobs .countdown").first).to_have_text(re.compile(r"^\d+ (min|s)$"))
    expect(page.locator("#silent summary")).to_have_text("1 silent")

    page.keyboard.press("j")
    page.keyboard.press("j")
    second = page.locator("#jobs .job").nth(1)
    expect(second.locator(".what")).to_be_focused()
    expect(second).to_have_class(re.compile("lit"))
    page.keyboard.press("x")
    expect(page.locator("#chosen .count")).to_have_text("1 selected")
    expect(second).to_have_class(re.compile("chosen"))
    page.keyboard.press("k")
    page.keyboard.press("x")
    expect(page.locator("#chosen .count")).to_have_text("2 selected")
    expect(page.get_by_role("link", name="Plan these")).to_have_attribute("href", re.compile(scene.territory_id))
    page.locator("#chosen").get_by_role("button", name="Clear").click()
    expect(page.locator("#chosen")).to_be_hidden()
    assert person.violations() == []
    page.locator(f"#job-{scene.jobs['meter']} .what").focus()
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(f"/jobs/{scene.jobs['meter']}$"))


def test_filters_stand_in_the_address_and_can_be_gone_back_from(
    served: Running, console: Callable[..., Console]
) -> None:
    scene = Scene(served.field)
    page = console(territory_ids=[scene.territory_id]).page
    expect(page.locator("#jobs .job")).to_have_count(len(scene.jobs) - 1)
    expect(page.locator("#line")).to_have_attribute("data-state", "live")
    # The page itself names all that its scripts would ask for one after the other; nothing is asked for twice.
    asked = page.evaluate("() => performance.getEntriesByType('resource').map((one) => new URL(one.name).pathname)")
    named = page.evaluate("() => [...document.querySelectorAll('link, script')].map((one) => one.href ?? one.src)")
    assert {one for one in asked if one.endswith(".js")} <= {urlsplit(one).path for one in named}
    assert asked.count("/board/data") == 1
    page.locator("#chips").get_by_role("link", name="In progress").click()
    expect(page).to_have_url(re.compile(r"\?status=in_progress$"))
    expect(page.locator("#jobs .job")).to_have_count(1)
    page.keyboard.press("/")
    page.keyboard.type("nothing like this")
    expect(page.get_by_text("No job fits these filters.")).to_be_visible()
    expect(page.locator("#f-q")).to_be_focused()
    expect(page).to_have_url(re.compile(r"q=nothing%20like%20this&status=in_progress$"))
    page.go_back()
    expect(page.locator("#jobs .job")).to_have_count(1)
    # What changes while everything is on its way by other filters is not undone when that comes, older than the change.
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    page.route("**/board/data*", hold, times=1)
    page.locator("#chips").get_by_role("link", name="In progress").click()
    expect(page.locator("#jobs .job")).not_to_have_count(1)
    old = held[0].fetch()
    chip = page.locator(f"#timeline .tl-chip[data-job='{scene.job('Meanwhile')}']")
    expect(chip).to_be_visible()
    held[0].fulfill(response=old)
    expect(page.locator("#timeline .tl-chip").nth(1)).to_be_visible()
    expect(chip).to_be_visible()
    page.goto("/?q=quay&day=nonsense")
    expect(page.locator("#fault-day")).to_contain_text("must be a date")
    page.locator("#f-day").fill("2026-01-02")
    expect(page.locator("#fault-day")).to_be_hidden()
    expect(page).to_have_url(re.compile("day=2026-01-02"))
    page.goto("/")
    page.locator(".views summary").first.click()
    page.get_by_label("Keep these filters as").fill("Everything")
    page.get_by_role("button", name="Save view").click()
    expect(page.get_by_role("status").get_by_text("The view is saved.")).to_be_visible()


def test_what_crews_do_appears_by_itself_also_after_the_line_was_cut(
    served: Running, console: Callable[..., Console]
) -> None:
    scene = Scene(served.field)
    person = console(territory_ids=[scene.territory_id], size=TABLET)
    page, phone = person.page, scene.phones["near"]
    expect(page.locator("#line")).to_have_attribute("data-state", "live")
    given = page.locator(f"#job-{scene.jobs['given']}")
    given.locator(".what").focus()
    phone.push(phone.op("job.start", scene.jobs["given"]))
    expect(given.locator(".tag")).to_have_text("In progress")
    expect(given.locator(".what")).to_be_focused()
    expect(page.locator("#chips").get_by_role("link", name="In progress")).to_contain_text("2")
    new = scene.job("Out of the blue")
    expect(page.locator(f"#job-{new}")).to_be_visible()
    expect(page.locator("#news")).to_have_text("New: Out of the blue")

    served.kill_web()
    expect(page.locator("#line")).to_have_text("The line is cut, trying again…")
    missed = scene.job("While it was cut")
    scene.field.cancel(new)
    expect(page.locator("#line")).to_have_attribute("data-state", re.compile("caught_up|live"), timeout=30_000)
    expect(page.locator(f"#job-{missed}")).to_be_visible()
    expect(page.locator(f"#job-{new}")).to_have_count(0)
    page.get_by_role("button", name="Timeline").click()
    expect(page.locator("#timeline .vis-time-axis .vis-text.vis-minor:not(.vis-measure)").first).to_be_visible()
    expect(page.locator("#jobs")).to_be_hidden()
    assert person.violations() == []
