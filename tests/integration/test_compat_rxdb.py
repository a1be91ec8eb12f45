"""RxDB's routes through the door: full pages, limits, what is refused and what is answered as a conflict."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from flask import Flask

from fieldsvc.api import stream
from fieldsvc.api.stream import Rhythm
from fieldsvc.app import create_app
from fieldsvc.base.clock import new_id, utc_now
from fieldsvc.base.db import db, transaction
from fieldsvc.config import Settings
from fieldsvc.feed import horizon, publish
from tests import factories
from tests.field import Field, Phone, done, problem
from tests.processes import wait_for

ROOT = "/sync/v1/compat/rxdb"
RESYNC, HEARTBEAT = b'data: "RESYNC"\n\n', b":\n\n"


@pytest.fixture
def field(app: Flask) -> Field:
    return Field(app)


@pytest.fixture
def phone(field: Field) -> Phone:
    return field.phone()


def page(phone: Phone, collection: str = "jobs", token: str | None = None, limit: int | None = None) -> dict[str, Any]:
    query = {name: value for name, value in {"checkpoint": token, "limit": limit}.items() if value is not None}
    return done(phone.client.get(f"{ROOT}/{collection}/pull", query_string=query))


def pull(phone: Phone, collection: str = "jobs", limit: int = 500, token: str | None = None) -> list[dict[str, Any]]:
    """Every document, as RxDB would ask for them: until a page is not full."""
    found: list[dict[str, Any]] = []
    while True:
        told = page(phone, collection, token, limit)
        found += told["documents"]
        token = told["checkpoint"]["token"]
        if len(told["documents"]) < limit:
            return found


def row(new: dict[str, Any], seen: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"newDocumentState": new} | ({"assumedMasterState": seen} if seen is not None else {})


def push(phone: Phone, collection: str, *rows: dict[str, Any]) -> list[dict[str, Any]]:
    """The conflicts."""
    answer = phone.client.post(f"{ROOT}/{collection}/push", data=json.dumps(rows), content_type="application/json")
    assert answer.status_code == 200, answer.get_data(as_text=True)
    conflicts: list[dict[str, Any]] = json.loads(answer.data)
    return conflicts


def edited(document: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return row(document | fields, document)


def operation(kind: str, job: str, **members: Any) -> dict[str, Any]:
    now = {"op_id": new_id(), "kind": kind, "entity": "job", "entity_id": job, "occurred_at": "2026-11-21T08:00:00Z"}
    return now | members


def outcomes(phone: Phone) -> dict[str, dict[str, Any]]:
    return {document["op_id"]: document for document in pull(phone, "outcomes")}


def statuses(phone: Phone) -> list[str]:
    phone.field.settle()
    return sorted(document["outcome"] for document in pull(phone, "outcomes"))


@pytest.mark.parametrize("limit", [1, 2, 3, 500])
def test_pages_are_full_but_the_last_and_nothing_is_missed(field: Field, phone: Phone, limit: int) -> None:
    jobs = [field.job(crew=phone.crew_id, place=field.place()) for _ in range(3)]
    assert [document["id"] for document in pull(phone, limit=limit)] == jobs
    first = page(phone, limit=3)
    assert len(first["documents"]) == 3 and "reset" not in first
    token = first["checkpoint"]["token"]
    assert page(phone, token=token)["documents"] == []
    field.unassign(jobs[0])
    field.cancel(jobs[1])
    (job,) = (document for document in first["documents"] if document["id"] == jobs[2])
    assert push(phone, "jobs", edited(job, access_note="ring")) == []
    field.settle()
    told = pull(phone, limit=limit, token=token)
    gone = [document for document in told if document.get("_deleted")]
    assert gone == [{"id": jobs[0], "_deleted": True}, {"id": jobs[1], "_deleted": True}]
    assert {document["access_note"] for document in told if document["id"] == jobs[2]} == {"ring"}


def test_collections_hold_what_a_phone_of_the_crew_holds(field: Field, phone: Phone) -> None:
    place = field.place()
    field.job("meter_change", crew=phone.crew_id, place=place)
    phone.pull()
    entities = {"jobs": "job", "customers": "customer", "usage_points": "usage_point", "meters": "meter"}
    for collection, entity in entities.items():
        assert pull(phone, collection) == phone.docs(entity)
    assert [document["id"] for document in pull(phone, "customers")] == [place.customer_id]
    stranger = field.phone()
    assert not any(pull(stranger, collection) for collection in [*entities, "outcomes"])


def test_a_checkpoint_of_no_use_begins_anew_and_says_so_at_the_end(field: Field, phone: Phone) -> None:
    kept = [field.job(crew=phone.crew_id) for _ in range(3)]
    other = field.phone()
    theirs = field.job(crew=other.crew_id)
    foreign = page(other)["checkpoint"]["token"]
    for token in ("nobody-signed-this", foreign, page(phone, "meters")["checkpoint"]["token"]):
        first = page(phone, token=token, limit=2)
        assert [document["id"] for document in first["documents"]] == kept[:2] and "reset" not in first
        last = page(phone, token=first["checkpoint"]["token"], limit=2)
        assert [document["id"] for document in last["documents"]] == kept[2:] and last["reset"] is True
        assert "reset" not in page(phone, token=last["checkpoint"]["token"], limit=2)
    whole = page(phone, token="nobody-signed-this", limit=3)
    assert len(whole["documents"]) == 3 and whole["reset"] is True, "a full page may be the last one"
    asked = {"ids": [kept[0], theirs, "never-there"]}
    assert done(phone.client.post(f"{ROOT}/jobs/gone", json=asked)) == {"ids": [theirs, "never-there"]}


def test_a_checkpoint_from_behind_the_horizon_begins_anew(field: Field, phone: Phone) -> None:
    job, kept = field.job(crew=phone.crew_id), field.job(crew=phone.crew_id)
    old = page(phone)["checkpoint"]["token"]
    field.unassign(job)
    halfway = page(phone, limit=1)["checkpoint"]["token"]
    new = page(phone)["checkpoint"]["token"]
    for days in (0, 91):
        with field.app.app_context(), transaction():
            horizon.move(utc_now() + timedelta(days=days), timedelta(days=90))
    anew = page(phone, token=old)
    assert [document["id"] for document in anew["documents"]] == [kept, job] and anew["reset"] is True
    for token in (halfway, new):
        assert "reset" not in page(phone, token=token), "it was begun after the job had gone"
    with field.app.app_context(), transaction():
        horizon.forget(utc_now() + timedelta(days=91, hours=2))
    anew = page(phone, token=old)
    assert [document["id"] for document in anew["documents"]] == [kept] and anew["reset"] is True
    assert done(phone.client.post(f"{ROOT}/jobs/gone", json={"ids": [job, kept]})) == {"ids": [job]}


def test_an_edit_is_never_a_conflict_and_comes_back_with_its_outcome(field: Field, phone: Phone) -> None:
    job = field.job(crew=phone.crew_id, title="No supply")
    first = page(phone)
    (document,) = first["documents"]
    assert push(phone, "jobs", edited(document, title="Fuse", edited_at="2026-11-21T08:00:00Z")) == []
    assert page(phone, token=first["checkpoint"]["token"])["documents"] == [], "nothing is decided yet"
    tag = {"If-Match": f'"{document["rev"]}"'}
    done(field.office.patch(f"/v1/jobs/{job}", json={"title": "No supply at all"}, headers=tag))
    seen = page(phone, token=first["checkpoint"]["token"])
    field.settle()
    (end,) = pull(phone, "outcomes")
    assert (end["outcome"], end["conflicts"][0]["chosen"], end["entity_id"]) == ("applied_conflict", "record", job)
    again = page(phone, token=seen["checkpoint"]["token"])["documents"]
    assert [told["title"] for told in again] == ["No supply at all"], "what it holds of it is its own edit"


def test_what_lives_in_the_details_of_a_job_is_edited_beside_them(field: Field, phone: Phone) -> None:
    job = field.job(crew=phone.crew_id, details={"lamp": 7})
    (document,) = pull(phone)
    assert "parts_estimate" not in document
    fuse, pole = [{"code": "fuse", "qty": "1"}], [{"code": "pole", "qty": "2"}]
    assert push(phone, "jobs", edited(document, parts_estimate=fuse)) == []
    assert statuses(phone) == ["applied"]
    (document,) = pull(phone)
    assert (document["parts_estimate"], document["details"]) == (fuse, {"lamp": 7, "parts_estimate": fuse})
    assert push(phone, "jobs", edited(document, parts_estimate=pole)) == []
    assert statuses(phone) == ["applied", "applied"]
    assert push(phone, "jobs", edited(document, status="closed")) == pull(phone)
    assert field.get(f"/v1/jobs/{job}")["details"]["parts_estimate"] == pole


def test_what_was_pushed_twice_is_done_once(field: Field, phone: Phone) -> None:
    job = field.job(crew=phone.crew_id)
    (document,) = pull(phone)
    sent = edited(document, notes=["beware of the dog"])
    assert push(phone, "jobs", sent) == push(phone, "jobs", sent) == []
    done_there = operation("note.add", job, payload={"text": "gate is locked"})
    assert push(phone, "operations", row(done_there)) == push(phone, "operations", row(done_there)) == []
    assert statuses(phone) == ["applied", "applied"]
    (now,) = pull(phone)
    assert sorted(now["notes"]) == ["beware of the dog", "gate is locked"]
    assert push(phone, "jobs", sent) == [now], "it is decided: the document on record takes its place"
    assert push(phone, "jobs", row(now, now)) == []
    assert push(phone, "operations", row(done_there)) == []


def test_there_and_back_and_there_again_are_three_edits(field: Field, phone: Phone) -> None:
    field.job(crew=phone.crew_id, access_note="front")
    (front,) = pull(phone)
    back = front | {"access_note": "back"}
    for _ in range(2):  # each of them twice, as after a lost answer
        assert push(phone, "jobs", row(back, front)) == []
    for _ in range(2):
        assert push(phone, "jobs", row(front, back)) == []
    for _ in range(2):
        assert push(phone, "jobs", row(back, front)) == []
    assert statuses(phone) == ["applied", "applied", "applied"]
    assert pull(phone)[0]["access_note"] == "back"


def test_what_can_never_be_done_is_given_back_and_told(field: Field, phone: Phone) -> None:
    job = field.job(crew=phone.crew_id)
    (document,) = pull(phone)
    assert push(phone, "jobs", edited(document, status="completed")) == [document]
    assert push(phone, "jobs", row(document | {"_deleted": True}, document)) == [document]
    made = {"id": "made-here", "title": "A job of my own"}
    assert push(phone, "jobs", row(made)) == [{"id": "made-here", "_deleted": True}]
    assert push(phone, "jobs", row(document)) == [], "RxDB has lost its notes; nothing was changed"
    assert push(phone, "jobs", row(document | {"access_note": "?"})) == [document]
    assert push(phone, "jobs", edited(document, access_note="half \ud83d of a face")) == [document]
    assert push(phone, "jobs", edited(document, access_note="x" * 70_000)) == [document]
    assert push(phone, "jobs", edited({"id": "no\0id\ud83d", "rev": 1}, title="x")) == [
        {"id": "no\0id\ud83d", "_deleted": True}
    ]
    field.settle()
    ends = list(outcomes(phone).values())
    assert {end["outcome"] for end in ends} == {"rejected"} and len(ends) == 7
    faults = sorted(str(fault["field"]) for end in ends for fault in end["errors"])
    assert [fault for fault in faults if fault != "/"] == ["/kind", "/set/_deleted", "/set/status"]
    assert {end["reason"] for end in ends} == {"bad_payload", "unknown_entity"}
    assert field.get(f"/v1/jobs/{job}")["access_note"] is None


def test_an_edit_of_what_was_never_theirs_is_told(field: Field, phone: Phone) -> None:
    other = field.phone()
    job = field.job(crew=other.crew_id)
    (document,) = pull(other)
    assert push(phone, "jobs", edited(document, access_note="ring")) == []
    assert push(phone, "jobs", edited(document, status="completed")) == [{"id": job, "_deleted": True}]
    field.settle()
    ends = [(end["outcome"], end["reason"]) for end in outcomes(phone).values()]
    assert ends == [("rejected", "not_assigned")] * 2
    assert pull(phone) == [{"id": job, "_deleted": True}]


def test_an_operation_that_was_changed_after_it_was_sent_is_given_back(field: Field, phone: Phone) -> None:
    job = field.job(crew=phone.crew_id)
    first = operation("note.add", job, payload={"text": "gate is locked"})
    assert push(phone, "operations", row(first)) == []
    assert push(phone, "operations", row(first | {"payload": {"text": "gate is open"}}, first)) == [first]
    assert push(phone, "operations", row(first, first)) == []
    assert push(phone, "operations", row(first | {"_deleted": True}, first)) == [], "cleared away, and it stands"
    other = field.phone()
    assert push(other, "operations", row(first)) == [{"op_id": first["op_id"], "_deleted": True}]
    bad = operation("note.add", job, occurred_at="yesterday")
    assert push(phone, "operations", row(bad), row({"op_id": "edit-mine"})) == []
    field.settle()
    ends = outcomes(phone)
    assert (ends[first["op_id"]]["outcome"], ends[bad["op_id"]]["outcome"]) == ("applied", "rejected")
    assert ends["edit-mine"]["errors"][0]["reason"] == "is missing"


def test_the_later_half_of_a_chain_may_come_first(field: Field, phone: Phone) -> None:
    job = field.job(crew=phone.crew_id)
    chain = [operation(kind, job) for kind in ("job.accept", "job.arrive", "job.start", "job.suspend")]
    for before, after in pairwise(chain):
        after["depends_on"] = [before["op_id"]]
    assert push(phone, "operations", *map(row, chain[2:])) == []
    assert statuses(phone) == []
    assert push(phone, "operations", *map(row, chain[:2])) == []
    assert statuses(phone) == ["applied"] * 4
    assert field.status(job) == "suspended"


def test_work_that_comes_after_a_late_edit_keeps_its_own_time(field: Field, phone: Phone) -> None:
    job = field.job(crew=phone.crew_id)
    (document,) = pull(phone)
    push(phone, "jobs", edited(document, access_note="ring"))  # without a time: when it came in
    at = field.tick().isoformat()
    push(phone, "operations", row(operation("job.accept", job, occurred_at=at)))
    field.settle()
    (entry,) = [entry for entry in field.history(job=job) if entry["action"] == "job.accept"]
    assert entry["times"]["estimated"].removesuffix("Z") == at.removesuffix("+00:00")


def test_limits(app: Flask, field: Field, phone: Phone) -> None:
    ask = f"{ROOT}/jobs/pull?limit="
    assert phone.client.get(ask + "500").status_code == 200
    for limit in ("0", "501", "many"):
        assert problem(phone.client.get(ask + limit)) == (422, "invalid")
    job = field.job(crew=phone.crew_id)
    rows = [row(operation("note.add", job, payload={"text": "x"})) for _ in range(201)]
    url = f"{ROOT}/operations/push"
    assert problem(phone.client.post(url, json=rows)) == (413, "too-large")
    assert phone.client.post(url, json=rows[:200]).status_code == 200
    ids = [f"job-{number}" for number in range(501)]
    assert problem(phone.client.post(f"{ROOT}/jobs/gone", json={"ids": ids})) == (422, "invalid")
    assert len(done(phone.client.post(f"{ROOT}/jobs/gone", json={"ids": ids[:500]}))["ids"]) == 500


@pytest.fixture
def small(settings: Settings) -> Iterator[Flask]:
    app = create_app(replace(settings, pull_rows=2, request_bytes=3000, push_ops=2))
    yield app
    with app.app_context():
        db.session.remove()
        for engine in db.engines.values():
            engine.dispose()


def test_limits_are_those_of_the_settings(small: Flask) -> None:
    field = Field(small)
    phone = field.phone()
    assert problem(phone.client.get(f"{ROOT}/jobs/pull?limit=3")) == (422, "invalid")
    assert phone.client.get(f"{ROOT}/jobs/pull?limit=2").status_code == 200
    url = f"{ROOT}/jobs/push"
    assert problem(phone.client.post(url, json=[row({"id": "a", "title": "x" * 3000})])) == (413, "too-large")
    mixed = [row({"id": name, "title": "b", "status": "c"}, {"id": name}) for name in ("a", "b")]
    assert phone.client.post(url, json=mixed).status_code == 200, "each row makes two operations"
    assert problem(phone.client.post(url, json=[*mixed, mixed[0]])) == (413, "too-large")


@pytest.mark.parametrize(
    ("body", "field_name"),
    [
        ({}, "/"),
        ([1], "/0/newDocumentState"),
        ([{"newDocumentState": 1}], "/0/newDocumentState"),
        ([{"newDocumentState": {}}], "/0/newDocumentState/id"),
        ([{"newDocumentState": {"id": 7}}], "/0/newDocumentState/id"),
        ([{"newDocumentState": {"id": "a"}, "assumedMasterState": []}], "/0/assumedMasterState"),
    ],
)
def test_what_no_rxdb_sends_is_refused_as_a_whole(phone: Phone, body: Any, field_name: str) -> None:
    answer = phone.client.post(f"{ROOT}/jobs/push", json=body)
    assert problem(answer) == (422, "invalid")
    assert json.loads(answer.data)["errors"][0]["field"] == field_name


def test_strange_requests(phone: Phone) -> None:
    for data in (b"[", b"\xff", b"[" * 5000):
        answer = phone.client.post(f"{ROOT}/jobs/push", data=data, content_type="application/json")
        assert problem(answer) == (400, "bad-request")
    assert problem(phone.client.post(f"{ROOT}/meters/push", json=[])) == (404, "not-found")
    assert problem(phone.client.get(f"{ROOT}/operations/pull")) == (404, "not-found")
    assert problem(phone.client.get(f"{ROOT}/seals/pull")) == (404, "not-found")
    assert phone.client.post(f"{ROOT}/jobs/push", json=[]).json == []


@pytest.mark.parametrize("levels", [60, 300, 500, 900])
def test_a_document_nested_too_deeply_costs_its_row_alone(field: Field, phone: Phone, levels: int) -> None:
    job, other = field.job(crew=phone.crew_id), field.job(crew=phone.crew_id)
    deep = '{"a":' * levels + '"x"' + "}" * levels

    def push(collection: str, *rows: Any) -> int:
        body = json.dumps(rows).replace('"DEEP"', deep)
        url = f"{ROOT}/{collection}/push"
        return int(phone.client.post(url, data=body, content_type="application/json").status_code)

    bad, good = operation("job.accept", other, payload="DEEP"), operation("job.accept", job)
    assert push("operations", row(bad), row(good)) == 200
    rows = [
        row({"id": other, "rev": 1, "access_note": "DEEP"}, {"id": other, "rev": 1}),
        row({"id": other, "access_note": "b"}, {"id": other, "access_note": "DEEP", "rev": "DEEP"}),
        row({"id": "never-there", "access_note": "DEEP"}),
        row({"id": job, "rev": 1, "access_note": "c"}, {"id": job, "rev": 1, "access_note": None}),
    ]
    assert push("jobs", *rows) == 200
    field.settle()
    told = {document["op_id"]: document["outcome"] for document in pull(phone, "outcomes")}
    assert (told[good["op_id"]], told[bad["op_id"]]) == ("applied", "rejected")
    assert field.get(f"/v1/jobs/{job}")["access_note"] == "c"
    assert field.get(f"/v1/jobs/{other}")["access_note"] is None


def test_the_clock_of_a_push_corrects_its_times(field: Field, phone: Phone) -> None:
    job = field.job(crew=phone.crew_id)
    wrong = operation("job.accept", job, occurred_at="2020-01-01T00:00:00Z")
    answer = phone.client.post(f"{ROOT}/operations/push?device_time=2020-01-01T00:05:00Z", json=[row(wrong)])
    assert answer.status_code == 200
    field.settle()
    (entry,) = [entry for entry in field.history(job=job) if entry["action"] == "job.accept"]
    assert entry["times"]["estimated"] > "2026" and entry["times"]["device"] == "2020-01-01T00:00:00Z"


def test_ten_thousand_documents_in_full_pages(app: Flask, phone: Phone) -> None:
    with app.app_context(), transaction():
        for number in range(10_000):
            publish.put([f"crew:{phone.crew_id}"], "meter", f"m-{number}", 1, {"id": f"m-{number}", "rev": 1})
    found = pull(phone, "meters")
    assert len(found) == len({document["id"] for document in found}) == 10_000
    assert pull(phone, "jobs") == []


def test_nothing_is_missed_by_pages_that_are_read_while_others_commit(app: Flask, phone: Phone) -> None:
    last: dict[str, int] = {}

    def write(number: int) -> None:
        with app.app_context():
            for rev in range(1, 31):
                names = [f"m-{number}-{one}" for one in (rev % 7, 7 + rev)]
                with transaction():
                    for name in names:
                        publish.put([f"crew:{phone.crew_id}"], "meter", name, rev, {"id": name, "rev": rev})
                db.session.remove()
                last.update(dict.fromkeys(names, rev))

    def read(over: threading.Event) -> dict[str, int]:
        held: dict[str, int] = {}
        client, token = factories.with_token(app, phone.client.environ_base["HTTP_AUTHORIZATION"][7:]), None
        while True:
            ending = over.is_set()
            query = {"limit": "7"} | ({"checkpoint": token} if token else {})
            told = done(client.get(f"{ROOT}/meters/pull", query_string=query))
            token = told["checkpoint"]["token"]
            for document in told["documents"]:
                assert held.get(document["id"], 0) <= document["rev"]
                held[document["id"]] = document["rev"]
            if ending and len(told["documents"]) < 7:
                return held

    over = threading.Event()
    with ThreadPoolExecutor(6) as threads:
        reading = [threads.submit(read, over) for _ in range(2)]
        for writing in [threads.submit(write, number) for number in range(4)]:
            writing.result()
        over.set()
        assert [one.result() for one in reading] == [last, last]


def test_a_stream_says_when_its_collection_is_to_be_pulled(app: Flask, field: Field, phone: Phone) -> None:
    stream.init_app(app, Rhythm(look_s=0.02, heartbeat_s=0.2, life_s=(30.0, 30.0)))
    job = field.job(crew=phone.crew_id)
    opened = {name: phone.client.get(f"{ROOT}/{name}/stream") for name in ("jobs", "meters", "outcomes")}
    try:
        heard = {name: iter(answer.response) for name, answer in opened.items()}
        assert all(str(next(pieces)).startswith("b'retry: ") for pieces in heard.values())
        assert {next(pieces) for pieces in heard.values()} == {RESYNC}, "whoever pulls now has missed nothing"
        assert push(phone, "operations", row(operation("job.fly", job))) == []
        field.settle()  # rejected: nothing but an outcome
        for name in ("jobs", "outcomes"):
            assert next(piece for piece in heard[name] if piece != HEARTBEAT) == RESYNC
        assert [next(heard["meters"]), next(heard["meters"])] == [HEARTBEAT, HEARTBEAT]
    finally:
        for answer in opened.values():
            answer.close()
    wait_for(lambda: not app.extensions["fieldsvc.streams"].watch.at_work)
