"""``/ogc``: territories, jobs and crews as layers for a map program, by OGC API - Features Part 1 (OGC 17-069r4), Core.

GeoJSON in WGS 84 longitude and latitude (CRS84). As that standard asks for, a query that cannot be read is 400 here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import wraps
from typing import Any
from urllib.parse import urlencode

import marshmallow as ma
from flask import Response, current_app, request

from fieldsvc.api import access, paging
from fieldsvc.api.frame import Blueprint, document
from fieldsvc.api.schemas import MAX_INT, Choice, Ident, Int, ListOf, Member, PageArgs, Schema, Text
from fieldsvc.base.clock import format_time, parse_time, utc_now
from fieldsvc.base.db import reading
from fieldsvc.base.errors import FieldsvcError, Invalid, NotFound
from fieldsvc.config import Settings
from fieldsvc.work import layers

blp = Blueprint("features", __name__, url_prefix="/ogc", description="Layers for map programs (OGC API Features)")

GEOJSON = "application/geo+json"
CRS84 = "http://www.opengis.net/def/crs/OGC/1.3/CRS84"
MOST = 1000
"""How many features one page holds; who asks for more gets so many, and a link to the rest."""
CONFORMS_TO = (
    "http://www.opengis.net/spec/ogcapi-features-1/1.0/conf/core",
    "http://www.opengis.net/spec/ogcapi-features-1/1.0/conf/geojson",
)

_NUMBER = r"-?\d{1,12}(\.\d{1,15})?"
_BOX = rf"^{_NUMBER},{_NUMBER},{_NUMBER},{_NUMBER}(,{_NUMBER},{_NUMBER})?$"
_OPEN = ("", "..")


class Box(Text):
    """Four numbers (or six, with heights, which nothing here has); across the 180th meridian west is more than east."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(200, pattern=_BOX, reason="must be west,south,east,north in degrees", **kwargs)

    def deserialize(self, value: Any, attr: str | None = None, data: Any = None, **kwargs: Any) -> Any:
        text = super().deserialize(value, attr, data, **kwargs)
        if not isinstance(text, str):
            return text
        numbers = [float(part) for part in text.split(",")]
        west, south, east, north = numbers if len(numbers) == 4 else (*numbers[:2], *numbers[3:5])
        if not (-180 <= west <= 180 and -180 <= east <= 180 and -90 <= south <= north <= 90):
            raise ma.ValidationError("must lie on the earth: longitudes to 180, latitudes to 90, south before north")
        return west, south, east, north


