"""A surge of calls, taken for what they are about, beside the same surge with a job for every call.

The same made-up storm (``bench.surge``) comes in twice over HTTP, call by call over four connections: once by the rules
of the package, once with an edition that merges nothing. First one minute at 5,000 calls in ten minutes, then the rest
as fast as it is taken; crews' devices push and pull all the time, and a dispatcher asks for a run again and again.
Afterwards every call is counted, and for every fault when a crew was first sent to it.
"""

from __future__ import annotations

import http.client
import json
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import psycopg

from bench import report, setting, surge
from bench.setting import Running, Sender
from fieldsvc.base.clock import format_time, new_id, utc_now
from fieldsvc.base.db import db, transaction
from fieldsvc.people import crews, devices, staff
from fieldsvc.people.actors import SYSTEM
from fieldsvc.people.models import Crew
from fieldsvc.work import change, jobs

CONNECTIONS = 4
RATE = 5000 / 600
"""Calls a second: what is to be taken in."""

_APART = """\
pack = "storms"
[[entry]]
rule = "kinds"
value = []
effective_from = 2026-01-01
edition = "every call a job"
source = "the other side of the comparison"
"""
_pause = threading.Event()


@dataclass(frozen=True)
class Plan:
    """How much of it: calls, how many of them at the storm's rate, areas, crews, seconds of quiet, seed."""

    calls: int = 5000
    paced: int = 500
    areas: int = 200
    crews: int = 24
    quiet_s: float = 15
    seed: int = 7


QUICK = Plan(calls=150, paced=20, areas=20, crews=4, quiet_s=1)


@dataclass
class Took:
    """Milliseconds of requests by what they were, under the name of the phase at hand."""

    phase: str = "quiet"
    ms: dict[tuple[str, str], list[float]] = field(default_factory=dict)

    def add(self, what: str, seconds: float) -> None:
        self.ms.setdefault((self.phase, what), []).append(seconds * 1000)

    def told(self, phase: str, what: str) -> dict[str, float]:
        values = self.ms.get((phase, what), [0.0])
        return {"median": report.median(values), "95": report.percentile(values, 0.95), "count": len(values)}


class Client:
    """One kept connection with a token."""

    def __init__(self, address: str, token: str) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=120)
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    def ask(self, method: str, path: str, body: bytes | None = None) -> tuple[Any, float]:
        """The JSON that came, and the seconds it took.

        :raises SystemExit: it was not a success.
        """
        began = time.perf_counter()
        self._connection.request(method, path, body, self._headers)
        answer = self._connection.getresponse()
        data = answer.read()
        if answer.status >= 300:
            raise SystemExit(f"{method} {path} answered {answer.status}: {data[:500]!r}")
        return json.loads(data), time.perf_counter() - began


def main() -> None:
    options = report.arguments(__doc__.splitlines()[0] if __doc__ else "")
    result = measure(QUICK if options.quick else Plan())
    if options.json:
        report.dump(result)
        return
    title = f"storm: {result['plan']['calls']} calls, {result['plan']['crews']} crews"
    report.show(title, result["machine"], rows(result), [], ("", "merged", "a job for every call"))


def measure(plan: Plan) -> dict[str, Any]:
    """The surge with and without merging, each on a database of its own."""
    machine = setting.machine()
    with setting.durable_postgres() as server, tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "storms.toml").write_text(_APART, "utf-8")
        with setting.running(server, workers=2, rules_dir=Path(folder)) as run:
            apart = weathered(run, plan)
        with setting.running(server, workers=2) as run:
            merged = weathered(run, plan)
    return {"machine": machine, "plan": plan.__dict__, "merged": merged, "apart": apart}


def weathered(run: Running, plan: Plan) -> dict[str, Any]:
    """One surge from the quiet before to what became of the faults."""
    areas = surge.network(plan.areas, plan.seed)
    with run.app.app_context():
        surge.store(areas, plan.seed)
        office, senders = _office(), _crews(plan)
    calls = surge.calls(areas, plan.calls, plan.seed)
    took = Took()
    with _syncing(run, senders, took):
        quiet = _busy(run, lambda: _pause.wait(plan.quiet_s))
        with _dispatching(run, office):
            took.phase = "paced"
            paced = _busy(run, lambda: _take_in(run, office, calls[: plan.paced], took, RATE))
            took.phase = "full"
            began = time.monotonic()
            _take_in(run, office, calls[plan.paced :], took, None)
            per_s = (plan.calls - plan.paced) / (time.monotonic() - began)
            took.phase = "after"
        _dispatch_once(Client(run.service.url, office))
    return {
        "per_s": per_s,
        "busy": {"quiet": quiet, "paced": paced},
        **{f"{phase}_{what}": took.told(phase, what) for phase in ("quiet", "paced", "full") for what in _WHAT},
        **outcome(run.dsn, calls),
    }


_WHAT = ("push", "pull", "ticket")


