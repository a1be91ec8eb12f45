"""A day from the call to the audit, in a browser, with the small client of the protocol as the crew's device.

On SQLite everybody reads English, on PostgreSQL Chinese: one path, both languages.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, expect

from fieldsvc.console.words import vocabulary
from tests.browser.console import Console
from tests.browser.scene import Scene
from tests.e2e.test_client import client
from tests.field import repaired
from tests.running import Running

LANGUAGES = {"sqlite": "en-GB", "postgresql": "zh-CN"}


def test_from_the_call_to_the_audit(
    console: Callable[..., Console], served: Running, database: str, tmp_path: Path
) -> None:
    scene, language = Scene(served.field), LANGUAGES[database]
    known = {code: words[language[:2]] for code, words in vocabulary().items()}
    own: dict[str, Any] = {"territory_ids": [scene.territory_id], "language": language}
    wall, desk = console(**own), console(**own)
    board = wall.page
    expect(board.locator("html")).to_have_attribute("lang", language[:2])
    board.evaluate("() => { window.stays = true }")

    job_id = _take_a_call(desk.page, scene)
    row = board.locator(f"#job-{job_id}")
    expect(row).to_contain_text(known["waiting_to_be_scheduled"])
    _see_it_on_the_map(board, job_id)

    crew = _put_it_into_the_plan(desk.page, job_id, row)
    expect(row).to_contain_text(known["dispatched"])
    crew_id = next(one for name, one in scene.crews.items() if crew.endswith(f"-{name}"))

    code = _enrolment_code(console("admin", language=language), crew_id)
    device = client.Device(str(tmp_path / "phone.db"), served.url)
    with closing(device.db):
        device.enrol(code)
        device.sync()
        for kind in ("job.accept", "job.enroute", "job.arrive", "job.start"):
            device.write(kind, "job", job_id, payload={})
        edited = device.write("job.update", "job", job_id, was={"access_note": None}, set={"access_note": "cellar"})
        _edit(desk.page, job_id, "back gate")
        device.sync()
        expect(row).to_contain_text(known["in_progress"])

        _decide(desk.page, job_id)
        device.write("job.complete", "job", job_id, payload=repaired())
        device.sync()
        expect(row).to_contain_text(known["completed"])
        device.sync()
        assert _told(device, edited) == "resolved"
    assert board.evaluate("() => window.stays") is True, "the board has been reloaded"

    _audit(console("auditor", **own).page, job_id, known)


def _take_a_call(page: Page, scene: Scene) -> str:
    """By keyboard; answers the id of the job that came of it."""
    page.keyboard.press("g")
    page.keyboard.press("n")
    expect(page.locator("#who")).to_be_focused()
    page.wait_for_load_state("load")  # keys work from then on
    page.keyboard.type(scene.places[0].customer_number)
    expect(page.locator("#found [role=option]")).to_have_count(1)
    page.keyboard.press("Enter")
    expect(page.locator("[name=trouble_code]").first).to_be_focused()
    page.keyboard.press("1")
    page.keyboard.press("Enter")
    found = page.locator("#receipt a[href^='/jobs/']").get_attribute("href")
    assert found
    return found.rsplit("/", 1)[-1]


def _see_it_on_the_map(board: Page, job_id: str) -> None:
    """Pointing at the job in the list shows where it is."""
    expect(board.locator("#map .halo")).to_have_count(0)
    board.locator(f"#job-{job_id}").hover()
    expect(board.locator("#map .halo span")).to_be_visible()


def _put_it_into_the_plan(page: Page, job_id: str, row: Any) -> str:
    """What-if first, then accepted; answers the code of the crew that has it."""
    page.on("dialog", lambda dialog: dialog.accept())
    page.goto(f"/jobs/{job_id}")
    page.keyboard.press("i")
    page.wait_for_url("**/runs/new**")
    page.locator("main form button.primary").click()
    page.wait_for_url(re.compile(r"/runs/[0-9a-f-]{36}"))
    accept = page.locator("form[action$='/accept'] button[data-key=a]")
    expect(accept).to_be_visible()
    expect(row.locator(".who")).not_to_contain_text("SC-")  # nothing has changed yet
    accept.click()
    crew = row.locator(".who")
    expect(crew).to_contain_text("SC-")
    return crew.inner_text().strip()


def _enrolment_code(admin: Console, crew_id: str) -> str:
    page = admin.open("/devices/enrol")
    page.locator("[name=crew_id]").select_option(crew_id)
    page.locator("main form button.primary").click()
    expect(page.locator(".qr svg")).to_be_visible()
    return page.locator(".secret").inner_text().strip()


def _edit(page: Page, job_id: str, access: str) -> None:
    page.goto(f"/jobs/{job_id}/edit")
    page.locator("[name=access_note]").fill(access)
    page.locator("main form button.primary").click()
    page.wait_for_url(f"**/jobs/{job_id}")
    expect(page.locator("main")).to_contain_text(access)


def _decide(page: Page, job_id: str) -> None:
    """The conflict of the two edits waits on the job's page; the first choice is taken."""
    page.goto(f"/jobs/{job_id}")
    page.locator("main a[href^='/reviews/']").first.click()
    page.locator("[name=note]").fill("spoke with both")
    page.locator("#decide button[name=decision]").first.click()
    expect(page.locator("#notices .notice")).to_be_visible()


def _told(device: Any, op_id: str) -> str:
    (outcome,) = device.db.execute("SELECT outcome FROM outbox WHERE op_id = ?", (op_id,)).fetchone()
    return str(json.loads(outcome)["outcome"])


def _audit(page: Page, job_id: str, known: dict[str, str]) -> None:
    """Everything is in the history, and no button changes any of it."""
    page.goto(f"/jobs/{job_id}")
    number = page.locator(".job-number").inner_text()
    page.goto(f"/history?job={number}")
    told = page.locator("table.history")
    for action in ("job_edited", "job_assigned", "job_accept", "job_arrive", "job_complete", "review_resolved"):
        expect(told).to_contain_text(known[action])
    assert page.locator("main form[method=post]:not([action$='/export'])").count() == 0
