"""Read runs, what they decided, and what that changes; never for somebody who may not see it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, Select, func, select
from sqlalchemy.orm import aliased

from fieldsvc.base.db import among, db
from fieldsvc.base.errors import NotFound
from fieldsvc.base.plain import plain
from fieldsvc.people.models import Crew
from fieldsvc.work.models import DispatchArea, DispatchDecision, DispatchRun, Job

_former = aliased(Crew)


def find(run_id: str, actor_id: str | None, scope: Collection[str] | None) -> DispatchRun:
    """One run: the reader's own, or one whose whole scope the reader may see.

    :raises NotFound: there is none for this reader.
    """
    found = db.session.get(DispatchRun, run_id)
    if found is None or not _visible(found, actor_id, scope):
        raise NotFound("dispatch run", run_id)
    return found


def _visible(found: DispatchRun, actor_id: str | None, scope: Collection[str] | None) -> bool:
    return found.requested_by == actor_id or within(found, scope)


def within(found: DispatchRun, scope: Collection[str] | None) -> bool:
    """Whether all territories of a run are in ``scope``."""
    if scope is None:
        return True
    theirs = found.territory_ids or found.scope_territory_ids
    return theirs is not None and set(theirs) <= set(scope)


def runs(actor_id: str | None, scope: Collection[str] | None) -> Select[DispatchRun]:
    """The runs a reader may list: all, or with a scope their own."""
    query = select(DispatchRun)
    return query if scope is None else query.where(DispatchRun.requested_by == actor_id)


_RUN = (
    "id state mode what_if territory_ids kinds job_id without_crew_ids waits_for plan_from plan_until requested_by "
    "requested_by_name created_at started_at finished_at considered assigned attempts failure before after travel "
    "accepted_at accepted_by accepted_by_name"
).split()


def row(found: DispatchRun) -> dict[str, Any]:
    """A run, JSON-ready; see :func:`rows`."""
    return rows([found])[found.id]


def rows(found: Sequence[DispatchRun]) -> dict[str, dict[str, Any]]:
    """Runs by id, JSON-ready. ``not_assigned`` counts what a run left, by reason, ``taken`` what became of its
    decisions; while it goes on, ``considered`` and ``assigned`` are those of the areas that are done."""
    ids = [run.id for run in found]
    areas_of: dict[str, list[Any]] = {run_id: [] for run_id in ids}
    columns = (DispatchArea.run_id, DispatchArea.stage, DispatchArea.state)
    for area in db.session.execute(
        select(*columns, DispatchArea.considered, DispatchArea.assigned)
        .where(among(DispatchArea.run_id, ids))
        .order_by(DispatchArea.run_id, DispatchArea.number)
    ):
        areas_of[area.run_id].append(area)
    left = _counted(ids, DispatchDecision.reason, DispatchDecision.crew_id.is_(None))
    taken = _counted(ids, DispatchDecision.taken, DispatchDecision.taken.is_not(None))
    return {
        run.id: _progress(run, areas_of[run.id]) | {"not_assigned": left[run.id], "taken": taken[run.id]}
        for run in found
    }


def _counted(run_ids: Sequence[str], column: Any, condition: ColumnElement[bool]) -> dict[str, dict[str, int]]:
    """Run -> value of a column of its decisions -> how many."""
    counted: dict[str, dict[str, int]] = {run_id: {} for run_id in run_ids}
    query = select(DispatchDecision.run_id, column, func.count()).where(among(DispatchDecision.run_id, run_ids))
    query = query.where(condition).group_by(DispatchDecision.run_id, column).order_by(column)
    for run_id, value, count in db.session.execute(query):
        counted[run_id][value] = count
    return counted


def _progress(found: DispatchRun, areas: Sequence[Any]) -> dict[str, Any]:
    shown = {name: plain(getattr(found, name)) for name in _RUN}
    ended = [area for area in areas if area.state in ("done", "failed", "cancelled")]
    if found.finished_at is None or found.state == "cancelled":
        shown["considered"] = sum(area.considered for area in areas if area.stage == "area")
        shown["assigned"] = sum(area.assigned for area in areas)
    shown["stage"] = areas[-1].stage if areas and found.state == "running" else None
    return shown | {"areas": len(areas), "areas_done": len(ended)}


def areas(run_id: str) -> Select[DispatchArea]:
    """The areas of a run, to be ordered by number."""
    return select(DispatchArea).where(DispatchArea.run_id == run_id)


def area_row(found: DispatchArea) -> dict[str, Any]:
    """An area, JSON-ready."""
    names = (
        "number stage state territory_ids crew_ids attempts started_at finished_at considered assigned failure before "
        "after travel"
    ).split()
    return {name: plain(getattr(found, name)) for name in names}


def decisions(run_id: str) -> Any:
    """The decisions of a run, each with the number of its job and the codes of its crew and of the one before."""
    return (
        select(DispatchDecision, Job.number, Crew.code, _former.code)
        .join(Job, Job.id == DispatchDecision.job_id)
        .outerjoin(Crew, Crew.id == DispatchDecision.crew_id)
        .outerjoin(_former, _former.id == DispatchDecision.former_crew_id)
        .where(DispatchDecision.run_id == run_id)
    )


def changes(run_id: str) -> Any:
    """Those of :func:`decisions` by which a job gets a crew, another one, none any more, or another time."""
    one = DispatchDecision
    return decisions(run_id).where(
        one.crew_id.is_distinct_from(one.former_crew_id) | one.planned_start.is_distinct_from(one.former_start)
    )


_DECISION = (
    "place area job_id crew_id reason detail why planned_start planned_end planned_order distance_m late_minutes "
    "former_crew_id former_start taken"
).split()


def decision_row(found: tuple[DispatchDecision, str, str | None, str | None]) -> dict[str, Any]:
    """One row of :func:`decisions`, JSON-ready; ``later_minutes`` is how much later than before the job begins."""
    decision, number, code, former = found
    shown = {name: plain(getattr(decision, name)) for name in _DECISION}
    later = None
    if decision.planned_start is not None and decision.former_start is not None:
        later = round((decision.planned_start - decision.former_start) / timedelta(minutes=1), 1)
    return shown | {"job_number": number, "crew_code": code, "former_crew_code": former, "later_minutes": later}
