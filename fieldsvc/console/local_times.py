"""Times in forms: a field of type datetime-local knows no zone, so what is typed there is in the visitor's."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import marshmallow as ma

from fieldsvc.api.schemas import UtcTime
from fieldsvc.base.clock import format_time
from fieldsvc.console.words import at, zone


def as_sent(schema: type[ma.Schema], given: Mapping[str, Any]) -> dict[str, Any]:
    """``given`` with the local times of its time fields as RFC 3339; what is none stays, to be refused by the field."""
    times = {name for name, one in schema().fields.items() if isinstance(one, UtcTime)}
    times |= {one.data_key for one in schema().fields.values() if isinstance(one, UtcTime) and one.data_key}
    return {name: _utc(value) if name in times else value for name, value in given.items()}


def _utc(text: Any) -> Any:
    try:
        local = datetime.fromisoformat(text)
        return text if local.tzinfo is not None else format_time(local.replace(tzinfo=zone()).astimezone(UTC))
    except (TypeError, ValueError, OverflowError):
        return text


def for_field(value: datetime | str | None) -> str:
    """A time as a field of type datetime-local takes it: in the visitor's zone, to the minute."""
    return at(value).astimezone(zone()).strftime("%Y-%m-%dT%H:%M") if value else ""


def in_words(value: datetime | str) -> str:
    """A time inside of a sentence, where there is no room for markup: day and minute in the visitor's zone."""
    return for_field(value).replace("T", " ")
