"""Signing in to the console: sessions, what ends them, where they lead back to, and what no stranger gets."""

from __future__ import annotations

import json
import re

import pytest
from flask import Flask

from fieldsvc.base.clock import utc_now
from fieldsvc.base.db import transaction
from fieldsvc.people import staff
from fieldsvc.people.actors import SYSTEM
from tests.visitor import HOST, PASSWORD, Visitor


def change(app: Flask, visitor: Visitor, **changes: object) -> None:
    with app.app_context(), transaction():
        staff.edit(SYSTEM.source(utc_now()), visitor.staff_id, changes)


def test_a_stranger_is_led_to_sign_in_and_back_to_where_he_was(app: Flask) -> None:
    visitor = Visitor(app)
    visitor.post("/sign-out")
    asked = visitor.get("/?status=new")
    assert asked.status_code == 302
    assert asked.location == "/sign-in?next=/?status%3Dnew"
    visitor.get(asked.location)
    back = visitor.post(asked.location, username=visitor.username, password=PASSWORD)
    assert (back.status_code, back.location) == (303, "/?status=new")
    assert visitor.get(back.location).status_code == 200


def test_the_cookie_is_for_https_and_for_no_script_and_the_page_loads_nothing_inline(app: Flask) -> None:
    visitor = Visitor(app)
    visitor.post("/sign-out")
    cookie = visitor.sign_in().headers["Set-Cookie"]
    assert {"Secure", "HttpOnly", "SameSite=Lax"} <= {part.strip() for part in cookie.split(";")}
    page = visitor.get("/")
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert "style=" not in page.text
    assert "onclick" not in page.text


@pytest.mark.parametrize("to", ["https://elsewhere.example.org/", "//elsewhere.example.org/", "/\\elsewhere", "x"])
def test_a_sign_in_leads_to_no_other_place(app: Flask, to: str) -> None:
    visitor = Visitor(app)
    visitor.post("/sign-out")
    assert visitor.sign_in(to=to).location == "/"


def test_a_wrong_password_keeps_the_name_and_says_so(app: Flask) -> None:
    visitor = Visitor(app)
    visitor.post("/sign-out")
    answer = visitor.sign_in("wrong password")
    assert answer.status_code == 401
    assert "User name or password is wrong." in answer.text
    assert f'value="{visitor.username}"' in answer.text
    assert "wrong password" not in answer.text


def test_too_many_wrong_passwords_have_to_wait(app: Flask) -> None:
    visitor = Visitor(app)
    visitor.post("/sign-out")
    answers = [visitor.sign_in("wrong password").status_code for _ in range(11)]
    assert answers == [401] * 10 + [429]
    refused = visitor.sign_in()
    assert refused.status_code == 429
    assert int(refused.headers["Retry-After"]) > 0


@pytest.mark.parametrize("changes", [{"active": False}, {"password": "another long password"}])
def test_a_new_password_and_a_disabled_account_end_the_session_at_once(app: Flask, changes: dict[str, object]) -> None:
    visitor = Visitor(app)
    assert visitor.get("/").status_code == 200
    change(app, visitor, **changes)
    assert visitor.get("/").location.startswith("/sign-in")


def test_a_changed_role_counts_from_the_next_request_on(app: Flask) -> None:
    visitor = Visitor(app, "admin")
    other = Visitor(app, "admin")
    change(app, visitor, role="auditor")
    page = visitor.get("/")
    assert "Auditor" in page.text
    assert "Administrator" in other.get("/").text


def test_a_form_from_elsewhere_is_refused(app: Flask) -> None:
    visitor = Visitor(app)
    for token in ("", "made up"):
        assert visitor.post("/sign-out", csrf_token=token).status_code == 400
    assert visitor.get("/").status_code == 200


def test_a_session_is_no_key_to_the_api(app: Flask) -> None:
    visitor = Visitor(app, "admin")
    assert visitor.get("/v1/me").status_code == 401


def test_a_piece_of_a_page_without_a_session_sends_the_whole_page_to_sign_in(app: Flask) -> None:
    visitor = Visitor(app)
    visitor.post("/sign-out")
    answer = visitor.piece("/", HX_Current_URL=f"{HOST}/?status=new")
    assert answer.headers["HX-Redirect"] == "/sign-in?next=/?status%3Dnew"


def test_a_mistyped_address_gets_a_page_and_a_machine_a_problem(app: Flask) -> None:
    visitor = Visitor(app)
    page = visitor.get("/nothing/here")
    assert (page.status_code, page.mimetype) == (404, "text/html")
    assert visitor.get("/v1/nothing").mimetype == "application/problem+json"
    assert visitor.get("/nothing", Accept="application/json").mimetype == "application/problem+json"


def test_language_and_theme_are_kept_for_the_browser(app: Flask) -> None:
    visitor = Visitor(app, language="fr")
    assert '<html lang="en" data-theme="auto"' in visitor.get("/").text
    assert visitor.post("/preferences", language="zh", theme="dark", next="/?status=new").location == "/?status=new"
    assert '<html lang="zh" data-theme="dark"' in visitor.get("/").text
    visitor.post("/preferences", language="xx", theme="pink", next="https://elsewhere.example.org")
    assert '<html lang="zh" data-theme="dark"' in visitor.get("/").text


def test_libraries_come_from_npm_by_version_and_nothing_else_of_them(app: Flask) -> None:
    visitor = Visitor(app)
    path = visitor.get("/").text.split('<script src="/lib/htmx/')[1].split('"')[0]
    with visitor.get(f"/lib/htmx/{path}") as script:
        assert script.status_code == 200
        assert "immutable" in script.headers["Cache-Control"]
    for wrong in (
        "/lib/htmx/0.0.1/htmx.min.js",
        "/lib/lodash/4.17.21/lodash.js",
        f"/lib/htmx/{path}/../../package.json",
    ):
        assert visitor.get(wrong).status_code == 404


def test_a_page_speaks_the_language_of_who_asks_whoever_asked_first(app: Flask) -> None:
    told = {}
    for language in ("en", "zh"):
        page = Visitor(app, language=language).get("/").text
        found = re.search(r'id="timeline-words">(.*?)</script>', page, re.DOTALL)
        assert found
        told[language] = json.loads(found[1])["codes"]["metering"]
    assert told == {"en": "Metering", "zh": "计量"}
