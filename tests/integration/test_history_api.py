"""History by API: who, when by which clock, before, after; and that nothing in it can be changed."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import delete, update
from sqlalchemy.exc import DatabaseError

from fieldsvc.base.clock import format_time, utc_now
from fieldsvc.base.db import transaction
from fieldsvc.history.models import HistoryEntry
from fieldsvc.history.record import Source, record
from tests.factories import make_crew, make_staff, make_territories
from tests.integration.test_jobs import edit, make, problem


def actions(client: Any, query: str) -> list[str]:
    answer = client.get(f"/v1/history?{query}")
    assert answer.status_code == 200, answer.json
    return [entry["action"] for entry in answer.json["items"]]


def test_a_jobs_history_tells_before_and_after_of_every_change_newest_first(app: Flask) -> None:
    client, crew = make_staff(app, username="chief"), make_crew(app, "ONE")
    job = make(client)
    edit(client, job, title="New title")
    client.post(f"/v1/jobs/{job['id']}/assign", json={"crew_id": crew})
    client.post(f"/v1/jobs/{job['id']}/unassign", json={"reason": "sick"})
    entries = client.get(f"/v1/jobs/{job['id']}/history").json["items"]
    assert [entry["action"] for entry in entries] == ["job.unassigned", "job.assigned", "job.edited", "job.created"]
    back, given, edited, created = entries
    assert edited["before"] == {"title": job["title"]} and edited["after"] == {"title": "New title"}
    assert given["after"]["status"] == "dispatched" and given["crew_id"] == crew
    assert back["note"] == "sick" and back["before"]["crew_id"] == crew and back["after"]["crew_id"] is None
    assert created["before"] is None and created["after"]["number"] == job["number"]
    me = client.get("/v1/me").json
    for entry in entries:
        assert entry["actor"]["kind"] == "staff" and entry["actor"]["id"] == me["id"]
        assert (entry["entity"], entry["entity_id"], entry["job_kind"]) == ("job", job["id"], "repair")
        assert entry["times"]["recorded"] and entry["times"]["device"] is None
    assert [entry["seq"] for entry in entries] == sorted((entry["seq"] for entry in entries), reverse=True)


def test_the_three_times_of_a_devices_operation_are_kept_apart(app: Flask) -> None:
    client = make_staff(app)
    now = utc_now()
    source = Source(
        "device",
        now,
        id="d1",
        name="Crew 7",
        crew_id="c7",
        device_id="d1",
        op_id="op-1",
        device_at="2026-11-21T16:02:11+08:00",
        estimated_at=now - timedelta(hours=3),
    )
    with app.app_context(), transaction():
        record(source, "job.arrived", "job", "j1", job_id="j1", job_kind="repair", before={"status": "a"}, after={})
    (entry,) = client.get("/v1/history?operation=op-1").json["items"]
    assert entry["times"] == {
        "device": "2026-11-21T16:02:11+08:00",
        "estimated": format_time(now - timedelta(hours=3)),
        "recorded": format_time(now),
    }
    assert (entry["actor"], entry["op_id"]) == ({"kind": "device", "id": "d1", "name": "Crew 7"}, "op-1")
    for query in ("device=d1", "crew=c7", "actor=d1", "action=job.arrived", "job=j1"):
        assert actions(client, query) == ["job.arrived"]


def test_history_is_filtered_by_actor_kind_job_action_and_time(app: Flask) -> None:
    client, other = make_staff(app), make_staff(app)
    repair, change = make(client), make(other, kind="meter_change")
    edit(other, repair, title="x")
    assert actions(client, f"job={repair['id']}") == ["job.edited", "job.created"]
    assert actions(client, "kind=meter_change") == ["job.created"]
    assert actions(client, "action=job.edited") == ["job.edited"]
    them = other.get("/v1/me").json["id"]
    assert actions(client, f"actor={them}&job={repair['id']}") == ["job.edited"]
    moment = change["created_at"]
    assert actions(client, f"from={moment}") == ["job.edited", "job.created"]
    assert "job.edited" not in actions(client, f"to={moment}")
    assert actions(client, "customer=nobody") == []


def test_pages_of_history_hold_every_entry_once_while_it_grows(app: Flask) -> None:
    client = make_staff(app)
    job = make(client)
    for number in range(6):
        edit(client, job, rev=number + 1, title=f"Title {number}")
    seen: list[int] = []
    path = f"/v1/jobs/{job['id']}/history?limit=2"
    while path:
        answer = client.get(path)
        seen += [entry["seq"] for entry in answer.json["items"]]
        edit(client, client.get(f"/v1/jobs/{job['id']}").json, description=f"while reading {len(seen)}")
        link = answer.headers.get("Link", "")
        path = link[1 : link.index(">")] if link else ""
    assert len(seen) == len(set(seen)) == 7


@pytest.mark.parametrize("query", ["limit=201", "from=yesterday", "action=DROP%20TABLE", "page=1", "job=a%00b"])
def test_a_question_that_cannot_be_meant_is_refused(app: Flask, query: str) -> None:
    assert problem(make_staff(app).get(f"/v1/history?{query}")) == (422, "invalid")


def test_with_a_territory_scope_only_that_territory_has_a_history(app: Flask) -> None:
    ids = make_territories(app)
    admin, mine = make_staff(app), make_staff(app, "dispatcher", [ids["A"]])
    inside = make(admin)
    outside = make(admin, lon=111.65)
    seen = mine.get("/v1/history").json["items"]
    assert {entry["territory_id"] for entry in seen} == {ids["A"]}
    assert {entry["entity_id"] for entry in seen if entry["entity"] == "job"} == {inside["id"]}
    assert actions(mine, f"job={outside['id']}") == []
    assert actions(admin, f"job={outside['id']}") == ["job.created"]
    assert "staff.created" in actions(admin, "") and "staff.created" not in actions(mine, "")


def test_history_can_be_neither_changed_nor_deleted(app: Flask) -> None:
    client = make_staff(app)
    make(client)
    before = client.get("/v1/history").json
    for statement in (update(HistoryEntry).values(note="never happened"), delete(HistoryEntry)):
        with app.app_context(), pytest.raises(DatabaseError), transaction() as session:
            session.execute(statement)
    assert client.get("/v1/history").json == before


def test_an_auditor_reads_it_all_and_a_stranger_nothing(app: Flask) -> None:
    make(make_staff(app))
    assert "job.created" in actions(make_staff(app, "auditor"), "")
    assert problem(app.test_client().get("/v1/history")) == (401, "unauthenticated")
