"""Walking a route: when a crew is where, if it does these jobs in this order, and what does not come out.

The walk never stops at a fault. A plan in force may have slipped already, and what a further job makes worse can only
be told beside what was wrong before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import NamedTuple

from fieldsvc.geo.model import Break, Goals, PlanCrew, PlanJob
from fieldsvc.geo.travel import NO_WAY, Matrix

START, END = "start", "end"
"""What the place where a crew sets out, and the one where it has to be at the end, are called in :class:`Ways`."""


@dataclass(frozen=True)
class Ways:
    """The ways between the places of one crew: :data:`START`, :data:`END` and its jobs by id, as rows of a matrix."""

    matrix: Matrix
    rows: Mapping[str, int]

    def seconds(self, start: str, end: str) -> int | None:
        """Driving time; ``None``: there is no way."""
        found = int(self.matrix.seconds[self.rows[start], self.rows[end]])
        return None if found == NO_WAY else found

    def metres(self, start: str, end: str) -> float:
        return float(self.matrix.metres[self.rows[start], self.rows[end]])


class Fault(NamedTuple):
    """A hard rule that a route breaks: ``unreachable``, ``window``, ``break``, ``follows`` or ``shift_end``.

    ``job`` is the one it befalls, ``None`` for the route as a whole. ``would`` is when something would happen and
    ``limit`` when it would have had to at the latest; both ``None`` where it is not a matter of time.
    """

    rule: str
    job: PlanJob | None
    would: datetime | None = None
    limit: datetime | None = None

    @property
    def excess_min(self) -> float:
        """By how much the limit is missed; without limits, more than any of them could be."""
        if self.would is None or self.limit is None:
            return 1e6
        return (self.would - self.limit) / timedelta(minutes=1)


class Visit(NamedTuple):
    """One job of a walked route."""

    job: PlanJob
    arrive_at: datetime
    begin_at: datetime
    leave_at: datetime
    late_min: float


@dataclass(frozen=True)
class Walk:
    """A walked route. ``seconds`` and ``metres`` are driving, with the way home where the goals count it."""

    visits: tuple[Visit, ...]
    faults: tuple[Fault, ...]
    end_at: datetime
    seconds: int
    metres: float
    overtime_min: float

    def visit(self, job_id: str) -> Visit:
        """:raises StopIteration: the job is not on this route."""
        return next(visit for visit in self.visits if visit.job.id == job_id)


class _Reached(NamedTuple):
    """The best way to have come so far with some of the breaks taken: the least missed, then the soonest free."""

    missed_min: float
    free: datetime
    visit: Visit | None
    faults: tuple[Fault, ...]
    before: _Reached | None


def sets_out(crew: PlanCrew, now: datetime) -> datetime:
    """When a crew can set out: in its shift, once it is done with what is under way, not before ``now``."""
    return max(now, crew.shift.start, crew.free_at or now)


def walk(crew: PlanCrew, jobs: Sequence[PlanJob], ways: Ways, goals: Goals, now: datetime) -> Walk:
    """Do ``jobs`` in this order from :func:`sets_out` on, as soon as windows allow, with breaks where they cost least.

    :param ways: knows :data:`START` and every job; :data:`END` where the crew has to be somewhere at the end.
    """
    start = sets_out(crew, now)
    breaks = [] if "break" in goals.off else _breaks(crew, start)
    timed = [replace(job, windows=()) for job in jobs] if "window" in goals.off else jobs
    reached: dict[int, _Reached] = {0: _Reached(0.0, start, None, (), None)}
    for here, job in zip([START, *(job.id for job in jobs)], timed, strict=False):
        reached = _onward(reached, breaks, ways.seconds(here, job.id), job)
    last = jobs[-1].id if jobs else START
    home = ways.seconds(last, END) if goals.return_to_base and END in ways.rows else 0
    final = _onward(reached, breaks, home, None)[len(breaks)]
    visits, faults = _told(final)
    limit = crew.shift.end + timedelta(minutes=goals.overtime_min)
    if final.free > limit:
        faults.append(Fault("shift_end", None, final.free, limit))
    faults += _order_faults(jobs)
    stations = [START, *(job.id for job in jobs)] + ([END] if goals.return_to_base and END in ways.rows else [])
    return Walk(
        visits=tuple(visits),
        faults=tuple(faults),
        end_at=final.free,
        seconds=sum(ways.seconds(*leg) or 0 for leg in pairwise(stations)),
        metres=sum(ways.metres(*leg) for leg in pairwise(stations)),
        overtime_min=max(0.0, (final.free - crew.shift.end) / timedelta(minutes=1)),
    )


def least_time(crew: PlanCrew, jobs: Sequence[PlanJob], seconds: float, goals: Goals, now: datetime) -> datetime:
    """Before when no order of ``jobs`` with so much driving ends, however well the windows lie."""
    start = sets_out(crew, now)
    breaks = [] if "break" in goals.off else _breaks(crew, start)
    rest = sum(job.service_min for job in jobs) + sum(pause.minutes for pause in breaks)
    return start + timedelta(seconds=seconds, minutes=rest)


def _breaks(crew: PlanCrew, start: datetime) -> list[Break]:
    """The breaks that a crew can still take in its shift with nothing else to do, in order."""
    found: list[Break] = []
    for pause in sorted(crew.breaks, key=lambda pause: (pause.earliest, pause.latest)):
        begin = max(start, pause.earliest)
        if begin <= pause.latest and begin + timedelta(minutes=pause.minutes) <= crew.shift.end:
            found.append(pause)
            start = begin + timedelta(minutes=pause.minutes)
    return found


def _onward(
    reached: Mapping[int, _Reached], breaks: Sequence[Break], seconds: int | None, job: PlanJob | None
) -> dict[int, _Reached]:
    """One leg further and, with a ``job``, its visit; for every number of breaks taken by then, the best way to it."""
    found: dict[int, _Reached] = {}
    for taken, before in reached.items():
        for upto in range(taken, len(breaks) + 1):
            step = _step(before, breaks[taken:upto], seconds, job)
            if upto not in found or step[:2] < found[upto][:2]:
                found[upto] = step
    return found


def _step(before: _Reached, breaks: Sequence[Break], seconds: int | None, job: PlanJob | None) -> _Reached:
    """Drive for ``seconds``, take ``breaks`` before, on or after the way, then do the job."""
    faults: list[Fault] = [] if seconds is not None else [Fault("unreachable", job)]
    free, arrive = before.free, before.free + timedelta(seconds=seconds or 0)
    for pause in breaks:
        begins, length = max(free, pause.earliest), timedelta(minutes=pause.minutes)
        if begins > pause.latest:
            faults.append(Fault("break", job, begins, pause.latest))
        free, arrive = begins + length, max(arrive, pause.earliest) + length
    visit = None
    if job is not None:
        begin, missed = _begin(job, arrive)
        faults += [missed] if missed else []
        late = max(0.0, (begin - job.due) / timedelta(minutes=1)) if job.due else 0.0
        visit = Visit(job, arrive, begin, begin + timedelta(minutes=job.service_min), late)
    missed_min = before.missed_min + (sum(fault.excess_min for fault in faults) if faults else 0.0)
    return _Reached(missed_min, visit.leave_at if visit else arrive, visit, tuple(faults), before)


def _begin(job: PlanJob, arrive: datetime) -> tuple[datetime, Fault | None]:
    """When work begins for somebody who arrives at ``arrive``, and what is wrong with that."""
    if job.starts_at is not None:
        begin = max(arrive, job.starts_at)
        return begin, Fault("window", job, arrive, job.starts_at) if arrive > job.starts_at else None
    if not job.windows:
        return arrive, None
    open_ones = [max(arrive, window.start) for window in job.windows if max(arrive, window.start) <= window.end]
    if open_ones:
        return min(open_ones), None
    return arrive, Fault("window", job, arrive, max(window.end for window in job.windows))


def _told(final: _Reached) -> tuple[list[Visit], list[Fault]]:
    """The visits and faults that led to ``final``, in their order."""
    visits: list[Visit] = []
    faults: list[Fault] = []
    step: _Reached | None = final
    while step is not None:
        visits += [step.visit] if step.visit else []
        faults += reversed(step.faults)
        step = step.before
    return visits[::-1], faults[::-1]


def _order_faults(jobs: Sequence[PlanJob]) -> list[Fault]:
    place = {job.id: number for number, job in enumerate(jobs)}
    return [Fault("follows", job) for job in jobs if job.follows in place and place[job.follows] > place[job.id]]
