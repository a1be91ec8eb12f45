"""How long a large campaign takes: its draft, its jobs, its withdrawal, and who is due for an inspection, on SQLite.

20,000 invented customers in 400 transformer areas, three months, 26 crews by day and two by night.
"""

from __future__ import annotations

import csv
import io
import random
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from bench import report, setting
from fieldsvc.app import create_app
from fieldsvc.base.clock import utc_now
from fieldsvc.base.db import reading, transaction
from fieldsvc.base.sheet import Layout, Sheet
from fieldsvc.commands.imports import run
from fieldsvc.config import Settings
from fieldsvc.people.actors import SYSTEM
from fieldsvc.records.importing import BATCH, COLUMNS, CustomerImport
from fieldsvc.schema import migrate
from fieldsvc.work import campaign_steps, campaigns, inspections

_CLASSES = (("residential", "none"), ("hospital", "special"), ("school", "first"), ("commercial", "second"))
_SHARES = (96, 1, 1, 2)
_HEAD = (
    "number name customer_class importance lon lat usage_point_number transformer_area voltage_level meter_asset_no "
    "installed_at"
).split()


def main() -> None:
    options = report.arguments(__doc__.splitlines()[0] if __doc__ else "")
    points = 2_000 if options.quick else 20_000
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(database_url=f"sqlite:///{folder}/bench.db", secret_key="bench", data_dir=Path(folder))
        migrate(settings)
        with create_app(settings).app_context():
            _settle(points)
            took, counts = _measure(settings, points)
    if options.json:
        report.dump({"machine": setting.machine(), "seconds": took, "counts": counts})
        return
    rows = [(name, f"{seconds:.1f}") for name, seconds in took.items()]
    notes = [", ".join(f"{count:,} {reason}" for reason, count in counts.items())]
    report.show(f"campaign: {points:,} usage points", setting.machine(), rows, notes, ("", "seconds"))


def _settle(points: int) -> None:
    """The customers, scattered over 400 areas of some hundred metres each."""
    chance = random.Random(1)
    middles = [(chance.uniform(111.5, 111.7), chance.uniform(35.4, 35.6)) for _ in range(points // 50)]
    text = io.StringIO()
    out = csv.writer(text)
    out.writerow(_HEAD)
    for n in range(points):
        grade = chance.choices(_CLASSES, _SHARES)[0]
        area = chance.randrange(len(middles))
        lon, lat = (chance.gauss(middle, 0.002) for middle in middles[area])
        out.writerow((n, f"Customer {n}", *grade, lon, lat, n, f"T{area:03}", "220V", n, "2015-01-01T00:00:00Z"))
    sheet = Sheet(text.getvalue().encode(), Layout(), COLUMNS)
    outcome = run(sheet, CustomerImport(Layout()), SYSTEM.source(utc_now()), batch=BATCH)
    if outcome.refused:
        raise SystemExit(f"refused: {outcome.refused[0]}")


def _measure(settings: Settings, points: int) -> tuple[dict[str, float], dict[str, int]]:
    now = utc_now()
    first = now.date() + timedelta(days=10)
    areas = [f"T{number:03}" for number in range(points // 50)]
    crews = {"crews_per_day": -(-points * 26 // 20_000), "night_crews_per_day": 2, "days_off": ("sat", "sun")}
    asked = campaigns.NewCampaign(
        "Bench", "meter_change", first, first + timedelta(days=90), transformer_areas=areas, **crews
    )  # fmt: skip
    took: dict[str, float] = {}

    def timed(name: str, work: Callable[[], object]) -> None:
        began = time.perf_counter()
        work()
        took[name] = time.perf_counter() - began

    with transaction():
        campaign_id = campaigns.request(SYSTEM.source(now), asked, None, settings.zone).id
    timed("draft, with its rows", lambda: campaign_steps.run(campaign_id, now))
    with reading():
        page = campaigns.page(campaigns.find(campaign_id, None, None))
        timed("calendar", lambda: campaigns.calendar(campaigns.find(campaign_id, None, None)))
    with transaction():
        campaigns.release(SYSTEM.source(now), campaign_id, None, None)
    timed("jobs", lambda: campaign_steps.run(campaign_id, now))

    def due() -> None:
        with transaction():
            inspections.make_due(now + timedelta(days=61), settings.local_zone)

    timed("inspections due, at most 200 jobs", due)
    with transaction():
        campaigns.cancel(SYSTEM.source(now), campaign_id, "bench", None, None)
    timed("withdrawal of all jobs", lambda: campaign_steps.run(campaign_id, now))
    return took, page["placed"] | page["left"]


if __name__ == "__main__":
    main()