class Span(Text):
    """A time, or two with a slash between; ``..`` or nothing for an open end."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(100, **kwargs)

    def deserialize(self, value: Any, attr: str | None = None, data: Any = None, **kwargs: Any) -> Any:
        text = super().deserialize(value, attr, data, **kwargs)
        if not isinstance(text, str):
            return text
        parts = re.sub(r" (\d\d:\d\d)(?=/|\Z)", r"+\1", text).split("/")  # an unescaped + arrives as a blank
        if len(parts) > 2 or all(part in _OPEN for part in parts):
            raise ma.ValidationError("must be a time, or begin/end with .. for an open end")
        try:
            times = [None if part in _OPEN and len(parts) == 2 else parse_time(part) for part in parts]
        except ValueError as error:
            raise ma.ValidationError(str(error)) from None
        since, until = times[0], times[-1]
        if since is not None and until is not None and until < since:
            raise ma.ValidationError("ends before it begins")
        return since, until


class ItemsArgs(Schema):
    limit = Int(
        1, MAX_INT, load_default=100, metadata={"description": f"How many at most; {MOST} where more are asked for."}
    )
    bbox = Box(metadata={"description": "west,south,east,north in degrees.", "example": "111.2,35.3,111.9,35.7"})
    datetime = Span(metadata={"description": "A time or begin/end.", "example": "2026-11-20T00:00:00Z/.."})
    cursor = PageArgs._declared_fields["cursor"]


class Link(Schema):
    rel = Text(40, required=True)
    type = Text(100, required=True)
    title = Text(200, required=True)
    href = Text(8000, required=True)


class Landing(Schema):
    title = Text(200, required=True)
    description = Text(500, required=True)
    links = ListOf(Member(Link), required=True)


class Conformance(Schema):
    conforms_to = ListOf(Text(200), required=True, data_key="conformsTo")


class SpatialExtent(Schema):
    bbox = ma.fields.List(ma.fields.List(ma.fields.Float()), required=True)
    crs = Text(100, required=True)


class Extent(Schema):
    spatial = Member(SpatialExtent, required=True)


class Collection(Schema):
    id = Ident(required=True)
    title = Text(200, required=True)
    description = Text(500, required=True)
    extent = Member(Extent)
    item_type = Choice("feature", required=True, data_key="itemType")
    crs = ListOf(Text(100), required=True)
    links = ListOf(Member(Link), required=True)


class Collections(Schema):
    links = ListOf(Member(Link), required=True)
    collections = ListOf(Member(Collection), required=True)


FEATURE = {
    "type": "object",
    "required": ["type", "id", "geometry", "properties"],
    "properties": {
        "type": {"const": "Feature"},
        "id": {"type": "string"},
        "geometry": {"type": ["object", "null"]},
        "properties": {"type": "object"},
        "links": {"type": "array", "items": {"type": "object"}},
    },
}
FEATURES = {
    "type": "object",
    "required": ["type", "timeStamp", "numberReturned", "links", "features"],
    "properties": {
        "type": {"const": "FeatureCollection"},
        "timeStamp": {"type": "string", "format": "date-time"},
        "numberMatched": {"type": "integer", "minimum": 0},
        "numberReturned": {"type": "integer", "minimum": 0},
        "links": {"type": "array", "items": {"type": "object"}},
        "features": {"type": "array", "items": FEATURE},
    },
}


def as_ogc(view: Callable[..., Any]) -> Callable[..., Any]:
    """A query that cannot be read is 400 by this standard; elsewhere it is 422."""

    @wraps(view)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            return view(*args, **kwargs)
        except Invalid as error:
            raise FieldsvcError("bad-request", error.detail, errors=error.errors) from None

    return document(wrapper, errors=["bad-request"])


def _address(*parts: str, **query: Any) -> str:
    path = "/".join(("ogc", *parts))
    return request.url_root + path + (f"?{urlencode(query)}" if query else "")


def _link(rel: str, href: str, title: str, media: str = "application/json") -> dict[str, str]:
    return {"rel": rel, "type": media, "title": title, "href": href}


@blp.get("")
@as_ogc
@access.reader()
@blp.response(200, Landing)
def landing() -> dict[str, Any]:
    """Where a map program begins"""
    return {
        "title": "fieldsvc",
        "description": "Territories, jobs and crews of your territories.",
        "links": [
            _link("self", _address(), "This page"),
            _link("service-desc", request.url_root + "openapi.json", "The whole API (OpenAPI 3.1)"),
            _link("conformance", _address("conformance"), "What of the standard is kept"),
            _link("data", _address("collections"), "The layers"),
        ],
    }


@blp.get("/conformance")
@as_ogc
@access.reader()
@blp.response(200, Conformance)
def conformance() -> dict[str, Any]:
    """Which classes of requirements are met"""
    return {"conforms_to": [*CONFORMS_TO]}


@blp.get("/collections")
@as_ogc
@access.reader()
@blp.response(200, Collections)
def collections() -> dict[str, Any]:
    """The layers you may see"""
    actor, now = access.actor(), utc_now()
    with reading():
        found = [_collection(layer, now) for layer in layers.of(actor).values()]
    return {"links": [_link("self", _address("collections"), "This page")], "collections": found}


@blp.get("/collections/<id:collection>")
@as_ogc
@access.reader()
@blp.response(200, Collection)
def collection(collection: str) -> dict[str, Any]:
    """One layer"""
    layer = _layer(collection)
    with reading():
        return _collection(layer, utc_now())


@blp.get("/collections/<id:collection>/items")
@as_ogc
@access.reader()
@blp.arguments(ItemsArgs, location="query")
@blp.response(200, FEATURES, content_type=GEOJSON)
@blp.errors("bad-cursor")
def items(args: dict[str, Any], collection: str) -> Response:
    """The features of a layer, as far as they lie in a box and a span of time

    Where there are more than `limit`, follow the link `next`.
    """
    layer, actor = _layer(collection), access.actor()
    wanted = _wanted(box=args.get("bbox"), span=args.get("datetime"))
    args["limit"] = min(args["limit"], MOST)
    with reading():
        query = layer.select(actor, wanted)
        page = paging.fetch(query, layer.order, args, descending=layer.descending, scalars=layer.scalars, key=layer.key)
        features = layer.features(actor, page.rows, wanted)
        matched = {"numberMatched": layers.count(query)} if layer.counted else {}
    here = {name: value for name, value in request.args.items() if name != "cursor"}
    links = [
        _link("self", request.url, "This page", GEOJSON),
        _link("collection", _address("collections", layer.name), layer.title),
    ]
    if page.next:
        rest = _address("collections", layer.name, "items", **here, cursor=page.next)
        links.append(_link("next", rest, "The next page", GEOJSON))
    return _geojson(
        {
            "type": "FeatureCollection",
            "timeStamp": format_time(wanted.now),
            **matched,
            "numberReturned": len(features),
            "links": links,
            "features": features,
        }
    )


@blp.get("/collections/<id:collection>/items/<id:feature>")
@as_ogc
@access.reader()
@blp.response(200, FEATURE, content_type=GEOJSON)
def item(collection: str, feature: str) -> Response:
    """One feature of a layer"""
    layer, actor, wanted = _layer(collection), access.actor(), _wanted(id=feature)
    with reading():
        page = paging.fetch(
            layer.select(actor, wanted), layer.order, {"limit": 1}, scalars=layer.scalars, key=layer.key
        )
        found = layer.features(actor, page.rows, wanted)
    if not found:
        raise NotFound("feature", feature)
    links = [
        _link("self", _address("collections", layer.name, "items", feature), "This feature", GEOJSON),
        _link("collection", _address("collections", layer.name), layer.title),
    ]
    return _geojson(found[0] | {"links": links})


def _layer(name: str) -> layers.Layer:
    layer = layers.of(access.actor()).get(name)
    if layer is None:
        raise NotFound("collection", name)
    return layer


def _wanted(**which: Any) -> layers.Wanted:
    settings: Settings = current_app.extensions["fieldsvc.settings"]
    now = utc_now()
    return layers.Wanted(now, now - timedelta(seconds=settings.position_ttl), **which)


def _collection(layer: layers.Layer, now: datetime) -> dict[str, Any]:
    box = layer.extent(access.actor(), now)
    extent = {"extent": {"spatial": {"bbox": [[*box]], "crs": CRS84}}} if box else {}
    return {
        "id": layer.name,
        "title": layer.title,
        "description": layer.about,
        **extent,
        "item_type": "feature",
        "crs": [CRS84],
        "links": [
            _link("self", _address("collections", layer.name), layer.title),
            _link("items", _address("collections", layer.name, "items"), "Its features", GEOJSON),
        ],
    }


def _geojson(body: dict[str, Any]) -> Response:
    return current_app.response_class(current_app.json.dumps(body), mimetype=GEOJSON)
