"""Reconcile: decide what devices sent, in the order they did it, and store the decision with all that follows from it.

An operation's status, the change of the job and its records, the history and the device's outcome are one
transaction: a
worker that dies anywhere leaves either all of it or nothing, and the operation is simply decided by the next one.
Operations of one install are decided one after the other under its row lock; batches make that quick.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog
from sqlalchemy import select, text, update
from sqlalchemy.orm import selectinload

from fieldsvc.base.db import Base, among, db, dumps, transaction
from fieldsvc.history.record import Source
from fieldsvc.people.models import Device
from fieldsvc.records.models import Customer
from fieldsvc.sync import attachments, outcomes, receive, verdict
from fieldsvc.sync.envelope import decode
from fieldsvc.sync.models import WAITING, InboxOperation, Install
from fieldsvc.work.models import Job

BATCH = 100
BACKOFF = (1, 2, 4, 8, 15)
"""Seconds to wait after the first, second, … failed attempt."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Drained:
    """How many operations were decided, and which other installs have work now that they waited for them."""

    decided: int
    released: tuple[str, ...] = ()


def drain(install_id: str, now: datetime, attempts: int = len(BACKOFF)) -> Drained:
    """Decide everything that waits for ``install_id``. Manages its own transactions, one per batch.

    An operation that fails for a reason of ours is tried again later, at most ``attempts`` times, then parked where a
    dispatcher sees it; what the device did after it waits meanwhile.
    """
    decided = 0
    released: set[str] = set()
    while True:
        try:
            with transaction():
                done, free = _batch(install_id, now, BATCH)
        except Exception:
            # one of them fails: find it by deciding one at a time, so that the others are not held up by it
            done, free = _singly(install_id, now, attempts)
        decided += done
        released |= set(free)
        if done == 0:
            return Drained(decided, tuple(sorted(released)))


def _singly(install_id: str, now: datetime, attempts: int) -> tuple[int, list[str]]:
    decided = 0
    released: list[str] = []
    for _ in range(BATCH):
        tried: list[str] = []
        try:
            with transaction():
                done, free = _batch(install_id, now, 1, tried)
        except Exception as error:
            if not tried:  # it came to nothing before an operation was taken up: none of them is to blame
                raise
            log.exception("operation-failed", install=install_id, operation=tried[0])
            with transaction():
                done, free = _record_failure(tried[0], install_id, now, attempts, type(error).__name__)
        if done == 0:
            break
        decided += done
        released += free
    return decided, released


def _waiting(install_id: str, now: datetime, limit: int) -> list[InboxOperation]:
    """The next operations in order, up to one that has to wait for its next attempt."""
    rows = db.session.scalars(
        select(InboxOperation)
        .where(InboxOperation.install_id == install_id, WAITING)
        .order_by(InboxOperation.seq, InboxOperation.op_id)
        .limit(limit)
        .execution_options(populate_existing=True)
    )
    due: list[InboxOperation] = []
    for row in rows:
        if row.retry_at is not None and row.retry_at > now:
            break
        due.append(row)
    return due


def _batch(install_id: str, now: datetime, limit: int, tried: list[str] | None = None) -> tuple[int, list[str]]:
    """Decide up to ``limit`` operations in the open transaction; answers how many and which installs to ring for.

    The ids of those that are taken up are left in ``tried``.
    """
    if _lock_install(install_id) is None:
        return 0, []
    rows = _waiting(install_id, now, limit)
    if not rows:
        return 0, []
    if tried is not None:
        tried += [row.op_id for row in rows]
    sent = {row.op_id: decode(row.body) for row in rows}
    held = _hold_entities(rows)
    platform = db.session.scalar(select(Device.platform).where(Device.id == rows[0].device_id))
    name = f"device {platform or ''}".strip()
    decided: list[dict[str, Any]] = []
    for row in rows:
        source = source_of(row, name, now)
        end = verdict.decide(source, row, sent[row.op_id])
        if sent[row.op_id].attachments:
            end = attachments.settle(source, end)
        outcomes.tell(source, end)
        decided.append(
            {
                "op_id": row.op_id,
                "status": end.outcome,
                "reason": end.reason,
                "decided_at": now,
                "retry_at": None,
                "outcome": end.doc,
            }
        )
    db.session.flush()
    del held
    _keep(rows, decided)
    released = {*receive.release_dependants([row.op_id for row in rows]), *receive.release([install_id])}
    return len(rows), sorted(released - {install_id})


