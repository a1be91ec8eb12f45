"""What each way to decide a review would do now: judged by the same rules as the decision itself, with nothing stored.

So a dispatcher reads beforehand what will happen, or why the rules will still say no.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from fieldsvc import kinds
from fieldsvc.base.db import db
from fieldsvc.base.merge import Merge
from fieldsvc.base.plain import plain
from fieldsvc.kinds import common, registers
from fieldsvc.kinds.base import Decision, Effect, MergeFields
from fieldsvc.records.models import Customer
from fieldsvc.sync import reviews, situation, verdict
from fieldsvc.sync.envelope import Operation as Sent
from fieldsvc.sync.envelope import decode
from fieldsvc.sync.models import InboxOperation, Review
from fieldsvc.work.models import Job


@dataclass(frozen=True)
class Offer:
    """One way to decide. ``reading`` as in :func:`reviews.resolve`.

    ``refused``: the reason for which the rules would say no to it now, ``text`` in words. Else ``effects`` is what
    follows, and ``values`` the fields an edit would set. Both are empty where nothing changes on record, or where that
    cannot be known before (``unknown``).
    """

    choice: str
    reading: str | None = None
    refused: str | None = None
    text: str | None = None
    effects: tuple[Effect, ...] = ()
    values: Mapping[str, Any] = field(default_factory=dict)
    explanation: Mapping[str, Any] = field(default_factory=dict)
    unknown: bool = False


def offers(review: Review, row: InboxOperation, now: datetime) -> list[Offer]:
    """The ways to decide an open review, ``apply`` before ``dismiss``; none once it is resolved."""
    if review.state != "open":
        return []
    return [*_applying(review, row, now), Offer("dismiss")]


def _applying(review: Review, row: InboxOperation, now: datetime) -> Iterator[Offer]:
    if reviews.stands_already(review):
        yield Offer("apply")
        return
    if review.reason == verdict.GAVE_UP:
        yield Offer("apply", unknown=True)
        return
    sent = decode(row.body)
    if review.entity == "customer" and review.customer_id is not None:
        yield _of_customer(row, sent, db.session.get_one(Customer, review.customer_id))
        return
    job = db.session.get(Job, review.job_id) if review.job_id else None
    if job is None:
        yield Offer("apply", refused="unknown_entity", text="there is nothing on record to apply it to")
        return
    fell = "register_fell" in reviews.shown(review)
    for reading in reviews.READINGS if fell else (None,):
        waived = reviews.waivers(review, reading)
        yield _of_job(verdict.judge(row, sent, job, now, waived, hold=False), row, sent, job, reading)


def _of_job(decision: Decision, row: InboxOperation, sent: Sent, job: Job, reading: str | None) -> Offer:
    if decision.outcome != "applied":
        text = decision.explanation.get("text") or next((fault["reason"] for fault in decision.errors), None)
        return Offer("apply", reading, decision.reason or decision.outcome, text, explanation=decision.explanation)
    edit = _edit(decision)
    if edit is not None:
        return _of_edit(verdict.merge_job(row, sent, job, edit, True))
    return Offer("apply", reading, effects=decision.effects, explanation=decision.explanation)


def _of_customer(row: InboxOperation, sent: Sent, customer: Customer) -> Offer:
    decision = kinds.reconcile_customer(verdict.operation_of(row, sent))
    edit = _edit(decision)
    if edit is None:
        return Offer("apply", refused=decision.reason or decision.outcome)
    return _of_edit(verdict.merge_customer(row, sent, customer, edit, True))


def _edit(decision: Decision) -> MergeFields | None:
    return next((effect for effect in decision.effects if isinstance(effect, MergeFields)), None)


def _of_edit(merged: Merge) -> Offer:
    if merged.outcome not in reviews.TAKEN_OVER:
        return Offer("apply", refused="must_match", text="the values cannot be joined")
    return Offer("apply", values=plain(merged.values))


@dataclass(frozen=True)
class Beside:
    """What is on record of the things an operation speaks of.

    ``record`` has the shape of the operation's content; ``meter_id``, ``digits`` and ``multiplier`` are those of the
    meter that hangs there, ``usual`` compares energies with the customer's use (see :func:`registers.against_usual`),
    ``items`` are those of the checklist by their codes.
    """

    record: dict[str, Any]
    meter_id: str | None
    digits: int | None
    multiplier: str | None
    usual: dict[str, dict[str, Any]]
    items: dict[str, Mapping[str, Any]]


def beside(review: Review, row: InboxOperation, now: datetime) -> Beside:
    """The record's side of what was done on a job; empty for edits and for what is about no job."""
    sent = decode(row.body)
    job = db.session.get(Job, review.job_id) if review.job_id and review.entity == "job" else None
    if job is None or sent.payload is None:
        return Beside({}, None, None, None, {}, {})
    op = verdict.operation_of(row, sent)
    around = situation.load(op, job, now, hold=False)
    on_record = kinds.get(job.kind).on_record or common.on_record
    installation = around.installation or {}
    told = review.explanation
    energy = {name: step["energy_kwh"] for name, step in told.get("energy", {}).items() if step["energy_kwh"]}
    energy |= told.get("energy_if_the_record_were_meant", {})
    multiplier = installation.get("multiplier")
    return Beside(
        plain(on_record(op, around)),
        installation.get("meter_id"),
        installation.get("digits"),
        None if multiplier is None else str(multiplier),
        registers.against_usual(installation, energy, op.occurred_at),
        _items(around.checklist or {}),
    )


def _items(checklist: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {item["code"]: item for stage in checklist.get("stages", ()) for item in stage.get("items", ())}
