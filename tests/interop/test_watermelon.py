"""WatermelonDB 0.28, as an app would have it (docs/sync-protocol/watermelon.mjs), against a running service."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import text

from fieldsvc.base.db import db, transaction
from fieldsvc.feed import publish
from tests.field import Phone, done
from tests.interop.conftest import HERE, NODE, Node
from tests.processes import descendants, wait_for
from tests.running import Running

Row = dict[str, Any]
TABLES = {"jobs": "job", "customers": "customer", "usage_points": "usage_point", "meters": "meter"}


class App:
    """A phone with the app, in a process of its own."""

    def __init__(self, served: Running, phone: Phone) -> None:
        self.phone, self.crew_id = phone, phone.crew_id
        env = {"SERVER": served.url, "TOKEN": self.token, "PATH": "/usr/bin:/bin"}
        self.process = subprocess.Popen(
            [NODE, HERE / "watermelon.mjs"], env=env, cwd=HERE, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.said: queue.Queue[dict[str, Any]] = queue.Queue()
        self.reader = threading.Thread(target=self._read)
        self.reader.start()
        assert self.hear() == {"ready": True}

    @property
    def token(self) -> str:
        return str(self.phone.client.environ_base["HTTP_AUTHORIZATION"]).removeprefix("Bearer ")

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("> "):
                self.said.put(json.loads(line[2:]))

    def hear(self) -> dict[str, Any]:
        return self.said.get(timeout=60)

    def tell(self, do: str, **more: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"do": do} | more) + "\n")
        self.process.stdin.flush()

    def ask(self, do: str, **more: Any) -> Any:
        self.tell(do, **more)
        said = self.hear()
        assert "answer" in said, said
        return said["answer"]

    def sync(self, **line: Any) -> None:
        done = self.ask("sync", line=line)
        assert done["ok"], done

    def fails(self, **line: Any) -> dict[str, Any]:
        done: dict[str, Any] = self.ask("sync", line=line)
        assert not done["ok"]
        return done

    def rows(self, table: str, shown: bool = False) -> dict[str, Row]:
        return {row["id"]: row for row in self.ask("rows", table=table, shown=shown)}

    def act(self, kind: str, job: str, payload: Any = None) -> str:
        return str(self.ask("act", kind=kind, entity="job", id=job, more={"payload": payload or {}}))

    def edit(self, job: str, at: str | None = None, table: str = "jobs", **values: Any) -> None:
        self.ask("edit", table=table, id=job, values=values, at=at)

    def settle(self, many: int) -> list[str]:
        """Sync until ``many`` operations have an outcome; the outcomes."""

        def settled() -> bool:
            self.sync()
            return len(self.rows("outcomes")) >= many

        wait_for(settled)
        return sorted(row["outcome"] for row in self.rows("outcomes").values())

    def unsent(self) -> list[str]:
        tables = ("jobs", "customers", "usage_points", "meters", "operations")
        return [row["id"] for table in tables for row in self.rows(table).values() if row["_status"] != "synced"]

    def close(self) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.reader.join(10)
        self.process.stdout.close()


@pytest.fixture
def phones(served: Running, node: Node) -> Iterator[Callable[..., App]]:
    """``phones()``: a phone of a new crew; ``phones(crew_id)``: of that one."""
    opened: list[App] = []

    def phone(crew_id: str | None = None) -> App:
        opened.append(App(served, served.field.phone(crew_id)))
        return opened[-1]

    yield phone
    for one in opened:
        one.close()


@pytest.fixture
def app(phones: Callable[..., App]) -> App:
    return phones()


def by_the_office(served: Running, job: str, **values: Any) -> None:
    """The office changes a job, as it stands now."""
    rev = served.field.get(f"/v1/jobs/{job}")["rev"]
    done(served.field.office.patch(f"/v1/jobs/{job}", json=values, headers={"If-Match": f'"{rev}"'}))


def fill(served: Running, crew_id: str, many: int, lamp: str) -> None:
    """Put so many jobs into a crew's feed, each about a lamp of that name."""
    with served.field.app.app_context(), transaction():
        for n in range(many):
            job = f"{crew_id}-{n:05}"
            doc = {"id": job, "number": f"N-{n}", "title": "Lamp", "details": {"lamp": lamp}, "notes": [], "rev": 1}
            publish.put([f"crew:{crew_id}"], "job", job, 1, doc)


