"""Add to the history, explicitly, in the same transaction as the change itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import insert, text

from fieldsvc.base.db import at_end, db, dumps
from fieldsvc.history.models import HistoryEntry


@dataclass(frozen=True)
class Source:
    """Who or what is behind a change, and when: carried from the edge down to every record that is written.

    ``kind`` is staff, device or system; ``op_id``, ``install_id`` and the device's times are set when an operation is
    behind it. ``recorded_at`` is the server's time of the edge.
    """

    kind: str
    recorded_at: datetime
    id: str | None = None
    name: str | None = None
    crew_id: str | None = None
    device_id: str | None = None
    install_id: str | None = None
    op_id: str | None = None
    device_at: str | None = None
    estimated_at: datetime | None = None

    @property
    def at(self) -> datetime:
        """When it happened, as far as known: the estimate for a device's operation, else the server's time."""
        return self.estimated_at or self.recorded_at

    @property
    def mark(self) -> str:
        """Names the author of a field's last change, so that a device's own earlier edits are no conflict to it."""
        return self.install_id or f"{self.kind}:{self.id}"


def record(
    source: Source,
    action: str,
    entity: str,
    entity_id: str,
    *,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
    job_id: str | None = None,
    job_kind: str | None = None,
    customer_id: str | None = None,
    crew_id: str | None = None,
    territory_id: str | None = None,
    note: str | None = None,
) -> None:
    """Add one entry. ``before`` and ``after`` hold only the members that changed, JSON-ready.

    Entries of a transaction are written together at its end, in the order they were recorded.
    """
    info = db.session().info
    if "history" not in info.get("finishers", {}):
        info["history"] = []
        at_end("history", _write_out)
    info["history"].append(
        {
            "recorded_at": source.recorded_at,
            "device_at": source.device_at,
            "estimated_at": source.estimated_at,
            "actor_kind": source.kind,
            "actor_id": source.id,
            "actor_name": source.name,
            "action": action,
            "entity": entity,
            "entity_id": entity_id,
            "job_id": job_id,
            "job_kind": job_kind,
            "customer_id": customer_id,
            "crew_id": crew_id or source.crew_id,
            "device_id": source.device_id,
            "territory_id": territory_id,
            "op_id": source.op_id,
            "before": dict(before) if before is not None else None,
            "after": dict(after) if after is not None else None,
            "note": note,
        }
    )


def tells_of(op_id: str) -> bool:
    """Whether the open transaction has an entry with an operation behind it."""
    info = db.session().info
    entries = info["history"] if "history" in info.get("finishers", {}) else []
    return any(entry["op_id"] == op_id for entry in reversed(entries))


def _write_out() -> None:
    session = db.session()
    entries = session.info.pop("history")
    if session.get_bind().dialect.name == "postgresql":
        session.execute(_INSERT_ALL, {"entries": dumps(entries)})
    else:
        session.execute(insert(HistoryEntry), entries)


_COLUMNS = {
    "recorded_at": "timestamptz",
    "device_at": "text",
    "estimated_at": "timestamptz",
    "actor_kind": "text",
    "actor_id": "text",
    "actor_name": "text",
    "action": "text",
    "entity": "text",
    "entity_id": "text",
    "job_id": "text",
    "job_kind": "text",
    "customer_id": "text",
    "crew_id": "text",
    "device_id": "text",
    "territory_id": "text",
    "op_id": "text",
    "before": "jsonb",
    "after": "jsonb",
    "note": "text",
}
_NAMES = ", ".join(_COLUMNS)
_TYPED = ", ".join(f"{name} {kind}" for name, kind in _COLUMNS.items())
# On PostgreSQL one JSON parameter carries all entries, whatever their number; ``seq`` follows their order.
_INSERT_ALL = text(
    f"INSERT INTO history ({_NAMES}) SELECT {_NAMES} "  # noqa: S608 - composed of constants
    f"FROM ROWS FROM (jsonb_to_recordset(CAST(:entries AS jsonb)) AS ({_TYPED})) WITH ORDINALITY ORDER BY ordinality"
)
