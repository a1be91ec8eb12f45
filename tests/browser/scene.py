"""A small scene for tests of the console: one territory where nobody else is, with crews and customers on a bad day.

Everything is made through the service itself, in about a second. Names of jobs say what is the matter with them::

    scene = Scene(served.field)
    person = console(territory_ids=[scene.territory_id])
    person.open(f"/jobs/{scene.jobs['late']}")
"""

from __future__ import annotations

import dataclasses
import itertools
from datetime import timedelta
from typing import Any

from fieldsvc.base.clock import format_time, utc_now
from tests import factories
from tests.field import Field, Phone, Place, done, repaired

_numbers = itertools.count(1)
SIZE = 0.1
"""Edge of the territory in degrees."""


@dataclasses.dataclass
class Scene:
    """A territory, and what is in it.

    ``crews``: ``near`` and ``far`` are on duty and have been heard of, ``silent`` is on duty and has not for two hours,
    ``off`` has no shift today. ``phones``: of near and far. ``places``: customers with a meter each. ``jobs``: ``new``,
    ``hazard``, ``late`` (its promise is broken) and ``soon`` (runs out in ten minutes) wait; ``given`` is with near,
    ``working`` is worked on by near, ``meter`` (with a window) and ``inspection`` are with far, ``done`` was completed
    today, ``cancelled`` was worked on although it was cancelled, which is the open review ``review_id``; in ``given``
    two phones of one crew wrote different things, of which the open review ``merged_id`` tells.
    """

    field: Field
    territory_id: str = ""
    code: str = ""
    west: float = 0.0
    south: float = 0.0
    crews: dict[str, str] = dataclasses.field(default_factory=dict)
    phones: dict[str, Phone] = dataclasses.field(default_factory=dict)
    places: list[Place] = dataclasses.field(default_factory=list)
    jobs: dict[str, str] = dataclasses.field(default_factory=dict)
    review_id: str = ""
    merged_id: str = ""

    def __post_init__(self) -> None:
        number = next(_numbers)
        self.code = f"SC-{number}"
        self.west, self.south = -40.0 + 0.5 * (number % 40), -40.0 + 0.5 * (number // 40)
        feature = factories.square(self.code, self.west, self.south, SIZE, name=f"Harbour {number}")
        self.territory_id = factories.make_territories(self.field.app, feature)[self.code]
        self._crews()
        self.places = [self.field.place(**self.at(0.2 + 0.3 * n, 0.3)) for n in range(3)]
        self._jobs()
        self._reviews()

    def at(self, x: float, y: float) -> dict[str, Any]:
        """The place a share of the way through the territory, from west and south."""
        return {"lon": round(self.west + SIZE * x, 6), "lat": round(self.south + SIZE * y, 6)}

    def job(self, title: str = "No supply", x: float = 0.5, y: float = 0.5, **members: Any) -> str:
        """The id of a further job at a place of its own."""
        members = {"kind": "repair", "title": title, "address": f"Quay {title}"} | members
        return str(done(self.field.office.post("/v1/jobs", json={**self.at(x, y), **members}), 201)["id"])

    def _crews(self) -> None:
        now = utc_now()
        for place, name in enumerate(("near", "far", "silent", "off")):
            crew_id = factories.make_crew(
                self.field.app, f"{self.code}-{name}", [self.territory_id], on_duty=False,
                **self.at(0.2 + 0.2 * place, 0.8),
            )  # fmt: skip
            self.crews[name] = crew_id
            if name != "off":
                factories.make_shift(self.field.app, crew_id, now - timedelta(hours=2), 8)
        for name, x in (("near", 0.45), ("far", 0.85)):
            phone = self.phones[name] = self.field.phone(self.crews[name])
            done(phone.client.post("/sync/v1/hello", json={"device_time": format_time(now)}))
            position = {"at": format_time(now - timedelta(minutes=3)), **self.at(x, 0.6), "accuracy_m": 8}
            done(phone.post([], positions=[position]))

    def _jobs(self) -> None:
        now = utc_now()
        reported = {"late": 70, "soon": 35, "hazard": 5, "new": 1, "given": 20, "working": 30, "done": 40}
        for place, (name, minutes) in enumerate(reported.items()):
            more = {"hazards": ["wire_down"]} if name == "hazard" else {}
            self.jobs[name] = self.job(
                name.capitalize(), 0.1 + 0.12 * place, 0.5, priority=1 if more else 3,
                reported_at=format_time(now - timedelta(minutes=minutes)), **more,
            )  # fmt: skip
        window = {
            "window_start": format_time(now + timedelta(hours=1)),
            "window_end": format_time(now + timedelta(hours=3)),
        }
        planned = {"meter": ("meter_change", window), "inspection": ("safety_inspection", {})}
        for (name, (kind, members)), customer in zip(planned.items(), self.places, strict=False):
            self.jobs[name] = self.field.job(kind, self.crews["far"], customer, title=name.capitalize(), **members)
        self.jobs["cancelled"] = self.job("Cancelled", 0.9, 0.2)
        for name in ("given", "working", "done", "cancelled"):
            self.field.assign(self.jobs[name], self.crews["near"])

    def _reviews(self) -> None:
        near, given = self.phones["near"], self.jobs["given"]
        second = self.field.phone(self.crews["near"])
        near.pull(), second.pull()
        self.field.cancel(self.jobs["cancelled"])
        at = {"occurred_at": format_time(utc_now())}
        ops = [
            near.op("job.start", self.jobs["working"], **at),
            near.op("job.complete", self.jobs["done"], repaired(), **at),
            near.edit(given, {"access_note": None}, {"access_note": "back gate"}, **at),
            near.op("job.complete", self.jobs["cancelled"], repaired(), **at),
        ]
        assert near.send(*ops) == ["applied", "applied", "applied", "parked"]
        late = second.edit(given, {"access_note": None}, {"access_note": "cellar"}, **at)
        assert second.send(late) == ["applied_conflict"]
        self.review_id = self.field.reviews(job=self.jobs["cancelled"])[0]["id"]
        self.merged_id = self.field.reviews(job=given)[0]["id"]
