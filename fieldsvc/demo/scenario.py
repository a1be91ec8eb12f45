"""What a demo scenario consists of: plain data in the very shapes the importers and the API take. No database here."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import Any
from zoneinfo import ZoneInfo

from fieldsvc import rules

CUSTOMER_COLUMNS = (
    "number name name_local customer_class importance phone address lon lat site_class usage_point_number "
    "transformer_area feeder voltage_level meter_asset_no meter_digits ct_ratio pt_ratio installed_at "
    "last_reading_total last_reading_at inspection_cycle_months last_reading_sharp last_reading_peak "
    "last_reading_flat last_reading_valley"
).split()
JOB_COLUMNS = (
    "external_key kind priority title description customer_number usage_point_number lon lat address due_at "
    "window_start window_end reported_at hazards"
).split()
"""Columns of the two CSV importers. Every value is a string, empty where unknown; ``hazards`` are joined by ``;``."""

DEFAULT_DAY = date(2026, 11, 20)
"""The day of the shift when the caller names none: a fixed one, so that the same call always gives the same data."""


@dataclass(frozen=True)
class Scenario:
    """A county or a city to play one shift in.

    :param territories_geojson: a FeatureCollection whose properties are code, name, name_local, level, site_class and
        priority.
    :param crews: code, name, name_local, skills (as the rule pack names them), territory_codes, base_lon,
        base_lat, shift_start and shift_end (RFC 3339), members (a list of names).
    :param customers: rows with :data:`CUSTOMER_COLUMNS`; one usage point each, most with a meter.
    :param jobs: rows with :data:`JOB_COLUMNS`.
    :param tickets: external_key, reporting_kind, trouble_code, description, customer_number, lon, lat, address,
        reported_at, hazards (a list).
    :param new_meters: asset_no and digits of meters in stock, at least one for every meter change.
    :param attribution: what must stand under every map or table made of this data.
    :param timezone: IANA name of the local time.
    """

    name: str
    title: str
    territories_geojson: dict[str, Any]
    crews: list[dict[str, Any]]
    customers: list[dict[str, str]]
    jobs: list[dict[str, str]]
    tickets: list[dict[str, Any]]
    new_meters: list[dict[str, Any]]
    attribution: str
    timezone: str

    def customers_csv(self) -> str:
        """The customers as the text of a CSV file."""
        return csv_text(self.customers, CUSTOMER_COLUMNS)

    def jobs_csv(self) -> str:
        """The jobs as the text of a CSV file."""
        return csv_text(self.jobs, JOB_COLUMNS)


def csv_text(rows: Iterable[Mapping[str, str]], columns: Iterable[str]) -> str:
    """CSV with a header line.

    :raises ValueError: a row has a column the file has not.
    """
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, list(columns), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def local_time(day: date, hour: int, minute: int, zone: str) -> str:
    """A local time of day as RFC 3339 in UTC, as every file here writes times."""
    moment = datetime.combine(day, time(hour, minute), ZoneInfo(zone)).astimezone(UTC)
    return moment.isoformat().replace("+00:00", "Z")


def skills_for(kinds: Iterable[str], day: date) -> list[str]:
    """The skills a crew needs for these kinds of jobs, by the rule pack in force on ``day``."""
    book = rules.load()
    return [str(book.service(kind, day).value["skill"]) for kind in kinds]
