"""Where a process has its travel times from: one source for its whole life, asked by date, because speeds are rules."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path

from fieldsvc import rules
from fieldsvc.geo.pairs import PairCache
from fieldsvc.geo.roads import RoadNetwork, Roads
from fieldsvc.geo.routing import WIRES, Routed, RoutingServer
from fieldsvc.geo.territories import SITE_CLASSES
from fieldsvc.geo.travel import DEFAULT_SPEED_KMH, Geodesic, TravelTimes

_BEFORE_ALL_RULES = {"detour_factor": 1.3, "free_flow_factor": 1.0, "access_kmh": 5.0, "network_reach_m": 300.0}
"""A date before every edition gets a plan, too."""

_Build = Callable[[Geodesic, date], TravelTimes]


class TravelSource:
    """Travel times by the rules of a date, over what the setting names. Safe to share between threads."""

    def __init__(self, build: _Build, network: RoadNetwork | None = None, *, remote: bool = False) -> None:
        self._build = build
        self._remote = remote
        self.network = network

    @classmethod
    def of(cls, setting: str) -> TravelSource:
        """The source a setting names: ``geodesic``, ``roads:<folder>``, ``osrm:<url>``, ``valhalla:<url>``.

        :raises BadNetwork: the folder holds no usable road network.
        """
        kind, _, rest = setting.partition(":")
        if kind == "roads":
            return cls._roads(RoadNetwork.read(Path(rest)))
        if kind in WIRES:
            return cls._routed(RoutingServer(WIRES[kind], rest))
        return cls(lambda geodesic, _day: geodesic)

    @classmethod
    def _roads(cls, network: RoadNetwork) -> TravelSource:
        cache = PairCache()

        def build(geodesic: Geodesic, day: date) -> TravelTimes:
            traffic, access, reach = (
                _driving(name, day) for name in ("free_flow_factor", "access_kmh", "network_reach_m")
            )
            return Roads(network, geodesic, cache, traffic, access, reach)

        return cls(build, network)

    @classmethod
    def _routed(cls, server: RoutingServer) -> TravelSource:
        caches: dict[float, PairCache] = {}

        def build(geodesic: Geodesic, day: date) -> TravelTimes:
            reach = _driving("network_reach_m", day)
            return Routed(server, geodesic, caches.setdefault(reach, PairCache()), reach)

        return cls(build, remote=True)

    def on(self, day: date) -> TravelTimes:
        """Travel times by the speeds and factors in force on ``day``."""
        return self._build(_geodesic(day), day)

    def at_hand(self, day: date) -> TravelTimes:
        """As :meth:`on`, without asking another server: the geodesic where the setting names one."""
        return _geodesic(day) if self._remote else self.on(day)


def _geodesic(day: date) -> Geodesic:
    book, speeds = rules.load(), dict(DEFAULT_SPEED_KMH)
    for site_class in SITE_CLASSES:
        try:
            speeds[site_class] = float(book.speed_kmh(site_class, day).value)
        except rules.NoRule:
            continue
    return Geodesic(speeds, _driving("detour_factor", day))


def _driving(name: str, day: date) -> float:
    try:
        return float(rules.load().driving(name, day).value)
    except rules.NoRule:
        return _BEFORE_ALL_RULES[name]
