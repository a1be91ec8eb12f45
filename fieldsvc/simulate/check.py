"""Was anything lost, done twice, or told differently? Looked at from outside: the phones' files against the API alone.

Nothing here looks into the service's database. Each finding names the phone and the operation, job or customer.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import orjson

from fieldsvc.base import signing
from fieldsvc.simulate.app import FINAL, Broken, Later, Revoked, TokenDead
from fieldsvc.simulate.line import LineDown
from fieldsvc.simulate.phone import Phone
from fieldsvc.simulate.play import Played

Doc = dict[str, Any]
_READERS = 4
_CHANGED = ("applied", "merged")
_MAY_CHANGE = (*_CHANGED, "applied_conflict", "forced", "resolved")
_SEVERAL_TIMES = {"resolved": ("parked", "forced", "applied_conflict")}
"""Outcomes that may follow others: a person has decided what was open."""
_REMARKS = {"note.add": "text", "job.suspend": "note"}


@dataclass(frozen=True)
class Written:
    """One operation as it stands in its phone's file."""

    phone: Phone
    seq: int
    op_id: str
    body: str
    op: Doc
    status: str | None
    outcome: Doc | None
    told: tuple[str, ...]
    wiped: bool

    @property
    def name(self) -> str:
        return f"{self.phone.name} operation {self.seq} ({self.op['kind']}, {self.op_id})"


@dataclass
class Found:
    """Everything the API answers, and what the phones hold."""

    written: dict[str, Written] = field(default_factory=dict)
    inbox: dict[str, list[Doc]] = field(default_factory=lambda: defaultdict(list))
    asked: dict[str, Doc] = field(default_factory=dict)
    entries: list[Doc] = field(default_factory=list)
    jobs: dict[str, Doc] = field(default_factory=dict)
    customers: dict[str, Doc] = field(default_factory=dict)
    devices: dict[str, Phone] = field(default_factory=dict)
    by_op: dict[str, list[Doc]] = field(default_factory=lambda: defaultdict(list))


@dataclass(frozen=True)
class Check:
    """One thing that has to be true, in words with its count, and whatever speaks against it."""

    name: str
    text: str
    against: tuple[str, ...] = ()

    @property
    def good(self) -> bool:
        return not self.against


def read(played: Played, advance: Callable[[], None] = lambda: None) -> Found:
    """Ask for everything. ``advance`` is called once per phone."""
    found = Found()
    for phone in played.phones:
        for one in _written(phone):
            found.written[one.op_id] = one
    with ThreadPoolExecutor(_READERS, thread_name_prefix="reader") as pool:
        for phone, device, rows, asked in pool.map(lambda phone: _of_phone(played, phone), played.phones):
            found.devices[device] = phone
            for row in rows:
                found.inbox[row["op_id"]].append(row)
            found.asked |= asked
            advance()
    auditor = played.world.client("auditor")
    found.entries = sorted(auditor.items("/v1/history"), key=lambda entry: int(entry["seq"]))
    for entry in found.entries:
        if entry["op_id"]:
            found.by_op[entry["op_id"]].append(entry)
    found.jobs = {job["id"]: job for job in auditor.items("/v1/jobs")}
    for ident in sorted({e["entity_id"] for e in found.entries if e["entity"] == "customer"}):
        if any(e["op_id"] for e in found.entries if e["entity_id"] == ident and e["entity"] == "customer"):
            found.customers[ident] = auditor.get(f"/v1/customers/{ident}")
    return found


def _written(phone: Phone) -> Iterator[Written]:
    app = phone.app()
    try:
        told: dict[str, list[str]] = defaultdict(list)
        for op_id, outcome in app.db.execute("SELECT op_id, outcome FROM told ORDER BY n"):
            told[op_id].append(outcome)
        rows = app.db.execute("SELECT seq, op_id, body, status, outcome, wiped FROM outbox ORDER BY seq").fetchall()
        for seq, op_id, body, status, outcome, wiped in rows:
            end = orjson.loads(outcome) if outcome else None
            yield Written(phone, seq, op_id, body, orjson.loads(body), status, end, tuple(told[op_id]), bool(wiped))
    finally:
        app.close()


