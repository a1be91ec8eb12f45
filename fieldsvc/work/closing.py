"""Closing: a completed job with nothing left to decide is closed after a while and leaves its crew's devices.

Completed means that the crew may leave; closed means that its records stand. What is in review stays open to be seen.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import Text, cast, select

from fieldsvc import rules
from fieldsvc.base.db import db
from fieldsvc.history.record import Source
from fieldsvc.work import change, documents, incidents
from fieldsvc.work.models import Job

AT_ONCE = 200
"""Jobs closed in one transaction; the sweep comes again."""


def close_due(now: datetime) -> int:
    """Close at most 200 jobs that were completed long enough ago; answers how many. Call inside a transaction."""
    wait = timedelta(hours=int(rules.load().tolerance("close_completed_after_hours", now.date()).value))
    due = db.session.scalars(
        select(Job)
        .where(Job.status == "completed", Job.completed_at <= now - wait, Job.updated_at <= now - wait)
        .where(cast(Job.attention, Text) == "[]")
        .order_by(Job.id)
        .limit(AT_ONCE)
        .with_for_update(skip_locked=True)
    )
    source = Source("system", now, id="system", name="fieldsvc")
    closed = 0
    over: set[str] = set()
    for job in due:
        change.apply(source, job, "job.closed", {"status": "closed"})
        if job.crew_id is not None:
            documents.take_away(job, job.crew_id, "closed")
        if job.incident_id is not None:
            over.add(job.incident_id)
        closed += 1
    incidents.close(over, now)
    return closed
