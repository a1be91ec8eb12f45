"""The only place that knows VROOM: a draft goes in as jobs, vehicles and matrices, and comes back with better routes.

The search is the same every time: one thread, no time limit. Routes that stand already are where it starts from.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import vroom

from fieldsvc.geo.model import Goals
from fieldsvc.geo.timing import Draft, Task, Team

_UNLIMITED = 1_000_000
_IDLE = 10 * 60
"""Seconds of waiting in which nothing else is put."""


def solve(draft: Draft, active: Collection[int], teams: Collection[int], fixed: Collection[int], goals: Goals) -> None:
    """Put as many of the ``active`` tasks into the routes of ``teams`` as the solver can, for as little driving.

    What stands in these routes must be among ``active``; other routes stay. ``fixed`` tasks at the beginning of a
    route stay there.
    """
    heads = {team: _head(draft, team, fixed) for team in teams}
    free = sorted(set(active) - {step for team in teams for step in draft.steps[team][: heads[team]]})
    if not free:
        return
    cold: set[int] = set()
    while True:
        try:
            frame = _Model(draft, free, heads, cold, goals).input.solve(goals.effort, nb_threads=1).routes
            break
        except vroom._vroom.VroomInputException as error:
            # VROOM decides by itself on which side of a job a break goes, and then refuses some routes that are sound
            # (VROOM issue 1251). Such a route is built anew.
            refused = re.search(r"route for vehicle (\d+)", str(error))
            if refused is None or int(refused[1]) in cold:
                raise
            cold.add(int(refused[1]))
    found: dict[int, list[int]] = {team: [] for team in teams}
    if "id" in frame:
        for vehicle, kind, ident in zip(frame["vehicle_id"], frame["type"], frame["id"], strict=True):
            if kind == "job":
                found[int(vehicle)].append(int(ident))
    for team, numbers in found.items():
        head = draft.steps[team][: heads[team]]
        steps = draft.rested(team, head, numbers)
        draft.steps[team] = [*head, *draft.breaks_after(team, head)] if steps is None else steps


def _head(draft: Draft, team: int, fixed: Collection[int]) -> int:
    """How many steps at the beginning of a route are settled, with no time between them for anything else."""
    steps, head = draft.steps[team], 0
    moments = draft.moments(team, steps) or []
    for position, (step, moment) in enumerate(zip(steps, moments, strict=True)):
        if step >= 0:
            if step not in fixed or moment.begin - moment.arrive > _IDLE:
                break
            head = position + 1
        elif position and moment.begin - moments[position - 1].leave > _IDLE:
            break
    return head


class _Model:
    """One input of the solver."""

    def __init__(
        self, draft: Draft, numbers: Sequence[int], heads: Mapping[int, int], cold: Collection[int], goals: Goals
    ) -> None:
        self.draft, self.heads, self.cold, self.goals = draft, heads, cold, goals
        tasks, teams = [draft.tasks[n] for n in numbers], [draft.teams[n] for n in heads]
        self.starts = {team.number: self._start(team) for team in teams}
        ends = {team.end_place for team in teams if team.end_place is not None}
        self.rows = sorted({task.place for task in tasks} | {place for place, _ in self.starts.values()} | ends)
        self.row_of = {row: index for index, row in enumerate(self.rows)}
        self.here = frozenset(heads)
        self.skills: dict[frozenset[int], int] = {}
        for number in numbers:
            self.skills.setdefault(draft.allowed[number] & self.here, len(self.skills) + 1)
        self.input = vroom.Input()
        self.profiles: dict[frozenset[str | None], str] = {}
        for team in teams:
            self.input.add_vehicle(self._vehicle(team, self._profile(team, tasks)))
        for task in tasks:
            self.input.add_job(self._job(task))

    def _start(self, team: Team) -> tuple[int, int]:
        """Where and when the team is done with the head of its route."""
        steps = self.draft.steps[team.number][: self.heads[team.number]]
        moments = self.draft.moments(team.number, steps)
        if not steps or not moments:
            return team.place, team.start
        return self.draft.tasks[steps[-1]].place, moments[-1].leave

    def _profile(self, team: Team, tasks: Sequence[Task]) -> str:
        """Territories in which the team would only help out make tasks dearer: one cost matrix for each set of them."""
        away = frozenset(
            task.job.territory_id
            for task in tasks
            if task.job.territory_id not in team.crew.home and team.number in self.draft.allowed[task.number]
        )
        if away not in self.profiles:
            name = self.profiles[away] = f"p{len(self.profiles)}"
            seconds = self.draft.matrix[np.ix_(self.rows, self.rows)].astype(np.int64)
            seconds[seconds < 0] = self.draft.horizon + 1
            self.input.set_durations_matrix(name, seconds)
            if away and self.goals.help_cost_min:
                for task in tasks:
                    if task.job.territory_id in away:
                        seconds[:, self.row_of[task.place]] += self.goals.help_cost_min * 60
            self.input.set_costs_matrix(name, seconds)
        return self.profiles[away]

    def _vehicle(self, team: Team, profile: str) -> vroom.Vehicle:
        draft, number = self.draft, team.number
        done, steps = draft.steps[number][: self.heads[number]], draft.steps[number][self.heads[number] :]
        more: dict[str, Any] = {}
        if draft.loads:
            capacity = _UNLIMITED if team.crew.capacity is None else team.crew.capacity
            more["capacity"] = [capacity - draft.load(done)]
        if number not in self.cold and any(step >= 0 for step in steps):
            jobs = [vroom.VehicleStep("single", step) for step in steps if step >= 0]
            more["steps"] = [vroom.VehicleStep("start"), *jobs, vroom.VehicleStep("end")]
        place, start = self.starts[number]
        return vroom.Vehicle(
            number,
            start=self.row_of[place],
            end=None if team.end_place is None else self.row_of[team.end_place],
            profile=profile,
            skills={skill for allowed, skill in self.skills.items() if number in allowed},
            time_window=(start, max(start, draft.ends[number])),
            breaks=[
                vroom.Break(k, time_windows=[vroom.TimeWindow(rest.earliest, rest.latest)], service=rest.seconds)
                for k, rest in enumerate(team.rests)
                if ~k not in done
            ],
            # A crew that is out already costs nothing more to send.
            costs=vroom.VehicleCosts(fixed=0 if done else self.goals.crew_cost_min * 60),
            **more,
        )

    def _job(self, task: Task) -> vroom.Job:
        draft, number = self.draft, task.number
        earliest, latest = draft.earliest[number], draft.latest[number]
        spans = [(max(s, earliest), min(e, latest)) for s, e in task.windows if max(s, earliest) <= min(e, latest)]
        return vroom.Job(
            number,
            self.row_of[task.place],
            default_service=task.service,
            delivery=[task.job.load] if draft.loads else vroom.Amount(),
            skills={self.skills[draft.allowed[number] & self.here]},
            priority=min(task.tier.weight, 100),
            time_windows=[vroom.TimeWindow(s, e) for s, e in spans],
        )
