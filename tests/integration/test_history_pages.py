"""The history in the console: its filters, what another territory's auditor does not find, and files taken out."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from datetime import timedelta

import pytest
from flask import Flask
from sqlalchemy import insert
from werkzeug.test import TestResponse

from fieldsvc.base.clock import utc_now
from fieldsvc.base.db import db, transaction
from fieldsvc.history import export
from fieldsvc.history.models import HistoryEntry
from tests import factories
from tests.field import Field
from tests.visitor import Visitor


@pytest.fixture
def field(app: Flask, drain: Callable[[], None]) -> Field:
    return Field(app, drain)


def seqs(answer: TestResponse) -> list[int]:
    """The entries a page shows."""
    assert answer.status_code == 200, answer.text
    return [int(seq) for seq in re.findall(r'id="entry-(\d+)"', answer.text)]


def test_filters_are_in_the_address_and_scope_is_kept(app: Flask, field: Field) -> None:
    territories = factories.make_territories(app)
    auditor = Visitor(app, "auditor")
    phone, place = field.phone(), field.place()
    job = field.job("repair", phone.crew_id, place)
    other = field.job("safety_inspection")
    accept = phone.op("job.accept", job)
    phone.send(accept)
    number = field.get(f"/v1/jobs/{job}")["number"]
    crew = next(one for one in field.get("/v1/crews")["items"] if one["id"] == phone.crew_id)
    everything = field.history()
    of_job = [one["seq"] for one in everything if one["job_id"] == job]

    assert seqs(auditor.get("/history"))[0] >= everything[-1]["seq"]
    for asked, wanted in {
        f"job={number}": of_job,
        f"job={job}": of_job,
        f"job={number}&action=job.accept": [one["seq"] for one in everything if one["action"] == "job.accept"],
        f"customer={place.customer_number}": [one["seq"] for one in everything if one["customer_id"]],
        f"crew={crew['code']}&kind=repair": [one["seq"] for one in everything if one["crew_id"] and one["job_id"]],
        f"device={phone.id}": [one["seq"] for one in everything if one["device_id"] == phone.id],
        f"operation={accept['op_id']}": [one["seq"] for one in everything if one["op_id"]],
        "kind=safety_inspection": [one["seq"] for one in everything if one["job_id"] == other],
        "job=J-NOBODY": [],
        "job=&who=+": [one["seq"] for one in everything],
    }.items():
        found = seqs(auditor.get(f"/history?{asked}&limit=200"))
        assert [one for one in found if one <= everything[-1]["seq"]] == wanted[::-1], asked
    who = Visitor(app)
    made = who.post("/jobs/new", kind="repair", lon="111.55", lat="35.45").location.rpartition("/")[2]
    mine = auditor.get(f"/history?who={who.username}&action=job.created")
    assert len(seqs(mine)) == 1 and f"/jobs/{made}" in mine.text

    # Times are the visitor's: "from" now finds nothing of before.
    later = (utc_now() + timedelta(minutes=2)).strftime("%Y-%m-%dT%H:%M")
    led = auditor.get(f"/history?from={later}")
    assert (led.status_code, "from=" in led.location, "Z" in led.location) == (302, True, True), "as others read it"
    assert seqs(auditor.get(led.location)) == [] and f'value="{later}"' in auditor.get(led.location).text
    assert of_job[0] in seqs(auditor.get(f"/history?to={later}:00Z&job={number}"))
    wrong = auditor.get("/history?from=yesterday&action=DROP")
    assert wrong.status_code == 422
    assert 'id="f-from-fault"' in wrong.text and 'id="f-action-fault"' in wrong.text

    # Paging keeps the filter; the three times stand side by side.
    first = auditor.get(f"/history?job={number}&limit=1")
    assert f"job={number}" in first.text.split('rel="next"')[0].rpartition("href=")[2]
    entry = auditor.get(f"/history?operation={accept['op_id']}").text
    assert accept["occurred_at"] in entry and f"/jobs/{job}/operations/{accept['op_id']}" in entry

    assert not set(of_job) & set(seqs(Visitor(app, "auditor", [territories["B"]]).get("/history")))
    assert of_job[0] in seqs(Visitor(app, "dispatcher", [territories["A"]]).get("/history"))


def test_an_export_is_what_was_found_says_so_and_is_noted(app: Flask, field: Field) -> None:
    territories = factories.make_territories(app)
    auditor = Visitor(app, "auditor", [territories["A"]])
    job = field.job(title='=HYPERLINK("https://evil.example.org")', access_note="@SUM(A1)")
    field.job(lon=111.65, title="elsewhere")
    field.cancel(job, "＝cmd|' /C calc'!A0")
    wanted = [one["seq"] for one in field.history(job=job)][::-1]
    auditor.get("/history")

    answer = auditor.post("/history/export", form="csv", job=job)
    assert answer.mimetype == "text/csv" and "attachment" in answer.headers["Content-Disposition"]
    head, columns, *rows = csv.reader(io.StringIO(answer.data.decode("utf-8-sig")))
    assert f"filter: job={job}" in head[0] and auditor.username in head[0]
    assert columns == export.COLUMNS
    assert [int(row[0]) for row in rows] == wanted
    cells = [dict(zip(columns, row, strict=True)) for row in rows]
    assert cells[0]["note"] == "'＝cmd|' /C calc'!A0"
    assert json.loads(cells[-1]["after"])["title"].startswith("=HYPERLINK"), "inside of JSON nothing is a formula"
    assert all(not cell.startswith(("=", "+", "-", "@", "\t", "＝")) for row in rows for cell in row)

    lines = [json.loads(line) for line in auditor.post("/history/export", form="jsonl").data.splitlines()]
    assert (lines[0]["entries"], lines[0]["filter"], lines[0]["taken_by"]) == (len(lines) - 1, {}, auditor.username)
    assert {line["territory_id"] for line in lines[1:]} == {territories["A"]}, "only what may be seen"

    noted = field.history(action="history.exported")
    assert [one["after"]["form"] for one in noted] == ["csv", "jsonl"]
    assert noted[0]["after"] == {"filter": {"job": job}, "form": "csv", "entries": len(wanted)}
    assert noted[0]["actor"]["id"] == auditor.staff_id
    assert auditor.post("/history/export", form="xlsx").status_code == 422
    assert auditor.post("/history/export", form="csv", csrf_token="made up").status_code == 400


def test_an_export_has_a_limit_and_is_refused_rather_than_cut_off(app: Flask) -> None:
    auditor = Visitor(app, "auditor")
    entry = {"recorded_at": utc_now(), "actor_kind": "system", "action": "job.made_up", "entity": "job"}
    with app.app_context(), transaction():
        db.session.execute(insert(HistoryEntry), [entry | {"entity_id": str(n)} for n in range(export.MOST)])
    answer = auditor.post("/history/export", form="csv", action="job.made_up")
    assert answer.data.count(b"\r\n") == export.MOST + 2
    with app.app_context(), transaction():
        db.session.execute(insert(HistoryEntry), [entry | {"entity_id": "one more"}])
    refused = auditor.post("/history/export", form="csv", action="job.made_up")
    assert refused.status_code == 422 and "narrow the filter" in refused.text
    assert 'value="job.made_up" selected' in refused.text, "the filter stays"


@pytest.mark.parametrize("value", ["=1+1", "+1", "-1", "@A1", "  =1", "\t=1", "|calc", "＝1", "%0"])
def test_no_cell_is_a_formula(value: str) -> None:
    assert export.cell(value) == "'" + value


@pytest.mark.parametrize("value", [None, 7, "J-1", "2026-11-22T05:00:00Z", {"a": "=1"}, "a=b"])
def test_other_cells_stay_as_they_are(value: object) -> None:
    assert not export.cell(value).startswith("'")
