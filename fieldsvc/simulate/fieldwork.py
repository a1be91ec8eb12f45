"""What a crew does in a quarter of an hour, put down on its phone: the steps of a job, edits, remarks, and mistakes."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import orjson

from fieldsvc.demo.device import Holder
from fieldsvc.demo.fieldwork import Act, Visit, acts
from fieldsvc.simulate import photos
from fieldsvc.simulate.app import App, Doc

_OPEN = ("dispatched", "accepted", "enroute", "on_site", "in_progress", "waiting_on_material", "suspended")
_ENDINGS = ("completed", "not_done", "returned", "wrong_meter", "incomplete")
_ENDING_WEIGHTS = (80, 5, 6, 5, 4)
_IDLE = 0.12
_ASIDE = 0.18
"""How often nothing is done in a step, and how often something beside the job at hand."""
_OF_ANOTHER = 0.1
"""How often a phone works at a job that a colleague's phone has begun."""


class _Held(Holder):
    """What the phone holds, and new meters without end."""

    def __init__(self, app: App, phone: int) -> None:
        self.docs = app.docs()
        self._app, self._phone = app, phone

    def new_meter(self) -> Doc:
        number = int(self._app.get("meters") or 0) + 1
        self._app.set(meters=str(number))
        return {"asset_no": f"SN{self._phone:04}{number:04}", "digits": 6}


def work(
    app: App, phone: int, crew_of: int, chance: random.Random, begins: datetime, ends: datetime,
    others: Callable[[], str | None],
) -> list[str]:  # fmt: skip
    """Write down what is done between two moments; answers the op_ids.

    :param crew_of: how many phones the crew has; each has its share of the crew's jobs.
    :param others: an operation of a colleague's phone, to depend on.
    """
    if chance.random() < _IDLE:
        return []
    count = chance.randint(1, 4)
    written = []
    for place in range(count):
        at = begins + (ends - begins) * ((place + 1) / (count + 1))
        with app.db:
            op_id = _next(app, phone, crew_of, chance, at, others)
        app.here("written")
        if op_id:
            written.append(op_id)
    return written


def _next(
    app: App, phone: int, crew_of: int, chance: random.Random, at: datetime, others: Callable[[], str | None]
) -> str | None:
    if chance.random() < _ASIDE and (aside := _aside(app, chance, others)):
        return _write(app, aside, chance, at)
    row = app.db.execute("SELECT n, act FROM plan ORDER BY n LIMIT 1").fetchone()
    if row is None:
        for act in _visit(app, phone, crew_of, chance):
            app.db.execute("INSERT INTO plan (act) VALUES (?)", (orjson.dumps(act).decode(),))
        row = app.db.execute("SELECT n, act FROM plan ORDER BY n LIMIT 1").fetchone()
    if row is None:
        return None
    app.db.execute("DELETE FROM plan WHERE n = ?", (row[0],))
    return _write(app, orjson.loads(row[1]), chance, at)


def _write(app: App, act: Doc, chance: random.Random, at: datetime) -> str:
    content = photos.taken(app, act, _marked(app, act), chance)
    op_id = app.write(act["kind"], act["entity"], act["id"], content, at)
    photos.belong(app, content, op_id)
    return op_id


def _marked(app: App, act: Doc) -> Doc:
    """The content of an act; a remark is made one of its kind, so that it can be counted afterwards."""
    content: Doc = act["content"]
    payload = content.get("payload")
    name = {"note.add": "text", "job.suspend": "note"}.get(act["kind"])
    if name and isinstance(payload, dict) and isinstance(payload.get(name), str):
        (seq,) = app.db.execute("SELECT coalesce(max(seq), 0) + 1 FROM outbox").fetchone()
        mark = f"{payload[name]} [{(app.get('install_id') or '')[-12:]}-{seq}]"
        return content | {"payload": payload | {name: mark}}
    return content


