"""The schema: one history of migrations on both databases, in step with the models."""

from __future__ import annotations

import sqlalchemy as sa

from fieldsvc.config import Settings
from fieldsvc.schema import alembic_config, drift, is_current, migrate, migration_engine


def test_a_migrated_database_is_what_the_models_say(database_url: str) -> None:
    assert drift(Settings(database_url=database_url)) == []


def test_migrating_a_second_time_changes_nothing(database_url: str) -> None:
    settings = Settings(database_url=database_url)
    migrate(settings)
    assert is_current(settings)


def test_a_database_that_is_behind_is_seen(database_url: str) -> None:
    settings = Settings(database_url=database_url)
    with migration_engine(database_url).begin() as connection:
        connection.execute(sa.text("DELETE FROM alembic_version"))
    assert not is_current(settings)


def test_a_path_with_a_percent_sign_and_blanks_is_no_trouble(tmp_path) -> None:
    settings = Settings(database_url=f"sqlite:///{tmp_path}/50% of it/a.db")
    migrate(settings)
    assert is_current(settings)
    assert alembic_config(settings.database_url).attributes["database_url"] == settings.database_url
