"""Public routing instances through our own model and our own API, beside bare VROOM on the same matrix.

Every customer is a job with a window and a load, every vehicle a crew with a shift and a capacity, on ground where
driving takes what the instance says. Gaps are to the best known solutions; every plan is checked against the file.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import vroom

from bench import report, setting
from bench.office import Office
from fieldsvc.base.clock import format_time, parse_time, utc_now
from fieldsvc.geo.model import Goals, Plan
from fieldsvc.geo.planner import plan
from fieldsvc.geo.travel import Geodesic, Matrix, Place
from tests import plancheck, solomon
from tests.solomon import Best, Instance

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "vrptw"
EFFORT = 5
A_CREW_MIN = 1440
"""What one more crew costs where fewest vehicles come first: as much driving as a whole day."""
RULES = {"shortest": 0, "fewest": A_CREW_MIN}
"""Distance alone; fewest vehicles first, then distance."""
COLUMNS = (
    "instance", "aim", "best known", "bare VROOM", "plan()", "gap", "through the API", "bare CPU s", "plan() adds",
    "run s",
)  # fmt: skip
QUICK = ("solomon/R101.txt", "solomon/RC208.txt")

_PACK = """\
pack = "dispatch"

[[entry]]
of = "goal"
name = "effort"
value = {effort}
effective_from = 2001-01-01
edition = "benchmark"
source = "benchmark: as hard as the solver can"

[[entry]]
of = "goal"
name = "crew_cost_min"
value = {crew_cost}
effective_from = 2001-01-01
edition = "benchmark"
source = "benchmark: the aim of the instance"
"""


@dataclass(frozen=True)
class Routes:
    """What a planner made of an instance: vehicles and length in the instance's units, and what is wrong with it."""

    vehicles: int
    length: float
    faults: list[str]

    def __str__(self) -> str:
        return f"{self.vehicles} / {self.length:.1f}"

    def told(self) -> dict[str, Any]:
        return {"vehicles": self.vehicles, "length": self.length, "faults": self.faults}


@dataclass
class Result:
    """One instance under one aim. ``bare_s`` and ``plan_s``: processor seconds by round; ``run_s``: by
    the clock, from asking for a run until it is done; ``plan_wall_s``: of ``plan()``, by the clock."""

    file: str
    aim: str
    best: Best
    bare: Routes
    ours: Routes
    bare_s: list[float]
    plan_s: list[float]
    plan_wall_s: float
    api: Routes | None = None
    run_s: float = 0.0

    @property
    def added(self) -> float:
        """The median over the rounds of what ``plan()`` costs beyond the solver's own time."""
        return report.median([ours / bare - 1 for ours, bare in zip(self.plan_s, self.bare_s, strict=True)])

    @property
    def reference(self) -> tuple[int, float]:
        """Vehicles and distance that count as best known under this aim."""
        if self.aim == "shortest":
            assert self.best.shortest_vehicles is not None
            assert self.best.shortest is not None
            return self.best.shortest_vehicles, self.best.shortest
        return self.best.vehicles, self.best.distance


def main() -> None:
    options = report.arguments(
        __doc__.splitlines()[0] if __doc__ else "",
        bare="without the API",
        readme="write the table into bench/README.md as well",
    )
    run(quick=options.quick, json=options.json, api=not options.bare, readme=options.readme)


def run(*, quick: bool, json: bool, api: bool, readme: bool) -> None:
    """Measure and tell."""
    best = solomon.best_known(DATA)
    files = QUICK if quick else tuple(best)
    effort, rounds = (1, 1) if quick else (EFFORT, 3)
    machine = setting.machine()
    results = [measured(file, best[file], aim, effort, rounds) for file in files for aim in _aims(best[file])]
    if api:
        through_api(results, effort)
    machine = setting.until_now(machine)
    if json:
        report.dump({"machine": machine, "results": [_told(one) for one in results]})
        return
    rows, notes = _rows(results), _notes(results, effort, rounds)
    report.show("routing instances through our own model", machine, rows, notes, COLUMNS)
    if readme:
        said = "\n".join(f"- {note}" for note in (report.told(machine), *notes))
        page = Path(__file__).with_name("README.md")
        report.write_into(page, "vrptw", f"{report.markdown(COLUMNS, rows)}\n\n{said}")


def _aims(best: Best) -> tuple[str, ...]:
    return ("shortest", "fewest") if best.shortest is not None else ("fewest",)


