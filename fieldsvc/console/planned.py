"""Planned work: campaigns, planned outages, inspections that fall due. Looked at here, with the simple steps."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

from flask import Response, current_app, render_template, request, url_for
from flask_babel import gettext as _
from flask_babel import ngettext
from sqlalchemy import select

from fieldsvc import kinds, queue
from fieldsvc.api import paging
from fieldsvc.api.campaigns import ITEM_REASONS, CampaignNew, Day
from fieldsvc.api.inspections import MOST_AT_ONCE, DueNew
from fieldsvc.api.jobs import Reason
from fieldsvc.api.outages import STATES, OutageEdit, OutageNew
from fieldsvc.api.schemas import Choice, Flag, Int, PageArgs, Schema, Text
from fieldsvc.base.clock import utc_now
from fieldsvc.base.db import among, db, reading, transaction
from fieldsvc.base.errors import FieldsvcError
from fieldsvc.console.frame import (
    DISPATCHERS,
    Refused,
    actor,
    asked,
    choices,
    done,
    entered,
    form,
    further,
    page,
    pages,
    typed,
)
from fieldsvc.console.local_times import as_sent, for_field
from fieldsvc.console.runs import territory_choices
from fieldsvc.geo.hours import DAYS
from fieldsvc.records.models import Customer
from fieldsvc.work import campaigns as bulk
from fieldsvc.work import inspections as turns
from fieldsvc.work import outages as cuts
from fieldsvc.work.models import Campaign, CampaignItem, Job, PlannedOutage

LOOK_AHEAD = timedelta(days=30)
"""Inspections due within this time are listed when no day is given."""


class ItemArgs(PageArgs):
    reason = Choice(*ITEM_REASONS)
    day = Day()
    area = Text(80)


class OutageArgs(PageArgs):
    state = Choice(*STATES)
    area = Text(80)


class DueArgs(PageArgs):
    until = Day()


class CalledOff(Schema):
    why = Text(500, required=True)
    rev = Int(1)


class Moved(OutageEdit):
    rev = Int(1)


class DueForm(DueNew):
    everything = Flag()


@pages.get("/campaigns")
@page()
def campaigns() -> str:
    """Campaigns, newest first."""
    args = asked(PageArgs)
    with reading():
        found = paging.fetch(bulk.campaigns(actor().id, actor().scope), (Campaign.created_at, Campaign.id), args)
        rows = [bulk.row(one) for one in found.rows]
    return render_template("campaigns.html", campaigns=rows, more=further(found.next))


@pages.get("/campaigns/new")
@page(*DISPATCHERS)
def new_campaign() -> str:
    """The form that asks for a draft."""
    return _campaign_form()


@pages.post("/campaigns")
@page(*DISPATCHERS)
def ask_campaign() -> Any:
    """Ask for the draft of a campaign; a worker makes it."""
    lines = {name: request.form.get(name, "").split() for name in ("transformer_areas", "holidays")}
    given = entered(CampaignNew) | {name: found for name, found in lines.items() if found}
    try:
        with form(CampaignNew, given | {"days_off": request.form.getlist("days_off")}) as body, transaction():
            source, zone = actor().source(utc_now()), current_app.extensions["fieldsvc.settings"].zone
            campaign_id = bulk.request(source, bulk.NewCampaign(**body), actor().scope, zone).id
    except Refused as refused:
        return _campaign_form(refused.faults), refused.status
    queue.ring("run_campaign", campaign_id)
    return done(_("The draft is being made."), url_for("console.campaign", campaign_id=campaign_id))


@pages.get("/campaigns/<id:campaign_id>")
@page()
def campaign(campaign_id: str) -> str:
    """One campaign: its calendar, its totals and what is on which day."""
    return _campaign(campaign_id)


@pages.get("/campaigns/<id:campaign_id>/progress")
@page()
def campaign_progress(campaign_id: str) -> Any:
    """How far a worker is with it."""
    with reading():
        told = bulk.row(bulk.find(campaign_id, actor().id, actor().scope))
    busy = told["state"] in bulk.AT_WORK
    return (
        render_template("_campaign_progress.html", campaign=told, busy=busy),
        200,
        {} if busy else {"HX-Refresh": "true"},
    )


@pages.get("/campaigns/<id:campaign_id>/calendar.svg")
@page()
def campaign_picture(campaign_id: str) -> Response:
    """Areas by days."""
    with reading():
        shown = bulk.calendar(bulk.find(campaign_id, actor().id, actor().scope))
    return Response(shown, mimetype="image/svg+xml")


@pages.post("/campaigns/<id:campaign_id>/release")
@page(*DISPATCHERS)
def release_campaign(campaign_id: str) -> Any:
    """Have the jobs of a draft made."""
    return _turn(
        campaign_id,
        Schema,
        lambda body: bulk.release(actor().source(utc_now()), campaign_id, actor().id, actor().scope),
        _("Released. Its jobs are being made."),
    )


@pages.post("/campaigns/<id:campaign_id>/cancel")
@page(*DISPATCHERS)
def cancel_campaign(campaign_id: str) -> Any:
    """Call it off."""
    return _turn(
        campaign_id,
        Reason,
        lambda body: bulk.cancel(actor().source(utc_now()), campaign_id, body["reason"], actor().id, actor().scope),
        _("Called off. Jobs nobody has set out for are withdrawn."),
    )


@pages.get("/outages")
@page()
def outages() -> str:
    """Planned outages, the next ones first."""
    return _outages()


@pages.post("/outages")
@page(*DISPATCHERS)
def add_outage() -> Any:
    """Enter one."""
    try:
        with form(OutageNew, as_sent(OutageNew, entered(OutageNew))) as body, transaction():
            made = cuts.create(actor().source(utc_now()), cuts.NewOutage(**body), actor().scope)
            outage_id = made.id
    except Refused as refused:
        return _outages(refused.faults), refused.status
    return done(_("The outage has been entered."), url_for("console.outage", outage_id=outage_id))


@pages.get("/outages/<id:outage_id>")
@page()
def outage(outage_id: str) -> str:
    """One planned outage, and what hangs on it."""
    return _outage(outage_id)


@pages.post("/outages/<id:outage_id>")
@page(*DISPATCHERS)
def move_outage(outage_id: str) -> Any:
    """Another time or another reason."""
    try:
        with form(Moved, as_sent(Moved, entered(Moved))) as body, transaction():
            check, source = _same(body.pop("rev", None)), actor().source(utc_now())
            cuts.edit(source, outage_id, body, check=check, scope=actor().scope)
    except Refused as refused:
        return _outage(outage_id, refused.faults, "move"), refused.status
    return done(_("The outage has been moved."), url_for("console.outage", outage_id=outage_id))


@pages.post("/outages/<id:outage_id>/cancel")
@page(*DISPATCHERS)
def cancel_outage(outage_id: str) -> Any:
    """Call one off; the jobs made for it are named, not cancelled."""
    try:
        with form(CalledOff) as body, transaction():
            source = actor().source(utc_now())
            cuts.cancel(source, outage_id, body["why"], check=_same(body.get("rev")), scope=actor().scope)
    except Refused as refused:
        return _outage(outage_id, refused.faults, "cancel"), refused.status
    return done(_("The outage has been called off."), url_for("console.outage", outage_id=outage_id))


@pages.get("/inspections")
@page()
def inspections() -> str:
    """Whose inspection falls due, and has no job yet."""
    return _inspections()


@pages.post("/inspections")
@page(*DISPATCHERS)
def make_inspections() -> Any:
    """Make the jobs, of those that are ticked or of all."""
    try:
        with form(DueForm) as body, transaction():
            if not body.get("everything") and not body.get("customer_ids"):
                raise Refused({"": _("Tick at least one customer, or make the jobs of all.")})
            made = turns.make(
                actor().source(utc_now()), body["until"], _zone(), actor().scope,
                customer_ids=body.get("customer_ids"), limit=MOST_AT_ONCE,
            )  # fmt: skip
    except Refused as refused:
        return _inspections(refused.faults), refused.status
    told = ngettext("%(num)d job has been made.", "%(num)d jobs have been made.", len(made))
    return done(told, url_for("console.inspections", until=body["until"].isoformat()))


def _zone() -> Any:
    return current_app.extensions["fieldsvc.settings"].local_zone


def _turn(campaign_id: str, schema: type[Schema], step: Callable[[dict[str, Any]], Campaign], message: str) -> Any:
    try:
        with form(schema) as body, transaction():
            waits = step(body).state in bulk.AT_WORK
    except Refused as refused:
        return _campaign(campaign_id, refused.faults), refused.status
    if waits:
        queue.ring("run_campaign", campaign_id)
    return done(message, url_for("console.campaign", campaign_id=campaign_id))


def _campaign_form(faults: dict[str, str] | None = None) -> str:
    with reading():
        places = territory_choices()
    return render_template(
        "campaign_new.html",
        kind_names=choices(sorted(name for name, kind in kinds.discover().items() if kind.bulk)),
        territories=places,
        days=choices(DAYS),
        days_off=request.form.getlist("days_off") if request.form else ["sat", "sun"],
        given=request.form,
        faults=faults or {},
        typed=typed(),
    )


def _campaign(campaign_id: str, faults: dict[str, str] | None = None) -> str:
    args: dict[str, Any] = asked(ItemArgs)
    with reading():
        found = bulk.find(campaign_id, actor().id, actor().scope)
        told = bulk.page(found)
        wanted = (args["reason"],) if args.get("reason") else ()
        items = paging.fetch(
            bulk.items(campaign_id, reason=wanted, day=args.get("day"), area=args.get("area")),
            (CampaignItem.place,),
            args,
            descending=False,
            scalars=False,
            key=lambda row: [row[0].place],
        )
        rows = [bulk.item_row(row) for row in items.rows]
    return render_template(
        "campaign.html",
        campaign=told,
        items=rows,
        args=args,
        more=url_for("console.campaign", campaign_id=campaign_id, **args | {"cursor": items.next})
        if items.next
        else None,
        busy=told["state"] in bulk.AT_WORK,
        faults=faults or {},
        typed=typed(),
    )


def _outages(faults: dict[str, str] | None = None) -> str:
    args = asked(OutageArgs)
    now = utc_now()
    with reading():
        query = cuts.outages(actor().scope, area=args.get("area"), state=args.get("state"), since=now)
        found = paging.fetch(query, (PlannedOutage.starts_at, PlannedOutage.id), args, descending=False)
        rows = [cuts.row(one) for one in found.rows]
    return render_template(
        "outages.html",
        outages=rows,
        args=args,
        more=further(found.next),
        now=now,
        faults=faults or {},
        typed=typed(),
    )


def _outage(outage_id: str, faults: dict[str, str] | None = None, step: str = "") -> str:
    with reading():
        told = cuts.page(cuts.find(outage_id, actor().scope), actor().scope)
        jobs = db.session.scalars(select(Job).where(among(Job.id, told["job_ids"])).order_by(Job.number)).all()
        near = db.session.scalars(select(PlannedOutage).where(among(PlannedOutage.id, told["near"]))).all()
        return render_template(
            "outage.html",
            outage=told,
            jobs=jobs,
            near=near,
            step=step,
            starts=for_field(told["starts_at"]),
            ends=for_field(told["ends_at"]),
            faults=faults or {},
            typed=typed(),
        )


def _same(rev: int | None) -> Callable[[int], None]:
    """Refuses when the record has been changed since its page was shown."""

    def check(current: int) -> None:
        if rev != current:
            raise FieldsvcError(
                "precondition-failed", _("This has been changed meanwhile. What stands here now is new: look again.")
            )

    return check


def _inspections(faults: dict[str, str] | None = None) -> str:
    args = asked(DueArgs)
    zone = _zone()
    today = utc_now().astimezone(zone).date()
    until: date = args.get("until") or today + LOOK_AHEAD
    with reading():
        found = paging.fetch(
            turns.due_by(until, today, zone, actor().scope),
            (Customer.number,),
            args,
            descending=False,
            scalars=False,
            key=lambda row: [row[0].number],
        )
        rows = [turns.read(row, today, zone).row() for row in found.rows]
    return render_template(
        "inspections.html",
        due=rows,
        until=until.isoformat(),
        today=today.isoformat(),
        more=further(found.next),
        faults=faults or {},
        typed=typed(),
    )
