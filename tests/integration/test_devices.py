"""Enrolment codes and devices."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select, update

from fieldsvc.app import create_app
from fieldsvc.base.clock import new_id, utc_now
from fieldsvc.base.db import db, reading, transaction
from fieldsvc.config import Settings
from fieldsvc.history.models import HistoryEntry
from fieldsvc.people.models import Device, EnrolmentCode
from tests.factories import make_crew, make_device, make_staff, make_territories


def enrol(client: FlaskClient, code: str, install_id: str | None = None, headers: dict[str, str] | None = None):
    body = {"code": code, "install_id": install_id or new_id(), "platform": "android 15", "app_version": "3.2.0"}
    return client.post("/sync/v1/enrol", json=body, headers=headers)


def new_code(caller: FlaskClient, crew_id: str) -> dict:
    answer = caller.post(f"/v1/crews/{crew_id}/enrolment-codes")
    assert answer.status_code == 201
    return answer.json


def test_a_code_turns_into_a_device_once(app: Flask, client: FlaskClient) -> None:
    caller, crew_id = make_staff(app, "supervisor"), make_crew(app)
    shown = new_code(caller, crew_id)
    assert len(shown["code"]) == 9 and shown["code"][4] == "-"
    assert shown["qr_svg"].startswith("<svg")
    parts = parse_qs(urlsplit(shown["uri"]).query)
    assert parts == {"server": ["http://localhost"], "code": [shown["code"]]}

    answer = enrol(client, shown["code"].lower().replace("-", " "))
    assert answer.status_code in (200, 201)
    assert answer.json["crew_id"] == crew_id
    again = enrol(client, shown["code"])
    assert (again.status_code, again.json["type"]) == (409, "/problems/code-used")
    pull = client.get("/sync/v1/pull", headers={"Authorization": f"Bearer {answer.json['token']}"})
    assert pull.status_code == 200
    with app.app_context(), reading():
        entries = db.session.scalars(select(HistoryEntry)).all()
        assert {"enrolment_code.created", "device.enrolled"} <= {entry.action for entry in entries}
        written = json.dumps([[entry.before, entry.after, entry.note] for entry in entries])
        assert answer.json["token"] not in written and shown["code"] not in written
        enrolled = next(entry for entry in entries if entry.action == "device.enrolled")
        assert (enrolled.device_id, enrolled.crew_id) == (answer.json["device_id"], crew_id)


def test_of_many_who_use_one_code_at_the_same_moment_one_gets_it(app: Flask) -> None:
    code = new_code(make_staff(app), make_crew(app))["code"]
    with ThreadPoolExecutor(6) as pool:
        statuses = list(pool.map(lambda _: enrol(app.test_client(), code).status_code, range(6)))
    assert sorted(status // 100 for status in statuses) == [2, 4, 4, 4, 4, 4]
    with app.app_context(), reading():
        assert len(db.session.scalars(select(Device)).all()) == 1


def test_an_expired_code_and_an_unknown_one_are_refused(app: Flask, client: FlaskClient) -> None:
    code = new_code(make_staff(app), make_crew(app))["code"]
    with app.app_context(), transaction():
        db.session.execute(update(EnrolmentCode).values(expires_at=utc_now() - timedelta(seconds=1)))
    expired = enrol(client, code)
    assert (expired.status_code, expired.json["type"]) == (410, "/problems/code-expired")
    assert enrol(client, "K7TQ-29XM").status_code == 404


def test_guessing_codes_is_limited(app: Flask, client: FlaskClient) -> None:
    statuses = [enrol(client, f"K7TQ-29X{letter}").status_code for letter in "ABCDEFGHJKMN"]
    assert statuses == [404] * 10 + [429] * 2


@pytest.fixture
def behind_a_proxy(settings: Settings) -> Iterator[FlaskClient]:
    app = create_app(replace(settings, trusted_proxies=1))
    yield app.test_client()
    with app.app_context():
        db.session.remove()
        db.engine.dispose()


def test_behind_a_trusted_proxy_each_client_has_attempts_of_its_own(behind_a_proxy: FlaskClient) -> None:
    def guess(forwarded_for: str) -> int:
        return enrol(behind_a_proxy, "K7TQ-29XM", headers={"X-Forwarded-For": forwarded_for}).status_code

    assert [guess("198.51.100.7") for _ in range(11)] == [404] * 10 + [429]
    assert guess("198.51.100.8") == 404
    assert guess("203.0.113.9, 198.51.100.7") == 429  # what the client itself claims is not believed


def test_a_revoked_device_is_told_to_wipe_on_its_next_call(app: Flask) -> None:
    caller = make_staff(app, "supervisor")
    handheld = make_device(app, make_crew(app))
    assert handheld.client.get("/sync/v1/pull").status_code == 200
    revoked = caller.post(f"/v1/devices/{handheld.id}/revoke", json={"reason": "lost in the river"})
    assert revoked.status_code == 200 and revoked.json["revoked_at"]
    refused = handheld.client.get("/sync/v1/pull")
    assert (refused.status_code, refused.json["wipe"]) == (403, True)
    assert refused.json["type"] == "/problems/device-revoked"
    again = caller.post(f"/v1/devices/{handheld.id}/revoke")
    assert again.json["revoked_at"] == revoked.json["revoked_at"]


def test_the_same_install_enrolled_again_moves_and_its_old_token_is_dead(app: Flask, client: FlaskClient) -> None:
    caller = make_staff(app)
    handheld = make_device(app, make_crew(app, "ONE"))
    other = make_crew(app, "TWO")
    answer = enrol(client, new_code(caller, other)["code"], handheld.install_id)
    assert (answer.json["device_id"], answer.json["crew_id"]) == (handheld.id, other)
    assert handheld.client.get("/sync/v1/pull").status_code == 401
    fresh = client.get("/sync/v1/pull", headers={"Authorization": f"Bearer {answer.json['token']}"})
    assert fresh.status_code == 200
    (listed,) = caller.get(f"/v1/devices?crew={other}").json["items"]
    assert listed["id"] == handheld.id


def test_an_install_in_use_is_not_taken_over_with_a_code_alone(app: Flask, client: FlaskClient) -> None:
    caller = make_staff(app)
    handheld, other = make_device(app, make_crew(app, "ONE")), make_crew(app, "TWO")
    now = {"device_time": "2026-11-21T08:00:00Z"}
    assert handheld.client.post("/sync/v1/hello", json=now).status_code == 200
    code = new_code(caller, other)["code"]
    strange = {"Authorization": "Bearer fd_" + "x" * 43}
    for headers in ({}, strange, {"Authorization": "Basic eA=="}):
        refused = enrol(client, code, handheld.install_id, headers=headers)
        assert (refused.status_code, refused.json["type"]) == (409, "/problems/install-in-use"), headers
    assert handheld.client.get("/sync/v1/pull").status_code == 200, "nothing has changed"
    moved = enrol(handheld.client, code, handheld.install_id)
    assert (moved.status_code, moved.json["device_id"], moved.json["crew_id"]) == (201, handheld.id, other)
    assert handheld.client.get("/sync/v1/pull").status_code == 401
    # the answer to that was lost: with its new token nobody has called yet
    again = enrol(client, new_code(caller, other)["code"], handheld.install_id)
    assert again.status_code == 201
    token = {"Authorization": f"Bearer {again.json['token']}"}
    assert client.post("/sync/v1/hello", json=now, headers=token).status_code == 200
    code = new_code(caller, other)["code"]
    assert enrol(client, code, handheld.install_id).status_code == 409
    assert caller.post(f"/v1/devices/{handheld.id}/revoke").status_code == 200
    back = enrol(client, code, handheld.install_id)
    assert (back.status_code, back.json["device_id"]) == (201, handheld.id), "revoked, it comes back with a code"


def test_devices_of_other_territories_are_not_found(app: Flask) -> None:
    ids = make_territories(app)
    mine = make_device(app, make_crew(app, territory_ids=[ids["A"]]))
    theirs = make_device(app, make_crew(app, territory_ids=[ids["B"]]))
    caller = make_staff(app, "supervisor", [ids["A"]])
    assert [device["id"] for device in caller.get("/v1/devices").json["items"]] == [mine.id]
    assert caller.get(f"/v1/devices/{mine.id}").status_code == 200
    for answer in (
        caller.get(f"/v1/devices/{theirs.id}"),
        caller.post(f"/v1/devices/{theirs.id}/revoke"),
        caller.post(f"/v1/crews/{theirs.crew_id}/enrolment-codes"),
    ):
        assert answer.status_code == 404
    assert theirs.client.get("/sync/v1/pull").status_code == 200


def test_dispatchers_and_auditors_look_at_devices_but_change_none(app: Flask) -> None:
    handheld = make_device(app, make_crew(app))
    for role in ("dispatcher", "auditor"):
        caller = make_staff(app, role)
        assert caller.get("/v1/devices").status_code == 200
        assert caller.post(f"/v1/devices/{handheld.id}/revoke").status_code == 403
        assert caller.post(f"/v1/crews/{handheld.crew_id}/enrolment-codes").status_code == 403


def test_a_crew_that_is_not_active_gets_no_devices(app: Flask, client: FlaskClient) -> None:
    caller, crew_id = make_staff(app), make_crew(app)
    code = new_code(caller, crew_id)["code"]
    assert caller.patch(f"/v1/crews/{crew_id}", json={"active": False}).status_code == 200
    assert caller.post(f"/v1/crews/{crew_id}/enrolment-codes").status_code == 409
    assert enrol(client, code).json["type"] == "/problems/state-not-allowed"
