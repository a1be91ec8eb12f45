"""Customer records: who, where, which meter when, and everything that happened there, in one answer."""

from __future__ import annotations

from typing import Any

import marshmallow as ma
from flask import g

from fieldsvc.api import access, etag, idempotency, paging
from fieldsvc.api.frame import Blueprint
from fieldsvc.api.jobs import Named, Position
from fieldsvc.api.schemas import (
    Choice,
    DecimalText,
    Flag,
    Ident,
    Int,
    JsonObject,
    Member,
    PageArgs,
    Schema,
    Text,
    UtcTime,
    page_of,
)
from fieldsvc.base.clock import utc_now
from fieldsvc.base.db import reading, transaction
from fieldsvc.geo.territories import SITE_CLASSES
from fieldsvc.records import importing, meters, pages
from fieldsvc.records.models import Customer, UsagePoint
from fieldsvc.work import queries

_ASSET, _ASSET_REASON = "^[0-9A-Za-z][0-9A-Za-z ./_-]*$", "letters, digits, blanks and . / _ - only"

blp = Blueprint("records", __name__, url_prefix="/v1", description="Customer records: customers, usage points, meters")


class Location(Schema):
    id = Ident(required=True)
    address = Text(300, min=0, required=True)
    position = Member(Position, allow_none=True, required=True)
    site_class = Choice(*SITE_CLASSES, required=True)
    territory = Member(Named, allow_none=True, required=True)
    source_crs = Text(40, required=True)
    source_xy = ma.fields.List(ma.fields.Raw(), allow_none=True, required=True)


class CustomerRow(Schema):
    id = Ident(required=True)
    number = Text(40, required=True)
    name = Text(200, required=True)
    name_local = Text(200, allow_none=True)
    customer_class = Text(40, required=True)
    importance = Choice(*importing.IMPORTANCE, required=True)
    phone = Text(40, allow_none=True)
    address = Text(300, min=0, required=True)
    location = Member(Location, required=True)
    rev = Int(required=True)


class UsagePointRow(Schema):
    id = Ident(required=True)
    number = Text(40, required=True)
    customer_id = Ident(required=True)
    connection_state = Text(20, required=True)
    transformer_area = Text(80, allow_none=True)
    feeder = Text(80, allow_none=True)
    voltage_level = Text(20, allow_none=True)
    rev = Int(required=True)


class Installation(Schema):
    id = Ident(required=True)
    meter_id = Ident(required=True)
    asset_no = Text(60, required=True)
    usage_point_id = Ident(required=True)
    usage_point_number = Text(40, required=True)
    installed_at = UtcTime(required=True)
    removed_at = UtcTime(allow_none=True, required=True)
    ct_ratio = DecimalText(required=True)
    pt_ratio = DecimalText(required=True)
    installed_by_job_id = Ident(allow_none=True)
    removed_by_job_id = Ident(allow_none=True)


class Reading(Schema):
    id = Ident(required=True)
    meter_id = Ident(required=True)
    asset_no = Text(60, required=True)
    read_at = UtcTime(required=True)
    reason = Text(20, required=True)
    register = Choice(*importing.REGISTERS, required=True)
    value = DecimalText(required=True)
    state = Choice("pending", "posted", "quarantined", "reversed", required=True)
    job_id = Ident(allow_none=True)
    op_id = Text(80, allow_none=True)


class SealRow(Schema):
    id = Ident(required=True)
    number = Text(60, required=True)
    kind = Text(40, allow_none=True)
    position = Text(60, allow_none=True)
    condition = Text(60, allow_none=True)
    meter_id = Ident(allow_none=True)
    usage_point_id = Ident(allow_none=True)
    fitted_at = UtcTime(allow_none=True)
    fitted_by_job_id = Ident(allow_none=True)
    removed_at = UtcTime(allow_none=True)
    removed_by_job_id = Ident(allow_none=True)


