"""Side by side with Kinto on one PostgreSQL: operations accepted, the same again, and 16 devices that pull at once.

In each round first one, then the other: both meet the machine in the same mood, and the medians of the rounds' ratios
are what we claim. The same client code drives both over kept connections, with the same operations and the same
documents. fieldsvc runs as ``fieldsvc up`` starts it, but for its workers, which are away (they work in the row
"reconciled"); Kinto as ``bench.kinto`` says.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import orjson

from bench import kinto, load, operations, profile, pull, push, report, setting
from bench.kinto import Kinto
from bench.setting import Running, Sender

CLIENTS = 4
PER_PUSH = 100
OP_BYTES = 800
CHANGES = pull.CHANGES
PAGE = Path(__file__).with_name("README.md")

Work = list[tuple[load.Call, Sequence[bytes | None]]]


@dataclass(frozen=True)
class Plan:
    """Rounds, and in each: operations of a client for us and for Kinto (which needs so much longer), pulls a device."""

    rounds: int = 5
    ours: int = 4_000
    theirs: int = 500
    devices: int = 16
    pulls: int = 10
    reconciled: push.Plan = field(default_factory=lambda: push.Plan(reconcile_rounds=3))


QUICK = Plan(rounds=1, ours=200, theirs=25, devices=2, pulls=2, reconciled=push.QUICK)


@dataclass
class Tally:
    """What one side did in the rounds of one measurement."""

    per_s: list[float] = field(default_factory=list)
    cpu: list[dict[str, float]] = field(default_factory=list)
    took_ms: list[float] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    put_off: int = 0

    def run(self, work: Work, cpu: Callable[[], dict[str, float]]) -> None:
        """All clients of ``work`` at once."""
        before = cpu()
        done = load.together(load.http_client, work)
        counts = load.counted(done)
        things = sum(counts.values())
        self.per_s.append(things / load.span(done))
        self.cpu.append(load.cpu_each(before, cpu(), done, things))
        self.put_off += sum(one.put_off for one in done)
        self.took_ms += [seconds * 1000 for one in done for seconds in one.took]
        for name, number in counts.items():
            self.counts[name] = self.counts.get(name, 0) + number

    def told(self) -> dict[str, Any]:
        cpu = report.medians(self.cpu)
        return {
            "per_s": report.median(self.per_s),
            "rounds": self.per_s,
            "ms": report.median(self.took_ms),
            "ms_95": report.percentile(self.took_ms, 0.95),
            "counts": self.counts,
            "put_off": self.put_off,
            "cpu_ms": cpu,
            "server_cpu_ms": sum(used for name, used in cpu.items() if name != "clients"),
        }


@dataclass
class Tallies:
    """Both sides' of one measurement."""

    ours: Tally = field(default_factory=Tally)
    kinto: Tally = field(default_factory=Tally)

    def told(self) -> dict[str, Any]:
        told: dict[str, Any] = {"ours": self.ours.told()}
        if self.kinto.per_s:
            told["kinto"] = self.kinto.told()
            told["ratios"] = [ours / theirs for ours, theirs in zip(self.ours.per_s, self.kinto.per_s, strict=True)]
            told["ratio"] = report.median(told["ratios"])
            told["cpu_ratio"] = told["kinto"]["server_cpu_ms"] / told["ours"]["server_cpu_ms"]
        return told


def main() -> None:
    options = report.arguments(
        __doc__.splitlines()[0] if __doc__ else "",
        alone="without Kinto",
        readme="write the tables into bench/README.md as well",
    )
    plan = QUICK if options.quick else Plan()
    try:
        result = measure(plan, alone=options.alone)
    except kinto.Missing as error:
        print(f"no Kinto here, so we measure alone: {error}", file=sys.stderr)
        result = measure(plan, alone=True)
    if options.json:
        report.dump(result)
        return
    rows, notes = _rows(result), _notes(result)
    report.show("sync: beside Kinto on the same PostgreSQL", result["machine"], rows, notes, COLUMNS)
    tables = {what: profile.table(**found) for what, found in (result["profile"] | result["pulled"]["profile"]).items()}
    for what, table in tables.items():
        report.show(f"where the web processes' time goes: {what}", {}, table, [], profile.COLUMNS)
    if options.readme and tables:
        said = "\n".join(f"- {note}" for note in (report.told(result["machine"]), *notes))
        report.write_into(PAGE, "sync", f"{report.markdown(COLUMNS, rows)}\n\n{said}")
        lines = [f"**{what}**\n\n{report.markdown(profile.COLUMNS, table)}" for what, table in tables.items()]
        report.write_into(PAGE, "profile", "\n\n".join(lines))


