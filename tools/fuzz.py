"""``make fuzz``: odd requests, made by schemathesis from the API's own description, against the service as it runs.

Every check is on: no 500, every answer as described, malformed content refused, no way around the credentials.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from fieldsvc import logs
from fieldsvc.app import create_app
from fieldsvc.base.clock import new_id, utc_now
from fieldsvc.base.db import db, transaction
from fieldsvc.config import Settings
from fieldsvc.embedded import Service
from fieldsvc.people import staff
from fieldsvc.people.actors import SYSTEM
from fieldsvc.sync import uploads
from tests import evidence, factories
from tests.field import Field, exchange
from tests.services import Postgres

CONFIG = Path(__file__).with_name("schemathesis.toml")
_UNBOUNDED = "999999 per second"
NO_APP_ENDS = """pack = "apps"
[[entry]]
of = "app"
platform = "*"
level = "hard_eol"
value = "0"
effective_from = 2000-01-02
edition = "for odd requests"
source = "the device says odd versions of itself, and is to be told news all the same"
"""


def furnish(settings: Settings) -> dict[str, str]:
    """Put a little of everything into the database; answers tokens and ids as environment variables for CONFIG."""
    app, now = create_app(settings), utc_now()
    territories = factories.make_territories(app)
    office = Field(app)
    place = office.place()
    phone = office.phone()
    job = office.job("meter_change", place=place, crew=phone.crew_id)
    phone.push(phone.op("meter.exchange", job, exchange("not on record", "NEW-1")))
    office.settle()
    with app.app_context(), transaction():
        source = SYSTEM.source(now)
        admin = staff.create(source, username="fuzz", password=new_id(), role="admin", all_territories=True)
        spare, _ = staff.issue_token(source, admin, "to be revoked", timedelta(days=1))
        _, token = staff.issue_token(source, admin, "fuzz", timedelta(days=1))
        spare_id = spare.id
    review_id = office.reviews()[0]["id"]
    photo = evidence.photo()
    named = evidence.entry(photo)
    phone.push(phone.op("note.add", job, {"text": "see picture"}, attachments=[named]))
    office.settle()
    upload = evidence.upload(phone, photo, named).rpartition("/")[2]
    with app.app_context():
        uploads.inspect(app.extensions["fieldsvc.store"], upload, now)
    begun = evidence.begin(phone, evidence.entry(b"begun")).rpartition("/")[2]
    attachment = office.get(f"/v1/jobs/{job}/attachments")["items"][0]["id"]
    with app.app_context():
        db.engine.dispose()
    return {
        "FUZZ_STAFF_TOKEN": token,
        "FUZZ_DEVICE_TOKEN": phone.client.environ_base["HTTP_AUTHORIZATION"].removeprefix("Bearer "),
        "FUZZ_TERRITORY": next(iter(territories.values())),
        "FUZZ_CUSTOMER": place.customer_id,
        "FUZZ_USAGE_POINT": place.usage_point_id,
        "FUZZ_JOB": job,
        "FUZZ_CREW": phone.crew_id,
        "FUZZ_REVIEW": review_id,
        "FUZZ_ATTACHMENT": attachment,
        "FUZZ_UPLOAD": begun,
        "FUZZ_TOKEN": spare_id,
    }


def fuzz(settings: Settings, *options: str) -> subprocess.CompletedProcess[str]:
    """Run schemathesis with ``options`` against the service on ``settings``' database, in a folder of its own."""
    rules = settings.data_dir / "rules"
    rules.mkdir(parents=True, exist_ok=True)
    (rules / "apps.toml").write_text(NO_APP_ENDS, encoding="utf-8")
    settings = replace(settings, device_rate=_UNBOUNDED, work_rate=_UNBOUNDED, rules_dir=rules)
    with Service(settings, port=0, workers=1) as service:
        env = os.environ | furnish(service.settings)
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
    logs.configure(Settings(log_level="WARNING"))
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
