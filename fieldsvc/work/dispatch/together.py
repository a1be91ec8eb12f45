"""What of a plan can only be carried out together: of two changes, one is sound only with the other.

Whoever accepts a part of a plan gets these along: both crews of work for two, what a job has to wait for, and what has
to leave the hours that a crew gets for something else, the driving between the two included. What goes along brings its
own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select

from fieldsvc.base.db import db
from fieldsvc.geo.travel import NO_WAY, Place, TravelTimes
from fieldsvc.work.models import DispatchDecision, Job


@dataclass(frozen=True)
class _Change:
    """A job that the plan gives a crew, another one, none any more, or another time."""

    job_id: str
    crew_id: str | None
    start: datetime | None
    end: datetime | None
    former_crew_id: str | None
    former_start: datetime | None
    former_end: datetime | None
    follows: str | None
    assists: str | None
    place: Place | None


class _Ways:
    """Driving between the places of each crew's changes, asked for crew by crew."""

    def __init__(self, changes: Collection[_Change], travel: TravelTimes) -> None:
        self._travel = travel
        self._places: dict[str, set[Place]] = defaultdict(set)
        for one in changes:
            for crew_id in {one.crew_id, one.former_crew_id} - {None}:
                if crew_id is not None and one.place is not None:
                    self._places[crew_id].add(one.place)
        self._found: dict[str, dict[tuple[Place, Place], int]] = {}

    def between(self, crew_id: str, start: Place | None, end: Place | None) -> timedelta:
        """How long the crew drives; nothing for a job without a place, for ever where no way leads."""
        if start is None or end is None:
            return timedelta(0)
        if crew_id not in self._found:
            places = sorted(self._places[crew_id])
            seconds = self._travel.matrix(places).seconds
            self._found[crew_id] = {
                (a, b): int(seconds[row, column]) for row, a in enumerate(places) for column, b in enumerate(places)
            }
        found = self._found[crew_id][start, end]
        return timedelta.max if found == NO_WAY else timedelta(seconds=found)


def along(run_id: str, job_ids: Collection[str], travel: TravelTimes) -> dict[str, tuple[str, str]]:
    """The changes nobody has accepted yet that have to go with those of ``job_ids`` → why, and for which job's sake.

    ``second_crew``: the other half of work for two crews; ``follows``: one of them waits for the other to end;
    ``same_hours``: it would be left in hours that its crew is given for the other one, or so close to them that the
    crew cannot drive from the one to the other in time, by ``travel``.
    """
    changes = _read(run_id)
    ways = _Ways(changes.values(), travel)
    by_crew: dict[str, list[_Change]] = defaultdict(list)
    after: dict[str, list[_Change]] = defaultdict(list)
    helpers: dict[str, list[_Change]] = defaultdict(list)
    for one in changes.values():
        if one.former_crew_id is not None and one.former_start is not None:
            by_crew[one.former_crew_id].append(one)
        if one.follows is not None:
            after[one.follows].append(one)
        if one.assists is not None:
            helpers[one.assists].append(one)
    chosen = set(job_ids)
    found: dict[str, tuple[str, str]] = {}
    open_ = [changes[job_id] for job_id in sorted(chosen) if job_id in changes]
    while open_:
        one = open_.pop()
        for other, why in _bound(one, changes, by_crew, after, helpers, ways):
            if other.job_id not in chosen:
                chosen.add(other.job_id)
                found[other.job_id] = (why, one.job_id)
                open_.append(other)
    return found


def _bound(
    one: _Change,
    changes: dict[str, _Change],
    by_crew: dict[str, list[_Change]],
    after: dict[str, list[_Change]],
    helpers: dict[str, list[_Change]],
    ways: _Ways,
) -> Iterator[tuple[_Change, str]]:
    """What ``one`` cannot be carried out without."""
    if one.assists in changes:
        yield changes[one.assists], "second_crew"
    yield from ((other, "second_crew") for other in helpers[one.job_id])
    if one.follows in changes and one.crew_id is not None:
        yield changes[one.follows], "follows"
    for other in after[one.job_id]:
        if one.end is None or (other.former_start is not None and other.former_start < one.end):
            yield other, "follows"
    if one.crew_id is not None:
        for other in by_crew[one.crew_id]:
            if other.job_id != one.job_id and not _both(one, other, ways):
                yield other, "same_hours"


def _both(one: _Change, other: _Change, ways: _Ways) -> bool:
    """Whether a crew can do ``one`` as it is planned and ``other`` as it was, with the driving between them."""
    assert one.crew_id is not None and one.start is not None and one.end is not None
    assert other.former_start is not None and other.former_end is not None
    if other.former_start >= one.end:
        return other.former_start - one.end >= ways.between(one.crew_id, one.place, other.place)
    if other.former_end <= one.start:
        return one.start - other.former_end >= ways.between(one.crew_id, other.place, one.place)
    return False


def _read(run_id: str) -> dict[str, _Change]:
    one = DispatchDecision
    query = (
        select(
            one,
            *(Job.planned_end, Job.service_minutes, Job.follows_job_id, Job.assists_job_id),
            *(Job.lon, Job.lat, Job.site_class),
        )
        .join(Job, Job.id == one.job_id)
        .where(one.run_id == run_id, one.taken.is_(None))
        .where(one.crew_id.is_distinct_from(one.former_crew_id) | one.planned_start.is_distinct_from(one.former_start))
    )
    found = {}
    for decision, ends, minutes, follows, assists, lon, lat, site_class in db.session.execute(query):
        start, crew_id = decision.former_start, decision.crew_id
        lasting = start + timedelta(minutes=minutes) if start else None
        found[decision.job_id] = _Change(
            decision.job_id,
            crew_id,
            decision.planned_start if crew_id else None,
            decision.planned_end if crew_id else None,
            decision.former_crew_id,
            start,
            ends if start and ends and ends > start else lasting,
            follows,
            assists,
            None if lon is None or lat is None else Place(lon, lat, site_class),
        )
    return found
