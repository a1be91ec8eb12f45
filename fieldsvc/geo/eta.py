"""When a crew will be where: from its place now along its jobs in their order. Pure.

Nothing is planned here. The order is the one the crew has; the times are what becomes of it, given where the crew is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from fieldsvc.geo.model import Break, TravelReport
from fieldsvc.geo.travel import NO_WAY, Place, TravelTimes


@dataclass(frozen=True)
class Visit:
    """A job on a crew's way.

    :param place: None: nobody knows where it is; the way there counts as none.
    :param begun_at: since when the crew has been at work there.
    :param sets_out: where the crew comes from when not from the job before (its base, at the beginning of a shift).
    :param free_from: the crew does not set out before then (its shift has not begun).
    :param earliest: work may not begin before then (a window, a pinned time).
    """

    job_id: str
    place: Place | None
    service_min: float
    begun_at: datetime | None = None
    sets_out: Place | None = None
    free_from: datetime | None = None
    earliest: datetime | None = None


class Expected(NamedTuple):
    """When a crew arrives, begins and leaves. ``travel_min`` and ``distance_m``: from where it was before; None where
    that is not known, and ``note`` then says why: ``no_place``, ``no_start``, ``no_way``.
    """

    job_id: str
    arrive_at: datetime
    begin_at: datetime
    leave_at: datetime
    travel_min: float | None
    distance_m: float | None
    note: str | None = None


class _Leg(NamedTuple):
    seconds: float | None
    metres: float | None
    note: str | None = None


def expect(
    now: datetime, start: Place | None, visits: Sequence[Visit], travel: TravelTimes, breaks: Sequence[Break] = ()
) -> tuple[list[Expected], TravelReport]:
    """What is to be expected of ``visits``, in their order, for a crew that is at ``start`` and free ``now``.

    Work that lasts longer than planned is expected to end any moment. A break (of ``breaks``, by time) is taken before
    a job that would else keep the crew from it; one whose time is over has been taken.
    """
    places = list(dict.fromkeys(place for place in (start, *_all_places(visits)) if place is not None))
    matrix = travel.matrix(places)
    number = {place: index for index, place in enumerate(places)}

    def leg(here: Place | None, there: Place | None) -> _Leg:
        if here is None or there is None:
            return _Leg(None, None, "no_place" if there is None else "no_start")
        row, column = number[here], number[there]
        seconds = int(matrix.seconds[row, column])
        if seconds == NO_WAY:
            return _Leg(None, None, "no_way")
        return _Leg(seconds, float(matrix.metres[row, column]))

    expected: list[Expected] = []
    ahead = [pause for pause in breaks if pause.latest >= now]
    free, here = now, start
    for visit in visits:
        if visit.begun_at is not None:
            leave = max(free, visit.begun_at + timedelta(minutes=visit.service_min))
            expected.append(Expected(visit.job_id, visit.begun_at, visit.begun_at, leave, 0.0, 0.0))
        else:
            way = leg(visit.sets_out or here, visit.place)
            free = max(free, visit.free_from or free)
            one = _at(visit, free, way)
            while ahead and one.leave_at > ahead[0].latest:
                pause = ahead.pop(0)
                free = max(free, pause.earliest) + timedelta(minutes=pause.minutes)
                one = _at(visit, free, way)
            expected.append(one)
        free, here = expected[-1].leave_at, visit.place or here
    return expected, matrix.report


def _at(visit: Visit, free: datetime, way: _Leg) -> Expected:
    """A visit by a crew that sets out at ``free``."""
    arrive = free + timedelta(seconds=way.seconds or 0.0)
    begin = max(arrive, visit.earliest or arrive)
    leave = begin + timedelta(minutes=visit.service_min)
    minutes = None if way.seconds is None else way.seconds / 60
    return Expected(visit.job_id, arrive, begin, leave, minutes, way.metres, way.note)


def _all_places(visits: Sequence[Visit]) -> list[Place | None]:
    return [place for visit in visits for place in (visit.place, visit.sets_out)]
