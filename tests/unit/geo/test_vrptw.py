"""Public routing instances, planned by us, checked by their own numbers; and the same plan every time."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from fieldsvc.geo.model import Goals, Plan
from fieldsvc.geo.planner import plan
from fieldsvc.geo.travel import Geodesic, Place
from tests import plancheck, solomon
from tests.solomon import Instance

pytestmark = pytest.mark.shared_data

DAY = datetime(2026, 6, 1, tzinfo=UTC)
GOALS = Goals(effort=0)


def planned(instance: Instance) -> Plan:
    return plan(instance.jobs(DAY), instance.crews(DAY), DAY, Geodesic(), GOALS)


def routes(made: Plan) -> list[list[int]]:
    return [[int(stop.job_id) for stop in route.stops] for route in made.routes]


@pytest.mark.parametrize(("file", "within"), [("C101", 0.0), ("R105", 0.06), ("RC101", 0.06)])
def test_an_instance_is_planned_without_a_violation_and_near_the_best_known(
    shared_data: Path, file: str, within: float
) -> None:
    folder = shared_data / "vrptw"
    instance = solomon.read(folder / "solomon" / f"{file}.txt")
    made = planned(instance)
    half_a_second = 0.5 / 60 / instance.unit_min
    assert instance.faults(routes(made), half_a_second) == []
    assert plancheck.faults(instance.jobs(DAY), instance.crews(DAY), DAY, Geodesic(), made, GOALS) == []
    best = solomon.best_known(folder)[f"solomon/{file}.txt"].shortest
    assert best is not None
    assert best * 0.999 <= instance.length(routes(made)) <= best * (1 + within) + 0.01


def test_the_ground_is_as_flat_as_the_instance(shared_data: Path) -> None:
    instance = solomon.read(shared_data / "vrptw" / "homberger_200" / "c1_2_1.txt")
    matrix = Geodesic().matrix([Place(*instance.lonlat(node)) for node in instance.nodes])
    numbers = range(len(instance.nodes))
    flat = np.array([[instance.distance(one, other) for other in numbers] for one in numbers])
    assert np.abs(matrix.seconds - flat * instance.unit_min * 60).max() <= 0.51 + flat.max() * 60 * 1e-5


@pytest.fixture(scope="module")
def c101(shared_data: Path) -> tuple[Instance, list[list[int]]]:
    instance = solomon.read(shared_data / "vrptw" / "solomon" / "C101.txt")
    return instance, routes(planned(instance))


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda found: found[:-1], "visited 0 times"),
        (lambda found: [*found, found[0][:1]], "visited 2 times"),
        (lambda found: [[*found[0], 101], *found[1:]], "there is none"),
        (lambda found: [[number] for route in found for number in route], "100 vehicles of 25"),
        (lambda found: [[*found[0], *found[1]], *found[2:]], "on board of 200"),
        (lambda found: [found[0][::-1], *found[1:]], "due"),
    ],
)
def test_the_check_sees_what_is_wrong(
    c101: tuple[Instance, list[list[int]]], change: Callable[[list[list[int]]], list[list[int]]], fault: str
) -> None:
    instance, good = c101
    assert instance.faults(good, 0.5 / 60) == []
    assert any(fault in found for found in instance.faults(change(good), 0.5 / 60))


SAME = """
import sys
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from fieldsvc.geo.model import Goals
from fieldsvc.geo.planner import plan
from fieldsvc.geo.travel import Geodesic
from tests import solomon

day, step = datetime(2026, 6, 1, tzinfo=UTC), int(sys.argv[2])
instance = solomon.read(Path(sys.argv[1]))
made = plan(instance.jobs(day)[::step], instance.crews(day)[:12][::step], day, Geodesic(), Goals(effort=0))
assert made.unassigned
print(sha256(repr((made.routes, made.unassigned)).encode()).hexdigest())
"""


def test_the_same_input_gives_the_same_plan_in_any_order_and_any_process(shared_data: Path) -> None:
    file = shared_data / "vrptw" / "solomon" / "R101.txt"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SAME, str(file), step],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed, step in (("1", "1"), ("2", "-1"))
    ]
    told = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert len(set(told)) == 1
    assert told[0].strip()
