"""What no page of the console sends, and some people do: it is refused in words, and tells and breaks nothing."""

from __future__ import annotations

import json
import re
from typing import Any

from flask import Flask

from tests.factories import make_crew, make_staff, make_territories, square
from tests.integration.test_jobs import make
from tests.visitor import HOST, Visitor

_TIMES = ("0001-01-01T00:00", "9999-12-31T23:59")
"""In some zone these are outside of the calendar."""


def test_what_cannot_be_is_refused_and_is_no_fault_of_the_service(app: Flask) -> None:
    home = make_territories(app, square("A", 111.3, 35.5))["A"]
    client, crew = make_staff(app), make_crew(app, "ONE", [home], on_duty=False)
    job = make(client)["id"]
    visitor = Visitor(app, "supervisor")
    run = str(visitor.post("/runs", mode="fill", what_if="true").location).rsplit("/", 1)[1]
    for address, status in (
        (f"/jobs/{job}/operations/%00", 404),
        (f"/jobs/{job}/operations/%00/sent.json", 404),
        (f"/jobs/{job}/why?crew=%00", 200),
        (f"/runs/{run}/difference?crew=%00", 200),
        ("/runs/new?job_id=%00", 200),
        ("/board/jobs?ids=%00&crews=%00", 200),
        ("/board/rows?ids=%00", 200),
    ):
        assert visitor.get(address).status_code == status, address
    place: dict[str, Any] = {"lon": "111.35", "lat": "35.55"}
    border = json.dumps(square("A", 111.3, 35.5)["geometry"])
    forms: list[tuple[str, dict[str, Any], int]] = [
        ("/jobs/new", {"kind": "repair", "title": "T", "customer": "\0", **place}, 422),
        (f"/crews/{crew}/edit", {"name": "One", "territory_ids": [home], "rev": "1" * 5000}, 412),
        (f"/territories/{home}/edit", {"name": "A", "geometry": border, "rev": "1" * 5000}, 412),
        (f"/crews/{crew}/shifts", {"day": "0001-01-01", "starts": "08:00", "ends": "16:00"}, 422),
        (f"/crews/{crew}/shifts", {"day": "9999-12-31", "starts": "16:00", "ends": "08:00"}, 422),
    ]
    for address, fields, status in forms:
        assert visitor.post(address, **fields).status_code == status, address
    for zone in ("Asia/Shanghai", "America/New_York"):
        visitor.client.set_cookie("zone", zone, domain=HOST.removeprefix("https://"))
        for time in _TIMES:
            for address in (f"/history?from={time}", f"/history?to={time}:00Z"):
                answer = visitor.client.get(address, base_url=HOST, follow_redirects=True)
                assert answer.status_code == 422, (zone, address)
            refused = visitor.post("/jobs/new", kind="repair", title="T", due_at=time, **place)
            assert refused.status_code == 422 and f'value="{time}"' in refused.text
            assert visitor.post(f"/jobs/{job}/assign", rev="1", crew_id=crew, planned_start=time).status_code == 422
    for zone in ("localtime", "America", "A" * 3000):  # known to some libraries and not to others, or to none
        visitor.client.set_cookie("zone", zone, domain=HOST.removeprefix("https://"))
        for address in ("/history", f"/jobs/{job}"):
            assert visitor.get(address).status_code == 200, (zone[:20], address)


def test_every_page_says_what_it_may_do_and_is_kept_by_nobody(app: Flask) -> None:
    visitor = Visitor(app, "dispatcher")
    for client in (visitor.client, app.test_client()):
        for address in ("/", "/sign-in", "/nowhere", "/jobs/nothing", "/history?from=x"):
            page = client.get(address, base_url=HOST, headers={"Accept": "text/html"}, follow_redirects=True)
            assert "default-src 'none'" in page.headers["Content-Security-Policy"], address
            assert page.headers["X-Frame-Options"] == "DENY", address
            assert page.headers["Cache-Control"] == "no-store", address


def test_what_anybody_may_be_given_holds_nobodys_session(app: Flask) -> None:
    visitor = Visitor(app, "dispatcher")
    files = re.findall(r'(?:src|href)="(/(?:static|lib)/[^"]+)"', visitor.get("/").text)
    assert {file.split("/")[1] for file in files} == {"static", "lib"}
    for file in files:
        with visitor.get(file) as answer:
            assert answer.status_code == 200 and "Set-Cookie" not in answer.headers, file
    assert "Set-Cookie" in visitor.get("/account").headers


def test_a_form_of_somebody_elsewhere_is_not_taken_for_ones_own(app: Flask) -> None:
    ids = make_territories(app, square("A", 111.3, 35.5), square("B", 111.6, 35.5))
    here, there = (Visitor(app, "dispatcher", [ids[code]]) for code in "AB")
    call: dict[str, Any] = {"key": "same", "reporting_kind": "call", "trouble_code": "no_power", "fault": "apart"}
    assert here.post("/intake", lon="111.35", lat="35.55", **call).status_code == 303
    for lon in ("111.35", "111.65"):
        refused = there.post("/intake", lon=lon, lat="35.55", **call)
        assert refused.status_code in (409, 422) and "as ticket" not in refused.text


def test_who_signs_out_leaves_no_draft_of_a_call_behind(app: Flask) -> None:
    page = Visitor(app, "dispatcher").get("/intake").text
    assert re.search(r'<form method="post" action="/sign-out"[^>]* data-forget>', page)
    with Visitor(app, "dispatcher").get("/static/console.js") as script:
        assert 'if ("forget" in form.dataset) sessionStorage.clear();' in script.get_data(as_text=True)