def _busy(run: Running, work: Callable[[], object]) -> float:
    """How much of one processor the whole service took while ``work`` was done."""
    before, began = run.cpu(), time.monotonic()
    work()
    after = run.cpu()
    return sum(after[part] - before[part] for part in after) / (time.monotonic() - began)


def _office() -> str:
    with transaction():
        source = SYSTEM.source(utc_now())
        member = staff.create(
            source, username="office", password=new_id(), role="admin", all_territories=True, territory_ids=()
        )
        _, token = staff.issue_token(source, member, "storm", timedelta(days=1))
    return token


def _crews(plan: Plan) -> list[Sender]:
    """Crews with a device, on duty, each with one job that its device sends remarks on."""
    senders = []
    for number in range(plan.crews):
        now = utc_now()
        with transaction():
            square = number % surge.TERRITORIES
            lon = surge.WEST + surge.SIZE * (square % 2 + 0.5)
            lat = surge.SOUTH + surge.SIZE * (square // 2 + 0.5)
            crew = crews.create(
                SYSTEM,
                now,
                code=f"CREW-{number}",
                name=f"Crew {number}",
                skills=["repair", "metering"],
                territory_ids=_square(square),
                base_lon=lon,
                base_lat=lat,
            )
            crews.add_shift(SYSTEM, now, crew, now - timedelta(hours=1), now + timedelta(hours=9))
            _, code = devices.new_code(SYSTEM, now, crew, timedelta(minutes=5))
            device, token = devices.enrol(code, new_id(), "android 15", "3.2.0", now)
            senders.append(Sender(device.id, crew.id, device.install_id, token, (_first_job(crew, lon, lat),)))
    db.session.remove()
    return senders


def _square(number: int) -> list[str]:
    from fieldsvc.people import territories

    return list(territories.ids_of_codes([f"S{number}"]))


def _first_job(crew: Crew, lon: float, lat: float) -> str:
    source = SYSTEM.source(utc_now())
    job = jobs.create(source, jobs.NewJob(kind="meter_change", lon=lon, lat=lat))
    change.assign(source, job, crew, planned_start=source.recorded_at, planned_order=1)
    return job.id


def _take_in(run: Running, token: str, calls: Sequence[surge.Call], took: Took, rate: float | None) -> None:
    """Send the calls over several connections, in their order, at ``rate`` a second or as fast as they are taken."""
    waiting = iter(enumerate(calls))
    lock = threading.Lock()
    began = time.monotonic()
    failed: list[BaseException] = []

    def caller() -> None:
        client = Client(run.service.url, token)
        try:
            while True:
                with lock:
                    number, call = next(waiting, (0, None))
                if call is None:
                    return
                if rate is not None:
                    _pause.wait(max(0.0, began + number / rate - time.monotonic()))
                took.add("ticket", client.ask("POST", "/v1/tickets", call.body)[1])
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=caller) for _ in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]


