"""A day of street-light work in New York: 1,000 real complaints, 60 crews based in the community districts.

Where the work lies is real; what the file does not say is drawn by the seed, by the rules written at the constants.
"""

from __future__ import annotations

import csv
import json
import random
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import shapely
from pyproj import Transformer
from shapely.geometry.base import BaseGeometry

from bench.walk import Day
from fieldsvc.geo.model import Goals, PlanCrew, PlanJob, Window
from fieldsvc.geo.travel import TravelTimes

DAY = date(2026, 3, 2)
DATA = Path(__file__).resolve().parents[2] / "shared" / "data"

MINUTES = {
    "Street Light Out": 25,
    "Street Light Lamp Missing": 30,
    "Street Light Lamp Dim": 15,
    "Multiple Street Lights Out": 60,
    "Fixture/Luminaire Out Of Position": 30,
    "Fixture/Luminaire Damaged": 40,
    "Fixture/Luminaire Missing": 45,
    "Flood Light Lamp Out": 30,
}
"""Time on site by what was complained of."""
LIFT = frozenset({"Fixture/Luminaire Damaged", "Fixture/Luminaire Missing", "Fixture/Luminaire Out Of Position"})
"""Needs the tall lift, and so does one street light in ten."""
CERTIFIED = frozenset({"Multiple Street Lights Out", "Flood Light Lamp Out"})
"""Needs the certificate for work on feeders."""
TIERS = (("hazard", 0.02), ("emergency", 0.08), ("important", 0.05), ("at_risk", 0.15), ("planned", 0.70))
PROMISED_MIN = {"hazard": (30, 60), "emergency": (45, 180), "important": (120, 420), "at_risk": (180, 420)}
"""A begin is promised so many minutes after the start of the day, evenly drawn; planned work is promised nothing."""
APPOINTMENTS = 0.15
"""Of planned work, this part has an appointment: it begins in two hours that open 1 to 6 hours into the day."""
SHIFT = timedelta(hours=8)
LIFTS, CERTIFICATES = 0.5, 0.34
"""The part of the crews with a tall lift, and with the certificate."""
CAPACITY = 30
NEIGHBOURS, HELP_OUT_M = 2, 5_000
"""A crew is at home in its district and the two nearest; it may help out in districts within 5 km of its own (shapes
simplified to 50 m)."""

_TO_METRES = Transformer.from_crs(4326, 32618, always_xy=True)


class Complaint(NamedTuple):
    descriptor: str
    lon: float
    lat: float
    district: int


class District(NamedTuple):
    """A community district: its code, its shape in degrees, and in metres."""

    code: str
    shape: BaseGeometry
    metres: BaseGeometry


def districts(data: Path = DATA) -> list[District]:
    features = json.loads((data / "nyc_territories" / "community_districts.geojson").read_text())["features"]
    found = []
    for feature in features:
        shape = shapely.geometry.shape(feature["geometry"])
        metres = shapely.transform(shape, lambda at: np.column_stack(_TO_METRES.transform(at[:, 0], at[:, 1])))
        found.append(District(str(feature["properties"]["boro_cd"]), shape, metres))
    return sorted(found, key=lambda one: one.code)


