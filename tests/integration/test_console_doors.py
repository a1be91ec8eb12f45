"""Every page of the console, as the application's own map has them: who gets in, and what a stranger learns."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from flask import Flask
from sqlalchemy import select
from werkzeug.routing import Rule

from fieldsvc.base.clock import new_id
from fieldsvc.base.db import db, reading
from fieldsvc.people.models import Crew, Device, Territory
from fieldsvc.sync.models import Attachment
from fieldsvc.work.models import Incident, Ticket
from tests import factories
from tests.browser.scene import Scene
from tests.field import Field
from tests.visitor import Visitor

_FOR_ALL = {"console.static", "console.library", "console.sign_in_page", "console.sign_in", "console.preferences"}
_OWN = {"token_id", "view_id"}
"""Ids of things that belong to the account itself."""


def rules(app: Flask, method: str) -> Iterator[Rule]:
    for rule in app.url_map.iter_rules():
        if rule.endpoint.startswith("console.") and method in (rule.methods or ()) and rule.endpoint not in _FOR_ALL:
            yield rule


def path(rule: Rule, ids: dict[str, str]) -> str:
    """An address of ``rule``; what there is none of gets the id of nothing."""
    values = {name: ids.get(name, new_id()) for name in rule.arguments}
    values |= {name: "outcome" for name in ("what",) if name in values}
    values |= {name: "undo" for name in ("word",) if name in values}
    built = rule.build(values)
    assert built is not None
    return built[1]


@pytest.fixture
def scene(app: Flask) -> Scene:
    """The scene, with a ticket and its incident."""
    scene = Scene(Field(app))
    ticket = {"reporting_kind": "call", "trouble_code": "no_power", **scene.at(0.5, 0.5)}
    assert scene.field.office.post("/v1/tickets", json=ticket).status_code == 201
    run = scene.field.office.post("/v1/dispatch-runs", json={"what_if": True, "territory_ids": [scene.territory_id]})
    assert run.status_code == 202, run.text
    scene.jobs["run"] = run.get_json()["id"]
    return scene


def ids_of(scene: Scene) -> dict[str, str]:
    """An id of everything in the scene, by the name that addresses have for it."""
    place = scene.places[0]
    with scene.field.app.app_context(), reading():
        ticket = db.session.scalars(select(Ticket)).first()
        incident = db.session.scalars(select(Incident)).first()
        device = db.session.scalars(select(Device).where(Device.crew_id == scene.crews["near"])).first()
        file = db.session.scalars(select(Attachment)).first()
        assert ticket and incident and device
        found = {"ticket_id": ticket.id, "incident_id": incident.id, "device_id": device.id}
        if file is not None:
            found["attachment_id"] = file.id
    return found | {
        "job_id": scene.jobs["working"],
        "crew_id": scene.crews["near"],
        "review_id": scene.review_id,
        "territory_id": scene.territory_id,
        "run_id": scene.jobs["run"],
        "customer_id": place.customer_id,
        "usage_point_id": place.usage_point_id,
        "meter_id": place.meter_id,
        "op_id": next(one["op_id"] for one in scene.field.history(job=scene.jobs["working"]) if one["op_id"]),
    }


def test_a_stranger_gets_no_page_and_changes_nothing(app: Flask) -> None:
    stranger = app.test_client()
    for rule in rules(app, "GET"):
        answer = stranger.get(path(rule, {}), headers={"Accept": "text/html"})
        assert (answer.status_code, "/sign-in" in (answer.location or "")) == (302, True), rule.rule
    for rule in rules(app, "POST"):
        answer = stranger.post(path(rule, {}), headers={"Accept": "text/html"})
        assert (answer.status_code, "/sign-in" in (answer.location or "")) == (302, True), rule.rule


def test_every_page_of_ones_own_territory_opens_and_none_of_another(app: Flask, scene: Scene) -> None:
    elsewhere = factories.make_territories(app, factories.square("ELSEWHERE", 60, 60))["ELSEWHERE"]
    own, ids = Visitor(app, "supervisor", [scene.territory_id]), ids_of(scene)
    foreign = Visitor(app, "supervisor", [elsewhere])
    listing = []
    for rule in rules(app, "GET"):
        if not rule.arguments - _OWN:
            listing.append(rule)
            continue
        address = path(rule, ids)
        refused = foreign.get(address).status_code
        if own.get(address).status_code == 403:  # for accounts of all territories, whoever asks
            assert refused == 403, rule.rule
            continue
        assert refused == 404, rule.rule
        if rule.arguments <= ids.keys():
            assert own.get(address).status_code in (200, 204, 302, 303), rule.rule
    names = (scene.code, "Quay Working", scene.places[0].customer_number, scene.places[0].asset_no)
    for rule in listing:
        answer = foreign.get(path(rule, {}))
        assert answer.status_code in (200, 302, 303, 403, 404, 409, 422), rule.rule
        if answer.status_code == 200 and answer.mimetype != "text/event-stream":
            assert [name for name in names if name in answer.text] == [], rule.rule
        answer.close()


def test_an_auditor_changes_nothing_and_sees_no_button_for_it(app: Flask, scene: Scene) -> None:
    auditor, ids = Visitor(app, "auditor"), ids_of(scene)
    with app.app_context(), reading():
        before = {model: db.session.scalars(select(model.rev).order_by(model.id)).all() for model in (Crew, Territory)}
    allowed = {"sign_out", "change_password", "end_session", "end_other_sessions", "new_token", "revoke_token",
               "view_new", "view_name", "view_change", "view_remove", "export_history"}  # fmt: skip
    for rule in rules(app, "POST"):
        if rule.endpoint.removeprefix("console.") not in allowed:
            assert auditor.post(path(rule, ids)).status_code == 403, rule.rule
    for rule in rules(app, "GET"):
        if rule.endpoint == "console.board_stream" or not rule.arguments <= ids.keys():
            continue
        page = auditor.get(path(rule, ids))
        if page.status_code == 200 and page.mimetype == "text/html":
            acts = [part.split('"')[0] for part in page.text.split('method="post" action="')[1:]]
            kept = ("/preferences", "/sign-out", "/account", "/board/views", "/history/export")
            assert [act for act in acts if not act.startswith(kept)] == [], rule.rule
    with app.app_context(), reading():
        assert before == {m: db.session.scalars(select(m.rev).order_by(m.id)).all() for m in (Crew, Territory)}


def test_a_page_that_cannot_be_read_from_its_address_says_so(app: Flask, scene: Scene) -> None:
    visitor, ids = Visitor(app, "supervisor"), ids_of(scene)
    odd = "?cursor=%00&limit=99999999999999999999&first=x&day=2026-02-31&status=%00&x=%ff&q=" + "%F0%9F%A7%AF" * 300
    for rule in rules(app, "GET"):
        if rule.endpoint == "console.board_stream" or not rule.arguments <= ids.keys():
            continue
        assert visitor.get(path(rule, ids) + odd).status_code < 500, rule.rule
