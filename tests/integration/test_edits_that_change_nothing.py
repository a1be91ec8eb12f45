"""An edit that says what is on record already changes nothing; that it was made is in the history all the same."""

from __future__ import annotations

import pytest
from flask import Flask

from tests.field import Field


@pytest.fixture
def field(app: Flask) -> Field:
    return Field(app)


def test_an_edit_of_a_job_that_says_what_is_on_record(field: Field) -> None:
    phone = field.phone()
    job = field.job("repair", phone.crew_id, priority=5)
    phone.pull()
    op = phone.edit(job, {"priority": 5}, {"priority": 5})
    assert phone.send(op) == ["applied"]
    assert [entry["action"] for entry in field.history(operation=op["op_id"])] == ["operation.applied"]
    assert field.history(operation=op["op_id"])[0]["job_id"] == job


def test_an_edit_that_somebody_else_has_made_before(field: Field) -> None:
    phone = field.phone()
    job, other = field.job("repair", phone.crew_id, priority=5), field.phone(phone.crew_id)
    phone.pull()
    other.pull()
    first, second = (one.edit(job, {"title": "Repair"}, {"title": "Lamp 7"}) for one in (phone, other))
    phone.send(first)
    assert other.send(second) == ["merged"]
    assert [entry["action"] for entry in field.history(operation=second["op_id"])] == ["operation.merged"]


def test_an_edit_of_a_customer_that_says_what_is_on_record(field: Field) -> None:
    place, phone = field.place(phone="0359-1000"), field.phone()
    field.job("repair", phone.crew_id, place)
    phone.pull()
    op = phone.edit(place.customer_id, {"phone": "0359-1000"}, {"phone": "0359-1000"}, entity="customer")
    assert phone.send(op) == ["applied"]
    entries = field.history(operation=op["op_id"])
    assert [entry["action"] for entry in entries] == ["operation.applied"]
    assert entries[0]["customer_id"] == place.customer_id
