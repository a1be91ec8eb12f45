"""Customers: changing what is on file, field by field, with the revision at which each was last changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import select

from fieldsvc.base.db import db
from fieldsvc.base.errors import NotFound
from fieldsvc.base.plain import plain
from fieldsvc.feed import publish
from fieldsvc.history.record import Source, record
from fieldsvc.records.documents import customer_doc
from fieldsvc.records.models import Customer


def lock(customer_id: str) -> Customer:
    """The customer, its row held until the transaction ends.

    :raises NotFound: there is none.
    """
    customer = db.session.scalar(select(Customer).where(Customer.id == customer_id).with_for_update(of=Customer))
    if customer is None:
        raise NotFound("customer", customer_id)
    return customer


def apply(
    source: Source, customer: Customer, action: str, fields: Mapping[str, Any], *, note: str | None = None
) -> None:
    """Set ``fields`` as one new revision, with one history entry, and show it to every crew that holds the customer."""
    changed = {name: value for name, value in fields.items() if getattr(customer, name) != value}
    if not changed:
        return
    before = {name: plain(getattr(customer, name)) for name in changed}
    customer.rev += 1
    for name, value in changed.items():
        setattr(customer, name, value)
    made = [customer.rev, source.mark, plain(source.at)]
    customer.field_revs = {**customer.field_revs, **dict.fromkeys(changed, made)}
    record(
        source,
        action,
        "customer",
        customer.id,
        before=before,
        after={name: plain(getattr(customer, name)) for name in changed},
        customer_id=customer.id,
        territory_id=customer.location.territory_id,
        note=note,
    )
    publish.refresh("customer", customer.id, customer.rev, customer_doc(customer))
