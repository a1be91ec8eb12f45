"""How a run goes: divided into areas, each planned by itself, then neighbours help out with what is left, then it ends.

:func:`conduct` does whatever a run needs next and says what is to be rung for. It can be called at any time, by
anybody, twice: the state of the run and of its areas says what is to be done. A worker that dies leaves them as they
are, and the sweep (:func:`due`) rings again.

One run plans a territory at a time. A run takes the territories it plans and all others its crews belong to; while
another run has one of them it waits, and is rung for when that ends. What-if runs change nothing and need no turn.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, delete, exists, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from fieldsvc.base.db import among, db, transaction
from fieldsvc.geo import areas
from fieldsvc.history.record import Source, record
from fieldsvc.people.models import Crew, Shift
from fieldsvc.work import change
from fieldsvc.work.dispatch import days, rules
from fieldsvc.work.dispatch.area import HELPED, HORIZON, MOST_ATTEMPTS, to_put_in
from fieldsvc.work.dispatch.basis import MOVABLE
from fieldsvc.work.dispatch.carry_out import by
from fieldsvc.work.models import DispatchArea, DispatchClaim, DispatchDecision, DispatchRun, Job

STUCK_AFTER = timedelta(minutes=5)
RING_AFTER = timedelta(seconds=3)
"""What is to be done is rung for at once; the sweep rings again only if nobody came."""
JOBS_TOGETHER = 500
"""Territories are planned together while they have no more jobs than this."""
Ring = tuple[str, ...]
"""The name of a task and its arguments."""


def conduct(run_id: str, now: datetime) -> list[Ring]:
    """Do what a run needs next, in a transaction of its own; answers what is to be rung for after it."""
    try:
        with transaction():
            run = db.session.get(DispatchRun, run_id, populate_existing=True, with_for_update=True)
            if run is None:
                return []
            if run.state == "queued":
                return _begin(run, now)
            return _onward(run, now) if run.state == "running" else []
    except IntegrityError:  # another run took a territory at the same moment; the sweep comes back to this one
        return []
    except Exception as error:
        _stumbled(run_id, type(error).__name__, now)
        raise


def _stumbled(run_id: str, error: str, now: datetime) -> None:
    """What goes wrong between the areas is recorded; the run is tried up to three times."""
    with transaction():
        run = db.session.get(DispatchRun, run_id, populate_existing=True, with_for_update=True)
        if run is not None and run.state in ("queued", "running"):
            run.attempts, run.failure = run.attempts + 1, error[:300]
            if run.attempts >= MOST_ATTEMPTS:
                run.state, run.finished_at = "failed", now
                release(run)


def _begin(run: DispatchRun, now: datetime) -> list[Ring]:
    if run.attempts >= MOST_ATTEMPTS:
        run.state, run.finished_at = "failed", now
        run.failure = f"given up after {MOST_ATTEMPTS} attempts that did not end"
        return []
    span_end = run.plan_until or max(run.plan_from, now) + HORIZON
    need = _need(run, span_end)
    crews = _crews(run, max(run.plan_from, now), span_end, need)
    if run.mode in ("insert", "crew_out"):
        crews = _around(crews, need, now)
    if not run.what_if and not _claimed(run, need, crews, now):
        return []
    run.state, run.started_at, run.waits_for, run.failure = "running", now, None, None
    run.attempts += 1
    _divide(run, need, crews)
    db.session.flush()
    return _onward(run, now)


def _need(run: DispatchRun, until: datetime) -> Counter[str | None]:
    """Territory -> how many jobs the run decides about there; None: those that lie in none."""
    counted = select(Job.territory_id, func.count()).where(_asked(run, until)).group_by(Job.territory_id)
    return Counter(dict(db.session.execute(counted).all()))


def _asked(run: DispatchRun, until: datetime) -> ColumnElement[bool]:
    """The jobs a run decides about, but those that its crews hold beside."""
    waiting = Job.status.in_(change.WAITING) & Job.crew_id.is_(None)
    held = Job.status.in_(MOVABLE) & Job.crew_id.is_not(None)
    if run.mode == "insert":
        found = to_put_in(run)
    elif run.mode == "crew_out":
        found = among(Job.crew_id, run.without_crew_ids or []) & Job.status.in_(MOVABLE)
    elif run.mode == "replan":
        found = waiting | (held & or_(Job.planned_start.is_(None), Job.planned_start < until))
    else:
        found = waiting
    for column, values in (
        (Job.territory_id, run.scope_territory_ids),
        (Job.territory_id, run.territory_ids),
        (Job.kind, run.kinds),
    ):
        if values is not None:
            found &= column.in_(values)
    return found


def _crews(
    run: DispatchRun, start: datetime, until: datetime, need: Collection[str | None]
) -> dict[str, tuple[areas.Home, frozenset[str]]]:
    """Crews on shift that may work for this run: where they may, and all their home territories."""
    query = (
        select(Crew.id, Crew.territory_ids, Shift.starts_at, Shift.ends_at)
        .join(Shift, Shift.crew_id == Crew.id)
        .where(Crew.active, Shift.ends_at > start, Shift.starts_at < until)
    )
    out = frozenset(run.without_crew_ids or ())
    hours: dict[str, float] = defaultdict(float)
    homes: dict[str, frozenset[str]] = {}
    for crew_id, home, starts_at, ends_at in db.session.execute(query):
        if crew_id not in out:
            hours[crew_id] += (min(ends_at, until) - max(starts_at, start)) / timedelta(hours=1)
            homes[crew_id] = frozenset(home)
    allowed = run.territory_ids or run.scope_territory_ids
    found = {}
    for crew_id, home in homes.items():
        served = home if allowed is None else home & set(allowed)
        if served:
            found[crew_id] = (areas.Home(served, max(hours[crew_id], 0.01)), home)
    return found


def _around(
    crews: dict[str, tuple[areas.Home, frozenset[str]]], need: Collection[str | None], now: datetime
) -> dict[str, tuple[areas.Home, frozenset[str]]]:
    """The crews that are at home where the jobs are, or may help out there."""
    inside = {territory for territory in need if territory}
    further = rules.reaches(rules.Rules.on(now), {crew_id: home for crew_id, (_, home) in crews.items()}, inside, now)
    return {crew_id: one for crew_id, one in crews.items() if one[0].territories & inside or further.get(crew_id)}


def _claimed(
    run: DispatchRun, need: Iterable[str | None], crews: dict[str, tuple[areas.Home, frozenset[str]]], now: datetime
) -> bool:
    """Take the run's territories; False: another run has one of them, ``waits_for`` says which."""
    wanted = {territory for territory in need if territory}
    for _served, home in crews.values():
        wanted |= home
    other = db.session.scalar(
        select(DispatchClaim.run_id)
        .where(among(DispatchClaim.territory_id, sorted(wanted)), DispatchClaim.run_id != run.id)
        .order_by(DispatchClaim.territory_id)
        .limit(1)
    )
    run.waits_for = other
    if other is not None:
        return False
    db.session.execute(delete(DispatchClaim).where(DispatchClaim.run_id == run.id))
    rows = [{"territory_id": territory, "run_id": run.id, "claimed_at": now} for territory in sorted(wanted)]
    if rows:
        db.session.execute(insert(DispatchClaim), rows)
    return True


