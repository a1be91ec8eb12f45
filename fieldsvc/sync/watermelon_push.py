"""WatermelonDB's push: changed rows become operations.

A created row of ``operations`` is an operation as it stands. An updated job or customer is an edit of the columns that
were changed. What the crew had seen is not what the row says: WatermelonDB pulls before it pushes, and takes over from
the pull whatever was not changed, ``rev`` too. So the app keeps it in the column ``seen``:
``{"access_note": {"was": null, "rev": 4, "at": "2026-11-21T15:21:40+08:00"}}``, per column what it showed at which
revision when it was first changed, and when it was changed last.

Everything else cannot be: it becomes an operation that is rejected, so that its reason comes back as an outcome.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import msgspec
import orjson
from msgspec import Meta, Struct

from fieldsvc.base.errors import FieldsvcError, Invalid
from fieldsvc.config import Settings
from fieldsvc.history.record import Source
from fieldsvc.kinds.common import EDITABLE
from fieldsvc.sync import foreign, watermelon
from fieldsvc.sync.clocks import Clock
from fieldsvc.sync.receive import TERMINAL, Sender

CHANNEL = "watermelon"

Id = Annotated[str, Meta(min_length=1, max_length=80, pattern=r"^[A-Za-z0-9._:-]+\Z")]
Table = Annotated[str, Meta(min_length=1, max_length=60)]


class TableChanges(Struct):
    """What was changed in one table; a row is all its columns, with ``_status`` and ``_changed``."""

    created: list[dict[str, Any]] = []
    updated: list[dict[str, Any]] = []
    deleted: list[Id] = []


Changes = dict[Table, TableChanges]


def read_changes(data: bytes) -> Changes:
    """The body of a push. Half a surrogate pair in one row, which JavaScript lets pass, does not make it unreadable.

    :raises msgspec.ValidationError: a member is wrong.
    :raises msgspec.DecodeError: it is not JSON.
    """
    changes = _read(data)
    for changed in changes.values():
        changed.created = [foreign.readable(row) for row in changed.created]
        changed.updated = [foreign.readable(row) for row in changed.updated]
    return changes


def _read(data: bytes) -> Changes:
    try:
        return _decode(data)
    except msgspec.ValidationError:
        raise
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        try:
            changes = msgspec.convert(json.loads(data), Changes)
            "".join(changes).encode()  # the answer names tables
            return changes
        except msgspec.ValidationError:
            raise
        except (ValueError, RecursionError):  # no JSON, or half a surrogate pair where there must be a table or a row
            raise msgspec.DecodeError(str(error)) from None


_decode = msgspec.json.Decoder(Changes).decode


@dataclass(frozen=True)
class Pushed:
    """Ids per table of which nothing was taken, and the installs to ring for."""

    rejected: dict[str, list[str]]
    waiting: tuple[str, ...]


def push(sender: Sender, changes: Changes, last: int, clock: Clock, settings: Settings, source: Source) -> Pushed:
    """Hand in what has been changed since the pull with stamp ``last``. Sent again, it changes nothing.

    :raises FieldsvcError: ``too-large`` for more than ``settings.push_ops`` rows.
    :raises Invalid: a row has no id.
    """
    install_id = foreign.install_of(CHANNEL, sender.device_id)
    rows = list(_rows(install_id, changes))
    if len(rows) > settings.push_ops:
        told = f"{len(rows)} rows; a push has at most {settings.push_ops}"
        raise FieldsvcError("too-large", told, limit=settings.push_ops)
    bodies = [body for row in rows for body in row.bodies]
    received = foreign.hand_in(sender, CHANNEL, bodies, clock, settings, source)
    results = iter(received.results)
    rejected: dict[str, list[str]] = {}
    known: list[watermelon.Key] = []
    for row in rows:
        ends = [_end(next(results)) for _ in row.bodies]
        if row.refused or "refused" in ends:
            rejected.setdefault(row.table, []).append(row.id)
        elif "known" in ends and row.table in _EDITED:
            known.append((_EDITED[row.table], row.id))
    watermelon.tell_again(sender.device_id, last, known)
    return Pushed(rejected, received.waiting)


def _end(result: Mapping[str, Any]) -> str:
    """``refused``: not taken. ``known``: what became of it is decided, and may have been pulled before this push."""
    if result["status"] in ("rejected", "id_reuse"):
        return "refused"
    outcome = result.get("outcome") or {}
    if outcome.get("kind") == "unreadable":
        return "refused"
    return "known" if outcome.get("outcome") in TERMINAL else "taken"


@dataclass(frozen=True)
class _Row:
    """A row and the operations it makes; ``refused``: they exist only to be rejected."""

    table: str
    id: str
    bodies: Sequence[foreign.Body] = field(default_factory=list)
    refused: bool = False


_EDITED = {"jobs": "job", "customers": "customer"}
_OPERATIONS = "operations"


def _rows(install_id: str, changes: Changes) -> Iterator[_Row]:
    for table, changed in changes.items():
        created = [(_id(row, f"/{table}/created/{at}"), row) for at, row in enumerate(changed.created)]
        if table == _OPERATIONS:
            for row_id, row in sorted(created, key=lambda one: _place(one[1])):
                yield _Row(table, row_id, [_operation(row_id, row)])
        else:
            for row_id, row in created:
                yield _refused(install_id, table, row_id, "created", row)
        for at, row in enumerate(changed.updated):
            row_id = _id(row, f"/{table}/updated/{at}")
            if table in _EDITED:
                yield _Row(table, row_id, _edits(install_id, _EDITED[table], row_id, row))
            else:
                yield _refused(install_id, table, row_id, "updated", row)
        for row_id in changed.deleted:
            yield _refused(install_id, table, row_id, "deleted", None)


def _id(row: Mapping[str, Any], at: str) -> str:
    """The row's id. Without one nobody could be told of it, so the push is not valid."""
    try:
        return msgspec.convert(row.get("id"), Id)
    except msgspec.ValidationError as error:
        raise Invalid.field(f"{at}/id", str(error)) from None


