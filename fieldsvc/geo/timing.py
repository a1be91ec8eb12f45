"""When a crew is where: the arithmetic of routes, in whole seconds from the beginning of the plan.

A route is a list of steps: the number of a task, or ``~k`` for the k-th break of the crew. Everything begins as early
as it can. A break may interrupt a drive: what has been driven before it need not be driven again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fieldsvc.geo.model import PlanCrew, PlanJob, Tier

Span = tuple[int, int]


class Rest(NamedTuple):
    """A break of ``seconds`` that begins within a span."""

    earliest: int
    latest: int
    seconds: int


@dataclass(frozen=True)
class Team:
    """A crew as the arithmetic sees it. ``place`` and ``end_place`` are rows of the matrix; ``end`` is that of the
    shift, ``last`` that with overtime."""

    number: int
    crew: PlanCrew
    place: int
    end_place: int | None
    start: int
    end: int
    last: int
    rests: tuple[Rest, ...]


@dataclass(frozen=True)
class Task:
    """A job as the arithmetic sees it: ``windows`` are when it may begin, sorted; ``due`` is when it should have."""

    number: int
    job: PlanJob
    place: int
    service: int
    windows: tuple[Span, ...]
    due: int | None
    tier: Tier
    depth: int


class Moment(NamedTuple):
    """When a step is reached, begins and is done."""

    arrive: int
    begin: int
    leave: int


class Spot(NamedTuple):
    """A way to put a task into a route."""

    team: int
    position: int
    begin: int
    leave: int
    added: int


class Draft:
    """A plan in the making.

    :ivar considered: by task, the teams that may do it; ``allowed``: those that still may.
    :ivar earliest: by task, with ``latest``: within its windows, when it may begin as things stand. They are narrowed
        when something is settled, and widened when a promise has to be given up.
    :ivar ends: by team, when it has to be back.
    :ivar steps: by team, its route, with all of its breaks.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        teams: Sequence[Team],
        allowed: Sequence[frozenset[int]],
        seconds: NDArray[np.int32],
        horizon: int,
        *,
        loads: bool = True,
    ) -> None:
        self.tasks, self.teams = list(tasks), teams
        self.considered, self.allowed = allowed, list(allowed)
        self.loads = loads and any(task.job.load for task in tasks)
        self.matrix, self.seconds, self.horizon = seconds, seconds.tolist(), horizon
        self.earliest = [0] * len(tasks)
        self.latest = [horizon] * len(tasks)
        self.ends = [team.end for team in teams]
        self.steps = [[~number for number in range(len(team.rests))] for team in teams]

    def moments(self, number: int, steps: Sequence[int]) -> list[Moment] | None:
        """When the team of that number reaches, begins and leaves each step; None when it cannot be done like that."""
        team = self.teams[number]
        at, place, driven = team.start, team.place, 0
        found = []
        for step in steps:
            if step < 0:
                rest = team.rests[~step]
                begin = arrive = max(at, rest.earliest)
                if begin > rest.latest:
                    return None
                driven += begin - at
                at = begin + rest.seconds
            else:
                task = self.tasks[step]
                way = self.seconds[place][task.place]
                if way < 0:
                    return None
                arrive = at + max(0, way - driven)
                first = self._begin(task, arrive)
                if first is None:
                    return None
                begin, place, driven = first, task.place, 0
                at = begin + task.service
            found.append(Moment(arrive, begin, at))
        home = self._home(team, place)
        return None if home is None or at + max(0, home - driven) > self.ends[number] else found

    def _begin(self, task: Task, arrive: int) -> int | None:
        not_before, latest = max(arrive, self.earliest[task.number]), self.latest[task.number]
        for start, end in task.windows:
            begin = max(start, not_before)
            if begin <= min(end, latest):
                return begin
        return None

    def _home(self, team: Team, place: int) -> int | None:
        if team.end_place is None:
            return 0
        way = int(self.seconds[place][team.end_place])
        return None if way < 0 else way

    def finish(self, number: int, steps: Sequence[int]) -> int:
        """When the team is done with these steps and where it has to end; the steps can be done."""
        moments = self.moments(number, steps)
        assert moments is not None
        team, at, place, driven = self.teams[number], self.teams[number].start, self.teams[number].place, 0
        for step, moment in zip(steps, moments, strict=True):
            driven = driven + moment.begin - at if step < 0 else 0
            place = place if step < 0 else self.tasks[step].place
            at = moment.leave
        return at + max(0, (self._home(team, place) or 0) - driven)

    def load(self, steps: Iterable[int]) -> int:
        """The units of load of all tasks among ``steps``."""
        return sum(self.tasks[step].job.load for step in steps if step >= 0)

    def fits(self, number: int, steps: Sequence[int]) -> bool:
        """Whether the vehicle of the team holds what the tasks need."""
        capacity = self.teams[number].crew.capacity
        return not self.loads or capacity is None or self.load(steps) <= capacity

    def spots(self, step: int, number: int) -> Iterable[Spot]:
        """Every position in the route of a team at which the task can stand, the others keeping their times."""
        steps = self.steps[number]
        if not self.fits(number, [*steps, step]):
            return
        for position in range(len(steps), -1, -1):
            moments = self.moments(number, [*steps[:position], step, *steps[position:]])
            if moments is not None:
                moment = moments[position]
                yield Spot(number, position, moment.begin, moment.leave, self.added(number, steps, position, step))

    def added(self, number: int, steps: Sequence[int], position: int, step: int) -> int:
        """Seconds of driving that a task costs between the steps before and after ``position``."""
        team = self.teams[number]
        before = next((self.tasks[s].place for s in reversed(steps[:position]) if s >= 0), team.place)
        after = next((self.tasks[s].place for s in steps[position:] if s >= 0), team.end_place)
        here = self.tasks[step].place
        there = int(self.seconds[before][here])
        if after is None:
            return there
        return there + int(self.seconds[here][after]) - int(self.seconds[before][after])

    def put(self, spot: Spot, step: int) -> None:
        """Put a task where a spot says."""
        self.steps[spot.team].insert(spot.position, step)

    def breaks_after(self, number: int, head: Sequence[int]) -> list[int]:
        """The breaks of a team that are not in the head of its route."""
        return [~k for k in range(len(self.teams[number].rests)) if ~k not in head]

    def rested(self, number: int, head: Sequence[int], tasks: Sequence[int]) -> list[int] | None:
        """The route of a team: ``head`` as it is, then the tasks in this order, and its breaks where they delay the
        work least; None: it cannot be done."""
        breaks = self.breaks_after(number, head)
        best: tuple[int, list[int]] | None = None
        for places in combinations_with_replacement(range(len(tasks), -1, -1), len(breaks)):
            steps = list(tasks)
            for place, step in zip(places, breaks[::-1], strict=True):
                steps.insert(place, step)
            moments = self.moments(number, [*head, *steps])
            if moments is not None:
                begins = [moment.begin for moment in moments[len(head) :]]
                waited = sum(begin for begin, step in zip(begins, steps, strict=True) if step >= 0)
                if best is None or waited < best[0]:
                    best = (waited, [*head, *steps])
        return best[1] if best else None

    def alone(self, step: int, number: int) -> bool:
        """Whether the team could do the task if it had nothing else to do."""
        team = self.teams[number]
        rests = [~k for k in range(len(team.rests))]
        return self.fits(number, [step]) and any(
            self.moments(number, [*rests[:at], step, *rests[at:]]) is not None for at in range(len(rests), -1, -1)
        )

    def begins(self, number: int) -> dict[int, int]:
        """When each task in the route of a team begins."""
        steps = self.steps[number]
        moments = self.moments(number, steps)
        assert moments is not None
        return {step: moment.begin for step, moment in zip(steps, moments, strict=True) if step >= 0}

    def state(self) -> tuple[list[list[int]], list[frozenset[int]], list[int], list[int], list[int]]:
        """All that changes while a plan is made, to come back to."""
        steps = [list(route) for route in self.steps]
        return steps, list(self.allowed), list(self.earliest), list(self.latest), list(self.ends)

    def restore(self, state: tuple[list[list[int]], list[frozenset[int]], list[int], list[int], list[int]]) -> None:
        """Come back to a state, which is used up by that."""
        self.steps, self.allowed, self.earliest, self.latest, self.ends = state

    def planned_by(self, number: int) -> list[int]:
        """The tasks in the route of a team."""
        return [step for step in self.steps[number] if step >= 0]

    def planned(self) -> dict[int, int]:
        """Task → team, of all that stand in a route."""
        return {step: number for number, steps in enumerate(self.steps) for step in steps if step >= 0}
