"""Who calls, from where: customers and usage points by whatever a caller can tell, told as far as it takes to recognise
them and no further.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Select, case, or_, select

from fieldsvc.base.db import db
from fieldsvc.records.models import Customer, Meter, MeterInstallation, ServiceLocation, UsagePoint
from fieldsvc.records.pages import found_customers

MOST = 8
"""Customers, and places, that are offered at once."""


@dataclass(frozen=True)
class Match:
    """A customer, or one usage point of a customer, as somebody who takes a call recognises it.

    ``phone`` is its last four signs. ``exact``: the text was its very number.
    """

    customer_id: str
    usage_point_id: str | None
    number: str
    name: str
    name_local: str | None
    phone: str | None
    address: str
    importance: str
    exact: bool


def recognised(text: str, scope: Collection[str] | None) -> list[Match]:
    """Those that ``text`` may mean, the likeliest first: by number, name or phone of a customer; by number, address or
    installed meter of a usage point. At most :data:`MOST` of each; none for a single Latin letter or digit.
    """
    text = text.strip()
    if len(text.encode()) < 2:
        return []
    rank = case((Customer.number == text, 0), (Customer.number.istartswith(text, autoescape=True), 1), else_=2)
    customers = db.session.scalars(found_customers(text, scope).order_by(rank, Customer.number).limit(MOST))
    found = [_match(customer, customer.location, None, text) for customer in customers]
    known = {match.customer_id for match in found}
    rows = db.session.execute(_points(text, scope).order_by(UsagePoint.number).limit(MOST)).all()
    found += [
        _match(customer, location, point, text)
        for point, location, customer in rows
        if customer.id not in known or location.id != customer.location_id
    ]
    return sorted(found, key=lambda match: not match.exact)


def chosen(
    customer_id: str | None, usage_point_id: str | None, scope: Collection[str] | None
) -> tuple[Match | None, list[UsagePoint]]:
    """A customer (or usage point) that was picked, and all usage points of the customer, at most :data:`MOST`; nothing
    for one that is unknown or lies outside of ``scope``.
    """
    point = db.session.get(UsagePoint, usage_point_id) if usage_point_id else None
    customer = db.session.get(Customer, point.customer_id if point else customer_id or "")
    if customer is None:
        return None, []
    location = db.session.get_one(ServiceLocation, point.location_id) if point else customer.location
    if scope is not None and location.territory_id not in scope:
        return None, []
    of_customer = select(UsagePoint).where(UsagePoint.customer_id == customer.id).order_by(UsagePoint.number)
    if scope is not None:
        of_customer = of_customer.join(ServiceLocation, ServiceLocation.id == UsagePoint.location_id)
        of_customer = of_customer.where(ServiceLocation.territory_id.in_(sorted(scope)))
    points = list(db.session.scalars(of_customer.limit(MOST)))
    return _match(customer, location, point, ""), points


def _points(text: str, scope: Collection[str] | None) -> Select[UsagePoint, ServiceLocation, Customer]:
    hangs = (
        select(MeterInstallation.usage_point_id)
        .join(Meter, Meter.id == MeterInstallation.meter_id)
        .where(MeterInstallation.removed_at.is_(None), Meter.asset_no == text)
    )
    query = (
        select(UsagePoint, ServiceLocation, Customer)
        .join(ServiceLocation, ServiceLocation.id == UsagePoint.location_id)
        .join(Customer, Customer.id == UsagePoint.customer_id)
        .where(
            or_(
                UsagePoint.number.icontains(text, autoescape=True),
                ServiceLocation.address.icontains(text, autoescape=True),
                UsagePoint.id.in_(hangs),
            )
        )
    )
    return query if scope is None else query.where(ServiceLocation.territory_id.in_(sorted(scope)))


def _match(customer: Customer, location: ServiceLocation, point: UsagePoint | None, text: str) -> Match:
    return Match(
        customer_id=customer.id,
        usage_point_id=point.id if point else None,
        number=point.number if point else customer.number,
        name=customer.name,
        name_local=customer.name_local,
        phone=customer.phone[-4:] if customer.phone else None,
        address=location.address,
        importance=customer.importance,
        exact=text.casefold() in (customer.number.casefold(), (point.number if point else "").casefold()),
    )
