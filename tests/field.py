"""A day in the field for tests: an office, crews with their phones, customers with their meters, jobs; all by the API.

A :class:`Phone` is a device as an app would be: it numbers what it does, pushes, pulls until nothing is left, and keeps
the copy that the feed tells it to keep.
"""

from __future__ import annotations

import gzip
import itertools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

from flask import Flask
from flask.testing import FlaskClient

from fieldsvc import rules
from fieldsvc.base.clock import format_time, new_id, utc_now
from fieldsvc.base.db import transaction
from fieldsvc.base.sheet import Layout, Sheet
from fieldsvc.people.actors import SYSTEM
from fieldsvc.records.importing import COLUMNS, CustomerImport
from fieldsvc.sync import reconcile, sweep
from tests import factories

_numbers = itertools.count(1)
Op = dict[str, Any]
TERMINAL = ("applied", "merged", "applied_conflict", "parked", "superseded", "rejected", "resolved")


@dataclass(frozen=True)
class Place:
    """A customer with one usage point and the meter that hangs there."""

    customer_id: str
    customer_number: str
    usage_point_id: str
    meter_id: str
    asset_no: str


class Field:
    """One service with its office. ``drain()`` lets a worker do all that waits."""

    def __init__(self, app: Flask, drain: Callable[[], None] | None = None) -> None:
        self.app = app
        self.drain = drain or self.settle
        self.morning = utc_now().replace(microsecond=0) - timedelta(hours=10)
        self._minutes = itertools.count(1)

    @cached_property
    def office(self) -> FlaskClient:
        """A client that may do everything."""
        return factories.make_staff(self.app)

    def tick(self) -> datetime:
        """A minute later in the field than the last time anybody asked."""
        return self.morning + timedelta(minutes=next(self._minutes))

    def settle(self, now: datetime | None = None, attempts: int = 5) -> int:
        """Decide whatever is due at ``now``, as the sweep and the workers do; answers how many were decided."""
        now, decided = now or utc_now(), 0
        with self.app.app_context():
            while True:
                with transaction():
                    due = sweep.due(now)
                done = sum(reconcile.drain(install, now, attempts).decided for install in due)
                decided += done
                if not done:
                    return decided

    def crew(self, **members: Any) -> str:
        return factories.make_crew(self.app, **members)

    def phone(self, crew_id: str | None = None) -> Phone:
        """A phone of a crew (default: of a new one), enrolled with a code from the office."""
        code = done(self.office.post(f"/v1/crews/{crew_id or self.crew()}/enrolment-codes"), 201)["code"]
        install_id = new_id()
        client = self.app.test_client()
        body = {"code": code, "install_id": install_id, "platform": "android 15", "app_version": "3.2.0"}
        given = done(client.post("/sync/v1/enrol", json=body), 201)
        client = factories.with_token(self.app, given["token"])
        return Phone(self, client, given["device_id"], given["crew_id"], install_id)

    def place(self, last: Mapping[str, str] | None = None, **columns: Any) -> Place:
        """A customer as ``fieldsvc import customers`` makes one; ``last``: the last reading per register."""
        n = next(_numbers)
        number, asset_no = f"C-{n:05}", f"OLD-{n:05}"
        row = {
            "number": number,
            "name": f"Mill {n}",
            "phone": "0359-1000",
            "address": f"Mill lane {n}",
            "lon": 111.55,
            "lat": 35.45,
            "usage_point_number": f"U-{n:05}",
            "meter_asset_no": asset_no,
            "meter_digits": 6,
            "ct_ratio": 1,
            "pt_ratio": 1,
            "installed_at": "2023-01-01T00:00:00Z",
            "last_reading_at": format_time(self.morning - timedelta(days=30)),
        }
        row |= {f"last_reading_{register}": value for register, value in (last or {"total": "48000.0"}).items()}
        row |= columns
        text = ",".join(row) + "\n" + ",".join(str(value) for value in row.values()) + "\n"
        taking = CustomerImport(Layout())
        with self.app.app_context(), transaction():
            taking.take(SYSTEM.source(utc_now()), list(Sheet(text.encode(), Layout(), COLUMNS)))
        assert taking.outcome.created and not taking.outcome.refused, taking.outcome
        found = self.get(f"/v1/customers?q={number}")["items"][0]
        installation = self.get(f"/v1/customers/{found['id']}")["installations"]["items"][0]
        return Place(found["id"], number, installation["usage_point_id"], installation["meter_id"], asset_no)

    def job(self, kind: str = "repair", crew: str | None = None, place: Place | None = None, **members: Any) -> str:
        """The id of a new job, assigned when a crew is named."""
        where = {"usage_point_id": place.usage_point_id} if place else {"lon": 111.55, "lat": 35.45}
        job_id: str = done(self.office.post("/v1/jobs", json={"kind": kind, **where, **members}), 201)["id"]
        if crew is not None:
            self.assign(job_id, crew)
        return job_id

    def assign(self, job_id: str, crew: str) -> None:
        done(self.office.post(f"/v1/jobs/{job_id}/assign", json={"crew_id": crew}))

    def unassign(self, job_id: str, reason: str = "another crew is nearer") -> None:
        done(self.office.post(f"/v1/jobs/{job_id}/unassign", json={"reason": reason}))

    def cancel(self, job_id: str, reason: str = "the caller found the switch") -> None:
        done(self.office.post(f"/v1/jobs/{job_id}/cancel", json={"reason": reason}))

    def get(self, path: str) -> dict[str, Any]:
        return done(self.office.get(path))

    def status(self, job_id: str) -> str:
        return str(self.get(f"/v1/jobs/{job_id}")["status"])

    def reviews(self, **wanted: str) -> list[dict[str, Any]]:
        """Open reviews, oldest first."""
        query = "&".join(f"{name}={value}" for name, value in wanted.items())
        return list(reversed(self.get(f"/v1/reviews?{query}")["items"]))

    def resolve(self, review_id: str, choice: str, note: str = "spoke with the crew", **more: Any) -> Any:
        """The raw answer."""
        return self.office.post(f"/v1/reviews/{review_id}/resolve", json={"choice": choice, "note": note, **more})

    def history(self, **wanted: str) -> list[dict[str, Any]]:
        """Entries in the order they were recorded."""
        query = "&".join(f"{name}={value}" for name, value in {"limit": "200", **wanted}.items())
        return sorted(self.get(f"/v1/history?{query}")["items"], key=lambda entry: entry["seq"])


