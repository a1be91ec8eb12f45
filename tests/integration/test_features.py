"""Layers for maps: walked as a client of OGC API Features walks them, from the landing page, by what Core requires."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import insert

from fieldsvc.base.clock import format_time, utc_now
from fieldsvc.base.db import db, transaction
from fieldsvc.people.models import Crew
from tests import factories
from tests.field import Field, Phone, done, problem
from tests.integration.test_positions import tell, told

GEOJSON = "application/geo+json"
ITEMS = "/ogc/collections/{}/items"


@pytest.fixture
def office(app: Flask) -> Field:
    return Field(app)


def follow(client: FlaskClient, link: dict[str, str]) -> dict[str, Any]:
    """What a link leads to, which must be of the type that it names."""
    address = urlsplit(link["href"])
    assert address.scheme == "http" and address.netloc, "absolute"
    answer = client.get(address.path + (f"?{address.query}" if address.query else ""))
    assert (answer.status_code, answer.mimetype) == (200, link["type"]), answer.get_data(as_text=True)
    return dict(json.loads(answer.data))


def link(page: dict[str, Any], rel: str) -> dict[str, str]:
    (found,) = [one for one in page["links"] if one["rel"] == rel]
    assert found["title"]
    return dict(found)


def pages(client: FlaskClient, page: dict[str, Any]) -> Iterator[dict[str, Any]]:
    while True:
        yield page
        if not any(one["rel"] == "next" for one in page["links"]):
            return
        page = follow(client, link(page, "next"))


def ids(client: FlaskClient, layer: str, **query: Any) -> set[str]:
    text = "&".join(f"{name}={quote(str(value))}" for name, value in query.items())
    page = done(client.get(f"{ITEMS.format(layer)}?{text}"))
    return {feature["id"] for one in pages(client, page) for feature in one["features"]}


def furnished(office: Field) -> tuple[dict[str, str], Phone]:
    """Three territories, a crew at home in A that is in B, jobs in A, B, and nowhere."""
    areas = factories.make_territories(office.app)
    phone = office.phone(factories.make_crew(office.app, territory_ids=[areas["A"]]))
    tell(phone, told(utc_now(), 111.65))
    for lon in (111.51, 111.52, 111.53, 111.65):
        office.job(crew=phone.crew_id, lon=lon, lat=35.45)
    done(office.office.post("/v1/jobs", json={"kind": "repair"}), 201)
    return areas, phone


def test_a_client_finds_everything_from_the_landing_page(office: Field) -> None:
    furnished(office)
    client = office.office
    landing = follow(client, {"href": "http://localhost/ogc", "type": "application/json"})
    assert landing["title"] and link(landing, "self")["href"] == "http://localhost/ogc"
    assert follow(client, link(landing, "service-desc"))["openapi"].startswith("3.1")
    classes = follow(client, link(landing, "conformance"))["conformsTo"]
    assert {name.rsplit("/", 1)[1] for name in classes} == {"core", "geojson"}
    listed = follow(client, link(landing, "data"))
    assert [one["id"] for one in listed["collections"]] == ["territories", "jobs", "crews", "positions"]
    counts = {}
    for one in listed["collections"]:
        assert one["itemType"] == "feature" and one["crs"] == ["http://www.opengis.net/def/crs/OGC/1.3/CRS84"]
        assert follow(client, link(one, "self")) == one, "the same alone as in the list"
        first = follow(client, link(one, "items") | {"href": link(one, "items")["href"] + "?limit=2"})
        found = []
        for page in pages(client, first):
            assert page["type"] == "FeatureCollection" and page["timeStamp"].endswith("Z")
            assert page["numberReturned"] == len(page["features"]) <= 2
            assert link(page, "self")["type"] == GEOJSON
            found += page["features"]
        assert first.get("numberMatched", len(found)) == len(found)
        assert len({feature["id"] for feature in found}) == len(found)
        for feature in found:
            assert feature["type"] == "Feature" and isinstance(feature["properties"], dict)
            alone = follow(client, {"href": f"{link(one, 'items')['href']}/{feature['id']}", "type": GEOJSON})
            assert alone["geometry"] == feature["geometry"]
            assert link(alone, "collection")["href"] == link(one, "self")["href"]
        counts[one["id"]] = len(found)
    assert counts == {"territories": 3, "jobs": 5, "crews": 1, "positions": 1}
    (territories,) = [one for one in listed["collections"] if one["id"] == "territories"]
    (box,) = territories["extent"]["spatial"]["bbox"]
    assert box == pytest.approx([111.5, 35.4, 111.7, 35.6])


def test_a_box_and_a_span_of_time_choose_features(office: Field) -> None:
    areas, phone = furnished(office)
    client, now = office.office, utc_now()
    assert len(ids(client, "jobs", bbox="111.505,35.4,111.525,35.5", limit=1)) == 2
    assert len(ids(client, "jobs", bbox="111.505,35.4,0,111.525,35.5,100")) == 2
    assert len(ids(client, "jobs", bbox="111.6,35.4,-170,35.5")) == 1, "across the 180th meridian"
    assert ids(client, "territories", bbox="111.55,35.41,111.56,35.42") == {areas["A"]}
    assert ids(client, "territories", bbox="111.65,35.41,-179,35.42") == {areas["B"]}
    assert ids(client, "crews", bbox="111.6,35.4,111.7,35.5") == set(), "its base is in A"
    assert ids(client, "positions", bbox="111.6,35.4,111.7,35.5") == {phone.crew_id}

    soon, before = format_time(now + timedelta(days=2)), format_time(now - timedelta(days=1))
    assert len(ids(client, "jobs", datetime=f"{before}/..")) == 5
    assert len(ids(client, "jobs", datetime=f"../{before}")) == 0
    assert len(ids(client, "jobs", datetime=soon)) == 5, "they are still open then"
    job = next(iter(ids(client, "jobs", bbox="111.505,35.4,111.515,35.5")))
    office.cancel(job)
    assert job not in ids(client, "jobs", datetime=soon)
    assert ids(client, "crews", datetime=soon) == set()
    assert ids(client, "crews", datetime=f"{before}/{soon}") == {phone.crew_id}, "on duty within that time"
    assert ids(client, "positions", datetime=f"/{before}") == set()
    assert ids(client, "territories", datetime=f"{before}/") == set(areas.values())


def test_what_cannot_be_read_is_400_by_the_standard(office: Field) -> None:
    client = office.office
    for query in (
        "bbox=1,2,3",
        "bbox=1,2,3,4,5",
        "bbox=a,b,c,d",
        "bbox=0,50,1,40",
        "bbox=-181,0,1,1",
        "bbox=0,0,1,90.1",
        "datetime=yesterday",
        "datetime=../..",
        "datetime=2026-01-01T00:00:00",
        "datetime=2026-01-02T00:00:00Z/2026-01-01T00:00:00Z",
        "datetime=2026-01-01T00:00:00Z/../..",
        "limit=0",
        "limit=x",
        "limit=1&limit=2",
        "colour=red",
    ):
        assert problem(client.get(f"{ITEMS.format('jobs')}?{query}")) == (400, "bad-request"), query
    assert problem(client.get(f"{ITEMS.format('jobs')}?cursor=abc")) == (400, "bad-cursor")
    assert problem(client.get("/ogc?f=html")) == (400, "bad-request")
    assert problem(client.get(ITEMS.format("rivers"))) == (404, "not-found")
    assert problem(client.get(ITEMS.format("jobs") + "/nothing")) == (404, "not-found")
    assert done(client.get(ITEMS.format("jobs") + "?bbox=-180,-90,180,90&limit=1001"))["numberReturned"] == 0
    assert client.get(ITEMS.format("jobs") + "?datetime=2026-01-01T00:00:00+08:00/..").status_code == 200


def test_a_page_holds_a_thousand(app: Flask, office: Field) -> None:
    shared = {"name": "Crew", "skills": [], "territory_ids": [], "base_lon": 1.0, "base_lat": 1.0, "rev": 1}
    with app.app_context(), transaction():
        rows = [shared | {"id": f"crew-{n}", "code": f"C-{n:04}", "active": True} for n in range(1001)]
        db.session.execute(insert(Crew), rows)
    page = done(office.office.get(ITEMS.format("crews") + "?limit=5000"))
    assert (page["numberReturned"], page["numberMatched"]) == (1000, 1001)
    assert follow(office.office, link(page, "next"))["numberReturned"] == 1


def test_everybody_sees_his_own_territories_and_few_see_positions(app: Flask, office: Field) -> None:
    areas, phone = furnished(office)
    auditor = factories.make_staff(app, "auditor", [areas["A"]])
    names = [one["id"] for one in done(auditor.get("/ogc/collections"))["collections"]]
    assert names == ["territories", "jobs", "crews"]
    assert problem(auditor.get(ITEMS.format("positions"))) == (404, "not-found")
    assert ids(auditor, "territories") == {areas["A"]}
    (box,) = done(auditor.get("/ogc/collections/territories"))["extent"]["spatial"]["bbox"]
    assert box == pytest.approx([111.5, 35.4, 111.6, 35.5])
    assert len(ids(auditor, "jobs")) == 3
    (crew,) = done(auditor.get(ITEMS.format("crews")))["features"]
    assert "position_lon" not in crew["properties"]
    dispatcher = factories.make_staff(app, "dispatcher", [areas["A"]])
    (crew,) = done(dispatcher.get(ITEMS.format("crews")))["features"]
    assert crew["properties"]["position_lon"] == 111.65
    assert ids(dispatcher, "positions") == {phone.crew_id}
    stranger = factories.make_staff(app, "dispatcher", [areas["B"]])
    assert ids(stranger, "positions") == ids(stranger, "crews") == set()
    for layer, ident in (("positions", phone.crew_id), ("crews", phone.crew_id), ("territories", areas["A"])):
        assert problem(stranger.get(f"{ITEMS.format(layer)}/{ident}")) == (404, "not-found")
    assert len(ids(stranger, "jobs")) == 1
    assert problem(phone.client.get("/ogc")) == (401, "unauthenticated")
