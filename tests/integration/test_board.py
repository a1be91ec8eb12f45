"""The board: what it shows to whom and in which order, filters and numbers, saved views, and what bad input gets."""

from __future__ import annotations

import gzip
import itertools
import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask import Flask

from fieldsvc.base.clock import new_id, utc_now
from fieldsvc.base.db import db, reading, transaction
from fieldsvc.base.errors import Conflict
from fieldsvc.config import Settings
from fieldsvc.people import views
from fieldsvc.records.models import Customer
from fieldsvc.work import board
from fieldsvc.work.board import Day, Wanted
from fieldsvc.work.models import CommitmentClock, Job
from fieldsvc.work.tiers import Standing, tier
from tests.browser.scene import Scene
from tests.field import Field
from tests.running import composed, fresh
from tests.visitor import Visitor

TODAY = Day(datetime(2020, 1, 1, tzinfo=UTC), datetime(2199, 1, 1, tzinfo=UTC))


@pytest.fixture(scope="module")
def app(
    database: str,
    templates: Callable[[str], str],
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Flask]:
    """One application for the module: every test has a scene of its own, or only reads."""
    folder = tmp_path_factory.mktemp("board")
    with fresh(database, templates, request, folder) as url:
        settings = Settings(database_url=url, secret_key="a key for tests", data_dir=folder, log_level="WARNING")
        with composed(settings) as app:
            yield app


@pytest.fixture(scope="module")
def scene(app: Flask) -> Scene:
    return Scene(Field(app))


@pytest.fixture(scope="module")
def person(app: Flask, scene: Scene) -> Visitor:
    return Visitor(app, territory_ids=[scene.territory_id])


def listed(person: Visitor, query: str = "") -> list[str]:
    """The ids of the jobs in the list, in its order."""
    answer = person.get(f"/?{query}")
    assert answer.status_code == 200, answer.text[:500]
    return re.findall(r'<li class="job [^"]*" id="job-([^"]+)"', answer.text)


def data(person: Visitor, path: str = "/board/data") -> dict[str, Any]:
    answer = person.get(path, Accept="application/json")
    assert answer.status_code == 200, answer.text[:500]
    body: dict[str, Any] = json.loads(answer.data)
    table = body["jobs"]
    return body | {"jobs": {row[0]: dict(zip(table["columns"], row, strict=True)) for row in table["rows"]}}


def named(scene: Scene, ids: list[str]) -> list[str]:
    names = {job_id: name for name, job_id in scene.jobs.items()}
    return [names[job_id] for job_id in ids]


def test_what_matters_first_comes_first_and_page_and_scripts_see_the_same(scene: Scene, person: Visitor) -> None:
    shown = named(scene, listed(person))
    assert shown[:2] == ["soon", "given"], "promises that run out, the next one first"
    assert shown.index("hazard") < shown.index("late"), "what can still be kept, before what cannot"
    assert shown[-1] == "done", "done today, after everything that is open"
    assert set(shown) == set(scene.jobs) - {"cancelled"}
    found = data(person)
    assert named(scene, list(found["jobs"])) == shown
    soon, late = found["jobs"][scene.jobs["soon"]], found["jobs"][scene.jobs["late"]]
    assert (soon["promise"], late["promise"], soon["tier"]) == ("soon", "over", "emergency")
    assert found["jobs"][scene.jobs["hazard"]]["hazards"] is True
    assert found["jobs"][scene.jobs["done"]]["due_at"] is None
    working = found["jobs"][scene.jobs["working"]]
    clocks = {clock["kind"]: clock for clock in scene.field.get(f"/v1/jobs/{working['id']}")["clocks"]}
    assert clocks["arrival"]["verdict"] == "met"
    assert working["due_at"] == clocks["restoration"]["due_at"], "the promise that was kept does not count any more"
    counts = data(person, "/board/jobs?counts=1")["counts"]
    assert counts["over"] == 1 and counts["hazards"] == 1 and counts["nobody"] == 4
    assert counts["status"] | {"cancelled": 1, "completed": 1, "in_progress": 1} == counts["status"]
    assert counts["shown"] == len(shown) and not counts["cut"]


