"""Crews at work over days, as calls come in: what each does next is decided while it works.

Two ways to decide: re-planned by our planner, or first come, first served. The same crews, ways and work for both: a
crew drives at once, does not turn round on its way, takes nothing it cannot end, way home included, in its shift as
planned; what the work really takes is known when it is done.
"""

from __future__ import annotations

import heapq
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from itertools import count

import numpy as np

from bench.la import Call
from fieldsvc.geo.model import Goals, Plan, PlanCrew, PlanJob
from fieldsvc.geo.travel import Matrix, Place, TravelTimes

Planner = Callable[[Sequence[PlanJob], Sequence[PlanCrew], datetime, TravelTimes, Goals], Plan]
LOOK_AHEAD = timedelta(hours=1)
"""Crews whose shift begins by then are planned for already."""


@dataclass
class Crew:
    """A crew in its shift. ``row``: its place in the matrix; ``free_at``: when it is done with what it has begun, and
    ``expected``: when that was planned to be; ``next``: jobs it has been given, from ``since`` on."""

    plan: PlanCrew
    row: int
    free_at: datetime
    expected: datetime
    next: list[str] = field(default_factory=list)
    since: datetime | None = None
    metres: float = 0.0


@dataclass(frozen=True)
class Did:
    """A call worked: by whom, and when work began."""

    call: Call
    crew_id: str
    begin: datetime


@dataclass
class Outcome:
    """What came of the days. ``plans`` and ``plan_s``: how many plans were made and the seconds of each."""

    did: dict[str, Did]
    metres: float
    plan_s: list[float]


class World:
    """Calls, crews and ways; the state of one replay."""

    def __init__(self, calls: Sequence[Call], crews: Sequence[PlanCrew], travel: TravelTimes, ways: Ways) -> None:
        self.calls = {call.job.id: call for call in calls}
        self.ways = ways
        self.travel = travel
        self.crews = [Crew(crew, ways.base(crew), crew.shift.start, crew.shift.start) for crew in crews]
        self.by_region: dict[str, list[Crew]] = defaultdict(list)
        for crew in self.crews:
            for region in sorted(crew.plan.home):
                self.by_region[region].append(crew)
        self.open: dict[str, dict[str, Call]] = defaultdict(dict)
        self.did: dict[str, Did] = {}
        self.plan_s: list[float] = []

    def fits(self, crew: Crew, call: Call, depart: datetime) -> bool:
        """Whether the crew could do it, way home included, before its shift ends, as planned."""
        row = self.ways.job(call)
        seconds = self.ways.seconds(crew.row, row) + self.ways.seconds(row, self.ways.base(crew.plan))
        return depart + timedelta(seconds=seconds, minutes=call.job.service_min) <= crew.plan.shift.end

    def begin(self, crew: Crew, call: Call, depart: datetime) -> None:
        """The crew sets out; nothing calls it back."""
        row = self.ways.job(call)
        begin = depart + timedelta(seconds=self.ways.seconds(crew.row, row))
        crew.metres += self.ways.metres(crew.row, row)
        crew.row = row
        crew.free_at = begin + timedelta(minutes=call.actual_min)
        crew.expected = begin + timedelta(minutes=call.job.service_min)
        self.did[call.job.id] = Did(call, crew.plan.id, begin)
        del self.open[_region(call)][call.job.id]

    def outcome(self) -> Outcome:
        """Everybody drives home."""
        home = sum(self.ways.metres(crew.row, self.ways.base(crew.plan)) for crew in self.crews)
        return Outcome(self.did, sum(crew.metres for crew in self.crews) + home, self.plan_s)


class Ways:
    """Times and distances between all calls and bases, reckoned once."""

    def __init__(self, calls: Sequence[Call], crews: Sequence[PlanCrew], travel: TravelTimes) -> None:
        bases = sorted({(crew.lon, crew.lat) for crew in crews})
        places = [Place(_known(call.job.lon), _known(call.job.lat), call.job.site_class) for call in calls]
        places += [Place(_known(lon), _known(lat)) for lon, lat in bases]
        self.matrix: Matrix = travel.matrix(places)
        self._job = {call.job.id: row for row, call in enumerate(calls)}
        self._base = {base: len(calls) + row for row, base in enumerate(bases)}
        self.places = places

    def job(self, call: Call) -> int:
        return self._job[call.job.id]

    def base(self, crew: PlanCrew) -> int:
        return self._base[crew.lon, crew.lat]

    def seconds(self, one: int, other: int) -> int:
        return int(self.matrix.seconds[one, other])

    def metres(self, one: int, other: int) -> float:
        return float(self.matrix.metres[one, other])


