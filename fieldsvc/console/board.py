"""The board, the first page: what matters first as a list, a map and a timeline, by filters that stand in the address.

A filter that cannot be used is said beside its field and left out; the page is shown by the others.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from urllib.parse import urlencode

import marshmallow as ma
import orjson
from flask import Response, current_app, render_template, request, url_for
from flask_babel import gettext as _
from sqlalchemy import or_, select

from fieldsvc import kinds
from fieldsvc.api.jobs import KindName
from fieldsvc.api.schemas import Choices, Schema, Text, from_text
from fieldsvc.api.sync import answer
from fieldsvc.base.clock import utc_now
from fieldsvc.base.db import among, db, reading, transaction
from fieldsvc.console.frame import Refused, actor, choices, done, form, page, pages
from fieldsvc.console.words import zone
from fieldsvc.history import follow
from fieldsvc.kinds.lifecycle import STATUSES
from fieldsvc.people import views
from fieldsvc.people.models import Crew, Territory
from fieldsvc.work import board as room
from fieldsvc.work.board import NOBODY, Card, Day, Wanted

PAGE = 100
"""Jobs of one piece of the list."""
AT_ONCE = 200
"""Ids in one question for changed jobs or crews."""


class Kinds(Choices):
    """Names of job kinds."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = KindName()


class Filters(Schema):
    """What the board can be narrowed by, as its address has it."""

    q = Text(100)
    territory = Choices()
    kind = Kinds()
    status = Choices(*STATUSES)
    priority = Choices(*map(str, range(1, 10)))
    promise = Choices("soon", "over")
    crew = Choices()
    day = Text(10, pattern=r"^(19[789]\d|20\d\d|21\d\d)-\d\d-\d\d$", reason="must be a date such as 2026-11-22")


@dataclass(frozen=True)
class Chosen:
    """The filters of an address: what they ask for, what they are, and what is wrong with the others."""

    wanted: Wanted
    day: date
    values: dict[str, list[str]]
    faults: dict[str, str]

    @property
    def query(self) -> str:
        """Them again as the query of an address; without those that are wrong."""
        return urlencode([(name, value) for name, values in self.values.items() for value in values])

    def without(self, name: str, value: str) -> str:
        """The query with ``value`` of ``name`` taken out, or put in where it is not in."""
        values = self.values.get(name, [])
        other = [one for one in values if one != value] if value in values else [*values, value]
        changed = {**self.values, name: other}
        return urlencode([(key, one) for key in Filters().fields for one in changed.get(key, ())])

    @property
    def narrows(self) -> int:
        """How many filters there are beside status and day."""
        return sum(name not in ("status", "day") for name in self.values)


@dataclass(frozen=True)
class Known:
    """Territories and crews the visitor may choose from; ``(id, what it is called)`` each."""

    territories: list[tuple[str, str]]
    crews: list[tuple[str, str]]


def chosen(known: Known, now: datetime) -> Chosen:
    """The filters of this address."""
    today = now.astimezone(zone()).date()
    values: dict[str, list[str]] = {}
    faults: dict[str, str] = {}
    read: dict[str, Any] = {}
    allowed = {"territory": dict(known.territories), "crew": {NOBODY: "", **dict(known.crews)}}
    for name, field in Filters().fields.items():
        given = [part for value in request.args.getlist(name) for part in _parts(name, value)]
        if not given:
            continue
        try:
            with from_text():
                found: Any = field.deserialize(given if isinstance(field, Choices) else given[0])
            if name in allowed and not set(found) <= allowed[name].keys():
                raise ma.ValidationError(_("There is none like this in your territories."))
            read[name] = date.fromisoformat(found) if name == "day" else found
            values[name] = list(dict.fromkeys(given)) if isinstance(field, Choices) else given[:1]
        except ma.ValidationError as error:
            faults[name] = _first(error.messages)
        except ValueError:
            faults[name] = _("There is no such day.")
    day = read.get("day", today)
    wanted = Wanted(
        _span(day),
        status=read.get("status", ()),
        kind=read.get("kind", ()),
        territory_id=read.get("territory", ()),
        crew_id=read.get("crew", ()),
        priority=[int(one) for one in read.get("priority", ())],
        promise=read.get("promise", ()),
        text=read.get("q"),
    )
    return Chosen(wanted, day, values, faults)


