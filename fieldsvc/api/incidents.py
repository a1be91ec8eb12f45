"""Incidents: the faults behind the tickets, what merges into one, and what a dispatcher says of it."""

from __future__ import annotations

from typing import Any

import marshmallow as ma
from flask import g

from fieldsvc.api import access, idempotency, paging
from fieldsvc.api.frame import Blueprint
from fieldsvc.api.schemas import (
    Choice,
    Choices,
    Flag,
    Ident,
    Int,
    Lat,
    ListOf,
    Lon,
    Member,
    PageArgs,
    Schema,
    Text,
    UtcTime,
    page_of,
)
from fieldsvc.base.clock import utc_now
from fieldsvc.base.db import reading, transaction
from fieldsvc.kinds.lifecycle import STATUSES
from fieldsvc.work import incidents, merging
from fieldsvc.work.models import Incident, IncidentMerge

blp = Blueprint("incidents", __name__, url_prefix="/v1", description="Incidents: the faults behind the tickets")

MOST_AT_ONCE = 100


class IncidentAnswer(Schema):
    id = Ident(required=True)
    state = Choice(*incidents.STATES, required=True)
    territory_id = Ident(allow_none=True)
    kind = Text(30, allow_none=True, metadata={"description": "The kind of job that goes out for it."})
    transformer_area = Text(80, allow_none=True, metadata={"description": "Of the first call."})
    areas = ListOf(Text(80), max=100_000, required=True, metadata={"description": "Transformer areas with calls."})
    feeder = Text(80, allow_none=True)
    lon = Lon(allow_none=True)
    lat = Lat(allow_none=True)
    hazards = ListOf(Text(60), max=100_000, required=True)
    calls = Int(required=True, metadata={"description": "Its tickets."})
    customers = Int(required=True, metadata={"description": "Those who called, each once."})
    joinable = Flag(required=True, metadata={"description": "Whether a rule may put it together with others."})
    lead_job_id = Ident(allow_none=True)
    merged_into_id = Ident(allow_none=True)
    opened_at = UtcTime(required=True)
    last_call_at = UtcTime(allow_none=True)
    told_at = UtcTime(allow_none=True, metadata={"description": "When those who called were told that it is over."})
    closed_at = UtcTime(allow_none=True)


class MergeAnswer(Schema):
    id = Ident(required=True)
    state = Choice(*incidents.MERGE_STATES, required=True)
    into_id = Ident(required=True)
    from_ids = ma.fields.List(Ident(), required=True)
    territory_id = Ident(allow_none=True)
    reason = Choice(*merging.REASONS, required=True)
    words = Text(300, required=True, metadata={"description": "Why, with the numbers."})
    rule = Text(300, allow_none=True, metadata={"description": "The source of the rule and its edition."})
    automatic = Flag(required=True, metadata={"description": "A rule found it; merged: nobody was asked."})
    created_at = UtcTime(required=True)
    created_by = Ident(allow_none=True)
    created_by_name = Text(120, allow_none=True)
    decided_at = UtcTime(allow_none=True)
    decided_by = Ident(allow_none=True)
    decided_by_name = Text(120, allow_none=True)
    undone_at = UtcTime(allow_none=True)
    undone_by = Ident(allow_none=True)
    undone_by_name = Text(120, allow_none=True)


class CallAnswer(Schema):
    id = Ident(required=True)
    number = Text(40, required=True)
    customer_id = Ident(allow_none=True)
    caller_name = Text(120, allow_none=True)
    caller_phone = Text(40, allow_none=True)
    trouble_code = Text(60, allow_none=True)
    hazards = ListOf(Text(60), required=True)
    job_id = Ident(allow_none=True)
    received_at = UtcTime(required=True)


class IncidentJob(Schema):
    id = Ident(required=True)
    number = Text(40, required=True)
    kind = Text(30, required=True)
    status = Choice(*STATUSES, required=True)
    priority = Int(1, 9, required=True)
    hazards = ListOf(Text(60), max=100_000, required=True)
    crew_id = Ident(allow_none=True)
    customers_affected = Int(allow_none=True)


class IncidentPage(IncidentAnswer):
    tickets = ListOf(Member(CallAnswer), max=incidents.MOST_SHOWN, required=True)
    jobs = ListOf(Member(IncidentJob), max=incidents.MOST_SHOWN, required=True)
    merges = ListOf(Member(MergeAnswer), max=incidents.MOST_SHOWN, required=True)


