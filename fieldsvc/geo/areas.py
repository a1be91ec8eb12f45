"""Areas: territories that are planned together, and how far it is from one territory to the next. Pure.

A plan costs more than twice as much for twice the jobs, so a run is divided: territories that share crews stay together
as long as that is small enough, and every crew works in one area. So the cost of a run grows with its territories, and
the areas can be planned side by side.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import shapely
from pyproj import Geod

from fieldsvc.geo.territories import TerritoryShape

_GEOD = Geod(ellps="WGS84")
_DEGREE_M = 110_000.0
"""Metres of a degree of latitude, not more than anywhere on the ellipsoid."""


class Home(NamedTuple):
    """A crew to be put into an area: where it may work, and how many hours it has."""

    territories: frozenset[str]
    hours: float


class Part(NamedTuple):
    """Territories that are planned together, and the crews that work there in this run; both sorted."""

    territory_ids: tuple[str, ...]
    crew_ids: tuple[str, ...]


def divide(need: Mapping[str, int], crews: Mapping[str, Home], most: int) -> list[Part]:
    """Areas for jobs in territories.

    Territories are joined in the order of how many crews they share, while together they have no more than ``most``
    jobs; one that alone has more stays whole. A crew whose territories lie in several areas works in the one with the
    most jobs for each hour that crews have there already.

    :param need: territory -> its jobs. Territories without jobs make no area.
    :returns: the areas, by their first territory. The same input always gives the same areas.
    """
    area_of = _joined(need, crews, most)
    members: dict[str, list[str]] = defaultdict(list)
    for territory in sorted(need):
        members[area_of[territory]].append(territory)
    jobs = {area: sum(need[territory] for territory in held) for area, held in members.items()}
    hours: dict[str, float] = defaultdict(float)
    workers: dict[str, list[str]] = defaultdict(list)
    choices = {crew: sorted({area_of[t] for t in home.territories & need.keys()}) for crew, home in crews.items()}
    for crew in sorted((c for c in crews if choices[c]), key=lambda c: (len(choices[c]), c)):
        chosen = max(choices[crew], key=lambda area: jobs[area] / (hours[area] + crews[crew].hours))
        hours[chosen] += crews[crew].hours
        workers[chosen].append(crew)
    return [Part(tuple(members[area]), tuple(sorted(workers[area]))) for area in sorted(members)]


def _joined(need: Mapping[str, int], crews: Mapping[str, Home], most: int) -> dict[str, str]:
    """Territory -> the first territory of its area."""
    shared: Counter[tuple[str, str]] = Counter()
    for home in crews.values():
        shared.update(pairwise(sorted(home.territories & need.keys())))
    first = {territory: territory for territory in need}
    jobs = dict(need)

    def root(territory: str) -> str:
        while first[territory] != territory:
            first[territory] = territory = first[first[territory]]
        return territory

    for one, other in sorted(shared, key=lambda pair: (-shared[pair], pair)):
        low, high = sorted((root(one), root(other)))
        if low != high and jobs[low] + jobs[high] <= most:
            first[high] = low
            jobs[low] += jobs.pop(high)
    return {territory: root(territory) for territory in need}


def distances(
    shapes: Sequence[TerritoryShape], sources: Collection[str], within_m: float
) -> dict[str, dict[str, float]]:
    """How far other territories are from each of ``sources``, border to border, in metres; 0 where they touch.

    :returns: source -> territory -> metres, for those no further than ``within_m``.
    """
    asked = [shape for shape in shapes if shape.id in sources]
    found: dict[str, dict[str, float]] = {shape.id: {} for shape in asked}
    if not asked:
        return found
    middle = float(np.mean([shape.geometry.centroid.y for shape in shapes]))
    squeeze = max(float(np.cos(np.radians(middle))), 0.01)

    def flat(those: Sequence[TerritoryShape]) -> np.ndarray:
        geometries = np.array([shape.geometry for shape in those], dtype=object)
        return np.asarray(shapely.transform(geometries, lambda c: c * [squeeze, 1.0]))

    here, there = flat(asked), flat(shapes)
    near = shapely.STRtree(there).query(here, predicate="dwithin", distance=within_m / _DEGREE_M)
    lines = shapely.get_coordinates(shapely.shortest_line(here[near[0]], there[near[1]])).reshape(-1, 4)
    metres = _GEOD.inv(lines[:, 0] / squeeze, lines[:, 1], lines[:, 2] / squeeze, lines[:, 3])[2]
    for source, target, length in zip(*near.tolist(), metres.tolist(), strict=True):
        if asked[source].id != shapes[target].id and length <= within_m:
            found[asked[source].id][shapes[target].id] = length
    return found


def reach(home: Collection[str], near: Mapping[str, Mapping[str, float]], within_m: float) -> dict[str, float]:
    """The territories beyond ``home`` that a crew may be sent to, each with how far it is; ``near`` as of
    :func:`distances`."""
    found: dict[str, float] = {}
    for own in home:
        for territory, metres in near.get(own, {}).items():
            if territory not in home and metres <= within_m:
                found[territory] = min(metres, found.get(territory, metres))
    return found
