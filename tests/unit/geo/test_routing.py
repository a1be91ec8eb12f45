"""Routing servers: what they answer, what they refuse, and what becomes of a plan while they are away.

The server here speaks their wire on a real socket, and can be told to misbehave.
"""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest

from fieldsvc.geo.pairs import PairCache
from fieldsvc.geo.routing import WIRES, Routed, RoutingServer
from fieldsvc.geo.travel import NO_WAY, Geodesic, Place

PLACES = [Place(111.0 + i / 100, 35.0) for i in range(4)]
Pair = tuple[tuple[float, float], tuple[float, float]]


def seconds(here: tuple[float, float], there: tuple[float, float]) -> float | None:
    """What the server here knows: 1 s for 0.001 degrees eastwards, twice that westwards, no way from the sea."""
    if here[0] < 0:
        return None
    return round((there[0] - here[0]) * 1000 if there[0] >= here[0] else (here[0] - there[0]) * 2000, 1)


class OffTheMap(Exception):
    """The server here has no road north of 60 degrees and refuses every question about it."""


@dataclass
class Fake:
    """A routing server of one kind; ``answer`` replaces what it would say, ``hang`` lets it say nothing."""

    url: str = ""
    asked: list[int] = field(default_factory=list)
    seen: list[dict[str, str]] = field(default_factory=list)
    status: int = 200
    answer: bytes | None = None
    hang: bool = False
    drip: bool = False
    snapped_m: float = 4.0
    verbose: bool = False
    done: threading.Event = field(default_factory=threading.Event)

    def osrm(self, path: str) -> dict[str, Any]:
        parts = urlsplit(path)
        asked = {
            name: [int(i) for i in value[0].split(";")]
            for name, value in parse_qs(parts.query).items()
            if name != "annotations"
        }
        points = [tuple(float(x) for x in point.split(",")) for point in parts.path.rpartition("/")[2].split(";")]
        assert parts.path.startswith("/maps/table/v1/driving/")
        table = [[seconds(points[i], points[j]) for j in asked["destinations"]] for i in asked["sources"]]
        self.asked.append(len(table) * len(table[0]))
        if any(lat > 60 for _lon, lat in points):
            raise OffTheMap
        way = [[None if cell is None else cell * 10 for cell in row] for row in table]
        found = {
            name: [{"distance": self.snapped_m if points[i][1] > 50 else 4.0} for i in asked[name]] for name in asked
        }
        return {"code": "Ok", "durations": table, "distances": way, **found}

    def valhalla(self, question: dict[str, Any]) -> dict[str, Any]:
        assert (question["costing"], question["units"]) == ("auto", "kilometers")
        sides = ([(p["lon"], p["lat"]) for p in question[name]] for name in ("sources", "targets"))
        origins, targets = sides
        table = [[seconds(here, there) for there in targets] for here in origins]
        self.asked.append(len(origins) * len(targets))
        if any(lat > 60 for _lon, lat in [*origins, *targets]):
            raise OffTheMap
        way = [[None if cell is None else cell / 100 for cell in row] for row in table]
        if self.verbose:
            cells = [
                [{"time": t, "distance": d} for t, d in zip(*row, strict=True)] for row in zip(table, way, strict=True)
            ]
            return {"sources_to_targets": cells, "units": "kilometers"}
        return {"sources_to_targets": {"durations": table, "distances": way}, "units": "kilometers"}


def handler(fake: Fake) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answered(lambda: fake.osrm(self.path))

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            assert self.path == "/maps/sources_to_targets"
            self.answered(lambda: fake.valhalla(body))

        def answered(self, asked: Callable[[], dict[str, Any]]) -> None:
            try:
                self.say(asked(), fake.status)
            except OffTheMap:
                self.say({"code": "NoSegment", "error_code": 171}, 400)

        def say(self, answer: dict[str, Any], status: int) -> None:
            fake.seen.append(dict(self.headers))
            if fake.hang:
                fake.done.wait(10)
                return
            body = json.dumps(answer).encode() if fake.answer is None else fake.answer
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            if fake.drip:
                for i in range(len(body)):
                    if fake.done.wait(0.05):
                        return
                    self.wfile.write(body[i : i + 1])
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            """Nothing."""

    return Handler


