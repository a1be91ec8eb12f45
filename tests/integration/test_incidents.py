"""Many calls, one fault: what merges, what is only proposed, what stays apart, and how it comes apart again."""

from __future__ import annotations

import itertools
import shutil
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask

from fieldsvc.app import create_app
from fieldsvc.base.clock import format_time, utc_now
from fieldsvc.base.db import db
from fieldsvc.config import Settings
from tests import factories, services
from tests.field import Field, Phone, done, problem, repaired
from tests.integration.test_imports import import_customers
from workers import runtime, tasks

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def served_app(
    database: str,
    templates: Callable[[str], str],
    redis_server: services.RedisServer,
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Flask]:
    """One application and database for the tests of this module; each has a territory of its own."""
    folder = tmp_path_factory.mktemp("incidents")
    if database == "sqlite":
        shutil.copy(templates(database), folder / "test.db")
        url = f"sqlite:///{folder}/test.db"
    else:
        server: services.Postgres = request.getfixturevalue("postgres")
        name = server.create(templates(database))
        url = server.database_url(name)
    settings = Settings(
        database_url=url, redis_url=redis_server.url, secret_key="k", data_dir=folder, log_level="ERROR"
    )
    app = create_app(settings)
    yield app
    with app.app_context():
        db.session.remove()
        for engine in db.engines.values():
            engine.dispose()
    if database != "sqlite":
        server.drop(name)


@pytest.fixture(scope="module")
def field(served_app: Flask) -> Field:
    return Field(served_app)


class Storm:
    """Calls that come in minute by minute from one and a half hours ago on, in a territory of its own."""

    def __init__(self, field: Field) -> None:
        self.field = field
        self.began = utc_now().replace(microsecond=0) - timedelta(minutes=90)
        self.number = next(_numbers)
        self.lon, self.lat = 100 + self.number / 10 + 0.05, 35.45
        square = factories.square(f"S{self.number}", 100 + self.number / 10, 35.4)
        (self.territory_id,) = factories.make_territories(field.app, square).values()
        self.customers: dict[str, Iterator[str]] = {}

    def call(self, minute: float = 0, status: int = 201, **members: Any) -> dict[str, Any]:
        body = {"reporting_kind": "call", "trouble_code": "no_power", **members}
        body["received_at"] = format_time(self.began + timedelta(minutes=minute))
        return done(self.field.office.post("/v1/tickets", json=body), status)

    def on_area(self, minute: float, area: str = "TA-12", feeder: str = "F-3", **members: Any) -> dict[str, Any]:
        """A call of another customer on a transformer area."""
        if area not in self.customers:
            self.customers[area] = iter(self.live_on(area, 8, feeder))
        return self.call(minute, customer_number=next(self.customers[area]), **members)

    def live_on(self, area: str, count: int, feeder: str = "F-3") -> list[str]:
        """The numbers of new customers on a transformer area."""
        numbers = [f"{self.number}-{area}-{number}" for number in range(count)]
        lines = [f"{number},Customer,{self.lon},{self.lat},U-{number},{area},{feeder}" for number in numbers]
        head = "number,name,lon,lat,usage_point_number,transformer_area,feeder"
        import_customers(self.field.app, "\n".join([head, *lines, ""]))
        return numbers

    def beside(self, minute: float, metres: float, **members: Any) -> dict[str, Any]:
        """A call from ``metres`` north of a place, by somebody without an account."""
        return self.call(minute, lon=self.lon, lat=self.lat + metres / 110_950, **members)

    def away(self, minute: float, **members: Any) -> dict[str, Any]:
        """A call from kilometres away."""
        return self.call(minute, lon=self.lon - 0.03, lat=self.lat + 0.03, **members)

    def crew(self) -> str:
        return self.field.crew(territory_ids=[self.territory_id], lon=self.lon, lat=self.lat)

    def incident(self, ticket: dict[str, Any]) -> dict[str, Any]:
        now = self.field.get(f"/v1/tickets/{ticket['id']}")
        return self.field.get(f"/v1/incidents/{now['incident_id']}")

    def merges(self, state: str) -> list[dict[str, Any]]:
        found = self.field.get(f"/v1/incident-merges?limit=200&state={state}")["items"]
        return [one for one in reversed(found) if one["territory_id"] == self.territory_id]

    def incidents(self, state: str = "open") -> list[dict[str, Any]]:
        return list(self.field.get(f"/v1/incidents?limit=200&state={state}&territory={self.territory_id}")["items"])

    def jobs(self) -> list[dict[str, Any]]:
        """Those that are not cancelled."""
        found = self.field.get(f"/v1/jobs?limit=200&territory={self.territory_id}")["items"]
        return [job for job in found if job["status"] != "cancelled"]

    def decide(self, merge: dict[str, Any], word: str) -> dict[str, Any]:
        return done(self.field.office.post(f"/v1/incident-merges/{merge['id']}/{word}"))

    def by_hand(self, into: dict[str, Any], *others: dict[str, Any]) -> Any:
        ids = [other["incident_id"] for other in others]
        return self.field.office.post(f"/v1/incidents/{into['incident_id']}/merge", json={"incident_ids": ids})

    def sweep(self) -> None:
        with runtime.serving(self.field.app):
            tasks.sweep()

    def picture(self) -> dict[str, Any]:
        """Everything a merge touches, to be compared before and after; without revisions, which only grow."""
        jobs = {}
        for job in self.field.get(f"/v1/jobs?limit=200&territory={self.territory_id}")["items"]:
            page = self.field.get(f"/v1/jobs/{job['id']}")
            names = "status priority hazards reported_at due_at incident_id crew_id customers_affected clocks".split()
            jobs[job["number"]] = {name: page.get(name) for name in names}
        found = self.field.get("/v1/tickets?limit=200")["items"]
        tickets = {one["number"]: one for one in found if one["territory_id"] == self.territory_id}
        incidents = {one["id"]: {**one, "joinable": None} for one in self.incidents("open,merged,closed")}
        return {"jobs": jobs, "tickets": tickets, "incidents": incidents}


