"""``make lock``: choose dependency versions anew and write the lock files, with hashes and without addresses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

OPTIONS = "--universal --generate-hashes --no-header --no-annotate --python-version 3.11 --upgrade --quiet"

LOCKS = {
    "requirements.lock": "pyproject.toml",
    "requirements-dev.lock": "pyproject.toml --extra dev",
    "bench/requirements-kinto.lock": "bench/requirements-kinto.in",
    "bench/requirements-ortools.lock": "bench/requirements-ortools.in",
}
"""Lock file → what it is made from."""


def main() -> int:
    for name, wanted in LOCKS.items():
        command = [sys.executable, "-m", "uv", "pip", "compile", *wanted.split(), *OPTIONS.split(), "-o", name]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        if "://" in Path(name).read_text():
            print(f"{name} names a host: it would not work elsewhere", file=sys.stderr)
            return 1
        print(f"{name}: written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
