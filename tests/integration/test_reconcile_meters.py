"""Meter changes: one act on record, or parked with its arithmetic; never guessed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask

from tests.field import Field, Phone, Place, exchange


@pytest.fixture
def field(app: Flask, drain: Callable[[], None]) -> Field:
    return Field(app, drain)


def parked(phone: Phone, job: str, payload: dict[str, Any]) -> tuple[str | None, dict[str, Any]]:
    """Send an exchange that has to be parked; its reason and the review's explanation."""
    op = phone.op("meter.exchange", job, payload)
    assert phone.send(op) == ["parked"]
    (review,) = [one for one in phone.field.reviews(job=job) if one["op_id"] == op["op_id"]]
    assert review["reason"] == phone.reason(op) and review["proposed"]["payload"] == payload
    return review["reason"], review["explanation"]


def untouched(field: Field, place: Place) -> None:
    page = field.get(f"/v1/usage-points/{place.usage_point_id}")
    assert [one["asset_no"] for one in page["installations"]["items"]] == [place.asset_no]
    assert {one["reason"] for one in page["readings"]["items"]} <= {"billing", "import"}


def test_an_exchange_is_one_act_on_the_whole_record(field: Field) -> None:
    place = field.place({"total": "48000.0", "peak": "20000.0", "flat": "18000.0", "valley": "10000.0"}, ct_ratio=40)
    phone = field.phone()
    job = field.job("meter_change", phone.crew_id, place)
    phone.pull()
    final = {"total": "48213.6", "peak": "20100.0", "flat": "18100.0", "valley": "10013.6"}
    initial = {"total": "1.5", "peak": "0.5", "flat": "0.5", "valley": "0.5"}
    payload = exchange(
        place, "NEW-1", final, initial, removed=("S-OLD",), fitted=("S-1", "S-2"), ct_ratio=20, pt_ratio=10
    )
    act, end = phone.op("meter.exchange", job, payload), phone.op("job.complete", job, {"work_done": "changed"})
    assert phone.send(act, end) == ["applied", "applied"]

    page = field.get(f"/v1/customers/{place.customer_id}")
    new, old = page["installations"]["items"]
    assert (old["asset_no"], new["asset_no"]) == (place.asset_no, "NEW-1")
    assert old["removed_at"] == new["installed_at"] == act["occurred_at"] and new["removed_at"] is None
    assert (new["ct_ratio"], new["pt_ratio"]) == ("20", "10")
    assert old["removed_by_job_id"] == new["installed_by_job_id"] == job
    posted = {
        (one["asset_no"], one["reason"], one["register"]): one["value"]
        for one in page["readings"]["items"]
        if one["op_id"] == act["op_id"]
    }
    assert posted == {(place.asset_no, "final", name): value for name, value in final.items()} | {
        ("NEW-1", "initial", name): value for name, value in initial.items()
    }
    seals = {one["number"]: one for one in page["seals"]["items"]}
    assert {number for number, seal in seals.items() if seal["removed_at"] is None} == {"S-1", "S-2"}
    assert seals["S-1"]["fitted_by_job_id"] == job and seals["S-1"]["meter_id"] == new["meter_id"]
    energy = field.get(f"/v1/jobs/{job}")["result"]["exchange"]["energy"]
    assert energy["total"]["energy_kwh"] == "8544" and energy["total"]["multiplier"] == "40"
    assert energy["peak"]["difference"] == "100"
    assert field.get(f"/v1/meters/{old['meter_id']}")["state"] == "removed"
    assert field.get(f"/v1/meters/{new['meter_id']}")["usage_point_id"] == place.usage_point_id
    actions = [entry["action"] for entry in field.history(operation=act["op_id"])]
    assert actions.count("meter.exchanged") == 1 and actions.count("meter.exchange") == 1
    assert {"seal.removed", "seal.fitted", "meter.registered"} <= set(actions)
    assert field.get(f"/v1/jobs/{job}")["status"] == "completed"
    assert [meter["asset_no"] for meter in phone.docs("meter")] == ["NEW-1"]
    assert {seal["number"] for seal in phone.docs("seal")} == {"S-1", "S-2"}
    assert place.meter_id not in phone.holds("meter")


def test_another_meter_on_site_is_kept_and_parked_and_what_builds_on_it_too(field: Field) -> None:
    place, phone = field.place(), field.phone()
    job = field.job("meter_change", phone.crew_id, place)
    reason, told = parked(phone, job, exchange("SOMEBODY-ELSES", "NEW-1"))
    assert reason == "wrong_meter"
    assert told["on_site"]["asset_no"] == "SOMEBODY-ELSES" and told["on_site"]["known"] is False
    assert told["on_record"]["asset_no"] == place.asset_no
    assert told["energy_if_the_record_were_meant"] == {"total": "213.6"}
    end = phone.op("job.complete", job, {})
    assert phone.send(end) == ["parked"] and phone.reason(end) == "missing_predecessor"
    assert field.get(f"/v1/jobs/{job}")["status"] == "dispatched"
    untouched(field, place)
    attention = phone.copy["job", job]["attention"]
    assert [entry["reason"] for entry in attention] == ["wrong_meter", "missing_predecessor"]


