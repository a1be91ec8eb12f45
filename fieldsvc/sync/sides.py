"""The two sides of a review as they stand now: what the device sent and had seen, and what is on record, since when and
by whom. What the record was when the operation was judged is kept with the review itself.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import msgspec
from sqlalchemy import select

from fieldsvc.base.db import db
from fieldsvc.base.plain import plain
from fieldsvc.history.models import HistoryEntry
from fieldsvc.people.models import Crew, Device, Staff
from fieldsvc.records.models import Customer
from fieldsvc.sync.envelope import decode
from fieldsvc.sync.models import InboxOperation, Review
from fieldsvc.work.models import Job


def sent(row: InboxOperation) -> dict[str, Any]:
    """What the device sent, what it had seen (``base_rev``, ``was``), and by which clocks."""
    op = decode(row.body)
    crew = db.session.get(Crew, row.crew_id)
    return {
        "crew_name": crew.name if crew else None,
        "payload": op.payload,
        "was": op.was,
        "set": op.set,
        "base_rev": op.base_rev,
        "assignment_rev": op.assignment_rev,
        "depends_on": op.depends_on,
        "attachments": msgspec.to_builtins(op.attachments),
        "app_version": op.app_version,
        "times": {
            "device": row.occurred_at_device,
            "estimated": plain(row.estimated_at),
            "received": plain(row.received_at),
        },
        "clock_suspect": row.clock_suspect,
    }


def on_record(review: Review, row: InboxOperation) -> dict[str, Any] | None:
    """What is on record now: the revision, and of each field that matters here its value, when it got it and by whom.

    Those are the fields the device edited, and what others changed after the revision it had seen. None: there is no
    such job or customer.
    """
    op = decode(row.body)
    edited = {*(op.set or ()), *(op.was or ())}
    if review.entity == "job":
        job = db.session.get(Job, review.entity_id)
        if job is None:
            return None
        about = {"status": job.status, "crew_id": job.crew_id, "assignment_rev": job.assignment_rev}
        values = {**job.details, **{name: getattr(job, name) for name in job.field_revs if hasattr(job, name)}}
        values |= {name: getattr(job, name) for name in edited if name in Job.__table__.columns}
        return {"rev": job.rev, **about, "fields": _fields(values, job.field_revs, edited, op.base_rev, row.install_id)}
    customer = db.session.get(Customer, review.entity_id)
    if customer is None:
        return None
    values = {name: getattr(customer, name) for name in (*customer.field_revs, *edited) if hasattr(customer, name)}
    return {
        "rev": customer.rev,
        "fields": _fields(values, customer.field_revs, edited, op.base_rev, row.install_id),
    }


_LOOKED_BACK = 200
"""How many changes of a job are taken back at most to say how it was."""


def as_seen(review: Review, row: InboxOperation) -> dict[str, Any] | None:
    """What the device had seen of the job where somebody has changed it since: field -> value at its ``base_rev``.

    Taken from the history, which has one entry for each revision of a job. None: it did not say what it had seen, or
    that is too long ago.
    """
    base_rev = decode(row.body).base_rev
    job = db.session.get(Job, review.entity_id) if review.entity == "job" else None
    if job is None or base_rev is None or not 0 <= job.rev - base_rev <= _LOOKED_BACK:
        return None
    entries = db.session.execute(
        select(HistoryEntry.before)
        .where(HistoryEntry.job_id == job.id, HistoryEntry.entity == "job", HistoryEntry.entity_id == job.id)
        .order_by(HistoryEntry.seq.desc())
        .limit(job.rev - base_rev)
    )
    seen: dict[str, Any] = {}
    for (before,) in entries:
        seen |= before or {}
    return seen


def _fields(
    values: Mapping[str, Any], field_revs: Mapping[str, Any], edited: Collection[str], seen: int | None, install_id: str
) -> list[dict[str, Any]]:
    fields = []
    for name in sorted(values):
        rev, mark, at = field_revs.get(name, (None, None, None))
        others_since = rev is not None and mark != install_id and (seen is None or rev > seen)
        if name in edited or (others_since and name != "attention"):
            fields.append({"field": name, "value": plain(values[name]), "rev": rev, "at": at, "by": who(mark)})
    return fields


def who(mark: str | None) -> dict[str, Any] | None:
    """Who stands behind the mark of a field's last change (see ``Source.mark``)."""
    if mark is None:
        return None
    kind, _, ident = mark.partition(":")
    if kind == "staff":
        person = db.session.get(Staff, ident)
        return {"kind": "staff", "id": ident, "name": person.display_name if person else None}
    found = db.session.execute(
        select(Device.id, Crew.name).join(Crew, Crew.id == Device.crew_id).where(Device.install_id == mark)
    ).first()
    if found is None:
        return {"kind": "system", "id": mark, "name": None}
    return {"kind": "device", "id": found.id, "name": found.name}
