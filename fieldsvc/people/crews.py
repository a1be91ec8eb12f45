"""Crews: who they are, what they can, where they belong, when they are on duty. Their devices see every change."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import select

from fieldsvc.base.clock import format_time, new_id, parse_time
from fieldsvc.base.db import among, db
from fieldsvc.base.errors import Conflict, Forbidden, Invalid, NotFound
from fieldsvc.base.plain import plain
from fieldsvc.feed import publish
from fieldsvc.history.record import record
from fieldsvc.people.actors import Actor
from fieldsvc.people.models import Crew, CrewMember, Shift, Territory
from fieldsvc.people.staff import known_territories

LONGEST_SHIFT = timedelta(hours=24)
_SHIFTS_SHOWN = 20


def create(
    actor: Actor,
    now: datetime,
    *,
    code: str,
    name: str,
    name_local: str | None = None,
    skills: Sequence[str] = (),
    territory_ids: Sequence[str] = (),
    territory_codes: Sequence[str] = (),
    base_lon: float | None = None,
    base_lat: float | None = None,
    equipment: Sequence[str] = (),
    capacity: int | None = None,
    help_out_m: int | None = None,
    members: Sequence[str] = (),
    active: bool = True,
) -> Crew:
    """Add a crew; its home territories are named by id or code.

    :raises Conflict: ``already-exists`` for the code; ``conflict`` for a territory that does not exist.
    :raises Forbidden: a home territory outside of the actor's own.
    """
    home = _home(actor, territory_ids, territory_codes, before=frozenset())
    if actor.scope is not None and not home:
        raise Forbidden("give the crew at least one of your territories: you would not see it otherwise")
    _check_base(base_lon, base_lat)
    if db.session.scalar(select(Crew.id).where(Crew.code == code)):
        raise Conflict(f"there is a crew {code} already", code="already-exists")
    crew = Crew(
        id=new_id(),
        code=code,
        name=name,
        name_local=name_local,
        skills=sorted(set(skills)),
        territory_ids=home,
        base_lon=base_lon,
        base_lat=base_lat,
        equipment=sorted(set(equipment)),
        capacity=capacity,
        help_out_m=help_out_m,
        active=active,
        rev=1,
        members=[CrewMember(id=new_id(), name=member) for member in members],
    )
    db.session.add(crew)
    db.session.flush()
    record(actor.source(now), "crew.created", "crew", crew.id, after=_facts(crew), crew_id=crew.id)
    show(crew, now)
    show_territories(crew, home)
    return crew


def edit(actor: Actor, now: datetime, crew: Crew, changes: Mapping[str, Any]) -> Crew:
    """Change a crew that was got with ``lock``; ``changes`` are arguments of :func:`create` but the code.

    ``members`` replaces them all.

    :raises Forbidden: a home territory outside of the actor's own would be added or taken away.
    """
    before = _facts(crew)
    for name in ("name", "name_local", "base_lon", "base_lat", "capacity", "help_out_m", "active"):
        if name in changes:
            setattr(crew, name, changes[name])
    if ("base_lon" in changes) != ("base_lat" in changes):
        raise Invalid.field(
            "/base_lat" if "base_lon" in changes else "/base_lon", "base_lon and base_lat come together"
        )
    _check_base(crew.base_lon, crew.base_lat)
    for name in {"skills", "equipment"} & changes.keys():
        setattr(crew, name, sorted(set(changes[name])))
    if "territory_ids" in changes or "territory_codes" in changes:
        crew.territory_ids = _home(
            actor,
            changes.get("territory_ids", ()),
            changes.get("territory_codes", ()),
            before=frozenset(crew.territory_ids),
        )
    if "members" in changes and changes["members"] != before["members"]:
        crew.members = [CrewMember(id=new_id(), name=member) for member in changes["members"]]
    after = _facts(crew)
    changed = [name for name in after if after[name] != before[name]]
    if not changed:
        return crew
    crew.rev += 1
    db.session.flush()
    record(
        actor.source(now),
        "crew.changed",
        "crew",
        crew.id,
        before={name: before[name] for name in changed},
        after={name: after[name] for name in changed},
        crew_id=crew.id,
    )
    show(crew, now)
    _show_moves(crew, set(before["territory_ids"]), set(crew.territory_ids))
    return crew


def add_shift(
    actor: Actor,
    now: datetime,
    crew: Crew,
    starts_at: datetime,
    ends_at: datetime,
    breaks: Sequence[Mapping[str, Any]] = (),
) -> Shift:
    """Put a crew (got with ``lock``) on duty.

    :param breaks: ``{"earliest", "latest", "minutes"}`` each: begun between the two times.
    :raises Invalid: it ends before it starts, or lasts longer than :data:`LONGEST_SHIFT`; a break that does not end
        within the shift, whenever it is begun.
    :raises Conflict: it overlaps another shift of the crew.
    """
    if not timedelta(0) < ends_at - starts_at <= LONGEST_SHIFT:
        raise Invalid.field("/ends_at", "must lie after starts_at, by no more than 24 hours")
    for place, pause in enumerate(breaks):
        _check_break(f"/breaks/{place}", pause, starts_at, ends_at)
    clash = db.session.scalar(
        select(Shift.id).where(Shift.crew_id == crew.id, Shift.starts_at < ends_at, Shift.ends_at > starts_at).limit(1)
    )
    if clash:
        raise Conflict("the crew has a shift in that time already", code="already-exists", shift_id=clash)
    told = [plain(dict(pause)) for pause in sorted(breaks, key=lambda pause: (pause["earliest"], pause["latest"]))]
    shift = Shift(id=new_id(), crew_id=crew.id, starts_at=starts_at, ends_at=ends_at, breaks=told)
    db.session.add(shift)
    crew.rev += 1
    db.session.flush()
    after = {"starts_at": format_time(starts_at), "ends_at": format_time(ends_at)} | ({"breaks": told} if told else {})
    record(actor.source(now), "shift.added", "shift", shift.id, after=after, crew_id=crew.id)
    show(crew, now)
    return shift


def add_shifts(
    actor: Actor,
    now: datetime,
    crew: Crew,
    wanted: Sequence[Mapping[str, Any]],
    *,
    leave_out_taken: bool = False,
) -> tuple[int, list[datetime]]:
    """Put a crew (got with ``lock``) on duty several times, all or nothing.

    :param wanted: the arguments ``starts_at``, ``ends_at`` and ``breaks`` of :func:`add_shift` each.
    :param leave_out_taken: leave out those that overlap another shift of the crew.
    :returns: how many were added, and when those begin that were left out.
    :raises Conflict: ``already-exists``, with ``taken``: when those begin that overlap another shift.
    :raises Invalid: as :func:`add_shift`.
    """
    first, last = min(one["starts_at"] for one in wanted), max(one["ends_at"] for one in wanted)
    there = on_duty([crew.id], first, last)[crew.id]
    taken = [
        one["starts_at"]
        for one in wanted
        if any(shift.starts_at < one["ends_at"] and shift.ends_at > one["starts_at"] for shift in there)
    ]
    if taken and not leave_out_taken:
        raise Conflict("the crew has a shift in that time already", code="already-exists", taken=taken)
    for one in wanted:
        if one["starts_at"] not in taken:
            add_shift(actor, now, crew, **one)
    return len(wanted) - len(taken), taken


def remove_shift(actor: Actor, now: datetime, crew: Crew, shift_id: str) -> None:
    """Take a crew (got with ``lock``) off duty: a shift to come goes, a running one ends now. Its jobs stay the crew's.

    :raises NotFound: the crew has no such shift.
    :raises Conflict: ``state-not-allowed``: it is over.
    """
    shift = db.session.scalar(select(Shift).where(Shift.id == shift_id, Shift.crew_id == crew.id))
    if shift is None:
        raise NotFound("shift", shift_id)
    if shift.ends_at <= now:
        raise Conflict("this shift is over: it stays on record", code="state-not-allowed")
    before = {"starts_at": format_time(shift.starts_at), "ends_at": format_time(shift.ends_at)}
    crew.rev += 1
    if shift.starts_at < now:
        shift.ends_at = now
        shift.breaks = [one for one in shift.breaks if parse_time(one["latest"]) <= now]
        after = {"ends_at": format_time(now)}
        record(actor.source(now), "shift.ended", "shift", shift.id, before=before, after=after, crew_id=crew.id)
    else:
        db.session.delete(shift)
        record(actor.source(now), "shift.removed", "shift", shift.id, before=before, crew_id=crew.id)
    db.session.flush()
    show(crew, now)


def _check_break(at: str, pause: Mapping[str, Any], starts_at: datetime, ends_at: datetime) -> None:
    if pause["latest"] < pause["earliest"]:
        raise Invalid.field(f"{at}/latest", "must not be before earliest")
    if pause["earliest"] < starts_at:
        raise Invalid.field(f"{at}/earliest", "must not be before the shift starts")
    if pause["latest"] + timedelta(minutes=pause["minutes"]) > ends_at:
        raise Invalid.field(f"{at}/latest", "the break must end within the shift")


def get(actor: Actor, crew_id: str, *, lock: bool = False) -> Crew:
    """A crew with a home territory in the actor's scope.

    :raises NotFound: there is none, or it is out of scope.
    """
    statement = select(Crew).where(Crew.id == crew_id)
    crew = db.session.scalar(statement.with_for_update(of=Crew) if lock else statement)
    if crew is None or not actor.sees_any(crew.territory_ids):
        raise NotFound("crew", crew_id)
    return crew


def by_code(actor: Actor, code: str) -> Crew:
    """The crew with this code.

    :raises NotFound: there is none, or it is out of scope.
    """
    crew = db.session.scalar(select(Crew).where(Crew.code == code))
    if crew is None or not actor.sees_any(crew.territory_ids):
        raise NotFound("crew", code)
    return crew


def visible_ids(actor: Actor) -> list[str] | None:
    """The ids of the crews in the actor's scope; None when all are."""
    if actor.scope is None:
        return None
    rows = db.session.execute(select(Crew.id, Crew.territory_ids))
    return [crew_id for crew_id, home in rows if actor.sees_any(home)]