def complaints(areas: Sequence[District], data: Path = DATA, *, once: bool = True) -> list[Complaint]:
    """Every place complained of, ``once`` or as often as it was, in the order of the file; what lies in no district is
    left out."""
    found: list[dict[str, str]] = []
    known: set[tuple[str, str]] = set()
    with (data / "nyc_streetlights" / "complaints_2024-01_2025-09.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            place = (row["longitude"], row["latitude"])
            if not once or place not in known:
                found.append(row)
            known.add(place)
    points = shapely.points([(float(row["longitude"]), float(row["latitude"])) for row in found])
    inside, area = shapely.STRtree([one.shape for one in areas]).query(points, predicate="within")
    district = dict(zip(inside.tolist(), area.tolist(), strict=True))
    return [
        Complaint(row["descriptor"], float(row["longitude"]), float(row["latitude"]), district[number])
        for number, row in enumerate(found)
        if number in district
    ]


def day(seed: int, travel: TravelTimes, goals: Goals, jobs: int = 1000, crews: int = 60, data: Path = DATA) -> Day:
    """The day: the same seed and data give the same one."""
    draw = random.Random(seed)
    areas = districts(data)
    chosen = draw.sample(complaints(areas, data), jobs)
    starts = datetime.combine(DAY, time(12), UTC)  # seven o'clock in New York
    made = [_job(number, one, areas, starts, draw) for number, one in enumerate(chosen)]
    fleet = _crews(areas, Counter(one.district for one in chosen), crews, starts, draw)
    return Day(tuple(made), tuple(fleet), starts, goals, travel)


def _job(number: int, one: Complaint, areas: Sequence[District], starts: datetime, draw: random.Random) -> PlanJob:
    tier = draw.choices([name for name, _ in TIERS], [part for _, part in TIERS])[0]
    due = None
    windows: tuple[Window, ...] = ()
    if tier in PROMISED_MIN:
        due = starts + timedelta(minutes=draw.randint(*PROMISED_MIN[tier]))
    elif draw.random() < APPOINTMENTS:
        opens = starts + timedelta(hours=draw.randint(1, 6) - 1)
        windows = (Window(opens, opens + timedelta(hours=2)),)
    lift = one.descriptor in LIFT or draw.random() < 0.1
    skills = {"lighting"} | ({"feeders"} if one.descriptor in CERTIFIED else set())
    return PlanJob(
        f"J{number:05}", one.lon, one.lat, areas[one.district].code, "repair", frozenset(skills), tier,
        priority=1 if tier == "hazard" else 5, service_min=MINUTES[one.descriptor], windows=windows, due=due,
        equipment=frozenset({"tall_lift"} if lift else ()), load=1, number=f"J{number:05}",
    )  # fmt: skip


def _crews(
    areas: Sequence[District], demand: Counter[int], count: int, starts: datetime, draw: random.Random
) -> list[PlanCrew]:
    """One base after the other in the district with most work per crew based there."""
    based: Counter[int] = Counter()
    shapes = shapely.simplify([one.metres for one in areas], 50)
    apart = shapely.distance(shapes[:, None], shapes[None, :])
    fleet = []
    for number in range(count):
        at = max(range(len(areas)), key=lambda area: (demand[area] / (based[area] + 1), -area))
        based[at] += 1
        near = [int(area) for area in np.argsort(apart[at], kind="stable") if area != at]
        home = frozenset(areas[area].code for area in [at, *near[:NEIGHBOURS]])
        reach = {
            areas[area].code: float(apart[at, area])
            for area in near
            if apart[at, area] <= HELP_OUT_M and areas[area].code not in home
        }
        base = areas[at].shape.representative_point()
        skills = {"lighting"} | ({"feeders"} if draw.random() < CERTIFICATES else set())
        equipment = frozenset({"tall_lift"} if draw.random() < LIFTS else ())
        fleet.append(
            PlanCrew(
                f"C{number:03}",
                base.x,
                base.y,
                home,
                frozenset(skills),
                Window(starts, starts + SHIFT),
                code=f"C{number:03}",
                reach=reach,
                equipment=equipment,
                capacity=CAPACITY,
                end_lon=base.x,
                end_lat=base.y,
            )
        )
    return fleet


def rules_told() -> list[str]:
    """The rules of the draw, for the table."""
    tiers = ", ".join(f"{name} {part:.0%}" for name, part in TIERS)
    promised = ", ".join(f"{name} {low}–{high}" for name, (low, high) in PROMISED_MIN.items())
    service = ", ".join(f"{name} {minutes}" for name, minutes in MINUTES.items())
    return [
        f"drawn by the seed: tier ({tiers})",
        f"minutes after the start by which a begin is promised, drawn: {promised}",
        f"{APPOINTMENTS:.0%} of planned work has an appointment of two hours; minutes on site: {service}",
        f"crews: {SHIFT.seconds // 3600} h, no breaks, based where most work is per crew; at home in {NEIGHBOURS + 1}",
        f"help-out within {HELP_OUT_M / 1000:.0f} km; {LIFTS:.0%} have the lift, {CERTIFICATES:.0%} the certificate",
        f"a crew takes {CAPACITY} jobs at most",
    ]


def told(found: Day) -> dict[str, Any]:
    return {
        "jobs": len(found.jobs),
        "crews": len(found.crews),
        "tiers": dict(Counter(job.tier for job in found.jobs)),
        "hours_on_site": round(sum(job.service_min for job in found.jobs) / 60),
        "promised": sum(job.due is not None for job in found.jobs),
        "appointments": sum(bool(job.windows) for job in found.jobs),
        "lift": sum(bool(job.equipment) for job in found.jobs),
    }