def _of_phone(played: Played, phone: Phone) -> tuple[Phone, str, list[Doc], dict[str, Doc]]:
    """What the office has of a phone, and what the phone is answered when it asks for its operations by id."""
    auditor = played.world.client("auditor")
    app = phone.app()
    try:
        app.patient()
        device = app.get("device_id") or ""
        rows = list(auditor.items("/v1/operations", device=device))
        op_ids = [row[0] for row in app.db.execute("SELECT op_id FROM outbox")]
        asked = {} if phone.gone else {one["op_id"]: one for one in app.ask(op_ids)}
        return phone, device, rows, asked
    finally:
        app.close()
        auditor.close()


def checks(played: Played, found: Found) -> Iterator[Check]:
    """Everything that has to be true."""
    yield Check("answers", "the service never answered what it must not", tuple(played.broken))
    yield from _ends(found)
    yield from _effects(found)
    yield from _chains(found)
    yield from _order(found)
    yield _receipts(played, found)
    yield from _evidence(played, found)
    yield _copies(played)


def _ends(found: Found) -> Iterator[Check]:
    """Every operation is in exactly one final outcome, the same for everybody."""
    lost: list[str] = []
    twice: list[str] = []
    open_: list[str] = []
    differing: list[str] = []
    unsent = 0
    for one in found.written.values():
        rows = found.inbox.get(one.op_id, [])
        if not rows:
            if one.wiped:
                unsent += 1
            else:
                lost.append(f"{one.name} is not on record")
            continue
        if len(rows) > 1:
            twice.append(f"{one.name} is on record {len(rows)} times")
        status = rows[0]["status"]
        if status not in FINAL and not (one.phone.gone and status == "held"):
            open_.append(f"{one.name} is {status}")
        differing += _differences(one, rows[0], found.asked.get(one.op_id))
    strange = [
        f"the office has {op_id} of {found.devices[rows[0]['device_id']].name}, which never wrote it"
        for op_id, rows in found.inbox.items()
        if op_id not in found.written
    ]
    ends = Counter(rows[0]["status"] for rows in found.inbox.values())
    count = len(found.written)
    gone = f" ({unsent} went with a lost phone before they were sent)" if unsent else ""
    yield Check("none lost", f"{count} operations written, {count - unsent - len(lost)} on record{gone}", tuple(lost))
    yield Check("none twice", "each of them is on record once, and nothing else is", tuple(twice + strange))
    held = f", {ends['held']} held for ever for a lost phone" if ends["held"] else ""
    told = ", ".join(f"{number} {name}" for name, number in ends.most_common() if name in FINAL)
    yield Check("decided", f"every one has an end: {told}{held}", tuple(open_))
    yield Check("one story", "phone, feed, ops and office tell the same end of each", tuple(differing))


def _differences(one: Written, row: Doc, asked: Doc | None) -> Iterator[str]:
    """Whether everybody is told the same, and nobody was ever told something else."""
    if one.phone.gone:
        return
    if one.outcome is None:
        yield f"{one.name} is {row['status']}, and its phone was never told"
        return
    if asked is None or asked["status"] != row["status"]:
        yield f"{one.name} is {row['status']} for the office, and {asked and asked['status']} for who asks"
    elif asked["outcome"] != row["outcome"] or one.outcome != row["outcome"]:
        yield f"{one.name}: the outcome's document is not the same in feed, ops and office"
    if one.outcome["outcome"] != row["status"]:
        yield f"{one.name} is {row['status']}, and its phone was told {one.outcome['outcome']}"
    for before, after in zip(one.told, one.told[1:], strict=False):
        if before != after and before not in _SEVERAL_TIMES.get(after, ()):
            yield f"{one.name}: its phone was told {before}, then {after}"
    if row["occurred_at_device"] not in (None, one.op["occurred_at"]):
        yield f"{one.name}: the device's own time was changed to {row['occurred_at_device']}"


