"""Dispatch runs: asked for here, done by a worker, explained job by job."""

from __future__ import annotations

from typing import Any

import marshmallow as ma
from flask import Response, after_this_request, g

from fieldsvc import queue
from fieldsvc.api import access, idempotency, paging
from fieldsvc.api.frame import Blueprint
from fieldsvc.api.jobs import KindName
from fieldsvc.api.schemas import Choice, Ident, Int, ListOf, Number, PageArgs, Schema, Text, UtcTime, page_of
from fieldsvc.base.clock import utc_now
from fieldsvc.base.db import reading
from fieldsvc.work import dispatch
from fieldsvc.work.models import DispatchDecision, DispatchRun

blp = Blueprint("dispatch", __name__, url_prefix="/v1/dispatch-runs", description="Dispatch: who does what, and why")


class RunNew(Schema):
    territory_ids = ListOf(Ident(), max=1000, min=1, metadata={"description": "Default: all of yours."})
    kinds = ListOf(KindName(), max=50, min=1, metadata={"description": "Default: every kind of job."})
    plan_from = UtcTime(metadata={"description": "Plan from this time on; default and earliest: now."})


class RunAnswer(Schema):
    id = Ident(required=True)
    state = Choice("queued", "running", "done", "failed", required=True)
    territory_ids = ma.fields.List(Ident(), allow_none=True)
    kinds = ma.fields.List(ma.fields.String(), allow_none=True)
    plan_from = UtcTime(required=True)
    requested_by = Ident(allow_none=True)
    requested_by_name = Text(120, allow_none=True)
    created_at = UtcTime(required=True)
    started_at = UtcTime(allow_none=True)
    finished_at = UtcTime(allow_none=True)
    considered = Int(required=True)
    assigned = Int(required=True)
    not_assigned = ma.fields.Dict(
        keys=ma.fields.String(), values=ma.fields.Integer(), required=True, metadata={"description": "Reason → jobs."}
    )
    attempts = Int(required=True)
    failure = Text(300, allow_none=True)


class DecisionAnswer(Schema):
    place = Int(required=True)
    job_id = Ident(required=True)
    job_number = Text(40, required=True)
    crew_id = Ident(allow_none=True)
    crew_code = Text(40, allow_none=True)
    reason = Text(40, required=True)
    detail = Text(500, required=True)
    planned_start = UtcTime(allow_none=True)
    planned_order = Int(allow_none=True)
    distance_m = Number(0, 1e8, allow_none=True)


@blp.post("")
@access.staff(*access.DISPATCHERS)
@idempotency.creates
@blp.arguments(RunNew, required=False)
@blp.response(202, RunAnswer)
@blp.errors("conflict")
def create_run(body: dict[str, Any]) -> Any:
    """Assign what waits in your territories; a worker does it, Location says how far it is"""
    run = dispatch.request(
        g.actor.source(utc_now()),
        scope=g.actor.scope,
        territory_ids=body.get("territory_ids"),
        wanted_kinds=body.get("kinds"),
        plan_from=body.get("plan_from"),
    )
    _ring_after(run.id)
    return dispatch.row(run), 202, {"Location": f"/v1/dispatch-runs/{run.id}"}


def _ring_after(run_id: str) -> None:
    """Ring once the transaction has been committed and the answer is made."""

    @after_this_request
    def _ring(response: Response) -> Response:
        if response.status_code == 202:
            queue.ring("run_dispatch", run_id)
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
        body, headers = paging.answer(page, dispatch.row)
    return body, 200, headers


@blp.get("/<id:run_id>")
@access.staff()
@blp.response(200, RunAnswer)
def get_run(run_id: str) -> Any:
    """How far a run is, and its counts"""
    with reading():
        return dispatch.row(dispatch.find(run_id, g.actor.id, g.actor.scope))


@blp.get("/<id:run_id>/decisions")
@access.staff()
@blp.arguments(PageArgs, location="query")
@blp.response(200, page_of(DecisionAnswer))
@blp.errors("bad-cursor")
def list_decisions(args: dict[str, Any], run_id: str) -> Any:
    """What the run decided for every job, and why"""
    with reading():
        run = dispatch.find(run_id, g.actor.id, g.actor.scope)
        page = paging.fetch(
            dispatch.decisions(run.id),
            (DispatchDecision.place,),
            args,
            descending=False,
            scalars=False,
            key=lambda row: [row[0].place],
        )
        body, headers = paging.answer(page, dispatch.decision_row)
    return body, 200, headers
