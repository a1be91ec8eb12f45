"""One's own account: the password, the browsers one is signed in with, and the tokens one's programs sign in with."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from flask import current_app, g, make_response, render_template, url_for
from flask_babel import gettext as _
from sqlalchemy import select

from fieldsvc.api import limits, paging
from fieldsvc.api.schemas import Int, Schema, Text
from fieldsvc.base.clock import utc_now
from fieldsvc.base.db import reading, transaction
from fieldsvc.base.errors import FieldsvcError, Invalid
from fieldsvc.console import session
from fieldsvc.console.frame import Refused, actor, asked, done, form, further, page, pages, typed
from fieldsvc.people import sessions, staff, territories
from fieldsvc.people.models import ApiToken

_SHORTEST, _LONGEST = staff.PASSWORD_LENGTH
SESSIONS_SHOWN = 50
"""Of an account, those that were seen last; more than these end by "everywhere else"."""


class _PasswordChange(Schema):
    current = Text(_LONGEST, required=True)
    password = Text(_LONGEST, min=_SHORTEST, required=True)
    again = Text(_LONGEST, required=True)


class _TokenWanted(Schema):
    name = Text(80, required=True)
    ttl_days = Int(1, staff.LONGEST_TOKEN.days)
    token_password = Text(_LONGEST, required=True)


@pages.get("/account")
@page()
def account() -> str:
    """One's own account and tokens."""
    return _page({})


@pages.post("/account/password")
@page()
def change_password() -> Any:
    """Give oneself another password; other sessions and all tokens end, this session goes on."""
    try:
        with form(_PasswordChange) as body:
            if body["again"] != body["password"]:
                raise Invalid.field("again", _("This is not the same as the new password above."))
            _prove("current", body["current"])
            with transaction():
                mine = staff.edit(actor().source(utc_now()), actor().id, {"password": body["password"]})
                secret = session.begin(mine)
            session.enter(secret)
    except Refused as refused:
        return _page(refused.faults), refused.status
    return done(
        _("Your password has been changed. Your other sessions and your tokens have ended."), url_for("console.account")
    )


@pages.post("/account/sessions/<id:session_id>/end")
@page()
def end_session(session_id: str) -> Any:
    """Sign out in another browser."""
    with transaction():
        sessions.end(actor().source(utc_now()), actor().id, session_id)
    return done(_("You have signed out there."), url_for("console.account"))


@pages.post("/account/sessions/end")
@page()
def end_other_sessions() -> Any:
    """Sign out in all other browsers."""
    with transaction():
        sessions.end_all(actor().source(utc_now()), actor().id, but=g.session_id)
    return done(_("You have signed out everywhere else."), url_for("console.account"))


@pages.post("/account/tokens")
@page()
def new_token() -> Any:
    """Make a token, which is shown on the answer, this once."""
    ttl = timedelta(seconds=current_app.extensions["fieldsvc.settings"].api_token_ttl)
    try:
        with form(_TokenWanted) as body:
            _prove("token_password", body["token_password"])
            if "ttl_days" in body:
                ttl = timedelta(days=body["ttl_days"])
            with transaction():
                mine = staff.get(actor().id)
                token, text = staff.issue_token(actor().source(utc_now()), mine, body["name"], ttl)
                shown = {"name": token.name, "expires_at": token.expires_at, "username": mine.username}
    except Refused as refused:
        return _page(refused.faults), refused.status
    response = make_response(render_template("account_token.html", token=text, **shown))
    response.headers["Cache-Control"] = "no-store"
    return response


@pages.post("/account/tokens/<id:token_id>/revoke")
@page()
def revoke_token(token_id: str) -> Any:
    """Make one of one's own tokens useless."""
    with transaction():
        staff.revoke_token(actor().source(utc_now()), actor().id, token_id)
    return done(_("The token has been revoked."), url_for("console.account"))


def _prove(field: str, password: str) -> None:
    """Have who is signed in show that it is he, who knows the password; too many failures have to wait.

    :raises Invalid: it is wrong; ``field`` says so.
    """
    with reading():
        username = staff.get(actor().id).username
    try:
        with limits.attempt("login", username), reading():
            staff.check_password(username, password)
    except FieldsvcError as error:
        if error.code != "unauthenticated":
            raise
        raise Invalid.field(field, _("This is not your present password.")) from None


def _page(faults: dict[str, str]) -> str:
    args = asked(paging.PageArgs)
    with reading():
        mine = staff.get(actor().id)
        wanted = select(ApiToken).where(ApiToken.staff_id == actor().id)
        tokens = paging.fetch(wanted, [ApiToken.created_at, ApiToken.id], args)
        signed_in = sessions.listed(actor().id, utc_now(), session.ttl(), SESSIONS_SHOWN)
        codes = sorted(territories.codes(staff.territory_ids(mine)).values())
        return render_template(
            "account.html", user=mine, codes=codes, tokens=tokens.rows, next=further(tokens.next),
            sessions=signed_in, this_session=g.session_id,
            faults=faults, typed=typed(), longest=staff.LONGEST_TOKEN.days, shortest=_SHORTEST,
        )  # fmt: skip
