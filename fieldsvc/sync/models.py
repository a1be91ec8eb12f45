"""Tables of sync: the inbox of operations, each install's place in it, and reviews."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, String, Text, false, text
from sqlalchemy.orm import Mapped, mapped_column

from fieldsvc.base.db import Base

WAITING = text("status IN ('accepted', 'retrying')")
HELD = text("status = 'held'")
OWED = text("required AND state NOT IN ('verified', 'unreadable')")
"""Conditions of the partial indexes. Queries use them as they stand: with parameters a plan could not use the index."""


class Install(Base):
    """One installation of the app: ``next_seq`` is the first sequence number not stored yet, ``last_seq`` the highest
    that is stored, ``last_at`` when that operation was done, as far as known.

    Its row is locked by whoever stores or decides operations of this install, so that both happen one at a time.
    """

    __tablename__ = "install"

    install_id: Mapped[str] = mapped_column(String(80), primary_key=True)
    device_id: Mapped[str] = mapped_column(ForeignKey("device.id"))
    next_seq: Mapped[int] = mapped_column(BigInteger, default=1)
    last_seq: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    last_at: Mapped[datetime | None]


class DeviceBoot(Base):
    """Where the monotonic clock of one boot of a device stood when it last said hello."""

    __tablename__ = "device_boot"

    device_id: Mapped[str] = mapped_column(ForeignKey("device.id"), primary_key=True)
    boot_id: Mapped[str] = mapped_column(String(80), primary_key=True)
    mono_ms: Mapped[int] = mapped_column(BigInteger)
    seen_at: Mapped[datetime]


class InboxOperation(Base):
    """One thing a device sent: the body as it came, what it says of itself, and what became of it.

    ``status`` is the operation's outcome so far; ``occurred_at_device`` is the device's own words. ``forced``: it was
    held for too long and decided without what it waited for.
    """

    __tablename__ = "operation"
    __table_args__ = (
        Index("ix_operation_install_id_seq", "install_id", "seq"),
        Index("ix_operation_waiting", "install_id", "seq", sqlite_where=WAITING, postgresql_where=WAITING),
        Index("ix_operation_held", "install_id", "seq", sqlite_where=HELD, postgresql_where=HELD),
        Index("ix_operation_entity_id", "entity_id"),
        Index("ix_operation_device_id_received_at", "device_id", "received_at"),
    )

    op_id: Mapped[str] = mapped_column(String(80), primary_key=True)
    device_id: Mapped[str] = mapped_column(ForeignKey("device.id"))
    crew_id: Mapped[str] = mapped_column(String(36))
    install_id: Mapped[str] = mapped_column(String(80))
    seq: Mapped[int] = mapped_column(BigInteger)
    kind: Mapped[str] = mapped_column(String(40))
    entity: Mapped[str] = mapped_column(String(30))
    entity_id: Mapped[str] = mapped_column(String(80))
    body: Mapped[str] = mapped_column(Text)
    body_sha256: Mapped[str] = mapped_column(String(64))
    depends_on: Mapped[list[Any] | None]
    occurred_at_device: Mapped[str | None] = mapped_column(String(40))
    estimated_at: Mapped[datetime]
    received_at: Mapped[datetime]
    clock_suspect: Mapped[bool] = mapped_column(default=False)
    status: Mapped[str] = mapped_column(String(20))
    reason: Mapped[str | None] = mapped_column(String(40))
    forced: Mapped[bool] = mapped_column(default=False, server_default=false())
    attempts: Mapped[int] = mapped_column(default=0)
    retry_at: Mapped[datetime | None]
    decided_at: Mapped[datetime | None]
    outcome: Mapped[dict[str, Any] | None]


class OperationDependency(Base):
    """``op_id`` waits for ``depends_on``; rows go when the operation is released."""

    __tablename__ = "operation_dependency"

    depends_on: Mapped[str] = mapped_column(String(80), primary_key=True)
    op_id: Mapped[str] = mapped_column(ForeignKey("operation.op_id"), primary_key=True)


class Review(Base):
    """Something a person has to decide: an operation that was parked, forced, or applied with a conflict.

    ``policy_version`` names the edition of the merge policies it was judged by.
    """

    __tablename__ = "review"
    __table_args__ = (Index("ix_review_state_created_at", "state", "created_at"),)

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    op_id: Mapped[str] = mapped_column(ForeignKey("operation.op_id"), index=True)
    op_kind: Mapped[str] = mapped_column(String(40))
    entity: Mapped[str] = mapped_column(String(30))
    entity_id: Mapped[str] = mapped_column(String(80))
    job_id: Mapped[str | None] = mapped_column(String(36), index=True)
    customer_id: Mapped[str | None] = mapped_column(String(36))
    territory_id: Mapped[str | None] = mapped_column(String(36), index=True)
    crew_id: Mapped[str | None] = mapped_column(String(36))
    device_id: Mapped[str | None] = mapped_column(String(36))
    outcome: Mapped[str] = mapped_column(String(20))
    reason: Mapped[str | None] = mapped_column(String(40))
    severity: Mapped[str] = mapped_column(String(10), default="hard")
    conflicts: Mapped[list[Any]] = mapped_column(default=list)
    explanation: Mapped[dict[str, Any]] = mapped_column(default=dict)
    proposed: Mapped[dict[str, Any]] = mapped_column(default=dict)
    policy_version: Mapped[str | None] = mapped_column(String(40))
    state: Mapped[str] = mapped_column(String(10), default="open")
    created_at: Mapped[datetime]
    resolved_at: Mapped[datetime | None]
    resolved_by: Mapped[str | None] = mapped_column(String(36))
    resolution: Mapped[str | None] = mapped_column(String(20))
    resolution_note: Mapped[str | None] = mapped_column(String(2000))
    rev: Mapped[int] = mapped_column(default=1)


class WatermelonPull(Base):
    """What an answer to a WatermelonDB client told: its ``timestamp``, and the checkpoint of the feed behind it.

    ``again``: ``[entity, id]`` of records the next answer tells once more, although they have not changed.
    """

    __tablename__ = "watermelon_pull"

    device_id: Mapped[str] = mapped_column(ForeignKey("device.id"), primary_key=True)
    stamp: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    checkpoint: Mapped[dict[str, Any]]
    again: Mapped[list[Any]] = mapped_column(default=list)


class Attachment(Base):
    """A file one operation names. ``id`` is ours, ``attachment_id`` the device's word for it.

    ``state``: expected, verified, empty, wrong_hash, wrong_size or unreadable; ``fault`` says more. ``in_effect``: its
    operation has been applied, so it counts for the job.
    """

    __tablename__ = "attachment"
    __table_args__ = (
        Index("ix_attachment_device_id_attachment_id", "device_id", "attachment_id"),
        Index("ix_attachment_job_id_id", "job_id", "id"),
        Index("ix_attachment_owed", "device_id", sqlite_where=OWED, postgresql_where=OWED),
    )

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    op_id: Mapped[str] = mapped_column(ForeignKey("operation.op_id"), index=True)
    attachment_id: Mapped[str] = mapped_column(String(80))
    device_id: Mapped[str] = mapped_column(ForeignKey("device.id"))
    crew_id: Mapped[str] = mapped_column(String(36))
    job_id: Mapped[str | None] = mapped_column(String(80))
    sha256: Mapped[str] = mapped_column(String(64), index=True)
    size: Mapped[int] = mapped_column(BigInteger)
    type: Mapped[str] = mapped_column(String(100))
    required: Mapped[bool]
    state: Mapped[str] = mapped_column(String(12))
    fault: Mapped[str | None] = mapped_column(String(200))
    in_effect: Mapped[bool] = mapped_column(default=False)
    named_at: Mapped[datetime]
    verified_at: Mapped[datetime | None]
    rev: Mapped[int] = mapped_column(default=1)


class EvidenceFile(Base):
    """A file that has come whole, once, whoever names it. ``type``, size of the picture and what it says of when and
    where it was taken are known for pictures only; ``fault``: why it cannot be read as the picture it begins as.
    """

    __tablename__ = "evidence_file"

    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    size: Mapped[int] = mapped_column(BigInteger)
    filename: Mapped[str | None] = mapped_column(String(200))
    type: Mapped[str | None] = mapped_column(String(20))
    fault: Mapped[str | None] = mapped_column(String(200))
    width: Mapped[int | None]
    height: Mapped[int | None]
    taken_text: Mapped[str | None] = mapped_column(String(80))
    taken_at: Mapped[datetime | None]
    lon: Mapped[float | None]
    lat: Mapped[float | None]
    thumbnail: Mapped[bool] = mapped_column(default=False)
    device_id: Mapped[str] = mapped_column(ForeignKey("device.id"))
    stored_at: Mapped[datetime]


class Upload(Base):
    """A file on its way (a tus resource). ``received`` bytes of ``length`` are here.

    ``state``: open; arrived, to be looked at; stored, empty or wrong_hash, as it was found to be; expired.
    """

    __tablename__ = "upload"
    __table_args__ = (
        Index("ix_upload_device_id_attachment_id", "device_id", "attachment_id"),
        Index("ix_upload_state_expires_at", "state", "expires_at"),
    )

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    device_id: Mapped[str] = mapped_column(ForeignKey("device.id"))
    attachment_id: Mapped[str] = mapped_column(String(80))
    sha256: Mapped[str] = mapped_column(String(64))
    filename: Mapped[str | None] = mapped_column(String(200))
    filetype: Mapped[str | None] = mapped_column(String(100))
    length: Mapped[int] = mapped_column(BigInteger)
    received: Mapped[int] = mapped_column(BigInteger, default=0)
    state: Mapped[str] = mapped_column(String(12))
    looks: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]


class UploadPart(Base):
    """Bytes of an upload from ``start`` on, stored as one object."""

    __tablename__ = "upload_part"

    upload_id: Mapped[str] = mapped_column(ForeignKey("upload.id"), primary_key=True)
    start: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    size: Mapped[int]
    path: Mapped[str] = mapped_column(String(120))


class SigningKey(Base):
    """A public key that receipts were signed with: 32 bytes in base64url. ``kid`` is its thumbprint (RFC 7638)."""

    __tablename__ = "signing_key"

    kid: Mapped[str] = mapped_column(String(43), primary_key=True)
    public_key: Mapped[str] = mapped_column(String(43))
    first_used_at: Mapped[datetime]
