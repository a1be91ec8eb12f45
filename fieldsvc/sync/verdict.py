"""One operation's verdict: is it for this crew to say, what does the kind decide, does it conflict with what others
did.

What a crew did on site is never thrown away: when it cannot be applied it is parked, shown to the dispatcher and to the
crew that has the job now, and a person decides (see ``reviews``).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select

from fieldsvc import kinds, rules
from fieldsvc.base.clock import format_time, new_id, parse_time
from fieldsvc.base.db import db
from fieldsvc.base.merge import Merge, merge
from fieldsvc.history.record import Source
from fieldsvc.kinds import common, lifecycle
from fieldsvc.kinds.base import Decision, MergeFields, Operation, parked, rejected, superseded
from fieldsvc.people import devices
from fieldsvc.records import customers
from fieldsvc.records.models import Customer
from fieldsvc.sync import effects, situation
from fieldsvc.sync.envelope import Operation as Sent
from fieldsvc.sync.models import InboxOperation, Review
from fieldsvc.sync.outcomes import Outcome
from fieldsvc.sync.receipts import handed
from fieldsvc.work import change
from fieldsvc.work.models import Assignment, Job

GAVE_UP = "could_not_apply"
"""The reason of an operation that failed for a fault of ours until we stopped trying."""

_NOT_AN_EDIT = change.BY_DISPATCH | {"attention", "evidence", "status"}
"""Fields whose change by others does not make an operation's base stale: they are not what a crew edits."""


def decide(source: Source, row: InboxOperation, sent: Sent) -> Outcome:
    """Decide the operation and apply what follows, in the open transaction. Never raises on what a device sent."""
    return _DECIDERS.get(row.entity, _unknown)(source, row, sent)


def _unknown(source: Source, row: InboxOperation, sent: Sent) -> Outcome:
    text = f"there is no {row.entity} {row.entity_id}"
    if row.entity not in _DECIDERS:
        text = f"operations are about a job or a customer, not about a {row.entity}"
    return _outcome(source, row, rejected("unknown_entity", {"text": text}))


def _decide_job(source: Source, row: InboxOperation, sent: Sent) -> Outcome:
    job = db.session.get(Job, row.entity_id)
    if job is None:
        return _unknown(source, row, sent)
    if job.crew_id != row.crew_id and not change.had_it(job.id, row.crew_id):
        source = _for_the_crew_of_then(source, row)
    decision = _for_another_crew(row, job)
    if decision is None or decision.outcome == "parked":
        judged = judge(row, sent, job, source.recorded_at)
        if decision is None or judged.reason == "bad_payload":  # in such there is no fact that could be kept
            decision = judged
    return carry_out(source, row, sent, job, decision)


def judge(
    row: InboxOperation,
    sent: Sent,
    job: Job,
    now: datetime,
    waived: frozenset[str] = frozenset(),
    *,
    hold: bool = True,
) -> Decision:
    """What the job's kind decides, with one rule of our own: work that builds on parked work is parked with it.

    :param hold: keep what it rests on as it is until the transaction ends; not for those who only want to know.
    """
    op = operation_of(row, sent)
    decision = kinds.get(job.kind).reconcile(op, situation.load(op, job, now, waived, hold=hold))
    parked_before = (entry for entry in job.attention if entry["crew_id"] == row.crew_id)
    builds_on = [entry["op_id"] for entry in parked_before if entry["op_id"] != row.op_id]
    if (
        decision.outcome == "rejected"
        and decision.reason in ("state_not_allowed", "hold_point_open")
        and lifecycle.is_physical(row.kind)
        and (builds_on or row.forced)
    ):
        text = "it builds on earlier work on this job that is under review"
        if row.forced:
            text = "it builds on earlier work that has not come in time"
        return parked("missing_predecessor", {**decision.explanation, "text": text, "builds_on": builds_on})
    return decision


