"""The New York scenario: real street-light complaints, districts, important places and meters, read from a data folder.

Nothing of that data is kept here. What had to be invented to make a day of work of it: crews and their bases, which
places get an inspection, and where the six metered households live (the trial was in Australia): at places of Midtown.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from decimal import Decimal
from itertools import zip_longest
from pathlib import Path
from typing import Any

from shapely.geometry import shape

from fieldsvc.demo.scenario import CUSTOMER_COLUMNS, DEFAULT_DAY, JOB_COLUMNS, Scenario, local_time, skills_for
from fieldsvc.geo.territories import TerritoryIndex, read_geojson
from fieldsvc.geo.travel import distance_m

ATTRIBUTION = (
    "Districts and street-light complaints: NYC Open Data. Places: © OpenStreetMap contributors, ODbL 1.0. "
    "Meter readings: Ausgrid, SGSC Customer Trial Data, CC BY 3.0 AU."
)
TIMEZONE = "America/New_York"

DISTRICTS = "nyc_territories/community_districts.geojson"
COMPLAINTS = "nyc_streetlights/complaints_2024-01_2025-09.csv"
PLACES = "poi_midtown/important_places.csv"
METERS = "meters_sgsc/daily.csv"

COMPLAINT_JOBS = 640
INSPECTION_JOBS = 60
_OUTSIDE_JOBS = 8
_SAME_PLACE_M = 150.0

_GRADES = {
    "hospital": ("special", "hospital"),
    "school": ("first", "school"),
    "kindergarten": ("first", "school"),
    "university": ("first", "school"),
    "college": ("first", "school"),
    "fire_station": ("first", "public_service"),
    "police": ("first", "public_service"),
    "courthouse": ("first", "government"),
    "power_substation": ("first", "industrial"),
    "station": ("second", "public_service"),
    "clinic": ("second", "public_service"),
    "social_facility": ("second", "public_service"),
    "mall": ("second", "commercial"),
    "department_store": ("second", "commercial"),
    "supermarket": ("none", "commercial"),
}
"""Importance grade and customer class by OpenStreetMap category: illustrative, no utility has graded these places."""

_PRIORITIES = {
    "Fixture/Luminaire Out Of Position": "2",
    "Fixture/Luminaire Damaged": "2",
    "Multiple Street Lights Out": "2",
    "Street Light Lamp Dim": "4",
}

_CREWS = (
    # code, name, districts, district of the base, kinds of jobs
    ("MN-1", "Manhattan South", (101, 102, 103), 103, ("repair",)),
    ("MN-2", "Manhattan Midtown", (104, 105, 106), 105, ("repair", "meter_change")),
    ("MN-3", "Midtown inspection", (101, 102, 103, 104, 105, 106, 107, 108), 104, ("safety_inspection",)),
    ("MN-4", "Midtown meters", (102, 104, 105, 106, 107, 108), 106, ("meter_change",)),
    ("MN-5", "Manhattan North", (107, 108, 109, 110, 111, 112), 110, ("repair",)),
    ("BX-1", "Bronx South", (201, 202, 203, 204, 205, 206), 203, ("repair",)),
    ("BX-2", "Bronx North", (207, 208, 209, 210, 211, 212), 211, ("repair",)),
    ("BK-1", "Brooklyn North", (301, 302, 303, 304, 305, 308, 309, 316, 317), 303, ("repair",)),
    ("BK-2", "Brooklyn South", (306, 307, 310, 311, 312, 313, 314, 315, 318), 312, ("repair",)),
    ("QN-1", "Queens West", (401, 402, 403, 404, 405, 406, 407), 404, ("repair",)),
    ("QN-2", "Queens East", (408, 409, 410, 411, 412, 413, 414), 412, ("repair",)),
    ("SI-1", "Staten Island", (501, 502, 503), 502, ("repair",)),
)


def build(data_dir: Path, day: date = DEFAULT_DAY) -> Scenario:
    """New York on ``day``; the same files and day always give the same data.

    :param data_dir: the folder with ``nyc_territories``, ``nyc_streetlights``, ``poi_midtown`` and ``meters_sgsc``.
    :raises ValueError: a file is missing or not what it should be; the message names it and the folder.
    """
    districts = _districts(data_dir)
    index = TerritoryIndex(read_geojson(districts).shapes)
    places = _places(_rows(data_dir, PLACES, ("osm_type", "osm_id", "category", "name", "lat", "lon")))
    households = _households(_rows(data_dir, METERS, ("customer_id", "date", "kwh")), places, day)
    complaints, repeats = _distinct(
        _rows(data_dir, COMPLAINTS, ("src_row", "created_date", "descriptor", "latitude", "longitude"))
    )
    chosen = _spread(complaints, index)
    return Scenario(
        name="newyork",
        title="New York City street lights",
        territories_geojson=districts,
        crews=_crews(districts, day),
        customers=[*places, *households],
        jobs=[*map(_repair, chosen), *_inspections(places, index, day), *_meter_changes(households, day)],
        tickets=_tickets(chosen, repeats),
        new_meters=[{"asset_no": f"NYC{700000 + 31 * n}", "digits": 6} for n in range(len(households) + 10)],
        attribution=ATTRIBUTION,
        timezone=TIMEZONE,
    )


def _read(data_dir: Path, name: str) -> str:
    path = data_dir / name
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ValueError(f"{name} is missing in the data folder {data_dir}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{name} in the data folder {data_dir} cannot be read: {type(error).__name__}") from None


def _rows(data_dir: Path, name: str, needed: Iterable[str]) -> list[dict[str, str]]:
    reader = csv.DictReader(io.StringIO(_read(data_dir, name), newline=""))
    missing = [column for column in needed if column not in (reader.fieldnames or ())]
    if missing:
        raise ValueError(f"{name} in the data folder {data_dir} has no column {', '.join(missing)}")
    return list(reader)


def _districts(data_dir: Path) -> dict[str, Any]:
    """The community districts with the properties a territory needs, geometry untouched."""
    try:
        features = json.loads(_read(data_dir, DISTRICTS))["features"]
        made = [
            {
                "type": "Feature",
                "properties": {
                    "code": str(feature["properties"]["boro_cd"]),
                    "name": feature["properties"]["name"].replace("Community District", "CD"),
                    "name_local": "",
                    "level": 1,
                    "site_class": "urban",
                    "priority": 0,
                },
                "geometry": feature["geometry"],
            }
            for feature in features
        ]
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError):
        raise ValueError(f"{DISTRICTS} in the data folder {data_dir} is not the districts' GeoJSON") from None
    return {"type": "FeatureCollection", "features": made}


def _distinct(rows: Sequence[dict[str, str]]) -> tuple[list[dict[str, str]], Counter[tuple[str, ...]]]:
    """The complaints newest first, each once, and how often each was filed in all."""
    counts = Counter(map(_identity, rows))
    seen: set[tuple[str, ...]] = set()
    kept = []
    for row in sorted(rows, key=lambda r: int(r["src_row"])):
        if _identity(row) not in seen:
            seen.add(_identity(row))
            kept.append(row)
    kept.sort(key=lambda r: r["created_date"], reverse=True)
    return kept, counts


def _identity(row: dict[str, str]) -> tuple[str, ...]:
    return tuple(value for column, value in row.items() if column != "src_row")


def _spread(complaints: Sequence[dict[str, str]], index: TerritoryIndex) -> list[dict[str, str]]:
    """The newest complaints, district by district in turns, and a few that lie in none (parks, airports, bridges)."""
    located = index.locate_many([float(r["longitude"]) for r in complaints], [float(r["latitude"]) for r in complaints])
    by_district: dict[str | None, list[dict[str, str]]] = {}
    for row, where in zip(complaints, located, strict=True):
        by_district.setdefault(where.territory_id, []).append(row)
    chosen = by_district.pop(None, [])[:_OUTSIDE_JOBS]
    turns = zip_longest(*(by_district[code] for code in sorted(by_district, key=str)))
    chosen += [row for turn in turns for row in turn if row is not None][: COMPLAINT_JOBS - len(chosen)]
    return sorted(chosen, key=lambda r: int(r["src_row"]))


def _repair(row: dict[str, str]) -> dict[str, str]:
    # The source knows the day only; noon is the time least wrong.
    return _job(
        f"NYC-{row['src_row']}",
        "repair",
        _PRIORITIES.get(row["descriptor"], "3"),
        row["descriptor"],
        description=f"Street-light complaint of {row['created_date']}, {row['community_board']}",
        lon=row["longitude"],
        lat=row["latitude"],
        address=" ".join(row["address"].split()),
        reported_at=local_time(date.fromisoformat(row["created_date"]), 12, 0, TIMEZONE),
    )


def _job(key: str, kind: str, priority: str, title: str, **more: str) -> dict[str, str]:
    known = {"external_key": key, "kind": kind, "priority": priority, "title": title, **more}
    return {column: known.get(column, "") for column in JOB_COLUMNS}


def _places(rows: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """The places as customers, one each: OpenStreetMap has some both as a point and as a building."""
    kept: list[dict[str, str]] = []
    for row in sorted(rows, key=lambda r: (r["osm_type"] != "way", int(r["osm_id"]))):
        if not any(_same_place(row, other) for other in kept):
            kept.append(row)
    return [_place_customer(row) for row in sorted(kept, key=lambda r: (r["category"], int(r["osm_id"])))]


def _same_place(one: dict[str, str], other: dict[str, str]) -> bool:
    if one["category"] != other["category"] or not one["name"] or one["name"].casefold() != other["name"].casefold():
        return False
    return distance_m(float(one["lon"]), float(one["lat"]), float(other["lon"]), float(other["lat"])) < _SAME_PLACE_M


def _place_customer(row: dict[str, str]) -> dict[str, str]:
    importance, customer_class = _GRADES.get(row["category"], ("none", "commercial"))
    number = f"{row['osm_type'][:1].upper()}{row['osm_id']}"
    category = row["category"].replace("_", " ")
    known = {
        "number": number,
        "name": row["name"] or f"Unnamed {category} {number}",
        "customer_class": customer_class,
        "importance": importance,
        "address": f"{row.get('housenumber', '')} {row.get('street', '')}".strip() or "Midtown Manhattan",
        "lon": row["lon"],
        "lat": row["lat"],
        "site_class": "urban",
        "usage_point_number": f"UP-{number}",
        "voltage_level": "10kV" if importance == "special" else "380V",
    }
    return {column: known.get(column, "") for column in CUSTOMER_COLUMNS}


def _households(rows: Sequence[dict[str, str]], places: list[dict[str, str]], day: date) -> list[dict[str, str]]:
    """The metered households: a register made by summing the daily kWh from zero, the days moved by whole weeks so that
    the last one falls in the week before ``day``; each lives above a shop of Midtown."""
    energy: dict[str, Decimal] = {}
    days: dict[str, list[str]] = {}
    for row in rows:
        energy[row["customer_id"]] = energy.get(row["customer_id"], Decimal(0)) + Decimal(row["kwh"])
        days.setdefault(row["customer_id"], []).append(row["date"])
    homes = [row for row in places if row["importance"] == "none" and row["address"] != "Midtown Manhattan"]
    homes = sorted(homes, key=lambda r: (r["lat"], r["number"]))[:: max(1, len(homes) // max(1, len(energy)))]
    made = []
    for (meter, total), home in zip(sorted(energy.items()), homes, strict=False):
        last = date.fromisoformat(max(days[meter]))
        shift = timedelta(weeks=(day - last - timedelta(days=1)).days // 7)
        known = {
            "number": f"SGSC-{meter}",
            "name": f"Trial household {meter}",
            "customer_class": "residential",
            "importance": "none",
            "address": f"{home['address']}, upper floor",
            "lon": home["lon"],
            "lat": home["lat"],
            "site_class": "urban",
            "usage_point_number": f"UP-SGSC-{meter}",
            "voltage_level": "220V",
            "meter_asset_no": meter,
            "meter_digits": "6",
            "ct_ratio": "1",
            "pt_ratio": "1",
            "installed_at": local_time(date.fromisoformat(min(days[meter])) + shift, 0, 0, TIMEZONE),
            "last_reading_total": format(total, "f"),
            "last_reading_at": local_time(last + shift + timedelta(days=1), 0, 0, TIMEZONE),
        }
        made.append({column: known.get(column, "") for column in CUSTOMER_COLUMNS})
    return made


def _of_customer(customer: dict[str, str]) -> dict[str, str]:
    shared = {column: customer[column] for column in ("usage_point_number", "lon", "lat", "address")}
    return {"customer_number": customer["number"], "description": customer["name"], **shared}


def _inspections(places: Sequence[dict[str, str]], index: TerritoryIndex, day: date) -> list[dict[str, str]]:
    """Inspections due at the most important places, taking the districts in turns within a grade."""
    located = index.locate_many([float(p["lon"]) for p in places], [float(p["lat"]) for p in places])
    turns: Counter[tuple[str, str | None]] = Counter()
    ranked = []
    for place, where in zip(places, located, strict=True):
        key = (place["importance"], where.territory_id)
        turns[key] += 1
        ranked.append(
            (("special", "first", "second", "none").index(place["importance"]), turns[key], place["number"], place)
        )
    ranked.sort(key=lambda entry: entry[:3])
    return [
        _job(
            f"NYC-I-{place['number']}",
            "safety_inspection",
            "3" if place["importance"] == "special" else "4",
            "Periodic safety inspection",
            due_at=local_time(day + timedelta(days=number % 12), 17, 0, TIMEZONE),
            reported_at=local_time(day - timedelta(days=14), 9, 0, TIMEZONE),
            **_of_customer(place),
        )
        for number, (_, _, _, place) in enumerate(ranked[:INSPECTION_JOBS])
    ]


def _meter_changes(households: Sequence[dict[str, str]], day: date) -> list[dict[str, str]]:
    return [
        _job(
            f"NYC-M-{household['meter_asset_no']}",
            "meter_change",
            "3",
            f"Planned meter change, meter {household['meter_asset_no']}",
            due_at=local_time(day + timedelta(days=7), 17, 0, TIMEZONE),
            reported_at=local_time(day - timedelta(days=21), 9, 0, TIMEZONE),
            **_of_customer(household),
        )
        for household in households
    ]


def _crews(districts: dict[str, Any], day: date) -> list[dict[str, Any]]:
    shapes = {f["properties"]["code"]: shape(f["geometry"]) for f in districts["features"]}
    crews = []
    for code, name, home, base, kinds in _CREWS:
        if str(base) not in shapes:
            raise ValueError(f"{DISTRICTS} has no district {base}, where crew {code} is based")
        point = shapes[str(base)].representative_point()
        crews.append(
            {
                "code": code,
                "name": name,
                "name_local": "",
                "skills": skills_for(kinds, day),
                "territory_codes": [str(district) for district in home],
                "base_lon": round(point.x, 6),
                "base_lat": round(point.y, 6),
                "shift_start": local_time(day, 7, 0, TIMEZONE),
                "shift_end": local_time(day, 17, 0, TIMEZONE),
                "members": ["Foreman", "Line worker"],
            }
        )
    return crews


def _tickets(chosen: Sequence[dict[str, str]], counts: Counter[tuple[str, ...]]) -> list[dict[str, Any]]:
    """The repeated filings of the chosen complaints: further callers about the same light."""
    tickets = []
    for row in chosen:
        for again in range(2, counts[_identity(row)] + 1):
            job = _repair(row)
            tickets.append(
                {
                    "external_key": f"NYC-T-{row['src_row']}-{again}",
                    "reporting_kind": "call",
                    "trouble_code": "street_light",
                    "description": row["descriptor"],
                    "customer_number": "",
                    "lon": float(row["longitude"]),
                    "lat": float(row["latitude"]),
                    "address": job["address"],
                    "reported_at": job["reported_at"],
                    "hazards": [],
                }
            )
    return tickets
