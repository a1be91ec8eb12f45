"""The door's error answers: every failure becomes one RFC 9457 problem document, whatever raised it.

Shape: ``{"type": "/problems/<code>", "title", "status", "detail", "errors": [{"field", "reason"}]}`` and the further
members an error carries, as ``application/problem+json``. Nothing of a driver, a path or a secret is ever echoed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
import structlog
from flask import Flask, Response, current_app
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnection
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from fieldsvc.base.errors import CODES, FieldsvcError, Invalid

MEDIA_TYPE = "application/problem+json"
_MOST_ERRORS = 50
_MOST_TEXT = 300

log = structlog.get_logger(__name__)

_CODE_OF_STATUS = {
    400: "bad-request",
    401: "unauthenticated",
    403: "forbidden",
    404: "not-found",
    405: "method-not-allowed",
    406: "not-acceptable",
    409: "conflict",
    412: "precondition-failed",
    413: "too-large",
    415: "unsupported-media-type",
    422: "invalid",
    428: "precondition-required",
    429: "too-many-requests",
    503: "unavailable",
}

SCHEMA: dict[str, Any] = {
    "type": "object",
    "description": "RFC 9457 problem document. `type` ends in the stable code of the error.",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "pattern": "^/problems/[a-z-]+$"},
        "title": {"type": "string"},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["field", "reason"],
                "properties": {"field": {"type": "string"}, "reason": {"type": "string"}},
            },
        },
    },
}


def init_app(app: Flask) -> None:
    """Answer every error of ``app`` with a problem document."""
    app.register_error_handler(FieldsvcError, _expected)
    app.register_error_handler(HTTPException, _of_http)
    app.register_error_handler(IntegrityError, _raced)
    app.register_error_handler(OperationalError, _database_away)
    app.register_error_handler(NoConnection, _no_connection)
    app.register_error_handler(Exception, _mistake)


def problem(
    code: str,
    detail: str = "",
    *,
    errors: Sequence[Mapping[str, Any]] = (),
    extra: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """The answer for ``code`` (a key of :data:`fieldsvc.base.errors.CODES`)."""
    status, title = CODES[code]
    body: dict[str, Any] = {
        "type": f"/problems/{code}",
        "title": title,
        "status": status,
        "detail": _clean(detail or title),
    }
    if errors:
        body["errors"] = [
            {key: _clean(value) if isinstance(value, str) else value for key, value in error.items()}
            for error in list(errors)[:_MOST_ERRORS]
        ]
    if extra:
        body.update(extra)
    return Response(orjson.dumps(body, default=str), status=status, mimetype=MEDIA_TYPE, headers=dict(headers or {}))


def challenge(invalid: bool = False, basic: bool = False) -> dict[str, str]:
    """The ``WWW-Authenticate`` header of RFC 6750; ``invalid`` when a token was sent and is not (any longer) one.

    ``basic``: the token may come as a password as well (RFC 7617).
    """
    bearer = 'Bearer realm="fieldsvc"' + (', error="invalid_token"' if invalid else "")
    return {"WWW-Authenticate": 'Basic realm="fieldsvc", charset="UTF-8", ' + bearer if basic else bearer}


def flatten(messages: Any, prefix: str = "") -> list[dict[str, str]]:
    """Marshmallow's nested messages as ``{"field": "/pointer", "reason"}``."""
    if isinstance(messages, Mapping):
        found = []
        for key, inner in messages.items():
            found += flatten(
                inner, prefix if key == "_schema" else f"{prefix}/{str(key).replace('~', '~0').replace('/', '~1')}"
            )
        return found
    reasons = messages if isinstance(messages, list | tuple) else [messages]
    found = []
    for reason in reasons:
        found += (
            flatten(reason, prefix)
            if isinstance(reason, Mapping)
            else [{"field": prefix or "/", "reason": str(reason)}]
        )
    return found


def invalid(messages: Any, *, where: str = "body") -> Invalid:
    """422 for what a schema found; query parameters are named plainly, members of a body by JSON pointer."""
    errors = flatten(messages)
    if where != "body":
        errors = [error | {"field": error["field"].lstrip("/").split("/")[0] or where} for error in errors]
    errors = [{"field": _clean(error["field"]), "reason": _clean(error["reason"])} for error in errors[:_MOST_ERRORS]]
    first = errors[0] if errors else {"field": where, "reason": "not valid"}
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return Invalid(f"{first['field']}: {first['reason']}{more}", errors=errors)


def _clean(text: Any) -> str:
    """Echoed input, short and encodable."""
    short = str(text)
    if len(short) > _MOST_TEXT:
        short = short[: _MOST_TEXT - 1] + "…"
    return short.encode("utf-8", "replace").decode()


def _expected(error: FieldsvcError) -> Response:
    headers: dict[str, str] = {}
    extra = dict(error.extra)
    if error.retry_after is not None:
        headers["Retry-After"] = str(max(1, error.retry_after))
    if error.code == "unauthenticated":
        headers |= challenge(bool(extra.pop("invalid_token", False)), bool(extra.pop("basic", False)))
    return problem(error.code, error.detail, errors=error.errors, extra=extra, headers=headers)


def _of_http(error: HTTPException) -> Response:
    if error.code is None or error.code < 400 or error.response is not None:
        return error.get_response()  # type: ignore[return-value]  # a redirect of the routing, or a ready answer
    if error.code >= 500 and error.code != 503:
        return _mistake(getattr(error, "original_exception", None) or error)
    code = _CODE_OF_STATUS.get(error.code, "bad-request")
    headers = {}
    if isinstance(error, MethodNotAllowed) and error.valid_methods:
        headers["Allow"] = ", ".join(sorted(error.valid_methods))
    if code == "unauthenticated":
        headers |= challenge()
    details = {
        "not-found": "nothing is at this address",
        "method-not-allowed": "this address does not take that method; Allow says which ones it does",
        "too-large": f"the request is larger than {current_app.config['MAX_CONTENT_LENGTH']} bytes",
        "bad-request": "the request could not be read",
    }
    return problem(code, details.get(code, ""), headers=headers)


def _raced(error: IntegrityError) -> Response:
    """Two requests wanted the same unique thing at once, and the use case's own look came too early to see it."""
    diagnosis = getattr(error.orig, "diag", None)  # PostgreSQL's; SQLite names the columns in its message, never values
    constraint = diagnosis.constraint_name if diagnosis else str(error.orig)
    log.warning("integrity", error=type(error.orig).__name__, constraint=constraint)
    return problem("conflict", "something else was written at the same moment: look again and repeat the request")


def _database_away(error: DBAPIError) -> Response:
    log.error("database-away", error=type(error.orig).__name__)
    return problem("unavailable", "the database does not answer right now", headers={"Retry-After": "2"})


def _no_connection(error: NoConnection) -> Response:
    """Every connection of this process is in use, and none came back in time."""
    log.error("no-connection")
    return problem("unavailable", "the database has too much to do right now", headers={"Retry-After": "5"})


def _mistake(error: BaseException) -> Response:
    log.error("unexpected", exc_info=error)
    return problem("internal", "this is a fault of the service; the X-Request-ID of this answer finds it in the log")
