"""One day's work on one matrix, and the walker that measures every plan of it alike, whoever made it.

A walk follows a crew along its jobs: it drives at once, waits for a window, works. It knows no planner.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fieldsvc.geo.model import Goals, Plan, PlanCrew, PlanJob, Route, Stop, Unassigned
from fieldsvc.geo.travel import Matrix, Place, TravelTimes

Sequences = Mapping[str, Sequence[str]]
"""Job ids in order, by crew id."""


@dataclass(frozen=True)
class Totals:
    """What a plan comes to.

    :param late: jobs begun after they were promised, by ``late_min`` minutes in all.
    :param left: jobs nobody got, by tier.
    :param missed: windows and ends of shifts missed: 0 for a plan that may be driven.
    """

    jobs: int
    metres: float
    late: int
    late_min: float
    left: dict[str, int]
    missed: int
    crews: int

    def told(self) -> dict[str, Any]:
        return {
            "kilometres": round(self.metres / 1000, 1),
            "assigned": self.jobs,
            "late": self.late,
            "late_min": round(self.late_min),
            "unassigned": sum(self.left.values()),
            "unassigned_by_tier": self.left,
            "missed": self.missed,
            "crews": self.crews,
        }


@dataclass(frozen=True)
class Day:
    """Jobs and crews of one day, crews without breaks, everything placed."""

    jobs: tuple[PlanJob, ...]
    crews: tuple[PlanCrew, ...]
    now: datetime
    goals: Goals
    travel: TravelTimes

    @cached_property
    def places(self) -> list[Place]:
        """Where everything is: the jobs, where the crews set out, where they have to be in the end."""
        jobs = [Place(_known(job.lon), _known(job.lat), job.site_class) for job in self.jobs]
        starts = [Place(_known(crew.lon), _known(crew.lat)) for crew in self.crews]
        ends = [Place(_known(crew.end_lon), _known(crew.end_lat)) for crew in self.crews]
        return jobs + starts + ends

    @cached_property
    def matrix(self) -> Matrix:
        return self.travel.matrix(self.places)

    @cached_property
    def seconds(self) -> NDArray[np.int32]:
        return self.matrix.seconds

    @cached_property
    def job(self) -> dict[str, tuple[int, PlanJob]]:
        """By id, a job and its row of the matrix."""
        return {job.id: (row, job) for row, job in enumerate(self.jobs)}

    @cached_property
    def crew(self) -> dict[str, tuple[int, int, PlanCrew]]:
        """By id, a crew and the rows of its start and its end."""
        first, many = len(self.jobs), len(self.crews)
        return {crew.id: (first + at, first + many + at, crew) for at, crew in enumerate(self.crews)}

    def able(self, job: PlanJob, crew: PlanCrew) -> bool:
        """Whether the crew has what the job needs and works there, at home or helping out."""
        there = job.territory_id in crew.home or job.territory_id in crew.reach
        return there and job.skills <= crew.skills and job.equipment <= crew.equipment

    def begins(self, crew: PlanCrew) -> datetime:
        """When the crew can set out."""
        return max(self.now, crew.shift.start, crew.free_at or self.now)

    def walk(self, crew_id: str, job_ids: Sequence[str]) -> Route:
        """The route of a crew along its jobs; a window that has closed is missed, not waited for."""
        start, end, crew = self.crew[crew_id]
        at, clock = start, self.begins(crew)
        metres, driven = 0.0, 0.0
        stops = []
        for place, job_id in enumerate(job_ids, crew.load + 1):
            row, job = self.job[job_id]
            seconds, way = int(self.seconds[at, row]), float(self.matrix.metres[at, row])
            arrive = clock + timedelta(seconds=seconds)
            begin = next((max(arrive, w.start) for w in job.windows if w.end >= arrive), arrive)
            clock = begin + timedelta(minutes=job.service_min)
            late = max(0.0, (begin - job.due).total_seconds() / 60) if job.due else 0.0
            stops.append(Stop(job_id, crew_id, place, arrive, begin, clock, seconds / 60, way, late))
            metres, driven, at = metres + way, driven + seconds / 60, row
        if stops and self.goals.return_to_base:
            seconds = int(self.seconds[at, end])
            metres, driven = metres + float(self.matrix.metres[at, end]), driven + seconds / 60
            clock += timedelta(seconds=seconds)
        over = max(0.0, (clock - crew.shift.end).total_seconds() / 60) if stops else 0.0
        return Route(crew_id, tuple(stops), self.begins(crew), clock, metres, driven, over)

    def plan(self, sequences: Sequences) -> Plan:
        """The plan that ``sequences`` come to; what is in none of them is left."""
        routes = tuple(self.walk(crew_id, job_ids) for crew_id, job_ids in sorted(sequences.items()) if job_ids)
        taken = {stop.job_id for route in routes for stop in route.stops}
        left = [Unassigned(job.id, "no_shift_time", "left") for job in self.jobs if job.id not in taken]
        return Plan(routes, tuple(sorted(left)), self.matrix.report)

    def totals(self, sequences: Sequences) -> Totals:
        """What ``sequences`` come to when every crew walks them without delay."""
        made = self.plan(sequences)
        stops = made.stops
        late = [stop.late_min for stop in stops if stop.late_min > 0]
        missed = sum(route.overtime_min > self.goals.overtime_min for route in made.routes)
        for stop in stops:
            windows = self.job[stop.job_id][1].windows
            missed += bool(windows) and not any(w.start <= stop.begin_at <= w.end for w in windows)
        left = Counter(self.job[one.job_id][1].tier for one in made.unassigned)
        by_tier = {tier: left[tier] for tier in self.goals.tiers if left[tier]}
        metres = sum(route.distance_m for route in made.routes)
        return Totals(len(stops), metres, len(late), sum(late), by_tier, missed, len(made.routes))


def sequences(plan: Plan) -> dict[str, list[str]]:
    """The order of work in ``plan``."""
    return {route.crew_id: [stop.job_id for stop in route.stops] for route in plan.routes}


def _known(degrees: float | None) -> float:
    assert degrees is not None
    return degrees
