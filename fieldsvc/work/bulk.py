"""Jobs by the hundred: the same jobs as one by one, made with a few statements per batch."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import insert, select

from fieldsvc.base.db import db
from fieldsvc.history.record import Source
from fieldsvc.people import territories
from fieldsvc.people.models import Territory
from fieldsvc.work import jobs, numbers
from fieldsvc.work.models import CommitmentClock, Job


def store_all(source: Source, new: Sequence[jobs.NewJob], action: str) -> list[jobs.Draft]:
    """Store jobs whose customers and points are known, each with its history entry ``action``; in their order.

    The caller has seen to it that no external key is taken.
    """
    if not new:
        return []
    now = source.recorded_at
    spots = [(one.lon, one.lat) for one in new if one.lon is not None and one.lat is not None]
    located = iter(territories.index(now).locate_many([lon for lon, _ in spots], [lat for _, lat in spots]))
    site_classes = dict(db.session.execute(select(Territory.id, Territory.site_class)).all())
    drawn = numbers.draw(Job.number, "J-", len(new))
    drafts = []
    for one, number in zip(new, drawn, strict=True):
        here = next(located) if one.lon is not None and one.lat is not None else None
        drafts.append(jobs.drafted(one, jobs.place_of(one, here, site_classes), number, now))
    db.session.execute(insert(Job), [draft.row for draft in drafts])
    clocks = [clock.row(draft.row["id"]) for draft in drafts for clock in draft.clocks]
    if clocks:
        db.session.execute(insert(CommitmentClock), clocks)
    for draft in drafts:
        jobs.tell_made(source, action, draft)
    return drafts
