"""The map of a day as one standalone SVG: territories, jobs by kind and state, crews and their routes.

Drawn in a local equirectangular projection (true along both axes at the middle of the map). Nothing is fetched: no
tiles, no fonts, no scripts. Colours are Okabe and Ito's, which colour-blind people can tell apart; shape and state are
told twice, by form and by colour.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

import shapely
from shapely.geometry import Point, Polygon

from fieldsvc.geo.territories import TerritoryShape

WIDTH = 1200
_PANEL = 236
_MARGIN = 20
_HEADER = 56
_FOOTER = 34
_MOST_HEIGHT = 1300
_METRES_PER_DEGREE = 111_195.0

_SITE_FILL = {"urban": "#e9e2f3", "rural": "#e4efdc", "remote": "#f6ead2"}

_FORMS = {"repair": "circle", "meter_change": "square", "safety_inspection": "triangle"}
"""How a kind of job is drawn; one that is not listed here is a diamond."""

_STATES = (
    # label, fill, outline, work statuses
    ("waiting", "#ffffff", "#555555", ("waiting_to_be_scheduled",)),
    ("planned", "#56b4e9", "#1b4d6b", ("scheduled", "dispatched", "accepted")),
    (
        "under way",
        "#f0e442",
        "#6b6400",
        ("enroute", "on_site", "in_progress", "waiting_on_material", "suspended"),
    ),
    ("done", "#009e73", "#00402e", ("completed", "closed")),
    ("not done", "#d55e00", "#5e2a00", ("not_done", "returned", "cancelled")),
)
_STATE_OF = {status: number for number, state in enumerate(_STATES) for status in state[3]}

_ROUTE_COLOURS = ("#0072b2", "#d55e00", "#007a59", "#b0428a", "#3b3b3b", "#9a6b00")
_ROUTE_DASHES = ("", "7 3", "2 3")


@dataclass(frozen=True)
class MapJob:
    """A job to draw. ``state`` is its work status."""

    lon: float
    lat: float
    kind: str
    state: str
    title: str = ""


@dataclass(frozen=True)
class MapCrew:
    """A crew at its base."""

    code: str
    name: str
    lon: float
    lat: float


@dataclass(frozen=True)
class MapRoute:
    """The way of a crew: its stops as (lon, lat), in order, without the base."""

    crew_code: str
    stops: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class _Frame:
    """From degrees to pixels, north up."""

    west: float
    north: float
    squeeze: float
    pixels_per_degree: float
    width: float
    height: float

    def xy(self, lon: float, lat: float) -> tuple[float, float]:
        x = _MARGIN + (lon - self.west) * self.squeeze * self.pixels_per_degree
        return x, _HEADER + (self.north - lat) * self.pixels_per_degree

    def lonlat(self, x: float, y: float) -> tuple[float, float]:
        lon = self.west + (x - _MARGIN) / (self.squeeze * self.pixels_per_degree)
        return lon, self.north - (y - _HEADER) / self.pixels_per_degree

    def holds(self, x: float, y: float) -> bool:
        return _MARGIN <= x <= _MARGIN + self.width and _HEADER <= y <= _HEADER + self.height


def svg(
    territories: Sequence[TerritoryShape],
    jobs: Sequence[MapJob],
    crews: Sequence[MapCrew],
    routes: Sequence[MapRoute],
    title: str,
    attribution: str,
) -> str:
    """The picture as text, 1,200 pixels wide. The same input gives the same text.

    The map shows the territories (or, without any, the jobs and crews); jobs beyond its edge are counted in the legend.
    """
    frame = _frame(territories, jobs, crews)
    height = round(max(_HEADER + frame.height, _HEADER + 330 + 24 * (len(crews) + 1)) + _FOOTER)
    colours = {crew.code: _colour(number) for number, crew in enumerate(crews)}
    inside = [(job, *frame.xy(job.lon, job.lat)) for job in jobs]
    shown = [(job, x, y) for job, x, y in inside if frame.holds(x, y)]
    markers = [(x, y) for _, x, y in shown]
    bases = [frame.xy(crew.lon, crew.lat) for crew in crews]
    tags = _tag_boxes(crews, bases)
    area = f'x="{_MARGIN}" y="{_HEADER}" width="{frame.width:.1f}" height="{frame.height:.1f}"'
    fonts = "Noto Sans, Noto Sans CJK SC, DejaVu Sans, Arial, sans-serif"
    head = f'width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" font-family="{fonts}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {head} role="img" aria-labelledby="t">',
        f'<title id="t">{_text(title)}</title>',
        f'<clipPath id="map"><rect {area}/></clipPath>',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="{_MARGIN}" y="36" font-size="24" font-weight="700" fill="#1f2933">{_text(title)}</text>',
        f'<rect {area} fill="#f4f7fa"/>',
        '<g clip-path="url(#map)">',
        *_territories(territories, frame),
        *_routes(routes, crews, colours, frame),
        *(_marker(job, x, y, _size(len(jobs))) for job, x, y in sorted(shown, key=lambda s: _paint_order(s[0]))),
        *_labels(territories, markers, [*tags, *((x - 5, y - 16, x + 5, y + 5) for x, y in bases)], frame),
        *_bases(crews, colours, bases, tags),
        *_scale_bar(territories, frame),
        "</g>",
        f'<rect {area} fill="none" stroke="#9aa5b1"/>',
        *_legend(territories, jobs, crews, routes, colours, len(jobs) - len(shown)),
        f'<text x="{_MARGIN}" y="{height - 12}" font-size="12" fill="#52606d">{_text(attribution)}</text>',
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _frame(territories: Sequence[TerritoryShape], jobs: Sequence[MapJob], crews: Sequence[MapCrew]) -> _Frame:
    """The extent of the territories with a little air, fitted into the map's room."""
    if territories:
        west, south, east, north = shapely.total_bounds([t.geometry for t in territories]).tolist()
    else:
        points = [(job.lon, job.lat) for job in jobs] + [(crew.lon, crew.lat) for crew in crews] or [(0.0, 0.0)]
        west, east = min(p[0] for p in points), max(p[0] for p in points)
        south, north = min(p[1] for p in points), max(p[1] for p in points)
    air = max(east - west, north - south, 0.002) * 0.02
    west, east, south, north = west - air, east + air, max(south - air, -90.0), min(north + air, 90.0)
    squeeze = max(math.cos(math.radians((south + north) / 2)), 0.01)
    room = WIDTH - _PANEL - 3 * _MARGIN
    scale = min(room / ((east - west) * squeeze), _MOST_HEIGHT / (north - south))
    spare = max(0.0, room / scale - (east - west) * squeeze) / squeeze  # a tall map is centred in its room
    return _Frame(west - spare / 2, north, squeeze, scale, room, (north - south) * scale)


