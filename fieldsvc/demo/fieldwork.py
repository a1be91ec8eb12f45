"""What a crew writes down at a job, by the job's kind: the operations of a working day with their contents.

Only what a device holds is used: the job, its customer, meter, seals and checklist from the pull.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

from fieldsvc.demo.device import Device, Doc, Holder

_CAUSES = (
    # major, minor, fault place, ownership, work done, part
    ("fuse", "overload", "transformer fuse, low-voltage side", "utility", "Fuse replaced, load measured", "FUSE-100A"),
    ("cable", "chafed", "service cable at the eaves", "utility", "Cable sleeved, tied off the tree", "SLEEVE-16"),
    ("breaker", "worn", "customer's main breaker", "customer", "Breaker replaced at the customer's wish", "MCB-63A"),
    ("lamp", "driver", "luminaire on the pole", "utility", "Driver of the luminaire replaced", "LED-DRV-40"),
    ("connection", "loose", "clamp at the meter box", "utility", "Clamp cleaned and tightened", "CLAMP-25"),
)  # fmt: skip


@dataclass(frozen=True)
class Act:
    """One operation to be: its kind, its content, what it may become, and what it is about unless the job."""

    kind: str
    content: Doc
    expect: Sequence[str] = ("applied",)
    about: tuple[str, Doc] | None = None


@dataclass(frozen=True)
class Visit:
    """A job as it will go.

    :param ending: completed, not_done, returned, wrong_meter, incomplete (a completion that lacks a member) or lost
        (another crew's by now).
    :param edited: somebody else has changed a field of the job meanwhile, so that what is applied was merged.
    :param extras: what the crew notes besides, before the work is done.
    """

    job: Doc
    number: int
    ending: str = "completed"
    edited: bool = False
    extras: tuple[Act, ...] = ()


def acts(device: Holder, visit: Visit) -> list[Act]:
    """Everything the crew notes at one job, in order."""
    found = list(_steps(device, visit))
    if visit.ending == "returned":
        return [found[0], Act("job.return", {"payload": {"reason": "bucket_truck_needed", "note": "Pole too high"}})]
    if visit.ending == "not_done":
        return [*found[:3], Act("job.not_done", {"payload": {"reason": "no_access", "note": "Gate locked, nobody in"}})]
    note = Act("note.add", {"payload": {"text": f"{visit.job['number']}: left tidy, note {visit.number}"}})
    done = [*found, *visit.extras, note, *_WORK.get(visit.job["kind"], repaired)(device, visit)]
    if visit.ending == "lost":
        return [_lost(act) for act in done]
    return [_merged(act) for act in done] if visit.edited else done


def _merged(act: Act) -> Act:
    return replace(act, expect=("applied", "merged")) if act.expect == ("applied",) else act


def _lost(act: Act) -> Act:
    """The same act at a job that meanwhile is another crew's: steps are over, remarks stand, work done is kept."""
    if act.kind == "note.add":
        return act
    ends = ("parked", "resolved") if act.kind == "job.complete" else ("superseded",)
    return replace(act, expect=ends)


def _steps(device: Holder, visit: Visit) -> Iterator[Act]:
    position = visit.job.get("position")
    yield Act("job.accept", {"payload": {}})
    if visit.number % 4:
        yield Act("job.enroute", {"payload": {}})
    yield Act("job.arrive", {"payload": {"position": position} if position else {}})
    yield Act("job.start", {"payload": _briefing(device, visit.job)})
    if visit.number % 11 == 5 and visit.ending == "completed":
        waits = {"reason": "material", "note": f"{visit.job['number']}: part fetched from the depot"}
        yield Act("job.suspend", {"payload": waits})
        yield Act("job.resume", {"payload": {}})


def _checklist(device: Holder, job: Doc) -> Doc | None:
    return device.docs.get(("checklist", f"{job['checklist']}@{job['checklist_version']}"))


def _briefing(device: Holder, job: Doc) -> Doc:
    """The safety briefing: every item of the first stage, confirmed before work begins."""
    checklist = _checklist(device, job)
    if not checklist:
        return {}
    confirmed = [item["code"] for item in checklist["stages"][0]["items"]]
    version = {"checklist": checklist["name"], "version": checklist["version"]}
    return {"briefing": {**version, "confirmed": confirmed}}


def repaired(device: Holder, visit: Visit) -> Iterator[Act]:
    major, minor, place, ownership, work, part = _CAUSES[visit.number % len(_CAUSES)]
    if visit.number % 10 == 3:
        defect = {"description": "Cross-arm rusted, to be replaced", "grade_scheme": "grid", "grade": "general"}
        yield Act("defect.report", {"payload": defect})
    result: Doc = {
        "cause_major": major,
        "cause_minor": minor,
        "fault_place": place,
        "ownership": ownership,
        "work_done": work,
        "parts": [{"code": part, "qty": "1"}],
    }
    meter = device.meter_of(visit.job)
    if meter and visit.number % 3 == 0:
        result["meter_check"] = {"asset_no": meter["asset_no"], "registers": _read(meter, visit.number)}
    if visit.ending == "incomplete":
        short = {name: value for name, value in result.items() if name != "cause_major"}
        yield Act("job.complete", {"payload": short}, ("rejected",))
    else:
        yield Act("job.complete", {"payload": result})


def _read(meter: Doc, number: int) -> dict[str, str]:
    """Every register some kWh further than last read, the parts still adding up to the total."""
    known = {name: Decimal(entry["value"]) for name, entry in meter["registers"].items()}
    step = Decimal(17 + number % 23) / 10
    parts = [name for name in known if name != "total"]
    moved = {name: value + step for name, value in known.items() if name != "total"}
    moved["total"] = known["total"] + step * max(1, len(parts))
    return {name: format(value, "f") for name, value in moved.items()}


def _exchanged(device: Holder, visit: Visit) -> Iterator[Act]:
    meter = device.meter_of(visit.job)
    assert meter is not None, "a meter change without a meter on record"
    new = device.new_meter()
    final = _read(meter, visit.number)
    wrong = visit.ending == "wrong_meter"
    old_no = f"{meter['asset_no'][:2]}999{visit.number:06}" if wrong else meter["asset_no"]
    seals = [seal["number"] for seal in device.around(visit.job, "seal")]
    fitted = [
        {"number": f"{new['asset_no']}-{place}", "position": position, "kind": "wire", "condition": "intact"}
        for place, position in ((1, "meter cover"), (2, "terminal cover"))
    ]
    exchange = {
        "old": {"asset_no": old_no, "registers": final, "seals": seals},
        "new": {
            "asset_no": new["asset_no"],
            "digits": new["digits"],
            "registers": dict.fromkeys(final, "0.0"),
            "ct_ratio": int(Decimal(meter["ct_ratio"])),
            "pt_ratio": int(Decimal(meter["pt_ratio"])),
            "seals": fitted,
        },
    }
    parked = ("parked", "resolved")
    yield Act("meter.exchange", {"payload": exchange}, parked if wrong else ("applied",))
    done = {"payload": {"work_done": "Meter changed, wiring and phase order checked, sealed"}}
    yield Act("job.complete", done, parked if wrong else ("applied",))


def _inspected(device: Holder, visit: Visit) -> Iterator[Act]:
    """The checklist stage by stage; at every third place something fails and becomes a defect."""
    checklist = _checklist(device, visit.job)
    assert checklist is not None, "an inspection without its checklist"
    version = {"checklist": checklist["name"], "checklist_version": checklist["version"]}
    graded = [item["code"] for stage in checklist["stages"] for item in stage["items"] if item.get("grade")]
    bad = graded[visit.number % len(graded)] if visit.number % 3 == 0 and graded else None
    for stage in checklist["stages"]:
        items = [_found(item, bad) for item in stage["items"]]
        yield Act("inspection.record", {"payload": {**version, "items": items}})
    yield Act("job.complete", {"payload": {"work_done": "Findings explained and handed over in writing"}})


def _found(item: Doc, bad: str | None) -> Doc:
    if item["code"] != bad:
        return {"code": item["code"], "result": "pass"}
    return {"code": bad, "result": "fail", "note": f"Not in order: {item['title']}"}


_WORK: dict[str, Callable[[Holder, Visit], Iterator[Act]]] = {
    "repair": repaired,
    "meter_change": _exchanged,
    "safety_inspection": _inspected,
}


def work(device: Device, visits: Sequence[Visit], begins: datetime, ends: datetime) -> None:
    """Do all visits between two moments and note what happened, one job after the other."""
    slot = (ends - begins) / max(1, len(visits))
    for place, visit in enumerate(visits):
        done = acts(device, visit)
        for turn, act in enumerate(done):
            at = begins + slot * (place + (turn + 1) / (len(done) + 1))
            entity, about = act.about or ("job", visit.job)
            device.write(act.kind, entity, about, at, act.content, act.expect)
