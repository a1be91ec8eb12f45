"""Keyset paging: an opaque cursor holds the sort key of the last row shown, so that a page never shifts under a reader.

A cursor is checked value by value against the columns it must fit; one that does not is refused (``bad-cursor``).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote

import orjson
from flask import request
from sqlalchemy import BigInteger, Select, literal, tuple_
from sqlalchemy.orm import InstrumentedAttribute
from sqlalchemy.types import TypeDecorator

from fieldsvc.api.schemas import PageArgs, page_of
from fieldsvc.base.clock import format_time, parse_time
from fieldsvc.base.db import db
from fieldsvc.base.errors import FieldsvcError

__all__ = ["Page", "PageArgs", "answer", "fetch", "page_of", "read_cursor", "write_cursor"]

Column = InstrumentedAttribute[Any]


@dataclass(frozen=True)
class Page:
    """Rows of one page, and the cursor of the next one when there is more."""

    rows: list[Any]
    next: str | None


def fetch(
    statement: Select[Any],
    order: Sequence[Column],
    args: Mapping[str, Any],
    *,
    descending: bool = True,
    scalars: bool = True,
    key: Callable[[Any], Sequence[Any]] | None = None,
) -> Page:
    """One page of ``statement``.

    :param order: not-null columns, all in one direction, the last one unique.
    :param args: loaded :class:`PageArgs` (``limit``, maybe ``cursor``).
    :param scalars: whether a row is one entity; else it is a tuple of columns.
    :param key: the sort key of a row; by default the attributes named like the columns.
    :raises FieldsvcError: ``bad-cursor``.
    """
    if args.get("cursor"):
        after = read_cursor(args["cursor"], order)
        bound = tuple_(*(literal(value, column.type) for value, column in zip(after, order, strict=True)))
        position = tuple_(*order)
        statement = statement.where(position < bound if descending else position > bound)
    statement = statement.order_by(*(column.desc() if descending else column.asc() for column in order))
    statement = statement.limit(args["limit"] + 1)
    result = db.session.scalars(statement) if scalars else db.session.execute(statement)
    rows: list[Any] = list(result)
    if len(rows) <= args["limit"]:
        return Page(rows, None)
    last = rows[args["limit"] - 1]
    values = key(last) if key else [getattr(last, column.key) for column in order]
    return Page(rows[:-1], write_cursor(values))


def answer(page: Page, render: Callable[[Any], Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Body and headers of a page: ``{"items", "next"}`` and ``Link: <…>; rel="next"`` (RFC 8288)."""
    headers = {}
    if page.next:
        query = [(name, value) for name, value in request.args.items(multi=True) if name != "cursor"]
        parts = [f"{quote(name)}={quote(value)}" for name, value in [*query, ("cursor", page.next)]]
        headers["Link"] = f'<{quote(request.path)}?{"&".join(parts)}>; rel="next"'
    return {"items": [render(row) for row in page.rows], "next": page.next}, headers


def write_cursor(values: Sequence[Any]) -> str:
    """An opaque cursor for a sort key of times, numbers and texts."""
    plain = [format_time(value) if isinstance(value, datetime) else value for value in values]
    return base64.urlsafe_b64encode(orjson.dumps(plain)).decode().rstrip("=")


def read_cursor(cursor: str, order: Sequence[Column]) -> list[Any]:
    """The sort key in ``cursor``.

    :raises FieldsvcError: ``bad-cursor`` unless every value fits its column.
    """
    refused = FieldsvcError(
        "bad-cursor", "take the cursor from `next` or the Link header of the page before, unchanged"
    )
    try:
        values = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        if not isinstance(values, list) or len(values) != len(order):
            raise refused
        return [_fit(value, column) for value, column in zip(values, order, strict=True)]
    except (ValueError, TypeError, binascii.Error):
        raise refused from None


def _python_type(column: Column) -> type:
    """The type of a column's values; of one of our own types, that of the type behind it."""
    plain = column.type.impl_instance if isinstance(column.type, TypeDecorator) else column.type
    return plain.python_type


def _fit(value: Any, column: Column) -> Any:
    python_type = _python_type(column)
    if python_type is datetime:
        return parse_time(value)
    if isinstance(value, bool) or not isinstance(value, python_type):
        raise ValueError("another type")
    if isinstance(value, int) and abs(value) >= (2**63 if isinstance(column.type, BigInteger) else 2**31):
        raise ValueError("too large")
    if isinstance(value, str) and (len(value) > 300 or "\x00" in value):
        raise ValueError("not a key")
    return value