def _refused(install_id: str, table: str, row_id: str, change: str, row: Mapping[str, Any] | None) -> _Row:
    content = {"table": table, "row": row}
    told = json.dumps([install_id, change, row_id, content], sort_keys=True).encode()
    body = {
        "op_id": f"row-{hashlib.sha256(told).hexdigest()[:40]}",
        "kind": f"row.{change}",
        "entity": watermelon.TABLES.get(table, table)[:30],
        "entity_id": row_id,
        "payload": content,
    }
    return _Row(table, row_id, [body], refused=True)


_MEMBERS = (
    "kind entity entity_id occurred_at base_rev assignment_rev mono_ms boot_id schema_version app_version".split()
)
_JSON_MEMBERS = ("payload", "was", "set", "depends_on", "attachments")


def _place(row: Mapping[str, Any]) -> float:
    """Where an operation stands among those of its push: the app counts in ``n``, a database gives no order."""
    n = row.get("n")
    return n if isinstance(n, int | float) else math.inf


def _operation(row_id: str, row: Mapping[str, Any]) -> foreign.Body:
    """A row of ``operations`` as an operation; what is not JSON stays the text it is, and is rejected as that."""
    told = {name: row.get(name) for name in _MEMBERS} | {name: _json(row.get(name)) for name in _JSON_MEMBERS}
    return {"op_id": row_id} | {name: value for name, value in told.items() if value is not None}


def _json(value: Any) -> Any:
    try:
        return foreign.readable(orjson.loads(value)) if isinstance(value, str) else value
    except orjson.JSONDecodeError:
        return value


_NO_EDIT = frozenset({"", "id", "seen", "_status", "_changed"})
_LISTS = frozenset({"notes", "tags", "parts_estimate"})
_UNSEEN = 0
"""The revision of those who do not say what they had seen: whatever anybody changed since then counts as unseen."""


def _edits(install_id: str, entity: str, row_id: str, row: Mapping[str, Any]) -> list[foreign.Body]:
    """One edit for all columns that were seen at the same revision and changed at the same time, oldest first; columns
    that nobody may edit make one that will be rejected.
    """
    names = [name for name in dict.fromkeys(str(row.get("_changed") or "").split(",")) if name not in _NO_EDIT]
    strange = {name: row.get(name) for name in names if name not in EDITABLE[entity]}
    bodies: list[foreign.Body] = [*foreign.edit(install_id, entity, row_id, {}, strange, _UNSEEN)]
    noted = _json(row.get("seen"))
    groups: dict[tuple[str, str], dict[str, Mapping[str, Any]]] = {}
    for name in names:
        if name in EDITABLE[entity]:
            seen = noted.get(name) if isinstance(noted, dict) else None
            seen = seen if isinstance(seen, dict) else {}
            at = seen.get("at")
            groups.setdefault((at if isinstance(at, str) else "", str(seen.get("rev"))), {})[name] = seen
    for (at, _), together in sorted(groups.items()):
        was = {name: _value(name, seen["was"]) for name, seen in together.items() if "was" in seen}
        new = {name: _value(name, row.get(name)) for name in together}
        base_rev = next(iter(together.values())).get("rev", _UNSEEN)
        bodies += foreign.edit(install_id, entity, row_id, was, new, base_rev, at or None)
    return bodies


def _value(name: str, value: Any) -> Any:
    """A column's value as the record holds it: lists travel as JSON in a text."""
    held = _json(value) if name in _LISTS else value
    return held if isinstance(held, list | None) else value
