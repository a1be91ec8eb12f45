"""Reviews as the office looks through them: those of one's own territories, filtered, counted, one after the other."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import ColumnElement, Select, func, select, tuple_

from fieldsvc.base.db import db
from fieldsvc.base.errors import NotFound
from fieldsvc.people.actors import Actor
from fieldsvc.sync import reviews
from fieldsvc.sync.models import Review
from fieldsvc.work.models import Job

URGENCY = (Review.severity, Review.created_at, Review.id)
"""The order of what waits, ascending: hard conflicts before soft ones, then the oldest."""

GROUPS: Mapping[str, Any] = {
    "kind": Job.kind,
    "reason": Review.reason,
    "severity": Review.severity,
    "crew": Review.crew_id,
}
"""What reviews can be filtered and counted by."""


def wanted(scope: Collection[str] | None, filters: Mapping[str, str], state: str = "open") -> Select[Review]:
    """Reviews in ``scope`` (None: everywhere), to be ordered and paged by the caller.

    :param filters: names of :data:`GROUPS`, and ``job``.
    """
    query = select(Review).where(Review.state == state, *_within(scope), *_matching(filters))
    return query.join(Job, Job.id == Review.job_id) if "kind" in filters else query


def _matching(filters: Mapping[str, str]) -> list[ColumnElement[bool]]:
    columns = {**GROUPS, "job": Review.job_id}
    return [columns[name] == value for name, value in filters.items()]


def _within(scope: Collection[str] | None) -> list[ColumnElement[bool]]:
    """Where the job lies now counts: it may have moved since. What is about no job lies where it lay."""
    if scope is None:
        return []
    mine = select(Job.id).where(Job.territory_id.in_(sorted(scope)))
    return [Review.job_id.in_(mine) | (Review.job_id.is_(None) & Review.territory_id.in_(sorted(scope)))]


def counts(scope: Collection[str] | None) -> dict[str, dict[str | None, int]]:
    """How many open reviews there are by each of :data:`GROUPS`: ``{"reason": {"wrong_meter": 3, …}, …}``."""
    columns = list(GROUPS.values())
    rows = db.session.execute(
        select(*columns, func.count())
        .select_from(Review)
        .outerjoin(Job, Job.id == Review.job_id)
        .where(Review.state == "open", *_within(scope))
        .group_by(*columns)
    ).all()
    found: dict[str, dict[str | None, int]] = {name: {} for name in GROUPS}
    for row in rows:
        for place, name in enumerate(GROUPS):
            found[name][row[place]] = found[name].get(row[place], 0) + row[-1]
    return found


def next_open(scope: Collection[str] | None, filters: Mapping[str, str], after: Review | None = None) -> str | None:
    """The id of the open review behind ``after`` in the order of :data:`URGENCY`; at its end, of the first one."""
    query = wanted(scope, filters).with_only_columns(Review.id).order_by(*URGENCY).limit(1)
    if after is not None:
        behind = tuple_(*URGENCY) > (after.severity, after.created_at, after.id)
        if found := db.session.scalar(query.where(behind)):
            return str(found)
        query = query.where(Review.id != after.id)
    first = db.session.scalar(query)
    return None if first is None else str(first)


def find(actor: Actor, review_id: str, *, lock: bool = False) -> Review:
    """A review, if what it is about lies in the actor's territories now; ``lock`` holds its row.

    :raises NotFound: there is none, or it lies outside of them.
    """
    review = reviews.lock(review_id) if lock else db.session.get(Review, review_id)
    if review is None or not actor.sees(_territory(review)):
        raise NotFound("review", review_id)
    return review


def _territory(review: Review) -> str | None:
    job = db.session.get(Job, review.job_id) if review.job_id else None
    return job.territory_id if job else review.territory_id
