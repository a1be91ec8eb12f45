"""Which of far too many jobs can stand in a plan at all: as many as the crews have hours for, by rank and nearness.

It is asked before any travel time is, so that a storm of thousands of jobs costs no more than the day the crews have.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta

from fieldsvc.geo.drafting import Candidate
from fieldsvc.geo.model import Goals, PlanCrew
from fieldsvc.geo.screening import Refusal, begins

_FEW = 60
"""Up to so many jobs the solver chooses itself."""
_WAY = timedelta(minutes=5)
"""What the way to a further job is taken to cost."""
_OVERFULL = 1.5
"""So many times their hours is left for the solver to choose from."""


def within_hours(
    candidates: Sequence[Candidate], now: datetime, goals: Goals
) -> tuple[list[Candidate], dict[str, Refusal]]:
    """The candidates there may be time for, in their order, and why the others are refused."""
    if len(candidates) <= _FEW:
        return list(candidates), {}
    hours = {
        crew.id: (crew.shift.end - begins(crew, now) + timedelta(minutes=goals.overtime_min)) * _OVERFULL
        for one in candidates
        for crew in one.crews
    }
    chosen: set[str] = set()
    ranks: dict[str, Counter[int]] = {ident: Counter() for ident in hours}
    refused: dict[str, Refusal] = {}
    near = {one.job.id: _nearest(one) for one in candidates}
    for one in sorted(candidates, key=lambda one: (*_order(one), near[one.job.id][0], one.job.id)):
        crews = near[one.job.id][1]
        free = next((crew for crew in crews if hours[crew.id] > timedelta()), None)
        if free is None and not one.job.pinned:
            refused[one.job.id] = _refusal(one, ranks)
            continue
        crew = free or crews[0]
        hours[crew.id] -= timedelta(minutes=max(0.0, one.job.service_min)) + _WAY
        ranks[crew.id][one.tier.rank] += 1
        chosen.add(one.job.id)
    return [one for one in candidates if one.job.id in chosen], refused


def _order(one: Candidate) -> tuple[int | float, ...]:
    job = one.job
    return one.tier.rank, one.depth, -job.customers, job.priority, job.due.timestamp() if job.due else math.inf


def _nearest(one: Candidate) -> tuple[float, list[PlanCrew]]:
    """How far the nearest crew that may do the job is, in degrees, and all of them, the nearest first."""
    lon, lat = one.job.lon or 0.0, one.job.lat or 0.0
    narrow = math.cos(math.radians(lat))

    def far(crew: PlanCrew) -> float:
        return math.hypot(((crew.lon or 0.0) - lon) * narrow, (crew.lat or 0.0) - lat)

    near = sorted(((far(crew), crew.id, crew) for crew in one.crews), key=lambda at: at[:2])
    return near[0][0], [crew for _, _, crew in near]


def _refusal(one: Candidate, ranks: dict[str, Counter[int]]) -> Refusal:
    before = sum((ranks[crew.id] for crew in one.crews), Counter[int]())
    higher = sum(number for rank, number in before.items() if rank < one.tier.rank)
    could = "one crew" if len(one.crews) == 1 else f"{len(one.crews)} crews"
    needs = f"it needs {one.job.service_min:g} min on site"
    if higher:
        return Refusal("outranked", f"{could} could, and {higher} jobs go before it by rank; {needs}")
    detail = f"{could} could, and {before.total()} jobs nearer or promised sooner leave no time; {needs}"
    return Refusal("no_shift_time", detail)
