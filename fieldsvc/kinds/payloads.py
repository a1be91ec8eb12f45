"""The content of operations: the scalars every kind uses, and the check that names every fault.

Payloads are msgspec Structs. msgspec itself stops at the first fault, cannot name a key of a map, and lets a pattern's
``$`` match before a last line break; so :func:`read` walks the same types first, lists all faults with JSON pointers,
and has msgspec build the Struct when there are none. Members nobody knows stay in the stored operation and are
ignored here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta
from msgspec import inspect as ms

from fieldsvc.base.clock import parse_time
from fieldsvc.kinds.base import Fault

MAX_DEPTH = 16
MAX_FAULTS = 50
MAX_POINTER = 300

Code = Annotated[
    str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:-]{0,59}$", description="a code of letters, digits and _ . : -")
]
Ident = Annotated[str, Meta(min_length=1, max_length=64)]
Line = Annotated[str, Meta(min_length=1, max_length=200)]
Prose = Annotated[str, Meta(min_length=1, max_length=2000)]
AssetNo = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9]([A-Za-z0-9 ._/-]{0,58}[A-Za-z0-9])?$",
        description="an asset number of at most 60 letters, digits and spaces . _ / - between them",
    ),
]
DecimalText = Annotated[
    str,
    Meta(
        pattern=r"^[0-9]{1,12}(\.[0-9]{1,6})?$",
        description='a decimal in text such as "48213.6": at most 12 digits before and 6 after the point',
    ),
]
Time = Annotated[str, Meta(max_length=40, extra_json_schema={"format": "date-time"})]
Register = Literal["total", "sharp", "peak", "flat", "valley"]
Registers = Annotated[dict[Register, DecimalText], Meta(min_length=1, max_length=5)]
Photos = Annotated[list[Ident], Meta(max_length=40)]
Coordinate = Annotated[float, Meta(ge=-100_000, le=100_000)]

S = TypeVar("S", bound=msgspec.Struct)


class BadPayload(ValueError):
    """Content that is not what its operation needs. ``errors``: one ``{field, reason}`` per fault."""

    def __init__(self, errors: tuple[Fault, ...]) -> None:
        self.errors = errors
        super().__init__("; ".join(f"{error['field']} {error['reason']}" for error in errors[:3]))


def fault(at: str, reason: str) -> Fault:
    """One fault; a pointer into a device's own absurdly long names is cut."""
    return {"field": at[:MAX_POINTER], "reason": reason}


class Position(msgspec.Struct):
    """A GeoJSON point, WGS 84, longitude first; a third number is the height in metres."""

    type: Literal["Point"]
    coordinates: Annotated[list[Coordinate], Meta(min_length=2, max_length=3)]
    accuracy_m: Annotated[float, Meta(ge=0, le=1_000_000)] | None = None

    def faults(self) -> Iterator[tuple[str, str]]:
        if not -180 <= self.coordinates[0] <= 180:
            yield "/coordinates/0", "must be a longitude from -180 to 180"
        if not -90 <= self.coordinates[1] <= 90:
            yield "/coordinates/1", "must be a latitude from -90 to 90"


def read(kind: type[S], content: Any, at: str) -> S:
    """``content`` as ``kind``.

    A Struct may have a method ``faults()`` yielding ``(pointer below it, reason)`` for what its types cannot say.

    :param at: JSON pointer of the content inside the operation, for the faults.
    :raises BadPayload: with every fault found, at most 50.
    """
    faults = list(_text_faults(content, at)) or list(_type_faults(_type_info(kind), content, at))
    if not faults:
        try:
            value = msgspec.convert(content, kind)
        except msgspec.ValidationError as error:
            raise BadPayload((fault(at, str(error)),)) from None
        faults = list(_own_faults(value, at))
    if faults:
        raise BadPayload(tuple(faults[:MAX_FAULTS]))
    return value


def _pointer(key: Any) -> str:
    return str(key).replace("~", "~0").replace("/", "~1")


