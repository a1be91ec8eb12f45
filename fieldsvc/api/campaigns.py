"""Campaigns: bulk work over weeks, drafted, looked at, released."""

from __future__ import annotations

from datetime import date
from typing import Any

import marshmallow as ma
from flask import Response, after_this_request, current_app, g

from fieldsvc import queue
from fieldsvc.api import access, idempotency, paging
from fieldsvc.api.frame import Blueprint, document
from fieldsvc.api.jobs import KindName, Reason
from fieldsvc.api.schemas import (
    Choice,
    Choices,
    Flag,
    Ident,
    Int,
    ListOf,
    Member,
    PageArgs,
    Schema,
    Text,
    UtcTime,
    page_of,
)
from fieldsvc.base.clock import utc_now
from fieldsvc.base.db import reading, transaction
from fieldsvc.geo import campaign as planning
from fieldsvc.geo.hours import DAYS
from fieldsvc.work import campaigns
from fieldsvc.work.models import Campaign, CampaignItem

blp = Blueprint(
    "campaigns", __name__, url_prefix="/v1/campaigns", description="Campaigns: bulk work over weeks, as a draft first"
)

_LATER = ("no_meter", "open_job", "too_late", "outage_changed")
"""Reasons that come from the records, not from the schedule."""
ITEM_REASONS = (*planning.REASONS, *planning.LEFT, *_LATER)


class Day(Text):
    """A day of the calendar, local; a date inside, ISO 8601 outside."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(10, pattern=r"^20\d\d-\d\d-\d\d$", reason="must be a day such as 2027-03-01", **kwargs)

    def deserialize(self, value: Any, attr: str | None = None, data: Any = None, **kwargs: Any) -> Any:
        loaded = super().deserialize(value, attr, data, **kwargs)
        if not isinstance(loaded, str):
            return loaded
        try:
            return date.fromisoformat(loaded)
        except ValueError:
            raise ma.ValidationError("is no day of the calendar") from None


class Crews(Schema):
    territory_id = Ident(required=True)
    crews_per_day = Int(0, 1000, required=True)
    night_crews_per_day = Int(0, 1000, load_default=0)


class CampaignNew(Schema):
    name = Text(120, required=True)
    kind = KindName(required=True, metadata={"description": "One that is planned in bulk, such as meter_change."})
    from_day = Day(required=True)
    until_day = Day(required=True, metadata={"description": "The last day, itself included."})
    transformer_areas = ListOf(Text(80), max=5000, min=1)
    usage_point_ids = ListOf(Ident(), max=50_000, min=1)
    territory_ids = ListOf(Ident(), max=1000, min=1)
    crews_per_day = Int(0, 1000, metadata={"description": "They share all territories not in by_territory."})
    night_crews_per_day = Int(0, 1000)
    by_territory = ListOf(Member(Crews), max=1000)
    crew_minutes = Int(60, 1440, metadata={"description": "Work and ways of a crew in a shift; default by rule."})
    days_off = ListOf(Choice(*DAYS), max=7, load_default=lambda: ["sat", "sun"])
    holidays = ListOf(Day(), max=366)


class CampaignRow(Schema):
    id = Ident(required=True)
    name = Text(120, required=True)
    kind = KindName(required=True)
    state = Choice(*campaigns.STATES, required=True)
    from_day = Text(10, required=True)
    until_day = Text(10, required=True)
    zone = Text(60, required=True, metadata={"description": "The time zone whose days are meant."})
    territory_ids = ListOf(Ident(), max=10_000, required=True)
    items = Int(required=True)
    done_items = Int(required=True, metadata={"description": "How far making or withdrawing the jobs is."})
    attempts = Int(required=True)
    failure = Text(300, allow_none=True)
    requested_by = Ident(allow_none=True)
    requested_by_name = Text(120, allow_none=True)
    created_at = UtcTime(required=True)


class DayTotal(Schema):
    day = Text(10, required=True)
    night = Flag(required=True)
    usage_points = Int(required=True)


class CampaignAnswer(CampaignRow):
    asked = ma.fields.Dict(keys=ma.fields.String(), required=True, metadata={"description": "What was asked for."})
    placed = ma.fields.Dict(
        keys=ma.fields.String(),
        values=ma.fields.Integer(),
        required=True,
        metadata={"description": "Usage points with a day, by reason."},
    )
    left = ma.fields.Dict(
        keys=ma.fields.String(),
        values=ma.fields.Integer(),
        required=True,
        metadata={"description": "Usage points that get no job, by reason."},
    )
    jobs = Int(required=True, metadata={"description": "Jobs made so far."})
    days = ListOf(Member(DayTotal), max=1000, required=True)


class ItemAnswer(Schema):
    place = Int(required=True)
    usage_point_id = Ident(required=True)
    usage_point_number = Text(40, required=True)
    transformer_area = Text(80, allow_none=True)
    day = Text(10, allow_none=True)
    night = Flag(required=True)
    window_start = UtcTime(allow_none=True, metadata={"description": "Work begins at this time or later."})
    window_end = UtcTime(allow_none=True, metadata={"description": "Work begins at this time or before."})
    outage_id = Ident(allow_none=True)
    reason = Choice(*ITEM_REASONS, required=True)
    detail = Text(300, min=0, required=True)
    job_id = Ident(allow_none=True)
    job_number = Text(40, allow_none=True)


class ItemsArgs(PageArgs):
    reason = Choices(*ITEM_REASONS)
    day = Day()
    area = Text(80)


def _ring_after(campaign: Campaign) -> None:
    """Ring once the transaction has been committed and the answer is made."""
    campaign_id, waits = campaign.id, campaign.state in campaigns.AT_WORK

    @after_this_request
    def _ring(response: Response) -> Response:
        if waits and response.status_code < 300:
            queue.ring("run_campaign", campaign_id)
        return response


@blp.get("")
@access.staff()
@blp.arguments(PageArgs, location="query")
@blp.response(200, page_of(CampaignRow))
@blp.errors("bad-cursor")
def list_campaigns(args: dict[str, Any]) -> Any:
    """Campaigns, newest first; with a territory scope, your own"""
    with reading():
        query = campaigns.campaigns(g.actor.id, g.actor.scope)
        page = paging.fetch(query, (Campaign.created_at, Campaign.id), args)
        body, headers = paging.answer(page, campaigns.row)
    return body, 200, headers


@blp.post("")
@access.staff(*access.DISPATCHERS)
@idempotency.creates
@blp.arguments(CampaignNew)
@blp.response(202, CampaignAnswer)
@blp.errors("conflict")
def create_campaign(body: dict[str, Any]) -> Any:
    """Ask for the schedule of a campaign; a worker drafts it, Location says how far it is"""
    zone = current_app.extensions["fieldsvc.settings"].zone
    new = campaigns.NewCampaign(**body)
    campaign = campaigns.request(g.actor.source(utc_now()), new, g.actor.scope, zone)
    _ring_after(campaign)
    return campaigns.page(campaign), 202, {"Location": f"/v1/campaigns/{campaign.id}"}


@blp.get("/<id:campaign_id>")
@access.staff()
@blp.response(200, CampaignAnswer)
def get_campaign(campaign_id: str) -> Any:
    """How far a campaign is, and its totals per day"""
    with reading():
        return campaigns.page(campaigns.find(campaign_id, g.actor.id, g.actor.scope))


@blp.get("/<id:campaign_id>/items")
@access.staff()
@blp.arguments(ItemsArgs, location="query")
@blp.response(200, page_of(ItemAnswer))
@blp.errors("bad-cursor")
def list_items(args: dict[str, Any], campaign_id: str) -> Any:
    """Every usage point with its day and window, or the reason why it has none"""
    with reading():
        campaign = campaigns.find(campaign_id, g.actor.id, g.actor.scope)
        page = paging.fetch(
            campaigns.items(campaign.id, reason=args.get("reason", ()), day=args.get("day"), area=args.get("area")),
            (CampaignItem.place,),
            args,
            descending=False,
            scalars=False,
            key=lambda row: [row[0].place],
        )
        body, headers = paging.answer(page, campaigns.item_row)
    return body, 200, headers


def _picture(view: Any) -> Any:
    """Document the answer of a picture's view."""
    content = {"image/svg+xml": {"schema": {"type": "string"}}}
    return document(view, responses={"200": {"description": "The picture", "content": content}})