@pytest.fixture
def storm(field: Field) -> Storm:
    return Storm(field)


def test_two_calls_on_a_transformer_area_are_proposed_the_third_merges_them(storm: Storm) -> None:
    first, second = storm.on_area(0), storm.on_area(12)
    assert first["job_id"] and second["job_id"] and first["incident_id"] != second["incident_id"]
    proposed = storm.merges("proposed")
    assert [one["words"] for one in proposed] == ["2 calls on transformer area TA-12 within 12 minutes"]
    assert proposed[0]["reason"] == "same_transformer_area" and "seed paper" in proposed[0]["rule"]
    third = storm.on_area(18)
    assert third["job_id"] == first["job_id"] and third["incident_id"] == first["incident_id"]
    merged = storm.merges("merged")
    assert [(one["words"], one["automatic"]) for one in merged] == [
        ("3 calls on transformer area TA-12 within 18 minutes", True)
    ]
    assert storm.merges("proposed") == [], "there is nothing left to decide"
    incident = storm.incident(second)
    assert (incident["calls"], incident["customers"], incident["areas"]) == (3, 3, ["TA-12"])
    assert [one["id"] for one in incident["tickets"]] == [first["id"], second["id"], third["id"]]
    assert storm.field.status(second["job_id"]) == "cancelled"
    note = storm.field.history(job=second["job_id"], action="job.cancelled")[-1]["note"]
    number = storm.field.get(f"/v1/jobs/{first['job_id']}")["number"]
    assert note.startswith(f"merged into {number}: ")
    fourth = storm.on_area(20)
    assert fourth["job_id"] == first["job_id"], "no further job goes out"
    assert [job["customers_affected"] for job in storm.incident(fourth)["jobs"] if job["status"] != "cancelled"] == [4]


def test_what_is_too_late_another_kind_or_a_customers_own_trouble_stays_apart(storm: Storm) -> None:
    calls = [
        storm.on_area(0),
        storm.on_area(61),
        storm.on_area(62, trouble_code="metering"),
        storm.on_area(63, job_kind="meter_change"),
        storm.on_area(64, create_job=False),
        storm.on_area(65, area="TA-13", feeder="F-4"),
    ]
    assert len({call["incident_id"] for call in calls}) == 6
    assert storm.merges("proposed") == storm.merges("merged") == []
    at_the_limit = storm.on_area(60)
    assert [one["from_ids"] for one in storm.merges("merged")] != [], "within 60 minutes of both"
    assert storm.field.get(f"/v1/tickets/{calls[0]['id']}")["incident_id"] == at_the_limit["incident_id"]


