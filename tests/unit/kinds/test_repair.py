from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest

from fieldsvc.kinds.base import AddContact, AddReadings, CloseDefect, SetResult, SetStatus
from fieldsvc.kinds.repair import KIND
from tests.unit.kinds.situations import (
    NOON,
    REPAIRED,
    every,
    fields,
    installation,
    only,
    operation,
    reached,
    situation,
)


def complete(payload=None, status="in_progress", offset=timedelta(0), **other):
    op = operation("job.complete", REPAIRED | (payload or {}), clock_offset=offset)
    return KIND.reconcile(op, situation(status, **other))


def test_a_completed_repair_sets_status_result_clocks_and_contact():
    decision = complete({"restored_at": "2026-11-21T19:30:00+08:00", "parts": [{"code": "J-10", "qty": "2"}]})
    assert decision.outcome == "applied"
    assert only(decision, SetStatus).to == "completed"
    result = only(decision, SetResult).result
    assert result["cause_major"] == "cable"
    assert result["parts"] == [{"code": "J-10", "qty": "2"}]
    assert result["restored_at"] == "2026-11-21T11:30:00Z"
    assert result["completed_at"] == "2026-11-21T12:00:00Z"
    assert reached(decision) == {"completion": NOON, "restoration": NOON - timedelta(minutes=30)}
    contact = only(decision, AddContact)
    assert (contact.channel, contact.subject, contact.at) == ("visit", "No supply", NOON)


def test_without_a_time_supply_came_back_with_the_completion():
    assert reached(complete())["restoration"] == NOON


def test_a_completion_from_the_road_implies_the_arrival():
    assert reached(complete(status="dispatched"))["arrival"] == NOON


def test_times_in_the_payload_are_corrected_like_the_operation():
    decision = complete({"restored_at": "2026-11-21T08:30:00Z"}, offset=timedelta(hours=3))
    assert reached(decision)["restoration"] == NOON - timedelta(minutes=30)


@pytest.mark.parametrize(
    ("restored", "doubt"),
    [
        ("2026-11-21T12:00:01Z", "later than the completion that reports it"),
        ("2026-11-21T06:59:59Z", "earlier than the fault was reported"),
    ],
)
def test_an_impossible_restoration_is_not_believed_and_said(restored, doubt):
    decision = complete({"restored_at": restored})
    assert reached(decision)["restoration"] == NOON
    assert decision.explanation["restored_at"]["doubt"] == doubt
    assert decision.explanation["restored_at"]["said"] == restored


@pytest.mark.parametrize("restored", ["2026-11-21T12:00:00Z", "2026-11-21T07:00:00Z"])
def test_restoration_at_the_very_limits_is_believed(restored):
    assert complete({"restored_at": restored}).explanation == {}


def test_every_missing_member_is_named_at_once():
    decision = KIND.reconcile(operation("job.complete", {}), situation("in_progress"))
    named = [f"/payload/{name}" for name in ("cause_major", "fault_place", "ownership", "work_done")]
    assert decision.reason == "bad_payload"
    assert sorted(fields(decision)) == named


def test_a_malformed_completion_is_refused_even_after_cancel():
    decision = KIND.reconcile(operation("job.complete", {"parts": 3}), situation("cancelled"))
    assert (decision.outcome, decision.reason) == ("rejected", "bad_payload")


def test_earlier_results_of_the_job_are_kept():
    result = only(complete(result={"briefing": {"version": 1}}), SetResult).result
    assert result["briefing"] == {"version": 1}


DEFECT = {"id": "F-1", "job_id": "J-0", "item_code": "earthing", "state": "open", "found_at": NOON - timedelta(days=9)}


def test_a_later_job_that_looked_closes_a_defect():
    decision = complete(
        {"defects_checked": [{"defect_id": "F-1", "closed": True, "note": "renewed"}]}, defects=(DEFECT,)
    )
    assert only(decision, CloseDefect) == CloseDefect("F-1", "renewed")


@pytest.mark.parametrize(
    ("change", "checked", "closes"),
    [
        ({}, {"closed": False}, 0),
        ({"state": "closed"}, {"closed": True}, 0),
        ({"found_at": NOON}, {"closed": True}, 1),
    ],
)
def test_a_defect_stays_open_until_it_is_found_put_right(change, checked, closes):
    decision = complete({"defects_checked": [{"defect_id": "F-1"} | checked]}, defects=(DEFECT | change,))
    assert decision.outcome == "applied"
    assert len(every(decision, CloseDefect)) == closes


@pytest.mark.parametrize("change", [{"job_id": "J-1"}, {"found_at": NOON + timedelta(seconds=1)}])
def test_the_job_that_found_a_defect_or_was_before_it_does_not_close_it(change):
    decision = complete({"defects_checked": [{"defect_id": "F-1", "closed": True}]}, defects=(DEFECT | change,))
    assert (decision.outcome, decision.reason) == ("rejected", "state_not_allowed")
    assert fields(decision) == ["/payload/defects_checked/0/closed"]


def test_a_defect_nobody_knows_is_named():
    decision = complete({"defects_checked": [{"defect_id": "F-7", "closed": True}]}, defects=(DEFECT,))
    assert (decision.reason, fields(decision)) == ("unknown_entity", ["/payload/defects_checked/0/defect_id"])


def reading(asset_no="OLD-1", total="48213.6", **other):
    check = {"asset_no": asset_no, "registers": {"total": total}}
    return complete({"meter_check": check}, **({"installation": installation()} | other))


def test_a_reading_in_passing_is_posted():
    readings = only(reading(), AddReadings)
    assert (readings.asset_no, readings.values, readings.state) == ("OLD-1", {"total": Decimal("48213.6")}, "posted")


@pytest.mark.parametrize(("total", "state"), [("48100.0", "posted"), ("48099.9", "quarantined")])
def test_a_fallen_reading_in_passing_is_quarantined_and_holds_up_nothing(total, state):
    decision = reading(total=total)
    assert decision.outcome == "applied"
    assert only(decision, AddReadings).state == state


def test_the_reading_of_another_known_meter_is_quarantined_and_both_are_named():
    decision = reading("MET-7", meter_by_asset={"MET-7": {"id": "M-7"}})
    assert only(decision, AddReadings).state == "quarantined"
    assert decision.explanation["meter_check"] == {"wrong_meter": {"on_site": "MET-7", "on_record": "OLD-1"}}


def test_the_reading_of_a_meter_nobody_knows_stays_in_the_result():
    decision = reading("MET-7")
    assert not every(decision, AddReadings)
    assert only(decision, SetResult).result["meter_check"]["asset_no"] == "MET-7"
