"""Accounts in the console: users for admins, and one's own password and tokens."""

from __future__ import annotations

import re

from flask import Flask

from tests.factories import make_territories, with_token
from tests.visitor import PASSWORD, Visitor


def shown_secret(text: str) -> str:
    found = re.search(r'<p class="secret mono"[^>]*>([^<]+)</p>', text)
    assert found
    return found.group(1)


def seen(page: str) -> str:
    found = re.search(r'name="seen" value="([0-9a-f]+)"', page)
    assert found
    return found.group(1)


def test_an_admin_adds_an_account_whose_password_is_shown_once_and_it_signs_in(app: Flask) -> None:
    ids = make_territories(app)
    admin = Visitor(app, "admin")
    page = admin.get("/users/new").text
    assert "Territory A" in page
    added = admin.post(
        "/users/new", username="li.wei", display_name="<b>Li Wei</b> 李伟", role="dispatcher", territory_ids=[ids["A"]]
    )
    assert added.status_code == 200
    assert added.headers["Cache-Control"] == "no-store"
    password = shown_secret(added.text)
    listed = admin.get("/users?q=LI.W").text
    assert "&lt;b&gt;Li Wei&lt;/b&gt; 李伟" in listed
    assert "<b>Li" not in listed
    assert password not in listed + admin.get("/users").text
    person = Visitor(app)
    person.post("/sign-out")
    person.username = "li.wei"
    assert person.sign_in(password).status_code == 303
    own = person.get("/account").text
    assert "A" in own
    assert "李伟" in own


def test_a_wrong_account_keeps_what_was_typed_and_says_what_is_wrong_beside_the_field(app: Flask) -> None:
    admin = Visitor(app, "admin")
    wrong = admin.post("/users/new", username="Ada Lovelace", display_name="Ada", role="auditor", password="short")
    assert wrong.status_code == 422
    assert 'id="f-username-fault"' in wrong.text
    assert 'id="f-password-fault"' in wrong.text
    assert 'value="Ada Lovelace"' in wrong.text
    assert re.search(r'value="auditor" checked', wrong.text)
    assert "short" not in wrong.text.replace("shortcut", "")
    taken = admin.post("/users/new", username=admin.username, role="auditor", password=PASSWORD)
    assert taken.status_code == 409
    assert "there is a user" in taken.text
    nowhere = admin.post("/users/new", username="x.y", role="auditor", password=PASSWORD, territory_ids=["nowhere"])
    assert 'id="f-territory_ids-fault"' in nowhere.text


def test_an_account_is_changed_disabled_and_given_another_password(app: Flask) -> None:
    admin, other = Visitor(app, "admin"), Visitor(app, "dispatcher")
    path = f"/users/{other.staff_id}"
    page = admin.get(path).text
    changed = admin.post(
        path, seen=seen(page), display_name="Ada", role="supervisor", all_territories="true", active="true"
    )
    assert changed.status_code == 303
    assert "Supervisor" in other.get("/account").text
    fresh = admin.get(path).text
    renewed = admin.post(
        path, seen=seen(fresh), display_name="Ada", role="supervisor", all_territories="true", active="true",
        new_password="true",
    )  # fmt: skip
    password = shown_secret(renewed.text)
    assert other.get("/").location.startswith("/sign-in")
    assert other.sign_in(password).status_code == 303
    admin.post(path, seen=seen(admin.get(path).text), display_name="Ada", role="supervisor", all_territories="true")
    assert other.get("/").location.startswith("/sign-in")
    history = admin.get(path).text
    assert "Ada" in history
    assert password not in history


def test_a_change_of_somebody_else_meanwhile_is_told_and_nothing_is_overwritten(app: Flask) -> None:
    one, two, other = Visitor(app, "admin"), Visitor(app, "admin"), Visitor(app, "auditor")
    path = f"/users/{other.staff_id}"
    page = seen(one.get(path).text)
    two.post(path, seen=page, display_name="Two's", role="auditor", all_territories="true", active="true")
    refused = one.post(path, seen=page, display_name="One's", role="auditor", all_territories="true", active="true")
    assert refused.status_code == 412
    assert two.username in refused.text
    assert "Two&#39;s" in refused.text
    assert 'value="One&#39;s"' in refused.text
    again = one.post(
        path, seen=seen(refused.text), display_name="One's", role="auditor", all_territories="true", active="true"
    )
    assert again.status_code == 303


