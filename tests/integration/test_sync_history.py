"""History is only ever added to: the database itself refuses everything else, whoever asks."""

from __future__ import annotations

import pytest
from flask import Flask
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from fieldsvc.base.db import db, transaction
from tests.field import Field


def test_what_is_in_the_history_can_be_neither_changed_nor_removed(app: Flask, database: str) -> None:
    field = Field(app)
    field.job("repair", field.crew())
    before = field.history()
    assert len(before) >= 2
    statements = [
        "UPDATE history SET note = 'nothing happened'",
        "UPDATE history SET seq = seq + 100 WHERE seq = 1",
        "DELETE FROM history",
        "DELETE FROM history WHERE seq = (SELECT max(seq) FROM history)",
    ]
    if database == "postgresql":
        statements += ["TRUNCATE history", "TRUNCATE history CASCADE"]
    else:
        statements += [
            "REPLACE INTO history SELECT * FROM history",
            "UPDATE OR REPLACE history SET note = 'x'",
            "INSERT INTO history SELECT * FROM history WHERE true ON CONFLICT (seq) DO UPDATE SET note = 'x'",
        ]
    for statement in statements:
        with app.app_context(), pytest.raises(DBAPIError, match=r"append-only"), transaction():
            db.session.execute(text(statement))
    assert field.history() == before
