"""Signing in and out, and who a request of a browser is from.

The session is a signed cookie that names the account and a digest of its password's hash: a changed password, and an
account that is disabled, end every session of it with the next request.
"""

from __future__ import annotations

from typing import Any

import flask_login
import structlog
from flask import Flask, flash, g, redirect, render_template, request, session, url_for
from flask.sessions import SecureCookieSessionInterface, SessionMixin
from flask_babel import gettext as _
from flask_wtf.csrf import CSRFProtect

from fieldsvc.api import limits
from fieldsvc.api.schemas import Schema, Text
from fieldsvc.base.db import reading, transaction
from fieldsvc.base.errors import FieldsvcError
from fieldsvc.console.frame import Refused, form, own_path, page, pages, public, typed
from fieldsvc.people import staff
from fieldsvc.people.actors import Actor, session_actor

csrf = CSRFProtect()
_login = flask_login.LoginManager()
_OF_NOBODY = ("console.static", "console.library")
"""Files that are the same for everybody, and may be kept by whatever lies between a browser and us."""


class _Sessions(SecureCookieSessionInterface):
    """Renews a session's cookie with every answer, except with those that others may be given, too."""

    def should_set_cookie(self, app: Flask, session: SessionMixin) -> bool:
        return request.endpoint not in _OF_NOBODY and super().should_set_cookie(app, session)


class _Visitor(flask_login.UserMixin):
    """An account as Flask-Login knows it; ``id`` is what the cookie holds."""

    def __init__(self, ident: str, actor: Actor) -> None:
        self.id = ident
        self.actor = actor


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
        WTF_CSRF_CHECK_DEFAULT=False,
        WTF_CSRF_TIME_LIMIT=None,  # the session's end is the token's end
        WTF_CSRF_SSL_STRICT=False,  # browsers are told to send no referrer; the token is what counts
    )
    app.session_interface = _Sessions()
    _login.init_app(app)
    csrf.init_app(app)


@_login.user_loader
def _of_cookie(ident: str) -> _Visitor | None:
    with reading():
        found = session_actor(ident)
    return _Visitor(ident, found) if found else None


@pages.before_request
def _who() -> None:
    """Put who is signed in into ``g.actor``; refuse a form that does not come from a page of ours."""
    if request.endpoint in _OF_NOBODY:
        return
    visitor = flask_login.current_user
    if visitor.is_authenticated:
        g.actor = visitor.actor
        structlog.contextvars.bind_contextvars(actor=g.actor.id)
    if request.method == "POST" and ("actor" in g or request.endpoint == "console.sign_in"):
        csrf.protect()


@pages.get("/sign-in")
@public("it is the way in; attempts are limited")
def sign_in_page() -> Any:
    """The sign-in page."""
    if "actor" in g:
        return redirect(own_path(request.args.get("next", ""), request.host_url) or url_for("console.board"))
    return render_template("sign_in.html", faults={}, typed=typed(), insecure=_insecure())


@pages.post("/sign-in")
@public("it is the way in; attempts are limited")
def sign_in() -> Any:
    """Check name and password; too many failures of one address and name have to wait."""
    try:
        with form(SignIn) as body:
            with limits.attempt("login", body["username"]), reading():
                login = staff.check_password(body["username"], body["password"])
            if login.new_hash:
                with transaction():
                    staff.renew_hash(login)
    except Refused as refused:
        return render_template("sign_in.html", faults=refused.faults, typed=typed(), insecure=_insecure()), 422
    except FieldsvcError as error:
        if error.code != "unauthenticated":
            raise
        faults = {"": _("User name or password is wrong.")}
        return render_template("sign_in.html", faults=faults, typed=typed(), insecure=_insecure()), 401
    enter(login.staff_id)
    to = own_path(request.args.get("next", ""), request.host_url) or url_for("console.board")
    return redirect(to, 303)


def enter(staff_id: str) -> None:
    """Begin a session of this account in this browser, in place of the one there may be.

    :raises FieldsvcError: ``unauthenticated``: the account is disabled.
    """
    with reading():
        ident = staff.session_ident(staff_id)
        found = session_actor(ident)
    if found is None:
        raise FieldsvcError("unauthenticated")
    kept = {name: session[name] for name in ("language", "theme") if name in session}
    session.clear()
    session.update(kept)
    session.permanent = True
    flask_login.login_user(_Visitor(ident, found))


def _insecure() -> bool:
    """Whether the browser will not keep our cookie: neither HTTPS nor this very machine."""
    host = request.host.rpartition(":")[0] or request.host
    return not request.is_secure and host not in ("localhost", "127.0.0.1", "[::1]")


@pages.post("/sign-out")
@page()
def sign_out() -> Any:
    """End the session in this browser."""
    flask_login.logout_user()
    kept = {name: session[name] for name in ("language", "theme") if name in session}
    session.clear()
    session.update(kept)
    flash(_("You have signed out."))
    return redirect(url_for("console.sign_in_page"), 303)
