"""The load: client processes as cheap as they can be made, so that what is measured is the service.

Bodies are made beforehand, connections are kept, answers are searched for one word and not parsed. Clients, service and
database share the processors nevertheless: what each of them used is reported beside the numbers.
"""

from __future__ import annotations

import http.client
import multiprocessing
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg

_TICK = os.sysconf("SC_CLK_TCK")
_ctx = multiprocessing.get_context("spawn")


@dataclass(frozen=True)
class Done:
    """What one client did: monotonic seconds at its begin and end, seconds per request, what its answers told of."""

    began: float
    ended: float
    took: list[float]
    counts: dict[str, int]
    cpu: float


@dataclass(frozen=True)
class Call:
    """What a client asks again and again. ``found`` matches what is counted in an answer; group 1 says what it is."""

    address: str
    method: str
    path: str
    headers: dict[str, str]
    found: bytes


def http_client(call: Call, bodies: Sequence[bytes | None], go: Any, out: Any) -> None:
    """Ask once for each of ``bodies``, one after the other over one connection."""
    connection = http.client.HTTPConnection(urlsplit(call.address).netloc, timeout=60)
    found = re.compile(call.found)
    took: list[float] = []
    counts: Counter[str] = Counter()
    go.wait()
    began, cpu = time.monotonic(), time.process_time()
    for body in bodies:
        start = time.perf_counter()
        connection.request(call.method, call.path, body, call.headers)
        answer = connection.getresponse()
        data = answer.read()
        took.append(time.perf_counter() - start)
        if answer.status != 200:
            raise SystemExit(f"{call.method} {call.path} answered {answer.status}: {data[:500]!r}")
        counts.update(word.decode() for word in found.findall(data))
    out.put(Done(began, time.monotonic(), took, dict(counts), time.process_time() - cpu))


def copy_client(dsn: str, statement: str, blocks: Sequence[bytes], go: Any, out: Any) -> None:
    """COPY ``blocks`` into a table, one transaction each."""
    took: list[float] = []
    with psycopg.connect(dsn, autocommit=True) as connection:
        go.wait()
        began, cpu = time.monotonic(), time.process_time()
        for block in blocks:
            start = time.perf_counter()
            with connection.cursor() as cursor, cursor.copy(statement.encode()) as copy:
                copy.write(block)
            took.append(time.perf_counter() - start)
        out.put(Done(began, time.monotonic(), took, {}, time.process_time() - cpu))


def together(client: Callable[..., None], arguments: Sequence[tuple[Any, ...]]) -> list[Done]:
    """Run one client process per entry of ``arguments``, all from the same moment on.

    :raises SystemExit: a client failed.
    """
    go, out = _ctx.Barrier(len(arguments)), _ctx.Queue()
    processes = [_ctx.Process(target=client, args=(*args, go, out), daemon=True) for args in arguments]
    for process in processes:
        process.start()
    done: list[Done] = []
    while len(done) < len(processes):
        try:
            done.append(out.get(timeout=0.5))
        except Exception as error:
            if any(process.exitcode for process in processes):
                raise SystemExit("a client failed; see above") from error
    for process in processes:
        process.join()
    return done


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