def test_without_an_exchange_a_meter_change_is_not_complete(field: Field) -> None:
    place, phone = field.place(), field.phone()
    job = field.job("meter_change", phone.crew_id, place)
    end = phone.op("job.complete", job, {})
    assert phone.send(end) == ["rejected"] and phone.reason(end) == "state_not_allowed"
    assert phone.do("job.not_done", job, {"reason": "customer_refused"}) == "applied"
    assert field.status(job) == "not_done"


def test_a_register_that_fell_is_shown_with_both_readings_and_never_chosen(field: Field) -> None:
    place, phone = field.place({"total": "999990.0"}), field.phone()
    job = field.job("meter_change", phone.crew_id, place)
    reason, told = parked(phone, job, exchange(place, "NEW-1", "25.0"))
    assert reason == "register_fell"
    wrap, misread = told["problems"][0]["registers"]["total"]
    assert (wrap["kind"], wrap["arithmetic"], wrap["energy_kwh"]) == ("wrap", "(10^6 - 999990 + 25) x 1", "35")
    assert (misread["kind"], misread["arithmetic"], misread["fell_by"]) == ("misread", "999990 - 25", "999965")
    assert float(wrap["plausibility"]) > 0.9 and float(misread["plausibility"]) < 0.1
    untouched(field, place)


def test_parts_that_do_not_add_up_are_parked_with_the_sum(field: Field) -> None:
    registers = {"total": "1000.0", "peak": "400.0", "flat": "400.0", "valley": "200.0"}
    place, phone = field.place(registers), field.phone()
    job = field.job("meter_change", phone.crew_id, place)
    final = registers | {"total": "1100.0", "peak": "420.0"}
    reason, told = parked(phone, job, exchange(place, "NEW-1", final, dict.fromkeys(final, "0")))
    assert reason == "energy_mismatch"
    assert (told["sum"]["sum"], told["sum"]["total"], told["sum"]["difference"]) == ("20", "100", "-80")
    again, _ = parked(phone, job, exchange(place, "NEW-1", {"total": "1100.0"}, "0"))
    assert again == "energy_mismatch", "a register on record is missing"
    untouched(field, place)


def test_a_seal_is_used_once(field: Field) -> None:
    one, two, phone = field.place(), field.place(), field.phone()
    first, second = (field.job("meter_change", phone.crew_id, place) for place in (one, two))
    assert phone.do("meter.exchange", first, exchange(one, "NEW-1", fitted=("S-1",))) == "applied"
    reason, told = parked(phone, second, exchange(two, "NEW-2", fitted=("S-2", "S-1")))
    assert reason == "seal_in_use" and told["problems"][0]["seals"] == ["S-1"]
    untouched(field, two)


def test_two_crews_that_hang_up_the_same_meter_are_not_both_believed(field: Field) -> None:
    one, two = field.place(), field.place()
    here, there = field.phone(), field.phone()
    first, second = field.job("meter_change", here.crew_id, one), field.job("meter_change", there.crew_id, two)
    a, b = (
        here.op("meter.exchange", first, exchange(one, "NEW-1")),
        there.op("meter.exchange", second, exchange(two, "NEW-1")),
    )
    here.push(a), there.push(b)
    field.drain()
    here.pull(), there.pull()
    assert sorted([here.outcome(a), there.outcome(b)]) == ["applied", "parked"]
    loser, op, job = (there, b, second) if there.outcome(b) == "parked" else (here, a, first)
    assert loser.reason(op) == "wrong_meter"
    (review,) = field.reviews(job=job)
    winner = one if loser is there else two
    elsewhere = review["explanation"]["problems"][0]["new_meter_installed_elsewhere"]
    assert elsewhere == {"asset_no": "NEW-1", "usage_point_id": winner.usage_point_id}


def test_a_second_exchange_on_the_same_job_is_parked(field: Field) -> None:
    place, phone = field.place(), field.phone()
    job = field.job("meter_change", phone.crew_id, place)
    assert phone.do("meter.exchange", job, exchange(place, "NEW-1")) == "applied"
    reason, told = parked(phone, job, exchange("NEW-1", "NEW-2", "0.2"))
    assert reason == "duplicate_work" and told["recorded"]["new"]["asset_no"] == "NEW-1"


def test_an_exchange_that_cannot_be_read_is_rejected_and_the_record_stays(field: Field) -> None:
    place, phone = field.place(), field.phone()
    job = field.job("meter_change", phone.crew_id, place)
    good = exchange(place, "NEW-1")
    bad = [
        (good | {"new": good["new"] | {"registers": {"total": 0.0}}}, "/payload/new/registers/total"),
        (good | {"old": good["old"] | {"registers": {"total": "1e5"}}}, "/payload/old/registers/total"),
        (good | {"old": good["old"] | {"registers": {"total": "-1"}}}, "/payload/old/registers/total"),
        (good | {"old": good["old"] | {"registers": {"total": "1000000"}}}, "/payload/old/registers/total"),
        (good | {"new": good["new"] | {"asset_no": place.asset_no}}, "/payload/new/asset_no"),
        (good | {"new": good["new"] | {"digits": 10**12}}, "/payload/new/digits"),
        ({"new": good["new"]}, "/payload/old"),
        ([], "/payload"),
    ]
    ops = [phone.op("meter.exchange", job, payload) for payload, _ in bad]
    assert phone.send(*ops) == ["rejected"] * len(bad)
    for op, (_, at) in zip(ops, bad, strict=True):
        told = phone.told[op["op_id"]]
        assert (told["reason"], [error["field"] for error in told["errors"]]) == ("bad_payload", [at])
    untouched(field, place)
