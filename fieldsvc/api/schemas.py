"""Fields and schemas all rooms share: strict, bounded, and documented by the very rules they check.

JSON is taken as it is typed: a number in a string is not a number. Query parameters are text by nature, so while one is
read (:func:`from_text`) whole numbers, numbers and booleans are parsed from their canonical spelling.
"""

# ruff: noqa: A002, RUF012 - min, max and plain class dictionaries are what marshmallow is used with

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from typing import Any

import marshmallow as ma
import orjson
from marshmallow import validate

from fieldsvc.base.clock import format_time, parse_time

MAX_INT = 2**31 - 1
ID_PATTERN = "^[0-9A-Za-z_.:-]{1,80}$"
SKILL_PATTERN = "^[a-z][a-z0-9_]{0,39}$"
"""Names of skills and of equipment."""
TIME_PATTERN = (
    r"^(19[789]\d|2[01]\d\d)-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])[Tt]([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{1,9})?"
    r"([Zz]|[+-]([01]\d|2[0-3]):[0-5]\d)$"
)
_NUMBER = re.compile(r"-?\d{1,30}(\.\d{1,30})?([eE][+-]?\d{1,3})?\Z", re.ASCII)
_NO_NUL = r"^[^\x00]*$"

_text_input: ContextVar[bool] = ContextVar("text_input", default=False)


@contextmanager
def from_text() -> Iterator[None]:
    """While inside, fields read query text."""
    token = _text_input.set(True)
    try:
        yield
    finally:
        _text_input.reset(token)


class Matches(validate.Regexp):
    """A pattern for the whole value. ``Regexp`` looks at the start only, and lets a trailing newline through ``$``."""

    def __init__(self, pattern: str, reason: str = "does not have the right form") -> None:
        super().__init__(re.compile(pattern, re.ASCII), error=reason)
        self._whole = re.compile(pattern.removesuffix("$") + r"\Z", re.ASCII)

    def __call__(self, value: Any) -> Any:
        if not self._whole.match(value):
            raise ma.ValidationError(str(self.error))
        return value


class Schema(ma.Schema):
    """Refuses members it does not know, naming them."""

    class Meta:
        unknown = ma.RAISE

    error_messages = {"unknown": "is not known here", "type": "must be an object"}


class _Strict(ma.fields.Field):
    """Says plainly what is wrong, in the words of the reader."""

    default_error_messages = {
        "required": "is missing",
        "null": "must not be null",
        "validator_failed": "is not valid",
    }


class Text(_Strict, ma.fields.String):
    """A text of ``min`` to ``max`` characters without NUL."""

    default_error_messages = {"invalid": "must be a text", "invalid_utf8": "must be UTF-8"}

    def __init__(
        self, max: int = 200, *, min: int = 1, pattern: str | None = None, reason: str | None = None, **kwargs: Any
    ):
        length = validate.Length(min=min or None, max=max, error=f"must have {min} to {max} characters")
        if pattern is None:
            pattern, reason = _NO_NUL, "must not contain NUL"
        form = Matches(pattern, reason or "does not have the right form")
        super().__init__(validate=[length, form], **kwargs)


