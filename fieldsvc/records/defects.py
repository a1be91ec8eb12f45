"""Defects: born on inspection, alive until a later job that looked closes them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import select

from fieldsvc.base.clock import new_id
from fieldsvc.base.db import db
from fieldsvc.base.plain import plain
from fieldsvc.history.record import Source, record
from fieldsvc.kinds.base import CloseDefect, OpenDefect
from fieldsvc.records.models import Defect


def facts_at(usage_point_id: str | None, customer_id: str | None) -> tuple[dict[str, Any], ...]:
    """The newest 200 defects of a usage point (or, without one, of a customer), as the rules see them."""
    place = Defect.usage_point_id == usage_point_id if usage_point_id else Defect.customer_id == customer_id
    rows = db.session.scalars(select(Defect).where(place).order_by(Defect.id.desc()).limit(200))
    return tuple(
        {"id": d.id, "item_code": d.item_code, "job_id": d.job_id, "found_at": d.found_at, "state": d.state}
        for d in rows
    )


def open_defect(source: Source, found: OpenDefect, context: Mapping[str, Any], usage_point_id: str | None) -> Defect:
    """Enter a defect that the job of ``context`` found."""
    defect = Defect(
        id=new_id(),
        customer_id=context.get("customer_id"),
        usage_point_id=usage_point_id,
        job_id=context["job_id"],
        op_id=source.op_id,
        item_code=found.item_code,
        description=found.description,
        grade_scheme=found.grade_scheme,
        grade=found.grade,
        found_at=found.found_at,
        deadline_at=found.deadline_at,
        state="open",
        rev=1,
    )
    db.session.add(defect)
    record(
        source,
        "defect.opened",
        "defect",
        defect.id,
        after={
            "item_code": found.item_code,
            "description": found.description,
            "grade": f"{found.grade_scheme}:{found.grade}",
            "deadline_at": plain(found.deadline_at),
        },
        **context,
    )
    return defect


def close_defect(source: Source, closing: CloseDefect, at: datetime, context: Mapping[str, Any]) -> Defect | None:
    """Close a defect; one that is closed already stays as it was first closed."""
    defect = db.session.get(Defect, closing.defect_id, populate_existing=True, with_for_update=True)
    if defect is None or defect.state == "closed":
        return None
    defect.state = "closed"
    defect.closed_at = at
    defect.closed_by_job_id = context["job_id"]
    defect.closing_note = closing.note
    defect.rev += 1
    record(
        source,
        "defect.closed",
        "defect",
        defect.id,
        before={"state": "open"},
        after={"state": "closed", "note": closing.note},
        **context,
    )
    return defect
