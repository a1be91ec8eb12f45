"""Campaigns and planned outages: bulk work drafted, looked at, released, called off; by the API and a real worker."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from flask import Flask

from fieldsvc import kinds
from fieldsvc.base.clock import format_time, parse_time, utc_now
from fieldsvc.base.db import db, reading
from fieldsvc.base.sheet import Layout, Sheet
from fieldsvc.commands.imports import run
from fieldsvc.config import Settings
from fieldsvc.people.actors import SYSTEM
from fieldsvc.work import campaign_steps, campaigns, outage_import
from fieldsvc.work.outage_import import OutageImport
from tests.factories import make_crew, make_shift, make_staff, make_territories
from tests.field import Field, done, problem
from tests.integration.test_imports import import_customers

Drain = Callable[[], None]
SHANGHAI = ZoneInfo("Asia/Shanghai")
HEAD = "number,name,customer_class,importance,lon,lat,usage_point_number,transformer_area,meter_asset_no,installed_at"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return dataclasses.replace(settings, zone="Asia/Shanghai")


def monday() -> date:
    """The first Monday that is at least two weeks away: no holiday in the tests, no weekend."""
    day = utc_now().astimezone(SHANGHAI).date() + timedelta(days=14)
    return day + timedelta(days=-day.weekday() % 7)


def at(day: date, hour: int) -> str:
    return format_time(datetime(day.year, day.month, day.day, hour, tzinfo=SHANGHAI))


def settle(app: Flask) -> None:
    """Two areas of three households in A; in T1 a hospital, in T2 a school; one household in B; one without a meter."""
    rows = [
        f"H{n},House {n},residential,none,111.55,35.45,U{n},T{1 + n // 4},M{n},2024-01-01T00:00:00Z"
        for n in (1, 2, 3, 4, 5, 6)
    ]
    rows.append("S1,Hospital,hospital,special,111.55,35.45,U7,T1,M7,2024-01-01T00:00:00Z")
    rows.append("S2,School,school,first,111.55,35.45,U8,T2,M8,2024-01-01T00:00:00Z")
    rows.append("B1,House in B,residential,none,111.65,35.45,U9,T9,M9,2024-01-01T00:00:00Z")
    rows.append("N1,No meter,residential,none,111.55,35.45,U0,T1,,")
    outcome = import_customers(app, "\n".join([HEAD, *rows]) + "\n")
    assert not outcome.refused, outcome.refused


def ask(client: Any, drain: Drain, **members: Any) -> dict[str, Any]:
    """A new campaign's page, once a worker has drafted it."""
    wanted = {
        "name": "Smart meters",
        "kind": "meter_change",
        "from_day": monday().isoformat(),
        "until_day": (monday() + timedelta(days=11)).isoformat(),
        "transformer_areas": ["T1", "T2"],
        "crews_per_day": 1,
    }
    made = done(client.post("/v1/campaigns", json=wanted | members), 202)
    assert made["state"] == "planning"
    drain()
    return done(client.get(f"/v1/campaigns/{made['id']}"))


def items(client: Any, campaign: dict[str, Any], query: str = "") -> dict[str, dict[str, Any]]:
    found = done(client.get(f"/v1/campaigns/{campaign['id']}/items?limit=200{query}"))["items"]
    return {item["usage_point_number"]: item for item in found}


def outage(client: Any, area: str, day: date, first: int = 8, last: int = 12) -> dict[str, Any]:
    body = {"transformer_area": area, "starts_at": at(day, first), "ends_at": at(day, last), "reason": "new switchgear"}
    return done(client.post("/v1/planned-outages", json=body), 201)