def _territories(territories: Sequence[TerritoryShape], frame: _Frame) -> Iterable[str]:
    for territory in sorted(territories, key=lambda t: -t.geometry.area):
        fill = _SITE_FILL.get(territory.site_class, "#eeeeee")
        yield (
            f'<path d="{_path(territory, frame)}" fill="{fill}" stroke="#8d99a6" stroke-width="0.9" '
            f'stroke-linejoin="round" fill-rule="evenodd"><title>{_text(_full_name(territory))}</title></path>'
        )


def _path(territory: TerritoryShape, frame: _Frame) -> str:
    """Rings in pixels, without detail that no eye could see."""
    flat = shapely.transform(
        territory.geometry,
        lambda c: (
            (c - [frame.west, frame.north]) * [frame.squeeze * frame.pixels_per_degree, -frame.pixels_per_degree]
            + [_MARGIN, _HEADER]
        ),
    )
    simple = flat.simplify(0.35, preserve_topology=True)
    rings = []
    for part in shapely.get_parts(simple):
        for ring in (part.exterior, *part.interiors):
            points = [f"{x:.1f} {y:.1f}" for x, y in ring.coords[:-1]]
            rings.append("M" + "L".join(points) + "Z")
    return "".join(rings)


def _routes(
    routes: Sequence[MapRoute], crews: Sequence[MapCrew], colours: dict[str, tuple[str, str]], frame: _Frame
) -> Iterable[str]:
    base = {crew.code: (crew.lon, crew.lat) for crew in crews}
    for route in routes:
        points = [base[route.crew_code], *route.stops] if route.crew_code in base else list(route.stops)
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in (frame.xy(*point) for point in points))
        colour, dash = colours.get(route.crew_code, _colour(0))
        for stroke, width, pattern in (("#ffffff", 4.2, ""), (colour, 2.2, dash)):
            yield (
                f'<polyline points="{line}" fill="none" stroke="{stroke}" stroke-width="{width}" '
                f'stroke-linejoin="round" stroke-linecap="round" stroke-opacity="0.85" stroke-dasharray="{pattern}"/>'
            )


