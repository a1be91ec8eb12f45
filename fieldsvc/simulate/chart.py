"""A picture of a run: operations written, answered and known over time, and what befell the servers meanwhile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from xml.sax.saxutils import escape

_WIDE, _HIGH = 960, 430
_LEFT, _RIGHT, _TOP, _BELOW = 70, 20, 64, 90
_LINES = (
    ("written", "written by the crews", "#9aa5b1"),
    ("answered", "answered: kept by the service", "#2f80c2"),
    ("known", "decided, and the device knows", "#2e9e5b"),
)
_BLOWS = {
    "a web process": ("#d97a1f", "web process killed"),
    "the web server": ("#b8321a", "web server killed"),
    "worker-1": ("#8447b5", "worker killed"),
    "worker-2": ("#8447b5", "worker killed"),
    "Redis emptied": ("#c2185b", "Redis emptied"),
    "Redis away": ("#c2185b", "Redis away"),
    "the database restarted": ("#111111", "database restarted"),
}
_NAMED = ("Redis emptied", "Redis away", "the database restarted")
"""What happens once has its name on the picture; kills are marks with a legend."""


def draw(told: Mapping[str, Any]) -> str:
    """The run as SVG; ``told`` is the report."""
    samples = [{"seconds": 0.0, "written": 0, "answered": 0, "known": 0}, *told["samples"]]
    end = max(sample["seconds"] for sample in samples) or 1.0
    most = max(sample["written"] for sample in samples) or 1

    def x(seconds: float) -> float:
        return _LEFT + (_WIDE - _LEFT - _RIGHT) * seconds / end

    def y(count: float) -> float:
        return _HIGH - _BELOW - (_HIGH - _TOP - _BELOW) * count / most

    title = f"{told['devices']} devices, {told['hours']} hours, seed {told['seed']}, {told['database']}"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDE} {_HIGH}" font-family="sans-serif">',
        f'<rect width="{_WIDE}" height="{_HIGH}" fill="white"/>',
        _text(_LEFT, 22, f"Operations: {title}", size=15),
    ]
    played = told["seconds"]["play"]
    parts.append(
        f'<rect x="{x(played):.1f}" y="{_TOP}" width="{x(end) - x(played):.1f}" height="{_HIGH - _TOP - _BELOW}" '
        'fill="#eef6ee"/>'
    )
    parts.append(_text(x(end) - 4, _HIGH - _BELOW - 10, "good lines", anchor="end", colour="#2e7d46"))
    for share in (0, 0.25, 0.5, 0.75, 1):
        count, at = round(most * share), y(most * share)
        parts.append(f'<line x1="{_LEFT}" x2="{_WIDE - _RIGHT}" y1="{at:.1f}" y2="{at:.1f}" stroke="#e3e7eb"/>')
        parts.append(_text(_LEFT - 8, at + 4, f"{count:,}", anchor="end"))
        parts.append(_text(x(end * share), _HIGH - _BELOW + 18, f"{end * share:.0f} s", anchor="middle"))
    parts += _blows(told["blows"], x)
    for name, _, colour in _LINES:
        points = " ".join(f"{x(sample['seconds']):.1f},{y(sample[name]):.1f}" for sample in samples)
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
    parts += _legend()
    return "\n".join([*parts, "</svg>"]) + "\n"


def _blows(blows: Sequence[Sequence[Any]], x: Any) -> list[str]:
    parts = []
    named = 0
    for seconds, what in blows:
        colour, name = _BLOWS[what]
        at = x(seconds)
        if what in _NAMED:
            named += 1
            parts.append(
                f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{_TOP - 8}" y2="{_HIGH - _BELOW}" stroke="{colour}" '
                'stroke-dasharray="4 3"/>'
            )
            parts.append(_text(at, _TOP - 10 - 14 * (named % 2), name, anchor="middle", colour=colour))
        else:
            low = _HIGH - _BELOW
            parts.append(f'<path d="M{at:.1f} {low} l-4 -9 h8 z" fill="{colour}"/>')
    return parts


def _legend() -> list[str]:
    parts = []
    place = float(_LEFT)
    for _, words, colour in _LINES:
        parts.append(f'<rect x="{place}" y="{_HIGH - 48}" width="18" height="4" fill="{colour}"/>')
        parts.append(_text(place + 24, _HIGH - 42, words))
        place += 40 + 6.6 * len(words)
    place = float(_LEFT)
    for colour, words in sorted({one for what, one in _BLOWS.items() if what not in _NAMED}):
        parts.append(f'<path d="M{place + 6} {_HIGH - 16} l-4 -9 h8 z" fill="{colour}"/>')
        parts.append(_text(place + 18, _HIGH - 16, words))
        place += 40 + 6.6 * len(words)
    return parts


def _text(x: float, y: float, words: str, *, anchor: str = "start", colour: str = "#333", size: int = 12) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f'<text {place} fill="{colour}" font-size="{size}">{escape(words)}</text>'
