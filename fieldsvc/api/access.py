"""Who may call a view: every route carries one of these decorators, and states it in ``__access__``.

They authenticate by ``Authorization: Bearer`` (some views also by Basic, see :func:`reader`), put the caller into
``g.actor``, and write the OpenAPI security of the operation. They stand above whatever reads input, so that a stranger
learns nothing from how his input is judged.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import structlog
from flask import g, request

from fieldsvc.api import limits
from fieldsvc.api.frame import document, refuse_query, takes_query
from fieldsvc.base.clock import utc_now
from fieldsvc.base.db import reading
from fieldsvc.base.errors import FieldsvcError, Forbidden
from fieldsvc.people.actors import ADMIN, ROLES, Actor, device_actor, staff_actor
from fieldsvc.people.staff import is_username

View = Callable[..., Any]

READERS = ROLES
"""Every member of staff."""
DISPATCHERS = ("dispatcher", "supervisor")
SUPERVISORS = ("supervisor",)
_LONGEST_TOKEN = 200


def staff(*roles: str) -> Callable[[View], View]:
    """Only staff with one of ``roles`` (none given: any role) and admins.

    Which territories they may see or change is judged where the thing is read, by ``Actor.sees``.
    """
    return _of_staff(roles, lambda: _bearer(_staff), [{"staffToken": []}])


def reader(*roles: str) -> Callable[[View], View]:
    """As :func:`staff`, for views that only read and that calendars and maps open, which can send no bearer token.

    They may use HTTP Basic: the user name, and an API token in place of the password. The password itself is not taken:
    it would lie in every such program, and open everything.
    """
    return _of_staff(roles, _bearer_or_basic, [{"staffToken": []}, {"staffBasic": []}])


def _of_staff(roles: tuple[str, ...], find: Callable[[], Actor], security: list[Any]) -> Callable[[View], View]:
    unknown = set(roles) - set(ROLES)
    if unknown:
        raise ValueError(f"no such roles: {sorted(unknown)}")
    allowed = frozenset(roles or ROLES) | {ADMIN}
    who = "any staff" if allowed == set(ROLES) else ", ".join(role for role in ROLES if role in allowed)

    def authenticate() -> Actor:
        actor = find()
        if actor.role not in allowed:
            raise Forbidden(f"this needs the role {who}; yours is {actor.role}")
        return actor

    return _decorator("staff: " + who, authenticate, security, ["unauthenticated", "forbidden"])


def device(*, work: bool = False) -> Callable[[View], View]:
    """Only an enrolled device that has not been revoked and does not call too often.

    :param work: the device hands in what its crew did: counted apart from its questions, with a larger allowance.
    """

    def authenticate() -> Actor:
        actor = _bearer(device_actor)
        limits.call(actor.id, work=work)
        return actor

    codes = ["unauthenticated", "device-revoked", "too-many-requests"]
    return _decorator("device", authenticate, [{"deviceToken": []}], codes)


def public(reason: str) -> Callable[[View], View]:
    """Anybody. ``reason`` says why that is right."""
    return _decorator("public: " + reason, None, [], [])


def _decorator(
    statement: str, authenticate: Callable[[], Actor] | None, security: list[Any], codes: list[str]
) -> Callable[[View], View]:
    def decorate(view: View) -> View:
        with_query = takes_query(view)

        @wraps(view)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            if authenticate is not None:
                g.actor = authenticate()
                structlog.contextvars.bind_contextvars(actor=g.actor.id)
            if not with_query:
                refuse_query()
            return view(*args, **kwargs)

        wrapper.__access__ = statement  # type: ignore[attr-defined]
        return document(wrapper, errors=codes, security=security, access=statement)

    return decorate


def actor() -> Actor:
    """The caller of this request."""
    found: Actor = g.actor
    return found


def _staff(token: str) -> Actor | None:
    return staff_actor(token, utc_now())


def _bearer_or_basic() -> Actor:
    sent = request.authorization
    if sent is not None and sent.type == "basic":
        username, token = sent.username or "", sent.password or ""
        with reading():
            usable = len(token) <= _LONGEST_TOKEN and is_username(username)
            found = staff_actor(token, utc_now(), username=username) if usable else None
        if found is not None:
            return found
        raise FieldsvcError("unauthenticated", "send your user name, and an API token as the password", basic=True)
    if presented() is None:
        raise FieldsvcError(
            "unauthenticated", "send Authorization: Bearer <token>, or Basic with the token as the password", basic=True
        )
    return _bearer(_staff)


def presented() -> str | None:
    """The bearer token that came with this request, whatever it is worth."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


def _bearer(find: Callable[[str], Actor | None]) -> Actor:
    token = presented()
    if token is None:
        raise FieldsvcError("unauthenticated", "send Authorization: Bearer <token>")
    with reading():
        found = find(token) if len(token) <= _LONGEST_TOKEN else None
    if found is None:
        raise FieldsvcError("unauthenticated", "this token is unknown, expired or revoked", invalid_token=True)
    return found
