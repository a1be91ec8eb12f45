"""Incidents: the faults behind the tickets. Opened here, counted, listed; who called is told when one is over.

How several become one stands in ``work.merging``.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Select, func, select, update
from sqlalchemy.orm import aliased

from fieldsvc import rules
from fieldsvc.base.clock import new_id
from fieldsvc.base.db import db
from fieldsvc.base.errors import NotFound
from fieldsvc.base.plain import plain
from fieldsvc.geo.storms import REASONS, Limit
from fieldsvc.history.record import Source, record
from fieldsvc.people.models import Territory
from fieldsvc.records import contacts
from fieldsvc.records.models import UsagePoint
from fieldsvc.work import change
from fieldsvc.work.models import Incident, IncidentMerge, Job, Ticket

STATES = ("open", "merged", "closed")
MERGE_STATES = ("proposed", "merged", "declined", "undone", "overtaken")
MOST_SHOWN = 200
"""Tickets and jobs on the page of one incident; the lists have the rest."""

_TOLD_AT_ONCE = 100


@dataclass(frozen=True)
class StormRules:
    """What the rule pack says on a date: limits by reason, kinds of job that merge, trouble codes that never do."""

    limits: dict[str, Limit]
    kinds: frozenset[str]
    never: frozenset[str]
    surge: tuple[int, int] | None = None
    """Minutes, and how many calls within them make a storm."""

    @property
    def longest_minutes(self) -> int:
        """The longest span of any limit; 0 without one."""
        return max((limit.minutes for limit in self.limits.values()), default=0)


def storm_rules(now: datetime) -> StormRules:
    """The rules for calls that come in at ``now``."""
    found = rules.load().storms(now.date())
    limits = {
        reason: Limit(**answer.value, source=f"{answer.source} ({answer.edition})"[:300])
        for reason, answer in found.items()
        if reason in REASONS
    }
    listed = {name: frozenset(found[name].value) if name in found else frozenset() for name in ("kinds", "never")}
    surge = found["surge"].value if "surge" in found else None
    return StormRules(
        limits, listed["kinds"], listed["never"], (surge["minutes"], surge["calls"]) if surge is not None else None
    )


def of_ticket(ticket: Ticket, kind: str | None, storm: StormRules, *, apart: bool = False) -> Incident:
    """The incident of a ticket that comes in, as if it were the only one; neither of them is stored.

    :param apart: whoever takes it in says that it is another fault than any that is known.
    """
    area, feeder = _network_place(ticket.usage_point_id, ticket.customer_id)
    return Incident(
        id=new_id(),
        state="open",
        territory_id=ticket.territory_id,
        kind=kind,
        transformer_area=area,
        areas=[area] if area is not None else [],
        feeder=feeder,
        lon=ticket.lon,
        lat=ticket.lat,
        hazards=list(ticket.hazards),
        calls=1,
        customers=1,
        joinable=kind in storm.kinds and ticket.trouble_code not in storm.never and not apart,
        opened_at=ticket.received_at,
        last_call_at=ticket.received_at,
    )


def _network_place(usage_point_id: str | None, customer_id: str | None) -> tuple[str | None, str | None]:
    """Transformer area and feeder of a usage point, else of all usage points of a customer if they have the same."""
    if usage_point_id is None and customer_id is None:
        return None, None
    here = UsagePoint.id == usage_point_id if usage_point_id is not None else UsagePoint.customer_id == customer_id
    areas = db.session.execute(select(UsagePoint.transformer_area, UsagePoint.feeder).where(here).distinct().limit(2))
    found = [(area, feeder) for area, feeder in areas]
    return found[0] if len(found) == 1 else (None, None)


def hold_ground(territory_ids: Collection[str | None]) -> None:
    """Let nobody else merge in these territories until the transaction ends.

    Two calls about one fault at once: the second one waits here, then sees the first. Rows that only refer to the
    territory do not wait.
    """
    wanted = sorted(territory_id for territory_id in set(territory_ids) if territory_id is not None)
    if wanted:
        held = select(Territory.id).where(Territory.id.in_(wanted)).order_by(Territory.id)
        db.session.execute(held.with_for_update(key_share=True)).all()


def count_again(incident: Incident) -> None:
    """Calls, customers, hazards and times of an incident, from the tickets it has now."""
    mine = Ticket.incident_id == incident.id
    calls, first, last = db.session.execute(
        select(func.count(), func.min(Ticket.received_at), func.max(Ticket.received_at)).where(mine)
    ).one()
    incident.calls, incident.customers = calls, count_customers(incident.id)
    if calls:
        incident.opened_at, incident.last_call_at = first, last
    named = db.session.scalars(select(Ticket.hazards).where(mine).order_by(Ticket.received_at, Ticket.id))
    incident.hazards = list(dict.fromkeys(hazard for hazards in named for hazard in hazards))


def count_customers(incident_id: str) -> int:
    """How many called about an incident: customers, and callers without an account by their phone, each once."""
    who = func.coalesce(Ticket.customer_id, Ticket.caller_phone, Ticket.id)
    return db.session.scalar(select(func.count(who.distinct())).where(Ticket.incident_id == incident_id)) or 0


def called_before(ticket: Ticket, incident_id: str) -> bool:
    """Whether the caller of ``ticket`` has another ticket with the incident."""
    if ticket.customer_id is not None:
        same = Ticket.customer_id == ticket.customer_id
    elif ticket.caller_phone is not None:
        same = Ticket.customer_id.is_(None) & (Ticket.caller_phone == ticket.caller_phone)
    else:
        return False
    others = select(Ticket.id).where(Ticket.incident_id == incident_id, Ticket.id != ticket.id, same)
    return db.session.scalar(others.limit(1)) is not None


def tell_over(now: datetime) -> int:
    """Note everybody who called about a fault that is over as told, 100 incidents at most; answers how many customers.

    The customer of the leading job has heard it from its crew. Call inside a transaction.
    """
    other = aliased(Job)
    left = select(other.id).where(other.incident_id == Incident.id, other.status.not_in(change.ENDED)).exists()
    over = db.session.execute(
        select(Incident, Job)
        .join(Job, Job.id == Incident.lead_job_id)
        .where(Incident.state == "open", Incident.told_at.is_(None), Job.status.in_(("completed", "closed")), ~left)
        .order_by(Incident.id)
        .limit(_TOLD_AT_ONCE)
        .with_for_update(of=Incident, skip_locked=True)
    ).all()
    source = Source("system", now, id="system", name="fieldsvc")
    return sum(_tell(source, incident, job) for incident, job in over)


def _tell(source: Source, incident: Incident, job: Job) -> int:
    incident.told_at = source.recorded_at
    tickets = db.session.execute(
        select(Ticket.number, Ticket.customer_id)
        .where(Ticket.incident_id == incident.id)
        .order_by(Ticket.received_at, Ticket.id)
    ).all()
    if len(tickets) == 1:
        return 0
    numbers: dict[str, str] = {}
    for number, customer_id in tickets:
        if customer_id is not None and customer_id != job.customer_id:
            numbers.setdefault(customer_id, number)
    for customer_id, number in numbers.items():
        contacts.add(
            source,
            customer_id,
            channel="message",
            subject=f"Ticket {number}: the fault is over",
            at=source.recorded_at,
            outcome=f"job {job.number} is completed; {incident.customers} had called about this fault",
            job_id=job.id,
        )
    nameless = sum(1 for _, customer_id in tickets if customer_id is None)
    record(
        source,
        "incident.over",
        "incident",
        incident.id,
        after={"told": len(numbers), "calls_without_account": nameless},
        job_id=job.id,
        territory_id=incident.territory_id,
    )
    return len(numbers)


def close(incident_ids: Collection[str], now: datetime) -> None:
    """Close those incidents none of whose jobs is left to be done, in the order of their ids."""
    db.session.flush()
    left = select(Job.id).where(Job.incident_id == Incident.id, Job.status.not_in(change.ENDED)).exists()
    held = db.session.scalars(
        select(Incident)
        .where(Incident.id.in_(sorted(set(incident_ids))), Incident.state == "open", ~left)
        .order_by(Incident.id)
        .with_for_update()
    )
    for incident in held:
        incident.state, incident.closed_at = "closed", now


def incidents(
    scope: Collection[str] | None, states: Collection[str] = (), territory_ids: Collection[str] = ()
) -> Select[Incident]:
    """The incidents a reader may see, to be ordered and paged by the caller."""
    query = select(Incident)
    if scope is not None:
        query = query.where(Incident.territory_id.in_(sorted(scope)))
    if states:
        query = query.where(Incident.state.in_(sorted(states)))
    if territory_ids:
        query = query.where(Incident.territory_id.in_(sorted(territory_ids)))
    return query


def find(incident_id: str, scope: Collection[str] | None) -> Incident:
    """One incident.

    :raises NotFound: there is none, or it lies outside of the reader's territories.
    """
    found = db.session.get(Incident, incident_id)
    if found is None or (scope is not None and found.territory_id not in scope):
        raise NotFound("incident", incident_id)
    return found


def merges(
    scope: Collection[str] | None, states: Collection[str] = (), incident_id: str | None = None
) -> Select[IncidentMerge]:
    """The merges and proposals a reader may see; ``incident_id``: those into that incident."""
    query = select(IncidentMerge)
    if scope is not None:
        query = query.where(IncidentMerge.territory_id.in_(sorted(scope)))
    if states:
        query = query.where(IncidentMerge.state.in_(sorted(states)))
    if incident_id is not None:
        query = query.where(IncidentMerge.into_id == incident_id)
    return query


def find_merge(merge_id: str, scope: Collection[str] | None) -> IncidentMerge:
    """One merge or proposal; :raises NotFound: as :func:`find`."""
    found = db.session.get(IncidentMerge, merge_id)
    if found is None or (scope is not None and found.territory_id not in scope):
        raise NotFound("incident merge", merge_id)
    return found


def brought(merge_ids: Collection[str]) -> dict[str, list[str]]:
    """Merge → the numbers of the tickets it brought to the incident it was made into, in the order they were made."""
    rows = db.session.execute(
        select(IncidentMerge.id, IncidentMerge.before).where(IncidentMerge.id.in_(sorted(merge_ids)))
    ).all()
    tickets = {ident: list((before or {}).get("tickets", ())) for ident, before in rows}
    wanted = sorted({ticket_id for ids in tickets.values() for ticket_id in ids})
    numbers: dict[str, str] = {}
    for start in range(0, len(wanted), 500):
        chunk = Ticket.id.in_(wanted[start : start + 500])
        numbers |= {row.id: row.number for row in db.session.execute(select(Ticket.id, Ticket.number).where(chunk))}
    return {ident: [numbers[one] for one in sorted(ids) if one in numbers] for ident, ids in tickets.items()}


_FIELDS = (
    "id state territory_id kind transformer_area areas feeder lon lat hazards calls customers joinable "
    "lead_job_id merged_into_id opened_at last_call_at told_at closed_at"
).split()

_MERGE_FIELDS = (
    "id state into_id from_ids territory_id reason words rule automatic created_at created_by created_by_name "
    "decided_at decided_by decided_by_name undone_at undone_by undone_by_name"
).split()


def row(found: Incident) -> dict[str, Any]:
    """An incident as lists show it, JSON-ready."""
    return {name: plain(getattr(found, name)) for name in _FIELDS}


def merge_row(found: IncidentMerge) -> dict[str, Any]:
    """A merge or proposal, JSON-ready."""
    return {name: plain(getattr(found, name)) for name in _MERGE_FIELDS}


def page(found: Incident, scope: Collection[str] | None) -> dict[str, Any]:
    """An incident with those who called, the first of them first, its jobs, and what was merged or is proposed."""
    shown = row(found)
    calls = select(Ticket).where(Ticket.incident_id == found.id).order_by(Ticket.received_at, Ticket.id)
    shown["tickets"] = _called(db.session.scalars(_visible(calls, Ticket.territory_id, scope).limit(MOST_SHOWN)).all())
    jobs = select(Job).where(Job.incident_id == found.id).order_by(Job.created_at, Job.id)
    names = "id number kind status priority hazards crew_id customers_affected".split()
    shown["jobs"] = [
        {name: plain(getattr(job, name)) for name in names}
        for job in db.session.scalars(_visible(jobs, Job.territory_id, scope).limit(MOST_SHOWN))
    ]
    about = merges(scope, incident_id=found.id).order_by(IncidentMerge.created_at.desc(), IncidentMerge.id.desc())
    shown["merges"] = [merge_row(one) for one in db.session.scalars(about.limit(MOST_SHOWN))]
    return shown


def _visible(query: Select[Any], territory_id: Any, scope: Collection[str] | None) -> Select[Any]:
    return query if scope is None else query.where(territory_id.in_(sorted(scope)))


def _called(tickets: Sequence[Ticket]) -> list[dict[str, Any]]:
    names = "id number customer_id caller_name caller_phone trouble_code hazards job_id received_at".split()
    return [{name: plain(getattr(ticket, name)) for name in names} for ticket in tickets]


def repoint(incident_id: str, former_job_id: str | None, job_id: str) -> None:
    """Tickets of an incident that waited for one job wait for another."""
    if former_job_id != job_id:
        waiting = Ticket.job_id == former_job_id if former_job_id is not None else Ticket.job_id.is_(None)
        db.session.execute(update(Ticket).where(Ticket.incident_id == incident_id, waiting).values(job_id=job_id))
