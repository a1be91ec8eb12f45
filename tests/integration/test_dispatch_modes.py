"""What a run may decide about: everything anew, one job more, one crew less; and what-if runs."""

from __future__ import annotations

from datetime import UTC, timedelta
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import event, select, update

from fieldsvc.base.clock import format_time, utc_now
from fieldsvc.base.db import db, reading, transaction
from fieldsvc.geo.travel import Geodesic
from fieldsvc.work import dispatch
from fieldsvc.work.models import DispatchClaim, DispatchDecision
from tests.factories import make_crew, make_staff, make_territories
from tests.integration.test_dispatch import ask, decisions, go
from tests.integration.test_jobs import make, problem


def get(client: Any, run: dict[str, Any], page: str = "") -> Any:
    found = client.get(f"/v1/dispatch-runs/{run['id']}{page}").json
    return found["items"] if page else found


def job(client: Any, made: dict[str, Any]) -> dict[str, Any]:
    return dict(client.get(f"/v1/jobs/{made['id']}").json)


def inspection(client: Any, **members: Any) -> dict[str, Any]:
    return make(client, kind="safety_inspection", **members)


def assign(client: Any, made: dict[str, Any], crew: str, **members: Any) -> None:
    assert client.post(f"/v1/jobs/{made['id']}/assign", json={"crew_id": crew, **members}).status_code == 200


def test_a_what_if_run_changes_nothing_until_it_is_accepted_job_by_job(app: Flask) -> None:
    ids = make_territories(app)
    client = make_staff(app)
    near, far = make_crew(app, "NEAR", [ids["A"]]), make_crew(app, "FAR", [ids["A"]], lon=111.501, lat=35.401)
    wrong, cancelled, waiting = (inspection(client) for _ in range(3))
    pinned = inspection(client, lon=111.502, lat=35.402)
    assign(client, wrong, far)
    assign(client, pinned, far, pin=True)
    assign(client, cancelled, far)
    run = ask(client, mode="replan", what_if=True)
    go(app, run)
    planned = get(client, run)
    assert (planned["state"], planned["what_if"], planned["taken"]) == ("done", True, {})
    assert (planned["before"]["jobs"], planned["before"]["assigned"], planned["after"]["assigned"]) == (4, 3, 4)
    assert planned["after"]["metres"] < planned["before"]["metres"] and planned["travel"]["provider"] == "geodesic"
    assert (job(client, wrong)["crew_id"], job(client, waiting)["crew_id"]) == (far, None)
    changes = {change["job_id"]: change for change in get(client, run, "/changes")}
    assert (changes[wrong["id"]]["former_crew_code"], changes[wrong["id"]]["crew_code"]) == ("FAR", "NEAR")
    assert changes[pinned["id"]]["crew_code"] == "FAR"
    client.post(f"/v1/jobs/{cancelled['id']}/cancel", json={"reason": "works again"})
    unknown = client.post(f"/v1/dispatch-runs/{run['id']}/accept", json={"job_ids": [waiting["id"], "nothing"]})
    assert problem(unknown) == (409, "conflict")
    accepted = client.post(f"/v1/dispatch-runs/{run['id']}/accept", json={"job_ids": [waiting["id"]]})
    assert accepted.status_code == 202 and accepted.json["taken"] == {"wanted": 1}
    with app.app_context():
        dispatch.carry_out(run["id"], None, utc_now())
    given = job(client, waiting)
    assert (given["crew_id"], given["assignment"]["run_id"]) == (near, run["id"]) and given["planned_end"]
    client.post(f"/v1/dispatch-runs/{run['id']}/accept")
    with app.app_context():
        dispatch.carry_out(run["id"], None, utc_now())
    assert get(client, run)["taken"] == {"accepted": 3, "changed_meanwhile": 1}
    first = get(client, run)["accepted_at"]
    again = client.post(f"/v1/dispatch-runs/{run['id']}/accept")
    assert (again.status_code, again.json["accepted_at"]) == (202, first), "nothing was left to be accepted"
    assert [job(client, one)["crew_id"] for one in (wrong, pinned)] == [near, far]
    left = {decision["job_id"]: decision for decision in decisions(client, run)}[cancelled["id"]]
    assert left["taken"] == "changed_meanwhile" and "status" in left["why"]["changed"]


