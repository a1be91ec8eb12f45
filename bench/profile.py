"""Where the processor time of web servers goes: py-spy's samples, each given to the innermost function of our own.

What a function has libraries do for it counts as its own, so the table speaks of our code and not of the driver's. Only
the thread that holds the interpreter is looked at: who waits for PostgreSQL or for a request costs nothing here.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

SAMPLES_PER_S = 250
SHOWN = 14
COLUMNS = ("function", "share", "µs each")

_FRAME = re.compile(r"^(?P<function>\S.*) \((?P<file>[^()]*?)(?::\d+)?\)$")


def sampled(programs: Path, pid: int, package: str, work: Callable[[], object]) -> dict[str, float]:
    """Do ``work`` while a server and its children are watched; share of the samples by function.

    :param programs: the folder with py-spy.
    :param package: whose functions samples are given to; what lies outside goes by the library's name.
    :raises SystemExit: py-spy may not look into the process.
    """
    with tempfile.TemporaryDirectory(prefix="fieldsvc-profile-") as folder:
        out = Path(folder) / "stacks"
        command = [str(programs / "py-spy"), "record", "--pid", str(pid), "--subprocesses", "--gil", "--format", "raw"]
        watch = subprocess.Popen(
            [*command, "--rate", str(SAMPLES_PER_S), "--duration", "unlimited", "--output", str(out)],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1,
        )  # fmt: skip
        assert watch.stdout is not None
        if "Sampling" not in (first := watch.stdout.readline()):
            raise SystemExit(f"py-spy: {first}{watch.stdout.read()}")
        work()
        watch.send_signal(2)
        watch.communicate(timeout=60)
        return shares(out.read_text(), package)


def shares(stacks: str, package: str) -> dict[str, float]:
    """``stacks`` is lines of frames, outermost first and parted by semicolons, and a count; shares add up to 1."""
    found: Counter[str] = Counter()
    for line in stacks.splitlines():
        frames, _, count = line.rpartition(" ")
        found[_owner(frames.split(";"), package)] += int(count)
    total = sum(found.values())
    return {name: count / total for name, count in found.most_common()}


def _owner(frames: list[str], package: str) -> str:
    outside = ""
    for frame in reversed(frames):
        if not (match := _FRAME.match(frame)):
            continue
        module = match["file"].removesuffix(".py").replace("/", ".").removesuffix(".__init__")
        if module.startswith(f"{package}."):
            return f"{module}.{match['function']}"
        outside = outside or module.partition(".")[0]
    return f"({outside or 'python'})"


def table(found: dict[str, float], each_ms: float) -> list[tuple[str, ...]]:
    """The largest shares, and what all the others are together.

    :param each_ms: what one operation or change costs the watched processes.
    """
    largest = list(found.items())[:SHOWN]
    rest = 1 - sum(share for _, share in largest)
    return [_line(name, share, each_ms) for name, share in [*largest, ("everything else", rest)] if share > 0]


def _line(name: str, share: float, each_ms: float) -> tuple[str, ...]:
    return (name, f"{share:.0%}", f"{share * each_ms * 1000:.1f}")
