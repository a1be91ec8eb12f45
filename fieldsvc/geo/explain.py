"""Why this crew and not that one: for every crew the first hard rule that says no, else what the job would cost it.

A crew is judged on what it holds now: the job is put where it fits best among the jobs of its route, in their order. So
a verdict answers for this job alone; a plan weighs all jobs together and may give it to one that is not the cheapest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from types import MappingProxyType
from typing import Any, NamedTuple

from fieldsvc.geo import sentences
from fieldsvc.geo.crs import lonlat_fault
from fieldsvc.geo.model import Goals, PlanCrew, PlanJob, Tier, TravelReport
from fieldsvc.geo.routes import END, START, Fault, Walk, Ways, least_time, walk
from fieldsvc.geo.travel import Place, TravelTimes, distance_m

MOST_CREWS = 200
"""How many crews are looked at closely, the nearest first."""
MOST_PLACES = 250
"""How many places are asked for in one matrix."""

HARD_RULES = (
    "pinned_elsewhere",
    "not_active",
    "off_shift",
    "no_base",
    "skill",
    "equipment",
    "territory",
    "second_crew",
    "capacity",
    "unreachable",
    "follows",
    "outranked",
    "window",
    "others_window",
    "break",
    "shift_end",
)
"""Every hard rule that can say no to a crew, in the order they are asked; the list only grows."""
COSTS = ("has_it", "could", "later_begin", "more_late", "more_driving", "helping_out", "one_more_crew", "better_now")
"""Every rule of a crew that could do the job; the list only grows."""

CITED: Mapping[str, str] = MappingProxyType(
    {
        "skill": "hard.skill",
        "equipment": "hard.equipment",
        "territory": "hard.territory",
        "capacity": "hard.capacity",
        "window": "hard.window",
        "others_window": "hard.window",
        "break": "hard.break",
        "shift_end": "goal.overtime_min",
        "outranked": "goal.soonest_slack_min",
        "more_late": "goal.lateness_steps_min",
        "helping_out": "goal.help_cost_min",
        "one_more_crew": "goal.crew_cost_min",
    }
)
"""The entry of the rule pack ``dispatch`` that stands behind a rule; the others follow from the facts alone."""


@dataclass(frozen=True)
class Day:
    """One shift of a crew and what it holds in it, in its order; also the job in question, if it has it."""

    crew: PlanCrew
    held: tuple[PlanJob, ...] = ()

    def holds(self, job_id: str) -> bool:
        return any(job.id == job_id for job in self.held)


@dataclass(frozen=True)
class Candidate:
    """A crew to be judged; without ``days`` it is off shift.

    :param away_m: how far the job's territory is from its own; ``help_out_m``: how far it may help out. None: unknown.
    """

    crew_id: str
    code: str
    active: bool = True
    days: tuple[Day, ...] = ()
    away_m: float | None = None
    help_out_m: float | None = None


@dataclass(frozen=True)
class Verdict:
    """What is to be said of one crew: ``rule`` is one of :data:`HARD_RULES` or :data:`COSTS`, ``words`` a sentence.

    ``cost``: by what crews that could do it are put in order, the best first.
    """

    crew_id: str
    code: str
    possible: bool
    rule: str
    words: str
    numbers: Mapping[str, Any]
    cost: tuple[float, ...] = ()


@dataclass(frozen=True)
class Explanation:
    """Verdicts: of the crew that has the job, of those that could, the best first, and of those that cannot, by code.

    ``cut``: how many crews were left out because they are farther away than :data:`MOST_CREWS` others.
    """

    holder: Verdict | None
    possible: tuple[Verdict, ...]
    impossible: tuple[Verdict, ...]
    cut: int = 0
    reports: tuple[TravelReport, ...] = ()

    @property
    def counts(self) -> dict[str, int]:
        """Hard rule → how many crews it rules out, in the order of :data:`HARD_RULES`."""
        found = Counter(verdict.rule for verdict in self.impossible)
        return {rule: found[rule] for rule in HARD_RULES if found[rule]}

    @property
    def every(self) -> tuple[Verdict, ...]:
        """All verdicts, the holder's first."""
        return (*((self.holder,) if self.holder else ()), *self.possible, *self.impossible)

    def of(self, crew_id: str) -> Verdict | None:
        """The verdict of one crew."""
        return next((verdict for verdict in self.every if verdict.crew_id == crew_id), None)


