"""Crews, their shifts and their devices in the console."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
from flask import Flask

from fieldsvc.base.clock import utc_now
from fieldsvc.base.db import reading, transaction
from fieldsvc.people import crews, devices
from fieldsvc.people.actors import SYSTEM
from tests.factories import make_crew, make_device, make_shift, make_staff, make_territories
from tests.visitor import Visitor


def form_of(app: Flask, crew_id: str) -> dict[str, object]:
    """What the form of a crew sends when nothing in it is touched."""
    with app.app_context(), reading():
        crew = crews.get(SYSTEM, crew_id)
        return {
            "rev": str(crew.rev), "name": crew.name, "name_local": crew.name_local, "skills": crew.skills,
            "territory_ids": crew.territory_ids, "base_lon": str(crew.base_lon), "base_lat": str(crew.base_lat),
            "members": "\n".join(member.name for member in crew.members), "active": "true",
        }  # fmt: skip


def test_a_crew_is_added_with_what_it_can_and_where_it_belongs(app: Flask) -> None:
    ids = make_territories(app)
    visitor = Visitor(app, "supervisor")
    assert "Territory A" in visitor.get("/crews/new").text
    added = visitor.post(
        "/crews/new", code="N-1", name="<script>alert(1)</script>", name_local="抢修一班", skills=["repair"],
        skills_more="live_line, cable", equipment_more="bucket_truck", territory_ids=[ids["A"]], base_lon="111.55",
        base_lat="35.45", members="Li\n\n Wang ", capacity="4", help_out_m="2000", active="true",
    )  # fmt: skip
    assert added.status_code == 303
    page = visitor.get(added.location).text
    assert "<script>alert" not in page
    assert "抢修一班" in page
    for text in ("live line", "Bucket truck", "Li, Wang", "up to 2.0 km", "/calendar.ics"):
        assert text in page
    listed = visitor.get("/crews?q=n-1").text
    assert "抢修一班" in listed
    assert "No crew fits" in visitor.get("/crews?q=nobody").text
    assert "N-1" in visitor.get(f"/crews?territory={ids['A']}&state=active").text
    assert "N-1" not in visitor.get(f"/crews?territory={ids['B']}").text


def test_a_wrong_crew_keeps_what_was_typed(app: Flask) -> None:
    ids = make_territories(app)
    visitor = Visitor(app, "supervisor")
    wrong = visitor.post(
        "/crews/new", code="no blanks!", name="North", skills=["repair"], skills_more="Nö", base_lon="200",
        territory_ids=[ids["B"]], members="Li",
    )  # fmt: skip
    assert wrong.status_code == 422
    for field in ("code", "skills", "base_lon"):
        assert f'id="f-{field}-fault"' in wrong.text
    assert 'value="North"' in wrong.text
    assert re.search(rf'value="{ids["B"]}" checked', wrong.text)
    assert ">Li</textarea>" in wrong.text
    alone = visitor.post("/crews/new", code="N-1", name="North", base_lon="111")
    assert 'id="f-base_lat-fault"' in alone.text
    make_crew(app, "TAKEN")
    taken = visitor.post("/crews/new", code="TAKEN", name="North")
    assert (taken.status_code, 'id="f-code-fault"' in taken.text) == (409, True)


def test_a_crew_is_changed_and_who_was_faster_is_told(app: Flask) -> None:
    ids = make_territories(app)
    crew_id = make_crew(app, "N-1", [ids["A"]])
    one, two = Visitor(app, "supervisor"), Visitor(app, "supervisor")
    path, typed = f"/crews/{crew_id}/edit", form_of(app, crew_id)
    assert one.post(path, **typed | {"name": "First", "capacity": "3"}).status_code == 303
    late = two.post(path, **typed | {"name": "Second"})
    assert late.status_code == 412
    assert one.username in late.text
    assert "<ins>First</ins>" in late.text
    assert 'value="Second"' in late.text
    assert f'name="rev" value="{form_of(app, crew_id)["rev"]}"' in late.text
    cleared = form_of(app, crew_id) | {"name_local": "", "base_lon": "", "base_lat": "", "skills": [], "members": ""}
    assert two.post(path, **cleared).status_code == 303
    with app.app_context(), reading():
        crew = crews.get(SYSTEM, crew_id)
        assert (crew.name_local, crew.base_lon, crew.skills, crew.members, crew.capacity) == (None, None, [], [], None)


def test_crews_keep_to_territories_and_roles(app: Flask) -> None:
    ids = make_territories(app)
    mine, shared, other = (make_crew(app, code, [ids[one] for one in homes]) for code, homes in
                           (("MINE", "A"), ("SHARED", "AB"), ("OTHER", "B")))  # fmt: skip
    device = make_device(app, other)
    supervisor = Visitor(app, "supervisor", [ids["A"]])
    listed = supervisor.get("/crews").text
    assert "MINE" in listed
    assert "OTHER" not in listed
    assert device.install_id not in supervisor.get("/devices").text
    for path in (f"/crews/{other}", f"/crews/{other}/edit", f"/crews/{other}/way", f"/devices/{device.id}"):
        assert supervisor.get(path).status_code == 404
    for path in (f"/crews/{other}/edit", f"/crews/{other}/shifts", f"/devices/{device.id}/revoke"):
        assert supervisor.post(path, name="x", rev="1", day="2030-01-01", starts="08:00", ends="16:00", reason="x"
                               ).status_code in (404, 422)  # fmt: skip
    assert supervisor.post("/devices/enrol", crew_id=other).status_code == 404
    # What a crew has outside of one's own territories stays as it is, and cannot be added.
    kept = supervisor.post(f"/crews/{shared}/edit", **form_of(app, shared) | {"territory_ids": [ids["A"]]})
    assert kept.status_code == 303
    assert set(form_of(app, shared)["territory_ids"]) == {ids["A"], ids["B"]}  # type: ignore[call-overload]
    assert (
        supervisor.post(f"/crews/{mine}/edit", **form_of(app, mine) | {"territory_ids": [ids["B"]]}).status_code != 303
    )
    assert 'id="f-territory_ids-fault"' in supervisor.post("/crews/new", code="NEW", name="New").text
    auditor = Visitor(app, "auditor")
    page = auditor.get(f"/crews/{mine}").text
    assert "Edit" not in page
    assert "Enrol" not in page
    assert "shift has been" not in page
    assert auditor.get(f"/crews/{mine}/way").status_code == 403  # it would tell where the crew is
    for path in (f"/crews/{mine}/edit", "/crews/new", "/devices/enrol"):
        assert auditor.get(path).status_code == 403
        assert Visitor(app, "dispatcher").post(path).status_code == 403


def test_shifts_are_added_for_some_weeks_shown_and_removed(app: Flask) -> None:
    crew_id = make_crew(app, on_duty=False)
    visitor = Visitor(app, "supervisor")
    visitor.client.set_cookie("zone", "America/New_York", domain="console.example.org")
    path = f"/crews/{crew_id}/shifts"
    fields = {
        "day": "2030-03-04", "starts": "22:00", "ends": "06:00", "break_from": "01:00", "break_to": "02:00",
        "break_minutes": "30", "weekdays": ["0", "2"], "weeks": "2",
    }  # fmt: skip
    added = visitor.post(path, **fields)
    assert added.status_code == 303
    assert "week=2030-03-04" in added.location
    page = visitor.get(added.location).text
    assert page.count("22:00–06:00") == 2
    assert "30 min 01:00–02:00" in page
    with app.app_context(), reading():
        shifts = crews.on_duty([crew_id], datetime(2030, 1, 1, tzinfo=UTC), datetime(2031, 1, 1, tzinfo=UTC))[crew_id]
        first = shifts[0].id
        # From the second Sunday in March on the same time of day is an hour earlier by UTC.
        assert [one.starts_at.strftime("%d %H") for one in shifts] == ["05 03", "07 03", "12 02", "14 02"]
    clash = visitor.post(path, **fields | {"day": "2030-03-13", "weeks": "1", "weekdays": ["2", "3"]})
    assert clash.status_code == 422
    assert "2030-03-13" in clash.text
    left = visitor.post(
        path, **fields | {"day": "2030-03-13", "weeks": "1", "weekdays": ["2", "3"], "leave_out": "true"}
    )
    assert left.status_code == 303
    removed = visitor.post(f"{path}/{first}/remove", week="2030-03-04")
    assert removed.status_code == 303
    assert visitor.get(removed.location).text.count("22:00–06:00") == 1
    assert visitor.post(f"{path}/{first}/remove").status_code == 404


def test_a_wrong_shift_is_told_beside_the_field(app: Flask) -> None:
    visitor = Visitor(app, "supervisor")
    visitor.client.set_cookie("zone", "America/New_York", domain="console.example.org")
    path = f"/crews/{make_crew(app, on_duty=False)}/shifts"
    wrong: list[tuple[str, dict[str, str]]] = [
        ("day", {"day": "2030-02-30"}),
        ("starts", {"starts": "25:00"}),
        ("weeks", {"weeks": "27"}),
        ("break_minutes", {"break_from": "11:00"}),
        ("break_to", {"break_from": "11:00", "break_to": "10:00", "break_minutes": "30"}),
        ("break_to", {"break_from": "11:00", "break_to": "15:45", "break_minutes": "30"}),
        ("starts", {"day": "2030-03-10", "starts": "02:30"}),  # the night in which the clocks go forward
    ]
    for field, changes in wrong:
        fields = {"day": "2030-03-04", "starts": "08:00", "ends": "16:00"} | changes
        answer = visitor.post(path, **fields)
        assert answer.status_code == 422
        assert f'id="f-{field}-fault"' in answer.text
        assert f'value="{fields["starts"]}"' in answer.text


def test_a_running_shift_ends_now_and_one_that_is_over_stays(app: Flask) -> None:
    crew_id = make_crew(app)
    over = make_shift(app, crew_id, utc_now() - timedelta(days=2))
    visitor = Visitor(app, "supervisor")
    with app.app_context(), reading():
        running = crews.shifts(crew_id, utc_now())[0].id
    assert visitor.post(f"/crews/{crew_id}/shifts/{running}/remove").status_code == 303
    assert visitor.post(f"/crews/{crew_id}/shifts/{over}/remove").status_code == 409
    with app.app_context(), reading():
        assert crews.shifts(crew_id, utc_now()) == []
    entries = make_staff(app).get(f"/v1/history?crew={crew_id}&action=shift.ended").json["items"]
    assert len(entries) == 1


def test_the_way_of_a_crew_is_a_piece_of_its_page(app: Flask) -> None:
    crew_id = make_crew(app)
    piece = Visitor(app, "dispatcher").piece(f"/crews/{crew_id}/way")
    assert "Taken to be at its base" in piece.text
    assert "<html" not in piece.text


def test_a_device_enrols_with_a_code_that_only_its_page_has(app: Flask, capsys: pytest.CaptureFixture[str]) -> None:
    crew_id = make_crew(app, "N-1")
    visitor = Visitor(app, "supervisor")
    assert "N-1" in visitor.get(f"/devices/enrol?crew={crew_id}").text
    assert 'id="f-crew_id-fault"' in visitor.post("/devices/enrol").text
    page = visitor.post("/devices/enrol", crew_id=crew_id)
    assert page.status_code == 200
    assert page.headers["Cache-Control"] == "no-store"
    assert "<svg" in page.text
    code = re.search(r'class="secret mono"[^>]*>([^<]+)<', page.text).group(1)  # type: ignore[union-attr]
    watch = re.search(r'hx-get="([^"]+)"', page.text).group(1)  # type: ignore[union-attr]
    assert code not in watch
    waiting = visitor.piece(watch)
    assert (waiting.status_code, waiting.text, waiting.headers["Cache-Control"]) == (204, "", "no-store")
    enrolled = app.test_client().post(
        "/sync/v1/enrol",
        json={"code": code, "install_id": "tablet-7", "platform": "android 15", "app_version": "3.2.0"},
    )
    assert enrolled.status_code in (200, 201)
    used = visitor.piece(watch)
    assert used.status_code == 286
    assert "tablet-7" in used.text
    logged = capsys.readouterr()
    history = make_staff(app).get(f"/v1/history?crew={crew_id}").text
    for plain in (code, code.replace("-", "")):
        assert plain not in logged.out + logged.err + history + used.text + visitor.get("/devices").text


def test_a_code_that_has_run_out_says_so_and_makes_another(app: Flask) -> None:
    crew_id = make_crew(app)
    other = Visitor(app, "supervisor", [make_territories(app)["A"]])
    visitor = Visitor(app, "supervisor")
    with app.app_context(), transaction():
        past = utc_now() - timedelta(hours=1)
        code_id = devices.new_code(SYSTEM, past, crews.get(SYSTEM, crew_id), timedelta(minutes=5))[0].id
    over = visitor.piece(f"/devices/codes/{code_id}")
    assert over.status_code == 286
    assert "has run out" in over.text
    assert f'value="{crew_id}"' in over.text
    assert other.piece(f"/devices/codes/{code_id}").status_code == 404


def test_a_device_is_looked_at_and_revoked_with_a_reason(app: Flask) -> None:
    device = make_device(app, make_crew(app, "N-1"))
    visitor = Visitor(app, "supervisor")
    assert device.install_id in visitor.get("/devices?state=enrolled").text
    page = visitor.get(f"/devices/{device.id}").text
    assert "android 15" in page
    assert "not yet" in page
    assert "it has never said" in page
    assert 'id="f-reason-fault"' in visitor.post(f"/devices/{device.id}/revoke").text
    assert device.client.get("/sync/v1/pull").status_code == 200
    assert visitor.post(f"/devices/{device.id}/revoke", reason="lost in a <river>").status_code == 303
    assert device.client.get("/sync/v1/pull").status_code == 403
    again = visitor.get(f"/devices/{device.id}").text
    assert "lost in a &lt;river&gt;" in again
    assert "Revoke the device" not in again
    assert device.install_id not in visitor.get("/devices?state=enrolled").text
