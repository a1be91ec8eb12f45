"""Reviews: what was parked or in conflict, for a dispatcher to decide; and the inbox of operations behind it."""

from __future__ import annotations

from typing import Any

import marshmallow as ma
from flask import g
from sqlalchemy import select

from fieldsvc.api import access, etag, paging
from fieldsvc.api.frame import Blueprint
from fieldsvc.api.history import ActorAnswer
from fieldsvc.api.schemas import (
    Choice,
    Choices,
    Flag,
    Ident,
    Int,
    JsonObject,
    ListOf,
    Member,
    PageArgs,
    Schema,
    Text,
    UtcTime,
    page_of,
)
from fieldsvc.base.clock import utc_now
from fieldsvc.base.db import db, reading, transaction
from fieldsvc.sync import receive, review_list, reviews, sides
from fieldsvc.sync.models import InboxOperation, Review
from fieldsvc.work.models import Job

blp = Blueprint("reviews", __name__, url_prefix="/v1", description="Conflicts and parked work, and what devices sent")


class ReviewAnswer(Schema):
    id = Ident(required=True)
    state = Choice("open", "resolved", required=True)
    outcome = Text(
        20, required=True, metadata={"description": "What became of the operation: parked or applied_conflict."}
    )
    reason = Text(40, allow_none=True)
    severity = Choice("soft", "hard", required=True)
    op_id = Text(80, required=True)
    op_kind = Text(40, required=True)
    entity = Text(30, required=True)
    entity_id = Text(80, required=True)
    job_id = Ident(allow_none=True)
    customer_id = Ident(allow_none=True)
    territory_id = Ident(allow_none=True)
    crew_id = Ident(allow_none=True)
    device_id = Ident(allow_none=True)
    conflicts = ListOf(JsonObject(), max=200, required=True)
    explanation = JsonObject(required=True)
    proposed = JsonObject(required=True, metadata={"description": "What the device sent."})
    policy_version = Text(
        40,
        required=True,
        allow_none=True,
        metadata={"description": "The edition of the merge policies it was judged by: those of when it happened."},
    )
    created_at = UtcTime(required=True)
    resolved_at = UtcTime(allow_none=True)
    resolved_by = Ident(allow_none=True)
    resolution = Text(20, allow_none=True)
    resolution_note = Text(2000, allow_none=True)
    rev = Int(required=True)


class SentTimes(Schema):
    device = Text(40, required=True, allow_none=True, metadata={"description": "As the device said it, unchanged."})
    estimated = UtcTime(required=True, metadata={"description": "When it happened, as far as known."})
    received = UtcTime(required=True)


class Sent(Schema):
    crew_name = Text(120, required=True, allow_none=True)
    payload = JsonObject(required=True, allow_none=True)
    was = JsonObject(required=True, allow_none=True, metadata={"description": "What the device had seen, by field."})
    set = JsonObject(required=True, allow_none=True)
    base_rev = Int(0, 2**53, required=True, allow_none=True, metadata={"description": "The revision it had seen."})
    assignment_rev = Int(0, 2**53, required=True, allow_none=True)
    depends_on = ListOf(Text(80), max=50, required=True)
    attachments = ListOf(JsonObject(), max=50, required=True)
    app_version = Text(40, required=True, allow_none=True)
    times = Member(SentTimes, required=True)
    clock_suspect = Flag(required=True)


class RecordField(Schema):
    field = Text(60, required=True)
    value = ma.fields.Raw(required=True, allow_none=True)
    rev = Int(0, 2**53, required=True, allow_none=True, metadata={"description": "The revision that brought it."})
    at = Text(40, required=True, allow_none=True)
    by = Member(ActorAnswer, required=True, allow_none=True)


class OnRecord(Schema):
    rev = Int(0, 2**53, required=True)
    status = Text(30)
    crew_id = Ident(allow_none=True, metadata={"description": "The crew that has the job now."})
    assignment_rev = Int(0, 2**53)
    fields_now = ListOf(
        Member(RecordField),
        max=200,
        required=True,
        data_key="fields",
        attribute="fields",
        metadata={"description": "What the device edited, and what others changed after the revision it had seen."},
    )


class ReviewDetail(ReviewAnswer):
    sent = Member(Sent, required=True, metadata={"description": "The device's side."})
    record = Member(
        OnRecord, required=True, allow_none=True, metadata={"description": "The other side: what is on record now."}
    )


