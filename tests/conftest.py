"""Fixtures: a real database and a real Redis for every test that asks for an application.

``--db sqlite|postgresql|both`` (default both): a test that uses ``database_url`` (directly or through ``settings``,
``app``, ``client``) runs once per database. Each test gets a fresh copy of a database migrated once with Alembic.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from jinja2 import FileSystemBytecodeCache
from redis import Redis

from fieldsvc.app import create_app
from fieldsvc.base.db import db
from fieldsvc.config import Settings
from fieldsvc.queue import depth
from fieldsvc.schema import migrate
from tests import services
from tests.running import Running, fresh, running
from workers import runtime
from workers.run import worker

DATABASES = ("sqlite", "postgresql")

if (room := services.memory()) is not None:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(room))  # files of tests need not outlive a power cut


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--db", choices=(*DATABASES, "both"), default="both", help="which databases to test on")
    parser.addoption("--pictures", action="store_true", help="tests of pages write docs/console (with --db sqlite)")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "database" in metafunc.fixturenames:
        chosen = metafunc.config.getoption("--db")
        metafunc.parametrize("database", DATABASES if chosen == "both" else [chosen], scope="session")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The public data sets beside the checkout; skipped only where they are absent and CI is not set."""
    folder = Path(__file__).resolve().parents[1].parent / "shared" / "data"
    if not folder.is_dir() and not os.environ.get("CI"):
        pytest.skip("no ../shared/data here")
    return folder


@pytest.fixture(scope="session")
def postgres() -> Iterator[services.Postgres]:
    """The PostgreSQL server of this run. No PostgreSQL is an error, not a skip."""
    with services.Postgres() as server:
        yield server


@pytest.fixture(scope="session")
def redis_server() -> Iterator[services.RedisServer]:
    """The Redis server of this run. A test that stops it starts it again."""
    server = services.start_redis()
    yield server
    services.end_redis(server)


@pytest.fixture(scope="session")
def templates(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """``templates(database)``: a migrated, empty database to copy; a file's path or a PostgreSQL database's name."""
    made: dict[str, str] = {}

    def template(database: str) -> str:
        if database in made:
            return made[database]
        if database == "sqlite":
            path = tmp_path_factory.mktemp("template") / "template.db"
            migrate(Settings(database_url=f"sqlite:///{path}"))
            made[database] = str(path)
        else:
            server: services.Postgres = request.getfixturevalue("postgres")
            made[database] = server.create()
            migrate(Settings(database_url=server.database_url(made[database])))
        return made[database]

    return template


@pytest.fixture
def database_url(
    database: str, templates: Callable[[str], str], request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[str]:
    """A migrated, empty database of this test alone."""
    with fresh(database, templates, request, tmp_path) as url:
        yield url


@pytest.fixture(scope="module")
def served(
    database: str,
    templates: Callable[[str], str],
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Running]:
    """A service as processes, one for all tests of a module on a database."""
    with running(database, templates, request, tmp_path_factory.mktemp("service")) as served:
        yield served


@pytest.fixture
def redis(redis_server: services.RedisServer) -> Iterator[Redis]:
    """An empty Redis."""
    with Redis.from_url(redis_server.url) as connection:
        connection.flushall()
        yield connection


@pytest.fixture
def settings(database_url: str, redis: Redis, redis_server: services.RedisServer, tmp_path: Path) -> Settings:
    """Settings naming this test's database and Redis. A test that needs others overrides this fixture."""
    return Settings(
        database_url=database_url,
        redis_url=redis_server.url,
        secret_key="a key for tests",
        data_dir=tmp_path / "var",
        log_level="WARNING",
    )


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> FileSystemBytecodeCache:
    """Templates of pages, compiled once and not by each test's application anew."""
    return FileSystemBytecodeCache(str(tmp_path_factory.mktemp("templates")))


@pytest.fixture
def app(settings: Settings, compiled: FileSystemBytecodeCache) -> Iterator[Flask]:
    """The application, composed as in production."""
    app = create_app(settings)
    app.jinja_env.bytecode_cache = compiled
    app.testing = True
    app.config["PROPAGATE_EXCEPTIONS"] = False
    yield app
    with app.app_context():
        db.session.remove()
        for engine in db.engines.values():
            engine.dispose()


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """A client without credentials."""
    return app.test_client()


@pytest.fixture
def drain(app: Flask, settings: Settings) -> Callable[[], None]:
    """``drain()``: let a real worker do everything that waits in Redis, in this process, until nothing waits."""

    def run() -> None:
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            with runtime.serving(app):
                while depth(settings):
                    worker(settings).work(burst=True, logging_level="WARNING")
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)

    return run
