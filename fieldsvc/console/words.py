"""How things are called in the visitor's language, and times in the visitor's zone.

Three kinds of text: what pages say themselves is in their templates (``_()``, catalogues in ``translations``); codes of
the service have a word in ``vocabulary.toml`` (:func:`word`); sentences that the rooms make, such as the reason of a
refusal, are translated by their pattern in ``sentences.toml`` (:func:`said`).
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache, lru_cache
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from flask import Flask, current_app, redirect, request, session
from flask_babel import Babel, format_datetime
from flask_babel import gettext as _
from jinja2 import pass_context
from markupsafe import Markup

from fieldsvc.base.clock import format_time, parse_time, utc_now
from fieldsvc.console.frame import keep, may, pages, public, way_back

LANGUAGES = {"en": "English", "zh": "中文"}
THEMES = ("auto", "light", "dark")

_HERE = Path(__file__).parent
_VALUE = re.compile(r"\{(\w+)\}")
_MANY_MINUTES = re.compile(r"\b(\d{4,}(?:\.\d+)?) (?:min\b|分钟)")

_babel = Babel()


def init_app(app: Flask) -> None:
    """Languages, zones, and the filters templates use."""
    app.config["BABEL_TRANSLATION_DIRECTORIES"] = "console/translations"
    _babel.init_app(app, locale_selector=language, timezone_selector=zone)
    app.jinja_env.add_extension("jinja2.ext.do")
    filters: dict[str, Callable[..., Any]] = {
        "word": word,
        "said": said,
        "thousands": thousands,
        "moment": moment,
        "clock": clock_time,
        "since": since,
        "iso": iso,
    }
    app.jinja_env.filters |= {name: _for_this_visitor(found) for name, found in filters.items()}
    app.jinja_env.globals |= {
        "may": may,
        "languages": LANGUAGES,
        "themes": THEMES,
        "language": language,
        "theme": lambda: session.get("theme", "auto"),
        "zone": lambda: zone().key,
        "now": utc_now,
    }


def _for_this_visitor(found: Callable[..., Any]) -> Callable[..., Any]:
    """A filter whose answer depends on who asks: Jinja would else work out that of a constant once, for everybody."""

    @pass_context
    def filtered(_context: Any, *args: Any, **kwargs: Any) -> Any:
        return found(*args, **kwargs)

    return filtered


def language() -> str:
    """The visitor's language: chosen, else what the browser asks for, else English."""
    chosen = session.get("language")
    if chosen in LANGUAGES:
        return str(chosen)
    return request.accept_languages.best_match(list(LANGUAGES)) or "en"


def zone() -> ZoneInfo:
    """The visitor's time zone, as the browser tells it in a cookie; else the one of the service."""
    return _known_zone(request.cookies.get("zone", "")) or current_app.extensions["fieldsvc.settings"].local_zone


@lru_cache(256)
def _known_zone(name: str) -> ZoneInfo | None:
    try:
        return ZoneInfo(name) if re.fullmatch(r"[A-Za-z]+(/[A-Za-z0-9_+-]+){0,2}", name) else None
    except (KeyError, ValueError, OSError):
        return None


def word(code: Any) -> str:
    """What a code is called; one without a word is shown as it is, with blanks for underscores."""
    found = vocabulary().get(_key(str(code)))
    return found[language()] if found else str(code).replace("_", " ")


@cache
def vocabulary() -> dict[str, dict[str, str]]:
    """Code → its word in every language."""
    groups = tomllib.loads((_HERE / "vocabulary.toml").read_text(encoding="utf-8"))
    return {
        code: dict(zip(LANGUAGES, words, strict=True)) for group in groups.values() for code, words in group.items()
    }


def _key(code: str) -> str:
    return code.replace(".", "_").replace("-", "_")


def said(text: Any) -> str:
    """A sentence of a room in the visitor's language; one that no pattern knows stays as it is.

    Thousands of minutes are told in hours or days.
    """
    into = language()
    sentence = str(text) if into == "en" else translated(str(text), into) or str(text)
    return _MANY_MINUTES.sub(lambda found: span(round(float(found[1]) * 60)), sentence)


