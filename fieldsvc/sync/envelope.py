"""The envelope of an operation: the one definition that push validates and OpenAPI is written from.

Only the envelope is judged when a push arrives; what an operation says (``payload``, ``was``/``set``) is judged by its
kind when it is reconciled. Members we do not know are kept with the body and are no error.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

import msgspec
import orjson
from msgspec import Meta, Raw, Struct

from fieldsvc.base.clock import parse_time
from fieldsvc.sync.upcasters import KNOWN, SCHEMA_VERSION, upcast

_MAX_INT = 2**53 - 1

Ident = Annotated[str, Meta(min_length=1, max_length=80, pattern=r"^[A-Za-z0-9._:-]+\Z")]
Count = Annotated[int, Meta(ge=0, le=_MAX_INT)]


class Attachment(Struct, kw_only=True):
    """A file that belongs to an operation and travels separately."""

    id: Ident
    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
    size: Annotated[int, Meta(ge=0, le=26_214_400)]
    type: Annotated[str, Meta(max_length=100)] = "application/octet-stream"
    required: bool = False


class Operation(Struct, kw_only=True):
    """One operation as a device sends it. ``seq`` is dense per install, from 1; ``op_id`` is the idempotency key."""

    op_id: Ident
    seq: Annotated[int, Meta(ge=1, le=_MAX_INT)]
    kind: Annotated[str, Meta(min_length=1, max_length=40)]
    entity: Annotated[str, Meta(min_length=1, max_length=30)]
    entity_id: Annotated[str, Meta(min_length=1, max_length=80)]
    occurred_at: Annotated[str, Meta(max_length=40)]
    base_rev: Count | None = None
    assignment_rev: Count | None = None
    payload: dict[str, Any] | None = None
    was: dict[str, Any] | None = None
    set: dict[str, Any] | None = None
    depends_on: Annotated[list[Ident], Meta(max_length=50)] = []
    attachments: Annotated[list[Attachment], Meta(max_length=50)] = []
    mono_ms: Count | None = None
    boot_id: Annotated[str, Meta(max_length=80)] | None = None
    schema_version: Count = SCHEMA_VERSION
    app_version: Annotated[str, Meta(max_length=40)] | None = None


class Push(Struct, kw_only=True):
    """A push: who sends, what the device's clock says now, and the operations, each still unread.

    ``positions`` are unread as a whole: whatever they are, they must not keep the operations beside them out.
    """

    install_id: Ident
    ops: list[Raw]
    device_time: Annotated[str, Meta(max_length=40)] | None = None
    mono_ms: Count | None = None
    boot_id: Annotated[str, Meta(max_length=80)] | None = None
    app_version: Annotated[str, Meta(max_length=40, pattern=r"^[^\0]*\Z")] | None = None
    positions: Raw = Raw()


@dataclass(frozen=True, slots=True)
class Read:
    """An operation after reading: ``op`` and times, or ``errors`` saying why it cannot be taken.

    ``sha256`` is over what it says, ``raw_sha256`` over the bytes as they came where ``body`` is not those bytes.
    """

    op_id: str
    seq: int | None
    body: str
    sha256: str
    op: Operation | None = None
    claimed: datetime | None = None
    reason: str | None = None
    errors: tuple[dict[str, str], ...] = ()
    raw_sha256: str | None = None


_decode_push = msgspec.json.Decoder(Push).decode
_decode_list = msgspec.json.Decoder(list[Raw]).decode
_decode_operation = msgspec.json.Decoder(Operation).decode
_AT = re.compile(r"^(.*) - at `\$\.?(.*)`$", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(\w+)`")


def read_push(data: bytes) -> Push:
    """The push around its operations.

    An operation with text that no JSON reader takes (half a surrogate pair, a thousand brackets) must not bounce the
    ones
    beside it, so when the whole cannot be read, the operations are cut out unread and judged one by one.

    :raises msgspec.ValidationError: a member is wrong; :func:`fault` names it.
    :raises msgspec.DecodeError: it is not JSON.
    """
    try:
        return _decode_push(data)
    except msgspec.ValidationError:
        raise
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        cut = _cut_out(data, b'"ops"')
        if cut is None:
            raise msgspec.DecodeError(str(error)) from None
        around, ops = cut
        around, positions = _cut_out(around, b'"positions"') or (around, [])
        try:
            push = _decode_push(around)
        except RecursionError:
            raise msgspec.DecodeError("nested too deeply") from None
        push.ops = [Raw(op) for op in ops]
        if positions:
            push.positions = Raw(b"[" + b",".join(positions) + b"]")
        return push


def members(listed: bytes) -> list[bytes] | None:
    """The members of a JSON list, each unread; None: it is no list.

    As with operations, one that no JSON reader takes stays by itself.
    """
    try:
        return [bytes(raw) for raw in _decode_list(listed)]
    except msgspec.ValidationError:
        return None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        cut = _cut_out(b'{"list":' + listed + b"}", b'"list"')
        return cut[1] if cut else None


_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{},]', re.DOTALL)


def _cut_out(data: bytes, name: bytes) -> tuple[bytes, list[bytes]] | None:
    """(the object with its list ``name`` empty, the members of that list as they stand); None: there is no such list,
    or the brackets do not pair.
    """
    depth = 0
    key = b""
    begin = start = -1
    ops: list[bytes] = []
    for match in _TOKEN.finditer(data):
        token = match.group()
        if token in (b"[", b"{"):
            depth += 1
            if depth == 2 and key == name and token == b"[" and begin < 0:
                begin = start = match.end()
        elif token in (b"]", b"}"):
            depth -= 1
            if depth == 1 and begin >= 0:
                last = data[start : match.start()].strip()
                return data[:begin] + data[match.start() :], [*ops, last] if last else ops
        elif token == b",":
            if depth == 2 and begin >= 0:
                ops.append(data[start : match.start()].strip())
                start = match.end()
        elif depth == 1:
            key = token
    return None


def fault(error: Exception, prefix: str = "") -> dict[str, str]:
    """``{"field": JSON pointer, "reason": words}`` of a msgspec error."""
    match = _AT.match(str(error))
    path, reason = (match.group(2), match.group(1)) if match else ("", str(error))
    path = re.sub(r"\[(\d+|\.\.\.)\]", r".\1", path).strip(".")
    at = prefix + "".join(f"/{part}" for part in path.split(".") if part)
    if missing := _MISSING.match(reason):
        return {"field": f"{at}/{missing.group(1)}", "reason": "is missing"}
    return {"field": at or "/", "reason": reason}


def read(raw: bytes, op_bytes: int) -> Read:
    """Read one operation of a push. Never raises: what is wrong with it is in ``errors``."""
    body = raw.decode("utf-8", "backslashreplace").replace("\0", "\\0")
    try:
        value = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return _unreadable(raw, body, None, [{"field": "/", "reason": f"not valid JSON text: {error}"}])
    if len(raw) > op_bytes:
        reason = f"{len(raw)} bytes; an operation has at most {op_bytes}"
        return _unreadable(raw, body[:op_bytes], value, [{"field": "/", "reason": reason}])
    try:
        sha256 = _digest(value)
    except (TypeError, RecursionError):
        reason = "holds a whole number beyond 64 bits, or is nested too deeply"
        return _unreadable(raw, body, value, [{"field": "/", "reason": reason}])
    if b"\\u0000" in raw and (where := _nul(value, "")) is not None:
        return _unreadable(raw, body, value, [{"field": where or "/", "reason": "contains the character NUL"}], sha256)
    try:
        op = msgspec.convert(upcast(value) if isinstance(value, dict) else value, Operation)
    except (msgspec.ValidationError, RecursionError) as error:
        return _unreadable(raw, body, value, [fault(error)], sha256)
    try:
        claimed = parse_time(op.occurred_at)
    except ValueError as error:
        return _unreadable(raw, body, value, [{"field": "/occurred_at", "reason": str(error)}], sha256)
    if op.op_id in op.depends_on:
        return _unreadable(raw, body, value, [{"field": "/depends_on", "reason": "names the operation itself"}], sha256)
    if op.schema_version != SCHEMA_VERSION:
        known = ", ".join(map(str, KNOWN))
        reason = f"schema_version {op.schema_version} is not known; this service reads {known}"
        errors = ({"field": "/schema_version", "reason": reason},)
        return Read(op.op_id, op.seq, body, sha256, reason="stale_schema", errors=errors)
    return Read(op.op_id, op.seq, body, sha256, op=op, claimed=claimed)


def decode(body: str) -> Operation:
    """The operation of a stored body that :func:`read` has taken, in today's form, whatever it was then.

    :raises msgspec.ValidationError: it is not one that was taken.
    """
    try:
        op = _decode_operation(body)
    except msgspec.ValidationError:  # the form of the envelope has changed, too
        op = None
    if op is not None and op.schema_version == SCHEMA_VERSION:
        return op
    return msgspec.convert(upcast(msgspec.json.decode(body)), Operation)


def _unreadable(raw: bytes, body: str, value: Any, errors: list[dict[str, str]], sha256: str | None = None) -> Read:
    """Keep whatever identifies the operation, so that its sender can be told; without an id its digest serves as
    one.
    """
    raw_sha256 = hashlib.sha256(raw).hexdigest()
    sha256 = sha256 or raw_sha256
    op_id = seq = None
    if isinstance(value, dict):
        op_id, seq = value.get("op_id"), value.get("seq")
    elif value is None:  # no JSON reader takes it; its name may still stand there to be read
        named, numbered = _OP_ID.search(raw), _SEQ.search(raw)
        op_id = named.group(1).decode() if named else None
        seq = int(numbered.group(1)) if numbered else None
    if not (isinstance(op_id, str) and re.match(r"[A-Za-z0-9._:-]{1,80}\Z", op_id)):
        op_id = f"unreadable:{sha256}"
    if not (isinstance(seq, int) and not isinstance(seq, bool) and 1 <= seq <= _MAX_INT):
        seq = None
    return Read(op_id, seq, body, sha256, reason="bad_payload", errors=tuple(errors), raw_sha256=raw_sha256)


_OP_ID = re.compile(rb'"op_id"\s*:\s*"([A-Za-z0-9._:-]{1,80})"')
_SEQ = re.compile(rb'"seq"\s*:\s*(\d{1,15})\b')


def _digest(value: Any) -> str:
    """SHA-256 over the canonical form, so that a client that writes the same operation anew is not taken for
    another.

    :raises TypeError: it holds what could not be written again: later answers and documents carry parts of it.
    """
    return hashlib.sha256(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _nul(value: Any, path: str) -> str | None:
    """The JSON pointer of the first string with a NUL, or None."""
    if isinstance(value, str):
        return path if "\0" in value else None
    pairs: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in pairs:
        if isinstance(key, str) and "\0" in key:
            return path
        if (found := _nul(item, f"{path}/{key}")) is not None:
            return found
    return None
