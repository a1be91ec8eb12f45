"""Values as plain JSON: times as RFC 3339 text, decimals as decimal strings."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from fieldsvc.base.clock import format_time

_AS_THEY_ARE = frozenset({str, int, bool, float, type(None)})


def plain(value: Any) -> Any:
    """``value`` with every time and decimal inside turned into text, ready for JSON."""
    if type(value) in _AS_THEY_ARE:
        return value
    if isinstance(value, datetime):
        return format_time(value)
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted(plain(item) for item in value)
    return value
