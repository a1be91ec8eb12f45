"""Giving jobs to crews in the console: what breaks is said first, nobody is overwritten, all can be taken back."""

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
        given: dict[str, Any] = {"service_minutes": 30, "due_at": format_time(soon(600)), **members}
        return self.field.job(**given)

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
    one = desk.one
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
    assert desk.breaks(plain, one, soon(20 * 60)) == {"off_shift": "hard", "promise": "soft"}
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


def test_a_crew_that_is_not_active_and_one_from_elsewhere(app: Flask, desk: Desk) -> None:
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


def test_what_breaks_has_to_be_seen_and_where_it_fits_best_is_found(app: Flask, desk: Desk) -> None:
    job = desk.new(required_skills=["welding"])
    refused = desk.post(job, "assign", crew_id=desk.one, planned_start=format_time(soon()))
    assert refused.status_code == 409
    told = refused.json
    assert told is not None and told["allowed"] is True
    assert [(one["code"], one["severity"]) for one in told["breaks"]] == [("skill", "hard")]
    assert told["breaks"][0]["sentence"].startswith("ONE lacks welding")
    assert desk.job(job)["crew_id"] is None
    done = desk.post(job, "assign", crew_id=desk.one, planned_start=format_time(soon()), anyway="true", pin="true")
    assert done.status_code == 200 and done.json["job"]["crew"] == "ONE"  # type: ignore[index]
    page = desk.job(job)
    assert (page["crew_id"], page["pinned"], page["pinned_start"]) == (desk.one, True, page["planned_start"])
    # without a time it goes where it fits best, which is now: to the minute, and not before the crew can be there
    other = desk.new()
    assert desk.post(other, "assign", crew_id=desk.two).status_code == 200
    start = parse_time(desk.job(other)["planned_start"])
    assert utc_now() < start < soon(10) and start.second == 0
    # also one that cannot have it by the rules gets a time, if it is sent all the same
    third = desk.new(required_skills=["welding"])
    assert desk.post(third, "assign", crew_id=desk.two, anyway="true").status_code == 200
    assert desk.job(third)["planned_start"] is not None
    # the crews, the best first, each with its reason
    ranked = desk.person.get(f"/assign/crews?job={desk.new()}", **DATA).json["crews"]  # type: ignore[index]
    assert [(row["crew_code"], row["possible"]) for row in ranked] == [("ONE", True), ("TWO", True)]
    assert ranked[0]["words"].startswith("ONE could: begins at ")
    # a form that has seen what breaks with one crew has not seen it with another
    job = desk.new(required_skills=["welding"])
    form = desk.person.post(f"/jobs/{job}/assign", rev=desk.job(job)["rev"], crew_id=desk.two, planned_start="")
    assert form.status_code == 409 and f'name="seen" value="{desk.two}|"' in form.text
    fields: dict[str, Any] = {
        "rev": desk.job(job)["rev"],
        "anyway": "true",
        "seen": f"{desk.one}|",
        "crew_id": desk.two,
    }
    assert desk.person.post(f"/jobs/{job}/assign", **fields).status_code == 409
    fields["seen"] = f"{desk.two}|"
    assert desk.person.post(f"/jobs/{job}/assign", **fields).status_code == 303


def test_two_dispatchers_on_one_job_the_second_is_told_who_and_what(app: Flask, desk: Desk) -> None:
    job = desk.new()
    rev = desk.job(job)["rev"]
    first = Visitor(app, territory_ids=[desk.ids["A"]])
    assert desk.post(job, "assign", first, rev=rev, crew_id=desk.one).status_code == 200
    late = desk.post(job, "assign", rev=rev, crew_id=desk.two)
    assert late.status_code == 412
    told = late.json
    assert told is not None and told["current_rev"] == told["job"]["rev"] == desk.job(job)["rev"]
    assert len(told["changes"]) == 1
    assert told["changes"][0].startswith(first.username) and "Job assigned" in told["changes"][0]
    assert "ONE" in told["changes"][0] and told["job"]["words"].startswith(told["job"]["number"] + " is with ONE now")
    assert desk.job(job)["crew_id"] == desk.one
    # the form tells the same, keeps what was chosen, and carries the new revision: sending it again is meant
    page = desk.person.post(f"/jobs/{job}/assign", rev=rev, crew_id=desk.two)
    assert page.status_code == 412 and first.username in page.text and "Nothing has been overwritten" in page.text
    assert f'name="rev" value="{told["current_rev"]}"' in page.text
    assert f'<option value="{desk.two}" selected' in page.text
    others: dict[str, dict[str, Any]] = {"unassign": {"reason": "nearer"}, "pin": {}, "unpin": {}, "undo": {}}
    for what, more in others.items():
        assert desk.post(job, what, rev=rev, **more).status_code == 412
    again = desk.person.post(f"/jobs/{job}/assign", rev=told["current_rev"], crew_id=desk.two)
    assert (again.status_code, again.location) == (303, f"/jobs/{job}")
    assert desk.job(job)["crew_id"] == desk.two