class DefectRow(Schema):
    id = Ident(required=True)
    usage_point_id = Ident(allow_none=True)
    job_id = Ident(required=True)
    item_code = Text(60, allow_none=True)
    description = Text(2000, min=0, required=True)
    grade_scheme = Text(20, required=True)
    grade = Text(20, required=True)
    found_at = UtcTime(required=True)
    deadline_at = UtcTime(allow_none=True)
    state = Choice("open", "closed", required=True)
    closed_at = UtcTime(allow_none=True)
    closed_by_job_id = Ident(allow_none=True)
    closing_note = Text(2000, min=0, allow_none=True)


class Contact(Schema):
    id = Ident(required=True)
    at = UtcTime(required=True)
    channel = Text(30, required=True)
    by = Text(120, allow_none=True)
    subject = Text(300, required=True)
    outcome = Text(2000, min=0, allow_none=True)
    job_id = Ident(allow_none=True)
    op_id = Text(80, allow_none=True)


class JobLine(Schema):
    id = Ident(required=True)
    number = Text(40, required=True)
    kind = Text(30, required=True)
    status = Text(30, required=True)
    priority = Int(required=True)
    title = Text(200, required=True)
    usage_point_id = Ident(allow_none=True)
    crew_id = Ident(allow_none=True)
    due_at = UtcTime(allow_none=True)
    completed_at = UtcTime(allow_none=True)
    created_at = UtcTime(required=True)
    result = JsonObject(allow_none=True)


def _listed(item: type[Schema]) -> Member:
    """The newest of a list, and whether there are more than are shown."""
    fields = {"items": ma.fields.List(Member(item), required=True), "more": Flag(required=True)}
    return Member(Schema.from_dict(fields, name=f"Latest{item.__name__}"), required=True)


class CustomerPage(CustomerRow):
    access_note = Text(1000, min=0, allow_none=True)
    notes = ma.fields.List(ma.fields.Raw(), required=True)
    inspection_cycle_months = Int(allow_none=True)
    last_inspected_at = UtcTime(allow_none=True, metadata={"description": "The last inspection that no job tells of."})
    created_at = UtcTime(required=True)
    usage_points = _listed(UsagePointRow)
    installations = _listed(Installation)
    readings = _listed(Reading)
    seals = _listed(SealRow)
    defects = _listed(DefectRow)
    jobs = _listed(JobLine)
    contacts = _listed(Contact)
    links = JsonObject(required=True)


class UsagePointPage(UsagePointRow):
    customer = Member(CustomerRow, required=True)
    location = Member(Location, required=True)
    installations = _listed(Installation)
    readings = _listed(Reading)
    seals = _listed(SealRow)
    defects = _listed(DefectRow)
    jobs = _listed(JobLine)


class MeterRow(Schema):
    id = Ident(required=True)
    asset_no = Text(60, required=True)
    digits = Int(1, 12, required=True)
    state = Choice("in_stock", "installed", "removed", "scrapped", required=True)
    rev = Int(required=True)


class MeterPage(MeterRow):
    usage_point_id = Ident(allow_none=True, required=True, metadata={"description": "Where it is installed now."})
    registers = JsonObject(required=True, metadata={"description": "Register → last posted value and its time."})
    installations = _listed(Installation)
    readings = _listed(Reading)
    seals = _listed(SealRow)


class CustomersArgs(PageArgs):
    q = Text(100, metadata={"description": "Looked for in number, names and phone."})


@blp.get("/customers")
@access.staff()
@blp.arguments(CustomersArgs, location="query")
@blp.response(200, page_of(CustomerRow))
@blp.errors("bad-cursor")
def list_customers(args: dict[str, Any]) -> Any:
    """Customers of your territories by number"""
    with reading():
        query = pages.found_customers(args.get("q"), g.actor.scope)
        page = paging.fetch(query, (Customer.number,), args, descending=False)
        body, headers = paging.answer(page, pages.customer_row)
    return body, 200, headers


