"""How many operations a second go through the device's door, and how many become records.

Two measurements against the service as ``fieldsvc up`` starts it, on PostgreSQL with fsync on:

- *accepted*: 4 clients push 100 operations of about 1.9 KB at a time while the workers are paused, beside the same rows
  by COPY, 100 per commit over 4 connections, into a table with the same columns, indexes and
  foreign key;
- *reconciled*: the same with workers running, until every operation has its final outcome.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg

from bench import load, operations, report, setting
from bench.setting import Running, Sender

CLIENTS = 4
PER_PUSH = 100
WARM_UP = 4
"""Pushes of each client before the first measured one: processes prepare statements and fill their caches."""

_COPY_TABLE = "operation_by_copy"
_WAITING = "SELECT count(*) FROM operation WHERE status IN ('accepted', 'retrying')"
_pause = threading.Event()


@dataclass(frozen=True)
class Plan:
    """How much of it: rounds, and pushes of each client in a round of either measurement."""

    rounds: int = 5
    pushes: int = 20
    reconcile_rounds: int = 3
    reconcile_pushes: int = 10


QUICK = Plan(rounds=1, pushes=2, reconcile_rounds=1, reconcile_pushes=1)


def main() -> None:
    options = report.arguments(__doc__.splitlines()[0] if __doc__ else "")
    result = measure(QUICK if options.quick else Plan())
    if options.json:
        report.dump(result)
        return
    accepted, reconciled = result["accepted"], result["reconciled"]
    rows = [
        ("accepted, workers paused, ops/s", f"{accepted['push_per_s']:,.0f}", ""),
        ("the same rows by COPY, rows/s", f"{accepted['copy_per_s']:,.0f}", ""),
        ("accepted : COPY", f"{accepted['ratio']:.2f}", "≥ 0.4"),
        ("time of a push, median / 95 %, ms", f"{accepted['push_ms']:.1f} / {accepted['push_ms_95']:.1f}", ""),
        ("time of a COPY, median / 95 %, ms", f"{accepted['copy_ms']:.1f} / {accepted['copy_ms_95']:.1f}", ""),
        ("reconciled end to end, ops/s", f"{reconciled['per_s']:,.0f}", "≥ 1,000"),
        ("outcomes", ", ".join(f"{n} {name}" for name, n in reconciled["outcomes"].items()), "none lost"),
    ]
    notes = [
        f"rounds, accepted : COPY  {' '.join(f'{x:.2f}' for x in accepted['ratios'])}",
        f"rounds, reconciled       {' '.join(f'{x:.0f}' for x in reconciled['rounds'])}",
        f"CPU ms an operation, accepting    {_cpu(accepted['cpu_ms'])}",
        f"CPU ms a row, COPY                {_cpu(accepted['copy_cpu_ms'])}",
        f"CPU ms an operation, reconciling  {_cpu(reconciled['cpu_ms'])}",
    ]
    report.show("push: 4 clients × 100 operations of ~1.9 KB", result["machine"], rows, notes)


def _cpu(parts: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in parts.items())


def measure(plan: Plan) -> dict[str, Any]:
    """Both measurements, each on a database of its own."""
    machine = setting.machine()
    with setting.durable_postgres() as server:
        with setting.running(server, workers=0) as run:
            accepted = accepting(run, plan)
        with setting.running(server, workers=2) as run:
            reconciled = reconciling(run, plan)
    return {"machine": machine, "accepted": accepted, "reconciled": reconciled}


def accepting(run: Running, plan: Plan) -> dict[str, Any]:
    """Push and COPY in turn, so that both meet the machine in the same mood; medians over the rounds."""
    senders = setting.seed(run.app, CLIENTS, 100 if plan.rounds > 1 else 20)
    _make_copy_table(run.dsn)
    statement = f"COPY {_COPY_TABLE} ({', '.join(operations.COPY_COLUMNS)}) FROM STDIN"
    took: dict[str, list[float]] = {"push": [], "copy": []}
    rates: dict[str, list[float]] = {"push": [], "copy": []}
    cpu: dict[str, list[dict[str, float]]] = {"push": [], "copy": []}
    seq = 1
    for number in range(-1, plan.rounds):
        pushes = WARM_UP if number < 0 else plan.pushes
        load_of = [
            operations.batches(sender, sender.jobs, pushes, PER_PUSH, seed=number * 10 + i, first_seq=seq)
            for i, sender in enumerate(senders)
        ]
        seq += pushes * PER_PUSH
        for what in ("push", "copy"):
            before = run.cpu()
            if what == "push":
                done = load.together(load.http_client, _push_arguments(run, senders, load_of))
                assert load.counted(done) == {"accepted": pushes * PER_PUSH * CLIENTS}, done
            else:
                arguments = [(run.dsn, statement, [batch.rows for batch in one]) for one in load_of]
                done = load.together(load.copy_client, arguments)
            if number >= 0:
                operations_done = pushes * PER_PUSH * CLIENTS
                rates[what].append(operations_done / load.span(done))
                took[what] += [seconds * 1000 for one in done for seconds in one.took]
                cpu[what].append(load.cpu_each(before, run.cpu(), done, operations_done))
    ratios = [push / copy for push, copy in zip(rates["push"], rates["copy"], strict=True)]
    return {
        "push_per_s": report.median(rates["push"]),
        "copy_per_s": report.median(rates["copy"]),
        "ratio": report.median(ratios),
        "ratios": ratios,
        "push_ms": report.median(took["push"]),
        "push_ms_95": report.percentile(took["push"], 0.95),
        "copy_ms": report.median(took["copy"]),
        "copy_ms_95": report.percentile(took["copy"], 0.95),
        "cpu_ms": report.medians(cpu["push"]),
        "copy_cpu_ms": report.medians(cpu["copy"]),
    }


def reconciling(run: Running, plan: Plan) -> dict[str, Any]:
    """Push, and wait until every operation has its final outcome."""
    per_round = plan.reconcile_pushes * PER_PUSH
    jobs_each = per_round // 5 + 20
    senders = setting.seed(run.app, CLIENTS, jobs_each * (plan.reconcile_rounds + 1))
    rates: list[float] = []
    cpu: list[dict[str, float]] = []
    total, seq = 0, 1
    for number in range(-1, plan.reconcile_rounds):
        pushes = 1 if number < 0 else plan.reconcile_pushes
        part = (number + 1) * jobs_each
        load_of = [
            operations.batches(s, s.jobs[part : part + jobs_each], pushes, PER_PUSH, seed=number, first_seq=seq)
            for s in senders
        ]
        seq += pushes * PER_PUSH
        total += pushes * PER_PUSH * CLIENTS
        before = run.cpu()
        done = load.together(load.http_client, _push_arguments(run, senders, load_of))
        ended = _until_decided(run.dsn)
        if number >= 0:
            operations_done = pushes * PER_PUSH * CLIENTS
            rates.append(operations_done / (ended - min(one.began for one in done)))
            cpu.append(load.cpu_each(before, run.cpu(), done, operations_done))
    with psycopg.connect(run.dsn) as connection:
        outcomes = dict(connection.execute("SELECT status, count(*) FROM operation GROUP BY status ORDER BY 1"))
        told = connection.execute("SELECT count(*) FROM sync_feed WHERE entity = 'outcome'").fetchone()
    assert sum(outcomes.values()) == total and told == (total,), (outcomes, told, total)
    return {"per_s": report.median(rates), "rounds": rates, "outcomes": outcomes, "cpu_ms": report.medians(cpu)}


def _push_arguments(
    run: Running, senders: Sequence[Sender], load_of: Sequence[Sequence[operations.Batch]]
) -> list[tuple[Any, ...]]:
    return [
        (run.push(sender), [batch.body for batch in batches]) for sender, batches in zip(senders, load_of, strict=True)
    ]


def _make_copy_table(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f"CREATE TABLE {_COPY_TABLE} (LIKE operation INCLUDING ALL)".encode())
        connection.execute(f"ALTER TABLE {_COPY_TABLE} ADD FOREIGN KEY (device_id) REFERENCES device (id)".encode())


def _until_decided(dsn: str) -> float:
    """Wait until nothing waits in the inbox; monotonic seconds of that moment."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        while connection.execute(_WAITING).fetchone() != (0,):
            _pause.wait(0.02)
    return time.monotonic()


if __name__ == "__main__":
    main()
