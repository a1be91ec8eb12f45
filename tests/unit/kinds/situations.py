"""Operations and situations for the tests of kinds: one usual case each, to be varied by keyword."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from fieldsvc import rules
from fieldsvc.kinds.base import Decision, Effect, Operation, ReachStage, Situation

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


def operation(kind: str, payload: dict[str, Any] | None = None, **other: Any) -> Operation:
    usual = Operation(
        op_id="0192f3a0-0000-7000-8000-000000000001",
        kind=kind,
        entity="job",
        entity_id="J-1",
        payload=payload,
        was=None,
        set=None,
        occurred_at=NOON,
        device_id="D-1",
        crew_id="C-1",
    )
    return replace(usual, **other)


def situation(status: str = "on_site", kind: str = "repair", **other: Any) -> Situation:
    job = {
        "id": "J-1",
        "kind": kind,
        "status": status,
        "title": "No supply",
        "details": {},
        "result": other.pop("result", None),
        "checkpoints": other.pop("checkpoints", {}),
        "site_class": "urban",
        "created_at": NOON - timedelta(hours=5),
    }
    job |= other.pop("job", {})
    return Situation(job=job, rules=rules.load(), now=NOON + timedelta(hours=6), **other)


def installation(**other: Any) -> dict[str, Any]:
    """A meter of six digits, CT x PT 1, billed 30 days ago, using about 7 kWh a day."""
    return {
        "meter_id": "M-1",
        "asset_no": "OLD-1",
        "digits": 6,
        "multiplier": Decimal(1),
        "installed_at": NOON - timedelta(days=2000),
        "last_billed": {"total": Decimal("48000.0")},
        "last_billed_at": NOON - timedelta(days=30),
        "last_read": {"total": Decimal("48100.0")},
    } | other


def exchange(old: dict[str, Any] | None = None, new: dict[str, Any] | None = None, **other: Any) -> dict[str, Any]:
    """A ``meter.exchange`` as the protocol's conversation shows it."""
    return {
        "old": {"asset_no": "OLD-1", "registers": {"total": "48213.6"}, "seals": ["S-1"]} | (old or {}),
        "new": {
            "asset_no": "NEW-1",
            "digits": 6,
            "registers": {"total": "0.0"},
            "ct_ratio": 1,
            "pt_ratio": 1,
            "seals": [{"number": "S-9", "position": "terminal cover"}],
        }
        | (new or {}),
    } | other


def meter_situation(status: str = "on_site", **other: Any) -> Situation:
    return situation(status, "meter_change", **({"installation": installation()} | other))


REPAIRED = {
    "cause_major": "cable",
    "fault_place": "service joint",
    "ownership": "utility",
    "work_done": "joint renewed",
}


def only(decision: Decision, kind: type[Any]) -> Any:
    """The one effect of that type."""
    found = every(decision, kind)
    assert len(found) == 1, f"expected one {kind.__name__}: {decision}"
    return found[0]


def every(decision: Decision, kind: type[Any]) -> list[Effect]:
    return [effect for effect in decision.effects if isinstance(effect, kind)]


def reached(decision: Decision) -> dict[str, datetime]:
    return {effect.clock: effect.at for effect in decision.effects if isinstance(effect, ReachStage)}


def fields(decision: Decision) -> list[str]:
    return [error["field"] for error in decision.errors]
