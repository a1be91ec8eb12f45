"""What every kind of job has: the operations of the life cycle, remarks, edits, defects, and the order of judging.

A kind hands its operations and its handlers to :func:`judge`; everything a kind does not handle itself is handled
here, so that all kinds answer alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from fieldsvc.base.clock import format_time
from fieldsvc.kinds import lifecycle
from fieldsvc.kinds.base import (
    AddContact,
    AddNote,
    AddReadings,
    CloseDefect,
    Decision,
    Effect,
    Fault,
    MergeFields,
    OpenDefect,
    Operation,
    ReachStage,
    SetResult,
    SetStatus,
    Situation,
    applied,
    parked,
    rejected,
    superseded,
)
from fieldsvc.kinds.payloads import (
    AssetNo,
    BadPayload,
    Code,
    DecimalText,
    Ident,
    Line,
    Photos,
    Position,
    Prose,
    Registers,
    fault,
    plain,
    read,
    time_of,
)
from fieldsvc.rules import NoRule

EDITS = frozenset({"job.update", "customer.update"})
"""Operations that carry ``was`` and ``set`` instead of ``payload``."""

GRADES = {"grid": ("critical", "serious", "general"), "customer": ("emergency", "major", "general")}
"""The two defect scales. They are words of the protocol; what follows from a grade is a rule."""

GradeScheme = Literal["grid", "customer"]
Grade = Literal["critical", "serious", "general", "emergency", "major"]
Phone = Annotated[str, Meta(max_length=40)]


class Step(msgspec.Struct):
    """A tap on the way: where, and a remark."""

    position: Position | None = None
    note: Prose | None = None


class Briefing(msgspec.Struct):
    """The safety briefing as the crew confirmed it: checklist, version and the codes confirmed."""

    checklist: Code
    version: Annotated[int, Meta(ge=1, le=1_000_000)]
    confirmed: Annotated[list[Code], Meta(max_length=100)]


class Start(Step):
    briefing: Briefing | None = None


class Suspend(Step):
    """``material`` makes the job wait for material, every other reason suspends it."""

    reason: Literal["material", "weather", "access", "safety", "outage_slipped", "shift_end", "other"] = "other"


class Stop(msgspec.Struct):
    """Why the work was not done or is sent back."""

    reason: Code
    position: Position | None = None
    note: Prose | None = None
    photos: Photos = []


class Note(msgspec.Struct):
    text: Prose


class Part(msgspec.Struct):
    code: Code
    qty: DecimalText


class JobFields(msgspec.Struct):
    """The fields of a job that a crew may edit; what is left out stays."""

    title: Line | UnsetType = UNSET
    access_note: Annotated[str, Meta(max_length=1000)] | UnsetType | None = UNSET
    contact_phone: Phone | UnsetType | None = UNSET
    notes: Annotated[list[Prose], Meta(max_length=200)] | Prose | UnsetType = UNSET
    tags: Annotated[list[Line], Meta(max_length=50)] | UnsetType = UNSET
    priority: Annotated[int, Meta(ge=1, le=9)] | UnsetType = UNSET
    parts_estimate: Annotated[list[Part], Meta(max_length=200)] | UnsetType | None = UNSET


class JobSeen(msgspec.Struct):
    """The same fields as the device saw them. They are compared, never stored, so their form is free."""


class JobUpdate(msgspec.Struct):
    set: JobFields
    was: JobSeen = msgspec.field(default_factory=JobSeen)


class CustomerFields(msgspec.Struct):
    """The fields of a customer that a crew may edit. ``number`` is what the crew saw and must match."""

    phone: Phone | UnsetType | None = UNSET
    name: Line | UnsetType = UNSET
    name_local: Line | UnsetType | None = UNSET
    access_note: Annotated[str, Meta(max_length=1000)] | UnsetType | None = UNSET
    notes: Annotated[list[Prose], Meta(max_length=200)] | Prose | UnsetType = UNSET
    number: Annotated[str, Meta(min_length=1, max_length=40)] | UnsetType = UNSET


class CustomerUpdate(msgspec.Struct):
    set: CustomerFields
    was: JobSeen = msgspec.field(default_factory=JobSeen)


EDITABLE: dict[str, frozenset[str]] = {
    "job": frozenset(JobFields.__struct_fields__),
    "customer": frozenset(CustomerFields.__struct_fields__),
}
"""Entity -> the fields of it that a crew may edit."""


class DefectReport(msgspec.Struct):
    """Something unsafe seen on site, whatever the job was about."""

    description: Prose
    grade_scheme: GradeScheme
    grade: Grade
    item_code: Code | None = None
    position: Position | None = None
    photos: Photos = []

    def faults(self) -> Iterator[tuple[str, str]]:
        if self.grade not in GRADES[self.grade_scheme]:
            yield "/grade", f"must be one of {', '.join(GRADES[self.grade_scheme])} in the {self.grade_scheme} scheme"


class DefectChecked(msgspec.Struct):
    """An earlier defect that this job looked at."""

    defect_id: Ident
    closed: bool
    note: Prose | None = None


class MeterCheck(msgspec.Struct):
    """The meter as read on site, without an exchange."""

    asset_no: AssetNo
    registers: Registers


class Complete(msgspec.Struct):
    """What every completion may carry; kinds add their own result."""

    work_done: Prose | None = None
    customer_signature: Ident | None = None
    photos: Photos = []
    position: Position | None = None
    defects_checked: Annotated[list[DefectChecked], Meta(max_length=100)] = []
    meter_check: MeterCheck | None = None


OPERATIONS: dict[str, type[msgspec.Struct]] = {
    "job.accept": Step,
    "job.enroute": Step,
    "job.arrive": Step,
    "job.start": Start,
    "job.suspend": Suspend,
    "job.resume": Step,
    "job.not_done": Stop,
    "job.return": Stop,
    "job.complete": Complete,
    "note.add": Note,
    "job.update": JobUpdate,
    "defect.report": DefectReport,
}

CUSTOMER_OPERATIONS: dict[str, type[msgspec.Struct]] = {"customer.update": CustomerUpdate}

Handler = Callable[[Operation, Any, Situation, tuple[Effect, ...]], Decision]
"""``(operation, its Struct, situation, effects of the step itself) -> Decision``"""


def content(op: Operation) -> tuple[Any, str]:
    """What an operation carries, and the JSON pointer of it."""
    if op.kind in EDITS:
        edit = {"set": op.set, "was": op.was}
        return {name: value for name, value in edit.items() if value is not None}, ""
    return ({} if op.payload is None else op.payload), "/payload"


def judge(
    op: Operation, situation: Situation, operations: Mapping[str, type[msgspec.Struct]], handlers: Mapping[str, Handler]
) -> Decision:
    """Decide one operation: is it of this kind, is it well-formed, does the status allow it, what follows.

    Content comes before status: a malformed operation is refused even on a job that is over, because nothing in it
    could be kept for a reviewer.
    """
    struct = operations.get(op.kind)
    if struct is None:
        known = ", ".join(sorted(operations))
        strange = fault("/kind", f"is not an operation of this kind of job; known: {known}")
        return rejected("bad_payload", errors=(strange,))
    try:
        payload = read(struct, *content(op))
    except BadPayload as bad:
        return rejected("bad_payload", errors=bad.errors)
    status = status_of(situation)
    to = lifecycle.allowed(status, op.kind)
    if to is None:
        return _not_possible(op, status)
    if to == lifecycle.SUPERSEDED:
        return _behind(op, status)
    if op.kind == "job.suspend" and isinstance(payload, Suspend) and payload.reason == "material":
        to = "waiting_on_material"
    handler = handlers.get(op.kind) or HANDLERS.get(op.kind) or _step
    return handler(op, payload, situation, _moved(op, payload, status, to))


def status_of(situation: Situation) -> str:
    """The status to judge by; a cancelled job counts as dispatched once a dispatcher has accepted work done on it."""
    status = str(situation.job.get("status"))
    return "dispatched" if status == "cancelled" and "completed_after_cancel" in situation.waived else status


def result_of(situation: Situation) -> dict[str, Any]:
    """What earlier operations have left in the job's result."""
    result = situation.job.get("result")
    return dict(result) if isinstance(result, dict) else {}


