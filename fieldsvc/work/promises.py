"""Promises on a job: which clocks start with it, when each is due, and by which published rule.

Clocks start when the trouble was reported, not when somebody typed it in. ``change.reach`` judges them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any

from fieldsvc import rules
from fieldsvc.base.clock import new_id

PROMISED: Mapping[str, tuple[str, ...]] = MappingProxyType({"repair": ("arrival", "restoration")})
"""Job kind -> stages promised to the customer (``<stage>_minutes`` in the rule pack); other kinds have none."""


@dataclass(frozen=True)
class Promise:
    """One clock to be started: ``kind`` is the stage, ``source`` cites the rule."""

    kind: str
    started_at: datetime
    due_at: datetime
    source: str

    def row(self, job_id: str) -> dict[str, Any]:
        """The columns of its ``commitment_clock`` row."""
        return {
            "id": new_id(),
            "job_id": job_id,
            "kind": self.kind,
            "started_at": self.started_at,
            "due_at": self.due_at,
            "verdict": "running",
            "source": self.source,
        }


def made_for(kind: str, site_class: str, started_at: datetime) -> tuple[Promise, ...]:
    """What is promised for a job of ``kind`` at a place of ``site_class``, the first due first.

    A stage the rule pack has no promise for on that date is not promised.
    """
    stages = PROMISED.get(kind, ())
    answers = rules.load().promises(started_at.date(), site_class) if stages else {}
    found = []
    for stage in stages:
        answer = answers.get(f"{stage}_minutes")
        if answer is not None:
            due = started_at + timedelta(minutes=int(answer.value))
            found.append(Promise(stage, started_at, due, f"{answer.source} ({answer.edition})"[:300]))
    return tuple(sorted(found, key=lambda promise: promise.due_at))
