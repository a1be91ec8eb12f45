"""The record of a customer, a usage point or a meter as one answer a person can read: who, where, which meter when.

Lists are cut at :data:`MOST` newest entries, each with ``more`` saying whether there are older ones. What is visible is
decided by the territory of the service location. Jobs are added by the caller: they belong to the room above.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Select, func, or_, select

from fieldsvc.base.db import db
from fieldsvc.base.errors import NotFound
from fieldsvc.base.plain import plain
from fieldsvc.people.models import Territory
from fieldsvc.records.documents import last_readings
from fieldsvc.records.models import (
    Customer,
    Defect,
    Meter,
    MeterInstallation,
    MeterReading,
    Seal,
    ServiceLocation,
    ServiceRecord,
    UsagePoint,
)

MOST = 50

Listed = dict[str, Any]
"""``{"items": [...], "more": bool}``"""


def found_customers(text: str | None, scope: Collection[str] | None) -> Select[Customer]:
    """Customers whose number, name or phone holds ``text`` (all of them without one), to be ordered and paged.

    A phone is found however it was typed: digits are compared, not the signs between them.
    """
    query = select(Customer).join(ServiceLocation, ServiceLocation.id == Customer.location_id)
    if scope is not None:
        query = query.where(ServiceLocation.territory_id.in_(sorted(scope)))
    if text:
        columns = (Customer.number, Customer.name, Customer.name_local, Customer.phone)
        found = [column.icontains(text, autoescape=True) for column in columns]
        digits = re.sub(r"[ ()./-]", "", text)
        if re.fullmatch(r"\+?[0-9]{4,20}", digits):
            bare: Any = Customer.phone
            for sign in " ()./-":
                bare = func.replace(bare, sign, "")
            found.append(bare.contains(digits, autoescape=True))
        query = query.where(or_(*found))
    return query


def found_meters(text: str | None, state: str | None, scope: Collection[str] | None) -> Select[Meter]:
    """Meters whose asset number holds ``text`` (all of them without one), as far as :func:`meter` shows them, to be
    ordered and paged.
    """
    query = select(Meter)
    if text:
        query = query.where(Meter.asset_no.icontains(text, autoescape=True))
    if state is not None:
        query = query.where(Meter.state == state)
    if scope is not None:
        placed = select(MeterInstallation.id).where(MeterInstallation.meter_id == Meter.id)
        inside = (
            placed.join(UsagePoint, UsagePoint.id == MeterInstallation.usage_point_id)
            .join(ServiceLocation, ServiceLocation.id == UsagePoint.location_id)
            .where(ServiceLocation.territory_id.in_(sorted(scope)))
        )
        query = query.where(or_(~placed.exists(), inside.exists()))
    return query


def customer_row(customer: Customer) -> dict[str, Any]:
    """A customer in a list."""
    fields = "id number name name_local customer_class importance phone rev".split()
    return _plain(customer, fields) | {"address": customer.location.address, "location": _location(customer.location)}


def customer(customer_id: str, scope: Collection[str] | None) -> dict[str, Any]:
    """Everything on record about a customer, but the jobs.

    :raises NotFound: there is none, or it lies outside of the reader's territories.
    """
    found = db.session.get(Customer, customer_id)
    if found is None or not _within(found.location, scope):
        raise NotFound("customer", customer_id)
    points = list(
        db.session.scalars(
            select(UsagePoint).where(UsagePoint.customer_id == found.id).order_by(UsagePoint.number).limit(MOST + 1)
        )
    )
    ids = [point.id for point in points[:MOST]]
    page = customer_row(found) | _plain(
        found, "access_note notes inspection_cycle_months last_inspected_at created_at".split()
    )
    return page | {
        "usage_points": _listed([_usage_point(point) for point in points]),
        "installations": _installations(MeterInstallation.usage_point_id.in_(ids)),
        "readings": _readings(MeterReading.usage_point_id.in_(ids)),
        "seals": _seals(Seal.usage_point_id.in_(ids)),
        "defects": _defects(or_(Defect.customer_id == found.id, Defect.usage_point_id.in_(ids))),
        "contacts": _contacts(found.id),
    }


def usage_point(usage_point_id: str, scope: Collection[str] | None) -> dict[str, Any]:
    """Everything on record about a usage point, but the jobs; :raises NotFound: as :func:`customer`."""
    found = db.session.get(UsagePoint, usage_point_id)
    location = db.session.get(ServiceLocation, found.location_id) if found else None
    if found is None or location is None or not _within(location, scope):
        raise NotFound("usage point", usage_point_id)
    return _usage_point(found) | {
        "location": _location(location),
        "customer": customer_row(db.session.get_one(Customer, found.customer_id)),
        "installations": _installations(MeterInstallation.usage_point_id == found.id),
        "readings": _readings(MeterReading.usage_point_id == found.id),
        "seals": _seals(Seal.usage_point_id == found.id),
        "defects": _defects(Defect.usage_point_id == found.id),
    }


def meter(meter_id: str, scope: Collection[str] | None) -> dict[str, Any]:
    """A meter from stock to scrapping: where it was, what it read, its seals.

    With a scope, a meter is visible where one of its installations is, and only what belongs to places inside of it is
    shown; one that never left stock is nobody's place and visible to all.

    :raises NotFound: there is none, or it hangs outside of the reader's territories.
    """
    found = db.session.get(Meter, meter_id)
    if found is None:
        raise NotFound("meter", meter_id)
    places = set(
        db.session.scalars(
            select(ServiceLocation.territory_id)
            .join(UsagePoint, UsagePoint.location_id == ServiceLocation.id)
            .join(MeterInstallation, MeterInstallation.usage_point_id == UsagePoint.id)
            .where(MeterInstallation.meter_id == found.id)
        )
    )
    if scope is not None and places and places.isdisjoint(scope):
        raise NotFound("meter", meter_id)
    installations = _installations(MeterInstallation.meter_id == found.id, scope)
    now_at = next((i["usage_point_id"] for i in installations["items"] if i["removed_at"] is None), None)
    newest = last_readings(found.id) if scope is None or now_at is not None else []
    inside = (
        select(UsagePoint.id)
        .join(ServiceLocation, ServiceLocation.id == UsagePoint.location_id)
        .where(ServiceLocation.territory_id.in_(sorted(scope or ())))
    )
    return meter_row(found) | {
        "usage_point_id": now_at,
        "registers": {r.register: {"value": plain(r.value), "read_at": plain(r.read_at)} for r in newest},
        "installations": installations,
        "readings": _readings(
            MeterReading.meter_id == found.id, *([MeterReading.usage_point_id.in_(inside)] if scope is not None else [])
        ),
        "seals": _seals(Seal.meter_id == found.id, *([Seal.usage_point_id.in_(inside)] if scope is not None else [])),
    }


def meter_row(found: Meter) -> dict[str, Any]:
    """The meter itself."""
    return _plain(found, "id asset_no digits state rev".split())


def _plain(row: object, fields: Iterable[str]) -> dict[str, Any]:
    return {name: plain(getattr(row, name)) for name in fields}


def _listed(items: Sequence[Mapping[str, Any]]) -> Listed:
    return {"items": list(items[:MOST]), "more": len(items) > MOST}


def _within(location: ServiceLocation, scope: Collection[str] | None) -> bool:
    return scope is None or location.territory_id in scope


def _location(location: ServiceLocation) -> dict[str, Any]:
    territory = db.session.get(Territory, location.territory_id) if location.territory_id else None
    place = location.lon is not None and location.lat is not None
    return {
        "id": location.id,
        "address": location.address,
        "position": {"type": "Point", "coordinates": [location.lon, location.lat]} if place else None,
        "site_class": location.site_class,
        "territory": {"id": territory.id, "code": territory.code, "name": territory.name} if territory else None,
        "source_crs": location.source_crs,
        "source_xy": location.source_xy,
    }


def _usage_point(found: UsagePoint) -> dict[str, Any]:
    fields = "id number customer_id connection_state transformer_area feeder voltage_level rev".split()
    return _plain(found, fields)


def _installations(where: Any, scope: Collection[str] | None = None) -> Listed:
    """Newest first, the open ones before all others; with a scope only those at places inside of it."""
    query = (
        select(MeterInstallation, UsagePoint.number)
        .join(UsagePoint, UsagePoint.id == MeterInstallation.usage_point_id)
        .where(where)
        .order_by(MeterInstallation.removed_at.is_(None).desc(), MeterInstallation.installed_at.desc())
        .limit(MOST + 1)
    )
    if scope is not None:
        query = query.join(ServiceLocation, ServiceLocation.id == UsagePoint.location_id)
        query = query.where(ServiceLocation.territory_id.in_(sorted(scope)))
    fields = "id meter_id usage_point_id installed_at removed_at ct_ratio pt_ratio".split()
    fields += ["installed_by_job_id", "removed_by_job_id"]
    return _listed(
        [
            _plain(found, fields) | {"asset_no": found.meter.asset_no, "usage_point_number": number}
            for found, number in db.session.execute(query)
        ]
    )


def _readings(*where: Any) -> Listed:
    query = (
        select(MeterReading, Meter.asset_no)
        .join(Meter, Meter.id == MeterReading.meter_id)
        .where(*where)
        .order_by(MeterReading.read_at.desc(), MeterReading.id.desc())
        .limit(MOST + 1)
    )
    fields = "id meter_id read_at reason register value state job_id op_id".split()
    return _listed([_plain(found, fields) | {"asset_no": asset_no} for found, asset_no in db.session.execute(query)])


def _seals(*where: Any) -> Listed:
    query = select(Seal).where(*where).order_by(Seal.removed_at.is_(None).desc(), Seal.id.desc()).limit(MOST + 1)
    fields = "id number kind position condition meter_id usage_point_id fitted_at fitted_by_job_id removed_at".split()
    return _listed([_plain(found, [*fields, "removed_by_job_id"]) for found in db.session.scalars(query)])


def _defects(where: Any) -> Listed:
    query = select(Defect).where(where).order_by((Defect.state == "open").desc(), Defect.id.desc()).limit(MOST + 1)
    fields = (
        "id usage_point_id job_id item_code description grade_scheme grade found_at deadline_at state closed_at "
        "closed_by_job_id closing_note"
    ).split()
    return _listed([_plain(found, fields) for found in db.session.scalars(query)])


def _contacts(customer_id: str) -> Listed:
    query = (
        select(ServiceRecord)
        .where(ServiceRecord.customer_id == customer_id)
        .order_by(ServiceRecord.at.desc(), ServiceRecord.id.desc())
        .limit(MOST + 1)
    )
    fields = "id at channel by subject outcome job_id op_id".split()
    return _listed([_plain(found, fields) for found in db.session.scalars(query)])