def on_record(op: Operation, situation: Situation) -> dict[str, Any]:
    """What the job's result has under the names that the operation's content has."""
    return {name: value for name, value in result_of(situation).items() if name in (op.payload or {})}


def _facts(op: Operation, status: str) -> dict[str, Any]:
    return {"status": status, "operation": op.kind, "occurred_at": format_time(op.occurred_at)}


def _not_possible(op: Operation, status: str) -> Decision:
    facts = _facts(op, status)
    if not lifecycle.is_physical(op.kind):
        return rejected("state_not_allowed", facts | {"text": f"{op.kind} is not possible while the job is {status}"})
    if status == "cancelled":
        text = "the job had been cancelled; what was done is kept for review"
        return parked("completed_after_cancel", facts | {"text": text})
    if status in lifecycle.DONE:
        text = "the job is completed already; this second account is kept for review"
        return parked("duplicate_work", facts | {"text": text})
    return parked("state_not_allowed", facts | {"text": f"the job is {status}; what was done is kept for review"})


def _behind(op: Operation, status: str) -> Decision:
    if status == "cancelled":
        return superseded("cancelled", _facts(op, status))
    arrived = (ReachStage("arrival", op.occurred_at),) if op.kind == "job.arrive" else ()
    return superseded(None, _facts(op, status) | {"text": f"the job is {status} already"}, *arrived)


