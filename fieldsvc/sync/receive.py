"""Receive: what a device pushes is a committed inbox row before it is answered, and is never stored twice.

``accepted`` here means "kept, and nothing is missing to decide on it". What became of it is said later, in the device's
feed (see ``reconcile``). The caller opens the transaction and rings the workers after it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, cast

from sqlalchemy import Table, bindparam, delete, exists, insert, select, text, union_all, update

from fieldsvc.base.db import among, db, dumps
from fieldsvc.base.errors import FieldsvcError, Invalid
from fieldsvc.config import Settings
from fieldsvc.history.record import Source
from fieldsvc.people.models import Device
from fieldsvc.sync import attachments, hello, outcomes
from fieldsvc.sync.clocks import Clock, Seen, Told, estimates, suspect
from fieldsvc.sync.envelope import Push, Read, read
from fieldsvc.sync.models import HELD, InboxOperation, Install, OperationDependency
from fieldsvc.sync.receipts import Handed, digest

TERMINAL = frozenset(
    {"applied", "merged", "applied_conflict", "parked", "superseded", "rejected", "forced", "resolved"}
)
"""Outcomes that end an operation's way; ``parked`` ends it for the device, a dispatcher's decision may follow."""

WAITS = exists().where(OperationDependency.op_id == InboxOperation.op_id)
"""Whether an operation waits for another one."""


@dataclass(frozen=True)
class Sender:
    """The device a push came from."""

    device_id: str
    crew_id: str
    install_id: str


@dataclass(frozen=True)
class Received:
    """One result per operation, in order, the first sequence number still missing, and the installs to ring for."""

    results: list[dict[str, Any]]
    next_seq: int
    waiting: tuple[str, ...]


def push(sender: Sender, message: Push, clock: Clock, settings: Settings, source: Source) -> Received:
    """Store every operation of ``message`` that is new.

    :raises FieldsvcError: ``too-large`` for more than ``settings.push_ops`` operations.
    :raises Invalid: the push names another install than the token belongs to.
    """
    if len(message.ops) > settings.push_ops:
        raise FieldsvcError(
            "too-large",
            f"{len(message.ops)} operations; a push has at most {settings.push_ops}",
            limit=settings.push_ops,
        )
    if message.install_id != sender.install_id:
        raise Invalid.field("/install_id", "is not the install this token was given to")
    reads = [read(bytes(raw), settings.op_bytes) for raw in message.ops]
    install = _lock_install(sender)
    missing = install.next_seq
    known, standing, later = _look(sender.install_id, missing, {item.op_id for item in reads})
    fresh: dict[str, Read] = {}
    for item in reads:
        if item.op_id not in known:
            fresh.setdefault(item.op_id, item)
    reached = _reached(missing, later.keys() | {item.seq for item in fresh.values() if item.seq is not None})
    placed = _place(sender.install_id, reached, standing, list(fresh.values()))
    happened = _estimates(sender, clock, install, later, list(fresh.values()))
    _note_place(sender, install, reached, fresh, happened)
    stored = _insert(
        _shared(sender, clock),
        [_row(sender, item, clock, placed[item.op_id], happened.get(item.op_id)) for item in fresh.values()],
    )
    named = {op_id: item.op for op_id, item in fresh.items() if item.op and item.op.attachments and op_id in stored}
    if named:
        attachments.name(source, named)
    ended = [item for item in fresh.values() if item.op is None and item.op_id in stored]
    for item in ended:
        outcomes.tell(replace(source, op_id=item.op_id), _envelope_rejection(sender, item, clock.now))
    _note_dependencies({op_id: place for op_id, place in placed.items() if op_id in stored})
    released = set(release_dependants([item.op_id for item in ended])) if ended else set()
    statuses = {placed[op_id].status for op_id in stored}
    if standing or "held" in statuses:
        released.update(release([sender.install_id]))
    if "accepted" in statuses:
        released.add(sender.install_id)
    results = [_result(sender, item, known, fresh, placed, stored) for item in reads]
    if any(item.op and item.op.attachments for item in reads):
        results = attachments.with_missing(results)
    return Received(results, reached, tuple(sorted(released)))


# Statements of every push: made once, and on tables, which costs a third of asking for mapped attributes.
_operation = InboxOperation.__table__.c
_installs = cast(Table, Install.__table__)
_install = _installs.c
_waits_for = OperationDependency.__table__.c


def _look(
    install_id: str, missing: int, op_ids: set[str]
) -> tuple[dict[str, Any], list[_Standing], dict[int, datetime]]:
    """What is stored already: those of ``op_ids``, everything of the install that is held, and what came early: its
    sequence numbers with the times.
    """
    known: dict[str, Any] = {}
    standing: dict[str, _Standing] = {}
    later: dict[int, datetime] = {}
    for row in db.session.execute(_THERE, {"ids": op_ids, "install": install_id, "missing": missing}):
        if row.op_id in op_ids:
            known[row.op_id] = row
        if row.install_id == install_id:
            later[row.seq] = row.estimated_at
            if row.status == "held":
                standing[row.op_id] = _Standing(row.op_id, install_id, row.seq, row.entity_id, row.waits, missing)
    return known, list(standing.values()), later


_there = select(
    _operation.op_id,
    _operation.device_id,
    _operation.install_id,
    _operation.seq,
    _operation.entity_id,
    _operation.estimated_at,
    _operation.body_sha256,
    _operation.status,
    _operation.outcome,
    exists().where(_waits_for.op_id == _operation.op_id).label("waits"),
)
_of_install = _there.where(_operation.install_id == bindparam("install"))
_THERE = union_all(
    _there.where(among(_operation.op_id, "ids")),
    _of_install.where(_operation.seq >= bindparam("missing")),
    _of_install.where(HELD),
)


def _reached(missing: int, seqs: set[int]) -> int:
    """The first sequence number from ``missing`` on that is not among ``seqs``."""
    while missing in seqs:
        missing += 1
    return missing


def _lock_install(sender: Sender) -> Any:
    """The install's place in the order, and what is known of its device's clock; its row, made on its first push, is
    held until the transaction ends.
    """
    this = {"install": sender.install_id, "device": sender.device_id}
    found = db.session.execute(_LOCK, this).first()
    if found is None:
        db.session.execute(_FIRST, this)
        found = db.session.execute(_LOCK, this).one()
    return found


_device = Device.__table__.c
_LOCK = (
    select(
        _install.next_seq,
        _install.last_seq,
        _install.last_at,
        _device.clock_offset_ms,
        _device.last_seen_at,
        _device.clock_former_ms,
        _device.clock_former_at,
    )
    .select_from(_installs.join(Device.__table__, _device.id == bindparam("device")))
    .where(_install.install_id == bindparam("install"))
    .with_for_update(of=_installs)
)
_FIRST = text(
    "INSERT INTO install (install_id, device_id, next_seq) VALUES (:install, :device, 1) "
    "ON CONFLICT (install_id) DO NOTHING"
)


def _estimates(
    sender: Sender, clock: Clock, install: Any, later: Mapping[int, datetime], items: Sequence[Read]
) -> dict[str, datetime]:
    """When each readable operation really happened, by id (see ``clocks``)."""
    told = {
        item.op_id: Told(item.op.seq, item.claimed, item.op.mono_ms, item.op.boot_id)
        for item in items
        if item.op is not None and item.claimed is not None
    }
    others = {one.boot_id for one in told.values()} - {clock.boot_id, None}
    seen = Seen(
        _duration(install.clock_offset_ms),
        install.last_seen_at,
        _duration(install.clock_former_ms),
        install.clock_former_at,
        hello.boots(sender.device_id, [boot for boot in others if boot]) if others else {},
        install.last_seq,
        install.last_at,
        tuple(later.items()),
    )
    return dict(zip(told, estimates(clock, seen, list(told.values())), strict=True))


def _duration(milliseconds: int | None) -> timedelta | None:
    return None if milliseconds is None else timedelta(milliseconds=milliseconds)


def _note_place(
    sender: Sender, install: Any, reached: int, fresh: Mapping[str, Read], happened: Mapping[str, datetime]
) -> None:
    """Keep how far the install has come: what is stored without a gap, and the last of all with its time."""
    last_seq, last_at = install.last_seq, install.last_at
    for op_id, at in happened.items():
        seq = fresh[op_id].seq
        if seq is not None and seq > last_seq:
            last_seq, last_at = seq, at
    if (reached, last_seq) != (install.next_seq, install.last_seq):
        place = {"install": sender.install_id, "reached": reached, "last": last_seq, "at": last_at}
        db.session.execute(_REACHED, place)


_REACHED = (
    update(_installs)
    .where(_install.install_id == bindparam("install"))
    .values(next_seq=bindparam("reached"), last_seq=bindparam("last"), last_at=bindparam("at"))
)


def next_seq(install_id: str) -> int:
    """The first sequence number of an install that is not stored."""
    return db.session.scalar(select(Install.next_seq).where(Install.install_id == install_id)) or 1


@dataclass(frozen=True)
class Place:
    """Where a new operation stands: its status, why, and the operations it waits for."""

    status: str
    reason: str | None = None
    waits_for: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Standing:
    """An operation that is held, as far as its place in the order goes."""

    op_id: str
    install_id: str
    seq: int
    entity_id: str
    waits: bool
    next_seq: int


class _Order:
    """Walks one install's operations by ``seq``: what may be decided, and what is held.

    Held is what waits for another operation, what comes after a gap, and whatever the device did later to the same job
    or customer: that must not overtake what is held.
    """

    def __init__(self, next_seq: int) -> None:
        self.next_seq = next_seq
        self.held: set[str] = set()
        self._entities: set[str] = set()

    def may_go(self, op_id: str, seq: int, entity_id: str, waits: bool) -> bool:
        if waits or seq >= self.next_seq or entity_id in self._entities:
            self.held.add(op_id)
            self._entities.add(entity_id)
            return False
        return True


def _place(install_id: str, next_seq: int, standing: Sequence[_Standing], items: Sequence[Read]) -> dict[str, Place]:
    """Decide for new operations whether they are accepted, held or rejected."""
    placed = {item.op_id: Place("rejected", item.reason) for item in items if item.op is None}
    elsewhere, own = _dependencies(install_id, items)
    walk: list[_Step] = [(one.seq, one.op_id, one.entity_id, one) for one in standing]
    walk += [(item.op.seq, item.op_id, item.op.entity_id, item) for item in items if item.op]
    order = _Order(next_seq)
    named = {item.op_id: item.op.depends_on for item in items if item.op}
    for seq, op_id, entity_id, one in _in_order(walk, _waiting_for(standing) | named):
        if isinstance(one, _Standing):
            order.may_go(op_id, seq, entity_id, one.waits)
            continue
        waits_for = (*elsewhere.get(op_id, ()), *(dep for dep in own.get(op_id, ()) if dep in order.held))
        free = order.may_go(op_id, seq, entity_id, bool(waits_for))
        placed[op_id] = Place("accepted") if free else Place("held", "missing_predecessor", waits_for)
    return placed


_Step = tuple[int, str, str, Read | _Standing]
"""(seq, op id, entity id, the operation itself)"""


def _in_order(walk: Sequence[_Step], waiting_for: Mapping[str, Sequence[str]]) -> list[_Step]:
    """By number; but what an operation waits for comes before it, whatever its own number is. A library whose numbers
    are given here hands in what it has in any order: the later half of a day's work may come first.
    """
    steps = sorted(walk, key=lambda step: step[:2])
    if not any(waiting_for.values()):
        return steps
    by_id = {step[1]: step for step in steps}
    ordered: list[_Step] = []
    seen: set[str] = set()
    for step in steps:
        path = [] if step[1] in seen else [step[1]]
        while path:
            seen.add(path[-1])
            others = (other for other in waiting_for.get(path[-1], ()) if other in by_id and other not in seen)
            if other := next(others, None):
                path.append(other)
            else:
                ordered.append(by_id[path.pop()])
    return ordered


def _waiting_for(standing: Sequence[_Standing]) -> dict[str, list[str]]:
    """op id -> the operations it waits for."""
    found: dict[str, list[str]] = {}
    if waiting := [one.op_id for one in standing if one.waits]:
        columns = (OperationDependency.op_id, OperationDependency.depends_on)
        for row in db.session.execute(select(*columns).where(among(OperationDependency.op_id, waiting))):
            found.setdefault(row.op_id, []).append(row.depends_on)
    return found


def _standing(install_ids: Sequence[str]) -> list[_Standing]:
    """Everything of the installs that is held, in its order."""
    found = [_Standing(*row) for row in db.session.execute(_HELD_BY, {"installs": install_ids})]
    walk: list[_Step] = [(one.seq, one.op_id, one.entity_id, one) for one in found]
    ordered = {step[1]: place for place, step in enumerate(_in_order(walk, _waiting_for(found)))}
    return sorted(found, key=lambda one: (one.install_id, ordered[one.op_id]))


_HELD_BY = (
    select(
        _operation.op_id,
        _operation.install_id,
        _operation.seq,
        _operation.entity_id,
        exists().where(_waits_for.op_id == _operation.op_id),
        _install.next_seq,
    )
    .where(among(_operation.install_id, "installs"), HELD, _install.install_id == _operation.install_id)
    .order_by(_operation.install_id, _operation.seq, _operation.op_id)
)


def _dependencies(install_id: str, items: Sequence[Read]) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """What new operations depend on and is not terminal: op id -> operations still to come from anywhere, and op id ->
    earlier operations of the same install, which only matter while they are held.
    """
    wanted = {dep for item in items if item.op for dep in item.op.depends_on}
    if not wanted:
        return {}, {}
    here = {item.op_id: item for item in items}
    stored = {
        row.op_id: row
        for row in db.session.execute(
            select(InboxOperation.op_id, InboxOperation.install_id, InboxOperation.seq, InboxOperation.status).where(
                InboxOperation.op_id.in_(wanted)
            )
        )
    }
    elsewhere: dict[str, list[str]] = {}
    own: dict[str, list[str]] = {}
    for item in items:
        for dep in dict.fromkeys(item.op.depends_on) if item.op else ():
            row, beside = stored.get(dep), here.get(dep)
            if (row is not None and row.status in TERMINAL) or (beside is not None and beside.op is None):
                continue
            seq = beside.seq if beside else row.seq if row and row.install_id == install_id else None
            if seq is not None and item.op and seq < item.op.seq:
                own.setdefault(item.op_id, []).append(dep)
            else:
                elsewhere.setdefault(item.op_id, []).append(dep)
    return elsewhere, own


def _note_dependencies(placed: Mapping[str, Place]) -> None:
    rows = [
        {"op_id": op_id, "depends_on": dep} for op_id, place in placed.items() for dep in dict.fromkeys(place.waits_for)
    ]
    if rows:
        db.session.execute(insert(OperationDependency), rows)


def release(install_ids: Sequence[str]) -> list[str]:
    """Accept what is held but waits for nothing any more; answers the installs that have work now."""
    orders: dict[str, _Order] = {}
    free = []
    for one in _standing(install_ids):
        order = orders.setdefault(one.install_id, _Order(one.next_seq))
        if order.may_go(one.op_id, one.seq, one.entity_id, one.waits):
            free.append(one)
    if free:
        db.session.execute(
            update(InboxOperation)
            .where(InboxOperation.op_id.in_([one.op_id for one in free]), InboxOperation.status == "held")
            .values(status="accepted", reason=None)
            .execution_options(synchronize_session=False)
        )
    return sorted({one.install_id for one in free})


def release_dependants(op_ids: Sequence[str]) -> list[str]:
    """Operations that waited for ``op_ids``, which are terminal now, and for nothing else, are accepted.

    Answers the installs that have work now.
    """
    waiting = list(
        db.session.scalars(
            select(InboxOperation.install_id)
            .join(OperationDependency, OperationDependency.op_id == InboxOperation.op_id)
            .where(among(OperationDependency.depends_on, op_ids))
            .distinct()
        )
    )
    if not waiting:
        return []
    db.session.execute(delete(OperationDependency).where(OperationDependency.depends_on.in_(op_ids)))
    return release(waiting)


def _shared(sender: Sender, clock: Clock) -> dict[str, Any]:
    """What all rows of a push have in common."""
    return {
        "device_id": sender.device_id,
        "crew_id": sender.crew_id,
        "install_id": sender.install_id,
        "received_at": clock.now,
    }


def _row(sender: Sender, item: Read, clock: Clock, place: Place, happened: datetime | None) -> dict[str, Any]:
    op = item.op
    row = {
        "op_id": item.op_id,
        "seq": item.seq or 0,
        "kind": op.kind if op else "unreadable",
        "entity": op.entity if op else "",
        "entity_id": op.entity_id if op else "",
        "body": item.body,
        "body_sha256": item.sha256,
        "depends_on": op.depends_on or None if op else None,
        "occurred_at_device": op.occurred_at if op else None,
        "estimated_at": happened or clock.now,
        "clock_suspect": happened is not None and item.claimed is not None and suspect(item.claimed, happened),
        "status": place.status,
        "reason": place.reason,
        "attempts": 0,
        "decided_at": None,
        "outcome": None,
    }
    if op is None:
        row["decided_at"] = clock.now
        row["outcome"] = _envelope_rejection(sender, item, clock.now).doc
    return row


def _envelope_rejection(sender: Sender, item: Read, now: datetime) -> outcomes.Outcome:
    return outcomes.Outcome(
        op_id=item.op_id,
        device_id=sender.device_id,
        handed=Handed(sender.install_id, item.seq, item.raw_sha256 or digest(item.body)),
        kind="unreadable",
        entity="",
        entity_id="",
        outcome="rejected",
        reason=item.reason,
        errors=item.errors,
        decided_at=now,
    )


def _insert(shared: Mapping[str, Any], rows: list[dict[str, Any]]) -> set[str]:
    """Insert the rows; answers the ids that were new. A row that another device stored meanwhile is left alone."""
    if not rows:
        return set()
    if db.session.get_bind().dialect.name == "postgresql":
        bodies = [row.pop("body") for row in rows]
        values = {**shared, "bodies": bodies, "rows": dumps(rows)}
        return set(db.session.connection().exec_driver_sql(_INSERT_ALL, values).scalars().all())
    db.session.execute(insert(InboxOperation), [{**shared, **row} for row in rows])
    return {row["op_id"] for row in rows}


_COLUMNS = {
    "op_id": "text",
    "seq": "bigint",
    "kind": "text",
    "entity": "text",
    "entity_id": "text",
    "body_sha256": "text",
    "depends_on": "jsonb",
    "occurred_at_device": "text",
    "estimated_at": "timestamptz",
    "clock_suspect": "boolean",
    "status": "text",
    "reason": "text",
    "attempts": "integer",
    "decided_at": "timestamptz",
    "outcome": "jsonb",
}
_NAMES = ", ".join(_COLUMNS)
_TYPED = ", ".join(f"{name} {kind}" for name, kind in _COLUMNS.items())
# Two parameters carry all rows: the bodies as they came, in psycopg's binary form (%b), and all else as JSON. So it is
# one statement, and RETURNING says per row whether it was new.
_INSERT_ALL = (
    f"INSERT INTO operation (device_id, crew_id, install_id, received_at, body, {_NAMES}) "
    f"SELECT %(device_id)s, %(crew_id)s, %(install_id)s, %(received_at)s::timestamptz, body, {_NAMES} "
    f"FROM ROWS FROM (unnest(%(bodies)b::text[]), jsonb_to_recordset(%(rows)s::jsonb) AS ({_TYPED})) "
    f"AS r(body, {_NAMES}) "
    "ON CONFLICT (op_id) DO NOTHING RETURNING op_id"
)


def _result(
    sender: Sender,
    item: Read,
    known: dict[str, Any],
    fresh: dict[str, Read],
    placed: Mapping[str, Place],
    stored: set[str],
) -> dict[str, Any]:
    result: dict[str, Any] = {"op_id": item.op_id}
    row = known.get(item.op_id)
    if row is not None:
        if row.device_id != sender.device_id or row.body_sha256 != item.sha256:
            return result | {"status": "id_reuse"}
        return result | {"status": "duplicate", "outcome": row.outcome or {"op_id": item.op_id, "outcome": row.status}}
    first = fresh[item.op_id]
    if item.op_id not in stored or first.sha256 != item.sha256:
        return result | {"status": "id_reuse"}
    place = placed[item.op_id]
    if first is not item:
        return result | {"status": "duplicate", "outcome": {"op_id": item.op_id, "outcome": place.status}}
    result["status"] = place.status
    if place.reason is not None:
        result["reason"] = place.reason
    if item.errors:
        result["errors"] = list(item.errors)
    return result