@dataclass
class Phone:
    """An enrolled device and the copy it keeps."""

    field: Field
    client: FlaskClient
    id: str
    crew_id: str
    install_id: str
    seq: int = 0
    cp: str | None = None
    copy: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    told: dict[str, dict[str, Any]] = field(default_factory=dict)

    def op(self, kind: str, entity_id: str, payload: Any = None, *, entity: str = "job", **members: Any) -> Op:
        """The next operation of this phone."""
        self.seq += 1
        op = {
            "op_id": new_id(),
            "seq": self.seq,
            "kind": kind,
            "entity": entity,
            "entity_id": entity_id,
            "occurred_at": format_time(self.field.tick()),
            "schema_version": 1,
        }
        return op | ({"payload": payload} if payload is not None else {}) | members

    def edit(self, entity_id: str, was: dict[str, Any], new: dict[str, Any], entity: str = "job", **members: Any) -> Op:
        """An edit of fields, based on the revision in this phone's copy."""
        members = {"base_rev": self.rev(entity, entity_id)} | members
        return self.op(f"{entity}.update", entity_id, entity=entity, was=was, set=new, **members)

    def rev(self, entity: str, entity_id: str) -> int | None:
        held = self.copy.get((entity, entity_id))
        return held["rev"] if held else None

    def post(self, ops: list[Any], *, packed: bool = False, **around: Any) -> Any:
        """The raw answer to a push."""
        body = json.dumps({"install_id": self.install_id, "ops": ops, **around}).encode()
        headers = {"Content-Encoding": "gzip"} if packed else {}
        data = gzip.compress(body) if packed else body
        return self.client.post("/sync/v1/push", data=data, content_type="application/json", headers=headers)

    def post_raw(self, ops: bytes) -> Any:
        """The raw answer to a push whose operations are given as bytes."""
        data = b'{"install_id":"' + self.install_id.encode() + b'","ops":' + ops + b"}"
        return self.client.post("/sync/v1/push", data=data, content_type="application/json")

    def push(self, *ops: Op, **around: Any) -> list[str]:
        """The statuses at the moment of pushing."""
        return [result["status"] for result in done(self.post(list(ops), **around))["results"]]

    def send(self, *ops: Op) -> list[str]:
        """Push, let the workers work, pull; what became of each."""
        self.push(*ops)
        self.field.drain()
        self.pull()
        return [self.outcome(op) for op in ops]

    def do(self, kind: str, entity_id: str, payload: Any = None, **members: Any) -> str:
        """One operation from the phone to its outcome."""
        return self.send(self.op(kind, entity_id, payload, **members))[0]

    def outcome(self, op: Op | str) -> str:
        """What the feed told of an operation, else how it stands on the server."""
        op_id = op if isinstance(op, str) else op["op_id"]
        if op_id in self.told:
            return str(self.told[op_id]["outcome"])
        return str(done(self.client.get(f"/sync/v1/ops?ids={op_id}"))["results"][0]["status"])

    def reason(self, op: Op | str) -> str | None:
        reason: str | None = self.told[op if isinstance(op, str) else op["op_id"]]["reason"]
        return reason

    def pull(self, limit: int = 500) -> list[dict[str, Any]]:
        """Everything new, taken over into the copy."""
        changes: list[dict[str, Any]] = []
        more = True
        while more:
            query = f"limit={limit}" + (f"&cp={self.cp}" if self.cp else "")
            page = done(self.client.get(f"/sync/v1/pull?{query}"))
            assert len(page["changes"]) <= limit
            changes += page["changes"]
            self.cp, more = page["checkpoint"], page["has_more"]
        for change in changes:
            self._take(change)
        return changes

    def _take(self, change: dict[str, Any]) -> None:
        key = (change["entity"], change["id"])
        if change["op"] != "put":
            self.copy.pop(key, None)
        elif change["entity"] == "outcome":
            self.told[change["id"]] = change["doc"]
        else:
            self.copy[key] = change["doc"]

    def holds(self, entity: str) -> set[str]:
        return {entity_id for kind, entity_id in self.copy if kind == entity}

    def docs(self, entity: str) -> list[dict[str, Any]]:
        return [doc for (kind, _), doc in self.copy.items() if kind == entity]


