"""What a dispatcher's board shows: jobs with what matters first, how many stand where, and how the crews are.

Everything is read as plain columns, a few statements whatever the number of jobs. What must be looked at first comes
first: promises that are running out, then those that have, then by rank (``work.tiers``) and priority; work that has
ended comes last.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Select, and_, func, or_, select

from fieldsvc.base.db import among, db
from fieldsvc.people import crews as crews_room
from fieldsvc.people import positions
from fieldsvc.people.actors import Actor
from fieldsvc.people.models import Crew, CrewPosition, Device, Shift
from fieldsvc.records.models import Customer
from fieldsvc.work.change import ENDED
from fieldsvc.work.dispatch.rules import Rules
from fieldsvc.work.layers import WHERE_CREWS_ARE
from fieldsvc.work.models import CommitmentClock, Job
from fieldsvc.work.tiers import TIERS, Standing, tier

MOST = 20_000
"""Jobs on one board; a board with more says so."""
DONE = ("completed", "closed")
"""Ended jobs that are on the board of the day on which they ended, without being asked for."""
NOBODY = "none"
"""In place of a crew's id: jobs that no crew has."""
SOON, OVER, OPEN, ENDED_PLACE = range(4)
"""Where a job stands on the board: its promise runs out, has run out, anything else, it has ended."""
_RANK = {name: place for place, name in enumerate(TIERS)}


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


COLUMNS = (
    "id number kind status priority tier hazards lon lat crew_id planned_start planned_end planned_order pinned due_at "
    "service_minutes window_start window_end rev title address territory_id promise place"
).split()
"""What is told of a job, in this order. ``due_at``: when its next promise runs out, None: none is running; ``promise``:
soon, over or None; ``place``: :data:`SOON` to :data:`ENDED_PLACE`."""


class Card(NamedTuple):
    """A job on the board; members as :data:`COLUMNS` says."""

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
        if self.place == SOON:
            return f"{self.place}|{due}|{self.id}"
        return f"{self.place}|{_RANK[self.tier]}|{self.priority}|{due}|{self.id}"


@dataclass(frozen=True)
class Board:
    """The jobs that are wanted, in order.

    :param counts: ``status``: how many have each, whatever statuses are wanted; ``soon``, ``over``, ``hazards`` and
        ``nobody`` of those that have not ended, whatever statuses, promises and crews are wanted.
    :param cut: there are more than :data:`MOST`.
    """

    jobs: list[Card]
    counts: dict[str, Any]
    cut: bool


def board(wanted: Wanted, scope: Collection[str] | None, now: datetime) -> Board:
    """The jobs of a board and their numbers.

    :param scope: the reader's territories, None for all.
    """
    rows = _rows(_query(wanted, scope).order_by(Job.priority, Job.created_at).limit(MOST + 1))
    cards = _cards(rows[:MOST], now)
    chosen = [card for card in cards if _is_wanted(card, wanted)]
    chosen.sort(key=lambda card: card.order)
    return Board(chosen, _counts(cards, wanted), len(rows) > MOST)


def these(ids: Collection[str], wanted: Wanted, scope: Collection[str] | None, now: datetime) -> list[Card]:
    """Those of ``ids`` that the board for ``wanted`` shows now, in order."""
    found = _cards(_rows(_query(wanted, scope).where(among(Job.id, ids))), now)
    return sorted((card for card in found if _is_wanted(card, wanted)), key=lambda card: card.order)


_job = Job.__table__.c
_READ = tuple(
    _job[name]
    for name in (
        "id number kind status priority hazards lon lat crew_id planned_start planned_end planned_order pinned due_at "
        "service_minutes window_start window_end rev title address territory_id"
    ).split()
)


def _query(wanted: Wanted, scope: Collection[str] | None) -> Select[Any]:
    """Everything that the numbers count: not narrowed by status, promise and crew."""
    query = select(*_READ, Customer.importance).outerjoin(Customer, Customer.id == Job.customer_id)
    conditions: list[ColumnElement[bool]] = []
    if scope is not None:
        conditions.append(among(Job.territory_id, scope))
    if wanted.territory_id:
        conditions.append(among(Job.territory_id, wanted.territory_id))
    if wanted.kind:
        conditions.append(Job.kind.in_(sorted(wanted.kind)))
    if wanted.priority:
        conditions.append(Job.priority.in_(sorted(wanted.priority)))
    if wanted.text:
        columns = (Job.number, Job.title, Job.address)
        conditions.append(or_(*(column.icontains(wanted.text, autoescape=True) for column in columns)))
    else:
        conditions.append(or_(Job.status.not_in(ENDED), *_ended_on(wanted.day)))
    return query.where(*conditions)


