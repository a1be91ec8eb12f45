"""From jobs and crews to a draft: rows of the travel matrix, whole seconds, who may do what and can get there."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from fieldsvc.geo.model import Goals, PlanCrew, PlanJob, Tier
from fieldsvc.geo.screening import Refusal, begins, has_place
from fieldsvc.geo.timing import Draft, Rest, Span, Task, Team
from fieldsvc.geo.travel import Matrix, Place, TravelTimes


@dataclass(frozen=True)
class Candidate:
    """A job that somebody may do, with the rank it goes by: its own, or that of what waits for it."""

    job: PlanJob
    crews: Sequence[PlanCrew]
    tier: Tier
    depth: int


@dataclass(frozen=True)
class Basis:
    """A draft with no task placed, and what it was made of. ``epoch`` is second 0."""

    draft: Draft
    matrix: Matrix
    epoch: datetime
    refused: Mapping[str, Refusal]
    notes: tuple[str, ...]


class Seconds:
    """Turns times into whole seconds from the beginning of the plan and back."""

    def __init__(self, now: datetime) -> None:
        self.epoch = now if not now.microsecond else now.replace(microsecond=0) + timedelta(seconds=1)

    def up(self, moment: datetime) -> int:
        return math.ceil((moment - self.epoch).total_seconds())

    def down(self, moment: datetime) -> int:
        return math.floor((moment - self.epoch).total_seconds())


def drafted(candidates: Sequence[Candidate], now: datetime, travel: TravelTimes, goals: Goals) -> Basis:
    """Ask for travel times once, for all places, and lay out the draft. Jobs that no crew can reach are refused."""
    crews = sorted({crew.id: crew for one in candidates for crew in one.crews}.values(), key=lambda crew: crew.id)
    places: dict[Place, int] = {}
    rows = [_row(places, Place(*_lonlat(one.job), one.job.site_class)) for one in candidates]
    starts = [_row(places, Place(*_lonlat(crew))) for crew in crews]
    ends = [_end_row(places, crew, goals) for crew in crews]
    matrix = travel.matrix(list(places))
    clock, notes = Seconds(now), []
    horizon = max((clock.down(crew.shift.end) + goals.overtime_min * 60 for crew in crews), default=0)
    teams = []
    for number, crew in enumerate(crews):
        end = ends[number]
        if end is not None and all(matrix.seconds[row, end] < 0 for row in rows):
            notes.append(f"crew {crew.code or crew.id}: no way leads to where it has to end its shift; planned without")
            end = None
        home = 0 if end is None else max(0, int(matrix.seconds[starts[number], end]))
        teams.append(_team(number, crew, starts[number], end, home, clock, now, goals))
    of = {team.crew.id: team for team in teams}
    tasks: list[Task] = []
    allowed: list[frozenset[int]] = []
    refused: dict[str, Refusal] = {}
    for one, row in zip(candidates, rows, strict=True):
        able = [of[crew.id] for crew in one.crews if of[crew.id].end <= of[crew.id].last]
        if not able:
            detail = f"{len(one.crews)} could do it, but none has time for more than the way back before its shift ends"
            refused[one.job.id] = Refusal("no_shift_time", detail)
            continue
        reaching = frozenset(team.number for team in able if _reaches(matrix, team, row))
        if not reaching:
            detail = f"{len(able)} could do it, but no way leads from any of them to the job and on"
            refused[one.job.id] = Refusal("unreachable", detail)
            continue
        tasks.append(_task(len(tasks), one, row, clock, now, horizon, goals))
        allowed.append(reaching)
    draft = Draft(tasks, teams, allowed, matrix.seconds, horizon, loads="capacity" not in goals.off)
    return Basis(draft, matrix, clock.epoch, refused, tuple(notes))


def _lonlat(of: PlanJob | PlanCrew) -> tuple[float, float]:
    assert of.lon is not None and of.lat is not None  # screening has refused all others
    return of.lon, of.lat


def _row(places: dict[Place, int], place: Place) -> int:
    return places.setdefault(place, len(places))


def _end_row(places: dict[Place, int], crew: PlanCrew, goals: Goals) -> int | None:
    if not goals.return_to_base or not has_place(crew.end_lon, crew.end_lat):
        return None
    assert crew.end_lon is not None and crew.end_lat is not None
    return _row(places, Place(crew.end_lon, crew.end_lat))


def _reaches(matrix: Matrix, team: Team, row: int) -> bool:
    there = matrix.seconds[team.place, row] >= 0
    return bool(there and (team.end_place is None or matrix.seconds[row, team.end_place] >= 0))


def _team(
    number: int,
    crew: PlanCrew,
    place: int,
    end_place: int | None,
    home: int,
    clock: Seconds,
    now: datetime,
    goals: Goals,
) -> Team:
    start, end = clock.up(begins(crew, now)), clock.down(crew.shift.end)
    last = end + goals.overtime_min * 60
    rests: list[Rest] = []
    free, taken = start, 0
    for pause in sorted(crew.breaks, key=lambda one: (one.earliest, one.latest)):
        rest = Rest(max(start, clock.up(pause.earliest)), clock.down(pause.latest), math.ceil(pause.minutes * 60))
        # A break whose time is over was taken; one that cannot be taken before the shift ends needs no time of it.
        begin = max(rest.earliest, free)
        driven = begin - start - taken
        ends = begin + rest.seconds + max(0, home - driven)
        if "break" not in goals.off and rest.seconds > 0 and begin <= rest.latest and ends <= end:
            rests.append(rest)
            free, taken = begin + rest.seconds, taken + rest.seconds
    return Team(number, crew, place, end_place, start, max(start + home, end), last, tuple(rests))


def _task(number: int, one: Candidate, row: int, clock: Seconds, now: datetime, horizon: int, goals: Goals) -> Task:
    job, due = one.job, one.job.due
    windows = _windows(job, clock, horizon, goals)
    if job.pinned and job.crew_id is not None and job.starts_at is not None:
        if job.starts_at >= now:
            exact = clock.up(job.starts_at)
            windows = ((exact, exact),) if exact <= horizon else ()
        else:  # it should have begun; the crew is late, the job is not lost
            due = job.starts_at
    service = math.ceil(max(0.0, job.service_min) * 60)
    return Task(number, job, row, service, windows, None if due is None else clock.down(due), one.tier, one.depth)


def _windows(job: PlanJob, clock: Seconds, horizon: int, goals: Goals) -> tuple[Span, ...]:
    if not job.windows or "window" in goals.off:
        return ((0, horizon),)
    spans = [(max(0, clock.up(window.start)), min(horizon, clock.down(window.end))) for window in job.windows]
    merged: list[Span] = []
    for start, end in sorted(span for span in spans if span[0] <= span[1]):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return tuple(merged)
