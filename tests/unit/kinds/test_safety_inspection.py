from __future__ import annotations

from datetime import timedelta

import pytest

from fieldsvc import rules
from fieldsvc.kinds.base import AddContact, CloseDefect, OpenDefect, SetResult, SetStatus
from fieldsvc.kinds.safety_inspection import KIND
from tests.unit.kinds.situations import NOON, every, fields, only, operation, situation

CHECKLIST = rules.load().checklist("safety_inspection", NOON.date()).value
STAGES = [[item["code"] for item in stage["items"]] for stage in CHECKLIST["stages"]]
ALL = [code for stage in STAGES for code in stage]


def passed(*codes):
    return [{"code": code, "result": "pass"} for code in codes]


def around(status="in_progress", **other):
    return situation(status, "safety_inspection", **({"checklist": CHECKLIST} | other))


def record(items, at=NOON, more=None, **other):
    payload = {"checklist": "safety_inspection", "checklist_version": 1, "items": items} | (more or {})
    return KIND.reconcile(operation("inspection.record", payload, occurred_at=at), around(**other))


def result_after(*records):
    """The job's result after records of items that must all be applied, one operation each."""
    result = None
    for items in records:
        decision = record(items, result=result)
        assert decision.outcome == "applied", decision
        result = only(decision, SetResult).result
    return result


def complete(result, payload=None, **other):
    return KIND.reconcile(operation("job.complete", payload or {}), around(result=result, **other))


def test_records_gather_in_the_result_per_item():
    result = result_after(passed(*STAGES[0]), passed(*STAGES[1]))
    assert set(result["items"]) == set(STAGES[0] + STAGES[1])
    assert result["items"]["briefing"] == {"code": "briefing", "result": "pass", "recorded_at": "2026-11-21T12:00:00Z"}
    assert (result["checklist"], result["checklist_version"]) == ("safety_inspection", 1)


def test_of_one_item_the_later_record_counts_in_whatever_order_they_come():
    early, late = NOON, NOON + timedelta(minutes=5)
    item = [{"code": "records", "result": "fail"}]
    one_way = only(record(item, at=early), SetResult).result
    one_way = only(record(passed("records"), at=late, result=one_way), SetResult).result
    other = only(record(passed("records"), at=late), SetResult).result
    decision = record(item, at=early, result=other)
    assert only(decision, SetResult).result == one_way == other
    assert decision.explanation["older_than_recorded"] == ["records"]
    assert only(decision, OpenDefect).item_code == "records"


def test_work_may_not_go_past_an_open_hold_point():
    decision = record(passed("records", STAGES[1][1]))
    assert (decision.outcome, decision.reason) == ("rejected", "hold_point_open")
    assert [point["code"] for point in decision.explanation["open"]] == ["briefing"]
    assert "briefing" in decision.errors[0]["reason"]


def test_a_hold_point_in_the_same_record_opens_the_way():
    assert record(passed("briefing", STAGES[1][1])).outcome == "applied"


def test_hold_points_of_the_same_stage_do_not_wait_for_each_other():
    assert record(passed("records")).outcome == "applied"
    assert record(passed("metering"), result=result_after(passed("briefing"))).outcome == "applied"


@pytest.mark.parametrize(
    ("entry", "outcome"),
    [
        ({"result": "pass"}, "applied"),
        ({"result": "fail"}, "rejected"),
        ({"result": "fail", "released_by": "shift leader 12"}, "applied"),
        ({"result": "not_applicable"}, "rejected"),
        ({"result": "not_applicable", "released_by": "shift leader 12"}, "applied"),
    ],
)
def test_a_hold_point_needs_to_pass_or_to_be_released(entry, outcome):
    assert record([{"code": "briefing"} | entry, *passed("metering")]).outcome == outcome


@pytest.mark.parametrize(("done", "outcome"), [(True, "applied"), (False, "rejected"), ("yes", "rejected")])
def test_a_hold_point_may_be_released_from_outside(done, outcome):
    assert record(passed("metering"), checkpoints={"briefing": {"done": done}}).outcome == outcome


def test_completion_names_every_control_point_not_done():
    decision = complete(result_after(passed(*STAGES[0])))
    assert (decision.outcome, decision.reason) == ("rejected", "hold_point_open")
    assert [point["code"] for point in decision.explanation["open"]] == STAGES[1] + STAGES[2]
    assert len(decision.errors) == len(STAGES[1] + STAGES[2])


@pytest.mark.parametrize("left_out", ALL)
def test_each_single_control_point_holds_the_completion(left_out):
    result = result_after(passed(*ALL))
    del result["items"][left_out]
    decision = complete(result)
    assert decision.reason == "hold_point_open"
    assert [point["code"] for point in decision.explanation["open"]] == [left_out]


def test_an_inspection_with_all_points_done_is_completed():
    decision = complete(result_after(passed(*ALL)))
    assert only(decision, SetStatus).to == "completed"
    assert only(decision, AddContact).outcome == "inspected; no defects"
    assert set(only(decision, SetResult).result["items"]) == set(ALL)


def test_failed_points_other_than_holds_do_not_stop_the_completion():
    items = [*passed(*(code for code in ALL if code != "earthing")), {"code": "earthing", "result": "fail"}]
    assert only(complete(result_after(items)), AddContact).outcome == "inspected; defects: earthing"


def test_nothing_recorded_is_not_an_inspection():
    for checklist in (CHECKLIST, None):
        assert complete(None, checklist=checklist).reason == "hold_point_open"


