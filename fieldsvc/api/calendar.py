"""A crew's calendar, for any program that subscribes to iCalendar feeds."""

from __future__ import annotations

import hashlib
from typing import Any

from flask import Response, current_app, request

from fieldsvc.api import access
from fieldsvc.api.frame import Blueprint, document
from fieldsvc.base.clock import utc_now
from fieldsvc.base.db import reading
from fieldsvc.people import crews
from fieldsvc.work import calendar

blp = Blueprint("calendar", __name__, url_prefix="/v1/crews", description="Crews' calendars (RFC 5545)")

_IF_NONE_MATCH = {
    "name": "If-None-Match",
    "in": "header",
    "required": False,
    "description": "The ETag of the feed as it was fetched before; 304 when it is the same.",
    "schema": {"type": "string"},
}


def unless_known(view: Any) -> Any:
    """Document that the answer has an ETag that can be sent back."""
    return document(view, parameters=[_IF_NONE_MATCH])


@blp.get("/<id:crew_id>/calendar.ics")
@access.reader()
@unless_known
@blp.response(200, {"type": "string"}, content_type="text/calendar")
@blp.alt_response(304, description="Nothing has changed", success=True)
def crew_calendar(crew_id: str) -> Response:
    """The shifts and planned jobs of a crew, from a week ago to two months ahead

    One event each, with a stable UID and the job's revision as SEQUENCE. What was cancelled or given to another crew is
    shown as cancelled for a week. Takes HTTP Basic, with an API token as the password.
    """
    zone = current_app.extensions["fieldsvc.settings"].local_zone
    with reading():
        actor = access.actor()
        feed = calendar.of_crew(crews.get(actor, crew_id), utc_now(), actor.scope, zone)
    response = Response(feed.text, mimetype="text/calendar", headers={"Cache-Control": "private, no-cache"})
    response.set_etag(hashlib.sha256(feed.text).hexdigest()[:32])
    response.headers["Content-Disposition"] = 'inline; filename="crew.ics"'
    if feed.changed_at is not None:
        response.last_modified = feed.changed_at
    # Not If-Modified-Since: an event that has left the feed takes its time of change along.
    if request.if_none_match.contains(response.get_etag()[0] or ""):
        response.status_code, response.data = 304, b""
    return response
