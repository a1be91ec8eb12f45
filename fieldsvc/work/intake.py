"""What whoever takes a call in should know before the ticket is made: is it known already, which fault is it part of,
whose ground is it, and what will be promised. Only looks; ``work.tickets`` takes in.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, and_, case, false, func, or_, select

from fieldsvc.base.db import db
from fieldsvc.geo import storms
from fieldsvc.people.models import Crew, Territory
from fieldsvc.work import change, incidents, jobs, merging, promises, tickets
from fieldsvc.work.models import Incident, Job, Ticket

TROUBLES = (
    "no_power",
    "part_power",
    "low_voltage",
    "flicker",
    "customer_equipment",
    "street_light",
    "meter_fault",
    "reconnection",
    "other",
)
"""Trouble codes offered to whoever takes a call in. Any other code is taken as well."""

HAZARDS = ("wire_down", "fire", "injury", "gas", "flood", "life_support")
"""Hazards offered likewise."""

NEAR_M = 150
"""What was reported within so many metres is shown as perhaps the same."""

_MOST = 6


@dataclass(frozen=True)
class Same:
    """An open ticket, or an open job without one, that may be about the same trouble; ``why``: customer, usage_point,
    phone or near."""

    ticket: Ticket | None
    job: Job | None
    crew: str | None
    why: str


@dataclass(frozen=True)
class Known:
    """What is known of a ticket that is being typed.

    ``place`` has the reason where there is no territory; ``here``: whether it may be taken in by this person. ``same``:
    what may be the same trouble, that of the caller first. ``faults``: open incidents that rules could put it together
    with, each with its leading job, the one it would be part of first. ``group``: what the rules would do with it, by
    their own judgement; None: it would be a fault of its own.
    """

    ticket: Ticket
    place: jobs.Place
    territory: Territory | None
    here: bool
    promises: tuple[promises.Promise, ...]
    same: list[Same]
    faults: list[tuple[Incident, Job | None]]
    group: storms.Group | None


def known(new: tickets.NewTicket, now: datetime, scope: Collection[str] | None) -> Known:
    """What is known of ``new`` at ``now``.

    :raises Invalid: unknown kind of job.
    :raises Conflict: a customer or usage point that is unknown or out of ``scope``.
    """
    ticket, wanted, place = tickets.drafted(new, now, scope)
    here = scope is None or place.territory_id in scope
    if not here:
        hidden = place.reason if place.territory_id is None and ticket.lon is None else _OUTSIDE
        place = replace(place, territory_id=None, reason=hidden)
    territory = db.session.get(Territory, place.territory_id) if place.territory_id else None
    faults, group = _faults(ticket, new.job_kind, now) if here else ([], None)
    clocks = promises.made_for(wanted.kind, place.site_class, ticket.received_at) if here and wanted.kind else ()
    return Known(ticket, place, territory, here, clocks, _same(ticket, scope), faults, group)


_OUTSIDE = "it lies outside of your territories"


def _faults(
    ticket: Ticket, kind: str | None, now: datetime
) -> tuple[list[tuple[Incident, Job | None]], storms.Group | None]:
    """The open faults around a ticket, and what the rules make of them and it."""
    storm = incidents.storm_rules(now)
    own = incidents.of_ticket(ticket, kind, storm)
    if not own.joinable:
        return [], None
    around = merging.open_around(own, storm)
    found = storms.groups([*around, merging.fault_of(own)], storm.limits)
    group = next((one for one in found if own.id in one.ids), None)
    together = set(group.ids) if group else set()
    nearest = sorted(around, key=lambda fault: (fault.id not in together, -fault.calls, fault.first, fault.id))
    shown = [fault.id for fault in nearest[:_MOST]]
    rows = db.session.execute(
        select(Incident, Job).outerjoin(Job, Job.id == Incident.lead_job_id).where(Incident.id.in_(shown))
    ).all()
    by_id = {incident.id: (incident, job) for incident, job in rows}
    return [by_id[ident] for ident in shown if ident in by_id], group


def _same(ticket: Ticket, scope: Collection[str] | None) -> list[Same]:
    """Open tickets and jobs of the customer, the usage point or the caller's phone, and tickets of the place."""
    whose = [
        ("usage_point", lambda model: model.usage_point_id == ticket.usage_point_id, ticket.usage_point_id),
        ("customer", lambda model: model.customer_id == ticket.customer_id, ticket.customer_id),
        ("near", lambda model: _near(model, ticket), ticket.lon),
    ]
    asked = [(why, condition) for why, condition, given in whose if given is not None]
    own = [condition(Ticket) for why, condition in asked if why != "near"]
    if ticket.caller_phone:
        own.append(Ticket.caller_phone == ticket.caller_phone)
    calls = own + [condition(Ticket) for why, condition in asked if why == "near"]
    if not calls:
        return []
    first = case((or_(false(), *own), 0), else_=1)
    open_calls = (
        select(Ticket, Job, Crew.code)
        .join(Incident, Incident.id == Ticket.incident_id)
        .outerjoin(Job, Job.id == Ticket.job_id)
        .outerjoin(Crew, Crew.id == Job.crew_id)
        .where(Incident.state == "open", or_(Job.id.is_(None), Job.status.not_in(change.ENDED)), or_(*calls))
        .order_by(first, Ticket.received_at.desc(), Ticket.id.desc())
    )
    rows = db.session.execute(_visible(open_calls, Ticket.territory_id, scope).limit(_MOST)).all()
    found = [Same(call, job, crew, _why(call, ticket)) for call, job, crew in rows]
    work = [condition(Job) for why, condition in asked if why != "near"]
    if work:
        told = {one.job.id for one in found if one.job is not None}
        open_jobs = (
            select(Job, Crew.code)
            .outerjoin(Crew, Crew.id == Job.crew_id)
            .where(Job.status.not_in(change.ENDED), or_(*work), Job.id.not_in(sorted(told)))
            .order_by(Job.created_at.desc(), Job.id.desc())
        )
        planned = db.session.execute(_visible(open_jobs, Job.territory_id, scope).limit(_MOST)).all()
        found += [Same(None, job, crew, _why(job, ticket)) for job, crew in planned]
    return found


