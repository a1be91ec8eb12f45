"""Reviews: what the rules could not decide is decided by a person, once, within the rules, and its device is told."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from flask import Flask

from fieldsvc.base.clock import format_time, new_id
from tests.factories import make_staff, make_territories
from tests.field import Field, Phone, done, exchange, problem, repaired


@pytest.fixture
def field(app: Flask, drain: Callable[[], None]) -> Field:
    return Field(app, drain)


def parked(phone: Phone, kind: str, job: str, payload: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Send what has to be parked; the operation and its review."""
    op = phone.op(kind, job, payload)
    assert phone.send(op) == ["parked"]
    return op, next(review for review in phone.field.reviews(job=job) if review["op_id"] == op["op_id"])


def on_cancelled(field: Field) -> tuple[Phone, str, dict[str, Any], dict[str, Any]]:
    """Work on a cancelled job: the phone, the job, the operation, the review."""
    phone = field.phone()
    job = field.job("repair", phone.crew_id)
    phone.pull()
    field.cancel(job)
    return phone, job, *parked(phone, "job.complete", job, repaired())


def test_reviews_are_listed_read_and_decided_within_ones_territories(field: Field) -> None:
    ids = make_territories(field.app)
    _, job, op, review = on_cancelled(field)
    assert review["territory_id"] == ids["A"] and review["state"] == "open" and review["severity"] == "hard"
    here = make_staff(field.app, "dispatcher", [ids["A"]])
    elsewhere = make_staff(field.app, "dispatcher", [ids["B"]])
    auditor = make_staff(field.app, "auditor")
    address = f"/v1/reviews/{review['id']}"
    answer = here.get(address)
    assert answer.json.items() >= review.items() and answer.headers["ETag"] == '"1"'
    for query in ("", "?reason=completed_after_cancel", f"?job={job}", f"?crew={review['crew_id']}", "?severity=hard"):
        assert [one["id"] for one in here.get(f"/v1/reviews{query}").json["items"]] == [review["id"]], query
        assert elsewhere.get(f"/v1/reviews{query}").json["items"] == []
    for query in ("?reason=other", "?state=resolved", "?severity=soft", f"?job={new_id()}"):
        assert here.get(f"/v1/reviews{query}").json["items"] == [], query
    sent = here.get(f"/v1/operations?entity_id={job}").json["items"]
    assert [(one["op_id"], one["status"], one["reason"]) for one in sent] == [
        (op["op_id"], "parked", "completed_after_cancel")
    ]
    assert elsewhere.get(f"/v1/operations?entity_id={job}").json["items"] == []

    body = {"choice": "dismiss", "note": "it was a test"}
    assert problem(elsewhere.get(address)) == (404, "not-found")
    assert problem(elsewhere.post(f"{address}/resolve", json=body)) == (404, "not-found")
    assert auditor.get(address).status_code == 200
    assert problem(auditor.post(f"{address}/resolve", json=body)) == (403, "forbidden")
    assert problem(here.get(f"/v1/reviews/{new_id()}")) == (404, "not-found")
    for bad in (
        {},
        {"choice": "perhaps", "note": "x"},
        {"choice": "apply"},
        body | {"reading": "guess"},
        body | {"x": 1},
    ):
        assert problem(here.post(f"{address}/resolve", json=bad)) == (422, "invalid"), bad
    stale = here.post(f"{address}/resolve", json=body, headers={"If-Match": '"7"'})
    assert problem(stale) == (412, "precondition-failed") and stale.json["current_rev"] == 1
    decided = here.post(f"{address}/resolve", json=body, headers={"If-Match": '"1"'})
    assert (decided.status_code, decided.json["state"], decided.json["resolution"]) == (200, "resolved", "dismiss")
    assert decided.headers["ETag"] == '"2"' and decided.json["resolution_note"] == "it was a test"
    twice = here.post(f"{address}/resolve", json=body)
    assert problem(twice) == (409, "state-not-allowed") and twice.json["resolution"] == "dismiss"
    assert here.get("/v1/reviews").json["items"] == []
    assert [one["id"] for one in here.get("/v1/reviews?state=resolved").json["items"]] == [review["id"]]


