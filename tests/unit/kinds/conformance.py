"""What every kind of job must hold, whoever wrote it. ``check(kind)`` runs it all; a new kind gets it for nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import msgspec

from fieldsvc import rules
from fieldsvc.kinds import lifecycle
from fieldsvc.kinds.base import OUTCOMES, REASONS, Decision, Kind, Operation, Situation
from fieldsvc.kinds.common import EDITS, OPERATIONS

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)

GARBAGE_CONTENT: tuple[Any, ...] = (
    None,
    {},
    [],
    "text",
    7,
    {"reason": 5},
    {"reason": "other", "note": "\x00"},
    {"photos": [None]},
    {"position": {"type": "Point", "coordinates": [999, 999]}},
    {"set": {"title": 1}, "was": None},
    {"deep": [[[[[[[[[[[[[[[[[[[["x"]]]]]]]]]]]]]]]]]]]]},
)

DEFECT = {"description": "bare conductor", "grade_scheme": "grid", "grade": "general"}

GARBAGE_JOBS: tuple[dict[str, Any], ...] = (
    {},
    {"id": None, "status": None, "result": [], "checkpoints": "none"},
    {"id": "J-1", "status": "no such status", "result": {"items": 3, "exchange": "gone"}},
    {"id": "J-1", "status": "on_site", "result": {"items": {"records": {"recorded_at": 5}, "briefing": None}}},
)


def situations(kind: Kind) -> list[Situation]:
    """Every status with nothing around the job, and jobs that make no sense."""
    plain = [{"id": "J-1", "kind": kind.name, "status": status, "result": None} for status in lifecycle.STATUSES]
    odd = [
        {"id": "J-1", "status": "in_progress", "result": {"items": [], "exchange": [], "checklist": 5}},
        *GARBAGE_JOBS,
    ]
    bare = [Situation(job=job, rules=rules.load(), now=NOW) for job in (*plain, *odd)]
    full = [
        replace(found, installation={}, defects=({},), seals=({},), checklist={}, meter_by_asset={"X": {}})
        for found in bare
    ]
    return bare + full


def operation(op_kind: str, content: Any, at: datetime = NOW) -> Operation:
    edit = op_kind in EDITS and isinstance(content, dict)
    return Operation(
        op_id="0192f3a0-0000-7000-8000-000000000001",
        kind=op_kind,
        entity="job",
        entity_id="J-1",
        payload=None if edit else content,
        was=content.get("was") if edit else None,
        set=content.get("set") if edit else None,
        occurred_at=at,
        device_id="D-1",
        crew_id="C-1",
    )


def check_names(kind: Kind) -> None:
    assert kind.name.isidentifier() and kind.name.islower()
    assert kind.title and kind.title_zh and kind.title != kind.title_zh
    assert any("\u4e00" <= char <= "\u9fff" for char in kind.title_zh)
    assert 1 <= kind.service_minutes <= 24 * 60
    assert kind.skill


def check_operations(kind: Kind) -> None:
    assert set(OPERATIONS) <= set(kind.operations), "a kind has every common operation"
    for op_kind, struct in kind.operations.items():
        assert "." in op_kind and op_kind == op_kind.lower()
        assert issubclass(struct, msgspec.Struct)
        assert not struct.__struct_config__.forbid_unknown_fields, "unknown members are never an error"
        msgspec.json.schema(struct)
    msgspec.json.schema(kind.result_type)
    added = set(kind.operations) - set(OPERATIONS)
    assert all(lifecycle.is_physical(op_kind) for op_kind in added), "what a kind adds is work on site"


def check_decision(decision: Decision) -> None:
    assert decision.outcome in OUTCOMES
    assert decision.reason is None or decision.reason in REASONS
    assert decision.reason is not None or decision.outcome in ("applied", "superseded")
    assert not decision.effects or decision.outcome in ("applied", "superseded")
    if decision.reason == "bad_payload":
        assert decision.errors
    for error in decision.errors:
        assert set(error) == {"field", "reason"} and error["field"].startswith("/") and error["reason"]
    json.dumps(decision.explanation, allow_nan=False)


def check_never_raises(kind: Kind) -> None:
    for op_kind in (*kind.operations, "no.such", "", "customer.update"):
        for content in GARBAGE_CONTENT:
            for around in situations(kind):
                check_decision(kind.reconcile(operation(op_kind, content), around))


def check_any_time(kind: Kind) -> None:
    """A device's clock may be anywhere in the calendar; what the kind itself calls well-formed must still be judged."""
    for op_kind in kind.operations:
        for at in (datetime(1, 1, 1, tzinfo=UTC), datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)):
            for content in ({}, {"reason": "other"}, {"text": "x"}, {"set": {"title": "t"}}, DEFECT):
                for around in situations(kind):
                    check_decision(kind.reconcile(operation(op_kind, content, at), around))


def check_pure(kind: Kind) -> None:
    """The same question gets the same answer, and the question is left as it was."""
    for op_kind in kind.operations:
        for around in situations(kind):
            op = operation(op_kind, {"reason": "other", "text": "x", "set": {"title": "t"}})
            before = repr((op, around.job))
            assert kind.reconcile(op, around) == kind.reconcile(op, around)
            assert repr((op, around.job)) == before


def check(kind: Kind) -> None:
    check_names(kind)
    check_operations(kind)
    check_never_raises(kind)
    check_any_time(kind)
    check_pure(kind)
