"""Jobs out of a file: thousands of rows in bulk, each refused row named with its reason, a second run changing nothing.

A job that is there already is never touched: a file knows less about it than the crew. The caller opens one transaction
per batch (:data:`BATCH` rows).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from sqlalchemy import select

from fieldsvc import kinds
from fieldsvc.base import sheet
from fieldsvc.base.db import db
from fieldsvc.base.sheet import Layout, Outcome, Refusal, Refused, Row
from fieldsvc.history.record import Source
from fieldsvc.records.importing import point
from fieldsvc.records.models import Customer, ServiceLocation, UsagePoint
from fieldsvc.work import jobs
from fieldsvc.work.bulk import store_all
from fieldsvc.work.models import Job

BATCH = 500
COLUMNS = (
    "external_key kind priority title description customer_number usage_point_number lon lat address due_at "
    "window_start window_end reported_at closed_at hazards access_note contact_phone"
).split()


@dataclass(frozen=True)
class _Asked:
    """One readable row: the job it asks for, and whose it is by number."""

    row: Row
    new: jobs.NewJob
    customer_number: str | None
    usage_point_number: str | None


@dataclass
class JobImport:
    """One import. ``prefix`` is put before every external key; ``crs`` is the coordinate system of lon and lat."""

    layout: Layout
    crs: str = "EPSG:4326"
    prefix: str = ""
    outcome: Outcome = field(default_factory=Outcome)
    _seen: dict[str, int] = field(default_factory=dict)

    def take(self, source: Source, rows: Sequence[Row | Refusal]) -> None:
        """Store what is new of ``rows`` and keep count in ``outcome``."""
        self.outcome.rows += len(rows)
        asked = [one for one in map(self._read, rows) if one is not None]
        keys = [one.new.external_key for one in asked]
        there = set(db.session.scalars(select(Job.external_key).where(Job.external_key.in_(keys))))
        self.outcome.unchanged += len(there)
        new = self._settled([one for one in asked if one.new.external_key not in there])
        self.outcome.created += len(store_all(source, new, "job.imported"))

    def _read(self, row: Row | Refusal) -> _Asked | None:
        if isinstance(row, Refusal):
            self.outcome.refused.append(row)
            return None
        try:
            return self._asked(row)
        except Refused as fault:
            self.outcome.refused.append(row.refused(fault))
            return None

    def _asked(self, row: Row) -> _Asked:
        key = self.prefix + (sheet.text(row, "external_key", 120 - len(self.prefix), required=True) or "")
        if key in self._seen:
            raise Refused("external_key", key, f"the key stands on line {self._seen[key]} already")
        self._seen[key] = row.line
        zone = self.layout.timezone
        reported_at, closed_at = sheet.moment(row, "reported_at", zone), sheet.moment(row, "closed_at", zone)
        if reported_at and closed_at and closed_at < reported_at:
            raise Refused("closed_at", row["closed_at"], f"closed before it was reported ({row['reported_at']})")
        window_start, window_end = sheet.moment(row, "window_start", zone), sheet.moment(row, "window_end", zone)
        if window_start and window_end and window_end <= window_start:
            raise Refused("window_end", row["window_end"], "must be after window_start")
        place = point(row, self.crs)
        return _Asked(
            row,
            jobs.NewJob(
                kind=sheet.one_of(row, "kind", kinds.discover(), ""),
                title=sheet.text(row, "title", 200),
                description=sheet.text(row, "description", 4000) or "",
                priority=sheet.integer(row, "priority", 1, 9),
                hazards=_hazards(row),
                external_key=key,
                lon=place[0] if place else None,
                lat=place[1] if place else None,
                address=sheet.text(row, "address", 300),
                window_start=window_start,
                window_end=window_end,
                due_at=sheet.moment(row, "due_at", zone),
                reported_at=reported_at,
                access_note=sheet.text(row, "access_note", 1000),
                contact_phone=sheet.text(row, "contact_phone", 40),
            ),
            row["customer_number"] or None,
            row["usage_point_number"] or None,
        )

    def _settled(self, asked: Sequence[_Asked]) -> list[jobs.NewJob]:
        """The jobs with their customer, usage point and location; rows naming one that is not on record are refused."""
        by_number = {one.customer_number for one in asked if one.customer_number}
        customers = {c.number: c for c in db.session.scalars(select(Customer).where(Customer.number.in_(by_number)))}
        wanted = {one.usage_point_number for one in asked if one.usage_point_number}
        usage_points = {
            usage_point.number: (usage_point, location)
            for usage_point, location in db.session.execute(
                select(UsagePoint, ServiceLocation)
                .join(ServiceLocation, ServiceLocation.id == UsagePoint.location_id)
                .where(UsagePoint.number.in_(wanted))
            )
        }
        settled = []
        for one in asked:
            try:
                settled.append(_with_records(one, customers, usage_points))
            except Refused as fault:
                self.outcome.refused.append(one.row.refused(fault))
        return settled


def _hazards(row: Row) -> list[str]:
    found = [word.strip() for word in row["hazards"].split(";") if word.strip()]
    if len(found) > 20 or any(len(word) > 60 for word in found):
        raise Refused("hazards", row["hazards"], "at most 20 hazards of at most 60 characters, separated by ;")
    return found


def _with_records(
    asked: _Asked, customers: dict[str, Customer], usage_points: dict[str, tuple[UsagePoint, ServiceLocation]]
) -> jobs.NewJob:
    number, point_number = asked.customer_number, asked.usage_point_number
    customer = customers.get(number) if number else None
    if number and customer is None:
        raise Refused("customer_number", number, "there is no such customer on record")
    if not point_number:
        if customer is None:
            return asked.new
        place = customer.location
        return jobs.at_location(asked.new, customer.id, place.lon, place.lat, place.address, place.site_class)
    if point_number not in usage_points:
        raise Refused("usage_point_number", point_number, "there is no such usage point on record")
    usage_point, location = usage_points[point_number]
    if customer is not None and usage_point.customer_id != customer.id:
        raise Refused("usage_point_number", point_number, "belongs to another customer")
    new = replace(asked.new, usage_point_id=usage_point.id)
    return jobs.at_location(
        new, usage_point.customer_id, location.lon, location.lat, location.address, location.site_class
    )
