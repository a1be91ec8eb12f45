"""Coordinate systems: everything inside is WGS 84 longitude and latitude in degrees; others are converted at the edge.

Known besides what PROJ knows (``EPSG:2263``, ``ESRI:102696`` …): ``GCJ-02``, the offset system of Chinese base maps. It
has no published definition; the formulas here are the ones everybody uses, good to about a metre, and outside of China
they change nothing.
"""

from __future__ import annotations

import math
import re
from functools import lru_cache

from pyproj import CRS, Transformer
from pyproj.exceptions import CRSError, ProjError

from fieldsvc.base.errors import Invalid

WGS84_NAMES = frozenset(
    {
        "WGS84",
        "WGS 84",
        "WGS-84",
        "EPSG:4326",
        "CRS84",
        "OGC:CRS84",
        "URN:OGC:DEF:CRS:OGC:1.3:CRS84",
        "URN:OGC:DEF:CRS:OGC::CRS84",
        "URN:OGC:DEF:CRS:EPSG::4326",
    }
)
"""Spellings of plain longitude/latitude, in upper case."""

GCJ02_NAMES = frozenset({"GCJ-02", "GCJ02"})

_AREA_MARGIN_DEGREES = 1.0
_KRASOVSKY_A = 6378245.0
_KRASOVSKY_EE = 0.00669342162296594323


def lonlat_fault(lon: object, lat: object) -> str | None:
    """Why these are not a place on earth in degrees, or ``None`` when they are.

    Exactly 0/0 is refused: it lies in the Gulf of Guinea and stands for "not known" in every file that has it.
    """
    for name, value, limit in (("longitude", lon, 180.0), ("latitude", lat, 90.0)):
        if isinstance(value, bool) or not isinstance(value, int | float):
            return f"{name} is not a number"
        if isinstance(value, float) and not math.isfinite(value):
            return f"{name} is not a finite number"
        if not -limit <= value <= limit:
            return f"{name} {_short(value)} is outside -{limit:g} to {limit:g} degrees"
    if lon == 0 and lat == 0:
        return "0/0 is not a place: the coordinates are missing"
    return None


def check_lonlat(lon: object, lat: object, *, field: str = "") -> tuple[float, float]:
    """The two as floats.

    :param field: what the error names as the place of the fault; empty names ``lon`` or ``lat`` themselves.
    :raises Invalid: see :func:`lonlat_fault`.
    """
    fault = lonlat_fault(lon, lat)
    if fault:
        raise Invalid.field(field or ("lat" if fault.startswith("latitude") else "lon"), fault)
    return float(lon), float(lat)  # type: ignore[arg-type]


def to_wgs84(x: float, y: float, crs: str) -> tuple[float, float]:
    """Longitude and latitude of a point given as easting ``x`` and northing ``y`` (or lon, lat) in ``crs``.

    :param crs: a name of :data:`WGS84_NAMES`, ``GCJ-02``, or any code PROJ knows, such as ``ESRI:102696``.
    :raises Invalid: the system is unknown, a number is not finite, or the point lies where the system does not work.
    """
    name = crs.strip().upper()
    for field, value in (("x", x), ("y", y)):
        if not abs(value) < 1e12:
            raise Invalid.field(field, "not a usable number")
    if name in WGS84_NAMES:
        return check_lonlat(x, y)
    if name in GCJ02_NAMES:
        return gcj02_to_wgs84(*check_lonlat(x, y))
    transformer, bounds = _transformer(name)
    try:
        lon, lat = transformer.transform(x, y, errcheck=True)
    except ProjError:
        lon, lat = math.inf, math.inf
    west, south, east, north = bounds
    if not (west <= lon <= east and south <= lat <= north):
        # 0/0 feet, or swapped columns: the formula gives some place all the same, far from where it means anything.
        raise Invalid.field("x", f"{_short(x)}/{_short(y)} lies outside of where {name} is used")
    return check_lonlat(lon, lat)


@lru_cache(maxsize=64)
def _transformer(name: str) -> tuple[Transformer, tuple[float, float, float, float]]:
    """The way to WGS 84, and the bounds in degrees that its results must keep (the area of use and a margin)."""
    if not re.match(r"[A-Z]{2,12}:\w{1,16}\Z", name, re.ASCII):
        raise Invalid.field("crs", "a coordinate system is named like EPSG:2263, ESRI:102696, WGS84 or GCJ-02")
    try:
        crs = CRS.from_user_input(name)
        if not (crs.is_projected or crs.is_geographic):
            raise CRSError("heights and site grids are no places on earth")
        transformer = Transformer.from_crs(crs, "OGC:CRS84", always_xy=True)
    except (CRSError, ProjError):
        raise Invalid.field("crs", f"{name} is not a coordinate system of places that PROJ knows") from None
    area = crs.area_of_use
    if area is None or area.west > area.east:
        return transformer, (-180.0, -90.0, 180.0, 90.0)
    margin = _AREA_MARGIN_DEGREES
    return transformer, (area.west - margin, area.south - margin, area.east + margin, area.north + margin)


def wgs84_to_gcj02(lon: float, lat: float) -> tuple[float, float]:
    """The point as Chinese base maps draw it; unchanged outside of China's bounding box."""
    if not (72.004 <= lon <= 137.8347 and 0.8293 <= lat <= 55.8271):
        return lon, lat
    x, y = lon - 105.0, lat - 35.0
    wave = (20.0 * math.sin(6.0 * x * math.pi) + 20.0 * math.sin(2.0 * x * math.pi)) * 2.0 / 3.0
    d_lat = -100.0 + 2.0 * x + 3.0 * y + 0.2 * y * y + 0.1 * x * y + 0.2 * math.sqrt(abs(x)) + wave
    d_lat += (20.0 * math.sin(y * math.pi) + 40.0 * math.sin(y / 3.0 * math.pi)) * 2.0 / 3.0
    d_lat += (160.0 * math.sin(y / 12.0 * math.pi) + 320.0 * math.sin(y * math.pi / 30.0)) * 2.0 / 3.0
    d_lon = 300.0 + x + 2.0 * y + 0.1 * x * x + 0.1 * x * y + 0.1 * math.sqrt(abs(x)) + wave
    d_lon += (20.0 * math.sin(x * math.pi) + 40.0 * math.sin(x / 3.0 * math.pi)) * 2.0 / 3.0
    d_lon += (150.0 * math.sin(x / 12.0 * math.pi) + 300.0 * math.sin(x / 30.0 * math.pi)) * 2.0 / 3.0
    rad = math.radians(lat)
    magic = 1 - _KRASOVSKY_EE * math.sin(rad) ** 2
    root = math.sqrt(magic)
    d_lat = math.degrees(d_lat / ((_KRASOVSKY_A * (1 - _KRASOVSKY_EE)) / (magic * root)))
    d_lon = math.degrees(d_lon / (_KRASOVSKY_A / root * math.cos(rad)))
    return lon + d_lon, lat + d_lat


def gcj02_to_wgs84(lon: float, lat: float) -> tuple[float, float]:
    """The inverse of :func:`wgs84_to_gcj02`, by fixed-point steps: the offset changes slowly, a few suffice."""
    guess = (lon, lat)
    for _ in range(8):
        there = wgs84_to_gcj02(*guess)
        guess = (guess[0] + lon - there[0], guess[1] + lat - there[1])
    return guess


def _short(value: int | float) -> str:
    return f"{value:.10g}" if abs(value) < 1e15 else "(a huge number)"