def test_callers_without_an_account_are_near_in_space_and_time(storm: Storm) -> None:
    calls = [storm.beside(minute, metres) for minute, metres in enumerate((0, 249, 100))]
    (proposed,) = storm.merges("proposed")
    assert proposed["words"] == "3 calls at most 249 m from the first place within 2 minutes"
    far = storm.beside(3, -252)
    assert far["incident_id"] not in (proposed["into_id"], *proposed["from_ids"])
    more = [storm.beside(minute, 50, caller_phone="555 0100") for minute in (4, 5, 6)]
    assert more[-1]["incident_id"] == calls[0]["incident_id"]
    incident = storm.incident(calls[1])
    assert (incident["calls"], incident["customers"]) == (6, 4), "who calls three times is one"
    assert storm.beside(27, 0)["incident_id"] != incident["id"], "more than 20 minutes after the last call"


def test_a_feeder_needs_calls_from_several_transformer_areas(storm: Storm) -> None:
    for minute in range(4):
        storm.on_area(minute, area="TA-1")
    apart = [storm.on_area(10 + number, area=f"TA-{number}") for number in range(2, 6)]
    assert {one["reason"] for one in storm.merges("merged")} == {"same_transformer_area"}
    (proposed,) = storm.merges("proposed")
    assert proposed["words"] == "8 calls from 5 transformer areas of feeder F-3 within 15 minutes"
    storm.on_area(16, area="TA-6")
    incident = storm.incident(apart[0])
    assert (incident["calls"], incident["areas"]) == (9, [f"TA-{number}" for number in range(1, 7)])
    assert storm.on_area(17, area="TA-4")["incident_id"] == incident["id"]
    assert storm.on_area(18, area="TA-7")["incident_id"] == incident["id"]


def test_the_leading_job_gets_the_hazards_the_earliest_call_and_the_customers(storm: Storm) -> None:
    storm.on_area(10)
    lead = storm.on_area(12)
    crew = storm.crew()
    storm.field.assign(lead["job_id"], crew)
    earlier = storm.on_area(0, hazards=["wire_down"])
    assert earlier["job_id"] == lead["job_id"], "a job that a crew has leads before an older one"
    job = storm.field.get(f"/v1/jobs/{lead['job_id']}")
    assert (job["priority"], job["hazards"], job["crew_id"]) == (1, ["wire_down"], crew)
    assert job["reported_at"] == earlier["received_at"]
    assert {clock["started_at"] for clock in job["clocks"]} == {earlier["received_at"]}
    assert job["due_at"] == min(clock["due_at"] for clock in job["clocks"])
    path = f"/v1/jobs/{lead['job_id']}"
    tag = {"If-Match": storm.field.office.get(path).headers["ETag"]}
    done(storm.field.office.patch(path, json={"hazards": []}, headers=tag))
    storm.on_area(13)
    assert storm.field.get(path)["hazards"] == [], "what a dispatcher has taken away, the next call does not bring back"
    storm.on_area(14, hazards=["wire_down"])
    assert storm.field.get(path)["hazards"] == ["wire_down"], "unless somebody says so again"


def test_undoing_brings_everything_back_and_forgets_nothing(storm: Storm) -> None:
    first, second = storm.on_area(10, hazards=["smoke"]), storm.on_area(0)
    crew = storm.field.crew()
    storm.field.assign(first["job_id"], crew)
    before = storm.picture()
    (proposed,) = storm.merges("proposed")
    merged = storm.decide(proposed, "accept")
    assert (merged["state"], merged["automatic"]) == ("merged", False)
    assert storm.field.status(second["job_id"]) == "cancelled"
    told = len(storm.field.history(job=second["job_id"]))
    undone = storm.decide(merged, "undo")
    assert undone["state"] == "undone" and undone["undone_by_name"]
    assert storm.picture() == before
    actions = [entry["action"] for entry in storm.field.history(job=second["job_id"])]
    assert len(actions) > told and {"job.created", "job.cancelled", "job.revived"} <= set(actions)
    for action in ("incident.merge_proposed", "incident.merged", "incident.merge_undone"):
        assert undone["into_id"] in [entry["entity_id"] for entry in storm.field.history(action=action)]
    again = storm.field.office.post(f"/v1/incident-merges/{merged['id']}/undo")
    assert problem(again) == (409, "state-not-allowed")
    third = storm.on_area(12)
    assert third["incident_id"] != storm.field.get(f"/v1/tickets/{second['id']}")["incident_id"]
    storm.sweep()
    kept = storm.picture()["tickets"]
    assert kept[second["number"]]["incident_id"] == second["incident_id"], "no rule puts together what was parted"


