"""Many write at once while many read page by page: nobody misses a row, sees one twice, or waits for ever."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import orjson
import pytest
from flask import Flask
from sqlalchemy import Connection, func, select, text

from fieldsvc.app import create_app
from fieldsvc.base.clock import utc_now
from fieldsvc.base.db import db, reading, transaction
from fieldsvc.config import Settings
from fieldsvc.feed import publish, pull
from fieldsvc.feed.models import SyncCounter, SyncFeed
from fieldsvc.history.models import HistoryEntry
from fieldsvc.history.record import Source
from fieldsvc.records import customers
from fieldsvc.records.documents import customer_doc
from fieldsvc.records.models import Customer
from fieldsvc.sync import reconcile
from fieldsvc.sync.models import InboxOperation
from tests import services
from tests.field import Field, Phone, exchange
from tests.processes import wait_for

WRITERS, READERS, TRANSACTIONS = 8, 5, 30
SCOPES = [f"crew:{number:02}" for number in range(20)]
GROWING, MOVING, SHARED = SCOPES[:10], SCOPES[10:], SCOPES[-READERS:]
"""Scopes in which entities are only added, in which they change again and again, and that share customers."""


class Writer:
    """One thread's share of the writing; it counts what it has committed."""

    def __init__(self, app: Flask, number: int, customer_ids: list[str]) -> None:
        self.app, self.number, self.customer_ids = app, number, customer_ids
        self.chance = random.Random(number)
        self.given: Counter[str] = Counter()
        self.revs: dict[tuple[str, str], int] = {}

    def run(self) -> None:
        with self.app.app_context():
            for n in range(TRANSACTIONS):
                self._one(n)
                db.session.remove()

    def _one(self, n: int) -> None:
        given: Counter[str] = Counter()
        revs = dict(self.revs)
        with transaction():
            for scope in self.chance.sample(GROWING, 3):
                self._put(revs, scope, f"{self.number}-{n}")
                given[scope] += 1
            for scope in self.chance.sample(MOVING, 3):
                self._put(revs, scope, f"{self.number}-{self.chance.randrange(5)}")
                given[scope] += 1
            self._customer(self.chance.choice(self.customer_ids), f"{self.number}-{n}")
        self.given += given
        self.revs = revs

    def _customer(self, customer_id: str, phone: str) -> None:
        """One edits a customer for all who hold it, others hand it to a crew or take it away meanwhile."""
        act, scope = self.chance.choice(("edit", "hand out", "take away")), self.chance.choice(SHARED)
        if act == "edit":
            customer = customers.lock(customer_id)
            source = Source("system", utc_now(), id=f"writer {self.number}")
            customers.apply(source, customer, "customer.update", {"phone": phone})
            return
        customer = db.session.get_one(Customer, customer_id)
        if act == "hand out":
            publish.put([scope], "customer", customer_id, customer.rev, customer_doc(customer))
        else:
            publish.leave(scope, "customer", customer_id, customer.rev, "reassigned")

    def _put(self, revs: dict[tuple[str, str], int], scope: str, name: str) -> None:
        entity_id = f"{scope}/{name}"
        rev = revs[scope, entity_id] = revs.get((scope, entity_id), 0) + 1
        publish.put([scope], "thing", entity_id, rev, {"rev": rev, "writer": self.number})


def read(app: Flask, scopes: list[str], number: int, over: threading.Event) -> list[dict[str, Any]]:
    """Every change of ``scopes``, page by page, until the writers are done and nothing is left."""
    chance = random.Random(100 + number)
    changes: list[dict[str, Any]] = []
    checkpoint = None
    with app.app_context():
        while True:
            last = over.is_set()
            with reading():
                page = pull.page(scopes, checkpoint, chance.randint(1, 40), "secret")
            changes += orjson.loads(orjson.dumps(page.changes))
            checkpoint = page.checkpoint
            if last and not page.has_more:
                return changes


