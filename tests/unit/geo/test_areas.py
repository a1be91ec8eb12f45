"""Areas of a run: what is planned together, who works where, and how far it is to the neighbours."""

from __future__ import annotations

import random

import pytest
from shapely.geometry import box

from fieldsvc.geo.areas import Home, Part, distances, divide, reach
from fieldsvc.geo.territories import TerritoryShape


def home(*territories: str, hours: float = 8.0) -> Home:
    return Home(frozenset(territories), hours)


def test_territories_that_share_crews_stay_together_while_that_is_small_enough() -> None:
    crews = {"one": home("a", "b"), "two": home("b", "c"), "three": home("d")}
    need = {"a": 3, "b": 3, "c": 3, "d": 1}
    assert divide(need, crews, 9) == [Part(("a", "b", "c"), ("one", "two")), Part(("d",), ("three",))]
    assert [part.territory_ids for part in divide(need, crews, 8)] == [("a", "b"), ("c",), ("d",)]
    assert [part.territory_ids for part in divide(need, crews, 1)] == [("a",), ("b",), ("c",), ("d",)]


def test_a_crew_works_where_most_jobs_come_on_an_hour_of_work() -> None:
    crews = {"only_a": home("a"), "either": home("a", "b"), "late": home("a", "b", hours=1.0)}
    parts = {part.territory_ids: part.crew_ids for part in divide({"a": 10, "b": 40}, crews, 1)}
    assert parts == {("a",): ("only_a",), ("b",): ("either", "late")}


def test_every_territory_with_jobs_is_in_one_area_and_every_crew_in_at_most_one() -> None:
    rng = random.Random(7)
    names = [f"t{n}" for n in range(60)]
    need = {name: rng.randint(1, 300) for name in names[:50]}
    crews = {f"c{n}": home(*rng.sample(names, rng.randint(1, 5))) for n in range(100)}
    parts = divide(need, crews, 500)
    assert sorted(t for part in parts for t in part.territory_ids) == sorted(need)
    working = [crew for part in parts for crew in part.crew_ids]
    assert sorted(working) == sorted(c for c, one in crews.items() if one.territories & need.keys())
    for part in parts:
        assert sum(need[t] for t in part.territory_ids) <= 500 or len(part.territory_ids) == 1
    shuffled = dict(sorted(crews.items(), key=lambda _: rng.random()))
    assert divide(dict(reversed(need.items())), shuffled, 500) == parts


def square(name: str, west: float, south: float = 35.0) -> TerritoryShape:
    return TerritoryShape(name, name, name, None, 1, "urban", 0, box(west, south, west + 0.1, south + 0.1))


def test_neighbours_are_as_far_as_their_borders() -> None:
    shapes = [square("a", 111.0), square("b", 111.1), square("c", 111.3), square("far", 120.0)]
    near = distances(shapes, {"a"}, 30_000)
    assert near["a"]["b"] == 0 and near["a"]["c"] == pytest.approx(18_240, rel=0.01) and "far" not in near["a"]
    assert set(distances(shapes, {"a"}, near["a"]["c"] - 1)["a"]) == {"b"}
    assert distances(shapes, (), 1.0) == {}
    assert reach({"a"}, near, 0) == {"b": 0.0} and reach({"a", "b"}, near, 20_000) == {"c": near["a"]["c"]}
