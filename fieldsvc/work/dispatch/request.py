"""What a dispatcher asks of dispatch: a run, that it be called off, that what it found be done."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

from sqlalchemy import select, update

from fieldsvc.base.clock import new_id
from fieldsvc.base.db import among, db
from fieldsvc.base.errors import Conflict, Invalid, NotFound
from fieldsvc.base.plain import plain
from fieldsvc.geo.travel import TravelTimes
from fieldsvc.history.record import Source, record
from fieldsvc.people.models import Crew, Territory
from fieldsvc.work import jobs
from fieldsvc.work.change import WAITING
from fieldsvc.work.dispatch.basis import MOVABLE
from fieldsvc.work.dispatch.conduct import Ring, release
from fieldsvc.work.dispatch.queries import find, within
from fieldsvc.work.dispatch.together import along
from fieldsvc.work.models import DispatchArea, DispatchDecision, DispatchRun, Job

MODES = ("fill", "replan", "insert", "crew_out")
LONGEST_PLAN = timedelta(days=7)


def request(
    source: Source,
    *,
    scope: Collection[str] | None,
    mode: str = "fill",
    what_if: bool = False,
    territory_ids: Sequence[str] | None = None,
    kinds: Sequence[str] | None = None,
    job_id: str | None = None,
    without_crew_ids: Sequence[str] | None = None,
    plan_from: datetime | None = None,
    plan_until: datetime | None = None,
) -> DispatchRun:
    """Ask for a run over the jobs in ``territory_ids`` (default: all within ``scope``) of ``kinds``.

    Ring ``run_dispatch`` with its id after the commit.

    :param mode: see ``DispatchRun``.
    :param job_id: what ``insert`` puts in, ``without_crew_ids``: who drops out in ``crew_out``; of no other mode.
    :raises Conflict: a territory, job or crew that is not there or not the caller's; a job that is no longer free.
    :raises Invalid: an unknown kind; a member that the mode needs or does not know; an end before the beginning.
    """
    for place, territory_id in enumerate(territory_ids or ()):
        known = db.session.get(Territory, territory_id) is not None
        if not known or (scope is not None and territory_id not in scope):
            raise Conflict(f"/territory_ids/{place}: there is no such territory")
    for name in kinds or ():
        jobs.known_kind(name)
    start = max(plan_from or source.recorded_at, source.recorded_at)
    if plan_until is not None and not timedelta(0) < plan_until - start <= LONGEST_PLAN:
        raise Invalid.field("plan_until", f"must lie after plan_from, by no more than {LONGEST_PLAN.days} days")
    _check_mode(mode, job_id, without_crew_ids, narrowed=bool(territory_ids or kinds))
    if job_id is not None:
        _check_job(job_id, scope)
    _check_crews(without_crew_ids or (), scope)
    run = DispatchRun(
        id=new_id(),
        state="queued",
        mode=mode,
        what_if=what_if,
        territory_ids=sorted(set(territory_ids)) if territory_ids else None,
        scope_territory_ids=sorted(scope) if scope is not None else None,
        kinds=sorted(set(kinds)) if kinds else None,
        job_id=job_id,
        without_crew_ids=sorted(set(without_crew_ids)) if without_crew_ids else None,
        plan_from=plan_from or source.recorded_at,
        plan_until=plan_until,
        requested_by=source.id,
        requested_by_name=source.name,
        created_at=source.recorded_at,
    )
    db.session.add(run)
    db.session.flush()
    told = "mode what_if territory_ids kinds job_id without_crew_ids plan_from plan_until".split()
    after = {name: plain(getattr(run, name)) for name in told if getattr(run, name) not in (None, False)}
    record(source, "dispatch.requested", "dispatch_run", run.id, after=after)
    return run


def _check_mode(mode: str, job_id: str | None, without_crew_ids: Sequence[str] | None, *, narrowed: bool) -> None:
    for name, value, of in (("job_id", job_id, "insert"), ("without_crew_ids", without_crew_ids, "crew_out")):
        if mode == of and not value:
            raise Invalid.field(name, f"is what {of} is about")
        if mode != of and value:
            raise Invalid.field(name, f"belongs to {of}")
    if narrowed and mode in ("insert", "crew_out"):
        raise Invalid.field("mode", f"{mode} takes neither territory_ids nor kinds")


def _check_job(job_id: str, scope: Collection[str] | None) -> None:
    job = db.session.get(Job, job_id)
    if job is None or (scope is not None and job.territory_id not in scope):
        raise Conflict("job_id: there is no such job")
    if job.territory_id is None:
        raise Conflict(f"job {job.number} lies in no territory", "state-not-allowed", status_now=job.status)
    if job.pinned or job.status not in (*WAITING, *MOVABLE):
        how = "pinned" if job.pinned else job.status
        raise Conflict(f"job {job.number} is {how} and stays where it is", "state-not-allowed", status_now=job.status)


def _check_crews(crew_ids: Sequence[str], scope: Collection[str] | None) -> None:
    rows = db.session.execute(select(Crew.id, Crew.territory_ids).where(among(Crew.id, crew_ids)))
    homes: dict[str, list[str]] = {row.id: row.territory_ids for row in rows}
    for place, crew_id in enumerate(crew_ids):
        if crew_id not in homes or (scope is not None and not set(scope).intersection(homes[crew_id])):
            raise Conflict(f"/without_crew_ids/{place}: there is no such crew")


def cancel(source: Source, run_id: str, scope: Collection[str] | None) -> tuple[DispatchRun, list[Ring]]:
    """Call a run off; what it has assigned by then stays. Answers also what is to be rung for after the commit.

    :raises NotFound: there is none for this caller.
    :raises Conflict: it has ended.
    """
    run = _held(run_id, source, scope)
    if run.state not in ("queued", "running"):
        raise Conflict(f"the run is {run.state}", "state-not-allowed", status_now=run.state)
    run.state, run.finished_at, run.waits_for = "cancelled", source.recorded_at, None
    open_areas = update(DispatchArea).where(
        DispatchArea.run_id == run.id, DispatchArea.state.in_(("queued", "running", "planned"))
    )
    db.session.execute(open_areas.values(state="cancelled", finished_at=source.recorded_at))
    unwanted = update(DispatchDecision).where(DispatchDecision.run_id == run.id, DispatchDecision.taken == "wanted")
    db.session.execute(unwanted.values(taken=None))
    record(source, "dispatch.cancelled", "dispatch_run", run.id)
    return run, release(run)


def accept(
    source: Source,
    run_id: str,
    scope: Collection[str] | None,
    travel: TravelTimes,
    job_ids: Sequence[str] | None = None,
) -> DispatchRun:
    """Have carried out what a what-if run found, all of it or that of some jobs and of what goes :func:`along`.

    The transaction waits for ``travel``: it should ask nobody.

    Ring ``run_dispatch`` after the commit. What has changed meanwhile will be left as it is and said so of each job.
    What nobody accepts stays as it is, and can be accepted later.

    :raises NotFound: there is none for this caller.
    :raises Conflict: it was no what-if run, or is not done; a job that it says nothing of.
    """
    run = _held(run_id, source, scope)
    if not within(run, scope):  # one's own, from when one had other territories
        raise NotFound("dispatch run", run_id)
    if not run.what_if or run.state != "done":
        how = f"is {run.state}" if run.what_if else "has been carried out already"
        raise Conflict(f"the run {how}", "state-not-allowed", status_now=run.state)
    mine = DispatchDecision.run_id == run.id
    if job_ids is not None:
        mine &= among(DispatchDecision.job_id, _with_along(run, job_ids, travel))
    wanted = update(DispatchDecision).where(mine, DispatchDecision.taken.is_(None))
    chosen = db.session.execute(wanted.values(taken="wanted").execution_options(synchronize_session=False))
    if not chosen.rowcount:  # type: ignore[attr-defined]
        return run  # accepted before: who did it, and when, stays
    run.accepted_at, run.accepted_by, run.accepted_by_name = source.recorded_at, source.id, source.name
    how_many = "all" if job_ids is None else chosen.rowcount  # type: ignore[attr-defined]
    record(source, "dispatch.accepted", "dispatch_run", run.id, after={"jobs": how_many})
    return run


def _with_along(run: DispatchRun, job_ids: Sequence[str], travel: TravelTimes) -> list[str]:
    mine = (DispatchDecision.run_id == run.id) & among(DispatchDecision.job_id, job_ids)
    known = set(db.session.scalars(select(DispatchDecision.job_id).where(mine)))
    for place, job_id in enumerate(job_ids):
        if job_id not in known:
            raise Conflict(f"/job_ids/{place}: the run says nothing of this job")
    return sorted({*job_ids, *along(run.id, job_ids, travel)})


def _held(run_id: str, source: Source, scope: Collection[str] | None) -> DispatchRun:
    find(run_id, source.id, scope)
    return db.session.get_one(DispatchRun, run_id, populate_existing=True, with_for_update=True)
