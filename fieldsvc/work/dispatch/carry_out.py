"""Carrying out what a run decided: job by job, each only if nothing has changed that the plan rests on.

What is to be done stands in the decisions, so this can be stopped and begun again anywhere: a decision is carried out
and marked in the same transaction. Rows are held in the order of their ids: nobody deadlocks.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select, update

from fieldsvc import kinds
from fieldsvc.base.db import db, transaction
from fieldsvc.geo.inserting import SAME_TIME
from fieldsvc.history.record import Source
from fieldsvc.people.models import Crew, Shift
from fieldsvc.work import change, jobs
from fieldsvc.work.dispatch import basis
from fieldsvc.work.dispatch.area import MOST_ATTEMPTS
from fieldsvc.work.dispatch.rules import Rules
from fieldsvc.work.models import DispatchArea, DispatchDecision, DispatchRun, Job


def carry_out(run_id: str, number: int | None, now: datetime, *, batch: int = 200) -> bool:
    """Carry out what is wanted of one area, or (``number`` None) of a whole run that was accepted.

    Short transactions of its own, ``batch`` jobs each. False: the run was cancelled meanwhile. What goes wrong is
    recorded and raised again; after three attempts the rest is given up, so that nobody waits for it for ever.
    """
    try:
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
    except Exception as error:
        _failed(run_id, number, type(error).__name__, now)
        raise


def _failed(run_id: str, number: int | None, error: str, now: datetime) -> None:
    with transaction():
        run = db.session.get_one(DispatchRun, run_id, populate_existing=True, with_for_update=True)
        one = run if number is None else _area(run_id, number)
        one.attempts, one.failure = one.attempts + 1, error[:300]
        if one.attempts < MOST_ATTEMPTS:
            return
        given_up = {"taken": None, "crew_id": None, "reason": "not_carried_out", "detail": error[:300]}
        mine = [DispatchDecision.run_id == run_id, DispatchDecision.taken == "wanted"]
        if number is not None:
            mine.append(DispatchDecision.area == number)
        db.session.execute(update(DispatchDecision).where(*mine).values(given_up))
        if isinstance(one, DispatchArea):
            one.state, one.finished_at = "failed", now


def _area(run_id: str, number: int) -> DispatchArea:
    """The area, its row held: one worker at a time carries it out, and whoever cancels the run waits for the batch."""
    return db.session.get_one(DispatchArea, (run_id, number), populate_existing=True, with_for_update=True)


def _wanted(run_id: str, number: int | None, batch: int) -> Sequence[DispatchDecision]:
    mine = (DispatchDecision.run_id == run_id, DispatchDecision.taken == "wanted")
    area = () if number is None else (DispatchDecision.area == number,)
    query = select(DispatchDecision).where(*mine, *area).order_by(DispatchDecision.place).limit(batch)
    found = db.session.scalars(query).all()
    beside = set(_halves({decision.job_id for decision in found})) - {decision.job_id for decision in found}
    if not beside:
        return found
    more = select(DispatchDecision).where(*mine, DispatchDecision.job_id.in_(beside))
    return [*found, *db.session.scalars(more.order_by(DispatchDecision.place))]


def _halves(job_ids: Collection[str]) -> dict[str, str]:
    """Job → the other half of the work, for work that takes two crews at once."""
    pairs = select(Job.id, Job.assists_job_id).where(Job.assists_job_id.is_not(None))
    found: dict[str, str] = {}
    for second, first in db.session.execute(pairs.where(Job.id.in_(job_ids) | Job.assists_job_id.in_(job_ids))):
        found |= {str(first): second, second: str(first)}
    return found


def _take(run: DispatchRun, wanted: Sequence[DispatchDecision], now: datetime) -> None:
    ids = {decision.job_id for decision in wanted}
    query = select(Job).where(Job.id.in_(ids)).order_by(Job.id).with_for_update()
    held = {job.id: job for job in db.session.scalars(query.execution_options(populate_existing=True))}
    asked = {decision.crew_id for decision in wanted if decision.crew_id}
    crews = _read_crews(asked, held.values(), now)
    source = Source(kind="system", recorded_at=now, id=run.id, name=by(run))
    with db.session.no_autoflush:  # every look-up below would else write out one job at a time
        changed = {decision.job_id: _changed(decision, held.get(decision.job_id), crews) for decision in wanted}
        for one, other in _halves(ids).items():
            if changed.get(other) and changed.get(one) == []:
                changed[one] = ["second_crew"]
        for decision in wanted:
            _take_one(source, run, decision, held.get(decision.job_id), crews, changed[decision.job_id])


@dataclass(frozen=True)
class _Crews:
    """The crews of a batch as they are now: ``shifts`` of each that have not ended, and what decides who may."""

    by_id: Mapping[str, Crew]
    shifts: Mapping[str, Sequence[Any]]
    skills: Mapping[str, str]
    off: Collection[str]

    def able(self, decision: DispatchDecision, job: Job) -> bool:
        """Whether the crew is there for the job, with the skills and the equipment that it had in the plan."""
        crew = self.by_id.get(decision.crew_id or "")
        if crew is None or not crew.active or decision.planned_start is None:
            return False
        if job.crew_id == crew.id:
            return True
        wanted = {*job.required_skills, self.skills.get(job.id, job.kind)}
        skilled = "skill" in self.off or wanted <= set(crew.skills)
        equipped = "equipment" in self.off or set(job.required_equipment) <= set(crew.equipment)
        begin = decision.planned_start
        return skilled and equipped and any(one.starts_at <= begin <= one.ends_at for one in self.shifts[crew.id])


def _read_crews(crew_ids: Collection[str], held: Collection[Job], now: datetime) -> _Crews:
    by_id = {crew.id: crew for crew in db.session.scalars(select(Crew).where(Crew.id.in_(crew_ids)))}
    shifts: dict[str, list[Any]] = {crew_id: [] for crew_id in by_id}
    running = select(Shift.crew_id, Shift.starts_at, Shift.ends_at)
    for shift in db.session.execute(running.where(Shift.crew_id.in_(crew_ids), Shift.ends_at > now)):
        shifts[shift.crew_id].append(shift)
    leads = {job.assists_job_id for job in held if job.assists_job_id}
    kind_of: dict[str, str] = dict(db.session.execute(select(Job.id, Job.kind).where(Job.id.in_(leads))).all())
    skill = {name: jobs.skill_for(kind, now) for name, kind in kinds.discover().items()}
    named = {job.id: kind_of.get(job.assists_job_id or "", job.kind) for job in held}
    return _Crews(
        by_id, shifts, {job_id: skill.get(kind, kind) for job_id, kind in named.items()}, Rules.on(now).goals.off
    )


def by(run: DispatchRun) -> str:
    """Whose doing a run's changes are, as history names it."""
    name = run.accepted_by_name or run.requested_by_name
    return f"dispatch run of {name}"[:120] if name else "dispatch run"


def _changed(decision: DispatchDecision, job: Job | None, crews: _Crews) -> list[str]:
    """What is no longer as the plan saw it; the job may be carried out when nothing is."""
    if job is None:
        return ["job"]
    changed = changes(job, decision)
    if decision.crew_id is not None and not crews.able(decision, job):
        changed.append("crew")
    if job.status not in (*change.WAITING, *basis.MOVABLE):
        changed = list(dict.fromkeys(("status", *changed)))
    return changed


def _take_one(
    source: Source,
    run: DispatchRun,
    decision: DispatchDecision,
    job: Job | None,
    crews: _Crews,
    changed: Sequence[str],
) -> None:
    crew = crews.by_id.get(decision.crew_id or "")
    if job is None or changed:
        decision.taken = "changed_meanwhile"
        decision.why = {**(decision.why or {}), "changed": list(changed)}
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
