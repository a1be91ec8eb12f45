"""Tickets: what callers report."""

from __future__ import annotations

from typing import Any

from flask import g

from fieldsvc.api import access, idempotency, paging
from fieldsvc.api.frame import Blueprint
from fieldsvc.api.jobs import KindName, Placed
from fieldsvc.api.schemas import Choice, Flag, Ident, Lat, ListOf, Lon, PageArgs, Schema, Text, UtcTime, page_of
from fieldsvc.base.clock import utc_now
from fieldsvc.base.db import reading
from fieldsvc.work import queries, tickets
from fieldsvc.work.models import Ticket

blp = Blueprint("tickets", __name__, url_prefix="/v1/tickets", description="Tickets: one intake each")


class TicketNew(Placed):
    reporting_kind = Choice(*tickets.REPORTING_KINDS, required=True)
    trouble_code = Text(60)
    description = Text(4000, min=0)
    hazards = ListOf(Text(60), max=20, metadata={"description": "With hazards the job is of priority 1."})
    caller_name = Text(120)
    caller_phone = Text(40)
    customer_number = Text(40)
    customer_id = Ident()
    usage_point_id = Ident()
    address = Text(300)
    received_at = UtcTime(metadata={"description": "When we were told; promises run from here. Default: now."})
    external_key = Text(120, metadata={"description": "Your own key; unique."})
    job_kind = KindName(load_default="repair")
    create_job = Flag(load_default=True, metadata={"description": "false: take it in, send nobody yet."})
    incident_id = Ident(metadata={"description": "The open incident it is about; without one the rules decide."})
    apart = Flag(
        load_default=False, metadata={"description": "true: about no fault that is known; no rule puts it to one."}
    )


class TicketAnswer(Schema):
    id = Ident(required=True)
    number = Text(40, required=True)
    external_key = Text(120, allow_none=True)
    reporting_kind = Choice(*tickets.REPORTING_KINDS, required=True)
    trouble_code = Text(60, allow_none=True)
    description = Text(4000, min=0, required=True)
    hazards = ListOf(Text(60), required=True)
    caller_name = Text(120, allow_none=True)
    caller_phone = Text(40, allow_none=True)
    customer_id = Ident(allow_none=True)
    usage_point_id = Ident(allow_none=True)
    lon = Lon(allow_none=True)
    lat = Lat(allow_none=True)
    address = Text(300, allow_none=True)
    territory_id = Ident(allow_none=True)
    incident_id = Ident(required=True)
    job_id = Ident(allow_none=True)
    received_at = UtcTime(required=True)
    created_at = UtcTime(required=True)


class TicketsArgs(PageArgs):
    incident = Ident()
    customer = Ident()
    since = UtcTime(data_key="from", metadata={"description": "Received at this time or later."})
    until = UtcTime(data_key="to", metadata={"description": "Received before this time."})


@blp.get("")
@access.staff()
@blp.arguments(TicketsArgs, location="query")
@blp.response(200, page_of(TicketAnswer))
@blp.errors("bad-cursor")
def list_tickets(args: dict[str, Any]) -> Any:
    """Tickets of your territories, last received first"""
    query = queries.tickets(
        g.actor.scope,
        incident_id=args.get("incident"),
        customer_id=args.get("customer"),
        since=args.get("since"),
        until=args.get("until"),
    )
    with reading():
        body, headers = paging.answer(paging.fetch(query, (Ticket.received_at, Ticket.id), args), queries.ticket_row)
    return body, 200, headers


@blp.post("")
@access.staff(*access.DISPATCHERS)
@idempotency.creates
@blp.arguments(TicketNew)
@blp.response(201, TicketAnswer)
@blp.errors("already-exists", "conflict", "forbidden", "state-not-allowed")
def create_ticket(body: dict[str, Any]) -> Any:
    """Take in a ticket: opens an incident and sends out a job"""
    if not body.pop("create_job"):
        body["job_kind"] = None
    ticket = tickets.receive(g.actor.source(utc_now()), tickets.NewTicket(**body), g.actor.scope)
    return queries.ticket_row(ticket), 201, {"Location": f"/v1/tickets/{ticket.id}"}


@blp.get("/<id:ticket_id>")
@access.staff()
@blp.response(200, TicketAnswer)
def get_ticket(ticket_id: str) -> Any:
    """One ticket"""
    with reading():
        return queries.ticket_row(queries.ticket(ticket_id, g.actor.scope))