def _text_faults(content: Any, at: str) -> Iterator[Fault]:
    """NUL, half surrogate pairs and too deep nesting, anywhere, also in members nobody knows."""
    waiting: list[tuple[Any, str, int]] = [(content, at, 0)]
    while waiting:
        value, where, depth = waiting.pop()
        if depth > MAX_DEPTH:
            yield fault(where, f"is nested deeper than {MAX_DEPTH} levels")
            return
        if isinstance(value, str):
            reason = _bad_text(value)
            if reason:
                yield fault(where, reason)
        elif isinstance(value, dict):
            for key, member in value.items():
                reason = _bad_text(str(key))
                if reason:  # said of the parent: the name itself could not be stored or shown
                    yield fault(where, f"a member's name {reason}")
                else:
                    waiting.append((member, f"{where}/{_pointer(key)}", depth + 1))
        elif isinstance(value, list):
            waiting += [(member, f"{where}/{position}", depth + 1) for position, member in enumerate(value)]


def _bad_text(text: str) -> str | None:
    if "\x00" in text:
        return "must not contain NUL"
    if text.isascii():
        return None
    return "is not valid Unicode" if any("\ud800" <= char <= "\udfff" for char in text) else None


@lru_cache(maxsize=256)
def _type_info(kind: type[msgspec.Struct]) -> ms.Type:
    return ms.type_info(kind)


def _own_faults(value: Any, at: str) -> Iterator[Fault]:
    """What Structs say of themselves, from the inside out."""
    if isinstance(value, msgspec.Struct):
        found = False
        for name in value.__struct_fields__:
            for inner in _own_faults(getattr(value, name), f"{at}/{name}"):
                found = True
                yield inner
        own = getattr(value, "faults", None)
        if own is not None and not found:
            for below, reason in own():
                yield fault(at + below, reason)
    elif isinstance(value, dict):
        for key, member in value.items():
            yield from _own_faults(member, f"{at}/{_pointer(key)}")
    elif isinstance(value, list):
        for position, member in enumerate(value):
            yield from _own_faults(member, f"{at}/{position}")


_WORDS: tuple[tuple[type[Any], str], ...] = (
    (ms.StructType, "an object"),
    (ms.DictType, "an object"),
    (ms.ListType, "a list"),
    (ms.StrType, "text"),
    (ms.IntType, "a whole number"),
    (ms.FloatType, "a number"),
    (ms.BoolType, "true or false"),
    (ms.NoneType, "null"),
)


def _words(info: ms.Type) -> str:
    if isinstance(info, ms.Metadata):
        return _words(info.type)
    if isinstance(info, ms.LiteralType):
        return "one of " + ", ".join(map(str, info.values))
    return next((words for kind, words in _WORDS if isinstance(info, kind)), "something else")


def _fits(info: ms.Type, value: Any) -> bool:
    """Whether the JSON type of ``value`` is that of ``info``."""
    if isinstance(info, ms.Metadata):
        return _fits(info.type, value)
    if isinstance(info, ms.StructType | ms.DictType):
        return isinstance(value, dict)
    if isinstance(info, ms.ListType):
        return isinstance(value, list)
    if isinstance(info, ms.BoolType):
        return isinstance(value, bool)
    if isinstance(info, ms.IntType | ms.FloatType):
        return isinstance(value, int if isinstance(info, ms.IntType) else int | float) and not isinstance(value, bool)
    if isinstance(info, ms.NoneType):
        return value is None
    if isinstance(info, ms.StrType | ms.LiteralType):
        return isinstance(value, str)
    return isinstance(info, ms.AnyType)


