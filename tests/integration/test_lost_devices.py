"""A phone is lost, comes back, is replaced or moved: what it handed in counts, what it still holds is known."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask

from fieldsvc.base.clock import format_time, new_id, utc_now
from tests.factories import with_token
from tests.field import Field, Phone, done, exchange, problem, repaired


@pytest.fixture
def field(app: Flask, drain: Callable[[], None]) -> Field:
    return Field(app, drain)


def hello(phone: Phone, pending: int) -> dict[str, Any]:
    body = {"device_time": format_time(utc_now()), "pending": pending}
    return done(phone.client.post("/sync/v1/hello", json=body))


def revoke(phone: Phone) -> None:
    done(phone.field.office.post(f"/v1/devices/{phone.id}/revoke", json={"reason": "lost in the river"}))


def enrolled_again(phone: Phone, crew: str | None = None) -> dict[str, Any]:
    """With a new code, of its own crew unless another is named."""
    code = done(phone.field.office.post(f"/v1/crews/{crew or phone.crew_id}/enrolment-codes"), 201)["code"]
    body = {"code": code, "install_id": phone.install_id}
    given = done(phone.client.post("/sync/v1/enrol", json=body), 201)
    phone.client = with_token(phone.field.app, given["token"])
    return given


def test_what_a_lost_phone_still_holds_is_known(field: Field) -> None:
    phone = field.phone()
    page = field.get(f"/v1/devices/{phone.id}")
    assert page["pending_at"] is None and page["holds"] == {
        "next_seq": 1,
        "last_seq": 0,
        "missing": [],
        "held": [],
        "held_count": 0,
        "undecided": 0,
        "received_since": 0,
        "outstanding": None,
        "last_received_at": None,
    }
    job = field.job("repair", phone.crew_id)
    ops = [phone.op("note.add", job, {"text": str(number)}) for number in range(1, 10)]
    hello(phone, pending=9)
    phone.push(ops[0], ops[1])
    phone.push(ops[3], ops[6], ops[7])  # the line was bad: 3, 5 and 6 never came, nor did 9
    field.drain()
    revoke(phone)
    page = field.get(f"/v1/devices/{phone.id}")
    holds = page["holds"]
    assert (page["pending"], holds["received_since"], holds["outstanding"]) == (9, 5, 4)
    assert (holds["next_seq"], holds["last_seq"]) == (3, 8)
    assert holds["missing"] == [{"first": 3, "last": 3}, {"first": 5, "last": 6}]
    assert holds["held"] == [ops[n]["op_id"] for n in (3, 6, 7)] and holds["held_count"] == holds["undecided"] == 3
    assert page["pending_at"] < holds["last_received_at"] <= page["revoked_at"]
    refused = phone.post([ops[2]])
    assert problem(refused) == (403, "device-revoked") and refused.json["wipe"] is True
    field.settle(utc_now() + timedelta(hours=25))
    assert field.get(f"/v1/jobs/{job}")["notes"] == ["1", "2", "4", "7", "8"], "what came counts, in its order"
    assert field.get(f"/v1/devices/{phone.id}")["holds"]["undecided"] == 0
    entry = next(e for e in field.history(device=phone.id) if e["action"] == "operation.forced")
    assert entry["after"]["reason"] == "missing_predecessor"


@pytest.mark.parametrize("gaps", [50, 51])
def test_at_most_fifty_gaps_and_held_operations_are_listed(field: Field, gaps: int) -> None:
    phone = field.phone()
    job = field.job("repair", phone.crew_id)
    ops = [phone.op("note.add", job, {"text": str(number)}) for number in range(gaps * 2)]
    phone.push(*ops[1::2])
    holds = field.get(f"/v1/devices/{phone.id}")["holds"]
    assert (len(holds["missing"]), len(holds["held"]), holds["held_count"]) == (50, 50, gaps)


def test_what_a_revoked_phone_had_handed_in_is_still_decided(field: Field) -> None:
    phone = field.phone()
    job = field.job("repair", phone.crew_id)
    op = phone.op("job.complete", job, repaired())
    assert phone.push(op) == ["accepted"]
    revoke(phone)
    field.drain()
    assert field.status(job) == "completed"
    assert field.get(f"/v1/operations?device={phone.id}")["items"][0]["status"] == "applied"


def test_a_phone_that_comes_back_goes_on_where_it_was(field: Field) -> None:
    phone = field.phone()
    job, other = field.job("repair", phone.crew_id), field.job("repair", phone.crew_id)
    phone.pull()
    before = phone.op("job.accept", job)
    assert phone.send(before) == ["applied"]
    decided = phone.op("job.arrive", job)
    phone.push(decided)
    revoke(phone)
    field.drain()
    waiting = [phone.op("job.complete", job, repaired()), phone.op("job.accept", other)]
    assert problem(phone.post(waiting)) == (403, "device-revoked")
    given = enrolled_again(phone)
    assert (given["device_id"], given["crew_id"]) == (phone.id, phone.crew_id)
    assert hello(phone, pending=2)["next_seq"] == 3
    changes = phone.pull()  # with the checkpoint of before
    assert {(change["entity"], change["id"]) for change in changes} >= {("job", job), ("outcome", decided["op_id"])}
    assert phone.outcome(decided) == "applied"
    assert phone.send(before, *waiting) == ["applied", "applied", "applied"]
    assert len([e for e in field.history(operation=before["op_id"]) if e["entity"] == "job"]) == 1, "not done twice"
    assert field.get(f"/v1/devices/{phone.id}")["holds"]["outstanding"] == 0


def test_another_install_on_the_same_phone_begins_anew_and_the_crew_loses_nothing(field: Field) -> None:
    lost = field.phone()
    job = field.job("repair", lost.crew_id)
    assert lost.do("job.accept", job) == "applied"
    revoke(lost)
    fresh = field.phone(lost.crew_id)
    assert fresh.id != lost.id and hello(fresh, pending=0)["next_seq"] == 1
    fresh.pull()
    assert fresh.copy["job", job]["status"] == "accepted" and fresh.told == {}, "outcomes are the other install's"
    assert fresh.do("job.complete", job, repaired()) == "applied"
    assert {device["id"]: device["revoked_at"] is None for device in field.get("/v1/devices")["items"]} == {
        lost.id: False,
        fresh.id: True,
    }


def test_a_phone_moved_to_another_crew_takes_a_new_copy_and_keeps_its_outbox(field: Field) -> None:
    phone, place = field.phone(), field.place()
    job = field.job("meter_change", phone.crew_id, place)
    phone.pull()
    act = phone.op("meter.exchange", job, exchange(place, "NEW-1"))
    crew = field.crew()
    given = enrolled_again(phone, crew)
    assert (given["device_id"], given["crew_id"]) == (phone.id, crew)
    answer = done(phone.client.get(f"/sync/v1/pull?cp={phone.cp}"))
    assert answer["reset"] is True and answer["changes"] == []
    phone.cp, phone.copy = None, {}
    assert phone.send(act) == ["applied"]
    assert phone.holds("job") == set() and field.get(f"/v1/jobs/{job}")["result"]["exchange"]
    mine = field.job("repair", crew)
    assert phone.do("job.accept", mine, occurred_at=format_time(utc_now())) == "applied"
    assert field.get(f"/v1/devices/{phone.id}")["holds"]["next_seq"] == 3


def test_a_strange_device_has_no_page(field: Field) -> None:
    assert problem(field.office.get(f"/v1/devices/{new_id()}")) == (404, "not-found")
