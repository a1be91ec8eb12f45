"""Customers, their usage points and meters out of a file, and meters into stock.

New customers are written in bulk. What a file says differently of one who is on record is a change like any other, with
its own revision and history. What work has done (which meter hangs there) a file never undoes. The caller opens one
transaction per batch (:data:`BATCH` rows).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import insert, select

from fieldsvc.base import sheet
from fieldsvc.base.clock import format_time, new_id
from fieldsvc.base.db import db
from fieldsvc.base.errors import Conflict, Invalid
from fieldsvc.base.plain import plain
from fieldsvc.base.sheet import Layout, Outcome, Refusal, Refused, Row
from fieldsvc.feed import publish
from fieldsvc.geo.crs import to_wgs84
from fieldsvc.geo.territories import SITE_CLASSES
from fieldsvc.history.record import Source, record
from fieldsvc.people import territories
from fieldsvc.people.models import Territory
from fieldsvc.records import customers, meters
from fieldsvc.records.documents import customer_doc, usage_point_doc
from fieldsvc.records.models import Customer, Meter, MeterInstallation, MeterReading, ServiceLocation, UsagePoint

BATCH = 500
REGISTERS = ("total", "sharp", "peak", "flat", "valley")
_MARK = "import"
"""The author of a field's last change, when a file was: what a person or a crew wrote since, a file leaves alone."""
IMPORTANCE = ("special", "first", "second", "none")
COLUMNS = (
    "number name name_local customer_class importance phone address lon lat site_class usage_point_number "
    "transformer_area feeder voltage_level meter_asset_no meter_digits ct_ratio pt_ratio installed_at "
    "last_reading_total last_reading_sharp last_reading_peak last_reading_flat last_reading_valley last_reading_at "
    "inspection_cycle_months last_inspected_at"
).split()


def point(row: Row, crs: str) -> tuple[float, float] | None:
    """WGS 84 longitude and latitude of the cells ``lon`` and ``lat`` given in ``crs``; ``None`` when both are empty.

    :raises Refused: only one of them, not numbers, 0/0, or nowhere on earth.
    :raises Invalid: ``crs`` is not a coordinate system.
    """
    x, y = sheet.number(row, "lon"), sheet.number(row, "lat")
    if x is None and y is None:
        return None
    if x is None or y is None:
        raise Refused("lon" if x is None else "lat", "", "lon and lat are given together")
    said = f"{row['lon']} {row['lat']}"
    if x == 0 and y == 0:
        raise Refused("lon", said, "0/0 is not a place: the coordinates are missing")
    try:
        return to_wgs84(x, y, crs)
    except Invalid as fault:
        if fault.errors[0]["field"] == "crs":
            raise
        column = "lat" if fault.errors[0]["field"] in ("y", "lat") else "lon"
        raise Refused(column, said, fault.errors[0]["reason"]) from None


def check_crs(crs: str) -> None:
    """:raises Invalid: ``crs`` is not a coordinate system we know."""
    try:
        to_wgs84(1.0, 1.0, crs)
    except Invalid as fault:
        if fault.errors[0]["field"] == "crs":
            raise


@dataclass(frozen=True)
class _MeterAsked:
    asset_no: str
    digits: int
    ct_ratio: Decimal
    pt_ratio: Decimal
    installed_at: datetime | None
    read_at: datetime | None
    readings: Mapping[str, Decimal]


@dataclass(frozen=True)
class _Asked:
    """One readable row. In ``customer``, ``place`` and ``usage_point`` a member that is ``None`` was not said."""

    row: Row
    number: str
    usage_point_number: str
    usage_point_said: bool
    customer: Mapping[str, Any]
    place: Mapping[str, Any]
    source_xy: tuple[str, str] | None
    usage_point: Mapping[str, Any]
    meter: _MeterAsked | None


@dataclass(frozen=True)
class _OnRecord:
    """What is there already of the things a batch names, by their numbers."""

    customers: Mapping[str, Customer]
    usage_points: Mapping[str, UsagePoint]
    meters: Mapping[str, Meter]
    open_at: Mapping[str, str]
    """Meter id -> usage point id it is installed at."""
    meter_of: Mapping[str, str]
    """Usage point id -> asset number installed there."""
    were_at: frozenset[tuple[str, str]]
    """(usage point id, asset number), also of installations that have ended."""
    readings: Mapping[tuple[str, datetime, str], Decimal]


