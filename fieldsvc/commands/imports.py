"""``fieldsvc import jobs|customers|outages FILE.csv``: thousands of rows in seconds, a report of every refused row."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Protocol
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import click
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from sqlalchemy import select

from fieldsvc.base.clock import utc_now
from fieldsvc.base.db import db, reading, transaction
from fieldsvc.base.errors import Invalid
from fieldsvc.base.sheet import Layout, Outcome, Refusal, Row, Sheet
from fieldsvc.commands.people import opened
from fieldsvc.history.record import Source
from fieldsvc.people.actors import SYSTEM
from fieldsvc.people.models import Staff
from fieldsvc.records import importing as customer_importing
from fieldsvc.records.importing import CustomerImport, check_crs
from fieldsvc.work import importing as job_importing
from fieldsvc.work import outage_import
from fieldsvc.work.importing import JobImport
from fieldsvc.work.outage_import import OutageImport

_SHOWN = 10


class Importer(Protocol):
    """What takes rows batch by batch."""

    outcome: Outcome

    def take(self, source: Source, rows: Sequence[Row | Refusal]) -> None: ...


@dataclass(frozen=True)
class Request:
    """One ``fieldsvc import``, as the options say it."""

    file: Path
    columns: tuple[str, ...]
    defaults: tuple[str, ...]
    missing: tuple[str, ...]
    crs: str
    timezone: str | None
    encoding: str
    delimiter: str
    report: Path | None
    dry_run: bool
    as_user: str | None

    def layout(self) -> Layout:
        """:raises Invalid: an option that cannot be understood."""
        zone = None
        if self.timezone:
            try:
                zone = ZoneInfo(self.timezone)
            except (ZoneInfoNotFoundError, ValueError, OSError):
                raise Invalid(f"{self.timezone} is not a time zone such as America/Chicago") from None
        if len(self.delimiter) != 1 or self.delimiter in '"\r\n':
            raise Invalid("the delimiter must be one character")
        check_crs(self.crs)
        columns, defaults = _pairs(self.columns, "--map"), _pairs(self.defaults, "--default")
        return Layout(columns, defaults, frozenset(self.missing), zone, self.encoding, self.delimiter)


def _pairs(said: Sequence[str], option: str) -> dict[str, str]:
    found = {}
    for text in said:
        name, sign, value = text.partition("=")
        if not sign or not name.strip():
            raise Invalid(f"{option} takes OURS=THEIRS, not {text}")
        found[name.strip()] = value.strip()
    return found


class _Undone(Exception):
    """Ends the transaction of a dry run without keeping anything."""


@contextmanager
def _transaction(keep: bool) -> Iterator[None]:
    try:
        with transaction() as session:
            yield
            session.flush()
            if not keep:
                raise _Undone
    except _Undone:
        return


def run(
    sheet: Sheet,
    importer: Importer,
    source: Source,
    *,
    batch: int,
    keep: bool = True,
    on_progress: Callable[[int], None] = lambda line: None,
) -> Outcome:
    """Feed a sheet to an importer, one transaction per batch; ``on_progress`` gets the last line done."""
    rows = iter(sheet)
    while taken := list(islice(rows, batch)):
        with _transaction(keep):
            importer.take(source, taken)
        on_progress(taken[-1].line)
    importer.outcome.refused.sort(key=lambda refusal: (refusal.line, refusal.row))
    return importer.outcome


def _options(command: Callable[..., None]) -> Callable[..., None]:
    """The options all imports share."""
    for decorate in reversed(
        [
            click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path)),
            click.option("--map", "columns", multiple=True, metavar="OURS=THEIRS", help="Take our column from theirs."),
            click.option(
                "--default", "defaults", multiple=True, metavar="OURS=VALUE", help="For empty or missing cells."
            ),
            click.option("--missing", multiple=True, metavar="TEXT", help="A text that means: no value, such as NA."),
            click.option(
                "--crs", default="EPSG:4326", show_default=True, help="Of lon and lat: EPSG:…, ESRI:…, GCJ-02."
            ),
            click.option("--timezone", metavar="NAME", help="Of times without a zone, such as America/Chicago."),
            click.option("--encoding", default="utf-8", show_default=True, help="Such as gb18030 or cp1252."),
            click.option("--delimiter", default=",", show_default=True),
            click.option(
                "--report", type=click.Path(dir_okay=False, path_type=Path), help="Write every refused row here."
            ),
            click.option("--dry-run", is_flag=True, help="Check everything, keep nothing."),
            click.option("--as", "as_user", metavar="USERNAME", help="In whose name; default: the service's."),
            click.option("--data-dir", type=click.Path(file_okay=False, path_type=Path), help="As for `fieldsvc up`."),
        ]
    ):
        command = decorate(command)
    return command


@click.command("jobs")
@click.option("--external-prefix", default="", metavar="TEXT", help="Put before every external key, such as sf-.")
@_options
def jobs(external_prefix: str, data_dir: Path | None, **options: object) -> None:
    """Import jobs from FILE.csv. A job whose external_key is known already is left as it is.

    \b
    Columns: external_key kind priority title description customer_number usage_point_number lon lat address due_at
    window_start window_end reported_at closed_at hazards access_note contact_phone
    \b
    fieldsvc import jobs complaints.csv --default kind=repair --external-prefix city- --timezone America/Chicago \\
        --map external_key=requestid --map lon=srx --map lat=sry --crs ESRI:102696 --report refused.csv
    """
    if len(external_prefix) > 40:
        raise click.ClickException("--external-prefix may have 40 characters")
    request = Request(**options)  # type: ignore[arg-type]
    _import(
        request,
        data_dir,
        job_importing.COLUMNS,
        lambda layout: JobImport(layout, crs=request.crs, prefix=external_prefix),
        job_importing.BATCH,
    )


@click.command("customers")
@_options
def customers(data_dir: Path | None, **options: object) -> None:
    """Import customers with their usage points and meters from FILE.csv; known ones are brought up to date.

    \b
    Columns: number name name_local customer_class importance phone address lon lat site_class usage_point_number
    transformer_area feeder voltage_level meter_asset_no meter_digits ct_ratio pt_ratio installed_at
    last_reading_total last_reading_sharp last_reading_peak last_reading_flat last_reading_valley last_reading_at
    inspection_cycle_months last_inspected_at
    \b
    fieldsvc import customers customers.csv --encoding gb18030 --crs GCJ-02 --timezone Asia/Shanghai
    """
    request = Request(**options)  # type: ignore[arg-type]
    _import(
        request,
        data_dir,
        customer_importing.COLUMNS,
        lambda layout: CustomerImport(layout, crs=request.crs),
        customer_importing.BATCH,
    )


@click.command("outages")
@_options
def outages(data_dir: Path | None, **options: object) -> None:
    """Import planned outages of transformer areas from FILE.csv. One that is there already is left as it is.

    \b
    Columns: transformer_area starts_at ends_at reason
    \b
    fieldsvc import outages march.csv --timezone Asia/Shanghai --report refused.csv
    """
    request = Request(**options)  # type: ignore[arg-type]
    _import(request, data_dir, outage_import.COLUMNS, OutageImport, outage_import.BATCH)


def _import(
    request: Request,
    data_dir: Path | None,
    known: Sequence[str],
    importer_for: Callable[[Layout], Importer],
    batch: int,
) -> None:
    now = utc_now()
    console = Console()
    try:
        layout = request.layout()
        sheet = Sheet(request.file.read_bytes(), layout, known)
    except Invalid as fault:
        raise click.ClickException(f"{request.file.name}: {fault.detail}") from None
    with opened(data_dir), _progress(console, request, sheet.lines) as on_progress:
        source = _source(request.as_user, now)
        outcome = run(
            sheet, importer_for(layout), source, batch=batch, keep=not request.dry_run, on_progress=on_progress
        )
    if request.report is not None:
        write_report(request.report, outcome.refused)
    tell(console, outcome, request, (utc_now() - now).total_seconds(), sheet.ignored)


def _source(username: str | None, now: datetime) -> Source:
    if username is None:
        return SYSTEM.source(now)
    with reading():
        staff = db.session.scalar(select(Staff).where(Staff.username == username, Staff.active))
        if staff is None:
            raise Invalid(f"there is no active user {username}")
        return Source("staff", now, id=staff.id, name=staff.display_name)


@contextmanager
def _progress(console: Console, request: Request, lines: int) -> Iterator[Callable[[int], None]]:
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("lines"),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
    )
    with bar:
        task = bar.add_task(request.file.name, total=lines)
        yield lambda line: bar.update(task, completed=line)
        bar.update(task, completed=lines)


def write_report(path: Path, refused: Sequence[Refusal]) -> None:
    """Every refused row as CSV: line, row, column, value, reason."""
    with path.open("w", encoding="utf-8", newline="") as out:
        writer = csv.DictWriter(out, [field.name for field in fields(Refusal)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(refusal) for refusal in refused)


def tell(console: Console, outcome: Outcome, request: Request, seconds: float, ignored: Sequence[str]) -> None:
    """Print what an import did."""
    kept = "nothing was kept (dry run): " if request.dry_run else ""
    console.print(
        f"{kept}{outcome.rows} rows in {seconds:.1f} s: {outcome.created} created, {outcome.updated} updated, "
        f"{outcome.unchanged} unchanged, {len(outcome.refused)} refused",
        markup=False,
        highlight=False,
    )
    if ignored:
        console.print(f"columns without a meaning here: {', '.join(ignored)}", markup=False, highlight=False)
    if not outcome.refused:
        return
    table = Table("line", "row", "column", "value", "reason", title=f"Refused (first {_SHOWN})")
    for refusal in outcome.refused[:_SHOWN]:
        cells = (str(refusal.line), str(refusal.row), refusal.column, refusal.value, refusal.reason)
        table.add_row(*map(escape, cells))
    console.print(table)
    for (column, reason), count in Counter((r.column, _kind_of(r.reason)) for r in outcome.refused).most_common(_SHOWN):
        console.print(f"{count:>7} × {column or 'row'}: {reason}", markup=False, highlight=False)
    where = f"all of them in {request.report}" if request.report else "name a file with --report to have all of them"
    console.print(where, markup=False, highlight=False)


def _kind_of(reason: str) -> str:
    """The reason without the particulars of one row, for counting."""
    return re.sub(r"\d+", "…", reason.split(" (")[0])


def register(main: click.Group) -> None:
    """Attach ``import jobs``, ``import customers`` and ``import outages`` to the command line."""
    group = main.commands.get("import")
    if not isinstance(group, click.Group):
        group = click.Group("import", help="Import territories, customers, jobs and planned outages from files.")
        main.add_command(group)
    group.add_command(jobs)
    group.add_command(customers)
    group.add_command(outages)
