"""Crews: who they are, what they can, where they belong, and where they are to be next."""

from __future__ import annotations

import re
from datetime import datetime, time, timedelta
from typing import Any

from flask import render_template, request, url_for
from flask_babel import gettext as _
from sqlalchemy import select

from fieldsvc import kinds
from fieldsvc.api import paging, positions
from fieldsvc.api.crews import CrewChange, CrewNew
from fieldsvc.api.schemas import Choice, Ident, Text
from fieldsvc.base.clock import utc_now
from fieldsvc.base.db import among, reading, transaction
from fieldsvc.base.errors import FieldsvcError, Invalid
from fieldsvc.console import week
from fieldsvc.console.frame import (
    DISPATCHERS,
    SUPERVISORS,
    Refused,
    actor,
    asked,
    done,
    entered,
    form,
    further,
    page,
    pages,
    shown_rev,
    typed,
)
from fieldsvc.console.words import zone
from fieldsvc.history import page as history
from fieldsvc.people import crews, devices, territories
from fieldsvc.people.models import Crew
from fieldsvc.work import routes

_CHANGES = ("crew.created", "crew.changed", "shift.added", "shift.ended", "shift.removed")
_SHOWN_CHANGES = 10
_LISTS = ("skills", "equipment")
_EMPTIED = {"name_local": None, "base_lon": None, "base_lat": None, "capacity": None, "help_out_m": None}
_BETWEEN = re.compile(r"[\s,;，；、]+")


class _CrewArgs(paging.PageArgs):
    q = Text(80)
    territory = Ident()
    state = Choice("active", "inactive")


@pages.get("/crews", endpoint="crews")
@page()
def list_crews() -> str:
    """The crews with a home territory of one's own, by code."""
    args, now = asked(_CrewArgs), utc_now()
    today = datetime.combine(now.astimezone(zone()).date(), time(), zone())
    with reading():
        listed = paging.fetch(_wanted(args), [Crew.code], args, descending=False)
        ids = [crew.id for crew in listed.rows]
        shifts = crews.on_duty(ids, today, today + timedelta(days=1))
        handhelds = devices.of_crews(ids)
        known = territories.brief(actor())
        codes = territories.codes({one for crew in listed.rows for one in crew.territory_ids})
        return render_template(
            "crews.html", crews=listed.rows, shifts=shifts, devices=handhelds, codes=codes, territories=known,
            args=args, now=now, next=further(listed.next),
        )  # fmt: skip


def _wanted(args: dict[str, Any]) -> Any:
    wanted, mine = select(Crew), crews.visible_ids(actor())
    if mine is not None:
        wanted = wanted.where(among(Crew.id, mine))
    if text := args.get("q"):
        columns = (Crew.code, Crew.name, Crew.name_local)
        found = [column.icontains(text, autoescape=True) for column in columns]
        wanted = wanted.where(found[0] | found[1] | found[2])
    if "territory" in args:
        wanted = wanted.where(among(Crew.id, crews.at_home(args["territory"])))
    if "state" in args:
        wanted = wanted.where(Crew.active == (args["state"] == "active"))
    return wanted


@pages.get("/crews/<id:crew_id>")
@page()
def crew(crew_id: str) -> str:
    """One crew: facts, shifts, devices, way, calendar."""
    return week.shown(crew_id, {})


@pages.get("/crews/<id:crew_id>/way")
@page(*DISPATCHERS)
def crew_way(crew_id: str) -> str:
    """A piece of the crew's page: where it is taken to be, and when it is to be expected where."""
    now = utc_now()
    with reading():
        found = crews.get(actor(), crew_id)
        route = routes.of_crew(found, now, positions.travel_at_hand(now), positions.told())
        told = routes.as_dict(route, actor().scope, now)
    stops = [
        {"lon": stop["lon"], "lat": stop["lat"], "label": str(number)} for number, stop in enumerate(told["stops"], 1)
    ]
    return render_template("_crew_way.html", route=told, stops=stops)