def _parts(name: str, value: str) -> list[str]:
    parts = [value] if name in ("q", "day") else value.split(",")
    return [part.strip() for part in parts if part.strip()]


def _first(messages: Any) -> str:
    """The first thing that is wrong, of marshmallow's lists and tables."""
    while not isinstance(messages, str):
        messages = next(iter(messages.values() if isinstance(messages, Mapping) else messages))
    return messages


def _span(day: date) -> Day:
    """The day of the visitor's zone."""
    start, end = (datetime.combine(one, time(), zone()).astimezone(UTC) for one in (day, day + timedelta(days=1)))
    return Day(start, end)


def known() -> Known:
    """What the visitor may choose from."""
    now = utc_now()
    valid = or_(Territory.valid_to.is_(None), Territory.valid_to > now)
    query = select(Territory.id, Territory.name).where(valid).order_by(Territory.name, Territory.id)
    if actor().scope is not None:
        query = query.where(among(Territory.id, sorted(actor().scope or ())))
    crews = select(Crew.id, Crew.code, Crew.name, Crew.territory_ids).where(Crew.active).order_by(Crew.code)
    territories = [(row.id, row.name) for row in db.session.execute(query)]
    return Known(
        sorted(territories, key=lambda one: _natural(one[1])),
        [
            (row.id, f"{row.code} · {row.name}")
            for row in db.session.execute(crews)
            if actor().sees_any(row.territory_ids)
        ],
    )


def _natural(name: str) -> list[tuple[int, str]]:
    """District 9 before District 10."""
    return [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"(\d{1,9})", name)]


# ----- the page


@pages.get("/")
@page()
def board() -> Any:
    """The first page; for htmx its list, or the next part of that."""
    return _page({}, None)


def _page(faults: Mapping[str, str], naming: str | None, status: int = 200) -> Any:
    """``faults``: of the form of a saved view; ``naming``: the view they are of, none: a new one."""
    now, first = utc_now(), _whole("first", room.MOST)
    with reading():
        offered = known()
        picked = chosen(offered, now)
        scope = actor().scope
        cards = room.jobs(picked.wanted, scope, now, first=first, most=PAGE + 1)
        further = cards[PAGE:] and first + PAGE < room.MOST
        rows = _rows(cards[:PAGE])
        more = url_for("console.board") + "?" + urlencode([("first", first + PAGE)]) + "&" + picked.query
        shown: dict[str, Any] = {"rows": rows, "more": more if further else None, "chosen": picked}
        if first:
            return render_template("_board_rows.html", **shown)
        counts = room.counts(picked.wanted, scope, now)
        kept = views.of(actor().id)
    shown |= {"counts": counts, "statuses": STATUSES, "known": offered, "kinds": choices(sorted(kinds.discover()))}
    shown |= {
        "saved": kept,
        "naming": naming,
        "faults": {**picked.faults, **faults},
        "today": now.astimezone(zone()).date(),
    }
    template = "_board_list.html" if request.headers.get("HX-Request") else "board.html"
    return render_template(template, **shown), status


def _rows(cards: Sequence[Card]) -> list[dict[str, Any]]:
    """Jobs with what their crews are called."""
    held = {card.crew_id for card in cards if card.crew_id}
    names = (
        dict(db.session.execute(select(Crew.id, Crew.code).where(among(Crew.id, sorted(held)))).all()) if held else {}
    )
    return [{"job": card, "crew": names.get(card.crew_id or "")} for card in cards]


def _whole(name: str, most: int) -> int:
    """A number of the address; 0 when there is none that can be used."""
    given = request.args.get(name, "")
    return min(int(given), most) if given.isascii() and given.isdigit() and len(given) < 10 else 0


@pages.get("/board/rows")
@page()
def board_rows() -> str:
    """The lines of some jobs of the list; those that the filters do not let through are left out."""
    now = utc_now()
    with reading():
        picked = chosen(known(), now)
        rows = _rows(room.jobs(picked.wanted, actor().scope, now, ids=_ids("ids")))
    return render_template("_board_rows.html", rows=rows, more=None, chosen=picked)


def _ids(name: str) -> list[str]:
    """At most :data:`AT_ONCE` ids of the address."""
    return [one[:80] for one in request.args.get(name, "").replace("\0", "").split(",") if one][:AT_ONCE]


# ----- what its scripts show


