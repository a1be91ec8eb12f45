"""The copy as a whole: taken anew line by line, compared with what the scopes hold, and repaired."""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Event
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import update

from fieldsvc.api.sync_copy import pack
from fieldsvc.base.db import db, transaction
from fieldsvc.config import Settings
from fieldsvc.feed import publish, snapshot
from fieldsvc.feed.models import SyncEpoch
from tests.field import Field, Phone, done, problem

Rows = dict[tuple[str, str], int]


@pytest.fixture
def field(app: Flask, drain: Callable[[], None]) -> Field:
    return Field(app, drain)


def put(app: Flask, scope: str, numbers: range, rev: int = 1) -> None:
    """Things ``t-<number>`` in one transaction."""
    with app.app_context(), transaction():
        for number in numbers:
            publish.put([scope], "thing", f"t-{number:05}", rev, {"n": number, "rev": rev})


def take(phone: Phone, after: str | None = None) -> list[dict[str, Any]]:
    """The lines of a snapshot."""
    answer = phone.client.get("/sync/v1/snapshot" + (f"?after={after}" if after else ""))
    assert (answer.status_code, answer.mimetype) == (200, "application/x-ndjson"), answer.get_data(as_text=True)
    assert answer.data.endswith(b"\n")
    return [json.loads(line) for line in answer.data.splitlines()]


def rows_of(lines: list[dict[str, Any]]) -> Rows:
    return {(line["entity"], line["id"]): line["rev"] for line in lines if "op" in line}


def pulled(phone: Phone) -> tuple[Rows, Rows]:
    """What a device holds that has pulled everything: of its crew, and of itself."""
    phone.cp, held = None, {}
    for change in phone.pull():
        if change["op"] == "put":
            held[change["entity"], change["id"]] = change["rev"]
    crew = {key: rev for key, rev in held.items() if key[0] != "outcome"}
    return crew, {key: rev for key, rev in held.items() if key[0] == "outcome"}


def told(rows: Rows) -> dict[str, Any]:
    """Count and checksum, written anew here as the protocol words them."""
    lines = "".join(f"{entity} {entity_id} {rev}\n" for (entity, entity_id), rev in sorted(rows.items()))
    return {"count": len(rows), "checksum": hashlib.sha256(lines.encode()).hexdigest()}


def listed(rows: Rows) -> list[dict[str, Any]]:
    return [{"entity": entity, "id": entity_id, "rev": rev} for (entity, entity_id), rev in sorted(rows.items())]


def compare(phone: Phone, **scopes: Any) -> dict[str, Any]:
    named = {"crew": f"crew:{phone.crew_id}", "device": f"device:{phone.id}", "ref": "ref"}
    body = {"scopes": {named[name]: held for name, held in scopes.items()}}
    return done(phone.client.post("/sync/v1/manifest", json=body))


def crowded(field: Field, count: int = 2 * snapshot.PAGE_ROWS + 7) -> Phone:
    """A phone with an outcome of its own whose crew holds ``count`` things beside a job."""
    phone = field.phone()
    job = field.job("repair", phone.crew_id, field.place())
    assert phone.do("job.accept", job) == "applied"
    put(field.app, f"crew:{phone.crew_id}", range(count))
    return phone


def test_a_snapshot_is_what_a_pull_from_the_beginning_leaves(field: Field) -> None:
    phone = crowded(field)
    gone = field.job("repair", phone.crew_id)
    field.unassign(gone)
    lines = take(phone)
    crew, own = pulled(phone)
    assert rows_of(lines) == crew | own and own and ("job", gone) not in crew
    docs = {(line["entity"], line["id"]): line["doc"] for line in lines if "op" in line and line["entity"] != "outcome"}
    assert docs == phone.copy
    assert set(lines[-1]) == {"checkpoint"}
    assert [set(line) for line in lines if "op" not in line][:-1] == [{"position"}] * 4, (
        "three of the crew, one of its own"
    )
    phone.cp = lines[-1]["checkpoint"]
    assert phone.pull() == []
    field.job("repair", phone.crew_id)
    assert phone.pull()


def test_a_snapshot_of_nothing_is_a_checkpoint(field: Field) -> None:
    phone = field.phone()
    held = phone.pull()
    with field.app.app_context(), transaction():
        for change in held:
            publish.leave(f"crew:{phone.crew_id}", change["entity"], change["id"], 9, "removed")
    (line,) = take(phone)
    phone.cp = line["checkpoint"]
    assert phone.pull() == []


