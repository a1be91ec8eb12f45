"""The benchmarks run, lose nothing and say what they measured. What the numbers are is no matter of a test."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def measured(name: str) -> dict[str, Any]:
    # A server named for the tests may well run without fsync, which a benchmark refuses: it starts its own.
    env = {name: value for name, value in os.environ.items() if name != "TEST_DATABASE_URL"}
    command = [sys.executable, "-m", f"bench.{name}", "--quick", "--json"]
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
