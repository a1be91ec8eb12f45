"""Signing in to the console: sessions, what ends them, where they lead back to, and what no stranger gets."""

from __future__ import annotations

import json
import re
from copy import copy
from datetime import timedelta

import pytest
from flask import Flask
from sqlalchemy import select, text, update

from fieldsvc.base.clock import utc_now
from fieldsvc.base.db import db, reading, transaction
from fieldsvc.base.errors import FieldsvcError
from fieldsvc.config import Settings
from fieldsvc.history.models import HistoryEntry
from fieldsvc.people import sessions, staff
from fieldsvc.people.actors import SYSTEM
from fieldsvc.people.models import ConsoleSession
from tests.visitor import HOST, PASSWORD, Visitor
from workers import runtime, tasks


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
    assert "try again in" in refused.text
    assert f'value="{visitor.username}"' in refused.text


@pytest.mark.parametrize("changes", [{"active": False}, {"password": "another long password"}])
def test_a_new_password_and_a_disabled_account_end_the_session_at_once(app: Flask, changes: dict[str, object]) -> None:
    visitor = Visitor(app)
    assert visitor.get("/").status_code == 200
    change(app, visitor, **changes)
    led = visitor.get("/").location
    assert led.startswith("/sign-in")
    assert "Your session has ended." in visitor.get(led).text
    assert "Your session has ended." not in Visitor(app).get("/nothing").text


_DOMAIN = HOST.removeprefix("https://")


def copied(app: Flask, visitor: Visitor) -> Visitor:
    """Somebody else with the visitor's cookie."""
    thief = copy(visitor)
    thief.client = app.test_client()
    cookie = visitor.client.get_cookie("fieldsvc", domain=_DOMAIN)
    assert cookie
    thief.client.set_cookie("fieldsvc", cookie.value, domain=_DOMAIN)
    return thief


def test_a_copied_cookie_is_worth_nothing_once_its_owner_has_signed_out_or_in_again(app: Flask) -> None:
    visitor = Visitor(app)
    thief = copied(app, visitor)
    assert thief.get("/account").status_code == 200
    left = visitor.post("/sign-out")
    assert "Your session has ended." not in visitor.get(left.location).text
    assert thief.get("/account").location.startswith("/sign-in")
    visitor.sign_in()
    thief = copied(app, visitor)
    visitor.get("/account")
    again = visitor.post("/sign-in", username=visitor.username, password=PASSWORD)
    assert again.status_code == 303
    assert thief.get("/account").location.startswith("/sign-in")
    assert visitor.get("/account").status_code == 200


def dated(app: Flask, visitor: Visitor, **ago: timedelta) -> None:
    """Have the visitor's sessions begun, or been seen, so long ago."""
    with app.app_context(), transaction():
        mine = update(ConsoleSession).where(ConsoleSession.staff_id == visitor.staff_id)
        db.session.execute(mine.values({name: utc_now() - since for name, since in ago.items()}))


def kept(app: Flask, visitor: Visitor) -> list[ConsoleSession]:
    with app.app_context(), reading():
        mine = select(ConsoleSession).where(ConsoleSession.staff_id == visitor.staff_id)
        found = list(db.session.scalars(mine))
        db.session.expunge_all()
        return found


def test_a_session_ends_unused_or_old_on_the_server_and_is_forgotten(app: Flask, settings: Settings) -> None:
    ttl = timedelta(seconds=settings.session_ttl)
    visitor, other = Visitor(app), Visitor(app)
    dated(app, visitor, seen_at=ttl - timedelta(minutes=1))
    assert visitor.get("/account").status_code == 200
    dated(app, visitor, seen_at=ttl + timedelta(minutes=2))
    assert visitor.get("/account").location.startswith("/sign-in")
    visitor.sign_in()
    dated(app, visitor, started_at=sessions.LONGEST)
    assert visitor.get("/account").location.startswith("/sign-in")
    with runtime.serving(app):
        tasks.sweep()
    assert kept(app, visitor) == []
    assert len(kept(app, other)) == 1


