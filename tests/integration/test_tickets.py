"""Tickets: what callers report."""

from __future__ import annotations

from typing import Any

from flask import Flask

from tests.factories import make_staff, make_territories
from tests.integration.test_imports import import_customers
from tests.integration.test_jobs import problem

CALL = {
    "reporting_kind": "call",
    "trouble_code": "no_power",
    "description": "Dark since noon",
    "lon": 111.55,
    "lat": 35.45,
}


def receive(client: Any, **members: Any) -> dict[str, Any]:
    answer = client.post("/v1/tickets", json={**CALL, **members})
    assert answer.status_code == 201, answer.json
    return answer.json


def test_a_call_opens_an_incident_and_sends_out_a_repair(app: Flask) -> None:
    ids = make_territories(app)
    client = make_staff(app)
    ticket = receive(client, received_at="2026-11-21T06:00:00Z", caller_phone="555 0100")
    assert ticket["number"].startswith("T-") and ticket["territory_id"] == ids["A"]
    job = client.get(f"/v1/jobs/{ticket['job_id']}").json
    assert (job["kind"], job["incident_id"]) == ("repair", ticket["incident_id"])
    assert job["reported_at"] == "2026-11-21T06:00:00Z" and job["due_at"] == "2026-11-21T06:45:00Z"
    assert (job["contact_phone"], job["description"]) == ("555 0100", "Dark since noon")
    assert client.get(f"/v1/tickets/{ticket['id']}").json == ticket
    actions = [entry["action"] for entry in client.get(f"/v1/history?job={job['id']}").json["items"]]
    assert set(actions) == {"ticket.received", "job.created"}


def test_hazards_go_first(app: Flask) -> None:
    client = make_staff(app)
    ticket = receive(client, hazards=["fire_risk"])
    assert client.get(f"/v1/jobs/{ticket['job_id']}").json["priority"] == 1


def test_a_ticket_may_send_nobody_yet(app: Flask) -> None:
    client = make_staff(app)
    assert receive(client, create_job=False)["job_id"] is None
    assert client.get("/v1/jobs").json["items"] == []


def test_the_callers_account_gives_the_place_and_keeps_the_contact(app: Flask) -> None:
    ids = make_territories(app)
    client = make_staff(app)
    import_customers(app, "number,name,lon,lat,site_class\nC-1,Household 1,111.55,35.45,remote\n")
    ticket = client.post("/v1/tickets", json={"reporting_kind": "web", "customer_number": "C-1"}).json
    assert (ticket["lon"], ticket["territory_id"]) == (111.55, ids["A"])
    assert client.get(f"/v1/jobs/{ticket['job_id']}").json["site_class"] == "remote"
    page = client.get(f"/v1/customers/{ticket['customer_id']}").json
    contact = page["contacts"]["items"][0]
    assert contact["channel"] == "web" and ticket["number"] in contact["subject"]
    assert [job["id"] for job in page["jobs"]["items"]] == [ticket["job_id"]]
    assert [t["id"] for t in client.get(f"/v1/tickets?customer={page['id']}").json["items"]] == [ticket["id"]]


def test_unknown_customers_and_taken_keys_are_conflicts_and_the_future_is_refused(app: Flask) -> None:
    client = make_staff(app)
    receive(client, external_key="k")
    assert problem(client.post("/v1/tickets", json={**CALL, "external_key": "k"})) == (409, "already-exists")
    assert problem(client.post("/v1/tickets", json={**CALL, "customer_number": "nobody"})) == (409, "conflict")
    later = client.post("/v1/tickets", json={**CALL, "received_at": "2190-01-01T00:00:00Z"})
    assert problem(later) == (422, "invalid")
    assert problem(client.post("/v1/tickets", json={**CALL, "reporting_kind": "smoke"})) == (422, "invalid")
    assert len(client.get("/v1/tickets").json["items"]) == 1


def test_a_ticket_sent_twice_with_one_key_is_taken_in_once(app: Flask) -> None:
    client = make_staff(app)
    first, again = (client.post("/v1/tickets", json=CALL, headers={"Idempotency-Key": "t"}) for _ in range(2))
    assert first.json == again.json and again.headers["Idempotent-Replay"] == "true"
    assert len(client.get("/v1/jobs").json["items"]) == 1


def test_tickets_of_other_territories_are_not_there(app: Flask) -> None:
    ids = make_territories(app)
    admin, mine = make_staff(app), make_staff(app, "dispatcher", [ids["B"]])
    ticket = receive(admin)
    assert mine.get("/v1/tickets").json["items"] == []
    assert problem(mine.get(f"/v1/tickets/{ticket['id']}")) == (404, "not-found")
    assert problem(mine.post("/v1/tickets", json=CALL)) == (403, "forbidden")
