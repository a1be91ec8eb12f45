"""History: who changed what, when by which clock, and the operation behind it."""

from __future__ import annotations

from typing import Any

from flask import g

from fieldsvc.api import access, paging
from fieldsvc.api.frame import Blueprint
from fieldsvc.api.schemas import Choice, Ident, Int, JsonObject, Member, PageArgs, Schema, Text, UtcTime, page_of
from fieldsvc.base.db import reading
from fieldsvc.history import page as history
from fieldsvc.history.models import HistoryEntry
from fieldsvc.work import queries

blp = Blueprint("history", __name__, url_prefix="/v1", description="History: append-only, newest first")


class ActorAnswer(Schema):
    kind = Choice("staff", "device", "system", required=True)
    id = Text(36, allow_none=True, required=True)
    name = Text(120, allow_none=True, required=True)


class Times(Schema):
    device = Text(40, allow_none=True, required=True, metadata={"description": "As the device said it, unchanged."})
    estimated = UtcTime(allow_none=True, required=True, metadata={"description": "When it happened, as far as known."})
    recorded = UtcTime(required=True, metadata={"description": "When the server wrote it down."})


class EntryAnswer(Schema):
    seq = Int(0, 2**53, required=True)
    actor = Member(ActorAnswer, required=True)
    action = Text(60, required=True)
    entity = Text(30, required=True)
    entity_id = Text(80, required=True)
    times = Member(Times, required=True)
    before = JsonObject(allow_none=True, required=True)
    after = JsonObject(allow_none=True, required=True)
    job_id = Ident(allow_none=True, required=True)
    job_kind = Text(30, allow_none=True, required=True)
    customer_id = Ident(allow_none=True, required=True)
    crew_id = Ident(allow_none=True, required=True)
    device_id = Ident(allow_none=True, required=True)
    territory_id = Ident(allow_none=True, required=True)
    op_id = Text(80, allow_none=True, required=True)
    note = Text(2000, min=0, allow_none=True, required=True)


class HistoryArgs(PageArgs):
    actor = Ident(metadata={"description": "Id of a member of staff or of a device."})
    kind = Text(30, metadata={"description": "Kind of the job."})
    job = Ident()
    customer = Ident()
    crew = Ident()
    device = Ident()
    operation = Text(80, pattern="^[!-~]+$", metadata={"description": "The op_id behind a change."})
    action = Text(60, pattern="^[a-z_.]+$")
    since = UtcTime(data_key="from", metadata={"description": "Recorded at this time or later."})
    until = UtcTime(data_key="to", metadata={"description": "Recorded before this time."})


@blp.get("/history")
@access.staff()
@blp.arguments(HistoryArgs, location="query")
@blp.response(200, page_of(EntryAnswer))
@blp.errors("bad-cursor")
def list_history(args: dict[str, Any]) -> Any:
    """What happened in your territories"""
    wanted = history.Wanted(
        actor_id=args.get("actor"),
        job_kind=args.get("kind"),
        job_id=args.get("job"),
        customer_id=args.get("customer"),
        crew_id=args.get("crew"),
        device_id=args.get("device"),
        op_id=args.get("operation"),
        action=args.get("action"),
        since=args.get("since"),
        until=args.get("until"),
    )
    with reading():
        return _page(wanted, g.actor.scope, args)


@blp.get("/jobs/<id:job_id>/history")
@access.staff()
@blp.arguments(PageArgs, location="query")
@blp.response(200, page_of(EntryAnswer))
@blp.errors("bad-cursor")
def job_history(args: dict[str, Any], job_id: str) -> Any:
    """What happened to one job"""
    with reading():
        job = queries.job(job_id, g.actor.scope)
        return _page(history.Wanted(job_id=job.id), None, args)


def _page(wanted: history.Wanted, scope: frozenset[str] | None, args: dict[str, Any]) -> Any:
    page = paging.fetch(history.entries(wanted, scope), (HistoryEntry.seq,), args)
    body, headers = paging.answer(page, history.rendered)
    return body, 200, headers
