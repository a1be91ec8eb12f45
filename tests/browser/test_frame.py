"""The frame of every page in a browser: signing in, keys, language, colours, and nothing that keeps anybody out."""

from __future__ import annotations

from collections.abc import Callable

from playwright.sync_api import expect

from tests.browser.console import Console


def test_signing_in_by_the_form_keys_and_language(console: Callable[..., Console]) -> None:
    person = console()
    page = person.page
    expect(page.locator("h1")).to_be_attached()
    page.keyboard.press("?")
    expect(page.locator("dialog#keys")).to_be_visible()
    page.keyboard.press("Escape")
    page.locator(".bar details.menu summary").click()
    page.get_by_role("button", name="中文").click()
    expect(page.locator("html")).to_have_attribute("lang", "zh")
    assert person.violations() == []