def measured(file: str, best: Best, aim: str, effort: int, rounds: int) -> Result:
    """``plan()`` and bare VROOM in turn, who is first changing from round to round."""
    instance = solomon.read(DATA / file)
    day = datetime(2026, 6, 1, tzinfo=UTC)
    jobs, crews, travel = instance.jobs(day), instance.crews(day), Geodesic()
    goals = replace(Goals(), effort=effort, crew_cost_min=RULES[aim])
    matrix = travel.matrix([Place(*instance.lonlat(node)) for node in instance.nodes])
    bare_s: list[float] = []
    plan_s: list[float] = []
    wall = 0.0
    bare: Routes | None = None
    ours: Routes | None = None
    for number in range(rounds):
        for who in ("bare", "ours") if number % 2 else ("ours", "bare"):
            began, clock = time.process_time(), time.perf_counter()
            if who == "bare":
                found, seconds = _bare(instance, matrix, aim, effort)
                bare_s.append(seconds)
                bare = _judged(instance, found)
            else:
                made = plan(jobs, crews, day, travel, goals)
                plan_s.append(time.process_time() - began)
                wall = time.perf_counter() - clock
                ours = _judged(instance, _routes(made), plancheck.faults(jobs, crews, day, travel, made, goals))
    assert bare is not None
    assert ours is not None
    return Result(file, aim, best, bare, ours, bare_s, plan_s, wall)


def _judged(instance: Instance, routes: Sequence[Sequence[int]], faults: Sequence[str] = ()) -> Routes:
    """Times on the ground are whole seconds: a leg may be half a second short."""
    half_a_second = 0.5 / 60 / instance.unit_min
    found = [*faults, *instance.faults(routes, half_a_second)]
    return Routes(sum(bool(route) for route in routes), instance.length(routes), found)


def _routes(made: Plan) -> list[list[int]]:
    return [[int(stop.job_id) for stop in route.stops] for route in made.routes]


def _bare(instance: Instance, matrix: Matrix, aim: str, effort: int) -> tuple[list[list[int]], float]:
    """VROOM as one would call it by hand; routes, and the processor seconds of its own work."""

    def seconds(units: float) -> int:
        return round(units * instance.unit_min * 60)

    problem = vroom.Input()
    problem.set_durations_matrix("car", matrix.seconds)
    shift = vroom.TimeWindow(seconds(instance.depot.ready), seconds(instance.depot.due))
    for number in range(1, instance.vehicles + 1):
        costs = vroom.VehicleCosts(fixed=RULES[aim] * 60)
        problem.add_vehicle(
            vroom.Vehicle(number, start=0, end=0, capacity=[instance.capacity], time_window=shift, costs=costs)
        )
    for node in instance.customers:
        window = vroom.TimeWindow(seconds(node.ready), seconds(node.due))
        problem.add_job(
            vroom.Job(
                node.number,
                node.number,
                default_service=seconds(node.service),
                delivery=[node.demand],
                time_windows=[window],
            )
        )
    began = time.process_time()
    frame = problem.solve(effort, nb_threads=1).routes
    took = time.process_time() - began
    routes: dict[int, list[int]] = {}
    for vehicle, kind, ident in zip(frame["vehicle_id"], frame["type"], frame["id"], strict=True):
        if kind == "job":
            routes.setdefault(int(vehicle), []).append(int(ident))
    return list(routes.values()), took


def through_api(results: Sequence[Result], effort: int) -> None:
    """The same over HTTP: territories, crews, shifts and jobs are made, a run is asked for, its decisions read back."""
    with setting.durable_postgres() as server:
        for aim, crew_cost in RULES.items():
            wanted = [one for one in results if one.aim == aim]
            with tempfile.TemporaryDirectory(prefix="fieldsvc-bench-") as folder:
                (Path(folder) / "dispatch.toml").write_text(_PACK.format(effort=effort, crew_cost=crew_cost))
                with setting.running(server, workers=1, rules_dir=Path(folder)) as service:
                    office = Office(service)
                    for result, lon in zip(wanted, count(10, 2), strict=False):
                        _through(office, result, replace(solomon.read(DATA / result.file), lon=float(lon)))


def _through(office: Office, result: Result, instance: Instance) -> None:
    day = utc_now().replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    territory = _territory(office, instance)
    number_of, crews = _made(office, instance, day)
    until = day + instance.minutes(instance.depot.due)
    run, result.run_s = office.dispatched(
        territory_ids=[territory], plan_from=format_time(day), plan_until=format_time(until + timedelta(minutes=1))
    )
    routes: dict[str, list[tuple[int, int]]] = {}
    faults = []
    for decision in office.pages(f"/v1/dispatch-runs/{run['id']}/decisions"):
        number = number_of[decision["job_id"]]
        if decision["crew_id"] is None:
            faults.append(f"customer {number}: {decision['reason']}: {decision['detail']}")
            continue
        assert decision["crew_id"] in crews
        routes.setdefault(decision["crew_id"], []).append((decision["planned_order"], number))
        node, begins = instance.nodes[number], (parse_time(decision["planned_start"]) - day) / instance.minutes(1)
        if not node.ready - 1e-9 <= begins <= node.due + 1e-9:
            faults.append(f"customer {number}: begins {begins:.2f}, window {node.ready} to {node.due}")
    result.api = _judged(instance, [[number for _, number in sorted(route)] for route in routes.values()], faults)


