"""The devices of the crews: which there are, and revoking one."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from sqlalchemy import select

from fieldsvc.api import access, paging
from fieldsvc.api.frame import Blueprint
from fieldsvc.api.schemas import Ident, Int, ListOf, Member, Schema, Text, UtcTime, page_of
from fieldsvc.base.clock import utc_now
from fieldsvc.base.db import reading, transaction
from fieldsvc.people import crews, devices
from fieldsvc.people.models import Device
from fieldsvc.sync import holdings

blp = Blueprint("devices", __name__, url_prefix="/v1/devices", description="Enrolled devices")


class DeviceAnswer(Schema):
    id = Ident(required=True)
    crew_id = Ident(required=True)
    install_id = Text(80, required=True)
    platform = Text(80, required=True, allow_none=True)
    app_version = Text(40, required=True, allow_none=True)
    enrolled_at = UtcTime(required=True)
    last_seen_at = UtcTime(required=True, allow_none=True)
    revoked_at = UtcTime(required=True, allow_none=True)
    clock_offset_ms = Int(
        -(2**53),
        2**53,
        required=True,
        allow_none=True,
        metadata={"description": "Server time minus device time, as last measured."},
    )
    pending = Int(required=True, allow_none=True, metadata={"description": "Operations it said it still holds."})
    pending_at = UtcTime(required=True, allow_none=True, metadata={"description": "When it said so."})


class SeqRange(Schema):
    first = Int(1, 2**53, required=True)
    last = Int(1, 2**53, required=True)


class DeviceHolds(Schema):
    next_seq = Int(1, 2**53, required=True, metadata={"description": "The first number that has not come."})
    last_seq = Int(0, 2**53, required=True, metadata={"description": "The highest number that has come."})
    missing = ListOf(
        Member(SeqRange),
        max=holdings.MOST,
        required=True,
        metadata={"description": "Numbers that never came though later ones did."},
    )
    held = ListOf(
        Text(80),
        max=holdings.MOST,
        required=True,
        metadata={"description": "Operations that wait for what is missing, or for other devices; the first of them."},
    )
    held_count = Int(required=True)
    undecided = Int(required=True, metadata={"description": "Received and without an outcome, held ones included."})
    received_since = Int(required=True, metadata={"description": "Operations that came after `pending_at`."})
    outstanding = Int(
        required=True,
        allow_none=True,
        metadata={"description": "What it must still hold: `pending` less `received_since`; null: it never said."},
    )
    last_received_at = UtcTime(required=True, allow_none=True)


class DeviceDetail(DeviceAnswer):
    holds = Member(DeviceHolds, required=True, metadata={"description": "What it has handed in and still holds."})


class DeviceFilter(paging.PageArgs):
    crew = Ident(metadata={"description": "Only the devices of this crew."})


class DeviceRevocation(Schema):
    reason = Text(500)


def device_answer(device: Device) -> dict[str, Any]:
    return {name: getattr(device, name) for name in DeviceAnswer._declared_fields}


@blp.get("")
@access.staff()
@blp.arguments(DeviceFilter, location="query")
@blp.response(200, page_of(DeviceAnswer))
@blp.errors("bad-cursor")
def list_devices(args: dict[str, Any]) -> Any:
    """The devices of your crews, last enrolled first"""
    with reading():
        visible = crews.visible_ids(access.actor())
        statement = select(Device) if visible is None else select(Device).where(Device.crew_id.in_(visible))
        if "crew" in args:
            statement = statement.where(Device.crew_id == args["crew"])
        return paging.answer(paging.fetch(statement, [Device.enrolled_at, Device.id], args), device_answer)


@blp.get("/<id:device_id>")
@access.staff()
@blp.response(200, DeviceDetail)
def one_device(device_id: str) -> Any:
    """One device, and what it still holds as far as known"""
    with reading():
        device = devices.get(access.actor(), device_id)
        found = asdict(holdings.of(device))
        found["missing"] = [{"first": first, "last": last} for first, last in found["missing"]]
        return device_answer(device) | {"holds": found}


@blp.post("/<id:device_id>/revoke")
@access.staff("supervisor")
@blp.arguments(DeviceRevocation, required=False)
@blp.response(200, DeviceAnswer)
def revoke(body: dict[str, Any], device_id: str) -> Any:
    """Revoke a device: its next call is refused and tells it to wipe

    What it has sent stays. A new enrolment code lets it back in.
    """
    with transaction():
        device = devices.get(access.actor(), device_id, lock=True)
        return device_answer(devices.revoke(access.actor(), utc_now(), device, body.get("reason")))
