"""What a pull costs: nothing new in a small and in a large feed, and 500 changes.

Two services as ``fieldsvc up`` starts them, on PostgreSQL with fsync on: one feed holds 1,000 rows, the other 200,000,
all of them in the scope of the crew that pulls. Requests go to the two in turn over kept connections, one at a time, so
that both meet the machine in the same mood; medians over all of them. The changes are written by the code that writes
them in service, and every checkpoint is one the service has given out.
"""

from __future__ import annotations

import gzip
import http.client
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

import orjson
import psycopg

from bench import report, setting
from bench.setting import Running, Sender
from fieldsvc.base.clock import new_id
from fieldsvc.base.db import transaction
from fieldsvc.feed import publish

CHANGES = 500


@dataclass(frozen=True)
class Plan:
    """Rows of the two feeds, and requests per measurement."""

    small: int = 1_000
    large: int = 200_000
    requests: int = 400
    pages: int = 150


QUICK = Plan(small=600, large=5_000, requests=20, pages=5)


class Device:
    """One device that pulls over a kept connection."""

    def __init__(self, run: Running, sender: Sender) -> None:
        self.connection = http.client.HTTPConnection(urlsplit(run.service.url).netloc, timeout=60)
        self.headers = {"Authorization": f"Bearer {sender.token}"}

    def pull(self, checkpoint: str | None, encoding: str = "identity") -> tuple[float, bytes]:
        """Seconds from the request to the last byte of the answer, and the answer as it came."""
        path = "/sync/v1/pull?limit=500" + (f"&cp={quote(checkpoint)}" if checkpoint else "")
        headers = self.headers | {"Accept-Encoding": encoding}
        start = time.perf_counter()
        self.connection.request("GET", path, headers=headers)
        answer = self.connection.getresponse()
        data = answer.read()
        took = time.perf_counter() - start
        if answer.status != 200:
            raise SystemExit(f"pull answered {answer.status}: {data[:500]!r}")
        return took, data

    def read_all(self) -> tuple[str, int, float]:
        """Pull from the beginning to the end; the last checkpoint, how many changes came, and the seconds it took."""
        checkpoint, count, more = None, 0, True
        start = time.perf_counter()
        while more:
            page = orjson.loads(self.pull(checkpoint)[1])
            checkpoint, more = page["checkpoint"], page["has_more"]
            count += len(page["changes"])
        assert checkpoint is not None
        return checkpoint, count, time.perf_counter() - start


def main() -> None:
    options = report.arguments(__doc__.splitlines()[0] if __doc__ else "")
    result = measure(QUICK if options.quick else Plan())
    if options.json:
        report.dump(result)
        return
    nothing, changes = result["nothing"], result["changes"]
    rows = [
        (f"nothing new, feed of {result['small']:,} rows, ms", f"{nothing['small_ms']:.2f}", ""),
        (f"nothing new, feed of {result['large']:,} rows, ms", f"{nothing['large_ms']:.2f}", ""),
        ("large : small", f"{nothing['ratio']:.2f}", "≤ 1.3"),
        (f"{changes['count']} changes, {changes['bytes'] / 1024:.0f} KiB, ms", f"{changes['ms']:.1f}", "≤ 30"),
        (f"the same with gzip, {changes['gzip_bytes'] / 1024:.0f} KiB, ms", f"{changes['gzip_ms']:.1f}", ""),
        ("from the beginning, changes/s", f"{result['first']['per_s']:,.0f}", ""),
    ]
    report.show("pull: one device, one request at a time", result["machine"], rows, [])


