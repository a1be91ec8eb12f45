"""The page of a job: what is told of each operation, what an edit may not overwrite, and who may see and do what."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from fieldsvc.base import signing
from tests import factories
from tests.field import Field, inspected, repaired
from tests.visitor import HOST, Visitor


@pytest.fixture
def field(app: Flask, drain: Callable[[], None]) -> Field:
    return Field(app, drain)


def text_of(answer: TestResponse) -> str:
    """What a person reads of a page: its words, one blank between."""
    body = re.sub(r"<(script|style|head)\b.*?</\1>", " ", answer.text, flags=re.S)
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", body)))


def row_of(answer: TestResponse, op_id: str) -> str:
    """The words of the row of one operation."""
    found = re.search(rf'<tr id="op-{op_id}">.*?</tr>', answer.text, re.S)
    assert found, answer.text[:500]
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", found[0]))).strip()


def test_each_operation_says_whether_it_arrived_was_applied_and_is_known_to_its_crew(app: Flask, field: Field) -> None:
    visitor, phone, other = Visitor(app), field.phone(), field.phone()
    job = field.job("repair", phone.crew_id, hazards=["<b>dog</b>"])
    assert "Nothing yet" in text_of(visitor.get(f"/jobs/{job}"))
    accept = phone.op("job.accept", job)
    phone.push(accept)
    page = visitor.get(f"/jobs/{job}")
    assert "Arrived, not applied yet" in row_of(page, accept["op_id"])
    assert "1 is here and not applied yet" in text_of(page)
    assert "<b>dog</b>" not in page.text

    field.drain()
    page = visitor.get(f"/jobs/{job}")
    row = row_of(page, accept["op_id"])
    assert "Applied as it came." in row and "not yet" in row
    assert accept["occurred_at"].replace("T", " ") in row
    assert "1 outcome has not reached its crew" in text_of(page)
    phone.pull()
    assert "handed to its device" in row_of(visitor.get(f"/jobs/{job}"), accept["op_id"])
    assert "All is decided, and the crew knows" in text_of(visitor.get(f"/jobs/{job}"))

    field.assign(job, other.crew_id)
    done = phone.op("job.complete", job, repaired())
    early = phone.op("note.add", job, {"text": "<img src=x onerror=alert(1)>"}, seq=phone.seq + 5)
    phone.send(done, early)
    page = visitor.get(f"/jobs/{job}")
    assert "Not applied: a dispatcher has to decide" in row_of(page, done["op_id"])
    assert f"Arrived, not applied: no. {phone.seq} of its device has not come yet." in row_of(page, early["op_id"])
    assert "1 waits for your decision" in text_of(page)
    assert "<img src=x" not in page.text
    field.resolve(field.reviews()[0]["id"], "apply")
    assert "A dispatcher decided: applied." in row_of(visitor.get(f"/jobs/{job}"), done["op_id"])

    # The operation by itself: as it was sent, and a receipt that anybody can check.
    alone = f"/jobs/{job}/operations/{done['op_id']}"
    assert "The signature is good" in visitor.get(alone).text
    outcome = json.loads(visitor.get(f"{alone}/outcome.json").data)
    keys = json.loads(visitor.get("/sync/v1/keys", Accept="application/json").data)["keys"]
    assert signing.verify(outcome["receipt"], keys)["op_id"] == done["op_id"]
    sent = visitor.get(f"{alone}/sent.json")
    assert json.loads(sent.data)["op_id"] == done["op_id"]
    assert sent.headers["Content-Disposition"].startswith("attachment")
    assert visitor.get(f"/jobs/{field.job()}/operations/{done['op_id']}").status_code == 404
    assert visitor.get(f"/jobs/{job}/operations/nothing/outcome.json").status_code == 404


def test_the_history_of_a_job_is_told_page_by_page_with_before_and_after(app: Flask, field: Field) -> None:
    visitor = Visitor(app, "auditor")
    job = field.job(access_note="gate 1")
    client = field.office
    for number in range(28):
        tag = client.get(f"/v1/jobs/{job}").headers["ETag"]
        client.patch(f"/v1/jobs/{job}", json={"access_note": f"gate <{number}>"}, headers={"If-Match": tag})
    page = visitor.get(f"/jobs/{job}")
    assert page.text.count('class="entry"') == 25
    assert "gate &lt;27&gt;" in page.text and "gate &lt;1&gt;" not in page.text
    older = html.unescape(re.findall(r'hx-get="([^"]+)"', page.text)[-1])
    piece = visitor.piece(older)
    assert piece.text.count('class="entry"') == 4 and "<html" not in piece.text
    assert "Job made" in piece.text or "job created" in piece.text
    assert "<html" in visitor.get(older).text
    assert visitor.get(f"/jobs/{job}?print=1").text.count('class="entry"') == 29
    assert visitor.get(f"/jobs/{job}/history?cursor=AAAA").status_code == 400
    # An auditor changes nothing, and is offered nothing.
    assert "/edit" not in page.text and "cancel-job" not in page.text
    assert visitor.get(f"/jobs/{job}/edit").status_code == 403
    assert visitor.get("/jobs/new").status_code == 403
    for path in (f"/jobs/{job}/cancel", f"/jobs/{job}/edit", "/jobs/new"):
        assert visitor.post(path, reason="no", rev=1).status_code == 403


def form_of(answer: TestResponse) -> dict[str, Any]:
    """The fields of the edit form as a browser would send them back."""
    body = answer.text.split('class="form panel')[1].split("</form>")[0]
    found: dict[str, Any] = {}
    for tag in re.findall(r"<input\b[^>]*>", body):
        name, value = re.search(r'name="([^"]*)"', tag), re.search(r'value="([^"]*)"', tag)
        if not name or ("checkbox" in tag and "checked" not in tag):
            continue
        text = html.unescape(value[1] if value else "")
        found[name[1]] = [*found[name[1]], text] if name[1] in found and "checkbox" in tag else text
    for name, value in re.findall(r'<textarea\b[^>]*name="([^"]*)"[^>]*>(.*?)</textarea>', body, re.S):
        found[name] = html.unescape(value)
    for name, options in re.findall(r'<select\b[^>]*name="([^"]*)"[^>]*>(.*?)</select>', body, re.S):
        chosen = re.search(r'value="([^"]*)" selected', options)
        found[name] = chosen[1] if chosen else ""
    found.pop("csrf_token", None)
    return found


def test_an_edit_overwrites_nothing_that_somebody_else_has_changed_meanwhile(app: Flask, field: Field) -> None:
    visitor, phone = Visitor(app), field.phone()
    job = field.job("repair", phone.crew_id, access_note="gate 1", tags=["b", "a"], description="one\ntwo")
    path = f"/jobs/{job}/edit"
    shown = form_of(visitor.get(path))
    assert visitor.post(path, **shown).status_code == 303
    assert field.get(f"/v1/jobs/{job}")["rev"] == 2, "what comes back as it was is no change"

    # What the crew does meanwhile is no conflict to an edit of something else.
    phone.do("job.accept", job)
    changed = shown | {"access_note": "gate 2", "window_start": "2027-01-04T08:00", "window_end": "2027-01-04T12:00"}
    assert visitor.post(path, **changed | {"hazards": "dog, wet floor", "tags": ""}).status_code == 303
    now = field.get(f"/v1/jobs/{job}")
    assert (now["access_note"], now["hazards"], now["tags"], now["priority"], now["status"]) == (
        "gate 2", ["dog", "wet floor"], [], 1, "accepted",
    )  # fmt: skip
    assert now["window_start"] == "2027-01-04T08:00:00Z"

    # The same field: nothing is saved, both values and the name are shown, what was typed stays.
    refused = visitor.post(path, **shown | {"access_note": "gate 3", "title": "Mine"})
    assert refused.status_code == 409
    assert f"{visitor.username} changed this at" in refused.text and "gate 2" in refused.text
    again = form_of(refused)
    assert (again["access_note"], again["title"], again["hazards"]) == ("gate 3", "Mine", "dog, wet floor")
    assert field.get(f"/v1/jobs/{job}")["access_note"] == "gate 2"
    assert visitor.post(path, **again).status_code == 303
    now = field.get(f"/v1/jobs/{job}")
    assert (now["access_note"], now["title"], now["hazards"]) == ("gate 3", "Mine", ["dog", "wet floor"])

    # What is wrong stands beside its field, and what was typed stays.
    shown = form_of(visitor.get(path))
    wrong = visitor.post(path, **shown | {"lat": "95", "window_end": "2027-01-04T07:00", "access_note": "gate 4"})
    assert wrong.status_code == 422
    assert 'id="f-lat-fault"' in wrong.text and form_of(wrong)["access_note"] == "gate 4"
    assert visitor.post(path, **shown | {"was": "nonsense"}).status_code == 400
    cleared = visitor.post(path, **shown | {"access_note": "", "window_start": "", "window_end": ""})
    assert cleared.status_code == 303
    assert field.get(f"/v1/jobs/{job}")["window_start"] is None


def test_a_job_by_hand_and_its_end(app: Flask, field: Field) -> None:
    territories = factories.make_territories(app)
    visitor = Visitor(app, territory_ids=[territories["A"]])
    place = field.place()
    visitor.get("/jobs/new")
    wrong = visitor.post("/jobs/new", kind="repair", customer="nobody", lon="0", lat="0", title="Kept <i>")
    assert wrong.status_code == 422
    assert "Kept &lt;i&gt;" in wrong.text and 'id="f-lon-fault"' in wrong.text
    assert 'id="f-customer-fault"' in visitor.post("/jobs/new", kind="repair", customer="nobody").text
    outside = visitor.post("/jobs/new", kind="repair", lon="111.65", lat="35.45")
    assert outside.status_code == 403 and 'id="f-lon-fault"' in outside.text and 'value="111.65"' in outside.text
    key = re.search(r'name="form_key" value="([^"]+)"', visitor.get("/jobs/new").text)
    assert key
    asked: dict[str, Any] = {
        "form_key": key[1], "kind": "repair", "customer": place.customer_number, "crews": "2", "hazards": "dog",
        "required_skills": ["repair", "metering"], "due_at": "2027-01-04T08:00",
    }  # fmt: skip
    made = visitor.post("/jobs/new", **asked)
    assert visitor.post("/jobs/new", **asked).location == made.location, "one form makes one job"
    assert made.status_code == 303, made.text
    page = visitor.get(made.location)
    assert place.customer_number in page.text and "Assisted by" in page.text and "Your reference" not in page.text
    job = made.location.rpartition("/")[2]
    now = field.get(f"/v1/jobs/{job}")
    assert (now["required_skills"], now["due_at"], now["priority"]) == (
        ["metering", "repair"], "2027-01-04T08:00:00Z", 1,
    )  # fmt: skip

    # Another territory's dispatcher does not find it under any address.
    stranger = Visitor(app, territory_ids=[territories["B"]])
    for path in (f"/jobs/{job}", f"/jobs/{job}/edit", f"/jobs/{job}/history", f"/jobs/{job}?print=1"):
        assert stranger.get(path).status_code == 404
    assert stranger.post(f"/jobs/{job}/cancel", cancel_reason="no", rev=1).status_code == 404

    late = visitor.post(f"/jobs/{job}/cancel", cancel_reason="done already", rev=now["rev"] + 1)
    assert late.status_code == 409 and "changed the job at" in late.text and "done already" in late.text
    assert visitor.post(f"/jobs/{job}/cancel", cancel_reason="", rev=now["rev"]).status_code == 422
    over = visitor.post(f"/jobs/{job}/cancel", cancel_reason="done already", rev=now["rev"])
    assert (over.status_code, field.status(job)) == (303, "cancelled")
    assert "cancel-job" not in visitor.get(f"/jobs/{job}").text
    assert HOST not in over.location


def test_the_checklist_shows_its_answers_in_the_language_of_the_visitor(app: Flask, field: Field) -> None:
    phone = field.phone()
    job = field.job("safety_inspection", phone.crew_id, field.place())
    phone.do("inspection.record", job, inspected({"interlock": "fail"}))
    english, chinese = Visitor(app).get(f"/jobs/{job}"), Visitor(app, language="zh").get(f"/jobs/{job}")
    assert '<li class="fail">' in english.text and '<li class="pass">' in english.text
    assert re.search(r"(\d+) of \1 answered", text_of(english))
    assert "用电检查" in chinese.text
