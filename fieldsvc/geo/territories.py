"""Territories: read from GeoJSON with a report of every repair and refusal, and found by point.

A file is read feature by feature: one bad feature is refused with its reason and stops no other. Nothing is mended
silently. Whole files are refused only when no feature could be trusted: not GeoJSON, or not in longitude/latitude.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple, NotRequired, TypedDict

import numpy as np
import orjson
import shapely
from numpy.typing import NDArray
from pyproj import Geod
from shapely.geometry import MultiPolygon, Point, Polygon
from shapely.geometry.base import BaseGeometry

from fieldsvc.base.errors import Invalid
from fieldsvc.geo.crs import WGS84_NAMES, check_lonlat, lonlat_fault

SITE_CLASSES = ("urban", "rural", "remote")
DEFAULT_TOLERANCE_M = 500.0

_GEOD = Geod(ellps="WGS84")
_DEGREE_M = 111_000.0
_LEAST_DEGREE_M = 110_000.0
"""Nowhere is a degree of latitude shorter."""
_HALF_WAY = 180.0
"""An edge over more degrees of longitude is meant to go the other way round, over the 180th meridian; one over all 360
runs along a pole."""
_CODE = re.compile(r"[^\x00-\x1f\x7f]{1,60}\Z")
_TEXT = re.compile(r"[^\x00-\x1f\x7f]{1,200}\Z")
GUESSES: dict[str, tuple[str, ...]] = {
    "code": ("code", "boro_cd", "Precinct", "precinct", "nc_id", "id"),
    "name": ("name", "NAME", "Name"),
    "name_local": ("name_local", "name_zh", "name:zh"),
    "site_class": ("site_class",),
    "priority": ("priority",),
    "level": ("level",),
}


@dataclass(frozen=True)
class TerritoryShape:
    """One territory: a valid polygon or multipolygon in WGS 84 degrees. ``priority``: the higher one wins an overlap;
    ``level``: 1 is the finest division.
    """

    id: str
    code: str
    name: str
    name_local: str | None
    level: int
    site_class: str
    priority: int
    geometry: Polygon | MultiPolygon


class ReportEntry(TypedDict):
    """What became of one feature that could not be taken as it stood. ``index`` counts from 0."""

    index: int
    name: str
    severity: str
    problem: str
    action: str
    area_change_m2: NotRequired[float]


class Reading(NamedTuple):
    """The usable territories of a file, in its order, and what was repaired or refused."""

    shapes: list[TerritoryShape]
    report: list[ReportEntry]


class _Refused(Exception):
    """This feature cannot be used; the text says why."""


def read_geojson(
    source: bytes | str | Mapping[str, Any],
    *,
    code_field: str | None = None,
    name_field: str | None = None,
    name_local_field: str | None = None,
    site_class_field: str | None = None,
    priority_field: str | None = None,
    level_field: str | None = None,
    level: int = 1,
    site_class: str = "urban",
    priority: int = 0,
) -> Reading:
    """Territories of a GeoJSON FeatureCollection (RFC 7946), with the repairs it needed.

    :param code_field: the property holding the code, and so on for the others; without one, the usual names are tried
        (``code``, ``boro_cd``, ``Precinct``, ``nc_id``; ``name`` …), then the feature's own ``id``, then the name.
    :param level: used, like ``site_class`` and ``priority``, where a feature does not say.
    :returns: shapes whose ``id`` is their code, and report entries with ``severity`` ``repaired`` or ``refused``.
    :raises Invalid: the whole file is unusable: not JSON, not a FeatureCollection, or in another coordinate system.
    """
    if site_class not in SITE_CLASSES:
        raise Invalid.field("site_class", f"must be one of {', '.join(SITE_CLASSES)}")
    features = features_of(source)
    fields = {
        "code": code_field,
        "name": name_field,
        "name_local": name_local_field,
        "site_class": site_class_field,
        "priority": priority_field,
        "level": level_field,
    }
    defaults = {"level": level, "site_class": site_class, "priority": priority}
    shapes: list[TerritoryShape] = []
    report: list[ReportEntry] = []
    seen: dict[str, int] = {}
    for index, feature in enumerate(features):
        label = f"feature {index}"
        try:
            facts = _facts(feature, fields, defaults)
            label = str(facts["name"])
            if facts["code"] in seen:
                raise _Refused(f"code {facts['code']} is taken by feature {seen[facts['code']]} already")
            geometry, repair = _geometry(feature.get("geometry"))
        except _Refused as refused:
            report.append(_entry(index, label, "refused", str(refused), "left out"))
            continue
        seen[facts["code"]] = index
        shapes.append(TerritoryShape(id=facts["code"], geometry=geometry, **facts))
        if repair:
            entry = _entry(index, label, "repaired", repair[0], repair[1])
            entry["area_change_m2"] = repair[2]
            report.append(entry)
    return Reading(shapes, report)


def area_m2(geometry: BaseGeometry) -> float:
    """Area on the ellipsoid, in square metres, whatever way the rings turn."""
    polygons = [geometry] if isinstance(geometry, Polygon) else list(getattr(geometry, "geoms", []))
    total = 0.0
    for polygon in polygons:
        rings = [abs(_GEOD.geometry_area_perimeter(Polygon(r))[0]) for r in (polygon.exterior, *polygon.interiors)]
        total += rings[0] - sum(rings[1:]) if rings else 0.0
    return total


def _entry(index: int, name: str, severity: str, problem: str, action: str) -> ReportEntry:
    return {"index": index, "name": name, "severity": severity, "problem": problem, "action": action}


def features_of(source: bytes | str | Mapping[str, Any]) -> list[Any]:
    """The features of a GeoJSON file as they stand, none of them looked at yet.

    :raises Invalid: not JSON, not a FeatureCollection, or in another coordinate system.
    """
    document: Any = source
    if isinstance(source, bytes | str):
        try:
            document = orjson.loads(source.removeprefix(b"\xef\xbb\xbf") if isinstance(source, bytes) else source)
        except orjson.JSONDecodeError as error:
            raise Invalid(f"not JSON: {error.msg} at character {error.pos}") from None
    kind = document.get("type") if isinstance(document, Mapping) else None
    if kind != "FeatureCollection":
        got = f"a bare {kind}" if isinstance(kind, str) and len(kind) < 40 else "something else"
        raise Invalid.field("/type", f"a GeoJSON FeatureCollection is needed, this is {got}")
    _check_crs(document.get("crs"))
    features = document.get("features")
    if not isinstance(features, list):
        raise Invalid.field("/features", "must be a list of features")
    return features


def _check_crs(crs: Any) -> None:
    """RFC 7946 knows longitude/latitude only; the member of older files may say the same thing, nothing else."""
    if crs is None:
        return
    properties = crs.get("properties") if isinstance(crs, Mapping) else None
    name = properties.get("name") if isinstance(properties, Mapping) else None
    if not isinstance(name, str) or name.strip().upper() not in WGS84_NAMES:
        said = name[:60] if isinstance(name, str) else "something unreadable"
        raise Invalid.field(
            "/crs", f"coordinates must be WGS 84 longitude/latitude, the file says {said}: convert it first"
        )


def _facts(feature: Any, fields: Mapping[str, str | None], defaults: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(feature, Mapping) or feature.get("type") != "Feature":
        raise _Refused("not a GeoJSON Feature")
    properties = feature.get("properties") or {}
    if not isinstance(properties, Mapping):
        raise _Refused("properties is not an object")
    found = {what: _property(properties, what, name) for what, name in fields.items()}
    if found["code"] is None and fields["code"] is None:
        found["code"] = feature.get("id", found["name"])
    if found["code"] is None:
        raise _Refused(f"no property {fields['code']}" if fields["code"] else "neither a code nor a name")
    code = _text(found["code"], "code", _CODE)
    name = code if found["name"] is None else _text(found["name"], "name", _TEXT)
    local = None if found["name_local"] is None else _text(found["name_local"], "name_local", _TEXT)
    site_class = found["site_class"] if found["site_class"] is not None else defaults["site_class"]
    if site_class not in SITE_CLASSES:
        raise _Refused(f"site class must be one of {', '.join(SITE_CLASSES)}")
    level = _whole(defaults["level"] if found["level"] is None else found["level"], "level", 0, 99)
    rank = defaults["priority"] if found["priority"] is None else found["priority"]
    priority = _whole(rank, "priority", -1_000_000, 1_000_000)
    return {
        "code": code,
        "name": name,
        "name_local": local,
        "level": level,
        "site_class": site_class,
        "priority": priority,
    }


def _property(properties: Mapping[str, Any], what: str, name: str | None) -> Any:
    for candidate in (name,) if name else GUESSES[what]:
        value = properties.get(candidate)
        if value is not None and value != "":
            return value
    return None


def _text(value: Any, what: str, pattern: re.Pattern[str]) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = str(value).strip() if isinstance(value, str | int) and not isinstance(value, bool) else ""
    if not pattern.match(text):
        raise _Refused(f"{what} is not a short text")
    return text


def _whole(value: Any, what: str, least: int, most: int) -> int:
    if isinstance(value, str) and re.match(r"-?\d{1,9}\Z", value, re.ASCII):
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise _Refused(f"{what} must be a whole number from {least} to {most}")
    return value


_Repair = tuple[str, str, float]


def _geometry(member: Any) -> tuple[Polygon | MultiPolygon, _Repair | None]:
    """A valid geometry, and what had to be done to it: problem, action, change of area in m²."""
    if member is None:
        raise _Refused("geometry is null")
    kind = member.get("type") if isinstance(member, Mapping) else None
    if kind not in ("Polygon", "MultiPolygon"):
        raise _Refused("geometry must be a Polygon or MultiPolygon")
    coordinates = member.get("coordinates")
    parts = [coordinates] if kind == "Polygon" else coordinates
    if not isinstance(parts, list) or not all(isinstance(part, list) for part in parts):
        raise _Refused("coordinates are not nested lists of positions")
    mended = {"short": 0, "open": 0}
    polygons = [polygon for polygon in (_polygon(part, mended) for part in parts) if polygon is not None]
    if not polygons:
        raise _Refused("no ring with at least four points" if mended["short"] else "the geometry is empty")
    geometry: Any = polygons[0] if len(polygons) == 1 else MultiPolygon(polygons)
    problems = []
    if mended["short"]:
        problems.append((f"{mended['short']} ring(s) with fewer than 4 points", "dropped them, kept the rest"))
    if mended["open"]:
        problems.append((f"{mended['open']} ring(s) not closed", "closed them"))
    change = 0.0
    if not geometry.is_valid:
        reason = shapely.is_valid_reason(geometry)
        before = area_m2(geometry)
        geometry = _polygonal(shapely.make_valid(geometry, method="structure", keep_collapsed=False))
        if geometry is None:
            raise _Refused(f"invalid beyond repair: {reason}")
        change = area_m2(geometry) - before
        problems.append((f"invalid: {reason}", "made valid, kept the areas"))
    if not problems:
        return geometry, None
    return geometry, ("; ".join(p for p, _ in problems), "; ".join(a for _, a in problems), round(change, 1))


def _polygon(rings: list[Any], mended: dict[str, int]) -> Polygon | None:
    """The polygon of one outer ring and its holes; ``None`` when the outer ring encloses nothing."""
    kept: list[list[tuple[float, float]]] = []
    for position, ring in enumerate(rings):
        points = _ring(ring)
        if points and points[0] != points[-1]:
            points.append(points[0])
            mended["open"] += 1
        if len(points) < 4:
            mended["short"] += 1
            if position == 0:
                return None
            continue
        kept.append(points)
    return Polygon(kept[0], kept[1:]) if kept else None


def _ring(ring: Any) -> list[tuple[float, float]]:
    if not isinstance(ring, list):
        raise _Refused("coordinates are not nested lists of positions")
    points = []
    for position in ring:
        if not isinstance(position, list) or len(position) < 2:
            raise _Refused("a position must be a list of longitude and latitude")
        lon, lat = position[0], position[1]
        fault = lonlat_fault(lon, lat)
        if fault and (lon, lat) != (0, 0):  # a border may well cross 0/0
            raise _Refused(fault)
        points.append((float(lon), float(lat)))
    if any(_HALF_WAY < abs(there[0] - here[0]) < 2 * _HALF_WAY for here, there in pairwise(points)):
        raise _Refused("a ring crosses the 180th meridian: cut the area there into two parts (RFC 7946, 3.1.9)")
    return points


def _polygonal(geometry: BaseGeometry) -> Polygon | MultiPolygon | None:
    parts = [part for part in shapely.get_parts(geometry) if isinstance(part, Polygon) and not part.is_empty]
    if isinstance(geometry, shapely.GeometryCollection):
        nested = [part for part in shapely.get_parts(geometry) if isinstance(part, MultiPolygon)]
        parts += [part for multi in nested for part in multi.geoms]
    if not parts:
        return None
    return parts[0] if len(parts) == 1 else MultiPolygon(parts)


@dataclass(frozen=True)
class Located:
    """Where a point belongs. ``how``: ``inside``, ``nearest`` (outside of all, within tolerance), ``outside``.

    ``candidates`` are the ids of all territories that contain it (or are near enough), the chosen one first.
    ``distance_m`` is 0 inside, else metres to the chosen or nearest border; ``None`` when there are no territories.
    """

    territory_id: str | None
    how: str
    distance_m: float | None
    candidates: tuple[str, ...] = ()
    reason: str | None = None


_NOWHERE = Located(None, "outside", None)


class TerritoryIndex:
    """Finds the territory of a point. Built once per version of the territories; safe to share between threads.

    In an overlap the highest priority wins, then the smallest area, then the id. ``areas``: id -> square metres.
    """

    def __init__(self, shapes: Sequence[TerritoryShape], *, tolerance_m: float = DEFAULT_TOLERANCE_M) -> None:
        self.areas: Mapping[str, float] = {shape.id: area_m2(shape.geometry) for shape in shapes}
        self._shapes = sorted(shapes, key=lambda s: (-s.priority, self.areas[s.id], s.id))
        self._geometries = np.array([shape.geometry for shape in self._shapes], dtype=object)
        self._tolerance_m = tolerance_m
        # One more than there are shapes: what is found nowhere has the last number.
        self._ids = np.array([*(shape.id for shape in self._shapes), None], dtype=object)
        self._alone = [Located(shape.id, "inside", 0.0, (shape.id,)) for shape in self._shapes]
        self._bounds = shapely.bounds(self._geometries).T
        shapely.prepare(self._geometries)
        self._tree = shapely.STRtree(self._geometries)
        if self._shapes:
            # GEOS builds both indexes lazily on first use, which two threads must not do at once.
            shapely.intersects_xy(self._geometries, 0.0, 0.0)
            self._tree.query(Point(0, 0))

    def __len__(self) -> int:
        return len(self._shapes)

    @property
    def shapes(self) -> Sequence[TerritoryShape]:
        """The territories it was built of."""
        return self._shapes

    def locate(self, lon: float, lat: float) -> Located:
        """The territory of one point.

        :raises Invalid: not a place on earth.
        """
        return self.locate_many([lon], [lat])[0]

    def locate_many(self, lons: Sequence[float], lats: Sequence[float]) -> list[Located]:
        """The territories of many points, in their order.

        :raises Invalid: one of them is not a place on earth; the error names its position.
        """
        xy = _checked(lons, lats)
        if not self._shapes:
            return [Located(None, "outside", None, (), "no territories have been imported")] * len(xy)
        point, shape = self._containing(xy)
        first = self._first(len(xy), point, shape)
        # Nearly all points lie in one territory only, and share its answer.
        alone = [*self._alone, _NOWHERE]
        found = [alone[i] for i in first.tolist()]
        for i, ranked in _several(point, shape).items():
            ids = tuple(self._shapes[number].id for number in ranked)
            found[i] = Located(ids[0], "inside", 0.0, ids)
        outside = np.flatnonzero(first == len(self._shapes))
        for i, near in zip(outside.tolist(), self._near(xy[outside]), strict=True):
            found[i] = self._nearest(near) if near else self._far(*xy[i].tolist())
        return found

    def locate_ids(self, lons: Sequence[float], lats: Sequence[float]) -> list[str | None]:
        """Only the ids of what :meth:`locate_many` finds; None for what is outside of every tolerance.

        :raises Invalid: one of them is not a place on earth; the error names its position.
        """
        xy = _checked(lons, lats)
        if not self._shapes:
            return [None] * len(xy)
        first = self._first(len(xy), *self._containing(xy))
        found: list[str | None] = self._ids[first].tolist()
        outside = np.flatnonzero(first == len(self._shapes))
        for i, near in zip(outside.tolist(), self._near(xy[outside]), strict=True):
            found[i] = self._shapes[near[0][1]].id if near else None
        return found

    def _containing(self, xy: NDArray[np.float64]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Pairs of a point's position and the number of a shape it lies in, by point.

        The tree is asked for boxes only: with a predicate it would prepare the points, while the shapes are prepared.
        """
        asked, found = self._tree.query(shapely.points(xy))
        hit = shapely.intersects_xy(self._geometries[found], xy[asked, 0], xy[asked, 1])
        return asked[hit], found[hit]

    def _first(self, points: int, point: NDArray[np.intp], shape: NDArray[np.intp]) -> NDArray[np.intp]:
        """For each point the number of its shape, the lowest of several (the shapes are in order of rank)."""
        first = np.full(points, len(self._shapes), dtype=np.intp)
        np.minimum.at(first, point, shape)
        return first

    def _near(self, xy: NDArray[np.float64]) -> list[list[tuple[float, int]]]:
        """For each point outside of all: metres and number of the shapes within the tolerance, nearest first."""
        near: list[list[tuple[float, int]]] = [[] for _ in xy]
        squeeze = _squeeze(xy)
        reach = self._tolerance_m / (_DEGREE_M * squeeze)[:, None]
        boxes = np.hstack([xy - reach, xy + reach])
        asked, found = self._tree.query(shapely.box(*boxes.T))
        # Only what is inside of the box is measured: a coast has many thousands of points.
        parts = np.array(
            [shapely.clip_by_rect(self._geometries[i], *boxes[at]) for at, i in zip(asked, found, strict=True)],
            dtype=object,
        )
        here = np.flatnonzero(~shapely.is_empty(parts)) if len(parts) else np.array([], dtype=np.intp)
        asked, found = asked[here], found[here]
        metres = _metres(parts[here], xy[asked], squeeze[asked])
        for at, number, far in zip(asked.tolist(), found.tolist(), metres.tolist(), strict=True):
            if far <= self._tolerance_m:
                near[at].append((far, number))
        for one in near:
            one.sort()
        return near

    def _nearest(self, near: list[tuple[float, int]]) -> Located:
        ids = tuple(self._shapes[number].id for _, number in near)
        return Located(ids[0], "nearest", round(near[0][0], 1), ids)

    def _far(self, lon: float, lat: float) -> Located:
        at = np.array([[lon, lat]])
        squeeze = _squeeze(at)
        west, south, east, north = self._bounds
        across = np.maximum(np.maximum(west - lon, lon - east), 0.0) * squeeze
        least = np.hypot(across, np.maximum(np.maximum(south - lat, lat - north), 0.0)) * _LEAST_DEGREE_M
        metres, closest = np.inf, -1
        for i in np.argsort(least, kind="stable").tolist():
            if least[i] > metres:
                break  # its very box is further away
            metres, closest = min((metres, closest), (float(_metres(self._geometries[[i]], at, squeeze)[0]), i))
        text = f"outside of every territory; {self._shapes[closest].name} is nearest, {metres / 1000:.1f} km away"
        return Located(None, "outside", round(metres, 1), (), text)


