"""Dispatch runs: asked for by API, done by a real worker, explained job by job."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import select, update

from fieldsvc.api.paging import write_cursor
from fieldsvc.base.clock import utc_now
from fieldsvc.base.db import db, reading, transaction
from fieldsvc.geo import planner
from fieldsvc.people.models import Crew
from fieldsvc.work import dispatch
from fieldsvc.work.models import Assignment, DispatchRun, Job
from tests.factories import make_crew, make_device, make_staff, make_territories
from tests.integration.test_imports import import_customers, import_jobs
from tests.integration.test_jobs import make, problem, pulled

Drain = Callable[[], None]


def ask(client: Any, **members: Any) -> dict[str, Any]:
    answer = client.post("/v1/dispatch-runs", json=members)
    assert answer.status_code == 202, answer.json
    assert answer.headers["Location"] == f"/v1/dispatch-runs/{answer.json['id']}"
    assert answer.json["state"] == "queued"
    return answer.json


def decisions(client: Any, run: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    path = f"/v1/dispatch-runs/{run['id']}/decisions?limit=50"
    while path:
        answer = client.get(path)
        found += answer.json["items"]
        link = answer.headers.get("Link", "")
        path = link[1 : link.index(">")] if link else ""
    return found


def test_a_run_assigns_by_territory_and_skill_and_says_why(app: Flask, drain: Drain) -> None:
    ids = make_territories(app)
    client = make_staff(app)
    fixers = make_crew(app, "FIX", [ids["A"]], ["repair"])
    changers = make_crew(app, "CHANGE", [ids["A"]], ["metering"])
    phone = make_device(app, fixers)
    repair, change = make(client), make(client, kind="meter_change", lon=111.56)
    inspection, elsewhere = make(client, kind="safety_inspection"), make(client, lon=111.65)
    tray = client.post("/v1/jobs", json={"kind": "repair"}).json
    run = ask(client)
    drain()
    done = client.get(f"/v1/dispatch-runs/{run['id']}").json
    assert (done["state"], done["considered"], done["assigned"], done["attempts"]) == ("done", 5, 2, 1)
    assert done["not_assigned"] == {"no_crew_in_territory": 1, "no_place": 1, "no_skill": 1}
    by_job = {decision["job_id"]: decision for decision in decisions(client, run)}
    assert (by_job[repair["id"]]["crew_id"], by_job[change["id"]]["crew_id"]) == (fixers, changers)
    assert "FIX: " in by_job[repair["id"]]["detail"] and by_job[repair["id"]]["planned_order"] == 1
    assert by_job[inspection["id"]]["reason"] == "no_skill"
    assert by_job[elsewhere["id"]]["reason"] == "no_crew_in_territory"
    assert "Territory B" in by_job[elsewhere["id"]]["detail"]
    assert by_job[tray["id"]]["reason"] == "no_place"
    page = client.get(f"/v1/jobs/{repair['id']}").json
    assert (page["status"], page["crew_id"], page["assignment"]["run_id"]) == ("dispatched", fixers, run["id"])
    assert page["planned_start"] == by_job[repair["id"]]["planned_start"]
    assert [row["id"] for row in pulled(phone, "job")] == [repair["id"]]
    entry = client.get(f"/v1/jobs/{repair['id']}/history").json["items"][0]
    assert (entry["action"], entry["actor"]["kind"]) == ("job.assigned", "system")
    assert "dispatch run of" in entry["actor"]["name"] and "FIX" in entry["note"]


def test_a_second_run_leaves_what_is_assigned_and_plans_around_it(app: Flask, drain: Drain) -> None:
    ids = make_territories(app)
    client = make_staff(app)
    make_crew(app, "ONE", [ids["A"]])
    first = make(client, service_minutes=300)
    ask(client)
    drain()
    second = make(client, service_minutes=120)
    third = make(client, service_minutes=300)
    run = ask(client)
    drain()
    by_job = {decision["job_id"]: decision for decision in decisions(client, run)}
    assert set(by_job) == {second["id"], third["id"]}
    assert by_job[second["id"]]["planned_order"] == 2
    assert by_job[third["id"]]["reason"] == "no_shift_time"
    assert client.get(f"/v1/jobs/{first['id']}").json["rev"] == 2


def test_a_crew_off_duty_or_not_active_gets_nothing(app: Flask, drain: Drain) -> None:
    ids = make_territories(app)
    client = make_staff(app)
    make_crew(app, "OFF", [ids["A"]], on_duty=False)
    gone = make_crew(app, "GONE", [ids["A"]])
    with app.app_context(), transaction() as session:
        session.execute(update(Crew).where(Crew.id == gone).values(active=False))
    make(client)
    run = ask(client)
    drain()
    assert client.get(f"/v1/dispatch-runs/{run['id']}").json["not_assigned"] == {"no_crew_in_territory": 1}


def test_territories_and_kinds_bound_a_run(app: Flask, drain: Drain) -> None:
    ids = make_territories(app)
    client = make_staff(app)
    make_crew(app, "ALL", list(ids.values()))
    wanted = make(client, kind="meter_change", lon=111.65)
    make(client, lon=111.65)
    make(client, kind="meter_change")
    run = ask(client, territory_ids=[ids["B"]], kinds=["meter_change"])
    drain()
    assert [decision["job_id"] for decision in decisions(client, run)] == [wanted["id"]]
    unknown = client.post("/v1/dispatch-runs", json={"territory_ids": ["nowhere"]})
    assert problem(unknown) == (409, "conflict")
    assert problem(client.post("/v1/dispatch-runs", json={"kinds": ["gardening"]})) == (422, "invalid")


def test_a_dispatchers_run_stays_inside_the_own_territories(app: Flask, drain: Drain) -> None:
    ids = make_territories(app)
    admin, mine = make_staff(app), make_staff(app, "dispatcher", [ids["A"]])
    other = make_staff(app, "dispatcher", [ids["B"]])
    make_crew(app, "ALL", list(ids.values()))
    inside = make(admin)
    make(admin, lon=111.65)
    run = ask(mine)
    drain()
    assert [decision["job_id"] for decision in decisions(mine, run)] == [inside["id"]]
    assert [row["id"] for row in mine.get("/v1/dispatch-runs").json["items"]] == [run["id"]]
    assert [row["id"] for row in admin.get("/v1/dispatch-runs").json["items"]] == [run["id"]]
    assert other.get("/v1/dispatch-runs").json["items"] == []
    assert problem(other.get(f"/v1/dispatch-runs/{run['id']}")) == (404, "not-found")
    assert problem(other.get(f"/v1/dispatch-runs/{run['id']}/decisions")) == (404, "not-found")
    assert problem(mine.post("/v1/dispatch-runs", json={"territory_ids": [ids["B"]]})) == (409, "conflict")
    assert problem(make_staff(app, "auditor").post("/v1/dispatch-runs", json={})) == (403, "forbidden")


def test_a_run_asked_for_twice_with_one_key_is_one_run(app: Flask, drain: Drain) -> None:
    client = make_staff(app)
    headers = {"Idempotency-Key": "r"}
    first, again = (client.post("/v1/dispatch-runs", json={}, headers=headers) for _ in range(2))
    assert first.json["id"] == again.json["id"] and again.status_code == 202
    drain()
    assert len(client.get("/v1/dispatch-runs").json["items"]) == 1


