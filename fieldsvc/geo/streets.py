"""The streets of a road network as lines for a map on a screen."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import shapely

from fieldsvc.geo.roads import RoadNetwork

MOST = 6000
"""How many pieces of street one answer holds."""
_DIGITS = 5

Box = tuple[float, float, float, float]


class Streets:
    """Every pair of nodes that a street joins, found by where it lies. Never changed once built: safe to share."""

    def __init__(self, network: RoadNetwork) -> None:
        ends, self._speed = network.streets()
        self._lines = np.atleast_1d(np.asarray(shapely.linestrings(ends), dtype=object))
        self._tree = shapely.STRtree(self._lines)
        self._tree.query(shapely.Point(0, 0))  # built at the first question, which two threads must not do at once
        west, south, east, north = shapely.total_bounds(self._lines).tolist()
        self.bounds: Box = (west, south, east, north)

    def within(self, box: Box, tolerance: float, most: int = MOST) -> list[list[list[float]]]:
        """Lines of ``[lon, lat]`` that touch ``box`` (west, south, east, north), pieces joined where they meet.

        :param tolerance: how far a simplified line may lie from the real one, in degrees.
        :param most: how many pieces, from node to node; of more the fastest, which are the main roads.
        """
        found = np.sort(self._tree.query(shapely.box(*box), predicate="intersects"))
        if len(found) > most:
            found = found[np.argsort(-self._speed[found], kind="stable")[:most]]
        if not len(found):
            return []
        merged = shapely.get_parts(shapely.line_merge(shapely.multilinestrings(self._lines[found])))
        simple = shapely.simplify(merged, tolerance)
        return [shapely.get_coordinates(line).round(_DIGITS).tolist() for line in simple]


@lru_cache(maxsize=2)
def of(network: RoadNetwork) -> Streets:
    """The streets of a network; kept, because a process has one network for its whole life."""
    return Streets(network)