@dataclass(frozen=True)
class Question:
    """One job and what it is judged by. ``zone``: in which the sentences give times."""

    job: PlanJob
    goals: Goals
    now: datetime
    zone: tzinfo = UTC
    off_shift_until: datetime | None = None

    @property
    def tier(self) -> Tier:
        return self.goals.tiers.get(self.job.tier) or max(self.goals.tiers.values(), key=lambda tier: tier.rank)


class Insertion(NamedTuple):
    """The job put into a route at ``place`` (from 0), beside the route without it."""

    day: Day
    place: int
    before: Walk
    after: Walk

    @property
    def added_min(self) -> float:
        return (self.after.seconds - self.before.seconds) / 60

    @property
    def added_m(self) -> float:
        return self.after.metres - self.before.metres


@dataclass(frozen=True)
class _Judged:
    """A verdict in the making: the rule that says no, or what the job costs; where it fits best, or least badly."""

    candidate: Candidate
    rule: str | None
    said: sentences.Said
    insertion: Insertion | None = None
    cost: tuple[float, ...] = ()


def fault_of(job: PlanJob) -> str | None:
    """Why no crew at all can have ``job``: ``no_place``, ``no_territory``, ``window_impossible``; else None."""
    if job.lon is None or job.lat is None or lonlat_fault(job.lon, job.lat) or (job.lon, job.lat) == (0, 0):
        return "no_place"
    if job.territory_id is None and not job.pinned:
        return "no_territory"
    if job.windows and all(window.end < window.start for window in job.windows):
        return "window_impossible"
    return None


def explain(question: Question, candidates: Sequence[Candidate], travel: TravelTimes) -> Explanation:
    """Judge every candidate for the job. Its place must be one (:func:`fault_of`).

    A candidate that holds the job is the holder; it is judged at the place where it holds it.
    """
    judged: list[_Judged] = []
    closer: list[Candidate] = []
    for candidate in sorted(candidates, key=lambda one: one.crew_id):
        refused = _screened(question, candidate)
        if refused:
            judged.append(refused)
        else:
            closer.append(candidate)
    near = _nearest(question.job, closer)
    found, reports = _placed(question, near, travel)
    judged += found
    holder = next((one for one in judged if _holds(one.candidate, question.job.id)), None)
    verdicts = [_verdict(question, one, holder) for one in judged]
    others = [verdict for verdict in verdicts if holder is None or verdict.crew_id != holder.candidate.crew_id]
    return Explanation(
        holder=next((v for v in verdicts if holder is not None and v.crew_id == holder.candidate.crew_id), None),
        possible=tuple(sorted((v for v in others if v.possible), key=lambda v: (v.cost, v.crew_id))),
        impossible=tuple(sorted((v for v in others if not v.possible), key=lambda v: (v.code, v.crew_id))),
        cut=len(closer) - len(near),
        reports=tuple(reports),
    )


def open_to(question: Question, candidates: Sequence[Candidate]) -> set[str]:
    """The ids of those that nothing rules out before ways are measured; what they hold need not be known yet."""
    return {candidate.crew_id for candidate in candidates if _screened(question, candidate) is None}


def _holds(candidate: Candidate, job_id: str) -> bool:
    return any(day.holds(job_id) for day in candidate.days)


def _nearest(job: PlanJob, candidates: Sequence[Candidate]) -> list[Candidate]:
    """At most :data:`MOST_CREWS`; whoever holds the job is among them."""

    def far(candidate: Candidate) -> tuple[bool, float, str]:
        assert job.lon is not None and job.lat is not None
        away = min(
            distance_m(day.crew.lon, day.crew.lat, job.lon, job.lat)
            for day in candidate.days
            if day.crew.lon is not None and day.crew.lat is not None
        )
        return not _holds(candidate, job.id), away, candidate.crew_id

    return sorted(candidates, key=far)[:MOST_CREWS] if len(candidates) > MOST_CREWS else list(candidates)


def _screened(question: Question, candidate: Candidate) -> _Judged | None:
    """The first rule that says no before any way has been measured."""
    job = question.job
    if job.pinned and job.crew_id not in (None, candidate.crew_id):
        return _Judged(candidate, "pinned_elsewhere", sentences.pinned_elsewhere(candidate.code))
    if not candidate.active:
        return _Judged(candidate, "not_active", sentences.not_active(candidate.code))
    if not candidate.days:
        until = question.off_shift_until
        return _Judged(candidate, "off_shift", sentences.off_shift(candidate.code, until, question.now, question.zone))
    refused = [next(refusals(question, candidate, day), None) for day in candidate.days]
    if None in refused:
        return None
    rule, said = max((one for one in refused if one), key=lambda one: HARD_RULES.index(one[0]))
    return _Judged(candidate, rule, said)