@pytest.mark.parametrize(
    ("item", "scheme", "grade", "days"),
    [
        ({"code": "metering"}, "grid", "serious", 30),
        ({"code": "interlock"}, "customer", "emergency", 1),
        ({"code": "interlock", "grade_scheme": "grid", "grade": "general"}, "grid", "general", 180),
        ({"code": "explained"}, "customer", "general", 90),
    ],
)
def test_a_failed_item_bears_a_defect_with_grade_and_deadline(item, scheme, grade, days):
    decision = record(
        [item | {"result": "fail", "note": "as found"}], result=result_after(passed("briefing", "approach"))
    )
    defect = only(decision, OpenDefect)
    assert (defect.item_code, defect.description) == (item["code"], "as found")
    assert (defect.grade_scheme, defect.grade, defect.found_at) == (scheme, grade, NOON)
    assert defect.deadline_at == NOON + timedelta(days=days)
    assert decision.explanation["defects"][0]["days"] == days


def test_without_a_note_the_defect_is_called_what_was_checked():
    assert only(record([{"code": "records", "result": "fail"}]), OpenDefect).description.startswith("Customer file")


def test_the_same_failure_recorded_again_bears_no_second_defect():
    failed = [{"code": "records", "result": "fail"}]
    assert not every(record(failed, result=result_after(failed)), OpenDefect)
    known = ({"id": "F-1", "item_code": "records", "job_id": "J-1", "state": "open"},)
    assert not every(record(failed, defects=known), OpenDefect)
    of_another_job = ({"id": "F-1", "item_code": "records", "job_id": "J-0", "state": "open"},)
    assert len(every(record(failed, defects=of_another_job), OpenDefect)) == 1


def test_an_inspection_closes_what_earlier_ones_found():
    known = (
        {"id": "F-1", "item_code": "earthing", "job_id": "J-0", "state": "open", "found_at": NOON - timedelta(days=90)},
    )
    looked = {"defects_checked": [{"defect_id": "F-1", "closed": True, "note": "rod renewed"}]}
    decision = record(passed("records"), more=looked, defects=known)
    assert only(decision, CloseDefect) == CloseDefect("F-1", "rod renewed")
    checked = only(decision, SetResult).result["defects_checked"]
    assert checked == [{"defect_id": "F-1", "closed": True, "note": "rod renewed", "at": "2026-11-21T12:00:00Z"}]


def test_what_was_looked_at_earlier_stays_in_the_result():
    known = ({"id": "F-1", "job_id": "J-0", "state": "open"}, {"id": "F-2", "job_id": "J-0", "state": "open"})
    result = result_after(passed(*ALL)) | {"defects_checked": [{"defect_id": "F-1", "closed": False}]}
    decision = complete(result, {"defects_checked": [{"defect_id": "F-2", "closed": True}]}, defects=known)
    looked = only(decision, SetResult).result["defects_checked"]
    assert [entry["defect_id"] for entry in looked] == ["F-1", "F-2"]


def test_an_inspection_does_not_close_its_own_defect():
    known = ({"id": "F-1", "item_code": "earthing", "job_id": "J-1", "state": "open", "found_at": NOON},)
    looked = {"defects_checked": [{"defect_id": "F-1", "closed": True}]}
    assert record(passed("records"), more=looked, defects=known).reason == "state_not_allowed"


def test_a_passed_item_does_not_close_a_defect_by_itself():
    known = ({"id": "F-1", "item_code": "records", "job_id": "J-0", "state": "open"},)
    assert not every(record(passed("records"), defects=known), CloseDefect)


def test_a_record_is_judged_by_the_version_it_was_made_with():
    older = CHECKLIST | {"version": 7, "stages": CHECKLIST["stages"][:1]}
    assert record(passed("records"), checklist=older).outcome == "applied"
    assert record(passed("records"), checklist=None).outcome == "applied"


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"checklist_version": 99}, "/payload/checklist_version"),
        ({"checklist": "meter_change"}, "/payload/checklist_version"),
        ({"checklist_version": 0}, "/payload/checklist_version"),
        ({"checklist_version": 10**30}, "/payload/checklist_version"),
        ({"items": []}, "/payload/items"),
        ({"items": passed("nonsense")}, "/payload/items/0/code"),
        ({"items": passed("records", "records")}, "/payload/items/1/code"),
        ({"items": [{"code": "records", "result": "ok"}]}, "/payload/items/0/result"),
        ({"items": [{"code": "records", "result": "fail", "grade": "major"}]}, "/payload/items/0/grade"),
        (
            {"items": [{"code": "records", "result": "fail", "grade": "major", "grade_scheme": "grid"}]},
            "/payload/items/0/grade",
        ),
        ({"items": [{"code": "records", "result": "pass", "photos": ["p"] * 41}]}, "/payload/items/0/photos"),
        ({"items": [{"code": "records", "result": "pass", "note": "a\x00b"}]}, "/payload/items/0/note"),
        ({"items": passed("records"), "defects_checked": [{"closed": True}]}, "/payload/defects_checked/0/defect_id"),
    ],
)
def test_a_malformed_record_names_the_member(more, field):
    decision = record(passed("records"), more=more)
    assert (decision.outcome, decision.reason, fields(decision)) == ("rejected", "bad_payload", [field])


@pytest.mark.parametrize("year", [1, 1970, 9999])
def test_a_clock_far_off_does_not_stop_the_judgement(year):
    decision = record([{"code": "records", "result": "fail"}], at=NOON.replace(year=year, month=12, day=31))
    assert only(decision, OpenDefect).deadline_at is None


def test_a_record_after_completion_is_kept_as_duplicate_work():
    assert record(passed("records"), status="completed").reason == "duplicate_work"