def _territory(office: Office, instance: Instance) -> str:
    """A square around the depot; its id."""
    west, east = instance.lon - 0.5, instance.lon + 0.5
    ring = [[west, -0.5], [east, -0.5], [east, 0.5], [west, 0.5], [west, -0.5]]
    feature = {
        "type": "Feature",
        "properties": {"code": instance.name, "name": instance.name},
        "geometry": {"type": "Polygon", "coordinates": [ring]},
    }
    office.post("/v1/territories/import", {"type": "FeatureCollection", "features": [feature]})
    found = next(office.pages(f"/v1/territories?code={instance.name}"))
    return str(found["id"])


def _made(office: Office, instance: Instance, day: datetime) -> tuple[dict[str, int], set[str]]:
    """Crews with their shifts, and jobs: customer numbers by job id, and the crews' ids."""
    crews = set()
    for known in instance.crews(day):
        crew = office.post(
            "/v1/crews",
            {
                "code": f"{instance.name}-{known.id}",
                "name": known.id,
                "skills": [solomon.SKILL],
                "territory_codes": [instance.name],
                "base_lon": known.lon,
                "base_lat": known.lat,
                "capacity": known.capacity,
            },
        )
        shift = {"starts_at": format_time(known.shift.start), "ends_at": format_time(known.shift.end)}
        office.post(f"/v1/crews/{crew['id']}/shifts", shift)
        crews.add(crew["id"])
    number_of = {}
    for wanted in instance.jobs(day):
        job = office.post(
            "/v1/jobs",
            {
                "kind": solomon.KIND,
                "lon": wanted.lon,
                "lat": wanted.lat,
                "site_class": solomon.SITE_CLASS,
                "service_minutes": round(wanted.service_min),
                "window_start": format_time(wanted.windows[0].start),
                "window_end": format_time(wanted.windows[0].end),
                "load": wanted.load,
            },
        )
        number_of[job["id"]] = int(wanted.id)
    return number_of, crews


def _gap(one: Result, routes: Routes) -> str:
    vehicles, distance = one.reference
    more = routes.vehicles - vehicles
    return f"{routes.length / distance - 1:+.1%}" + (f", {more:+d} vehicles" if more and one.aim == "fewest" else "")


def _rows(results: Sequence[Result]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for one in results:
        vehicles, distance = one.reference
        rows.append(
            (
                Path(one.file).stem,
                one.aim,
                f"{vehicles} / {distance:.1f}",
                str(one.bare),
                str(one.ours),
                _gap(one, one.ours),
                ("the same" if str(one.api) == str(one.ours) else str(one.api)) if one.api else "",
                f"{report.median(one.bare_s):.2f}",
                f"{one.added:+.1%}",
                f"{one.run_s:.2f}" if one.api else "",
            )
        )
    return rows


def _notes(results: Sequence[Result], effort: int, rounds: int) -> list[str]:
    shortest = [one.ours.length / one.reference[1] - 1 for one in results if one.aim == "shortest"]
    fewest = [one for one in results if one.aim == "fewest"]
    bare = sum(report.median(one.bare_s) for one in results)
    ours = sum(report.median(one.plan_s) for one in results)
    judged = [routes for one in results for routes in (one.ours, one.api) if routes]
    faults = [fault for routes in judged for fault in routes.faults]
    more = sum(one.ours.vehicles - one.reference[0] for one in fewest)
    adds = [one.added for one in results]
    notes = [
        f"distance alone, {len(shortest)} instances: gap {report.median(shortest):+.1%} in the median",
        f"fewest vehicles first, {len(fewest)} instances: {more:+d} vehicles over best known in all",
        f"effort {effort}; plan() beside bare VROOM, CPU, {rounds} rounds in turn: together {ours / bare - 1:+.1%}",
        f"gap {max(shortest):+.1%} at worst; plan() adds {report.median(adds):+.1%}, {max(adds):+.1%} at worst",
        f"violations by the checkers (instance file and plan): {len(faults)} in {len(judged)} plans",
    ]
    through = [one for one in results if one.api]
    if through:
        runs, walls = sum(one.run_s for one in through), sum(one.plan_wall_s for one in through)
        notes.append(
            f"whole runs, end to end: {runs:.1f} s by the clock; plan() alone {walls:.1f} s: {runs / walls - 1:+.0%} "
            f"for queue, reading, deciding and assigning {sum(_size(one) for one in through):,} jobs"
        )
    return [*notes, *faults[:10]]


def _size(one: Result) -> int:
    return len(solomon.read(DATA / one.file).customers)


def _told(one: Result) -> dict[str, Any]:
    vehicles, distance = one.reference
    return {
        "instance": one.file,
        "aim": one.aim,
        "best": {"vehicles": vehicles, "length": distance},
        "bare": one.bare.told(),
        "plan": one.ours.told(),
        "api": one.api.told() if one.api else None,
        "bare_s": one.bare_s,
        "plan_s": one.plan_s,
        "added": one.added,
        "run_s": one.run_s,
    }


if __name__ == "__main__":
    main()
