"""Positions that come with a push: read one by one, put at the time they were really taken, handed to ``people``."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct
from sqlalchemy import bindparam, select

from fieldsvc.base.clock import parse_time
from fieldsvc.base.db import db
from fieldsvc.config import Settings
from fieldsvc.geo.positions import Fix, Sampling
from fieldsvc.people import devices, positions
from fieldsvc.people.models import Device
from fieldsvc.sync import hello
from fieldsvc.sync.clocks import SUSPECT, Boot, Clock, Seen, Told, estimates
from fieldsvc.sync.envelope import Count, fault, members
from fieldsvc.sync.receive import Sender

MOST = 100
"""How many one push may bring."""

_MANY_FAULTS = 20


class Position(Struct, kw_only=True):
    """A place as a device tells it: degrees, metres, and the time by the device's own clocks."""

    at: Annotated[str, Meta(max_length=40)]
    lon: Annotated[float, Meta(ge=-180, le=180)]
    lat: Annotated[float, Meta(ge=-90, le=90)]
    accuracy_m: Annotated[float, Meta(ge=0, le=100_000)] | None = None
    mono_ms: Count | None = None
    boot_id: Annotated[str, Meta(max_length=80, pattern=r"^[^\0]*\Z")] | None = None


@dataclass(frozen=True)
class _Placed:
    index: int
    position: Position
    claimed: datetime


Fault = dict[str, str]


def take(sender: Sender, listed: bytes, clock: Clock, settings: Settings) -> dict[str, Any]:
    """Keep what a push told of where the device was; call after its operations, in their transaction.

    Answers ``{"taken", "refused": [{"field", "reason"}]}``. ``taken`` counts what need not be sent again, also when it
    was too close to another position to be kept. Nothing in ``listed`` makes the push fail.
    """
    read, faults = _read(listed)
    fixes: list[Fix] = []
    if read:
        device = db.session.execute(_DEVICE, {"device": sender.device_id}).one()
        fixes, late = _timed(sender.device_id, device, read, clock, timedelta(seconds=settings.position_ttl))
        faults += late
        by_crew: defaultdict[str, list[Fix]] = defaultdict(list)
        for fix in sorted(fixes, key=lambda fix: fix.at):
            crew_id = sender.crew_id
            if fix.at < device.enrolled_at:
                crew_id = devices.crew_at(sender.device_id, fix.at) or crew_id
            by_crew[crew_id].append(fix)
        for crew_id, of_crew in by_crew.items():
            positions.keep(
                sender.device_id, crew_id, of_crew, Sampling(settings.position_seconds, settings.position_metres)
            )
    return {"taken": len(fixes), "refused": faults[:_MANY_FAULTS]}


_device = Device.__table__.c
_DEVICE = select(
    _device.clock_offset_ms,
    _device.last_seen_at,
    _device.clock_former_ms,
    _device.clock_former_at,
    _device.enrolled_at,
).where(_device.id == bindparam("device"))


def _read(listed: bytes) -> tuple[list[_Placed], list[Fault]]:
    found = members(listed)
    if found is None:
        return [], [{"field": "/positions", "reason": "must be a list"}]
    read: list[_Placed] = []
    faults: list[Fault] = []
    for index, raw in enumerate(found[:MOST]):
        one = _one(index, raw)
        if isinstance(one, _Placed):
            read.append(one)
        else:
            faults.append(one)
    if len(found) > MOST:
        reason = f"a push has at most {MOST} positions; send this one and those behind it with the next"
        faults.append({"field": f"/positions/{MOST}", "reason": reason})
    return read, faults


def _one(index: int, raw: bytes) -> _Placed | Fault:
    at = f"/positions/{index}"
    try:
        position = msgspec.json.decode(raw, type=Position)
    except msgspec.ValidationError as error:
        return fault(error, at)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {"field": at, "reason": "not valid JSON text"}
    if position.lon == 0 and position.lat == 0:
        return {"field": f"{at}/lon", "reason": "0/0 is not a place: the coordinates are missing"}
    try:
        return _Placed(index, position, parse_time(position.at))
    except ValueError as error:
        return {"field": f"{at}/at", "reason": str(error)}


def _timed(
    device_id: str, device: Any, read: Sequence[_Placed], clock: Clock, ttl: timedelta
) -> tuple[list[Fix], list[Fault]]:
    """When each was really taken (see ``clocks``), and those for which that cannot be, or was too long ago."""
    boots = _boots(device_id, read, clock)
    seen = Seen(
        _ms(device.clock_offset_ms), device.last_seen_at, _ms(device.clock_former_ms), device.clock_former_at, boots
    )
    offsets = [offset for offset in (clock.offset, seen.offset, seen.former) if offset is not None] or [timedelta(0)]
    faults: list[Fault] = []
    possible = []
    for one in read:
        if _exact(one, boots, clock) or any(_not_after(one.claimed, offset, clock.now + SUSPECT) for offset in offsets):
            possible.append(one)
        else:
            faults.append({"field": f"/positions/{one.index}/at", "reason": "lies in the future"})
    told = [Told(one.index, one.claimed, one.position.mono_ms, one.position.boot_id) for one in possible]
    fixes = []
    for one, at in zip(possible, estimates(clock, seen, told), strict=True):
        if at < clock.now - ttl:
            reason = f"was taken longer ago than positions are kept ({ttl // timedelta(hours=1)} hours)"
            faults.append({"field": f"/positions/{one.index}/at", "reason": reason})
        else:
            fixes.append(Fix(at, at, one.position.lon, one.position.lat, one.position.accuracy_m))
    return fixes, faults


def _boots(device_id: str, read: Sequence[_Placed], clock: Clock) -> Mapping[str, Boot]:
    others = {one.position.boot_id for one in read} - {clock.boot_id, None}
    return hello.boots(device_id, [boot for boot in others if boot]) if others else {}


def _exact(one: _Placed, boots: Mapping[str, Boot], clock: Clock) -> bool:
    known = {*boots, clock.boot_id if clock.mono_ms is not None else None} - {None}
    return one.position.mono_ms is not None and one.position.boot_id in known


def _not_after(claimed: datetime, offset: timedelta, latest: datetime) -> bool:
    try:
        return claimed + offset <= latest
    except OverflowError:
        return False


def _ms(milliseconds: int | None) -> timedelta | None:
    return None if milliseconds is None else timedelta(milliseconds=milliseconds)