_STAGES = {"job.accept": "acceptance", "job.arrive": "arrival", "job.complete": "completion"}


def _moved(op: Operation, payload: Any, status: str, to: str) -> tuple[Effect, ...]:
    """The status change and the stages it reaches; a fact on site implies that the crew has arrived by then."""
    if to == status:
        return ()
    reason, note = getattr(payload, "reason", None), getattr(payload, "note", None)
    effects: list[Effect] = [SetStatus(to, reason, note)]
    if lifecycle.implies_arrival(status, to):
        effects.append(ReachStage("arrival", op.occurred_at))
    stage = _STAGES.get(op.kind)
    if stage and stage != "arrival":
        effects.append(ReachStage(stage, op.occurred_at))
    return tuple(effects)


def _step(op: Operation, payload: Any, situation: Situation, moved: tuple[Effect, ...]) -> Decision:
    effects: list[Effect] = list(moved)
    if payload.note:
        effects.append(AddNote(payload.note, op.occurred_at))
    return applied(*effects)


def _start(op: Operation, payload: Start, situation: Situation, moved: tuple[Effect, ...]) -> Decision:
    effects: list[Effect] = list(moved)
    if payload.briefing is not None:
        briefing = msgspec.to_builtins(payload.briefing) | {"confirmed_at": format_time(op.occurred_at)}
        effects.append(SetResult(result_of(situation) | {"briefing": briefing}))
    if payload.note:
        effects.append(AddNote(payload.note, op.occurred_at))
    return applied(*effects)


def _stop(op: Operation, payload: Stop, situation: Situation, moved: tuple[Effect, ...]) -> Decision:
    ended = "not done" if op.kind == "job.not_done" else "sent back"
    stop = plain(payload) | {"operation": op.kind, "at": format_time(op.occurred_at)}
    effects = [*moved, SetResult(result_of(situation) | {"stopped": stop})]
    if op.kind == "job.not_done":
        effects.append(contact(op, situation, f"{ended}: {payload.reason}"))
    return applied(*effects)


def _note(op: Operation, payload: Note, situation: Situation, moved: tuple[Effect, ...]) -> Decision:
    return applied(AddNote(payload.text, op.occurred_at))


def _update(op: Operation, payload: JobUpdate, situation: Situation, moved: tuple[Effect, ...]) -> Decision:
    return edit(op, payload.set, "job")


def edit(op: Operation, fields: msgspec.Struct, entity: str) -> Decision:
    """A checked edit as one :class:`MergeFields`; fields nobody may edit are named in the explanation."""
    known: dict[str, Any] = msgspec.to_builtins(fields)
    ignored = sorted(name[:100] for name in set(op.set or {}) - set(known))[:50]
    if not known:
        refused = [fault(f"/set/{name}", "is not a field that a crew may edit") for name in ignored]
        return rejected("bad_payload", errors=tuple(refused) or (fault("/set", "names no field"),))
    was = {name: value for name, value in (op.was or {}).items() if name in known}
    return applied(MergeFields(entity, was, known), explanation={"ignored": ignored} if ignored else {})


def _defect(op: Operation, payload: DefectReport, situation: Situation, moved: tuple[Effect, ...]) -> Decision:
    defect, why = open_defect(
        op, situation, payload.item_code, payload.description, payload.grade_scheme, payload.grade
    )
    return applied(defect, explanation={"deadline": why})


def open_defect(
    op: Operation, situation: Situation, item_code: str | None, description: str, scheme: str, grade: str
) -> tuple[OpenDefect, dict[str, Any]]:
    """The defect with its deadline, and where the deadline comes from."""
    deadline: datetime | None = None
    why: dict[str, Any]
    try:
        answer = situation.rules.defect_deadline_days(scheme, grade, op.occurred_at.date())
        deadline = op.occurred_at + timedelta(days=answer.value)
        why = {"days": answer.value, "source": answer.source, "edition": answer.edition}
    except (NoRule, OverflowError):
        why = {"days": None, "source": f"no rule for {scheme} {grade} on {op.occurred_at.date().isoformat()}"}
    return OpenDefect(item_code, description, scheme, grade, op.occurred_at, deadline), why