def carry_out(
    source: Source, row: InboxOperation, sent: Sent, job: Job, decision: Decision, *, decided: bool = False
) -> Outcome:
    """Apply a decision on a job and say what became of the operation.

    :param decided: a dispatcher has decided for the device: its values are taken, and no review is opened.
    """
    stale = changed_since(job.field_revs, sent.base_rev, row.install_id) - _NOT_AN_EDIT
    merged: Merge | None = None
    if decision.effects:
        edit = next((effect for effect in decision.effects if isinstance(effect, MergeFields)), None)
        if edit is not None:
            merged = merge_job(row, sent, job, edit, decided)
            if merged.values:
                change.apply(source, job, row.kind, _job_columns(job, merged.values))
        else:
            effects.apply(source, job, row.kind, decision.effects)
    outcome = decision.outcome
    if merged is not None:
        outcome = merged.outcome
    elif outcome == "applied" and stale:
        outcome = "merged"
    reason = "state_not_allowed" if outcome == "rejected" and decision.reason is None else decision.reason
    conflicts = merged.conflicts if merged else ()
    outcome, reason = (outcome, reason) if decided else _forced(row, outcome, reason)
    review = None
    if outcome in _REVIEWED and not decided:
        review = _open_review(source, row, sent, outcome, reason, conflicts, decision.explanation, job=job)
    return _outcome(source, row, decision, outcome, reason, conflicts, job=job, review=review)


def operation_of(row: InboxOperation, sent: Sent) -> Operation:
    """The operation as the kinds see it."""
    claimed = parse_time(sent.occurred_at)
    return Operation(
        op_id=row.op_id,
        kind=row.kind,
        entity=row.entity,
        entity_id=row.entity_id,
        payload=sent.payload,
        was=sent.was,
        set=sent.set,
        occurred_at=row.estimated_at,
        device_id=row.device_id,
        crew_id=row.crew_id,
        clock_offset=row.estimated_at - claimed if row.clock_suspect else timedelta(0),
    )


def _for_another_crew(row: InboxOperation, job: Job) -> Decision | None:
    """What becomes of an operation of a crew that has not, or no longer, got the job; None when it has."""
    if job.crew_id == row.crew_id:
        return None
    facts = {"status": job.status, "operation": row.kind, "crew_now": job.crew_id, "crew_then": row.crew_id}
    if not change.had_it(job.id, row.crew_id):
        return rejected("not_assigned", facts | {"text": "the job was never given to this crew"})
    if job.status == "cancelled" or row.kind in lifecycle.REMARKS - {"job.update"}:
        return None  # the kind answers: a remark or a report stands whoever made it, work on a cancelled job is parked
    if lifecycle.is_physical(row.kind):
        if job.status in lifecycle.DONE:
            return parked(
                "duplicate_work", facts | {"text": "another crew has completed the job; both accounts are kept"}
            )
        return parked("reassigned", facts | {"text": "the job had been given to another crew; what was done is kept"})
    if row.kind in common.EDITS:
        return parked("reassigned", facts | {"text": "the job had been given to another crew; the edit is kept"})
    return superseded("reassigned", facts)


def changed_since(field_revs: Mapping[str, Any], base_rev: int | None, install_id: str) -> set[str]:
    """Fields that somebody else changed after the revision the device had seen; none when it did not say."""
    if base_rev is None:
        return set()
    return {name for name, made in field_revs.items() if made[0] > base_rev and made[1] != install_id}


_COLUMNS = frozenset({"title", "access_note", "contact_phone", "notes", "tags", "priority"})


def _job_columns(job: Job, values: Mapping[str, Any]) -> dict[str, Any]:
    """Edited fields as columns of the job; the others live in its ``details``."""
    columns = {name: value for name, value in values.items() if name in _COLUMNS}
    others = {name: value for name, value in values.items() if name not in _COLUMNS}
    return {**columns, "details": {**job.details, **others}} if others else columns


def merge_job(row: InboxOperation, sent: Sent, job: Job, edit: MergeFields, decided: bool) -> Merge:
    """What becomes of an edit of a job; nothing is stored. ``decided`` as in :func:`carry_out`."""
    current = {name: getattr(job, name) if name in _COLUMNS else job.details.get(name) for name in edit.set}
    return _merge("job", job.kind, row, sent, edit, current, job.field_revs, decided)


def policy_version(row: InboxOperation) -> str:
    """The edition of the merge policies an operation is judged by: the one in force when it happened."""
    return rules.load().policy_version(row.estimated_at.date())


_DECIDED = dict.fromkeys(("review", "latest_occurred", "server_wins"), "field_wins")
"""Which policy takes another's place once a dispatcher has decided for the device."""


