"""Dispatch runs: give what waits to the crews that can do it, and say of every job what was decided and why.

A run is a row before anybody is rung. A worker claims it, plans on what it read, and assigns in short transactions,
each job only if nothing about it has changed since. The number of the attempt fences: a worker that was thought dead
and comes back finds that its attempt is over and stops. So a run can be repeated at any point and does nothing twice.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Select, func, insert, select, update

from fieldsvc import kinds, rules
from fieldsvc.base.clock import new_id
from fieldsvc.base.db import db, reading, transaction
from fieldsvc.base.errors import Conflict, NotFound
from fieldsvc.base.plain import plain
from fieldsvc.geo import planner
from fieldsvc.geo.territories import SITE_CLASSES
from fieldsvc.geo.travel import DEFAULT_SPEED_KMH, Geodesic, TravelTimes
from fieldsvc.history.record import Source, record
from fieldsvc.people.models import Crew, Shift, Territory
from fieldsvc.work import change, jobs
from fieldsvc.work.models import DispatchDecision, DispatchRun, Job

MOST_ATTEMPTS = 3
STUCK_AFTER = timedelta(minutes=5)
RING_AFTER = timedelta(seconds=3)
"""A run is rung for when it is made; the sweep rings again only if nobody came."""
SHIFT_HORIZON = timedelta(hours=24)
MOST_JOBS = 20_000
_HELD = ("scheduled", "dispatched", "accepted", "enroute", "on_site", "in_progress", "waiting_on_material", "suspended")


def request(
    source: Source,
    *,
    scope: Collection[str] | None,
    territory_ids: Sequence[str] | None = None,
    wanted_kinds: Sequence[str] | None = None,
    plan_from: datetime | None = None,
) -> DispatchRun:
    """Ask for a run over the jobs waiting in ``territory_ids`` (default: all within ``scope``) of ``wanted_kinds``.

    Ring ``run_dispatch`` with its id after the commit.

    :raises Conflict: a territory that is not there or not the caller's.
    :raises Invalid: an unknown kind.
    """
    for place, territory_id in enumerate(territory_ids or ()):
        known = db.session.get(Territory, territory_id) is not None
        if not known or (scope is not None and territory_id not in scope):
            raise Conflict(f"/territory_ids/{place}: there is no such territory")
    for name in wanted_kinds or ():
        jobs.known_kind(name)
    run_row = DispatchRun(
        id=new_id(),
        state="queued",
        territory_ids=sorted(set(territory_ids)) if territory_ids else None,
        scope_territory_ids=sorted(scope) if scope is not None else None,
        kinds=sorted(set(wanted_kinds)) if wanted_kinds else None,
        plan_from=plan_from or source.recorded_at,
        requested_by=source.id,
        requested_by_name=source.name,
        created_at=source.recorded_at,
    )
    db.session.add(run_row)
    db.session.flush()
    after = {name: plain(getattr(run_row, name)) for name in ("territory_ids", "kinds", "plan_from")}
    record(source, "dispatch.requested", "dispatch_run", run_row.id, after=after)
    return run_row


def due(now: datetime) -> list[str]:
    """Ids of runs nobody has taken up. A run whose worker has died is queued again, at most three times in all."""
    stuck = (DispatchRun.state == "running") & (DispatchRun.started_at < now - STUCK_AFTER)
    db.session.execute(
        update(DispatchRun)
        .where(stuck, DispatchRun.attempts >= MOST_ATTEMPTS)
        .values(state="failed", finished_at=now, failure=f"given up after {MOST_ATTEMPTS} attempts that did not end")
        .execution_options(synchronize_session=False)
    )
    db.session.execute(
        update(DispatchRun).where(stuck).values(state="queued").execution_options(synchronize_session=False)
    )
    waiting = select(DispatchRun.id).where(DispatchRun.state == "queued", DispatchRun.created_at < now - RING_AFTER)
    return list(db.session.scalars(waiting.order_by(DispatchRun.created_at).limit(100)))


Planner = Callable[[Sequence[planner.PlanJob], Sequence[planner.PlanCrew], datetime, TravelTimes], planner.Plan]


def run(run_id: str, now: datetime, *, plan: Planner = planner.plan, batch: int = 200) -> bool:
    """Do a queued run; False when it is not there, done, or another worker has it. Keeps transactions of its own.

    :param plan: the solver; ``batch``: how many jobs are assigned in one transaction.

    What goes wrong is recorded in a transaction of its own and raised again; the run is tried up to three times.
    """
    attempt = _claim(run_id, now)
    if attempt is None:
        return False
    try:
        with reading():
            basis = _read(run_id, now)
        made = plan(basis.plan_jobs, basis.crews, basis.plan_from, _travel(basis.plan_from))
        return _carry_out(run_id, attempt, basis, made, batch)
    except Exception as error:
        _failed(run_id, attempt, type(error).__name__, now)
        raise


def _claim(run_id: str, now: datetime) -> int | None:
    """The number of the attempt that is now ours, ``None`` when there is nothing to do."""
    with transaction() as session:
        attempt: int | None = session.scalar(
            update(DispatchRun)
            .where(DispatchRun.id == run_id, DispatchRun.state == "queued")
            .values(state="running", started_at=now, attempts=DispatchRun.attempts + 1, failure=None)
            .returning(DispatchRun.attempts)
            .execution_options(synchronize_session=False)
        )
    return attempt


def _failed(run_id: str, attempt: int, error: str, now: datetime) -> None:
    last = attempt >= MOST_ATTEMPTS
    with transaction() as session:
        session.execute(
            update(DispatchRun)
            .where(DispatchRun.id == run_id, DispatchRun.state == "running", DispatchRun.attempts == attempt)
            .values(state="failed" if last else "queued", finished_at=now if last else None, failure=error[:300])
            .execution_options(synchronize_session=False)
        )


@dataclass(frozen=True)
class _Basis:
    """What a plan was made on. ``seen``: job id -> what must not have changed when it is assigned."""

    plan_from: datetime
    plan_jobs: list[planner.PlanJob]
    crews: list[planner.PlanCrew]
    seen: dict[str, tuple[Any, ...]]
    source: Source
    crew_names: Mapping[str, str]
    territory_names: Mapping[str, str]


def _fingerprint(job: Job) -> tuple[Any, ...]:
    """Everything of a job the plan rests on."""
    return (
        job.status,
        job.crew_id,
        job.assignment_rev,
        job.kind,
        job.lon,
        job.lat,
        job.territory_id,
        job.priority,
        bool(job.hazards),
        job.service_minutes,
        job.window_start,
        job.window_end,
    )


def _read(run_id: str, now: datetime) -> _Basis:
    asked = db.session.get_one(DispatchRun, run_id)
    plan_from = max(asked.plan_from, now)
    skills = {name: jobs.skill_for(kind, now) for name, kind in kinds.discover().items()}
    waiting = list(db.session.scalars(_waiting(asked)))
    fleet = _crews(plan_from, asked.scope_territory_ids)
    names = dict(db.session.execute(select(Territory.id, Territory.name)).all())
    return _Basis(
        plan_from=plan_from,
        plan_jobs=[_plan_job(job, skills.get(job.kind, job.kind)) for job in waiting],
        crews=fleet,
        seen={job.id: _fingerprint(job) for job in waiting},
        source=Source(kind="system", recorded_at=now, id=asked.id, name=_by(asked)),
        crew_names=dict(db.session.execute(select(Crew.id, Crew.code)).all()),
        territory_names=names,
    )


def _by(asked: DispatchRun) -> str:
    return f"dispatch run of {asked.requested_by_name}"[:120] if asked.requested_by_name else "dispatch run"


def _waiting(asked: DispatchRun) -> Any:
    query = select(Job).where(Job.status.in_(change.WAITING), Job.crew_id.is_(None))
    if asked.scope_territory_ids is not None:
        query = query.where(Job.territory_id.in_(asked.scope_territory_ids))
    if asked.territory_ids is not None:
        query = query.where(Job.territory_id.in_(asked.territory_ids))
    if asked.kinds is not None:
        query = query.where(Job.kind.in_(asked.kinds))
    return query.order_by(Job.priority, Job.created_at, Job.id).limit(MOST_JOBS)


def _plan_job(job: Job, skill: str) -> planner.PlanJob:
    return planner.PlanJob(
        id=job.id,
        lon=job.lon,
        lat=job.lat,
        territory_id=job.territory_id,
        kind=job.kind,
        skill=skill,
        priority=job.priority,
        service_min=job.service_minutes,
        earliest=job.window_start,
        latest=job.window_end,
        hazard=bool(job.hazards),
        site_class=job.site_class,
    )


def _crews(plan_from: datetime, scope: Sequence[str] | None) -> list[planner.PlanCrew]:
    """The crews on shift at ``plan_from`` or within the next day, with what they hold already.

    A crew starts from where its last job is, else from its base; one without either cannot be planned.
    """
    shifts: dict[str, Shift] = {}
    ending = select(Shift).where(Shift.ends_at > plan_from, Shift.starts_at < plan_from + SHIFT_HORIZON)
    for shift in db.session.scalars(ending.order_by(Shift.starts_at.desc(), Shift.id)):
        shifts[shift.crew_id] = shift
    held = _held(plan_from, list(shifts))
    fleet = []
    for crew in db.session.scalars(select(Crew).where(Crew.active, Crew.id.in_(list(shifts))).order_by(Crew.id)):
        served = frozenset(crew.territory_ids) & set(scope) if scope is not None else frozenset(crew.territory_ids)
        load = held.get(crew.id, _Load(0, 0, crew.base_lon, crew.base_lat))
        lon, lat = (
            (load.lon, load.lat) if load.lon is not None and load.lat is not None else (crew.base_lon, crew.base_lat)
        )
        if not served or lon is None or lat is None:
            continue
        shift = shifts[crew.id]
        begins = max(plan_from, shift.starts_at)
        fleet.append(
            planner.PlanCrew(
                id=crew.id,
                lon=lon,
                lat=lat,
                territory_ids=served,
                skills=frozenset(crew.skills),
                shift_start=shift.starts_at,
                shift_end=shift.ends_at,
                busy_until=begins + timedelta(minutes=load.minutes) if load.count else None,
                load=load.count,
            )
        )
    return fleet


@dataclass(frozen=True)
class _Load:
    """What a crew holds: how many jobs, their minutes with the ways between them, and where the last one is."""

    count: int
    minutes: float
    lon: float | None
    lat: float | None


def _held(plan_from: datetime, crew_ids: Sequence[str]) -> dict[str, _Load]:
    """The work crews hold, in the order they will do it, its time counted from ``plan_from``."""
    travel = _travel(plan_from)
    query = select(Job).where(Job.crew_id.in_(list(crew_ids)), Job.status.in_(_HELD))
    loads: dict[str, _Load] = {}
    for job in db.session.scalars(query.order_by(Job.crew_id, Job.planned_order, Job.planned_start, Job.id)):
        assert job.crew_id is not None
        before = loads.get(job.crew_id, _Load(0, 0.0, None, None))
        minutes = before.minutes + job.service_minutes
        if None not in (before.lon, before.lat, job.lon, job.lat):
            minutes += travel.legs([before.lon], [before.lat], job.lon, job.lat, job.site_class)[0].minutes  # type: ignore[list-item, arg-type]
        lon, lat = (job.lon, job.lat) if job.lon is not None else (before.lon, before.lat)
        loads[job.crew_id] = _Load(before.count + 1, minutes, lon, lat)
    return loads


def _travel(plan_from: datetime) -> Geodesic:
    """Travel times by the rule pack's speeds."""
    book, speeds = rules.load(), dict(DEFAULT_SPEED_KMH)
    for site_class in SITE_CLASSES:
        try:
            speeds[site_class] = float(book.speed_kmh(site_class, plan_from.date()).value)
        except rules.NoRule:
            continue
    return Geodesic(speeds)


