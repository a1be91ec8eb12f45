"""Short numbers people say over the radio: ``J-7K2M9Q``. Drawn at random: intake does not queue up at a counter.

Letters and digits are Crockford's base 32: no I, L, O or U to be misheard or misread. The unique index of the column
has the last word; looking first makes a clash as good as impossible.
"""

from __future__ import annotations

import secrets
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import InstrumentedAttribute

from fieldsvc.base.db import db

_SIGNS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_LENGTH = 6


def draw(column: InstrumentedAttribute[Any], prefix: str, count: int = 1) -> list[str]:
    """``count`` numbers that are not in ``column`` yet, each ``prefix`` and six signs."""
    numbers: set[str] = set()
    while len(numbers) < count:
        fresh = {f"{prefix}{_signs()}" for _ in range(count - len(numbers))} - numbers
        taken = set(db.session.scalars(select(column).where(column.in_(sorted(fresh)))))
        numbers |= fresh - taken
    return sorted(numbers)


def _signs() -> str:
    return "".join(secrets.choice(_SIGNS) for _ in range(_LENGTH))
