"""``Idempotency-Key``: what is sent again is done once and answered alike."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from flask import Flask
from sqlalchemy import func, select

from fieldsvc.api import idempotency
from fieldsvc.base.clock import utc_now
from fieldsvc.base.db import db, reading, transaction
from fieldsvc.history.models import HistoryEntry
from fieldsvc.people.models import Crew
from tests.factories import make_staff, with_token

BODY = {"code": "C-1", "name": "North"}


def crews(app: Flask) -> int:
    with app.app_context(), reading():
        return db.session.scalar(select(func.count()).select_from(Crew)) or 0


def test_the_same_request_again_gets_the_first_answer(app: Flask) -> None:
    caller = make_staff(app)
    first = caller.post("/v1/crews", json=BODY, headers={"Idempotency-Key": "k1"})
    again = caller.post("/v1/crews", json=BODY, headers={"Idempotency-Key": "k1"})
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.get_data() == again.get_data()
    for name in ("Location", "ETag", "Content-Type"):
        assert first.headers[name] == again.headers[name]
    assert again.headers["Idempotent-Replay"] == "true" and "Idempotent-Replay" not in first.headers
    assert crews(app) == 1
    with app.app_context(), reading():
        created = select(func.count()).where(HistoryEntry.action == "crew.created")
        assert db.session.scalar(created) == 1


def test_the_same_key_with_another_body_is_refused(app: Flask) -> None:
    caller = make_staff(app)
    caller.post("/v1/crews", json=BODY, headers={"Idempotency-Key": "k1"})
    for refused in (
        caller.post("/v1/crews", json=BODY | {"name": "South"}, headers={"Idempotency-Key": "k1"}),
        caller.post("/v1/users", json=BODY, headers={"Idempotency-Key": "k1"}),
    ):
        assert (refused.status_code, refused.json["type"]) == (409, "/problems/idempotency-key-reused")
    assert crews(app) == 1


def test_a_key_belongs_to_its_caller(app: Flask) -> None:
    one, other = make_staff(app), make_staff(app)
    assert one.post("/v1/crews", json=BODY, headers={"Idempotency-Key": "k1"}).status_code == 201
    refused = other.post("/v1/crews", json=BODY, headers={"Idempotency-Key": "k1"})
    assert refused.json["type"] == "/problems/already-exists"


def test_a_refusal_is_not_kept(app: Flask) -> None:
    caller = make_staff(app)
    wrong = caller.post("/v1/crews", json=BODY | {"territory_codes": ["A"]}, headers={"Idempotency-Key": "k1"})
    assert wrong.status_code == 409
    assert caller.post("/v1/crews", json=BODY, headers={"Idempotency-Key": "k1"}).status_code == 201


def test_sent_many_times_at_once_it_is_done_once(app: Flask) -> None:
    token = make_staff(app).environ_base["HTTP_AUTHORIZATION"].split()[1]

    def send(_: int):
        return with_token(app, token).post("/v1/crews", json=BODY, headers={"Idempotency-Key": "k1"})

    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(send, range(6)))
    assert [answer.status_code for answer in answers] == [201] * 6
    assert len({answer.get_data() for answer in answers}) == 1
    assert sum("Idempotent-Replay" not in answer.headers for answer in answers) == 1
    assert crews(app) == 1


@pytest.mark.parametrize("key", ["", "x" * 121, "a b", "ключ".encode().decode("latin-1"), "tab\tbed"])
def test_a_key_of_the_wrong_form_is_refused(app: Flask, key: str) -> None:
    refused = make_staff(app).post("/v1/crews", json=BODY, headers={"Idempotency-Key": key})
    assert refused.status_code == 422
    assert refused.json["errors"][0]["field"] == "Idempotency-Key"


def test_a_key_is_remembered_for_a_week_and_then_forgotten(app: Flask) -> None:
    caller = make_staff(app)
    caller.post("/v1/crews", json=BODY, headers={"Idempotency-Key": "k1"})

    def again(days: float) -> int:
        with app.app_context(), transaction():
            idempotency.forget(utc_now() + timedelta(days=days))
        return caller.post("/v1/crews", json=BODY, headers={"Idempotency-Key": "k1"}).status_code

    assert again(days=6.99) == 201
    assert again(days=7.01) == 409  # now it is a second crew of that code
