"""Three-way merge of one device's edit with what is on record, field by field, by policy. Pure.

For every field there are three values: ``base`` (what the device saw: ``was``), ``device`` (what it set) and ``record``
(what is there now). A field is in overlap when the record no longer holds what the device saw. Equal values are never a
conflict. The merge is of one operation: when one field must be reviewed or refused, nothing of it is stored.

Policies:

- ``server_wins`` / ``field_wins``: in overlap the record / the device keeps its value; severity soft.
- ``latest_occurred``: in overlap the value that was set later in the field; at the same time the record's; soft. So
  that any order of delivery ends the same, whoever stores keeps a field's time also when an equal value came later.
- ``append``: what the device added is added to the record (lists and text); never a conflict.
- ``set_union``: what the device added is added, what it took away is taken away; never a conflict.
- ``max`` / ``min``: the larger / smaller of device and record, in overlap or not; never a conflict.
- ``review``: in overlap a person decides; severity hard, the operation is parked.
- ``must_match``: the device states what it saw; another value is hard, the operation is parked.
- ``state_machine``: not merged here: job kinds move a status. An edit of such a field is refused.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any

POLICIES = frozenset(
    "server_wins field_wins latest_occurred append max min set_union state_machine must_match review".split()
)

FALLBACK = "review"
"""The policy of a field that has none, neither by name nor by ``"*"``."""

_SEVERITIES = ("none", "soft", "hard")


@dataclass(frozen=True, slots=True)
class Merge:
    """What became of the edit.

    ``values``: what to store (only fields whose value changes; empty when parked or rejected).
    ``conflicts``: ``{field, base, device, record, policy, chosen, severity}``; ``chosen`` is ``device``, ``record``,
    ``both`` or ``nobody``, severity ``none``, ``soft`` or ``hard``.
    """

    outcome: str
    values: dict[str, Any]
    conflicts: tuple[dict[str, Any], ...]


@dataclass(frozen=True, slots=True)
class _Field:
    """One field's three values. ``seen`` is false when the device did not say what it saw."""

    name: str
    policy: str
    base: Any
    seen: bool
    device: Any
    record: Any
    overlap: bool

    def conflict(self, chosen: str, severity: str) -> dict[str, Any]:
        return {
            "field": self.name,
            "base": self.base,
            "device": self.device,
            "record": self.record,
            "policy": self.policy,
            "chosen": chosen,
            "severity": severity,
        }


def merge(
    policy_by_field: Mapping[str, str],
    base_values: Mapping[str, Any],
    device_values: Mapping[str, Any],
    current_values: Mapping[str, Any],
    changed_since: Collection[str],
    occurred_at: datetime,
    current_at: datetime | Mapping[str, datetime] | None = None,
) -> Merge:
    """Merge ``device_values`` into ``current_values``.

    :param policy_by_field: field → policy; ``"*"`` for the others, without it they are reviewed.
    :param changed_since: fields that somebody else changed after the revision the device had seen.
    :param occurred_at: when the device's edit was made (estimated).
    :param current_at: when the record's value was made, for all fields or per field; unknown counts as earlier.
    :raises ValueError: a policy nobody knows.
    """
    values: dict[str, Any] = {}
    conflicts: list[dict[str, Any]] = []
    for name in sorted(device_values):
        policy = policy_by_field.get(name, policy_by_field.get("*", FALLBACK))
        if policy not in POLICIES:
            raise ValueError(f"no such merge policy: {policy}")
        record, device = current_values.get(name), device_values[name]
        if same(record, device):
            continue
        seen = name in base_values
        base = base_values.get(name)
        overlap = not same(base, record) if seen else name in changed_since
        field = _Field(name, policy, base, seen, device, record, overlap)
        value, conflict = _decide(field, occurred_at, _time_of(current_at, name))
        if conflict is not None:
            conflicts.append(conflict)
        if not same(value, record):
            values[name] = value
    return _conclude(values, conflicts, bool(changed_since))


