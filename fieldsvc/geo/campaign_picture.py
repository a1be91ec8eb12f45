"""The calendar of a campaign as one standalone SVG: transformer areas down, days across; people would rather look.

A filled cell is work by day, a dark one by night, a framed one work inside of a planned outage; the number is how many
usage points. Form and number tell what the colours (Okabe and Ito's) tell. Nothing is fetched.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from html import escape

MOST_AREAS = 120
_CELL, _ROW, _LEFT, _TOP, _RIGHT, _LEGEND = 20, 18, 150, 92, 90, 64
_FONTS = "Noto Sans, Noto Sans CJK SC, DejaVu Sans, Arial, sans-serif"
_NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff\ud800-\udfff]")
_DAY, _NIGHT, _OUTAGE, _WEEKEND, _INK = "#56b4e9", "#1b4d6b", "#d55e00", "#eef1f4", "#1f2933"


@dataclass(frozen=True)
class Mark:
    """``count`` usage points of ``area`` on ``day``, by night or by day, ``outage``: inside of a planned outage."""

    area: str
    day: date
    night: bool
    outage: bool
    count: int


def svg(title: str, first: date, last: date, marks: Iterable[Mark], left: int) -> str:
    """The picture as text. Areas stand in the order of their first day; after 120 of them the rest is one row.

    :param left: how many usage points are on no day.
    """
    by_area: dict[str, list[Mark]] = defaultdict(list)
    for mark in marks:
        by_area[mark.area].append(mark)
    order = sorted(by_area, key=lambda area: (min(mark.day for mark in by_area[area]), area))
    rows = [(area, by_area[area]) for area in order[:MOST_AREAS]]
    if order[MOST_AREAS:]:
        rest = [mark for area in order[MOST_AREAS:] for mark in by_area[area]]
        rows.append((f"{len(order) - MOST_AREAS} more areas", rest))
    days = [first + timedelta(days=n) for n in range((last - first).days + 1)]
    width = max(760, _LEFT + len(days) * _CELL + _RIGHT)
    height = _TOP + len(rows) * _ROW + _LEGEND
    size = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="{_FONTS}" role="img" aria-labelledby="t">',
        f'<title id="t">{_words(title)}</title>',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        f'<text x="16" y="32" font-size="20" font-weight="700" fill="{_INK}">{_words(title)}</text>',
        *_heads(days, len(rows)),
        *(line for number, (name, found) in enumerate(rows) for line in _row(number, name, found, first, len(days))),
        *_legend(_TOP + len(rows) * _ROW + 28, sum(mark.count for row in rows for mark in row[1]), left),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _heads(days: Sequence[date], rows: int) -> list[str]:
    """Weekends shaded, days numbered, months named where they begin."""
    parts = []
    for number, day in enumerate(days):
        x = _LEFT + number * _CELL
        if day.weekday() >= 5:
            parts.append(
                f'<rect x="{x}" y="{_TOP - 18}" width="{_CELL}" height="{rows * _ROW + 18}" fill="{_WEEKEND}"/>'
            )
        if number == 0 or day.day == 1:
            parts.append(f'<text x="{x}" y="{_TOP - 24}" font-size="12" fill="{_INK}">{day:%Y-%m}</text>')
        parts.append(_text(x + _CELL / 2, _TOP - 5, str(day.day), "#616e7c", 10))
    return parts


def _row(number: int, name: str, marks: Sequence[Mark], first: date, days: int) -> list[str]:
    top = _TOP + number * _ROW
    shown = name if len(name) <= 20 else name[:19] + "…"
    parts = [
        f'<line x1="16" y1="{top + _ROW}" x2="{_LEFT + days * _CELL}" y2="{top + _ROW}" stroke="#e4e7eb"/>',
        f'<text x="16" y="{top + 13}" font-size="11" fill="{_INK}">{_words(shown)}</text>',
    ]
    counts: Counter[tuple[date, bool]] = Counter()
    outages = {(mark.day, mark.night) for mark in marks if mark.outage}
    for mark in marks:
        counts[mark.day, mark.night] += mark.count
    both = {day for day, night in counts if night} & {day for day, night in counts if not night}
    for (day, night), count in sorted(counts.items()):
        x, wide = _LEFT + (day - first).days * _CELL + 1, _CELL - 2
        if day in both:
            wide //= 2
            x += wide if night else 0
        fill, ink = (_NIGHT, "#ffffff") if night else (_DAY, "#000000")
        frame = f' stroke="{_OUTAGE}" stroke-width="3"' if (day, night) in outages else ""
        parts.append(f'<rect x="{x}" y="{top + 2}" width="{wide}" height="{_ROW - 4}" fill="{fill}"{frame}/>')
        parts.append(_text(x + wide / 2, top + 13, str(count), ink, 10 if wide > 12 and count < 100 else 7))
    total = sum(counts.values())
    parts.append(f'<text x="{_LEFT + days * _CELL + 8}" y="{top + 13}" font-size="11" fill="{_INK}">{total}</text>')
    return parts


def _legend(y: int, placed: int, left: int) -> list[str]:
    parts, x = [], 16
    for fill, frame, words in (
        (_DAY, "", "by day"),
        (_NIGHT, "", "by night"),
        (_DAY, f' stroke="{_OUTAGE}" stroke-width="3"', "in a planned outage"),
    ):
        parts.append(f'<rect x="{x}" y="{y - 11}" width="14" height="12" fill="{fill}"{frame}/>')
        parts.append(f'<text x="{x + 22}" y="{y}" font-size="12" fill="{_INK}">{words}</text>')
        x += 44 + 7 * len(words)
    words = f"{placed} usage points on a day, {left} on none"
    parts.append(f'<text x="{x + 10}" y="{y}" font-size="12" fill="{_INK}">{words}</text>')
    return parts


def _words(text: str) -> str:
    """Text as XML may hold it."""
    return escape(_NOT_XML.sub("\ufffd", text))


def _text(x: float, y: float, words: str, fill: str, size: int) -> str:
    return f'<text x="{x:g}" y="{y:g}" font-size="{size}" text-anchor="middle" fill="{fill}">{words}</text>'
