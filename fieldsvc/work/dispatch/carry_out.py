"""Carrying out what a run decided: job by job, each only if nothing has changed that the plan rests on.

What is to be done stands in the decisions, so this can be stopped and begun again anywhere: a decision is carried out
and marked in the same transaction. Rows are held in the order of their ids: nobody deadlocks.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select

from fieldsvc.base.db import db, transaction
from fieldsvc.history.record import Source
from fieldsvc.people.models import Crew
from fieldsvc.work import change
from fieldsvc.work.dispatch import basis
from fieldsvc.work.models import DispatchArea, DispatchDecision, DispatchRun, Job

SAME_TIME = timedelta(minutes=1)
"""A crew is not told anew of a job that it begins this little sooner or later."""


def carry_out(run_id: str, number: int | None, now: datetime, *, batch: int = 200) -> bool:
    """Carry out what is wanted of one area, or (``number`` None) of a whole run that was accepted.

    Short transactions of its own, ``batch`` jobs each. False: the run was cancelled meanwhile.
    """
    while True:
        with transaction():
            run = db.session.get(DispatchRun, run_id, populate_existing=True, with_for_update=number is None)
            area = None if number is None else _area(run_id, number)
            if run is None or (run.state != "done" if area is None else area.state != "planned"):
                return False
            wanted = _wanted(run_id, number, batch)
            if wanted:
                _take(run, wanted, now)
                continue
            if area is not None:
                area.state, area.finished_at = "done", now
            return True


def _area(run_id: str, number: int) -> DispatchArea:
    """The area, its row held: one worker at a time carries it out, and whoever cancels the run waits for the batch."""
    return db.session.get_one(DispatchArea, (run_id, number), populate_existing=True, with_for_update=True)


def _wanted(run_id: str, number: int | None, batch: int) -> Sequence[DispatchDecision]:
    mine = (DispatchDecision.run_id == run_id, DispatchDecision.taken == "wanted")
    area = () if number is None else (DispatchDecision.area == number,)
    query = select(DispatchDecision).where(*mine, *area).order_by(DispatchDecision.place).limit(batch)
    return db.session.scalars(query).all()


def _take(run: DispatchRun, wanted: Sequence[DispatchDecision], now: datetime) -> None:
    ids = {decision.job_id for decision in wanted}
    query = select(Job).where(Job.id.in_(ids)).order_by(Job.id).with_for_update()
    held = {job.id: job for job in db.session.scalars(query.execution_options(populate_existing=True))}
    asked = {decision.crew_id for decision in wanted if decision.crew_id}
    crews = {crew.id: crew for crew in db.session.scalars(select(Crew).where(Crew.id.in_(asked)))}
    source = Source(kind="system", recorded_at=now, id=run.id, name=by(run))
    with db.session.no_autoflush:  # every look-up below would else write out one job at a time
        for decision in wanted:
            _take_one(source, run, decision, held.get(decision.job_id), crews)


def by(run: DispatchRun) -> str:
    """Whose doing a run's changes are, as history names it."""
    name = run.accepted_by_name or run.requested_by_name
    return f"dispatch run of {name}"[:120] if name else "dispatch run"


def _take_one(
    source: Source, run: DispatchRun, decision: DispatchDecision, job: Job | None, crews: Mapping[str, Crew]
) -> None:
    crew = crews.get(decision.crew_id or "")
    changed = ["job"] if job is None else changes(job, decision)
    if decision.crew_id is not None and (crew is None or not crew.active):
        changed.append("crew")
    if job is None or changed:
        decision.taken = "changed_meanwhile"
        decision.why = {**(decision.why or {}), "changed": changed}
        if not run.what_if:
            decision.crew_id, decision.reason = None, "changed_meanwhile"
            decision.detail = f"changed meanwhile: {', '.join(changed).replace('_', ' ')}"
        return
    decision.taken = "accepted"
    if crew is None:
        if job.crew_id is not None and not job.pinned:
            change.unassign(source, job, decision.detail)
        return
    assert decision.planned_start is not None and decision.planned_end is not None
    if job.crew_id != crew.id:
        change.assign(
            source,
            job,
            crew,
            planned_start=decision.planned_start,
            planned_end=decision.planned_end,
            planned_order=decision.planned_order,
            run_id=run.id,
            note=decision.detail,
        )
    elif _moved(job, decision):
        assert decision.planned_order is not None
        times = (decision.planned_start, decision.planned_end, decision.planned_order)
        change.replan(source, job, *times, note=decision.detail)


def changes(job: Job, decision: DispatchDecision) -> list[str]:
    """The names of what has changed since the decision was made."""
    then: Collection[Any] = decision.seen or ()
    return [name for name, old, new in zip(basis.SEEN, then, basis.seen(job), strict=True) if old != new]


def _moved(job: Job, decision: DispatchDecision) -> bool:
    if job.planned_start is None or decision.planned_start is None or job.planned_order != decision.planned_order:
        return True
    return abs(job.planned_start - decision.planned_start) >= SAME_TIME