def test_the_last_admin_stays_one(app: Flask) -> None:
    admin = Visitor(app, "admin")
    path = f"/users/{admin.staff_id}"
    for wrong in ({"role": "auditor"}, {"active": ""}):
        fields = {"display_name": "Ada", "role": "admin", "all_territories": "true", "active": "true"} | wrong
        refused = admin.post(path, seen=seen(admin.get(path).text), **fields)
        assert refused.status_code == 409
        assert refused.text.count("at least one active admin must remain") == 1
    assert admin.get("/users").status_code == 200


def test_only_admins_see_accounts(app: Flask) -> None:
    for role in ("dispatcher", "supervisor", "auditor"):
        visitor = Visitor(app, role)
        for path in ("/users", "/users/new", f"/users/{visitor.staff_id}"):
            assert visitor.get(path).status_code == 403
        assert visitor.post("/users/new", username="x.y", role="admin").status_code == 403
        assert visitor.post(f"/users/{visitor.staff_id}", role="admin").status_code == 403
    assert "/users" not in visitor.get("/account").text


def test_ones_own_password_is_changed_and_ends_every_other_session(app: Flask) -> None:
    here, there = Visitor(app), Visitor(app)
    there.post("/sign-out")
    there.username = here.username
    there.sign_in()
    assert there.get("/account").status_code == 200
    new = {"password": "another long one", "again": "another long one"}
    wrong = here.post("/account/password", current="not it at all", **new)
    assert wrong.status_code == 422
    assert 'id="f-current-fault"' in wrong.text
    apart = here.post("/account/password", current=PASSWORD, password="another long one", again="another long two")
    assert 'id="f-again-fault"' in apart.text
    assert 'id="f-password-fault"' in here.post("/account/password", current=PASSWORD, password="x", again="x").text
    done = here.post("/account/password", current=PASSWORD, **new)
    assert (done.status_code, done.location) == (303, "/account")
    assert here.get("/account").status_code == 200
    assert there.get("/account").location.startswith("/sign-in")
    assert there.sign_in("another long one").status_code == 303


def test_ones_own_tokens_are_shown_once_and_revoked_and_nobody_elses_are(app: Flask) -> None:
    visitor, other = Visitor(app), Visitor(app)
    refused = visitor.post("/account/tokens", name="calendar", token_password="not it at all")
    assert 'id="f-token_password-fault"' in refused.text
    assert 'value="calendar"' in refused.text
    far = visitor.post("/account/tokens", name="calendar", token_password=PASSWORD, ttl_days="367")
    assert 'id="f-ttl_days-fault"' in far.text
    made = visitor.post("/account/tokens", name="<i>calendar</i>", token_password=PASSWORD, ttl_days="30")
    assert made.headers["Cache-Control"] == "no-store"
    token = shown_secret(made.text)
    client = with_token(app, token)
    assert client.get("/v1/me").json["username"] == visitor.username
    page = visitor.get("/account").text
    assert token not in page
    assert "&lt;i&gt;calendar" in page
    path = re.search(r"/account/tokens/[^/]+/revoke", page).group()  # type: ignore[union-attr]
    assert other.post(path).status_code == 404
    assert client.get("/v1/me").status_code == 200
    assert visitor.post(path).status_code == 303
    assert client.get("/v1/me").status_code == 401


def test_guessing_ones_password_has_to_wait(app: Flask) -> None:
    visitor = Visitor(app)
    answers = [
        visitor.post(
            "/account/password", current="wrong password", password="another long one", again="another long one"
        )
        for _ in range(11)
    ]
    assert [answer.status_code for answer in answers] == [422] * 10 + [429]
