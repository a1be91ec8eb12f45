"""What maps show: territories, jobs, crews and their positions as layers of features (RFC 7946), in the caller's scope.

Each layer says which rows lie in a box and a span of time, in which order they are paged, and what a feature holds. No
feature holds a telephone number or a customer's name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import orjson
import shapely
from sqlalchemy import ColumnElement, Select, and_, case, exists, func, or_, select
from sqlalchemy.orm import InstrumentedAttribute

from fieldsvc.base.db import among, db
from fieldsvc.base.plain import plain
from fieldsvc.people import crews, positions, territories
from fieldsvc.people.actors import ADMIN, DISPATCHER, ROLES, SUPERVISOR, Actor
from fieldsvc.people.models import Crew, CrewPosition, Shift, Territory
from fieldsvc.work import queries
from fieldsvc.work.change import ENDED
from fieldsvc.work.models import Job

Box = tuple[float, float, float, float]
"""West, south, east, north in degrees; across the 180th meridian west is more than east."""

WHERE_CREWS_ARE = frozenset({DISPATCHER, SUPERVISOR, ADMIN})
"""Roles that may know it."""


class Wanted(NamedTuple):
    """Which features: all members narrow. ``span``: begin and end, both belong to it, None: open."""

    now: datetime
    kept_since: datetime
    box: Box | None = None
    span: tuple[datetime | None, datetime | None] | None = None
    id: str | None = None


@dataclass(frozen=True)
class Layer:
    """A collection of features.

    :param select: the rows of an actor that are wanted.
    :param order: what they are paged by; ``key``: of a row. ``scalars``: a row is one entity.
    :param features: of rows of one page, for an actor.
    :param counted: whether it is cheap to say how many there are in all.
    """

    name: str
    title: str
    about: str
    select: Callable[[Actor, Wanted], Select[Any]]
    order: Sequence[InstrumentedAttribute[Any]]
    features: Callable[[Actor, Sequence[Any], Wanted], list[dict[str, Any]]]
    key: Callable[[Any], Sequence[Any]]
    scalars: bool = True
    descending: bool = False
    counted: bool = True
    roles: frozenset[str] = frozenset(ROLES)
    extent: Callable[[Actor, datetime], Box | None] = lambda actor, now: None


def count(query: Select[Any]) -> int:
    """How many rows there are."""
    return int(db.session.scalar(select(func.count()).select_from(query.order_by(None).subquery())) or 0)


def of(actor: Actor) -> dict[str, Layer]:
    """The layers the actor may see, by name."""
    return {layer.name: layer for layer in _LAYERS if actor.role in layer.roles}


def _inside(lon: Any, lat: Any, box: Box | None) -> list[ColumnElement[bool]]:
    if box is None:
        return []
    west, south, east, north = box
    across = lon.between(west, east) if west <= east else or_(lon >= west, lon <= east)
    return [lat.between(south, north), across]


def _during(begin: Any, end: Any, wanted: Wanted) -> list[ColumnElement[bool]]:
    """The span from ``begin`` to ``end`` (NULL: it has not ended) meets the one that is wanted."""
    since, until = wanted.span or (None, None)
    found: list[ColumnElement[bool]] = []
    if since is not None:
        found.append(or_(end.is_(None), end >= since))
    if until is not None:
        found.append(begin <= until)
    return found


def _point(lon: float | None, lat: float | None) -> dict[str, Any] | None:
    return None if lon is None or lat is None else {"type": "Point", "coordinates": [lon, lat]}


def _feature(ident: str, geometry: Any, properties: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "Feature", "id": ident, "geometry": geometry, "properties": dict(properties)}


def _territories(actor: Actor, wanted: Wanted) -> Select[Any]:
    query: Select[Any] = select(Territory).where(
        Territory.valid_from <= wanted.now, or_(Territory.valid_to.is_(None), Territory.valid_to > wanted.now)
    )
    if actor.scope is not None:
        query = query.where(among(Territory.id, actor.scope))
    if wanted.id is not None:
        query = query.where(Territory.id == wanted.id)
    if wanted.box is not None:
        query = query.where(among(Territory.id, _touched(wanted.box, wanted.now)))
    return query.where(*_during(Territory.valid_from, Territory.valid_to, wanted))


def _touched(box: Box, now: datetime) -> list[str]:
    """The ids of the territories that lie at least partly in a box."""
    west, south, east, north = box
    boxes = [shapely.box(west, south, east, north)]
    if west > east:
        boxes = [shapely.box(west, south, 180, north), shapely.box(-180, south, east, north)]
    shapes = territories.index(now).shapes
    hit = shapely.intersects(shapely.union_all(boxes), [shape.geometry for shape in shapes])
    return [shape.id for shape, yes in zip(shapes, hit, strict=True) if yes]


def _territory_extent(actor: Actor, now: datetime) -> Box | None:
    bounds = [shape.geometry.bounds for shape in territories.index(now).shapes if actor.sees(shape.id)]
    if not bounds:
        return None
    west, south, east, north = zip(*bounds, strict=True)
    return min(west), min(south), max(east), max(north)


_TERRITORY = "code name name_local level site_class priority valid_from valid_to rev".split()


def _territory_features(actor: Actor, rows: Sequence[Territory], wanted: Wanted) -> list[dict[str, Any]]:
    return [
        _feature(row.id, orjson.loads(row.geometry), {name: plain(getattr(row, name)) for name in _TERRITORY})
        for row in rows
    ]


def _jobs(actor: Actor, wanted: Wanted) -> Select[Any]:
    query: Select[Any] = queries.jobs(queries.Wanted(bbox=wanted.box), actor.scope)
    if wanted.id is not None:
        query = query.where(Job.id == wanted.id)
    ended = func.coalesce(Job.completed_at, case((Job.status.in_(ENDED), Job.updated_at)))
    return query.where(*_during(func.coalesce(Job.reported_at, Job.created_at), ended, wanted))


_JOB = (
    "number kind status priority title address site_class territory_id crew_id planned_order planned_start planned_end "
    "pinned service_minutes window_start window_end due_at customers_affected hazards tags reported_at created_at "
    "completed_at updated_at rev"
).split()


def _job_features(actor: Actor, rows: Sequence[Job], wanted: Wanted) -> list[dict[str, Any]]:
    return [
        _feature(row.id, _point(row.lon, row.lat), {name: plain(getattr(row, name)) for name in _JOB}) for row in rows
    ]


def _on_duty(wanted: Wanted) -> list[ColumnElement[bool]]:
    if wanted.span is None:
        return []
    return [exists().where(and_(Shift.crew_id == Crew.id, *_during(Shift.starts_at, Shift.ends_at, wanted)))]


def _crews(actor: Actor, wanted: Wanted) -> Select[Any]:
    query: Select[Any] = select(Crew).where(*_inside(Crew.base_lon, Crew.base_lat, wanted.box), *_on_duty(wanted))
    return _these(query, actor, wanted)


def _these(query: Select[Any], actor: Actor, wanted: Wanted) -> Select[Any]:
    if (visible := crews.visible_ids(actor)) is not None:
        query = query.where(among(Crew.id, visible))
    return query if wanted.id is None else query.where(Crew.id == wanted.id)


_CREW = "code name name_local skills equipment capacity territory_ids active rev".split()


def _crew_features(actor: Actor, rows: Sequence[Crew], wanted: Wanted) -> list[dict[str, Any]]:
    """At their bases. Who may know where they are finds that in the properties as well."""
    known = actor.role in WHERE_CREWS_ARE
    last = positions.last([row.id for row in rows], wanted.kept_since) if known else {}
    found = []
    for row in rows:
        properties = {name: plain(getattr(row, name)) for name in _CREW}
        if known:
            at = last.get(row.id)
            properties |= {"position_lon": at and at.lon, "position_lat": at and at.lat}
            properties |= {"position_at": plain(at.until_at) if at else None}
        found.append(_feature(row.id, _point(row.base_lon, row.base_lat), properties))
    return found


def _positions(actor: Actor, wanted: Wanted) -> Select[Any]:
    query = positions.newest(None, wanted.kept_since)
    query = query.where(*_inside(CrewPosition.lon, CrewPosition.lat, wanted.box))
    return _these(query.where(*_during(CrewPosition.at, CrewPosition.until_at, wanted)), actor, wanted)


def _position_features(actor: Actor, rows: Sequence[Any], wanted: Wanted) -> list[dict[str, Any]]:
    found = []
    for row in rows:
        crew, position = row.Crew, row.CrewPosition
        properties = {"crew_code": crew.code, "crew_name": crew.name, "accuracy_m": position.accuracy_m}
        properties |= {"at": plain(position.at), "until_at": plain(position.until_at)}
        found.append(_feature(crew.id, _point(position.lon, position.lat), properties))
    return found


_LAYERS = (
    Layer(
        "territories",
        "Territories",
        "Areas of responsibility that are valid now. Time: their validity.",
        _territories,
        (Territory.code,),
        _territory_features,
        lambda row: [row.code],
        extent=_territory_extent,
    ),
    Layer(
        "jobs",
        "Jobs",
        "All jobs, the newest first. Time: from when they were reported until they ended.",
        _jobs,
        (Job.created_at, Job.id),
        _job_features,
        lambda row: [row.created_at, row.id],
        descending=True,
        counted=False,
    ),
    Layer(
        "crews",
        "Crews",
        "Crews at their bases. Time: their shifts.",
        _crews,
        (Crew.code,),
        _crew_features,
        lambda row: [row.code],
    ),
    Layer(
        "positions",
        "Where crews are",
        "The last known position of each crew. Time: when it was there.",
        _positions,
        (Crew.code,),
        _position_features,
        lambda row: [row.Crew.code],
        scalars=False,
        roles=WHERE_CREWS_ARE,
    ),
)