def test_from_the_draft_to_the_jobs_and_back(app: Flask, drain: Drain) -> None:
    ids = make_territories(app)
    settle(app)
    client = make_staff(app, "dispatcher")
    night_crew = make_crew(app, "NIGHT", [ids["A"]], on_duty=False)
    make_shift(app, night_crew, parse_time(at(monday(), 22)))
    cut = outage(client, "T1", monday() + timedelta(days=3))
    draft = ask(client, drain, night_crews_per_day=1)
    assert (draft["state"], draft["items"], draft["jobs"], draft["failure"]) == ("draft", 9, 0, None)
    assert draft["placed"] == {"in_outage": 4, "own_hours": 1, "with_area": 3}
    assert draft["left"] == {"no_meter": 1}
    found = items(client, draft)
    first, thursday = monday().isoformat(), (monday() + timedelta(days=3)).isoformat()
    assert {found[n]["day"] for n in ("U4", "U5", "U6")} == {first}, "a whole area on one day, the first with room"
    assert {found[n]["day"] for n in ("U1", "U2", "U3", "U7")} == {thursday}, "cut once, the hospital with the others"
    for number in ("U1", "U7"):
        assert found[number]["outage_id"] == cut["id"]
        assert found[number]["window_start"] == cut["starts_at"]
        assert parse_time(found[number]["window_end"]) == parse_time(cut["ends_at"]) - timedelta(minutes=30)
    assert (found["U8"]["night"], found["U8"]["day"]) == (True, first), "the school by night"
    assert (found["U8"]["window_start"], found["U8"]["window_end"]) == (at(monday(), 22), _later(at(monday(), 22), 8.5))
    assert found["U0"]["day"] is None and found["U0"]["reason"] == "no_meter"
    assert client.get("/v1/jobs").json["items"] == [], "nothing leaves the house before it is released"
    picture = client.get(f"/v1/campaigns/{draft['id']}/calendar")
    assert picture.mimetype == "image/svg+xml" and "8 usage points on a day, 1 on none" in picture.text

    done(client.post(f"/v1/campaigns/{draft['id']}/release"), 202)
    with ThreadPoolExecutor(2) as two_workers:
        for ended in [two_workers.submit(work, app, draft["id"]) for _ in range(2)]:
            ended.result()
    released = done(client.get(f"/v1/campaigns/{draft['id']}"))
    assert (released["state"], released["jobs"], released["done_items"]) == ("released", 8, 8)
    done(client.post(f"/v1/campaigns/{draft['id']}/release"), 202)
    drain()
    jobs = client.get("/v1/jobs?kind=meter_change").json["items"]
    assert len(jobs) == 8, "released twice, made once"
    job = next(job for job in jobs if job["usage_point_id"] == found["U7"]["usage_point_id"])
    assert job["title"] == "Meter change T1: Smart meters" and job["window_start"] == cut["starts_at"]
    assert job["due_at"] == job["window_end"] == found["U7"]["window_end"]
    assert job["details"]["campaign"] == {"id": draft["id"], "name": "Smart meters", "night": False}
    assert job["external_key"] == f"campaign:{draft['id']}:{job['usage_point_id']}"
    assert done(client.get(f"/v1/planned-outages/{cut['id']}"))["jobs"] == 4

    today, then = (client.post("/v1/dispatch-runs", json=body) for body in ({}, {"plan_from": at(monday(), 7)}))
    drain()
    considered = [done(client.get(f"/v1/dispatch-runs/{done(run, 202)['id']}"))["considered"] for run in (today, then)]
    assert considered == [0, 4], "a run leaves alone what is for a later day"
    school = client.get(f"/v1/jobs/{items(client, draft)['U8']['job_id']}").json
    assert school["crew_id"] == night_crew
    assert school["window_start"] <= school["planned_start"] <= school["window_end"], "after ten, by the night shift"

    assert ask(client, drain, name="Again")["left"] == {"no_meter": 1, "open_job": 8}
    done(client.post(f"/v1/campaigns/{draft['id']}/cancel", json={"reason": "no meters came"}), 202)
    drain()
    assert done(client.get(f"/v1/campaigns/{draft['id']}"))["state"] == "cancelled"
    assert {job["status"] for job in client.get("/v1/jobs?kind=meter_change").json["items"]} == {"cancelled"}


def work(app: Flask, campaign_id: str) -> None:
    """What a worker does."""
    with app.app_context():
        campaign_steps.run(campaign_id, utc_now())
        db.session.remove()


def _later(text: str, hours: float) -> str:
    return format_time(parse_time(text) + timedelta(hours=hours))


