"""Jobs: made, edited, assigned, unassigned and cancelled by the office.

A new job is worked out in :func:`drafted`, which touches no table, so that one job from a dispatcher and thousands from
a file are made by the same rules. What changes an existing job goes through ``work.change``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Select, insert, select
from sqlalchemy.exc import IntegrityError

from fieldsvc import kinds, rules
from fieldsvc.base.clock import new_id, parse_time
from fieldsvc.base.db import db
from fieldsvc.base.errors import Conflict, Forbidden, Invalid, NotFound
from fieldsvc.base.plain import plain
from fieldsvc.geo.territories import Located
from fieldsvc.history.models import HistoryEntry
from fieldsvc.history.record import Source, record
from fieldsvc.kinds.assist import KIND as ASSIST
from fieldsvc.kinds.base import Kind
from fieldsvc.people import territories
from fieldsvc.people.models import Crew, Territory
from fieldsvc.records.models import Customer, ServiceLocation, UsagePoint
from fieldsvc.work import change, documents, numbers, promises
from fieldsvc.work.models import CommitmentClock, Job

DEFAULT_PRIORITY = 5
HAZARD_PRIORITY = 1
"""Hazards go first, whatever the caller thought of the priority."""

Check = Callable[[int], None]
"""Raises ``precondition-failed`` unless the revision is the one the caller had in hand (its ``If-Match``)."""

EDITABLE = frozenset(
    "title description priority hazards access_note contact_phone tags service_minutes window_start window_end due_at "
    "lon lat address usage_point_id required_skills required_equipment load follows_job_id customers_affected".split()
)


@dataclass(frozen=True)
class NewJob:
    """What somebody asks for. ``None`` means: not said, the kind or the place decides."""

    kind: str
    title: str | None = None
    description: str = ""
    priority: int | None = None
    hazards: Sequence[str] = ()
    external_key: str | None = None
    customer_id: str | None = None
    usage_point_id: str | None = None
    lon: float | None = None
    lat: float | None = None
    address: str | None = None
    site_class: str | None = None
    service_minutes: int | None = None
    window_start: datetime | None = None
    window_end: datetime | None = None
    due_at: datetime | None = None
    reported_at: datetime | None = None
    access_note: str | None = None
    contact_phone: str | None = None
    tags: Sequence[str] = ()
    details: Mapping[str, Any] = field(default_factory=dict)
    incident_id: str | None = None
    required_skills: Sequence[str] = ()
    required_equipment: Sequence[str] = ()
    load: int = 0
    follows_job_id: str | None = None
    assists_job_id: str | None = None
    customers_affected: int | None = None


@dataclass(frozen=True)
class Place:
    """Where a job is: its point and address, the territory and why (``reason`` when there is none), the site class."""

    lon: float | None
    lat: float | None
    address: str | None
    territory_id: str | None
    reason: str | None
    site_class: str


@dataclass(frozen=True)
class Draft:
    """A job worked out but not stored: the columns of its row, its promises, and what history says of it."""

    row: dict[str, Any]
    clocks: tuple[promises.Promise, ...]

    def history(self) -> dict[str, Any]:
        """The members of the history entry's ``after``."""
        return {name: plain(self.row[name]) for name in _TOLD if self.row[name] not in (None, [], "", {}, 0)}


_TOLD = (
    "number external_key kind status priority title hazards lon lat address site_class territory_id territory_reason "
    "customer_id usage_point_id service_minutes window_start window_end due_at reported_at checklist checklist_version "
    "required_skills required_equipment load follows_job_id assists_job_id customers_affected"
).split()


def create(source: Source, new: NewJob, scope: Collection[str] | None = None, *, crews: int = 1) -> Job:
    """Make a job from ``new``; it waits to be scheduled.

    :param scope: the territories the caller may write in, ``None`` for all.
    :param crews: 2: it takes two crews at once; a second job is made for the one that assists.
    :raises Invalid: unknown kind; a window that ends before it begins.
    :raises Conflict: unknown customer, usage point or job that it follows; ``already-exists``: the external key is
        taken.
    :raises Forbidden: the place is not in the caller's territories.
    """
    new = with_customer(new, scope)
    place = placed(new, source.recorded_at)
    require_scope(place.territory_id, scope)
    if new.follows_job_id is not None:
        _followed(new.follows_job_id, scope)
    job = store(source, new, place)
    if crews > 1:
        store(source, _assist_of(job, new, source.recorded_at), place)
    return job


