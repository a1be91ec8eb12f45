"""Devices: enrolled with a single-use, short-lived code, bound to one crew, revocable.

A device is one install of the app. Enrolled again with a new code it is moved to that code's crew, and its old token is
dead; what it still holds in its outbox stays its own. Who takes an install over has to show that it is his: by its
present token, or by having it revoked before.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Collection
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from sqlalchemy import select, update

from fieldsvc import rules
from fieldsvc.base.clock import format_time, new_id
from fieldsvc.base.db import among, db
from fieldsvc.base.errors import Conflict, FieldsvcError, NotFound
from fieldsvc.history.record import Source, record
from fieldsvc.people import crews
from fieldsvc.people.actors import Actor, device_actor, token_hash
from fieldsvc.people.models import Crew, Device, EnrolmentCode

__all__ = [
    "code",
    "crew_at",
    "device_actor",
    "end_of_life",
    "enrol",
    "enrolment_uri",
    "get",
    "new_code",
    "note_pull",
    "of_crews",
    "pull_is_news",
    "revoke",
    "runs",
    "seen",
    "upgrade",
]

# No 0/O, 1/I/L: the code is read out over the telephone and typed with gloves.
_ALPHABET = "23456789ABCDEFGHJKMNPQRSTUVWXYZ"
_LETTERS = 8


def new_code(actor: Actor, now: datetime, crew: Crew, ttl: timedelta) -> tuple[EnrolmentCode, str]:
    """A code for one device of ``crew``, such as ``K7TQ-29XM``; its text is not kept.

    :raises Conflict: ``state-not-allowed`` for a crew that is not active.
    """
    if not crew.active:
        raise Conflict(f"crew {crew.code} is not active", code="state-not-allowed")
    text = "".join(secrets.choice(_ALPHABET) for _ in range(_LETTERS))
    code = EnrolmentCode(id=new_id(), crew_id=crew.id, code_hash=token_hash(text), created_at=now, expires_at=now + ttl)
    db.session.add(code)
    record(
        actor.source(now),
        "enrolment_code.created",
        "enrolment_code",
        code.id,
        after={"expires_at": format_time(code.expires_at)},
        crew_id=crew.id,
    )
    return code, f"{text[:4]}-{text[4:]}"


def code(actor: Actor, code_id: str) -> EnrolmentCode:
    """An enrolment code of a crew in the actor's scope: until when it can be used, and by which device it was.

    :raises NotFound: there is none, or it is out of scope.
    """
    found = db.session.get(EnrolmentCode, code_id)
    if found is None:
        raise NotFound("enrolment code", code_id)
    try:
        crews.get(actor, found.crew_id)
    except NotFound:
        raise NotFound("enrolment code", code_id) from None
    return found


def crew_at(device_id: str, at: datetime) -> str | None:
    """The crew a device belonged to at a time, by its enrolments; before the first one, that one's."""
    enrolled = db.session.execute(
        select(EnrolmentCode.crew_id, EnrolmentCode.used_at)
        .where(EnrolmentCode.device_id == device_id, EnrolmentCode.used_at.is_not(None))
        .order_by(EnrolmentCode.used_at)
    ).all()
    crew_id: str | None = enrolled[0].crew_id if enrolled else None
    for row in enrolled:
        if row.used_at <= at:
            crew_id = row.crew_id
    return crew_id


def enrolment_uri(server: str, code: str) -> str:
    """What the QR code says: where to enrol, and with which code."""
    return "fieldsvc://enrol?" + urlencode({"server": server.rstrip("/"), "code": code})


