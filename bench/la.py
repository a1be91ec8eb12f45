"""Two days of calls in Los Angeles as they really came in, minute by minute, and the crews we send.

The file says what was asked for, where and when. Which of it is field work, how long that takes, what is promised and
how many crews there are is said here, by rule.
"""

from __future__ import annotations

import csv
import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

from fieldsvc.geo.model import PlanCrew, PlanJob, Window
from fieldsvc.geo.territories import TerritoryIndex, read_geojson
from fieldsvc.rules.book import RuleBook

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
ZONE = ZoneInfo("America/Los_Angeles")
FIRST_DAY, DAYS = date(2020, 1, 1), 2


class Work(NamedTuple):
    """How a type of request is worked: tier, minutes on site, whether the arrival of emergency repair is promised (rule
    pack ``promises``)."""

    tier: str
    minutes: int
    promised: bool = False


WORK = {
    "Multiple Streetlight Issue": Work("hazard", 60, promised=True),
    "Single Streetlight Issue": Work("emergency", 40, promised=True),
    "Report Water Waste": Work("emergency", 30, promised=True),
    "Dead Animal Removal": Work("emergency", 15, promised=True),
    "Illegal Dumping Pickup": Work("planned", 20),
    "Metal/Household Appliances": Work("planned", 15),
    "Electronic Waste": Work("planned", 10),
}
"""A street in the dark is a hazard; a light out, running water and what lies on the road are faults; what is fetched is
planned. Not taken: Bulky Items (a truck's fixed round), Graffiti Removal (painters), Homeless Encampment, Other."""
VARIES = 0.25
"""Real minutes on site: the planned ones times a log-normal factor of this width, drawn by call, unknown before."""

SHIFTS = (("early", time(6)), ("late", time(14)), ("night", time(22)))
SHIFT = timedelta(hours=8)
PART = {"early": 0.6, "late": 0.4, "night": 0.0}
"""How a region's crews are spread over the day; at least one is on duty at any time."""
WAY_MIN, FILLED = 12, 0.85
"""A region has so many crews that the work of its two days, each job with so many minutes of driving, fills this part
of their hours."""


@dataclass(frozen=True)
class Call:
    """One call. ``actual_min`` is what the work will take; planners see ``job.service_min``."""

    job: PlanJob
    at: datetime
    what: str
    actual_min: float


@dataclass(frozen=True)
class Calls:
    """Calls in the order they came in, regions with their bases, and what became of the file's other rows."""

    calls: tuple[Call, ...]
    bases: dict[str, tuple[float, float]]
    left: Counter[str]


def read(seed: int, book: RuleBook, data: Path = DATA) -> Calls:
    """The calls; every row of the file is one or is counted in ``left`` by its reason."""
    index, region_of, bases = _regions(data)
    left: Counter[str] = Counter()
    rows = list(_rows(data, left))
    located = index.locate_many([row.lon for row in rows], [row.lat for row in rows])
    seen: set[tuple[str, float, float]] = set()
    calls = []
    for row, where in zip(rows, located, strict=True):
        if where.territory_id is None:
            left["in no council"] += 1
        elif (row.what, row.lon, row.lat) in seen:
            left["the same again at one place"] += 1
        else:
            seen.add((row.what, row.lon, row.lat))
            calls.append(_call(seed, book, row, region_of[where.territory_id]))
    return Calls(tuple(sorted(calls, key=lambda call: (call.at, call.job.id))), bases, left)


class _Row(NamedTuple):
    number: str
    what: str
    at: datetime
    lon: float
    lat: float


def _rows(data: Path, left: Counter[str]) -> Iterator[_Row]:
    with next((data / "la_311").glob("requests_*.csv")).open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            left["rows of the file"] += 1
            at = _time(row["createddate"])
            if row["requesttype"] not in WORK:
                left["no field work of ours"] += 1
            elif not row["latitude"] or not row["longitude"]:
                left["no coordinates"] += 1
            elif row["closeddate"] and _time(row["closeddate"]) < at:
                left["closed before it was made"] += 1
            else:
                if row["servicedate"] and _time(row["servicedate"]) < at:
                    left["taken, though served before it was made"] += 1
                yield _Row(row["srnumber"], row["requesttype"], at, float(row["longitude"]), float(row["latitude"]))