@lru_cache(4096)
def translated(text: str, into: str, depth: int = 0) -> str | None:
    """``text`` by its pattern, or by those of its parts between semicolons or commas; None when no pattern knows it.

    A value of a pattern may hold commas only where the text cannot be taken apart at them.
    """
    if depth > 4:
        return None
    if found := _by_pattern(text, into, "[^,;]", depth):
        return found
    if known := vocabulary().get(_key(text)):
        return known[into]
    for between, instead in (("; ", "；"), (", ", "，")):
        parts = [translated(part, into, depth + 1) for part in text.split(between)]
        if len(parts) > 1 and None not in parts:
            return instead.join(map(str, parts))
    return _by_pattern(text, into, ".", depth)


def _by_pattern(text: str, into: str, sign: str, depth: int) -> str | None:
    for pattern, translation in patterns(into, sign):
        if found := pattern.fullmatch(text):
            values = {name: translated(value, into, depth + 1) or value for name, value in found.groupdict().items()}
            return translation.format_map(values)
    return None


@cache
def patterns(into: str, sign: str) -> list[tuple[re.Pattern[str], str]]:
    """Each sentence the rooms make, as a pattern of its English, with its translation; the most particular first.

    :param sign: what a value may consist of.
    """
    sentences: dict[str, str] = tomllib.loads((_HERE / "sentences.toml").read_text(encoding="utf-8"))[into]
    found = []
    for english in sorted(sentences, key=lambda text: len(_VALUE.sub("", text)), reverse=True):
        plain = re.escape(english).replace(r"\{", "{").replace(r"\}", "}")
        found.append((re.compile(_VALUE.sub(rf"(?P<\1>{sign}+?)", plain), re.S), sentences[english]))
    return found


def thousands(count: int | None) -> str:
    """A whole number, in groups of three digits."""
    return "–" if count is None else f"{count:,}"


def at(value: datetime | str) -> datetime:
    """A time, whether it comes as one or as RFC 3339 text."""
    return parse_time(value) if isinstance(value, str) else value.astimezone(UTC)


def moment(value: datetime | str | None, style: str = "day") -> Markup | str:
    """A time as ``<time>``: ``day`` shows date and time as short as they can be told, ``full`` everything, ``date`` the
    day alone. Pointing at it tells it in full, with the zone.
    """
    if not value:
        return "–"
    when = at(value)
    here = when.astimezone(zone())
    today = utc_now().astimezone(zone()).date()
    patterns = {
        "date": "yyyy-MM-dd",
        "full": "yyyy-MM-dd HH:mm:ss",
        "day": "HH:mm" if here.date() == today else "MM-dd HH:mm" if here.year == today.year else "yyyy-MM-dd HH:mm",
    }
    shown = format_datetime(when, patterns[style])
    whole = format_datetime(when, "yyyy-MM-dd HH:mm:ss") + " " + zone().key
    return Markup('<time datetime="{}" title="{}">{}</time>').format(format_time(when), whole, shown)


def iso(value: datetime | str) -> str:
    """A time as scripts read it: RFC 3339 in UTC."""
    return format_time(at(value))


def clock_time(value: datetime | str | None) -> str:
    """Hour and minute alone."""
    return format_datetime(at(value), "HH:mm") if value else "–"


def since(value: datetime | str | None) -> str:
    """How long ago, roughly: 5 min, 3 h, 2 d. Times to come have a minus."""
    if not value:
        return "–"
    return span(round((utc_now() - at(value)).total_seconds()))


def span(seconds: int) -> str:
    """A duration, roughly, in its largest fitting unit."""
    rest = abs(seconds)
    if rest < 90:
        shown = _("%(count)s s", count=rest)
    elif rest < 90 * 60:
        shown = _("%(count)s min", count=round(rest / 60))
    elif rest < 36 * 3600:
        shown = _("%(count)s h", count=round(rest / 3600))
    else:
        shown = _("%(count)s d", count=round(rest / 86400))
    return f"-{shown}" if seconds < 0 else str(shown)


@pages.post("/preferences")
@public("language and theme of this browser; tells nothing and is kept in the visitor's own cookie")
def preferences() -> Any:
    """Remember language and theme, and go on where one was."""
    for name, known in (("language", LANGUAGES), ("theme", THEMES)):
        if (chosen := request.form.get(name)) in known:
            keep(name, str(chosen))
    return redirect(way_back(request.form.get("next", "")), 303)


__all__ = ["LANGUAGES", "at", "clock_time", "iso", "language", "moment", "said", "since", "span", "word", "zone"]
