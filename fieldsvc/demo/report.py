"""What the shift left behind, read from the API alone, and whether every count is right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta

from fieldsvc.base.clock import parse_time
from fieldsvc.demo.cast import ACCESS_NOTE, CREW_PHONE, OFFICE_PHONE, SKEW, Cast
from fieldsvc.demo.client import Client
from fieldsvc.demo.device import TERMINAL, Device, Doc, Noted
from fieldsvc.demo.play import Seen

DONE = ("completed", "closed")
_APPLIED = ("applied", "merged")
_EXACT = timedelta(seconds=2)


@dataclass(frozen=True)
class Check:
    """One count, and whether it is right."""

    good: bool
    text: str


@dataclass
class Found:
    """What the API answers after the shift, by operation where it can be."""

    operations: dict[str, Doc] = field(default_factory=dict)
    entries: list[Doc] = field(default_factory=list)
    jobs: dict[str, Doc] = field(default_factory=dict)
    reviews: list[Doc] = field(default_factory=list)

    def made(self, op_id: str, kind: str) -> int:
        """How many times history says that the operation changed a job or a customer."""
        return self._made.get((op_id, kind), 0)

    def __post_init__(self) -> None:
        changes = [entry for entry in self.entries if entry["entity"] in ("job", "customer")]
        self._made = Counter((entry["op_id"], entry["action"]) for entry in changes)
        self.first = {(entry["op_id"], entry["action"]): entry["seq"] for entry in changes}


def read(auditor: Client, devices: Iterable[Device], advance: Callable[[], object]) -> Found:
    """Everything needed, by the auditor, who may read all and change nothing."""
    operations: dict[str, Doc] = {}
    entries: list[Doc] = []
    for device in devices:
        operations |= {row["op_id"]: row for row in auditor.items("/v1/operations", device=device.id)}
        entries += auditor.items("/v1/history", device=device.id)
        advance()
    jobs = {job["id"]: job for job in auditor.items("/v1/jobs")}
    reviews = [row for state in ("open", "resolved") for row in auditor.items("/v1/reviews", state=state)]
    return Found(operations, entries, jobs, reviews)


@dataclass(frozen=True)
class Totals:
    """``sent``: different operations that devices sent; ``lost`` and ``twice`` are to be 0."""

    sent: int
    ended: int
    lost: int
    twice: int
    duplicates: int
    outcomes: Counter[str]


def totals(cast: Cast, found: Found) -> Totals:
    """The proof in numbers: what devices sent against what the service has, operation by operation."""
    sent = [(device, noted) for device in cast.devices for noted in device.notebook]
    lost = twice = 0
    outcomes: Counter[str] = Counter()
    for _device, noted in sent:
        row = found.operations.get(noted.op["op_id"])
        status = row["status"] if row else "unknown"
        outcomes[status] += 1
        made = found.made(noted.op["op_id"], noted.op["kind"])
        lost += status not in TERMINAL or made < _at_least(status, row)
        twice += made > _at_most(status, row)
    ended = sum(count for status, count in outcomes.items() if status in TERMINAL)
    duplicates = sum(device.app.answers["duplicate"] for device in cast.devices)
    return Totals(len(sent), ended, lost, twice, duplicates, outcomes)


def _taken_over(row: Doc | None) -> bool:
    return bool(row and row["outcome"] and row["outcome"].get("resolution") == "apply")


def _at_least(status: str, row: Doc | None) -> int:
    return 1 if status in _APPLIED or (status == "resolved" and _taken_over(row)) else 0


def _at_most(status: str, row: Doc | None) -> int:
    return 1 if status == "applied_conflict" else _at_least(status, row)


def checks(cast: Cast, seen: Seen, found: Found, run: Doc) -> Iterator[Check]:
    """Every count the demo stands for."""
    sums = totals(cast, found)
    yield Check(
        sums.sent == sums.ended == len(found.operations),
        f"{sums.sent} operations sent = {sums.ended} terminal outcomes = {len(found.operations)} on record",
    )
    yield Check(sums.lost == 0, f"{sums.lost} lost: every applied one is in the history")
    yield Check(sums.twice == 0, f"{sums.twice} applied twice: no operation changed a record more than once")
    yield from _told(cast, found)
    yield from _notes(cast, found)
    yield from _transport(cast, seen, found)
    yield from _mishaps(cast, seen, found)
    yield from _agreement(cast, found, run)


def _told(cast: Cast, found: Found) -> Iterator[Check]:
    everything = [(device, noted) for device in cast.devices for noted in device.notebook]
    differing = [n for d, n in everything if d.end_of(n) != found.operations.get(n.op["op_id"], {}).get("status")]
    yield Check(not differing, f"every device was told what the office sees: {len(differing)} differ")
    odd = [f"{n.op['kind']} {d.end_of(n)}" for d, n in everything if d.end_of(n) not in n.expect]
    listed = f": {', '.join(sorted(set(odd))[:4])}" if odd else ""
    yield Check(not odd, f"{len(everything) - len(odd)} of {len(everything)} became what they should{listed}")


def _notes(cast: Cast, found: Found) -> Iterator[Check]:
    wanted = Counter(
        noted.op["payload"]["text" if noted.op["kind"] == "note.add" else "note"]
        for device in cast.devices
        for noted in device.notebook
        if noted.op["kind"] in ("note.add", "job.suspend") and device.end_of(noted) in _APPLIED
    )
    there = Counter(text for job in found.jobs.values() for text in job["notes"])
    once = wanted == there and set(there.values()) == {1}
    yield Check(once, f"{there.total()} notes of crews on the jobs, each exactly once")


def _transport(cast: Cast, seen: Seen, found: Found) -> Iterator[Check]:
    statuses = {result["status"] for result in seen.repeated}
    yield Check(
        statuses == {"duplicate"},
        f"pushed twice ({cast.twice.crew.code}): {len(seen.repeated)} answered duplicate with the stored outcome",
    )
    device = cast.unordered
    written = [(noted.op["op_id"], noted.op["kind"]) for noted in device.notebook]
    applied = [found.first[one] for one in written if one in found.first]
    yield Check(
        bool(seen.held) and set(seen.held) == {"held"} and applied == sorted(applied) and len(applied) > 1,
        f"out of order ({device.crew.code}): {len(seen.held)} held, then released and applied in the order of the work",
    )
    first = next(noted for noted in cast.reused.notebook if noted.op["op_id"] == seen.reuse["op_id"])
    yield Check(
        seen.reuse["status"] == "id_reuse" and cast.reused.end_of(first) in _APPLIED,
        f"id used again ({cast.reused.crew.code}): other text under a used id refused, the first kept",
    )


def _mishaps(cast: Cast, seen: Seen, found: Found) -> Iterator[Check]:
    yield from _clock(cast, found)
    lost = _noted(cast.reassigned, "job.complete", cast.lost_job)
    states = cast.reassigned.app.outcomes.get(lost.op["op_id"], [])
    yield Check(
        [entry["op_id"] for entry in seen.attention] == [lost.op["op_id"]] and states[:1] == ["parked"],
        f"reassigned ({cast.reassigned.crew.code}): the completion was parked and {cast.heir.code}, which has "
        f"{cast.lost_job['number']} now, was told",
    )
    completed = found.jobs[cast.lost_job["id"]]["status"] in DONE
    yield Check(
        states[-1:] == ["resolved"] and completed, "the dispatcher took it over and the device was told: resolved"
    )
    swap = found.operations[_noted(cast.wrong_meter, "meter.exchange", cast.swap_job).op["op_id"]]
    yield Check(
        (swap["status"], swap["reason"]) == ("parked", "wrong_meter"),
        f"wrong meter ({cast.wrong_meter.crew.code}): the exchange is kept and parked, {swap['reason']}",
    )
    yield from _conflict(cast, found)
    refused = [noted for noted in cast.incomplete.notebook if cast.incomplete.end_of(noted) == "rejected"]
    named = sum(bool(cast.incomplete.app.told[noted.op["op_id"]]["errors"]) for noted in refused)
    fixed = found.jobs[cast.incomplete_job["id"]]["status"] in DONE
    yield Check(
        len(refused) == named == 2 and fixed,
        f"malformed ({cast.incomplete.crew.code}): {len(refused)} rejected with field and reason, the others of their "
        "push taken, one sent again as it should be",
    )


def _noted(device: Device, kind: str, job: Doc) -> Noted:
    return next(n for n in device.notebook if n.op["kind"] == kind and n.op["entity_id"] == job["id"])


def _clock(cast: Cast, found: Found) -> Iterator[Check]:
    """The device's own words are kept, and the estimate is right all the same."""
    wrong = []
    for noted in cast.wrong_clock.notebook:
        row = found.operations[noted.op["op_id"]]
        said = parse_time(row["occurred_at_device"])
        off = abs(parse_time(row["estimated_at"]) - noted.at)
        wrong += [noted] if off > _EXACT or abs(said - noted.at - SKEW) > _EXACT or not row["clock_suspect"] else []
    yield Check(
        not wrong,
        f"wrong clock ({cast.wrong_clock.crew.code}): {len(cast.wrong_clock.notebook)} times kept as said "
        "(2 h 07 min fast), marked, and estimated to within 2 s",
    )