def _time(text: str) -> datetime:
    return datetime.strptime(text, "%m/%d/%y %H:%M").replace(tzinfo=ZONE).astimezone(UTC)


def _call(seed: int, book: RuleBook, row: _Row, region: str) -> Call:
    work = WORK[row.what]
    due = None
    if work.promised:
        promised = book.promises(row.at.date(), "urban")["arrival_minutes"].value
        due = row.at + timedelta(minutes=int(promised))
    job = PlanJob(
        row.number, row.lon, row.lat, region, "repair", frozenset({"field"}), work.tier,
        priority=1 if work.tier == "hazard" else 5, service_min=work.minutes, number=row.number, due=due,
    )  # fmt: skip
    factor = random.Random(f"{seed} {row.number}").lognormvariate(0, VARIES)
    return Call(job, row.at, row.what, work.minutes * factor)


def _regions(data: Path) -> tuple[TerritoryIndex, dict[str, str], dict[str, tuple[float, float]]]:
    """The councils as territories; the service region of each; a region's base: in the council nearest its middle."""
    source = (data / "la_territories" / "neighborhood_councils_2019.json").read_bytes()
    region_of = {
        str(feature["properties"]["nc_id"]): feature["properties"]["service_re"].partition(" - ")[0].title()
        for feature in json.loads(source)["features"]
    }
    reading = read_geojson(source)
    by_region = defaultdict(list)
    for shape in reading.shapes:
        by_region[region_of[shape.code]].append(shape.geometry)
    bases = {}
    for region, shapes in by_region.items():
        middle_lon = sum(shape.centroid.x for shape in shapes) / len(shapes)
        middle_lat = sum(shape.centroid.y for shape in shapes) / len(shapes)
        nearest = min(shapes, key=lambda s: (s.centroid.x - middle_lon) ** 2 + (s.centroid.y - middle_lat) ** 2)
        point = nearest.representative_point()
        bases[region] = (point.x, point.y)
    return TerritoryIndex(reading.shapes), region_of, dict(sorted(bases.items()))


def crews(found: Calls) -> list[PlanCrew]:
    """A crew and shift each, from the day before until a day after, in the order of their shifts."""
    fleet = []
    for region, (lon, lat) in found.bases.items():
        minutes = sum(call.job.service_min + WAY_MIN for call in found.calls if call.job.territory_id == region)
        a_day = minutes / DAYS / FILLED / (SHIFT / timedelta(minutes=1))
        for day in range(-1, DAYS + 2):
            for name, begins in SHIFTS:
                start = datetime.combine(FIRST_DAY + timedelta(days=day), begins, ZONE).astimezone(UTC)
                for number in range(max(1, round(a_day * PART[name]))):
                    crew_id = f"{region}/{day:+d}/{name}/{number}"
                    fleet.append(
                        PlanCrew(
                            crew_id,
                            lon,
                            lat,
                            frozenset({region}),
                            frozenset({"field"}),
                            Window(start, start + SHIFT),
                            code=crew_id,
                            end_lon=lon,
                            end_lat=lat,
                        )
                    )
    return sorted(fleet, key=lambda crew: (crew.shift.start, crew.id))


def span() -> Window:
    """The two days."""
    start = datetime.combine(FIRST_DAY, time(0), ZONE).astimezone(UTC)
    return Window(start, datetime.combine(FIRST_DAY + timedelta(days=DAYS), time(0), ZONE).astimezone(UTC))


def told(found: Calls, fleet: Sequence[PlanCrew]) -> list[str]:
    """What was taken, left and sent, for the notes."""
    types = Counter(call.what for call in found.calls)
    a_day = Counter(crew.id.split("/")[2] for crew in fleet if crew.id.split("/")[1] == "+0")
    return [
        "taken: "
        + ", ".join(
            f"{name} {many} ({WORK[name].tier}, {WORK[name].minutes} min)" for name, many in types.most_common()
        ),
        "of the file: " + ", ".join(f"{count:,} {name}" for name, count in found.left.items()),
        "crews a day: " + ", ".join(f"{count} {name}" for name, count in a_day.items()),
    ]
