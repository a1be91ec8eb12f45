"""The world of a simulation: a service of its own with an empty database, a utility's office, crews, customers, jobs.

Everything is made from the seed, and is small: one territory per few crews on a grid, one meter per customer.
"""

from __future__ import annotations

import math
import random
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from http.client import HTTPException
from pathlib import Path
from typing import Any

from fieldsvc.base.clock import format_time, utc_now
from fieldsvc.config import Settings
from fieldsvc.demo import stage
from fieldsvc.demo.client import Client
from fieldsvc.demo.scenario import CUSTOMER_COLUMNS, JOB_COLUMNS, csv_text, skills_for
from fieldsvc.demo.show import Story
from fieldsvc.embedded import Service
from fieldsvc.simulate.postgres import PrivatePostgres

DATABASES = ("sqlite", "postgresql")
SLICE = timedelta(minutes=15)
"""The play goes in steps of so much working time."""

UNANSWERED = (OSError, EOFError, ValueError, HTTPException)
"""What a caller meets whose server was killed meanwhile."""
_KINDS = ("repair", "meter_change", "safety_inspection")
_CREW_OF = 3
"""Devices in a crew, about."""
_CREWS_IN_TERRITORY = 4
_AT_ONCE = 4
"""Dispatchers who give out the first jobs."""
_CELL = 0.05
_ORIGIN = (111.2, 35.2)
_DURABLE = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}


@dataclass(frozen=True)
class Options:
    """What is played. ``folder`` is where everything lies."""

    devices: int
    hours: int
    seed: int
    database: str
    folder: Path

    @property
    def slices(self) -> int:
        return self.hours * round(timedelta(hours=1) / SLICE)

    @property
    def crews(self) -> int:
        return max(2, math.ceil(self.devices / _CREW_OF))

    def chance(self, *what: object) -> random.Random:
        """The source of chance for one part of the play, the same in every run with this seed."""
        return random.Random("/".join(map(str, (self.seed, *what))))

    @property
    def command(self) -> str:
        """How to repeat it."""
        return (
            f"fieldsvc simulate --devices {self.devices} --hours {self.hours} --seed {self.seed} "
            f"--database {self.database}"
        )


@dataclass
class World:
    """A running service with its office. ``begins`` is when the first shift began, ``hours`` ago."""

    options: Options
    service: Service
    postgres: PrivatePostgres | None
    office: dict[str, Client]
    begins: datetime
    crews: list[str] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    given: list[str] = field(default_factory=list)
    _clients: list[Client] = field(default_factory=list)

    def client(self, role: str) -> Client:
        """Another connection for ``role``; a client is not to be shared between threads."""
        made = Client(self.service.url, self.office[role].token)
        self._clients.append(made)
        return made

    def close(self) -> None:
        """Close all connections of the office."""
        for one in (*self.office.values(), *self._clients):
            one.close()

    def at(self, turn: int) -> datetime:
        """When a step of the play begins, in the time of the crews."""
        return self.begins + turn * SLICE


@contextmanager
def world(options: Options, story: Story) -> Iterator[World]:
    """A service with its office, filled; ended when the context is left.

    :raises NoPostgres: PostgreSQL was asked for and is not here.
    :raises StartError: the service does not start.
    """
    settings = Settings(
        data_dir=options.folder / "var",
        log_level="WARNING",
        sweep_interval=1,
        login_limit="100000 per minute",  # all phones of this play call from one address
    )
    postgres = PrivatePostgres(_DURABLE) if options.database == "postgresql" else None
    try:
        if postgres is not None:
            settings = replace(settings, database_url=postgres.url)
        with Service(settings, port=0, workers=2, web=2) as service:
            made = _filled(options, service, postgres, story)
            try:
                yield made
            finally:
                made.close()
    finally:
        if postgres is not None:
            if postgres.log.exists():
                (options.folder / "postgresql.log").write_bytes(postgres.log.read_bytes())
            postgres.remove()


def _filled(options: Options, service: Service, postgres: PrivatePostgres | None, story: Story) -> World:
    begins = utc_now().replace(microsecond=0) - timedelta(hours=options.hours)
    office = stage.accounts(service.url, service.settings, secrets.token_urlsafe(12), story)
    made = World(options, service, postgres, office, begins)
    territories = math.ceil(options.crews / _CREWS_IN_TERRITORY)
    with story.step("Territories and crews", "POST /v1/territories/import · POST /v1/crews") as step:
        office["admin"].post("/v1/territories/import", _territories(territories))
        skills = skills_for(_KINDS, begins.date())
        for number in range(options.crews):
            body: dict[str, Any] = {"code": f"S-{number + 1:03}", "name": f"Crew {number + 1}", "skills": skills}
            body |= {"territory_codes": [f"T-{number % territories + 1:03}"], "members": ["Foreman", "Fitter"]}
            made.crews.append(office["admin"].post("/v1/crews", body)["id"])
        step.tell(f"{territories} territories, {options.crews} crews")
    customers = _customers(options, begins)
    jobs = _jobs(options, begins, customers)
    for what, text in (
        ("customers", csv_text(customers, CUSTOMER_COLUMNS)),
        ("jobs", csv_text(jobs, JOB_COLUMNS)),
    ):
        with story.step(f"{what.capitalize()} from a file", f"fieldsvc import {what}") as step:
            path = options.folder / f"{what}.csv"
            path.write_text(text, encoding="utf-8")
            step.tell(f"{what}: {stage.imported(service.settings, what, path)}")
    made.waiting = [job["id"] for job in sorted(office["dispatcher"].items("/v1/jobs"), key=_key)]
    return made


