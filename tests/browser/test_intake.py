"""Intake in a browser: a ticket by keyboard alone, from the board to the receipt; a draft outlives a session."""

from __future__ import annotations

import time
from collections.abc import Callable

from playwright.sync_api import Page, Route, expect

from tests import factories
from tests.browser.console import TABLET, Console
from tests.integration.test_imports import import_customers
from tests.running import Running
from tests.visitor import PASSWORD

WEST, SOUTH = 121.0, 31.2
"""Where no other test of this folder works."""
LONG = "乡村振兴农产品冷链物流与综合服务有限责任公司"


def town(served: Running, code: str, west: float) -> list[str]:
    """A territory with three customers on one transformer area."""
    (territory_id,) = factories.make_territories(served.field.app, factories.square(code, west, SOUTH)).values()
    head = "number,name,lon,lat,address,usage_point_number,transformer_area,feeder,meter_asset_no,installed_at,"
    head += "last_reading_at,last_reading_total"
    rows = "".join(
        f"{code}-{n},{LONG} Very Long Name of a Customer Incorporated {n},{west + 0.05},{SOUTH + 0.05},"
        f"{n} Long Lane {code},U-{code}-{n},TA-{code},F-{code},M-{code}-{n},2024-01-01T00:00:00Z,"
        f"2026-01-01T00:00:00Z,4711.5\n"
        for n in (1, 2, 3)
    )
    import_customers(served.field.app, f"{head}\n{rows}")
    return [territory_id]


class Keys:
    """Hands on the keyboard that count what they press."""

    def __init__(self, page: Page) -> None:
        self.page, self.pressed = page, 0

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)
            self.pressed += 1

    def type(self, text: str) -> None:
        self.page.keyboard.type(text)
        self.pressed += len(text)


def test_a_ticket_by_keyboard_alone_in_half_a_minute(console: Callable[..., Console], served: Running) -> None:
    desk = console(territory_ids=town(served, "KB", WEST))
    page, began = desk.page, time.monotonic()
    hands = Keys(page)
    hands.press("g", "n")
    expect(page.locator("#who")).to_be_focused()
    page.wait_for_load_state("load")  # Enter would send the form before
    hands.type("KB-1")
    hands.press("Enter")  # before the answer is there
    expect(page.locator("[name=trouble_code]").first).to_be_focused()
    hands.press("1", "w", "Enter")
    receipt = page.locator("#receipt")
    expect(receipt).to_contain_text("T-")
    assert (hands.pressed, time.monotonic() - began < 30) == (10, True)
    expect(receipt).to_contain_text("J-")
    expect(page.locator("#who")).to_be_focused()
    expect(page.locator("#who")).to_have_value("")
    assert desk.violations() == []

    hands.type("2 Long Lane KB")  # by address, a neighbour: the same fault?
    expect(page.locator("#found [role=option]")).to_have_count(1)
    assert desk.violations() == []
    hands.press("ArrowDown", "Enter", "1")
    known = page.locator("#known")
    expect(known).to_contain_text("nearby")
    expect(known.get_by_label("Add to this incident")).to_be_visible()
    hands.press("j", "Enter")
    expect(receipt).to_contain_text("2 calls of 2 customers")
    page.get_by_role("link", name="2 calls of 2 customers").click()
    expect(page.locator("#incident-map canvas, #incident-map svg").first).to_be_attached()
    assert desk.violations() == []
    page.locator("main td a[href^='/customers/']").first.click()
    assert desk.violations() == []
    page.locator("main a[href^='/meters/']").first.click()
    expect(page.locator("h1")).to_contain_text("M-KB-")
    assert desk.violations() == []


def test_what_is_typed_before_the_scripts_are_there_is_searched_all_the_same(
    console: Callable[..., Console], served: Running
) -> None:
    desk = console(territory_ids=town(served, "EA", WEST + 2))
    late: list[Route] = []

    def hold(route: Route) -> None:
        late.append(route)

    desk.page.route("**/intake.js", hold)
    desk.page.goto("/intake", wait_until="commit")
    desk.page.locator("#who").press_sequentially("EA-2")
    late.pop().continue_()
    expect(desk.page.locator("#found [role=option]")).to_have_count(1)
    desk.page.keyboard.press("Enter")
    expect(desk.page.locator("[name=trouble_code]").first).to_be_focused()


def test_what_was_typed_outlives_the_session(console: Callable[..., Console], served: Running) -> None:
    desk = console(territory_ids=town(served, "DR", WEST + 1), theme="dark", size=TABLET)
    page = desk.open("/intake")
    page.locator("#who").press_sequentially("DR-1")
    page.locator("#found [role=option]").first.click()
    page.get_by_label("Low voltage").check()
    page.get_by_label("Fire").check()
    expect(page.locator("#known")).to_contain_text("DR-1")
    assert desk.violations() == []
    page.locator("summary[data-key=e]").click()
    page.get_by_role("button", name="On the map").click()
    page.locator("#intake-map [role=application]").press("Enter")  # the middle of the map
    expect(page.locator("[name=lon]")).not_to_have_value("")
    page.get_by_label("What the caller says").fill("the lamp glows only")
    page.wait_for_load_state("networkidle")  # an answer still under way would bring the cookie back
    desk.context.clear_cookies()
    page.keyboard.press("Control+Enter")
    page.locator("[name=username]").fill(desk.username)
    page.locator("[name=password]").fill(PASSWORD)
    page.locator("main button").click()
    expect(page.get_by_label("Low voltage")).to_be_checked()
    expect(page.get_by_label("Fire")).to_be_checked()
    expect(page.get_by_label("What the caller says")).to_have_value("the lamp glows only")
    expect(page.locator("#known")).to_contain_text("DR-1")
    page.get_by_role("button", name="Take it in").click()
    expect(page.locator("#receipt")).to_contain_text("T-")
    expect(page.get_by_label("What the caller says")).to_have_value("")
