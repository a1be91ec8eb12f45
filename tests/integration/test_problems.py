"""Whatever comes in: never 500, always a problem document naming field and reason, never an echo of the driver."""

from __future__ import annotations

import json

import pytest
import structlog
from flask import Flask, abort
from flask.testing import FlaskClient
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from fieldsvc.api import ROOMS
from fieldsvc.base.db import db, reading, transaction
from fieldsvc.base.errors import CODES
from tests.factories import PASSWORD, make_staff

LOGIN = {"username": "li", "password": PASSWORD}


def is_problem(answer, status: int, code: str) -> None:
    assert answer.status_code == status, answer.get_data(as_text=True)
    assert answer.mimetype == "application/problem+json"
    assert answer.json["type"] == f"/problems/{code}"
    assert answer.json["status"] == status and answer.json["title"] == CODES[code][1] and answer.json["detail"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["X-Request-ID"]


@pytest.mark.parametrize(
    ("body", "kind", "status", "code"),
    [
        (b"", "application/json", 400, "bad-request"),
        (b"{", "application/json", 400, "bad-request"),
        (b'{"username": "\xff"}', "application/json", 400, "bad-request"),
        (b'{"username": "\\ud800"}', "application/json", 400, "bad-request"),
        (b'{"ttl_days": NaN}', "application/json", 400, "bad-request"),
        (b"[" * 50_000 + b"]" * 50_000, "application/json", 400, "bad-request"),
        (b'{"username":' * 10 + b"1" + b"}" * 10, "application/json", 422, "invalid"),
        (b"[]", "application/json", 422, "invalid"),
        (b"null", "application/json", 422, "invalid"),
        (b'"a"', "application/json", 422, "invalid"),
        (b"{}", "application/json", 422, "invalid"),
        (b"username=li", "application/x-www-form-urlencoded", 415, "unsupported-media-type"),
        (b"{}", "text/plain", 415, "unsupported-media-type"),
        (b"{}", "", 415, "unsupported-media-type"),
        (json.dumps(LOGIN | {"ttl_days": 10**30}).encode(), "application/json", 422, "invalid"),
        (json.dumps(LOGIN | {"ttl_days": 2**63}).encode(), "application/json", 422, "invalid"),
        (json.dumps(LOGIN | {"ttl_days": True}).encode(), "application/json", 422, "invalid"),
        (json.dumps(LOGIN | {"ttl_days": "3"}).encode(), "application/json", 422, "invalid"),
        (json.dumps(LOGIN | {"ttl_days": 1.5}).encode(), "application/json", 422, "invalid"),
        (json.dumps(LOGIN | {"username": "l\x00i"}).encode(), "application/json", 422, "invalid"),
        (json.dumps(LOGIN | {"username": ["li"]}).encode(), "application/json", 422, "invalid"),
        (json.dumps(LOGIN | {"username": "x" * 81}).encode(), "application/json", 422, "invalid"),
        (json.dumps(LOGIN | {"more": 1}).encode(), "application/json", 422, "invalid"),
    ],
)
def test_a_body_that_cannot_be_used(client: FlaskClient, body: bytes, kind: str, status: int, code: str) -> None:
    answer = client.post("/v1/tokens", data=body, content_type=kind)
    is_problem(answer, status, code)
    if status == 422:
        assert all(error["field"].startswith("/") and error["reason"] for error in answer.json["errors"])


def test_every_fault_of_a_body_is_named_by_its_pointer(app: Flask) -> None:
    body = {"code": "", "name": "N", "members": ["ok", 3], "a/b~c": 1}
    answer = make_staff(app).post("/v1/crews", json=body)
    is_problem(answer, 422, "invalid")
    assert {error["field"] for error in answer.json["errors"]} == {"/code", "/members/1", "/a~1b~0c"}


def test_a_body_over_the_limit_is_413(client: FlaskClient, app: Flask) -> None:
    app.config["MAX_CONTENT_LENGTH"] = 1000
    is_problem(client.post("/v1/tokens", json=LOGIN | {"name": "x" * 2000}), 413, "too-large")


@pytest.mark.parametrize(
    "address",
    [
        "/nope",
        "/v1/",
        "/v1/crews/",
        "/v1//crews",
        "/v1/crews/%00",
        "/v1/crews/a%2Fb",
        "/v1/crews/%ff",
        "/v1/crews/" + "x" * 5000,
        "/v1/crews/no-such",
        "/v1/crews/a b",
        "/v1/users/..",
        "/v1/crews/%F0%9F%98%80",
    ],
)
def test_an_address_that_leads_nowhere_is_404(app: Flask, address: str) -> None:
    is_problem(make_staff(app).get(address), 404, "not-found")


@pytest.mark.parametrize("method", ["DELETE", "PUT", "OPTIONS", "TRACE", "PATCH"])
def test_a_method_that_is_not_there_is_405_with_allow(app: Flask, method: str) -> None:
    answer = make_staff(app).open("/v1/crews", method=method)
    is_problem(answer, 405, "method-not-allowed")
    assert answer.headers["Allow"] == "GET, HEAD, POST"


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=201",
        "limit=-1",
        "limit=1e2",
        "limit=" + "9" * 400,
        "limit=１",
        "limit=",
        "page=1",
        "limit=1&limit=2",
        "cursor=%00",
        "cursor=",
        "%ff=1",
        "limit=%ff",
        "=1",
        "limit=0x10",
        "limit=1_0",
    ],
)
def test_a_query_that_cannot_be_used_is_422(app: Flask, query: str) -> None:
    answer = make_staff(app).get(f"/v1/crews?{query}")
    is_problem(answer, 422, "invalid")


