"""The load: client processes as cheap as they can be made, so that what is measured is the service.

Bodies are made beforehand, connections are kept, answers are searched for one word and not parsed. Clients, service and
database share the processors nevertheless: what each of them used is reported beside the numbers.
"""

from __future__ import annotations

import http.client
import os
import pickle
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

_TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Done:
    """What one client did: monotonic seconds at its begin and end, seconds per request, what its answers told of."""

    began: float
    ended: float
    took: list[float]
    counts: dict[str, int]
    cpu: float
    put_off: int = 0


@dataclass(frozen=True)
class Call:
    """What a client asks again and again. ``found`` matches what is counted in an answer; group 1 says what it is."""

    address: str
    method: str
    path: str
    headers: dict[str, str]
    found: bytes


def http_client(call: Call, bodies: Sequence[bytes | None], go: Callable[[], None]) -> Done:
    """Ask once for each of ``bodies``, one after the other over one connection.

    Who is put off (503) comes again when he was told to; what he waits is part of what it took.
    """
    connection = http.client.HTTPConnection(urlsplit(call.address).netloc, timeout=60)
    found = re.compile(call.found)
    took: list[float] = []
    counts: Counter[str] = Counter()
    put_off = 0
    go()
    began, cpu = time.monotonic(), time.process_time()
    for body in bodies:
        start = time.perf_counter()
        answer, data = _ask(connection, call, body)
        while answer.status == 503:
            put_off += 1
            time.sleep(float(answer.headers["Retry-After"]))
            answer, data = _ask(connection, call, body)
        took.append(time.perf_counter() - start)
        if answer.status != 200:
            raise SystemExit(f"{call.method} {call.path} answered {answer.status}: {data[:500]!r}")
        counts.update(word.decode() for word in found.findall(data))
    return Done(began, time.monotonic(), took, dict(counts), time.process_time() - cpu, put_off)


def _ask(
    connection: http.client.HTTPConnection, call: Call, body: bytes | None
) -> tuple[http.client.HTTPResponse, bytes]:
    connection.request(call.method, call.path, body, call.headers)
    answer = connection.getresponse()
    return answer, answer.read()


def copy_client(dsn: str, statement: str, blocks: Sequence[bytes], go: Callable[[], None]) -> Done:
    """COPY ``blocks`` into a table, one transaction each."""
    import psycopg  # here, because the other clients need not wait for it

    took: list[float] = []
    with psycopg.connect(dsn, autocommit=True) as connection:
        go()
        began, cpu = time.monotonic(), time.process_time()
        for block in blocks:
            start = time.perf_counter()
            with connection.cursor() as cursor, cursor.copy(statement.encode()) as copy:
                copy.write(block)
            took.append(time.perf_counter() - start)
        return Done(began, time.monotonic(), took, {}, time.process_time() - cpu)


def together(client: Callable[..., Done], arguments: Sequence[tuple[Any, ...]]) -> list[Done]:
    """Run one client process per entry of ``arguments``, all from the same moment on.

    :raises SystemExit: a client failed.
    """
    command = [sys.executable, "-c", "from bench.load import serve; serve()"]
    root = Path(__file__).parent.parent
    processes = [subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in arguments]
    try:
        pipes = [(process.stdin, process.stdout) for process in processes]
        for (to, _), args in zip(pipes, arguments, strict=True):
            _send(to, (client.__name__, args))
        for _, back in pipes:
            _receive(back)  # it is ready
        for to, _ in pipes:
            _send(to, "go")
        return [_receive(back) for _, back in pipes]
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def serve() -> None:
    """What a client process does: it is told what, says that it is ready, and waits for the word.

    It is no fork and knows nothing of the benchmark that started it: to import that would cost more than the load.
    """
    name, arguments = _receive(sys.stdin.buffer)

    def go() -> None:
        _send(sys.stdout.buffer, "ready")
        _receive(sys.stdin.buffer)

    _send(sys.stdout.buffer, globals()[name](*arguments, go))


def _send(pipe: IO[bytes] | None, what: Any) -> None:
    assert pipe is not None
    pickle.dump(what, pipe)
    pipe.flush()


def _receive(pipe: IO[bytes] | None) -> Any:
    assert pipe is not None
    try:
        return pickle.load(pipe)
    except EOFError:
        raise SystemExit("a client failed; see above") from None


def span(done: Sequence[Done]) -> float:
    """Seconds from the first client's begin to the last one's end."""
    return max(one.ended for one in done) - min(one.began for one in done)


def counted(done: Sequence[Done]) -> Counter[str]:
    """What all clients' answers told of."""
    total: Counter[str] = Counter()
    for one in done:
        total.update(one.counts)
    return total


def cpu_each(before: dict[str, float], after: dict[str, float], done: Sequence[Done], things: int) -> dict[str, float]:
    """Milliseconds of processor time for each of so many ``things``, by who used them; the clients' own included."""
    used = {name: after[name] - before[name] for name in after} | {"clients": sum(one.cpu for one in done)}
    return {name: value * 1000 / things for name, value in used.items() if value > 0}


def cpu_seconds(pid: int) -> float:
    """Processor seconds that a process, its children and those it has outlived have used so far (Linux; else 0)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        children = [
            child for listed in Path(f"/proc/{pid}/task").glob("*/children") for child in listed.read_text().split()
        ]
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / _TICK + sum(cpu_seconds(int(child)) for child in children)