def _type_faults(info: ms.Type, value: Any, at: str) -> Iterator[Fault]:
    """All faults of ``value`` against the types this package uses in its Structs."""
    if isinstance(info, ms.Metadata):
        if isinstance(info.type, ms.StrType) and isinstance(value, str):
            yield from _str_faults(info.type, value, at, info.extra_json_schema or {})
        else:
            yield from _type_faults(info.type, value, at)
    elif isinstance(info, ms.UnionType):
        fitting = [branch for branch in info.types if _fits(branch, value)]
        if fitting:
            yield from _type_faults(fitting[0], value, at)
        else:
            yield fault(at, f"must be {' or '.join(_words(branch) for branch in info.types)}")
    elif not _fits(info, value):
        yield fault(at, f"must be {_words(info)}")
    elif isinstance(info, ms.StructType):
        yield from _struct_faults(info, value, at)
    elif isinstance(info, ms.DictType):
        yield from _dict_faults(info, value, at)
    elif isinstance(info, ms.ListType):
        yield from _size_faults(info, value, at, "entries")
        for position, member in enumerate(value):
            yield from _type_faults(info.item_type, member, f"{at}/{position}")
    else:
        yield from _scalar_faults(info, value, at)


def _scalar_faults(info: ms.Type, value: Any, at: str) -> Iterator[Fault]:
    if isinstance(info, ms.LiteralType):
        if value not in info.values:
            yield fault(at, f"must be {_words(info)}")
    elif isinstance(info, ms.StrType):
        yield from _str_faults(info, value, at, {})
    elif isinstance(info, ms.IntType | ms.FloatType) and not _in_range(info, value):
        yield fault(at, f"must be a number from {info.ge} to {info.le}")


def _dict_faults(info: ms.DictType, value: dict[str, Any], at: str) -> Iterator[Fault]:
    yield from _size_faults(info, value, at, "members")
    for key, member in value.items():
        if isinstance(info.key_type, ms.LiteralType) and key not in info.key_type.values:
            yield fault(f"{at}/{_pointer(key)}", f"is not known; it must be {_words(info.key_type)}")
        else:
            yield from _type_faults(info.value_type, member, f"{at}/{_pointer(key)}")


def _struct_faults(info: ms.StructType, value: dict[str, Any], at: str) -> Iterator[Fault]:
    for member in info.fields:
        where = f"{at}/{member.encode_name}"
        if member.encode_name in value:
            yield from _type_faults(member.type, value[member.encode_name], where)
        elif member.required:
            yield fault(where, "is missing")


def _size_faults(info: ms.ListType | ms.DictType, value: Any, at: str, what: str) -> Iterator[Fault]:
    if info.min_length is not None and len(value) < info.min_length:
        yield fault(at, f"needs at least {info.min_length} {what}")
    if info.max_length is not None and len(value) > info.max_length:
        yield fault(at, f"may have at most {info.max_length} {what}")


def _str_faults(info: ms.StrType, value: str, at: str, schema: Mapping[str, Any]) -> Iterator[Fault]:
    if info.min_length is not None and len(value) < info.min_length:
        yield fault(at, "must not be empty" if info.min_length == 1 else f"needs at least {info.min_length} characters")
    elif info.max_length is not None and len(value) > info.max_length:
        yield fault(at, f"may have at most {info.max_length} characters")
    elif info.pattern is not None and not re.fullmatch(info.pattern.removesuffix("$"), value):
        yield fault(at, f"must be {schema.get('description') or 'of the form ' + info.pattern}")
    elif schema.get("format") == "date-time":
        try:
            parse_time(value)
        except ValueError as error:
            yield fault(at, str(error))


def _in_range(info: ms.IntType | ms.FloatType, value: int | float) -> bool:
    return (info.ge is None or value >= info.ge) and (info.le is None or value <= info.le)


def plain(value: msgspec.Struct) -> dict[str, Any]:
    """A Struct as JSON-ready data, without members that were left out."""
    built: dict[str, Any] = msgspec.to_builtins(value)
    return {name: member for name, member in built.items() if member is not None and member != []}


def time_of(text: str | None) -> datetime | None:
    """A checked :data:`Time` as UTC."""
    return None if text is None else parse_time(text)
