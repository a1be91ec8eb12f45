"""Staff accounts and their API tokens.

Passwords are kept as argon2 hashes, tokens as SHA-256; neither is ever shown again, logged, or put into the history.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from typing import Any

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import func, select, update

from fieldsvc.base.clock import format_time, new_id
from fieldsvc.base.db import db
from fieldsvc.base.errors import Conflict, FieldsvcError, Invalid, NotFound
from fieldsvc.history.record import Source, record
from fieldsvc.people import sessions
from fieldsvc.people.actors import ADMIN, ROLES, token_hash
from fieldsvc.people.models import ApiToken, Staff, StaffTerritory, Territory

PASSWORD_LENGTH = (10, 200)
USERNAME_PATTERN = "^[a-z0-9][a-z0-9._-]{1,63}$"
LONGEST_TOKEN = timedelta(days=366)

# OWASP's parameters for argon2id (Password Storage Cheat Sheet): little enough memory for many logins at once.
_hasher = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)


@dataclass(frozen=True)
class Login:
    """A password that was right, by ``password_hash``. ``new_hash`` is set when that is of weaker parameters than
    today's.
    """

    staff_id: str
    password_hash: str = field(repr=False)
    new_hash: str | None = field(repr=False)


def create(
    source: Source,
    *,
    username: str,
    password: str,
    role: str,
    display_name: str | None = None,
    territory_ids: Sequence[str] = (),
    all_territories: bool = False,
) -> Staff:
    """Add an account.

    :raises Conflict: ``already-exists`` for the username; ``conflict`` for a territory that does not exist.
    """
    _check_role(role)
    if db.session.scalar(select(Staff.id).where(Staff.username == username)):
        raise Conflict(f"there is a user {username} already", code="already-exists")
    staff = Staff(
        id=new_id(),
        username=username,
        display_name=display_name or username,
        password_hash=hash_password(password),
        role=role,
        all_territories=all_territories,
        active=True,
        created_at=source.recorded_at,
        territories=[StaffTerritory(territory_id=i) for i in known_territories(territory_ids)],
    )
    db.session.add(staff)
    db.session.flush()
    record(source, "staff.created", "staff", staff.id, after=_facts(staff))
    return staff


def edit(source: Source, staff_id: str, changes: Mapping[str, Any], *, seen: str | None = None) -> Staff:
    """Change ``display_name``, ``role``, ``active``, ``all_territories``, ``territory_ids`` or ``password``.

    Disabling an account and changing its password revoke its tokens and end its sessions.

    :param seen: the :func:`version` the change is meant for.
    :raises NotFound: no such account.
    :raises Conflict: ``state-not-allowed`` when nobody would be left who may administer.
    :raises FieldsvcError: ``precondition-failed`` when it has been changed since it was ``seen``.
    """
    if "role" in changes or "active" in changes:
        # All admins, in one order: two who demote each other at the same moment must not both succeed.
        admins = select(Staff.id).where(Staff.role == ADMIN, Staff.active).order_by(Staff.id)
        db.session.execute(admins.with_for_update()).all()
    staff = get(staff_id, lock=True)
    if seen is not None and seen != version(staff):
        raise FieldsvcError("precondition-failed", "this account has been changed meanwhile: read it again")
    before = _facts(staff)
    _apply(staff, changes)
    password = changes.get("password")
    if password is not None:
        staff.password_hash = hash_password(password)
    db.session.flush()
    if before["role"] == ADMIN and before["active"] and not (staff.role == ADMIN and staff.active):
        _keep_one_admin("/role" if staff.role != ADMIN else "/active")
    after = _facts(staff)
    changed = [name for name in after if after[name] != before[name]]
    if changed or password is not None:
        record(
            source,
            "staff.changed",
            "staff",
            staff.id,
            before={name: before[name] for name in changed},
            after={name: after[name] for name in changed},
            note="password changed" if password is not None else None,
        )
    if password is not None or (before["active"] and not staff.active):
        _revoke_all(source, staff.id)
        sessions.end_all(source, staff.id)
    return staff


def _apply(staff: Staff, changes: Mapping[str, Any]) -> None:
    if "role" in changes:
        _check_role(changes["role"])
    for name in ("display_name", "role", "active", "all_territories"):
        if name in changes:
            setattr(staff, name, changes[name])
    if "territory_ids" in changes:
        wanted = set(known_territories(changes["territory_ids"]))
        kept = [row for row in staff.territories if row.territory_id in wanted]
        new = wanted - {row.territory_id for row in kept}
        staff.territories = kept + [StaffTerritory(territory_id=i) for i in sorted(new)]


def get(staff_id: str, *, lock: bool = False) -> Staff:
    """The account with this id.

    :raises NotFound: there is none.
    """
    statement = select(Staff).where(Staff.id == staff_id)
    staff = db.session.scalar(statement.with_for_update(of=Staff) if lock else statement)
    if staff is None:
        raise NotFound("user", staff_id)
    return staff


def is_username(text: str) -> bool:
    """Whether ``text`` may be the name of an account."""
    return re.fullmatch(USERNAME_PATTERN.strip("^$"), text, re.ASCII) is not None


def by_username(username: str) -> Staff:
    """The account with this username.

    :raises NotFound: there is none.
    """
    staff = db.session.scalar(select(Staff).where(Staff.username == username))
    if staff is None:
        raise NotFound("user", username)
    return staff


def check_password(username: str, password: str) -> Login:
    """Find out whether the password is right. An unknown user costs the same time as a wrong password.

    :raises FieldsvcError: ``unauthenticated``, not saying what was wrong: name, password, or the account disabled.
    """
    row = db.session.execute(
        select(Staff.id, Staff.password_hash, Staff.active).where(Staff.username == username)
    ).first()
    stored = row.password_hash if row else _nobody()
    refused = FieldsvcError("unauthenticated", "username or password is wrong")
    try:
        _hasher.verify(stored, password)
    except (VerificationError, InvalidHashError):
        raise refused from None
    if row is None or not row.active:
        raise refused
    return Login(row.id, stored, hash_password(password) if _hasher.check_needs_rehash(stored) else None)


def proven(login: Login) -> Staff:
    """The account of ``login``, locked; call inside the transaction that lets somebody in.

    :raises FieldsvcError: ``unauthenticated``: it has been disabled, or given another password, since it was checked.
    """
    staff = get(login.staff_id, lock=True)
    if not staff.active or staff.password_hash != login.password_hash:
        raise FieldsvcError("unauthenticated", "username or password is wrong")
    return staff


def renew_hash(login: Login) -> None:
    """Store the stronger hash of a password that has just proven right."""
    if login.new_hash:
        db.session.execute(update(Staff).where(Staff.id == login.staff_id).values(password_hash=login.new_hash))


def hash_password(password: str) -> str:
    """The argon2id hash to store.

    :raises Invalid: too short or too long.
    """
    least, most = PASSWORD_LENGTH
    if not least <= len(password) <= most:
        raise Invalid.field("/password", f"must have {least} to {most} characters")
    return _hasher.hash(password)


def new_password() -> str:
    """A password to be handed over: 80 random bits, without letters that look alike."""
    letters = [secrets.choice("23456789abcdefghjkmnpqrstuvwxyz") for _ in range(16)]
    return "-".join("".join(letters[at : at + 4]) for at in range(0, 16, 4))


@cache
def _nobody() -> str:
    return _hasher.hash(secrets.token_hex(16))


def issue_token(source: Source, staff: Staff, name: str, ttl: timedelta) -> tuple[ApiToken, str]:
    """A new token of ``staff``, and its text, which is not kept.

    :raises Invalid: it would live longer than :data:`LONGEST_TOKEN`.
    """
    if not timedelta(0) < ttl <= LONGEST_TOKEN:
        raise Invalid.field("/ttl_days", f"must be 1 to {LONGEST_TOKEN.days}")
    text = "fs_" + secrets.token_urlsafe(32)
    token = ApiToken(
        id=new_id(),
        staff_id=staff.id,
        name=name,
        token_hash=token_hash(text),
        created_at=source.recorded_at,
        expires_at=source.recorded_at + ttl,
    )
    db.session.add(token)
    after = {"staff_id": staff.id, "name": name, "expires_at": format_time(token.expires_at)}
    record(source, "token.created", "token", token.id, after=after)
    return token, text


def revoke_token(source: Source, staff_id: str, token_id: str) -> None:
    """Make a token of ``staff_id`` useless from the next call on; one that is so already stays as it is.

    :raises NotFound: that person has no such token.
    """
    token = db.session.scalar(select(ApiToken).where(ApiToken.id == token_id, ApiToken.staff_id == staff_id))
    if token is None:
        raise NotFound("token", token_id)
    if token.revoked_at is None:
        token.revoked_at = source.recorded_at
        record(source, "token.revoked", "token", token.id, after={"staff_id": staff_id, "name": token.name})


def territory_ids(staff: Staff) -> list[str]:
    """The ids of the territories of ``staff``, sorted."""
    return sorted(row.territory_id for row in staff.territories)


def known_territories(ids: Sequence[str]) -> list[str]:
    """``ids`` without repetitions, sorted.

    :raises Conflict: one of them does not exist; the error names it.
    """
    wanted = sorted(set(ids))
    if not wanted:
        return []
    found = set(db.session.scalars(select(Territory.id).where(Territory.id.in_(wanted))))
    missing = [territory_id for territory_id in wanted if territory_id not in found]
    if missing:
        errors = [
            {"field": "/territory_ids", "reason": f"there is no territory {missing_id}"} for missing_id in missing
        ]
        raise Conflict(f"there is no territory {missing[0]}", errors=errors)
    return wanted


def _check_role(role: str) -> None:
    if role not in ROLES:
        raise Invalid.field("/role", f"must be one of {', '.join(ROLES)}")


def _keep_one_admin(field: str) -> None:
    if not db.session.scalar(select(func.count()).where(Staff.role == ADMIN, Staff.active)):
        reason = "at least one active admin must remain"
        raise Conflict(reason, code="state-not-allowed", errors=[{"field": field, "reason": reason}])


def _revoke_all(source: Source, staff_id: str) -> None:
    live = select(ApiToken.id).where(ApiToken.staff_id == staff_id, ApiToken.revoked_at.is_(None))
    for token_id in db.session.scalars(live).all():
        revoke_token(source, staff_id, token_id)


def version(staff: Staff) -> str:
    """Names what is on record of an account: another one when anything of it has changed, its password too."""
    facts = repr(sorted(_facts(staff).items())) + staff.password_hash
    return hashlib.sha256(facts.encode()).hexdigest()[:16]


def _facts(staff: Staff) -> dict[str, Any]:
    return {
        "username": staff.username,
        "display_name": staff.display_name,
        "role": staff.role,
        "active": staff.active,
        "all_territories": staff.all_territories,
        "territory_ids": territory_ids(staff),
    }