def _colour(number: int) -> tuple[str, str]:
    """Colour and dash pattern of a crew: 18 combinations before one returns."""
    turn = number // len(_ROUTE_COLOURS)
    return _ROUTE_COLOURS[number % len(_ROUTE_COLOURS)], _ROUTE_DASHES[turn % len(_ROUTE_DASHES)]


def _size(jobs: int) -> float:
    return 5.2 if jobs < 150 else 4.6 if jobs < 400 else 3.8


def _paint_order(job: MapJob) -> int:
    """What waits lies below, what was worked on above it."""
    return _STATE_OF.get(job.state, 0)


def _marker(job: MapJob, x: float, y: float, size: float) -> str:
    _, fill, outline, _ = _STATES[_STATE_OF.get(job.state, 0)]
    hint = f"<title>{_text(job.title)}</title>" if job.title else ""
    return _form(_FORMS.get(job.kind, "diamond"), x, y, size, fill, outline, hint)


def _form(form: str, x: float, y: float, size: float, fill: str, outline: str, hint: str = "") -> str:
    paint = f'fill="{fill}" stroke="{outline}" stroke-width="1.1"'
    if form == "circle":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{size:.1f}" {paint}>{hint}</circle>'
    corners = {
        "square": ((-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)),
        "triangle": ((0.0, -1.25), (1.15, 0.85), (-1.15, 0.85)),
        "diamond": ((0.0, -1.3), (1.1, 0.0), (0.0, 1.3), (-1.1, 0.0)),
    }[form]
    points = " ".join(f"{x + dx * size:.1f},{y + dy * size:.1f}" for dx, dy in corners)
    return f'<polygon points="{points}" {paint} stroke-linejoin="round">{hint}</polygon>'


Box = tuple[float, float, float, float]
Spot = tuple[float, float]


def _labels(
    territories: Sequence[TerritoryShape], markers: Sequence[Spot], tags: Sequence[Box], frame: _Frame
) -> Iterable[str]:
    """Names where they fit: the longest that does not run into another label, largest territories first."""
    taken = list(tags)
    for territory in sorted(territories, key=lambda t: (-t.geometry.area, t.id)):
        part = max(shapely.get_parts(territory.geometry), key=lambda p: p.area)
        for text, size in ((_full_name(territory), 12.5), (territory.name, 12), (territory.code, 11.5)):
            box = _spot(part, text, size, markers, taken, frame)
            if box:
                taken.append(box)
                yield _halo((box[0] + box[2]) / 2, (box[1] + box[3]) / 2, text, size)
                break


def _spot(
    part: Polygon, text: str, size: float, markers: Sequence[Spot], taken: Sequence[Box], frame: _Frame
) -> Box | None:
    """A free place for a text near the middle of the polygon, where it hides the fewest markers."""
    half = _text_width(text, size) / 2
    west, south, east, north = part.bounds
    if half * 2 > (east - west) * frame.squeeze * frame.pixels_per_degree * 1.05:
        return None
    middle = part.centroid if part.contains(part.centroid) else part.representative_point()
    x, y = frame.xy(middle.x, middle.y)
    room = max(0.0, (north - south) * frame.pixels_per_degree / 2 - size)
    best: tuple[int, int, Box] | None = None
    for turn, shift in enumerate((0, -13, 13, -26, 26, -39, 39, -52, 52)):
        box = (x - half - 2, y + shift - size * 0.6, x + half + 2, y + shift + size * 0.6)
        if abs(shift) > room or any(_overlap(box, other) for other in taken):
            continue
        if not part.intersects(Point(*frame.lonlat(x, y + shift))):
            continue
        hidden = sum(box[0] < mx < box[2] and box[1] - 3 < my < box[3] + 3 for mx, my in markers)
        if best is None or (hidden, turn) < best[:2]:
            best = (hidden, turn, box)
    return best[2] if best else None


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _text_width(text: str, size: float) -> float:
    """An estimate in pixels: CJK characters are as wide as they are high, Latin ones a little over half."""
    return sum(size if ord(character) > 0x2E7F else size * 0.58 for character in text)