def measure(plan: Plan) -> dict[str, Any]:
    """Fill both feeds, then ask them in turn."""
    machine = setting.machine()
    with (
        setting.durable_postgres() as server,
        setting.running(server, workers=0) as small_run,
        setting.running(server, workers=0) as large_run,
    ):
        small = _filled(small_run, plan.small)
        large = _filled(large_run, plan.large)
        behind = large.checkpoint
        change(large_run, large.sender)
        end = str(orjson.loads(large.device.pull(behind)[1])["checkpoint"])
        nothing: dict[str, list[float]] = {"small": [], "large": []}
        for _ in range(plan.requests):
            nothing["small"].append(small.device.pull(small.checkpoint)[0] * 1000)
            nothing["large"].append(large.device.pull(end)[0] * 1000)
        changes = _changes(large.device, behind, plan.pages)
    small_ms, large_ms = report.median(nothing["small"]), report.median(nothing["large"])
    return {
        "machine": machine,
        "small": plan.small,
        "large": plan.large,
        "nothing": {"small_ms": small_ms, "large_ms": large_ms, "ratio": large_ms / small_ms},
        "changes": changes,
        "first": {"per_s": plan.large / large.seconds},
    }


@dataclass(frozen=True)
class Filled:
    """A feed that has been filled and read to its end once."""

    sender: Sender
    device: Device
    checkpoint: str
    seconds: float


def _filled(run: Running, rows: int) -> Filled:
    """Bring the feed of the service to ``rows`` rows in the scope of one crew, and have its device read them all."""
    [sender] = setting.seed(run.app, 1, 20)
    document = setting.job_document(run.app, sender.jobs[0])
    with psycopg.connect(run.dsn, autocommit=True) as connection:
        there = connection.execute("SELECT count(*) FROM sync_feed").fetchone()
        missing = rows - (there[0] if there else 0)
        values = {"missing": missing, "document": orjson.dumps(document).decode(), "scope": f"crew:{sender.crew_id}"}
        for statement in _FILL:
            connection.execute(statement, values)
    device = Device(run, sender)
    checkpoint, count, seconds = device.read_all()
    assert count == rows, (count, rows)
    return Filled(sender, device, checkpoint, seconds)


_FILL = (
    """INSERT INTO sync_doc (entity, entity_id, rev, body)
    SELECT 'job', 'fill-' || g, 1, %(document)s FROM generate_series(1, %(missing)s) g""",
    """INSERT INTO sync_feed (scope, seq, entity, entity_id, rev, op)
    SELECT c.scope, c.n + g, 'job', 'fill-' || g, 1, 'put' FROM sync_counter c, generate_series(1, %(missing)s) g
    WHERE c.scope = %(scope)s""",
    "UPDATE sync_counter SET n = n + %(missing)s WHERE scope = %(scope)s",
    "ANALYZE sync_doc, sync_feed, sync_counter",
)
"""Many rows at once, as ``feed.publish`` would have written them one transaction after the other."""


def change(run: Running, sender: Sender) -> None:
    """Write 500 new documents into the crew's scope, 50 in a transaction."""
    document = setting.job_document(run.app, sender.jobs[0])
    with run.app.app_context():
        for _ in range(CHANGES // 50):
            with transaction():
                for _ in range(50):
                    job_id = new_id()
                    own = {"id": job_id, "number": f"J-{job_id[-8:]}", "title": job_id, "customer_id": new_id()}
                    publish.put([f"crew:{sender.crew_id}"], "job", job_id, 1, document | own)


def _changes(device: Device, behind: str, requests: int) -> dict[str, Any]:
    """Pull the same 500 changes again and again, with and without gzip in turn."""
    took: dict[str, list[float]] = {"identity": [], "gzip": []}
    data: dict[str, bytes] = {}
    for _ in range(requests):
        for encoding, times in took.items():
            seconds, data[encoding] = device.pull(behind, encoding)
            times.append(seconds * 1000)
    changes = orjson.loads(data["identity"])["changes"]
    assert changes == orjson.loads(gzip.decompress(data["gzip"]))["changes"]
    assert len(changes) == CHANGES, len(changes)
    return {
        "count": len(changes),
        "ms": report.median(took["identity"]),
        "ms_95": report.percentile(took["identity"], 0.95),
        "bytes": len(data["identity"]),
        "gzip_ms": report.median(took["gzip"]),
        "gzip_bytes": len(data["gzip"]),
    }


if __name__ == "__main__":
    main()
