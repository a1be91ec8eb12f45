"""The history table. Rows are added and never changed: triggers on both databases refuse UPDATE and DELETE."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Index, Integer, String
from sqlalchemy.orm import Mapped, mapped_column

from fieldsvc.base.db import Base


class HistoryEntry(Base):
    """One change. ``seq`` grows; the three times are kept apart: as the device said, as estimated, as recorded here."""

    __tablename__ = "history"
    __table_args__ = (
        Index("ix_history_job_id_seq", "job_id", "seq"),
        Index("ix_history_customer_id_seq", "customer_id", "seq"),
        Index("ix_history_crew_id_seq", "crew_id", "seq"),
        Index("ix_history_device_id_seq", "device_id", "seq"),
        Index("ix_history_actor_id_seq", "actor_id", "seq"),
        Index("ix_history_op_id", "op_id"),
        Index("ix_history_action_seq", "action", "seq"),
        Index("ix_history_recorded_at_seq", "recorded_at", "seq"),
    )

    seq: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True)
    recorded_at: Mapped[datetime]
    device_at: Mapped[str | None] = mapped_column(String(40))
    estimated_at: Mapped[datetime | None]
    actor_kind: Mapped[str] = mapped_column(String(10))
    actor_id: Mapped[str | None] = mapped_column(String(36))
    actor_name: Mapped[str | None] = mapped_column(String(120))
    action: Mapped[str] = mapped_column(String(60))
    entity: Mapped[str] = mapped_column(String(30))
    entity_id: Mapped[str] = mapped_column(String(80))
    job_id: Mapped[str | None] = mapped_column(String(36))
    job_kind: Mapped[str | None] = mapped_column(String(30))
    customer_id: Mapped[str | None] = mapped_column(String(36))
    crew_id: Mapped[str | None] = mapped_column(String(36))
    device_id: Mapped[str | None] = mapped_column(String(36))
    territory_id: Mapped[str | None] = mapped_column(String(36))
    op_id: Mapped[str | None] = mapped_column(String(80))
    before: Mapped[dict[str, Any] | None]
    after: Mapped[dict[str, Any] | None]
    note: Mapped[str | None] = mapped_column(String(2000))
