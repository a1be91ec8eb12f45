"""Uploads over real lines to real processes: a cut in the middle of a piece, a web server killed in the middle."""

from __future__ import annotations

import http.client
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from flask import Flask

from fieldsvc.config import Settings
from fieldsvc.embedded import Service
from fieldsvc.sync import uploads
from tests.evidence import OCTETS, SPEAK, begin, complete, entry, photo, told
from tests.field import Field, Phone
from tests.processes import wait_for

DATA = photo(size=(2400, 1600)) + b"\0" * (4 * uploads.PART)


@pytest.fixture
def service(settings: Settings) -> Iterator[Service]:
    with Service(settings, port=0) as service:
        yield service


def ask(service: Service, phone: Phone, method: str, where: str, body: bytes = b"", **headers: str) -> Any:
    """The answer, read; None while nobody answers."""
    line = http.client.HTTPConnection(service.url.removeprefix("http://"), timeout=60)
    said = SPEAK | {"Authorization": phone.client.environ_base["HTTP_AUTHORIZATION"]} | headers
    try:
        line.request(method, where, body or None, said)
        answer = line.getresponse()
        answer.read()
        return answer
    except OSError:
        return None
    finally:
        line.close()


def offset(service: Service, phone: Phone, where: str) -> int:
    answer = ask(service, phone, "HEAD", where)
    return int(answer.headers["Upload-Offset"]) if answer is not None and answer.status == 200 else -1


@contextmanager
def sending(service: Service, phone: Phone, where: str, at: int, sent: bytes, *more: str) -> Iterator[socket.socket]:
    """A PATCH that promises all that is left and brings only ``sent``; the line stays open."""
    host, port = service.url.removeprefix("http://").split(":")
    said = [
        f"PATCH {where} HTTP/1.1",
        f"Host: {host}",
        f"Authorization: {phone.client.environ_base['HTTP_AUTHORIZATION']}",
        "Tus-Resumable: 1.0.0",
        f"Content-Type: {OCTETS}",
        f"Content-Length: {len(DATA) - at}",
        f"Upload-Offset: {at}",
        *more,
    ]
    with socket.create_connection((host, int(port))) as line:
        line.sendall("\r\n".join([*said, "", ""]).encode() + sent)
        yield line


def finish(service: Service, phone: Phone, where: str, at: int) -> None:
    headers = {"Upload-Offset": str(at), "Content-Type": OCTETS}
    answer = ask(service, phone, "PATCH", where, DATA[at:], **headers)
    assert (answer.status, answer.headers["Upload-Offset"]) == (204, str(len(DATA)))


def test_what_came_before_a_cut_is_kept_and_the_rest_follows(app: Flask, service: Service) -> None:
    phone = Field(app).phone()
    job, named = phone.field.job("repair", phone.crew_id), entry(DATA)
    phone.push(complete(phone, job, named))
    where = begin(phone, named)
    with sending(service, phone, where, 0, DATA[:1_500_001]):
        wait_for(lambda: offset(service, phone, where) == uploads.PART)
    wait_for(lambda: offset(service, phone, where) == 1_500_001)
    with sending(service, phone, where, 1_500_001, DATA[1_500_001:1_500_003]):
        pass
    wait_for(lambda: offset(service, phone, where) == 1_500_003)
    finish(service, phone, where, 1_500_003)
    wait_for(lambda: phone.pull() is not None and told(phone, named)["state"] == "verified")


def test_a_piece_with_a_digest_that_is_cut_is_not_kept(app: Flask, service: Service) -> None:
    phone = Field(app).phone()
    where = begin(phone, entry(DATA))
    digest = "Upload-Checksum: sha1 2jmj7l5rSw0yVb/vlWAYkK/YBwk="
    with sending(service, phone, where, 0, DATA[: 2 * uploads.PART], digest):
        pass
    with sending(service, phone, where, 0, DATA[:5]):
        pass
    wait_for(lambda: offset(service, phone, where) == 5)


def test_a_web_server_killed_in_the_middle_loses_less_than_a_part(app: Flask, service: Service) -> None:
    phone = Field(app).phone()
    job, named = phone.field.job("repair", phone.crew_id), entry(DATA)
    where = begin(phone, named)
    with sending(service, phone, where, 0, DATA[: 2 * uploads.PART + 7]):
        wait_for(lambda: offset(service, phone, where) == 2 * uploads.PART)
        service.kill("web", signal.SIGKILL)
    wait_for(lambda: offset(service, phone, where) >= 2 * uploads.PART)
    finish(service, phone, where, offset(service, phone, where))
    phone.push(complete(phone, job, named))
    wait_for(lambda: phone.pull() is not None and told(phone, named)["state"] == "verified")


def test_while_one_piece_is_coming_in_another_of_the_same_place_does_no_harm(app: Flask, service: Service) -> None:
    phone = Field(app).phone()
    where = begin(phone, entry(DATA))
    with sending(service, phone, where, 0, DATA[:1000]) as slow:
        finish(service, phone, where, 0)
        slow.sendall(DATA[1000:])
        assert b" 409 " in slow.recv(100)
    assert offset(service, phone, where) == len(DATA)
