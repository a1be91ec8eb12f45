"""Crews, their shifts, and the codes their devices enrol with."""

from __future__ import annotations

import io
from datetime import timedelta
from typing import Any

import segno
from flask import current_app, request
from sqlalchemy import select

from fieldsvc.api import access, etag, idempotency, paging
from fieldsvc.api.frame import Blueprint
from fieldsvc.api.schemas import (
    SKILL_PATTERN,
    Flag,
    Ident,
    Int,
    Lat,
    ListOf,
    Lon,
    Member,
    Schema,
    Text,
    UtcTime,
    page_of,
)
from fieldsvc.base.clock import parse_time, utc_now
from fieldsvc.base.db import reading, transaction
from fieldsvc.people import crews, devices
from fieldsvc.people.models import Crew, Shift

blp = Blueprint("crews", __name__, url_prefix="/v1/crews", description="Crews, their shifts and enrolment codes")

CODE_PATTERN = "^[0-9A-Za-z][0-9A-Za-z_.-]{0,39}$"


class Break(Schema):
    """A break, begun between two times."""

    earliest = UtcTime(required=True)
    latest = UtcTime(required=True)
    minutes = Int(1, 480, required=True)


class ShiftAnswer(Schema):
    id = Ident(required=True)
    starts_at = UtcTime(required=True)
    ends_at = UtcTime(required=True)
    breaks = ListOf(Member(Break), required=True)


class CrewMemberAnswer(Schema):
    id = Ident(required=True)
    name = Text(120, required=True)


class CrewAnswer(Schema):
    id = Ident(required=True)
    code = Text(40, required=True)
    name = Text(120, required=True)
    name_local = Text(120, required=True, allow_none=True)
    skills = ListOf(Text(40), required=True)
    territory_ids = ListOf(Ident(), max=1000, required=True)
    base_lon = Lon(required=True, allow_none=True)
    base_lat = Lat(required=True, allow_none=True)
    equipment = ListOf(Text(40), required=True)
    capacity = Int(required=True, allow_none=True)
    help_out_m = Int(required=True, allow_none=True)
    members = ListOf(Member(CrewMemberAnswer), required=True)
    active = Flag(required=True)
    rev = Int(1, required=True)


class CrewDetail(CrewAnswer):
    shifts = ListOf(Member(ShiftAnswer), required=True, metadata={"description": "The running and the next ones."})


class CrewChange(Schema):
    name = Text(120)
    name_local = Text(120, allow_none=True)
    skills = ListOf(Text(40, pattern=SKILL_PATTERN), max=50)
    territory_ids = ListOf(Ident(), max=1000, metadata={"description": "Home territories."})
    territory_codes = ListOf(
        Text(60), max=1000, metadata={"description": "Home territories by code, instead or besides."}
    )
    base_lon = Lon(allow_none=True)
    base_lat = Lat(allow_none=True)
    equipment = ListOf(
        Text(40, pattern=SKILL_PATTERN), max=50, metadata={"description": "What its vehicle carries, by name."}
    )
    capacity = Int(
        0, 10_000, allow_none=True, metadata={"description": "Units of load it takes along; null: no limit."}
    )
    help_out_m = Int(
        0,
        1_000_000,
        allow_none=True,
        metadata={"description": "How far beyond its home territories it may be sent, in metres; null: by the rules."},
    )
    members = ListOf(Text(120), max=50, metadata={"description": "The names of all members."})
    active = Flag()


class CrewNew(CrewChange):
    code = Text(40, required=True, pattern=CODE_PATTERN)
    name = Text(120, required=True)


class ShiftNew(Schema):
    starts_at = UtcTime(required=True)
    ends_at = UtcTime(required=True)
    breaks = ListOf(Member(Break), max=10)


class EnrolmentCodeShown(Schema):
    id = Ident(required=True)
    code = Text(20, required=True, metadata={"description": "Single use; shown this once."})
    expires_at = UtcTime(required=True)
    uri = Text(500, required=True, metadata={"description": "What the QR code says."})
    qr_svg = Text(20000, required=True)


