"""Crews and shifts, and what their devices see of them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import select

from fieldsvc.base.clock import format_time, utc_now
from fieldsvc.base.db import db, reading
from fieldsvc.history.models import HistoryEntry
from tests.factories import Handheld, make_crew, make_device, make_staff, make_territories


def pull(handheld: Handheld) -> dict[tuple[str, str], dict[str, Any]]:
    """What the device holds after reading its whole feed, by entity and id."""
    held: dict[tuple[str, str], dict[str, Any]] = {}
    page = handheld.client.get("/sync/v1/pull").json
    for change in page["changes"]:
        key = (change["entity"], change["id"])
        if change["op"] == "put":
            held[key] = change["doc"]
        else:
            held.pop(key, None)
    return held


def test_a_crew_is_added_read_and_changed(app: Flask) -> None:
    ids = make_territories(app)
    caller = make_staff(app, "supervisor")
    body = {
        "code": "C-1",
        "name": "North",
        "name_local": "北班",
        "skills": ["repair", "meter_change", "repair"],
        "territory_codes": ["A"],
        "territory_ids": [ids["B"]],
        "base_lon": 111.57,
        "base_lat": 35.49,
        "members": ["Fitter 1", "Fitter 2"],
    }
    added = caller.post("/v1/crews", json=body)
    assert added.status_code == 201
    assert added.json["skills"] == ["meter_change", "repair"]
    assert added.json["territory_ids"] == sorted([ids["A"], ids["B"]])
    address = added.headers["Location"]
    assert caller.post("/v1/crews", json=body).json["type"] == "/problems/already-exists"

    read = caller.get(address)
    assert (read.headers["ETag"], read.json["shifts"]) == ('"1"', [])
    changed = caller.patch(address, json={"name": "North 1"}, headers={"If-Match": '"1"'})
    assert (changed.json["name"], changed.headers["ETag"]) == ("North 1", '"2"')
    stale = caller.patch(address, json={"name": "North 2"}, headers={"If-Match": '"1"'})
    assert (stale.status_code, stale.json["current_rev"]) == (412, 2)
    same = caller.patch(address, json={"name": "North 1"})
    assert same.headers["ETag"] == '"2"', "a change that changes nothing is none"
    with app.app_context(), reading():
        entry = db.session.scalars(select(HistoryEntry).where(HistoryEntry.action == "crew.changed")).one()
        assert (entry.before, entry.after) == ({"name": "North"}, {"name": "North 1"})
        assert entry.actor_kind == "staff" and entry.crew_id == added.json["id"]


def test_devices_see_their_crew_its_shifts_and_its_territories(app: Flask) -> None:
    ids = make_territories(app)
    caller = make_staff(app)
    crew_id = make_crew(app, "C-1", [ids["A"]], on_duty=False)
    handheld = make_device(app, crew_id)
    held = pull(handheld)
    assert held["crew", crew_id]["code"] == "C-1"
    assert held["territory", ids["A"]] == {
        "id": ids["A"],
        "code": "A",
        "name": "Territory A",
        "name_local": None,
        "site_class": "urban",
    }
    begin = utc_now().replace(microsecond=0) + timedelta(hours=1)
    shift = {"starts_at": format_time(begin), "ends_at": format_time(begin + timedelta(hours=8))}
    assert caller.post(f"/v1/crews/{crew_id}/shifts", json=shift).status_code == 201
    assert caller.patch(f"/v1/crews/{crew_id}", json={"territory_ids": [ids["B"]]}).status_code == 200
    held = pull(handheld)
    assert [entry["starts_at"] for entry in held["crew", crew_id]["shifts"]] == [shift["starts_at"]]
    assert {key for key in held if key[0] == "territory"} == {("territory", ids["B"])}


def test_shifts_of_a_crew_do_not_overlap_and_last_no_more_than_a_day(app: Flask) -> None:
    caller, crew_id = make_staff(app, "supervisor"), make_crew(app, on_duty=False)

    def add(start: str, end: str):
        return caller.post(f"/v1/crews/{crew_id}/shifts", json={"starts_at": start, "ends_at": end})

    assert add("2026-11-23T08:00:00+08:00", "2026-11-23T17:00:00+08:00").status_code == 201
    assert add("2026-11-23T16:00:00+08:00", "2026-11-23T20:00:00+08:00").status_code == 409
    assert add("2026-11-23T17:00:00+08:00", "2026-11-23T20:00:00+08:00").status_code == 201
    for start, end in (
        ("2026-11-25T08:00:00Z", "2026-11-25T08:00:00Z"),
        ("2026-11-25T08:00:00Z", "2026-11-25T07:00:00Z"),
        ("2026-11-25T08:00:00Z", "2026-11-26T08:00:01Z"),
        ("2026-11-25T08:00:00", "2026-11-25T17:00:00"),
        ("2026-02-30T08:00:00Z", "2026-02-30T17:00:00Z"),
        ("yesterday", "today"),
    ):
        assert add(start, end).status_code == 422, (start, end)


def test_a_scoped_supervisor_works_within_the_territories_of_the_account(app: Flask) -> None:
    ids = make_territories(app)
    caller = make_staff(app, "supervisor", [ids["A"], ids["C"]])
    mine = make_crew(app, "MINE", [ids["A"]])
    shared = make_crew(app, "SHARED", [ids["A"], ids["B"]])
    theirs = make_crew(app, "THEIRS", [ids["B"]])
    homeless = make_crew(app, "TRAY", [])
    assert [crew["code"] for crew in caller.get("/v1/crews").json["items"]] == ["MINE", "SHARED"]
    for crew_id in (theirs, homeless):
        assert caller.get(f"/v1/crews/{crew_id}").status_code == 404
        assert caller.patch(f"/v1/crews/{crew_id}", json={"name": "x"}).status_code == 404
    assert caller.patch(f"/v1/crews/{mine}", json={"territory_ids": [ids["C"]]}).status_code == 200
    assert caller.patch(f"/v1/crews/{mine}", json={"territory_ids": [ids["B"]]}).status_code == 403
    assert caller.patch(f"/v1/crews/{shared}", json={"territory_ids": [ids["A"]]}).status_code == 403
    assert caller.patch(f"/v1/crews/{shared}", json={"name": "Shared 2"}).status_code == 200
    assert caller.post("/v1/crews", json={"code": "N", "name": "N"}).status_code == 403
    assert caller.post("/v1/crews", json={"code": "N", "name": "N", "territory_ids": [ids["B"]]}).status_code == 403
    assert caller.post("/v1/crews", json={"code": "N", "name": "N", "territory_ids": [ids["C"]]}).status_code == 201


@pytest.mark.parametrize("role", ["dispatcher", "auditor"])
def test_dispatchers_and_auditors_look_at_crews_but_change_none(app: Flask, role: str) -> None:
    crew_id, caller = make_crew(app), make_staff(app, role)
    assert caller.get(f"/v1/crews/{crew_id}").status_code == 200
    assert caller.patch(f"/v1/crews/{crew_id}", json={"name": "x"}).status_code == 403
    assert caller.post("/v1/crews", json={"code": "N", "name": "N"}).status_code == 403


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"base_lon": 181, "base_lat": 35}, "/base_lon"),
        ({"base_lon": 111.5}, "/base_lat"),
        ({"base_lon": "111.5", "base_lat": 35}, "/base_lon"),
        ({"skills": ["Repair!"]}, "/skills/0"),
        ({"members": ["x" * 121]}, "/members/0"),
        ({"members": [str(n) for n in range(51)]}, "/members"),
        ({"name": ""}, "/name"),
        ({"name": None}, "/name"),
        ({"code": "other"}, "/code"),
        ({"active": 1}, "/active"),
    ],
)
def test_a_malformed_change_is_refused_naming_the_field(app: Flask, change: dict[str, Any], field: str) -> None:
    crew_id = make_crew(app, lon=None, lat=None)
    refused = make_staff(app).patch(f"/v1/crews/{crew_id}", json=change)
    assert refused.status_code == 422
    assert [error["field"] for error in refused.json["errors"]] == [field]
