"""What becomes of operations on jobs and customers: every outcome and reason that does not need a meter."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from flask import Flask

from fieldsvc.base.clock import format_time, new_id, utc_now
from tests.factories import with_token
from tests.field import Field, Phone, done, problem, repaired


@pytest.fixture
def field(app: Flask, drain: Callable[[], None]) -> Field:
    return Field(app, drain)


def job_of(field: Field, job_id: str) -> dict:
    return field.get(f"/v1/jobs/{job_id}")


def told(phone: Phone, *ops: dict) -> list[tuple[str, str | None]]:
    """Outcome and reason of each."""
    phone.push(*ops)
    phone.field.drain()
    phone.pull()
    return [(phone.outcome(op), phone.reason(op)) for op in ops]


def test_a_repair_from_dispatch_to_the_record(field: Field) -> None:
    place, phone = field.place(), field.phone()
    reported = field.tick().isoformat()
    job = field.job("repair", phone.crew_id, place, reported_at=reported, title="No supply")
    phone.pull()
    steps = [phone.op(f"job.{step}", job) for step in ("accept", "enroute", "arrive", "start")]
    suspend = phone.op("job.suspend", job, {"reason": "material", "note": "fuse from the depot"})
    resume, note = phone.op("job.resume", job), phone.op("note.add", job, {"text": "dog is tied"})
    end = phone.op("job.complete", job, repaired(parts=[{"code": "FUSE-63", "qty": "3"}], customer_signature="a-1"))
    assert phone.send(*steps, suspend, resume, note, end) == ["applied"] * 8
    page = job_of(field, job)
    assert page["status"] == "completed" and page["completed_at"] == end["occurred_at"]
    assert page["notes"] == ["fuse from the depot", "dog is tied"]
    assert page["result"]["cause_major"] == "line" and page["result"]["parts"] == [{"code": "FUSE-63", "qty": "3"}]
    clocks = {clock["kind"]: clock for clock in page["clocks"]}
    assert (clocks["arrival"]["verdict"], clocks["arrival"]["reached_at"]) == ("met", steps[2]["occurred_at"])
    entries = [e for e in field.history(job=job) if e["entity"] == "job" and e["actor"]["kind"] == "device"]
    assert [e["action"] for e in entries] == [op["kind"] for op in (*steps, suspend, resume, note, end)]
    assert [e["op_id"] for e in entries] == [op["op_id"] for op in (*steps, suspend, resume, note, end)]
    statuses = [e["after"]["status"] for e in entries if "status" in e["after"]]
    assert statuses == "accepted enroute on_site in_progress waiting_on_material in_progress completed".split()
    assert entries[0]["before"] == {"status": "dispatched"}
    assert entries[0]["actor"] == {"kind": "device", "id": phone.id, "name": "device android 15"}
    assert (entries[0]["crew_id"], entries[0]["device_id"]) == (phone.crew_id, phone.id)
    times = entries[0]["times"]
    assert times["device"] == steps[0]["occurred_at"] and times["estimated"] < times["recorded"]
    (contact,) = field.get(f"/v1/customers/{place.customer_id}")["contacts"]["items"]
    assert contact["job_id"] == job and contact["op_id"] == end["op_id"] and "supply restored" in contact["outcome"]


def test_a_tap_that_comes_too_late_is_superseded_and_its_arrival_still_counts(field: Field) -> None:
    crew = field.crew()
    phone, other = field.phone(crew), field.phone(crew)
    job = field.job("repair", crew, reported_at=field.tick().isoformat())
    accept, arrive = phone.op("job.accept", job), phone.op("job.arrive", job)
    assert other.do("job.start", job) == "applied"
    assert told(phone, accept, arrive) == [("superseded", None), ("superseded", None)]
    assert field.status(job) == "in_progress"
    arrival = next(clock for clock in job_of(field, job)["clocks"] if clock["kind"] == "arrival")
    assert arrival["reached_at"] == arrive["occurred_at"] and arrival["verdict"] == "met"
    actions = [e["action"] for e in field.history(operation=arrive["op_id"])]
    assert sorted(actions) == ["operation.superseded", "promise.met"]


def test_what_is_not_possible_in_this_state_is_rejected(field: Field) -> None:
    phone = field.phone()
    job = field.job("repair", phone.crew_id)
    assert told(phone, phone.op("job.resume", job)) == [("rejected", "state_not_allowed")]
    assert field.status(job) == "dispatched"


def test_content_that_is_not_what_its_operation_needs_is_rejected_naming_every_fault(field: Field) -> None:
    phone = field.phone()
    job = field.job("repair", phone.crew_id)
    bad = phone.op("job.complete", job, {"cause_major": "no such code!", "fault_place": "", "ownership": "nobody"})
    odd = phone.op("job.fly", job, {})
    nowhere = phone.op("job.arrive", job, {"position": {"type": "Point", "coordinates": [500, -91]}})
    deep = phone.op("note.add", job, {"text": "x", "more": json.loads("[" * 40 + "]" * 40)})
    good = phone.op("job.accept", job)
    assert told(phone, bad, odd, nowhere, deep, good) == [("rejected", "bad_payload")] * 4 + [("applied", None)]
    fields = [error["field"] for error in phone.told[bad["op_id"]]["errors"]]
    assert sorted(fields) == [f"/payload/{name}" for name in ("cause_major", "fault_place", "ownership", "work_done")]
    where = [error["field"] for error in phone.told[nowhere["op_id"]]["errors"]]
    assert where == ["/payload/position/coordinates/0", "/payload/position/coordinates/1"]
    assert phone.told[odd["op_id"]]["errors"][0]["field"] == "/kind"
    (entry,) = field.history(operation=bad["op_id"])
    assert entry["action"] == "operation.rejected" and entry["after"]["reason"] == "bad_payload"


def test_what_is_not_on_record_or_not_this_crews_is_rejected(field: Field) -> None:
    phone, other = field.phone(), field.phone()
    theirs = field.job("repair", other.crew_id)
    place = field.place()
    ops = [
        phone.op("job.accept", new_id()),
        phone.op("job.accept", "工单 8841"),
        phone.op("meter.lift", place.meter_id, {}, entity="meter"),
        phone.op("customer.update", new_id(), entity="customer", set={"phone": "1"}),
        phone.op("job.accept", theirs),
        phone.op("job.complete", theirs, repaired()),
        phone.op("customer.update", place.customer_id, entity="customer", set={"phone": "1"}),
    ]
    assert told(phone, *ops) == [("rejected", "unknown_entity")] * 4 + [("rejected", "not_assigned")] * 3
    assert phone.told[ops[4]["op_id"]]["job_rev"] is None
    assert field.status(theirs) == "dispatched"


def test_work_on_a_job_that_went_to_another_crew_is_kept_for_both_to_see(field: Field) -> None:
    one, two = field.phone(), field.phone()
    job = field.job("repair", one.crew_id)
    one.pull()
    field.assign(job, two.crew_id)
    accept, complete = one.op("job.accept", job), one.op("job.complete", job, repaired())
    note, edit = one.op("note.add", job, {"text": "was here"}), one.edit(job, {}, {"access_note": "back gate"})
    garbage = one.op("job.complete", job, {"cause_major": 5})
    unheard = one.op("pole.climb", job, {})
    assert told(one, accept, complete, note, edit, garbage, unheard) == [
        ("superseded", "reassigned"),
        ("parked", "reassigned"),
        ("applied", None),
        ("parked", "reassigned"),
        ("rejected", "bad_payload"),
        ("rejected", "bad_payload"),
    ]
    two.pull()
    shown = two.copy["job", job]
    assert shown["status"] == "dispatched" and shown["notes"] == ["was here"] and shown["access_note"] is None
    assert [(entry["op_kind"], entry["reason"], entry["crew_id"]) for entry in shown["attention"]] == [
        ("job.complete", "reassigned", one.crew_id),
        ("job.update", "reassigned", one.crew_id),
    ]
    (first, _) = field.reviews(job=job)
    assert first["proposed"]["payload"] == complete["payload"] and first["crew_id"] == one.crew_id
    assert two.do("job.complete", job, repaired()) == "applied"
    again = one.op("job.complete", job, repaired(work_done="also us"))
    assert told(one, again) == [("parked", "duplicate_work")]
    two.pull()
    assert two.copy["job", job]["attention"][-1]["reason"] == "duplicate_work"
    assert field.reviews(job=job)[-1]["proposed"]["payload"] == again["payload"], "and the dispatcher"
    assert field.get(f"/v1/jobs/{job}")["attention"] == two.copy["job", job]["attention"]


def test_work_done_before_a_phone_moved_to_another_crew_counts_for_the_crew_of_that_time(field: Field) -> None:
    phone, place = field.phone(), field.place()
    job = field.job("repair", phone.crew_id, place)
    phone.pull()
    done = phone.op("job.complete", job, repaired())
    edit = phone.edit(place.customer_id, {}, {"phone": "0359-7"}, entity="customer")
    code = field.office.post(f"/v1/crews/{field.crew()}/enrolment-codes").json["code"]
    moved = field.app.test_client().post("/sync/v1/enrol", json={"code": code, "install_id": phone.install_id})
    assert moved.status_code == 201 and moved.json["crew_id"] != phone.crew_id
    phone.client, phone.cp = with_token(field.app, moved.json["token"]), None
    assert told(phone, done, edit) == [("applied", None)] * 2
    assert field.status(job) == "completed"
    assert {entry["crew_id"] for entry in field.history(operation=done["op_id"])} == {phone.crew_id}
    later = phone.op("job.accept", job, occurred_at=format_time(utc_now()))
    assert told(phone, later) == [("rejected", "not_assigned")]


def test_work_on_a_cancelled_job_is_kept(field: Field) -> None:
    phone = field.phone()
    job = field.job("repair", phone.crew_id)
    phone.pull()
    field.cancel(job)
    ops = [phone.op("job.arrive", job), phone.op("job.complete", job, repaired()), phone.op("job.accept", job)]
    assert told(phone, *ops) == [
        ("superseded", "cancelled"),
        ("parked", "completed_after_cancel"),
        ("superseded", "cancelled"),
    ]
    assert field.status(job) == "cancelled"
    (review,) = field.reviews(job=job)
    assert (review["reason"], review["proposed"]["payload"]) == ("completed_after_cancel", ops[1]["payload"])
    (entry,) = field.get(f"/v1/jobs/{job}")["attention"]
    assert (entry["op_id"], entry["reason"]) == (ops[1]["op_id"], "completed_after_cancel")


def test_a_second_account_of_finished_work_is_kept_for_review(field: Field) -> None:
    crew = field.crew()
    one, two = field.phone(crew), field.phone(crew)
    job = field.job("repair", crew)
    assert one.do("job.complete", job, repaired(work_done="new fuse")) == "applied"
    second = two.op("job.complete", job, repaired(work_done="old fuse"))
    assert told(two, second) == [("parked", "duplicate_work")]
    assert job_of(field, job)["result"]["work_done"] == "new fuse"
    one.pull()
    assert [entry["reason"] for entry in one.copy["job", job]["attention"]] == ["duplicate_work"]
    (review,) = field.reviews(job=job)
    assert problem(field.resolve(review["id"], "apply")) == (409, "state-not-allowed"), "there is one result"
    assert field.resolve(review["id"], "dismiss", "both replaced it").status_code == 200
    kept = field.history(operation=second["op_id"])
    assert {"operation.parked", "operation.resolved", "review.resolved"} <= {entry["action"] for entry in kept}
    one.pull()
    assert one.copy["job", job]["attention"] == []


def test_a_stale_base_that_touches_other_fields_is_merged(field: Field) -> None:
    crew = field.crew()
    one, two = field.phone(crew), field.phone(crew)
    job = field.job("repair", crew, access_note="front")
    one.pull(), two.pull()
    assert one.send(one.edit(job, {"contact_phone": None}, {"contact_phone": "138"})) == ["applied"]
    own = [one.edit(job, {"contact_phone": "138"}, {"contact_phone": "139"}), one.op("job.accept", job, base_rev=1)]
    assert one.send(*own) == ["applied", "applied"], "what a phone did itself does not make its base stale"
    stale = two.rev("job", job)
    assert two.send(two.edit(job, {"access_note": "front"}, {"access_note": "back"})) == ["merged"]
    assert two.do("note.add", job, {"text": "x"}, base_rev=stale) == "merged"
    page = job_of(field, job)
    assert (page["contact_phone"], page["access_note"], page["notes"]) == ("139", "back", ["x"])
    assert field.reviews(job=job) == []


def test_lists_are_joined_without_a_conflict(field: Field) -> None:
    crew = field.crew()
    one, two = field.phone(crew), field.phone(crew)
    job = field.job("repair", crew, tags=["night", "wet"])
    one.pull(), two.pull()
    assert one.send(one.edit(job, {"tags": ["night", "wet"]}, {"tags": ["night", "wet", "ladder"]})) == ["applied"]
    assert two.send(two.edit(job, {"tags": ["night", "wet"]}, {"tags": ["night", "dog"]})) == ["merged"]
    assert one.send(one.edit(job, {"notes": []}, {"notes": ["one"]})) == ["merged"]
    assert two.send(two.edit(job, {"notes": []}, {"notes": ["two"]})) == ["merged"]
    page = job_of(field, job)
    assert sorted(page["tags"]) == ["dog", "ladder", "night"] and page["notes"] == ["one", "two"]


def test_of_two_who_changed_the_same_the_later_one_wins_and_a_person_is_told(field: Field) -> None:
    crew = field.crew()
    one, two = field.phone(crew), field.phone(crew)
    job = field.job("repair", crew, access_note="front")
    one.pull(), two.pull()
    early, late = one.edit(job, {"access_note": "front"}, {"access_note": "back"}), None
    late = two.edit(job, {"access_note": "front"}, {"access_note": "cellar"})
    assert told(one, early) == [("applied", None)]
    assert told(two, late) == [("applied_conflict", None)]
    assert job_of(field, job)["access_note"] == "cellar"
    (conflict,) = two.told[late["op_id"]]["conflicts"]
    assert conflict == {
        "field": "access_note",
        "base": "front",
        "device": "cellar",
        "record": "back",
        "policy": "latest_occurred",
        "chosen": "device",
        "severity": "soft",
    }
    (review,) = field.reviews(job=job)
    assert (review["outcome"], review["severity"], review["conflicts"]) == ("applied_conflict", "soft", [conflict])
    assert two.told[late["op_id"]]["review_id"] == review["id"]
    same = one.edit(job, {"access_note": "front"}, {"access_note": "cellar"})
    assert one.send(same)[0] in ("applied", "merged"), "equal values are no conflict"


def test_what_the_office_changed_later_stays(field: Field) -> None:
    phone = field.phone()
    job = field.job("repair", phone.crew_id, access_note="front", title="No supply")
    phone.pull()
    tag = {"If-Match": f'"{job_of(field, job)["rev"]}"'}
    new = {"access_note": "ring at 4", "title": "No supply at all"}
    done(field.office.patch(f"/v1/jobs/{job}", json=new, headers=tag))
    was = {"access_note": "front", "title": "No supply"}
    edit = phone.edit(job, was, {"access_note": "back", "title": "Fuse"})
    assert told(phone, edit) == [("applied_conflict", None)]
    page = job_of(field, job)
    assert (page["access_note"], page["title"]) == ("ring at 4", "No supply at all")
    assert {conflict["chosen"] for conflict in phone.told[edit["op_id"]]["conflicts"]} == {"record"}


def test_where_only_a_person_can_say_nothing_is_stored(field: Field) -> None:
    crew = field.crew()
    one, two = field.phone(crew), field.phone(crew)
    place = field.place()
    job = field.job("repair", crew, place)
    one.pull(), two.pull()
    part = {"code": "FUSE-63", "qty": "3"}
    assert one.send(one.edit(job, {}, {"parts_estimate": [part]})) == ["applied"]
    edit = two.edit(job, {"parts_estimate": None}, {"parts_estimate": [], "contact_phone": "138"})
    assert told(two, edit) == [("parked", None)]
    page = job_of(field, job)
    assert page["details"]["parts_estimate"] == [part] and page["contact_phone"] is None
    number = one.edit(place.customer_id, {}, {"number": "C-OTHER", "phone": "138"}, "customer")
    assert told(one, number) == [("parked", None)]
    assert field.get(f"/v1/customers/{place.customer_id}")["phone"] == "0359-1000"


def test_a_customer_is_edited_by_the_crew_that_works_there(field: Field) -> None:
    place, phone, other = field.place(), field.phone(), field.phone()
    field.job("repair", phone.crew_id, place)
    phone.pull()
    good = phone.edit(place.customer_id, {"phone": "0359-1000"}, {"phone": "138", "shoe_size": 44}, "customer")
    bad = phone.edit(place.customer_id, {}, {"phone": 138}, "customer")
    empty = phone.edit(place.customer_id, {}, {"shoe_size": 44}, "customer")
    assert told(phone, good, bad, empty) == [
        ("applied", None),
        ("rejected", "bad_payload"),
        ("rejected", "bad_payload"),
    ]
    assert phone.told[good["op_id"]]["entity_rev"] == phone.rev("customer", place.customer_id)
    assert phone.told[bad["op_id"]]["errors"][0]["field"] == "/set/phone"
    (entry,) = [e for e in field.history(operation=good["op_id"]) if e["entity"] == "customer"]
    assert (entry["before"], entry["after"]) == ({"phone": "0359-1000"}, {"phone": "138"})
    assert told(other, other.edit(place.customer_id, {}, {"phone": "1"}, "customer")) == [("rejected", "not_assigned")]


def test_odd_numbers_and_nests_in_members_nobody_knows_stop_nothing(field: Field) -> None:
    one, two = field.phone(), field.phone()
    job = field.job("repair", one.crew_id)
    field.assign(job, two.crew_id)
    large = one.op("job.complete", job, repaired(extra=2**64 - 1, small=-1e308, odd={"\u2028": [[[{}]]]}))
    huge = one.op("job.complete", job, repaired(extra=2**64))
    deep = one.op("note.add", job, {"text": "x"}) | {"unknown": json.loads("[" * 200 + "]" * 200)}
    deeper = one.op("note.add", job, {"text": "x"}) | {"unknown": json.loads("[" * 600 + "]" * 600)}
    assert told(one, large, huge, deep, deeper) == [
        ("parked", "reassigned"),
        ("rejected", "bad_payload"),
        ("applied", None),
        ("rejected", "bad_payload"),
    ]
    (review,) = field.reviews(job=job)
    assert review["proposed"]["payload"] == large["payload"]


def test_a_device_is_not_in_conflict_with_itself(field: Field) -> None:
    """It lost the answer to its first edit, so it still says what it had seen before that."""
    phone = field.phone()
    job = field.job(crew=phone.crew_id)
    phone.pull()
    seen, base = {"access_note": None, "tags": []}, phone.rev("job", job)
    assert phone.send(phone.edit(job, seen, {"access_note": "ring twice", "tags": ["dog"]})) == ["applied"]
    assert phone.send(phone.edit(job, seen, {"access_note": "ring thrice", "tags": ["ladder"]}, base_rev=base)) == [
        "merged"
    ]
    assert phone.copy["job", job]["access_note"] == "ring thrice"
    assert phone.copy["job", job]["tags"] == ["dog", "ladder"]
    assert not field.reviews()


def test_what_dispatch_decides_meanwhile_makes_no_base_stale(field: Field) -> None:
    phone = field.phone()
    job = field.job("repair", phone.crew_id)
    phone.pull()
    base = {"base_rev": phone.rev("job", job)}
    accept, note = phone.op("job.accept", job, **base), phone.op("note.add", job, {"text": "rang twice"}, **base)
    pinned = {"crew_id": phone.crew_id, "planned_start": format_time(field.tick()), "pin": True}
    done(field.office.post(f"/v1/jobs/{job}/assign", json=pinned))
    done(field.office.post(f"/v1/jobs/{job}/unpin", json={}))
    assert phone.send(accept, note) == ["applied", "applied"]
