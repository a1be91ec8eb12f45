"""The stream as a device meets it: other processes change things, the web server restarts."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from flask import Flask

from fieldsvc.config import Settings
from fieldsvc.embedded import Service
from tests.field import Field, Phone
from tests.processes import descendants, is_running, wait_for


@contextmanager
def stream(service: Service, phone: Phone) -> Iterator[http.client.HTTPResponse]:
    line = http.client.HTTPConnection(service.url.removeprefix("http://"), timeout=60)
    try:
        headers = {"Authorization": phone.client.environ_base["HTTP_AUTHORIZATION"]}
        line.request("GET", "/sync/v1/stream", headers=headers)
        answer = line.getresponse()
        assert answer.status == 200 and answer.headers["Content-Type"].startswith("text/event-stream")
        yield answer
    finally:
        line.close()


def hint(answer: http.client.HTTPResponse) -> set[str]:
    """The scopes of the next hint; none: the stream has come to its end, and was not cut off."""
    while line := answer.readline():
        if line.startswith(b"data: "):
            return set(json.loads(line.removeprefix(b"data: "))["scopes"])
    return set()


@pytest.fixture
def service(settings: Settings) -> Iterator[Service]:
    with Service(settings, port=0, workers=0) as service:
        yield service


def test_a_change_made_by_another_process_is_heard_and_a_restart_is_survived(app: Flask, service: Service) -> None:
    field = Field(app)
    phone = field.phone()
    with stream(service, phone) as answer, stream(service, phone) as beside:
        assert len(hint(answer)) == len(hint(beside)) == 3
        job = field.job("repair", phone.crew_id)
        assert hint(answer) == hint(beside) == {f"crew:{phone.crew_id}"}
        phone.pull()
        assert ("job", job) in phone.copy
        service.end_child("web")
        assert hint(answer) == hint(beside) == set()
    missed = field.job("repair", phone.crew_id)
    service.start_child("web")
    with stream(service, phone) as answer:
        assert f"crew:{phone.crew_id}" in hint(answer)
        phone.pull()
        assert ("job", missed) in phone.copy


def test_what_is_left_of_a_killed_web_server_ends_and_takes_no_requests(app: Flask, service: Service) -> None:
    phone = Field(app).phone()
    with stream(service, phone) as answer:
        assert len(hint(answer)) == 3
        left = descendants(service.pid("web"))
        service.kill("web")
        wait_for(lambda: not any(is_running(pid) for pid in left), 10)
        assert hint(answer) == set()
    with stream(service, phone) as answer:
        assert len(hint(answer)) == 3
