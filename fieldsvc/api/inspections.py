"""Inspections that fall due: who, by when; and the jobs made of them."""

from __future__ import annotations

from typing import Any

from flask import current_app, g

from fieldsvc.api import access, idempotency, paging
from fieldsvc.api.campaigns import Day
from fieldsvc.api.frame import Blueprint
from fieldsvc.api.schemas import Choice, Flag, Ident, Int, ListOf, PageArgs, Schema, Text, page_of
from fieldsvc.base.clock import utc_now
from fieldsvc.base.db import reading
from fieldsvc.records.importing import IMPORTANCE
from fieldsvc.records.models import Customer
from fieldsvc.work import inspections

blp = Blueprint("inspections", __name__, url_prefix="/v1/inspections", description="Inspections that fall due by cycle")

MOST_AT_ONCE = 500


class DueArgs(PageArgs):
    until = Day(required=True, metadata={"description": "Whose inspection falls due on this local day or before."})


class DueAnswer(Schema):
    customer_id = Ident(required=True)
    customer_number = Text(40, required=True)
    customer_name = Text(200, required=True)
    customer_class = Text(40, required=True)
    importance = Choice(*IMPORTANCE, required=True)
    territory_id = Ident(allow_none=True)
    usage_point_id = Ident(allow_none=True)
    reason = Choice("cycle", "new_supply", required=True)
    since = Text(10, required=True, metadata={"description": "The day it is counted from."})
    cycle_months = Int(allow_none=True)
    due_on = Text(10, required=True)


class DueNew(Schema):
    until = Day(required=True)
    customer_ids = ListOf(Ident(), max=MOST_AT_ONCE, min=1, metadata={"description": "Default: everybody who is due."})


class MadeAnswer(Schema):
    made = Int(required=True)
    job_ids = ListOf(Ident(), max=MOST_AT_ONCE, required=True)
    more = Flag(required=True, metadata={"description": "As many as go at once were made: send it again."})


@blp.get("/due")
@access.staff()
@blp.arguments(DueArgs, location="query")
@blp.response(200, page_of(DueAnswer))
@blp.errors("bad-cursor")
def list_due(args: dict[str, Any]) -> Any:
    """Customers in your territories whose inspection falls due and has no job yet; changes nothing"""
    zone = current_app.extensions["fieldsvc.settings"].local_zone
    today = utc_now().astimezone(zone).date()
    with reading():
        page = paging.fetch(
            inspections.due_by(args["until"], today, zone, g.actor.scope),
            (Customer.number,),
            args,
            descending=False,
            scalars=False,
            key=lambda row: [row[0].number],
        )
        body, headers = paging.answer(page, lambda row: inspections.read(row, today, zone).row())
    return body, 200, headers


@blp.post("/due")
@access.staff(*access.DISPATCHERS)
@idempotency.creates
@blp.arguments(DueNew)
@blp.response(201, MadeAnswer)
@blp.errors("conflict")
def make_due(body: dict[str, Any]) -> Any:
    """Make the jobs of inspections that fall due, at most 500 at once"""
    zone = current_app.extensions["fieldsvc.settings"].local_zone
    source = g.actor.source(utc_now())
    named = body.get("customer_ids")
    made = inspections.make(source, body["until"], zone, g.actor.scope, customer_ids=named, limit=MOST_AT_ONCE)
    return {"made": len(made), "job_ids": made, "more": len(made) == MOST_AT_ONCE}, 201
