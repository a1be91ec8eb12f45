"""The office of a running service, and the service itself as public clients meet it: one per database."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from fieldsvc.app import create_app
from fieldsvc.base.clock import new_id
from fieldsvc.base.db import db, transaction
from fieldsvc.config import Settings
from fieldsvc.feed import publish
from tests.processes import Up, descendants, up

_numbers = count(1)


@dataclass(frozen=True)
class Enrolled:
    """A device's token, and who it is."""

    token: str
    device_id: str
    crew_id: str
    install_id: str


class Office:
    """What the office does, by the API and the command line of a service in a folder."""

    def __init__(self, run: Up, folder: Path, env: dict[str, str]) -> None:
        self.run, self.folder, self.env, self.url = run, folder, env, run.url()
        self._cli("users", "add", "boss", "--role", "admin", "--all-territories", "--generate")
        self.token = self._cli("users", "token", "boss")

    def _cli(self, *words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "fieldsvc.cli", *words], cwd=self.folder, env={**os.environ, **self.env},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        return done.stdout.split()[-1]

    def call(self, method: str, path: str, body: Any = None, token: str | None = None, **headers: str) -> Any:
        headers = {"Authorization": f"Bearer {token or self.token}", "Content-Type": "application/json"} | headers
        data = None if method == "GET" else json.dumps(body or {}).encode()
        asked = urllib.request.Request(self.url + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(asked, timeout=60) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{method} {path}: {error.code} {error.read().decode()[:1000]}") from None

    def get(self, path: str) -> Any:
        return self.call("GET", path)

    def post(self, path: str, body: Any = None) -> Any:
        return self.call("POST", path, body)

    def patch(self, path: str, **values: Any) -> Any:
        """Change something as it stands now."""
        return self.call("PATCH", path, values, **{"If-Match": f'"{self.get(path)["rev"]}"'})

    def crew(self) -> str:
        number = next(_numbers)
        return str(self.post("/v1/crews", {"code": f"C{number}", "name": f"Crew {number}", "skills": ["repair"]})["id"])

    def device(self, crew_id: str | None = None) -> Enrolled:
        return self._enrol(crew_id or self.crew(), new_id(), None)

    def move(self, device: Enrolled, crew_id: str) -> Enrolled:
        """The same device with another crew: it enrols again, with the token it has."""
        return self._enrol(crew_id, device.install_id, device.token)

    def _enrol(self, crew_id: str, install_id: str, token: str | None) -> Enrolled:
        code = self.post(f"/v1/crews/{crew_id}/enrolment-codes")["code"]
        given = self.call("POST", "/sync/v1/enrol", {"code": code, "install_id": install_id}, token)
        return Enrolled(given["token"], given["device_id"], given["crew_id"], install_id)

    def job(self, crew_id: str, **members: Any) -> str:
        job = str(self.post("/v1/jobs", {"kind": "repair", "lon": 111.55, "lat": 35.45, **members})["id"])
        self.assign(job, crew_id)
        return job

    def assign(self, job: str, crew_id: str) -> None:
        self.post(f"/v1/jobs/{job}/assign", {"crew_id": crew_id})

    def fill(self, crew_id: str, many: int) -> None:
        """Put ``many`` jobs into a crew's feed, as a restored office with as many would."""
        settings = Settings(database_url=self.env["DATABASE_URL"], secret_key="only to write", log_level="WARNING")
        app = create_app(settings)
        with app.app_context():
            with transaction():
                for n in range(many):
                    doc = {
                        "id": f"{crew_id}-{n:05}",
                        "number": f"J-{n:05}",
                        "title": f"Lamp {n}",
                        "notes": [],
                        "rev": 1,
                    }
                    publish.put([f"crew:{crew_id}"], "job", str(doc["id"]), 1, doc)
            db.session.remove()
            for engine in db.engines.values():
                engine.dispose()

    def kill_web(self) -> None:
        """End the web server with everything it is doing; the supervisor starts it again."""
        for pid in sorted(descendants(self.run.process.pid)):
            words = Path(f"/proc/{pid}/cmdline").read_bytes() if Path(f"/proc/{pid}/cmdline").exists() else b""
            if b"gunicorn" in words:
                os.kill(pid, signal.SIGKILL)


@contextmanager
def office(folder: Path, database_url: str) -> Iterator[Office]:
    """A service on a database, with its office."""
    env = {"DATABASE_URL": database_url}
    with up(folder, "--port", "0", env=env) as run:
        yield Office(run, folder, env)
