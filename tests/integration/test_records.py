"""Customer records: one answer a person can read, and nothing of other territories."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import select

from fieldsvc.base.clock import utc_now
from fieldsvc.base.db import transaction
from fieldsvc.kinds.base import CloseDefect, ExchangeMeter, OpenDefect
from fieldsvc.people.actors import SYSTEM
from fieldsvc.records import contacts, defects, meters
from fieldsvc.records.models import UsagePoint
from tests.factories import make_staff, make_territories
from tests.integration.test_imports import CUSTOMERS, customer, import_customers
from tests.integration.test_jobs import make, problem


@pytest.fixture
def exchanged(app: Flask) -> dict[str, Any]:
    """Customer C-1 after a meter change with seals and an inspection with two defects; ids by name."""
    ids = make_territories(app)
    client = make_staff(app)
    import_customers(app, CUSTOMERS)
    page = customer(client, "C-1")
    point = page["usage_points"]["items"][0]["id"]
    job = make(client, kind="meter_change", usage_point_id=point)
    now = utc_now()
    source = SYSTEM.source(now)
    context = {"job_id": job["id"], "customer_id": page["id"], "territory_id": ids["A"]}
    act = ExchangeMeter(
        old_asset_no="M-1",
        new_asset_no="M-NEW",
        at=now,
        digits=6,
        ct_ratio=1,
        pt_ratio=1,
        final={"total": Decimal("48300.2")},
        initial={"total": Decimal("0.0")},
        energy={"total": "86.6"},
    )
    with app.app_context(), transaction() as session:
        usage_point = session.scalars(select(UsagePoint).where(UsagePoint.id == point)).one()
        meters.exchange(source, usage_point, act, context)
        meters.fit_seals(source, usage_point, [{"number": "S-1", "position": "cover"}], now, context)
        for text in ("loose clamp", "no cover"):
            found = OpenDefect("clamp", text, "grid", "serious", now, now + timedelta(days=30))
            defect = defects.open_defect(source, found, context, point)
        session.flush()
        defects.close_defect(source, CloseDefect(defect.id, "put right"), now, context)
        contacts.add(source, page["id"], channel="visit", subject="Meter changed", at=now, job_id=job["id"])
    return {"customer": page["id"], "point": point, "job": job["id"], "territories": ids}


def test_a_customers_page_tells_who_where_which_meter_when_and_what_happened(
    app: Flask, exchanged: dict[str, Any]
) -> None:
    client = make_staff(app)
    answer = client.get(f"/v1/customers/{exchanged['customer']}")
    page = answer.json
    assert answer.headers["ETag"] == f'"{page["rev"]}"'
    assert (page["number"], page["name"], page["address"]) == ("C-1", "Household 1", "East lane 1")
    assert page["location"]["territory"]["code"] == "A"
    new, old = page["installations"]["items"]
    assert (new["asset_no"], new["removed_at"]) == ("M-NEW", None)
    assert (old["asset_no"], old["removed_at"]) == ("M-1", new["installed_at"])
    assert new["installed_by_job_id"] == old["removed_by_job_id"] == exchanged["job"]
    readings = {(r["asset_no"], r["reason"]): r["value"] for r in page["readings"]["items"] if r["register"] == "total"}
    assert readings == {("M-NEW", "initial"): "0.0", ("M-1", "final"): "48300.2", ("M-1", "import"): "48213.6"}
    assert [seal["number"] for seal in page["seals"]["items"]] == ["S-1"]
    assert [(d["description"], d["state"]) for d in page["defects"]["items"]] == [
        ("loose clamp", "open"),
        ("no cover", "closed"),
    ]
    assert [contact["subject"] for contact in page["contacts"]["items"]] == ["Meter changed"]
    assert [job["id"] for job in page["jobs"]["items"]] == [exchanged["job"]]
    assert client.get(page["links"]["history"]).json["items"][0]["customer_id"] == page["id"]
    assert [job["id"] for job in client.get(page["links"]["jobs"]).json["items"]] == [exchanged["job"]]


def test_a_usage_points_and_a_meters_page_tell_the_same_story(app: Flask, exchanged: dict[str, Any]) -> None:
    client = make_staff(app)
    page = client.get(f"/v1/usage-points/{exchanged['point']}").json
    assert (page["number"], page["customer"]["number"]) == ("U-1", "C-1")
    assert [i["asset_no"] for i in page["installations"]["items"]] == ["M-NEW", "M-1"]
    assert [job["id"] for job in page["jobs"]["items"]] == [exchanged["job"]]
    new, old = (client.get(f"/v1/meters/{i['meter_id']}").json for i in page["installations"]["items"])
    assert (new["state"], new["usage_point_id"]) == ("installed", exchanged["point"])
    assert new["registers"]["total"]["value"] == "0.0"
    assert [seal["number"] for seal in new["seals"]["items"]] == ["S-1"]
    assert (old["state"], old["usage_point_id"]) == ("removed", None)
    assert old["registers"]["total"]["value"] == "48300.2"


def test_importing_the_first_file_again_after_an_exchange_does_not_undo_it(
    app: Flask, exchanged: dict[str, Any]
) -> None:
    outcome = import_customers(app, CUSTOMERS)
    assert (outcome.created, outcome.updated, outcome.unchanged, outcome.refused) == (0, 0, 3, [])


def test_long_lists_are_cut_and_say_so(app: Flask) -> None:
    client = make_staff(app)
    import_customers(app, "number,name\nC-1,Household\n")
    page = customer(client, "C-1")
    with app.app_context(), transaction():
        for number in range(51):
            contacts.add(SYSTEM.source(utc_now()), page["id"], channel="call", subject=f"Call {number}", at=utc_now())
    shown = customer(client, "C-1")["contacts"]
    assert len(shown["items"]) == 50 and shown["more"] and shown["items"][0]["subject"] == "Call 50"
    assert not customer(client, "C-1")["jobs"]["more"]


def test_customers_are_found_by_number_name_and_phone_page_by_page(app: Flask) -> None:
    client = make_staff(app)
    import_customers(
        app, "number,name,name_local,phone\n1001,Mill,磨坊,555 0100\n1002,School,学校,555 0199\n2001,Shop 50%,店,\n"
    )

    def found(query: str) -> list[str]:
        return [row["number"] for row in client.get(f"/v1/customers?{query}").json["items"]]

    assert found("") == ["1001", "1002", "2001"]
    assert found("q=100") == ["1001", "1002"]
    assert found("q=mILL") == ["1001"]
    assert found("q=学校") == ["1002"]
    assert found("q=0199") == ["1002"]
    assert found("q=%25") == ["2001"]
    first = client.get("/v1/customers?limit=2")
    assert [row["number"] for row in first.json["items"]] == ["1001", "1002"]
    assert found(f"limit=2&cursor={first.json['next']}") == ["2001"]


def test_records_of_other_territories_are_not_there(app: Flask, exchanged: dict[str, Any]) -> None:
    mine = make_staff(app, "dispatcher", [exchanged["territories"]["B"]])
    theirs = make_staff(app, "dispatcher", [exchanged["territories"]["A"]])
    meter = theirs.get(f"/v1/customers/{exchanged['customer']}").json["installations"]["items"][0]["meter_id"]
    for path in (f"customers/{exchanged['customer']}", f"usage-points/{exchanged['point']}", f"meters/{meter}"):
        assert problem(mine.get(f"/v1/{path}")) == (404, "not-found")
        assert theirs.get(f"/v1/{path}").status_code == 200
    assert [row["number"] for row in mine.get("/v1/customers").json["items"]] == ["C-2"]
    for path in ("customers", "usage-points", "meters"):
        assert problem(mine.get(f"/v1/{path}/nobody")) == (404, "not-found")


def test_a_meter_that_moved_on_shows_each_territory_its_own_time_with_it(app: Flask, exchanged: dict[str, Any]) -> None:
    now = utc_now() + timedelta(hours=1)
    with app.app_context(), transaction() as session:
        usage_point = session.scalars(select(UsagePoint).where(UsagePoint.number == "U-2")).one()
        act = ExchangeMeter(
            old_asset_no="M-2",
            new_asset_no="M-1",
            at=now,
            digits=6,
            ct_ratio=1,
            pt_ratio=1,
            final={"total": Decimal(500)},
            initial={"total": Decimal("48300.2")},
            energy={},
        )
        meters.exchange(SYSTEM.source(now), usage_point, act, {})
    before = make_staff(app, "dispatcher", [exchanged["territories"]["A"]])
    after = make_staff(app, "dispatcher", [exchanged["territories"]["B"]])
    moved = next(
        i["meter_id"]
        for i in before.get(f"/v1/customers/{exchanged['customer']}").json["installations"]["items"]
        if i["asset_no"] == "M-1"
    )
    seen = {name: who.get(f"/v1/meters/{moved}").json for name, who in (("before", before), ("after", after))}
    assert {r["reason"] for r in seen["before"]["readings"]["items"]} == {"import", "final"}
    assert {r["reason"] for r in seen["after"]["readings"]["items"]} == {"initial"}
    assert seen["before"]["registers"] == {} and seen["before"]["usage_point_id"] is None
    assert seen["after"]["registers"]["total"]["value"] == "48300.2"
    assert len(make_staff(app).get(f"/v1/meters/{moved}").json["readings"]["items"]) > 3


def test_a_supervisor_enters_new_meters_into_stock_once(app: Flask) -> None:
    client = make_staff(app, "supervisor")
    made = client.post("/v1/meters", json={"asset_no": "N-100", "digits": 5})
    assert made.status_code == 201 and made.json["state"] == "in_stock" and made.json["digits"] == 5
    page = client.get(made.headers["Location"]).json
    assert page["usage_point_id"] is None and page["installations"] == {"items": [], "more": False}
    assert problem(client.post("/v1/meters", json={"asset_no": "N-100"})) == (409, "already-exists")
    assert problem(client.post("/v1/meters", json={"asset_no": "N-101", "digits": 13})) == (422, "invalid")
    assert problem(make_staff(app, "dispatcher").post("/v1/meters", json={"asset_no": "N-102"})) == (403, "forbidden")


def test_what_a_person_changed_since_a_file_leaves_alone(app: Flask) -> None:
    from fieldsvc.records import customers

    client = make_staff(app)
    text = "number,name,phone\nC-1,Household,555 0100\n"
    import_customers(app, text)
    with app.app_context(), transaction():
        found = customers.lock(customer(client, "C-1")["id"])
        customers.apply(SYSTEM.source(utc_now()), found, "customer.changed", {"phone": "555 0111"})
    assert import_customers(app, text).unchanged == 1
    assert customer(client, "C-1")["phone"] == "555 0111"
    assert import_customers(app, text.replace("Household", "House")).updated == 1
    assert (customer(client, "C-1")["name"], customer(client, "C-1")["phone"]) == ("House", "555 0111")
