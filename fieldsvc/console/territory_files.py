"""Importing territories from a file: first what would become of each feature, then, once confirmed, the import itself.

Nothing is kept between the two: the browser holds the file and sends it again. What was shown is named by a digest of
the file, of the way it is read, and of the outcome, so that what is confirmed is what was seen.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from typing import Any

import orjson
import shapely
from flask import current_app, make_response, render_template, request, url_for
from flask_babel import gettext as _

from fieldsvc.api.schemas import Text
from fieldsvc.api.territories import ImportMapping
from fieldsvc.base.clock import utc_now
from fieldsvc.base.db import reading, transaction
from fieldsvc.base.errors import Forbidden, Invalid
from fieldsvc.console.frame import SUPERVISORS, Refused, actor, done, entered, form, page, pages, typed
from fieldsvc.geo.territories import SITE_CLASSES
from fieldsvc.geo.territory_file import Contents, contents
from fieldsvc.people import territories
from fieldsvc.people.territories import FATES, Foreseen

FIELDS = ("code", "name", "name_local", "site_class", "priority", "level")
_SHOWN = 300
"""So many features are listed; refused and repaired ones come first."""
_RAW_POINTS = 20_000
"""So many points are drawn of borders as they stood before their repair, of all of them together."""


class _Confirmed(ImportMapping):
    seen = Text(64, required=True)


@dataclass(frozen=True)
class _Preview:
    """What would become of a file. ``seen`` names exactly this."""

    contents: Contents
    foreseen: list[Foreseen]
    seen: str

    @property
    def counts(self) -> Counter[str]:
        counts = Counter(one.fate for one in self.foreseen)
        counts["repaired"] = sum(one.entry is not None and one.fate != "refused" for one in self.foreseen)
        return counts

    def code(self, one: Foreseen, chosen: str | None) -> str:
        """The code of a feature; of one that is refused, what stands in the file for it."""
        if one.shape is not None:
            return one.shape.code
        feature = self.contents.features[one.index]
        properties = feature.get("properties") if isinstance(feature, dict) else None
        name = chosen or self.contents.guessed.get("code")
        value = properties.get(name) if isinstance(properties, dict) and name else None
        return str(value)[:60] if isinstance(value, str | int) else ""

    @property
    def listed(self) -> list[Foreseen]:
        return sorted(self.foreseen, key=lambda one: (one.fate != "refused", one.entry is None, one.index))[:_SHOWN]


@pages.get("/territories/import")
@page(*SUPERVISORS)
def import_page() -> str:
    """Choose a file."""
    return _page({})


@pages.post("/territories/import/check")
@page(*SUPERVISORS)
def check_file() -> Any:
    """What importing the file would do, feature by feature. Nothing is written."""
    try:
        given = {name: value for name, value in entered(ImportMapping).items() if name != "seen"}
        with form(ImportMapping, given) as mapping, reading():
            return _answer({}, _preview(_file(), mapping))
    except Refused as refused:
        return _answer(refused.faults, status=refused.status)


@pages.post("/territories/import")
@page(*SUPERVISORS)
def import_file() -> Any:
    """Import the file, if that does what was shown; else show again what it would do by now."""
    try:
        with form(_Confirmed) as body, transaction():
            seen = body.pop("seen")
            shown = _preview(_file(), body)
            if shown.seen != seen:
                return _answer({}, shown, status=409, moved=True)
            report = territories.import_geojson(actor(), shown.contents.collection, body, utc_now())
    except Refused as refused:
        return _answer(refused.faults, status=refused.status)
    return done(
        _(
            "Imported: %(created)s new, %(updated)s changed, %(unchanged)s as they were, %(repaired)s repaired, "
            "%(refused)s refused.",
            created=report.created, updated=report.updated, unchanged=report.unchanged, repaired=report.repaired,
            refused=report.refused,
        ),
        url_for("console.territories"),
    )  # fmt: skip


def _file() -> bytes:
    sent = request.files.get("file")
    if sent is None or not sent.filename:
        raise Invalid.field("file", _("Choose a file."))
    content: bytes = sent.read()
    if not content.strip():
        raise Invalid.field("file", _("The file is empty."))
    return content


def _preview(source: bytes, mapping: dict[str, Any]) -> _Preview:
    """:raises Invalid: the whole file cannot be used; ``file`` says why."""
    try:
        found = contents(source)
        foreseen = territories.foresee(actor(), found.collection, mapping)
    except Invalid as error:
        reasons = [fault["reason"] for fault in error.errors] or [error.detail]
        raise Invalid.field("file", reasons[0]) from None
    told = [(one.fate, one.territory.rev if one.territory else 0, one.index) for one in foreseen]
    digest = hashlib.sha256(source)
    digest.update(orjson.dumps([sorted(mapping.items()), told]))
    return _Preview(found, foreseen, digest.hexdigest())


def _answer(faults: dict[str, str], shown: _Preview | None = None, *, status: int = 200, moved: bool = False) -> Any:
    """The piece below the form for htmx, else the whole page."""
    if request.headers.get("HX-Request"):
        piece = render_template("_import_preview.html", faults=faults, typed=typed(), **_facts(shown), moved=moved)
        # A piece is put in its place with 422 as well, and with no other status that tells of a fault.
        return make_response(piece, 200 if status < 400 else 422)
    return make_response(_page(faults, shown, moved=moved), status)


def _page(faults: dict[str, str], shown: _Preview | None = None, *, moved: bool = False) -> str:
    if actor().scope is not None:
        raise Forbidden(_("Importing and drawing territories needs an account for all territories."))
    largest = current_app.extensions["fieldsvc.settings"].request_bytes
    return render_template(
        "territory_import.html", faults=faults, typed=typed(), largest=largest, moved=moved, **_facts(shown)
    )


def _facts(shown: _Preview | None) -> dict[str, Any]:
    facts: dict[str, Any] = {"shown": shown, "fields": FIELDS, "fates": FATES, "site_classes": SITE_CLASSES}
    if shown is not None:
        facts["drawing"] = _drawing(shown)
        facts["drawn"] = {one["properties"]["index"] for one in facts["drawing"]["features"]}
    return facts


def _drawing(shown: _Preview) -> dict[str, Any]:
    """GeoJSON of what would be stored; beside it, of what is repaired or moved, how it is or stood before. Those are
    drawn as finely as one looks at them one by one, the others as they look all together.
    """
    features: list[dict[str, Any]] = []
    bounds = [one.shape.geometry.bounds for one in shown.listed if one.shape is not None]
    coarse = _pixel([min(one[0] for one in bounds), 0, max(one[2] for one in bounds), 0]) if bounds else 0.0
    left = _RAW_POINTS
    for one in shown.listed:
        if one.shape is not None:
            fine = one.entry is not None or one.moved
            features.append(_feature(one, "after", _plain(one.shape.geometry, None if fine else coarse)))
        if one.entry is not None and (raw := shown.contents.geometry(one.index, left)) is not None:
            left -= sum(len(ring) for rings in raw["coordinates"] for ring in rings)
            features.append(_feature(one, "raw", raw))
        if one.moved and one.territory is not None:
            features.append(_feature(one, "before", _plain(shapely.from_geojson(one.territory.geometry), None)))
    return {"type": "FeatureCollection", "features": features}


def _feature(one: Foreseen, side: str, geometry: Any) -> dict[str, Any]:
    name = one.shape.name if one.shape else one.entry["name"] if one.entry else ""
    properties = {"index": one.index, "side": side, "fate": one.fate, "name": name}
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def _plain(geometry: Any, pixel: float | None) -> Any:
    """GeoJSON without the points that nobody sees; ``pixel``: in degrees, None: of the geometry drawn large."""
    simple = geometry.simplify(_pixel(geometry.bounds) if pixel is None else pixel, preserve_topology=False)
    return orjson.loads(shapely.to_geojson(geometry.envelope if simple.is_empty else simple))


def _pixel(bounds: Any) -> float:
    west, south, east, north = bounds
    return max(float(east - west), float(north - south)) / 1000
