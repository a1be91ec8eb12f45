"""Whether the service is up, what it can do, and what its error codes mean."""

from __future__ import annotations

from typing import Any

from flask import Response, current_app
from sqlalchemy import text

from fieldsvc import __version__, queue
from fieldsvc.api import access
from fieldsvc.api.frame import Blueprint
from fieldsvc.api.schemas import Choice, Int, Schema, Text
from fieldsvc.base.db import reading
from fieldsvc.base.errors import CODES, NotFound

blp = Blueprint("health", __name__, description="Health, and this description")


class Health(Schema):
    status = Choice("ok", required=True)
    database = Choice("ok", required=True)
    redis = Choice("ok", "away", required=True, metadata={"description": "away: slower, but nothing is lost"})
    version = Text(40, required=True)


@blp.get("/healthz")
@access.public("load balancers and supervisors ask without credentials")
@blp.response(200, Health)
@blp.errors("unavailable")
def health() -> dict[str, Any]:
    """Whether the service can work

    200 as long as the database answers; Redis away only means that workers hear of new work later.
    """
    with reading() as session:
        session.execute(text("SELECT 1"))
    redis = "ok" if queue.ready(current_app.extensions["fieldsvc.settings"]) else "away"
    return {"status": "ok", "database": "ok", "redis": redis, "version": __version__}


class ProblemType(Schema):
    code = Text(40, required=True)
    status = Int(400, 599, required=True)
    title = Text(200, required=True)


@blp.get("/problems/<id:code>")
@access.public("the type of every problem document leads here")
@blp.response(200, ProblemType)
def problem_type(code: str) -> dict[str, Any]:
    """What an error code means"""
    if code not in CODES:
        raise NotFound("error code", code)
    status, title = CODES[code]
    return {"code": code, "status": status, "title": title}


@blp.get("/openapi.json")
@access.public("a description, the same for everybody")
@blp.response(200, {"type": "object"}, description="OpenAPI 3.1")
def openapi() -> Response:
    """This description"""
    api = current_app.extensions["flask-smorest"]["apis"][""]["ext_obj"]
    return Response(current_app.json.dumps(api.described(), sort_keys=False), mimetype="application/json")
