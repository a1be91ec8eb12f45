"""The sweep: find what nobody was told of or that was left behind, so that a lost ring delays work and loses none."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import or_, select

from fieldsvc.base.db import db
from fieldsvc.sync import receive
from fieldsvc.sync.models import InboxOperation, Install, OperationDependency

INSTALLS = 500


def due(now: datetime) -> list[str]:
    """At most 500 installs with operations that wait to be decided; call inside a transaction.

    Also releases operations whose last missing predecessor was decided, or stored, while they were being stored.
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
