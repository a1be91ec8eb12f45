"""``/sync/v1``, what is about the whole copy of a device: take it anew (snapshot), compare and repair it (manifest)."""

from __future__ import annotations

import time
import zlib
from collections.abc import Iterator, Mapping
from itertools import chain, pairwise
from typing import Any

import marshmallow as ma
import orjson
from flask import Response, current_app, request, stream_with_context

from fieldsvc.api import access
from fieldsvc.api.frame import Blueprint
from fieldsvc.api.lanes import lane
from fieldsvc.api.schemas import Choice, Flag, Int, JsonObject, ListOf, Member, Schema, Text
from fieldsvc.api.sync import Change, answer, current_settings, refuse_ended_app, scopes
from fieldsvc.base.clock import utc_now
from fieldsvc.base.db import reading
from fieldsvc.base.errors import Invalid, NotFound
from fieldsvc.feed import manifest as manifests
from fieldsvc.feed import snapshot as snapshots
from fieldsvc.feed.manifest import Held, Key

blp = Blueprint("sync_copy", __name__, url_prefix="/sync/v1", description="The copy a device holds, as a whole")

_NDJSON = "application/x-ndjson"


class SnapshotArgs(Schema):
    after = Text(
        4000, pattern="^[!-~]+$", metadata={"description": "The last `position` received; none: from the beginning."}
    )


class SnapshotLine(Schema):
    """One line: a change, or ``{"position": …}``, or, as the last one, ``{"checkpoint": …}``."""

    op = Choice("put")
    entity = Text(30)
    id = Text(80)
    rev = Int(0, 2**53)
    doc = JsonObject()
    position = Text(4000, metadata={"description": "Alone in its line: where to go on after a cut."})
    checkpoint = Text(4000, metadata={"description": "Alone in the last line: the copy is whole, pull from here."})


@blp.get("/snapshot")
@access.device()
@lane("first")
@blp.arguments(SnapshotArgs, location="query")
@blp.response(200, SnapshotLine, content_type=_NDJSON)
@blp.errors("bad-cursor", "upgrade-required")
def snapshot(args: dict[str, Any]) -> Response:
    """Everything the device is to hold, line by line; ends with the checkpoint to pull from

    On a slow line it ends before that, with a position: go on from there.
    """
    refuse_ended_app(utc_now())
    mine, secret = scopes(), current_app.config["SECRET_KEY"]
    pieces = snapshots.lines(mine, snapshots.start(mine, args.get("after"), secret), secret)
    first = next(pieces)  # what can fail fails before the answer has begun
    packed = request.accept_encodings.find("gzip") >= 0
    body = _for_a_while(chain([first], pieces), current_settings().snapshot_seconds)
    response = Response(stream_with_context(pack(body) if packed else body), mimetype=_NDJSON)
    response.headers["Vary"] = "Accept-Encoding"
    if packed:
        response.headers["Content-Encoding"] = "gzip"
    return response


def _for_a_while(pieces: Iterator[bytes], seconds: int) -> Iterator[bytes]:
    """``pieces`` until ``seconds`` are over: one slow line must not keep the others from their first sync."""
    ends = time.monotonic() + seconds
    for piece in pieces:
        yield piece
        if time.monotonic() >= ends:
            return


