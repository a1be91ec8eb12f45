"""Intake in the console: a call becomes one ticket, what is known of it is shown before, what is wrong stays typed."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from tests import factories
from tests.field import Field, done
from tests.integration.test_imports import import_customers
from tests.visitor import Visitor

XSS = "<script>alert(1)</script>"


@pytest.fixture
def field(app: Flask) -> Field:
    return Field(app)


@pytest.fixture
def town(field: Field) -> dict[str, str]:
    """Two territories, four customers in the first and one in the second."""
    territories = factories.make_territories(field.app)
    import_customers(
        field.app,
        "number,name,name_local,phone,lon,lat,address,usage_point_number,transformer_area,feeder\n"
        f"1001,Ada {XSS},甲,555-010-1234,111.55,35.45,1 Mill Lane,U-1001,TA-1,F-1\n"
        "1002,Bela Mill,,,111.5501,35.45,2 Mill Lane,U-1002,TA-1,F-1\n"
        "1003,Carla,,,111.5502,35.45,3 Mill Lane,U-1003,TA-1,F-1\n"
        "1004,Dora,,,111.5503,35.45,4 Mill Lane,U-1004,TA-1,F-1\n"
        "2001,Elsewhere,,,111.65,35.45,1 Far Road,U-2001,TA-9,F-9\n",
    )
    return territories


@pytest.fixture
def desk(field: Field, town: dict[str, str]) -> Visitor:
    """A dispatcher of the first territory."""
    return Visitor(field.app, "dispatcher", [town["A"]])


def key_of(visitor: Visitor, path: str = "/intake") -> str:
    found = re.search(r'name="key" value="([^"]+)"', visitor.get(path).text)
    assert found
    return found.group(1)


def call(visitor: Visitor, key: str | None = None, path: str = "/intake", **fields: Any) -> TestResponse:
    fields = {"trouble_code": "no_power", "reporting_kind": "call", **fields}
    return visitor.post(path, key=key or key_of(visitor), **fields)


def taken(visitor: Visitor, **fields: Any) -> str:
    """The id of the ticket that a call has become."""
    answer = call(visitor, **fields)
    assert answer.status_code == 303, re.findall(r'class="fault"[^>]*>([^<]+)', answer.text)
    return urlsplit(answer.location).query.removeprefix("taken=").partition("&")[0]


def tickets(field: Field) -> list[dict[str, Any]]:
    return list(field.get("/v1/tickets?limit=200")["items"])


def options(visitor: Visitor, text: str) -> list[tuple[str, str]]:
    """Customer and usage point of each that is offered for a text."""
    return re.findall(r'data-customer="([^"]+)" data-point="([^"]*)"', visitor.post("/intake/find", who=text).text)


def test_a_call_of_a_customer_shows_its_number_job_and_promise_and_the_next_form(field: Field, desk: Visitor) -> None:
    for text in ("1001", "Ada", "甲", "5550101234", "555 010 1234"):
        assert len(options(desk, text)) == 1, text
    found = desk.post("/intake/find", who="1001").text
    assert "&lt;script&gt;" in found and XSS not in found
    assert "…1234" in found and "555-010" not in found  # as much as it takes to recognise the person
    ((customer_id, _point),) = options(desk, "1001")
    known = desk.post("/intake/known", customer_id=customer_id, trouble_code="no_power").text
    assert "Territory A" in known and "Nothing open here." in known
    page = desk.get(f"/intake?taken={taken(desk, customer_id=customer_id, hazards=['fire', 'gas'], description=XSS)}")
    (ticket,) = tickets(field)
    job = field.get(f"/v1/jobs/{ticket['job_id']}")
    assert (ticket["customer_id"], ticket["hazards"], job["priority"]) == (customer_id, ["fire", "gas"], 1)
    assert str(ticket["number"]) in page.text and job["number"] in page.text and "promised for" in page.text
    assert 'data-draft-taken="intake"' in page.text and 'id="who" name="who" value=""' in page.text
    begun = desk.get(f"/intake?customer={customer_id}").text
    assert f'name="customer_id" value="{customer_id}"' in begun and 'value="1001 Ada &lt;script&gt;' in begun
    shown = desk.get(f"/tickets/{ticket['id']}").text
    assert "&lt;script&gt;" in shown and XSS not in shown


def test_a_place_by_address_by_usage_point_and_by_coordinates(field: Field, desk: Visitor) -> None:
    ((customer_id, point),) = options(desk, "2 Mill Lane")
    assert point
    taken(desk, usage_point_id=point)
    taken(desk, who="U-1003")  # typed and not picked: it is the only one
    taken(desk, lon="111.51", lat="35.41", address="the bridge")
    made = {str(one["address"]): one for one in tickets(field)}
    assert set(made) == {"2 Mill Lane", "3 Mill Lane", "the bridge"}
    assert made["2 Mill Lane"]["customer_id"] == customer_id
    assert made["the bridge"]["lon"] == 111.51


def test_what_is_wrong_stands_beside_its_field_and_what_was_typed_stays(field: Field, desk: Visitor) -> None:
    def fault(**fields: Any) -> str:
        answer = call(desk, caller_name="Mr <Caller>", **fields)
        assert answer.status_code == 422
        assert 'value="Mr &lt;Caller&gt;"' in answer.text
        found = re.search(r'class="fault" id="f-(\w+)-fault">([^<]+)', answer.text)
        return ": ".join(found.groups()) if found else ""

    assert fault().startswith("who: Say who calls")
    assert fault(who="Nobody").startswith("who: No customer")
    assert fault(who="Mill Lane").startswith("who: Several")
    assert fault(who="2001").startswith("who: No customer")  # not of this territory
    assert "lon and lat are given together" in fault(lon="111.5")
    assert fault(lon="111.65", lat="35.45").startswith("address: This place does not lie")
    assert fault(lon="far", lat="35.45").startswith("lon: ")
    assert fault(who="1001", trouble_code="").startswith("trouble_code: ")
    assert tickets(field) == []


def test_a_form_that_is_sent_twice_makes_one_ticket_and_a_changed_one_is_asked_about(
    field: Field, desk: Visitor
) -> None:
    key = key_of(desk)
    first = call(desk, key, who="1001", description="dark")
    again = call(desk, key, who="1001", description="dark")
    assert first.location == again.location
    changed = call(desk, key, who="1001", description="dark, and a bang")
    assert changed.status_code == 422 and "This form has been sent already" in changed.text
    assert len(tickets(field)) == 1
    fresh = re.search(r'name="key" value="([^"]+)"', changed.text)
    assert fresh and fresh.group(1) != key
    assert call(desk, fresh.group(1), who="1001", description="dark, and a bang").status_code == 303
    assert len(tickets(field)) == 2


def test_a_form_that_is_sent_twice_at_the_same_moment_makes_one_ticket(
    field: Field, desk: Visitor, town: dict[str, str]
) -> None:
    other, key = Visitor(field.app, "dispatcher", [town["A"]]), key_of(desk)
    with ThreadPoolExecutor(2) as hands:
        answers = list(hands.map(lambda visitor: call(visitor, key, who="1001"), [desk, other]))
    assert [answer.status_code for answer in answers] == [303, 303]
    assert answers[0].location == answers[1].location
    assert len(tickets(field)) == 1


def test_the_same_trouble_and_the_fault_it_belongs_to_are_shown_before_and_the_dispatcher_has_the_last_word(
    field: Field, desk: Visitor
) -> None:
    taken(desk, who="1001")
    taken(desk, who="1002")
    (third, _) = options(desk, "1003")[0]
    known = desk.post("/intake/known", customer_id=third, trouble_code="no_power").text
    assert "it joins the first one" in known and "3 calls on transformer area TA-1" in known
    assert re.search(r"It joins J-\w+, whose promises run already", known)
    alone = desk.post("/intake/known", customer_id=third, trouble_code="no_power", fault="apart").text
    assert "It joins" not in alone and "Arrival" in alone
    assert "nearby" in known and str(tickets(field)[0]["number"]) in known
    billing = desk.post("/intake/known", customer_id=third, trouble_code="meter_fault").text
    assert "Which fault is it?" not in billing  # a customer's own trouble: no rule asks
    (incident, _) = re.findall(r'name="fault" value="([0-9a-f-]{36})"', known)
    apart = taken(desk, customer_id=third, fault="apart")
    added = taken(desk, who="1004", fault=incident)
    by_id = {one["id"]: one for one in tickets(field)}
    assert by_id[apart]["incident_id"] != incident
    assert by_id[added]["incident_id"] == incident
    page = desk.get(f"/incidents/{incident}").text
    assert f"({by_id[added]['number']})" in page  # which call undoing would take out
    assert f"put together by {desk.username}" in page and "Undo this merge" in page
    merge = re.search(r"/incident-merges/([^/]+)/undo", page)
    assert merge
    assert desk.post(f"/incident-merges/{merge.group(1)}/undo").status_code == 303
    assert field.get(f"/v1/tickets/{added}")["incident_id"] != incident
    assert f"undone by {desk.username}" in desk.get(f"/incidents/{incident}").text
    late = desk.post(f"/incident-merges/{merge.group(1)}/undo")
    assert late.status_code == 409 and "the merge is undone" in late.text and f"undone by {desk.username}" in late.text
    others = [by_id[apart]["incident_id"]]
    assert desk.post(f"/incidents/{incident}/merge", incident_ids=others).status_code == 303
    assert field.get(f"/v1/tickets/{apart}")["incident_id"] == incident
    assert desk.post(f"/incidents/{incident}/merge", incident_ids=others).status_code == 409
    assert "merged" in desk.get("/incidents?state=merged").text.lower()


def test_in_a_storm_the_form_is_short_and_counts(field: Field, desk: Visitor, town: dict[str, str]) -> None:
    body = {"reporting_kind": "call", "trouble_code": "no_power", "lon": 111.52, "lat": 35.42}
    for number in range(20):
        done(field.office.post("/v1/tickets", json=body | {"caller_phone": str(number)}), 201)
    page = desk.get("/intake").text
    assert "short form" in page and 'name="description"' not in page and 'name="trouble_code"' in page
    count = re.sub(r"<[^>]+>|\s+", " ", desk.piece("/intake/count").text)
    assert "Storm" in count
    assert re.search(r"20\s+tickets", count) and re.search(r"20\s+customers affected", count)
    assert 'name="description"' in desk.get("/intake?form=full").text
    answer = call(desk, path="/intake?form=short", who="1001", reporting_kind="call")
    assert answer.status_code == 303 and "form=short" in answer.location
    assert "short form" not in Visitor(field.app, "dispatcher", [town["B"]]).get("/intake").text


def test_nobody_sees_or_takes_in_what_lies_outside_and_auditors_change_nothing(
    field: Field, desk: Visitor, town: dict[str, str]
) -> None:
    mine = taken(desk, who="1001")
    incident = field.get(f"/v1/tickets/{mine}")["incident_id"]
    other = Visitor(field.app, "dispatcher", [town["B"]])
    assert options(other, "1001") == []
    customer = field.get(f"/v1/tickets/{mine}")["customer_id"]
    known = other.post("/intake/known", customer_id=customer).text
    assert "1 Mill Lane" not in known
    assert call(other, customer_id=customer).status_code == 422
    for path in (f"/tickets/{mine}", f"/incidents/{incident}"):
        assert desk.get(path).status_code == 200
        assert other.get(path).status_code == 404
    assert f"/tickets/{mine}" not in other.get("/tickets").text
    assert 'id="receipt"' not in other.get(f"/intake?taken={mine}").text
    assert other.post(f"/incidents/{incident}/merge", incident_ids=[incident[:-1] + "0"]).status_code == 404
    auditor = Visitor(field.app, "auditor")
    assert auditor.get("/intake").status_code == 403
    assert call(auditor, key="k", who="1001").status_code == 403
    refused = call(other, lon="111.65", lat="35.45", fault=incident)
    assert refused.status_code == 422 and "there is no such incident" in refused.text
    page = auditor.get(f"/incidents/{incident}").text
    assert "Merge others" not in page and auditor.get("/tickets?state=open").status_code == 200
    assert auditor.post(f"/incidents/{incident}/merge", incident_ids=["x"]).status_code == 403