class ReviewsArgs(PageArgs):
    state = Choice("open", "resolved", load_default="open")
    reason = Text(40)
    job = Ident()
    crew = Ident()
    severity = Choice("soft", "hard")


def _render(review: Review) -> dict[str, Any]:
    return {name: getattr(review, name) for name in ReviewAnswer._declared_fields}


@blp.get("/reviews")
@access.staff()
@blp.arguments(ReviewsArgs, location="query")
@blp.response(200, page_of(ReviewAnswer))
@blp.errors("bad-cursor")
def list_reviews(args: dict[str, Any]) -> Any:
    """What waits for a decision, newest first"""
    filters: dict[str, str] = {name: args[name] for name in ("reason", "job", "crew", "severity") if name in args}
    query = review_list.wanted(g.actor.scope, filters, args["state"])
    with reading():
        body, headers = paging.answer(paging.fetch(query, (Review.created_at, Review.id), args), _render)
    return body, 200, headers


@blp.get("/reviews/<id:review_id>")
@access.staff()
@blp.response(200, ReviewDetail)
def get_review(review_id: str) -> Any:
    """One review: both sides, who and when, and the arithmetic where there is some"""
    with reading():
        review = review_list.find(g.actor, review_id)
        row = db.session.get_one(InboxOperation, review.op_id)
        both = {"sent": sides.sent(row), "record": sides.on_record(review, row)}
        return _render(review) | both, 200, etag.tag(review.rev)


class Resolution(Schema):
    choice = Choice(
        *reviews.CHOICES,
        required=True,
        metadata={"description": "apply: take over what the crew did; dismiss: leave the records as they are."},
    )
    note = Text(2000, required=True, metadata={"description": "Why; the crew and the history see it."})
    reading = Choice(*reviews.READINGS, metadata={"description": "For register_fell: which of the two it is."})


@blp.post("/reviews/<id:review_id>/resolve")
@access.staff(*access.DISPATCHERS)
@etag.if_match(required=False)
@blp.arguments(Resolution)
@blp.response(200, ReviewAnswer)
@blp.errors("state-not-allowed", "conflict")
def resolve(body: dict[str, Any], review_id: str) -> Any:
    """Decide a review, once; its device is told"""
    with transaction():
        review = review_list.find(g.actor, review_id, lock=True)
        etag.check(review.rev)
        reviews.resolve(g.actor.source(utc_now()), review, body["choice"], body["note"], reading=body.get("reading"))
        return _render(review), 200, etag.tag(review.rev)


class OperationAnswer(Schema):
    op_id = Text(80, required=True)
    device_id = Ident(required=True)
    crew_id = Ident(required=True)
    install_id = Text(80, required=True)
    seq = Int(0, 2**53, required=True)
    kind = Text(40, required=True)
    entity = Text(30, min=0, required=True)
    entity_id = Text(80, min=0, required=True)
    status = Text(20, required=True)
    reason = Text(40, allow_none=True)
    occurred_at_device = Text(40, allow_none=True)
    estimated_at = UtcTime(required=True)
    received_at = UtcTime(required=True)
    decided_at = UtcTime(allow_none=True)
    clock_suspect = Flag(required=True)
    attempts = Int(required=True)
    outcome = JsonObject(allow_none=True)


class OperationsArgs(PageArgs):
    device = Ident()
    crew = Ident()
    entity_id = Text(80, pattern="^[!-~]+$")
    status = Choices("accepted", "held", "retrying", *sorted(receive.TERMINAL))


@blp.get("/operations")
@access.staff()
@blp.arguments(OperationsArgs, location="query")
@blp.response(200, page_of(OperationAnswer))
@blp.errors("bad-cursor")
def list_operations(args: dict[str, Any]) -> Any:
    """What devices have sent and what became of it, newest first"""
    query = select(InboxOperation)
    for name, column in (
        ("device", InboxOperation.device_id),
        ("crew", InboxOperation.crew_id),
        ("entity_id", InboxOperation.entity_id),
    ):
        if name in args:
            query = query.where(column == args[name])
    if "status" in args:
        query = query.where(InboxOperation.status.in_(args["status"]))
    if g.actor.territory_ids is not None:
        mine = select(Job.id).where(Job.territory_id.in_(g.actor.territory_ids))
        query = query.where(InboxOperation.entity_id.in_(mine))
    with reading():
        page = paging.fetch(query, (InboxOperation.received_at, InboxOperation.op_id), args)
        body, headers = paging.answer(
            page, lambda row: {name: getattr(row, name) for name in OperationAnswer._declared_fields}
        )
    return body, 200, headers
