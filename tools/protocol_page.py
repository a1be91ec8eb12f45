"""``python -m tools.protocol_page``: write docs/sync-protocol/operations.md from the code. A test holds them together.

The tables come from the Structs that judge an operation, from the life cycle's table and from the rule packs, so the
page cannot say anything that the service does not do.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import msgspec
from msgspec import inspect as ms

from fieldsvc import kinds, rules
from fieldsvc.kinds import common, lifecycle
from fieldsvc.sync import envelope

PAGE = Path(__file__).resolve().parents[1] / "docs" / "sync-protocol" / "operations.md"

HEAD = """# Operations

What a device may send, member by member. How it is sent and what becomes of it: [the protocol](README.md).

This page is written by `python -m tools.protocol_page` from the code that judges operations.

A member that is not named here is kept with the operation and is no error. A member that is not needed may be left out.

- **text**, 1 to 200: so many characters. NUL and half surrogate pairs are refused everywhere.
- **id**: letters, digits and `. _ : -`.
- **code**: at most 60 letters, digits and `_ . : -`, a letter or digit first.
- **asset number**: at most 60 letters, digits, spaces and `. _ / -`, a letter or digit at both ends.
- **decimal**: text such as `"48213.6"`, at most 12 digits before and 6 after the point; never a JSON number.
- **time**: RFC 3339 with its zone, such as `2026-11-21T15:20:05+08:00`.
"""

ENVELOPE = {
    "install_id": "which installation of the app this is: the one the token was given to",
    "ops": "at most `push_ops` of them, as the device did them",
    "device_time": "what the device's clock says now, RFC 3339 with its zone; from it comes the clock's offset",
    "mono_ms": "a clock that only goes forward: milliseconds since the boot",
    "boot_id": "another one after every boot: `mono_ms` of two boots cannot be compared",
    "op_id": "the idempotency key, a UUIDv7 for choice; never used twice",
    "seq": "counts this install's operations from 1, without gaps",
    "kind": "what was done: one of those below",
    "entity": "`job` or `customer`",
    "entity_id": "the id of that job or customer",
    "occurred_at": "when, by the device's own clock: RFC 3339 with its zone",
    "base_rev": "the `rev` of the entity that the device had seen; without it nothing counts as changed since",
    "assignment_rev": "the `assignment_rev` of the job that the device had seen; kept",
    "payload": "the content, for every kind but edits",
    "was": "of an edit: the values the device saw",
    "set": "of an edit: the values it wants",
    "depends_on": "`op_id`s that must be decided before; never its own",
    "attachments": "files that belong to it; [they travel apart](README.md#attachments)",
    "schema_version": "the form of its content: 1 is this page's, [older ones](README.md#old-apps) are taken too",
    "app_version": "of a push: what runs now; of an operation: what it was made with, kept",
    "positions": "where the device was, the oldest first; nothing in it hinders an operation",
}
"""What the members of an envelope mean; a member that has no line here fails the test."""

FURTHER = {
    "Position": "Longitude is from -180 to 180, latitude from -90 to 90.",
    "DefectReport": "`grid` has the grades critical, serious, general; `customer` has emergency, major, general.",
    "Item": "`grade` and `grade_scheme` come together. A failed item bears a defect, once.",
    "Exchange": "The two asset numbers differ. The meter taken off must be the one on record, else `wrong_meter`.",
    "NewMeter": "`total` is always among the registers, no value is longer than the meter, no seal is named twice.",
    "InspectionRecord": "No item is named twice in one operation; records may come in parts.",
}
"""What types cannot say and the Structs' own checks do."""

STATUSES_HEAD = """## What an operation does to the job's status

Whatever a crew reports on site implies the steps before it: who forgot to tap *accept* has accepted by arriving.
"Superseded" means that the job is past this already; nothing is changed and nothing is wrong. In every other status the
operation is rejected as `state_not_allowed`, or parked when it is a **physical fact**, which is never thrown away.

| operation | moves the job to | from | superseded in | physical fact |
|---|---|---|---|---|
"""

POLICIES_HEAD = """## How an edit on stale data is merged

`job.update` and `customer.update` carry `was` (what the device saw) and `set` (what it wants). A field is in overlap
when the record no longer holds what the device saw. Equal values are never a conflict.

| policy | in overlap | severity |
|---|---|---|
| `server_wins` | the record keeps its value | soft: `applied_conflict` |
| `field_wins` | the device's value is taken | soft: `applied_conflict` |
| `latest_occurred` | the value that was set later in the field | soft: `applied_conflict` |
| `append` | what the device added is added | none |
| `set_union` | what the device added is added, what it took away is taken away | none |
| `max`, `min` | the larger, the smaller | none |
| `review` | a person decides | hard: `parked` |
| `must_match` | any difference, in overlap or not: a person decides | hard: `parked` |
| `state_machine` | not a field to edit: send the operation that moves the job | the edit is `rejected` |

One hard conflict parks the whole operation; no field of it is changed. Without a soft or hard conflict, an edit of a
stale revision is `merged`.
"""

