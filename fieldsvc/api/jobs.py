"""Jobs: made, found, edited, assigned, unassigned and cancelled."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import marshmallow as ma
from flask import g

from fieldsvc import kinds
from fieldsvc.api import access, etag, idempotency, paging, positions
from fieldsvc.api.frame import Blueprint
from fieldsvc.api.schemas import (
    SKILL_PATTERN,
    BBox,
    Choice,
    Choices,
    Flag,
    Ident,
    Int,
    JsonObject,
    Lat,
    ListOf,
    Lon,
    Member,
    Number,
    PageArgs,
    Schema,
    Text,
    UtcTime,
    page_of,
)
from fieldsvc.base.clock import utc_now
from fieldsvc.base.db import reading, transaction
from fieldsvc.geo.territories import SITE_CLASSES
from fieldsvc.kinds.lifecycle import STATUSES
from fieldsvc.people.actors import ADMIN
from fieldsvc.work import jobs, queries, routes
from fieldsvc.work.models import Job

blp = Blueprint("jobs", __name__, url_prefix="/v1/jobs", description="Jobs: what has to be done, where, by whom")

RESERVED_PRIORITY = "1 is the most urgent; a job with hazards is always 1."


class KnownKind:
    """Validates the name of a job kind when it is asked, so that a kind added later is known too."""

    @property
    def choices(self) -> list[str]:
        return sorted(kinds.discover())

    def __call__(self, value: str) -> str:
        if value not in self.choices:
            raise ma.ValidationError(f"must be one of {', '.join(self.choices)}")
        return value


class KindName(Text):
    """The name of a job kind."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(30, **kwargs)
        self.validators = [KnownKind()]


def _pair(data: dict[str, Any]) -> None:
    if ("lon" in data) != ("lat" in data) or (data.get("lon") is None) != (data.get("lat") is None):
        raise ma.ValidationError("lon and lat are given together", "lon" if "lat" in data else "lat")
    if data.get("lon") == 0 and data.get("lat") == 0:
        raise ma.ValidationError("0/0 is not a place: the coordinates are missing", "lon")


class Placed(Schema):
    """Anything with a point: longitude and latitude come together, and 0/0 is no place."""

    lon = Lon()
    lat = Lat()

    @ma.validates_schema
    def _together(self, data: dict[str, Any], **_: Any) -> None:
        _pair(data)


class Needed(Placed):
    """What a crew must bring along for a job, and what it waits for."""

    required_skills = ListOf(Text(40, pattern=SKILL_PATTERN), max=20, metadata={"description": "Besides the kind's."})
    required_equipment = ListOf(Text(40, pattern=SKILL_PATTERN), max=20)
    load_units = Int(
        0,
        10_000,
        data_key="load",
        attribute="load",
        metadata={"description": "Units of the crew's capacity that it takes."},
    )
    follows_job_id = Ident(allow_none=True, metadata={"description": "Does not begin before that job is done."})
    customers_affected = Int(allow_none=True, metadata={"description": "How many are without supply."})


class JobNew(Needed):
    kind = KindName(required=True)
    title = Text(200, metadata={"description": "Without one, the kind's."})
    description = Text(4000, min=0)
    priority = Int(1, 9, metadata={"description": RESERVED_PRIORITY})
    hazards = ListOf(Text(60), max=20)
    external_key = Text(120, metadata={"description": "Your own key; unique."})
    customer_id = Ident()
    usage_point_id = Ident(metadata={"description": "Says the customer and, without lon and lat, the place."})
    address = Text(300)
    site_class = Choice(*SITE_CLASSES, metadata={"description": "Without one, that of the location or territory."})
    service_minutes = Int(1, 1440)
    window_start = UtcTime()
    window_end = UtcTime()
    due_at = UtcTime()
    reported_at = UtcTime(metadata={"description": "Promises run from here."})
    access_note = Text(1000)
    contact_phone = Text(40)
    tags = ListOf(Text(60), max=50)
    details = JsonObject(metadata={"description": "Whatever the crew should know; at most 64 KiB."})
    crews = Int(1, 2, metadata={"description": "2: a second crew is there at the same time, with a job of its own."})