def test_that_a_session_was_seen_is_written_once_a_minute(app: Flask) -> None:
    visitor = Visitor(app)
    for ago, written in ((59, False), (61, True)):
        dated(app, visitor, seen_at=timedelta(seconds=ago))
        before = kept(app, visitor)[0].seen_at
        assert visitor.get("/account").status_code == 200
        assert (kept(app, visitor)[0].seen_at > before) is written


_GECKO = "(KHTML, like Gecko)"
AGENTS = (
    ("Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:135.0) Gecko/20100101 Firefox/135.0", "Firefox, Windows"),
    (f"Mozilla/5.0 (Windows NT 10.0) {_GECKO} Chrome/131.0.0.0 Safari/537.36 Edg/131.0.0.0", "Edge, Windows"),
    (f"Mozilla/5.0 (Linux; Android 10; K) {_GECKO} Chrome/131.0.0.0 Mobile Safari/537.36", "Chrome, Android"),
    (f"Mozilla/5.0 (iPhone; like Mac OS X) {_GECKO} Version/17.5 Mobile/15E148 Safari/604.1", "Safari, iOS"),
    ("<b>curl</b>", None),
)


def test_ones_sessions_are_listed_by_browser_and_ended_there_or_everywhere_else(app: Flask) -> None:
    here, stranger = Visitor(app), Visitor(app)
    there = []
    for agent, _said in AGENTS:
        visitor = copy(here)
        visitor.client = app.test_client()
        visitor.client.environ_base["HTTP_USER_AGENT"] = agent
        visitor.sign_in()
        there.append(visitor)
    assert sorted(str(one.agent) for one in kept(app, here)) == sorted(["None", *(str(said) for _, said in AGENTS)])
    page = here.get("/account").text
    assert page.count("this browser") == 1
    assert "<b>curl" not in page
    ended = dict(re.findall(r"<td[^>]*>([^<]*?)\s*</td>(?:(?!<tr>).)*?(/account/sessions/[^/]+/end)", page, re.DOTALL))
    stranger.post(ended["Edge, Windows"])
    assert there[1].get("/account").status_code == 200
    assert here.post(ended["Edge, Windows"]).location == "/account"
    assert here.post(ended["Edge, Windows"]).location == "/account"  # pressed twice
    assert [one.get("/account").status_code for one in there] == [200, 302, 200, 200, 200]
    assert here.post("/account/sessions/end").status_code == 303
    assert [one.get("/account").status_code for one in (*there, here, stranger)] == [302] * 5 + [200, 200]
    assert "Sign out everywhere else" not in here.get("/account").text


def test_an_admin_ends_all_sessions_of_an_account_and_the_history_says_who_came_and_went(app: Flask) -> None:
    admin, other = Visitor(app, "admin"), Visitor(app)
    path = f"/users/{other.staff_id}"
    assert "Sign out everywhere" in admin.get(path).text
    assert other.post(f"{path}/sessions/end").status_code == 403
    assert admin.post(f"{path}/sessions/end").location == path
    assert other.get("/account").location.startswith("/sign-in")
    assert "Nowhere at present." in admin.get(path).text
    other.sign_in()
    other.post("/sign-out")
    with app.app_context(), reading():
        told = db.session.execute(
            select(HistoryEntry.action, HistoryEntry.actor_id, HistoryEntry.entity_id, HistoryEntry.after)
            .where(HistoryEntry.entity == "session")
            .order_by(HistoryEntry.seq)
        ).all()
    of_other = [one for one in told if one.after["staff_id"] == other.staff_id]
    assert [(one.action, one.actor_id) for one in of_other] == [
        ("session.started", other.staff_id),
        ("session.ended", admin.staff_id),
        ("session.started", other.staff_id),
        ("session.ended", other.staff_id),
    ]
    assert of_other[0].entity_id == of_other[1].entity_id != of_other[2].entity_id