def _merge(
    entity: str,
    kind: str,
    row: InboxOperation,
    sent: Sent,
    edit: MergeFields,
    current: Mapping[str, Any],
    field_revs: Mapping[str, Any],
    decided: bool,
) -> Merge:
    policies = rules.load().policies(entity, row.estimated_at.date(), kind)
    values = edit.set
    if decided:
        values = {name: value for name, value in values.items() if policies.get(name) != "must_match"}  # never renamed
        policies = {name: _DECIDED.get(policy, policy) for name, policy in policies.items()}
    made = {name: parse_time(field_revs[name][2]) for name in values if name in field_revs}
    own = {name for name, change in field_revs.items() if change[1] == row.install_id}
    later = {name for name in own & made.keys() if made[name] > row.estimated_at}  # decided before this one had come
    stale = (changed_since(field_revs, sent.base_rev, row.install_id) | later) - _NOT_AN_EDIT
    was, new = _lists(_not_its_own(edit.was, policies, own - later), current), _lists(values, current)
    return merge(policies, was, new, current, stale, row.estimated_at, made)


def _not_its_own(was: Mapping[str, Any], policies: Mapping[str, str], own: Collection[str]) -> dict[str, Any]:
    """What the device had seen, without fields that it has changed itself since: there it is in no conflict.

    What lists are merged by stays: from it follows what the device added and took away.
    """
    return {name: value for name, value in was.items() if name not in own or policies.get(name) in _LISTED}


_LISTED = ("append", "set_union")


def _lists(values: Mapping[str, Any], current: Mapping[str, Any]) -> dict[str, Any]:
    """A single remark where the record holds a list of them is a list of one."""
    return {
        name: [value] if isinstance(value, str) and isinstance(current.get(name), list) else value
        for name, value in values.items()
    }


def _decide_customer(source: Source, row: InboxOperation, sent: Sent) -> Outcome:
    customer = db.session.get(Customer, row.entity_id)
    if customer is None:
        return _unknown(source, row, sent)
    if not _was_there(row.crew_id, customer):
        source = _for_the_crew_of_then(source, row)
        if not _was_there(row.crew_id, customer):
            return _outcome(source, row, rejected("not_assigned", {"text": "the crew had no job at this customer"}))
    return edit_customer(source, row, sent, customer)


def _was_there(crew_id: str, customer: Customer) -> bool:
    """Whether a crew has or ever had a job at the customer."""
    had = (
        select(Job.id)
        .join(Assignment, Assignment.job_id == Job.id)
        .where(Job.customer_id == customer.id, Assignment.crew_id == crew_id)
    )
    return db.session.scalar(had.limit(1)) is not None


def _for_the_crew_of_then(source: Source, row: InboxOperation) -> Source:
    """A device may have been moved to another crew since: what it did before was done for the crew of that time."""
    row.crew_id = devices.crew_at(row.device_id, row.estimated_at) or row.crew_id
    return replace(source, crew_id=row.crew_id)


def edit_customer(
    source: Source, row: InboxOperation, sent: Sent, customer: Customer, *, decided: bool = False
) -> Outcome:
    """Judge and merge an edit of a customer; ``decided`` as in :func:`carry_out`."""
    decision = kinds.reconcile_customer(operation_of(row, sent))
    edit = next((effect for effect in decision.effects if isinstance(effect, MergeFields)), None)
    if edit is None:
        return _outcome(source, row, decision, customer=customer)
    merged = merge_customer(row, sent, customer, edit, decided)
    if merged.values:
        customers.apply(source, customer, row.kind, merged.values)
    outcome, reason = (merged.outcome, None) if decided else _forced(row, merged.outcome, None)
    review = None
    if outcome in _REVIEWED and not decided:
        review = _open_review(
            source, row, sent, outcome, reason, merged.conflicts, decision.explanation, customer=customer
        )
    return _outcome(source, row, decision, outcome, reason, merged.conflicts, customer=customer, review=review)


def merge_customer(row: InboxOperation, sent: Sent, customer: Customer, edit: MergeFields, decided: bool) -> Merge:
    """What becomes of an edit of a customer; nothing is stored. ``decided`` as in :func:`carry_out`."""
    current = {name: getattr(customer, name) for name in edit.set}
    return _merge("customer", "*", row, sent, edit, current, customer.field_revs, decided)


_REVIEWED = ("parked", "applied_conflict", "forced")


