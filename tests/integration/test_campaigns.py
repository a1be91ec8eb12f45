"""Campaigns and planned outages: bulk work drafted, looked at, released, called off; by the API and a real worker."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from flask import Flask

from fieldsvc.base.clock import format_time, parse_time, utc_now
from fieldsvc.config import Settings
from tests.factories import make_staff, make_territories
from tests.field import done
from tests.integration.test_imports import import_customers

Drain = Callable[[], None]
SHANGHAI = ZoneInfo("Asia/Shanghai")
HEAD = "number,name,customer_class,importance,lon,lat,usage_point_number,transformer_area,meter_asset_no,installed_at"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return dataclasses.replace(settings, zone="Asia/Shanghai")


def monday() -> date:
    """The first Monday that is at least two weeks away: no holiday in the tests, no weekend."""
    day = utc_now().astimezone(SHANGHAI).date() + timedelta(days=14)
    return day + timedelta(days=-day.weekday() % 7)


def at(day: date, hour: int) -> str:
    return format_time(datetime(day.year, day.month, day.day, hour, tzinfo=SHANGHAI))


def settle(app: Flask) -> None:
    """Two areas of three households in A; in T1 a hospital, in T2 a school; one household in B; one without a meter."""
    rows = [
        f"H{n},House {n},residential,none,111.55,35.45,U{n},T{1 + n // 4},M{n},2024-01-01T00:00:00Z"
        for n in (1, 2, 3, 4, 5, 6)
    ]
    rows.append("S1,Hospital,hospital,special,111.55,35.45,U7,T1,M7,2024-01-01T00:00:00Z")
    rows.append("S2,School,school,first,111.55,35.45,U8,T2,M8,2024-01-01T00:00:00Z")
    rows.append("B1,House in B,residential,none,111.65,35.45,U9,T9,M9,2024-01-01T00:00:00Z")
    rows.append("N1,No meter,residential,none,111.55,35.45,U0,T1,,")
    outcome = import_customers(app, "\n".join([HEAD, *rows]) + "\n")
    assert not outcome.refused, outcome.refused


def ask(client: Any, drain: Drain, **members: Any) -> dict[str, Any]:
    """A new campaign's page, once a worker has drafted it."""
    wanted = {
        "name": "Smart meters",
        "kind": "meter_change",
        "from_day": monday().isoformat(),
        "until_day": (monday() + timedelta(days=11)).isoformat(),
        "transformer_areas": ["T1", "T2"],
        "crews_per_day": 1,
    }
    made = done(client.post("/v1/campaigns", json=wanted | members), 202)
    assert made["state"] == "planning"
    drain()
    return done(client.get(f"/v1/campaigns/{made['id']}"))


def items(client: Any, campaign: dict[str, Any], query: str = "") -> dict[str, dict[str, Any]]:
    found = done(client.get(f"/v1/campaigns/{campaign['id']}/items?limit=200{query}"))["items"]
    return {item["usage_point_number"]: item for item in found}


def outage(client: Any, area: str, day: date, first: int = 8, last: int = 12) -> dict[str, Any]:
    body = {"transformer_area": area, "starts_at": at(day, first), "ends_at": at(day, last), "reason": "new switchgear"}
    return done(client.post("/v1/planned-outages", json=body), 201)


def test_from_the_draft_to_the_jobs_and_back(app: Flask, drain: Drain) -> None:
    make_territories(app)
    settle(app)
    client = make_staff(app, "dispatcher")
    cut = outage(client, "T1", monday() + timedelta(days=3))
    draft = ask(client, drain, night_crews_per_day=1)
    assert (draft["state"], draft["items"], draft["jobs"], draft["failure"]) == ("draft", 9, 0, None)
    assert draft["placed"] == {"in_outage": 4, "own_hours": 1, "with_area": 3}
    assert draft["left"] == {"no_meter": 1}
    found = items(client, draft)
    first, thursday = monday().isoformat(), (monday() + timedelta(days=3)).isoformat()
    assert {found[n]["day"] for n in ("U4", "U5", "U6")} == {first}, "a whole area on one day, the first with room"
    assert {found[n]["day"] for n in ("U1", "U2", "U3", "U7")} == {thursday}, "cut once, the hospital with the others"
    for number in ("U1", "U7"):
        assert found[number]["outage_id"] == cut["id"]
        assert found[number]["window_start"] == cut["starts_at"]
        assert parse_time(found[number]["window_end"]) == parse_time(cut["ends_at"]) - timedelta(minutes=30)
    assert (found["U8"]["night"], found["U8"]["day"]) == (True, first), "the school by night"
    assert (found["U8"]["window_start"], found["U8"]["window_end"]) == (at(monday(), 22), _later(at(monday(), 22), 8.5))
    assert found["U0"]["day"] is None and found["U0"]["reason"] == "no_meter"
    assert client.get("/v1/jobs").json["items"] == [], "nothing leaves the house before it is released"
    picture = client.get(f"/v1/campaigns/{draft['id']}/calendar")
    assert picture.mimetype == "image/svg+xml" and "8 usage points on a day, 1 on none" in picture.text

    done(client.post(f"/v1/campaigns/{draft['id']}/release"), 202)
    drain()
    released = done(client.get(f"/v1/campaigns/{draft['id']}"))
    assert (released["state"], released["jobs"], released["done_items"]) == ("released", 8, 8)
    done(client.post(f"/v1/campaigns/{draft['id']}/release"), 202)
    drain()
    jobs = client.get("/v1/jobs?kind=meter_change").json["items"]
    assert len(jobs) == 8, "released twice, made once"
    job = next(job for job in jobs if job["usage_point_id"] == found["U7"]["usage_point_id"])
    assert job["title"] == "Meter change T1: Smart meters" and job["window_start"] == cut["starts_at"]
    assert job["due_at"] == job["window_end"] == found["U7"]["window_end"]
    assert job["details"]["campaign"] == {"id": draft["id"], "name": "Smart meters", "night": False}
    assert job["external_key"] == f"campaign:{draft['id']}:{job['usage_point_id']}"
    assert done(client.get(f"/v1/planned-outages/{cut['id']}"))["jobs"] == 4

    assert ask(client, drain, name="Again")["left"] == {"no_meter": 1, "open_job": 8}
    done(client.post(f"/v1/campaigns/{draft['id']}/cancel", json={"reason": "no meters came"}), 202)
    drain()
    assert done(client.get(f"/v1/campaigns/{draft['id']}"))["state"] == "cancelled"
    assert {job["status"] for job in client.get("/v1/jobs?kind=meter_change").json["items"]} == {"cancelled"}


def _later(text: str, hours: float) -> str:
    return format_time(parse_time(text) + timedelta(hours=hours))
