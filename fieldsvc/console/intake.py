"""Intake: a call becomes a ticket, by keyboard alone and in half a minute.

While it is typed the page shows what is known of it (``work.intake``). Each form has a key of its own, which the ticket
keeps: a form that is sent twice, from a line that was cut or by going back, makes one ticket.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from flask import redirect, render_template, request, url_for
from flask_babel import gettext as _
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from werkzeug.datastructures import MultiDict

from fieldsvc.api.frame import load
from fieldsvc.api.schemas import Choice, Ident, Schema, Text, from_text
from fieldsvc.api.tickets import TicketNew
from fieldsvc.base.clock import new_id, utc_now
from fieldsvc.base.db import db, reading, transaction
from fieldsvc.base.errors import Conflict, FieldsvcError, Forbidden, Invalid
from fieldsvc.console.frame import DISPATCHERS, Refused, actor, asked, choices, entered, form, page, pages, typed
from fieldsvc.records import finding
from fieldsvc.work import intake, queries
from fieldsvc.work.models import Incident, Job, Ticket
from fieldsvc.work.tickets import REPORTING_KINDS, NewTicket, receive

_KEYS = "123456789"
_HAZARD_KEYS = {"wire_down": "w", "fire": "f", "injury": "i", "gas": "s", "flood": "o", "life_support": "l"}
APART = "apart"
"""What ``fault`` says of a call that is about no fault that is known."""


class Intake(TicketNew):
    """The form: a ticket as the API takes it, with what only a page needs."""

    key = Ident(required=True)
    who = Text(200)
    fault = Ident()
    trouble_code = Text(60, required=True)


class Address(Schema):
    """What the address of the form says: which form, the ticket made last, the customer that the next one is of."""

    form = Choice("short", "full")
    taken = Ident()
    customer = Ident()


@pages.get("/intake", endpoint="intake")
@page(*DISPATCHERS)
def intake_form() -> str:
    """The form for the next call, and what became of the last one."""
    return _shown({})


@pages.post("/intake")
@page(*DISPATCHERS)
def intake_send() -> Any:
    """Take the call in, and on to the next one."""
    try:
        ticket_id = _take_in(utc_now())
    except Refused as refused:
        return _shown(refused.faults), refused.status
    return redirect(url_for("console.intake", taken=ticket_id, form=request.args.get("form") or None), 303)


@pages.post("/intake/find")
@page(*DISPATCHERS)
def intake_find() -> str:
    """Who or what place the text typed so far may mean, as options of a list. A POST: it names people."""
    text = request.form.get("who", "")[:200].replace("\0", "")
    with reading():
        found = finding.recognised(text, actor().scope)
    return render_template("_intake_found.html", found=found, text=text.strip())


@pages.post("/intake/known")
@page(*DISPATCHERS)
def intake_known() -> str:
    """What is known of the call as typed so far. Only looks."""
    new, fault = _typed_so_far()
    placed = new.customer_id or new.usage_point_id or new.lon is not None or new.address
    known = refusal = None
    with reading():
        match, points = finding.chosen(new.customer_id, new.usage_point_id, actor().scope)
        try:
            known = intake.known(new, utc_now(), actor().scope) if placed or new.caller_phone else None
        except FieldsvcError as error:
            refusal = error.detail
        return render_template(
            "_intake_known.html",
            known=known,
            placed=placed,
            match=match,
            points=points,
            refusal=refusal,
            fault=fault,
            joined=_joined(known, fault) if known is not None else None,
        )


def _joined(known: intake.Known, fault: str | None) -> Job | None:
    """The job that goes out already, where the call joins its fault: by the dispatcher's word, else by the rules."""
    leader = known.group.ids[0] if known.group is not None and known.group.merge else None
    return next((job for incident, job in known.faults if incident.id == (fault or leader)), None)


@pages.get("/intake/count")
@page(*DISPATCHERS)
def intake_count() -> str:
    """How many calls, faults and customers there were lately."""
    with reading():
        return render_template("_intake_count.html", surge=intake.surge(utc_now(), actor().scope))


def _shown(faults: dict[str, str]) -> str:
    where = asked(Address)
    with reading():
        given = typed() or _begun_with(where.get("customer"))
        surge = intake.surge(utc_now(), actor().scope)
        receipt = _receipt(where.get("taken")) if not faults else None
        return render_template(
            "intake.html",
            faults=faults,
            typed=given,
            key=new_id() if "key" in faults else given.get("key") or new_id(),
            form=where.get("form"),
            short=where.get("form", "short" if surge.on else "full") == "short",
            surge=surge,
            receipt=receipt,
            troubles=list(zip(intake.TROUBLES, _KEYS, strict=True)),
            hazards=[(hazard, _HAZARD_KEYS[hazard]) for hazard in intake.HAZARDS],
            reporting=choices(REPORTING_KINDS),
        )


