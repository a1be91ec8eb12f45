"""Files of operations: what becomes of them, what the device, the job and the office are told."""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask

from fieldsvc.base.clock import utc_now
from fieldsvc.base.db import transaction
from fieldsvc.work import closing
from tests import evidence
from tests.evidence import begin, complete, entry, photo, send, told, upload
from tests.field import Field, Phone, done


@pytest.fixture
def field(app: Flask, drain: Callable[[], None]) -> Field:
    return Field(app, drain)


@pytest.fixture
def phone(field: Field) -> Phone:
    return field.phone()


def look(phone: Phone) -> None:
    """Let the workers work, then pull."""
    phone.field.drain()
    phone.pull()


def job_of(phone: Phone) -> str:
    return phone.field.job("repair", phone.crew_id)


def evidence_of(phone: Phone, job: str) -> dict[str, Any]:
    found: dict[str, Any] = phone.field.get(f"/v1/jobs/{job}")["evidence"]
    return found


def shown(phone: Phone, job: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = phone.field.get(f"/v1/jobs/{job}/attachments")["items"]
    return items


def test_a_photo_never_delays_a_fact_and_arrives_after_it(phone: Phone) -> None:
    job, data = job_of(phone), photo()
    named = entry(data)
    op = complete(phone, job, named)
    (result,) = done(phone.post([op]))["results"]
    assert (result["status"], result["missing"]) == ("awaiting_attachment", [named["id"]])
    look(phone)
    assert phone.outcome(op) == "applied" and phone.field.status(job) == "completed"
    assert phone.told[op["op_id"]]["evidence"] == {"required": 1, "verified": 0, "missing": [named["id"]]}
    assert phone.told[op["op_id"]]["job_rev"] == phone.copy["job", job]["rev"]
    assert told(phone, named)["state"] == "expected"
    assert evidence_of(phone, job) == {"state": "awaiting", "required": 1, "verified": 0, "broken": 0}
    upload(phone, data, named)
    look(phone)
    assert told(phone, named) | {"verified_at": None, "job_id": job} == {
        "id": named["id"],
        "op_id": op["op_id"],
        "job_id": job,
        "state": "verified",
        "fault": None,
        "sha256": named["sha256"],
        "size": len(data),
        "required": True,
        "verified_at": None,
    }
    complete_now = {"state": "complete", "required": 1, "verified": 1, "broken": 0}
    assert evidence_of(phone, job) == phone.copy["job", job]["evidence"] == complete_now
    (state,) = done(phone.client.get(f"/sync/v1/ops?ids={op['op_id']}"))["results"]
    assert state["status"] == "applied" and "missing" not in state


def test_a_photo_may_come_before_the_operation_that_names_it(phone: Phone) -> None:
    job, data = job_of(phone), photo()
    named = entry(data)
    upload(phone, data, named)
    phone.field.drain()
    op = complete(phone, job, named)
    assert phone.push(op) == ["accepted"]
    look(phone)
    assert told(phone, named)["state"] == "verified"
    assert phone.told[op["op_id"]]["evidence"] == {"required": 1, "verified": 1, "missing": []}
    assert evidence_of(phone, job)["state"] == "complete"


def test_a_photo_sent_but_not_looked_at_yet_is_verified_with_the_next_look(phone: Phone) -> None:
    job, data = job_of(phone), photo()
    named = entry(data)
    upload(phone, data, named)
    assert phone.push(complete(phone, job, named)) == ["awaiting_attachment"]
    look(phone)
    assert told(phone, named)["state"] == "verified"
    assert evidence_of(phone, job)["state"] == "complete"


def test_ops_says_what_is_missing_as_long_as_it_is(phone: Phone) -> None:
    job, data = job_of(phone), photo()
    named, optional = entry(data), entry(photo(2), required=False)
    op = complete(phone, job, named, optional)
    phone.push(op)

    def state() -> dict[str, Any]:
        found: dict[str, Any] = done(phone.client.get(f"/sync/v1/ops?ids={op['op_id']}"))["results"][0]
        return found

    assert (state()["status"], state()["missing"]) == ("awaiting_attachment", [named["id"]])
    (again,) = done(phone.post([op]))["results"]
    assert (again["status"], again["missing"]) == ("duplicate", [named["id"]])
    look(phone)
    assert (state()["status"], state()["missing"]) == ("applied", [named["id"]])
    upload(phone, data, named)
    look(phone)
    assert "missing" not in state() and told(phone, optional)["state"] == "expected"
    assert evidence_of(phone, job)["state"] == "complete", "nobody waits for what is not required"
    other = phone.field.phone()
    assert done(other.client.get(f"/sync/v1/ops?ids={op['op_id']}"))["results"] == [
        {"op_id": op["op_id"], "status": "not_found"}
    ]


def test_operations_without_files_say_nothing_of_evidence(phone: Phone) -> None:
    job = job_of(phone)
    op = complete(phone, job)
    assert phone.send(op) == ["applied"] and "evidence" not in phone.told[op["op_id"]]
    assert phone.copy["job", job]["evidence"] == {"state": "none", "required": 0, "verified": 0, "broken": 0}


@pytest.mark.parametrize(
    ("sent", "state"),
    [(b"", "empty"), (b"something else", "wrong_size"), (b"exactly as long!", "wrong_hash")],
)
@pytest.mark.parametrize("push_first", [True, False])
def test_what_is_not_what_was_named_is_seen_and_may_be_sent_again(
    phone: Phone, sent: bytes, state: str, push_first: bool
) -> None:
    job, data = job_of(phone), b"the real content"
    named = entry(data, type="application/pdf")
    op = complete(phone, job, named)
    if push_first:
        phone.send(op)
        upload(phone, sent, named)
    else:
        upload(phone, sent, named)
        phone.field.drain()
        phone.push(op)
    look(phone)
    assert told(phone, named)["state"] == state and told(phone, named)["fault"]
    assert evidence_of(phone, job) == {"state": "broken", "required": 1, "verified": 0, "broken": 1}
    assert shown(phone, job)[0]["content"] is False
    upload(phone, data, named)
    look(phone)
    assert told(phone, named)["state"] == "verified" and told(phone, named)["fault"] is None
    assert evidence_of(phone, job)["state"] == "complete"
    actions = [entry["action"] for entry in phone.field.history(job=job) if entry["entity"] == "attachment"]
    assert actions == (["attachment.failed"] if push_first else []) + ["attachment.verified"]


def test_an_operation_that_lies_about_the_size_is_told_so(phone: Phone) -> None:
    job, data = job_of(phone), b"twelve bytes"
    named = entry(data, size=13, type="text/plain")
    phone.send(complete(phone, job, named))
    upload(phone, data, named)
    look(phone)
    assert told(phone, named)["state"] == "wrong_size"


@pytest.mark.parametrize(
    ("data", "declared", "fault"),
    [
        (photo()[:3000], "image/jpeg", "cut off"),
        (b"<svg onload=alert(1)>", "image/jpeg", "is no image/jpeg"),
        (photo(kind="PNG"), "image/jpeg", "but image/png"),
        (photo(kind="PNG", exif=False)[:500], "image/png", "cut off"),
    ],
)
def test_a_picture_that_cannot_be_read_is_kept_and_not_verified(
    phone: Phone, data: bytes, declared: str, fault: str
) -> None:
    job = job_of(phone)
    named = entry(data, type=declared)
    op = complete(phone, job, named)
    phone.send(op)
    upload(phone, data, named)
    look(phone)
    assert told(phone, named)["state"] == "unreadable" and fault in told(phone, named)["fault"]
    assert evidence_of(phone, job)["state"] == "broken"
    (state,) = done(phone.client.get(f"/sync/v1/ops?ids={op['op_id']}"))["results"]
    assert "missing" not in state, "the same bytes would help nobody"
    assert shown(phone, job)[0]["content"] is True
    better = entry(photo(3), id=named["id"])
    upload(phone, photo(3), better)
    phone.send(phone.op("note.add", job, {"text": "the picture again"}, attachments=[better]))
    look(phone)
    assert evidence_of(phone, job) == {"state": "complete", "required": 1, "verified": 1, "broken": 0}


def test_a_bomb_is_refused_by_its_header(phone: Phone) -> None:
    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    for edge in (8100, 60000):  # more than we look at; more than Pillow would open
        data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", edge, edge, 8, 2, 0, 0, 0))
        data += chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")
        job, named = job_of(phone), entry(data, type="image/png")
        phone.send(complete(phone, job, named))
        upload(phone, data, named)
        look(phone)
        assert told(phone, named)["state"] == "unreadable" and "pixels" in told(phone, named)["fault"]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_what_a_picture_says_is_kept_as_evidence(phone: Phone, kind: str) -> None:
    job, data = job_of(phone), photo(kind=kind, turned=6)
    named = entry(data, type=f"image/{kind.lower()}")
    phone.send(complete(phone, job, named))
    upload(phone, data, named)
    look(phone)
    (one,) = shown(phone, job)
    assert (one["width"], one["height"]) == (600, 900), "upright"
    assert (one["taken_text"], one["taken_at"]) == ("2026:11:21 15:20:05 +08:00", "2026-11-21T07:20:05Z")
    assert one["taken_position"] == {"type": "Point", "coordinates": [111.57, 35.49]}
    assert (one["state"], one["filename"], one["in_effect"]) == ("verified", "meter 5.jpg", True)
    (entry_of,) = [found for found in phone.field.history(job=job) if found["action"] == "attachment.verified"]
    assert entry_of["after"]["says"] == {"taken": "2026:11:21 15:20:05 +08:00", "lon": 111.57, "lat": 35.49}
    assert (entry_of["op_id"], entry_of["device_id"]) == (one["op_id"], phone.id)


def test_the_same_file_named_twice_travels_once(phone: Phone) -> None:
    data, first, second = photo(), job_of(phone), job_of(phone)
    named = entry(data)
    phone.send(complete(phone, first, named), complete(phone, second, entry(data)))
    upload(phone, data, named)
    look(phone)
    assert [evidence_of(phone, job)["state"] for job in (first, second)] == ["complete", "complete"]
    third = job_of(phone)
    assert phone.push(complete(phone, third, named)) == ["accepted"]


def test_files_of_a_rejected_operation_are_waited_for_no_longer(phone: Phone) -> None:
    job, data = job_of(phone), photo()
    named, early = entry(data), entry(photo(2))
    upload(phone, photo(2), early)
    phone.field.drain()
    bad = phone.op("job.complete", job, {"cause_major": 5}, attachments=[named, early])
    assert phone.send(bad) == ["rejected"]
    assert [doc["id"] for doc in phone.docs("attachment")] == [early["id"]], "what is verified stays"
    assert evidence_of(phone, job)["state"] == "none"
    (state,) = done(phone.client.get(f"/sync/v1/ops?ids={bad['op_id']}"))["results"]
    assert "missing" not in state
    good = complete(phone, job, named)
    phone.send(good)
    upload(phone, data, named)
    look(phone)
    assert evidence_of(phone, job)["state"] == "complete"


def test_parked_work_counts_for_the_job_when_somebody_has_taken_it_over(field: Field) -> None:
    one, other = field.phone(), field.phone()
    job, data = field.job("repair", one.crew_id), photo()
    one.pull()
    field.assign(job, other.crew_id)
    named = entry(data)
    op = complete(one, job, named)
    assert one.send(op) == ["parked"]
    assert evidence_of(one, job)["state"] == "none"
    field.assign(job, one.crew_id)
    (review,) = field.reviews(job=job)
    done(field.resolve(review["id"], "apply"))
    assert evidence_of(one, job)["state"] == "awaiting"
    one.pull()
    assert one.told[op["op_id"]]["evidence"] == {"required": 1, "verified": 0, "missing": [named["id"]]}
    upload(one, data, named)
    look(one)
    assert evidence_of(one, job)["state"] == "complete"


def test_the_manifest_of_the_device_holds_its_attachments(phone: Phone) -> None:
    job, data = job_of(phone), photo()
    named = entry(data)
    phone.send(complete(phone, job, named))
    upload(phone, data, named)
    phone.field.drain()
    rows = [
        (change["entity"], change["id"], change["rev"])
        for change in phone.pull()
        if change["op"] == "put" and change["entity"] == "attachment"
    ]
    assert rows and rows[0][2] == 2
    snapshot = phone.client.get("/sync/v1/snapshot").get_data(as_text=True)
    assert '"entity":"attachment"' in snapshot
    scope = f"device:{phone.id}"
    lines = sorted([("attachment", rows[0][1], 2), *(("outcome", op_id, 1) for op_id in phone.told)])
    checksum = hashlib.sha256("".join(f"{e} {i} {r}\n" for e, i, r in lines).encode()).hexdigest()
    body = {"scopes": {scope: {"count": len(lines), "checksum": checksum}}}
    assert done(phone.client.post("/sync/v1/manifest", json=body)) == {"ok": True}


def test_evidence_of_a_closed_job_does_not_bring_it_back_to_the_crew(phone: Phone) -> None:
    job, data = job_of(phone), photo()
    named = entry(data)
    phone.send(complete(phone, job, named))
    with phone.field.app.app_context(), transaction():
        assert closing.close_due(utc_now() + timedelta(days=30)) == 1
    phone.pull()
    assert job not in phone.holds("job")
    upload(phone, data, named)
    look(phone)
    assert evidence_of(phone, job)["state"] == "complete" and job not in phone.holds("job")


def test_evidence_does_not_make_a_crews_edit_stale(phone: Phone) -> None:
    job, data = job_of(phone), photo()
    named = entry(data)
    phone.send(phone.op("note.add", job, {"text": "see picture"}, attachments=[named]))
    edit = phone.edit(job, {"access_note": None}, {"access_note": "ring twice"})
    upload(phone, data, named)
    look(phone)
    assert phone.send(edit) == ["applied"]


def test_bytes_on_their_way_are_shown_to_the_office(phone: Phone) -> None:
    job, data = job_of(phone), photo()
    named = entry(data)
    phone.send(complete(phone, job, named))
    where = begin(phone, named)
    send(phone, where, 0, data[:1000])
    (one,) = shown(phone, job)
    assert (one["state"], one["received"], one["size"]) == ("uploading", 1000, len(data))
    assert evidence.offset(phone, where) == 1000
