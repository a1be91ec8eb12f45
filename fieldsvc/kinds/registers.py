"""Register arithmetic of a meter change: energy per register, the sum of the parts, and what a fall may mean.

Everything is exact decimals; an answer is JSON-ready data with decimal strings, so that a reviewer sees the arithmetic.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Context, Decimal, localcontext
from typing import Any

PARTS = ("sharp", "peak", "flat", "valley")
NEEDED_PARTS = ("peak", "flat", "valley")
"""Sharp is missing on meters of three rates; without one of these there is no sum to check."""

_PLACES = Decimal("0.0001")
_EXACT = Context(prec=80)
"""Wide enough that nothing here is ever rounded: 18 digits of a reading times two ratios, added up."""


def text(value: Decimal) -> str:
    """A decimal as people write it: no exponent, no trailing zeros."""
    written = format(value, "f")
    return written.rstrip("0").rstrip(".") if "." in written else written


def texts(values: Mapping[str, Decimal]) -> dict[str, str]:
    return {register: text(value) for register, value in values.items()}


@dataclass(frozen=True, slots=True)
class Record:
    """The installed meter as the record has it.

    ``multiplier`` is CT x PT; ``billed`` and ``read`` hold the last billed and the last read value per register.
    """

    asset_no: str
    digits: int | None
    multiplier: Decimal
    billed: dict[str, Decimal]
    read: dict[str, Decimal]
    since: datetime | None
    daily_kwh: Decimal | None

    @classmethod
    def of(cls, installation: Mapping[str, Any]) -> Record:
        digits = installation.get("digits")
        since = installation.get("last_billed_at") or installation.get("installed_at")
        multiplier = _decimal(installation.get("multiplier"))
        return cls(
            str(installation.get("asset_no")),
            digits if isinstance(digits, int) else None,
            Decimal(1) if multiplier is None else multiplier,
            _values(installation.get("last_billed")),
            _values(installation.get("last_read")),
            since if isinstance(since, datetime) else None,
            _decimal(installation.get("daily_kwh")),
        )


def _decimal(value: Any) -> Decimal | None:
    if isinstance(value, Decimal) and value.is_finite():
        return value
    return Decimal(value) if isinstance(value, int) and not isinstance(value, bool) else None


def _values(values: Any) -> dict[str, Decimal]:
    if not isinstance(values, Mapping):
        return {}
    known = {str(register): _decimal(value) for register, value in values.items()}
    return {register: value for register, value in known.items() if value is not None}


def too_long(values: Mapping[str, Decimal], digits: int | None) -> list[str]:
    """Registers whose value the meter cannot show."""
    return [] if digits is None else [register for register, value in values.items() if value >= 10**digits]


def energy(last: Decimal, final: Decimal, multiplier: Decimal) -> Decimal:
    """kWh between two readings of one register."""
    return _EXACT.multiply(_EXACT.subtract(final, last), multiplier)


def swap_energy(record: Record, final: Mapping[str, Decimal], choice: str | None = None) -> dict[str, dict[str, Any]]:
    """Energy per register up to the exchange, step by step; the new meter's part is zero at that moment.

    :param choice: for registers that fell: ``wrap`` (the register went once round), ``misread`` (no energy can be
        told), None (not decided; no energy either).
    """
    steps: dict[str, dict[str, Any]] = {}
    for register in record.billed.keys() & final.keys():
        last, value = record.billed[register], final[register]
        difference: Decimal | None = _EXACT.subtract(value, last)
        wrapped = value < last and choice == "wrap" and record.digits is not None
        if wrapped:
            difference = _EXACT.subtract(_EXACT.add(value, Decimal(10) ** (record.digits or 0)), last)
        elif value < last:
            difference = None
        kwh = None if difference is None else _EXACT.multiply(difference, record.multiplier)
        steps[register] = {
            "last_billed": text(last),
            "final": text(value),
            "difference": None if difference is None else text(difference),
            "multiplier": text(record.multiplier),
            "energy_kwh": None if kwh is None else text(kwh),
            "new_part_kwh": "0",
            "wrapped": wrapped,
        }
    return dict(sorted(steps.items()))


def sum_check(values: Mapping[str, Decimal], units: Decimal, relative: Decimal, multiplier: Decimal) -> dict[str, Any]:
    """Whether sharp + peak + flat + valley is the total, within the larger of two tolerances.

    :param values: energies in kWh (or register values, with ``multiplier`` 1).
    :param units: tolerance in register units; :param relative: tolerance as a share of the total.
    """
    if "total" not in values or any(part not in values for part in NEEDED_PARTS):
        return {"checked": False, "within": True}
    parts = [part for part in PARTS if part in values]
    total = values["total"]
    with localcontext(_EXACT):
        added = sum((values[part] for part in parts), Decimal(0))
        difference = added - total
        limit = max(units * multiplier, relative * abs(total))
    return {
        "checked": True,
        "parts": {part: text(values[part]) for part in parts},
        "sum": text(added),
        "total": text(total),
        "difference": text(difference),
        "tolerance": text(limit),
        "within": abs(difference) <= limit,
    }


def fallen(record: Record, final: Mapping[str, Decimal]) -> list[str]:
    """Registers that read less than they were billed at or read at before."""
    return sorted(
        register
        for register, value in final.items()
        if any(value < known[register] for known in (record.billed, record.read) if register in known)
    )


def usual(record: Record, register: str, at: datetime) -> tuple[Decimal, int] | None:
    """The energy (kWh) and days since the last bill that the customer's typical use tells for a register at ``at``;
    None where that use is not known.
    """
    daily, since = record.daily_kwh, record.since
    if register != "total" or daily is None or daily <= 0 or since is None or at <= since:
        return None
    days = max((at - since).days, 1)
    return _EXACT.multiply(daily, Decimal(days)), days


def against_usual(
    installation: Mapping[str, Any], energy_kwh: Mapping[str, str], at: datetime
) -> dict[str, dict[str, Any]]:
    """Register → ``{"typical_kwh", "days", "times"}``: what is typically used until ``at``, and how many times that an
    energy is; only of registers where it is known.
    """
    record = Record.of(installation)
    found: dict[str, dict[str, Any]] = {}
    for register, kwh in energy_kwh.items():
        expected = usual(record, register, at)
        if expected is not None:
            typical, days = expected
            times = (Decimal(kwh) / typical).quantize(Decimal("0.01"))
            found[register] = {"typical_kwh": text(typical), "days": days, "times": text(times)}
    return found


def fall_candidates(record: Record, register: str, final: Decimal, at: datetime) -> list[dict[str, Any]]:
    """The two things a fall can be, each with its plausibility from 0 to 1. Nobody chooses here.

    The wrap's plausibility is how well its energy agrees with the typical use since the last bill (the smaller over the
    larger). Where that use is not known, it is how near the top the register stood times how near the bottom it is.
    """
    last = max(known[register] for known in (record.billed, record.read) if register in known)
    misread: dict[str, Any] = {
        "kind": "misread",
        "fell_by": text(last - final),
        "arithmetic": f"{text(last)} - {text(final)}",
        "energy_kwh": None,
        "plausibility": None,
    }
    if record.digits is None:
        return [misread]
    top = Decimal(10) ** record.digits
    billed = record.billed.get(register, last)
    kwh = energy(billed, _EXACT.add(top, final), record.multiplier)
    wrap: dict[str, Any] = {
        "kind": "wrap",
        "arithmetic": f"(10^{record.digits} - {text(billed)} + {text(final)}) x {text(record.multiplier)}",
        "energy_kwh": text(kwh),
    }
    expected = usual(record, register, at)
    with localcontext(_EXACT):
        if expected is not None:
            typical, days = expected
            share = min(kwh, typical) / max(kwh, typical) if kwh > 0 else Decimal(0)
            wrap |= {"typical_kwh": text(typical), "days": days, "basis": "typical daily use"}
        else:
            share = max(last / top, Decimal(0)) * max(1 - final / top, Decimal(0))
            wrap |= {"basis": "position on the register"}
        plausible = min(max(share, Decimal(0)), Decimal(1)).quantize(_PLACES)
    misread["plausibility"] = text(1 - plausible)
    return [wrap | {"plausibility": text(plausible)}, misread]
