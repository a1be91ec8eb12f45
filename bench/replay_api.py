"""An hour of the replay through the API: calls made as jobs when they come in, a run every quarter of an hour.

Nobody drives in this hour, so that each run plans everything again; what it decides must be what ``plan()`` decides
when it is asked directly. Times are those of the replay, moved to the day after today.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from bench import la, setting
from bench.office import Office
from fieldsvc.base.clock import format_time, parse_time, utc_now
from fieldsvc.geo.model import Goals, PlanCrew, Window
from fieldsvc.geo.planner import plan
from fieldsvc.geo.travel import Geodesic

BEGINS = timedelta(days=1, hours=14)
"""From the beginning of the first day: when the late shift of the second begins."""
WAITING, HOUR, EVERY = timedelta(hours=2), timedelta(hours=1), timedelta(minutes=15)
"""Taken up: what has come in within the last two hours and in the hour."""
SKILLS = {"repair": "repair", "safety_inspection": "inspection"}

Decided = dict[str, tuple[str, datetime] | None]
"""By call, the crew and the begin; None: nobody."""


def compared(found: la.Calls, fleet: Sequence[PlanCrew], goals: Goals) -> list[str]:
    """A line that says how many runs decided as ``plan()`` does."""
    starts = la.span().start + BEGINS
    moved = utc_now().replace(hour=0, minute=0, second=0, microsecond=0) - la.span().start.replace(hour=0)
    later = timedelta(days=moved.days + 1)
    region = max(found.bases, key=lambda name: sum(call.job.territory_id == name for call in found.calls))
    calls = [
        replace(call, at=call.at + later, job=replace(call.job, due=call.job.due + later if call.job.due else None))
        for call in found.calls
        if call.job.territory_id == region and starts - WAITING < call.at <= starts + HOUR
    ]
    crews = [
        replace(crew, shift=Window(crew.shift.start + later, crew.shift.end + later))
        for crew in fleet
        if region in crew.home and crew.shift.start == starts
    ]
    same, runs, decided = 0, 0, 0
    with setting.durable_postgres() as server, setting.running(server, workers=1) as service:
        hour = _Hour(Office(service), region, crews)
        for number in range(HOUR // EVERY + 1):
            now = starts + later + number * EVERY
            hour.take([call for call in calls if call.at <= now])
            directly = hour.directly(now, goals)
            through = hour.run(now)
            runs, same, decided = runs + 1, same + (through == directly), decided + len(directly)
    every = EVERY // timedelta(minutes=1)
    return [
        f"an hour through the API: {region}, {len(calls)} calls, {len(crews)} crews, a run every {every} min",
        f"{same} of {runs} of these runs decide as plan() does: crew and begin of {decided} decisions",
    ]


class _Hour:
    """The service, with the region and its crews made; jobs come as they are called in."""

    def __init__(self, office: Office, region: str, crews: Sequence[PlanCrew]) -> None:
        self.office = office
        self.calls: dict[str, la.Call] = {}
        self.job_ids: dict[str, str] = {}
        self.held: dict[str, str] = {}
        self.crews = {f"C{number:03}": crew for number, crew in enumerate(crews)}
        self.territory = _territory(office, region, crews[0])
        self.crew_ids = {self._crew(code, crew, region): code for code, crew in self.crews.items()}

    def _crew(self, code: str, crew: PlanCrew, region: str) -> str:
        made = self.office.post(
            "/v1/crews",
            {
                "code": code,
                "name": code,
                "skills": sorted(SKILLS.values()),
                "territory_codes": [_code(region)],
                "base_lon": crew.lon,
                "base_lat": crew.lat,
            },
        )
        shift = {"starts_at": format_time(crew.shift.start), "ends_at": format_time(crew.shift.end)}
        self.office.post(f"/v1/crews/{made['id']}/shifts", shift)
        return str(made["id"])

    def take(self, calls: Sequence[la.Call]) -> None:
        """Make jobs of the calls that are not yet one."""
        for call in calls:
            if call.job.id in self.calls:
                continue
            self.calls[call.job.id] = call
            job = self.office.post("/v1/jobs", _job(call))
            self.job_ids[job["id"]] = call.job.id

    def run(self, now: datetime) -> Decided:
        """What a run decides that plans everything anew from ``now``."""
        run, _ = self.office.dispatched(mode="replan", territory_ids=[self.territory], plan_from=format_time(now))
        decided: Decided = {}
        for one in self.office.pages(f"/v1/dispatch-runs/{run['id']}/decisions"):
            known = one["crew_id"] is not None
            begin = (self.crew_ids[one["crew_id"]], parse_time(one["planned_start"])) if known else None
            decided[self.job_ids[one["job_id"]]] = begin
        self.held = {call_id: begin[0] for call_id, begin in decided.items() if begin is not None}
        return decided

    def directly(self, now: datetime, goals: Goals) -> Decided:
        """What ``plan()`` decides about the same, with the crews that have the jobs by the run before."""
        jobs, number_of = [], {}
        for number, call in enumerate(self.calls.values()):
            number_of[f"{number:05}"] = call.job.id
            jobs.append(replace(call.job, id=f"{number:05}", crew_id=self.held.get(call.job.id)))
        crews = [replace(crew, id=code, code=code) for code, crew in self.crews.items()]
        made = plan(jobs, crews, now, Geodesic(), goals)
        decided: Decided = {number_of[one.job_id]: None for one in made.unassigned}
        return decided | {number_of[stop.job_id]: (stop.crew_id, stop.begin_at) for stop in made.stops}


def _code(region: str) -> str:
    return region.replace(" ", "-")


def _territory(office: Office, region: str, crew: PlanCrew) -> str:
    """A square of a degree around the base; its id."""
    assert crew.lon is not None
    assert crew.lat is not None
    west, east, south, north = crew.lon - 0.5, crew.lon + 0.5, crew.lat - 0.5, crew.lat + 0.5
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    properties = {"code": _code(region), "name": region}
    feature = {"type": "Feature", "properties": properties, "geometry": {"type": "Polygon", "coordinates": [ring]}}
    office.post("/v1/territories/import", {"type": "FeatureCollection", "features": [feature]})
    return str(next(office.pages("/v1/territories"))["id"])


def _job(call: la.Call) -> dict[str, Any]:
    kind = "repair" if la.WORK[call.what].promised else "safety_inspection"
    return {
        "kind": kind,
        "title": call.what,
        "lon": call.job.lon,
        "lat": call.job.lat,
        "site_class": call.job.site_class,
        "service_minutes": round(call.job.service_min),
        "reported_at": format_time(call.at),
        "hazards": ["street in the dark"] if call.job.tier == "hazard" else [],
        "priority": call.job.priority,
    }
