"""A crew's page with its shifts week by week: which there are, further ones, also for some weeks at once, and none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from flask import render_template, request, url_for
from flask_babel import format_date, ngettext
from flask_babel import gettext as _

from fieldsvc.api.schemas import Choice, Flag, Int, ListOf, Schema, Text
from fieldsvc.base.clock import utc_now
from fieldsvc.base.db import reading, transaction
from fieldsvc.base.errors import Conflict, Invalid
from fieldsvc.console.frame import SUPERVISORS, Refused, actor, done, form, page, pages, typed
from fieldsvc.console.words import at, zone
from fieldsvc.history import page as history
from fieldsvc.people import crews, devices, territories
from fieldsvc.people.models import Shift
from fieldsvc.work import queries

_DAY = timedelta(days=1)
_DATE, _TIME = r"^\d{4}-\d\d-\d\d$", r"^([01]\d|2[0-3]):[0-5]\d$"
_MOST_WEEKS = 26
_CHANGES = ("crew.created", "crew.changed", "shift.added", "shift.ended", "shift.removed")
_SHOWN_CHANGES = 8
_SHOWN_CLASHES = 6


class _ShiftsWanted(Schema):
    day = Text(10, pattern=_DATE, reason="is not a date", required=True)
    starts = Text(5, pattern=_TIME, reason="is not a time of day", required=True)
    ends = Text(5, pattern=_TIME, reason="is not a time of day", required=True)
    break_from = Text(5, pattern=_TIME, reason="is not a time of day")
    break_to = Text(5, pattern=_TIME, reason="is not a time of day")
    break_minutes = Int(1, 480)
    weekdays = ListOf(Choice(*"0123456"), max=7)
    weeks = Int(1, _MOST_WEEKS, load_default=1)
    leave_out = Flag(load_default=False)


@dataclass(frozen=True)
class Day:
    """A day of the week that is shown. ``bars``: begin and length of what of a shift lies in it, in minutes of the
    day; ``shifts``: those that begin on it, each with how many jobs are planned in it.
    """

    date: date
    bars: list[tuple[int, int]]
    shifts: list[tuple[Shift, int]]


@pages.post("/crews/<id:crew_id>/shifts")
@page(*SUPERVISORS)
def add_shifts(crew_id: str) -> Any:
    """Put a crew on duty: once, or on some days of the week for some weeks."""
    try:
        with form(_ShiftsWanted) as body, transaction():
            crew = crews.get(actor(), crew_id, lock=True)
            added, left = _add(crew, body)
    except Refused as refused:
        return shown(crew_id, refused.faults), refused.status
    message = ngettext("%(num)s shift has been added.", "%(num)s shifts have been added.", added)
    if left:
        message += " " + _("Left out, as the crew has a shift already: %(days)s.", days=_days(left))
    return done(message, url_for("console.crew", crew_id=crew_id, week=body["day"], _anchor="shifts"))


@pages.post("/crews/<id:crew_id>/shifts/<id:shift_id>/remove")
@page(*SUPERVISORS)
def remove_shift(crew_id: str, shift_id: str) -> Any:
    """Take a crew off duty: a shift to come goes, a running one ends now."""
    with transaction():
        crew = crews.get(actor(), crew_id, lock=True)
        crews.remove_shift(actor(), utc_now(), crew, shift_id)
    back = url_for("console.crew", crew_id=crew_id, week=request.form.get("week") or None, _anchor="shifts")
    return done(_("The crew is off duty then. Jobs that were planned for it stay with the crew."), back)


def _add(crew: Any, body: Mapping[str, Any]) -> tuple[int, list[datetime]]:
    first = _date(body["day"])
    weekdays = {int(one) for one in body.get("weekdays", ())} or {first.weekday()}
    days = [first + offset * _DAY for offset in range(7 * body["weeks"])]
    wanted = [_shift(day, body) for day in days if day.weekday() in weekdays]
    try:
        return crews.add_shifts(actor(), utc_now(), crew, wanted, leave_out_taken=body["leave_out"])
    except Conflict as clash:
        taken = clash.extra.get("taken", [])
        reason = _("The crew has a shift already: %(days)s. Nothing has been added.", days=_days(taken))
        raise Invalid.field("day", reason) from None


def _shift(day: date, body: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a shift on ``day``; times before its begin are of the day after."""
    starts = _moment("starts", day, body["starts"])
    ends = _moment("ends", day if body["ends"] > body["starts"] else day + _DAY, body["ends"])
    given = [name for name in ("break_from", "break_to", "break_minutes") if name in body]
    if not given:
        return {"starts_at": starts, "ends_at": ends, "breaks": []}
    for name in {"break_from", "break_minutes"} - set(given):
        raise Invalid.field(name, _("A break needs its earliest begin and its minutes."))
    earliest, latest = body["break_from"], body.get("break_to", body["break_from"])
    pause = {
        "earliest": _moment("break_from", day if earliest >= body["starts"] else day + _DAY, earliest),
        "latest": _moment("break_to", day if latest >= body["starts"] else day + _DAY, latest),
        "minutes": body["break_minutes"],
    }
    if pause["latest"] < pause["earliest"]:
        raise Invalid.field("break_to", _("This is before its earliest begin."))
    if pause["latest"] + timedelta(minutes=pause["minutes"]) > ends:
        raise Invalid.field("break_to", _("The break must end within the shift."))
    return {"starts_at": starts, "ends_at": ends, "breaks": [pause]}


