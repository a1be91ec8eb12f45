"""What is settled before the solver begins: who is soonest at a hazard, fixed beginnings, and work for two crews.

One after the other, in the order of rank, each task takes the place in the routes where it begins first. Whatever was
settled before it keeps its time.
"""

from __future__ import annotations

from collections.abc import Sequence

from fieldsvc.geo.timing import Draft, Spot, Task

_MOST_BEGINNINGS = 200
"""How many common beginnings are tried for a job of several crews."""


def rank(task: Task) -> tuple[int | float | str, ...]:
    """The order in which tasks are served: the tier, what comes before others, how many are without supply, priority,
    promise."""
    job = task.job
    due = float("inf") if task.due is None else task.due
    return (task.tier.rank, task.depth, -job.customers, job.priority, due, job.id)


def soonest(draft: Draft, task: Task, slack: int) -> bool:
    """Give the task to the team that can begin it first, and settle it there: it may begin ``slack`` seconds later.

    False: nobody can; nothing is changed then.
    """
    draft.latest[task.number] = draft.horizon
    best: tuple[tuple[int | str, ...], Spot] | None = None
    for number in sorted(draft.allowed[task.number]):
        crew = draft.teams[number].crew
        for spot in draft.spots(task.number, number):
            key = (spot.begin, spot.added, crew.load + len(draft.steps[number]), crew.id, spot.position)
            if best is None or key < best[0]:
                best = (key, spot)
    if best is None:
        return False
    spot = best[1]
    draft.put(spot, task.number)
    settle(draft, task, spot.team, spot.begin, slack)
    return True


def settle(draft: Draft, task: Task, team: int, begin: int, slack: int = 0) -> None:
    """The task stays with the team and begins by then."""
    draft.allowed[task.number] = frozenset({team})
    draft.latest[task.number] = begin + slack


def together(draft: Draft, tasks: Sequence[Task]) -> bool:
    """Find the first moment at which all of ``tasks`` can begin, each with a team of its own, and settle them there."""
    for begin in _beginnings(draft, tasks):
        teams = _matched(draft, tasks, begin, [])
        if teams is not None:
            for task, spot in zip(tasks, teams, strict=True):
                draft.earliest[task.number] = begin
                draft.put(spot, task.number)
                settle(draft, task, spot.team, begin)
            return True
    return False


def _beginnings(draft: Draft, tasks: Sequence[Task]) -> list[int]:
    """When all could begin: the first beginnings of each with each team, and the openings of windows."""
    found: set[int] = set()
    floor = 0
    for task in tasks:
        firsts = [
            min(spot.begin for spot in spots)
            for number in draft.allowed[task.number]
            if (spots := list(draft.spots(task.number, number)))
        ]
        if not firsts:
            return []
        floor = max(floor, min(firsts))
        found.update(firsts, (start for start, _ in task.windows))
    found.add(floor)
    return sorted(begin for begin in found if begin >= floor)[:_MOST_BEGINNINGS]


def _matched(draft: Draft, tasks: Sequence[Task], begin: int, taken: list[int]) -> list[Spot] | None:
    """A spot for each of the tasks, all beginning then, no team twice."""
    if not tasks:
        return []
    task, *rest = tasks
    for spot in sorted(_exactly(draft, task, begin), key=lambda spot: (spot.added, spot.team)):
        if spot.team not in taken:
            others = _matched(draft, rest, begin, [*taken, spot.team])
            if others is not None:
                return [spot, *others]
    return None


def _exactly(draft: Draft, task: Task, begin: int) -> list[Spot]:
    """The best spot of each team in which the task begins exactly then."""
    kept = draft.earliest[task.number], draft.latest[task.number]
    draft.earliest[task.number] = draft.latest[task.number] = begin
    found = []
    for number in sorted(draft.allowed[task.number]):
        spots = list(draft.spots(task.number, number))
        if spots:
            found.append(min(spots, key=lambda spot: (spot.added, spot.position)))
    draft.earliest[task.number], draft.latest[task.number] = kept
    return found