FIELDS_HEAD = """
The policies by field, and by kind of job where a kind has its own. They are data
(`fieldsvc/rules/packs/policies.toml`), each with the date from which it holds and its source; an operator adds editions
(`FIELDSVC_RULES_DIR`). An edit is judged by those in force when it was made.

| of a | field | policy | source |
|---|---|---|---|
"""


def text() -> str:
    """The page as it should be."""
    tables = _Tables()
    parts = [HEAD, _envelope(tables), "## What each operation carries\n", *_operations(tables)]
    while tables.waiting:
        struct = tables.waiting.pop(0)
        parts.append(tables.section(struct, "###"))
        if tables.first is None:
            tables.first = len(parts) - 1
    if tables.first is not None:
        parts.insert(tables.first, "## Parts of operations\n")
    parts += [STATUSES_HEAD + "".join(_moves()), POLICIES_HEAD + FIELDS_HEAD + "".join(_policies())]
    return "\n".join(parts)


class _Tables:
    """Tables of Structs; a Struct inside another one is put on the list of those still to be told."""

    def __init__(self) -> None:
        self.waiting: list[type[msgspec.Struct]] = []
        self.told: set[type[msgspec.Struct]] = set()
        self.first: int | None = None

    def section(self, struct: type[msgspec.Struct], level: str, title: str = "") -> str:
        return f"{level} {title or struct.__name__}\n\n{_doc(struct)}{self.table(struct)}"

    def table(self, struct: type[msgspec.Struct]) -> str:
        info = ms.type_info(struct)
        assert isinstance(info, ms.StructType)
        if not info.fields:
            return "Any members.\n"
        meant = struct in (envelope.Push, envelope.Operation)
        head = "| member | form | needed |" + (" meaning |" if meant else "")
        rows = [head, "|---" * head.count(" |") + "|"]
        for member in info.fields:
            form = _READ_APART.get(member.encode_name) or self.words(member.type)
            row = f"| `{member.encode_name}` | {form} | {_needed(member)} |"
            rows.append(row + (f" {ENVELOPE[member.encode_name]} |" if meant else ""))
        return "\n".join(rows) + "\n"

    def words(self, info: ms.Type, said: dict[str, Any] | None = None) -> str:
        """A type in words, with its limits."""
        if isinstance(info, ms.Metadata):
            return self.words(info.type, info.extra_json_schema)
        if isinstance(info, ms.UnionType):
            branches = [branch for branch in info.types if not isinstance(branch, ms.NoneType)]
            told = [self.words(branch) for branch in branches]
            return "; or ".join(told) + (", or null" if len(branches) < len(info.types) else "")
        if isinstance(info, ms.StructType):
            if info.cls not in self.told:
                self.told.add(info.cls)
                self.waiting.append(info.cls)
            return f"[{info.cls.__name__}](#{info.cls.__name__.lower()})"
        if isinstance(info, ms.ListType):
            return f"list{_count(info)}: {self.words(info.item_type)}"
        if isinstance(info, ms.DictType):
            if isinstance(info.key_type, ms.AnyType | ms.StrType) and isinstance(info.value_type, ms.AnyType):
                return "an object"
            return f"an object{_count(info)}: {self.words(info.key_type)} → {self.words(info.value_type)}"
        if isinstance(info, ms.LiteralType):
            return ", ".join(f"`{value}`" for value in info.values)
        return _scalar(info, said or {})


_ONE = "[operations](#the-envelope-of-an-operation)"
_READ_APART = {"positions": "list: [positions](README.md#positions)"}
_SHORT = {"decimal": "decimal", "code": "code", "asset": "asset number"}
_PATTERNS = {
    str(envelope.Ident.__metadata__[0].pattern): "id",  # type: ignore[attr-defined]
    r"^[0-9a-f]{64}\Z": "64 hexadecimal digits",
    r"^[^\0]*\Z": "text",
}


def _scalar(info: ms.Type, said: dict[str, Any]) -> str:
    if isinstance(info, ms.StrType):
        if said.get("format") == "date-time":
            return "time"
        if said.get("description"):
            words = str(said["description"])
            return _SHORT.get(words.split(" ")[1], words)
        if info.pattern is not None:
            return _PATTERNS.get(info.pattern, f"text of the form `{info.pattern}`") + _size(info)
        return f"text{_size(info)}"
    if isinstance(info, ms.IntType):
        return f"whole number{_range(info)}"
    if isinstance(info, ms.FloatType):
        return f"number{_range(info)}"
    others: dict[type[ms.Type], str] = {ms.BoolType: "true or false", ms.AnyType: "anything", ms.RawType: _ONE}
    return others[type(info)]