@pages.app_template_filter("weekday")
def _weekday(day: date) -> str:
    """The short name of a day of the week."""
    return str(format_date(day, "EEE"))


def _date(text: str) -> date:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise Invalid.field("day", "is not a date") from None
    if not 1970 < day.year < 2199:
        raise Invalid.field("day", "must lie between 1970 and 2199")
    return day


def _moment(field: str, day: date, clock: str) -> datetime:
    """A time of day in the visitor's zone.

    :raises Invalid: the clocks are put forward over it.
    """
    local = datetime.combine(day, time.fromisoformat(clock), zone())
    if local.astimezone(UTC).astimezone(zone()).replace(tzinfo=None) != local.replace(tzinfo=None):
        raise Invalid.field(field, _("There is no such time on %(day)s: the clocks go forward.", day=day.isoformat()))
    return local.astimezone(UTC)


def _days(times: Sequence[datetime]) -> str:
    shown = [format_date(one.astimezone(zone()).date(), "yyyy-MM-dd") for one in times[:_SHOWN_CLASHES]]
    return ", ".join(shown) + (" …" if len(times) > _SHOWN_CLASHES else "")


def shown(crew_id: str, faults: dict[str, str]) -> str:
    """The page of a crew, with the week that the address names."""
    now = utc_now()
    monday = _monday(request.args.get("week") or request.form.get("day"), now)
    with reading():
        crew = crews.get(actor(), crew_id)
        return render_template(
            "crew.html", crew=crew, now=now, days=_week(crew.id, monday), monday=monday,
            before=(monday - 7 * _DAY).isoformat(), after=(monday + 7 * _DAY).isoformat(),
            today=now.astimezone(zone()).date(), devices=devices.of_crews([crew.id])[crew.id],
            codes=territories.codes(crew.territory_ids), at=at, faults=faults, typed=typed(), most_weeks=_MOST_WEEKS,
            entries=history.latest(_CHANGES, _SHOWN_CHANGES, crew_id=crew.id),
            calendar=url_for("calendar.crew_calendar", crew_id=crew.id, _external=True),
        )  # fmt: skip


def _monday(text: str | None, now: datetime) -> date:
    try:
        day = date.fromisoformat(text or "")
    except ValueError:
        day = now.astimezone(zone()).date()
    day = min(max(day, date(1970, 1, 5)), date(2199, 12, 1))
    return day - day.weekday() * _DAY


def _week(crew_id: str, monday: date) -> list[Day]:
    since, until = (datetime.combine(monday + days * _DAY, time(), zone()) for days in (0, 7))
    shifts = crews.on_duty([crew_id], since, until)[crew_id]
    planned = queries.planned_starts(crew_id, since, until + _DAY)
    found = []
    for day in (monday + offset * _DAY for offset in range(7)):
        begun = [one for one in shifts if one.starts_at.astimezone(zone()).date() == day]
        jobs = [sum(one.starts_at <= start < one.ends_at for start in planned) for one in begun]
        bars = [bar for bar in (_bar(one, day) for one in shifts) if bar[1] > 0]
        found.append(Day(day, bars, list(zip(begun, jobs, strict=True))))
    return found


def _bar(shift: Shift, day: date) -> tuple[int, int]:
    """Begin and length of what of ``shift`` lies in ``day``, in minutes by the clock on the wall."""
    midnight = datetime.combine(day, time())
    edges = (moment.astimezone(zone()).replace(tzinfo=None) - midnight for moment in (shift.starts_at, shift.ends_at))
    begin, end = (min(max(round(edge.total_seconds() / 60), 0), 24 * 60) for edge in edges)
    return begin, end - begin
