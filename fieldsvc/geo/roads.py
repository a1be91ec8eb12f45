"""Travel times over a road network read from two tables, for a part of the world small enough to keep in memory.

``nodes.csv``: node_id, lon, lat (degrees). ``edges.csv``: from_node, to_node, length_m, travel_time_s; an edge leads
one way, a street with two has two of them. Further columns are left alone.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import rustworkx
import shapely
from numpy.typing import NDArray

from fieldsvc.geo.crs import lonlat_fault
from fieldsvc.geo.pairs import NO_ROAD, PairCache, Ways
from fieldsvc.geo.travel import Geodesic, Matrix, Place, completed, coordinates, noted, on_earth, straight_m

_METRES_BITS = 2.0**27
"""An edge weighs hundredths of a second times this, plus its decimetres: one number that a search adds up exactly (in
53 bits: a week, and 13,000 km). So it finds the shortest time, of two equal ones the shorter way, and its length."""

_LONGEST_EDGE_M = 1_000_000.0
_LONGEST_EDGE_S = 86_400.0
_FASTEST_KMH = 300.0


class BadNetwork(ValueError):
    """A road network that cannot be used; the message says why, naming the file."""


class RefusedRow(NamedTuple):
    """A row that was left out: the file, its line (the head is line 1), and why."""

    file: str
    line: int
    reason: str


class RoadNetwork:
    """Nodes, and one-way edges between them with their lengths and times. Never changed once read: safe to share."""

    def __init__(
        self,
        name: str,
        lonlat: NDArray[np.float64],
        edges: Mapping[tuple[int, int], float],
        refused: Sequence[RefusedRow] = (),
    ) -> None:
        self.name = name
        self.refused = tuple(refused)
        self._lonlat = lonlat
        self._out = rustworkx.PyDiGraph(multigraph=False)
        self._out.add_nodes_from(range(len(lonlat)))
        self._out.add_edges_from([(here, there, weight) for (here, there), weight in edges.items()])
        self._into = self._out.copy()
        self._into.reverse()
        # A degree of longitude is shorter than one of latitude: nearest on the squeezed plane is nearest on the ground.
        self._squeeze = np.array([max(math.cos(math.radians(float(np.mean(lonlat[:, 1])))), 0.01), 1.0])
        self._tree = shapely.STRtree(shapely.points(lonlat * self._squeeze))
        self._tree.nearest(shapely.Point(0, 0))  # built at the first question, which two threads must not do at once

    def __len__(self) -> int:
        return len(self._lonlat)

    @property
    def edges(self) -> int:
        """How many pairs of nodes an edge leads between."""
        return int(self._out.num_edges())

    @classmethod
    def read(cls, folder: Path) -> RoadNetwork:
        """The network of ``nodes.csv`` and ``edges.csv`` in ``folder``. Of parallel edges the fastest counts.

        A row with a fault is left out and named in ``refused``.

        :raises BadNetwork: a file or column is missing, or nothing usable is left.
        """
        refused: list[RefusedRow] = []
        place_of: dict[str, int] = {}
        lonlat: list[tuple[float, float]] = []

        def node(row: Mapping[str, str]) -> None:
            name, lon, lat = _name(row, "node_id"), _number(row, "lon", -180), _number(row, "lat", -90)
            if name in place_of:
                raise ValueError(f"node {name} is there already")
            if fault := lonlat_fault(lon, lat):
                raise ValueError(fault)
            place_of[name] = len(lonlat)
            lonlat.append((lon, lat))

        _each(folder / "nodes.csv", ("node_id", "lon", "lat"), node, refused)
        edges: dict[tuple[int, int], float] = {}

        def edge(row: Mapping[str, str]) -> None:
            ends = _name(row, "from_node"), _name(row, "to_node")
            for end in ends:
                if end not in place_of:
                    raise ValueError(f"node {end} is not known")
            weight = _weight(_number(row, "length_m", 0), _number(row, "travel_time_s", 0))
            between = place_of[ends[0]], place_of[ends[1]]
            edges[between] = min(weight, edges.get(between, math.inf))

        _each(folder / "edges.csv", ("from_node", "to_node", "length_m", "travel_time_s"), edge, refused)
        if not edges:
            raise BadNetwork(f"{folder.name}: no usable edge between known nodes")
        return cls(folder.name, np.array(lonlat), edges, refused)

    def streets(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Each pair of nodes that an edge joins, once, as n × 2 × 2 degrees (lon, lat), and their speeds in m/s."""
        fastest: dict[tuple[int, int], float] = {}
        for here, there, weight in self._out.weighted_edge_list():
            hundredths, decimetres = divmod(weight, _METRES_BITS)
            between = (min(here, there), max(here, there))
            fastest[between] = max(fastest.get(between, 0.0), 10.0 * decimetres / max(hundredths, 1.0))
        ends = np.array(list(fastest), dtype=np.intp).reshape(-1, 2)
        return self._lonlat[ends], np.array(list(fastest.values()))

    def nearest(self, lonlat: NDArray[np.float64]) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """For each of the n × 2 places, all on earth, the nearest node and how many metres it is away."""
        nodes = self._tree.nearest(shapely.points(lonlat * self._squeeze))
        there = self._lonlat[nodes]
        return nodes, straight_m(lonlat, there)

    def ways(self, origins: Sequence[int], destinations: Sequence[int]) -> Ways:
        """From each node of ``origins`` to each of ``destinations``, by the times of the file."""
        if len(destinations) < len(origins):
            there = self._ways(self._into, destinations, origins)
            return Ways(there.seconds.T, there.metres.T)
        return self._ways(self._out, origins, destinations)

    @staticmethod
    def _ways(graph: rustworkx.PyDiGraph, origins: Sequence[int], destinations: Sequence[int]) -> Ways:
        weights = np.full((len(origins), len(destinations)), np.inf)
        for row, origin in enumerate(origins):
            found = rustworkx.digraph_dijkstra_shortest_path_lengths(graph, origin, float)
            weights[row] = [
                found[node] if node in found else math.inf  # noqa: SIM401 (this mapping has no get)
                for node in destinations
            ]
        weights[np.equal.outer(np.asarray(origins), np.asarray(destinations))] = 0.0
        known = np.isfinite(weights)
        hundredths = np.floor(np.where(known, weights, 0.0) / _METRES_BITS)
        metres = (np.where(known, weights, 0.0) - hundredths * _METRES_BITS) / 10.0
        return Ways(np.where(known, hundredths / 100.0, NO_ROAD).astype(np.float32), metres.astype(np.float32))