def _carry_out(run_id: str, attempt: int, basis: _Basis, made: planner.Plan, batch: int) -> bool:
    """Assign what the plan says, in short transactions; False when another attempt has taken over."""
    for start in range(0, len(made.assignments), batch):
        with transaction():
            place = _next_place(run_id, attempt)
            if place is None:
                return False
            decisions = _assign_batch(run_id, basis, made.assignments[start : start + batch])
            _keep(run_id, place, decisions)
    with transaction():
        place = _next_place(run_id, attempt)
        if place is None:
            return False
        _keep(run_id, place, [_left(basis, one) for one in made.unassigned])
        _finish(run_id, basis)
    return True


def _next_place(run_id: str, attempt: int) -> int | None:
    """The first free place among the run's decisions, its row held; ``None``: this attempt is over."""
    ours = db.session.scalar(
        select(DispatchRun.id)
        .where(DispatchRun.id == run_id, DispatchRun.state == "running", DispatchRun.attempts == attempt)
        .with_for_update()
    )
    if ours is None:
        return None
    last = db.session.scalar(select(func.max(DispatchDecision.place)).where(DispatchDecision.run_id == run_id))
    return (last or 0) + 1


def _assign_batch(run_id: str, basis: _Basis, batch: Sequence[planner.Assignment]) -> list[dict[str, Any]]:
    """Assign each job that is still as it was planned on. Rows are held in the order of their ids: nobody deadlocks."""
    wanted = [assignment.job_id for assignment in batch]
    held = {
        job.id: job
        for job in db.session.scalars(
            select(Job)
            .where(Job.id.in_(wanted))
            .order_by(Job.id)
            .with_for_update()
            .execution_options(populate_existing=True)
        )
    }
    crews = {crew.id: crew for crew in db.session.scalars(select(Crew).where(Crew.id.in_({a.crew_id for a in batch})))}
    with db.session.no_autoflush:  # every look-up below would else write out one job at a time
        return [_assign_one(run_id, basis, held.get(a.job_id), crews[a.crew_id], a) for a in batch]