def _key(job: dict[str, Any]) -> str:
    return str(job["external_key"])


def give_out(made: World, share: float, story: Story) -> None:
    """Give a share of the waiting jobs to the crews, in turn."""
    count = math.ceil(len(made.waiting) * share)
    with story.step("The first jobs are given out", "POST /v1/jobs/{id}/assign", count) as step:
        jobs, made.waiting[:] = made.waiting[:count], made.waiting[count:]
        made.given += jobs

        def give(client: Client, place: int) -> None:
            for number in range(place, count, _AT_ONCE):
                crew = made.crews[number % len(made.crews)]
                client.post(f"/v1/jobs/{jobs[number]}/assign", {"crew_id": crew})
                step.advance()

        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for done in [pool.submit(give, made.client("dispatcher"), place) for place in range(_AT_ONCE)]:
                done.result()
        step.tell(f"{count} jobs given out, {len(made.waiting)} wait for later")


def _territories(count: int) -> dict[str, Any]:
    """Squares in a row, as many as are needed."""
    features = []
    for number in range(count):
        west, south = _corner(number)
        east, north = west + _CELL, south + _CELL
        ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
        facts: dict[str, Any] = {"code": f"T-{number + 1:03}", "name": f"Square {number + 1}", "level": 1}
        facts |= {"site_class": "rural", "priority": 1}
        shape = {"type": "Polygon", "coordinates": [ring]}
        features.append({"type": "Feature", "properties": facts, "geometry": shape})
    return {"type": "FeatureCollection", "features": features}


def _corner(number: int) -> tuple[float, float]:
    return _ORIGIN[0] + number % 10 * _CELL, _ORIGIN[1] + number // 10 * _CELL


def _customers(options: Options, begins: datetime) -> list[dict[str, str]]:
    """One customer for four jobs in five, spread over the territories; every third meter has four rates."""
    chance = options.chance("customers")
    count = max(4, options.devices * options.hours * 3 // 5)
    territories = math.ceil(options.crews / _CREWS_IN_TERRITORY)
    rows = []
    for number in range(1, count + 1):
        west, south = _corner(number % territories)
        row = dict.fromkeys(CUSTOMER_COLUMNS, "")
        row |= {
            "number": f"C{number:06}",
            "name": f"Customer {number}",
            "customer_class": "residential",
            "importance": "none",
            "phone": f"0359-{number:06}",
            "address": f"Lane {number % 90}, no. {number}",
            "lon": f"{west + chance.uniform(0.001, _CELL - 0.001):.6f}",
            "lat": f"{south + chance.uniform(0.001, _CELL - 0.001):.6f}",
            "site_class": "rural",
            "usage_point_number": f"U{number:06}",
            "voltage_level": "220V",
            "meter_asset_no": f"SO{number:08}",
            "meter_digits": "6",
            "ct_ratio": "1",
            "pt_ratio": "1",
            "installed_at": format_time(begins - timedelta(days=1000 + number % 900)),
            "last_reading_at": format_time(begins - timedelta(days=20)),
        }
        total = chance.randint(1_000, 40_000)
        parts = {"sharp": total // 10, "peak": total * 3 // 10, "valley": total // 5} if number % 3 == 0 else {}
        if parts:
            parts["flat"] = total - sum(parts.values())
        row |= {f"last_reading_{name}": f"{value}.0" for name, value in {"total": total, **parts}.items()}
        rows.append(row)
    return rows


def _jobs(options: Options, begins: datetime, customers: list[dict[str, str]]) -> list[dict[str, str]]:
    """As many jobs as the devices can do, and some more; now and then two of them at one customer."""
    chance = options.chance("jobs")
    rows = []
    for number in range(1, options.devices * options.hours + options.devices + 1):
        kind = chance.choices(_KINDS, (5, 3, 2))[0]
        row = dict.fromkeys(JOB_COLUMNS, "")
        row |= {"external_key": f"S-{number:06}", "kind": kind, "priority": str(chance.randint(2, 6))}
        row |= {"title": f"{kind.replace('_', ' ').capitalize()} {number}"}
        row["reported_at"] = format_time(begins - timedelta(hours=chance.randint(1, 20)))
        if kind != "repair" or chance.random() < 0.6:
            customer = chance.choice(customers)
            row |= {"customer_number": customer["number"], "usage_point_number": customer["usage_point_number"]}
            row |= {name: customer[name] for name in ("lon", "lat", "address")}
        else:
            west, south = _corner(number % math.ceil(options.crews / _CREWS_IN_TERRITORY))
            row |= {"lon": f"{west + _CELL / 2:.6f}", "lat": f"{south + _CELL / 2:.6f}", "address": "by the road"}
        rows.append(row)
    return rows