def test_a_review_shows_both_sides_who_and_when_and_what_the_device_had_seen(field: Field) -> None:
    crew = field.crew()
    one, two = field.phone(crew), field.phone(crew)
    job = field.job("repair", crew, access_note="front", title="No supply", contact_phone="1")
    one.pull(), two.pull()
    seen = two.rev("job", job)
    first = one.edit(job, {"access_note": "front"}, {"access_note": "back"})
    assert one.send(first) == ["applied"]
    tag = {"If-Match": f'"{field.get(f"/v1/jobs/{job}")["rev"]}"'}
    done(field.office.patch(f"/v1/jobs/{job}", json={"title": "Fuse"}, headers=tag))
    photo = {"id": "a-1", "sha256": "0" * 64, "size": 7, "type": "image/jpeg", "required": False}
    late = two.edit(job, {"access_note": "front"}, {"access_note": "cellar"}, attachments=[photo], assignment_rev=1)
    assert two.send(late) == ["applied_conflict"]
    (review,) = field.reviews(job=job)
    page = field.get(f"/v1/reviews/{review['id']}")
    sent, record = page["sent"], page["record"]
    assert (sent["was"], sent["set"], sent["base_rev"]) == (late["was"], late["set"], seen)
    assert sent["attachments"][0].items() >= photo.items() and sent["assignment_rev"] == 1
    assert sent["times"]["device"] == late["occurred_at"] and sent["clock_suspect"] is False
    assert sent["times"]["estimated"] <= sent["times"]["received"] <= page["created_at"]
    assert (record["rev"], record["status"], record["crew_id"]) == (5, "dispatched", crew)
    fields = {one["field"]: one for one in record["fields"]}
    assert set(fields) == {"access_note", "title"}, "what it edited, and what others changed after what it had seen"
    assert (fields["title"]["value"], fields["title"]["rev"], fields["title"]["by"]["kind"]) == ("Fuse", 4, "staff")
    assert (fields["access_note"]["value"], fields["access_note"]["by"]["id"]) == ("cellar", two.id)
    assert fields["access_note"]["at"] == late["occurred_at"]
    conflict = page["conflicts"][0]
    assert (conflict["base"], conflict["device"], conflict["record"]) == ("front", "cellar", "back"), "as it was then"


def test_a_second_account_of_finished_work_can_be_read_whole_beside_the_first(field: Field) -> None:
    one, two, place = field.phone(), field.phone(), field.place()
    job = field.job("meter_change", one.crew_id, place)
    one.pull()
    field.assign(job, two.crew_id)
    assert two.do("meter.exchange", job, exchange(place, "NEW-2")) == "applied"
    photo = {"id": "a-1", "sha256": "0" * 64, "size": 7, "type": "image/jpeg", "required": True}
    second = one.op("meter.exchange", job, exchange(place, "NEW-1", "48213.9"), attachments=[photo])
    assert one.send(second) == ["parked"]
    (review,) = field.reviews(job=job)
    page = field.get(f"/v1/reviews/{review['id']}")
    assert page["sent"]["payload"] == second["payload"] and page["sent"]["attachments"][0]["id"] == "a-1"
    assert page["record"]["crew_id"] == two.crew_id
    result = next(one["value"] for one in page["record"]["fields"] if one["field"] == "result")
    assert result["exchange"]["new"]["asset_no"] == "NEW-2"
    assert field.resolve(review["id"], "dismiss", "crew 2 was there first").status_code == 200
    assert field.get(f"/v1/reviews/{review['id']}")["sent"] == page["sent"], "and stays so"
    one.pull(), two.pull()
    assert one.told[second["op_id"]]["note"] == "crew 2 was there first"
    assert two.copy["job", job]["attention"] == []


def test_a_review_of_a_customer_shows_both_sides_too(field: Field) -> None:
    place, crew = field.place(), field.crew()
    one, two = field.phone(crew), field.phone(crew)
    field.job("repair", crew, place)
    one.pull(), two.pull()
    assert one.send(one.edit(place.customer_id, {}, {"name": "New mill"}, "customer")) == ["applied"]
    late = two.edit(place.customer_id, {"name": "Mill"}, {"name": "Old mill"}, "customer")
    assert two.send(late) == ["parked"]
    (review,) = [r for r in field.reviews() if r["op_id"] == late["op_id"]]
    page = field.get(f"/v1/reviews/{review['id']}")
    (named,) = page["record"]["fields"]
    assert (named["field"], named["value"], named["by"]["id"]) == ("name", "New mill", one.id)
    assert page["sent"]["was"] == {"name": "Mill"} and "status" not in page["record"]


