"""What is on record around a job, loaded for the rules (see ``kinds.base.Situation``)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from fieldsvc import rules
from fieldsvc.base.db import db
from fieldsvc.kinds import lifecycle
from fieldsvc.kinds.base import Operation, Situation
from fieldsvc.records import defects, meters
from fieldsvc.records.models import Customer, UsagePoint
from fieldsvc.rules import NoRule
from fieldsvc.work.models import Job

BARE = (lifecycle.STEPS - {"job.complete"}) | {"note.add", "job.update"}
"""Operations that are decided on the job alone: nothing else is loaded for them."""


def load(
    op: Operation, job: Job, now: datetime, waived: frozenset[str] = frozenset(), *, hold: bool = True
) -> Situation:
    """The situation of ``job`` as far as ``op`` needs it; ``hold`` keeps the meter until the transaction ends."""
    facts = job_facts(job)
    book = rules.load()
    if op.kind in BARE:
        return Situation(job=facts, rules=book, now=now, waived=waived)
    customer = db.session.get(Customer, job.customer_id) if job.customer_id else None
    usage_point = db.session.get(UsagePoint, job.usage_point_id) if job.usage_point_id else None
    installation = meters.installed_at(usage_point.id, hold=hold) if usage_point else None
    assets = set(_named(op.payload, "asset_no"))
    seals = set(_seal_numbers(op.payload))
    return Situation(
        job=facts,
        rules=book,
        now=now,
        usage_point={"id": usage_point.id, "number": usage_point.number} if usage_point else None,
        customer={"id": customer.id, "number": customer.number, "importance": customer.importance}
        if customer
        else None,
        installation=meters.installation_facts(installation) if installation else None,
        meter_by_asset=meters.by_asset(assets) if assets else {},
        seals=meters.seals_at(usage_point.id) if usage_point else (),
        seal_numbers_in_use=meters.seal_numbers_in_use(seals) if seals else frozenset(),
        seals_elsewhere=meters.seals_elsewhere(seals, usage_point.id) if seals and usage_point else frozenset(),
        defects=defects.facts_at(job.usage_point_id, job.customer_id) if usage_point or customer else (),
        checklist=_checklist(job),
        waived=waived,
    )


def job_facts(job: Job) -> dict[str, Any]:
    """The job as the rules see it."""
    return {
        "id": job.id,
        "kind": job.kind,
        "status": job.status,
        "title": job.title,
        "details": job.details,
        "result": job.result,
        "checkpoints": job.details.get("checkpoints", {}),
        "site_class": job.site_class,
        "created_at": job.created_at,
        "reported_at": job.reported_at,
    }


def _checklist(job: Job) -> dict[str, Any] | None:
    """The version the job was made with: what the crew holds, whatever has come into force since."""
    if job.checklist is None or job.checklist_version is None:
        return None
    try:
        found: dict[str, Any] = rules.load().checklist_version(job.checklist, job.checklist_version).value
        return found
    except NoRule:
        return None


def _named(value: Any, name: str) -> Iterator[str]:
    """Every text under a member called ``name``, at any depth of a payload that has been bounded by the envelope."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            found = item.get(name)
            if isinstance(found, str):
                yield found[:80]
            waiting += item.values()
        elif isinstance(item, list):
            waiting += item


def _seal_numbers(payload: Any) -> Iterator[str]:
    for block in (payload, *(payload.values() if isinstance(payload, dict) else ())):
        seals = block.get("seals") if isinstance(block, dict) else None
        for seal in seals if isinstance(seals, list) else ():
            number = seal.get("number") if isinstance(seal, dict) else seal
            if isinstance(number, str):
                yield number[:80]
