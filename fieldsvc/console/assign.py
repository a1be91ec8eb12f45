"""Giving a job to a crew: what breaks is said first, and nothing that somebody else has done is overwritten.

Every change carries the revision the page has shown. What breaks does not forbid (a dispatcher may know better than the
rules), but it has to be sent again with ``anyway`` once it has been seen; only what the API refuses is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from flask import jsonify, render_template, request, url_for
from flask_babel import gettext as _
from markupsafe import escape

from fieldsvc.api import positions
from fieldsvc.api.jobs import Assign, Reason
from fieldsvc.api.schemas import Flag, Ident, Int, ListOf, Schema, Text, UtcTime
from fieldsvc.base.clock import utc_now
from fieldsvc.base.db import db, reading, transaction
from fieldsvc.base.errors import FieldsvcError, Invalid
from fieldsvc.base.plain import plain
from fieldsvc.console.frame import DISPATCHERS, Refused, actor, asked, done, entered, form, page, pages, wants_data
from fieldsvc.console.local_times import as_sent, for_field
from fieldsvc.console.telling import Names, by_whom, changes
from fieldsvc.console.words import clock_time, moment, said, word, zone
from fieldsvc.history.models import HistoryEntry
from fieldsvc.people.models import Crew
from fieldsvc.work import assignment, breaches, change, jobs, queries
from fieldsvc.work.breaches import Offer
from fieldsvc.work.jobs import Check
from fieldsvc.work.models import Job

MOST_JOBS = 50
"""Jobs that are held out to a crew at once."""


class Seen(Schema):
    """``rev``: the revision of the job that the page has shown."""

    rev = Int(1, required=True)


class AssignForm(Assign, Seen):
    """As the API takes it; ``anyway``: what breaks has been seen, of the crew and time in ``seen`` if that is there."""

    anyway = Flag()
    seen = Text(80)


class TakeForm(Reason, Seen):
    pass


class BreaksArgs(Schema):
    job = ListOf(Ident(), min=1, max=MOST_JOBS, required=True)
    crew = Ident(required=True)
    start = UtcTime()


class CrewsArgs(Schema):
    job = Ident(required=True)


# ----- what breaks


@pages.get("/assign/breaks")
@page(*DISPATCHERS)
def assign_breaks() -> Any:
    """For a script: what breaks if the crew gets these jobs, the first of them at ``start``, the others after it."""
    args = asked(BreaksArgs)
    now, start = utc_now(), args.get("start")
    rows = []
    with reading():
        for job_id in args["job"]:
            offer = _offer(job_id, args["crew"], start, now)
            rows.append(_offered(offer))
            start = start and start + timedelta(minutes=offer.job.service_minutes)
        crew = {"id": offer.crew.id, "code": offer.crew.code, "name": offer.crew.name}
    return jsonify(crew=crew, jobs=rows)


@pages.get("/assign/crews")
@page(*DISPATCHERS)
def assign_crews() -> Any:
    """For a script: the crews a job may be given to, the best first, each with its reason."""
    args = asked(CrewsArgs)
    with reading():
        return jsonify(crews=_ranked(args["job"], utc_now()))


def _offer(job_id: str, crew_id: str, start: datetime | None, now: datetime) -> Offer:
    return breaches.of(
        job_id,
        crew_id,
        start,
        scope=actor().scope,
        travel=positions.travel_at_hand(now),
        zone=zone(),
        now=now,
        fresh=positions.fresh(),
    )


def _ranked(job_id: str, now: datetime) -> list[dict[str, Any]]:
    travel, fresh = positions.travel_at_hand(now), positions.fresh()
    rows = assignment.ranked(job_id, scope=actor().scope, travel=travel, zone=zone(), now=now, fresh=fresh)
    return [row | {"words": said(row["words"])} for row in rows]


def _offered(offer: Offer) -> dict[str, Any]:
    return {
        **_job(offer.job),
        "allowed": offer.allowed,
        "begin_at": plain(offer.begin_at),
        "breaks": [
            {"code": one.code, "severity": one.severity, "sentence": said(one.sentence)} for one in offer.breaches
        ],
    }


def _job(job: Job) -> dict[str, Any]:
    """How a job stands, as far as it matters here."""
    crew = db.session.get(Crew, job.crew_id) if job.crew_id else None
    names = "id number title status rev crew_id planned_start planned_end pinned service_minutes".split()
    found = {name: plain(getattr(job, name)) for name in names}
    return found | {"crew": crew and crew.code, "words": _standing(job, crew)}


def _standing(job: Job, crew: Crew | None) -> str:
    """With whom and when, in words."""
    if crew is None:
        return str(_("%(job)s has no crew now.", job=job.number))
    if job.planned_start is None:
        return str(_("%(job)s is with %(crew)s now, without a time.", job=job.number, crew=crew.code))
    when = escape(moment(job.planned_start)).striptags()
    return str(_("%(job)s is with %(crew)s now, planned for %(time)s.", job=job.number, crew=crew.code, time=when))


# ----- nothing is overwritten


def _unless_changed(job_id: str, rev: int) -> Check:
    """Refuses a change of a job that is no longer as the page has shown it, and says who did what to it.

    The problem's members: ``changes`` (sentences, the newest first) and ``job``, as it is now.
    """

    def check(current: int) -> None:
        if current == rev:
            return
        entries = jobs.changes_since(job_id, rev)
        names = Names.of_entries(entries)
        lines = [_line(entry, names) for entry in entries]
        job = db.session.get_one(Job, job_id)
        first = lines[0] if lines else ""
        detail = _("%(job)s has changed since you looked: %(change)s", job=job.number, change=first)
        raise FieldsvcError("precondition-failed", detail, current_rev=current, changes=lines, job=_job(job))

    return check


def _line(entry: HistoryEntry, names: Names) -> str:
    """Who did what and when: ``Wang Fang, 14:05: Job assigned (Crew: – → C-2)``."""
    told = [
        f"{change.path}: {change.before.striptags()} → {change.after.striptags()}" for change in changes(entry, names)
    ]
    who = escape(by_whom(entry, names)).striptags()
    what = word(entry.action) + (f" ({'; '.join(told[:4])})" if told else "")
    note = f" – {entry.note}" if entry.note else ""
    return f"{who}, {clock_time(entry.recorded_at)}: {what}{note}"


# ----- what is done


@pages.get("/jobs/<id:job_id>/assign")
@page(*DISPATCHERS)
def assign_page(job_id: str) -> str:
    """Which crew, and when: a piece of the job's page, or a page of its own."""
    return _form(job_id)


