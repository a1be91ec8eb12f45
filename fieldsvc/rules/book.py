"""What the rule packs answer: one question per method, each answer with its source and edition."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from fieldsvc.rules import dispatch
from fieldsvc.rules.dispatch import DispatchRules


class RuleError(ValueError):
    """A pack that cannot be used; the message names file, entry and fault."""


class NoRule(LookupError):
    """Nothing on file answers the question for that date; the message repeats the question."""


@dataclass(frozen=True, slots=True)
class RuleAnswer:
    """One answer: the value, and what makes it checkable later."""

    value: Any
    source: str
    effective_from: date
    edition: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a pack. ``keys`` are what it is asked by, in the pack's own order of names."""

    keys: Mapping[str, str]
    value: Any
    source: str
    effective_from: date
    edition: str
    where: str

    def answer(self) -> RuleAnswer:
        return RuleAnswer(self.value, self.source, self.effective_from, self.edition)


_KV = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*(k?v)?\s*\Z", re.IGNORECASE)


def kilovolts(voltage: str | float | int | None) -> float | None:
    """A voltage level in kV: ``"10 kV"``, ``"10"`` and 10 are ten, ``"220V"`` is 0.22; None when unreadable."""
    if isinstance(voltage, (int, float)):
        return float(voltage)
    match = _KV.match(voltage or "")
    if not match:
        return None
    return float(match[1]) / (1000 if (match[2] or "").lower() == "v" else 1)


_VERSION = re.compile(r"\s*v?([0-9]+(?:\.[0-9]+)*)", re.IGNORECASE)


def version_numbers(version: str | None) -> tuple[int, ...] | None:
    """The numbers a version begins with, to be compared: ``"2.10.0-rc1"`` is (2, 10), above ``"2.9"``; None when there
    are none.
    """
    match = _VERSION.match(version or "")
    if not match:
        return None
    numbers = [int(number) for number in match[1].split(".")]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def _checklist(entry: Entry) -> RuleAnswer:
    return RuleAnswer({**entry.value, "kind": entry.keys["kind"]}, entry.source, entry.effective_from, entry.edition)


