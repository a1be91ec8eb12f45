"""What tests start from: territories, staff, crews, shifts and devices, made by the use cases of the service itself."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from flask import Flask
from flask.testing import FlaskClient

from fieldsvc.base.clock import new_id, utc_now
from fieldsvc.base.db import reading, transaction
from fieldsvc.people import crews, devices, staff, territories
from fieldsvc.people.actors import SYSTEM

SKILLS = ("repair", "metering", "inspection")
PASSWORD = "correct horse battery"
_numbers = itertools.count(1)


def square(code: str, west: float, south: float, size: float = 0.1, **properties: Any) -> dict[str, Any]:
    """A GeoJSON feature: a square of ``size`` degrees."""
    east, north = west + size, south + size
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return {
        "type": "Feature",
        "properties": {"code": code, "name": f"Territory {code}"} | properties,
        "geometry": {"type": "Polygon", "coordinates": [ring]},
    }


def collection(*features: dict[str, Any]) -> dict[str, Any]:
    """A GeoJSON FeatureCollection."""
    return {"type": "FeatureCollection", "features": list(features)}


def make_territories(app: Flask, *features: dict[str, Any]) -> dict[str, str]:
    """Import ``features``; code -> id. Default: urban A around 111.55 E 35.45 N, rural B east, remote C north of it."""
    features = features or (
        square("A", 111.5, 35.4),
        square("B", 111.6, 35.4, site_class="rural"),
        square("C", 111.5, 35.5, site_class="remote"),
    )
    with app.app_context():
        with transaction():
            territories.import_geojson(SYSTEM, collection(*features), {}, utc_now())
        codes = [feature["properties"]["code"] for feature in features]
        with reading():
            return dict(zip(codes, territories.ids_of_codes(codes), strict=True))


def with_token(app: Flask, token: str) -> FlaskClient:
    """A client that sends ``token`` with every request."""
    client = app.test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {token}"
    return client


def make_staff(
    app: Flask, role: str = "admin", territory_ids: Sequence[str] | None = None, username: str | None = None
) -> FlaskClient:
    """A new account's client; ``territory_ids`` None: all territories. Its password is :data:`PASSWORD`."""
    now = utc_now()
    with app.app_context(), transaction():
        member = staff.create(
            SYSTEM.source(now),
            username=username or f"{role}-{next(_numbers)}",
            password=PASSWORD,
            role=role,
            all_territories=territory_ids is None,
            territory_ids=territory_ids or (),
        )
        _, token = staff.issue_token(SYSTEM.source(now), member, "tests", timedelta(days=1))
    return with_token(app, token)


def make_crew(
    app: Flask,
    code: str | None = None,
    territory_ids: Sequence[str] = (),
    skills: Sequence[str] = SKILLS,
    *,
    lon: float | None = 111.55,
    lat: float | None = 35.45,
    on_duty: bool = True,
) -> str:
    """The id of a new crew with two members, on duty from an hour ago for ten hours."""
    now = utc_now()
    number = next(_numbers)
    with app.app_context(), transaction():
        crew = crews.create(
            SYSTEM,
            now,
            code=code or f"CREW-{number}",
            name=f"Crew {number}",
            name_local=f"{number}班",
            skills=skills,
            territory_ids=territory_ids,
            base_lon=lon,
            base_lat=lat,
            members=[f"Member {number}a", f"Member {number}b"],
        )
        if on_duty:
            crews.add_shift(SYSTEM, now, crew, now - timedelta(hours=1), now + timedelta(hours=9))
        return crew.id


def make_shift(app: Flask, crew_id: str, starts_at: datetime, hours: float = 8) -> str:
    """The id of a new shift."""
    with app.app_context(), transaction():
        crew = crews.get(SYSTEM, crew_id, lock=True)
        return crews.add_shift(SYSTEM, utc_now(), crew, starts_at, starts_at + timedelta(hours=hours)).id


@dataclass(frozen=True)
class Handheld:
    """An enrolled device; ``client`` calls with its token."""

    client: FlaskClient
    id: str
    install_id: str
    crew_id: str
    token: str


def make_device(app: Flask, crew_id: str, install_id: str | None = None) -> Handheld:
    """A new device of a crew."""
    now = utc_now()
    install_id = install_id or new_id()
    with app.app_context(), transaction():
        _, code = devices.new_code(SYSTEM, now, crews.get(SYSTEM, crew_id), timedelta(minutes=5))
        device, token = devices.enrol(code, install_id, "android 15", "3.2.0", now)
        return Handheld(with_token(app, token), device.id, install_id, crew_id, token)
