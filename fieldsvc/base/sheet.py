"""Read a CSV file row by row so that one broken row is named and left out, and stops no other.

Knows nothing of what the columns mean. Line numbers are those of an editor (a quoted field may span several), row
numbers count the records after the header.
"""

from __future__ import annotations

import codecs
import csv
import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from io import StringIO
from zoneinfo import ZoneInfo

from fieldsvc.base.clock import parse_time
from fieldsvc.base.errors import Invalid

MOST_LINES = 200
"""A quoted field over more physical lines than this is a quote nobody closed."""

_SHOWN = 60
_LOCAL = re.compile(r"(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?)?\Z", re.ASCII)
_DECIMAL = re.compile(r"\d{1,12}(\.\d{1,6})?\Z", re.ASCII)
_INTEGER = re.compile(r"-?\d{1,9}\Z", re.ASCII)
_BAD_BYTES = re.compile("[\ud800-\udfff]")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


@dataclass(frozen=True)
class Refusal:
    """Why one row was left out. ``value`` is shortened to what a report can show."""

    line: int
    row: int
    column: str
    value: str
    reason: str


class Refused(Exception):
    """This row cannot be used: the column at fault, its value, and the reason."""

    def __init__(self, column: str, value: str, reason: str) -> None:
        super().__init__(reason)
        self.column, self.value, self.reason = column, value, reason


@dataclass(frozen=True)
class Row:
    """One record: our column name -> text without surrounding blanks; a column the file lacks is an empty text."""

    line: int
    number: int
    values: Mapping[str, str]

    def __getitem__(self, column: str) -> str:
        return self.values.get(column, "")

    def refused(self, fault: Refused) -> Refusal:
        return Refusal(self.line, self.number, fault.column, shortened(fault.value), fault.reason)


@dataclass
class Outcome:
    """What an import did: rows read, how many were created, updated, unchanged, and every refusal."""

    rows: int = 0
    created: int = 0
    updated: int = 0
    unchanged: int = 0
    refused: list[Refusal] = field(default_factory=list)


@dataclass(frozen=True)
class Layout:
    """How a file is to be read: our column -> theirs, defaults for empty cells, spellings of "missing", local zone."""

    columns: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, str] = field(default_factory=dict)
    missing: Collection[str] = ()
    timezone: ZoneInfo | None = None
    encoding: str = "utf-8-sig"
    delimiter: str = ","


class Sheet:
    """A CSV text with a header. Iterating gives :class:`Row` for what could be read and :class:`Refusal` for the rest.

    :param known: the columns we have a meaning for; others of the file are listed in ``ignored``.
    :raises Invalid: the file as a whole cannot be used: unknown encoding, no header, a mapped column that is not there.
    """

    def __init__(self, data: bytes, layout: Layout, known: Sequence[str]) -> None:
        self.layout = layout
        self._lines = list(StringIO(_decoded(data, layout.encoding), newline=""))
        self._header, self._start = self._read_header()
        self._place = self._places(known)
        self.ignored = [name for i, name in enumerate(self._header) if i not in self._place.values()]

    @property
    def lines(self) -> int:
        """Physical lines of the file."""
        return len(self._lines)

    def __iter__(self) -> Iterator[Row | Refusal]:
        at, number = self._start, 0
        while at < len(self._lines):
            if not self._lines[at].strip():
                at += 1
                continue
            number += 1
            cells, fault, end = self._record(at)
            yield self._row(at + 1, number, cells) if fault is None else Refusal(at + 1, number, "", cells[0], fault)
            at = end

    def _record(self, start: int) -> tuple[list[str], str | None, int]:
        """The cells of the record at line index ``start``, what is wrong with it, and where the next one begins."""
        text = self._lines[start]
        taken = self._lines[start : start + MOST_LINES] if '"' in text else [text]
        reader = csv.reader(taken, delimiter=self.layout.delimiter, strict=True)
        try:
            return next(reader), None, start + reader.line_num
        except csv.Error as error:
            return [shortened(text)], _broken(str(error)), start + 1

    def _row(self, line: int, number: int, cells: list[str]) -> Row | Refusal:
        if len(cells) != len(self._header):
            reason = f"{len(cells)} cells where the header has {len(self._header)}"
            return Refusal(line, number, "", shortened(self.layout.delimiter.join(cells)), reason)
        values = {}
        for column, index in self._place.items():
            text = cells[index].strip()
            fault = _unreadable(text)
            if fault:
                return Refusal(line, number, column, shortened(text), fault)
            values[column] = "" if text in self.layout.missing else text
        for column, default in self.layout.defaults.items():
            values[column] = values.get(column) or default
        return Row(line, number, values)

    def _read_header(self) -> tuple[list[str], int]:
        for start, line in enumerate(self._lines):
            if line.strip():
                cells, fault, end = self._record(start)
                if fault:
                    raise Invalid(f"the header on line {start + 1} cannot be read: {fault}")
                names = [cell.strip() for cell in cells]
                twice = sorted({name for name in names if name and names.count(name) > 1})
                if twice:
                    raise Invalid(f"the header names a column twice: {', '.join(twice)}")
                return names, end
        raise Invalid("the file is empty: a header line is needed")

    def _places(self, known: Sequence[str]) -> dict[str, int]:
        for name in (*self.layout.columns, *self.layout.defaults):
            if name not in known:
                raise Invalid(f"{shortened(name)} is not one of our columns: {', '.join(known)}")
        places = {}
        for name in known:
            theirs = self.layout.columns.get(name, name)
            if theirs in self._header:
                places[name] = self._header.index(theirs)
            elif name in self.layout.columns:
                raise Invalid(f"the file has no column {shortened(theirs)} (wanted as {name})")
        if not places:
            raise Invalid(f"none of the columns is known; map them: {', '.join(self._header[:20])}")
        return places


