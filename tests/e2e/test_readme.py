"""The README's walk as a crew's device, with its own commands against a service as `fieldsvc up` starts it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.processes import up

README = Path(__file__).resolve().parents[2] / "README.md"
ADDRESS = "http://127.0.0.1:8000"
MARK = "=== end of block ==="

# What the reader does by taking a breath: wait until the worker has decided what has been pushed.
SETTLE = """
for n in $(seq 300); do
  curl -s "$S/sync/v1/ops?ids=phone-1.1,phone-1.2,phone-1.3" -H "$DEVICE" | grep -q '"status":"accepted"' || break
done
"""


@dataclass(frozen=True)
class Block:
    """Commands, and what the README says that they answer (None: it does not say)."""

    commands: str
    answer: Any


def walk() -> list[Block]:
    """The blocks marked ``sh walk``, each with the JSON block that follows it directly."""
    found = re.findall(r"^```sh walk\n(.*?)^```\n(?:```json\n(.*?)^```\n)?", README.read_text(), flags=re.M | re.S)
    return [Block(commands, json.loads(without_dots(answer)) if answer else None) for commands, answer in found]


def without_dots(text: str) -> str:
    """JSON without the ``…`` that stand for what is left out; those inside of strings stay."""
    return re.sub(r'("(?:[^"\\]|\\.)*")|,\s*…|…\s*,|…', lambda match: match.group(1) or "", text)


def differences(said: Any, is_: Any, at: str = "") -> list[str]:
    """Where an answer is not what the README shows of it.

    Objects may hold more members and lists more entries than shown; ``…`` in a text stands for anything.
    """
    if isinstance(said, dict) and isinstance(is_, dict):
        return [
            fault
            for name, value in said.items()
            for fault in (differences(value, is_[name], f"{at}/{name}") if name in is_ else [f"{at}/{name} is missing"])
        ]
    if isinstance(said, list) and isinstance(is_, list):
        entries = iter(is_)
        return [
            f"{at}/{place}: nothing like {value}"
            for place, value in enumerate(said)
            if not any(differences(value, entry) == [] for entry in entries)
        ]
    if isinstance(said, str) and isinstance(is_, str) and "…" in said:
        pattern = ".*".join(re.escape(part) for part in said.split("…"))
        return [] if re.fullmatch(pattern, is_, re.DOTALL) else [f"{at}: {is_!r} is not {said!r}"]
    return [] if said == is_ else [f"{at}: {is_!r} is not {said!r}"]


def test_the_walk_as_a_crews_device_answers_what_the_readme_shows(tmp_path: Path) -> None:
    assert shutil.which("curl"), "the README's walk needs curl"
    blocks = walk()
    assert len(blocks) >= 8 and sum(block.answer is not None for block in blocks) >= 7
    with up(tmp_path, "--port", "0", "--workers", "1") as service:
        url = service.url()
        script = "".join(f"{block.commands}\necho; echo '{MARK}'\n{SETTLE}" for block in blocks)
        assert ADDRESS in script
        tools = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("FIELDSVC_", "DATABASE_"))}
        done = subprocess.run(
            ["bash", "-eu"],
            input=script.replace(ADDRESS, url).replace(SETTLE, "", 2),
            cwd=tmp_path,
            env={**clean, "PATH": tools, "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert done.returncode == 0, done.stderr + done.stdout
    printed = done.stdout.split(MARK)
    for block, output in zip(blocks, printed, strict=False):
        if block.answer is not None:
            assert differences(block.answer, json.loads(output.strip().splitlines()[-1])) == [], block.commands


def test_the_comparison_finds_what_is_not_as_shown() -> None:
    shown = json.loads(without_dots('{"a": "x…", "b": [{"c": 1, …}, {"c": 3}], …}'))
    assert differences(shown, {"a": "xyz", "b": [{"c": 1, "d": 0}, {"c": 2}, {"c": 3}], "e": None}) == []
    assert differences(shown, {"a": "yz", "b": [{"c": 3}, {"c": 1}]}) == [
        "/a: 'yz' is not 'x…'",
        "/b/1: nothing like {'c': 3}",
    ]
    assert differences({"a": {"b": 1}}, {"a": {}}) == ["/a/b is missing"]
