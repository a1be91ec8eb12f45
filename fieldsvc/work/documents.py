"""What a device holds of a job: the job itself and everything the crew needs around it while there is no coverage.

A document is written for the crew's screen, not copied from the tables: the customer document has the phone because the
crew calls from the gate; it has nothing that a crew does not use.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import Select, select

from fieldsvc import rules
from fieldsvc.base.db import db
from fieldsvc.base.plain import plain
from fieldsvc.feed import publish
from fieldsvc.records import documents as records
from fieldsvc.records.models import Customer, Defect, MeterInstallation, Seal, UsagePoint
from fieldsvc.work.models import Job

GONE = ("cancelled", "closed")
"""States in which a job is no longer shown to its crew."""

NO_EVIDENCE = {"state": "none", "required": 0, "verified": 0, "broken": 0}
"""``evidence`` of a job whose work requires no files."""

Document = tuple[str, str, int, dict[str, Any]]
"""``(entity, id, revision, JSON-ready document)``"""


def crew_scope(crew_id: str) -> str:
    """The feed scope all devices of a crew read."""
    return f"crew:{crew_id}"


def job_doc(job: Job) -> dict[str, Any]:
    """A job as its crew sees it, JSON-ready."""
    doc: dict[str, Any] = {name: plain(getattr(job, name)) for name in _JOB_FIELDS}
    doc["evidence"] = job.evidence or NO_EVIDENCE
    if job.lon is not None and job.lat is not None:
        doc["position"] = {"type": "Point", "coordinates": [job.lon, job.lat]}
    return doc


_JOB_FIELDS = (
    "id number kind status priority title description hazards access_note contact_phone notes tags address site_class "
    "territory_id customer_id usage_point_id crew_id assignment_rev planned_start planned_order service_minutes "
    "window_start window_end due_at checklist checklist_version details result completed_at attention rev"
).split()


def show(job: Job) -> None:
    """Publish the job as it is now to the crew that has it; one that is over stays away."""
    if job.crew_id is not None and job.status not in GONE:
        publish.put([crew_scope(job.crew_id)], "job", job.id, job.rev, lambda: job_doc(job))


def hand_out(job: Job) -> None:
    """Publish the job and its surroundings (customer, usage point, meter, seals, open defects) to its new crew."""
    assert job.crew_id is not None
    scopes = [crew_scope(job.crew_id)]
    show(job)
    for entity, entity_id, rev, doc in [*_customer_documents(job), *_place_documents(job)]:
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
    gone = [] if kept else _customer_documents(job)
    if not any(row.usage_point_id == job.usage_point_id for row in kept):
        gone += _place_documents(job)
    for entity, entity_id, rev, _doc in gone:
        publish.leave(scope, entity, entity_id, rev, reason)


def _customer_documents(job: Job) -> list[Document]:
    """The job's customer, and the open defects there that belong to no usage point."""
    if job.customer_id is None:
        return []
    customer = db.session.get_one(Customer, job.customer_id)
    defects = select(Defect).where(Defect.customer_id == customer.id, Defect.usage_point_id.is_(None))
    return [("customer", customer.id, customer.rev, records.customer_doc(customer)), *_open(defects)]


def _open(defects: Select[Defect]) -> list[Document]:
    rows = db.session.scalars(defects.where(Defect.state == "open").order_by(Defect.id))
    return [("defect", defect.id, defect.rev, records.defect_doc(defect)) for defect in rows]


def _place_documents(job: Job) -> list[Document]:
    """The documents of the job's usage point: itself, its meter, the seals fitted there, its open defects.

    Its row is held: whoever changes the records there has committed, or will see who holds them now.
    """
    if job.usage_point_id is None:
        return []
    usage_point = db.session.get_one(
        UsagePoint, job.usage_point_id, populate_existing=True, with_for_update={"read": True}
    )
    installation = db.session.scalar(
        select(MeterInstallation).where(
            MeterInstallation.usage_point_id == usage_point.id, MeterInstallation.removed_at.is_(None)
        )
    )
    found: list[Document] = [
        ("usage_point", usage_point.id, usage_point.rev, records.usage_point_doc(usage_point, installation))
    ]
    if installation is not None:
        found.append(("meter", installation.meter_id, installation.meter.rev, records.meter_doc(installation)))
    for seal in db.session.scalars(
        select(Seal).where(Seal.usage_point_id == usage_point.id, Seal.removed_at.is_(None)).order_by(Seal.number)
    ):
        found.append(("seal", seal.id, seal.rev, records.seal_doc(seal)))
    return [*found, *_open(select(Defect).where(Defect.usage_point_id == usage_point.id))]


def refresh(job: Job, changed: Collection[tuple[str, str]]) -> None:
    """Publish records (entity, id) at the job's place that changed to its crew and to all who hold the place."""
    place = ("usage_point", job.usage_point_id) if job.usage_point_id else ("customer", job.customer_id)
    if not changed or place[1] is None:
        return
    scopes = publish.holders(place[0], [place[1]]).get(place[1], set())
    if job.crew_id is not None:
        scopes.add(crew_scope(job.crew_id))
    for entity, entity_id, rev, doc in [*_customer_documents(job), *_place_documents(job)]:
        if (entity, entity_id) in changed:
            publish.put(scopes, entity, entity_id, rev, doc)


def retire(entity: str, entity_id: str, rev: int) -> None:
    """Tell all holders that a record is no longer at its place: meter taken off, seal removed, defect closed."""
    for scope in publish.holders(entity, [entity_id]).get(entity_id, ()):
        publish.leave(scope, entity, entity_id, rev, "removed")