def _assist_of(lead: Job, new: NewJob, now: datetime) -> NewJob:
    """What the second crew of ``lead`` is sent for: the same place and time, the same skills."""
    skill = skill_for(known_kind(lead.kind), now)
    shared = {name: getattr(lead, name) for name in _SHARED}
    return NewJob(
        kind=ASSIST.name,
        title=f"{ASSIST.title}: {lead.number}",
        required_skills=sorted({skill, *new.required_skills}),
        assists_job_id=lead.id,
        customer_id=lead.customer_id,
        usage_point_id=lead.usage_point_id,
        **shared,
    )


_SHARED = "description priority hazards address site_class service_minutes window_start window_end due_at".split()
"""What the job of a second crew has from the job that it assists, also when that is edited."""


def _followed(job_id: str, scope: Collection[str] | None) -> Job:
    """The job that another one waits for; :raises Conflict: there is none for this caller."""
    found = db.session.get(Job, job_id)
    if found is None or (scope is not None and found.territory_id not in scope):
        raise Conflict("follows_job_id: there is no such job")
    return found


def _check_order(job: Job, follows_job_id: str, scope: Collection[str] | None) -> None:
    """:raises Conflict: the job would, by whatever detour, wait for itself."""
    before: Job | None = _followed(follows_job_id, scope)
    while before is not None:
        if before.id == job.id:
            raise Conflict(f"follows_job_id: job {job.number} would wait for itself")
        before = db.session.get(Job, before.follows_job_id) if before.follows_job_id else None


def store(source: Source, new: NewJob, place: Place) -> Job:
    """Store a job whose customer and place are known (:func:`with_customer`, :func:`placed`); see :func:`create`."""
    if new.external_key is not None:
        taken = db.session.execute(select(Job.id, Job.number).where(Job.external_key == new.external_key)).first()
        if taken is not None:
            raise Conflict(f"job {taken.number} has this external key", "already-exists", id=taken.id)
    draft = drafted(new, place, numbers.draw(Job.number, "J-")[0], source.recorded_at)
    job = Job(**draft.row)
    db.session.add(job)
    try:
        db.session.flush()
    except IntegrityError:
        raise Conflict("another request with this external key came first", "already-exists") from None
    if draft.clocks:
        db.session.execute(insert(CommitmentClock), [clock.row(job.id) for clock in draft.clocks])
    tell_made(source, "job.created", draft)
    return job


def tell_made(source: Source, action: str, draft: Draft) -> None:
    """The history entry of a new job."""
    row = draft.row
    record(
        source,
        action,
        "job",
        row["id"],
        after=draft.history(),
        job_id=row["id"],
        job_kind=row["kind"],
        customer_id=row["customer_id"],
        territory_id=row["territory_id"],
    )


def drafted(new: NewJob, place: Place, number: str, now: datetime) -> Draft:
    """Work out a job: defaults of its kind, checklist, promises. Touches no table.

    :raises Invalid: unknown kind, or a window that ends before it begins.
    """
    kind = known_kind(new.kind)
    check_window(new.window_start, new.window_end)
    clocks = promises.made_for(kind.name, place.site_class, new.reported_at or now)
    checklist, version = _checklist(kind.name, now)
    priority = new.priority if new.priority is not None else DEFAULT_PRIORITY
    row = {
        "id": new_id(),
        "number": number,
        "external_key": new.external_key,
        "kind": kind.name,
        "status": "waiting_to_be_scheduled",
        "priority": HAZARD_PRIORITY if new.hazards else priority,
        "title": new.title or kind.title,
        "description": new.description,
        "hazards": list(new.hazards),
        "access_note": new.access_note,
        "contact_phone": new.contact_phone,
        "notes": [],
        "tags": sorted(set(new.tags)),
        "lon": place.lon,
        "lat": place.lat,
        "address": place.address,
        "site_class": place.site_class,
        "territory_id": place.territory_id,
        "territory_reason": place.reason,
        "customer_id": new.customer_id,
        "usage_point_id": new.usage_point_id,
        "incident_id": new.incident_id,
        "assignment_rev": 0,
        "service_minutes": new.service_minutes or planned_minutes(kind, now),
        "window_start": new.window_start,
        "window_end": new.window_end,
        "due_at": new.due_at or (clocks[0].due_at if clocks else None),
        "reported_at": new.reported_at,
        "checklist": checklist,
        "checklist_version": version,
        "details": dict(new.details),
        "required_skills": sorted(set(new.required_skills)),
        "required_equipment": sorted(set(new.required_equipment)),
        "load": new.load,
        "follows_job_id": new.follows_job_id,
        "assists_job_id": new.assists_job_id,
        "customers_affected": new.customers_affected,
        "attention": [],
        "rev": 1,
        "field_revs": {},
        "created_at": now,
        "updated_at": now,
    }
    return Draft(row, clocks)