def _halo(x: float, y: float, text: str, size: float, *, weight: int = 500) -> str:
    return (
        f'<text x="{x:.1f}" y="{y + size * 0.36:.1f}" font-size="{size}" font-weight="{weight}" text-anchor="middle" '
        f'fill="#27313b" stroke="#ffffff" stroke-width="3" stroke-linejoin="round" stroke-opacity="0.85" '
        f'paint-order="stroke">{_text(text)}</text>'
    )


_TAG_OFFSETS = ((0, -24), (-44, -20), (44, -20), (0, 24), (-48, 4), (48, 4), (-44, 28), (44, 28))


def _tag_boxes(crews: Sequence[MapCrew], bases: Sequence[Spot]) -> list[Box]:
    """Where the tags of the crews go: above their bases, or around them where another one is in the way."""
    taken: list[Box] = []
    for crew, (x, y) in zip(crews, bases, strict=True):
        half = _text_width(crew.code, 11.5) / 2 + 5
        around = [(x + dx - half, y + dy - 9, x + dx + half, y + dy + 9) for dx, dy in _TAG_OFFSETS]
        around += [(x - half, y - 33 - 19 * up, x + half, y - 15 - 19 * up) for up in range(1, len(crews) + 1)]
        taken.append(next(box for box in around if not any(_overlap(box, other) for other in taken)))
    return taken


def _bases(
    crews: Sequence[MapCrew], colours: dict[str, tuple[str, str]], bases: Sequence[Spot], tags: Sequence[Box]
) -> Iterable[str]:
    """Each base as a pin: a dot at the place, a stem, a tag with the crew's code."""
    for crew, (x, y), box in zip(crews, bases, tags, strict=True):
        colour = colours[crew.code][0]
        middle = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
        yield (
            f'<g><title>{_text(crew.name)}</title><path d="M{x:.1f} {y:.1f}L{middle[0]:.1f} {middle[1]:.1f}" '
            f'stroke="{colour}" stroke-width="2"/>'
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}" stroke="#ffffff"/>'
            f'<rect x="{box[0]:.1f}" y="{box[1]:.1f}" width="{box[2] - box[0]:.1f}" height="18" rx="4" fill="{colour}" '
            f'stroke="#ffffff" stroke-width="1.5"/><text x="{middle[0]:.1f}" y="{box[1] + 13:.1f}" font-size="11.5" '
            f'font-weight="700" text-anchor="middle" fill="#ffffff">{_text(crew.code)}</text></g>'
        )


def _scale_bar(territories: Sequence[TerritoryShape], frame: _Frame) -> Iterable[str]:
    """A round length of at most a fifth of the map, in a lower corner, the one where it covers no territory."""
    per_pixel = _METRES_PER_DEGREE / frame.pixels_per_degree
    limit = frame.width / 5 * per_pixel
    power = 10.0 ** math.floor(math.log10(limit))
    length = max(step * power for step in (1, 2, 5) if step * power <= limit)
    pixels = length / per_pixel
    y = _HEADER + frame.height - 16
    corners = (_MARGIN + 14, _MARGIN + frame.width - 14 - pixels)
    covered = [_covers(territories, frame, (x, y - 22, x + pixels, y + 10)) for x in corners]
    x = corners[covered.index(min(covered))]
    label = f"{length / 1000:g} km" if length >= 1000 else f"{length:g} m"
    yield (
        f'<rect x="{x - 7:.1f}" y="{y - 22:.1f}" width="{pixels + 14:.1f}" height="32" rx="4" fill="#ffffff" '
        f'fill-opacity="0.85"/><path d="M{x:.1f} {y - 5:.1f}V{y:.1f}H{x + pixels:.1f}V{y - 5:.1f}" fill="none" '
        f'stroke="#27313b" stroke-width="1.6"/><text x="{x + pixels / 2:.1f}" y="{y - 7:.1f}" font-size="12" '
        f'text-anchor="middle" fill="#27313b">{label}</text>'
    )


