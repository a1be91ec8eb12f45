"""Uploads over real lines to real processes: a cut in the middle of a piece, a web server killed in the middle."""

from __future__ import annotations

import http.client
import itertools
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from fieldsvc.sync import uploads
from tests.evidence import OCTETS, SPEAK, begin, complete, entry, photo, stands
from tests.field import Phone
from tests.processes import wait_for
from tests.running import Running

DATA = photo(size=(2400, 1600)) + b"\0" * (4 * uploads.PART)


def ask(served: Running, phone: Phone, method: str, where: str, body: bytes = b"", **headers: str) -> Any:
    """The answer, read; None while nobody answers."""
    line = http.client.HTTPConnection(served.url.removeprefix("http://"), timeout=60)
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


def offset(served: Running, phone: Phone, where: str) -> int:
    answer = ask(served, phone, "HEAD", where)
    return int(answer.headers["Upload-Offset"]) if answer is not None and answer.status == 200 else -1


@contextmanager
def sending(served: Running, phone: Phone, where: str, at: int, sent: bytes, *more: str) -> Iterator[socket.socket]:
    """A PATCH that promises all that is left and brings only ``sent``; the line stays open."""
    host, port = served.url.removeprefix("http://").split(":")
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


def finish(served: Running, phone: Phone, where: str, at: int) -> None:
    headers = {"Upload-Offset": str(at), "Content-Type": OCTETS}
    answer = ask(served, phone, "PATCH", where, DATA[at:], **headers)
    assert (answer.status, answer.headers["Upload-Offset"]) == (204, str(len(DATA)))


def test_what_came_before_a_cut_is_kept_and_the_rest_follows(served: Running) -> None:
    phone = served.field.phone()
    job, named = phone.field.job("repair", phone.crew_id), entry(DATA)
    phone.push(complete(phone, job, named))
    where = begin(phone, named)
    with sending(served, phone, where, 0, DATA[:1_500_001]):
        wait_for(lambda: offset(served, phone, where) == uploads.PART)
    wait_for(lambda: offset(served, phone, where) == 1_500_001)
    with sending(served, phone, where, 1_500_001, DATA[1_500_001:1_500_003]):
        pass
    wait_for(lambda: offset(served, phone, where) == 1_500_003)
    finish(served, phone, where, 1_500_003)
    wait_for(lambda: stands(phone, named, "verified"))


def test_a_piece_with_a_digest_that_is_cut_is_not_kept(served: Running) -> None:
    phone = served.field.phone()
    where = begin(phone, entry(DATA))
    digest = "Upload-Checksum: sha1 2jmj7l5rSw0yVb/vlWAYkK/YBwk="
    with sending(served, phone, where, 0, DATA[: 2 * uploads.PART], digest):
        pass
    with sending(served, phone, where, 0, DATA[:5]):
        pass
    wait_for(lambda: offset(served, phone, where) == 5)


@pytest.mark.parametrize(("more", "status"), [(b"", 204), (b"!", 413)])
def test_a_piece_of_a_length_nobody_says_is_bounded_all_the_same(served: Running, more: bytes, status: int) -> None:
    phone = served.field.phone()
    where = begin(phone, entry(DATA))
    line = http.client.HTTPConnection(served.url.removeprefix("http://"), timeout=60)
    said = {"Authorization": phone.client.environ_base["HTTP_AUTHORIZATION"], "Upload-Offset": "0"}
    pieces = (DATA[at : at + 50_000] for at in range(0, len(DATA), 50_000))
    chunked = {"Content-Type": OCTETS, "Transfer-Encoding": "chunked"}
    line.request("PATCH", where, itertools.chain(pieces, [more]), SPEAK | said | chunked, encode_chunked=True)
    answer = line.getresponse()
    assert (answer.status, len(answer.read()) > 0) == (status, status == 413)
    line.close()
    kept = len(DATA) if status == 204 else len(DATA) // uploads.PART * uploads.PART
    assert offset(served, phone, where) == kept


def test_a_web_server_killed_in_the_middle_loses_less_than_a_part(served: Running) -> None:
    phone = served.field.phone()
    job, named = phone.field.job("repair", phone.crew_id), entry(DATA)
    where = begin(phone, named)
    with sending(served, phone, where, 0, DATA[: 2 * uploads.PART + 7]):
        wait_for(lambda: offset(served, phone, where) == 2 * uploads.PART)
        served.kill_web()
    wait_for(lambda: offset(served, phone, where) >= 2 * uploads.PART)
    finish(served, phone, where, offset(served, phone, where))
    phone.push(complete(phone, job, named))
    wait_for(lambda: stands(phone, named, "verified"))


def test_while_one_piece_is_coming_in_another_of_the_same_place_does_no_harm(served: Running) -> None:
    phone = served.field.phone()
    where = begin(phone, entry(DATA))
    with sending(served, phone, where, 0, DATA[: uploads.PART + 1000]) as slow:
        wait_for(lambda: offset(served, phone, where) == uploads.PART)
        finish(served, phone, where, uploads.PART)
        # To the end of a part and no further: a line that ends with something unread may lose the answer.
        slow.sendall(DATA[uploads.PART + 1000 : 2 * uploads.PART])
        assert b" 409 " in slow.recv(100)
    assert offset(served, phone, where) == len(DATA)
