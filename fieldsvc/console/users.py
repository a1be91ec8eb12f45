"""Accounts of the office: who may sign in, as what, for which territories. For admins only."""

from __future__ import annotations

from typing import Any

from flask import Response, make_response, render_template, request, url_for
from flask_babel import gettext as _
from sqlalchemy import select

from fieldsvc.api import paging
from fieldsvc.api.accounts import UserChange, UserNew
from fieldsvc.api.schemas import Text
from fieldsvc.base.clock import utc_now
from fieldsvc.base.db import reading, transaction
from fieldsvc.console import session
from fieldsvc.console.account import SESSIONS_SHOWN
from fieldsvc.console.frame import ADMINS, Refused, actor, asked, done, entered, form, further, page, pages, typed
from fieldsvc.history import page as history
from fieldsvc.people import sessions, staff, territories
from fieldsvc.people.models import Staff

_CHANGES = ("staff.created", "staff.changed")
_SHOWN_CHANGES = 10
_FLAGS = ("active", "all_territories")


class _UserArgs(paging.PageArgs):
    q = Text(80)


class _UserNew(UserNew):
    """A password left out is made up."""

    password = Text(staff.PASSWORD_LENGTH[1], min=staff.PASSWORD_LENGTH[0])


@pages.get("/users")
@page(*ADMINS)
def users() -> str:
    """All accounts."""
    args = asked(_UserArgs)
    with reading():
        wanted = select(Staff)
        if text := args.get("q"):
            found = (column.icontains(text, autoescape=True) for column in (Staff.username, Staff.display_name))
            wanted = wanted.where(next(found) | next(found))
        listed = paging.fetch(wanted, [Staff.username], args, descending=False)
        rows = [(user, staff.territory_ids(user)) for user in listed.rows]
        codes = territories.codes({one for _user, ids in rows for one in ids})
        return render_template("users.html", rows=rows, codes=codes, next=further(listed.next))


@pages.get("/users/new")
@page(*ADMINS)
def new_user() -> str:
    """The form of a new account."""
    return _new_form({})


@pages.post("/users/new")
@page(*ADMINS)
def add_user() -> Any:
    """Add an account; a password that was made up is shown on the answer, this once."""
    try:
        with form(_UserNew, _given(_UserNew)) as body, transaction():
            body.pop("active", None)
            made = None if body.get("password") else staff.new_password()
            user = staff.create(actor().source(utc_now()), **body | ({"password": made} if made else {}))
            user_id, username = user.id, user.username
    except Refused as refused:
        return _new_form(refused.faults), refused.status
    if made:
        return _shown_once(user_id, username, made)
    return done(_("The account %(name)s has been added.", name=username), url_for("console.user", user_id=user_id))


@pages.get("/users/<id:user_id>")
@page(*ADMINS)
def user(user_id: str) -> str:
    """One account."""
    return _user_form(user_id, {})


@pages.post("/users/<id:user_id>")
@page(*ADMINS)
def change_user(user_id: str) -> Any:
    """Change an account; its sessions and tokens end with another password, and when it is disabled."""
    made = staff.new_password() if "new_password" in request.form else None
    given = _given(UserChange) | ({"password": made} if made else {})
    try:
        with form(UserChange, given) as body, transaction():
            changed = staff.edit(actor().source(utc_now()), user_id, body, seen=request.form.get("seen", ""))
            username = changed.username
    except Refused as refused:
        return _user_form(user_id, refused.faults, moved=refused.status == 412), refused.status
    if made:
        return _shown_once(user_id, username, made)
    return done(_("The account %(name)s has been changed.", name=username), url_for("console.user", user_id=user_id))


@pages.post("/users/<id:user_id>/sessions/end")
@page(*ADMINS)
def end_sessions(user_id: str) -> Any:
    """Sign an account out in all browsers."""
    with transaction():
        name = staff.get(user_id).username
        sessions.end_all(actor().source(utc_now()), user_id)
    return done(_("%(name)s has been signed out everywhere.", name=name), url_for("console.user", user_id=user_id))


def _given(schema: type[UserNew] | type[UserChange]) -> dict[str, Any]:
    """What the form says; a box that is not ticked says no, and no territory ticked is none."""
    found = entered(schema)
    flags = {name: str(name in found).lower() for name in _FLAGS if name in schema().fields}
    found = {name: value for name, value in found.items() if name in schema().fields}
    return {"territory_ids": [], **found, **flags}


def _new_form(faults: dict[str, str]) -> str:
    with reading():
        known = territories.brief(actor())
    return render_template("user_new.html", faults=faults, typed=typed(), territories=known)


def _user_form(user_id: str, faults: dict[str, str], *, moved: bool = False) -> str:
    with reading():
        found = staff.get(user_id)
        chosen = staff.territory_ids(found)
        known = territories.brief(actor())
        entries = history.latest(_CHANGES, _SHOWN_CHANGES, entity_id=user_id)
        signed_in = sessions.listed(user_id, utc_now(), session.ttl(), SESSIONS_SHOWN)
        return render_template(
            "user.html", user=found, chosen=chosen, territories=known, seen=staff.version(found), entries=entries,
            codes={one.id: one.code for one in known}, faults={} if moved else faults, typed=typed(), moved=moved,
            sessions=signed_in,
        )  # fmt: skip


def _shown_once(user_id: str, username: str, password: str) -> Response:
    response = make_response(
        render_template("user_password.html", user_id=user_id, username=username, password=password)
    )
    response.headers["Cache-Control"] = "no-store"
    return response