def enrol(
    code: str,
    install_id: str,
    platform: str | None,
    app_version: str | None,
    now: datetime,
    *,
    held: str | None = None,
) -> tuple[Device, str]:
    """Turn a code into a device of its crew and that device's token, which is not kept.

    :param held: the token the install holds; needed to enrol one again that is in use.
    :raises NotFound: no such code.
    :raises Conflict: ``code-used``, ``install-in-use``, or ``state-not-allowed`` for a crew that is no longer active.
    :raises FieldsvcError: ``code-expired``.
    """
    plain = re.sub(r"[^0-9A-Z]", "", code.upper())
    row = db.session.execute(
        select(EnrolmentCode.id, EnrolmentCode.crew_id, EnrolmentCode.expires_at, EnrolmentCode.used_at).where(
            EnrolmentCode.code_hash == token_hash(plain)
        )
    ).first()
    if row is None:
        raise NotFound("such enrolment code")
    if row.used_at is not None:
        raise Conflict("this enrolment code has been used: ask for a new one", code="code-used")
    if row.expires_at <= now:
        raise FieldsvcError("code-expired", "this enrolment code has expired: ask for a new one")
    device = db.session.scalar(select(Device).where(Device.install_id == install_id).with_for_update())
    if device is not None and _in_use(device) and (held is None or token_hash(held) != device.token_hash):
        raise Conflict(
            "this installation is enrolled and in use: send its token along, or have it revoked before",
            code="install-in-use",
        )
    device_id = device.id if device else new_id()
    _use(row.id, device_id, now)
    crew = db.session.get_one(Crew, row.crew_id)
    if not crew.active:
        raise Conflict(f"crew {crew.code} is not active", code="state-not-allowed")
    token = "fd_" + secrets.token_urlsafe(32)
    if device is None:
        device = Device(id=device_id, crew_id=crew.id, install_id=install_id, enrolled_at=now)
        db.session.add(device)
        former = None
    else:
        former = device.crew_id
    device.crew_id = crew.id
    device.platform = platform
    device.app_version = app_version
    device.schema_version = None
    device.token_hash = token_hash(token)
    device.enrolled_at = now
    device.revoked_at = None
    device.pulled_at = None
    db.session.flush()
    _record_enrolment(device, crew, former, now)
    return device, token


def _in_use(device: Device) -> bool:
    """Whether the device has called with its token: before that the answer to its enrolment may have been lost."""
    return device.revoked_at is None and device.last_seen_at is not None and device.last_seen_at >= device.enrolled_at


def _use(code_id: str, device_id: str, now: datetime) -> None:
    """Compare and set: of two who enrol with one code at the same moment, one gets it."""
    used = db.session.execute(
        update(EnrolmentCode)
        .where(EnrolmentCode.id == code_id, EnrolmentCode.used_at.is_(None))
        .values(used_at=now, device_id=device_id)
    )
    if used.rowcount != 1:  # type: ignore[attr-defined]
        raise Conflict("this enrolment code has been used: ask for a new one", code="code-used")


def _record_enrolment(device: Device, crew: Crew, former: str | None, now: datetime) -> None:
    source = Source(
        "device", now, id=device.id, name=crew.name, crew_id=crew.id, device_id=device.id, install_id=device.install_id
    )
    after = {"crew_id": crew.id, "platform": device.platform, "app_version": device.app_version}
    before = None if former is None else {"crew_id": former}
    action = "device.enrolled" if former is None else "device.enrolled_again"
    record(source, action, "device", device.id, before=before, after=after, crew_id=crew.id)


def get(actor: Actor, device_id: str, *, lock: bool = False) -> Device:
    """A device of a crew in the actor's scope.

    :raises NotFound: there is none, or it is out of scope.
    """
    statement = select(Device).where(Device.id == device_id)
    device = db.session.scalar(statement.with_for_update() if lock else statement)
    if device is None:
        raise NotFound("device", device_id)
    try:
        crews.get(actor, device.crew_id)
    except NotFound:
        raise NotFound("device", device_id) from None
    return device


