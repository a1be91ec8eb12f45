"""What a simulation says of itself: for people in tables, for machines as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from fieldsvc.demo.show import Story
from fieldsvc.simulate.check import Check, Found
from fieldsvc.simulate.play import Played

_SHOWN = 12
"""Findings shown of one check; the file has all of them."""


def as_json(played: Played, found: Found, checked: Sequence[Check]) -> dict[str, Any]:
    """Everything, JSON-ready."""
    options = played.world.options
    phones = played.phones
    ends = Counter(rows[0]["status"] for rows in found.inbox.values())
    happened = Counter(what for _, what in played.trouble.happened)
    if options.database == "sqlite":
        restarts: Any = "not applicable: SQLite has no server"
    else:
        restarts = happened["the database restarted"]
    return {
        "good": all(check.good for check in checked),
        "command": options.command,
        "devices": options.devices,
        "hours": options.hours,
        "seed": options.seed,
        "database": options.database,
        "seconds": {"play": round(played.seconds, 1), "settle": round(played.settled_s, 1)},
        "operations": len(found.written),
        "outcomes": dict(ends.most_common()),
        "line": dict(_sum(phone.line.faults for phone in phones).most_common()),
        "requests": sum(phone.line.calls for phone in phones),
        "answers": {str(status): n for status, n in sorted(_sum(p.tally.answers for p in phones).items())},
        "pushed": dict(_sum(phone.tally.statuses for phone in phones).most_common()),
        "habits": dict(_sum(phone.tally.habits for phone in phones).most_common()),
        "crashes": dict(_sum(phone.tally.crashes for phone in phones).most_common()),
        "fates": _fates(played),
        "resets": sum(phone.tally.resets for phone in phones),
        "repaired_by_manifest": sum(phone.tally.repaired for phone in phones),
        "servers": dict(happened.most_common()),
        "database_restarts": restarts,
        "office": dict(played.office.done.most_common()),
        "office_refused": dict(played.office.refused.most_common()),
        "history_entries": len(found.entries),
        "jobs": len(found.jobs),
        "checks": [asdict(check) | {"good": check.good} for check in checked],
        "samples": [asdict(sample) for sample in played.samples],
        "blows": [[round(seconds, 2), what] for seconds, what in played.trouble.happened],
    }


def _sum(counters: Any) -> Counter[Any]:
    total: Counter[Any] = Counter()
    for counter in counters:
        total.update(counter)
    return total


def _fates(played: Played) -> dict[str, int]:
    fates = [phone.fate for phone in played.phones]
    return {
        "lost and wiped": sum(phone.gone for phone in played.phones),
        "revoked by mistake, enrolled again": sum(fate.revoked is not None for fate in fates),
        "moved to another crew": sum(fate.moved is not None for fate in fates),
        "clock hours off": sum(abs(fate.error.total_seconds()) > 3600 for fate in fates),
        "clock set back two hours": sum(fate.set_back is not None for fate in fates),
        "switched off and on": sum(len(fate.reboots) for fate in fates),
        "hours without a line": sum(fate.away[1] > fate.away[0] for fate in fates),
    }


def tell(told: dict[str, Any], checked: Sequence[Check], story: Story) -> None:
    """The report for people."""
    story.section("What befell them")
    for title, name in (
        ("Lines", "line"),
        ("Phones", "fates"),
        ("Apps ended", "crashes"),
        ("Pushes", "habits"),
        ("Servers", "servers"),
        ("Office", "office"),
    ):
        listed = " · ".join(f"{count} × {what.replace('_', ' ')}" for what, count in told[name].items() if count)
        story.say(f"{title}: {listed or 'nothing'}")
    answers = ", ".join(f"{count} × {status}" for status, count in told["answers"].items())
    story.say(f"{told['requests']} requests of phones, answered {answers}")
    if told["database"] == "sqlite":
        story.say("Restart of the database: not applicable to SQLite")
    story.section("Is everything right?")
    for check in checked:
        story.mark(check.good, f"{check.name}: {check.text}")
        for finding in check.against[:_SHOWN]:
            story.warn(f"    {finding}")
        if len(check.against) > _SHOWN:
            story.warn(f"    and {len(check.against) - _SHOWN} more")
