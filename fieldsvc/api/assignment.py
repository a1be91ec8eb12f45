"""Why a job is with its crew, and why not with another: the rule or the cost that decided, in words and numbers."""

from __future__ import annotations

from typing import Any

import marshmallow as ma
from flask import current_app, g

from fieldsvc.api import access, positions
from fieldsvc.api.frame import Blueprint
from fieldsvc.api.jobs import Named
from fieldsvc.api.schemas import Choice, Flag, Ident, Int, JsonObject, ListOf, Member, Number, Schema, Text, UtcTime
from fieldsvc.base.clock import utc_now
from fieldsvc.base.db import reading
from fieldsvc.geo.explain import COSTS, HARD_RULES
from fieldsvc.work import assignment

blp = Blueprint("assignment", __name__, url_prefix="/v1/jobs", description="Why this crew, and why not that one")


class WhyArgs(Schema):
    crew = Ident(metadata={"description": "Why not this crew? Without it: the crews that could, the best first."})


class CrewVerdict(Schema):
    crew_id = Ident(required=True)
    crew_code = Text(40, required=True)
    possible = Flag(required=True)
    rule = Choice(
        *HARD_RULES,
        *COSTS,
        required=True,
        metadata={"description": "Stable. What says no to the crew or, where it could, what decides against it."},
    )
    words = Text(1000, required=True)
    numbers = JsonObject(required=True, metadata={"description": "The numbers in `words`, times in RFC 3339."})


class Given(Schema):
    by = Choice("run", "staff", required=True)
    name = Text(120, allow_none=True, required=True)
    at = UtcTime(allow_none=True, required=True)
    since = UtcTime(allow_none=True, required=True, metadata={"description": "Since when this crew has had it."})
    run_id = Ident(allow_none=True, required=True)
    pinned = Flag(required=True)


class Decided(Schema):
    run_id = Ident(required=True)
    mode = Text(10, required=True)
    decided_at = UtcTime(required=True)
    reason = Text(40, required=True)
    detail = Text(500, required=True)
    why = JsonObject(allow_none=True, required=True)
    planned_start = UtcTime(allow_none=True, required=True)
    planned_end = UtcTime(allow_none=True, required=True)
    planned_order = Int(allow_none=True, required=True)
    distance_m = Number(0, 1e8, allow_none=True, required=True)
    late_minutes = Number(0, 1e8, allow_none=True, required=True)


class TravelUsed(Schema):
    provider = Text(40, required=True)
    pairs = Int(required=True)
    cached = Int(required=True)
    fallback = Int(required=True)
    holes = Int(required=True)
    notes = ma.fields.List(ma.fields.String(), required=True)


class RuleCited(Schema):
    name = Text(60, required=True)
    source = Text(500, required=True)


class WhyAnswer(Schema):
    job_id = Ident(required=True)
    job_number = Text(40, required=True)
    status = Text(30, required=True)
    tier = Text(20, allow_none=True, required=True)
    crew = Member(Named, allow_none=True, required=True)
    given = Member(
        Given, allow_none=True, required=True, metadata={"description": "By whom its crew got it, and when."}
    )
    rule = Text(40, required=True, metadata={"description": "Stable: what decided, or why nobody has it."})
    words = Text(2000, required=True)
    numbers = JsonObject(required=True)
    decision = Member(
        Decided, allow_none=True, required=True, metadata={"description": "What the last run that stands decided."}
    )
    changed_since = ListOf(
        Text(500), required=True, metadata={"description": "What is no longer as it was when the run decided."}
    )
    holder = Member(
        CrewVerdict, allow_none=True, required=True, metadata={"description": "Its crew, as it stands now."}
    )
    asked = Member(CrewVerdict, allow_none=True, required=True, metadata={"description": "The crew asked about."})
    alternatives = ListOf(
        Member(CrewVerdict), max=5, required=True, metadata={"description": "Other crews that could, the best first."}
    )
    possible = Int(required=True, metadata={"description": "How many other crews could."})
    impossible = ma.fields.Dict(
        keys=ma.fields.String(), values=ma.fields.Integer(), required=True, metadata={"description": "Rule → crews."}
    )
    left_out = Int(required=True, metadata={"description": "Crews too far away to be looked at."})
    rules = ListOf(
        Member(RuleCited), required=True, metadata={"description": "Entries of the rule pack `dispatch` behind it."}
    )
    travel = Member(TravelUsed, allow_none=True, required=True)
    asked_at = UtcTime(required=True)


@blp.get("/<id:job_id>/assignment")
@access.staff()
@blp.arguments(WhyArgs, location="query")
@blp.response(200, WhyAnswer)
def get_assignment(args: dict[str, Any], job_id: str) -> Any:
    """Why this crew, or why not that one"""
    now = utc_now()
    travel = current_app.extensions["fieldsvc.travel"].on(now.date())
    zone = current_app.extensions["fieldsvc.settings"].local_zone
    with reading():
        return assignment.why(
            job_id, args.get("crew"), scope=g.actor.scope, travel=travel, zone=zone, now=now, fresh=positions.told()
        )
