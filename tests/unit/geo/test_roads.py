"""A road network in memory: what is read of it and refused, and what one drives, walks and cannot reach."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from fieldsvc.geo.pairs import PairCache
from fieldsvc.geo.roads import BadNetwork, RoadNetwork, Roads
from fieldsvc.geo.travel import NO_WAY, Geodesic, Place, distance_m

A, B, C, D, ISLAND = (111.0, 35.0), (111.01, 35.0), (111.02, 35.0), (111.03, 35.0), (111.04, 35.0)
NODES = "node_id,lat,lon\na,35,111\nb,35,111.01\nc,35,111.02\nd,35,111.03\ni,35,111.04\nj,35,111.041\n"
# a → b → c → a in a circle, d is reached from c and never left, i and j hang together with nothing else
EDGES = (
    "from_node,to_node,length_m,travel_time_s,name\n"
    "a,b,1000,100,\na,b,900,120,slower though shorter\nb,c,1000,100,\nc,a,2500,200,\nc,d,1000,90,\n"
    "i,j,100,10,\nj,i,100,10,\n"
)


def written(folder: Path, nodes: str = NODES, edges: str = EDGES) -> Path:
    (folder / "nodes.csv").write_text(nodes, "utf-8")
    (folder / "edges.csv").write_text(edges, "utf-8")
    return folder


@pytest.fixture
def roads(tmp_path: Path) -> Roads:
    return Roads(RoadNetwork.read(written(tmp_path)), Geodesic(), PairCache(), reach_m=200)


def test_one_way_streets_parallel_edges_and_the_length_of_the_fastest_way(roads: Roads) -> None:
    got = roads.matrix([Place(*A), Place(*B), Place(*C), Place(*D)])
    assert got.seconds.tolist() == [
        [0, 100, 200, 290],
        [300, 0, 100, 190],
        [200, 300, 0, 90],
        [NO_WAY, NO_WAY, NO_WAY, 0],
    ]
    assert got.metres.tolist()[:2] == [[0, 1000, 2000, 3000], [3500, 0, 1000, 2000]]
    assert (got.report.provider, got.report.pairs, got.report.fallback) == (roads.name, 12, 0)
    assert got.report.holes == 3
    assert "no way for 3 pairs" in got.report.notes[0]


def test_parts_of_the_network_that_hang_together_with_nothing_are_not_reached_over_the_geodesic(roads: Roads) -> None:
    got = roads.matrix([Place(*A), Place(*ISLAND)])
    assert got.seconds.tolist() == [[0, NO_WAY], [NO_WAY, 0]]
    assert (got.report.holes, got.report.fallback) == (2, 0)


def test_the_way_to_the_road_is_walked_and_traffic_slows_the_driving_only(tmp_path: Path) -> None:
    network = RoadNetwork.read(written(tmp_path))
    aside = Place(A[0], 35.001)
    walk = distance_m(*aside[:2], *A)
    got = Roads(network, Geodesic(), PairCache(), traffic=2.5, access_kmh=6, reach_m=200).matrix([aside, Place(*C)])
    assert got.seconds[0, 1] == round(200 * 2.5 + walk * 0.6)
    assert got.metres[0, 1] == pytest.approx(2000 + walk)


def test_between_places_at_one_node_one_walks_straight(roads: Roads) -> None:
    east, west = Place(A[0] + 0.001, 35.0), Place(A[0] - 0.001, 35.0)
    got = roads.matrix([east, west, east])
    assert got.metres[0, 1] == pytest.approx(distance_m(*east[:2], *west[:2]))
    assert got.seconds[0, 1] == got.seconds[1, 0] == round(got.metres[0, 1] * 3.6 / 5)
    assert got.seconds[0, 2] == 0


@pytest.mark.parametrize(("metres", "covered"), [(199.0, True), (201.0, False)])
def test_a_place_too_far_from_every_road_goes_by_the_geodesic_and_is_counted(
    roads: Roads, metres: float, covered: bool
) -> None:
    far = Place(A[0], 35.0 + metres / distance_m(A[0], 35.0, A[0], 36.0))
    places = [far, Place(*B), Place(*C)]
    got, straight = roads.matrix(places), Geodesic().matrix(places)
    assert got.report.fallback == (0 if covered else 4)
    assert (got.seconds[0, 1] == straight.seconds[0, 1]) is not covered
    assert (got.metres[0, 1] == straight.metres[0, 1]) is not covered
    assert got.seconds[1, 2] == 100
    notes = "" if covered else f"1 of 3 places are more than 200 m from every road of {roads.network.name}"
    assert got.report.notes == () or got.report.notes[0].startswith(notes)


def test_a_place_that_is_none_has_no_way_and_harms_no_other(roads: Roads) -> None:
    got = roads.matrix([Place(*A), Place(math.nan, 3), Place(*B), Place(5, 99)])
    assert got.seconds[0, 2] == 100
    assert got.seconds[[0, 1, 2, 3, 0], [1, 2, 3, 0, 3]].tolist() == [NO_WAY] * 5
    assert (got.report.holes, got.report.fallback) == (10, 0)
    assert roads.matrix([]).seconds.shape == (0, 0)


def test_what_was_asked_before_is_remembered_and_the_answer_is_the_same(roads: Roads) -> None:
    places = [Place(*A), Place(*B), Place(*C)]
    first, again = roads.matrix(places), roads.matrix(places)
    assert (first.report.cached, again.report.cached) == (0, 6)
    assert np.array_equal(first.seconds, again.seconds)
    assert np.array_equal(first.metres, again.metres)
    more = roads.matrix([*places, Place(*D)])
    assert more.report.cached == 6
    fresh = Roads(roads.network, Geodesic(), PairCache(), reach_m=200).matrix([*places, Place(*D)])
    assert np.array_equal(more.seconds, fresh.seconds)


BAD_NODES = [
    ("a,1,2", "node a is there already"),
    (",1,2", "node_id is missing"),
    ("x,0,0", "0/0 is not a place"),
    ("x,91,0", "latitude 91 is outside"),
    ("x,35,181", "longitude 181 is outside"),
    ("x,north,2", "lat 'north' is not a number"),
    ("x,nan,2", "lat nan must be at least -90"),
    ("x,1", "lon '' is not a number"),
]
BAD_EDGES = [
    ("a,zz,1,1", "node zz is not known"),
    ("a,,1,1", "to_node is missing"),
    ("a,b,-1,1", "length_m -1 must be at least 0"),
    ("a,b,1,-1", "travel_time_s -1 must be at least 0"),
    ("a,b,1,inf", "travel_time_s inf must be at least 0"),
    ("a,b,1,", "travel_time_s '' is not a number"),
    ("a,b,1000,1", "faster than 300 km/h"),
    ("a,b,1000001,80000", "more than 1,000 km"),
    ("a,b,1000,86401", "24 hours"),
]


def test_bad_rows_are_left_out_each_named_with_its_line_and_reason(tmp_path: Path) -> None:
    files = ((NODES, BAD_NODES), (EDGES, BAD_EDGES))
    nodes, edges = (text + "\n".join(row for row, _ in bad) + "\n" for text, bad in files)
    network = RoadNetwork.read(written(tmp_path, nodes, edges))
    assert (len(network), network.edges) == (6, 6)
    wanted = [("nodes.csv", 8 + i, says) for i, (_, says) in enumerate(BAD_NODES)]
    wanted += [("edges.csv", 9 + i, says) for i, (_, says) in enumerate(BAD_EDGES)]
    assert [(one.file, one.line) for one in network.refused] == [(file, line) for file, line, _ in wanted]
    for one, (_, _, says) in zip(network.refused, wanted, strict=True):
        assert says in one.reason
    report = Roads(network, Geodesic(), PairCache()).matrix([Place(*A), Place(*B)]).report
    assert report.notes == (f"{len(wanted)} rows of {network.name} were left out when it was read",)


def test_an_edge_of_the_greatest_length_and_time_is_taken_exactly(tmp_path: Path) -> None:
    edges = "from_node,to_node,length_m,travel_time_s\na,b,1000000,86400\nb,c,999999.9,86399.99\n"
    network = RoadNetwork.read(written(tmp_path, NODES, edges))
    assert not network.refused
    ways = network.ways([0], [1, 2])
    assert ways.seconds.tolist() == [[86400, pytest.approx(172799.99)]]
    assert ways.metres.tolist() == [[1_000_000, pytest.approx(1_999_999.9)]]


@pytest.mark.parametrize(
    ("nodes", "edges", "says"),
    [
        (None, EDGES, "nodes.csv cannot be read"),
        (NODES, None, "edges.csv cannot be read"),
        ("id,lat,lon\n1,2,3\n", EDGES, "nodes.csv: no column node_id"),
        (NODES, "from_node,to_node\na,b\n", "edges.csv: no column length_m, travel_time_s"),
        (NODES, "from_node,to_node,length_m,travel_time_s\n", "no usable edge"),
        ("", EDGES, "no column"),
    ],
)
def test_files_that_are_no_network_are_refused_by_name(
    tmp_path: Path, nodes: str | None, edges: str | None, says: str
) -> None:
    for name, text in (("nodes.csv", nodes), ("edges.csv", edges)):
        if text is not None:
            (tmp_path / name).write_text(text, "utf-8")
    with pytest.raises(BadNetwork, match=says) as refused:
        RoadNetwork.read(tmp_path)
    assert str(tmp_path.parent) not in str(refused.value)


@pytest.mark.shared_data
def test_a_real_network_has_its_unreachable_nodes_as_holes(shared_data: Path) -> None:
    network = RoadNetwork.read(shared_data / "roads_midtown")
    assert (len(network), network.refused) == (1601, ())
    ways = network.ways(range(0, 1601, 8), range(1601))
    reached = np.isfinite(ways.seconds)
    # 1,350 nodes reach each other; from and to the others some ways are missing
    assert reached.sum(axis=1).max() >= 1350
    assert 0 < np.count_nonzero(reached.sum(axis=1) < 1350) < 251
    assert (ways.metres[reached] <= ways.seconds[reached] * 300 / 3.6 + 0.1).all()
