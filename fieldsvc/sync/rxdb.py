"""RxDB's HTTP replication: pages of documents for its pull, operations out of the rows of its push.

RxDB takes a page that is not full for the end, cannot be told to start anew, drops what was pulled for a document that
has local changes, and sends a push that failed again for ever. So pages are full but the last; a checkpoint that is of
no use any more begins from the start, and the device then asks which of its documents are gone; a document is told
again once its edit has an outcome; and a push is refused only as a whole that no RxDB sends, never for one of its rows.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from itsdangerous import BadSignature, URLSafeSerializer
from sqlalchemy import text

from fieldsvc.base.db import db
from fieldsvc.base.merge import same
from fieldsvc.config import Settings
from fieldsvc.feed.pull import epoch, fingerprint, forgotten, standing
from fieldsvc.history.record import Source
from fieldsvc.kinds.common import EDITABLE
from fieldsvc.sync import foreign
from fieldsvc.sync.clocks import Clock
from fieldsvc.sync.outcomes import device_scope
from fieldsvc.sync.receive import TERMINAL, Sender
from fieldsvc.work.documents import crew_scope

CHANNEL = "rxdb"

OUTCOMES = "outcomes"
"""The collection that tells what became of operations: it is read from the device's own feed."""

COLLECTIONS = {
    "jobs": "job",
    "customers": "customer",
    "usage_points": "usage_point",
    "meters": "meter",
    OUTCOMES: "outcome",
}
"""Collections that can be pulled -> the entity their documents are."""

EDITED = frozenset({"jobs", "customers"})
"""Collections whose documents a crew may change."""

OPERATIONS = "operations"
"""The collection that is only pushed: its documents are operations."""


def primary_key(collection: str) -> str:
    """The member that names a document of the collection."""
    return "op_id" if collection in (OUTCOMES, OPERATIONS) else "id"


@dataclass(frozen=True)
class Reader:
    """A device that pulls: its scopes are its crew's and its own."""

    device_id: str
    crew_id: str

    @property
    def scopes(self) -> tuple[str, str]:
        return crew_scope(self.crew_id), device_scope(self.device_id)

    def scope_of(self, collection: str) -> str:
        """The scope that shows the documents of a collection."""
        return self.scopes[1] if collection == OUTCOMES else self.scopes[0]


@dataclass(frozen=True)
class Page:
    """``documents`` is JSON text per document. ``reset``: everything has been told anew, from the beginning; what the
    device holds beside it may be gone. ``whole``: there is nothing behind it. ``begun`` and ``reached``: how far the
    device had come in its own feed, and how far it comes with this page.
    """

    documents: list[str]
    checkpoint: str
    reset: bool
    whole: bool
    begun: int
    reached: int


def page(reader: Reader, collection: str, checkpoint: str | None, limit: int, secret: str) -> Page:
    """At most ``limit`` documents that have changed since ``checkpoint`` (None: all), fewer only at the end.

    A checkpoint of another life of the feed, from behind its horizon, of another crew or of nobody here begins from the
    start.
    """
    signer = _checkpoints(secret)
    mark = {"e": epoch(), "f": fingerprint([*reader.scopes, collection])}
    stand = standing(reader.scopes)  # before any row: what commits from here on comes with the next pull
    told = _read(signer, checkpoint)
    known = all(told.get(name) == value for name, value in mark.items())
    if known and forgotten(stand, told["n"], told["s"]):
        known = False
    seen: dict[str, int] = told["n"] if known else {}
    since: dict[str, int] = told["s"] if known else {}
    anew: bool = told["r"] if known else checkpoint is not None
    documents: dict[str, str] = {}
    now: dict[str, int] = {}
    for scope, stands in sorted(stand.items()):
        begin, end = seen.get(scope, 0), stands.n
        while begin < end and len(documents) < limit:
            asked = limit - len(documents)
            found = _changes(reader, scope, collection, begin, end, asked + 1)
            documents |= {name: document for _, name, document in found[:asked]}
            begin = end if len(found) <= asked else found[asked - 1][0]
        now[scope] = begin
    begun = {scope: stand[scope].n for scope in now if scope not in seen}
    since = {scope: n for scope, n in (since | begun).items() if now[scope] < n}
    whole = all(n >= stand[scope].n for scope, n in now.items())
    at = str(signer.dumps({**mark, "n": now, "s": since, "r": anew and not whole}))
    own = reader.scopes[1]
    return Page(list(documents.values()), at, anew and whole, whole, seen.get(own, 0), now.get(own, 0))