class Ident(Text):
    """The id of something, as a reference."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(80, pattern=ID_PATTERN, reason="is not an id", **kwargs)


class Choice(Text):
    """One of a few words."""

    def __init__(self, *values: str, **kwargs: Any) -> None:
        super().__init__(80, **kwargs)
        self.validators = [validate.OneOf(values, error=f"must be one of {', '.join(values)}")]


class Int(_Strict, ma.fields.Integer):
    """A whole number within bounds."""

    default_error_messages = {
        "invalid": "must be a whole number",
        "too_large": "is too large",
    }

    def __init__(self, min: int = 0, max: int = MAX_INT, **kwargs: Any) -> None:
        super().__init__(validate=validate.Range(min, max, error=f"must be {min} to {max}"), **kwargs)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> int:
        if isinstance(value, str) and _text_input.get() and re.match(r"-?\d{1,20}\Z", value, re.ASCII):
            return int(value)
        if isinstance(value, float) and value.is_integer():
            return int(value)  # JSON does not tell 1.0 from 1
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.make_error("invalid")
        return value


class Number(_Strict, ma.fields.Float):
    """A finite number within bounds."""

    default_error_messages = {
        "invalid": "must be a number",
        "special": "must be finite",
        "too_large": "is too large",
    }

    def __init__(self, min: float, max: float, **kwargs: Any) -> None:
        super().__init__(validate=validate.Range(min, max, error=f"must be {min} to {max}"), **kwargs)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> float:
        if isinstance(value, str) and _text_input.get() and _NUMBER.match(value):
            value = float(value)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise self.make_error("invalid")
        return float(value)


class Lon(Number):
    """Degrees east, WGS 84."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(-180, 180, **kwargs)


