"""A storm that is made up: a network of feeders and transformer areas, faults in it, and the calls they bring.

Which fault a call is about is known here and to nobody else, so that one can count afterwards what became of the
faults.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from fieldsvc.base.clock import utc_now
from fieldsvc.base.db import db, transaction
from fieldsvc.base.sheet import Layout, Sheet
from fieldsvc.people import territories
from fieldsvc.people.actors import SYSTEM
from fieldsvc.records import importing

WEST, SOUTH, SIZE = 111.40, 35.30, 0.15
TERRITORIES = 4
AREAS_PER_FEEDER = 5
PER_AREA = 30
"""Customers of a transformer area."""


@dataclass(frozen=True)
class Area:
    """A transformer area and where it is; ``territory`` is the number of its square."""

    name: str
    feeder: str
    lon: float
    lat: float
    territory: int


@dataclass(frozen=True)
class Call:
    """One call: the fault it is about, and the body of the request."""

    fault: str
    hazard: bool
    body: bytes


def network(areas: int, seed: int) -> list[Area]:
    """Transformer areas in feeders of five, spread over four territories."""
    chance = random.Random(seed)
    found = []
    for number in range(areas):
        feeder = number // AREAS_PER_FEEDER
        square = feeder % TERRITORIES
        lon = WEST + SIZE * (square % 2 + chance.uniform(0.05, 0.95))
        lat = SOUTH + SIZE * (square // 2 + chance.uniform(0.05, 0.95))
        found.append(Area(f"TA-{number:03}", f"F-{feeder:02}", round(lon, 6), round(lat, 6), square))
    return found


def customers(areas: Sequence[Area], seed: int) -> str:
    """The customers of all areas as a file to be imported."""
    chance = random.Random(seed)
    lines = ["number,name,phone,address,lon,lat,usage_point_number,transformer_area,feeder"]
    for area in areas:
        for number in range(PER_AREA):
            name = f"{area.name}-{number:02}"
            lon, lat = (round(at + chance.uniform(-0.0015, 0.0015), 6) for at in (area.lon, area.lat))
            lines.append(
                f"{name},Customer {name},0359-{number:04},Lane {name},{lon},{lat},U-{name},{area.name},{area.feeder}"
            )
    return "\n".join(lines) + "\n"


def squares() -> dict[str, Any]:
    """The four territories as GeoJSON."""
    features = []
    for number in range(TERRITORIES):
        west, south = WEST + SIZE * (number % 2), SOUTH + SIZE * (number // 2)
        east, north = west + SIZE, south + SIZE
        ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
        properties = {"code": f"S{number}", "name": f"Square {number}"}
        geometry = {"type": "Polygon", "coordinates": [ring]}
        features.append({"type": "Feature", "properties": properties, "geometry": geometry})
    return {"type": "FeatureCollection", "features": features}


def store(areas: Sequence[Area], seed: int) -> None:
    """Put territories and customers into the database of the application at hand."""
    with transaction():
        territories.import_geojson(SYSTEM, squares(), {}, utc_now())
    rows = list(Sheet(customers(areas, seed).encode(), Layout(), importing.COLUMNS))
    taking = importing.CustomerImport(Layout())
    for first in range(0, len(rows), importing.BATCH):
        with transaction():
            taking.take(SYSTEM.source(utc_now()), rows[first : first + importing.BATCH])
    db.session.remove()
    assert taking.outcome.created == len(rows), taking.outcome


def calls(areas: Sequence[Area], count: int, seed: int) -> list[Call]:
    """``count`` calls in the order in which they come in: of a hundred, 87 from customers of an area that has lost its
    supply, ten from passers-by there, three about a fault of one house alone. In every twelfth area a wire is down, and
    every tenth who calls from there says so.
    """
    chance = random.Random(seed)
    hit = chance.sample(list(areas), max(1, len(areas) // 2))
    weights = [chance.paretovariate(1.2) for _ in hit]
    dangerous = {area.name for area in chance.sample(hit, max(1, len(hit) // 12))}
    quiet = [area for area in areas if area not in hit]
    return list(_calls(chance, hit, weights, dangerous, quiet, count))


def _calls(
    chance: random.Random,
    hit: Sequence[Area],
    weights: Sequence[float],
    dangerous: set[str],
    quiet: Sequence[Area],
    count: int,
) -> Iterator[Call]:
    for number in range(count):
        kind = chance.random()
        body: dict[str, Any] = {"reporting_kind": "call", "trouble_code": "no_power", "external_key": f"call-{number}"}
        if kind < 0.97:
            (area,) = chance.choices(hit, weights)
            fault, hazard = area.name, area.name in dangerous and chance.random() < 0.1
        else:
            area = chance.choice(quiet)
            fault, hazard = f"house-{number}", False
        if 0.87 <= kind < 0.97:
            body |= {
                "lon": round(area.lon + chance.uniform(-0.001, 0.001), 6),
                "lat": round(area.lat + chance.uniform(-0.001, 0.001), 6),
                "caller_phone": f"555-{number:05}",
            }
        else:
            body["customer_number"] = f"{area.name}-{chance.randrange(PER_AREA):02}"
        body |= {"hazards": ["wire_down"] if hazard else []}
        yield Call(fault, hazard, json.dumps(body).encode())
