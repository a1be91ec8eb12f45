"""Every page as people see it: nothing that keeps anybody out, in light and dark, at a desk and on a tablet.

``--pictures``: the demo's county is played first, and what is seen is written to ``docs/console``.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Page
from sqlalchemy import func, select

from fieldsvc.base.db import db, reading
from fieldsvc.history.models import HistoryEntry
from fieldsvc.people.models import Device, Territory
from fieldsvc.records.models import Customer, Meter, UsagePoint
from fieldsvc.sync.models import InboxOperation, Review
from fieldsvc.work.models import DispatchRun, Incident, Job, Ticket
from tests.browser.console import DESK, TABLET, Console
from tests.browser.scene import Scene
from tests.field import done
from tests.running import Running

PICTURES = Path(__file__).resolve().parents[2] / "docs" / "console"
PAGES = {
    "board": "/",
    "intake": "/intake",
    "tickets": "/tickets",
    "ticket": "/tickets/{ticket}",
    "incidents": "/incidents",
    "incident": "/incidents/{incident}",
    "job": "/jobs/{job}",
    "job-edit": "/jobs/{job}/edit",
    "job-history": "/jobs/{job}/history",
    "job-new": "/jobs/new",
    "job-assign": "/jobs/{waiting}/assign",
    "operation": "/jobs/{job}/operations/{operation}",
    "runs": "/runs",
    "run": "/runs/{run}",
    "run-new": "/runs/new",
    "campaigns": "/campaigns",
    "outages": "/outages",
    "inspections": "/inspections",
    "reviews": "/reviews",
    "review": "/reviews/{review}",
    "sync-desk": "/sync-desk",
    "customers": "/customers",
    "customer": "/customers/{customer}",
    "usage-point": "/usage-points/{usage_point}",
    "meters": "/meters",
    "meter": "/meters/{meter}",
    "territories": "/territories",
    "territory": "/territories/{territory}",
    "territory-new": "/territories/new",
    "territory-import": "/territories/import",
    "tray": "/territories/tray",
    "crews": "/crews",
    "crew": "/crews/{crew}",
    "crew-new": "/crews/new",
    "devices": "/devices",
    "device": "/devices/{device}",
    "device-enrol": "/devices/enrol",
    "history": "/history",
    "users": "/users",
    "user-new": "/users/new",
    "account": "/account",
    "not-found": "/nothing/here",
}
"""Name → address; in braces what has an id."""
_SEEN_WELL = """() => !document.querySelector('.htmx-request') && document.fonts.status === 'loaded'"""


@pytest.fixture
def shown(served: Running, request: pytest.FixtureRequest) -> dict[str, str]:
    """Ids of what the pages show."""
    if request.config.getoption("--pictures"):
        _play_the_county(served)
    else:
        scene = Scene(served.field)
        ticket = {"reporting_kind": "call", "trouble_code": "no_power", **scene.at(0.5, 0.5)}
        done(served.field.office.post("/v1/tickets", json=ticket), 201)
        plan = {"what_if": True, "territory_ids": [scene.territory_id]}
        done(served.field.office.post("/v1/dispatch-runs", json=plan), 202)
    with served.field.app.app_context(), reading():
        return _ids()


_STORY = """
import sys
from fieldsvc.config import Settings
from fieldsvc.demo import command
from fieldsvc.demo.show import Story
good, _ = command._story(sys.argv[1], Settings.from_env(), command._scenario(None), Story())
sys.exit(not good)
"""


def _play_the_county(served: Running) -> None:
    """In a process of its own, as the demo is."""
    command, env = [sys.executable, "-c", _STORY, served.url], served.service.settings.child_env()
    subprocess.run(command, env=env, check=True, stdout=subprocess.DEVNULL)


def _ids() -> dict[str, str]:
    """The busiest of each: what has most to show."""
    job_id = db.session.scalar(
        select(HistoryEntry.job_id)
        .join(InboxOperation, InboxOperation.op_id == HistoryEntry.op_id)
        .where(HistoryEntry.job_id.is_not(None))
        .group_by(HistoryEntry.job_id)
        .order_by(func.count().desc())
    )
    job = db.session.get_one(Job, job_id)
    found = {
        "job": job.id,
        "crew": job.crew_id,
        "operation": db.session.scalar(
            select(HistoryEntry.op_id).where(HistoryEntry.job_id == job.id, HistoryEntry.op_id.is_not(None))
        ),
        "waiting": db.session.scalar(select(Job.id).where(Job.status == "waiting_to_be_scheduled")),
        "review": db.session.scalar(select(Review.id).where(Review.state == "open").order_by(Review.severity)),
        "device": db.session.scalar(select(Device.id).where(Device.crew_id == job.crew_id)),
    }
    for name, model in {"ticket": Ticket, "incident": Incident, "run": DispatchRun, "customer": Customer,
                        "usage_point": UsagePoint, "meter": Meter, "territory": Territory}.items():  # fmt: skip
        found[name] = db.session.scalar(select(model.id).order_by(model.id).limit(1))
    return {name: str(ident) for name, ident in found.items()}


@pytest.fixture
def mine(request: pytest.FixtureRequest, database: str) -> list[tuple[str, str]]:
    """The pages this run looks at: all, or half of them on each database where there are two."""
    names = list(PAGES.items())
    if request.config.getoption("--db") != "both" or request.config.getoption("--pictures"):
        return names
    return names[::2] if database == "sqlite" else names[1::2]


def test_nothing_keeps_anybody_out_of_any_page(
    console: Callable[..., Console],
    shown: dict[str, str],
    mine: list[tuple[str, str]],
    request: pytest.FixtureRequest,
) -> None:
    pictures = request.config.getoption("--pictures")
    person = console("admin", name="Admin")
    page, found = person.page, []
    for name, path in mine:
        person.open(path.format_map(shown))
        _still(page)
        found += [f"{name}: {one}" for one in person.violations()]
        if pictures:
            _take(page, name)
        page.set_viewport_size({"width": TABLET[0], "height": TABLET[1]})
        page.emulate_media(color_scheme="dark")
        _still(page)
        if not person.fits():
            found.append(f"{name}: wider than the window of a tablet")
        found += [f"{name}, dark: {one}" for one in person.violations("color-contrast")]
        if pictures:
            _take(page, f"{name}-tablet-dark")
        page.set_viewport_size({"width": DESK[0], "height": DESK[1]})
        page.emulate_media(color_scheme="light")
    assert not found, "\n".join(found)


def _still(page: Page) -> None:
    """Wait until nothing is being fetched that changes what is seen."""
    page.wait_for_function(_SEEN_WELL)


def _take(page: Page, name: str) -> None:
    """A picture of the window, in as many colours as a page has use for."""
    PICTURES.mkdir(exist_ok=True)
    taken = Image.open(BytesIO(page.screenshot(animations="disabled")))
    taken.convert("RGB").quantize(128).save(PICTURES / f"{name}.png", optimize=True)
