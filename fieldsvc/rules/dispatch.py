"""What the pack ``dispatch`` says: hard rules, ranks of jobs, and what is weighed; and what may stand there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

HARD = frozenset({"skill", "equipment", "territory", "capacity", "window", "break", "return_to_base"})

_MOST: Mapping[str, int] = {
    "at_risk_min": 7 * 24 * 60,
    "soonest_slack_min": 240,
    "overtime_min": 12 * 60,
    "crew_cost_min": 24 * 60,
    "help_cost_min": 24 * 60,
    "help_out_m": 1_000_000,
    "effort": 5,
}
GOALS = frozenset({*_MOST, "lateness_steps_min"})
"""What is weighed, by name."""

_TIER = {"rank", "weight", "soonest", "in_time"}


@dataclass(frozen=True)
class DispatchRules:
    """The rules of dispatch on one date.

    :param hard: rule → whether it holds, for every one of :data:`HARD`.
    :param tiers: rank of jobs → ``{"rank": 1, "weight": 100, "soonest": True, "in_time": False}``.
    :param goals: value by name, for every one of :data:`GOALS`.
    :param sources: source and edition by ``of.name``, such as ``goal.help_cost_min``.
    """

    hard: Mapping[str, bool]
    tiers: Mapping[str, Mapping[str, Any]]
    goals: Mapping[str, Any]
    sources: Mapping[str, str]


def fault(keys: Mapping[str, str], value: Any) -> str | None:
    """What is wrong with an entry of the pack; None: nothing."""
    check = {"hard": _hard, "tier": _tier, "goal": _goal}.get(keys["of"])
    return check(keys["name"], value) if check else f"of must be hard, tier or goal, not {keys['of']!r}"


def _hard(name: str, value: Any) -> str | None:
    if name not in HARD:
        return f"name must be one of {', '.join(sorted(HARD))}, not {name!r}"
    return None if isinstance(value, bool) else f"value must be true or false, not {value!r}"


def _tier(_name: str, value: Any) -> str | None:
    if not isinstance(value, dict) or set(value) != _TIER:
        return "value must be {rank, weight, soonest, in_time}"
    if not isinstance(value["soonest"], bool) or not isinstance(value["in_time"], bool):
        return "soonest and in_time must be true or false"
    if not _whole(value["rank"], 1, 100) or not _whole(value["weight"], 1, 100):
        return "rank and weight must be whole numbers from 1 to 100"
    return None


def _goal(name: str, value: Any) -> str | None:
    if name == "lateness_steps_min":
        steps = value if isinstance(value, list) else []
        if not 1 <= len(steps) <= 10 or not all(_whole(step, 0, 24 * 60) for step in steps) or steps != sorted(steps):
            return "value must be 1 to 10 whole numbers of minutes from 0 to 1440, rising"
        return None
    if name not in _MOST:
        return f"name must be one of {', '.join(sorted(GOALS))}, not {name!r}"
    if not _whole(value, 0, _MOST[name]):
        return f"value must be a whole number from 0 to {_MOST[name]}, not {value!r}"
    return None


def _whole(value: Any, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most
