"""Receipts: what became of an operation, signed, so that a device can let go of what it holds and an auditor can check.

A receipt names the operation by the SHA-256 of the bytes that came, not of what was understood of them: any client, in
any language, can compute it over what it sent.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, select, text

from fieldsvc.base import signing
from fieldsvc.base.clock import format_time
from fieldsvc.base.db import at_end, db
from fieldsvc.sync.models import InboxOperation, SigningKey


@dataclass(frozen=True)
class Handed:
    """What a device has handed in: which of its operations, and the SHA-256 of its bytes."""

    install_id: str
    seq: int | None
    sha256: str


def handed(row: InboxOperation) -> Handed:
    """What the device sent of an operation in the inbox that could be read: its body is stored byte for byte."""
    return Handed(row.install_id, row.seq, digest(row.body))


def digest(body: str) -> str:
    """The SHA-256 of an operation's bytes, in hexadecimal."""
    return hashlib.sha256(body.encode()).hexdigest()


def sign(claims: Mapping[str, Any], now: datetime) -> str:
    """A receipt that says ``claims``. The key it can be checked with is stored in the same transaction."""
    signer = signing.signer()
    if not signer.kept:
        at_end("signing-key", lambda: _keep(signer, now))
    return signer.sign(claims)


def _keep(signer: signing.Signer, now: datetime) -> None:
    """Store the public key with the first receipt of a secret, so that receipts outlive the secret."""
    if db.session.scalar(select(SigningKey.kid).where(SigningKey.kid == signer.kid)) is not None:
        signer.kept = True  # by an earlier transaction: that one has committed
        return
    key = {"kid": signer.kid, "public_key": signer.public, "first_used_at": now}
    db.session.execute(_FIRST, key)


_FIRST = text(
    "INSERT INTO signing_key (kid, public_key, first_used_at) VALUES (:kid, :public_key, :first_used_at) "
    "ON CONFLICT (kid) DO NOTHING"
).bindparams(bindparam("first_used_at", type_=SigningKey.first_used_at.type))


def keys() -> list[dict[str, Any]]:
    """Every public key a receipt was ever signed with, as JWKs, the newest first."""
    rows = db.session.scalars(select(SigningKey).order_by(SigningKey.first_used_at.desc(), SigningKey.kid))
    return [signing.jwk(row.public_key) | {"first_used_at": format_time(row.first_used_at)} for row in rows]