def _visible(query: Any, territory_id: Any, scope: Collection[str] | None) -> Any:
    return query if scope is None else query.where(territory_id.in_(sorted(scope)))


def _near(model: type[Ticket] | type[Job], ticket: Ticket) -> ColumnElement[bool]:
    west, south, east, north = storms.box(ticket.lon or 0.0, ticket.lat or 0.0, NEAR_M)
    return and_(model.lat.between(south, north), model.lon.between(west, east))


def _why(found: Ticket | Job, ticket: Ticket) -> str:
    if ticket.usage_point_id is not None and found.usage_point_id == ticket.usage_point_id:
        return "usage_point"
    if ticket.customer_id is not None and found.customer_id == ticket.customer_id:
        return "customer"
    if isinstance(found, Ticket) and ticket.caller_phone and found.caller_phone == ticket.caller_phone:
        return "phone"
    return "near"


@dataclass(frozen=True)
class Surge:
    """The calls of the last ``minutes``, and of how many faults and customers; ``on``: the rules call it a storm."""

    on: bool
    minutes: int
    calls: int
    incidents: int
    customers: int


def surge(now: datetime, scope: Collection[str] | None) -> Surge:
    """The calls of the last minutes in ``scope``, by the rule in force; without one there is never a storm."""
    rule = incidents.storm_rules(now).surge
    minutes, least = rule or (30, None)
    who = func.coalesce(Ticket.customer_id, Ticket.caller_phone, Ticket.id)
    counted = select(func.count(), func.count(Ticket.incident_id.distinct()), func.count(who.distinct()))
    lately = counted.where(Ticket.received_at > now - timedelta(minutes=minutes))
    calls, faults, customers = db.session.execute(_visible(lately, Ticket.territory_id, scope)).one()
    return Surge(least is not None and calls >= least, minutes, calls, faults, customers)
