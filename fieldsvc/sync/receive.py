"""Receive: what a device pushes is a committed inbox row before it is answered, and is never stored twice.

``accepted`` here means "kept, and nothing is missing to decide on it". What became of it is said later, in the device's
feed (see ``reconcile``). The caller opens the transaction and rings the workers after it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete, exists, insert, select, text, update

from fieldsvc.base.db import db, dumps
from fieldsvc.base.errors import FieldsvcError, Invalid
from fieldsvc.config import Settings
from fieldsvc.history.record import Source
from fieldsvc.people.models import Device
from fieldsvc.sync import outcomes
from fieldsvc.sync.envelope import Clock, Push, Read, read
from fieldsvc.sync.models import InboxOperation, Install, OperationDependency

TERMINAL = frozenset(
    {"applied", "merged", "applied_conflict", "parked", "superseded", "rejected", "forced", "resolved"}
)
"""Outcomes that end an operation's way; ``parked`` ends it for the device, a dispatcher's decision may follow."""


@dataclass(frozen=True)
class Sender:
    """The device a push came from."""

    device_id: str
    crew_id: str
    install_id: str


@dataclass(frozen=True)
class Received:
    """One result per operation, in order, and the first sequence number that is still missing."""

    results: list[dict[str, Any]]
    next_seq: int
    waiting: bool


def push(sender: Sender, message: Push, clock: Clock, settings: Settings, source: Source) -> Received:
    """Store every operation of ``message`` that is new.

    :raises FieldsvcError: ``too-large`` for more than ``settings.push_ops`` operations.
    :raises Invalid: the push names another install than the token belongs to.
    """
    if len(message.ops) > settings.push_ops:
        raise FieldsvcError(
            "too-large",
            f"{len(message.ops)} operations; a push has at most {settings.push_ops}",
            limit=settings.push_ops,
        )
    if message.install_id != sender.install_id:
        raise Invalid.field("/install_id", "is not the install this token was given to")
    if clock.offset is None:
        clock = replace(clock, offset=_last_offset(sender))
    reads = [read(bytes(raw), settings.op_bytes) for raw in message.ops]
    install = lock_install(sender)
    known = {
        row.op_id: row
        for row in db.session.execute(
            select(
                InboxOperation.op_id,
                InboxOperation.device_id,
                InboxOperation.body_sha256,
                InboxOperation.status,
                InboxOperation.outcome,
            ).where(InboxOperation.op_id.in_({item.op_id for item in reads}))
        )
    }
    fresh: dict[str, Read] = {}
    for item in reads:
        if item.op_id not in known:
            fresh.setdefault(item.op_id, item)
    placed = _place(install, list(fresh.values()))
    stored = _insert([_row(sender, item, clock, placed[item.op_id]) for item in fresh.values()])
    for item in fresh.values():
        if item.op is None and item.op_id in stored:
            outcomes.tell(source, _envelope_rejection(sender, item, clock.now))
    _note_dependencies({op_id: place for op_id, place in placed.items() if op_id in stored})
    released = _release_in_order(install)
    results = [_result(sender, item, known, fresh, placed, stored) for item in reads]
    waiting = released or any(placed[op_id].status == "accepted" for op_id in stored)
    return Received(results, install.next_seq, waiting)


def _last_offset(sender: Sender) -> timedelta | None:
    """How far the device's clock was off when it last said so."""
    offset_ms = db.session.scalar(select(Device.clock_offset_ms).where(Device.id == sender.device_id))
    return None if offset_ms is None else timedelta(milliseconds=offset_ms)


def lock_install(sender: Sender) -> Install:
    """The install's row, held until the transaction ends; made on its first push."""
    db.session.execute(
        text(
            "INSERT INTO install (install_id, device_id, next_seq) VALUES (:i, :d, 1) "
            "ON CONFLICT (install_id) DO NOTHING"
        ),
        {"i": sender.install_id, "d": sender.device_id},
    )
    return db.session.scalars(
        select(Install)
        .where(Install.install_id == sender.install_id)
        .with_for_update()
        .execution_options(populate_existing=True)
    ).one()


def next_seq(install_id: str) -> int:
    """The first sequence number of an install that is not stored."""
    return db.session.scalar(select(Install.next_seq).where(Install.install_id == install_id)) or 1


@dataclass(frozen=True)
class Place:
    """Where a new operation stands: its status, why, and the operations it waits for."""

    status: str
    reason: str | None = None
    waits_for: tuple[str, ...] = ()


