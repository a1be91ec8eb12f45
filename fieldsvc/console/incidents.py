"""Incidents: the faults behind the tickets, what merges into one, and a dispatcher's word on it."""

from __future__ import annotations

from typing import Any

from flask import render_template, url_for
from flask_babel import gettext as _
from sqlalchemy import select

from fieldsvc.api import paging
from fieldsvc.api.incidents import MergeNew
from fieldsvc.api.schemas import Choices, PageArgs
from fieldsvc.base.clock import utc_now
from fieldsvc.base.db import db, reading, transaction
from fieldsvc.base.errors import Conflict
from fieldsvc.console.frame import DISPATCHERS, Refused, actor, asked, done, form, further, page, pages, typed
from fieldsvc.people.models import Territory
from fieldsvc.records.models import Customer
from fieldsvc.work import incidents, merging
from fieldsvc.work.models import Incident, IncidentMerge, Job, Ticket

_AROUND = 40
"""Other open incidents offered to be merged by hand."""


class IncidentsShown(PageArgs):
    """Which incidents: in which state, in which territories."""

    state = Choices(*incidents.STATES)
    territory = Choices()


@pages.get("/incidents", endpoint="incidents")
@page()
def incident_list() -> str:
    """Incidents of one's territories: open ones first, those of most customers before; and what is proposed."""
    args = asked(IncidentsShown)
    query = incidents.incidents(actor().scope, args.get("state", ()), args.get("territory", ()))
    proposed = incidents.merges(actor().scope, ["proposed"]).order_by(IncidentMerge.created_at.desc())
    last = (Incident.opened_at, Incident.id)
    over = "state" in args and "open" not in args["state"]
    with reading():
        found = paging.fetch(query, last if over else (Incident.state, Incident.customers, *last), args)
        return render_template(
            "incidents.html",
            rows=found.rows,
            jobs=_by_id(Job, [row.lead_job_id for row in found.rows]),
            territories=_by_id(Territory, [row.territory_id for row in found.rows]),
            proposed=list(db.session.scalars(proposed.limit(20))),
            next=further(found.next),
            asked=args,
            choosable=_territories(),
            states=incidents.STATES,
        )


def _territories() -> list[tuple[str, str]]:
    """The territories one may ask for, by name."""
    query = select(Territory.id, Territory.name).order_by(Territory.name)
    scope = actor().scope
    if scope is not None:
        query = query.where(Territory.id.in_(sorted(scope)))
    return [(ident, name) for ident, name in db.session.execute(query)]


def _by_id(model: Any, idents: list[str | None]) -> dict[str, Any]:
    wanted = sorted({ident for ident in idents if ident})
    return {row.id: row for row in db.session.scalars(select(model).where(model.id.in_(wanted)))} if wanted else {}


@pages.get("/incidents/<id:incident_id>", endpoint="incident")
@page()
def one_incident(incident_id: str) -> str:
    """One incident: who called, its jobs, where, what was merged and what is proposed."""
    return _shown(incident_id, {})


def _shown(incident_id: str, faults: dict[str, str], refusal: str | None = None) -> str:
    with reading():
        found = incidents.find(incident_id, actor().scope)
        shown = incidents.page(found, actor().scope)
        others = _others(found) if found.state == "open" else []
        return render_template(
            "incident.html",
            incident=found,
            shown=shown,
            territory=db.session.get(Territory, found.territory_id) if found.territory_id else None,
            into=found.merged_into_id,
            others=others,
            jobs=_by_id(Job, [other.lead_job_id for other in others]),
            customers=_by_id(Customer, [call["customer_id"] for call in shown["tickets"]]),
            places=_places(found),
            brought=incidents.brought([merge["id"] for merge in shown["merges"]]),
            faults=faults,
            refusal=refusal,
            typed=typed(),
        )


def _places(found: Incident) -> list[dict[str, Any]]:
    """Where its calls came from, as the map shows jobs."""
    calls = select(Ticket).where(Ticket.incident_id == found.id, Ticket.lon.is_not(None)).order_by(Ticket.received_at)
    if actor().scope is not None:
        calls = calls.where(Ticket.territory_id.in_(sorted(actor().scope or ())))
    lead = db.session.get(Job, found.lead_job_id) if found.lead_job_id else None
    shared = {"kind": found.kind, "status": lead.status if lead else "waiting_to_be_scheduled"}
    return [
        shared
        | {name: getattr(call, name) for name in ("id", "number", "lon", "lat", "address")}
        | {"title": call.trouble_code or "", "tier": "hazard" if call.hazards else "emergency"}
        for call in db.session.scalars(calls.limit(incidents.MOST_SHOWN))
    ]


def _others(found: Incident) -> list[Incident]:
    """Open incidents it may be merged with by hand, those with the latest calls first."""
    query = incidents.incidents(actor().scope, ["open"]).where(Incident.id != found.id)
    if found.kind is not None:
        query = query.where((Incident.kind == found.kind) | Incident.kind.is_(None))
    return list(db.session.scalars(query.order_by(Incident.last_call_at.desc(), Incident.id).limit(_AROUND)))


@pages.post("/incidents/<id:incident_id>/merge")
@page(*DISPATCHERS)
def merge_incidents(incident_id: str) -> Any:
    """Put incidents together by hand; no rule is asked."""
    try:
        with form(MergeNew) as body, transaction():
            merging.by_hand(actor().source(utc_now()), incident_id, body["incident_ids"], actor().scope)
    except Refused as refused:
        return _shown(incident_id, refused.faults), refused.status
    return done(_("Merged. It can be undone below."), url_for("console.incident", incident_id=incident_id))


@pages.post("/incident-merges/<id:merge_id>/<any(accept, decline, undo):word>")
@page(*DISPATCHERS)
def decide_merge(merge_id: str, word: str) -> Any:
    """Carry a proposal out, decline it, or take a merge back."""
    decide = {"accept": merging.accept, "decline": merging.decline, "undo": merging.undo}[word]
    with reading():
        into_id = incidents.find_merge(merge_id, actor().scope).into_id
    try:
        with transaction():
            into_id = decide(actor().source(utc_now()), merge_id, actor().scope).into_id
    except Conflict as error:  # somebody has decided meanwhile: the page says who
        return _shown(into_id, {}, error.detail), error.status
    told = {
        "accept": _("Merged."),
        "decline": _("Declined: these stay different faults."),
        "undo": _("Undone: tickets, jobs and promises are as they were."),
    }
    return done(told[word], url_for("console.incident", incident_id=into_id))
