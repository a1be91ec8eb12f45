"""Hours of the day as spans of UTC: weekdays, midnight, and the two nights a year on which the clocks change."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from fieldsvc.geo import hours
from fieldsvc.geo.model import Window

BERLIN, SHANGHAI = ZoneInfo("Europe/Berlin"), ZoneInfo("Asia/Shanghai")
NIGHT = hours.read({"from": "22:00", "to": "06:00"})


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def span(start: str, end: str) -> Window:
    return Window(utc(start), utc(end))


@pytest.mark.parametrize(
    ("stated", "day", "expected"),
    [
        (("22:00", "06:00"), date(2027, 1, 4), span("2027-01-04T21:00", "2027-01-05T05:00")),
        (("22:00", "06:00"), date(2027, 3, 27), span("2027-03-27T21:00", "2027-03-28T04:00")),  # an hour less
        (("22:00", "06:00"), date(2027, 10, 30), span("2027-10-30T20:00", "2027-10-31T05:00")),  # an hour more
        (("02:30", "05:00"), date(2027, 3, 28), span("2027-03-28T01:30", "2027-03-28T03:00")),  # 02:30 is skipped
        (("01:00", "02:30"), date(2027, 3, 28), span("2027-03-28T00:00", "2027-03-28T00:30")),
        (("02:15", "02:45"), date(2027, 3, 28), None),  # all of it is
        (("02:30", "05:00"), date(2027, 10, 31), span("2027-10-31T00:30", "2027-10-31T04:00")),  # 02:30 comes twice
        (("01:00", "02:30"), date(2027, 10, 31), span("2027-10-30T23:00", "2027-10-31T01:30")),
        (("00:00", "00:00"), date(2027, 3, 28), span("2027-03-27T23:00", "2027-03-28T22:00")),  # a day of 23 hours
    ],
)
def test_hours_of_a_day(stated: tuple[str, str], day: date, expected: Window | None) -> None:
    read = hours.read({"from": stated[0], "to": stated[1]})
    found = hours.on_day(read, day, BERLIN)
    assert found == expected
    if found is not None:
        assert all(moment.tzinfo is UTC for moment in found)


def test_a_span_keeps_what_began_the_day_before_and_what_touches_is_one() -> None:
    evening = hours.read({"from": "18:00", "to": "22:00"})
    week = span("2027-01-04T16:00", "2027-01-05T16:00")  # a day from midnight to midnight in Shanghai
    alone = hours.within((NIGHT,), week, SHANGHAI)
    assert alone == (span("2027-01-04T16:00", "2027-01-04T22:00"), span("2027-01-05T14:00", "2027-01-05T16:00"))
    both = hours.within((NIGHT, evening), week, SHANGHAI)
    assert both == (span("2027-01-04T16:00", "2027-01-04T22:00"), span("2027-01-05T10:00", "2027-01-05T16:00"))


def test_weekdays_are_those_on_which_the_span_begins() -> None:
    friday = hours.read({"from": "22:00", "to": "06:00", "days": ["fri"]})
    found = hours.within((friday,), Window(utc("2027-01-04T00:00"), utc("2027-01-18T00:00")), UTC)
    assert [window.start.date() for window in found] == [date(2027, 1, 8), date(2027, 1, 15)]
    assert all(window.end - window.start == timedelta(hours=8) for window in found)


@pytest.mark.parametrize(
    "stated",
    [
        {"from": "24:00", "to": "06:00"},
        {"from": "22:00"},
        {"from": "22:00", "to": "6:00"},
        {"from": 22, "to": "06:00"},
        {"from": "22:00", "to": "06:00", "days": []},
        {"from": "22:00", "to": "06:00", "days": ["sunday"]},
        {"from": "22:00", "to": "06:00", "zone": "UTC"},
        "22:00-06:00",
    ],
)
def test_what_are_no_hours(stated: object) -> None:
    with pytest.raises(ValueError, match=r"hours are|days are|time of the day"):
        hours.read(stated)  # type: ignore[arg-type]
