"""Inspections fall due by cycle: who by when, the jobs made of it ahead of time, never two for one customer."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import date, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from flask import Flask

from fieldsvc.base.clock import format_time, utc_now
from fieldsvc.base.db import transaction
from fieldsvc.config import Settings
from fieldsvc.work import inspections
from fieldsvc.work.inspections import after_months, latest_before
from tests.factories import make_crew, make_shift, make_staff, make_territories
from tests.field import Field, checklist_codes, done, inspected, problem
from tests.integration.test_imports import import_customers

SHANGHAI = ZoneInfo("Asia/Shanghai")
HEAD = "number,name,customer_class,importance,lon,lat,usage_point_number,voltage_level,meter_asset_no,installed_at,"
LONG_AGO = "2015-05-05T00:00:00Z"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return dataclasses.replace(settings, zone="Asia/Shanghai")


def today() -> date:
    return utc_now().astimezone(SHANGHAI).date()


def settle(app: Flask) -> None:
    rows = [
        f"C1,Hospital,hospital,special,111.55,35.45,U1,10kV,M1,{LONG_AGO},,",
        f"C2,Mill,industrial,second,111.55,35.45,U2,380V,M2,{LONG_AGO},,",
        f"C3,Mill at 35 kV,industrial,none,111.55,35.45,U3,35kV,M3,{LONG_AGO},,",
        f"C4,House,residential,none,111.65,35.45,U4,220V,M4,{LONG_AGO},,",
        f"C5,House by choice,residential,none,111.55,35.45,U5,220V,M5,{LONG_AGO},2,",
        f"C7,Shop,commercial,none,111.55,35.45,U7,220V,M7,{LONG_AGO},,{format_time(utc_now() - timedelta(days=300))}",
        f"C6,New house,residential,none,111.55,35.45,U6,220V,M6,{format_time(utc_now() - timedelta(days=10))},,",
    ]
    outcome = import_customers(app, "\n".join([HEAD + "inspection_cycle_months,last_inspected_at", *rows]) + "\n")
    assert not outcome.refused, outcome.refused


def due(client: Any, until: date, query: str = "") -> dict[str, Any]:
    rows = done(client.get(f"/v1/inspections/due?until={until.isoformat()}{query}"))["items"]
    return {row["customer_number"]: row for row in rows}


def test_who_is_due_by_when_and_by_which_rule(app: Flask) -> None:
    ids = make_territories(app)
    settle(app)
    client = make_staff(app, "auditor")
    now = today()
    every = due(client, after_months(now, 40))
    assert {number: row["cycle_months"] for number, row in every.items()} == {
        "C1": 3, "C2": 12, "C3": 6, "C4": 36, "C5": 2, "C6": None, "C7": 24,
    }  # fmt: skip
    assert every["C7"]["since"] == (utc_now() - timedelta(days=300)).astimezone(SHANGHAI).date().isoformat()
    assert every["C3"]["due_on"] == after_months(now, 6).isoformat() and every["C3"]["since"] == now.isoformat()
    assert (every["C6"]["reason"], every["C6"]["due_on"]) == ("new_supply", (now + timedelta(days=20)).isoformat())
    for number, row in every.items():
        on = date.fromisoformat(row["due_on"])
        assert number in due(client, on) and number not in due(client, on - timedelta(days=1)), number
    assert list(due(client, after_months(now, 40), "&limit=2")) == ["C1", "C2"]
    elsewhere = make_staff(app, "dispatcher", [ids["B"]])
    assert set(due(elsewhere, after_months(now, 40))) == {"C4"}
    assert problem(client.post("/v1/inspections/due", json={"until": now.isoformat()})) == (403, "forbidden")
    foreign = {"until": after_months(now, 40).isoformat(), "customer_ids": [every["C1"]["customer_id"]]}
    assert problem(elsewhere.post("/v1/inspections/due", json=foreign)) == (409, "conflict")


def test_a_job_is_made_once_and_the_next_one_after_the_inspection(app: Flask) -> None:
    make_territories(app)
    settle(app)
    field = Field(app)
    until = after_months(today(), 4)
    made = done(field.office.post("/v1/inspections/due", json={"until": until.isoformat()}), 201)
    assert (made["made"], made["more"]) == (3, False)
    again = done(field.office.post("/v1/inspections/due", json={"until": until.isoformat()}), 201)
    assert again["made"] == 0 and due(field.office, until) == {}
    found = {job["title"]: job for job in field.get("/v1/jobs?kind=safety_inspection")["items"]}
    job = found["Safety inspection: every 3 months"]
    assert job["due_at"] == format_time(
        inspections._midnight(after_months(today(), 3) + timedelta(days=1), SHANGHAI)
    ) and (job["window_start"], job["window_end"]) == (None, None)
    assert "Safety inspection: first visit after the supply began" in found
    phone = field.phone()
    field.assign(job["id"], phone.crew_id)
    phone.pull()
    assert phone.do("inspection.record", job["id"], inspected(codes=checklist_codes())) == "applied"
    assert phone.do("job.complete", job["id"], {}) == "applied"
    assert "C1" in due(field.office, after_months(today(), 4)), "the next turn counts from the inspection"


def test_the_service_makes_them_ahead_and_takes_a_cancellation_for_an_answer(app: Flask) -> None:
    make_territories(app)
    settle(app)
    client = make_staff(app)
    now = utc_now() + timedelta(days=45)

    def passes(later: timedelta) -> int:
        with app.app_context(), transaction():
            return inspections.make_due(now + later, SHANGHAI)

    assert passes(timedelta()) == 2, "C5 within 30 days of its two months, and the new house"
    assert passes(timedelta(hours=1)) == 0
    jobs = client.get("/v1/jobs?kind=safety_inspection").json["items"]
    for job in jobs:
        done(client.post(f"/v1/jobs/{job['id']}/cancel", json={"reason": "the house is empty"}))
    assert passes(timedelta(days=2)) == 0, "cancelled is not made again by itself"
    assert set(due(client, now.date() + timedelta(days=30))) == {"C5", "C6"}, "but still to be seen"


def test_a_crew_with_time_to_spare_takes_the_inspection_that_is_near(app: Flask, drain: Callable[[], None]) -> None:
    ids = make_territories(app)
    rows = [f"C{n},House,residential,none,{lon},35.45,U{n},220V,,,1" for n, lon in ((1, 111.51), (2, 111.588))]
    import_customers(app, "\n".join([HEAD + "inspection_cycle_months", *rows]) + "\n")
    client = make_staff(app)
    until = after_months(today(), 1).isoformat()
    assert done(client.post("/v1/inspections/due", json={"until": until}), 201)["made"] == 2
    crew = make_crew(app, "ONE", [ids["A"]], on_duty=False)
    make_shift(app, crew, utc_now(), 2.5)  # time for a fault and one inspection, not for two
    fault = done(client.post("/v1/jobs", json={"kind": "repair", "lon": 111.59, "lat": 35.45}), 201)["id"]
    client.post("/v1/dispatch-runs", json={})
    drain()
    found = {job["usage_point_id"]: job for job in client.get("/v1/jobs?kind=safety_inspection").json["items"]}
    number = {point: client.get(f"/v1/usage-points/{point}").json["number"] for point in found}
    assert {number[point]: job["crew_id"] for point, job in found.items()} == {"U1": None, "U2": crew}
    assert client.get(f"/v1/jobs/{fault}").json["crew_id"] == crew


@pytest.mark.parametrize(
    ("until", "months", "latest"),
    [
        ("2027-02-28", 1, "2027-01-31"),
        ("2027-02-27", 1, "2027-01-27"),
        ("2027-03-30", 1, "2027-02-28"),
        ("2028-02-29", 12, "2027-02-28"),
        ("2027-05-31", 3, "2027-02-28"),
    ],
)
def test_the_end_of_a_month_is_the_end_of_a_shorter_one(until: str, months: int, latest: str) -> None:
    found = latest_before(date.fromisoformat(until), months)
    assert found.isoformat() == latest
    assert after_months(found, months) <= date.fromisoformat(until)
    assert after_months(found + timedelta(days=1), months) > date.fromisoformat(until)