def _form(job_id: str, problem: Mapping[str, Any] | None = None, **more: Any) -> str:
    """The form; ``problem``: why what was sent has not been done. After a change of somebody else's it carries the new
    revision: sending it again is meant then."""
    now = utc_now()
    with reading():
        job = queries.job(job_id, actor().scope)
        last = jobs.last_change(job_id)
        shown = {
            "job": job,
            "crew": db.session.get(Crew, job.crew_id) if job.crew_id else None,
            "start": for_field(job.planned_start),
            "ranked": _ranked(job_id, now),
            "settled": job.status in change.ENDED or job.status in change.UNDER_WAY,
            "last": last if last is not None and last.action in jobs.UNDOABLE else None,
            "rev": request.form.get("rev") if problem and "breaks" in problem else job.rev,
        }
        template = "_assign_form.html" if request.headers.get("HX-Request") else "assign.html"
        return render_template(template, problem=problem, **shown, **more)


@pages.post("/jobs/<id:job_id>/assign")
@page(*DISPATCHERS)
def assign_job(job_id: str) -> Any:
    """Give the job to a crew, at a time or where it fits best; 409 with what breaks unless that has been seen."""

    def act(body: Mapping[str, Any], now: datetime, check: Check) -> Job:
        jobs.hold(job_id, actor().scope, check)
        offer = _offer(job_id, body["crew_id"], body.get("planned_start"), now)
        if not offer.allowed or (offer.breaches and not _seen(body)):
            code = "conflict" if offer.allowed else "state-not-allowed"
            told = _offered(offer)
            detail = "; ".join(one["sentence"] for one in told["breaks"]) or _("This crew cannot have it.")
            raise FieldsvcError(code, detail, breaks=told["breaks"], allowed=offer.allowed, job=told)
        start = body.get("planned_start") or _to_the_minute(offer.begin_at)
        pin, source = body.get("pin", False), actor().source(now)
        return jobs.assign(source, job_id, body["crew_id"], planned_start=start, pin=pin, scope=actor().scope)

    return _done(job_id, AssignForm, act, lambda job: _standing(job, db.session.get(Crew, job.crew_id or "")))


