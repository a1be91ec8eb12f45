"""Why this crew, and why not that one: asked through the API, with the numbers worked out again by hand."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from flask import Flask
from pyproj import Geod

from fieldsvc.base.clock import format_time, parse_time, utc_now
from tests.factories import make_crew, make_shift, make_staff, make_territories
from tests.field import Field, done, problem

URBAN_KMH, DETOUR = 25.0, 1.3
GEOD = Geod(ellps="WGS84")


def way(lon1: float, lon2: float, lat: float = 35.45) -> tuple[float, float]:
    """Minutes and kilometres of the straight line at town speed, worked out apart from the service."""
    metres = GEOD.inv(lon1, lat, lon2, lat)[2]
    return round(metres * DETOUR * 3.6 / URBAN_KMH) / 60, metres / 1000


def ask(client: Any, job: str, **query: str) -> dict[str, Any]:
    return done(client.get(f"/v1/jobs/{job}/assignment", query_string=query))


def test_by_hand_beside_those_that_could_and_those_that_cannot(app: Flask) -> None:
    ids = make_territories(app)
    field = Field(app)
    near = make_crew(app, "NEAR", [ids["A"]], lon=111.56)
    far = make_crew(app, "FAR", [ids["A"]], lon=111.53)
    make_crew(app, "CHANGERS", [ids["A"]], ["metering"])
    make_crew(app, "CHANGERS-2", [ids["A"]], ["metering"])
    make_crew(app, "ELSEWHERE", [ids["B"]])
    off = make_crew(app, "OFF", [ids["A"]], on_duty=False)
    job = field.job(lon=111.55, lat=35.45, service_minutes=60)
    field.assign(job, far)
    told = ask(field.office, job)
    assert (told["rule"], told["crew"]["code"], told["given"]["by"]) == ("by_hand", "FAR", "staff")
    assert told["words"].startswith(f"{told['given']['name']} gave it to FAR at ")
    out_min, out_km = way(111.53, 111.55)
    assert told["holder"]["rule"] == "has_it"
    assert told["holder"]["numbers"]["added_min"] == round(2 * out_min, 1)
    assert told["holder"]["numbers"]["added_km"] == round(2 * out_km, 1)
    begins = parse_time(told["holder"]["numbers"]["begin_at"]) - parse_time(told["asked_at"])
    assert begins == timedelta(minutes=out_min)
    in_min, _ = way(111.56, 111.55)
    best = told["alternatives"][0]
    assert (best["crew_code"], best["rule"], best["numbers"]["added_min"]) == (
        "NEAR",
        "better_now",
        round(2 * in_min, 1),
    )
    assert (told["possible"], told["impossible"]) == (1, {"off_shift": 1, "skill": 2, "territory": 1})
    assert told["decision"] is None and told["changed_since"] == []
    assert told["travel"]["provider"] == "geodesic"
    assert [cited["name"] for cited in told["rules"]] == ["hard.skill", "hard.territory", "tier.emergency"]
    assert "arrival of emergency repair (baseline)" in told["rules"][2]["source"]
    asked = ask(field.office, job, crew=near)
    assert (asked["asked"]["rule"], asked["asked"]["numbers"]["added_km"]) == (
        best["rule"],
        best["numbers"]["added_km"],
    )
    assert asked["alternatives"] == [] and asked["impossible"] == {}
    assert "NEAR could: " in asked["asked"]["words"] and "better than what FAR takes" in asked["asked"]["words"]
    assert ask(field.office, job, crew=off)["asked"]["words"].startswith("OFF has no shift from now until ")
    own = ask(field.office, job, crew=far)
    assert own["asked"] == own["holder"]


def test_a_run_that_decided_is_told_and_what_changed_since(app: Flask, drain: Any) -> None:
    ids = make_territories(app)
    field = Field(app)
    make_crew(app, "ONE", [ids["A"]], lon=111.56)
    job = field.job(lon=111.55, lat=35.45)
    run = done(field.office.post("/v1/dispatch-runs", json={}), 202)["id"]
    drain()
    told = ask(field.office, job)
    decision = field.get(f"/v1/dispatch-runs/{run}/decisions")["items"][0]
    assert told["given"] | {"at": None, "since": None} == {
        "by": "run",
        "name": told["given"]["name"],
        "at": None,
        "since": None,
        "run_id": run,
        "pinned": False,
    }
    assert (told["rule"], told["words"]) == (decision["reason"], decision["detail"])
    assert told["decision"]["run_id"] == run and told["decision"]["planned_start"] == decision["planned_start"]
    assert told["changed_since"] == []
    done(field.office.post("/v1/dispatch-runs", json={"mode": "replan", "what_if": True}), 202)
    drain()
    assert ask(field.office, job)["decision"]["run_id"] == run  # what nobody has accepted has decided nothing
    page = field.get(f"/v1/jobs/{job}")
    edit = field.office.patch(
        f"/v1/jobs/{job}", json={"service_minutes": 500}, headers={"If-Match": f'"{page["rev"]}"'}
    )
    assert edit.status_code == 200
    assert ask(field.office, job)["changed_since"] == ["changed since the run: service minutes"]


def test_nobody_has_it_the_last_run_says_why_and_how_it_stands_now(app: Flask, drain: Any) -> None:
    ids = make_territories(app)
    field = Field(app)
    job = field.job(lon=111.55, lat=35.45)
    assert ask(field.office, job)["words"] == (
        "no dispatch run has decided about it yet; there is no crew in your territories"
    )
    for number in range(3):
        make_crew(app, f"M{number}", [ids["A"]], ["metering"])
    off = make_crew(app, "OFF", [ids["A"]], on_duty=False)
    make_crew(app, "OFF-2", [ids["A"]], on_duty=False)
    done(field.office.post("/v1/dispatch-runs", json={}), 202)
    drain()
    told = ask(field.office, job)
    assert told["rule"] == told["decision"]["reason"] == "no_skill" and told["crew"] is None and told["given"] is None
    assert told["words"].endswith("; nobody can now: 3 crews lack repair, 2 are off shift")
    assert told["impossible"] == {"off_shift": 2, "skill": 3} and told["possible"] == 0
    make_shift(app, off, utc_now() - timedelta(hours=1))
    assert "; now OFF could: begins at " in ask(field.office, job)["words"]


def test_the_tray_has_its_reason_and_what_is_under_way_or_over_no_verdicts(app: Flask) -> None:
    ids = make_territories(app)
    field = Field(app)
    phone = field.phone(make_crew(app, "ONE", [ids["A"]]))
    nowhere = done(field.office.post("/v1/jobs", json={"kind": "repair"}), 201)["id"]
    assert ask(field.office, nowhere)["words"].endswith("; it has no place a crew could be sent to")
    outside = field.job(lon=10.0, lat=50.0)
    assert "; its place lies in no territory: " in ask(field.office, outside)["words"]
    job = field.job(crew=phone.crew_id)
    assert phone.do("job.start", job) == "applied"
    told = ask(field.office, job, crew=make_crew(app, "TWO", [ids["A"]]))
    assert (told["rule"], told["words"]) == (
        "under_way",
        f"ONE is in_progress with {told['job_number']}: no other crew can have it now",
    )
    assert told["asked"] is None
    field.cancel(job)
    assert ask(field.office, job)["rule"] == "ended"


def test_a_pin_and_a_window_say_no_with_both_times(app: Flask) -> None:
    ids = make_territories(app)
    field = Field(app)
    one, two = make_crew(app, "ONE", [ids["A"]]), make_crew(app, "TWO", [ids["A"]], lon=111.50)
    soon = utc_now() + timedelta(minutes=5)
    job = field.job(
        lon=111.55, lat=35.45, window_start=format_time(soon - timedelta(hours=1)), window_end=format_time(soon)
    )
    field.assign(job, one)
    asked = ask(field.office, job, crew=two)["asked"]
    assert asked["rule"] == "window" and asked["numbers"]["limit"] == format_time(soon)
    lateness = parse_time(asked["numbers"]["would"]) - soon
    assert asked["numbers"]["excess_min"] == round(lateness / timedelta(minutes=1), 1)
    done(field.office.post(f"/v1/jobs/{job}/assign", json={"crew_id": one, "pin": True}))
    told = ask(field.office, job, crew=two)
    assert (told["rule"], told["asked"]["rule"]) == ("pinned", "pinned_elsewhere")
    assert " pinned it to ONE at " in told["words"]


def test_nothing_of_other_territories_is_told(app: Flask) -> None:
    ids = make_territories(app)
    field = Field(app)
    mine = make_staff(app, "dispatcher", [ids["A"]])
    both = make_crew(app, "BOTH", [ids["A"], ids["B"]])
    theirs = make_crew(app, "THEIRS", [ids["B"]])
    own = make_crew(app, "OWN", [ids["A"]], lon=111.59)
    due = format_time(utc_now() + timedelta(minutes=30))
    field.job("meter_change", lon=111.65, lat=35.45, crew=both, due_at=due, customers_affected=5)
    window = {"window_start": format_time(utc_now()), "window_end": format_time(utc_now() + timedelta(minutes=20))}
    job = field.job("meter_change", lon=111.55, lat=35.45, crew=theirs, service_minutes=300, **window)
    told = ask(mine, job)
    assert told["crew"]["code"] == "THEIRS" and told["holder"]["rule"] == "territory"
    by_code = {one["crew_code"]: one for one in told["alternatives"]}
    assert by_code.keys() == {"BOTH", "OWN"}
    assert [late["job_number"] for late in by_code["BOTH"]["numbers"]["makes_late"]] == [None]
    assert "another job would be " in by_code["BOTH"]["words"]
    late = ask(field.office, job)["alternatives"][1]["numbers"]["makes_late"]
    assert len(late) == 1 and late[0]["job_number"].startswith("J-")
    assert ask(mine, job, crew=own)["asked"]["possible"]
    hidden = field.job(lon=111.65, lat=35.45)
    assert problem(mine.get(f"/v1/jobs/{hidden}/assignment")) == (404, "not-found")
    elsewhere = make_crew(app, "NOT-MINE", [ids["B"]])
    for stranger in (elsewhere, "nobody"):
        answer = mine.get(f"/v1/jobs/{job}/assignment?crew={stranger}")
        assert problem(answer) == (404, "not-found")
    assert problem(app.test_client().get(f"/v1/jobs/{job}/assignment")) == (401, "unauthenticated")
    assert ask(make_staff(app, "auditor"), job)["job_id"] == job
