"""Tokens, the caller's own account, and the accounts of the office."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from flask import Response, current_app
from sqlalchemy import select

from fieldsvc.api import access, idempotency, limits, paging
from fieldsvc.api.frame import Blueprint
from fieldsvc.api.schemas import Choice, Flag, Ident, Int, ListOf, Schema, Text, UtcTime, page_of
from fieldsvc.base.clock import utc_now
from fieldsvc.base.db import db, reading, transaction
from fieldsvc.people import staff
from fieldsvc.people.actors import ROLES, Actor
from fieldsvc.people.models import ApiToken, Staff

blp = Blueprint("accounts", __name__, url_prefix="/v1", description="Tokens and staff accounts")

_SHORTEST, _LONGEST = staff.PASSWORD_LENGTH


class TokenNew(Schema):
    username = Text(80, required=True)
    password = Text(_LONGEST, required=True, metadata={"format": "password"})
    name = Text(80, load_default="token", metadata={"description": "What it is for, so that you know it in the list."})
    ttl_days = Int(1, staff.LONGEST_TOKEN.days, load_default=None, allow_none=True)


class TokenAnswer(Schema):
    id = Ident(required=True)
    name = Text(80, required=True)
    created_at = UtcTime(required=True)
    expires_at = UtcTime(required=True)
    revoked_at = UtcTime(required=True, allow_none=True)


class TokenShown(TokenAnswer):
    token = Text(100, required=True, metadata={"description": "Shown this once; only its hash is kept."})
    role = Choice(*ROLES, required=True)


class UserAnswer(Schema):
    id = Ident(required=True)
    username = Text(80, required=True)
    display_name = Text(120, required=True)
    role = Choice(*ROLES, required=True)
    active = Flag(required=True)
    all_territories = Flag(required=True)
    territory_ids = ListOf(Ident(), max=5000, required=True)
    created_at = UtcTime(required=True)


class UserNew(Schema):
    username = Text(64, min=2, required=True, pattern=staff.USERNAME_PATTERN)
    password = Text(_LONGEST, min=_SHORTEST, required=True, metadata={"format": "password"})
    role = Choice(*ROLES, required=True)
    display_name = Text(120)
    all_territories = Flag(load_default=False)
    territory_ids = ListOf(Ident(), max=1000)


class UserChange(Schema):
    password = Text(_LONGEST, min=_SHORTEST, metadata={"format": "password"})
    role = Choice(*ROLES)
    display_name = Text(120)
    active = Flag()
    all_territories = Flag()
    territory_ids = ListOf(Ident(), max=1000)


def token_answer(token: ApiToken) -> dict[str, Any]:
    return {
        "id": token.id,
        "name": token.name,
        "created_at": token.created_at,
        "expires_at": token.expires_at,
        "revoked_at": token.revoked_at,
    }


def user_answer(user: Staff) -> dict[str, Any]:
    return {
        "id": user.id,
        "username": user.username,
        "display_name": user.display_name,
        "role": user.role,
        "active": user.active,
        "all_territories": user.all_territories,
        "territory_ids": staff.territory_ids(user),
        "created_at": user.created_at,
    }


@blp.post("/tokens")
@access.public("it is how one gets the first token; attempts are limited")
@blp.arguments(TokenNew)
@blp.response(201, TokenShown)
@blp.errors("unauthenticated", "too-many-requests")
def log_in(body: dict[str, Any]) -> Any:
    """Exchange username and password for an API token

    The token is shown this once. Too many failures of one address and name end in 429 with `Retry-After`. There is no
    `Idempotency-Key` here, as no answer with a secret is kept: simply ask again.
    """
    now = utc_now()
    with limits.attempt("login", body["username"]), reading():
        login = staff.check_password(body["username"], body["password"])
    with transaction():
        user = staff.proven(login)
        staff.renew_hash(login)
        source = Actor("staff", user.id, user.display_name).source(now)
        token, text = staff.issue_token(source, user, body["name"], _ttl(body["ttl_days"]))
        shown = token_answer(token) | {"token": text, "role": user.role}
    return shown, {"Cache-Control": "no-store", "Location": f"/v1/tokens/{shown['id']}"}


def _ttl(days: int | None) -> timedelta:
    if days is not None:
        return timedelta(days=days)
    return timedelta(seconds=current_app.extensions["fieldsvc.settings"].api_token_ttl)


@blp.get("/tokens")
@access.staff()
@blp.arguments(paging.PageArgs, location="query")
@blp.response(200, page_of(TokenAnswer))
@blp.errors("bad-cursor")
def own_tokens(args: dict[str, Any]) -> Any:
    """Your own tokens, newest first"""
    with reading():
        own = select(ApiToken).where(ApiToken.staff_id == access.actor().id)
        return paging.answer(paging.fetch(own, [ApiToken.created_at, ApiToken.id], args), token_answer)


@blp.delete("/tokens/<id:token_id>")
@access.staff()
@blp.response(204)
def revoke_token(token_id: str) -> Response:
    """Revoke one of your own tokens

    From the next call on it is useless. Revoking the one you call with logs you out.
    """
    with transaction():
        staff.revoke_token(access.actor().source(utc_now()), access.actor().id, token_id)
    return Response(status=204)


@blp.get("/me")
@access.staff()
@blp.response(200, UserAnswer)
def me() -> Any:
    """Who you are, with your role and territories"""
    with reading():
        return user_answer(staff.get(access.actor().id))


@blp.get("/users")
@access.staff("admin")
@blp.arguments(paging.PageArgs, location="query")
@blp.response(200, page_of(UserAnswer))
@blp.errors("bad-cursor")
def users(args: dict[str, Any]) -> Any:
    """All accounts, by username"""
    with reading():
        return paging.answer(paging.fetch(select(Staff), [Staff.username], args, descending=False), user_answer)


@blp.post("/users")
@access.staff("admin")
@idempotency.creates
@blp.arguments(UserNew)
@blp.response(201, UserAnswer)
@blp.errors("already-exists", "conflict")
def add_user(body: dict[str, Any]) -> Any:
    """Add an account

    `territory_ids` bounds what it may see and change; `all_territories` lifts that bound.
    """
    user = staff.create(access.actor().source(utc_now()), **body)
    return user_answer(user), {"Location": f"/v1/users/{user.id}"}


@blp.get("/users/<id:user_id>")
@access.staff("admin")
@blp.response(200, UserAnswer)
def user(user_id: str) -> Any:
    """One account"""
    with reading():
        return user_answer(staff.get(user_id))


@blp.patch("/users/<id:user_id>")
@access.staff("admin")
@blp.arguments(UserChange)
@blp.response(200, UserAnswer)
@blp.errors("conflict", "state-not-allowed")
def change_user(body: dict[str, Any], user_id: str) -> Any:
    """Change an account

    Disabling it (`active: false`) or giving it another password revokes its tokens. The last active admin stays one.
    """
    with transaction():
        changed = staff.edit(access.actor().source(utc_now()), user_id, body)
        db.session.flush()
        return user_answer(changed)
