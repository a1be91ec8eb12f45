"""Plans: asked for, watched, looked at before they are carried out, accepted whole or in part."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from flask import current_app, jsonify, render_template, request, url_for
from flask_babel import gettext as _
from flask_babel import ngettext
from sqlalchemy import select

from fieldsvc import kinds, queue
from fieldsvc.api import paging, positions
from fieldsvc.api.dispatch import RunNew
from fieldsvc.api.schemas import Choice, Flag, Ident, ListOf, PageArgs, Schema, Text
from fieldsvc.base.clock import utc_now
from fieldsvc.base.db import db, reading, transaction
from fieldsvc.base.errors import NotFound
from fieldsvc.console.frame import (
    DISPATCHERS,
    Refused,
    actor,
    asked,
    choices,
    done,
    entered,
    form,
    further,
    named,
    page,
    pages,
    typed,
)
from fieldsvc.console.local_times import as_sent
from fieldsvc.console.words import span
from fieldsvc.people import crews, territories
from fieldsvc.people.models import Crew
from fieldsvc.work import assignment, dispatch, queries
from fieldsvc.work.dispatch import difference
from fieldsvc.work.models import DispatchArea, DispatchDecision, DispatchRun, Job

OPEN = ("queued", "running")
AREAS_SHOWN = 40
_OF_MODE = {"insert": {"job"}, "crew_out": {"without_crew_ids"}}
"""What only one mode asks for; all others take territories and kinds."""


class RunForm(RunNew):
    job = Text(40, metadata={"description": "The number of the job that insert puts in."})


class RunArgs(PageArgs):
    show = Choice(*difference.SHOWN, load_default="changes")
    reason = Text(40)
    crew = Ident()
    territory = Ident()


class Chosen(Schema):
    everything = Flag()
    job_ids = ListOf(Ident(), max=1000)
    crew_ids = ListOf(Ident(), max=1000)
    territory_ids = ListOf(Ident(), max=1000)
    along = Flag(metadata={"description": "What has to go along was shown, and is meant."})


@pages.get("/runs")
@page()
def runs() -> str:
    """The runs, newest first."""
    args = asked(PageArgs)
    with reading():
        query = dispatch.runs(actor().id, actor().scope)
        found = paging.fetch(query, (DispatchRun.created_at, DispatchRun.id), args)
        told, names = dispatch.rows(found.rows), dispatch.about(found.rows)
    rows = [told[run.id] | {"about": names[run.id]} for run in found.rows]
    return render_template("runs.html", runs=rows, more=further(found.next))


@pages.get("/runs/new")
@page(*DISPATCHERS)
def new_run() -> str:
    """The form that asks for a run; its fields can be given in the address."""
    return _form()


@pages.post("/runs")
@page(*DISPATCHERS)
def start_run() -> Any:
    """Ask for a run; workers do it."""
    try:
        with form(RunForm, _asked()) as body, transaction():
            body["job_id"] = _job_id(body.pop("job", None))
            run = dispatch.request(actor().source(utc_now()), scope=actor().scope, **body)
            run_id = run.id
    except Refused as refused:
        return _form(_beside(refused.faults)), refused.status
    queue.ring("run_dispatch", run_id)
    return done(_("The plan is being made."), url_for("console.run", run_id=run_id))


@pages.get("/runs/<id:run_id>")
@page()
def run(run_id: str) -> str:
    """How far a run is; when it has ended, what it makes different."""
    return _page(run_id)


@pages.get("/runs/<id:run_id>/progress")
@page()
def run_progress(run_id: str) -> Any:
    """How far it is; once it has ended, the browser gets the whole page anew."""
    with reading():
        told = _told(dispatch.find(run_id, actor().id, actor().scope))
    headers = {} if told["busy"] else {"HX-Refresh": "true"}
    return render_template("_run_progress.html", run=told), 200, headers


@pages.get("/runs/<id:run_id>/difference")
@page()
def run_difference(run_id: str) -> Any:
    """What map and timeline draw."""
    with reading():
        found = dispatch.find(run_id, actor().id, actor().scope)
        return jsonify(difference.drawn(found, utc_now(), named("crew"), actor().scope))


@pages.post("/runs/<id:run_id>/cancel")
@page(*DISPATCHERS)
def cancel_run(run_id: str) -> Any:
    """Call a run off."""
    try:
        with form(Schema, {}), transaction():
            _run, rings = dispatch.cancel(actor().source(utc_now()), run_id, actor().scope)
    except Refused as refused:
        return _page(run_id, refused.faults), refused.status
    _ring(rings)
    return done(
        _("The plan has been called off. What was assigned by then stays."), url_for("console.run", run_id=run_id)
    )


@pages.post("/runs/<id:run_id>/accept")
@page(*DISPATCHERS)
def accept_run(run_id: str) -> Any:
    """Have all of a what-if run carried out, or a part; a part that brings others along is shown with them first."""
    source = actor().source(utc_now())
    travel = current_app.extensions["fieldsvc.travel"].at_hand(source.recorded_at.date())
    try:
        with form(Chosen) as body, transaction():
            job_ids = None if body.get("everything") else _chosen(run_id, body)
            with_them = dispatch.along(run_id, job_ids, travel) if job_ids and not body.get("along") else {}
            if not with_them:
                found = dispatch.accept(source, run_id, actor().scope, travel, job_ids)
                other = found.accepted_by_name if found.accepted_at != source.recorded_at else None
    except Refused as refused:
        return _page(run_id, refused.faults), refused.status
    if with_them:
        return _with_them(run_id, body, with_them)
    _ring([("run_dispatch", run_id)])
    message = (
        _("This had been accepted before, by %(name)s.", name=other)
        if other
        else _("Accepted. It is being carried out.")
    )
    return done(message, url_for("console.run", run_id=run_id))


@pages.get("/jobs/<id:job_id>/why")
@page()
def job_why(job_id: str) -> str:
    """Why the job is with its crew, or with none, and why not with another: a piece of a page."""
    now = utc_now()
    travel = current_app.extensions["fieldsvc.travel"].on(now.date())
    zone = current_app.extensions["fieldsvc.settings"].local_zone
    crew = named("crew")
    with reading():
        found = assignment.why(
            job_id, crew, scope=actor().scope, travel=travel, zone=zone, now=now, fresh=positions.told()
        )
        others = [one for one in _crews() if found["crew"] is None or one["id"] != found["crew"]["id"]]
    return render_template("_why.html", why=found, crews=others, asked=crew)


def _ring(rings: Sequence[tuple[str, ...]]) -> None:
    for one in rings:
        queue.ring(*one)


def _asked() -> dict[str, Any]:
    """What was typed, without what belongs to another mode: its fields are hidden, and may still hold something."""
    given = as_sent(RunForm, entered(RunForm))
    mode = given.get("mode", "fill")
    asks = {"job", "job_id", "without_crew_ids", "territory_ids", "kinds"}
    mine = _OF_MODE.get(mode, {"territory_ids", "kinds"})
    return {name: value for name, value in given.items() if name not in asks - mine}


def _job_id(number: str | None) -> str | None:
    """The job with this number, for who may see it."""
    if number is None:
        return None
    wanted = queries.jobs(queries.Wanted(), actor().scope).where(Job.number == number)
    found = db.session.scalar(wanted)
    if found is None:
        raise Refused({"job": _("There is no job with this number in your territories.")})
    return found.id


def _beside(faults: dict[str, str]) -> dict[str, str]:
    """Faults beside the fields that people see."""
    names = {"job_id": "job", "": "job" if request.form.get("mode") == "insert" else ""}
    return {names.get(name, name): text for name, text in faults.items()}


def _form(faults: dict[str, str] | None = None) -> str:
    values = request.form if request.form else request.args
    with reading():
        job = _job(named("job_id")) if not values.get("job") else None
        return render_template(
            "run_new.html",
            faults=faults or {},
            typed=typed(),
            given=values,
            job=job,
            modes=dispatch.MODES,
            mode=values.get("mode") if values.get("mode") in dispatch.MODES else "fill",
            kind_names=choices(sorted(kinds.discover())),
            territories=territory_choices(),
            crew_names=[(one["id"], f"{one['code']} · {one['name']}") for one in _crews()],
        )


def territory_choices() -> list[tuple[str, str]]:
    """The reader's territories, District 9 before District 10."""

    def natural(choice: tuple[str, str]) -> list[tuple[int, str]]:
        return [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"(\d+)", choice[1])]

    return sorted(((one.id, one.name) for one in territories.brief(actor())), key=natural)


