"""``fieldsvc users|devices|crews`` and ``fieldsvc import territories``: set a service up without a token to begin with.

Who may run these commands has the database anyway; so they act as the service itself, and the history says so.
"""

from __future__ import annotations

import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import click
import segno
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from sqlalchemy import select

from fieldsvc import schema
from fieldsvc.app import create_app
from fieldsvc.base.clock import format_time, parse_time, utc_now
from fieldsvc.base.db import db, reading, transaction
from fieldsvc.base.errors import FieldsvcError
from fieldsvc.config import Settings
from fieldsvc.geo.territories import SITE_CLASSES
from fieldsvc.people import crews, devices, staff, territories
from fieldsvc.people.actors import ROLES, SYSTEM
from fieldsvc.people.models import Crew, Device, Staff, Territory

_data_dir = click.option(
    "--data-dir", type=click.Path(file_okay=False, path_type=Path), help="As for `fieldsvc up`.  [default: var]"
)


@contextmanager
def opened(data_dir: Path | None) -> Iterator[Settings]:
    """An application context on a database of the newest schema; an expected error becomes a message and status 1."""
    from fieldsvc.cli import load_settings

    settings = load_settings(data_dir)
    try:
        if settings.is_sqlite:
            schema.migrate(settings)
        elif not schema.is_current(settings):
            raise click.ClickException("the database is not at the newest schema: run `fieldsvc migrate` first")
    except schema.Unusable as error:
        raise click.ClickException(str(error)) from None
    app = create_app(settings)
    with app.app_context():
        try:
            yield settings
        except FieldsvcError as error:
            more = [f"\n  {fault['field']}: {fault['reason']}" for fault in error.errors]
            raise click.ClickException(error.detail + "".join(more if len(more) > 1 else ())) from None
        finally:
            db.session.remove()
            db.engine.dispose()


def _table(*columns: str, rows: list[tuple[Any, ...]], empty: str) -> None:
    if not rows:
        click.echo(empty)
        return
    table = Table(*columns)
    for row in rows:
        table.add_row(*(escape("" if cell is None else str(cell)) for cell in row))
    Console(width=None if sys.stdout.isatty() else 160).print(table)


def _day(moment: datetime | None) -> str | None:
    return None if moment is None else format_time(moment.replace(microsecond=0))


@click.group()
def users() -> None:
    """Who may use the API and the console.

    \b
    fieldsvc users add mei --role dispatcher --territory JX-01 --territory JX-02
    fieldsvc users add boss --role admin --all-territories --generate
    fieldsvc users token boss --name laptop      # prints a token for the API
    fieldsvc users disable mei                   # ends all her tokens
    """


@users.command("add")
@click.argument("name")
@click.option("--role", type=click.Choice(ROLES), required=True)
@click.option("--display-name", help="How the history names this person.")
@click.option("--territory", "codes", multiple=True, metavar="CODE", help="May see this territory; repeatable.")
@click.option("--all-territories", is_flag=True, help="May see everything.")
@click.option("--password-stdin", is_flag=True, help="Read the password from the first line of standard input.")
@click.option("--generate", is_flag=True, help="Make a password up and show it once.")
@_data_dir
def add_user(
    name: str,
    role: str,
    display_name: str | None,
    codes: tuple[str, ...],
    all_territories: bool,
    password_stdin: bool,
    generate: bool,
    data_dir: Path | None,
) -> None:
    """Add the account NAME: small letters, digits and . _ -

    Asks for a password on a terminal; otherwise, or with --generate, makes one up and shows it once.
    """
    if bool(codes) == all_territories:
        raise click.UsageError("say what the account may see: --territory CODE (repeatable) or --all-territories")
    if not staff.is_username(name):
        raise click.UsageError("NAME must have 2 to 64 small letters, digits, dots, dashes or underscores")
    password, made_up = _password(password_stdin, generate)
    with opened(data_dir):
        with transaction():
            staff.create(
                SYSTEM.source(utc_now()),
                username=name,
                password=password,
                role=role,
                display_name=display_name,
                all_territories=all_territories,
                territory_ids=territories.ids_of_codes(list(codes)),
            )
        click.echo(f"{name} added as {role}")
        if made_up:
            click.echo(f"password (shown this once): {password}")


def _password(from_stdin: bool, generate: bool) -> tuple[str, bool]:
    """The password to set, and whether it was made up here."""
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n"), False
    if generate or not sys.stdin.isatty():
        return secrets.token_urlsafe(15), True
    text: str = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    return text, False


