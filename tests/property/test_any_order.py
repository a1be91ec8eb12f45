"""Whatever the line does to them (order, batches, repetition, workers in between), the same operations end the same,
also those of a phone whose clock jumps about and that is started again in between.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from itertools import product
from pathlib import Path
from typing import Any

import orjson
import pytest
from flask import Flask
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from sqlalchemy import select
from sqlalchemy.engine import make_url

from fieldsvc.base.clock import format_time, utc_now
from fieldsvc.base.db import Base, db, reading, transaction
from fieldsvc.base.plain import plain
from fieldsvc.config import Settings
from fieldsvc.history.models import HistoryEntry
from fieldsvc.sync import hello, reconcile
from fieldsvc.sync.clocks import Clock
from tests import services
from tests.field import Field, Phone, exchange, repaired

EXAMPLES = {"sqlite": 40, "postgresql": 8}
BOOTS, ACTS_PER_BOOT = 4, 6
MONO = 7_000_000
"""Where the monotonic clock of each boot stood in the morning."""
TOLD = "job customer usage_point meter meter_installation meter_reading seal defect service_record review operation "
TABLES = (TOLD + "commitment_clock assignment operation_dependency install").split()
SERVER_TIMES = frozenset("received_at decided_at created_at updated_at known_at retry_at recorded_at ended_at".split())
DATED = SERVER_TIMES | {"receipt"}
"""Members of an outcome that tell when the service decided."""
_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")

REPAIR = (
    "accept",
    "enroute",
    "arrive",
    "start",
    "suspend",
    "resume",
    "note",
    "edit",
    "tags",
    "defect",
    "complete",
    "bad",
)
CHANGE = ("start", "note", "exchange", "exchange", "wrong_meter", "complete", "return")
SHARED = ("accept", "arrive", "note", "edit", "complete")


@dataclass(frozen=True)
class Act:
    """One thing a phone did, on its own repair (0), its own meter change (1), the shared job (2), or a customer (3).

    ``wrong``: by how many minutes its clock was wrong then.
    """

    phone: int
    target: int
    what: str
    variant: int
    after: int | None
    wrong: int


@st.composite
def acts(draw: st.DrawFn) -> Act:
    target = draw(st.sampled_from((0, 0, 1, 1, 2, 3)))
    what = draw(st.sampled_from((REPAIR, CHANGE, SHARED, ("customer",))[target]))
    after = draw(st.none() | st.integers(0, 30))
    wrong = draw(st.sampled_from((0, 0, 0, 120, -120, 500_000)))
    return Act(draw(st.integers(0, 1)), target, what, draw(st.integers(0, 2)), after, wrong)


@st.composite
def deliveries(draw: st.DrawFn, count: int) -> list[int | None]:
    """Operations by their number, each at least once, in any order; None: the workers do what they can."""
    events: list[int | None] = [*range(count), *draw(st.lists(st.integers(0, count - 1), max_size=6))]
    return draw(st.permutations(events + [None] * draw(st.integers(0, 4))))


class World:
    """Two phones of one crew with two jobs each and one they share; the database can be put back to the morning."""

    def __init__(self, app: Flask, put_back: Callable[[], None]) -> None:
        self.app, self.field, self.put_back = app, Field(app), put_back
        crew = self.field.crew()
        self.phones = [self.field.phone(crew) for _ in range(2)]
        self.places = [[self.field.place() for _ in range(2)] for _ in self.phones]
        self.jobs = [
            [self.field.job("repair", crew, repair), self.field.job("meter_change", crew, change)]
            for repair, change in self.places
        ]
        self.shared = self.field.job("repair", crew, access_note="front", tags=["wet"])
        with app.app_context(), transaction():
            for phone, boot in product(self.phones, range(BOOTS)):
                begun = Clock(self.field.morning.replace(minute=0), timedelta(0), MONO, f"boot-{boot}")
                hello.note(phone.id, begun, None, None)
        self.known = set(_ID.findall(self._dump().decode()))

    def operations(self, did: list[Act]) -> list[tuple[Phone, dict[str, Any]]]:
        """The operations of ``did``, each on top of what is needed for a meaning that no delivery can change."""
        made: list[tuple[Phone, dict[str, Any]]] = []
        last_shared: str | None = None
        seqs = [0, 0]
        for number, act in enumerate(did):
            seqs[act.phone] += 1
            at = self.field.morning.replace(minute=number)
            op = {
                "op_id": f"op-{number}",
                "seq": seqs[act.phone],
                "entity": "job",
                "occurred_at": format_time(at + timedelta(minutes=act.wrong)),
                "boot_id": f"boot-{number // ACTS_PER_BOOT}",
                "mono_ms": MONO + number * 60_000,
                "base_rev": act.variant or None,
            }
            op |= self._content(act, number)
            depends_on = {f"op-{act.after}"} if act.after is not None and act.after < number else set()
            if act.target == 2:
                depends_on |= {last_shared} - {None}
                last_shared = op["op_id"]
            made.append((self.phones[act.phone], op | {"depends_on": sorted(depends_on)}))
        return made

    def _content(self, act: Act, number: int) -> dict[str, Any]:
        place = self.places[act.phone][act.target % 2]
        if act.what == "customer":
            values = {"phone": f"{number}"} if act.variant else {"notes": [f"n{number}"]}
            was = {"phone": "0359-1000"} if act.variant == 1 else {}
            return {
                "kind": "customer.update",
                "entity": "customer",
                "entity_id": place.customer_id,
                "was": was,
                "set": values,
            }
        job = self.shared if act.target == 2 else self.jobs[act.phone][act.target]
        new = f"NEW-{act.phone}-{number}"
        payloads: dict[str, tuple[str, Any]] = {
            "note": ("note.add", {"text": f"n{number}"}),
            "defect": ("defect.report", {"description": f"d{number}", "grade_scheme": "grid", "grade": "general"}),
            "complete": ("job.complete", {} if act.target == 1 else repaired(work_done=f"w{number}")),
            "bad": ("job.complete", {"cause_major": number}),
            "suspend": ("job.suspend", {"reason": ("material", "weather", "other")[act.variant]}),
            "return": ("job.return", {"reason": "no_access"}),
            "exchange": ("meter.exchange", exchange(place, new, fitted=(f"S-{act.phone}-{act.variant}",))),
            "wrong_meter": ("meter.exchange", exchange("SOMEBODY-ELSES", new)),
        }
        if act.what in ("edit", "tags"):
            edits: dict[str, Any] = {"edit": {"access_note": f"a{number}"}, "tags": {"tags": ["wet", f"t{number}"]}}
            was = ({}, {"access_note": "front", "tags": ["wet"]}, {"access_note": None, "tags": []})[act.variant]
            named = {name: value for name, value in was.items() if name in edits[act.what]}
            return {"kind": "job.update", "entity_id": job, "was": named, "set": edits[act.what]}
        kind, payload = payloads.get(act.what, (f"job.{act.what}", {"note": f"s{number}"} if act.variant else {}))
        return {"kind": kind, "entity_id": job, "payload": payload}

    def deliver(self, made: list[tuple[Phone, dict[str, Any]]], events: list[int | None]) -> dict[str, Any]:
        """From the morning on, push and work as ``events`` say, then to the end; what is on record then."""
        with self.app.app_context():
            db.session.remove()
            db.engine.dispose()
        self.put_back()
        batch: list[int] = []
        for event in [*events, None]:
            if batch and (event is None or made[event][0] is not made[batch[0]][0]):
                self._push([made[number] for number in batch])
                batch = []
            if event is None:
                self._work()
            else:
                batch.append(event)
        self.field.settle()
        return self._record()

    def _push(self, made: list[tuple[Phone, dict[str, Any]]]) -> None:
        statuses = made[0][0].push(*(op for _, op in made))
        assert set(statuses) <= {"accepted", "held", "duplicate"}

    def _work(self) -> None:
        with self.app.app_context():
            for phone in self.phones:
                reconcile.drain(phone.install_id, utc_now())
                db.session.remove()

    def _record(self) -> dict[str, Any]:
        """Everything on record, and the history of every job and customer in its order."""
        found: dict[str, Any] = orjson.loads(_ID.sub(self._told, self._dump().decode()))
        for rows in found["tables"].values():
            rows.sort(key=lambda row: orjson.dumps(row, option=orjson.OPT_SORT_KEYS))
        return found

    def _told(self, match: re.Match[str]) -> str:
        return match.group() if match.group() in self.known else "made meanwhile"

    def _dump(self) -> bytes:
        tables = {table.name: table for table in Base.metadata.sorted_tables if table.name in TABLES}
        with self.app.app_context(), reading():
            rows = {name: [self._plain(row) for row in db.session.execute(select(tables[name]))] for name in tables}
            history: dict[str, list[Any]] = {}
            query = select(HistoryEntry.__table__).where(HistoryEntry.actor_kind == "device").order_by(HistoryEntry.seq)
            for row in db.session.execute(query):
                entry = self._plain(row)
                del entry["seq"]
                history.setdefault(row.job_id or row.customer_id or row.entity_id, []).append(entry)
        return orjson.dumps({"tables": rows, "history": history}, option=orjson.OPT_NON_STR_KEYS)

    @staticmethod
    def _plain(row: Any) -> dict[str, Any]:
        values = {name: plain(value) for name, value in row._mapping.items() if name not in SERVER_TIMES}
        if isinstance(values.get("outcome"), dict):
            values["outcome"] = {name: value for name, value in values["outcome"].items() if name not in DATED}
        return values


@pytest.fixture
def world(app: Flask, database: str, settings: Settings, request: pytest.FixtureRequest) -> World:
    """The world; its morning is a copy of the database, made once."""

    def put_back() -> None:
        if database == "sqlite":
            for leftover in (f"{path}-wal", f"{path}-shm"):
                Path(leftover).unlink(missing_ok=True)
            shutil.copy(f"{path}.morning", path)
        else:
            server.drop(name)
            server.execute(f"CREATE DATABASE {name} TEMPLATE {morning} {server.quick_copy}")
            server.databases.append(name)

    world = World(app, put_back)
    with app.app_context():
        db.session.remove()
        db.engine.dispose()
    if database == "sqlite":
        path = make_url(settings.database_url).database
        shutil.copy(str(path), f"{path}.morning")
    else:
        server: services.Postgres = request.getfixturevalue("postgres")
        name = str(make_url(settings.database_url).database)
        morning = server.create(name)
    return world


def test_any_delivery_ends_in_the_same_record_and_the_same_history(world: World, database: str) -> None:
    @settings(max_examples=EXAMPLES[database], deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.data(), st.lists(acts(), min_size=3, max_size=20))
    def check(data: st.DataObject, did: list[Act]) -> None:
        made = world.operations(did)
        expected = world.deliver(made, list(range(len(made))))
        assert {row["status"] for row in expected["tables"]["operation"]} <= ENDS
        events = data.draw(deliveries(len(made)))
        note(f"delivered as {events}")
        got = world.deliver(made, events)
        for name in TABLES:
            assert got["tables"][name] == expected["tables"][name], name
        assert got["history"] == expected["history"]

    check()


ENDS = {"applied", "merged", "applied_conflict", "parked", "superseded", "rejected"}
