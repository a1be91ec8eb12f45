"""The sync desk: what has not arrived, who is silent, what waits and for how long, and what crews cannot know yet.

Everything is read in a fixed number of statements, whatever the number of devices: what waits is found by the small
indexes of what waits, not by looking through all that ever came.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, cast

from sqlalchemy import Row, Select, and_, exists, func, literal, select
from sqlalchemy.orm import aliased

from fieldsvc.base.db import among, db
from fieldsvc.feed.models import SyncFeed
from fieldsvc.kinds.lifecycle import ACTIVE
from fieldsvc.people import devices as enrolled
from fieldsvc.people.models import Crew, Device, Shift
from fieldsvc.sync import outcomes, sweep
from fieldsvc.sync.clocks import SUSPECT
from fieldsvc.sync.models import HELD, OWED, WAITING, Attachment, InboxOperation, Install
from fieldsvc.work.models import Job

MOST = 2000
"""The most devices on one desk."""

SLOW = timedelta(minutes=5)
"""What has come and is not decided after this time is worth a word (illustrative default)."""

PROBLEMS = (
    "failing",
    "gap",
    "held",
    "undecided",
    "silent",
    "unsent",
    "unheard",
    "upgrade_needed",
    "no_first_sync",
    "files",
    "clock",
    "upgrade_soon",
)
"""What can be wrong with a device, the gravest first:

- ``failing``: applying an operation fails and is tried again; ``undecided``: it has come and is not decided for long;
- ``gap``: a number never came though later ones did; ``held``: operations wait for what comes before them;
- ``silent``: its crew is on duty or holds jobs, and it has not called; ``unsent``: it still holds operations;
- ``unheard``: outcomes that have not been handed to it; ``no_first_sync``: it has never pulled to the end;
- ``upgrade_needed``, ``upgrade_soon``: its app is too old to be told anything, or will be;
- ``files``: photos that it owes; ``clock``: its clock is wrong.
"""


@dataclass(frozen=True)
class Some:
    """How many, and since when the oldest of them."""

    count: int = 0
    since: datetime | None = None


NONE = Some()


@dataclass(frozen=True)
class Standing:
    """One device on the desk. ``contact`` is its last call; ``unsent`` what it must still hold by its own last word;
    ``gap`` the first number that never came; ``handed`` counts outcomes handed to it and not confirmed yet.
    """

    device: Device
    crew: Row[Any]
    contact: datetime | None
    busy: bool
    upgrade: str
    unsent: int | None
    gap: int | None
    held: Some
    undecided: Some
    failing: Some
    files: Some
    unheard: Some
    handed: int
    problems: tuple[str, ...] = field(default=())

    @property
    def clock_off(self) -> bool:
        """Whether its clock is wrong now."""
        return _off(self.device.clock_offset_ms)

    @property
    def clock_was_off(self) -> bool:
        """Whether its clock was wrong before it changed the last time."""
        return _off(self.device.clock_former_ms)


def _off(offset_ms: int | None) -> bool:
    return offset_ms is not None and abs(timedelta(milliseconds=offset_ms)) > SUSPECT


def devices(
    crew_ids: Collection[str] | None, now: datetime, fresh: timedelta, *, revoked: bool = False
) -> list[Standing]:
    """The devices of crews, those with the gravest problems first.

    :param crew_ids: only those of these crews; None: all.
    :param fresh: how long a device may not have called before it is silent.
    :param revoked: those that are revoked instead of those that are in use.
    """
    query = select(Device, Crew.id, Crew.code, Crew.name, Crew.name_local).join(Crew, Crew.id == Device.crew_id)
    query = query.where(Device.revoked_at.is_not(None) if revoked else Device.revoked_at.is_(None))
    if crew_ids is not None:
        query = query.where(among(Device.crew_id, crew_ids))
    rows = db.session.execute(query.order_by(Crew.code, Device.id).limit(MOST)).all()
    facts = _Facts.gather(now)
    found = [_standing(row[0], cast(Row[Any], row), facts, now, fresh) for row in rows]
    return sorted(found, key=lambda one: (_gravity(one), one.crew.code))


def revoked_count(crew_ids: Collection[str] | None) -> int:
    """How many devices of these crews are revoked."""
    query = select(func.count()).select_from(Device).where(Device.revoked_at.is_not(None))
    return db.session.scalar(query if crew_ids is None else query.where(among(Device.crew_id, crew_ids))) or 0


def _gravity(one: Standing) -> tuple[int, int]:
    """Sorts by the gravest problem, then by how many there are."""
    return (PROBLEMS.index(one.problems[0]) if one.problems else len(PROBLEMS), -len(one.problems))


def counts(found: Iterable[Standing]) -> dict[str, int]:
    """Problem → how many devices have it."""
    numbers = dict.fromkeys(PROBLEMS, 0)
    for one in found:
        for problem in one.problems:
            numbers[problem] += 1
    return numbers


@dataclass(frozen=True)
class _Facts:
    """What waits, per device, and which crews are busy."""

    held: dict[str, Some]
    waiting: dict[str, dict[str, Some]]
    files: dict[str, Some]
    unheard: dict[str, tuple[Some, int]]
    received: dict[str, int]
    gaps: dict[str, int]
    busy: set[str]

    @classmethod
    def gather(cls, now: datetime) -> _Facts:
        return cls(_held(), _waiting(), _files(), _unheard(), _received(), _gaps(), _busy(now))


_op = InboxOperation


# Grouped by install, of which each belongs to one device: that is the order of the small indexes of what waits.
_owner = func.min(_op.device_id)


def _held() -> dict[str, Some]:
    rows = select(_owner, func.count(), func.min(_op.received_at)).where(HELD).group_by(_op.install_id)
    return {device_id: Some(count, since) for device_id, count, since in db.session.execute(rows)}


def _waiting() -> dict[str, dict[str, Some]]:
    """Device → status → how many have come and are not decided, though nothing is missing."""
    rows = select(_owner, _op.status, func.count(), func.min(_op.received_at)).where(WAITING)
    found: dict[str, dict[str, Some]] = {}
    for device_id, status, count, since in db.session.execute(rows.group_by(_op.install_id, _op.status)):
        found.setdefault(device_id, {})[status] = Some(count, since)
    return found


def owed() -> Select[Attachment]:
    """Files that operations require and that have not come; of one that was named again only the latest."""
    later = aliased(Attachment)
    again = exists().where(
        later.device_id == Attachment.device_id, later.attachment_id == Attachment.attachment_id,
        later.id > Attachment.id,
    )  # fmt: skip
    return select(Attachment).where(OWED, ~again)


def _files() -> dict[str, Some]:
    columns = (Attachment.device_id, func.count(), func.min(Attachment.named_at))
    rows = owed().with_only_columns(*columns).group_by(Attachment.device_id)
    return {device_id: Some(count, since) for device_id, count, since in db.session.execute(rows)}


def _outcomes(beyond: Any) -> Any:
    """The outcomes in the own feed of a device that come after ``beyond``."""
    return and_(
        SyncFeed.scope == literal(outcomes.device_scope("")) + Device.id,
        SyncFeed.seq > func.coalesce(beyond, 0),
        SyncFeed.entity == "outcome",
    )


# One look into the index of a long table per device, rather than a join that may read all of it.


def _unheard() -> dict[str, tuple[Some, int]]:
    """Device → outcomes that were not handed to it, and how many were and are not confirmed."""
    fresh = select(func.count()).where(_outcomes(Device.told_seq)).correlate(Device)
    beyond = select(func.count()).where(_outcomes(Device.seen_seq)).correlate(Device)
    since = select(func.min(_op.decided_at)).join(SyncFeed, SyncFeed.entity_id == _op.op_id)
    since = since.where(_outcomes(Device.told_seq)).correlate(Device)
    columns = (Device.id, fresh.scalar_subquery(), since.scalar_subquery(), beyond.scalar_subquery())
    rows = db.session.execute(select(*columns).where(Device.revoked_at.is_(None)))
    return {row[0]: (Some(row[1], row[2]), row[3] - row[1]) for row in rows}


def _received() -> dict[str, int]:
    """Device → how many operations have come since it said that it still holds some."""
    come = select(func.count()).where(_op.device_id == Device.id, _op.received_at >= Device.pending_at)
    query = select(Device.id, come.correlate(Device).scalar_subquery()).where(Device.pending > 0)
    return {device_id: count for device_id, count in db.session.execute(query)}  # noqa: C416 - a row is no pair to mypy


def _gaps() -> dict[str, int]:
    """Device → the first number of its present install that never came though later ones did."""
    query = (
        select(Device.id, Install.next_seq)
        .join(Install, Install.install_id == Device.install_id)
        .where(Install.last_seq >= Install.next_seq)
    )
    return {device_id: number for device_id, number in db.session.execute(query)}  # noqa: C416


def _busy(now: datetime) -> set[str]:
    """Crews that are on duty, or hold jobs."""
    on_duty = select(Shift.crew_id).where(Shift.starts_at <= now, Shift.ends_at > now)
    holding = select(Job.crew_id).where(Job.status.in_(ACTIVE), Job.crew_id.is_not(None)).distinct()
    return {*db.session.scalars(on_duty), *(crew_id for crew_id in db.session.scalars(holding) if crew_id)}


def _standing(device: Device, crew: Row[Any], facts: _Facts, now: datetime, fresh: timedelta) -> Standing:
    waiting = facts.waiting.get(device.id, {})
    unheard, handed = facts.unheard.get(device.id, (NONE, 0))
    unsent = None if device.pending is None else max(0, device.pending - facts.received.get(device.id, 0))
    one = Standing(
        device=device,
        crew=crew,
        contact=max(filter(None, (device.last_seen_at, device.pulled_at)), default=None),
        busy=crew.id in facts.busy,
        upgrade=enrolled.end_of_life(device.platform, device.app_version, device.schema_version, now.date()),
        unsent=unsent,
        gap=facts.gaps.get(device.id),
        held=facts.held.get(device.id, NONE),
        undecided=waiting.get("accepted", NONE),
        failing=waiting.get("retrying", NONE),
        files=facts.files.get(device.id, NONE),
        unheard=unheard,
        handed=handed,
    )
    return _with(one, tuple(_problems(one, now, fresh)))


def _with(one: Standing, problems: tuple[str, ...]) -> Standing:
    ordered = tuple(sorted(problems, key=PROBLEMS.index))
    return Standing(**{**one.__dict__, "problems": ordered})


def _problems(one: Standing, now: datetime, fresh: timedelta) -> Iterator[str]:
    if one.device.revoked_at is not None:
        return
    late = one.undecided.since is not None and now - one.undecided.since > SLOW
    for problem, there in (
        ("failing", one.failing.count),
        ("gap", one.gap is not None),
        ("held", one.held.count),
        ("undecided", late),
        ("silent", one.busy and (one.contact is None or now - one.contact > fresh)),
        ("unsent", one.unsent),
        ("unheard", one.unheard.count),
        ("upgrade_needed", one.upgrade == "hard_eol"),
        ("no_first_sync", one.device.pulled_at is None),
        ("files", one.files.count),
        ("clock", one.clock_off),
        ("upgrade_soon", one.upgrade == "soft_eol"),
    ):
        if there:
            yield problem


WAITS = {"held": HELD, "undecided": WAITING}
"""What operations wait for: for something that comes before them, or to be decided."""


def waiting(crew_ids: Collection[str] | None, state: str) -> Select[InboxOperation]:
    """Operations that wait, by :data:`WAITS`, of the devices of these crews; to be ordered and paged by the caller."""
    return _of_crews(select(_op).where(WAITS[state]).join(Device, Device.id == _op.device_id), crew_ids)


def unheard(crew_ids: Collection[str] | None) -> Select[InboxOperation]:
    """Decided operations whose device cannot know it yet: their outcome has not been handed to it, or it has not shown
    that it holds it; to be ordered and paged by the caller.
    """
    # an outer join, so that SQLite begins with the devices: there are few of them, and the feed is long
    told = select(SyncFeed.entity_id).select_from(Device).outerjoin(SyncFeed, _outcomes(Device.seen_seq))
    told = told.where(Device.revoked_at.is_(None))
    return select(_op).where(_op.op_id.in_(_of_crews(told, crew_ids)))


def files(crew_ids: Collection[str] | None) -> Select[Attachment]:
    """Files that devices of these crews owe; to be ordered and paged by the caller."""
    return _of_crews(owed().join(Device, Device.id == Attachment.device_id), crew_ids)


def _of_crews(query: Select[Any], crew_ids: Collection[str] | None) -> Select[Any]:
    return query if crew_ids is None else query.where(among(Device.crew_id, crew_ids))


def latest(device_id: str) -> Select[InboxOperation]:
    """The operations of one device, to be ordered and paged by the caller."""
    return select(_op).where(_op.device_id == device_id)


def forced_at(row: InboxOperation, now: datetime) -> datetime:
    """When an operation that is held will be decided without what it waits for, by the rules of today."""
    return row.received_at + sweep.patience(row.kind, now)


def numbered(rows: Sequence[Any]) -> dict[str, Any]:
    """Jobs by their ids: those that ``rows`` are about."""
    ids = sorted({row.entity_id for row in rows if row.entity == "job"})
    return {job.id: job for job in db.session.scalars(select(Job).where(Job.id.in_(ids)))}
