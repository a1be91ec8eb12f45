"""One area of a run is planned: read, solved, and kept as decisions. Carrying them out is another step.

What goes wrong in an area is recorded there by name; it is tried up to three times, and the other areas go on.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime, timedelta, tzinfo
from typing import Any

from sqlalchemy import ColumnElement, delete, insert, or_, select, update

from fieldsvc.base.db import among, db, reading, transaction
from fieldsvc.geo import planner
from fieldsvc.geo.inserting import SAME_TIME
from fieldsvc.geo.model import Goals, Plan, PlanCrew, PlanJob, Stop, Unassigned, Window
from fieldsvc.geo.travel import TravelTimes
from fieldsvc.people.models import Crew, Territory
from fieldsvc.work import change
from fieldsvc.work.dispatch import days as day_book
from fieldsvc.work.dispatch.basis import FRESH, HELD, MOVABLE, Asked, Work, crew_of, read_crews, read_jobs
from fieldsvc.work.dispatch.days import Day
from fieldsvc.work.dispatch.rules import Rules, helping
from fieldsvc.work.dispatch.solving import Basis, Solver, solved
from fieldsvc.work.models import DispatchArea, DispatchDecision, DispatchRun, Job

MOST_ATTEMPTS = 3
HORIZON = timedelta(hours=24)
"""How far a run plans that does not say it."""
PLACES = 100_000
"""Decisions of an area have numbers of their own: those of area 3 begin at 300,000."""
MOST_JOBS = 2_000
"""An area with more is planned for the most urgent of them; the others have to wait for another run."""
HELPED = (
    "no_crew_in_territory",
    "no_skill",
    "no_equipment",
    "no_capacity",
    "no_second_crew",
    "no_shift_time",
    "outranked",
)
"""Reasons for which somebody from a neighbouring territory may be the answer."""


def plan_area(
    run_id: str,
    number: int,
    now: datetime,
    *,
    travel: TravelTimes,
    zone: tzinfo,
    fresh: timedelta = FRESH,
    plan: Solver = planner.plan,
) -> bool:
    """Plan one queued area and keep what was decided; False when there is nothing to do or another worker does it."""
    attempt = _claim(run_id, number, now)
    if attempt is None:
        return False
    try:
        with reading():
            run, area = _run_and_area(run_id, number)
            basis = _read(run, area, now, travel, zone, fresh)
        basis, made = solved(basis, travel, plan)
        totals = {
            "before": day_book.before([*basis.days, *basis.out], basis.works, now, travel, basis.goals),
            "after": day_book.after([*basis.days, *basis.out], basis.works, made, now, travel, basis.goals),
            "travel": asdict(made.travel) | {"notes": list(made.travel.notes)},
        }
        with reading():
            decisions = _decisions(basis, made)
        return _keep(run, area, attempt, decisions, totals, now)
    except Exception as error:
        _failed(run_id, number, attempt, type(error).__name__, now)
        raise


def _claim(run_id: str, number: int, now: datetime) -> int | None:
    """The number of the attempt that is now ours, ``None`` when there is nothing to do."""
    running = select(DispatchRun.id).where(DispatchRun.id == run_id, DispatchRun.state == "running").exists()
    with transaction() as session:
        attempt: int | None = session.scalar(
            update(DispatchArea)
            .where(
                DispatchArea.run_id == run_id, DispatchArea.number == number, DispatchArea.state == "queued", running
            )
            .values(state="running", started_at=now, attempts=DispatchArea.attempts + 1, failure=None)
            .returning(DispatchArea.attempts)
            .execution_options(synchronize_session=False)
        )
    return attempt


def _failed(run_id: str, number: int, attempt: int, error: str, now: datetime) -> None:
    last = attempt >= MOST_ATTEMPTS
    with transaction() as session:
        session.execute(
            update(DispatchArea)
            .where(*_ours(run_id, number, attempt))
            .values(state="failed" if last else "queued", finished_at=now if last else None, failure=error[:300])
            .execution_options(synchronize_session=False)
        )


def _ours(run_id: str, number: int, attempt: int) -> tuple[ColumnElement[bool], ...]:
    mine = (DispatchArea.run_id == run_id, DispatchArea.number == number)
    return (*mine, DispatchArea.state == "running", DispatchArea.attempts == attempt)


def _run_and_area(run_id: str, number: int) -> tuple[DispatchRun, DispatchArea]:
    run = db.session.get_one(DispatchRun, run_id, populate_existing=True)
    area = db.session.get_one(DispatchArea, (run_id, number), populate_existing=True)
    db.session.expunge_all()
    return run, area


def _read(
    run: DispatchRun, area: DispatchArea, now: datetime, travel: TravelTimes, zone: tzinfo, fresh: timedelta
) -> Basis:
    start = max(run.plan_from, now)
    book = Rules.on(start)
    span = Window(start, run.plan_until or start + HORIZON)
    asked = Asked.at(now, span, zone, start + timedelta(minutes=book.at_risk_minutes), fresh)
    crew_ids = frozenset(area.crew_ids)
    moved = _moved(run, crew_ids) if area.stage == "border" else {}
    held = _held(asked, crew_ids, moved)
    works = _ranked(_to_decide(run, area, asked, held), book.goals, run.job_id)[:MOST_JOBS]
    chosen = {work.job.id for work in works}
    free = {work.job.id for work in held if run.mode == "replan" and _decided(run, work) and not work.pinned}
    crews = helping(book, read_crews(asked, crew_ids), area.territory_ids, start)
    days = day_book.hold(crews, held, chosen, free - chosen)
    settled = [day_book.settle(day, start, travel, book.goals) for day in days]
    if area.stage == "border":
        days, settled = _with_time(days, settled, works, start)
        works = works if days else []
    day_of = {work.job.id: day.crew.id for day in days for work in day.free}
    stay = _staying(run, works)
    return Basis(
        mode="border" if area.stage == "border" else run.mode,
        asked=asked,
        works=[_bound(work, day_of, stay, start) for work in works],
        days=days,
        kept=frozenset(work.job.id for work in works if work.job.id in stay and not work.pinned),
        crews=[crew for crew, _ in settled],
        ahead=[job for _, jobs in settled for job in jobs],
        goals=book.goals,
        out=_dropped_out(run, area, asked, chosen),
    )


def _dropped_out(run: DispatchRun, area: DispatchArea, asked: Asked, chosen: Collection[str]) -> list[Day]:
    """The days of the crews that the run does without: what they would have driven is part of the plan in force."""
    if run.mode != "crew_out" or area.stage == "border":
        return []
    crew_ids = frozenset(run.without_crew_ids or ())
    return day_book.hold(read_crews(asked, crew_ids), _held(asked, crew_ids, {}), chosen, ())


def _with_time(
    days: Sequence[Day], settled: Sequence[tuple[PlanCrew, list[PlanJob]]], works: Sequence[Work], start: datetime
) -> tuple[list[Day], list[tuple[PlanCrew, list[PlanJob]]]]:
    """Those who could do the shortest of the jobs before their shift ends: most crews have a full day by now."""
    shortest = timedelta(minutes=min((work.job.service_min for work in works), default=0))
    pairs = [
        (day, one)
        for day, one in zip(days, settled, strict=True)
        if one[1] or max(one[0].free_at or start, one[0].shift.start, start) + shortest <= one[0].shift.end
    ]
    return [day for day, _ in pairs], [one for _, one in pairs]


def _held(asked: Asked, crew_ids: Collection[str], moved: Mapping[str, DispatchDecision]) -> list[Work]:
    """What crews hold, as it will be once ``moved`` (job -> decision) has been carried out."""
    theirs = among(Job.crew_id, sorted(crew_ids))
    given = [job_id for job_id, one in moved.items() if one.crew_id in crew_ids]
    sooner = or_(Job.planned_start.is_(None), Job.planned_start < asked.span.end)
    found = read_jobs(asked, or_(theirs & Job.status.in_(HELD), among(Job.id, sorted(given))), sooner)
    return [_as_decided(work, moved.get(work.job.id)) for work in found]


def _as_decided(work: Work, decision: DispatchDecision | None) -> Work:
    if decision is None:
        return work
    told = {"crew_id": decision.crew_id, "start": decision.planned_start, "order": decision.planned_order}
    return replace(work, status="dispatched", **told)  # type: ignore[arg-type]


def _moved(run: DispatchRun, crew_ids: Collection[str]) -> dict[str, DispatchDecision]:
    """What a what-if run has decided so far about these crews: their days are as if it had been carried out."""
    if not run.what_if:
        return {}
    mine = DispatchDecision.run_id == run.id
    either = among(DispatchDecision.crew_id, sorted(crew_ids)) | among(
        DispatchDecision.former_crew_id, sorted(crew_ids)
    )
    return {one.job_id: one for one in db.session.scalars(select(DispatchDecision).where(mine, either))}


def _to_decide(run: DispatchRun, area: DispatchArea, asked: Asked, held: Sequence[Work]) -> list[Work]:
    """The jobs of the area that this run decides about, by its mode."""
    here = among(Job.territory_id, area.territory_ids) if area.territory_ids else Job.territory_id.is_(None)
    kinds = [Job.kind.in_(run.kinds)] if run.kinds else []
    if area.stage == "border":
        left = select(DispatchDecision.job_id).where(
            DispatchDecision.run_id == run.id, DispatchDecision.crew_id.is_(None), DispatchDecision.reason.in_(HELPED)
        )
        status = Job.status.in_((*change.WAITING, *MOVABLE))
        found = read_jobs(asked, Job.id.in_(left), here, status)
        return [replace(work, crew_id=None, start=None, order=None) for work in found]
    mine = [work for work in held if _decided(run, work)]
    if run.mode == "fill":
        return read_jobs(asked, _waiting(asked), here, *kinds)
    if run.mode == "insert":
        wanted = read_jobs(asked, to_put_in(run), here)
        return _with(mine, wanted) if wanted else []
    if run.mode == "crew_out":
        out = among(Job.crew_id, run.without_crew_ids or [])
        return _with(mine, read_jobs(asked, out, Job.status.in_(MOVABLE), here))
    others = read_jobs(
        asked,
        here,
        or_(_waiting(asked), Job.status.in_(MOVABLE) & Job.crew_id.is_not(None) & Job.pinned.is_(False)),
        or_(Job.planned_start.is_(None), Job.planned_start < asked.span.end),
        *kinds,
    )
    return _with([work for work in mine if work.pinned], others)


def to_put_in(run: DispatchRun) -> ColumnElement[bool]:
    """The job of ``insert``, if it may still be given to somebody: much may happen while a run waits for its turn."""
    free = Job.status.in_((*change.WAITING, *MOVABLE)) & Job.pinned.is_(False)
    return (Job.id == run.job_id) & free


def _waiting(asked: Asked) -> ColumnElement[bool]:
    """Jobs that wait for a crew, but for those whose window begins only after what is planned."""
    by_then = or_(Job.window_start.is_(None), Job.window_start < asked.span.end)
    return Job.status.in_(change.WAITING) & Job.crew_id.is_(None) & by_then


def _decided(run: DispatchRun, work: Work) -> bool:
    """Whether the run decides about a job that a crew holds."""
    wanted = not run.kinds or work.job.kind in run.kinds
    allowed = run.territory_ids or run.scope_territory_ids
    inside = allowed is None or work.job.territory_id in allowed
    return run.mode != "fill" and work.status in MOVABLE and wanted and inside


def _with(some: Sequence[Work], more: Iterable[Work]) -> list[Work]:
    return list({work.job.id: work for work in (*some, *more)}.values())


def _ranked(works: Sequence[Work], goals: Goals, first: str | None) -> list[Work]:
    """The job that the run is about, then by rank, then as they were read."""
    ranks = {name: tier.rank for name, tier in goals.tiers.items()}

    def place(work: Work) -> tuple[int, ...]:
        job = work.job
        return (job.id != first, ranks.get(job.tier, len(ranks)), -job.customers, job.priority)

    return sorted(works, key=place)


def _staying(run: DispatchRun, works: Sequence[Work]) -> frozenset[str]:
    """Those who keep their crew: pinned ones, and where one job or one crew is the matter, all others."""
    if run.mode == "replan":
        return frozenset(work.job.id for work in works if work.pinned)
    out = frozenset(run.without_crew_ids or ())
    return frozenset(
        work.job.id
        for work in works
        if work.crew_id is not None and (work.pinned or (work.crew_id not in out and work.job.id != run.job_id))
    )


def _bound(work: Work, day_of: Mapping[str, str], stay: Collection[str], start: datetime) -> Work:
    job = work.job
    pinned = job.id in stay
    at = job.starts_at if pinned and job.starts_at is not None and job.starts_at >= start else None
    crew_id = day_of.get(job.id, work.crew_id)
    return replace(work, job=replace(job, crew_id=crew_id, pinned=pinned, starts_at=at))


def _decisions(basis: Basis, made: Plan) -> list[dict[str, Any]]:
    """A row for each job that was decided about, crew by crew, then those that nobody got."""
    works = {work.job.id: work for work in basis.works}
    codes = dict(db.session.execute(select(Crew.id, Crew.code)).all())
    names = dict(db.session.execute(select(Territory.id, Territory.name)).all())
    fixed: dict[str, int] = {}
    for day in basis.days:
        crew_id = crew_of(day.crew.id)
        fixed[crew_id] = fixed.get(crew_id, 0) + len(day.fixed)
    ahead = {job.id for job in basis.ahead}
    by_crew: dict[str, list[Stop]] = {}
    for stop in made.stops:
        by_crew.setdefault(crew_of(stop.crew_id), []).append(stop)
    rows = []
    for crew_id, stops in sorted(by_crew.items()):
        first = fixed.get(crew_id, 0) - sum(stop.job_id in ahead for stop in stops) + 1
        order = first - 1
        for stop in sorted(stops, key=lambda stop: (stop.begin_at, stop.sequence)):
            order += 1
            if stop.job_id in works:
                work, told = works[stop.job_id], _as_it_was(works[stop.job_id], stop, crew_id)
                order = max(order, (work.order or 0) if told is not stop else 0)
                rows.append(_stop_row(work, told, crew_id, order, codes.get(crew_id, crew_id)))
    rows += [_left_row(works[one.job_id], one, names) for one in made.unassigned if one.job_id in works]
    return rows


def _as_it_was(work: Work, stop: Stop, crew_id: str) -> Stop:
    """The stop with the time that the crew was told before, if that is the same but for seconds; else itself."""
    if work.crew_id != crew_id or work.start is None or abs(work.start - stop.begin_at) >= SAME_TIME:
        return stop
    return replace(stop, begin_at=work.start)


def _stop_row(work: Work, stop: Stop, crew_id: str, order: int, code: str) -> dict[str, Any]:
    if stop.why.get("rule") == "pinned" and not work.pinned:  # not by a dispatcher: this mode lets crews keep theirs
        stop = replace(stop, why={**stop.why, "rule": "kept"})
    return _row(work) | {
        "crew_id": crew_id,
        "reason": str(stop.why.get("rule", "planned")),
        "detail": explained(stop, code)[:500],
        "why": dict(stop.why),
        "planned_start": stop.begin_at,
        "planned_end": stop.leave_at,
        "planned_order": order,
        "distance_m": stop.distance_m,
        "late_minutes": round(stop.late_min, 1),
    }


def explained(stop: Stop, code: str) -> str:
    """Why a crew got a job, as a sentence."""
    of = f"; of {stop.why['considered']} considered" if "considered" in stop.why else ""
    late = f", {stop.late_min:.0f} min after it was promised" if stop.late_min else ""
    rule = str(stop.why.get("rule", "planned")).replace("_", " ")
    way = f"{stop.distance_m / 1000:.1f} km from the stop before, {stop.travel_min:.1f} min of driving"
    return f"{code}: {rule}, {way}{late}{of}"


def _left_row(work: Work, one: Unassigned, names: Mapping[str, str]) -> dict[str, Any]:
    detail = one.detail
    territory_id = work.job.territory_id
    if territory_id:
        detail = detail.replace(territory_id, names.get(territory_id, territory_id))
    return _row(work) | {"reason": one.reason, "detail": detail[:500]}


def _row(work: Work) -> dict[str, Any]:
    empty = "crew_id why planned_start planned_end planned_order distance_m late_minutes".split()
    former = {"former_crew_id": work.seen[1], "former_start": work.start}
    return dict.fromkeys(empty) | former | {"job_id": work.job.id, "seen": work.seen}


def _keep(
    run: DispatchRun,
    area: DispatchArea,
    attempt: int,
    decisions: Sequence[Mapping[str, Any]],
    totals: Mapping[str, Any],
    now: datetime,
) -> bool:
    """Store what was decided, unless another attempt has taken over or the run was cancelled meanwhile."""
    taken = None if run.what_if else "wanted"
    if area.stage == "border":
        decisions = [row for row in decisions if row["crew_id"] is not None]
    counts = {"considered": len(decisions), "assigned": sum(row["crew_id"] is not None for row in decisions)}
    with transaction() as session:
        if session.scalar(select(DispatchRun.state).where(DispatchRun.id == run.id).with_for_update()) != "running":
            return False
        ours = session.scalar(
            update(DispatchArea)
            .where(*_ours(run.id, area.number, attempt))
            .values(state="planned", **counts, **totals)
            .returning(DispatchArea.number)
            .execution_options(synchronize_session=False)
        )
        if ours is None:
            return False
        if area.stage == "border" and decisions:
            replaced = among(DispatchDecision.job_id, [row["job_id"] for row in decisions])
            session.execute(delete(DispatchDecision).where(DispatchDecision.run_id == run.id, replaced))
        common = {"run_id": run.id, "area": area.number, "taken": taken}
        first = area.number * PLACES + 1
        rows = [{**row, **common, "place": place} for place, row in enumerate(decisions, first)]
        if rows:
            session.execute(insert(DispatchDecision), rows)
    return True
