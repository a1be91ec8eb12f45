"""The feed forgets what has gone after a time: what stays, who is told to begin anew, and what can still be asked."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import func, select

from fieldsvc.base.clock import utc_now
from fieldsvc.base.db import at_end, db, reading, transaction
from fieldsvc.feed import horizon, publish
from fieldsvc.feed.models import SyncDoc, SyncFeed, SyncMark
from fieldsvc.queue import ring
from tests.field import Field, Phone, done, exchange, repaired
from tests.processes import wait_for

DAYS = timedelta(days=90)


@pytest.fixture
def field(app: Flask, drain: Callable[[], None]) -> Field:
    return Field(app, drain)


def pass_time(field: Field, days: float, hours: float = 0) -> int:
    """What the sweep does with the feed that long after now; answers how many rows were forgotten."""
    now = utc_now() + timedelta(days=days, hours=hours)
    with field.app.app_context():
        with transaction():
            horizon.move(now, DAYS)
        with transaction():
            return horizon.forget(now)


def grow_old(field: Field) -> int:
    """Everything there is now is behind the horizon, and forgotten."""
    pass_time(field, 0)
    pass_time(field, 90.01)
    return pass_time(field, 90.01, 1.01)


def rows(app: Flask, table: type[Any] = SyncFeed, **wanted: str) -> int:
    with app.app_context(), reading():
        return db.session.scalar(select(func.count()).select_from(table).filter_by(**wanted)) or 0


def pull(phone: Phone, limit: int = 500, cp: str | None = None) -> dict[str, Any]:
    """One page from the phone's checkpoint, which is not moved."""
    at = cp or phone.cp
    return done(phone.client.get(f"/sync/v1/pull?limit={limit}" + (f"&cp={at}" if at else "")))


def snapshot(phone: Phone) -> set[tuple[str, str]]:
    """Take the copy anew; what it holds beside outcomes."""
    lines = [json.loads(line) for line in phone.client.get("/sync/v1/snapshot").data.splitlines()]
    phone.cp = lines[-1]["checkpoint"]
    return {(line["entity"], line["id"]) for line in lines if "op" in line and line["entity"] != "outcome"}


def test_on_both_sides_of_the_horizon(field: Field) -> None:
    away = field.phone()
    there = field.phone(away.crew_id)
    job, kept = field.job("repair", away.crew_id), field.job("repair", away.crew_id)
    away.pull()
    field.unassign(job)
    there.pull()
    pass_time(field, 0)
    pass_time(field, 89.9)
    pass_time(field, 89.9, 2)
    (left,) = pull(away)["changes"]
    assert (left["op"], left["id"], left["reason"]) == ("leave", job, "unassigned")
    pass_time(field, 90.01)
    page = pull(away)
    assert page["reset"] is True and page["changes"] == [] and page["has_more"] is True
    assert rows(field.app, op="leave") == 1, "whoever has asked before is still answered"
    assert pass_time(field, 90.01, 0.9) == 0
    assert pass_time(field, 90.01, 1.01) == 1 and rows(field.app, op="leave") == 0
    page = pull(there)
    assert (page["changes"], page.get("reset"), page["has_more"]) == ([], None, False), "it was told in time"
    assert ("job", kept) in snapshot(away) and ("job", job) not in snapshot(away)
    assert pull(away)["changes"] == []
    there.pull()
    assert {("job", one) for one in there.holds("job")} == {("job", kept)}


def test_a_device_without_a_copy_needs_no_reset(field: Field) -> None:
    phone = field.phone()
    for _ in range(2):
        field.unassign(field.job("repair", phone.crew_id))
    job = field.job("repair", phone.crew_id)
    assert grow_old(field) == 2
    phone.pull()
    assert phone.holds("job") == {job}
    old = pull(phone, cp=pull(field.phone(phone.crew_id))["checkpoint"])
    assert "reset" in old, "a checkpoint of another device"


def test_a_first_pull_in_many_pages_across_the_horizon_ends(field: Field) -> None:
    phone = field.phone()
    jobs = [field.job("repair", phone.crew_id) for _ in range(4)]
    for _ in range(3):
        field.unassign(field.job("repair", phone.crew_id))
    grow_old(field)
    held = {change["id"] for change in phone.pull(limit=1) if change["entity"] == "job"}
    assert held == set(jobs)


def test_a_first_pull_that_takes_longer_than_the_feed_remembers_begins_anew(field: Field) -> None:
    phone = field.phone()
    jobs = [field.job("repair", phone.crew_id) for _ in range(3)]
    page = pull(phone, limit=3)
    assert jobs[0] in {change["id"] for change in page["changes"]} and page["has_more"]
    field.unassign(jobs[0])
    grow_old(field)
    again = pull(phone, cp=page["checkpoint"])
    assert again["reset"] is True
    phone.cp = again["checkpoint"]
    phone.pull()
    assert phone.holds("job") == set(jobs[1:])