class JobEdit(Needed):
    title = Text(200)
    description = Text(4000, min=0)
    priority = Int(1, 9, metadata={"description": RESERVED_PRIORITY})
    hazards = ListOf(Text(60), max=20)
    access_note = Text(1000, allow_none=True)
    contact_phone = Text(40, allow_none=True)
    tags = ListOf(Text(60), max=50)
    service_minutes = Int(1, 1440)
    window_start = UtcTime(allow_none=True)
    window_end = UtcTime(allow_none=True)
    due_at = UtcTime(allow_none=True)
    address = Text(300, allow_none=True)
    usage_point_id = Ident(allow_none=True)


class Position(Schema):
    type = Choice("Point", required=True)
    coordinates = ListOf(Number(-180, 180), max=2, min=2, required=True)


class Evidence(Schema):
    """What has come of the files that applied work requires."""

    state = Choice(
        "none",
        "awaiting",
        "complete",
        "broken",
        required=True,
        metadata={
            "description": "complete: every required file is verified. broken: one came and is not what it should be."
        },
    )
    required = Int(required=True)
    verified = Int(required=True)
    broken = Int(required=True)


class JobRow(Schema):
    id = Ident(required=True)
    number = Text(40, required=True)
    external_key = Text(120, allow_none=True)
    kind = Text(30, required=True)
    status = Choice(*STATUSES, required=True)
    priority = Int(1, 9, required=True)
    title = Text(200, required=True)
    description = Text(4000, min=0, required=True)
    hazards = ListOf(Text(60), required=True)
    access_note = Text(1000, allow_none=True)
    contact_phone = Text(40, allow_none=True)
    notes = ma.fields.List(ma.fields.Raw(), required=True)
    tags = ma.fields.List(ma.fields.String(), required=True)
    lon = Lon(allow_none=True)
    lat = Lat(allow_none=True)
    position = Member(Position, allow_none=True, required=True)
    address = Text(300, allow_none=True)
    site_class = Choice(*SITE_CLASSES, required=True)
    territory_id = Ident(allow_none=True)
    territory_reason = Text(
        200, allow_none=True, metadata={"description": "Why there is no territory, or how the nearest was found."}
    )
    customer_id = Ident(allow_none=True)
    usage_point_id = Ident(allow_none=True)
    incident_id = Ident(allow_none=True)
    crew_id = Ident(allow_none=True)
    assignment_rev = Int(required=True)
    planned_start = UtcTime(allow_none=True)
    planned_end = UtcTime(allow_none=True)
    planned_order = Int(allow_none=True)
    pinned = Flag(required=True, metadata={"description": "No dispatch run takes it from its crew."})
    pinned_start = UtcTime(allow_none=True, metadata={"description": "Nor moves it in time."})
    service_minutes = Int(required=True)
    window_start = UtcTime(allow_none=True)
    window_end = UtcTime(allow_none=True)
    due_at = UtcTime(allow_none=True)
    reported_at = UtcTime(allow_none=True)
    required_skills = ListOf(Text(40), required=True)
    required_equipment = ListOf(Text(40), required=True)
    load_units = Int(required=True, data_key="load", attribute="load")
    follows_job_id = Ident(allow_none=True)
    assists_job_id = Ident(allow_none=True)
    customers_affected = Int(allow_none=True)
    checklist = Text(60, allow_none=True)
    checklist_version = Int(allow_none=True)
    details = JsonObject(required=True)
    result = JsonObject(allow_none=True)
    attention = ma.fields.List(JsonObject(), required=True)
    evidence = Member(Evidence, required=True)
    completed_at = UtcTime(allow_none=True)
    created_at = UtcTime(required=True)
    updated_at = UtcTime(required=True)
    rev = Int(required=True)