def test_crews_with_their_last_sign_of_life_and_who_is_silent(app: Flask, scene: Scene, person: Visitor) -> None:
    crews = {crew["id"]: crew for crew in data(person)["crews"]}
    names = {name: crews[crew_id] for name, crew_id in scene.crews.items()}
    assert {name: crew["silent"] for name, crew in names.items()} == {
        "near": False, "far": False, "silent": True, "off": False,
    }  # fmt: skip
    assert names["near"]["position"] | {"at": 0} == {**scene.at(0.45, 0.6), "at": 0}
    assert names["near"]["last_seen_at"] and names["silent"]["last_seen_at"] is None
    assert len(names["near"]["shifts"]) == 1 and names["off"]["shifts"] == []
    auditor = Visitor(app, "auditor", [scene.territory_id])
    told = {crew["id"]: crew for crew in data(auditor)["crews"]}[scene.crews["near"]]
    assert told["position"] is None, "where crews are is not for everybody"
    assert told["last_seen_at"]


def test_filters_narrow_list_and_data_alike(scene: Scene, person: Visitor) -> None:
    for query, names in {
        "status=in_progress": {"working"},
        "status=in_progress,completed": {"working", "done"},
        "status=cancelled": {"cancelled"},
        "kind=meter_change&kind=safety_inspection": {"meter", "inspection"},
        "promise=over": {"late"},
        "priority=1": {"hazard"},
        "crew=none": {"new", "hazard", "late", "soon"},
        "q=quay+HAZ": {"hazard"},
        "q=%25": set(),
        "q=cancelled": {"cancelled"},
        "status=completed&day=2020-02-02": set(),
        "priority=3&promise=over&crew=none&kind=repair&q=late": {"late"},
        f"crew={scene.crews['far']}": {"meter", "inspection"},
        f"territory={scene.territory_id}&status=in_progress": {"working"},
    }.items():
        assert set(named(scene, listed(person, query))) == names, query
        assert set(named(scene, list(data(person, f"/board/data?{query}")["jobs"]))) == names, query
    far = scene.crews["far"]
    assert set(named(scene, listed(person, f"crew={far}&crew=none"))) >= {"meter", "inspection", "late"}
    assert [crew["id"] for crew in data(person, f"/board/data?crew={far}")["crews"]] == [far]


def test_a_filter_that_cannot_be_used_is_said_beside_it_and_the_others_still_count(
    scene: Scene, person: Visitor
) -> None:
    for query, said in {
        "status=asleep": "must be one of",
        "kind=plumbing": "must be one of",
        "priority=0": "must be one of",
        "promise=perhaps": "must be one of",
        "crew=nobody-we-know": "There is none like this in your territories.",
        "territory=elsewhere": "There is none like this in your territories.",
        "day=yesterday": "must be a date such as",
        "day=2026-02-30": "There is no such day.",
        "q=" + "x" * 101: "must have 1 to 100 characters",
        "q=%00": "must not contain NUL",
    }.items():
        name = query.partition("=")[0]
        other = "" if name == "status" else "&status=in_progress"
        page = person.get(f"/?{query}{other}")
        assert page.status_code == 200
        assert re.search(rf'<p class="fault" id="fault-{name}" >[^<]*{re.escape(said)}', page.text), query
        piece = person.piece(f"/?{query}{other}")
        assert re.search(rf'id="fault-{name}" hx-swap-oob="true" >[^<]*{re.escape(said)}', piece.text), query
        if other:
            assert named(scene, list(data(person, f"/board/data?{query}{other}")["jobs"])) == ["working"]
    for query in "first=x first=-1 first=99999999999999999999 status= status=,, unknown=1 q=&day=".split():
        assert person.get(f"/?{query}").status_code == 200, query
        assert data(person, f"/board/jobs?{query}&ids=,,x,{'y' * 200}")["jobs"] == {}


