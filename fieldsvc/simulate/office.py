"""What the office does while the crews work: gives out, takes back, cancels, edits, and decides what waits for it."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from fieldsvc.demo.client import Client, Refused
from fieldsvc.simulate.world import UNANSWERED, World

_EVERY = 12
"""One act of the office for so many devices in a step, and at least one."""


@dataclass
class Office:
    """The dispatchers, as one. What it could not do, because nobody answered, it leaves."""

    world: World
    client: Client
    done: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def turn(self, step: int) -> None:
        """One step of the play."""
        options = self.world.options
        chance = options.chance("office", step)
        self._give_out(chance, step)
        acts: tuple[Callable[[random.Random], bool], ...] = (
            self._reassign, self._reassign, self._unassign, self._cancel, self._edit, self._edit, self._new_job,
            self._decide, self._decide,
        )  # fmt: skip
        for _ in range(max(1, options.devices // _EVERY)):
            act = chance.choice(acts)
            self._try(act.__name__.strip("_"), lambda chosen=act: chosen(chance))  # type: ignore[misc]

    def _try(self, name: str, act: Callable[[], bool]) -> None:
        try:
            if act():
                self.done[name] += 1
        except Refused as refused:
            if refused.status == 500:
                self.faults.append(f"the office: {refused}")
            self.refused[f"{name} {refused.status}"] += 1
        except UNANSWERED:
            self.refused[f"{name} no answer"] += 1
            self.client.close()

    def _give_out(self, chance: random.Random, step: int) -> None:
        """The rest of the jobs, evenly over the shift."""
        waiting, left = self.world.waiting, self.world.options.slices - step
        for _ in range(len(waiting) // max(1, left)):
            self._try("give_out", lambda: self._assign(waiting[0], chance))
            self.world.given.append(waiting.pop(0))

    def _assign(self, job: str, chance: random.Random) -> bool:
        self.client.post(f"/v1/jobs/{job}/assign", {"crew_id": chance.choice(self.world.crews)})
        return True

    def _some_job(self, chance: random.Random) -> str | None:
        return chance.choice(self.world.given) if self.world.given else None

    def _reassign(self, chance: random.Random) -> bool:
        job = self._some_job(chance)
        return job is not None and self._assign(job, chance)

    def _unassign(self, chance: random.Random) -> bool:
        job = self._some_job(chance)
        if job is None:
            return False
        self.client.post(f"/v1/jobs/{job}/unassign", {"reason": "another crew is nearer"})
        self.world.waiting.append(job)
        return True

    def _cancel(self, chance: random.Random) -> bool:
        job = self._some_job(chance)
        if job is None:
            return False
        self.client.post(f"/v1/jobs/{job}/cancel", {"reason": "the caller found the switch"})
        return True

    def _edit(self, chance: random.Random) -> bool:
        job = self._some_job(chance)
        if job is None:
            return False
        number = chance.randrange(100_000)
        changes: dict[str, Any] = {
            "access_note": f"Ask at door {number}",
            "contact_phone": f"556-{number:05}",
            "title": f"Office title {number}",
            "tags": [f"office {number % 5}"],
        }
        name = chance.choice(sorted(changes))
        _, headers = self.client.call("GET", f"/v1/jobs/{job}")
        self.client.patch(f"/v1/jobs/{job}", {name: changes[name]}, headers["ETag"])
        return True

    def _new_job(self, chance: random.Random) -> bool:
        like = self._some_job(chance)
        if like is None:
            return False
        there = self.client.get(f"/v1/jobs/{like}")
        key = f"urgent-{chance.randrange(10**9)}"
        body = {"kind": there["kind"], "external_key": key, "title": "Urgent", "priority": 1}
        place = ("usage_point_id",) if there["usage_point_id"] else ("lon", "lat")
        body |= {name: there[name] for name in place}
        made = self.client.post("/v1/jobs", body, Idempotency_Key=key)
        self.world.given.append(made["id"])
        return self._assign(made["id"], chance)

    def _decide(self, chance: random.Random) -> bool:
        """One of the newest reviews; an ``apply`` the rules do not allow is dismissed instead."""
        found = self.client.get("/v1/reviews", limit=20)["items"]
        if not found:
            return False
        review = chance.choice(found)
        body = {"choice": chance.choice(("apply", "apply", "dismiss")), "note": "Asked both crews"}
        if review["reason"] == "register_fell":
            body["reading"] = "misread"
        path = f"/v1/reviews/{review['id']}/resolve"
        try:
            self.client.post(path, body)
        except Refused as refused:
            if refused.status != 409 or body["choice"] == "dismiss":
                raise
            self.client.post(path, {"choice": "dismiss", "note": "It cannot be applied"})
        return True