def _effects(found: Found) -> Iterator[Check]:
    """What was applied is in the history once; what was not has changed nothing."""
    missing: list[str] = []
    again: list[str] = []
    silent: list[str] = []
    for op_id, rows in found.inbox.items():
        status, kind = rows[0]["status"], rows[0]["kind"]
        name = found.written[op_id].name if op_id in found.written else op_id
        entries = found.by_op.get(op_id, [])
        changes = [entry for entry in entries if entry["entity"] in ("job", "customer") and entry["action"] == kind]
        made = Counter(entry["actor"]["kind"] for entry in changes)
        dismissed = status == "resolved" and rows[0]["outcome"].get("resolution") == "dismiss"
        if not entries and status in FINAL:
            silent.append(f"{name} is {status}, and the history does not know it")
        if status in _CHANGED and not made and kind not in ("customer.update", "job.update"):
            missing.append(f"{name} is {status}, and the history has no {kind} of it")
        # what was applied with a conflict is applied once more by a person who decides for the device
        if max(made.values(), default=0) > 1 or (made and status not in _MAY_CHANGE) or (dismissed and made["staff"]):
            again.append(f"{name} is {status}, and changed its record {made.total()} times")
    yield Check("history", f"{len(found.entries)} entries: nothing applied is missing", tuple(missing + silent))
    yield Check("once", "no operation changed a record twice, or without being applied", tuple(again))
    yield _remarks(found)


def _remarks(found: Found) -> Check:
    """Every remark a crew made stands on its job once, if it was applied, else not at all."""
    wrong = []
    there = {ident: Counter(map(str, job["notes"])) for ident, job in found.jobs.items()}
    count = 0
    for one in found.written.values():
        payload, rows = one.op.get("payload"), found.inbox.get(one.op_id)
        name = _REMARKS.get(one.op["kind"])
        if not name or not rows or not isinstance(payload, dict) or not isinstance(payload.get(name), str):
            continue
        wanted = rows[0]["status"] in (*_CHANGED, "forced")
        on_job = there.get(one.op["entity_id"], Counter())[payload[name]]
        count += on_job
        if on_job != wanted and not (rows[0]["status"] == "resolved" and on_job <= 1):
            wrong.append(f"{one.name} is {rows[0]['status']}, and its remark stands {on_job} times on the job")
    return Check("remarks", f"{count} remarks of crews on the jobs, each once", tuple(wrong))


def _chains(found: Found) -> Iterator[Check]:
    """Every change of a job and of a customer joins the one before it, and every revision has its entry."""
    for entity, records in (("job", found.jobs), ("customer", found.customers)):
        gaps: list[str] = []
        chains: dict[str, list[Doc]] = defaultdict(list)
        for entry in found.entries:
            if entry["entity"] == entity:
                chains[entry["entity_id"]].append(entry)
        for ident, record in records.items():
            chain = chains.get(ident, [])
            name = f"{entity} {record.get('number')} ({ident})"
            if len(chain) != record["rev"]:
                gaps.append(f"{name} is at revision {record['rev']}, and has {len(chain)} entries")
            gaps += [f"{name}: {fault}" for fault in _joins(chain, record)]
        count = sum(len(chains[ident]) for ident in records)
        yield Check(f"{entity} chains", f"{len(records)} {entity}s, {count} changes without a gap", tuple(gaps))


def _joins(chain: list[Doc], record: Doc) -> Iterator[str]:
    known: Doc = {}
    for entry in chain:
        for name, value in (entry["before"] or {}).items():
            if name in known and known[name] != value:
                yield f"entry {entry['seq']} {entry['action']} says {name} was {value!r}, it was {known[name]!r}"
        after = entry["after"] or {}
        known |= {name: value for name, value in after.items() if name in (entry["before"] or after)}
    for name, value in known.items():
        if name in record and name in _COMPARED and record[name] != value:
            yield f"{name} is {record[name]!r}, and the last entry about it says {value!r}"


_COMPARED = (
    "status crew_id assignment_rev title access_note contact_phone notes tags priority result phone name".split()
)


def _order(found: Found) -> Iterator[Check]:
    """What one phone did to one record was applied in the order it was done."""
    wrong = []
    last: dict[tuple[str, str], Written] = {}
    seen: set[str] = set()
    for entry in found.entries:
        one = found.written.get(entry["op_id"] or "")
        if one is None or entry["entity"] not in ("job", "customer") or entry["action"] != one.op["kind"]:
            continue
        rows = found.inbox.get(one.op_id)
        if not rows or rows[0]["status"] not in _CHANGED or one.op_id in seen:
            continue
        seen.add(one.op_id)
        key = (one.phone.name, entry["entity_id"])
        before = last.get(key)
        if before is not None and before.seq > one.seq:
            wrong.append(f"{one.name} was applied after operation {before.seq}")
        last[key] = one
    yield Check("order", f"{len(seen)} operations applied in the order of the work", tuple(wrong))


