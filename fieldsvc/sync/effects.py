"""Apply what a kind decided: each effect goes to the room that owns the record, all in the open transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from fieldsvc.base.db import db
from fieldsvc.history.record import Source
from fieldsvc.kinds.base import (
    AddContact,
    AddNote,
    AddReadings,
    CloseDefect,
    Effect,
    ExchangeMeter,
    FitSeals,
    OpenDefect,
    ReachStage,
    RemoveSeals,
    SetResult,
    SetStatus,
)
from fieldsvc.records import contacts, defects, meters
from fieldsvc.records.models import UsagePoint
from fieldsvc.work import change, documents
from fieldsvc.work.models import Job

GIVEN_BACK = ("returned", "not_done")


@dataclass
class _Tally:
    """What the effects of one operation add up to for the job, and which records the crew's devices must hear of."""

    fields: dict[str, Any] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)
    stages: list[ReachStage] = field(default_factory=list)
    records: list[Effect] = field(default_factory=list)


def apply(source: Source, job: Job, action: str, effects: Sequence[Effect]) -> None:
    """Apply ``effects`` to ``job`` and the records around it, as one revision of the job."""
    tally = _Tally()
    for effect in effects:
        _sort(effect, tally, job)
    for stage in tally.stages:
        change.reach(source, job, stage.clock, stage.at)
    if tally.records:
        _write_records(source, job, tally.records)
    status = tally.fields.get("status")
    if status in GIVEN_BACK:
        del tally.fields["status"]
        change.give_back(source, job, status, action, tally.fields, tally.extra)
    elif tally.fields or tally.records:
        if status == "completed":
            tally.fields["completed_at"] = source.at
        change.apply(source, job, action, tally.fields, extra=tally.extra)
        if status == "completed":
            change.release_assists(source, job)


def _sort(effect: Effect, tally: _Tally, job: Job) -> None:
    if isinstance(effect, SetStatus):
        tally.fields["status"] = effect.to
        tally.extra |= {name: value for name, value in (("reason", effect.reason), ("note", effect.note)) if value}
    elif isinstance(effect, SetResult):
        tally.fields["result"] = effect.result
    elif isinstance(effect, AddNote):
        tally.fields["notes"] = [*tally.fields.get("notes", job.notes), effect.text]
    elif isinstance(effect, ReachStage):
        tally.stages.append(effect)
    else:
        tally.records.append(effect)


@dataclass
class _Records:
    """Records an operation changed at the place, and those that left it with their revision, by ``(entity, id)``."""

    changed: set[tuple[str, str]] = field(default_factory=set)
    gone: dict[tuple[str, str], int] = field(default_factory=dict)


def _write_records(source: Source, job: Job, effects: Sequence[Effect]) -> None:
    context = {
        "job_id": job.id,
        "job_kind": job.kind,
        "customer_id": job.customer_id,
        "crew_id": job.crew_id,
        "territory_id": job.territory_id,
    }
    usage_point = (
        db.session.get_one(UsagePoint, job.usage_point_id, populate_existing=True, with_for_update=True)
        if job.usage_point_id
        else None
    )
    written = _Records()
    for effect in effects:
        if isinstance(effect, OpenDefect):
            opened = defects.open_defect(source, effect, context, job.usage_point_id)
            written.changed.add(("defect", opened.id))
        elif isinstance(effect, CloseDefect):
            if closed := defects.close_defect(source, effect, source.at, context):
                written.gone["defect", closed.id] = closed.rev
        elif isinstance(effect, AddContact):
            _add_contact(source, job, effect)
        elif usage_point is not None:
            _write_metering(source, usage_point, effect, context, written)
    db.session.flush()
    for (entity, entity_id), rev in written.gone.items():
        documents.retire(entity, entity_id, rev)
    documents.refresh(job, written.changed)


def _add_contact(source: Source, job: Job, effect: AddContact) -> None:
    if job.customer_id is not None:
        contacts.add(
            source,
            job.customer_id,
            channel=effect.channel,
            subject=effect.subject,
            outcome=effect.outcome,
            at=effect.at,
            job_id=job.id,
        )


def _write_metering(
    source: Source, usage_point: UsagePoint, effect: Effect, context: dict[str, Any], written: _Records
) -> None:
    if isinstance(effect, ExchangeMeter):
        old, new = meters.exchange(source, usage_point, effect, context)
        written.gone["meter", old.id] = old.rev
        written.changed |= {("meter", new.id), ("usage_point", usage_point.id)}
    elif isinstance(effect, AddReadings):
        meter = meters.add_readings(source, usage_point, effect, context)
        if meter is not None:
            written.changed.add(("meter", meter.id))
    elif isinstance(effect, RemoveSeals):
        for seal in meters.remove_seals(source, effect.numbers, source.at, context):
            written.gone["seal", seal.id] = seal.rev
    elif isinstance(effect, FitSeals):
        for seal in meters.fit_seals(source, usage_point, effect.seals, source.at, context):
            written.gone["seal", seal.id] = seal.rev  # whoever held it at another place loses it
            written.changed.add(("seal", seal.id))