def _lock_install(install_id: str) -> str | None:
    return db.session.scalar(select(Install.install_id).where(Install.install_id == install_id).with_for_update())


def _hold_entities(rows: Sequence[InboxOperation]) -> list[Base]:
    """Hold all jobs and customers of a batch at once, in the order of their ids: two batches then never wait in a
    ring. As long as the answer lives they, and the clocks of the jobs, need not be read again.
    """
    held: list[Base] = []
    for model, entity, options in ((Job, "job", [selectinload(Job.clocks)]), (Customer, "customer", [])):
        if ids := {row.entity_id for row in rows if row.entity == entity}:
            held += db.session.scalars(
                select(model)
                .where(among(model.id, sorted(ids)))
                .order_by(model.id)
                .options(*options)
                .with_for_update(of=model)
                .execution_options(populate_existing=True)
            ).all()
    return held


def _keep(rows: Sequence[InboxOperation], decided: list[dict[str, Any]]) -> None:
    """Write what became of the operations of a batch."""
    if db.session.get_bind().dialect.name == "postgresql":
        span = {"install": rows[0].install_id, "first": rows[0].seq, "last": rows[-1].seq}
        db.session.execute(_KEEP_ALL, span | {"decided": dumps(decided)})
    else:
        db.session.execute(update(InboxOperation), decided)


# The ids alone would do; the rest names the small index of what waits. By ids a plan that was made while the table was
# small, and is kept, reads all of it for every batch.
_KEEP_ALL = text(
    "UPDATE operation SET status = r.status, reason = r.reason, decided_at = r.decided_at, retry_at = NULL, "
    "outcome = r.outcome FROM jsonb_to_recordset(CAST(:decided AS jsonb)) "
    "AS r(op_id text, status text, reason text, decided_at timestamptz, outcome jsonb) "
    "WHERE operation.op_id = r.op_id AND operation.install_id = :install AND operation.seq BETWEEN :first AND :last "
    "AND operation.status IN ('accepted', 'retrying')"
)


def source_of(row: InboxOperation, name: str, now: datetime) -> Source:
    """Who is behind an operation, with its three times."""
    return Source(
        kind="device",
        recorded_at=max(now, row.received_at),  # received while this drain was under way
        id=row.device_id,
        name=name,
        crew_id=row.crew_id,
        device_id=row.device_id,
        install_id=row.install_id,
        op_id=row.op_id,
        device_at=row.occurred_at_device,
        estimated_at=row.estimated_at,
    )


def _record_failure(op_id: str, install_id: str, now: datetime, attempts: int, error: str) -> tuple[int, list[str]]:
    """Note that an operation failed; after ``attempts`` it is parked. Answers as :func:`_batch` does.

    Another worker may have decided it meanwhile: then nothing is to be noted.
    """
    _lock_install(install_id)
    query = select(InboxOperation).where(InboxOperation.op_id == op_id, WAITING)
    row = db.session.scalar(query.execution_options(populate_existing=True))
    if row is None:
        return 0, []
    row.attempts += 1
    if row.attempts < attempts:
        row.status = "retrying"
        row.retry_at = now + timedelta(seconds=BACKOFF[min(row.attempts, len(BACKOFF)) - 1])
        return 0, []
    source = source_of(row, "device", now)
    end = verdict.give_up(source, row, decode(row.body), error)
    outcomes.tell(source, end)
    row.status, row.reason, row.decided_at, row.retry_at, row.outcome = end.outcome, end.reason, now, None, end.doc
    return 1, receive.release_dependants([row.op_id])
