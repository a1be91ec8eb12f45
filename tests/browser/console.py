"""A person at the console in a real browser: signs in through the form, and notices whatever goes wrong in a script."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, ConsoleMessage, Page, Response
from playwright.sync_api import TimeoutError as NotInTime

from fieldsvc.base.clock import new_id, utc_now
from fieldsvc.base.db import transaction
from fieldsvc.people import staff
from fieldsvc.people.actors import SYSTEM
from tests.running import Running
from tests.visitor import PASSWORD

DESK, TABLET = (1280, 800), (820, 1180)
"""Sizes of windows, width and height in CSS pixels."""
AXE = Path(__file__).resolve().parents[1] / "interop/node_modules/axe-core/axe.min.js"


class Console:
    """One window. ``page`` is Playwright's; ``faults``: errors of scripts, blocked resources, answers of 5xx."""

    def __init__(
        self,
        browser: Browser,
        served: Running,
        role: str = "dispatcher",
        *,
        territory_ids: list[str] | None = None,
        language: str = "en-GB",
        size: tuple[int, int] = DESK,
        theme: str = "light",
        zone: str = "Europe/Berlin",
        name: str | None = None,
    ) -> None:
        self.url = served.url
        self.username = f"{role}-{new_id()[-12:]}"
        with served.field.app.app_context(), transaction():
            self.staff_id = staff.create(
                SYSTEM.source(utc_now()), username=self.username, password=PASSWORD, role=role, display_name=name,
                territory_ids=territory_ids or (), all_territories=territory_ids is None,
            ).id  # fmt: skip
        self.context = browser.new_context(
            base_url=served.url, locale=language, timezone_id=zone, color_scheme=theme, bypass_csp=False,  # type: ignore[arg-type]
            viewport={"width": size[0], "height": size[1]},
        )  # fmt: skip
        self.context.set_default_timeout(15_000)
        self.page: Page = self.context.new_page()
        self.faults: list[str] = []
        self.page.on("pageerror", lambda error: self.faults.append(f"{self.page.url}: {error}"))
        self.page.on("console", self._said)
        self.page.on("response", self._answered)
        self.sign_in()

    def sign_in(self, to: str = "/") -> None:
        """Through the form, as a person does."""
        self.page.goto(f"/sign-in?next={to}")
        self.page.locator("[name=username]").fill(self.username)
        self.page.locator("[name=password]").fill(PASSWORD)
        self.page.locator("main button").click()
        self.page.wait_for_url(lambda url: "/sign-in" not in url)

    def open(self, path: str) -> Page:
        """Go to a page and wait until it stands."""
        self.page.goto(path)
        self.page.wait_for_load_state("load")
        return self.page

    def fits(self) -> bool:
        """Whether the page is no wider than the window, or becomes so: what draws by itself does so a frame later."""
        try:
            self.page.wait_for_function("() => document.documentElement.scrollWidth <= window.innerWidth + 1")
        except NotInTime:
            return False
        return True

    def violations(self, *rules: str) -> list[str]:
        """What axe finds wrong with the page as it stands: by the rules of WCAG 2.2 AA and its best practices, or by
        ``rules`` alone.
        """
        if not self.page.evaluate("() => 'axe' in window"):
            # Not as a script of the page, which its CSP would refuse.
            source = AXE.read_text(encoding="utf-8")
            self.page.evaluate(source)
        tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
        options = {"resultTypes": ["violations"], "runOnly": list(rules) or tags}
        found: dict[str, Any] = self.page.evaluate("options => axe.run(document, options)", options)
        return [
            f"{one['id']}: {one['help']}: " + "; ".join(node["html"][:160] for node in one["nodes"][:5])
            for one in found["violations"]
        ]

    def _said(self, message: ConsoleMessage) -> None:
        expected = "Failed to load resource" in message.text  # an answer of 4xx, which a test may well want
        if message.type == "error" and not expected:
            self.faults.append(f"{self.page.url}: {message.text}")

    def _answered(self, response: Response) -> None:
        if response.status >= 500:
            self.faults.append(f"{response.url}: {response.status}")