def test_readers_miss_nothing_that_eight_writers_write(app: Flask) -> None:
    field = Field(app)
    customer_ids = [field.place().customer_id for _ in range(2)]
    writers = [Writer(app, number, customer_ids) for number in range(WRITERS)]
    shares = [SCOPES[number::READERS] for number in range(READERS)]
    over = threading.Event()
    with ThreadPoolExecutor(WRITERS + READERS) as pool:
        seen = [pool.submit(read, app, share, number, over) for number, share in enumerate(shares)]
        try:
            for writing in [pool.submit(writer.run) for writer in writers]:
                writing.result()
        finally:
            over.set()
    expected = {key: rev for writer in writers for key, rev in writer.revs.items()}
    for share, reader in zip(shares, seen, strict=True):
        things = [change for change in reader.result() if change["entity"] == "thing"]
        newest = {change["id"]: change["doc"]["rev"] for change in things}
        assert newest == {entity_id: rev for (scope, entity_id), rev in expected.items() if scope in share}, "0 missed"
        twice = [key for key, times in Counter((c["id"], c["rev"]) for c in things).items() if times > 1]
        assert not twice, "each revision once"
    with app.app_context(), reading():
        final = dict(db.session.execute(select(Customer.id, Customer.rev)).all())
        held: dict[str, dict[str, int]] = {scope: {} for scope in SHARED}
        for scope, customer_id in db.session.execute(
            select(SyncFeed.scope, SyncFeed.entity_id).where(SyncFeed.entity == "customer", SyncFeed.op == "put")
        ):
            held[scope][customer_id] = final[customer_id]
        counters = dict(db.session.execute(select(SyncCounter.scope, SyncCounter.n)).all())
        for scope in GROWING:
            seqs = db.session.scalars(select(SyncFeed.seq).where(SyncFeed.scope == scope).order_by(SyncFeed.seq)).all()
            assert list(seqs) == list(range(1, counters[scope] + 1)), "0 gaps"
            assert counters[scope] == sum(writer.given[scope] for writer in writers)
        written = db.session.scalar(select(func.count()).where(HistoryEntry.action == "customer.update"))
        assert written == sum(final.values()) - len(final)
    for share, reader in zip(shares, seen, strict=True):
        copy: dict[str, int] = {}
        for change in reader.result():
            if change["entity"] == "customer":
                copy.pop(change["id"], None)
                if change["op"] == "put":
                    copy[change["id"]] = change["doc"]["rev"]
        (scope,) = set(share) & set(SHARED)
        assert copy == held[scope], "whoever holds a customer holds the newest"


def test_crews_that_work_at_the_same_places_at_once_all_end_with_the_same_copy(app: Flask) -> None:
    field = Field(app)
    places = [field.place() for _ in range(3)]
    crews = [field.crew() for _ in range(4)]
    phones = [field.phone(crew) for crew in crews for _ in range(2)]
    jobs = {crew: [field.job("repair", crew, place) for place in places] for crew in crews}
    for phone in phones:
        phone.pull()
        phone.push(*day(phone, jobs[phone.crew_id], [place.customer_id for place in places]))

    def work(phone: Phone) -> int:
        with app.app_context():
            try:
                return reconcile.drain(phone.install_id, utc_now()).decided
            finally:
                db.session.remove()

    def follow(phone: Phone) -> None:
        while not over.is_set():
            phone.pull(limit=7)

    over = threading.Event()
    with ThreadPoolExecutor(len(phones) * 2) as pool:
        following = [pool.submit(follow, phone) for phone in phones[:3]]
        try:
            decided = sum(pool.map(work, phones))
        finally:
            over.set()
        for reader in following:
            reader.result()
    with app.app_context(), reading():
        rows = db.session.execute(
            select(InboxOperation.status, InboxOperation.attempts, func.count()).group_by(
                InboxOperation.status, InboxOperation.attempts
            )
        ).all()
    assert {attempts for _, attempts, _ in rows} == {0}, "nobody had to try again"
    assert {status for status, _, _ in rows} <= {"applied", "merged", "applied_conflict", "superseded"}
    assert decided == sum(count for *_, count in rows) == sum(phone.seq for phone in phones)
    for phone in phones:
        phone.pull()
        fresh = field.phone(phone.crew_id)
        fresh.pull(limit=3)
        assert phone.copy == fresh.copy
        assert len(phone.told) == phone.seq


def day(phone: Phone, jobs: list[str], customer_ids: list[str]) -> list[dict[str, Any]]:
    """What a phone did offline: steps, remarks, defects, and edits that others make too."""
    ops = []
    chance = random.Random(phone.install_id)
    for job, customer_id in chance.sample(list(zip(jobs, customer_ids, strict=True)), len(jobs)):
        ops += [phone.op("job.accept", job), phone.op("job.arrive", job), phone.op("note.add", job, {"text": "n"})]
        report = {"description": f"by {phone.id}", "grade_scheme": "grid", "grade": "general"}
        ops += [phone.op("defect.report", job, report)]
        ops += [phone.edit(customer_id, {"phone": "0359-1000"}, {"phone": phone.id}, "customer")]
    return ops


