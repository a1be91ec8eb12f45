"""Old apps: told to update, then told no news until they are; what their crews did is taken all the same."""

from __future__ import annotations

import copy
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask

from fieldsvc.base.clock import format_time, utc_now
from tests.field import Field, Phone, done, exchange, problem, repaired

OLD, AGEING, TODAY = "0.9.3", "1.4.0", "3.2.0"


@pytest.fixture
def field(app: Flask, drain: Callable[[], None]) -> Field:
    return Field(app, drain)


def hello(phone: Phone, **members: Any) -> dict[str, Any]:
    body = {"device_time": format_time(utc_now()), **members}
    return done(phone.client.post("/sync/v1/hello", json=body))


def manifest(phone: Phone) -> Any:
    return phone.client.post("/sync/v1/manifest", json={"scopes": {}})


def flat(payload: dict[str, Any]) -> dict[str, Any]:
    """An exchange as an app of schema version 0 writes it."""
    told = copy.deepcopy(payload)
    for meter in (told["old"], told["new"]):
        meter["reading"] = meter.pop("registers")["total"]
    return told | {"position": {"lon": 111.55, "lat": 35.45}}


def test_hello_says_how_long_an_app_will_do(field: Field) -> None:
    phone = field.phone()
    assert hello(phone)["upgrade"] == "ok"
    assert hello(phone, app_version=AGEING)["upgrade"] == "soft_eol"
    assert hello(phone)["upgrade"] == "soft_eol", "it runs what it last said"
    assert hello(phone, app_version=OLD)["upgrade"] == "hard_eol"
    assert hello(phone, app_version="nightly build")["upgrade"] == "ok", "nobody is locked out for an odd number"
    assert hello(phone, app_version=TODAY, schema_version=0)["upgrade"] == "soft_eol"
    assert hello(phone)["upgrade"] == "soft_eol"
    assert hello(phone, schema_version=1)["upgrade"] == "ok"


def test_an_app_a_year_old_is_told_no_news_and_hands_in_its_work(field: Field) -> None:
    phone = field.phone()
    job = field.job("repair", phone.crew_id)
    phone.pull()
    assert hello(phone, app_version=OLD)["upgrade"] == "hard_eol"
    for answer in (
        phone.client.get("/sync/v1/pull"),
        phone.client.get(f"/sync/v1/pull?cp={phone.cp}"),
        phone.client.get("/sync/v1/snapshot"),
        manifest(phone),
    ):
        assert problem(answer) == (426, "upgrade-required")

    long_ago = format_time(utc_now() - timedelta(days=400))
    ops = [
        phone.op("job.arrive", job, {"position": {"lon": 111.55, "lat": 35.45}}),
        phone.op("job.complete", job, repaired()),
    ]
    ops = [op | {"schema_version": 0, "app_version": OLD, "occurred_at": long_ago} for op in ops]
    assert phone.push(*ops) == ["accepted", "accepted"]
    field.drain()
    ids = ",".join(op["op_id"] for op in ops)
    told = done(phone.client.get(f"/sync/v1/ops?ids={ids}"))["results"]
    assert [one["status"] for one in told] == ["applied", "applied"]
    assert field.status(job) == "completed"

    assert hello(phone, app_version=TODAY)["upgrade"] == "ok"
    phone.pull()
    assert [phone.outcome(op) for op in ops] == ["applied", "applied"]
    assert phone.copy["job", job]["status"] == "completed"
    assert manifest(phone).status_code == phone.client.get("/sync/v1/snapshot").status_code == 200


def test_an_ageing_app_is_told_everything(field: Field) -> None:
    phone = field.phone()
    job = field.job("repair", phone.crew_id)
    assert hello(phone, app_version=AGEING)["upgrade"] == "soft_eol"
    phone.pull()
    assert phone.holds("job") == {job}


