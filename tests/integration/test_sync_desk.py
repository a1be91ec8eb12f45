"""The sync desk: each thing that can be wrong with a device, made by a phone and seen by the office."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import update

from fieldsvc.base.clock import format_time, utc_now
from fieldsvc.base.db import reading, transaction
from fieldsvc.people.models import Device
from fieldsvc.sync import desk, reconcile
from tests.evidence import entry, photo, upload
from tests.factories import make_territories
from tests.field import Field, Phone, done, repaired
from tests.visitor import Visitor


@pytest.fixture
def field(app: Flask, drain: Callable[[], None]) -> Field:
    return Field(app, drain)


def text(answer: Any) -> str:
    assert answer.status_code == 200, answer.status
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", answer.text)))


def on_desk(field: Field, phone: Phone) -> desk.Standing:
    with field.app.app_context(), reading():
        found = desk.devices([phone.crew_id], utc_now(), timedelta(minutes=30))
        desk.db.session.expunge_all()
        return next(one for one in found if one.device.id == phone.id)


def hello(phone: Phone, **members: Any) -> dict[str, Any]:
    return done(phone.client.post("/sync/v1/hello", json={"device_time": format_time(utc_now())} | members))


def in_order(phone: Phone) -> None:
    """A phone that has called and pulled, and has shown that it holds what it was told."""
    hello(phone, pending=0)
    phone.pull()


def long_ago(field: Field, phone: Phone, **facts: Any) -> None:
    """Let time pass for what is kept of a device."""
    with field.app.app_context(), transaction() as session:
        session.execute(update(Device).where(Device.id == phone.id).values(facts))


def test_a_phone_from_its_enrolment_to_being_in_order(app: Flask, field: Field) -> None:
    phone = field.phone()
    assert on_desk(field, phone).problems == ("silent", "no_first_sync")
    in_order(phone)
    one = on_desk(field, phone)
    assert one.problems == () and one.unsent == 0 and one.contact is not None
    long_ago(field, phone, last_seen_at=utc_now() - timedelta(hours=2), pulled_at=utc_now() - timedelta(hours=2))
    assert on_desk(field, phone).problems == ("silent",), "its crew is on duty"
    hello(phone, pending=3, app_version="1.9")
    assert on_desk(field, phone).problems == ("unsent", "upgrade_soon")
    hello(phone, app_version="0.9", device_time=format_time(utc_now() - timedelta(hours=2)))
    assert on_desk(field, phone).problems == ("unsent", "upgrade_needed", "clock")
    page = text(Visitor(app).get("/sync-desk"))
    assert "Still holds 3 operations" in page and "Its clock is 2 h slow" in page and "is too old to be told" in page
    own = text(Visitor(app).get(f"/devices/{phone.id}"))
    assert "3 operations by its own word" in own and "2 h slow" in own
    hello(phone, app_version="3.2.0", pending=0)
    one = on_desk(field, phone)
    assert one.problems == () and one.clock_was_off
    assert "Its clock was 2 h slow until" in text(Visitor(app).get("/sync-desk"))


def test_what_waits_says_for_what_and_until_when(app: Flask, field: Field) -> None:
    phone, other = field.phone(), field.phone()
    in_order(phone), in_order(other)
    job = field.job("repair", phone.crew_id)
    lost, second = phone.op("job.arrive", job, {}), phone.op("job.start", job)
    theirs = other.op("note.add", job, {"text": "x"}, depends_on=[second["op_id"]])
    assert phone.push(second) == ["held"] and other.push(theirs) == ["held"]
    one, two = on_desk(field, phone), on_desk(field, other)
    assert one.problems == ("gap", "held") and one.gap == 1 and one.held.count == 1
    assert two.problems == ("held",)
    person = Visitor(app)
    page = text(person.get("/sync-desk"))
    assert "Number 1 never came, though later ones did" in page and "1 operation waits for what comes before it" in page
    page = text(person.get("/sync-desk?show=held"))
    assert "number 1 of the same device, which has not come" in page and f"operation {second['op_id'][-12:]}" in page
    assert "in 24 h" in page, "then it is decided without"
    assert text(person.get(f"/sync-desk?show=held&crew={other.crew_id}")).count("number 1 ") == 1
    phone.push(lost)
    assert on_desk(field, phone).undecided.count == 2
    waiting = text(person.get("/sync-desk?show=undecided"))
    assert "number 1 " in waiting and "number 2 " in waiting
    field.settle()
    assert on_desk(field, phone).problems == ("unheard",)
    assert "Nothing is held." in text(person.get("/sync-desk?show=held"))


def test_what_fails_and_photos_that_are_owed(app: Flask, field: Field) -> None:
    phone = field.phone()
    in_order(phone)
    data = photo()
    named = entry(data, id="P-1")
    job = field.job("repair", phone.crew_id)
    assert phone.send(phone.op("job.complete", job, repaired(), attachments=[named])) == ["applied"]
    phone.pull()
    assert "files" in on_desk(field, phone).problems
    person = Visitor(app)
    assert "P-1" in text(person.get("/sync-desk?show=files"))
    upload(phone, data, named)
    field.drain()
    phone.pull()
    assert "files" not in on_desk(field, phone).problems
    assert "No device owes a photo." in text(person.get("/sync-desk?show=files"))

    note = phone.op("note.add", job, {"text": "x"})
    phone.push(note)
    with app.app_context(), transaction():
        reconcile._record_failure(note["op_id"], phone.install_id, utc_now(), 5, "KeyError")
    assert on_desk(field, phone).problems[0] == "failing"
    assert "1 attempt failed" in text(person.get("/sync-desk?show=undecided"))


def test_an_outcome_is_unheard_until_it_is_pulled_and_unconfirmed_until_the_next_pull(app: Flask, field: Field) -> None:
    here = make_territories(app)
    phone = field.phone(field.crew(territory_ids=[here["A"]]))
    in_order(phone)
    job = field.job("repair", phone.crew_id)
    field.cancel(job)
    op = phone.op("job.complete", job, repaired())
    phone.push(op)
    field.drain()
    person, stranger = Visitor(app, territory_ids=[here["A"]]), Visitor(app, territory_ids=[here["C"]])
    one = on_desk(field, phone)
    assert one.problems == ("unheard",) and (one.unheard.count, one.handed) == (1, 0)
    page = person.get("/sync-desk?show=unheard")
    assert "not fetched" in text(page) and "Parked for review" in text(page) and "/reviews/" in page.text
    assert "1 outcome has not been fetched" in text(person.get("/sync-desk?problem=unheard"))
    for nothing in ("/sync-desk", "/sync-desk?show=unheard", f"/sync-desk?crew={phone.crew_id}"):
        assert "outcome has not" not in text(stranger.get(nothing)) and "Parked" not in text(stranger.get(nothing))
    assert field.get(f"/v1/devices/{phone.id}")["id"] in person.get("/sync-desk").text

    phone.pull()
    one = on_desk(field, phone)
    assert one.problems == () and (one.unheard.count, one.handed) == (0, 1)
    assert "handed out, not confirmed" in text(person.get("/sync-desk?show=unheard"))
    long_ago(field, phone, pulled_at=utc_now() - timedelta(minutes=2))
    phone.pull()
    assert on_desk(field, phone).handed == 0
    assert "Every crew knows what became of its work." in text(person.get("/sync-desk?show=unheard"))
    before = on_desk(field, phone).device.pulled_at
    phone.pull()
    assert on_desk(field, phone).device.pulled_at == before, "a pull that brings nothing new costs no write"


def test_the_list_narrows_by_its_address_refreshes_itself_and_shows_revoked_ones_when_asked(
    app: Flask, field: Field
) -> None:
    phone, gone = field.phone(), field.phone()
    in_order(phone)
    assert field.office.post(f"/v1/devices/{gone.id}/revoke", json={"reason": "lost"}).status_code == 200
    person = Visitor(app, "auditor")
    page = person.get("/sync-desk")
    assert phone.id in page.text and gone.id not in page.text and 'hx-trigger="every 20s"' in page.text
    revoked = person.get("/sync-desk?problem=revoked")
    assert gone.id in revoked.text and phone.id not in revoked.text
    assert "No device fits." in text(person.get("/sync-desk?q=nobody"))
    assert phone.id in person.get(f"/sync-desk?q={phone.install_id}&problem=").text
    piece = person.piece("/sync-desk", HX_Target="desk")
    assert "<html" not in piece.text and phone.id in piece.text
    assert person.get("/sync-desk?problem=none").status_code == 422
    assert person.get("/sync-desk?show=undecided&cursor=x").status_code == 400


def test_apps_on_other_libraries_hear_too(field: Field) -> None:
    watermelon, rxdb = field.phone(), field.phone()
    for phone in (watermelon, rxdb):
        hello(phone, pending=0)
        job = field.job("repair", phone.crew_id)
        phone.push(phone.op("note.add", job, {"text": "x"}))
    field.settle()
    assert on_desk(field, rxdb).problems == on_desk(field, watermelon).problems == ("unheard", "no_first_sync")
    done(watermelon.client.get("/sync/v1/compat/watermelon/pull?last_pulled_at=null&schema_version=1&migration=null"))
    done(rxdb.client.get("/sync/v1/compat/rxdb/jobs/pull"))
    assert on_desk(field, watermelon).problems == () and on_desk(field, rxdb).problems == ("unheard",)
    done(rxdb.client.get("/sync/v1/compat/rxdb/outcomes/pull"))
    assert on_desk(field, rxdb).problems == ()
