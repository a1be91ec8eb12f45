"""What a dispatcher's board shows: jobs with what matters first, how many stand where, and how the crews are.

Everything is read as plain columns, a few statements whatever the number of jobs. What must be looked at first comes
first: promises that are running out, then those that have, then by rank (``work.tiers``) and priority; work that has
ended comes last.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Subquery,
    Text,
    and_,
    case,
    cast,
    exists,
    func,
    null,
    or_,
    select,
    true,
    type_coerce,
)

from fieldsvc.base.db import UtcDateTime, among, db
from fieldsvc.people import crews as crews_room
from fieldsvc.people import positions
from fieldsvc.people.actors import Actor
from fieldsvc.people.models import Crew, CrewPosition, Device, Shift
from fieldsvc.records.models import Customer
from fieldsvc.work.change import ENDED
from fieldsvc.work.dispatch.rules import Rules
from fieldsvc.work.layers import WHERE_CREWS_ARE
from fieldsvc.work.models import CommitmentClock, Job
from fieldsvc.work.tiers import IMPORTANT, TIERS

MOST = 20_000
"""Jobs on one board; a board with more says so."""
DONE = ("completed", "closed")
"""Ended jobs that are on the board of the day on which they ended, without being asked for."""
NOBODY = "none"
"""In place of a crew's id: jobs that no crew has."""
SOON, OVER, OPEN, ENDED_PLACE = range(4)
"""Where a job stands on the board: its promise runs out, has run out, anything else, it has ended."""


class Day(NamedTuple):
    """The day that is looked at, as two times in UTC; the end does not belong to it."""

    start: datetime
    end: datetime


@dataclass(frozen=True)
class Wanted:
    """Which jobs; every member given narrows, values inside one widen. Without ``status`` or ``text``: what is open,
    and what was done on the ``day``; ended jobs are always those of the day, unless a ``text`` is looked for.

    :param crew_id: ids, and :data:`NOBODY`.
    :param promise: ``soon`` (runs out within the rule pack's ``at_risk_min``) and ``over``.
    :param text: looked for in number, title and address.
    """

    day: Day
    status: Collection[str] = ()
    kind: Collection[str] = ()
    territory_id: Collection[str] = ()
    crew_id: Collection[str] = ()
    priority: Collection[int] = ()
    promise: Collection[str] = ()
    text: str | None = None


class Card(NamedTuple):
    """A job on the board. ``due_at``: when its next promise runs out, None: none is running; ``promise``: soon, over or
    None; ``place``: :data:`SOON` to :data:`ENDED_PLACE`.
    """

    id: str
    number: str
    kind: str
    status: str
    priority: int
    tier: str
    hazards: bool
    lon: float | None
    lat: float | None
    crew_id: str | None
    planned_start: datetime | None
    planned_end: datetime | None
    planned_order: int | None
    pinned: bool
    due_at: datetime | None
    service_minutes: int
    window_start: datetime | None
    window_end: datetime | None
    rev: int
    title: str
    address: str | None
    territory_id: str | None
    promise: str | None
    place: int

    @property
    def order(self) -> str:
        """Sorts as the board does: as text, so that a script can put a job where it belongs."""
        due = self.due_at.isoformat() if self.due_at else "9"
        first = due if self.place == SOON else ""
        return f"{self.place}|{first}|{TIERS.index(self.tier)}|{self.priority}|{due}|{self.id}"


def jobs(
    wanted: Wanted,
    scope: Collection[str] | None,
    now: datetime,
    *,
    ids: Collection[str] | None = None,
    first: int = 0,
    most: int = MOST,
) -> list[Card]:
    """The jobs that are wanted, in order, from the one at place ``first`` on; at most :data:`MOST`.

    :param scope: the reader's territories, None for all. ``ids``: only these.
    """
    told = _Told(_lines(wanted, scope, ids), now)
    query = select(*told.columns).where(*told.narrowed(wanted)).order_by(*told.order).offset(first).limit(most)
    return [Card._make(row) for row in db.session.execute(query)]


def counts(wanted: Wanted, scope: Collection[str] | None, now: datetime, most: int = MOST) -> dict[str, Any]:
    """How many there are: ``status``: of each, whatever statuses are wanted; ``soon``, ``over``, ``hazards`` and
    ``nobody`` (has them) of those that have not ended, whatever statuses, promises and crews are wanted; ``shown``:
    all that are wanted; ``cut``: the board has more than ``most`` and leaves some out.
    """
    told = _Told(_lines(wanted, scope), now)
    line = told.line
    held = and_(true(), *told.held(wanted))
    facts: list[ColumnElement[Any]] = [line.status, told.place, told.hazards, line.crew_id.is_(None), held]
    chosen = func.sum(case((and_(true(), *told.narrowed(wanted)), 1), else_=0))
    named = [fact.label(f"fact{n}") for n, fact in enumerate(facts)]  # PostgreSQL groups by no constant without a name
    columns: list[ColumnElement[Any]] = [*named, func.count(), chosen]
    query = select(*columns).group_by(*(fact.name for fact in named))
    found: Counter[str] = Counter()
    by_status: Counter[str] = Counter()
    for status, place, hazards, nobody, held, count, shown in db.session.execute(query):
        found["all"] += count
        found["shown"] += shown
        by_status[status] += count if held else 0
        if place != ENDED_PLACE:
            found.update({"soon": count * (place == SOON), "over": count * (place == OVER)})
            found.update({"hazards": count * bool(hazards), "nobody": count * bool(nobody)})
    names = ("soon", "over", "hazards", "nobody", "shown")
    return {"status": dict(+by_status), **{name: found[name] for name in names}, "cut": found["all"] > most}