@dataclass
class CustomerImport:
    """One import. ``crs`` is the coordinate system of lon and lat."""

    layout: Layout
    crs: str = "EPSG:4326"
    outcome: Outcome = field(default_factory=Outcome)
    _seen: dict[tuple[str, str], int] = field(default_factory=dict)

    def take(self, source: Source, rows: Sequence[Row | Refusal]) -> None:
        """Store what ``rows`` say and keep count in ``outcome``."""
        self.outcome.rows += len(rows)
        source = replace(source, install_id=_MARK)
        asked = [one for one in (self._read(row, source.recorded_at) for row in rows) if one is not None]
        there = _on_record(asked)
        new = []
        for one in asked:
            try:
                _check_meter(one, there)
                if one.number in there.customers:
                    changed = _update(source, one, there.customers[one.number], there, self.crs)
                    self.outcome.updated += changed
                    self.outcome.unchanged += not changed
                elif one.usage_point_number in there.usage_points:
                    raise Refused("usage_point_number", one.usage_point_number, "belongs to another customer")
                else:
                    new.append(one)
            except Refused as fault:
                self.outcome.refused.append(one.row.refused(fault))
        _create(source, new, there, self.crs)
        self.outcome.created += len(new)

    def _read(self, row: Row | Refusal, now: datetime) -> _Asked | None:
        if isinstance(row, Refusal):
            self.outcome.refused.append(row)
            return None
        try:
            asked = _asked(row, self.crs, self.layout, now)
            self._once(row, "number", asked.number)
            self._once(row, "usage_point_number", asked.usage_point_number)
            if asked.meter is not None:
                self._once(row, "meter_asset_no", asked.meter.asset_no)
            return asked
        except Refused as fault:
            self.outcome.refused.append(row.refused(fault))
            return None

    def _once(self, row: Row, column: str, value: str) -> None:
        first = self._seen.setdefault((column, value), row.line)
        if first != row.line:
            raise Refused(column, value, f"stands on line {first} already")


def _asked(row: Row, crs: str, layout: Layout, now: datetime) -> _Asked:
    number = sheet.text(row, "number", 40, required=True) or ""
    place = point(row, crs)
    importance = sheet.one_of(row, "importance", IMPORTANCE, "none") if row["importance"] else None
    site_class = sheet.one_of(row, "site_class", SITE_CLASSES, "urban") if row["site_class"] else None
    return _Asked(
        row,
        number,
        sheet.text(row, "usage_point_number", 40) or number,
        bool(row["usage_point_number"]),
        customer={
            "name": sheet.text(row, "name", 200, required=True),
            "name_local": sheet.text(row, "name_local", 200),
            "customer_class": sheet.text(row, "customer_class", 40),
            "importance": importance,
            "phone": sheet.text(row, "phone", 40),
            "inspection_cycle_months": sheet.integer(row, "inspection_cycle_months", 1, 240),
            "last_inspected_at": _past(row, "last_inspected_at", layout, now),
        },
        place={
            "address": sheet.text(row, "address", 300),
            "lon": place[0] if place else None,
            "lat": place[1] if place else None,
            "site_class": site_class,
        },
        source_xy=(row["lon"], row["lat"]) if place else None,
        usage_point={
            "transformer_area": sheet.text(row, "transformer_area", 80),
            "feeder": sheet.text(row, "feeder", 80),
            "voltage_level": sheet.text(row, "voltage_level", 20),
        },
        meter=_meter(row, layout, now),
    )


def _past(row: Row, column: str, layout: Layout, now: datetime) -> datetime | None:
    """A time that has been."""
    moment = sheet.moment(row, column, layout.timezone)
    if moment is not None and moment > now:
        raise Refused(column, row[column], "lies in the future")
    return moment


def _meter(row: Row, layout: Layout, now: datetime) -> _MeterAsked | None:
    asset_no = sheet.text(row, "meter_asset_no", 60)
    readings = {register: sheet.decimal(row, f"last_reading_{register}") for register in REGISTERS}
    said = {register: value for register, value in readings.items() if value is not None}
    if asset_no is None:
        if said:
            raise Refused("meter_asset_no", "", "a reading needs the meter it is of")
        return None
    digits = sheet.integer(row, "meter_digits", 1, 12) or 6
    read_at = _past(row, "last_reading_at", layout, now)
    installed_at = _past(row, "installed_at", layout, now)
    if said and read_at is None:
        raise Refused("last_reading_at", "", "a reading needs its time")
    if read_at is not None and installed_at is not None and read_at < installed_at:
        raise Refused("last_reading_at", row["last_reading_at"], "read before the meter was installed")
    for register, value in said.items():
        if value >= 10**digits:
            column = f"last_reading_{register}"
            raise Refused(column, row[column], f"has more digits than the meter's {digits}")
    return _MeterAsked(asset_no, digits, _ratio(row, "ct_ratio"), _ratio(row, "pt_ratio"), installed_at, read_at, said)