def refusals(question: Question, candidate: Candidate, day: Day) -> Iterator[tuple[str, sentences.Said]]:
    """Every hard rule that says no to a crew's day before any way has been measured, in the order of
    :data:`HARD_RULES`."""
    job, crew, code, off = question.job, day.crew, candidate.code, question.goals.off
    held = [other for other in day.held if other.id != job.id]
    load = sum(other.load for other in held)
    partner = next((one for one in held if one.id == job.assists or one.assists == job.id), None)
    if crew.lon is None or crew.lat is None:
        yield "no_base", sentences.no_base(code)
    if "skill" not in off and not job.skills <= crew.skills:
        yield "skill", sentences.lacks(code, "skills", job.skills, crew.skills)
    if "equipment" not in off and not job.equipment <= crew.equipment:
        yield "equipment", sentences.lacks(code, "equipment", job.equipment, crew.equipment)
    if "territory" not in off and not _may_go(job, crew):
        yield "territory", sentences.territory(code, candidate.away_m, candidate.help_out_m)
    if partner is not None:
        yield "second_crew", sentences.second_crew(code, partner.number)
    room = crew.capacity if "capacity" not in off and job.load else None
    if room is not None and load + job.load > room:
        yield "capacity", sentences.capacity(code, room, load, job.load)


def _may_go(job: PlanJob, crew: PlanCrew) -> bool:
    return job.pinned or job.territory_id in crew.home or job.territory_id in crew.reach


def _placed(
    question: Question, candidates: Sequence[Candidate], travel: TravelTimes
) -> tuple[list[_Judged], list[TravelReport]]:
    """Where the job fits best at each candidate; crews share a matrix, so that a routing server is asked seldom."""
    found: list[_Judged] = []
    reports: list[TravelReport] = []
    for group in _groups(candidates):
        places: dict[Place, int] = {}
        rows = [[matrix_rows(question.job, day, places) for day in candidate.days] for candidate in group]
        matrix = travel.matrix(list(places))
        reports.append(matrix.report)
        for candidate, of_days in zip(group, rows, strict=True):
            ways = [Ways(matrix, known) for known in of_days]
            of_day = list(zip(candidate.days, ways, strict=True))
            having = [(day, way) for day, way in of_day if day.holds(question.job.id)]
            found.append(_better([_best(question, candidate, day, way) for day, way in having or of_day]))
    return found, reports


def _groups(candidates: Sequence[Candidate]) -> list[list[Candidate]]:
    groups: list[list[Candidate]] = []
    places = MOST_PLACES
    for candidate in candidates:
        more = sum(len(day.held) + 2 for day in candidate.days)
        if places + more > MOST_PLACES:
            groups.append([])
            places = 1
        groups[-1].append(candidate)
        places += more
    return groups


def matrix_rows(job: PlanJob, day: Day, places: dict[Place, int]) -> dict[str, int]:
    """The rows of a day's places in the matrix to be asked for; new places are added to ``places``."""
    crew = day.crew
    assert crew.lon is not None and crew.lat is not None
    wanted = {START: Place(crew.lon, crew.lat)}
    if crew.end_lon is not None and crew.end_lat is not None:
        wanted[END] = Place(crew.end_lon, crew.end_lat)
    for one in (*day.held, job):
        if one.lon is not None and one.lat is not None:
            wanted[one.id] = Place(one.lon, one.lat, one.site_class)
    return {name: places.setdefault(place, len(places)) for name, place in wanted.items()}


def _best(question: Question, candidate: Candidate, day: Day, ways: Ways) -> _Judged:
    """The best place for the job in one day's route, or the fault that is nearest to being none."""
    job, goals, now = question.job, question.goals, question.now
    held = [other for other in day.held if other.id != job.id and other.id in ways.rows]
    before = walk(day.crew, held, ways, goals, now)
    best: tuple[tuple[float, ...], Insertion] | None = None
    least: tuple[float, Fault, Insertion] | None = None
    for added, place in _places(question, day, held, ways):
        over = _over(question, day, held, before, added)
        if over > 0.0 and (best is not None or (least is not None and over >= least[0])):
            break  # whatever follows is over by more
        after = walk(day.crew, [*held[:place], job, *held[place:]], ways, goals, now)
        insertion = Insertion(day, place, before, after)
        fault = max(new_faults(question, insertion), key=lambda fault: fault.excess_min, default=None)
        if fault is not None:
            if least is None or fault.excess_min < least[0]:
                least = fault.excess_min, fault, insertion
            continue
        cost = _cost(question, insertion)
        if best is None or cost < best[0]:
            best = cost, insertion
        if not question.tier.soonest and cost[0] == 0:
            break  # the places come in the order of the driving they add: no promise broken, none cheaper follows
    if best is not None:
        return _Judged(candidate, None, sentences.Said("", {}), best[1], best[0])
    assert least is not None
    rule, said = sentences.fault(candidate.code, job, least[1], now, question.zone)
    return _Judged(candidate, rule, said, least[2] if least[1].rule != "unreachable" else None)


