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
    assert "FIX: nearest crew" in by_job[repair["id"]]["detail"] and by_job[repair["id"]]["planned_order"] == 1
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


def test_what_changed_while_it_was_planned_is_left_alone(app: Flask) -> None:
    """The planner is the moment between reading and writing: there, somebody else changes two of three jobs."""
    ids = make_territories(app)
    client = make_staff(app)
    crew, theirs = make_crew(app, "ONE", [ids["A"]]), make_crew(app, "TWO", on_duty=False)
    kept, taken, cancelled = make(client), make(client), make(client)
    run = ask(client)

    def meanwhile(*args: Any) -> planner.Plan:
        made = planner.plan(*args)
        other = app.test_client()
        other.environ_base.update(client.environ_base)
        with ThreadPoolExecutor(1) as pool:
            for path, body in (("assign", {"crew_id": theirs}), ("cancel", {"reason": "works again"})):
                job = taken if path == "assign" else cancelled
                answer = pool.submit(other.post, f"/v1/jobs/{job['id']}/{path}", json=body).result()
                assert answer.status_code == 200
        return made

    with app.app_context():
        assert dispatch.run(run["id"], utc_now(), plan=meanwhile)
    by_job = {decision["job_id"]: decision for decision in decisions(client, run)}
    assert by_job[kept["id"]]["crew_id"] == crew
    assert {by_job[job["id"]]["reason"] for job in (taken, cancelled)} == {"changed_meanwhile"}
    assert client.get(f"/v1/jobs/{taken['id']}").json["crew_id"] == theirs
    assert client.get(f"/v1/jobs/{cancelled['id']}").json["status"] == "cancelled"


def test_a_run_is_done_once_however_often_it_is_rung(app: Flask) -> None:
    ids = make_territories(app)
    client = make_staff(app)
    make_crew(app, "ONE", [ids["A"]])
    job = make(client)
    run = ask(client)

    def work(_: int) -> bool:
        with app.app_context():
            try:
                return dispatch.run(run["id"], utc_now())
            finally:
                db.session.remove()

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(work, range(4))) == [False, False, False, True]
    assert client.get(f"/v1/jobs/{job['id']}").json["rev"] == 2
    with app.app_context():
        assert not dispatch.run("no such run", utc_now())


def test_a_failing_run_is_recorded_tried_again_and_given_up_after_three(app: Flask) -> None:
    client = make_staff(app)
    run = ask(client)

    def broken(*_: Any) -> planner.Plan:
        raise ZeroDivisionError

    for attempt in (1, 2, 3):
        with app.app_context(), pytest.raises(ZeroDivisionError):
            dispatch.run(run["id"], utc_now(), plan=broken)
        row = client.get(f"/v1/dispatch-runs/{run['id']}").json
        assert (row["state"], row["attempts"]) == ("queued" if attempt < 3 else "failed", attempt)
        assert row["failure"] == "ZeroDivisionError"
    with app.app_context():
        assert not dispatch.run(run["id"], utc_now())


class Killed(BaseException):
    """As SIGKILL: nothing of the worker's own runs after it."""


class Deadly(list[planner.Assignment]):
    """Assignments whose reader dies at the second batch."""

    def __getitem__(self, at: Any) -> Any:
        if isinstance(at, slice) and at.start:
            raise Killed
        return super().__getitem__(at)


def test_a_run_whose_worker_died_in_the_middle_is_finished_by_another_and_nothing_is_done_twice(app: Flask) -> None:
    ids = make_territories(app)
    client = make_staff(app)
    make_crew(app, "ONE", [ids["A"]])
    made = [make(client, service_minutes=5) for _ in range(5)]
    run = ask(client)

    def deadly(*args: Any) -> planner.Plan:
        plan = planner.plan(*args)
        return planner.Plan(Deadly(plan.assignments), plan.unassigned)

    now = utc_now()
    with app.app_context():
        with pytest.raises(Killed):
            dispatch.run(run["id"], now, plan=deadly, batch=2)
        db.session.remove()
        with transaction():
            assert dispatch.due(now + timedelta(minutes=4)) == []
        with transaction():
            assert dispatch.due(now + timedelta(minutes=6)) == [run["id"]]
        assert dispatch.run(run["id"], now + timedelta(minutes=6))
        with reading() as session:
            assert session.scalar(select(DispatchRun.attempts)) == 2
            assert len(list(session.scalars(select(Assignment.id)))) == 5
            assert set(session.scalars(select(Job.rev))) == {2}
    found = decisions(client, run)
    assert sorted(decision["job_id"] for decision in found) == sorted(job["id"] for job in made)
    assert all(decision["crew_code"] == "ONE" for decision in found)


def test_a_worker_that_comes_back_after_being_given_up_stops(app: Flask) -> None:
    ids = make_territories(app)
    client = make_staff(app)
    make_crew(app, "ONE", [ids["A"]])
    job = make(client)
    run = ask(client)
    now = utc_now()

    def slow(*args: Any) -> planner.Plan:
        with transaction():
            assert dispatch.due(now + timedelta(minutes=6)) == [run["id"]]
        assert dispatch.run(run["id"], now + timedelta(minutes=6))
        return planner.plan(*args)

    with app.app_context():
        assert not dispatch.run(run["id"], now, plan=slow)
    assert client.get(f"/v1/jobs/{job['id']}").json["rev"] == 2
    assert client.get(f"/v1/dispatch-runs/{run['id']}").json["considered"] == 1


def test_without_redis_a_run_is_kept_and_found_by_the_sweep(app: Flask, redis: Any) -> None:
    client = make_staff(app)
    run = ask(client)
    redis.flushall()
    with app.app_context(), transaction():
        assert dispatch.due(utc_now()) == []
        assert dispatch.due(utc_now() + timedelta(seconds=10)) == [run["id"]]


def test_two_thousand_jobs_with_customers_are_dispatched_in_one_run(app: Flask, drain: Drain) -> None:
    ids = make_territories(app)
    client = make_staff(app)
    for number in range(30):
        place = "ABC"[number % 3]
        make_crew(app, f"C{number}", [ids[place]])
    rows = [
        f"C{n},Household {n},{111.5 + (n % 200) / 1000},{35.4 + (n // 200) / 100 + 0.001},M{n}" for n in range(2000)
    ]
    import_customers(app, "number,name,lon,lat,meter_asset_no\n" + "\n".join(rows) + "\n")
    jobs = "".join(f"k{n},meter_change,C{n}\n" for n in range(2000))
    assert import_jobs(app, "external_key,kind,usage_point_number\n" + jobs).created == 2000
    run = ask(client)
    drain()
    done = client.get(f"/v1/dispatch-runs/{run['id']}").json
    assert (done["state"], done["considered"]) == ("done", 2000)
    assert done["assigned"] + sum(done["not_assigned"].values()) == 2000 and done["assigned"] > 100


def test_a_cursor_beyond_any_place_is_refused(app: Flask) -> None:
    client = make_staff(app)
    run_id = client.post("/v1/dispatch-runs", json={}).json["id"]
    for place in (2**31, -(2**31) - 1, 2**63 - 1):
        answer = client.get(f"/v1/dispatch-runs/{run_id}/decisions?cursor={write_cursor([place])}")
        assert (answer.status_code, answer.json["type"]) == (400, "/problems/bad-cursor")