def _divide(run: DispatchRun, need: Counter[str | None], crews: dict[str, tuple[areas.Home, frozenset[str]]]) -> None:
    """The areas of the run: of the whole day by what territories share, of one matter a single one."""
    inside = {territory: jobs for territory, jobs in need.items() if territory is not None}
    homes = {crew_id: home for crew_id, (home, _all) in crews.items()}
    if run.mode in ("insert", "crew_out") and inside:
        parts = [areas.Part(tuple(sorted(inside)), tuple(sorted(homes)))]
    else:
        parts = areas.divide(inside, homes, JOBS_TOGETHER)
    if need.get(None):
        parts.append(areas.Part((), ()))
    _add(run, parts, "area", 1)


def _add(run: DispatchRun, parts: Iterable[areas.Part], stage: str, first: int) -> None:
    rows = [
        {
            "run_id": run.id,
            "number": number,
            "stage": stage,
            "state": "queued",
            "territory_ids": list(part.territory_ids),
            "crew_ids": list(part.crew_ids),
        }
        for number, part in enumerate(parts, first)
    ]
    if rows:
        db.session.execute(insert(DispatchArea), rows)


def _onward(run: DispatchRun, now: datetime) -> list[Ring]:
    """Ring for what is open; when nothing is, go to the next stage."""
    found = db.session.execute(
        select(DispatchArea.number, DispatchArea.stage, DispatchArea.state)
        .where(DispatchArea.run_id == run.id)
        .order_by(DispatchArea.number)
    ).all()
    waiting = [row.number for row in found if row.state in ("queued", "planned")]
    if waiting or any(row.state == "running" for row in found):
        return [("plan_area", run.id, str(number)) for number in waiting]
    if found and all(row.stage == "area" for row in found):
        parts = _border(run, now)
        if parts:
            first = found[-1].number + 1
            _add(run, parts, "border", first)
            return [("plan_area", run.id, str(number)) for number in range(first, first + len(parts))]
    return _finish(run, now)