def test_applying_takes_the_work_over_and_tells_the_device(field: Field) -> None:
    phone, job, op, review = on_cancelled(field)
    note = "the customer confirms it. " + "x" * 1974
    assert field.resolve(review["id"], "apply", note).status_code == 200
    page = field.get(f"/v1/jobs/{job}")
    assert (page["status"], page["result"]["cause_major"], page["attention"]) == ("completed", "line", [])
    assert page["completed_at"] == op["occurred_at"]
    (change,) = phone.pull()
    told = change["doc"]
    assert (change["rev"], told["outcome"], told["resolution"], told["note"]) == (2, "resolved", "apply", note)
    assert told["op_id"] == op["op_id"] and told["review_id"] == review["id"] and told["job_rev"] == page["rev"]
    assert phone.push(op) == ["duplicate"]
    entries = field.history(operation=op["op_id"])
    actions = [entry["action"] for entry in entries]
    assert {"operation.parked", "job.complete", "review.resolved", "operation.resolved"} <= set(actions)
    done = next(entry for entry in entries if entry["action"] == "job.complete")
    assert (done["actor"]["kind"], done["device_id"]) == ("staff", phone.id), "a dispatcher decided what a device did"
    assert next(entry["note"] for entry in entries if entry["action"] == "review.resolved") == note


def test_dismissing_leaves_the_record_as_it_is(field: Field) -> None:
    phone, job, op, review = on_cancelled(field)
    assert field.resolve(review["id"], "dismiss").status_code == 200
    assert field.status(job) == "cancelled"
    phone.pull()
    assert phone.told[op["op_id"]]["outcome"] == "resolved" and phone.told[op["op_id"]]["resolution"] == "dismiss"
    assert field.get(f"/v1/jobs/{job}")["attention"] == []


def test_a_fallen_register_is_decided_by_saying_what_it_was(field: Field) -> None:
    one, two, phone = field.place({"total": "999990.0"}), field.place({"total": "5000.0"}), field.phone()
    wrapped, misread = (field.job("meter_change", phone.crew_id, place) for place in (one, two))
    op, review = parked(phone, "meter.exchange", wrapped, exchange(one, "NEW-1", "25.0"))
    end, _ = parked(phone, "job.complete", wrapped, {})
    refused = field.resolve(review["id"], "apply")
    assert problem(refused) == (422, "invalid") and refused.json["errors"][0]["field"] == "/reading"
    assert field.resolve(review["id"], "apply", reading="wrap").status_code == 200
    page = field.get(f"/v1/jobs/{wrapped}")
    assert page["result"]["exchange"]["energy"]["total"]["energy_kwh"] == "35"
    assert page["result"]["exchange"]["energy"]["total"]["wrapped"] is True
    assert page["status"] == "completed" and page["attention"] == [], "what was built on it is judged after it"
    phone.pull()
    assert [phone.outcome(o) for o in (op, end)] == ["resolved", "resolved"]
    assert field.reviews(job=wrapped) == []
    assert [meter["asset_no"] for meter in phone.docs("meter") if meter["usage_point_id"] == one.usage_point_id] == [
        "NEW-1"
    ]

    op, review = parked(phone, "meter.exchange", misread, exchange(two, "NEW-2", "25.0"))
    assert field.resolve(review["id"], "apply", reading="misread").status_code == 200
    readings = field.get(f"/v1/usage-points/{two.usage_point_id}")["readings"]["items"]
    states = {(r["asset_no"], r["reason"]): r["state"] for r in readings if r["op_id"] == op["op_id"]}
    assert states == {(two.asset_no, "final"): "quarantined", ("NEW-2", "initial"): "posted"}
    energy = field.get(f"/v1/jobs/{misread}")["result"]["exchange"]["energy"]["total"]
    assert energy["energy_kwh"] is None, "a misread register tells no energy"


def test_a_sum_that_is_off_can_be_let_pass(field: Field) -> None:
    registers = {"total": "1000.0", "peak": "400.0", "flat": "400.0", "valley": "200.0"}
    place, phone = field.place(registers), field.phone()
    job = field.job("meter_change", phone.crew_id, place)
    final = registers | {"total": "1100.0", "peak": "420.0"}
    _, review = parked(phone, "meter.exchange", job, exchange(place, "NEW-1", final, dict.fromkeys(final, "0")))
    assert field.resolve(review["id"], "apply").status_code == 200
    assert field.get(f"/v1/jobs/{job}")["result"]["exchange"]["sum"]["within"] is False
    assert field.get(f"/v1/usage-points/{place.usage_point_id}")["installations"]["items"][0]["asset_no"] == "NEW-1"


