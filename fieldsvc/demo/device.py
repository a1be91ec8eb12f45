"""A crew's handheld: what it holds offline, what it has written down, what it was told became of it.

Its clock may be wrong; its monotonic clock is right, as on real devices. It never drops an operation before it has
been told its end.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from fieldsvc.base.clock import new_id, utc_now
from fieldsvc.demo.client import Client
from fieldsvc.demo.stage import Crew

TERMINAL = frozenset("applied merged applied_conflict parked superseded rejected forced resolved".split())
_PAGE = 60
"""Rows of a pull: few enough that every device has to page."""

Doc = dict[str, Any]


@dataclass(eq=False)
class Noted:
    """One operation as the device keeps it: what it sends, when that really was, and what it should become."""

    op: dict[str, Any]
    at: datetime
    expect: frozenset[str]
    pushed: bool = False


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


@dataclass(eq=False)
class Device(Holder):
    """One device of ``crew`` at the service ``url``; its clock is ``skew`` ahead of the right time."""

    url: str
    crew: Crew
    zone: ZoneInfo
    skew: timedelta = timedelta(0)
    id: str = ""
    install_id: str = field(default_factory=new_id)
    docs: dict[tuple[str, str], Doc] = field(default_factory=dict)
    notebook: list[Noted] = field(default_factory=list)
    outcomes: dict[str, list[str]] = field(default_factory=dict)
    told: dict[str, Doc] = field(default_factory=dict)
    answers: Counter[str] = field(default_factory=Counter)
    pushes: int = 0
    pages: int = 0

    def __post_init__(self) -> None:
        self.client = Client(self.url)
        self._boot = new_id()
        self._checkpoint: str | None = None
        self._page = _PAGE
        self.batch = 40

    def now(self) -> datetime:
        """What its clock shows."""
        return utc_now() + self.skew

    def enrol(self, code: str) -> None:
        """Turn the code a supervisor read out into a token of its own, then say hello."""
        body = {"code": code, "install_id": self.install_id, "platform": "android 15", "app_version": "3.2.0"}
        enrolled = self.client.post("/sync/v1/enrol", body)
        self.id, self.client.token = enrolled["device_id"], enrolled["token"]
        hello = self.client.post("/sync/v1/hello", {"device_time": self._written(self.now()), "pending": 0})
        self._page = min(_PAGE, hello["limits"]["pull_rows"])
        self.batch = min(self.batch, hello["limits"]["push_ops"])

    def pull(self) -> None:
        """Take every change since the last pull, page by page."""
        more = True
        while more:
            page = self.client.get("/sync/v1/pull", cp=self._checkpoint, limit=self._page)
            for change in page["changes"]:
                self._take(change)
            self._checkpoint, more = page["checkpoint"], page["has_more"]
            self.pages += 1

    def _take(self, change: Doc) -> None:
        key = (change["entity"], change["id"])
        if change["op"] != "put":
            self.docs.pop(key, None)
        elif change["entity"] == "outcome":
            doc = change["doc"]
            self.outcomes.setdefault(doc["op_id"], []).append(doc["outcome"])
            self.told[doc["op_id"]] = doc
        else:
            self.docs[key] = change["doc"]

    def jobs(self, *kinds: str) -> list[Doc]:
        """The jobs it holds, in the order they were planned."""
        held = [doc for (entity, _), doc in self.docs.items() if entity == "job" and doc["crew_id"] == self.crew.id]
        held.sort(key=lambda doc: (doc["planned_order"] or 0, doc["number"]))
        return [doc for doc in held if not kinds or doc["kind"] in kinds]

    def new_meter(self) -> Doc:
        return self.crew.van.pop(0)

    def write(
        self, kind: str, entity: str, about: Doc, at: datetime, content: Doc, expect: Sequence[str] = ("applied",)
    ) -> Noted:
        """Note an operation that happened at ``at`` (right time); ``content`` is payload, was/set or anything else."""
        op = {
            "op_id": new_id(),
            "seq": len(self.notebook) + 1,
            "kind": kind,
            "entity": entity,
            "entity_id": about["id"],
            "base_rev": about["rev"],
            "occurred_at": self._written(at + self.skew),
            "mono_ms": _monotonic_ms() - round((utc_now() - at) / timedelta(milliseconds=1)),
            "boot_id": self._boot,
            "schema_version": 1,
            "app_version": "3.2.0",
        }
        if entity == "job":
            op["assignment_rev"] = about["assignment_rev"]
        noted = Noted({**op, **content}, at, frozenset(expect))
        self.notebook.append(noted)
        return noted

    def due(self, until: datetime | None = None) -> list[Noted]:
        """What has happened by now (or ``until``) and was not sent yet."""
        until = until or utc_now()
        return [noted for noted in self.notebook if not noted.pushed and noted.at <= until]

    def push(self, noted: Sequence[Noted]) -> list[Doc]:
        """Send operations in one push; answers the results."""
        results = self._push([one.op for one in noted])
        for one in noted:
            one.pushed = True
        return results

    def push_raw(self, op: Doc) -> Doc:
        """Send one operation that is not in the notebook."""
        return self._push([op])[0]

    def _push(self, ops: Sequence[Doc]) -> list[Doc]:
        body = {
            "install_id": self.install_id,
            "device_time": self._written(self.now()),
            "mono_ms": _monotonic_ms(),
            "boot_id": self._boot,
            "ops": ops,
        }
        results: list[Doc] = self.client.post("/sync/v1/push", body)["results"]
        self.pushes += 1
        self.answers.update(result["status"] for result in results)
        return results

    def push_all(self, until: datetime | None = None) -> list[Doc]:
        """Send everything that is due, in order, in as many pushes as it takes."""
        due = self.due(until)
        results: list[Doc] = []
        for start in range(0, len(due), self.batch):
            results += self.push(due[start : start + self.batch])
        return results

    def unsettled(self) -> list[Noted]:
        """What was sent and whose end it has not been told."""
        return [noted for noted in self.notebook if noted.pushed and not self.end_of(noted)]

    def end_of(self, noted: Noted) -> str | None:
        """What became of an operation, as the device was told last; None while it does not know."""
        told = self.outcomes.get(noted.op["op_id"])
        return told[-1] if told and told[-1] in TERMINAL else None

    def _written(self, moment: datetime) -> str:
        return moment.astimezone(self.zone).isoformat(timespec="milliseconds")


def _monotonic_ms() -> int:
    return time.monotonic_ns() // 1_000_000
