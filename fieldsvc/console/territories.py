"""Territories: looked at on the map, drawn and edited by hand; files: see :mod:`fieldsvc.console.territory_files`."""

from __future__ import annotations

from typing import Any

import orjson
import shapely
from flask import render_template, request, url_for
from flask_babel import format_decimal, ngettext
from flask_babel import gettext as _
from sqlalchemy import select

from fieldsvc.api import paging
from fieldsvc.api.schemas import Choice, Flag, Int, Schema, Text
from fieldsvc.base.clock import utc_now
from fieldsvc.base.db import among, reading, transaction
from fieldsvc.base.errors import Forbidden, Invalid
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
    may,
    page,
    pages,
    shown_rev,
    typed,
)
from fieldsvc.geo import overlaps
from fieldsvc.geo.territories import SITE_CLASSES, TerritoryShape, area_m2
from fieldsvc.history import page as history
from fieldsvc.people import crews, territories
from fieldsvc.people.models import Territory
from fieldsvc.work import jobs, queries
from fieldsvc.work.models import Job

_CHANGES = ("territory.imported", "territory.created", "territory.changed")
_SHOWN_CHANGES = 8
_TRAY_SHOWN = 50
_PLACED_AT_ONCE = 500
_LARGEST = 2_000_000
"""The longest border, in characters of GeoJSON, that is typed or drawn by hand; larger ones come as a file."""
_BORDERS = frozenset({"console.add_territory", "console.change_territory", "console.look_at_border"})


@pages.app_template_filter("area")
def _area(square_metres: float) -> str:
    """An area as people say it: square kilometres, of small ones hectares."""
    if square_metres < 1_000_000:
        return str(_("%(number)s ha", number=format_decimal(square_metres / 10_000, "#,##0.##")))
    return str(_("%(number)s km²", number=format_decimal(square_metres / 1_000_000, "#,##0.#")))


@pages.app_template_filter("area_change")
def _area_change(square_metres: float) -> str:
    """How much larger (+) or smaller (−) an area has become."""
    sign = "−" if square_metres < 0 else "+"
    return f"{sign}{_area(abs(square_metres))}"


@pages.url_value_preprocessor
def _room_for_a_border(endpoint: str | None, values: dict[str, Any] | None) -> None:
    """A coast is a longer text than a form is usually allowed to have; its brackets and commas come as three signs."""
    if endpoint in _BORDERS:
        request.max_form_memory_size = 2 * _LARGEST


class _TerritoryArgs(paging.PageArgs):
    q = Text(80)


class Drawn(Schema):
    """What the form of a territory says. ``repaired``: the border may be stored as it is repaired."""

    code = Text(60, required=True)
    name = Text(200, required=True)
    name_local = Text(200)
    level = Int(0, 99, load_default=1)
    site_class = Choice(*SITE_CLASSES, load_default="urban")
    priority = Int(-1_000_000, 1_000_000, load_default=0)
    geometry = Text(_LARGEST, required=True)
    repaired = Flag(load_default=False)


class _Looked(Schema):
    code = Text(60, load_default="")
    priority = Int(-1_000_000, 1_000_000, load_default=0)
    geometry = Text(_LARGEST, required=True)


@pages.get("/territories", endpoint="territories")
@page()
def list_territories() -> str:
    """One's territories, by code, and what waits in none."""
    args, now = asked(_TerritoryArgs), utc_now()
    with reading():
        wanted = select(Territory).options(territories.WITHOUT_BORDER)
        if actor().scope is not None:
            wanted = wanted.where(among(Territory.id, actor().scope or ()))
        if text := args.get("q"):
            columns = (Territory.code, Territory.name, Territory.name_local)
            found = [column.icontains(text, autoescape=True) for column in columns]
            wanted = wanted.where(found[0] | found[1] | found[2])
        listed = paging.fetch(wanted, [Territory.code], args, descending=False)
        areas = territories.index(now).areas
        open_jobs = queries.open_by_territory([one.id for one in listed.rows])
        tray = _tray({"limit": _TRAY_SHOWN})
        return render_template(
            "territories.html", territories=listed.rows, areas=areas, jobs=open_jobs, args=args, now=now,
            next=further(listed.next), tray=tray, may_edit=_may_edit(),
        )  # fmt: skip