def test_a_forgotten_outcome_can_still_be_asked_for(field: Field) -> None:
    phone = field.phone()
    job = field.job("repair", phone.crew_id)
    phone.pull()
    first, pending = phone.op("job.complete", job, repaired()), phone.op("note.add", job, {"text": "pending"})
    phone.push(first)
    field.drain()
    was = done(phone.client.get(f"/sync/v1/ops?ids={first['op_id']}"))["results"]
    grow_old(field)
    assert rows(field.app, entity="outcome") == rows(field.app, SyncDoc, entity="outcome") == 0
    assert pull(phone)["reset"] is True
    snapshot(phone)
    (told,) = done(phone.client.get(f"/sync/v1/ops?ids={first['op_id']}"))["results"]
    assert [told] == was and told["status"] == "applied" and told["outcome"]["receipt"]
    assert done(phone.post([first]))["results"][0]["outcome"] == told["outcome"], "a duplicate as well"
    phone.push(pending)
    field.drain()
    assert [change["id"] for change in pull(phone)["changes"] if change["entity"] == "outcome"] == [pending["op_id"]]


def test_a_decision_after_the_outcome_was_forgotten_is_told(field: Field) -> None:
    phone, place = field.phone(), field.place()
    job = field.job("meter_change", phone.crew_id, place)
    op = phone.op("meter.exchange", job, exchange("not on record", "NEW-1"))
    assert phone.send(op) == ["parked"]
    grow_old(field)
    (review,) = field.reviews(job=job)
    field.resolve(review["id"], "dismiss")
    phone.pull()
    assert phone.outcome(op) == "resolved"


def test_what_is_held_stays_however_old_and_the_manifest_agrees(field: Field) -> None:
    phone = field.phone()
    job, gone = field.job("repair", phone.crew_id), field.job("repair", phone.crew_id)
    phone.do("note.add", job, {"text": "seen"})
    field.unassign(gone)
    phone.pull()
    before = phone.copy
    assert grow_old(field) == 2
    body = {"scopes": {f"device:{phone.id}": {"count": 0, "checksum": "0" * 64, "rows": []}}}
    answer = done(phone.client.post("/sync/v1/manifest", json=body))
    assert answer["scopes"][f"device:{phone.id}"]["count"] == 0, "the scope has no outcome any more"
    assert snapshot(phone) == set(before)


def test_a_document_is_kept_while_anybody_is_shown_it(field: Field) -> None:
    with field.app.app_context():
        with transaction():
            publish.put(["crew:1", "crew:2"], "thing", "a", 1, {"n": 1})
            publish.put(["crew:1"], "thing", "b", 1, {"n": 2})
        with transaction():
            publish.leave("crew:1", "thing", "a", 1, "reassigned")
            publish.delete(["crew:1"], "thing", "b", 2)
    assert grow_old(field) == 2
    assert rows(field.app, SyncDoc, entity_id="a") == 1 and rows(field.app, SyncDoc, entity_id="b") == 0
    assert rows(field.app, scope="crew:1") == 0 and rows(field.app, scope="crew:2") == 1


def test_what_came_back_is_not_forgotten(field: Field) -> None:
    phone = field.phone()
    job = field.job("repair", phone.crew_id)
    phone.pull()
    field.unassign(job)
    pass_time(field, 0)
    pass_time(field, 90.01)
    field.assign(job, phone.crew_id)
    assert pass_time(field, 90.01, 1.01) == 0
    assert ("job", job) in snapshot(phone)


def test_it_is_done_in_bounded_parts(field: Field) -> None:
    count = horizon.ROWS + 5
    with field.app.app_context():
        with transaction():
            for number in range(count):
                publish.put(["crew:1"], "thing", f"t-{number}", 1, {})
        with transaction():
            for number in range(count):
                publish.leave("crew:1", "thing", f"t-{number}", 1, "closed")
    pass_time(field, 0)
    pass_time(field, 91)
    assert [pass_time(field, 91, 2) for _ in range(3)] == [horizon.ROWS, 5, 0]
    assert rows(field.app, entity="thing") == rows(field.app, SyncDoc, entity="thing") == 0


def test_a_scope_is_marked_once_a_day_and_only_when_something_was_told(field: Field) -> None:
    phone = field.phone()
    field.job("repair", phone.crew_id)
    for hours in (0, 1, 23):
        pass_time(field, 0, hours)
    scope = f"crew:{phone.crew_id}"
    assert rows(field.app, SyncMark, scope=scope) == 1
    pass_time(field, 1.1)
    assert rows(field.app, SyncMark, scope=scope) == 1, "nothing new"
    field.job("repair", phone.crew_id)
    pass_time(field, 1.2)
    assert rows(field.app, SyncMark, scope=scope) == 2