def measure(plan: Plan, *, alone: bool) -> dict[str, Any]:
    """All measurements; ``alone`` leaves Kinto out, and with it the profile, whose tool comes with Kinto."""
    machine = setting.machine()
    found: dict[str, Any] = {}
    with setting.durable_postgres() as server:
        with setting.running(server, workers=0) as run, ExitStack() as stack:
            other = None if alone else stack.enter_context(kinto.running(server))
            senders = setting.seed(run.app, max(plan.devices, CLIENTS), 20)
            found = accepting(run, senders[:CLIENTS], other, plan)
            found["pulled"] = pulling(run, senders[: plan.devices], other, plan)
        with setting.running(server, workers=2) as run:
            found["reconciled"] = push.reconciling(run, plan.reconciled)
    return {"machine": machine | ({"kinto": other.version} if other else {})} | found


def accepting(run: Running, senders: Sequence[Sender], other: Kinto | None, plan: Plan) -> dict[str, Any]:
    """New operations and the same again, in turn for us and for Kinto. The first round only warms up."""
    loads = _loads(run, senders, other, plan)
    new, again = Tallies(), Tallies()
    for number in range(-1, plan.rounds):
        if number == 0:
            new, again = Tallies(), Tallies()
        ours, theirs = next(loads)
        for tallies in (new, again):
            tallies.ours.run(ours, run.cpu)
            if other:
                tallies.kinto.run(theirs, other.cpu)
    sent = plan.rounds * plan.ours * len(senders)
    assert (new.ours.counts, again.ours.counts) == ({"accepted": sent}, {"duplicate": sent}), (new, again)
    told = {"new": new.told(), "again": again.told()}
    told["again"]["to_new"] = _ratios(told["new"], told["again"])
    ours, theirs = _joined([next(loads) for _ in range(3)])
    return told | {"profile": _profiled("a new operation", told["new"], run, other, ours, theirs)}


def _loads(run: Running, senders: Sequence[Sender], other: Kinto | None, plan: Plan) -> Iterator[tuple[Work, Work]]:
    """Round after round of new operations: for us, and some of the same ones for Kinto."""
    clients = [f"pusher-{number}" for number in range(len(senders))]
    if other:
        for client in clients:
            other.welcome(client)
    for number in count():
        ours: Work = []
        theirs: Work = []
        for place, (sender, client) in enumerate(zip(senders, clients, strict=True)):
            batches = operations.batches(
                sender, sender.jobs, plan.ours // PER_PUSH, PER_PUSH,
                seed=number * 100 + place, first_seq=number * plan.ours + 1, op_bytes=OP_BYTES,
            )  # fmt: skip
            ours.append((run.push(sender), [batch.body for batch in batches]))
            if other:
                theirs.append((other.push(client), kinto.batches(client, _records(batches, plan.theirs))))
        yield ours, theirs


def _ratios(new: dict[str, Any], again: dict[str, Any]) -> dict[str, float]:
    """By side, the median over the rounds of how much faster the same again is."""
    sides = [side for side in ("ours", "kinto") if side in new]
    pairs = {side: zip(new[side]["rounds"], again[side]["rounds"], strict=True) for side in sides}
    return {side: report.median([later / first for first, later in pairs[side]]) for side in sides}


def _joined(loads: Sequence[tuple[Work, Work]]) -> tuple[Work, Work]:
    """Several rounds in one, for each side: each client asks for all of it."""

    def of_side(works: Sequence[Work]) -> Work:
        return [(parts[0][0], [body for _, bodies in parts for body in bodies]) for parts in zip(*works, strict=True)]

    return of_side([ours for ours, _ in loads]), of_side([theirs for _, theirs in loads])


def _records(batches: Sequence[operations.Batch], count: int) -> list[dict[str, Any]]:
    """The first operations of ``batches`` as records for Kinto: the operation's id is the record's."""
    ops = [op for batch in batches for op in orjson.loads(batch.body)["ops"]]
    return [{"id": op.pop("op_id"), **op} for op in ops[:count]]


def pulling(run: Running, senders: Sequence[Sender], other: Kinto | None, plan: Plan) -> dict[str, Any]:
    """Each device pulls the 500 changes of its own crew again and again; Kinto's clients the same documents."""
    ours: Work = []
    theirs: Work = []
    for place, sender in enumerate(senders):
        device = pull.Device(run, sender)
        behind = device.read_all()[0]
        pull.change(run, sender)
        changes = orjson.loads(device.pull(behind)[1])["changes"]
        device.connection.close()
        assert len(changes) == CHANGES, len(changes)
        ours.append((run.pull(sender, behind), [None] * plan.pulls))
        if other:
            client = f"puller-{place}"
            other.welcome(client)
            since = other.timestamp(client)
            theirs.append((other.pull(client, since), [None] * plan.pulls))
            _fill(other, client, changes)
    tallies = Tallies()
    for number in range(-1, plan.rounds):
        if number == 0:
            tallies = Tallies()
        tallies.ours.run(ours, run.cpu)
        if other:
            tallies.kinto.run(theirs, other.cpu)
    expected = plan.rounds * plan.pulls * plan.devices * CHANGES
    for tally in (tallies.ours, tallies.kinto) if other else (tallies.ours,):
        assert sum(tally.counts.values()) == expected, tally.counts
    told = tallies.told()
    ours, theirs = _joined([(ours, theirs)] * 5)
    return told | {"profile": _profiled("a change pulled", told, run, other, ours, theirs)}


