"""Hello: what a device tells when the line is back, kept for later estimates of when things happened.

The offset of its clock is kept with the one before it changed, and for each of its latest boots where the monotonic
clock stood: an operation may be pushed long after the boot it was made in.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from sqlalchemy import bindparam, select, text

from fieldsvc.base.db import UtcDateTime, among, db
from fieldsvc.people import devices
from fieldsvc.people.models import Device
from fieldsvc.sync.clocks import SUSPECT, Boot, Clock
from fieldsvc.sync.models import DeviceBoot

BOOTS = 8
"""How many boots of a device are remembered."""


def note(device_id: str, clock: Clock, pending: int | None, app_version: str | None) -> None:
    """Keep what a device has told of itself; call inside a transaction."""
    device = db.session.execute(_CLOCK, {"device": device_id}).one()
    offset_ms = int((clock.offset or timedelta(0)).total_seconds() * 1000)
    facts: dict[str, object] = {}
    former_ms = device.clock_offset_ms
    if former_ms is not None and abs(former_ms - offset_ms) > SUSPECT / timedelta(milliseconds=1):
        facts = {"clock_former_ms": former_ms, "clock_former_at": device.last_seen_at}
    devices.seen(device_id, clock.now, offset_ms, pending, app_version, **facts)
    if clock.boot_id is not None and clock.mono_ms is not None:
        boot = {"device": device_id, "boot": clock.boot_id, "mono_ms": clock.mono_ms, "at": clock.now}
        db.session.execute(_REMEMBER, boot)
        db.session.execute(_FORGET, {"device": device_id, "keep": BOOTS})


_CLOCK = select(Device.clock_offset_ms, Device.last_seen_at).where(Device.id == bindparam("device"))
_REMEMBER = text(
    "INSERT INTO device_boot (device_id, boot_id, mono_ms, seen_at) VALUES (:device, :boot, :mono_ms, :at) "
    "ON CONFLICT (device_id, boot_id) DO UPDATE SET mono_ms = excluded.mono_ms, seen_at = excluded.seen_at"
).bindparams(bindparam("at", type_=UtcDateTime))
_FORGET = text(
    "DELETE FROM device_boot WHERE device_id = :device AND boot_id NOT IN "
    "(SELECT boot_id FROM device_boot WHERE device_id = :device ORDER BY seen_at DESC, boot_id LIMIT :keep)"
)


def boots(device_id: str, boot_ids: Iterable[str]) -> dict[str, Boot]:
    """Those of ``boot_ids`` that a hello has told of."""
    found = db.session.execute(_BOOTS, {"device": device_id, "boots": list(boot_ids)})
    return {row.boot_id: Boot(row.mono_ms, row.seen_at) for row in found}


_boot = DeviceBoot.__table__.c
_BOOTS = select(_boot.boot_id, _boot.mono_ms, _boot.seen_at).where(
    _boot.device_id == bindparam("device"), among(_boot.boot_id, "boots")
)
