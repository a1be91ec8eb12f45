"""Planned outages: when a transformer area is to be without supply, so that other work there can use the same cut.

Nothing here switches anything. An outage is a plan of the grid's; campaigns put their work into it, and whoever moves
or cancels one is told which jobs were made for it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Select, exists, func, select

from fieldsvc import rules
from fieldsvc.base.clock import new_id
from fieldsvc.base.db import db
from fieldsvc.base.errors import Conflict, Forbidden, Invalid, NotFound
from fieldsvc.base.plain import plain
from fieldsvc.history.record import Source, record
from fieldsvc.records.models import ServiceLocation, UsagePoint
from fieldsvc.work import change
from fieldsvc.work.models import CampaignItem, Job, PlannedOutage

Check = Callable[[int], None]
_SHOWN_JOBS = 50


@dataclass(frozen=True)
class NewOutage:
    """What somebody announces."""

    transformer_area: str
    starts_at: datetime
    ends_at: datetime
    reason: str = ""


def create(source: Source, new: NewOutage, scope: Collection[str] | None) -> PlannedOutage:
    """Enter a planned outage.

    :param scope: the territories the caller may write in, ``None`` for all.
    :raises Invalid: it ends before it begins, is over already, or lasts longer than the rules allow.
    :raises Conflict: no usage point in the caller's territories is in the area; it overlaps another one of the area.
    :raises Forbidden: part of the area lies beyond the caller's territories.
    """
    now = source.recorded_at
    _check_times(new.starts_at, new.ends_at, now)
    _hold_area(new.transformer_area, scope)
    _refuse_overlap(new.transformer_area, new.starts_at, new.ends_at)
    outage = PlannedOutage(
        id=new_id(),
        transformer_area=new.transformer_area,
        starts_at=new.starts_at,
        ends_at=new.ends_at,
        reason=new.reason,
        created_at=now,
        updated_at=now,
    )
    db.session.add(outage)
    db.session.flush()
    names = ("transformer_area", "starts_at", "ends_at", "reason")
    after = {name: plain(getattr(outage, name)) for name in names}
    record(source, "outage.planned", "planned_outage", outage.id, after=after)
    return outage


def edit(
    source: Source, outage_id: str, wanted: Mapping[str, Any], *, check: Check, scope: Collection[str] | None
) -> PlannedOutage:
    """Move an outage or say another reason; ``wanted`` holds ``starts_at``, ``ends_at``, ``reason``.

    :raises NotFound: there is none for the caller.
    :raises FieldsvcError: ``precondition-failed``; ``state-not-allowed`` when it is cancelled; otherwise as
        :func:`create`.
    """
    outage = _hold(outage_id, check, scope)
    starts_at, ends_at = wanted.get("starts_at", outage.starts_at), wanted.get("ends_at", outage.ends_at)
    if (starts_at, ends_at) != (outage.starts_at, outage.ends_at):
        _check_times(starts_at, ends_at, source.recorded_at)
        _refuse_overlap(outage.transformer_area, starts_at, ends_at, outage.id)
    _change(source, outage, "outage.moved", wanted)
    return outage


def cancel(
    source: Source, outage_id: str, reason: str, *, check: Check, scope: Collection[str] | None
) -> PlannedOutage:
    """Call an outage off; jobs made for it stay, and :func:`page` names them."""
    outage = _hold(outage_id, check, scope)
    _change(source, outage, "outage.cancelled", {"state": "cancelled"}, note=reason)
    return outage


def _hold(outage_id: str, check: Check, scope: Collection[str] | None) -> PlannedOutage:
    outage = find(outage_id, scope)
    _hold_area(outage.transformer_area, scope)
    db.session.refresh(outage, with_for_update=True)
    check(outage.rev)
    if outage.state == "cancelled":
        raise Conflict("this outage is cancelled", "state-not-allowed", status_now=outage.state)
    return outage


def _change(
    source: Source, outage: PlannedOutage, action: str, fields: Mapping[str, Any], note: str | None = None
) -> None:
    changed = {name: value for name, value in fields.items() if getattr(outage, name) != value}
    if not changed:
        return
    before = {name: plain(getattr(outage, name)) for name in changed}
    for name, value in changed.items():
        setattr(outage, name, value)
    outage.rev += 1
    outage.updated_at = source.recorded_at
    record(source, action, "planned_outage", outage.id, before=before, after=plain(changed), note=note)


def _check_times(starts_at: datetime, ends_at: datetime, now: datetime) -> None:
    if ends_at <= starts_at:
        raise Invalid.field("ends_at", "must be after starts_at")
    if ends_at <= now:
        raise Invalid.field("ends_at", "is over already")
    most = int(rules.load().planned_work("outage_most_hours", now.date()).value)
    if ends_at - starts_at > timedelta(hours=most):
        raise Invalid.field("ends_at", f"an outage lasts at most {most} hours")


def _hold_area(area: str, scope: Collection[str] | None) -> None:
    """Hold the area until the transaction ends, so that two outages entered at once see each other."""
    territories = set(db.session.scalars(_territories(area)))
    if not territories or (scope is not None and territories.isdisjoint(scope)):
        raise Conflict("transformer_area: no usage point is in it")
    if scope is not None and not territories <= set(scope):
        raise Forbidden("part of this transformer area lies beyond your territories")
    first = select(UsagePoint.id).where(UsagePoint.transformer_area == area).order_by(UsagePoint.id).limit(1)
    db.session.execute(first.with_for_update())


def _territories(area: str) -> Select[str | None]:
    return (
        select(ServiceLocation.territory_id)
        .join(UsagePoint, UsagePoint.location_id == ServiceLocation.id)
        .where(UsagePoint.transformer_area == area)
        .distinct()
    )


def _refuse_overlap(area: str, starts_at: datetime, ends_at: datetime, but: str | None = None) -> None:
    query = select(PlannedOutage).where(
        PlannedOutage.transformer_area == area,
        PlannedOutage.state == "planned",
        PlannedOutage.starts_at < ends_at,
        PlannedOutage.ends_at > starts_at,
        PlannedOutage.id != (but or ""),
    )
    other = db.session.scalar(query.order_by(PlannedOutage.starts_at).limit(1))
    if other is not None:
        since, until = plain(other.starts_at), plain(other.ends_at)
        raise Conflict(f"the area has an outage from {since} to {until}", "already-exists", id=other.id)


def find(outage_id: str, scope: Collection[str] | None) -> PlannedOutage:
    """One outage; :raises NotFound: there is none, or its area lies outside of the reader's territories."""
    found = db.session.scalar(outages(scope).where(PlannedOutage.id == outage_id))
    if found is None:
        raise NotFound("planned outage", outage_id)
    return found


