"""What is held for too long is decided without what is missing, and somebody is told."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from flask import Flask

from fieldsvc.base.clock import utc_now
from tests.field import Field, Op, Phone, exchange, repaired


@pytest.fixture
def field(app: Flask, drain: Callable[[], None]) -> Field:
    return Field(app, drain)


def gap(phone: Phone, job: str) -> Op:
    """An operation that is lost on its way: the phone has numbered it, nobody gets it."""
    return phone.op("job.accept", job)


def later(phone: Phone, hours: float) -> None:
    phone.field.settle(utc_now() + timedelta(hours=hours))
    phone.pull()


def test_after_its_time_a_held_operation_is_applied_and_looked_at(field: Field) -> None:
    phone = field.phone()
    job = field.job("repair", phone.crew_id)
    lost, done = gap(phone, job), phone.op("job.complete", job, repaired())
    assert phone.push(done) == ["held"]
    later(phone, 23.9)
    assert phone.outcome(done) == "held" and field.status(job) == "dispatched"
    later(phone, 24.1)
    assert (phone.outcome(done), phone.reason(done)) == ("forced", "missing_predecessor")
    assert field.status(job) == "completed"
    (review,) = field.reviews(job=job)
    assert (review["outcome"], review["severity"]) == ("forced", "hard")
    assert [entry["reason"] for entry in phone.copy["job", job]["attention"]] == ["missing_predecessor"]
    assert "operation.forced" in {entry["action"] for entry in field.history(operation=done["op_id"])}
    assert field.resolve(review["id"], "apply").status_code == 200
    phone.pull()
    assert phone.outcome(done) == "resolved" and phone.copy["job", job]["attention"] == []
    actions = [entry["action"] for entry in field.history(operation=done["op_id"])]
    assert actions.count("job.complete") == 1
    assert phone.send(lost) == ["superseded"]


@pytest.mark.parametrize(("kind", "hours"), [("defect.report", 4), ("note.add", 24)])
def test_what_tells_of_danger_waits_shorter(field: Field, kind: str, hours: int) -> None:
    phone = field.phone()
    job = field.job("repair", phone.crew_id)
    gap(phone, job)
    seen = {"description": "bare wire", "grade_scheme": "grid", "grade": "critical", "text": "bare wire"}
    op = phone.op(kind, job, seen)
    phone.push(op)
    later(phone, hours - 0.1)
    assert phone.outcome(op) == "held"
    later(phone, hours + 0.1)
    assert phone.outcome(op) == "forced"


def test_a_completion_whose_exchange_never_came_is_parked_and_not_refused(field: Field) -> None:
    phone, place = field.phone(), field.place()
    job = field.job("meter_change", phone.crew_id, place)
    act, end = phone.op("meter.exchange", job, exchange(place, "NEW-1")), phone.op("job.complete", job, {})
    assert phone.push(end) == ["held"]
    later(phone, 25)
    assert (phone.outcome(end), phone.reason(end)) == ("parked", "missing_predecessor")
    assert phone.send(act) == ["applied"]
    (review,) = field.reviews(job=job)
    assert field.resolve(review["id"], "apply").status_code == 200
    assert field.status(job) == "completed"


def test_two_phones_that_wait_for_each_other_do_not_wait_for_ever(field: Field) -> None:
    one, other = field.phone(), field.phone()
    first, second = field.job("repair", one.crew_id), field.job("repair", other.crew_id)
    mine, theirs = one.op("note.add", first, {"text": "a"}), other.op("note.add", second, {"text": "b"})
    mine["depends_on"], theirs["depends_on"] = [theirs["op_id"]], [mine["op_id"]]
    assert one.push(mine) == other.push(theirs) == ["held"]
    later(one, 24.1)
    other.pull()
    assert (one.outcome(mine), other.outcome(theirs)) == ("forced", "forced")
    assert field.settle(utc_now() + timedelta(hours=48)) == 0
