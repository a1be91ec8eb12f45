"""Planned outages of transformer areas."""

from __future__ import annotations

from typing import Any

from flask import g

from fieldsvc.api import access, etag, idempotency, paging
from fieldsvc.api.frame import Blueprint
from fieldsvc.api.jobs import Reason
from fieldsvc.api.schemas import Choice, Ident, Int, ListOf, PageArgs, Schema, Text, UtcTime, page_of
from fieldsvc.base.clock import utc_now
from fieldsvc.base.db import reading, transaction
from fieldsvc.work import outages
from fieldsvc.work.models import PlannedOutage

blp = Blueprint(
    "outages", __name__, url_prefix="/v1/planned-outages", description="Planned outages: when an area is cut off anyway"
)

STATES = ("planned", "cancelled")


class OutageNew(Schema):
    transformer_area = Text(80, required=True)
    starts_at = UtcTime(required=True)
    ends_at = UtcTime(required=True)
    reason = Text(300, min=0)


class OutageEdit(Schema):
    starts_at = UtcTime()
    ends_at = UtcTime()
    reason = Text(300, min=0)


class OutageRow(Schema):
    id = Ident(required=True)
    transformer_area = Text(80, required=True)
    starts_at = UtcTime(required=True)
    ends_at = UtcTime(required=True)
    reason = Text(300, min=0, required=True)
    state = Choice(*STATES, required=True)
    announce_by = UtcTime(required=True, metadata={"description": "Those affected have to know by then."})
    rev = Int(1, required=True)
    created_at = UtcTime(required=True)
    updated_at = UtcTime(required=True)


class OutageAnswer(OutageRow):
    usage_points = Int(required=True, metadata={"description": "How many are cut off."})
    near = ListOf(
        Ident(), required=True, metadata={"description": "Other outages of the area too soon before or after."}
    )
    jobs = Int(required=True, metadata={"description": "Open jobs that campaigns have made for it."})
    job_ids = ListOf(Ident(), required=True, metadata={"description": "The first 50 of them."})


class OutagesArgs(PageArgs):
    area = Text(80)
    state = Choice(*STATES)
    since = UtcTime(data_key="from", metadata={"description": "Ending after this time."})
    until = UtcTime(data_key="to", metadata={"description": "Beginning before this time."})


@blp.get("")
@access.staff()
@blp.arguments(OutagesArgs, location="query")
@blp.response(200, page_of(OutageRow))
@blp.errors("bad-cursor")
def list_outages(args: dict[str, Any]) -> Any:
    """Planned outages in your territories, the earliest first"""
    wanted = {name: args.get(name) for name in ("area", "state", "since", "until")}
    order = (PlannedOutage.starts_at, PlannedOutage.id)
    with reading():
        page = paging.fetch(outages.outages(g.actor.scope, **wanted), order, args, descending=False)
        body, headers = paging.answer(page, outages.row)
    return body, 200, headers


@blp.post("")
@access.staff(*access.DISPATCHERS)
@idempotency.creates
@blp.arguments(OutageNew)
@blp.response(201, OutageAnswer)
@blp.errors("already-exists", "conflict", "forbidden")
def create_outage(body: dict[str, Any]) -> Any:
    """Enter a planned outage"""
    outage = outages.create(g.actor.source(utc_now()), outages.NewOutage(**body), g.actor.scope)
    return _answer(outage, 201, Location=f"/v1/planned-outages/{outage.id}")


@blp.get("/<id:outage_id>")
@access.staff()
@blp.response(200, OutageAnswer)
def get_outage(outage_id: str) -> Any:
    """One planned outage, with what hangs on it"""
    with reading():
        return _answer(outages.find(outage_id, g.actor.scope))


@blp.patch("/<id:outage_id>")
@access.staff(*access.DISPATCHERS)
@etag.if_match()
@blp.arguments(OutageEdit)
@blp.response(200, OutageAnswer)
@blp.errors("already-exists", "state-not-allowed", "conflict", "forbidden")
def edit_outage(body: dict[str, Any], outage_id: str) -> Any:
    """Move a planned outage"""
    with transaction():
        source = g.actor.source(utc_now())
        return _answer(outages.edit(source, outage_id, body, check=etag.check, scope=g.actor.scope))


@blp.post("/<id:outage_id>/cancel")
@access.staff(*access.DISPATCHERS)
@etag.if_match(required=False)
@blp.arguments(Reason)
@blp.response(200, OutageAnswer)
@blp.errors("state-not-allowed", "conflict", "forbidden")
def cancel_outage(body: dict[str, Any], outage_id: str) -> Any:
    """Call a planned outage off; the jobs made for it are named, not cancelled"""
    with transaction():
        source = g.actor.source(utc_now())
        return _answer(outages.cancel(source, outage_id, body["reason"], check=etag.check, scope=g.actor.scope))


def _answer(outage: PlannedOutage, status: int = 200, **headers: str) -> tuple[dict[str, Any], int, dict[str, str]]:
    return outages.page(outage, g.actor.scope), status, {**etag.tag(outage.rev), **headers}
