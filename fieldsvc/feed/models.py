"""Tables of the change feed.

``sync_counter`` holds one dense counter per scope; ``sync_feed`` one row per (scope, entity, id): its newest position;
``sync_doc`` the rendered document of an entity, once, whatever number of scopes show it. ``sync_mark`` says how far a
scope had come when.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, Index, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from fieldsvc.base.db import Base


class SyncCounter(Base):
    """The last sequence number given out in a scope; only the feed rows themselves are written after it.

    Of what has gone, rows up to ``horizon`` may be forgotten.
    """

    __tablename__ = "sync_counter"

    scope: Mapped[str] = mapped_column(String(80), primary_key=True)
    n: Mapped[int] = mapped_column(BigInteger, default=0)
    horizon: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")


class SyncMark(Base):
    """Everything up to ``n`` in a scope is older than ``at``. ``told_at``: since when the horizon says so."""

    __tablename__ = "sync_mark"

    scope: Mapped[str] = mapped_column(String(80), primary_key=True)
    n: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    at: Mapped[datetime] = mapped_column(index=True)
    told_at: Mapped[datetime | None]


class SyncFeed(Base):
    """Where an entity last changed in a scope. ``op`` is put, delete or leave."""

    __tablename__ = "sync_feed"
    __table_args__ = (
        UniqueConstraint("scope", "entity", "entity_id"),
        Index("ix_sync_feed_entity_entity_id", "entity", "entity_id"),
    )

    scope: Mapped[str] = mapped_column(String(80), primary_key=True)
    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    entity: Mapped[str] = mapped_column(String(30))
    entity_id: Mapped[str] = mapped_column(String(80))
    rev: Mapped[int] = mapped_column(BigInteger)
    op: Mapped[str] = mapped_column(String(10))
    reason: Mapped[str | None] = mapped_column(String(40))


class SyncDoc(Base):
    """The document a ``put`` carries: JSON text, rendered once when the entity is written and sent as it is."""

    __tablename__ = "sync_doc"

    entity: Mapped[str] = mapped_column(String(30), primary_key=True)
    entity_id: Mapped[str] = mapped_column(String(80), primary_key=True)
    rev: Mapped[int] = mapped_column(BigInteger)
    body: Mapped[str] = mapped_column(Text)


class SyncEpoch(Base):
    """The life of this feed. A checkpoint of another epoch (another database) is answered with ``reset``."""

    __tablename__ = "sync_epoch"

    epoch: Mapped[str] = mapped_column(String(40), primary_key=True)
