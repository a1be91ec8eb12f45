"""When work may be done at a customer's: the window of the job itself, else the hours the rules leave for it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta, tzinfo
from functools import lru_cache

from fieldsvc import rules
from fieldsvc.geo import hours
from fieldsvc.geo.model import Window
from fieldsvc.records.models import Customer
from fieldsvc.rules import RuleBook
from fieldsvc.work.models import Job

_A_WEEK = timedelta(days=8)
"""Hours come again after a week at the latest; one more day for a span over midnight."""


def for_job(job: Job, customer: Customer | None, span: Window, zone: tzinfo) -> tuple[Window, ...]:
    """The spans in which work on the job may begin, as ``PlanJob.windows`` wants them; empty: at any time.

    A window with both ends on the job itself is an appointment and stands as it is. Else the hours count that the rule
    pack ``windows`` leaves at this customer's, each shortened by the time on site, so that the work ends in them. With
    none of them in ``span`` the answer is the next one after it: not empty, for the job must not be done in ``span``.
    """
    if job.window_start is not None and job.window_end is not None:
        return (Window(job.window_start, job.window_end),)
    stated = stated_hours(job.kind, customer.customer_class, customer.importance, span.start.date()) if customer else ()
    if not stated:
        return _half_open(job, span)
    start = span.start if job.window_start is None else max(span.start, job.window_start)
    reach = Window(start, max(span.end, start) + _A_WEEK)
    found = beginnings(hours.within(stated, reach, zone), job.service_minutes)
    if job.window_end is not None:
        latest = job.window_end
        found = tuple(Window(one.start, min(one.end, latest)) for one in found if one.start <= latest)
    inside = tuple(one for one in found if one.start <= span.end)
    return inside or found[:1] or _half_open(job, span)


def _half_open(job: Job, span: Window) -> tuple[Window, ...]:
    """A job that only may not begin before, or after, a time."""
    if job.window_start is not None:
        return (Window(job.window_start, max(span.end, job.window_start)),)
    if job.window_end is not None:
        return (Window(min(span.start, job.window_end), job.window_end),)
    return ()


def beginnings(allowed: Sequence[Window], minutes: int) -> tuple[Window, ...]:
    """When work of ``minutes`` may begin so that it ends within one of ``allowed``."""
    length = timedelta(minutes=minutes)
    return tuple(Window(one.start, one.end - length) for one in allowed if one.end - length >= one.start)


def stated_hours(kind: str, customer_class: str, importance: str, on: date) -> tuple[hours.Hours, ...]:
    """The hours the rules leave for a kind of work at such a customer's; empty: at any time."""
    return _stated(rules.load(), kind, customer_class, importance, on)


@lru_cache(maxsize=1024)
def _stated(book: RuleBook, kind: str, customer_class: str, importance: str, on: date) -> tuple[hours.Hours, ...]:
    answer = book.windows(kind, customer_class, importance, on)
    return tuple(hours.read(one) for one in answer.value) if answer else ()
