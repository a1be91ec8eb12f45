"""Assist (协助): a second crew beside another crew's job. What was done is on record in that job, not in this one."""

from __future__ import annotations

import msgspec

from fieldsvc.kinds.base import Decision, Effect, Kind, Operation, Situation
from fieldsvc.kinds.common import OPERATIONS, Complete, Handler, complete, judge
from fieldsvc.kinds.payloads import DecimalText


class AssistResult(Complete, kw_only=True):
    """How long the second crew helped; everything else may stay away."""

    hours: DecimalText | None = None


def _completed(op: Operation, payload: AssistResult, situation: Situation, moved: tuple[Effect, ...]) -> Decision:
    helped = f"helped {payload.hours} h" if payload.hours else "helped"
    return complete(op, payload, situation, moved, helped, {})


_OPERATIONS: dict[str, type[msgspec.Struct]] = {**OPERATIONS, "job.complete": AssistResult}
_HANDLERS: dict[str, Handler] = {"job.complete": _completed}


def reconcile(op: Operation, situation: Situation) -> Decision:
    return judge(op, situation, _OPERATIONS, _HANDLERS)


KIND = Kind(
    name="assist",
    title="Assist another crew",
    title_zh="协助作业",
    operations=_OPERATIONS,
    service_minutes=60,
    skill="repair",
    result_type=AssistResult,
    reconcile=reconcile,
)
