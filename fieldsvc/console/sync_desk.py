"""The sync desk: what has not arrived, who is silent, what is late and why, and what crews cannot know yet."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from flask import render_template, request
from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l
from flask_babel import ngettext
from markupsafe import Markup

from fieldsvc.api import paging, positions
from fieldsvc.api.schemas import Choice, Ident, Int, PageArgs, Text
from fieldsvc.base.clock import utc_now
from fieldsvc.base.db import reading
from fieldsvc.console.frame import actor, asked, further, page, pages
from fieldsvc.console.telling import Names
from fieldsvc.console.words import since, span, word
from fieldsvc.people import crews
from fieldsvc.sync import desk, evidence, journeys
from fieldsvc.sync.desk import Standing
from fieldsvc.sync.journeys import Journey
from fieldsvc.sync.models import Attachment, InboxOperation
from fieldsvc.work.models import Job

AT_ONCE = 50
"""Devices on one page."""
LATEST = 15
"""Operations of a device shown on its page."""
TILES = {
    "failing": _l("with work that fails"),
    "gap": _l("with a gap"),
    "held": _l("with held work"),
    "undecided": _l("with undecided work"),
    "silent": _l("silent"),
    "unsent": _l("with unsent work"),
    "unheard": _l("with unheard outcomes"),
    "upgrade_needed": _l("with too old an app"),
    "no_first_sync": _l("without a first sync"),
    "files": _l("that owe photos"),
    "clock": _l("with a wrong clock"),
    "upgrade_soon": _l("with an old app"),
}
"""Problem → how the devices that have it are counted."""
_LEADS_TO = {
    "gap": "held",
    "held": "held",
    "failing": "undecided",
    "undecided": "undecided",
    "unheard": "unheard",
    "files": "files",
}
"""Problem → the list that shows what it is about."""
_GRAVE = ("failing", "gap", "held", "undecided", "silent", "upgrade_needed")
VIEWS = ("devices", "held", "undecided", "unheard", "files")


class DeskFilters(PageArgs):
    """``show``: which list; ``problem`` and ``q`` narrow the devices, ``crew`` narrows all lists."""

    show = Choice(*VIEWS, load_default="devices")
    problem = Choice(*desk.PROBLEMS, "revoked")
    crew = Ident()
    q = Text(60)
    page = Int(1, 1000, load_default=1)


@pages.get("/sync-desk", endpoint="sync_desk")
@page()
def sync_desk() -> str:
    """All of it; only the part that changes for a page that asks for news of itself."""
    args, now = asked(DeskFilters), utc_now()
    with reading():
        of = _crews(args.get("crew"))
        standing = desk.devices(of, now, positions.fresh())
        found: dict[str, Any] = {
            "args": args, "now": now, "counts": desk.counts(standing), "total": len(standing),
            "revoked": desk.revoked_count(of), "crews": crews.brief(actor()), "views": _numbers(standing),
            "why": why, "tiles": TILES, "leads_to": _LEADS_TO, "grave": _GRAVE,
            "forced_at": lambda row: desk.forced_at(row, now),
        }  # fmt: skip
        found |= _LISTS.get(args["show"], _operations)(of, args, standing, now)
        piece = request.headers.get("HX-Target") == "desk"
        return render_template("_sync_desk.html" if piece else "sync_desk.html", **found)


def _crews(wanted: str | None) -> list[str] | None:
    """The crews whose devices are looked at: the visitor's, or the one that is wanted if it is among them."""
    visible = crews.visible_ids(actor())
    if wanted is None:
        return visible
    return [wanted] if visible is None or wanted in visible else []


def _numbers(standing: Sequence[Standing]) -> dict[str, int]:
    """How much there is in each list."""
    return {
        "devices": len(standing),
        "held": sum(one.held.count for one in standing),
        "undecided": sum(one.undecided.count + one.failing.count for one in standing),
        "unheard": sum(one.unheard.count + one.handed for one in standing),
        "files": sum(one.files.count for one in standing),
    }


def _devices(
    of: list[str] | None, args: Mapping[str, Any], standing: Sequence[Standing], now: datetime
) -> dict[str, Any]:
    problem = args.get("problem")
    if problem == "revoked":
        standing = desk.devices(of, now, positions.fresh(), revoked=True)
    wanted = [one for one in standing if _fits(one, args)]
    begin = (args["page"] - 1) * AT_ONCE
    query = {name: value for name, value in request.args.items() if name != "page" and value}
    return {
        "rows": wanted[begin : begin + AT_ONCE],
        "fitting": len(wanted),
        "next_page": args["page"] + 1 if len(wanted) > begin + AT_ONCE else None,
        "query": query,
    }


def _fits(one: Standing, args: Mapping[str, Any]) -> bool:
    problem, text = args.get("problem"), args.get("q", "").casefold()
    if problem not in (None, "revoked", *one.problems):
        return False
    return not text or any(text in str(part or "").casefold() for part in _texts(one))


def _texts(one: Standing) -> Iterable[str | None]:
    return (one.crew.code, one.crew.name, one.crew.name_local, one.device.install_id, one.device.app_version)


def _operations(
    of: list[str] | None, args: Mapping[str, Any], standing: Sequence[Standing], now: datetime
) -> dict[str, Any]:
    show = args["show"]
    query = desk.unheard(of) if show == "unheard" else desk.waiting(of, show)
    order = InboxOperation.decided_at if show == "unheard" else InboxOperation.received_at
    listed = paging.fetch(query, (order, InboxOperation.seq, InboxOperation.op_id), args, descending=False)
    return _of_rows(listed.rows) | {"next": further(listed.next)}


