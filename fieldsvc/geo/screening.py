"""Which crews may do a job at all, and if none: why not. One job at a time, so that no job spoils another's plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from fieldsvc.geo.crs import lonlat_fault
from fieldsvc.geo.model import Goals, PlanCrew, PlanJob, Window


class Refusal(NamedTuple):
    """Why a job cannot be planned: a reason of :data:`fieldsvc.geo.model.REASONS` and a sentence."""

    reason: str
    detail: str


def has_place(lon: float | None, lat: float | None) -> bool:
    """Whether this is a place on earth, and not the 0/0 of a form that was left empty."""
    return lon is not None and lat is not None and not lonlat_fault(lon, lat)


def begins(crew: PlanCrew, now: datetime) -> datetime:
    """From when on the crew can be planned."""
    return max(now, crew.shift.start, crew.free_at or now)


def who_may(job: PlanJob, crews: Sequence[PlanCrew], now: datetime, goals: Goals) -> list[PlanCrew] | Refusal:
    """The crews that may do the job by every hard rule that needs no travel time, or why there are none."""
    fault = _fault(job, now, goals)
    if fault:
        return fault
    reaching = _reaching(job, crews, goals)
    if isinstance(reaching, Refusal):
        return reaching
    based = [crew for crew in reaching if has_place(crew.lon, crew.lat)]
    if not based:
        names = _names(reaching)
        return Refusal("no_crew_base", f"{names} could come, but without a base or position nobody knows from where")
    skilled = [crew for crew in based if "skill" in goals.off or job.skills <= crew.skills]
    if not skilled:
        lacking = ", ".join(sorted(_lacking(job.skills, [crew.skills for crew in based])))
        return Refusal("no_skill", f"{_crews(based)} could come, none with {lacking}")
    equipped = [crew for crew in skilled if "equipment" in goals.off or job.equipment <= crew.equipment]
    if not equipped:
        lacking = ", ".join(sorted(_lacking(job.equipment, [crew.equipment for crew in skilled])))
        return Refusal("no_equipment", f"{_crews(skilled)} with the skills, none carries {lacking}")
    able = [crew for crew in equipped if _carries(crew, job, goals)]
    if not able:
        most = max(crew.capacity or 0 for crew in equipped)
        return Refusal("no_capacity", f"it needs {job.load} units of load, the largest vehicle holds {most}")
    return _on_shift(job, able, now, goals)


def _fault(job: PlanJob, now: datetime, goals: Goals) -> Refusal | None:
    """What is wrong with the job itself."""
    if not has_place(job.lon, job.lat):
        where = "none" if job.lon is None or job.lat is None else f"{job.lon:g}, {job.lat:g}"
        return Refusal("no_place", f"the job has no usable coordinates: {where}")
    if job.tier not in goals.tiers:
        return Refusal("unknown_tier", f"no rule ranks the tier {job.tier}")
    if job.windows and "window" not in goals.off:
        sound = [window for window in job.windows if window.start <= window.end]
        if not sound:
            first = job.windows[0]
            return Refusal(
                "window_impossible", f"its time window ends {_time(first.end)}, before it begins {_time(first.start)}"
            )
        last = max(window.end for window in sound)
        if last < now:
            return Refusal("window_missed", f"its time window ended {_time(last)}, before the plan begins {_time(now)}")
    return None


def _reaching(job: PlanJob, crews: Sequence[PlanCrew], goals: Goals) -> list[PlanCrew] | Refusal:
    if job.pinned and job.crew_id is not None:
        chosen = [crew for crew in crews if crew.id == job.crew_id]
        return chosen or Refusal("pinned_crew_away", f"it is pinned to the crew {job.crew_id}, which is not on shift")
    if "territory" in goals.off:
        reaching = list(crews)
    elif job.territory_id is None:
        return Refusal("no_territory", "the job lies in no territory")
    else:
        reaching = [crew for crew in crews if job.territory_id in crew.home or job.territory_id in crew.reach]
    if reaching:
        return reaching
    return Refusal("no_crew_in_territory", f"none of {_crews(crews)} on shift serves territory {job.territory_id}")


def _carries(crew: PlanCrew, job: PlanJob, goals: Goals) -> bool:
    return crew.capacity is None or "capacity" in goals.off or job.load <= crew.capacity


def _on_shift(job: PlanJob, crews: list[PlanCrew], now: datetime, goals: Goals) -> list[PlanCrew] | Refusal:
    """Those of the crews whose shift has time for the job inside of its windows."""
    over = timedelta(minutes=goals.overtime_min)
    working = [crew for crew in crews if begins(crew, now) < crew.shift.end + over]
    if not working:
        return Refusal("no_shift_time", f"{_crews(crews)} could come, but no shift has time left")
    if not job.windows or "window" in goals.off:
        return working
    fitting = [
        crew
        for crew in working
        if any(_meets(window, begins(crew, now), crew.shift.end + over) for window in job.windows)
    ]
    if fitting:
        return fitting
    first = min(job.windows)
    ends = max(crew.shift.end for crew in working)
    return Refusal(
        "window_impossible",
        f"its time window {_time(first.start)} to {_time(first.end)} lies outside of every shift; the last of "
        f"{_crews(working)} ends {_time(ends)}",
    )


def _meets(window: Window, start: datetime, end: datetime) -> bool:
    return window.start <= window.end and window.end >= start and window.start <= end


def _lacking(needed: frozenset[str], have: Sequence[frozenset[str]]) -> frozenset[str]:
    """What nobody has; where every single thing is there, all that no one has together."""
    everywhere = frozenset[str]().union(*have)
    return needed - everywhere or needed


def _crews(crews: Sequence[PlanCrew]) -> str:
    return "one crew" if len(crews) == 1 else f"{len(crews)} crews"


def _names(crews: Sequence[PlanCrew]) -> str:
    names = [crew.code or crew.id for crew in crews]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M UTC")


def chain_depths(jobs: Mapping[str, PlanJob]) -> dict[str, int | None]:
    """How many jobs of the plan have to be done before each; None: they follow each other in a circle."""
    depths: dict[str, int | None] = {}
    for ident in jobs:
        path: list[str] = []
        at: str | None = ident
        while at is not None and at in jobs and at not in depths and at not in path:
            path.append(at)
            at = jobs[at].follows
        if at in path:
            base = None
        elif at is None or at not in jobs:
            base = -1
        else:
            base = depths[at]
        for member in reversed(path):
            base = None if base is None else base + 1
            depths[member] = base
    return depths