def _squeeze(xy: NDArray[np.float64]) -> NDArray[np.float64]:
    """How much shorter a degree of longitude is than one of latitude, at each point."""
    factor: NDArray[np.float64] = np.maximum(np.cos(np.radians(xy[:, 1])), 0.01)
    return factor


def _metres(geometries: NDArray[Any], xy: NDArray[np.float64], squeeze: NDArray[np.float64]) -> NDArray[np.float64]:
    """Metres from each geometry to its point. Nearest is looked for on a plane on which degrees are equally long."""
    if not len(geometries):
        return np.zeros(0)
    coordinates = shapely.get_coordinates(geometries)
    coordinates[:, 0] *= np.repeat(squeeze, shapely.get_num_coordinates(geometries))
    flat = shapely.set_coordinates(np.array(geometries), coordinates)
    lines = shapely.shortest_line(flat, shapely.points(xy[:, 0] * squeeze, xy[:, 1]))
    there = shapely.get_coordinates(lines)[::2]
    return np.asarray(_GEOD.inv(xy[:, 0], xy[:, 1], there[:, 0] / squeeze, there[:, 1])[2], dtype=np.float64)


def _checked(lons: Sequence[float], lats: Sequence[float]) -> NDArray[np.float64]:
    """Longitudes and latitudes as an array of n × 2, each a place on earth."""
    if len(lons) != len(lats):
        raise ValueError("as many longitudes as latitudes are needed")
    if {*map(type, lons), *map(type, lats)} <= {float, int}:
        try:
            xy = np.array([lons, lats], dtype=np.float64).T
        except OverflowError:  # a whole number without end; it is named below
            xy = np.full((len(lons), 2), np.nan)
        fine = (np.abs(xy) <= (180.0, 90.0)).all(axis=1) & xy.any(axis=1)
        doubtful = np.flatnonzero(~fine).tolist()
    else:
        doubtful, xy = list(range(len(lons))), np.empty((len(lons), 2))
    for i in doubtful:
        xy[i] = check_lonlat(lons[i], lats[i], field="" if len(lons) == 1 else f"/{i}")
    return xy


def _several(point: NDArray[np.intp], shape: NDArray[np.intp]) -> dict[int, list[int]]:
    """The points that lie in more than one shape, with their numbers in order of rank."""
    again = np.isin(point, point[1:][point[1:] == point[:-1]])
    ranked: dict[int, list[int]] = {}
    for i, number in sorted(zip(point[again].tolist(), shape[again].tolist(), strict=True)):
        ranked.setdefault(i, []).append(number)
    return ranked