def done(answer: Any, status: int = 200) -> dict[str, Any]:
    """The JSON of an answer that must have been ``status``."""
    assert answer.status_code == status, (answer.status_code, answer.get_data(as_text=True)[:2000])
    body: dict[str, Any] = (
        json.loads(gzip.decompress(answer.data)) if answer.content_encoding == "gzip" else answer.json
    )
    return body


def problem(answer: Any) -> tuple[int, str]:
    """Status and code of a problem document."""
    assert answer.mimetype == "application/problem+json", answer.get_data(as_text=True)[:500]
    return answer.status_code, answer.json["type"].removeprefix("/problems/")


def repaired(**members: Any) -> dict[str, Any]:
    """The content of a repair's ``job.complete``."""
    done = {"cause_major": "line", "fault_place": "pole 5", "ownership": "utility", "work_done": "conductor joined"}
    return done | members


def exchange(
    old: Place | str,
    new: str,
    final: Mapping[str, str] | str = "48213.6",
    initial: Mapping[str, str] | str = "0.0",
    removed: tuple[str, ...] = (),
    fitted: tuple[str, ...] = (),
    **new_members: Any,
) -> dict[str, Any]:
    """The content of a ``meter.exchange``; readings are those of ``total`` unless given per register."""
    return {
        "old": {
            "asset_no": old if isinstance(old, str) else old.asset_no,
            "registers": {"total": final} if isinstance(final, str) else dict(final),
            "seals": list(removed),
        },
        "new": {
            "asset_no": new,
            "digits": 6,
            "registers": {"total": initial} if isinstance(initial, str) else dict(initial),
            "seals": [{"number": number, "position": "cover"} for number in fitted],
            **new_members,
        },
    }


def checklist_codes() -> list[str]:
    """The item codes of the inspection checklist in force, in order."""
    value = rules.load().checklist("safety_inspection", utc_now().date()).value
    return [item["code"] for stage in value["stages"] for item in stage["items"]]


def inspected(
    results: Mapping[str, str] | None = None, codes: list[str] | None = None, **members: Any
) -> dict[str, Any]:
    """The content of an ``inspection.record``: every item (or ``codes``) passes but those in ``results``."""
    value = rules.load().checklist("safety_inspection", utc_now().date()).value
    items = [{"code": code, "result": (results or {}).get(code, "pass")} for code in codes or checklist_codes()]
    return {"checklist": value["name"], "checklist_version": value["version"], "items": items, **members}
