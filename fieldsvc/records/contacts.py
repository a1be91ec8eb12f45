"""Service records: every contact with a customer is kept, whoever had it."""

from __future__ import annotations

from datetime import datetime

from fieldsvc.base.clock import new_id
from fieldsvc.base.db import db
from fieldsvc.history.record import Source
from fieldsvc.records.models import ServiceRecord


def add(
    source: Source,
    customer_id: str,
    *,
    channel: str,
    subject: str,
    at: datetime,
    outcome: str | None = None,
    job_id: str | None = None,
) -> None:
    """Add one contact. The record itself is the evidence; it needs no second entry in the history."""
    db.session.add(
        ServiceRecord(
            id=new_id(),
            customer_id=customer_id,
            at=at,
            channel=channel,
            by=source.name,
            subject=subject,
            outcome=outcome,
            job_id=job_id,
            op_id=source.op_id,
        )
    )
