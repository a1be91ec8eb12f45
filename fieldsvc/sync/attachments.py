"""Attachments: the files operations name, what has come of them, and what that means for the job.

A photo never delays a fact: an operation is decided whether or not its files are here. Evidence is an axis of its own.
A file is told by its SHA-256; one that has come, whole and right, is never removed, and whatever its device names it by
is verified at once. Lock order: install, device, job, attachments.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID, uuid5

from sqlalchemy import exists, insert, or_, select

from fieldsvc.base.db import db
from fieldsvc.base.plain import plain
from fieldsvc.feed import publish
from fieldsvc.history.record import Source, record
from fieldsvc.people.models import Device
from fieldsvc.sync import pictures
from fieldsvc.sync.envelope import Attachment as Named
from fieldsvc.sync.envelope import Operation as Sent
from fieldsvc.sync.models import Attachment, EvidenceFile, InboxOperation, Upload
from fieldsvc.sync.outcomes import Outcome, device_scope
from fieldsvc.work import change
from fieldsvc.work.models import Job

_SPACE = UUID("0d9b2a52-6a52-4a0c-9b1c-1f0e7a3a7c11")
_APPLIED = ("applied", "merged", "applied_conflict", "forced")
_REFUSED = ("rejected", "superseded")
_NOT_THEIRS = ("id_reuse", "not_found")
_FAILED = ("empty", "wrong_hash")
RIGHT = ("verified", "unreadable")
"""States of a file that has come from its device with the digest it should have."""


@dataclass(frozen=True)
class Judged:
    """What came of one file: state and what more there is to say."""

    state: str
    fault: str | None = None


def attachment_key(op_id: str, attachment_id: str) -> str:
    """Our id of the file ``attachment_id`` that operation ``op_id`` names; always the same."""
    return str(uuid5(_SPACE, f"{op_id}/{attachment_id}"))


def name(source: Source, ops: Mapping[str, Sent]) -> None:
    """Note the files that newly stored operations name.

    What the device has sent already, because it came first or for another operation, is verified at once. The device's
    row is held: a file that arrives at this moment waits, and then sees who names it.
    """
    device_id = source.device_id or ""
    hold_device(device_id)
    pairs = [(op, item) for op in ops.values() for item in {file.id: file for file in op.attachments}.values()]
    files = {file.sha256: file for file in _files(device_id, {item.sha256 for _, item in pairs})}
    tried = _tried(device_id, {item.id for _, item in pairs})
    rows, verified = [], []
    for op, item in pairs:
        upload, file = tried.get(item.id), files.get(item.sha256)
        judged = Judged("expected")
        if file is not None:
            judged = _judge(item, file)
        elif upload is not None:
            judged = _failed(item.size, upload.length, upload.state)
        row = _row(source, op, item, judged)
        rows.append(row)
        if judged.state == "verified":
            verified.append(row)
    db.session.execute(insert(Attachment), rows)
    for row in rows:
        publish.put([device_scope(device_id)], "attachment", row["id"], 1, _doc(row))
    for row in verified:
        _note(source, row, files[row["sha256"]])


def hold_device(device_id: str) -> None:
    """Hold a device's row until the transaction ends; rows that refer to it may be written meanwhile."""
    db.session.execute(select(Device.id).where(Device.id == device_id).with_for_update(key_share=True))


def _row(source: Source, op: Sent, item: Named, judged: Judged) -> dict[str, Any]:
    return {
        "id": attachment_key(op.op_id, item.id),
        "op_id": op.op_id,
        "attachment_id": item.id,
        "device_id": source.device_id,
        "crew_id": source.crew_id,
        "job_id": op.entity_id if op.entity == "job" else None,
        "sha256": item.sha256,
        "size": item.size,
        "type": item.type,
        "required": item.required,
        "state": judged.state,
        "fault": judged.fault,
        "in_effect": False,
        "named_at": source.recorded_at,
        "verified_at": source.recorded_at if judged.state == "verified" else None,
        "rev": 1,
    }


def _files(device_id: str, digests: Iterable[str]) -> Sequence[EvidenceFile]:
    """Those that the device has sent. What others have sent it must not learn of, nor take for its own, by a digest."""
    upload = exists().where(Upload.sha256 == EvidenceFile.sha256, Upload.device_id == device_id)
    named = exists().where(Attachment.sha256 == EvidenceFile.sha256, Attachment.device_id == device_id)
    sent = or_(
        EvidenceFile.device_id == device_id,
        upload.where(Upload.state == "stored"),
        named.where(Attachment.state.in_(RIGHT)),
    )
    return db.session.scalars(select(EvidenceFile).where(EvidenceFile.sha256.in_(sorted(digests)), sent)).all()