class Brief(NamedTuple):
    """A crew by its names."""

    id: str
    code: str
    name: str
    name_local: str | None
    active: bool


_BRIEF = (Crew.id, Crew.code, Crew.name, Crew.name_local, Crew.active)


def brief(actor: Actor) -> list[Brief]:
    """The crews in the actor's scope, by code: to choose from."""
    rows = db.session.execute(select(*_BRIEF, Crew.territory_ids).order_by(Crew.code))
    return [Brief(*row[:-1]) for row in rows if actor.sees_any(row.territory_ids)]


def at_home(territory_id: str) -> list[str]:
    """The ids of the crews that a territory is a home of."""
    rows = db.session.execute(select(Crew.id, Crew.territory_ids))
    return [row.id for row in rows if territory_id in row.territory_ids]


def abilities(actor: Actor) -> tuple[list[str], list[str]]:
    """Skills and equipment that crews in the actor's scope have, sorted: to choose from."""
    skills: set[str] = set()
    equipment: set[str] = set()
    for row in db.session.execute(select(Crew.skills, Crew.equipment, Crew.territory_ids)):
        if actor.sees_any(row.territory_ids):
            skills.update(row.skills)
            equipment.update(row.equipment)
    return sorted(skills), sorted(equipment)


def shifts(crew_id: str, now: datetime) -> list[Shift]:
    """The running and the next shifts of a crew, by start."""
    return list(
        db.session.scalars(
            select(Shift)
            .where(Shift.crew_id == crew_id, Shift.ends_at > now)
            .order_by(Shift.starts_at, Shift.id)
            .limit(_SHIFTS_SHOWN)
        )
    )