def _of_rows(rows: Sequence[InboxOperation]) -> dict[str, Any]:
    ways = journeys.told(rows)
    names = Names()
    for row in rows:
        names.want(row.entity, row.entity_id)
        names.want("crew", row.crew_id)
        names.want("device", row.device_id)
    return {"ways": ways, "names": names.look_up(), "jobs": desk.numbered(rows)}


def _files(
    of: list[str] | None, args: Mapping[str, Any], standing: Sequence[Standing], now: datetime
) -> dict[str, Any]:
    listed = paging.fetch(desk.files(of), (Attachment.named_at, Attachment.id), args, descending=False)
    names = Names()
    for row in listed.rows:
        names.want("job", row.job_id)
        names.want("device", row.device_id)
        names.want("crew", row.crew_id)
    return {"files": evidence.shown(listed.rows), "names": names.look_up(), "next": further(listed.next)}


_LISTS = {"devices": _devices, "files": _files}


def why(one: Standing) -> Iterator[tuple[str, str]]:
    """What is wrong with a device: a code of :data:`desk.PROBLEMS`, and a sentence with the numbers."""
    for problem in one.problems:
        yield problem, _SAYS[problem](one)


def _unsent(one: Standing) -> str:
    told = ngettext(
        "Still holds %(num)s operation, as it said %(time)s ago",
        "Still holds %(num)s operations, as it said %(time)s ago",
        one.unsent or 0,
        time=since(one.device.pending_at),
    )
    return str(told)


def _held(one: Standing) -> str:
    told = ngettext(
        "%(num)s operation waits for what comes before it, for %(time)s",
        "%(num)s operations wait for what comes before them, for %(time)s",
        one.held.count,
        time=since(one.held.since),
    )
    return str(told)


def _undecided(one: Standing) -> str:
    told = ngettext(
        "%(num)s operation has come and is not decided, for %(time)s",
        "%(num)s operations have come and are not decided, for %(time)s",
        one.undecided.count,
        time=since(one.undecided.since),
    )
    return str(told)


def _failing(one: Standing) -> str:
    told = ngettext(
        "%(num)s operation fails and is tried again",
        "%(num)s operations fail and are tried again",
        one.failing.count,
    )
    return str(told)


def _unheard(one: Standing) -> str:
    told = ngettext(
        "%(num)s outcome has not been fetched, for %(time)s",
        "%(num)s outcomes have not been fetched, for %(time)s",
        one.unheard.count,
        time=since(one.unheard.since),
    )
    return str(told)


def _owes(one: Standing) -> str:
    told = ngettext(
        "Owes %(num)s photo, for %(time)s",
        "Owes %(num)s photos, for %(time)s",
        one.files.count,
        time=since(one.files.since),
    )
    return str(told)


def _silent(one: Standing) -> str:
    if one.contact is None:
        return str(_("Has never called, and its crew is at work"))
    return str(_("Silent for %(time)s, and its crew is at work", time=since(one.contact)))


_SAYS: dict[str, Callable[[Standing], str]] = {
    "failing": _failing,
    "gap": lambda one: _("Number %(number)s never came, though later ones did", number=one.gap),
    "held": _held,
    "undecided": _undecided,
    "silent": _silent,
    "unsent": _unsent,
    "unheard": _unheard,
    "upgrade_needed": lambda one: _("Its app (%(version)s) is too old to be told anything", version=_version(one)),
    "no_first_sync": lambda one: _("Has never had its first sync"),
    "files": _owes,
    "clock": lambda one: _("Its clock is %(offset)s", offset=clock_error(one.device.clock_offset_ms or 0)),
    "upgrade_soon": lambda one: _("Its app (%(version)s) should be updated", version=_version(one)),
}


def _version(one: Standing) -> str:
    return one.device.app_version or word("unknown")


def clock_error(offset_ms: int) -> str:
    """How far a clock is off, in words; the offset is our time minus the device's."""
    shown = span(abs(round(offset_ms / 1000)))
    return str(_("%(time)s slow", time=shown) if offset_ms > 0 else _("%(time)s fast", time=shown))


@pages.app_template_global()
def latest_operations(device_id: str) -> dict[str, Any]:
    """What ``_device_operations.html`` shows: the latest operations of a device, and how far their outcomes have come.

    Asks the database: for pages that are rendered inside of a reading.
    """
    order = (InboxOperation.received_at, InboxOperation.seq, InboxOperation.op_id)
    rows = paging.fetch(desk.latest(device_id), order, {"limit": LATEST}).rows
    return _of_rows(rows)


@pages.app_template_filter("off")
def _off(offset_ms: int | None) -> str:
    return "–" if offset_ms is None else clock_error(offset_ms) if abs(offset_ms) >= 1000 else str(_("right"))


@pages.app_template_global()
def operation_about(row: InboxOperation, jobs: Mapping[str, Job], names: Names) -> Markup:
    """What an operation is about: its job with its number, or the customer."""
    job = jobs.get(row.entity_id)
    if job is None:
        return Markup("{}").format(names.link(row.entity, row.entity_id) if row.entity else "–")
    return Markup('{} <span class="quiet">{}</span>').format(names.link("job", job.id), word(job.kind))


def delay(way: Journey) -> int:
    """Seconds between what happened and its arrival."""
    return round((way.row.received_at - way.row.estimated_at).total_seconds())


pages.add_app_template_filter(delay, "delay")
pages.add_app_template_filter(span, "span")
