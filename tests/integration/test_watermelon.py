"""WatermelonDB's pull and push, through the door: stamps, what is told, what is refused, limits."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from flask import Flask

from fieldsvc.base.clock import new_id
from fieldsvc.base.db import db, transaction
from fieldsvc.feed import publish
from fieldsvc.sync.models import WatermelonPull
from tests.field import Field, Phone, done, problem

Rows = dict[str, dict[str, Any]]


@pytest.fixture
def field(app: Flask) -> Field:
    return Field(app)


class Melon:
    """What synchronize() does, as far as the wire goes: pull, take over, push."""

    def __init__(self, phone: Phone) -> None:
        self.phone, self.field = phone, phone.field
        self.stamp: int | None = None
        self.tables: dict[str, Rows] = {}

    def get(self, last: Any = "as known", **query: Any) -> Any:
        last = self.stamp if last == "as known" else last
        query = {"last_pulled_at": "null" if last is None else last} | query
        words = "&".join(f"{name}={value}" for name, value in query.items())
        return self.phone.client.get(f"/sync/v1/compat/watermelon/pull?{words}")

    def pull(self, **query: Any) -> dict[str, Any]:
        told = done(self.get(**query))
        self.stamp = told["timestamp"]
        if told.get("reset"):
            self.tables = {}
        for table, changes in told["changes"].items():
            assert changes["created"] == changes["deleted"] == []
            rows = self.tables.setdefault(table, {})
            for row in changes["updated"]:
                rows[row["id"]] = rows.get(row["id"], {}) | row
        return told

    def post(self, changes: Any, last: Any = "as known", **query: Any) -> Any:
        last = self.stamp if last == "as known" else last
        words = "&".join(f"{name}={value}" for name, value in ({"last_pulled_at": last} | query).items())
        return self.phone.client.post(f"/sync/v1/compat/watermelon/push?{words}", json=changes)

    def push(self, **tables: Any) -> dict[str, list[str]]:
        rejected: dict[str, list[str]] = done(self.post(tables))["experimentalRejectedIds"]
        self.field.drain()
        return rejected

    def row(self, table: str, row_id: str) -> dict[str, Any]:
        return self.tables[table][row_id]

    def edited(self, table: str, row_id: str, at: str | None = None, **values: Any) -> dict[str, Any]:
        """The row as it would be pushed after an edit of what was pulled last."""
        row = self.row(table, row_id)
        at = at or self.field.tick().isoformat()
        seen = {name: {"was": row[name], "rev": row["rev"], "at": at} for name in values}
        status = {"_status": "updated", "_changed": ",".join([*values, "seen"])}
        return row | values | status | {"seen": json.dumps(seen)}

    def outcomes(self) -> list[str]:
        return sorted(row["outcome"] for row in self.tables["outcomes"].values())


@pytest.fixture
def melon(field: Field) -> Melon:
    return Melon(field.phone())


def changed(*rows: Any, **more: Any) -> dict[str, Any]:
    return {"created": [], "updated": list(rows), "deleted": []} | more


def operation(kind: str, entity_id: str, payload: Any = None, **columns: Any) -> dict[str, Any]:
    return {
        "id": new_id(),
        "kind": kind,
        "entity": "job",
        "entity_id": entity_id,
        "occurred_at": "2026-01-01T10:00:00Z",
        "payload": json.dumps(payload or {}),
        "_status": "created",
        "_changed": "",
    } | columns


def test_a_first_pull_tells_everything_and_the_next_one_what_changed(field: Field, melon: Melon) -> None:
    place = field.place()
    job = field.job(crew=melon.phone.crew_id, place=place, tags=["dog"])
    told = melon.pull()
    assert told["reset"] is True
    row = melon.row("jobs", job)
    assert row["tags"] == '["dog"]' and row["gone"] is None and row["seen"] is None and row["rev"] >= 1
    assert all(value is None or isinstance(value, str | int | float | bool) for value in row.values())
    assert set(melon.tables["customers"]) == {place.customer_id}
    assert set(melon.tables["usage_points"]) == {place.usage_point_id}
    assert set(melon.tables["meters"]) == {place.meter_id}
    first = melon.stamp
    told = melon.pull()
    assert told["timestamp"] == first and "reset" not in told, "nothing has happened"
    assert not any(changes["updated"] for changes in told["changes"].values())
    other = field.job(crew=melon.phone.crew_id)
    told = melon.pull()
    assert [row["id"] for row in told["changes"]["jobs"]["updated"]] == [other]
    assert told["timestamp"] > (first or 0)


def test_an_answer_that_was_lost_is_given_again(field: Field, melon: Melon) -> None:
    melon.pull()
    job = field.job(crew=melon.phone.crew_id)
    stamps = {done(melon.get())["timestamp"] for _ in range(30)}
    assert len(stamps) == 30
    assert job not in melon.tables["jobs"]
    told = melon.pull()
    assert "reset" not in told and job in melon.tables["jobs"]


def test_a_stamp_of_nobody_gets_everything(field: Field, melon: Melon) -> None:
    job = field.job(crew=melon.phone.crew_id)
    melon.pull()
    stamp = melon.stamp
    for last in (1, 2**53, "null"):
        told = done(melon.get(last=last))
        assert told["reset"] is True and [row["id"] for row in told["changes"]["jobs"]["updated"]] == [job]
    told = done(melon.get(last=stamp, migration='{"from":1,"tables":["meters"],"columns":[]}'))
    assert told["reset"] is True
    stranger = Melon(field.phone())
    assert done(stranger.get(last=stamp))["reset"] is True, "another device's stamp"


def test_what_was_taken_away_is_told_as_gone_and_comes_back(field: Field, melon: Melon) -> None:
    place = field.place()
    job = field.job(crew=melon.phone.crew_id, place=place)
    melon.pull()
    field.unassign(job)
    told = melon.pull()
    assert told["changes"]["jobs"]["updated"] == [{"id": job, "gone": "unassigned"}], "nothing else of it"
    assert melon.row("customers", place.customer_id)["gone"] == "unassigned"
    assert melon.row("meters", place.meter_id)["gone"] == "unassigned"
    field.assign(job, melon.phone.crew_id)
    melon.pull()
    assert melon.row("jobs", job)["gone"] is None and melon.row("customers", place.customer_id)["gone"] is None
    field.unassign(job)
    assert done(melon.get(last=None))["changes"]["jobs"]["updated"] == [], "a first sync has nothing to forget"


def test_an_edit_is_merged_and_the_same_push_changes_nothing(field: Field, melon: Melon) -> None:
    place = field.place()
    job = field.job(crew=melon.phone.crew_id, place=place)
    melon.pull()
    push = {
        "jobs": changed(melon.edited("jobs", job, access_note="ring twice", tags='["dog"]')),
        "customers": changed(melon.edited("customers", place.customer_id, phone="555")),
        "operations": changed(created=[operation("job.arrive", job)]),
    }
    assert melon.push(**push) == {}
    assert melon.push(**push) == {}
    melon.pull()
    row = melon.row("jobs", job)
    assert (row["access_note"], row["tags"], row["status"]) == ("ring twice", '["dog"]', "on_site")
    assert melon.row("customers", place.customer_id)["phone"] == "555"
    assert melon.outcomes() == ["applied"] * 3


def test_two_edits_of_one_row_are_two_when_made_at_two_times(field: Field, melon: Melon) -> None:
    job = field.job(crew=melon.phone.crew_id)
    melon.pull()
    row = melon.edited("jobs", job, access_note="ring twice", contact_phone="555")
    seen = json.loads(row["seen"])
    seen["contact_phone"]["at"] = field.tick().isoformat()
    row["seen"] = json.dumps(seen)
    assert melon.push(jobs=changed(row)) == {}
    melon.pull()
    assert melon.outcomes() == ["applied", "applied"]


def test_what_the_crew_had_seen_decides_not_what_was_pulled_meanwhile(field: Field, melon: Melon) -> None:
    """WatermelonDB pulls first: the row that is pushed has the office's new revision, with the crew's own value."""
    job = field.job(crew=melon.phone.crew_id)
    melon.pull()
    mine = melon.edited("jobs", job, access_note="by the mill", contact_phone="555")
    rev = field.get(f"/v1/jobs/{job}")["rev"]
    new = {"access_note": "by the bridge"}
    done(field.office.patch(f"/v1/jobs/{job}", json=new, headers={"If-Match": f'"{rev}"'}))
    melon.pull()
    pushed = melon.row("jobs", job) | {name: mine[name] for name in ("contact_phone", "access_note", "seen")}
    assert melon.push(jobs=changed(pushed | {"_status": "updated", "_changed": mine["_changed"]})) == {}
    melon.pull()
    row = melon.row("jobs", job)
    assert (row["access_note"], row["contact_phone"]) == ("by the bridge", "555"), "the later note stands"
    assert melon.outcomes() == ["applied_conflict"]
    [review] = field.reviews()
    assert [(one["field"], one["device"]) for one in review["conflicts"]] == [("access_note", "by the mill")]


def test_an_edit_without_what_was_seen_never_wins_unseen(field: Field, melon: Melon) -> None:
    job = field.job(crew=melon.phone.crew_id)
    melon.pull()
    rev = field.get(f"/v1/jobs/{job}")["rev"]
    done(field.office.patch(f"/v1/jobs/{job}", json={"title": "Pole 7"}, headers={"If-Match": f'"{rev}"'}))
    melon.pull()
    row = melon.row("jobs", job) | {"title": "Pole 8", "_status": "updated", "_changed": "title"}
    assert melon.push(jobs=changed(row)) == {}
    melon.pull()
    assert melon.row("jobs", job)["title"] == "Pole 7"
    assert melon.outcomes() == ["applied_conflict"]


def test_a_decided_edit_that_is_sent_again_brings_the_record_back(field: Field, melon: Melon) -> None:
    """The answer was lost and the outcome was pulled before the push was repeated, while the row was still changed."""
    job = field.job(crew=melon.phone.crew_id)
    melon.pull()
    field.unassign(job)
    field.assign(job, melon.phone.crew_id)
    rev = field.get(f"/v1/jobs/{job}")["rev"]
    done(field.office.patch(f"/v1/jobs/{job}", json={"title": "Pole 7"}, headers={"If-Match": f'"{rev}"'}))
    row = melon.edited("jobs", job, title="Pole 8")
    melon.push(jobs=changed(row))
    melon.pull()
    assert melon.push(jobs=changed(row)) == {}
    told = done(melon.get())
    assert [one["title"] for one in told["changes"]["jobs"]["updated"]] == ["Pole 7"]
    again = done(melon.get())
    assert again["changes"] == told["changes"], "the answer may be lost"
    melon.pull()
    assert melon.pull()["changes"]["jobs"]["updated"] == [], "once is enough"


def test_what_can_never_be_taken_is_refused_beside_what_can(field: Field, melon: Melon) -> None:
    place = field.place()
    job = field.job(crew=melon.phone.crew_id, place=place)
    melon.pull()
    good, bad = operation("job.arrive", job), operation("job.start", job, occurred_at="yesterday")
    text = operation("note.add", job) | {"payload": "not JSON"}
    push = {
        "operations": changed(created=[bad, good, text], deleted=["0192-old"]),
        "jobs": changed(melon.edited("jobs", job, status="closed", access_note="ring twice"), deleted=[job]),
        "meters": changed(melon.edited("meters", place.meter_id, digits=9), created=[{"id": "a-meter"}]),
        "drafts": changed(created=[{"id": "mine", "_status": "created"}]),
    }
    rejected = melon.push(**push)
    assert rejected == {
        "operations": [bad["id"], text["id"], "0192-old"],
        "jobs": [job],
        "meters": ["a-meter", place.meter_id],
        "drafts": ["mine"],
    }
    assert melon.push(**push) == rejected
    melon.pull()
    told = melon.tables["outcomes"]
    assert told[good["id"]]["outcome"] == "applied"
    assert melon.row("jobs", job)["access_note"] == "ring twice" and melon.row("jobs", job)["status"] == "on_site"
    refused = [row for row in told.values() if row["outcome"] == "rejected"]
    assert len(refused) == 8 and all(row["reason"] in ("bad_payload", "unknown_entity") for row in refused)
    [status] = [row for row in refused if row["kind"] == "job.update"]
    assert "is not a field that a crew may edit" in status["errors"]


def test_half_a_surrogate_pair_costs_its_row_alone(field: Field, melon: Melon) -> None:
    job = field.job(crew=melon.phone.crew_id)
    melon.pull()
    bad = operation("note.add", job, payload='{"text": "HALF"}')
    good = operation("job.arrive", job)
    body = json.dumps({"operations": changed(created=[bad, good])}).replace("HALF", "\\ud800")
    path = f"/sync/v1/compat/watermelon/push?last_pulled_at={melon.stamp}"
    answer = done(melon.phone.client.post(path, data=body, content_type="application/json"))
    assert answer["experimentalRejectedIds"] == {"operations": [bad["id"]]}
    field.drain()
    melon.pull()
    assert melon.tables["outcomes"][good["id"]]["outcome"] == "applied"


@pytest.mark.parametrize("levels", [60, 300, 900])
def test_what_is_nested_too_deeply_costs_its_row_alone(field: Field, melon: Melon, levels: int) -> None:
    job, other = field.job(crew=melon.phone.crew_id), field.job(crew=melon.phone.crew_id)
    melon.pull()
    deep = "[" * levels + "]" * levels
    bad, good = operation("note.add", job, payload=deep), operation("job.arrive", job)
    seen = {"access_note": {"was": None, "rev": "DEEP", "at": "2026-01-01T10:00:00Z"}}
    edit = {"id": other, "_changed": "access_note", "access_note": "DEEP", "seen": seen}
    whole = {
        "operations": changed(created=[bad, good]),
        "jobs": changed(updated=[edit]),
        "meters": changed(updated=[{"id": "m", "digits": "DEEP"}]),
    }
    body = json.dumps(whole).replace('"DEEP"', deep)
    path = f"/sync/v1/compat/watermelon/push?last_pulled_at={melon.stamp}"
    answer = done(melon.phone.client.post(path, data=body, content_type="application/json"))
    assert answer["experimentalRejectedIds"]["meters"] == ["m"]
    field.drain()
    melon.pull()
    outcomes = {name: row["outcome"] for name, row in melon.tables["outcomes"].items()}
    assert (outcomes[good["id"]], outcomes[bad["id"]]) == ("applied", "rejected")
    assert melon.row("jobs", other)["access_note"] is None


def test_operations_are_done_in_the_order_in_which_the_app_counted_them(field: Field, melon: Melon) -> None:
    job = field.job(crew=melon.phone.crew_id)
    melon.pull()
    kinds = ["job.accept", "job.enroute", "job.arrive", "job.start"]
    rows = [operation(kind, job, n=n, occurred_at=f"2026-01-0{9 - n}T10:00:00Z") for n, kind in enumerate(kinds)]
    assert melon.push(operations=changed(created=rows[::-1])) == {}
    melon.pull()
    assert melon.outcomes() == ["applied"] * 4
    assert melon.row("jobs", job)["status"] == "in_progress"


def test_an_edit_on_a_job_taken_away_reaches_us(field: Field, melon: Melon) -> None:
    job = field.job(crew=melon.phone.crew_id)
    melon.pull()
    row = melon.edited("jobs", job, access_note="ring twice")
    field.assign(job, field.crew())
    assert melon.push(jobs=changed(row)) == {}
    melon.pull()
    assert melon.outcomes() == ["parked"]
    assert field.reviews()[0]["proposed"]["set"] == {"access_note": "ring twice"}
    assert melon.row("jobs", job)["gone"] == "reassigned"


def test_a_moved_device_starts_anew_and_what_it_still_sends_is_judged(field: Field, melon: Melon) -> None:
    job = field.job(crew=melon.phone.crew_id)
    melon.pull()
    row, stamp = melon.edited("jobs", job, access_note="ring twice"), melon.stamp
    code = done(field.office.post(f"/v1/crews/{field.crew()}/enrolment-codes"), 201)["code"]
    body = {"code": code, "install_id": melon.phone.install_id}
    given = done(melon.phone.client.post("/sync/v1/enrol", json=body), 201)
    melon.phone.client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {given['token']}"
    told = melon.pull()
    assert told["reset"] is True and told["changes"]["jobs"]["updated"] == []
    melon.stamp = stamp
    assert melon.push(jobs=changed(row)) == {}
    melon.stamp = told["timestamp"]
    melon.pull()
    assert len(melon.outcomes()) == 1
    assert melon.row("jobs", job)["gone"] == "not_held", "what it still shows of that is to be hidden"


def test_ten_thousand_rows_come_in_one_answer(field: Field, melon: Melon) -> None:
    fill(field.app, melon.phone.crew_id, 10_000)
    told = melon.pull()
    assert len(told["changes"]["jobs"]["updated"]) == 10_000
    answer = melon.phone.client.get(
        "/sync/v1/compat/watermelon/pull?last_pulled_at=null", headers={"Accept-Encoding": "gzip"}
    )
    assert json.loads(gzip.decompress(answer.data))["changes"] == told["changes"]


def test_pulls_while_others_commit_miss_nothing(field: Field, melon: Melon) -> None:
    scope, device = f"crew:{melon.phone.crew_id}", f"device:{melon.phone.id}"
    last: dict[str, tuple[int, bool]] = {}

    def write(writer: int) -> None:
        chance = random.Random(writer)
        with field.app.app_context():
            for rev in range(1, 41):
                held, left = f"{writer}-{chance.randrange(12)}", f"{writer}-{chance.randrange(12, 20)}"
                with transaction():
                    publish.put([scope], "job", held, rev, {"id": held, "rev": rev})
                    if left in last and last[left][1]:
                        publish.leave(scope, "job", left, rev, "reassigned")
                    else:
                        publish.put([scope], "job", left, rev, {"id": left, "rev": rev})
                    op_id = f"o-{writer}-{rev}"
                    outcome = {"op_id": op_id, "entity": "job", "entity_id": held, "rev": rev}
                    publish.put([device], "outcome", op_id, 1, outcome)
                last[left] = (rev, not (left in last and last[left][1]))
                last[held] = (rev, True)
                db.session.remove()

    with ThreadPoolExecutor(4) as pool:
        writing = [pool.submit(write, writer) for writer in range(4)]
        pulls = 0
        while not all(one.done() for one in writing):
            melon.pull()
            for told in melon.tables["outcomes"].values():
                assert melon.row("jobs", told["entity_id"])["rev"] >= told["rev"], "the outcome, but not the change"
            pulls += 1
        for one in writing:
            one.result()
    melon.pull()
    assert pulls, "nothing was pulled while others wrote"
    assert len(melon.tables["outcomes"]) == 4 * 40
    jobs = melon.tables["jobs"]
    shown = {job for job, row in jobs.items() if row["gone"] is None}
    assert shown == {job for job, (_, held) in last.items() if held}
    assert all(jobs[job]["rev"] == rev for job, (rev, held) in last.items() if held)


def fill(app: Flask, crew_id: str, many: int) -> None:
    with app.app_context(), transaction():
        for n in range(many):
            job = f"j-{n:05}"
            doc = {"id": job, "number": f"N-{n}", "title": f"Lamp {n}", "rev": 1, "notes": []}
            publish.put([f"crew:{crew_id}"], "job", job, 1, doc)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("[]", (422, "invalid")),
        ('{"jobs": []}', (422, "invalid")),
        ('{"jobs": {"updated": [{"title": "x"}]}}', (422, "invalid")),
        ('{"jobs": {"deleted": [""]}}', (422, "invalid")),
        ('{"": {"deleted": []}}', (422, "invalid")),
        ('{"jobs": ', (400, "bad-request")),
        ('{"jobs": {"created": [{"id": "a", "x": ' + "[" * 10_000, (400, "bad-request")),
        ('{"jobs": "\\ud800"}', (400, "bad-request")),
        ('{"jobs": {"updated": ["\\ud800"]}}', (400, "bad-request")),
        ('{"\\ud800": {"created": [{"id": "a"}]}}', (400, "bad-request")),
        ("{}", (200, "")),
        ('{"jobs": {}}', (200, "")),
    ],
)
def test_a_push_that_cannot_be_read(melon: Melon, body: str, expected: tuple[int, str]) -> None:
    answer = melon.phone.client.post(
        "/sync/v1/compat/watermelon/push?last_pulled_at=1", data=body, content_type="application/json"
    )
    assert (answer.status_code, "") == expected if expected[0] == 200 else problem(answer) == expected


def test_the_limits_of_a_push(field: Field, melon: Melon) -> None:
    job = field.job(crew=melon.phone.crew_id)
    melon.pull()
    rows = [operation("note.add", job, {"text": "x"}) for _ in range(201)]
    answer = melon.post({"operations": changed(created=rows)})
    assert problem(answer) == (413, "too-large") and answer.json["limit"] == 200
    assert melon.post({"operations": changed(created=rows[:200])}).status_code == 200
    room = 1024 * 1024 - len(json.dumps({"drafts": changed(created=[{"id": "a", "x": ""}])}))
    assert problem(melon.post({"drafts": changed(created=[{"id": "a", "x": "x" * (room + 1)}])}))[0] == 413
    assert melon.post({"drafts": changed(created=[{"id": "a", "x": "x" * room}])}).status_code == 200


@pytest.mark.parametrize("query", ["last_pulled_at=-1", "last_pulled_at=x", "schema_version=x", "wrong=1"])
def test_a_pull_with_a_wrong_query(melon: Melon, query: str) -> None:
    assert problem(melon.phone.client.get(f"/sync/v1/compat/watermelon/pull?{query}")) == (422, "invalid")


def test_only_a_device_may_ask(field: Field, client: Any) -> None:
    for call in (client.get, client.post):
        path = "pull" if call == client.get else "push"
        assert problem(call(f"/sync/v1/compat/watermelon/{path}?last_pulled_at=1")) == (401, "unauthenticated")
    assert problem(field.office.get("/sync/v1/compat/watermelon/pull")) == (401, "unauthenticated")


def test_stamps_of_a_device_are_few(field: Field, melon: Melon, drain: Callable[[], None]) -> None:
    for _ in range(25):
        field.job(crew=melon.phone.crew_id)
        melon.pull()

    with field.app.app_context():
        assert db.session.query(WatermelonPull).count() <= 11