def test_what_was_decided_is_taken_back_unless_somebody_has_been_there(app: Flask, desk: Desk) -> None:
    job = desk.new()
    start, later = format_time(soon(60)), format_time(soon(120))

    def held() -> tuple[Any, ...]:
        page = desk.job(job)
        return tuple(page[name] for name in ("crew_id", "planned_start", "pinned", "pinned_start", "status"))

    states = [held()]
    decisions: list[dict[str, Any]] = [
        {"crew_id": desk.one, "planned_start": start},
        {"crew_id": desk.one, "planned_start": later, "pin": "true"},
        {"crew_id": desk.two, "planned_start": start, "anyway": "true"},
    ]
    for fields in decisions:
        assert desk.post(job, "assign", **fields).status_code == 200
        states.append(held())
    assert states[1] == (desk.one, start, False, None, "dispatched")
    assert states[2] == (desk.one, later, True, later, "dispatched")
    assert states[3] == (desk.two, start, False, None, "dispatched")
    answer = desk.post(job, "undo")
    assert answer.status_code == 200 and answer.json["said"].startswith("Taken back. ")  # type: ignore[index]
    assert held() == states[2]
    # taking back is a decision, too
    desk.post(job, "undo")
    assert held() == states[3]
    desk.post(job, "unassign", reason="the bridge is closed")
    assert held() == states[0]
    desk.post(job, "undo")
    assert held() == states[3]
    rev = desk.job(job)["rev"]
    desk.post(job, "pin")
    assert held()[2:4] == (True, start)
    refused = desk.post(job, "undo", rev=rev)
    assert refused.status_code == 412 and desk.person.username in refused.json["changes"][0]  # type: ignore[index]
    assert desk.post(job, "unpin").status_code == 200 and held() == states[3]
    first = desk.new()
    nothing = desk.post(first, "undo")
    assert nothing.status_code == 409 and "nothing to take back" in nothing.json["detail"]  # type: ignore[index]


def test_who_may_and_where(app: Flask, desk: Desk) -> None:
    job, away = desk.new(), desk.field.job(lon=111.65, lat=35.45)
    for path in (f"/jobs/{away}/assign", f"/assign/breaks?job={away}&crew={desk.one}", f"/assign/crews?job={away}"):
        assert desk.person.get(path, **DATA).status_code == 404
    does: dict[str, dict[str, Any]] = {"assign": {"crew_id": desk.one}, "unassign": {"reason": "x"}}
    does |= {"pin": {}, "unpin": {}, "undo": {}}
    for what, fields in does.items():
        assert desk.post(away, what, **fields).status_code == 404
    assert desk.job(away)["rev"] == 1
    auditor = Visitor(app, "auditor")
    for path in (f"/jobs/{job}/assign", f"/assign/breaks?job={job}&crew={desk.one}", f"/assign/crews?job={job}"):
        assert auditor.get(path).status_code == 403
    for what, fields in does.items():
        assert desk.post(job, what, auditor, **fields).status_code == 403
    assert desk.job(job)["rev"] == 1
    # what the form lacks is said beside the field, and to a script by its name
    page = desk.person.post(f"/jobs/{job}/assign", rev=1)
    assert page.status_code == 422 and 'id="f-crew_id-fault"' in page.text
    malformed = desk.post(job, "assign", crew_id=desk.one, rev="new")
    assert malformed.status_code == 422 and malformed.json["errors"][0]["field"] == "rev"  # type: ignore[index]
    piece = desk.person.piece(f"/jobs/{job}/assign")
    assert piece.status_code == 200 and "<html" not in piece.text and "ONE" in piece.text
