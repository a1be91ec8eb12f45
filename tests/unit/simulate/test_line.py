"""The bad line: what arrives at the other end, and what the caller is told."""

from __future__ import annotations

import random
import socketserver
import threading
from collections.abc import Iterator

import pytest

from fieldsvc.simulate import line as lines
from fieldsvc.simulate.line import Line, LineDown

ANSWER = b'HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n{"ok":true}'


class Listener(socketserver.ThreadingTCPServer):
    """Answers every whole request; ``heard`` keeps what came, whole or not."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.over = threading.Semaphore(0)
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        assert isinstance(self.server, Listener)
        came = b""
        try:
            while not came.endswith(b"THE END"):
                piece = self.request.recv(65536)
                if not piece:
                    break
                came += piece
            else:
                self.request.sendall(ANSWER)
        except OSError:
            pass
        self.server.heard.append(came)
        self.server.over.release()


@pytest.fixture
def listener() -> Iterator[Listener]:
    with Listener() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


BODY = b"x" * 5000 + b"THE END"


def broken(listener: Listener, fault: str) -> Line:
    """A line with exactly this fault, found by trying sources of chance."""
    for seed in range(1000):
        chance = random.Random(seed)
        chance.random()
        if chance.choice(lines.FAULTS) == fault:
            return Line(listener.url, random.Random(seed), badness=1.0)
    raise AssertionError(fault)


def test_a_good_line_brings_the_answer(listener: Listener) -> None:
    line = Line(listener.url, random.Random(1))
    assert line.call("POST", "/push", {}, BODY).json() == {"ok": True}
    line.drop()
    assert listener.over.acquire(timeout=10)
    assert listener.heard[0].endswith(BODY)


@pytest.mark.parametrize(("fault", "arrives"), [("half_sent", False), ("answer_lost", True), ("answer_cut", True)])
def test_a_broken_line_is_broken_where_it_says(listener: Listener, fault: str, arrives: bool) -> None:
    line = broken(listener, fault)
    with pytest.raises(LineDown):
        line.call("POST", "/push", {}, BODY)
    assert listener.over.acquire(timeout=10)
    assert (BODY in listener.heard[0]) is arrives
    assert line.faults == {fault: 1}


def test_without_a_line_nothing_arrives(listener: Listener) -> None:
    with pytest.raises(LineDown):
        broken(listener, "no_line").call("POST", "/push", {}, BODY)
    assert listener.heard == []