def _conclude(values: dict[str, Any], conflicts: list[dict[str, Any]], stale: bool) -> Merge:
    worst = max((_SEVERITIES.index(conflict["severity"]) for conflict in conflicts), default=0)
    if any(conflict["policy"] == "state_machine" for conflict in conflicts):
        outcome = "rejected"
    elif worst == 2:
        outcome = "parked"
    elif worst == 1:
        outcome = "applied_conflict"
    else:
        outcome = "merged" if stale or conflicts else "applied"
    return Merge(outcome, {} if outcome in ("parked", "rejected") else values, tuple(conflicts))


def _time_of(current_at: datetime | Mapping[str, datetime] | None, name: str) -> datetime | None:
    return current_at.get(name) if isinstance(current_at, Mapping) else current_at


def _decide(field: _Field, occurred_at: datetime, current_at: datetime | None) -> tuple[Any, dict[str, Any] | None]:
    """The value to hold and the conflict to report, if any."""
    if field.policy in ("state_machine", "must_match"):
        return field.record, field.conflict("nobody", "hard")
    if field.policy in ("max", "min", "append", "set_union"):
        combined = _combine(field)
        if combined is not None:
            value = combined[0]
            if not field.overlap:
                return value, None
            chosen = "device" if same(value, field.device) else "record" if same(value, field.record) else "both"
            return value, field.conflict(chosen, "none")
        if field.overlap:  # values of a form that the policy cannot combine: a person looks
            return field.record, field.conflict("nobody", "hard")
    if not field.overlap:
        return field.device, None
    if field.policy == "review":
        return field.record, field.conflict("nobody", "hard")
    device_wins = field.policy == "field_wins" or (
        field.policy == "latest_occurred" and (current_at is None or occurred_at > current_at)
    )
    if device_wins:
        return field.device, field.conflict("device", "soft")
    return field.record, field.conflict("record", "soft")


def _combine(field: _Field) -> tuple[Any] | None:
    """The combined value in a tuple of one, or None when the values' forms do not allow it."""
    if field.policy == "append":
        return _append(field)
    if field.policy == "set_union":
        return _set_union(field)
    if field.record is None or field.device is None:
        present = field.device if field.record is None else field.record
        return (present,)
    device, record = _ordinal(field.device), _ordinal(field.record)
    if device is None or record is None or device[0] != record[0]:
        return None
    larger = device > record
    return (field.device if larger == (field.policy == "max") else field.record,)


def _append(field: _Field) -> tuple[Any] | None:
    base, device, record = field.base, field.device, field.record
    if all(isinstance(value, list) for value in (device, record if record is not None else [])):
        already = [*(record or []), *(base if isinstance(base, list) else [])]
        return ([*(record or []), *_without(device, already)],)
    if isinstance(device, str) and isinstance(record, str | None):
        added = device[len(base) :] if isinstance(base, str) and device.startswith(base) else device
        added, kept = added.strip("\n"), record or ""
        if not added or added in kept.split("\n") or kept.endswith("\n" + added):
            return (record,)
        return (f"{kept}\n{added}" if kept else added,)
    return None


def _set_union(field: _Field) -> tuple[Any] | None:
    device, record = field.device, field.record if field.record is not None else []
    base = field.base if isinstance(field.base, list) else []
    if not isinstance(device, list) or not isinstance(record, list):
        return None
    removed = _without(base, device)
    return (_without([*record, *_without(device, [*base, *record])], removed),)


def _without(values: list[Any], others: list[Any]) -> list[Any]:
    """``values`` once each, in their order, less what is among ``others``."""
    kept: list[Any] = []
    for value in values:
        if not any(same(value, other) for other in (*others, *kept)):
            kept.append(value)
    return kept


def _ordinal(value: Any) -> tuple[str, Any] | None:
    """Something of an order, with what it is: a number (also one in text), or text such as an RFC 3339 time in UTC."""
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        return None
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return ("text", value)
    return ("number", number) if number.is_finite() else None


def same(one: Any, other: Any) -> bool:
    """Whether two JSON values are equal as JSON: ``true`` is not 1, 1 is 1.0, order of members does not matter."""
    if type(one) is type(other) and isinstance(one, str | bool | int | None):
        return bool(one == other)
    return _canonical(one) == _canonical(other)


def _canonical(value: Any) -> str:
    return json.dumps(_plain(value), sort_keys=True, default=str)


def _plain(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(member) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(member) for member in value]
    return value
