"""Repair (抢修): supply restored, with cause, place, ownership, parts and the time supply came back."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from fieldsvc.base.clock import format_time
from fieldsvc.kinds.base import Decision, Effect, Kind, Operation, ReachStage, Situation, applied
from fieldsvc.kinds.common import OPERATIONS, Complete, Handler, Part, complete, device_time, judge
from fieldsvc.kinds.payloads import Code, Line, Prose, Time


class RepairResult(Complete, kw_only=True):
    """What the crew found and did. ``restored_at`` is device time; without it supply came back with the completion."""

    cause_major: Code
    cause_minor: Code | None = None
    fault_place: Line
    ownership: Literal["utility", "customer", "third_party"]
    work_done: Prose
    parts: Annotated[list[Part], Meta(max_length=200)] = msgspec.field(default_factory=list)
    restored_at: Time | None = None
    hazards: Annotated[list[Line], Meta(max_length=50)] = msgspec.field(default_factory=list)


def _completed(op: Operation, payload: RepairResult, situation: Situation, moved: tuple[Effect, ...]) -> Decision:
    restored_at, doubt = _restored(op, payload, situation)
    outcome = f"supply restored; cause {payload.cause_major}"
    done = complete(op, payload, situation, moved, outcome, {"restored_at": format_time(restored_at)})
    if done.outcome != "applied":
        return done
    explanation = done.explanation | ({"restored_at": doubt} if doubt else {})
    return applied(*done.effects, ReachStage("restoration", restored_at), explanation=explanation)


def _restored(op: Operation, payload: RepairResult, situation: Situation) -> tuple[datetime, dict[str, Any] | None]:
    """When supply came back. A time after the report of it or before the job existed is not believed, and said so."""
    said = device_time(op, payload.restored_at)
    if said is None:
        return op.occurred_at, None
    began = situation.job.get("reported_at") or situation.job.get("created_at")
    doubt = None
    if said > op.occurred_at:
        doubt = "later than the completion that reports it"
    elif isinstance(began, datetime) and said < began:
        doubt = "earlier than the fault was reported"
    if doubt is None:
        return said, None
    return op.occurred_at, {"said": format_time(said), "doubt": doubt, "taken": format_time(op.occurred_at)}


_OPERATIONS: dict[str, type[msgspec.Struct]] = {**OPERATIONS, "job.complete": RepairResult}
_HANDLERS: dict[str, Handler] = {"job.complete": _completed}


def reconcile(op: Operation, situation: Situation) -> Decision:
    return judge(op, situation, _OPERATIONS, _HANDLERS)


KIND = Kind(
    name="repair",
    title="Repair",
    title_zh="抢修",
    operations=_OPERATIONS,
    service_minutes=60,
    skill="repair",
    result_type=RepairResult,
    reconcile=reconcile,
)
