"""Plans in the console: asked for, watched, looked at, accepted whole or in part; and the pages of planned work."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise
from typing import Any

from flask import Flask
from sqlalchemy import select, update

from fieldsvc.base.clock import format_time, utc_now
from fieldsvc.base.db import reading, transaction
from fieldsvc.geo.travel import Geodesic, Place
from fieldsvc.work import dispatch
from fieldsvc.work.models import DispatchDecision, Job
from tests.factories import make_crew, make_staff, make_territories
from tests.integration.test_campaigns import monday, settle
from tests.integration.test_dispatch import decisions, go
from tests.integration.test_jobs import make
from tests.visitor import Visitor


def inspection(client: Any, **members: Any) -> dict[str, Any]:
    return make(client, kind="safety_inspection", **members)


def start(visitor: Visitor, **fields: Any) -> str:
    """Send the form; the id of the run."""
    answer = visitor.post("/runs", **fields)
    assert answer.status_code == 303, answer.text
    return str(answer.location).rsplit("/", 1)[1]


def crew_of(client: Any, job: dict[str, Any]) -> Any:
    return client.get(f"/v1/jobs/{job['id']}").json["crew_id"]


def test_every_mode_is_asked_for_by_a_form_that_keeps_what_was_typed(app: Flask) -> None:
    ids = make_territories(app)
    client = make_staff(app)
    crew = make_crew(app, "ONE", [ids["A"]])
    job, elsewhere = inspection(client), inspection(client, lon=111.65)
    visitor = Visitor(app, "dispatcher", [ids["A"]])
    assert "No plan has been asked for yet" in visitor.get("/runs").text
    begun = visitor.get(f"/runs/new?mode=insert&job_id={job['id']}").text
    assert 'value="insert" checked' in begun and f'value="{job["number"]}"' in begun and "Territory B" not in begun
    for fields, fault in (
        ({"mode": "insert"}, "is what insert is about"),
        ({"mode": "insert", "job": elsewhere["number"]}, "no job with this number in your territories"),
        ({"mode": "crew_out", "job": job["number"]}, "is what crew_out is about"),
        ({"mode": "fill", "plan_until": "2020-01-01T08:00"}, "must lie after plan_from"),
        ({"mode": "replan", "territory_ids": [ids["B"]]}, "there is no such territory"),
        ({"mode": "everything"}, "must be one of"),
    ):
        refused = visitor.post("/runs", **fields)
        assert refused.status_code in (409, 422) and fault in refused.text, fields
    assert f'value="{elsewhere["number"]}"' in visitor.post("/runs", mode="insert", job=elsewhere["number"]).text
    made = [
        start(visitor, mode="fill", what_if="true", territory_ids=[ids["A"]], kinds=["repair"], job="ignored"),
        start(visitor, mode="replan", what_if="true"),
        start(visitor, mode="insert", what_if="true", job=job["number"], territory_ids=[ids["A"]]),
        start(visitor, mode="crew_out", what_if="true", without_crew_ids=[crew]),
    ]
    listed = visitor.get("/runs").text
    assert all(f"/runs/{run}" in listed for run in made)
    assert f"Job {job['number']}" in listed and "Without ONE" in listed
    assert "Next page" in visitor.get("/runs?limit=2").text


def test_a_plan_is_watched_until_it_has_ended_and_can_be_called_off(app: Flask) -> None:
    ids = make_territories(app)
    make_crew(app, "ONE", [ids["A"]])
    inspection(make_staff(app))
    visitor = Visitor(app)
    run = start(visitor, mode="fill", what_if="true")
    page = visitor.get(f"/runs/{run}").text
    assert 'hx-trigger="every 2s"' in page and "It waits for a worker." in page
    with app.app_context():
        dispatch.conduct(run, utc_now())
    piece = visitor.piece(f"/runs/{run}/progress")
    assert "0 of 1 areas are planned" in piece.text and "HX-Refresh" not in piece.headers
    other = start(visitor, mode="fill")
    assert visitor.post(f"/runs/{other}/cancel").status_code == 303
    assert "Cancelled" in visitor.get(f"/runs/{other}").text
    again = visitor.post(f"/runs/{other}/cancel")
    assert again.status_code == 409 and "the run is cancelled" in again.text
    go(app, {"id": run})
    assert visitor.piece(f"/runs/{run}/progress").headers["HX-Refresh"] == "true"
    page = visitor.get(f"/runs/{run}").text
    assert "Not accepted yet" in page and "to begin before now" not in page
    with app.app_context(), transaction() as session:
        session.execute(update(DispatchDecision).values(planned_start=utc_now() - timedelta(minutes=15)))
    assert "1 job of this plan was to begin before now." in visitor.get(f"/runs/{run}").text


def test_the_difference_is_shown_and_accepted_job_by_job_crew_by_crew_or_all(app: Flask) -> None:
    ids = make_territories(app)
    client = make_staff(app)
    near, far = make_crew(app, "NEAR", [ids["A"]]), make_crew(app, "FAR", [ids["A"]], lon=111.501, lat=35.401)
    wrong, first, second, gone = (inspection(client) for _ in range(4))
    client.post(f"/v1/jobs/{wrong['id']}/assign", json={"crew_id": far})
    visitor = Visitor(app)
    run = start(visitor, mode="replan", what_if="true")
    go(app, {"id": run})
    page = visitor.get(f"/runs/{run}").text
    assert "Accept all" in page and "All that NEAR gets or gives away" in page
    assert re.search(r"Another crew <span class=\"number\">1</span>", page)
    moved = visitor.get(f"/runs/{run}?show=other_crew&crew={far}&territory=").text
    assert wrong["number"] in moved and first["number"] not in moved
    drawn: Any = visitor.get(f"/runs/{run}/difference", Accept="application/json").json
    assert {one["what"] for one in drawn["changes"]} == {"new", "other_crew"} and len(drawn["crews"]) == 2
    nothing = visitor.post(f"/runs/{run}/accept")
    assert nothing.status_code == 422 and "Choose at least one change" in nothing.text
    assert visitor.post(f"/runs/{run}/accept", job_ids=[first["id"]]).status_code == 303
    assert "is being carried out: 0 of 1" in visitor.get(f"/runs/{run}").text
    go(app, {"id": run})
    assert (crew_of(client, first), crew_of(client, second), crew_of(client, wrong)) == (near, None, far)
    client.post(f"/v1/jobs/{gone['id']}/cancel", json={"reason": "works again"})
    assert visitor.post(f"/runs/{run}/accept", crew_ids=[far]).status_code == 303
    go(app, {"id": run})
    assert (crew_of(client, second), crew_of(client, wrong)) == (None, near)
    assert visitor.post(f"/runs/{run}/accept", everything="true").status_code == 303
    go(app, {"id": run})
    assert crew_of(client, second) == near
    page = visitor.get(f"/runs/{run}?show=changed_meanwhile").text
    assert "Left as it is" in page and gone["number"] in page and "Accept all" not in page
    late = visitor.post(f"/runs/{run}/accept", everything="true")
    assert late.status_code == 303 and "had been accepted before, by" in visitor.get(late.location).text


def test_what_hangs_together_is_accepted_together(app: Flask) -> None:
    ids = make_territories(app)
    client = make_staff(app)
    for code in ("ONE", "TWO"):
        make_crew(app, code, [ids["A"]])
    lead = inspection(client, crews=2)
    after = inspection(client, follows_job_id=lead["id"])
    alone = inspection(client)
    visitor = Visitor(app)
    run = start(visitor, mode="fill", what_if="true")
    go(app, {"id": run})
    asked = visitor.post(f"/runs/{run}/accept", job_ids=[after["id"]])
    assert asked.status_code == 200 and "2 more changes have to go along" in asked.text
    assert "the other half of" in asked.text and "one waits for the other" in asked.text
    with app.app_context(), reading():
        assert dispatch.along(run, [alone["id"]], Geodesic()) == {}
        halves = dispatch.along(run, [lead["id"]], Geodesic())
    (half,) = halves
    assert halves[half] == ("second_crew", lead["id"])
    client.post(f"/v1/jobs/{half}/cancel", json={"reason": "one crew will do"})
    assert visitor.post(f"/runs/{run}/accept", job_ids=[after["id"]], along="true").status_code == 303
    go(app, {"id": run})
    taken = {row["job_id"]: row for row in decisions(client, {"id": run})}
    assert [taken[one]["taken"] for one in (lead["id"], half, alone["id"])] == ["changed_meanwhile"] * 2 + [None]
    assert taken[lead["id"]]["why"]["changed"] == ["second_crew"] and crew_of(client, lead) is None


def test_an_emergency_is_put_in_and_says_whom_it_displaces_and_nothing_is_left_in_its_hours(app: Flask) -> None:
    ids = make_territories(app)
    client = make_staff(app)
    crew = make_crew(app, "ONE", [ids["A"]])
    held = [inspection(client, due_at=format_time(utc_now() + timedelta(minutes=50 * n))) for n in (1, 2)]
    visitor = Visitor(app)
    go(app, {"id": start(visitor, mode="fill", what_if="false")})
    urgent = make(client, hazards=["wire down"], service_minutes=60)
    run = start(visitor, mode="insert", what_if="true", job=urgent["number"])
    go(app, {"id": run})
    page = visitor.get(f"/runs/{run}").text
    assert f"{urgent['number']} goes to ONE and begins at" in page and "2 other jobs are moved by it" in page
    assert re.search(r"[12] promises? (is|are) lost", page)
    assert {one["reason"] for one in decisions(client, {"id": run}) if one["job_id"] != urgent["id"]} == {"kept"}
    asked = visitor.post(f"/runs/{run}/accept", job_ids=[urgent["id"]])
    assert f"could not do it as it was and {urgent['number']} as planned" in asked.text
    assert crew_of(client, urgent) is None
    assert visitor.post(f"/runs/{run}/accept", job_ids=[urgent["id"]], along="true").status_code == 303
    go(app, {"id": run})
    assert crew_of(client, urgent) == crew
    jobs: list[Any] = [client.get(f"/v1/jobs/{job['id']}").json for job in (urgent, *held)]
    spans = sorted((one["planned_start"], one["planned_end"]) for one in jobs)
    assert all(before[1] <= then[0] for before, then in pairwise(spans)), spans


def test_a_part_is_accepted_only_if_its_crew_can_drive_between_what_is_new_and_what_stays(app: Flask) -> None:
    """To the second: what was planned before is put just as far from the new job as the way is, and a second nearer."""
    ids = make_territories(app)
    client = make_staff(app)
    crew = make_crew(app, "ONE", [ids["A"], ids["B"]])
    held, urgent = inspection(client, lon=111.58), make(client, hazards=["wire down"], lon=111.51)
    later, elsewhere = inspection(client), inspection(client, lon=111.65)
    for one, minutes in ((held, 20), (later, 300), (elsewhere, 400)):
        begin = format_time(utc_now() + timedelta(minutes=minutes))
        answer = client.post(f"/v1/jobs/{one['id']}/assign", json={"crew_id": crew, "planned_start": begin})
        assert answer.status_code == 200
    visitor = Visitor(app, "dispatcher", [ids["A"]])
    run = start(visitor, mode="insert", what_if="true", job=urgent["number"])
    go(app, {"id": run})
    drawn: Any = visitor.get(f"/runs/{run}/difference", Accept="application/json").json
    assert [one["job_id"] for one in drawn["changes"]] == [urgent["id"], held["id"]]
    assert [one["id"] for one in drawn["beside"]] == [later["id"]], "not what lies in others' territories"
    travel = Geodesic()
    way = timedelta(seconds=int(travel.matrix([Place(111.51, 35.45), Place(111.58, 35.45)]).seconds[0, 1]))
    lasting, second = timedelta(minutes=held["service_minutes"]), timedelta(seconds=1)
    assert way > timedelta(minutes=10)
    with app.app_context():
        with reading() as session:
            new = session.scalars(select(DispatchDecision).where(DispatchDecision.job_id == urgent["id"])).one()
            begins, ends = new.planned_start, new.planned_end
        assert begins and ends
        for was, fits in (
            (ends + way, True),
            (ends + way - second, False),
            (begins - way - lasting, True),
            (begins - way - lasting + second, False),
        ):
            with transaction() as session:
                moved = update(DispatchDecision).where(DispatchDecision.job_id == held["id"])
                session.execute(moved.values(former_start=was))
                session.execute(update(Job).where(Job.id == held["id"]).values(planned_end=None))
            with reading():
                wanted = {} if fits else {held["id"]: ("same_hours", urgent["id"])}
                assert dispatch.along(run, [urgent["id"]], travel) == wanted, was - begins


def test_nobody_meets_a_plan_of_other_territories_and_an_auditor_changes_nothing(app: Flask) -> None:
    ids = make_territories(app)
    client = make_staff(app)
    make_crew(app, "ONE", [ids["A"]])
    job = inspection(client)
    owner, stranger, auditor = (
        Visitor(app, "dispatcher", [ids["A"]]),
        Visitor(app, "supervisor", [ids["B"]]),
        Visitor(app, "auditor"),
    )
    run = start(owner, mode="fill", what_if="true")
    go(app, {"id": run})
    for path in (f"/runs/{run}", f"/runs/{run}/progress", f"/runs/{run}/difference", f"/jobs/{job['id']}/why"):
        assert stranger.get(path).status_code == 404, path
        assert auditor.get(path).status_code == 200, path
    for step in ("accept", "cancel"):
        assert stranger.post(f"/runs/{run}/{step}", everything="true").status_code == 404
        assert auditor.post(f"/runs/{run}/{step}", everything="true").status_code == 403
    assert run not in stranger.get("/runs").text and run in auditor.get("/runs").text
    page = auditor.get(f"/runs/{run}").text
    assert not any(one in page for one in ("Accept all", 'name="job_ids"', "Plan once more"))
    assert "New plan" not in auditor.get("/runs").text
    assert auditor.get("/runs/new").status_code == 403 and auditor.post("/runs", mode="fill").status_code == 403


def test_why_this_crew_and_why_not_that_one(app: Flask) -> None:
    ids = make_territories(app)
    client = make_staff(app)
    crew, other = make_crew(app, "ONE", [ids["A"]]), make_crew(app, "BLIND", [ids["A"]], ["repair"])
    job = inspection(client)
    visitor = Visitor(app, "dispatcher", [ids["A"]])
    go(app, {"id": start(visitor, mode="fill", what_if="false")})
    assert crew_of(client, job) == crew
    piece = visitor.piece(f"/jobs/{job['id']}/why").text
    assert "ONE: " in piece and "Why not:" in piece and "<html" not in piece
    asked = visitor.piece(f"/jobs/{job['id']}/why?crew={other}").text
    assert "cannot" in asked and "BLIND lacks inspection" in asked
    assert visitor.piece(f"/jobs/{job['id']}/why?crew=nobody").status_code == 404


def test_a_campaign_is_looked_at_released_and_called_off(app: Flask, drain: Callable[[], None]) -> None:
    ids = make_territories(app)
    settle(app)
    visitor, auditor = Visitor(app, "dispatcher"), Visitor(app, "auditor")
    fields: dict[str, Any] = {"name": "Smart meters", "kind": "meter_change", "crews_per_day": 1}
    fields |= {"from_day": monday().isoformat(), "until_day": (monday() + timedelta(days=11)).isoformat()}
    for wrong, fault in (
        ({}, "name transformer_areas, usage_point_ids or territory_ids"),
        ({"transformer_areas": "T1", "until_day": "2020-01-01"}, "must not be before from_day"),
        ({"transformer_areas": "T1\nnowhere"}, "there is no such transformer area: nowhere"),
        ({"territory_ids": [ids["A"]], "holidays": "soon"}, "must be a day such as"),
    ):
        refused = visitor.post("/campaigns", **fields | wrong)
        assert refused.status_code in (409, 422) and fault in refused.text and 'value="Smart meters"' in refused.text
    assert auditor.post("/campaigns", **fields).status_code == 403
    made = visitor.post("/campaigns", **fields, transformer_areas="T1\nT2", night_crews_per_day=1, days_off=["sat"])
    assert made.status_code == 303
    path = str(made.location)
    assert "A worker gives every usage point its day" in visitor.get(path).text
    drain()
    assert path in auditor.get("/campaigns").text and "Release" not in auditor.get(path).text
    page = visitor.get(f"{path}?reason=no_meter").text
    rows = page.split('id="items"')[1]  # short numbers stand in random tokens, too: look at whole cells
    assert ">U0<" in rows and ">U1<" not in rows and f"{path}/calendar.svg" in page
    assert visitor.get(f"{path}/calendar.svg").mimetype == "image/svg+xml"
    assert Visitor(app, "supervisor", []).get(path).status_code == 404
    assert visitor.post(f"{path}/release").status_code == 303
    piece = visitor.piece(f"{path}/progress")
    assert "usage points are through" in piece.text and "HX-Refresh" not in piece.headers
    drain()
    assert visitor.piece(f"{path}/progress").headers["HX-Refresh"] == "true"
    assert "is missing" in visitor.post(f"{path}/cancel").text
    assert visitor.post(f"{path}/cancel", reason="put off").status_code == 303
    drain()
    assert "Cancelled" in visitor.get(path).text


def test_outages_are_entered_and_called_off_and_inspections_made(app: Flask) -> None:
    ids = make_territories(app)
    settle(app)
    visitor, auditor = Visitor(app, "dispatcher", [ids["A"]]), Visitor(app, "auditor")
    day = monday().isoformat()
    fields: dict[str, Any] = {
        "transformer_area": "T1",
        "starts_at": f"{day}T08:00",
        "ends_at": f"{day}T12:00",
        "reason": "switchgear",
    }
    for wrong, fault in (
        ({"ends_at": f"{day}T07:00"}, "must be after starts_at"),
        ({"transformer_area": "T9"}, 'id="f-transformer_area-fault">no usage point is in it'),
        ({"starts_at": "soon"}, ""),
    ):
        refused = visitor.post("/outages", **fields | wrong)
        assert refused.status_code in (409, 422) and fault in refused.text and 'value="switchgear"' in refused.text
    made = visitor.post("/outages", **fields)
    assert made.status_code == 303
    page = visitor.get(made.location).text
    assert "Outage of T1" in page and "T1" in visitor.get("/outages?area=T1&state=").text
    assert Visitor(app, "dispatcher", [ids["B"]]).get(made.location).status_code == 404
    late = visitor.post(str(made.location), starts_at=f"{day}T09:00", ends_at=f"{day}T08:00", rev=1)
    assert late.status_code == 422 and "must be after starts_at" in late.text and f'value="{day}T09:00"' in late.text
    later: dict[str, Any] = {"starts_at": f"{day}T09:00", "ends_at": f"{day}T13:00", "reason": "switchgear"}
    assert visitor.post(str(made.location), **later, rev=1).status_code == 303
    stale = visitor.post(f"{made.location}/cancel", why="put off", rev=7)
    assert stale.status_code == 412 and "has been changed meanwhile" in stale.text
    assert visitor.post(f"{made.location}/cancel", why="put off", rev=2).status_code == 303
    assert auditor.post(f"{made.location}/cancel", why="x", rev=1).status_code == 403
    until = (utc_now() + timedelta(days=400)).date().isoformat()
    due = visitor.get(f"/inspections?until={until}").text
    customers = re.findall(r'name="customer_ids" value="([^"]+)"', due)
    assert customers and 'name="customer_ids"' not in auditor.get(f"/inspections?until={until}").text
    assert "Tick at least one customer" in visitor.post("/inspections", until=until).text
    done = visitor.post("/inspections", until=until, customer_ids=customers[:1])
    assert done.status_code == 303 and "1 job has been made." in visitor.get(done.location).text
    assert customers[0] not in visitor.get(f"/inspections?until={until}").text