@pages.get("/territories/tray")
@page()
def tray() -> str:
    """The open jobs that lie in no territory, each with the reason; only for who sees all territories."""
    args = asked(paging.PageArgs)
    with reading():
        found = _tray(args)
        if found is None:
            raise Forbidden(_("What lies in no territory is shown to accounts for all territories only."))
        inside = jobs.now_inside(found.rows, utc_now())
        return render_template(
            "tray.html", tray=found, next=further(found.next), inside=inside, codes=territories.codes(inside.values())
        )


@pages.post("/territories/tray")
@page(*DISPATCHERS)
def place_again() -> Any:
    """Give jobs of the tray the territory that they lie in by now: the newest ones, some hundred at a time."""
    with transaction():
        found = _tray({"limit": _PLACED_AT_ONCE})
        if found is None:
            raise Forbidden(_("What lies in no territory is shown to accounts for all territories only."))
        placed = jobs.place_again(actor().source(utc_now()), found.rows)
    message = ngettext("%(num)s job has a territory now.", "%(num)s jobs have a territory now.", placed)
    return done(message, url_for("console.tray"))


def _tray(args: dict[str, Any]) -> paging.Page | None:
    if actor().scope is not None:
        return None
    return paging.fetch(queries.tray(), [Job.created_at, Job.id], args)


@pages.get("/territories/<id:territory_id>")
@page()
def territory(territory_id: str) -> str:
    """One territory: where it is, what lies over it, what is open in it, which crews are at home there."""
    now = utc_now()
    with reading():
        found = territories.get(actor(), territory_id)
        shape = territories.shape(found)
        at_home = set(crews.at_home(found.id))
        return render_template(
            "territory.html", territory=found, area=area_m2(shape.geometry), may_edit=_may_edit(), now=now,
            overlaps=_overlaps(shape), jobs=queries.open_by_territory([found.id])[found.id],
            crews=[crew for crew in crews.brief(actor()) if crew.id in at_home],
            entries=history.latest(_CHANGES, _SHOWN_CHANGES, entity_id=found.id),
            border=_light(shape.geometry),
        )  # fmt: skip


@pages.get("/territories/new")
@page(*SUPERVISORS)
def new_territory() -> str:
    """Draw a territory."""
    return _form(None, {})


@pages.post("/territories/new")
@page(*SUPERVISORS)
def add_territory() -> Any:
    """Add a territory drawn by hand."""
    try:
        with form(Drawn, entered(Drawn)) as body, transaction():
            added = _save(body, None)
            territory_id, name = added.id, added.name
    except Refused as refused:
        return _form(None, refused.faults), refused.status
    message = _("The territory %(name)s has been added. Jobs get it from now on.", name=name)
    return done(message, url_for("console.territory", territory_id=territory_id))


@pages.get("/territories/<id:territory_id>/edit")
@page(*SUPERVISORS)
def edit_territory(territory_id: str) -> str:
    """Change facts and border of a territory."""
    return _form(territory_id, {})


@pages.post("/territories/<id:territory_id>/edit")
@page(*SUPERVISORS)
def change_territory(territory_id: str) -> Any:
    """Change a territory, unless somebody else has meanwhile."""
    with reading():
        code = territories.get(actor(), territory_id).code
    seen = shown_rev()
    given = {name: value for name, value in entered(Drawn).items() if name != "rev"}
    try:
        with form(Drawn, {**given, "code": code}) as body, transaction():
            changed = _save(body, seen)
            name = changed.name
    except Refused as refused:
        if refused.status == 412:
            return _form(territory_id, {}, moved=seen), 412
        return _form(territory_id, refused.faults), refused.status
    message = _("The territory %(name)s has been changed. Jobs that have one already keep it.", name=name)
    return done(message, url_for("console.territory", territory_id=territory_id))


