"""How fast points find their territory, beside Shapely's bare bulk query over the same polygons.

``TerritoryIndex.locate_many`` answers more than the bare query: which of several territories, the nearest one within
the tolerance for a point outside of all, the reason where there is none. Three bars to measure it by, each from the
same lists of numbers to pairs of point and polygon, none of them choosing or looking around:

- *intersects*: ``STRtree(polygons).query(points, predicate="intersects")``, the bulk query of Shapely's manual. It
  prepares the points, one by one, and compares them with bare polygons.
- *points in the tree*: ``STRtree(points).query(polygons, predicate="intersects")``. It prepares each polygon once.
- *by hand*: boxes from the tree, then ``intersects_xy`` on prepared polygons, which is what ours stands on.
"""

from __future__ import annotations

import csv
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from bench import report, setting
from fieldsvc.geo.territories import TerritoryIndex, TerritoryShape, read_geojson

PAGE = Path(__file__).with_name("README.md")
DATA = Path(__file__).resolve().parents[1].parent / "shared" / "data"
COLUMNS = ("", "ours, points/s", "intersects", "points in tree", "by hand", "ours : best", "ours : intersects", "aim")
AIM = "≥ 0.6"


@dataclass(frozen=True)
class Case:
    """A set of territories and the points that look for theirs."""

    name: str
    shapes: list[TerritoryShape]
    lons: list[float]
    lats: list[float]


def main() -> None:
    options = report.arguments(
        __doc__.splitlines()[0] if __doc__ else "", readme="write the table into bench/README.md as well"
    )
    points, rounds = (5_000, 1) if options.quick else (100_000, 7)
    machine = setting.machine()
    measured = [measure(case, rounds) for case in cases(points)]
    if options.json:
        report.dump({"machine": machine, "cases": measured})
        return
    rows = [_row(one) for one in measured]
    notes = [
        f"{one['name']}: {one['inside']:,} inside, {one['nearest']:,} to the nearest, {one['outside']:,} outside; "
        f"rounds, ours : best {' '.join(f'{x:.2f}' for x in one['ratios'])}"
        for one in measured
    ]
    report.show(f"territories: {points:,} points", machine, rows, notes, COLUMNS)
    if options.readme:
        lines = [report.markdown(COLUMNS, rows), "", f"- {report.told(machine)}", *(f"- {note}" for note in notes)]
        report.write_into(PAGE, "territories", "\n".join(lines))


def cases(points: int) -> list[Case]:
    """Real points moved by some 20 m, as many as are asked for, in real polygons; and a lattice of many small ones."""
    lamps = _places(DATA / "nyc_streetlights" / "complaints_2024-01_2025-09.csv")
    calls = _places(DATA / "la_311" / "requests_2020-01-01_02.csv")
    found = [
        ("59 districts, New York", "nyc_territories/community_districts.geojson", lamps),
        ("76 precincts, New York", "nyc_territories/police_precincts_2013.geojson", lamps),
        ("99 overlapping councils, Los Angeles", "la_territories/neighborhood_councils_2019.json", calls),
    ]
    made = []
    for name, file, spots in found:
        made.append(Case(name, read_geojson((DATA / file).read_bytes()).shapes, *_moved(spots, points)))
    return [*made, Case("2,500 small areas, made up", _lattice(lamps, 50), *_moved(lamps, points))]


def measure(case: Case, rounds: int) -> dict[str, Any]:
    """Every way in turn, so that all meet the machine in the same mood; CPU time, medians over the rounds."""
    index = TerritoryIndex(case.shapes)
    polygons = np.array([shape.geometry for shape in case.shapes], dtype=object)
    bare, tree, prepared = polygons.copy(), shapely.STRtree(polygons), np.array(list(polygons), dtype=object)
    shapely.prepare(prepared)
    by_hand = shapely.STRtree(prepared)
    ways: dict[str, Callable[[], Any]] = {
        "ours": lambda: index.locate_many(case.lons, case.lats),
        "intersects": lambda: tree.query(shapely.points(case.lons, case.lats), predicate="intersects"),
        "points_in_tree": lambda: shapely.STRtree(shapely.points(case.lons, case.lats)).query(bare, "intersects"),
        "by_hand": lambda: _by_hand(by_hand, prepared, np.array(case.lons), np.array(case.lats)),
    }
    found = _agreed(ways)
    took: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            began = time.process_time()
            way()
            took[name].append(time.process_time() - began)
    rates = {name: len(case.lons) / report.median(seconds) for name, seconds in took.items()}
    bars = [took[name] for name in ways if name != "ours"]
    best = [min(one) for one in zip(*bars, strict=True)]
    return {
        "name": case.name,
        **{how: sum(where.how == how for where in found) for how in ("inside", "nearest", "outside")},
        **rates,
        "ratios": [bar / ours for bar, ours in zip(best, took["ours"], strict=True)],
        "intersects_ratios": [bar / ours for bar, ours in zip(took["intersects"], took["ours"], strict=True)],
    }


def _agreed(ways: dict[str, Callable[[], Any]]) -> Any:
    """Our answers, once it is sure that all ways see the same points in the same number of polygons."""
    found = ways["ours"]()
    pairs = sum(len(where.candidates) for where in found if where.how == "inside")
    for name in ("intersects", "points_in_tree", "by_hand"):
        assert ways[name]().shape == (2, pairs), name
    return found


def _by_hand(tree: Any, prepared: Any, lons: Any, lats: Any) -> Any:
    asked, found = tree.query(shapely.points(lons, lats))
    hit = shapely.intersects_xy(prepared[found], lons[asked], lats[asked])
    return np.array([asked[hit], found[hit]])


def _row(one: dict[str, Any]) -> tuple[str, ...]:
    rates = (f"{one[name]:,.0f}" for name in ("ours", "intersects", "points_in_tree", "by_hand"))
    ratios = (f"{report.median(one[name]):.2f}" for name in ("ratios", "intersects_ratios"))
    return (one["name"], *rates, *ratios, AIM)


def _places(file: Path) -> Any:
    with file.open(encoding="utf-8", newline="") as opened:
        rows = [(row["longitude"], row["latitude"]) for row in csv.DictReader(opened)]
    xy = np.array([(float(lon), float(lat)) for lon, lat in rows if lon and lat])
    return xy[xy.any(axis=1)]


def _moved(xy: Any, points: int) -> tuple[list[float], list[float]]:
    random = np.random.default_rng(7)
    spots = xy[random.integers(0, len(xy), points)] + random.normal(0.0, 0.0002, (points, 2))
    return spots[:, 0].tolist(), spots[:, 1].tolist()


def _lattice(xy: Any, side: int) -> list[TerritoryShape]:
    """Cells of twelve points, side by side over all the points: many and small, as the areas of transformers are."""
    (west, south), (east, north) = xy.min(axis=0) - 0.005, xy.max(axis=0) + 0.005
    across, up = (east - west) / side, (north - south) / side
    shapes = []
    for i in range(side * side):
        left, low = west + i % side * across, south + i // side * up
        cell = shapely.segmentize(shapely.box(left, low, left + across, low + up), max(across, up) / 3)
        shapes.append(TerritoryShape(f"{i}", f"{i}", f"{i}", None, 1, "urban", 0, cell))
    return shapes


if __name__ == "__main__":
    main()