def pack(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """gzip, flushed after each piece: what arrived before a cut can be read to its last line."""
    packer = zlib.compressobj(level=1, wbits=31)
    for piece in pieces:
        yield packer.compress(piece) + packer.flush(zlib.Z_SYNC_FLUSH)
    yield packer.flush()


class RowKey(Schema):
    class Meta:
        unknown = ma.EXCLUDE

    entity = Text(30, required=True)
    id = Text(80, required=True)


class HeldRow(RowKey):
    rev = Int(0, 2**53, required=True)


class ScopeHeld(Schema):
    class Meta:
        unknown = ma.EXCLUDE

    count = Int(0, 2**53, required=True, metadata={"description": "Rows the device holds of this scope."})
    checksum = Text(
        64,
        required=True,
        pattern="^[0-9a-f]{64}$",
        metadata={"description": r"SHA-256 of the lines `entity id rev\n`, in order of entity and id by their bytes."},
    )
    after = Member(RowKey, metadata={"description": "`next` of the answer before."})
    rows = ListOf(
        Member(HeldRow),
        max=500,
        metadata={"description": "What the device holds behind `after`, in order: asks for the repair."},
    )
    more = Flag(load_default=False, metadata={"description": "The device holds more behind the last of `rows`."})


_WORDS: dict[str, Any] = {"invalid": "must be an object", "required": "is missing", "null": "must not be null"}


class ByName(ma.fields.Dict):
    """Members of any name; a fault is named by where it stands, without marshmallow's ``key`` and ``value`` between."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        try:
            return super()._deserialize(value, attr, data, **kwargs)
        except ma.ValidationError as error:
            if not isinstance(error.messages, dict):
                raise
            found = {name: fault.get("value", fault.get("key")) for name, fault in error.messages.items()}
            raise ma.ValidationError(found) from None


class ManifestArgs(Schema):
    class Meta:
        unknown = ma.EXCLUDE

    scopes = ByName(
        keys=Text(100),
        values=Member(ScopeHeld),
        required=True,
        error_messages=_WORDS,
        metadata={"description": "`crew:<crew_id>`, `device:<device_id>`, `ref`: those of the device, no others."},
    )


class ScopeDiffers(Schema):
    count = Int(0, 2**53, required=True)
    checksum = Text(64, required=True)
    rows = ListOf(Member(HeldRow), max=500, metadata={"description": "What the scope holds behind `after`."})
    put = ListOf(Member(Change), max=500, metadata={"description": "Instead of `rows`: what the device has to store."})
    delete = ListOf(Member(RowKey), max=500, metadata={"description": "Instead of `rows`: what it has to remove."})
    truncated = Flag(required=True, metadata={"description": "There is more: ask again with `after` = `next`."})
    next = Member(RowKey, allow_none=True, required=True)


class Compared(Schema):
    ok = Flag(required=True)
    scopes = ma.fields.Dict(
        keys=Text(100), values=Member(ScopeDiffers), metadata={"description": "Only those that differ."}
    )


@blp.post("/manifest")
@access.device()
@lane("first")
@blp.arguments(ManifestArgs)
@blp.response(200, Compared)
@blp.errors("not-found", "upgrade-required")
def manifest(body: dict[str, Any]) -> Response:
    """Compare the device's copy with what its scopes hold, and learn what to put right"""
    refuse_ended_app(utc_now())
    mine, limit = scopes(), current_settings().pull_rows
    if not set(body["scopes"]) <= set(mine):
        raise NotFound("such scope")
    for scope, told in body["scopes"].items():
        _check_rows(f"/scopes/{scope}", told, limit)
    differing = []
    with reading():
        for scope, told in body["scopes"].items():
            here = manifests.held(scope)
            if told["count"] != len(here.revs) or told["checksum"] != here.checksum:
                differing.append(orjson.dumps(scope) + b":" + _difference(scope, here, told, limit))
    if not differing:
        return answer(b'{"ok":true}')
    return answer(b'{"ok":false,"scopes":{' + b",".join(differing) + b"}}")


def _check_rows(where: str, told: Mapping[str, Any], limit: int) -> None:
    rows = told.get("rows", [])
    if len(rows) > limit:
        raise Invalid.field(f"{where}/rows", f"must have at most {limit} entries")
    keys = [_key(row) for row in ([told["after"]] if "after" in told else []) + rows]
    if any(one >= other for one, other in pairwise(keys)):
        raise Invalid.field(f"{where}/rows", "must be in the order of entity and id, behind after, each once")
    if told["more"] and not rows:
        raise Invalid.field(f"{where}/more", "there is more behind the last of rows, but there are no rows")


def _key(row: Mapping[str, Any]) -> Key:
    return row["entity"], row["id"]


def _difference(scope: str, here: Held, told: Mapping[str, Any], limit: int) -> bytes:
    after = _key(told["after"]) if "after" in told else None
    answered: dict[str, Any] = {"count": len(here.revs), "checksum": here.checksum}
    if "rows" in told:
        there = Held({_key(row): row["rev"] for row in told["rows"]})
        repair = manifests.repair(scope, here, there, after, told["more"], limit)
        answered["put"] = [orjson.Fragment(one) for one in repair.put]
        answered["delete"] = [_named(key) for key in repair.delete]
        last = repair.next
    else:
        page = here.after(after, limit + 1).revs
        shown = list(page)[:limit]
        answered["rows"] = [_named(key) | {"rev": page[key]} for key in shown]
        last = shown[-1] if len(page) > limit else None
    answered |= {"truncated": last is not None, "next": _named(last) if last else None}
    return orjson.dumps(answered)


def _named(key: Key) -> dict[str, str]:
    return {"entity": key[0], "id": key[1]}
