"""Public sync clients in Node against a running server: what mobile teams use, as they use it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
NODE = Path(sys.executable).parent / "node"

Node = Callable[..., list[dict[str, Any]]]


@pytest.fixture(scope="session")
def node() -> Node:
    """``node("rxdb.mjs", "first-sync", URL=...)``: run a script to its end; each line it prints is a JSON object.

    Keyword arguments are environment variables. A script that fails, or is not done after ``timeout`` seconds, fails
    the test with what it said.
    """
    if not (HERE / "node_modules" / ".ready").exists():
        pytest.fail(
            "the public clients are not installed: `make test` does it, or `make tests/interop/node_modules/.ready`"
        )

    def run(script: str, *args: str, timeout: float = 120, **env: str) -> list[dict[str, Any]]:
        ended = subprocess.run(
            [NODE, HERE / script, *args],
            cwd=HERE,
            env={**os.environ, **env},
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        said = (
            f"{script} {' '.join(args)} ended with {ended.returncode}\n{ended.stdout[-4000:]}\n{ended.stderr[-4000:]}"
        )
        assert ended.returncode == 0, said
        return [json.loads(line) for line in ended.stdout.splitlines() if line.startswith("{")]

    return run
