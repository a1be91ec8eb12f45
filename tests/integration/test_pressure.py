"""A device that calls too often is told to wait; when too much waits to be decided, all are, and nothing is lost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from fieldsvc.base.clock import format_time, utc_now
from fieldsvc.config import Settings
from fieldsvc.sync.depth import MOST_S
from tests import factories
from tests.field import Field, Phone, done, problem
from tests.processes import wait_for


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return replace(settings, device_rate="12 per hour", work_rate="200 per hour", inbox_deep=3, inbox_full=6)


@pytest.fixture
def field(app: Flask, drain: Callable[[], None]) -> Field:
    return Field(app, drain)


def hello(phone: Phone) -> Any:
    return phone.client.post("/sync/v1/hello", json={"device_time": format_time(utc_now())})


def many(phone: Phone, job: str, count: int) -> None:
    """Push so many operations, which nobody decides yet."""
    assert phone.push(*(phone.op("note.add", job, {"text": str(n)}) for n in range(count))) == ["accepted"] * count


def told(phone: Phone) -> tuple[int, str | None]:
    """``backoff_s`` and the header of an empty push."""
    answer = phone.post([])
    return done(answer)["backoff_s"], answer.headers.get("Backoff")


def test_who_asks_too_often_waits_and_still_hands_in_work(field: Field) -> None:
    phone, other = field.phone(), field.phone()
    job = field.job(crew=phone.crew_id)
    for _ in range(12):
        assert phone.client.get("/sync/v1/ops?ids=x").status_code == 200
    for ask in (
        lambda: phone.client.get("/sync/v1/ops?ids=x"),
        lambda: phone.client.get("/sync/v1/pull"),
        lambda: phone.client.get("/sync/v1/snapshot"),
        lambda: hello(phone),
    ):
        answer = ask()
        assert problem(answer) == (429, "too-many-requests")
        assert 3500 < int(answer.headers["Retry-After"]) <= 3600
    assert phone.push(phone.op("note.add", job, {"text": "x"})) == ["accepted"]
    assert hello(other).status_code == 200, "everybody has his own"


def test_work_has_its_own_larger_allowance(app: Flask, field: Field) -> None:
    phone = field.phone()
    for _ in range(200):
        assert phone.client.post("/sync/v1/push", data="").status_code == 415
    answer = phone.post([])
    assert problem(answer) == (429, "too-many-requests") and int(answer.headers["Retry-After"]) > 3500
    assert hello(phone).status_code == 200


def test_a_stranger_is_counted_against_nobody(app: Flask, client: FlaskClient, field: Field) -> None:
    phone = field.phone()
    stranger = factories.with_token(app, "fd_" + "x" * 43)
    for _ in range(30):
        assert stranger.get("/sync/v1/pull").status_code == client.get("/sync/v1/pull").status_code == 401
    assert hello(phone).status_code == 200


def test_a_deep_inbox_asks_devices_to_wait_until_it_is_not(field: Field) -> None:
    phone = field.phone()
    job = field.job(crew=phone.crew_id)
    many(phone, job, 3)
    assert told(phone) == (0, None)
    many(phone, job, 2)
    wait_for(lambda: told(phone)[0] > 0)
    seconds, header = told(phone)
    assert MOST_S // 3 < seconds <= MOST_S * 2 // 3 + 1 and header is not None and header.isdigit()
    answer = hello(phone)
    assert 0 < done(answer)["backoff_s"] == int(answer.headers["Backoff"])
    field.drain()
    wait_for(lambda: told(phone) == (0, None))


def test_a_full_inbox_takes_nothing_in_and_loses_nothing(field: Field) -> None:
    phone = field.phone()
    job = field.job(crew=phone.crew_id)
    many(phone, job, 6)
    late = phone.op("note.add", job, {"text": "late"})
    wait_for(lambda: phone.post([]).status_code == 503)
    answer = phone.post([late])
    assert problem(answer) == (503, "unavailable") and int(answer.headers["Retry-After"]) >= 30
    assert phone.client.get("/sync/v1/pull").status_code == 200, "who only asks is answered"
    assert done(phone.client.get(f"/sync/v1/ops?ids={late['op_id']}"))["results"][0]["status"] == "not_found"
    field.drain()
    wait_for(lambda: phone.post([]).status_code == 200)
    assert phone.push(late) == ["accepted"]
    field.drain()
    page = done(field.office.get(f"/v1/operations?entity_id={job}"))
    assert [one["status"] for one in page["items"]] == ["applied"] * 7
