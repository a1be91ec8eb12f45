"""Travel times from a routing server: OSRM's table service, or Valhalla's time-distance matrix, over HTTP.

A server that fails costs one timeout and is then left alone for a while; its pairs come from the geodesic, and the
report says so. Nothing is asked twice. Texts name the server's host and no more of its address.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol
from urllib.parse import unquote, urlsplit

import httpx
import numpy as np
import orjson
from numpy.typing import NDArray

from fieldsvc.geo.pairs import NO_ROAD, OFF_NETWORK, PairCache, Ways
from fieldsvc.geo.travel import Geodesic, Matrix, Place, completed, coordinates, noted, on_earth

Point = tuple[float, float]
"""Longitude and latitude, rounded to about a metre."""

_DIGITS = 5
_LONGEST_S = 30 * 86_400.0
_LONGEST_M = 4e7
_LARGEST_ANSWER = 32 * 1024 * 1024


class Question(NamedTuple):
    """One HTTP request, its path below the server's address."""

    method: str
    path: str
    params: dict[str, str]
    body: bytes | None


class Garbage(ValueError):
    """An answer that is none; the text says what is wrong with it."""


class Wire(Protocol):
    """How a kind of server is asked."""

    @property
    def name(self) -> str: ...

    @property
    def side(self) -> int:
        """The most origins, and the most destinations, of one question."""
        ...

    def question(self, origins: Sequence[Point], destinations: Sequence[Point]) -> Question: ...

    def ways(self, answer: Any, rows: int, columns: int, reach_m: float) -> Ways:
        """What a parsed answer says.

        :raises Garbage: it is not one to this question.
        """
        ...


@dataclass(frozen=True)
class Osrm:
    """https://project-osrm.org/docs/v5.24.0/api/#table-service; it takes 100 × 100 places unless told otherwise."""

    name: str = "osrm"
    side: int = 100

    def question(self, origins: Sequence[Point], destinations: Sequence[Point]) -> Question:
        at = {point: i for i, point in enumerate(dict.fromkeys([*origins, *destinations]))}
        points = ";".join(f"{lon:.{_DIGITS}f},{lat:.{_DIGITS}f}" for lon, lat in at)
        params = {
            "sources": ";".join(str(at[point]) for point in origins),
            "destinations": ";".join(str(at[point]) for point in destinations),
            "annotations": "duration,distance",
        }
        return Question("GET", f"/table/v1/driving/{points}", params, None)

    def ways(self, answer: Any, rows: int, columns: int, reach_m: float) -> Ways:
        if answer.get("code") != "Ok":
            raise Garbage("no code Ok")
        ways = _ways(answer.get("durations"), answer.get("distances"), rows, columns, 1.0)
        for axis, (side, count) in enumerate((("sources", rows), ("destinations", columns))):
            waypoints = answer.get(side)
            if isinstance(waypoints, list) and len(waypoints) == count:
                # It joins a place to its nearest road however far that is, and says so.
                far = [_snapped_m(waypoint) > reach_m for waypoint in waypoints]
                ways.seconds[(np.array(far), slice(None)) if axis == 0 else (slice(None), np.array(far))] = OFF_NETWORK
        return ways


@dataclass(frozen=True)
class Valhalla:
    """https://valhalla.github.io/valhalla/api/matrix/api-reference/; it takes 2,500 pairs unless told otherwise."""

    name: str = "valhalla"
    side: int = 50

    def question(self, origins: Sequence[Point], destinations: Sequence[Point]) -> Question:
        body = {
            "sources": [{"lon": lon, "lat": lat} for lon, lat in origins],
            "targets": [{"lon": lon, "lat": lat} for lon, lat in destinations],
            "costing": "auto",
            "units": "kilometers",
            "verbose": False,
        }
        return Question("POST", "/sources_to_targets", {}, orjson.dumps(body))

    def ways(self, answer: Any, rows: int, columns: int, reach_m: float) -> Ways:
        table = answer.get("sources_to_targets")
        if isinstance(table, dict):
            return _ways(table.get("durations"), table.get("distances"), rows, columns, 1000.0)
        # Servers before 3.5 know no other form than this one.
        cells = [[cell if isinstance(cell, dict) else {} for cell in row] for row in _rows(table)]
        times, distances = ([[cell.get(name) for cell in row] for row in cells] for name in ("time", "distance"))
        return _ways(times, distances, rows, columns, 1000.0)


WIRES: dict[str, Wire] = {wire.name: wire for wire in (Osrm(), Valhalla())}


class _Refused(Exception):
    """The server does not answer this question; another it may."""


class _Down(Exception):
    """The server does not answer; the text says how that showed."""