def _receipts(played: Played, found: Found) -> Check:
    """Every outcome carries a receipt that the service has signed, over the very bytes the phone has sent."""
    wrong = []
    keys = played.world.client("auditor").get("/sync/v1/keys")["keys"]
    count = 0
    for one in found.written.values():
        if one.outcome is None or one.phone.gone:
            continue
        try:
            claims = signing.verify(str(one.outcome.get("receipt")), keys)
        except signing.BadReceipt as fault:
            wrong.append(f"{one.name}: {fault}")
            continue
        count += 1
        said = {"op_id": one.op_id, "body_sha256": hashlib.sha256(one.body.encode()).hexdigest()}
        said |= {name: one.outcome[name] for name in ("outcome", "reason", "resolution", "decided_at")}
        wrong += [f"{one.name}: its receipt says another {name}" for name in said if claims.get(name) != said[name]]
    return Check("receipts", f"{count} outcomes vouched for by signature", tuple(wrong))


def _evidence(played: Played, found: Found) -> Iterator[Check]:
    """Every photo that counts is verified, and what the office is given is what the phone has taken."""
    auditor = played.world.client("auditor")
    lost: list[str] = []
    jobs: list[str] = []
    count = size = 0
    named: dict[str, list[tuple[Written, Doc]]] = defaultdict(list)
    for one in found.written.values():
        if one.op_id in found.inbox and found.inbox[one.op_id][0]["status"] not in ("rejected", "superseded"):
            for photo in one.op.get("attachments", ()):
                named[one.op["entity_id"]].append((one, photo))
    for job_id, wanted in named.items():
        there = {(row["op_id"], row["attachment_id"]): row for row in auditor.items(f"/v1/jobs/{job_id}/attachments")}
        for one, photo in wanted:
            row = there.get((one.op_id, photo["id"]))
            if row is None or (row["state"] != "verified" and not one.phone.gone):
                lost.append(f"{one.name}: its photo {photo['id']} is {row['state'] if row else 'unknown'}")
            elif row["state"] == "verified":
                content, _ = auditor.raw("GET", f"/v1/attachments/{row['id']}/content")
                count, size = count + 1, size + len(content)
                if hashlib.sha256(content).hexdigest() != photo["sha256"]:
                    lost.append(f"{one.name}: its photo {photo['id']} is another one for the office")
        state = (found.jobs[job_id]["evidence"] or {}).get("state") if job_id in found.jobs else None
        if state not in (None, "none", "complete") and not any(one.phone.gone for one, _ in wanted):
            jobs.append(f"job {found.jobs[job_id]['number']}: its evidence is {state}")
    yield Check("photos", f"{count} photos, {size / 1e6:.1f} MB, verified and the same byte for byte", tuple(lost))
    yield Check("evidence", f"{len(named)} jobs with photos have their evidence complete", tuple(jobs))


def _copies(played: Played) -> Check:
    """Every phone holds what the service says it should, and what a new phone would be given."""
    with ThreadPoolExecutor(_READERS, thread_name_prefix="reader") as pool:
        said = list(pool.map(_copy, [phone for phone in played.phones if not phone.gone]))
    rows = sum(count for count, _ in said)
    against = tuple(fault for _, faults in said for fault in faults)
    return Check(
        "copies", f"{len(said)} phones equal the service: {rows} documents, by manifest and by snapshot", against
    )


def _copy(phone: Phone) -> tuple[int, list[str]]:
    app = phone.app()
    app.patient()
    try:
        app.pull(500)
        faults = []
        answer = app.manifest()
        if not answer["ok"]:
            for scope, told in answer["scopes"].items():
                here = len(app.scopes()[scope])
                faults.append(f"{phone.name}: its {scope} holds {here} rows, the service says {told['count']}")
        mine = {(e, i): (r, orjson.loads(d)) for e, i, r, d in app.db.execute(
            "SELECT entity, id, rev, doc FROM copy WHERE NOT hidden")}  # fmt: skip
        fresh = app.anew()
        for key in sorted(mine.keys() | fresh.keys()):
            if mine.get(key) != fresh.get(key):
                faults.append(f"{phone.name}: {key[0]} {key[1]} is not what a snapshot gives")
        return len(mine), faults
    except (LineDown, Later, Revoked, TokenDead, Broken) as error:
        return 0, [f"{phone.name}: {type(error).__name__} {error} when its copy was compared"]
    finally:
        app.close()