def _tried(device_id: str, attachment_ids: Iterable[str]) -> dict[str, Upload]:
    """The last upload of each that came to its end and was not what it should be."""
    rows = db.session.scalars(
        select(Upload)
        .where(Upload.device_id == device_id, Upload.attachment_id.in_(sorted(attachment_ids)))
        .where(Upload.state.in_(_FAILED))
        .order_by(Upload.created_at)
    )
    return {row.attachment_id: row for row in rows}


def _judge(named: Named | Attachment, file: EvidenceFile) -> Judged:
    """What a file that has the right digest means for who names it."""
    if named.size != file.size:
        return Judged("wrong_size", f"has {file.size} bytes, not {named.size}")
    if named.type in pictures.LOOKED_AT:
        if file.type != named.type:
            return Judged("unreadable", f"is no {named.type}" + (f" but {file.type}" if file.type else ""))
        if file.fault is not None:
            return Judged("unreadable", file.fault)
    return Judged("verified")


def _failed(size: int, came: int, state: str) -> Judged:
    """What an upload that has not the digest it should have means for who names it."""
    if came == 0:
        return Judged("empty", "has no bytes")
    if came != size:
        return Judged("wrong_size", f"{came} bytes came, not {size}")
    return Judged("wrong_hash", "what came has another SHA-256")


def owed(op_ids: Iterable[str]) -> dict[str, list[str]]:
    """Operations whose required files are not all verified -> the ids of those that have to be sent (again).

    A file that came and cannot be read as what it is said to be is not among them: the same bytes would help nobody.
    """
    found: dict[str, list[str]] = {}
    for row in db.session.execute(
        select(Attachment.op_id, Attachment.attachment_id, Attachment.state)
        .where(Attachment.op_id.in_(sorted(op_ids)), Attachment.required, Attachment.state != "verified")
        .order_by(Attachment.attachment_id)
    ):
        missing = found.setdefault(row.op_id, [])
        if row.state != "unreadable":
            missing.append(row.attachment_id)
    return found


