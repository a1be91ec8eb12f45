"""The page of a job: what it is, who has it, what was promised, and the way of everything its crews have sent.

Nobody who looks at it may take "it arrived" for "it was applied", nor that for "the crew knows": each operation shows
how far it has come, and what stands out is said at the top.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from flask import Response, render_template, request, url_for
from sqlalchemy import select

from fieldsvc import rules
from fieldsvc.api import access, paging, positions
from fieldsvc.api.paging import Page
from fieldsvc.api.schemas import PageArgs
from fieldsvc.base import signing
from fieldsvc.base.clock import format_time, utc_now
from fieldsvc.base.db import db, reading
from fieldsvc.base.errors import NotFound
from fieldsvc.console.frame import actor, asked, may, page, pages
from fieldsvc.console.telling import Names
from fieldsvc.console.words import language
from fieldsvc.history import follow
from fieldsvc.history import page as history
from fieldsvc.history.models import HistoryEntry
from fieldsvc.kinds.lifecycle import ACTIVE
from fieldsvc.people import positions as whereabouts
from fieldsvc.people.models import Crew
from fieldsvc.sync import evidence, journeys, receipts
from fieldsvc.sync.evidence import Shown
from fieldsvc.sync.journeys import Journey
from fieldsvc.sync.models import Attachment, InboxOperation, Review
from fieldsvc.work import change, queries, routes
from fieldsvc.work.models import Job

OPERATIONS, ENTRIES, FILES = 40, 25, 100
"""How many operations, entries of the history and files a page shows at once."""
PRINTED = 200
"""How many of each on paper."""


@pages.get("/jobs/<id:job_id>")
@page()
def job(job_id: str) -> str:
    """A job with all there is about it; ``?print=1``: everything unfolded, for paper."""
    return shown(job_id, utc_now())


def shown(job_id: str, now: datetime, **more: Any) -> str:
    """The page of a job; ``more``: what a refused form adds to it."""
    on_paper = request.args.get("print") == "1"
    with reading():
        since = follow.newest()  # before all else: what is written from here on is news to the page
        found = queries.job(job_id, actor().scope)
        ways = _ways(found, PRINTED if on_paper else OPERATIONS, request.args.get("operations"))
        files = paging.fetch(
            evidence.of_job(found.id), (Attachment.named_at, Attachment.id), {"limit": FILES}, descending=False
        )
        facts = queries.job_page(found)
        page = {
            "since": since,
            "job": found,
            "facts": facts,
            "where": _where(found, facts, now),
            "checklist": checklist(found),
            "files": _pictures_first(evidence.shown(files.rows)),
            "more_files": files.next is not None,
            "ways": journeys.told(ways.rows),
            "older_ways": ways.next,
            "undecided": journeys.undecided(found.id),
            "untold": journeys.untold(found.id),
            "reviews": _open_reviews(found.id),
            "related": _related(found),
            "on_paper": on_paper,
            "result": result_rest(found),
            "ended": found.status in change.ENDED,
        }
        page |= _entries(found, {"limit": PRINTED if on_paper else ENTRIES})
        page["names"] = _names(page)
        return render_template("job.html", **page | more)


_AS_DONE = (InboxOperation.estimated_at, InboxOperation.seq, InboxOperation.op_id)


def _pictures_first(files: Sequence[Shown]) -> list[Shown]:
    return sorted(files, key=lambda one: (one.file is None or one.file.type is None, one.row.named_at, one.row.id))


def _ways(found: Job, most: int, cursor: str | None) -> Page:
    args = {"limit": most, "cursor": cursor}
    return paging.fetch(journeys.of_job(found.id), _AS_DONE, args)


def _entries(found: Job, args: Mapping[str, Any]) -> dict[str, Any]:
    """What the pieces with entries of the history need."""
    listed = paging.fetch(history.entries(history.Wanted(job_id=found.id), None), (HistoryEntry.seq,), args)
    return {
        "entries": listed.rows,
        "older": url_for("console.job_history", job_id=found.id, cursor=listed.next) if listed.next else None,
    }


def _names(page: Mapping[str, Any]) -> Names:
    names = Names.of_entries(page["entries"])
    for way in page["ways"]:
        names.gather(way.content)
        names.gather(way.row.outcome or {})
    names.gather(page["facts"])
    return names.look_up()


@pages.get("/jobs/<id:job_id>/history")
@page()
def job_history(job_id: str) -> str:
    """The history of a job, page by page; a piece of it for who already sees the beginning."""
    args = asked(PageArgs)
    with reading():
        found = queries.job(job_id, actor().scope)
        listed = _entries(found, args)
        listed["names"] = Names.of_entries(listed["entries"])
        piece = bool(request.headers.get("HX-Request"))
        return render_template("_entries.html" if piece else "job_history.html", job=found, **listed)


@dataclass(frozen=True)
class Where:
    """The place of a job and of its crew, for the map. ``eta`` and ``crew`` only for those who may know them."""

    job: dict[str, Any] | None
    crew: dict[str, Any] | None
    eta: dict[str, Any] | None
    crew_age_s: int | None


def _where(found: Job, facts: Mapping[str, Any], now: datetime) -> Where:
    here = None
    if found.lon is not None and found.lat is not None:
        names = "id number kind status priority title lon lat territory_id crew_id due_at".split()
        here = {name: facts.get(name) for name in names} | {"hazards": bool(found.hazards), "tier": None}
    if not may(*access.DISPATCHERS) or found.crew_id is None or found.status not in ACTIVE:
        return Where(here, None, None, None)
    last = whereabouts.last([found.crew_id], positions.kept_since(now)).get(found.crew_id)
    eta = routes.eta(found, now, positions.travel_at_hand(now), positions.fresh())
    if last is None:
        return Where(here, None, eta, None)
    crew = db.session.get_one(Crew, found.crew_id)
    place = {"lon": last.lon, "lat": last.lat, "at": format_time(last.until_at)}
    base = [crew.base_lon, crew.base_lat] if crew.base_lon is not None else None
    told_of = {"id": crew.id, "code": crew.code, "name": crew.name, "base": base, "position": place, "silent": False}
    return Where(here, told_of | {"last_seen_at": place["at"]}, eta, positions.age_s(last, now))


@dataclass(frozen=True)
class Point:
    """One item of a checklist and how it was answered. ``result``: pass, fail, not_applicable, confirmed, or None."""

    code: str
    point: str | None
    title: str
    result: str | None
    note: str | None
    recorded_at: str | None
    photos: Sequence[str]
    released_by: str | None


@dataclass(frozen=True)
class Checklist:
    """The checklist of a job in the visitor's language: its stages with their items, and how many are answered."""

    title: str
    version: int
    source: str
    stages: Sequence[tuple[str, Sequence[Point]]]

    @property
    def points(self) -> list[Point]:
        """All its items."""
        return [point for _title, points in self.stages for point in points]

    @property
    def total(self) -> int:
        return len(self.points)

    @property
    def answered(self) -> int:
        return sum(point.result is not None for point in self.points)

    @property
    def failed(self) -> int:
        return sum(point.result == "fail" for point in self.points)


