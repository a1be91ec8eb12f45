"""Lanes: a sort of request that fills its places keeps itself waiting and nobody else; places come back, always."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import pytest
from flask import Flask

from fieldsvc.api.lanes import PLACES, RETRY_S, STUCK_S
from fieldsvc.base.db import transaction
from fieldsvc.config import Settings
from fieldsvc.feed import publish
from fieldsvc.feed.snapshot import PAGE_ROWS
from tests.field import Field, Phone, done, problem

FIRST, PULL = PLACES["first"][0], PLACES["pull"][0]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return replace(settings, snapshot_seconds=0)


@pytest.fixture
def field(app: Flask, drain: Callable[[], None]) -> Field:
    return Field(app, drain)


@pytest.fixture
def phone(field: Field) -> Phone:
    """A phone of a crew that holds a job and more than a page of things."""
    phone = field.phone()
    field.job("repair", phone.crew_id)
    with field.app.app_context(), transaction():
        for number in range(PAGE_ROWS + 20):
            publish.put([f"crew:{phone.crew_id}"], "thing", f"t-{number:05}", 1, {"n": number})
    return phone


def ask(phone: Phone, path: str) -> Any:
    return phone.client.get(f"/sync/v1/{path}")


def test_full_places_for_first_syncs_keep_neither_news_nor_work_out(field: Field, phone: Phone) -> None:
    phone.pull()
    with ExitStack() as held:
        for path in ("snapshot", "pull", "snapshot")[:FIRST]:
            assert held.enter_context(ask(phone, path)).status_code == 200
        for answer in (
            ask(phone, "snapshot"),
            ask(phone, "pull"),
            ask(phone, "pull?limit=3"),
            phone.client.post("/sync/v1/manifest", json={"scopes": {}}),
        ):
            assert problem(answer) == (503, "unavailable")
            assert RETRY_S[0] <= int(answer.headers["Retry-After"]) <= RETRY_S[1]
        assert ask(phone, f"pull?cp={phone.cp}").status_code == 200
        assert phone.push(phone.op("note.add", field.job(crew=phone.crew_id), {"text": "x"})) == ["accepted"]
    assert ask(phone, "snapshot").status_code == 200


def test_full_places_for_pulls_keep_no_work_out(phone: Phone) -> None:
    phone.pull()
    with ExitStack() as held:
        for _ in range(PULL):
            assert held.enter_context(ask(phone, f"pull?cp={phone.cp}")).status_code == 200
        assert problem(ask(phone, f"pull?cp={phone.cp}")) == (503, "unavailable")
        assert ask(phone, "snapshot").status_code == 200
        assert phone.post([]).status_code == 200
    assert ask(phone, f"pull?cp={phone.cp}").status_code == 200


def test_a_first_sync_by_pulls_is_one_to_its_last_page(phone: Phone) -> None:
    page = done(ask(phone, "pull?limit=100"))
    checkpoints = []
    while page["has_more"]:
        checkpoints.append(page["checkpoint"])
        page = done(ask(phone, f"pull?limit=100&cp={page['checkpoint']}"))
    assert len(checkpoints) > 1
    with ExitStack() as held:
        for _ in range(FIRST):
            held.enter_context(ask(phone, "snapshot"))
        for checkpoint in checkpoints:
            assert problem(ask(phone, f"pull?limit=100&cp={checkpoint}")) == (503, "unavailable")
        assert ask(phone, f"pull?cp={page['checkpoint']}").status_code == 200, "it has been to the end of every scope"


def test_a_snapshot_leaves_a_device_that_pulls_news(phone: Phone) -> None:
    position: str | None = None
    last: dict[str, Any] = {}
    while "checkpoint" not in last:
        last = json.loads(ask(phone, "snapshot" + (f"?after={position}" if position else "")).data.splitlines()[-1])
        position = last.get("position")
    with ExitStack() as held:
        for _ in range(FIRST):
            held.enter_context(ask(phone, "snapshot"))
        assert ask(phone, f"pull?cp={last['checkpoint']}").status_code == 200


def test_a_snapshot_ends_in_time_at_a_position_to_go_on_from(phone: Phone) -> None:
    position: str | None = None
    seen: list[str] = []
    parts = 0
    while True:
        lines = [
            json.loads(line)
            for line in ask(phone, f"snapshot?after={position}" if position else "snapshot").data.splitlines()
        ]
        seen += [line["id"] for line in lines if "op" in line]
        parts += 1
        if "checkpoint" in lines[-1]:
            break
        position = lines[-1]["position"]
    assert (
        parts > 2
        and len(seen) == len(set(seen))
        and {f"t-{number:05}" for number in range(PAGE_ROWS + 20)} <= set(seen)
    )
    phone.cp = lines[-1]["checkpoint"]
    assert phone.pull() == []


def test_a_place_comes_back_whatever_becomes_of_the_answer(phone: Phone) -> None:
    for _ in range(FIRST + 1):
        assert ask(phone, "snapshot").status_code == 200  # never read, and forgotten
        assert phone.client.head("/sync/v1/snapshot").status_code == 200
        ask(phone, "snapshot").close()
        assert len(ask(phone, "snapshot").data) > 0
        assert problem(ask(phone, "snapshot?after=unknown")) == (400, "bad-cursor")
        assert problem(ask(phone, "snapshot?colour=red")) == (422, "invalid")
        assert problem(ask(phone, "pull?limit=0")) == (422, "invalid")
    for _ in range(PULL + 1):
        assert problem(ask(phone, "pull?cp=unknown")) == (400, "bad-cursor")


def test_a_stranger_takes_no_place(app: Flask, phone: Phone) -> None:
    with ExitStack() as held:
        for _ in range(FIRST):
            held.enter_context(ask(phone, "snapshot"))
        assert problem(app.test_client().get("/sync/v1/snapshot")) == (401, "unauthenticated")


def test_the_length_of_a_pull_is_told(phone: Phone) -> None:
    answer = ask(phone, "pull")
    assert answer.headers["Content-Length"] == str(len(answer.data))


def test_a_line_on_which_nothing_moves_is_cut_in_the_end(phone: Phone) -> None:
    near, far = socket.socketpair()
    with near, far:
        phone.client.get("/sync/v1/pull", environ_overrides={"gunicorn.socket": near})
        assert near.gettimeout() == STUCK_S
