"""Bulk work over weeks: which usage point is done on which day, in which window, and why; or why not at all. Pure.

Supply is cut where the work is done, so the order of thought is the customers', not the crews':

1. Where an area has a planned outage in the period, its work goes into that outage: the customers are cut once.
2. Whole areas follow, the largest first, each with the nearest ones that fill up a crew's day with it, on the first day
   on which all of that fits. An area that fits on no day is spread over the first days with room. Days differ per area,
   so that the work is staggered.
3. Customers with hours of their own (only at night, before opening) go where their hours and a shift meet: on their
   area's day where that is possible, else as early as possible.

Nobody is cut twice within the days the rule says: not by an outage and by us, not by two of our visits. What is worked
on inside of an outage counts as that one cut.

Capacity is crews times minutes per shift. It is charged with the work, a way between neighbours per customer, and the
way to the area once per crew that it takes. Which crew goes where, and when exactly, is decided by the dispatch run of
the day. The same input gives the same schedule.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta, tzinfo
from typing import NamedTuple

import numpy as np

from fieldsvc.geo.hours import Hours, on_day, overlap, within
from fieldsvc.geo.model import Window

REASONS = ("in_outage", "with_area", "area_spread", "own_hours")
"""Why a point is on its day."""
LEFT = ("cut_twice", "no_capacity", "no_night_capacity", "no_window")
"""Why a point is on no day."""


_NEAREST = 64
"""How many neighbours of an area are looked at to fill up a day."""


class Cut(NamedTuple):
    """When a customer is without supply anyway; ``what`` says by what, in words."""

    window: Window
    what: str


@dataclass(frozen=True)
class Point:
    """A usage point to be worked on for ``minutes``.

    :param area: its transformer area; None: it stands for itself.
    :param hours: the only hours in which it may be cut off; empty: any of the day shift.
    :param cuts: when the customer is cut anyway, besides by the outages of its area.
    :param lon: where it is, in degrees, as far as known: what is near goes together.
    """

    id: str
    number: str
    customer_id: str
    area: str | None
    territory_id: str | None
    minutes: int
    hours: tuple[Hours, ...] = ()
    cuts: tuple[Cut, ...] = ()
    lon: float | None = None
    lat: float | None = None


@dataclass(frozen=True)
class Outage:
    """A planned outage of a transformer area."""

    id: str
    area: str
    window: Window


@dataclass(frozen=True)
class Pool:
    """Crews that share territories (None: all that no other pool names), by day and by night."""

    territory_ids: frozenset[str] | None
    day_crews: int
    night_crews: int = 0


@dataclass(frozen=True)
class Terms:
    """What the rules say: shifts, minutes and the days between two cuts."""

    zone: tzinfo
    day_shift: Hours
    night_shift: Hours
    crew_minutes: int
    to_area: int
    between: int
    days_between_cuts: int


@dataclass(frozen=True)
class Placed:
    """Work on ``point_id`` begins within ``window``; ``day`` is the local day the shift begins on."""

    point_id: str
    day: date
    night: bool
    window: Window
    reason: str
    detail: str
    outage_id: str | None = None


class Left(NamedTuple):
    """A point that is on no day: ``reason`` is one of :data:`LEFT`."""

    point_id: str
    reason: str
    detail: str


@dataclass(frozen=True)
class Schedule:
    """Placed points in the order of their windows, and those left, in the order of their numbers."""

    placed: tuple[Placed, ...]
    left: tuple[Left, ...]


@dataclass(frozen=True)
class _Unit:
    """What is not divided: all points of a customer in an area that the same crews serve."""

    points: tuple[Point, ...]
    minutes: int

    @property
    def first(self) -> Point:
        return self.points[0]


@dataclass(frozen=True)
class _Group:
    """Customers of an area that are cut at the same times by others: as a rule the whole area."""

    pool: int
    area: str
    units: tuple[_Unit, ...]

    @property
    def minutes(self) -> int:
        return sum(unit.minutes for unit in self.units)

    @property
    def place(self) -> tuple[float, float]:
        """The middle of its points, in degrees as wide as they are high there; not a number where none is known."""
        known = [(p.lon, p.lat) for unit in self.units for p in unit.points if p.lon is not None and p.lat is not None]
        if not known:
            return math.nan, math.nan
        lat = sum(lat for _, lat in known) / len(known)
        return sum(lon for lon, _ in known) / len(known) * math.cos(math.radians(lat)), lat


@dataclass
class _Slot:
    """One shift of a pool on a day. ``work``: minutes per area; ``narrow``: minutes per window inside the shift."""

    day: date
    night: bool
    window: Window
    crews: int
    terms: Terms
    work: dict[str, int] = field(default_factory=dict)
    narrow: dict[Window, int] = field(default_factory=dict)
    used: int = 0

    def cost(self, area: str, minutes: int) -> int:
        before = self.work.get(area, 0)
        return self._charged(before + minutes) - self._charged(before)

    def _charged(self, minutes: int) -> int:
        return _with_ways(minutes, self.terms)

    def has_room(self, groups: Sequence[_Group]) -> bool:
        """Whether all of several areas fits."""
        asked = sum(self.cost(group.area, group.minutes) for group in groups)
        return self.used + asked <= self.crews * self.terms.crew_minutes

    def fits(self, area: str, minutes: int) -> bool:
        return self.used + self.cost(area, minutes) <= self.crews * self.terms.crew_minutes

    def fits_in(self, window: Window, minutes: int) -> bool:
        """Whether the crews can do ``minutes`` inside of ``window`` beside what they have to do inside of others.

        In no span between two edges may there be more to do than the crews have time in it.
        """
        asked = {**self.narrow, window: self.narrow.get(window, 0) + minutes}
        for start in {one.start for one in asked if one.start <= window.start}:
            for end in {one.end for one in asked if one.end >= window.end}:
                due = sum(m for one, m in asked.items() if one.start >= start and one.end <= end)
                if due > self.crews * (end - start).total_seconds() / 60:
                    return False
        return True

    def take(self, area: str, minutes: int, window: Window) -> None:
        self.used += self.cost(area, minutes)
        self.work[area] = self.work.get(area, 0) + minutes
        if window != self.window:
            self.narrow[window] = self.narrow.get(window, 0) + minutes


def schedule(
    points: Iterable[Point], outages: Iterable[Outage], pools: Sequence[Pool], days: Sequence[date], terms: Terms
) -> Schedule:
    """Put ``points`` on ``days`` (working days, ascending).

    ``outages`` are all of the areas at hand, those shortly before and after the period, too.

    Of several pools that name a territory the first counts; points in none of them go to the one that names none, and
    are left where there is no such pool.
    """
    return _Board(sorted(points, key=lambda point: (point.number, point.id)), pools, days, terms).filled(outages)


class _Board:
    """The days with what is on them so far."""

    def __init__(self, points: Sequence[Point], pools: Sequence[Pool], days: Sequence[date], terms: Terms) -> None:
        self._terms, self._pools, self._days = terms, tuple(pools), tuple(days)
        self._slots: dict[tuple[int, date, bool], _Slot] = {}
        for number, pool in enumerate(pools):
            for day in days:
                for night, crews, shift in (
                    (False, pool.day_crews, terms.day_shift),
                    (True, pool.night_crews, terms.night_shift),
                ):
                    window = on_day(shift, day, terms.zone)
                    if window is not None and crews > 0:
                        self._slots[number, day, night] = _Slot(day, night, window, crews, terms)
        self._pool_of: dict[str | None, int | None] = {}
        self._divided: set[str] = set()
        self._units = self._as_units(points)
        self._placed: dict[str, Placed] = {}
        self._days_of: dict[str, set[date]] = defaultdict(set)
        self._area_days: dict[str, set[date]] = defaultdict(set)
        self._outages: dict[str, list[Cut]] = defaultdict(list)

    def filled(self, outages: Iterable[Outage]) -> Schedule:
        by_area: dict[str, list[_Unit]] = defaultdict(list)
        for unit in self._units:
            by_area[_area(unit)].append(unit)
        ordered = sorted(outages, key=lambda one: (one.window, one.area, one.id))
        for outage in ordered:
            day = outage.window.start.astimezone(self._terms.zone).date()
            self._outages[outage.area].append(Cut(outage.window, f"planned outage on {day.isoformat()}"))
        for outage in ordered:
            self._into_outage(outage, by_area.get(outage.area, ()))
        self._areas([unit for unit in self._units if not unit.first.hours and not self._is_placed(unit)])
        for unit in self._units:
            if unit.first.hours and not self._is_placed(unit):
                self._by_own_hours(unit)
        left = [
            self._why_not(unit, point) for unit in self._units for point in unit.points if not self._is_placed(unit)
        ]
        numbers = {point.id: point.number for unit in self._units for point in unit.points}
        placed = sorted(self._placed.values(), key=lambda one: (one.window.start, one.day, numbers[one.point_id]))
        return Schedule(tuple(placed), tuple(sorted(left, key=lambda one: numbers[one.point_id])))

    # -- what is put together

    def _as_units(self, points: Sequence[Point]) -> list[_Unit]:
        """Points of one customer in one area go together; more than a day of all crews is divided."""
        together: dict[tuple[str, str, tuple[Hours, ...], int | None], list[Point]] = defaultdict(list)
        for point in points:
            together[point.customer_id, point.area or f"\0{point.id}", point.hours, self._pool(point)].append(point)
        found: list[_Unit] = []
        for (customer_id, _, hours, _), members in together.items():
            most = self._most_at_once(members[0], bool(hours))
            parts: list[list[Point]] = [[]]
            for point in members:
                if parts[-1] and self._minutes([*parts[-1], point]) > most:
                    parts.append([])
                    self._divided.add(customer_id)
                parts[-1].append(point)
            found += [_Unit(tuple(part), self._minutes(part)) for part in parts]
        return sorted(found, key=lambda unit: (unit.first.number, unit.first.id))

    def _most_at_once(self, point: Point, own_hours: bool) -> int:
        number = self._pool(point)
        if number is None:
            return 0
        pool = self._pools[number]
        crews = max(pool.day_crews, pool.night_crews if own_hours else 0)
        return crews * (self._terms.crew_minutes - self._terms.to_area)

    def _minutes(self, points: Sequence[Point]) -> int:
        return sum(point.minutes for point in points) + self._terms.between

    def _pool(self, point: Point) -> int | None:
        if point.territory_id not in self._pool_of:
            named = (n for n, pool in enumerate(self._pools) if point.territory_id in (pool.territory_ids or ()))
            rest = (n for n, pool in enumerate(self._pools) if pool.territory_ids is None)
            self._pool_of[point.territory_id] = next(named, next(rest, None))
        return self._pool_of[point.territory_id]

    def _slot(self, unit: _Unit, day: date, night: bool) -> _Slot | None:
        number = self._pool(unit.first)
        return None if number is None else self._slots.get((number, day, night))

    # -- who may be cut when

    def _is_placed(self, unit: _Unit) -> bool:
        return unit.first.id in self._placed

    def _barred(self, unit: _Unit, day: date) -> str | None:
        """What cuts the customer too near to ``day``."""
        gap = timedelta(days=self._terms.days_between_cuts)
        cuts: list[Cut] = [*self._outages.get(_area(unit), ()), *(cut for point in unit.points for cut in point.cuts)]
        for cut in cuts:
            first = cut.window.start.astimezone(self._terms.zone).date()
            last = cut.window.end.astimezone(self._terms.zone).date()
            if first - gap < day < last + gap:
                return cut.what
        customer_id = unit.first.customer_id
        if customer_id not in self._divided:
            for other in self._days_of[customer_id]:
                if other != day and abs(other - day) < gap:
                    return f"work at the same customer's on {other.isoformat()}"
        return None

    # -- placing

    def _into_outage(self, outage: Outage, units: Sequence[_Unit]) -> None:
        first, last = (moment.astimezone(self._terms.zone).date() for moment in outage.window)
        days = [first + timedelta(days=n) for n in range(-1, (last - first).days + 1)]  # a night begins the day before
        for unit in units:
            if self._is_placed(unit):
                continue
            meets = [
                (both, slot)
                for slot in (self._slot(unit, day, night) for day in days for night in (False, True))
                if slot is not None and (both := overlap(outage.window, slot.window)) is not None
                if both.end - both.start >= _longest(unit)
            ]
            for both, slot in sorted(meets, key=lambda one: (one[0].start - one[0].end, one[1].night)):
                if slot.fits(outage.area, unit.minutes) and slot.fits_in(both, unit.minutes):
                    when = f"within the planned outage of {outage.area}: cut off once"
                    self._put(unit, slot, both, "in_outage", when, outage.id)
                    break

    def _areas(self, units: Sequence[_Unit]) -> None:
        """Areas as wholes; customers of an area that are cut at other times than the rest are wholes of their own."""
        by_cuts: dict[tuple[int, str, tuple[Cut, ...]], list[_Unit]] = defaultdict(list)
        for unit in units:
            number = self._pool(unit.first)
            if number is not None:
                by_cuts[number, _area(unit), unit.first.cuts].append(unit)
        groups = [_Group(number, area, tuple(members)) for (number, area, _), members in sorted(by_cuts.items())]
        for number in sorted({group.pool for group in groups}):
            slots = [slot for day in self._days if (slot := self._slots.get((number, day, False))) is not None]
            sized = sorted((group for group in groups if group.pool == number), key=lambda group: -group.minutes)
            for bundle in _bundles(sized, self._terms):
                if not self._on_one_day(bundle, slots):
                    for group in bundle:
                        if not self._on_one_day([group], slots):
                            self._spread(group.units, group.area, slots)

    def _on_one_day(self, groups: Sequence[_Group], slots: Sequence[_Slot]) -> bool:
        units = [unit for group in groups for unit in group.units]
        slot = next((slot for slot in slots if slot.has_room(groups) and self._clear(units, slot.day)), None)
        if slot is not None:
            for unit in units:
                self._put(unit, slot, slot.window, "with_area", "with its transformer area")
        return slot is not None

    def _clear(self, units: Sequence[_Unit], day: date) -> bool:
        return not any(self._barred(unit, day) for unit in units)

    def _spread(self, units: Sequence[_Unit], area: str, slots: Sequence[_Slot]) -> None:
        for unit in units:
            for slot in slots:
                if slot.fits(area, unit.minutes) and not self._barred(unit, slot.day):
                    what = "its transformer area is spread over several days: no day has room for all of it"
                    self._put(unit, slot, slot.window, "area_spread", what)
                    break

    def _by_own_hours(self, unit: _Unit) -> None:
        near = sorted(self._area_days[_area(unit)])
        for day in (*near, *(day for day in self._days if day not in near)):
            if self._barred(unit, day):
                continue
            for night in (False, True):
                slot = self._slot(unit, day, night)
                if slot is None or not slot.fits(_area(unit), unit.minutes):
                    continue
                for window in self._meets(unit, slot):
                    if slot.fits_in(window, unit.minutes):
                        self._put(unit, slot, window, "own_hours", "in the hours the rules leave for this customer")
                        return

    def _meets(self, unit: _Unit, slot: _Slot) -> list[Window]:
        """Where the customer's hours and the shift meet for long enough."""
        longest = timedelta(minutes=max(point.minutes for point in unit.points))
        return [
            one for one in within(unit.first.hours, slot.window, self._terms.zone) if one.end - one.start >= longest
        ]

    def _put(
        self, unit: _Unit, slot: _Slot, window: Window, reason: str, detail: str, outage_id: str | None = None
    ) -> None:
        slot.take(_area(unit), unit.minutes, window)
        self._days_of[unit.first.customer_id].add(slot.day)
        self._area_days[_area(unit)].add(slot.day)
        for point in unit.points:
            begins = Window(window.start, max(window.start, window.end - timedelta(minutes=point.minutes)))
            self._placed[point.id] = Placed(point.id, slot.day, slot.night, begins, reason, detail, outage_id)

    # -- why not

    def _why_not(self, unit: _Unit, point: Point) -> Left:
        barred = [self._barred(unit, day) for day in self._days]
        if barred and all(barred):
            within_days = f"would be cut twice within {self._terms.days_between_cuts} days"
            return Left(point.id, "cut_twice", f"{within_days}: {barred[0]}")
        number = self._pool(unit.first)
        if number is None:
            return Left(point.id, "no_capacity", "no crews are named for its territory")
        last = self._days[-1].isoformat() if self._days else "the end of the period"
        if not point.hours:
            return Left(point.id, "no_capacity", f"no crew has time until {last}")
        slots = [slot for (pool, _, _), slot in self._slots.items() if pool == number]
        if any(self._meets(unit, slot) for slot in slots):
            return Left(point.id, "no_capacity", f"no crew has time in its hours until {last}")
        if not self._pools[number].night_crews:
            return Left(
                point.id, "no_night_capacity", "its hours lie outside of the day shift, and no crew works by night"
            )
        return Left(point.id, "no_window", "its hours and no shift of the period meet for long enough")


