"""The answers kept for ``Idempotency-Key``: same key and same body get the first answer again."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import String, Text
from sqlalchemy.orm import Mapped, mapped_column

from fieldsvc.base.db import Base


class IdempotencyKey(Base):
    """One answered request per caller and key. ``request_sha256`` covers method, path and body."""

    __tablename__ = "idempotency_key"

    actor_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    key: Mapped[str] = mapped_column(String(120), primary_key=True)
    request_sha256: Mapped[str] = mapped_column(String(64))
    status: Mapped[int]
    location: Mapped[str | None] = mapped_column(String(300))
    etag: Mapped[str | None] = mapped_column(String(80))
    body: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(index=True)
