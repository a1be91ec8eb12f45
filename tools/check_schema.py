"""``python -m tools.check_schema``: do the migrations give what the models say, on both databases?"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from fieldsvc.config import Settings
from fieldsvc.schema import drift, migrate
from tests.services import Postgres


def main() -> int:
    with tempfile.TemporaryDirectory() as folder, Postgres() as server:
        urls = {
            "SQLite": f"sqlite:///{Path(folder)}/check.db",
            "PostgreSQL": server.database_url(server.create()),
        }
        status = 0
        for name, url in urls.items():
            settings = Settings(database_url=url)
            migrate(settings)
            differences = drift(settings)
            print(f"{name}: migrations and models agree" if not differences else f"{name}: a migration is missing for")
            for difference in differences:
                print(f"  {difference}")
                status = 1
        return status


if __name__ == "__main__":
    sys.exit(main())