@contextmanager
def _syncing(run: Running, senders: Sequence[Sender], took: Took) -> Iterator[None]:
    """Every device pushes a remark and pulls, about once a second."""
    over = threading.Event()

    def phone(sender: Sender, late: float) -> None:
        client, seq, checkpoint = Client(run.service.url, sender.token), 0, ""
        _pause.wait(late)
        while not over.is_set():
            seq += 1
            took.add("push", client.ask("POST", "/sync/v1/push", _remark(sender, seq))[1])
            page, seconds = client.ask("GET", f"/sync/v1/pull?limit=500{checkpoint}")
            took.add("pull", seconds)
            checkpoint = f"&cp={quote(page['checkpoint'])}"
            over.wait(1.0)

    threads = [
        threading.Thread(target=phone, args=(sender, number / len(senders))) for number, sender in enumerate(senders)
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


def _remark(sender: Sender, seq: int) -> bytes:
    op = {
        "op_id": new_id(),
        "seq": seq,
        "kind": "note.add",
        "entity": "job",
        "entity_id": sender.jobs[0],
        "occurred_at": format_time(utc_now()),
        "schema_version": 1,
        "payload": {"text": f"remark {seq}"},
    }
    return json.dumps({"install_id": sender.install_id, "ops": [op]}).encode()


@contextmanager
def _dispatching(run: Running, token: str) -> Iterator[None]:
    """A dispatcher asks for a run, waits for it, and asks again five seconds later."""
    over = threading.Event()

    def dispatcher() -> None:
        client = Client(run.service.url, token)
        while not over.is_set():
            _dispatch_once(client)
            over.wait(5)

    thread = threading.Thread(target=dispatcher)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _dispatch_once(client: Client) -> None:
    asked, _ = client.ask("POST", "/v1/dispatch-runs", b"{}")
    while client.ask("GET", f"/v1/dispatch-runs/{asked['id']}")[0]["state"] in ("queued", "running"):
        _pause.wait(0.2)


_SQL_CALLS = """
SELECT t.external_key, t.received_at, t.hazards::text <> '[]', coalesce(t.customer_id, t.caller_phone), t.incident_id,
       (SELECT min(a.assigned_at) FROM assignment a WHERE a.job_id = t.job_id)
FROM ticket t ORDER BY t.received_at
"""
_SQL_SENT = """
SELECT t.external_key FROM job j JOIN ticket t ON t.job_id = j.id WHERE j.kind = 'repair' AND j.crew_id IS NOT NULL
"""
_SQL_OUT = "SELECT count(*) FROM job WHERE kind = 'repair' AND status NOT IN ('cancelled', 'completed', 'closed')"
_SQL_SENT_JOBS = "SELECT count(*) FROM job WHERE kind = 'repair' AND crew_id IS NOT NULL"


def outcome(dsn: str, calls: Sequence[surge.Call]) -> dict[str, Any]:
    """What became of the calls and of the faults behind them."""
    fault_of = {f"call-{number}": call.fault for number, call in enumerate(calls)}
    with psycopg.connect(dsn) as connection:
        rows = connection.execute(_SQL_CALLS).fetchall()
        sent_for = {fault_of[key] for (key,) in connection.execute(_SQL_SENT)}
        (out,), (sent,) = connection.execute(_SQL_OUT).fetchone(), connection.execute(_SQL_SENT_JOBS).fetchone()  # type: ignore[misc]
    callers: dict[str, set[str]] = {}
    together: dict[str, set[str]] = {}
    first_call: dict[str, datetime] = {}
    sent_at: dict[str, datetime] = {}
    alarms: list[float | None] = []
    for key, received_at, hazard, who, incident, assigned_at in rows:
        fault = fault_of[key]
        together.setdefault(incident, set()).add(fault)
        callers.setdefault(fault, set()).add(who)
        first_call.setdefault(fault, received_at)
        if assigned_at is not None:
            sent_at[fault] = min(assigned_at, sent_at.get(fault, assigned_at))
        if hazard:
            alarms.append((assigned_at - received_at).total_seconds() if assigned_at else None)
    alarm_waits = [max(0.0, wait) for wait in alarms if wait is not None]
    waits = [(at - first_call[fault]).total_seconds() for fault, at in sent_at.items()]
    return {
        "taken": len(rows),
        "incidents": len(together),
        "mixed": sum(len(faults) > 1 for faults in together.values()),
        "faults": len(callers),
        "jobs_out": out,
        "jobs_sent": sent,
        "faults_sent_to": len(sent_for),
        "customers": sum(len(who) for who in callers.values()),
        "customers_sent_to": sum(len(callers[fault]) for fault in sent_for),
        "alarms": len(alarms),
        "alarms_sent_for": len(alarm_waits),
        "alarm_wait_s": report.percentile(alarm_waits or [0.0], 0.95),
        "fault_wait_s": report.median(waits or [0.0]),
    }


def rows(result: dict[str, Any]) -> list[tuple[str, ...]]:
    """The table: merged beside a job for every call."""
    both = (result["merged"], result["apart"])

    def line(what: str, show: Any) -> tuple[str, ...]:
        return (what, *(show(one) for one in both))

    def ms(phase: str, what: str) -> Any:
        return lambda one: f"{one[f'{phase}_{what}']['median']:.0f} / {one[f'{phase}_{what}']['95']:.0f}"

    return [
        line("calls taken in, of them lost", lambda one: f"{one['taken']:,}, {result['plan']['calls'] - one['taken']}"),
        line("as fast as they are taken, calls/s", lambda one: f"{one['per_s']:.0f}"),
        line("a call at 500 a minute, median / 95 %, ms", ms("paced", "ticket")),
        line("faults there are; incidents", lambda one: f"{one['faults']}; {one['incidents']:,}"),
        line("incidents with calls about two faults or more", lambda one: f"{one['mixed']}"),
        line("jobs to be done", lambda one: f"{one['jobs_out']:,}"),
        line("jobs that crews got", lambda one: f"{one['jobs_sent']:,}"),
        line("… to how many faults", lambda one: f"{one['faults_sent_to']}"),
        line("customers behind them, of all", lambda one: f"{one['customers_sent_to']:,} of {one['customers']:,}"),
        line("first call about a fault to a crew, median s", lambda one: f"{one['fault_wait_s']:.0f}"),
        line("calls with a hazard whose job has a crew", lambda one: f"{one['alarms_sent_for']} of {one['alarms']}"),
        line("… within, 95 % of them, s", lambda one: f"{one['alarm_wait_s']:.0f}"),
        line("processors used by the service, quiet", lambda one: f"{one['busy']['quiet']:.2f}"),
        line("… at 500 calls a minute", lambda one: f"{one['busy']['paced']:.2f}"),
        *(
            line(f"{what}, {phase}, median / 95 %, ms", ms(key, what))
            for what in ("push", "pull")
            for phase, key in (("quiet", "quiet"), ("500 calls a minute", "paced"), ("as fast as taken", "full"))
        ),
    ]


if __name__ == "__main__":
    main()
