"""A crew's calendar: parsed back by a library, asked for again, with Basic, and what it does not say."""

from __future__ import annotations

import base64
from datetime import timedelta
from typing import Any

import icalendar
import pytest
from flask import Flask
from flask.testing import FlaskClient

from fieldsvc.base.clock import format_time, utc_now
from tests import factories
from tests.field import Field, done, problem


@pytest.fixture
def office(app: Flask) -> Field:
    return Field(app)


def planned(office: Field, crew: str, ahead: timedelta = timedelta(hours=1), **members: Any) -> str:
    job = office.job(**members)
    start = (utc_now() + ahead).replace(microsecond=0)
    done(office.office.post(f"/v1/jobs/{job}/assign", json={"crew_id": crew, "planned_start": format_time(start)}))
    return job


def feed(client: FlaskClient, crew: str) -> list[Any]:
    answer = client.get(f"/v1/crews/{crew}/calendar.ics")
    assert (answer.status_code, answer.mimetype) == (200, "text/calendar")
    assert all(len(line) <= 75 for line in answer.data.split(b"\r\n")), "folded, in bytes"
    calendar = icalendar.Calendar.from_ical(answer.data)
    assert not calendar.errors
    assert all(not event.errors for event in calendar.walk("VEVENT"))
    return list(calendar.walk("VEVENT"))


def jobs_of(events: list[Any]) -> list[Any]:
    return [event for event in events if "shift" not in str(event.get("categories", icalendar.vText("")).to_ical())]


AWKWARD = '换表，一；二, three; four\\five "six"\rBEGIN:VEVENT\nseven ' + "长" * 60


def test_jobs_and_shifts_come_back_as_they_are(office: Field) -> None:
    crew = office.crew()
    place = office.place(name="Li Wei", phone="0359-7777")
    job = planned(
        office, crew, place=place, title=AWKWARD, priority=2, service_minutes=45, address="Mill lane 3, 2/F; 侯马"
    )
    events = feed(office.office, crew)
    (event,) = jobs_of(events)
    row = office.get(f"/v1/jobs/{job}")
    assert str(event["summary"]) == f"{row['number']} {AWKWARD}".replace("\r", " ")
    assert str(event["location"]) == "Mill lane 3, 2/F; 侯马"
    assert format_time(event["dtstart"].dt) == row["planned_start"]
    assert event["dtend"].dt - event["dtstart"].dt == timedelta(minutes=45)
    assert (event["sequence"], str(event["status"]), event["priority"]) == (row["rev"], "CONFIRMED", 2)
    assert (event["geo"].latitude, event["geo"].longitude) == (35.45, 111.55)
    assert event["dtstamp"].dt == event["last-modified"].dt
    said = event.to_ical().decode().replace("\r\n ", "")
    assert "Li Wei" not in said and "0359" not in said
    (shift,) = [event for event in events if "on duty" in event["summary"]]
    assert shift["dtend"].dt - shift["dtstart"].dt == timedelta(hours=10)
    whole = icalendar.Calendar.from_ical(office.office.get(f"/v1/crews/{crew}/calendar.ics").data)
    assert whole["refresh-interval"].dt == timedelta(minutes=15)


def test_a_feed_that_has_not_changed_is_not_sent_again(office: Field) -> None:
    crew = office.crew()
    job = planned(office, crew)
    path = f"/v1/crews/{crew}/calendar.ics"
    first = office.office.get(path)
    assert first.headers["Cache-Control"] == "private, no-cache"
    assert first.last_modified is not None
    known = {"If-None-Match": first.headers["ETag"]}
    again = office.office.get(path, headers=known)
    assert (again.status_code, again.data, again.headers["ETag"]) == (304, b"", first.headers["ETag"])
    uid = str(jobs_of(feed(office.office, crew))[0]["uid"])
    row = office.get(f"/v1/jobs/{job}")
    office.office.patch(f"/v1/jobs/{job}", json={"title": "Another"}, headers={"If-Match": f'"{row["rev"]}"'})
    assert office.office.get(path, headers=known).status_code == 200
    (changed,) = jobs_of(feed(office.office, crew))
    assert (str(changed["uid"]), changed["sequence"]) == (uid, row["rev"] + 1)