def test_a_call_that_joined_gets_a_job_of_its_own_when_it_is_parted(storm: Storm) -> None:
    calls = [storm.on_area(minute, hazards=hazards) for minute, hazards in enumerate(([], [], [], ["gas"]))]
    lead = storm.field.get(f"/v1/jobs/{calls[0]['job_id']}")
    assert (lead["hazards"], lead["priority"]) == (["gas"], 1)
    storm.decide(storm.merges("merged")[-1], "undo")
    parted = storm.field.get(f"/v1/tickets/{calls[3]['id']}")
    job = storm.field.get(f"/v1/jobs/{parted['job_id']}")
    assert (job["incident_id"], job["reported_at"]) == (parted["incident_id"], calls[3]["received_at"])
    assert (job["hazards"], job["status"]) == (["gas"], "waiting_to_be_scheduled")
    lead = storm.field.get(f"/v1/jobs/{calls[0]['job_id']}")
    assert (lead["hazards"], lead["priority"]) == ([], 5)
    assert storm.incident(calls[0])["calls"] == 3


def test_whoever_is_on_the_way_goes_on_and_leads(storm: Storm) -> None:
    calls = [storm.on_area(minute) for minute in (0, 1)]
    phones: list[Phone] = []
    for call in calls:
        crew = storm.crew()
        storm.field.assign(call["job_id"], crew)
        phones.append(storm.field.phone(crew))
        phones[-1].pull()
    phones[1].do("job.arrive", calls[1]["job_id"])
    phones[0].do("job.enroute", calls[0]["job_id"])
    third = storm.on_area(2)
    assert third["job_id"] == calls[1]["job_id"], "the crew on site leads"
    assert [storm.field.status(call["job_id"]) for call in calls] == ["enroute", "on_site"]
    assert {job["id"] for job in storm.incident(third)["jobs"]} == {calls[0]["job_id"], calls[1]["job_id"]}


def test_devices_are_told_and_told_again(storm: Storm) -> None:
    lead, other = storm.on_area(0), storm.on_area(1)
    phone = storm.field.phone(storm.crew())
    storm.field.assign(lead["job_id"], storm.crew())
    storm.field.assign(other["job_id"], phone.crew_id)
    phone.pull()
    assert other["job_id"] in phone.holds("job")
    storm.on_area(2)
    phone.pull()
    assert other["job_id"] not in phone.holds("job")
    storm.decide(storm.merges("merged")[0], "undo")
    assert storm.field.status(other["job_id"]) == "waiting_to_be_scheduled"
    storm.field.assign(other["job_id"], phone.crew_id)
    phone.pull()
    assert other["job_id"] in phone.holds("job")


def test_whoever_takes_a_call_in_may_say_which_fault_it_is_about(storm: Storm) -> None:
    first = storm.on_area(0)
    added = storm.away(1, incident_id=first["incident_id"])  # no rule would have thought of it
    assert (added["incident_id"], added["job_id"]) == (first["incident_id"], first["job_id"])
    assert storm.incident(first)["merges"][0]["reason"] == "by_hand"
    apart = storm.on_area(2, apart=True)  # the rules would have merged it
    assert apart["incident_id"] != first["incident_id"]
    assert len(storm.jobs()) == 2
    assert storm.away(3, status=409, incident_id="no-such")["detail"] == "incident_id: there is no such incident"


