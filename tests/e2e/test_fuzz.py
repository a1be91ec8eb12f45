"""Odd requests, made from the API's own description: nothing answers 500, everything answers as described."""

from __future__ import annotations

from pathlib import Path

from fieldsvc.config import Settings
from tools.fuzz import fuzz


def test_every_operation_answers_as_described_whatever_it_is_sent(database_url: str, tmp_path: Path) -> None:
    settings = Settings(database_url=database_url, data_dir=tmp_path)
    # Every limit of every field is tried on the database that refuses more; `make fuzz` does so on both.
    phases = "examples,fuzzing,stateful" if settings.is_sqlite else "examples,coverage,fuzzing,stateful"
    done = fuzz(settings, "--max-examples", "3", "--seed", "1", "--phases", phases)
    assert done.returncode == 0, done.stdout[-20000:] + done.stderr[-5000:]
