"""Where crews are: for the dispatchers and supervisors of their territories, and nobody else."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from flask import current_app, request

from fieldsvc.api import access, paging
from fieldsvc.api.frame import Blueprint
from fieldsvc.api.schemas import (
    Choice,
    Flag,
    Ident,
    Int,
    Lat,
    ListOf,
    Lon,
    Member,
    Number,
    Schema,
    Text,
    UtcTime,
    page_of,
)
from fieldsvc.base.clock import format_time, utc_now
from fieldsvc.base.db import reading
from fieldsvc.config import Settings
from fieldsvc.geo.source import TravelSource
from fieldsvc.geo.travel import TravelTimes
from fieldsvc.people import crews, positions
from fieldsvc.people.actors import ADMIN
from fieldsvc.people.models import Crew, CrewPosition
from fieldsvc.work import routes

blp = Blueprint("positions", __name__, url_prefix="/v1", description="Where crews are, and when they will be where")

GEOJSON = "application/geo+json"
COLLECTION = {
    "type": "object",
    "required": ["type", "features"],
    "properties": {
        "type": {"const": "FeatureCollection"},
        "features": {"type": "array", "items": {"type": "object"}},
        "next": {"type": ["string", "null"]},
    },
}


class PositionAnswer(Schema):
    lon = Lon(required=True)
    lat = Lat(required=True)
    accuracy_m = Number(0, 100_000, required=True, allow_none=True)
    at = UtcTime(required=True, metadata={"description": "Since when the device was there."})
    until_at = UtcTime(required=True, metadata={"description": "When it last told that it was there."})
    device_id = Ident(required=True)


class CrewPositionAnswer(PositionAnswer):
    crew_id = Ident(required=True)
    crew_code = Text(40, required=True)
    crew_name = Text(120, required=True)
    age_s = Int(required=True)


class OnePositionAnswer(Schema):
    crew_id = Ident(required=True)
    source = Choice(
        "reported",
        "base",
        "none",
        required=True,
        metadata={"description": "base: no device told anything; none: the crew has no base either."},
    )
    position = Member(PositionAnswer, required=True, allow_none=True)
    age_s = Int(required=True, allow_none=True)
    lon = Lon(required=True, allow_none=True)
    lat = Lat(required=True, allow_none=True)


class OriginAnswer(Schema):
    lon = Lon(required=True)
    lat = Lat(required=True)
    source = Choice(
        "position",
        "job",
        "base",
        required=True,
        metadata={"description": "As told by a device, the last job, the base."},
    )
    at = UtcTime(required=True, allow_none=True)
    age_s = Int(required=True, allow_none=True)


class TravelAnswer(Schema):
    provider = Text(200, required=True)
    fallback = Int(required=True, metadata={"description": "Ways that the provider did not know."})
    notes = ListOf(Text(500), required=True)


class PromiseAhead(Schema):
    kind = Text(20, required=True, metadata={"description": "A stage promised, `due` of the job, or its `window`."})
    due_at = UtcTime(required=True)
    expected_at = UtcTime(required=True)
    late_min = Number(0, 1e9, required=True)
    will_break = Flag(required=True)


class StopAnswer(Schema):
    job_id = Ident(required=True, allow_none=True, metadata={"description": "null: outside of your territories."})
    number = Text(40, required=True, allow_none=True)
    title = Text(200, required=True, allow_none=True)
    kind = Text(30, required=True, allow_none=True)
    status = Text(30, required=True, allow_none=True)
    lon = Lon(required=True, allow_none=True)
    lat = Lat(required=True, allow_none=True)
    address = Text(300, required=True, allow_none=True)
    planned_order = Int(required=True, allow_none=True)
    planned_start = UtcTime(required=True, allow_none=True)
    planned_end = UtcTime(required=True, allow_none=True)
    expected_arrival = UtcTime(required=True, allow_none=True)
    expected_begin = UtcTime(required=True, allow_none=True)
    expected_end = UtcTime(required=True, allow_none=True)
    delay_min = Number(
        -1e9, 1e9, required=True, allow_none=True, metadata={"description": "Below 0: ahead of the plan."}
    )
    travel_min = Number(0, 1e9, required=True, allow_none=True)
    distance_m = Number(0, 1e9, required=True, allow_none=True)
    note = Choice(
        "no_place",
        "no_start",
        "no_way",
        "stopped",
        required=True,
        allow_none=True,
        metadata={"description": "Why the way there is not known, or that work was stopped and goes on some time."},
    )
    promises = ListOf(Member(PromiseAhead), required=True)


class RouteAnswer(Schema):
    crew_id = Ident(required=True)
    at = UtcTime(required=True)
    origin = Member(OriginAnswer, required=True, allow_none=True)
    travel = Member(TravelAnswer, required=True)
    stops = ListOf(Member(StopAnswer), max=routes.MOST, required=True)
    more = Flag(required=True)


class TrackArgs(paging.PageArgs):
    since = UtcTime(data_key="from", metadata={"description": "Without it, as long as positions are kept."})
    until = UtcTime(data_key="to")


def kept_since(now: datetime) -> datetime:
    """The oldest time that anything is told of, whether or not the sweep has been there."""
    settings: Settings = current_app.extensions["fieldsvc.settings"]
    return now - timedelta(seconds=settings.position_ttl)


def fresh() -> timedelta:
    """How old a position may be to tell where a crew is."""
    settings: Settings = current_app.extensions["fieldsvc.settings"]
    return timedelta(seconds=settings.position_fresh)


def told() -> timedelta:
    """How old a position may be to be counted with in an answer to this caller: not at all where he may not know it,
    because times and distances would tell."""
    return fresh() if access.actor().role in (*access.DISPATCHERS, ADMIN) else timedelta(0)


def travel(now: datetime) -> TravelTimes:
    """Travel times as this service has them today."""
    source: TravelSource = current_app.extensions["fieldsvc.travel"]
    return source.on(now.date())


def travel_at_hand(now: datetime) -> TravelTimes:
    """Those that no other server is asked for: a page must not wait for one."""
    source: TravelSource = current_app.extensions["fieldsvc.travel"]
    return source.at_hand(now.date())


def position_answer(row: CrewPosition) -> dict[str, Any]:
    return {name: getattr(row, name) for name in PositionAnswer._declared_fields}


def feature(row: CrewPosition, **properties: Any) -> dict[str, Any]:
    """RFC 7946 feature of a position."""
    told = {"accuracy_m": row.accuracy_m, "at": format_time(row.at), "until_at": format_time(row.until_at)}
    return {
        "type": "Feature",
        "id": row.id,
        "geometry": {"type": "Point", "coordinates": [row.lon, row.lat]},
        "properties": {**told, "device_id": row.device_id, **properties},
    }


def wants_geojson() -> bool:
    """Whether the caller would rather have GeoJSON than plain JSON."""
    return request.accept_mimetypes.best_match(["application/json", GEOJSON]) == GEOJSON


def age_s(row: CrewPosition, now: datetime) -> int:
    return max(0, round((now - row.until_at).total_seconds()))


@blp.get("/positions")
@access.staff(*access.DISPATCHERS)
@blp.arguments(paging.PageArgs, location="query")
@blp.response(200, page_of(CrewPositionAnswer))
@blp.alt_response(200, schema=COLLECTION, content_type=GEOJSON, success=True)
@blp.errors("bad-cursor")
def list_positions(args: dict[str, Any]) -> Any:
    """Where each of your crews is, by code

    Crews whose devices have told nothing are left out. With `Accept: application/geo+json` a FeatureCollection.
    """
    now = utc_now()
    with reading():
        page = paging.fetch(
            positions.newest(crews.visible_ids(access.actor()), kept_since(now)),
            [Crew.code],
            args,
            descending=False,
            scalars=False,
            key=lambda row: [row.Crew.code],
        )
        return _page(page, lambda row: _named(row.Crew, row.CrewPosition, now))


def _named(crew: Crew, row: CrewPosition, now: datetime) -> tuple[CrewPosition, dict[str, Any]]:
    named = {"crew_id": crew.id, "crew_code": crew.code, "crew_name": crew.name}
    return row, {**named, "age_s": age_s(row, now)}


def _page(page: paging.Page, told: Any) -> Any:
    """A page of positions in the form that was asked for; ``told``: row -> position and what else to say of it."""
    if not wants_geojson():
        return paging.answer(page, lambda row: _plain(*told(row)))
    body, headers = paging.answer(page, lambda row: feature(told(row)[0], **told(row)[1]))
    collection = {"type": "FeatureCollection", "features": body["items"], "next": body["next"]}
    return current_app.response_class(current_app.json.dumps(collection), mimetype=GEOJSON, headers=headers)


def _plain(row: CrewPosition, more: dict[str, Any]) -> dict[str, Any]:
    return position_answer(row) | more


@blp.get("/crews/<id:crew_id>/position")
@access.staff(*access.DISPATCHERS)
@blp.response(200, OnePositionAnswer)
def crew_position(crew_id: str) -> dict[str, Any]:
    """Where a crew was last, as its devices told"""
    now = utc_now()
    with reading():
        crew = crews.get(access.actor(), crew_id)
        row = positions.last([crew.id], kept_since(now)).get(crew.id)
        if row is not None:
            place = {"position": position_answer(row), "age_s": age_s(row, now), "lon": row.lon, "lat": row.lat}
            return {"crew_id": crew.id, "source": "reported", **place}
        place = {"position": None, "age_s": None, "lon": crew.base_lon, "lat": crew.base_lat}
        return {"crew_id": crew.id, "source": "none" if crew.base_lon is None else "base", **place}


@blp.get("/crews/<id:crew_id>/track")
@access.staff(*access.DISPATCHERS)
@blp.arguments(TrackArgs, location="query")
@blp.response(200, page_of(PositionAnswer))
@blp.alt_response(200, schema=COLLECTION, content_type=GEOJSON, success=True)
@blp.errors("bad-cursor")
def crew_track(args: dict[str, Any], crew_id: str) -> Any:
    """Where a crew has been, the oldest first

    Each place with the time its device was there. With `Accept: application/geo+json` a FeatureCollection.
    """
    oldest = kept_since(utc_now())
    with reading():
        crew = crews.get(access.actor(), crew_id)
        statement = positions.track(crew.id, max(args.get("since", oldest), oldest), args.get("until"))
        page = paging.fetch(statement, [CrewPosition.until_at, CrewPosition.id], args, descending=False)
        return _page(page, lambda row: (row, {}))


@blp.get("/crews/<id:crew_id>/route")
@access.staff(*access.DISPATCHERS)
@blp.response(200, RouteAnswer)
def crew_route(crew_id: str) -> dict[str, Any]:
    """A crew's jobs in order: when planned, when to be expected, and which promises will not be kept

    From where the crew is: the last position of its devices if that is fresh, else its last job, else its base. At most
    200 jobs. A job outside of your territories takes its time and says nothing of itself.
    """
    now = utc_now()
    with reading():
        crew = crews.get(access.actor(), crew_id)
        route = routes.of_crew(crew, now, travel(now), fresh())
        return routes.as_dict(route, access.actor().scope, now)
