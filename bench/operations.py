"""The work of a shift as a crew's device sends it: named operations of about 1.9 KB, ready to go over the wire."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from fieldsvc.base.clock import format_time, new_id

OP_BYTES = 1900
"""What one operation weighs: its envelope, its words, and the app's trail of positions since the one before."""
TAKEN_AT_ONCE = 20
COMPLETED_EVERY = 5

_WORDS = (
    "switch cabinet opened and earthed", "insulator on pole seven replaced", "meter box door does not close",
    "customer was told by telephone", "phase rotation checked", "terminal re-tightened to 12 Nm",
    "access through the yard, dog is friendly", "接户线已更换", "空气开关跳闸，已复位", "用户不在家，邻居代签",
)  # fmt: skip


@dataclass(frozen=True)
class Batch:
    """One push: the request's body, and the same operations as rows for COPY into a table like the inbox."""

    body: bytes
    rows: bytes
    ops: int


def shift(jobs: Sequence[str], seed: int) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Job id, operation kind and payload, for ever: accept some jobs, then go to one after the other.

    A job is accepted, arrived at, started, remarked on twice, and every fifth one completed.
    """
    chance = random.Random(seed)
    while True:
        for first in range(0, len(jobs), TAKEN_AT_ONCE):
            taken = jobs[first : first + TAKEN_AT_ONCE]
            for job in taken:
                yield job, "job.accept", {}
            for place, job in enumerate(taken):
                position = {"type": "Point", "coordinates": [111.5 + chance.random() / 9, 35.4 + chance.random() / 9]}
                yield job, "job.arrive", {"position": position | {"accuracy_m": 8.5}}
                yield job, "job.start", {"position": position}
                for _ in range(2):
                    yield job, "note.add", {"text": "; ".join(chance.sample(_WORDS, 4))}
                if place % COMPLETED_EVERY == 0:
                    yield job, "job.complete", _completion(chance)


def _completion(chance: random.Random) -> dict[str, Any]:
    return {
        "cause_major": "line",
        "cause_minor": "insulator",
        "fault_place": f"pole {chance.randint(1, 90)}",
        "ownership": "utility",
        "work_done": "; ".join(chance.sample(_WORDS, 5)),
        "parts": [{"code": "INS-10", "qty": "2"}, {"code": "CLAMP-35", "qty": "4"}],
        "photos": [new_id(), new_id()],
        "customer_signature": new_id(),
    }


def batches(
    sender: Any,
    jobs: Sequence[str],
    count: int,
    size: int,
    *,
    seed: int,
    first_seq: int = 1,
    op_bytes: int = OP_BYTES,
) -> list[Batch]:
    """``count`` pushes of ``size`` operations of one device, in order from ``first_seq``.

    :param sender: has ``install_id``, ``device_id`` and ``crew_id``.
    :param op_bytes: what each operation weighs, if it is not heavier without a trail.
    """
    work = shift(jobs, seed)
    chance = random.Random(seed)
    began = datetime.now(UTC) - timedelta(hours=6)
    made: list[Batch] = []
    for number in range(count):
        ops: list[bytes] = []
        rows: list[bytes] = []
        for place in range(size):
            seq = first_seq + number * size + place
            at = began + timedelta(seconds=seq)
            op = _operation(*next(work), seq, at, chance, op_bytes)
            ops.append(orjson.dumps(op))
            rows.append(_copy_row(sender, op, ops[-1], at))
        clock = format_time(datetime.now(UTC))
        head = orjson.dumps({"install_id": sender.install_id, "device_time": clock})[:-1]
        made.append(Batch(head + b',"ops":[' + b",".join(ops) + b"]}", b"".join(rows), size))
    return made


def _operation(
    job: str, kind: str, payload: dict[str, Any], seq: int, at: datetime, chance: random.Random, op_bytes: int
) -> dict[str, Any]:
    op = {
        "op_id": new_id(),
        "seq": seq,
        "kind": kind,
        "entity": "job",
        "entity_id": job,
        "base_rev": 2,
        "assignment_rev": 1,
        "occurred_at": format_time(at),
        "mono_ms": seq * 1000,
        "boot_id": "5f0c6a52-6c1f-4bd2-9a53-6d3f9a1f1c11",
        "schema_version": 1,
        "app_version": "3.2.0",
        "payload": payload,
    }
    trail: list[list[float]] = []
    missing = op_bytes - len(orjson.dumps(op | {"trail": []}))
    while missing > 0:
        trail.append([round(111.5 + chance.random() / 9, 6), round(35.4 + chance.random() / 9, 6), seq + len(trail)])
        missing -= len(orjson.dumps(trail[-1])) + 1
    return op | {"trail": trail}


COPY_COLUMNS = (
    "op_id device_id crew_id install_id seq kind entity entity_id body body_sha256 depends_on occurred_at_device "
    "estimated_at received_at clock_suspect status reason attempts retry_at decided_at outcome"
).split()


def _copy_row(sender: Any, op: dict[str, Any], body: bytes, at: datetime) -> bytes:
    """What receiving stores of the operation, as one line of COPY's text format."""
    sha256 = hashlib.sha256(body).hexdigest()
    when = at.isoformat()
    values = [
        op["op_id"], sender.device_id, sender.crew_id, sender.install_id, str(op["seq"]), op["kind"], "job",
        op["entity_id"], body.decode().replace("\\", "\\\\"), sha256, None, op["occurred_at"], when, when, "f",
        "accepted", None, "0", None, None, None,
    ]  # fmt: skip
    return ("\t".join("\\N" if value is None else value for value in values) + "\n").encode()