def kill_web(served: Running) -> None:
    """The web server and its processes are gone in the middle of what they do; the supervisor starts it again."""
    server = served.service.pid("web")
    for pid in (server, *descendants(server)):
        os.kill(pid, signal.SIGKILL)


def equal(app: App) -> None:
    """The app holds, and shows, what a phone that speaks our own protocol holds."""
    app.phone.cp, app.phone.copy = None, {}
    app.phone.pull()
    for table, entity in TABLES.items():
        rows = app.rows(table, shown=True)
        assert set(rows) == app.phone.holds(entity), table
        for doc in app.phone.docs(entity):
            row = rows[doc["id"]]
            assert set(row) >= set(doc), table
            held = {name: json.loads(row[name]) if isinstance(doc[name], list | dict) else row[name] for name in doc}
            assert held == doc, table
    outcomes = app.rows("outcomes")
    assert set(outcomes) == set(app.phone.told)
    assert all(set(outcomes[op_id]) >= set(doc) - {"op_id"} for op_id, doc in app.phone.told.items())


REPAIRED = {"cause_major": "lamp", "fault_place": "lamp 7", "ownership": "utility", "work_done": "lamp replaced"}


def test_first_sync_work_and_what_changed_since(served: Running, app: App) -> None:
    place = served.field.place()
    jobs = [served.field.job(crew=app.crew_id, tags=["dog"], place=place) for _ in range(3)]
    app.sync()
    equal(app)
    held = app.rows("jobs", shown=True)
    assert set(held) == set(jobs) and held[jobs[0]]["tags"] == '["dog"]'
    app.edit(jobs[0], access_note="ring twice")
    app.edit(place.customer_id, table="customers", phone="555")
    app.act("job.arrive", jobs[0])
    completed = app.act("job.complete", jobs[0], REPAIRED)
    assert app.settle(4) == ["applied"] * 4
    assert app.rows("outcomes")[completed]["outcome"] == "applied", "an outcome has the id of its operation"
    held = app.rows("jobs")
    assert (held[jobs[0]]["status"], held[jobs[0]]["access_note"]) == ("completed", "ring twice")
    assert served.field.get(f"/v1/jobs/{jobs[0]}")["access_note"] == "ring twice"
    more = served.field.job(crew=app.crew_id)
    app.sync()
    assert set(app.rows("jobs", shown=True)) == {*jobs, more}
    assert app.unsent() == []
    equal(app)
    assert [said for said in app.ask("complaints") if "[Sync]" in said] == []


def test_edits_on_both_sides(served: Running, app: App, phones: Callable[..., App]) -> None:
    job, other = served.field.job(crew=app.crew_id), phones(app.crew_id)
    app.sync()
    other.sync()
    app.edit(job, access_note="by the mill", tags='["dog"]', parts_estimate='[{"code": "FUSE", "qty": "1"}]')
    by_the_office(served, job, title="Lamp 7", access_note="by the bridge")
    other.edit(job, tags='["ladder"]', contact_phone="555")
    assert other.settle(1) == ["merged"]
    assert app.settle(1) == ["applied_conflict"]
    other.sync()
    row = app.rows("jobs")[job]
    assert row == other.rows("jobs")[job] | {"seen": row["seen"]}, "every phone ends with what is on record"
    assert (row["title"], row["access_note"], row["contact_phone"]) == ("Lamp 7", "by the bridge", "555")
    assert sorted(json.loads(row["tags"])) == ["dog", "ladder"]
    assert json.loads(row["parts_estimate"]) == [{"code": "FUSE", "qty": "1"}]
    [review] = served.field.reviews(job=job)
    conflicts = [one for one in review["conflicts"] if one["severity"] != "none"]
    assert [(one["field"], one["device"], one["record"]) for one in conflicts] == [
        ("access_note", "by the mill", "by the bridge")
    ]