def with_missing(results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """How operations stand, each with the ids of the required files it still waits for."""
    waiting = owed(result["op_id"] for result in results if result["status"] not in _NOT_THEIRS)
    told = []
    for result in results:
        missing = None if result["status"] in _NOT_THEIRS else waiting.get(result["op_id"])
        accepted = missing is not None and result["status"] == "accepted"
        status = {"status": "awaiting_attachment"} if accepted else {}
        told.append(result | status | ({"missing": missing} if missing else {}))
    return told


def settle(source: Source, end: Outcome) -> Outcome:
    """The outcome of an operation that names files, with what has come of them; their job is brought up to date."""
    evidence = decided(source, end.op_id, end.outcome)
    job = db.session.get(Job, end.entity_id) if end.entity == "job" and end.entity_rev is not None else None
    return replace(end, evidence=evidence, entity_rev=job.rev if job else end.entity_rev)


def decided(source: Source, op_id: str, outcome: str) -> dict[str, Any] | None:
    """An operation has come to ``outcome``; its job, if there is one, is held. Answers what has come of its files:
    ``{"required", "verified", "missing"}``, None when it names none.

    Files of refused operations are waited for no longer: those not verified are taken off.
    """
    rows = list(db.session.scalars(select(Attachment).where(Attachment.op_id == op_id).order_by(Attachment.id)))
    if outcome in _REFUSED:
        for row in [row for row in rows if row.state != "verified"]:
            publish.delete([device_scope(row.device_id)], "attachment", row.id, row.rev + 1)
            db.session.delete(row)
            rows.remove(row)
    elif outcome in _APPLIED:
        for row in rows:
            row.in_effect = True
        db.session.flush()
        for job_id in {row.job_id for row in rows if row.job_id}:
            _tell_job(source, job_id)
    required = [row for row in rows if row.required]
    missing = [row.attachment_id for row in required if row.state not in ("verified", "unreadable")]
    verified = sum(row.state == "verified" for row in required)
    return {"required": len(required), "verified": verified, "missing": sorted(missing)} if rows else None


def arrived(source: Source, upload: Upload, file: EvidenceFile | None) -> None:
    """An upload has come to its end: ``file`` is what it brought, None when that is not what it should be.

    The device's row is held. Every operation of the device that names the file, or that expected it here, is told.
    """
    query = select(Attachment).where(Attachment.device_id == upload.device_id, Attachment.state != "verified")
    by_id = Attachment.attachment_id == upload.attachment_id
    query = query.where(by_id | (Attachment.sha256 == file.sha256) if file is not None else by_id)
    _hold_jobs(db.session.scalars(query.with_only_columns(Attachment.job_id)))
    held = query.order_by(Attachment.id).with_for_update().execution_options(populate_existing=True)
    rows = list(db.session.scalars(held))
    # An id may have been named again, for another file: then only that one was meant.
    rows = [row for row in rows if row.sha256 == upload.sha256] or rows
    for row in rows:
        right = file is not None and row.sha256 == file.sha256
        judged = _judge(row, file) if right and file else _failed(row.size, upload.length, upload.state)
        if (row.state, row.fault) != (judged.state, judged.fault):
            _turn(source, row, judged, file if right else None)
    db.session.flush()
    for job_id in sorted({row.job_id for row in rows if row.job_id and row.in_effect}):
        _tell_job(replace(source, op_id=next(row.op_id for row in rows if row.job_id == job_id)), job_id)


def _turn(source: Source, row: Attachment, judged: Judged, file: EvidenceFile | None) -> None:
    before = row.state
    row.state, row.fault, row.rev = judged.state, judged.fault, row.rev + 1
    row.verified_at = source.recorded_at if judged.state == "verified" else None
    values = {column.key: getattr(row, column.key) for column in Attachment.__table__.columns}
    publish.put([device_scope(row.device_id)], "attachment", row.id, row.rev, _doc(values))
    _note(replace(source, op_id=row.op_id, crew_id=row.crew_id), values, file, before)


def _doc(row: Mapping[str, Any]) -> dict[str, Any]:
    """An attachment as its device sees it: under the id the device gave it."""
    named = {key: plain(row[key]) for key in "op_id job_id state fault sha256 size required verified_at".split()}
    return {"id": row["attachment_id"], **named}


def _note(source: Source, row: Mapping[str, Any], file: EvidenceFile | None, before: str | None = None) -> None:
    """History: a file was verified (with what it says of when and where it was taken), or is not what it should be."""
    job = db.session.get(Job, row["job_id"]) if row["job_id"] else None
    after = {key: row[key] for key in "state fault attachment_id sha256 size required".split()}
    if file is not None:
        after["says"] = {"taken": file.taken_text, "lon": file.lon, "lat": file.lat}
    record(
        source,
        "attachment.verified" if row["state"] == "verified" else "attachment.failed",
        "attachment",
        row["id"],
        before={"state": before} if before else None,
        after=after,
        job_id=job.id if job else None,
        job_kind=job.kind if job else None,
        customer_id=job.customer_id if job else None,
        territory_id=job.territory_id if job else None,
    )


def _hold_jobs(job_ids: Iterable[str | None]) -> None:
    ids = sorted({job_id for job_id in job_ids if job_id})
    if ids:
        held = select(Job).where(Job.id.in_(ids)).order_by(Job.id).with_for_update()
        db.session.scalars(held.execution_options(populate_existing=True)).all()


def _tell_job(source: Source, job_id: str) -> None:
    """Bring the job's ``evidence`` up to date; its row is held."""
    job = db.session.get(Job, job_id)
    if job is None:
        return
    evidence = _evidence(job_id)
    if evidence != job.evidence:
        change.apply(source, job, "job.evidence", {"evidence": evidence})


def _evidence(job_id: str) -> dict[str, Any] | None:
    """What has come of the files that applied operations on a job require; None when they require none.

    A file named anew under the same id by the same device takes the place of the one before.
    """
    rows = db.session.execute(
        select(Attachment.device_id, Attachment.attachment_id, Attachment.state, InboxOperation.seq)
        .join(InboxOperation, InboxOperation.op_id == Attachment.op_id)
        .where(Attachment.job_id == job_id, Attachment.in_effect, Attachment.required)
        .order_by(InboxOperation.seq)
    )
    newest = {(row.device_id, row.attachment_id): row.state for row in rows}
    return evidence_of(list(newest.values())) if newest else None


def evidence_of(states: Sequence[str]) -> dict[str, Any]:
    """``{"state", "required", "verified", "broken"}`` of required files in ``states``.

    complete: all are verified. broken: one came and is not what it should be. awaiting: one has not come.
    """
    verified = states.count("verified")
    broken = len(states) - verified - states.count("expected")
    state = "complete" if verified == len(states) else "broken" if broken else "awaiting"
    return {"state": state, "required": len(states), "verified": verified, "broken": broken}