def _visit(app: App, phone: int, crew_of: int, chance: random.Random) -> list[Doc]:
    """All acts at the next job, in order; none when there is no job."""
    held = _Held(app, phone)
    begun = set((app.get("begun") or "").split())
    jobs = [
        doc
        for (entity, _), doc in held.docs.items()
        if entity == "job" and doc["crew_id"] == app.get("crew_id") and doc["status"] in _OPEN
    ]
    jobs.sort(key=lambda doc: str(doc["number"]))
    mine = [doc for doc in jobs if doc["id"] not in begun and _share(doc, crew_of) == phone % crew_of]
    if chance.random() < _OF_ANOTHER or not mine:
        mine = [doc for doc in jobs if doc["id"] not in begun] or mine
    if not mine:
        return []
    job = mine[0]
    app.set(begun=" ".join([*begun, job["id"]]))
    ending = chance.choices(_ENDINGS, _ENDING_WEIGHTS)[0]
    if job["kind"] == "meter_change" and held.meter_of(job) is None:
        ending = "not_done"
    if job["kind"] == "safety_inspection" and ending in ("wrong_meter", "incomplete"):
        ending = "completed"
    return [_planned(act, job) for act in acts(held, Visit(job, chance.randrange(1000), ending))]


def _share(job: Doc, crew_of: int) -> int:
    return int(job["id"][-4:], 16) % crew_of


def _planned(act: Act, job: Doc) -> Doc:
    entity, about = act.about or ("job", job)
    return {"kind": act.kind, "entity": entity, "id": about["id"], "content": act.content}


# -- beside the job at hand -------------------------------------------------------------------------------------------


def _aside(app: App, chance: random.Random, others: Callable[[], str | None]) -> Doc | None:
    """Something else: an edit, a remark, an app's mistake, work that builds on a colleague's."""
    docs = app.docs("job", "customer")
    jobs = [doc for (entity, _), doc in docs.items() if entity == "job"]
    if not jobs:
        return None
    job = chance.choice(jobs)
    what = chance.choice(("edit", "edit", "customer", "note", "note", "defect", "nonsense", "builds on"))
    if what == "edit":
        return _edit("job", job, chance)
    if what == "customer":
        customer = docs.get(("customer", job["customer_id"] or ""))
        return _edit("customer", customer, chance) if customer else None
    if what == "defect":
        defect = {"description": "Pole leans", "grade_scheme": "grid", "grade": chance.choice(("serious", "general"))}
        return _act("defect.report", job, {"payload": defect})
    if what == "nonsense":
        return _nonsense(job, chance)
    note = _act("note.add", job, {"payload": {"text": "Looked around"}})
    if what == "builds on" and (op_id := others()):
        note["content"]["depends_on"] = [op_id]
    return note


def _act(kind: str, job: Doc, content: Doc) -> Doc:
    return {"kind": kind, "entity": "job", "id": job["id"], "content": content}


def _edit(entity: str, doc: Doc, chance: random.Random) -> Doc:
    """An edit of one or two fields, as the screen showed them."""
    number = chance.randrange(100_000)
    values: dict[str, Any] = {
        "access_note": f"Gate code {number}",
        "contact_phone": f"555-{number:05}",
        "tags": [*(doc.get("tags") or [])[:5], f"tag {number % 7}"],
        "priority": chance.randint(2, 9),
        "title": f"Title of {number}",
        "parts_estimate": [{"code": f"P-{number}", "qty": "1"}],
    }
    if entity == "customer":
        values = {"phone": f"555-{number:05}", "access_note": f"Dog {number}", "name": f"Customer of {number}"}
    chosen: Sequence[str] = chance.sample(sorted(values), chance.randint(1, 2))
    was = {name: doc.get(name) for name in chosen}
    content = {"was": was, "set": {name: values[name] for name in chosen}}
    return {"kind": f"{entity}.update", "entity": entity, "id": doc["id"], "content": content}


def _nonsense(job: Doc, chance: random.Random) -> Doc:
    """What an app at fault may send."""
    made = chance.randrange(6)
    if made == 0:
        return _act("note.add", job, {"payload": {"text": 5}})
    if made == 1:
        return _act("note.add", job, {"payload": {"text": "no zone"}, "occurred_at": "2026-13-40 25:61"})
    if made == 2:
        return _act("note.add", job, {"payload": {"text": "nul \x00 inside"}})
    if made == 3:
        return _act("job.teleport", job, {"payload": {}})
    if made == 4:
        return _act("note.add", {"id": "no-such-job"}, {"payload": {"text": "where was it?"}})
    return _act("job.arrive", job, {"payload": {"position": {"type": "Point", "coordinates": [500, 0]}}})
