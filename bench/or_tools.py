"""OR-Tools beside us: from PyPI into a virtual environment of its own, given the same matrix and the same hard rules.

What it is given: skills, equipment, territories and who may help out (as the vehicles allowed for a job), windows,
capacity, shifts and the way home as hard rules; a promise as a soft bound whose price a second is the tier's weight;
a price for leaving a job out that a tier's weight decides and no driving outweighs. What it cannot be told so: that a
tier goes before another whatever it costs, that a hazard gets who is there first, and that helping out costs extra.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import venv
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from bench.walk import Day, Sequences

DROP_S = 1_000_000
"""Leaving a job out costs so many seconds of driving for each unit of its tier's weight; a shift has 28,800."""

CANNOT = "it does not know ranks beyond the price of leaving a job out, nor that a hazard gets who is there first"

_ROOT = Path(__file__).parent.parent
_LOCK = Path(__file__).with_name("requirements-ortools.lock")
_HOME = _ROOT / "build" / "ortools"
_PROGRAM = Path(__file__).with_name("or_tools_routes.py")


class Missing(Exception):
    """OR-Tools cannot be had here; the message says why."""


def python() -> Path:
    """The interpreter of OR-Tools' environment, made on the first call with exactly what the lock names.

    :raises Missing: no package registry answers, or it has nothing for this machine.
    """
    mark, wanted = _HOME / "lock", f"{sys.version_info[:2]}\n{_LOCK.read_text()}"
    found = _HOME / "bin" / "python"
    if mark.exists() and mark.read_text() == wanted:
        return found
    shutil.rmtree(_HOME, ignore_errors=True)
    print("setting up OR-Tools in build/ortools …", file=sys.stderr)
    venv.create(_HOME, with_pip=True)
    command = [str(found), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run(
        [*command, "--require-hashes", "-r", str(_LOCK)], capture_output=True, text=True, check=False, timeout=600
    )
    if done.returncode:
        raise Missing(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "pip failed")
    mark.write_text(wanted)
    return found


def plan(day: Day, limit_s: float, first: Sequences | None = None) -> tuple[dict[str, list[str]], float]:
    """Job ids in order by crew id, and the seconds it took; it searches until ``limit_s``.

    :param first: routes to begin with; None: it makes its own.

    :raises Missing: OR-Tools cannot be had here.
    """
    program = python()
    with tempfile.TemporaryDirectory(prefix="ortools-bench-") as home:
        matrix, problem = Path(home) / "matrix.npy", Path(home) / "problem.json"
        np.save(matrix, day.seconds.astype(np.int64))
        problem.write_text(json.dumps(_problem(day, str(matrix), limit_s, first)))
        done = subprocess.run(
            [str(program), "-W", "ignore", str(_PROGRAM), str(problem)], capture_output=True, text=True, check=False
        )
    if done.returncode:
        raise SystemExit(f"OR-Tools: {done.stderr[-2000:]}")
    told = json.loads(done.stdout)
    routes = {
        crew.id: [day.jobs[row].id for row in route] for crew, route in zip(day.crews, told["routes"], strict=True)
    }
    return routes, float(told["seconds"])


def version() -> str:
    """Of OR-Tools, as the lock has it."""
    line = next(line for line in _LOCK.read_text().splitlines() if line.startswith("ortools=="))
    return line.partition("==")[2].split()[0]


def _problem(day: Day, matrix: str, limit_s: float, first: Sequences | None) -> dict[str, Any]:
    longest = day.goals.overtime_min * 60
    until = [_s(day, crew.shift.end) + longest for crew in day.crews]
    jobs = []
    for job in day.jobs:
        assert len(job.windows) <= 1
        weight = day.goals.tiers[job.tier].weight
        window = (
            [max(0, _s(day, job.windows[0].start)), _s(day, job.windows[0].end)] if job.windows else [0, max(until)]
        )
        jobs.append(
            {
                "service": round(job.service_min * 60),
                "window": window,
                "due": _s(day, job.due) if job.due else None,
                "late_cost": weight,
                "drop_cost": weight * DROP_S,
                "load": job.load,
                "crews": [number for number, crew in enumerate(day.crews) if day.able(job, crew)],
            }
        )
    crews = [
        {
            "start": day.crew[crew.id][0],
            "end": day.crew[crew.id][1],
            "from": _s(day, day.begins(crew)),
            "until": last,
            "capacity": len(day.jobs) if crew.capacity is None else crew.capacity,
        }
        for crew, last in zip(day.crews, until, strict=True)
    ]
    begin = [[day.job[job_id][0] for job_id in first.get(crew.id, ())] for crew in day.crews] if first else None
    return {"matrix": matrix, "limit_s": limit_s, "jobs": jobs, "crews": crews, "first": begin}


def _s(day: Day, at: datetime) -> int:
    return round((at - day.now) / timedelta(seconds=1))