def test_a_snapshot_goes_on_from_any_of_its_positions(field: Field) -> None:
    phone = crowded(field)
    lines = take(phone)
    for number, line in enumerate(lines):
        if "position" in line:
            rest = take(phone, line["position"])
            assert rows_of(lines[:number]) | rows_of(rest) == rows_of(lines)
            assert not rows_of(lines[:number]).keys() & rows_of(rest).keys(), "nothing comes twice"
            assert rest[-1] == lines[-1], "the checkpoint is that of the beginning"


def test_what_changes_during_a_cut_comes_with_the_pull(field: Field) -> None:
    phone = crowded(field)
    scope = f"crew:{phone.crew_id}"
    lines = take(phone)
    cut = next(number for number, line in enumerate(lines) if "position" in line)
    put(field.app, scope, range(20), rev=2)  # sent already
    put(field.app, scope, range(390, 420), rev=2)  # not sent yet, and new ones
    with field.app.app_context(), transaction():
        publish.leave(scope, "thing", "t-00030", 2, "removed")
        publish.delete([scope], "thing", "t-00395", 3)
    rest = take(phone, lines[cut]["position"])
    held = rows_of(lines[:cut]) | rows_of(rest)
    phone.cp = rest[-1]["checkpoint"]
    for change in phone.pull():
        if change["op"] == "put":
            held[change["entity"], change["id"]] = change["rev"]
        else:
            held.pop((change["entity"], change["id"]), None)
    crew, own = pulled(phone)
    assert held == crew | own
    assert ("thing", "t-00030") not in held and ("thing", "t-00395") not in held and held["thing", "t-00419"] == 2


def test_a_snapshot_read_while_others_write_misses_nothing(field: Field) -> None:
    phone = crowded(field)
    app, scope, over = field.app, f"crew:{phone.crew_id}", Event()

    def write() -> int:
        turns = 0
        while not over.is_set() and turns < 400:
            turns += 1
            put(app, scope, range(turns % 50 * 10, turns % 50 * 10 + 12), rev=turns + 1)
        return turns

    def read() -> tuple[Rows, str]:
        answer = phone.client.get("/sync/v1/snapshot", buffered=False)
        lines = [json.loads(line) for line in b"".join(answer.iter_encoded()).splitlines()]
        return rows_of(lines), lines[-1]["checkpoint"]

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write)
        copies = [read() for _ in range(5)]
        over.set()
        assert writing.result(60)
    crew, own = pulled(phone)
    for held, checkpoint in copies:
        phone.cp = checkpoint
        for change in phone.pull():
            held[change["entity"], change["id"]] = change["rev"]
        assert held == crew | own


def test_a_position_that_is_not_ours_or_of_another_copy_is_refused(field: Field) -> None:
    phone, other = crowded(field), crowded(field)
    mine, others = (next(line["position"] for line in take(one) if "position" in line) for one in (phone, other))
    phone.pull()
    wrong = mine[:9] + ("A" if mine[9] != "A" else "B") + mine[10:]
    for position in (wrong, "x", others, mine[1:], phone.cp, "." * 50):
        assert problem(phone.client.get(f"/sync/v1/snapshot?after={position}")) == (400, "bad-cursor"), position
    for position in ("", "x" * 4001, "a%00b"):
        assert problem(phone.client.get(f"/sync/v1/snapshot?after={position}"))[0] in (400, 422)
    assert problem(phone.client.get(f"/sync/v1/pull?cp={mine}")) == (400, "bad-cursor"), "and it is no checkpoint"
    assert problem(phone.client.get("/sync/v1/snapshot?limit=5")) == (422, "invalid")
    with field.app.app_context(), transaction():
        db.session.execute(update(SyncEpoch).values(epoch="restored"))
    assert problem(phone.client.get(f"/sync/v1/snapshot?after={mine}")) == (400, "bad-cursor")


def test_a_reset_leads_to_a_snapshot_whose_checkpoint_goes_on(field: Field) -> None:
    phone = crowded(field, 5)
    phone.pull()
    with field.app.app_context(), transaction():
        db.session.execute(update(SyncEpoch).values(epoch="restored"))
    assert done(phone.client.get(f"/sync/v1/pull?cp={phone.cp}"))["reset"] is True
    phone.cp = take(phone)[-1]["checkpoint"]
    assert phone.pull() == []


