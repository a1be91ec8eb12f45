"""Inspections that fall due: whose is due by a day, and the jobs made of it ahead of time.

Due is a customer a cycle after the last inspection on record; before the first, after the day the customer was taken on
file. The cycle is the customer's own, else the strictest the rules have for any of its usage points. A newly supplied
customer is visited within the days that are promised. All reckoning is in whole local days.

A job is made some weeks ahead with its due day as the only bound, so that it can be done when a crew is near anyway. No
customer ever has two at a time, and one that a dispatcher has cancelled is not made again by itself.
"""

from __future__ import annotations

import calendar
from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, tzinfo
from typing import Any

from sqlalchemy import ColumnElement, Integer, and_, case, cast, exists, func, null, or_, select
from sqlalchemy.exc import IntegrityError

from fieldsvc import kinds, rules
from fieldsvc.base.db import among, db
from fieldsvc.base.errors import Conflict
from fieldsvc.history.record import Source
from fieldsvc.kinds.base import Kind
from fieldsvc.records.models import Customer, MeterInstallation, ServiceLocation, UsagePoint
from fieldsvc.work import change, jobs
from fieldsvc.work.bulk import store_all
from fieldsvc.work.models import Job, Routine

AT_ONCE = 200
"""Jobs made in one transaction; the sweep comes again."""
EVERY = timedelta(days=1)
_ROUTINE = "inspections"


@dataclass(frozen=True)
class Due:
    """One inspection that falls due. ``reason``: ``cycle`` or ``new_supply``; ``months``: None for the latter."""

    customer: Customer
    location: ServiceLocation
    usage_point_id: str | None
    reason: str
    since: date
    months: int | None
    due_on: date

    def row(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "customer_id": self.customer.id,
            "customer_number": self.customer.number,
            "customer_name": self.customer.name,
            "customer_class": self.customer.customer_class,
            "importance": self.customer.importance,
            "territory_id": self.location.territory_id,
            "usage_point_id": self.usage_point_id,
            "reason": self.reason,
            "since": self.since.isoformat(),
            "cycle_months": self.months,
            "due_on": self.due_on.isoformat(),
        }


def due_by(
    until: date,
    today: date,
    zone: tzinfo,
    scope: Collection[str] | None,
    *,
    customer_ids: Collection[str] | None = None,
    not_refused: bool = False,
) -> Any:
    """The customers without an open inspection whose next one is due on ``until`` or before, to be ordered and paged.

    Each row goes through :func:`read`. ``not_refused``: without those whose job for this turn has been cancelled.
    """
    points, first, done = _points(today), _first_supply(), _last_done()
    months = func.coalesce(Customer.inspection_cycle_months, points.c.months)
    inspected = case(
        (done.c.at > Customer.last_inspected_at, done.c.at), else_=func.coalesce(Customer.last_inspected_at, done.c.at)
    )
    since = func.coalesce(inspected, Customer.created_at)
    promised, counts = _new_supply(today)
    new = and_(
        first.c.at >= _midnight(today - timedelta(days=counts), zone),
        or_(inspected.is_(None), inspected < first.c.at),
    )
    visit = and_(new, first.c.at < _midnight(until - timedelta(days=promised) + timedelta(days=1), zone))
    turns = [
        and_(months == number, since < _midnight(latest_before(until, number) + timedelta(days=1), zone))
        for number in _cycles(points)
    ]
    query = (
        select(Customer, ServiceLocation, points.c.point_id, months, since, case((new, first.c.at), else_=null()))
        .join(ServiceLocation, ServiceLocation.id == Customer.location_id)
        .join(points, points.c.customer_id == Customer.id)
        .outerjoin(first, first.c.customer_id == Customer.id)
        .outerjoin(done, done.c.customer_id == Customer.id)
        .where(or_(visit, *turns), ~_has(Job.status.not_in(change.ENDED)))
    )
    if not_refused:
        query = query.where(~_has((Job.status == "cancelled") & (Job.created_at >= since)))
    if scope is not None:
        query = query.where(ServiceLocation.territory_id.in_(sorted(scope)))
    if customer_ids is not None:
        query = query.where(among(Customer.id, customer_ids))
    return query


def read(row: Any, today: date, zone: tzinfo) -> Due:
    """One row of :func:`due_by`: the earlier of the first visit and the turn of the cycle."""
    customer, location, point_id, months, since, supplied = row
    last = since.astimezone(zone).date()
    turn = after_months(last, months) if months else None
    if supplied is not None:
        began = supplied.astimezone(zone).date()
        visit = began + timedelta(days=_new_supply(today)[0])
        if turn is None or visit <= turn:
            return Due(customer, location, point_id, "new_supply", began, None, visit)
    assert turn is not None
    return Due(customer, location, point_id, "cycle", last, months, turn)


def _points(today: date) -> Any:
    """Customer → its first usage point, and the strictest cycle of any."""
    combinations = db.session.execute(
        select(Customer.importance, Customer.customer_class, UsagePoint.voltage_level)
        .outerjoin(UsagePoint, UsagePoint.customer_id == Customer.id)
        .distinct()
    )
    whens = []
    for importance, customer_class, voltage in combinations:
        try:
            months = rules.load().cycle_months(importance, voltage, customer_class, today).value
        except rules.NoRule:
            continue
        same = UsagePoint.voltage_level.is_(None) if voltage is None else UsagePoint.voltage_level == voltage
        whens.append(
            (and_(Customer.importance == importance, Customer.customer_class == customer_class, same), int(months))
        )
    months = func.min(case(*whens, else_=null())) if whens else cast(null(), Integer)
    return (
        select(Customer.id.label("customer_id"), func.min(UsagePoint.id).label("point_id"), months.label("months"))
        .outerjoin(UsagePoint, UsagePoint.customer_id == Customer.id)
        .group_by(Customer.id)
        .subquery()
    )


