"""The tasks, by the names the queue rings them with. Arguments are ids; what they do stands in the rooms."""

from __future__ import annotations

from datetime import datetime, timedelta

from flask import current_app

from fieldsvc.api import idempotency
from fieldsvc.base.clock import utc_now
from fieldsvc.base.db import reading, transaction
from fieldsvc.config import Settings
from fieldsvc.feed import horizon
from fieldsvc.people import positions, sessions
from fieldsvc.people.actors import SYSTEM
from fieldsvc.queue import ring
from fieldsvc.sync import reconcile as reconciling
from fieldsvc.sync import sweep as sweeping
from fieldsvc.sync import uploads
from fieldsvc.work import campaign_steps, campaigns, closing, dispatch, incidents, inspections, merging
from workers.runtime import task


@task(transactional=False)
def reconcile(install_id: str, *, now: datetime) -> int:
    """Decide what one install has sent; each batch is a transaction of its own, failures are kept per operation."""
    settings: Settings = current_app.extensions["fieldsvc.settings"]
    done = reconciling.drain(install_id, now, settings.reconcile_attempts)
    for released in done.released:
        ring("reconcile", released)
    return done.decided


@task(transactional=False)
def run_dispatch(run_id: str, *, now: datetime) -> None:
    """Do what a dispatch run needs next: divide it, let neighbours help out, end it, or carry out what was accepted."""
    for one in dispatch.conduct(run_id, now):
        ring(*one)
    dispatch.carry_out(run_id, None, now)


@task(transactional=False)
def plan_area(run_id: str, number: str, *, now: datetime) -> None:
    """Plan one area of a dispatch run and carry out what was decided; the run goes on even if that went wrong."""
    settings: Settings = current_app.extensions["fieldsvc.settings"]
    travel = current_app.extensions["fieldsvc.travel"].on(now.date())
    try:
        fresh = timedelta(seconds=settings.position_fresh)
        dispatch.plan_area(run_id, int(number), now, travel=travel, zone=settings.local_zone, fresh=fresh)
        # A plan takes its time: what follows is recorded at the time it happens.
        dispatch.carry_out(run_id, int(number), utc_now())
    finally:
        for one in dispatch.conduct(run_id, utc_now()):
            ring(*one)


@task(transactional=False)
def run_campaign(campaign_id: str, *, now: datetime) -> None:
    """Do what a campaign waits for: its schedule, its jobs, or their withdrawal."""
    campaign_steps.run(campaign_id, now)


@task(transactional=False)
def inspect_attachment(upload_id: str, *, now: datetime) -> None:
    """Look at a file that has come whole, and tell whoever waits for it."""
    uploads.inspect(current_app.extensions["fieldsvc.store"], upload_id, now)


@task(transactional=False)
def sweep(*, now: datetime) -> int:
    """Ring again for what nobody has heard, close what is over, forget what is old; returns how many rings."""
    settings: Settings = current_app.extensions["fieldsvc.settings"]
    ttl = timedelta(seconds=settings.upload_ttl)
    with transaction():
        installs, runs = list(sweeping.due(now)), dispatch.due(now)
        planned = campaigns.due(now)
    _merge_what_came_apart(now)
    with transaction():
        incidents.tell_over(now)
    with transaction():
        merging.settle(now)
        closing.close_due(now)
        idempotency.forget(now)
        positions.forget(now - timedelta(seconds=settings.position_ttl))
        sessions.forget(now, timedelta(seconds=settings.session_ttl))
        arrived, over = uploads.due(), uploads.expire(now, ttl)
    with transaction():
        inspections.make_due(now, settings.local_zone)
    with transaction():
        horizon.move(now, timedelta(seconds=settings.feed_horizon))
    with transaction():
        horizon.forget(now)
    rung = [ring("reconcile", install_id) for install_id in installs]
    rung += [ring(*one) for one in runs]
    rung += [ring("run_campaign", campaign_id) for campaign_id in planned]
    rung += [ring("inspect_attachment", upload_id) for upload_id in arrived]
    uploads.forget(current_app.extensions["fieldsvc.store"], over, now, ttl)
    return sum(rung)


def _merge_what_came_apart(now: datetime) -> None:
    with reading():
        territory_ids = merging.unsettled(now)
    for territory_id in territory_ids:
        with transaction():
            merging.look_through(SYSTEM.source(now), territory_id)