def _fill(other: Kinto, client: str, changes: Sequence[dict[str, Any]]) -> None:
    """The documents of ``changes`` as records in the client's collection."""
    records = [
        {"id": change["id"], "entity": change["entity"], "rev": change["rev"], **change["doc"]} for change in changes
    ]
    call = other.push(client)
    done = load.together(load.http_client, [(call, kinto.batches(client, records))])
    assert load.counted(done) == {"201": len(records)}, done


def _profiled(
    what: str, told: dict[str, Any], run: Running, other: Kinto | None, ours: Work, theirs: Work
) -> dict[str, Any]:
    """The same once more under py-spy, first we, then Kinto."""
    if other is None:
        return {}
    sides = {"ours": ("fieldsvc", run.service.pid("web"), ours), "kinto": ("kinto", other.process.pid, theirs)}
    found = {}
    for side, (package, pid, work) in sides.items():
        seen = profile.sampled(kinto.programs(), pid, package, partial(load.together, load.http_client, work))
        found[f"{what}, {package}"] = {"found": seen, "each_ms": told[side]["cpu_ms"]["web"]}
    return found


COLUMNS = ("", "fieldsvc", "Kinto", "ratio", "aim")


def _rows(result: dict[str, Any]) -> list[tuple[str, ...]]:
    new, again, pulled = result["new"], result["again"], result["pulled"]
    return [
        _row("operations accepted a second", new, "per_s", "{:,.0f}", "ratio", "≥ 25"),
        _dropped(new),
        _row("CPU of the servers, ms an operation", new, "server_cpu_ms", "{:.3f}", "cpu_ratio", ""),
        _row("a push of 100, a batch of 25, median, ms", new, "ms", "{:.0f}", "", ""),
        _row("the same again, operations a second", again, "per_s", "{:,.0f}", "ratio", ""),
        _again(again["to_new"]),
        _row("16 devices pull at once, changes a second", pulled, "per_s", "{:,.0f}", "ratio", "≥ 2"),
        _row("a pull of 500 changes, median, ms", pulled, "ms", "{:.0f}", "", ""),
        _row("a pull of 500 changes, 95 %, ms", pulled, "ms_95", "{:.0f}", "", ""),
        _row("CPU of the servers, µs a change", pulled, "server_cpu_ms", "{:.1f}", "cpu_ratio", "", 1000),
        _reconciled(result),
    ]


def _row(
    what: str, found: dict[str, Any], key: str, form: str, ratio: str, aim: str, times: float = 1
) -> tuple[str, ...]:
    values = [form.format(found[side][key] * times) if side in found else "" for side in ("ours", "kinto")]
    return (what, *values, f"{found[ratio]:.1f}" if ratio in found else "", aim)


def _again(ratios: dict[str, float]) -> tuple[str, ...]:
    values = [f"{ratios[side]:.2f}" if side in ratios else "" for side in ("ours", "kinto")]
    return ("the same again : new", *values, "", "≥ 1.2")


def _dropped(new: dict[str, Any]) -> tuple[str, ...]:
    good = {"ours": "accepted", "kinto": "201"}
    counts = {side: new[side]["counts"] for side in good if side in new}
    values = [f"{sum(counts[side].values()) - counts[side][good[side]]:,}" if side in counts else "" for side in good]
    return ("not taken, in answers that say 200", *values, "", "0")


def _reconciled(result: dict[str, Any]) -> tuple[str, ...]:
    ours, theirs = result["reconciled"]["per_s"], result["new"].get("kinto", {}).get("per_s")
    ratio = [f"{theirs:,.0f}", f"{ours / theirs:.1f}"] if theirs else ["", ""]
    return ("reconciled into records end to end (Kinto: stored)", f"{ours:,.0f}", *ratio, "")


def _notes(result: dict[str, Any]) -> list[str]:
    notes = []
    for name, what in (("new", "accepted"), ("again", "the same again"), ("pulled", "pulls")):
        found = result[name]
        if "ratios" in found:
            notes.append(f"rounds, {what}: {' '.join(f'{ratio:.1f}' for ratio in found['ratios'])}")
        for side in ("ours", "kinto"):
            if side in found:
                scale, unit = (1000, "µs") if name == "pulled" else (1, "ms")
                used = ", ".join(f"{part} {value * scale:.3g}" for part, value in found[side]["cpu_ms"].items())
                counts = ", ".join(f"{number:,} {word}" for word, number in found[side]["counts"].items())
                notes.append(
                    f"{what}, {side}: CPU {unit} each: {used}; {counts}; put off {found[side]['put_off']} times"
                )
    return notes


if __name__ == "__main__":
    main()