def _checkpoints(secret: str) -> URLSafeSerializer:
    """``{"e": epoch, "f": fingerprint of scopes and collection, "n": {scope: position}, "s": as in a checkpoint of the
    pull, "r": it began anew}``
    """
    return URLSafeSerializer(secret, salt="fieldsvc.rxdb")


def _read(signer: URLSafeSerializer, checkpoint: str | None) -> dict[str, Any]:
    try:
        return dict(signer.loads(checkpoint)) if checkpoint else {}
    except BadSignature:
        return {}


def _changes(
    reader: Reader, scope: str, collection: str, begin: int, end: int, limit: int
) -> list[tuple[int, str, str]]:
    """``(position, id, document)`` of what one scope tells of a collection, in its order.

    The device's own scope tells of jobs and customers by the outcomes of their edits.
    """
    entity = COLLECTIONS[collection]
    key = primary_key(collection)
    if collection in EDITED and scope == device_scope(reader.device_id):
        answered = foreign.answered(reader.device_id, CHANNEL, entity, begin, end, limit)
        now = foreign.on_record(reader.scope_of(collection), entity, sorted({name for _, name in answered}))
        return [(at, name, _shown(key, name, now[name])) for at, name in answered]
    wanted = {"scope": scope, "entity": entity, "begin": begin, "end": end, "limit": limit}
    return [(row.seq, row.entity_id, _shown(key, row.entity_id, row.body)) for row in db.session.execute(_ROWS, wanted)]


_ROWS = text(
    "SELECT f.seq, f.entity_id, f.op, d.body FROM sync_feed f "
    "LEFT JOIN sync_doc d ON f.op = 'put' AND d.entity = f.entity AND d.entity_id = f.entity_id "
    "WHERE f.scope = :scope AND f.entity = :entity AND f.seq > :begin AND f.seq <= :end ORDER BY f.seq LIMIT :limit"
)


def _shown(key: str, name: str, body: str | None) -> str:
    """A document of the feed as a collection holds it, JSON text; without one, that it is gone.

    Of a job, what a crew may edit stands beside what they may not: RxDB's changes are told by the member.
    """
    if body is None:  # its name may be anything that a device has made up
        return json.dumps({key: name, "_deleted": True}, separators=(",", ":"))
    if not any(f'"{field}"' in body for field in DETAILS):
        return body
    document = orjson.loads(body)
    details = document.get("details")
    lifted = {field: details[field] for field in DETAILS if field in details} if isinstance(details, dict) else {}
    return orjson.dumps(document | lifted).decode()


DETAILS = ("parts_estimate",)
"""Fields of a job that a crew may edit and that live in its details."""


def gone(reader: Reader, collection: str, ids: Sequence[str]) -> list[str]:
    """Those of ``ids`` that the device is not to hold, or no longer."""
    now = foreign.on_record(reader.scope_of(collection), COLLECTIONS[collection], ids)
    return [name for name in dict.fromkeys(ids) if now[name] is None]


@dataclass(frozen=True)
class Row:
    """One row of a push: what the document is now, and what it was when the device last heard of it; None: never."""

    new: Mapping[str, Any]
    seen: Mapping[str, Any] | None


@dataclass(frozen=True)
class Pushed:
    """``conflicts``: documents as they are on record, JSON text, for RxDB to take over. ``waiting``: whom to ring."""

    conflicts: list[str]
    waiting: tuple[str, ...]


def push(
    sender: Sender, collection: str, rows: Sequence[Row], clock: Clock, settings: Settings, source: Source
) -> Pushed:
    """Hand in the rows of a push, whatever they are. Sent again they change nothing.

    A row is answered with a conflict only where RxDB has to let go of what it holds: nothing of the row can be done, or
    what became of it is decided. Whatever is refused becomes an outcome, with the reason.
    """
    install_id = foreign.install_of(CHANNEL, sender.device_id)
    handed = _operations(rows) if collection == OPERATIONS else _edits(sender, install_id, collection, rows)
    bodies = [body for one in handed for body in one.bodies]
    received = foreign.hand_in(sender, CHANNEL, bodies, clock, settings, source)
    results = iter(received.results)
    back: list[Row] = []
    for one in handed:
        ends = [_end(next(results)) for _ in one.bodies]
        if collection == OPERATIONS:
            returned = "another" in ends
        else:
            returned = one.refused or "refused" in ends or "another" in ends or set(ends) == {"decided"}
        if returned:
            back.append(one.row)
    return Pushed(_conflicts(sender, collection, back), received.waiting)