def test_what_changed_since_the_draft_is_not_released_and_who_has_set_out_goes_on(app: Flask, drain: Drain) -> None:
    make_territories(app)
    settle(app)
    field = Field(app, drain)
    client = field.office
    day = monday() + timedelta(days=3)
    cut = outage(client, "T1", day)
    draft = ask(client, drain)
    found = items(client, draft)
    assert found["U8"]["reason"] == "no_night_capacity" and found["U8"]["day"] is None
    field.job("meter_change", usage_point_id=found["U4"]["usage_point_id"])
    moved = client.patch(
        f"/v1/planned-outages/{cut['id']}",
        json={"starts_at": at(day, 9), "ends_at": at(day, 13)},
        headers={"If-Match": '"1"'},
    )
    assert done(moved)["rev"] == 2
    done(client.post(f"/v1/campaigns/{draft['id']}/release"), 202)
    drain()
    released = done(client.get(f"/v1/campaigns/{draft['id']}"))
    assert (released["state"], released["jobs"]) == ("released", 2)
    assert released["left"] == {"no_meter": 1, "no_night_capacity": 1, "open_job": 1, "outage_changed": 4}
    assert set(items(client, draft, "&reason=open_job,outage_changed")) == {"U1", "U2", "U3", "U7", "U4"}
    assert set(items(client, draft, f"&day={monday().isoformat()}&area=T2")) == {"U4", "U5", "U6"}

    phone, job_ids = field.phone(), [items(client, draft)[number]["job_id"] for number in ("U5", "U6")]
    for job_id in job_ids:
        field.assign(job_id, phone.crew_id)
    phone.pull()
    assert phone.do("job.enroute", job_ids[0]) == "applied"
    answer = done(client.post(f"/v1/campaigns/{draft['id']}/cancel", json={"reason": "rain"}), 202)
    assert answer["state"] == "cancelling"
    drain()
    assert [field.status(job_id) for job_id in job_ids] == ["enroute", "cancelled"]
    assert (
        done(client.post(f"/v1/campaigns/{draft['id']}/cancel", json={"reason": "rain"}), 202)["state"] == "cancelled"
    )
    assert problem(client.post(f"/v1/campaigns/{draft['id']}/release")) == (409, "state-not-allowed")
    told = [entry["action"] for entry in field.history() if entry["entity"] == "campaign"]
    assert told == ["campaign." + what for what in ("requested", "planned", "released", "jobs_made", "cancelled")]


def test_what_no_campaign_can_be(app: Flask) -> None:
    ids = make_territories(app)
    settle(app)
    client, mine = make_staff(app), make_staff(app, "dispatcher", [ids["B"]])
    first = monday()
    wanted = {
        "name": "Smart meters",
        "kind": "meter_change",
        "from_day": first.isoformat(),
        "until_day": first.isoformat(),
        "transformer_areas": ["T9"],
        "crews_per_day": 1,
    }

    def refused(who: Any = client, **members: Any) -> tuple[int, str, str]:
        body = {name: value for name, value in (wanted | members).items() if value is not None}
        answer = who.post("/v1/campaigns", json=body)
        return *problem(answer), answer.json["detail"]

    assert refused(kind="repair") == (
        422, "invalid", "kind: is not planned in bulk; these are: meter_change, safety_inspection",
    )  # fmt: skip
    assert refused(from_day=(utc_now() - timedelta(days=3)).date().isoformat())[1:] == ("invalid", "from_day: is past")
    assert refused(until_day=(first - timedelta(days=1)).isoformat())[:2] == (422, "invalid")
    assert refused(until_day=(first + timedelta(days=366)).isoformat())[:2] == (422, "invalid")
    assert refused(transformer_areas=None)[:2] == (422, "invalid")
    assert refused(crews_per_day=0)[:2] == (422, "invalid")
    assert refused(from_day="2027-02-30")[:2] == (422, "invalid")
    assert refused(days_off=["sunday"])[:2] == (422, "invalid")
    assert refused(days_off=["mon"])[1:] == ("invalid", "days_off: leave no day to work on")
    crews = {"territory_id": ids["B"], "crews_per_day": 1}
    assert refused(by_territory=[crews, crews])[:2] == (422, "invalid")
    assert refused(transformer_areas=["T9", "T77"])[1:] == ("conflict", "there is no such transformer area: T77")
    assert refused(usage_point_ids=["nobody"])[1:] == ("conflict", "there is no such usage point: nobody")
    assert refused(territory_ids=["nowhere"])[1:] == ("conflict", "there is no such territory: nowhere")
    assert refused(mine, transformer_areas=["T1"])[:2] == (409, "conflict"), "the neighbours' areas are not there"
    assert refused(mine, by_territory=[crews | {"territory_id": ids["A"]}])[:2] == (409, "conflict")
    assert refused(territory_ids=[ids["C"]], transformer_areas=None)[2] == "no usage point is named by this"
    assert refused(make_staff(app, "auditor"))[:2] == (403, "forbidden")
    assert client.get("/v1/campaigns").json["items"] == []
    longest = {"until_day": (first + timedelta(days=365)).isoformat()}
    keyed = [mine.post("/v1/campaigns", json=wanted | longest, headers={"Idempotency-Key": "c"}) for _ in range(2)]
    assert done(keyed[0], 202) == done(keyed[1], 202), "asked for once"


