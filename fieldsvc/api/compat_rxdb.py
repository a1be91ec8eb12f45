"""``/sync/v1/compat/rxdb``: what RxDB's HTTP replication asks for, one set of routes per collection."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import marshmallow as ma
import orjson
from flask import Response, current_app, g, request

from fieldsvc import queue
from fieldsvc.api import access, pressure
from fieldsvc.api.frame import Blueprint
from fieldsvc.api.lanes import lane
from fieldsvc.api.schemas import Flag, Ident, Int, JsonObject, ListOf, Member, Schema, Text, UtcTime
from fieldsvc.api.stream import respond
from fieldsvc.api.sync import answer, current_settings, note_pull, read_body, refuse_ended_app
from fieldsvc.base.clock import utc_now
from fieldsvc.base.db import reading, transaction
from fieldsvc.base.errors import FieldsvcError, Invalid
from fieldsvc.sync import foreign, receive, rxdb
from fieldsvc.sync.clocks import Clock

blp = Blueprint(
    "compat_rxdb",
    __name__,
    url_prefix="/sync/v1/compat/rxdb",
    description="For apps on RxDB: what its HTTP replication pulls, pushes and listens to",
)

_READ = f"<any({', '.join(rxdb.COLLECTIONS)}):collection>"
_WRITTEN = f"<any({', '.join([*sorted(rxdb.EDITED), rxdb.OPERATIONS])}):collection>"


def _reader() -> rxdb.Reader:
    return rxdb.Reader(g.actor.device_id, g.actor.crew_id)


class PullArgs(Schema):
    checkpoint = Text(
        4000, pattern="^[!-~]+$", metadata={"description": "`token` of the checkpoint before; none: everything."}
    )
    limit = Int(1, 500, metadata={"description": "RxDB's batch size; by default, and at most, what hello tells."})


class RxdbCheckpoint(Schema):
    token = Text(4000, required=True)


class RxdbPage(Schema):
    documents = ListOf(JsonObject(), max=500, required=True)
    checkpoint = Member(RxdbCheckpoint, required=True)
    reset = Flag(metadata={"description": "All was told anew: ask what of the rest is gone."})


def _pull_lane() -> str:
    return "pull" if request.args.get("checkpoint") else "first"


@blp.get(f"/{_READ}/pull")
@access.device()
@lane(_pull_lane)
@blp.arguments(PullArgs, location="query")
@blp.response(200, RxdbPage)
@blp.errors("upgrade-required")
def pull(args: dict[str, Any], collection: str) -> Response:
    """The documents of a collection that have changed since the checkpoint

    A page that is not full is the last one. `{"_deleted": true}` with the primary key alone: no longer the crew's.
    """
    settings, now = current_settings(), utc_now()
    refuse_ended_app(now)
    limit = args.get("limit", settings.pull_rows)
    if limit > settings.pull_rows:
        raise Invalid.field("limit", f"must be 1 to {settings.pull_rows}")
    with reading():
        page = rxdb.page(_reader(), collection, args.get("checkpoint"), limit, current_app.config["SECRET_KEY"])
    if page.whole:
        _, told, seen = g.actor.pulled
        mine = (page.reached, page.begun) if collection == rxdb.OUTCOMES else (told or 0, seen or 0)
        note_pull(*mine, now)
    rest: dict[str, Any] = {"checkpoint": {"token": page.checkpoint}} | ({"reset": True} if page.reset else {})
    return answer(b'{"documents":[' + ",".join(page.documents).encode() + b"]," + orjson.dumps(rest)[1:])


class RxdbIds(Schema):
    ids = ListOf(Ident(), max=500, required=True)


@blp.post(f"/{_READ}/gone")
@access.device()
@lane("pull")
@blp.arguments(RxdbIds)
@blp.response(200, RxdbIds)
@blp.errors("upgrade-required")
def gone(body: dict[str, Any], collection: str) -> Response:
    """Which of these documents the device is not to hold any more: after a pull with `reset`, or to check"""
    refuse_ended_app(utc_now())
    with reading():
        return answer(orjson.dumps({"ids": rxdb.gone(_reader(), collection, body["ids"])}))


class PushArgs(Schema):
    device_time = UtcTime(metadata={"description": "What the device's clock says now."})


class RxdbDocument(Schema):
    """A document as it is on record, for RxDB to take over."""

    class Meta:
        unknown = ma.INCLUDE


_ROWS: dict[str, Any] = {
    "type": "array",
    "maxItems": 200,
    "items": {
        "type": "object",
        "required": ["newDocumentState"],
        "properties": {
            "newDocumentState": {"type": "object", "description": "Holds the primary key: `id`, or `op_id`."},
            "assumedMasterState": {"type": ["object", "null"]},
        },
    },
}


@blp.post(f"/{_WRITTEN}/push")
@access.device(work=True)
@blp.arguments(PushArgs, location="query")
@blp.raw_body(_ROWS)
@blp.response(200, RxdbDocument(many=True), headers=pressure.HEADER)
@blp.errors("invalid", "too-large")
def push(args: dict[str, Any], collection: str) -> Response:
    """Hand in changed documents: each is stored before this answers, and judged by itself

    What is answered are conflicts in RxDB's sense: documents that the device has to take over as they are here.
    """
    now, settings = utc_now(), current_settings()
    pressure.refuse_when_full()
    rows = _rows(read_body(settings.request_bytes), rxdb.primary_key(collection), settings.push_ops)
    told = args.get("device_time")
    clock = Clock(now, None if told is None else now - told)
    sender = receive.Sender(g.actor.device_id, g.actor.crew_id, g.actor.install_id)
    with transaction():
        pushed = rxdb.push(sender, collection, rows, clock, settings, g.actor.source(now))
    for install_id in pushed.waiting:
        queue.ring("reconcile", install_id)
    response = answer(b"[" + ",".join(pushed.conflicts).encode() + b"]")
    response.headers.update(pressure.backoff()[1])
    return response


def _rows(data: bytes, key: str, most: int) -> list[rxdb.Row]:
    """The rows of a push. What is odd in a document is judged with it; only what no RxDB sends is refused here.

    :raises FieldsvcError: ``bad-request``, ``too-large``.
    :raises Invalid: with a JSON pointer.
    """
    told = _json(data)
    if not isinstance(told, list):
        raise Invalid.field("/", "must be a list of rows")
    if len(told) > most:
        raise FieldsvcError("too-large", f"{len(told)} rows; a push has at most {most}", limit=most)
    rows = []
    for at, row in enumerate(told):
        new = row.get("newDocumentState") if isinstance(row, dict) else None
        if not isinstance(new, dict):
            raise Invalid.field(f"/{at}/newDocumentState", "must be an object")
        if not isinstance(new.get(key), str):
            raise Invalid.field(f"/{at}/newDocumentState/{key}", "must be a text")
        seen = row.get("assumedMasterState")
        if not isinstance(seen, dict | None):
            raise Invalid.field(f"/{at}/assumedMasterState", "must be an object or null")
        rows.append(rxdb.Row(foreign.readable(new), foreign.readable(seen)))
    return rows


def _json(data: bytes) -> Any:
    """The body; also one with half a surrogate pair in it, which strict readers refuse and browsers write."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as strict:
        try:
            return json.loads(data)
        except (ValueError, RecursionError):
            raise FieldsvcError("bad-request", f"the body is not JSON: {strict.msg}") from None


@blp.get(f"/{_READ}/stream")
@access.device()
@blp.response(200, {"type": "string"}, content_type="text/event-stream")
@blp.errors("unavailable", "upgrade-required")
def stream(collection: str) -> Response:
    """Be told when there is something to pull

    Events whose data is `"RESYNC"`. An app that holds several collections listens to `/sync/v1/stream` once instead.
    """
    refuse_ended_app(utc_now())
    reader = _reader()
    telling = {reader.scope_of(collection)} | (set(reader.scopes) if collection in rxdb.EDITED else set())

    def render(moved: Sequence[str]) -> bytes:
        return b"" if telling.isdisjoint(moved) else b'data: "RESYNC"\n\n'

    return respond(render)
