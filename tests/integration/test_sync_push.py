"""Push and its friends: what a device hands in is stored before the answer, once, and answered by itself."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import func, select, update

from fieldsvc.base.clock import format_time, new_id, utc_now
from fieldsvc.base.db import db, reading, transaction
from fieldsvc.sync.models import InboxOperation, OperationDependency
from tests.field import Field, done, problem, repaired


@pytest.fixture
def field(app: Flask, drain: Callable[[], None]) -> Field:
    return Field(app, drain)


def stored(field: Field) -> int:
    with field.app.app_context(), reading():
        return db.session.scalar(select(func.count()).select_from(InboxOperation)) or 0


def test_one_result_per_operation_in_order_and_what_is_accepted_is_stored(field: Field) -> None:
    phone = field.phone()
    job = field.job(crew=phone.crew_id)
    ops = [phone.op("job.accept", job), phone.op("job.arrive", job), phone.op("note.add", job, {"text": "gate locked"})]
    answer = done(phone.post(ops))
    assert answer["results"] == [{"op_id": op["op_id"], "status": "accepted"} for op in ops]
    assert answer["next_seq"] == 4 and answer["backoff_s"] == 0
    assert stored(field) == 3
    standing = done(phone.client.get(f"/sync/v1/ops?ids={ops[2]['op_id']},{ops[0]['op_id']}"))["results"]
    assert [(one["op_id"], one["status"]) for one in standing] == [
        (ops[2]["op_id"], "accepted"),
        (ops[0]["op_id"], "accepted"),
    ]
    assert field.status(job) == "dispatched", "accepted is not applied"
    field.drain()
    phone.pull()
    assert [phone.outcome(op) for op in ops] == ["applied"] * 3
    assert field.status(job) == "on_site"


def test_hello_compares_clocks_and_says_what_to_send_again(field: Field) -> None:
    phone = field.phone()
    job = field.job(crew=phone.crew_id)
    phone.push(phone.op("job.accept", job), phone.op("job.enroute", job))
    slow = format_time(utc_now() - timedelta(minutes=10))
    told = done(phone.client.post("/sync/v1/hello", json={"device_time": slow, "pending": 2, "battery": "new member"}))
    assert told["next_seq"] == 3 and told["upgrade"] == "ok" and told["backoff_s"] == 0
    assert told["limits"] == {
        "push_ops": 200,
        "push_bytes": 1048576,
        "op_bytes": 65536,
        "pull_rows": 500,
        "attachment_bytes": 26214400,
    }
    late = phone.op("note.add", job, {"text": "x"}) | {"occurred_at": slow}
    phone.send(late)
    entry = field.history(operation=late["op_id"])[0]
    assert entry["times"]["device"] == slow
    assert entry["times"]["estimated"] > slow, "the clock's error, told by hello, is taken out"
    for odd in ("1970-01-01T00:00:00Z", "2199-12-31T00:00:00Z"):
        assert done(phone.client.post("/sync/v1/hello", json={"device_time": odd}))["epoch"] == told["epoch"]
        assert phone.do("note.add", job, {"text": odd}) in ("applied", "merged")
    for bad in ({}, {"device_time": "2026-11-21T08:00:00"}, {"device_time": 5}, {"device_time": slow, "pending": -1}):
        assert problem(phone.client.post("/sync/v1/hello", json=bad)) == (422, "invalid")


def test_the_monotonic_clock_of_the_same_boot_is_believed_over_the_wall_clock(field: Field) -> None:
    phone = field.phone()
    job = field.job(crew=phone.crew_id)
    op = phone.op("job.arrive", job, occurred_at="2031-01-01T00:00:00+08:00", mono_ms=1_000_000, boot_id="b1")
    phone.push(op, mono_ms=1_600_000, boot_id="b1", device_time="2031-01-01T00:10:00+08:00")
    field.drain()
    times = field.history(operation=op["op_id"])[-1]["times"]
    assert times["device"] == "2031-01-01T00:00:00+08:00"
    assert times["estimated"] < times["recorded"] < "2031"


def test_the_same_operation_again_is_a_duplicate_with_its_outcome(field: Field) -> None:
    phone = field.phone()
    job = field.job(crew=phone.crew_id)
    op = phone.op(
        "job.accept", job, {"note": "on our way", "position": {"type": "Point", "coordinates": [111.5, 35.4]}}
    )
    twice = done(phone.post([op, op]))["results"]
    assert [one["status"] for one in twice] == ["accepted", "duplicate"]
    assert done(phone.post([op]))["results"][0]["outcome"]["outcome"] == "accepted"
    field.drain()
    answer = done(phone.post([op]))["results"][0]
    assert answer["status"] == "duplicate"
    assert (answer["outcome"]["outcome"], answer["outcome"]["op_id"]) == ("applied", op["op_id"])
    turned = {key: op[key] for key in reversed(op)}
    spaced = json.dumps([turned], indent=3).encode()
    assert done(phone.post_raw(spaced))["results"][0]["status"] == "duplicate", "written anew it is still the same"
    assert stored(field) == 1
    assert len([e for e in field.history(operation=op["op_id"]) if e["entity"] == "job"]) == 1


def test_an_id_with_another_body_is_refused_and_the_first_is_kept(field: Field) -> None:
    phone, other = field.phone(), field.phone()
    job = field.job(crew=phone.crew_id)
    op = phone.op("note.add", job, {"text": "first"})
    assert phone.push(op, op | {"payload": {"text": "within the same push"}}) == ["accepted", "id_reuse"]
    assert phone.push(op | {"payload": {"text": "second"}}) == ["id_reuse"]
    assert phone.push(op | {"seq": 2}) == ["id_reuse"]
    assert other.push(op) == ["id_reuse"], "nor does another device learn what became of it"
    assert done(other.client.get(f"/sync/v1/ops?ids={op['op_id']}"))["results"] == [
        {"op_id": op["op_id"], "status": "not_found"}
    ]
    field.drain()
    assert field.get(f"/v1/jobs/{job}")["notes"] == ["first"]
    assert done(phone.client.get("/sync/v1/ops?ids=never-seen"))["results"][0]["status"] == "not_found"


def test_a_gap_holds_what_comes_after_it_and_filling_it_releases_in_order(field: Field) -> None:
    phone = field.phone()
    job = field.job(crew=phone.crew_id)
    first, second, third = (phone.op("note.add", job, {"text": text}) for text in ("one", "two", "three"))
    answer = done(phone.post([third]))
    assert (
        answer["results"] == [{"op_id": third["op_id"], "status": "held", "reason": "missing_predecessor"}]
        and answer["next_seq"] == 1
    )
    field.drain()
    assert phone.outcome(third) == "held"
    assert done(phone.post([first]))["next_seq"] == 2
    field.drain()
    assert phone.outcome(third) == "held"
    assert done(phone.post([second]))["next_seq"] == 4
    field.drain()
    phone.pull()
    assert [phone.outcome(op) for op in (first, second, third)] == ["applied"] * 3
    assert field.get(f"/v1/jobs/{job}")["notes"] == ["one", "two", "three"]


def test_operations_of_one_push_are_done_in_the_order_of_their_numbers(field: Field) -> None:
    phone = field.phone()
    job = field.job(crew=phone.crew_id)
    ops = [phone.op("note.add", job, {"text": str(number)}) for number in range(6)]
    assert phone.push(*reversed(ops)) == ["accepted"] * 6
    field.drain()
    assert field.get(f"/v1/jobs/{job}")["notes"] == list("012345")


def test_what_depends_on_another_device_waits_for_it(field: Field) -> None:
    crew = field.crew()
    one, two = field.phone(crew), field.phone(crew)
    job, elsewhere = field.job(crew=crew), field.job(crew=crew)
    cause = one.op("note.add", job, {"text": "main switch is off"})
    effect = two.op("note.add", job, {"text": "so we start"}, depends_on=[cause["op_id"]])
    later = two.op("note.add", job, {"text": "and finish"})
    unrelated = two.op("job.accept", elsewhere)
    assert two.push(effect, later, unrelated) == ["held", "held", "accepted"]
    field.drain()
    two.pull()
    assert [two.outcome(op) for op in (effect, later, unrelated)] == ["held", "held", "applied"]
    assert one.push(cause) == ["accepted"]
    field.drain()
    two.pull()
    assert [two.outcome(op) for op in (effect, later)] == ["applied", "applied"]
    assert field.get(f"/v1/jobs/{job}")["notes"] == ["main switch is off", "so we start", "and finish"]


def test_a_gap_filler_that_itself_waits_is_not_overtaken(field: Field) -> None:
    crew = field.crew()
    one, two = field.phone(crew), field.phone(crew)
    job = field.job(crew=crew)
    cause = one.op("note.add", job, {"text": "0"})
    filler = two.op("note.add", job, {"text": "1"}, depends_on=[cause["op_id"]])
    after = [two.op("note.add", job, {"text": text}) for text in "23"]
    assert two.push(*after) == ["held", "held"]
    assert two.push(filler) == ["held"]
    field.drain()
    one.push(cause)
    field.drain()
    assert field.get(f"/v1/jobs/{job}")["notes"] == list("0123")


def test_what_depends_on_a_held_operation_of_the_same_phone_waits_too(field: Field) -> None:
    crew = field.crew()
    one, two = field.phone(crew), field.phone(crew)
    a, b = field.job(crew=crew), field.job(crew=crew)
    cause = one.op("job.accept", a)
    held = two.op("note.add", a, {"text": "isolated"}, depends_on=[cause["op_id"]])
    on_b = two.op("note.add", b, {"text": "safe to touch"}, depends_on=[held["op_id"]])
    assert two.push(held, on_b) == ["held", "held"]
    again = two.op("note.add", b, {"text": "touched"}, depends_on=[on_b["op_id"]])
    assert two.push(again) == ["held"]
    field.drain()
    assert two.outcome(on_b) == "held"
    one.push(cause)
    field.drain()
    two.pull()
    assert [two.outcome(op) for op in (held, on_b, again)] == ["applied"] * 3


def test_depending_on_an_earlier_operation_of_the_same_phone_costs_no_wait(field: Field) -> None:
    phone = field.phone()
    job = field.job(crew=phone.crew_id)
    first = phone.op("job.accept", job)
    second = phone.op("job.arrive", job, depends_on=[first["op_id"]])
    assert phone.push(first, second) == ["accepted", "accepted"]
    assert phone.push(phone.op("job.start", job, depends_on=[second["op_id"], first["op_id"]])) == ["accepted"]
    field.drain()
    assert field.status(job) == "in_progress"


def test_what_depends_on_something_refused_is_decided_all_the_same(field: Field) -> None:
    crew = field.crew()
    one, two = field.phone(crew), field.phone(crew)
    job = field.job(crew=crew)
    unreadable = one.op("note.add", job, {"text": "x"}) | {"occurred_at": "yesterday"}
    follows = two.op("note.add", job, {"text": "y"}, depends_on=[unreadable["op_id"]])
    own = one.op("note.add", job, {"text": "z"}, depends_on=[unreadable["op_id"]])
    assert two.push(follows) == ["held"]
    assert one.push(unreadable, own) == ["rejected", "accepted"]
    field.drain()
    one.pull(), two.pull()
    assert (one.outcome(own), two.outcome(follows)) == ("applied", "applied")
    itself = one.op("note.add", job, {"text": "itself"})
    assert one.push(itself | {"depends_on": [itself["op_id"]]}) == ["rejected"]


def test_what_nobody_was_told_of_is_found_by_the_sweep(field: Field) -> None:
    crew = field.crew()
    one, two = field.phone(crew), field.phone(crew)
    job, other = field.job(crew=crew), field.job(crew=crew)
    cause = one.op("job.accept", job)
    effect, after = two.op("note.add", job, {"text": "1"}), two.op("note.add", job, {"text": "2"})
    lost = two.op("job.accept", other)
    one.push(cause), two.push(effect, after, lost)
    with field.app.app_context(), transaction():
        # As two transactions leave it that did not see each other: held, though what they waited for is there.
        ids = [effect["op_id"], after["op_id"], lost["op_id"]]
        db.session.execute(update(InboxOperation).where(InboxOperation.op_id.in_(ids)).values(status="held"))
        db.session.add(OperationDependency(op_id=effect["op_id"], depends_on=cause["op_id"]))
    assert field.settle() == 4
    two.pull()
    assert [two.outcome(op) for op in (effect, after, lost)] == ["applied"] * 3
    assert field.get(f"/v1/jobs/{job}")["notes"] == ["1", "2"]


def test_members_nobody_knows_are_kept(field: Field) -> None:
    phone = field.phone()
    job = field.job(crew=phone.crew_id)
    op = phone.op("note.add", job, {"text": "x", "mood": "good"}, weather={"rain": True})
    answer = done(phone.post([op], battery=80))
    assert answer["results"][0]["status"] == "accepted"
    with field.app.app_context(), reading():
        body = db.session.scalar(select(InboxOperation.body).where(InboxOperation.op_id == op["op_id"]))
    assert json.loads(body) == op
    field.drain()
    assert phone.outcome(op) == "applied"


def _without(op: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in op.items() if name not in names}


BAD: dict[str, tuple[Callable[[dict[str, Any]], bytes | dict[str, Any]], str]] = {
    "no id": (lambda op: _without(op, "op_id"), "/op_id"),
    "an id of spaces": (lambda op: op | {"op_id": "a b"}, "/op_id"),
    "an id as number": (lambda op: op | {"op_id": 7}, "/op_id"),
    "no seq": (lambda op: _without(op, "seq"), "/seq"),
    "seq as text": (lambda op: op | {"seq": "1"}, "/seq"),
    "a huge seq": (lambda op: op | {"seq": 2**63}, "/seq"),
    "a seq beyond 64 bits": (lambda op: op | {"seq": 10**30}, "/"),
    "no kind": (lambda op: _without(op, "kind"), "/kind"),
    "an empty entity": (lambda op: op | {"entity": ""}, "/entity"),
    "payload as list": (lambda op: op | {"payload": []}, "/payload"),
    "a time without zone": (lambda op: op | {"occurred_at": "2026-11-21T08:00:00"}, "/occurred_at"),
    "a time that never was": (lambda op: op | {"occurred_at": "2026-02-30T08:00:00Z"}, "/occurred_at"),
    "no time": (lambda op: _without(op, "occurred_at"), "/occurred_at"),
    "a negative revision": (lambda op: op | {"base_rev": -1}, "/base_rev"),
    "too many dependencies": (lambda op: op | {"depends_on": [f"o-{n}" for n in range(51)]}, "/depends_on"),
    "an attachment without digest": (lambda op: op | {"attachments": [{"id": "a"}]}, "/attachments"),
    "NUL": (lambda op: op | {"payload": {"text": "a\0b"}}, "/payload/text"),
    "NUL in a name": (lambda op: op | {"payload": {"text": "x", "a\0": 1}}, "/payload"),
    "half a surrogate pair": (lambda op: json.dumps(op).replace('"bad"', '"\\ud800"').encode(), "/"),
    "bad UTF-8": (lambda op: json.dumps(op).encode().replace(b'"bad"', b'"\xff\xfe"'), "/"),
    "5,000 brackets": (lambda op: json.dumps(op).replace('"bad"', "[" * 5000 + "]" * 5000).encode(), "/"),
    "a number without end": (lambda op: json.dumps(op).replace('"bad"', "1e999").encode(), "/"),
    "not an object": (lambda op: b"17", "/"),
    "null": (lambda op: b"null", "/"),
    "more than 64 KiB": (lambda op: op | {"payload": {"text": "x" * 65_536}}, "/"),
}


def test_an_operation_that_cannot_be_read_fails_alone(field: Field) -> None:
    crew = field.crew()
    job = field.job(crew=crew)
    sent: list[tuple[str, Any, list[dict[str, Any]], dict[str, Any], bool]] = []
    for what, (spoil, at) in BAD.items():
        phone = field.phone(crew)
        before, bad, after = (phone.op("note.add", job, {"text": text}) for text in ("before", "bad", "after"))
        spoilt = spoil(bad)
        raw = spoilt if isinstance(spoilt, bytes) else json.dumps(spoilt).encode()
        ops = b"[" + b",".join((json.dumps(before).encode(), raw, json.dumps(after).encode())) + b"]"
        answer = done(phone.post_raw(ops))
        first, refused, last = answer["results"]
        assert first["status"] == "accepted", what
        assert (refused["status"], refused["reason"]) == ("rejected", "bad_payload"), what
        assert [error["field"].startswith(at) and bool(error["reason"]) for error in refused["errors"]] == [True], what
        seq_is_known = answer["next_seq"] == 4
        assert last["status"] == ("accepted" if seq_is_known else "held"), what
        again = done(phone.post_raw(ops))["results"][1]
        assert (again["status"], again["outcome"]["reason"]) == ("duplicate", "bad_payload"), "it is stored as well"
        sent.append((what, phone, [before, bad, after], refused, seq_is_known))
    field.drain()
    for what, phone, (before, bad, after), refused, seq_is_known in sent:
        phone.pull()
        assert phone.outcome(before) == "applied", what
        told = phone.told[refused["op_id"]]
        assert (told["outcome"], told["errors"]) == ("rejected", refused["errors"]), what
        if not seq_is_known:
            assert phone.outcome(after) == "held", what
            assert phone.send(bad | {"op_id": new_id(), "payload": {"text": "mended"}}) == ["applied"], what
        assert phone.outcome(after) == "applied", what
        assert [e["action"] for e in field.history(operation=refused["op_id"])] == ["operation.rejected"], what


def test_an_operation_of_a_schema_from_the_future_is_stale_schema(field: Field) -> None:
    phone = field.phone()
    job = field.job(crew=phone.crew_id)
    op = phone.op("job.accept", job) | {"schema_version": 2}
    result = done(phone.post([op]))["results"][0]
    assert (result["status"], result["reason"]) == ("rejected", "stale_schema")
    assert result["errors"][0]["field"] == "/schema_version"


def note_of(field_phone: Any, job: str, size: int) -> dict[str, Any]:
    """A remark that is ``size`` bytes as JSON, by a member nobody knows."""
    op = field_phone.op("note.add", job, {"text": "x"}) | {"pad": ""}
    return op | {"pad": "x" * (size - len(json.dumps(op)))}


def test_an_operation_has_at_most_64_kib(field: Field) -> None:
    phone = field.phone()
    job = field.job(crew=phone.crew_id)
    fits, too_large = note_of(phone, job, 65_536), note_of(phone, job, 65_537)
    assert len(json.dumps(fits)) == 65_536
    results = done(phone.post([fits, too_large]))["results"]
    assert [one["status"] for one in results] == ["accepted", "rejected"]
    assert "65537 bytes" in results[1]["errors"][0]["reason"]


def test_a_push_has_at_most_200_operations(field: Field) -> None:
    phone = field.phone()
    job = field.job(crew=phone.crew_id)
    ops = [phone.op("note.add", job, {"text": str(number)}) for number in range(201)]
    refused = phone.post(ops)
    assert problem(refused) == (413, "too-large") and refused.json["limit"] == 200
    assert stored(field) == 0
    assert phone.push(*ops[:200]) == ["accepted"] * 200
    assert done(phone.post([]))["results"] == []


def test_a_push_has_at_most_one_mebibyte_also_unpacked(field: Field) -> None:
    phone = field.phone()
    job = field.job(crew=phone.crew_id)
    ops = [note_of(phone, job, 60_000) for _ in range(17)]
    room = 1_048_576 - len(json.dumps({"install_id": phone.install_id, "ops": ops, "pad": ""}))
    for packed in (False, True):
        refused = phone.post(ops, packed=packed, pad="x" * (room + 1))
        assert problem(refused) == (413, "too-large") and refused.json["limit"] == 1_048_576
        assert done(phone.post(ops, packed=packed, pad="x" * room))["next_seq"] == 18


def test_packed_bodies_are_unpacked_with_care(field: Field) -> None:
    phone = field.phone()
    job = field.job(crew=phone.crew_id)
    assert done(phone.post([phone.op("job.accept", job)], packed=True))["results"][0]["status"] == "accepted"
    bomb = gzip.compress(b"0" * 50_000_000)
    assert len(bomb) < 60_000

    def post(data: bytes, **headers: str) -> Any:
        return phone.client.post("/sync/v1/push", data=data, content_type="application/json", headers=headers)

    whole = gzip.compress(json.dumps({"install_id": phone.install_id, "ops": []}).encode())
    packed = {"Content-Encoding": "gzip"}
    assert problem(post(bomb, **packed)) == (413, "too-large")
    assert problem(post(b"not gzip at all", **packed)) == (400, "bad-request")
    assert problem(post(whole[:-9], **packed)) == (400, "bad-request")
    assert problem(post(whole[:-1] + b"x", **packed)) == (400, "bad-request")
    assert problem(post(b"", **packed)) == (400, "bad-request")
    assert problem(post(whole, **{"Content-Encoding": "br"})) == (415, "unsupported-media-type")
    assert done(post(whole, **packed))["results"] == []


WHOLE = {
    b"": 400,
    b"{": 400,
    b"\xff\xfe": 400,
    b'{"install_id":"x","ops":[': 400,
    b"[" * 5000: 422,
    b"[]": 422,
    b"17": 422,
    b'{"install_id":"x"}': 422,
    b'{"ops":[]}': 422,
    b'{"install_id":"x","ops":{}}': 422,
    b'{"install_id":5,"ops":[]}': 422,
    b'{"install_id":"","ops":[]}': 422,
    b'{"install_id":"somebody-elses","ops":[]}': 422,
    b'{"install_id":"x","ops":[],"device_time":"2026-11-21T08:00:00"}': 422,
    b'{"install_id":"x","ops":[],"mono_ms":-1}': 422,
}


def test_a_push_that_cannot_be_read_as_a_whole_is_a_problem(field: Field) -> None:
    phone = field.phone()
    for body, status in WHOLE.items():
        answer = phone.client.post("/sync/v1/push", data=body, content_type="application/json")
        assert problem(answer) == (status, {400: "bad-request", 422: "invalid"}[status]), body[:80]
        if status == 422:
            assert answer.json["errors"][0]["field"].startswith("/") and answer.json["errors"][0]["reason"], body[:80]


def test_the_body_is_json_and_says_so(field: Field) -> None:
    phone = field.phone()
    body = json.dumps({"install_id": phone.install_id, "ops": []})
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        refused = phone.client.post("/sync/v1/push", data=body, content_type=kind)
        assert problem(refused) == (415, "unsupported-media-type")
    assert done(phone.client.post("/sync/v1/push", data=body, content_type="application/json; charset=utf-8"))


def test_a_revoked_phone_is_told_to_wipe_on_every_door(field: Field) -> None:
    phone = field.phone()
    job = field.job(crew=phone.crew_id)
    done(field.office.post(f"/v1/devices/{phone.id}/revoke"))
    for answer in (
        phone.post([phone.op("job.accept", job)]),
        phone.client.get("/sync/v1/pull"),
        phone.client.get("/sync/v1/ops?ids=x"),
        phone.client.post("/sync/v1/hello", json={"device_time": "2026-11-21T08:00:00Z"}),
    ):
        assert problem(answer) == (403, "device-revoked") and answer.json["wipe"] is True
    assert stored(field) == 0


def test_without_a_token_every_door_is_closed(field: Field) -> None:
    stranger = field.app.test_client()
    for answer in (
        stranger.post("/sync/v1/push", json={"install_id": "x", "ops": []}),
        stranger.get("/sync/v1/pull"),
        stranger.get("/sync/v1/ops?ids=x"),
        stranger.post("/sync/v1/hello", json={}),
    ):
        assert problem(answer) == (401, "unauthenticated")


def test_a_phone_enrolled_again_goes_on_where_it_was(field: Field) -> None:
    crew = field.crew()
    phone = field.phone(crew)
    job = field.job(crew=crew)
    phone.push(phone.op("job.accept", job))
    code = done(field.office.post(f"/v1/crews/{crew}/enrolment-codes"), 201)["code"]
    given = done(
        field.app.test_client().post("/sync/v1/enrol", json={"code": code, "install_id": phone.install_id}), 201
    )
    assert given["device_id"] == phone.id
    assert problem(phone.client.get("/sync/v1/pull")) == (401, "unauthenticated")
    phone.client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {given['token']}"
    assert phone.send(phone.op("job.complete", job, repaired())) == ["applied"]


def test_ids_asked_for_are_checked(field: Field) -> None:
    phone = field.phone()
    for ids in ("", "a,,b", "a b", "a\0", ",".join(["x"] * 201), "x" * 81):
        answer = phone.client.get("/sync/v1/ops", query_string={"ids": ids})
        assert problem(answer) == (422, "invalid"), ids[:20]
    many = ",".join([new_id()] * 200)
    assert len(done(phone.client.get("/sync/v1/ops", query_string={"ids": many}))["results"]) == 200
