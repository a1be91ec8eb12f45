"""Redis is away while crews push: every push is answered and kept, and all of it is applied when Redis is back."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from fieldsvc.config import Settings
from fieldsvc.embedded import Service
from tests.field import Field, Phone
from tests.processes import wait_for


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    return Settings(
        database_url=database_url,
        secret_key="a key for tests",
        data_dir=tmp_path / "var",
        sweep_interval=1,
        log_level="WARNING",
    )


@pytest.fixture
def service(settings: Settings) -> Iterator[Service]:
    with Service(settings, port=0, workers=1, web=1) as service:
        yield service


def call(service: Service, phone: Phone, path: str, body: Any = None) -> dict[str, Any]:
    """What the running service answers to a phone; anything but 2xx raises."""
    headers = {
        "Authorization": phone.client.environ_base["HTTP_AUTHORIZATION"],
        "Content-Type": "application/json",
    }
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{service.url}/sync/v1/{path}", data, headers)
    with urllib.request.urlopen(request, timeout=20) as answer:
        told: dict[str, Any] = json.load(answer)
        return told


def test_what_is_pushed_while_redis_is_away_is_applied_when_it_is_back(app: Flask, service: Service) -> None:
    field = Field(app)
    phones = [field.phone() for _ in range(3)]
    jobs = {phone.id: field.job("repair", phone.crew_id) for phone in phones}
    ops: dict[str, list[dict[str, Any]]] = {phone.id: [] for phone in phones}

    def push(kind: str, payload: Any = None) -> None:
        for phone in phones:
            op = phone.op(kind, jobs[phone.id], payload)
            ops[phone.id].append(op)
            told = call(service, phone, "push", {"install_id": phone.install_id, "ops": [op]})
            assert told["results"] == [{"op_id": op["op_id"], "status": "accepted"}]

    def applied() -> bool:
        asked = [(phone, ",".join(op["op_id"] for op in ops[phone.id])) for phone in phones]
        found = [one for phone, ids in asked for one in call(service, phone, f"ops?ids={ids}")["results"]]
        return all(one["status"] == "applied" for one in found)

    push("job.accept")
    wait_for(applied)
    service.end_child("redis")
    for kind in ("job.enroute", "job.arrive", "job.start"):
        push(kind)
    push("note.add", {"text": "no line to the office"})
    for phone in phones:
        assert call(service, phone, "hello", {"device_time": "2026-11-21T08:00:00Z"})["next_seq"] == 6
        assert [
            change["doc"]["outcome"]
            for change in call(service, phone, "pull")["changes"]
            if change["entity"] == "outcome"
        ]
    assert not applied()
    service.start_child("redis")
    wait_for(applied, 40)
    for phone in phones:
        page = field.get(f"/v1/jobs/{jobs[phone.id]}")
        assert (page["status"], page["notes"]) == ("in_progress", ["no line to the office"])
        mine = [e["op_id"] for e in field.history(job=jobs[phone.id]) if e["entity"] == "job" and e["op_id"]]
        assert mine == [op["op_id"] for op in ops[phone.id]], "once, and in order"