def test_a_seal_that_is_here_after_all_leaves_where_it_was(field: Field) -> None:
    one, two, phone, other = field.place(), field.place(), field.phone(), field.phone()
    first, second = (field.job("meter_change", phone.crew_id, place) for place in (one, two))
    field.job("repair", other.crew_id, one)
    assert phone.do("meter.exchange", first, exchange(one, "NEW-1", fitted=("S-1",))) == "applied"
    other.pull()
    assert len(other.holds("seal")) == 1
    _, review = parked(phone, "meter.exchange", second, exchange(two, "NEW-2", fitted=("S-1",)))
    assert field.resolve(review["id"], "apply").status_code == 200
    (seal,) = field.get(f"/v1/customers/{two.customer_id}")["seals"]["items"]
    assert seal["number"] == "S-1" and seal["removed_at"] is None
    other.pull(), phone.pull()
    assert not other.holds("seal")
    assert [seal["usage_point_id"] for seal in phone.docs("seal")] == [two.usage_point_id]


def test_a_seal_taken_off_here_stays_where_it_is_on_record_until_somebody_decides(field: Field) -> None:
    one, two, phone, other = field.place(), field.place(), field.phone(), field.phone()
    first, second = (field.job("meter_change", phone.crew_id, place) for place in (one, two))
    field.job("repair", other.crew_id, one)
    assert phone.do("meter.exchange", first, exchange(one, "NEW-1", fitted=("S-1",))) == "applied"
    _, review = parked(phone, "meter.exchange", second, exchange(two, "NEW-2", removed=("S-1",)))
    assert review["reason"] == "seal_in_use"
    other.pull()
    assert len(other.holds("seal")) == 1, "nothing has happened to it"
    assert field.resolve(review["id"], "apply").status_code == 200
    other.pull()
    assert not other.holds("seal")
    assert phone.do("meter.exchange", field.job("meter_change", phone.crew_id, one), exchange("NEW-1", "NEW-3", "0.1"))


def test_an_exchange_from_before_the_meter_was_there_waits_for_a_person(field: Field) -> None:
    place, phone = field.place(), field.phone()
    first, second = (field.job("meter_change", phone.crew_id, place) for _ in range(2))
    act = phone.op("meter.exchange", first, exchange(place, "NEW-1"))
    assert phone.send(act) == ["applied"]
    other = field.phone(phone.crew_id)
    early = other.op("meter.exchange", second, exchange("NEW-1", "NEW-2", "0.5"))
    early["occurred_at"] = format_time(datetime.fromisoformat(act["occurred_at"]) - timedelta(minutes=5))
    assert other.send(early) == ["parked"] and other.reason(early) == "clock_suspect"
    (review,) = field.reviews(job=second)
    assert field.resolve(review["id"], "apply").status_code == 200
    newest, before = field.get(f"/v1/customers/{place.customer_id}")["installations"]["items"][:2]
    assert newest["asset_no"] == "NEW-2"
    assert newest["installed_at"] == before["removed_at"] == before["installed_at"] == act["occurred_at"]


def test_applying_lets_everything_pass_that_the_review_shows(field: Field) -> None:
    one, two, phone = field.place(), field.place({"total": "999990.0"}), field.phone()
    first, second = (field.job("meter_change", phone.crew_id, place) for place in (one, two))
    assert phone.do("meter.exchange", first, exchange(one, "NEW-1", fitted=("S-1",))) == "applied"
    _, review = parked(phone, "meter.exchange", second, exchange(two, "NEW-2", "25.0", fitted=("S-1",)))
    assert [problem["reason"] for problem in review["explanation"]["problems"]] == ["register_fell", "seal_in_use"]
    assert problem(field.resolve(review["id"], "apply")) == (422, "invalid")
    assert field.resolve(review["id"], "apply", reading="wrap").status_code == 200
    assert field.get(f"/v1/customers/{two.customer_id}")["seals"]["items"][0]["number"] == "S-1"


