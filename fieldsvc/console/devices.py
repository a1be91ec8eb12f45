"""Devices of the crews: enrolled with a code that is shown once, looked at, revoked."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import segno
from flask import Response, current_app, make_response, render_template, request, url_for
from flask_babel import gettext as _
from sqlalchemy import select

from fieldsvc.api import paging
from fieldsvc.api.schemas import Choice, Ident, Schema, Text
from fieldsvc.base.clock import utc_now
from fieldsvc.base.db import among, db, reading, transaction
from fieldsvc.console.frame import SUPERVISORS, Refused, actor, asked, done, form, further, page, pages, typed
from fieldsvc.history import page as history
from fieldsvc.people import crews, devices
from fieldsvc.people.models import Crew, Device
from fieldsvc.sync import holdings

_CHANGES = ("device.enrolled", "device.enrolled_again", "device.revoked")
_SHOWN_CHANGES = 10
_STOP_POLLING = 286
"""What htmx takes as the last answer of a piece it asks for again and again."""


class _DeviceArgs(paging.PageArgs):
    crew = Ident()
    state = Choice("enrolled", "revoked")


class _Enrolment(Schema):
    crew_id = Ident(required=True)


class _Revocation(Schema):
    reason = Text(500, required=True)


@pages.get("/devices", endpoint="devices")
@page()
def list_devices() -> str:
    """The devices of one's crews, last enrolled first."""
    args = asked(_DeviceArgs)
    with reading():
        visible = crews.visible_ids(actor())
        wanted = select(Device) if visible is None else select(Device).where(among(Device.crew_id, visible))
        if "crew" in args:
            wanted = wanted.where(Device.crew_id == args["crew"])
        if "state" in args:
            wanted = wanted.where(Device.revoked_at.is_(None) == (args["state"] == "enrolled"))
        listed = paging.fetch(wanted, [Device.enrolled_at, Device.id], args)
        named = {one.id: one for one in crews.brief(actor())}
        return render_template("devices.html", devices=listed.rows, crews=named, args=args, next=further(listed.next))


@pages.get("/devices/enrol")
@page(*SUPERVISORS)
def enrolment() -> str:
    """Choose the crew that is to get a device."""
    return _enrolment({})


@pages.post("/devices/enrol")
@page(*SUPERVISORS)
def enrol() -> Any:
    """A code for one device of a crew, shown on this answer alone: no address, no log and no history has it."""
    now = utc_now()
    ttl = timedelta(seconds=current_app.extensions["fieldsvc.settings"].enrolment_code_ttl)
    try:
        with form(_Enrolment) as body, transaction():
            crew = crews.get(actor(), body["crew_id"])
            code, text = devices.new_code(actor(), now, crew, ttl)
            shown = {"code_id": code.id, "expires_at": code.expires_at}
            shown |= {"crew_id": crew.id, "crew_name": crew.name, "crew_name_local": crew.name_local}
    except Refused as refused:
        return _enrolment(refused.faults), refused.status
    server = request.host_url.rstrip("/")
    qr = segno.make(devices.enrolment_uri(server, text), error="m", micro=False).svg_inline(omitsize=True)
    return _unkept(render_template("device_code.html", text=text, server=server, qr=qr, now=now, state="open", **shown))


@pages.get("/devices/codes/<id:code_id>")
@page(*SUPERVISORS)
def enrolment_code(code_id: str) -> Response:
    """What has become of a code: still open, used by a device, or run out. Asked for again and again by its page."""
    now = utc_now()
    with reading():
        code = devices.code(actor(), code_id)
        device = db.session.get(Device, code.device_id) if code.device_id else None
        if code.used_at is None and code.expires_at > now:
            return _unkept("", 204)
        state = "used" if code.used_at else "over"
        shown = render_template("_device_code.html", state=state, device=device, crew_id=code.crew_id)
    return _unkept(shown, _STOP_POLLING)


@pages.get("/devices/<id:device_id>", endpoint="device")
@page()
def one_device(device_id: str) -> str:
    """One device: what it is, what it still holds, its latest operations."""
    return _device(device_id, {})


@pages.post("/devices/<id:device_id>/revoke")
@page(*SUPERVISORS)
def revoke_device(device_id: str) -> Any:
    """Refuse a device from its next call on, and have it remove what it holds."""
    try:
        with form(_Revocation) as body, transaction():
            device = devices.get(actor(), device_id, lock=True)
            devices.revoke(actor(), utc_now(), device, body["reason"])
    except Refused as refused:
        return _device(device_id, refused.faults), refused.status
    return done(
        _("The device is revoked. It is refused from its next call on, and told to remove what it holds."),
        url_for("console.device", device_id=device_id),
    )


def _enrolment(faults: dict[str, str]) -> str:
    with reading():
        known = [crew for crew in crews.brief(actor()) if crew.active]
    return render_template(
        "device_enrol.html", crews=known, faults=faults, typed=typed(), chosen=request.args.get("crew")
    )


def _device(device_id: str, faults: dict[str, str]) -> str:
    with reading():
        device = devices.get(actor(), device_id)
        return render_template(
            "device.html", device=device, crew=db.session.get_one(Crew, device.crew_id), holds=holdings.of(device),
            entries=history.latest(_CHANGES, _SHOWN_CHANGES, entity_id=device_id), faults=faults, typed=typed(),
            codes={one.id: one.code for one in crews.brief(actor())},
        )  # fmt: skip


def _unkept(text: str, status: int = 200) -> Response:
    response = make_response(text, status)
    response.headers["Cache-Control"] = "no-store"
    return response