def _ratio(row: Row, column: str) -> Decimal:
    value = sheet.decimal(row, column)
    if value is not None and value <= 0:
        raise Refused(column, row[column], "must be above 0")
    return value or Decimal(1)


def _on_record(asked: Sequence[_Asked]) -> _OnRecord:
    """Everything the batch touches, in a handful of queries."""
    numbers = [one.number for one in asked]
    found = {c.number: c for c in db.session.scalars(select(Customer).where(Customer.number.in_(numbers)))}
    places = [one.usage_point_number for one in asked]
    usage_points = {u.number: u for u in db.session.scalars(select(UsagePoint).where(UsagePoint.number.in_(places)))}
    assets = [one.meter.asset_no for one in asked if one.meter]
    meters_found = {m.asset_no: m for m in db.session.scalars(select(Meter).where(Meter.asset_no.in_(assets)))}
    by_meter = MeterInstallation.meter_id.in_([m.id for m in meters_found.values()])
    by_place = MeterInstallation.usage_point_id.in_([u.id for u in usage_points.values()])
    installations = list(db.session.scalars(select(MeterInstallation).where(by_meter | by_place)))
    still = [i for i in installations if i.removed_at is None]
    times = {one.meter.read_at for one in asked if one.meter and one.meter.read_at}
    readings = db.session.execute(
        select(MeterReading.meter_id, MeterReading.read_at, MeterReading.register, MeterReading.value).where(
            MeterReading.meter_id.in_([m.id for m in meters_found.values()]), MeterReading.read_at.in_(times)
        )
    )
    return _OnRecord(
        customers=found,
        usage_points=usage_points,
        meters=meters_found,
        open_at={i.meter_id: i.usage_point_id for i in still},
        meter_of={i.usage_point_id: i.meter.asset_no for i in still},
        were_at=frozenset((i.usage_point_id, i.meter.asset_no) for i in installations),
        readings={(meter, at, register): value for meter, at, register, value in readings},
    )


def _check_meter(asked: _Asked, there: _OnRecord) -> None:
    """:raises Refused: the file's meter contradicts the records. A meter that once hung there is old news, no fault."""
    if asked.meter is None:
        return
    asset_no = asked.meter.asset_no
    usage_point = there.usage_points.get(asked.usage_point_number)
    if usage_point is not None and (usage_point.id, asset_no) in there.were_at:
        return
    if usage_point is not None and usage_point.id in there.meter_of:
        on_record = there.meter_of[usage_point.id]
        raise Refused(
            "meter_asset_no", asset_no, f"meter {on_record} is on record here: a job exchanges it, not a file"
        )
    meter = there.meters.get(asset_no)
    if meter is not None and meter.id in there.open_at:
        raise Refused("meter_asset_no", asset_no, "is installed at another usage point")
    if meter is not None and meter.state != "in_stock":
        raise Refused("meter_asset_no", asset_no, f"is on record as {meter.state}")


def _create(source: Source, new: Sequence[_Asked], there: _OnRecord, crs: str) -> None:
    if not new:
        return
    places = _located(new, source.recorded_at)
    locations, rows, points = [], [], []
    for one, (territory_id, site_class) in zip(new, places, strict=True):
        location_id, customer_id, usage_point_id = new_id(), new_id(), new_id()
        locations.append(
            {
                "id": location_id,
                "address": one.place["address"] or "",
                "lon": one.place["lon"],
                "lat": one.place["lat"],
                "site_class": site_class,
                "territory_id": territory_id,
                "source_crs": crs,
                "source_xy": list(one.source_xy) if one.source_xy else None,
            }
        )
        said = {name: value for name, value in one.customer.items() if value is not None}
        rows.append(
            {"name_local": None, "customer_class": "residential", "importance": "none", "phone": None}
            | {"inspection_cycle_months": None, "last_inspected_at": None, "notes": [], "rev": 1, "field_revs": {}}
            | {"id": customer_id, "number": one.number, "location_id": location_id, "created_at": source.recorded_at}
            | said
        )
        points.append(_usage_point_row(one, usage_point_id, customer_id, location_id))
        record(
            source,
            "customer.imported",
            "customer",
            customer_id,
            after={"number": one.number, **plain(said), **_told(one), "territory_id": territory_id},
            customer_id=customer_id,
            territory_id=territory_id,
        )
    db.session.execute(insert(ServiceLocation), locations)
    db.session.execute(insert(Customer), rows)
    db.session.execute(insert(UsagePoint), points)
    _install(source, [(one, place["id"]) for one, place in zip(new, points, strict=True)], there)


