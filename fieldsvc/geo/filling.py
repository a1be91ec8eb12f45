"""Fills the routes of a draft by the solver, giving up promises in small steps, and no rank for a lower one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

from fieldsvc.geo.model import Goals
from fieldsvc.geo.parts import WHOLE, parts
from fieldsvc.geo.placing import rank
from fieldsvc.geo.timing import Draft


def fill(draft: Draft, active: Collection[int], settled: set[int], goals: Goals) -> None:
    """Put the ``active`` tasks into routes. ``settled``: those that stand there and stay with their teams."""
    steps = goals.lateness_steps_min or (0,)
    fresh = set(active) - draft.planned().keys()
    for number in fresh:
        _allow(draft, number, steps[0])
    base = [list(route) for route in draft.steps]
    stayed = _stay(draft, fresh)
    turns = range(4 + 2 * goals.effort)
    _solve(draft, active, settled, goals, turns, complete=bool(fresh))
    if stayed and set(active) - draft.planned().keys():
        kept, served = draft.steps, _served(draft)
        draft.steps = [list(route) for route in base]
        _solve(draft, active, settled, goals, turns)
        if _served(draft) <= served:
            draft.steps = kept
    for turn, minutes in enumerate((*steps[1:], None)):
        late = [n for n in fresh - draft.planned().keys() if draft.tasks[n].due is not None]
        if not late:
            break
        for number in late:
            _allow(draft, number, minutes)
        _solve(draft, active, settled, goals, turns=(turn,))
    if goals.overtime_min and set(active) - draft.planned().keys():
        draft.ends = [team.last for team in draft.teams]
        _solve(draft, active, settled, goals)
    if _outranked(draft, active):
        _by_rank(draft, active, settled, base, goals)


def _stay(draft: Draft, numbers: Collection[int]) -> bool:
    """Begin with every task where it is: a plan that is made again moves what gains by it, not everything. False: no
    crew has any."""
    stayed = False
    team_of = {team.crew.id: team.number for team in draft.teams}
    for task in sorted((draft.tasks[n] for n in numbers), key=rank):
        team = team_of.get(task.job.crew_id or "")
        if team is not None and team in draft.allowed[task.number]:
            spots = list(draft.spots(task.number, team))
            if spots:
                draft.put(min(spots, key=lambda spot: (spot.added, spot.begin, spot.position)), task.number)
                stayed = True
    return stayed


def _allow(draft: Draft, number: int, minutes: int | None) -> None:
    """How late the task may begin: so many minutes after it was promised, None: at any time."""
    due = draft.tasks[number].due
    draft.latest[number] = draft.horizon if due is None or minutes is None else min(draft.horizon, due + minutes * 60)


def _solve(
    draft: Draft,
    active: Collection[int],
    settled: set[int],
    goals: Goals,
    turns: Sequence[int] = (0,),
    *,
    complete: bool = False,
) -> None:
    """One run of the solver over what is planned and what could be, part by part; never for the worse.

    ``complete``: also when nothing is left to be planned, for less driving.
    """
    planned = draft.planned()
    hopeful = [n for n in active if n in planned or any(draft.alone(n, team) for team in sorted(draft.allowed[n]))]
    if not hopeful or (len(hopeful) == len(planned) and not complete):
        return
    # VROOM brings pandas along, 40 MB; only processes that plan load it.
    from fieldsvc.geo.solver import solve

    for turn in turns if len(hopeful) > WHOLE else (0,):
        for teams, tasks in parts(draft, hopeful, turn):
            before, served, had = [list(route) for route in draft.steps], _served(draft), draft.planned().keys()
            solve(draft, tasks, teams, settled, goals)
            if _served(draft) < served or not (settled & had) <= draft.planned().keys():
                draft.steps = before
    _insert(draft, hopeful)


def _insert(draft: Draft, numbers: Collection[int]) -> None:
    """Put in what the solver left over and what still fits between the others, in order of rank."""
    planned = draft.planned()
    for task in sorted((draft.tasks[n] for n in numbers if n not in planned), key=rank):
        spots = [spot for team in sorted(draft.allowed[task.number]) for spot in draft.spots(task.number, team)]
        if spots:
            draft.put(min(spots, key=lambda spot: (spot.added, spot.begin, spot.team, spot.position)), task.number)


def _served(draft: Draft) -> tuple[int, ...]:
    """How many are planned of each rank, the highest first: what two drafts are compared by."""
    counted = Counter(draft.tasks[n].tier.rank for n in draft.planned())
    return tuple(counted[level] for level in sorted({task.tier.rank for task in draft.tasks}))


def _outranked(draft: Draft, active: Collection[int]) -> bool:
    """Whether a task is left out while one of a lower rank is not."""
    planned = draft.planned()
    left = [draft.tasks[n].tier.rank for n in active if n not in planned]
    return bool(left) and any(draft.tasks[n].tier.rank > min(left) for n in planned)


def _by_rank(draft: Draft, active: Collection[int], settled: set[int], base: list[list[int]], goals: Goals) -> None:
    """Solve again rank by rank, each on top of what the higher ones got; keep it if they got more."""
    before, served = [list(route) for route in draft.steps], _served(draft)
    draft.steps = [list(route) for route in base]
    standing = draft.planned().keys()
    for level in sorted({draft.tasks[n].tier.rank for n in active}):
        chosen = [n for n in active if draft.tasks[n].tier.rank <= level or n in standing]
        _solve(draft, chosen, settled, goals)
    if _served(draft) <= served:
        draft.steps = before
