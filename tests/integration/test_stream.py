"""Hints that there is something to pull: what they say, whom they reach, when they end."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass

import pytest
from flask import Flask

from fieldsvc.api import stream
from fieldsvc.api.stream import Rhythm
from fieldsvc.base.db import db
from tests.field import Field, Phone, done, problem, repaired
from tests.processes import wait_for

QUICK = Rhythm(look_s=0.02, heartbeat_s=0.2, life_s=(30.0, 30.0))


@pytest.fixture
def field(app: Flask) -> Iterator[Field]:
    stream.init_app(app, QUICK)
    yield Field(app)
    wait_for(lambda: not streams(app).watch.at_work)  # it still looks at the database


@dataclass
class Listener:
    """An open stream, read event by event. The server keeps silent no longer than a heartbeat, so no read hangs."""

    pieces: Iterator[bytes]

    def piece(self) -> str | None:
        found = next(self.pieces, None)
        return None if found is None else found.decode()

    def hint(self) -> set[str] | None:
        """The scopes of the next hint; None when the stream ends."""
        while (piece := self.piece()) is not None:
            if piece.startswith("event: resync\ndata: "):
                scopes = json.loads(piece.removeprefix("event: resync\ndata: "))["scopes"]
                return set(scopes)
            assert piece == ":\n\n" or piece.startswith("retry: "), piece
        return None


@contextmanager
def listening(phone: Phone) -> Iterator[Listener]:
    answer = phone.client.get("/sync/v1/stream")
    with closing(answer):
        assert (answer.status_code, answer.mimetype) == (200, "text/event-stream")
        yield Listener(iter(answer.response))  # type: ignore[arg-type]


def crew_scope(phone: Phone) -> str:
    return f"crew:{phone.crew_id}"


def test_the_first_hint_comes_at_once_and_tells_when_to_come_back(field: Field) -> None:
    phone = field.phone()
    with listening(phone) as heard:
        retry = heard.piece()
        assert retry and retry.startswith("retry: ") and 1000 <= int(retry.removeprefix("retry: ")) <= 5000
        assert heard.hint() == {"ref", crew_scope(phone), f"device:{phone.id}"}, "whoever pulls now has missed nothing"


def test_a_change_by_the_office_or_another_device_is_heard_by_every_device_of_the_crew(field: Field) -> None:
    one = field.phone()
    other = field.phone(one.crew_id)
    with listening(one) as first, listening(one) as second, listening(other) as third:
        for heard in (first, second, third):
            heard.hint()
        job = field.job("repair", one.crew_id)
        assert [heard.hint() for heard in (first, second, third)] == [{crew_scope(one)}] * 3
        other.push(other.op("job.complete", job, repaired()))
        field.settle()
        assert [heard.hint() for heard in (first, second)] == [{crew_scope(one)}] * 2
        assert third.hint() == {crew_scope(one), f"device:{other.id}"}, "its outcome is its own"


def test_what_others_are_told_is_not_heard(field: Field) -> None:
    one, stranger = field.phone(), field.phone()
    with listening(one) as heard:
        heard.hint()
        field.job("repair", stranger.crew_id)
        assert [heard.piece(), heard.piece()] == [":\n\n", ":\n\n"], "heartbeats"
        field.job("repair", one.crew_id)
        assert heard.hint() == {crew_scope(one)}


def test_the_stream_of_a_revoked_a_moved_and_a_newly_enrolled_device_ends(field: Field) -> None:
    revoked, moved, again = field.phone(), field.phone(), field.phone()
    with listening(revoked) as one, listening(moved) as two, listening(again) as three:
        for heard in (one, two, three):
            heard.hint()
        done(field.office.post(f"/v1/devices/{revoked.id}/revoke"))
        for phone, crew_id in ((moved, field.crew()), (again, again.crew_id)):
            code = done(field.office.post(f"/v1/crews/{crew_id}/enrolment-codes"), 201)["code"]
            body = {"code": code, "install_id": phone.install_id}
            done(phone.client.post("/sync/v1/enrol", json=body), 201)
        assert [ended(heard) for heard in (one, two, three)] == [True] * 3
    assert problem(revoked.client.get("/sync/v1/stream")) == (403, "device-revoked")


def ended(heard: Listener) -> bool:
    """Whether the stream ends; hints before that are no fault."""
    return any(heard.piece() is None for _ in range(100))


def test_a_stream_ends_by_itself(field: Field) -> None:
    stream.init_app(field.app, Rhythm(look_s=0.02, heartbeat_s=0.05, life_s=(0.2, 0.2)))
    with listening(field.phone()) as heard:
        assert ended(heard)


def test_all_streams_end_when_the_process_is_to_stop(field: Field) -> None:
    phone = field.phone()
    with listening(phone) as heard:
        heard.hint()
        streams(field.app).watch.end()
        assert ended(heard)
    with listening(phone) as heard:
        assert ended(heard)


def streams(app: Flask) -> stream.Streams:
    found: stream.Streams = app.extensions["fieldsvc.streams"]
    return found


def test_one_more_than_there_are_places_is_told_to_come_later(field: Field) -> None:
    stream.init_app(field.app, QUICK, most=2)
    phone = field.phone()
    with listening(phone), listening(phone):
        refused = phone.client.get("/sync/v1/stream")
        assert problem(refused) == (503, "unavailable") and 10 <= int(refused.headers["Retry-After"]) <= 30
        assert done(phone.client.get("/sync/v1/pull"))["has_more"] is False, "a pull still works"
    with listening(phone), listening(phone) as heard:
        assert heard.hint()


def test_one_device_cannot_take_every_place(field: Field) -> None:
    phone, other = field.phone(), field.phone()
    with ExitStack() as opened:
        for _ in range(stream.OF_ONE):
            opened.enter_context(listening(phone))
        assert problem(phone.client.get("/sync/v1/stream")) == (503, "unavailable")
        with listening(other) as heard:
            assert heard.hint()
    with listening(phone) as heard:
        assert heard.hint(), "a place that was given back is free again"


def test_an_open_stream_holds_no_connection_and_the_last_one_ends_the_looking(field: Field) -> None:
    phone = field.phone()
    with field.app.app_context():
        pool = db.engine.pool
    with listening(phone) as one, listening(phone) as two:
        one.hint(), two.hint()
        assert streams(field.app).watch.at_work
        wait_for(lambda: pool.checkedout() == 0)  # type: ignore[attr-defined]
    wait_for(lambda: not streams(field.app).watch.at_work)
    with listening(phone) as heard:
        assert heard.hint(), "and it begins again"


def test_a_stranger_gets_no_stream(field: Field) -> None:
    assert problem(field.app.test_client().get("/sync/v1/stream")) == (401, "unauthenticated")
