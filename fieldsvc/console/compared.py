"""Two accounts side by side: what a device had seen, what its crew did, what stands on record, line by line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from flask_babel import gettext as _

from fieldsvc.base.merge import same
from fieldsvc.console.words import language, word
from fieldsvc.sync.foresight import Beside

_LEFT_OUT = frozenset({"assignment_rev", "attention", "evidence", "field_revs", "photos", "position", "result"})
_ABOUT = ("status", "crew_id")
"""What is shown of a job beside the fields that differ, where it has changed since."""
_NAMED_BY = ("code", "number", "defect_id")
"""Members that tell the entries of a list apart."""
NOTHING = object()
"""Where a side says nothing at all."""


@dataclass(frozen=True)
class Line:
    """One thing with its three values, :data:`NOTHING` where a side does not speak of it.

    ``changed``: the crew set another value than it had seen; ``moved``: somebody else did since, ``by`` and ``at`` say
    who and when; ``differs``: the crew's value is not the one on record. ``chosen`` is the side the rules took, by
    ``policy``, when the record still had ``then``. ``failed``: an item of a checklist that did not pass.
    """

    name: str
    path: str
    base: Any = NOTHING
    device: Any = NOTHING
    record: Any = NOTHING
    then: Any = NOTHING
    changed: bool = False
    moved: bool = False
    differs: bool = False
    by: Mapping[str, Any] | None = None
    at: str | None = None
    policy: str | None = None
    chosen: str | None = None
    failed: bool = False

    @property
    def order(self) -> int:
        """What a dispatcher has to look at comes first."""
        return 0 if self.differs or self.moved else 1 if self.failed else 2


def lines(
    sent: Mapping[str, Any],
    record: Mapping[str, Any] | None,
    seen: Mapping[str, Any] | None,
    beside: Beside,
    conflicts: list[dict[str, Any]],
) -> list[Line]:
    """Everything the operation speaks of, and what others have changed since; what differs comes first.

    Of a device that did not say what it had seen nobody can tell what has changed since.
    """
    now = {field["field"]: field for field in (record or {}).get("fields", ())}
    judged = {conflict["field"]: conflict for conflict in conflicts}
    edited = sent["set"] or {}
    found = [_edit(name, sent["was"] or {}, edited[name], now.get(name), judged.get(name, {})) for name in edited]
    found += _act(sent["payload"] or {}, beside)
    found += _since(now if sent["base_rev"] is not None else {}, edited, seen, record or {})
    return sorted(found, key=lambda line: line.order)


def _edit(
    name: str, was: Mapping[str, Any], value: Any, now: Mapping[str, Any] | None, judged: Mapping[str, Any]
) -> Line:
    base = was.get(name, NOTHING)
    record = now["value"] if now else NOTHING
    then = judged.get("record", NOTHING)
    return Line(
        name, word(name), base, value, record,
        then=NOTHING if record is not NOTHING and same(then, record) else then,
        changed=base is not NOTHING and not same(base, value),
        moved=NOTHING not in (base, record) and not same(base, record),
        differs=record is not NOTHING and not same(value, record),
        by=now["by"] if now else None, at=now["at"] if now else None,
        policy=judged.get("policy"), chosen=judged.get("chosen"),
    )  # fmt: skip


def _since(
    now: Mapping[str, Mapping[str, Any]], edited: Mapping[str, Any], seen: Mapping[str, Any] | None,
    record: Mapping[str, Any],
) -> Iterator[Line]:  # fmt: skip
    """What somebody else has changed after what the device had seen, and how the job stands."""
    for name, field in now.items():
        if name in edited or name in _LEFT_OUT:
            continue
        base = (seen or {}).get(name, NOTHING)
        moved = base is NOTHING or not same(base, field["value"])
        yield Line(name, word(name), base, NOTHING, field["value"], moved=moved, by=field["by"], at=field["at"])
    for name in _ABOUT:
        if name not in now and record.get(name) is not None:
            base = NOTHING if seen is None else seen.get(name, record[name])
            yield Line(name, word(name), base, NOTHING, record[name])


def _act(payload: Mapping[str, Any], beside: Beside) -> Iterator[Line]:
    device, record = dict(_leaves(payload, ())), dict(_leaves(beside.record, ()))
    for path in dict.fromkeys([*device, *record]):
        ours, theirs = device.get(path, NOTHING), record.get(path, NOTHING)
        differs = NOTHING not in (ours, theirs) and not same(ours, theirs)
        failed = isinstance(ours, Mapping) and ours.get("result") == "fail"
        yield Line(path[-1], _told(path, beside.items), NOTHING, ours, theirs, differs=differs, failed=failed)


def _leaves(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every value inside an object with the way to it; the entries of a list go by what names them, each as a whole."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if not (name in _LEFT_OUT and not path):
                yield from _leaves(inner, (*path, str(name)))
    elif isinstance(value, list) and value and all(isinstance(one, Mapping) for one in value):
        for place, one in enumerate(value, 1):
            naming = next((name for name in _NAMED_BY if isinstance(one.get(name), str)), None)
            rest = {name: inner for name, inner in one.items() if name != naming and inner not in (None, [], "")}
            yield (*path, one[naming] if naming else str(place)), rest or _("yes")
    elif path and value not in (None, [], ""):
        yield path, value


def _told(path: tuple[str, ...], items: Mapping[str, Mapping[str, Any]]) -> str:
    """The way to a value in words; the items of a checklist by their titles."""
    *way, last = path
    if way and way[-1] == "items" and last in items:
        title = items[last].get("title_zh") if language() == "zh" else None
        return str(title or items[last]["title"])
    return " › ".join([*map(word, way), last if way and _is_name(way[-1]) else word(last)])


def _is_name(list_name: str) -> bool:
    """Whether the entries of a list of that name are called by numbers or codes that are not words of ours."""
    return list_name in ("seals", "parts", "items", "defects_checked", "defects")