def _usage_point_row(one: _Asked, usage_point_id: str, customer_id: str, location_id: str) -> dict[str, Any]:
    ids = {"id": usage_point_id, "customer_id": customer_id, "location_id": location_id}
    return ids | {"number": one.usage_point_number, "connection_state": "connected", "rev": 1, **one.usage_point}


def _told(one: _Asked) -> dict[str, Any]:
    """What history says of a row besides the customer's own fields."""
    told = {name: value for name, value in (*one.place.items(), *one.usage_point.items()) if value is not None}
    told["usage_point_number"] = one.usage_point_number
    if one.meter is not None:
        told["meter_asset_no"] = one.meter.asset_no
        if one.meter.readings:
            told["last_reading"] = {"at": plain(one.meter.read_at), **plain(one.meter.readings)}
    return told


def _located(asked: Sequence[_Asked], now: datetime) -> list[tuple[str | None, str]]:
    """Territory id and site class of every row: what the row says of the class wins over its territory's."""
    spots = [(one.place["lon"], one.place["lat"]) for one in asked if one.place["lon"] is not None]
    found = iter(territories.index(now).locate_ids([lon for lon, _ in spots], [lat for _, lat in spots]))
    classes = dict(db.session.execute(select(Territory.id, Territory.site_class)).all())
    places = []
    for one in asked:
        territory_id = next(found) if one.place["lon"] is not None else None
        places.append((territory_id, one.place["site_class"] or classes.get(territory_id or "", "urban")))
    return places


def _install(source: Source, wanted: Iterable[tuple[_Asked, str]], there: _OnRecord) -> None:
    """Enter the meters that are not on record, install them all, and post their last readings."""
    fresh, installations, readings = [], [], []
    for one, usage_point_id in wanted:
        if one.meter is None:
            continue
        meter = there.meters.get(one.meter.asset_no)
        meter_id = meter.id if meter else new_id()
        if meter is None:
            fresh.append(
                {
                    "id": meter_id,
                    "asset_no": one.meter.asset_no,
                    "digits": one.meter.digits,
                    "state": "installed",
                    "rev": 1,
                }
            )
        else:
            meter.state, meter.rev = "installed", meter.rev + 1
        installations.append(
            {
                "id": new_id(),
                "meter_id": meter_id,
                "usage_point_id": usage_point_id,
                "installed_at": one.meter.installed_at or one.meter.read_at or source.recorded_at,
                "ct_ratio": one.meter.ct_ratio,
                "pt_ratio": one.meter.pt_ratio,
            }
        )
        readings += _reading_rows(one.meter, one.meter.readings, meter_id, usage_point_id)
    for model, rows in ((Meter, fresh), (MeterInstallation, installations), (MeterReading, readings)):
        if rows:
            db.session.execute(insert(model), rows)


def _reading_rows(
    meter: _MeterAsked, values: Mapping[str, Decimal], meter_id: str, usage_point_id: str
) -> list[dict[str, Any]]:
    fixed = {"meter_id": meter_id, "usage_point_id": usage_point_id, "read_at": meter.read_at}
    return [
        {"id": new_id(), "reason": "import", "register": register, "value": value, "state": "posted", **fixed}
        for register, value in values.items()
    ]


