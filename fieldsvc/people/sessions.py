"""Sessions of the console: which browsers an account is signed in with, and since when.

A session that has ended is removed at once; what stays of it is in the history. One that is over by its age counts as
ended from then on, and is removed by the sweep.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, and_, bindparam, delete, not_, select, update

from fieldsvc.base.clock import new_id
from fieldsvc.base.db import db
from fieldsvc.history.record import Source, record
from fieldsvc.people.actors import Actor, token_hash
from fieldsvc.people.models import ConsoleSession, Staff, StaffTerritory

LONGEST = timedelta(days=30)
"""So long after signing in one has to do so again, whatever one has done meanwhile (NIST SP 800-63B, 4.1.3)."""
SEEN_EVERY = timedelta(minutes=1)
"""So exactly it is kept when a session was last seen: a request costs no write, but for one in a minute."""
_FORGOTTEN_AT_ONCE = 2000

_session, _staff = ConsoleSession.__table__.c, Staff.__table__.c
_GOES_ON = and_(_session.seen_at > bindparam("seen_after"), _session.started_at > bindparam("started_after"))
# Asked at every request: made once, and on tables, which costs half of asking for mapped attributes.
_FIND = (
    select(
        _session.id,
        _session.seen_at,
        _session.staff_id,
        _staff.display_name,
        _staff.role,
        _staff.all_territories,
        StaffTerritory.__table__.c.territory_id,
    )
    .select_from(
        ConsoleSession.__table__.join(Staff.__table__, _staff.id == _session.staff_id).outerjoin(
            StaffTerritory.__table__, StaffTerritory.__table__.c.staff_id == _session.staff_id
        )
    )
    .where(_session.token_hash == bindparam("token_hash"), _staff.active, _GOES_ON)
)


def _bounds(now: datetime, ttl: timedelta) -> dict[str, datetime]:
    """The parameters of ``_GOES_ON``. What was seen may have been seen up to a minute later than is noted."""
    return {"seen_after": now - ttl - SEEN_EVERY, "started_after": now - LONGEST}


@dataclass(frozen=True)
class SignedIn:
    """A session that goes on, and who it is of."""

    session_id: str
    actor: Actor
    seen_at: datetime


def start(source: Source, staff: Staff, agent: str | None) -> str:
    """Begin a session of ``staff``; answers the secret by which it is found, which is not kept.

    :param agent: what the browser says it is, at most 60 characters.
    """
    secret = secrets.token_urlsafe(32)
    session = ConsoleSession(
        id=new_id(),
        staff_id=staff.id,
        token_hash=token_hash(secret),
        agent=agent,
        started_at=source.recorded_at,
        seen_at=source.recorded_at,
    )
    db.session.add(session)
    db.session.flush()
    record(source, "session.started", "session", session.id, after={"staff_id": staff.id, "agent": agent})
    return secret


def find(secret: str, now: datetime, ttl: timedelta) -> SignedIn | None:
    """The session with this secret, or None: ended, not seen for ``ttl``, too old, or its account is disabled."""
    asked = {"token_hash": token_hash(secret), **_bounds(now, ttl)}
    rows = db.session.execute(_FIND, asked).all()
    if not rows:
        return None
    session_id, seen_at, staff_id, name, role, everywhere, _ = rows[0]
    territories = None if everywhere else frozenset(row.territory_id for row in rows) - {None}
    return SignedIn(session_id, Actor("staff", staff_id, name, role=role, territory_ids=territories), seen_at)


def note_seen(session_id: str, now: datetime) -> None:
    """Keep that a session was seen, unless that has been noted within :data:`SEEN_EVERY`; call inside a transaction."""
    noted = ConsoleSession.seen_at <= now - SEEN_EVERY
    db.session.execute(update(ConsoleSession).where(ConsoleSession.id == session_id, noted).values(seen_at=now))


def listed(staff_id: str, now: datetime, ttl: timedelta, most: int) -> Sequence[ConsoleSession]:
    """At most ``most`` sessions of an account that go on, the one seen last first."""
    mine = select(ConsoleSession).where(ConsoleSession.staff_id == staff_id, _GOES_ON)
    mine = mine.order_by(ConsoleSession.seen_at.desc(), ConsoleSession.id.desc()).limit(most)
    return db.session.scalars(mine, _bounds(now, ttl)).all()


def end(source: Source, staff_id: str, session_id: str) -> None:
    """End one session of this account from the next request on; one that has ended already, or is not its, stays so."""
    _end(source, ConsoleSession.staff_id == staff_id, ConsoleSession.id == session_id)


def end_all(source: Source, staff_id: str, *, but: str | None = None) -> None:
    """End every session of this account, except the one with the id ``but``."""
    others = () if but is None else (ConsoleSession.id != but,)
    _end(source, ConsoleSession.staff_id == staff_id, *others)


def _end(source: Source, *which: ColumnElement[bool]) -> None:
    """Of two who end a session at the same moment only one has ended it, and the history says so once."""
    gone = delete(ConsoleSession).where(*which).returning(ConsoleSession.id, ConsoleSession.staff_id)
    for session_id, staff_id in db.session.execute(gone.execution_options(synchronize_session=False)).all():
        record(source, "session.ended", "session", session_id, after={"staff_id": staff_id})


def forget(now: datetime, ttl: timedelta) -> None:
    """Remove what is over by its age, a bounded number at a time; call inside a transaction."""
    over = select(ConsoleSession.id).where(not_(_GOES_ON)).limit(_FORGOTTEN_AT_ONCE)
    gone = delete(ConsoleSession).where(ConsoleSession.id.in_(over)).execution_options(synchronize_session=False)
    db.session.execute(gone, _bounds(now, ttl))
