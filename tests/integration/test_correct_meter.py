"""Putting right which meter hangs at a usage point, so that an exchange that was parked for it can be applied."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask

from fieldsvc.base.clock import format_time, utc_now
from tests.factories import make_staff, make_territories
from tests.field import Field, Place, exchange

RIGHT = {
    "asset_no": "SOMEBODY-ELSES",
    "registers": {"total": "47000.5"},
    "note": "seen on the photo of the last reading",
}


@pytest.fixture
def field(app: Flask, drain: Callable[[], None]) -> Field:
    make_territories(app)
    return Field(app, drain)


def correct(field: Field, place: Place, who: Any = None, **members: Any) -> Any:
    body = {**RIGHT, "read_at": format_time(field.morning - timedelta(days=30)), **members}
    return (who or field.office).post(f"/v1/usage-points/{place.usage_point_id}/correct-meter", json=body)


def test_after_the_record_is_put_right_the_parked_exchange_and_what_built_on_it_are_applied(field: Field) -> None:
    place, phone = field.place(), field.phone()
    job = field.job("meter_change", phone.crew_id, place)
    act, end = phone.op("meter.exchange", job, exchange("SOMEBODY-ELSES", "NEW-1")), phone.op("job.complete", job, {})
    assert phone.send(act, end) == ["parked", "parked"]
    page = correct(field, place).json
    right, wrong = page["installations"]["items"]
    assert (right["asset_no"], right["removed_at"]) == ("SOMEBODY-ELSES", None)
    assert wrong["asset_no"] == place.asset_no and wrong["removed_at"] == wrong["installed_at"] == right["installed_at"]
    phone.pull()
    assert [meter["asset_no"] for meter in phone.docs("meter")] == ["SOMEBODY-ELSES"]
    (review, _) = field.reviews(job=job)
    assert field.resolve(review["id"], "apply").status_code == 200
    phone.pull()
    assert [phone.outcome(act), phone.outcome(end)] == ["resolved", "resolved"]
    assert field.status(job) == "completed"
    energy = field.get(f"/v1/jobs/{job}")["result"]["exchange"]["energy"]
    assert energy["total"]["energy_kwh"] == "1213.1"
    assert [meter["asset_no"] for meter in phone.docs("meter")] == ["NEW-1"]
    (entry,) = field.history(action="meter.corrected")
    assert (entry["before"]["asset_no"], entry["after"]["asset_no"]) == (place.asset_no, "SOMEBODY-ELSES")
    assert entry["note"] == RIGHT["note"]


def test_what_cannot_be_right_is_refused(field: Field) -> None:
    place, other = field.place(), field.place()
    assert correct(field, place, asset_no=place.asset_no).status_code == 409
    elsewhere = correct(field, place, asset_no=other.asset_no)
    assert elsewhere.status_code == 409 and "another usage point" in elsewhere.json["detail"]
    future = correct(field, place, read_at=format_time(utc_now() + timedelta(minutes=1)))
    assert future.status_code == 422 and future.json["errors"][0]["field"] == "/read_at"
    assert correct(field, place, registers={"total": 5}).status_code == 422
    assert correct(field, place, registers={}).status_code == 422
    installations = field.get(f"/v1/usage-points/{place.usage_point_id}")["installations"]["items"]
    assert [one["asset_no"] for one in installations] == [place.asset_no]


def test_only_a_supervisor_of_the_territory_puts_a_record_right(app: Flask, field: Field) -> None:
    ids = make_territories(app)
    place = field.place()
    assert correct(field, place, make_staff(app, "dispatcher")).status_code == 403
    assert correct(field, place, make_staff(app, "auditor")).status_code == 403
    assert correct(field, place, make_staff(app, "supervisor", [ids["B"]])).status_code == 404
    assert correct(field, place, make_staff(app, "supervisor", [ids["A"]])).status_code == 200