@dataclass(frozen=True)
class _Handed:
    """A row and the operations it makes; ``refused``: they exist only to be rejected."""

    row: Row
    bodies: Sequence[foreign.Body]
    refused: bool = False


def _end(result: Mapping[str, Any]) -> str:
    if result["status"] in ("rejected", "id_reuse"):
        return "another" if result["status"] == "id_reuse" else "refused"
    return "decided" if (result.get("outcome") or {}).get("outcome") in TERMINAL else "taken"


def _operations(rows: Sequence[Row]) -> list[_Handed]:
    """Documents that are operations. One that is deleted is only cleared away: what has been sent stands."""
    return [_Handed(row, [_content(row.new, "seq")] if not row.new.get("_deleted") else []) for row in rows]


def _edits(sender: Sender, install_id: str, collection: str, rows: Sequence[Row]) -> list[_Handed]:
    """What changed jobs or customers say: edits, and what cannot be."""
    entity = COLLECTIONS[collection]
    reader = Reader(sender.device_id, sender.crew_id)
    unseen = [str(row.new["id"]) for row in rows if row.seen is None]
    now = foreign.on_record(reader.scope_of(collection), entity, unseen) if unseen else {}
    handed: list[_Handed] = []
    for row in rows:
        name = str(row.new["id"])
        if row.seen is None:
            handed.append(_unseen(install_id, entity, row, now[name]))
            continue
        was, made = foreign.changed(_content(row.new, *_LOCAL), _content(row.seen, *_LOCAL))
        rev, at = row.seen.get("rev"), row.new.get("edited_at")
        base_rev = rev if isinstance(rev, int) and not isinstance(rev, bool) and rev >= 0 else None
        edits = foreign.edit(install_id, entity, name, was, made, base_rev, at if isinstance(at, str) else None)
        handed.append(_Handed(row, edits, refused=bool(made) and EDITABLE[entity].isdisjoint(made)))
    return handed


_LOCAL = ("id", "edited_at")
"""Members of a document that are no fields of the record."""


def _unseen(install_id: str, entity: str, row: Row, document: str | None) -> _Handed:
    """A document that RxDB does not know to be on record: made on the device, or RxDB has lost its notes.

    What was changed in it nobody can say, so nothing of it is done. Kept it is all the same, if it says something else.
    """
    content = _content(row.new, *_LOCAL)
    shown = json.loads(_shown("id", row.new["id"], document))
    if same(content, _content(shown, *_LOCAL)):
        return _Handed(row, [])
    told = json.dumps([install_id, entity, row.new["id"], content], sort_keys=True)
    body: foreign.Body = {
        "op_id": f"row-{hashlib.sha256(told.encode()).hexdigest()[:40]}",
        "kind": f"{entity}.create",
        "entity": entity,
        "entity_id": row.new["id"],
        "payload": content,
    }
    return _Handed(row, [body], refused=True)


def _content(document: Mapping[str, Any], *less: str) -> dict[str, Any]:
    """A document without what RxDB and the app keep in it for themselves; ``_deleted`` only where it is true."""
    told = {name: value for name, value in document.items() if not name.startswith("_") and name not in less}
    return told | ({"_deleted": True} if document.get("_deleted") else {})


def _conflicts(sender: Sender, collection: str, rows: Sequence[Row]) -> list[str]:
    """The documents of the rows as they are on record; nothing of those that hold just that."""
    key = primary_key(collection)
    names = [str(row.new[key]) for row in rows]
    if collection == OPERATIONS:
        now = foreign.sent_before(sender.device_id, names)
    else:
        reader = Reader(sender.device_id, sender.crew_id)
        now = foreign.on_record(reader.scope_of(collection), COLLECTIONS[collection], names)
    held = zip(rows, (_shown(key, name, now[name]) for name in names), strict=True)
    return [document for row, document in held if not same(_content(row.new), _content(json.loads(document)))]