@blp.get("/<id:campaign_id>/calendar")
@access.staff()
@_picture
def get_calendar(campaign_id: str) -> Any:
    """The schedule as a picture: areas by days"""
    with reading():
        shown = campaigns.calendar(campaigns.find(campaign_id, g.actor.id, g.actor.scope))
    return Response(shown, mimetype="image/svg+xml")


@blp.post("/<id:campaign_id>/release")
@access.staff(*access.DISPATCHERS)
@blp.response(202, CampaignAnswer)
@blp.errors("state-not-allowed")
def release_campaign(campaign_id: str) -> Any:
    """Let a worker make the jobs of a draft; sent again, nothing happens twice"""
    with transaction():
        campaign = campaigns.release(g.actor.source(utc_now()), campaign_id, g.actor.id, g.actor.scope)
        _ring_after(campaign)
        return campaigns.page(campaign), 202


@blp.post("/<id:campaign_id>/cancel")
@access.staff(*access.DISPATCHERS)
@blp.arguments(Reason)
@blp.response(202, CampaignAnswer)
def cancel_campaign(body: dict[str, Any], campaign_id: str) -> Any:
    """Call a campaign off; a worker withdraws the jobs that no crew has set out for"""
    with transaction():
        source = g.actor.source(utc_now())
        campaign = campaigns.cancel(source, campaign_id, body["reason"], g.actor.id, g.actor.scope)
        _ring_after(campaign)
        return campaigns.page(campaign), 202
