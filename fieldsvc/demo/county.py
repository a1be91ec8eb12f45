"""The bundled scenario: a county power company around the real townships near Jiang County (绛县), Shanxi.

Places are facts from GeoNames (see ``data/README.md``), territories are their Voronoi cells. Customers, meters and jobs
are made up with a fixed seed, without any private person: households are "Zhang household 3".
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

from shapely.geometry import Point

from fieldsvc.demo.county_places import AREAS, Place, geojson, places
from fieldsvc.demo.scenario import DEFAULT_DAY, Scenario, local_time, skills_for

ATTRIBUTION = (
    "Places: GeoNames (geonames.org), CC BY 4.0. Territories are Voronoi cells of them; "
    "customers, meters and jobs are invented."
)
TIMEZONE = "Asia/Shanghai"

_SURNAMES = (
    ("Zhang", "张"), ("Li", "李"), ("Wang", "王"), ("Liu", "刘"), ("Chen", "陈"), ("Yang", "杨"), ("Zhao", "赵"),
    ("Guo", "郭"), ("Ren", "任"), ("Chai", "柴"), ("Jing", "景"), ("Xue", "薛"),
)  # fmt: skip

_PREMISES = (
    # name, name_local, class, importance, voltage, ct, pt, four-rate registers, in seats only
    ("people's hospital", "人民医院", "hospital", "special", "10kV", 20, 100, True, True),
    ("middle school", "中学", "school", "first", "380V", 30, 1, True, True),
    ("government office", "政府", "government", "first", "380V", 20, 1, True, False),
    ("primary school", "小学", "school", "first", "380V", 20, 1, True, False),
    ("shopping centre", "商场", "commercial", "second", "380V", 60, 1, True, True),
    ("flour mill", "面粉厂", "industrial", "second", "10kV", 10, 100, True, False),
    ("pumping station", "灌溉站", "agricultural", "second", "380V", 40, 1, True, False),
    ("grain shop", "粮油店", "commercial", "none", "220V", 1, 1, True, False),
)

_REPAIRS = (
    # title, title_local, hazards, priority, at a customer's
    ("Wire down across the road", "断线落地", "wire_down", 1, False),
    ("Burning smell from the meter box", "表箱焦味", "fire_risk", 1, True),
    ("Pole leaning over a house", "电杆倾斜", "pole_leaning", 1, False),
    ("No power in the whole village lane", "整巷停电", "", 2, False),
    ("Transformer fuse blown", "变压器熔丝熔断", "", 2, False),
    ("No power in one household", "一户停电", "", 3, True),
    ("Low voltage in the evening", "电压偏低", "", 3, True),
    ("Service cable chafed by a tree", "树碰线", "", 3, True),
    ("Breaker trips again and again", "频繁跳闸", "", 3, True),
    ("Street box door open", "箱门敞开", "", 4, False),
)

_REPAIR_WEIGHTS = (2, 2, 2, 4, 4, 12, 8, 6, 8, 3)

_BESIDE_THE_MAP = ((110.62, 35.41), (112.52, 35.33))
"""Two places outside of every territory: such calls come in, and the dispatcher has to see them."""


def build(seed: int = 7, day: date = DEFAULT_DAY) -> Scenario:
    """The county on ``day``; the same seed and day always give the same data."""
    chance = random.Random(seed)
    townships = places()
    people = _customers(townships, chance, day)
    repairs = _repairs(townships, people, chance, day)
    changes = _meter_changes(people, chance, day)
    inspections = _inspections(people, day)
    return Scenario(
        name="county",
        title="Jiang County and its neighbours 绛县供电",
        territories_geojson=geojson(townships),
        crews=_crews(townships, day),
        customers=people,
        jobs=repairs + changes + inspections,
        tickets=_tickets(people, chance, day),
        new_meters=[{"asset_no": f"SM{260000000 + 137 * n:09}", "digits": 6} for n in range(len(changes) + 20)],
        attribution=ATTRIBUTION,
        timezone=TIMEZONE,
    )


def _at(day: date, hour: int, minute: int = 0) -> str:
    return local_time(day, hour, minute, TIMEZONE)


def _near(place: Place, chance: random.Random, spread_km: float) -> tuple[float, float]:
    """A point around the township's centre, inside its territory."""
    for _ in range(60):
        angle, away = chance.uniform(0, 2 * math.pi), abs(chance.gauss(0, spread_km))
        lat = place.lat + away * math.sin(angle) / 111.2
        lon = place.lon + away * math.cos(angle) / (111.2 * math.cos(math.radians(place.lat)))
        if place.cell.contains(Point(lon, lat)):
            return round(lon, 6), round(lat, 6)
    return place.lon, place.lat


