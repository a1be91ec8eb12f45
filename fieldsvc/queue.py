"""The doorbell: tells workers by name that there is something to do. The only module that knows Redis and RQ.

The database is the truth; a ring only makes things quick. So nothing here raises when Redis is away: :func:`ring`
answers False, and the sweep rings again for whatever was not heard. Ring after the commit, never before.
"""

from __future__ import annotations

import time
from functools import lru_cache

import structlog
from flask import Flask, current_app
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry
from rq import Queue
from rq.serializers import JSONSerializer

from fieldsvc.config import Settings

SYNC, PLAN = "sync", "plan"
QUEUES = (SYNC, PLAN)
"""``sync`` is for work of milliseconds, ``plan`` for work of seconds; at least one worker never takes ``plan``."""

QUEUE_OF = {
    "reconcile": SYNC,
    "sweep": SYNC,
    "run_dispatch": PLAN,
    "plan_area": PLAN,
    "run_campaign": PLAN,
    "inspect_attachment": PLAN,
}
"""Every task that can be rung for, by its name in ``workers.tasks``."""

_RUNG_S = 10
_QUIET_S = 1.0
_TIMEOUT_S = {SYNC: 300, PLAN: 900}
_FAILURE_TTL_S = 86400

log = structlog.get_logger(__name__)
_EXTENSION = "fieldsvc.queue"


class Doorbell:
    """Where one application rings; ``down_until`` (monotonic seconds) spares requests the wait for a dead Redis."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.down_until = 0.0
        self.silent = False


def init_app(app: Flask, settings: Settings) -> None:
    """Let :func:`ring` work inside ``app``'s context. Opens no connection."""
    app.extensions[_EXTENSION] = Doorbell(settings)


@lru_cache(maxsize=8)
def _connection(url: str) -> Redis:
    """A connection pool that gives up soon: a request must not hang on the doorbell."""
    return Redis.from_url(url, socket_connect_timeout=0.5, socket_timeout=1.0, retry=Retry(NoBackoff(), 1))


def queue_name(settings: Settings, name: str) -> str:
    """The name of queue ``name`` in Redis."""
    return f"{settings.queue_prefix}-{name}"


def _rung_key(settings: Settings, task: str, args: tuple[str, ...]) -> str:
    return ":".join((settings.queue_prefix, "rung", task, *args))


def ring(task: str, *args: str) -> bool:
    """Enqueue ``workers.tasks.<task>(*args)``; True when a worker will hear it, False when Redis is away.

    A ring for what was rung already and not yet taken up is one Redis call and no second job: the worker wipes the
    mark before it looks into the database (:func:`answer`), so what was committed before the ring is seen. RQ's own
    ``unique`` jobs would not do: they also refuse while the first one is running, which may have looked already.

    :raises KeyError: no such task.
    """
    name = QUEUE_OF[task]
    bell: Doorbell = current_app.extensions[_EXTENSION]
    settings = bell.settings
    if not settings.redis_url or time.monotonic() < bell.down_until:
        return False
    connection = _connection(settings.redis_url)
    mark = _rung_key(settings, task, args)
    try:
        if connection.set(mark, 1, nx=True, ex=_RUNG_S):
            Queue(queue_name(settings, name), connection=connection, serializer=JSONSerializer).enqueue_call(
                f"workers.tasks.{task}",
                args=args,
                timeout=_TIMEOUT_S[name],
                result_ttl=0,
                failure_ttl=_FAILURE_TTL_S,
            )
    except (RedisError, OSError) as error:
        bell.down_until = time.monotonic() + _QUIET_S
        if not bell.silent:
            log.warning("redis-away", task=task, error=type(error).__name__)
        bell.silent = True
        return False
    if bell.silent:
        log.info("redis-back")
    bell.silent = False
    return True


def answer(settings: Settings, task: str, args: tuple[str, ...]) -> None:
    """A worker takes up a task: from here on a ring for the same makes a new job. Call before reading the database."""
    if not settings.redis_url:
        return
    try:
        _connection(settings.redis_url).delete(_rung_key(settings, task, args))
    except (RedisError, OSError):
        log.warning("redis-away", task=task)


def ready(settings: Settings) -> bool:
    """Whether Redis answers; for health checks."""
    if not settings.redis_url:
        return False
    try:
        return bool(_connection(settings.redis_url).ping())
    except (RedisError, OSError):
        return False


def depth(settings: Settings) -> int:
    """How many jobs wait in all queues; 0 when Redis is away."""
    if not settings.redis_url:
        return 0
    connection = _connection(settings.redis_url)
    try:
        return sum(Queue(queue_name(settings, name), connection=connection).count for name in QUEUES)
    except (RedisError, OSError):
        return 0
