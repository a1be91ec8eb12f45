"""The line between a device and the service, and how it breaks: at the socket, not at the door.

A request may never leave, be cut off half-way, or be heard while its answer is lost whole or in part. A device cannot
tell these apart, so all of them are :class:`LineDown`.
"""

from __future__ import annotations

import gzip
import http.client
import random
import socket
import struct
import zlib
from collections import Counter
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import orjson

_TIMEOUT_S = 60.0
_HEAD = 300
"""About as long is the head of a request: a cut falls into it or into the body."""

FAULTS = ("no_line", "half_sent", "answer_lost", "answer_cut")


class LineDown(Exception):
    """The line broke; whether the service has heard is not known."""


@dataclass(frozen=True)
class Answer:
    """What came back: the status, the headers, and the body, unpacked."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The decoded body; None when there is none.

        :raises LineDown: it is no JSON, as behind a broken proxy.
        """
        try:
            return orjson.loads(self.body) if self.body else None
        except orjson.JSONDecodeError:
            raise LineDown("the answer cannot be read") from None


class _Wire(http.client.HTTPConnection):
    """A connection that breaks after ``left`` more bytes, where that is set."""

    left: int | None = None

    def send(self, data: Any) -> None:
        if self.left is None:
            super().send(data)
            return
        part = bytes(data)[: self.left]
        self.left -= len(part)
        super().send(part)
        if not self.left:
            raise LineDown("cut off while sending")


@dataclass
class Line:
    """One device's line to the service ``url``.

    :param badness: the chance of a fault per call, 0 for a good line.
    :param faults: counts the faults there were.
    """

    url: str
    chance: random.Random
    badness: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)
    calls: int = 0
    _wire: _Wire | None = None

    def call(self, method: str, path: str, headers: Mapping[str, str], body: bytes | None = None) -> Answer:
        """One request and its whole answer.

        :raises LineDown: as the name says.
        """
        fault = self._fault()
        try:
            answer = self._ask(method, path, headers, body, fault)
            content = answer.read()
            if answer.headers.get("Content-Encoding") == "gzip":
                content = gzip.decompress(content)
        except (OSError, EOFError, http.client.HTTPException) as error:
            self.drop()
            raise LineDown(str(error) or type(error).__name__) from None
        except LineDown:
            self.drop()
            raise
        return Answer(answer.status, dict(answer.headers.items()), content)

    def lines(self, path: str, headers: Mapping[str, str]) -> Generator[bytes, None, None]:
        """The lines of a streamed answer, as they come; the first item is the status as a number in text.

        :raises LineDown: also in the middle.
        """
        fault = self._fault()
        most = self.chance.randrange(200, 20_000) if fault == "answer_cut" else None
        try:
            answer = self._ask("GET", path, headers, None, "" if fault == "answer_cut" else fault)
            yield str(answer.status).encode()
            packed = answer.headers.get("Content-Encoding") == "gzip"
            unpack = zlib.decompressobj(wbits=31).decompress if packed else bytes
            rest, got = b"", 0
            while data := answer.read1(4096):
                got += len(data)
                *whole, rest = (rest + unpack(data)).split(b"\n")
                yield from whole
                if most is not None and got >= most:
                    raise LineDown("cut off while reading")
            yield from [rest] if rest else []
        except (OSError, EOFError, zlib.error, http.client.HTTPException) as error:
            raise LineDown(str(error) or type(error).__name__) from None
        finally:
            self.drop()

    def drop(self) -> None:
        """Close the connection; by a reset, or in good order."""
        if self._wire is not None and self._wire.sock is not None and self.chance.random() < 0.5:
            linger = struct.pack("ii", 1, 0)
            self._wire.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        if self._wire is not None:
            self._wire.close()
            self._wire = None

    def _fault(self) -> str:
        self.calls += 1
        if self.chance.random() >= self.badness:
            return ""
        fault = self.chance.choice(FAULTS)
        self.faults[fault] += 1
        return fault

    def _ask(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes | None, fault: str
    ) -> http.client.HTTPResponse:
        if fault == "no_line":
            raise LineDown("no line")
        if self._wire is None:
            parts = urlsplit(self.url)
            self._wire = _Wire(parts.hostname or "", parts.port, timeout=_TIMEOUT_S)
            self._wire.connect()
            self._wire.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        wire = self._wire
        if fault == "half_sent":
            wire.left = self.chance.randrange(1, _HEAD + len(body or b""))
        wire.request(method, path, body, dict(headers))
        if fault == "half_sent":
            raise LineDown("cut off after sending")
        if fault == "answer_lost":
            wire.sock.recv(1, socket.MSG_PEEK)  # the service has done it and answers: nobody is there any more
            raise LineDown("the answer is lost")
        answer = wire.getresponse()
        if fault == "answer_cut":
            answer.read(self.chance.randrange(1, 200))
            raise LineDown("the answer is cut off")
        return answer