def known_kind(name: str) -> Kind:
    """The kind of that name; :raises Invalid: there is none."""
    try:
        return kinds.get(name)
    except LookupError:
        raise Invalid.field("kind", f"must be one of {', '.join(sorted(kinds.discover()))}") from None


def planned_minutes(kind: Kind, now: datetime) -> int:
    """Minutes on site to plan with: by the rule pack in force, else as the kind says."""
    try:
        return int(rules.load().service(kind.name, now.date()).value["minutes"])
    except rules.NoRule:
        return kind.service_minutes


def skill_for(kind: Kind, now: datetime) -> str:
    """The skill a crew needs for the kind: by the rule pack in force, else as the kind says."""
    try:
        return str(rules.load().service(kind.name, now.date()).value["skill"])
    except rules.NoRule:
        return kind.skill


def _checklist(kind: str, now: datetime) -> tuple[str | None, int | None]:
    try:
        value = rules.load().checklist(kind, now.date()).value
    except rules.NoRule:
        return None, None
    return value["name"], value["version"]


def check_window(start: datetime | None, end: datetime | None) -> None:
    """:raises Invalid: the window ends before (or when) it begins."""
    if start is not None and end is not None and end <= start:
        raise Invalid.field("window_end", "must be after window_start")


def with_customer(new: NewJob, scope: Collection[str] | None = None) -> NewJob:
    """``new`` with the customer of its usage point, and the place of either where none was said.

    :param scope: the territories the caller may see, ``None`` for all. A usage point or, where none is named, a
        customer outside of them is unknown: else a job at home would open the records of the neighbours.
    :raises Conflict: one of them is unknown, or the usage point is another customer's.
    """
    if new.usage_point_id is None and new.customer_id is None:
        return new
    customer_id, location_id = new.customer_id, None
    if new.usage_point_id is not None:
        usage_point = _usage_point(new.usage_point_id, scope)
        if customer_id not in (None, usage_point.customer_id):
            raise Conflict("usage_point_id: belongs to another customer")
        customer_id, location_id = usage_point.customer_id, usage_point.location_id
    customer = db.session.get(Customer, customer_id)
    if customer is None or (location_id is None and not _within(customer.location, scope)):
        raise Conflict("customer_id: there is no such customer")
    location = db.session.get_one(ServiceLocation, location_id) if location_id else customer.location
    return at_location(new, customer.id, location.lon, location.lat, location.address, location.site_class)


def _usage_point(usage_point_id: str, scope: Collection[str] | None) -> UsagePoint:
    found = db.session.get(UsagePoint, usage_point_id)
    if found is None or not _within(db.session.get_one(ServiceLocation, found.location_id), scope):
        raise Conflict("usage_point_id: there is no such usage point")
    return found


def _within(location: ServiceLocation, scope: Collection[str] | None) -> bool:
    return scope is None or location.territory_id in scope


def at_location(
    new: NewJob, customer_id: str | None, lon: float | None, lat: float | None, address: str | None, site_class: str
) -> NewJob:
    """``new`` for a customer at a known location: what was said of the place wins, the location fills the rest."""
    if new.lon is None or new.lat is None:
        new = replace(new, lon=lon, lat=lat)
    return replace(
        new, customer_id=customer_id, address=new.address or address or None, site_class=new.site_class or site_class
    )


def placed(new: NewJob, now: datetime) -> Place:
    """The place of ``new``, with the territory its point lies in."""
    if new.lon is None or new.lat is None:
        return place_of(new, None, {})
    located = territories.index(now).locate(new.lon, new.lat)
    found = db.session.get(Territory, located.territory_id) if located.territory_id else None
    return place_of(new, located, {found.id: found.site_class} if found else {})


def place_of(new: NewJob, located: Located | None, site_classes: Mapping[str, str]) -> Place:
    """The place of ``new`` once its point has been located; ``None``: there is no point.

    The territory says the site class where neither the caller nor the service location has one.
    """
    territory_id = located.territory_id if located else None
    reason = (located.reason or None) if located else "no coordinates were given"
    site_class = new.site_class or site_classes.get(territory_id or "", "urban")
    return Place(new.lon, new.lat, new.address, territory_id, reason[:200] if reason else None, site_class)