def _seen(body: Mapping[str, Any]) -> bool:
    """Whether what breaks has been seen: a form in which another crew or time was chosen meanwhile has to ask again."""
    typed = f"{request.form.get('crew_id', '')}|{request.form.get('planned_start', '')}"
    return bool(body.get("anyway")) and body.get("seen") in (None, typed)


def _to_the_minute(at: datetime | None) -> datetime | None:
    return at and (at + timedelta(seconds=59)).replace(second=0, microsecond=0)


@pages.post("/jobs/<id:job_id>/unassign")
@page(*DISPATCHERS)
def unassign_job(job_id: str) -> Any:
    """Take the job from its crew; it waits for another."""

    def act(body: Mapping[str, Any], now: datetime, check: Check) -> Job:
        return jobs.unassign(actor().source(now), job_id, body["reason"], check=check, scope=actor().scope)

    return _done(job_id, TakeForm, act, lambda job: _("%(job)s waits for a crew again.", job=job.number))


@pages.post("/jobs/<id:job_id>/pin")
@page(*DISPATCHERS)
def pin_job(job_id: str) -> Any:
    """No plan takes the job from its crew, or moves it in time."""

    def act(body: Mapping[str, Any], now: datetime, check: Check) -> Job:
        return jobs.pin(actor().source(now), job_id, check=check, scope=actor().scope)

    return _done(job_id, Seen, act, lambda job: _("%(job)s stays where it is, whatever is planned.", job=job.number))


@pages.post("/jobs/<id:job_id>/unpin")
@page(*DISPATCHERS)
def unpin_job(job_id: str) -> Any:
    """Plans decide about the job again."""

    def act(body: Mapping[str, Any], now: datetime, check: Check) -> Job:
        return jobs.unpin(actor().source(now), job_id, check=check, scope=actor().scope)

    return _done(job_id, Seen, act, lambda job: _("Plans may move %(job)s again.", job=job.number))


@pages.post("/jobs/<id:job_id>/undo")
@page(*DISPATCHERS)
def undo_job(job_id: str) -> Any:
    """Take back the decision that made this revision, unless something has happened to the job since."""

    def act(body: Mapping[str, Any], now: datetime, check: Check) -> Job:
        return jobs.undo(actor().source(now), job_id, check=check, scope=actor().scope)

    def told(job: Job) -> str:
        crew = db.session.get(Crew, job.crew_id) if job.crew_id else None
        return str(_("Taken back. %(standing)s", standing=_standing(job, crew)))

    return _done(job_id, Seen, act, told)


Act = Callable[[Mapping[str, Any], datetime, Check], Job]


def _done(job_id: str, schema: type[Seen], act: Act, told: Callable[[Job], str]) -> Any:
    """Read the form, do it, and tell: a script the job as it is now, a person the page of the job.

    A refusal tells a script the problem, a person the form with what is wrong.
    """
    try:
        with form(schema, as_sent(schema, entered(schema))) as body:
            pass
        with transaction():
            job = act(body, utc_now(), _unless_changed(job_id, body["rev"]))
            text, row = told(job), _job(job)
    except Refused as refused:
        if wants_data():
            errors = [{"field": name, "reason": said(reason)} for name, reason in refused.faults.items()]
            raise Invalid(said(next(iter(refused.faults.values()))), errors=errors) from None
        return _form(job_id, faults=refused.faults, typed=request.form), refused.status
    except FieldsvcError as error:
        if wants_data() or error.status not in (409, 412, 422):
            error.detail = said(error.detail)
            raise
        problem = {"detail": said(error.detail), **error.extra}
        return _form(job_id, problem, typed=request.form), error.status
    if wants_data():
        return jsonify(job=row, said=text)
    return done(text, url_for("console.job", job_id=job_id))