def test_campaigns_are_seen_by_those_who_see_all_of_their_territories(app: Flask, drain: Drain) -> None:
    ids = make_territories(app)
    settle(app)
    office = make_staff(app)
    crews = [{"territory_id": ids["B"], "crews_per_day": 2, "night_crews_per_day": 0}]
    both = ask(office, drain, transformer_areas=["T1", "T9"], by_territory=crews, crews_per_day=0)
    assert both["territory_ids"] == sorted([ids["A"], ids["B"]])
    assert both["placed"] == {"with_area": 1} and both["left"] == {"no_capacity": 4, "no_meter": 1}
    only = ask(office, drain, transformer_areas=["T9"])
    mine = make_staff(app, "dispatcher", [ids["B"]])
    assert done(mine.get(f"/v1/campaigns/{only['id']}"))["state"] == "draft"
    for path in ("", "/items", "/calendar"):
        assert problem(mine.get(f"/v1/campaigns/{both['id']}{path}")) == (404, "not-found")
    assert problem(mine.post(f"/v1/campaigns/{both['id']}/release")) == (404, "not-found")
    assert mine.get("/v1/campaigns").json["items"] == [] and len(office.get("/v1/campaigns").json["items"]) == 2
    import_customers(app, "number,name,usage_point_number,transformer_area\nX1,Somewhere,U90,T9\n")
    beyond = ask(office, drain, transformer_areas=["T9"])
    assert problem(mine.get(f"/v1/campaigns/{beyond['id']}")) == (404, "not-found"), "part of it lies in no territory"
    own = ask(mine, drain, transformer_areas=["T9"])
    assert own["items"] == 1
    assert [row["id"] for row in mine.get("/v1/campaigns").json["items"]] == [own["id"]]


def test_a_campaign_that_fails_is_tried_again_then_says_so(app: Flask, drain: Drain) -> None:
    make_territories(app)
    settle(app)
    client = make_staff(app)
    kinds.register(dataclasses.replace(kinds.get("repair"), name="pole_check", bulk=True))
    try:
        body = {"name": "Poles", "kind": "pole_check", "transformer_areas": ["T9"], "crews_per_day": 1}
        days = {"from_day": monday().isoformat(), "until_day": monday().isoformat()}
        campaign = done(client.post("/v1/campaigns", json=body | days), 202)
    finally:
        kinds.unregister("pole_check")  # the workers do not know it
    for attempt in (1, 2, 3):
        with app.app_context(), pytest.raises(kinds.UnknownKind):
            campaign_steps.run(campaign["id"], utc_now())
        found = done(client.get(f"/v1/campaigns/{campaign['id']}"))
        assert (found["attempts"], found["failure"]) == (attempt, "UnknownKind")
        assert found["state"] == ("planning" if attempt < 3 else "failed")
        later = utc_now() + campaigns.RING_AFTER + timedelta(seconds=1)
        with app.app_context(), reading():
            assert campaigns.due(utc_now()) == []
            assert campaigns.due(later) == ([campaign["id"]] if attempt < 3 else [])
    assert (
        done(client.post(f"/v1/campaigns/{campaign['id']}/cancel", json={"reason": "no"}), 202)["state"] == "cancelled"
    )