@pytest.fixture
def on_postgresql(
    postgres: services.Postgres, templates: Callable[[str], str], redis_server: services.RedisServer
) -> Iterator[Flask]:
    """An application on PostgreSQL, whatever ``--db`` says: SQLite has one writer at a time."""
    name = postgres.create(templates("postgresql"))
    app = create_app(
        Settings(database_url=postgres.database_url(name), redis_url=redis_server.url, secret_key="a key for tests")
    )
    yield app
    with app.app_context():
        db.session.remove()
        db.engine.dispose()
    postgres.drop(name)


def test_a_change_reaches_a_crew_that_is_being_handed_the_record_at_that_moment(on_postgresql: Flask) -> None:
    """The edit looks for holders while the hand-out is neither committed nor undone."""
    app = on_postgresql
    customer_id = Field(app).place().customer_id

    def hand_out() -> None:
        with app.app_context(), transaction():
            customer = db.session.get_one(Customer, customer_id)
            publish.put(["crew:b"], "customer", customer_id, customer.rev, customer_doc(customer))

    def edit() -> None:
        with app.app_context(), transaction():
            source = Source("system", utc_now(), id="office")
            customers.apply(source, customers.lock(customer_id), "customer.update", {"phone": "new"})
            publish.put(["crew:a"], "note", "n", 1, {})

    def phones(checkpoint: str | None) -> tuple[list[str], str]:
        with reading():
            page = pull.page(["crew:b"], checkpoint, 500, "secret")
        changes = orjson.loads(orjson.dumps(page.changes))
        return [change["doc"]["phone"] for change in changes if change["op"] == "put"], page.checkpoint

    with app.app_context(), ThreadPoolExecutor(2) as pool:
        with transaction():
            publish.leave("crew:a", "note", "n", 0, "x")
            publish.leave("crew:b", "note", "n", 0, "x")
        _, checkpoint = phones(None)
        with db.engine.connect() as holds_a, db.engine.connect() as holds_b, db.engine.connect() as looks:

            def hold(connection: Connection, scope: str) -> None:
                connection.execute(select(SyncCounter).where(SyncCounter.scope == scope).with_for_update())

            def waiting(count: int) -> None:
                query = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
                wait_for(lambda: looks.execute(query).scalar_one() == count)

            hold(holds_a, "crew:a"), hold(holds_b, "crew:b")
            handing_out = pool.submit(hand_out)
            waiting(1)
            editing = pool.submit(edit)
            waiting(2)
            holds_b.rollback()
            handing_out.result(20)
            before, checkpoint = phones(checkpoint)
            holds_a.rollback()
            editing.result(20)
        after, _ = phones(checkpoint)
    assert (before, after) == (["0359-1000"], ["new"])


def test_what_changed_while_a_worker_waited_for_it_is_read_anew(on_postgresql: Flask) -> None:
    """Somebody holds a usage point and changes it and its meter; the worker that waits builds on what they left."""
    app = on_postgresql
    field = Field(app)
    place, phone = field.place(), field.phone()
    job = field.job("meter_change", phone.crew_id, place)
    phone.push(phone.op("meter.exchange", job, exchange(place, "NEW-1")))

    def drain() -> None:
        with app.app_context():
            reconcile.drain(phone.install_id, utc_now())
            db.session.remove()

    with app.app_context(), ThreadPoolExecutor(1) as pool, db.engine.connect() as office, db.engine.connect() as looks:
        for table, row_id in (("usage_point", place.usage_point_id), ("meter", place.meter_id)):
            office.execute(text(f"UPDATE {table} SET rev = rev + 10 WHERE id = :id"), {"id": row_id})
        working = pool.submit(drain)
        wait_for(lambda: looks.execute(text("SELECT count(*) FROM pg_locks WHERE NOT granted")).scalar_one() == 1)
        office.commit()
        working.result(20)
        revs = [
            looks.execute(text(f"SELECT rev FROM {table} WHERE id = :id"), {"id": row_id}).scalar_one()
            for table, row_id in (("usage_point", place.usage_point_id), ("meter", place.meter_id))
        ]
    assert revs == [12, 12], "each change is a revision of its own"
