"""The review queue in the console: both sides, the arithmetic, what each choice does, deciding one after another."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask

from fieldsvc import rules
from fieldsvc.base.clock import utc_now
from fieldsvc.base.db import transaction
from fieldsvc.console.words import vocabulary
from fieldsvc.sync import reconcile
from tests.evidence import entry, photo, upload
from tests.factories import make_territories
from tests.field import Field, Phone, checklist_codes, exchange, inspected, repaired
from tests.visitor import Visitor


@pytest.fixture
def field(app: Flask, drain: Callable[[], None]) -> Field:
    return Field(app, drain)


def text(answer: Any) -> str:
    """What a page says, without its tags."""
    assert answer.mimetype == "text/html", answer.status
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", answer.text)))


def parked(phone: Phone, kind: str, job: str, payload: dict[str, Any], **members: Any) -> str:
    """Send what has to be parked; the id of its review."""
    op = phone.op(kind, job, payload, **members)
    assert phone.send(op) == ["parked"]
    return str(next(review["id"] for review in phone.field.reviews(job=job) if review["op_id"] == op["op_id"]))


def fields_of(answer: Any) -> dict[str, str]:
    """The hidden fields of the form that decides."""
    return dict(re.findall(r'<input type="hidden" name="(rev|record_rev)" value="(\d+)"', answer.text))


def decide(
    person: Visitor, review: str, decision: str, note: str | None = "spoke with the crew", query: str = ""
) -> Any:
    page = person.get(f"/reviews/{review}{query}")
    return person.post(f"/reviews/{review}{query}", decision=decision, note=note, **fields_of(page))


def test_an_edit_is_shown_with_three_sides_and_taken_over(app: Flask, field: Field) -> None:
    crew = field.crew()
    one, two = field.phone(crew), field.phone(crew)
    job = field.job("repair", crew, access_note="front")
    one.pull(), two.pull()
    lost = two.edit(job, {"access_note": "front"}, {"access_note": "<b>cellar</b>"})
    assert one.send(one.edit(job, {"access_note": "front"}, {"access_note": "back"})) == ["applied"]
    assert two.send(lost) == ["applied_conflict"]
    (review,) = field.reviews(job=job)
    person = Visitor(app)
    listed = person.get("/reviews")
    assert f'/reviews/{review["id"]}"' in listed.text and "1 waits" in text(listed)
    page = person.get(f"/reviews/{review['id']}")
    said = text(page)
    assert "&lt;b&gt;cellar&lt;/b&gt;" in page.text and "<b>cellar" not in page.text
    row = next(line for line in page.text.split("<tr") if "cellar" in line)
    base, device, record = row.split("<td")[1:4]
    assert "front" in base and "changed" in device and "back" in record and "changed since" in record
    assert 'data-key="a"' in page.text and 'data-key="d"' in page.text and 'data-key="1"' in page.text
    assert "becomes <b>cellar</b>" in said or "becomes cellar" in said, "what taking it over will do"
    assert all(word in said for word in ("By its clock", "Happened", "Arrived"))

    refused = person.post(f"/reviews/{review['id']}", decision="apply", **fields_of(page))
    assert refused.status_code == 422 and 'id="f-note-fault"' in refused.text
    assert field.get(f"/v1/jobs/{job}")["access_note"] == "back"
    done = decide(person, review["id"], "apply", "both asked: it is the cellar")
    assert done.status_code == 303 and done.location == "/reviews"
    assert "Nothing else waits" in text(person.get(done.location))
    assert field.get(f"/v1/jobs/{job}")["access_note"] == "<b>cellar</b>"
    assert "has not fetched the answer" in text(person.get(f"/reviews/{review['id']}"))
    two.pull()
    told = two.told[lost["op_id"]]
    assert (told["outcome"], told["note"]) == ("resolved", "both asked: it is the cellar")
    assert "has been handed to" in text(person.get(f"/reviews/{review['id']}"))
    assert review["id"] in person.get("/reviews?state=resolved").text


def test_a_fallen_register_with_its_arithmetic_and_the_next_one_opens(app: Flask, field: Field) -> None:
    one, two, phone = field.place({"total": "999990.0"}), field.place({"total": "5000.0"}), field.phone()
    wrapped, misread = (field.job("meter_change", phone.crew_id, place) for place in (one, two))
    first = parked(phone, "meter.exchange", wrapped, exchange(one, "NEW-1", "25.0"))
    behind = parked(phone, "job.complete", wrapped, {})
    second = parked(phone, "meter.exchange", misread, exchange(two, "NEW-2", "25.0"))
    person = Visitor(app)
    order = re.findall(r'<td><a href="/reviews/([0-9a-f-]{36})', person.get("/reviews?severity=hard").text)
    assert order == [first, behind, second], "the oldest first"
    page = person.get(f"/reviews/{first}?kind=meter_change")
    said = text(page)
    assert "The register has 6 digits: it goes round at 1,000,000." in said
    assert "(10^6 - 999990 + 25) x 1 = 35 kWh" in said and "999990 - 25 = 999965" in said and "plausible to" in said
    assert 'value="apply-wrap"' in page.text and 'value="apply-misread"' in page.text
    assert "35 kWh are posted for the old meter." in said and "kept aside (quarantined)" in said
    assert "1 other review waits on this job." in said

    plain = person.post(f"/reviews/{first}", decision="apply", note="?", **fields_of(page))
    assert plain.status_code == 422, "which of the two it is has to be said"
    done = decide(person, first, "apply-wrap", query="?kind=meter_change")
    assert done.location == f"/reviews/{second}?kind=meter_change", "what was built on it is judged with it"
    shown = person.get(done.location)
    assert "Taken over. Crew" in text(shown)
    assert field.status(wrapped) == "completed"
    done = decide(person, second, "apply-misread", query="?kind=meter_change")
    assert done.location == "/reviews?kind=meter_change"
    phone.pull()
    assert {phone.told[op]["outcome"] for op in phone.told} == {"resolved"}
    assert "No review fits these filters." in text(person.get("/reviews?kind=meter_change"))


def test_what_is_never_taken_over_says_why_and_the_second_account_stands_beside_the_first(
    app: Flask, field: Field
) -> None:
    place, phone = field.place(), field.phone()
    job = field.job("meter_change", phone.crew_id, place)
    wrong = parked(phone, "meter.exchange", job, exchange("SOMEBODY-ELSES", "NEW-1"))
    person = Visitor(app)
    page = person.get(f"/reviews/{wrong}")
    said = text(page)
    assert "SOMEBODY-ELSES ≠" in said and f"{place.asset_no} ≠" in said and "no such meter on record" in said
    assert "(48213.6 − 48000) × 1 = 213.6 kWh" in said
    assert 'value="apply"' not in page.text and "is not possible now:" in said
    refused = person.post(f"/reviews/{wrong}", decision="apply", note="take it", **fields_of(page))
    assert refused.status_code == 409 and "Nothing has been changed." in text(refused) and "take it" in refused.text

    repair = field.job("repair", phone.crew_id)
    assert phone.do("job.complete", repair, repaired()) == "applied"
    second = parked(phone, "job.complete", repair, repaired(work_done="replaced the fuse"))
    said = text(person.get(f"/reviews/{second}"))
    assert "A second account is never joined to it" in said
    assert "replaced the fuse ≠" in said and "conductor joined ≠" in said
    assert decide(person, second, "dismiss", "the first account stands").status_code == 303
    assert decide(person, wrong, "dismiss").status_code == 303
    phone.pull()
    assert phone.copy["job", job]["attention"] == []


def test_two_dispatchers_and_a_record_that_has_moved_on(app: Flask, field: Field) -> None:
    phone, other = field.phone(), field.phone()
    job = field.job("repair", phone.crew_id)
    phone.pull()
    field.assign(job, other.crew_id)
    review = parked(phone, "job.complete", job, repaired(work_done="we were there"))
    fast, slow = Visitor(app), Visitor(app, "supervisor")
    page = slow.get(f"/reviews/{review}")
    assert "The job had been given to another crew" in text(page)
    field.office.patch(
        f"/v1/jobs/{job}", json={"title": "Pole down"}, headers={"If-Match": f'"{fields_of(page)["record_rev"]}"'}
    )
    moved = slow.post(f"/reviews/{review}", decision="apply", note="was done", **fields_of(page))
    assert moved.status_code == 412 and "has changed since you looked at it" in text(moved) and "was done" in moved.text
    assert field.status(job) == "dispatched"
    page = slow.get(f"/reviews/{review}")
    assert decide(fast, review, "dismiss", "the other crew is there").status_code == 303
    late = slow.post(f"/reviews/{review}", decision="apply", note="was done", **fields_of(page))
    said = text(late)
    assert late.status_code == 409 and "Somebody was faster" in said and "the other crew is there" in said
    assert fast.username in said and "was done" in said and 'name="decision"' not in late.text
    assert field.status(job) == "dispatched", "nothing is overwritten"


def test_photos_stand_beside_and_an_inspection_shows_its_items(app: Flask, field: Field) -> None:
    phone = field.phone()
    job = field.job("repair", phone.crew_id)
    field.cancel(job)
    data = photo()
    named, lacking = entry(data, id="P-1"), entry(photo(2), id="P-2")
    review = parked(phone, "job.complete", job, repaired(), attachments=[named, lacking])
    upload(phone, data, named)
    field.drain()
    page = Visitor(app).get(f"/reviews/{review}")
    (shot,) = re.findall(r'<img src="(/photos/[^"]+)" alt="Photo P-1"', page.text)
    assert "size=small" in shot and "not here yet" in text(page)

    job = field.job("safety_inspection", phone.crew_id)
    field.cancel(job)
    code = checklist_codes()[0]
    review = parked(phone, "inspection.record", job, inspected({code: "fail"}, [code]))
    page = Visitor(app).get(f"/reviews/{review}")
    title = rules.load().checklist("safety_inspection", utc_now().date()).value["stages"][0]["items"][0]["title"]
    said = text(page)
    assert title in said and "did not pass" in said
    assert "A defect is opened:" in said and "The job becomes: In progress." in said

    job = field.job("safety_inspection", phone.crew_id)
    field.cancel(job)
    review = parked(phone, "inspection.record", job, inspected(dict.fromkeys(checklist_codes(), "fail")))
    page = Visitor(app).get(f"/reviews/{review}")
    assert f"is not possible now: {vocabulary()['hold_point_open']['en']}" in text(page), (
        "what keeps it is not the very work under review"
    )
    refused = field.resolve(review, "apply")
    assert refused.status_code == 409 and refused.json["reason"] == "hold_point_open"


def test_customers_forced_work_and_faults_of_ours(app: Flask, field: Field) -> None:
    place, taken = field.place(), field.place()
    crew = field.crew()
    phone, other = field.phone(crew), field.phone(crew)
    job = field.job("repair", crew, place)
    phone.pull()
    assert phone.send(
        phone.edit(place.customer_id, {}, {"number": taken.customer_number, "phone": "138"}, "customer")
    ) == ["parked"]
    (review,) = field.reviews()
    person = Visitor(app)
    said = text(person.get(f"/reviews/{review['id']}"))
    assert f"{taken.customer_number} ≠" in said and place.customer_number in said and "Phone becomes 138." in said
    assert decide(person, review["id"], "apply").status_code == 303
    assert field.get(f"/v1/customers/{place.customer_id}")["phone"] == "138"

    late = other.op("job.complete", job, repaired(), depends_on=["never-came"])
    assert other.push(late) == ["held"]
    field.settle(utc_now() + timedelta(hours=25))
    (review,) = field.reviews(job=job)
    assert review["outcome"] == "forced"
    said = text(person.get(f"/reviews/{review['id']}"))
    assert "It was held for 24 hours" in said and "It has been applied already" in said
    assert "takes nothing back that was applied" in said
    assert decide(person, review["id"], "dismiss", "seen").status_code == 303

    note = phone.op("note.add", job, {"text": "gate code 12"})
    phone.push(note)
    with app.app_context(), transaction():
        reconcile._record_failure(note["op_id"], phone.install_id, utc_now(), 1, "KeyError")
    (review,) = field.reviews(job=job)
    assert "It is tried again." in text(person.get(f"/reviews/{review['id']}"))
    assert decide(person, review["id"], "apply").status_code == 303
    assert field.get(f"/v1/jobs/{job}")["notes"] == ["gate code 12"]


def test_scope_and_roles(app: Flask, field: Field) -> None:
    here = make_territories(app)
    phone = field.phone(field.crew(territory_ids=[here["A"]]))
    job = field.job("repair", phone.crew_id)
    field.cancel(job)
    review = parked(phone, "job.complete", job, repaired())
    stranger, auditor = Visitor(app, territory_ids=[here["C"]]), Visitor(app, "auditor", [here["A"]])
    assert stranger.get(f"/reviews/{review}").status_code == 404 and review not in stranger.get("/reviews").text
    assert stranger.post(f"/reviews/{review}", decision="dismiss", note="x").status_code == 404
    page = auditor.get(f"/reviews/{review}")
    assert (
        page.status_code == 200
        and 'name="decision"' not in page.text
        and "Open the first" not in auditor.get("/reviews").text
    )
    assert auditor.post(f"/reviews/{review}", decision="dismiss", note="x").status_code == 403
    mine = Visitor(app, territory_ids=[here["A"]])
    assert review in mine.get("/reviews?reason=completed_after_cancel").text
    assert review not in mine.get("/reviews?reason=wrong_meter").text
    assert mine.get("/reviews?severity=mild").status_code == 422
    assert "The job becomes" in text(mine.get(f"/reviews/{review}"))
