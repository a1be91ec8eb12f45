"""A service as processes, with the office inside the test: for modules that share one per database."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from flask import Flask

from fieldsvc.app import create_app
from fieldsvc.base.db import db
from fieldsvc.config import Settings
from fieldsvc.embedded import Service
from tests.field import Field
from tests.processes import descendants


@dataclass(frozen=True)
class Running:
    """The processes, and the field that works on their database."""

    service: Service
    field: Field

    @property
    def url(self) -> str:
        return self.service.url

    def kill_web(self) -> None:
        """Kill all processes of the web server at once; the supervisor starts it again."""
        web = self.service.pid("web")
        for pid in [web, *descendants(web)]:
            os.kill(pid, signal.SIGKILL)


@contextmanager
def fresh(
    database: str, templates: Callable[[str], str], request: pytest.FixtureRequest, folder: Path
) -> Iterator[str]:
    """The address of a new database of the kind ``database``."""
    template = templates(database)
    if database == "sqlite":
        shutil.copy(template, folder / "test.db")
        yield f"sqlite:///{folder}/test.db"
        return
    server = request.getfixturevalue("postgres")
    name = server.create(template)
    yield server.database_url(name)
    server.drop(name)


@contextmanager
def composed(settings: Settings) -> Iterator[Flask]:
    """The application, and its connections closed after it."""
    app = create_app(settings)
    yield app
    with app.app_context():
        db.session.remove()
        for engine in db.engines.values():
            engine.dispose()


@contextmanager
def running(
    database: str, templates: Callable[[str], str], request: pytest.FixtureRequest, folder: Path
) -> Iterator[Running]:
    """A service in ``folder`` on a new database of the kind ``database``."""
    with (
        fresh(database, templates, request, folder) as url,
        Service(Settings(database_url=url, data_dir=folder / "var"), port=0) as service,
        composed(service.settings) as app,
    ):
        yield Running(service, Field(app))
