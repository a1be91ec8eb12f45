"""How often one may guess, and how often a device may call.

Attempts at passwords and enrolment codes are counted by Flask-Limiter: in Redis where there is one, so that all
processes count together; while Redis is away each process counts for itself. Only failures count: who has the right
password may ask for as many tokens as he likes.

Calls of a device are counted by each process for itself, in memory: the limit is against an app that has gone astray,
not a matter of one more or less, and a question to Redis would cost every push more than it could save.
"""

from __future__ import annotations

import hashlib
import logging
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
from flask import Flask, current_app, request
from flask_limiter import Limiter
from flask_limiter.util import get_remote_address
from limits import RateLimitItem, parse
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter, RateLimiter

from fieldsvc.base.clock import utc_now
from fieldsvc.base.errors import FieldsvcError
from fieldsvc.config import Settings

_EXTENSION = "fieldsvc.limits"
_RATES = "fieldsvc.rates"
_MOST_DEVICES = 10_000

log = structlog.get_logger(__name__)


class Attempts:
    """The counters of one application."""

    def __init__(self, app: Flask, settings: Settings) -> None:
        self.limit: RateLimitItem = parse(settings.login_limit)
        self.prefix = settings.queue_prefix
        self.limiter = Limiter(
            get_remote_address,
            app=app,
            storage_uri=_storage(settings.redis_url),
            storage_options=_options(settings.redis_url),
            strategy="fixed-window",
            headers_enabled=False,
        )
        self._here = FixedWindowRateLimiter(MemoryStorage())

    def count(self, what: str, who: str, *, add: bool) -> int | None:
        """Seconds to wait, or None when there is room. With ``add``, one more failure is counted."""
        key = (self.prefix, what, who)
        try:
            return self._count(self.limiter.limiter, key, add)
        except Exception as error:  # whatever the storage's driver raises
            log.warning("limits-storage-away", error=type(error).__name__)
            return self._count(self._here, key, add)

    def _count(self, limiter: RateLimiter, key: tuple[str, str, str], add: bool) -> int | None:
        if limiter.hit(self.limit, *key) if add else limiter.test(self.limit, *key):
            return None
        return max(1, int(limiter.get_window_stats(self.limit, *key).reset_time - utc_now().timestamp()) + 1)


class Rate:
    """How often each device may call, as one process counts it: so many times from its first call on, then anew."""

    def __init__(self, limit: str) -> None:
        self._limit = parse(limit)
        self._window = self._limit.get_expiry()
        self._counts: dict[str, tuple[float, int]] = {}

    def call(self, device_id: str, now: float) -> int | None:
        """Count a call at ``now`` (seconds on a clock that is never set); seconds to wait, or None if it may go on."""
        began, count = self._counts.get(device_id, (now, 0))
        if now - began >= self._window:
            began, count = now, 0
            if len(self._counts) > _MOST_DEVICES:
                self._forget(now)
        if count >= self._limit.amount:
            return max(1, math.ceil(began + self._window - now))
        self._counts[device_id] = (began, count + 1)
        return None

    def _forget(self, now: float) -> None:
        self._counts = {device: entry for device, entry in list(self._counts.items()) if now - entry[0] < self._window}


def init_app(app: Flask, settings: Settings) -> None:
    """Give ``app`` its counters. Opens no connection."""
    logging.getLogger("flask-limiter").addHandler(logging.NullHandler())
    app.extensions[_EXTENSION] = Attempts(app, settings)
    app.extensions[_RATES] = {False: Rate(settings.device_rate), True: Rate(settings.work_rate)}


def call(device_id: str, *, work: bool) -> None:
    """Count a call of a device. ``work``: it hands something in, which has an allowance of its own, so that asking for
    news never keeps work out.

    :raises FieldsvcError: ``too-many-requests`` with ``Retry-After``.
    """
    rate: Rate = current_app.extensions[_RATES][work]
    wait = rate.call(device_id, time.monotonic())
    if wait is not None:
        raise FieldsvcError(
            "too-many-requests", f"this device calls too often; try again in {wait} s", retry_after=wait
        )


@contextmanager
def attempt(what: str, name: str = "") -> Iterator[None]:
    """Guard one attempt at ``what`` (login, enrol): an expected error inside counts against this address and name.

    :raises FieldsvcError: ``too-many-requests`` with ``Retry-After``, before anything inside has run.
    """
    attempts: Attempts = current_app.extensions[_EXTENSION]
    digest = hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()[:24]
    who = f"{request.remote_addr or '-'}/{digest}"
    wait = attempts.count(what, who, add=False)
    if wait is not None:
        raise FieldsvcError("too-many-requests", f"too many failed attempts; try again in {wait} s", retry_after=wait)
    try:
        yield
    except FieldsvcError:
        attempts.count(what, who, add=True)
        raise


def _storage(redis_url: str | None) -> str:
    if not redis_url:
        return "memory://"
    return "redis+" + redis_url if redis_url.startswith("unix:") else redis_url


def _options(redis_url: str | None) -> dict[str, str | int]:
    return {"socket_connect_timeout": 1, "socket_timeout": 1} if redis_url else {}