def _job(job_id: str | None) -> Job | None:
    """The job an address names; one that is not there, or not for this reader, is left to be typed."""
    try:
        return queries.job(job_id, actor().scope) if job_id else None
    except NotFound:
        return None


def _crews() -> list[dict[str, str]]:
    """The active crews with a home territory of the reader's."""
    visible = crews.visible_ids(actor())
    query = select(Crew.id, Crew.code, Crew.name).where(Crew.active).order_by(Crew.code)
    if visible is not None:
        query = query.where(Crew.id.in_(visible))
    return [dict(one._mapping) for one in db.session.execute(query)]


def _told(found: DispatchRun) -> dict[str, Any]:
    """A run with names, its areas and whether there is something to wait for."""
    told = dispatch.row(found) | {"about": dispatch.about([found])[found.id]}
    areas = db.session.scalars(dispatch.areas(found.id).order_by(DispatchArea.number).limit(AREAS_SHOWN))
    wanted = told["taken"].get("wanted", 0)
    return told | {
        "area_rows": [dispatch.area_row(area) for area in areas],
        "wanted": wanted,
        "busy": found.state in OPEN or wanted > 0,
        "acceptable": found.what_if and found.state == "done",
    }


def _page(run_id: str, faults: dict[str, str] | None = None) -> str:
    args = {"reason": None, "crew": None, "territory": None} | asked(RunArgs)
    with reading():
        found = dispatch.find(run_id, actor().id, actor().scope)
        told = _told(found)
        shown: dict[str, Any] = {}
        if found.state not in OPEN:
            shown = _result(found, args)
    return render_template(
        "run.html",
        run=told,
        args=args,
        faults=faults or {},
        typed=typed(),
        span=lambda seconds: span(round(seconds)),
        **shown,
    )