def _place(install: Install, items: Sequence[Read]) -> dict[str, Place]:
    """Decide for new operations whether they are accepted, held or rejected, and move ``install.next_seq`` on."""
    here = InboxOperation.install_id == install.install_id
    ahead = db.session.scalars(select(InboxOperation.seq).where(here, InboxOperation.seq >= install.next_seq))
    seqs = {item.seq for item in items if item.seq is not None} | set(ahead)
    while install.next_seq in seqs:
        install.next_seq += 1
    missing = _missing(install, items)
    entities = {item.op.entity_id for item in items if item.op}
    waiting = {
        row.entity_id: row.op_id
        for row in db.session.execute(
            select(InboxOperation.entity_id, InboxOperation.op_id)
            .where(here, InboxOperation.status == "held", InboxOperation.entity_id.in_(entities))
            .order_by(InboxOperation.seq)
        )
    }
    placed: dict[str, Place] = {}
    for item in sorted(items, key=lambda item: item.seq or 0):
        if item.op is None:
            placed[item.op_id] = Place("rejected", item.reason)
            continue
        waits_for = missing.get(item.op_id, [])
        if item.op.entity_id in waiting:
            # what the device did later to the same job must not overtake what is held
            waits_for = [*waits_for, waiting[item.op.entity_id]]
        if waits_for:
            waiting[item.op.entity_id] = item.op_id
        held = waits_for or item.op.seq >= install.next_seq
        placed[item.op_id] = Place("held", "missing_predecessor", tuple(waits_for)) if held else Place("accepted")
    return placed


def _missing(install: Install, items: Sequence[Read]) -> dict[str, list[str]]:
    """op id -> those of its ``depends_on`` that are not terminal and do not come before it from the same install
    anyway.
    """
    wanted = {dep for item in items if item.op for dep in item.op.depends_on}
    if not wanted:
        return {}
    own = {item.op_id: item.seq for item in items if item.op}
    stored = {
        row.op_id: row
        for row in db.session.execute(
            select(InboxOperation.op_id, InboxOperation.install_id, InboxOperation.seq, InboxOperation.status).where(
                InboxOperation.op_id.in_(wanted)
            )
        )
    }
    missing: dict[str, list[str]] = {}
    for item in items:
        if item.op is None:
            continue
        for dep in item.op.depends_on:
            seq = own.get(dep)
            if seq is None and dep in stored:
                row = stored[dep]
                if row.status in TERMINAL:
                    continue
                seq = row.seq if row.install_id == install.install_id else None
            if seq is None or seq >= item.op.seq:
                missing.setdefault(item.op_id, []).append(dep)
    return missing


def _note_dependencies(placed: Mapping[str, Place]) -> None:
    rows = [
        {"op_id": op_id, "depends_on": dep} for op_id, place in placed.items() for dep in dict.fromkeys(place.waits_for)
    ]
    if rows:
        db.session.execute(insert(OperationDependency), rows)


def _release_in_order(install: Install) -> bool:
    """Accept what was held only for its place in the sequence, now that nothing before it is missing."""
    db.session.flush()
    waits = exists().where(OperationDependency.op_id == InboxOperation.op_id)
    released = db.session.execute(
        update(InboxOperation)
        .where(
            InboxOperation.install_id == install.install_id,
            InboxOperation.status == "held",
            InboxOperation.seq < install.next_seq,
            ~waits,
        )
        .values(status="accepted", reason=None)
        .execution_options(synchronize_session=False)
    )
    return released.rowcount > 0  # type: ignore[attr-defined,no-any-return]


def release_dependants(op_ids: Sequence[str]) -> list[str]:
    """Operations that waited for ``op_ids``, which are terminal now, and for nothing else, are accepted.

    Answers the installs to ring for.
    """
    dependants = list(
        db.session.scalars(
            select(OperationDependency.op_id).where(OperationDependency.depends_on.in_(op_ids)).distinct()
        )
    )
    if not dependants:
        return []
    db.session.execute(delete(OperationDependency).where(OperationDependency.depends_on.in_(op_ids)))
    waits = exists().where(OperationDependency.op_id == InboxOperation.op_id)
    free = db.session.execute(
        select(InboxOperation.op_id, InboxOperation.install_id)
        .join(Install, Install.install_id == InboxOperation.install_id)
        .where(
            InboxOperation.op_id.in_(dependants),
            InboxOperation.status == "held",
            InboxOperation.seq < Install.next_seq,
            ~waits,
        )
    ).all()
    if free:
        db.session.execute(
            update(InboxOperation)
            .where(InboxOperation.op_id.in_([row.op_id for row in free]))
            .values(status="accepted", reason=None)
            .execution_options(synchronize_session=False)
        )
    return sorted({row.install_id for row in free})


