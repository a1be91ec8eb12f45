from __future__ import annotations

import pytest

from fieldsvc.kinds import lifecycle
from fieldsvc.kinds.base import AddContact, AddNote, MergeFields, OpenDefect, SetResult, SetStatus
from fieldsvc.kinds.repair import KIND
from tests.unit.kinds.situations import NOON, REPAIRED, every, fields, only, operation, reached, situation

ALL_STEPS = sorted(lifecycle.STEPS)


def judge(op_kind, status, payload=None, **other):
    return KIND.reconcile(operation(op_kind, payload, **other), situation(status))


@pytest.mark.parametrize(
    ("status", "op_kind", "to"),
    [
        ("dispatched", "job.accept", "accepted"),
        ("accepted", "job.enroute", "enroute"),
        ("enroute", "job.arrive", "on_site"),
        ("on_site", "job.start", "in_progress"),
        ("in_progress", "job.suspend", "suspended"),
        ("suspended", "job.resume", "in_progress"),
        ("waiting_on_material", "job.resume", "in_progress"),
        ("suspended", "job.start", "in_progress"),
        ("in_progress", "job.complete", "completed"),
        ("in_progress", "job.not_done", "not_done"),
        ("accepted", "job.return", "returned"),
    ],
)
def test_each_step_moves_the_job_on(status, op_kind, to):
    assert lifecycle.allowed(status, op_kind) == to


@pytest.mark.parametrize("op_kind", ["job.enroute", "job.arrive", "job.start", "job.complete", "meter.exchange"])
def test_a_field_fact_implies_the_steps_before_it(op_kind):
    assert lifecycle.allowed("dispatched", op_kind) in lifecycle.STATUSES


@pytest.mark.parametrize("status", ["waiting_to_be_scheduled", "scheduled"])
@pytest.mark.parametrize("op_kind", ALL_STEPS)
def test_a_job_that_nobody_was_sent_to_cannot_be_worked_on(status, op_kind):
    assert lifecycle.allowed(status, op_kind) is None


def test_completion_needs_at_least_dispatched():
    assert judge("job.complete", "scheduled", REPAIRED).outcome == "parked"
    assert judge("job.complete", "dispatched", REPAIRED).outcome == "applied"


@pytest.mark.parametrize(
    ("status", "op_kind"),
    [
        ("on_site", "job.accept"),
        ("accepted", "job.accept"),
        ("in_progress", "job.arrive"),
        ("suspended", "job.enroute"),
        ("completed", "job.start"),
        ("closed", "job.not_done"),
        ("not_done", "job.arrive"),
        ("returned", "job.accept"),
        ("in_progress", "job.resume"),
        ("suspended", "job.suspend"),
    ],
)
def test_an_operation_behind_the_status_is_superseded_and_no_error(status, op_kind):
    payload = {"reason": "other"} if op_kind == "job.not_done" else None
    decision = judge(op_kind, status, payload)
    assert (decision.outcome, decision.reason) == ("superseded", None)
    assert not every(decision, SetStatus)
    assert status in decision.explanation["text"]


def test_a_late_arrival_counts_even_when_the_job_is_past_it():
    assert reached(judge("job.arrive", "completed")) == {"arrival": NOON}


def test_resume_before_any_stop_is_refused():
    decision = judge("job.resume", "on_site")
    assert (decision.outcome, decision.reason) == ("rejected", "state_not_allowed")
    assert "on_site" in decision.explanation["text"]


@pytest.mark.parametrize("status", ["completed", "closed"])
def test_a_second_completion_is_kept_as_duplicate_work(status):
    decision = judge("job.complete", status, REPAIRED)
    assert (decision.outcome, decision.reason) == ("parked", "duplicate_work")


def test_work_done_on_a_cancelled_job_is_parked_and_the_rest_superseded():
    done = judge("job.complete", "cancelled", REPAIRED)
    assert (done.outcome, done.reason) == ("parked", "completed_after_cancel")
    assert judge("note.add", "cancelled", {"text": "gate locked"}).outcome == "applied"
    for op_kind in ("job.accept", "job.arrive", "job.suspend", "job.update"):
        other = {"set": {"title": "x"}} if op_kind == "job.update" else {}
        decision = judge(op_kind, "cancelled", None, **other)
        assert (decision.outcome, decision.reason) == ("superseded", "cancelled"), op_kind


def test_work_on_a_cancelled_job_is_posted_once_a_dispatcher_accepted_it():
    accepted = situation("cancelled", waived=frozenset({"completed_after_cancel"}))
    decision = KIND.reconcile(operation("job.complete", REPAIRED), accepted)
    assert only(decision, SetStatus).to == "completed"


@pytest.mark.parametrize("status", ["not_done", "returned", "scheduled"])
def test_a_completion_that_no_status_allows_is_parked_because_the_work_is_there(status):
    decision = judge("job.complete", status, REPAIRED)
    assert (decision.outcome, decision.reason) == ("parked", "state_not_allowed")


def test_what_a_kind_adds_is_physical_work_and_remarks_are_not():
    assert lifecycle.is_physical("tree.cut")
    assert lifecycle.is_physical("job.complete")
    assert not lifecycle.is_physical("job.arrive")
    assert not lifecycle.is_physical("customer.update")
    assert lifecycle.allowed("on_site", "tree.cut") == "in_progress"
    assert lifecycle.allowed("completed", "tree.cut") is None


@pytest.mark.parametrize("status", ["", "None", "flying", "Dispatched"])
@pytest.mark.parametrize("op_kind", [*ALL_STEPS, "note.add", "meter.exchange"])
def test_an_unknown_status_allows_nothing(status, op_kind):
    assert lifecycle.allowed(status, op_kind) is None


