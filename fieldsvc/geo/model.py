"""What a dispatch plan is made of: jobs, crews, goals, and the plan that comes out. Plain values, no solver.

Times are aware UTC datetimes, distances metres, durations minutes unless a name says otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any, NamedTuple


class Window(NamedTuple):
    """A span of time; ``start`` and ``end`` both belong to it."""

    start: datetime
    end: datetime


@dataclass(frozen=True)
class Break:
    """A break of ``minutes``, begun between ``earliest`` and ``latest``."""

    earliest: datetime
    latest: datetime
    minutes: float


@dataclass(frozen=True)
class PlanJob:
    """A job to be planned.

    :param tier: the name of its rank in :attr:`Goals.tiers`: hazard, emergency, important, at_risk, planned.
    :param priority: 1 to 9, 1 the most urgent; orders jobs within a tier.
    :param customers: how many are without supply; orders jobs within a tier before their priority does.
    :param skills: all that one crew must have; ``equipment``: all that its vehicle must carry.
    :param windows: when work may begin (appointment, only at night); none: at any time. Never broken.
    :param due: when work is promised to have begun. A later begin is late, not impossible.
    :param crew_id: the crew that has it now. ``pinned``: it stays there; ``starts_at``: it begins exactly then.
    :param follows: may not begin before that job (of the same plan) has ended.
    :param assists: begins together with that job (of the same plan), by another crew.
    """

    id: str
    lon: float | None
    lat: float | None
    territory_id: str | None
    kind: str
    skills: frozenset[str]
    tier: str = "planned"
    priority: int = 5
    service_min: float = 30.0
    number: str = ""
    customers: int = 0
    windows: tuple[Window, ...] = ()
    due: datetime | None = None
    equipment: frozenset[str] = frozenset()
    load: int = 0
    crew_id: str | None = None
    pinned: bool = False
    starts_at: datetime | None = None
    follows: str | None = None
    assists: str | None = None
    site_class: str = "urban"


@dataclass(frozen=True)
class PlanCrew:
    """A crew and one shift of it.

    :param lon: where it sets out: its last known position, the place of its work under way, else its base. None: it
        cannot be planned.
    :param end_lon: where it has to be at the end of the shift (its base); None: wherever it is by then.
    :param home: the territories it serves; ``reach``: further ones it may help out in, each with how far beyond home,
        in metres.
    :param free_at: when it is done with what is under way; None: from the beginning of the shift.
    :param capacity: units of load; None: no limit.
    :param load: how many jobs it holds that are not part of this plan; the order numbers go on from there.
    """

    id: str
    lon: float | None
    lat: float | None
    home: frozenset[str]
    skills: frozenset[str]
    shift: Window
    code: str = ""
    reach: Mapping[str, float] = field(default_factory=dict)
    equipment: frozenset[str] = frozenset()
    capacity: int | None = None
    breaks: tuple[Break, ...] = ()
    free_at: datetime | None = None
    end_lon: float | None = None
    end_lat: float | None = None
    load: int = 0


@dataclass(frozen=True)
class Tier:
    """How a rank of jobs is treated: ``weight`` 1 to 100 decides who is left out when not all fit; ``soonest``: it gets
    the crew that can be there first, and its begin is not put off for anything below. ``in_time``: promises count more;
    where soonest one by one breaks some of them, as many as possible are kept instead."""

    rank: int
    weight: int
    soonest: bool = False
    in_time: bool = False


HARD_RULES = ("skill", "equipment", "territory", "capacity", "window", "break")
"""The rules a plan never breaks, unless the rule pack switches one off."""


DEFAULT_TIERS: Mapping[str, Tier] = MappingProxyType(
    {
        "hazard": Tier(1, 100, soonest=True),
        "emergency": Tier(2, 40, soonest=True, in_time=True),
        "important": Tier(3, 16),
        "at_risk": Tier(4, 8),
        "planned": Tier(5, 2),
    }
)


@dataclass(frozen=True)
class Goals:
    """What is weighed against what; the rule pack ``dispatch`` says it, with its sources.

    :param lateness_steps_min: a promise that cannot be kept is given up in these steps, so that it is missed by as
        little as possible; after the last one any time of the shift will do.
    :param overtime_min: how far beyond its shift a crew may work.
    :param return_to_base: the way home counts, and fits in before the end of the shift.
    :param crew_cost_min: what it costs to send out one more crew, in minutes of driving.
    :param help_cost_min: what it costs to take a job outside of the home territories.
    :param effort: how hard the solver tries, 0 to 5.
    :param soonest_slack_min: how much later than it could a job of a ``soonest`` tier may begin, so that the crew's
        other work goes with it.
    :param off: hard rules that do not hold, of :data:`HARD_RULES`.
    """

    tiers: Mapping[str, Tier] = field(default_factory=lambda: dict(DEFAULT_TIERS))
    lateness_steps_min: tuple[int, ...] = (0, 30, 60, 120, 240)
    overtime_min: int = 0
    return_to_base: bool = True
    crew_cost_min: int = 0
    help_cost_min: int = 20
    effort: int = 2
    soonest_slack_min: int = 5
    off: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Stop:
    """One job of a route. ``arrive_at`` may be before ``begin_at``: the crew waits. ``distance_m`` and ``travel_min``:
    from the stop before (or from where the crew sets out). ``why``: rule and numbers that decided."""

    job_id: str
    crew_id: str
    sequence: int
    arrive_at: datetime
    begin_at: datetime
    leave_at: datetime
    travel_min: float
    distance_m: float
    late_min: float = 0.0
    why: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Route:
    """What one crew does. ``distance_m`` and ``travel_min`` include the way home where the plan has one."""

    crew_id: str
    stops: tuple[Stop, ...]
    start_at: datetime
    end_at: datetime
    distance_m: float
    travel_min: float
    overtime_min: float = 0.0


class Unassigned(NamedTuple):
    """A job nobody got: ``reason`` is one of :data:`REASONS`, ``detail`` a sentence with names and numbers."""

    job_id: str
    reason: str
    detail: str


@dataclass(frozen=True)
class TravelReport:
    """Where a plan's travel times came from. ``fallback``: pairs of places the provider did not know and the geodesic
    answered; ``holes``: pairs without any way between them; ``notes``: what went wrong, in words."""

    provider: str
    pairs: int = 0
    cached: int = 0
    fallback: int = 0
    holes: int = 0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """Routes by crew id, and the jobs nobody got, by job id. ``notes``: what was wrong with crews, in words."""

    routes: tuple[Route, ...]
    unassigned: tuple[Unassigned, ...]
    travel: TravelReport
    notes: tuple[str, ...] = ()

    @property
    def stops(self) -> Sequence[Stop]:
        """All stops, crew by crew, in order."""
        return [stop for route in self.routes for stop in route.stops]


REASONS = (
    "no_place",
    "no_territory",
    "unknown_tier",
    "window_impossible",
    "window_missed",
    "no_crew_in_territory",
    "no_crew_base",
    "no_skill",
    "no_equipment",
    "no_capacity",
    "unreachable",
    "pinned_crew_away",
    "predecessor_unplanned",
    "no_second_crew",
    "no_shift_time",
    "outranked",
)
"""Every reason a job can be left unassigned for; the list only grows."""
