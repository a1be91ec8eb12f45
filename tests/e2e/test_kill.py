"""A worker is killed before every single statement of reconciling a meter exchange, and started again: applied once."""

from __future__ import annotations

from typing import Any

from flask import Flask
from sqlalchemy import select

from fieldsvc.base.db import Base, db, reading
from tests.field import Field, exchange
from tests.killed import killing

Whole = dict[str, list[Any]]


def whole(app: Flask) -> Whole:
    """Everything the database holds."""
    with app.app_context(), reading():
        return {
            table.name: [tuple(row) for row in db.session.execute(select(table).order_by(*table.primary_key))]
            for table in Base.metadata.sorted_tables
        }


def test_a_worker_killed_before_every_statement_leaves_all_or_nothing(app: Flask) -> None:
    field = Field(app)
    place, phone = field.place(), field.phone()
    job = field.job("meter_change", phone.crew_id, place)
    phone.pull()
    op = phone.op("meter.exchange", job, exchange(place, "NEW-1", removed=("S-OLD",), fitted=("S-1", "S-2")))
    assert phone.push(op) == ["accepted"]
    before, statements = whole(app), 0
    with killing(app) as kill:
        while True:
            statements += 1
            assert kill(statements, "reconcile", phone.install_id) == "killed", (
                f"{statements} statements came before the end"
            )
            if (after := whole(app)) != before:
                break
            assert statements < 200
        assert kill(0, "reconcile", phone.install_id) == "done", "the next worker"
        assert kill(0, "reconcile", phone.install_id) == "done", "and one more"
    assert statements > 20, "the statement after the COMMIT is the first before which all is there"
    assert whole(app) == after, "what was applied is not applied again"

    assert [one["asset_no"] for one in field.get(f"/v1/customers/{place.customer_id}")["installations"]["items"]] == [
        "NEW-1",
        place.asset_no,
    ]
    actions = [entry["action"] for entry in field.history(operation=op["op_id"])]
    assert len(actions) == len(set(actions)) + 1 and actions.count("seal.fitted") == 2
    changes = phone.pull()
    assert len({(change["entity"], change["id"]) for change in changes}) == len(changes)
    assert phone.outcome(op) == "applied" and phone.copy["job", job]["status"] == "in_progress"
    assert [meter["asset_no"] for meter in phone.docs("meter")] == ["NEW-1"]
    fresh = field.phone(phone.crew_id)
    fresh.pull()
    assert fresh.copy == phone.copy