def _conflict(cast: Cast, found: Found) -> Iterator[Check]:
    edit = _noted(cast.conflict, "job.update", cast.contested_job)
    review = next((row for row in found.reviews if row["op_id"] == edit.op["op_id"]), None)
    sides = review["conflicts"][0] if review else {}
    both = {sides.get("device"), sides.get("record")} == {CREW_PHONE, OFFICE_PHONE}
    kept = found.jobs[cast.contested_job["id"]]["contact_phone"]
    yield Check(
        both and cast.conflict.end_of(edit) == "applied_conflict",
        f"conflict ({cast.conflict.crew.code}): office and crew edited one field; {sides.get('policy')} chose {kept}, "
        "a review keeps both",
    )
    merged = [n for n in cast.late[0].notebook if n.op["entity_id"] == cast.noted_job["id"]]
    ends = {cast.late[0].end_of(noted) for noted in merged}
    yield Check(
        ends == {"merged"} and found.jobs[cast.noted_job["id"]]["access_note"] == ACCESS_NOTE,
        f"merged ({cast.late[0].crew.code}): {len(merged)} operations on a job the office had edited, none lost",
    )


def _agreement(cast: Cast, found: Found, run: Doc) -> Iterator[Check]:
    """What the devices hold is what the office sees, revision for revision."""
    held = {job["id"]: job["rev"] for device in cast.devices for job in device.jobs()}
    there = {job["id"]: job["rev"] for job in found.jobs.values() if job["crew_id"]}
    differing = sum(held.get(ident) != there.get(ident) for ident in held.keys() | there.keys())
    yield Check(
        differing == 0,
        f"{len(there)} jobs on devices compared with the office, revision by revision: {differing} differ",
    )
    whole = sum(device.app.check() for device in cast.devices)
    yield Check(
        whole == len(cast.devices),
        f"{whole} of {len(cast.devices)} devices hold what the service holds, by count and checksum (manifest)",
    )
    done = sum(job["status"] in DONE for job in found.jobs.values())
    expected = {
        noted.op["entity_id"]
        for device in cast.devices
        for noted in device.notebook
        if noted.op["kind"] == "job.complete" and device.end_of(noted) in (*_APPLIED, "resolved")
    }
    yield Check(done == len(expected), f"{done} of {run['assigned']} assigned jobs completed, as the devices say")
