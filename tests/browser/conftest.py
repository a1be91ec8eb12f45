"""Chromium for the tests of the console: the system's own, driven by Playwright.

Where there is none, these tests are skipped and say so; in CI that is an error.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from tests.browser.console import Console
from tests.running import Running, running

_OPTIONS = (
    "--no-sandbox --disable-gpu --disable-background-networking --disable-component-update --disable-sync".split()
)


expect.set_options(timeout=20_000)  # how long a condition is waited for; a busy machine may take its time

_ON_BOTH = {"test_day.py", "test_pages.py"}
"""The path through everything; and all pages, which divide themselves."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where both databases are wanted, a module of this folder is tried on one of them, by turns.

    What differs by database is below the pages, and tried there without a browser, on both.
    """
    if config.getoption("--db") != "both":
        return
    here = Path(__file__).parent
    modules = sorted({item.path.name for item in items if item.path.parent == here} - _ON_BOTH)
    mine = {name: ("postgresql", "sqlite")[place % 2] for place, name in enumerate(modules)}

    def wanted(item: pytest.Item) -> bool:
        if item.path.parent != here or item.path.name in _ON_BOTH:
            return True
        return f"[{mine[item.path.name]}" in item.name or "[" not in item.name

    config.hook.pytest_deselected(items=[item for item in items if not wanted(item)])
    items[:] = [item for item in items if wanted(item)]


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
