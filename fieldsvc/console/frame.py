"""What a page is made of: the blueprint, who may open it, how a form is read, how errors look to a person.

A page's module::

    @pages.get("/meters/<id:meter_id>")
    @page()
    def meter(meter_id: str) -> str:
        with reading():
            found = ...
        return render_template("meter.html", meter=found)

    @pages.post("/meters/<id:meter_id>/correct")
    @page(*DISPATCHERS)
    def correct(meter_id: str) -> Any:
        with form(Correction) as body, transaction():
            ...
        return done(_("Corrected."), url_for("console.meter", meter_id=meter_id))

A form that cannot be used is shown again by :func:`form`'s caller catching :class:`Refused`, with what was typed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any
from urllib.parse import urlencode

import marshmallow as ma
from flask import Blueprint, Response, current_app, flash, g, redirect, request, session, url_for
from werkzeug.datastructures import MultiDict

from fieldsvc.api.frame import load
from fieldsvc.api.schemas import ID_PATTERN, from_text
from fieldsvc.base.errors import FieldsvcError, Forbidden, Invalid
from fieldsvc.people.actors import ADMIN, ROLES, Actor

View = Callable[..., Any]

DISPATCHERS = ("dispatcher", "supervisor")
SUPERVISORS = ("supervisor",)
ADMINS = (ADMIN,)

pages = Blueprint("console", __name__, template_folder="templates", static_folder="static", static_url_path="/static")


class Refused(Exception):
    """A form that cannot be used. ``faults``: name of the field → what is wrong with it; ``""`` for the whole form."""

    def __init__(self, faults: Mapping[str, str], status: int = 422) -> None:
        self.faults, self.status = dict(faults), status
        super().__init__(str(self.faults))


def page(*roles: str) -> Callable[[View], View]:
    """Only staff who are signed in, with one of ``roles`` (none given: any role), and admins.

    Which territories they may see or change is judged where the thing is read, by ``Actor.scope``.
    """
    unknown = set(roles) - set(ROLES)
    if unknown:
        raise ValueError(f"no such roles: {sorted(unknown)}")
    allowed = frozenset(roles or ROLES) | {ADMIN}
    who = "any staff" if allowed == set(ROLES) else ", ".join(role for role in ROLES if role in allowed)

    def decorate(view: View) -> View:
        @wraps(view)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            if "actor" not in g:
                return to_sign_in()
            if g.actor.role not in allowed:
                raise Forbidden(f"this needs the role {who}; yours is {g.actor.role}")
            return view(*args, **kwargs)

        wrapper.__access__ = "staff: " + who  # type: ignore[attr-defined]
        return wrapper

    return decorate


def public(reason: str) -> Callable[[View], View]:
    """A page for anybody. ``reason`` says why that is right."""

    def decorate(view: View) -> View:
        view.__access__ = "public: " + reason  # type: ignore[attr-defined]
        return view

    return decorate


def actor() -> Actor:
    """Who is signed in."""
    found: Actor = g.actor
    return found


def may(*roles: str) -> bool:
    """Whether who is signed in has one of ``roles``; an admin may everything."""
    return "actor" in g and g.actor.role in (*roles, ADMIN)


def to_sign_in() -> Response:
    """Off to the sign-in page, and back to where one was afterwards.

    A piece of a page that htmx asks for makes the browser go as a whole; the place to come back to is then the page.
    """
    if request.headers.get("HX-Request"):
        came_from = request.headers.get("HX-Current-URL", "")
        response = Response(status=204)
        response.headers["HX-Redirect"] = url_for("console.sign_in", next=own_path(came_from, request.host_url))
        return response
    if wants_data():
        raise FieldsvcError("unauthenticated", "your session has ended: sign in again")
    here = request.full_path.rstrip("?") if request.method == "GET" else request.referrer or ""
    return redirect(url_for("console.sign_in", next=own_path(here, request.host_url)))  # type: ignore[return-value]


def own_path(address: str, host_url: str) -> str | None:
    """The path (and query) of ``address`` if it is one of this host; so that a sign-in leads nowhere else."""
    path = "/" + address.removeprefix(host_url) if address.startswith(host_url) else address
    if not path.startswith("/") or path.startswith(("//", "/\\")) or any(ord(sign) < 32 for sign in path):
        return None
    return path[:2000]


def way_back(address: str) -> str:
    """Where to go on after ``address``: there, if it is one of this host; at the page above it, if all it takes is a
    form; else at the board.
    """
    path = own_path(address, request.host_url)
    if path is None:
        return url_for("console.board")
    allowed = current_app.url_map.bind("").allowed_methods
    above = path.partition("?")[0]
    if "GET" in (methods := list(allowed(above))) or not methods:
        return path
    while above and "GET" not in allowed(above):
        above = above.rpartition("/")[0]
    return above or url_for("console.board")


def wants_data() -> bool:
    """Whether a script asks, which wants JSON rather than a page."""
    best = request.accept_mimetypes.best_match(["text/html", "application/json", "text/event-stream"])
    return best not in (None, "text/html")


@contextmanager
def form(schema: type[ma.Schema], typed: Mapping[str, Any] | None = None) -> Iterator[dict[str, Any]]:
    """The form of this request as the schema of the API reads it; empty fields count as not given.

    Whatever is wrong, in the form itself or with what the block makes of it, comes out as :class:`Refused`.

    :param typed: what to read in place of :func:`entered`.
    """
    try:
        with from_text():
            body = load(schema(), dict(entered(schema) if typed is None else typed))
        yield body
    except Invalid as error:
        raise Refused(_by_field(error)) from None
    except FieldsvcError as error:
        if error.status in (401, 403, 404, 429, 503):
            raise
        raise Refused(_by_field(error), error.status) from None


def entered(schema: type[ma.Schema]) -> dict[str, Any]:
    """What was typed: fields left empty are left out, fields that take lists keep all their values."""
    fields = schema().fields
    found: dict[str, Any] = {}
    for name, values in request.form.lists():
        given = [value.strip() for value in values if value.strip()]
        if name == "csrf_token" or not given:
            continue
        takes_list = name in fields and isinstance(fields[name], ma.fields.List)
        found[name] = given if takes_list else given[0]
    return found


def asked(schema: type[ma.Schema]) -> dict[str, Any]:
    """The parameters of this address as the schema of a list reads them; empty ones count as not given.

    :raises Invalid: one is unknown or wrong.
    """
    given = {name: [value.strip() for value in values if value.strip()] for name, values in request.args.lists()}
    fields = {field.data_key or name: field for name, field in schema().fields.items()}
    takes_list = {name for name, field in fields.items() if isinstance(field, ma.fields.List)}
    with from_text():
        read = {name: values if name in takes_list else values[0] for name, values in given.items() if values}
        found: dict[str, Any] = load(schema(), read)
    return found


def further(cursor: str | None) -> str | None:
    """The address of the next page of the list at this address; None: there is none."""
    if cursor is None:
        return None
    query = [(name, value) for name, value in request.args.items(multi=True) if name != "cursor" and value]
    return f"{request.path}?{urlencode([*query, ('cursor', cursor)])}"


def _by_field(error: FieldsvcError) -> dict[str, str]:
    faults: dict[str, str] = {}
    for fault in error.errors:
        name = fault["field"].strip("/").split("/")[0]
        faults.setdefault(name, fault["reason"])
    if faults:
        return faults
    name, _colon, reason = error.detail.partition(": ")
    return {name: reason} if reason and name in request.form else {"": error.detail}


def typed() -> MultiDict[str, str]:
    """What stands in the form's fields: what was typed on the way back from a refusal, else nothing."""
    return request.form


def done(message: str, to: str) -> Response:
    """After a change: off to ``to``, where ``message`` is shown once."""
    flash(message)
    if request.headers.get("HX-Request"):
        response = Response(status=204)
        response.headers["HX-Redirect"] = to
        return response
    return redirect(to, 303)  # type: ignore[return-value]


def keep(name: str, value: str) -> None:
    """Remember a choice of the visitor for this session."""
    session[name] = value


def shown_rev() -> int:
    """The revision that the page of this form has shown; 0, which nothing has, when it does not say one."""
    text = request.form.get("rev", "")
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else 0


def named(name: str) -> str | None:
    """The id that this address, or this form, gives under ``name``; None when there is none that can be one."""
    text = request.values.get(name, "")
    return text if re.fullmatch(ID_PATTERN.removesuffix("$"), text) else None


def choices(values: Sequence[str]) -> list[tuple[str, str]]:
    """``(value, word for people)`` of each, for a select."""
    from fieldsvc.console.words import word

    return [(value, word(value)) for value in values]
