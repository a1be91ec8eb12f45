"""What a benchmark says: a table for a person, or JSON for a machine."""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def arguments(about: str, **flags: str) -> argparse.Namespace:
    """``--quick`` and ``--json``, which every benchmark has, and ``flags`` of its own: name and what it does."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--quick", action="store_true", help="a smoke run: does it work? its numbers mean little")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    for name, does in flags.items():
        parser.add_argument(f"--{name}", action="store_true", help=does)
    return parser.parse_args()


def show(
    title: str,
    machine: dict[str, str],
    rows: Sequence[Sequence[str]],
    notes: Sequence[str],
    columns: Sequence[str] = ("", "got", "aim"),
) -> None:
    """Print ``rows`` with a cell for each of ``columns``; the first says what was measured."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for place, column in enumerate(columns):
        table.add_column(column, justify="right" if place else "left")
    for row in rows:
        table.add_row(*row)
    console = Console(width=110)
    console.print(table)
    for note in notes:
        console.print(note, highlight=False)
    console.print(told(machine), highlight=False)


def told(machine: dict[str, str]) -> str:
    return ", ".join(f"{name}: {value}" for name, value in machine.items())


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The same table for a page."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def write_into(page: Path, section: str, text: str) -> None:
    """Replace what stands in ``page`` between ``<!-- section -->`` and ``<!-- /section -->``."""
    begin, end = f"<!-- {section} -->", f"<!-- /{section} -->"
    before, _, rest = page.read_text(encoding="utf-8").partition(begin)
    _, _, after = rest.partition(end)
    page.write_text(f"{before}{begin}\n{text.strip()}\n{end}{after}", encoding="utf-8")


def dump(result: dict[str, Any]) -> None:
    print(json.dumps(result, indent=1))


def medians(rounds: Sequence[dict[str, float]]) -> dict[str, float]:
    """The median of each name over the rounds; a round without it counts as 0."""
    names = dict.fromkeys(name for one in rounds for name in one)
    return {name: median([one.get(name, 0.0) for one in rounds]) for name in names}


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def percentile(values: Sequence[float], part: float) -> float:
    """The smallest value that at least ``part`` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]
