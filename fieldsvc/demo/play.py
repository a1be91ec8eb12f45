"""One shift, played fast: devices pull, go offline, work, and push as lines in the country are; meanwhile the office
goes on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from fieldsvc.base.clock import utc_now
from fieldsvc.demo.cast import ACCESS_NOTE, OFFICE_PHONE, Cast
from fieldsvc.demo.client import Client
from fieldsvc.demo.device import Device, Doc
from fieldsvc.demo.fieldwork import Visit, repaired, work
from fieldsvc.demo.show import Step, Story
from fieldsvc.demo.stage import Stage

SHIFT = timedelta(seconds=6)
"""How long the shift takes here."""
_SETTLE_S = 60.0

_pause = threading.Event()


class PlayError(RuntimeError):
    """The play got stuck; the message says where."""


@dataclass
class Seen:
    """What was seen during the shift and is checked at its end."""

    held: list[str]
    repeated: list[Doc]
    reuse: Doc
    attention: list[Doc]


def enrol(stage: Stage, story: Story) -> list[Device]:
    """One device for every crew, by the code its supervisor reads out."""
    zone = ZoneInfo(stage.scenario.timezone)
    devices = [Device(stage.url, crew, zone) for crew in stage.crews]
    admin = stage.office["admin"]
    with story.step("Devices", "POST /v1/crews/{id}/enrolment-codes · POST /sync/v1/enrol", len(devices)) as step:
        for device in devices:
            device.enrol(admin.post(f"/v1/crews/{device.crew.id}/enrolment-codes")["code"])
            step.advance()
        step.tell(f"{len(devices)} devices enrolled, each by a single-use code")
    return devices


def load_vans(devices: Iterable[Device], stock: list[Doc]) -> None:
    """Every crew takes a new meter for each change on its list."""
    left = iter(stock)
    for device in devices:
        device.crew.van = [meter for _job, meter in zip(device.jobs("meter_change"), left, strict=False)]


def at_once(devices: Iterable[Device], act: Callable[[Device], object]) -> None:
    """Let devices act at the same time, as crews do."""
    devices = list(devices)
    pool = ThreadPoolExecutor(max(1, len(devices)), thread_name_prefix="device")
    try:
        for done in [pool.submit(act, device) for device in devices]:
            done.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def office_meanwhile(dispatcher: Client, cast: Cast) -> None:
    """What the office does while the crews are out of reach: one job to another crew, two edits."""
    dispatcher.post(f"/v1/jobs/{cast.lost_job['id']}/assign", {"crew_id": cast.heir.id})
    for job, change in (
        (cast.contested_job, {"contact_phone": OFFICE_PHONE}),
        (cast.noted_job, {"access_note": ACCESS_NOTE}),
    ):
        _, headers = dispatcher.call("GET", f"/v1/jobs/{job['id']}")
        dispatcher.patch(f"/v1/jobs/{job['id']}", change, headers["ETag"])


def shift(cast: Cast, dispatcher: Client, story: Story) -> Seen:
    """The shift itself, from the first job to the last push.

    :raises PlayError: an operation that was sent has no end within a minute.
    """
    office_meanwhile(dispatcher, cast)  # before the first operation, so that every edit has its side in time
    begins = utc_now()
    ends = begins + SHIFT
    for device, visits in _lists(cast):
        work(device, visits, begins, ends)
    offline = [d for d in cast.devices if d in cast.late or d in _out_of_reach(cast)]
    with story.step("The shift, mostly out of reach", "POST /sync/v1/push", 100) as step:
        noon = begins + SHIFT / 2
        _until(noon, begins, ends, step)
        at_once([d for d in cast.devices if d not in offline], lambda device: device.push_all(noon))
        _until(ends, begins, ends, step)
        step.tell(
            f"{sum(len(d.notebook) for d in cast.devices)} operations written down by {len(cast.devices)} devices"
        )
    return _end_of_shift(cast, story)


def _lists(cast: Cast) -> Iterable[tuple[Device, list[Visit]]]:
    number = 0
    for device in cast.devices:
        visits = cast.visits(device, number)
        number += len(visits)
        yield device, visits


def _out_of_reach(cast: Cast) -> list[Device]:
    return [cast.wrong_meter, cast.reassigned, cast.wrong_clock, cast.unordered, cast.twice]


def _until(moment: datetime, begins: datetime, ends: datetime, step: Step) -> None:
    while (now := utc_now()) < moment:
        step.to(100 * (now - begins) / (ends - begins))
        _pause.wait(0.05)


def _end_of_shift(cast: Cast, story: Story) -> Seen:
    seen = Seen([], [], {}, [])

    def push(device: Device) -> None:
        if device is cast.unordered:
            seen.held = _latest_first(device)
        elif device is cast.twice:
            device.push_all()
            seen.repeated = _again(device)
        else:
            device.push_all()
            if device is cast.reused:
                seen.reuse = _use_id_again(device)

    with story.step("Back in reach: everybody pushes", "POST /sync/v1/push") as step:
        at_once([d for d in cast.devices if d not in cast.late], push)
        at_once(cast.late, push)
        step.tell(f"{sum(d.app.pushes for d in cast.devices)} pushes, {len(cast.late)} devices late")
    return seen


def _latest_first(device: Device) -> list[str]:
    """Push the last third, then the middle, then the first; answers the statuses of all but the last push."""
    due = device.take_down()
    size = max(1, (len(due) + 2) // 3)
    batches = [due[start : start + size] for start in range(0, len(due), size)]
    statuses = [result["status"] for batch in reversed(batches[1:]) for result in device.push(batch)]
    device.push(batches[0])
    return statuses


def _again(device: Device) -> list[Doc]:
    """Push all that was pushed once more, as after a lost answer."""
    return [
        result
        for start in range(0, len(device.notebook), device.batch)
        for result in device.push(device.notebook[start : start + device.batch])
    ]


def _use_id_again(device: Device) -> Doc:
    """Send another text under the id of a note that was sent before."""
    first = next(noted.op for noted in device.notebook if noted.op["kind"] == "note.add")
    return device.push_raw({**first, "payload": {"text": "another text under the same id"}})


def settle(devices: Iterable[Device], story: Story) -> None:
    """Let the devices pull until they know the end of everything they have sent.

    :raises PlayError: not within a minute.
    """
    devices = list(devices)
    waiting = sum(len(device.unsettled()) for device in devices)
    deadline = time.monotonic() + _SETTLE_S
    with story.step("Workers reconcile, devices pull what became of it", "GET /sync/v1/pull", waiting) as step:
        while left := [device for device in devices if device.unsettled()]:
            if time.monotonic() > deadline:
                open_ = sum(len(device.unsettled()) for device in left)
                raise PlayError(f"{open_} operations of {len(left)} devices have no end after {_SETTLE_S:g} s")
            at_once(left, Device.pull)
            step.to(waiting - sum(len(device.unsettled()) for device in devices))
            _pause.wait(0.1)
        step.tell(f"{waiting} operation{'s' * (waiting != 1)} decided, and the devices know")


def put_right(cast: Cast) -> int:
    """The device whose completion was refused sends it again as it should be; answers how many were."""
    device = cast.incomplete
    refused = [n for n in device.notebook if n.op["kind"] == "job.complete" and device.end_of(n) == "rejected"]
    for noted in refused:
        job = device.docs["job", noted.op["entity_id"]]
        number = len(device.notebook)
        act = list(repaired(device, Visit(job, number)))[-1]
        device.write(act.kind, "job", job, utc_now(), act.content)
    device.push_all()
    return len(refused)


def see_attention(cast: Cast) -> list[Doc]:
    """The crew that has the job now pulls: what it is told about the other crew's work there."""
    heir = next(device for device in cast.devices if device.crew is cast.heir)
    heir.pull()
    job = heir.docs.get(("job", cast.lost_job["id"]))
    return list(job["attention"]) if job else []


def decide(dispatcher: Client, cast: Cast) -> None:
    """The dispatcher takes over what the crew did at the job that was not theirs any more, and its device hears of it.

    :raises PlayError: there is not one review to decide, or the device is not told.
    """
    open_ = list(dispatcher.items("/v1/reviews", job=cast.lost_job["id"]))
    if len(open_) != 1:
        raise PlayError(f"{len(open_)} reviews are open for job {cast.lost_job['number']}, not one")
    note = "Both crews asked: the first one did the work"
    decided: Doc = dispatcher.post(f"/v1/reviews/{open_[0]['id']}/resolve", {"choice": "apply", "note": note})
    cast.reassigned.pull()
    told = cast.reassigned.app.told[decided["op_id"]]
    if told["outcome"] != "resolved":
        raise PlayError(f"the device is told {told['outcome']}, not resolved")