@users.command("list")
@_data_dir
def list_users(data_dir: Path | None) -> None:
    """All accounts."""
    with opened(data_dir), reading():
        codes = {row.id: row.code for row in db.session.execute(select(Territory.id, Territory.code))}
        rows = [
            (
                user.username,
                user.display_name,
                user.role,
                "all" if user.all_territories else ", ".join(codes[i] for i in staff.territory_ids(user)) or "none",
                "yes" if user.active else "no",
            )
            for user in db.session.scalars(select(Staff).order_by(Staff.username))
        ]
        _table("name", "display name", "role", "territories", "active", rows=rows, empty="no accounts yet")


@users.command("disable")
@click.argument("name")
@_data_dir
def disable_user(name: str, data_dir: Path | None) -> None:
    """Disable the account NAME and revoke its tokens."""
    with opened(data_dir):
        with transaction():
            staff.edit(SYSTEM.source(utc_now()), staff.by_username(name).id, {"active": False})
        click.echo(f"{name} is disabled; its tokens are revoked")


@users.command("token")
@click.argument("name")
@click.option("--name", "label", default="command line", show_default=True, help="What the token is for.")
@click.option("--ttl-days", type=click.IntRange(1, staff.LONGEST_TOKEN.days), help="Days until it expires.")
@_data_dir
def user_token(name: str, label: str, ttl_days: int | None, data_dir: Path | None) -> None:
    """Print a new API token of NAME. It is shown this once.

    \b
    TOKEN=$(fieldsvc users token boss)
    curl -H "Authorization: Bearer $TOKEN" http://127.0.0.1:8000/v1/me
    """
    with opened(data_dir) as settings:
        ttl = timedelta(days=ttl_days) if ttl_days else timedelta(seconds=settings.api_token_ttl)
        with transaction():
            user = staff.by_username(name)
            if not user.active:
                raise click.ClickException(f"{name} is disabled")
            token, text = staff.issue_token(SYSTEM.source(utc_now()), user, label[:80], ttl)
            expires = _day(token.expires_at)
        click.echo(text)
        click.echo(f"expires {expires}", err=True)


@click.group("devices")
def device_group() -> None:
    """The crews' handhelds.

    \b
    fieldsvc devices enrol CREW-1 --server https://field.example   # prints a code and a QR code
    fieldsvc devices list
    fieldsvc devices revoke 0192f3aa-…
    """


@device_group.command("enrol")
@click.argument("crew")
@click.option(
    "--server", default="http://127.0.0.1:8000", show_default=True, help="Where the device finds the service."
)
@_data_dir
def enrol_device(crew: str, server: str, data_dir: Path | None) -> None:
    """Print a single-use code that enrols one device of the crew with code CREW."""
    with opened(data_dir) as settings:
        ttl = timedelta(seconds=settings.enrolment_code_ttl)
        with transaction():
            code, text = devices.new_code(SYSTEM, utc_now(), crews.by_code(SYSTEM, crew), ttl)
            expires = _day(code.expires_at)
        segno.make_qr(devices.enrolment_uri(server, text)).terminal(out=sys.stdout, compact=True)
        click.echo(f"code {text} for crew {crew}, once, until {expires}")


@device_group.command("list")
@click.option("--crew", metavar="CODE", help="Only the devices of this crew.")
@_data_dir
def list_devices(crew: str | None, data_dir: Path | None) -> None:
    """All devices."""
    with opened(data_dir), reading():
        statement = select(Device, Crew.code).join(Crew, Crew.id == Device.crew_id).order_by(Device.enrolled_at)
        if crew:
            statement = statement.where(Crew.id == crews.by_code(SYSTEM, crew).id)
        rows = [
            (device.id, code, device.platform, device.app_version, _day(device.last_seen_at), _day(device.revoked_at))
            for device, code in db.session.execute(statement)
        ]
        _table("device", "crew", "platform", "app", "last seen", "revoked", rows=rows, empty="no devices yet")


@device_group.command("revoke")
@click.argument("device")
@click.option("--reason", help="Kept in the history.")
@_data_dir
def revoke_device(device: str, reason: str | None, data_dir: Path | None) -> None:
    """Refuse DEVICE (its id) from its next call on, and tell it to wipe."""
    with opened(data_dir):
        with transaction():
            devices.revoke(SYSTEM, utc_now(), devices.get(SYSTEM, device, lock=True), reason)
        click.echo(f"{device} is revoked")


@click.group("crews")
def crew_group() -> None:
    """Crews and their shifts.

    \b
    fieldsvc crews add CREW-1 "North 1" --skill repair --territory JX-01 --base 111.57 35.49 --member "Fitter 1"
    fieldsvc crews shift CREW-1 2026-11-23T08:00:00+08:00 --hours 9
    fieldsvc crews list
    """


