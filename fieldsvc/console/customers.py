"""Customers and usage points: found, and shown with everything that is on record about them.

What staff may put right here is what the API lets them: the meter that hangs at a usage point (see ``meters``).
"""

from __future__ import annotations

from typing import Any

from flask import render_template
from sqlalchemy import select

from fieldsvc.api import paging
from fieldsvc.api.schemas import PageArgs, Text
from fieldsvc.base.db import db, reading
from fieldsvc.console.frame import actor, asked, further, page, pages
from fieldsvc.records import pages as records
from fieldsvc.records.importing import REGISTERS
from fieldsvc.records.models import Customer
from fieldsvc.records.pages import Listed
from fieldsvc.work import change, queries
from fieldsvc.work.models import CommitmentClock, Job, Ticket

_TICKETS = 20


class CustomersShown(PageArgs):
    """Which customers: ``q`` is looked for in number, names and phone."""

    q = Text(100)


@pages.get("/customers", endpoint="customers")
@page()
def customer_list() -> str:
    """Customers of one's territories by number."""
    args = asked(CustomersShown)
    with reading():
        query = records.found_customers(args.get("q"), actor().scope)
        found = paging.fetch(query, (Customer.number,), args, descending=False)
        rows = [records.customer_row(row) for row in found.rows]
        return render_template("customers.html", rows=rows, next=further(found.next), asked=args)


@pages.get("/customers/<id:customer_id>", endpoint="customer")
@page()
def one_customer(customer_id: str) -> str:
    """Everything about one customer."""
    with reading():
        shown = records.customer(customer_id, actor().scope)
        calls = queries.tickets(actor().scope, customer_id=customer_id)
        return render_template(
            "customer.html",
            customer=shown,
            readings=by_time(shown["readings"]),
            jobs=queries.jobs_around(actor().scope, customer_id=customer_id, most=records.MOST),
            tickets=list(db.session.scalars(calls.order_by(Ticket.received_at.desc()).limit(_TICKETS))),
            promises=_promises(Job.customer_id == customer_id),
        )


@pages.get("/usage-points/<id:usage_point_id>", endpoint="usage_point")
@page()
def one_usage_point(usage_point_id: str) -> str:
    """Everything about one usage point."""
    return shown_usage_point(usage_point_id, {})


def shown_usage_point(usage_point_id: str, faults: dict[str, str], **more: Any) -> str:
    """The page of a usage point; ``faults`` and ``more`` are of the form on it."""
    with reading():
        point = records.usage_point(usage_point_id, actor().scope)
        return render_template(
            "usage_point.html",
            point=point,
            readings=by_time(point["readings"]),
            jobs=queries.jobs_around(actor().scope, usage_point_id=usage_point_id, most=records.MOST),
            promises=_promises(Job.usage_point_id == usage_point_id),
            faults=faults,
            **more,
        )


def by_time(readings: Listed) -> Listed:
    """Readings with all registers that were read together in one row: ``values`` is register → value."""
    rows: dict[tuple[Any, ...], dict[str, Any]] = {}
    shared = "read_at asset_no meter_id reason state job_id".split()
    for one in readings["items"]:
        row = rows.setdefault(
            tuple(one[name] for name in shared), {name: one[name] for name in shared} | {"readings": {}}
        )
        row["readings"][one["register"]] = one["value"]
    registers = [name for name in REGISTERS if any(name in row["readings"] for row in rows.values())]
    return {"items": list(rows.values()), "more": readings["more"], "registers": registers}


def _promises(whose: Any) -> list[tuple[CommitmentClock, Job]]:
    """The promises that run, of jobs one may see, the first due first."""
    query = (
        select(CommitmentClock, Job)
        .join(Job, Job.id == CommitmentClock.job_id)
        .where(whose, CommitmentClock.verdict == "running", Job.status.not_in(change.ENDED))
        .order_by(CommitmentClock.due_at, CommitmentClock.id)
    )
    scope = actor().scope
    if scope is not None:
        query = query.where(Job.territory_id.in_(sorted(scope)))
    return [(clock, job) for clock, job in db.session.execute(query.limit(20))]