def test_a_push_tells_what_the_device_runs_too(field: Field) -> None:
    phone = field.phone()
    done(phone.post([], app_version=OLD))
    assert problem(phone.client.get("/sync/v1/pull")) == (426, "upgrade-required")
    done(phone.post([]))
    assert problem(phone.client.get("/sync/v1/pull")) == (426, "upgrade-required")
    done(phone.post([], app_version=TODAY))
    assert phone.client.get("/sync/v1/pull").status_code == 200


def test_an_operation_of_an_old_app_says_nothing_of_the_one_that_sends_it(field: Field) -> None:
    phone = field.phone()
    job = field.job("repair", phone.crew_id)
    assert phone.send(phone.op("note.add", job, {"text": "x"}, app_version=OLD)) == ["applied"]


def test_the_flat_form_of_an_exchange_becomes_the_same_record(field: Field) -> None:
    records = []
    for version in (0, 1):
        phone, place = field.phone(), field.place()
        job = field.job("meter_change", phone.crew_id, place)
        payload = exchange(place, f"NEW-{version}", "48213.6", "1.5", removed=("S-OLD",))
        sent = payload if version else flat(payload)
        act = phone.op("meter.exchange", job, sent, schema_version=version)
        assert phone.send(act) == ["applied"], version
        page = field.get(f"/v1/customers/{place.customer_id}")
        readings = [one for one in page["readings"]["items"] if one["op_id"] == act["op_id"]]
        records.append(sorted((one["reason"], one["register"], one["value"]) for one in readings))
        assert [one["asset_no"] for one in page["installations"]["items"]] == [f"NEW-{version}", place.asset_no]
    assert records[0] == records[1] == [("final", "total", "48213.6"), ("initial", "total", "1.5")]


def test_an_operation_of_the_flat_form_that_is_parked_can_be_applied_by_a_person(field: Field) -> None:
    phone, place = field.phone(), field.place()
    job = field.job("meter_change", phone.crew_id, place)
    field.cancel(job)
    payload = exchange(place, "NEW-9")
    act = phone.op("meter.exchange", job, flat(payload), schema_version=0)
    assert phone.send(act) == ["parked"]
    (review,) = field.reviews(job=job)
    assert review["proposed"]["payload"]["new"]["registers"] == payload["new"]["registers"]
    done(field.resolve(review["id"], "apply"))
    page = field.get(f"/v1/usage-points/{place.usage_point_id}")
    assert [one["asset_no"] for one in page["installations"]["items"]] == ["NEW-9", place.asset_no]


def test_what_an_old_app_sent_is_kept_as_it_came(field: Field) -> None:
    phone = field.phone()
    job = field.job("repair", phone.crew_id)
    op = phone.op("job.arrive", job, {"position": {"lon": 111.55, "lat": 35.45}}, schema_version=0)
    assert phone.send(op) == ["applied"]
    assert phone.push(op) == ["duplicate"], "the digest is of what was sent"
    assert phone.push(op | {"schema_version": 1}) == ["id_reuse"]


@pytest.mark.parametrize(
    ("version", "position"), [(0, {"lon": 181, "lat": 35}), (1, {"type": "Point", "coordinates": [181, 35]})]
)
def test_the_same_fault_is_found_in_either_form(field: Field, version: int, position: dict[str, Any]) -> None:
    phone = field.phone()
    op = phone.op("job.arrive", field.job("repair", phone.crew_id), {"position": position}, schema_version=version)
    assert phone.send(op) == ["rejected"]
    assert [error["field"] for error in phone.told[op["op_id"]]["errors"]] == ["/payload/position/coordinates/0"]


def test_an_unknown_version_is_told_which_ones_are_known(field: Field) -> None:
    phone = field.phone()
    job = field.job(crew=phone.crew_id)
    (result,) = done(phone.post([phone.op("job.accept", job, schema_version=2)]))["results"]
    assert (result["status"], result["reason"]) == ("rejected", "stale_schema")
    assert result["errors"][0]["reason"] == "schema_version 2 is not known; this service reads 0, 1"