def _area(unit: _Unit) -> str:
    """The name of the area; a point without one is an area of its own."""
    return unit.first.area or f"\0{unit.first.id}"


def _with_ways(minutes: int, terms: Terms) -> int:
    """Minutes of work in an area with the ways to it, one for each crew that it takes."""
    at_work = max(1, terms.crew_minutes - terms.to_area)
    return minutes + math.ceil(minutes / at_work) * terms.to_area


def _bundles(groups: Sequence[_Group], terms: Terms) -> Iterator[list[_Group]]:
    """Each of ``groups`` once: the first that is left with the nearest that fill up a crew's day with it."""
    places = np.array([group.place for group in groups])
    free = np.ones(len(groups), bool)
    for first, group in enumerate(groups):
        if not free[first]:
            continue
        free[first] = False
        bundle, room = [group], terms.crew_minutes - _with_ways(group.minutes, terms)
        away = np.where(free, ((places - places[first]) ** 2).sum(axis=1), np.nan)
        nearest = np.argsort(away, kind="stable")[:_NEAREST] if room > terms.to_area else ()
        for number in nearest:
            asked = _with_ways(groups[number].minutes, terms)
            if not np.isnan(away[number]) and asked <= room:
                free[number] = False
                bundle.append(groups[number])
                room -= asked
        yield bundle


def _longest(unit: _Unit) -> timedelta:
    """The time on site at the one point that takes longest."""
    return timedelta(minutes=max(point.minutes for point in unit.points))


def working_days(first: date, last: date, days_off: Iterable[int], holidays: Iterable[date]) -> tuple[date, ...]:
    """The days from ``first`` to ``last``, both included, but for weekdays (0: Monday) and single days off."""
    off, single = set(days_off), set(holidays)
    every = (first + timedelta(days=n) for n in range((last - first).days + 1))
    return tuple(day for day in every if day.weekday() not in off and day not in single)
