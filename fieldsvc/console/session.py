"""Signing in and out, and who a request of a browser is from.

The signed cookie holds the secret of a session that is kept on the server (:mod:`fieldsvc.people.sessions`) and looked
up with every request: signing out ends it for whoever has the cookie, another password and disabling the account end
every session of it. The cookie is renewed with every answer; an open board, too, keeps its session going.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Any

import flask_login
import structlog
from flask import Flask, current_app, flash, g, redirect, render_template, request, session, url_for
from flask.sessions import SecureCookieSessionInterface, SessionMixin
from flask_babel import gettext as _
from flask_wtf.csrf import CSRFProtect
from sqlalchemy.exc import DBAPIError

from fieldsvc.api import limits
from fieldsvc.api.schemas import Schema, Text
from fieldsvc.base.clock import utc_now
from fieldsvc.base.db import reading, transaction
from fieldsvc.base.errors import FieldsvcError
from fieldsvc.console.frame import Refused, actor, form, page, pages, public, typed, way_back
from fieldsvc.people import sessions, staff
from fieldsvc.people.actors import Actor
from fieldsvc.people.models import Staff
from fieldsvc.people.sessions import SignedIn

log = structlog.get_logger(__name__)

csrf = CSRFProtect()
_login = flask_login.LoginManager()
_OF_NOBODY = ("console.static", "console.library")
"""Files that are the same for everybody, and may be kept by whatever lies between a browser and us."""
_BROWSERS = {
    "Edg": "Edge", "EdgA": "Edge", "EdgiOS": "Edge", "OPR": "Opera", "SamsungBrowser": "Samsung Internet",
    "Firefox": "Firefox", "FxiOS": "Firefox", "CriOS": "Chrome", "Chrome": "Chrome", "Safari": "Safari",
}  # fmt: skip
_SYSTEMS = {
    "Windows": "Windows", "Android": "Android", "iPhone": "iOS", "iPad": "iPadOS", "Macintosh": "macOS",
    "CrOS": "ChromeOS", "Linux": "Linux",
}  # fmt: skip
"""Word in what a browser says of itself → its name. The first that is there counts: most also name others."""


class _Sessions(SecureCookieSessionInterface):
    """Renews a session's cookie with every answer, except with those that others may be given, too."""

    def should_set_cookie(self, app: Flask, session: SessionMixin) -> bool:
        return request.endpoint not in _OF_NOBODY and super().should_set_cookie(app, session)


class _Visitor(flask_login.UserMixin):
    """A session as Flask-Login knows it; ``id``, its secret, is what the cookie holds."""

    def __init__(self, secret: str, found: SignedIn) -> None:
        self.id = secret
        self.found = found


class SignIn(Schema):
    username = Text(80, required=True)
    password = Text(staff.PASSWORD_LENGTH[1], required=True)


def init_app(app: Flask) -> None:
    """Sessions and CSRF protection for the pages of ``app``; its API keeps to tokens."""
    settings = app.extensions["fieldsvc.settings"]
    app.config.update(
        SESSION_COOKIE_NAME="fieldsvc",
        SESSION_COOKIE_SECURE=True,
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
        PERMANENT_SESSION_LIFETIME=settings.session_ttl,
        SESSION_REFRESH_EACH_REQUEST=True,
        MAX_FORM_MEMORY_SIZE=settings.request_bytes,  # a border is a field of a form, and longer than Flask's 500 kB
        WTF_CSRF_CHECK_DEFAULT=False,
        WTF_CSRF_TIME_LIMIT=None,  # the session's end is the token's end
        WTF_CSRF_SSL_STRICT=False,  # browsers are told to send no referrer; the token is what counts
    )
    app.session_interface = _Sessions()
    _login.init_app(app, add_context_processor=False)  # a page about a lost database must not ask it who is there
    csrf.init_app(app)


@_login.user_loader
def _of_cookie(secret: str) -> _Visitor | None:
    with reading():
        found = sessions.find(secret, utc_now(), ttl())
    return _Visitor(secret, found) if found else None


def ttl() -> timedelta:
    """How long a session outlives its last request."""
    return timedelta(seconds=current_app.extensions["fieldsvc.settings"].session_ttl)