def test_all_who_called_are_told_when_it_is_over_and_a_new_call_is_a_new_fault(storm: Storm) -> None:
    calls = [storm.on_area(minute) for minute in (0, 1, 2)]
    phone = storm.field.phone(storm.crew())
    storm.field.assign(calls[0]["job_id"], phone.crew_id)
    phone.pull()
    storm.sweep()
    assert storm.incident(calls[0])["told_at"] is None
    assert phone.do("job.complete", calls[0]["job_id"], repaired()) == "applied"
    assert storm.on_area(3)["incident_id"] != calls[0]["incident_id"]
    storm.sweep()
    assert storm.incident(calls[0])["told_at"] is not None
    for call in calls:
        contacts = storm.field.get(f"/v1/customers/{call['customer_id']}")["contacts"]["items"]
        about = [one["subject"] for one in contacts if one["channel"] in ("message", "visit")]
        assert len(about) == 1, "each of them once, the first one by the crew"
    storm.sweep()
    again = storm.field.get(f"/v1/customers/{calls[1]['customer_id']}")["contacts"]["items"]
    assert sum(one["channel"] == "message" for one in again) == 1


def test_what_a_dispatcher_puts_together_needs_no_rule(storm: Storm) -> None:
    one, other = storm.on_area(0), storm.away(80)
    merged = done(storm.by_hand(one, other), 201)
    assert (merged["reason"], merged["automatic"], merged["rule"]) == ("by_hand", False, None)
    assert storm.field.get(f"/v1/tickets/{other['id']}")["job_id"] == one["job_id"]
    assert problem(storm.by_hand(one, other)) == (409, "state-not-allowed")
    assert problem(storm.by_hand(one, one)) == (409, "conflict")
    exchange = storm.on_area(1, job_kind="meter_change")
    assert problem(storm.by_hand(one, exchange)) == (409, "conflict")
    later = storm.call(85, lon=storm.lon + 0.03, lat=storm.lat)
    later_merge = done(storm.by_hand(later, one), 201)
    refused = storm.field.office.post(f"/v1/incident-merges/{merged['id']}/undo")
    assert problem(refused) == (409, "state-not-allowed"), "the later one first"
    storm.decide(later_merge, "undo")
    storm.decide(merged, "undo")
    assert storm.field.get(f"/v1/tickets/{other['id']}")["job_id"] == other["job_id"]


def test_merges_undone_in_another_order_leave_nothing_behind(storm: Storm) -> None:
    one, second_call, third = storm.on_area(0), storm.away(80), storm.call(85, lon=storm.lon + 0.03, lat=storm.lat)
    before = {job["id"]: (job["customers_affected"], job["priority"]) for job in storm.jobs()}
    first, second = (done(storm.by_hand(one, other), 201) for other in (second_call, third))
    for merge in (first, second):
        storm.decide(merge, "undo")
    assert {job["id"]: (job["customers_affected"], job["priority"]) for job in storm.jobs()} == before


def test_declined_is_declined(storm: Storm) -> None:
    storm.on_area(0), storm.on_area(1)
    (proposed,) = storm.merges("proposed")
    assert storm.decide(proposed, "decline")["state"] == "declined"
    assert problem(storm.field.office.post(f"/v1/incident-merges/{proposed['id']}/accept")) == (
        409,
        "state-not-allowed",
    )
    storm.sweep()
    assert storm.merges("proposed") == [] and storm.merges("merged") == []


def test_other_territories_are_not_there(field: Field, storm: Storm) -> None:
    app, elsewhere = field.app, Storm(field)
    calls = [storm.on_area(minute) for minute in range(4)]
    theirs = factories.make_staff(app, "dispatcher", [elsewhere.territory_id])
    ours = factories.make_staff(app, "dispatcher", [storm.territory_id])
    auditor = factories.make_staff(app, "auditor", [storm.territory_id])
    merge = storm.merges("merged")[0]
    addresses = (f"/v1/incidents/{calls[0]['incident_id']}", f"/v1/incident-merges/{merge['id']}")
    for address in addresses:
        assert problem(theirs.get(address)) == (404, "not-found")
        assert ours.get(address).status_code == auditor.get(address).status_code == 200
    assert done(theirs.get("/v1/incidents"))["items"] == done(theirs.get("/v1/incident-merges"))["items"] == []
    assert problem(theirs.post(f"{addresses[1]}/undo")) == (404, "not-found")
    assert problem(auditor.post(f"{addresses[1]}/undo")) == (403, "forbidden")
    far = elsewhere.beside(5, 0)
    merged = ours.post(f"{addresses[0]}/merge", json={"incident_ids": [far["incident_id"]]})
    assert problem(merged) == (404, "not-found")
    assert done(ours.get(f"/v1/incidents?state=open&territory={storm.territory_id}"))["items"][0]["calls"] == 4
    assert done(ours.get("/v1/incidents?state=merged"))["items"] != []


