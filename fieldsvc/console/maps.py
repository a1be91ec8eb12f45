"""What maps are drawn of besides jobs and crews: outlines of territories, and streets for where there are no tiles."""

from __future__ import annotations

from typing import Any

import orjson
from flask import Response, current_app, request, url_for

from fieldsvc import kinds
from fieldsvc.api.features import Box
from fieldsvc.api.frame import query
from fieldsvc.api.schemas import Int, Schema
from fieldsvc.api.sync import answer
from fieldsvc.base.clock import utc_now
from fieldsvc.base.db import reading
from fieldsvc.console.frame import actor, page, pages
from fieldsvc.console.words import word
from fieldsvc.geo import streets
from fieldsvc.geo.roads import RoadNetwork
from fieldsvc.kinds.lifecycle import STATUSES
from fieldsvc.people.outlines import outlines
from fieldsvc.work.tiers import TIERS


class Territories(Schema):
    zoom = Int(0, 22, load_default=10)
    bbox = Box()


class StreetsOf(Schema):
    zoom = Int(0, 22, load_default=14)
    bbox = Box(required=True)


@pages.get("/map/territories")
@page()
def map_territories() -> Response:
    """Boundaries of the visitor's territories as GeoJSON, as fine as a zoom shows them."""
    args = query(Territories())
    with reading():
        found = outlines(actor(), utc_now(), _pixel(args["zoom"]) / 2, args.get("bbox"))
    return _kept(found, "application/geo+json", 0)


@pages.get("/map/streets")
@page()
def map_streets() -> Response:
    """Streets of the loaded road network inside of a box: ``{"lines": [[[lon, lat], …], …]}``; none without a network.

    They are the same for everybody, and for as long as the service runs.
    """
    args = query(StreetsOf())
    network = _network()
    west, south, east, north = args["bbox"]
    lines = []
    if network is not None and west <= east:
        lines = streets.of(network).within((west, south, east, north), _pixel(args["zoom"]) / 2)
    return _kept({"lines": lines}, "application/json", 3600)


@pages.app_template_global("map_facts")
def map_facts() -> dict[str, Any]:
    """What the map's scripts have to know of this service, and the words for its codes."""
    settings = current_app.extensions["fieldsvc.settings"]
    network = _network()
    kind_names = list(kinds.discover())
    return {
        "tiles": settings.map_tiles,
        "credit": settings.map_credit,
        "territories": url_for("console.map_territories"),
        "streets": url_for("console.map_streets") if network is not None else None,
        "streetBounds": _corners(network),
        "fresh_s": settings.position_fresh,
        "kinds": kind_names,
        "names": {code: word(code) for code in (*kind_names, *TIERS, *STATUSES)},
    }


def _network() -> RoadNetwork | None:
    found: RoadNetwork | None = current_app.extensions["fieldsvc.travel"].network
    return found


def _corners(network: RoadNetwork | None) -> list[list[float]] | None:
    """South-west and north-east corner of a network, each latitude first as the map library has them."""
    if network is None:
        return None
    west, south, east, north = streets.of(network).bounds
    return [[south, west], [north, east]]


def _pixel(zoom: int) -> float:
    """Degrees of longitude in one pixel of a web map."""
    return 360.0 / (256 * 2.0**zoom)


def _kept(body: object, mimetype: str, seconds: int) -> Response:
    """``body`` as an answer that the visitor's browser may keep, and asks again with its ETag after ``seconds``."""
    response = answer(orjson.dumps(body))
    response.mimetype = mimetype
    response.cache_control.private = True
    response.cache_control.max_age = seconds
    if not seconds:
        response.cache_control.no_cache = True
    response.vary.add("Cookie")
    response.add_etag()
    response.make_conditional(request)
    return response
