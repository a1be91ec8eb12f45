"""What a device holds of a job: the job itself and everything the crew needs around it while there is no coverage.

A document is written for the crew's screen, not copied from the tables: the customer document has the phone because the
crew calls from the gate; it has nothing that a crew does not use.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import select

from fieldsvc import rules
from fieldsvc.base.db import db
from fieldsvc.base.plain import plain
from fieldsvc.feed import publish
from fieldsvc.records import documents as records
from fieldsvc.records.models import Customer, Defect, MeterInstallation, Seal, UsagePoint
from fieldsvc.work.models import Job

GONE = ("cancelled", "closed")
"""States in which a job is no longer shown to its crew."""


def crew_scope(crew_id: str) -> str:
    """The feed scope all devices of a crew read."""
    return f"crew:{crew_id}"


def job_doc(job: Job) -> dict[str, Any]:
    """A job as its crew sees it, JSON-ready."""
    doc: dict[str, Any] = {name: plain(getattr(job, name)) for name in _JOB_FIELDS}
    if job.lon is not None and job.lat is not None:
        doc["position"] = {"type": "Point", "coordinates": [job.lon, job.lat]}
    return doc


_JOB_FIELDS = (
    "id number kind status priority title description hazards access_note contact_phone notes tags address site_class "
    "territory_id customer_id usage_point_id crew_id assignment_rev planned_start planned_order service_minutes "
    "window_start window_end due_at checklist checklist_version details result completed_at attention rev"
).split()


def show(job: Job) -> None:
    """Publish the job as it is now to the crew that has it."""
    if job.crew_id is not None:
        publish.put([crew_scope(job.crew_id)], "job", job.id, job.rev, job_doc(job))


def hand_out(job: Job) -> None:
    """Publish the job and its surroundings (customer, usage point, meter, seals, open defects) to its new crew."""
    assert job.crew_id is not None
    scopes = [crew_scope(job.crew_id)]
    show(job)
    for entity, entity_id, rev, doc in _surroundings(job):
        publish.put(scopes, entity, entity_id, rev, doc)
    if job.checklist is not None and job.checklist_version is not None:
        _hand_out_checklist(scopes[0], job.checklist, job.checklist_version)


def _hand_out_checklist(scope: str, name: str, version: int) -> None:
    """A version of a checklist never changes, so a crew gets it once and keeps it."""
    checklist_id = f"{name}@{version}"
    if scope in publish.holders("checklist", [checklist_id]).get(checklist_id, ()):
        return
    answer = rules.load().checklist_version(name, version)
    publish.put([scope], "checklist", checklist_id, version, {**answer.value, "source": answer.source})


def take_away(job: Job, crew_id: str, reason: str) -> None:
    """Tell a crew that the job is no longer theirs, and what only that job had brought them."""
    scope = crew_scope(crew_id)
    publish.leave(scope, "job", job.id, job.rev, reason)
    if job.customer_id is None and job.usage_point_id is None:
        return
    kept = db.session.execute(
        select(Job.customer_id, Job.usage_point_id).where(
            Job.crew_id == crew_id, Job.id != job.id, Job.status.not_in(GONE), Job.customer_id == job.customer_id
        )
    ).all()
    for entity, entity_id, rev, _doc in _surroundings(job):
        needed = kept if entity == "customer" else [row for row in kept if row.usage_point_id == job.usage_point_id]
        if not needed:
            publish.leave(scope, entity, entity_id, rev, reason)


def _surroundings(job: Job) -> list[tuple[str, str, int, dict[str, Any]]]:
    found: list[tuple[str, str, int, dict[str, Any]]] = []
    if job.customer_id is not None:
        customer = db.session.get_one(Customer, job.customer_id)
        found.append(("customer", customer.id, customer.rev, records.customer_doc(customer)))
    if job.usage_point_id is not None:
        found += usage_point_documents(db.session.get_one(UsagePoint, job.usage_point_id))
    return found


def usage_point_documents(usage_point: UsagePoint) -> list[tuple[str, str, int, dict[str, Any]]]:
    """The documents of a usage point: itself, its meter, the seals fitted there, its open defects."""
    installation = db.session.scalar(
        select(MeterInstallation).where(
            MeterInstallation.usage_point_id == usage_point.id, MeterInstallation.removed_at.is_(None)
        )
    )
    found: list[tuple[str, str, int, dict[str, Any]]] = [
        ("usage_point", usage_point.id, usage_point.rev, records.usage_point_doc(usage_point, installation))
    ]
    if installation is not None:
        found.append(("meter", installation.meter_id, installation.meter.rev, records.meter_doc(installation)))
    for seal in db.session.scalars(
        select(Seal).where(Seal.usage_point_id == usage_point.id, Seal.removed_at.is_(None)).order_by(Seal.number)
    ):
        found.append(("seal", seal.id, seal.rev, records.seal_doc(seal)))
    for defect in db.session.scalars(
        select(Defect).where(Defect.usage_point_id == usage_point.id, Defect.state == "open").order_by(Defect.id)
    ):
        found.append(("defect", defect.id, defect.rev, records.defect_doc(defect)))
    return found


def refresh_surroundings(job: Job) -> None:
    """Publish a usage point's surroundings again after the records changed, to its crew and to all who hold them."""
    if job.usage_point_id is None:
        return
    scopes = [crew_scope(job.crew_id)] if job.crew_id else []
    for entity, entity_id, rev, doc in usage_point_documents(db.session.get_one(UsagePoint, job.usage_point_id)):
        publish.put(scopes, entity, entity_id, rev, doc)
        publish.refresh(entity, entity_id, rev, doc)


def retire(entity: str, ids: list[str]) -> None:
    """Tell all holders that records are no longer at their usage point (meter taken off, seal removed, defect
    closed).
    """
    for entity_id, scopes in publish.holders(entity, ids).items():
        for scope in scopes:
            publish.leave(scope, entity, entity_id, 0, "removed")
