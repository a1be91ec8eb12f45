"""Verdicts on crews as sentences a dispatcher would say, with the numbers they are made of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, tzinfo
from typing import Any, NamedTuple

from fieldsvc.geo.model import PlanJob, Window
from fieldsvc.geo.routes import Fault


class Said(NamedTuple):
    """A sentence and its numbers."""

    words: str
    numbers: Mapping[str, Any]


class Later(NamedTuple):
    """Another job that would begin ``later_min`` later than without the job, and be late by ``late_min`` then.

    ``number`` is empty for one the reader may not see.
    """

    number: str
    begin_at: datetime
    later_min: float
    late_min: float

    def row(self) -> dict[str, Any]:
        return {
            "job_number": self.number or None,
            "begin_at": self.begin_at,
            "later_min": round(self.later_min, 1),
            "late_min": round(self.late_min, 1),
        }


def at(moment: datetime, now: datetime, zone: tzinfo) -> str:
    """A time as it is said: the time of day, with the date on any other day than today."""
    local, today = moment.astimezone(zone), now.astimezone(zone).date()
    return f"{local:%H:%M}" if local.date() == today else f"{local:%H:%M} on {local:%Y-%m-%d}"


def minutes(value: float) -> str:
    return f"{value:.1f} min"


def _adds(numbers: Mapping[str, Any]) -> str:
    """Driving more or, as ways there and back differ, less."""
    return f"{'adds' if numbers['added_min'] >= 0 else 'saves'} {minutes(abs(numbers['added_min']))}"


def _driving(numbers: Mapping[str, Any]) -> str:
    more = "more" if numbers["added_min"] >= 0 else "less"
    return f"{minutes(abs(numbers['added_min']))} of driving {more} ({numbers['added_km']:+.1f} km)"


def km(metres: float) -> str:
    return f"{metres / 1000:.1f} km"


def listed(words: Collection[str]) -> str:
    return ", ".join(sorted(words)) or "none"


def pinned_elsewhere(code: str) -> Said:
    return Said(f"{code} cannot have it: a dispatcher has pinned the job to another crew", {})


def not_active(code: str) -> Said:
    return Said(f"{code} is not active", {})


def off_shift(code: str, until: datetime | None, now: datetime, zone: tzinfo) -> Said:
    span = f" until {at(until, now, zone)}" if until else ""
    return Said(f"{code} has no shift from now{span}", {"until": until})


def no_base(code: str) -> Said:
    return Said(f"{code} has neither a base nor a known position, so no way can be measured", {})


def lacks(code: str, what: str, needed: Collection[str], has: Collection[str]) -> Said:
    missing = sorted(set(needed) - set(has))
    numbers = {"missing": missing, "needed": sorted(needed), "has": sorted(has)}
    return Said(f"{code} lacks {listed(missing)} ({what} needed: {listed(needed)}; it has: {listed(has)})", numbers)


def territory(code: str, away_m: float | None, help_out_m: float | None) -> Said:
    words = f"{code} does not serve the territory of the job"
    if help_out_m == 0:
        words += " and does not help out beyond its own"
    elif away_m is not None and help_out_m is not None:
        words += f", and {km(away_m)} beyond its own is farther than the {km(help_out_m)} it may help out"
    return Said(words, {"away_m": _whole(away_m), "help_out_m": _whole(help_out_m)})


def _whole(value: float | None) -> int | None:
    return None if value is None else round(value)


def second_crew(code: str, number: str) -> Said:
    other = number or "the job it belongs to"
    return Said(
        f"{code} has {other} already, which takes a second crew at the same time", {"job_number": number or None}
    )


def capacity(code: str, most: int, held: int, load: int) -> Said:
    words = f"{code} takes {most} units of load along and holds {held}; the job needs {load}, {most - held} are left"
    return Said(words, {"capacity": most, "held": held, "needed": load})


def fault(code: str, job: PlanJob, found: Fault, now: datetime, zone: tzinfo) -> tuple[str, Said]:
    """The rule and the sentence of what a route with the job in it would break."""
    mine = found.job is None or found.job.id == job.id
    rule = "others_window" if found.rule == "window" and not mine else found.rule
    other = (found.job.number if found.job else "") or "another job of its route"
    numbers: dict[str, Any] = {"would": found.would, "limit": found.limit}
    if found.job is not None and not mine:
        numbers["job_number"] = found.job.number or None
    if found.would is None or found.limit is None:
        first = "the one it has to follow" if mine else other
        words = {
            "unreachable": f"there is no way for {code} to the job and on to its next stop",
            "follows": f"{code} would do the job before {first}",
        }[rule]
        return rule, Said(words, numbers)
    numbers["excess_min"] = round(found.excess_min, 1)
    would, limit = at(found.would, now, zone), at(found.limit, now, zone)
    words = {
        "window": f"{code} could be there at {would} at the earliest, the window closes at {limit}",
        "others_window": f"with it {code} would be at {other} at {would}, whose window closes at {limit}",
        "outranked": f"with it {code} would begin {other}, which goes before it, at {would}, later than {limit}",
        "break": f"with it {code} would begin its break at {would}, which has to begin by {limit}",
        "shift_end": f"with it {code} would be done at {would}, its shift ends at {limit}",
    }[rule]
    return rule, Said(words, numbers)


_RULED_OUT: Mapping[str, tuple[str, str]] = {
    "pinned_elsewhere": ("is ruled out by a pin to another crew", "are ruled out by a pin to another crew"),
    "not_active": ("is not active", "are not active"),
    "off_shift": ("is off shift", "are off shift"),
    "no_base": ("has no base or position", "have no base or position"),
    "territory": ("serves other territories", "serve other territories"),
    "second_crew": ("has the other half of the work", "have the other half of the work"),
    "capacity": ("has no room for its load", "have no room for its load"),
    "unreachable": ("has no way to it", "have no way to it"),
    "follows": ("would do it in the wrong order", "would do it in the wrong order"),
    "outranked": ("is bound to work that goes before it", "are bound to work that goes before it"),
    "window": ("cannot be there in its window", "cannot be there in its window"),
    "others_window": ("is bound to the windows of other jobs", "are bound to the windows of other jobs"),
    "break": ("has no time beside its break", "have no time beside their breaks"),
    "shift_end": ("has too little time left in its shift", "have too little time left in their shifts"),
}


def ruled_out(refusals: Iterable[tuple[str, Mapping[str, Any]]]) -> str:
    """``3 crews lack metering, 2 are off shift``: rule and numbers of each refusal, the most frequent first."""
    told = Counter(_ruled_out(rule, numbers) for rule, numbers in refusals)
    parts: list[str] = []
    for (one, many), count in sorted(told.items(), key=lambda found: (-found[1], found[0])):
        who = "" if parts else ("crew " if count == 1 else "crews ")
        parts.append(f"{count} {who}{one if count == 1 else many}")
    return ", ".join(parts)


def _ruled_out(rule: str, numbers: Mapping[str, Any]) -> tuple[str, str]:
    lacking = listed(numbers["missing"]) if "missing" in numbers else ""
    return (f"lacks {lacking}", f"lack {lacking}") if lacking else _RULED_OUT[rule]


def beside_driving(said: Said, mine: Mapping[str, float], holder: Said | None) -> Said:
    """A refusal with the driving the job would add all the same, beside that of the crew that has it."""
    theirs = f"; {holder.words}, which has it, {_adds(holder.numbers)}" if holder else ""
    words = f"{said.words}; it would take {_driving(mine)}{theirs}"
    return Said(words, {**said.numbers, **mine})


def possible(rule: str, one: Said, holder: Said | None, now: datetime, zone: tzinfo) -> str:
    """What a crew that could do the job would take for it, beside ``holder``, which has it. ``words``: their codes."""
    code, mine = one
    told = f"{code} {'has it' if rule == 'has_it' else 'could'}: {_costs(mine, now, zone)}"
    if holder is None:
        return told
    theirs = holder.numbers
    beside = {
        "later_begin": f"{holder.words}, which has it, begins at {at(theirs['begin_at'], now, zone)}",
        "more_late": f"{holder.words}, which has it, {_punctual(theirs)}",
        "more_driving": f"{holder.words}, which has it, {_adds(theirs)}",
        "helping_out": f"{holder.words}, which has it, {_adds(theirs)} in a territory of its own",
        "one_more_crew": f"{holder.words}, which has it, is out anyway",
        "better_now": f"taken alone that is better than what {holder.words} takes, which has it: "
        f"{_costs(theirs, now, zone)}",
    }[rule]
    return f"{told}; {beside}"


def _costs(numbers: Mapping[str, Any], now: datetime, zone: tzinfo) -> str:
    parts = [
        f"begins at {at(numbers['begin_at'], now, zone)} as stop {numbers['stop']} of {numbers['stops']}",
        _driving(numbers),
    ]
    if numbers["late_min"]:
        parts.append(f"{minutes(numbers['late_min'])} late")
    for more in numbers["makes_late"]:
        parts.append(f"{more['job_number'] or 'another job'} would be {minutes(more['late_min'])} late")
    if numbers["helps_out"]:
        parts.append("helping out beyond its own territories")
    if numbers["overtime_min"]:
        parts.append(f"{minutes(numbers['overtime_min'])} of overtime")
    return ", ".join(parts)


def _punctual(numbers: Mapping[str, Any]) -> str:
    if numbers["late_min"]:
        return f"is {minutes(numbers['late_min'])} late"
    return "makes others less late" if numbers["makes_late"] else "keeps every promise"


def no_shift_at(code: str, begin: datetime, now: datetime, zone: tzinfo) -> str:
    return f"{code} has no shift at {at(begin, now, zone)}"


def past(begin: datetime, now: datetime, zone: tzinfo) -> str:
    return f"{at(begin, now, zone)} has passed"


def outside(begin: datetime, window: Window, now: datetime, zone: tzinfo) -> str:
    opens, closes = at(window.start, now, zone), at(window.end, now, zone)
    return f"{at(begin, now, zone)} lies outside of its window, in which work begins from {opens} to {closes}"


def not_there_yet(code: str, arrives: datetime, begin: datetime, now: datetime, zone: tzinfo) -> str:
    return f"{code} could be there at {at(arrives, now, zone)} at the earliest, not at {at(begin, now, zone)}"


def late(begin: datetime, due: datetime, now: datetime, zone: tzinfo) -> str:
    return f"it would begin at {at(begin, now, zone)}, promised is {at(due, now, zone)}"


def makes_late(number: str | None, late_min: float) -> str:
    return f"{number or 'another job'} would be {minutes(late_min)} late"


def beyond_its_own(code: str) -> str:
    return f"{code} would be helping out beyond its own territories"


def overtime(code: str, over_min: float) -> str:
    return f"{code} would work {minutes(over_min)} of overtime"


def overlap(code: str, number: str | None, begin: datetime, end: datetime, now: datetime, zone: tzinfo) -> str:
    span = f"from {at(begin, now, zone)} to {at(end, now, zone)}"
    return f"{code} has {number or 'another job'} planned {span}"


def pinned_to(code: str, begin: datetime | None, now: datetime, zone: tzinfo) -> str:
    when = f" at {at(begin, now, zone)}" if begin else ""
    return f"a dispatcher has pinned it to {code}{when}: the pin would go"


def on_its_way(code: str, number: str) -> str:
    return f"{code} is on its way to {number}"


def without_place() -> str:
    return "the job has no place on the map, so no way can be measured"


def no_territory() -> str:
    return "the job lies in no territory"
