"""The goals of a plan, as the rule pack ``dispatch`` says them."""

from __future__ import annotations

from fieldsvc.geo.model import HARD_RULES, Goals, Tier
from fieldsvc.rules.dispatch import DispatchRules


def goals_of(rules: DispatchRules) -> Goals:
    """What is weighed, and which hard rules hold."""
    weighed = rules.goals
    return Goals(
        tiers={name: Tier(**tier) for name, tier in rules.tiers.items()},
        lateness_steps_min=tuple(weighed["lateness_steps_min"]),
        overtime_min=weighed["overtime_min"],
        return_to_base=rules.hard["return_to_base"],
        crew_cost_min=weighed["crew_cost_min"],
        help_cost_min=weighed["help_cost_min"],
        effort=weighed["effort"],
        soonest_slack_min=weighed["soonest_slack_min"],
        off=frozenset(name for name in HARD_RULES if not rules.hard[name]),
    )
