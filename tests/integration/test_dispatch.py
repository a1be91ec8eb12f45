"""Dispatch runs: asked for by API, done by a real worker, explained job by job."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

from flask import Flask
from sqlalchemy import select, update

from fieldsvc.api.paging import write_cursor
from fieldsvc.base.clock import utc_now
from fieldsvc.base.db import db, reading, transaction
from fieldsvc.geo import planner
from fieldsvc.geo.model import Plan, PlanJob
from fieldsvc.geo.travel import Geodesic
from fieldsvc.people.models import Crew
from fieldsvc.work import dispatch
from fieldsvc.work.dispatch.solving import Solver
from fieldsvc.work.models import Assignment, DispatchArea, Job
from tests.factories import make_crew, make_device, make_staff, make_territories
from tests.integration.test_imports import import_customers, import_jobs
from tests.integration.test_jobs import make, problem, pulled
from tests.killed import killing

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


def go(app: Flask, run: dict[str, Any], plan: Solver = planner.plan, now: datetime | None = None) -> None:
    """All that workers do for a run, in this thread and with this solver."""
    now, waiting = now or utc_now(), [("run_dispatch", run["id"])]
    with app.app_context():
        while waiting:
            task, *args = waiting.pop(0)
            if task == "plan_area":
                run_id, number = args[0], int(args[1])
                try:
                    dispatch.plan_area(run_id, number, now, travel=Geodesic(), zone=UTC, plan=plan)
                    dispatch.carry_out(run_id, number, now, batch=2)
                except ZeroDivisionError:
                    pass
            waiting += [ring for ring in dispatch.conduct(args[0], now) if ring not in waiting]
            dispatch.carry_out(args[0], None, now)
        db.session.remove()


def test_what_changed_while_it_was_planned_is_left_alone(app: Flask) -> None:
    """The planner is the moment between reading and writing: there, somebody else changes two of three jobs."""
    ids = make_territories(app)
    client = make_staff(app)
    crew, theirs = make_crew(app, "ONE", [ids["A"]]), make_crew(app, "TWO", on_duty=False)
    kept, taken, cancelled = make(client), make(client), make(client)
    run = ask(client)

    def meanwhile(*args: Any) -> Plan:
        made = planner.plan(*args)
        other = app.test_client()
        other.environ_base.update(client.environ_base)
        with ThreadPoolExecutor(1) as pool:
            for path, body in (("assign", {"crew_id": theirs}), ("cancel", {"reason": "works again"})):
                job = taken if path == "assign" else cancelled
                answer = pool.submit(other.post, f"/v1/jobs/{job['id']}/{path}", json=body).result()
                assert answer.status_code == 200
        return made

    go(app, run, meanwhile)
    by_job = {decision["job_id"]: decision for decision in decisions(client, run)}
    assert by_job[kept["id"]]["crew_id"] == crew
    assert {by_job[job["id"]]["reason"] for job in (taken, cancelled)} == {"changed_meanwhile"}
    assert "status, crew id" in by_job[taken["id"]]["detail"]
    assert client.get(f"/v1/jobs/{taken['id']}").json["crew_id"] == theirs
    assert client.get(f"/v1/jobs/{cancelled['id']}").json["status"] == "cancelled"
    done = client.get(f"/v1/dispatch-runs/{run['id']}").json
    assert done["taken"] == {"accepted": 1, "changed_meanwhile": 2} and done["assigned"] == 1


def test_a_run_is_done_once_however_often_it_is_rung(app: Flask) -> None:
    ids = make_territories(app)
    client = make_staff(app)
    make_crew(app, "ONE", [ids["A"]])
    job = make(client)
    run = ask(client)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: go(app, run), range(4)))
    assert client.get(f"/v1/jobs/{job['id']}").json["rev"] == 2
    done = client.get(f"/v1/dispatch-runs/{run['id']}").json
    assert (done["state"], done["attempts"], done["considered"]) == ("done", 1, 1)
    go(app, {"id": "no such run"})


def test_what_fails_in_one_area_is_said_by_name_and_the_others_go_on(app: Flask) -> None:
    ids = make_territories(app)
    client = make_staff(app)
    for code in "AB":
        make_crew(app, code, [ids[code]])
    make(client)
    there = make(client, lon=111.65)

    def broken_for(*territories: str) -> Solver:
        def plan(jobs: Sequence[PlanJob], *args: Any) -> Plan:
            if {job.territory_id for job in jobs} & {ids[code] for code in territories}:
                raise ZeroDivisionError
            return planner.plan(jobs, *args)

        return plan

    run = ask(client)
    go(app, run, broken_for("A"))
    done = client.get(f"/v1/dispatch-runs/{run['id']}").json
    assert (done["state"], done["failure"], done["areas"]) == ("done", "area 1: ZeroDivisionError", 2)
    assert client.get(f"/v1/jobs/{there['id']}").json["status"] == "dispatched"
    areas = client.get(f"/v1/dispatch-runs/{run['id']}/areas").json["items"]
    assert [(area["state"], area["attempts"]) for area in areas] == [("failed", 3), ("done", 1)]
    whole = ask(client)
    go(app, whole, broken_for("A", "B"))
    assert client.get(f"/v1/dispatch-runs/{whole['id']}").json["state"] == "failed"


def test_a_run_whose_worker_died_in_the_middle_is_finished_by_another_and_nothing_is_done_twice(app: Flask) -> None:
    """By SIGKILL, at statements of a process of its own: while it divides, plans, keeps the plan, and assigns."""
    ids = make_territories(app)
    client = make_staff(app)
    make_crew(app, "ONE", [ids["A"]])
    made = [make(client, service_minutes=5) for _ in range(5)]
    run = ask(client)
    now = utc_now()
    divide, plan = ("run_dispatch", run["id"]), ("plan_area", run["id"], "1")
    with killing(app) as kill:
        assert kill(6, *divide) == "killed" and kill(0, *divide) == "done"
        assert kill(9, *plan) == "killed"
        with app.app_context(), transaction():
            assert dispatch.due(now + timedelta(minutes=4)) == [("run_dispatch", run["id"])]
            assert dispatch.due(now + timedelta(minutes=6)) == [("run_dispatch", run["id"])]
        assert kill(45, *plan) == "killed" and kill(0, *plan) == "done"
    go(app, run)
    done = client.get(f"/v1/dispatch-runs/{run['id']}").json
    assert (done["state"], done["taken"]) == ("done", {"accepted": 5})
    with app.app_context(), reading() as session:
        assert session.scalar(select(DispatchArea.attempts)) == 2
        assert len(list(session.scalars(select(Assignment.id)))) == 5
        assert set(session.scalars(select(Job.rev))) == {2}
    found = decisions(client, run)
    assert sorted(decision["job_id"] for decision in found) == sorted(job["id"] for job in made)
    assert sorted(decision["planned_order"] for decision in found) == [1, 2, 3, 4, 5]


def test_a_worker_that_comes_back_after_being_given_up_stops(app: Flask) -> None:
    ids = make_territories(app)
    client = make_staff(app)
    make_crew(app, "ONE", [ids["A"]])
    job = make(client)
    run = ask(client)
    late = utc_now() + timedelta(minutes=6)

    def slow(*args: Any) -> Plan:
        with transaction():
            assert dispatch.due(late) == [("run_dispatch", run["id"])]
        assert dispatch.plan_area(run["id"], 1, late, travel=Geodesic(), zone=UTC)
        return planner.plan(*args)

    go(app, run, slow)
    assert client.get(f"/v1/jobs/{job['id']}").json["rev"] == 2
    assert client.get(f"/v1/dispatch-runs/{run['id']}").json["considered"] == 1


def test_an_area_is_given_up_after_three_attempts_that_did_not_end(app: Flask) -> None:
    client = make_staff(app)
    make(client)
    run = ask(client)
    with app.app_context():
        dispatch.conduct(run["id"], utc_now())
        stuck = {"state": "running", "attempts": 3, "started_at": utc_now() - timedelta(minutes=6)}
        with transaction() as session:
            session.execute(update(DispatchArea).values(stuck))
        with transaction():
            dispatch.due(utc_now())
    go(app, run)
    done = client.get(f"/v1/dispatch-runs/{run['id']}").json
    assert done["state"] == "failed" and "given up after 3 attempts" in done["failure"]


def test_without_redis_a_run_is_kept_and_found_by_the_sweep(app: Flask, redis: Any) -> None:
    client = make_staff(app)
    run = ask(client)
    redis.flushall()
    with app.app_context(), transaction():
        assert dispatch.due(utc_now()) == []
        assert dispatch.due(utc_now() + timedelta(seconds=10)) == [("run_dispatch", run["id"])]


def test_six_hundred_jobs_with_customers_are_dispatched_in_one_run(app: Flask, drain: Drain) -> None:
    ids = make_territories(app)
    client = make_staff(app)
    for number in range(12):
        place = "ABC"[number % 3]
        make_crew(app, f"C{number}", [ids[place]])
    rows = [f"C{n},Household {n},{111.5 + (n % 200) / 1000},{35.4 + (n // 200) / 100 + 0.001},M{n}" for n in range(600)]
    import_customers(app, "number,name,lon,lat,meter_asset_no\n" + "\n".join(rows) + "\n")
    jobs = "".join(f"k{n},meter_change,C{n}\n" for n in range(600))
    assert import_jobs(app, "external_key,kind,usage_point_number\n" + jobs).created == 600
    run = ask(client)
    drain()
    done = client.get(f"/v1/dispatch-runs/{run['id']}").json
    assert (done["state"], done["considered"]) == ("done", 600)
    assert done["assigned"] + sum(done["not_assigned"].values()) == 600 and done["assigned"] > 100


def test_a_cursor_beyond_any_place_is_refused(app: Flask) -> None:
    client = make_staff(app)
    run_id = client.post("/v1/dispatch-runs", json={}).json["id"]
    for place in (2**31, -(2**31) - 1, 2**63 - 1):
        answer = client.get(f"/v1/dispatch-runs/{run_id}/decisions?cursor={write_cursor([place])}")
        assert (answer.status_code, answer.json["type"]) == (400, "/problems/bad-cursor")