def _assign_one(run_id: str, basis: _Basis, job: Job | None, crew: Crew, planned: planner.Assignment) -> dict[str, Any]:
    if job is None or _fingerprint(job) != basis.seen[planned.job_id] or not crew.active:
        return _decision(planned.job_id, None, "changed_meanwhile", "the job or the crew changed meanwhile")
    detail = explained(planned, basis.crew_names.get(crew.id, crew.id))
    change.assign(
        basis.source,
        job,
        crew,
        planned_start=planned.arrive_at,
        planned_order=planned.sequence,
        run_id=run_id,
        note=detail,
    )
    return _decision(job.id, crew.id, planned.why["rule"], detail, planned)


def explained(assignment: planner.Assignment, crew: str) -> str:
    """Why a crew got a job, as a sentence."""
    why = assignment.why
    return (
        f"{crew}: {str(why['rule']).replace('_', ' ')}, {why['distance_m'] / 1000:.1f} km from the stop before, "
        f"{why['travel_min']:g} min of driving; of {why['considered']} considered"
    )


def _left(basis: _Basis, one: planner.Unassigned) -> dict[str, Any]:
    detail = one.detail
    territory_id = basis.seen[one.job_id][6]
    if territory_id:
        detail = detail.replace(territory_id, basis.territory_names.get(territory_id, territory_id))
    return _decision(one.job_id, None, one.reason, detail)


