"""Meter change (换表): the old meter off and the new one on as one act, with the energy across it accounted for.

What cannot be right on paper but was done on site is parked with its arithmetic, never guessed away: another meter than
the one on record, a register that fell, parts that do not add up to the total, a seal that is fitted elsewhere, a
time before the meter was there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from fieldsvc.base.clock import format_time
from fieldsvc.kinds.base import (
    Decision,
    Effect,
    ExchangeMeter,
    Fault,
    FitSeals,
    Kind,
    Operation,
    RemoveSeals,
    SetResult,
    Situation,
    applied,
    parked,
    rejected,
)
from fieldsvc.kinds.common import OPERATIONS, Complete, Handler, complete, judge, on_record, result_of
from fieldsvc.kinds.payloads import AssetNo, Photos, Position, Prose, Registers, fault
from fieldsvc.kinds.registers import (
    Record,
    energy,
    fall_candidates,
    fallen,
    sum_check,
    swap_energy,
    texts,
    too_long,
)
from fieldsvc.rules import NoRule

SealNo = Annotated[str, Meta(min_length=1, max_length=60)]
Ratio = Annotated[int, Meta(ge=1, le=100_000)]
Words = Annotated[str, Meta(max_length=60)]

WAIVABLE = frozenset({"energy_mismatch", "seal_in_use", "clock_suspect"})
"""What a dispatcher may let pass as it is. A wrong meter is put right on record first and then judged again."""


class Seal(msgspec.Struct):
    number: SealNo
    position: Words | None = None
    kind: Annotated[str, Meta(max_length=40)] | None = None
    condition: Words | None = None


Seals = Annotated[list[Seal | SealNo], Meta(max_length=40)]
"""Seals by number alone or with what is known of them."""


class OldMeter(msgspec.Struct):
    """The meter that was found and taken off, with its final readings and the seals removed."""

    asset_no: AssetNo
    registers: Registers
    seals: Seals = []


class NewMeter(msgspec.Struct):
    """The meter put on, with its initial readings, its ratios and the seals fitted."""

    asset_no: AssetNo
    digits: Annotated[int, Meta(ge=1, le=12)]
    registers: Registers
    ct_ratio: Ratio = 1
    pt_ratio: Ratio = 1
    seals: Seals = []

    def faults(self) -> Iterator[tuple[str, str]]:
        if "total" not in self.registers:
            yield "/registers/total", "is missing: every meter has a total"
        for register in too_long(_decimals(self.registers), self.digits):
            yield f"/registers/{register}", f"has more digits than the meter's {self.digits}"
        yield from _repeated(self.seals)


class Exchange(msgspec.Struct):
    """``meter.exchange``: one act; both meters change at ``occurred_at``."""

    old: OldMeter
    new: NewMeter
    photos: Photos = []
    position: Position | None = None
    note: Prose | None = None

    def faults(self) -> Iterator[tuple[str, str]]:
        if self.old.asset_no == self.new.asset_no:
            yield "/new/asset_no", "is the number of the old meter: nothing was exchanged"
        yield from ((f"/old{at}", reason) for at, reason in _repeated(self.old.seals))


class MeterChangeResult(Complete, kw_only=True):
    """``job.result`` after completion: the exchange as it was judged, and what closed the visit."""

    exchange: dict[str, Any]


def _repeated(seals: Sequence[Seal | str]) -> Iterator[tuple[str, str]]:
    numbers = _numbers(seals)
    for position, number in enumerate(numbers):
        if number in numbers[:position]:
            yield f"/seals/{position}", f"names seal {number} twice"


def _numbers(seals: Sequence[Seal | str]) -> tuple[str, ...]:
    return tuple(seal if isinstance(seal, str) else seal.number for seal in seals)


def _decimals(registers: dict[Any, str]) -> dict[str, Decimal]:
    return {str(register): Decimal(value) for register, value in registers.items()}


def _exchanged(op: Operation, payload: Exchange, situation: Situation, moved: tuple[Effect, ...]) -> Decision:
    result = result_of(situation)
    if "exchange" in result:
        told = {"recorded": result["exchange"], "second": _told(payload)}
        return parked("duplicate_work", told | {"text": "a meter has been exchanged on this job already"})
    installation = situation.installation
    if not installation or installation.get("asset_no") != payload.old.asset_no:
        return parked("wrong_meter", _wrong_meter(payload, situation))
    record = Record.of(installation)
    final, initial = _decimals(payload.old.registers), _decimals(payload.new.registers)
    long: tuple[Fault, ...] = tuple(
        fault(f"/payload/old/registers/{register}", f"has more digits than the meter's {record.digits}")
        for register in too_long(final, record.digits)
    )
    if long:
        return rejected("bad_payload", {"on_record": {"asset_no": record.asset_no, "digits": record.digits}}, long)
    choice = next((c for c in ("wrap", "misread") if f"register_fell:{c}" in situation.waived), None)
    steps = swap_energy(record, final, choice)
    arithmetic: dict[str, Any] = {"energy": steps}
    waived = situation.waived & WAIVABLE
    found = [problem for problem in _problems(op, payload, situation, record, arithmetic) if problem[0] not in waived]
    if found:
        return parked(found[0][0], {"problems": [{"reason": reason, **facts} for reason, facts in found], **arithmetic})
    at = _not_before_it_was_there(op, situation)
    exchange = _told(payload) | {"at": format_time(at)} | arithmetic
    act = ExchangeMeter(
        payload.old.asset_no,
        payload.new.asset_no,
        at,
        payload.new.digits,
        payload.new.ct_ratio,
        payload.new.pt_ratio,
        final,
        initial,
        arithmetic,
        "quarantined" if choice == "misread" and fallen(record, final) else "posted",
    )
    return applied(
        *moved,
        RemoveSeals(_numbers(payload.old.seals)),
        act,
        FitSeals(tuple(_seal(seal) for seal in payload.new.seals)),
        SetResult(result | {"exchange": exchange}),
        explanation=arithmetic | _remarks(payload, situation),
    )


def _told(payload: Exchange) -> dict[str, Any]:
    told: dict[str, Any] = msgspec.to_builtins(payload)
    return told


def _seal(seal: Seal | str) -> dict[str, Any]:
    built: dict[str, Any] = msgspec.to_builtins(Seal(seal) if isinstance(seal, str) else seal)
    return built


Problem = tuple[str, dict[str, Any]]


def _problems(
    op: Operation, payload: Exchange, situation: Situation, record: Record, arithmetic: dict[str, Any]
) -> Iterator[Problem]:
    """Everything that keeps the exchange from being posted, the gravest first; sums are left in ``arithmetic``."""
    elsewhere = _installed_elsewhere(payload, situation)
    if elsewhere:
        yield "wrong_meter", elsewhere
    final = _decimals(payload.old.registers)
    known = record.billed.keys() | record.read.keys()
    missing, extra = sorted(known - final.keys()), sorted(final.keys() - record.billed.keys())
    if missing or extra:
        yield "energy_mismatch", {"missing_registers": missing, "registers_not_on_record": extra}
    decided = any(waived.startswith("register_fell:") for waived in situation.waived)
    fell = fallen(record, final)
    if fell and not decided:
        candidates = {name: fall_candidates(record, name, final[name], op.occurred_at) for name in fell}
        yield "register_fell", {"registers": candidates}
    units, relative = _tolerances(op, situation)
    energies = {
        register: Decimal(step["energy_kwh"])
        for register, step in arithmetic["energy"].items()
        if step["energy_kwh"] is not None
    }
    arithmetic["sum"] = sum_check(energies, units, relative, record.multiplier)
    arithmetic["new_sum"] = sum_check(_decimals(payload.new.registers), units, relative, Decimal(1))
    for name in ("sum", "new_sum"):
        if not arithmetic[name]["within"]:
            yield "energy_mismatch", {name: arithmetic[name]}
    taken = sorted(set(_numbers(payload.new.seals)) & situation.seal_numbers_in_use)
    if taken:
        yield "seal_in_use", {"seals": taken}
    off = sorted(set(_numbers(payload.old.seals)) & situation.seals_elsewhere)
    if off:
        yield "seal_in_use", {"seals_removed_here_and_fitted_elsewhere": off}
    if _not_before_it_was_there(op, situation) != op.occurred_at:
        installed_at = format_time((situation.installation or {})["installed_at"])
        yield "clock_suspect", {"occurred_at": format_time(op.occurred_at), "old_meter_installed_at": installed_at}


def _not_before_it_was_there(op: Operation, situation: Situation) -> datetime:
    """When the meter was exchanged: at the earliest when the one taken off had been installed."""
    installed_at = (situation.installation or {}).get("installed_at")
    return max(op.occurred_at, installed_at) if isinstance(installed_at, datetime) else op.occurred_at


def _tolerances(op: Operation, situation: Situation) -> tuple[Decimal, Decimal]:
    """Register units and share of the total; today's where a device's clock points to before the first edition."""
    try:
        return _tolerances_on(op.occurred_at.date(), situation)
    except NoRule:
        return _tolerances_on(situation.now.date(), situation)


def _tolerances_on(on: date, situation: Situation) -> tuple[Decimal, Decimal]:
    units = situation.rules.tolerance("energy_sum_register_units", on).value
    relative = situation.rules.tolerance("energy_sum_relative", on).value
    return Decimal(str(units)), Decimal(str(relative))


def _installed_elsewhere(payload: Exchange, situation: Situation) -> dict[str, Any] | None:
    """A meter is on one usage point at a time; at this one it cannot be either, that is where the old meter was."""
    meter = situation.meter_by_asset.get(payload.new.asset_no) or {}
    place = meter.get("usage_point_id")
    if place is None:
        return None
    return {"new_meter_installed_elsewhere": {"asset_no": payload.new.asset_no, "usage_point_id": place}}


def _wrong_meter(payload: Exchange, situation: Situation) -> dict[str, Any]:
    """Both meters side by side: what was found on site, what the record says, and the sums if the record were meant."""
    installation = situation.installation or {}
    on_site = situation.meter_by_asset.get(payload.old.asset_no) or {}
    final = _decimals(payload.old.registers)
    told: dict[str, Any] = {
        "on_site": {
            "asset_no": payload.old.asset_no,
            "final": texts(final),
            "known": bool(on_site),
            "installed_at_usage_point": on_site.get("usage_point_id"),
        },
        "on_record": None,
        "new": {"asset_no": payload.new.asset_no, "initial": dict(payload.new.registers)},
    }
    if installation:
        record = Record.of(installation)
        told["on_record"] = {
            "asset_no": record.asset_no,
            "last_billed": texts(record.billed),
            "last_read": texts(record.read),
        }
        told["energy_if_the_record_were_meant"] = {
            register: texts({"kwh": energy(last, final[register], record.multiplier)})["kwh"]
            for register, last in sorted(record.billed.items())
            if register in final
        }
    return told


def _remarks(payload: Exchange, situation: Situation) -> dict[str, Any]:
    """What a reader of the history should know though it stops nothing."""
    on_record = {str(seal.get("number")) for seal in situation.seals}
    removed = set(_numbers(payload.old.seals))
    remarks: dict[str, Any] = {
        "seals_removed_not_on_record": sorted(removed - on_record),
        "seals_on_record_not_removed": sorted(on_record - removed),
    }
    if payload.new.asset_no not in situation.meter_by_asset:
        remarks["new_meter_entered_in_register_of_assets"] = payload.new.asset_no
    return {name: value for name, value in remarks.items() if value}


def _completed(op: Operation, payload: Complete, situation: Situation, moved: tuple[Effect, ...]) -> Decision:
    exchange = result_of(situation).get("exchange")
    if not isinstance(exchange, dict):
        text = "a meter change is completed after its meter.exchange; if no meter was changed, send job.not_done"
        return rejected("state_not_allowed", {"text": text})
    old, new = exchange.get("old") or {}, exchange.get("new") or {}
    return complete(op, payload, situation, moved, f"meter {old.get('asset_no')} replaced by {new.get('asset_no')}", {})


_OPERATIONS: dict[str, type[msgspec.Struct]] = {**OPERATIONS, "meter.exchange": Exchange}
_HANDLERS: dict[str, Handler] = {"meter.exchange": _exchanged, "job.complete": _completed}


def reconcile(op: Operation, situation: Situation) -> Decision:
    return judge(op, situation, _OPERATIONS, _HANDLERS)


def _on_record(op: Operation, situation: Situation) -> dict[str, Any]:
    """The exchange that is on record already, else the meter that hangs there and its seals."""
    if op.kind != "meter.exchange":
        return on_record(op, situation)
    result = result_of(situation)
    if "exchange" in result:
        return {name: result["exchange"].get(name) for name in ("old", "new")}
    installation = situation.installation
    if not installation:
        return {}
    seals = [{"number": seal.get("number"), "position": seal.get("position")} for seal in situation.seals]
    return {"old": {"asset_no": installation.get("asset_no"), "seals": seals}}


KIND = Kind(
    name="meter_change",
    title="Meter change",
    title_zh="换表",
    operations=_OPERATIONS,
    service_minutes=30,
    skill="metering",
    result_type=MeterChangeResult,
    reconcile=reconcile,
    bulk=True,
    interrupts_supply=True,
    needs_meter=True,
    on_record=_on_record,
)
