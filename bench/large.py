"""20,000 jobs and 400 crews through the API: runs divided into areas, planned side by side by one and by two workers.

What-if runs change nothing, so that every run begins with the same. More territories are more jobs and more crews:
seconds for 10, 20, 40 and all 59 of them say how the cost grows.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from pathlib import Path
from typing import Any

from bench import nyc, report, setting
from bench.office import Office
from bench.setting import Running
from fieldsvc.base.clock import format_time, utc_now
from fieldsvc.base.db import db, transaction
from fieldsvc.people import crews, territories
from fieldsvc.people.actors import SYSTEM
from fieldsvc.work import jobs
from fieldsvc.work.bulk import store_all

JOBS, CREWS, STEPS = 20_000, 400, (10, 20, 40, 59)
HELP_OUT_M = 3_000
SHIFT = timedelta(hours=8)
SEED = 1
BATCH = 500
COLUMNS = (
    "territories", "jobs", "crews", "assigned", "areas", "1 planning worker, s", "ms a job", "2 planning workers, s",
    "faster by",
)  # fmt: skip
PAGE = Path(__file__).with_name("README.md")
WORKERS = {1: 1, 2: 3}
"""Worker processes for so many that plan: from two on, the first one only reconciles."""


@dataclass(frozen=True)
class Size:
    """How much: jobs, crews, and how many territories at each step."""

    jobs: int = JOBS
    crews: int = CREWS
    steps: Sequence[int] = STEPS


QUICK = Size(600, 12, (5, 10))


@dataclass(frozen=True)
class Step:
    """A run over some territories. ``seconds``: from asking to done; ``cpu_s``: of the workers."""

    territories: int
    jobs: int
    crews: int
    assigned: int
    areas: int
    seconds: float
    cpu_s: float
    totals: dict[str, Any]


def run(*, quick: bool, json: bool, readme: bool) -> None:
    """Measure and tell."""
    machine = setting.machine()
    found = measured(QUICK if quick else Size())
    machine = setting.until_now(machine)
    if json:
        report.dump({"machine": machine, "steps": {str(n): [vars(one) for one in steps] for n, steps in found.items()}})
        return
    rows, notes = _rows(found), _notes(found)
    report.show("20,000 jobs and 400 crews", machine, rows, notes, COLUMNS)
    if readme:
        said = "\n".join(f"- {note}" for note in (report.told(machine), *notes))
        report.write_into(PAGE, "large", f"{report.markdown(COLUMNS, rows)}\n\n{said}")


def measured(size: Size) -> dict[int, list[Step]]:
    """The steps, by how many workers plan."""
    found = {}
    with setting.durable_postgres() as server:
        for planners, workers in WORKERS.items():
            with setting.running(server, workers=workers) as service:
                begins = datetime.combine(utc_now().date() + timedelta(days=1), time(12), utc_now().tzinfo)
                demand, fleet = _seed(service, size, begins)
                found[planners] = _steps(service, size, begins, demand, fleet)
    return found


def _seed(service: Running, size: Size, begins: datetime) -> tuple[Counter[str], Counter[str]]:
    """Territories, crews with a shift, and jobs; how many jobs and crews there are by territory's code."""
    areas = nyc.districts()
    draw = random.Random(SEED)
    chosen = draw.sample(nyc.complaints(areas, once=False), size.jobs)
    demand = Counter(areas[one.district].code for one in chosen)
    fleet: Counter[str] = Counter()
    source = (nyc.DATA / "nyc_territories" / "community_districts.geojson").read_bytes()
    with service.app.app_context():
        with transaction():
            territories.import_geojson(SYSTEM, source, {}, utc_now())
        with transaction():
            for number in range(size.crews):
                code = max(demand, key=lambda code: (demand[code] / (fleet[code] + 1), code))
                fleet[code] += 1
                shape = next(one.shape for one in areas if one.code == code).representative_point()
                crew = crews.create(
                    SYSTEM,
                    utc_now(),
                    code=f"L{number:03}",
                    name=f"L{number:03}",
                    skills=["inspection"],
                    territory_codes=[code],
                    base_lon=shape.x,
                    base_lat=shape.y,
                    help_out_m=HELP_OUT_M,
                )
                crews.add_shift(SYSTEM, utc_now(), crew, begins, begins + SHIFT)
        for first in range(0, size.jobs, BATCH):
            with transaction():
                store_all(SYSTEM.source(utc_now()), [_job(one) for one in chosen[first : first + BATCH]], "job.created")
            db.session.remove()
    return demand, fleet


def _job(one: nyc.Complaint) -> jobs.NewJob:
    return jobs.NewJob(
        kind="safety_inspection", title=one.descriptor, lon=one.lon, lat=one.lat, site_class="urban",
        service_minutes=nyc.MINUTES[one.descriptor],
    )  # fmt: skip


def _steps(service: Running, size: Size, begins: datetime, demand: Counter[str], fleet: Counter[str]) -> list[Step]:
    office = Office(service)
    ids = {one["code"]: one["id"] for one in office.pages("/v1/territories")}
    busiest = sorted(demand, key=lambda code: (-demand[code], code))
    every_other = [*busiest[::2], *busiest[1::2]]  # so that every step has large and small ones
    steps = []
    for count in size.steps:
        codes = every_other[:count]
        before = service.cpu()["workers"]
        done, seconds = office.dispatched(
            what_if=True,
            territory_ids=[ids[code] for code in codes],
            plan_from=format_time(begins),
            plan_until=format_time(begins + timedelta(days=1)),
        )
        steps.append(
            Step(
                len(codes),
                sum(demand[code] for code in codes),
                sum(fleet[code] for code in codes),
                done["assigned"],
                done["areas"],
                seconds,
                service.cpu()["workers"] - before,
                done["after"] or {},
            )
        )
    return steps


def _rows(found: dict[int, list[Step]]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for one, two in zip(found[1], found[2], strict=True):
        rows.append(
            (
                str(one.territories),
                f"{one.jobs:,}",
                str(one.crews),
                f"{one.assigned:,}",
                str(one.areas),
                f"{one.seconds:.1f}",
                f"{1000 * one.seconds / one.jobs:.1f}",
                f"{two.seconds:.1f}",
                f"{one.seconds / two.seconds:.2f}",
            )
        )
    return rows


def _notes(found: dict[int, list[Step]]) -> list[str]:
    last = found[1][-1]
    told = ", ".join(f"{name.replace('_', ' ')} {value:,}" for name, value in last.totals.items())
    each = [1000 * one.seconds / one.jobs for one in found[1]]
    cpu = {planners: sum(one.cpu_s for one in steps) for planners, steps in found.items()}
    return [
        f"linear: milliseconds a job from the fewest territories to all: {', '.join(f'{value:.1f}' for value in each)}",
        f"the largest run: {told}",
        "processor seconds of the workers, all runs: " + ", ".join(f"{n}: {seconds:.0f}" for n, seconds in cpu.items()),
        f"crews: {SHIFT.seconds // 3600} h, one home territory each, helping out within {HELP_OUT_M / 1000:.0f} km",
    ]


def main() -> None:
    options = report.arguments(
        __doc__.splitlines()[0] if __doc__ else "", readme="write the table into bench/README.md as well"
    )
    run(quick=options.quick, json=options.json, readme=options.readme)


if __name__ == "__main__":
    main()
