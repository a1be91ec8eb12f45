"""``/sync/v1``: what a crew's device calls. One conversation is told in ``docs/sync-protocol``."""

from __future__ import annotations

import gzip
import zlib
from datetime import datetime
from typing import Any

import marshmallow as ma
import msgspec
import orjson
from flask import Response, current_app, g, request

from fieldsvc import queue
from fieldsvc.api import access, limits, pressure
from fieldsvc.api.frame import Blueprint
from fieldsvc.api.lanes import lane
from fieldsvc.api.schemas import Choice, Flag, Ident, Int, JsonObject, ListOf, Member, Schema, Text, UtcTime
from fieldsvc.base.clock import format_time, utc_now
from fieldsvc.base.db import reading, transaction
from fieldsvc.base.errors import FieldsvcError, Invalid
from fieldsvc.config import Settings
from fieldsvc.feed import pull as feed
from fieldsvc.people import devices
from fieldsvc.sync import attachments, outcomes, positions, receive
from fieldsvc.sync import hello as told
from fieldsvc.sync.clocks import Clock, device_clock
from fieldsvc.sync.envelope import Push, fault, read_push

blp = Blueprint("sync", __name__, url_prefix="/sync/v1", description="What crews' devices call")

_JSON = "application/json"
_GZIP_FROM = 1400
"""Answers from this size on are compressed for those who ask: below it they fit one packet anyway."""


def current_settings() -> Settings:
    """What this service runs with."""
    found: Settings = current_app.extensions["fieldsvc.settings"]
    return found


def scopes() -> list[str]:
    """The scopes of the feed that the calling device reads."""
    return ["ref", f"crew:{g.actor.crew_id}", outcomes.device_scope(g.actor.device_id)]


class EnrolArgs(Schema):
    code = Text(40, required=True, metadata={"description": "The single-use code a supervisor has given out."})
    install_id = Ident(required=True)
    platform = Text(80)
    app_version = Text(40)


class Enrolled(Schema):
    device_id = Ident(required=True)
    crew_id = Ident(required=True)
    token = Text(200, required=True, metadata={"description": "Shown once; send it as Authorization: Bearer."})
    server_time = UtcTime(required=True)


@blp.post("/enrol")
@access.public("a device has no token yet; the single-use code is its proof, and attempts are limited")
@blp.arguments(EnrolArgs)
@blp.response(201, Enrolled)
@blp.errors("not-found", "code-used", "code-expired", "install-in-use", "too-many-requests", "conflict")
def enrol(body: dict[str, Any]) -> dict[str, Any]:
    """Turn an enrolment code into a device with a token of its own

    An installation that is in use sends its present token along; without it only a revoked one is enrolled again.
    """
    now = utc_now()
    with limits.attempt("enrol"), transaction():
        device, token = devices.enrol(
            body["code"],
            body["install_id"],
            body.get("platform"),
            body.get("app_version"),
            now,
            held=access.presented(),
        )
        return {"device_id": device.id, "crew_id": device.crew_id, "token": token, "server_time": now}


class HelloArgs(Schema):
    class Meta:
        unknown = ma.EXCLUDE

    device_time = UtcTime(required=True)
    mono_ms = Int(0, 2**53 - 1)
    boot_id = Text(80)
    schema_version = Int(0, 1_000_000)
    app_version = Text(40)
    pending = Int(0, 1_000_000, metadata={"description": "Operations the device has not sent yet."})


class Limits(Schema):
    push_ops = Int(required=True)
    push_bytes = Int(required=True)
    op_bytes = Int(required=True)
    pull_rows = Int(required=True)
    attachment_bytes = Int(required=True)


class Hello(Schema):
    server_time = UtcTime(required=True)
    epoch = Text(80, required=True)
    upgrade = Choice("ok", "soft_eol", "hard_eol", required=True)
    limits = Member(Limits, required=True)
    backoff_s = Int(required=True)
    next_seq = Int(1, 2**53, required=True)