def _row(sender: Sender, item: Read, clock: Clock, place: Place) -> dict[str, Any]:
    op = item.op
    row = {
        "op_id": item.op_id,
        "device_id": sender.device_id,
        "crew_id": sender.crew_id,
        "install_id": sender.install_id,
        "seq": item.seq or 0,
        "kind": op.kind if op else "unreadable",
        "entity": op.entity if op else "",
        "entity_id": op.entity_id if op else "",
        "body": item.body,
        "body_sha256": item.sha256,
        "depends_on": op.depends_on or None if op else None,
        "occurred_at_device": op.occurred_at if op else None,
        "estimated_at": clock.estimate(item.claimed, op) if op and item.claimed else clock.now,
        "received_at": clock.now,
        "clock_suspect": clock.suspect,
        "status": place.status,
        "reason": place.reason,
        "attempts": 0,
        "decided_at": None,
        "outcome": None,
    }
    if op is None:
        row["decided_at"] = clock.now
        row["outcome"] = _envelope_rejection(sender, item, clock.now).doc
    return row


def _envelope_rejection(sender: Sender, item: Read, now: datetime) -> outcomes.Outcome:
    return outcomes.Outcome(
        op_id=item.op_id,
        device_id=sender.device_id,
        kind="unreadable",
        entity="",
        entity_id="",
        outcome="rejected",
        reason=item.reason,
        errors=item.errors,
        decided_at=now,
    )


def _insert(rows: list[dict[str, Any]]) -> set[str]:
    """Insert the rows; answers the ids that were new. A row that another device stored meanwhile is left alone."""
    if not rows:
        return set()
    if db.session.get_bind().dialect.name == "postgresql":
        return set(db.session.scalars(_INSERT_ALL, {"rows": dumps(rows)}))
    db.session.execute(insert(InboxOperation), rows)
    return {row["op_id"] for row in rows}


_COLUMNS = {
    "op_id": "text",
    "device_id": "text",
    "crew_id": "text",
    "install_id": "text",
    "seq": "bigint",
    "kind": "text",
    "entity": "text",
    "entity_id": "text",
    "body": "text",
    "body_sha256": "text",
    "depends_on": "jsonb",
    "occurred_at_device": "text",
    "estimated_at": "timestamptz",
    "received_at": "timestamptz",
    "clock_suspect": "boolean",
    "status": "text",
    "reason": "text",
    "attempts": "integer",
    "decided_at": "timestamptz",
    "outcome": "jsonb",
}
# One JSON parameter carries the whole push: one statement, and RETURNING says per row whether it was new.
_INSERT_ALL = text(
    f"INSERT INTO operation ({', '.join(_COLUMNS)}) SELECT {', '.join(_COLUMNS)} "
    f"FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r({', '.join(f'{n} {t}' for n, t in _COLUMNS.items())}) "
    "ON CONFLICT (op_id) DO NOTHING RETURNING op_id"
)


def _result(
    sender: Sender,
    item: Read,
    known: dict[str, Any],
    fresh: dict[str, Read],
    placed: Mapping[str, Place],
    stored: set[str],
) -> dict[str, Any]:
    result: dict[str, Any] = {"op_id": item.op_id}
    row = known.get(item.op_id)
    if row is not None:
        if row.device_id != sender.device_id or row.body_sha256 != item.sha256:
            return result | {"status": "id_reuse"}
        return result | {"status": "duplicate", "outcome": row.outcome or {"op_id": item.op_id, "outcome": row.status}}
    first = fresh[item.op_id]
    if item.op_id not in stored or first.sha256 != item.sha256:
        return result | {"status": "id_reuse"}
    place = placed[item.op_id]
    if first is not item:
        return result | {"status": "duplicate", "outcome": {"op_id": item.op_id, "outcome": place.status}}
    result["status"] = place.status
    if place.reason is not None:
        result["reason"] = place.reason
    if item.errors:
        result["errors"] = list(item.errors)
    return result