def test_only_a_finished_what_if_run_is_accepted_and_only_an_open_one_called_off(app: Flask) -> None:
    client = make_staff(app)
    what_if, real = ask(client, what_if=True), ask(client)
    for run in (what_if, real):
        assert problem(client.post(f"/v1/dispatch-runs/{run['id']}/accept")) == (409, "state-not-allowed")
        go(app, run)
    assert client.post(f"/v1/dispatch-runs/{what_if['id']}/accept").status_code == 202
    assert problem(client.post(f"/v1/dispatch-runs/{real['id']}/accept")) == (409, "state-not-allowed")
    for action in ("accept", "cancel"):
        for run in (what_if["id"], "nothing"):
            stranger = make_staff(app, "dispatcher", []) if action == "accept" else make_staff(app, "auditor")
            wanted = (404, "not-found") if action == "accept" else (403, "forbidden")
            assert problem(stranger.post(f"/v1/dispatch-runs/{run}/{action}")) == wanted
    assert problem(client.post(f"/v1/dispatch-runs/{real['id']}/cancel")) == (409, "state-not-allowed")


def test_an_emergency_is_put_in_and_the_run_says_whom_it_displaces(app: Flask) -> None:
    ids = make_territories(app)
    client = make_staff(app)
    crew = make_crew(app, "ONE", [ids["A"]])
    held, untouched = inspection(client), inspection(client)
    go(app, ask(client))
    before = job(client, held)["planned_start"], job(client, untouched)["planned_start"]
    emergency = make(client, hazards=["wire down"], service_minutes=45)
    other = inspection(client)
    run = ask(client, mode="insert", job_id=emergency["id"])
    go(app, run)
    done = get(client, run)
    assert (done["state"], done["considered"], done["before"]["assigned"], done["after"]["assigned"]) == (
        "done",
        3,
        2,
        3,
    )
    changes = {change["job_id"]: change for change in get(client, run, "/changes")}
    assert changes[emergency["id"]]["former_crew_id"] is None and changes[emergency["id"]]["planned_order"] == 1
    later = [changes[one["id"]]["later_minutes"] for one in (held, untouched)]
    assert all(minutes >= 45 for minutes in later), later
    assert (job(client, emergency)["crew_id"], job(client, other)["crew_id"]) == (crew, None)
    assert (job(client, held)["planned_start"], job(client, untouched)["planned_start"]) != before
    entry = client.get(f"/v1/jobs/{held['id']}/history").json["items"][0]
    assert entry["action"] == "job.replanned" and entry["actor"]["kind"] == "system"


def test_who_does_not_get_the_emergency_keeps_everything_as_it_is(app: Flask) -> None:
    """Neither crew drives the shortest way through its day, and both begin later than they could."""
    ids = make_territories(app)
    client = make_staff(app)
    here, there = (make_crew(app, code, [ids["A"]], lon=lon) for code, lon in (("HERE", 111.51), ("THERE", 111.59)))
    begins = utc_now().replace(microsecond=0) + timedelta(minutes=20)
    held: dict[str, list[dict[str, Any]]] = {}
    for crew, lons in ((here, (111.52, 111.54, 111.51)), (there, (111.56, 111.59, 111.57))):
        held[crew] = [inspection(client, lon=lon) for lon in lons]
        for turn, one in enumerate(held[crew]):
            assign(client, one, crew, planned_start=format_time(begins + timedelta(hours=2 * turn)))
    standing = {one["id"]: job(client, one)["planned_start"] for jobs in held.values() for one in jobs}
    emergency = make(client, hazards=["wire down"], service_minutes=60, lon=111.51)
    run = ask(client, mode="insert", job_id=emergency["id"], what_if=True)
    go(app, run)
    changes = {change["job_id"]: change for change in get(client, run, "/changes")}
    first, *others = (one["id"] for one in held[here])
    assert set(changes) == {emergency["id"], first}, "one job, of the crew that gets it, has to wait"
    assert changes[emergency["id"]]["crew_code"] == "HERE" and 30 < changes[first]["later_minutes"] < 60
    told = {one["job_id"]: one for one in decisions(client, run)}
    assert set(told) == {emergency["id"], first, *others} and {told[one]["later_minutes"] for one in others} == {0}
    assert [told[one]["planned_order"] for one in (emergency["id"], first, *others)] == [1, 2, 3, 4]
    planned = get(client, run)
    assert (planned["considered"], planned["before"]["jobs"], planned["after"]["assigned"]) == (4, 4, 4)
    client.post(f"/v1/dispatch-runs/{run['id']}/accept")
    go(app, run)
    assert job(client, emergency)["crew_id"] == here
    now_at = {one: job(client, {"id": one})["planned_start"] for one in standing}
    assert [one for one in standing if now_at[one] != standing[one]] == [first]


