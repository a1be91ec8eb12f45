"""The way of a crew: its open jobs in their order, when each was planned and when it is to be expected.

Only read here; what a plan should do about a delay is a dispatch run's business.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import select

from fieldsvc.base.clock import parse_time
from fieldsvc.base.db import among, db
from fieldsvc.geo.eta import Expected, Visit, expect
from fieldsvc.geo.model import Break, TravelReport
from fieldsvc.geo.travel import Place, TravelTimes
from fieldsvc.kinds.lifecycle import ACTIVE, BEFORE_SITE, DONE, STOPPED
from fieldsvc.people import positions
from fieldsvc.people.models import Crew, Shift
from fieldsvc.work.change import UNDER_WAY
from fieldsvc.work.models import CommitmentClock, Job

MOST = 200
"""How many jobs of a crew are looked at."""

_LAST_STOP = timedelta(hours=12)
"""A job that ended longer ago does not tell where the crew is, when no shift does (illustrative default)."""


class Origin(NamedTuple):
    """Where a crew is taken to be: by its reported ``position``, at its last ``job``, or at its ``base``; ``at``: since
    when that is known.
    """

    lon: float
    lat: float
    source: str
    at: datetime | None


@dataclass(frozen=True)
class PromiseAhead:
    """A promise that is running: when it is due, and when what it promises is to be expected."""

    kind: str
    due_at: datetime
    expected_at: datetime

    @property
    def late_min(self) -> float:
        """By how many minutes it will be missed; 0 when it will be kept."""
        return max(0.0, (self.expected_at - self.due_at).total_seconds() / 60)


@dataclass(frozen=True)
class Stop:
    """A job on the way. ``expected`` is None for work that has been stopped: nobody knows when it goes on."""

    job: Job
    expected: Expected | None
    delay_min: float | None
    promises: tuple[PromiseAhead, ...]


@dataclass(frozen=True)
class Route:
    """``more``: there are further jobs that were not looked at."""

    crew: Crew
    origin: Origin | None
    stops: tuple[Stop, ...]
    travel: TravelReport
    more: bool


def of_crew(crew: Crew, now: datetime, travel: TravelTimes, fresh: timedelta) -> Route:
    """What is to be expected of a crew's open jobs.

    :param fresh: how old a reported position may be to tell where the crew is.
    """
    found = _open_jobs(crew.id)
    jobs = [job for job in found[:MOST] if job.status not in STOPPED]
    stopped = [job for job in found[:MOST] if job.status in STOPPED]
    shifts = _shifts(crew.id, now)
    on_duty = next((shift for shift in shifts if shift.starts_at <= now), None)
    origin = _origin(crew, jobs, on_duty, now, fresh)
    start = _place(origin.lon, origin.lat) if origin else None
    visits = _visits(crew, jobs, shifts, on_duty)
    expected, report = expect(now, start, visits, travel, _breaks(shifts))
    clocks = _clocks([job.id for job in jobs])
    stops = [_stop(job, one, clocks.get(job.id, ())) for job, one in zip(jobs, expected, strict=True)]
    stops += [Stop(job, None, None, ()) for job in stopped]
    return Route(crew, origin, tuple(stops), report, len(found) > MOST)


def _open_jobs(crew_id: str) -> list[Job]:
    """At most one more than are looked at: what is under way, whereto the crew drives, then by the plan."""
    query = select(Job).where(Job.crew_id == crew_id, Job.status.in_(ACTIVE))
    by_plan = (Job.planned_start.is_(None), Job.planned_start, Job.planned_order, Job.id)
    found = list(db.session.scalars(query.order_by(*by_plan).limit(MOST + 1)))
    first = {status: rank for rank, status in enumerate((*UNDER_WAY[::-1], "enroute"))}
    return sorted(found, key=lambda job: first.get(job.status, len(first)))


def _shifts(crew_id: str, now: datetime) -> list[Shift]:
    """The running and the next shifts."""
    query = select(Shift).where(Shift.crew_id == crew_id, Shift.ends_at > now)
    return list(db.session.scalars(query.order_by(Shift.starts_at).limit(MOST)))


def _breaks(shifts: Sequence[Shift]) -> list[Break]:
    found = [
        Break(parse_time(one["earliest"]), parse_time(one["latest"]), one["minutes"])
        for shift in shifts
        for one in shift.breaks
    ]
    return sorted(found, key=lambda pause: pause.latest)


def _origin(crew: Crew, jobs: Sequence[Job], on_duty: Shift | None, now: datetime, fresh: timedelta) -> Origin | None:
    told = positions.last([crew.id], now - fresh).get(crew.id)
    if told is not None:
        return Origin(told.lon, told.lat, "position", told.until_at)
    at_work = next((job for job in jobs if job.status in UNDER_WAY and job.lon is not None), None)
    if at_work is not None and at_work.lon is not None and at_work.lat is not None:
        return Origin(at_work.lon, at_work.lat, "job", _since(at_work))
    ended = select(Job).where(Job.crew_id == crew.id, Job.status.in_(DONE), Job.lon.is_not(None))
    ended = ended.where(Job.completed_at >= (on_duty.starts_at if on_duty else now - _LAST_STOP))
    last = db.session.scalar(ended.order_by(Job.completed_at.desc(), Job.id).limit(1))
    if last is not None and last.lon is not None and last.lat is not None:
        return Origin(last.lon, last.lat, "job", last.completed_at)
    if crew.base_lon is None or crew.base_lat is None:
        return None
    return Origin(crew.base_lon, crew.base_lat, "base", None)


def _since(job: Job) -> datetime:
    """Since when the job has its status."""
    mark = job.field_revs.get("status")
    return parse_time(mark[2]) if mark else job.updated_at


def _visits(crew: Crew, jobs: Sequence[Job], shifts: Sequence[Shift], on_duty: Shift | None) -> list[Visit]:
    base = None if crew.base_lon is None or crew.base_lat is None else _place(crew.base_lon, crew.base_lat)
    now_in, visits = on_duty, []
    for job in jobs:
        shift = _shift_of(job, shifts) or now_in or next(iter(shifts), None)
        later = shift is not None and shift is not now_in
        now_in = shift or now_in
        limits = [time for time in (job.window_start, job.pinned_start if job.pinned else None) if time is not None]
        visits.append(
            Visit(
                job.id,
                None if job.lon is None or job.lat is None else _place(job.lon, job.lat, job.site_class),
                job.service_minutes,
                begun_at=_since(job) if job.status in UNDER_WAY else None,
                sets_out=base if later else None,
                free_from=shift.starts_at if later and shift is not None else None,
                earliest=max(limits, default=None),
            )
        )
    return visits


def _shift_of(job: Job, shifts: Sequence[Shift]) -> Shift | None:
    """The shift that the job is planned in."""
    if job.planned_start is None:
        return None
    return next((shift for shift in shifts if shift.starts_at <= job.planned_start < shift.ends_at), None)


def _place(lon: float, lat: float, site_class: str = "urban") -> Place:
    return Place(lon, lat, site_class)


def _clocks(job_ids: Collection[str]) -> Mapping[str, list[CommitmentClock]]:
    query = select(CommitmentClock).where(among(CommitmentClock.job_id, job_ids), CommitmentClock.verdict == "running")
    found: defaultdict[str, list[CommitmentClock]] = defaultdict(list)
    for clock in db.session.scalars(query.order_by(CommitmentClock.due_at, CommitmentClock.kind)):
        found[clock.job_id].append(clock)
    return found


_AT_THE_END = frozenset({"restoration"})
"""Promises that are kept when the work is done; the others when the crew is there."""


def _stop(job: Job, expected: Expected, clocks: Sequence[CommitmentClock]) -> Stop:
    ahead = [
        PromiseAhead(clock.kind, clock.due_at, expected.leave_at if clock.kind in _AT_THE_END else expected.arrive_at)
        for clock in clocks
    ]
    if job.status not in UNDER_WAY:
        for kind, due in (("due", job.due_at), ("window", job.window_end)):
            if due is not None and due not in {clock.due_at for clock in clocks}:
                ahead.append(PromiseAhead(kind, due, expected.begin_at))
    delay = None if job.planned_start is None else (expected.begin_at - job.planned_start).total_seconds() / 60
    return Stop(job, expected, delay, tuple(ahead))


def as_dict(route: Route, scope: Collection[str] | None, now: datetime) -> dict[str, Any]:
    """The route as the office sees it; a job outside of ``scope`` takes its time, and says nothing of itself."""
    origin = route.origin
    return {
        "crew_id": route.crew.id,
        "at": now,
        "origin": origin and {**origin._asdict(), "age_s": _age_s(origin, now)},
        "travel": {
            "provider": route.travel.provider,
            "fallback": route.travel.fallback,
            "notes": [*route.travel.notes],
        },
        "stops": [_stop_row(stop, scope is None or stop.job.territory_id in scope) for stop in route.stops],
        "more": route.more,
    }


def _age_s(origin: Origin, now: datetime) -> int | None:
    return None if origin.at is None else max(0, round((now - origin.at).total_seconds()))


def _stop_row(stop: Stop, seen: bool) -> dict[str, Any]:
    job, one = stop.job, stop.expected
    names = "number title kind status lon lat address planned_order".split()
    row: dict[str, Any] = {"job_id": job.id if seen else None}
    row |= {name: getattr(job, name) if seen else None for name in names}
    row |= {"planned_start": job.planned_start, "planned_end": job.planned_end, "delay_min": _rounded(stop.delay_min)}
    row |= {
        "expected_arrival": one and one.arrive_at,
        "expected_begin": one and one.begin_at,
        "expected_end": one and one.leave_at,
        "travel_min": _rounded(one.travel_min) if one else None,
        "distance_m": _rounded(one.distance_m) if one else None,
        "note": one.note if one else "stopped",
    }
    row["promises"] = [
        {
            "kind": promise.kind,
            "due_at": promise.due_at,
            "expected_at": promise.expected_at,
            "late_min": round(promise.late_min, 1),
            "will_break": promise.late_min > 0,
        }
        for promise in stop.promises
        if seen
    ]
    return row


def _rounded(number: float | None) -> float | None:
    return None if number is None else round(number, 1)


def eta(job: Job, now: datetime, travel: TravelTimes, fresh: timedelta) -> dict[str, Any] | None:
    """When its crew is to be expected at a job: ``{"at", "origin", "age_s"}``; None: it has no crew, or the crew is
    there, or nobody knows.
    """
    crew = db.session.get(Crew, job.crew_id) if job.crew_id and job.status in BEFORE_SITE else None
    if crew is None:
        return None
    route = of_crew(crew, now, travel, fresh)
    stop = next((stop for stop in route.stops if stop.job.id == job.id), None)
    if stop is None or stop.expected is None or route.origin is None:
        return None
    return {"at": stop.expected.arrive_at, "origin": route.origin.source, "age_s": _age_s(route.origin, now)}
