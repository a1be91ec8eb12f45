"""Reads a finished draft: routes with their times, and the reason of every stop and every refusal."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from fieldsvc.geo.drafting import Basis
from fieldsvc.geo.model import Route, Stop
from fieldsvc.geo.screening import Refusal
from fieldsvc.geo.timing import Draft, Task, Team


def routes(basis: Basis, settled: Mapping[int, str], grouped: Collection[str]) -> tuple[Route, ...]:
    """The routes of all teams with something to do, by crew id."""
    draft = basis.draft
    return tuple(_route(basis, team, settled, grouped) for team in draft.teams if draft.planned_by(team.number))


def _route(basis: Basis, team: Team, settled: Mapping[int, str], grouped: Collection[str]) -> Route:
    draft, steps = basis.draft, basis.draft.steps[team.number]
    moments = draft.moments(team.number, steps)
    assert moments is not None
    stops: list[Stop] = []
    place, seconds, metres = team.place, 0, 0.0
    for position, (step, moment) in enumerate(zip(steps, moments, strict=True)):
        if step < 0:
            continue
        task = draft.tasks[step]
        way, far = draft.seconds[place][task.place], float(basis.matrix.metres[place, task.place])
        late = 0.0 if task.due is None else max(0.0, round((moment.begin - task.due) / 60, 1))
        without = [*steps[:position], *steps[position + 1 :]]
        why = {
            "rule": _rule(task, team, draft, settled, grouped),
            "distance_m": round(far),
            "travel_min": round(way / 60, 1),
            "considered": len(draft.considered[task.number]),
            "added_min": round(draft.added(team.number, without, position, step) / 60, 1),
            **({"late_min": late} if late else {}),
            **_further(task, team),
        }
        arrive, begin, leave = (basis.epoch + timedelta(seconds=second) for second in moment)
        stops.append(
            Stop(
                task.job.id,
                team.crew.id,
                team.crew.load + len(stops) + 1,
                arrive,
                begin,
                leave,
                travel_min=round(way / 60, 2),
                distance_m=round(far, 1),
                late_min=late,
                why=why,
            )
        )
        place, seconds, metres = task.place, seconds + way, metres + far
    if team.end_place is not None:
        seconds += draft.seconds[place][team.end_place]
        metres += float(basis.matrix.metres[place, team.end_place])
    end = draft.finish(team.number, steps)
    return Route(
        team.crew.id,
        tuple(stops),
        basis.epoch + timedelta(seconds=team.start),
        basis.epoch + timedelta(seconds=end),
        round(metres, 1),
        round(seconds / 60, 2),
        round(max(0, end - team.end) / 60, 2),
    )


def _rule(task: Task, team: Team, draft: Draft, settled: Mapping[int, str], grouped: Collection[str]) -> str:
    """What decided, the strongest first."""
    job = task.job
    if job.pinned and job.crew_id == team.crew.id:
        return "pinned"
    if job.id in grouped:
        return "assists" if job.assists else "two_crews"
    if task.number in settled and task.tier.soonest:
        return settled[task.number]
    if len(draft.considered[task.number]) == 1:
        return "only_crew"
    if job.territory_id not in team.crew.home:
        return "helping_out"
    return "least_added_driving"


def _further(task: Task, team: Team) -> dict[str, Any]:
    beyond = team.crew.reach.get(task.job.territory_id or "")
    return {} if beyond is None or task.job.territory_id in team.crew.home else {"beyond_home_m": round(beyond)}


def refusal(basis: Basis, task: Task, *, in_group: bool) -> Refusal:
    """Why a task that somebody may do stands in no route."""
    draft, number = basis.draft, task.number
    able = sorted(draft.considered[number])
    draft.latest[number], draft.earliest[number] = draft.horizon, 0
    draft.ends = [team.last for team in draft.teams]
    if not any(draft.alone(number, team) for team in able):
        return _alone_too_long(basis, task, able)
    if in_group:
        return Refusal("no_second_crew", f"{_crews(len(able))} could, but never two at the same time")
    planned = draft.planned()
    higher = [n for n, team in planned.items() if team in able and draft.tasks[n].tier.rank < task.tier.rank]
    holding = sum(1 for team in planned.values() if team in able)
    needs = f"it needs {task.service / 60:g} min on site"
    if higher:
        ranked = f"{len(higher)} of the {holding} jobs they have go before it by rank"
        return Refusal("outranked", f"{_crews(len(able))} could, and {ranked}; {needs}")
    return Refusal("no_shift_time", f"{_crews(len(able))} could, and their {holding} jobs leave no time; {needs}")


def _alone_too_long(basis: Basis, task: Task, able: list[int]) -> Refusal:
    """Not even a crew with nothing else to do could: for its windows, or for the length of the shift."""
    draft, number = basis.draft, task.number
    draft.tasks[number] = replace(task, windows=((0, draft.horizon),))
    free = [team for team in able if draft.alone(number, team)]
    draft.tasks[number] = task
    teams = [draft.teams[team] for team in able]
    soonest = min(team.start + draft.seconds[team.place][task.place] for team in teams)
    if free and task.windows:
        opens, closes = task.windows[0][0], task.windows[-1][1]
        detail = f"{_crews(len(able))} could come, but not inside {_span(basis, opens, closes)}"
        if soonest <= closes:
            return Refusal("window_missed", f"{detail}: {task.service / 60:g} min on site would outlast the shift")
        return Refusal("window_missed", f"{detail}; the first would be there {_time(basis.epoch, soonest)}")
    longest = max(team.last - team.start for team in teams)
    detail = f"{task.service / 60:g} min on site and the way do not fit; the longest shift has {longest / 60:g} left"
    return Refusal("no_shift_time", detail)


def _span(basis: Basis, opens: int, closes: int) -> str:
    return f"{_time(basis.epoch, opens)} to {_time(basis.epoch, closes)}"


def _time(epoch: datetime, second: int) -> str:
    return (epoch + timedelta(seconds=second)).strftime("%Y-%m-%d %H:%M UTC")


def _crews(number: int) -> str:
    return "one crew" if number == 1 else f"{number} crews"
