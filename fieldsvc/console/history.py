"""The history for auditors: looked through by who, what and when, three times side by side, and taken out as a file.

The filter is the address of the page. An export says in itself what it was filtered by, when and by whom it was taken;
the history notes it, too.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

import orjson
from flask import Response, redirect, render_template, request, stream_with_context
from flask_babel import gettext as _
from sqlalchemy import or_, select
from werkzeug.datastructures import MultiDict

from fieldsvc import kinds
from fieldsvc.api import paging
from fieldsvc.api.frame import load
from fieldsvc.api.schemas import Choice, Ident, PageArgs, Text, UtcTime, from_text
from fieldsvc.base.clock import format_time, utc_now
from fieldsvc.base.db import db, reading, transaction
from fieldsvc.base.errors import Invalid
from fieldsvc.console.frame import actor, choices, further, page, pages
from fieldsvc.console.local_times import as_sent, for_field, in_words
from fieldsvc.console.telling import Names
from fieldsvc.history import export
from fieldsvc.history import page as entries
from fieldsvc.history.models import HistoryEntry
from fieldsvc.history.page import Wanted
from fieldsvc.people import crews
from fieldsvc.people.models import Crew, Staff
from fieldsvc.records.models import Customer
from fieldsvc.work.models import Job

FORMS = {"csv": "text/csv", "jsonl": "application/x-ndjson"}


class Filter(PageArgs):
    """What is looked for; every member given narrows. People, jobs, customers and crews by their names or ids."""

    who = Text(120)
    kind = Text(30)
    job = Text(80)
    customer = Text(80)
    crew = Text(80)
    device = Ident()
    operation = Text(80)
    action = Text(60, pattern="^[a-z_.]+$", reason="is not the name of an action")
    since = UtcTime(data_key="from")
    until = UtcTime(data_key="to")


class Export(Filter):
    form = Choice(*FORMS, required=True)


@pages.get("/history")
@page()
def history() -> Any:
    """What happened in one's territories, the newest first."""
    given = _typed(request.args)
    if (sent := as_sent(Filter, given)) != given:
        return redirect(f"{request.path}?{urlencode(sent)}")  # an address that means the same in every zone
    with reading():
        try:
            args = _read(Filter, given)
        except Invalid as error:
            return _page((), None, faults=_beside(error)), 422
        listed = paging.fetch(entries.entries(_wanted(args), actor().scope), (HistoryEntry.seq,), args)
        return _page(listed.rows, further(listed.next))


def _typed(given: Mapping[str, str]) -> dict[str, str]:
    return {name: value.strip() for name, value in given.items() if value.strip() and name != "csrf_token"}


def _read(schema: type[Filter], typed: Mapping[str, str]) -> dict[str, Any]:
    with from_text():
        args: dict[str, Any] = load(schema(), dict(typed))
    return args


def _beside(error: Invalid) -> dict[str, str]:
    return {fault["field"].strip("/"): fault["reason"] for fault in error.errors}


def _page(rows: Any, older: str | None, faults: Mapping[str, str] | None = None) -> str:
    crew_list = select(Crew.code, Crew.name).order_by(Crew.code)
    visible = crews.visible_ids(actor())
    if visible is not None:
        crew_list = crew_list.where(Crew.id.in_(visible))
    given = request.values
    shown = MultiDict((name, _for_field(name, value)) for name, value in given.items())
    return render_template(
        "history.html",
        entries=rows,
        names=Names.of_entries(rows),
        older=older,
        kinds=choices(sorted(kinds.discover())),
        actions=sorted(choices(entries.actions()), key=lambda one: one[1]),
        crews=[(crew.code, f"{crew.code} {crew.name}") for crew in db.session.execute(crew_list)],
        asked={key: given[key] for key in map(_key, _FILTERS) if given.get(key)},
        most=export.MOST,
        faults=faults or {},
        typed=shown,
    )


def _for_field(name: str, value: str) -> str:
    """What stands in a field of the form; a time that cannot be read stays as it was typed."""
    try:
        return for_field(value) if name in ("from", "to") else value
    except (ValueError, OverflowError):
        return value


_FILTERS = "who kind job customer crew device operation action since until".split()


def _key(name: str) -> str:
    """What a member is called in the address."""
    return Filter().fields[name].data_key or name


