"""``fieldsvc demo``: the whole job on bundled or real data, from set-up to the proof that nothing was lost."""

from __future__ import annotations

import fcntl
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from fieldsvc.config import Settings
    from fieldsvc.demo.cast import Cast
    from fieldsvc.demo.client import Client
    from fieldsvc.demo.play import Seen
    from fieldsvc.demo.report import Check, Totals
    from fieldsvc.demo.scenario import Scenario
    from fieldsvc.demo.show import Story

_MARK = "made-by-fieldsvc-demo"
_SCHEMA = "fieldsvc_demo"


@click.command()
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="Play New York with the real data in this folder instead of the bundled county.",
)
@click.option(
    "--exit", "and_exit", is_flag=True, help="End instead of staying up; status 0 only if every count is right."
)
@click.option("--port", type=click.IntRange(0, 65535), help="Port; without it the first free one from 8000 on.")
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("var/demo"),
    show_default=True,
    help="Where the demo keeps its own data.",
)
def demo(data: Path | None, and_exit: bool, port: int | None, data_dir: Path) -> None:
    """See the whole job done: dispatch, a shift offline, late and twice and out of order, and what became of it.

    Starts a service of its own with a fresh database; one of an earlier demo is removed. With DATABASE_URL naming
    PostgreSQL everything is kept in a schema of its own there, fieldsvc_demo; nothing else is touched.

    \b
    fieldsvc demo                         a bundled county; the service stays up afterwards
    fieldsvc demo --data ../shared/data   New York's street lights, places and meters
    """
    from fieldsvc.demo.show import Story

    story = Story()
    with _interruptible():
        try:
            status = _demo(data, and_exit, port, data_dir, story)
        except KeyboardInterrupt:
            story.say("ended before the end", "yellow")
            status = 130
    raise SystemExit(status)