@blp.post("/hello")
@access.device()
@blp.arguments(HelloArgs)
@blp.response(200, Hello, headers=pressure.HEADER)
def hello(body: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Say that the line is back: compare clocks, learn what to send again"""
    now, settings = utc_now(), current_settings()
    backoff_s, headers = pressure.backoff()
    with transaction():
        clock = Clock(now, now - body["device_time"], body.get("mono_ms"), body.get("boot_id"))
        told.note(g.actor.device_id, clock, body.get("pending"), body.get("app_version"))
        device = devices.runs(g.actor, body.get("app_version"), body.get("schema_version"))
        answered = {
            "server_time": now,
            "epoch": feed.epoch(),
            "upgrade": devices.upgrade(device, now),
            "limits": {
                name: getattr(settings, name)
                for name in ("push_ops", "push_bytes", "op_bytes", "pull_rows", "attachment_bytes")
            },
            "backoff_s": backoff_s,
            "next_seq": receive.next_seq(g.actor.install_id),
        }
        return answered, headers


class PullArgs(Schema):
    cp = Text(4000, pattern="^[!-~]+$", metadata={"description": "The checkpoint of the pull before; none: all."})
    limit = Int(1, 500, metadata={"description": "How many changes; by default, and at most, what hello tells."})


class Change(Schema):
    op = Choice("put", "delete", "leave", required=True)
    entity = Text(30, required=True)
    id = Text(80, required=True)
    rev = Int(0, 2**53, required=True)
    doc = JsonObject()
    reason = Text(40)


class Pulled(Schema):
    changes = ListOf(Member(Change), max=500, required=True)
    checkpoint = Text(4000, required=True)
    has_more = Flag(required=True)
    reset = Flag(metadata={"description": "Drop the copy, keep what is pending, and pull from the beginning."})
    server_time = UtcTime(required=True)


def refuse_ended_app(now: datetime) -> None:
    """Tell a device no news whose app is at its end; what it has to hand in is taken all the same.

    :raises FieldsvcError: ``upgrade-required``.
    """
    if devices.upgrade(g.actor, now) == "hard_eol":
        version = g.actor.app_version or "this version"
        raise FieldsvcError("upgrade-required", f"the app ({version}) is too old to be told anything: update it")


def _pull_lane() -> str:
    first = feed.is_first(scopes(), request.args.get("cp"), current_app.config["SECRET_KEY"])
    return "first" if first else "pull"


@blp.get("/pull")
@access.device()
@lane(_pull_lane)
@blp.arguments(PullArgs, location="query")
@blp.response(200, Pulled)
@blp.errors("bad-cursor", "upgrade-required")
def pull(args: dict[str, Any]) -> Response:
    """What has changed since the checkpoint"""
    settings, now = current_settings(), utc_now()
    refuse_ended_app(now)
    limit = args.get("limit", settings.pull_rows)
    if limit > settings.pull_rows:
        raise Invalid.field("limit", f"must be 1 to {settings.pull_rows}")
    with reading():
        page = feed.page(scopes(), args.get("cp"), limit, current_app.config["SECRET_KEY"])
    if not page.has_more:
        own = outcomes.device_scope(g.actor.device_id)
        note_pull(page.reached.get(own, 0), page.begun.get(own, 0), now)
    rest: dict[str, Any] = {"checkpoint": page.checkpoint, "has_more": page.has_more, "server_time": format_time(now)}
    if page.reset:
        rest["reset"] = True
    return answer(orjson.dumps({"changes": page.changes} | rest))


def note_pull(told: int, seen: int, now: datetime) -> None:
    """Keep how far the calling device has come in its own feed, where that is news (see :func:`devices.pull_is_news`):
    so the office can see what its crew cannot know yet.
    """
    if devices.pull_is_news(g.actor, now, told, seen):
        with transaction():
            devices.note_pull(g.actor.device_id, now, told, seen)


_MISSING = {"description": "Ids of required attachments that have to be sent (again)."}


class OneResult(Schema):
    op_id = Text(80, required=True)
    status = Text(30, required=True)
    reason = Text(40)
    errors = ListOf(JsonObject(), max=50)
    missing = ListOf(Text(80), max=50, metadata=_MISSING)
    outcome = JsonObject(metadata={"description": "Of a duplicate: what became of the first."})


class PositionsTaken(Schema):
    taken = Int(0, positions.MOST, required=True)
    refused = ListOf(JsonObject(), max=20, required=True)


class PushResults(Schema):
    results = ListOf(Member(OneResult), max=200, required=True)
    positions = Member(PositionsTaken, metadata={"description": "Only where the push had positions."})
    next_seq = Int(1, 2**53, required=True)
    backoff_s = Int(required=True)


_PUSH_SCHEMA = {
    "type": "object",
    "required": ["install_id", "ops"],
    "properties": {
        "install_id": {"type": "string", "minLength": 1, "maxLength": 80, "pattern": "^[A-Za-z0-9._:-]+$"},
        "ops": {
            "type": "array",
            "maxItems": 200,
            "items": {"description": "An operation (schema `Operation`). Each is judged by itself."},
        },
        "device_time": {"type": ["string", "null"], "maxLength": 40, "format": "date-time"},
        "mono_ms": {"type": ["integer", "null"], "minimum": 0, "maximum": 2**53 - 1},
        "boot_id": {"type": ["string", "null"], "maxLength": 80},
        "app_version": {"type": ["string", "null"], "maxLength": 40},
        "positions": {
            "description": "Where the device was, the oldest first: at most 100. What is wrong with one is told in the "
            "answer and hinders nothing beside it.",
            "items": {
                "type": "object",
                "properties": {
                    "at": {"type": "string", "maxLength": 40, "format": "date-time"},
                    "lon": {"type": "number", "minimum": -180, "maximum": 180},
                    "lat": {"type": "number", "minimum": -90, "maximum": 90},
                    "accuracy_m": {"type": ["number", "null"], "minimum": 0, "maximum": 100_000},
                    "mono_ms": {"type": ["integer", "null"], "minimum": 0, "maximum": 2**53 - 1},
                    "boot_id": {"type": ["string", "null"], "maxLength": 80},
                },
            },
        },
    },
}


@blp.post("/push")
@access.device(work=True)
@blp.raw_body(_PUSH_SCHEMA)
@blp.response(200, PushResults, headers=pressure.HEADER)
@blp.errors("invalid", "too-large")
def push() -> Response:
    """Hand in operations: each is stored before this answers, and answered by itself"""
    now, settings = utc_now(), current_settings()
    pressure.refuse_when_full()
    message = _read_push(read_body(settings.push_bytes))
    clock = _clock(message, now)
    sender = receive.Sender(g.actor.device_id, g.actor.crew_id, g.actor.install_id)
    with transaction():
        devices.runs(g.actor, message.app_version)
        received = receive.push(sender, message, clock, settings, g.actor.source(now))
        whereabouts = _positions(sender, message, clock, settings)
    for install_id in received.waiting:
        queue.ring("reconcile", install_id)
    backoff_s, headers = pressure.backoff()
    body = {"results": received.results, "next_seq": received.next_seq, "backoff_s": backoff_s}
    response = answer(orjson.dumps(body | whereabouts))
    response.headers.update(headers)
    return response


def _positions(sender: receive.Sender, message: Push, clock: Clock, settings: Settings) -> dict[str, Any]:
    listed = bytes(message.positions)
    if listed in (b"", b"null"):
        return {}
    return {"positions": positions.take(sender, listed, clock, settings)}


def _clock(message: Push, now: datetime) -> Clock:
    try:
        return device_clock(now, message.device_time, message.mono_ms, message.boot_id)
    except ValueError as error:
        raise Invalid.field("/device_time", str(error)) from None


def _read_push(data: bytes) -> Push:
    try:
        return read_push(data)
    except msgspec.ValidationError as error:
        raise Invalid("the push is not valid", errors=[fault(error)]) from None
    except msgspec.DecodeError as error:
        raise FieldsvcError("bad-request", f"the body is not JSON: {error}") from None


def read_body(most: int) -> bytes:
    """The request's body, unpacked; never more than ``most`` bytes, whatever a small gzip claims to hold."""
    if request.mimetype != _JSON:
        raise FieldsvcError("unsupported-media-type", f"send the body as {_JSON}")
    encoding = request.headers.get("Content-Encoding", "identity").lower()
    if encoding not in ("identity", "gzip"):
        raise FieldsvcError("unsupported-media-type", "Content-Encoding may be gzip or identity")
    too_large = FieldsvcError("too-large", f"a push has at most {most} bytes", limit=most)
    if (request.content_length or 0) > most:
        raise too_large
    data = request.get_data(cache=False)
    if encoding == "gzip":
        unpack = zlib.decompressobj(wbits=31)
        try:
            data = unpack.decompress(data, most + 1)
        except zlib.error:
            raise FieldsvcError("bad-request", "the body is not gzip") from None
        if len(data) <= most and not unpack.eof:
            raise FieldsvcError("bad-request", "the gzip body is cut off")
    if len(data) > most:
        raise too_large
    return data


def answer(data: bytes) -> Response:
    """JSON text as an answer, compressed for those who ask when it is worth it."""
    response = Response(data, mimetype=_JSON)
    response.headers["Vary"] = "Accept-Encoding"
    if len(data) >= _GZIP_FROM and request.accept_encodings.find("gzip") >= 0:
        response.set_data(gzip.compress(data, compresslevel=1, mtime=0))
        response.headers["Content-Encoding"] = "gzip"
    return response


class OpsArgs(Schema):
    ids = Text(
        7_400,  # 200 UUIDs and their commas: a request line of the web server holds 8,190 bytes
        required=True,
        pattern=r"^[A-Za-z0-9._:-]{1,80}(,[A-Za-z0-9._:-]{1,80}){0,199}$",
        reason="must be 1 to 200 operation ids with commas",
        metadata={"description": "1 to 200 operation ids, with commas."},
    )


class OpState(Schema):
    op_id = Text(80, required=True)
    status = Text(30, required=True)
    reason = Text(40, allow_none=True)
    outcome = JsonObject(allow_none=True)
    missing = ListOf(Text(80), max=50, metadata=_MISSING)


class OpStates(Schema):
    results = ListOf(Member(OpState), max=200, required=True)


@blp.get("/ops")
@access.device()
@blp.arguments(OpsArgs, location="query")
@blp.response(200, OpStates)
def ops(args: dict[str, Any]) -> Response:
    """What became of operations: for a device that lost an answer"""
    with reading():
        results = attachments.with_missing(outcomes.of_device(g.actor.device_id, args["ids"].split(",")))
    return answer(orjson.dumps({"results": results}))
