"""What a device has handed in, and what it must still hold: for the day it lies in a river."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select

from fieldsvc.base.db import db
from fieldsvc.people.models import Device
from fieldsvc.sync.models import HELD, WAITING, InboxOperation, Install

MOST = 50
"""How many gaps and held operations are listed."""
_AHEAD = 2000


@dataclass(frozen=True)
class Holdings:
    """``missing`` lists ``(first, last)`` of the sequence numbers that never came though later ones did; ``held`` what
    waits for them or for other devices. ``outstanding`` is how many operations the device still holds by its own last
    word, less what has come since; None when it has never said.
    """

    next_seq: int
    last_seq: int
    missing: list[tuple[int, int]]
    held: list[str]
    held_count: int
    undecided: int
    received_since: int
    outstanding: int | None
    last_received_at: datetime | None


def of(device: Device) -> Holdings:
    """What is known of ``device``. Its operations that came by the replication of other libraries count as received."""
    place = db.session.get(Install, device.install_id)
    next_seq, last_seq = (place.next_seq, place.last_seq) if place else (1, 0)
    held = select(InboxOperation.op_id).where(InboxOperation.install_id == device.install_id, HELD)
    waiting = select(func.count()).where(InboxOperation.install_id == device.install_id, WAITING)
    held_count = (
        db.session.scalar(select(func.count()).where(InboxOperation.install_id == device.install_id, HELD)) or 0
    )
    received = select(func.max(InboxOperation.received_at)).where(InboxOperation.device_id == device.id)
    since = _received_since(device)
    return Holdings(
        next_seq=next_seq,
        last_seq=max(last_seq, next_seq - 1),
        missing=_gaps(device.install_id, next_seq),
        held=list(db.session.scalars(held.order_by(InboxOperation.seq).limit(MOST))),
        held_count=held_count,
        undecided=held_count + (db.session.scalar(waiting) or 0),
        received_since=since,
        outstanding=None if device.pending is None else max(0, device.pending - since),
        last_received_at=db.session.scalar(received),
    )


def _received_since(device: Device) -> int:
    if device.pending_at is None:
        return 0
    count = select(func.count()).where(
        InboxOperation.device_id == device.id, InboxOperation.received_at >= device.pending_at
    )
    return db.session.scalar(count) or 0


def _gaps(install_id: str, next_seq: int) -> list[tuple[int, int]]:
    """Ranges of sequence numbers from ``next_seq`` on that are missing before one that is there."""
    ahead = (
        select(InboxOperation.seq)
        .where(InboxOperation.install_id == install_id, InboxOperation.seq >= next_seq)
        .order_by(InboxOperation.seq)
        .limit(_AHEAD)
    )
    gaps: list[tuple[int, int]] = []
    expected = next_seq
    for seq in db.session.scalars(ahead):
        if seq > expected:
            gaps.append((expected, seq - 1))
        expected = seq + 1
    return gaps[:MOST]
