"""Jobs made, edited and cancelled by hand.

An edit says which values the page had shown. What somebody else has changed since then is never overwritten unseen: the
form comes back with both values and the name beside them. What others changed elsewhere in the job is no conflict.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import orjson
from flask import render_template, request, url_for
from flask_babel import gettext as _
from sqlalchemy import select
from werkzeug.datastructures import MultiDict

from fieldsvc import kinds
from fieldsvc.api.jobs import JobEdit, JobNew
from fieldsvc.api.schemas import Ident, Int, Schema, Text
from fieldsvc.base.clock import new_id, utc_now
from fieldsvc.base.db import db, reading, transaction
from fieldsvc.base.errors import Conflict, FieldsvcError, Forbidden
from fieldsvc.base.plain import plain
from fieldsvc.console import jobs as job_page
from fieldsvc.console.frame import DISPATCHERS, Refused, actor, choices, done, entered, form, page, pages, typed
from fieldsvc.console.local_times import as_sent, for_field, in_words
from fieldsvc.console.telling import Names, told
from fieldsvc.console.words import zone
from fieldsvc.geo.territories import SITE_CLASSES
from fieldsvc.kinds.assist import KIND as ASSIST
from fieldsvc.people.models import Crew
from fieldsvc.records.models import Customer
from fieldsvc.sync import sides
from fieldsvc.work import change, jobs, queries
from fieldsvc.work.models import Job

FIELDS = (
    "title description priority hazards access_note contact_phone tags service_minutes window_start window_end due_at "
    "address lon lat required_skills required_equipment load customers_affected"
).split()
"""What the form edits."""
OWN_KEYS = "console:"
"""How the external keys begin that the console gives to jobs made by hand."""
_LINES = ("hazards", "tags")
"""Lists that are typed into one field, with commas."""
_TIMES = ("window_start", "window_end", "due_at")


class NewForm(JobNew):
    """A job by hand: as the API takes it, the customer by number. ``form_key``: of this form, which makes one job."""

    form_key = Ident()
    customer = Text(80, metadata={"description": "Number of the customer."})


class CancelForm(Schema):
    """Why, and the revision that the page showed. The name of the field is its own: the page has other forms."""

    cancel_reason = Text(500, required=True)
    rev = Int(1, required=True)


@pages.get("/jobs/new")
@page(*DISPATCHERS)
def new_job_page() -> str:
    """An empty form, or one that begins with what the address says (``?customer=…&lon=…&lat=…&kind=…``)."""
    return _new(typed=request.args)


@pages.post("/jobs/new")
@page(*DISPATCHERS)
def new_job() -> Any:
    """Make a job; its point finds the territory, its kind the rest."""
    try:
        with form(NewForm, as_sent(NewForm, _listed(entered(NewForm)))) as body, transaction():
            crews, own_key = body.pop("crews", 1), OWN_KEYS + body.pop("form_key", new_id())
            if (number := body.pop("customer", None)) is not None:
                body["customer_id"] = _customer(number)
            if (made := _made_by(own_key)) is None:
                new = jobs.NewJob(**{"external_key": own_key, **body})
                with _at_the_place():
                    made = jobs.create(actor().source(utc_now()), new, actor().scope, crews=crews)
            job_id, told_number = made.id, made.number
    except Refused as refused:
        return _new(faults=_at_field(refused.faults), typed=typed()), refused.status
    return done(_("Job %(number)s is made.", number=told_number), url_for("console.job", job_id=job_id))


def _made_by(own_key: str) -> Job | None:
    """The job that this very form has made: it was sent twice, by a line that was cut or by going back."""
    found = db.session.scalar(select(Job).where(Job.external_key == own_key))
    return found if found is not None and actor().sees(found.territory_id) else None


@contextmanager
def _at_the_place() -> Iterator[None]:
    """A place that is not the visitor's is a fault of that field, not the end of what was typed."""
    try:
        yield
    except Forbidden as error:
        raise Refused({"lon": error.detail}, error.status) from None


def _at_field(faults: Mapping[str, str]) -> dict[str, str]:
    """A conflict says at its beginning which member it is about: it stands beside that field."""
    text = faults.get("", "")
    name, _colon, reason = text.partition(": ")
    return {"customer": reason} if name == "customer_id" else dict(faults)


def _customer(number: str) -> str:
    found: str | None = db.session.scalar(select(Customer.id).where(Customer.number == number))
    if found is None:
        raise Conflict("customer_id: there is no such customer")
    return found


def _new(**more: Any) -> str:
    with reading():
        by_hand = sorted(kinds.discover().keys() - {ASSIST.name})  # one that assists comes with the job it assists
        known = {"kinds": choices(by_hand), "form_key": new_id(), **_known()}
        return render_template("job_new.html", **known, **more)


def _known() -> dict[str, Any]:
    """What crews can do and carry, for the form to choose from; the zone its times are in."""
    skills: set[str] = set()
    equipment: set[str] = set()
    for crew in db.session.execute(select(Crew.skills, Crew.equipment, Crew.territory_ids).where(Crew.active)):
        if actor().sees_any(crew.territory_ids):
            skills.update(crew.skills)
            equipment.update(crew.equipment)
    return {
        "skills": sorted(skills),
        "equipment": sorted(equipment),
        "site_classes": choices(SITE_CLASSES),
        "zone_name": zone().key,
    }


@pages.get("/jobs/<id:job_id>/edit")
@page(*DISPATCHERS)
def edit_job(job_id: str) -> str:
    """The job's fields to be changed."""
    with reading():
        return _edit(queries.job(job_id, actor().scope))


