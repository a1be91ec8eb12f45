"""Boundaries of territories for a map on a screen: simplified, and no more of them than a map can show."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any

import numpy as np
import orjson
import shapely

from fieldsvc.geo.territories import TerritoryIndex
from fieldsvc.people import territories
from fieldsvc.people.actors import Actor

MOST = 2000
"""How many territories one map shows; of more the largest."""
_DIGITS = 6
Box = tuple[float, float, float, float]


def outlines(actor: Actor, now: datetime, tolerance: float, box: Box | None = None) -> Mapping[str, Any]:
    """The territories ``actor`` sees as an RFC 7946 FeatureCollection, ordered by code.

    A feature's ``properties``: code, name, name_local, ``box`` (west, south, east, north) and ``at``, a point inside of
    it for its name. The collection's ``bbox`` holds all of them; without any it has none.

    :param tolerance: how far a simplified boundary may lie from the real one, in degrees.
    :param box: west, south, east, north; only territories that touch it.
    """
    index = territories.index(now)
    drawn = _drawn(index, tolerance)
    shapes = [shape for shape in index.shapes if actor.sees(shape.id) and shape.id in drawn]
    if box is not None:
        area = shapely.box(*box)
        shapes = [shape for shape in shapes if shape.geometry.intersects(area)]
    if len(shapes) > MOST:
        shapes = sorted(shapes, key=lambda shape: -shape.geometry.area)[:MOST]
    shapes.sort(key=lambda shape: shape.code)
    features = [drawn[shape.id] for shape in shapes]
    if not features:
        return {"type": "FeatureCollection", "features": []}
    west, south, east, north = zip(*(feature["properties"]["box"] for feature in features), strict=True)
    return {"type": "FeatureCollection", "bbox": [min(west), min(south), max(east), max(north)], "features": features}


@lru_cache(maxsize=4)
def _drawn(index: TerritoryIndex, tolerance: float) -> Mapping[str, Mapping[str, Any]]:
    """Territory -> its feature; kept, for everybody who opens a map asks for the same. An outline of less than the
    tolerance is left out.
    """
    shapes = index.shapes
    geometries = np.array([shape.geometry for shape in shapes], dtype=object)
    simple = shapely.set_precision(shapely.simplify(geometries, tolerance), 10.0**-_DIGITS)
    inside = shapely.get_coordinates(shapely.point_on_surface(geometries)).round(_DIGITS).tolist()
    boxes = shapely.bounds(geometries).round(_DIGITS).tolist()
    return {
        shape.id: {
            "type": "Feature",
            "id": shape.id,
            "geometry": orjson.loads(shapely.to_geojson(outline)),
            "properties": {
                "code": shape.code,
                "name": shape.name,
                "name_local": shape.name_local,
                "box": bounds,
                "at": at,
            },
        }
        for shape, outline, bounds, at in zip(shapes, simple, boxes, inside, strict=True)
        if not outline.is_empty
    }