def _border(run: DispatchRun, now: datetime) -> list[areas.Part]:
    """Where crews of other areas may help out with what is left."""
    left = (DispatchDecision.run_id == run.id, DispatchDecision.crew_id.is_(None), DispatchDecision.reason.in_(HELPED))
    counted = db.session.execute(
        select(Job.territory_id, func.count())
        .join(DispatchDecision, DispatchDecision.job_id == Job.id)
        .where(*left, Job.territory_id.is_not(None))
        .group_by(Job.territory_id)
    )
    need = {str(territory): jobs for territory, jobs in counted}
    if not need:
        return []
    start, until = max(run.plan_from, now), run.plan_until or max(run.plan_from, now) + HORIZON
    crews = _crews(run, start, until, need)
    own = {crew_id: set(area.territory_ids) for area in _areas(run) for crew_id in area.crew_ids}
    reach = rules.reaches(rules.Rules.on(start), {crew_id: all_ for crew_id, (_home, all_) in crews.items()}, need, now)
    allowed = run.territory_ids or run.scope_territory_ids
    homes = {}
    for crew_id, (home, _all) in crews.items():
        further = {t for t in reach.get(crew_id, ()) if allowed is None or t in allowed}
        homes[crew_id] = areas.Home(frozenset((home.territories | further) - own.get(crew_id, set())), home.hours)
    return [part for part in areas.divide(need, homes, JOBS_TOGETHER) if part.crew_ids]


def _areas(run: DispatchRun) -> list[DispatchArea]:
    mine = select(DispatchArea).where(DispatchArea.run_id == run.id).order_by(DispatchArea.number)
    return list(db.session.scalars(mine.execution_options(populate_existing=True)))


def _finish(run: DispatchRun, now: datetime) -> list[Ring]:
    """Sum up the areas. A run of which no area could be planned has failed; one that lacks some says which."""
    found = _areas(run)
    failed = [area for area in found if area.state == "failed"]
    mine = DispatchDecision.run_id == run.id
    run.considered = db.session.scalar(select(func.count()).where(mine)) or 0
    run.assigned = db.session.scalar(select(func.count()).where(mine, DispatchDecision.crew_id.is_not(None))) or 0
    whole = [area for area in found if area.stage == "area"]
    run.before = days.add(area.before for area in whole)
    gained = days.add((area.after for area in found if area.stage == "border"), 1)
    lost = days.add((area.before for area in found if area.stage == "border"), -1)
    run.after = days.add([days.add(area.after for area in whole), gained, lost])
    run.after["jobs"] = run.before["jobs"]
    run.travel = _travel([area.travel for area in found if area.travel])
    run.state = "failed" if whole and all(area.state == "failed" for area in whole) else "done"
    run.finished_at, run.failure = now, _failures(failed)
    if run.mode == "insert" and not found:
        run.failure = "the job has been begun, pinned or ended meanwhile"
    told = {"considered": run.considered, "assigned": run.assigned} | ({"failure": run.failure} if failed else {})
    record(Source("system", now, id=run.id, name=by(run)), f"dispatch.{run.state}", "dispatch_run", run.id, after=told)
    return release(run)


def release(run: DispatchRun) -> list[Ring]:
    """Give the territories back; answers which runs waited for them."""
    db.session.execute(delete(DispatchClaim).where(DispatchClaim.run_id == run.id))
    waiting = select(DispatchRun.id).where(DispatchRun.state == "queued", DispatchRun.waits_for == run.id)
    return [("run_dispatch", other) for other in db.session.scalars(waiting.order_by(DispatchRun.created_at))]


def _failures(failed: list[DispatchArea]) -> str | None:
    if not failed:
        return None
    named = "; ".join(f"area {area.number}: {area.failure}" for area in failed)
    return named if len(named) <= 300 else f"{named[:296]} …"


def _travel(reports: list[dict[str, Any]]) -> dict[str, Any]:
    """Where the travel times of all areas came from."""
    found: dict[str, Any] = {"provider": ", ".join(sorted({str(one["provider"]) for one in reports}))}
    for name in ("pairs", "cached", "fallback", "holes"):
        found[name] = sum(one[name] for one in reports)
    notes = dict.fromkeys(note for one in reports for note in one["notes"])
    return found | {"notes": list(notes)[:20]}


def due(now: datetime) -> list[Ring]:
    """What nobody has taken up, to be rung for again; call inside a transaction.

    An area whose worker has died is queued again, at most three times in all.
    """
    stuck = (DispatchArea.state == "running") & (DispatchArea.started_at < now - STUCK_AFTER)
    given_up = f"given up after {MOST_ATTEMPTS} attempts that did not end"
    for condition, values in (
        (
            stuck & (DispatchArea.attempts >= MOST_ATTEMPTS),
            {"state": "failed", "finished_at": now, "failure": given_up},
        ),
        (stuck, {"state": "queued"}),
    ):
        db.session.execute(
            update(DispatchArea).where(condition).values(values).execution_options(synchronize_session=False)
        )
    old = DispatchRun.created_at < now - RING_AFTER
    wanted = exists().where(DispatchDecision.run_id == DispatchRun.id, DispatchDecision.taken == "wanted")
    open_ = DispatchRun.state.in_(("queued", "running"))
    accepted = (DispatchRun.state == "done") & DispatchRun.accepted_at.is_not(None) & wanted
    runs = select(DispatchRun.id).where(old, or_(open_, accepted)).order_by(DispatchRun.created_at).limit(100)
    return [("run_dispatch", run_id) for run_id in db.session.scalars(runs)]