def test_a_snapshot_is_packed_for_those_who_ask_and_can_be_read_up_to_a_cut(field: Field) -> None:
    phone = crowded(field)
    plain = phone.client.get("/sync/v1/snapshot").data
    packed = phone.client.get("/sync/v1/snapshot", headers={"Accept-Encoding": "gzip"})
    assert packed.content_encoding == "gzip" and "Accept-Encoding" in packed.headers["Vary"]
    assert len(packed.data) < len(plain) / 2
    assert rows_of([json.loads(line) for line in gzip.decompress(packed.data).splitlines()]) == rows_of(
        [json.loads(line) for line in plain.splitlines()]
    )

    def pieces() -> Iterator[bytes]:
        yield b'{"a":1}\n'
        raise ConnectionError

    stream = pack(pieces())
    arrived = zlib.decompressobj(wbits=31).decompress(next(stream))
    assert arrived == b'{"a":1}\n'


def test_a_snapshot_holds_a_page_in_memory_and_no_connection_meanwhile(field: Field) -> None:
    phone = crowded(field)
    scopes = ["ref", f"crew:{phone.crew_id}"]
    with field.app.app_context():
        pieces = snapshot.lines(scopes, snapshot.start(scopes, None, "secret"), "secret")
        sizes = []
        for piece in pieces:
            sizes.append(piece.count(b"\n"))
            assert not db.session().in_transaction()
    assert max(sizes) == snapshot.PAGE_ROWS + 1 and len(sizes) == 4


def test_a_device_that_holds_the_same_is_told_so(field: Field) -> None:
    phone = crowded(field, 30)
    crew, own = pulled(phone)
    assert compare(phone, crew=told(crew), device=told(own), ref=told({})) == {"ok": True}
    fresh = field.phone(phone.crew_id)
    assert compare(fresh, crew=told(crew), device=told({})) == {"ok": True}


def test_what_differs_is_listed_page_by_page(app: Flask, settings: Settings, field: Field) -> None:
    phone = crowded(field, 25)
    crew, own = pulled(phone)
    app.extensions["fieldsvc.settings"] = replace(settings, pull_rows=10)
    rows, after = [], None
    while True:
        answer = compare(phone, crew=told({}) | ({"after": after} if after else {}), device=told(own))
        assert answer["ok"] is False and list(answer["scopes"]) == [f"crew:{phone.crew_id}"], "the other one is right"
        page = answer["scopes"][f"crew:{phone.crew_id}"]
        assert (page["count"], page["checksum"]) == tuple(told(crew).values())
        assert len(page["rows"]) <= 10
        rows += page["rows"]
        after = page["next"]
        assert page["truncated"] is (after is not None)
        if not page["truncated"]:
            break
    assert rows == listed(crew)


def mend(phone: Phone, held: Rows, limit: int) -> int:
    """Repair ``held`` (of the crew) as the protocol says; answers how many questions it took."""
    scope, after, turns = f"crew:{phone.crew_id}", None, 0
    while True:
        behind = [key for key in sorted(held) if after is None or key > (after["entity"], after["id"])]
        rows = listed({key: held[key] for key in behind[:limit]})
        body = told(held) | {"rows": rows, "more": len(behind) > limit} | ({"after": after} if after else {})
        answer = compare(phone, crew=body)
        if answer["ok"]:
            return turns
        turns += 1
        found = answer["scopes"][scope]
        assert len(found["put"]) <= limit and len(found["delete"]) <= limit and "rows" not in found
        for change in found["put"]:
            assert change["op"] == "put" and change["doc"]
            held[change["entity"], change["id"]] = change["rev"]
        for key in found["delete"]:
            del held[key["entity"], key["id"]]
        after = found["next"]
        if not found["truncated"]:
            return turns


