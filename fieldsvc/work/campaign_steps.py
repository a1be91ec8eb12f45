"""What workers do for a campaign: make its schedule, make its jobs, withdraw them.

Every step is short transactions under the lock of the campaign's row, each of which finds out by itself what is left to
do. So a step may be taken up by two workers, or again after one has died, and nothing is done twice.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import insert, or_, select, update

from fieldsvc import kinds, rules
from fieldsvc.base.db import among, db, reading, transaction
from fieldsvc.geo import campaign as planning
from fieldsvc.geo import hours
from fieldsvc.geo.model import Window
from fieldsvc.history.record import Source, record
from fieldsvc.kinds.base import Kind
from fieldsvc.records.models import MeterInstallation, ServiceLocation, UsagePoint
from fieldsvc.work import campaigns, change, jobs, windows
from fieldsvc.work.bulk import store_all
from fieldsvc.work.models import Campaign, CampaignItem, Job, PlannedOutage

MOST_ATTEMPTS = 3
MADE_AT_ONCE = 500
WITHDRAWN_AT_ONCE = 200
_NOT_SET_OUT = (*change.WAITING, "dispatched", "accepted")
"""States in which a job can be withdrawn without calling a crew back."""


def run(campaign_id: str, now: datetime) -> None:
    """Do whatever the campaign waits for, to its end. Keeps transactions of its own.

    What goes wrong is recorded in a transaction of its own and raised again; it is tried up to three times.
    """
    try:
        while _step(campaign_id, now):
            pass
    except Exception as error:
        _failed(campaign_id, type(error).__name__, now)
        raise


def _step(campaign_id: str, now: datetime) -> bool:
    """One short piece of work; False when nothing is left to do."""
    with reading():
        campaign = db.session.get(Campaign, campaign_id)
        state = campaign.state if campaign else None
    if state == "planning":
        _plan(campaign_id, now)
        return False
    if state == "releasing":
        return _release(campaign_id, now)
    return state == "cancelling" and _withdraw(campaign_id, now)


def _failed(campaign_id: str, error: str, now: datetime) -> None:
    with transaction():
        campaign = _held(campaign_id)
        if campaign is None or campaign.state not in campaigns.AT_WORK:
            return
        campaign.attempts += 1
        campaign.failure, campaign.touched_at = error[:300], now
        if campaign.attempts >= MOST_ATTEMPTS:
            campaign.state = "failed"


def _held(campaign_id: str) -> Campaign | None:
    held: Campaign | None = db.session.scalar(
        select(Campaign).where(Campaign.id == campaign_id).with_for_update().execution_options(populate_existing=True)
    )
    return held


def _source(campaign: Campaign, now: datetime) -> Source:
    by = f"campaign of {campaign.requested_by_name}" if campaign.requested_by_name else "campaign"
    return Source("system", now, id=campaign.id, name=by[:120])


# -- the schedule


def _plan(campaign_id: str, now: datetime) -> None:
    """Make the schedule outside of any transaction, and store it if nobody has meanwhile."""
    with reading():
        campaign = db.session.get_one(Campaign, campaign_id)
        found = db.session.execute(campaigns.points(campaign.asked, campaign.asked["scope"])).all()
        excluded = _excluded(campaign, found)
        wanted = [row for row in found if row.id not in excluded]
        made = _scheduled(campaign, wanted, now)
    areas = {row.id: row.transformer_area for row in found}
    rows = [
        *(_placed_row(one, areas) for one in made.placed),
        *(_left_row(one.point_id, one.reason, one.detail, areas) for one in made.left),
        *(_left_row(row.id, *excluded[row.id], areas) for row in found if row.id in excluded),
    ]
    with transaction():
        campaign_now = _held(campaign_id)
        if campaign_now is None or campaign_now.state != "planning":
            return
        campaign_now.items = len(rows)
        campaign_now.territory_ids = sorted({row.territory_id for row in found if row.territory_id})
        campaign_now.beyond = any(row.territory_id is None for row in found)
        campaign_now.state, campaign_now.touched_at = "draft", now
        numbered = [{"campaign_id": campaign_id, "place": place, **row} for place, row in enumerate(rows, 1)]
        if numbered:
            db.session.execute(insert(CampaignItem), numbered)
        after = {"placed": len(made.placed), "left": len(rows) - len(made.placed)}
        record(_source(campaign_now, now), "campaign.planned", "campaign", campaign_id, after=after)


def _scheduled(campaign: Campaign, found: Sequence[Any], now: datetime) -> planning.Schedule:
    kind = kinds.get(campaign.kind)
    first, last = date.fromisoformat(campaign.from_day), date.fromisoformat(campaign.until_day)
    terms = _terms(campaign, first)
    minutes = jobs.planned_minutes(kind, now)
    gap = timedelta(days=terms.days_between_cuts + 1)
    begin = datetime.combine(first, datetime.min.time(), terms.zone) - gap
    end = datetime.combine(last, datetime.min.time(), terms.zone) + gap
    cuts: Mapping[str, tuple[planning.Cut, ...]] = {}
    outages: list[planning.Outage] = []
    if kind.interrupts_supply:
        cuts = _cuts(begin, end)
        outages = _outages({row.transformer_area for row in found}, begin, end)
    points = [
        planning.Point(
            row.id,
            row.number,
            row.customer_id,
            row.transformer_area,
            row.territory_id,
            minutes,
            windows.stated_hours(kind.name, row.customer_class, row.importance, first),
            cuts.get(row.customer_id, ()),
            row.lon,
            row.lat,
        )
        for row in found
    ]
    asked = campaign.asked
    days_off = [hours.DAYS.index(day) for day in asked["days_off"]]
    days = planning.working_days(first, last, days_off, map(date.fromisoformat, asked["holidays"]))
    return planning.schedule(points, outages, _pools(asked), days, terms)


def _terms(campaign: Campaign, on: date) -> planning.Terms:
    def rule(name: str) -> Any:
        return rules.load().planned_work(name, on).value

    interrupts = kinds.get(campaign.kind).interrupts_supply
    return planning.Terms(
        zone=ZoneInfo(campaign.zone),
        day_shift=_shift(rule("day_shift")),
        night_shift=_shift(rule("night_shift")),
        crew_minutes=campaign.asked["crew_minutes"] or rule("crew_minutes"),
        to_area=rule("minutes_to_an_area"),
        between=rule("minutes_between_customers"),
        days_between_cuts=rule("days_between_cuts") if interrupts else 0,
    )


def _shift(stated: str) -> hours.Hours:
    begin, _, end = stated.partition("-")
    return hours.read({"from": begin, "to": end})


def _pools(asked: Mapping[str, Any]) -> list[planning.Pool]:
    own = [
        planning.Pool(frozenset({one["territory_id"]}), one["crews_per_day"], one["night_crews_per_day"])
        for one in asked["by_territory"]
    ]
    if asked["crews_per_day"] or asked["night_crews_per_day"]:
        own.append(planning.Pool(None, asked["crews_per_day"], asked["night_crews_per_day"]))
    return own


def _outages(areas: Iterable[str | None], begin: datetime, end: datetime) -> list[planning.Outage]:
    found = db.session.execute(
        select(PlannedOutage.id, PlannedOutage.transformer_area, PlannedOutage.starts_at, PlannedOutage.ends_at).where(
            PlannedOutage.state == "planned", PlannedOutage.starts_at < end, PlannedOutage.ends_at > begin
        )
    )
    wanted = set(areas)
    return [
        planning.Outage(row.id, row.transformer_area, Window(row.starts_at, row.ends_at))
        for row in found
        if row.transformer_area in wanted
    ]


def _cuts(begin: datetime, end: datetime) -> dict[str, tuple[planning.Cut, ...]]:
    """Customer → when other jobs cut it off between ``begin`` and ``end``: done ones, and those that have a time."""
    names = [name for name, kind in kinds.discover().items() if kind.interrupts_supply]
    when = or_(
        Job.completed_at.between(begin, end),
        Job.status.not_in(change.ENDED)
        & or_(Job.planned_start.between(begin, end), Job.window_start.between(begin, end)),
    )
    query = select(
        Job.customer_id, Job.number, Job.completed_at, Job.planned_start, Job.window_start, Job.service_minutes
    )
    found: dict[str, list[planning.Cut]] = defaultdict(list)
    for row in db.session.execute(query.where(Job.kind.in_(names), Job.customer_id.is_not(None), when)):
        at = row.completed_at or row.planned_start or row.window_start
        span = Window(at, at + timedelta(minutes=row.service_minutes))
        found[row.customer_id].append(planning.Cut(span, f"job {row.number} on {at.date().isoformat()}"))
    return {customer_id: tuple(sorted(cuts)) for customer_id, cuts in found.items()}


def _excluded(campaign: Campaign, found: Sequence[Any]) -> dict[str, tuple[str, str]]:
    """Usage point → reason and words, for what is not to be planned at all."""
    kind = kinds.get(campaign.kind)
    reasons: dict[str, tuple[str, str]] = {}
    if kind.needs_meter:
        metered = set(
            db.session.scalars(select(MeterInstallation.usage_point_id).where(MeterInstallation.removed_at.is_(None)))
        )
        reasons = {row.id: ("no_meter", "no meter is on record here") for row in found if row.id not in metered}
    return reasons | _busy(kind, [row.id for row in found])


def _busy(kind: Kind, usage_point_ids: Sequence[str]) -> dict[str, tuple[str, str]]:
    """The usage points that have an open job of the kind."""
    query = select(Job.usage_point_id, Job.number).where(
        among(Job.usage_point_id, usage_point_ids), Job.kind.in_([kind.name]), Job.status.not_in(change.ENDED)
    )
    return {
        str(usage_point_id): ("open_job", f"job {number} is there already")
        for usage_point_id, number in db.session.execute(query.order_by(Job.number.desc()))
    }


def _placed_row(one: planning.Placed, areas: Mapping[str, str | None]) -> dict[str, Any]:
    return {
        "usage_point_id": one.point_id,
        "transformer_area": areas[one.point_id],
        "day": one.day.isoformat(),
        "night": one.night,
        "window_start": one.window.start,
        "window_end": one.window.end,
        "outage_id": one.outage_id,
        "reason": one.reason,
        "detail": one.detail[:300],
        "job_id": None,
    }


def _left_row(point_id: str, reason: str, detail: str, areas: Mapping[str, str | None]) -> dict[str, Any]:
    nothing = dict.fromkeys(("day", "window_start", "window_end", "outage_id", "job_id"))
    shown = {"usage_point_id": point_id, "transformer_area": areas[point_id], "reason": reason, "detail": detail[:300]}
    return {**nothing, **shown, "night": False}


# -- the jobs


def _release(campaign_id: str, now: datetime) -> bool:
    """Make the next jobs; False when all are made."""
    with transaction():
        campaign = _held(campaign_id)
        if campaign is None or campaign.state != "releasing":
            return False
        mine = CampaignItem.campaign_id == campaign_id
        waiting = select(CampaignItem).where(
            mine, CampaignItem.job_id.is_(None), CampaignItem.reason.in_(planning.REASONS)
        )
        batch = list(db.session.scalars(waiting.order_by(CampaignItem.place).limit(MADE_AT_ONCE)))
        source = _source(campaign, now)
        campaign.touched_at = now
        if not batch:
            campaign.state = "released"
            record(source, "campaign.jobs_made", "campaign", campaign_id, after={"items": campaign.items})
            return False
        refused = dict(_not_released(campaign, batch, now))
        for item in batch:
            if item.place in refused:
                item.reason, item.detail = refused[item.place]
        _make(source, campaign, [item for item in batch if item.place not in refused])
        campaign.done_items += len(batch)
        return True


def _not_released(
    campaign: Campaign, batch: Sequence[CampaignItem], now: datetime
) -> Iterator[tuple[int, tuple[str, str]]]:
    """Place → reason and words, for what has become wrong since the schedule was made."""
    busy = _busy(kinds.get(campaign.kind), [item.usage_point_id for item in batch])
    outage_ids = {item.outage_id for item in batch if item.outage_id}
    outages = {o.id: o for o in db.session.scalars(select(PlannedOutage).where(PlannedOutage.id.in_(outage_ids)))}
    for item in batch:
        assert item.window_start is not None and item.window_end is not None
        outage = outages.get(item.outage_id or "")
        if item.usage_point_id in busy:
            yield item.place, busy[item.usage_point_id]
        elif item.window_end <= now:
            yield item.place, ("too_late", "its window was over before the campaign was released")
        elif outage is not None and (
            outage.state != "planned" or outage.starts_at > item.window_start or outage.ends_at < item.window_end
        ):
            yield item.place, ("outage_changed", "the planned outage it was to be done in was moved or called off")


def _make(source: Source, campaign: Campaign, batch: Sequence[CampaignItem]) -> None:
    kind = kinds.get(campaign.kind)
    rows = db.session.execute(
        select(UsagePoint, ServiceLocation)
        .join(ServiceLocation, ServiceLocation.id == UsagePoint.location_id)
        .where(UsagePoint.id.in_([item.usage_point_id for item in batch]))
    )
    places = {point.id: (point, location) for point, location in rows}
    new = [_job(kind, campaign, item, *places[item.usage_point_id]) for item in batch]
    drafts = store_all(source, new, "job.created")
    made = [
        {"campaign_id": campaign.id, "place": item.place, "job_id": draft.row["id"]}
        for item, draft in zip(batch, drafts, strict=True)
    ]
    if made:
        db.session.execute(update(CampaignItem), made)


def _job(
    kind: Kind, campaign: Campaign, item: CampaignItem, point: UsagePoint, location: ServiceLocation
) -> jobs.NewJob:
    where = f" {item.transformer_area}" if item.transformer_area else ""
    new = jobs.NewJob(
        kind=kind.name,
        title=f"{kind.title}{where}: {campaign.name}"[:200],
        description=item.detail,
        external_key=f"campaign:{campaign.id}:{point.id}",
        usage_point_id=point.id,
        window_start=item.window_start,
        window_end=item.window_end,
        due_at=item.window_end,
        load=1 if kind.needs_meter else 0,
        details={"campaign": {"id": campaign.id, "name": campaign.name, "night": item.night}},
    )
    here = partial(jobs.at_location, new, point.customer_id, location.lon, location.lat)
    return here(location.address, location.site_class)


def _withdraw(campaign_id: str, now: datetime) -> bool:
    """Cancel the next jobs; False when all have been looked at."""
    with transaction():
        campaign = _held(campaign_id)
        if campaign is None or campaign.state != "cancelling":
            return False
        mine = (CampaignItem.campaign_id == campaign_id) & (CampaignItem.place > campaign.done_items)
        made = select(CampaignItem.place, CampaignItem.job_id).where(mine, CampaignItem.job_id.is_not(None))
        batch = db.session.execute(made.order_by(CampaignItem.place).limit(WITHDRAWN_AT_ONCE)).all()
        campaign.touched_at = now
        if not batch:
            campaign.state, campaign.done_items = "cancelled", campaign.items
            return False
        held = select(Job).where(Job.id.in_([row.job_id for row in batch])).order_by(Job.id).with_for_update()
        source = _source(campaign, now)
        for job in db.session.scalars(held.execution_options(populate_existing=True)):
            if job.status in _NOT_SET_OUT:
                change.cancel(source, job, f"the campaign {campaign.name} was called off")
        campaign.done_items = batch[-1].place
        return True