def test_planned_outages(app: Flask) -> None:
    ids = make_territories(app)
    settle(app)
    import_customers(app, "number,name,lon,lat,usage_point_number,transformer_area\nB2,In B,111.65,35.45,U20,T2\n")
    client, mine = make_staff(app), make_staff(app, "dispatcher", [ids["B"]])
    day = monday()
    one = outage(client, "T1", day)
    assert (one["state"], one["usage_points"], one["near"], one["jobs"]) == ("planned", 5, [], 0)
    assert parse_time(one["announce_by"]) == parse_time(one["starts_at"]) - timedelta(days=7)
    path = f"/v1/planned-outages/{one['id']}"

    def refused(
        who: Any = client, area: str = "T1", begin: str = at(day, 8), end: str = at(day, 12)
    ) -> tuple[int, str]:
        body = {"transformer_area": area, "starts_at": begin, "ends_at": end}
        return problem(who.post("/v1/planned-outages", json=body))

    assert refused(begin=at(day, 11), end=at(day, 13)) == (409, "already-exists")
    assert refused(begin=at(day, 13), end=at(day, 13)) == (422, "invalid")
    assert refused(begin=_later(at(day, 0), -24 * 60), end=_later(at(day, 0), -24 * 59)) == (422, "invalid")
    assert refused(area="T77") == (409, "conflict")
    assert refused(mine) == (409, "conflict"), "the neighbours' area is not there"
    assert refused(mine, area="T2") == (403, "forbidden"), "half of it is another's"
    assert refused(begin=at(day, 12), end=_later(at(day, 12), 168.01)) == (422, "invalid")
    week = outage(client, "T1", day, 12, 13)
    longest = client.patch(
        f"/v1/planned-outages/{week['id']}", json={"ends_at": _later(at(day, 12), 168)}, headers={"If-Match": '"1"'}
    )
    assert done(longest)["near"] == [one["id"]], "its customers are cut twice within the days of the rule"
    assert problem(mine.get(path)) == (404, "not-found") and mine.get("/v1/planned-outages").json["items"] == []
    assert problem(client.patch(path, json={"reason": "x"})) == (428, "precondition-required")
    assert problem(client.patch(path, json={"reason": "x"}, headers={"If-Match": '"7"'})) == (
        412,
        "precondition-failed",
    )
    onto = client.patch(path, json={"ends_at": at(day, 13)}, headers={"If-Match": '"1"'})
    assert problem(onto) == (409, "already-exists")
    in_two = outage(client, "T2", day)
    assert done(mine.get(f"/v1/planned-outages/{in_two['id']}"))["usage_points"] == 5
    listed = done(client.get(f"/v1/planned-outages?from={at(day, 11)}&to={at(day, 12)}&state=planned"))["items"]
    assert {row["id"] for row in listed} == {one["id"], in_two["id"]}
    assert done(client.post(f"{path}/cancel", json={"reason": "put off"}))["state"] == "cancelled"
    assert problem(client.post(f"{path}/cancel", json={"reason": "put off"})) == (409, "state-not-allowed")
    assert outage(client, "T1", day)["near"] == [week["id"]], "a cancelled one is in nobody's way"


def test_planned_outages_from_a_file(app: Flask) -> None:
    make_territories(app)
    settle(app)
    day = monday().isoformat()
    rows = [
        f"T1,{day}T08:00,{day}T12:00,new switchgear",
        f"T2,{day}T08:00,{day}T12:00,",
        f"T1,{day}T11:00,{day}T13:00,",
        f"T77,{day}T08:00,{day}T12:00,",
        f"T1,{day}T14:00,{day}T13:00,",
        f"T1,{day}T14:00,,",
        ",,,",
    ]
    text = "transformer_area,starts_at,ends_at,reason\n" + "\n".join(rows) + "\n"

    def load() -> tuple[int, int, list[tuple[int, str]]]:
        layout = Layout(timezone=SHANGHAI)
        with app.app_context():
            sheet = Sheet(text.encode(), layout, outage_import.COLUMNS)
            found = run(sheet, OutageImport(layout), SYSTEM.source(utc_now()), batch=outage_import.BATCH)
        return found.created, found.unchanged, [(refusal.line, refusal.column) for refusal in found.refused]

    faults = [(4, "transformer_area"), (5, "transformer_area"), (6, "ends_at"), (7, "ends_at"), (8, "starts_at")]
    assert load() == (2, 0, faults)
    assert load() == (0, 2, faults), "again: nothing changes"
    listed = make_staff(app).get("/v1/planned-outages").json["items"]
    assert [(row["transformer_area"], row["starts_at"]) for row in listed] == [
        ("T1", at(monday(), 8)),
        ("T2", at(monday(), 8)),
    ]