@pytest.mark.parametrize("fault", ["all lost", "some lost", "too much", "old revisions", "all of it", "far too much"])
def test_the_repair_says_what_to_put_and_what_to_delete(
    app: Flask, settings: Settings, field: Field, fault: str
) -> None:
    phone = crowded(field, 35)
    crew, _ = pulled(phone)
    app.extensions["fieldsvc.settings"] = replace(settings, pull_rows=10)
    held = dict(crew)
    if fault in ("some lost", "all of it"):
        for number in (0, 9, 10, 11, 34):
            del held["thing", f"t-{number:05}"]
    if fault in ("too much", "all of it"):
        held |= {("thing", "t-00009x"): 1, ("aaa", "1"): 1, ("zzz", "1"): 1}
    if fault in ("old revisions", "all of it"):
        held |= {("thing", f"t-{number:05}"): 0 for number in (1, 12, 33)}
    if fault == "far too much":
        held |= {("thing", f"t-00003-{number:03}"): 1 for number in range(40)}
    if fault == "all lost":
        held = {}
    assert held != crew
    turns = mend(phone, held, 10)
    assert held == crew
    assert turns <= 12
    assert compare(phone, crew=told(held)) == {"ok": True}


def test_a_repair_that_needs_one_page_is_one_question(field: Field) -> None:
    phone = crowded(field, 20)
    crew, _ = pulled(phone)
    held = dict(crew)
    del held["thing", "t-00003"]
    assert mend(phone, held, 500) == 1 and held == crew


def test_scopes_of_others_are_refused_without_a_name(field: Field) -> None:
    phone, other = field.phone(), field.phone()
    sibling = field.phone(phone.crew_id)
    for scope in (
        f"crew:{other.crew_id}",
        f"device:{other.id}",
        f"device:{sibling.id}",
        "crew:nobody",
        "x",
        "territory:1",
    ):
        body = {"scopes": {f"crew:{phone.crew_id}": told({}), scope: told({})}}
        answer = phone.client.post("/sync/v1/manifest", json=body)
        assert problem(answer) == (404, "not-found"), scope
        assert scope not in answer.get_data(as_text=True) or scope == "x"


def test_a_manifest_that_cannot_be_is_refused(app: Flask, settings: Settings, field: Field) -> None:
    app.extensions["fieldsvc.settings"] = replace(settings, pull_rows=3)
    phone = field.phone()
    row = {"entity": "thing", "id": "b", "rev": 1}
    first = {**row, "id": "a"}
    wrong: tuple[dict[str, Any], ...] = (
        {"count": -1},
        {"checksum": "x"},
        {"checksum": "A" * 64},
        {"rows": [row, first]},
        {"rows": [row, row]},
        {"rows": [row], "after": {"entity": "thing", "id": "b"}},
        {"rows": [{**row, "id": f"{number}"} for number in range(4)]},
        {"rows": [], "more": True},
        {"more": True},
        {"rows": [{**row, "rev": "1"}]},
        {"rows": [{"entity": "thing"}]},
        {"rows": [{**row, "id": "x" * 81}]},
        {"rows": {}},
        {"after": "b"},
    )
    for members in wrong:
        body = {"scopes": {f"crew:{phone.crew_id}": told({}) | members}}
        assert problem(phone.client.post("/sync/v1/manifest", json=body)) == (422, "invalid"), members
    wrong_at = {"scopes": {f"crew:{phone.crew_id}": told({}) | {"rows": [{**row, "rev": "1"}]}}}
    refused = phone.client.post("/sync/v1/manifest", json=wrong_at).json["errors"]
    assert [error["field"] for error in refused] == [f"/scopes/crew:{phone.crew_id}/rows/0/rev"]
    for body in ({}, {"scopes": None}, {"scopes": []}, [], {"scopes": {f"crew:{phone.crew_id}": None}}):
        assert problem(phone.client.post("/sync/v1/manifest", json=body)) == (422, "invalid"), body
    unknown = {"scopes": {f"crew:{phone.crew_id}": told({}) | {"later": 1}}, "later": 2}
    assert done(phone.client.post("/sync/v1/manifest", json=unknown))["ok"] is False, "unknown members are no error"
    full = told({}) | {"rows": [{**row, "id": f"{number}"} for number in range(3)]}
    assert done(phone.client.post("/sync/v1/manifest", json={"scopes": {f"crew:{phone.crew_id}": full}}))


def test_only_devices_ask(field: Field) -> None:
    for client in (field.office, field.app.test_client()):
        assert problem(client.get("/sync/v1/snapshot"))[0] == 401
        assert problem(client.post("/sync/v1/manifest", json={"scopes": {}}))[0] == 401
