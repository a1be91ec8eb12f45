"""Safety inspection (用电检查): a versioned checklist with control points, and the defects it finds.

Control points: **H** hold (work may not go on before release), **W** witness, **S** stand-by or spot check, **R**
record review. Records may come in parts; they gather in the job's result, one entry per item. A hold point is done when
it passed or somebody released it; every other point is done when it is recorded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from fieldsvc.base.clock import format_time, parse_time
from fieldsvc.kinds.base import Decision, Effect, Kind, Operation, SetResult, Situation, applied, rejected
from fieldsvc.kinds.common import (
    GRADES,
    OPERATIONS,
    Complete,
    DefectChecked,
    Grade,
    GradeScheme,
    Handler,
    close_defects,
    complete,
    judge,
    on_record,
    open_defect,
    result_of,
)
from fieldsvc.kinds.payloads import Code, Photos, Position, Prose, fault, plain
from fieldsvc.rules import NoRule

DEFAULT_SCHEME, DEFAULT_GRADE = "customer", "general"
"""The grade of a defect where neither the crew nor the checklist says one."""


class Item(msgspec.Struct):
    """One checklist item as it was found. ``released_by`` names who released a hold point that did not pass."""

    code: Code
    result: Literal["pass", "fail", "not_applicable"]
    note: Prose | None = None
    photos: Photos = []
    released_by: Annotated[str, Meta(min_length=1, max_length=80)] | None = None
    grade_scheme: GradeScheme | None = None
    grade: Grade | None = None

    def faults(self) -> Iterator[tuple[str, str]]:
        if (self.grade is None) != (self.grade_scheme is None):
            yield "/grade", "grade and grade_scheme are given together"
        elif self.grade_scheme is not None and self.grade not in GRADES[self.grade_scheme]:
            yield "/grade", f"must be one of {', '.join(GRADES[self.grade_scheme])} in the {self.grade_scheme} scheme"


class InspectionRecord(msgspec.Struct):
    """``inspection.record``: some or all items of one version of a checklist."""

    checklist: Code
    checklist_version: Annotated[int, Meta(ge=1, le=1_000_000)]
    items: Annotated[list[Item], Meta(min_length=1, max_length=300)]
    defects_checked: Annotated[list[DefectChecked], Meta(max_length=100)] = []
    position: Position | None = None

    def faults(self) -> Iterator[tuple[str, str]]:
        codes = [item.code for item in self.items]
        for position, code in enumerate(codes):
            if code in codes[:position]:
                yield f"/items/{position}/code", f"{code} is recorded twice in one operation"


class InspectionResult(Complete, kw_only=True):
    """``job.result`` after completion; ``items`` maps an item's code to its last record."""

    checklist: str
    checklist_version: int
    items: dict[str, dict[str, Any]]


def _recorded(op: Operation, payload: InspectionRecord, situation: Situation, moved: tuple[Effect, ...]) -> Decision:
    version = f"checklist {payload.checklist} version {payload.checklist_version}"
    checklist = _checklist(payload.checklist, payload.checklist_version, situation)
    if checklist is None:
        unknown = fault("/payload/checklist_version", f"there is no {version} for this kind of job")
        return rejected("bad_payload", errors=(unknown,))
    titles = {item["code"]: item for _stage, item in _points(checklist)}
    strange = tuple(
        fault(f"/payload/items/{position}/code", f"is not an item of {version}")
        for position, item in enumerate(payload.items)
        if item.code not in titles
    )
    if strange:
        return rejected("bad_payload", errors=strange)
    before = _items(situation)
    items, kept = _gather(op, payload, before)
    closed = _open_holds(checklist, items, situation, {item.code for item in payload.items})
    if closed:
        return rejected("hold_point_open", {"open": closed}, _named(closed))
    closing = close_defects(op, payload.defects_checked, situation)
    if isinstance(closing, Decision):
        return closing
    born, deadlines = _defects(op, payload, situation, titles, before)
    result = result_of(situation) | {
        "checklist": payload.checklist,
        "checklist_version": payload.checklist_version,
        "items": items,
    }
    result |= _looked_at(op, payload, situation)
    explanation = {"defects": deadlines, "older_than_recorded": kept}
    return applied(
        *moved,
        SetResult(result),
        *born,
        *closing,
        explanation={name: value for name, value in explanation.items() if value},
    )


def _checklist(name: Any, version: Any, situation: Situation) -> Mapping[str, Any] | None:
    """The version that the record was made with, which need not be the one in force today."""
    given = situation.checklist
    if isinstance(given, dict) and given.get("name") == name and given.get("version") == version:
        return given
    try:
        found: Mapping[str, Any] = situation.rules.checklist_version(name, version).value
    except NoRule:
        return None
    return found if found.get("kind") == KIND.name else None


