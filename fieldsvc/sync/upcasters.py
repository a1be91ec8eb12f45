"""Older forms of operations, made into today's when they are read. What the device sent stays stored as it came.

An app may be a year old and still hand in what its crew did. A change of form gets a new number and a step from the
number before; the steps are walked one after the other, so each is written once and never touched again. A step is
pure, leaves its argument alone, and passes on whatever it does not know as it is: the kind then names the fault.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Op = dict[str, Any]

SCHEMA_VERSION = 1
"""The form that the kinds read, and what an operation has that names no version."""


def _from_0(op: Op) -> Op:
    """0 is the flat form of simple apps. 1: a position is a GeoJSON Point instead of ``{lon, lat}``, and a meter has
    ``registers`` instead of one ``reading``, which is its total.
    """
    payload = op.get("payload")
    if not isinstance(payload, dict):
        return op
    members = {name: change(payload[name]) for name, change in _CHANGED_IN_1.items() if name in payload}
    return op | {"payload": payload | members}


def _point(position: Any) -> Any:
    if not isinstance(position, dict) or not {"lon", "lat"} <= position.keys():
        return position
    rest = {name: value for name, value in position.items() if name not in ("lon", "lat")}
    return {"type": "Point", "coordinates": [position["lon"], position["lat"]]} | rest


def _registers(meter: Any) -> Any:
    if not isinstance(meter, dict) or "reading" not in meter or "registers" in meter:
        return meter
    rest = {name: value for name, value in meter.items() if name != "reading"}
    return rest | {"registers": {"total": meter["reading"]}}


_CHANGED_IN_1: Mapping[str, Callable[[Any], Any]] = {
    "position": _point,
    "old": _registers,
    "new": _registers,
    "meter_check": _registers,
}

STEPS: Mapping[int, Callable[[Op], Op]] = {0: _from_0}
"""Version -> what makes an operation of it into one of the next. None goes while an app may still send it."""

KNOWN = (*sorted(STEPS), SCHEMA_VERSION)


def upcast(op: Op) -> Op:
    """``op`` in today's form; unchanged if its ``schema_version`` is today's, unknown or no number."""
    version = op.get("schema_version", SCHEMA_VERSION)
    while isinstance(version, int) and not isinstance(version, bool) and version in STEPS:
        op = STEPS[version](op)
        version += 1
        op = op | {"schema_version": version}
    return op
