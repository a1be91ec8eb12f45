"""Dispatch runs: asked for here, done by a worker, explained job by job."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import marshmallow as ma
from flask import Response, after_this_request, current_app, g

from fieldsvc import queue
from fieldsvc.api import access, idempotency, paging
from fieldsvc.api.frame import Blueprint
from fieldsvc.api.jobs import KindName
from fieldsvc.api.schemas import (
    Choice,
    Flag,
    Ident,
    Int,
    JsonObject,
    ListOf,
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
from fieldsvc.work import dispatch
from fieldsvc.work.models import DispatchArea, DispatchDecision, DispatchRun

blp = Blueprint("dispatch", __name__, url_prefix="/v1/dispatch-runs", description="Dispatch: who does what, and why")


class RunNew(Schema):
    mode = Choice(
        *dispatch.MODES,
        metadata={
            "description": "fill (default): what waits is given to crews, nothing else moves. replan: everything that "
            "is not under way or pinned is planned anew. insert: job_id is put in. crew_out: what without_crew_ids "
            "hold is given to others."
        },
    )
    what_if = Flag(metadata={"description": "Change nothing until the run is accepted."})
    territory_ids = ListOf(Ident(), max=1000, min=1, metadata={"description": "Default: all of yours."})
    kinds = ListOf(KindName(), max=50, min=1, metadata={"description": "Default: every kind of job."})
    job_id = Ident(metadata={"description": "What insert puts in."})
    without_crew_ids = ListOf(Ident(), max=20, min=1, metadata={"description": "Who drops out in crew_out."})
    plan_from = UtcTime(metadata={"description": "Plan from this time on; default and earliest: now."})
    plan_until = UtcTime(
        metadata={"description": "Plan shifts that begin before; default: 24 hours on, at most 7 days."}
    )


class Totals(Schema):
    """What a plan comes to."""

    jobs = Int(required=True)
    assigned = Int(required=True)
    late = Int(required=True, metadata={"description": "Begun after they were promised."})
    metres = Int(required=True)
    travel_minutes = Int(required=True)
    overtime_minutes = Int(required=True)


class TravelAnswer(Schema):
    """Where the travel times came from."""

    provider = Text(200, min=0, required=True)
    pairs = Int(required=True)
    cached = Int(required=True)
    fallback = Int(required=True, metadata={"description": "Pairs the provider did not know."})
    holes = Int(required=True, metadata={"description": "Pairs without any way between them."})
    notes = ma.fields.List(ma.fields.String(), required=True)


class RunAnswer(Schema):
    id = Ident(required=True)
    state = Choice("queued", "running", "done", "failed", "cancelled", required=True)
    mode = Choice(*dispatch.MODES, required=True)
    what_if = Flag(required=True)
    territory_ids = ma.fields.List(Ident(), allow_none=True)
    kinds = ma.fields.List(ma.fields.String(), allow_none=True)
    job_id = Ident(allow_none=True)
    without_crew_ids = ma.fields.List(Ident(), allow_none=True)
    waits_for = Ident(allow_none=True, metadata={"description": "The run that is planning one of its territories."})
    plan_from = UtcTime(required=True)
    plan_until = UtcTime(allow_none=True)
    requested_by = Ident(allow_none=True)
    requested_by_name = Text(120, allow_none=True)
    created_at = UtcTime(required=True)
    started_at = UtcTime(allow_none=True)
    finished_at = UtcTime(allow_none=True)
    stage = Choice("area", "border", allow_none=True, required=True)
    areas = Int(required=True)
    areas_done = Int(required=True)
    considered = Int(required=True)
    assigned = Int(required=True)
    not_assigned = ma.fields.Dict(
        keys=ma.fields.String(), values=ma.fields.Integer(), required=True, metadata={"description": "Reason → jobs."}
    )
    taken = ma.fields.Dict(
        keys=ma.fields.String(),
        values=ma.fields.Integer(),
        required=True,
        metadata={"description": "What became of the decisions → jobs: wanted, accepted, changed_meanwhile."},
    )
    attempts = Int(required=True)
    failure = Text(300, allow_none=True)
    before = Member(Totals, allow_none=True, metadata={"description": "The plan in force when this one was made."})
    after = Member(Totals, allow_none=True)
    travel = Member(TravelAnswer, allow_none=True)
    accepted_at = UtcTime(allow_none=True)
    accepted_by = Ident(allow_none=True)
    accepted_by_name = Text(120, allow_none=True)


class AreaAnswer(Schema):
    number = Int(required=True)
    stage = Choice("area", "border", required=True)
    state = Choice("queued", "running", "planned", "done", "failed", "cancelled", required=True)
    territory_ids = ma.fields.List(Ident(), required=True)
    crew_ids = ma.fields.List(Ident(), required=True)
    attempts = Int(required=True)
    started_at = UtcTime(allow_none=True)
    finished_at = UtcTime(allow_none=True)
    considered = Int(required=True)
    assigned = Int(required=True)
    failure = Text(300, allow_none=True)
    before = Member(Totals, allow_none=True)
    after = Member(Totals, allow_none=True)
    travel = Member(TravelAnswer, allow_none=True)


class DecisionAnswer(Schema):
    place = Int(required=True)
    area = Int(allow_none=True)
    job_id = Ident(required=True)
    job_number = Text(40, required=True)
    crew_id = Ident(allow_none=True)
    crew_code = Text(40, allow_none=True)
    reason = Text(40, required=True)
    detail = Text(500, required=True)
    why = JsonObject(allow_none=True, metadata={"description": "The numbers behind the detail."})
    planned_start = UtcTime(allow_none=True)
    planned_end = UtcTime(allow_none=True)
    planned_order = Int(allow_none=True)
    distance_m = Number(0, 1e8, allow_none=True)
    late_minutes = Number(0, 1e8, allow_none=True)
    former_crew_id = Ident(allow_none=True)
    former_crew_code = Text(40, allow_none=True)
    former_start = UtcTime(allow_none=True)
    later_minutes = Number(-1e8, 1e8, allow_none=True, metadata={"description": "Than it was planned before."})
    taken = Choice("wanted", "accepted", "changed_meanwhile", allow_none=True)


class Acceptance(Schema):
    job_ids = ListOf(Ident(), max=1000, min=1, metadata={"description": "Default: all that the run decided."})


@blp.post("")
@access.staff(*access.DISPATCHERS)
@idempotency.creates
@blp.arguments(RunNew, required=False)
@blp.response(202, RunAnswer)
@blp.errors("conflict", "state-not-allowed")
def create_run(body: dict[str, Any]) -> Any:
    """Plan the work of your territories; workers do it, Location says how far they are"""
    run = dispatch.request(g.actor.source(utc_now()), scope=g.actor.scope, **body)
    _ring_after([("run_dispatch", run.id)])
    return dispatch.row(run), 202, {"Location": f"/v1/dispatch-runs/{run.id}"}


def _ring_after(rings: Sequence[tuple[str, ...]]) -> None:
    """Ring once the transaction has been committed and the answer is made."""

    @after_this_request
    def _ring(response: Response) -> Response:
        if response.status_code < 300:
            for one in rings:
                queue.ring(*one)
        return response


@blp.get("")
@access.staff()
@blp.arguments(PageArgs, location="query")
@blp.response(200, page_of(RunAnswer))
@blp.errors("bad-cursor")
def list_runs(args: dict[str, Any]) -> Any:
    """Runs, newest first; with a territory scope, your own"""
    with reading():
        query = dispatch.runs(g.actor.id, g.actor.scope)
        page = paging.fetch(query, (DispatchRun.created_at, DispatchRun.id), args)
        told = dispatch.rows(page.rows)
        body, headers = paging.answer(page, lambda run: told[run.id])
    return body, 200, headers


@blp.get("/<id:run_id>")
@access.staff()
@blp.response(200, RunAnswer)
def get_run(run_id: str) -> Any:
    """How far a run is, and its counts"""
    with reading():
        return dispatch.row(dispatch.find(run_id, g.actor.id, g.actor.scope))


@blp.post("/<id:run_id>/accept")
@access.staff(*access.DISPATCHERS)
@blp.arguments(Acceptance, required=False)
@blp.response(202, RunAnswer)
@blp.errors("conflict", "state-not-allowed")
def accept_run(body: dict[str, Any], run_id: str) -> Any:
    """Carry out what a what-if run found

    A worker does it, job by job. What has changed since the plan was made is left as it is: the decision then says
    `changed_meanwhile`. With `job_ids` go the changes they cannot be carried out without: the other half of work for
    two crews, what they follow, and what has to leave the hours they are given, the driving included.
    """
    now = utc_now()
    travel = current_app.extensions["fieldsvc.travel"].at_hand(now.date())
    with transaction():
        run = dispatch.accept(g.actor.source(now), run_id, g.actor.scope, travel, body.get("job_ids"))
        _ring_after([("run_dispatch", run.id)])
        return dispatch.row(run), 202, {"Location": f"/v1/dispatch-runs/{run.id}"}


@blp.post("/<id:run_id>/cancel")
@access.staff(*access.DISPATCHERS)
@blp.response(200, RunAnswer)
@blp.errors("state-not-allowed")
def cancel_run(run_id: str) -> Any:
    """Call a run off; what it has assigned by then stays"""
    with transaction():
        run, rings = dispatch.cancel(g.actor.source(utc_now()), run_id, g.actor.scope)
        _ring_after(rings)
        return dispatch.row(run)


@blp.get("/<id:run_id>/areas")
@access.staff()
@blp.arguments(PageArgs, location="query")
@blp.response(200, page_of(AreaAnswer))
@blp.errors("bad-cursor")
def list_areas(args: dict[str, Any], run_id: str) -> Any:
    """The parts of a run that are planned by themselves, and how far each is"""
    with reading():
        run = dispatch.find(run_id, g.actor.id, g.actor.scope)
        page = paging.fetch(dispatch.areas(run.id), (DispatchArea.number,), args, descending=False)
        body, headers = paging.answer(page, dispatch.area_row)
    return body, 200, headers


@blp.get("/<id:run_id>/decisions")
@access.staff()
@blp.arguments(PageArgs, location="query")
@blp.response(200, page_of(DecisionAnswer))
@blp.errors("bad-cursor")
def list_decisions(args: dict[str, Any], run_id: str) -> Any:
    """What the run decided for every job, and why"""
    return _decisions(run_id, args, dispatch.decisions)


@blp.get("/<id:run_id>/changes")
@access.staff()
@blp.arguments(PageArgs, location="query")
@blp.response(200, page_of(DecisionAnswer))
@blp.errors("bad-cursor")
def list_changes(args: dict[str, Any], run_id: str) -> Any:
    """What that changes: which job goes from whom to whom, and how much later it begins"""
    return _decisions(run_id, args, dispatch.changes)


def _decisions(run_id: str, args: dict[str, Any], of_run: Callable[[str], Any]) -> Any:
    with reading():
        run = dispatch.find(run_id, g.actor.id, g.actor.scope)
        page = paging.fetch(
            of_run(run.id),
            (DispatchDecision.place,),
            args,
            descending=False,
            scalars=False,
            key=lambda row: [row[0].place],
        )
        body, headers = paging.answer(page, dispatch.decision_row)
    return body, 200, headers
