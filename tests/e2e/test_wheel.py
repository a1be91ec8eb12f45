"""The wheel is whole: built, installed elsewhere, it serves from an empty folder with its own migrations and data."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from fieldsvc.console.libraries import SERVED
from tests.processes import get, up

ROOT = Path(__file__).resolve().parents[2]

USED = re.compile(r"library\('([\w-]+)', *'([^']+)'\)")


def browser_libraries() -> set[str]:
    """Every file of a browser library that a page asks for, as a path in the package."""
    pages = (ROOT / "fieldsvc/console/templates").glob("*.html")
    used = {found for page in pages for found in USED.findall(page.read_text(encoding="utf-8"))}
    assert len(used) > 5
    return {str(Path("fieldsvc/console/node_modules", *SERVED[name], file)) for name, file in used}


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
    wanted |= browser_libraries()
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