def test_what_was_cancelled_or_taken_away_is_shown_as_cancelled(office: Field) -> None:
    crew, other = office.crew(), office.crew()
    cancelled, moved = planned(office, crew), planned(office, crew)
    before = {str(event["uid"]): event["dtstart"].dt for event in jobs_of(feed(office.office, crew))}
    office.cancel(cancelled)
    office.assign(moved, other)
    after = jobs_of(feed(office.office, crew))
    assert {str(event["uid"]): event["dtstart"].dt for event in after} == before
    assert {str(event["status"]) for event in after} == {"CANCELLED"}
    assert jobs_of(feed(office.office, other)) == [], "nothing is planned for it yet"
    start = format_time(utc_now() + timedelta(hours=2))
    done(office.office.post(f"/v1/jobs/{moved}/assign", json={"crew_id": crew, "planned_start": start}))
    assert sorted(str(event["status"]) for event in jobs_of(feed(office.office, crew))) == ["CANCELLED", "CONFIRMED"]


def test_the_feed_reaches_from_a_week_ago_to_two_months_ahead(office: Field) -> None:
    crew, hour = office.crew(), timedelta(hours=1)
    for ahead in (timedelta(days=-7) - hour, timedelta(days=60) + hour):
        planned(office, crew, ahead)
    assert jobs_of(feed(office.office, crew)) == []
    for ahead in (timedelta(days=-7) + hour, timedelta(days=60) - hour):
        planned(office, crew, ahead)
    assert len(jobs_of(feed(office.office, crew))) == 2


def basic(app: Flask, username: str, password: str) -> FlaskClient:
    client = app.test_client()
    pair = base64.b64encode(f"{username}:{password}".encode()).decode()
    client.environ_base["HTTP_AUTHORIZATION"] = f"Basic {pair}"
    return client


def test_a_calendar_app_sends_its_token_as_a_password(app: Flask, office: Field) -> None:
    ids = factories.make_territories(app)
    crew = factories.make_crew(app, territory_ids=[ids["A"], ids["B"]])
    planned(office, crew, lon=111.65, lat=35.45, title="Behind the border")
    path = f"/v1/crews/{crew}/calendar.ics"
    factories.make_staff(app, "auditor", [ids["A"]], username="li.wei")
    login = {"username": "li.wei", "password": factories.PASSWORD}
    token = done(app.test_client().post("/v1/tokens", json=login), 201)["token"]
    mine = basic(app, "li.wei", token)
    (busy,) = jobs_of(feed(mine, crew))
    assert "another territory" in busy["summary"]
    assert "location" not in busy and "geo" not in busy
    assert mine.get("/ogc").status_code == 200
    for client in (
        basic(app, "li.wei", factories.PASSWORD),
        basic(app, "someone", token),
        basic(app, "li.wei", "x" * 201),
        basic(app, "", ""),
        basic(app, "li\0", token),
        app.test_client(),
    ):
        refused = client.get(path)
        assert problem(refused) == (401, "unauthenticated")
        assert refused.headers["WWW-Authenticate"].startswith('Basic realm="fieldsvc"')
    for elsewhere in ("/v1/jobs", f"/v1/crews/{crew}", f"/v1/crews/{crew}/position"):
        refused = mine.get(elsewhere)
        assert problem(refused) == (401, "unauthenticated")
        assert "Basic" not in refused.headers["WWW-Authenticate"]
    stranger = factories.make_staff(app, "dispatcher", [ids["C"]])
    assert problem(stranger.get(path)) == (404, "not-found")
    assert stranger.get(path + "?token=x").status_code == 422, "no secret in an address"
