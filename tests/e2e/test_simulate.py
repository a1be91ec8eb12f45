"""`fieldsvc simulate`: small shifts by seed on both databases, and proof that its checks can fail."""

from __future__ import annotations

import io
import json
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from fieldsvc.demo.show import Story
from fieldsvc.simulate import check
from fieldsvc.simulate.play import Played, play
from fieldsvc.simulate.world import Options, world

COMMAND = [sys.executable, "-m", "fieldsvc.cli", "simulate"]


def simulate(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    foreign = ("FIELDSVC_", "DATABASE_URL", "REDIS_")
    env = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return subprocess.run(
        [*COMMAND, *options], cwd=folder, env=env, capture_output=True, text=True, timeout=300, check=False
    )


SEEDS = {"sqlite": "1", "postgresql": "2"}


def test_a_small_shift_with_everything_that_goes_wrong_comes_out_right(tmp_path: Path, database: str) -> None:
    done = simulate(
        tmp_path, "--devices", "6", "--hours", "1", "--seed", SEEDS[database], "--database", database,
        "--report", "report.json", "--chart", "chart.svg", "--keep", "world",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "✗" not in done.stdout and "all is right" in done.stdout
    told = json.loads((tmp_path / "report.json").read_text())
    assert told["good"] and told["operations"] > 20 and told["database"] == database
    assert len(told["checks"]) >= 12 and all(one["good"] for one in told["checks"])
    assert {"Redis emptied", "Redis away"} <= set(told["servers"]) and sum(told["servers"].values()) >= 5
    assert told["database_restarts"] == (1 if database == "postgresql" else "not applicable: SQLite has no server")
    assert told["fates"]["lost and wiped"] == 1
    assert "500" not in told["answers"]
    ElementTree.fromstring((tmp_path / "chart.svg").read_text(encoding="utf-8"))
    assert len(list((tmp_path / "world" / "phones").glob("*.db"))) == 6


def test_a_folder_that_is_not_empty_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    done = simulate(tmp_path, "--devices", "2", "--hours", "1", "--keep", str(tmp_path))
    assert done.returncode == 2 and "is not empty" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    """A shift that came out right, its service still up."""
    story = Story(io.StringIO())
    with world(Options(6, 1, 3, "sqlite", tmp_path_factory.mktemp("shift")), story) as made:
        done = play(made, story)
        assert findings(done) == {}
        yield done


def findings(played: Played) -> dict[str, tuple[str, ...]]:
    """What the checks find now, by the name of the check."""
    return {one.name: one.against for one in check.checks(played, check.read(played)) if not one.good}


def tampered(played: Played, statement: str, *values: Any) -> dict[str, tuple[str, ...]]:
    """What the checks find after a statement behind the service's back; the database is put back after it."""
    file = played.world.service.settings.database_url.removeprefix("sqlite:///")
    with closing(sqlite3.connect(file, timeout=30)) as there, closing(sqlite3.connect(":memory:")) as kept:
        there.backup(kept)
        for (trigger,) in there.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            there.execute(f"DROP TRIGGER {trigger}")
        assert there.execute(statement, values).rowcount == 1
        there.commit()
        try:
            return findings(played)
        finally:
            kept.backup(there)


def one(played: Played, fits: Callable[[check.Written], bool]) -> check.Written:
    """An operation of a phone that is still in use."""
    found = check.read(played).written.values()
    return next(op for op in found if not op.phone.gone and op.outcome is not None and fits(op))


def applied(op: check.Written) -> bool:
    return op.outcome is not None and op.outcome["outcome"] in ("applied", "merged")


def named(findings: tuple[str, ...], *words: str) -> bool:
    return any(all(word in finding for word in words) for finding in findings)


def test_an_outcome_that_is_missing_in_the_feed_is_found(played: Played) -> None:
    op = one(played, applied)
    found = tampered(played, "DELETE FROM sync_feed WHERE entity = 'outcome' AND entity_id = ?", op.op_id)
    assert set(found) == {"copies"}
    assert named(found["copies"], op.phone.name, op.op_id)


def test_an_operation_that_is_lost_is_found(played: Played) -> None:
    op = one(played, lambda op: applied(op) and "attachments" not in op.op)
    found = tampered(played, "DELETE FROM operation WHERE op_id = ?", op.op_id)
    assert named(found["none lost"], op.name, "not on record")


def test_an_operation_that_is_stuck_is_found(played: Played) -> None:
    op = one(played, applied)
    never = "UPDATE operation SET status = 'retrying', retry_at = '2999-01-01 00:00:00.000000' WHERE op_id = ?"
    found = tampered(played, never, op.op_id)
    assert named(found["decided"], op.name, "is retrying")


def test_another_outcome_for_the_office_than_for_the_phone_is_found(played: Played) -> None:
    op = one(played, applied)
    found = tampered(played, "UPDATE operation SET status = 'rejected' WHERE op_id = ?", op.op_id)
    assert named(found["one story"], op.name, "its phone was told")


def test_a_gap_in_the_history_of_a_job_is_found(played: Played) -> None:
    op = one(played, lambda op: applied(op) and op.op["kind"] == "job.accept")
    found = tampered(played, "DELETE FROM history WHERE op_id = ? AND action = 'job.accept'", op.op_id)
    assert named(found["history"], op.name)
    assert named(found["job chains"], op.op["entity_id"], "entries")


def test_a_change_that_does_not_join_the_one_before_is_found(played: Played) -> None:
    op = one(played, lambda op: applied(op) and op.op["kind"] == "job.accept")
    statement = "UPDATE history SET before = ? WHERE op_id = ? AND action = 'job.accept'"
    found = tampered(played, statement, '{"status": "completed"}', op.op_id)
    assert named(found["job chains"], op.op["entity_id"], "says status was 'completed'")


def test_a_remark_that_was_added_twice_is_found(played: Played) -> None:
    op = one(played, lambda op: applied(op) and op.op["kind"] == "note.add")
    twice = json.dumps([op.op["payload"]["text"]] * 2)
    found = tampered(played, "UPDATE job SET notes = ? WHERE id = ?", twice, op.op["entity_id"])
    assert named(found["remarks"], op.name, "2 times")


def test_a_receipt_for_something_else_is_found(played: Played) -> None:
    op = one(played, applied)
    with closing(sqlite3.connect(op.phone.file)) as file:
        (doc,) = file.execute("SELECT outcome FROM outbox WHERE op_id = ?", (op.op_id,)).fetchone()
        other = re.sub(r'"receipt":"([^"]*)"', lambda told: f'"receipt":"{told.group(1)[:-8]}AAAAAAAA"', doc)
        file.execute("UPDATE outbox SET outcome = ? WHERE op_id = ?", (other, op.op_id))
        file.commit()
        try:
            assert named(findings(played)["receipts"], op.name)
        finally:
            file.execute("UPDATE outbox SET outcome = ? WHERE op_id = ?", (doc, op.op_id))
            file.commit()
