"""Alembic's entry: one linear history for SQLite and PostgreSQL.

``fieldsvc migrate`` and the tests pass the database; ``alembic -c migrations/alembic.ini`` takes it from the
environment.
"""

from __future__ import annotations

from typing import Any, Literal

import sqlalchemy as sa
from alembic import context
from alembic.autogenerate.api import AutogenContext
from sqlalchemy import Connection, text

from fieldsvc.base.db import DecimalString, UtcDateTime
from fieldsvc.config import Settings
from fieldsvc.schema import metadata, migration_engine

# Any number known only here: two processes that start at once take turns at migrating.
ADVISORY_LOCK = 5_318_008_017


def plain_type(kind: str, item: Any, autogen: AutogenContext) -> str | Literal[False]:
    """Write our column types into a migration as what the database sees: a migration must not change with the code."""
    if kind != "type":
        return False
    if isinstance(item, UtcDateTime):
        return "sa.DateTime(timezone=True)"
    if isinstance(item, DecimalString):
        return "sa.String(length=40)"
    if isinstance(item, sa.JSON):
        autogen.imports.add("from sqlalchemy.dialects import postgresql")
        return 'sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")'
    return False


def run(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=metadata(),
        render_as_batch=True,
        transactional_ddl=True,
        compare_type=True,
        render_item=plain_type,
    )
    with context.begin_transaction():
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": ADVISORY_LOCK})
        context.run_migrations()
        if connection.dialect.name == "sqlite":
            broken = connection.exec_driver_sql("PRAGMA foreign_key_check").first()
            if broken:
                raise RuntimeError(f"a migration would leave a row of {broken[0]} without its {broken[2]}")


if context.is_offline_mode():
    raise SystemExit("migrations need a database to look at: --sql is not supported")
engine = migration_engine(context.config.attributes.get("database_url") or Settings.from_env().database_url)
with engine.connect() as connection:
    run(connection)
engine.dispose()
