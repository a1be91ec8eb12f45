"""A fourth kind of job is one file: here is one, outside the package, from the office to the record."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Annotated, Any

import msgspec
import pytest
import structlog
from flask import Flask
from msgspec import Meta

from fieldsvc import kinds
from fieldsvc.base.clock import utc_now
from fieldsvc.kinds.base import AddContact, Decision, Kind, Operation, SetResult, Situation, applied, parked
from fieldsvc.kinds.common import OPERATIONS, judge
from fieldsvc.sync import reconcile
from tests.field import Field, problem


class Pole(msgspec.Struct):
    """``pole.check``: how far a pole leans, in degrees, and whether it may be climbed."""

    lean: Annotated[float, Meta(ge=0, le=90)]
    climbable: bool


def _checked(op: Operation, payload: Pole, situation: Situation, moved: tuple) -> Decision:
    if payload.lean > 30:
        return parked("state_not_allowed", {"text": f"a pole that leans {payload.lean:g}° is somebody else's work"})
    if payload.lean == 13:
        raise ZeroDivisionError("a fault of ours")
    result = {"lean": payload.lean, "climbable": payload.climbable}
    return applied(*moved, SetResult(result), AddContact("visit", "pole check", "told the owner", op.occurred_at))


_ALL = {**OPERATIONS, "pole.check": Pole}

POLE_CHECK = Kind(
    name="pole_check",
    title="Pole check",
    title_zh="电杆检查",
    operations=_ALL,
    service_minutes=20,
    skill="lines",
    result_type=Pole,
    reconcile=lambda op, situation: judge(op, situation, _ALL, {"pole.check": _checked}),
)


@pytest.fixture
def field(app: Flask, drain: Callable[[], None]) -> Iterator[Field]:
    kinds.register(POLE_CHECK)
    yield Field(app, drain)
    kinds.unregister(POLE_CHECK.name)


def test_it_is_ordered_done_and_on_record_like_any_other(field: Field) -> None:
    place, phone = field.place(), field.phone()
    job = field.job("pole_check", phone.crew_id, place)
    phone.pull()
    doc = phone.copy["job", job]
    assert (doc["kind"], doc["title"], doc["service_minutes"]) == ("pole_check", "Pole check", 20)
    check = phone.op("pole.check", job, {"lean": 4.5, "climbable": True})
    bad = phone.op("pole.check", job, {"lean": 91, "climbable": "yes"})
    strange = phone.op("meter.exchange", job, {})
    leaning = phone.op("pole.check", job, {"lean": 40, "climbable": False})
    end = phone.op("job.complete", job, {})
    assert phone.send(check, bad, strange, leaning, end) == ["applied", "rejected", "rejected", "parked", "applied"]
    assert [error["field"] for error in phone.told[bad["op_id"]]["errors"]] == ["/payload/lean", "/payload/climbable"]
    page = field.get(f"/v1/jobs/{job}")
    assert page["status"] == "completed" and page["result"]["lean"] == 4.5
    assert [row["id"] for row in field.get("/v1/jobs?kind=pole_check")["items"]] == [job]
    contacts = field.get(f"/v1/customers/{place.customer_id}")["contacts"]["items"]
    assert {contact["outcome"] for contact in contacts} == {"told the owner", "completed"}
    assert "pole.check" in [entry["action"] for entry in field.history(kind="pole_check")]
    assert "40°" in field.reviews(job=job)[0]["explanation"]["text"]


def test_without_its_file_the_kind_is_unknown(app: Flask) -> None:
    refused = Field(app).office.post("/v1/jobs", json={"kind": "pole_check"})
    assert problem(refused) == (422, "invalid")


def test_a_fault_of_ours_is_tried_again_then_parked_and_the_rest_goes_on(field: Field) -> None:
    place, phone, other = field.place(), field.phone(), field.phone()
    job, beside = field.job("pole_check", phone.crew_id, place), field.job("repair", phone.crew_id)
    before = phone.op("job.arrive", job)
    faulty = phone.op("pole.check", job, {"lean": 13, "climbable": True})
    after, elsewhere = phone.op("note.add", job, {"text": "after"}), phone.op("job.accept", beside)
    waiting = other.op("job.accept", field.job("repair", other.crew_id), depends_on=[faulty["op_id"]])
    phone.push(before, faulty, after, elsewhere)
    assert other.push(waiting) == ["held"]
    now = utc_now()
    assert field.settle(now) == 1, "what came before it is decided"
    assert [phone.outcome(op) for op in (faulty, after, elsewhere)] == ["retrying", "accepted", "accepted"]
    assert field.settle(now) == 0, "not before its time"
    tried = 1
    while phone.outcome(faulty) == "retrying":
        now += timedelta(seconds=60)
        field.settle(now)
        tried += 1
        assert tried <= 5
    phone.pull(), other.pull()
    assert tried == 5
    assert [phone.outcome(op) for op in (before, faulty, after, elsewhere)] == [
        "applied",
        "parked",
        "applied",
        "applied",
    ]
    assert phone.reason(faulty) == "could_not_apply" and other.outcome(waiting) == "applied"
    (review,) = field.reviews(job=job)
    assert review["reason"] == "could_not_apply" and "ZeroDivisionError" in review["explanation"]["text"]
    assert review["proposed"]["payload"] == faulty["payload"]
    assert [e["action"] for e in field.history(operation=faulty["op_id"])] == ["job.attention", "operation.parked"]
    (row,) = field.get(f"/v1/operations?status=parked&device={phone.id}")["items"]
    assert (row["op_id"], row["attempts"]) == (faulty["op_id"], 5)
    assert problem(field.resolve(review["id"], "apply")) == (409, "state-not-allowed"), "the fault is still there"
    assert field.resolve(review["id"], "dismiss").status_code == 200


def test_what_could_not_be_applied_is_applied_when_the_fault_is_mended(field: Field) -> None:
    phone, place = field.phone(), field.place()
    job = field.job("pole_check", phone.crew_id, place)
    check = phone.op("pole.check", job, {"lean": 3, "climbable": True})
    kinds.unregister(POLE_CHECK.name)  # a worker that was not told of the kind
    phone.push(check)
    now = utc_now()
    for minute in range(5):
        field.settle(now + timedelta(minutes=minute))
    assert phone.outcome(check) == "parked"
    kinds.register(POLE_CHECK)
    (review,) = field.reviews(job=job)
    assert "UnknownKind" in review["explanation"]["text"]
    assert field.resolve(review["id"], "apply").status_code == 200
    assert field.get(f"/v1/jobs/{job}")["result"]["lean"] == 3
    phone.pull()
    assert phone.outcome(check) == "resolved"


def test_what_another_worker_has_decided_meanwhile_costs_the_next_operation_no_attempt(field: Field) -> None:
    phone, place = field.phone(), field.place()
    job = field.job("pole_check", phone.crew_id, place)
    check, after = phone.op("pole.check", job, {"lean": 3, "climbable": True}), phone.op("note.add", job, {"text": "x"})
    mended: list[bool] = []

    def mend(*told: Any) -> Any:
        """The moment between the failure and its record, when another worker, who knows the kind, decides it."""
        if told[2]["event"] == "operation-failed" and not mended:
            mended.append(True)
            kinds.register(POLE_CHECK)
            other = threading.Thread(target=lambda: (field.settle(), phone.push(after)))
            other.start()
            other.join()
        return told[2]

    kinds.unregister(POLE_CHECK.name)
    phone.push(check)
    before = structlog.get_config()["processors"]
    structlog.configure(processors=[mend, *before])
    try:
        with field.app.app_context():
            reconcile.drain(phone.install_id, utc_now())
    finally:
        structlog.configure(processors=before)
    assert mended
    field.settle()
    attempts = {row["op_id"]: row["attempts"] for row in field.get(f"/v1/operations?device={phone.id}")["items"]}
    assert attempts == {check["op_id"]: 0, after["op_id"]: 0}
    phone.pull()
    assert [phone.outcome(op) for op in (check, after)] == ["applied", "applied"]
