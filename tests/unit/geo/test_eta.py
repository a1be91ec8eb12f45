"""When a crew will be where."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np

from fieldsvc.geo.eta import Visit, expect
from fieldsvc.geo.model import Break, TravelReport
from fieldsvc.geo.travel import NO_WAY, Geodesic, Matrix, Place

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
BASE, EAST, WEST = Place(10, 0), Place(10.1, 0), Place(9.9, 0)


class Minutes:
    """Ten minutes between any two places; none to and from the island."""

    name = "ten minutes"
    island = Place(0, 50)

    def matrix(self, places: Sequence[Place]) -> Matrix:
        seconds = np.full((len(places), len(places)), 600, dtype=np.int32)
        for index, place in enumerate(places):
            if place == self.island:
                seconds[index, :] = seconds[:, index] = NO_WAY
        np.fill_diagonal(seconds, 0)
        return Matrix(seconds, np.full(seconds.shape, 5000.0), TravelReport(self.name))


def at(minutes: float) -> datetime:
    return NOON + timedelta(minutes=minutes)


def begins(start: Place | None, *visits: Visit) -> list[float]:
    found, _ = expect(NOON, start, visits, Minutes())
    return [(one.begin_at - NOON).total_seconds() / 60 for one in found]


def test_one_job_follows_the_other() -> None:
    found, report = expect(NOON, BASE, [Visit("a", EAST, 30), Visit("b", WEST, 20)], Minutes())
    assert [(one.arrive_at, one.leave_at) for one in found] == [(at(10), at(40)), (at(50), at(70))]
    assert [one.travel_min for one in found] == [10, 10]
    assert report.provider == "ten minutes"


def test_work_under_way_ends_as_planned_or_any_moment() -> None:
    assert begins(EAST, Visit("a", EAST, 30, begun_at=at(-20)), Visit("b", WEST, 5)) == [-20, 20]
    assert begins(EAST, Visit("a", EAST, 30, begun_at=at(-50)), Visit("b", WEST, 5)) == [-50, 10]


def test_a_window_makes_the_crew_wait_and_a_later_shift_begins_at_the_base() -> None:
    assert begins(BASE, Visit("a", EAST, 30, earliest=at(60)), Visit("b", WEST, 5)) == [60, 100]
    tomorrow = Visit("b", EAST, 5, sets_out=BASE, free_from=at(1200))
    assert begins(BASE, Visit("a", EAST, 30), tomorrow) == [10, 1210]


def test_a_break_is_taken_before_the_job_that_would_keep_the_crew_from_it() -> None:
    visits = [Visit("a", EAST, 30), Visit("b", WEST, 60)]

    def begins_with(*breaks: Break) -> list[float]:
        found, _ = expect(NOON, BASE, visits, Minutes(), breaks)
        return [(one.begin_at - NOON).total_seconds() / 60 for one in found]

    assert begins_with(Break(at(30), at(110), 20)) == [10, 50], "there is time for it after the second"
    assert begins_with(Break(at(30), at(109), 20)) == [10, 70], "between the two"
    assert begins_with(Break(at(45), at(60), 20)) == [10, 75], "not before its time"
    assert begins_with(Break(at(-60), at(0), 20), Break(at(-90), at(-1), 20)) == [30, 70], "one is over"


def test_what_is_not_known_is_said_and_stops_nothing() -> None:
    visits = [Visit("a", EAST, 5), Visit("b", None, 5), Visit("c", Minutes.island, 5), Visit("d", WEST, 5)]
    found, _ = expect(NOON, None, visits, Minutes())
    assert [one.note for one in found] == ["no_start", "no_place", "no_way", "no_way"]
    assert [one.travel_min for one in found] == [None] * 4
    assert found[-1].leave_at == at(20)
    assert expect(NOON, None, [], Geodesic())[0] == []
