"""What both benchmarks measure on: PostgreSQL that keeps what it has committed, the service as ``fieldsvc up`` starts
it, and a field of crews with devices and jobs.
"""

from __future__ import annotations

import os
import platform
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
from flask import Flask
from sqlalchemy import select

from bench import load
from fieldsvc.app import create_app
from fieldsvc.base.clock import new_id, utc_now
from fieldsvc.base.db import db, transaction
from fieldsvc.base.sheet import Layout, Sheet
from fieldsvc.config import Settings
from fieldsvc.embedded import Service
from fieldsvc.people import crews, devices, territories
from fieldsvc.people.actors import SYSTEM
from fieldsvc.records import importing as customer_files
from fieldsvc.records.models import Customer
from fieldsvc.work import change, jobs
from fieldsvc.work.models import Job
from tests import services

MUST_BE_ON = ("fsync", "synchronous_commit", "full_page_writes")

_UNBOUNDED = "999999 per second"


@dataclass(frozen=True)
class Sender:
    """One enrolled device and the jobs its crew holds."""

    device_id: str
    crew_id: str
    install_id: str
    token: str
    jobs: tuple[str, ...]


@dataclass(frozen=True)
class Running:
    """A service under way: its address, its database (a libpq address), and the application for seeding."""

    service: Service
    dsn: str
    app: Flask
    postgres: services.Postgres
    workers: int

    def push(self, sender: Sender) -> load.Call:
        """A push of ``sender``; what is counted is the status of each operation."""
        headers = {"Authorization": f"Bearer {sender.token}", "Content-Type": "application/json"}
        return load.Call(self.service.url, "POST", "/sync/v1/push", headers, rb'"status":"(\w+)"')

    def pull(self, sender: Sender, checkpoint: str) -> load.Call:
        """A pull of ``sender``, at most 500 changes; what is counted is changes."""
        path = f"/sync/v1/pull?limit=500&cp={quote(checkpoint)}"
        headers = {"Authorization": f"Bearer {sender.token}"}
        return load.Call(self.service.url, "GET", path, headers, rb'"op":"(\w+)"')

    def cpu(self) -> dict[str, float]:
        """Processor seconds used so far, by part of the service."""
        workers = [f"worker-{number}" for number in range(1, self.workers + 1)]
        parts = {"web": ["web"], "workers": workers, "redis": ["redis"]}
        used = {part: sum(load.cpu_seconds(self.service.pid(name)) for name in names) for part, names in parts.items()}
        return used | {"postgresql": postgres_cpu(self.postgres)}


def postgres_cpu(server: services.Postgres) -> float:
    """Processor seconds the server and its backends have used so far; 0 for a server that is not our own."""
    process = server.own.process if server.own else None
    return load.cpu_seconds(process.pid) if process else 0.0


@contextmanager
def durable_postgres() -> Iterator[services.Postgres]:
    """A PostgreSQL whose commits survive a power cut: ``TEST_DATABASE_URL``, or one of our own.

    :raises SystemExit: one of :data:`MUST_BE_ON` is off; such numbers would be worth nothing.
    """
    with services.Postgres(services.DURABLE) as server:
        with psycopg.connect(server.dsn()) as connection:
            for name in MUST_BE_ON:
                value = str(connection.execute(f"SHOW {name}".encode()).fetchone()[0])  # type: ignore[index]
                if value != "on":
                    raise SystemExit(f"{name} is {value}: measure on a PostgreSQL that keeps what it has committed")
        yield server


@contextmanager
def running(server: services.Postgres, workers: int, rules_dir: Path | None = None) -> Iterator[Running]:
    """The service on a new database of ``server``, with as many worker processes; everything else as ``up`` has it.

    :param rules_dir: editions of rules that a benchmark puts into force.
    """
    name = server.create()
    url = server.database_url(name)
    with tempfile.TemporaryDirectory(prefix="fieldsvc-bench-") as folder:
        settings = Settings(
            database_url=url,
            data_dir=Path(folder) / "var",
            log_level="WARNING",
            device_rate=_UNBOUNDED,  # a few devices do here what thousands do
            work_rate=_UNBOUNDED,
            rules_dir=rules_dir,
        )
        with Service(settings, port=0, workers=workers) as service:
            app = create_app(service.settings)
            try:
                yield Running(service, server.dsn(name), app, server, workers)
            finally:
                with app.app_context():
                    db.session.remove()
                    db.engine.dispose()
    server.drop(name)


