"""What surrounds every task: the application, one transaction, and a record of the failure.

A task that raises is rolled back; then ``failed`` (a function of the domain, which decides what an attempt means) runs
in a second, short transaction, and the exception goes on to RQ, whose registry keeps the traceback.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import wraps
from typing import Any

import structlog
from flask import Flask

from fieldsvc import queue
from fieldsvc.app import create_app
from fieldsvc.base.clock import utc_now
from fieldsvc.base.db import db, transaction

log = structlog.get_logger(__name__)

Failed = Callable[..., None]
_process: dict[str, Flask] = {}


def application() -> Flask:
    """This process's application, made when first needed: after a fork, with connections of its own."""
    if "app" not in _process:
        _process["app"] = create_app()
    return _process["app"]


@contextmanager
def serving(app: Flask) -> Iterator[None]:
    """Run tasks of this process in ``app`` (a worker inside a test's own process)."""
    before = _process.get("app")
    _process["app"] = app
    try:
        yield
    finally:
        if before is None:
            del _process["app"]
        else:
            _process["app"] = before


def task(
    *, transactional: bool = True, failed: Failed | None = None
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make a function of ids and ``now`` a task: RQ calls it with the ids, the clock is read here.

    :param transactional: one transaction around the whole task; False for what keeps several short ones of its own.
    :param failed: called as ``failed(*ids, error=<class name>, now=…)`` after a roll-back.
    """

    def decorate(work: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(work)
        def run(*ids: str) -> Any:
            app = application()
            queue.answer(app.extensions["fieldsvc.settings"], work.__name__, ids)
            with app.app_context():
                try:
                    if not transactional:
                        return work(*ids, now=utc_now())
                    with transaction():
                        return work(*ids, now=utc_now())
                except Exception as error:
                    log.exception("task-failed", task=work.__name__, ids=ids)
                    if failed is not None:
                        _record(failed, ids, type(error).__name__, utc_now())
                    raise
                finally:
                    db.session.remove()

        run.__dict__["is_task"] = True
        return run

    return decorate


def _record(failed: Failed, ids: tuple[str, ...], error: str, now: datetime) -> None:
    """Keep the failure; what goes wrong here must not hide what went wrong first."""
    try:
        with transaction():
            failed(*ids, error=error, now=now)
    except Exception:
        log.exception("failure-not-recorded", ids=ids)
