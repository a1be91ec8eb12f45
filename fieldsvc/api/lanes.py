"""Lanes: how many requests of one sort a web process works on at once, so that no sort can keep the others out.

What crews did comes before what they want to know: pushes are in no lane, they always find a thread. Evidence comes
before news, news before first syncs, which can wait: after a storm three hundred devices may want one in the same
minute. A view says ``@lane("pull")`` below its access decorator. Whoever finds the lane full waits a moment, and is
then sent away with 503 ``unavailable`` and a ``Retry-After`` that differs from one to the next.

A place is held until the answer's last byte is sent or the line is cut. A line on which nothing moves for
:data:`STUCK_S` is cut.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any

from flask import Flask, Response, current_app, make_response, request

from fieldsvc.base.errors import FieldsvcError

View = Callable[..., Any]

PLACES = {"evidence": (16, 8), "pull": (4, 16), "first": (2, 8)}
"""Lane → how many requests at once in a process, and how many more may wait for a place, each in its thread."""
PUSHES = 8
"""Threads kept free for pushes."""
OTHERS = 6
"""Threads kept free for staff and whatever else is in no lane."""
STREAMS = 32
"""Open streams of a process; each takes a thread and no database connection."""
BOARDS = 16
"""Open streams of boards in a process; each takes a thread and no database connection."""
THREADS = sum(map(sum, PLACES.values())) + PUSHES + OTHERS + STREAMS + BOARDS
"""Threads of a web process: what the lanes take when all are full, and still enough for everything else."""

WAIT_S = 0.2
STUCK_S = 120
RETRY_S = (1, 5)

_EXTENSION = "fieldsvc.lanes"


class Lane:
    """The places of one lane in this process."""

    def __init__(self, places: int, waiting: int) -> None:
        self._free = threading.Semaphore(places)
        self._waiting = threading.Semaphore(waiting)

    def enter(self) -> bool:
        """Whether a place was free, or became so within :data:`WAIT_S`; at once False when too many wait already."""
        if self._free.acquire(blocking=False):
            return True
        if not self._waiting.acquire(blocking=False):
            return False
        try:
            return self._free.acquire(timeout=WAIT_S)
        finally:
            self._waiting.release()

    def leave(self) -> None:
        """Give a place back."""
        self._free.release()


class _Body:
    """An answer's body that gives its place back once: when it has been read, closed or forgotten."""

    _leave: Callable[[], None] | None = None

    def __init__(self, body: Any, leave: Callable[[], None]) -> None:
        self._body = body
        self._pieces: Iterator[bytes] = iter(body)
        self._leave = leave

    def __iter__(self) -> _Body:
        return self

    def __next__(self) -> bytes:
        try:
            return next(self._pieces)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        leave, self._leave = self._leave, None
        if leave is None:
            return
        try:
            if hasattr(self._body, "close"):
                self._body.close()
        finally:
            leave()

    __del__ = close


def init_app(app: Flask) -> None:
    """Give ``app`` its lanes."""
    app.extensions[_EXTENSION] = {name: Lane(*sizes) for name, sizes in PLACES.items()}


def lane(name: str | Callable[[], str]) -> Callable[[View], View]:
    """Work on a view only while its lane has a place. A function in place of the name chooses by the request.

    :raises FieldsvcError: ``unavailable`` (503) with ``Retry-After``, before anything inside has run.
    """

    def decorate(view: View) -> View:
        @wraps(view)
        def wrapper(*args: Any, **kwargs: Any) -> Response:
            chosen = name if isinstance(name, str) else name()
            here: Lane = current_app.extensions[_EXTENSION][chosen]
            if not here.enter():
                wait = random.randint(*RETRY_S)
                raise FieldsvcError("unavailable", f"many ask at once; try again in {wait} s", retry_after=wait)
            try:
                _cut_when_stuck()
                response: Response = make_response(view(*args, **kwargs))
                if response.is_sequence:
                    response.content_length = response.calculate_content_length() or 0
                response.response = _Body(response.response, here.leave)
            except BaseException:
                here.leave()
                raise
            return response

        return wrapper

    return decorate


def _cut_when_stuck() -> None:
    """Let the web server's blocking reads and writes fail on a line on which nothing moves any more."""
    line = request.environ.get("gunicorn.socket")
    if line is not None:
        line.settimeout(STUCK_S)