def _customers(townships: Sequence[Place], chance: random.Random, day: date) -> list[dict[str, str]]:
    rows: list[dict[str, str]] = []
    for place in townships:
        seat = bool(place.seat_of)
        premises = [p for p in _PREMISES if seat or not p[8]]
        chosen = premises if seat else sorted(chance.sample(premises, 2), key=premises.index)
        for name, local, kind, importance, voltage, ct, pt, rates, _ in chosen:
            facts = (f"{place.name} {name}", f"{place.name_local}{local}", kind, importance, voltage, ct, pt, rates)
            rows.append(_customer(place, facts, len(rows) + 1, chance, day))
        for number in range(1, 8 if seat else 5):
            surname, surname_local = chance.choice(_SURNAMES)
            names = (f"{surname} household {number}, {place.name}", f"{place.name_local}{surname_local}家{number}户")
            what = (*names, "residential", "none", "220V", 1, 1, chance.random() < 0.3)
            rows.append(_customer(place, what, len(rows) + 1, chance, day))
    return rows


def _customer(place: Place, facts: tuple[Any, ...], number: int, chance: random.Random, day: date) -> dict[str, str]:
    name, local, kind, importance, voltage, ct, pt, rates = facts
    lon, lat = _near(place, chance, 1.2 if place.seat_of else 2.0)
    branch = chance.randint(1, 3)
    installed = day - timedelta(days=chance.randint(700, 4200))
    return {
        "number": f"1408{number:06}",
        "name": name,
        "name_local": local,
        "customer_class": kind,
        "importance": importance,
        "phone": f"0359-000-{number:04}",
        "address": f"{place.name} township, lane {branch}, no. {chance.randint(1, 90)}",
        "lon": f"{lon:.6f}",
        "lat": f"{lat:.6f}",
        "site_class": place.site_class,
        "usage_point_number": f"UP1408{number:06}",
        "transformer_area": f"{place.code}-T{branch}",
        "feeder": f"{place.area}-F{1 + int(place.code[2:]) % 4}",
        "voltage_level": voltage,
        "meter_asset_no": f"SX{140800000 + number * 61:09}",
        "meter_digits": "6",
        "ct_ratio": str(ct),
        "pt_ratio": str(pt),
        "installed_at": _at(installed, 10),
        "last_reading_at": _at(day - timedelta(days=chance.randint(3, 30)), 9),
        "inspection_cycle_months": "",
        **_registers(chance, bool(rates)),
    }


def _registers(chance: random.Random, rates: bool) -> dict[str, str]:
    """A reading in kWh with two decimals; where there are four rates they add up to the total exactly."""
    cents = chance.randint(40_000, 4_800_000)
    values = {"total": cents, "sharp": 0, "peak": 0, "flat": 0, "valley": 0}
    if rates:
        values["sharp"] = cents * chance.randint(6, 12) // 100
        values["peak"] = cents * chance.randint(26, 34) // 100
        values["valley"] = cents * chance.randint(18, 28) // 100
        values["flat"] = cents - values["sharp"] - values["peak"] - values["valley"]
    shown = values if rates else {"total": cents}
    return {f"last_reading_{r}": str(Decimal(shown[r]).scaleb(-2)) if r in shown else "" for r in values}


def _job(
    key: str, kind: str, priority: int, title: str, customer: dict[str, str] | None, **more: str
) -> dict[str, str]:
    empty = dict.fromkeys(
        "description customer_number usage_point_number lon lat address due_at window_start window_end "
        "reported_at hazards".split(),
        "",
    )
    if customer:
        empty |= {"customer_number": customer["number"], "description": f"{customer['name']} {customer['name_local']}"}
        empty |= {c: customer[c] for c in ("usage_point_number", "lon", "lat", "address")}
    return {"external_key": key, "kind": kind, "priority": str(priority), "title": title} | empty | more


def _repairs(
    townships: Sequence[Place], people: list[dict[str, str]], chance: random.Random, day: date
) -> list[dict[str, str]]:
    """120 faults of the evening before and the early morning; two of them lie beside the map."""
    by_area: dict[str, list[dict[str, str]]] = {}
    for row in people:
        by_area.setdefault(row["transformer_area"].split("-")[0], []).append(row)
    rows = []
    for number in range(1, 121):
        title, local, hazards, priority, at_customer = chance.choices(_REPAIRS, _REPAIR_WEIGHTS)[0]
        place = chance.choice(townships)
        evening = chance.random() < 0.6
        reported = _at(day - timedelta(days=1), chance.randint(18, 23), chance.randint(0, 59))
        if not evening:
            reported = _at(day, chance.randint(5, 7), chance.randint(0, 55))
        customer = chance.choice(by_area[place.code]) if at_customer else None
        more = {"reported_at": reported, "hazards": hazards, "due_at": _at(day, 20)}
        if number > 118:
            customer, (lon, lat) = None, _BESIDE_THE_MAP[number - 119]
            more |= {"lon": str(lon), "lat": str(lat), "address": "beyond the last township"}
        elif not customer:
            lon, lat = _near(place, chance, 2.5)
            more |= {"lon": f"{lon:.6f}", "lat": f"{lat:.6f}", "address": f"{place.name} township, by the road"}
            more["description"] = f"{place.name} {place.name_local}"
        rows.append(_job(f"JX-R-{number:04}", "repair", priority, f"{title} {local}", customer, **more))
    return rows


