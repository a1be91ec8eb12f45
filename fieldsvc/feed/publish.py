"""Write to the feed: collect what changed during a transaction, give it its places at the very end.

The counters are bumped last and in sorted order: a counter's row lock is held only from here to the commit, and two
transactions can never wait for each other. A reader that has seen ``n`` has therefore seen every row up to ``n``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import bindparam, select, text, tuple_

from fieldsvc.base.db import at_end, db, dumps
from fieldsvc.feed.models import SyncFeed

Key = tuple[str, str]
Doc = Mapping[str, Any] | Callable[[], Mapping[str, Any]]
"""A document, JSON-ready, or what makes it: called once at the end, however often the entity was shown meanwhile."""


@dataclass
class _Pending:
    docs: dict[Key, tuple[int, Doc]] = field(default_factory=dict)
    rows: dict[str, dict[Key, tuple[int, str, str | None]]] = field(default_factory=dict)
    touched: set[Key] = field(default_factory=set)


def put(scopes: Iterable[str], entity: str, entity_id: str, rev: int, doc: Doc) -> None:
    """Show ``doc`` as revision ``rev`` of an entity in each of ``scopes``."""
    pending = _pending()
    key = (entity, entity_id)
    pending.docs[key] = (rev, doc)
    for scope in scopes:
        pending.rows.setdefault(scope, {})[key] = (rev, "put", None)


def refresh(entity: str, entity_id: str, rev: int, doc: Doc) -> None:
    """Show ``doc`` in every scope that holds the entity now; nothing happens in the others."""
    pending = _pending()
    key = (entity, entity_id)
    pending.docs[key] = (rev, doc)
    pending.touched.add(key)


def leave(scope: str, entity: str, entity_id: str, rev: int, reason: str) -> None:
    """Tell the readers of ``scope`` that the entity is no longer theirs (hide it; purge it when nothing is pending)."""
    _pending().rows.setdefault(scope, {})[(entity, entity_id)] = (rev, "leave", reason)


def delete(scopes: Iterable[str], entity: str, entity_id: str, rev: int) -> None:
    """Tell the readers of ``scopes`` that the entity is gone."""
    for scope in scopes:
        _pending().rows.setdefault(scope, {})[(entity, entity_id)] = (rev, "delete", None)


def _pending() -> _Pending:
    info = db.session().info
    pending: _Pending | None = info.get("feed")
    if pending is None or "feed" not in info.get("finishers", {}):
        pending = info["feed"] = _Pending()
        at_end("feed", _write_out, last=True)
    return pending


def holders(entity: str, ids: Iterable[str]) -> dict[str, set[str]]:
    """entity id -> scopes that show it, by the feed and by what this transaction has said since."""
    ids = list(ids)
    found: dict[str, set[str]] = {}
    rows = db.session.execute(
        select(SyncFeed.entity_id, SyncFeed.scope).where(
            SyncFeed.entity == entity, SyncFeed.entity_id.in_(ids), SyncFeed.op == "put"
        )
    )
    for entity_id, scope in rows:
        found.setdefault(entity_id, set()).add(scope)
    for scope, said in _pending().rows.items():
        for entity_id in ids:
            if (entity, entity_id) in said:
                shown = said[entity, entity_id][1] == "put"
                (set.add if shown else set.discard)(found.setdefault(entity_id, set()), scope)
    return found


def _write_out() -> None:
    session = db.session()
    pending: _Pending = session.info.pop("feed")
    if pending.docs:
        _upsert_docs(pending.docs)
    if pending.touched:
        # Only now: whoever is showing one of these documents to another scope holds its row and has been waited for.
        rows = session.execute(
            select(SyncFeed.scope, SyncFeed.entity, SyncFeed.entity_id).where(
                tuple_(SyncFeed.entity, SyncFeed.entity_id).in_(sorted(pending.touched)), SyncFeed.op == "put"
            )
        )
        for scope, entity, entity_id in rows:
            key = (entity, entity_id)
            pending.rows.setdefault(scope, {}).setdefault(key, (pending.docs[key][0], "put", None))
    if not pending.rows:
        return
    values = []
    for scope in sorted(pending.rows):
        keys = pending.rows[scope]
        last = _bump(scope, len(keys))
        for place, ((entity, entity_id), (rev, op, reason)) in enumerate(keys.items(), last - len(keys) + 1):
            values.append(
                {
                    "scope": scope,
                    "seq": place,
                    "entity": entity,
                    "entity_id": entity_id,
                    "rev": rev,
                    "op": op,
                    "reason": reason,
                }
            )
    session.execute(_FEED_UPSERT, {"rows": dumps(values)}) if _is_postgresql() else session.execute(
        _FEED_UPSERT_SQLITE, values
    )


def _bump(scope: str, by: int) -> int:
    n: int = db.session.execute(_BUMP, {"scope": scope, "by": by}).scalar_one()
    return n


def _upsert_docs(docs: Mapping[Key, tuple[int, Doc]]) -> None:
    rows = [
        {"entity": key[0], "entity_id": key[1], "rev": docs[key][0], "body": _rendered(docs[key][1])}
        for key in sorted(docs)
    ]
    if _is_postgresql():
        db.session.execute(_DOC_UPSERT, {"rows": dumps(rows)})
    else:
        db.session.execute(_DOC_UPSERT_SQLITE, rows)


def _rendered(doc: Doc) -> str:
    return dumps(doc() if callable(doc) else doc)


def _is_postgresql() -> bool:
    return db.session.get_bind().dialect.name == "postgresql"


_BUMP = text(
    "INSERT INTO sync_counter (scope, n) VALUES (:scope, :by) "
    "ON CONFLICT (scope) DO UPDATE SET n = sync_counter.n + excluded.n RETURNING n"
)

# On PostgreSQL one JSON parameter carries all rows: one statement, whatever their number.
_FEED_SET = (
    "ON CONFLICT (scope, entity, entity_id) DO UPDATE "
    "SET seq = excluded.seq, rev = excluded.rev, op = excluded.op, reason = excluded.reason"
)
_FEED_UPSERT = text(
    "INSERT INTO sync_feed (scope, seq, entity, entity_id, rev, op, reason) "
    "SELECT scope, seq, entity, entity_id, rev, op, reason FROM jsonb_to_recordset(CAST(:rows AS jsonb)) "
    "AS r(scope text, seq bigint, entity text, entity_id text, rev bigint, op text, reason text) " + _FEED_SET
).bindparams(bindparam("rows"))
_FEED_UPSERT_SQLITE = text(
    "INSERT INTO sync_feed (scope, seq, entity, entity_id, rev, op, reason) "
    "VALUES (:scope, :seq, :entity, :entity_id, :rev, :op, :reason) " + _FEED_SET
)
_DOC_SET = (
    "ON CONFLICT (entity, entity_id) DO UPDATE SET rev = excluded.rev, body = excluded.body "
    "WHERE sync_doc.rev <= excluded.rev"
)
_DOC_UPSERT = text(
    "INSERT INTO sync_doc (entity, entity_id, rev, body) SELECT entity, entity_id, rev, body "
    "FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r(entity text, entity_id text, rev bigint, body text) " + _DOC_SET
).bindparams(bindparam("rows"))
_DOC_UPSERT_SQLITE = text(
    "INSERT INTO sync_doc (entity, entity_id, rev, body) VALUES (:entity, :entity_id, :rev, :body) " + _DOC_SET
)
