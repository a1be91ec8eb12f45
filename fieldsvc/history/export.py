"""The history taken out of the service: bounded, complete up to one moment, and itself noted in the history."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import orjson
from sqlalchemy import select

from fieldsvc.base.clock import new_id
from fieldsvc.base.db import db
from fieldsvc.history import page
from fieldsvc.history.models import HistoryEntry
from fieldsvc.history.page import Wanted
from fieldsvc.history.record import Source, record

MOST = 20_000
"""How many entries one export may have; who wants more takes them in pieces of time."""
BATCH = 1_000
COLUMNS = (
    "seq recorded_at estimated_at device_at actor_kind actor_id actor_name action entity entity_id job_id job_kind "
    "customer_id crew_id device_id territory_id op_id note before after"
).split()
"""The columns of a table of entries; ``before`` and ``after`` are JSON text."""

_FORMULA = re.compile(r"\s*[=+\-@|%＝＋－＠]|[\t\r\n]")


def found(wanted: Wanted, scope: Collection[str] | None) -> list[int]:
    """The ``seq`` of the entries that are wanted, the newest first, at most one more than :data:`MOST`: an export is
    these, whatever is written while it is on its way.
    """
    query = page.entries(wanted, scope).with_only_columns(HistoryEntry.seq)
    return list(db.session.scalars(query.order_by(HistoryEntry.seq.desc()).limit(MOST + 1)))


def batch(seqs: Sequence[int]) -> list[dict[str, Any]]:
    """These entries, the newest first, as :func:`page.rendered` shows them."""
    rows = db.session.scalars(select(HistoryEntry).where(HistoryEntry.seq.in_(seqs)).order_by(HistoryEntry.seq.desc()))
    return [page.rendered(row) for row in rows]


def note(source: Source, asked: Mapping[str, Any], form: str, count: int) -> str:
    """Write down who took out what; answers the id of the export."""
    ident = new_id()
    record(source, "history.exported", "history", ident, after={"filter": dict(asked), "form": form, "entries": count})
    return ident


def cells(entry: Mapping[str, Any]) -> list[str]:
    """An entry as the cells of a table, in the order of :data:`COLUMNS`; none of them is a formula to a spreadsheet."""
    times, actor = entry["times"], entry["actor"]
    flat = {
        **entry,
        "recorded_at": times["recorded"],
        "estimated_at": times["estimated"],
        "device_at": times["device"],
        "actor_kind": actor["kind"],
        "actor_id": actor["id"],
        "actor_name": actor["name"],
    }
    return [cell(flat[name]) for name in COLUMNS]


def cell(value: Any) -> str:
    """One cell. Text that a spreadsheet would take for a formula gets an apostrophe before it, as they write it
    themselves (OWASP, CSV injection): what a caller or a crew typed must not be carried out by an auditor's computer.
    """
    if value is None:
        return ""
    text = orjson.dumps(value).decode() if isinstance(value, dict | list) else str(value)
    return f"'{text}" if _FORMULA.match(text) else text
