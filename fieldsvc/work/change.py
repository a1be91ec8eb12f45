"""How a job changes: every change of every job goes through here, with its revision, its history and its feed row.

Callers hold the job's row (:func:`lock`), decide, and say what changes; nothing else writes ``job.status``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import select, update

from fieldsvc.base.clock import new_id
from fieldsvc.base.db import db
from fieldsvc.base.errors import Conflict, NotFound
from fieldsvc.base.plain import plain
from fieldsvc.history.record import Source, record
from fieldsvc.people.models import Crew
from fieldsvc.work import documents, promises
from fieldsvc.work.models import Assignment, Job

WAITING = ("waiting_to_be_scheduled", "scheduled", "returned")
"""States in which a job waits for a crew."""
ENDED = ("completed", "closed", "cancelled")
"""States in which nothing is left to do on site."""
UNDER_WAY = ("on_site", "in_progress")
BY_DISPATCH = frozenset("crew_id assignment_rev planned_start planned_end planned_order pinned pinned_start".split())
"""What dispatch decides about a job: who does it, and when."""
NOT_BEGUN = (*WAITING, "dispatched", "accepted", "not_done")
"""States in which no crew is on the way."""


def lock(job_id: str) -> Job:
    """The job, its row held until the transaction ends.

    :raises NotFound: there is none.
    """
    job = db.session.scalar(select(Job).where(Job.id == job_id).with_for_update())
    if job is None:
        raise NotFound("job", job_id)
    return job


def apply(
    source: Source,
    job: Job,
    action: str,
    fields: Mapping[str, Any],
    *,
    note: str | None = None,
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Set ``fields`` of ``job`` as one new revision, with one history entry, and show it to its crew.

    Members that are equal already are left out; the revision still grows, because something happened. ``extra`` is
    added
    to the entry's ``after`` (what an operation brought that is not a field of the job).
    """
    changed = {name: value for name, value in fields.items() if getattr(job, name) != value}
    before = {name: plain(getattr(job, name)) for name in changed}
    job.rev += 1
    job.updated_at = source.recorded_at
    for name, value in changed.items():
        setattr(job, name, value)
    if changed:
        made = [job.rev, source.mark, plain(source.at)]
        job.field_revs = {**job.field_revs, **dict.fromkeys(changed, made)}
    record(
        source,
        action,
        "job",
        job.id,
        before=before,
        after={**{name: plain(getattr(job, name)) for name in changed}, **plain(extra or {})},
        job_id=job.id,
        job_kind=job.kind,
        customer_id=job.customer_id,
        crew_id=job.crew_id,
        territory_id=job.territory_id,
        note=note,
    )
    documents.show(job)


def assign(
    source: Source,
    job: Job,
    crew: Crew,
    *,
    planned_start: datetime | None = None,
    planned_end: datetime | None = None,
    planned_order: int | None = None,
    pin: bool = False,
    pin_time: bool = True,
    run_id: str | None = None,
    note: str | None = None,
) -> None:
    """Give the job to ``crew``; the crew that had it is told that it left.

    :param pin: no dispatch run takes it from the crew nor, with ``pin_time``, moves it in time where a
        ``planned_start`` is given.
    :raises Conflict: the job has ended, or a crew is at work on it on site.
    """
    if job.status in ENDED or job.status in UNDER_WAY:
        raise Conflict(
            f"job {job.number} is {job.status} and cannot be assigned", "state-not-allowed", status_now=job.status
        )
    if not crew.active:
        raise Conflict(f"crew {crew.code} is not active")
    previous = job.crew_id
    if previous is not None and previous != crew.id:
        _end_assignment(job, source.recorded_at, "reassigned")
        documents.take_away(job, previous, "reassigned")
    if previous != crew.id:
        db.session.add(
            Assignment(
                id=new_id(),
                job_id=job.id,
                crew_id=crew.id,
                assignment_rev=job.assignment_rev + 1,
                assigned_at=source.recorded_at,
                run_id=run_id,
            )
        )
    apply(
        source,
        job,
        "job.assigned" if previous in (None, crew.id) else "job.reassigned",
        {
            "crew_id": crew.id,
            "status": "dispatched" if previous != crew.id else job.status,
            "assignment_rev": job.assignment_rev + (previous != crew.id),
            "planned_start": planned_start,
            "planned_end": planned_end,
            "planned_order": planned_order,
            "pinned": pin,
            "pinned_start": planned_start if pin and pin_time else None,
        },
        note=note,
        extra={"crew": crew.code},
    )
    documents.hand_out(job)


