"""``make fuzz``: odd requests, made by schemathesis from the API's own description, against the service as it runs.

Every check is on: no 500, every answer as described, malformed content refused, no way around the credentials.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from datetime import timedelta
from pathlib import Path

from fieldsvc.app import create_app
from fieldsvc.base.clock import new_id, utc_now
from fieldsvc.base.db import db, transaction
from fieldsvc.config import Settings
from fieldsvc.embedded import Service
from fieldsvc.people import crews, devices, staff
from fieldsvc.people.actors import SYSTEM
from tests.services import Postgres

CONFIG = Path(__file__).with_name("schemathesis.toml")


def tokens(settings: Settings) -> dict[str, str]:
    """A token of an admin and one of a device, made in the database itself, as environment variables."""
    app, now = create_app(settings), utc_now()
    with app.app_context():
        with transaction():
            source = SYSTEM.source(now)
            admin = staff.create(source, username="fuzz", password=new_id(), role="admin", all_territories=True)
            _, staff_token = staff.issue_token(source, admin, "fuzz", timedelta(days=1))
            crew = crews.create(SYSTEM, now, code="C-1", name="Crew 1", skills=["repair"])
            _, code = devices.new_code(SYSTEM, now, crew, timedelta(minutes=5))
            _, device_token = devices.enrol(code, new_id(), "fuzz", "1.0", now)
        db.engine.dispose()
    return {"FUZZ_STAFF_TOKEN": staff_token, "FUZZ_DEVICE_TOKEN": device_token}


def fuzz(settings: Settings, *options: str) -> subprocess.CompletedProcess[str]:
    """Run schemathesis with ``options`` against the service on ``settings``' database, in a folder of its own."""
    with Service(settings, port=0, workers=1) as service:
        env = os.environ | tokens(service.settings)
        program = Path(sys.executable).parent / "schemathesis"
        command = [program, "--config-file", CONFIG, "--no-color", "run", f"{service.url}/openapi.json"]
        return subprocess.run(
            [*command, "--continue-on-failure", *options],
            cwd=settings.data_dir, env=env, capture_output=True, text=True, check=False,
        )  # fmt: skip


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--cases", type=int, default=500, help="random examples per operation")
    arguments.add_argument("--db", choices=("sqlite", "postgresql", "both"), default="both")
    chosen, more = arguments.parse_known_args()
    status = 0
    for name in ("sqlite", "postgresql") if chosen.db == "both" else (chosen.db,):
        print(f"== {name}", flush=True)
        with tempfile.TemporaryDirectory(prefix="fieldsvc-fuzz-") as folder:
            settings = Settings(data_dir=Path(folder))
            if name == "sqlite":
                done = fuzz(settings, "--max-examples", str(chosen.cases), *more)
            else:
                with Postgres() as server:
                    url = server.database_url(server.create())
                    settings = Settings(data_dir=Path(folder), database_url=url)
                    done = fuzz(settings, "--max-examples", str(chosen.cases), *more)
        print(done.stdout + done.stderr)
        status = status or done.returncode
    return status


if __name__ == "__main__":
    sys.exit(main())
