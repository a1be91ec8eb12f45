"""Many calls, one fault: incidents merge, by a rule or by hand, and come apart again.

One job leads; it gets the hazards, the earliest call and the number of customers of all. The other jobs that nobody
has set out for are cancelled, and come back when the merge is undone. Everybody who merges holds the ground first
(``incidents.hold_ground``), then the jobs, then the incidents, each in the order of their ids: two calls about one
fault at once find each other, and nobody waits in a ring.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, or_, select, update

from fieldsvc import kinds
from fieldsvc.base.clock import new_id, parse_time
from fieldsvc.base.db import db
from fieldsvc.base.errors import Conflict
from fieldsvc.base.plain import plain
from fieldsvc.geo import storms
from fieldsvc.history.record import Source, record
from fieldsvc.work import change, incidents, jobs
from fieldsvc.work.models import Incident, IncidentMerge, Job, Ticket

BY_HAND = "by_hand"
REASONS = (*storms.REASONS, BY_HAND)
"""The codes of :attr:`Reason.code`."""


@dataclass(frozen=True)
class Reason:
    """Why incidents are taken for one fault: a code, words with numbers, the rule; ``automatic``: nobody was asked."""

    code: str
    words: str
    rule: str | None
    automatic: bool


def arrived(source: Source, incident: Incident, storm: incidents.StormRules) -> bool:
    """An incident has just been opened by a ticket: whether it has been merged with what was there.

    Below the threshold of merging it is proposed. The ticket and the incident are stored; its job is not made yet.
    """
    if not incident.joinable:
        return False
    incidents.hold_ground([incident.territory_id])
    near = open_around(incident, storm)
    group = next((one for one in storms.groups(near, storm.limits) if incident.id in one.ids), None)
    if group is None:
        return False
    return _act(source, group)


def look_through(source: Source, territory_id: str | None) -> int:
    """Merge or propose what came in apart in a territory and belongs together; answers how many groups there were.

    Call inside a transaction.
    """
    storm = incidents.storm_rules(source.recorded_at)
    incidents.hold_ground([territory_id])
    since = source.recorded_at - 2 * timedelta(minutes=storm.longest_minutes)
    groups = storms.groups(_faults(_open(since).where(_in(territory_id))), storm.limits)
    for group in groups:
        _act(source, group)
    return len(groups)


def unsettled(now: datetime) -> list[str | None]:
    """The territories with at least two open incidents that may belong together, called about lately."""
    storm = incidents.storm_rules(now)
    since = now - 2 * timedelta(minutes=storm.longest_minutes)
    found: dict[str | None, list[storms.Fault]] = {}
    for incident in db.session.scalars(_open(since).order_by(Incident.id)):
        found.setdefault(incident.territory_id, []).append(fault_of(incident))
    proposed = {
        (row.into_id, *row.from_ids)
        for row in db.session.scalars(select(IncidentMerge).where(IncidentMerge.state == "proposed"))
    }
    return [
        territory_id
        for territory_id, faults in found.items()
        if any(group.merge or group.ids not in proposed for group in storms.groups(faults, storm.limits))
    ]


def _act(source: Source, group: storms.Group) -> bool:
    reason = Reason(group.reason, group.words, group.source, automatic=True)
    if group.merge:
        merge(source, group.ids[0], group.ids[1:], reason)
    else:
        _propose(source, group.ids[0], group.ids[1:], reason)
    return group.merge


def fault_of(incident: Incident) -> storms.Fault:
    return storms.Fault(
        id=incident.id,
        kind=incident.kind or "",
        areas=frozenset(incident.areas),
        feeder=incident.feeder,
        lon=incident.lon,
        lat=incident.lat,
        first=incident.opened_at,
        last=incident.last_call_at or incident.opened_at,
        calls=incident.calls,
    )


def _open(since: datetime) -> Select[Incident]:
    """Open incidents that rules may merge and that are still to be worked off, called about since then."""
    alive = or_(Incident.lead_job_id.is_(None), Job.status.not_in(change.ENDED))
    return (
        select(Incident)
        .outerjoin(Job, Job.id == Incident.lead_job_id)
        .where(Incident.state == "open", Incident.joinable, Incident.last_call_at >= since, alive)
        .execution_options(populate_existing=True)
    )


def _in(territory_id: str | None) -> ColumnElement[bool]:
    return Incident.territory_id.is_(None) if territory_id is None else Incident.territory_id == territory_id


def _faults(query: Select[Incident]) -> list[storms.Fault]:
    return [fault_of(incident) for incident in db.session.scalars(query)]


def open_around(incident: Incident, storm: incidents.StormRules) -> list[storms.Fault]:
    """The incident and those that any rule could put together with it."""
    span = timedelta(minutes=storm.longest_minutes)
    close = [Incident.id == incident.id]
    if incident.transformer_area is not None:
        close.append(Incident.transformer_area == incident.transformer_area)
    if incident.feeder is not None:
        close.append(Incident.feeder == incident.feeder)
    near = storm.limits.get("near_in_space_and_time")
    if near is not None and incident.lon is not None and incident.lat is not None:
        west, south, east, north = storms.box(incident.lon, incident.lat, near.metres)
        close.append(and_(Incident.lat.between(south, north), Incident.lon.between(west, east)))
    lately = _open(incident.opened_at - span).where(Incident.opened_at <= incident.opened_at + span)
    return _faults(lately.where(_in(incident.territory_id), Incident.kind == incident.kind, or_(*close)))


@dataclass(frozen=True)
class _Held:
    """Incidents and jobs, their rows held."""

    incidents: dict[str, Incident]
    jobs: list[Job]


def _hold(incident_ids: Collection[str], wanted: ColumnElement[bool]) -> _Held:
    """The wanted jobs and the incidents, in this order: whoever closes jobs and incidents does the same."""
    held = db.session.scalars(
        select(Job).where(wanted).order_by(Job.id).with_for_update().execution_options(populate_existing=True)
    ).all()
    rows = db.session.scalars(
        select(Incident)
        .where(Incident.id.in_(sorted(incident_ids)))
        .order_by(Incident.id)
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    return _Held({incident.id: incident for incident in rows}, list(held))


def merge(
    source: Source, into_id: str, from_ids: Sequence[str], reason: Reason, row: IncidentMerge | None = None
) -> IncidentMerge:
    """Merge incidents into one; the ground is held.

    :param row: the proposal that is carried out; without one a new row is made.
    :raises Conflict: ``state-not-allowed``: one is not open; their jobs are of different kinds.
    """
    db.session.flush()
    theirs = Job.incident_id.in_([into_id, *from_ids]) & Job.assists_job_id.is_(None)
    held = _hold([into_id, *from_ids], theirs & Job.status.not_in(change.ENDED))
    _check(held)
    root, others = held.incidents[into_id], [held.incidents[ident] for ident in from_ids]
    lead = min(held.jobs, key=_precedence, default=None)
    before: dict[str, Any] = {
        "root": {"lead_job_id": root.lead_job_id},
        "tickets": _tickets_of(from_ids),
        "jobs": [],
    }
    named = {incident.id: list(incident.hazards) for incident in (root, *others)}
    moved = {"incident_id": root.id} | ({"job_id": lead.id} if lead else {})
    db.session.execute(update(Ticket).where(Ticket.incident_id.in_(list(from_ids))).values(**moved))
    _add_up(root, others, list(before["tickets"]))
    for other in others:
        other.state, other.merged_into_id = "merged", root.id
    if lead is not None:
        incidents.repoint(root.id, root.lead_job_id, lead.id)
        root.lead_job_id = lead.id
        brought = [hazard for ident, hazards in named.items() if ident != lead.incident_id for hazard in hazards]
        before["lead"] = _brief(source, lead, root, brought, reason.words)
        for job in held.jobs:
            if job.id != lead.id:
                before["jobs"] += _stand_down(source, job, lead, root, reason)
    made = _write(source, root, from_ids, reason, row)
    made.before = before
    if any(other.lead_job_id is not None for other in others):  # what has just come in was never proposed
        _overtake(source, made)
    _tell(source, "incident.merged", made)
    db.session.flush()
    return made


def _check(held: _Held) -> None:
    for incident in held.incidents.values():
        if incident.state != "open":
            raise Conflict(
                f"incident {incident.id} is {incident.state}", "state-not-allowed", status_now=incident.state
            )
    wanted = {incident.kind for incident in held.incidents.values() if incident.kind}
    wanted |= {job.kind for job in held.jobs}
    if len(wanted) > 1:
        raise Conflict(f"jobs of different kinds do not merge: {', '.join(sorted(wanted))}")


def _precedence(job: Job) -> tuple[int, datetime, str]:
    """Which of several jobs leads: the one under way, else one that a crew has, else the oldest."""
    under_way = job.crew_id is not None and job.status not in change.NOT_BEGUN
    rank = 0 if job.status in change.UNDER_WAY else 1 if under_way else 2 if job.crew_id is not None else 3
    return rank, job.reported_at or job.created_at, job.id


def _tickets_of(incident_ids: Sequence[str]) -> dict[str, list[str | None]]:
    rows = db.session.execute(
        select(Ticket.id, Ticket.incident_id, Ticket.job_id).where(Ticket.incident_id.in_(list(incident_ids)))
    )
    return {ident: [incident_id, job_id] for ident, incident_id, job_id in rows}


def _add_up(root: Incident, others: Sequence[Incident], ticket_ids: Sequence[str]) -> None:
    """What ``root`` says of its calls now that the tickets of ``others`` are its too."""
    every = (root, *others)
    root.last_call_at = max(one.last_call_at or one.opened_at for one in every)
    root.opened_at = min(one.opened_at for one in every)
    root.calls += len(ticket_ids)
    root.hazards = list(dict.fromkeys(hazard for one in every for hazard in one.hazards))
    root.areas = sorted({area for one in every for area in one.areas})
    if len(ticket_ids) == 1:  # the common case in a storm, without counting all of them again
        caller = db.session.get_one(Ticket, ticket_ids[0])
        root.customers += not incidents.called_before(caller, root.id)
    else:
        root.customers = incidents.count_customers(root.id)


def _brief(source: Source, lead: Job, root: Incident, brought: Sequence[str], words: str) -> dict[str, Any]:
    """Let the leading job know what is known of the fault and the hazards ``brought`` by those that join; answers what
    undoing has to bring back. A hazard that a dispatcher has taken away comes back only when somebody names it anew."""
    before = {
        "id": lead.id,
        "incident_id": lead.incident_id,
        "priority": lead.priority,
        "hazards": [hazard for hazard in dict.fromkeys(brought) if hazard not in lead.hazards],
        "reported_at": plain(lead.reported_at),
        "customers": lead.customers_affected,
    }
    fields: dict[str, Any] = {}
    if before["hazards"]:
        fields = {"hazards": [*lead.hazards, *before["hazards"]], "priority": jobs.HAZARD_PRIORITY}
    if lead.incident_id != root.id:
        fields["incident_id"] = root.id
    if _worth_telling(lead.customers_affected, root.customers):
        fields["customers_affected"] = root.customers
    if lead.reported_at is not None and root.opened_at < lead.reported_at:
        fields |= change.reported(source, lead, root.opened_at)
    if fields:
        change.apply(source, lead, "job.leads", fields, note=words)
    return before


def _worth_telling(told: int | None, customers: int) -> bool:
    """A job is changed for every further customer at first, later for every tenth part more: each change is a revision
    that goes to the crew's devices. :func:`settle` brings the rest when the calls have ceased."""
    return told is None or customers >= told + max(1, told // 10)


def _stand_down(source: Source, job: Job, lead: Job, root: Incident, reason: Reason) -> list[dict[str, Any]]:
    """A job that does not lead is cancelled unless a crew is on the way or there. Answers what it was, with assists."""
    if job.status not in change.NOT_BEGUN:
        was = _as_it_was(job)
        change.apply(source, job, "job.joined", {"incident_id": root.id}, note=f"with {lead.number}: {reason.words}")
        return [was]
    was_all = [_as_it_was(one) for one in (job, *change.assists(job))]
    change.cancel(source, job, f"merged into {lead.number}: {reason.words}")
    return was_all


def _as_it_was(job: Job) -> dict[str, Any]:
    running = [clock.kind for clock in job.clocks if clock.verdict == "running"]
    return {"id": job.id, "status": job.status, "incident_id": job.incident_id, "clocks": running}


def _write(
    source: Source, root: Incident, from_ids: Sequence[str], reason: Reason, row: IncidentMerge | None
) -> IncidentMerge:
    if row is None:
        row = _new_row(source, "merged", root, from_ids, reason)
        db.session.add(row)
    row.state, row.into_id, row.from_ids = "merged", root.id, list(from_ids)
    row.decided_at, row.decided_by, row.decided_by_name = source.recorded_at, source.id, source.name
    return row


def _new_row(source: Source, state: str, root: Incident, from_ids: Sequence[str], reason: Reason) -> IncidentMerge:
    return IncidentMerge(
        id=new_id(),
        state=state,
        into_id=root.id,
        from_ids=list(from_ids),
        territory_id=root.territory_id,
        reason=reason.code,
        words=reason.words[:300],
        rule=reason.rule,
        automatic=reason.automatic,
        created_at=source.recorded_at,
        created_by=source.id,
        created_by_name=source.name,
    )


def _tell(source: Source, action: str, row: IncidentMerge) -> None:
    after = {name: plain(getattr(row, name)) for name in ("state", "from_ids", "reason", "words", "rule", "automatic")}
    after["merge_id"] = row.id
    record(source, action, "incident", row.into_id, after=after, territory_id=row.territory_id)


def _proposals(incident_ids: Collection[str], territory_id: str | None) -> list[IncidentMerge]:
    """The open proposals of a territory that name any of the incidents, the oldest first."""
    here = IncidentMerge.territory_id.is_(None) if territory_id is None else IncidentMerge.territory_id == territory_id
    rows = db.session.scalars(
        select(IncidentMerge)
        .where(IncidentMerge.state == "proposed", here)
        .order_by(IncidentMerge.created_at, IncidentMerge.id)
    )
    return [row for row in rows if not {row.into_id, *row.from_ids}.isdisjoint(incident_ids)]


def _propose(source: Source, into_id: str, from_ids: Sequence[str], reason: Reason) -> None:
    """Show a group to a dispatcher; one that grows stays one proposal."""
    root = db.session.get_one(Incident, into_id)
    there = _proposals([into_id, *from_ids], root.territory_id)
    for row in there[1:]:
        _end_proposal(source, row, "overtaken")
    if not there:
        row = _new_row(source, "proposed", root, from_ids, reason)
        db.session.add(row)
        _tell(source, "incident.merge_proposed", row)
        return
    row = there[0]
    row.into_id, row.from_ids = into_id, list(from_ids)
    row.reason, row.words, row.rule = reason.code, reason.words[:300], reason.rule


def _overtake(source: Source, made: IncidentMerge) -> None:
    """Proposals that name what has just been merged: what is left of them names the incident it went into."""
    gone = set(made.from_ids)
    for row in _proposals([made.into_id, *made.from_ids], made.territory_id):
        if row.id == made.id:
            continue
        members = dict.fromkeys(made.into_id if ident in gone else ident for ident in (row.into_id, *row.from_ids))
        row.into_id, *rest = members
        row.from_ids = rest or row.from_ids
        if not rest:
            _end_proposal(source, row, "overtaken")


def _end_proposal(source: Source, row: IncidentMerge, state: str) -> None:
    row.state = state
    row.decided_at, row.decided_by, row.decided_by_name = source.recorded_at, source.id, source.name


def by_hand(source: Source, into_id: str, from_ids: Sequence[str], scope: Collection[str] | None) -> IncidentMerge:
    """Merge because a dispatcher says so; no rule is asked.

    :raises NotFound: one of the incidents is not there for the caller.
    :raises Conflict: as :func:`merge`; an incident with itself.
    """
    if into_id in from_ids or len(set(from_ids)) < len(from_ids):
        raise Conflict("incident_ids: an incident is named twice")
    found = [incidents.find(ident, scope) for ident in (into_id, *from_ids)]
    incidents.hold_ground([incident.territory_id for incident in found])
    reason = Reason(BY_HAND, f"put together by {source.name}", None, automatic=False)
    return merge(source, into_id, from_ids, reason)


def _decided(merge_id: str, scope: Collection[str] | None, state: str) -> IncidentMerge:
    """A merge in ``state``, all its incidents in ``scope`` and their ground held."""
    row = incidents.find_merge(merge_id, scope)
    named = [incidents.find(ident, scope) for ident in (row.into_id, *row.from_ids)]
    incidents.hold_ground([incident.territory_id for incident in named])
    db.session.refresh(row, with_for_update=True)
    if row.state != state:
        raise Conflict(f"the merge is {row.state}", "state-not-allowed", status_now=row.state)
    return row


def accept(source: Source, merge_id: str, scope: Collection[str] | None) -> IncidentMerge:
    """Carry a proposal out, with those of its incidents that are open still.

    :raises Conflict: ``state-not-allowed``: it is decided already, or fewer than two incidents are open.
    """
    row = _decided(merge_id, scope, "proposed")
    query = select(Incident.id).where(Incident.id.in_([row.into_id, *row.from_ids]), Incident.state == "open")
    is_open = set(db.session.scalars(query))
    members = [ident for ident in (row.into_id, *row.from_ids) if ident in is_open]
    if len(members) < 2:
        raise Conflict("fewer than two of its incidents are open", "state-not-allowed")
    reason = Reason(row.reason, row.words, row.rule, automatic=False)
    row.automatic = False
    return merge(source, members[0], members[1:], reason, row)


def decline(source: Source, merge_id: str, scope: Collection[str] | None) -> IncidentMerge:
    """These are different faults: no rule puts them together any more; later calls go to the first of them.

    :raises Conflict: ``state-not-allowed``: it is decided already.
    """
    row = _decided(merge_id, scope, "proposed")
    _part(row)
    _end_proposal(source, row, "declined")
    _tell(source, "incident.merge_declined", row)
    db.session.flush()
    return row


def _part(row: IncidentMerge) -> None:
    parted = update(Incident).where(Incident.id.in_(row.from_ids)).values(joinable=False)
    db.session.execute(parted)


def undo(source: Source, merge_id: str, scope: Collection[str] | None) -> IncidentMerge:
    """Take apart what was merged: tickets, jobs and promises are again as they were, as far as nobody has worked since.

    A job that was cancelled waits for a crew again; a call that never had a job of its own gets one, with the time of
    the call. Possible also when the fault is over: who still has no power has another one.

    :raises Conflict: ``state-not-allowed``: it is not merged, or a later merge has to be undone before.
    """
    row = _decided(merge_id, scope, "merged")
    before = row.before or {}
    named = [one["id"] for one in before["jobs"]]
    lead_ids = [ident for ident in (before.get("lead", {}).get("id"), before["root"]["lead_job_id"]) if ident]
    held = _hold([row.into_id, *row.from_ids], Job.id.in_(sorted({*named, *lead_ids})))
    root = held.incidents[row.into_id]
    if root.state == "merged":
        raise Conflict("a later merge has to be undone first", "state-not-allowed", merged_into=root.merged_into_id)
    by_id = {job.id: job for job in held.jobs}
    _give_back_tickets(before["tickets"], root.id)
    for ident in row.from_ids:
        incident = held.incidents[ident]
        incident.state, incident.merged_into_id, incident.closed_at = "open", None, None
    _part(row)
    note = f"no longer merged: {row.words}"
    for was in before["jobs"]:
        _bring_back(source, by_id.get(was["id"]), was, note)
    incidents.count_again(root)
    if "lead" in before:
        _restore_lead(source, root, by_id, before, note)
    for ident in row.from_ids:
        _send_out(source, held.incidents[ident])
    row.state = "undone"
    row.undone_at, row.undone_by, row.undone_by_name = source.recorded_at, source.id, source.name
    _tell(source, "incident.merge_undone", row)
    db.session.flush()
    return row


def _give_back_tickets(was: Mapping[str, list[str | None]], root_id: str) -> None:
    places: dict[tuple[str | None, ...], list[str]] = {}
    for ticket_id, place in was.items():
        places.setdefault(tuple(place), []).append(ticket_id)
    for (incident_id, job_id), ticket_ids in places.items():
        db.session.execute(
            update(Ticket)
            .where(Ticket.id.in_(ticket_ids), Ticket.incident_id == root_id)
            .values(incident_id=incident_id, job_id=job_id)
        )


def _bring_back(source: Source, job: Job | None, was: Mapping[str, Any], note: str) -> None:
    if job is None:
        return
    if job.status == "cancelled":
        status = was["status"] if was["status"] in (*change.WAITING, "not_done") else "waiting_to_be_scheduled"
        change.revive(source, job, status, {}, was["clocks"], note=note)
    elif job.incident_id != was["incident_id"]:
        change.apply(source, job, "job.parted", {"incident_id": was["incident_id"]}, note=note)


def _restore_lead(
    source: Source, root: Incident, by_id: Mapping[str, Job], before: Mapping[str, Any], note: str
) -> None:
    """The leading job without what the merge brought it, and the incident with the job that led it before."""
    was = before["lead"]
    lead = by_id[was["id"]]
    led = before["root"]["lead_job_id"]
    if was["incident_id"] != root.id:
        home = db.session.get_one(Incident, was["incident_id"])
        root.lead_job_id = led
        if led is not None:
            incidents.repoint(root.id, lead.id, led)
    else:
        home = root
    fields = {"incident_id": home.id} if lead.status in change.ENDED else _without(source, lead, home, was)
    if any(getattr(lead, name) != value for name, value in fields.items()):
        change.apply(source, lead, "job.parted", fields, note=note)
    former = by_id.get(led or "")
    if former is not None and former is not lead and former.status not in change.ENDED and root.calls > 1:
        _brief(source, former, root, root.hazards, note)


def _without(source: Source, lead: Job, home: Incident, was: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of the leading job as they are without the calls that have left."""
    brought = set(was["hazards"]) - set(home.hazards)
    hazards = [hazard for hazard in lead.hazards if hazard not in brought]
    fields: dict[str, Any] = {"hazards": hazards, "incident_id": home.id}
    if brought and not hazards:
        fields["priority"] = was["priority"]
    fields["customers_affected"] = home.customers if home.calls > 1 else _told_at_first(lead, home, was)
    if was["reported_at"] is not None and lead.reported_at is not None:
        at = min(parse_time(was["reported_at"]), home.opened_at)
        if at != lead.reported_at:
            fields |= change.reported(source, lead, at)
    return fields


def _told_at_first(lead: Job, home: Incident, was: Mapping[str, Any]) -> int | None:
    """What the job said of its customers before anything was merged into its incident: merges are undone in any order,
    and what one found there may be what another had brought."""
    merged = select(IncidentMerge.before).where(IncidentMerge.into_id == home.id, IncidentMerge.undone_at.is_not(None))
    for before in db.session.scalars(merged.order_by(IncidentMerge.decided_at, IncidentMerge.id).limit(50)):
        if before and before.get("lead", {}).get("id") == lead.id:
            return before["lead"]["customers"]  # type: ignore[no-any-return]
    return was["customers"]  # type: ignore[no-any-return]


def _send_out(source: Source, incident: Incident) -> None:
    """A job for an incident that had none because its ticket joined another one as it came in."""
    if incident.kind is None or incident.lead_job_id is not None:
        return
    first = select(Ticket).where(Ticket.incident_id == incident.id).order_by(Ticket.received_at, Ticket.id).limit(1)
    ticket = db.session.scalar(first)
    if ticket is None:
        return
    wanted = jobs.with_customer(job_for(ticket, incident))
    job = jobs.store(source, wanted, jobs.placed(wanted, source.recorded_at))
    incident.lead_job_id = ticket.job_id = job.id


def job_for(ticket: Ticket, incident: Incident) -> jobs.NewJob:
    """What goes out for a ticket, whether at once or because it no longer is part of another fault."""
    kind = kinds.get(incident.kind or "")
    return jobs.NewJob(
        kind=kind.name,
        title=f"{kind.title}: {ticket.trouble_code.replace('_', ' ')}"[:200] if ticket.trouble_code else None,
        description=ticket.description,
        hazards=ticket.hazards,
        customer_id=ticket.customer_id,
        usage_point_id=ticket.usage_point_id,
        lon=ticket.lon,
        lat=ticket.lat,
        address=ticket.address,
        reported_at=ticket.received_at,
        contact_phone=ticket.caller_phone,
        incident_id=incident.id,
    )


def settle(now: datetime) -> int:
    """Let leading jobs know the exact number of customers once the calls have ceased; answers how many were told.

    Call inside a transaction.
    """
    quiet = now - timedelta(minutes=1)
    behind = db.session.execute(
        select(Job, Incident.customers)
        .join(Incident, Incident.lead_job_id == Job.id)
        .where(Incident.state == "open", Incident.last_call_at <= quiet, Incident.last_call_at > quiet - _LATELY)
        .where(Incident.calls > 1, Job.status.not_in(change.ENDED), Job.customers_affected != Incident.customers)
        .order_by(Job.id)
        .limit(200)
        .with_for_update(of=Job, skip_locked=True)
    ).all()
    source = Source("system", now, id="system", name="fieldsvc")
    for job, customers in behind:
        change.apply(source, job, "job.leads", {"customers_affected": customers})
    return len(behind)


_LATELY = timedelta(days=1)