def replan(
    source: Source,
    job: Job,
    planned_start: datetime,
    planned_end: datetime,
    planned_order: int,
    note: str | None = None,
) -> None:
    """The crew keeps the job and does it at another time or in another order."""
    times = {"planned_start": planned_start, "planned_end": planned_end, "planned_order": planned_order}
    apply(source, job, "job.replanned", times, note=note)


def pin(source: Source, job: Job) -> None:
    """No dispatch run takes the job from its crew, nor moves it in time where it has one.

    :raises Conflict: it has ended, or has no crew.
    """
    if job.crew_id is None or job.status in ENDED:
        raise Conflict(
            f"job {job.number} is {job.status} and cannot be pinned", "state-not-allowed", status_now=job.status
        )
    apply(source, job, "job.pinned", {"pinned": True, "pinned_start": job.planned_start})


def unpin(source: Source, job: Job) -> None:
    """Let dispatch runs decide about the job again; nothing happens when they may already.

    :raises Conflict: the job has ended.
    """
    if job.status in ENDED:
        raise Conflict(f"job {job.number} is {job.status}", "state-not-allowed", status_now=job.status)
    if job.pinned:
        apply(source, job, "job.unpinned", {"pinned": False, "pinned_start": None})


def unassign(source: Source, job: Job, reason: str, status: str = "waiting_to_be_scheduled") -> None:
    """Take the job from its crew; it waits for a crew again.

    :param status: one of those in which a job waits for a crew, or ``not_done``.
    :raises Conflict: it has no crew, has ended, or its crew is at work on site.
    """
    if job.crew_id is None or job.status in ENDED or job.status in UNDER_WAY:
        raise Conflict(
            f"job {job.number} is {job.status} and cannot be unassigned", "state-not-allowed", status_now=job.status
        )
    _release(source, job, "unassigned", "job.unassigned", status, note=reason)


def give_back(
    source: Source, job: Job, status: str, action: str, fields: Mapping[str, Any], extra: Mapping[str, Any]
) -> None:
    """A crew sent the job back (``returned``) or could not finish it (``not_done``): it leaves their list."""
    _release(source, job, status, action, status, note=extra.get("note"), fields=fields, extra=extra)


def cancel(source: Source, job: Job, note: str) -> None:
    """Cancel a job that has not ended; its crew is told.

    :raises Conflict: it has ended already.
    """
    if job.status in ENDED:
        raise Conflict(
            f"job {job.number} is {job.status} and cannot be cancelled", "state-not-allowed", status_now=job.status
        )
    for clock in job.clocks:
        if clock.verdict == "running":
            clock.verdict = "exempted"
            clock.known_at = source.recorded_at
    if job.crew_id is None:
        apply(source, job, "job.cancelled", {"status": "cancelled"}, note=note)
    else:
        _release(source, job, "cancelled", "job.cancelled", "cancelled", note=note)
    for assist in assists(job):
        cancel(source, assist, f"{job.number} was cancelled")


def revive(
    source: Source, job: Job, status: str, fields: Mapping[str, Any], clocks: Collection[str], *, note: str
) -> None:
    """Bring back a job that was cancelled by mistake: it is ``status`` again, without a crew, its promises run on.

    :param clocks: the kinds of those promises that were running when it was cancelled.
    :raises Conflict: it is not cancelled.
    """
    if job.status != "cancelled":
        raise Conflict(f"job {job.number} is {job.status}", "state-not-allowed", status_now=job.status)
    for clock in job.clocks:
        if clock.kind in clocks:
            clock.verdict, clock.known_at = "running", None
    apply(source, job, "job.revived", {**fields, "status": status}, note=note)


