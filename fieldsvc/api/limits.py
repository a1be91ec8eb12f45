"""How often one may guess: attempts at passwords and enrolment codes, counted by Flask-Limiter.

Counted in Redis where there is one, so that all processes count together; while Redis is away each process counts for
itself. Only failures count: who has the right password may ask for as many tokens as he likes.
"""

from __future__ import annotations

import hashlib
import logging
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


def init_app(app: Flask, settings: Settings) -> None:
    """Give ``app`` its counters. Opens no connection."""
    logging.getLogger("flask-limiter").addHandler(logging.NullHandler())
    app.extensions[_EXTENSION] = Attempts(app, settings)


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