def _size(info: ms.StrType) -> str:
    least, most = info.min_length, info.max_length
    if most is None:
        return ""
    return f", {least} to {most}" if least else f", at most {most}"


def _count(info: ms.ListType | ms.DictType) -> str:
    if info.max_length is None:
        return ""
    return f" of {info.min_length} to {info.max_length}" if info.min_length else f" of at most {info.max_length}"


def _range(info: ms.IntType | ms.FloatType) -> str:
    if info.ge is None and info.le is None:
        return ""
    low, high = (f"{n:,.0f}".replace(",", " ") if n is not None and abs(n) < 1e9 else n for n in (info.ge, info.le))
    if info.le == 2**53 - 1:
        high = "2^53-1"
    return f", {low} to {high}" if info.le is not None else f", {low} or more"


def _needed(member: ms.Field) -> str:
    if member.required:
        return "required"
    default = member.default
    if default in (msgspec.NODEFAULT, None, msgspec.UNSET, msgspec.Raw()):
        return ""
    return f"default `{msgspec.json.encode(default).decode()}`"


def _doc(struct: type[msgspec.Struct]) -> str:
    """The first paragraph of the Struct's own docstring."""
    own = struct.__dict__.get("__doc__") or ""
    paragraph = inspect.cleandoc(own).split("\n\n")[0].replace("``", "`")
    paragraph = re.sub(r"^`[a-z]+\.[a-z]+`: (.)", lambda match: match.group(1).upper(), paragraph)
    told = [re.sub(r"\s+", " ", paragraph), FURTHER.get(struct.__name__, "")]
    return " ".join(filter(None, told)) + "\n\n" if any(told) else ""


def _envelope(tables: _Tables) -> str:
    push = tables.section(envelope.Push, "##", "The push")
    return push + "\n" + tables.section(envelope.Operation, "##", "The envelope of an operation")


def _operations(tables: _Tables) -> Iterator[str]:
    for op_kind, by_kind in _in_order():
        structs: dict[type[msgspec.Struct], list[str]] = {}
        for name, struct in by_kind.items():
            structs.setdefault(struct, []).append(name)
        yield f"### `{op_kind}`\n"
        for struct, names in structs.items():
            whose = "" if names == ["customer"] or len(names) == len(kinds.discover()) else _whose(names)
            yield f"{whose}{_doc(struct)}{tables.table(struct)}"


def _in_order() -> list[tuple[str, dict[str, type[msgspec.Struct]]]]:
    """As a day goes: what all kinds have, then what some add, then edits of customers."""
    types, shared = kinds.operation_types(), list(common.OPERATIONS)

    def place(op_kind: str) -> tuple[int, str]:
        if op_kind in shared:
            return shared.index(op_kind), op_kind
        return len(shared) + ("customer" in types[op_kind]), op_kind

    return [(op_kind, types[op_kind]) for op_kind in sorted(types, key=place)]


def _whose(names: list[str]) -> str:
    return f"In a job of kind {', '.join(f'`{name}`' for name in names)}:\n\n"


def _moves() -> Iterator[str]:
    for op_kind, by_kind in _in_order():
        if "customer" in by_kind:
            continue
        to: dict[str, list[str]] = {}
        behind: list[str] = []
        for status in lifecycle.STATUSES:
            after = lifecycle.allowed(status, op_kind)
            if after == lifecycle.SUPERSEDED:
                behind.append(status)
            elif after is not None:
                to.setdefault(after, []).append(status)
        remark = op_kind in lifecycle.REMARKS
        goal = "stays as it is" if remark else "<br>".join(f"`{status}`" for status in to)
        stays = [status for status in lifecycle.STATUSES if lifecycle.allowed(status, op_kind) == status]
        start = _but(stays) if remark else "<br>".join(_names(found) for found in to.values())
        physical = "yes" if lifecycle.is_physical(op_kind) else ""
        yield f"| `{op_kind}` | {goal} | {start} | {_names(behind)} | {physical} |\n"


def _but(statuses: list[str]) -> str:
    others = [status for status in lifecycle.STATUSES if status not in statuses]
    return f"every status but {_names(others)}" if others else "every status"


def _names(statuses: list[str]) -> str:
    return ", ".join(f"`{status}`" for status in statuses)


def _policies() -> Iterator[str]:
    book = rules.load()
    for entity, kind in (("job", "*"), *(("job", name) for name in sorted(kinds.discover())), ("customer", "*")):
        for field in book.policies(entity, date.max, kind):
            answer = book.policy(entity, field, date.max, kind)
            if kind != "*" and answer == book.policy(entity, field, date.max):
                continue
            of = entity if kind == "*" else f"{entity} ({kind})"
            name = "every other one" if field == "*" else f"`{field}`"
            yield f"| {of} | {name} | `{answer.value}` | {answer.source} |\n"


if __name__ == "__main__":
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(text(), encoding="utf-8")
