"""How the demo talks: sections, steps with a tick and their time, tables. Quiet where nobody watches."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TextIO

from rich import box
from rich.cells import cell_len
from rich.console import Console, JustifyMethod
from rich.markup import escape
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn
from rich.table import Table
from rich.text import Text

_PLAIN_WIDTH = 118
"""Columns where the output goes to a file or a pipe."""


class Step:
    """One running step; what :meth:`tell` says stands on its line when it is done."""

    def __init__(self, bar: Progress, task: TaskID, what: str) -> None:
        self._bar, self._task, self.told = bar, task, what

    def advance(self, by: float = 1) -> None:
        self._bar.advance(self._task, by)

    def to(self, done: float) -> None:
        self._bar.update(self._task, completed=done)

    def tell(self, what: str) -> None:
        self.told = what


class Story:
    """The demo's voice."""

    def __init__(self, out: TextIO | None = None) -> None:
        out = out or sys.stdout
        if hasattr(out, "reconfigure"):
            out.reconfigure(errors="replace")  # a terminal without ticks gets question marks, not an error
        self.console = Console(file=out, highlight=False, soft_wrap=False)
        if not self.console.is_terminal:
            self.console = Console(file=out, highlight=False, width=_PLAIN_WIDTH)
        self.began = time.monotonic()

    @property
    def seconds(self) -> float:
        """How long it has been telling."""
        return time.monotonic() - self.began

    def title(self, text: str, below: str) -> None:
        self.console.print()
        self.console.print(Text(text, style="bold"))
        self.console.print(Text(below, style="dim"))

    def section(self, text: str) -> None:
        self.console.print()
        self.console.rule(Text(text, style="bold cyan"), align="left", characters="─", style="cyan")

    def say(self, text: str, style: str = "") -> None:
        """A paragraph; the text is taken as it is."""
        self.console.print(Padding(Text(text, style=style), (0, 0, 0, 2), expand=False))

    def command(self, text: str) -> None:
        """A command to copy: never broken into lines."""
        self.console.print(Text(f"  {text}", style="cyan"), soft_wrap=True)

    def warn(self, text: str) -> None:
        self.console.print(Padding(Text(text, style="yellow"), (0, 0, 0, 2), expand=False))

    def mark(self, good: bool, text: str, beside: str = "", seconds: float | None = None) -> None:
        """A line with ✓ or ✗; ``beside`` is left out where there is no room for it."""
        line = Table.grid(padding=(0, 1))
        line.add_column(width=1)
        tick = Text("✓", style="green") if good else Text("✗", style="bold red")
        cells = [tick, Text(text)]
        if seconds is not None:
            line.add_column(width=6, justify="right")
            cells.insert(1, Text(f"{seconds:.{1 if seconds < 100 else 0}f} s", style="dim"))
        line.add_column()
        if beside and cell_len(text) + cell_len(beside) + 16 <= self.console.width:
            cells[-1].append(f"   {beside}", style="dim")
        line.add_row(*cells)
        self.console.print(Padding(line, (0, 0, 0, 2), expand=False))

    @contextmanager
    def step(self, what: str, how: str = "", total: float | None = None) -> Iterator[Step]:
        """A step with a progress bar while it runs (on a terminal only) and one line when it is done."""
        began = time.monotonic()
        columns = [SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=32)]
        if total is not None and float(total).is_integer():
            columns.append(MofNCompleteColumn())
        with Progress(*columns, console=self.console, transient=True, disable=not self.console.is_terminal) as bar:
            step = Step(bar, bar.add_task(f" {escape(what)}", total=total), what)
            yield step
        self.mark(True, step.told, how, time.monotonic() - began)

    def table(
        self,
        columns: Sequence[str],
        rows: Iterable[Sequence[object]],
        *,
        title: str = "",
        right: Sequence[str] = (),
        total: Sequence[object] | None = None,
    ) -> None:
        """A table; columns named in ``right`` hold numbers. A cell may be a :class:`rich.text.Text`."""
        table = Table(
            title=title or None, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False
        )
        table.show_edge = False
        table.collapse_padding = True
        table.show_footer = total is not None
        cells = [_cell(value) for value in total] if total is not None else [Text("")] * len(columns)
        for name, foot in zip(columns, cells, strict=True):
            number = name in right
            justify: JustifyMethod = "right" if number else "left"
            table.add_column(
                name, foot, justify=justify, no_wrap=number, overflow="fold", header_style="dim", footer_style="bold"
            )
        for row in rows:
            table.add_row(*map(_cell, row))
        self.console.print(Padding(table, (1, 0, 1, 2), expand=False))


def _cell(value: object) -> Text:
    if isinstance(value, Text):
        return value
    return Text("" if value is None else str(value))