def test_the_sweep_does_it(field: Field, drain: Callable[[], None]) -> None:
    phone = field.phone()
    field.job("repair", phone.crew_id)
    with field.app.app_context():
        ring("sweep")
    drain()
    assert rows(field.app, SyncMark, scope=f"crew:{phone.crew_id}") == 1


def rxdb(phone: Phone, token: str | None = None, limit: int = 500) -> dict[str, Any]:
    query = {"limit": limit} | ({"checkpoint": token} if token else {})
    return done(phone.client.get("/sync/v1/compat/rxdb/jobs/pull", query_string=query))


def test_rxdb_is_told_everything_anew_once_the_feed_has_forgotten(field: Field) -> None:
    phone = field.phone()
    job, gone = field.job("repair", phone.crew_id), field.job("repair", phone.crew_id)
    behind = rxdb(phone)["checkpoint"]["token"]
    field.unassign(gone)
    in_time = rxdb(phone)["checkpoint"]["token"]
    grow_old(field)
    told = rxdb(phone, behind)
    assert [document["id"] for document in told["documents"]] == [job] and told["reset"] is True
    assert rxdb(phone, in_time)["documents"] == []
    token, found = None, []
    for _ in range(2):  # a first sync in small pages, all of them behind the horizon
        page = rxdb(phone, token, limit=1)
        token = page["checkpoint"]["token"]
        found += [document["id"] for document in page["documents"]]
    assert found == [job]


def test_watermelon_is_told_everything_anew_once_the_feed_has_forgotten(field: Field) -> None:
    phone = field.phone()
    job, gone = field.job("repair", phone.crew_id), field.job("repair", phone.crew_id)

    def tables(last: int | None) -> dict[str, Any]:
        query = {"last_pulled_at": last} if last else {}
        return done(phone.client.get("/sync/v1/compat/watermelon/pull", query_string=query))

    behind = tables(None)["timestamp"]
    field.unassign(gone)
    in_time = tables(behind)["timestamp"]
    grow_old(field)
    told = tables(behind)
    assert [row["id"] for row in told["changes"]["jobs"]["updated"]] == [job] and told["reset"] is True
    assert tables(in_time)["changes"]["jobs"]["updated"] == []


def test_forgetting_while_others_write_stops_nobody_and_takes_no_document_that_is_shown(field: Field) -> None:
    scopes = [f"crew:{number}" for number in range(3)]

    def write(writer: int) -> None:
        chance = random.Random(writer)
        with field.app.app_context():
            for rev in range(1, 60):
                with transaction():
                    for name in chance.sample("abcdef", 3):
                        scope = chance.choice(scopes)
                        if chance.random() < 0.5:
                            publish.put([scope], "thing", name, rev, {"rev": rev})
                        else:
                            publish.leave(scope, "thing", name, rev, "reassigned")
                db.session.remove()

    with ThreadPoolExecutor(3) as pool:
        writing = [pool.submit(write, writer) for writer in range(3)]
        days, forgotten, last = 0.0, 0, False
        while not last:
            last = all(one.done() for one in writing)  # once more after them, however fast they were
            days += 100  # marked, moved and forgotten at once, as if no time were needed
            pass_time(field, days)
            pass_time(field, days + 91)
            forgotten += pass_time(field, days + 91, 1.01)
        for one in writing:
            one.result()
    assert forgotten > 0
    with field.app.app_context(), reading():
        shown = select(SyncFeed.scope, SyncFeed.entity_id).where(SyncFeed.op == "put", SyncFeed.entity == "thing")
        without = shown.outerjoin(SyncDoc, SyncDoc.entity_id == SyncFeed.entity_id).where(SyncDoc.entity_id.is_(None))
        assert db.session.execute(shown).all() and db.session.execute(without).all() == []


def test_a_document_that_is_being_shown_again_at_that_moment_stays(field: Field) -> None:
    with field.app.app_context():
        with transaction():
            publish.put(["crew:1"], "thing", "a", 1, {"n": 1})
        with transaction():
            publish.leave("crew:1", "thing", "a", 1, "reassigned")
        dialect = db.engine.dialect.name
    pass_time(field, 0)
    pass_time(field, 91)

    def waits() -> bool:
        with field.app.app_context(), db.engine.connect() as connection:
            waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
            return dialect == "sqlite" or connection.exec_driver_sql(waiting).first() is not None

    with ThreadPoolExecutor(1) as pool:
        forgetting: list[Future[int]] = []

        def meanwhile() -> None:
            """All is written, nothing is committed."""
            forgetting.append(pool.submit(pass_time, field, 91, 2))
            wait_for(waits)

        with field.app.app_context(), transaction():
            publish.put(["crew:2"], "thing", "a", 2, {"n": 2})
            at_end("meanwhile", meanwhile, last=True)
        assert forgetting[0].result() == 1
    assert rows(field.app, SyncDoc, entity_id="a") == 1 and rows(field.app, scope="crew:2") == 1
