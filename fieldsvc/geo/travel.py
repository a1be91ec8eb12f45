"""How far and how long between places. A provider answers with a matrix; the default one goes by the geodesic.

Distances are metres on the WGS 84 ellipsoid, times are whole seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from pyproj import Geod

from fieldsvc.geo.model import TravelReport

_GEOD = Geod(ellps="WGS84")

DEFAULT_SPEED_KMH: Mapping[str, float] = MappingProxyType({"urban": 25.0, "rural": 40.0, "remote": 30.0})
"""Illustrative mean driving speeds by site class; the rule pack's values take their place where it has some."""

NO_WAY: Final = -1
"""What :attr:`Matrix.seconds` says where no way leads from one place to the other."""


class Place(NamedTuple):
    """A place in degrees; ``site_class`` says how fast one drives there."""

    lon: float
    lat: float
    site_class: str = "urban"


@dataclass(frozen=True)
class Matrix:
    """Times and distances between ``n`` places, n × n: the row is where one sets out, the column where one arrives.

    :param seconds: int32; :data:`NO_WAY` where there is none. 0 from a place to itself.
    :param metres: float64, always finite; 0 where there is no way.
    :param report: where the numbers came from.
    """

    seconds: NDArray[np.int32]
    metres: NDArray[np.float64]
    report: TravelReport


class TravelTimes(Protocol):
    """A provider of travel times: the geodesic one here, a road network or a routing server where one is configured."""

    @property
    def name(self) -> str:
        """What a run's report calls it."""
        ...

    def matrix(self, places: Sequence[Place]) -> Matrix:
        """Times and distances between all of ``places``, in their order. Never raises for a place it does not know."""
        ...


@dataclass(frozen=True)
class Geodesic:
    """Straight-line distance times a detour factor, at a speed that depends on the destination's site class.

    Metres stay the straight line (what a person can check on a map); the factor works on the times only.
    """

    speed_kmh: Mapping[str, float] = field(default_factory=lambda: dict(DEFAULT_SPEED_KMH))
    factor: float = 1.3
    name: str = "geodesic"

    def __post_init__(self) -> None:
        if self.factor < 1 or not self.speed_kmh or min(self.speed_kmh.values()) <= 0:
            raise ValueError("speeds must be above 0 km/h and the detour factor at least 1")

    def matrix(self, places: Sequence[Place]) -> Matrix:
        """See :class:`TravelTimes`. To and from a place that is none on earth (NaN, latitude 91) there is no way."""
        metres = _all_metres(coordinates(places))
        np.fill_diagonal(metres, 0.0)
        seconds = self._seconds(metres, self._kmh(places))
        report = TravelReport(self.name, pairs=pair_count(len(places)), holes=int(np.count_nonzero(seconds == NO_WAY)))
        return Matrix(seconds, np.nan_to_num(metres, copy=False), report)

    def fill_in(self, matrix: Matrix, places: Sequence[Place], where: NDArray[np.bool_]) -> None:
        """Answer the pairs ``where`` another provider has no answer, in place."""
        here, there = np.nonzero(where)
        lonlat = coordinates(places)
        metres = straight_m(lonlat[here], lonlat[there])
        matrix.seconds[here, there] = self._seconds(metres, self._kmh(places)[there])
        matrix.metres[here, there] = np.nan_to_num(metres)

    def _kmh(self, places: Sequence[Place]) -> NDArray[np.float64]:
        slowest = min(self.speed_kmh.values())
        return np.array([self.speed_kmh.get(place.site_class, slowest) for place in places], dtype=np.float64)

    def _seconds(self, metres: NDArray[np.float64], kmh: NDArray[np.float64]) -> NDArray[np.int32]:
        seconds = metres * (self.factor * 3.6 / kmh)
        return np.where(np.isnan(seconds), NO_WAY, np.rint(np.nan_to_num(seconds))).astype(np.int32)


def completed(
    name: str,
    geodesic: Geodesic,
    places: Sequence[Place],
    seconds: NDArray[np.float64],
    metres: NDArray[np.float64],
    cached: NDArray[np.bool_],
) -> Matrix:
    """A provider's matrix, its open pairs answered by the geodesic and everything counted.

    :param seconds: NaN where the provider has no answer, infinite where there is no way.
    :param cached: which answers are remembered ones.
    """
    unanswered, usable = np.isnan(seconds), np.isfinite(seconds)
    np.fill_diagonal(unanswered, False)
    matrix = Matrix(
        np.rint(np.where(usable, seconds, NO_WAY)).astype(np.int32),
        np.where(usable, metres, 0.0),
        TravelReport(name, pair_count(len(places)), cached=int(np.count_nonzero(cached))),
    )
    np.fill_diagonal(matrix.seconds, 0)
    geodesic.fill_in(matrix, places, unanswered)
    hole = matrix.seconds == NO_WAY
    counted = replace(
        matrix.report,
        fallback=int(np.count_nonzero(unanswered & ~hole)),
        holes=int(np.count_nonzero(hole)),
    )
    return replace(matrix, report=counted)


def noted(matrix: Matrix, notes: Iterable[str]) -> Matrix:
    """The matrix with these notes in its report."""
    return replace(matrix, report=replace(matrix.report, notes=tuple(notes)))


def coordinates(places: Sequence[Place]) -> NDArray[np.float64]:
    """Longitudes and latitudes, n × 2."""
    return np.array([(place.lon, place.lat) for place in places], dtype=np.float64).reshape(-1, 2)


def _all_metres(lonlat: NDArray[np.float64]) -> NDArray[np.float64]:
    """Straight lines between all pairs; NaN to and from what is no place.

    Jobs share addresses and crews share bases, so each distinct pair is measured once, and one way only.
    """
    distinct, place_of = np.unique(lonlat, axis=0, return_inverse=True)
    here, there = np.triu_indices(len(distinct), 1)
    between = np.zeros((len(distinct), len(distinct)))
    if here.size:
        between[here, there] = straight_m(distinct[here], distinct[there])
    between += between.T
    nowhere = ~on_earth(distinct)
    between[nowhere, :] = between[:, nowhere] = np.nan
    result: NDArray[np.float64] = between[np.ix_(place_of, place_of)]
    return result


def on_earth(lonlat: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which of the n × 2 coordinates are places at all."""
    finite: NDArray[np.bool_] = np.isfinite(lonlat).all(axis=1) & (np.abs(lonlat[:, 1]) <= 90.0)
    return finite


def pair_count(places: int) -> int:
    """How many ways there are between so many places, each direction counted."""
    return places * (places - 1)


def straight_m(here: NDArray[np.float64], there: NDArray[np.float64]) -> NDArray[np.float64]:
    """Metres along the geodesic, row by row, between n × 2 coordinates; NaN where one is no place."""
    (lon1, lat1), (lon2, lat2) = here.T, there.T
    return np.asarray(_GEOD.inv(lon1, lat1, lon2, lat2, return_back_azimuth=False)[2], dtype=np.float64)


def distance_m(lon1: float, lat1: float, lon2: float, lat2: float) -> float:
    """Metres along the geodesic between two points given in degrees."""
    return float(_GEOD.inv(lon1, lat1, lon2, lat2)[2])
