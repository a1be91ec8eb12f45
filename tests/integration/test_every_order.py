"""A chain of four operations made offline ends the same in every order it can arrive in, and however often."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from itertools import permutations
from typing import Any

import pytest
from flask import Flask

from fieldsvc.base.clock import utc_now
from tests.field import Field, Op, Phone, done, exchange

ORDERS = list(permutations(range(4)))
_TIMES = frozenset(
    "recorded decided_at created_at updated_at received_at known_at assigned_at ended_at due_at started_at".split()
)
_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


@pytest.fixture
def field(app: Flask, drain: Callable[[], None]) -> Field:
    return Field(app, drain)


class Chain:
    """Accept, arrive, exchange, complete, each depending on the one before; another place and phone for each order."""

    def __init__(self, field: Field, number: int) -> None:
        self.field, self.phone, self.place = field, field.phone(), field.place()
        self.job = field.job("meter_change", self.phone.crew_id, self.place)
        self.phone.pull()
        new = f"NEW-{number:04}"
        contents = [
            ("job.accept", {"note": "on our way"}),
            ("job.arrive", {"position": {"type": "Point", "coordinates": [111.55, 35.45]}}),
            ("meter.exchange", exchange(self.place, new, removed=(f"OFF-{number:04}",), fitted=(f"ON-{number:04}",))),
            ("job.complete", {"work_done": "changed"}),
        ]
        self.ops: list[Op] = []
        for minute, (kind, payload) in enumerate(contents):
            base = {"base_rev": self.phone.rev("job", self.job), "assignment_rev": 1}
            after = {"depends_on": [self.ops[-1]["op_id"]]} if self.ops else {}
            at = (field.morning + timedelta(minutes=minute)).isoformat()
            self.ops.append(self.phone.op(kind, self.job, payload, occurred_at=at, **base, **after))

    def end(self) -> Any:
        """Everything there is to see of it, by the API, with names for the ids and without the service's own times."""
        self.phone.pull()
        customer = self.field.get(f"/v1/customers/{self.place.customer_id}")
        seen = [
            [self.phone.told[op["op_id"]] for op in self.ops],
            self.field.get(f"/v1/jobs/{self.job}"),
            {name: customer[name] for name in ("rev", "installations", "readings", "seals", "contacts")},
            self.field.history(job=self.job),
            sorted(item for item in self.phone.copy.items() if item[0][0] != "crew"),
            self.field.reviews(job=self.job),
        ]
        return self._named(seen)

    def _named(self, seen: Any) -> Any:
        names: dict[str, str] = {}

        def named(value: Any) -> Any:
            if isinstance(value, dict):
                kept = {name: inner for name, inner in value.items() if name not in _DROPPED}
                return {named(name): named(inner) for name, inner in kept.items()}
            if isinstance(value, (list, tuple)):
                return [named(inner) for inner in value]
            if isinstance(value, str):
                value = _ID.sub(lambda match: names.setdefault(match.group(), f"<{len(names)}>"), value)
                return re.sub(r"\b(C|U|OLD|NEW|ON|OFF|CREW|Crew|Mill|lane)([- ])\d+\b", r"\1\2#", value)
            return value

        for ident in (
            self.phone.id,
            self.phone.crew_id,
            self.phone.install_id,
            self.job,
            *(o["op_id"] for o in self.ops),
        ):
            names[ident] = f"<{len(names)}>"
        return named(seen)


_DROPPED = _TIMES | {"receipt", "seq", "number", "code"}


def test_one_push_each_and_each_twice(field: Field) -> None:
    expected: Any = None
    for number, order in enumerate(ORDERS):
        chain = Chain(field, number)
        for position, index in enumerate(order):
            assert chain.phone.push(chain.ops[index])[0] in ("accepted", "held")
            if number % 2:
                field.settle()
            again = chain.phone.push(*(chain.ops[earlier] for earlier in order[: position + 1]))
            assert set(again) == {"duplicate"}
        field.settle()
        ended = chain.end()
        assert [told["outcome"] for told in ended[0]] == ["applied"] * 4, order
        expected = expected or ended
        for one, other in zip(ended, expected, strict=True):
            assert one == other, order


def test_all_in_one_push(field: Field) -> None:
    expected: Any = None
    for number, order in enumerate(ORDERS):
        chain = Chain(field, number)
        assert chain.phone.push(*(chain.ops[index] for index in order)) == ["accepted"] * 4, order
        field.settle()
        ended = chain.end()
        expected = expected or ended
        for one, other in zip(ended, expected, strict=True):
            assert one == other, order
        assert chain.phone.push(*reversed(chain.ops)) == ["duplicate"] * 4
        assert field.settle() == 0


