"""Giving jobs to crews in the console: what breaks is said first, nobody is overwritten, and everything can be taken back."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from fieldsvc.base.clock import format_time, parse_time, utc_now
from fieldsvc.base.db import transaction
from fieldsvc.people import crews
from fieldsvc.people.actors import SYSTEM
from tests.factories import make_crew, make_territories
from tests.field import Field
from tests.visitor import Visitor

DATA = {"Accept": "application/json"}


class Desk:
    """A dispatcher's console with two crews in territory A."""

    def __init__(self, app: Flask) -> None:
        self.app = app
        self.ids = make_territories(app)
        self.field = Field(app)
        self.one = make_crew(app, "ONE", [self.ids["A"]], lon=111.56)
        self.two = make_crew(app, "TWO", [self.ids["A"]], lon=111.53)
        self.person = Visitor(app, territory_ids=[self.ids["A"]])

    def new(self, **members: Any) -> str:
        """A repair of half an hour, promised for the end of the shift."""
        return self.field.job(**{"service_minutes": 30, "due_at": format_time(soon(600))} | members)

    def change_crew(self, crew_id: str, **changes: Any) -> None:
        with self.app.app_context(), transaction():
            crews.edit(SYSTEM, utc_now(), crews.get(SYSTEM, crew_id, lock=True), changes)

    def job(self, job_id: str) -> dict[str, Any]:
        return self.field.get(f"/v1/jobs/{job_id}")

    def post(self, job_id: str, what: str, person: Visitor | None = None, **fields: Any) -> TestResponse:
        fields.setdefault("rev", self.job(job_id)["rev"])
        return (person or self.person).post(f"/jobs/{job_id}/{what}", DATA, **fields)

    def breaks(self, job_id: str, crew: str, start: datetime | None = None) -> dict[str, str]:
        """Code → severity."""
        at = f"&start={format_time(start)}" if start else ""
        answer = self.person.get(f"/assign/breaks?job={job_id}&crew={crew}{at}", **DATA)
        assert answer.status_code == 200, answer.text
        found: list[dict[str, str]] = answer.json["jobs"][0]["breaks"]  # type: ignore[index]
        assert all(one["sentence"] for one in found)
        return {one["code"]: one["severity"] for one in found}


@pytest.fixture
def desk(app: Flask) -> Desk:
    return Desk(app)


def soon(minutes: int = 60) -> datetime:
    return utc_now().replace(microsecond=0) + timedelta(minutes=minutes)


def test_what_breaks_each_by_its_code(app: Flask, desk: Desk) -> None:
    field, one = desk.field, desk.one
    plain = desk.new()
    assert desk.breaks(plain, one) == {}
    assert desk.breaks(plain, one, soon()) == {}
    # what the crew is and has
    desk.change_crew(one, skills=["metering"])
    heavy = desk.new(required_equipment=["bucket"], load=3)
    desk.change_crew(one, capacity=2)
    assert desk.breaks(heavy, one, soon()) == {"skill": "hard", "equipment": "hard", "capacity": "hard"}
    assert desk.breaks(heavy, one) == {"skill": "hard", "equipment": "hard", "capacity": "hard"}
    desk.change_crew(one, skills=["repair", "metering", "inspection"], capacity=None)
    # its time
    assert desk.breaks(plain, one, soon(20 * 60)) == {"off_shift": "hard"}
    assert desk.breaks(plain, one, soon(-120)) == {"off_shift": "hard", "past": "soft"}
    assert desk.breaks(plain, one, soon(-30)) == {"past": "soft"}
    assert desk.breaks(plain, one, soon(8 * 60 + 50)) == {"shift_end": "hard"}
    assert desk.breaks(plain, one, soon(0) + timedelta(seconds=5)) == {"not_there_yet": "soft"}
    off = make_crew(app, "OFF", [desk.ids["A"]], ["metering"], on_duty=False)
    assert desk.breaks(plain, off) == {"skill": "hard", "off_shift": "hard"}
    assert desk.breaks(plain, off, soon()) == {"skill": "hard", "off_shift": "hard"}
    # the job's window and promise
    window = {"window_start": format_time(soon(180)), "window_end": format_time(soon(240))}
    appointed = desk.new(**window)
    assert desk.breaks(appointed, one, soon()) == {"window": "hard"}
    assert desk.breaks(appointed, one, soon(200)) == {}
    promised = desk.new(due_at=format_time(soon(90)))
    assert desk.breaks(promised, one, soon(120)) == {"promise": "soft"}
    # what it has planned
    check = {"kind": "safety_inspection", "due_at": format_time(soon(75))}
    done = desk.post(desk.new(**check), "assign", crew_id=one, planned_start=format_time(soon(60)))
    assert done.status_code == 200, done.text
    assert desk.breaks(plain, one, soon(50)) == {"overlap": "soft", "others_promise": "soft"}
    assert desk.breaks(plain, one, soon(15)) == {}  # it begins when it is planned, not as soon as it could
    assert desk.breaks(plain, one, soon(80)) == {"overlap": "soft", "not_there_yet": "soft"}
    desk.post(desk.new(), "assign", crew_id=one, planned_start=format_time(soon(200)))
    assert desk.breaks(desk.new(kind="safety_inspection"), one, soon(190)) == {"overlap": "soft", "outranked": "hard"}
    # who has it, and how far it is
    pinned = desk.new()
    desk.post(pinned, "assign", crew_id=desk.two, planned_start=format_time(soon(300)), pin="true")
    assert desk.breaks(pinned, one, soon(300)) == {"pinned": "hard"}
    assert desk.breaks(pinned, desk.two, soon(360)) == {"pinned": "hard"}


def test_a_crew_from_elsewhere_its_second_crew_and_one_that_is_not_active(app: Flask, desk: Desk) -> None:
    field = desk.field
    away = make_crew(app, "AWAY", [desk.ids["C"], desk.ids["A"]], lon=111.55, lat=35.55)
    desk.change_crew(away, territory_ids=[desk.ids["A"]], active=False)
    job = desk.new()
    answer = desk.post(job, "assign", crew_id=away, anyway="true")
    assert answer.status_code == 409 and answer.json["type"].endswith("state-not-allowed")  # type: ignore[index]
    assert [one["code"] for one in answer.json["breaks"]] == ["not_active"]  # type: ignore[index]
    other = make_crew(app, "OTHER", [desk.ids["B"]])
    assert desk.post(job, "assign", crew_id=other).status_code == 404  # not one of this dispatcher's
    everywhere = Visitor(app)
    told = everywhere.get(f"/assign/breaks?job={job}&crew={other}", **DATA).json["jobs"][0]["breaks"]  # type: ignore[index]
    assert {one["code"] for one in told} <= {"helping_out", "territory"} and told