def test_views_without_query_parameters_refuse_any(app: Flask) -> None:
    answer = make_staff(app).get("/v1/me?verbose=1")
    is_problem(answer, 422, "invalid")
    assert answer.json["errors"] == [{"field": "verbose", "reason": "is not known here"}]


def test_a_mistake_of_ours_tells_nothing_of_its_inside(app: Flask) -> None:
    def broken() -> None:
        db.session.execute(text("SELECT secret FROM nowhere WHERE password = 'hunter2'"))

    app.add_url_rule("/broken", view_func=broken)
    app.add_url_rule("/teapot", view_func=lambda: abort(418))
    answer = app.test_client().get("/broken")
    assert answer.status_code in (500, 503)
    assert answer.mimetype == "application/problem+json"
    for word in ("hunter2", "nowhere", "SELECT", "sqlite", "psycopg", "Traceback"):
        assert word not in answer.get_data(as_text=True)
    teapot = app.test_client().get("/teapot")
    assert teapot.mimetype == "application/problem+json"


def test_a_request_id_is_taken_over_or_made(client: FlaskClient) -> None:
    assert client.get("/healthz", headers={"X-Request-ID": "abc-12345"}).headers["X-Request-ID"] == "abc-12345"
    for bad in ("short", "x" * 65, "a b c d e f g", "<script>alert</script>"):
        assert client.get("/healthz", headers={"X-Request-ID": bad}).headers["X-Request-ID"] != bad


def test_no_password_and_no_token_gets_into_the_log(app: Flask, client: FlaskClient) -> None:
    structlog.reset_defaults()  # a command that ran before in this process may have set a level
    with structlog.testing.capture_logs([structlog.contextvars.merge_contextvars]) as lines:
        make_staff(app, username="li")
        token = client.post("/v1/tokens", json=LOGIN).json["token"]
        client.post("/v1/tokens", json=LOGIN | {"password": "something else"})
        client.post("/v1/tokens?password=" + PASSWORD, json=LOGIN)
        client.get("/v1/me", headers={"Authorization": f"Bearer {token}"})
        client.get(f"/v1/users/{token}", headers={"Authorization": f"Bearer {token}"})
    assert [line["status"] for line in lines if line["event"] == "request"] == [201, 401, 422, 200, 404]
    written = str(lines)
    for secret in (PASSWORD, token, "something else"):
        assert secret not in written
    assert all(line["request_id"] for line in lines if line["event"] == "request")


def test_what_was_answered_to_somebody_is_not_to_be_stored(app: Flask, client: FlaskClient) -> None:
    assert make_staff(app).get("/v1/me").headers["Cache-Control"] == "no-store"
    assert client.get("/v1/me").headers["Cache-Control"] == "no-store"
    assert "Cache-Control" not in client.get("/healthz").headers


def test_the_type_of_a_problem_can_be_looked_up(client: FlaskClient) -> None:
    kind = client.get("/nope").json["type"]
    assert client.get(kind).json == {"code": "not-found", "status": 404, "title": CODES["not-found"][1]}
    is_problem(client.get("/problems/no-such-code"), 404, "not-found")


def test_health_says_what_works(app: Flask, client: FlaskClient) -> None:
    answer = client.get("/healthz")
    assert (answer.status_code, answer.json["database"], answer.json["redis"]) == (200, "ok", "ok")


def test_the_description_lists_every_room_and_is_the_same_twice(app: Flask, client: FlaskClient) -> None:
    from fieldsvc.api import openapi_yaml

    document = client.get("/openapi.json").json
    assert document["openapi"] == "3.1.0"
    assert {tag["name"] for tag in document["tags"]} == set(ROOMS)
    assert openapi_yaml(app) == openapi_yaml(app)
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if method == "parameters":
                continue
            assert operation["summary"] and operation["operationId"], path
            assert operation["x-access"], path
            for status, answer in operation["responses"].items():
                if int(status) >= 400:
                    assert list(answer["content"]) == ["application/problem+json"], (path, method, status)


def test_a_write_that_loses_a_race_for_a_unique_value_is_a_conflict(app: Flask) -> None:
    def race() -> None:
        with transaction() as session:
            insert = "INSERT INTO sync_counter (scope, n) VALUES ('x', 1)"
            session.execute(text(insert))
            session.execute(text(insert))

    app.add_url_rule("/race", view_func=race)
    is_problem(app.test_client().get("/race"), 409, "conflict")


def test_a_failed_statement_does_not_carry_its_values_into_the_log(app: Flask) -> None:
    with app.app_context(), reading() as session, pytest.raises(DBAPIError) as caught:
        session.execute(text("SELECT :phone FROM nowhere"), {"phone": "0359-2222"})
    assert "nowhere" in str(caught.value) and "0359" not in str(caught.value)
