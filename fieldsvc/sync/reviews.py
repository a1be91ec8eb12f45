"""Reviews: what could not be decided by rule is decided by a person, once, with a reason, and its device is told.

``apply`` takes the crew's fact over: the operation is judged again with what the dispatcher has waived, so that the
rules still guard everything else. ``dismiss`` leaves the records as they are. Either way both sides stay in history.
What was ``forced`` is applied already: there either choice says that somebody has looked at it; ``apply`` also lets an
edit's values win where they had lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import structlog
from sqlalchemy import select

from fieldsvc.base.db import db
from fieldsvc.base.errors import Conflict, FieldsvcError, Invalid, NotFound
from fieldsvc.base.plain import plain
from fieldsvc.history.record import Source, record
from fieldsvc.kinds.base import Decision
from fieldsvc.records import customers
from fieldsvc.sync import attachments, outcomes, verdict
from fieldsvc.sync.envelope import decode
from fieldsvc.sync.models import InboxOperation, Review
from fieldsvc.sync.receipts import handed
from fieldsvc.work import change
from fieldsvc.work.models import Job

CHOICES = ("apply", "dismiss")
READINGS = ("wrap", "misread")
TAKEN_OVER = ("applied", "merged", "applied_conflict")
"""Outcomes of judging again that mean: it is on record now."""
_WAIVABLE = frozenset({"completed_after_cancel", "energy_mismatch", "seal_in_use", "clock_suspect"})

log = structlog.get_logger(__name__)


def lock(review_id: str) -> Review:
    """The review, its row held.

    :raises NotFound: there is none.
    """
    review = db.session.scalar(select(Review).where(Review.id == review_id).with_for_update())
    if review is None:
        raise NotFound("review", review_id)
    return review


def resolve(
    source: Source, review: Review, choice: str, note: str, *, reading: str | None = None, seen_rev: int | None = None
) -> None:
    """Decide an open review.

    :param reading: where a register fell: whether it wrapped or was misread; needed to apply it.
    :param seen_rev: the revision of the job or customer that whoever decides has looked at.
    :raises Conflict: it is resolved already, what is on record has changed since ``seen_rev``, or the rules still say
        no (the reason is told).
    :raises Invalid: ``reading`` is missing.
    """
    if review.state != "open":
        raise Conflict("the review has been resolved already", "state-not-allowed", resolution=review.resolution)
    row = db.session.scalars(select(InboxOperation).where(InboxOperation.op_id == review.op_id).with_for_update()).one()
    job = change.lock(review.job_id) if review.job_id and review.entity == "job" else None
    if choice == "apply" and seen_rev is not None and seen_rev != _rev(review, job):
        raise Conflict("what is on record has changed since you looked at it", "precondition-failed")
    if choice == "apply" and not stands_already(review):
        if review.reason == verdict.GAVE_UP:
            _try_again(source, review, row, job)
        else:
            _apply(source, review, row, job, reading)
    _close(source, review, row, job, choice, note)
    if choice == "apply" and job is not None:
        _judge_dependants(source, job, note)


def stands_already(review: Review) -> bool:
    """Whether what it is about is applied, whatever is decided: it was forced, and nothing of it lost."""
    return review.outcome == "forced" and not review.conflicts


def _rev(review: Review, job: Job | None) -> int | None:
    if job is not None or review.customer_id is None:
        return job.rev if job else None
    return customers.lock(review.customer_id).rev


def _behalf(source: Source, row: InboxOperation) -> Source:
    """A dispatcher decides, about what a device did at its time."""
    return replace(
        source,
        crew_id=row.crew_id,
        device_id=row.device_id,
        op_id=row.op_id,
        device_at=row.occurred_at_device,
        estimated_at=row.estimated_at,
    )


def _apply(source: Source, review: Review, row: InboxOperation, job: Job | None, reading: str | None) -> None:
    sent = decode(row.body)
    if review.entity == "customer" and review.customer_id is not None:
        customer = customers.lock(review.customer_id)
        end = verdict.edit_customer(_behalf(source, row), row, sent, customer, decided=True)
    elif job is not None:
        decision = verdict.judge(row, sent, job, source.recorded_at, waivers(review, reading))
        if decision.outcome != "applied":
            raise Conflict(
                f"the rules still say {decision.reason}: {decision.explanation.get('text', 'see explanation')}",
                "state-not-allowed",
                reason=decision.reason,
                explanation=plain(decision.explanation),
                problems=list(decision.errors),
            )
        end = verdict.carry_out(_behalf(source, row), row, sent, job, decision, decided=True)
    else:
        raise Conflict("there is nothing on record to apply it to; it can only be dismissed", "state-not-allowed")
    if end.outcome not in TAKEN_OVER:
        raise Conflict("the values cannot be joined; it can only be dismissed", "state-not-allowed")


def _try_again(source: Source, review: Review, row: InboxOperation, job: Job | None) -> None:
    """Apply what failed for a fault of ours; while the fault lasts, the review stays open."""
    try:
        _apply(source, review, row, job, None)
    except FieldsvcError:
        raise
    except Exception as error:
        log.exception("operation-failed", operation=row.op_id)
        raise Conflict(f"it still cannot be applied ({type(error).__name__})", "state-not-allowed") from None


def shown(review: Review) -> set[str]:
    """The reasons a review shows: why it was opened, and everything else that was found wrong."""
    return {review.reason or "", *(problem["reason"] for problem in review.explanation.get("problems", ()))}


def waivers(review: Review, reading: str | None) -> frozenset[str]:
    """What a dispatcher lets pass who has seen the review: everything that it shows and that may be let pass."""
    problems = shown(review)
    waived = _WAIVABLE & problems
    if "register_fell" in problems:
        if reading not in READINGS:
            raise Invalid.field("/reading", "say whether the register is a wrap or a misread")
        waived |= {f"register_fell:{reading}"}
    return waived


def _close(source: Source, review: Review, row: InboxOperation, job: Job | None, choice: str, note: str) -> None:
    review.state = "resolved"
    review.resolution = choice
    review.resolution_note = note
    review.resolved_at = source.recorded_at
    review.resolved_by = source.id
    review.rev += 1
    if job is not None and any(entry["review_id"] == review.id for entry in job.attention):
        rest = [entry for entry in job.attention if entry["review_id"] != review.id]
        change.apply(_behalf(source, row), job, "job.attention", {"attention": rest})
    told: Mapping[str, Any] = row.outcome or {}
    evidence = attachments.decided(_behalf(source, row), row.op_id, "applied" if choice == "apply" else "dismissed")
    end = outcomes.Outcome(
        op_id=row.op_id,
        device_id=row.device_id,
        handed=handed(row),
        kind=row.kind,
        entity=row.entity,
        entity_id=row.entity_id,
        outcome="resolved",
        reason=row.reason,
        conflicts=told.get("conflicts", ()),
        entity_rev=job.rev if job else told.get("entity_rev"),
        review_id=review.id,
        note=note,
        resolution=choice,
        policy_version=verdict.policy_version(row),
        evidence=evidence,
        decided_at=source.recorded_at,
        rev=2,
        context={
            "job_id": review.job_id,
            "job_kind": job.kind if job else None,
            "customer_id": review.customer_id,
            "territory_id": review.territory_id,
        },
    )
    outcomes.tell(_behalf(source, row), end)
    record(
        _behalf(source, row),
        "review.resolved",
        "review",
        review.id,
        before={"state": "open", "reason": review.reason},
        after={"state": "resolved", "resolution": choice},
        note=note,
        **end.context,
    )
    row.status, row.outcome, row.decided_at = "resolved", end.doc, source.recorded_at


def _judge_dependants(source: Source, job: Job, note: str) -> None:
    """Work that was parked only because it builds on what has been applied now is judged again, in its order."""
    waiting = db.session.execute(
        select(Review, InboxOperation)
        .join(InboxOperation, InboxOperation.op_id == Review.op_id)
        .where(Review.job_id == job.id, Review.state == "open", Review.reason == "missing_predecessor")
        .order_by(InboxOperation.install_id, InboxOperation.seq)
        .limit(50)
    ).all()
    for review, row in waiting:
        sent = decode(row.body)
        decision: Decision = verdict.judge(row, sent, job, source.recorded_at)
        if decision.outcome == "applied":
            verdict.carry_out(_behalf(source, row), row, sent, job, decision, decided=True)
            _close(source, review, row, job, "apply", note)
