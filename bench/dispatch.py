"""A day in New York, 1,000 real places and 60 crews: our plan beside the nearest crew and OR-Tools, all on one matrix.

Each plan is walked by the same walker and checked by the checker of the tests. OR-Tools gets as long as we took.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench import greedy, nyc, or_tools, report, setting
from bench.walk import Day, Sequences, Totals, sequences
from fieldsvc import rules
from fieldsvc.geo.goals import goals_of
from fieldsvc.geo.model import Goals, Plan
from fieldsvc.geo.planner import plan
from fieldsvc.geo.travel import Geodesic
from tests import plancheck

COLUMNS = (
    "", "assigned", "left", "late", "minutes late", "kilometres", "km a job", "hazards seen after, min", "violations",
    "seconds",
)  # fmt: skip
PAGE = Path(__file__).with_name("README.md")


@dataclass(frozen=True)
class Result:
    """What somebody made of the day. ``soonest_min``: mean minutes until work begins at hazards."""

    who: str
    routes: Sequences
    totals: Totals
    soonest_min: float
    faults: list[str]
    seconds: float

    def row(self) -> tuple[str, ...]:
        found = self.totals
        left = ", ".join(f"{count} {tier}" for tier, count in found.left.items()) or "0"
        each = f"{found.metres / 1000 / found.jobs:.2f}" if found.jobs else ""
        return (
            self.who, str(found.jobs), left, str(found.late), f"{found.late_min:.0f}", f"{found.metres / 1000:,.0f}",
            each, f"{self.soonest_min:.0f}", str(len(self.faults)), f"{self.seconds:.1f}",
        )  # fmt: skip


def main() -> None:
    options = report.arguments(
        __doc__.splitlines()[0] if __doc__ else "",
        vrptw="routing instances instead (bench.vrptw)",
        large="20,000 jobs and 400 crews through the API instead (bench.large)",
        readme="write the table into bench/README.md as well",
    )
    if options.vrptw:
        from bench import vrptw

        vrptw.run(quick=options.quick, json=options.json, api=True, readme=options.readme)
        return
    if options.large:
        from bench import large

        large.run(quick=options.quick, json=options.json, readme=options.readme)
        return
    machine = setting.machine()
    day = nyc.day(1, Geodesic(), _goals(), *((200, 12) if options.quick else (1000, 60)))
    results, notes = measured(day)
    machine = setting.until_now(machine)
    if options.json:
        report.dump({"machine": machine, "day": nyc.told(day), "results": [_told(one) for one in results]})
        return
    rows = [one.row() for one in results]
    report.show("a day in New York", machine, rows, notes, COLUMNS)
    if options.readme:
        said = "\n".join(f"- {note}" for note in (report.told(machine), *notes))
        report.write_into(PAGE, "dispatch", f"{report.markdown(COLUMNS, rows)}\n\n{said}")


def _goals() -> Goals:
    """By the rules of the day, but that nothing is paid for helping out: the others know no such price."""
    return replace(goals_of(rules.load().dispatch(nyc.DAY)), help_cost_min=0)


def measured(day: Day) -> tuple[list[Result], list[str]]:
    """Everybody's plan of the day."""
    day.matrix  # noqa: B018  reckoned before, so that nobody pays for it alone
    began = time.perf_counter()
    near = greedy.plan(day)
    results = [_result("nearest crew", day, near, time.perf_counter() - began)]
    began = time.perf_counter()
    made = plan(day.jobs, day.crews, day.now, day.travel, day.goals)
    took = time.perf_counter() - began
    results.append(_result("fieldsvc", day, sequences(made), took, made))
    notes = [f"{count:,} {what.replace('_', ' ')}" for what, count in nyc.told(day).items() if isinstance(count, int)]
    notes = [", ".join(notes), *nyc.rules_told(), _again(day, made)]
    try:
        tries = (
            ("OR-Tools", None, 1),
            ("OR-Tools from the nearest crew's", near, 1),
            ("… ten times as long", near, 10),
        )
        for who, first, times in tries:
            found, seconds = or_tools.plan(day, times * took, first)
            results.append(_result(who, day, found, seconds))
        notes.append(f"OR-Tools {or_tools.version()}: as long as plan() took; " + or_tools.CANNOT)
    except or_tools.Missing as error:
        print(f"no OR-Tools here: {error}", file=sys.stderr)
    return results, notes + [f"{one.who}: {fault}" for one in results for fault in one.faults[:3]]


def _result(who: str, day: Day, routes: Sequences, seconds: float, made: Plan | None = None) -> Result:
    """Measured as walked; ours is checked as it was made, the others as walked."""
    walked = day.plan(routes)
    tier = {job.id: job.tier for job in day.jobs}
    begins = [(stop.begin_at - day.now).total_seconds() / 60 for stop in walked.stops if tier[stop.job_id] == "hazard"]
    faults = plancheck.faults(day.jobs, day.crews, day.now, day.travel, made or walked, day.goals)
    return Result(who, routes, day.totals(routes), sum(begins) / max(1, len(begins)), faults, seconds)


def _again(day: Day, made: Plan) -> str:
    """The same input in another order gives the same plan; says whether it did."""
    shuffled = plan(day.jobs[::-1], day.crews[::-1], day.now, day.travel, day.goals)
    return (
        f"planned again with jobs and crews in reverse order: {'the same plan' if shuffled == made else 'ANOTHER PLAN'}"
    )


def _told(one: Result) -> dict[str, Any]:
    more = {"who": one.who, "seconds": one.seconds, "hazards_min": one.soonest_min, "violations": one.faults}
    return one.totals.told() | more


if __name__ == "__main__":
    main()
