"""What planning needs to know of jobs, crews and shifts, through the API."""

from __future__ import annotations

from typing import Any

from flask import Flask

from tests.factories import make_crew, make_device, make_staff, make_territories
from tests.field import Field, repaired
from tests.integration.test_jobs import edit, make, problem, pulled

NEEDS = {"required_skills": ["live_line"], "required_equipment": ["bucket_truck"], "load": 3, "customers_affected": 40}


def test_a_job_says_what_a_crew_must_bring_and_what_it_waits_for(app: Flask) -> None:
    ids = make_territories(app)
    client, mine = make_staff(app), make_staff(app, "dispatcher", [ids["B"]])
    first = make(client)
    job = make(client, **NEEDS, follows_job_id=first["id"])
    assert {name: job[name] for name in NEEDS} == NEEDS and job["follows_job_id"] == first["id"]
    assert (first["required_skills"], first["load"], first["pinned"], first["planned_end"]) == ([], 0, False, None)
    circle = edit(client, first, follows_job_id=job["id"])
    assert problem(circle) == (409, "conflict") and "wait for itself" in circle.json["detail"]
    assert problem(edit(client, first, follows_job_id=first["id"])) == (409, "conflict")
    assert edit(client, job, follows_job_id=None, load=0).json["follows_job_id"] is None
    elsewhere = mine.post("/v1/jobs", json={"kind": "repair", "lon": 111.65, "lat": 35.45, "follows_job_id": job["id"]})
    assert problem(elsewhere) == (409, "conflict"), "what one may not see one cannot wait for"
    for member in ({"load": -1}, {"load": 10_001}, {"required_skills": ["Live Line"]}, {"crews": 3}):
        assert problem(client.post("/v1/jobs", json={"kind": "repair", **member})) == (422, "invalid")


def assist_of(client: Any, job: dict[str, Any]) -> dict[str, Any]:
    (found,) = [row for row in client.get("/v1/jobs").json["items"] if row["assists_job_id"] == job["id"]]
    return dict(found)


def test_a_job_for_two_crews_is_two_jobs_at_one_place(app: Flask) -> None:
    make_territories(app)
    client = make_staff(app)
    lead = make(client, crews=2, required_skills=["live_line"], service_minutes=75)
    second = assist_of(client, lead)
    assert (second["kind"], second["service_minutes"], second["position"]) == ("assist", 75, lead["position"])
    assert second["required_skills"] == ["live_line", "repair"] and lead["number"] in second["title"]
    assert edit(client, lead, lon=111.65, lat=35.45, service_minutes=90).status_code == 200
    moved = assist_of(client, lead)
    assert (moved["lon"], moved["service_minutes"]) == (111.65, 90) and moved["territory_id"] != lead["territory_id"]
    client.post(f"/v1/jobs/{lead['id']}/cancel", json={"reason": "works again"})
    assert assist_of(client, lead)["status"] == "cancelled"


def test_a_second_crew_does_not_set_out_for_work_that_is_done(app: Flask, drain: Any) -> None:
    field = Field(app, drain)
    crew, other = field.crew(), field.crew()
    phone = field.phone(crew)
    leads = [field.job(crew=crew, crews=2) for _ in range(2)]
    seconds = [assist_of(field.office, {"id": lead})["id"] for lead in leads]
    helper = field.phone(other)
    for second in seconds:
        field.assign(second, other)
    helper.pull()
    assert helper.do("job.enroute", seconds[1]) == "applied"
    for lead in leads:
        assert phone.do("job.complete", lead, repaired()) == "applied"
    assert [field.status(second) for second in seconds] == ["cancelled", "enroute"]
    assert helper.do("job.complete", seconds[1], {"hours": "1.5"}) == "applied"
    assert field.get(f"/v1/jobs/{seconds[1]}")["result"]["hours"] == "1.5"


def test_a_dispatcher_pins_a_job_and_lets_go_of_it(app: Flask) -> None:
    make_territories(app)
    client = make_staff(app)
    crew = make_crew(app)
    phone = make_device(app, crew)
    job = make(client)
    at = "2026-11-21T08:00:00Z"
    body = {"crew_id": crew, "planned_start": at, "pin": True}
    pinned = client.post(f"/v1/jobs/{job['id']}/assign", json=body).json
    assert (pinned["pinned"], pinned["pinned_start"], pinned["planned_end"]) == (True, at, "2026-11-21T09:00:00Z")
    free = client.post(f"/v1/jobs/{job['id']}/unpin").json
    assert (free["pinned"], free["pinned_start"], free["planned_start"], free["rev"]) == (False, None, at, 3)
    assert client.post(f"/v1/jobs/{job['id']}/unpin").json["rev"] == 3, "nothing to let go of"
    client.post(f"/v1/jobs/{job['id']}/assign", json={"crew_id": crew, "pin": True})
    left = client.post(f"/v1/jobs/{job['id']}/unassign", json={"reason": "ill"}).json
    assert (left["pinned"], left["planned_end"], pulled(phone, "job")) != (True, None, [])
    client.post(f"/v1/jobs/{job['id']}/cancel", json={"reason": "works again"})
    assert problem(client.post(f"/v1/jobs/{job['id']}/unpin")) == (409, "state-not-allowed")


def test_a_crew_says_what_it_carries_and_a_shift_has_its_breaks(app: Flask) -> None:
    client = make_staff(app)
    body = {"code": "C1", "name": "One", "equipment": ["truck", "truck"], "capacity": 8, "help_out_m": 5000}
    crew = client.post("/v1/crews", json=body).json
    assert (crew["equipment"], crew["capacity"], crew["help_out_m"]) == (["truck"], 8, 5000)
    changed = client.patch(f"/v1/crews/{crew['id']}", json={"capacity": None, "equipment": []}).json
    assert (changed["equipment"], changed["capacity"], changed["rev"]) == ([], None, 2)
    assert problem(client.patch(f"/v1/crews/{crew['id']}", json={"help_out_m": 1_000_001})) == (422, "invalid")

    def shift(earliest: str, latest: str, minutes: int) -> Any:
        pause = {"earliest": f"2026-11-21T{earliest}:00Z", "latest": f"2026-11-21T{latest}:00Z", "minutes": minutes}
        times = {"starts_at": "2026-11-21T08:00:00Z", "ends_at": "2026-11-21T16:00:00Z"}
        return client.post(f"/v1/crews/{crew['id']}/shifts", json={**times, "breaks": [pause]})

    for wrong in (("07:59", "12:00", 30), ("11:00", "15:31", 30), ("12:00", "11:59", 30), ("11:00", "12:00", 0)):
        assert problem(shift(*wrong)) == (422, "invalid"), wrong
    assert shift("08:00", "15:30", 30).json["breaks"] == [
        {"earliest": "2026-11-21T08:00:00Z", "latest": "2026-11-21T15:30:00Z", "minutes": 30}
    ]
