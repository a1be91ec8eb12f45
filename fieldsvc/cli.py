"""The ``fieldsvc`` command."""

from __future__ import annotations

import signal
import threading
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import click

from fieldsvc import __version__, logs
from fieldsvc.config import BadSetting, Settings


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="fieldsvc")
def main() -> None:
    """Dispatch field work by geography, take offline results from crews, keep records an auditor can check.

    Start with `fieldsvc demo` to see the whole job done, or `fieldsvc up` for an empty service of your own.
    """


def load_settings(data_dir: Path | None = None) -> Settings:
    """The settings of the environment, with ``--data-dir`` taking precedence.

    :raises click.ClickException: a setting that cannot be used.
    """
    from fieldsvc.embedded import settle

    try:
        settings = Settings.from_env()
        logs.configure(settings)
        return settle(settings, data_dir or settings.data_dir)
    except BadSetting as error:
        raise click.ClickException(str(error)) from None
    except OSError as error:
        raise click.ClickException(f"the data directory cannot be used: {error}") from None


data_dir_option = click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where everything is kept.  [default: FIELDSVC_DATA_DIR or var]",
)


@main.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), help="Port; without it the first free one from 8000 on.")
@click.option("--workers", type=click.IntRange(0, 64), default=2, show_default=True, help="Worker processes.")
@data_dir_option
def up(host: str, port: int | None, workers: int, data_dir: Path | None) -> None:
    """Run the whole service here: Redis, database, web server, workers. Ctrl-C ends it.

    Uses REDIS_URL and DATABASE_URL where set; otherwise a Redis of its own and SQLite in the data directory.
    """
    from fieldsvc.embedded import Service, StartError

    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup stays in force
            signal.signal(number, lambda *_: stop.set())
    service = Service(load_settings(data_dir), host=host, port=port, workers=workers, say=click.echo)
    try:
        url = service.start()
        click.echo(f"fieldsvc is ready at {url}   (data in {service.settings.data_dir}, Ctrl-C ends it)")
        stop.wait()
    except StartError as error:
        raise click.ClickException(str(error)) from None
    finally:
        service.stop()
    click.echo("ended")


@main.command()
@data_dir_option
def migrate(data_dir: Path | None) -> None:
    """Bring the database to the newest schema. Safe to run again, and by two at once."""
    from fieldsvc import schema

    settings = load_settings(data_dir)
    try:
        schema.migrate(settings)
    except schema.Unusable as error:
        raise click.ClickException(str(error)) from None
    click.echo("the database is at the newest schema")


@main.command()
@click.option("--check", is_flag=True, help="Only say whether the file is what the code says; status 1 if not.")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path), default=Path("openapi.yaml"))
def openapi(check: bool, file: Path) -> None:
    """Write the API's description (OpenAPI 3.1) to FILE."""
    import difflib

    from fieldsvc.api import openapi_yaml
    from fieldsvc.app import create_app

    text = openapi_yaml(create_app(replace(Settings(), database_url="sqlite://")))
    if not check:
        file.write_text(text, encoding="utf-8")
        click.echo(f"{file}: written")
        return
    there = file.read_text(encoding="utf-8") if file.exists() else ""
    if there != text:
        for line in list(
            difflib.unified_diff(there.splitlines(), text.splitlines(), str(file), "the code", lineterm="")
        )[:40]:
            click.echo(line)
        raise click.ClickException(f"{file} is not what the code says: run `fieldsvc openapi`")
    click.echo(f"{file}: as the code says")


for _module in ("fieldsvc.commands", "fieldsvc.demo.command", "fieldsvc.simulate.command"):
    import_module(_module).attach(main)

if __name__ == "__main__":
    main()
