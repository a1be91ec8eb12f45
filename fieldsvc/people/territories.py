"""Territories: imported from GeoJSON with a report, and the index that finds the territory of a point."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

import orjson
import shapely
from shapely.geometry import MultiPolygon, Polygon
from sqlalchemy import func, select
from sqlalchemy.orm import defer

from fieldsvc.base.clock import new_id
from fieldsvc.base.db import among, db
from fieldsvc.base.errors import Conflict, FieldsvcError, Forbidden, Invalid, NotFound
from fieldsvc.feed import publish
from fieldsvc.geo.territories import Located, TerritoryIndex, TerritoryShape, read_geojson
from fieldsvc.history.record import record
from fieldsvc.people.actors import Actor
from fieldsvc.people.crews import territory_doc
from fieldsvc.people.models import Territory

_FACTS = ("code", "name", "name_local", "level", "site_class", "priority")
FATES = ("created", "updated", "unchanged", "refused")


@dataclass
class Report:
    """What an import did. ``entries`` tells of every feature that was repaired or refused, by its index in the file."""

    created: int = 0
    updated: int = 0
    unchanged: int = 0
    repaired: int = 0
    refused: int = 0
    entries: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Foreseen:
    """What importing does, or would do, with one feature of a file.

    ``index`` is its place in the file, from 0. ``fate``: ``created``, ``updated``, ``unchanged`` or ``refused``.
    ``entry`` says what had to be repaired, or why it is refused; ``shape`` is what is left to be stored, None when
    refused. ``territory`` is the one on record, ``changed`` the facts that differ from it, ``moved`` whether its
    border does.
    """

    index: int
    fate: str
    entry: Mapping[str, Any] | None
    shape: TerritoryShape | None
    territory: Territory | None = None
    changed: tuple[str, ...] = ()
    moved: bool = False


def import_geojson(
    actor: Actor, source: bytes | str | Mapping[str, Any], mapping: Mapping[str, Any], now: datetime
) -> Report:
    """Add or change territories by their code. A file that was imported before changes nothing.

    :param mapping: keyword arguments of :func:`fieldsvc.geo.territories.read_geojson`, such as ``code_field``.
    :raises Invalid: the whole file cannot be used.
    :raises Forbidden: the actor does not see all territories, so could not say which are new.
    """
    foreseen = foresee(actor, source, mapping, lock=True)
    for one in foreseen:
        _store(actor, one, now, "territory.imported")
    db.session.flush()
    return Report(
        **{fate: sum(one.fate == fate for one in foreseen) for fate in FATES},
        repaired=sum(one.entry is not None and one.fate != "refused" for one in foreseen),
        entries=[dict(one.entry) for one in foreseen if one.entry is not None],
    )


def foresee(
    actor: Actor, source: bytes | str | Mapping[str, Any], mapping: Mapping[str, Any], *, lock: bool = False
) -> list[Foreseen]:
    """What :func:`import_geojson` would do with each feature of a file, in its order. Nothing is written.

    :raises Invalid: the whole file cannot be used.
    :raises Forbidden: as :func:`import_geojson`.
    """
    if actor.scope is not None:
        raise Forbidden("importing territories needs an account for all territories")
    reading = read_geojson(source, **mapping)
    entries = {entry["index"]: entry for entry in reading.report}
    refused = {index for index, entry in entries.items() if entry["severity"] == "refused"}
    places = (index for index in range(len(reading.shapes) + len(refused)) if index not in refused)
    wanted = select(Territory).where(among(Territory.code, [shape.code for shape in reading.shapes]))
    there = {one.code: one for one in db.session.scalars(wanted.with_for_update() if lock else wanted)}
    found = [Foreseen(index, "refused", entries[index], None) for index in refused]
    for index, shape in zip(places, reading.shapes, strict=True):
        found.append(_compared(index, entries.get(index), shape, there.get(shape.code)))
    return sorted(found, key=lambda one: one.index)


def _compared(
    index: int, entry: Mapping[str, Any] | None, shape: TerritoryShape, territory: Territory | None
) -> Foreseen:
    if territory is None:
        return Foreseen(index, "created", entry, shape)
    changed = tuple(name for name in _FACTS if getattr(territory, name) != getattr(shape, name))
    moved = territory.geometry != shapely.to_geojson(shape.geometry)
    return Foreseen(index, "updated" if changed or moved else "unchanged", entry, shape, territory, changed, moved)


def save(actor: Actor, feature: Mapping[str, Any], now: datetime, *, rev: int | None) -> Territory:
    """Add one territory (``rev`` None), or change the one with its code: a GeoJSON feature drawn or typed by hand. It
    is read, repaired and stored in the same way as a file that holds it alone.

    :param rev: the revision the change is meant for.
    :raises Invalid: the feature cannot be used; ``/geometry`` says why.
    :raises Conflict: ``already-exists`` for the code of a new one.
    :raises FieldsvcError: ``precondition-failed``, with ``current_rev``, when it has been changed since.
    :raises Forbidden: as :func:`import_geojson`.
    """
    (one,) = foresee(actor, {"type": "FeatureCollection", "features": [feature]}, {"code_field": "code"}, lock=True)
    if one.shape is None:
        raise Invalid.field("/geometry", str(one.entry and one.entry["problem"]))
    if rev is None and one.territory is not None:
        errors = [{"field": "/code", "reason": "there is a territory with this code already"}]
        raise Conflict(f"there is a territory {one.shape.code} already", code="already-exists", errors=errors)
    if rev is not None and one.territory is None:
        raise NotFound("territory", one.shape.code)
    if one.territory is not None and one.territory.rev != rev:
        current = one.territory.rev
        raise FieldsvcError(
            "precondition-failed", f"this is at revision {current} by now: read it again", current_rev=current
        )
    found = _store(actor, one, now, "territory.created" if rev is None else "territory.changed")
    assert found is not None
    db.session.flush()
    return found


def _store(actor: Actor, one: Foreseen, now: datetime, action: str) -> Territory | None:
    """Write what is foreseen; the territory as it is then, None when the feature is refused."""
    shape, territory = one.shape, one.territory
    if shape is None or one.fate == "unchanged":
        return territory
    facts = {name: getattr(shape, name) for name in _FACTS}
    geometry = shapely.to_geojson(shape.geometry)
    source = actor.source(now)
    if territory is None:
        territory = Territory(id=new_id(), geometry=geometry, valid_from=now, rev=1, **facts)
        db.session.add(territory)
        record(source, action, "territory", territory.id, after=facts, territory_id=territory.id)
        return territory
    before = {name: getattr(territory, name) for name in one.changed}
    for name in one.changed:
        setattr(territory, name, facts[name])
    territory.geometry = geometry
    territory.rev += 1
    record(
        source,
        action,
        "territory",
        territory.id,
        before=before,
        after={name: facts[name] for name in one.changed},
        territory_id=territory.id,
        note="boundary changed" if one.moved else None,
    )
    publish.refresh("territory", territory.id, territory.rev, territory_doc(territory))
    return territory


@dataclass(frozen=True)
class _Cached:
    version: tuple[Any, ...]
    index: TerritoryIndex


_cache: dict[str, _Cached] = {}
_building = threading.Lock()
_MOST_CACHED = 8


def index(now: datetime) -> TerritoryIndex:
    """The index over the territories valid at ``now``; kept per process until a territory changes.

    Whether one has is seen by one cheap query: ids never repeat and every change raises a revision.
    """
    valid = (Territory.valid_from <= now) & (Territory.valid_to.is_(None) | (Territory.valid_to > now))
    version = tuple(
        db.session.execute(select(func.count(), func.sum(Territory.rev), func.max(Territory.id)).where(valid)).one()
    )
    key = str(db.session.get_bind().engine.url)
    cached = _cache.get(key)
    if cached is not None and cached.version == version:
        return cached.index
    with _building:
        cached = _cache.get(key)
        if cached is None or cached.version != version:
            cached = _Cached(
                version, TerritoryIndex([shape(row) for row in db.session.scalars(select(Territory).where(valid))])
            )
            if len(_cache) >= _MOST_CACHED:
                _cache.clear()
            _cache[key] = cached
    return cached.index


def shape(row: Territory) -> TerritoryShape:
    """A territory as the index and its neighbours see it."""
    geometry = shapely.from_geojson(row.geometry)
    if not isinstance(geometry, Polygon | MultiPolygon):
        raise TypeError(f"territory {row.id} has no area")
    return TerritoryShape(
        id=row.id,
        code=row.code,
        name=row.name,
        name_local=row.name_local,
        level=row.level,
        site_class=row.site_class,
        priority=row.priority,
        geometry=geometry,
    )


def locate(lon: float, lat: float, now: datetime) -> Located:
    """The territory of a point.

    :raises Invalid: not a place on earth.
    """
    return index(now).locate(lon, lat)


def locate_for(actor: Actor, lon: float, lat: float, now: datetime) -> dict[str, Any]:
    """The answer for a point as ``actor`` may see it: a territory outside of the scope is not named."""
    if (lon, lat) == (0, 0):  # what a form that was left empty sends; the index refuses it
        located = Located(None, "outside", None, (), "0/0 is taken for a point left out, not for a place")
    else:
        located = locate(lon, lat, now)
    candidates = [territory_id for territory_id in located.candidates if actor.sees(territory_id)]
    chosen = located.territory_id if located.territory_id is not None and actor.sees(located.territory_id) else None
    territory = db.session.get(Territory, chosen) if chosen else None
    reason = located.reason
    if located.territory_id is not None and territory is None:
        reason = "it lies outside of your territories"
    elif reason is not None and actor.scope is not None and located.distance_m is not None:
        reason = "it lies outside of every territory"
    return {
        "territory": None if territory is None else territory_doc(territory),
        "how": located.how,
        "distance_m": located.distance_m,
        "candidates": candidates,
        "reason": reason,
    }


def get(actor: Actor, territory_id: str) -> Territory:
    """A territory in the actor's scope.

    :raises NotFound: there is none, or it is out of scope.
    """
    territory = db.session.get(Territory, territory_id)
    if territory is None or not actor.sees(territory.id):
        raise NotFound("territory", territory_id)
    return territory


class Brief(NamedTuple):
    """A territory without its border."""

    id: str
    code: str
    name: str
    name_local: str | None


WITHOUT_BORDER = defer(Territory.geometry, raiseload=True)
"""For lists: a border may be longer than all the rest."""
_BRIEF = (Territory.id, Territory.code, Territory.name, Territory.name_local)
_MOST_BRIEF = 5000


def brief(actor: Actor) -> list[Brief]:
    """The territories in the actor's scope, by code: to choose from."""
    wanted = select(*_BRIEF).order_by(Territory.code).limit(_MOST_BRIEF)
    if actor.scope is not None:
        wanted = wanted.where(among(Territory.id, actor.scope))
    return [Brief(*row) for row in db.session.execute(wanted)]


def codes(ids: Iterable[str]) -> dict[str, str]:
    """Id -> code of those of ``ids`` that exist."""
    rows = db.session.execute(select(Territory.id, Territory.code).where(among(Territory.id, ids)))
    return {row.id: row.code for row in rows}


def ids_of_codes(codes: list[str]) -> list[str]:
    """The ids of territories by their codes.

    :raises NotFound: one of them is no code of a territory.
    """
    rows = db.session.execute(select(Territory.code, Territory.id).where(Territory.code.in_(codes)))
    found = {row.code: row.id for row in rows}
    missing = [code for code in codes if code not in found]
    if missing:
        raise NotFound("territory", missing[0])
    return [found[code] for code in codes]


def as_feature(territory: Territory) -> dict[str, Any]:
    """RFC 7946 feature of a territory."""
    properties = {name: getattr(territory, name) for name in _FACTS} | {"rev": territory.rev}
    return {
        "type": "Feature",
        "id": territory.id,
        "geometry": orjson.loads(territory.geometry),
        "properties": properties,
    }