def outages(
    scope: Collection[str] | None,
    *,
    area: str | None = None,
    state: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> Select[PlannedOutage]:
    """Outages of areas with a usage point in ``scope``; ``since`` and ``until``: those that touch this span."""
    query = select(PlannedOutage)
    if scope is not None:
        inside = (
            select(UsagePoint.id)
            .join(ServiceLocation, ServiceLocation.id == UsagePoint.location_id)
            .where(UsagePoint.transformer_area == PlannedOutage.transformer_area)
            .where(ServiceLocation.territory_id.in_(sorted(scope)))
        )
        query = query.where(exists(inside.correlate(PlannedOutage)))
    if area is not None:
        query = query.where(PlannedOutage.transformer_area == area)
    if state is not None:
        query = query.where(PlannedOutage.state == state)
    if since is not None:
        query = query.where(PlannedOutage.ends_at > since)
    if until is not None:
        query = query.where(PlannedOutage.starts_at < until)
    return query


_FIELDS = "id transformer_area starts_at ends_at reason state rev created_at updated_at".split()


def row(outage: PlannedOutage) -> dict[str, Any]:
    """An outage, JSON-ready; ``announce_by`` is when those affected have to know."""
    days = int(rules.load().planned_work("outage_announced_days", outage.starts_at.date()).value)
    shown = {name: plain(getattr(outage, name)) for name in _FIELDS}
    return shown | {"announce_by": plain(outage.starts_at - timedelta(days=days))}


def page(outage: PlannedOutage, scope: Collection[str] | None) -> dict[str, Any]:
    """An outage with how many usage points it cuts, what else cuts them too soon before or after, and its jobs.

    ``jobs`` are those in ``scope`` that campaigns have made for it and that are not over: after the outage has been
    moved or called off somebody has to see to them.
    """
    gap = timedelta(days=int(rules.load().planned_work("days_between_cuts", outage.starts_at.date()).value))
    near = select(PlannedOutage.id).where(
        PlannedOutage.transformer_area == outage.transformer_area,
        PlannedOutage.state == "planned",
        PlannedOutage.id != outage.id,
        PlannedOutage.starts_at < outage.ends_at + gap,
        PlannedOutage.ends_at > outage.starts_at - gap,
    )
    points = select(func.count()).where(UsagePoint.transformer_area == outage.transformer_area)
    made = (
        select(Job.id)
        .join(CampaignItem, CampaignItem.job_id == Job.id)
        .where(CampaignItem.outage_id == outage.id, Job.status.not_in(change.ENDED))
    )
    if scope is not None:
        made = made.where(Job.territory_id.in_(sorted(scope)))
    count = select(func.count()).select_from(made.subquery())
    return row(outage) | {
        "usage_points": db.session.scalar(points) or 0,
        "near": list(db.session.scalars(near.order_by(PlannedOutage.starts_at).limit(_SHOWN_JOBS))),
        "jobs": db.session.scalar(count) or 0,
        "job_ids": list(db.session.scalars(made.order_by(Job.id).limit(_SHOWN_JOBS))),
    }