def _covers(territories: Sequence[TerritoryShape], frame: _Frame, box: Box) -> bool:
    (west, north), (east, south) = frame.lonlat(*box[:2]), frame.lonlat(*box[2:])
    return any(territory.geometry.intersects(shapely.box(west, south, east, north)) for territory in territories)


def _legend(
    territories: Sequence[TerritoryShape],
    jobs: Sequence[MapJob],
    crews: Sequence[MapCrew],
    routes: Sequence[MapRoute],
    colours: dict[str, tuple[str, str]],
    beyond: int,
) -> Iterable[str]:
    x, y = WIDTH - _PANEL - _MARGIN, _HEADER + 14.0

    def heading(text: str) -> str:
        return f'<text x="{x}" y="{y:.1f}" font-size="14" font-weight="700" fill="#1f2933">{_text(text)}</text>'

    def row(symbol: str, text: str, count: int | None = None) -> str:
        number = (
            f'<text x="{WIDTH - _MARGIN}" y="{y:.1f}" font-size="13" text-anchor="end" fill="#52606d">{count}</text>'
        )
        label = f'<text x="{x + 34}" y="{y:.1f}" font-size="13" fill="#27313b">{_text(text)}</text>'
        return symbol + label + (number if count is not None else "")

    yield heading(_count(len(jobs), "job"))
    kinds = Counter(job.kind for job in jobs)
    for kind in sorted(kinds, key=lambda k: (list(_FORMS).index(k) if k in _FORMS else len(_FORMS), k)):
        y += 21
        form = _form(_FORMS.get(kind, "diamond"), x + 13, y - 4.5, 5.5, "#cbd2d9", "#3e4c59")
        yield row(form, kind.replace("_", " "), kinds[kind])
    states = Counter(_STATE_OF.get(job.state, 0) for job in jobs)
    y += 10
    for number, (label, fill, outline, _) in enumerate(_STATES):
        y += 21
        yield row(_form("circle", x + 13, y - 4.5, 5.5, fill, outline), label, states[number])
    if beyond:
        y += 21
        yield row("", "beyond the map", beyond)
    y += 32
    yield heading(_count(len(territories), "territory", "territories"))
    sites = Counter(territory.site_class for territory in territories)
    for site, fill in _SITE_FILL.items():
        if sites[site]:
            y += 21
            swatch = f'<rect x="{x + 4}" y="{y - 11:.1f}" width="19" height="13" fill="{fill}" stroke="#8d99a6"/>'
            yield row(swatch, site, sites[site])
    y += 32
    yield heading(f"{_count(len(crews), 'crew')}, stops on their routes")
    stops = {route.crew_code: len(route.stops) for route in routes}
    for crew in crews:
        y += 22
        colour, dash = colours[crew.code]
        line = (
            f'<path d="M{x} {y - 4.5:.1f}h27" stroke="{colour}" stroke-width="2.6" stroke-dasharray="{dash}" '
            'stroke-linecap="round" fill="none"/>'
        )
        yield row(line, _shortened(f"{crew.code}  {crew.name}", 12.3, _PANEL - 54), stops.get(crew.code, 0))


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"


def _shortened(text: str, size: float, width: float) -> str:
    if _text_width(text, size) <= width:
        return text
    while text and _text_width(text + "…", size) > width:
        text = text[:-1]
    return text.rstrip() + "…"


def _full_name(territory: TerritoryShape) -> str:
    return f"{territory.name} {territory.name_local}" if territory.name_local else territory.name


def _text(value: str) -> str:
    """Escaped for XML, without characters XML cannot hold."""
    return escape(re.sub(r"[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "", value), quote=True)
