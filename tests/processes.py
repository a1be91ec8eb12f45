"""Processes as their users meet them: `fieldsvc up` in a folder, what it prints, what it leaves behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

READY = re.compile(r"ready at (http://\S+)")
_pause = threading.Event()


def get(url: str) -> int:
    with urllib.request.urlopen(url, timeout=60) as answer:
        return int(answer.status)


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    for _ in range(int(seconds / 0.05)):
        if condition():
            return
        _pause.wait(0.05)
    raise AssertionError(f"did not come true within {seconds} s")


def is_running(pid: int) -> bool:
    """Whether a process runs (a zombie nobody has waited for does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def descendants(pid: int) -> set[int]:
    children = {
        int(child) for child in Path(f"/proc/{pid}/task").glob("*/children") for child in child.read_text().split()
    }
    return children.union(*(descendants(child) for child in children)) if children else set()


def _hear_ctrl_c() -> None:
    """A shell that starts the tests in the background has all their children ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Up:
    """One `fieldsvc up` in a folder of its own, with what it prints."""

    def __init__(self, folder: Path, *options: str, env: dict[str, str] | None = None) -> None:
        clean = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("FIELDSVC_", "DATABASE_URL", "REDIS_"))
        }
        command = [sys.executable, "-m", "fieldsvc.cli", "up", *options]
        self.lines: list[str] = []
        self.folder, self.env = folder, {**clean, "PYTHONUNBUFFERED": "1", **(env or {})}
        self.process = subprocess.Popen(
            command, cwd=folder, env=self.env,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
            preexec_fn=_hear_ctrl_c,  # noqa: PLW1509 - one system call, nothing that could lock
        )  # fmt: skip
        self.reader = threading.Thread(target=self._read)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip())

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    def url(self) -> str:
        wait_for(lambda: READY.search(self.output) is not None or self.process.poll() is not None, 60)
        found = READY.search(self.output)
        assert found, self.output
        return found.group(1)

    def fieldsvc(self, *words: str) -> str:
        """The last word that the command ``fieldsvc`` prints, run beside this service on its data."""
        command = [sys.executable, "-m", "fieldsvc.cli", *words]
        done = subprocess.run(command, cwd=self.folder, env=self.env, capture_output=True, text=True, check=True)
        return done.stdout.split()[-1]

    def token(self, name: str = "boss") -> str:
        """The token of a new admin for all territories."""
        self.fieldsvc("users", "add", name, "--role", "admin", "--all-territories", "--generate")
        return self.fieldsvc("users", "token", name)

    def end(self, sig: int = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(sig)
        status = self.process.wait(40)
        self.reader.join(10)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return status


@contextmanager
def up(folder: Path, *options: str, env: dict[str, str] | None = None) -> Iterator[Up]:
    run = Up(folder, *options, env=env)
    try:
        yield run
    finally:
        run.end()
