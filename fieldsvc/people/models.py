"""Tables of people: territories (they bound what staff may see), staff, tokens, crews, shifts, devices."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, Integer, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from fieldsvc.base.db import Base


class Territory(Base):
    """An area of responsibility. ``geometry`` is RFC 7946 GeoJSON text; ``site_class`` is urban, rural or remote."""

    __tablename__ = "territory"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    code: Mapped[str] = mapped_column(String(60), unique=True)
    name: Mapped[str] = mapped_column(String(200))
    name_local: Mapped[str | None] = mapped_column(String(200))
    level: Mapped[int] = mapped_column(default=1)
    site_class: Mapped[str] = mapped_column(String(10), default="urban")
    priority: Mapped[int] = mapped_column(default=0)
    geometry: Mapped[str] = mapped_column(Text)
    valid_from: Mapped[datetime]
    valid_to: Mapped[datetime | None]
    rev: Mapped[int] = mapped_column(default=1)


class Staff(Base):
    """One person of the office. ``all_territories`` lifts the territory scope."""

    __tablename__ = "staff"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    username: Mapped[str] = mapped_column(String(80), unique=True)
    display_name: Mapped[str] = mapped_column(String(120))
    password_hash: Mapped[str] = mapped_column(String(200))
    role: Mapped[str] = mapped_column(String(20))
    all_territories: Mapped[bool] = mapped_column(default=False)
    active: Mapped[bool] = mapped_column(default=True)
    created_at: Mapped[datetime]
    territories: Mapped[list[StaffTerritory]] = relationship(cascade="all, delete-orphan", lazy="selectin")


class StaffTerritory(Base):
    __tablename__ = "staff_territory"

    staff_id: Mapped[str] = mapped_column(ForeignKey("staff.id"), primary_key=True)
    territory_id: Mapped[str] = mapped_column(ForeignKey("territory.id"), primary_key=True)


class ApiToken(Base):
    """A staff token: shown once, kept as SHA-256, expiring, revocable."""

    __tablename__ = "api_token"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    staff_id: Mapped[str] = mapped_column(ForeignKey("staff.id"), index=True)
    name: Mapped[str] = mapped_column(String(80))
    token_hash: Mapped[str] = mapped_column(String(64), unique=True)
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]


class ConsoleSession(Base):
    """A browser that is signed in to the console; the row goes when the session ends. Its cookie holds what
    ``token_hash`` is the SHA-256 of. ``seen_at`` is its last request, to within a minute; ``agent`` what the browser
    says it is, such as "Firefox, Windows".
    """

    __tablename__ = "console_session"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    staff_id: Mapped[str] = mapped_column(ForeignKey("staff.id"), index=True)
    token_hash: Mapped[str] = mapped_column(String(64), unique=True)
    agent: Mapped[str | None] = mapped_column(String(60))
    started_at: Mapped[datetime]
    seen_at: Mapped[datetime]


class Crew(Base):
    """A crew with its base, skills and home territories (lists of strings).

    ``equipment`` is what its vehicle carries (a bucket truck, a cable tester); ``capacity`` how many units of load
    (such as meters) it takes along, None: no limit. ``help_out_m`` is how far beyond its home territories it may be
    sent; None: what the rule pack says.
    """

    __tablename__ = "crew"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    code: Mapped[str] = mapped_column(String(40), unique=True)
    name: Mapped[str] = mapped_column(String(120))
    name_local: Mapped[str | None] = mapped_column(String(120))
    skills: Mapped[list[Any]]
    territory_ids: Mapped[list[Any]]
    base_lon: Mapped[float | None]
    base_lat: Mapped[float | None]
    equipment: Mapped[list[Any]] = mapped_column(default=list, server_default="[]")
    capacity: Mapped[int | None]
    help_out_m: Mapped[int | None]
    active: Mapped[bool] = mapped_column(default=True)
    rev: Mapped[int] = mapped_column(default=1)
    members: Mapped[list[CrewMember]] = relationship(cascade="all, delete-orphan", lazy="selectin")


class CrewMember(Base):
    __tablename__ = "crew_member"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    crew_id: Mapped[str] = mapped_column(ForeignKey("crew.id"), index=True)
    name: Mapped[str] = mapped_column(String(120))


class Shift(Base):
    """When a crew is on duty. ``breaks``: ``{"earliest", "latest", "minutes"}`` each, begun between the two times."""

    __tablename__ = "shift"
    __table_args__ = (Index("ix_shift_crew_id_starts_at", "crew_id", "starts_at"),)

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    crew_id: Mapped[str] = mapped_column(ForeignKey("crew.id"))
    starts_at: Mapped[datetime]
    ends_at: Mapped[datetime]
    breaks: Mapped[list[Any]] = mapped_column(default=list, server_default="[]")


class Device(Base):
    """One enrolled handheld. ``clock_offset_ms`` is server time minus device time, as the last hello told it;
    ``clock_former_ms`` what it was before it changed, ``clock_former_at`` when it was last that. ``pending`` is how
    many operations it said, at ``pending_at``, that it still held.

    ``pulled_at`` is when it last pulled to the end, to within ten minutes; None: it has had no first sync since it was
    enrolled. ``told_seq`` is how far its own feed has been handed to it by then, ``seen_seq`` how far it has shown to
    hold it.
    """

    __tablename__ = "device"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    crew_id: Mapped[str] = mapped_column(ForeignKey("crew.id"), index=True)
    install_id: Mapped[str] = mapped_column(String(80), unique=True)
    platform: Mapped[str | None] = mapped_column(String(80))
    app_version: Mapped[str | None] = mapped_column(String(40))
    schema_version: Mapped[int | None]
    token_hash: Mapped[str] = mapped_column(String(64), unique=True)
    enrolled_at: Mapped[datetime]
    last_seen_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    clock_offset_ms: Mapped[int | None] = mapped_column(BigInteger)
    clock_former_ms: Mapped[int | None] = mapped_column(BigInteger)
    clock_former_at: Mapped[datetime | None]
    pending: Mapped[int | None] = mapped_column(Integer)
    pending_at: Mapped[datetime | None]
    pulled_at: Mapped[datetime | None]
    told_seq: Mapped[int | None] = mapped_column(BigInteger)
    seen_seq: Mapped[int | None] = mapped_column(BigInteger)


class CrewPosition(Base):
    """A place where a device of a crew was from ``at`` until ``until_at``, WGS 84 degrees and metres.

    Not every position that was reported: see ``geo.positions``. ``doubtful``: a jump that no other position has
    confirmed yet; it is shown to nobody. Kept for ``position_ttl``, then removed.
    """

    __tablename__ = "crew_position"
    __table_args__ = (
        Index("ix_crew_position_crew_id_until_at_id", "crew_id", "until_at", "id"),
        Index("ix_crew_position_device_id_until_at", "device_id", "until_at"),
        Index("ix_crew_position_until_at", "until_at"),
    )

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    crew_id: Mapped[str] = mapped_column(ForeignKey("crew.id"))
    device_id: Mapped[str] = mapped_column(ForeignKey("device.id"))
    at: Mapped[datetime]
    until_at: Mapped[datetime]
    lon: Mapped[float]
    lat: Mapped[float]
    accuracy_m: Mapped[float | None]
    doubtful: Mapped[bool] = mapped_column(default=False)


class EnrolmentCode(Base):
    """A single-use code that turns into a device of a crew."""

    __tablename__ = "enrolment_code"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    crew_id: Mapped[str] = mapped_column(ForeignKey("crew.id"))
    code_hash: Mapped[str] = mapped_column(String(64), unique=True)
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]
    device_id: Mapped[str | None] = mapped_column(String(36))


class SavedView(Base):
    """Filters of the board that somebody keeps under a name; nobody else's. ``query`` is the query of an address."""

    __tablename__ = "saved_view"
    __table_args__ = (UniqueConstraint("staff_id", "name"),)

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    staff_id: Mapped[str] = mapped_column(ForeignKey("staff.id"))
    name: Mapped[str] = mapped_column(String(60))
    query: Mapped[str] = mapped_column(String(2000))
    updated_at: Mapped[datetime]