def held(phone: Phone, *ops: Op) -> list[str]:
    return [op["op_id"] for op in ops if phone.outcome(op) == "held"]


def test_third_first_second(field: Field) -> None:
    chain = Chain(field, 0)
    first, second, third, last = chain.ops
    phone = chain.phone
    answer = done(phone.post([third]))
    assert answer["results"] == [{"op_id": third["op_id"], "status": "held", "reason": "missing_predecessor"}]
    assert answer["next_seq"] == 1
    field.settle()
    assert done(phone.post([first]))["next_seq"] == 2
    field.settle()
    assert held(phone, first, second, third) == [third["op_id"]]
    assert field.status(chain.job) == "accepted"
    assert done(phone.post([second]))["next_seq"] == 4
    field.settle()
    phone.push(last)
    field.settle()
    phone.pull()
    assert [phone.outcome(op) for op in chain.ops] == ["applied"] * 4
    kinds = [entry["action"] for entry in field.history(job=chain.job) if entry["action"] in CHAIN]
    assert kinds == list(CHAIN)


CHAIN = ("job.accept", "job.arrive", "meter.exchange", "job.complete")


@pytest.mark.parametrize("way", list(permutations(range(3))))
def test_what_comes_after_the_rest_was_forced_is_decided_and_changes_nothing_twice(
    field: Field, way: tuple[int, ...]
) -> None:
    chain = Chain(field, 0)
    phone, (accept, arrive, act, end) = chain.phone, chain.ops
    phone.push(end)
    field.settle(utc_now() + timedelta(hours=25))
    phone.pull()
    assert (phone.outcome(end), phone.reason(end)) == ("parked", "missing_predecessor")
    for index in way:
        phone.push((accept, arrive, act)[index])
        field.settle()
    phone.pull()
    assert {phone.outcome(op) for op in (accept, arrive, act)} == {"applied"}
    (review,) = field.reviews(job=chain.job)
    assert field.resolve(review["id"], "apply").status_code == 200
    phone.pull()
    assert field.status(chain.job) == "completed" and phone.outcome(end) == "resolved"
    assert phone.copy["job", chain.job]["attention"] == []


def test_an_edit_forced_before_what_it_was_based_on_came_is_merged_with_it(field: Field) -> None:
    phone = field.phone()
    job = field.job("repair", phone.crew_id, access_note="front")
    phone.pull()
    note = phone.edit(job, {"access_note": "front"}, {"access_note": "back", "tags": ["wet"]})
    update = phone.edit(job, {"access_note": "back"}, {"access_note": "cellar"}, depends_on=[note["op_id"]])
    assert phone.push(update) == ["held"]
    field.settle(utc_now() + timedelta(hours=25))
    phone.pull()
    assert (phone.outcome(update), phone.reason(update)) == ("forced", "missing_predecessor")
    (review,) = field.reviews(job=job)
    assert review["severity"] == "hard" and [one["record"] for one in review["conflicts"]] == ["front"]
    assert field.get(f"/v1/jobs/{job}")["access_note"] == "cellar"
    assert phone.push(note) == ["accepted"]
    field.settle()
    phone.pull()
    page = field.get(f"/v1/jobs/{job}")
    assert page["tags"] == ["wet"], "what only the late one says counts"
    assert page["access_note"] == "cellar", "what was done later stays"
    assert phone.outcome(note) == "applied_conflict" and phone.told[note["op_id"]]["conflicts"][0]["chosen"] == "record"


def test_a_report_forced_before_the_crew_had_arrived_counts_and_the_arrival_after_it(field: Field) -> None:
    phone = field.phone()
    job = field.job("repair", phone.crew_id, reported_at=field.tick().isoformat())
    arrive = phone.op("job.arrive", job)
    seen = {"description": "bare wire", "grade_scheme": "grid", "grade": "critical"}
    report = phone.op("defect.report", job, seen, depends_on=[arrive["op_id"]])
    phone.push(report)
    field.settle(utc_now() + timedelta(hours=3.9))
    assert phone.outcome(report) == "held"
    field.settle(utc_now() + timedelta(hours=4.1))
    phone.pull()
    assert (phone.outcome(report), phone.reason(report)) == ("forced", "missing_predecessor")
    (review,) = field.reviews(job=job)
    assert (review["outcome"], review["severity"]) == ("forced", "hard")
    assert review["explanation"]["held"]["hours"] == 4 and review["explanation"]["held"]["source"]
    phone.push(arrive)
    field.settle()
    phone.pull()
    assert phone.outcome(arrive) == "applied" and field.status(job) == "on_site"
    arrival = next(clock for clock in field.get(f"/v1/jobs/{job}")["clocks"] if clock["kind"] == "arrival")
    assert arrival["reached_at"] == arrive["occurred_at"], "when it happened, not when it came"