def test_nothing_of_other_territories_is_shown_counted_or_told(app: Flask, scene: Scene) -> None:
    other, here = Scene(scene.field), Scene(scene.field)
    stranger = Visitor(app, territory_ids=[other.territory_id])
    ids = ",".join(scene.jobs.values())
    asked = data(stranger, f"/board/jobs?ids={ids}&crews={','.join(scene.crews.values())}&counts=1")
    assert asked["jobs"] == {} and asked["crews"] == [] and set(asked["gone"]) == set(scene.jobs.values())
    assert asked["counts"]["shown"] == len(data(stranger)["jobs"])
    assert scene.jobs["soon"] not in stranger.get(f"/board/rows?ids={ids}").text
    assert not set(listed(stranger)) & set(scene.jobs.values())
    page = stranger.get("/").text
    assert scene.code not in page and "Harbour" in page
    assert set(data(Visitor(app))["jobs"]) >= set(scene.jobs.values()) - {scene.jobs["cancelled"]}
    here.field.assign(here.job("Helped"), other.crews["near"])
    neighbour = Visitor(app, territory_ids=[here.territory_id])
    guest = next(crew for crew in data(neighbour)["crews"] if crew["id"] == other.crews["near"])
    assert guest["position"] is None and guest["last_seen_at"] is None and not guest["silent"]


def test_changed_jobs_come_as_lines_and_as_data_and_those_that_no_longer_fit_are_gone(
    scene: Scene, person: Visitor
) -> None:
    soon, late = scene.jobs["soon"], scene.jobs["late"]
    lines = person.get(f"/board/rows?ids={soon},{late}&promise=soon").text
    assert f'id="job-{soon}"' in lines and late not in lines
    found = data(person, f"/board/jobs?ids={soon},{late}&promise=soon")
    assert list(found["jobs"]) == [soon] and found["gone"] == [late] and found["counts"] is None
    order = re.findall(r'data-order="([^"]+)"', person.get("/").text)
    assert order == sorted(order), "a script can put a line where it belongs"


def test_list_and_data_are_bounded(app: Flask) -> None:
    scene = Scene(Field(app))
    person = Visitor(app, territory_ids=[scene.territory_id])
    with app.app_context(), transaction():
        db.session.add_all(a_job(scene, number=f"J-M{number:04}", priority=9) for number in range(150))
    page = person.get("/?priority=9")
    assert len(re.findall(r'<li class="job ', page.text)) == 100
    more = re.search(r'hx-get="(/\?first=100[^"]*)"', page.text)
    assert more
    rest = person.piece(more[1].replace("&amp;", "&"))
    assert len(re.findall(r'<li class="job ', rest.text)) == 50 and "hx-get" not in rest.text
    assert "<form" not in rest.text
    found = data(person, "/board/data?priority=9")
    assert len(found["jobs"]) == 150
    with app.app_context(), reading():
        wanted, scope = Wanted(TODAY, priority=(9,)), {scene.territory_id}
        assert not board.counts(wanted, scope, utc_now(), most=150)["cut"]
        assert board.counts(wanted, scope, utc_now(), most=149)["cut"]
        assert len(board.jobs(wanted, scope, utc_now(), first=10, most=149)) == 140
    packed = person.get("/board/data?priority=9", Accept="application/json", Accept_Encoding="gzip")
    assert packed.headers["Content-Encoding"] == "gzip"
    assert len(json.loads(gzip.decompress(packed.data))["jobs"]["rows"]) == 150
    assert packed.headers["Cache-Control"] == "no-store"


def a_job(scene: Scene, **members: Any) -> Job:
    now = utc_now()
    facts = {
        "id": new_id(), "kind": "repair", "status": "waiting_to_be_scheduled", "title": "No supply",
        "territory_id": scene.territory_id, "service_minutes": 45, "created_at": now, "updated_at": now,
    }  # fmt: skip
    return Job(**facts | members)


