"""The page of a job in a browser: photos by keyboard, news without a reload, an edit that was overtaken, paper."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from playwright.sync_api import expect
from sqlalchemy import select

from fieldsvc.base.clock import utc_now
from fieldsvc.base.db import db, reading
from fieldsvc.sync import uploads
from fieldsvc.sync.models import Upload
from tests import factories
from tests.browser.console import Console
from tests.evidence import complete, entry, photo, upload
from tests.field import Field, Phone, done
from tests.running import Running

WEST, SOUTH = 20.0, -60.0
"""A territory where nobody else is."""


def with_photos(field: Field, phone: Phone, job: str) -> None:
    """Two pictures that have come, and one that has not."""
    pictures = [photo(n, (300, 200)) for n in (1, 2)]
    named = [*(entry(data) for data in pictures), entry(photo(3, (300, 200)))]
    phone.send(complete(phone, job, *named))
    for data, one in zip(pictures, named, strict=False):
        upload(phone, data, one)
    with field.app.app_context():
        with reading():
            ids = list(db.session.scalars(select(Upload.id).where(Upload.device_id == phone.id)))
        for ident in ids:
            uploads.inspect(field.app.extensions["fieldsvc.store"], ident, utc_now())


def edited(field: Field, job: str, **members: Any) -> None:
    """Somebody else changes the job."""
    tag = field.office.get(f"/v1/jobs/{job}").headers["ETag"]
    done(field.office.patch(f"/v1/jobs/{job}", json=members, headers={"If-Match": tag}))


def look_at_photos_by_keyboard(person: Console) -> None:
    """Enter opens, arrows go round, Escape leads back."""
    page = person.page
    first = page.locator("a[data-photo]").first
    first.focus()
    page.keyboard.press("Enter")
    dialog, image = page.locator("dialog#photo"), page.locator("#photo-image")
    expect(dialog).to_contain_text("(1 of 2)")
    expect(image).to_have_js_property("naturalWidth", 300)
    assert person.violations() == []
    page.keyboard.press("ArrowRight")
    expect(dialog).to_contain_text("(2 of 2)")
    page.keyboard.press("ArrowRight")
    expect(dialog).to_contain_text("(1 of 2)")
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(first).to_be_focused()


def see_it_on_paper(person: Console, job: str) -> None:
    """No buttons, everything open."""
    page = person.page
    page.goto(f"/jobs/{job}?print=1")
    page.emulate_media(media="print")
    expect(page.get_by_role("link", name="Print")).to_be_hidden()
    expect(page.locator(".bar")).to_be_hidden()
    expect(page.locator("main details:not([open])")).to_have_count(0)
    page.emulate_media(media="screen")


def test_a_job_by_keyboard_with_news_and_an_edit_that_was_overtaken(
    served: Running, console: Callable[..., Console]
) -> None:
    field = served.field
    feature = factories.square("JP", WEST, SOUTH, name="配电一所辖区（东片）")
    territory = factories.make_territories(field.app, feature)["JP"]
    place: dict[str, Any] = {"lon": WEST + 0.05, "lat": SOUTH + 0.05}
    phone = field.phone(field.crew(territory_ids=[territory], **place))
    finished = field.job("repair", phone.crew_id, **place, title="Cable " + "very " * 20 + "long")
    with_photos(field, phone, finished)
    job = field.job("repair", phone.crew_id, **place, access_note="gate 1", hazards=["dog"])

    person = console(territory_ids=[territory])
    page = person.open(f"/jobs/{finished}")
    expect(page.get_by_text("not yet arrived", exact=True)).to_be_visible()
    look_at_photos_by_keyboard(person)
    see_it_on_paper(person, finished)

    # What a crew sends is there without a reload.
    page = person.open(f"/jobs/{job}")
    expect(page.locator("#job-live")).to_have_text("Live")
    note = phone.op("note.add", job, {"text": "water in the cellar"})
    phone.send(note)
    expect(page.locator(f"[id='op-{note['op_id']}']")).to_contain_text("Applied as it came.")
    expect(page.locator("#job-facts")).to_contain_text("water in the cellar")

    # Two people edit the same: nothing is overwritten, both values are there.
    page.keyboard.press("e")
    page.locator("[name=access_note]").fill("gate 3")
    edited(field, job, access_note="gate 2")
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#f-access_note-fault")).to_contain_text("gate 2")
    expect(page.locator("[name=access_note]")).to_have_value("gate 3")
    assert person.violations() == []
    page.get_by_role("button", name="Save").click()
    page.wait_for_url(re.compile(f"/jobs/{job}$"))
    expect(page.locator("#job-facts")).to_contain_text("gate 3")

    # Cancelled with a reason, from the dialog.
    page.get_by_role("button", name="Cancel job").first.click()
    page.locator("dialog#cancel-job [name=cancel_reason]").fill("found in order")
    assert person.violations() == []
    page.locator("dialog#cancel-job button.danger").click()
    expect(page.locator("#job-heading")).to_contain_text("Cancelled")
    page.goto(f"/history?job={job}&action=job.cancelled")
    expect(page.locator("tbody tr[id^=entry]")).to_have_count(1)