class IncidentsArgs(PageArgs):
    state = Choices(*incidents.STATES)
    territory = Choices()


class MergesArgs(PageArgs):
    state = Choices(*incidents.MERGE_STATES)
    incident = Ident(metadata={"description": "Into this incident."})


class MergeNew(Schema):
    incident_ids = ListOf(Ident(), max=MOST_AT_ONCE, min=1, required=True)


@blp.get("/incidents")
@access.staff()
@blp.arguments(IncidentsArgs, location="query")
@blp.response(200, page_of(IncidentAnswer))
@blp.errors("bad-cursor")
def list_incidents(args: dict[str, Any]) -> Any:
    """Incidents of your territories, last opened first"""
    query = incidents.incidents(g.actor.scope, args.get("state", ()), args.get("territory", ()))
    with reading():
        body, headers = paging.answer(paging.fetch(query, (Incident.opened_at, Incident.id), args), incidents.row)
    return body, 200, headers


@blp.get("/incidents/<id:incident_id>")
@access.staff()
@blp.response(200, IncidentPage)
def get_incident(incident_id: str) -> Any:
    """One incident: who called, its jobs, what was merged; at most 200 each, `/v1/tickets?incident=` has all calls"""
    with reading():
        return incidents.page(incidents.find(incident_id, g.actor.scope), g.actor.scope)


@blp.post("/incidents/<id:incident_id>/merge")
@access.staff(*access.DISPATCHERS)
@idempotency.creates
@blp.arguments(MergeNew)
@blp.response(201, MergeAnswer)
@blp.errors("conflict", "state-not-allowed")
def merge_incidents(body: dict[str, Any], incident_id: str) -> Any:
    """Put incidents together by hand: they become part of this one, one job leads, undo takes it back"""
    made = merging.by_hand(g.actor.source(utc_now()), incident_id, body["incident_ids"], g.actor.scope)
    return incidents.merge_row(made), 201, {"Location": f"/v1/incident-merges/{made.id}"}


@blp.get("/incident-merges")
@access.staff()
@blp.arguments(MergesArgs, location="query")
@blp.response(200, page_of(MergeAnswer))
@blp.errors("bad-cursor")
def list_merges(args: dict[str, Any]) -> Any:
    """What was merged and what is proposed, newest first"""
    query = incidents.merges(g.actor.scope, args.get("state", ()), args.get("incident"))
    with reading():
        page = paging.fetch(query, (IncidentMerge.created_at, IncidentMerge.id), args)
        body, headers = paging.answer(page, incidents.merge_row)
    return body, 200, headers


@blp.get("/incident-merges/<id:merge_id>")
@access.staff()
@blp.response(200, MergeAnswer)
def get_merge(merge_id: str) -> Any:
    """One merge or proposal"""
    with reading():
        return incidents.merge_row(incidents.find_merge(merge_id, g.actor.scope))


@blp.post("/incident-merges/<id:merge_id>/accept")
@access.staff(*access.DISPATCHERS)
@blp.response(200, MergeAnswer)
@blp.errors("conflict", "state-not-allowed")
def accept_merge(merge_id: str) -> Any:
    """Carry out a proposal"""
    with transaction():
        return incidents.merge_row(merging.accept(g.actor.source(utc_now()), merge_id, g.actor.scope))


@blp.post("/incident-merges/<id:merge_id>/decline")
@access.staff(*access.DISPATCHERS)
@blp.response(200, MergeAnswer)
@blp.errors("state-not-allowed")
def decline_merge(merge_id: str) -> Any:
    """These are different faults; no rule puts them together again"""
    with transaction():
        return incidents.merge_row(merging.decline(g.actor.source(utc_now()), merge_id, g.actor.scope))


@blp.post("/incident-merges/<id:merge_id>/undo")
@access.staff(*access.DISPATCHERS)
@blp.response(200, MergeAnswer)
@blp.errors("state-not-allowed")
def undo_merge(merge_id: str) -> Any:
    """Take a merge back: tickets, jobs and promises as they were before; no rule puts them together again"""
    with transaction():
        return incidents.merge_row(merging.undo(g.actor.source(utc_now()), merge_id, g.actor.scope))
