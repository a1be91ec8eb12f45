"""Views of the board that people keep: filters under a name. Each account has its own and sees no other's."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Row, func, select
from sqlalchemy.exc import IntegrityError

from fieldsvc.base.clock import new_id
from fieldsvc.base.db import db
from fieldsvc.base.errors import Conflict, Invalid, NotFound
from fieldsvc.people.models import SavedView

MOST = 30
"""Views of one account."""
LONGEST = 2000
"""Characters of the filters of a view."""


def of(staff_id: str) -> Sequence[Row[str, str, str]]:
    """The views of an account by name, with ``id``, ``name`` and ``query``."""
    query = select(SavedView.id, SavedView.name, SavedView.query).where(SavedView.staff_id == staff_id)
    return db.session.execute(query.order_by(func.lower(SavedView.name), SavedView.id)).all()


def save(staff_id: str, name: str, query: str, now: datetime) -> SavedView:
    """Keep ``query`` under a new name.

    :raises Conflict: the account has as many as it may have, or these are more filters than can be kept.
    :raises Invalid: it has one of that name.
    """
    _check_length(query)
    count = db.session.scalar(select(func.count()).where(SavedView.staff_id == staff_id))
    if (count or 0) >= MOST:
        raise Conflict(f"you have {MOST} views, which is the most: remove one first")
    view = SavedView(id=new_id(), staff_id=staff_id, name=name, query=query, updated_at=now)
    db.session.add(view)
    _flush_named(name)
    return view


def change(staff_id: str, view_id: str, now: datetime, *, name: str | None = None, query: str | None = None) -> None:
    """Give a view another name, or other filters.

    :raises NotFound: the account has no such view.
    :raises Conflict: these are more filters than can be kept.
    :raises Invalid: it has another of that name.
    """
    _check_length(query or "")
    view = _own(staff_id, view_id)
    view.updated_at = now
    if query is not None:
        view.query = query
    if name is not None:
        view.name = name
        _flush_named(name)


def remove(staff_id: str, view_id: str) -> None:
    """:raises NotFound: the account has no such view."""
    db.session.delete(_own(staff_id, view_id))


def _own(staff_id: str, view_id: str) -> SavedView:
    view = db.session.get(SavedView, view_id)
    if view is None or view.staff_id != staff_id:
        raise NotFound("view", view_id)
    return view


def _check_length(query: str) -> None:
    if len(query) > LONGEST:
        raise Conflict("these are more filters than a view can keep: take some away")


def _flush_named(name: str) -> None:
    try:
        db.session.flush()
    except IntegrityError:
        raise Invalid.field("name", f"you have a view {name} already") from None