@dataclass(frozen=True)
class Roads:
    """Travel times over a road network; from the geodesic where it does not reach.

    A place is joined to the nearest node over the straight line between them, at ``access_kmh``. Further than
    ``reach_m`` from every node it is not covered, and its ways are the geodesic's. Between nodes that no way connects
    there is none (:data:`NO_WAY`): the geodesic would be a lie there.

    :param traffic: real driving time over that of the file.
    """

    network: RoadNetwork
    geodesic: Geodesic
    cache: PairCache
    traffic: float = 1.0
    access_kmh: float = 5.0
    reach_m: float = 300.0

    @property
    def name(self) -> str:
        return f"roads:{self.network.name}"

    def matrix(self, places: Sequence[Place]) -> Matrix:
        """See :class:`TravelTimes`."""
        lonlat = coordinates(places)
        node, access = np.zeros(len(places), dtype=np.intp), np.full(len(places), np.inf)
        real = np.flatnonzero(on_earth(lonlat))
        if real.size:
            node[real], access[real] = self.network.nearest(lonlat[real])
        covered = np.flatnonzero(access <= self.reach_m)
        nodes, node_of = np.unique(node[covered], return_inverse=True)
        keys: list[int] = nodes.tolist()

        def ask(rows: Sequence[int], columns: Sequence[int]) -> Ways:
            return self.network.ways([keys[i] for i in rows], [keys[j] for j in columns])

        ways, before = self.cache.ways(keys, ask)
        seconds, metres = np.full((2, len(places), len(places)), np.nan)
        here, at = np.ix_(covered, covered), np.ix_(node_of, node_of)
        walked = access[covered][:, None] + access[covered][None, :]
        seconds[here] = ways.seconds[at] * self.traffic + walked * (3.6 / self.access_kmh)
        metres[here] = ways.metres[at] + walked
        cached = np.zeros(seconds.shape, dtype=bool)
        cached[here] = before[at]
        same = np.zeros(seconds.shape, dtype=bool)
        same[here] = np.equal.outer(node_of, node_of)
        self._on_foot(lonlat, same, seconds, metres)
        matrix = completed(self.name, self.geodesic, places, seconds, metres, cached & ~same)
        return noted(matrix, self._notes(matrix, seconds, len(real) - len(covered)))

    def _on_foot(
        self,
        lonlat: NDArray[np.float64],
        same: NDArray[np.bool_],
        seconds: NDArray[np.float64],
        metres: NDArray[np.float64],
    ) -> None:
        """Between places at one node nobody drives: straight from one to the other."""
        here, there = np.nonzero(same)
        straight = straight_m(lonlat[here], lonlat[there])
        metres[here, there] = straight
        seconds[here, there] = straight * (3.6 / self.access_kmh)

    def _notes(self, matrix: Matrix, seconds: NDArray[np.float64], far: int) -> Iterator[str]:
        if fallback := matrix.report.fallback:
            yield (
                f"{far} of {len(matrix.seconds)} places are more than {self.reach_m:g} m from every road of "
                f"{self.network.name}: {fallback} pairs from the geodesic"
            )
        if holes := int(np.count_nonzero(np.isinf(seconds))):
            yield f"{self.network.name} has no way for {holes} pairs: one-way dead ends, or parts that touch no other"
        if refused := len(self.network.refused):
            yield f"{refused} rows of {self.network.name} were left out when it was read"