def on_duty(crew_ids: Collection[str], since: datetime, until: datetime) -> dict[str, list[Shift]]:
    """Crew id -> its shifts that touch the time between two others, by start."""
    found: dict[str, list[Shift]] = {crew_id: [] for crew_id in crew_ids}
    wanted = select(Shift).where(among(Shift.crew_id, crew_ids), Shift.ends_at > since, Shift.starts_at < until)
    for shift in db.session.scalars(wanted.order_by(Shift.starts_at, Shift.id)):
        found[shift.crew_id].append(shift)
    return found


def show(crew: Crew, now: datetime) -> None:
    """Send the crew's document to its devices."""
    doc = {
        "id": crew.id,
        "code": crew.code,
        "name": crew.name,
        "name_local": crew.name_local,
        "skills": crew.skills,
        "territory_ids": crew.territory_ids,
        "base": None if crew.base_lon is None else {"type": "Point", "coordinates": [crew.base_lon, crew.base_lat]},
        "members": [{"id": member.id, "name": member.name} for member in crew.members],
        "active": crew.active,
        "shifts": [
            {"id": shift.id, "starts_at": format_time(shift.starts_at), "ends_at": format_time(shift.ends_at)}
            for shift in shifts(crew.id, now)
        ],
    }
    publish.put([f"crew:{crew.id}"], "crew", crew.id, crew.rev, doc)