def require_scope(territory_id: str | None, scope: Collection[str] | None) -> None:
    """:raises Forbidden: the caller may not write there."""
    if scope is not None and territory_id not in scope:
        raise Forbidden("the place does not lie in one of your territories")


def hold(job_id: str, scope: Collection[str] | None, check: Check | None) -> Job:
    """The job, held for a change by somebody with ``scope``.

    :raises NotFound: there is none, or none the caller may see.
    :raises FieldsvcError: ``precondition-failed``: it has changed since the caller read it.
    """
    job = change.lock(job_id)
    if scope is not None and job.territory_id not in scope:
        raise NotFound("job", job_id)
    if check is not None:
        check(job.rev)
    return job


def edit(
    source: Source,
    job_id: str,
    wanted: Mapping[str, Any],
    *,
    check: Check | None,
    scope: Collection[str] | None = None,
) -> Job:
    """Change fields of a job; ``wanted`` holds members of :data:`EDITABLE`, ``lon`` and ``lat`` together.

    A new point finds its territory anew. Nothing happens when every member has its value already.

    :raises FieldsvcError: see :func:`hold`; ``state-not-allowed`` when the job has ended.
    :raises Invalid: a window that ends before it begins.
    :raises Conflict: a usage point that is unknown, or not in the caller's territories.
    :raises Forbidden: the new place is not in the caller's territories.
    """
    job = hold(job_id, scope, check)
    if job.status in change.ENDED:
        raise Conflict(
            f"job {job.number} is {job.status} and cannot be edited", "state-not-allowed", status_now=job.status
        )
    fields = dict(wanted)
    check_window(fields.get("window_start", job.window_start), fields.get("window_end", job.window_end))
    if fields.get("usage_point_id") not in (None, job.usage_point_id):
        fields["customer_id"] = _usage_point(fields["usage_point_id"], scope).customer_id
    if fields.get("follows_job_id") is not None:
        _check_order(job, fields["follows_job_id"], scope)
    for name in _SETS & fields.keys():
        fields[name] = sorted(set(fields[name]))
    if fields.get("hazards"):
        fields["priority"] = HAZARD_PRIORITY
    if "lon" in fields or "lat" in fields:
        fields |= _moved(job, fields, source.recorded_at)
        require_scope(fields["territory_id"], scope)
    if all(getattr(job, name) == value for name, value in fields.items()):
        return job
    change.apply(source, job, "job.edited", fields)
    _edit_assists(source, job, fields)
    if "usage_point_id" in fields and job.crew_id is not None:
        documents.hand_out(job)
    return job


_SETS = frozenset({"tags", "required_skills", "required_equipment"})
_PLACE = frozenset({"lon", "lat", "territory_id", "territory_reason", "customer_id", "usage_point_id"})


def _edit_assists(source: Source, job: Job, fields: Mapping[str, Any]) -> None:
    """A second crew goes to the same place at the same time, also after an edit."""
    shared = {name: value for name, value in fields.items() if name in _PLACE or name in _SHARED}
    if shared:
        for assist in change.assists(job):
            change.apply(source, assist, "job.edited", shared, note=f"as {job.number}")


def now_inside(found: Sequence[Job], now: datetime) -> dict[str, str]:
    """Job id -> the territory its point lies in by today's borders, for those of ``found`` that lie in one."""
    placed_ones = [(job.id, job.lon, job.lat) for job in found if job.lon is not None and job.lat is not None]
    if not placed_ones:
        return {}
    ids, lons, lats = zip(*placed_ones, strict=True)
    where = territories.index(now).locate_ids(lons, lats)
    return {job_id: territory_id for job_id, territory_id in zip(ids, where, strict=True) if territory_id is not None}


def place_again(source: Source, found: Sequence[Job]) -> int:
    """Give those of ``found`` a territory that lie in one by today's borders; how many those are."""
    inside = now_inside(found, source.recorded_at)
    for job in found:
        if job.id in inside:
            edit(source, job.id, {"lon": job.lon, "lat": job.lat}, check=None)
    return len(inside)


