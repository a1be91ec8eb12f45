"""Campaigns: bulk work at many usage points over some weeks. Asked for and looked at here; workers do the rest
(:mod:`fieldsvc.work.campaign_steps`).

A campaign is first a draft: every usage point with its day, or with the reason why it has none. Nothing leaves the
house before somebody releases it; then its jobs are made. Cancelling withdraws what no crew has set out for.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Select, func, or_, select

from fieldsvc import kinds
from fieldsvc.base.clock import new_id
from fieldsvc.base.db import among, db
from fieldsvc.base.errors import Conflict, Invalid, NotFound
from fieldsvc.base.plain import plain
from fieldsvc.geo.campaign import REASONS, working_days
from fieldsvc.geo.campaign_picture import Mark, svg
from fieldsvc.geo.hours import DAYS
from fieldsvc.history.record import Source, record
from fieldsvc.people.models import Territory
from fieldsvc.records.models import Customer, ServiceLocation, UsagePoint
from fieldsvc.work.models import Campaign, CampaignItem, Job

MOST_POINTS = 50_000
MOST_DAYS = 366
RING_AFTER = timedelta(seconds=20)
"""A campaign is rung for when something is to be done; the sweep rings again when no worker has come for so long."""
AT_WORK = ("planning", "releasing", "cancelling")
"""States in which a worker has something to do."""
STATES = (*AT_WORK, "draft", "released", "cancelled", "failed")


@dataclass(frozen=True)
class NewCampaign:
    """What somebody wants: the points named in any of the three ways, and who is there to do it.

    ``crews_per_day`` and ``night_crews_per_day`` share all territories that ``by_territory`` (a list of
    ``{territory_id, crews_per_day, night_crews_per_day}``) does not name. ``crew_minutes`` is what a crew does in a
    shift; None: what the rules say. ``days_off`` are weekdays (``mon`` …), ``holidays`` single days.
    """

    name: str
    kind: str
    from_day: date
    until_day: date
    transformer_areas: Sequence[str] = ()
    usage_point_ids: Sequence[str] = ()
    territory_ids: Sequence[str] = ()
    crews_per_day: int = 0
    night_crews_per_day: int = 0
    by_territory: Sequence[Mapping[str, Any]] = ()
    crew_minutes: int | None = None
    days_off: Sequence[str] = ()
    holidays: Sequence[date] = field(default=())

    def asked(self) -> dict[str, Any]:
        """All but the name, the kind and the days, JSON-ready and in one spelling."""
        every = asdict(self)
        for name in ("name", "kind", "from_day", "until_day"):
            del every[name]
        for name in ("transformer_areas", "usage_point_ids", "territory_ids", "days_off"):
            every[name] = sorted(set(every[name]))
        every["holidays"] = sorted({day.isoformat() for day in self.holidays})
        every["by_territory"] = [dict(one) for one in self.by_territory]
        return every


def request(source: Source, new: NewCampaign, scope: Collection[str] | None, zone: str) -> Campaign:
    """Ask for the draft of a campaign; ring ``run_campaign`` with its id after the commit.

    :param scope: the territories the caller may work in, ``None`` for all; usage points elsewhere are not taken.
    :param zone: the IANA time zone whose days are meant.
    :raises Invalid: a kind that is not planned in bulk; days that are past, too many or the wrong way round; nobody to
        do it; nothing named to be done.
    :raises Conflict: a territory, usage point or area that is not there for the caller; too many usage points.
    """
    _check(new, source.recorded_at)
    asked = new.asked()
    _refuse_unknown(asked, scope)
    count = db.session.scalar(select(func.count()).select_from(points(asked, scope).subquery())) or 0
    if not count:
        raise Conflict("no usage point is named by this")
    if count > MOST_POINTS:
        raise Conflict(f"these are {count} usage points; a campaign takes at most {MOST_POINTS}: divide it")
    campaign = Campaign(
        id=new_id(),
        name=new.name,
        kind=new.kind,
        from_day=new.from_day.isoformat(),
        until_day=new.until_day.isoformat(),
        zone=zone,
        asked=asked | {"scope": sorted(scope) if scope is not None else None},
        territory_ids=[],
        items=count,
        requested_by=source.id,
        requested_by_name=source.name,
        created_at=source.recorded_at,
        touched_at=source.recorded_at,
    )
    db.session.add(campaign)
    db.session.flush()
    after = {name: plain(getattr(campaign, name)) for name in ("name", "kind", "from_day", "until_day", "items")}
    record(source, "campaign.requested", "campaign", campaign.id, after=after)
    return campaign


def _check(new: NewCampaign, now: datetime) -> None:
    bulk = sorted(name for name, kind in kinds.discover().items() if kind.bulk)
    if new.kind not in bulk:
        raise Invalid.field("kind", f"is not planned in bulk; these are: {', '.join(bulk)}")
    if new.until_day < new.from_day:
        raise Invalid.field("until_day", "must not be before from_day")
    if (new.until_day - new.from_day).days >= MOST_DAYS:
        raise Invalid.field("until_day", f"a campaign lasts at most {MOST_DAYS} days")
    if new.from_day < now.date() - timedelta(days=1):
        raise Invalid.field("from_day", "is past")
    if not working_days(new.from_day, new.until_day, map(DAYS.index, new.days_off), new.holidays):
        raise Invalid.field("days_off", "leave no day to work on")
    if not (new.transformer_areas or new.usage_point_ids or new.territory_ids):
        raise Invalid("name transformer_areas, usage_point_ids or territory_ids")
    named = [one["territory_id"] for one in new.by_territory]
    if len(set(named)) < len(named):
        raise Invalid.field("by_territory", "names a territory twice")
    crews = [new.crews_per_day, new.night_crews_per_day]
    crews += [one[name] for one in new.by_territory for name in ("crews_per_day", "night_crews_per_day")]
    if not any(crews):
        raise Invalid.field("crews_per_day", "somebody has to do it: name crews by day or by night")


def _refuse_unknown(asked: Mapping[str, Any], scope: Collection[str] | None) -> None:
    """:raises Conflict: something named is not there for the caller."""
    wanted = {*asked["territory_ids"], *(one["territory_id"] for one in asked["by_territory"])}
    there = set(db.session.scalars(select(Territory.id).where(among(Territory.id, sorted(wanted)))))
    if scope is not None:
        there &= set(scope)
    for what, names, found in (
        ("territory", wanted, there),
        ("usage point", set(asked["usage_point_ids"]), _seen(UsagePoint.id, asked["usage_point_ids"], scope)),
        (
            "transformer area",
            set(asked["transformer_areas"]),
            _seen(UsagePoint.transformer_area, asked["transformer_areas"], scope),
        ),
    ):
        if names - found:
            raise Conflict(f"there is no such {what}: {min(names - found)}")


def _seen(column: Any, values: Collection[str], scope: Collection[str] | None) -> set[str]:
    query = select(column).join(ServiceLocation, ServiceLocation.id == UsagePoint.location_id).distinct()
    return set(db.session.scalars(query.where(among(column, sorted(values)), *_inside(scope))))


def _inside(scope: Collection[str] | None) -> list[ColumnElement[bool]]:
    return [] if scope is None else [ServiceLocation.territory_id.in_(sorted(scope))]


def points(asked: Mapping[str, Any], scope: Collection[str] | None) -> Any:
    """The usage points that are asked for: ``id, number, customer_id, transformer_area, territory_id, lon, lat,
    customer_class, importance``."""
    named = or_(
        among(UsagePoint.transformer_area, asked["transformer_areas"]),
        among(UsagePoint.id, asked["usage_point_ids"]),
        among(ServiceLocation.territory_id, asked["territory_ids"]),
    )
    query: Any = (
        select(
            UsagePoint.id,
            UsagePoint.number,
            UsagePoint.customer_id,
            UsagePoint.transformer_area,
            ServiceLocation.territory_id,
            ServiceLocation.lon,
            ServiceLocation.lat,
            Customer.customer_class,
            Customer.importance,
        )
        .join(ServiceLocation, ServiceLocation.id == UsagePoint.location_id)
        .join(Customer, Customer.id == UsagePoint.customer_id)
        .where(named, *_inside(scope))
    )
    return query


def release(source: Source, campaign_id: str, actor_id: str | None, scope: Collection[str] | None) -> Campaign:
    """Let the jobs of a draft be made; ring ``run_campaign`` after the commit. On a released one nothing happens.

    :raises NotFound: there is none for the caller.
    :raises Conflict: ``state-not-allowed``: it is not a draft.
    """
    campaign = _hold(campaign_id, actor_id, scope)
    if scope is not None and not set(campaign.territory_ids) <= set(scope):  # from when one had other territories
        raise NotFound("campaign", campaign_id)
    if campaign.state in ("releasing", "released"):
        return campaign
    if campaign.state != "draft":
        raise Conflict(f"this campaign is {campaign.state}", "state-not-allowed", status_now=campaign.state)
    _turn(source, campaign, "releasing", "campaign.released")
    return campaign


def cancel(
    source: Source, campaign_id: str, reason: str, actor_id: str | None, scope: Collection[str] | None
) -> Campaign:
    """Call a campaign off; ring ``run_campaign`` after the commit: it withdraws the jobs nobody has set out for.

    :raises NotFound: there is none for the caller.
    """
    campaign = _hold(campaign_id, actor_id, scope)
    if campaign.state in ("cancelling", "cancelled"):
        return campaign
    made = select(CampaignItem.place).where(CampaignItem.campaign_id == campaign.id, CampaignItem.job_id.is_not(None))
    withdraws = db.session.scalar(made.limit(1)) is not None
    _turn(source, campaign, "cancelling" if withdraws else "cancelled", "campaign.cancelled", reason)
    return campaign


def _turn(source: Source, campaign: Campaign, state: str, action: str, note: str | None = None) -> None:
    before = campaign.state
    campaign.state, campaign.done_items, campaign.attempts, campaign.failure = state, 0, 0, None
    campaign.touched_at = source.recorded_at
    record(source, action, "campaign", campaign.id, before={"state": before}, after={"state": state}, note=note)


def _hold(campaign_id: str, actor_id: str | None, scope: Collection[str] | None) -> Campaign:
    campaign = find(campaign_id, actor_id, scope)
    db.session.refresh(campaign, with_for_update=True)
    return campaign


def find(campaign_id: str, actor_id: str | None, scope: Collection[str] | None) -> Campaign:
    """One campaign: the reader's own, or one whose usage points all lie in territories the reader may see.

    :raises NotFound: there is none for this reader.
    """
    found = db.session.get(Campaign, campaign_id)
    if found is None:
        raise NotFound("campaign", campaign_id)
    if scope is None or found.requested_by == actor_id:
        return found
    if found.beyond or not found.territory_ids or not set(found.territory_ids) <= set(scope):
        raise NotFound("campaign", campaign_id)
    return found


def campaigns(actor_id: str | None, scope: Collection[str] | None) -> Select[Campaign]:
    """The campaigns a reader may list: all, or with a scope their own."""
    query = select(Campaign)
    return query if scope is None else query.where(Campaign.requested_by == actor_id)


def items(
    campaign_id: str,
    *,
    reason: Collection[str] = (),
    day: date | None = None,
    area: str | None = None,
) -> Any:
    """The usage points of a campaign, each with its number and the number of its job."""
    query: Any = (
        select(CampaignItem, UsagePoint.number, Job.number)
        .join(UsagePoint, UsagePoint.id == CampaignItem.usage_point_id)
        .outerjoin(Job, Job.id == CampaignItem.job_id)
        .where(CampaignItem.campaign_id == campaign_id)
    )
    if reason:
        query = query.where(CampaignItem.reason.in_(sorted(reason)))
    if day is not None:
        query = query.where(CampaignItem.day == day.isoformat())
    if area is not None:
        query = query.where(CampaignItem.transformer_area == area)
    return query


_ITEM = (
    "place usage_point_id transformer_area day night window_start window_end outage_id reason detail job_id"
).split()


def item_row(found: tuple[CampaignItem, str, str | None]) -> dict[str, Any]:
    """One row of :func:`items`, JSON-ready."""
    item, number, job_number = found
    shown = {name: plain(getattr(item, name)) for name in _ITEM}
    return shown | {"usage_point_number": number, "job_number": job_number}


_ROW = (
    "id name kind state from_day until_day zone territory_ids items done_items attempts failure requested_by "
    "requested_by_name created_at"
).split()


def row(campaign: Campaign) -> dict[str, Any]:
    """A campaign, JSON-ready."""
    return {name: plain(getattr(campaign, name)) for name in _ROW}


def page(campaign: Campaign) -> dict[str, Any]:
    """A campaign with what was asked, its totals per day, and how many usage points have no day, by reason."""
    mine = CampaignItem.campaign_id == campaign.id
    counted = db.session.execute(
        select(CampaignItem.reason, func.count(), func.count(CampaignItem.job_id))
        .where(mine)
        .group_by(CampaignItem.reason)
    ).all()
    days = db.session.execute(
        select(CampaignItem.day, CampaignItem.night, func.count())
        .where(mine, CampaignItem.day.is_not(None), CampaignItem.reason.in_(REASONS))
        .group_by(CampaignItem.day, CampaignItem.night)
        .order_by(CampaignItem.day, CampaignItem.night)
    )
    asked = {name: value for name, value in campaign.asked.items() if name != "scope"}
    return row(campaign) | {
        "asked": asked,
        "placed": {reason: count for reason, count, _ in sorted(counted) if reason in REASONS},
        "left": {reason: count for reason, count, _ in sorted(counted) if reason not in REASONS},
        "jobs": sum(made for _, _, made in counted),
        "days": [{"day": day, "night": night, "usage_points": count} for day, night, count in days],
    }


def due(now: datetime) -> list[str]:
    """Ids of campaigns that wait for a worker; call inside a transaction or :func:`reading`."""
    waiting = select(Campaign.id).where(Campaign.state.in_(AT_WORK), Campaign.touched_at < now - RING_AFTER)
    return list(db.session.scalars(waiting.order_by(Campaign.touched_at).limit(100)))


def calendar(campaign: Campaign) -> str:
    """The schedule as a picture (SVG)."""
    rows = db.session.execute(
        select(
            CampaignItem.transformer_area,
            CampaignItem.day,
            CampaignItem.night,
            CampaignItem.outage_id.is_not(None),
            func.count(),
        )
        .where(CampaignItem.campaign_id == campaign.id, CampaignItem.day.is_not(None), CampaignItem.reason.in_(REASONS))
        .group_by(
            CampaignItem.transformer_area, CampaignItem.day, CampaignItem.night, CampaignItem.outage_id.is_not(None)
        )
    ).all()
    marks = [
        Mark(area or "without an area", date.fromisoformat(day), night, bool(outage), count)
        for area, day, night, outage, count in rows
        if day is not None
    ]
    first, last = date.fromisoformat(campaign.from_day), date.fromisoformat(campaign.until_day)
    return svg(campaign.name, first, last, marks, campaign.items - sum(mark.count for mark in marks))