def crew_answer(crew: Crew) -> dict[str, Any]:
    return {
        "id": crew.id,
        "code": crew.code,
        "name": crew.name,
        "name_local": crew.name_local,
        "skills": crew.skills,
        "territory_ids": crew.territory_ids,
        "base_lon": crew.base_lon,
        "base_lat": crew.base_lat,
        "equipment": crew.equipment,
        "capacity": crew.capacity,
        "help_out_m": crew.help_out_m,
        "members": [{"id": member.id, "name": member.name} for member in crew.members],
        "active": crew.active,
        "rev": crew.rev,
    }


def shift_answer(shift: Shift) -> dict[str, Any]:
    breaks = [
        {"earliest": parse_time(one["earliest"]), "latest": parse_time(one["latest"]), "minutes": one["minutes"]}
        for one in shift.breaks
    ]
    return {"id": shift.id, "starts_at": shift.starts_at, "ends_at": shift.ends_at, "breaks": breaks}


@blp.get("")
@access.staff()
@blp.arguments(paging.PageArgs, location="query")
@blp.response(200, page_of(CrewAnswer))
@blp.errors("bad-cursor")
def list_crews(args: dict[str, Any]) -> Any:
    """The crews with a home territory of yours, by code"""
    with reading():
        visible = crews.visible_ids(access.actor())
        statement = select(Crew) if visible is None else select(Crew).where(Crew.id.in_(visible))
        return paging.answer(paging.fetch(statement, [Crew.code], args, descending=False), crew_answer)


@blp.post("")
@access.staff("supervisor")
@idempotency.creates
@blp.arguments(CrewNew)
@blp.response(201, CrewAnswer)
@blp.errors("already-exists", "conflict")
def add_crew(body: dict[str, Any]) -> Any:
    """Add a crew"""
    crew = crews.create(access.actor(), utc_now(), **body)
    return crew_answer(crew), etag.tag(crew.rev) | {"Location": f"/v1/crews/{crew.id}"}


@blp.get("/<id:crew_id>")
@access.staff()
@blp.response(200, CrewDetail)
def one_crew(crew_id: str) -> Any:
    """One crew with its shifts"""
    with reading():
        crew = crews.get(access.actor(), crew_id)
        shifts = [shift_answer(shift) for shift in crews.shifts(crew.id, utc_now())]
        return crew_answer(crew) | {"shifts": shifts}, etag.tag(crew.rev)


@blp.patch("/<id:crew_id>")
@access.staff("supervisor")
@etag.if_match(required=False)
@blp.arguments(CrewChange)
@blp.response(200, CrewAnswer)
@blp.errors("conflict")
def change_crew(body: dict[str, Any], crew_id: str) -> Any:
    """Change a crew; its devices see it"""
    with transaction():
        crew = crews.get(access.actor(), crew_id, lock=True)
        etag.check(crew.rev)
        crew = crews.edit(access.actor(), utc_now(), crew, body)
        return crew_answer(crew), etag.tag(crew.rev)


@blp.post("/<id:crew_id>/shifts")
@access.staff("supervisor")
@idempotency.creates
@blp.arguments(ShiftNew)
@blp.response(201, ShiftAnswer)
@blp.errors("already-exists")
def add_shift(body: dict[str, Any], crew_id: str) -> Any:
    """Put a crew on duty

    At most 24 hours, and not overlapping another shift of the crew.
    """
    crew = crews.get(access.actor(), crew_id, lock=True)
    return shift_answer(crews.add_shift(access.actor(), utc_now(), crew, **body))


@blp.post("/<id:crew_id>/enrolment-codes")
@access.staff("supervisor")
@blp.response(201, EnrolmentCodeShown)
@blp.errors("state-not-allowed")
def new_code(crew_id: str) -> Any:
    """A single-use code for one device of the crew

    Short-lived, shown this once, as text and as QR code. Asking again makes another one.
    """
    ttl = timedelta(seconds=current_app.extensions["fieldsvc.settings"].enrolment_code_ttl)
    with transaction():
        crew = crews.get(access.actor(), crew_id)
        code, text = devices.new_code(access.actor(), utc_now(), crew, ttl)
        shown = {"id": code.id, "code": text, "expires_at": code.expires_at}
    uri = devices.enrolment_uri(request.host_url, text)
    return shown | {"uri": uri, "qr_svg": qr_svg(uri)}


def qr_svg(text: str) -> str:
    """A standalone SVG of the QR code for ``text``."""
    out = io.BytesIO()
    segno.make(text, error="m", micro=False).save(out, kind="svg", scale=4, xmldecl=False)
    return out.getvalue().decode()