def _update(source: Source, asked: _Asked, customer: Customer, there: _OnRecord, crs: str) -> bool:
    """Bring one customer on record to what the row says; whether anything changed.

    :raises Refused: the usage point is another customer's, or a reading of that time has another value.
    """
    usage_point = there.usage_points.get(asked.usage_point_number)
    if usage_point is not None and usage_point.customer_id != customer.id:
        raise Refused("usage_point_number", asked.usage_point_number, "belongs to another customer")
    about_place = asked.meter is not None or any(value is not None for value in asked.usage_point.values())
    if usage_point is None and about_place and not asked.usage_point_said:
        raise Refused("usage_point_number", "", "missing: the customer is on record with other usage points")
    fresh = _fresh_readings(asked, usage_point, there)
    before = customer.rev
    ours = {name for name, made in customer.field_revs.items() if made[1] != _MARK}
    said = {name: value for name, value in asked.customer.items() if value is not None and name not in ours}
    customers.apply(source, customer, "customer.imported", said)
    _relocate(source, asked, customer, crs)
    if usage_point is None and not asked.usage_point_said:
        return customer.rev != before
    if usage_point is None:
        row = _usage_point_row(asked, new_id(), customer.id, customer.location_id)
        db.session.execute(insert(UsagePoint), [row])
        _tell(source, customer, "usage_point.imported", "usage_point", row["id"], None, _told(asked))
        _install(source, [(asked, row["id"])], there)
        return True
    changed = _update_usage_point(source, asked, customer, usage_point)
    if asked.meter is not None and (usage_point.id, asked.meter.asset_no) not in there.were_at:
        _install(source, [(asked, usage_point.id)], there)
        _tell(source, customer, "meter.installed", "usage_point", usage_point.id, None, _told(asked))
        return True
    if fresh and asked.meter is not None:
        meter_id = there.meters[asked.meter.asset_no].id
        db.session.execute(insert(MeterReading), _reading_rows(asked.meter, fresh, meter_id, usage_point.id))
        after = {"asset_no": asked.meter.asset_no, "at": plain(asked.meter.read_at), "values": plain(fresh)}
        _tell(source, customer, "meter.read", "usage_point", usage_point.id, None, after)
    return changed or bool(fresh) or customer.rev != before


def _fresh_readings(asked: _Asked, usage_point: UsagePoint | None, there: _OnRecord) -> dict[str, Decimal]:
    """The readings of the row that are not on record yet."""
    if asked.meter is None or usage_point is None or (usage_point.id, asked.meter.asset_no) not in there.were_at:
        return {}
    meter_id, read_at = there.meters[asked.meter.asset_no].id, asked.meter.read_at
    fresh = {}
    for register, value in asked.meter.readings.items():
        assert read_at is not None
        known = there.readings.get((meter_id, read_at, register))
        if known is None:
            fresh[register] = value
        elif known != value:
            column = f"last_reading_{register}"
            raise Refused(column, str(value), f"the reading of {format_time(read_at)} is on record as {known}")
    return fresh


def _relocate(source: Source, asked: _Asked, customer: Customer, crs: str) -> None:
    """Change address, point or site class of a customer's location, and the territory with the point."""
    location = customer.location
    said = {name: value for name, value in asked.place.items() if value is not None}
    changed = {name: value for name, value in said.items() if getattr(location, name) != value}
    if not changed:
        return
    if "lon" in changed or "lat" in changed:
        found = territories.index(source.recorded_at).locate(asked.place["lon"], asked.place["lat"])
        changed["territory_id"] = found.territory_id
        location.source_crs, location.source_xy = crs, list(asked.source_xy or ())
    before = {name: plain(getattr(location, name)) for name in changed}
    for name, value in changed.items():
        setattr(location, name, value)
    customer.rev += 1
    publish.refresh("customer", customer.id, customer.rev, customer_doc(customer))
    _tell(source, customer, "customer.relocated", "customer", customer.id, before, plain(changed))


def _update_usage_point(source: Source, asked: _Asked, customer: Customer, usage_point: UsagePoint) -> bool:
    said = {name: value for name, value in asked.usage_point.items() if value is not None}
    changed = {name: value for name, value in said.items() if getattr(usage_point, name) != value}
    if not changed:
        return False
    before = {name: getattr(usage_point, name) for name in changed}
    for name, value in changed.items():
        setattr(usage_point, name, value)
    usage_point.rev += 1
    installed = meters.installed_at(usage_point.id)
    publish.refresh("usage_point", usage_point.id, usage_point.rev, usage_point_doc(usage_point, installed))
    _tell(source, customer, "usage_point.imported", "usage_point", usage_point.id, before, changed)
    return True


def _tell(
    source: Source,
    customer: Customer,
    action: str,
    entity: str,
    entity_id: str,
    before: Mapping[str, Any] | None,
    after: Mapping[str, Any],
) -> None:
    record(
        source,
        action,
        entity,
        entity_id,
        before=before,
        after=after,
        customer_id=customer.id,
        territory_id=customer.location.territory_id,
    )


def stock_meter(source: Source, asset_no: str, digits: int) -> Meter:
    """Enter a new meter into stock.

    :raises Conflict: ``already-exists``: the asset number is on record.
    """
    taken = db.session.scalar(select(Meter.id).where(Meter.asset_no == asset_no))
    if taken is not None:
        raise Conflict(f"meter {asset_no} is on record already", "already-exists", id=taken)
    meter = meters.register_meter(source, asset_no, digits)
    db.session.flush()
    return meter