def _meter_changes(people: list[dict[str, str]], chance: random.Random, day: date) -> list[dict[str, str]]:
    """80 planned changes, by transformer area, so that neighbours are cut off once; schools only after lessons."""
    areas: dict[str, list[dict[str, str]]] = {}
    for row in people:
        if row["importance"] not in ("special",):
            areas.setdefault(row["transformer_area"], []).append(row)
    rows: list[dict[str, str]] = []
    for area in chance.sample(sorted(areas), len(areas)):
        if len(areas[area]) < 2:
            continue
        morning = chance.random() < 0.5
        for customer in areas[area][: 80 - len(rows)]:
            hours = (8, 12) if morning else (13, 18)
            if "school" in customer["name"] or "office" in customer["name"]:
                hours = (17, 20)
            rows.append(
                _job(
                    f"JX-M-{len(rows) + 1:04}",
                    "meter_change",
                    4,
                    f"Planned meter change, {area} 计划换表",
                    customer,
                    window_start=_at(day, hours[0]),
                    window_end=_at(day, hours[1]),
                    due_at=_at(day + timedelta(days=14), 18),
                    reported_at=_at(day - timedelta(days=20), 9),
                )
            )
        if len(rows) == 80:
            break
    return rows


def _inspections(people: list[dict[str, str]], day: date) -> list[dict[str, str]]:
    """40 safety inspections, the most important customers first."""
    grades = ("special", "first", "second")
    important = [row for grade in grades for row in people if row["importance"] == grade][:40]
    return [
        _job(
            f"JX-I-{number:04}",
            "safety_inspection",
            3 if customer["importance"] == "special" else 4,
            "Periodic safety inspection 定期用电检查",
            customer,
            due_at=_at(day + timedelta(days=number % 10), 18),
            reported_at=_at(day - timedelta(days=15), 9),
        )
        for number, customer in enumerate(important, 1)
    ]


def _crews(townships: Sequence[Place], day: date) -> list[dict[str, Any]]:
    """Two crews in each of six areas: one for faults and meters, one for meters and inspections, every second one of
    those for faults too."""
    at = {place.geonameid: place for place in townships}
    crews = []
    for number, area in enumerate(AREAS):
        codes = [place.code for place in townships if place.area == area.code]
        for turn, base in enumerate(area.bases):
            kinds = ["meter_change", "safety_inspection"] if turn else ["repair", "meter_change"]
            if turn and number % 3 == 0:
                kinds.append("repair")
            surname, local = _SURNAMES[(number * 2 + turn) % len(_SURNAMES)]
            crews.append(
                {
                    "code": f"{area.code}-{turn + 1}",
                    "name": f"{area.name} crew {turn + 1}",
                    "name_local": f"{area.name_local}{'二' if turn else '一'}班",
                    "skills": skills_for(kinds, day),
                    "territory_codes": codes,
                    "base_lon": at[base].lon,
                    "base_lat": at[base].lat,
                    "shift_start": _at(day, 8),
                    "shift_end": _at(day, 18),
                    "members": [f"Foreman {surname} {local}班长", "Fitter 师傅"],
                }
            )
    return crews


def _tickets(people: list[dict[str, str]], chance: random.Random, day: date) -> list[dict[str, Any]]:
    """A dozen calls before the shift: one transformer area is out, so most of them mean the same fault."""
    sizes = Counter(row["transformer_area"] for row in people)
    crowded = min(sizes, key=lambda area: (-sizes[area], area))
    callers = [row for row in people if row["transformer_area"] == crowded][:7] + chance.sample(people, 5)
    channels = ("call", "app", "web", "call")
    return [
        {
            "external_key": f"JX-T-{number:04}",
            "reporting_kind": channels[number % 4],
            "trouble_code": "no_supply" if caller["transformer_area"] == crowded else "low_voltage",
            "description": f"{caller['name']}: no power 停电"
            if number <= 7
            else f"{caller['name']}: lights flicker 电压不稳",
            "customer_number": caller["number"],
            "lon": float(caller["lon"]),
            "lat": float(caller["lat"]),
            "address": caller["address"],
            "reported_at": _at(day, 7, 2 * number),
            "hazards": [],
        }
        for number, caller in enumerate(callers, 1)
    ]