def test_refused_rows_beside_good_ones(served: Running, app: App) -> None:
    job = served.field.job(crew=app.crew_id)
    app.sync()
    good = app.act("job.arrive", job)
    bad = app.ask("act", kind="job.start", entity="job", id=job, more={"payload": "not JSON"})
    late = app.act("inspection.record", job)
    made = app.ask("create", table="jobs", values={"title": "a job of our own"})
    app.edit(job, access_note="ring twice")
    app.ask("set", table="jobs", id=job, values={"status": "closed"})
    app.settle(6)
    told = app.rows("outcomes")
    assert told[good]["outcome"] == "applied"
    assert (told[bad]["outcome"], told[bad]["reason"]) == ("rejected", "bad_payload")
    assert (told[late]["outcome"], told[late]["reason"]) == ("rejected", "bad_payload")
    assert sorted(row["kind"] for row in told.values() if row["outcome"] == "rejected") == [
        "inspection.record", "job.update", "row.created", "unreadable",
    ]  # fmt: skip
    assert sorted(app.unsent()) == sorted([bad, made]), "what was refused at once stays as it is, for the app to show"
    row = app.rows("jobs")[job]
    assert (row["status"], row["access_note"]) == ("on_site", "ring twice"), "what is on record, not what was typed"
    app.ask("delete", table="jobs", id=job)
    app.settle(7)
    assert served.field.get(f"/v1/jobs/{job}")["status"] == "on_site"


def test_a_job_taken_away_with_edits_on_it(served: Running, app: App, phones: Callable[..., App]) -> None:
    job, quiet = served.field.job(crew=app.crew_id), served.field.job(crew=app.crew_id)
    app.sync()
    app.edit(job, access_note="ring twice")
    app.act("job.arrive", job)
    for one in (job, quiet):
        served.field.assign(one, served.field.crew())
    app.fails(path="push", dead=1)
    held = app.rows("jobs")
    assert held[job]["gone"] == "reassigned" and held[job]["access_note"] == "ring twice", "pulled, and not yet sent"
    assert app.rows("jobs", shown=True) == {}
    app.fails(path="push", dead=1)
    assert set(app.rows("jobs")) == {job}, "on the other one nothing waits to be sent"
    app.tell("edit", table="jobs", id=job, values={"access_note": "too late"}, at=None)
    assert app.hear()["failed"] == "no longer with this crew: reassigned"
    assert app.settle(2) == ["parked", "superseded"]
    [review] = served.field.reviews(job=job)
    assert review["proposed"]["set"] == {"access_note": "ring twice"}
    app.sync()
    assert app.rows("jobs") == {} and app.unsent() == []
    served.field.assign(job, app.crew_id)
    app.sync()
    assert set(app.rows("jobs", shown=True)) == {job}


def test_a_phone_moved_to_another_crew_drops_the_others_records_but_not_its_own_work(served: Running, app: App) -> None:
    edited, quiet = served.field.job(crew=app.crew_id), served.field.job(crew=app.crew_id)
    app.sync()
    assert set(app.rows("jobs")) == {edited, quiet}
    app.edit(edited, access_note="ring twice")
    moved = served.field.crew()
    mine = served.field.job(crew=moved)
    code = done(served.field.office.post(f"/v1/crews/{moved}/enrolment-codes"), 201)["code"]
    body = {"code": code, "install_id": app.phone.install_id}
    token = done(app.phone.client.post("/sync/v1/enrol", json=body), 201)["token"]
    app.phone.client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {token}"
    app.ask("enrolled", token=token)
    app.fails(path="push", dead=1)
    held = app.rows("jobs")
    assert set(held) == {edited, mine} and held[edited]["access_note"] == "ring twice"
    app.settle(1)
    assert served.field.get(f"/v1/jobs/{edited}")["access_note"] == "ring twice", "done for the crew of then"
    wait_for(lambda: app.ask("sync")["ok"] and set(app.rows("jobs")) == {mine})
    assert app.unsent() == []


def test_another_life_of_the_feed(served: Running, app: App) -> None:
    lost, edited, kept = (served.field.job(crew=app.crew_id) for _ in range(3))
    app.sync()
    app.edit(edited, access_note="ring twice")
    with served.field.app.app_context(), transaction():
        db.session.execute(text("UPDATE sync_epoch SET epoch = 'restored'"))
        db.session.execute(text("DELETE FROM sync_feed WHERE entity_id = :job"), {"job": lost})
    assert app.settle(1) == ["applied"]
    assert set(app.rows("jobs")) == {edited, kept}
    equal(app)


def test_a_lost_phone_keeps_nothing_back(served: Running, app: App) -> None:
    job = served.field.job(crew=app.crew_id)
    app.sync()
    app.edit(job, access_note="ring twice")
    done(served.field.office.post(f"/v1/devices/{app.phone.id}/revoke"))
    assert app.fails()["status"] == 403
    assert set(app.rows("jobs")) == {job}, "it is the app that has to empty its database then"