def territory_doc(territory: Territory) -> dict[str, Any]:
    """What a device knows of a territory."""
    return {
        "id": territory.id,
        "code": territory.code,
        "name": territory.name,
        "name_local": territory.name_local,
        "site_class": territory.site_class,
    }


def show_territories(crew: Crew, territory_ids: Sequence[str]) -> None:
    """Send the documents of territories to the crew's devices."""
    for territory in db.session.scalars(select(Territory).where(Territory.id.in_(territory_ids))):
        publish.put([f"crew:{crew.id}"], "territory", territory.id, territory.rev, territory_doc(territory))


def _show_moves(crew: Crew, before: set[str], after: set[str]) -> None:
    show_territories(crew, sorted(after - before))
    for territory in db.session.scalars(select(Territory).where(Territory.id.in_(sorted(before - after)))):
        publish.leave(f"crew:{crew.id}", "territory", territory.id, territory.rev, "reassigned")


def _home(actor: Actor, ids: Sequence[str], codes: Sequence[str], *, before: frozenset[str]) -> list[str]:
    wanted = set(ids) | set(_by_code(codes))
    home = known_territories(sorted(wanted))
    strange = sorted(i for i in before ^ set(home) if not actor.sees(i))
    if strange:
        raise Forbidden(f"territory {strange[0]} is not one of yours")
    return home


def _by_code(codes: Sequence[str]) -> list[str]:
    wanted = set(codes)
    if not wanted:
        return []
    rows = db.session.execute(select(Territory.code, Territory.id).where(Territory.code.in_(wanted)))
    found = {row.code: row.id for row in rows}
    missing = sorted(wanted - found.keys())
    if missing:
        errors = [{"field": "/territory_codes", "reason": f"there is no territory {code}"} for code in missing]
        raise Conflict(f"there is no territory {missing[0]}", errors=errors)
    return list(found.values())


def _check_base(lon: float | None, lat: float | None) -> None:
    if (lon is None) != (lat is None):
        raise Invalid.field("/base_lat" if lat is None else "/base_lon", "base_lon and base_lat come together")


def _facts(crew: Crew) -> dict[str, Any]:
    return {
        "code": crew.code,
        "name": crew.name,
        "name_local": crew.name_local,
        "skills": list(crew.skills),
        "territory_ids": list(crew.territory_ids),
        "base_lon": crew.base_lon,
        "base_lat": crew.base_lat,
        "equipment": list(crew.equipment),
        "capacity": crew.capacity,
        "help_out_m": crew.help_out_m,
        "members": [member.name for member in crew.members],
        "active": crew.active,
    }