def _over(question: Question, day: Day, held: Sequence[PlanJob], before: Walk, added: float) -> float:
    """By how many minutes the shift would at least be too short with ``added`` seconds of driving.

    0: it may be long enough, or is no shorter than without the job.
    """
    goals, now = question.goals, question.now
    ends = least_time(day.crew, [*held, question.job], before.seconds + added, goals, now)
    limit = day.crew.shift.end + timedelta(minutes=goals.overtime_min)
    return (ends - limit) / timedelta(minutes=1) if ends > max(limit, before.end_at) else 0.0


def _places(question: Question, day: Day, held: Sequence[PlanJob], ways: Ways) -> list[tuple[float, int]]:
    """Where the job may go, with the seconds of driving it adds there, the least first; where it is held, if it is."""
    job = question.job
    ids = [other.id for other in day.held if other.id in ways.rows]
    if job.id in ids:
        return [(0.0, ids.index(job.id))]
    stations = [START, *(other.id for other in held)]
    home = END if question.goals.return_to_base and END in ways.rows else None

    def added(place: int) -> tuple[float, int]:
        here = stations[place]
        there = stations[place + 1] if place + 1 < len(stations) else home
        to_job = _seconds(ways, here, job.id)
        return to_job + (_seconds(ways, job.id, there) - _seconds(ways, here, there) if there else 0.0), place

    return sorted(added(place) for place in range(len(stations)))


def _seconds(ways: Ways, start: str, end: str) -> float:
    found = ways.seconds(start, end)
    return 1e9 if found is None else float(found)


def new_faults(question: Question, insertion: Insertion) -> list[Fault]:
    """What the job would do to the route, leaving out what was wrong without it."""
    job, before, after = question.job, insertion.before, insertion.after
    known = {_befalls(fault): fault.excess_min for fault in before.faults}
    found = [
        fault
        for fault in after.faults
        if _befalls(fault)[1] == job.id or fault.excess_min > known.get(_befalls(fault), -1.0)
    ]
    slack = timedelta(minutes=question.goals.soonest_slack_min)
    begun = {visit.job.id: visit.begin_at for visit in before.visits}
    has_it = insertion.day.holds(job.id)
    for visit in after.visits:
        tier = question.goals.tiers.get(visit.job.tier)
        if visit.job.id == job.id or tier is None or not tier.soonest:
            continue
        # the order within a rank has been settled with the crew that has it; a promise may have turned it round
        if tier.rank < question.tier.rank or (not has_it and _first(question, visit.job)):
            limit = begun[visit.job.id] + slack
            found += [Fault("outranked", visit.job, visit.begin_at, limit)] if visit.begin_at > limit else []
    return found


def _first(question: Question, other: PlanJob) -> bool:
    """Whether a plan serves ``other`` before the job in question: tier, customers without supply, priority, promise."""

    def order(job: PlanJob, tier: Tier) -> tuple[int, int, int, bool, datetime, str]:
        return tier.rank, -job.customers, job.priority, job.due is None, job.due or question.now, job.id

    return order(other, question.goals.tiers[other.tier]) < order(question.job, question.tier)


def _befalls(fault: Fault) -> tuple[str, str]:
    return fault.rule, fault.job.id if fault.job else ""


def _cost(question: Question, insertion: Insertion) -> tuple[float, ...]:
    """What crews are compared by: promises, then driving; in a soonest tier the begin, after promises if they count."""
    visit = insertion.after.visit(question.job.id)
    goals = question.goals
    late = max([visit.late_min, *(more.late_min for more in later(question.job.id, insertion))])
    steps = [step for step in sorted(goals.lateness_steps_min) if step >= late]
    kept = float(steps[0]) if steps else late
    minutes = cost_min(question.job, goals, insertion)
    begin = (visit.begin_at - question.now) / timedelta(minutes=1)
    if question.tier.soonest:
        return kept if question.tier.in_time else 0.0, begin, minutes
    return kept, minutes, begin


