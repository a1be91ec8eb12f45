"""The way of each operation of a job: done on the device, received, decided, and its crew told what became of it.

For people who must not take "it arrived" for "it was applied", nor either for "the crew knows".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import msgspec
from sqlalchemy import Select, func, literal, select

from fieldsvc.base.db import db
from fieldsvc.feed.models import SyncFeed
from fieldsvc.people.models import Crew, Device
from fieldsvc.sync import outcomes
from fieldsvc.sync.envelope import decode
from fieldsvc.sync.models import Attachment, InboxOperation, Install, OperationDependency, Review

UNDECIDED = ("accepted", "retrying", "held")
"""How operations stand that have no outcome yet."""
_RIGHT = ("verified", "unreadable")


@dataclass(frozen=True)
class Wait:
    """What an operation that is held waits for: ``number``, the first operation of its own device that has not come,
    and ``op_ids``, operations of others.
    """

    number: int | None
    op_ids: tuple[str, ...]


class Told(StrEnum):
    """How far an outcome has come to its device: ``handed`` to it, and ``held`` by it, which a later pull has shown."""

    HANDED = "handed"
    HELD = "held"


@dataclass(frozen=True)
class Journey:
    """One operation with all that is known of its way.

    ``content`` is what the device says: its payload, or ``was`` and ``set``. ``files`` and ``lacking`` count the files
    that it names, and those of them that are required and have not come. ``told``: whether its device has been told
    what became of it; None: not yet.
    """

    row: InboxOperation
    crew: Crew | None
    device: Device
    content: dict[str, Any]
    base_rev: int | None
    waits: Wait | None
    reviews: tuple[Review, ...]
    files: int
    lacking: int
    told: Told | None

    @property
    def decided(self) -> bool:
        """Whether there is an outcome."""
        return self.row.status not in UNDECIDED

    @property
    def receipt(self) -> str | None:
        """The signed statement of what became of it (see :mod:`fieldsvc.sync.receipts`)."""
        return (self.row.outcome or {}).get("receipt")


def of_job(job_id: str) -> Select[InboxOperation]:
    """The operations on a job, to be ordered and paged by the caller."""
    return select(InboxOperation).where(InboxOperation.entity == "job", InboxOperation.entity_id == job_id)


def undecided(job_id: str) -> int:
    """How many operations on a job have come and have no outcome yet."""
    waiting = of_job(job_id).where(InboxOperation.status.in_(UNDECIDED)).with_only_columns(func.count())
    return db.session.scalar(waiting) or 0


def untold(job_id: str) -> int:
    """How many operations on a job are decided and their devices have not been handed the outcome."""
    place = (SyncFeed.entity == "outcome") & (SyncFeed.entity_id == InboxOperation.op_id)
    place &= SyncFeed.scope == literal(outcomes.device_scope("")) + InboxOperation.device_id
    behind = SyncFeed.seq > func.coalesce(Device.told_seq, 0)
    forgotten = SyncFeed.seq.is_(None) & (InboxOperation.decided_at >= Device.pulled_at)
    query = (
        select(func.count())
        .select_from(InboxOperation)
        .join(Device, Device.id == InboxOperation.device_id)
        .outerjoin(SyncFeed, place)
        .where(InboxOperation.entity == "job", InboxOperation.entity_id == job_id)
        .where(InboxOperation.status.not_in(UNDECIDED), Device.pulled_at.is_(None) | behind | forgotten)
    )
    return db.session.scalar(query) or 0


def told(rows: Sequence[InboxOperation]) -> list[Journey]:
    """The way of each of ``rows``, in their order; a fixed number of statements."""
    ids = [row.op_id for row in rows]
    crews = _by(Crew.id, {row.crew_id for row in rows})
    devices = _by(Device.id, {row.device_id for row in rows})
    waits = _waits([row for row in rows if row.status == "held"])
    reviews: dict[str, list[Review]] = {}
    for review in db.session.scalars(select(Review).where(Review.op_id.in_(ids)).order_by(Review.created_at)):
        reviews.setdefault(review.op_id, []).append(review)
    files: dict[str, list[Attachment]] = {}
    for file in db.session.scalars(select(Attachment).where(Attachment.op_id.in_(ids))):
        files.setdefault(file.op_id, []).append(file)
    places = _places(rows)
    found = []
    for row in rows:
        content, base_rev = _content(row)
        named = files.get(row.op_id, [])
        found.append(
            Journey(
                row,
                crews.get(row.crew_id),
                devices[row.device_id],
                content,
                base_rev,
                waits.get(row.op_id),
                tuple(reviews.get(row.op_id, ())),
                len(named),
                sum(file.required and file.state not in _RIGHT for file in named),
                _told(row, devices[row.device_id], places.get(row.op_id)),
            )
        )
    return found


def _places(rows: Sequence[InboxOperation]) -> dict[str, int]:
    """Operation -> where its outcome stands in the feed of its device."""
    scopes = {outcomes.device_scope(row.device_id) for row in rows}
    found = select(SyncFeed.entity_id, SyncFeed.seq).where(
        SyncFeed.scope.in_(scopes), SyncFeed.entity == "outcome", SyncFeed.entity_id.in_([row.op_id for row in rows])
    )
    return {op_id: seq for op_id, seq in db.session.execute(found)}  # noqa: C416 - a row is no pair to mypy


def _told(row: InboxOperation, device: Device, place: int | None) -> Told | None:
    """An outcome that the feed no longer tells of was told when its device has been there since."""
    if row.status in UNDECIDED or device.pulled_at is None:
        return None
    if place is None:
        return Told.HELD if row.decided_at is not None and row.decided_at < device.pulled_at else None
    if place <= (device.seen_seq or 0):
        return Told.HELD
    return Told.HANDED if place <= (device.told_seq or 0) else None


def _by(key: Any, wanted: Iterable[str]) -> dict[str, Any]:
    model = key.class_
    return {found.id: found for found in db.session.scalars(select(model).where(key.in_(sorted(wanted))))}


def _content(row: InboxOperation) -> tuple[dict[str, Any], int | None]:
    """What the device says, and the revision it had seen; nothing of what cannot be read any more."""
    try:
        op = decode(row.body)
    except (msgspec.MsgspecError, LookupError, ValueError):
        return {}, None
    if op.set is not None or op.was is not None:
        return {"was": op.was or {}, "set": op.set or {}}, op.base_rev
    return op.payload or {}, op.base_rev


def _waits(held: Sequence[InboxOperation]) -> dict[str, Wait]:
    if not held:
        return {}
    others: dict[str, list[str]] = {}
    deps = select(OperationDependency).where(OperationDependency.op_id.in_([row.op_id for row in held]))
    for dep in db.session.scalars(deps.order_by(OperationDependency.depends_on)):
        others.setdefault(dep.op_id, []).append(dep.depends_on)
    installs = select(Install.install_id, Install.next_seq)
    installs = installs.where(Install.install_id.in_({row.install_id for row in held}))
    next_seq: dict[str, int] = dict(db.session.execute(installs).all())
    found = {}
    for row in held:
        number = next_seq.get(row.install_id)
        own = number if number is not None and number < row.seq else None
        found[row.op_id] = Wait(own, tuple(others.get(row.op_id, ())))
    return found
