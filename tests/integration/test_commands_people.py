"""``fieldsvc users|devices|crews``: from an empty database to a device that calls."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from click.testing import CliRunner, Result
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select

from fieldsvc.base.db import db, reading
from fieldsvc.cli import main
from fieldsvc.config import Settings
from fieldsvc.history.models import HistoryEntry
from tests.factories import make_territories, with_token

Run = Callable[..., Result]


@pytest.fixture
def run(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Run:
    """``run("users", "list", input=…)``: one command on this test's database."""
    monkeypatch.setenv("DATABASE_URL", settings.database_url)
    monkeypatch.setenv("FIELDSVC_SECRET_KEY", "a key for tests")

    def invoke(*arguments: str, **more: str) -> Result:
        return CliRunner().invoke(main, [*arguments, "--data-dir", str(settings.data_dir)], **more)

    return invoke


def ok(result: Result) -> str:
    assert result.exit_code == 0, result.output
    return result.output


def test_from_nothing_to_a_token_that_works(app: Flask, client: FlaskClient, run: Run) -> None:
    made_up = ok(run("users", "add", "boss", "--role", "admin", "--all-territories"))
    password = re.search(r"shown this once\): (\S+)", made_up)
    assert password
    answer = client.post("/v1/tokens", json={"username": "boss", "password": password[1]})
    assert answer.status_code == 201
    token = run("users", "token", "boss", "--ttl-days", "2").stdout.strip()
    assert with_token(app, token).get("/v1/me").json["username"] == "boss"
    assert with_token(app, token).get("/v1/tokens").json["items"][0]["name"] == "command line"


def test_accounts_are_added_listed_and_disabled(app: Flask, client: FlaskClient, run: Run) -> None:
    make_territories(app)
    added = run(
        "users", "add", "mei", "--role", "dispatcher", "--territory", "A", "--territory", "C", "--password-stdin",
        input="a long enough one\n",
    )  # fmt: skip
    assert "shown" not in ok(added)
    answer = client.post("/v1/tokens", json={"username": "mei", "password": "a long enough one"})
    assert answer.status_code == 201
    listed = ok(run("users", "list"))
    assert "mei" in listed and "A, C" in listed and "dispatcher" in listed
    ok(run("users", "disable", "mei"))
    assert with_token(app, answer.json["token"]).get("/v1/me").status_code == 401
    assert run("users", "token", "mei").exit_code == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["users", "add", "x1", "--role", "auditor"], "--all-territories"),
        (["users", "add", "X 1", "--role", "auditor", "--all-territories"], "NAME"),
        (["users", "add", "x1", "--role", "king", "--all-territories"], "king"),
        (["users", "add", "x1", "--role", "auditor", "--territory", "Q"], "there is no territory Q"),
        (["users", "disable", "nobody"], "there is no user nobody"),
        (["devices", "enrol", "NOCREW"], "there is no crew NOCREW"),
        (["devices", "revoke", "x"], "there is no device x"),
        (["crews", "shift", "NOCREW", "2026-11-23T08:00:00Z"], "there is no crew"),
        (["crews", "shift", "NOCREW", "2026-11-23T08:00:00"], "zone"),
        (["crews", "add", "C1", "One", "--territory", "Q"], "there is no territory Q"),
        (["import", "territories", "nofile.geojson"], "nofile.geojson"),
    ],
)
def test_a_mistake_is_told_in_a_sentence(run: Run, arguments: list[str], says: str) -> None:
    result = run(*arguments)
    assert result.exit_code in (1, 2)
    assert says in result.output and "Traceback" not in result.output


def test_a_crew_its_shift_and_its_device(app: Flask, client: FlaskClient, run: Run) -> None:
    make_territories(app)
    ok(run("crews", "add", "C1", "North", "--skill", "repair", "--territory", "A", "--base", "111.5", "35.5"))
    assert "on duty from 2026-11-23T00:00:00Z for 9 h" in ok(
        run("crews", "shift", "C1", "2026-11-23T08:00:00+08:00", "--hours", "9")
    )
    assert "North" in ok(run("crews", "list"))
    shown = ok(run("devices", "enrol", "C1", "--server", "https://field.example"))
    code = re.search(r"code (\S{4}-\S{4}) for crew C1", shown)
    assert code and "█" in shown
    body = {"code": code[1], "install_id": "0192", "platform": "android", "app_version": "1"}
    enrolled = client.post("/sync/v1/enrol", json=body).json
    assert enrolled["device_id"] in ok(run("devices", "list", "--crew", "C1"))
    ok(run("devices", "revoke", enrolled["device_id"], "--reason", "lost"))
    assert with_token(app, enrolled["token"]).get("/sync/v1/pull").status_code == 403
    with app.app_context(), reading():
        entry = db.session.scalars(select(HistoryEntry).where(HistoryEntry.action == "device.revoked")).one()
        assert (entry.actor_kind, entry.note) == ("system", "lost")
