"""The benchmarks run, lose nothing and say what they measured. What the numbers are is no matter of a test."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench import profile, report

ROOT = Path(__file__).resolve().parents[2]


def measured(name: str, *options: str) -> dict[str, Any]:
    # A server named for the tests may well run without fsync, which a benchmark refuses: it starts its own.
    env = {name: value for name, value in os.environ.items() if name != "TEST_DATABASE_URL"}
    command = [sys.executable, "-m", f"bench.{name}", "--quick", "--json", *options]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_push_says_how_its_rates_compare_with_copy_and_loses_nothing() -> None:
    result = measured("push")
    assert result["accepted"]["ratio"] > 0
    assert result["reconciled"]["per_s"] > 0
    assert set(result["reconciled"]["outcomes"]) <= {"applied", "merged"}


def test_pull_says_how_a_large_feed_compares_with_a_small_one() -> None:
    result = measured("pull")
    assert result["nothing"]["ratio"] > 0
    assert (result["changes"]["count"], result["changes"]["ms"] > 0) == (500, True)


def test_sync_alone_counts_what_was_taken_and_what_was_known() -> None:
    result = measured("sync", "--alone")
    assert result["new"]["ours"]["counts"] == {"accepted": 800}
    assert result["again"]["ours"]["counts"] == {"duplicate": 800}
    assert result["again"]["to_new"]["ours"] > 0
    assert result["pulled"]["ours"]["counts"] == {"put": 2 * 2 * 500}
    assert result["reconciled"]["per_s"] > 0


def test_a_profile_gives_each_sample_to_the_innermost_function_of_ours() -> None:
    stacks = [
        'process 7:"web";run (gunicorn/arbiter.py:9);push (fieldsvc/api/sync.py:1);dumps (orjson/__init__.py:3) 6',
        'process 7:"web";run (gunicorn/arbiter.py:9);push (fieldsvc/api/sync.py:2) 2',
        'process 7:"web";run (gunicorn/arbiter.py:9);accept (socket.py:4) 2',
    ]
    shares = profile.shares("\n".join(stacks), "fieldsvc")
    assert shares == {"fieldsvc.api.sync.push": 0.8, "(socket)": 0.2}
    assert profile.table(shares, 0.5) == [("fieldsvc.api.sync.push", "80%", "400.0"), ("(socket)", "20%", "100.0")]


def test_a_section_of_a_page_is_replaced_and_nothing_else(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- sync -->\nold\n<!-- /sync -->\nafter\n")
    report.write_into(page, "sync", report.markdown(("", "got"), [("rate", "7")]))
    assert page.read_text() == "before\n<!-- sync -->\n|  | got |\n| --- | --- |\n| rate | 7 |\n<!-- /sync -->\nafter\n"
