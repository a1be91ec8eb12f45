"""How far and how long between places. A provider answers legs; the default one goes by the geodesic.

Distances are metres on the WGS 84 ellipsoid, times are minutes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple, Protocol

from pyproj import Geod

_GEOD = Geod(ellps="WGS84")

DEFAULT_SPEED_KMH: Mapping[str, float] = MappingProxyType({"urban": 25.0, "rural": 40.0, "remote": 30.0})
"""Illustrative mean driving speeds by site class; the rule pack's values take their place where it has some."""


class Leg(NamedTuple):
    """One way between two places."""

    distance_m: float
    minutes: float


class TravelTimes(Protocol):
    """A provider of travel times: the geodesic one here, a road network where one is configured."""

    def legs(self, lons: Sequence[float], lats: Sequence[float], lon: float, lat: float, site_class: str) -> list[Leg]:
        """The leg from each of the places ``lons``/``lats`` to the one at ``lon``/``lat``, in their order."""
        ...


@dataclass(frozen=True)
class Geodesic:
    """Straight-line distance times a detour factor, at a speed that depends on the destination's site class.

    ``Leg.distance_m`` stays the straight line (what a person can check on a map); the factor works on the minutes only.
    """

    speed_kmh: Mapping[str, float] = field(default_factory=lambda: dict(DEFAULT_SPEED_KMH))
    factor: float = 1.3

    def __post_init__(self) -> None:
        if self.factor < 1 or not self.speed_kmh or min(self.speed_kmh.values()) <= 0:
            raise ValueError("speeds must be above 0 km/h and the detour factor at least 1")

    def legs(self, lons: Sequence[float], lats: Sequence[float], lon: float, lat: float, site_class: str) -> list[Leg]:
        speed = self.speed_kmh.get(site_class) or min(self.speed_kmh.values())
        per_metre = self.factor * 0.06 / speed
        if not lons:
            return []
        _, _, metres = _GEOD.inv(list(lons), list(lats), [lon] * len(lons), [lat] * len(lats))
        return [Leg(m, m * per_metre) for m in metres]


def distance_m(lon1: float, lat1: float, lon2: float, lat2: float) -> float:
    """Metres along the geodesic between two points given in degrees."""
    return float(_GEOD.inv(lon1, lat1, lon2, lat2)[2])
