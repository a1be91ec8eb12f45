"""`fieldsvc demo` as a newcomer meets it: both scenarios to their end, on both databases, interrupted, and refused."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import psycopg
import pytest

from tests.processes import descendants, is_running, wait_for
from tests.services import Postgres

COMMAND = [sys.executable, "-m", "fieldsvc.cli", "demo", "--exit", "--port", "0"]
_SENT = re.compile(r"(\d+) sent = (\d+) terminal outcomes · (\d+) lost · (\d+) applied twice · (\d+) of (\d+) checks")


def environment(**more: str) -> dict[str, str]:
    foreign = ("FIELDSVC_", "DATABASE_URL", "REDIS_")
    return {name: value for name, value in os.environ.items() if not name.startswith(foreign)} | more


def play(folder: Path, *options: str, **env: str) -> subprocess.CompletedProcess[str]:
    command = [*COMMAND, *options]
    return subprocess.run(
        command, cwd=folder, env=environment(**env), capture_output=True, text=True, timeout=240, check=False
    )


def whole(done: subprocess.CompletedProcess[str]) -> list[str]:
    """The demo ended well and said so; answers every count it printed."""
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert "✗" not in done.stdout
    numbers = _SENT.search(done.stdout)
    assert numbers, done.stdout
    sent, ended, lost, twice, right, checks = map(int, numbers.groups())
    assert sent == ended > 500
    assert (lost, twice) == (0, 0)
    assert right == checks >= 18
    told = re.findall(r"dispatched: .*|\d+ operations written down.*", done.stdout)
    verdict = done.stdout.split("The counts", 1)[1].splitlines()[1:]
    return [re.sub(r"\bJ-\w+|\d+ s$", "…", line.rstrip()) for line in (*told, *verdict)]


def map_of(folder: Path) -> str:
    text = (folder / "var" / "demo" / "demo-map.svg").read_text(encoding="utf-8")
    ElementTree.fromstring(text)
    return text


def test_the_county_gives_the_same_counts_after_an_interruption_and_on_both_databases(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    interrupted(tmp_path)
    done = play(tmp_path)
    counts = whole(done)
    assert "the earlier demo's was removed" in done.stdout
    assert "GeoNames" in map_of(tmp_path)
    if request.config.getoption("--db") == "sqlite":
        again = play(tmp_path)
    else:
        again = on_postgresql(tmp_path, request.getfixturevalue("postgres"))
    assert whole(again) == counts


def on_postgresql(folder: Path, postgres: Postgres) -> subprocess.CompletedProcess[str]:
    """The demo in a database that is somebody's: it keeps to a schema of its own."""
    name = postgres.create()
    shutil.rmtree(folder / "var")
    with psycopg.connect(postgres.dsn(name), autocommit=True) as connection:
        connection.execute("CREATE TABLE staff (mine text)")
        done = play(folder, DATABASE_URL=postgres.database_url(name))
        found = connection.execute("SELECT schemaname FROM pg_tables WHERE tablename = 'staff' ORDER BY 1").fetchall()
        mine = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
    assert found == [("fieldsvc_demo",), ("public",)]
    assert mine == [("staff",)]
    assert not (folder / "var" / "demo" / "fieldsvc.db").exists()
    return done


@pytest.mark.shared_data
def test_a_folder_without_the_data_is_named_with_what_it_lacks(tmp_path: Path) -> None:
    done = play(tmp_path, "--data", str(tmp_path))
    assert done.returncode == 2
    assert "nyc_territories/community_districts.geojson is missing in the data folder" in done.stderr
    assert not (tmp_path / "var").exists()
    assert play(tmp_path, "--data", "nowhere").returncode == 2


def test_a_database_that_no_demo_has_made_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "fieldsvc.db").write_bytes(b"somebody's records")
    done = play(tmp_path, "--data-dir", str(tmp_path))
    assert done.returncode == 2
    assert "holds a database that no demo has made" in done.stderr
    assert (tmp_path / "fieldsvc.db").read_bytes() == b"somebody's records"


def interrupted(folder: Path) -> None:
    """Ctrl-C in the middle ends everything the demo has started."""
    running = subprocess.Popen(
        COMMAND, cwd=folder, env=environment(PYTHONUNBUFFERED="1"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, start_new_session=True,
    )  # fmt: skip
    try:
        assert running.stdout is not None
        said = []
        for line in running.stdout:
            said.append(line)
            if "dispatched:" in line:
                break
        children = descendants(running.pid)
        assert len(children) >= 5, "".join(said)
        running.send_signal(signal.SIGINT)
        rest = running.stdout.read()
        assert running.wait(60) == 130
        assert rest.rstrip().endswith("ended before the end")
        assert "Traceback" not in rest
        wait_for(lambda: not any(is_running(child) for child in children))
    finally:
        if running.poll() is None:
            running.kill()
            running.wait()
        assert running.stdout is not None
        running.stdout.close()