class Clock(Schema):
    kind = Text(20, required=True)
    started_at = UtcTime(required=True)
    due_at = UtcTime(required=True)
    verdict = Choice("running", "paused", "met", "missed", "exempted", required=True)
    reached_at = UtcTime(allow_none=True)
    known_at = UtcTime(allow_none=True)
    source = Text(300, required=True)


class AssignmentAnswer(Schema):
    crew_id = Ident(required=True)
    crew_code = Text(40, required=True)
    crew_name = Text(120, required=True)
    assignment_rev = Int(required=True)
    assigned_at = UtcTime(required=True)
    ended_at = UtcTime(allow_none=True)
    ended_reason = Text(40, allow_none=True)
    run_id = Ident(allow_none=True)


class Named(Schema):
    id = Ident(required=True)
    code = Text(60, required=True)
    name = Text(200, required=True)


class CustomerNamed(Schema):
    id = Ident(required=True)
    number = Text(40, required=True)
    name = Text(200, required=True)


class Eta(Schema):
    at = UtcTime(required=True)
    origin = Choice(
        "position",
        "job",
        "base",
        data_key="from",
        required=True,
        metadata={"description": "Where the crew is taken to be: as its device told, at its last job, at its base."},
    )
    age_s = Int(required=True, allow_none=True, metadata={"description": "How old that knowledge is."})


class JobAnswer(JobRow):
    clocks = ma.fields.List(Member(Clock), required=True)
    assignment = Member(AssignmentAnswer, allow_none=True, required=True)
    assignments = ListOf(Member(AssignmentAnswer), required=True)
    crew = Member(Named, allow_none=True, required=True)
    territory = Member(Named, allow_none=True, required=True)
    customer = Member(CustomerNamed, allow_none=True, required=True)
    eta = Member(
        Eta,
        allow_none=True,
        metadata={"description": "When the crew will be there; told to dispatchers and supervisors."},
    )


class JobsArgs(PageArgs):
    status = Choices(*STATUSES)
    kind = Choices()
    territory = Choices()
    crew = Choices()
    priority = Int(1, 9)
    customer = Ident()
    bbox = BBox()
    q = Text(100, metadata={"description": "Looked for in number, title and address."})
    since = UtcTime(data_key="from", metadata={"description": "Created at this time or later."})
    until = UtcTime(data_key="to", metadata={"description": "Created before this time."})


def _wanted(args: dict[str, Any]) -> queries.Wanted:
    return queries.Wanted(
        status=args.get("status", ()),
        kind=args.get("kind", ()),
        territory_id=args.get("territory", ()),
        crew_id=args.get("crew", ()),
        priority=(args["priority"],) if "priority" in args else (),
        customer_id=args.get("customer"),
        bbox=args.get("bbox"),
        since=args.get("since"),
        until=args.get("until"),
        text=args.get("q"),
    )


@blp.get("")
@access.staff()
@blp.arguments(JobsArgs, location="query")
@blp.response(200, page_of(JobRow))
@blp.errors("bad-cursor")
def list_jobs(args: dict[str, Any]) -> Any:
    """Jobs of your territories, newest first"""
    with reading():
        page = paging.fetch(queries.jobs(_wanted(args), g.actor.scope), (Job.created_at, Job.id), args)
        body, headers = paging.answer(page, queries.job_row)
    return body, 200, headers


@blp.post("")
@access.staff(*access.DISPATCHERS)
@idempotency.creates
@blp.arguments(JobNew)
@blp.response(201, JobAnswer)
@blp.errors("already-exists", "conflict", "forbidden")
def create_job(body: dict[str, Any]) -> Any:
    """Make a job; its point finds the territory, its kind the rest"""
    crews = body.pop("crews", 1)
    job = jobs.create(g.actor.source(utc_now()), jobs.NewJob(**body), g.actor.scope, crews=crews)
    return _answer(job, 201, Location=f"/v1/jobs/{job.id}")