def _moved(job: Job, fields: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    lon, lat = fields.get("lon"), fields.get("lat")
    if (lon is None) != (lat is None):
        raise Invalid.field("lon" if lon is None else "lat", "lon and lat are given together")
    place = placed(NewJob(kind=job.kind, lon=lon, lat=lat, site_class=job.site_class), now)
    return {"lon": lon, "lat": lat, "territory_id": place.territory_id, "territory_reason": place.reason}


def assign(
    source: Source,
    job_id: str,
    crew_id: str,
    *,
    planned_start: datetime | None = None,
    pin: bool = False,
    check: Check | None = None,
    scope: Collection[str] | None = None,
) -> Job:
    """Give the job to a crew; ``pin``: no dispatch run takes it away again.

    :raises Conflict: there is no such crew, or none in the caller's territories; otherwise as ``change.assign`` and
        :func:`hold`.
    """
    job = hold(job_id, scope, check)
    crew = db.session.get(Crew, crew_id)
    if crew is None or (scope is not None and not set(scope).intersection(crew.territory_ids)):
        raise Conflict("crew_id: there is no such crew")
    ends = planned_start + timedelta(minutes=job.service_minutes) if planned_start else None
    change.assign(source, job, crew, planned_start=planned_start, planned_end=ends, pin=pin)
    return job


def pin(source: Source, job_id: str, *, check: Check | None = None, scope: Collection[str] | None = None) -> Job:
    """Keep the job with its crew, and at its time if it has one, whatever dispatch runs think of it."""
    job = hold(job_id, scope, check)
    change.pin(source, job)
    return job


def unpin(source: Source, job_id: str, *, check: Check | None = None, scope: Collection[str] | None = None) -> Job:
    """Let dispatch runs decide about the job again."""
    job = hold(job_id, scope, check)
    change.unpin(source, job)
    return job


def unassign(
    source: Source, job_id: str, reason: str, *, check: Check | None = None, scope: Collection[str] | None = None
) -> Job:
    """Take the job from its crew; it waits again."""
    job = hold(job_id, scope, check)
    change.unassign(source, job, reason)
    return job


def cancel(
    source: Source, job_id: str, reason: str, *, check: Check | None = None, scope: Collection[str] | None = None
) -> Job:
    """Cancel a job that has not ended."""
    job = hold(job_id, scope, check)
    change.cancel(source, job, reason)
    return job


UNDOABLE = frozenset("job.assigned job.reassigned job.unassigned job.pinned job.unpinned".split())
"""What can be taken back as long as nothing has happened to the job since."""


def undo(source: Source, job_id: str, *, check: Check, scope: Collection[str] | None = None) -> Job:
    """Take back the last decision about the job: crew, time and pin are what they were before it.

    A crew that gets the job back gets it as a new one. ``check``: raises unless nothing has happened since.

    :raises Conflict: the last thing that happened was no such decision, or a crew is at work on it on site by now.
    """
    job = hold(job_id, scope, check)
    entry = last_change(job_id)
    if entry is None or entry.action not in UNDOABLE:
        raise Conflict(f"there is nothing to take back of job {job.number}")
    was = {**{name: getattr(job, name) for name in change.BY_DISPATCH}, **(entry.before or {})}
    start, end, pinned_start = (_time(was[name]) for name in ("planned_start", "planned_end", "pinned_start"))
    if was["crew_id"] is None:
        change.unassign(source, job, "taken back", status=was.get("status") or "waiting_to_be_scheduled")
        return job
    crew = db.session.get(Crew, was["crew_id"])
    if crew is None:
        raise Conflict("crew_id: there is no such crew")
    change.assign(
        source,
        job,
        crew,
        planned_start=start,
        planned_end=end,
        planned_order=was["planned_order"],
        pin=was["pinned"],
        pin_time=pinned_start is not None,
        note="taken back",
    )
    return job


def _time(value: Any) -> datetime | None:
    return parse_time(value) if isinstance(value, str) else value


def last_change(job_id: str) -> HistoryEntry | None:
    """The last thing that happened to the job itself."""
    return db.session.scalar(_entries(job_id).limit(1))


def changes_since(job_id: str, rev: int, most: int = 10) -> list[HistoryEntry]:
    """What has happened to the job since revision ``rev``, the newest first: an entry for each revision."""
    current = db.session.scalar(select(Job.rev).where(Job.id == job_id))
    count = min(max((current or 0) - rev, 0), most)
    return list(db.session.scalars(_entries(job_id).limit(count))) if count else []


def _entries(job_id: str) -> Select[HistoryEntry]:
    of_job = (HistoryEntry.job_id == job_id, HistoryEntry.entity == "job", HistoryEntry.entity_id == job_id)
    return select(HistoryEntry).where(*of_job).order_by(HistoryEntry.seq.desc())
