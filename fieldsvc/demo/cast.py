"""Who has which mishap: given to devices it can happen to, from what was dispatched, so that every scenario tells the
same story."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from fieldsvc.demo.device import Device, Doc
from fieldsvc.demo.fieldwork import Act, Visit
from fieldsvc.demo.stage import Crew

SKEW = timedelta(hours=2, minutes=7)
OFFICE_PHONE, CREW_PHONE = "555-0101", "555-0102"
ACCESS_NOTE = "Ring at the porter's lodge first"


class CastError(RuntimeError):
    """The dispatch run gave too little work for the story."""


@dataclass
class Cast:
    """The devices by their part. ``endings`` and ``extras`` say by job id what is special about a visit."""

    devices: list[Device]
    wrong_meter: Device
    reassigned: Device
    wrong_clock: Device
    unordered: Device
    incomplete: Device
    conflict: Device
    twice: Device
    reused: Device
    late: list[Device]
    heir: Crew
    lost_job: Doc
    swap_job: Doc
    incomplete_job: Doc
    contested_job: Doc
    noted_job: Doc
    endings: dict[str, str] = field(default_factory=dict)
    extras: dict[str, tuple[Act, ...]] = field(default_factory=dict)

    def habit(self, device: Device) -> str:
        """What is odd about a device, in a few words."""
        told = (
            (self.wrong_meter, "a meter not on record"),
            (self.reassigned, "loses a job meanwhile"),
            (self.wrong_clock, "clock 2 h 07 min fast"),
            (self.unordered, "latest work first"),
            (self.incomplete, "malformed operations"),
            (self.conflict, "a conflicting edit"),
            (self.twice, "everything twice"),
            (self.reused, "an id used again"),
        )
        found = next((text for whose, text in told if whose is device), "")
        return found or ("late" if device in self.late else "a line all day")

    def visits(self, device: Device, number: int) -> list[Visit]:
        """The device's jobs as they will go; ``number`` is how many jobs all devices before it have."""
        edited = (self.contested_job["id"], self.noted_job["id"])
        return [
            Visit(
                job,
                place,
                self.endings.get(job["id"]) or self._ending(device, job, place),
                job["id"] in edited,
                self.extras.get(job["id"], ()),
            )
            for place, job in enumerate(device.jobs(), number + 1)
        ]

    def _ending(self, device: Device, job: Doc, number: int) -> str:
        """Now and then a crew finds nobody in, or needs what it has not got."""
        if job["kind"] == "meter_change" and device.meter_of(job) is None:
            return "not_done"
        if self.extras.get(job["id"]) or job["id"] == self.noted_job["id"]:
            return "completed"
        return {9: "not_done", 14: "returned"}.get(number % 17, "completed")


def cast(devices: Sequence[Device]) -> Cast:
    """Give every mishap to a device it can happen to.

    :raises CastError: there is none.
    """
    free = [device for device in devices if device.jobs()]

    def take(part: str, fits: Callable[[Device], bool]) -> Device:
        for device in free:
            if fits(device):
                free.remove(device)
                return device
        raise CastError(f"no crew has got the work for a device that {part}")

    wrong_meter = take("finds a wrong meter", lambda d: any(map(d.meter_of, d.jobs("meter_change"))))
    reassigned = take("loses a job", lambda d: len(d.jobs("repair")) >= 2)
    wrong_clock = take("has a wrong clock", lambda d: bool(d.jobs("repair")))
    incomplete = take("sends malformed operations", lambda d: bool(d.jobs("repair")))
    unordered = take("sends its latest work first", lambda d: len(d.jobs()) >= 3)
    conflict = take("a conflicting edit", lambda d: len(d.jobs()) >= 2)
    twice = take("sends everything twice", lambda d: True)
    reused = take("uses an operation id again", lambda d: True)
    late = [take("is late", lambda d: True), *free[:2]]
    heirs = [device.crew for device in (*late, *devices) if device is not reassigned]
    heirs = [crew for crew in heirs if "repair" in crew.skills]
    if not heirs:
        raise CastError("there is no second crew for repairs")
    wrong_clock.skew = SKEW
    made = Cast(
        list(devices), wrong_meter, reassigned, wrong_clock, unordered, incomplete, conflict, twice, reused, late,
        heir=heirs[0],
        lost_job=reassigned.jobs("repair")[-1],
        swap_job=next(job for job in wrong_meter.jobs("meter_change") if wrong_meter.meter_of(job)),
        incomplete_job=incomplete.jobs("repair")[0],
        contested_job=conflict.jobs()[0],
        noted_job=late[0].jobs()[0],
    )  # fmt: skip
    made.endings = {
        made.lost_job["id"]: "lost",
        made.swap_job["id"]: "wrong_meter",
        made.incomplete_job["id"]: "incomplete",
    }
    made.extras = _extras(made)
    return made


def _extras(cast: Cast) -> dict[str, tuple[Act, ...]]:
    """What is noted besides: both sides edit a telephone number, a customer has a new one, an app writes nonsense."""
    was = {"contact_phone": cast.contested_job["contact_phone"]}
    extras: dict[str, tuple[Act, ...]] = {
        cast.contested_job["id"]: (
            Act("job.update", {"was": was, "set": {"contact_phone": CREW_PHONE}}, ("applied_conflict",)),
        ),
        cast.incomplete_job["id"]: (
            Act("note.add", {"payload": {"text": "no zone"}, "occurred_at": "2026-13-40 25:61"}, ("rejected",)),
        ),
    }
    taken = {*cast.endings, *extras, cast.noted_job["id"]}
    for device in cast.devices:
        for job in device.jobs():
            customer = device.docs.get(("customer", job["customer_id"] or ""))
            if customer and job["id"] not in taken:
                edit = {"was": {"phone": customer["phone"]}, "set": {"phone": "555-0199"}}
                extras[job["id"]] = (Act("customer.update", edit, about=("customer", customer)),)
                return extras
    return extras