def test_who_knew_the_password_before_it_changed_is_not_let_in_after(app: Flask) -> None:
    visitor = Visitor(app)
    with app.app_context():
        with reading():
            login = staff.check_password(visitor.username, PASSWORD)
        change(app, visitor, password="another long password")
        with pytest.raises(FieldsvcError), transaction():
            staff.proven(login)


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


def test_what_no_page_answers_is_a_page_for_a_person_and_a_problem_for_a_machine(app: Flask) -> None:
    visitor = Visitor(app)
    stranger = copy(visitor)
    stranger.client = app.test_client()
    unknown = [visitor.get("/nothing/here"), visitor.post("/nothing")]
    unfit = [visitor.post("/users"), visitor.get("/sign-out")]
    assert [one.status_code for one in (*unknown, *unfit)] == [404, 404, 405, 405]
    for one in (*unknown, *unfit):
        assert one.mimetype == "text/html"
        assert '<nav aria-label="Main">' in one.text
        assert visitor.username in one.text
    assert unfit[0].headers["Allow"] == "GET, HEAD, OPTIONS"
    strange = stranger.get("/nothing/here")
    assert (strange.status_code, '<nav aria-label="Main">' in strange.text) == (404, False)
    piece = visitor.piece("/nothing", Accept="*/*")
    assert (piece.status_code, piece.text.startswith('<p class="fault" role="alert">There is')) == (404, True)
    data = {"Accept": "application/json"}
    asked = [
        visitor.get("/v1/nothing"),
        visitor.post("/v1/me"),
        visitor.get("/nothing", **data),
        visitor.post("/users", data),
    ]
    assert {one.mimetype for one in asked} == {"application/problem+json"}


def test_what_goes_wrong_inside_of_a_page_is_a_page_too(app: Flask) -> None:
    def broken() -> str:
        return str(1 / 0)

    app.add_url_rule("/broken", "console.broken", broken)  # a page with a mistake in it
    visitor = Visitor(app)
    answers = {
        400: visitor.post("/preferences", csrf_token="", language="zh"),
        413: visitor.post("/preferences", language="x" * (17 << 20)),
        422: visitor.post("/account/tokens", name="x" * (2 << 20)),
        500: visitor.get("/broken"),
    }
    for status, one in answers.items():
        assert (one.status_code, one.mimetype) == (status, "text/html")
        assert '<nav aria-label="Main">' in one.text
    assert "at most 16 MB" in answers[413].text
    assert "division" not in answers[500].text
    assert visitor.get("/broken", HX_Request="true").text.startswith('<p class="fault" role="alert">')
    assert visitor.get("/broken", Accept="application/json").mimetype == "application/problem+json"
    with app.app_context(), transaction():
        db.session.execute(text("DROP TABLE console_session"))  # nobody can be found any more
    for address in ("/account", "/nothing"):
        lost = visitor.get(address)
        assert (lost.status_code >= 404, lost.mimetype) == (True, "text/html")
        assert '<nav aria-label="Main">' not in lost.text


def test_language_and_theme_are_kept_for_the_browser(app: Flask) -> None:
    visitor = Visitor(app, language="fr")
    assert '<html lang="en" data-theme="auto"' in visitor.get("/").text
    assert visitor.post("/preferences", language="zh", theme="dark", next="/?status=new").location == "/?status=new"
    assert '<html lang="zh" data-theme="dark"' in visitor.get("/").text
    assert visitor.post("/preferences", next="/account/password").location == "/account"  # which takes a form alone
    assert visitor.post("/preferences", next=f"/users/{visitor.staff_id}/sessions/end").location.endswith(
        visitor.staff_id
    )
    assert visitor.post("/preferences", next="/nothing?at=all").location == "/nothing?at=all"
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
