"""Two real days of calls in Los Angeles replayed: re-planned by us, beside first come, first served.

The same crews, ways and work times for all. ``plan()`` is asked directly; one hour goes through the API as well, to
show that it decides the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from bench import la, replay_api, replay_picture, report, setting
from bench.replay_picture import Line
from bench.shifts import ByRank, Figures, Replanned, Ways, World, first_come, served, spread
from fieldsvc import rules
from fieldsvc.geo.goals import goals_of
from fieldsvc.geo.model import Goals, PlanCrew
from fieldsvc.geo.planner import plan
from fieldsvc.geo.travel import Geodesic, TravelTimes

SEED = 1
EVERY = timedelta(minutes=15)
URGENT, PLANNED = ("hazard", "emergency"), ("planned",)
PAGE = Path(__file__).with_name("README.md")
PICTURE = Path(__file__).resolve().parents[1] / "docs" / "pictures" / "replay.svg"
COLUMNS = (
    "", "promises kept", "urgent: wait, median min", "95 % min", "planned: wait, median min", "95 % min", "kilometres",
    "never begun", "begun",
)  # fmt: skip


@dataclass(frozen=True)
class Replay:
    """One way to dispatch, and what came of it."""

    name: str
    figures: Figures

    def row(self) -> tuple[str, ...]:
        found = self.figures
        urgent, planned = spread(found.waits(URGENT)), spread(found.waits(PLANNED))
        kept = f"{found.kept} of {len(found.promised)} ({found.kept / max(1, len(found.promised)):.0%})"
        begun = len(found.outcome.did)
        return (
            self.name, kept, f"{urgent[0]:.0f}", f"{urgent[1]:.0f}", f"{planned[0]:.0f}", f"{planned[1]:,.0f}",
            f"{found.outcome.metres / 1000:,.0f}", str(len(found.calls) - begun), f"{begun:,}",
        )  # fmt: skip


def main() -> None:
    options = report.arguments(
        __doc__.splitlines()[0] if __doc__ else "",
        bare="without the hour through the API",
        readme="write the table into bench/README.md and the picture into docs/pictures as well",
    )
    machine = setting.machine()
    book = rules.load()
    goals = goals_of(book.dispatch(la.FIRST_DAY))
    found = la.read(SEED, book)
    fleet = la.crews(found)
    if options.quick:
        found, fleet = _one_region(found, fleet)
    replays = replayed(found, fleet, goals, Geodesic())
    notes = _notes(found, fleet, replays)
    if not options.bare:
        notes += replay_api.compared(found, fleet, goals)
    machine = setting.until_now(machine)
    if options.json:
        report.dump({"machine": machine, "replays": [_told(one) for one in replays], "notes": notes})
        return
    rows = [one.row() for one in replays]
    report.show("two days of calls replayed", machine, rows, notes, COLUMNS)
    if options.readme:
        said = "\n".join(f"- {note}" for note in (report.told(machine), *notes))
        report.write_into(PAGE, "replay", f"{report.markdown(COLUMNS, rows)}\n\n{said}")
        PICTURE.write_text(picture(replays), encoding="utf-8")


def _one_region(found: la.Calls, fleet: Sequence[PlanCrew]) -> tuple[la.Calls, list[PlanCrew]]:
    region = min(found.bases)
    calls = tuple(call for call in found.calls if call.job.territory_id == region)
    return la.Calls(calls, {region: found.bases[region]}, found.left), [crew for crew in fleet if region in crew.home]


def replayed(found: la.Calls, fleet: Sequence[PlanCrew], goals: Goals, travel: TravelTimes) -> list[Replay]:
    """Every way to dispatch on the same days."""
    ways = Ways(found.calls, fleet, travel)
    end = max(crew.shift.end for crew in fleet)

    def world() -> World:
        return World(found.calls, fleet, travel, ways)

    ours = Replanned(world(), plan, goals, EVERY).run()
    outcomes = {
        "re-planned by fieldsvc": ours,
        "the most urgent first, then first come": served(world(), ByRank(goals)),
        "first come, first served": served(world(), first_come),
    }
    return [Replay(name, Figures(outcome, found.calls, end)) for name, outcome in outcomes.items()]


def picture(replays: Sequence[Replay]) -> str:
    """The days, and the one after."""
    span = la.span()
    count = int((span.end - span.start + timedelta(hours=18)) / EVERY)
    moments = [span.start + number * EVERY for number in range(count + 1)]
    lines = []
    for one in replays:
        found = one.figures
        told = (
            f"{found.kept} of {len(found.promised)} promises kept, median wait of urgent calls "
            f"{spread(found.waits(URGENT))[0]:.0f} min, {found.outcome.metres / 1000:,.0f} km"
        )
        waiting, missed = [found.open_at(at) for at in moments], [found.missed_by(at) for at in moments]
        lines.append(Line(one.name, told, waiting, missed))
    calls = len(replays[0].figures.calls)
    title = f"Two days of calls in Los Angeles, 1 and 2 January 2020: {calls:,} calls, the same crews"
    return replay_picture.draw(title, moments, la.ZONE, lines)


def _notes(found: la.Calls, fleet: Sequence[PlanCrew], replays: Sequence[Replay]) -> list[str]:
    took = replays[0].figures.outcome.plan_s
    mean, longest = 1000 * sum(took) / max(1, len(took)), max(took)
    every = EVERY // timedelta(minutes=1)
    return [
        *la.told(found, fleet),
        f"{len(found.bases)} regions, planned anew every {every} min at most, and at once for hazards and emergencies",
        f"{len(took):,} plans, mean {mean:.0f} ms, longest {longest:.1f} s",
        f"promised: arrival by the rule pack, {_promise(found)} min",
        f"real work: what was planned times a log-normal factor (sigma {la.VARIES}), seed {SEED}",
    ]


def _promise(found: la.Calls) -> str:
    """The minutes that are promised."""
    return ", ".join(
        sorted({f"{(call.job.due - call.at) / timedelta(minutes=1):.0f}" for call in found.calls if call.job.due})
    )


def _told(one: Replay) -> dict[str, Any]:
    return dict(zip(COLUMNS, one.row(), strict=False)) | {"name": one.name}


if __name__ == "__main__":
    main()
