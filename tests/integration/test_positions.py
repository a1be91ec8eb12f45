"""Positions of crews: they come with a push, are thinned out, are kept for a time, and are shown to few."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import select

from fieldsvc.base.clock import format_time, parse_time, utc_now
from fieldsvc.base.db import db, reading
from fieldsvc.config import Settings
from fieldsvc.feed.models import SyncDoc
from fieldsvc.geo.positions import Fix, Sampling, sift
from fieldsvc.history.models import HistoryEntry
from fieldsvc.people.models import CrewPosition
from tests import factories
from tests.field import Field, Phone, done, problem
from tests.unit.geo.test_positions import read_gpx
from workers import runtime, tasks

HERE = (111.5500, 35.4500)


def told(at: datetime, lon: float = HERE[0], lat: float = HERE[1], **more: Any) -> dict[str, Any]:
    return {"at": format_time(at), "lon": lon, "lat": lat} | more


def tell(phone: Phone, *positions: Any, **around: Any) -> dict[str, Any]:
    answer: dict[str, Any] = done(phone.post([], positions=list(positions), **around))["positions"]
    return answer


def track(office: Field, crew: str) -> list[tuple[float, float]]:
    return [(row["lon"], row["lat"]) for row in office.get(f"/v1/crews/{crew}/track?limit=200")["items"]]


def refused(answer: dict[str, Any]) -> list[str]:
    return [fault["field"] for fault in answer["refused"]]


@pytest.fixture
def office(app: Flask) -> Field:
    return Field(app)


def test_a_push_brings_positions_with_or_without_operations(office: Field) -> None:
    phone, now = office.phone(), utc_now()
    job = office.job(crew=phone.crew_id)
    answer = done(phone.post([phone.op("job.accept", job)], positions=[told(now - timedelta(minutes=5), accuracy_m=8)]))
    assert answer["results"][0]["status"] == "accepted"
    assert answer["positions"] == {"taken": 1, "refused": []}
    assert tell(phone, told(now, 111.56)) == {"taken": 1, "refused": []}
    assert "positions" not in done(phone.post([])), "a push without any is answered as ever"
    assert "positions" not in done(phone.post([], positions=None))

    position = office.get(f"/v1/crews/{phone.crew_id}/position")
    assert (position["source"], position["lon"], position["lat"]) == ("reported", 111.56, 35.45)
    assert 0 <= position["age_s"] < 60
    assert position["position"]["device_id"] == phone.id
    assert track(office, phone.crew_id) == [HERE, (111.56, 35.45)]
    listed = office.get("/v1/positions")["items"]
    assert [(row["crew_id"], row["lon"]) for row in listed] == [(phone.crew_id, 111.56)]


def test_before_any_position_there_is_the_base(office: Field) -> None:
    crew, nowhere = office.crew(), office.crew(lon=None, lat=None)
    base = office.get(f"/v1/crews/{crew}/position")
    assert (base["source"], base["lon"], base["position"], base["age_s"]) == ("base", 111.55, None, None)
    assert office.get(f"/v1/crews/{nowhere}/position")["source"] == "none"
    assert office.get("/v1/positions")["items"] == []


def test_a_bad_position_is_refused_by_itself_with_its_place(office: Field, settings: Settings) -> None:
    phone, now = office.phone(), utc_now()
    old = timedelta(seconds=settings.position_ttl)
    bad: list[Any] = [
        {"lon": 1, "lat": 1},
        told(now, lon=180.001),
        told(now, lat=-90.001),
        told(now, 0, 0),
        told(now) | {"at": "2026-11-21T08:00:00"},
        told(now + timedelta(minutes=5)),
        told(now, accuracy_m=-1),
        "here",
        told(now) | {"at": "9999-12-31T23:59:59Z"},
        told(now, boot_id="\0", mono_ms=1),
    ]
    too_old, old_enough = (told(now - old + timedelta(minutes=minutes), 180, 90) for minutes in (-1, 1))
    answer = tell(phone, too_old, old_enough, *bad, told(now, -180, -90))
    assert answer["taken"] == 2
    assert set(refused(answer)) == {
        *(f"/positions/{place}/at" for place in (0, 2, 6, 7, 10)),
        *("/positions/3/lon", "/positions/4/lat", "/positions/5/lon", "/positions/8/accuracy_m"),
        *("/positions/9", "/positions/11/boot_id"),
    }
    edges = [told(now, accuracy_m=100_000), told(now, accuracy_m=100_000.1), told(now + timedelta(seconds=90))]
    assert refused(tell(phone, *edges)) == ["/positions/1/accuracy_m"], "a clock may be two minutes off"
    many = tell(phone, *["here"] * 30)
    assert (many["taken"], len(many["refused"])) == (0, 20)
    job = office.job(crew=phone.crew_id)
    for nonsense in ("here", {"at": 1}, 7):
        answer = done(phone.post([phone.op("note.add", job, {"text": "x"})], positions=nonsense))
        assert answer["results"][0]["status"] == "accepted"
        assert answer["positions"] == {"taken": 0, "refused": [{"field": "/positions", "reason": "must be a list"}]}
    body = f'{{"install_id":"{phone.install_id}","ops":[],"positions":["\\ud800",{{"at":"{format_time(now)}",'
    body += '"lon":111.5,"lat":35.4}]}'
    answer = done(phone.client.post("/sync/v1/push", data=body, content_type="application/json"))
    assert (answer["positions"]["taken"], refused(answer["positions"])) == (1, ["/positions/0"])


def test_a_push_brings_a_hundred_and_no_more(office: Field) -> None:
    phone, now = office.phone(), utc_now()
    row = [told(now - timedelta(minutes=200 - n), 111.5 + n / 1000) for n in range(101)]
    assert tell(phone, *row[:100]) == {"taken": 100, "refused": []}
    over = tell(phone, *row)
    assert (over["taken"], refused(over)) == (100, ["/positions/100"])
    assert len(track(office, phone.crew_id)) == 100, "what comes again is not kept again"
    assert tell(phone, row[100])["taken"] == 1
    assert len(track(office, phone.crew_id)) == 101


def test_a_wrong_clock_is_put_right_as_for_operations(office: Field) -> None:
    phone, now = office.phone(), utc_now()
    ahead = timedelta(hours=3)
    answer = tell(phone, told(now + ahead - timedelta(minutes=10)), device_time=format_time(now + ahead))
    assert answer == {"taken": 1, "refused": []}
    position = office.get(f"/v1/crews/{phone.crew_id}/position")["position"]
    assert abs(parse_time(position["at"]) - (now - timedelta(minutes=10))) < timedelta(seconds=20)
    by_boot = told(now + ahead * 9, 111.6, mono_ms=60_000, boot_id="b-1")
    assert tell(phone, by_boot, mono_ms=120_000, boot_id="b-1")["taken"] == 1
    position = office.get(f"/v1/crews/{phone.crew_id}/position")["position"]
    assert abs(parse_time(position["at"]) - (now - timedelta(minutes=1))) < timedelta(seconds=20)


def test_standing_is_one_place_and_a_jump_needs_confirming(office: Field) -> None:
    phone, begin = office.phone(), utc_now() - timedelta(hours=2)
    trembling = [told(begin + timedelta(seconds=10 * n), HERE[0] + (n % 3) / 10_000) for n in range(60)]
    tell(phone, *trembling)
    (stood,) = office.get(f"/v1/crews/{phone.crew_id}/track")["items"]
    assert parse_time(stood["until_at"]) - parse_time(stood["at"]) == timedelta(seconds=590)
    at = begin + timedelta(minutes=15)
    tell(phone, told(at, 112.9, 36.9))
    assert track(office, phone.crew_id) == [HERE], "150 km in five minutes"
    tell(phone, told(at + timedelta(minutes=1), 111.551))
    assert track(office, phone.crew_id) == [HERE, (111.551, 35.45)], "and it was none"
    tell(phone, told(at + timedelta(minutes=2), 112.9, 36.9))
    tell(phone, told(at + timedelta(minutes=3), 112.91, 36.9))
    assert track(office, phone.crew_id)[2:] == [(112.9, 36.9), (112.91, 36.9)], "two that agree are believed"


def test_a_device_that_moves_to_another_crew_takes_nothing_along(app: Flask, office: Field) -> None:
    phone = office.phone()
    tell(phone, told(utc_now()))
    other = office.crew()
    code = done(office.office.post(f"/v1/crews/{other}/enrolment-codes"), 201)["code"]
    moved = done(phone.client.post("/sync/v1/enrol", json={"code": code, "install_id": phone.install_id}), 201)
    phone.client = factories.with_token(app, moved["token"])
    now = utc_now()
    assert tell(phone, told(now - timedelta(hours=1), 111.7), told(now))["taken"] == 2
    assert track(office, other) == [HERE]
    assert HERE in track(office, phone.crew_id)


def test_only_dispatchers_and_supervisors_of_the_crews_territories_see_them(app: Flask, office: Field) -> None:
    ids = factories.make_territories(app)
    crew = factories.make_crew(app, territory_ids=[ids["A"]])
    phone = office.phone(crew)
    tell(phone, told(utc_now()))
    paths = [f"/v1/crews/{crew}/position", f"/v1/crews/{crew}/track"]
    for role in ("dispatcher", "supervisor"):
        own = factories.make_staff(app, role, [ids["A"]])
        assert [own.get(path).status_code for path in [*paths, "/v1/positions"]] == [200, 200, 200]
        assert len(own.get("/v1/positions").json["items"]) == 1
        stranger = factories.make_staff(app, role, [ids["B"]])
        assert [problem(stranger.get(path)) for path in paths] == [(404, "not-found")] * 2
        assert stranger.get("/v1/positions").json["items"] == []
    auditor = factories.make_staff(app, "auditor")
    for path in [*paths, "/v1/positions"]:
        assert problem(auditor.get(path)) == (403, "forbidden")
        assert phone.client.get(path).status_code == 401, "devices do not see them either"
    with app.app_context(), reading():
        said = [str(vars(entry)) for entry in db.session.scalars(select(HistoryEntry))]
        said += [str(vars(row)) for row in db.session.scalars(select(SyncDoc))]
    assert not [text for text in said if "until_at" in text or "accuracy_m" in text]


def test_a_track_is_paged_bounded_in_time_and_told_as_geojson(office: Field) -> None:
    phone, begin = office.phone(), utc_now().replace(microsecond=0) - timedelta(hours=1)
    tell(phone, *(told(begin + timedelta(minutes=n), 111.5 + n / 100) for n in range(5)))
    path = f"/v1/crews/{phone.crew_id}/track"
    first = office.get(f"{path}?limit=3")
    rest = office.get(f"{path}?limit=3&cursor={first['next']}")
    assert [len(first["items"]), len(rest["items"]), rest["next"]] == [3, 2, None]
    since, until = (format_time(begin + timedelta(minutes=n)) for n in (1, 3))
    assert len(office.get(f"{path}?from={since}&to={until}")["items"]) == 3
    mapped = office.office.get(f"{path}?limit=3", headers={"Accept": "application/geo+json"})
    assert mapped.mimetype == "application/geo+json"
    assert mapped.json["features"][0]["geometry"] == {"type": "Point", "coordinates": [111.5, 35.45]}
    everywhere = office.office.get("/v1/positions", headers={"Accept": "application/geo+json"}).json
    assert everywhere["features"][0]["properties"]["crew_id"] == phone.crew_id


def test_positions_are_forgotten_after_their_time(app: Flask, office: Field, settings: Settings) -> None:
    phone, now = office.phone(), utc_now()
    tell(phone, told(now - timedelta(days=1)), told(now, 111.6))
    app.extensions["fieldsvc.settings"] = replace(settings, position_ttl=3600)
    assert track(office, phone.crew_id) == [(111.6, 35.45)], "not told any more, even before the sweep"
    with runtime.serving(app):
        tasks.sweep()
    with app.app_context(), reading():
        assert [row.lon for row in db.session.scalars(select(CrewPosition))] == [111.6]


@pytest.mark.shared_data
def test_a_real_ride_in_pushes_is_kept_as_if_it_came_at_once(
    office: Field, settings: Settings, shared_data: Path
) -> None:
    ride = read_gpx(shared_data / "gps_traces" / "bus304_to_UL_2019-02-18.gpx")[:600]
    phone = office.phone()
    late = utc_now() - timedelta(hours=1) - ride[-1][0]
    for begin in range(0, len(ride), 75):
        tell(phone, *(told(at + late, lon, lat) for at, lon, lat in ride[begin : begin + 75]))
    sampling = Sampling(settings.position_seconds, settings.position_metres)
    at_once = sift(None, None, [Fix(at, at, lon, lat) for at, lon, lat in ride], sampling).kept
    assert track(office, phone.crew_id) == [(one.lon, one.lat) for one in at_once]
    assert 10 < len(at_once) < len(ride) / 10


def test_reasons_start_crews_where_they_were_lately_and_auditors_are_not_told(app: Flask, office: Field) -> None:
    ids = factories.make_territories(app)
    crew = factories.make_crew(app, "ONE", [ids["A"]])
    phone, auditor = office.phone(crew), factories.make_staff(app, "auditor")
    job = office.job(kind="safety_inspection", lon=111.59, lat=35.45)

    def driving(client: Any = office.office) -> float:
        answer = done(client.get(f"/v1/jobs/{job}/assignment?crew={crew}"))
        return float(answer["asked"]["numbers"]["added_min"])

    from_base = driving()
    tell(phone, told(utc_now() - timedelta(minutes=40), 111.59, 35.45))
    assert driving() == from_base, "that was too long ago"
    tell(phone, told(utc_now() - timedelta(minutes=1), 111.59, 35.45))
    assert driving() < from_base
    assert driving(auditor) == from_base
