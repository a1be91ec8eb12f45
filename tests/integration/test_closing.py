"""What becomes of completed work: closed after a while, unless somebody still has to decide about it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from flask import Flask
from flask.testing import FlaskClient

from fieldsvc.base.clock import format_time, utc_now
from fieldsvc.base.db import transaction
from fieldsvc.work import closing
from tests.factories import Handheld, make_crew, make_device, make_staff, make_territories

DONE = {"cause_major": "cable", "fault_place": "pole 5", "ownership": "utility", "work_done": "joint renewed"}


def taken(app: Flask, office: FlaskClient, crew_id: str) -> dict[str, Any]:
    ticket = office.post("/v1/tickets", json={"reporting_kind": "call", "lon": 111.55, "lat": 35.45}).json
    answer = office.post(f"/v1/jobs/{ticket['job_id']}/assign", json={"crew_id": crew_id})
    assert answer.status_code == 200, answer.json
    return ticket


def complete(handheld: Handheld, job_id: str) -> None:
    op = {
        "op_id": f"done-{job_id}",
        "seq": 1,
        "kind": "job.complete",
        "entity": "job",
        "entity_id": job_id,
        "occurred_at": format_time(utc_now()),
        "payload": DONE,
    }
    answer = handheld.client.post("/sync/v1/push", json={"install_id": handheld.install_id, "ops": [op]})
    assert answer.json["results"][0]["status"] == "accepted"


def close(app: Flask, hours: float) -> int:
    with app.app_context(), transaction():
        return closing.close_due(utc_now() + timedelta(hours=hours))


def test_a_completed_job_is_closed_after_the_shift_and_leaves_its_crew(app: Flask, drain: Callable[[], None]) -> None:
    make_territories(app)
    office, crew_id = make_staff(app), make_crew(app)
    handheld = make_device(app, crew_id)
    ticket = taken(app, office, crew_id)
    complete(handheld, ticket["job_id"])
    drain()
    assert close(app, 11.9) == 0
    checkpoint = handheld.client.get("/sync/v1/pull").json["checkpoint"]
    assert close(app, 12.1) == 1
    assert close(app, 12.1) == 0
    assert office.get(f"/v1/jobs/{ticket['job_id']}").json["status"] == "closed"
    left = handheld.client.get("/sync/v1/pull", query_string={"cp": checkpoint}).json["changes"]
    assert [(change["op"], change["id"], change["reason"]) for change in left if change["entity"] == "job"] == [
        ("leave", ticket["job_id"], "closed")
    ]
    actions = [item["action"] for item in office.get(f"/v1/jobs/{ticket['job_id']}/history").json["items"]]
    assert actions[0] == "job.closed"


def test_a_job_under_review_is_not_closed(app: Flask, drain: Callable[[], None]) -> None:
    make_territories(app)
    office, first, second = make_staff(app), make_crew(app), make_crew(app)
    handheld, other = make_device(app, first), make_device(app, second)
    ticket = taken(app, office, first)
    office.post(f"/v1/jobs/{ticket['job_id']}/assign", json={"crew_id": second})
    complete(other, ticket["job_id"])
    drain()
    op = {"op_id": "late", "seq": 1, "kind": "job.complete", "entity": "job", "entity_id": ticket["job_id"]}
    op |= {"occurred_at": format_time(utc_now()), "payload": DONE}
    handheld.client.post("/sync/v1/push", json={"install_id": handheld.install_id, "ops": [op]})
    drain()
    (review,) = office.get("/v1/reviews").json["items"]
    assert review["reason"] == "duplicate_work"
    assert close(app, 13) == 0
    answer = office.post(f"/v1/reviews/{review['id']}/resolve", json={"choice": "dismiss", "note": "same work"})
    assert answer.status_code == 200, answer.json
    assert close(app, 13) == 1
