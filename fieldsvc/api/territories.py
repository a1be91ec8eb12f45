"""Territories: import, look up, find by point."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from flask import current_app
from sqlalchemy import select

from fieldsvc.api import access, paging
from fieldsvc.api.frame import Blueprint, json_body
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
from fieldsvc.base.clock import utc_now
from fieldsvc.base.db import reading, transaction
from fieldsvc.geo.territories import SITE_CLASSES
from fieldsvc.people import territories
from fieldsvc.people.models import Territory

blp = Blueprint("territories", __name__, url_prefix="/v1/territories", description="Areas of responsibility")

GEOJSON = "application/geo+json"
_FILE = {
    "type": "object",
    "description": "RFC 7946 FeatureCollection of polygons and multipolygons, WGS 84.",
    "required": ["type", "features"],
    "properties": {
        "type": {"const": "FeatureCollection"},
        "features": {"type": "array", "items": {"type": "object"}},
        "crs": {
            "type": "null",
            "description": "Files before RFC 7946 may name CRS84 or EPSG:4326; others are refused.",
        },
    },
}
_COLLECTION = {
    "type": "object",
    "required": ["type", "features", "next"],
    "properties": {
        "type": {"const": "FeatureCollection"},
        "features": {"type": "array", "items": {"type": "object"}},
        "next": {"type": ["string", "null"]},
    },
}


class TerritoryAnswer(Schema):
    id = Ident(required=True)
    code = Text(60, required=True)
    name = Text(200, required=True)
    name_local = Text(200, required=True, allow_none=True)
    level = Int(required=True)
    site_class = Choice(*SITE_CLASSES, required=True)
    priority = Int(-1_000_000, 1_000_000, required=True)
    valid_from = UtcTime(required=True)
    valid_to = UtcTime(required=True, allow_none=True)
    rev = Int(1, required=True)


class TerritoryBrief(Schema):
    id = Ident(required=True)
    code = Text(60, required=True)
    name = Text(200, required=True)
    name_local = Text(200, required=True, allow_none=True)
    site_class = Choice(*SITE_CLASSES, required=True)


class TerritoryFilter(paging.PageArgs):
    geometry = Flag(load_default=False, metadata={"description": "Answer GeoJSON with the boundaries."})
    code = Text(60)


class Place(Schema):
    lon = Lon(required=True)
    lat = Lat(required=True)


class Location(Schema):
    territory = Member(TerritoryBrief, required=True, allow_none=True)
    how = Choice("inside", "nearest", "outside", required=True)
    distance_m = Number(0, 30_000_000, required=True, allow_none=True)
    candidates = ListOf(
        Ident(), max=5000, required=True, metadata={"description": "All that contain it, the chosen first."}
    )
    reason = Text(500, required=True, allow_none=True)


class ImportMapping(Schema):
    code_field = Text(80)
    name_field = Text(80)
    name_local_field = Text(80)
    site_class_field = Text(80)
    priority_field = Text(80)
    level_field = Text(80)
    site_class = Choice(*SITE_CLASSES, metadata={"description": "For features that do not say."})
    priority = Int(-1_000_000, 1_000_000)
    level = Int(0, 99)


class ImportEntry(Schema):
    index = Int(required=True, metadata={"description": "The feature's place in the file, from 0."})
    name = Text(300, min=0, required=True)
    severity = Choice("repaired", "refused", required=True)
    problem = Text(2000, required=True)
    action = Text(500, required=True)
    area_change_m2 = Number(-1e15, 1e15)


class ImportReport(Schema):
    created = Int(required=True)
    updated = Int(required=True)
    unchanged = Int(required=True)
    repaired = Int(required=True)
    refused = Int(required=True)
    entries = ListOf(Member(ImportEntry), max=100_000, required=True)


def territory_answer(territory: Territory) -> dict[str, Any]:
    return {name: getattr(territory, name) for name in TerritoryAnswer._declared_fields}


@blp.post("/import")
@access.staff("supervisor")
@blp.arguments(ImportMapping, location="query")
@blp.raw_body(_FILE, content_types=(GEOJSON, "application/json"))
@blp.response(200, ImportReport)
def import_file(mapping: dict[str, Any]) -> Any:
    """Import territories from GeoJSON

    A territory is known by its code: new ones are added, changed ones changed, the same file again changes nothing.
    Invalid rings are repaired, unusable features refused, both reported. Needs an account for all territories.
    """
    file = json_body(content_types=(GEOJSON, "application/json"))
    with transaction():
        return asdict(territories.import_geojson(access.actor(), file, mapping, utc_now()))


@blp.get("")
@access.staff()
@blp.arguments(TerritoryFilter, location="query")
@blp.response(200, page_of(TerritoryAnswer))
@blp.alt_response(200, schema=_COLLECTION, content_type=GEOJSON, success=True)
@blp.errors("bad-cursor")
def list_territories(args: dict[str, Any]) -> Any:
    """Your territories, by code

    With `geometry=true` a GeoJSON FeatureCollection, paged in the same way.
    """
    actor = access.actor()
    with reading():
        statement = select(Territory)
        if actor.scope is not None:
            statement = statement.where(Territory.id.in_(actor.scope))
        if "code" in args:
            statement = statement.where(Territory.code == args["code"])
        page = paging.fetch(statement, [Territory.code], args, descending=False)
        if not args["geometry"]:
            return paging.answer(page, territory_answer)
        body, headers = paging.answer(page, territories.as_feature)
        collection = {"type": "FeatureCollection", "features": body["items"], "next": body["next"]}
        return current_app.response_class(current_app.json.dumps(collection), mimetype=GEOJSON, headers=headers)


@blp.get("/locate")
@access.staff()
@blp.arguments(Place, location="query")
@blp.response(200, Location)
def locate(args: dict[str, Any]) -> Any:
    """The territory of a point

    In an overlap the highest priority wins, then the smallest area. A point outside of all goes to the nearest within
    500 m, else to none, with the reason.
    """
    with reading():
        return territories.locate_for(access.actor(), args["lon"], args["lat"], utc_now())


@blp.get("/<id:territory_id>")
@access.staff()
@blp.response(200, {"type": "object"}, content_type=GEOJSON, description="A GeoJSON feature")
def one_territory(territory_id: str) -> Any:
    """One territory with its boundary, as a GeoJSON feature"""
    with reading():
        feature = territories.as_feature(territories.get(access.actor(), territory_id))
    return current_app.response_class(current_app.json.dumps(feature), mimetype=GEOJSON)