def of_crews(crew_ids: Collection[str]) -> dict[str, list[Device]]:
    """Crew id -> its devices that are not revoked, the one last heard of first."""
    found: dict[str, list[Device]] = {crew_id: [] for crew_id in crew_ids}
    wanted = select(Device).where(among(Device.crew_id, crew_ids), Device.revoked_at.is_(None))
    for device in db.session.scalars(wanted.order_by(Device.last_seen_at.is_(None), Device.last_seen_at.desc())):
        found[device.crew_id].append(device)
    return found


def seen(
    device_id: str,
    now: datetime,
    clock_offset_ms: int,
    pending: int | None,
    app_version: str | None,
    **clock_before: object,
) -> None:
    """Note that a device has called: how far its clock is off (and was, before it changed), what it still holds, what
    it runs. What it does not say this time stays as it was.
    """
    facts: dict[str, object] = {"last_seen_at": now, "clock_offset_ms": clock_offset_ms, **clock_before}
    if pending is not None:
        facts |= {"pending": pending, "pending_at": now}
    if app_version:
        facts["app_version"] = app_version
    db.session.execute(update(Device).where(Device.id == device_id).values(facts))


PULLS_NOTED_EVERY = timedelta(minutes=10)
_CONFIRMATIONS_NOTED_EVERY = timedelta(minutes=1)


def pull_is_news(actor: Actor, now: datetime, told: int, seen: int) -> bool:
    """Whether a pull that has come to its end says anything of the device that has to be kept.

    That is: it was handed something of its own feed, or shows for the first time that it holds what it was handed. A
    pull that brings nothing costs no write, but for one in ten minutes, which says that the device is there.

    :param told: how far in its own feed the answer brings it.
    :param seen: how far it had come by its checkpoint.
    """
    at, told_before, seen_before = actor.pulled
    if at is None or told != told_before or now - at >= PULLS_NOTED_EVERY:
        return True
    return seen != seen_before and now - at >= _CONFIRMATIONS_NOTED_EVERY


def note_pull(device_id: str, now: datetime, told: int, seen: int) -> None:
    """Keep what :func:`pull_is_news` found worth it; call inside a transaction."""
    facts = {"pulled_at": now, "told_seq": told, "seen_seq": seen}
    db.session.execute(update(Device).where(Device.id == device_id).values(facts))


def runs(actor: Actor, app_version: str | None, schema_version: int | None = None) -> Actor:
    """Note what a device says it runs, if that has changed; answers the device as it is known now."""
    facts: dict[str, Any] = {"app_version": app_version or None, "schema_version": schema_version}
    facts = {name: value for name, value in facts.items() if value is not None and value != getattr(actor, name)}
    if not facts:
        return actor
    db.session.execute(update(Device).where(Device.id == actor.device_id).values(facts))
    return replace(actor, **facts)


def upgrade(actor: Actor, now: datetime) -> str:
    """``ok``; ``soft_eol``: update soon; ``hard_eol``: nothing is told to this device any more until it is updated.

    Judged by what it last said it runs (rule pack apps); what it has not said counts as today's.
    """
    return end_of_life(actor.platform, actor.app_version, actor.schema_version, now.date())


def end_of_life(platform: str | None, app_version: str | None, schema_version: int | None, on: date) -> str:
    """As :func:`upgrade` says, of what somebody runs."""
    book = rules.load()
    system = (platform or "").split(" ")[0].lower() or "*"
    schema = None if schema_version is None else str(schema_version)
    found = {book.end_of_life("app", app_version, system, on), book.end_of_life("schema", schema, system, on)}
    return next(level for level in ("hard_eol", "soft_eol", "ok") if level in found)


def revoke(actor: Actor, now: datetime, device: Device, reason: str | None = None) -> Device:
    """Stop a device from its next call on, and have it remove what it holds. Once revoked it stays so."""
    if device.revoked_at is None:
        device.revoked_at = now
        db.session.flush()
        record(
            actor.source(now),
            "device.revoked",
            "device",
            device.id,
            after={"revoked_at": format_time(now)},
            crew_id=device.crew_id,
            note=reason,
        )
    return device
