"""WatermelonDB's pull: what has changed for a device, as rows of its tables.

Its ``last_pulled_at`` is one whole number, a checkpoint of ours has a number per scope. So each answer has a stamp, and
the checkpoint behind the newest stamps of a device is kept. A stamp nobody knows, or one of another life of the feed,
gets everything; the device then drops what it did not get (``reset``).

WatermelonDB deletes a record with the edits nobody has sent yet, and pulls before it pushes. So nothing is ever told
as deleted: what is no longer the crew's comes as a row with ``gone``, the reason. What a crew did to it still goes out
with the push that follows, and the device drops it once it is sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import bindparam, delete, select

from fieldsvc.base.db import among, db, dumps, reading
from fieldsvc.feed.models import SyncDoc, SyncFeed
from fieldsvc.feed.pull import epoch, fingerprint, forgotten, standing
from fieldsvc.people.models import Device
from fieldsvc.sync.models import WatermelonPull

TABLES = {
    "jobs": "job",
    "customers": "customer",
    "usage_points": "usage_point",
    "meters": "meter",
    "outcomes": "outcome",
}
"""Table of WatermelonDB -> entity of the feed."""

STAMPS = 10
"""Stamps of a device that are kept, beside the one it asked with: so many answers may get lost one after the other."""

NOT_HELD = "not_held"
"""``gone`` of a record that the crew does not hold, and never did as far as the feed remembers."""

_ROWS_AT_ONCE = 200
_AGAIN = 1000

Key = tuple[str, str]
"""(entity, id)."""


@dataclass(frozen=True)
class Asked:
    """What a pull has to tell: everything (``seen`` is None) or what came after ``seen``, up to ``ends``.

    ``again``: records that are told once more, whether they changed or not. ``stamp`` is set when there is nothing new.
    """

    ends: dict[str, int]
    checkpoint: dict[str, Any]
    seen: dict[str, int] | None = None
    again: frozenset[Key] = frozenset()
    stamp: int | None = None


def asked(device_id: str, scopes: Sequence[str], last: int | None, whole: bool = False) -> Asked:
    """Where the pull after stamp ``last`` begins and ends. ``whole``: everything, whatever the stamp says."""
    stand = standing(scopes)
    ends = {scope: stands.n for scope, stands in stand.items()}
    checkpoint = {"e": epoch(), "f": fingerprint(scopes), "n": ends}
    row = None if last is None or whole else db.session.get(WatermelonPull, (device_id, last))
    if row is None or (row.checkpoint["e"], row.checkpoint["f"]) != (checkpoint["e"], checkpoint["f"]):
        return Asked(ends, checkpoint)
    if forgotten(stand, dict.fromkeys(scopes, 0) | row.checkpoint["n"], {}):
        return Asked(ends, checkpoint)
    again = frozenset((entity, entity_id) for entity, entity_id in row.again)
    same = row.checkpoint == checkpoint and not again
    return Asked(ends, checkpoint, row.checkpoint["n"], again, last if same else None)


def keep(device_id: str, what: Asked, last: int | None, now: datetime) -> int:
    """Give the answer its stamp, larger than the ones before, and forget those that are too old."""
    mine = WatermelonPull.device_id == device_id
    db.session.execute(select(Device.id).where(Device.id == device_id).with_for_update(key_share=True))
    stamps = sorted(db.session.scalars(select(WatermelonPull.stamp).where(mine)), reverse=True)
    stamp = max([int(now.timestamp() * 1000), *(newest + 1 for newest in stamps[:1])])
    db.session.add(WatermelonPull(device_id=device_id, stamp=stamp, checkpoint=what.checkpoint, again=[]))
    old = [one for one in stamps[STAMPS - 1 :] if one != last]
    if old:
        db.session.execute(delete(WatermelonPull).where(mine, WatermelonPull.stamp.in_(old)))
    return stamp


def tell_again(device_id: str, stamp: int, keys: Sequence[Key]) -> None:
    """With the pull after ``stamp``, tell these records as they are, whether they change or not."""
    row = db.session.get(WatermelonPull, (device_id, stamp), with_for_update=True)
    if row is None or not keys:
        return  # that pull will get everything
    wanted = sorted({(entity, entity_id) for entity, entity_id in row.again} | set(keys))
    if len(wanted) > _AGAIN:
        db.session.delete(row)
    else:
        row.again = [list(key) for key in wanted]


def pieces(scopes: Sequence[str], what: Asked, stamp: int) -> Iterator[bytes]:
    """The answer's JSON, in pieces: tables of ``created`` and ``deleted``, which are empty, and ``updated``.

    Which rows there are is one look; the rows follow some hundred at a time, as they are by then. A block of the
    database is open only while a piece is read.
    """
    with reading():
        told = _everything(scopes) if what.seen is None else _since(scopes, what.seen, what.ends, what.again)
    around = {"timestamp": stamp} | ({"reset": True} if what.seen is None else {})
    yield orjson.dumps(around)[:-1] + b',"changes":{'
    for number, (table, entity) in enumerate(TABLES.items()):
        yield (b"," if number else b"") + orjson.dumps(table) + b':{"created":[],"deleted":[],"updated":['
        first = True
        for rows in _rendered(entity, told.get(entity, {})):
            if rows:
                yield (b"" if first else b",") + b",".join(rows)
                first = False
        yield b"]}"
    yield b"}}"


@dataclass(frozen=True)
class _Told:
    """A record in the answer: the scope that shows it, and its place there if known, or why it is gone."""

    scope: str = ""
    seq: int = 0
    gone: str | None = None


Records = dict[str, dict[str, _Told]]
"""entity -> id -> what is told of it."""


def _everything(scopes: Sequence[str]) -> Records:
    """What the scopes show, in one statement: nothing that moves in the feed meanwhile can slip through."""
    told: Records = {}
    for scope, seq, entity, entity_id in db.session.execute(_HELD, {"scopes": list(scopes)}):
        told.setdefault(entity, {})[entity_id] = _Told(scope, seq)
    return told


def _since(scopes: Sequence[str], seen: Mapping[str, int], ends: Mapping[str, int], again: frozenset[Key]) -> Records:
    told: Records = {}
    for scope in scopes:
        span = {"scope": scope, "begin": seen.get(scope, 0), "end": ends.get(scope, 0)}
        for seq, entity, entity_id, op, reason in db.session.execute(_CHANGED, span):
            one = _Told(scope, seq) if op == "put" else _Told(gone=reason or "deleted")
            told.setdefault(entity, {})[entity_id] = one
    for entity, ids in _by_entity(again | _decided_on(told.get("outcome", {}))).items():
        told[entity] = _as_held(scopes, entity, ids) | told.get(entity, {})
    return told


def _by_entity(keys: Iterable[Key]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for entity, entity_id in sorted(keys):
        found.setdefault(entity, []).append(entity_id)
    return found


def _decided_on(outcomes: Mapping[str, _Told]) -> set[Key]:
    """The jobs and customers that outcomes are about. Once sent, a device takes its own values for those on record;
    where they were not taken over nothing has changed here, and nobody would tell it.
    """
    found: set[Key] = set()
    for part in _parts(outcomes):
        docs = [orjson.loads(body) for body in _documents("outcome", part).values()]
        found |= {(doc["entity"], doc["entity_id"]) for doc in docs if doc["entity"] in _EDITED}
    return found


_EDITED = frozenset({"job", "customer"})


def _as_held(scopes: Sequence[str], entity: str, ids: Sequence[str]) -> dict[str, _Told]:
    told = dict.fromkeys(ids, _Told(gone=NOT_HELD))
    for found in db.session.execute(_HOLDS, {"scopes": list(scopes), "entity": entity, "ids": ids}):
        told[found.entity_id] = _Told(found.scope) if found.op == "put" else _Told(gone=found.reason or "deleted")
    return told


def _rendered(entity: str, told: Mapping[str, _Told]) -> Iterator[list[bytes]]:
    gone = [{"id": entity_id, "gone": one.gone} for entity_id, one in told.items() if one.gone is not None]
    yield [orjson.dumps(row) for row in gone]
    for part in _parts({entity_id: one for entity_id, one in told.items() if one.gone is None}):
        with reading():
            bodies = _documents(entity, part)
        yield [row(entity, entity_id, body) for entity_id, body in bodies.items()]


def _parts(told: Mapping[str, _Told]) -> Iterator[dict[str, _Told]]:
    ids = list(told)
    for start in range(0, len(ids), _ROWS_AT_ONCE):
        yield {entity_id: told[entity_id] for entity_id in ids[start : start + _ROWS_AT_ONCE]}


def _documents(entity: str, part: Mapping[str, _Told]) -> dict[str, str]:
    """id -> JSON text of those still shown. What has left meanwhile is missing: the next pull tells.

    They are looked for where they stood: that is quick, whatever a database thinks of long lists of ids. By their ids
    only those that have moved on, or whose place is not known.
    """
    found: dict[str, str] = {}
    for scope in {one.scope for one in part.values()}:
        places = [one.seq for one in part.values() if one.scope == scope and one.seq]
        wanted: dict[str, Any] = {"scope": scope, "entity": entity}
        if places:
            span = wanted | {"first": min(places), "last": max(places)}
            found |= {there.entity_id: there.body for there in db.session.execute(_AT, span) if there.entity_id in part}
        others = [entity_id for entity_id, one in part.items() if one.scope == scope and entity_id not in found]
        if others:
            named = db.session.execute(_NAMED, wanted | {"ids": others})
            found |= {there.entity_id: there.body for there in named}
    return found


def row(entity: str, entity_id: str, body: str) -> bytes:
    """A document as a row: WatermelonDB knows texts, numbers and booleans; everything else is JSON in a text."""
    doc = orjson.loads(body)
    if entity == "job":
        doc["parts_estimate"] = (doc.get("details") or {}).get("parts_estimate")
    plain = {name: value if isinstance(value, _PLAIN) else dumps(value) for name, value in doc.items()}
    if entity in _EDITED:
        plain["seen"] = None
    return orjson.dumps(plain | {"id": entity_id, "gone": None})


_PLAIN = (str, int, float, bool, type(None))

_feed = SyncFeed.__table__.c
_doc = SyncDoc.__table__.c
_shown = _feed.entity.in_(sorted(TABLES.values()))
_HELD = (
    select(_feed.scope, _feed.seq, _feed.entity, _feed.entity_id)
    .where(among(_feed.scope, "scopes"), _feed.op == "put", _shown)
    .order_by(_feed.scope, _feed.seq)
)
_CHANGED = (
    select(_feed.seq, _feed.entity, _feed.entity_id, _feed.op, _feed.reason)
    .where(_feed.scope == bindparam("scope"), _feed.seq > bindparam("begin"), _feed.seq <= bindparam("end"), _shown)
    .order_by(_feed.seq)
)
_HOLDS = select(_feed.scope, _feed.entity_id, _feed.op, _feed.reason).where(
    among(_feed.scope, "scopes"), _feed.entity == bindparam("entity"), among(_feed.entity_id, "ids")
)
_documented = (
    select(_doc.entity_id, _doc.body)
    .join(SyncFeed, (_feed.entity == _doc.entity) & (_feed.entity_id == _doc.entity_id))
    .where(_feed.scope == bindparam("scope"), _feed.entity == bindparam("entity"), _feed.op == "put")
)
_AT = _documented.where(_feed.seq >= bindparam("first"), _feed.seq <= bindparam("last"))
_NAMED = _documented.where(among(_feed.entity_id, "ids"))
