"""Pull: a device gets all a shift needs, each change once, and is told what is no longer its own."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from flask import Flask
from sqlalchemy import update

from fieldsvc.base.db import db, transaction
from fieldsvc.feed.models import SyncEpoch
from tests.field import Field, Phone, done, exchange, inspected, problem, repaired

SURROUNDINGS = ("customer", "usage_point", "meter")


@pytest.fixture
def field(app: Flask, drain: Callable[[], None]) -> Field:
    return Field(app, drain)


def seen(changes: list[dict]) -> list[tuple[str, str, str]]:
    return [(change["op"], change["entity"], change["id"]) for change in changes]


def same_copy(phone: Phone) -> None:
    """A phone that was there all day holds what a new one of its crew gets, down to the last member."""
    fresh = phone.field.phone(phone.crew_id)
    fresh.pull()
    phone.pull()
    assert phone.copy == fresh.copy


def test_a_job_comes_with_all_a_shift_needs(field: Field) -> None:
    place = field.place({"total": "1500.5", "peak": "500.0", "flat": "500.5", "valley": "500.0"})
    crew = field.crew()
    first = field.phone(crew)
    change = field.job("meter_change", crew, place)
    readings = {"total": "1600.5", "peak": "600.0", "flat": "500.5", "valley": "500.0"}
    zero = dict.fromkeys(readings, "0.0")
    assert (
        first.do("meter.exchange", change, exchange(place, "NEW-1", readings, zero, fitted=("S-1", "S-2"))) == "applied"
    )
    inspection = field.job("safety_inspection", crew, place)
    assert first.do("inspection.record", inspection, inspected({"earthing": "fail"})) == "applied"

    phone = field.phone()
    job = field.job("safety_inspection", phone.crew_id, place, access_note="ring twice", hazards=["dog"])
    changes = phone.pull()
    assert {change["op"] for change in changes} == {"put"}
    doc = phone.copy["job", job]
    assert (doc["kind"], doc["status"], doc["access_note"], doc["hazards"]) == (
        "safety_inspection",
        "dispatched",
        "ring twice",
        ["dog"],
    )
    assert doc["position"] == {"type": "Point", "coordinates": [111.55, 35.45]}
    assert doc["customer_id"] == place.customer_id and doc["usage_point_id"] == place.usage_point_id
    customer = phone.copy["customer", place.customer_id]
    assert customer["number"] == place.customer_number and customer["phone"] == "0359-1000" and customer["address"]
    assert phone.copy["usage_point", place.usage_point_id]["meter_asset_no"] == "NEW-1"
    (meter,) = phone.docs("meter")
    assert meter["asset_no"] == "NEW-1" and meter["registers"]["total"]["value"] == "0.0"
    assert {seal["number"] for seal in phone.docs("seal")} == {"S-1", "S-2"}
    (defect,) = phone.docs("defect")
    assert (defect["item_code"], defect["state"]) == ("earthing", "open") and defect["deadline_at"]
    (checklist,) = phone.docs("checklist")
    assert ("checklist", f"{doc['checklist']}@{doc['checklist_version']}") in phone.copy
    assert checklist["stages"] and checklist["source"]
    assert phone.pull() == [], "each change once"
    same_copy(first)


def test_pages_of_any_size_carry_the_same_changes(field: Field) -> None:
    crew = field.crew()
    one, two, three = field.phone(crew), field.phone(crew), field.phone(crew)
    place = field.place()
    jobs = [field.job("repair", crew, place) for _ in range(3)]
    one.send(*(one.op("job.accept", job) for job in jobs))
    one.cp, one.copy = None, {}
    whole = [change for change in one.pull() if change["entity"] != "outcome"]
    assert seen(two.pull(limit=1)) == seen(whole)
    assert seen(three.pull(limit=3)) == seen(whole)
    assert len(set(seen(whole))) == len(whole) == len(("crew", "checklist", *jobs, *SURROUNDINGS))
    for limit in ("0", "501", "-1", "x", "1e3", "", "9" * 40):
        assert problem(one.client.get(f"/sync/v1/pull?limit={limit}")) == (422, "invalid"), limit
    assert done(one.client.get("/sync/v1/pull?limit=500"))["has_more"] is False


def test_a_checkpoint_that_is_not_ours_is_refused(field: Field) -> None:
    phone = field.phone()
    phone.pull()
    assert phone.cp
    other = phone.cp[:9] + ("A" if phone.cp[9] != "A" else "B") + phone.cp[10:]
    for checkpoint in (other, "x", "W10", phone.cp[1:], phone.cp[:-2], "." * 50):
        assert problem(phone.client.get(f"/sync/v1/pull?cp={checkpoint}")) == (400, "bad-cursor"), checkpoint
    for checkpoint in ("", "x" * 4001, "a%00b"):
        assert problem(phone.client.get(f"/sync/v1/pull?cp={checkpoint}"))[0] in (400, 422)


def test_another_life_of_the_database_and_another_crew_are_a_reset(field: Field) -> None:
    crew = field.crew()
    phone, other = field.phone(crew), field.phone()
    job = field.job("repair", crew)
    phone.pull(), other.pull()
    answer = done(phone.client.get(f"/sync/v1/pull?cp={other.cp}"))
    assert answer["reset"] is True and answer["changes"] == [] and answer["has_more"] is True
    phone.cp = answer["checkpoint"]
    assert ("put", "job", job) in seen(phone.pull())
    with field.app.app_context(), transaction():
        db.session.execute(update(SyncEpoch).values(epoch="restored"))
    answer = done(phone.client.get(f"/sync/v1/pull?cp={phone.cp}"))
    assert answer["reset"] is True
    phone.cp = answer["checkpoint"]
    assert ("put", "job", job) in seen(phone.pull())
    assert phone.pull() == []


def test_an_outcome_comes_with_the_change_it_tells_of(field: Field) -> None:
    phone = field.phone()
    job = field.job("repair", phone.crew_id)
    phone.pull()
    op = phone.op("job.arrive", job)
    phone.push(op)
    assert phone.pull() == [], "accepted changes nothing yet"
    field.drain()
    changes = done(phone.client.get(f"/sync/v1/pull?cp={phone.cp}"))["changes"]
    assert seen(changes) == [("put", "job", job), ("put", "outcome", op["op_id"])]
    told = changes[1]["doc"]
    assert (told["outcome"], told["reason"], told["job_rev"]) == ("applied", None, changes[0]["rev"])
    assert changes[0]["doc"]["status"] == "on_site" and changes[0]["doc"]["rev"] == changes[0]["rev"]


def test_every_phone_of_a_crew_sees_a_change_once_and_only_its_own_outcomes(field: Field) -> None:
    crew = field.crew()
    one, two, stranger = field.phone(crew), field.phone(crew), field.phone()
    job = field.job("repair", crew)
    for phone in (one, two, stranger):
        phone.pull()
    op = one.op("job.accept", job)
    one.push(op)
    field.drain()
    assert seen(two.pull()) == [("put", "job", job)] and two.pull() == []
    assert seen(one.pull()) == [("put", "job", job), ("put", "outcome", op["op_id"])] and one.pull() == []
    assert stranger.pull() == []


def test_a_job_given_to_another_crew_leaves_with_all_that_came_for_it(field: Field) -> None:
    place = field.place()
    one, two = field.phone(), field.phone()
    job = field.job("repair", one.crew_id, place)
    one.pull()
    assert place.meter_id in one.holds("meter")
    field.assign(job, two.crew_id)
    changes = one.pull()
    assert {(change["op"], change["entity"], change.get("reason")) for change in changes} == {
        ("leave", entity, "reassigned") for entity in ("job", *SURROUNDINGS)
    }
    two.pull()
    assert two.holds("job") == {job} and two.holds("meter") == {place.meter_id}
    assert {entity for entity, _ in one.copy} == {"checklist", "crew"}
    field.assign(job, one.crew_id)
    one.pull(), two.pull()
    assert one.holds("job") == {job} and one.holds("customer") == {place.customer_id}
    assert not two.holds("job") and not two.holds("customer")
    same_copy(one), same_copy(two)


@pytest.mark.parametrize("how", ["unassign", "cancel", "return", "not_done"])
def test_a_job_that_is_taken_cancelled_or_sent_back_leaves(field: Field, how: str) -> None:
    place = field.place()
    phone = field.phone()
    job, other = (field.job("repair", phone.crew_id, place) for _ in range(2))
    phone.pull()
    if how == "unassign":
        field.unassign(job)
    elif how == "cancel":
        field.cancel(job)
    else:
        phone.push(phone.op(f"job.{how}", job, {"reason": "no_access"}))
        field.drain()
    changes = [change for change in phone.pull() if change["entity"] != "outcome"]
    reason = {"unassign": "unassigned", "cancel": "cancelled", "return": "returned", "not_done": "not_done"}[how]
    assert [(change["op"], change["id"], change.get("reason")) for change in changes] == [("leave", job, reason)]
    assert phone.holds("customer") == {place.customer_id}, "the other job still needs it"
    field.unassign(other)
    phone.pull()
    assert {entity for entity, _ in phone.copy} == {"checklist", "crew"}
    same_copy(phone)


def test_what_one_crew_changes_at_a_place_shows_at_the_other_that_works_there(field: Field) -> None:
    place = field.place()
    one, two = field.phone(), field.phone()
    change = field.job("meter_change", one.crew_id, place)
    field.job("repair", two.crew_id, place)
    one.pull(), two.pull()
    assert one.do("meter.exchange", change, exchange(place, "NEW-1", fitted=("S-1",))) == "applied"
    report = {"description": "cracked terminal", "grade_scheme": "grid", "grade": "serious"}
    assert one.do("defect.report", change, report) == "applied"
    two.pull()
    assert [meter["asset_no"] for meter in two.docs("meter")] == ["NEW-1"], "the new one came, the old one left"
    assert [seal["number"] for seal in two.docs("seal")] == ["S-1"]
    assert [defect["description"] for defect in two.docs("defect")] == ["cracked terminal"]
    assert two.copy["usage_point", place.usage_point_id]["meter_asset_no"] == "NEW-1"
    assert one.send(one.edit(place.customer_id, {"phone": "0359-1000"}, {"phone": "138"}, "customer")) == ["applied"]
    two.pull()
    assert two.copy["customer", place.customer_id]["phone"] == "138"
    same_copy(one), same_copy(two)


def test_what_came_and_went_within_one_push_is_not_left_behind(field: Field) -> None:
    place = field.place()
    phone = field.phone()
    first, second = (field.job("meter_change", phone.crew_id, place) for _ in range(2))
    phone.pull()
    sent = phone.send(
        phone.op("meter.exchange", first, exchange(place, "NEW-1", fitted=("S-1",))),
        phone.op("meter.exchange", second, exchange("NEW-1", "NEW-2", "0.3", removed=("S-1",), fitted=("S-2",))),
    )
    assert sent == ["applied", "applied"]
    assert [meter["asset_no"] for meter in phone.docs("meter")] == ["NEW-2"]
    assert [seal["number"] for seal in phone.docs("seal")] == ["S-2"]
    same_copy(phone)


def test_a_reading_on_site_is_a_new_revision_of_the_meter(field: Field) -> None:
    place = field.place()
    phone = field.phone()
    job = field.job("repair", phone.crew_id, place)
    phone.pull()
    before = phone.copy["meter", place.meter_id]
    check = {"asset_no": place.asset_no, "registers": {"total": "48100.0"}}
    assert phone.do("job.complete", job, repaired(meter_check=check)) == "applied"
    after = phone.copy["meter", place.meter_id]
    assert after["registers"]["total"]["value"] == "48100.0"
    assert after["rev"] > before["rev"], "no two contents under one revision"


def test_answers_are_packed_for_those_who_ask(field: Field) -> None:
    phone = field.phone()
    for _ in range(3):
        field.job("repair", phone.crew_id)
    plain = phone.client.get("/sync/v1/pull")
    packed = phone.client.get("/sync/v1/pull", headers={"Accept-Encoding": "gzip"})
    assert plain.content_encoding is None and packed.content_encoding == "gzip"
    assert len(packed.data) < len(plain.data) / 2
    assert done(packed)["changes"] == done(plain)["changes"]
    assert "Accept-Encoding" in packed.headers["Vary"]
