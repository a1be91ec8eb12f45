"""The HTTP API: ``/v1`` for staff, ``/sync/v1`` for devices. Thin views, one module per room.

How a view is made is told in :mod:`fieldsvc.api.frame`; who may call it in :mod:`fieldsvc.api.access`; every error is a
problem document (:mod:`fieldsvc.api.problems`); lists are paged by :mod:`fieldsvc.api.paging`; edits carry ``If-Match``
(:mod:`fieldsvc.api.etag`); creating POSTs take an ``Idempotency-Key`` (:mod:`fieldsvc.api.idempotency`).
"""

from __future__ import annotations

import importlib
import json
import re
import time
from typing import Any

import structlog
import yaml
from flask import Flask, Response, g, request

from fieldsvc import __version__
from fieldsvc.base.clock import new_id

ROOMS = (
    "accounts",
    "territories",
    "crews",
    "devices",
    "positions",
    "calendar",
    "features",
    "tickets",
    "incidents",
    "jobs",
    "assignment",
    "dispatch",
    "outages",
    "campaigns",
    "inspections",
    "records",
    "history",
    "reviews",
    "sync",
    "sync_copy",
    "attachments",
    "evidence",
    "compat_rxdb",
    "compat_watermelon",
    "stream",
    "receipts",
    "health",
)
"""The modules of this package that have a blueprint ``blp``, in the order of the description."""

_REQUEST_ID = re.compile(r"[0-9A-Za-z._-]{8,64}\Z")
_ABOUT = """\
Dispatch field work by geography, take offline results from crews, reconcile them into customer records.

Errors are RFC 9457 problem documents; the last part of `type` is a stable code. 422 is malformed content, 409 a state
that says no, 404 also what is outside of your territories. Lists are paged: follow `next` or `Link: rel="next"`. Times
are RFC 3339 with a zone, positions WGS 84 degrees, register values decimal texts. Unknown members and query parameters
are refused by `/v1`; `/sync/v1` keeps unknown members. Every operation may also answer 500 and 503 with a problem.
"""

log = structlog.get_logger(__name__)


def init_app(app: Flask) -> None:
    """Put the whole API on ``app``."""
    from fieldsvc.api import lanes, limits, pressure, stream
    from fieldsvc.api.frame import Api, IdConverter

    app.config.update(API_TITLE="fieldsvc", API_VERSION=__version__, OPENAPI_VERSION="3.1.0")
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.json.ensure_ascii = False  # type: ignore[attr-defined]
    app.url_map.converters["id"] = IdConverter
    app.url_map.merge_slashes = False
    lanes.init_app(app)
    limits.init_app(app, app.extensions["fieldsvc.settings"])
    pressure.init_app(app, app.extensions["fieldsvc.settings"])
    stream.init_app(app)
    app.before_request(_begin)
    app.after_request(_finish)
    api = Api(app, spec_kwargs={"info": {"description": _ABOUT}})
    for name, about in (("staffToken", "from POST /v1/tokens"), ("deviceToken", "from POST /sync/v1/enrol")):
        api.spec.components.security_scheme(name, {"type": "http", "scheme": "bearer", "description": about})
    basic = "user name, and an API token as the password: for calendars and maps, on routes that only read"
    api.spec.components.security_scheme("staffBasic", {"type": "http", "scheme": "basic", "description": basic})
    for room in ROOMS:
        api.register_blueprint(importlib.import_module(f"fieldsvc.api.{room}").blp)


def openapi_yaml(app: Flask) -> str:
    """The OpenAPI 3.1 description as YAML, the same text for the same code."""
    document = app.extensions["flask-smorest"]["apis"][""]["ext_obj"].described()
    plain: dict[str, Any] = json.loads(json.dumps(document))
    return yaml.dump(plain, Dumper=_Dumper, sort_keys=True, allow_unicode=True, width=120)


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as blocks, so that a person can read the file and its diffs."""


_Dumper.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None),
)
_Dumper.ignore_aliases = lambda self, data: True  # type: ignore[method-assign]


def _begin() -> None:
    sent = request.headers.get("X-Request-ID", "")
    g.request_id = sent if _REQUEST_ID.match(sent) else new_id()
    g.began = time.perf_counter()
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(request_id=g.request_id)


def _finish(response: Response) -> Response:
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers.setdefault("Referrer-Policy", "no-referrer")
    response.headers["X-Request-ID"] = g.get("request_id", "-")
    if "actor" in g or response.status_code == 401:
        response.headers.setdefault("Cache-Control", "no-store")
    took = round((time.perf_counter() - g.began) * 1000, 1) if "began" in g else None
    # The rule, never the address: an address may hold what somebody typed.
    rule = request.url_rule.rule if request.url_rule else None
    log.debug("request", method=request.method, route=rule, status=response.status_code, ms=took)
    return response