def checklist(found: Job) -> Checklist | None:
    """The checklist the job was made with, or the version that its crew has recorded; None: it has none."""
    result = found.result or {}
    name = result.get("checklist") or found.checklist
    version = result.get("checklist_version") or found.checklist_version
    if not name or not version:
        return None
    try:
        answer = rules.load().checklist_version(name, version)
    except rules.NoRule:
        return None
    value = answer.value
    briefing = result.get("briefing") or {}
    confirmed = set(briefing.get("confirmed") or ()) if briefing.get("checklist") == name else set()
    items = result.get("items") or {}
    stages = [
        (_titled(stage), [_point(item, items.get(item["code"]) or {}, confirmed, briefing) for item in stage["items"]])
        for stage in value["stages"]
    ]
    return Checklist(_titled(value), version, answer.source, stages)


def _titled(entry: Mapping[str, Any]) -> str:
    return str((entry.get("title_zh") if language() == "zh" else None) or entry.get("title") or entry.get("code"))


def _point(
    item: Mapping[str, Any], answer: Mapping[str, Any], confirmed: set[str], briefing: Mapping[str, Any]
) -> Point:
    ticked = item["code"] in confirmed
    return Point(
        item["code"],
        item.get("point"),
        _titled(item),
        answer.get("result") or ("confirmed" if ticked else None),
        answer.get("note"),
        answer.get("recorded_at") or (briefing.get("confirmed_at") if ticked else None),
        answer.get("photos") or (),
        answer.get("released_by"),
    )


