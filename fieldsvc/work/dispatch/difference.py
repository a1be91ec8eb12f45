"""What a run makes different, for people to look at: change by change, and counted.

A change is one of these: ``new`` (the job gets a crew), ``other_crew``, ``moved`` (same crew, another time),
``dropped`` (it loses its crew). A job that had no crew and gets none is ``left``; all others are ``unchanged``.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, and_, case, exists, func, or_, select

from fieldsvc.base.db import among, db
from fieldsvc.base.plain import plain
from fieldsvc.people.models import Crew, Shift, Territory
from fieldsvc.records.models import Customer
from fieldsvc.work.dispatch.area import HORIZON
from fieldsvc.work.dispatch.basis import HELD
from fieldsvc.work.dispatch.queries import decision_row, decisions
from fieldsvc.work.dispatch.rules import Rules
from fieldsvc.work.models import CommitmentClock, DispatchDecision, DispatchRun, Job
from fieldsvc.work.tiers import Standing, tier

CHANGES = ("new", "other_crew", "moved", "dropped")
SHOWN = ("changes", *CHANGES, "lost", "left", "changed_meanwhile", "all")
"""What :func:`shown` can be narrowed to. ``lost``: promises that were kept before and are not any more."""
MOST_DRAWN = 2_000
"""Changes that map and timeline are given at once."""
MOST_BESIDE = 1_000
"""Jobs that stay as they are, shown beside the changes."""
BEGUN_BEFORE = timedelta(hours=12)
"""What was to begin this long before a plan does may still be under way."""

LEFT_LYING = timedelta(minutes=10)
"""A plan begins when it is made; so long it may be looked at."""

_one = DispatchDecision
_has, _had = _one.crew_id.is_not(None), _one.former_crew_id.is_not(None)
_IS: dict[str, ColumnElement[bool]] = {
    "new": and_(_has, ~_had),
    "other_crew": and_(_has, _had, _one.crew_id != _one.former_crew_id),
    "moved": and_(_has, _one.crew_id == _one.former_crew_id, _one.planned_start.is_distinct_from(_one.former_start)),
    "dropped": and_(~_has, _had),
    "left": and_(~_has, ~_had),
    "changed_meanwhile": _one.taken == "changed_meanwhile",
    "all": _one.run_id.is_not(None),
}
_IS["changes"] = or_(*(_IS[name] for name in CHANGES))
_promised = Job.due_at.is_not(None)
_kept_before = and_(_promised, _had, _one.former_start.is_not(None), _one.former_start <= Job.due_at)
_kept_after = and_(_promised, _has, func.coalesce(_one.late_minutes, 0) == 0)
_IS["lost"] = and_(_kept_before, ~_kept_after)
_GAINED = and_(_kept_after, ~_kept_before)
_JOB = "kind status title address lon lat territory_id priority due_at service_minutes hazards pinned rev".split()


def shown(
    run_id: str,
    what: str = "changes",
    *,
    reason: str | None = None,
    crew_id: str | None = None,
    territory_id: str | None = None,
) -> Any:
    """Decisions of a run with facts of their jobs, to be ordered by place; each goes through :func:`row`.

    :param what: one of :data:`SHOWN`; ``crew_id``: who has it before or after; ``reason``: of the decision.
    """
    query = decisions(run_id).add_columns(*(getattr(Job, name) for name in _JOB)).where(_IS[what])
    if reason is not None:
        query = query.where(_one.reason == reason)
    if crew_id is not None:
        query = query.where(or_(_one.crew_id == crew_id, _one.former_crew_id == crew_id))
    if territory_id is not None:
        query = query.where(Job.territory_id == territory_id)
    return query


def row(found: Any) -> dict[str, Any]:
    """One row of :func:`shown`, JSON-ready: the decision, its job, what kind of change it is, and what becomes of its
    promise (``promise``: kept, gained, lost, broken, or None without one)."""
    told = decision_row(found[:4])
    told["job"] = {name: plain(value) for name, value in zip(_JOB, found[4:], strict=True)} | {
        "id": told["job_id"],
        "number": told["job_number"],
    }
    return told | {"what": _what(told), "promise": _promise(told)}


def _what(told: dict[str, Any]) -> str:
    crew, former = told["crew_id"], told["former_crew_id"]
    if crew is None:
        return "dropped" if former else "left"
    if former is None:
        return "new"
    if crew != former:
        return "other_crew"
    return "unchanged" if told["planned_start"] == told["former_start"] else "moved"


def _promise(told: dict[str, Any]) -> str | None:
    due = told["job"]["due_at"]
    if due is None:
        return None
    before = bool(told["former_crew_id"] and told["former_start"] and told["former_start"] <= due)
    after = bool(told["crew_id"] and not told["late_minutes"])
    return {(True, True): "kept", (False, True): "gained", (True, False): "lost", (False, False): "broken"}[
        before, after
    ]


def counts(run_id: str) -> dict[str, int]:
    """How many decisions there are of each kind of :data:`SHOWN`, and ``gained``: promises only the new plan keeps."""
    wanted = {**_IS, "gained": _GAINED}
    columns = [func.coalesce(func.sum(case((condition, 1), else_=0)), 0) for condition in wanted.values()]
    query = select(*columns).select_from(_one).join(Job, Job.id == _one.job_id).where(_one.run_id == run_id)
    return dict(zip(wanted, map(int, db.session.execute(query).one()), strict=True))


def overtaken(run_id: str, now: datetime) -> int:
    """How many changes that nobody has accepted yet were to begin well before ``now``: the plan was left lying."""
    query = select(func.count()).where(_one.run_id == run_id, _IS["changes"], _one.taken.is_(None))
    return db.session.scalar(query.where(_one.planned_start < now - LEFT_LYING)) or 0


def crews(run_id: str) -> list[dict[str, Any]]:
    """The crews that a run changes something for, by code: how many of its jobs each had before and has after, the
    hours of work that makes, and how many changes it is part of."""
    hours = Job.service_minutes
    changed = case((_IS["changes"], 1), else_=0)
    found: dict[str, dict[str, Any]] = {}
    for column, name in ((_one.former_crew_id, "before"), (_one.crew_id, "after")):
        query = (
            select(column, func.count(), func.sum(hours), func.sum(changed))
            .join(Job, Job.id == _one.job_id)
            .where(_one.run_id == run_id, column.is_not(None))
            .group_by(column)
        )
        for crew_id, jobs, minutes, changes in db.session.execute(query):
            crew = found.setdefault(
                crew_id, {"id": crew_id, "before": 0, "after": 0, "hours_before": 0.0, "changes": 0}
            )
            crew |= {name: jobs, f"hours_{name}": round(int(minutes) / 60, 1)}
            crew["changes"] += int(changes)
    names = db.session.execute(select(Crew.id, Crew.code, Crew.name).where(among(Crew.id, sorted(found))))
    for crew_id, code, crew_name in names:
        found[crew_id] |= {"code": code, "name": crew_name}
    told = [{"hours_after": 0.0, **crew} for crew in found.values() if crew["changes"]]
    return sorted(told, key=lambda crew: str(crew.get("code")))


def territories(run_id: str) -> list[dict[str, Any]]:
    """The territories in which a run changes something, by name, with how many changes there are."""
    query = (
        select(Territory.id, Territory.name, func.count())
        .join(Job, Job.territory_id == Territory.id)
        .join(_one, _one.job_id == Job.id)
        .where(_one.run_id == run_id, _IS["changes"])
        .group_by(Territory.id, Territory.name)
        .order_by(Territory.name, Territory.id)
    )
    return [{"id": ident, "name": name, "changes": changes} for ident, name, changes in db.session.execute(query)]


def chosen(run_id: str, crew_ids: Collection[str], territory_ids: Collection[str]) -> list[str]:
    """The jobs of all changes that concern one of the crews, before or after, or lie in one of the territories."""
    either = or_(
        among(_one.crew_id, sorted(crew_ids)),
        among(_one.former_crew_id, sorted(crew_ids)),
        among(Job.territory_id, sorted(territory_ids)),
    )
    query = select(_one.job_id).join(Job, Job.id == _one.job_id).where(_one.run_id == run_id, _IS["changes"], either)
    return sorted(db.session.scalars(query.where(_one.taken.is_(None))))


def drawn(
    run: DispatchRun, now: datetime, crew_id: str | None = None, scope: Collection[str] | None = None
) -> dict[str, Any]:
    """What map and timeline show of a run, JSON-ready: its changes (at most 2,000; ``cut``: there are more), the crews
    they concern with base and shifts, what else these hold in ``scope`` (``beside``; at most 1,000, the next ones), and
    the span that is looked at."""
    query = shown(run.id, "changes", crew_id=crew_id).order_by(_one.place).limit(MOST_DRAWN + 1)
    found = [row(one) for one in db.session.execute(query)]
    cut, found = len(found) > MOST_DRAWN, found[:MOST_DRAWN]
    ids = {one[name] for one in found for name in ("crew_id", "former_crew_id")} - {None}
    beside = _beside(run, sorted(ids), scope)
    jobs = [*(one["job"] for one in found), *beside]
    ranks = _ranks([job["id"] for job in jobs], now)
    for job in jobs:
        job["tier"] = ranks[job["id"]]
    people = db.session.scalars(select(Crew).where(among(Crew.id, sorted(ids))).order_by(Crew.code)).all()
    starts = [one[name] for one in found for name in ("planned_start", "former_start") if one[name]]
    ends = [one["planned_end"] for one in found if one["planned_end"]]
    shifts = _shifts(run, sorted(ids))
    return {
        "changes": found,
        "cut": cut,
        "beside": beside,
        "crews": [
            {
                "id": crew.id,
                "code": crew.code,
                "name": crew.name,
                "base": [crew.base_lon, crew.base_lat] if crew.base_lon is not None else None,
                "shifts": shifts.get(crew.id, []),
            }
            for crew in people
        ],
        "from": min(starts, default=plain(run.plan_from)),
        "until": max([*ends, *starts], default=plain(run.plan_until or run.plan_from)),
    }


def _beside(run: DispatchRun, crew_ids: Sequence[str], scope: Collection[str] | None) -> list[dict[str, Any]]:
    """What the crews hold now, in the time that is planned, and the run changes nothing of; by its begin."""
    until = run.plan_until or run.plan_from + HORIZON
    changed = select(_one.job_id).where(_one.run_id == run.id, _IS["changes"])
    names = ("id", "number", *_JOB, "crew_id", "planned_start", "planned_end", "planned_order")
    query = (
        select(*(getattr(Job, name) for name in names))
        .where(among(Job.crew_id, crew_ids), Job.status.in_(HELD), Job.id.not_in(changed))
        .where(Job.planned_start > run.plan_from - BEGUN_BEFORE, Job.planned_start < until)
        .order_by(Job.planned_start, Job.id)
        .limit(MOST_BESIDE)
    )
    if scope is not None:
        query = query.where(among(Job.territory_id, sorted(scope)))
    return [{name: plain(value) for name, value in one._mapping.items()} for one in db.session.execute(query)]


def _ranks(job_ids: Sequence[str], now: datetime) -> dict[str, str]:
    """Job → its rank as it is now."""
    promised = exists().where(CommitmentClock.job_id == Job.id, CommitmentClock.verdict == "running")
    query = select(Job.id, Job.hazards, promised, Customer.importance, Job.due_at)
    query = query.outerjoin(Customer, Customer.id == Job.customer_id).where(among(Job.id, job_ids))
    at_risk_from = now + timedelta(minutes=Rules.on(now).at_risk_minutes)
    return {
        job_id: tier(Standing(bool(hazards), runs, importance, due, at_risk_from))
        for job_id, hazards, runs, importance, due in db.session.execute(query)
    }


def _shifts(run: DispatchRun, crew_ids: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    query = select(Shift).where(among(Shift.crew_id, crew_ids), Shift.ends_at > run.plan_from)
    if run.plan_until is not None:
        query = query.where(Shift.starts_at < run.plan_until)
    found: dict[str, list[dict[str, Any]]] = {}
    for shift in db.session.scalars(query.order_by(Shift.starts_at, Shift.id)):
        told = {"starts_at": plain(shift.starts_at), "ends_at": plain(shift.ends_at), "breaks": shift.breaks}
        found.setdefault(shift.crew_id, []).append(told)
    return found


def about(runs: Sequence[DispatchRun]) -> dict[str, dict[str, Any]]:
    """Run → the names of what it was asked for: ``territories``, ``crews`` (who drop out), ``job`` (that is put in)."""
    wanted = {
        "territories": {one for run in runs for one in run.territory_ids or ()},
        "crews": {one for run in runs for one in run.without_crew_ids or ()},
        "job": {run.job_id for run in runs if run.job_id},
    }
    names: dict[str, str] = {}
    for column, ident, ids in (
        (Territory.name, Territory.id, wanted["territories"]),
        (Crew.code, Crew.id, wanted["crews"]),
        (Job.number, Job.id, wanted["job"]),
    ):
        names |= dict(db.session.execute(select(ident, column).where(among(ident, sorted(ids)))).all())
    return {
        run.id: {
            "territories": [names.get(one, one) for one in run.territory_ids or ()],
            "crews": [names.get(one, one) for one in run.without_crew_ids or ()],
            "job": names.get(run.job_id or ""),
        }
        for run in runs
    }
