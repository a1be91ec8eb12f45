"""``python -m workers.run``: one worker process.

Tasks run in this process (no fork per task: that would cost 25 ms instead of 5). Redis may come and go: the worker
waits for it. SIGTERM and SIGINT finish the task at hand, then end.
"""

from __future__ import annotations

import signal
import sys
import threading
from types import FrameType
from uuid import uuid4

import click
import structlog
from flask import Flask
from redis import Redis
from redis.exceptions import RedisError
from rq import Queue, SimpleWorker
from rq.exceptions import StopRequested
from rq.serializers import JSONSerializer

from fieldsvc import logs
from fieldsvc.base import memory
from fieldsvc.config import BadSetting, Settings
from fieldsvc.queue import QUEUES, queue_name, ring
from workers import runtime

log = structlog.get_logger(__name__)


class FieldWorker(SimpleWorker):
    """RQ's in-process worker without its remote-control channel, and with short waits when Redis is away."""

    max_connection_wait_time = 2.0
    log_result_lifespan = False
    stopping = False

    def subscribe(self) -> None:
        """Nobody sends commands to our workers: that channel would be a thread and a connection for nothing."""

    def unsubscribe(self) -> None:
        """See :meth:`subscribe`."""

    def request_stop(self, signum: int, frame: FrameType | None) -> None:
        self.stopping = True
        super().request_stop(signum, frame)


def worker(settings: Settings, queues: tuple[str, ...] = QUEUES) -> FieldWorker:
    """A worker with a name of its own on ``queues``, the first one first.

    :raises redis.exceptions.RedisError: Redis is away.
    """
    connection = Redis.from_url(settings.redis_url or "", socket_connect_timeout=2)
    return FieldWorker(
        [Queue(queue_name(settings, name), connection=connection, serializer=JSONSerializer) for name in queues],
        name=f"{settings.queue_prefix}-{uuid4().hex}",
        connection=connection,
        serializer=JSONSerializer,
        log_job_description=False,
    )


def keep_working(settings: Settings, queues: tuple[str, ...], burst: bool = False) -> None:
    """Work until told to stop (or, with ``burst``, until the queues are empty), through every absence of Redis."""
    wait, pause = 0.2, threading.Event()
    while True:
        current: FieldWorker | None = None
        try:
            current = worker(settings, queues)
            wait = 0.2
            current.work(burst=burst, logging_level="WARNING")
        except StopRequested:
            return
        except (RedisError, OSError) as error:
            log.warning("redis-away", error=type(error).__name__)
        if burst or (current is not None and current.stopping):
            return
        pause.wait(wait)
        wait = min(wait * 2, 2.0)


def ring_for_sweep(app: Flask, interval_s: float, stop: threading.Event) -> None:
    """Ring for a sweep now and every ``interval_s`` seconds until ``stop`` is set."""
    with app.app_context():
        ring("sweep")
        while not stop.wait(interval_s):
            ring("sweep")


@click.command()
@click.option("--queues", default=",".join(QUEUES), show_default=True, help="Which queues, the first one first.")
@click.option("--burst", is_flag=True, help="End when the queues are empty.")
@click.option("--periodic", is_flag=True, help="Also ring for the periodic sweep. Harmless on several workers.")
def main(queues: str, burst: bool, periodic: bool) -> None:
    """Turn what crews sent into records, and make dispatch plans."""
    names = tuple(queues.split(","))
    if unknown := set(names) - set(QUEUES):
        raise click.BadParameter(f"no such queue: {', '.join(sorted(unknown))}; there are {', '.join(QUEUES)}")
    try:
        settings = Settings.from_env()
        if not settings.redis_url:
            raise BadSetting("REDIS_URL must be set: workers wait at Redis for their tasks")
        logs.configure(settings)
        app = runtime.application()
        memory.settle()
    except BadSetting as error:
        raise click.ClickException(str(error)) from None
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    stop = threading.Event()
    if periodic:
        threading.Thread(target=ring_for_sweep, args=(app, settings.sweep_interval, stop), daemon=True).start()
    try:
        keep_working(settings, names, burst)
    finally:
        stop.set()


if __name__ == "__main__":
    main()
