"""Settles what is not left to the search over the whole plan: soonest ranks, fixed beginnings, work for several crews.

What is settled stays with its team and begins when it was found to begin, whatever is planned later.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from fieldsvc.geo import placing
from fieldsvc.geo.filling import fill
from fieldsvc.geo.model import Goals
from fieldsvc.geo.timing import Draft, Task


def settle(draft: Draft, tasks: Sequence[Task], goals: Goals) -> dict[int, str]:
    """Place what does not wait for the solver, rank by rank; for it, overtime is allowed.

    First the soonest ranks, then what begins at a fixed time, then other work for several crews.

    :return: each settled task with the rule it was settled by: ``soonest_arrival``, ``most_promises`` or ``together``.
    """
    work = _Settling(draft, tasks, goals)
    for level in sorted({task.tier.rank for task in tasks if task.tier.soonest}):
        work.rank([task for task in tasks if task.tier.rank == level])
    work.place([task for task in tasks if fixed(task)])
    work.place([task for task in tasks if task.job.id in work.groups])
    _close(draft)
    return work.settled


def fixed(task: Task) -> bool:
    """Whether there is only one moment at which the task can begin."""
    return len(task.windows) == 1 and task.windows[0][0] == task.windows[0][1]


def groups_of(tasks: Sequence[Task]) -> dict[str, list[Task]]:
    """Job id → all that begin together with it and itself, for every task that assists or is assisted."""
    by_id = {task.job.id: task for task in tasks}
    groups: dict[str, list[Task]] = {}
    for task in tasks:
        lead = by_id.get(task.job.assists or "")
        if lead is not None and lead is not task:
            one, other = groups.get(lead.job.id, [lead]), groups.get(task.job.id, [task])
            both = one if one is other else one + other
            groups |= {member.job.id: both for member in both}
    return groups


def after(draft: Draft, task: Task, tasks: Sequence[Task]) -> bool:
    """Let the task begin when what it follows is done; False: that is not planned yet."""
    before = next((one for one in tasks if one.job.id == task.job.follows), None)
    if before is None:
        return True
    team = draft.planned().get(before.number)
    if team is None:
        return False
    begin = draft.begins(team)[before.number]
    placing.settle(draft, before, team, begin)
    draft.earliest[task.number] = max(draft.earliest[task.number], begin + before.service)
    return True


class _Settling:
    def __init__(self, draft: Draft, tasks: Sequence[Task], goals: Goals) -> None:
        self.draft, self.tasks, self.goals = draft, tasks, goals
        self.groups = groups_of(tasks)
        self.preceding = {task.job.follows for task in tasks}
        self.settled: dict[int, str] = {}

    def rank(self, tasks: Sequence[Task]) -> None:
        """One after the other. Where that breaks promises of a rank for which these count more, the solver tries, too,
        and what keeps more of them is taken. What cuts many off from supply is not its to put off."""
        draft = self.draft
        many = [task for task in tasks if self._bound(task) or task.job.customers > 1]
        single = [task for task in tasks if task not in many]
        self.place(many)
        if not single or not single[0].tier.in_time:
            return self.place(single)
        kept, settled = draft.state(), dict(self.settled)
        self.place(single)
        served = self._served(single)
        if served < (len(single), sum(task.due is not None for task in single)):
            first, first_settled = draft.state(), self.settled
            draft.restore(kept)
            self.settled = settled
            self._search(single)
            if self._served(single) <= served:
                draft.restore(first)
                self.settled = first_settled
        return None

    def place(self, tasks: Sequence[Task]) -> None:
        """Each where it begins first, whatever was settled before keeping its time."""
        draft = self.draft
        draft.ends = [team.last for team in draft.teams]
        for task in sorted(tasks, key=placing.rank):
            if task.number in self.settled or not after(draft, task, self.tasks):
                continue
            group = self.groups.get(task.job.id)
            if group is not None:
                if all(after(draft, one, self.tasks) for one in group) and placing.together(draft, group):
                    self.settled |= dict.fromkeys((one.number for one in group), "together")
            elif placing.soonest(draft, task, self._slack(task)):
                self.settled[task.number] = "soonest_arrival"

    def _search(self, tasks: Sequence[Task]) -> None:
        """Let the solver keep as many promises as it can, then settle what it has found."""
        draft = self.draft
        _close(draft)
        fill(draft, {*self.settled, *(task.number for task in tasks)}, set(self.settled), self.goals)
        planned = draft.planned()
        for task in tasks:
            team = planned.get(task.number)
            if team is not None:
                placing.settle(draft, task, team, draft.begins(team)[task.number], self._slack(task))
                self.settled[task.number] = "most_promises"

    def _served(self, tasks: Collection[Task]) -> tuple[int, int]:
        """How many are planned, and how many of them as promised."""
        planned = self.draft.planned()
        begins = [
            (task.due, self.draft.begins(planned[task.number])[task.number]) for task in tasks if task.number in planned
        ]
        return len(begins), sum(due is not None and begin <= due for due, begin in begins)

    def _bound(self, task: Task) -> bool:
        return task.job.id in self.groups or task.job.id in self.preceding or bool(task.depth) or fixed(task)

    def _slack(self, task: Task) -> int:
        return 0 if task.job.id in self.preceding or fixed(task) else self.goals.soonest_slack_min * 60


def _close(draft: Draft) -> None:
    """From here on shifts end when they end, but for overtime that is needed already."""
    for team in draft.teams:
        number = team.number
        needed = draft.finish(number, draft.steps[number]) if draft.planned_by(number) else 0
        draft.ends[number] = max(team.end, needed)