def _cycles(points: Any) -> list[int]:
    """Every length of cycle that any customer has."""
    own = select(Customer.inspection_cycle_months).where(Customer.inspection_cycle_months.is_not(None)).distinct()
    ruled = select(points.c.months).where(points.c.months.is_not(None)).distinct()
    return sorted({*db.session.scalars(own), *db.session.scalars(ruled)})


def _first_supply() -> Any:
    at = func.min(MeterInstallation.installed_at)
    return (
        select(UsagePoint.customer_id, at.label("at"))
        .join(UsagePoint, UsagePoint.id == MeterInstallation.usage_point_id)
        .group_by(UsagePoint.customer_id)
        .subquery()
    )


def _last_done() -> Any:
    return (
        select(Job.customer_id, func.max(Job.completed_at).label("at"))
        .where(Job.kind.in_(_periodic()), Job.status.in_(("completed", "closed")), Job.customer_id.is_not(None))
        .group_by(Job.customer_id)
        .subquery()
    )


def _has(condition: ColumnElement[bool]) -> ColumnElement[bool]:
    return exists().where(Job.customer_id == Customer.id, Job.kind.in_(_periodic()), condition)


def _periodic() -> list[str]:
    return sorted(name for name, kind in kinds.discover().items() if kind.periodic)


def _new_supply(today: date) -> tuple[int, int]:
    """Days in which a newly supplied customer is visited, and for how many days one counts as new."""
    promised = rules.load().promises(today, "*")["new_supply_visit_days"].value
    return int(promised), int(rules.load().planned_work("new_supply_days", today).value)


def _midnight(day: date, zone: tzinfo) -> datetime:
    return datetime.combine(day, time(), zone)


def after_months(day: date, months: int) -> date:
    """The same day of the month so many months later, or the last one of a shorter month."""
    year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    return date(year, month + 1, min(day.day, calendar.monthrange(year, month + 1)[1]))


def latest_before(until: date, months: int) -> date:
    """The last day from which ``months`` later is not after ``until``."""
    first = after_months(until.replace(day=1), -months)
    longest = calendar.monthrange(first.year, first.month)[1]
    at_the_end = until.day == calendar.monthrange(until.year, until.month)[1]
    return first.replace(day=longest if at_the_end else min(until.day, longest))


def make(
    source: Source,
    until: date,
    zone: tzinfo,
    scope: Collection[str] | None,
    *,
    customer_ids: Collection[str] | None = None,
    not_refused: bool = False,
    limit: int = AT_ONCE,
) -> list[str]:
    """Make the jobs of at most ``limit`` inspections due on ``until`` or before; the ids of the jobs.

    Makers wait for each other, so that nobody gets two.

    :raises Conflict: a customer that is named is not there for the caller.
    """
    now = source.recorded_at
    today = now.astimezone(zone).date()
    _held(now)
    if customer_ids is not None:
        _refuse_unknown(customer_ids, scope)
    query = due_by(until, today, zone, scope, customer_ids=customer_ids, not_refused=not_refused)
    rows = db.session.execute(query.order_by(Customer.number).limit(limit)).all()
    kind = kinds.get(_periodic()[0])
    new = [_job(kind, read(row, today, zone), zone) for row in rows]
    return [draft.row["id"] for draft in store_all(source, new, "job.created")]


def make_due(now: datetime, zone: tzinfo) -> int:
    """Once a day, make the jobs that fall due within the days the rules say; answers how many. Call in a transaction.

    At most 200 at once; while there are more it goes on at the next call.
    """
    done_at = db.session.scalar(select(Routine.done_at).where(Routine.name == _ROUTINE))
    if done_at is not None and done_at > now - EVERY:
        return 0
    routine = _held(now)
    if routine.done_at > now - EVERY:
        return 0
    today = now.astimezone(zone).date()
    lead = int(rules.load().planned_work("inspection_lead_days", today).value)
    source = Source("system", now, id="system", name="fieldsvc")
    made = make(source, today + timedelta(days=lead), zone, None, not_refused=True)
    if len(made) < AT_ONCE:
        routine.done_at = now
    return len(made)


def _held(now: datetime) -> Routine:
    """The row of this routine, held until the transaction ends: one maker at a time."""
    query = select(Routine).where(Routine.name == _ROUTINE).with_for_update().execution_options(populate_existing=True)
    found = db.session.scalar(query)
    if found is None:
        try:
            with db.session.begin_nested():
                db.session.add(Routine(name=_ROUTINE, done_at=now - EVERY))
        except IntegrityError:
            pass  # another one has made it meanwhile
        found = db.session.scalars(query).one()
    return found


def _refuse_unknown(customer_ids: Collection[str], scope: Collection[str] | None) -> None:
    query = select(Customer.id).where(among(Customer.id, customer_ids))
    if scope is not None:
        query = query.where(Customer.location.has(ServiceLocation.territory_id.in_(sorted(scope))))
    missing = set(customer_ids) - set(db.session.scalars(query))
    if missing:
        raise Conflict(f"customer_ids: there is no such customer: {min(missing)}")


def _job(kind: Kind, due: Due, zone: tzinfo) -> jobs.NewJob:
    why = "first visit after the supply began" if due.months is None else f"every {due.months} months"
    new = jobs.NewJob(
        kind=kind.name,
        title=f"{kind.title}: {why}",
        usage_point_id=due.usage_point_id,
        due_at=_midnight(due.due_on + timedelta(days=1), zone),
        details={"due": {name: due.row()[name] for name in ("reason", "since", "cycle_months", "due_on")}},
    )
    place = due.location
    return jobs.at_location(new, due.customer.id, place.lon, place.lat, place.address, place.site_class)
