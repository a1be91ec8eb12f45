"""The way of a crew: expected times from where it is, delays, promises that will not be kept, and who may see that."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import insert, update

from fieldsvc.base.clock import format_time, parse_time, utc_now
from fieldsvc.base.db import db, transaction
from fieldsvc.config import Settings
from fieldsvc.work import jobs
from fieldsvc.work.models import Job
from tests import factories
from tests.field import Field, Phone, done, problem
from tests.integration.test_positions import tell, told


@pytest.fixture
def office(app: Flask) -> Field:
    return Field(app)


def planned(office: Field, phone: Phone, minutes: float, **members: Any) -> str:
    job = office.job(**members)
    start = format_time(utc_now() + timedelta(minutes=minutes))
    done(office.office.post(f"/v1/jobs/{job}/assign", json={"crew_id": phone.crew_id, "planned_start": start}))
    return job


def in_minutes(time: str) -> float:
    return (parse_time(time) - utc_now()).total_seconds() / 60


def test_expected_times_follow_from_where_the_crew_is(app: Flask, office: Field, settings: Settings) -> None:
    phone = office.phone()
    late = utc_now() - timedelta(hours=4)
    second = planned(office, phone, 90, kind="meter_change", lon=111.56, lat=35.45, service_minutes=20)
    first = planned(office, phone, -30, lon=111.55, lat=35.46, service_minutes=30, reported_at=format_time(late))
    path = f"/v1/crews/{phone.crew_id}/route"
    route = office.get(path)
    assert (route["origin"]["source"], route["travel"]["provider"]) == ("base", "geodesic")
    assert [stop["job_id"] for stop in route["stops"]] == [first, second]
    one, other = route["stops"]
    assert 0 < one["travel_min"] < 10
    assert abs(in_minutes(one["expected_begin"]) - one["travel_min"]) < 0.5
    assert abs(one["delay_min"] - 30 - one["travel_min"]) < 0.5
    assert other["delay_min"] < 0, "ahead of the plan"
    assert parse_time(other["expected_begin"]) > parse_time(one["expected_end"])
    missed = {promise["kind"]: promise["will_break"] for promise in one["promises"]}
    assert missed["arrival"] is True, "the promise of an arrival was due long ago"

    tell(phone, told(utc_now(), 111.60, 35.46))
    moved = office.get(path)
    assert (moved["origin"]["source"], moved["origin"]["lon"]) == ("position", 111.6)
    assert moved["stops"][0]["travel_min"] > one["travel_min"]
    eta = office.get(f"/v1/jobs/{first}")["eta"]
    assert (eta["from"], eta["age_s"] < 60) == ("position", True)
    assert abs(parse_time(eta["at"]) - parse_time(moved["stops"][0]["expected_arrival"])) < timedelta(seconds=5)
    app.extensions["fieldsvc.settings"] = replace(settings, position_fresh=1)
    tell(phone, told(utc_now() - timedelta(seconds=30), 111.60, 35.46))
    assert office.get(path)["origin"]["source"] in ("position", "base")

    phone.do("job.start", first)
    assert office.get(f"/v1/jobs/{first}")["eta"] is None, "it is there"
    phone.do(
        "job.complete", first, {"cause_major": "line", "fault_place": "pole", "ownership": "utility", "work_done": "x"}
    )
    phone.do("job.enroute", second)
    after = office.get(path)
    assert [stop["job_id"] for stop in after["stops"]] == [second]


def test_stopped_work_and_jobs_without_a_place_are_said(app: Flask, office: Field) -> None:
    phone = office.phone()
    stopped = office.job(crew=phone.crew_id)
    phone.do("job.start", stopped)
    phone.do("job.suspend", stopped, {"reason": "material"})
    nowhere = done(office.office.post("/v1/jobs", json={"kind": "repair"}), 201)["id"]
    office.assign(nowhere, phone.crew_id)
    stops = {stop["job_id"]: stop for stop in office.get(f"/v1/crews/{phone.crew_id}/route")["stops"]}
    assert (stops[stopped]["note"], stops[stopped]["expected_begin"]) == ("stopped", None)
    assert (stops[nowhere]["note"], stops[nowhere]["travel_min"]) == ("no_place", None)
    assert stops[nowhere]["expected_begin"] is not None


def test_a_route_looks_at_two_hundred_jobs(app: Flask, office: Field) -> None:
    crew = office.crew()
    with app.app_context(), transaction():
        nowhere = jobs.Place(None, None, None, None, None, "urban")
        rows = [jobs.drafted(jobs.NewJob("repair"), nowhere, f"X-{n}", utc_now()).row for n in range(201)]
        db.session.execute(insert(Job), [row | {"crew_id": crew, "status": "dispatched"} for row in rows])
    route = office.get(f"/v1/crews/{crew}/route")
    assert (len(route["stops"]), route["more"]) == (200, True)
    with app.app_context(), transaction():
        db.session.execute(update(Job).where(Job.number == "X-7").values(status="closed"))
    route = office.get(f"/v1/crews/{crew}/route")
    assert (len(route["stops"]), route["more"]) == (200, False)


def test_a_job_of_another_territory_takes_its_time_and_says_nothing(app: Flask, office: Field) -> None:
    ids = factories.make_territories(app)
    crew = factories.make_crew(app, territory_ids=[ids["A"], ids["B"]])
    office.job(crew=crew, lon=111.55, lat=35.45)
    office.job(crew=crew, lon=111.65, lat=35.45, title="Behind the border")
    mine = factories.make_staff(app, "dispatcher", [ids["A"]])
    route = done(mine.get(f"/v1/crews/{crew}/route"))
    assert sorted(stop["job_id"] is None for stop in route["stops"]) == [False, True]
    assert all(stop["expected_begin"] for stop in route["stops"])
    assert "Behind" not in str(route)
    stranger = factories.make_staff(app, "dispatcher", [ids["C"]])
    assert problem(stranger.get(f"/v1/crews/{crew}/route")) == (404, "not-found")
    auditor = factories.make_staff(app, "auditor")
    assert problem(auditor.get(f"/v1/crews/{crew}/route")) == (403, "forbidden")
    own = next(stop["job_id"] for stop in route["stops"] if stop["job_id"])
    assert "eta" not in done(auditor.get(f"/v1/jobs/{own}"))
