"""What a scoped member of staff may not reach by naming it: customers, usage points and crews of other territories."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests import factories
from tests.field import Field, Place, done, problem, repaired

HERE = {"lon": 111.55, "lat": 35.45}


@pytest.fixture
def territories(app: Flask) -> dict[str, str]:
    return factories.make_territories(app)


@pytest.fixture
def dispatcher(app: Flask, territories: dict[str, str]) -> FlaskClient:
    """One who sees territory A alone."""
    return factories.make_staff(app, "dispatcher", [territories["A"]])


@pytest.fixture
def theirs(app: Flask, territories: dict[str, str]) -> Place:
    """A customer in territory B."""
    return Field(app).place(lon=111.65, lat=35.45)


@pytest.mark.parametrize(
    ("path", "by"),
    [(path, by) for path in ("/v1/jobs", "/v1/tickets") for by in ("customer_id", "usage_point_id")]
    + [("/v1/tickets", "customer_number")],
)
def test_a_job_or_ticket_here_does_not_reach_a_customer_there(
    app: Flask, dispatcher: FlaskClient, theirs: Place, path: str, by: str
) -> None:
    body: dict[str, Any] = {**HERE, by: getattr(theirs, by)}
    body |= {"kind": "repair"} if path == "/v1/jobs" else {"reporting_kind": "call", "description": "it is dark"}
    answer = dispatcher.post(path, json=body)
    unknown = dispatcher.post(path, json=body | {by: "there-is-none"})
    assert problem(answer) == (409, "conflict")
    assert answer.json["detail"] == unknown.json["detail"], "nothing tells it from one that does not exist"
    assert not Field(app).get(f"/v1/customers/{theirs.customer_id}")["contacts"]["items"]


def test_a_job_here_is_not_edited_to_a_usage_point_there(app: Flask, dispatcher: FlaskClient, theirs: Place) -> None:
    job = done(dispatcher.post("/v1/jobs", json={"kind": "repair", **HERE}), 201)
    headers = {"If-Match": '"1"'}
    path = f"/v1/jobs/{job['id']}"
    assert problem(dispatcher.patch(path, json={"usage_point_id": theirs.usage_point_id}, headers=headers)) == (
        409,
        "conflict",
    )
    assert done(dispatcher.get(path))["customer_id"] is None


def test_a_job_that_has_its_usage_point_elsewhere_already_may_be_edited_besides(
    app: Flask, dispatcher: FlaskClient, theirs: Place
) -> None:
    field = Field(app)
    job = done(
        field.office.post("/v1/jobs", json={"kind": "repair", **HERE, "usage_point_id": theirs.usage_point_id}), 201
    )
    body = {"title": "gate, not mill", "usage_point_id": theirs.usage_point_id}
    edited = done(dispatcher.patch(f"/v1/jobs/{job['id']}", json=body, headers={"If-Match": '"1"'}))
    assert (edited["title"], edited["usage_point_id"]) == ("gate, not mill", theirs.usage_point_id)


def test_a_job_here_is_not_given_to_a_crew_that_works_only_elsewhere(
    app: Flask, dispatcher: FlaskClient, territories: dict[str, str]
) -> None:
    strangers = factories.make_crew(app, territory_ids=[territories["B"]])
    shared = factories.make_crew(app, territory_ids=[territories["A"], territories["B"]])
    job = done(dispatcher.post("/v1/jobs", json={"kind": "repair", **HERE}), 201)
    answer = dispatcher.post(f"/v1/jobs/{job['id']}/assign", json={"crew_id": strangers})
    unknown = dispatcher.post(f"/v1/jobs/{job['id']}/assign", json={"crew_id": "there-is-none"})
    assert problem(answer) == (409, "conflict")
    assert answer.json["detail"] == unknown.json["detail"]
    done(dispatcher.post(f"/v1/jobs/{job['id']}/assign", json={"crew_id": shared}))


def test_a_customers_page_shows_only_jobs_of_the_readers_territories(
    app: Flask, dispatcher: FlaskClient, territories: dict[str, str]
) -> None:
    field = Field(app)
    place = field.place(lon=111.55, lat=35.45)
    there = {"lon": 111.65, "lat": 35.45}
    here_job = field.job(place=place)
    there_job = done(
        field.office.post("/v1/jobs", json={"kind": "repair", "usage_point_id": place.usage_point_id, **there}), 201
    )["id"]
    paths = (f"/v1/customers/{place.customer_id}", f"/v1/usage-points/{place.usage_point_id}")
    for path in paths:
        assert {job["id"] for job in done(dispatcher.get(path))["jobs"]["items"]} == {here_job}
        assert {job["id"] for job in field.get(path)["jobs"]["items"]} == {here_job, there_job}


def test_a_review_goes_with_its_job_when_the_job_moves(
    app: Flask, dispatcher: FlaskClient, territories: dict[str, str]
) -> None:
    field = Field(app)
    phone = field.phone()
    job = field.job(crew=phone.crew_id)
    field.unassign(job)
    assert phone.do("job.complete", job, repaired()) == "parked"
    [review] = field.reviews(job=job)
    done(field.office.patch(f"/v1/jobs/{job}", json={"lon": 111.65, "lat": 35.45}, headers={"If-Match": "*"}))
    there = factories.make_staff(app, "dispatcher", [territories["B"]])
    path, verdict = f"/v1/reviews/{review['id']}", {"choice": "dismiss", "note": "told by phone"}
    assert not done(dispatcher.get("/v1/reviews"))["items"]
    assert problem(dispatcher.get(path)) == (404, "not-found")
    assert problem(dispatcher.post(f"{path}/resolve", json=verdict)) == (404, "not-found")
    assert [item["id"] for item in done(there.get("/v1/reviews"))["items"]] == [review["id"]]
    done(there.post(f"{path}/resolve", json=verdict))


def test_a_corrected_meter_is_in_the_history_of_its_territory(
    app: Flask, territories: dict[str, str], theirs: Place
) -> None:
    supervisor = factories.make_staff(app, "supervisor", [territories["B"]])
    body = {"asset_no": "RIGHT-1", "registers": {"total": "1"}, "read_at": "2026-01-01T00:00:00Z", "note": "seen"}
    done(supervisor.post(f"/v1/usage-points/{theirs.usage_point_id}/correct-meter", json=body))
    told = done(supervisor.get(f"/v1/history?customer={theirs.customer_id}"))["items"]
    assert {"meter.corrected", "meter.registered"} <= {entry["action"] for entry in told}
