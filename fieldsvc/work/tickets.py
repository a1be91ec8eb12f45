"""Tickets: one intake each, kept as it came in, with the incident behind it and the job that goes out for it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import select

from fieldsvc.base.clock import new_id
from fieldsvc.base.db import db
from fieldsvc.base.errors import Conflict, Invalid, NotFound
from fieldsvc.base.plain import plain
from fieldsvc.history.record import Source, record
from fieldsvc.records import contacts
from fieldsvc.records.models import Customer, ServiceLocation
from fieldsvc.work import incidents, jobs, merging, numbers
from fieldsvc.work.models import Incident, Ticket

REPORTING_KINDS = ("call", "web", "app", "walk_in", "transfer", "import")


@dataclass(frozen=True)
class NewTicket:
    """What a caller reports. ``received_at`` is when we were told; promises run from there. ``customer_number`` or
    ``customer_id`` says who; ``job_kind`` what goes out for it, ``None`` for nothing yet. ``incident_id``: the open
    fault it is about, as whoever takes it in says; ``apart``: it is about none that is known. Else the rules decide."""

    reporting_kind: str
    trouble_code: str | None = None
    description: str = ""
    hazards: Sequence[str] = ()
    caller_name: str | None = None
    caller_phone: str | None = None
    customer_number: str | None = None
    customer_id: str | None = None
    usage_point_id: str | None = None
    lon: float | None = None
    lat: float | None = None
    address: str | None = None
    received_at: datetime | None = None
    external_key: str | None = None
    job_kind: str | None = "repair"
    incident_id: str | None = None
    apart: bool = False


def receive(source: Source, new: NewTicket, scope: Collection[str] | None = None) -> Ticket:
    """Take in a ticket: it opens an incident, sends out a job, and is noted as a contact of the customer.

    A call about a fault that enough others have called about joins it, and no second job goes out (``work.merging``).

    :raises Invalid: unknown kind; received later than now.
    :raises Conflict: a customer, usage point or incident that is unknown or out of ``scope``; ``already-exists``: the
        external key is taken; ``state-not-allowed``: the incident is not open.
    :raises Forbidden: the place is not in the caller's territories.
    """
    now = source.recorded_at
    received_at = new.received_at or now
    if received_at > now:
        raise Invalid.field("received_at", "lies in the future")
    if new.external_key is not None:
        taken = db.session.execute(
            select(Ticket.id, Ticket.number).where(Ticket.external_key == new.external_key)
        ).first()
        if taken is not None:
            raise Conflict(f"ticket {taken.number} has this external key", "already-exists", id=taken.id)
    ticket, wanted, place = drafted(new, now, scope)
    jobs.require_scope(place.territory_id, scope)
    ticket.number = numbers.draw(Ticket.number, "T-")[0]
    storm = incidents.storm_rules(now)
    incident = incidents.of_ticket(ticket, new.job_kind, storm, apart=new.apart)
    db.session.add(incident)
    db.session.flush()
    ticket.incident_id = incident.id
    db.session.add(ticket)
    db.session.flush()
    joined = _joined(source, new, incident, storm, scope)
    if new.job_kind is not None and not (joined and ticket.job_id):
        ticket.job_id = jobs.store(source, replace(wanted, incident_id=ticket.incident_id), place).id
        db.session.get_one(Incident, ticket.incident_id).lead_job_id = ticket.job_id
        if joined:
            incidents.repoint(ticket.incident_id, None, ticket.job_id)
    _tell(source, ticket)
    return ticket


def _joined(
    source: Source,
    new: NewTicket,
    incident: Incident,
    storm: incidents.StormRules,
    scope: Collection[str] | None,
) -> bool:
    """Whether the incident of a new ticket has become part of one that was there."""
    if new.incident_id is None:
        return merging.arrived(source, incident, storm)
    try:
        merging.by_hand(source, new.incident_id, [incident.id], scope)
    except NotFound:
        raise Conflict("incident_id: there is no such incident") from None
    return True


def drafted(
    new: NewTicket, now: datetime, scope: Collection[str] | None = None
) -> tuple[Ticket, jobs.NewJob, jobs.Place]:
    """A ticket as it would be taken in at ``now``, the job that would go out for it, and its place. Stores nothing.

    The ticket has no number and no incident yet.

    :raises Invalid: unknown kind.
    :raises Conflict: a customer or usage point that is unknown or out of ``scope``.
    """
    received_at = new.received_at or now
    wanted = jobs.with_customer(_job_for(new, received_at, scope), scope)
    place = jobs.placed(wanted, now)
    ticket = Ticket(
        id=new_id(),
        external_key=new.external_key,
        reporting_kind=new.reporting_kind,
        trouble_code=new.trouble_code,
        description=new.description,
        hazards=list(new.hazards),
        caller_name=new.caller_name,
        caller_phone=new.caller_phone,
        customer_id=wanted.customer_id,
        usage_point_id=wanted.usage_point_id,
        lon=place.lon,
        lat=place.lat,
        address=place.address,
        territory_id=place.territory_id,
        job_id=None,  # said, so that the session follows when the ticket is merged in bulk
        received_at=received_at,
        created_at=now,
    )
    return ticket, wanted, place


def _job_for(new: NewTicket, received_at: datetime, scope: Collection[str] | None) -> jobs.NewJob:
    customer_id = new.customer_id
    if new.customer_number is not None:
        query = select(Customer.id).where(Customer.number == new.customer_number)
        if scope is not None and new.usage_point_id is None:  # else the usage point says whether it is in scope
            query = query.where(Customer.location.has(ServiceLocation.territory_id.in_(sorted(scope))))
        numbered = db.session.scalar(query)
        if numbered is None:
            raise Conflict("customer_number: there is no such customer")
        if customer_id not in (None, numbered):
            raise Conflict("customer_number: is another customer than customer_id")
        customer_id = numbered
    kind = jobs.known_kind(new.job_kind) if new.job_kind is not None else None
    title = f"{kind.title}: {new.trouble_code}".replace("_", " ") if kind and new.trouble_code else None
    return jobs.NewJob(
        kind=new.job_kind or "",
        title=title[:200] if title else None,
        description=new.description,
        hazards=new.hazards,
        customer_id=customer_id,
        usage_point_id=new.usage_point_id,
        lon=new.lon,
        lat=new.lat,
        address=new.address,
        reported_at=received_at,
        contact_phone=new.caller_phone,
    )


def _tell(source: Source, ticket: Ticket) -> None:
    fields = "number reporting_kind trouble_code description hazards address incident_id job_id received_at".split()
    record(
        source,
        "ticket.received",
        "ticket",
        ticket.id,
        after={name: plain(getattr(ticket, name)) for name in fields},
        job_id=ticket.job_id,
        customer_id=ticket.customer_id,
        territory_id=ticket.territory_id,
    )
    if ticket.customer_id is not None:
        contacts.add(
            source,
            ticket.customer_id,
            channel=ticket.reporting_kind,
            subject=f"Ticket {ticket.number}: {ticket.trouble_code or 'trouble reported'}"[:300],
            at=ticket.received_at,
            outcome=ticket.description[:2000] or None,
            job_id=ticket.job_id,
        )
