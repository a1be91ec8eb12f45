"""``python -m tests.killed``: workers that are killed, by SIGKILL, at the statement they are told.

For every line read (a number, a task, its arguments) one worker process is forked, does the task, and kills itself
right before its statement of that number (COMMIT counts as one; 0: never). Prints ``killed``, ``done``, or ``failed``.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from flask import Flask
from sqlalchemy import event

from fieldsvc.app import create_app
from fieldsvc.base.db import db
from workers import runtime, tasks


@contextmanager
def killing(app: Flask) -> Iterator[Callable[..., str]]:
    """``run(n, task, …)``: a worker of ``app`` that is killed before its n-th statement; what became of it."""
    command = [sys.executable, "-m", "tests.killed"]
    env = app.extensions["fieldsvc.settings"].child_env()
    with subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as workers:
        assert workers.stdin is not None and workers.stdout is not None

        def run(statement: int, *task: str) -> str:
            workers.stdin.write(" ".join((str(statement), *task)) + "\n")  # type: ignore[union-attr]
            workers.stdin.flush()  # type: ignore[union-attr]
            return workers.stdout.readline().strip()  # type: ignore[union-attr]

        yield run
        workers.stdin.close()


def main() -> None:
    app = create_app()  # opens no connection, so that every child has its own
    for line in sys.stdin:
        statement, task, *args = line.split()
        child = os.fork()
        if child == 0:
            status = 1
            try:
                with app.app_context():
                    die_at(int(statement))
                with runtime.serving(app):
                    getattr(tasks, task)(*args)
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            assert os.WTERMSIG(status) == signal.SIGKILL
        print("killed" if os.WIFSIGNALED(status) else "failed" if status else "done", flush=True)


def die_at(number: int) -> None:
    """Kill this process before its statement of that number."""
    said = 0

    def count(*_: Any) -> None:
        nonlocal said
        said += 1
        if said == number:
            os.kill(os.getpid(), signal.SIGKILL)

    event.listen(db.engine, "before_cursor_execute", count)
    event.listen(db.engine, "commit", count)


if __name__ == "__main__":
    main()