def test_calls_at_once_about_one_fault_find_each_other(storm: Storm) -> None:
    app, office = storm.field.app, storm.field.office
    numbers = storm.live_on("TA-12", 6)
    answers: list[int] = []

    def call(number: str) -> None:
        body = {"reporting_kind": "call", "customer_number": number}
        client = factories.with_token(app, office.environ_base["HTTP_AUTHORIZATION"].removeprefix("Bearer "))
        answers.append(client.post("/v1/tickets", json=body).status_code)

    threads = [threading.Thread(target=call, args=[number]) for number in numbers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert answers == [201] * 6
    (incident,) = storm.incidents()
    assert (incident["calls"], incident["customers"]) == (6, 6)
    assert [job["id"] for job in storm.jobs()] == [incident["lead_job_id"]]


def test_what_came_in_apart_is_found_by_the_sweep(storm: Storm) -> None:
    nameless = storm.beside(0, 0)
    calls = [storm.on_area(minute) for minute in (1, 2, 3, 4, 5)]
    assert storm.incident(nameless)["id"] != storm.incident(calls[0])["id"], "too few near each other as they called"
    storm.sweep()
    assert storm.merges("merged")[-1]["words"] == "6 calls at most 0 m from the first place within 5 minutes"
    assert storm.incident(nameless)["id"] == storm.incident(calls[0])["id"]
    assert [job["id"] for job in storm.jobs()] == [nameless["job_id"]], "the oldest leads"
    merges = storm.merges("proposed,merged,overtaken")
    storm.sweep()
    assert storm.merges("proposed,merged,overtaken") == merges, "nothing happens twice"


def test_a_leading_job_knows_the_exact_number_when_the_calls_have_ceased(storm: Storm) -> None:
    last = storm.on_area(0)
    for number in range(11):
        last = storm.beside(number / 10, 0, caller_phone=f"555 {number:04}")
    incident = storm.incident(last)
    assert incident["customers"] == 12
    told = [job["customers_affected"] for job in incident["jobs"] if job["id"] == incident["lead_job_id"]]
    assert told[0] <= 12 and len(storm.field.history(job=incident["lead_job_id"], action="job.leads")) < 12
    storm.sweep()
    assert storm.field.get(f"/v1/incidents/{incident['id']}")["jobs"][0]["customers_affected"] == 12


def test_a_surge_is_taken_in_merged_and_dispatched_while_a_phone_syncs(app: Flask, drain: Any) -> None:
    field = Field(app, drain)
    storm = Storm(field)
    phone = field.phone(storm.crew())
    remarks_on = field.job("meter_change", phone.crew_id, lon=storm.lon, lat=storm.lat)
    phone.pull()
    live = {area: storm.live_on(area, count) for area, count in {"TA-1": 40, "TA-2": 20, "TA-3": 90}.items()}
    numbers = [number for row in itertools.zip_longest(*live.values()) for number in row if number is not None]
    alone = storm.away(89, hazards=["wire_down"])
    for place, number in enumerate(numbers):
        storm.call(60 + place / 10, customer_number=number)
        if place % 50 == 0:
            assert phone.do("note.add", remarks_on, {"text": f"remark {place}"}) == "applied"
    storm.sweep()
    run = done(field.office.post("/v1/dispatch-runs", json={}), 202)
    drain()
    assert field.get(f"/v1/dispatch-runs/{run['id']}")["considered"] == 4
    assert sorted(one["customers"] for one in storm.incidents()) == [1, 20, 40, 90]
    phone.pull()
    repairs = [one for one in phone.docs("job") if one["kind"] == "repair"]
    sent = [one["id"] for one in sorted(repairs, key=lambda one: one["planned_start"])]
    by_size = sorted((one for one in storm.incidents() if one["calls"] > 1), key=lambda one: -one["customers"])
    ranked = [alone["job_id"], *(one["lead_job_id"] for one in by_size)]
    assert sent == ranked, "the hazard first, then by the number of customers"
