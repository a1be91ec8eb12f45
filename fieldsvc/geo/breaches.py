"""What breaks if this crew does this job at this time: every rule that says no, and what it costs, as sentences.

The rules are those of :mod:`fieldsvc.geo.explain`, which stops at the first that says no and looks for the best place;
here a dispatcher has said the crew and the time, and wants to hear all of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from fieldsvc.geo import sentences
from fieldsvc.geo.explain import (
    Candidate,
    Day,
    Insertion,
    Question,
    Verdict,
    explain,
    fault_of,
    helps_out,
    later,
    matrix_rows,
    new_faults,
    refusals,
)
from fieldsvc.geo.model import PlanJob, Window
from fieldsvc.geo.routes import Ways, walk
from fieldsvc.geo.travel import Place, TravelTimes

_LONG = timedelta(days=30)
HARD, SOFT = "hard", "soft"
"""A plan never does what is hard; what is soft has its price."""


@dataclass(frozen=True)
class Breach:
    """One thing that does not come out. ``code`` is stable: one of ``explain.HARD_RULES``, :data:`SOFT_CODES`, or
    (hard) ``pinned``, ``on_its_way`` and ``state``; ``severity``: see :data:`HARD`."""

    code: str
    severity: str
    sentence: str


SOFT_CODES = "promise others_promise helping_out overtime not_there_yet overlap past no_place".split()
"""What can be done, at a price."""


def at_its_best(question: Question, candidate: Candidate, travel: TravelTimes) -> tuple[list[Breach], datetime | None]:
    """What breaks wherever the job is put, and when it would begin where that is best; ``None``: it cannot be put."""
    refused = _refused(question, candidate)
    if candidate.active and all(day.crew.shift.end <= question.now for day in candidate.days):
        until = question.off_shift_until
        words = sentences.off_shift(candidate.code, until, question.now, question.zone).words
        refused.append(Breach("off_shift", HARD, words))
    if any(breach.code not in _OVERRULED for breach in refused) or fault_of(question.job) == "no_place":
        return refused, None
    asked = replace(question, job=_overruled(question.job, candidate)) if refused else question
    found = explain(asked, [candidate], travel).of(candidate.crew_id)
    assert found is not None
    if not found.possible:
        return [*refused, Breach(found.rule, HARD, found.words)], None
    return [*refused, *_of_verdict(asked, found)], found.numbers["begin_at"]


_OVERRULED = frozenset({"skill", "equipment", "territory", "capacity"})
"""Rules that a dispatcher may break and that leave open when the crew could be there."""


def _overruled(job: PlanJob, candidate: Candidate) -> PlanJob:
    """The job as if the crew could do it."""
    return replace(job, skills=frozenset(), equipment=frozenset(), load=0, pinned=True, crew_id=candidate.crew_id)


def at_a_time(
    question: Question, candidate: Candidate, travel: TravelTimes, at: datetime, starts: Mapping[str, datetime]
) -> list[Breach]:
    """What breaks if the job is to begin at ``at``, between what the crew has planned before and after.

    :param starts: when each job that the crew holds is planned to begin.
    """
    day = next((one for one in candidate.days if one.crew.shift.start <= at < one.crew.shift.end), None)
    found = _refused(question, candidate if day is None else replace(candidate, days=(day,)))
    told = (question.now, question.zone)
    if day is None and candidate.active:
        found.append(Breach("off_shift", HARD, sentences.no_shift_at(candidate.code, at, *told)))
    if at < question.now - timedelta(minutes=1):
        found.append(Breach("past", SOFT, sentences.past(at, *told)))
    windows = [] if "window" in question.goals.off else question.job.windows
    if windows and not any(window.start <= at <= window.end for window in windows):
        nearest = min(windows, key=lambda window: max(window.start - at, at - window.end))
        found.append(Breach("window", HARD, sentences.outside(at, nearest, *told)))
    if day is not None and day.crew.lon is not None and fault_of(question.job) != "no_place":
        return [*found, *_on_the_way(question, candidate, day, travel, at, starts)]
    return [*found, *_promised(question, at)]


def _refused(question: Question, candidate: Candidate) -> list[Breach]:
    """What says no before ways are measured: on the day that comes furthest."""
    if not candidate.active:
        return [Breach("not_active", HARD, sentences.not_active(candidate.code).words)]
    if not candidate.days:
        return []
    by_day = [list(refusals(question, candidate, day)) for day in candidate.days]
    told = min(by_day, key=len)
    if question.job.territory_id is None:
        told = [
            (rule, sentences.Said(sentences.no_territory(), {}) if rule == "territory" else said) for rule, said in told
        ]
    return [Breach(rule, HARD, said.words) for rule, said in told]


def _promised(question: Question, begin: datetime) -> Iterator[Breach]:
    """The job's own promise, unless it has run out already: then this breaks nothing."""
    due = question.job.due
    if due is not None and question.now <= due < begin:
        yield Breach("promise", SOFT, sentences.late(begin, due, question.now, question.zone))