def test_a_wrong_meter_and_a_second_account_are_never_waived(field: Field) -> None:
    place, phone = field.place(), field.phone()
    job = field.job("meter_change", phone.crew_id, place)
    _, review = parked(phone, "meter.exchange", job, exchange("SOMEBODY-ELSES", "NEW-1"))
    refused = field.resolve(review["id"], "apply")
    assert problem(refused) == (409, "state-not-allowed") and refused.json["reason"] == "wrong_meter"
    assert refused.json["explanation"]["on_record"]["asset_no"] == place.asset_no
    assert field.get(f"/v1/reviews/{review['id']}")["state"] == "open"
    end, dependant = parked(phone, "job.complete", job, {})
    refused = field.resolve(dependant["id"], "apply")
    assert problem(refused) == (409, "state-not-allowed") and refused.json["reason"] == "missing_predecessor"
    assert [field.resolve(one["id"], "dismiss").status_code for one in (review, dependant)] == [200, 200]
    phone.pull()
    assert phone.copy["job", job]["attention"] == [] and phone.outcome(end) == "resolved"
    repair = field.job("repair", phone.crew_id)
    assert phone.do("job.complete", repair, repaired()) == "applied"
    _, second = parked(phone, "job.complete", repair, repaired(work_done="again"))
    assert problem(field.resolve(second["id"], "apply")) == (409, "state-not-allowed")


def test_work_of_the_crew_that_lost_the_job_can_be_taken_over(field: Field) -> None:
    one, two = field.phone(), field.phone()
    job = field.job("repair", one.crew_id)
    one.pull()
    field.assign(job, two.crew_id)
    _, review = parked(one, "job.complete", job, repaired(work_done="we were there"))
    two.pull()
    assert two.copy["job", job]["attention"]
    assert field.resolve(review["id"], "apply").status_code == 200
    two.pull()
    assert two.copy["job", job]["status"] == "completed" and two.copy["job", job]["attention"] == []
    assert two.copy["job", job]["result"]["work_done"] == "we were there"
    edit = one.edit(job, {}, {"access_note": "back gate"})
    assert one.send(edit) == ["parked"]
    (review,) = field.reviews(job=job)
    assert field.resolve(review["id"], "apply").status_code == 200
    assert field.get(f"/v1/jobs/{job}")["access_note"] == "back gate"


def test_applying_a_conflict_takes_what_lost_and_nothing_else(field: Field) -> None:
    crew = field.crew()
    one, two = field.phone(crew), field.phone(crew)
    job = field.job("repair", crew, access_note="front")
    one.pull(), two.pull()
    lost = two.edit(job, {"access_note": "front", "notes": []}, {"access_note": "cellar", "notes": ["two"]})
    won = one.edit(job, {"access_note": "front", "notes": []}, {"access_note": "back", "notes": ["one"]})
    assert one.send(won) == ["applied"]
    assert two.send(lost) == ["applied_conflict"]
    page = field.get(f"/v1/jobs/{job}")
    assert (page["access_note"], page["notes"]) == ("back", ["one", "two"])
    (review,) = field.reviews(job=job)
    assert field.resolve(review["id"], "apply").status_code == 200
    page = field.get(f"/v1/jobs/{job}")
    assert (page["access_note"], page["notes"]) == ("cellar", ["one", "two"]), "the remark of the other stays"
    two.pull()
    assert two.told[lost["op_id"]]["outcome"] == "resolved"


def test_applying_a_parked_edit_applies_the_whole_of_it(field: Field) -> None:
    crew, place = field.crew(), field.place()
    one, two = field.phone(crew), field.phone(crew)
    job = field.job("repair", crew, place)
    one.pull(), two.pull()
    assert one.send(one.edit(job, {}, {"parts_estimate": [{"code": "FUSE-63", "qty": "3"}]})) == ["applied"]
    assert two.send(two.edit(job, {"parts_estimate": None}, {"parts_estimate": [], "contact_phone": "138"})) == [
        "parked"
    ]
    (review,) = field.reviews(job=job)
    assert field.resolve(review["id"], "apply").status_code == 200
    page = field.get(f"/v1/jobs/{job}")
    assert (page["details"]["parts_estimate"], page["contact_phone"]) == ([], "138")

    taken = field.place()
    edit = one.edit(place.customer_id, {}, {"number": taken.customer_number, "phone": "138"}, "customer")
    assert one.send(edit) == ["parked"]
    (review,) = field.reviews()
    assert review["customer_id"] == place.customer_id and review["job_id"] is None
    assert field.resolve(review["id"], "apply").status_code == 200
    page = field.get(f"/v1/customers/{place.customer_id}")
    assert (page["number"], page["phone"]) == (place.customer_number, "138"), "what must match is never renamed"