Order = Callable[[Call], tuple[object, ...]]


def first_come(call: Call) -> tuple[object, ...]:
    """First come, first served."""
    return call.at, call.job.id


class ByRank:
    """What is most urgent first, then first come."""

    def __init__(self, goals: Goals) -> None:
        self._rank = {name: tier.rank for name, tier in goals.tiers.items()}

    def __call__(self, call: Call) -> tuple[object, ...]:
        return self._rank[call.job.tier], call.at, call.job.id


def served(world: World, order: Order) -> Outcome:
    """A crew that is free takes the first waiting call of its region by ``order``; a call that comes in while crews
    wait goes to the nearest of them."""
    number = count()
    events: list[tuple[datetime, int, Call | Crew]] = []
    for call in world.calls.values():
        heapq.heappush(events, (call.at, next(number), call))
    for crew in world.crews:
        heapq.heappush(events, (crew.plan.shift.start, next(number), crew))
    idle: dict[str, list[Crew]] = defaultdict(list)
    while events:
        now, _, what = heapq.heappop(events)
        if isinstance(what, Call):
            world.open[_region(what)][what.job.id] = what
            row = world.ways.job(what)
            near = [crew for crew in idle[_region(what)] if world.fits(crew, what, now)]
            if near:
                crew = min(near, key=lambda crew: (world.ways.seconds(crew.row, row), crew.plan.id))
                idle[_region(what)].remove(crew)
                world.begin(crew, what, now)
                heapq.heappush(events, (crew.free_at, next(number), crew))
            continue
        region = next(iter(what.plan.home))
        waiting = sorted(world.open[region].values(), key=order)
        taken = next((call for call in waiting if world.fits(what, call, now)), None)
        if taken:
            world.begin(what, taken, now)
            heapq.heappush(events, (what.free_at, next(number), what))
        elif now < what.plan.shift.end:
            idle[region].append(what)
    return world.outcome()