def result_rest(found: Job) -> dict[str, Any]:
    """What the crew found and did, without what the checklist shows already."""
    left_out = ("items", "checklist", "checklist_version", "briefing", "photos", "position")
    return {name: value for name, value in (found.result or {}).items() if name not in left_out}


def _open_reviews(job_id: str) -> Sequence[Review]:
    open_ones = select(Review).where(Review.job_id == job_id, Review.state == "open")
    return db.session.scalars(open_ones.order_by(Review.created_at).limit(20)).all()


def _related(found: Job) -> Sequence[tuple[str, Job]]:
    """Jobs that this one waits for, assists, or is assisted by; those the visitor may see."""
    pairs = [("follows_job_id", found.follows_job_id), ("assists_job_id", found.assists_job_id)]
    near = [(name, db.session.get(Job, ident)) for name, ident in pairs if ident]
    for name, column in (("followed_by", Job.follows_job_id), ("assisted_by", Job.assists_job_id)):
        near += [(name, one) for one in db.session.scalars(select(Job).where(column == found.id).limit(20))]
    return [(name, one) for name, one in near if one is not None and actor().sees(one.territory_id)]


@pages.get("/jobs/<id:job_id>/operations/<op_id>")
@page()
def operation(job_id: str, op_id: str) -> str:
    """One operation as it was sent, what became of it, and whether its receipt is good."""
    with reading():
        found = queries.job(job_id, actor().scope)
        way = _way(found, op_id)
        names = Names()
        names.want("device", way.row.device_id)
        names.want("crew", way.row.crew_id)
        names.gather(way.content)
        names.gather(way.row.outcome or {})
        files = db.session.scalars(select(Attachment).where(Attachment.op_id == way.row.op_id).limit(FILES)).all()
        said, fault = _verified(way)
        return render_template(
            "job_operation.html", job=found, way=way, names=names.look_up(), said=said, fault=fault,
            files=evidence.shown(files), digest=receipts.digest(way.row.body),
        )  # fmt: skip


def _way(found: Job, op_id: str) -> Journey:
    row = db.session.get(InboxOperation, op_id) if "\0" not in op_id else None
    if row is None or (row.entity, row.entity_id) != ("job", found.id):
        raise NotFound("operation", op_id)
    return journeys.told([row])[0]


def _verified(way: Journey) -> tuple[dict[str, Any] | None, str | None]:
    """What the receipt says and, where it is not good, why."""
    if way.receipt is None:
        return None, None
    try:
        return signing.verify(way.receipt, receipts.keys()), None
    except signing.BadReceipt as bad:
        return None, str(bad)


@pages.get("/jobs/<id:job_id>/operations/<op_id>/<any(sent, outcome):what>.json")
@page()
def operation_file(job_id: str, op_id: str, what: str) -> Response:
    """The bytes as they came, or the outcome with its receipt: what an auditor needs to check it elsewhere."""
    with reading():
        way = _way(queries.job(job_id, actor().scope), op_id)
        data = way.row.body.encode() if what == "sent" else orjson.dumps(way.row.outcome)
        if what == "outcome" and way.row.outcome is None:
            raise NotFound("outcome of operation", op_id)
    response = Response(data, mimetype="application/json")
    response.headers.set("Content-Disposition", "attachment", filename=f"{what}-{way_name(op_id)}.json")
    return response


def way_name(op_id: str) -> str:
    """The id of an operation as part of a file's name: a device may have put anything into it."""
    return "".join(char if char.isascii() and (char.isalnum() or char in "-_") else "_" for char in op_id)
