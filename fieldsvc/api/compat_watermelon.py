"""``/sync/v1/compat/watermelon``: the two routes that WatermelonDB's ``synchronize()`` asks for."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any

import marshmallow as ma
import msgspec
import orjson
from flask import Response, g, request, stream_with_context

from fieldsvc import queue
from fieldsvc.api import access, pressure
from fieldsvc.api.frame import Blueprint
from fieldsvc.api.lanes import lane
from fieldsvc.api.schemas import Flag, Int, JsonObject, ListOf, Member, Schema, Text, UtcTime
from fieldsvc.api.sync import answer, current_settings, note_pull, read_body, refuse_ended_app, scopes
from fieldsvc.api.sync_copy import pack
from fieldsvc.base.clock import utc_now
from fieldsvc.base.db import reading, transaction
from fieldsvc.base.errors import FieldsvcError, Invalid
from fieldsvc.sync import receive, watermelon, watermelon_push
from fieldsvc.sync.clocks import Clock
from fieldsvc.sync.envelope import fault
from fieldsvc.sync.outcomes import device_scope

blp = Blueprint(
    "compat_watermelon",
    __name__,
    url_prefix="/sync/v1/compat/watermelon",
    description="For apps on WatermelonDB: what its synchronize() pulls and pushes",
)


def _stamp(**about: str) -> Text:
    return Text(16, pattern=r"^(null|[0-9]{1,16})$", reason="must be a timestamp of a pull, or null", metadata=about)


class PullArgs(Schema):
    last_pulled_at = _stamp(description="`timestamp` of the pull before; null: the first sync.")
    schema_version = Int(0, 2**31, metadata={"description": "Of the app's own schema; nothing follows from it."})
    migration = Text(
        2000, metadata={"description": "JSON: what the app's schema has got since; not null: everything is told."}
    )


class TableRows(Schema):
    created = ListOf(JsonObject(), max=0, required=True)
    updated = ListOf(JsonObject(), max=2**31, required=True)
    deleted = ListOf(Text(80), max=0, required=True)


class Tables(Schema):
    jobs = Member(TableRows, required=True)
    customers = Member(TableRows, required=True)
    usage_points = Member(TableRows, required=True)
    meters = Member(TableRows, required=True)
    outcomes = Member(TableRows, required=True)


class PulledTables(Schema):
    timestamp = Int(1, 2**53, required=True)
    reset = Flag(metadata={"description": "This is everything: drop what is not in it and was not changed here."})
    changes = Member(Tables, required=True)


def _pull_lane() -> str:
    return "pull" if request.args.get("last_pulled_at", "null") != "null" else "first"


@blp.get("/pull")
@access.device()
@lane(_pull_lane)
@blp.arguments(PullArgs, location="query")
@blp.response(200, PulledTables)
@blp.errors("upgrade-required")
def pull(args: dict[str, Any]) -> Response:
    """What has changed since the last pull, as rows"""
    now = utc_now()
    refuse_ended_app(now)
    mine, last = scopes(), _number(args.get("last_pulled_at"))
    with reading():
        what = watermelon.asked(g.actor.device_id, mine, last, whole=args.get("migration", "null") != "null")
    stamp = what.stamp
    if stamp is None:
        with transaction():
            stamp = watermelon.keep(g.actor.device_id, what, last, now)
    own = device_scope(g.actor.device_id)
    note_pull(what.ends.get(own, 0), (what.seen or {}).get(own, 0), now)
    pieces = watermelon.pieces(mine, what, stamp)
    body: Iterator[bytes] = chain([next(pieces)], pieces)  # what can fail fails before the answer has begun
    packed = request.accept_encodings.find("gzip") >= 0
    response = Response(stream_with_context(pack(body) if packed else body), mimetype="application/json")
    response.headers["Vary"] = "Accept-Encoding"
    if packed:
        response.headers["Content-Encoding"] = "gzip"
    return response


def _number(stamp: str | None) -> int | None:
    return None if stamp in (None, "null") else int(stamp)


class PushArgs(Schema):
    last_pulled_at = _stamp(description="`timestamp` of the pull just made.")
    device_time = UtcTime(metadata={"description": "What the device's clock says now."})


class RejectedIds(Schema):
    """Per table the ids of rows of which nothing was taken."""

    class Meta:
        unknown = ma.INCLUDE


class PushedTables(Schema):
    experimentalRejectedIds = Member(RejectedIds, required=True)  # noqa: N815 - WatermelonDB's name


_ID = {"type": "string", "minLength": 1, "maxLength": 80, "pattern": "^[A-Za-z0-9._:-]+$"}
_ROWS = {"type": "array", "items": {"type": "object", "required": ["id"], "properties": {"id": _ID}}}
_CHANGES = {
    "type": "object",
    "description": "Table -> what was changed in it.",
    "propertyNames": {"minLength": 1, "maxLength": 60},
    "additionalProperties": {
        "type": "object",
        "properties": {"created": _ROWS, "updated": _ROWS, "deleted": {"type": "array", "items": _ID}},
    },
}


@blp.post("/push")
@access.device(work=True)
@blp.arguments(PushArgs, location="query")
@blp.raw_body(_CHANGES)
@blp.response(200, PushedTables, headers=pressure.HEADER)
@blp.errors("invalid", "too-large")
def push(args: dict[str, Any]) -> Response:
    """Hand in what was changed on the device; each row is stored before this answers, and judged by itself"""
    now, settings = utc_now(), current_settings()
    pressure.refuse_when_full()
    changes = _read_changes(read_body(settings.push_bytes))
    told = args.get("device_time")
    clock = Clock(now, None if told is None else now - told)
    sender = receive.Sender(g.actor.device_id, g.actor.crew_id, g.actor.install_id)
    last = _number(args.get("last_pulled_at")) or 0
    with transaction():
        pushed = watermelon_push.push(sender, changes, last, clock, settings, g.actor.source(now))
    for install_id in pushed.waiting:
        queue.ring("reconcile", install_id)
    response = answer(orjson.dumps({"experimentalRejectedIds": pushed.rejected}))
    response.headers.update(pressure.backoff()[1])
    return response


def _read_changes(data: bytes) -> watermelon_push.Changes:
    try:
        return watermelon_push.read_changes(data)
    except msgspec.ValidationError as error:
        raise Invalid("the push is not valid", errors=[fault(error)]) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FieldsvcError("bad-request", f"the body is not JSON: {error}") from None