def _edit(job: Job, given: Mapping[str, Any] | None = None, **more: Any) -> str:
    """The form; ``given``: what was typed and stays, in place of what is on record."""
    was = _shown(job)
    values = MultiDict((name, one) for name, value in was.items() for one in _each(value))
    for name, kept in (given or {}).items():
        values.setlist(name, _each(kept))
    on_record = orjson.dumps(was).decode()
    return render_template(
        "job_edit.html", job=job, values=values, was=on_record, ended=job.status in change.ENDED, **_known(), **more
    )


def _each(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _shown(job: Job) -> dict[str, Any]:
    """The fields as the form shows them: what comes back unchanged is equal to it."""
    shown: dict[str, Any] = {}
    for name in FIELDS:
        value = getattr(job, name)
        if name in _TIMES:
            shown[name] = for_field(value)
        elif name in _LINES:
            shown[name] = ", ".join(map(str, value))
        elif isinstance(value, list):
            shown[name] = [str(one) for one in value]
        else:
            shown[name] = "" if value is None else str(value)
    return shown


@pages.post("/jobs/<id:job_id>/edit")
@page(*DISPATCHERS)
def save_job(job_id: str) -> Any:
    """Change what was changed in the form, unless somebody has changed the same since the form was shown."""
    was, rev = _was()
    now = {name: _given(name, was.get(name)) for name in FIELDS}
    touched = [name for name in FIELDS if now[name] != was.get(name)]
    wanted = _wanted(touched, now)
    try:
        with form(JobEdit, as_sent(JobEdit, wanted)) as body, transaction():
            job = jobs.hold(job_id, actor().scope, None)
            if clashes := _clashes(job, touched, rev):
                raise Refused(clashes, 409)
            with _at_the_place():
                jobs.edit(actor().source(utc_now()), job_id, body, check=None, scope=actor().scope)
    except Refused as refused:
        kept = {name: now[name] for name in touched}
        with reading():
            job = queries.job(job_id, actor().scope)
            return _edit(job, kept, faults=refused.faults, clash=refused.status == 409), refused.status
    return done(_("Saved."), url_for("console.job", job_id=job_id))


def _was() -> tuple[dict[str, Any], int]:
    """What the form had shown, and at which revision.

    :raises FieldsvcError: ``bad-request``: the form is not ours.
    """
    try:
        was, rev = orjson.loads(request.form["was"]), int(request.form["rev"])
        assert isinstance(was, dict)
    except (ValueError, KeyError, AssertionError):
        raise FieldsvcError("bad-request", "the form is not complete: reload the page") from None
    return was, rev


def _given(name: str, was: Any) -> Any:
    """What stands in a field, in the shape of what had been shown there."""
    if isinstance(was, list):
        return sorted(request.form.getlist(name))
    return request.form.get(name, "").strip().replace("\r\n", "\n")


_NULLABLE = frozenset(name for name, one in JobEdit().fields.items() if one.allow_none)


def _wanted(touched: Collection[str], now: Mapping[str, Any]) -> dict[str, Any]:
    """The members to change as the API takes them; a field that was emptied is null, or empty."""
    wanted: dict[str, Any] = {}
    names = {*touched, *(("lon", "lat") if {"lon", "lat"} & set(touched) else ())}
    for name in names:
        value = now[name]
        if name in _LINES:
            value = _split(value)
        elif value == "" and name in _NULLABLE:
            value = None
        wanted[name] = value
    return wanted


def _listed(given: Mapping[str, Any]) -> dict[str, Any]:
    """Lists that were typed into one field, as lists."""
    return {name: _split(value) if name in _LINES else value for name, value in given.items()}


def _split(value: Any) -> list[str]:
    text = ",".join(value) if isinstance(value, list) else str(value)
    return [one.strip() for one in text.replace("，", ",").replace("、", ",").split(",") if one.strip()]


def _clashes(job: Job, touched: Collection[str], rev: int) -> dict[str, str]:
    """Per field: who has changed it since the form was shown, when, and to what."""
    found = {}
    for name in touched:
        made = job.field_revs.get(name)
        if made is None or made[0] <= rev:
            continue
        who = (sides.who(made[1]) or {}).get("name") or _("somebody")
        value = told(name, plain(getattr(job, name)), Names()).striptags()
        found[name] = _(
            "%(who)s changed this at %(time)s; it is now: %(value)s. Yours is kept: save again to put it in place.",
            who=who, time=in_words(made[2]), value=value,
        )  # fmt: skip
    return found


@pages.post("/jobs/<id:job_id>/cancel")
@page(*DISPATCHERS)
def cancel_job(job_id: str) -> Any:
    """Cancel a job that has not ended; who has done something with it meanwhile is heard first."""
    now = utc_now()
    try:
        with form(CancelForm) as body, transaction():
            job = jobs.hold(job_id, actor().scope, None)
            if body["rev"] != job.rev:
                raise Refused({"cancel_reason": _since(job, body["rev"])}, 409)
            jobs.cancel(actor().source(now), job_id, body["cancel_reason"], scope=actor().scope)
            number = job.number
    except Refused as refused:
        return job_page.shown(job_id, now, faults=refused.faults, typed=typed()), refused.status
    return done(_("Job %(number)s is cancelled.", number=number), url_for("console.job", job_id=job_id))


def _since(job: Job, rev: int) -> str:
    """Who has changed the job last since ``rev``."""
    later = [made for made in job.field_revs.values() if made[0] > rev]
    last = max(later, key=lambda made: made[0]) if later else None
    who = ((sides.who(last[1]) if last else None) or {}).get("name") or _("somebody")
    told_why: str = _(
        "%(who)s changed the job at %(time)s. Look at it again; then cancel it if you still want to.",
        who=who, time=in_words(last[2] if last else job.updated_at),
    )  # fmt: skip
    return told_why
