"""The dispatcher's side over HTTP: one kept connection, JSON both ways."""

from __future__ import annotations

import http.client
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import orjson

from bench.setting import Running
from fieldsvc.base.clock import utc_now
from fieldsvc.base.db import db, transaction
from fieldsvc.people import staff
from fieldsvc.people.actors import SYSTEM


class Office:
    """A dispatcher for all territories. Any answer but a 2xx ends the benchmark."""

    def __init__(self, run: Running) -> None:
        now = utc_now()
        with run.app.app_context(), transaction():
            member = staff.create(
                SYSTEM.source(now), username="office", password="long enough for a benchmark", role="admin",
                all_territories=True,
            )  # fmt: skip
            _, token = staff.issue_token(SYSTEM.source(now), member, "bench", timedelta(days=1))
            db.session.flush()
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        self._connection = http.client.HTTPConnection(urlsplit(run.service.url).netloc, timeout=60)

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """The body of the answer."""
        self._connection.request(method, path, None if body is None else orjson.dumps(body), self._headers)
        answer = self._connection.getresponse()
        data = answer.read()
        if answer.status >= 300:
            raise SystemExit(f"{method} {path} answered {answer.status}: {data[:500]!r}")
        return orjson.loads(data)

    def post(self, path: str, body: Any) -> Any:
        return self.ask("POST", path, body)

    def pages(self, path: str) -> Iterator[Any]:
        """Every item of a list."""
        joint = "&" if "?" in path else "?"
        cursor = ""
        while True:
            page = self.ask("GET", f"{path}{joint}limit=200{cursor}")
            yield from page["items"]
            if not page.get("next"):
                return
            cursor = f"&cursor={page['next']}"

    def dispatched(self, **body: Any) -> tuple[Any, float]:
        """Ask for a run and wait until it is done: the run, and how many seconds that took."""
        began = time.perf_counter()
        run = self.post("/v1/dispatch-runs", body)
        while run["state"] in ("queued", "running"):
            time.sleep(0.02)
            run = self.ask("GET", f"/v1/dispatch-runs/{run['id']}")
        if run["state"] != "done" or run["failure"]:
            raise SystemExit(f"the run ended {run['state']}: {run['failure']}")
        return run, time.perf_counter() - began
