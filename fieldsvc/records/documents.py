"""Customer records as a device holds them: JSON-ready documents for the feed."""

from __future__ import annotations

from typing import Any

from sqlalchemy import func, select

from fieldsvc.base.db import db
from fieldsvc.base.plain import plain
from fieldsvc.records.models import Customer, Defect, MeterInstallation, MeterReading, Seal, UsagePoint


def customer_doc(customer: Customer) -> dict[str, Any]:
    """Who lives there and how to reach them: only what a crew at the gate needs."""
    fields = "id number name name_local customer_class importance phone access_note notes rev".split()
    doc: dict[str, Any] = {name: plain(getattr(customer, name)) for name in fields}
    doc["address"] = customer.location.address
    return doc


def usage_point_doc(usage_point: UsagePoint, installation: MeterInstallation | None) -> dict[str, Any]:
    """A usage point with the asset number of the meter on record, if there is one."""
    fields = "id number customer_id connection_state transformer_area feeder voltage_level rev".split()
    doc: dict[str, Any] = {name: plain(getattr(usage_point, name)) for name in fields}
    doc["meter_asset_no"] = installation.meter.asset_no if installation else None
    return doc


def meter_doc(installation: MeterInstallation) -> dict[str, Any]:
    """The meter as installed, with the last posted value of each register."""
    meter = installation.meter
    return {
        "id": meter.id,
        "asset_no": meter.asset_no,
        "digits": meter.digits,
        "state": meter.state,
        "usage_point_id": installation.usage_point_id,
        "installed_at": plain(installation.installed_at),
        "ct_ratio": plain(installation.ct_ratio),
        "pt_ratio": plain(installation.pt_ratio),
        "registers": {
            reading.register: {"value": plain(reading.value), "read_at": plain(reading.read_at)}
            for reading in last_readings(meter.id)
        },
        "rev": meter.rev,
    }


def seal_doc(seal: Seal) -> dict[str, Any]:
    return {
        name: plain(getattr(seal, name))
        for name in "id number kind position condition meter_id usage_point_id fitted_at removed_at rev".split()
    }


def defect_doc(defect: Defect) -> dict[str, Any]:
    return {
        name: plain(getattr(defect, name))
        for name in (
            "id customer_id usage_point_id job_id item_code description grade_scheme grade found_at deadline_at state "
            "closed_at closing_note rev"
        ).split()
    }


def last_readings(meter_id: str) -> list[MeterReading]:
    """The newest posted reading of each register of a meter."""
    newest = (
        select(MeterReading.register, func.max(MeterReading.read_at).label("read_at"))
        .where(MeterReading.meter_id == meter_id, MeterReading.state == "posted")
        .group_by(MeterReading.register)
        .subquery()
    )
    rows = db.session.scalars(
        select(MeterReading)
        .join(newest, (MeterReading.register == newest.c.register) & (MeterReading.read_at == newest.c.read_at))
        .where(MeterReading.meter_id == meter_id, MeterReading.state == "posted")
        .order_by(MeterReading.register, MeterReading.id)
    )
    return list({reading.register: reading for reading in rows}.values())
