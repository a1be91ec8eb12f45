"""What a person sees when something cannot be done: a page that says what and what next, or a line where they were."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import structlog
from flask import Flask, Response, current_app, render_template, request
from flask_babel import gettext as _
from flask_wtf.csrf import CSRFError
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnection
from werkzeug.exceptions import HTTPException

from fieldsvc.api import problems
from fieldsvc.base.errors import FieldsvcError
from fieldsvc.console.frame import pages, to_sign_in, wants_data
from fieldsvc.console.libraries import guard
from fieldsvc.console.session import recognise
from fieldsvc.console.words import said

log = structlog.get_logger(__name__)

_MACHINES = ("/v1", "/sync", "/ogc")


def init_app(app: Flask) -> None:
    """Show pages for errors of the console, and for what a person asks of an address that takes nothing of the kind."""
    app.after_request(_for_people)


@pages.errorhandler(FieldsvcError)
def _expected(error: FieldsvcError) -> Any:
    headers = {} if error.retry_after is None else {"Retry-After": str(max(1, error.retry_after))}
    if wants_data():
        return problems.problem(error.code, error.detail, errors=error.errors, extra=error.extra, headers=headers)
    if error.code == "unauthenticated":
        return to_sign_in()
    return _page(error.status, said(error.detail), headers)


@pages.errorhandler(CSRFError)
def _not_from_here(error: CSRFError) -> Any:
    return _page(
        400, _("This form is too old, or did not come from this console. Go back, reload the page, send it again.")
    )


@pages.errorhandler(HTTPException)
def _of_http(error: HTTPException) -> Any:
    if error.code is None or error.code < 400 or error.response is not None:
        return error.get_response()
    return _page(error.code, _text(error.code))


def _text(status: int) -> str:
    most = current_app.config["MAX_CONTENT_LENGTH"] / 1024**2
    texts: dict[int, str] = {
        404: _("There is nothing at this address, or it is not yours to see."),
        405: _("This address shows nothing by itself, or takes no form. Go back and follow a link or a button."),
        413: _("This is too large: at most %(size)s MB are taken at once.", size=f"{most:.3g}"),
        500: _("This is a fault of the service. The number below finds it in the log."),
    }
    return texts[status] if status in texts else str(_("The request could not be read."))


@pages.errorhandler(IntegrityError)
def _raced(error: IntegrityError) -> Any:
    return _page(409, _("Something else was written at the same moment: look again and repeat it."))


@pages.errorhandler(OperationalError)
@pages.errorhandler(NoConnection)
def _database_away(error: DBAPIError | NoConnection) -> Any:
    log.error("database-away", error=type(error).__name__)
    return _page(
        503, _("The database does not answer right now. Nothing you typed has been saved; try again in a moment.")
    )


@pages.errorhandler(Exception)
def _mistake(error: Exception) -> Any:
    log.error("unexpected", exc_info=error)
    return _page(500, _text(500))


def _page(status: int, text: str, headers: dict[str, str] | None = None) -> Any:
    """The error as a page; as a line at the top when htmx asked for a piece of one."""
    if wants_data():
        code = {400: "bad-request", 404: "not-found", 405: "method-not-allowed", 409: "conflict", 413: "too-large"}
        return problems.problem(code.get(status, "unavailable" if status == 503 else "internal"), text)
    return _shown(status, text), status, headers or {}


def _shown(status: int, text: str) -> str:
    template = "_fault.html" if request.headers.get("HX-Request") else "error.html"
    return render_template(template, status=status, text=text[:1].upper() + text[1:])


def _for_people(response: Response) -> Response:
    """A problem that was found before any page was, such as a mistyped address, becomes a page when a person asks."""
    found_before = request.url_rule is None and response.mimetype == problems.MEDIA_TYPE
    person = "text/html" in request.headers.get("Accept", "") or request.headers.get("HX-Request")
    if not (found_before and person) or request.path.startswith(_MACHINES):
        return response
    with suppress(DBAPIError, NoConnection):  # then the page is without its menu
        recognise()
    response.set_data(_shown(response.status_code, _text(response.status_code)))
    response.mimetype = "text/html"
    return guard(response)