@contextmanager
def _interruptible() -> Iterator[None]:
    """SIGTERM and SIGHUP end the demo as Ctrl-C does."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        signal.signal(getattr(signal, name), interrupt)
    yield


def _demo(data: Path | None, and_exit: bool, port: int | None, data_dir: Path, story: Story) -> int:
    from fieldsvc.demo.cast import CastError
    from fieldsvc.demo.client import Refused
    from fieldsvc.demo.play import PlayError
    from fieldsvc.demo.stage import SetupError
    from fieldsvc.embedded import Service, StartError

    scenario = _scenario(data)
    settings, fresh = _prepared(data_dir)
    service = Service(settings, port=port, say=story.warn)
    try:
        story.title(f"fieldsvc demo · {scenario.title}", scenario.attribution)
        story.section("Set-up")
        with story.step("The service starts") as step:
            url = service.start()
            step.tell(f"the service is up at {url}, {fresh}")
        good, password = _story(url, service.settings, scenario, story)
        if and_exit:
            return 0 if good else 1
        _stay(url, password, data_dir, story)
        return 0 if good else 1
    except (StartError, SetupError, CastError, PlayError, Refused, ConnectionError) as error:
        story.say(f"The demo cannot go on: {error}", "bold red")
        story.say(f"What the processes said: {settings.data_dir / 'log'}", "dim")
        return 1
    finally:
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            signal.signal(getattr(signal, name), signal.SIG_IGN)  # ending is not to be interrupted
        service.stop()


def _scenario(data: Path | None) -> Scenario:
    """The scenario on today's date.

    :raises click.UsageError: the folder has not got the files; exit status 2.
    """
    from fieldsvc.base.clock import utc_now
    from fieldsvc.demo import county, newyork
    from fieldsvc.demo.stage import starting

    now = utc_now()
    if data is None:
        return starting(county.build(day=now.date()), now)
    if not data.is_dir():
        raise click.UsageError(f"--data: there is no folder {data}")
    try:
        return starting(newyork.build(data, now.date()), now)
    except ValueError as fault:
        raise click.UsageError(f"--data: {fault}") from None


def _prepared(data_dir: Path) -> tuple[Settings, str]:
    """Settings with an empty database of the demo's own, and where that is in a few words.

    :raises click.ClickException: the directory is in use, or holds a database that no demo has made.
    """
    data_dir = data_dir.resolve()
    database = data_dir / "fieldsvc.db"
    if database.exists() and not (data_dir / _MARK).exists():
        raise click.UsageError(
            f"{data_dir} holds a database that no demo has made; choose another folder with --data-dir"
        )
    data_dir.mkdir(parents=True, exist_ok=True)
    if _in_use(data_dir):
        raise click.UsageError(f"{data_dir} is in use by a running service; stop it, or choose another with --data-dir")
    again = database.exists()
    for path in (*data_dir.glob("fieldsvc.db*"), *data_dir.glob("*.csv"), data_dir / "demo-map.svg"):
        path.unlink(missing_ok=True)
    for folder in ("redis", "log"):
        shutil.rmtree(data_dir / folder, ignore_errors=True)
    (data_dir / _MARK).write_text("fieldsvc demo removes the database beside this file when it starts.\n")
    settings = _settings(data_dir)
    if settings.is_sqlite:
        what = "with a fresh database (the earlier demo's was removed)" if again else "with a database of its own"
        return replace(settings, database_url=f"sqlite:///{database}"), what
    return replace(settings, database_url=_own_schema(settings.database_url)), f"in the schema {_SCHEMA} of PostgreSQL"


def _settings(data_dir: Path) -> Settings:
    """The settings of the environment, kept in ``data_dir``; :raises click.ClickException: one that cannot be used."""
    from fieldsvc import logs
    from fieldsvc.config import BadSetting, Settings
    from fieldsvc.embedded import settle

    try:
        settings = Settings.from_env()
        logs.configure(settings)
        return replace(settle(settings, data_dir), queue_prefix="fieldsvc-demo")
    except BadSetting as error:
        raise click.ClickException(str(error)) from None


def _in_use(data_dir: Path) -> bool:
    lock = data_dir / "up.lock"
    if not lock.exists():
        return False
    with lock.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def _own_schema(database_url: str) -> str:
    """``database_url`` with a new, empty schema as the only one its connections see.

    :raises click.ClickException: the database does not answer or does not let us.
    """
    from sqlalchemy import create_engine, text
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import DBAPIError

    url = make_url(database_url)
    engine = create_engine(url)
    try:
        with engine.begin() as connection:
            connection.execute(text(f"DROP SCHEMA IF EXISTS {_SCHEMA} CASCADE"))
            connection.execute(text(f"CREATE SCHEMA {_SCHEMA}"))
    except DBAPIError as error:
        raise click.ClickException(f"DATABASE_URL: no schema of its own for the demo: {error.orig}") from None
    finally:
        engine.dispose()
    return url.update_query_dict({"options": f"-csearch_path={_SCHEMA}"}).render_as_string(hide_password=False)


def _story(url: str, settings: Settings, scenario: Scenario, story: Story) -> tuple[bool, str]:
    """The whole story; answers whether every count is right, and the password of the accounts."""
    from zoneinfo import ZoneInfo

    from fieldsvc.demo import pages, play, report, stage
    from fieldsvc.demo.cast import cast as give_parts

    zone = ZoneInfo(scenario.timezone)
    password, office, crews = stage.set_up(url, settings, scenario, story)
    begins = min(crew["shift_start"] for crew in scenario.crews)
    with story.step("Dispatch", "POST /v1/dispatch-runs", None) as step:
        run, decisions = stage.dispatch(office["dispatcher"], begins, step.advance)
        step.tell(f"dispatched: {run['assigned']} of {run['considered']} jobs to {len(crews)} crews")
    set_stage = stage.Stage(url, scenario, office, crews, run, decisions)
    pages.dispatched(set_stage, story)

    story.section("One shift, in fast motion")
    story.say(f"Ten hours pass in {play.SHIFT.seconds} seconds. Times are the real ones of now, in {zone.key}.", "dim")
    devices = play.enrol(set_stage, story)
    with story.step("Everybody pulls", "GET /sync/v1/pull") as step:
        play.at_once(devices, play.Device.pull)
        step.tell(
            f"{sum(len(d.docs) for d in devices)} documents pulled in {sum(d.app.pages for d in devices)} pages: jobs, "
            "customers, meters, checklists; now offline"
        )
    play.load_vans(devices, scenario.new_meters)
    cast = give_parts(devices)
    seen = play.shift(cast, office["dispatcher"], story)
    play.settle(devices, story)
    _aftermath(cast, seen, office, story)

    story.section("What became of it, from the API alone")
    with story.step(
        "Reading it back as the auditor", "GET /v1/operations · /v1/history · /v1/jobs", len(devices)
    ) as step:
        play.at_once(devices, play.Device.pull)
        found = report.read(office["auditor"], devices, step.advance)
        step.tell(
            f"{len(found.operations)} operations, {len(found.entries)} history entries, {len(found.jobs)} jobs read"
        )
    sums = report.totals(cast, found)
    pages.by_device(cast, sums, story)
    story.section("A customer's record after a meter change")
    pages.customer(office["auditor"], found, zone, story)
    story.section("A job's history: by the device's clock, as estimated, as recorded")
    pages.history(office["auditor"], cast, found, zone, story)
    story.section("The review queue")
    pages.reviews(cast, found, story)
    story.section("The map")
    path = settings.data_dir / "demo-map.svg"
    pages.draw(office["auditor"], set_stage, found, path)
    story.say(f"territories, jobs and routes: {path}")
    return _verdict(list(report.checks(cast, seen, found, run)), sums, story), password


def _aftermath(cast: Cast, seen: Seen, office: dict[str, Client], story: Story) -> None:
    """The office and the crews deal with what did not go straight."""
    from fieldsvc.demo import play

    with story.step("What went wrong is put right", "POST /v1/reviews/{id}/resolve") as step:
        fixed = play.put_right(cast)
        seen.attention = play.see_attention(cast)
        play.decide(office["dispatcher"], cast)
        step.tell(f"{fixed} refused completion sent again; one review decided, and its device told")
    play.settle(cast.devices, story)


def _verdict(checks: list[Check], sums: Totals, story: Story) -> bool:
    story.section("The counts")
    for check in checks:
        story.mark(check.good, check.text)
    good = all(check.good for check in checks)
    story.say("")
    style = "bold green" if good else "bold red"
    story.say(
        f"{sums.sent} sent = {sums.ended} terminal outcomes · {sums.lost} lost · {sums.twice} applied twice · "
        f"{sum(check.good for check in checks)} of {len(checks)} checks right · {story.seconds:.0f} s",
        style,
    )
    return good


def _stay(url: str, password: str, data_dir: Path, story: Story) -> None:
    """Leave the service up until somebody ends it."""
    import threading

    from fieldsvc.demo.stage import ROLES

    story.section("Yours now")
    story.say(f"The service stays up. Open {url} in a browser and sign in.", "bold")
    story.say(f"Accounts {', '.join(ROLES)}; the password of all three, shown this once: {password}")
    story.say("Or by the API:", "dim")
    login = f'\'{{"username":"dispatcher","password":"{password}"}}\''
    story.command(f"curl -s {url}/v1/tokens -H 'Content-Type: application/json' -d {login}")
    story.say(f"Ctrl-C ends it. Data in {data_dir}; the next demo starts afresh.", "dim")
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        story.say("ended")


def attach(main: click.Group) -> None:
    """Add the command to ``main``."""
    main.add_command(demo)
