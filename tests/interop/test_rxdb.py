"""RxDB against a running service: an app with the documented client, on a good line and on a bad one."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from fieldsvc.base.clock import format_time, utc_now
from fieldsvc.base.db import db, transaction
from fieldsvc.embedded import Service
from fieldsvc.feed import publish
from tests.field import Field, Phone, done, repaired
from tests.interop.conftest import HERE, NODE
from tests.processes import wait_for
from tests.running import Running

READ = {"jobs": "job", "customers": "customer", "usage_points": "usage_point", "meters": "meter"}
SECONDS = 30


class App:
    """An RxDB app in a process of its own, on a phone that is enrolled."""

    def __init__(self, phone: Phone, url: str) -> None:
        self.phone = phone
        self.process = subprocess.Popen(
            [NODE, HERE / "rxdb.mjs"], cwd=HERE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self("open", url=url, token=self.token)

    @property
    def token(self) -> str:
        return str(self.phone.client.environ_base["HTTP_AUTHORIZATION"]).removeprefix("Bearer ")

    def __call__(self, command: str, **given: Any) -> Any:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps({"do": command} | given) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        assert "error" not in answer, (command, given, answer["error"], self("said"))
        return answer["result"]

    def start(self, batch: int = 200) -> None:
        """Start to replicate, and wait until everything is exchanged."""
        self("start", batchSize=batch)
        self("in_sync")

    def edit(self, document: str, collection: str = "jobs", at: str | None = None, **fields: Any) -> None:
        """Edit fields; ``at``: when, if not now."""
        self("edit", collection=collection, id=document, fields=fields, at=at)

    def act(self, kind: str, job: str, **payload: Any) -> str:
        return str(self("act", kind=kind, job=job, payload=payload))

    def get(self, document: str, collection: str = "jobs") -> Any:
        return self("get", collection=collection, id=document)

    def ids(self, collection: str = "jobs") -> set[str]:
        return set(self("ids", collection=collection))

    def wait(self, document: str, collection: str = "jobs", **where: Any) -> Any:
        """Until the document shows the members ``where``."""
        return self("wait", collection=collection, id=document, where=where, seconds=SECONDS)

    def wait_gone(self, document: str, collection: str = "jobs") -> None:
        self("wait", collection=collection, id=document, where=None, seconds=SECONDS)

    def outcome(self, **of: str) -> dict[str, Any]:
        """The outcome with these members, as soon as it is there."""
        told: dict[str, Any] = self("wait_for_outcome", of=of, seconds=SECONDS)
        return told

    @property
    def said(self) -> dict[str, Any]:
        told: dict[str, Any] = self("said")
        return told

    def end(self) -> None:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.close()
        self.process.wait(30)
        self.process.stdout.close()


@pytest.fixture(scope="module")
def service(served: Running) -> Service:
    return served.service


@pytest.fixture(scope="module")
def field(served: Running) -> Field:
    return served.field


@pytest.fixture
def rxdb(field: Field, service: Service) -> Iterator[Callable[..., App]]:
    """``rxdb(crew)``: an app on a new phone of the crew, by default of a new one."""
    apps: list[App] = []

    def make(crew: str | None = None) -> App:
        apps.append(App(field.phone(crew), service.url))
        return apps[-1]

    yield make
    for app in apps:
        app.end()


def by_the_office(field: Field, job: str, **members: Any) -> None:
    """The office changes fields of a job."""
    shown = field.office.get(f"/v1/jobs/{job}")
    done(field.office.patch(f"/v1/jobs/{job}", json=members, headers={"If-Match": shown.headers["ETag"]}))


def equal(app: App, field: Field) -> None:
    """The app comes to hold what a phone that speaks our own protocol holds. Each collection syncs by itself: what an
    outcome tells may stand in another one a moment later.
    """
    differing: list[str] = []

    def same() -> bool:
        differing[:] = _differing(app)
        return not differing

    try:
        wait_for(same, SECONDS)
    except AssertionError:
        raise AssertionError(differing) from None


def _differing(app: App) -> list[str]:
    """What the app's copy says otherwise than a phone's."""
    app.phone.cp, app.phone.copy = None, {}
    app.phone.pull()
    found = [] if app.ids("outcomes") == set(app.phone.told) else ["other outcomes"]
    for collection, entity in READ.items():
        if app.ids(collection) != app.phone.holds(entity):
            return [*found, f"other {collection}"]
        for entity_id in app.phone.holds(entity):
            mine, theirs = app.get(entity_id, collection), app.phone.copy[entity, entity_id]
            theirs = {name: value for name, value in (theirs.get("details") or {}).items() if name in mine} | theirs
            names = set(mine) | (set(theirs) - {"evidence", "description"})
            nothing = object()
            odd = [name for name in names if mine.get(name, nothing) != theirs.get(name, nothing)]
            found += [f"{collection} {entity_id} {name}" for name in sorted(odd)]
    return found


def test_a_first_sync_and_what_comes_after_it(field: Field, rxdb: Callable[..., App]) -> None:
    app = rxdb()
    job = field.job(crew=app.phone.crew_id, place=field.place())
    field.job("meter_change", crew=app.phone.crew_id, place=field.place())
    app.start()
    equal(app, field)

    later = field.job(crew=app.phone.crew_id)
    app.wait(later, status="dispatched")
    accepted = app.act("job.accept", job)
    assert app.outcome(op_id=accepted)["outcome"] == "applied"
    app.wait(job, status="accepted")
    app("in_sync")
    equal(app, field)
    assert not app.said["errors"] and not app.said["conflicts"]


def test_both_sides_of_disjoint_edits_survive(field: Field, rxdb: Callable[..., App]) -> None:
    app = rxdb()
    place = field.place()
    job = field.job(crew=app.phone.crew_id, place=place, title="No supply")
    app.start()
    app("stop")
    by_the_office(field, job, title="No supply at all")
    app.edit(job, access_note="ring twice", tags=["dog"])
    app.edit(place.customer_id, "customers", phone="0359-2000")
    app.start()
    app.wait(job, title="No supply at all", access_note="ring twice", tags=["dog"])
    assert app.outcome(entity_id=job)["outcome"] == "merged"
    assert app.outcome(entity_id=place.customer_id)["outcome"] == "applied"
    assert field.get(f"/v1/jobs/{job}")["access_note"] == "ring twice"
    app("in_sync")
    equal(app, field)
    assert not app.said["conflicts"] and not field.reviews(job=job)


def test_where_edits_overlap_the_policy_chooses_and_a_person_looks(field: Field, rxdb: Callable[..., App]) -> None:
    app = rxdb()
    job = field.job(crew=app.phone.crew_id, title="No supply", access_note="front")
    app.start()
    app("stop")
    # hours before the office, by a clock that is estimated to within the time a request takes
    app.edit(job, at=format_time(field.tick()), title="Fuse", access_note="back", notes=["one more meter"])
    by_the_office(field, job, title="No supply at all", access_note="ring at 4")
    app.start()
    end = app.outcome(entity_id=job)
    assert end["outcome"] == "applied_conflict"
    chosen = {conflict["field"]: (conflict["device"], conflict["chosen"]) for conflict in end["conflicts"]}
    assert chosen == {"title": ("Fuse", "record"), "access_note": ("back", "record")}
    app.wait(job, title="No supply at all", access_note="ring at 4", notes=["one more meter"])
    (review,) = field.reviews(job=job)
    assert review["id"] == end["review_id"]
    app("in_sync")
    equal(app, field)

    app("stop")  # and a field that a person has to decide about
    other = field.phone(app.phone.crew_id)
    other.pull()
    other.push(other.edit(job, {"parts_estimate": None}, {"parts_estimate": [{"code": "fuse", "qty": "1"}]}))
    wait_for(lambda: bool(other.pull()) and other.copy["job", job]["details"].get("parts_estimate") is not None)
    app.edit(job, parts_estimate=[{"code": "pole", "qty": "1"}])
    app.start()
    parked = app.outcome(entity_id=job, outcome="parked")
    app("in_sync")
    equal(app, field)
    done(field.resolve(parked["review_id"], "apply"))
    assert app.outcome(op_id=parked["op_id"], outcome="resolved")["resolution"] == "apply"
    app("in_sync")
    equal(app, field)


def test_refused_rows_do_not_stop_the_ones_beside_them(field: Field, rxdb: Callable[..., App]) -> None:
    app = rxdb()
    jobs = [field.job(crew=app.phone.crew_id, title="No supply") for _ in range(6)]
    good, status, both, removed, worse, nul = jobs
    app.start()
    app("stop")
    app.edit(good, access_note="ring twice")
    app("patch", collection="jobs", id=status, fields={"status": "completed"})
    app.edit(both, access_note="back door", number="J-1")
    app("remove", collection="jobs", id=removed)
    app.edit(worse, priority=77)
    app.edit(nul, access_note="\0")
    app("insert", collection="jobs", document={"id": "made-here", "title": "A job of my own"})
    bad = app.act("job.fly", good)
    note = app.act("note.add", good, text="gate is locked")
    app.start()
    app.wait(good, access_note="ring twice", notes=["gate is locked"])
    assert app.outcome(op_id=bad)["reason"] == "bad_payload" and app.outcome(op_id=note)["outcome"] == "applied"
    app.wait(status, status="dispatched")
    faults = {job: app.outcome(entity_id=job, outcome="rejected")["errors"] for job in (status, both, removed, worse)}
    assert {job: [fault["field"] for fault in errors] for job, errors in faults.items()} == {
        status: ["/set/status"],
        both: ["/set/number"],
        removed: ["/set/_deleted"],
        worse: ["/set/priority"],
    }
    app.wait(both, access_note="back door", number=field.get(f"/v1/jobs/{both}")["number"])
    app.wait(removed, title="No supply")
    app.wait(worse, priority=field.get(f"/v1/jobs/{worse}")["priority"])
    app.wait(nul, access_note=None)
    assert app.outcome(kind="unreadable")["errors"][0]["field"] == "/set/access_note"
    app.wait_gone("made-here")
    assert app.outcome(entity_id="made-here")["reason"] == "unknown_entity"
    app("in_sync")
    equal(app, field)
    assert not app.said["errors"]


def test_an_edit_of_a_job_that_was_taken_away_reaches_the_office(field: Field, rxdb: Callable[..., App]) -> None:
    app = rxdb()
    job = field.job(crew=app.phone.crew_id, place=field.place())
    other = field.phone()
    app.start()
    app("stop")
    app.edit(job, access_note="key is with the neighbour")
    note = app.act("job.arrive", job)
    field.assign(job, other.crew_id)
    app.start()
    assert app.outcome(entity_id=job, kind="job.update")["outcome"] == "parked"
    assert app.outcome(op_id=note)["outcome"] == "superseded"
    app.wait_gone(job)
    (review,) = field.reviews(job=job)
    assert review["proposed"]["set"] == {"access_note": "key is with the neighbour"}
    other.pull()
    assert other.copy["job", job]["attention"][0]["review_id"] == review["id"]
    app("in_sync")
    equal(app, field)


def test_lost_answers_and_503_repeat_nothing(field: Field, rxdb: Callable[..., App]) -> None:
    app = rxdb()
    job = field.job(crew=app.phone.crew_id, access_note="front", title="No supply")
    app.start()
    app("bad_line", lose=2, path="/push")
    app.edit(job, access_note="back", title="Fuse")
    app("in_sync")
    app("bad_line", refuse=3)
    app.edit(job, access_note="front")
    app("in_sync")
    app("bad_line", lose=1, path="/jobs/push")
    app.edit(job, access_note="back")  # the same again, and yet another edit
    done_here = app.act("job.accept", job)
    app.outcome(op_id=done_here)
    app("in_sync")
    wait_for(lambda: app("in_sync") is None and field.get(f"/v1/jobs/{job}")["access_note"] == "back")
    app.wait(job, access_note="back", status="accepted")
    sent = [entry for entry in field.history(job=job) if entry["action"] == "job.update"]
    assert [entry["after"] for entry in sent] == [
        {"access_note": "back", "title": "Fuse"},
        {"access_note": "front"},
        {"access_note": "back"},
    ]
    app("in_sync")
    equal(app, field)
    assert app.said["left"] == 0 and any("503" in error for error in app.said["errors"])


def test_operations_that_overtake_each_other_are_decided_in_order(field: Field, rxdb: Callable[..., App]) -> None:
    app = rxdb()
    job = field.job(crew=app.phone.crew_id)
    app.start()
    app("stop")
    app.act("job.accept", job)
    app.act("job.arrive", job)
    app.act("job.start", job)
    for number in range(170):
        app.act("note.add", job, text=f"note {number}")
    last = app.act("job.complete", job, **repaired())
    app.start()
    assert app.outcome(op_id=last)["outcome"] == "applied"
    app.wait(job, status="completed", notes=[f"note {number}" for number in range(170)])
    app("in_sync")
    equal(app, field)


def test_ten_thousand_records_while_the_server_is_killed(
    field: Field, service: Service, rxdb: Callable[..., App]
) -> None:
    app = rxdb()
    job = field.job(crew=app.phone.crew_id)
    app.phone.pull()
    shown = app.phone.copy["job", job]
    with field.app.app_context(), transaction():
        for number in range(9_999):
            copy = shown | {"id": f"copy-{number:05}", "number": f"N-{number}"}
            publish.put([f"crew:{app.phone.crew_id}"], "job", copy["id"], copy["rev"], copy)
    app("start", batchSize=200)
    wait_for(lambda: len(app.ids()) >= 1_000)
    service.kill("web")
    assert len(app.ids()) < 10_000
    app.edit(job, access_note="ring twice")
    app("in_sync")
    assert len(app.ids()) == 10_000
    app.wait(job, access_note="ring twice")
    assert field.get(f"/v1/jobs/{job}")["access_note"] == "ring twice"


def test_a_device_of_another_crew_and_another_life_of_the_feed(field: Field, rxdb: Callable[..., App]) -> None:
    app = rxdb()
    before = field.job(crew=app.phone.crew_id, place=field.place())
    edited = field.job(crew=app.phone.crew_id)
    app.start()
    assert app.ids() == {before, edited}
    app("stop")
    app.edit(edited, at=format_time(utc_now() - timedelta(seconds=1)), access_note="for the old crew")
    moved = field.crew()
    after = field.job(crew=moved)
    code = done(field.office.post(f"/v1/crews/{moved}/enrolment-codes"), 201)["code"]
    body = {"code": code, "install_id": app.phone.install_id}
    token = done(app.phone.client.post("/sync/v1/enrol", json=body), 201)["token"]
    app.phone.client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {token}"
    app("service", token=token)
    app.start()
    assert app.outcome(entity_id=edited)["outcome"] == "applied", "it was done while the device was that crew's"
    assert field.get(f"/v1/jobs/{edited}")["access_note"] == "for the old crew"
    app.wait_gone(edited)
    assert app.ids() == {after}
    equal(app, field)

    with field.app.app_context(), transaction():
        db.session.execute(text("UPDATE sync_epoch SET epoch = 'another'"))
        db.session.execute(text("DELETE FROM sync_feed WHERE entity_id = :job"), {"job": after})
    last = field.job(crew=moved)
    app.wait(last, status="dispatched")
    app("in_sync")
    assert app.ids() == {last}


def test_an_old_app_hands_in_its_work_and_is_told_nothing_until_it_is_updated(
    field: Field, rxdb: Callable[..., App]
) -> None:
    app = rxdb()
    job = field.job(crew=app.phone.crew_id)
    app.start()
    app("stop")
    app("service", appVersion="0.9")
    app.edit(job, access_note="ring twice")
    app("start", batchSize=200)
    wait_for(lambda: field.get(f"/v1/jobs/{job}")["access_note"] == "ring twice")
    wait_for(lambda: "/problems/upgrade-required" in app.said["errors"])
    assert app.ids("outcomes") == set()
    app("stop")
    app("service", appVersion="3.3.0")
    app.start()
    app.wait(job, rev=field.get(f"/v1/jobs/{job}")["rev"])
    app("in_sync")
    equal(app, field)


def test_a_revoked_device_is_told_to_remove_everything(field: Field, rxdb: Callable[..., App]) -> None:
    app = rxdb()
    job = field.job(crew=app.phone.crew_id)
    app.start()
    done(field.office.post(f"/v1/devices/{app.phone.id}/revoke"))
    app.edit(job, access_note="too late")
    wait_for(lambda: "/problems/device-revoked" in app.said["errors"])
    assert field.get(f"/v1/jobs/{job}")["access_note"] is None
