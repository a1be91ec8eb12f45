"""Territories: imported from GeoJSON with a report, and the index that finds the territory of a point."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson
import shapely
from shapely.geometry import MultiPolygon, Polygon
from sqlalchemy import func, select

from fieldsvc.base.clock import new_id
from fieldsvc.base.db import db
from fieldsvc.base.errors import Forbidden, NotFound
from fieldsvc.feed import publish
from fieldsvc.geo.territories import Located, TerritoryIndex, TerritoryShape, read_geojson
from fieldsvc.history.record import record
from fieldsvc.people.actors import Actor
from fieldsvc.people.crews import territory_doc
from fieldsvc.people.models import Territory

_FACTS = ("code", "name", "name_local", "level", "site_class", "priority")


@dataclass
class Report:
    """What an import did. ``entries`` tells of every feature that was repaired or refused, by its index in the file."""

    created: int = 0
    updated: int = 0
    unchanged: int = 0
    repaired: int = 0
    refused: int = 0
    entries: list[dict[str, Any]] = field(default_factory=list)


def import_geojson(
    actor: Actor, source: bytes | str | Mapping[str, Any], mapping: Mapping[str, Any], now: datetime
) -> Report:
    """Add or change territories by their code. A file that was imported before changes nothing.

    :param mapping: keyword arguments of :func:`fieldsvc.geo.territories.read_geojson`, such as ``code_field``.
    :raises Invalid: the whole file cannot be used.
    :raises Forbidden: the actor does not see all territories, so could not say which are new.
    """
    if actor.scope is not None:
        raise Forbidden("importing territories needs an account for all territories")
    reading = read_geojson(source, **mapping)
    report = Report(entries=[dict(entry) for entry in reading.report])
    there = {
        territory.code: territory
        for territory in db.session.scalars(
            select(Territory).where(Territory.code.in_([shape.code for shape in reading.shapes])).with_for_update()
        )
    }
    for shape in reading.shapes:
        _store(actor, there.get(shape.code), shape, now, report)
    report.repaired = sum(entry["severity"] == "repaired" for entry in report.entries)
    report.refused = sum(entry["severity"] == "refused" for entry in report.entries)
    db.session.flush()
    return report


def _store(actor: Actor, territory: Territory | None, shape: TerritoryShape, now: datetime, report: Report) -> None:
    facts = {
        "code": shape.code,
        "name": shape.name,
        "name_local": shape.name_local,
        "level": shape.level,
        "site_class": shape.site_class,
        "priority": shape.priority,
    }
    geometry = shapely.to_geojson(shape.geometry)
    source = actor.source(now)
    if territory is None:
        territory = Territory(id=new_id(), geometry=geometry, valid_from=now, rev=1, **facts)
        db.session.add(territory)
        record(source, "territory.imported", "territory", territory.id, after=facts, territory_id=territory.id)
        report.created += 1
        return
    before = {name: getattr(territory, name) for name in _FACTS}
    changed = [name for name in _FACTS if before[name] != facts[name]]
    moved = territory.geometry != geometry
    if not changed and not moved:
        report.unchanged += 1
        return
    for name in changed:
        setattr(territory, name, facts[name])
    territory.geometry = geometry
    territory.rev += 1
    record(
        source,
        "territory.imported",
        "territory",
        territory.id,
        before={name: before[name] for name in changed},
        after={name: facts[name] for name in changed},
        territory_id=territory.id,
        note="boundary changed" if moved else None,
    )
    publish.refresh("territory", territory.id, territory.rev, territory_doc(territory))
    report.updated += 1


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
                version, TerritoryIndex([_shape(row) for row in db.session.scalars(select(Territory).where(valid))])
            )
            if len(_cache) >= _MOST_CACHED:
                _cache.clear()
            _cache[key] = cached
    return cached.index


def _shape(row: Territory) -> TerritoryShape:
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
