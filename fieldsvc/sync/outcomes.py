"""Outcomes: what became of an operation, told to its device in the same transaction as the change itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

from sqlalchemy import select

from fieldsvc.base.db import db
from fieldsvc.base.plain import plain
from fieldsvc.feed import publish
from fieldsvc.history.record import Source, record, tells_of
from fieldsvc.sync import receipts
from fieldsvc.sync.models import InboxOperation
from fieldsvc.sync.receipts import Handed


@dataclass(frozen=True)
class Outcome:
    """The end of an operation. ``rev`` grows when a dispatcher's decision follows a parked one.

    ``policy_version`` names the edition of the merge policies it was judged by: those in force when it happened.
    ``evidence`` is what had come by then of the files it names: ``{"required", "verified", "missing"}``.
    """

    op_id: str
    device_id: str
    handed: Handed
    kind: str
    entity: str
    entity_id: str
    outcome: str
    decided_at: datetime
    reason: str | None = None
    errors: Sequence[dict[str, str]] = ()
    conflicts: Sequence[dict[str, Any]] = ()
    entity_rev: int | None = None
    review_id: str | None = None
    note: str | None = None
    resolution: str | None = None
    policy_version: str | None = None
    evidence: dict[str, Any] | None = None
    rev: int = 1
    context: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def doc(self) -> dict[str, Any]:
        """As the device sees it, with the receipt."""
        told: dict[str, Any] = {
            "op_id": self.op_id,
            "kind": self.kind,
            "entity": self.entity,
            "entity_id": self.entity_id,
            "outcome": self.outcome,
            "reason": self.reason,
            "errors": list(self.errors),
            "conflicts": plain(list(self.conflicts)),
            "job_rev" if self.entity == "job" else "entity_rev": self.entity_rev,
            "review_id": self.review_id,
            "note": self.note,
            "resolution": self.resolution,
            "policy_version": self.policy_version,
            "decided_at": plain(self.decided_at),
        }
        if self.evidence is not None:
            told["evidence"] = self.evidence
        return told | {"receipt": receipts.sign(self._claims(told), self.decided_at)}

    def _claims(self, told: dict[str, Any]) -> dict[str, Any]:
        """What the receipt vouches for."""
        return {
            "op_id": self.op_id,
            "body_sha256": self.handed.sha256,
            "install_id": self.handed.install_id,
            "device_id": self.device_id,
            "seq": self.handed.seq,
            **{name: told[name] for name in _VOUCHED},
            "rev": self.rev,
            "entity_rev": self.entity_rev,
        }


_VOUCHED = ("kind", "entity", "entity_id", "outcome", "reason", "resolution", "policy_version", "decided_at")
"""Members of the document that the receipt repeats."""


def device_scope(device_id: str) -> str:
    """The feed scope only this device reads."""
    return f"device:{device_id}"


QUIET = ("applied", "merged")
"""Outcomes whose history is the change itself; every other one gets an entry of its own."""


def tell(source: Source, end: Outcome) -> None:
    """Put the outcome into its device's feed, and into the history where nothing else tells of it."""
    publish.put([device_scope(end.device_id)], "outcome", end.op_id, end.rev, end.doc)
    if end.outcome not in QUIET or not tells_of(end.op_id):  # an edit may find everything as it says already
        record(
            source,
            f"operation.{end.outcome}",
            "operation",
            end.op_id,
            after={
                "kind": end.kind,
                "reason": end.reason,
                "errors": list(end.errors),
                "entity_id": end.entity_id,
                "policy_version": end.policy_version,
            },
            note=end.note,
            **end.context,
        )


def of_device(device_id: str, op_ids: Sequence[str]) -> list[dict[str, Any]]:
    """What became of ``op_ids``, in their order. Operations of other devices are as unknown as those never received."""
    rows = {
        row.op_id: row
        for row in db.session.execute(
            select(InboxOperation.op_id, InboxOperation.status, InboxOperation.reason, InboxOperation.outcome).where(
                InboxOperation.op_id.in_(op_ids), InboxOperation.device_id == device_id
            )
        )
    }
    found = []
    for op_id in op_ids:
        row = rows.get(op_id)
        if row is None:
            found.append({"op_id": op_id, "status": "not_found"})
        else:
            found.append({"op_id": op_id, "status": row.status, "reason": row.reason, "outcome": row.outcome})
    return found
