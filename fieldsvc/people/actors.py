"""Who is calling: an :class:`Actor`, found by the token of a request with one indexed query."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import bindparam, select

from fieldsvc.base.db import db
from fieldsvc.base.errors import FieldsvcError
from fieldsvc.history.record import Source
from fieldsvc.people.models import ApiToken, Crew, Device, Staff, StaffTerritory

DISPATCHER, SUPERVISOR, AUDITOR, ADMIN = "dispatcher", "supervisor", "auditor", "admin"
ROLES = (DISPATCHER, SUPERVISOR, AUDITOR, ADMIN)


@dataclass(frozen=True)
class Actor:
    """Staff, a device, or the system itself. ``territory_ids`` bounds what it may see; None means all territories.

    ``platform``, ``app_version`` and ``schema_version`` are what a device last said of itself; ``pulled`` is what is
    kept of its pulls: ``(pulled_at, told_seq, seen_seq)``.
    """

    kind: str
    id: str
    name: str
    role: str | None = None
    territory_ids: frozenset[str] | None = None
    crew_id: str | None = None
    device_id: str | None = None
    install_id: str | None = None
    token_id: str | None = None
    platform: str | None = None
    app_version: str | None = None
    schema_version: int | None = None
    pulled: tuple[datetime | None, int | None, int | None] = (None, None, None)

    def source(self, now: datetime) -> Source:
        """The source of changes this actor makes at ``now``."""
        return Source(
            self.kind,
            now,
            id=self.id,
            name=self.name,
            crew_id=self.crew_id,
            device_id=self.device_id,
            install_id=self.install_id,
        )

    @property
    def scope(self) -> frozenset[str] | None:
        """The ids of the territories it may see; None means all, and what lies in none."""
        return self.territory_ids

    def sees(self, territory_id: str | None) -> bool:
        """Whether something in ``territory_id`` is in scope; the tray (None) only for those who see everything."""
        return self.territory_ids is None or (territory_id is not None and territory_id in self.territory_ids)

    def sees_any(self, territory_ids: list[str]) -> bool:
        """Whether at least one of ``territory_ids`` is in scope; without any, as for the tray."""
        return self.territory_ids is None or not self.territory_ids.isdisjoint(territory_ids)


SYSTEM = Actor("system", "system", "fieldsvc", role=ADMIN)
"""What the service does by itself, and what the command line does on behalf of whoever may run it."""


def token_hash(token: str) -> str:
    """What is stored of a token. It is 256 random bits, so a plain digest is enough (a password's is not)."""
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


def staff_actor(token: str, now: datetime, *, username: str | None = None) -> Actor | None:
    """The staff member behind an API token, or None: unknown, expired, revoked, or the account is disabled.

    :param username: whose the token has to be, where the caller has said it.
    """
    whose = () if username is None else (Staff.username == username,)
    rows = db.session.execute(
        select(
            Staff.id,
            Staff.display_name,
            Staff.role,
            Staff.all_territories,
            ApiToken.id,
            ApiToken.expires_at,
            StaffTerritory.territory_id,
        )
        .join(ApiToken, ApiToken.staff_id == Staff.id)
        .outerjoin(StaffTerritory, StaffTerritory.staff_id == Staff.id)
        .where(ApiToken.token_hash == token_hash(token), ApiToken.revoked_at.is_(None), Staff.active, *whose)
    ).all()
    if not rows or rows[0][5] <= now:
        return None
    staff_id, name, role, everywhere, token_id, _, _ = rows[0]
    territories = None if everywhere else frozenset(row[6] for row in rows) - {None}
    return Actor("staff", staff_id, name, role=role, territory_ids=territories, token_id=token_id)


# Asked at every call of a device: made once, and on tables, which costs a third of asking for mapped attributes.
_device, _crew = Device.__table__.c, Crew.__table__.c
_DEVICE = (
    select(
        _device.id,
        _device.crew_id,
        _device.install_id,
        _device.revoked_at,
        _device.platform,
        _device.app_version,
        _device.schema_version,
        _crew.name,
        _device.pulled_at,
        _device.told_seq,
        _device.seen_seq,
    )
    .where(_crew.id == _device.crew_id)
    .where(_device.token_hash == bindparam("token_hash"))
)


def device_actor(token: str) -> Actor | None:
    """The device behind a device token, or None when there is none.

    :raises FieldsvcError: ``device-revoked`` (403, ``wipe`` true).
    """
    row = db.session.execute(_DEVICE, {"token_hash": token_hash(token)}).first()
    if row is None:
        return None
    device_id, crew_id, install_id, revoked_at, platform, app_version, schema_version, crew_name, *pulled = row
    if revoked_at is not None:
        raise FieldsvcError("device-revoked", "this device has been revoked: remove what it holds", wipe=True)
    return Actor(
        "device",
        device_id,
        crew_name,
        territory_ids=frozenset(),
        crew_id=crew_id,
        device_id=device_id,
        install_id=install_id,
        platform=platform,
        app_version=app_version,
        schema_version=schema_version,
        pulled=tuple(pulled),
    )
