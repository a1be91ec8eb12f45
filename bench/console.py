"""The board in Chromium with 10,000 jobs and 300 crews, beside itself with 100 jobs and beside a bare Leaflet map.

Times are the browser's own: from the beginning of the navigation, or from the click, to the last change of the page
after which for half a second nothing changes and no question to the service is under way; countdowns and the dot that
says "live" do not count. Each round opens a new window without a cache.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from bench import nyc, report, setting
from bench.setting import Running
from fieldsvc.base.clock import utc_now
from fieldsvc.base.db import db, transaction
from fieldsvc.people import crews, staff, territories
from fieldsvc.people.actors import SYSTEM
from fieldsvc.people.models import Crew
from fieldsvc.work import change, jobs
from fieldsvc.work.bulk import store_all
from fieldsvc.work.models import Job

SEED, BATCH, ROUNDS = 1, 500, 5
KINDS = ("repair", "repair", "meter_change", "safety_inspection")
COLUMNS = ("", "100 jobs, 6 crews", "10,000 jobs, 300 crews", "ratio")
PAGE = Path(__file__).with_name("README.md")
FILTER = "a[href*='status=waiting_to_be_scheduled']"
PASSWORD = "a password for the bench"
CHROMIUM = "/usr/bin/chromium"
_OPTIONS = "--no-sandbox --disable-gpu --disable-background-networking --disable-component-update --disable-sync"

SCRIPT = Path(__file__).with_suffix(".js")
"""Put into each page before its own scripts."""


@dataclass(frozen=True)
class Size:
    """How much, and how often it is measured."""

    jobs: int
    crews: int


SIZES = (Size(100, 6), Size(10_000, 300))
QUICK = (Size(30, 2), Size(300, 6))


def main() -> None:
    options = report.arguments(
        __doc__.splitlines()[0] if __doc__ else "", readme="write the table into bench/README.md as well"
    )
    machine = setting.machine()
    sizes, rounds = (QUICK, 1) if options.quick else (SIZES, ROUNDS)
    found = measured(sizes, rounds)
    machine = setting.until_now(machine)
    if options.json:
        report.dump({"machine": machine, "rounds": found})
        return
    rows, notes = _rows(found), _notes(found, sizes)
    report.show("The board in a browser", machine, rows, notes, COLUMNS)
    if options.readme:
        said = "\n".join(f"- {note}" for note in (report.told(machine), *notes))
        report.write_into(PAGE, "console", f"{report.markdown(COLUMNS, rows)}\n\n{said}")


def measured(sizes: tuple[Size, ...], rounds: int) -> list[list[dict[str, float]]]:
    """Milliseconds of each round, by size."""
    found: list[list[dict[str, float]]] = [[] for _ in sizes]
    with setting.durable_postgres() as server, sync_playwright() as playwright:
        services = [setting.running(server, workers=1) for _ in sizes]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=_OPTIONS.split())
        with services[0] as small, services[1] as large:
            points = [_seed(service, size) for service, size in zip((small, large), sizes, strict=True)]
            for _ in range(rounds):
                for place, service in enumerate((small, large)):
                    found[place].append(_round(browser, service, points[place], sizes[place].crews))
        browser.close()
    return found


def _seed(service: Running, size: Size) -> list[tuple[float, float]]:
    """Territories, crews on duty and jobs, a fifth of them with a crew; where the jobs are."""
    areas, now, draw = nyc.districts(), utc_now(), random.Random(SEED)
    chosen = draw.sample(nyc.complaints(areas, once=False), size.jobs)
    source = (nyc.DATA / "nyc_territories" / "community_districts.geojson").read_bytes()
    with service.app.app_context():
        with transaction():
            territories.import_geojson(SYSTEM, source, {}, now)
            staff.create(
                SYSTEM.source(now), username="bench", password=PASSWORD, role="dispatcher", all_territories=True
            )
        fleet: list[str] = []
        with transaction():
            for number in range(size.crews):
                area = areas[number % len(areas)]
                home = area.shape.representative_point()
                crew = crews.create(
                    SYSTEM, now, code=f"L{number:03}", name=f"Line crew {number:03}", skills=["repair"],
                    territory_codes=[area.code], base_lon=home.x, base_lat=home.y,
                )  # fmt: skip
                crews.add_shift(SYSTEM, now, crew, now - timedelta(hours=2), now + timedelta(hours=6))
                fleet.append(crew.id)
        for first in range(0, size.jobs, BATCH):
            with transaction():
                made = [_job(one, draw) for one in chosen[first : first + BATCH]]
                store_all(SYSTEM.source(now), made, "job.created")
            db.session.remove()
        _assign(fleet, size)
    return [(one.lon, one.lat) for one in chosen]


def _job(one: nyc.Complaint, draw: random.Random) -> jobs.NewJob:
    reported = utc_now() - timedelta(minutes=draw.randrange(200))
    return jobs.NewJob(
        kind=draw.choice(KINDS), title=one.descriptor, lon=one.lon, lat=one.lat, priority=draw.randint(1, 9),
        reported_at=reported, hazards=["wire_down"] if draw.random() < 0.02 else [],
    )  # fmt: skip


def _assign(fleet: list[str], size: Size) -> None:
    """Eight jobs for each crew as far as they go, an hour apart."""
    now = utc_now()
    waiting = [row.id for row in db.session.query(Job.id).order_by(Job.id).limit(min(size.jobs // 5, 8 * len(fleet)))]
    db.session.remove()
    for first in range(0, len(waiting), BATCH):
        with transaction():
            for place, job_id in enumerate(waiting[first : first + BATCH], first):
                crew = db.session.get_one(Crew, fleet[place % len(fleet)])
                order = place // len(fleet)
                start = now + timedelta(minutes=50 * order - 60)
                job = db.session.get_one(Job, job_id)
                change.assign(SYSTEM.source(now), job, crew, planned_start=start, planned_order=order + 1)
        db.session.remove()


@contextmanager
def _window(browser: Browser, service: Running) -> Iterator[tuple[BrowserContext, Page]]:
    """A new window, signed in."""
    context = browser.new_context(base_url=service.service.url, viewport={"width": 1280, "height": 800})
    context.set_default_timeout(120_000)
    page = context.new_page()
    page.goto("/sign-in?next=/account")
    page.locator("[name=username]").fill("bench")
    page.locator("[name=password]").fill(PASSWORD)
    page.locator("main button").click()
    page.wait_for_url("**/account")
    context.add_init_script(path=SCRIPT)
    try:
        yield context, page
    finally:
        context.close()


def _round(browser: Browser, service: Running, points: list[tuple[float, float]], crews: int) -> dict[str, float]:
    with _window(browser, service) as (_, page):
        page.goto("/", wait_until="commit")
        page.wait_for_load_state("load")
        whole = page.evaluate("() => bench.still(0)")
        rows = page.locator("#timeline .vis-label .tl-crew").count()
        if rows != crews:
            raise SystemExit(f"the board came to rest with {rows} of {crews} crews: this measures nothing")
        paint = page.evaluate("() => performance.getEntriesByName('first-contentful-paint')[0].startTime")
        found = {"first paint": paint, "list, map and timeline there": whole}
        found["a filter: list, map and timeline changed"] = page.evaluate("one => bench.click(one)", FILTER)
        frames = page.evaluate("() => bench.zoom()")
        found["zooming the map: a frame, 95 of 100"] = report.percentile(frames, 0.95)
        found["bare Leaflet and markercluster, the same points"] = _bare(page, points)
    return found


def _bare(page: Page, points: list[tuple[float, float]]) -> float:
    scripts, styles = (
        page.evaluate("([tag, name]) => [...document.querySelectorAll(tag)].map((one) => one.getAttribute(name))", one)
        for one in (("script[src]", "src"), ("link[rel=stylesheet]", "href"))
    )
    wanted = ("/leaflet.js", "leaflet.markercluster.js")
    scripts = [one for name in wanted for one in scripts if one.endswith(name)]
    styles = [one for one in styles if "leaflet.css" in one or "MarkerCluster" in one]
    page.goto("/account", wait_until="load")
    return float(page.evaluate("one => bench.bare(one)", [styles, scripts, points]))


def _rows(found: list[list[dict[str, float]]]) -> list[tuple[str, ...]]:
    small, large = (report.medians(rounds) for rounds in found)
    return [
        (name, f"{small[name]:,.0f} ms", f"{large[name]:,.0f} ms", f"{large[name] / small[name]:.2f}") for name in small
    ]


def _notes(found: list[list[dict[str, float]]], sizes: tuple[Size, ...]) -> list[str]:
    large = report.medians(found[1])
    whole, bare = large["list, map and timeline there"], large["bare Leaflet and markercluster, the same points"]
    spread = ", ".join(f"{one['list, map and timeline there']:,.0f}" for one in found[1])
    jobs_there = f"{sizes[1].jobs:,} jobs"
    return [
        f"{len(found[0])} rounds in turn, medians; {sizes[0].jobs:,} and {jobs_there}",
        f"the whole board with {jobs_there} takes {whole / bare:.1f} times what its points alone take on a bare map",
        f"the whole board, round by round: {spread} ms",
    ]


if __name__ == "__main__":
    main()
