"""Reads and checks rule packs. A pack with a fault stops the start: better no service than a wrong verdict.

A pack file says ``pack = "<name>"`` and holds ``[[entry]]`` tables, each with ``effective_from`` (a date), ``source``
and ``edition`` (text), the pack's keys (text; ``"*"`` where the pack allows any) and ``value``. Several files may feed
one pack.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from pathlib import Path
from typing import Any

from fieldsvc.base.merge import POLICIES
from fieldsvc.rules import dispatch
from fieldsvc.rules.book import Entry, RuleBook, RuleError, version_numbers

PACKS = Path(__file__).parent / "packs"

SITE_CLASSES = frozenset({"urban", "rural", "remote"})
IMPORTANCE = frozenset({"special", "first", "second", "none"})
GRADES = {
    "grid": frozenset({"critical", "serious", "general"}),
    "customer": frozenset({"emergency", "major", "general"}),
}
POINTS = frozenset("HWSR")
WEEKDAYS = frozenset({"mon", "tue", "wed", "thu", "fri", "sat", "sun"})
_CLOCK = re.compile(r"(?:[01]\d|2[0-3]):[0-5]\d", re.ASCII)


_further: list[Path] = []


def read_also(folder: Path | None) -> RuleBook:
    """Let :func:`load` read the packs of ``folder``, too (None: of none): editions that an operator has put into force.

    The composition root says so once, before anything is asked.

    :raises RuleError: there is none, or one has a fault.
    """
    _further[:] = [folder] if folder else []
    return load()


def load() -> RuleBook:
    """The packs that come with the package, and those of :func:`read_also`; read once per process.

    :raises RuleError: a pack is missing or has a fault.
    """
    return _load(*_further)


@lru_cache(maxsize=8)
def _load(*further: Path) -> RuleBook:
    return load_folder(PACKS, *further)


def load_folder(*folders: Path) -> RuleBook:
    """All ``*.toml`` packs of the folders as one book.

    :raises RuleError: a folder without a pack, or a fault; the message names file and entry.
    """
    entries: dict[str, list[Entry]] = {}
    files: list[Path] = []
    for folder in folders:
        found_here = sorted(folder.glob("*.toml"))
        if not found_here:
            raise RuleError(f"{folder.name}: no rule packs here")
        files += found_here
    for file in files:
        pack, found = _read(file)
        entries.setdefault(pack, []).extend(found)
    _refuse_duplicates(entries)
    return RuleBook(entries)


def _read(file: Path) -> tuple[str, list[Entry]]:
    try:
        content = tomllib.loads(file.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise RuleError(f"{file.name}: cannot be read: {error}") from None
    name = content.pop("pack", None)
    shape = SHAPES.get(name) if isinstance(name, str) else None
    if shape is None:
        raise RuleError(f"{file.name}: pack must be one of {', '.join(sorted(SHAPES))}, not {name!r}")
    listed = content.pop("entry", None)
    if content:
        raise RuleError(f"{file.name}: unknown member {sorted(content)[0]!r}")
    if not isinstance(listed, list) or not listed:
        raise RuleError(f"{file.name}: needs at least one [[entry]]")
    return str(name), [_entry(f"{file.name} entry {number}", table, shape) for number, table in enumerate(listed, 1)]


def _entry(where: str, table: Any, shape: Shape) -> Entry:
    if not isinstance(table, dict):
        raise RuleError(f"{where}: must be a table")
    known = {*shape.keys, "effective_from", "source", "edition", "value"}
    for member in table:
        if member not in known:
            raise RuleError(f"{where}: unknown member {member!r}")
    since = table.get("effective_from")
    if not isinstance(since, date) or isinstance(since, datetime):
        raise RuleError(f"{where}: effective_from must be a date such as 2026-01-01")
    texts = {}
    for member in ("source", "edition"):
        text = table.get(member)
        if not isinstance(text, str) or not text.strip():
            raise RuleError(f"{where}: {member} must be given, in words")
        texts[member] = text
    keys = {}
    for key in shape.keys:
        text = table.get(key)
        if not isinstance(text, str) or not text:
            raise RuleError(f"{where}: {key} must be given as text")
        keys[key] = text
    if "value" not in table:
        raise RuleError(f"{where}: value is missing")
    fault = shape.fault(keys, table["value"])
    if fault:
        raise RuleError(f"{where}: {fault}")
    return Entry(keys, table["value"], texts["source"], since, texts["edition"], where)


def _refuse_duplicates(entries: dict[str, list[Entry]]) -> None:
    for found in entries.values():
        seen: dict[Any, str] = {}
        for entry in found:
            ident = (*sorted(entry.keys.items()), entry.effective_from)
            if ident in seen:
                raise RuleError(f"{entry.where}: says the same as {seen[ident]}: same keys, same effective_from")
            seen[ident] = entry.where
    versions: dict[tuple[str, int], str] = {}
    for entry in entries.get("checklists", ()):
        version = (entry.value["name"], entry.value["version"])
        if version in versions:
            raise RuleError(f"{entry.where}: {version[0]} version {version[1]} is in {versions[version]} already")
        versions[version] = entry.where


def _whole(value: Any, least: int = 0, most: int = 1_000_000) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
        return None
    return f"value must be a whole number from {least} to {most}, not {value!r}"


def _among(name: str, value: str, choices: frozenset[str], any_too: bool = False) -> str | None:
    if value in choices or (any_too and value == "*"):
        return None
    return f"{name} must be one of {', '.join(sorted(choices))}, not {value!r}"


def _promise(keys: dict[str, str], value: Any) -> str | None:
    if not keys["promise"].endswith(("_minutes", "_days")):
        return "promise must end in its unit, _minutes or _days"
    return _among("site_class", keys["site_class"], SITE_CLASSES, any_too=True) or _whole(value)


def _policy(_keys: dict[str, str], value: Any) -> str | None:
    return _among("value", value, POLICIES) if isinstance(value, str) else "value must name a policy"


def _cycle(keys: dict[str, str], value: Any) -> str | None:
    if keys["min_kv"] != "*" and _not_decimal(keys["min_kv"]):
        return f"min_kv must be a number of kV as text, or *, not {keys['min_kv']!r}"
    return _among("importance", keys["importance"], IMPORTANCE, any_too=True) or _whole(value, 1, 600)


def _defect(keys: dict[str, str], value: Any) -> str | None:
    scheme = keys["scheme"]
    return (
        _among("scheme", scheme, frozenset(GRADES))
        or _among("grade", keys["grade"], GRADES[scheme])
        or _whole(value, 0, 3650)
    )


def _tolerance(_keys: dict[str, str], value: Any) -> str | None:
    if isinstance(value, str):
        return f"value must be a decimal in text, not {value!r}" if _not_decimal(value) else None
    return _whole(value)


def _service(_keys: dict[str, str], value: Any) -> str | None:
    if not isinstance(value, dict) or set(value) != {"minutes", "skill"}:
        return "value must be {minutes, skill}"
    if not isinstance(value["skill"], str) or not value["skill"]:
        return "skill must be a name"
    return _whole(value["minutes"], 1, 1440)


def _speed(keys: dict[str, str], value: Any) -> str | None:
    return _among("site_class", keys["site_class"], SITE_CLASSES) or _whole(value, 1, 150)


def _driving(keys: dict[str, str], value: Any) -> str | None:
    least = {"detour_factor": "1", "free_flow_factor": "0.1", "access_kmh": "1", "network_reach_m": "0"}
    fault = _among("name", keys["name"], frozenset(least)) or _tolerance(keys, value)
    if fault is None and Decimal(value) < Decimal(least[keys["name"]]):
        return f"{keys['name']} must be at least {least[keys['name']]}"
    return fault


def _hold(_keys: dict[str, str], value: Any) -> str | None:
    return _whole(value, 1, 24 * 366)


def _app(keys: dict[str, str], value: Any) -> str | None:
    if not isinstance(value, str) or version_numbers(value) is None:
        return f'value must be a version in text such as "2.10", not {value!r}'
    return _among("of", keys["of"], frozenset({"app", "schema"})) or _among(
        "level", keys["level"], frozenset({"soft_eol", "hard_eol"})
    )


def _checklist(_keys: dict[str, str], value: Any) -> str | None:
    if not isinstance(value, dict):
        return "value must be a table"
    for name in ("name", "title", "title_zh"):
        if not isinstance(value.get(name), str) or not value[name]:
            return f"value.{name} must be given as text"
    fault = _whole(value.get("version"), 1)
    if fault:
        return f"version: {fault}"
    stages = value.get("stages")
    if not isinstance(stages, list) or not stages:
        return "value.stages must list at least one stage"
    codes: set[str] = set()
    for stage in stages:
        fault = _stage(stage, codes)
        if fault:
            return fault
    return None


def _stage(stage: Any, codes: set[str]) -> str | None:
    if not isinstance(stage, dict) or not isinstance(stage.get("items"), list) or not stage["items"]:
        return "every stage needs items"
    for line in (stage, *stage["items"]):
        if not isinstance(line, dict):
            return "every item must be a table"
        for name in ("code", "title", "title_zh"):
            if not isinstance(line.get(name), str) or not line[name]:
                return f"stage {stage.get('code')!r}: {name} must be given as text"
        if line["code"] in codes:
            return f"code {line['code']!r} stands twice"
        codes.add(line["code"])
    for item in stage["items"]:
        if item.get("point") not in POINTS:
            return f"item {item['code']!r}: point must be H, W, S or R"
        scheme, grade = item.get("grade_scheme"), item.get("grade")
        if (scheme is None) != (grade is None) or (scheme is not None and grade not in GRADES.get(str(scheme), ())):
            return f"item {item['code']!r}: grade_scheme and grade do not fit together"
    return None


def _windows(keys: dict[str, str], value: Any) -> str | None:
    if not isinstance(value, list) or not value:
        return "value must list at least one span of hours"
    for hours in value:
        if not isinstance(hours, dict) or not {"from", "to"} <= set(hours) <= {"from", "to", "days"}:
            return "hours must be {from, to}, and days where they are not every day's"
        if not all(isinstance(hours[side], str) and _CLOCK.fullmatch(hours[side]) for side in ("from", "to")):
            return 'from and to must be times of the day such as "22:00"'
        days = hours.get("days", ["mon"])
        if not isinstance(days, list) or not days or not set(days) <= WEEKDAYS:
            return f"days must be a list of {', '.join(sorted(WEEKDAYS))}"
    return _among("importance", keys["importance"], IMPORTANCE, any_too=True)


def _planned_work(keys: dict[str, str], value: Any) -> str | None:
    if keys["name"].endswith("_shift"):
        begin, _, end = value.partition("-") if isinstance(value, str) else ("", "", "")
        if _CLOCK.fullmatch(begin) and _CLOCK.fullmatch(end) and begin != end:
            return None
        return f'value must be hours such as "08:00-18:00", not {value!r}'
    return _whole(value, 0, 3650)


_STORM_LISTS = frozenset({"kinds", "never"})
_STORM_REASONS = frozenset({"same_transformer_area", "same_feeder", "near_in_space_and_time"})


def _storm(keys: dict[str, str], value: Any) -> str | None:
    rule = keys["rule"]
    if rule in _STORM_LISTS:
        fine = isinstance(value, list) and all(isinstance(name, str) and name for name in value)
        return None if fine else "value must be a list of names"
    if fault := _among("rule", rule, _STORM_REASONS | _STORM_LISTS | {"surge"}):
        return fault
    if rule == "surge":
        if not isinstance(value, dict) or set(value) != {"minutes", "calls"}:
            return "value must be {calls, minutes}"
        return _whole(value["minutes"], 1, 1440) or _whole(value["calls"], 2, 100_000)
    needed = {"minutes", "propose"} | ({"metres"} if rule == "near_in_space_and_time" else set())
    if not isinstance(value, dict) or not needed <= set(value) <= needed | {"merge"}:
        return f"value must be {{{', '.join(sorted(needed))}}} and may have merge"
    if fault := _whole(value["minutes"], 1, 1440) or _whole(value["propose"], 2, 10_000):
        return fault
    if "metres" in value and (fault := _whole(value["metres"], 1, 5000)):
        return fault
    return _whole(value["merge"], value["propose"], 10_000) if "merge" in value else None


def _not_decimal(text: str) -> bool:
    try:
        number = Decimal(text)
    except InvalidOperation:
        return True
    return not number.is_finite() or number < 0


@dataclass(frozen=True, slots=True)
class Shape:
    """What a pack is asked by, and what is wrong with an entry (None: nothing)."""

    keys: tuple[str, ...]
    fault: Callable[[dict[str, str], Any], str | None]


SHAPES: dict[str, Shape] = {
    "promises": Shape(("promise", "site_class"), _promise),
    "policies": Shape(("entity", "kind", "field"), _policy),
    "cycles": Shape(("importance", "min_kv", "customer_class"), _cycle),
    "defects": Shape(("scheme", "grade"), _defect),
    "tolerances": Shape(("name",), _tolerance),
    "service": Shape(("kind",), _service),
    "speeds": Shape(("site_class",), _speed),
    "driving": Shape(("name",), _driving),
    "holds": Shape(("op_kind",), _hold),
    "apps": Shape(("of", "platform", "level"), _app),
    "checklists": Shape(("kind",), _checklist),
    "windows": Shape(("kind", "customer_class", "importance"), _windows),
    "planned_work": Shape(("name",), _planned_work),
    "dispatch": Shape(("of", "name"), dispatch.fault),
    "storms": Shape(("rule",), _storm),
}
