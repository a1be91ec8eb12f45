"""Hours of the day as a rule states them ("22:00 to 06:00, on Saturdays"), and the spans of UTC they mean in a zone.

Only rules speak local time; everything else here is UTC.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Any, NamedTuple

from fieldsvc.geo.model import Window

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_CLOCK = re.compile(r"(?:[01]\d|2[0-3]):[0-5]\d", re.ASCII)


class Hours(NamedTuple):
    """From ``begin`` to ``end``, local time, on weekdays (0: Monday) on which it begins.

    ``end`` not after ``begin``: it ends on the next day.
    """

    days: frozenset[int]
    begin: time
    end: time


def clock(text: Any) -> time:
    """``"22:00"``; :raises ValueError: not a time of the day so written."""
    if not isinstance(text, str) or not _CLOCK.fullmatch(text):
        raise ValueError(f'a time of the day is written "22:00", not {text!r}')
    return time(int(text[:2]), int(text[3:]))


def read(stated: Mapping[str, Any]) -> Hours:
    """``{"from": "22:00", "to": "06:00"}``, maybe with ``"days": ["sat", "sun"]`` (default: every day).

    :raises ValueError: it says something else.
    """
    if not isinstance(stated, Mapping) or not {"from", "to"} <= set(stated) <= {"from", "to", "days"}:
        raise ValueError("hours are {from, to}, and days where they are not every day's")
    days = stated.get("days", DAYS)
    if not isinstance(days, list | tuple) or not days or not set(days) <= set(DAYS):
        raise ValueError(f"days are a list of {', '.join(DAYS)}")
    return Hours(frozenset(DAYS.index(day) for day in days), clock(stated["from"]), clock(stated["to"]))


def on_day(hours: Hours, day: date, zone: tzinfo) -> Window | None:
    """What ``hours`` that begin on ``day`` are in UTC; None: not on this weekday, or the clock skips them all.

    When clocks change, a time that is shown twice begins with the first and ends with the last showing, and one that
    is skipped makes the span shorter: never does it reach beyond the hours as a clock on the wall shows them.
    """
    if day.weekday() not in hours.days:
        return None
    until = day if hours.end > hours.begin else day + timedelta(days=1)
    begin = datetime.combine(day, hours.begin, zone).astimezone(UTC)
    end = datetime.combine(until, hours.end.replace(fold=1), zone).astimezone(UTC)
    return Window(begin, end) if begin < end else None


def within(stated: Sequence[Hours], span: Window, zone: tzinfo) -> tuple[Window, ...]:
    """What ``stated`` hours leave of ``span``: in order, none touching another."""
    first = span.start.astimezone(zone).date() - timedelta(days=1)
    days = (span.end.astimezone(zone).date() - first).days
    found = (on_day(hours, first + timedelta(days=n), zone) for n in range(days + 1) for hours in stated)
    return joined(clip for one in found if one and (clip := overlap(one, span)))


def overlap(one: Window, other: Window) -> Window | None:
    """What two spans share; None: nothing, or one moment."""
    start, end = max(one.start, other.start), min(one.end, other.end)
    return Window(start, end) if start < end else None


def joined(windows: Iterable[Window]) -> tuple[Window, ...]:
    """The same times as few spans as possible, in order."""
    found: list[Window] = []
    for window in sorted(windows):
        if found and window.start <= found[-1].end:
            found[-1] = Window(found[-1].start, max(found[-1].end, window.end))
        else:
            found.append(window)
    return tuple(found)
