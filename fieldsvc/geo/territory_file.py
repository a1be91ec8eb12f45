"""What stands in a GeoJSON file of territories before anything is made of it: its properties, and borders as they are.

For people who choose which property is the code, and who want to see what a repair has changed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fieldsvc.geo.crs import lonlat_fault
from fieldsvc.geo.territories import GUESSES, features_of

_MOST_PROPERTIES = 100
_LONGEST_NAME = 80


@dataclass(frozen=True)
class Contents:
    """``properties`` are the names that features use, the most frequent first; ``guessed`` which of them is taken for
    the code, the name and so on while nobody says; ``samples`` a value of each.
    """

    features: list[Any]
    properties: list[str]
    guessed: dict[str, str]
    samples: dict[str, str]

    @property
    def collection(self) -> dict[str, Any]:
        """The file once more, so that it is read only once."""
        return {"type": "FeatureCollection", "features": self.features}

    def geometry(self, index: int, most: int) -> dict[str, Any] | None:
        """The border of a feature as it stands, as far as it can be drawn: positions that are none are left out. None:
        nothing is left, or it has more than ``most`` points.
        """
        feature = self.features[index]
        member = feature.get("geometry") if isinstance(feature, Mapping) else None
        kind = member.get("type") if isinstance(member, Mapping) else None
        if not isinstance(member, Mapping) or kind not in ("Polygon", "MultiPolygon"):
            return None
        parts = [member.get("coordinates")] if kind == "Polygon" else member.get("coordinates")
        drawn = [rings for rings in map(_rings, parts if isinstance(parts, list) else []) if rings]
        points = sum(len(ring) for rings in drawn for ring in rings)
        return {"type": "MultiPolygon", "coordinates": drawn} if 0 < points <= most else None


def contents(source: bytes | str | Mapping[str, Any]) -> Contents:
    """What is in a file.

    :raises Invalid: as :func:`fieldsvc.geo.territories.features_of`.
    """
    features = features_of(source)
    used: Counter[str] = Counter()
    samples: dict[str, str] = {}
    for feature in features:
        properties = feature.get("properties") if isinstance(feature, Mapping) else None
        for name, value in (properties if isinstance(properties, Mapping) else {}).items():
            if 0 < len(name) <= _LONGEST_NAME and isinstance(value, str | int | float) and value != "":
                used[name] += 1
                samples.setdefault(name, str(value)[:60])
    names = [name for name, _ in used.most_common(_MOST_PROPERTIES)]
    guessed = {what: next((name for name in tried if name in used), "") for what, tried in GUESSES.items()}
    return Contents(features, names, {what: name for what, name in guessed.items() if name}, samples)


def _rings(part: Any) -> list[list[list[float]]]:
    rings = []
    for ring in part if isinstance(part, list) else []:
        points = [
            [float(position[0]), float(position[1])]
            for position in (ring if isinstance(ring, list) else [])
            if isinstance(position, list) and len(position) >= 2 and not lonlat_fault(position[0], position[1])
        ]
        if len(points) >= 2:
            rings.append(points)
    return rings
