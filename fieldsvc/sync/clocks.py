"""Clocks: when operations really happened, from what the device's clocks said and what was seen of them before. Pure.

Order is never taken from here: operations are decided by ``seq``. The estimate is what promises are judged by and what
history shows. From the best evidence to the weakest:

1. the monotonic clock, where the push, or a hello in the same boot, says how it stood beside ours: exact;
2. ``occurred_at``, corrected by how far the device's clock was off *then*: by the offset of this push, or by the one
   before it changed, where the operation cannot have happened with the new one;
3. ``seq``: what contradicts the order of the others is moved between its neighbours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise

from fieldsvc.base.clock import parse_time

SUSPECT = timedelta(minutes=2)
"""A device's time that is further off than this is marked ``clock_suspect`` (illustrative default)."""


@dataclass(frozen=True, slots=True)
class Clock:
    """The device's clock at the moment of a request, beside ours. ``offset`` is our time minus the device's."""

    now: datetime
    offset: timedelta | None = None
    mono_ms: int | None = None
    boot_id: str | None = None


def device_clock(now: datetime, device_time: str | None, mono_ms: int | None, boot_id: str | None) -> Clock:
    """Compare the device's clock with ours.

    :raises ValueError: ``device_time`` is no RFC 3339 time with zone.
    """
    offset = None if device_time is None else now - parse_time(device_time)
    return Clock(now, offset, mono_ms, boot_id)


@dataclass(frozen=True, slots=True)
class Boot:
    """Where the monotonic clock of one boot stood at one of our times."""

    mono_ms: int
    at: datetime


@dataclass(frozen=True, slots=True)
class Seen:
    """What earlier calls told of a device's clock.

    ``offset`` as the last hello told it, at ``at``; ``former`` is what it was before it changed by more than
    :data:`SUSPECT`, ``former_at`` when it was last that. ``last_seq`` is the highest sequence number stored,
    ``last_at`` the estimate of that operation; ``later`` has the same of each that came before what it follows.
    """

    offset: timedelta | None = None
    at: datetime | None = None
    former: timedelta | None = None
    former_at: datetime | None = None
    boots: Mapping[str, Boot] = field(default_factory=dict)
    last_seq: int = 0
    last_at: datetime | None = None
    later: tuple[tuple[int, datetime], ...] = ()


@dataclass(frozen=True, slots=True)
class Told:
    """What an operation says of its own time."""

    seq: int
    claimed: datetime
    mono_ms: int | None = None
    boot_id: str | None = None


def estimates(clock: Clock, seen: Seen, operations: Sequence[Told]) -> list[datetime]:
    """When each of the operations of one push really happened: in their order, none later than the push."""
    steps = sorted(range(len(operations)), key=lambda index: operations[index].seq)
    ordered = [operations[index] for index in steps]
    boots = dict(seen.boots)
    if clock.boot_id is not None and clock.mono_ms is not None:
        boots[clock.boot_id] = Boot(clock.mono_ms, clock.now)
    exact = [_by_boot(told, boots, clock.now) for told in ordered]
    guesses = _in_order(_by_wall(clock, seen, ordered, exact), [at is not None for at in exact])
    floor = seen.last_at
    if floor is not None and any(sure is not None and sure < floor for sure in exact):
        floor = None  # what was estimated then was too late
    found = [clock.now] * len(operations)
    for index, told, guess, sure in zip(steps, ordered, guesses, exact, strict=True):
        found[index] = guess if sure is not None else min(guess, _ceiling(seen, told.seq, clock.now))
        if sure is None and floor is not None and told.seq > seen.last_seq:
            found[index] = max(found[index], floor)
    return found


def _ceiling(seen: Seen, seq: int, now: datetime) -> datetime:
    """What was done before ``seq`` number so and so was done by then."""
    return min((at for later, at in seen.later if later > seq), default=now)


def suspect(claimed: datetime, estimate: datetime) -> bool:
    """Whether the device's clock was wrong when it wrote ``claimed``."""
    return abs(estimate - claimed) > SUSPECT


