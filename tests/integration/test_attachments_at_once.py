"""A file that arrives while an operation names it, and one that is looked at twice: it always comes to the same."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from flask import Flask

from fieldsvc.base.clock import utc_now
from fieldsvc.base.db import db
from fieldsvc.config import Settings
from fieldsvc.sync import uploads
from tests.evidence import complete, entry, told, upload
from tests.field import Field, Phone
from tests.integration.test_sync_at_once import at_once, drain, post


@pytest.fixture
def field(app: Flask) -> Field:
    return Field(app)


def inspect(field: Field, where: str) -> Callable[[], int]:
    def act() -> int:
        with field.app.app_context():
            try:
                uploads.inspect(field.app.extensions["fieldsvc.store"], where.rpartition("/")[2], utc_now())
                return 0
            finally:
                db.session.remove()

    return act


def sent(phone: Phone, n: int) -> tuple[dict[str, object], str]:
    data = f"content {phone.id} {n}".encode()
    named = entry(data, type="text/plain")
    return named, upload(phone, data, named)


def test_a_file_that_arrives_while_it_is_named_is_verified(field: Field) -> None:
    phone = field.phone()
    for n in range(8):
        job = field.job("repair", phone.crew_id)
        named, where = sent(phone, n)
        at_once([post(phone, [complete(phone, job, named)]), inspect(field, where)])
        phone.pull()
        assert told(phone, named)["state"] == "verified"


def test_a_file_that_arrives_while_its_operation_is_decided_counts_for_the_job(field: Field) -> None:
    phone = field.phone()
    for n in range(8):
        job = field.job("repair", phone.crew_id)
        named, where = sent(phone, n)
        phone.push(complete(phone, job, named))
        at_once([drain(field, phone.install_id), inspect(field, where)])
        field.settle()
        assert field.get(f"/v1/jobs/{job}")["evidence"]["state"] == "complete"


def test_files_of_one_job_that_arrive_at_once_are_all_counted(field: Field) -> None:
    phone = field.phone()
    job = field.job("repair", phone.crew_id)
    files = [sent(phone, n) for n in range(4)]
    phone.send(complete(phone, job, *(named for named, _ in files)))
    at_once([inspect(field, where) for _, where in files])
    assert field.get(f"/v1/jobs/{job}")["evidence"] == {"state": "complete", "required": 4, "verified": 4, "broken": 0}


def test_a_file_looked_at_by_two_is_noted_once(field: Field, settings: Settings) -> None:
    phone = field.phone()
    job = field.job("repair", phone.crew_id)
    for n in range(4):
        named, where = sent(phone, n)
        phone.send(phone.op("note.add", job, {"text": "see"}, attachments=[named]))
        at_once([inspect(field, where), inspect(field, where), inspect(field, where)])
    actions = [entry["action"] for entry in field.history(job=job)]
    assert actions.count("attachment.verified") == 4
    assert not list((settings.data_dir / "evidence" / "parts").glob("*/*"))


def test_the_same_file_from_two_devices_at_once_is_kept_once(field: Field) -> None:
    for n in range(4):
        phones = [field.phone(), field.phone()]
        named = [entry(f"shared {n}".encode(), type="text/plain") for _ in phones]
        for phone, one in zip(phones, named, strict=True):
            phone.push(phone.op("note.add", field.job("repair", phone.crew_id), {"text": "see"}, attachments=[one]))
        places = [upload(phone, f"shared {n}".encode(), one) for phone, one in zip(phones, named, strict=True)]
        at_once([inspect(field, where) for where in places])
        for phone, one in zip(phones, named, strict=True):
            phone.pull()
            assert told(phone, one)["state"] == "verified"


def test_a_picture_that_takes_the_worker_down_is_not_looked_at_for_ever(field: Field) -> None:
    phone = field.phone()
    job, data = field.job("repair", phone.crew_id), b"\xff\xd8\xff whatever"
    named = entry(data)
    phone.send(complete(phone, job, named))
    where = upload(phone, data, named)
    with field.app.app_context():
        for _ in range(uploads.LOOKS):
            uploads.note_look(where.rpartition("/")[2])
    inspect(field, where)()
    phone.pull()
    assert told(phone, named)["state"] == "unreadable" and "looked at" in told(phone, named)["fault"]
