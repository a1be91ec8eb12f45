"""A crew's handheld: an app built on the documented client of the sync protocol, with what a crew looks up in it.

Its clock may be wrong; its monotonic clock is right, as on real devices. What the crew has written down goes out when
it is due; what became of it is told by the feed.
"""

from __future__ import annotations

import importlib.util
import json
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from fieldsvc.base.clock import utc_now
from fieldsvc.demo.stage import Crew

TERMINAL = frozenset("applied merged applied_conflict parked superseded rejected forced resolved".split())
_PAGE = 60
"""Rows of a pull: few enough that devices have to page."""
_BATCH = 40

Doc = dict[str, Any]

_pause = threading.Event()


def _documented_client() -> Any:
    """``docs/sync-protocol/client.py``; in an installed package it lies beside this module."""
    packed = Path(__file__).with_name("sync_client.py")
    path = packed if packed.exists() else Path(__file__).parents[2] / "docs" / "sync-protocol" / "client.py"
    spec = importlib.util.spec_from_file_location("fieldsvc.demo.sync_client", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


client = _documented_client()


@dataclass(eq=False)
class Noted:
    """What a crew did at ``at`` (right time) and what it should become; ``op`` is what was sent, once it was due."""

    kind: str
    entity: str
    about: Doc
    at: datetime
    content: Doc
    expect: frozenset[str]
    op: Doc = field(default_factory=dict)

    @property
    def pushed(self) -> bool:
        return bool(self.op)


class Holder:
    """What a device holds offline, as far as a crew at work looks things up in it."""

    docs: dict[tuple[str, str], Doc]

    def around(self, job: Doc, entity: str) -> list[Doc]:
        """The documents of ``entity`` at the usage point of a job."""
        return [
            doc
            for (kind, _), doc in self.docs.items()
            if kind == entity and job["usage_point_id"] and doc["usage_point_id"] == job["usage_point_id"]
        ]

    def meter_of(self, job: Doc) -> Doc | None:
        """The meter on record at a job's usage point."""
        found = self.around(job, "meter")
        return found[0] if found else None

    def new_meter(self) -> Doc:
        """The next new meter out of the van."""
        raise NotImplementedError


class _App(client.Device):  # type: ignore[name-defined]
    """The documented client on a clock that may be wrong; counts what it hears."""

    def __init__(self, url: str, zone: ZoneInfo) -> None:
        super().__init__(":memory:", url, pause=_pause.wait)
        self.zone, self.skew = zone, timedelta(0)
        self.pages = self.pushes = 0
        self.answers: Counter[str] = Counter()
        self.outcomes: dict[str, list[str]] = {}
        self.told: dict[str, Doc] = {}

    def clocks(self, name: str) -> Doc:
        return self.clocks_at(name, utc_now())

    def clocks_at(self, name: str, moment: datetime) -> Doc:
        """What its clocks showed at ``moment`` (right time)."""
        shown = (moment + self.skew).astimezone(self.zone).isoformat(timespec="milliseconds")
        ago = (utc_now() - moment) // timedelta(milliseconds=1)
        return {name: shown, "mono_ms": time.monotonic_ns() // 1_000_000 - ago, "boot_id": client.BOOT}

    def send(self, bodies: Sequence[str]) -> list[Doc]:
        """Push these operations, whatever is in the outbox; answers the results."""
        head = json.dumps({"install_id": self._get("install_id")} | self.clocks("device_time"))
        told = self._call("POST", "push", head[:-1] + ', "ops": [' + ", ".join(bodies) + "]}")
        results: list[Doc] = told["results"]
        return results

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        told = super()._call(method, path, body)
        self.pages += path.startswith("pull")
        if path == "push":
            self.pushes += 1
            self.answers.update(result["status"] for result in told["results"])
        return told

    def _settle(self, outcome: Doc) -> None:
        super()._settle(outcome)
        known = self.outcomes.setdefault(outcome["op_id"], [])
        if known[-1:] != [outcome["outcome"]]:
            known.append(outcome["outcome"])
        self.told[outcome["op_id"]] = outcome


class Device(Holder):
    """One device of ``crew`` at the service ``url``; ``notebook`` is what its crew did, in its order."""

    def __init__(self, url: str, crew: Crew, zone: ZoneInfo) -> None:
        self.crew = crew
        self.app = _App(url, zone)
        self.id = ""
        self.notebook: list[Noted] = []
        self.batch, self._page = _BATCH, _PAGE
        self.docs: dict[tuple[str, str], Doc] = {}

    @property
    def skew(self) -> timedelta:
        """How far its clock is ahead of the right time."""
        return self.app.skew

    @skew.setter
    def skew(self, by: timedelta) -> None:
        self.app.skew = by

    def enrol(self, code: str) -> None:
        """Turn the code a supervisor read out into a token of its own, then say hello."""
        self.app.enrol(code)
        self.id = self.app._get("device_id")
        limits = self.app.hello()["limits"]
        self._page, self.batch = min(_PAGE, limits["pull_rows"]), min(_BATCH, limits["push_ops"])

    def pull(self) -> None:
        """Take every change since the last pull, page by page; the first time, the whole copy."""
        self.app.pull(self._page)
        held = self.app.db.execute("SELECT entity, id, doc FROM copy WHERE entity <> 'outcome'")
        self.docs = {(entity, entity_id): json.loads(doc) for entity, entity_id, doc in held}

    def jobs(self, *kinds: str) -> list[Doc]:
        """The jobs it holds, in the order they were planned."""
        held = [doc for (entity, _), doc in self.docs.items() if entity == "job" and doc["crew_id"] == self.crew.id]
        held.sort(key=lambda doc: (doc["planned_order"] or 0, doc["number"]))
        return [doc for doc in held if not kinds or doc["kind"] in kinds]

    def new_meter(self) -> Doc:
        return self.crew.van.pop(0)

    def write(
        self, kind: str, entity: str, about: Doc, at: datetime, content: Doc, expect: Sequence[str] = ("applied",)
    ) -> None:
        """Note what will have happened at ``at`` (right time); ``content`` is payload, was/set or anything else."""
        self.notebook.append(Noted(kind, entity, about, at, content, frozenset(expect)))

    def take_down(self, until: datetime | None = None) -> list[Noted]:
        """Put what has happened by now (or ``until``) and is new into the app's outbox; answers it."""
        until = until or utc_now()
        new = [noted for noted in self.notebook if not noted.pushed and noted.at <= until]
        for noted in new:
            seen = {"base_rev": noted.about["rev"], "app_version": "3.2.0"}
            if noted.entity == "job":
                seen["assignment_rev"] = noted.about["assignment_rev"]
            when = self.app.clocks_at("occurred_at", noted.at)
            op_id = self.app.write(noted.kind, noted.entity, noted.about["id"], **(seen | when | noted.content))
            noted.op = json.loads(self._body(op_id))
        return new

    def _body(self, op_id: str) -> str:
        """An operation as it lies in the outbox."""
        body: str = self.app.db.execute("SELECT body FROM outbox WHERE op_id = ?", (op_id,)).fetchone()[0]
        return body

    def push(self, noted: Sequence[Noted]) -> list[Doc]:
        """Send these operations in one push, whether that is their turn or not; answers the results."""
        return self.app.send([json.dumps(one.op) for one in noted])

    def push_raw(self, op: Doc) -> Doc:
        """Send one operation that is not in the notebook."""
        return self.app.send([json.dumps(op)])[0]

    def push_all(self, until: datetime | None = None) -> None:
        """Send everything that is due, in order, in as many pushes as it takes."""
        self.take_down(until)
        self.app.push(self.batch)

    def unsettled(self) -> list[Noted]:
        """What was sent and whose end it has not been told."""
        return [noted for noted in self.notebook if noted.pushed and not self.end_of(noted)]

    def end_of(self, noted: Noted) -> str | None:
        """What became of an operation, as the device was told last; None while it does not know."""
        told = self.app.outcomes.get(noted.op["op_id"])
        return told[-1] if told and told[-1] in TERMINAL else None
