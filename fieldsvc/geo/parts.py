"""Divides a draft that is too large for one search into parts that lie together: a few crews each, with their work.

The search grows faster than the number of jobs, so a plan of many crews is solved part by part, several times with
other borders: neighbours exchange what was kept apart before. Time then grows with the number of parts.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from fieldsvc.geo.placing import rank
from fieldsvc.geo.timing import Draft

WHOLE = 200
"""Up to so many tasks are solved in one."""
_MOST = 120
_SHARES = (1 / 2, 1 / 3, 2 / 3)
"""Where a division is cut: turn by turn somewhere else, so that no border stays."""
_WAY = 300
"""Seconds of driving that a further job is taken to cost when hours are counted."""
_OVERFULL = 1.3
"""More work than a team has hours is tried with it up to this factor; the rest could not stand anywhere."""


class Part(NamedTuple):
    """Teams and the tasks they have or may get."""

    teams: list[int]
    tasks: list[int]


def parts(draft: Draft, numbers: Collection[int], turn: int) -> list[Part]:
    """Divide the tasks and the teams that may do them. An even ``turn`` cuts east from west first, an odd one north
    from south; every two turns the shares are others. Tasks beyond what anybody has hours for are in no part."""
    teams = sorted({team for number in numbers for team in draft.allowed[number]})
    if len(numbers) <= WHOLE:
        return [Part(teams, sorted(numbers))]
    work = _by_team(draft, numbers, teams)
    where = {team: _centre(draft, team) for team in teams}
    return [
        Part(sorted(group), sorted(n for team in group for n in work[team])) for group in _cut(teams, work, where, turn)
    ]


def _by_team(draft: Draft, numbers: Collection[int], teams: Sequence[int]) -> dict[int, list[int]]:
    """Each task with the team that has it, else with the nearest that may do it and has hours left for it."""
    work: dict[int, list[int]] = {team: [] for team in teams}
    hours = {team: float(draft.ends[team] - draft.teams[team].start) for team in teams}
    planned = draft.planned()
    for number in sorted(numbers):
        if number in planned:
            work[planned[number]].append(number)
            hours[planned[number]] -= draft.tasks[number].service + _WAY
    for task in sorted((draft.tasks[n] for n in numbers if n not in planned), key=rank):
        able = sorted(
            draft.allowed[task.number], key=lambda team: (draft.seconds[draft.teams[team].place][task.place], team)
        )
        spare = {team: (_OVERFULL - 1) * (draft.ends[team] - draft.teams[team].start) for team in able}
        team = next((team for team in able if hours[team] > 0), None)
        if team is None:
            team = next((team for team in able if hours[team] + spare[team] > 0), None)
        if team is not None:
            work[team].append(task.number)
            hours[team] -= task.service + _WAY
    return work


def _centre(draft: Draft, team: int) -> tuple[float, float]:
    """The middle of where the team sets out and of its work."""
    crew = draft.teams[team].crew
    places = [(crew.lon, crew.lat), *((draft.tasks[n].job.lon, draft.tasks[n].job.lat) for n in draft.planned_by(team))]
    return sum(lon or 0.0 for lon, _ in places) / len(places), sum(lat or 0.0 for _, lat in places) / len(places)


def _cut(
    teams: Sequence[int], work: Mapping[int, Sequence[int]], where: Mapping[int, tuple[float, float]], turn: int
) -> list[list[int]]:
    """Halve the teams, across the one direction and then the other, until their work is small enough."""
    total = sum(len(work[team]) for team in teams)
    if total <= _MOST or len(teams) == 1:
        return [list(teams)]
    ordered = sorted(teams, key=lambda team: (where[team][turn % 2], team))
    done = 0
    half = 1
    for place, team in enumerate(ordered[:-1], 1):
        done += len(work[team])
        half = place
        if done >= total * _SHARES[turn // 2 % 3]:
            break
    return _cut(ordered[:half], work, where, turn ^ 1) + _cut(ordered[half:], work, where, turn ^ 1)
