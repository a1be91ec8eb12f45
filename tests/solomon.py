"""Public vehicle routing instances (Solomon, Gehring & Homberger): read, laid on the ground, and routes checked.

Nothing here knows the planner: lengths and times are reckoned from the file's own numbers.
"""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from pyproj import Geod

from fieldsvc.geo.model import PlanCrew, PlanJob, Window
from fieldsvc.geo.travel import Geodesic

SITE_CLASS, TERRITORY, KIND, SKILL = "urban", "V", "safety_inspection", "inspection"
LONGEST_SHIFT_MIN = 1440
"""A shift has at most 24 hours; an instance with a longer day is run in shorter minutes."""

_GEOD = Geod(ellps="WGS84")


class Node(NamedTuple):
    """A row of an instance: ``ready`` and ``due`` bound the begin of ``service``. Row 0 is the depot."""

    number: int
    x: float
    y: float
    demand: int
    ready: int
    due: int
    service: int


class Best(NamedTuple):
    """Best known: fewest vehicles first, then distance; and distance alone (Solomon only)."""

    vehicles: int
    distance: float
    shortest_vehicles: int | None
    shortest: float | None


@dataclass(frozen=True)
class Instance:
    """One instance; times and distances in its own units.

    :param unit_min: how many minutes a unit is on the ground, so that the day is no longer than a shift may be and
        every service time a whole number of minutes.
    :param lon: where on the equator the depot lies.
    """

    name: str
    vehicles: int
    capacity: int
    nodes: tuple[Node, ...]
    unit_min: float
    lon: float = 10.0

    @property
    def depot(self) -> Node:
        return self.nodes[0]

    @property
    def customers(self) -> tuple[Node, ...]:
        return self.nodes[1:]

    def distance(self, one: int, other: int) -> float:
        return math.dist(self.nodes[one][1:3], self.nodes[other][1:3])

    def length(self, routes: Sequence[Sequence[int]]) -> float:
        """Of all routes, from the depot and back to it."""
        return sum(
            self.distance(one, other)
            for route in routes
            if route
            for one, other in zip((0, *route), (*route, 0), strict=True)
        )

    def faults(self, routes: Sequence[Sequence[int]], per_leg: float = 0.0) -> list[str]:
        """What is wrong with ``routes`` (customer numbers in order): nothing, if all is well.

        :param per_leg: by how much, in units, each leg may have been reckoned too short: travel times on the ground are
            whole seconds.
        """
        visits = Counter(number for route in routes for number in route)
        found = [f"customer {node.number}: visited {visits[node.number]} times" for node in self.customers
                 if visits[node.number] != 1]  # fmt: skip
        found += [f"customer {number}: there is none" for number in visits if not 0 < number < len(self.nodes)]
        used = [route for route in routes if route]
        if len(used) > self.vehicles:
            found.append(f"{len(used)} vehicles of {self.vehicles}")
        for place, route in enumerate(used):
            if not found:
                found += self._walk(f"route {place}", route, per_leg)
        return found

    def _walk(self, name: str, route: Sequence[int], per_leg: float) -> list[str]:
        found = []
        load = sum(self.nodes[number].demand for number in route)
        if load > self.capacity:
            found.append(f"{name}: {load} on board of {self.capacity}")
        at, clock, slack = self.depot, float(self.depot.ready), 0.0
        for node in (*(self.nodes[number] for number in route), self.depot):
            clock += at.service + math.dist(at[1:3], node[1:3])
            slack += per_leg
            if clock > node.due + slack + 1e-6:
                found.append(f"{name}: at {node.number} by {clock:.2f}, due {node.due}")
            clock = max(clock, float(node.ready))
            at = node
        return found

    @cached_property
    def ground(self) -> tuple[float, float]:
        """Degrees of longitude and latitude in a unit at the equator, so that driving one takes ``unit_min`` minutes.

        Within a degree of the equator both are constant to 1e-5: the geodesic is Euclid's distance.
        """
        travel = Geodesic()
        metres_per_min = travel.speed_kmh[SITE_CLASS] / (0.06 * travel.factor)
        metres = self.unit_min * metres_per_min
        east = _GEOD.inv(self.lon, 0.0, self.lon + 0.1, 0.0)[2] / 0.1
        north = _GEOD.inv(self.lon, -0.05, self.lon, 0.05)[2] / 0.1
        return metres / east, metres / north

    def lonlat(self, node: Node) -> tuple[float, float]:
        """Where ``node`` lies; the depot is on the equator."""
        east, north = self.ground
        return self.lon + (node.x - self.depot.x) * east, (node.y - self.depot.y) * north

    def minutes(self, units: float) -> timedelta:
        return timedelta(minutes=units * self.unit_min)

    def jobs(self, day: datetime) -> list[PlanJob]:
        """The customers, ``day`` being the depot's time 0; the id is the number of the customer."""
        skills = frozenset({SKILL})
        jobs = []
        for node in self.customers:
            lon, lat = self.lonlat(node)
            window = Window(day + self.minutes(node.ready), day + self.minutes(node.due))
            jobs.append(
                PlanJob(
                    f"{node.number:04}",
                    lon,
                    lat,
                    TERRITORY,
                    KIND,
                    skills,
                    service_min=node.service * self.unit_min,
                    windows=(window,),
                    load=node.demand,
                )
            )
        return jobs

    def crews(self, day: datetime) -> list[PlanCrew]:
        """The vehicles, one shift from the depot's opening to its closing."""
        lon, lat = self.lonlat(self.depot)
        shift = Window(day + self.minutes(self.depot.ready), day + self.minutes(self.depot.due))
        return [
            PlanCrew(
                f"V{number:03}",
                lon,
                lat,
                frozenset({TERRITORY}),
                frozenset({SKILL}),
                shift,
                capacity=self.capacity,
                end_lon=lon,
                end_lat=lat,
            )
            for number in range(1, self.vehicles + 1)
        ]


def read(file: Path) -> Instance:
    """An instance in Solomon's format."""
    lines = [line.split() for line in file.read_text().splitlines() if line.strip()]
    numbers = [
        [float(word) for word in line] for line in lines if all(word.replace(".", "").isdigit() for word in line)
    ]
    vehicles, capacity = numbers[0]
    nodes = tuple(
        Node(int(row[0]), row[1], row[2], *(int(value) for value in row[3:])) for row in numbers[1:] if len(row) == 7
    )
    return Instance(lines[0][0], int(vehicles), int(capacity), nodes, _unit_min(nodes))


def _unit_min(nodes: Sequence[Node]) -> float:
    for unit in (1.0, 0.5, 0.4):
        whole = all((node.service * unit).is_integer() for node in nodes)
        if whole and nodes[0].due * unit <= LONGEST_SHIFT_MIN:
            return unit
    raise ValueError("the day of this instance is longer than a shift may be")


def best_known(folder: Path) -> dict[str, Best]:
    """By the file's name below ``folder``."""
    with (folder / "bks.csv").open(newline="", encoding="utf-8") as rows:
        return {
            row["file"]: Best(
                int(row["bks_hier_vehicles"]),
                float(row["bks_hier_distance"]),
                int(row["bks_distance_only_vehicles"]) if row["bks_distance_only_vehicles"] else None,
                float(row["bks_distance_only"]) if row["bks_distance_only"] else None,
            )
            for row in csv.DictReader(rows)
        }