@pytest.fixture
def fake() -> Iterator[Fake]:
    told = Fake()
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(told))
    server.daemon_threads = False
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    told.url = f"http://127.0.0.1:{server.server_port}/maps/"
    try:
        yield told
    finally:
        told.done.set()
        server.shutdown()
        thread.join()
        server.server_close()


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def routed(fake: Fake, kind: str = "osrm", clock: Clock | None = None, timeout_s: float = 0.3) -> Routed:
    server = RoutingServer(WIRES[kind], fake.url, timeout_s=timeout_s, rest_s=30, **({"clock": clock} if clock else {}))
    return Routed(server, Geodesic(), PairCache())


@pytest.mark.parametrize(("kind", "verbose"), [("osrm", False), ("valhalla", False), ("valhalla", True)])
def test_times_and_metres_come_from_the_server_each_direction_its_own(fake: Fake, kind: str, verbose: bool) -> None:
    fake.verbose = verbose
    got = routed(fake, kind).matrix(PLACES[:3])
    assert got.seconds.tolist() == [[0, 10, 20], [20, 0, 10], [40, 20, 0]]
    assert got.metres.tolist() == [[0, 100, 200], [200, 0, 100], [400, 200, 0]]
    assert (got.report.provider, got.report.pairs, got.report.fallback, got.report.holes) == (kind, 6, 0, 0)
    assert got.report.notes == ()


@pytest.mark.parametrize("kind", WIRES)
def test_what_the_server_calls_null_is_no_way_and_not_a_guess(fake: Fake, kind: str) -> None:
    got = routed(fake, kind).matrix([*PLACES[:2], Place(-30.0, 35.0)])
    assert got.seconds[2].tolist() == [NO_WAY, NO_WAY, 0]
    assert got.seconds[0, 2] > 0
    assert (got.report.holes, got.report.fallback) == (2, 0)
    assert got.report.notes == (f"{kind} has no way for 2 pairs",)


@pytest.mark.parametrize(("kind", "side"), [("osrm", 100), ("valhalla", 50)])
@pytest.mark.parametrize("more", [0, 1])
def test_large_tables_are_asked_in_blocks_the_server_takes(fake: Fake, kind: str, side: int, more: int) -> None:
    places = [Place(111.0 + i / 1000, 35.0) for i in range(side + more)]
    got = routed(fake, kind, timeout_s=10).matrix(places)
    assert fake.asked == ([side * side, side, side, 1] if more else [side * side])
    expected = [[seconds(here[:2], there[:2]) for there in places] for here in places]
    assert np.abs(got.seconds - np.array(expected, dtype=float)).max() <= 0.5
    assert got.report.fallback == 0


