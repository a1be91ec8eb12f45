"""A small HTTP client: JSON both ways over one kept connection, problem documents as exceptions."""

from __future__ import annotations

import gzip
import http.client
import threading
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlencode, urlsplit

import orjson

_TIMEOUT_S = 60
_MOST_WAITS = 5
_pause = threading.Event()


class Refused(Exception):
    """The service answered with a problem: its status, its stable code, and what it said."""

    def __init__(self, method: str, path: str, status: int, problem: Mapping[str, Any]) -> None:
        self.status, self.problem = status, problem
        self.code = str(problem.get("type", "")).rsplit("/", 1)[-1]
        said = problem.get("detail") or problem.get("title") or "no explanation"
        faults = "; ".join(f"{fault.get('field')} {fault.get('reason')}" for fault in problem.get("errors") or [])
        super().__init__(f"{method} {path}: {status} {said}{f' ({faults})' if faults else ''}")


class Client:
    """One caller with one token and one connection; not to be shared between threads."""

    def __init__(self, url: str, token: str | None = None) -> None:
        parts = urlsplit(url)
        self.token = token
        self._connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=_TIMEOUT_S)
        self._used = False

    def get(self, path: str, **query: Any) -> Any:
        """The decoded answer of a GET; members of ``query`` that are None are left out."""
        wanted = {name: value for name, value in query.items() if value is not None}
        return self.call("GET", f"{path}?{urlencode(wanted)}" if wanted else path)[0]

    def post(self, path: str, body: Any = None, **headers: str) -> Any:
        """The decoded answer of a POST; ``Idempotency_Key="…"`` becomes the header of that name."""
        return self.call("POST", path, body, headers)[0]

    def patch(self, path: str, body: Any, tag: str) -> Any:
        """The decoded answer of a PATCH for the revision with the ETag ``tag``."""
        return self.call("PATCH", path, body, {"If-Match": tag})[0]

    def items(self, path: str, **query: Any) -> Iterator[dict[str, Any]]:
        """All items of a list, page by page."""
        cursor: str | None = None
        while True:
            page = self.get(path, **{"limit": 200, **query, "cursor": cursor})
            yield from page["items"] if "items" in page else page["features"]
            cursor = page["next"]
            if cursor is None:
                return

    def call(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> tuple[Any, Mapping[str, str]]:
        """The decoded answer and its headers. Waits and asks again when the service says that it is busy.

        :raises Refused: every other problem.
        """
        content, answered = self.raw(method, path, body, headers)
        return orjson.loads(content) if content else None, answered

    def raw(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> tuple[bytes, Mapping[str, str]]:
        """As :meth:`call`, with the answer as it came."""
        sent = {"Accept-Encoding": "gzip", **{name.replace("_", "-"): text for name, text in (headers or {}).items()}}
        if self.token:
            sent["Authorization"] = f"Bearer {self.token}"
        data = None
        if body is not None:
            data = body if isinstance(body, bytes) else orjson.dumps(body)
            sent.setdefault("Content-Type", "application/json")
        for turn in range(_MOST_WAITS):
            answer, content = self._exchange(method, path, data, sent)
            if answer.status not in (429, 503) or turn + 1 == _MOST_WAITS:
                break
            _pause.wait(min(float(answer.headers.get("Retry-After", "1")), 5))
        if answer.status >= 400:
            problem = orjson.loads(content) if content else None
            raise Refused(method, path, answer.status, problem if isinstance(problem, dict) else {})
        return content, dict(answer.headers.items())

    def _exchange(
        self, method: str, path: str, data: bytes | None, headers: Mapping[str, str]
    ) -> tuple[http.client.HTTPResponse, bytes]:
        """One exchange; a kept connection that the server has closed meanwhile is opened again, once."""
        try:
            return self._once(method, path, data, headers)
        except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
            self._connection.close()
            if not self._used:
                raise
            return self._once(method, path, data, headers)

    def _once(
        self, method: str, path: str, data: bytes | None, headers: Mapping[str, str]
    ) -> tuple[http.client.HTTPResponse, bytes]:
        try:
            self._connection.request(method, path, data, dict(headers))
            answer = self._connection.getresponse()
            content = answer.read()
        except http.client.HTTPException:
            self._connection.close()
            raise
        self._used = True
        if answer.headers.get("Content-Encoding") == "gzip":
            content = gzip.decompress(content)
        return answer, content

    def close(self) -> None:
        self._connection.close()