def _each(
    file: Path, columns: Sequence[str], take: Callable[[Mapping[str, str]], None], refused: list[RefusedRow]
) -> None:
    for line, row in _rows(file, columns):
        try:
            take(row)
        except ValueError as fault:
            refused.append(RefusedRow(file.name, line, str(fault)))


def _rows(file: Path, columns: Sequence[str]) -> Iterator[tuple[int, Mapping[str, str]]]:
    label = f"{file.parent.name}/{file.name}"
    try:
        with file.open(encoding="utf-8-sig", errors="replace", newline="") as opened:
            reader = csv.DictReader(opened, restval="")
            missing = [name for name in columns if name not in (reader.fieldnames or ())]
            if missing:
                raise BadNetwork(f"{label}: no column {', '.join(missing)}")
            for row in reader:
                yield reader.line_num, row
    except OSError:
        raise BadNetwork(f"{label} cannot be read") from None
    except csv.Error as fault:
        raise BadNetwork(f"{label}: not a table of comma-separated values: {fault}") from None


def _name(row: Mapping[str, str], column: str) -> str:
    if not (name := row[column].strip()):
        raise ValueError(f"{column} is missing")
    return name


def _number(row: Mapping[str, str], column: str, least: float) -> float:
    try:
        number = float(row[column])
    except ValueError:
        raise ValueError(f"{column} {row[column][:20]!r} is not a number") from None
    if not (math.isfinite(number) and number >= least):
        raise ValueError(f"{column} {row[column][:20]} must be at least {least:g}")
    return number


def _weight(metres: float, seconds: float) -> float:
    if metres > _LONGEST_EDGE_M or seconds > _LONGEST_EDGE_S:
        raise ValueError("an edge of more than 1,000 km or 24 hours")
    if metres * 3.6 > max(seconds, 0.1) * _FASTEST_KMH:
        raise ValueError(f"{metres:g} m in {seconds:g} s is faster than {_FASTEST_KMH:g} km/h")
    return round(seconds * 100) * _METRES_BITS + round(metres * 10)