@pytest.mark.parametrize(
    ("trouble", "says"),
    [
        ({"hang": True}, "did not answer within 0.3 s"),
        ({"drip": True}, "did not answer within 0.3 s"),
        ({"status": 500}, "answered 500"),
        ({"status": 403}, "answered 403"),
        ({"status": 302}, "answered 302"),
        ({"answer": b"<html>"}, "gave an answer that is none (not JSON)"),
        ({"answer": b"[]"}, "(not an object)"),
        ({"answer": b"{}"}, "gave an answer that is none"),
        ({"answer": b'{"code":"Ok","durations":[[0]],"distances":[[0]]}'}, "(times are not 2 × 2)"),
        ({"answer": b'{"code":"Ok","durations":[[0,1],[1,0]]}'}, "(no table)"),
        ({"answer": b'{"code":"Ok","durations":[[0,-1],[1,0]],"distances":[[0,1],[1,0]]}'}, "(times that are none)"),
        ({"answer": b'{"code":"Ok","durations":[[0,1e99],[1,0]],"distances":[[0,1],[1,0]]}'}, "(times that are none)"),
        (
            {"answer": b'{"code":"Ok","durations":[[0,1],[1,0]],"distances":[[0,"1"],[1,0]]}'},
            "(distances that are none)",
        ),
    ],
)
def test_a_server_that_fails_is_replaced_by_the_geodesic_and_the_report_says_so(
    fake: Fake, trouble: dict[str, Any], says: str
) -> None:
    for name, value in trouble.items():
        setattr(fake, name, value)
    got, straight = routed(fake).matrix(PLACES[:2]), Geodesic().matrix(PLACES[:2])
    assert np.array_equal(got.seconds, straight.seconds)
    assert np.array_equal(got.metres, straight.metres)
    assert (got.report.provider, got.report.fallback, got.report.holes) == ("osrm", 2, 0)
    (note,) = got.report.notes
    assert note.startswith("osrm at 127.0.0.1 ")
    assert says in note
    assert note.endswith(": 2 pairs from the geodesic")


@pytest.mark.parametrize(
    "body",
    [
        b'{"sources_to_targets":{"durations":[[0,1]],"distances":[[0,1],[1,0]]}}',
        b'{"sources_to_targets":[[{"time":0,"distance":0}],[]]}',
        b'{"sources_to_targets":"soon"}',
        b'{"error":"no"}',
    ],
)
def test_garbage_of_valhalla_is_no_travel_time(fake: Fake, body: bytes) -> None:
    fake.answer = body
    report = routed(fake, "valhalla").matrix(PLACES[:2]).report
    assert report.fallback == 2
    assert "valhalla at 127.0.0.1 gave an answer that is none" in report.notes[0]


def test_a_dead_server_costs_one_timeout_and_is_asked_again_after_a_rest(fake: Fake) -> None:
    clock = Clock()
    travel = routed(fake, clock=clock)
    fake.status = 503
    assert "answered 503" in travel.matrix(PLACES).report.notes[0]
    fake.status = 200
    clock.now += 29.9
    report = travel.matrix(PLACES).report
    assert len(fake.asked) == 1, "it is not bothered while it rests"
    assert (report.fallback, report.cached) == (12, 0)
    assert "left alone for a while, because it answered 503" in report.notes[0]
    clock.now += 0.2
    report = travel.matrix(PLACES).report
    assert (report.fallback, report.notes) == (0, ())


def test_what_was_answered_before_the_server_died_is_kept(fake: Fake) -> None:
    travel = routed(fake)
    travel.matrix(PLACES[:3])
    fake.status = 500
    report = travel.matrix(PLACES).report
    assert (report.pairs, report.cached, report.fallback) == (12, 6, 6)


def test_an_address_where_nobody_listens(fake: Fake) -> None:
    server = RoutingServer(WIRES["osrm"], "http://u:hunter2@127.0.0.1:1/secret-path")
    report = Routed(server, Geodesic()).matrix(PLACES).report
    assert report.notes == ("osrm at 127.0.0.1 cannot be reached: 12 pairs from the geodesic",)
    assert report.fallback == 12


def test_a_refused_question_is_no_reason_to_leave_the_server_alone(fake: Fake) -> None:
    fake.status, fake.answer = (
        400,
        b'{"code":"NoSegment","message":"Could not find a segment for coordinate 1"}',
    )
    travel = routed(fake)
    assert "refused a question (400)" in travel.matrix(PLACES).report.notes[0]
    fake.status, fake.answer = 200, None
    assert travel.matrix(PLACES).report.fallback == 0


