"""The sweep: find what nobody was told of or that was left behind, so that a lost ring delays work and loses none."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import delete, or_, select, update

from fieldsvc import rules
from fieldsvc.base.db import db
from fieldsvc.sync import receive
from fieldsvc.sync.models import InboxOperation, Install, OperationDependency

INSTALLS = 500
FORCED_AT_ONCE = 200


def force_overdue(now: datetime) -> int:
    """Let operations be decided that were held for longer than the rule pack allows their kind; answers how many.

    Whatever comes of it is visible: outcome ``forced``, a review and history. Call inside a transaction.
    """
    held = db.session.execute(
        select(InboxOperation.op_id, InboxOperation.kind, InboxOperation.received_at)
        .where(InboxOperation.status == "held", InboxOperation.received_at <= now - patience("*", now))
        .order_by(InboxOperation.received_at, InboxOperation.seq)
        .limit(FORCED_AT_ONCE)
    )
    overdue = [row.op_id for row in held if row.received_at <= now - patience(row.kind, now)]
    if overdue:
        db.session.execute(delete(OperationDependency).where(OperationDependency.op_id.in_(overdue)))
        db.session.execute(
            update(InboxOperation)
            .where(InboxOperation.op_id.in_(overdue), InboxOperation.status == "held")
            .values(status="accepted", reason=None, forced=True)
            .execution_options(synchronize_session=False)
        )
    return len(overdue)


def patience(op_kind: str, now: datetime) -> timedelta:
    """How long an operation may be held; for ``*`` the shortest time of any kind."""
    hours = {kind: answer.value for kind, answer in rules.load().holds(now.date()).items()}
    return timedelta(hours=min(hours.values()) if op_kind == "*" else hours.get(op_kind, hours["*"]))


def due(now: datetime) -> list[str]:
    """At most 500 installs with operations that wait to be decided; call inside a transaction.

    Also releases operations whose last missing predecessor was decided, or stored, while they were being stored, and
    those that have been held for too long.
    """
    ended = list(
        db.session.scalars(
            select(OperationDependency.depends_on)
            .join(InboxOperation, InboxOperation.op_id == OperationDependency.depends_on)
            .where(InboxOperation.status.in_(receive.TERMINAL))
            .distinct()
            .limit(INSTALLS)
        )
    )
    if ended:
        receive.release_dependants(ended)
    force_overdue(now)
    stranded = db.session.scalars(
        select(InboxOperation.install_id)
        .join(Install, Install.install_id == InboxOperation.install_id)
        .where(InboxOperation.status == "held", InboxOperation.seq < Install.next_seq, ~receive.WAITS)
        .distinct()
        .limit(INSTALLS)
    ).all()
    if stranded:
        receive.release(stranded)
    return list(
        db.session.scalars(
            select(InboxOperation.install_id)
            .where(
                InboxOperation.status.in_(("accepted", "retrying")),
                or_(InboxOperation.retry_at.is_(None), InboxOperation.retry_at <= now),
            )
            .distinct()
            .order_by(InboxOperation.install_id)
            .limit(INSTALLS)
        )
    )
