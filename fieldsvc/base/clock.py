"""Time and ids: the only place that reads the wall clock.

Edges (a request, a task, a command) call :func:`utc_now` once and pass ``now`` down; use cases never look themselves.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

import uuid_utils

_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)\Z", re.ASCII)


def utc_now() -> datetime:
    """The server's time, aware, in UTC."""
    return datetime.now(UTC)


def new_id() -> str:
    """A new UUIDv7 (RFC 9562), so that ids sort by the time they were made."""
    return str(uuid_utils.uuid7())


def parse_time(text: str) -> datetime:
    """An RFC 3339 time with its zone, as UTC.

    :raises ValueError: not RFC 3339, no zone, or a date that does not exist; the message says which.
    """
    if not isinstance(text, str) or not _RFC3339.match(text):
        if isinstance(text, str) and re.match(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(:\d\d(\.\d+)?)?\Z", text):
            raise ValueError("a time needs its zone: end it with Z or an offset such as +08:00")
        raise ValueError("not an RFC 3339 time such as 2026-11-21T08:00:00Z")
    try:
        return datetime.fromisoformat(text.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError("not a date and time of the calendar") from None


def format_time(value: datetime) -> str:
    """RFC 3339 in UTC with a trailing Z; fractions only when there are any."""
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