def _result(found: DispatchRun, args: dict[str, Any]) -> dict[str, Any]:
    narrowed = {"reason": args.get("reason"), "crew_id": args.get("crew"), "territory_id": args.get("territory")}
    query = difference.shown(found.id, args["show"], **narrowed)
    rows = paging.fetch(
        query, (DispatchDecision.place,), args, descending=False, scalars=False, key=lambda row: [row[0].place]
    )
    open_ = select(DispatchDecision.place).where(DispatchDecision.run_id == found.id, DispatchDecision.taken.is_(None))
    return {
        "groups": _by_crew([difference.row(one) for one in rows.rows]),
        "more": url_for("console.run", run_id=found.id, **args | {"cursor": rows.next}) if rows.next else None,
        "counts": difference.counts(found.id),
        "crews": difference.crews(found.id),
        "territories": difference.territories(found.id),
        "inserted": _inserted(found),
        "overtaken": difference.overtaken(found.id, utc_now()) if found.what_if else 0,
        "left_open": found.what_if and db.session.scalar(open_.limit(1)) is not None,
    }


def _by_crew(rows: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """As they come, crew by crew."""
    return [list(group) for _crew, group in groupby(rows, key=lambda row: row["crew_id"])]


def _inserted(found: DispatchRun) -> dict[str, Any] | None:
    """What a run decided about the job it was to put in."""
    if found.job_id is None:
        return None
    one = db.session.execute(difference.shown(found.id, "all").where(DispatchDecision.job_id == found.job_id)).first()
    return difference.row(one) if one else None


def _chosen(run_id: str, body: dict[str, Any]) -> list[str]:
    """The jobs that are meant by what was ticked."""
    dispatch.find(run_id, actor().id, actor().scope)
    of_groups = dispatch.chosen(run_id, body.get("crew_ids", ()), body.get("territory_ids", ()))
    found = list(dict.fromkeys([*body.get("job_ids", ()), *of_groups]))
    if not found:
        raise Refused({"": _("Choose at least one change, or accept all of them.")})
    return found


def _with_them(run_id: str, body: dict[str, Any], with_them: dict[str, tuple[str, str]]) -> str:
    """Ask whether what hangs together with the choice is meant too."""
    with reading():
        found = dispatch.find(run_id, actor().id, actor().scope)
        told = {row["job_id"]: row for row in map(difference.row, _these(run_id, with_them))}
        whom = {job for _why, job in with_them.values()}
        numbers = {row[0].job_id: row[1] for row in _these(run_id, whom)}
        rows = [told[job_id] | {"goes": why, "with": numbers[job]} for job_id, (why, job) in with_them.items()]
        run = _told(found)
    title = ngettext("%(num)d more change has to go along", "%(num)d more changes have to go along", len(rows))
    return render_template("run_accept.html", run=run, body=body, rows=rows, title=title)


def _these(run_id: str, job_ids: Any) -> Sequence[Any]:
    query = difference.shown(run_id, "all").where(DispatchDecision.job_id.in_(sorted(job_ids)))
    return db.session.execute(query.order_by(DispatchDecision.place)).all()