def _of_verdict(question: Question, verdict: Verdict) -> Iterator[Breach]:
    """What a crew that could do the job would pay for it."""
    numbers = verdict.numbers
    yield from _promised(question, numbers["begin_at"])
    for more in numbers["makes_late"]:
        if more["late_min"] <= more["later_min"]:
            yield Breach("others_promise", SOFT, sentences.makes_late(more["job_number"], more["late_min"]))
    if numbers["helps_out"]:
        yield Breach("helping_out", SOFT, sentences.beyond_its_own(verdict.code))
    if numbers["overtime_min"]:
        yield Breach("overtime", SOFT, sentences.overtime(verdict.code, numbers["overtime_min"]))


def _on_the_way(
    question: Question,
    candidate: Candidate,
    day: Day,
    travel: TravelTimes,
    at: datetime,
    starts: Mapping[str, datetime],
) -> Iterator[Breach]:
    """What the job does to the crew's route, and the route to the job."""
    job = replace(question.job, starts_at=at, windows=())
    insertion = _put(question, day, job, travel, at, starts)
    told, code = (question.now, question.zone), candidate.code
    for fault in new_faults(replace(question, job=job), insertion):
        if fault.rule == "window" and (fault.job is None or fault.job.id == job.id):
            if fault.would is not None and at >= question.now - timedelta(minutes=1):
                yield Breach("not_there_yet", SOFT, sentences.not_there_yet(code, fault.would, at, *told))
            continue
        rule, said = sentences.fault(code, job, fault, *told)
        yield Breach(rule, HARD, said.words)
    visit = insertion.after.visit(job.id)
    yield from _promised(question, visit.begin_at)
    for more in later(job.id, insertion):
        if more.late_min <= more.later_min:  # one that is late anyway breaks no promise by being later
            yield Breach("others_promise", SOFT, sentences.makes_late(more.number, more.late_min))
    if helps_out(job, day.crew) and job.territory_id in day.crew.reach:
        yield Breach("helping_out", SOFT, sentences.beyond_its_own(code))
    if insertion.after.overtime_min > insertion.before.overtime_min and not any(
        fault.rule == "shift_end" for fault in insertion.after.faults
    ):
        yield Breach("overtime", SOFT, sentences.overtime(code, insertion.after.overtime_min))


def _put(
    question: Question, day: Day, job: PlanJob, travel: TravelTimes, at: datetime, starts: Mapping[str, datetime]
) -> Insertion:
    """The job in the route of the day, before everything that is planned to begin later."""
    places: dict[Place, int] = {}
    known = matrix_rows(job, day, places)
    ways = Ways(travel.matrix(list(places)), known)
    held = [_as_planned(other, starts.get(other.id)) for other in day.held if other.id != job.id and other.id in known]
    place = next((number for number, other in enumerate(held) if starts.get(other.id, at) > at), len(held))
    before = walk(day.crew, held, ways, question.goals, question.now)
    after = walk(day.crew, [*held[:place], job, *held[place:]], ways, question.goals, question.now)
    return Insertion(day, place, before, after)


def _as_planned(job: PlanJob, start: datetime | None) -> PlanJob:
    """A job that the crew holds, not to begin before it is planned to: else a gap would look like work done early."""
    if start is None or job.starts_at is not None:
        return job
    open_ones = job.windows or (Window(start, start + _LONG),)
    windows = tuple(Window(max(one.start, start), one.end) for one in open_ones if one.end >= start)
    return replace(job, windows=windows or job.windows)
