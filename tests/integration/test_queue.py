"""The doorbell: rings are cheap, never raise, and a worker hears what was committed before them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest
import sqlalchemy as sa
from flask import Flask
from redis import Redis

from fieldsvc import queue
from fieldsvc.app import create_app
from fieldsvc.base.db import db, transaction
from fieldsvc.config import Settings
from tests.services import RedisServer
from workers import runtime

COUNT = sa.text("SELECT count(*) FROM sync_counter")


def add_a_row(name: str) -> None:
    db.session.execute(sa.text("INSERT INTO sync_counter (scope, n) VALUES (:name, 1)"), {"name": name})


def test_a_ring_puts_one_job_into_the_queue_of_its_task(app: Flask, settings: Settings) -> None:
    with app.app_context():
        assert queue.ring("reconcile", "install-1")
        assert queue.ring("run_dispatch", "run-1")
    assert queue.depth(settings) == 2


def test_rings_for_the_same_that_nobody_has_taken_up_make_one_job(app: Flask, settings: Settings) -> None:
    with app.app_context():
        assert [queue.ring("reconcile", "install-1") for _ in range(5)] == [True] * 5
        assert queue.depth(settings) == 1
        assert queue.ring("reconcile", "install-2")
    assert queue.depth(settings) == 2


def test_a_ring_after_the_worker_began_makes_a_new_job(app: Flask, settings: Settings) -> None:
    with app.app_context():
        queue.ring("reconcile", "install-1")
        queue.answer(settings, "reconcile", ("install-1",))
        queue.ring("reconcile", "install-1")
    assert queue.depth(settings) == 2


def test_an_unknown_task_is_a_mistake_of_ours(app: Flask) -> None:
    with app.app_context(), pytest.raises(KeyError):
        queue.ring("no_such_task")


def test_without_redis_a_ring_is_false_and_quick(tmp_path: Path) -> None:
    settings = Settings(database_url="sqlite://", redis_url=f"unix://{tmp_path}/nobody.sock")
    app = create_app(settings)
    before = time.monotonic()
    with app.app_context():
        assert not any(queue.ring("reconcile", f"install-{number}") for number in range(100))
    assert time.monotonic() - before < 1
    assert not queue.ready(settings)
    assert queue.depth(settings) == 0


def test_no_redis_at_all_is_allowed() -> None:
    app = create_app(replace(Settings(), database_url="sqlite://"))
    with app.app_context():
        assert queue.ring("reconcile", "install-1") is False


def test_rings_are_heard_again_when_redis_is_back(
    app: Flask, settings: Settings, redis_server: RedisServer, redis: Redis
) -> None:
    with app.app_context():
        assert queue.ring("reconcile", "install-1")
        redis_server.stop()
        try:
            assert not queue.ring("reconcile", "install-2")
            assert not queue.ready(settings)
        finally:
            redis_server.start()
        app.extensions["fieldsvc.queue"].down_until = 0.0
        assert queue.ring("reconcile", "install-2")
        assert queue.ready(settings)
    assert queue.depth(settings) == 2, "the first job survived the restart"


def test_a_worker_empties_the_queues(app: Flask, settings: Settings, drain: Callable[[], None]) -> None:
    with app.app_context():
        queue.ring("reconcile", "an-install-nobody-knows")
        queue.ring("sweep")
    drain()
    assert queue.depth(settings) == 0


def test_a_task_is_one_transaction(app: Flask) -> None:
    @runtime.task()
    def work(name: str, *, now: datetime) -> str:
        add_a_row(name)
        return now.isoformat()

    with runtime.serving(app):
        assert work("a").endswith("+00:00")
    with app.app_context():
        assert db.session.execute(COUNT).scalar_one() == 1


def test_a_task_that_fails_is_rolled_back_and_recorded_in_a_transaction_of_its_own(app: Flask) -> None:
    def record(name: str, *, error: str, now: datetime) -> None:
        add_a_row(f"{name} failed with {error} in {now.year}")

    @runtime.task(failed=record)
    def work(name: str, *, now: datetime) -> None:
        add_a_row(name)
        raise ValueError("no")

    with runtime.serving(app), pytest.raises(ValueError, match="no"):
        work("a")
    with app.app_context():
        names = db.session.execute(sa.text("SELECT scope FROM sync_counter")).scalars().all()
    assert len(names) == 1
    assert names[0].startswith("a failed with ValueError in 20")


def test_a_failure_that_cannot_be_recorded_does_not_hide_the_first_one(app: Flask) -> None:
    def record(*_: str, error: str, now: datetime) -> None:
        raise KeyError(error)

    @runtime.task(failed=record)
    def work(*, now: datetime) -> None:
        raise ValueError("the first")

    with runtime.serving(app), pytest.raises(ValueError, match="the first"):
        work()


def test_a_task_with_transactions_of_its_own_keeps_what_it_committed(app: Flask) -> None:
    @runtime.task(transactional=False)
    def work(*, now: datetime) -> None:
        with transaction():
            add_a_row("kept")
        raise ValueError("later")

    with runtime.serving(app), pytest.raises(ValueError, match="later"):
        work()
    with app.app_context():
        assert db.session.execute(COUNT).scalar_one() == 1