@pytest.mark.parametrize("kind", WIRES)
def test_one_place_off_the_map_takes_the_roads_from_no_other(fake: Fake, kind: str) -> None:
    travel = routed(fake, kind)
    places = [*PLACES[:2], Place(111.0, 61.0), PLACES[2]]
    got, straight = travel.matrix(places), Geodesic().matrix(places)
    assert got.seconds[np.ix_([0, 1, 3], [0, 1, 3])].tolist() == [[0, 10, 20], [20, 0, 10], [40, 20, 0]]
    assert np.array_equal(got.seconds[2], straight.seconds[2])
    assert np.array_equal(got.seconds[:, 2], straight.seconds[:, 2])
    assert (got.report.fallback, got.report.holes) == (6, 0)
    assert got.report.notes == (
        f"places off the map of {kind} (refused, or more than 300 m away): 6 pairs from the geodesic",
    )
    assert fake.asked == [16, 1, 1, 1, 1, 9]
    again = travel.matrix(places)
    assert (again.report.cached, again.report.fallback, len(fake.asked)) == (12, 6, 6), "that is remembered, too"
    assert np.array_equal(again.seconds, got.seconds)


def test_nothing_but_places_off_the_map(fake: Fake) -> None:
    report = routed(fake).matrix([Place(111.0, 61.0), Place(111.1, 62.0)]).report
    assert (report.fallback, report.holes) == (2, 0)


def test_pairs_are_remembered_to_the_metre_and_only_new_ones_asked(fake: Fake) -> None:
    travel = routed(fake)
    first = travel.matrix(PLACES[:3])
    again = travel.matrix([Place(place.lon + 1e-6, place.lat) for place in PLACES[:3]])
    assert (fake.asked, again.report.cached) == ([9], 6)
    assert np.array_equal(first.seconds, again.seconds)
    more = travel.matrix(PLACES)
    assert fake.asked[1:] == [3, 4], "from the three to the new one, and from it to all"
    assert (more.report.pairs, more.report.cached) == (12, 6)
    assert np.array_equal(more.seconds, routed(fake).matrix(PLACES).seconds)


def test_places_at_one_spot_and_places_that_are_none(fake: Fake) -> None:
    got = routed(fake).matrix([PLACES[0], PLACES[0], PLACES[1], Place(float("nan"), 35.0)])
    assert got.seconds.tolist()[:3] == [[0, 0, 10, NO_WAY], [0, 0, 10, NO_WAY], [20, 20, 0, NO_WAY]]
    assert fake.asked == [4]
    assert (got.report.holes, got.report.fallback) == (6, 0)
    assert routed(fake).matrix([]).seconds.shape == (0, 0)


@pytest.mark.parametrize(("snapped_m", "off"), [(300.0, False), (300.1, True)])
def test_a_place_osrm_joins_to_a_road_far_away_goes_by_the_geodesic(fake: Fake, snapped_m: float, off: bool) -> None:
    fake.snapped_m = snapped_m
    travel = routed(fake)
    for cached in (0, 6):
        got = travel.matrix([*PLACES[:2], Place(111.5, 51.0)])
        assert (got.report.fallback, got.report.cached) == (4 if off else 0, cached)
        assert (
            any("off the map of osrm (refused, or more than 300 m away): 4 pairs" in note for note in got.report.notes)
            is off
        )
        assert got.seconds[0, 1] == 10


def test_user_and_password_of_the_address_are_sent_and_not_told(fake: Fake) -> None:
    fake.url = fake.url.replace("http://", "http://planner:hunter%2F2@")
    travel = routed(fake)
    assert travel.matrix(PLACES).report.fallback == 0
    sent = {name.lower(): value for name, value in fake.seen[0].items()}["authorization"]
    assert base64.b64decode(sent.removeprefix("Basic ")) == b"planner:hunter/2"
    fake.status = 401
    assert "hunter" not in " ".join(travel.matrix([Place(1, 1), *PLACES]).report.notes)


def test_many_threads_share_one_provider(fake: Fake) -> None:
    travel, got = routed(fake, timeout_s=10), []

    def ask(offset: int) -> None:
        got.append(travel.matrix(PLACES[offset:] + PLACES[:offset]))

    threads = [threading.Thread(target=ask, args=(i % 4,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 8
    assert {matrix.report.fallback for matrix in got} == {0}
