"""Kinto beside us: from PyPI into a virtual environment of its own, as its documentation sets it up for production.

PostgreSQL for storage and permissions, Granian (which its deployment guide names beside uWSGI) with as many processes
as our web server, the pool sizes and the batch of 25 from its production checklist. Where it leaves a choice, the
cheaper one for Kinto: ``basicauth``, which looks nobody up; the cache in memory; only warnings logged; no plugins; no
proxy before it. Every client is a user with a bucket of its own and one collection in it.
"""

from __future__ import annotations

import base64
import http.client
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import venv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import orjson

from bench import load, setting
from fieldsvc.embedded import die_with_parent
from tests import services

PER_BATCH = 25
"""Kinto's own limit unless it is raised; 100 and 200 were no faster."""
PROCESSES, THREADS = 2, 8
"""A thread for each of 16 devices."""

_ROOT = Path(__file__).parent.parent
_LOCK = Path(__file__).with_name("requirements-kinto.lock")
_HOME = _ROOT / "build" / "kinto"
_pause = threading.Event()

_INI = """\
[app:main]
use = egg:kinto
kinto.storage_backend = kinto.core.storage.postgresql
kinto.storage_url = {url}
kinto.storage_pool_size = 50
kinto.permission_backend = kinto.core.permission.postgresql
kinto.permission_url = {url}
kinto.permission_pool_size = 50
kinto.cache_backend = kinto.core.cache.memory
kinto.userid_hmac_secret = bench
kinto.bucket_create_principals = system.Authenticated
kinto.batch_max_requests = {per_batch}
multiauth.policies = basicauth
"""

_APPLICATION = """\
import logging
import os

from pyramid.paster import get_app

logging.basicConfig(level=logging.WARNING)
application = get_app(os.environ["KINTO_INI"])
"""


class Missing(Exception):
    """Kinto cannot be had here; the message says why."""


def programs() -> Path:
    """The folder with Kinto's programs, made on the first call: a virtual environment with exactly what the lock names.

    :raises Missing: no package registry answers, or it has nothing for this machine.
    """
    mark, wanted = _HOME / "lock", f"{sys.version_info[:2]}\n{_LOCK.read_text()}"
    if mark.exists() and mark.read_text() == wanted:
        return _HOME / "bin"
    shutil.rmtree(_HOME, ignore_errors=True)
    print("setting up Kinto in build/kinto …", file=sys.stderr)
    venv.create(_HOME, with_pip=True)
    command = [str(_HOME / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run(
        [*command, "--require-hashes", "-r", str(_LOCK)], capture_output=True, text=True, check=False, timeout=600
    )
    if done.returncode:
        raise Missing(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "pip failed")
    mark.write_text(wanted)
    return _HOME / "bin"


@dataclass(frozen=True)
class Kinto:
    """A Kinto that answers: its address, its processes, the PostgreSQL it shares with us."""

    url: str
    process: subprocess.Popen[bytes]
    postgres: services.Postgres
    version: str

    def cpu(self) -> dict[str, float]:
        """Processor seconds used so far, by part of the service."""
        return {"web": load.cpu_seconds(self.process.pid), "postgresql": setting.postgres_cpu(self.postgres)}

    def push(self, client: str) -> load.Call:
        """A batch of ``client``; what is counted is the status of each request in it."""
        return load.Call(self.url, "POST", "/v1/batch", _headers(client), rb'"status":\s*(\d+)')

    def pull(self, client: str, since: str) -> load.Call:
        """Everything in the collection of ``client`` after the timestamp ``since``; what is counted is records."""
        path = f"{collection(client)}/records?_since={quote(since)}"
        return load.Call(self.url, "GET", f"/v1{path}", _headers(client), rb'"(last_modified)":')

    def ask(self, client: str, method: str, path: str, body: Any = None) -> tuple[Any, str]:
        """One request; the answer's body and ETag."""
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=60)
        try:
            connection.request(method, f"/v1{path}", None if body is None else orjson.dumps(body), _headers(client))
            answer = connection.getresponse()
            data = answer.read()
        finally:
            connection.close()
        if answer.status >= 300:
            raise SystemExit(f"Kinto: {method} {path} answered {answer.status}: {data[:500]!r}")
        return orjson.loads(data), answer.getheader("ETag") or ""

    def welcome(self, client: str) -> None:
        """Give ``client`` its bucket and its collection."""
        self.ask(client, "PUT", f"/buckets/{client}", {})
        self.ask(client, "PUT", collection(client), {})

    def timestamp(self, client: str) -> str:
        """The timestamp of the client's collection as it stands: what a device would say in its next ``_since``."""
        return self.ask(client, "GET", f"{collection(client)}/records?_limit=1")[1]


def collection(client: str) -> str:
    return f"/buckets/{client}/collections/work"


def _headers(client: str) -> dict[str, str]:
    name = base64.b64encode(f"{client}:secret".encode()).decode()
    return {"Authorization": f"Basic {name}", "Content-Type": "application/json"}


def batches(client: str, records: Sequence[dict[str, Any]]) -> list[bytes]:
    """Requests that create ``records`` (each with an ``id``) as Kinto's own client does: by PUT, unless it is there."""
    bodies = []
    for first in range(0, len(records), PER_BATCH):
        requests = [
            {
                "method": "PUT",
                "path": f"{collection(client)}/records/{record['id']}",
                "headers": {"If-None-Match": "*"},
                "body": {"data": record},
            }
            for record in records[first : first + PER_BATCH]
        ]
        bodies.append(orjson.dumps({"requests": requests}))
    return bodies


@contextmanager
def running(server: services.Postgres) -> Iterator[Kinto]:
    """Kinto on a new database of ``server``.

    :raises Missing: it cannot be had here.
    """
    found = programs()
    name = server.create()
    with tempfile.TemporaryDirectory(prefix="kinto-bench-") as home:
        folder = Path(home)
        ini, log = folder / "kinto.ini", folder / "log"
        ini.write_text(_INI.format(url=server.dsn(name), per_batch=PER_BATCH))
        (folder / "application.py").write_text(_APPLICATION)
        env = {**os.environ, "KINTO_INI": str(ini), "PYTHONWARNINGS": "ignore"}
        env.pop("PYTHONPATH", None)
        subprocess.run([found / "kinto", "migrate", "--ini", ini], env=env, check=True, capture_output=True)
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = int(probe.getsockname()[1])
        options = f"--interface wsgi --workers {PROCESSES} --blocking-threads {THREADS} --port {port} --no-ws"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [found / "granian", *options.split(), "--log-level", "error", "application:application"],
                env=env, cwd=folder, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
                preexec_fn=die_with_parent(os.getpid()),  # noqa: PLW1509
            )  # fmt: skip
        try:
            version = _await(port, process, log)
            yield Kinto(f"http://127.0.0.1:{port}", process, server, version)
        finally:
            process.terminate()
            process.wait(20)
    server.drop(name)


def _await(port: int, process: subprocess.Popen[bytes], log: Path) -> str:
    """Wait until it answers; its version."""
    for _ in range(600):
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            connection.request("GET", "/v1/")
            answer = connection.getresponse()
            told = answer.read()
            connection.close()
            if answer.status == 200:
                return str(orjson.loads(told)["project_version"])
        except OSError:
            if process.poll() is not None:
                break
        _pause.wait(0.1)
    raise SystemExit(f"Kinto does not come up: {re.sub(r'//.*@', '//', log.read_text())[-2000:]}")