_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def _decoded(data: bytes, encoding: str) -> str:
    if data.startswith(_UTF_16) and not encoding.lower().startswith(("utf-16", "utf16", "utf_16")):
        raise Invalid("the file is UTF-16 text: save it as CSV in UTF-8, or say that its encoding is utf-16")
    try:
        name = codecs.lookup(encoding).name
        if name == "utf-8":
            name = "utf-8-sig"
        return data.decode(name, errors="surrogateescape")
    except (LookupError, UnicodeError, TypeError):
        raise Invalid(f"the file cannot be read as {shortened(encoding)}") from None


def _broken(said: str) -> str:
    if "end of data" in said:
        return "a quote is never closed"
    if "field limit" in said:
        return f"a cell is longer than {csv.field_size_limit()} characters"
    return f"broken quoting: {said}"


def _unreadable(text: str) -> str | None:
    if "\x00" in text:
        return "holds a NUL byte"
    if _BAD_BYTES.search(text):
        return "bytes that are not text in the file's encoding"
    if _CONTROL.search(text):
        return "holds a control character"
    return None


def shortened(value: str) -> str:
    """At most 60 printable characters of ``value``."""
    clean = "".join(
        c if c.isprintable() and not "\ud800" <= c <= "\udfff" else "\N{REPLACEMENT CHARACTER}" for c in value
    )
    return clean if len(clean) <= _SHOWN else clean[: _SHOWN - 1] + "…"


def text(row: Row, column: str, most: int, *, required: bool = False) -> str | None:
    """The cell as text of at most ``most`` characters, ``None`` when empty.

    :raises Refused: too long, or empty although ``required``.
    """
    value = row[column]
    if not value:
        if required:
            raise Refused(column, "", "missing")
        return None
    if len(value) > most:
        raise Refused(column, value, f"longer than {most} characters")
    return value


def one_of(row: Row, column: str, choices: Collection[str], default: str) -> str:
    """The cell as one of ``choices``; ``default`` when empty."""
    value = row[column] or default
    if value not in choices:
        raise Refused(column, value, f"must be one of {', '.join(sorted(choices))}")
    return value


def integer(row: Row, column: str, low: int, high: int) -> int | None:
    """The cell as a whole number within ``low`` to ``high``, ``None`` when empty."""
    value = row[column]
    if not value:
        return None
    if not _INTEGER.match(value) or not low <= int(value) <= high:
        raise Refused(column, value, f"must be a whole number from {low} to {high}")
    return int(value)


def decimal(row: Row, column: str) -> Decimal | None:
    """The cell as an exact decimal of up to 12 digits before and 6 after the point, ``None`` when empty."""
    value = row[column]
    if not value:
        return None
    try:
        if not _DECIMAL.match(value):
            raise InvalidOperation
        return Decimal(value)
    except InvalidOperation:
        raise Refused(column, value, "must be a decimal number such as 48213.6") from None


def number(row: Row, column: str) -> float | None:
    """The cell as a finite number, ``None`` when empty."""
    value = row[column]
    if not value:
        return None
    try:
        parsed = float(value)
    except ValueError:
        raise Refused(column, value, "is not a number") from None
    if not math.isfinite(parsed) or "_" in value:
        raise Refused(column, value, "is not a number")
    return parsed


def moment(row: Row, column: str, zone: ZoneInfo | None) -> datetime | None:
    """The cell as a time in UTC, ``None`` when empty.

    With ``zone``, a time (or a bare day: its midnight) without zone is taken as local time there; a local time that
    exists twice in autumn means the first of both, one that spring skips is refused.

    :raises Refused: no time of the calendar, or no zone said anywhere.
    """
    value = row[column]
    if not value:
        return None
    local = _LOCAL.match(value)
    try:
        if local is None:
            return parse_time(value)
        if zone is None:
            raise ValueError("a time without zone: end it with Z or an offset, or name the file's time zone")
        y, mo, d, h, mi, s, frac = local.groups(default="0")
        micro = int(frac.ljust(6, "0")[:6])
        there = datetime(int(y), int(mo), int(d), int(h), int(mi), int(s), micro, tzinfo=zone)
        aware = there.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        text_of = (
            str(error) if "zone" in str(error) or "RFC 3339" in str(error) else "not a date and time of the calendar"
        )
        raise Refused(column, value, text_of) from None
    if aware.astimezone(zone).replace(tzinfo=None) != there.replace(tzinfo=None):
        raise Refused(column, value, f"this hour does not exist in {zone.key}: clocks were put forward")
    return aware