def test_what_no_longer_fits_goes_to_a_crew_that_has_time_and_what_did_not_fit_before_stays(app: Flask) -> None:
    ids = make_territories(app)
    client = make_staff(app)
    full, spare, over = (
        make_crew(app, code, [ids["A"]], lon=lon)
        for code, lon in (("FULL", 111.51), ("SPARE", 111.55), ("OVER", 111.59))
    )
    soon = utc_now().replace(microsecond=0) + timedelta(minutes=20)

    def held(crew: str, hours: float, minutes: int, lon: float) -> str:
        one = inspection(client, service_minutes=minutes, lon=lon)
        assign(client, one, crew, planned_start=format_time(soon + timedelta(hours=hours)))
        return str(one["id"])

    first, last = held(full, 0, 240, 111.51), held(full, 4.2, 240, 111.51)
    later = held(spare, 6, 60, 111.55)
    for hours in (0, 5):
        held(over, hours, 300, 111.59)
    emergency = make(client, hazards=["wire down"], service_minutes=120, lon=111.51)
    run = ask(client, mode="insert", job_id=emergency["id"], what_if=True)
    go(app, run)
    told = {one["job_id"]: one for one in decisions(client, run)}
    assert set(told) == {emergency["id"], first, last, later}
    away = [one for one in (first, last) if told[one]["crew_id"] == spare]
    assert len(away) == 1 and told[emergency["id"]]["crew_id"] == full
    assert told[emergency["id"]]["reason"] == "soonest_arrival" and told[emergency["id"]]["planned_order"] == 1
    assert (told[later]["crew_id"], told[later]["later_minutes"]) == (spare, 0), "the rest of that day stays"
    assert get(client, run)["before"]["assigned"] == 3 and get(client, run)["after"]["assigned"] == 4


def test_who_waits_for_a_job_that_an_emergency_puts_off_is_told_too(app: Flask) -> None:
    ids = make_territories(app)
    client = make_staff(app)
    crews = [make_crew(app, code, [ids["A"]], lon=lon) for code, lon in (("HERE", 111.51), ("THERE", 111.59))]
    soon = utc_now().replace(microsecond=0) + timedelta(minutes=10)
    lead = inspection(client, lon=111.51, service_minutes=60)
    after = inspection(client, lon=111.59, follows_job_id=lead["id"])
    for one, crew, hours in ((lead, crews[0], 0.0), (after, crews[1], 1.2)):
        assign(client, one, crew, planned_start=format_time(soon + timedelta(hours=hours)))
    emergency = make(client, hazards=["wire down"], service_minutes=60, lon=111.51)
    run = ask(client, mode="insert", job_id=emergency["id"], what_if=True)
    go(app, run)
    told = {one["job_id"]: one for one in decisions(client, run)}
    assert [told[one["id"]]["crew_code"] for one in (emergency, lead, after)] == ["HERE", "HERE", "THERE"]
    assert told[lead["id"]]["later_minutes"] > 30
    assert told[lead["id"]]["planned_end"] <= told[after["id"]]["planned_start"]


