"""The review queue: what the rules could not decide, both accounts side by side, decided with one key and a reason."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from flask import Response, render_template, request, url_for
from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l
from sqlalchemy import select

from fieldsvc import kinds
from fieldsvc.api import paging
from fieldsvc.api.reviews import Resolution
from fieldsvc.api.schemas import Choice, Ident, Int, PageArgs, Text
from fieldsvc.base.clock import utc_now
from fieldsvc.base.db import db, reading, transaction
from fieldsvc.base.errors import Conflict
from fieldsvc.console import compared
from fieldsvc.console.frame import DISPATCHERS, Refused, actor, asked, done, entered, form, further, page, pages, typed
from fieldsvc.console.telling import Names, told
from fieldsvc.console.words import said, word
from fieldsvc.kinds.base import (
    CloseDefect,
    Effect,
    ExchangeMeter,
    FitSeals,
    OpenDefect,
    RemoveSeals,
    SetResult,
    SetStatus,
)
from fieldsvc.people import crews
from fieldsvc.sync import evidence, foresight, journeys, review_list, reviews, sides
from fieldsvc.sync.foresight import Offer
from fieldsvc.sync.models import Attachment, InboxOperation, Review
from fieldsvc.work.models import Job

FILES = 50
"""The most files shown beside a review."""


class ReviewFilters(PageArgs):
    state = Choice("open", "resolved", load_default="open")
    kind = Choice(*sorted(kinds.discover()))
    reason = Text(40)
    crew = Ident()
    severity = Choice("hard", "soft")


class Decided(Resolution):
    """``rev`` and ``record_rev`` are the revisions of the review and of what is on record that the page showed."""

    rev = Int(0, 2**53)
    record_rev = Int(0, 2**53)


def _filters(args: Mapping[str, Any]) -> dict[str, str]:
    return {name: args[name] for name in review_list.GROUPS if name in args}


@pages.get("/reviews", endpoint="reviews")
@page()
def listed() -> str:
    """What waits to be decided, the gravest and oldest first; or what has been decided, the latest first."""
    args = asked(ReviewFilters)
    scope, filters = actor().scope, _filters(args)
    with reading():
        query = review_list.wanted(scope, filters, args["state"])
        if args["state"] == "open":
            found = paging.fetch(query, review_list.URGENCY, args, descending=False)
        else:
            found = paging.fetch(query, (Review.resolved_at, Review.id), args)
        jobs = _jobs(found.rows)
        names = Names()
        for one in found.rows:
            names.want("crew", one.crew_id)
            names.want("customer", one.customer_id)
            names.want("staff", one.resolved_by)
        return render_template(
            "reviews.html", rows=found.rows, jobs=jobs, next=further(found.next), args=args, filters=filters,
            counts=review_list.counts(scope), names=names.look_up(), crews=crews.brief(actor()),
            kinds=sorted(kinds.discover()), first=review_list.next_open(scope, filters),
        )  # fmt: skip


def _jobs(rows: Sequence[Review]) -> dict[str, Job]:
    ids = sorted({row.job_id for row in rows if row.job_id})
    return {job.id: job for job in db.session.scalars(select(Job).where(Job.id.in_(ids)))}


@pages.get("/reviews/<id:review_id>")
@page()
def review(review_id: str) -> str:
    """One review: both sides, who and when, the arithmetic where there is some, and what each choice would do."""
    with reading():
        return _shown(review_id, utc_now())


def _shown(review_id: str, now: datetime, **more: Any) -> str:
    """The page of a review; ``more``: what a refused form adds to it. Call inside of a reading or a transaction."""
    found = review_list.find(actor(), review_id)
    row = db.session.get_one(InboxOperation, found.op_id)
    sent, record = sides.sent(row), sides.on_record(found, row)
    beside = foresight.beside(found, row, now)
    seen = sides.as_seen(found, row)
    files = select(Attachment).where(Attachment.op_id == row.op_id).order_by(Attachment.id).limit(FILES)
    names = Names()
    for value in (sent, record or {}, seen or {}, found.explanation):
        names.gather(value)
    for kind in ("crew", "customer", "device", "job", "territory"):
        names.want(kind, getattr(found, f"{kind}_id"))
    names.want("staff", found.resolved_by)
    filters = _filters(asked(ReviewFilters))
    page = {
        "review": found, "row": row, "sent": sent, "record": record, "beside": beside,
        "job": db.session.get(Job, found.job_id) if found.job_id else None,
        "lines": compared.lines(sent, record, seen, beside, found.conflicts), "nothing": compared.NOTHING,
        "files": evidence.shown(db.session.scalars(files)), "names": names.look_up(), "told": told,
        "choices": [_choice(found, offer, names) for offer in foresight.offers(found, row, now)],
        "suggestions": suggestions(found), "way": journeys.told([row])[0],
        "skip": review_list.next_open(actor().scope, filters, found), "filters": filters,
        "meaning": MEANINGS.get(found.reason or found.outcome),
        "behind": _behind(found), "faults": {},
    }  # fmt: skip
    return render_template("review.html", **page | more)


def _behind(found: Review) -> int:
    """How many other open reviews there are on the same job."""
    if found.job_id is None:
        return 0
    query = review_list.wanted(actor().scope, {"job": found.job_id}).where(Review.id != found.id)
    return len(db.session.scalars(query.with_only_columns(Review.id).limit(50)).all())


@pages.post("/reviews/<id:review_id>")
@page(*DISPATCHERS)
def decide(review_id: str) -> Any:
    """Decide it once; the next open one opens. Who comes second is told who decided what."""
    now = utc_now()
    filters = _filters(asked(ReviewFilters))
    choice, _sign, reading_of = request.form.get("decision", "").partition("-")
    said_so = {name: value for name, value in entered(Decided).items() if name != "decision"}
    said_so |= {name: value for name, value in (("choice", choice), ("reading", reading_of)) if value}
    try:
        with form(Decided, said_so) as body, transaction():
            found = review_list.find(actor(), review_id, lock=True)
            if body.get("rev") not in (None, found.rev):
                raise Conflict("the review has been resolved already", "state-not-allowed")
            reviews.resolve(
                actor().source(now), found, body["choice"], body["note"],
                reading=body.get("reading"), seen_rev=body.get("record_rev"),
            )  # fmt: skip
            crew = Names()
            crew.want("crew", found.crew_id)
            notice = _done(body["choice"], crew.look_up().name("crew", found.crew_id) if found.crew_id else "")
            following = review_list.next_open(actor().scope, filters, found)
    except Refused as refused:
        with reading():
            page = _shown(review_id, now, faults=refused.faults, typed=typed(), refused=True)
        return page, refused.status
    return _on_to(following, notice, filters)


def _on_to(following: str | None, notice: str, filters: Mapping[str, str]) -> Response:
    if following is None:
        return done(notice + " " + _("Nothing else waits here."), url_for("console.reviews", **dict[str, Any](filters)))
    return done(notice, url_for("console.review", review_id=following, **dict[str, Any](filters)))


def _done(choice: str, crew: str) -> str:
    if choice == "apply":
        return str(_("Taken over. Crew %(crew)s is told with its next contact.", crew=crew))
    return str(_("Dismissed; the record stays as it is. Crew %(crew)s is told with its next contact.", crew=crew))


@dataclass(frozen=True)
class Choosing:
    """One way to decide as the page offers it: its button, what it will do in sentences, or why it cannot be done."""

    value: str
    key: str
    label: str
    follows: Sequence[str]
    refused: str | None = None
    arithmetic: Mapping[str, Any] | None = None


_LABELS: dict[tuple[str, str | None], tuple[str, Any]] = {
    ("apply", None): ("a", _l("Take it over")),
    ("apply", "wrap"): ("w", _l("The register went round")),
    ("apply", "misread"): ("m", _l("It was misread")),
    ("dismiss", None): ("d", _l("Dismiss")),
}


def _choice(found: Review, offer: Offer, names: Names) -> Choosing:
    key, label = _LABELS[offer.choice, offer.reading]
    value = offer.choice if offer.reading is None else f"{offer.choice}-{offer.reading}"
    energy = offer.explanation.get("energy") if offer.reading else None
    if offer.refused is not None:
        return Choosing(value, key, str(label), (), _why_not(offer), energy)
    return Choosing(value, key, str(label), list(_follows(found, offer, names)), None, energy)


def _why_not(offer: Offer) -> str:
    reason = word(offer.refused)
    return f"{reason}: {said(offer.text)}" if offer.text else reason


def _follows(found: Review, offer: Offer, names: Names) -> Iterator[str]:
    if offer.choice == "dismiss":
        if reviews.stands_already(found) or found.outcome in ("forced", "applied_conflict"):
            yield _("What is on record stays as it is: dismissing takes nothing back that was applied.")
        else:
            yield _("The records stay as they are. What the crew sent is kept in the history.")
        return
    if offer.unknown:
        yield _("It is tried again. If it fails once more, nothing changes and this stays open.")
        return
    if reviews.stands_already(found):
        yield _("It has been applied already; this says that you have looked at it and agree.")
        return
    for name, value in offer.values.items():
        yield _("%(field)s becomes %(value)s.", field=word(name), value=told(name, value, names).striptags())
    if not offer.values and not offer.effects:
        yield _("Nothing changes on record: it is as the crew says already.")
    for effect in sorted(offer.effects, key=lambda one: isinstance(one, SetStatus)):
        yield from _effect(effect, offer)


def _effect(effect: Effect, offer: Offer) -> Iterator[str]:
    """What one effect changes, in a sentence; those that say nothing to a dispatcher are left out."""
    if isinstance(effect, ExchangeMeter):
        yield _("Meter %(old)s comes off and %(new)s goes on record.", old=effect.old_asset_no, new=effect.new_asset_no)
        if effect.final_state == "quarantined":
            yield _("The final reading is kept aside (quarantined): no consumption is told from it.")
        else:
            energy = offer.explanation.get("energy", {}).get("total", {}).get("energy_kwh")
            yield _("%(kwh)s kWh are posted for the old meter.", kwh=energy) if energy is not None else ""
    elif isinstance(effect, SetStatus):
        yield _("The job becomes: %(status)s.", status=word(effect.to))
    elif isinstance(effect, SetResult):
        yield _("What the crew reported becomes the result of the job.")
    elif isinstance(effect, FitSeals) and effect.seals:
        yield _("Seals fitted here: %(seals)s.", seals=", ".join(seal["number"] for seal in effect.seals))
    elif isinstance(effect, RemoveSeals) and effect.numbers:
        yield _("Seals removed here: %(seals)s.", seals=", ".join(effect.numbers))
    elif isinstance(effect, OpenDefect):
        yield _("A defect is opened: %(what)s.", what=effect.description)
    elif isinstance(effect, CloseDefect):
        yield _("A defect is closed.")


MEANINGS: dict[str, Any] = {
    "duplicate_work": _l(
        "Somebody's account of the same work is on record already. A second account is never joined to it: both stay "
        "in the history, and dismissing says that the first one stands."
    ),
    "wrong_meter": _l(
        "The meter the crew found is not the one on record here. Until the record is put right this can only be "
        "dismissed; if the crew is right, correct the meter of the usage point first, then take this over."
    ),
    "register_fell": _l(
        "The final reading is lower than the one before. Either the register went round past its last digit, or it was "
        "misread. The arithmetic of both is below; you say which it was."
    ),
    "energy_mismatch": _l("The parts do not add up to the total, or registers are missing. The arithmetic is below."),
    "seal_in_use": _l("A seal named here is on record at another place."),
    "completed_after_cancel": _l("The crew did the work while the job had been cancelled, and could not know."),
    "reassigned": _l("The job had been given to another crew, and the first one could not know."),
    "missing_predecessor": _l("It builds on earlier work that is under review itself, or has not come."),
    "clock_suspect": _l("By the device's clock this happened at a time when it cannot have happened."),
    "state_not_allowed": _l("The job was in a state in which this is not possible."),
    "could_not_apply": _l("Applying it failed for a fault of the service, several times. What was sent is kept."),
    "applied_conflict": _l("Two people changed the same field. A rule has chosen one of the values; you may choose."),
    "parked": _l("Two people changed the same field, and no rule may choose between them."),
    "forced": _l("It was applied without what should have come before it, because that has not come in time."),
}
"""Reason, or outcome where there is none → what has happened."""


def suggestions(found: Review) -> list[str]:
    """Short reasons to choose from; the crew reads them as they are."""
    if found.reason in ("register_fell", "energy_mismatch", "wrong_meter"):
        texts = [_("Photo checked"), _("Spoke with the crew"), _("Somebody will go there again")]
    elif found.reason == "duplicate_work":
        texts = [_("The first account stands"), _("Spoke with both crews")]
    elif found.outcome == "applied_conflict" or found.reason is None:
        texts = [_("Spoke with the crew"), _("Asked the customer"), _("The later value is right")]
    else:
        texts = [_("Spoke with the crew"), _("The work was done"), _("Not needed any more")]
    return texts
