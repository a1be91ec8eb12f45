"""Tables of the customer records. Names follow IEC 61968; times are UTC, register values exact decimals."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import ForeignKey, Index, String, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from fieldsvc.base.db import Base

_OPEN = text("removed_at IS NULL")


class ServiceLocation(Base):
    """Address and WGS 84 point. ``source_crs`` and ``source_xy`` keep the place as it was given."""

    __tablename__ = "service_location"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    address: Mapped[str] = mapped_column(String(300), default="")
    lon: Mapped[float | None]
    lat: Mapped[float | None]
    site_class: Mapped[str] = mapped_column(String(10), default="urban")
    territory_id: Mapped[str | None] = mapped_column(ForeignKey("territory.id"), index=True)
    source_crs: Mapped[str] = mapped_column(String(40), default="EPSG:4326")
    source_xy: Mapped[list[Any] | None]


class Customer(Base):
    """One customer. ``field_revs`` says per field at which revision and by whom it was last changed.

    ``last_inspected_at`` is the last inspection before the service knew of any; what crews do here stands in the jobs.
    """

    __tablename__ = "customer"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    number: Mapped[str] = mapped_column(String(40), unique=True)
    name: Mapped[str] = mapped_column(String(200))
    name_local: Mapped[str | None] = mapped_column(String(200))
    customer_class: Mapped[str] = mapped_column(String(40), default="residential")
    importance: Mapped[str] = mapped_column(String(10), default="none")
    phone: Mapped[str | None] = mapped_column(String(40))
    access_note: Mapped[str | None] = mapped_column(String(1000))
    notes: Mapped[list[Any]] = mapped_column(default=list)
    inspection_cycle_months: Mapped[int | None]
    last_inspected_at: Mapped[datetime | None]
    location_id: Mapped[str] = mapped_column(ForeignKey("service_location.id"))
    rev: Mapped[int] = mapped_column(default=1)
    field_revs: Mapped[dict[str, Any]] = mapped_column(default=dict)
    created_at: Mapped[datetime]
    location: Mapped[ServiceLocation] = relationship(lazy="joined", innerjoin=True)


class UsagePoint(Base):
    """Where energy is supplied and metered."""

    __tablename__ = "usage_point"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    number: Mapped[str] = mapped_column(String(40), unique=True)
    customer_id: Mapped[str] = mapped_column(ForeignKey("customer.id"), index=True)
    location_id: Mapped[str] = mapped_column(ForeignKey("service_location.id"))
    connection_state: Mapped[str] = mapped_column(String(20), default="connected")
    transformer_area: Mapped[str | None] = mapped_column(String(80), index=True)
    feeder: Mapped[str | None] = mapped_column(String(80))
    voltage_level: Mapped[str | None] = mapped_column(String(20))
    rev: Mapped[int] = mapped_column(default=1)


class Meter(Base):
    """An asset from purchase to scrapping; ``state`` is in_stock, installed, removed or scrapped."""

    __tablename__ = "meter"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    asset_no: Mapped[str] = mapped_column(String(60), unique=True)
    digits: Mapped[int] = mapped_column(default=6)
    state: Mapped[str] = mapped_column(String(12), default="in_stock")
    rev: Mapped[int] = mapped_column(default=1)


class MeterInstallation(Base):
    """A meter at a usage point for a time span. One open installation per meter and per usage point, held by index."""

    __tablename__ = "meter_installation"
    __table_args__ = (
        Index("uq_meter_installation_open_meter", "meter_id", unique=True, sqlite_where=_OPEN, postgresql_where=_OPEN),
        Index(
            "uq_meter_installation_open_usage_point",
            "usage_point_id",
            unique=True,
            sqlite_where=_OPEN,
            postgresql_where=_OPEN,
        ),
        Index("ix_meter_installation_meter_id", "meter_id"),
        Index("ix_meter_installation_usage_point_id", "usage_point_id"),
    )

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    meter_id: Mapped[str] = mapped_column(ForeignKey("meter.id"))
    usage_point_id: Mapped[str] = mapped_column(ForeignKey("usage_point.id"))
    installed_at: Mapped[datetime]
    removed_at: Mapped[datetime | None]
    ct_ratio: Mapped[Decimal]
    pt_ratio: Mapped[Decimal]
    installed_by_job_id: Mapped[str | None] = mapped_column(String(36))
    removed_by_job_id: Mapped[str | None] = mapped_column(String(36))
    meter: Mapped[Meter] = relationship(lazy="joined", innerjoin=True)


class MeterReading(Base):
    """Values of one register of a meter at a time. ``state``: pending, posted, quarantined or reversed."""

    __tablename__ = "meter_reading"
    __table_args__ = (Index("ix_meter_reading_meter_id_read_at", "meter_id", "read_at"),)

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    meter_id: Mapped[str] = mapped_column(ForeignKey("meter.id"))
    usage_point_id: Mapped[str | None] = mapped_column(ForeignKey("usage_point.id"), index=True)
    read_at: Mapped[datetime]
    reason: Mapped[str] = mapped_column(String(20))
    register: Mapped[str] = mapped_column(String(10))
    value: Mapped[Decimal]
    state: Mapped[str] = mapped_column(String(12), default="posted")
    job_id: Mapped[str | None] = mapped_column(String(36))
    op_id: Mapped[str | None] = mapped_column(String(80))


class Seal(Base):
    """A seal by its number; fitted to a meter or a usage point until removed."""

    __tablename__ = "seal"
    __table_args__ = (Index("ix_seal_usage_point_id", "usage_point_id"),)

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    number: Mapped[str] = mapped_column(String(60), unique=True)
    kind: Mapped[str | None] = mapped_column(String(40))
    position: Mapped[str | None] = mapped_column(String(60))
    condition: Mapped[str | None] = mapped_column(String(60))
    meter_id: Mapped[str | None] = mapped_column(ForeignKey("meter.id"))
    usage_point_id: Mapped[str | None] = mapped_column(ForeignKey("usage_point.id"))
    fitted_at: Mapped[datetime | None]
    fitted_by_job_id: Mapped[str | None] = mapped_column(String(36))
    removed_at: Mapped[datetime | None]
    removed_by_job_id: Mapped[str | None] = mapped_column(String(36))
    rev: Mapped[int] = mapped_column(default=1)


class Defect(Base):
    """Found by one job, alive until a later job that looked closes it."""

    __tablename__ = "defect"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    customer_id: Mapped[str | None] = mapped_column(ForeignKey("customer.id"), index=True)
    usage_point_id: Mapped[str | None] = mapped_column(ForeignKey("usage_point.id"), index=True)
    job_id: Mapped[str] = mapped_column(String(36), index=True)
    op_id: Mapped[str | None] = mapped_column(String(80))
    item_code: Mapped[str | None] = mapped_column(String(60))
    description: Mapped[str] = mapped_column(String(2000))
    grade_scheme: Mapped[str] = mapped_column(String(20))
    grade: Mapped[str] = mapped_column(String(20))
    found_at: Mapped[datetime]
    deadline_at: Mapped[datetime | None]
    state: Mapped[str] = mapped_column(String(10), default="open")
    closed_at: Mapped[datetime | None]
    closed_by_job_id: Mapped[str | None] = mapped_column(String(36))
    closing_note: Mapped[str | None] = mapped_column(String(2000))
    rev: Mapped[int] = mapped_column(default=1)


class ServiceRecord(Base):
    """One contact with a customer: when, by what channel, by whom, about what, with what outcome."""

    __tablename__ = "service_record"
    __table_args__ = (Index("ix_service_record_customer_id_at", "customer_id", "at"),)

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    customer_id: Mapped[str] = mapped_column(ForeignKey("customer.id"))
    at: Mapped[datetime]
    channel: Mapped[str] = mapped_column(String(30))
    by: Mapped[str | None] = mapped_column(String(120))
    subject: Mapped[str] = mapped_column(String(300))
    outcome: Mapped[str | None] = mapped_column(String(2000))
    job_id: Mapped[str | None] = mapped_column(String(36))
    op_id: Mapped[str | None] = mapped_column(String(80))