def reported(source: Source, job: Job, at: datetime) -> dict[str, Any]:
    """The trouble was reported at another time than the job says: its promises count from there.

    Answers the fields of the job that change with it, for :func:`apply`. A date that a dispatcher has set stays.
    """
    first_due = min((clock.due_at for clock in job.clocks), default=None)
    made = {promise.kind: promise for promise in promises.made_for(job.kind, job.site_class, at)}
    for clock in job.clocks:
        if (promise := made.get(clock.kind)) is None:
            continue
        before = {"started_at": plain(clock.started_at), "due_at": plain(clock.due_at), "verdict": clock.verdict}
        clock.started_at, clock.due_at, clock.source = promise.started_at, promise.due_at, promise.source
        if clock.reached_at is not None and clock.verdict in ("met", "missed"):
            clock.verdict = "met" if clock.reached_at <= clock.due_at else "missed"
        record(
            source,
            "promise.moved",
            "commitment_clock",
            clock.id,
            before=before,
            after={
                "kind": clock.kind,
                "started_at": plain(clock.started_at),
                "due_at": plain(clock.due_at),
                "verdict": clock.verdict,
            },
            job_id=job.id,
            job_kind=job.kind,
            customer_id=job.customer_id,
            territory_id=job.territory_id,
        )
    fields: dict[str, Any] = {"reported_at": at}
    if first_due is not None and job.due_at == first_due:
        fields["due_at"] = min(clock.due_at for clock in job.clocks)
    return fields


def assists(job: Job) -> Sequence[Job]:
    """What second crews still have to do for the job, held for a change."""
    open_ones = select(Job).where(Job.assists_job_id == job.id, Job.status.not_in(ENDED))
    return db.session.scalars(open_ones.order_by(Job.id).with_for_update()).all()


def release_assists(source: Source, job: Job) -> None:
    """The job is done: no second crew sets out for it any more. One that is on the way finishes what it has begun."""
    for assist in assists(job):
        if assist.status in NOT_BEGUN:
            cancel(source, assist, f"{job.number} was done without it")


def _release(
    source: Source,
    job: Job,
    reason: str,
    action: str,
    status: str,
    *,
    note: str | None,
    fields: Mapping[str, Any] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> None:
    crew_id = job.crew_id
    _end_assignment(job, source.recorded_at, reason)
    released = {
        "crew_id": None,
        "status": status,
        "assignment_rev": job.assignment_rev + 1,
        "planned_start": None,
        "planned_end": None,
        "planned_order": None,
        "pinned": False,
        "pinned_start": None,
    }
    apply(source, job, action, {**(fields or {}), **released}, note=note, extra=extra)
    if crew_id is not None:
        documents.take_away(job, crew_id, reason)


def _end_assignment(job: Job, now: datetime, reason: str) -> None:
    db.session.execute(
        update(Assignment)
        .where(Assignment.job_id == job.id, Assignment.ended_at.is_(None))
        .values(ended_at=now, ended_reason=reason, planned_start=job.planned_start, planned_end=job.planned_end)
    )


def reach(source: Source, job: Job, kind: str, at: datetime) -> None:
    """A stage was reached at ``at`` (the time it happened, not the time we heard): judge the promise on it.

    The earliest time counts, so an arrival that is synced late can still turn a missed promise into a met one.
    """
    clock = next((clock for clock in job.clocks if clock.kind == kind), None)
    if clock is None or clock.verdict == "exempted" or (clock.reached_at is not None and clock.reached_at <= at):
        return
    before = {"verdict": clock.verdict, "reached_at": plain(clock.reached_at)}
    clock.reached_at = at
    clock.known_at = source.recorded_at
    clock.verdict = "met" if at <= clock.due_at else "missed"
    record(
        source,
        f"promise.{clock.verdict}",
        "commitment_clock",
        clock.id,
        before=before,
        after={"kind": kind, "verdict": clock.verdict, "due_at": plain(clock.due_at), "reached_at": plain(at)},
        job_id=job.id,
        job_kind=job.kind,
        customer_id=job.customer_id,
        territory_id=job.territory_id,
    )


def had_it(job_id: str, crew_id: str) -> bool:
    """Whether a crew has or ever had the job."""
    return (
        db.session.scalar(
            select(Assignment.id).where(Assignment.job_id == job_id, Assignment.crew_id == crew_id).limit(1)
        )
        is not None
    )