@pages.get("/board/data")
@page()
def board_data() -> Response:
    """Jobs and crews by the filters of the address, for map and timeline: at most ``work.board.MOST`` jobs, the first.
    The numbers come with the list.

    ``cursor`` is where the stream goes on. ``at_risk_s`` before it is due a promise runs out, after ``fresh_s`` without
    a sign of life a crew on duty is silent.
    """
    now, scope = utc_now(), actor().scope
    with reading():
        cursor = follow.newest()
        offered = known()
        picked = chosen(offered, now)
        cards = room.jobs(picked.wanted, scope, now)
        crews = _crews(picked, cards, now)
    told = {"as_of": now, "day": picked.day, "cursor": str(cursor)}
    ages = {"at_risk_s": room.at_risk(now).total_seconds(), "fresh_s": _fresh().total_seconds()}
    return _data(**told, **ages, jobs=_table(cards), crews=crews)


@pages.get("/board/jobs")
@page()
def board_jobs() -> Response:
    """Some jobs (``ids``) and crews (``crews``) as they are now: at most 200 of each; with ``counts`` the numbers too.

    ``gone``: those of the ids that the filters do not, or no longer, let through.
    """
    now, scope, ids = utc_now(), actor().scope, _ids("ids")
    with reading():
        picked = chosen(known(), now)
        cards = room.jobs(picked.wanted, scope, now, ids=ids) if ids else []
        there = {card.id for card in cards}
        crews = _crews(picked, cards, now, _ids("crews"))
        counts = room.counts(picked.wanted, scope, now) if request.args.get("counts") else None
    gone = [one for one in ids if one not in there]
    return _data(as_of=now, jobs=_table(cards), gone=gone, crews=crews, counts=counts)


def _crews(
    picked: Chosen, cards: Sequence[Card], now: datetime, ids: Sequence[str] | None = None
) -> list[dict[str, Any]]:
    """The crews of a board: of the territories and names that are asked for, and whoever holds a job on it."""
    wanted, holding = picked.wanted, {card.crew_id for card in cards if card.crew_id}
    if ids is not None and not (ids or holding):
        return []
    only = None if ids is None else [*ids, *holding]
    found = room.crews(actor(), holding, wanted.day, now, _fresh(), only)
    named, homes = set(wanted.crew_id), set(wanted.territory_id)
    return [
        crew
        for crew in found
        if crew["id"] in holding
        or ((not named or crew["id"] in named) and (not homes or not homes.isdisjoint(crew["territory_ids"])))
    ]


def _fresh() -> timedelta:
    return timedelta(seconds=current_app.extensions["fieldsvc.settings"].position_fresh)


def _table(cards: Sequence[Card]) -> dict[str, Any]:
    return {"columns": Card._fields, "rows": [list(card) for card in cards]}


def _data(**members: Any) -> Response:
    return answer(orjson.dumps(members, option=orjson.OPT_UTC_Z))


# ----- saved views


class ViewName(Schema):
    name = Text(60, required=True)


@pages.post("/board/views")
@page()
def view_new() -> Any:
    """Keep the filters of the address under a name."""
    return _on_view(None, lambda name, query: views.save(actor().id, name, query, utc_now()), _("The view is saved."))


@pages.post("/board/views/<id:view_id>/name")
@page()
def view_name(view_id: str) -> Any:
    """Give a view another name."""
    renamed = _("The view has its new name.")
    return _on_view(view_id, lambda name, query: views.change(actor().id, view_id, utc_now(), name=name), renamed)


@pages.post("/board/views/<id:view_id>")
@page()
def view_change(view_id: str) -> Any:
    """Let a view have the filters of the address."""
    with transaction():
        views.change(actor().id, view_id, utc_now(), query=_own_query())
    return done(_("The view now shows what you see."), _here())


@pages.post("/board/views/<id:view_id>/remove")
@page()
def view_remove(view_id: str) -> Any:
    """Forget a view."""
    with transaction():
        views.remove(actor().id, view_id)
    return done(_("The view is removed."), _here())


def _on_view(view_id: str | None, act: Any, said: str) -> Any:
    try:
        with form(ViewName) as body, transaction():
            act(body["name"], _own_query())
    except Refused as refused:
        return _page(refused.faults, view_id or "new", refused.status)
    return done(said, _here())


def _own_query() -> str:
    """The filters of this address that can be used."""
    with reading():
        return chosen(known(), utc_now()).query


def _here() -> str:
    query = _own_query()
    return url_for("console.board") + ("?" + query if query else "")