def test_answers_lost_at_every_point(served: Running, app: App) -> None:
    job = served.field.job(crew=app.crew_id)
    app.sync()
    app.edit(job, access_note="ring twice")
    arrived = app.act("job.arrive", job)
    for path in ("pull", "push", "pull", "push"):
        app.fails(path=path, lost=1)
    app.edit(job, access_note="ring thrice", contact_phone="555")
    app.fails(path="push", lost=1)
    outcomes = app.settle(3)
    assert app.rows("outcomes")[arrived]["outcome"] == "applied"
    assert set(outcomes) <= {"applied", "merged"}, "a crew is not in conflict with itself"
    assert served.field.get(f"/v1/jobs/{job}")["access_note"] == "ring thrice"
    assert app.unsent() == [] and app.rows("jobs")[job]["access_note"] == "ring thrice"


def test_what_was_decided_while_the_answer_was_lost_brings_back_what_is_on_record(served: Running, app: App) -> None:
    job = served.field.job(crew=app.crew_id)
    app.sync()
    app.edit(job, title="Our name for it")
    by_the_office(served, job, title="Lamp 7")
    app.fails(path="push", lost=1)
    wait_for(lambda: bool(app.fails(path="push", dead=1)) and len(app.rows("outcomes")) == 1)
    assert app.rows("jobs")[job]["title"] == "Our name for it", "not known to be sent"
    app.sync()
    app.sync()
    assert app.rows("jobs")[job]["title"] == "Lamp 7"


def test_a_service_that_is_busy(served: Running, app: App) -> None:
    job = served.field.job(crew=app.crew_id)
    assert app.fails(path="pull", busy=2)["status"] == 503
    assert app.fails(path="pull", busy=1)["status"] == 503
    app.sync()
    app.act("job.arrive", job)
    app.edit(job, access_note="ring twice")
    for _ in range(3):
        assert app.fails(path="push", busy=1)["status"] == 503
    assert app.settle(2) == ["applied", "applied"]


def test_the_service_is_killed_between_pull_and_push(served: Running, app: App) -> None:
    job = served.field.job(crew=app.crew_id)
    app.sync()
    app.act("job.arrive", job)
    app.edit(job, access_note="ring twice")
    app.tell("sync", line={"path": "push", "before": True})
    assert app.hear() == {"paused": "before push"}
    kill_web(served)
    app.tell("go")
    app.hear()
    wait_for(lambda: app.ask("sync")["ok"])
    assert app.settle(2) == ["applied", "applied"]
    assert app.unsent() == []


def test_ten_thousand_records_and_the_service_is_killed_in_the_middle(served: Running, app: App) -> None:
    # 25 MB, more than the line itself holds: what is in there already comes, killed or not.
    fill(served, app.crew_id, 10_000, "x" * 2_500)
    app.tell("sync", line={"path": "pull", "during": True})
    assert app.hear() == {"paused": "during pull"}
    kill_web(served)
    app.tell("go")
    assert app.hear()["answer"]["ok"] is False
    assert app.ask("count", table="jobs") == 0, "a part is nothing"
    wait_for(lambda: app.ask("sync")["ok"])
    assert app.ask("count", table="jobs") == 10_000
    job = served.field.job(crew=app.crew_id)
    app.sync()
    assert app.ask("count", table="jobs") == 10_001
    app.act("job.arrive", job)
    assert app.settle(1) == ["applied"]


def test_a_week_of_work_goes_out_in_parts(served: Running, app: App) -> None:
    job = served.field.job(crew=app.crew_id)
    app.sync()
    for number in range(330):
        app.act("note.add", job, {"text": f"note {number}"})
    huge = app.act("note.add", job, {"text": "x" * 1_100_000})
    after = app.act("job.arrive", job)
    app.ask("asked")
    assert app.settle(331) == ["applied"] * 331
    pushes = [one["bytes"] for one in app.ask("asked") if one["path"] == "push"]
    assert [size > 1_000_000 for size in pushes[:5]] == [False, False, False, True, False]
    notes = json.loads(app.rows("jobs")[job]["notes"])
    assert notes == [f"note {number}" for number in range(330)], "in their order"
    assert app.unsent() == [huge] and app.rows("outcomes")[after]["outcome"] == "applied"