def test_the_work_of_a_crew_that_drops_out_goes_to_others_that_keep_theirs(app: Flask) -> None:
    ids = make_territories(app)
    client = make_staff(app)
    ill, well = (make_crew(app, code, [ids["A"]]) for code in ("ILL", "WELL"))
    theirs, pinned, other, waiting = (inspection(client, lon=lon) for lon in (111.58, 111.55, 111.55, 111.55))
    assign(client, theirs, ill)
    assign(client, pinned, ill, pin=True)
    assign(client, other, well)
    whole = ask(client, mode="replan", what_if=True)
    go(app, whole)
    run = ask(client, mode="crew_out", without_crew_ids=[ill])
    go(app, run)
    before = get(client, run)["before"]
    assert before["metres"] == get(client, whole)["before"]["metres"] > 0, "what the one who is out would have driven"
    assert [job(client, one)["crew_id"] for one in (theirs, pinned, other, waiting)] == [well, ill, well, None]
    assert get(client, run)["not_assigned"] == {"pinned_crew_away": 1}


def test_neighbours_help_out_at_the_border_with_what_is_left(app: Flask) -> None:
    ids = make_territories(app)
    client = make_staff(app)
    make_crew(app, "FULL", [ids["A"]])
    helper = make_crew(app, "HELPER", [ids["B"]], lon=111.61)
    client.patch(f"/v1/crews/{helper}", json={"help_out_m": 1000})
    day = [inspection(client, service_minutes=480), inspection(client, service_minutes=480, lon=111.599)]
    mine = inspection(client, lon=111.65)
    run = ask(client)
    go(app, run)
    done = get(client, run)
    assert (done["areas"], done["areas_done"], done["considered"], done["assigned"]) == (3, 3, 3, 2)
    stages = [(area["stage"], area["considered"]) for area in get(client, run, "/areas")]
    assert stages == [("area", 2), ("area", 1), ("border", 0)], "the neighbour's day is full"
    client.post(f"/v1/jobs/{mine['id']}/cancel", json={"reason": "not needed"})
    run = ask(client, what_if=True)
    go(app, run)
    (found,) = decisions(client, run)
    assert found["crew_id"] == helper and found["job_id"] in {one["id"] for one in day}
    assert get(client, run)["after"]["assigned"] == 1


def test_one_run_plans_a_territory_at_a_time_and_the_next_goes_on_when_it_ends(app: Flask) -> None:
    ids = make_territories(app)
    client = make_staff(app)
    make_crew(app, "BOTH", [ids["A"], ids["B"]])
    make(client)
    first, second, free = (
        ask(client, territory_ids=[ids["A"]]),
        ask(client, territory_ids=[ids["B"]]),
        ask(client, what_if=True),
    )
    now = utc_now()
    with app.app_context():
        assert dispatch.conduct(first["id"], now) == [("plan_area", first["id"], "1")]
        assert dispatch.conduct(second["id"], now) == [], "its crew belongs to a territory that is being planned"
        assert dispatch.conduct(free["id"], now) != [], "what changes nothing need not wait"
        db.session.remove()
    waiting = get(client, second)
    assert (waiting["state"], waiting["waits_for"], get(client, first)["stage"]) == ("queued", first["id"], "area")
    called_off = client.post(f"/v1/dispatch-runs/{first['id']}/cancel").json
    assert (called_off["state"], called_off["areas"], called_off["areas_done"]) == ("cancelled", 1, 1)
    go(app, first)
    go(app, second)
    assert (get(client, second)["state"], get(client, second)["waits_for"]) == ("done", None)
    assert get(client, first)["state"] == "cancelled"
    with app.app_context(), reading() as session:
        assert session.scalars(select(DispatchClaim)).all() == []


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        ({"mode": "insert"}, (422, "invalid")),
        ({"job_id": "j"}, (422, "invalid")),
        ({"mode": "insert", "job_id": "nothing"}, (409, "conflict")),
        ({"mode": "insert", "job_id": "j", "kinds": ["repair"]}, (422, "invalid")),
        ({"mode": "crew_out"}, (422, "invalid")),
        ({"mode": "crew_out", "without_crew_ids": ["nobody"]}, (409, "conflict")),
        ({"mode": "everything"}, (422, "invalid")),
    ],
)
def test_a_run_that_cannot_be_is_refused(
    client: Any, app: Flask, body: dict[str, Any], wanted: tuple[int, str]
) -> None:
    assert problem(make_staff(app).post("/v1/dispatch-runs", json=body)) == wanted


