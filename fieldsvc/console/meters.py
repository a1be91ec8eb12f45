"""Meters: from stock to scrapping, what they read, and putting right which of them hangs where."""

from __future__ import annotations

from typing import Any

from flask import render_template, url_for
from flask_babel import gettext as _
from sqlalchemy import select

from fieldsvc.api import paging
from fieldsvc.api.records import BilledTo, MeterCorrection, MeterNew
from fieldsvc.api.schemas import Choice, Int, PageArgs, Text
from fieldsvc.base.clock import utc_now
from fieldsvc.base.db import db, reading, transaction
from fieldsvc.base.errors import FieldsvcError
from fieldsvc.console.customers import by_time, shown_usage_point
from fieldsvc.console.frame import (
    SUPERVISORS,
    Refused,
    actor,
    asked,
    choices,
    done,
    entered,
    form,
    further,
    page,
    pages,
    typed,
)
from fieldsvc.console.local_times import as_sent, in_words
from fieldsvc.console.words import word
from fieldsvc.history import page as history
from fieldsvc.records import importing, meters
from fieldsvc.records import pages as records
from fieldsvc.records.models import Customer, Meter, MeterInstallation, ServiceLocation, UsagePoint

STATES = ("in_stock", "installed", "removed", "scrapped")
_CHANGES = ("meter.corrected", "meter.exchanged")


class MetersShown(PageArgs):
    """Which meters: ``q`` is looked for in the asset number."""

    q = Text(60)
    state = Choice(*STATES)


class Correction(MeterCorrection, BilledTo):
    """The form: the registers one by one, and the revision of the usage point that the page showed."""

    class Meta(MeterCorrection.Meta):
        exclude = ("registers",)

    rev = Int(1, required=True)


@pages.get("/meters", endpoint="meters")
@page()
def meter_list() -> str:
    """Meters by asset number: those that hang in one's territories, and the stock."""
    return _listed({})


def _listed(faults: dict[str, str]) -> str:
    args = asked(MetersShown)
    with reading():
        query = records.found_meters(args.get("q"), args.get("state"), actor().scope)
        found = paging.fetch(query, (Meter.asset_no,), args, descending=False)
        return render_template(
            "meters.html",
            rows=found.rows,
            places=_places([row.id for row in found.rows]),
            next=further(found.next),
            asked=args,
            states=choices(STATES),
            faults=faults,
            typed=typed(),
        )


def _places(meter_ids: list[str]) -> dict[str, tuple[UsagePoint, Customer, str]]:
    """Where meters hang now, as far as it lies in one's territories: usage point, customer, address."""
    query = (
        select(MeterInstallation.meter_id, UsagePoint, Customer, ServiceLocation.address)
        .join(UsagePoint, UsagePoint.id == MeterInstallation.usage_point_id)
        .join(Customer, Customer.id == UsagePoint.customer_id)
        .join(ServiceLocation, ServiceLocation.id == UsagePoint.location_id)
        .where(MeterInstallation.meter_id.in_(meter_ids), MeterInstallation.removed_at.is_(None))
    )
    scope = actor().scope
    if scope is not None:
        query = query.where(ServiceLocation.territory_id.in_(sorted(scope)))
    return {ident: (point, customer, address) for ident, point, customer, address in db.session.execute(query)}


@pages.post("/meters")
@page(*SUPERVISORS)
def stock_meter() -> Any:
    """Enter a new meter into stock."""
    try:
        with form(MeterNew) as body, transaction():
            meter_id = importing.stock_meter(actor().source(utc_now()), body["asset_no"], body["digits"]).id
    except Refused as refused:
        faults = {"asset_no": refused.faults[""]} if "" in refused.faults else refused.faults
        return _listed(faults), refused.status
    return done(_("The meter is in stock."), url_for("console.meter", meter_id=meter_id))


@pages.get("/meters/<id:meter_id>", endpoint="meter")
@page()
def one_meter(meter_id: str) -> str:
    """Where a meter was when, what it read, its seals, and the defects where it hangs."""
    with reading():
        shown = records.meter(meter_id, actor().scope)
        now_at = shown["usage_point_id"]
        point = records.usage_point(now_at, actor().scope) if now_at else None
        readings = shown["readings"]
        return render_template(
            "meter.html",
            meter=shown,
            point=point,
            readings=by_time(readings),
            chart=_chart(readings["items"]),
            registers=[name for name in importing.REGISTERS if name in shown["registers"]],
        )


def _chart(readings: list[dict[str, Any]]) -> dict[str, Any]:
    """The readings as a chart wants them: the times, and per register the values at them, None where it was not read.

    Only values that count are drawn: posted ones.
    """
    posted = [row for row in readings if row["state"] == "posted"]
    times = sorted({row["read_at"] for row in posted})
    at = {(row["register"], row["read_at"]): float(row["value"]) for row in posted}
    registers = [name for name in importing.REGISTERS if any(row["register"] == name for row in posted)]
    lines = [{"label": str(word(name)), "values": [at.get((name, time)) for time in times]} for name in registers]
    return {"times": times, "lines": lines}


@pages.post("/usage-points/<id:usage_point_id>/correct-meter")
@page(*SUPERVISORS)
def correct_meter(usage_point_id: str) -> Any:
    """Put right which meter hangs at a usage point."""
    now = utc_now()
    try:
        with form(Correction, as_sent(Correction, entered(Correction))) as body, transaction() as session:
            records.usage_point(usage_point_id, actor().scope)
            point = session.get_one(UsagePoint, usage_point_id, with_for_update=True, populate_existing=True)
            _unchanged(point, body.pop("rev"))
            registers = {name: body.pop(name) for name in importing.REGISTERS if name in body}
            meters.correct(actor().source(now), point, registers=registers, **body)
    except Refused as refused:
        return shown_usage_point(usage_point_id, refused.faults, typed=typed()), refused.status
    return done(_("The record is put right."), url_for("console.usage_point", usage_point_id=usage_point_id))


def _unchanged(point: UsagePoint, shown_rev: int) -> None:
    """:raises FieldsvcError: somebody has changed the usage point since the page was made; says who, and what."""
    if point.rev == shown_rev:
        return
    last = history.latest(_CHANGES, 1, entity_id=point.id)
    text = _(
        "It has changed meanwhile. The page shows it as it is now, what you typed is kept: send it again if it holds."
    )
    if last:
        who, what = last[0].actor_name or word(last[0].actor_kind), word(last[0].action)
        text = _("%(who)s, %(when)s: %(what)s.", who=who, when=in_words(last[0].recorded_at), what=what) + " " + text
    raise FieldsvcError("precondition-failed", text)