class Replanned:
    """Our dispatch: a region is planned anew every ``every``, if anything happened there, and at once when a call of a
    tier comes in that goes ``soonest``."""

    def __init__(self, world: World, plan: Planner, goals: Goals, every: timedelta) -> None:
        self.world, self.plan, self.goals, self.every = world, plan, goals, every
        self._changed: set[str] = set()

    def run(self) -> Outcome:
        world = self.world
        for now, calls in self._moments():
            at_once = set()
            for call in calls:
                world.open[_region(call)][call.job.id] = call
                self._changed.add(_region(call))
                if self.goals.tiers[call.job.tier].soonest:
                    at_once.add(_region(call))
            regions = at_once if calls else sorted(world.by_region)
            for region in sorted(regions):
                self._advance(region, now)
                if region in at_once or self._due(region, now):
                    self._plan(region, now)
        return world.outcome()

    def _moments(self) -> Iterable[tuple[datetime, list[Call]]]:
        """Every tick, and before it in their order the calls that came in since."""
        start = min(crew.plan.shift.start for crew in self.world.crews)
        end = max(crew.plan.shift.end for crew in self.world.crews)
        moments: list[tuple[datetime, int, list[Call]]] = []
        for call in self.world.calls.values():
            moments.append((call.at, 0, [call]))
        for number in range(int((end - start) / self.every) + 1):
            moments.append((start + number * self.every, 1, []))
        for at, _, calls in sorted(moments, key=lambda moment: (moment[0], moment[1], [c.job.id for c in moment[2]])):
            yield at, calls

    def _due(self, region: str, now: datetime) -> bool:
        """Whether the plan in force has anything to gain: new calls, crews that come or wait, calls nobody has."""
        if not self.world.open[region]:
            return False
        if region in self._changed:
            return True
        planned = {job_id for crew in self.world.by_region[region] for job_id in crew.next}
        left = any(job_id not in planned for job_id in self.world.open[region])
        on_duty = [crew for crew in self.world.by_region[region] if crew.plan.shift.start <= now < crew.plan.shift.end]
        waits = any(not crew.next and crew.free_at <= now for crew in on_duty)
        comes = any(now - self.every < crew.plan.shift.start <= now for crew in on_duty)
        return comes or (left and waits)

    def _advance(self, region: str, now: datetime) -> None:
        """Let the crews of a region work on until ``now``."""
        for crew in self.world.by_region[region]:
            while crew.next and crew.since is not None:
                depart = max(crew.free_at, crew.since)
                if depart >= now:
                    break
                call = self.world.open[region][crew.next[0]]
                if not self.world.fits(crew, call, depart):
                    crew.next = []
                    self._changed.add(region)
                    break
                crew.next.pop(0)
                self.world.begin(crew, call, depart)

    def _plan(self, region: str, now: datetime) -> None:
        self._changed.discard(region)
        jobs = [call.job for call in self.world.open[region].values()]
        on_duty = {crew.plan.id: crew for crew in self.world.by_region[region] if _duty(crew, now)}
        crews = [self._state(crew, now) for crew in on_duty.values()]
        began = time.perf_counter()
        made = self.plan(jobs, crews, now, self.world.travel, self.goals)
        self.world.plan_s.append(time.perf_counter() - began)
        for crew in on_duty.values():
            crew.next, crew.since = [], now
        for route in made.routes:
            on_duty[route.crew_id].next = [stop.job_id for stop in route.stops]

    def _state(self, crew: Crew, now: datetime) -> PlanCrew:
        """The crew as a dispatcher sees it: where its work under way is, and when that should be over."""
        place = self.world.ways.places[crew.row]
        free_at = max(crew.expected, now) if crew.free_at > now else None
        known = crew.plan
        return PlanCrew(
            known.id, place.lon, place.lat, known.home, known.skills, known.shift, known.code,
            free_at=free_at, end_lon=known.end_lon, end_lat=known.end_lat,
        )  # fmt: skip


def _duty(crew: Crew, now: datetime) -> bool:
    return crew.plan.shift.start <= now + LOOK_AHEAD and now < crew.plan.shift.end


def _region(call: Call) -> str:
    assert call.job.territory_id is not None
    return call.job.territory_id


def _known(degrees: float | None) -> float:
    assert degrees is not None
    return degrees


@dataclass(frozen=True)
class Figures:
    """An outcome measured. ``promised`` and ``kept``: calls with a promise, and of these begun in time."""

    outcome: Outcome
    calls: Sequence[Call]
    end: datetime

    @cached_property
    def promised(self) -> list[Call]:
        return [call for call in self.calls if call.job.due is not None]

    @cached_property
    def kept(self) -> int:
        return sum(not self.missed(call) for call in self.promised)

    def missed(self, call: Call) -> bool:
        did = self.outcome.did.get(call.job.id)
        return call.job.due is not None and (did is None or did.begin > call.job.due)

    def waits(self, tiers: Iterable[str]) -> list[float]:
        """Minutes from call to begin; until the end of the replay for those nobody came to."""
        wanted = set(tiers)
        return [
            ((self.outcome.did[call.job.id].begin if call.job.id in self.outcome.did else self.end) - call.at)
            / timedelta(minutes=1)
            for call in self.calls
            if call.job.tier in wanted
        ]

    def open_at(self, at: datetime) -> int:
        begun = sum(did.begin <= at for did in self.outcome.did.values())
        return sum(call.at <= at for call in self.calls) - begun

    def missed_by(self, at: datetime) -> int:
        """How many promises have been missed by then."""
        return sum(self.missed(call) for call in self.promised if call.job.due is not None and call.job.due <= at)


def crews_of(crews: Sequence[PlanCrew], regions: Iterable[str]) -> list[PlanCrew]:
    wanted = set(regions)
    return [crew for crew in crews if crew.home & wanted]


def spread(values: Sequence[float]) -> tuple[float, float]:
    """Median and 95 % of ``values``."""
    return float(np.percentile(values, 50)), float(np.percentile(values, 95))