def _points(checklist: Mapping[str, Any]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Every item with the number of its stage, in order."""
    for number, stage in enumerate(checklist.get("stages") or ()):
        for item in stage.get("items") or ():
            yield number, item


def _items(situation: Situation) -> dict[str, dict[str, Any]]:
    items = result_of(situation).get("items")
    return {code: entry for code, entry in items.items() if isinstance(entry, dict)} if isinstance(items, dict) else {}


def _gather(
    op: Operation, payload: InspectionRecord, before: dict[str, dict[str, Any]]
) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """The items with this record's joined in: of one item the later record counts, in whatever order they come."""
    items, older = dict(before), []
    for item in payload.items:
        there = _recorded_at(before.get(item.code, {}))
        if there is not None and there > op.occurred_at:
            older.append(item.code)
        else:
            items[item.code] = plain(item) | {"recorded_at": format_time(op.occurred_at)}
    return items, older


def _recorded_at(entry: Mapping[str, Any]) -> datetime | None:
    """When an item in the result was recorded (estimated time), as this kind wrote it."""
    try:
        return parse_time(entry["recorded_at"])
    except (KeyError, ValueError):
        return None


def _done(item: Mapping[str, Any], items: dict[str, dict[str, Any]], situation: Situation) -> bool:
    checkpoints = situation.job.get("checkpoints")
    point = checkpoints.get(item["code"]) if isinstance(checkpoints, dict) else None
    if isinstance(point, dict) and point.get("done") is True:
        return True
    entry = items.get(item["code"])
    if entry is None:
        return False
    return item.get("point") != "H" or entry.get("result") == "pass" or bool(entry.get("released_by"))


def _open_holds(
    checklist: Mapping[str, Any], items: dict[str, dict[str, Any]], situation: Situation, recorded: set[str]
) -> list[dict[str, Any]]:
    """Hold points not done in stages before the last one that this record belongs to."""
    last = max((stage for stage, item in _points(checklist) if item["code"] in recorded), default=0)
    return [
        _name(item)
        for stage, item in _points(checklist)
        if stage < last and item.get("point") == "H" and not _done(item, items, situation)
    ]


def _name(item: Mapping[str, Any]) -> dict[str, Any]:
    return {"code": item["code"], "point": item.get("point"), "title": item.get("title")}


def _named(points: list[dict[str, Any]]) -> tuple[dict[str, str], ...]:
    return tuple(
        fault("/payload/items", f"control point {point['code']} ({point['point']}) is not done: {point['title']}")
        for point in points
    )


def _defects(
    op: Operation,
    payload: InspectionRecord,
    situation: Situation,
    titles: Mapping[str, Mapping[str, Any]],
    before: dict[str, dict[str, Any]],
) -> tuple[list[Effect], list[dict[str, Any]]]:
    """A failed item bears a defect, once: recording the same failure again bears no second one."""
    born: list[Effect] = []
    deadlines: list[dict[str, Any]] = []
    for item in payload.items:
        if item.result != "fail" or _borne(item.code, before, situation):
            continue
        known = titles[item.code]
        scheme = item.grade_scheme or known.get("grade_scheme") or DEFAULT_SCHEME
        grade = item.grade or known.get("grade") or DEFAULT_GRADE
        defect, why = open_defect(op, situation, item.code, item.note or str(known.get("title")), scheme, grade)
        born.append(defect)
        deadlines.append({"item_code": item.code, "grade_scheme": scheme, "grade": grade, **why})
    return born, deadlines


def _borne(code: str, before: dict[str, dict[str, Any]], situation: Situation) -> bool:
    job_id = situation.job.get("id")
    return before.get(code, {}).get("result") == "fail" or any(
        defect.get("item_code") == code and defect.get("job_id") == job_id for defect in situation.defects
    )


def _looked_at(op: Operation, payload: InspectionRecord, situation: Situation) -> dict[str, Any]:
    if not payload.defects_checked:
        return {}
    looked = result_of(situation).get("defects_checked")
    now = [plain(entry) | {"at": format_time(op.occurred_at)} for entry in payload.defects_checked]
    return {"defects_checked": [*(looked if isinstance(looked, list) else []), *now]}


def _completed(op: Operation, payload: Complete, situation: Situation, moved: tuple[Effect, ...]) -> Decision:
    result, items = result_of(situation), _items(situation)
    checklist = _checklist(result.get("checklist"), result.get("checklist_version"), situation)
    checklist = checklist or situation.checklist
    if not checklist:
        text = "nothing has been recorded: send inspection.record first"
        return rejected("hold_point_open", {"open": [], "text": text})
    missing = [_name(item) for _stage, item in _points(checklist) if not _done(item, items, situation)]
    if missing:
        return rejected("hold_point_open", {"open": missing}, _named(missing))
    failed = sorted(code for code, entry in items.items() if entry.get("result") == "fail")
    outcome = f"inspected; defects: {', '.join(failed)}" if failed else "inspected; no defects"
    earlier = result.get("defects_checked")
    looked = [*(earlier if isinstance(earlier, list) else []), *(plain(entry) for entry in payload.defects_checked)]
    return complete(op, payload, situation, moved, outcome, {"defects_checked": looked})


_OPERATIONS: dict[str, type[msgspec.Struct]] = {**OPERATIONS, "inspection.record": InspectionRecord}
_HANDLERS: dict[str, Handler] = {"inspection.record": _recorded, "job.complete": _completed}


def reconcile(op: Operation, situation: Situation) -> Decision:
    return judge(op, situation, _OPERATIONS, _HANDLERS)


def _on_record(op: Operation, situation: Situation) -> dict[str, Any]:
    """Of the items that are recorded here, what is on record already."""
    found = on_record(op, situation)
    named = {item.get("code") for item in (op.payload or {}).get("items") or () if isinstance(item, dict)}
    items = {code: entry for code, entry in _items(situation).items() if code in named}
    return found | {"items": [{"code": code, **entry} for code, entry in items.items()]} if items else found


KIND = Kind(
    name="safety_inspection",
    title="Safety inspection",
    title_zh="用电检查",
    operations=_OPERATIONS,
    service_minutes=45,
    skill="inspection",
    result_type=InspectionResult,
    reconcile=reconcile,
    bulk=True,
    periodic=True,
    on_record=_on_record,
)
