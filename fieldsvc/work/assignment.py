"""Why a job is with this crew, why not with that one, and why with none: what decided, and how the crews stand now.

What a run decided is told as it was written then. Beside it every crew is judged on what it holds now, and what has
changed since is named. Crews without a home in the reader's territories are neither judged nor named, but for the one
that has the job; of the jobs on a route only those in the reader's territories are named.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, tzinfo
from typing import Any

from sqlalchemy import Row, select

from fieldsvc import rules
from fieldsvc.base.clock import parse_time
from fieldsvc.base.db import db
from fieldsvc.base.errors import NotFound
from fieldsvc.base.plain import plain
from fieldsvc.geo import sentences
from fieldsvc.geo.explain import CITED, Explanation, Question, Verdict, explain, fault_of
from fieldsvc.geo.model import TravelReport
from fieldsvc.geo.travel import TravelTimes
from fieldsvc.history.models import HistoryEntry
from fieldsvc.work import change, queries, standing
from fieldsvc.work.change import BY_DISPATCH, UNDER_WAY
from fieldsvc.work.dispatch.carry_out import changes
from fieldsvc.work.dispatch.rules import Rules
from fieldsvc.work.models import Assignment, DispatchDecision, DispatchRun, Job

MOST_ALTERNATIVES = 5
DRIFT = timedelta(minutes=5)
"""By how much a begin may move without being called a change of the plan."""
_BOUND = ("enroute", *UNDER_WAY)
"""States in which a crew is on its way to the job or at it: nobody else can have it."""
_BY_ASSIGNING = BY_DISPATCH | {"status"}
"""What changes by carrying a decision out, and what is told by itself."""


@dataclass(frozen=True)
class _Told:
    """What stands at the top of an answer."""

    rule: str
    words: str
    numbers: Mapping[str, Any]


def why(
    job_id: str,
    crew_id: str | None,
    *,
    scope: Collection[str] | None,
    travel: TravelTimes,
    zone: tzinfo,
    now: datetime,
    fresh: timedelta,
) -> dict[str, Any]:
    """Why the job is where it is and, with ``crew_id``, why not with that crew; JSON-ready.

    :param scope: the reader's territories, ``None`` for all.
    :param fresh: how old a position may be to tell where a crew is; nothing for a reader who may not know it.
    :raises NotFound: the job or the crew is not there for this reader.
    """
    job = queries.job(job_id, scope)
    crews = standing.crews(scope, job.crew_id)
    if crew_id is not None:
        crews = [crew for crew in crews if crew.id in (crew_id, job.crew_id)]
        if crew_id not in {crew.id for crew in crews}:
            raise NotFound("crew", crew_id)
    names = {crew.id: crew for crew in crews}
    decided, given = _decided(job), _given(job)
    question, found = None, None
    if job.status not in (*change.ENDED, *_BOUND):
        question, found = _judged(job, crews, crew_id, scope, travel, zone, now, fresh)
    told = _told(job, names, decided, given, found, zone, now)
    holder = found.holder if found else None
    return {
        "job_id": job.id,
        "job_number": job.number,
        "status": job.status,
        "tier": question.job.tier if question else None,
        "crew": _named(names.get(job.crew_id or "")),
        "given": given,
        "rule": told.rule,
        "words": told.words,
        "numbers": plain(told.numbers),
        "decision": _decision_row(decided),
        "changed_since": _changes(job, decided, holder, zone, now),
        "holder": _verdict_row(holder),
        "asked": _verdict_row(found.of(crew_id)) if found and crew_id else None,
        "alternatives": [_verdict_row(one) for one in found.possible[:MOST_ALTERNATIVES]]
        if found and not crew_id
        else [],
        "possible": len(found.possible) if found else 0,
        "impossible": found.counts if found else {},
        "left_out": found.cut if found else 0,
        "rules": _cited(question, found, now),
        "travel": _travel_row(found),
        "asked_at": plain(now),
    }


def ranked(
    job_id: str, *, scope: Collection[str] | None, travel: TravelTimes, zone: tzinfo, now: datetime, fresh: timedelta
) -> list[dict[str, Any]]:
    """Every crew that the job may be given to by somebody with ``scope``: whoever has it, those that could have it, the
    best first, then those that cannot, by code. Each with ``crew_id``, ``crew_code``, ``name``, ``possible`` (None:
    nobody can say), ``rule`` and ``words``.

    :raises NotFound: the job is not there for this reader.
    """
    job = queries.job(job_id, scope)
    crews = [crew for crew in standing.crews(scope, None) if crew.active]
    bare = [{"crew_id": crew.id, "crew_code": crew.code, "name": crew.name, "possible": None} for crew in crews]
    bare.sort(key=lambda row: row["crew_code"])
    if job.status in (*change.ENDED, *UNDER_WAY):
        return []
    question, found = _judged(job, crews, None, scope, travel, zone, now, fresh, pinned=False)
    if found is None:
        fault = fault_of(question.job)
        words = {"no_territory": sentences.no_territory(), "no_place": sentences.without_place()}.get(fault or "", "")
        return [row | {"rule": fault, "words": words} for row in bare]
    names = {row["crew_id"]: row["name"] for row in bare}
    told = [(verdict, _verdict_row(verdict)) for verdict in found.every]
    rows = [row | {"name": names[verdict.crew_id]} for verdict, row in told if row is not None]
    left = [row | {"rule": None, "words": ""} for row in bare if found.of(row["crew_id"]) is None]
    return rows + left


def _judged(
    job: Job,
    crews: Sequence[Row[Any]],
    crew_id: str | None,
    scope: Collection[str] | None,
    travel: TravelTimes,
    zone: tzinfo,
    now: datetime,
    fresh: timedelta,
    *,
    pinned: bool = True,
) -> tuple[Question, Explanation | None]:
    """The question as a plan would put it, and what there is to say of every crew; None: no crew at all can have it.

    :param pinned: a pin binds, as it binds plans.
    """
    book = Rules.on(now)
    question, asked = standing.question(job, book, zone, now, fresh)
    if not pinned:
        question = replace(question, job=replace(question.job, pinned=False, starts_at=None, due=job.due_at))
    if fault_of(question.job):
        return question, None
    candidates = standing.candidates(question, asked, crews, book, travel, scope)
    if crew_id is not None:
        rows = {crew.id: crew for crew in crews}
        candidates = [
            standing.beyond(one, rows[one.crew_id], question.job, book, now) if one.crew_id == crew_id else one
            for one in candidates
        ]
    return question, explain(question, candidates, travel)


def _decided(job: Job) -> tuple[DispatchDecision, DispatchRun] | None:
    """The newest decision of a run that stands: for a job with a crew the one that gave it to that crew."""
    query = (
        select(DispatchDecision, DispatchRun)
        .join(DispatchRun, DispatchRun.id == DispatchDecision.run_id)
        .where(DispatchDecision.job_id == job.id)
        .order_by(DispatchRun.created_at.desc(), DispatchDecision.place.desc())
        .limit(20)
    )
    for decision, run in db.session.execute(query):
        stands = decision.taken is not None if run.what_if else True
        if stands and decision.crew_id == job.crew_id and not (run.what_if and decision.taken == "changed_meanwhile"):
            return decision, run
    return None


def _given(job: Job) -> dict[str, Any] | None:
    """Who gave the job to its crew, and when: a run, or somebody of the office."""
    if job.crew_id is None:
        return None
    entry = db.session.scalar(
        select(HistoryEntry)
        .where(HistoryEntry.job_id == job.id, HistoryEntry.action.in_(("job.assigned", "job.reassigned")))
        .order_by(HistoryEntry.seq.desc())
        .limit(1)
    )
    since, run_id = db.session.execute(
        select(Assignment.assigned_at, Assignment.run_id)
        .where(Assignment.job_id == job.id, Assignment.ended_at.is_(None))
        .limit(1)
    ).one_or_none() or (None, None)
    by_run = entry is None or entry.actor_kind != "staff"
    return {
        "by": "run" if by_run else "staff",
        "name": entry.actor_name if entry else None,
        "at": plain(entry.recorded_at if entry else since),
        "since": plain(since),
        "run_id": run_id if by_run else None,
        "pinned": job.pinned,
    }


def _told(
    job: Job,
    names: Mapping[str, Row[Any]],
    decided: tuple[DispatchDecision, DispatchRun] | None,
    given: Mapping[str, Any] | None,
    found: Explanation | None,
    zone: tzinfo,
    now: datetime,
) -> _Told:
    """The one rule, sentence and numbers that answer the question."""
    if job.status in change.ENDED:
        return _Told("ended", f"{job.number} is {job.status}: there is nothing left to be given to a crew", {})
    if job.crew_id is None:
        return _without_crew(job, decided, found, zone, now)
    code = names[job.crew_id].code if job.crew_id in names else job.crew_id
    if job.status in _BOUND:
        return _Told("under_way", f"{code} is {job.status} with {job.number}: no other crew can have it now", {})
    numbers = found.holder.numbers if found and found.holder else {}
    beside = f"; now {found.holder.words}" if found and found.holder else ""
    beside += _others(found)
    if given is not None and given["by"] == "staff":
        when = sentences.at(parse_time(given["at"]), now, zone)
        did = "pinned it to" if job.pinned else "gave it to"
        return _Told("pinned" if job.pinned else "by_hand", f"{given['name']} {did} {code} at {when}{beside}", numbers)
    if decided is None:
        return _Told("by_run", f"a dispatch run gave it to {code}{beside}", numbers)
    decision, _ = decided
    words = decision.detail + _others(found)
    return _Told(decision.reason, words, {**(decision.why or {}), **_figures(decision)})


def _others(found: Explanation | None) -> str:
    """The next best crew, or why there is none."""
    if found is None or len(found.every) < 2:
        return ""
    if found.possible:
        return f"; of the others {found.possible[0].words}"
    return f"; no other crew can now: {_nobody(found)}"


def _nobody(found: Explanation) -> str:
    return sentences.ruled_out([(one.rule, one.numbers) for one in found.impossible])


def _without_crew(
    job: Job,
    decided: tuple[DispatchDecision, DispatchRun] | None,
    found: Explanation | None,
    zone: tzinfo,
    now: datetime,
) -> _Told:
    live = _live(job, found)
    if decided is None:
        return _Told("not_planned", f"no dispatch run has decided about it yet; {live}", {})
    decision, run = decided
    when = sentences.at(run.finished_at or run.created_at, now, zone)
    if found is None:
        return _Told(decision.reason, f"the run of {when} found nobody: {live}", decision.why or {})
    what = "left it alone" if decision.reason == "changed_meanwhile" else "found nobody"
    return _Told(decision.reason, f"the run of {when} {what}: {decision.detail}; {live}", decision.why or {})


def _live(job: Job, found: Explanation | None) -> str:
    """How it stands with a job that has no crew."""
    if found is None:
        if job.lon is not None and job.territory_id is None:
            return f"its place lies in no territory: {job.territory_reason or 'outside of all'}"
        return "it has no place a crew could be sent to" if job.lon is None else "its window ends before it begins"
    if not found.possible:
        return f"nobody can now: {_nobody(found)}" if found.impossible else "there is no crew in your territories"
    best = found.possible[0]
    others = f"{len(found.possible)} crews could now, first of all " if len(found.possible) > 1 else "now "
    return others + best.words


def _figures(decision: DispatchDecision) -> dict[str, Any]:
    names = "planned_start planned_end planned_order distance_m late_minutes".split()
    return {name: getattr(decision, name) for name in names}


def _changes(
    job: Job,
    decided: tuple[DispatchDecision, DispatchRun] | None,
    holder: Verdict | None,
    zone: tzinfo,
    now: datetime,
) -> list[str]:
    """What is no longer as it was when the run decided, in words."""
    if decided is None:
        return []
    decision, _ = decided
    told = []
    edited = [name for name in changes(job, decision) if name not in _BY_ASSIGNING]
    if edited:
        told.append(f"changed since the run: {', '.join(edited).replace('_', ' ')}")
    if job.planned_start != decision.planned_start and job.planned_start is not None and decision.planned_start:
        begin, was = (sentences.at(moment, now, zone) for moment in (job.planned_start, decision.planned_start))
        told.append(f"it is planned for {begin} now, the run planned it for {was}")
    if holder is None:
        return told
    if not holder.possible:
        return [*told, f"it does not come out any more: {holder.words}"]
    begin_at = holder.numbers["begin_at"]
    if job.planned_start is not None and abs(begin_at - job.planned_start) > DRIFT:
        begin, was = (sentences.at(moment, now, zone) for moment in (begin_at, job.planned_start))
        told.append(f"as things stand it begins at {begin}, the plan says {was}")
    return told


def _named(crew: Row[Any] | None) -> dict[str, Any] | None:
    return {"id": crew.id, "code": crew.code, "name": crew.name} if crew else None


def _decision_row(decided: tuple[DispatchDecision, DispatchRun] | None) -> dict[str, Any] | None:
    if decided is None:
        return None
    decision, run = decided
    row = {"run_id": run.id, "mode": run.mode, "decided_at": plain(run.finished_at or run.started_at or run.created_at)}
    names = "reason detail why planned_start planned_end planned_order distance_m late_minutes".split()
    return row | {name: plain(getattr(decision, name)) for name in names}


def _verdict_row(verdict: Verdict | None) -> dict[str, Any] | None:
    if verdict is None:
        return None
    return {
        "crew_id": verdict.crew_id,
        "crew_code": verdict.code,
        "possible": verdict.possible,
        "rule": verdict.rule,
        "words": verdict.words,
        "numbers": plain(verdict.numbers),
    }


def _cited(question: Question | None, found: Explanation | None, now: datetime) -> list[dict[str, str]]:
    """The entries of the rule pack behind all that was said, with their sources."""
    if question is None or found is None:
        return []
    said = {
        verdict.rule for verdict in (*found.possible, *found.impossible, *((found.holder,) if found.holder else ()))
    }
    names = {f"tier.{question.job.tier}", *(CITED[rule] for rule in said if rule in CITED)}
    sources = rules.load().dispatch(now.date()).sources
    return [{"name": name, "source": sources[name]} for name in sorted(names) if name in sources]


def _travel_row(found: Explanation | None) -> dict[str, Any] | None:
    """Where the travel times came from, all matrices together."""
    reports: tuple[TravelReport, ...] = found.reports if found else ()
    if not reports:
        return None
    counts = {name: sum(getattr(one, name) for one in reports) for name in ("pairs", "cached", "fallback", "holes")}
    notes = list(dict.fromkeys(note for one in reports for note in one.notes))
    return {"provider": reports[0].provider, **counts, "notes": notes}
