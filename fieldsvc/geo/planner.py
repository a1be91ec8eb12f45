"""Who does what, in which order, arriving when, and why: the plan of a day, or of what is left of it.

Job by job, the hard rules say who may do it at all (``screening``). What must be first or exact is settled
(``placing``), the solver fills the routes (``solver``); promises that cannot all be kept are given up in small steps,
and no job is left out for one of a lower rank. The same input always gives the same plan, in whatever order it comes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from fieldsvc.geo import outcome, settling
from fieldsvc.geo.choosing import within_hours
from fieldsvc.geo.drafting import Basis, Candidate, drafted
from fieldsvc.geo.filling import fill
from fieldsvc.geo.model import Goals, Plan, PlanCrew, PlanJob, Tier, TravelReport, Unassigned
from fieldsvc.geo.screening import Refusal, chain_depths, has_place, who_may
from fieldsvc.geo.timing import Draft, Task
from fieldsvc.geo.travel import TravelTimes

_DEFAULT = Goals()


def plan(
    jobs: Sequence[PlanJob], crews: Sequence[PlanCrew], now: datetime, travel: TravelTimes, goals: Goals = _DEFAULT
) -> Plan:
    """Plan ``jobs`` for ``crews`` from ``now`` on.

    Nothing wrong with one job or crew keeps the others from being planned: it becomes a reason of
    :attr:`Plan.unassigned` or a line of :attr:`Plan.notes`.

    :raises ValueError: an id occurs twice.
    """
    for what, ids in (("job", [job.id for job in jobs]), ("crew", [crew.id for crew in crews])):
        if len(ids) != len(set(ids)):
            raise ValueError(f"a {what} id occurs twice")
    by_id = {job.id: job for job in sorted(jobs, key=lambda job: job.id)}
    fleet = sorted(crews, key=lambda crew: crew.id)
    refused: dict[str, Refusal] = {}
    candidates = _candidates(by_id, fleet, now, goals, refused)
    _drag_along(by_id, refused)
    candidates, without_time = within_hours([one for one in candidates if one.job.id not in refused], now, goals)
    refused.update(without_time)
    _drag_along(by_id, refused)
    candidates = [one for one in candidates if one.job.id not in refused]
    notes = _crew_notes(fleet)
    if not candidates:
        return Plan((), _unassigned(refused), TravelReport(travel.name), notes)
    basis = drafted(candidates, now, travel, goals)
    refused.update(basis.refused)
    _drag_along(by_id, refused)
    tasks = [task for task in basis.draft.tasks if task.job.id not in refused]
    settled = settling.settle(basis.draft, tasks, goals)
    _in_stages(basis.draft, tasks, settled, goals)
    return _told(basis, by_id, refused, settled, notes, goals)


def _candidates(
    jobs: Mapping[str, PlanJob], crews: Sequence[PlanCrew], now: datetime, goals: Goals, refused: dict[str, Refusal]
) -> list[Candidate]:
    """What somebody may do; the rest goes to ``refused``."""
    depths = chain_depths(jobs)
    tiers = _tiers(jobs, depths, goals)
    found = []
    for ident, job in jobs.items():
        depth = depths[ident]
        if depth is None:
            detail = "it waits for jobs which in the end wait for it"
            refused[ident] = Refusal("predecessor_unplanned", detail)
            continue
        able = who_may(job, crews, now, goals)
        if isinstance(able, Refusal):
            refused[ident] = able
        else:
            found.append(Candidate(job, able, tiers[ident], depth))
    return found


def _tiers(jobs: Mapping[str, PlanJob], depths: Mapping[str, int | None], goals: Goals) -> dict[str, Tier]:
    """The tier each job goes by. What must be done before a job, or together with it, is as urgent as that job."""
    tiers = {ident: goals.tiers[job.tier] for ident, job in jobs.items() if job.tier in goals.tiers}

    def lift(ident: str | None, tier: Tier) -> None:
        if ident in tiers and tier.rank < tiers[ident].rank:
            tiers[ident] = tier

    for job in jobs.values():
        if job.id in tiers and job.assists in tiers:
            lift(job.assists, tiers[job.id])
            lift(job.id, tiers[job.assists])
    for ident in sorted(tiers, key=lambda ident: -(depths[ident] or 0)):
        if depths[ident] is not None:
            lift(jobs[ident].follows, tiers[ident])
    return tiers


def _drag_along(jobs: Mapping[str, PlanJob], refused: dict[str, Refusal]) -> None:
    """Refuse what cannot be done without the jobs that are refused: what follows them and what they need together."""
    more = True
    while more:
        more = False
        for job in jobs.values():
            if job.id in refused:
                lead = jobs.get(job.assists or "")
                if lead is not None and lead.id not in refused:
                    detail = f"it needs a second crew, and there is none: {refused[job.id].detail}"
                    refused[lead.id] = Refusal("no_second_crew", detail)
                    more = True
            elif job.assists in refused and job.assists in jobs:
                detail = f"the job it assists has no crew: {refused[job.assists].detail}"
                refused[job.id] = Refusal("no_second_crew", detail)
                more = True
            elif job.follows in refused and job.follows in jobs:
                before = jobs[job.follows]
                detail = f"job {before.number or before.id} has to be done before, and is not planned"
                refused[job.id] = Refusal("predecessor_unplanned", detail)
                more = True


def _crew_notes(crews: Iterable[PlanCrew]) -> tuple[str, ...]:
    return tuple(
        f"crew {crew.code or crew.id}: has neither a usable base nor a position, and was left out"
        for crew in crews
        if not has_place(crew.lon, crew.lat)
    )


def _in_stages(draft: Draft, tasks: Sequence[Task], settled: Mapping[int, str], goals: Goals) -> None:
    """Fill the routes: first with what waits for nothing, then with what follows that, and so on."""
    placed = settled.keys() | {task.number for group in settling.groups_of(tasks).values() for task in group}
    active, kept = set(settled), set(settled)
    for depth in range(max((task.depth for task in tasks), default=0) + 1):
        for task in tasks:
            if task.depth == depth and task.number not in placed and settling.after(draft, task, tasks):
                active.add(task.number)
                kept |= {one.number for one in tasks if one.job.id == task.job.follows}
        fill(draft, active, kept, goals)


def _told(
    basis: Basis,
    jobs: Mapping[str, PlanJob],
    refused: dict[str, Refusal],
    settled: Mapping[int, str],
    notes: tuple[str, ...],
    goals: Goals,
) -> Plan:
    """The plan with its reasons."""
    draft = basis.draft
    groups = settling.groups_of(draft.tasks)
    routes = outcome.routes(basis, settled, groups.keys())
    planned = draft.planned()
    for task in draft.tasks:
        if task.number not in planned and task.job.id not in refused:
            in_group = task.job.id in groups
            refused[task.job.id] = outcome.refusal(basis, task, in_group=in_group)
    _drag_along(jobs, refused)
    return Plan(routes, _unassigned(refused), basis.matrix.report, (*notes, *basis.notes))


def _unassigned(refused: Mapping[str, Refusal]) -> tuple[Unassigned, ...]:
    return tuple(Unassigned(ident, *refused[ident]) for ident in sorted(refused))