def _by_boot(told: Told, boots: Mapping[str, Boot], now: datetime) -> datetime | None:
    boot = boots.get(told.boot_id) if told.boot_id is not None else None
    if boot is None or told.mono_ms is None:
        return None
    try:
        return min(boot.at + timedelta(milliseconds=told.mono_ms - boot.mono_ms), now)
    except OverflowError:
        return None


def _by_wall(clock: Clock, seen: Seen, ordered: Sequence[Told], exact: Sequence[datetime | None]) -> list[datetime]:
    """The exact times, and for the rest ``occurred_at`` less the clock's error, from the last one backwards.

    A clock that was put right, or wrong, changed at some moment after ``before_at``. What was done earlier than that
    by the new offset, or later than what followed it, was written by the clock as it was before; so was all before it.
    """
    offset = clock.offset if clock.offset is not None else seen.offset or timedelta(0)
    before, before_at = _before(seen, offset)
    found: list[datetime] = []
    ceiling, changed = clock.now, False
    for told, sure in zip(reversed(ordered), reversed(exact), strict=True):
        at = sure or _shifted(told.claimed, offset, clock.now)
        ceiling = min(ceiling, _ceiling(seen, told.seq, clock.now))
        if sure is None and before is not None and before_at is not None:
            as_before = _shifted(told.claimed, before, clock.now)
            if (changed or at < before_at or at > ceiling + SUSPECT) and as_before <= ceiling + SUSPECT:
                at, changed = as_before, True
        found.append(min(at, clock.now))
        ceiling = min(ceiling, at)
    return found[::-1]


def _before(seen: Seen, offset: timedelta) -> tuple[timedelta | None, datetime | None]:
    """The offset before the clock changed to ``offset``, and when it was last that."""
    if seen.offset is not None and abs(seen.offset - offset) > SUSPECT:
        return seen.offset, seen.at
    return seen.former, seen.former_at


def _shifted(claimed: datetime, offset: timedelta, now: datetime) -> datetime:
    try:
        return claimed + offset
    except OverflowError:
        return now


def _in_order(times: list[datetime], exact: list[bool]) -> list[datetime]:
    """``times`` that never go back: as many as possible stay, the exact ones first; each of the others gets the time of
    the one before it, or of the first that stays.
    """
    if all(one <= other for one, other in pairwise(times)):
        return times
    stay = _longest_rising(times, _not_against(times, exact))
    last = times[next(iter(stay))]
    settled = []
    for index in range(len(times)):
        if index in stay:
            last = times[index]
        settled.append(last)
    return settled


def _not_against(times: Sequence[datetime], exact: Sequence[bool]) -> list[int]:
    """Those that agree with every exact time before and after them."""
    floors: list[datetime | None] = []
    floor: datetime | None = None
    for at, sure in zip(times, exact, strict=True):
        floors.append(floor)
        floor = max(floor or at, at) if sure else floor
    ceiling: datetime | None = None
    kept: list[int] = []
    for index in reversed(range(len(times))):
        at, floor = times[index], floors[index]
        if exact[index] or ((floor is None or floor <= at) and (ceiling is None or at <= ceiling)):
            kept.append(index)
        ceiling = min(ceiling or at, at) if exact[index] else ceiling
    return kept[::-1]


def _longest_rising(times: Sequence[datetime], among: Sequence[int]) -> dict[int, None]:
    """The longest run of indexes among ``among`` whose times never go back; of several the one that spans the least
    time, which leaves out a clock that had lost its date, and of those the latest.
    """
    best: dict[int, tuple[int, datetime, int | None]] = {}  # by its last index: length, begin, the index before
    for index in among:
        runs = [(best[other][0] + 1, best[other][1], other) for other in best if times[other] <= times[index]]
        best[index] = max(runs, default=(1, times[index], None))
    end: int | None = max(best, key=lambda index: (best[index][0], best[index][1] - times[index], index))
    chain: list[int] = []
    while end is not None:
        chain.append(end)
        end = best[end][2]
    return dict.fromkeys(reversed(chain))