def recognise() -> None:
    """Put who is signed in into ``g.actor`` and the session's id into ``g.session_id``; note that it was seen."""
    visitor = flask_login.current_user
    if not visitor.is_authenticated:
        return
    found: SignedIn = visitor.found
    g.actor, g.session_id = found.actor, found.session_id
    structlog.contextvars.bind_contextvars(actor=g.actor.id)
    now = utc_now()
    if now - found.seen_at >= sessions.SEEN_EVERY:
        _note_seen(found.session_id, now)


def _note_seen(session_id: str, now: datetime) -> None:
    try:
        with transaction():
            sessions.note_seen(session_id, now)
    except DBAPIError as error:  # no reason to keep somebody from reading
        log.warning("session-not-noted", error=type(error.orig).__name__)


@pages.before_request
def _who() -> None:
    """Find out who asks; refuse a form that does not come from a page of ours."""
    if request.endpoint in _OF_NOBODY:
        return
    recognise()
    if "actor" not in g and "_user_id" in session:
        flask_login.logout_user()
        session["ended"] = True
    if request.method == "POST" and ("actor" in g or request.endpoint == "console.sign_in"):
        csrf.protect()


@pages.get("/sign-in")
@public("it is the way in; attempts are limited")
def sign_in_page() -> Any:
    """The sign-in page."""
    if "actor" in g:
        return redirect(way_back(request.args.get("next", "")))
    return _again({})


@pages.post("/sign-in")
@public("it is the way in; attempts are limited")
def sign_in() -> Any:
    """Check name and password; too many failures of one address and name have to wait."""
    try:
        with form(SignIn) as body:
            with limits.attempt("login", body["username"]), reading():
                login = staff.check_password(body["username"], body["password"])
            with transaction():
                user = staff.proven(login)
                staff.renew_hash(login)
                secret = begin(user)
    except Refused as refused:
        return _again(refused.faults), 422
    except FieldsvcError as error:
        if error.code == "too-many-requests":
            return _again({"": error.detail}), 429, {"Retry-After": str(error.retry_after)}
        if error.code != "unauthenticated":
            raise
        return _again({"": _("User name or password is wrong.")}), 401
    enter(secret)
    return redirect(way_back(request.args.get("next", "")), 303)


def _again(faults: dict[str, str]) -> str:
    return render_template("sign_in.html", faults=faults, typed=typed(), ended="ended" in session, insecure=_insecure())


def begin(user: Staff) -> str:
    """A new session of ``user`` in place of the one this browser may have; call inside a transaction, and
    :func:`enter` with the answer after it.
    """
    source = Actor("staff", user.id, user.display_name).source(utc_now())
    if "actor" in g:
        sessions.end(actor().source(source.recorded_at), actor().id, g.session_id)
    return sessions.start(source, user, _browser(request.headers.get("User-Agent", "")))


def enter(secret: str) -> None:
    """Let this browser have the session with this secret.

    :raises FieldsvcError: ``unauthenticated``: it has ended already.
    """
    visitor = _of_cookie(secret)
    if visitor is None:
        raise FieldsvcError("unauthenticated")
    _forget()
    session.permanent = True
    flask_login.login_user(visitor)


def _forget() -> None:
    """Empty the cookie, but for how this browser wants its pages."""
    kept = {name: session[name] for name in ("language", "theme") if name in session}
    session.clear()
    session.update(kept)


def _browser(said: str) -> str | None:
    """Browser and system as ``User-Agent`` says them, such as "Firefox, Windows"; None: nothing that is known here."""
    browser = next((name for sign, name in _BROWSERS.items() if f"{sign}/" in said), None)
    system = next((name for sign, name in _SYSTEMS.items() if re.search(rf"[(; ]{sign}\b", said)), None)
    return ", ".join(filter(None, (browser, system))) or None


def _insecure() -> bool:
    """Whether the browser will not keep our cookie: neither HTTPS nor this very machine."""
    host = request.host.rpartition(":")[0] or request.host
    return not request.is_secure and host not in ("localhost", "127.0.0.1", "[::1]")


@pages.post("/sign-out")
@page()
def sign_out() -> Any:
    """End this session, for everybody who has its cookie."""
    with transaction():
        sessions.end(actor().source(utc_now()), actor().id, g.session_id)
    flask_login.logout_user()
    _forget()
    flash(_("You have signed out."))
    return redirect(url_for("console.sign_in_page"), 303)
