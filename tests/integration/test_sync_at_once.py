"""The same thing from several threads at once: stored once, decided once, by whoever is first."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import pytest
from flask import Flask

from fieldsvc.base.clock import utc_now
from fieldsvc.base.db import db
from fieldsvc.sync import reconcile
from tests.factories import with_token
from tests.field import Field, Phone, done, exchange, repaired

T = TypeVar("T")


@pytest.fixture
def field(app: Flask) -> Field:
    return Field(app)


def at_once(acts: Sequence[Callable[[], T]]) -> list[T]:
    """All of ``acts`` begin at the same moment."""
    ready = threading.Barrier(len(acts))

    def begin(act: Callable[[], T]) -> T:
        ready.wait(20)
        return act()

    with ThreadPoolExecutor(len(acts)) as pool:
        return list(pool.map(begin, acts))


def post(phone: Phone, ops: list[Any]) -> Callable[[], list[str]]:
    token = phone.client.environ_base["HTTP_AUTHORIZATION"].removeprefix("Bearer ")

    def act() -> list[str]:
        client = with_token(phone.field.app, token)
        answer = client.post("/sync/v1/push", json={"install_id": phone.install_id, "ops": ops})
        return [result["status"] for result in done(answer)["results"]]

    return act


def drain(field: Field, install_id: str) -> Callable[[], int]:
    def act() -> int:
        with field.app.app_context():
            try:
                return reconcile.drain(install_id, utc_now()).decided
            finally:
                db.session.remove()

    return act


def test_batches_sent_at_once_are_stored_once_and_end_in_order(field: Field) -> None:
    phone = field.phone()
    job = field.job(crew=phone.crew_id)
    ops = [phone.op("note.add", job, {"text": str(number)}) for number in range(12)]
    batches = [ops[0:6], ops[3:9], ops[6:12], ops[6:12], ops[0:12]]
    answers = at_once([post(phone, batch) for batch in batches])
    new = Counter(
        op["op_id"]
        for batch, statuses in zip(batches, answers, strict=True)
        for op, status in zip(batch, statuses, strict=True)
        if status != "duplicate"
    )
    assert new == Counter(op["op_id"] for op in ops), "each is new to exactly one of the batches"
    decided = at_once([drain(field, phone.install_id) for _ in range(4)])
    assert sum(decided) == len(ops)
    assert field.get(f"/v1/jobs/{job}")["notes"] == [str(number) for number in range(12)]


def test_two_phones_with_the_same_id_at_once_one_gets_it(field: Field) -> None:
    one, two = field.phone(), field.phone()
    jobs = [field.job(crew=phone.crew_id) for phone in (one, two)]
    ops = [phone.op("job.accept", job, op_id="the-same") for phone, job in zip((one, two), jobs, strict=True)]
    statuses = at_once([post(one, [ops[0]]), post(two, [ops[1]])])
    assert sorted(statuses) == [["accepted"], ["id_reuse"]]


def test_two_crews_with_the_same_new_meter_at_once_one_is_believed(field: Field) -> None:
    phones, places = [field.phone() for _ in range(2)], [field.place() for _ in range(2)]
    ops = []
    for phone, place in zip(phones, places, strict=True):
        job = field.job("meter_change", phone.crew_id, place)
        ops.append(phone.op("meter.exchange", job, exchange(place, "NEW-1", fitted=("S-1",))))
        phone.push(ops[-1])
    at_once([drain(field, phone.install_id) for phone in phones])
    field.settle(utc_now().replace(year=2100))
    for phone in phones:
        phone.pull()
    outcomes = [(phone.outcome(op), phone.reason(op)) for phone, op in zip(phones, ops, strict=True)]
    assert sorted(outcomes, key=str) == [("applied", None), ("parked", "wrong_meter")]


def test_a_dispatcher_and_a_crew_at_once_leave_one_truth(field: Field) -> None:
    phone = field.phone()
    jobs = [field.job(crew=phone.crew_id) for _ in range(6)]
    phone.pull()
    for job in jobs:
        phone.push(phone.op("job.complete", job, repaired()))
    cancel = [
        lambda job=job: field.office.post(f"/v1/jobs/{job}/cancel", json={"reason": "x"}).status_code for job in jobs
    ]
    _, *answers = at_once([drain(field, phone.install_id), *cancel])
    phone.pull()
    for job, answer in zip(jobs, answers, strict=True):
        page = field.get(f"/v1/jobs/{job}")
        (told,) = [outcome for outcome in phone.told.values() if outcome["entity_id"] == job]
        if answer == 200:
            assert (page["status"], told["reason"]) == ("cancelled", "completed_after_cancel")
        else:
            assert (answer, page["status"], told["outcome"]) == (409, "completed", "applied")
