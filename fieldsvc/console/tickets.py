"""Tickets: what callers reported, and what became of each."""

from __future__ import annotations

from typing import Any

from flask import render_template
from sqlalchemy import select

from fieldsvc.api import paging
from fieldsvc.api.schemas import Choice, Ident, PageArgs, Text
from fieldsvc.base.db import db, reading
from fieldsvc.console.frame import actor, asked, further, page, pages
from fieldsvc.people.models import Territory
from fieldsvc.records.models import Customer, UsagePoint
from fieldsvc.work import queries
from fieldsvc.work.incidents import STATES
from fieldsvc.work.models import Incident, Job, Ticket


class TicketsShown(PageArgs):
    """Which tickets: of which customer or incident, in which state their incident is, what their number begins with."""

    customer = Ident()
    incident = Ident()
    state = Choice("open", "closed")
    q = Text(40)


@pages.get("/tickets", endpoint="tickets")
@page()
def ticket_list() -> str:
    """Tickets of one's territories, last received first."""
    args = asked(TicketsShown)
    query = queries.tickets(actor().scope, incident_id=args.get("incident"), customer_id=args.get("customer"))
    if "state" in args:
        query = query.join(Incident, Incident.id == Ticket.incident_id).where(Incident.state == args["state"])
    if "q" in args:
        query = query.where(Ticket.number.icontains(args["q"], autoescape=True))
    with reading():
        found = paging.fetch(query, (Ticket.received_at, Ticket.id), args)
        return render_template(
            "tickets.html",
            rows=found.rows,
            about=_about(found.rows),
            next=further(found.next),
            asked=args,
            states=[state for state in STATES if state != "merged"],
        )


def _about(rows: list[Ticket]) -> dict[str, dict[str, Any]]:
    """Id → what a list says of the incidents, jobs, customers and territories of some tickets."""
    wanted: dict[Any, set[str]] = {Incident: set(), Job: set(), Customer: set(), Territory: set()}
    for row in rows:
        for model, ident in (
            (Incident, row.incident_id),
            (Job, row.job_id),
            (Customer, row.customer_id),
            (Territory, row.territory_id),
        ):
            if ident:
                wanted[model].add(ident)
    return {
        ident: found
        for model, ids in wanted.items()
        for ident, found in db.session.execute(select(model.id, model).where(model.id.in_(sorted(ids)))).all()
    }


@pages.get("/tickets/<id:ticket_id>", endpoint="ticket")
@page()
def one_ticket(ticket_id: str) -> str:
    """One ticket as it came in, with its incident, job and promises."""
    with reading():
        found = queries.ticket(ticket_id, actor().scope)
        job = db.session.get(Job, found.job_id) if found.job_id else None
        return render_template(
            "ticket.html",
            ticket=found,
            incident=db.session.get_one(Incident, found.incident_id),
            job=queries.job_page(job) if job is not None and actor().sees(job.territory_id) else None,
            customer=db.session.get(Customer, found.customer_id) if found.customer_id else None,
            point=db.session.get(UsagePoint, found.usage_point_id) if found.usage_point_id else None,
            territory=db.session.get(Territory, found.territory_id) if found.territory_id else None,
        )
