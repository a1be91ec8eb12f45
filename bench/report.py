"""What a benchmark says: a table for a person, or JSON for a machine."""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from typing import Any


def arguments(about: str) -> argparse.Namespace:
    """``--quick`` and ``--json``, which every benchmark has."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--quick", action="store_true", help="a smoke run: does it work? its numbers mean little")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return parser.parse_args()


def show(title: str, machine: dict[str, str], rows: Sequence[tuple[str, str, str]], notes: Sequence[str]) -> None:
    """Print ``rows`` of (what, got, aim)."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for column, justify in (("", "left"), ("got", "right"), ("aim", "right")):
        table.add_column(column, justify=justify)  # type: ignore[arg-type]
    for row in rows:
        table.add_row(*row)
    console = Console(width=110)
    console.print(table)
    for note in notes:
        console.print(note, highlight=False)
    console.print(", ".join(f"{name}: {value}" for name, value in machine.items()), highlight=False)


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