@blp.get("/customers/<id:customer_id>")
@access.staff()
@blp.response(200, CustomerPage)
def get_customer(customer_id: str) -> Any:
    """Everything about one customer"""
    with reading():
        page = pages.customer(customer_id, g.actor.scope)
        page["jobs"] = queries.jobs_around(g.actor.scope, customer_id=customer_id, most=pages.MOST)
        page["links"] = {
            "jobs": f"/v1/jobs?customer={customer_id}",
            "history": f"/v1/history?customer={customer_id}",
            "tickets": f"/v1/tickets?customer={customer_id}",
        }
        return page, 200, etag.tag(page["rev"])


@blp.get("/usage-points/<id:usage_point_id>")
@access.staff()
@blp.response(200, UsagePointPage)
def get_usage_point(usage_point_id: str) -> Any:
    """Everything about one usage point"""
    with reading():
        page = pages.usage_point(usage_point_id, g.actor.scope)
        page["jobs"] = queries.jobs_around(g.actor.scope, usage_point_id=usage_point_id, most=pages.MOST)
        return page, 200, etag.tag(page["rev"])


@blp.get("/meters/<id:meter_id>")
@access.staff()
@blp.response(200, MeterPage)
def get_meter(meter_id: str) -> Any:
    """Where a meter was when, and what it read"""
    with reading():
        page = pages.meter(meter_id, g.actor.scope)
        return page, 200, etag.tag(page["rev"])


class BilledTo(Schema):
    total = DecimalText(required=True)
    sharp = DecimalText()
    peak = DecimalText()
    flat = DecimalText()
    valley = DecimalText()


class MeterCorrection(Schema):
    asset_no = Text(60, pattern=_ASSET, reason=_ASSET_REASON, required=True)
    digits = Int(1, 12, load_default=6, metadata={"description": "Of a meter that is not on record yet."})
    registers = Member(BilledTo, required=True, metadata={"description": "The values it is billed to."})
    read_at = UtcTime(required=True)
    note = Text(2000, required=True, metadata={"description": "How it is known; the history keeps it."})


@blp.post("/usage-points/<id:usage_point_id>/correct-meter")
@access.staff(*access.SUPERVISORS)
@blp.arguments(MeterCorrection)
@blp.response(200, UsagePointPage)
@blp.errors("conflict")
def correct_meter(body: dict[str, Any], usage_point_id: str) -> Any:
    """Put right which meter hangs at a usage point

    For a meter that was wrong on record. An exchange that was parked as `wrong_meter` can be applied afterwards.
    """
    with transaction() as session:
        pages.usage_point(usage_point_id, g.actor.scope)
        usage_point = session.get_one(UsagePoint, usage_point_id, with_for_update=True, populate_existing=True)
        meters.correct(g.actor.source(utc_now()), usage_point, **body)
        session.flush()
        page = pages.usage_point(usage_point_id, g.actor.scope)
        page["jobs"] = queries.jobs_around(g.actor.scope, usage_point_id=usage_point_id, most=pages.MOST)
        return page, 200, etag.tag(page["rev"])


class MeterNew(Schema):
    asset_no = Text(60, pattern=_ASSET, reason=_ASSET_REASON, required=True)
    digits = Int(1, 12, load_default=6, metadata={"description": "Digits of a register before the point."})


@blp.post("/meters")
@access.staff(*access.SUPERVISORS)
@idempotency.creates
@blp.arguments(MeterNew)
@blp.response(201, MeterRow)
@blp.errors("already-exists")
def stock_meter(body: dict[str, Any]) -> Any:
    """Enter a new meter into stock"""
    meter = importing.stock_meter(g.actor.source(utc_now()), body["asset_no"], body["digits"])
    return pages.meter_row(meter), 201, {"Location": f"/v1/meters/{meter.id}", **etag.tag(meter.rev)}