def _decision(
    job_id: str, crew_id: str | None, reason: str, detail: str, assignment: planner.Assignment | None = None
) -> dict[str, Any]:
    return {
        "job_id": job_id,
        "crew_id": crew_id,
        "reason": reason,
        "detail": detail[:500],
        "planned_start": assignment.arrive_at if assignment else None,
        "planned_order": assignment.sequence if assignment else None,
        "distance_m": assignment.distance_m if assignment else None,
    }


def _keep(run_id: str, place: int, decisions: Sequence[Mapping[str, Any]]) -> None:
    rows = [{"run_id": run_id, "place": at, **decision} for at, decision in enumerate(decisions, place)]
    if rows:
        db.session.execute(insert(DispatchDecision), rows)


def _finish(run_id: str, basis: _Basis) -> None:
    done = db.session.get_one(DispatchRun, run_id, populate_existing=True)
    mine = DispatchDecision.run_id == run_id
    done.considered = db.session.scalar(select(func.count()).where(mine)) or 0
    done.assigned = db.session.scalar(select(func.count()).where(mine, DispatchDecision.crew_id.is_not(None))) or 0
    done.state, done.finished_at = "done", basis.source.recorded_at
    after = {"considered": done.considered, "assigned": done.assigned}
    record(basis.source, "dispatch.done", "dispatch_run", run_id, after=after)


def find(run_id: str, actor_id: str | None, scope: Collection[str] | None) -> DispatchRun:
    """One run: the reader's own, or one whose whole scope the reader may see.

    :raises NotFound: there is none for this reader.
    """
    found = db.session.get(DispatchRun, run_id)
    if found is None or not _visible(found, actor_id, scope):
        raise NotFound("dispatch run", run_id)
    return found


def _visible(found: DispatchRun, actor_id: str | None, scope: Collection[str] | None) -> bool:
    if scope is None or found.requested_by == actor_id:
        return True
    theirs = found.territory_ids or found.scope_territory_ids
    return theirs is not None and set(theirs) <= set(scope)


def runs(actor_id: str | None, scope: Collection[str] | None) -> Select[DispatchRun]:
    """The runs a reader may list: all, or with a scope their own."""
    query = select(DispatchRun)
    return query if scope is None else query.where(DispatchRun.requested_by == actor_id)


def row(found: DispatchRun) -> dict[str, Any]:
    """A run, JSON-ready; ``not_assigned`` counts what it left, by reason, in its decisions."""
    names = (
        "id state territory_ids kinds plan_from requested_by requested_by_name created_at started_at finished_at "
        "considered assigned attempts failure"
    ).split()
    shown = {name: plain(getattr(found, name)) for name in names}
    counted = db.session.execute(
        select(DispatchDecision.reason, func.count())
        .where(DispatchDecision.run_id == found.id, DispatchDecision.crew_id.is_(None))
        .group_by(DispatchDecision.reason)
    )
    shown["not_assigned"] = dict(sorted(counted.all()))
    return shown


def decisions(run_id: str) -> Any:
    """The decisions of a run, each with the number of its job and the code of its crew."""
    return (
        select(DispatchDecision, Job.number, Crew.code)
        .join(Job, Job.id == DispatchDecision.job_id)
        .outerjoin(Crew, Crew.id == DispatchDecision.crew_id)
        .where(DispatchDecision.run_id == run_id)
    )


def decision_row(found: tuple[DispatchDecision, str, str | None]) -> dict[str, Any]:
    """One row of :func:`decisions`, JSON-ready."""
    decision, number, code = found
    names = "place job_id crew_id reason detail planned_start planned_order distance_m".split()
    shown = {name: plain(getattr(decision, name)) for name in names}
    return shown | {"job_number": number, "crew_code": code}
