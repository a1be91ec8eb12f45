"""Jobs through the API: made, found, edited, assigned, unassigned, cancelled."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests.factories import make_crew, make_device, make_staff, make_territories

REPAIR = {
    "kind": "repair",
    "lon": 111.55,
    "lat": 35.45,
    "address": "East lane 4",
    "reported_at": "2026-11-21T06:00:00Z",
}


def make(client: FlaskClient, **members: Any) -> dict[str, Any]:
    answer = client.post("/v1/jobs", json={**REPAIR, **members})
    assert answer.status_code == 201, answer.json
    assert answer.headers["Location"] == f"/v1/jobs/{answer.json['id']}"
    return answer.json


def edit(client: FlaskClient, job: dict[str, Any], rev: int | None = None, **members: Any) -> Any:
    tag = f'"{rev if rev is not None else job["rev"]}"'
    return client.patch(f"/v1/jobs/{job['id']}", json=members, headers={"If-Match": tag})


def problem(answer: Any) -> tuple[int, str]:
    assert answer.mimetype == "application/problem+json"
    return answer.status_code, answer.json["type"].removeprefix("/problems/")


def pulled(handheld: Any, entity: str) -> list[dict[str, Any]]:
    return [change for change in handheld.client.get("/sync/v1/pull").json["changes"] if change["entity"] == entity]


def test_a_new_job_gets_its_territory_from_its_point_and_its_promises_from_the_site_class(app: Flask) -> None:
    ids = make_territories(app)
    job = make(make_staff(app))
    assert job["territory_id"] == ids["A"] and job["territory"]["code"] == "A"
    assert (job["status"], job["site_class"], job["priority"]) == ("waiting_to_be_scheduled", "urban", 5)
    assert job["number"].startswith("J-") and len(job["number"]) == 8
    assert job["title"] and job["service_minutes"] > 0 and job["checklist"] and job["checklist_version"] >= 1
    arrival = next(clock for clock in job["clocks"] if clock["kind"] == "arrival")
    assert (arrival["started_at"], arrival["due_at"]) == ("2026-11-21T06:00:00Z", "2026-11-21T06:45:00Z")
    assert arrival["verdict"] == "running" and "commitment" in arrival["source"].lower()
    assert job["due_at"] == arrival["due_at"]
    assert job["position"] == {"type": "Point", "coordinates": [111.55, 35.45]}


@pytest.mark.parametrize(
    ("lon", "lat", "due"), [(111.65, 35.45, "2026-11-21T07:30:00Z"), (111.55, 35.55, "2026-11-21T08:00:00Z")]
)
def test_a_rural_and_a_remote_place_are_promised_later_arrival(app: Flask, lon: float, lat: float, due: str) -> None:
    make_territories(app)
    assert make(make_staff(app), lon=lon, lat=lat)["due_at"] == due


def test_a_job_without_a_point_or_outside_of_everything_goes_to_the_tray_with_the_reason(app: Flask) -> None:
    make_territories(app)
    client = make_staff(app)
    nowhere = client.post("/v1/jobs", json={"kind": "repair"}).json
    assert nowhere["territory_id"] is None and nowhere["territory_reason"] == "no coordinates were given"
    far = make(client, lon=10.0, lat=50.0)
    assert far["territory_id"] is None and "outside of every territory" in far["territory_reason"]


def test_hazards_make_a_job_the_most_urgent(app: Flask) -> None:
    assert make(make_staff(app), hazards=["wire_down"], priority=7)["priority"] == 1


def test_an_external_key_is_taken_once(app: Flask) -> None:
    client = make_staff(app)
    first = make(client, external_key="sf-1")
    again = client.post("/v1/jobs", json={**REPAIR, "external_key": "sf-1"})
    assert problem(again) == (409, "already-exists") and again.json["id"] == first["id"]


def test_of_many_who_use_one_external_key_at_once_one_gets_it(app: Flask) -> None:
    clients = [make_staff(app) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda c: c.post("/v1/jobs", json={**REPAIR, "external_key": "x"}), clients))
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409]


def test_an_idempotency_key_answers_the_same_again(app: Flask) -> None:
    client = make_staff(app)
    headers = {"Idempotency-Key": "k1"}
    first = client.post("/v1/jobs", json=REPAIR, headers=headers)
    again = client.post("/v1/jobs", json=REPAIR, headers=headers)
    assert first.status_code == again.status_code == 201 and first.json == again.json
    other = client.post("/v1/jobs", json={**REPAIR, "priority": 2}, headers=headers)
    assert problem(other) == (409, "idempotency-key-reused")
    assert len(client.get("/v1/jobs").json["items"]) == 1


@pytest.mark.parametrize(
    ("members", "field"),
    [
        ({"kind": "gardening"}, "/kind"),
        ({"priority": 0}, "/priority"),
        ({"priority": 10}, "/priority"),
        ({"priority": 10**30}, "/priority"),
        ({"priority": "3"}, "/priority"),
        ({"lon": 181}, "/lon"),
        ({"lat": -91}, "/lat"),
        ({"lon": 0, "lat": 0}, "/lon"),
        ({"lat": None}, "/lat"),
        ({"title": "a\x00b"}, "/title"),
        ({"due_at": "2026-11-21T06:00:00"}, "/due_at"),
        ({"colour": "red"}, "/colour"),
        ({"details": {"a": {"b": {"c": {"d": {"e": {"f": {"g": {"h": {"i": {"j": {"k": 1}}}}}}}}}}}}, "/details"),
        ({"window_start": "2026-11-21T06:00:00Z", "window_end": "2026-11-21T06:00:00Z"}, "window_end"),
    ],
)
def test_malformed_content_is_named_field_by_field(app: Flask, members: dict[str, Any], field: str) -> None:
    answer = make_staff(app).post("/v1/jobs", json={**REPAIR, **members})
    assert problem(answer) == (422, "invalid")
    assert any(error["field"].startswith(field) and error["reason"] for error in answer.json["errors"])


@pytest.mark.parametrize("details", [{"photo": "x" * 64 * 1024}, {str(n): n for n in range(20_000)}])
def test_details_are_bounded_as_every_list_and_pull_carries_them(app: Flask, details: dict[str, Any]) -> None:
    answer = make_staff(app).post("/v1/jobs", json={**REPAIR, "details": details})
    assert problem(answer) == (422, "invalid")
    assert answer.json["errors"] == [{"field": "/details", "reason": "must be at most 65536 bytes of JSON"}]


def test_unknown_customers_usage_points_and_crews_are_a_conflict(app: Flask) -> None:
    client = make_staff(app)
    assert problem(client.post("/v1/jobs", json={**REPAIR, "customer_id": "nobody"})) == (409, "conflict")
    assert problem(client.post("/v1/jobs", json={**REPAIR, "usage_point_id": "nowhere"})) == (409, "conflict")
    job = make(client)
    assert problem(client.post(f"/v1/jobs/{job['id']}/assign", json={"crew_id": "none"})) == (409, "conflict")


def test_jobs_are_filtered_by_what_a_dispatcher_asks_for(app: Flask) -> None:
    ids = make_territories(app)
    client, crew = make_staff(app), make_crew(app, territory_ids=[ids["A"]])
    a = make(client, title="Burning smell", priority=2)
    b = make(client, lon=111.65, kind="meter_change")
    c = make(client, lat=35.55, kind="safety_inspection", address="Mill 100% west")
    client.post(f"/v1/jobs/{a['id']}/assign", json={"crew_id": crew})

    def found(query: str) -> set[str]:
        answer = client.get(f"/v1/jobs?{query}")
        assert answer.status_code == 200, answer.json
        return {job["id"] for job in answer.json["items"]}

    assert found("") == {a["id"], b["id"], c["id"]}
    assert found("status=dispatched") == {a["id"]}
    assert found("status=dispatched,waiting_to_be_scheduled") == {a["id"], b["id"], c["id"]}
    assert found("status=dispatched&status=waiting_to_be_scheduled&kind=meter_change") == {b["id"]}
    assert found(f"territory={ids['B']},{ids['C']}") == {b["id"], c["id"]}
    assert found(f"crew={crew}") == {a["id"]}
    assert found("bbox=111.5,35.4,111.6,35.5") == {a["id"]}
    assert found("priority=2") == {a["id"]}
    assert found("q=BURNING") == {a["id"]}
    assert found("q=100%25") == {c["id"]}
    assert found(f"q={b['number'].lower()}") == {b["id"]}
    assert found(f"from={c['created_at']}") == {c["id"]}
    assert found(f"to={b['created_at']}") == {a["id"]}
    assert found("customer=nobody") == set()


@pytest.mark.parametrize(
    "query",
    [
        "limit=201",
        "limit=0",
        "limit=" + "9" * 30,
        "bbox=1,2,3",
        "bbox=200,0,201,1",
        "status=lost",
        "page=2",
        "from=today",
    ],
)
def test_a_query_that_cannot_be_meant_is_refused(app: Flask, query: str) -> None:
    assert problem(make_staff(app).get(f"/v1/jobs?{query}")) == (422, "invalid")


def test_pages_hold_every_job_once_while_new_ones_come_in(app: Flask) -> None:
    client = make_staff(app)
    wanted = {make(client)["id"] for _ in range(7)}
    seen: list[str] = []
    path = "/v1/jobs?limit=3"
    while path:
        answer = client.get(path)
        seen += [job["id"] for job in answer.json["items"]]
        make(client)
        link = answer.headers.get("Link", "")
        path = link[1 : link.index(">")] if link else ""
    assert len(seen) == len(set(seen)) and set(seen) == wanted
    assert problem(client.get("/v1/jobs?cursor=WzFd")) == (400, "bad-cursor")


def test_an_edit_needs_the_revision_it_is_meant_for(app: Flask) -> None:
    client = make_staff(app)
    job = make(client)
    assert problem(client.patch(f"/v1/jobs/{job['id']}", json={"title": "x"})) == (428, "precondition-required")
    changed = edit(client, job, title="New title", tags=["b", "a", "b"])
    assert changed.status_code == 200 and changed.headers["ETag"] == '"2"'
    assert changed.json["title"] == "New title" and changed.json["tags"] == ["a", "b"]
    stale = edit(client, job, title="Other")
    assert problem(stale) == (412, "precondition-failed") and stale.json["current_rev"] == 2
    assert client.get(f"/v1/jobs/{job['id']}").headers["ETag"] == '"2"'
    same = edit(client, job, rev=2, title="New title")
    assert same.status_code == 200 and same.headers["ETag"] == '"2"'


def test_of_many_edits_of_one_revision_one_is_made(app: Flask) -> None:
    clients = [make_staff(app) for _ in range(5)]
    job = make(clients[0])
    with ThreadPoolExecutor(5) as pool:
        answers = list(pool.map(lambda n: edit(clients[n], job, title=f"By {n}"), range(5)))
    assert sorted(answer.status_code for answer in answers) == [200, 412, 412, 412, 412]
    entries = clients[0].get(f"/v1/jobs/{job['id']}/history").json["items"]
    assert [entry["action"] for entry in entries] == ["job.edited", "job.created"]


def test_moving_a_job_finds_its_territory_anew(app: Flask) -> None:
    ids = make_territories(app)
    client = make_staff(app)
    job = make(client)
    moved = edit(client, job, lon=111.65, lat=35.45, address="Behind the mill")
    assert moved.json["territory_id"] == ids["B"] and moved.json["address"] == "Behind the mill"
    assert problem(edit(client, moved.json, lon=111.65)) == (422, "invalid")
    gone = edit(client, moved.json, lon=None, lat=None)
    assert gone.status_code == 422 or gone.json["territory_id"] is None


def test_what_only_the_service_may_set_cannot_be_edited(app: Flask) -> None:
    client = make_staff(app)
    job = make(client)
    for name in ("status", "crew_id", "number", "assignment_rev", "result", "kind"):
        assert problem(edit(client, job, **{name: "x"})) == (422, "invalid")


def test_an_assigned_job_reaches_the_crews_device_and_leaves_it_when_reassigned(app: Flask) -> None:
    client, first, second = make_staff(app), make_crew(app), make_crew(app)
    phone, other = make_device(app, first), make_device(app, second)
    job = make(client)
    given = client.post(
        f"/v1/jobs/{job['id']}/assign", json={"crew_id": first, "planned_start": "2026-11-21T09:00:00Z"}
    )
    assert given.status_code == 200, given.json
    assert given.json["status"] == "dispatched" and given.json["assignment"]["crew_id"] == first
    assert given.json["planned_start"] == "2026-11-21T09:00:00Z"
    assert [change["op"] for change in pulled(phone, "job")] == ["put"]
    client.post(f"/v1/jobs/{job['id']}/assign", json={"crew_id": second})
    assert [(c["op"], c.get("reason")) for c in pulled(phone, "job")] == [("leave", "reassigned")]
    assert [change["op"] for change in pulled(other, "job")] == ["put"]
    page = client.get(f"/v1/jobs/{job['id']}").json
    assert [a["crew_id"] for a in page["assignments"]] == [second, first]
    assert page["assignments"][1]["ended_reason"] == "reassigned"


def test_unassigning_makes_it_wait_again_and_cancelling_ends_it(app: Flask) -> None:
    client, crew = make_staff(app), make_crew(app)
    job = make(client)
    assert problem(client.post(f"/v1/jobs/{job['id']}/unassign", json={"reason": "x"})) == (409, "state-not-allowed")
    client.post(f"/v1/jobs/{job['id']}/assign", json={"crew_id": crew})
    back = client.post(f"/v1/jobs/{job['id']}/unassign", json={"reason": "sick"}).json
    assert (back["status"], back["crew_id"]) == ("waiting_to_be_scheduled", None)
    ended = client.post(f"/v1/jobs/{job['id']}/cancel", json={"reason": "caller says it works"}).json
    assert ended["status"] == "cancelled"
    assert {clock["verdict"] for clock in ended["clocks"]} == {"exempted"}
    for act, body in (("cancel", {"reason": "x"}), ("assign", {"crew_id": crew})):
        assert problem(client.post(f"/v1/jobs/{job['id']}/{act}", json=body)) == (409, "state-not-allowed")
    assert problem(edit(client, ended, title="x")) == (409, "state-not-allowed")


def test_if_match_is_optional_but_honoured_when_assigning(app: Flask) -> None:
    client, crew = make_staff(app), make_crew(app)
    job = make(client)
    path, body = f"/v1/jobs/{job['id']}/assign", {"crew_id": crew}
    assert problem(client.post(path, json=body, headers={"If-Match": '"7"'})) == (412, "precondition-failed")
    assert client.post(path, json=body, headers={"If-Match": '"1"'}).status_code == 200


def test_a_dispatcher_sees_and_changes_only_the_own_territories(app: Flask) -> None:
    ids = make_territories(app)
    admin, mine = make_staff(app), make_staff(app, "dispatcher", [ids["A"]])
    inside, outside = make(admin), make(admin, lon=111.65)
    tray = admin.post("/v1/jobs", json={"kind": "repair"}).json
    assert [job["id"] for job in mine.get("/v1/jobs").json["items"]] == [inside["id"]]
    for job in (outside, tray):
        path = f"/v1/jobs/{job['id']}"
        assert problem(mine.get(path)) == (404, "not-found")
        assert problem(mine.get(f"{path}/history")) == (404, "not-found")
        assert problem(edit(mine, job, title="x")) == (404, "not-found")
        assert problem(mine.post(f"{path}/cancel", json={"reason": "x"})) == (404, "not-found")
    assert problem(mine.post("/v1/jobs", json={**REPAIR, "lon": 111.65})) == (403, "forbidden")
    assert problem(edit(mine, inside, lon=111.65, lat=35.45)) == (403, "forbidden")
    assert edit(mine, inside, title="Mine").status_code == 200


def test_an_auditor_reads_and_changes_nothing(app: Flask) -> None:
    admin, auditor = make_staff(app), make_staff(app, "auditor")
    job = make(admin)
    assert auditor.get(f"/v1/jobs/{job['id']}").status_code == 200
    assert problem(auditor.post("/v1/jobs", json=REPAIR)) == (403, "forbidden")
    assert problem(edit(auditor, job, title="x")) == (403, "forbidden")
    assert problem(app.test_client().get("/v1/jobs")) == (401, "unauthenticated")
