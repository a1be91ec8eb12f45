"""Customers, usage points and meters in the console: found, shown as far as one may see, and put right."""

from __future__ import annotations

import re
from typing import Any

import pytest
from flask import Flask

from tests import factories
from tests.field import Field, Place
from tests.integration.test_imports import import_customers
from tests.visitor import Visitor

XSS = "<img src=x onerror=alert(1)>"
LONG = "乡村振兴农产品冷链物流与综合服务有限责任公司第三分公司" * 3


@pytest.fixture
def field(app: Flask) -> Field:
    return Field(app)


@pytest.fixture
def territories(field: Field) -> dict[str, str]:
    return factories.make_territories(field.app)


def test_customers_are_found_by_number_name_and_phone_page_by_page_and_only_ones_own(
    field: Field, territories: dict[str, str]
) -> None:
    rows = "".join(f"C-{number:03},Name {number},,111.55,35.45\n" for number in range(60))
    import_customers(
        field.app,
        f'number,name,phone,lon,lat\n{rows}X-1,"{XSS}",555 010 7777,111.55,35.45\nX-2,{LONG},,111.65,35.45\n',
    )
    desk = Visitor(field.app, "dispatcher", [territories["A"]])
    first = desk.get("/customers")
    after = re.search(r'href="(/customers\?cursor=[^"]+)" rel="next"', first.text)
    assert after and "C-049" in first.text and "C-050" not in first.text
    second = desk.get(after.group(1))
    assert "C-050" in second.text and "X-1" in second.text and "X-2" not in second.text
    assert "&lt;img" in second.text and XSS not in second.text
    assert "X-1" in desk.get("/customers?q=0107777").text
    assert "No customer matches." in desk.get("/customers?q=X-2").text
    assert LONG in Visitor(field.app, "auditor").get("/customers?q=X-2").text
    assert desk.get("/customers?cursor=nonsense").status_code == 400


def test_the_pages_of_a_customer_its_usage_point_and_its_meter(field: Field, territories: dict[str, str]) -> None:
    place: Place = field.place()
    job = field.get(f"/v1/jobs/{field.job('meter_change', place=place)}")
    ticket = field.office.post(
        "/v1/tickets", json={"reporting_kind": "call", "customer_id": place.customer_id, "trouble_code": "no_power"}
    ).get_json()
    desk = Visitor(field.app, "supervisor", [territories["A"]])
    other = Visitor(field.app, "supervisor", [territories["B"]])
    paths = {
        f"/customers/{place.customer_id}": [place.customer_number, place.asset_no, job["number"], ticket["number"]],
        f"/usage-points/{place.usage_point_id}": [place.customer_number, place.asset_no, job["number"]],
        f"/meters/{place.meter_id}": [place.asset_no, place.customer_id, 'id="readings-data"'],
        "/meters?state=installed": [place.asset_no],
    }
    for path, wanted in paths.items():
        page = desk.get(path)
        assert page.status_code == 200, path
        assert [text for text in wanted if text not in page.text] == []
        hidden = other.get(path)
        assert hidden.status_code == (200 if path.startswith("/meters?") else 404)
        assert place.asset_no not in hidden.text
    assert "arrival" in desk.get(f"/customers/{place.customer_id}").text.lower()  # a promise that runs
    assert "restoration" in desk.get(f"/customers/{place.customer_id}").text.lower()


def test_a_wrong_meter_is_put_right_by_a_supervisor_who_has_seen_the_record_as_it_is(
    field: Field, territories: dict[str, str]
) -> None:
    place = field.place()
    path = f"/usage-points/{place.usage_point_id}"
    desk = Visitor(field.app, "supervisor", [territories["A"]])
    rev = re.search(r'name="rev" value="(\d+)"', desk.get(path).text)
    assert rev
    typed: dict[str, Any] = {
        "asset_no": "M-REAL",
        "digits": "6",
        "total": "12.5",
        "read_at": "2026-01-05T08:00",
        "note": "seen there",
    }
    wrong = desk.post(path + "/correct-meter", rev=rev.group(1), **typed | {"total": "12,5", "read_at": "soon"})
    assert wrong.status_code == 422 and 'value="M-REAL"' in wrong.text
    assert {"f-total-fault", "f-read_at-fault"} <= set(re.findall(r'id="(f-[a-z_]+-fault)"', wrong.text))
    assert desk.post(path + "/correct-meter", rev=rev.group(1), **typed).status_code == 303
    assert "M-REAL" in desk.get(path).text
    late = desk.post(path + "/correct-meter", rev=rev.group(1), **typed | {"asset_no": "M-OTHER"})
    assert late.status_code == 412
    assert desk.username in late.text and "It has changed meanwhile" in late.text
    assert 'value="M-OTHER"' in late.text and "M-REAL" in late.text
    for role in ("dispatcher", "auditor"):
        reader = Visitor(field.app, role)
        assert "put the record right" not in reader.get(path).text
        assert reader.post(path + "/correct-meter", rev="2", **typed).status_code == 403
    other = Visitor(field.app, "supervisor", [territories["B"]])
    assert other.post(path + "/correct-meter", rev="2", **typed).status_code == 404


def test_a_meter_is_entered_into_stock_once(field: Field, territories: dict[str, str]) -> None:
    desk = Visitor(field.app, "supervisor", [territories["A"]])
    made = desk.post("/meters", asset_no="NEW-1", digits="5")
    assert made.status_code == 303 and "NEW-1" in desk.get(made.location).text
    again = desk.post("/meters", asset_no="NEW-1", digits="5")
    assert again.status_code == 409 and "on record already" in again.text
    assert desk.post("/meters", asset_no=XSS, digits="many").status_code == 422
    assert "NEW-1" in Visitor(field.app, "dispatcher", [territories["B"]]).get("/meters?q=new&state=in_stock").text
    assert Visitor(field.app, "auditor").post("/meters", asset_no="NEW-2", digits="5").status_code == 403
