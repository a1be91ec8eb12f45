"""The database schema: brings a database up to the newest migration and says where models and migrations differ.

Works without a Flask application, so that a migration never depends on how the service is composed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.script.revision import ResolutionError
from alembic.util.exc import CommandError
from sqlalchemy import Engine, MetaData, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from fieldsvc.app import load_models, migrations_dir
from fieldsvc.base.db import Base
from fieldsvc.config import Settings


def metadata() -> MetaData:
    """Every table of every room."""
    load_models()
    return Base.metadata


def alembic_config(database_url: str) -> Config:
    """An Alembic configuration for ``database_url`` that needs no ini file."""
    config = Config()
    config.set_main_option("script_location", str(migrations_dir()).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["database_url"] = database_url
    return config


def migration_engine(database_url: str) -> Engine:
    """An engine for changing the schema.

    On SQLite a changed table is rebuilt under another name and the old one dropped; with foreign keys enforced that
    would delete the children, so they are off here (:func:`migrate` checks them afterwards) and DDL is transactional.
    """
    url = make_url(database_url)
    if url.get_backend_name() == "sqlite" and url.database:
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url, poolclass=NullPool)
    if engine.dialect.name != "sqlite":
        return engine

    @event.listens_for(engine, "connect")
    def _connect(dbapi: Any, _record: Any) -> None:
        dbapi.isolation_level = None
        for pragma in ("busy_timeout=30000", "journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=OFF"):
            dbapi.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(conn: Any) -> None:
        conn.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


class Unusable(RuntimeError):
    """The database cannot be brought to our schema; the message says why, and holds no address and no password."""


def migrate(settings: Settings, revision: str = "head") -> None:
    """Bring the database in ``settings`` to ``revision``; a database already there is left as it is.

    :raises Unusable: it does not answer, is no database, or is that of a newer fieldsvc.
    """
    with _explained():
        command.upgrade(alembic_config(settings.database_url), revision)


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        reason = str(error.orig).splitlines() or [type(error.orig).__name__]
        raise Unusable(f"the database cannot be used: {reason[0]}") from error
    except CommandError as error:
        if not isinstance(error.__cause__, ResolutionError):
            raise
        raise Unusable(
            "the database cannot be used: its schema is not known here; it is that of a newer fieldsvc, "
            "or of something else. Nothing was changed"
        ) from error


def is_current(settings: Settings) -> bool:
    """Whether the database stands at the newest migration.

    :raises Unusable: it does not answer, or is no database.
    """
    heads = set(ScriptDirectory.from_config(alembic_config(settings.database_url)).get_heads())
    with _explained(), migration_engine(settings.database_url).connect() as connection:
        return set(MigrationContext.configure(connection).get_current_heads()) == heads


def drift(settings: Settings) -> list[str]:
    """What the models have and a migrated database has not, or the other way round; empty when they agree."""
    with migration_engine(settings.database_url).connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "render_as_batch": True})
        return [repr(difference) for difference in compare_metadata(context, metadata())]