def test_a_run_plans_up_to_seven_days_and_what_is_fixed_cannot_be_put_in(app: Flask) -> None:
    ids = make_territories(app)
    client, mine = make_staff(app), make_staff(app, "dispatcher", [ids["B"]])
    begins = utc_now().replace(microsecond=0) + timedelta(hours=1)
    for ends, status in (
        (begins, 422),
        (begins + timedelta(days=7, seconds=1), 422),
        (begins + timedelta(days=7), 202),
    ):
        body = {"plan_from": format_time(begins), "plan_until": format_time(ends)}
        assert client.post("/v1/dispatch-runs", json=body).status_code == status
    crew, one, nowhere = make_crew(app), make(client), client.post("/v1/jobs", json={"kind": "repair"}).json
    assign(client, one, crew, pin=True)
    for made in (one, nowhere):
        answer = client.post("/v1/dispatch-runs", json={"mode": "insert", "job_id": made["id"]})
        assert problem(answer) == (409, "state-not-allowed")
    assert problem(mine.post("/v1/dispatch-runs", json={"mode": "insert", "job_id": one["id"]})) == (409, "conflict")
    out = {"mode": "crew_out", "without_crew_ids": [crew]}
    assert problem(mine.post("/v1/dispatch-runs", json=out)) == (409, "conflict")


def test_a_job_that_has_ended_before_its_run_came_to_it_stops_nobody(app: Flask) -> None:
    """Neither a job called off while the run waited, nor one called off while it was planned."""
    ids = make_territories(app)
    client = make_staff(app)
    crew = make_crew(app, "ONE", [ids["A"]])
    held, gone, late = (inspection(client) for _ in range(3))
    assign(client, held, crew)
    waiting = ask(client, mode="insert", job_id=gone["id"])
    client.post(f"/v1/jobs/{gone['id']}/cancel", json={"reason": "works again"})
    go(app, waiting)
    told = get(client, waiting)
    assert (told["state"], told["considered"]) == ("done", 0) and "ended meanwhile" in told["failure"]
    started = ask(client, mode="insert", job_id=late["id"])
    with app.app_context():
        dispatch.conduct(started["id"], utc_now())
        db.session.remove()
    client.post(f"/v1/jobs/{late['id']}/cancel", json={"reason": "works again"})
    go(app, started)
    assert (get(client, started)["state"], get(client, started)["considered"]) == ("done", 0)
    assert [job(client, one)["status"] for one in (held, gone, late)] == ["dispatched", "cancelled", "cancelled"]
    with app.app_context(), reading() as session:
        assert session.scalars(select(DispatchClaim)).all() == []


def test_what_cannot_be_carried_out_is_given_up_and_the_territories_are_free(app: Flask) -> None:
    ids = make_territories(app)
    client = make_staff(app)
    make_crew(app, "ONE", [ids["A"]])
    made, run = inspection(client), ask(client)
    now = utc_now()
    with app.app_context():
        dispatch.conduct(run["id"], now)
        dispatch.plan_area(run["id"], 1, now, travel=Geodesic(), zone=UTC)
        with transaction() as session:  # a decision that cannot be read any more
            session.execute(update(DispatchDecision).values(seen=["one", "value"]))
        for _ in range(2):
            with pytest.raises(ValueError):
                dispatch.carry_out(run["id"], 1, now)
        assert dispatch.carry_out(run["id"], 1, now) is False
        assert dispatch.conduct(run["id"], now) == []
        db.session.remove()
    told = get(client, run)
    assert (told["state"], told["assigned"], told["not_assigned"]) == ("failed", 0, {"not_carried_out": 1})
    assert told["failure"] == "area 1: ValueError" and job(client, made)["crew_id"] is None
    with app.app_context(), reading() as session:
        assert session.scalars(select(DispatchClaim)).all() == []


