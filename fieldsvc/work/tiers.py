"""The rank of a job in a plan: hazards, then emergencies, important customers, promises at risk, and planned work.

What follows from a rank (weight, who is left out first) is said by the rule pack ``dispatch``; here is only which one a
job has.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple

IMPORTANT = frozenset({"special", "first", "second"})
"""Grades of importance (DL/T, GB/T 29328) that put a customer's job before others; ``none`` does not."""


class Standing(NamedTuple):
    """What the rank of a job hangs on.

    :param promised: a promise to the customer is running.
    :param importance: the customer's grade; None: there is no customer.
    :param at_risk_from: a promise due at this time or before is at risk.
    """

    hazards: bool
    promised: bool
    importance: str | None
    due: datetime | None
    at_risk_from: datetime


_TIERS: tuple[tuple[str, Callable[[Standing], bool]], ...] = (
    ("hazard", lambda job: job.hazards),
    ("emergency", lambda job: job.promised),
    ("important", lambda job: job.importance in IMPORTANT),
    ("at_risk", lambda job: job.due is not None and job.due <= job.at_risk_from),
    ("planned", lambda job: True),
)
"""Each rank with what puts a job into it; the first that fits."""

TIERS = tuple(name for name, _ in _TIERS)
"""The ranks, the most urgent first, as ``Goals.tiers`` names them."""


def tier(job: Standing) -> str:
    """The rank of a job."""
    return next(name for name, fits in _TIERS if fits(job))