def _begun_with(customer_id: str | None) -> MultiDict[str, str]:
    """A form that begins with a customer, from whose page one comes."""
    match, _points = finding.chosen(customer_id, None, actor().scope)
    if match is None:
        return MultiDict()
    return MultiDict({"who": f"{match.number} {match.name}", "customer_id": match.customer_id})


def _take_in(now: datetime) -> str:
    """The id of the ticket that this form has made, now or when it was sent before."""
    with form(Intake) as body:
        new = _wanted(body)
        try:
            with transaction():
                return receive(actor().source(now), new, actor().scope).id
        except Forbidden:
            nowhere = not (new.lon or new.customer_id or new.usage_point_id)
            pointless = _("An address alone does not say whose ground it is: point the place out on the map.")
            outside = _("This place does not lie in one of your territories.")
            raise Invalid.field("address", pointless if nowhere else outside) from None
        except (Conflict, IntegrityError) as error:
            if isinstance(error, Conflict) and error.code != "already-exists":
                raise _beside(error) from None
            return _sent_before(new, error)


def _wanted(body: dict[str, Any]) -> NewTicket:
    """The ticket that the form asks for.

    :raises Invalid: nobody is found by what was typed, or several are; no place at all.
    """
    who, fault, key = body.pop("who", None), body.pop("fault", None), body.pop("key")
    if who and not (body.get("customer_id") or body.get("usage_point_id")):
        body |= _recognised(who)
    if not any(body.get(name) for name in ("customer_id", "usage_point_id", "lon", "address")):
        raise Invalid.field("who", _("Say who calls, or where the trouble is."))
    body.pop("create_job")
    body["apart"] = fault == APART
    body["incident_id"] = fault if fault != APART else None
    return NewTicket(**body, external_key=f"console:{key}")


def _recognised(who: str) -> dict[str, str | None]:
    """Who was typed but not picked from the list."""
    with reading():
        found = finding.recognised(who, actor().scope)
    exact = [match for match in found if match.exact] or found
    if len(exact) != 1:
        several = _("Several customers or places match: pick one.")
        raise Invalid.field("who", several if exact else _("No customer and no place of yours matches this."))
    return {"customer_id": exact[0].customer_id, "usage_point_id": exact[0].usage_point_id}


def _beside(error: Conflict) -> FieldsvcError:
    """A refusal that names a member of the ticket, as a fault of the field that it comes from."""
    name, _colon, reason = error.detail.partition(": ")
    fields = {"customer_id": "who", "usage_point_id": "who", "customer_number": "who", "incident_id": "fault"}
    return Invalid.field(fields[name], reason) if name in fields else error


def _sent_before(new: NewTicket, error: Conflict | IntegrityError) -> str:
    """The ticket that this very form has made before; a form that says something else now is refused.

    :raises Invalid: the form was changed after it had been sent.
    """
    with reading():
        made = db.session.scalar(select(Ticket).where(Ticket.external_key == new.external_key))
        if made is None or not actor().sees(made.territory_id):
            raise error
        said = "reporting_kind trouble_code description caller_name caller_phone".split()
        given = "customer_id usage_point_id lon lat address".split()
        same = all(getattr(new, name) == getattr(made, name) for name in said)
        same &= all(getattr(new, name) in (None, getattr(made, name)) for name in given)
        if same and sorted(new.hazards) == sorted(made.hazards):
            return made.id
        text = _("This form has been sent already, as ticket %(number)s. Send it again to make another ticket of it.")
        raise Invalid.field("key", text % {"number": made.number})


def _typed_so_far() -> tuple[NewTicket, str | None]:
    """What the form says by now, and which fault was picked; fields that are not right yet are left out."""
    given = entered(Intake)
    given.pop("received_at", None)
    try:
        with from_text():
            body = load(Intake(partial=True), given)
    except Invalid as error:
        wrong = {fault["field"].strip("/").split("/")[0] for fault in error.errors} | {"lon", "lat"}
        with from_text():
            body = load(Intake(partial=True), {name: value for name, value in given.items() if name not in wrong})
    fault = body.pop("fault", None)
    for name in ("key", "who", "create_job"):
        body.pop(name, None)
    return NewTicket(**{"reporting_kind": "call", **body}), fault


def _receipt(ticket_id: str | None) -> dict[str, Any] | None:
    """What became of a ticket: its incident, its job and what is promised."""
    ticket = db.session.get(Ticket, ticket_id) if ticket_id else None
    if ticket is None or not actor().sees(ticket.territory_id):
        return None
    job = db.session.get(Job, ticket.job_id) if ticket.job_id else None
    incident = db.session.get_one(Incident, ticket.incident_id)
    return {
        "ticket": ticket,
        "incident": incident if actor().sees(incident.territory_id) else None,
        "job": queries.job_page(job) if job is not None and actor().sees(job.territory_id) else None,
    }
