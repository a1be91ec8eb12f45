"""Which of a device's positions are worth keeping. Pure.

A receiver that lies still reports a place that wanders, a moving one reports every second, and now and then it is in
another town for a moment. What is kept is a list of places with the time the device was there: standing makes the last
one longer, driving adds one now and then, and a jump is believed when the next position confirms it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import NamedTuple

from fieldsvc.geo.travel import distance_m

FASTEST_KMH = 180.0
"""A vehicle does not go faster: what would have to is a jump (illustrative default)."""


class Sampling(NamedTuple):
    """How densely positions are kept: not within so many seconds of the one before, nor within so many metres."""

    seconds: float
    metres: float


@dataclass(frozen=True)
class Fix:
    """A device was within ``accuracy_m`` of a place from ``at`` until ``until``.

    :param id: of the row it is stored in, if it is. ``doubtful``: a jump that nothing has confirmed yet.
    """

    at: datetime
    until: datetime
    lon: float
    lat: float
    accuracy_m: float | None = None
    id: str | None = None
    doubtful: bool = False


class Sifted(NamedTuple):
    """``kept``: what is new or has changed, by time; the last one of it may be doubtful."""

    kept: list[Fix]
    doubtful: Fix | None


def sift(last: Fix | None, doubtful: Fix | None, new: Sequence[Fix], sampling: Sampling) -> Sifted:
    """Sift ``new`` (by time) after what is stored: the ``last`` place, and a ``doubtful`` one behind it.

    What is not later than the last one has come before and is left out, so a push that comes again adds nothing.
    """
    changed: dict[datetime, Fix] = {}
    for fix in new:
        if any(known is not None and fix.at <= known.until for known in (last, doubtful)):
            continue
        if last is not None and not _reachable(last, fix):
            if doubtful is None or not _reachable(doubtful, fix):
                doubtful = replace(fix, doubtful=True)
                continue
            last = replace(doubtful, doubtful=False)
            changed[last.at] = last
        doubtful = None
        if last is not None and _stands(last, fix, sampling.metres):
            last = replace(last, until=fix.at)
        elif last is None or fix.at - last.until >= timedelta(seconds=sampling.seconds):
            last = fix
        else:
            continue
        changed[last.at] = last
    return Sifted([changed[at] for at in sorted(changed)], doubtful)


def _stands(last: Fix, fix: Fix, metres: float) -> bool:
    """A rough position tells no more than that it may still be the same place."""
    return distance_m(last.lon, last.lat, fix.lon, fix.lat) <= max(metres, fix.accuracy_m or 0.0)


def _reachable(last: Fix, fix: Fix) -> bool:
    metres = distance_m(last.lon, last.lat, fix.lon, fix.lat)
    metres -= (last.accuracy_m or 0.0) + (fix.accuracy_m or 0.0)
    return metres <= FASTEST_KMH / 3.6 * (fix.at - last.until).total_seconds()