def at_risk(now: datetime) -> timedelta:
    """For so long before it is due a promise is said to run out."""
    return timedelta(minutes=Rules.on(now).at_risk_minutes)


_READ = (
    "id number kind status priority hazards lon lat crew_id planned_start planned_end planned_order pinned due_at "
    "service_minutes window_start window_end rev title address territory_id"
).split()


def _lines(wanted: Wanted, scope: Collection[str] | None, ids: Collection[str] | None = None) -> Subquery:
    """Everything that is counted: not narrowed by status, promise and crew. With ``running``, when the first of a job's
    running promises is due, and ``own``, its date unless that is of a promise that has been judged: kept or missed, it
    says nothing any more.
    """
    clock = CommitmentClock
    ended = Job.status.in_(ENDED)
    running = select(func.min(clock.due_at)).where(clock.job_id == Job.id, clock.verdict == "running", ~ended)
    judged = exists().where(clock.job_id == Job.id, clock.due_at == Job.due_at, clock.verdict != "running")
    own = type_coerce(case((or_(ended, judged), null()), else_=Job.due_at), UtcDateTime())
    columns = [getattr(Job, name) for name in _READ]
    query = select(*columns, Customer.importance, running.scalar_subquery().label("running"), own.label("own"))
    query = query.outerjoin(Customer, Customer.id == Job.customer_id).where(*_conditions(wanted))
    if scope is not None:
        query = query.where(among(Job.territory_id, scope))
    if ids is not None:
        query = query.where(among(Job.id, ids))
    # The limit bounds the work, and keeps SQLite from working out the columns above once for each time they are named.
    return query.limit(MOST + 1).subquery("line")


def _conditions(wanted: Wanted) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    if wanted.territory_id:
        found.append(among(Job.territory_id, wanted.territory_id))
    if wanted.kind:
        found.append(Job.kind.in_(sorted(wanted.kind)))
    if wanted.priority:
        found.append(Job.priority.in_(sorted(wanted.priority)))
    if wanted.text:
        columns = (Job.number, Job.title, Job.address)
        found.append(or_(*(column.icontains(wanted.text, autoescape=True) for column in columns)))
    else:
        found.append(or_(Job.status.not_in(ENDED), *_ended_on(wanted.day)))
    return found


def _ended_on(day: Day) -> list[ColumnElement[bool]]:
    """Done on the day, or cancelled on it: nothing is written on a cancelled job after that."""
    done = and_(Job.completed_at >= day.start, Job.completed_at < day.end)
    cancelled = and_(Job.status == "cancelled", Job.updated_at >= day.start, Job.updated_at < day.end)
    return [and_(Job.status.in_(DONE), done), cancelled]


class _Told:
    """What is said of the jobs in ``lines``, as expressions."""

    def __init__(self, lines: Subquery, now: datetime) -> None:
        line = self.line = lines.c
        at_risk_from = now + at_risk(now)
        running, own = line.running, line.own
        due = self.due = case(
            (running.is_(None), own), (own.is_(None), running), (running <= own, running), else_=own
        )  # fmt: skip
        self.hazards = cast(line.hazards, Text) != "[]"
        self.place = case(
            (line.status.in_(ENDED), ENDED_PLACE), (due <= now, OVER), (due <= at_risk_from, SOON), else_=OPEN
        )  # fmt: skip
        # As work.tiers says it of one job; a test holds the two together.
        ranks = (
            self.hazards,
            running.is_not(None),
            line.importance.in_(sorted(IMPORTANT)),
            line.due_at <= at_risk_from,
        )
        self.rank = case(*((fits, place) for place, fits in enumerate(ranks)), else_=len(ranks))
        self._tier = case(*((fits, TIERS[place]) for place, fits in enumerate(ranks)), else_=TIERS[-1])

    @property
    def columns(self) -> list[Any]:
        """As :class:`Card` has them."""
        promise = case((self.place == SOON, "soon"), (self.place == OVER, "over"))
        made: dict[str, ColumnElement[Any]] = {
            "due_at": type_coerce(self.due, UtcDateTime()),
            "hazards": self.hazards,
            "tier": self._tier,
            "promise": promise,
            "place": self.place,
        }
        return [(made[name] if name in made else self.line[name]).label(f"told_{name}") for name in Card._fields]

    @property
    def order(self) -> list[Any]:
        """As :attr:`Card.order` says."""
        soonest = case((self.place == SOON, self.due), else_=null())
        return [self.place, soonest, self.rank, self.line.priority, self.due.is_(None), self.due, self.line.id]

    def narrowed(self, wanted: Wanted) -> list[ColumnElement[bool]]:
        """By status, promise and crew."""
        found = self.held(wanted)
        if wanted.status:
            found.append(self.line.status.in_(sorted(wanted.status)))
        elif not wanted.text:
            found.append(self.line.status != "cancelled")
        if wanted.promise:
            found.append(self.place.in_([{"soon": SOON, "over": OVER}[name] for name in sorted(wanted.promise)]))
        return found

    def held(self, wanted: Wanted) -> list[ColumnElement[bool]]:
        """By crew."""
        if not wanted.crew_id:
            return []
        nobody = [self.line.crew_id.is_(None)] if NOBODY in wanted.crew_id else []
        return [or_(among(self.line.crew_id, sorted(wanted.crew_id)), *nobody)]