def test_the_database_ranks_jobs_as_plans_do(app: Flask) -> None:
    scene = Scene(Field(app))
    now, made = utc_now(), {}
    at_risk_from = now + timedelta(minutes=120)
    graded = dict(zip((place.customer_id for place in scene.places), ("special", "second", "none"), strict=True))
    with app.app_context():
        with transaction():
            for customer_id, grade in graded.items():
                db.session.get_one(Customer, customer_id).importance = grade
            for number, (hazard, promised, customer, hours) in enumerate(
                itertools.product((False, True), (False, True), (None, *graded), (None, 1, 30))
            ):
                due = now + timedelta(hours=hours) if hours else None
                hazards = ["gas"] if hazard else []
                job = a_job(scene, number=f"J-T{number}", due_at=due, hazards=hazards, customer_id=customer)
                db.session.add(job)
                db.session.flush()
                if promised:
                    clock = {"kind": "arrival", "started_at": now, "due_at": now + timedelta(hours=3), "source": "x"}
                    db.session.add(CommitmentClock(id=new_id(), job_id=job.id, **clock))
                importance = graded.get(customer or "")
                made[job.id] = tier(Standing(hazard, promised, importance, due, at_risk_from))
        with reading():
            found = {card.id: card.tier for card in board.jobs(Wanted(TODAY), {scene.territory_id}, now)}
    assert {job_id: found[job_id] for job_id in made} == made
    assert set(made.values()) == {"hazard", "emergency", "important", "at_risk", "planned"}


# ----- saved views


def kept(person: Visitor) -> list[tuple[str, str]]:
    page = person.get("/").text
    return re.findall(r'<li>\s*<a href="/\?([^"]*)"[^>]*>([^<]+)</a>', page)


def test_views_are_kept_renamed_changed_and_removed_by_their_owner_alone(
    app: Flask, scene: Scene, person: Visitor
) -> None:
    saved = person.post("/board/views?status=in_progress&promise=over&first=7&kind=plumbing", name="Mine <b>")
    assert (saved.status_code, saved.location) == (303, "/?status=in_progress&promise=over")
    assert kept(person) == [("status=in_progress&amp;promise=over", "Mine &lt;b&gt;")], "what can be used of it"
    other = Visitor(app, territory_ids=[scene.territory_id])
    assert kept(other) == []
    with app.app_context(), reading():
        (view,) = views.of(person.staff_id)
    address = f"/board/views/{view.id}"
    for path in ("", "/name", "/remove"):
        assert other.post(address + path, name="Taken").status_code == 404
    assert person.post(f"{address}/name?q=x", name="Storm").location == "/?q=x"
    assert person.post(f"{address}?crew=none").status_code == 303
    assert kept(person) == [("crew=none", "Storm")]
    assert person.post(f"{address}/remove").status_code == 303
    assert kept(person) == []
    assert person.post(f"{address}/remove").status_code == 404
    auditor = Visitor(app, "auditor", [scene.territory_id])
    assert auditor.post("/board/views?q=1", name="Auditors have views too").status_code == 303


def test_names_of_views_are_unique_and_what_was_typed_stays(app: Flask) -> None:
    person = Visitor(app)
    person.post("/board/views?q=a", name="Day")
    person.post("/board/views?q=b", name="Night")
    again = person.post("/board/views?q=c", name="Day")
    assert again.status_code == 422
    assert 'value="Day" aria-invalid="true"' in again.text and "you have a view Day already" in again.text
    with app.app_context(), reading():
        day = next(view for view in views.of(person.staff_id) if view.name == "Day")
    taken = person.post(f"/board/views/{day.id}/name", name="Night")
    assert taken.status_code == 422 and "you have a view Night already" in taken.text
    for name in ("", "x" * 61, "a\0b"):
        refused = person.post("/board/views", name=name)
        assert refused.status_code == 422, name
        assert 'id="view-name-fault"' in refused.text
    assert len(kept(person)) == 2


def test_an_account_has_so_many_views_and_no_more(app: Flask) -> None:
    person = Visitor(app)
    for number in range(views.MOST):
        assert person.post("/board/views", name=f"View {number}").status_code == 303
    refused = person.post("/board/views", name="One more")
    assert refused.status_code == 409
    assert f"you have {views.MOST} views, which is the most" in refused.text
    assert len(kept(person)) == views.MOST
    other = Visitor(person.app)
    assert other.post("/board/views?q=" + "x" * 100, name="Long").status_code == 303
    with person.app.app_context():
        with transaction():
            views.save(other.staff_id, "Longest", "x" * views.LONGEST, utc_now())
        with pytest.raises(Conflict, match="more filters than a view can keep"), transaction():
            views.save(other.staff_id, "Longer", "x" * (views.LONGEST + 1), utc_now())