@crew_group.command("add")
@click.argument("code")
@click.argument("name")
@click.option("--name-local", help="The name in the local language.")
@click.option("--skill", "skills", multiple=True, help="Such as repair or meter_change; repeatable.")
@click.option("--territory", "codes", multiple=True, metavar="CODE", help="Home territory; repeatable.")
@click.option("--base", nargs=2, type=float, metavar="LON LAT", help="Where it starts from.")
@click.option("--member", "members", multiple=True, help="Name of a member; repeatable.")
@_data_dir
def add_crew(
    code: str,
    name: str,
    name_local: str | None,
    skills: tuple[str, ...],
    codes: tuple[str, ...],
    base: tuple[float, float] | None,
    members: tuple[str, ...],
    data_dir: Path | None,
) -> None:
    """Add the crew CODE called NAME."""
    lon, lat = base or (None, None)
    with opened(data_dir):
        with transaction():
            crews.create(
                SYSTEM,
                utc_now(),
                code=code,
                name=name,
                name_local=name_local,
                skills=skills,
                territory_codes=codes,
                base_lon=lon,
                base_lat=lat,
                members=members,
            )
        click.echo(f"crew {code} added")


@crew_group.command("shift")
@click.argument("code")
@click.argument("start")
@click.option("--hours", type=click.FloatRange(0.25, 24), default=8, show_default=True)
@_data_dir
def add_shift(code: str, start: str, hours: float, data_dir: Path | None) -> None:
    """Put crew CODE on duty from START (RFC 3339, with zone)."""
    try:
        begin = parse_time(start)
    except ValueError as error:
        raise click.UsageError(f"START: {error}") from None
    with opened(data_dir):
        with transaction():
            crew = crews.get(SYSTEM, crews.by_code(SYSTEM, code).id, lock=True)
            crews.add_shift(SYSTEM, utc_now(), crew, begin, begin + timedelta(hours=hours))
        click.echo(f"crew {code} is on duty from {_day(begin)} for {hours:g} h")


@crew_group.command("list")
@_data_dir
def list_crews(data_dir: Path | None) -> None:
    """All crews."""
    with opened(data_dir), reading():
        codes = {row.id: row.code for row in db.session.execute(select(Territory.id, Territory.code))}
        rows = [
            (
                crew.code,
                crew.name,
                ", ".join(crew.skills),
                ", ".join(codes.get(i, i) for i in crew.territory_ids),
                len(crew.members),
                "yes" if crew.active else "no",
            )
            for crew in db.session.scalars(select(Crew).order_by(Crew.code))
        ]
        _table("code", "name", "skills", "territories", "members", "active", rows=rows, empty="no crews yet")


@click.command("territories")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--code-field", metavar="NAME", help="The property with the code; default: the usual names are tried.")
@click.option("--name-field", metavar="NAME", help="… with the name.")
@click.option("--name-local-field", metavar="NAME", help="… with the name in the local language.")
@click.option("--site-class-field", metavar="NAME", help=f"… with the site class: {', '.join(SITE_CLASSES)}.")
@click.option("--priority-field", metavar="NAME", help="… with the priority; the higher one wins an overlap.")
@click.option("--level-field", metavar="NAME", help="… with the level; 1 is the finest division.")
@click.option("--site-class", type=click.Choice(SITE_CLASSES), help="For features that do not say.")
@click.option("--priority", type=click.IntRange(-1_000_000, 1_000_000), help="For features that do not say.")
@click.option("--level", type=click.IntRange(0, 99), help="For features that do not say.")
@_data_dir
def import_territories(file: Path, data_dir: Path | None, **mapping: Any) -> None:
    """Add or change territories from FILE, a GeoJSON FeatureCollection in WGS 84.

    A territory is known by its code, so the same file again changes nothing. Invalid rings are repaired, unusable
    features left out, and both are listed.

    \b
    fieldsvc import territories districts.geojson --code-field boro_cd --site-class urban
    """
    given = {name: value for name, value in mapping.items() if value is not None}
    with opened(data_dir):
        with transaction():
            report = territories.import_geojson(SYSTEM, file.read_bytes(), given, utc_now())
        click.echo(
            f"{report.created} created, {report.updated} updated, {report.unchanged} unchanged, "
            f"{report.repaired} repaired, {report.refused} refused"
        )
        rows = [
            (entry["index"], entry["name"], entry["severity"], entry["problem"], entry["action"])
            for entry in report.entries
        ]
        if rows:
            _table("feature", "name", "what", "problem", "action", rows=rows, empty="")


def register(main: click.Group) -> None:
    """Attach the groups, and ``territories`` to the group ``import``."""
    for group in (users, device_group, crew_group):
        main.add_command(group)
    importing = main.commands.get("import")
    if not isinstance(importing, click.Group):
        importing = click.Group("import", help="Import territories, customers, jobs and planned outages from files.")
        main.add_command(importing)
    importing.add_command(import_territories)