def crews(
    actor: Actor,
    holding: Collection[str],
    day: Day,
    now: datetime,
    fresh: timedelta,
    ids: Collection[str] | None = None,
) -> list[dict[str, Any]]:
    """The active crews of the actor's territories, by code: who they are, where they were last, when they are on duty.

    ``silent``: on duty, and without a sign of life for longer than ``fresh``. Of crews from elsewhere (not ``own``)
    only those that hold something here are told, without where they are; an auditor is told that of nobody.

    :param holding: crews that hold jobs here. ``ids``: only these.
    """
    visible = crews_room.visible_ids(actor)
    names = "id code name name_local base_lon base_lat skills territory_ids active".split()
    query = select(*(getattr(Crew, name) for name in names)).order_by(Crew.code)
    if visible is not None:
        query = query.where(among(Crew.id, {*visible, *holding}))
    if ids is not None:
        query = query.where(among(Crew.id, ids))
    rows = [row for row in db.session.execute(query) if row.active or row.id in holding]
    own = [row.id for row in rows if visible is None or row.id in set(visible)]
    shifts = _shifts([row.id for row in rows], day, now)
    lives = signs_of_life(own, located=actor.role in WHERE_CREWS_ARE)
    return [_crew(row, shifts[row.id], lives.get(row.id), row.id in set(own), now, fresh) for row in rows]


class Life(NamedTuple):
    """When a crew was last heard of, and where it was last; ``at``: when it was there."""

    seen_at: datetime | None
    at: datetime | None = None
    lon: float | None = None
    lat: float | None = None


_EVER = datetime(1970, 1, 1, tzinfo=UTC)


def signs_of_life(crew_ids: Sequence[str], *, located: bool) -> dict[str, Life]:
    """Crew -> its last sign of life: when a device of it called, or was somewhere. ``located``: and where that was."""
    called = (func.max(Device.last_seen_at), func.max(Device.pulled_at))
    query = select(Device.crew_id, *called).where(Device.revoked_at.is_(None))
    heard = db.session.execute(query.where(among(Device.crew_id, crew_ids)).group_by(Device.crew_id))
    found = {crew_id: Life(max(at)) for crew_id, *times in heard if (at := [time for time in times if time])}
    if not located:
        return found
    columns = (Crew.id, CrewPosition.until_at, CrewPosition.lon, CrewPosition.lat)
    for row in db.session.execute(positions.newest(crew_ids, _EVER).with_only_columns(*columns)):
        seen = found[row.id].seen_at if row.id in found else None
        found[row.id] = Life(max(filter(None, (seen, row.until_at))), row.until_at, row.lon, row.lat)
    return found


def _shifts(crew_ids: Sequence[str], day: Day, now: datetime) -> dict[str, list[Any]]:
    """Crew -> its shifts of the day, and the one that is running."""
    query = select(Shift.crew_id, Shift.starts_at, Shift.ends_at, Shift.breaks)
    of_day = and_(Shift.ends_at > day.start, Shift.starts_at < day.end)
    running = and_(Shift.ends_at > now, Shift.starts_at <= now)
    query = query.where(among(Shift.crew_id, crew_ids), or_(of_day, running)).order_by(Shift.starts_at)
    found: dict[str, list[Any]] = defaultdict(list)
    for row in db.session.execute(query):
        found[row.crew_id].append(row)
    return found


def _crew(
    row: Any, shifts: Sequence[Any], life: Life | None, own: bool, now: datetime, fresh: timedelta
) -> dict[str, Any]:
    seen = life.seen_at if life else None
    on_duty = next((shift for shift in shifts if shift.starts_at <= now < shift.ends_at), None)
    silent = own and on_duty is not None and max(filter(None, (seen, on_duty.starts_at))) < now - fresh
    placed = life is not None and life.lon is not None
    return {
        "id": row.id,
        "code": row.code,
        "name": row.name,
        "name_local": row.name_local,
        "base": None if row.base_lon is None else [row.base_lon, row.base_lat],
        "position": {"lon": life.lon, "lat": life.lat, "at": life.at} if life and placed else None,
        "last_seen_at": seen,
        "silent": silent,
        "own": own,
        "shifts": [{"starts_at": one.starts_at, "ends_at": one.ends_at, "breaks": one.breaks} for one in shifts],
        "skills": row.skills,
        "territory_ids": row.territory_ids,
    }