@pytest.mark.parametrize("status", lifecycle.STATUSES)
@pytest.mark.parametrize("op_kind", [*ALL_STEPS, "note.add", "job.update", "defect.report", "meter.exchange"])
def test_the_table_only_speaks_of_known_statuses(status, op_kind):
    assert lifecycle.allowed(status, op_kind) in {*lifecycle.STATUSES, "superseded", None}


@pytest.mark.parametrize("status", lifecycle.STATUSES)
@pytest.mark.parametrize("op_kind", ["job.accept", "job.enroute", "job.arrive", "job.complete", "job.not_done"])
def test_a_step_done_twice_never_moves_the_job_twice(status, op_kind):
    first = lifecycle.allowed(status, op_kind)
    if first in lifecycle.STATUSES:
        assert lifecycle.allowed(first, op_kind) in ("superseded", None)


def test_acceptance_and_arrival_reach_their_clocks():
    assert reached(judge("job.accept", "dispatched")) == {"acceptance": NOON}
    assert reached(judge("job.arrive", "enroute")) == {"arrival": NOON}


@pytest.mark.parametrize(("op_kind", "payload"), [("job.start", None), ("job.not_done", {"reason": "no_access"})])
def test_work_from_before_arrival_implies_the_arrival(op_kind, payload):
    assert reached(judge(op_kind, "accepted", payload)) == {"arrival": NOON}
    assert reached(judge(op_kind, "on_site", payload)) == {}


def test_waiting_for_material_is_its_own_status():
    assert only(judge("job.suspend", "in_progress", {"reason": "material"}), SetStatus).to == "waiting_on_material"
    stop = only(judge("job.suspend", "in_progress", {"reason": "weather", "note": "storm"}), SetStatus)
    assert (stop.to, stop.reason, stop.note) == ("suspended", "weather", "storm")


def test_a_job_sent_back_keeps_the_reason():
    decision = judge("job.return", "accepted", {"reason": "wrong_skill", "note": "needs a crane"})
    assert only(decision, SetStatus).reason == "wrong_skill"
    assert only(decision, SetResult).result["stopped"]["note"] == "needs a crane"
    assert not every(decision, AddContact)


def test_a_job_not_done_is_a_contact_with_the_customer():
    decision = judge("job.not_done", "on_site", {"reason": "no_access"})
    assert only(decision, AddContact).outcome == "not done: no_access"


def test_sending_back_needs_a_reason():
    decision = judge("job.return", "accepted", {})
    assert (decision.outcome, decision.reason, fields(decision)) == ("rejected", "bad_payload", ["/payload/reason"])


def test_a_confirmed_briefing_is_kept_with_the_start():
    briefing = {"checklist": "repair_briefing", "version": 1, "confirmed": ["risks", "isolated"]}
    result = only(judge("job.start", "on_site", {"briefing": briefing}), SetResult).result
    assert result["briefing"] == briefing | {"confirmed_at": "2026-11-21T12:00:00Z"}


@pytest.mark.parametrize("status", ["scheduled", "on_site", "completed", "closed", "returned"])
def test_a_note_can_be_added_whatever_the_status(status):
    decision = judge("note.add", status, {"text": "dog in the yard"})
    assert decision.effects == (AddNote("dog in the yard", NOON),)


def test_a_remark_with_a_step_becomes_a_note():
    assert only(judge("job.arrive", "enroute", {"note": "road closed"}), AddNote).text == "road closed"


def test_an_edit_is_left_to_the_merge_with_what_the_device_saw():
    decision = judge("job.update", "on_site", was={"title": "a", "foo": 1}, set={"title": "b", "foo": 2})
    assert decision.effects == (MergeFields("job", {"title": "a"}, {"title": "b"}),)
    assert decision.explanation == {"ignored": ["foo"]}


@pytest.mark.parametrize(("fields_set", "named"), [({}, "/set"), ({"status": "completed"}, "/set/status")])
def test_an_edit_of_nothing_that_may_be_edited_is_refused(fields_set, named):
    decision = judge("job.update", "on_site", set=fields_set)
    assert (decision.reason, fields(decision)) == ("bad_payload", [named])


def test_an_edit_without_set_is_refused():
    assert fields(judge("job.update", "on_site")) == ["/set"]


def test_an_emptied_field_is_an_edit_to_null():
    decision = judge("job.update", "on_site", was={"contact_phone": "1"}, set={"contact_phone": None})
    assert only(decision, MergeFields).set == {"contact_phone": None}


def test_a_reported_defect_gets_the_deadline_of_its_grade():
    payload = {"description": "bare conductor", "grade_scheme": "grid", "grade": "critical"}
    decision = judge("defect.report", "completed", payload)
    defect = only(decision, OpenDefect)
    assert (defect.deadline_at - defect.found_at).days == 1
    assert decision.explanation["deadline"]["source"] == "illustrative default"


def test_a_defect_grade_must_be_of_its_scheme():
    payload = {"description": "bare conductor", "grade_scheme": "grid", "grade": "emergency"}
    assert fields(judge("defect.report", "on_site", payload)) == ["/payload/grade"]


def test_a_defect_from_before_any_rule_has_no_deadline_and_says_so():
    old = NOON.replace(year=1970)
    payload = {"description": "bare conductor", "grade_scheme": "grid", "grade": "critical"}
    decision = judge("defect.report", "on_site", payload, occurred_at=old)
    assert only(decision, OpenDefect).deadline_at is None
    assert "no rule" in decision.explanation["deadline"]["source"]


def test_an_operation_of_another_kind_of_job_is_refused():
    decision = judge("meter.exchange", "on_site", {})
    assert (decision.outcome, decision.reason, fields(decision)) == ("rejected", "bad_payload", ["/kind"])