class RuleBook:
    """All packs, asked by question. ``on`` is the date the question is about, not today.

    Every answer is a :class:`RuleAnswer`. Where no entry was in force on that date, :class:`NoRule` is raised.
    """

    def __init__(self, entries: Mapping[str, Iterable[Entry]]) -> None:
        self._entries: dict[str, tuple[Entry, ...]] = {
            pack: tuple(sorted(found, key=lambda entry: entry.effective_from)) for pack, found in entries.items()
        }
        self._begins = sorted({entry.effective_from for entry in self._entries.get("policies", ())})
        self._versions: dict[date, str] = {}

    def _in_force(self, pack: str, on: date, **keys: str) -> list[Entry]:
        """The newest edition on that date for every distinct set of keys that agrees with ``keys``."""
        newest: dict[tuple[tuple[str, str], ...], Entry] = {}
        for entry in self._entries.get(pack, ()):
            if entry.effective_from <= on and all(entry.keys.get(name) == want for name, want in keys.items()):
                newest[tuple(sorted(entry.keys.items()))] = entry
        return list(newest.values())

    def _one(self, pack: str, on: date, **keys: str) -> RuleAnswer:
        found = self._in_force(pack, on, **keys)
        if not found:
            asked = ", ".join(f"{name} {value}" for name, value in keys.items())
            raise NoRule(f"no rule in {pack} for {asked} on {on.isoformat()}")
        return found[0].answer()

    def promises(self, on: date, site_class: str) -> dict[str, RuleAnswer]:
        """What is promised for places of ``site_class``: name of the promise → answer.

        The name ends in the unit of the value: ``arrival_minutes``, ``restoration_minutes``,
        ``dispute_answer_working_days``, ``new_supply_visit_days``, ``reconnection_days``.
        """
        everywhere = self._in_force("promises", on, site_class="*")
        here = self._in_force("promises", on, site_class=site_class)
        return {entry.keys["promise"]: entry.answer() for entry in (*everywhere, *here)}

    def policy(self, entity: str, field: str, on: date, kind: str = "*") -> RuleAnswer:
        """The merge policy for a field of ``entity``, for a kind of job where it has one of its own; a field without an
        entry gets the entity's ``*``.
        """
        for key in (field, "*"):
            for asked in (kind, "*"):
                if found := self._in_force("policies", on, entity=entity, kind=asked, field=key):
                    return found[0].answer()
        raise NoRule(f"no rule in policies for entity {entity}, field {field} on {on.isoformat()}")

    def policies(self, entity: str, on: date, kind: str = "*") -> dict[str, str]:
        """Field → policy for an entity, as ``base.merge`` takes it; ``"*"`` is for every other field."""
        everywhere = self._in_force("policies", on, entity=entity, kind="*")
        here = self._in_force("policies", on, entity=entity, kind=kind)
        return {entry.keys["field"]: entry.value for entry in (*everywhere, *here)}

    def policy_version(self, on: date) -> str:
        """Names the edition of all merge policies in force on that date: when its newest entry came into force, and the
        beginning of a digest over what they say, such as ``2026-01-01.9f86d081``. ``none``: there were none.
        """
        begins = [begin for begin in self._begins if begin <= on]
        if not begins:
            return "none"
        if begins[-1] not in self._versions:
            found = sorted([*sorted(entry.keys.items()), entry.value] for entry in self._in_force("policies", on))
            digest = hashlib.sha256(json.dumps(found).encode()).hexdigest()
            self._versions[begins[-1]] = f"{begins[-1].isoformat()}.{digest[:8]}"
        return self._versions[begins[-1]]

    def cycle_months(
        self, importance: str, voltage: str | float | int | None, customer_class: str, on: date
    ) -> RuleAnswer:
        """Months between safety inspections: the strictest of the entries that apply.

        An entry applies when each condition it states (importance grade, least voltage in kV, customer class) holds.
        """
        kv = kilovolts(voltage)

        def applies(entry: Entry) -> bool:
            least = entry.keys["min_kv"]
            return (
                entry.keys["importance"] in ("*", importance)
                and entry.keys["customer_class"] in ("*", customer_class)
                and (least == "*" or (kv is not None and kv >= float(least)))
            )

        found = [entry for entry in self._in_force("cycles", on) if applies(entry)]
        if not found:
            raise NoRule(f"no rule in cycles for {importance}, {voltage}, {customer_class} on {on.isoformat()}")
        return min(found, key=lambda entry: int(entry.value)).answer()

    def defect_deadline_days(self, scheme: str, grade: str, on: date) -> RuleAnswer:
        """Days in which a defect must be put right. Schemes: ``grid`` and ``customer``, each with its grades."""
        return self._one("defects", on, scheme=scheme, grade=grade)

    def grades(self, scheme: str, on: date) -> tuple[str, ...]:
        """The grades of a defect scheme, the gravest (shortest deadline) first."""
        found = sorted(self._in_force("defects", on, scheme=scheme), key=lambda entry: int(entry.value))
        return tuple(entry.keys["grade"] for entry in found)

    def tolerance(self, name: str, on: date) -> RuleAnswer:
        """A limit by name. Values are decimal strings or whole numbers; the name ends in the unit."""
        return self._one("tolerances", on, name=name)

    def service(self, kind: str, on: date) -> RuleAnswer:
        """``{"minutes": planned time on site, "skill": name}`` for a job kind."""
        return self._one("service", on, kind=kind)

    def speed_kmh(self, site_class: str, on: date) -> RuleAnswer:
        """Driving speed for planning, in km/h over the geodesic distance times the road factor."""
        return self._one("speeds", on, site_class=site_class)

    def driving(self, name: str, on: date) -> RuleAnswer:
        """How driving is reckoned, a decimal in text or a whole number: ``detour_factor`` (driven way over straight
        line), ``free_flow_factor`` (real time over that of empty roads), ``access_kmh`` (between a place and the road),
        ``network_reach_m`` (a place further from every road is not on the network).
        """
        return self._one("driving", on, name=name)

    def holds(self, on: date) -> dict[str, RuleAnswer]:
        """Hours an operation may be held for what is missing before it: operation kind → answer, ``*``: others."""
        return {entry.keys["op_kind"]: entry.answer() for entry in self._in_force("holds", on)}

    def end_of_life(self, of: str, version: str | None, platform: str, on: date) -> str:
        """``ok``, ``soft_eol`` or ``hard_eol``: how a version of ``of`` (app, schema) stands on ``platform``.

        What cannot be read as a version is ``ok``: nobody is locked out for the way he writes a number.
        """
        numbers = version_numbers(version)
        if numbers is None:
            return "ok"
        everywhere = self._in_force("apps", on, of=of, platform="*")
        here = self._in_force("apps", on, of=of, platform=platform)
        lowest = {entry.keys["level"]: version_numbers(entry.value) or () for entry in (*everywhere, *here)}
        return next((level for level in ("hard_eol", "soft_eol") if numbers < lowest.get(level, ())), "ok")

    def windows(self, kind: str, customer_class: str, importance: str, on: date) -> RuleAnswer | None:
        """At what hours a kind of work may be done at such a customer's; None: at any time.

        ``value`` is a list of ``{from, to, days}``: local times such as ``"22:00"``, and the weekdays (``mon`` to
        ``sun``) on which a span begins; without ``days`` on every day. Of the entries that apply, the one that names
        most decides: the kind before the class before the importance grade.
        """
        asked = {"kind": kind, "customer_class": customer_class, "importance": importance}
        found = [
            entry
            for entry in self._in_force("windows", on)
            if all(entry.keys[name] in ("*", wanted) for name, wanted in asked.items())
        ]
        named = [tuple(entry.keys[name] != "*" for name in asked) for entry in found]
        return found[named.index(max(named))].answer() if found else None

    def planned_work(self, name: str, on: date) -> RuleAnswer:
        """What planned work is planned with, by name: hours (``…_shift``: ``"08:00-18:00"``), else a whole number."""
        return self._one("planned_work", on, name=name)

    def dispatch(self, on: date) -> DispatchRules:
        """The rules a plan is made by: hard ones, ranks of jobs, what is weighed; all that must be there is there."""
        found = self._in_force("dispatch", on)
        said = {of: {e.keys["name"]: e.value for e in found if e.keys["of"] == of} for of in ("hard", "tier", "goal")}
        missing = sorted((dispatch.HARD - said["hard"].keys()) | (dispatch.GOALS - said["goal"].keys()))
        if missing or not said["tier"]:
            raise NoRule(f"no rule in dispatch for {(missing or ['any tier'])[0]} on {on.isoformat()}")
        sources = {f"{e.keys['of']}.{e.keys['name']}": f"{e.source} ({e.edition})" for e in found}
        return DispatchRules(said["hard"], said["tier"], said["goal"], sources)

    def storms(self, on: date) -> dict[str, RuleAnswer]:
        """When calls are taken for one fault, by the name of the rule.

        ``same_transformer_area``, ``same_feeder`` and ``near_in_space_and_time``: ``{minutes, propose, merge, metres}``
        (``merge`` may be missing: never by itself; ``metres`` is of the last one only). ``kinds``: the kinds of job
        that merge at all; ``never``: trouble codes that do not. ``surge``: ``{minutes, calls}``, from how many calls on
        in how many minutes it is a storm for those who take them in.
        """
        return {entry.keys["rule"]: entry.answer() for entry in self._in_force("storms", on)}

    def checklist(self, kind: str, on: date) -> RuleAnswer:
        """The checklist of a job kind in force on that date; ``value`` is
        ``{name, version, kind, title, title_zh, stages: [{code, title, title_zh, items: [{code, title, title_zh,
        point: H|W|S|R, grade_scheme, grade}]}]}``. ``grade_scheme`` and ``grade`` may be missing.
        """
        found = self._in_force("checklists", on, kind=kind)
        if not found:
            raise NoRule(f"no rule in checklists for kind {kind} on {on.isoformat()}")
        return _checklist(found[0])

    def checklist_version(self, name: str, version: int) -> RuleAnswer:
        """One version of a checklist by its name, whenever it was in force: old records are judged by their own."""
        for entry in self._entries.get("checklists", ()):
            if entry.value["name"] == name and entry.value["version"] == version:
                return _checklist(entry)
        raise NoRule(f"no checklist {name} version {version}")

    def checklists(self) -> tuple[RuleAnswer, ...]:
        """Every version of every checklist, oldest first."""
        return tuple(_checklist(entry) for entry in self._entries.get("checklists", ()))
