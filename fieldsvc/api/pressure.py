"""Back-pressure: when more comes in than the workers decide, devices are asked to wait, long before any is refused.

How deep the inbox is, each process looks up about once a second. Above ``inbox_deep`` the answers to hello and push
carry ``backoff_s`` and the header ``Backoff``, each device another number so that they spread out. From ``inbox_full``
on a push is answered 503: the device keeps what it has, and nothing is lost.
"""

from __future__ import annotations

import random
import threading
import time

from flask import Flask, current_app

from fieldsvc.base.db import reading
from fieldsvc.base.errors import FieldsvcError
from fieldsvc.config import Settings
from fieldsvc.sync import depth

LOOK_S = 1.0
REST = 20
"""A look that takes long, because much waits, is followed by a rest so many times as long."""
HEADER = {"Backoff": {"description": "`backoff_s`, when it is not 0.", "schema": {"type": "integer", "minimum": 1}}}

_EXTENSION = "fieldsvc.pressure"


class Gauge:
    """The depth of the inbox as one process knows it."""

    def __init__(self, settings: Settings) -> None:
        self.deep, self.full = settings.inbox_deep, settings.inbox_full
        self._depth = 0
        self._look_at = 0.0
        self._looking = threading.Lock()

    def depth(self) -> int:
        """How many operations wait, as of the last look; while one thread looks, the others do not."""
        began = time.monotonic()
        if began >= self._look_at and self._looking.acquire(blocking=False):
            try:
                with reading():
                    self._depth = depth.depth(max(self.deep, self.full))
                ended = time.monotonic()
                self._look_at = ended + max(LOOK_S, (ended - began) * REST)
            finally:
                self._looking.release()
        return self._depth

    def backoff_s(self) -> int:
        """Seconds to wait for the device that asks, somewhat others for each."""
        most = depth.backoff_s(self.depth(), self.deep, self.full)
        return random.randint((most + 1) // 2, most)


def init_app(app: Flask, settings: Settings) -> None:
    """Give ``app`` its gauge. Looks at nothing yet."""
    app.extensions[_EXTENSION] = Gauge(settings)


def backoff() -> tuple[int, dict[str, str]]:
    """``backoff_s`` for the device that asks, and the header that says the same."""
    gauge: Gauge = current_app.extensions[_EXTENSION]
    seconds = gauge.backoff_s()
    return seconds, {"Backoff": str(seconds)} if seconds else {}


def refuse_when_full() -> None:
    """Call before anything of a push is read.

    :raises FieldsvcError: ``unavailable`` with ``Retry-After``.
    """
    gauge: Gauge = current_app.extensions[_EXTENSION]
    if gauge.depth() >= gauge.full:
        wait = random.randint(depth.MOST_S // 10, depth.MOST_S // 5)
        raise FieldsvcError("unavailable", f"too much waits to be decided; try again in {wait} s", retry_after=wait)