@pages.get("/crews/new")
@page(*SUPERVISORS)
def new_crew() -> str:
    """The form of a new crew."""
    return _form(None, {})


@pages.post("/crews/new")
@page(*SUPERVISORS)
def add_crew() -> Any:
    """Add a crew."""
    given = {name: value for name, value in _given(CrewNew).items() if value is not None}
    try:
        with form(CrewNew, given) as body, transaction():
            _check_seen(body["territory_ids"])
            added = crews.create(actor(), utc_now(), **body)
            crew_id, name = added.id, added.name
    except Refused as refused:
        return _form(None, _beside_code(refused)), refused.status
    return done(_("The crew %(name)s has been added.", name=name), url_for("console.crew", crew_id=crew_id))


@pages.get("/crews/<id:crew_id>/edit")
@page(*SUPERVISORS)
def edit_crew(crew_id: str) -> str:
    """The form of a crew."""
    return _form(crew_id, {})


@pages.post("/crews/<id:crew_id>/edit")
@page(*SUPERVISORS)
def change_crew(crew_id: str) -> Any:
    """Change a crew, unless somebody else has meanwhile."""
    seen = shown_rev()
    try:
        with form(CrewChange, _given(CrewChange)) as body, transaction():
            found = crews.get(actor(), crew_id, lock=True)
            if seen != found.rev:
                raise FieldsvcError("precondition-failed", current_rev=found.rev)
            elsewhere = [one for one in found.territory_ids if not actor().sees(one)]
            body["territory_ids"] = [*body["territory_ids"], *elsewhere]
            _check_seen(body["territory_ids"])
            crews.edit(actor(), utc_now(), found, body)
            name = found.name
    except Refused as refused:
        moved = seen if refused.status == 412 else None
        return _form(crew_id, {} if refused.status == 412 else refused.faults, moved=moved), refused.status
    return done(_("The crew %(name)s has been changed.", name=name), url_for("console.crew", crew_id=crew_id))


def _given(schema: type[CrewChange]) -> dict[str, Any]:
    """What the form says; what has been emptied is none. Names that are typed count like those that are ticked."""
    found: dict[str, Any] = {**_EMPTIED, **entered(schema), "active": str("active" in request.form).lower()}
    for name in _LISTS:
        more = _BETWEEN.split(request.form.get(f"{name}_more", "").strip().lower())
        found[name] = [*request.form.getlist(name), *filter(None, more)]
        found.pop(f"{name}_more", None)
    members = request.form.get("members", "").splitlines()
    found["members"] = [member.strip() for member in members if member.strip()]
    found["territory_ids"] = request.form.getlist("territory_ids")
    found.pop("rev", None)
    return found


def _check_seen(territory_ids: list[str]) -> None:
    if actor().scope is not None and not any(actor().sees(one) for one in territory_ids):
        raise Invalid.field(
            "/territory_ids", "give the crew at least one of your territories: you would not see it otherwise"
        )


def _beside_code(refused: Refused) -> dict[str, str]:
    """A code that is taken is said at the code."""
    return {"code": refused.faults[""]} if refused.status == 409 and "" in refused.faults else refused.faults


def _form(crew_id: str | None, faults: dict[str, str], *, moved: int | None = None) -> str:
    """``moved``: the revision that the visitor has changed, when there is a newer one by now."""
    with reading():
        found = crews.get(actor(), crew_id) if crew_id else None
        skills, equipment = crews.abilities(actor())
        entries = []
        if found is not None and moved is not None:
            most = min(max(1, found.rev - moved), _SHOWN_CHANGES)
            entries = history.latest(_CHANGES, most, crew_id=found.id)
        known = territories.brief(actor())
        return render_template(
            "crew_form.html", crew=found, faults=faults, typed=typed(), territories=known, entries=entries,
            moved=moved is not None, skills=sorted({*skills, *(kind.skill for kind in kinds.discover().values())}),
            equipment=equipment, codes={one.id: one.code for one in known},
        )  # fmt: skip
