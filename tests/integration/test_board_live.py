"""The board's line: what it tells of changes, whom, and that nothing is missed, whenever a transaction commits."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import func, select

from fieldsvc.api.stream import Rhythm
from fieldsvc.base.clock import format_time, utc_now
from fieldsvc.base.db import db, reading, transaction
from fieldsvc.config import Settings
from fieldsvc.console import live
from fieldsvc.history import follow
from fieldsvc.history.models import HistoryEntry
from fieldsvc.history.record import record
from fieldsvc.people import staff
from fieldsvc.people.actors import SYSTEM
from tests.browser.scene import Scene
from tests.factories import make_shift
from tests.field import Field, done
from tests.processes import wait_for
from tests.running import composed, fresh
from tests.visitor import Visitor

QUICK = Rhythm(look_s=0.02, heartbeat_s=0.2, life_s=(30.0, 30.0))


@pytest.fixture(scope="module")
def app(
    database: str,
    templates: Callable[[str], str],
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Flask]:
    """One application for the module: every test has a scene of its own, or only reads."""
    folder = tmp_path_factory.mktemp("board")
    with fresh(database, templates, request, folder) as url:
        settings = Settings(database_url=url, secret_key="a key for tests", data_dir=folder, log_level="WARNING")
        with composed(settings) as app:
            yield app


@pytest.fixture
def scene(app: Flask) -> Iterator[Scene]:
    live.init_app(app, QUICK, signs_s=0.02)
    yield Scene(Field(app))
    wait_for(lambda: not boards(app).watch.at_work)  # it still looks at the database


def boards(app: Flask) -> live.Boards:
    found: live.Boards = app.extensions["fieldsvc.boards"]
    return found


@dataclass
class Line:
    """An open line, read event by event; the service keeps silent no longer than a heartbeat."""

    pieces: Iterator[bytes]
    last_id: str | None = None

    def event(self) -> tuple[str, dict[str, Any]] | None:
        """Name and data of the next event but heartbeats; None when the line ends."""
        for piece in self.pieces:
            fields = dict(line.split(": ", 1) for line in piece.decode().strip().split("\n"))
            self.last_id = fields.get("id", self.last_id)
            if fields.get("event", "beat") != "beat":
                return fields["event"], json.loads(fields["data"])
        return None

    def jobs(self) -> set[str]:
        """The jobs of the next event that tells of any."""
        while (event := self.event()) is not None:
            assert event[0] == "changed", event
            if event[1]["jobs"]:
                return set(event[1]["jobs"])
        raise AssertionError("the line has ended")

    def silent(self) -> bool:
        """Whether it says nothing for some heartbeats."""
        said = [piece for piece in itertools.islice(self.pieces, 4) if not piece.startswith(b"retry: ")]
        return all(b"event: beat" in piece for piece in said)


@contextmanager
def listening(person: Visitor, since: str | None = None, **headers: str) -> Iterator[Line]:
    path = "/board/stream" + ("" if since is None else f"?since={since}")
    answer = person.get(path, Accept="text/event-stream", **headers)
    with closing(answer):
        assert (answer.status_code, answer.mimetype) == (200, "text/event-stream")
        yield Line(iter(answer.response))  # type: ignore[arg-type]


def cursor(person: Visitor) -> str:
    found: str = json.loads(person.get("/board/data", Accept="application/json").data)["cursor"]
    return found


def test_a_board_hears_of_its_own_territories_and_of_nothing_else(app: Flask, scene: Scene) -> None:
    other = Scene(scene.field)
    person = Visitor(app, territory_ids=[scene.territory_id])
    with listening(person, cursor(person)) as line:
        assert line.silent()
        other.job("Elsewhere")
        here = scene.job("Here")
        assert line.jobs() == {here}
        scene.phones["near"].do("job.accept", scene.jobs["given"])
        assert line.jobs() == {scene.jobs["given"]}
        tag = {"If-Match": f'"{scene.field.get(f"/v1/jobs/{here}")["rev"]}"'}
        done(scene.field.office.patch(f"/v1/jobs/{here}", json=other.at(0.5, 0.5), headers=tag))
        assert line.jobs() == {here}, "it has left, and has to go from the board"
        scene.field.cancel(here)
        assert line.silent()


def test_crews_shifts_and_signs_of_life_are_told(app: Flask, scene: Scene) -> None:
    other = Scene(scene.field)
    person = Visitor(app, territory_ids=[scene.territory_id])
    off, far, now = scene.crews["off"], scene.phones["far"], utc_now()
    with listening(person, cursor(person)) as line:
        assert line.silent()
        make_shift(app, off, now)
        assert line.event() == ("changed", {"jobs": [], "crews": [off]})
        done(far.post([], positions=[{"at": format_time(now), **scene.at(0.1, 0.1), "accuracy_m": 5}]))
        assert line.event() == ("changed", {"jobs": [], "crews": [far.crew_id]})
        phone = other.phones["far"]
        done(phone.post([], positions=[{"at": format_time(now), **other.at(0.1, 0.1), "accuracy_m": 5}]))
        make_shift(app, other.crews["off"], now)
        assert line.silent()


def test_who_was_cut_off_goes_on_where_it_was_and_who_was_away_too_long_begins_anew(app: Flask, scene: Scene) -> None:
    person = Visitor(app, territory_ids=[scene.territory_id])
    with listening(person, cursor(person)) as line:
        first = scene.job("First")
        assert line.jobs() == {first}
        last_id = str(line.last_id)
    missed = {scene.job("Missed"), scene.job("Missed too")}
    with listening(person, "0", Last_Event_ID=last_id) as line:
        assert line.jobs() == missed, "the browser knows better than the address"
        assert line.silent()
    with listening(person) as line:
        assert line.event() == ("reload", {})
        assert line.last_id == cursor(person)
    for unusable in ("99999999", "x", "-1", "9" * 30):
        with listening(person, unusable) as line:
            assert line.event() == ("reload", {}), unusable
            after = scene.job("After")
            assert line.jobs() == {after}
    count = int(cursor(person)) - int(last_id)
    for most, told in ((count, "changed"), (count - 1, "reload")):
        live.init_app(app, QUICK, most_news=most, signs_s=0.02)
        with listening(person, last_id) as line:
            assert (line.event() or ("",))[0] == told, most


def test_a_transaction_that_commits_late_is_told_all_the_same(app: Flask, scene: Scene) -> None:
    if app.extensions["fieldsvc.settings"].is_sqlite:
        pytest.skip("SQLite has one writer at a time: numbers are seen in their order")
    person = Visitor(app, territory_ids=[scene.territory_id])
    written, go_on = threading.Event(), threading.Event()
    late, soon = scene.jobs["late"], scene.jobs["soon"]

    def write_late() -> None:
        with app.app_context(), transaction() as session:
            entry(late, scene.territory_id)
            for _, finish in session.info["finishers"].values():
                finish()  # what the end of the transaction does: its number is taken now
            session.info["finishers"].clear()
            written.set()
            assert go_on.wait(20)

    writer = threading.Thread(target=write_late)
    writer.start()
    try:
        assert written.wait(20)
        with listening(person, cursor(person)) as line:
            with app.app_context(), transaction():
                entry(soon, scene.territory_id)
            assert line.jobs() == {soon}
            before = str(line.last_id)
            go_on.set()
            writer.join(20)
            assert line.jobs() == {late}
        with listening(person, before) as line:
            assert line.jobs() == {late, soon}, "where it stood then was before both"
    finally:
        go_on.set()
        writer.join(20)


def entry(job_id: str, territory_id: str) -> None:
    record(SYSTEM.source(utc_now()), "job.noted", "job", job_id, job_id=job_id, territory_id=territory_id)


def test_a_line_ends_with_its_session_and_with_what_its_account_may_see(app: Flask, scene: Scene) -> None:
    for change in ({"active": False}, {"password": "another long password"}, {"role": "auditor"}):
        person = Visitor(app, territory_ids=[scene.territory_id])
        with listening(person, cursor(person)) as line:
            assert line.silent()
            with app.app_context(), transaction():
                staff.edit(SYSTEM.source(utc_now()), person.staff_id, change)
            assert line.event() is None, change
    with listening(person, cursor(person)) as line:
        assert line.silent()
        person.post("/sign-out")
        assert line.event() is None
    refused = person.get("/board/stream", Accept="text/event-stream")
    assert refused.status_code == 401


def test_lines_are_bounded_and_who_finds_no_place_is_told_what_it_missed(app: Flask, scene: Scene) -> None:
    live.init_app(app, QUICK, most=live.OF_ONE + 1, signs_s=0.02)
    one, two, three = (Visitor(app, territory_ids=[scene.territory_id]) for _ in range(3))
    since = cursor(one)
    missed = scene.job("Missed")

    def is_refused(person: Visitor) -> bool:
        with listening(person, since) as line:
            assert line.event() == ("changed", {"jobs": [missed], "crews": []})
            return line.event() == ("full", {}) and line.event() is None

    with ExitStack() as stack:
        lines = [stack.enter_context(listening(one, since)) for _ in range(live.OF_ONE)]
        assert is_refused(one), "one person has no more"
        other = stack.enter_context(listening(two, since))
        assert other.jobs() == {missed} and lines[-1].jobs() == {missed}
        assert is_refused(three), "and all together have no more"
    with listening(three, since) as line:
        assert line.jobs() == {missed} and line.silent(), "places are given back"


def test_all_lines_end_when_the_process_is_to_stop(app: Flask, scene: Scene) -> None:
    person = Visitor(app, territory_ids=[scene.territory_id])
    with listening(person, cursor(person)) as line:
        assert line.silent()
        boards(app).watch.end()
        assert line.event() is None


def test_the_beginning_is_before_the_first_number_that_is_missing(app: Flask, scene: Scene) -> None:
    """A number that never comes is waited for, but not for ever. The last test here: it leaves such a gap behind."""
    with app.app_context():
        with reading():
            whole = follow.newest()
        with transaction():
            last = db.session.scalar(select(func.max(HistoryEntry.seq)))
            assert last == whole
            facts = {"recorded_at": utc_now(), "actor_kind": "system", "action": "x", "entity": "x", "entity_id": "x"}
            db.session.add(HistoryEntry(seq=last + 2, **facts))
        with reading():
            assert follow.newest() == last
            reader, now = follow.Follower(last), utc_now()
            assert [row.seq for row in reader.read(now, 10) or ()] == [last + 2]
            assert reader.settled == last
            assert reader.read(now, 10) == []
            assert reader.read(now + follow.PATIENCE, 10) == []
            assert reader.settled == last + 2
