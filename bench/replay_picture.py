"""A picture of the two days: calls waiting, and promises missed, hour by hour, for each way to dispatch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from xml.sax.saxutils import escape
from zoneinfo import ZoneInfo

_WIDE, _LEFT, _RIGHT = 960, 62, 20
_PANEL, _TOP, _GAP, _LEGEND = 200, 66, 58, 84
_COLOURS = ("#0072b2", "#d55e00", "#7a7f85")
_DASHES = ("", "7 4", "2 3")
"""Okabe and Ito's blue and vermilion, and a grey; the dashes tell what the colours tell."""


@dataclass(frozen=True)
class Line:
    """One way to dispatch: its name, its sum in words, and a value for each panel at each moment."""

    name: str
    told: str
    waiting: Sequence[int]
    missed: Sequence[int]


def draw(title: str, moments: Sequence[datetime], zone: ZoneInfo, lines: Sequence[Line]) -> str:
    """The picture as SVG, on a ground of its own, so that it reads on light and dark pages alike."""
    high = _TOP + 2 * _PANEL + _GAP + _LEGEND + 20 * len(lines)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDE} {high}" font-family="sans-serif" role="img">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{_WIDE}" height="{high}" rx="6" fill="white" stroke="#d5dae0"/>',
        _text(_LEFT, 26, title, size=15),
    ]
    panels = (("calls waiting for a crew", "waiting"), ("promises missed so far", "missed"))
    for place, (words, name) in enumerate(panels):
        top = _TOP + place * (_PANEL + _GAP)
        parts += _panel(top, words, moments, zone, [getattr(line, name) for line in lines])
    top = _TOP + 2 * _PANEL + _GAP + 46
    for place, line in enumerate(lines):
        at = top + 22 * place
        parts.append(
            f'<line x1="{_LEFT}" x2="{_LEFT + 34}" y1="{at - 4}" y2="{at - 4}" stroke="{_COLOURS[place]}" '
            f'stroke-width="2.5" stroke-dasharray="{_DASHES[place]}"/>'
        )
        parts.append(_text(_LEFT + 44, at, f"{line.name}: {line.told}"))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(
    top: float, words: str, moments: Sequence[datetime], zone: ZoneInfo, values: Sequence[Sequence[int]]
) -> list[str]:
    low, most = top + _PANEL, _round(max(1, *(max(line) for line in values)))
    first, last = moments[0], moments[-1]

    def x(at: datetime) -> float:
        return _LEFT + (_WIDE - _LEFT - _RIGHT) * ((at - first) / (last - first))

    def y(value: float) -> float:
        return low - _PANEL * value / most

    parts = [_text(_LEFT, top - 10, words, size=13)]
    for share in (0, 0.25, 0.5, 0.75, 1):
        at = y(most * share)
        parts.append(f'<line x1="{_LEFT}" x2="{_WIDE - _RIGHT}" y1="{at:.1f}" y2="{at:.1f}" stroke="#e3e7eb"/>')
        parts.append(_text(_LEFT - 8, at + 4, f"{most * share:,.0f}", anchor="end"))
    hour = first
    while hour <= last:
        local = hour.astimezone(zone)
        if local.hour % 6 == 0 and local.minute == 0:
            label = f"{local:%b} {local.day}" if local.hour == 0 else f"{local:%H:%M}"
            parts.append(_text(x(hour), low + 18, label, anchor="middle"))
        hour += timedelta(hours=1)
    for place in reversed(range(len(values))):
        points = " ".join(f"{x(at):.1f},{y(value):.1f}" for at, value in zip(moments, values[place], strict=True))
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{_COLOURS[place]}" stroke-width="2.5" '
            f'stroke-dasharray="{_DASHES[place]}"/>'
        )
    return parts


def _round(most: int) -> int:
    """The next number that four lines divide into round ones."""
    step = next(step for step in (1, 5, 10, 25, 50, 100, 250, 500, 1000, most) if most <= 4 * step)
    return 4 * step


def _text(x: float, y: float, words: str, *, anchor: str = "start", size: int = 12) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f'<text {place} fill="#2b3138" font-size="{size}">{escape(words)}</text>'