def contact(op: Operation, situation: Situation, outcome: str) -> AddContact:
    subject = str(situation.job.get("title") or situation.job.get("kind") or "job")[:300]
    return AddContact("visit", subject, outcome, op.occurred_at)


def complete(
    op: Operation,
    payload: Complete,
    situation: Situation,
    moved: tuple[Effect, ...],
    outcome: str,
    result: dict[str, Any],
) -> Decision:
    """A completion: ``result`` joins what is there already, earlier defects are closed, the visit is on record."""
    closing = close_defects(op, payload.defects_checked, situation)
    if isinstance(closing, Decision):
        return closing
    explanation: dict[str, Any] = {}
    readings = _meter_check(op, payload.meter_check, situation, explanation)
    whole = result_of(situation) | plain(payload) | result | {"completed_at": format_time(op.occurred_at)}
    visit = contact(op, situation, outcome)
    return applied(*moved, SetResult(whole), *closing, *readings, visit, explanation=explanation)


def _complete(op: Operation, payload: Complete, situation: Situation, moved: tuple[Effect, ...]) -> Decision:
    return complete(op, payload, situation, moved, "completed", {})


def close_defects(
    op: Operation, checked: list[DefectChecked], situation: Situation
) -> tuple[CloseDefect, ...] | Decision:
    """Close what a crew found put right. Only a later job that looked closes a defect, never the one that bore it."""
    by_id = {str(defect.get("id")): defect for defect in situation.defects}
    closing: list[CloseDefect] = []
    unknown: list[Fault] = []
    too_early: list[Fault] = []
    for position, entry in enumerate(checked):
        at = f"/payload/defects_checked/{position}"
        defect = by_id.get(entry.defect_id)
        if defect is None:
            unknown.append(fault(f"{at}/defect_id", "is not a defect of this place"))
        elif not entry.closed or defect.get("state", "open") != "open":
            continue
        elif defect.get("job_id") == situation.job.get("id"):
            too_early.append(fault(f"{at}/closed", "a defect is closed by a later job, not by the one that found it"))
        elif isinstance(defect.get("found_at"), datetime) and defect["found_at"] > op.occurred_at:
            too_early.append(fault(f"{at}/closed", "the defect was found after this was recorded"))
        elif all(done.defect_id != entry.defect_id for done in closing):
            closing.append(CloseDefect(entry.defect_id, entry.note or "found put right"))
    if unknown:
        return rejected("unknown_entity", {"checked": len(checked)}, tuple(unknown + too_early))
    if too_early:
        return rejected("state_not_allowed", {"checked": len(checked)}, tuple(too_early))
    return tuple(closing)


def _meter_check(
    op: Operation, check: MeterCheck | None, situation: Situation, explanation: dict[str, Any]
) -> tuple[AddReadings, ...]:
    """Readings taken in passing. They never hold up the job: what is doubtful is quarantined and said.

    The readings of a meter that is not the one on record are quarantined under the number that stands on it when the
    register of assets knows it; else they stay in the result alone.
    """
    if check is None:
        return ()
    values: dict[str, Decimal] = {register: Decimal(text) for register, text in check.registers.items()}
    installation = situation.installation or {}
    fell = [
        register
        for register, value in values.items()
        if any(value < known for known in _known_values(installation, register))
    ]
    on_record = installation.get("asset_no")
    if check.asset_no == on_record:
        doubt: dict[str, Any] = {"register_fell": fell} if fell else {}
    else:
        doubt = {"wrong_meter": {"on_site": check.asset_no, "on_record": on_record}}
    if doubt:
        explanation["meter_check"] = doubt
    if check.asset_no != on_record and check.asset_no not in situation.meter_by_asset:
        return ()
    state = "quarantined" if doubt else "posted"
    return (AddReadings(check.asset_no, op.occurred_at, "site_check", values, state),)


def _known_values(installation: dict[str, Any], register: str) -> Iterator[Decimal]:
    for name in ("last_billed", "last_read"):
        known = installation.get(name)
        value = known.get(register) if isinstance(known, dict) else None
        if isinstance(value, Decimal):
            yield value


HANDLERS: dict[str, Handler] = {
    "job.start": _start,
    "job.not_done": _stop,
    "job.return": _stop,
    "job.complete": _complete,
    "note.add": _note,
    "job.update": _update,
    "defect.report": _defect,
}


def device_time(op: Operation, text: str | None) -> datetime | None:
    """A time from inside the payload, corrected by the clock offset of the operation."""
    try:
        moment = time_of(text)
        return None if moment is None else moment + op.clock_offset
    except OverflowError:
        return None
