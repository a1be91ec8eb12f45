"""The townships near Jiang County and their territories: Voronoi cells, clipped to a border around all of them."""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import Any

import shapely
from shapely.geometry import MultiPoint, Point, Polygon

_CENTRE = (111.57, 35.49)
_KM_PER_DEGREE = 111.2
_BORDER_KM = 5.0
_REMOTE_KM = 13.0
_MOST_PLACES = 10


@dataclass(frozen=True)
class Place:
    """A township and its territory. ``area``: the code of the service area of two crews it belongs to."""

    geonameid: int
    name: str
    name_local: str
    lon: float
    lat: float
    seat_of: str
    seat_of_local: str
    code: str
    area: str
    site_class: str
    cell: Polygon


@dataclass(frozen=True)
class Area:
    """Where two crews work. ``bases``: names of the two places they start from."""

    code: str
    name: str
    name_local: str
    lead: int
    bases: tuple[int, int]


AREAS = (
    Area("JX", "Jiang", "绛县", 1806233, (1806233, 1789180)),
    Area("HM", "Houma", "侯马", 1807818, (1807818, 1797287)),
    Area("WX", "Wenxi", "闻喜", 1791409, (1791409, 1789752)),
    Area("XJ", "Xinjiang", "新绛", 1788800, (1788800, 1805280)),
    Area("XF", "Xiangfen", "襄汾", 1795437, (1795437, 1811426)),
    Area("YC", "Yicheng", "翼城", 1786756, (1786756, 1797568)),
)
"""Six service areas, led by the GeoNames id of a seat; their crews are based at two seats or towns each."""


def places() -> list[Place]:
    """The townships with their cells, site classes and areas, in order of their codes."""
    text = files("fieldsvc.demo").joinpath("data/jiang_places.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    flat = [_to_km(float(row["lon"]), float(row["lat"])) for row in rows]
    cells = _cells(flat)
    seats = [xy for xy, row in zip(flat, rows, strict=True) if row["seat_of"]]
    made = []
    areas = _areas(rows, flat)
    for row, xy, cell, area in zip(rows, flat, cells, areas, strict=True):
        made.append(
            Place(
                geonameid=int(row["geonameid"]),
                name=row["name"],
                name_local=row["name_local"],
                lon=float(row["lon"]),
                lat=float(row["lat"]),
                seat_of=row["seat_of"],
                seat_of_local=row["seat_of_local"],
                code="",
                area=area,
                site_class=_site_class(xy, seats),
                cell=cell,
            )
        )
    return _with_codes(made)


def _to_km(lon: float, lat: float) -> tuple[float, float]:
    """Kilometres east and north of the centre: flat enough over 120 km to draw cells with."""
    east = (lon - _CENTRE[0]) * _KM_PER_DEGREE * math.cos(math.radians(_CENTRE[1]))
    return east, (lat - _CENTRE[1]) * _KM_PER_DEGREE


def _to_degrees(cell: Polygon) -> Polygon:
    squeeze = _KM_PER_DEGREE * math.cos(math.radians(_CENTRE[1]))
    ring = [
        (round(_CENTRE[0] + x / squeeze, 5), round(_CENTRE[1] + y / _KM_PER_DEGREE, 5)) for x, y in cell.exterior.coords
    ]
    return Polygon(ring)


def _cells(flat: Sequence[tuple[float, float]]) -> list[Polygon]:
    """One Voronoi cell per place, clipped to the buffered hull of all of them."""
    hull = MultiPoint(flat).convex_hull.buffer(_BORDER_KM, quad_segs=4)
    diagram = shapely.get_parts(shapely.voronoi_polygons(MultiPoint(flat), extend_to=hull))
    tree = shapely.STRtree(diagram)
    cells = []
    for xy in flat:
        found = [i for i in tree.query(Point(xy)).tolist() if diagram[i].contains(Point(xy))]
        cell = diagram[found[0]].intersection(hull)
        cells.append(_to_degrees(Polygon(shapely.orient_polygons(cell).exterior)))
    return cells


def _areas(rows: list[dict[str, str]], flat: Sequence[tuple[float, float]]) -> list[str]:
    """The area of every place: that of the nearest base, until an area has its share of the work."""
    at = {int(row["geonameid"]): xy for row, xy in zip(rows, flat, strict=True)}
    pairs = [
        (
            0.0 if area.lead == int(row["geonameid"]) else min(math.dist(xy, at[base]) for base in area.bases),
            i,
            area.code,
        )
        for i, (row, xy) in enumerate(zip(rows, flat, strict=True))
        for area in AREAS
    ]
    chosen: dict[int, str] = {}
    share = Counter({area.code: _MOST_PLACES for area in AREAS})
    for _, i, code in sorted(pairs):
        if i not in chosen and share[code]:
            chosen[i] = code
            share[code] -= 1
    return [chosen[i] for i in range(len(rows))]


def _site_class(xy: tuple[float, float], seats: Sequence[tuple[float, float]]) -> str:
    """GeoNames knows no population of these places: a seat counts as urban, what is far from every seat as remote."""
    away = min(math.dist(xy, seat) for seat in seats)
    return "urban" if away == 0 else "remote" if away > _REMOTE_KM else "rural"


def _with_codes(made: list[Place]) -> list[Place]:
    """Codes count within the area, the lead seat first, then by distance to it."""
    result = []
    for area in AREAS:
        lead = next(place for place in made if place.geonameid == area.lead)
        centre = _to_km(lead.lon, lead.lat)
        members = [place for place in made if place.area == area.code]
        members.sort(key=lambda p: (math.dist(centre, _to_km(p.lon, p.lat)), p.geonameid))
        result += [replace(place, code=f"{area.code}{number:02}") for number, place in enumerate(members, 1)]
    return result


def geojson(townships: Sequence[Place]) -> dict[str, Any]:
    """The territories as a FeatureCollection."""
    features = [
        {
            "type": "Feature",
            "properties": {
                "code": place.code,
                "name": place.name if not _twin(place, townships) else f"{place.name} ({place.seat_of})",
                "name_local": place.name_local,
                "level": 1,
                "site_class": place.site_class,
                "priority": 0,
                "geonameid": place.geonameid,
            },
            "geometry": {"type": "Polygon", "coordinates": [[list(xy) for xy in place.cell.exterior.coords]]},
        }
        for place in townships
    ]
    return {"type": "FeatureCollection", "features": features}


def _twin(place: Place, townships: Sequence[Place]) -> bool:
    return any(other.name == place.name and other.geonameid != place.geonameid for other in townships)
