"""``fieldsvc simulate``: a shift on bad lines against servers that are killed, and the proof that nothing was lost."""

from __future__ import annotations

import shutil
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from fieldsvc.demo.show import Story
    from fieldsvc.simulate.world import Options


@click.command()
@click.option(
    "--devices", type=click.IntRange(2, 2000), default=200, show_default=True, help="Devices, about three to a crew."
)
@click.option("--hours", type=click.IntRange(1, 24), default=8, show_default=True, help="Hours in the field.")
@click.option(
    "--seed", type=click.IntRange(0), default=1, show_default=True, help="Decides everything but the timing of threads."
)
@click.option(
    "--database",
    type=click.Choice(("sqlite", "postgresql")),
    help="What the service keeps its data in; a PostgreSQL of its own.  [default: what DATABASE_URL is, else sqlite]",
)
@click.option(
    "--report", type=click.Path(dir_okay=False, path_type=Path), help="Write everything found to this file (JSON)."
)
@click.option("--chart", type=click.Path(dir_okay=False, path_type=Path), help="Draw the run (SVG).")
@click.option(
    "--keep", type=click.Path(file_okay=False, path_type=Path), help="Do it in this folder, and leave it there."
)
def simulate(
    devices: int,
    hours: int,
    seed: int,
    database: str | None,
    report: Path | None,
    chart: Path | None,
    keep: Path | None,
) -> None:
    """Prove that nothing is lost: many devices, bad lines, crashes, wrong clocks, servers killed at random.

    It starts a service, a Redis and where asked a PostgreSQL of its own; nothing else is touched. Status 0 only if
    every operation that a device has written is in exactly one outcome, every device equals the service, and the
    history has no gap. What happens follows from the seed; only which thread comes first does not.
    """
    from fieldsvc.config import BadSetting, Settings
    from fieldsvc.demo.show import Story
    from fieldsvc.simulate.world import Options

    story = Story()
    try:
        database = database or ("sqlite" if Settings.from_env().is_sqlite else "postgresql")
    except BadSetting as error:
        raise click.ClickException(str(error)) from None
    folder = keep or Path(tempfile.mkdtemp(prefix="fieldsvc-sim-"))
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise click.UsageError(f"--keep: {folder} is not empty")
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        signal.signal(getattr(signal, name), _interrupt)
    try:
        good = _simulate(Options(devices, hours, seed, database, folder.resolve()), report, chart, story)
    except KeyboardInterrupt:
        story.say("ended before the end", "yellow")
        if keep is None:
            shutil.rmtree(folder, ignore_errors=True)
        raise SystemExit(130) from None
    if good and keep is None:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        story.say(f"everything is left in {folder}", "dim")
    raise SystemExit(0 if good else 1)


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _simulate(options: Options, report: Path | None, chart: Path | None, story: Story) -> bool:
    """The whole simulation; answers whether everything is right."""
    import orjson

    from fieldsvc.demo.stage import SetupError
    from fieldsvc.embedded import StartError
    from fieldsvc.simulate import check, play, reports
    from fieldsvc.simulate.postgres import NoPostgres
    from fieldsvc.simulate.world import world

    story.title(f"fieldsvc simulate · {options.devices} devices, {options.hours} hours", f"seed {options.seed}")
    story.section("Set-up")
    try:
        with world(options, story) as made:
            story.section("The shift")
            played = play.play(made, story)
            with story.step("Reading everything back", "the phones' files · the API", len(played.phones)) as step:
                found = check.read(played, step.advance)
                step.tell(
                    f"{len(found.written)} operations, {len(found.entries)} history entries, {len(found.jobs)} jobs"
                )
            checked = list(check.checks(played, found))
    except (StartError, SetupError, NoPostgres) as error:
        story.say(f"The simulation cannot go on: {error}", "bold red")
        return False
    told = reports.as_json(played, found, checked)
    reports.tell(told, checked, story)
    if report:
        report.write_bytes(orjson.dumps(told, option=orjson.OPT_INDENT_2))
    if chart:
        from fieldsvc.simulate.chart import draw

        chart.write_text(draw(told), encoding="utf-8")
    _verdict(told, options, story)
    return bool(told["good"])


def _verdict(told: dict[str, object], options: Options, story: Story) -> None:
    good = bool(told["good"])
    story.say("")
    story.say(
        f"{told['operations']} operations of {options.devices} devices: "
        + ("all is right" if good else "NOT RIGHT")
        + f" · {story.seconds:.0f} s",
        "bold green" if good else "bold red",
    )
    if not good:
        story.say("To repeat it (what follows from the timing of threads may differ):")
        story.command(options.command)


def attach(main: click.Group) -> None:
    """Add the command to ``main``."""
    main.add_command(simulate)
