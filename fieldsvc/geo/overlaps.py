"""Where territories lie over each other, and which of two gets a place that lies in both. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from fieldsvc.geo.territories import TerritoryShape, area_m2

_SLIVER = 0.001
"""Neighbours drawn apart meet in slivers. Less than this part of the smaller one is no overlap anybody means."""


class Overlap(NamedTuple):
    """Of a territory with ``other``. ``gets_it``: the places in both go to the territory that was asked for; ``rule``
    says why, as :class:`~fieldsvc.geo.territories.TerritoryIndex` decides: ``priority``, ``area``, or ``id`` when both
    are the same.
    """

    other: TerritoryShape
    area_m2: float
    gets_it: bool
    rule: str


def overlaps(shape: TerritoryShape, others: Sequence[TerritoryShape]) -> list[Overlap]:
    """Which of ``others`` lie over ``shape``, the largest overlap first; itself (by code) is left out."""
    beside = [other for other in others if other.code != shape.code]
    if not beside:
        return []
    geometries = np.array([other.geometry for other in beside], dtype=object)
    touching = np.flatnonzero(shapely.intersects(geometries, shape.geometry)).tolist()
    own = area_m2(shape.geometry)
    found = []
    for other in (beside[at] for at in touching):
        shared, theirs = area_m2(_areas(shapely.intersection(shape.geometry, other.geometry))), area_m2(other.geometry)
        if shared > _SLIVER * min(own, theirs):
            found.append(Overlap(other, shared, *_decided(shape, own, other, theirs)))
    return sorted(found, key=lambda one: -one.area_m2)


def _areas(geometry: BaseGeometry) -> BaseGeometry:
    """What of an intersection has an area; borders that touch come along as lines and points."""
    parts = [part for part in shapely.get_parts(geometry) if isinstance(part, shapely.Polygon)]
    return shapely.MultiPolygon(parts)


def _decided(one: TerritoryShape, own: float, other: TerritoryShape, theirs: float) -> tuple[bool, str]:
    if one.priority != other.priority:
        return one.priority > other.priority, "priority"
    return (own < theirs, "area") if own != theirs else (one.id < other.id, "id")