class RoutingServer:
    """A server and how it is getting on. Safe to share between threads and to carry into a forked process.

    :param url: with path, user and password where the server wants them.
    :param timeout_s: how long one question may take, the answer's last byte included.
    :param rest_s: how long the server is left alone once it has failed.
    """

    def __init__(
        self,
        wire: Wire,
        url: str,
        *,
        timeout_s: float = 5.0,
        rest_s: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        parts = urlsplit(url)
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        port = f":{parts.port}" if parts.port else ""
        self.wire = wire
        self.host = parts.hostname or ""
        self._base = f"{parts.scheme}://{host}{port}{parts.path.rstrip('/')}"
        self._auth = (unquote(parts.username), unquote(parts.password or "")) if parts.username else None
        self._timeout_s = timeout_s
        self._rest_s = rest_s
        self._clock = clock
        self._asleep_until = -1.0
        self._why = ""
        # Proxies and certificates of the environment are not looked at, those of the system are.
        self._tls = httpx.create_ssl_context(trust_env=False)
        self._tls.load_default_certs()

    def ways(self, origins: Sequence[Point], destinations: Sequence[Point], reach_m: float) -> tuple[Ways, list[str]]:
        """Ways as far as the server answers, else unknown, and what went wrong, in words."""
        found = Ways.unknown(len(origins), len(destinations))
        if self._clock() < self._asleep_until:
            return found, [f"{self.wire.name} at {self.host} is left alone for a while, because it {self._why}"]
        troubles: list[str] = []
        alone: dict[Point, bool] = {}
        with httpx.Client(verify=self._tls, trust_env=False, timeout=self._timeout_s, auth=self._auth) as client:

            def ask(here: Sequence[Point], there: Sequence[Point]) -> Ways:
                return self._read(self._answer(client, self.wire.question(here, there)), len(here), len(there), reach_m)

            for rows, columns in _tiles(len(origins), len(destinations), self.wire.side):
                try:
                    part = _block(ask, origins[rows], destinations[columns], alone)
                except _Refused as refusal:
                    troubles.append(f"{self.wire.name} at {self.host} {refusal}")
                    continue
                except _Down as failure:
                    self._why = str(failure)
                    self._asleep_until = self._clock() + self._rest_s
                    troubles.append(f"{self.wire.name} at {self.host} {failure}")
                    break
                found.seconds[rows, columns], found.metres[rows, columns] = part
        return found, list(dict.fromkeys(troubles))

    def _answer(self, client: httpx.Client, question: Question) -> Any:
        latest = self._clock() + self._timeout_s
        headers = {"content-type": "application/json"} if question.body is not None else {}
        body = bytearray()
        try:
            with client.stream(
                question.method,
                self._base + question.path,
                params=question.params,
                content=question.body,
                headers=headers,
            ) as response:
                for piece in response.iter_bytes():
                    body += piece
                    if self._clock() > latest:
                        raise _Down(f"did not answer within {self._timeout_s:g} s")
                    if len(body) > _LARGEST_ANSWER:
                        raise _Down("answered without end")
        except httpx.TimeoutException:
            raise _Down(f"did not answer within {self._timeout_s:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL):
            raise _Down("cannot be reached") from None
        if response.status_code == 400:
            raise _Refused("refused a question (400); the limit of its tables may be low")
        if response.status_code != 200:
            raise _Down(f"answered {response.status_code}")
        return body

    def _read(self, body: bytes, rows: int, columns: int, reach_m: float) -> Ways:
        try:
            answer = orjson.loads(body)
            if not isinstance(answer, dict):
                raise Garbage("not an object")
            return self.wire.ways(answer, rows, columns, reach_m)
        except (orjson.JSONDecodeError, Garbage) as fault:
            text = str(fault) if isinstance(fault, Garbage) else "not JSON"
            raise _Down(f"gave an answer that is none ({text})") from None


@dataclass(frozen=True)
class Routed:
    """Travel times from a routing server; from the geodesic where it has no answer.

    Pairs it knows no way between are :data:`NO_WAY`. Places are rounded to about a metre before it is asked, so that
    what is remembered and what is asked anew are the same.

    :param reach_m: a place further than this from the road the server found is off its map, if it says how far it is.
    """

    server: RoutingServer
    geodesic: Geodesic
    cache: PairCache = field(default_factory=PairCache)
    reach_m: float = 300.0

    @property
    def name(self) -> str:
        return self.server.wire.name

    def matrix(self, places: Sequence[Place]) -> Matrix:
        """See :class:`TravelTimes`."""
        lonlat = coordinates(places)
        real = np.flatnonzero(on_earth(lonlat))
        rounded = [(round(lon, _DIGITS), round(lat, _DIGITS)) for lon, lat in lonlat[real].tolist()]
        points = list(dict.fromkeys(rounded))
        at = {point: i for i, point in enumerate(points)}
        point_of = np.array([at[point] for point in rounded], dtype=np.intp)
        troubles: list[str] = []

        def ask(rows: Sequence[int], columns: Sequence[int]) -> Ways:
            ways, trouble = self.server.ways([points[i] for i in rows], [points[j] for j in columns], self.reach_m)
            troubles.extend(trouble)
            return ways

        ways, before = self.cache.ways(points, ask)
        seconds, metres = np.full((2, len(places), len(places)), np.nan)
        here, of = np.ix_(real, real), np.ix_(point_of, point_of)
        seconds[here], metres[here] = ways.seconds[of], ways.metres[of]
        cached = np.zeros(seconds.shape, dtype=bool)
        cached[here] = before[of] & ~np.equal.outer(point_of, point_of)
        off = seconds == OFF_NETWORK
        seconds[off] = np.nan
        matrix = completed(self.name, self.geodesic, places, seconds, metres, cached)
        return noted(matrix, self._notes(matrix, seconds, int(np.count_nonzero(off)), dict.fromkeys(troubles)))

    def _notes(self, matrix: Matrix, seconds: NDArray[np.float64], off: int, troubles: Iterable[str]) -> Iterator[str]:
        if failed := matrix.report.fallback - off:
            yield f"{'; '.join(troubles)}: {failed} pairs from the geodesic"
        if off:
            where = f"places off the map of {self.name} (refused, or more than {self.reach_m:g} m away)"
            yield f"{where}: {off} pairs from the geodesic"
        if holes := int(np.count_nonzero(np.isinf(seconds))):
            yield f"{self.name} has no way for {holes} pairs"


def _block(
    ask: Callable[[Sequence[Point], Sequence[Point]], Ways],
    origins: Sequence[Point],
    destinations: Sequence[Point],
    alone: dict[Point, bool],
) -> Ways:
    """One question, and where it is refused, the same without the places that are refused alone, too.

    Servers refuse a whole table for one place that is off their map; without this, one job at sea would take the roads
    from all that are planned with it.

    :param alone: which places have been taken alone; is added to.
    """
    try:
        return ask(origins, destinations)
    except _Refused:
        for point in dict.fromkeys([*origins, *destinations]):
            if point not in alone:
                alone[point] = _taken(ask, point)
        rows = [i for i, point in enumerate(origins) if alone[point]]
        columns = [j for j, point in enumerate(destinations) if alone[point]]
        if not (rows or columns) or (len(rows) == len(origins) and len(columns) == len(destinations)):
            raise  # it is not for one place
    ways = Ways(*np.zeros((2, len(origins), len(destinations)), np.float32))
    ways.seconds[:] = OFF_NETWORK
    if rows and columns:
        here = np.ix_(rows, columns)
        ways.seconds[here], ways.metres[here] = ask([origins[i] for i in rows], [destinations[j] for j in columns])
    return ways


def _taken(ask: Callable[[Sequence[Point], Sequence[Point]], Ways], point: Point) -> bool:
    try:
        ask([point], [point])
    except _Refused:
        return False
    return True


def _tiles(rows: int, columns: int, side: int) -> Iterator[tuple[slice, slice]]:
    for top in range(0, rows, side):
        for left in range(0, columns, side):
            yield slice(top, top + side), slice(left, left + side)


def _ways(durations: Any, distances: Any, rows: int, columns: int, metres_each: float) -> Ways:
    seconds = _table(durations, "times", rows, columns, _LONGEST_S)
    metres = _table(distances, "distances", rows, columns, _LONGEST_M / metres_each) * metres_each
    return Ways(np.where(np.isnan(seconds), NO_ROAD, seconds).astype(np.float32), metres.astype(np.float32))


def _table(table: Any, what: str, rows: int, columns: int, most: float) -> NDArray[np.float64]:
    """The cells as numbers, NaN for null."""
    cells = _rows(table)
    if len(cells) != rows or any(len(row) != columns for row in cells):
        raise Garbage(f"{what} are not {rows} × {columns}")
    if not all(cell is None or (type(cell) in (int, float) and 0 <= cell <= most) for row in cells for cell in row):
        raise Garbage(f"{what} that are none")
    return np.array(cells, dtype=np.float64).reshape(rows, columns)


def _rows(table: Any) -> list[list[Any]]:
    if not isinstance(table, list) or not all(isinstance(row, list) for row in table):
        raise Garbage("no table")
    return table


def _snapped_m(waypoint: Any) -> float:
    distance = waypoint.get("distance") if isinstance(waypoint, dict) else None
    return float(distance) if isinstance(distance, int | float) else 0.0
