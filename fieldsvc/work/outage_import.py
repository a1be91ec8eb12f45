"""Planned outages out of a file, as the grid's planners keep them: each row taken or refused on its own.

An outage that is there already, to the minute, is left as it is; one that overlaps another of its area is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy import select

from fieldsvc.base import sheet
from fieldsvc.base.db import db
from fieldsvc.base.errors import FieldsvcError
from fieldsvc.base.sheet import Layout, Outcome, Refusal, Refused, Row
from fieldsvc.history.record import Source
from fieldsvc.work import outages
from fieldsvc.work.models import PlannedOutage

BATCH = 200
COLUMNS = "transformer_area starts_at ends_at reason".split()


@dataclass
class OutageImport:
    """One import."""

    layout: Layout
    outcome: Outcome = field(default_factory=Outcome)

    def take(self, source: Source, rows: Sequence[Row | Refusal]) -> None:
        """Store what is new of ``rows`` and keep count in ``outcome``."""
        self.outcome.rows += len(rows)
        for row in rows:
            if isinstance(row, Refusal):
                self.outcome.refused.append(row)
                continue
            try:
                self._one(source, row)
            except Refused as fault:
                self.outcome.refused.append(row.refused(fault))

    def _one(self, source: Source, row: Row) -> None:
        new = self._asked(row)
        there = select(PlannedOutage.id).where(
            PlannedOutage.transformer_area == new.transformer_area,
            PlannedOutage.starts_at == new.starts_at,
            PlannedOutage.ends_at == new.ends_at,
            PlannedOutage.state == "planned",
        )
        if db.session.scalar(there) is not None:
            self.outcome.unchanged += 1
            return
        try:
            outages.create(source, new, None)
        except FieldsvcError as fault:
            column = fault.errors[0]["field"] if fault.errors else "transformer_area"
            reason = fault.errors[0]["reason"] if fault.errors else fault.detail
            raise Refused(column, row[column], reason) from None
        self.outcome.created += 1

    def _asked(self, row: Row) -> outages.NewOutage:
        times = []
        for column in ("starts_at", "ends_at"):
            moment = sheet.moment(row, column, self.layout.timezone)
            if moment is None:
                raise Refused(column, "", "missing")
            times.append(moment)
        area = sheet.text(row, "transformer_area", 80, required=True) or ""
        return outages.NewOutage(area, times[0], times[1], sheet.text(row, "reason", 300) or "")
