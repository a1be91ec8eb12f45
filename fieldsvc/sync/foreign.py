"""Operations out of other people's sync libraries: a changed document becomes an edit of fields, and is handed in.

Such a library knows documents, not operations. It says what a document was and what it is now, says it again when the
answer was lost, and knows no sequence numbers. Here the difference becomes an operation that a device of our own
protocol could have sent, so that everything behind the push is the same: order, policies, outcomes, reviews, history.

Each library of a device is a *channel* with an install of its own: its numbers are given here, and never mix with those
of an app that speaks the protocol itself.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import orjson
from sqlalchemy import func, select, text

from fieldsvc.base.clock import format_time
from fieldsvc.base.db import among, db
from fieldsvc.base.merge import same
from fieldsvc.config import Settings
from fieldsvc.feed.manifest import Key
from fieldsvc.feed.models import SyncDoc, SyncFeed
from fieldsvc.history.record import Source
from fieldsvc.kinds.common import EDITABLE
from fieldsvc.sync import receive
from fieldsvc.sync.clocks import Clock
from fieldsvc.sync.envelope import Push
from fieldsvc.sync.models import InboxOperation
from fieldsvc.sync.outcomes import device_scope
from fieldsvc.sync.receive import Received, Sender

Body = dict[str, Any]
"""An operation without ``seq``, and without ``occurred_at`` where nobody knows when it happened."""


class Edit(Body):
    """An operation that :func:`edit` has made."""


def install_of(channel: str, device_id: str) -> str:
    """The install of a channel of a device. No app can be enrolled under such a name: an id has no slash."""
    return f"{channel}/{device_id}"


DEPTH = 64
"""Levels of a document that are read; no operation is accepted with a payload that has more than a quarter of it."""


def readable(value: Any, depth: int = DEPTH) -> Any:
    """``value`` with a text in place of whatever lies more than ``depth`` levels deep: then nothing in here runs out of
    stack by it, and the operation it becomes is rejected by itself.
    """
    if not isinstance(value, dict | list):
        return value
    if depth == 0:
        return "(nested too deeply)"
    if isinstance(value, dict):
        return {name: readable(member, depth - 1) for name, member in value.items()}
    return [readable(member, depth - 1) for member in value]


def changed(new: Mapping[str, Any], seen: Mapping[str, Any]) -> tuple[Body, Body]:
    """``(was, set)`` of what differs between a document and the one its author had seen. A member that is gone is set
    to null.
    """
    names = [name for name in dict.fromkeys([*seen, *new]) if not same(new.get(name), seen.get(name))]
    return {name: seen.get(name) for name in names}, {name: new.get(name) for name in names}


def edit(
    install_id: str,
    entity: str,
    entity_id: str,
    was: Mapping[str, Any],
    new: Mapping[str, Any],
    base_rev: int | None,
    occurred_at: str | None = None,
) -> list[Edit]:
    """The operations that carry an edit: the fields a crew may edit in one, the others in another.

    The second one will be rejected, each field named, so that nobody takes it for done; that does not touch the first.
    Both are told by their ids, which follow from the content: the same edit sent again is the same operation.

    :param install_id: of the channel (:func:`install_of`).
    :param was: what the author had seen, by field; a field may be missing where nobody knows.
    :param new: what the author made of it, by field. Empty: no operation.
    :param base_rev: the revision the author had seen.
    :param occurred_at: when the author did it, RFC 3339; without it the moment it first comes in is taken.
    """
    editable = EDITABLE.get(entity, frozenset())
    parts = [
        {name: new[name] for name in new if name not in editable},
        {name: new[name] for name in new if name in editable},
    ]
    edits: list[Edit] = []
    for part in parts:
        if not part:
            continue
        body: Body = {
            "kind": f"{entity}.update",
            "entity": entity,
            "entity_id": entity_id,
            "base_rev": base_rev,
            "was": {name: was[name] for name in part if name in was},
            "set": part,
        } | ({"occurred_at": occurred_at} if occurred_at is not None else {})
        told = json.dumps([install_id, body], sort_keys=True)
        edits.append(Edit({"op_id": _EDIT + hashlib.sha256(told.encode()).hexdigest()[:40], **body}))
    return edits


_EDIT = "edit-"
_IDENT = re.compile(r"[A-Za-z0-9._:-]{1,80}\Z")


def hand_in(
    sender: Sender, channel: str, bodies: Sequence[Body], clock: Clock, settings: Settings, source: Source
) -> Received:
    """Store ``bodies`` as operations of the device's channel; one result per body, in their order.

    What is stored already keeps its number and answers ``duplicate``. An edit (:func:`edit`) whose content has been
    handed in before is another edit, though, when the device has edited the record otherwise since: there and back and
    there again are three edits.

    Numbers follow the order of ``bodies``; where one depends on another that comes later, ``depends_on`` decides. Call
    it in a transaction, then ring for ``waiting``; how many bodies a request may bring is bounded by the caller.
    """
    install_id = install_of(channel, sender.device_id)
    sender, source = replace(sender, install_id=install_id), replace(source, install_id=install_id)
    _lock(sender)
    told = _apart(install_id, bodies)
    stored = _stored(told)
    results: dict[int, dict[str, Any]] = {}
    waiting: set[str] = set()
    reached = 1
    for indexes in _batches(told, settings.push_ops):
        raws = _numbered([told[index] for index in indexes], stored, _lock(sender), format_time(clock.now))
        received = receive.push(sender, Push(install_id=install_id, ops=raws), clock, settings, source)
        results |= dict(zip(indexes, received.results, strict=True))
        waiting |= set(received.waiting)
        reached = received.next_seq
    return Received([results[index] for index in range(len(told))], reached, tuple(sorted(waiting)))


def _lock(sender: Sender) -> int:
    """Hold the channel's row until the transaction ends; answers the number to go on with.

    The numbers are given in the order of arrival. They say nothing about when something was done, so no estimate of
    the batch before is a bound for those of the next.
    """
    this = {"install": sender.install_id, "device": sender.device_id}
    found: int | None = db.session.execute(_LOCK, this).scalar()
    if found is None:
        db.session.execute(_FIRST, this)
        found = db.session.execute(_LOCK, this).scalar_one()
    return found


_LOCK = text("UPDATE install SET last_at = NULL WHERE install_id = :install RETURNING next_seq")
_FIRST = text(
    "INSERT INTO install (install_id, device_id, next_seq) VALUES (:install, :device, 1) "
    "ON CONFLICT (install_id) DO NOTHING"
)


def _batches(bodies: Sequence[Body], most: int) -> Iterator[list[int]]:
    """Indexes of what goes together, at most ``most``: operations as they came, and edits by the time they were made,
    which is all that is known of the order of edits of different records.
    """
    edits = [index for index, body in enumerate(bodies) if isinstance(body, Edit)]
    others = [index for index, body in enumerate(bodies) if not isinstance(body, Edit)]
    edits.sort(key=lambda index: str(bodies[index].get("occurred_at") or "9"))
    for indexes in (others, edits):
        for start in range(0, len(indexes), most):
            yield indexes[start : start + most]


def _apart(install_id: str, bodies: Sequence[Body]) -> list[Body]:
    """Give edits an id that says which edit came before them, so that only the last one can be said again. Those of a
    known time need none: the time is part of what they say.

    The parts of one edit (:func:`edit`) stand beside each other; the last of them that is stored names them all.
    """
    parts: dict[Key, set[str]] = {}
    for body in bodies:
        if isinstance(body, Edit):
            parts.setdefault((body["entity"], body["entity_id"]), set()).add(body["op_id"])
    last = _last_edits(install_id, sorted({entity_id for _, entity_id in parts}))
    return [_named(body, parts, last) if isinstance(body, Edit) else body for body in bodies]


def _named(edited: Edit, parts: Mapping[Key, set[str]], last: Mapping[Key, Any]) -> Edit:
    key = (edited["entity"], edited["entity_id"])
    before = last.get(key)
    if before is None or "occurred_at" in edited:
        return edited
    first, _, after = before.op_id.partition(".")
    place = after if first in parts[key] else str(before.seq)
    return Edit(edited | {"op_id": f"{edited['op_id']}.{place}" if place else edited["op_id"]})


def _last_edits(install_id: str, entity_ids: Sequence[str]) -> dict[Key, Any]:
    """(entity, id) -> the last edit of it that came through the channel."""
    known = [entity_id for entity_id in entity_ids if _IDENT.match(entity_id)]
    if not known:
        return {}
    edits = (InboxOperation.install_id == install_id, InboxOperation.op_id.startswith(_EDIT))
    newest = (
        select(func.max(InboxOperation.seq))
        .where(*edits, among(InboxOperation.entity_id, known))
        .group_by(InboxOperation.entity, InboxOperation.entity_id)
    )
    columns = (InboxOperation.entity, InboxOperation.entity_id, InboxOperation.op_id, InboxOperation.seq)
    rows = db.session.execute(select(*columns).where(*edits, InboxOperation.seq.in_(newest)))
    return {(row.entity, row.entity_id): row for row in rows}


def _stored(bodies: Sequence[Body]) -> dict[str, Any]:
    op_ids = [op_id for body in bodies if isinstance(op_id := body.get("op_id"), str) and _IDENT.match(op_id)]
    columns = (InboxOperation.op_id, InboxOperation.seq, InboxOperation.body, InboxOperation.occurred_at_device)
    rows = db.session.execute(select(*columns).where(among(InboxOperation.op_id, op_ids)))
    return {row.op_id: row for row in rows}


def _numbered(bodies: Sequence[Body], stored: Mapping[str, Any], seq: int, now: str) -> list[msgspec.Raw]:
    """The operations as JSON: new ones from number ``seq`` on, stored ones with the number, and the time, they have."""
    given: dict[str, int] = {}
    raws: list[msgspec.Raw] = []
    for body in bodies:
        op_id = str(body.get("op_id"))
        known = stored.get(op_id)
        if known is not None and isinstance(body, Edit):
            raws.append(msgspec.Raw(known.body.encode()))  # the same content by its id; when it first came is kept
            continue
        if known is None and op_id not in given:
            given[op_id] = seq + len(given)
        number = known.seq if known is not None else given[op_id]
        at = known.occurred_at_device if known is not None else None
        whole = {"op_id": body.get("op_id"), "seq": number, "occurred_at": at or now} | body | {"seq": number}
        raws.append(msgspec.Raw(_json(whole)))
    return raws


def _json(body: Body) -> bytes:
    """JSON text, also of what no reader will take (half a surrogate pair): the push says so of that one alone.

    ``op_id`` and ``seq`` stand first, where they are found even then.
    """
    try:
        return orjson.dumps(body)
    except (TypeError, orjson.JSONEncodeError):
        return json.dumps(body).encode()


def answered(device_id: str, channel: str, entity: str, begin: int, end: int, limit: int) -> list[tuple[int, str]]:
    """``(position, id)`` of the records whose edits through the channel have got an outcome, behind position ``begin``
    of the device's scope up to ``end``, at most ``limit``.

    A library that has handed in an edit takes its own document for the one on record. Whatever became of the edit, it
    has to be told again what is on record (:func:`on_record`), else it would keep what was refused or decided
    otherwise.
    """
    told = {
        "scope": device_scope(device_id),
        "install": install_of(channel, device_id),
        "entity": entity,
        "kind": f"{entity}.update",
        "begin": begin,
        "end": end,
        "limit": limit,
    }
    return [(row.seq, row.entity_id) for row in db.session.execute(_ANSWERED, told)]


_ANSWERED = text(
    "SELECT f.seq, o.entity_id FROM sync_feed f JOIN operation o ON o.op_id = f.entity_id "
    "WHERE f.scope = :scope AND f.seq > :begin AND f.seq <= :end AND f.entity = 'outcome' "
    "AND o.install_id = :install AND o.entity = :entity AND o.kind = :kind ORDER BY f.seq LIMIT :limit"
)


def on_record(scope: str, entity: str, ids: Sequence[str]) -> dict[str, str | None]:
    """id -> the document a scope shows now, as JSON text; None for what it does not show, or no longer."""
    known = [name for name in ids if _IDENT.match(name)]
    rows = db.session.execute(
        select(SyncFeed.entity_id, SyncDoc.body)
        .join(SyncDoc, (SyncDoc.entity == SyncFeed.entity) & (SyncDoc.entity_id == SyncFeed.entity_id))
        .where(SyncFeed.scope == scope, SyncFeed.entity == entity, SyncFeed.op == "put")
        .where(among(SyncFeed.entity_id, known))
    )
    return dict.fromkeys(ids) | {row.entity_id: row.body for row in rows}


def sent_before(device_id: str, op_ids: Sequence[str]) -> dict[str, str | None]:
    """id -> the operation that the device has sent under it, as JSON text without ``seq``; None: it has sent none."""
    known = [name for name in op_ids if _IDENT.match(name)]
    rows = db.session.execute(
        select(InboxOperation.op_id, InboxOperation.body).where(
            among(InboxOperation.op_id, known), InboxOperation.device_id == device_id
        )
    )
    return dict.fromkeys(op_ids) | {row.op_id: _without_seq(row.body) for row in rows}


def _without_seq(body: str) -> str | None:
    try:
        told = orjson.loads(body)
    except orjson.JSONDecodeError:  # it was rejected as unreadable, and is kept as it came
        return None
    if not isinstance(told, dict):
        return None
    return orjson.dumps({name: value for name, value in told.items() if name != "seq"}).decode()