@blp.get("/<id:job_id>")
@access.staff()
@blp.response(200, JobAnswer)
def get_job(job_id: str) -> Any:
    """A job with its promises, its crew, and who had it before"""
    now = utc_now()
    with reading():
        job = queries.job(job_id, g.actor.scope)
        page, status, headers = _answer(job)
        return page | _eta(job, now), status, headers


def _eta(job: Job, now: datetime) -> dict[str, Any]:
    """Told to those who may know where crews are."""
    if g.actor.role not in (*access.DISPATCHERS, ADMIN):
        return {}
    return {"eta": routes.eta(job, now, positions.travel_at_hand(now), positions.fresh())}


@blp.patch("/<id:job_id>")
@access.staff(*access.DISPATCHERS)
@etag.if_match()
@blp.arguments(JobEdit)
@blp.response(200, JobAnswer)
@blp.errors("state-not-allowed", "conflict", "forbidden")
def edit_job(body: dict[str, Any], job_id: str) -> Any:
    """Change a job; a new point finds its territory anew"""
    with transaction():
        source = g.actor.source(utc_now())
        return _answer(jobs.edit(source, job_id, body, check=etag.check, scope=g.actor.scope))


class Assign(Schema):
    crew_id = Ident(required=True)
    planned_start = UtcTime()
    pin = Flag(metadata={"description": "No dispatch run takes it from the crew; nor moves a planned_start given."})


class Reason(Schema):
    reason = Text(500, required=True, metadata={"description": "The crew and the history see it."})


@blp.post("/<id:job_id>/assign")
@access.staff(*access.DISPATCHERS)
@etag.if_match(required=False)
@blp.arguments(Assign)
@blp.response(200, JobAnswer)
@blp.errors("state-not-allowed", "conflict")
def assign_job(body: dict[str, Any], job_id: str) -> Any:
    """Give the job to a crew; one that had it before is told"""
    with transaction():
        source = g.actor.source(utc_now())
        return _answer(jobs.assign(source, job_id, **body, check=etag.check, scope=g.actor.scope))


@blp.post("/<id:job_id>/unassign")
@access.staff(*access.DISPATCHERS)
@etag.if_match(required=False)
@blp.arguments(Reason)
@blp.response(200, JobAnswer)
@blp.errors("state-not-allowed")
def unassign_job(body: dict[str, Any], job_id: str) -> Any:
    """Take the job from its crew; it waits for another"""
    with transaction():
        source = g.actor.source(utc_now())
        return _answer(jobs.unassign(source, job_id, body["reason"], check=etag.check, scope=g.actor.scope))


@blp.post("/<id:job_id>/unpin")
@access.staff(*access.DISPATCHERS)
@etag.if_match(required=False)
@blp.response(200, JobAnswer)
@blp.errors("state-not-allowed")
def unpin_job(job_id: str) -> Any:
    """Let dispatch runs decide about the job again"""
    with transaction():
        source = g.actor.source(utc_now())
        return _answer(jobs.unpin(source, job_id, check=etag.check, scope=g.actor.scope))


@blp.post("/<id:job_id>/cancel")
@access.staff(*access.DISPATCHERS)
@etag.if_match(required=False)
@blp.arguments(Reason)
@blp.response(200, JobAnswer)
@blp.errors("state-not-allowed")
def cancel_job(body: dict[str, Any], job_id: str) -> Any:
    """Cancel a job that has not ended"""
    with transaction():
        source = g.actor.source(utc_now())
        return _answer(jobs.cancel(source, job_id, body["reason"], check=etag.check, scope=g.actor.scope))


def _answer(job: Job, status: int = 200, **headers: str) -> tuple[dict[str, Any], int, dict[str, str]]:
    return queries.job_page(job), status, {**etag.tag(job.rev), **headers}