@pytest.mark.parametrize("mode", ["replan", "insert", "crew_out"])
def test_what_a_shared_crew_has_to_do_elsewhere_is_not_the_dispatchers(app: Flask, mode: str) -> None:
    ids = make_territories(app)
    client, mine = make_staff(app), make_staff(app, "dispatcher", [ids["A"]])
    both = make_crew(app, "BOTH", [ids["A"], ids["B"]])
    make_crew(app, "HERE", [ids["A"]])
    here, new = inspection(client), inspection(client)
    elsewhere, pinned = inspection(client, lon=111.65), inspection(client, lon=111.66)
    for one in (here, elsewhere):
        assign(client, one, both)
    assign(client, pinned, both, pin=True)
    members = {"insert": {"job_id": new["id"]}, "crew_out": {"without_crew_ids": [both]}}.get(mode, {})
    before = [(one["crew_id"], one["rev"]) for one in (job(client, one) for one in (elsewhere, pinned))]
    run = ask(mine, mode=mode, **members)
    go(app, run)
    assert get(mine, run)["state"] == "done"
    assert {one["job_id"] for one in decisions(mine, run)} <= {here["id"], new["id"]}
    assert [(one["crew_id"], one["rev"]) for one in (job(client, one) for one in (elsewhere, pinned))] == before


def test_a_crew_that_has_lost_what_the_job_needs_does_not_get_it(app: Flask) -> None:
    ids = make_territories(app)
    client = make_staff(app)
    crews = [make_crew(app, code, [ids[code]], lon=lon) for code, lon in (("A", 111.55), ("B", 111.65))]
    made = [inspection(client), inspection(client, lon=111.65)]
    run = ask(client, what_if=True)
    go(app, run)
    client.patch(f"/v1/crews/{crews[0]}", json={"skills": ["repair"]})
    client.post(f"/v1/dispatch-runs/{run['id']}/accept")
    go(app, run)
    assert get(client, run)["taken"] == {"accepted": 1, "changed_meanwhile": 1}
    assert [job(client, one)["crew_id"] for one in made] == [None, crews[1]]


def test_whoever_has_lost_a_territory_carries_nothing_out_there(app: Flask) -> None:
    ids = make_territories(app)
    client, mine = make_staff(app), make_staff(app, "dispatcher", [ids["A"]], username="moves")
    make_crew(app, "ONE", [ids["A"]])
    made = inspection(client)
    run = ask(mine, what_if=True)
    go(app, run)
    member = next(one for one in client.get("/v1/users").json["items"] if one["username"] == "moves")
    moved = client.patch(f"/v1/users/{member['id']}", json={"territory_ids": [ids["B"]]})
    assert moved.status_code == 200, moved.json
    assert problem(mine.post(f"/v1/dispatch-runs/{run['id']}/accept")) == (404, "not-found")
    assert job(client, made)["crew_id"] is None


def test_a_list_of_runs_asks_the_database_as_often_as_one_run(app: Flask) -> None:
    client = make_staff(app)
    inspection(client)
    asked: list[str] = []
    with app.app_context():
        engine = db.engine
    event.listen(engine, "before_cursor_execute", lambda *args: asked.append(args[2]))
    counts = []
    for _ in range(2):
        go(app, ask(client))
        asked.clear()
        shown = client.get("/v1/dispatch-runs").json["items"]
        counts.append(len(asked))
        assert all(run["not_assigned"] == {"no_territory": 1} for run in shown)
    assert counts[0] == counts[1] and len(shown) == 2
