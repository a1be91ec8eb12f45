"""Safety inspections: hold points are respected, defects are born and only a later job closes them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from flask import Flask

from fieldsvc.base.clock import format_time, parse_time
from tests.field import Field, checklist_codes, inspected


@pytest.fixture
def field(app: Flask, drain: Callable[[], None]) -> Field:
    return Field(app, drain)


def test_an_inspection_in_parts_is_complete_when_every_point_is_done(field: Field) -> None:
    place, phone = field.place(), field.phone()
    job = field.job("safety_inspection", phone.crew_id, place)
    codes = checklist_codes()
    early = phone.op("job.complete", job, {})
    assert phone.send(early) == ["rejected"] and phone.reason(early) == "hold_point_open"
    ahead = phone.op("inspection.record", job, inspected(codes=["earthing"]))
    assert phone.send(ahead) == ["rejected"] and phone.reason(ahead) == "hold_point_open"
    (fault,) = phone.told[ahead["op_id"]]["errors"]
    assert fault["reason"].startswith("control point briefing (H) is not done")
    first, rest = codes[:3], codes[3:]
    assert phone.do("inspection.record", job, inspected(codes=first)) == "applied"
    half = phone.op("job.complete", job, {})
    assert phone.send(half) == ["rejected"]
    assert len(phone.told[half["op_id"]]["errors"]) == len(rest)
    assert phone.do("inspection.record", job, inspected({"earthing": "fail"}, codes=rest)) == "applied"
    assert phone.do("job.complete", job, {"customer_signature": "a-1"}) == "applied"
    page = field.get(f"/v1/jobs/{job}")
    assert page["status"] == "completed" and set(page["result"]["items"]) == set(codes)
    (contact,) = field.get(f"/v1/customers/{place.customer_id}")["contacts"]["items"]
    assert contact["outcome"] == "inspected; defects: earthing"


def test_a_checklist_nobody_gave_out_and_items_it_does_not_have_are_refused(field: Field) -> None:
    place, phone = field.place(), field.phone()
    job = field.job("safety_inspection", phone.crew_id, place)
    strange = phone.op("inspection.record", job, inspected(codes=["no_such_item"]))
    version = phone.op("inspection.record", job, inspected() | {"checklist_version": 99})
    assert phone.send(strange, version) == ["rejected", "rejected"]
    assert [phone.told[op["op_id"]]["errors"][0]["field"] for op in (strange, version)] == [
        "/payload/items/0/code",
        "/payload/checklist_version",
    ]


def test_a_defect_lives_from_the_inspection_until_a_later_job_has_looked(field: Field) -> None:
    place, phone = field.place(), field.phone()
    job = field.job("safety_inspection", phone.crew_id, place)
    record = phone.op("inspection.record", job, inspected({"earthing": "fail", "incomer": "fail"}))
    assert phone.send(record, phone.op("inspection.record", job, inspected({"earthing": "fail"}))) == ["applied"] * 2
    defects = {defect["item_code"]: defect for defect in phone.docs("defect")}
    assert set(defects) == {"earthing", "incomer"}, "the same failure recorded again bears no second one"
    earthing = defects["earthing"]
    assert (earthing["grade_scheme"], earthing["grade"], earthing["job_id"]) == ("customer", "major", job)
    found = parse_time(record["occurred_at"])
    assert earthing["found_at"] == record["occurred_at"]
    assert earthing["deadline_at"] == format_time(found + timedelta(days=15))

    looked = [{"defect_id": earthing["id"], "closed": True, "note": "rod renewed"}]
    own = phone.op("job.complete", job, {"defects_checked": looked})
    assert phone.send(own) == ["rejected"] and phone.reason(own) == "state_not_allowed"
    assert phone.do("job.complete", job, {}) == "applied"

    later, other = field.job("repair", phone.crew_id, place), field.phone()
    field.job("repair", other.crew_id, place)
    other.pull()
    assert other.holds("defect") == {defect["id"] for defect in defects.values()}
    done = {"cause_major": "x", "fault_place": "y", "ownership": "customer", "work_done": "z"}
    stranger = phone.op("job.complete", later, done | {"defects_checked": [{"defect_id": "no-such", "closed": True}]})
    assert phone.send(stranger) == ["rejected"] and phone.reason(stranger) == "unknown_entity"
    end = phone.op("job.complete", later, done | {"defects_checked": looked})
    assert phone.send(end) == ["applied"]
    other.pull()
    for holder in (phone, other):
        assert {defect["item_code"] for defect in holder.docs("defect")} == {"incomer"}
    on_record = {d["item_code"]: d for d in field.get(f"/v1/customers/{place.customer_id}")["defects"]["items"]}
    assert on_record["incomer"]["state"] == "open"
    closed = on_record["earthing"]
    assert (closed["state"], closed["closed_by_job_id"], closed["closing_note"], closed["closed_at"]) == (
        "closed",
        later,
        "rod renewed",
        end["occurred_at"],
    )
    born = [entry for entry in field.history(operation=record["op_id"]) if entry["entity"] == "defect"]
    assert [entry["action"] for entry in born] == ["defect.opened", "defect.opened"]
    assert "defect.closed" in [entry["action"] for entry in field.history(operation=end["op_id"])]


def test_a_defect_of_a_customer_without_usage_point_reaches_the_next_crew(field: Field) -> None:
    place, one, two = field.place(), field.phone(), field.phone()
    job = field.job("safety_inspection", one.crew_id, customer_id=place.customer_id)
    assert one.do("inspection.record", job, inspected({"interlock": "fail"})) == "applied"
    (defect,) = one.docs("defect")
    next_job = field.job("safety_inspection", two.crew_id, customer_id=place.customer_id)
    two.pull()
    assert two.holds("defect") == {defect["id"]}
    looked = [{"defect_id": defect["id"], "closed": True}]
    assert two.do("inspection.record", next_job, inspected(defects_checked=looked)) == "applied"
    one.pull()
    assert not two.holds("defect") and not one.holds("defect")
    assert one.do("job.return", job, {"reason": "ill"}) == "applied"
    assert not one.holds("customer")


def test_a_defect_reported_in_passing_has_its_deadline_by_its_grade(field: Field) -> None:
    place, phone = field.place(), field.phone()
    job = field.job("repair", phone.crew_id, place)
    report = phone.op(
        "defect.report",
        job,
        {"description": "bare wire", "grade_scheme": "grid", "grade": "critical", "item_code": "W"},
    )
    wrong = phone.op("defect.report", job, {"description": "x", "grade_scheme": "grid", "grade": "major"})
    assert phone.send(report, wrong) == ["applied", "rejected"]
    (defect,) = phone.docs("defect")
    assert defect["deadline_at"] == format_time(parse_time(report["occurred_at"]) + timedelta(days=1))
    assert field.status(job) == "dispatched", "a report moves no job"