def _ended_on(day: Day) -> list[ColumnElement[bool]]:
    """Done on the day, or cancelled on it: nothing is written on a cancelled job after that."""
    done = and_(Job.completed_at >= day.start, Job.completed_at < day.end)
    cancelled = and_(Job.status == "cancelled", Job.updated_at >= day.start, Job.updated_at < day.end)
    return [and_(Job.status.in_(DONE), done), cancelled]


def _rows(query: Select[Any]) -> Sequence[Any]:
    return db.session.execute(query).all()


def _is_wanted(card: Card, wanted: Wanted) -> bool:
    shown = card.status in wanted.status if wanted.status else card.status != "cancelled" or bool(wanted.text)
    held = not wanted.crew_id or (card.crew_id or NOBODY) in wanted.crew_id
    return shown and held and (not wanted.promise or card.promise in wanted.promise)


def _cards(rows: Sequence[Any], now: datetime) -> list[Card]:
    at_risk_from = now + timedelta(minutes=Rules.on(now).at_risk_minutes)
    promised = _promises([row.id for row in rows if row.status not in ENDED])
    return [_card(row, promised.get(row.id), at_risk_from, now) for row in rows]


def _promises(ids: Sequence[str]) -> dict[str, tuple[datetime | None, set[datetime]]]:
    """Job -> when its first running promise is due, and when those are due that have been judged."""
    query = select(CommitmentClock.job_id, CommitmentClock.due_at, CommitmentClock.verdict)
    running: dict[str, datetime] = {}
    judged: dict[str, set[datetime]] = defaultdict(set)
    for job_id, due, verdict in db.session.execute(query.where(among(CommitmentClock.job_id, ids))):
        if verdict != "running":
            judged[job_id].add(due)
        elif job_id not in running or due < running[job_id]:
            running[job_id] = due
    return {job_id: (running.get(job_id), judged.get(job_id, set())) for job_id in running.keys() | judged.keys()}


def _card(
    row: Any, promises: tuple[datetime | None, set[datetime]] | None, at_risk_from: datetime, now: datetime
) -> Card:
    running, judged = promises or (None, set())
    ended = row.status in ENDED
    # The date of a job is that of its first promise, until somebody sets another; once kept or missed it says nothing.
    own = None if row.due_at in judged else row.due_at
    due = None if ended else min(filter(None, (running, own)), default=None)
    promise = None if due is None or due > at_risk_from else "over" if due <= now else "soon"
    rank = tier(Standing(bool(row.hazards), running is not None, row.importance, row.due_at, at_risk_from))
    place = ENDED_PLACE if ended else {"soon": SOON, "over": OVER, None: OPEN}[promise]
    return Card(
        row.id, row.number, row.kind, row.status, row.priority, rank, bool(row.hazards), row.lon, row.lat, row.crew_id,
        row.planned_start, row.planned_end, row.planned_order, row.pinned, due, row.service_minutes, row.window_start,
        row.window_end, row.rev, row.title, row.address, row.territory_id, promise, place,
    )  # fmt: skip


def _counts(cards: Iterable[Card], wanted: Wanted) -> dict[str, Any]:
    every = list(cards)
    live = [card for card in every if card.place != ENDED_PLACE]
    promises = Counter(card.promise for card in live)
    fitting = (card.status for card in every if not wanted.crew_id or (card.crew_id or NOBODY) in wanted.crew_id)
    return {
        "status": dict(Counter(fitting)),
        "soon": promises["soon"],
        "over": promises["over"],
        "hazards": sum(card.hazards for card in live),
        "nobody": sum(card.crew_id is None for card in live),
    }


def crews(
    actor: Actor,
    holding: Collection[str],
    day: Day,
    now: datetime,
    fresh: timedelta,
    ids: Collection[str] | None = None,
) -> list[dict[str, Any]]:
    """The active crews of the actor's territories, by code: who they are, where they were last, when they are on duty.

    ``silent``: on duty, and without a sign of life for longer than ``fresh``. Of crews from elsewhere only those that
    hold something here are told, without where they are; an auditor is told that of nobody.

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
    query = select(Device.crew_id, func.max(Device.last_seen_at).label("at")).where(Device.revoked_at.is_(None))
    heard = db.session.execute(query.where(among(Device.crew_id, crew_ids)).group_by(Device.crew_id))
    found = {row.crew_id: Life(row.at) for row in heard if row.at is not None}
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
        "shifts": [{"starts_at": one.starts_at, "ends_at": one.ends_at, "breaks": one.breaks} for one in shifts],
        "skills": row.skills,
        "territory_ids": row.territory_ids,
    }
