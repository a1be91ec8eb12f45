"""Does a device hold what its scopes hold? A count and a checksum per scope, and the repair where they differ.

What a scope holds are its rows that were last a ``put``, each with the revision the device was told. The checksum is
SHA-256, in hexadecimal, of the lines ``<entity> <id> <rev>\\n`` in the order of (entity, id) by their bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import select, text, tuple_

from fieldsvc.base.db import db
from fieldsvc.feed.models import SyncDoc, SyncFeed
from fieldsvc.feed.pull import change

Key = tuple[str, str]
"""(entity, id)."""


@dataclass(frozen=True)
class Held:
    """What a scope holds: (entity, id) -> revision, in the order of the keys."""

    revs: dict[Key, int]

    @property
    def checksum(self) -> str:
        told = "".join(f"{entity} {entity_id} {rev}\n" for (entity, entity_id), rev in self.revs.items())
        return hashlib.sha256(told.encode()).hexdigest()

    def after(self, key: Key | None, limit: int) -> Held:
        """The first ``limit`` of those behind ``key``."""
        keys = [held for held in self.revs if key is None or held > key][:limit]
        return Held({held: self.revs[held] for held in keys})


@dataclass(frozen=True)
class Repair:
    """What a device that holds something else has to do: ``put`` is JSON text per change; ``next`` where to go on."""

    put: list[bytes]
    delete: list[Key]
    next: Key | None


def held(scope: str) -> Held:
    """What ``scope`` holds now; one statement."""
    return ordered(((row.entity, row.entity_id), row.rev) for row in db.session.execute(_HELD, {"scope": scope}))


def ordered(rows: Iterable[tuple[Key, int]]) -> Held:
    """Rows in the order of their keys. It is made here: databases differ in how they sort text."""
    return Held(dict(sorted(rows)))


def repair(scope: str, here: Held, there: Held, after: Key | None, more: bool, limit: int) -> Repair:
    """Compare the first ``limit`` rows of a scope behind ``after`` with those of a device.

    ``there`` is what the device holds behind ``after``, in order; ``more``: and still more behind the last of them.
    """
    page = here.after(after, limit + 1).revs
    ends = [list(there.revs)[-1]] if more else []
    if len(page) > limit:
        ends.append(list(page)[limit - 1])
    end = min(ends) if ends else None

    def within(key: Key) -> bool:
        return end is None or key <= end

    differing = [key for key, rev in page.items() if within(key) and there.revs.get(key) != rev]
    gone = [key for key in there.revs if within(key) and key not in page]
    return Repair(_puts(scope, differing), gone, end)


def _puts(scope: str, keys: Sequence[Key]) -> list[bytes]:
    """The changes a pull would carry. What has left the scope since is not among them: the next pull tells."""
    if not keys:
        return []
    rows = db.session.execute(
        select(SyncFeed.entity, SyncFeed.entity_id, SyncFeed.rev, SyncFeed.op, SyncFeed.reason, SyncDoc.body)
        .join(SyncDoc, (SyncDoc.entity == SyncFeed.entity) & (SyncDoc.entity_id == SyncFeed.entity_id))
        .where(SyncFeed.scope == scope, SyncFeed.op == "put")
        .where(tuple_(SyncFeed.entity, SyncFeed.entity_id).in_(keys))
    )
    return [change(row) for row in sorted(rows, key=lambda row: (row.entity, row.entity_id))]


_HELD = text(f"SELECT entity, entity_id, rev FROM {SyncFeed.__tablename__} WHERE scope = :scope AND op = 'put'")
