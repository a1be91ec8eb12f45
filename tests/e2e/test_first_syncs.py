"""Three hundred devices want their first sync in the same moment, and a crew hands in its work all the while."""

from __future__ import annotations

import http.client
import importlib.util
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from fieldsvc.base.clock import new_id, utc_now
from fieldsvc.base.db import transaction
from fieldsvc.config import Settings
from fieldsvc.embedded import Service
from fieldsvc.feed import publish
from fieldsvc.people import crews, devices
from fieldsvc.people.actors import SYSTEM
from tests.factories import make_crew
from tests.field import Field

DEVICES, THINGS, TRIES = 300, 450, 60
CLIENT = Path(__file__).resolve().parents[2] / "docs" / "sync-protocol" / "client.py"
_pause = threading.Event()


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return replace(settings, queue_prefix=f"storm-{new_id()}")


@pytest.fixture
def service(settings: Settings) -> Iterator[Service]:
    with Service(settings, port=0, workers=1) as service:
        yield service


def enrolled(app: Flask, crew_id: str, count: int) -> list[str]:
    """The tokens of so many new devices of a crew."""
    tokens = []
    with app.app_context(), transaction():
        crew = crews.get(SYSTEM, crew_id)
        for _ in range(count):
            _, code = devices.new_code(SYSTEM, utc_now(), crew, timedelta(minutes=5))
            _, token = devices.enrol(code, new_id(), "android 15", "3.2.0", utc_now())
            tokens.append(token)
    return tokens


@dataclass
class Line:
    """A device's line to the service: a new connection for each request."""

    address: str
    token: str
    statuses: list[int]

    def ask(self, method: str, path: str, body: Any = None, *, cut: bool = False) -> tuple[int, bytes]:
        """Status and body; ``cut``: the line breaks after the first piece."""
        connection = http.client.HTTPConnection(self.address, timeout=60)
        with closing(connection):
            data = None if body is None else json.dumps(body)
            headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
            connection.request(method, f"/sync/v1/{path}", data, headers)
            answer = connection.getresponse()
            self.statuses.append(answer.status)
            told = answer.read1() if cut and answer.status == 200 else answer.read()
        if answer.status == 503:
            _pause.wait(int(answer.headers["Retry-After"]))
        return answer.status, told


def snapshot(line: Line, cut: bool) -> set[str]:
    """What a device holds after its first sync by a snapshot; a line that is cut once is gone on with."""
    held: set[str] = set()
    after = ""
    for _ in range(TRIES):
        status, told = line.ask("GET", "snapshot" + after, cut=cut)
        if status == 503:
            continue
        lines = told.split(b"\n")[:-1]
        held |= {json.loads(one)["id"] for one in lines if one.startswith(b'{"op"')}
        if lines and b'"checkpoint"' in lines[-1]:
            return held
        if positions := [json.loads(one)["position"] for one in lines if one.startswith(b'{"position"')]:
            after = f"?after={positions[-1]}"
        cut = False
    raise AssertionError("the snapshot never came to its end")


def pulls(line: Line) -> set[str]:
    """What a device holds after its first sync by pulls."""
    held: set[str] = set()
    query = "?limit=200"
    for _ in range(TRIES):
        status, told = line.ask("GET", "pull" + query)
        if status == 503:
            continue
        page = json.loads(told)
        held |= {change["id"] for change in page["changes"]}
        if not page["has_more"]:
            return held
        query = f"?limit=200&cp={page['checkpoint']}"
    raise AssertionError("the pulls never came to their end")


def test_a_storm_of_first_syncs_keeps_no_work_out(app: Flask, service: Service) -> None:
    field = Field(app)
    crowd = make_crew(app)
    names = {f"t-{number:05}" for number in range(THINGS)}
    with app.app_context(), transaction():
        for name in sorted(names):
            publish.put([f"crew:{crowd}"], "thing", name, 1, {"name": name, "words": "so much to know " * 10})
    tokens = enrolled(app, crowd, DEVICES)
    worker = field.phone()
    job = field.job("repair", worker.crew_id)
    address = service.url.removeprefix("http://")
    begin = threading.Barrier(DEVICES + 1)
    lines = [Line(address, token, []) for token in tokens]

    def first_sync(number: int) -> set[str]:
        begin.wait()
        return pulls(lines[number]) if number % 3 == 0 else snapshot(lines[number], cut=number % 10 == 1)

    pushing = Line(address, worker.client.environ_base["HTTP_AUTHORIZATION"].removeprefix("Bearer "), [])
    with ThreadPoolExecutor(DEVICES) as pool:
        syncs = [pool.submit(first_sync, number) for number in range(DEVICES)]
        begin.wait()
        while not all(sync.done() for sync in syncs):
            op = worker.op("note.add", job, {"text": "still at work"})
            status, told = pushing.ask("POST", "push", {"install_id": worker.install_id, "ops": [op]})
            assert status == 200 and json.loads(told)["results"][0]["status"] == "accepted"
        copies = [sync.result() for sync in syncs]
    assert all(names <= copy for copy in copies)
    assert set(pushing.statuses) == {200} and len(pushing.statuses) > 5
    assert {status for line in lines for status in line.statuses} == {200, 503}, "some wait, none is lost"


def test_the_documented_client_comes_through_a_snapshot_in_parts(
    app: Flask, settings: Settings, tmp_path: Path
) -> None:
    spec = importlib.util.spec_from_file_location("sync_client", CLIENT)
    assert spec and spec.loader
    client = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(client)
    crew = make_crew(app)
    with app.app_context(), transaction():
        for number in range(THINGS):
            publish.put([f"crew:{crew}"], "thing", f"t-{number:05}", 1, {"n": number})
        _, code = devices.new_code(SYSTEM, utc_now(), crews.get(SYSTEM, crew), timedelta(minutes=5))
    with Service(replace(settings, snapshot_seconds=0), port=0, workers=1, web=1) as service:
        device = client.Device(tmp_path / "phone.db", service.url)
        with closing(device.db):
            device.enrol(code)
            device.sync()
            (held,) = device.db.execute("SELECT count(*) FROM copy WHERE entity = 'thing'").fetchone()
            assert held == THINGS and device.check() is True