def _forced(row: InboxOperation, outcome: str, reason: str | None) -> tuple[str, str | None]:
    """What was applied without what it waited for is not simply applied: a person looks at it."""
    if row.forced and outcome in ("applied", "merged", "applied_conflict"):
        return "forced", "missing_predecessor"
    return outcome, reason


def _held(row: InboxOperation, now: datetime) -> dict[str, Any]:
    """How long an operation was held that is decided without what it waited for, and who says so."""
    if not row.forced:
        return {}
    patience = rules.load().holds(now.date())
    answer = patience.get(row.kind, patience["*"])
    return {"held": {"hours": answer.value, "source": answer.source, "edition": answer.edition}}


_DECIDERS = {"job": _decide_job, "customer": _decide_customer}


def _open_review(
    source: Source,
    row: InboxOperation,
    sent: Sent,
    outcome: str,
    reason: str | None,
    conflicts: Any,
    explanation: Mapping[str, Any],
    *,
    job: Job | None = None,
    customer: Customer | None = None,
) -> Review:
    """Put the operation before a dispatcher, and tell the crew that has the job."""
    review = Review(
        id=new_id(),
        op_id=row.op_id,
        op_kind=row.kind,
        entity=row.entity,
        entity_id=row.entity_id,
        job_id=job.id if job else None,
        customer_id=job.customer_id if job else customer.id if customer else None,
        territory_id=job.territory_id if job else customer.location.territory_id if customer else None,
        crew_id=row.crew_id,
        device_id=row.device_id,
        outcome=outcome,
        reason=reason,
        severity="soft" if outcome == "applied_conflict" else "hard",
        conflicts=list(conflicts),
        explanation={**explanation, **_held(row, source.recorded_at)},
        proposed={
            "kind": row.kind,
            "payload": sent.payload,
            "was": sent.was,
            "set": sent.set,
            "occurred_at": format_time(row.estimated_at),
            "base_rev": sent.base_rev,
        },
        policy_version=policy_version(row),
        created_at=source.recorded_at,
        rev=1,
        state="open",
    )
    db.session.add(review)
    if job is not None and outcome in ("parked", "forced"):
        entry = {
            "review_id": review.id,
            "op_id": row.op_id,
            "op_kind": row.kind,
            "reason": reason,
            "crew_id": row.crew_id,
        }
        change.apply(source, job, "job.attention", {"attention": [*job.attention, entry]})
    return review


def give_up(source: Source, row: InboxOperation, sent: Sent, error: str) -> Outcome:
    """Park an operation that keeps failing for a fault of ours; ``error`` is the class of the failure."""
    job = db.session.get(Job, row.entity_id) if row.entity == "job" else None
    customer = db.session.get(Customer, row.entity_id) if row.entity == "customer" else None
    explanation = {"text": f"it could not be applied ({error}); the operation is kept as it came"}
    review = _open_review(source, row, sent, "parked", GAVE_UP, (), explanation, job=job, customer=customer)
    return _outcome(source, row, None, "parked", GAVE_UP, job=job, customer=customer, review=review)


def _outcome(
    source: Source,
    row: InboxOperation,
    decision: Decision | None,
    outcome: str | None = None,
    reason: str | None = None,
    conflicts: Any = (),
    *,
    job: Job | None = None,
    customer: Customer | None = None,
    review: Review | None = None,
) -> Outcome:
    context: dict[str, Any] = {}
    if job is not None:
        context = {
            "job_id": job.id,
            "job_kind": job.kind,
            "customer_id": job.customer_id,
            "territory_id": job.territory_id,
        }
    elif customer is not None:
        context = {"customer_id": customer.id, "territory_id": customer.location.territory_id}
    text = decision.explanation.get("text") if decision else None
    reason = reason or (decision.reason if decision else None)
    rev = job.rev if job else customer.rev if customer else None
    return Outcome(
        op_id=row.op_id,
        device_id=row.device_id,
        handed=handed(row),
        kind=row.kind,
        entity=row.entity,
        entity_id=row.entity_id,
        outcome=outcome or (decision.outcome if decision else "rejected"),
        reason=reason,
        errors=decision.errors if decision else (),
        conflicts=conflicts,
        entity_rev=None if reason == "not_assigned" else rev,  # nothing of what is not theirs
        review_id=review.id if review else None,
        note=text if isinstance(text, str) else None,
        policy_version=policy_version(row),
        decided_at=source.recorded_at,
        context=context,
    )