@pages.post("/territories/look")
@page(*SUPERVISORS)
def look_at_border() -> Any:
    """What a border that is being drawn comes to: its area, what had to be repaired, what it lies over. A piece."""
    try:
        with form(_Looked, entered(_Looked)) as body, reading():
            one = _foreseen({**body, "name": body["code"] or "-", "code": body["code"] or "-"})
            shape = one.shape
            assert shape is not None
            found = _overlaps(shape)
    except Refused as refused:
        return render_template("_border.html", faults=refused.faults), 200
    repaired = shapely.to_geojson(shape.geometry) if one.entry else None
    return render_template(
        "_border.html", faults={}, area=area_m2(shape.geometry), overlaps=found, entry=one.entry, repaired=repaired
    )


def _save(body: dict[str, Any], rev: int | None) -> Territory:
    one = _foreseen(body)
    if one.entry is not None and not body["repaired"]:
        reason = str(one.entry["problem"])
        faults = [{"field": "geometry", "reason": reason}, {"field": "repaired", "reason": str(one.entry["action"])}]
        raise Invalid(reason, errors=faults)
    return territories.save(actor(), _feature(body), utc_now(), rev=rev)


def _foreseen(body: dict[str, Any]) -> territories.Foreseen:
    """What would be stored.

    :raises Invalid: nothing could be; ``geometry`` says why.
    """
    collection = {"type": "FeatureCollection", "features": [_feature(body)]}
    (one,) = territories.foresee(actor(), collection, {"code_field": "code"})
    if one.shape is None:
        raise Invalid.field("geometry", str(one.entry and one.entry["problem"]))
    return one


def _feature(body: dict[str, Any]) -> dict[str, Any]:
    """The GeoJSON feature of a form; its border may be typed as a geometry, as a feature, or as a collection of one."""
    try:
        border = orjson.loads(body["geometry"])
    except orjson.JSONDecodeError as error:
        raise Invalid.field("geometry", f"not JSON: {error.msg} at character {error.pos}") from None
    if isinstance(border, dict) and border.get("type") == "FeatureCollection":
        features = border.get("features")
        if not isinstance(features, list) or len(features) != 1:
            raise Invalid.field("geometry", _("One feature is needed here; a file of several is imported."))
        border = features[0]
    if isinstance(border, dict) and border.get("type") == "Feature":
        border = border.get("geometry")
    properties = {name: body[name] for name in body if name not in ("geometry", "repaired")}
    return {"type": "Feature", "geometry": border, "properties": properties}


def _overlaps(shape: TerritoryShape) -> list[overlaps.Overlap]:
    """What of one's own territories lies over a shape; of others one is not told."""
    others = [one for one in territories.index(utc_now()).shapes if actor().sees(one.id)]
    return overlaps.overlaps(shape, others)


def _may_edit() -> bool:
    """As the API has it: importing needs a supervisor for all territories."""
    return may(*SUPERVISORS) and actor().scope is None


def _light(geometry: Any) -> dict[str, Any]:
    """A border to be looked at, without the points that nobody sees."""
    west, south, east, north = geometry.bounds
    plain: dict[str, Any] = orjson.loads(shapely.to_geojson(geometry.simplify(max(east - west, north - south) / 2000)))
    return plain


def _form(territory_id: str | None, faults: dict[str, str], *, moved: int | None = None) -> str:
    """``moved``: the revision that the visitor has changed, when there is a newer one by now."""
    if not _may_edit():
        raise Forbidden(_("Importing and drawing territories needs an account for all territories."))
    with reading():
        found = territories.get(actor(), territory_id) if territory_id else None
        entries = []
        if found is not None and moved is not None:
            most = min(max(1, found.rev - moved), _SHOWN_CHANGES)
            entries = history.latest(_CHANGES, most, entity_id=found.id)
        return render_template(
            "territory_form.html", territory=found, faults=faults, typed=typed(), moved=moved is not None,
            entries=entries, site_classes=SITE_CLASSES, longest=_LARGEST,
        )  # fmt: skip
