"""Clocks of phones: wrong, set back, put right, restarted. The order stays, and what is known of the time is used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask import Flask

from fieldsvc.base.clock import format_time, utc_now
from fieldsvc.base.db import transaction
from fieldsvc.sync import hello
from fieldsvc.sync.clocks import Clock
from tests.field import Field, Op, Phone, done, repaired

HOUR = timedelta(hours=1)
NEAR = timedelta(seconds=30)
"""How near an estimate comes to the truth in these tests, whatever the machine is busy with."""


@pytest.fixture
def field(app: Flask, drain: Callable[[], None]) -> Field:
    return Field(app, drain)


@dataclass
class Watch:
    """A phone with its clock: ``ahead`` is how far it is wrong, ``boot`` its present boot, None: it tells of none."""

    phone: Phone
    job: str
    ahead: timedelta = timedelta(0)
    boot: str | None = None

    def note(self, text: str, ago: timedelta) -> tuple[Op, datetime]:
        """A note made ``ago``, by the clock as it is now; and when that truly was."""
        true = utc_now() - ago
        op = self.phone.op("note.add", self.job, {"text": text}, **self._mono(true))
        return op | {"occurred_at": format_time(true + self.ahead)}, true

    def _mono(self, true: datetime) -> dict[str, Any]:
        if self.boot is None:
            return {}
        began = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=len(self.boot))
        return {"boot_id": self.boot, "mono_ms": int((true - began) / timedelta(milliseconds=1))}

    def around(self) -> dict[str, Any]:
        """What a push or a hello says of the clock at this moment."""
        now = utc_now()
        return {"device_time": format_time(now + self.ahead), **self._mono(now)}

    def hello(self, ago: timedelta = timedelta(0), **more: Any) -> None:
        """Say hello; one that was ``ago`` is noted as the view would have noted it then."""
        if not ago:
            done(self.phone.client.post("/sync/v1/hello", json=self.around() | more))
            return
        true = utc_now() - ago
        mono = self._mono(true)
        with self.phone.field.app.app_context(), transaction():
            clock = Clock(true, -self.ahead, mono.get("mono_ms"), mono.get("boot_id"))
            hello.note(self.phone.id, clock, None, None)

    def push(self, *made: tuple[Op, datetime]) -> list[Op]:
        ops = [op for op, _ in made]
        assert set(self.phone.push(*ops, **self.around())) == {"accepted"}
        self.phone.field.drain()
        self.phone.pull()
        assert {self.phone.outcome(op) for op in ops} <= {"applied", "merged"}
        return ops


def watch(field: Field, **members: Any) -> Watch:
    phone = field.phone()
    return Watch(phone, field.job("repair", phone.crew_id), **members)


def known(field: Field, op: Op) -> dict[str, Any]:
    """The operation as the inbox has it."""
    items = field.get(f"/v1/operations?entity_id={op['entity_id']}")["items"]
    return next(item for item in items if item["op_id"] == op["op_id"])


def estimated(field: Field, op: Op) -> datetime:
    return datetime.fromisoformat(known(field, op)["estimated_at"])


def check(field: Field, made: list[tuple[Op, datetime]], suspect: list[bool]) -> None:
    """Every estimate is the truth, every wrong clock is marked, and history and record have the order of ``made``."""
    for (op, true), marked in zip(made, suspect, strict=True):
        assert abs(estimated(field, op) - true) < NEAR, op["payload"]
        assert known(field, op)["clock_suspect"] is marked, op["payload"]
    job = made[0][0]["entity_id"]
    texts = [op["payload"]["text"] for op, _ in made]
    assert field.get(f"/v1/jobs/{job}")["notes"] == texts
    entries = [entry for entry in field.history(job=job) if entry["action"] == "note.add"]
    assert [entry["op_id"] for entry in entries] == [op["op_id"] for op, _ in made]
    for entry, (op, _) in zip(entries, made, strict=True):
        times = entry["times"]
        assert times["device"] == op["occurred_at"], "word for word"
        assert times["estimated"] <= times["recorded"]


@pytest.mark.parametrize("ahead", [2 * HOUR, -2 * HOUR])
@pytest.mark.parametrize("boot", [None, "b"])
def test_a_clock_two_hours_off_is_taken_into_account(field: Field, ahead: timedelta, boot: str | None) -> None:
    phone = watch(field, ahead=ahead, boot=boot)
    made = [phone.note(text, ago) for text, ago in (("a", 3 * HOUR), ("b", HOUR), ("c", HOUR / 2))]
    phone.push(*made)
    check(field, made, [True] * 3)


@pytest.mark.parametrize("off", [timedelta(seconds=119), timedelta(seconds=121)])
def test_a_clock_is_suspect_from_two_minutes_on(field: Field, off: timedelta) -> None:
    phone = watch(field, ahead=off)
    made = phone.note("a", HOUR)
    phone.push(made)
    assert known(field, made[0])["clock_suspect"] is (off > timedelta(minutes=2))


def test_a_clock_set_back_in_the_middle_of_a_shift_changes_no_order(field: Field) -> None:
    phone = watch(field)
    phone.hello(ago=4 * HOUR)
    made = [phone.note("1", 3 * HOUR), phone.note("2", 2.5 * HOUR)]
    phone.ahead = -2 * HOUR
    made += [phone.note("3", 2 * HOUR), phone.note("4", HOUR)]
    assert made[2][0]["occurred_at"] < made[1][0]["occurred_at"]
    phone.hello()
    phone.push(*made)
    at = [estimated(field, op) for op, _ in made]
    assert at == sorted(at)
    check(field, made, [False, False, True, True])


def test_a_clock_set_back_between_two_pushes_changes_no_order(field: Field) -> None:
    phone = watch(field)
    before = phone.note("1", 3 * HOUR)
    phone.push(before)
    phone.ahead = -2 * HOUR
    after = [phone.note("2", 2 * HOUR), phone.note("3", HOUR)]
    phone.push(*after)
    check(field, [before, *after], [False, True, True])


def test_the_same_holds_when_a_worker_gets_all_of_it_at_once_and_the_wrong_way_round(field: Field) -> None:
    phone = watch(field)
    phone.hello(ago=4 * HOUR)
    first = phone.note("1", 3 * HOUR)
    phone.ahead = -2 * HOUR
    second = phone.note("2", 2 * HOUR)
    assert phone.phone.push(second[0], **phone.around()) == ["held"]
    phone.push(first)
    assert phone.phone.outcome(second[0]) == "merged" or phone.phone.outcome(second[0]) == "applied"
    check(field, [first, second], [False, True])


def test_a_clock_put_right_by_the_network_before_the_push(field: Field) -> None:
    phone = watch(field, ahead=-2 * HOUR)
    phone.hello(ago=2 * HOUR)
    with_time = phone.note("1", HOUR)
    phone.ahead = timedelta(0)
    right = phone.note("2", timedelta(minutes=10))
    phone.hello()
    phone.push(with_time, right)
    check(field, [with_time, right], [True, False])


@pytest.mark.parametrize("ahead", [2 * HOUR, -2 * HOUR])
def test_within_one_boot_the_monotonic_clock_tells_the_truth(field: Field, ahead: timedelta) -> None:
    phone = watch(field, ahead=ahead, boot="b")
    wrong = phone.note("1", HOUR)
    phone.ahead = timedelta(0)
    right = phone.note("2", timedelta(minutes=10))
    phone.push(wrong, right)
    check(field, [wrong, right], [True, False])


def test_a_hello_in_the_boot_of_then_tells_the_truth_after_a_restart(field: Field) -> None:
    phone = watch(field, ahead=5 * HOUR, boot="b")
    before = phone.note("1", 3 * HOUR)
    phone.hello(ago=2 * HOUR)
    after = phone.note("2", HOUR)
    phone.boot, phone.ahead = "bb", timedelta(days=-9000)
    restarted = phone.note("3", HOUR / 2)
    phone.push(before, after, restarted)
    check(field, [before, after, restarted], [True, True, True])


@pytest.mark.parametrize("boots", [8, 9])
def test_the_latest_eight_boots_are_remembered(field: Field, boots: int) -> None:
    phone = watch(field, ahead=HOUR, boot="b")
    made = phone.note("1", 2 * HOUR)
    for number in range(1, boots + 1):
        phone.boot = "b" * number
        phone.hello(ago=HOUR)
    phone.boot, phone.ahead = None, timedelta(0)
    made[0]["occurred_at"] = "1970-01-01T00:00:00Z"
    phone.push(made)
    assert (abs(estimated(field, made[0]) - made[1]) < NEAR) is (boots == 8)


def test_a_restart_in_1970_is_put_between_its_neighbours(field: Field) -> None:
    phone = watch(field)
    first, dead, last = phone.note("1", 2 * HOUR), phone.note("2", HOUR), phone.note("3", HOUR / 2)
    dead[0]["occurred_at"] = "1970-01-01T00:00:03Z"
    phone.push(first, dead, last)
    assert estimated(field, dead[0]) == estimated(field, first[0])
    assert [known(field, op)["clock_suspect"] for op, _ in (first, dead, last)] == [False, True, False]
    assert abs(estimated(field, last[0]) - last[1]) < NEAR


@pytest.mark.parametrize("year", [3, 1970, 2199, 9999])
def test_a_phone_that_tells_nothing_of_its_clock_is_put_in_order_as_well(field: Field, year: int) -> None:
    phone = watch(field)
    first, mad, last = phone.note("1", 3 * HOUR), phone.note("2", 2 * HOUR), phone.note("3", HOUR)
    mad[0]["occurred_at"] = f"{year:04}-01-01T00:00:00+14:00"
    assert phone.phone.push(first[0]) == ["accepted"]
    assert phone.phone.push(mad[0], last[0]) == ["accepted", "accepted"]
    field.drain()
    at = [estimated(field, op) for op, _ in (first, mad, last)]
    assert at == sorted(at) and at[-1] <= utc_now()
    assert known(field, mad[0])["clock_suspect"] is True
    assert field.get(f"/v1/jobs/{phone.job}")["notes"] == ["1", "2", "3"]


def test_times_inside_an_operation_are_corrected_as_the_operation_is(field: Field) -> None:
    phone = watch(field, ahead=-2 * HOUR)
    phone.job = field.job("repair", phone.phone.crew_id, reported_at=format_time(utc_now() - 5 * HOUR))
    phone.hello(ago=2 * HOUR)
    op, true = phone.note("-", HOUR)
    restored = true - timedelta(minutes=20)
    op |= {"kind": "job.complete", "payload": repaired(restored_at=format_time(restored - 2 * HOUR))}
    phone.ahead = timedelta(0)  # put right before the push
    assert phone.phone.push(op, **phone.around()) == ["accepted"]
    field.drain()
    result = field.get(f"/v1/jobs/{phone.job}")["result"]
    assert abs(datetime.fromisoformat(result["restored_at"]) - restored) < NEAR
    assert abs(datetime.fromisoformat(result["completed_at"]) - true) < NEAR


def test_what_a_hello_does_not_say_stays_as_it_was(field: Field) -> None:
    phone = watch(field)
    phone.hello(pending=37)
    phone.hello()
    told = field.get(f"/v1/devices/{phone.phone.id}")
    assert told["pending"] == 37 and told["pending_at"] < told["last_seen_at"]