class Lat(Number):
    """Degrees north, WGS 84."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(-90, 90, **kwargs)


class Flag(_Strict, ma.fields.Boolean):
    """true or false, nothing else."""

    default_error_messages = {"invalid": "must be true or false"}

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> bool:
        if _text_input.get() and value in ("true", "false"):
            return bool(value == "true")
        if not isinstance(value, bool):
            raise self.make_error("invalid")
        return value


class UtcTime(_Strict, ma.fields.String):
    """An RFC 3339 time with its zone, from 1970 to 2199; an aware UTC datetime inside, ``…Z`` outside."""

    def __init__(self, **kwargs: Any) -> None:
        metadata = {"format": "date-time", "pattern": TIME_PATTERN} | kwargs.pop("metadata", {})
        super().__init__(metadata=metadata, **kwargs)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> datetime:  # type: ignore[override]
        if _text_input.get() and isinstance(value, str):
            value = re.sub(r" (\d\d:\d\d)\Z", r"+\1", value)  # an unescaped + arrives as a blank
        try:
            moment = parse_time(value)
        except ValueError as error:
            raise ma.ValidationError(str(error)) from None
        if not datetime(1970, 1, 1, tzinfo=UTC) <= moment < datetime(2200, 1, 2, tzinfo=UTC):
            raise ma.ValidationError("must lie between 1970 and 2199")
        return moment

    def _serialize(self, value: Any, attr: str | None, obj: Any, **kwargs: Any) -> str | None:
        return value if value is None or isinstance(value, str) else format_time(value)


class DecimalText(_Strict, ma.fields.String):
    """A decimal number as text, so that no digit is lost on the way; a Decimal inside."""

    def __init__(self, *, digits: int = 12, places: int = 6, signed: bool = False, **kwargs: Any) -> None:
        pattern = rf"^{'-?' if signed else ''}\d{{1,{digits}}}(\.\d{{1,{places}}})?$"
        super().__init__(validate=Matches(pattern, 'must be a decimal number in a text, such as "48213.6"'), **kwargs)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        if not isinstance(value, str):
            raise ma.ValidationError('must be a decimal number in a text, such as "48213.6"')
        return value

    def deserialize(self, value: Any, attr: str | None = None, data: Any = None, **kwargs: Any) -> Any:
        loaded = super().deserialize(value, attr, data, **kwargs)
        return Decimal(loaded) if isinstance(loaded, str) else loaded

    def _serialize(self, value: Any, attr: str | None, obj: Any, **kwargs: Any) -> str | None:
        return format(value, "f") if isinstance(value, Decimal) else value


class ListOf(_Strict, ma.fields.List):
    """A list of at most ``max``."""

    default_error_messages = {"invalid": "must be a list"}

    def __init__(self, inner: ma.fields.Field, max: int = 100, *, min: int = 0, **kwargs: Any) -> None:
        bounds = validate.Length(min=min or None, max=max, error=f"must have {min} to {max} entries")
        super().__init__(inner, validate=bounds, **kwargs)


class Choices(_Strict, ma.fields.List):
    """Words for a query parameter, with commas (``?status=a,b``) or repeated."""

    default_error_messages = {"invalid": "must be a list"}
    query_list = True

    def __init__(self, *values: str, **kwargs: Any) -> None:
        inner: ma.fields.Field = Choice(*values) if values else Ident()
        super().__init__(inner, validate=validate.Length(min=1, max=50, error="must name 1 to 50"), **kwargs)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> list[Any]:
        given = value if isinstance(value, list) else [value]
        return super()._deserialize([word for text in given for word in str(text).split(",")], attr, data, **kwargs)


class BBox(_Strict, ma.fields.String):
    """``minlon,minlat,maxlon,maxlat`` in degrees; a tuple of four floats inside."""

    def __init__(self, **kwargs: Any) -> None:
        number = r"-?\d{1,3}(\.\d{1,15})?"
        metadata = {"pattern": f"^{number},{number},{number},{number}$", "example": "111.2,35.3,111.9,35.7"}
        super().__init__(metadata=metadata | kwargs.pop("metadata", {}), **kwargs)
        self._form = Matches(metadata["pattern"], "must be minlon,minlat,maxlon,maxlat")

    def _deserialize(  # type: ignore[override]
        self, value: Any, attr: str | None, data: Any, **kwargs: Any
    ) -> tuple[float, float, float, float]:
        west, south, east, north = (float(part) for part in self._form(str(value)).split(","))
        if not (-180 <= west <= east <= 180 and -90 <= south <= north <= 90):
            raise ma.ValidationError("must be minlon,minlat,maxlon,maxlat on the earth, the smaller ones first")
        return west, south, east, north


class JsonObject(_Strict, ma.fields.Dict):
    """Any JSON object up to ``depth`` levels and ``most`` bytes: texts without NUL, numbers a database can hold.

    It is bounded like an operation of a device: it is part of every list and every pull the record is in.
    """

    default_error_messages = {"invalid": "must be an object"}

    def __init__(self, *, depth: int = 10, most: int = 64 * 1024, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._depth, self._most = depth, most

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            raise self.make_error("invalid")
        fault = json_fault(value, self._depth)
        if fault:
            raise ma.ValidationError(fault)
        if len(orjson.dumps(value)) > self._most:
            raise ma.ValidationError(f"must be at most {self._most} bytes of JSON")
        return dict(value)


def json_fault(value: Any, depth: int = 10) -> str | None:
    """Why a decoded JSON value cannot be stored, or None."""
    if isinstance(value, str):
        return "must not contain NUL" if "\x00" in value else None
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int | float):
        return None if abs(value) < 2**53 and math.isfinite(value) else "holds a number that is too large"
    if depth <= 0:
        return "is nested too deep"
    inner: Sequence[Any] = [*value.keys(), *value.values()] if isinstance(value, Mapping) else value
    return next((fault for fault in (json_fault(item, depth - 1) for item in inner) if fault), None)


class Member(_Strict, ma.fields.Nested):
    """A nested schema."""

    default_error_messages = {"type": "must be an object"}


class PageArgs(Schema):
    """Query parameters of every list. Subclass it to add filters."""

    limit = Int(1, 200, load_default=50, metadata={"description": "How many at most; more than 200 is refused."})
    cursor = Text(600, pattern="^[0-9A-Za-z_=-]+$", metadata={"description": "`next` of the page before."})


@cache
def page_of(item: type[Schema]) -> type[Schema]:
    """The schema of one page of ``item``."""
    name = item.__name__.removesuffix("Schema").removesuffix("Answer") + "Page"
    return Schema.from_dict(  # type: ignore[return-value]
        {
            "items": ListOf(Member(item), max=200, required=True),
            "next": Text(
                600, allow_none=True, required=True, metadata={"description": "Cursor of the next page, or null."}
            ),
        },
        name=name,
    )
