"""Chromium for the tests of the console: the system's own, driven by Playwright.

Where there is none, these tests are skipped and say so; in CI that is an error.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.browser.console import Console
from tests.running import Running, running

_OPTIONS = (
    "--no-sandbox --disable-gpu --disable-background-networking --disable-component-update --disable-sync".split()
)


def _chromium() -> str | None:
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One Chromium for all tests of this process."""
    path = _chromium()
    if path is None:
        if os.environ.get("CI"):
            pytest.fail("there is no chromium here, and CI must not pass without it")
        pytest.skip("no chromium on this machine: the console is not tried in a browser (apt install chromium)")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=_OPTIONS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def served(
    database: str,
    templates: Callable[[str], str],
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Running]:
    """A service as processes for all modules of this folder: each test works in a territory of its own."""
    with running(database, templates, request, tmp_path_factory.mktemp("service")) as served:
        yield served


@pytest.fixture
def console(browser: Browser, served: Running) -> Iterator[Callable[..., Console]]:
    """``console(role, …)``: a browser window of its own, signed in as a new account. See :class:`Console`.

    Fails when any of the windows met an error in a script, a blocked resource or an answer of 500.
    """
    opened: list[Console] = []

    def sign_in(role: str = "dispatcher", **options: object) -> Console:
        found = Console(browser, served, role, **options)  # type: ignore[arg-type]
        opened.append(found)
        return found

    yield sign_in
    faults = [fault for one in opened for fault in one.faults]
    for one in opened:
        one.context.close()
    assert faults == []
