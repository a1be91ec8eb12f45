"""The wheel is whole: built, installed elsewhere, it serves from an empty folder with its own migrations and data."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.processes import get, up

ROOT = Path(__file__).resolve().parents[2]

BROWSER_LIBRARIES = [
    ("htmx.org", "dist/htmx.min.js"),
    ("leaflet", "dist/leaflet.js"),
    ("leaflet", "dist/images/marker-icon.png"),
    ("leaflet.markercluster", "dist/leaflet.markercluster.js"),
    ("@geoman-io/leaflet-geoman-free", "dist/leaflet-geoman.min.js"),
    ("uplot", "dist/uPlot.iife.min.js"),
    ("vis-timeline", "standalone/umd/vis-timeline-graph2d.min.js"),
]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    (built,) = folder.glob("fieldsvc-*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the wheel alone is installed; its dependencies are those of the environment the tests run in."""
    target = tmp_path_factory.mktemp("installed")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(target)]
    subprocess.run([*command, str(wheel)], check=True, capture_output=True, text=True)
    return target


def test_the_wheel_holds_every_file_of_the_packages_and_the_migrations(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        there = set(archive.namelist())
    wanted = {
        path.relative_to(ROOT).as_posix()
        for package in ("fieldsvc", "workers")
        for path in (ROOT / package).rglob("*")
        if path.is_file() and not {"__pycache__", "node_modules"} & set(path.parts)
    }
    npm = ROOT / "fieldsvc/console/node_modules"
    wanted |= {(npm / package / file).relative_to(ROOT).as_posix() for package, file in BROWSER_LIBRARIES}
    wanted |= {f"fieldsvc/_migrations/versions/{path.name}" for path in (ROOT / "migrations/versions").glob("*.py")}
    assert wanted - there == set()


def test_the_installed_service_runs_from_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    env = {"PYTHONPATH": str(installed)}
    where = subprocess.run(
        [sys.executable, "-c", "import fieldsvc, workers; print(fieldsvc.__file__, workers.__file__)"],
        cwd=tmp_path, env={**os.environ, **env}, check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert all(path.startswith(str(installed)) for path in where.stdout.split()), where.stdout
    with up(tmp_path, "--port", "0", env=env) as run:
        assert get(f"{run.url()}/healthz") == 200
        log = (tmp_path / "var" / "log" / "worker-1.log").read_text()
        assert "Traceback" not in log
        assert run.end() == 0
