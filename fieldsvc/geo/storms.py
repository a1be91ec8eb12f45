"""Which open incidents are one fault: on one transformer area, on one feeder, or near in space and time. Pure.

The same grouping answers when a call comes in (over the incidents around it) and when a whole territory is looked
through, and it answers the same whatever order they are given in. A group has a leader, the incident with the most
calls, and everything in it is close to the leader: groups do not grow from neighbour to neighbour across a town.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import shapely
from pyproj import Geod

REASONS = ("same_transformer_area", "same_feeder", "near_in_space_and_time")
"""In the order in which they are asked: what the network tells goes before the map."""

_GEOD = Geod(ellps="WGS84")
_M_PER_DEGREE = 111_320.0
_NAMED = 3
_SLACK = 1.02
"""Boxes in degrees are looked through first and are a little too large; the geodesic distance then decides."""


@dataclass(frozen=True, slots=True)
class Fault:
    """An open incident. ``areas`` are the transformer areas with calls; ``first`` and ``last`` are when it was first
    and last called about, ``calls`` how often."""

    id: str
    kind: str
    areas: frozenset[str]
    feeder: str | None
    lon: float | None
    lat: float | None
    first: datetime
    last: datetime
    calls: int = 1


@dataclass(frozen=True, slots=True)
class Limit:
    """One rule: how far apart in ``minutes`` and ``metres``, from how many calls on to ``propose`` and to ``merge``.

    On a feeder not calls are counted but transformer areas with calls: many calls of one area are a fault of that area.
    ``merge`` None: never by itself.
    """

    minutes: int
    propose: int
    merge: int | None = None
    metres: int = 0
    source: str = ""


@dataclass(frozen=True, slots=True)
class Group:
    """Incidents that are one fault; ``ids`` has the leader first, then by their first call. ``merge``: enough of them
    to need nobody's word. ``words`` says why, with the numbers."""

    reason: str
    ids: tuple[str, ...]
    merge: bool
    words: str
    source: str


def groups(faults: Iterable[Fault], limits: Mapping[str, Limit]) -> list[Group]:
    """The groups among ``faults`` by ``limits`` (reason → limit; a reason without one is not asked).

    Each fault is in one group at most: first those that merge, then those that are proposed, each by the order of
    :data:`REASONS`.
    """
    ordered = sorted(faults, key=lambda fault: (-fault.calls, fault.first, fault.id))
    found: list[Group] = []
    taken: set[str] = set()
    for merging in (True, False):
        for reason in REASONS:
            limit = limits.get(reason)
            least = (limit.merge if merging else limit.propose) if limit else None
            if limit is None or least is None:
                continue
            free = [fault for fault in ordered if fault.id not in taken]
            for members in _gathered(free, reason, limit, least):
                taken.update(fault.id for fault in members)
                found.append(_group(members, reason, limit, merging))
    return found


def _gathered(free: Sequence[Fault], reason: str, limit: Limit, least: int) -> Iterator[list[Fault]]:
    """Leader by leader, those of the ``free`` that go with it where they are enough together."""
    around = _NEIGHBOURS[reason](free, limit)
    span = timedelta(minutes=limit.minutes)
    taken: set[str] = set()
    for leader in free:
        if leader.id in taken:
            continue
        close = (other for other in around(leader) if other.id not in taken and other.kind == leader.kind)
        members = [leader, *(other for other in close if other.id != leader.id and _apart(leader, other) <= span)]
        if len(members) > 1 and _counted(members, reason) >= least:
            taken.update(fault.id for fault in members)
            yield members


def _apart(one: Fault, other: Fault) -> timedelta:
    """The time between the calls of two incidents; none where they overlap."""
    return max(one.first, other.first) - min(one.last, other.last)


def _counted(members: Sequence[Fault], reason: str) -> int:
    if reason == "same_feeder":
        return len(_areas(members))
    return sum(fault.calls for fault in members)


Neighbours = Callable[[Fault], Iterable[Fault]]


def _areas(members: Iterable[Fault]) -> set[str]:
    return {area for fault in members for area in fault.areas}


def _by_name(names: Callable[[Fault], Iterable[str]]) -> Callable[[Sequence[Fault], Limit], Neighbours]:
    def prepared(free: Sequence[Fault], _limit: Limit) -> Neighbours:
        alike: dict[str, list[int]] = {}
        for place, fault in enumerate(free):
            for name in names(fault):
                alike.setdefault(name, []).append(place)
        return lambda leader: [free[i] for i in sorted({i for name in names(leader) for i in alike.get(name, ())})]

    return prepared


def _by_place(free: Sequence[Fault], limit: Limit) -> Neighbours:
    """Those within the limit's metres, unless the network knows that they are on different transformer areas."""
    placed = [fault for fault in free if fault.lon is not None and fault.lat is not None]
    tree = shapely.STRtree([shapely.Point(fault.lon or 0.0, fault.lat or 0.0) for fault in placed])

    def around(leader: Fault) -> list[Fault]:
        if leader.lon is None or leader.lat is None:
            return []
        hits = sorted(tree.query(shapely.box(*box(leader.lon, leader.lat, limit.metres))).tolist())
        close = [placed[hit] for hit in hits]
        metres = distances(leader, close)
        return [
            other
            for other, far in zip(close, metres, strict=True)
            if far <= limit.metres and not (other.areas and leader.areas and other.areas.isdisjoint(leader.areas))
        ]

    return around


_NEIGHBOURS: Mapping[str, Callable[[Sequence[Fault], Limit], Neighbours]] = {
    "same_transformer_area": _by_name(lambda fault: fault.areas),
    "same_feeder": _by_name(lambda fault: (fault.feeder,) if fault.feeder is not None else ()),
    "near_in_space_and_time": _by_place,
}


def box(lon: float, lat: float, metres: float) -> tuple[float, float, float, float]:
    """West, south, east, north of a box that holds everything within ``metres`` of a point."""
    up = metres * _SLACK / _M_PER_DEGREE
    side = up / math.cos(math.radians(min(abs(lat) + up, 89.0)))
    return lon - side, lat - up, lon + side, lat + up


def distances(one: Fault, others: Sequence[Fault]) -> list[float]:
    """Geodesic metres from ``one`` to each of ``others``; all have a place."""
    if not others:
        return []
    lons, lats = [one.lon] * len(others), [one.lat] * len(others)
    _, _, metres = _GEOD.inv(lons, lats, [other.lon for other in others], [other.lat for other in others])
    return [float(far) for far in metres]


def _group(members: Sequence[Fault], reason: str, limit: Limit, merge: bool) -> Group:
    leader, *others = members
    ids = (leader.id, *(fault.id for fault in sorted(others, key=lambda fault: (fault.first, fault.id))))
    return Group(reason, ids, merge, _words(members, reason), limit.source)


def _words(members: Sequence[Fault], reason: str) -> str:
    calls = sum(fault.calls for fault in members)
    passed = max(fault.last for fault in members) - min(fault.first for fault in members)
    within = f"within {max(1, round(passed.total_seconds() / 60))} minutes"
    if reason == "same_transformer_area":
        named = sorted(_areas(members))
        more = f" and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
        return f"{calls} calls on transformer area {', '.join(named[:_NAMED])}{more} {within}"
    if reason == "same_feeder":
        areas = _counted(members, reason)
        return f"{calls} calls from {areas} transformer areas of feeder {members[0].feeder} {within}"
    far = max(distances(members[0], members[1:]))
    return f"{calls} calls at most {round(far)} m from the first place {within}"
