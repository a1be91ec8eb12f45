"""``python -m tests.killed INSTALL``: workers that are killed, by SIGKILL, at the statement they are told.

For every line read (a number) one worker process is forked, reconciles what waits for the install, and kills itself
right before its statement of that number (COMMIT counts as one; 0: never). Prints ``killed``, ``done``, or ``failed``.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from typing import Any

from sqlalchemy import event

from fieldsvc.app import create_app
from fieldsvc.base.db import db
from workers import runtime, tasks


def main(install_id: str) -> None:
    app = create_app()  # opens no connection, so that every child has its own
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                with app.app_context():
                    die_at(int(line))
                with runtime.serving(app):
                    tasks.reconcile(install_id)
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
    main(sys.argv[1])
