"""Boundaries of territories for a map on a screen: simplified, and no more of them than a map can show."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import numpy as np
import orjson
import shapely

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
    shapes = [shape for shape in territories.index(now).shapes if actor.sees(shape.id)]
    if box is not None:
        area = shapely.box(*box)
        shapes = [shape for shape in shapes if shape.geometry.intersects(area)]
    if len(shapes) > MOST:
        shapes = sorted(shapes, key=lambda shape: -shape.geometry.area)[:MOST]
    shapes.sort(key=lambda shape: shape.code)
    if not shapes:
        return {"type": "FeatureCollection", "features": []}
    geometries = np.array([shape.geometry for shape in shapes], dtype=object)
    simple = shapely.set_precision(shapely.simplify(geometries, tolerance), 10.0**-_DIGITS)
    inside = shapely.get_coordinates(shapely.point_on_surface(geometries)).round(_DIGITS).tolist()
    boxes = shapely.bounds(geometries).round(_DIGITS)
    return {
        "type": "FeatureCollection",
        "bbox": [*boxes[:, :2].min(axis=0).tolist(), *boxes[:, 2:].max(axis=0).tolist()],
        "features": [
            {
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
            for shape, outline, bounds, at in zip(shapes, simple, boxes.tolist(), inside, strict=True)
            if not outline.is_empty
        ],
    }