def cost_min(job: PlanJob, goals: Goals, insertion: Insertion) -> float:
    """Minutes of added driving, with what it costs to help out and to send out one more crew."""
    helping = helps_out(job, insertion.day.crew)
    first = not insertion.before.visits and insertion.day.crew.free_at is None
    return insertion.added_min + goals.help_cost_min * helping + goals.crew_cost_min * first


def helps_out(job: PlanJob, crew: PlanCrew) -> bool:
    return job.territory_id not in crew.home and not job.pinned


def later(job_id: str, insertion: Insertion) -> list[sentences.Later]:
    """The other jobs of the route that would begin later, and late, because of the job."""
    was = {visit.job.id: visit for visit in insertion.before.visits}
    found = []
    for visit in insertion.after.visits:
        before = was.get(visit.job.id)
        if before is not None and visit.job.id != job_id and visit.late_min > before.late_min:
            more = (visit.begin_at - before.begin_at) / timedelta(minutes=1)
            found.append(sentences.Later(visit.job.number, visit.begin_at, more, visit.late_min))
    return found


def _better(tried: Sequence[_Judged]) -> _Judged:
    """Of a crew's days the one that costs least, else the one that came furthest."""
    possible = [one for one in tried if one.rule is None]
    if possible:
        return min(possible, key=lambda one: one.cost)
    return max(tried, key=lambda one: HARD_RULES.index(one.rule or ""))


def _verdict(question: Question, judged: _Judged, holder: _Judged | None) -> Verdict:
    candidate = judged.candidate
    has = holder if holder is not judged else None
    if judged.insertion is None or judged.rule is not None:
        assert judged.rule is not None
        said = judged.said
        if judged.insertion is not None:
            theirs = sentences.Said(has.candidate.code, _driving(has.insertion)) if has and has.insertion else None
            said = sentences.beside_driving(said, _driving(judged.insertion), theirs)
        return Verdict(candidate.crew_id, candidate.code, False, judged.rule, said.words, said.numbers)
    rule, numbers = _compared(question, judged, holder), _numbers(question, judged.insertion)
    against = None
    if has is not None and has.insertion is not None and has.rule is None:
        against = sentences.Said(has.candidate.code, _numbers(question, has.insertion))
    words = sentences.possible(rule, sentences.Said(candidate.code, numbers), against, question.now, question.zone)
    return Verdict(candidate.crew_id, candidate.code, True, rule, words, numbers, judged.cost)


def _compared(question: Question, judged: _Judged, holder: _Judged | None) -> str:
    """What decides between a crew that could do the job and the one that has it."""
    if holder is judged:
        return "has_it"
    if holder is None or holder.rule is not None:
        return "could"
    if judged.cost < holder.cost:
        return "better_now"
    if judged.cost[0] > holder.cost[0]:
        return "more_late"
    worse = judged.cost[1] > holder.cost[1]
    by_begin = worse if question.tier.soonest else not worse
    return "later_begin" if by_begin else _dearer(question.job, judged, holder)


def _dearer(job: PlanJob, judged: _Judged, holder: _Judged) -> str:
    mine, theirs = judged.insertion, holder.insertion
    assert mine is not None and theirs is not None
    if mine.added_min >= theirs.added_min:
        return "more_driving"
    return "helping_out" if helps_out(job, mine.day.crew) > helps_out(job, theirs.day.crew) else "one_more_crew"


def _driving(insertion: Insertion) -> dict[str, float]:
    return {"added_min": round(insertion.added_min, 1), "added_km": round(insertion.added_m / 1000, 1)}


def _numbers(question: Question, insertion: Insertion) -> dict[str, Any]:
    """The numbers behind a verdict; times are datetimes."""
    job, visit = question.job, insertion.after.visit(question.job.id)
    delayed = later(job.id, insertion)
    return {
        "begin_at": visit.begin_at,
        "arrive_at": visit.arrive_at,
        "stop": insertion.place + 1,
        "stops": len(insertion.after.visits),
        **_driving(insertion),
        "cost_min": round(cost_min(job, question.goals, insertion), 1),
        "late_min": round(visit.late_min, 1),
        "due": job.due,
        "overtime_min": round(insertion.after.overtime_min, 1),
        "end_at": insertion.after.end_at,
        "helps_out": helps_out(job, insertion.day.crew),
        "makes_late": [more.row() for more in delayed],
    }