def _wanted(args: Mapping[str, Any]) -> Wanted:
    """The filter with names as ids. A name that nobody has is looked for as it is, and finds nothing.

    :raises Invalid: several people have that name.
    """
    named = {
        "job": select(Job.id).where(Job.number == args.get("job")),
        "customer": select(Customer.id).where(Customer.number == args.get("customer")),
        "crew": select(Crew.id).where(Crew.code == args.get("crew")),
    }
    ids = {name: db.session.scalar(query) or args[name] for name, query in named.items() if name in args}
    return Wanted(
        actor_id=_person(args["who"]) if "who" in args else None,
        job_kind=args.get("kind"),
        job_id=ids.get("job"),
        customer_id=ids.get("customer"),
        crew_id=ids.get("crew"),
        device_id=args.get("device"),
        op_id=args.get("operation"),
        action=args.get("action"),
        since=args.get("since"),
        until=args.get("until"),
    )


def _person(name: str) -> str:
    """The account of that user name or, where only one is called so, of that full name."""
    found = db.session.execute(
        select(Staff.id, Staff.username).where(or_(Staff.username == name, Staff.display_name == name)).limit(3)
    ).all()
    exact = next((one.id for one in found if one.username == name), None)
    if exact is None and len(found) > 1:
        raise Invalid.field("who", _("Several people are called that: give the user name."))
    return exact or (found[0].id if found else name)


@pages.post("/history/export")
@page()
def export_history() -> Any:
    """What the filter finds as a file; more than :data:`export.MOST` entries are refused rather than cut off."""
    now = utc_now()
    try:
        args = _read(Export, _typed(request.form))
        with reading():
            wanted = _wanted(args)
            seqs = export.found(wanted, actor().scope)
        if len(seqs) > export.MOST:
            raise Invalid.field("export", _("More than %(most)s entries: narrow the filter.", most=f"{export.MOST:,}"))
    except Invalid as error:
        with reading():
            return _page((), None, faults=_beside(error)), 422
    asked = {key: request.form[key].strip() for key in map(_key, _FILTERS) if request.form.get(key, "").strip()}
    with transaction():
        ident = export.note(actor().source(now), asked, args["form"], len(seqs))
    head = {
        "export": ident,
        "taken_at": format_time(now),
        "taken_by": actor().name,
        "filter": asked,
        "entries": len(seqs),
    }
    return _file(args["form"], head, seqs, now)


def _file(form: str, head: Mapping[str, Any], seqs: Sequence[int], now: datetime) -> Response:
    lines = (_csv if form == "csv" else _jsonl)(head, _rows(seqs))
    response = Response(stream_with_context(lines), mimetype=FORMS[form])
    name = f"history-{in_words(now).replace(' ', '-').replace(':', '')}.{form}"
    response.headers.set("Content-Disposition", "attachment", filename=name)
    return response


def _rows(seqs: Sequence[int]) -> Iterator[dict[str, Any]]:
    """The entries in batches: no connection is held while the line to the reader is slow."""
    for begin in range(0, len(seqs), export.BATCH):
        with reading():
            found = export.batch(seqs[begin : begin + export.BATCH])
        yield from found


def _csv(head: Mapping[str, Any], rows: Iterator[dict[str, Any]]) -> Iterator[bytes]:
    """A table as spreadsheets read it (RFC 4180, UTF-8 with a mark): what it is, its columns, its rows."""
    asked = urlencode(head["filter"]) or "everything"
    said = f"history, {head['entries']} entries, filter: {asked}, taken {head['taken_at']} by {head['taken_by']}"
    yield "\ufeff".encode() + _line([said, f"export {head['export']}"]) + _line(export.COLUMNS)
    for row in rows:
        yield _line(export.cells(row))


def _line(cells: Any) -> bytes:
    out = io.StringIO()
    csv.writer(out).writerow(cells)
    return out.getvalue().encode()


def _jsonl(head: Mapping[str, Any], rows: Iterator[dict[str, Any]]) -> Iterator[bytes]:
    """One JSON object to a line: first what it is, then the entries as the API shows them."""
    yield orjson.dumps(head) + b"\n"
    for row in rows:
        yield orjson.dumps(row) + b"\n"