def seed(app: Flask, crew_count: int, jobs_each: int) -> list[Sender]:
    """Crews with one device each, holding ``jobs_each`` repair jobs at metered customers."""
    senders = []
    with app.app_context():
        with transaction():
            territories.import_geojson(SYSTEM, _TERRITORY, {}, utc_now())
        for number in range(1, crew_count + 1):
            _customers(number, jobs_each)
            senders.append(_crew(number))
            db.session.remove()
    return senders


def _crew(number: int) -> Sender:
    now = utc_now()
    with transaction():
        crew = crews.create(
            SYSTEM, now, code=f"B-{number}", name=f"Crew {number}", skills=["repair"], base_lon=111.55, base_lat=35.45
        )
        _, code = devices.new_code(SYSTEM, now, crew, timedelta(minutes=5))
        device, token = devices.enrol(code, new_id(), "android 15", "3.2.0", now)
        held = []
        for customer in db.session.scalars(select(Customer).where(Customer.number.like(f"C{number:02}-%"))).all():
            job = jobs.create(SYSTEM.source(now), _new_job(customer))
            change.assign(SYSTEM.source(now), job, crew, planned_start=now, planned_order=len(held) + 1)
            held.append(job.id)
        return Sender(device.id, crew.id, device.install_id, token, tuple(held))


def _new_job(customer: Customer) -> jobs.NewJob:
    return jobs.NewJob(
        kind="repair",
        title=f"No supply at {customer.name}",
        description="Neighbours have supply. The caller says that the breaker trips as soon as it is put back; there "
        "is a smell of burning at the meter box. Children in the house.",
        customer_id=customer.id,
        access_note="Gate code 4711, ring twice",
        contact_phone="0359-1234567",
        reported_at=utc_now() - timedelta(hours=7),
    )


def _customers(crew: int, count: int) -> None:
    columns = "number name phone address lon lat usage_point_number meter_asset_no meter_digits last_reading_total"
    lines = [",".join([*columns.split(), "last_reading_at"])]
    for number in range(count):
        where = f"{111.51 + number % 90 / 1000:.4f},{35.41 + number % 80 / 1000:.4f}"
        lines.append(
            f"C{crew:02}-{number:05},Customer {number},0359-{number:07},{number} Long Street,{where},"
            f"U{crew:02}-{number:05},M{crew:02}-{number:06},6,{1000 + number},2026-10-01T00:00:00Z"
        )
    sheet = Sheet("\n".join(lines).encode(), Layout(), customer_files.COLUMNS)
    rows = list(sheet)
    taking = customer_files.CustomerImport(Layout())
    for first in range(0, len(rows), customer_files.BATCH):
        with transaction():
            taking.take(SYSTEM.source(utc_now()), rows[first : first + customer_files.BATCH])
    assert taking.outcome.created == count, taking.outcome


def job_document(app: Flask, job_id: str) -> dict[str, Any]:
    """The document of a job as devices hold it."""
    from fieldsvc.work import documents

    with app.app_context():
        document = documents.job_doc(db.session.get_one(Job, job_id))
        db.session.remove()
    return document


def machine() -> dict[str, str]:
    """What the numbers were taken on."""
    model = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else ():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return {
        "processor": f"{len(os.sched_getaffinity(0))} × {model}",
        "load": f"{os.getloadavg()[0]:.1f}",
        "python": platform.python_version(),
    }


def until_now(machine: dict[str, str]) -> dict[str, str]:
    """``machine`` as it was when the measuring began, with the load it has now as well."""
    return machine | {"load": f"{machine['load']} at first, {os.getloadavg()[0]:.1f} in the end"}


_TERRITORY = {
    "type": "FeatureCollection",
    "features": [
        {
            "type": "Feature",
            "properties": {"code": "B", "name": "Territory B"},
            "geometry": {
                "type": "Polygon",
                "coordinates": [[[111.4, 35.3], [111.7, 35.3], [111.7, 35.6], [111.4, 35.6], [111.4, 35.3]]],
            },
        }
    ],
}
