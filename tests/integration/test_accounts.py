"""Accounts, tokens and scope, through the API."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest
from argon2 import PasswordHasher
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import func, select, update

from fieldsvc.app import create_app
from fieldsvc.base.clock import utc_now
from fieldsvc.base.db import db, reading, transaction
from fieldsvc.config import Settings
from fieldsvc.history.models import HistoryEntry
from fieldsvc.people.models import ApiToken, Staff
from tests import factories
from tests.factories import PASSWORD, make_staff, with_token


def log_in(client: FlaskClient, username: str, password: str = PASSWORD, **more: object):
    return client.post("/v1/tokens", json={"username": username, "password": password, **more})


def test_a_password_buys_a_token_that_is_shown_once_and_stored_hashed(app: Flask, client: FlaskClient) -> None:
    make_staff(app, "dispatcher", username="wang")
    answer = log_in(client, "wang", name="laptop", ttl_days=3)
    assert answer.status_code == 201
    assert answer.headers["Cache-Control"] == "no-store"
    token = answer.json["token"]
    assert token.startswith("fs_") and answer.json["role"] == "dispatcher"
    me = with_token(app, token).get("/v1/me")
    assert (me.status_code, me.json["username"]) == (200, "wang")
    own = with_token(app, token).get("/v1/tokens").json["items"]
    assert {row["name"] for row in own} == {"laptop", "tests"}
    assert all("token" not in row for row in own)
    with app.app_context(), reading():
        assert token not in str(db.session.scalars(select(ApiToken.token_hash)).all())
        entries = db.session.scalars(select(HistoryEntry)).all()
        assert {"staff.created", "token.created"} <= {entry.action for entry in entries}
        written = str([(entry.before, entry.after, entry.note) for entry in entries])
        assert token not in written and PASSWORD not in written and "argon2" not in written


def test_a_wrong_password_an_unknown_user_and_a_disabled_account_look_the_same(app: Flask, client: FlaskClient) -> None:
    admin = make_staff(app)
    make_staff(app, "auditor", username="li")
    make_staff(app, "auditor", username="gone")
    gone = next(u for u in admin.get("/v1/users").json["items"] if u["username"] == "gone")
    assert admin.patch(f"/v1/users/{gone['id']}", json={"active": False}).status_code == 200
    answers = [log_in(client, "li", "not this one"), log_in(client, "nobody"), log_in(client, "gone")]
    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.get_data() for answer in answers}) == 1
    assert answers[0].headers["WWW-Authenticate"].startswith("Bearer")


def test_guessing_is_limited_per_name_and_only_failures_count(settings: Settings) -> None:
    app = create_app(replace(settings, login_limit="3 per minute"))
    make_staff(app, "auditor", username="li")
    make_staff(app, "auditor", username="zhao")
    client = app.test_client()
    for _ in range(5):
        assert log_in(client, "zhao").status_code == 201
    assert [log_in(client, "li", "wrong").status_code for _ in range(4)] == [401, 401, 401, 429]
    refused = log_in(client, "li")
    assert refused.status_code == 429 and int(refused.headers["Retry-After"]) >= 1
    assert refused.json["type"] == "/problems/too-many-requests"
    assert log_in(client, "zhao").status_code == 201
    dispose(app)


def test_guessing_is_limited_while_redis_is_away(settings: Settings) -> None:
    app = create_app(replace(settings, login_limit="2 per minute", redis_url="redis://127.0.0.1:1/0"))
    client = app.test_client()
    assert [log_in(client, "li", "wrong").status_code for _ in range(3)] == [401, 401, 429]
    dispose(app)


def dispose(app: Flask) -> None:
    with app.app_context():
        db.session.remove()
        db.engine.dispose()


def test_a_hash_of_weaker_parameters_is_renewed_at_the_next_login(app: Flask, client: FlaskClient) -> None:
    make_staff(app, "auditor", username="li")
    weak = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)
    with app.app_context(), transaction():
        db.session.execute(update(Staff).where(Staff.username == "li").values(password_hash=weak))
    assert log_in(client, "li").status_code == 201
    with app.app_context(), reading():
        stored = db.session.scalar(select(Staff.password_hash).where(Staff.username == "li"))
        assert stored != weak
    assert log_in(client, "li").status_code == 201


def test_a_revoked_token_is_refused_on_the_next_call(app: Flask) -> None:
    caller = make_staff(app, "dispatcher")
    (token,) = caller.get("/v1/tokens").json["items"]
    assert caller.delete(f"/v1/tokens/{token['id']}").status_code == 204
    refused = caller.get("/v1/me")
    assert refused.status_code == 401
    assert 'error="invalid_token"' in refused.headers["WWW-Authenticate"]


def test_an_expired_token_is_refused(app: Flask) -> None:
    caller = make_staff(app, "dispatcher")
    with app.app_context(), transaction():
        db.session.execute(update(ApiToken).values(expires_at=utc_now() - timedelta(seconds=1)))
    assert caller.get("/v1/me").status_code == 401


def test_somebody_elses_token_is_not_found(app: Flask) -> None:
    one, other = make_staff(app, "dispatcher"), make_staff(app, "dispatcher")
    (token,) = one.get("/v1/tokens").json["items"]
    assert other.delete(f"/v1/tokens/{token['id']}").status_code == 404
    assert one.get("/v1/me").status_code == 200


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer ", "Basic abc", "Bearer nonsense", "Bearer " + "x" * 5000, "bearer \t", "Bearer ÿþ"],
)
def test_anything_but_a_token_is_401_with_a_challenge(client: FlaskClient, header: str) -> None:
    answer = client.get("/v1/me", headers={"Authorization": header})
    assert answer.status_code == 401
    assert answer.mimetype == "application/problem+json"
    assert answer.headers["WWW-Authenticate"].startswith('Bearer realm="fieldsvc"')


def test_a_device_token_opens_nothing_of_staff_and_the_other_way_round(app: Flask) -> None:
    handheld = factories.make_device(app, factories.make_crew(app))
    assert handheld.client.get("/v1/me").status_code == 401
    assert make_staff(app).get("/sync/v1/pull").status_code == 401


@pytest.mark.parametrize("role", ["dispatcher", "supervisor", "auditor"])
def test_only_admins_manage_accounts(app: Flask, role: str) -> None:
    caller = make_staff(app, role)
    for answer in (
        caller.get("/v1/users"),
        caller.post("/v1/users", json={"username": "neu", "password": PASSWORD, "role": "auditor"}),
        caller.post("/v1/users", json={"nonsense": True}),
    ):
        assert answer.status_code == 403
        assert answer.json["type"] == "/problems/forbidden"


def test_an_account_is_added_changed_and_disabled(app: Flask, client: FlaskClient) -> None:
    ids = factories.make_territories(app)
    admin = make_staff(app)
    body = {"username": "chen", "password": PASSWORD, "role": "dispatcher", "territory_ids": [ids["A"]]}
    added = admin.post("/v1/users", json=body)
    assert added.status_code == 201
    address = added.headers["Location"]
    assert added.json["territory_ids"] == [ids["A"]] and "password" not in added.get_data(as_text=True)
    assert admin.post("/v1/users", json=body).json["type"] == "/problems/already-exists"

    token = with_token(app, log_in(client, "chen").json["token"])
    assert token.get("/v1/me").json["territory_ids"] == [ids["A"]]
    changed = admin.patch(address, json={"role": "supervisor", "territory_ids": [ids["B"], ids["A"]]})
    assert (changed.json["role"], changed.json["territory_ids"]) == ("supervisor", sorted([ids["A"], ids["B"]]))
    assert token.get("/v1/me").json["role"] == "supervisor"
    assert admin.patch(address, json={"territory_ids": []}).json["territory_ids"] == []
    assert admin.patch(address, json={"active": False}).status_code == 200
    assert token.get("/v1/me").status_code == 401
    admin.patch(address, json={"active": True})
    assert token.get("/v1/me").status_code == 401, "tokens of a disabled account stay dead"


def test_a_new_password_ends_what_the_old_one_bought(app: Flask, client: FlaskClient) -> None:
    admin, caller = make_staff(app), make_staff(app, "auditor", username="li")
    user_id = caller.get("/v1/me").json["id"]
    assert admin.patch(f"/v1/users/{user_id}", json={"password": "another one of mine"}).status_code == 200
    assert caller.get("/v1/me").status_code == 401
    assert log_in(client, "li").status_code == 401
    assert log_in(client, "li", "another one of mine").status_code == 201


def test_the_last_admin_cannot_lock_everybody_out(app: Flask) -> None:
    admin = make_staff(app)
    own = admin.get("/v1/me").json["id"]
    for change in ({"active": False}, {"role": "auditor"}):
        refused = admin.patch(f"/v1/users/{own}", json=change)
        assert (refused.status_code, refused.json["type"]) == (409, "/problems/state-not-allowed")
    make_staff(app)
    assert admin.patch(f"/v1/users/{own}", json={"role": "auditor"}).status_code == 200


def test_two_admins_who_demote_each_other_at_once_leave_one(app: Flask) -> None:
    one, other = make_staff(app), make_staff(app)
    ids = [caller.get("/v1/me").json["id"] for caller in (one, other)]
    with ThreadPoolExecutor(2) as pool:
        tries = [
            pool.submit(one.patch, f"/v1/users/{ids[1]}", json={"role": "auditor"}),
            pool.submit(other.patch, f"/v1/users/{ids[0]}", json={"role": "auditor"}),
        ]
        statuses = sorted(done.result().status_code for done in tries)
    assert statuses in ([200, 409], [200, 403])
    with app.app_context(), reading():
        assert db.session.scalar(select(func.count()).where(Staff.role == "admin", Staff.active)) == 1


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"username": "a b", "password": PASSWORD, "role": "auditor"}, "/username"),
        ({"username": "ab\n", "password": PASSWORD, "role": "auditor"}, "/username"),
        ({"username": "ab", "password": "short", "role": "auditor"}, "/password"),
        ({"username": "ab", "password": PASSWORD, "role": "king"}, "/role"),
        ({"username": "ab", "password": PASSWORD}, "/role"),
        ({"username": "ab", "password": PASSWORD, "role": "auditor", "territory_ids": "A"}, "/territory_ids"),
        ({"username": "ab", "password": PASSWORD, "role": "auditor", "territory_ids": [1]}, "/territory_ids/0"),
        ({"username": "ab", "password": PASSWORD, "role": "auditor", "all_territories": "yes"}, "/all_territories"),
        ({"username": "ab", "password": PASSWORD, "role": "auditor", "display_name": "a\x00b"}, "/display_name"),
        ({"username": "ab", "password": PASSWORD, "role": "auditor", "is_god": True}, "/is_god"),
        ({"username": None, "password": PASSWORD, "role": "auditor"}, "/username"),
    ],
)
def test_a_malformed_account_is_refused_naming_the_field(app: Flask, body: dict, field: str) -> None:
    refused = make_staff(app).post("/v1/users", json=body)
    assert refused.status_code == 422
    assert [error["field"] for error in refused.json["errors"]] == [field]
    assert all(error["reason"] for error in refused.json["errors"])


def test_a_territory_that_does_not_exist_is_a_conflict_naming_it(app: Flask) -> None:
    body = {"username": "ab", "password": PASSWORD, "role": "auditor", "territory_ids": ["no-such"]}
    refused = make_staff(app).post("/v1/users", json=body)
    assert refused.status_code == 409
    assert refused.json["errors"] == [{"field": "/territory_ids", "reason": "there is no territory no-such"}]


def test_lists_are_paged_without_gaps(app: Flask) -> None:
    admin = make_staff(app, username="m")
    with app.app_context():
        for name in ("aa", "zz", "kk"):
            make_staff(app, "auditor", username=name)
    seen, address = [], "/v1/users?limit=1"
    while address:
        page = admin.get(address)
        seen += [user["username"] for user in page.json["items"]]
        link = page.headers.get("Link", "")
        assert bool(link) == bool(page.json["next"])
        address = link.split(">")[0].lstrip("<")
    assert seen == ["aa", "kk", "m", "zz"]
    assert admin.get("/v1/users?limit=201").status_code == 422
    assert admin.get("/v1/users?limit=0").status_code == 422
    for cursor in ("x", "W10", "WzFd", "bnVsbA", "WyJhXHUwMDAwIl0"):
        refused = admin.get(f"/v1/users?cursor={cursor}")
        assert (refused.status_code, refused.json["type"]) == (400, "/problems/bad-cursor"), cursor
