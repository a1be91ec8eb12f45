"""The app on a crew's phone: outbox, copy and state in one SQLite file; the process may end at any line.

It works as ``docs/sync-protocol`` tells a client to. What it is asked to do beside (send twice, in the wrong order, on
two connections at once) are things that happen to real ones.
"""

from __future__ import annotations

import gzip
import hashlib
import random
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import orjson

from fieldsvc.base.clock import new_id, utc_now
from fieldsvc.simulate.line import Answer, Line, LineDown

Doc = dict[str, Any]
APP_VERSION = "3.2.0"
FINAL = frozenset("applied merged applied_conflict parked forced superseded rejected resolved".split())
"""Outcomes an operation may end with."""

_TABLES = """
CREATE TABLE IF NOT EXISTS state (name TEXT PRIMARY KEY, value TEXT);
CREATE TABLE IF NOT EXISTS copy (entity TEXT, id TEXT, rev INTEGER, doc TEXT, hidden INTEGER DEFAULT 0,
    PRIMARY KEY (entity, id));
CREATE TABLE IF NOT EXISTS outbox (seq INTEGER PRIMARY KEY, op_id TEXT UNIQUE, about TEXT, body TEXT, status TEXT,
    outcome TEXT, wiped INTEGER DEFAULT 0);
CREATE TABLE IF NOT EXISTS told (n INTEGER PRIMARY KEY, op_id TEXT, rev INTEGER, outcome TEXT, doc TEXT);
CREATE TABLE IF NOT EXISTS photo (id TEXT PRIMARY KEY, op_id TEXT, sha256 TEXT, type TEXT, data BLOB, address TEXT,
    sent INTEGER DEFAULT 0, damaged INTEGER DEFAULT 0, told INTEGER DEFAULT 0);
CREATE TABLE IF NOT EXISTS plan (n INTEGER PRIMARY KEY, act TEXT);
"""
_KEEP_LAST = 12
"""How many operations that were answered may be sent once more."""


class Crash(Exception):
    """The app's process ends here, whatever it was doing."""


class Later(Exception):
    """The service asks to be left alone for ``seconds``, or cannot answer (429, 5xx)."""

    def __init__(self, status: int, seconds: float) -> None:
        self.status, self.seconds = status, seconds
        super().__init__(f"{status}, ask again in {seconds:g} s")


class TokenDead(Exception):
    """401: the device needs a new enrolment code."""


class Revoked(Exception):
    """403 ``device-revoked`` with ``wipe``: the device has removed what it held."""


class Broken(AssertionError):
    """The service has answered what it must never answer."""


@dataclass
class Clock:
    """What a phone's clocks show: ``error`` ahead of the right time, and a monotonic one since ``booted``."""

    error: timedelta
    booted: datetime
    boot_id: str = field(default_factory=new_id)

    def says(self, at: datetime) -> str:
        return (at + self.error).isoformat(timespec="milliseconds")

    def mono(self, at: datetime) -> int:
        """Milliseconds since the boot."""
        return round((at - self.booted) / timedelta(milliseconds=1))

    def marks(self, name: str, at: datetime) -> Doc:
        return {name: self.says(at), "mono_ms": self.mono(at), "boot_id": self.boot_id}


@dataclass
class Tally:
    """What a phone has met with, counted over all lives of its app."""

    statuses: Counter[str] = field(default_factory=Counter)
    answers: Counter[int] = field(default_factory=Counter)
    habits: Counter[str] = field(default_factory=Counter)
    crashes: Counter[str] = field(default_factory=Counter)
    repaired: int = 0
    resets: int = 0


def _nothing(point: str) -> None:
    return None


class App:
    """One life of the app's process.

    :param here: called at every point where a process may end; it may raise :class:`Crash`.
    """

    def __init__(
        self, file: Path, line: Line, clock: Clock, tally: Tally, here: Callable[[str], None] = _nothing
    ) -> None:
        self.line, self.clock, self.tally, self.here = line, clock, tally, here
        self._patient = False
        self.db = sqlite3.connect(file, timeout=30)
        self.db.execute("PRAGMA synchronous=OFF")
        self.db.execute("PRAGMA journal_mode=WAL")
        self.db.executescript(_TABLES)
        if self.get("install_id") is None:
            with self.db:
                self.set(install_id=new_id())

    def close(self) -> None:
        """End the process: what was not committed is gone."""
        self.db.close()
        self.line.drop()

    def get(self, name: str) -> str | None:
        row = self.db.execute("SELECT value FROM state WHERE name = ?", (name,)).fetchone()
        return row[0] if row else None

    def set(self, **values: str | None) -> None:
        self.db.executemany("REPLACE INTO state VALUES (?, ?)", values.items())

    def docs(self, *entities: str) -> dict[tuple[str, str], Doc]:
        """What the crew sees, by (entity, id)."""
        marks = ", ".join("?" * len(entities))
        where = f"AND entity IN ({marks})" if entities else ""
        rows = self.db.execute(f"SELECT entity, id, doc FROM copy WHERE NOT hidden {where}", entities)  # noqa: S608
        return {(entity, ident): orjson.loads(doc) for entity, ident, doc in rows}

    def waiting(self) -> int:
        """How many operations have had no answer."""
        (count,) = self.db.execute("SELECT count(*) FROM outbox WHERE status IS NULL AND NOT wiped").fetchone()
        return int(count)

    def undecided(self) -> list[str]:
        """Operations whose end the device does not know."""
        rows = self.db.execute("SELECT op_id FROM outbox WHERE outcome IS NULL AND NOT wiped ORDER BY seq")
        return [row[0] for row in rows]

    def write(self, kind: str, entity: str, entity_id: str, content: Doc, at: datetime) -> str:
        """Put down what the crew has done; the caller's transaction. Answers the op_id."""
        (seq,) = self.db.execute("SELECT coalesce(max(seq), 0) + 1 FROM outbox").fetchone()
        held = self.db.execute("SELECT rev, doc FROM copy WHERE (entity, id) = (?, ?)", (entity, entity_id)).fetchone()
        op = {"op_id": new_id(), "seq": seq, "kind": kind, "entity": entity, "entity_id": entity_id}
        op |= self.clock.marks("occurred_at", at) | {"schema_version": 1, "app_version": APP_VERSION}
        if held:
            op["base_rev"] = held[0]
            if entity == "job":
                op["assignment_rev"] = orjson.loads(held[1])["assignment_rev"]
        op |= content
        self.db.execute(
            "INSERT INTO outbox (seq, op_id, about, body) VALUES (?, ?, ?, ?)",
            (seq, op["op_id"], entity_id, orjson.dumps(op).decode()),
        )
        return str(op["op_id"])

    # -- the conversation ---------------------------------------------------------------------------------------------

    def enrol(self, code: str) -> None:
        """Turn a code into a token; again, with a new one, after a loss of it or to move to another crew."""
        body = {"code": code, "install_id": self.get("install_id"), "platform": "android 15"}
        told = self.call("POST", "enrol", body | {"app_version": APP_VERSION})
        self.here("enrolled, nothing stored")
        with self.db:
            self.set(**{name: told[name] for name in ("token", "device_id", "crew_id")})

    def sync(self, chance: random.Random, mess: float, patient: bool = False) -> None:
        """What to do whenever there is a line; the crew's work goes first.

        :param mess: the chance of each bad habit.
        :param patient: wait as long as the service asks for, instead of until the next time.
        """
        self._patient = self._patient or patient
        limits = self.hello()
        for batch in self._batches(chance, mess, limits["push_ops"]):
            self._push(batch, chance, mess)
        self.pull(chance.choice((7, 60, limits["pull_rows"])) if mess else limits["pull_rows"])
        if chance.random() < mess:
            self.check(limits["pull_rows"])

    def hello(self) -> Doc:
        """Says that the line is back; answers the limits.

        :raises Broken: the service has forgotten what it had answered.
        """
        told = self.call("POST", "hello", self.clock.marks("device_time", utc_now()) | {"pending": self.waiting()})
        first = self.db.execute("SELECT min(seq) FROM outbox WHERE status IS NULL").fetchone()[0]
        last = self.db.execute("SELECT coalesce(max(seq), 0) FROM outbox").fetchone()[0]
        if told["next_seq"] < (first or last + 1):
            raise Broken(f"next_seq is {told['next_seq']}, but everything below {first or last + 1} had an answer")
        if told["next_seq"] > last + 1:
            raise Broken(f"next_seq is {told['next_seq']}, but only {last} operations were ever written")
        limits: Doc = told["limits"]
        return limits

    def _batches(self, chance: random.Random, mess: float, most: int) -> list[list[tuple[int, str]]]:
        """What has had no answer, in order or not, and some of it twice; (seq, body) each."""
        waiting = self.db.execute("SELECT seq, body FROM outbox WHERE status IS NULL AND NOT wiped ORDER BY seq")
        due: list[tuple[int, str]] = waiting.fetchall()
        if mess and chance.random() < mess:
            sent = "SELECT seq, body FROM outbox WHERE status IS NOT NULL ORDER BY seq DESC LIMIT ?"
            due = sorted(due + self.db.execute(sent, (chance.randint(1, _KEEP_LAST),)).fetchall())
            self.tally.habits["sent again"] += 1
        size = chance.choice((1, 3, 8, most)) if mess else most
        batches = [due[start : start + size] for start in range(0, len(due), size)]
        if len(batches) > 1 and chance.random() < mess:
            chance.shuffle(batches)
            self.tally.habits["batches out of order"] += 1
        return batches

    def _push(self, batch: Sequence[tuple[int, str]], chance: random.Random, mess: float) -> None:
        """Send a batch and keep what was answered.

        :raises Broken: an answer for something else, or ``id_reuse`` for what was never changed.
        """
        rows = list(batch)
        if mess and chance.random() < mess / 2:
            rows.insert(chance.randrange(len(rows) + 1), chance.choice(rows))
            self.tally.habits["twice in a batch"] += 1
        if mess and chance.random() < mess / 2:
            chance.shuffle(rows)
            self.tally.habits["a batch out of order"] += 1
        head = {"install_id": self.get("install_id")} | self.clock.marks("device_time", utc_now())
        body = orjson.dumps(head | {"ops": [orjson.Fragment(row[1]) for row in rows]})
        self.here("before a push")
        if mess and chance.random() < mess / 3:
            results = self._twin(body, chance)
        else:
            results = self.call("POST", "push", body, packed=chance.random() < 0.5)["results"]
        self.here("push answered, nothing stored")
        asked = [orjson.loads(row[1])["op_id"] for row in rows]
        if [result["op_id"] for result in results] != asked:
            raise Broken(f"a push of {asked} was answered for {[result['op_id'] for result in results]}")
        with self.db:
            for result in results:
                self.tally.statuses[result["status"]] += 1
                if result["status"] == "id_reuse":
                    raise Broken(f"operation {result['op_id']} was never changed, and is refused as id_reuse")
                told = (result["status"], result["op_id"])
                self.db.execute("UPDATE outbox SET status = ? WHERE op_id = ?", told)
        self.here("push stored")

    def _twin(self, body: bytes, chance: random.Random) -> list[Doc]:
        """The same push on two connections at the same moment, as a retrying proxy makes it."""
        self.tally.habits["on two connections"] += 1
        path, headers = self._path("push"), self._headers(body)
        other = Line(self.line.url, random.Random(chance.random()))

        def send() -> None:
            try:
                other.call("POST", path, headers, body)
            except LineDown:
                pass
            finally:
                other.drop()

        beside = threading.Thread(target=send)
        beside.start()
        try:
            results: list[Doc] = self.call("POST", "push", body)["results"]
        finally:
            beside.join()
        return results

    def pull(self, limit: int) -> None:
        """Everything new, page by page; changes and checkpoint are stored together."""
        while True:
            if self.get("checkpoint") is None:
                self._snapshot()
            page = self.call("GET", f"pull?limit={limit}&cp={self.get('checkpoint')}")
            self.here("page received, nothing stored")
            with self.db:
                self._take(page["changes"])
                reset = bool(page.get("reset"))
                self.tally.resets += reset
                self.set(checkpoint=None if reset else page["checkpoint"])
            self.here("page stored")
            if not page["has_more"]:
                return

    def _snapshot(self) -> None:
        """The copy anew, line by line; after a cut it goes on from the last position that was stored."""
        position = self.get("position")
        if position is None:
            with self.db:
                self.db.execute("DELETE FROM copy")  # the outbox stays: it is the crew's work
        lines = self.line.lines(self._path("snapshot" + (f"?after={position}" if position else "")), self._headers())
        with closing(lines):
            status = int(next(lines))
            if status == 400:  # of another crew, or of another life of the feed
                with self.db:
                    self.set(position=None)
                raise LineDown("the position is of another copy: begin anew")
            if status != 200:
                self.refused("GET", "snapshot", Answer(status, {}, b"".join(lines)))
            piece: list[Doc] = []
            for told in map(_read, lines):
                if "op" in told:
                    piece.append(told)
                    continue
                self.here("snapshot piece received, nothing stored")
                with self.db:
                    self._take(piece)
                    self.set(position=told.get("position"), checkpoint=told.get("checkpoint"))
                piece = []
        if self.get("checkpoint") is None:
            raise LineDown("the snapshot ended before its checkpoint")

    def _take(self, changes: Iterable[Doc]) -> None:
        for change in changes:
            key = (change["entity"], change["id"])
            if change["op"] != "put":
                mine = self.db.execute("SELECT 1 FROM outbox WHERE about = ? AND outcome IS NULL", (key[1],)).fetchone()
                hide = "UPDATE copy SET hidden = 1 WHERE (entity, id) = (?, ?)"
                self.db.execute(hide if mine else "DELETE FROM copy WHERE (entity, id) = (?, ?)", key)
                continue
            doc = orjson.dumps(change["doc"]).decode()
            self.db.execute("REPLACE INTO copy VALUES (?, ?, ?, ?, 0)", (*key, change["rev"], doc))
            if change["entity"] == "outcome":
                self._told(change, doc)

    def _told(self, change: Doc, doc: str) -> None:
        """An operation's end is known: keep every different one that was ever told."""
        last = self.db.execute("SELECT doc FROM told WHERE op_id = ? ORDER BY n DESC", (change["id"],)).fetchone()
        if last is None or last[0] != doc:
            told = (change["id"], change["rev"], change["doc"]["outcome"], doc)
            self.db.execute("INSERT INTO told (op_id, rev, outcome, doc) VALUES (?, ?, ?, ?)", told)
        self.db.execute("UPDATE outbox SET outcome = ? WHERE op_id = ?", (doc, change["id"]))
        done = self.db.execute("SELECT about FROM outbox WHERE op_id = ?", (change["id"],)).fetchone()
        if done:
            still = "SELECT 1 FROM outbox WHERE outbox.about = copy.id AND outcome IS NULL"
            self.db.execute(f"DELETE FROM copy WHERE hidden AND id = ? AND NOT EXISTS ({still})", done)  # noqa: S608

    def scopes(self) -> dict[str, list[tuple[str, str, int]]]:
        """The rows (entity, id, rev) the device holds by scope, in the order of the checksum."""
        held = "SELECT entity, id, rev FROM copy WHERE NOT hidden ORDER BY entity, id"
        rows: dict[str, list[tuple[str, str, int]]] = {f"crew:{self.get('crew_id')}": []}
        mine = rows.setdefault(f"device:{self.get('device_id')}", [])
        for row in self.db.execute(held):
            (mine if row[0] in OF_DEVICE else rows[f"crew:{self.get('crew_id')}"]).append(row)
        return rows

    def manifest(self) -> Doc:
        """Whether the device holds what the service says it should: the answer, without a repair."""
        told: Doc = self.call("POST", "manifest", {"scopes": {scope: _sum(r) for scope, r in self.scopes().items()}})
        return told

    def check(self, limit: int) -> None:
        """Compare the copy with the service and put right what differs."""
        for scope in list(self.scopes()):
            after: Doc | None = {}
            while after is not None:
                rows = self.scopes()[scope]
                rest = [row for row in rows if not after or row[:2] > (after["entity"], after["id"])]
                told = _sum(rows) | {"more": len(rest) > limit}
                told["rows"] = [dict(zip(("entity", "id", "rev"), row, strict=True)) for row in rest[:limit]]
                answer = self.call("POST", "manifest", {"scopes": {scope: told | ({"after": after} if after else {})}})
                if answer["ok"]:
                    break
                found = answer["scopes"][scope]
                with self.db:
                    self._take(found["put"] + [{"op": "delete", **key} for key in found["delete"]])
                self.tally.repaired += len(found["put"]) + len(found["delete"])
                after = found["next"]

    def anew(self) -> dict[tuple[str, str], tuple[int, Doc]]:
        """What a snapshot holds now, beside the copy: (entity, id) → revision and document."""
        held: dict[tuple[str, str], tuple[int, Doc]] = {}
        position = ""
        for _ in range(60):
            try:
                for told in self._whole_snapshot(position):
                    if "op" in told:
                        held[told["entity"], told["id"]] = (told["rev"], told["doc"])
                    elif "checkpoint" in told:
                        return held
                    else:
                        position = f"?after={told['position']}"
            except Later as later:
                _pause.wait(min(later.seconds, 10))
        raise LineDown("the snapshot does not come to its end")

    def _whole_snapshot(self, position: str) -> Iterator[Doc]:
        with closing(self.line.lines(self._path("snapshot" + position), self._headers())) as lines:
            status = int(next(lines))
            if status != 200:
                self.refused("GET", "snapshot", Answer(status, {}, b"".join(lines)))
            yield from map(_read, lines)

    def patient(self) -> None:
        """From now on wait as long as the service asks for."""
        self._patient = True

    def ask(self, op_ids: Sequence[str]) -> list[Doc]:
        """What became of operations, at most 100 a question."""
        found: list[Doc] = []
        for start in range(0, len(op_ids), 100):
            found += self.call("GET", "ops?ids=" + ",".join(op_ids[start : start + 100]))["results"]
        return found

    def wipe(self) -> None:
        """Remove everything, as a lost device is told to. What was never answered goes with it, and is counted."""
        with self.db:
            self.db.execute("DELETE FROM copy")
            self.db.execute("DELETE FROM plan")
            self.db.execute("UPDATE photo SET data = NULL")
            self.db.execute("UPDATE outbox SET wiped = 1 WHERE status IS NULL")
            self.set(token=None, checkpoint=None, position=None, wiped="1")

    def call(self, method: str, path: str, body: Doc | bytes | None = None, packed: bool = False) -> Any:
        """One request, asked again once after a fault of the line; the decoded answer.

        :raises LineDown: the second time.
        :raises Later, TokenDead, Revoked, Broken: as they say.
        """
        data = body if isinstance(body, bytes | None) else orjson.dumps(body)
        headers = self._headers(data)
        if packed and data is not None:
            data, headers["Content-Encoding"] = gzip.compress(data, 1), "gzip"
        tries = 8 if self._patient else 2
        for turn in range(1, tries + 1):
            try:
                answer = self.line.call(method, self._path(path), headers, data)
                self.tally.answers[answer.status] += 1
                if answer.status < 400:
                    return answer.json()
                self.refused(method, path, answer)
            except LineDown:
                if turn == tries:
                    raise
            except Later as later:
                if turn == tries or not self._patient:
                    raise
                _pause.wait(min(later.seconds, 10))
        raise AssertionError("not reached")

    def raw(self, method: str, path: str, headers: Doc, body: bytes | None) -> Answer:
        """One request as it is, asked again a few times where the service is busy; whatever the answer says.

        :raises LineDown, Later, TokenDead, Revoked, Broken: as :meth:`call`.
        """
        for turn in range(1, 30):
            answer = self.line.call(method, path, headers, body)
            self.tally.answers[answer.status] += 1
            try:
                if answer.status in (401, 403, 429) or answer.status >= 500:
                    self.refused(method, path, answer)
                return answer
            except Later as later:
                if not self._patient or turn == 29:
                    raise
                _pause.wait(min(later.seconds, 10))
        raise AssertionError("not reached")

    def refused(self, method: str, path: str, answer: Answer) -> None:
        """Raise what an answer of 400 or more means."""
        problem = answer.json() or {}
        code = str(problem.get("type", "")).rsplit("/", 1)[-1]
        if answer.status == 500:
            raise Broken(f"{method} {path}: 500 {problem.get('detail')}")
        if answer.status in (429, 502, 503, 504):
            raise Later(answer.status, float(answer.headers.get("Retry-After", 1)))
        if answer.status == 401:
            raise TokenDead
        if answer.status == 403 and problem.get("wipe"):
            raise Revoked
        if code in ("code-used", "code-expired"):
            raise TokenDead
        raise Broken(f"{method} {path}: {answer.status} {code} {problem.get('detail')} {problem.get('errors', '')}")

    def _path(self, path: str) -> str:
        return f"/sync/v1/{path}"

    def _headers(self, data: bytes | None = None) -> dict[str, str]:
        headers = {"Accept-Encoding": "gzip"}
        if token := self.get("token"):
            headers["Authorization"] = f"Bearer {token}"
        if data is not None:
            headers["Content-Type"] = "application/json"
        return headers


OF_DEVICE = ("attachment", "outcome")
"""Entities in the scope of the device; everything else is in the scope of its crew."""

_pause = threading.Event()


def _read(line: bytes) -> Doc:
    try:
        found: Doc = orjson.loads(line)
    except orjson.JSONDecodeError:
        raise LineDown("a line was cut off") from None
    return found


def _sum(rows: Sequence[tuple[str, str, int]]) -> Doc:
    """Count and checksum of a scope."""
    lines = "".join(f"{entity} {ident} {rev}\n" for entity, ident, rev in rows)
    return {"count": len(rows), "checksum": hashlib.sha256(lines.encode()).hexdigest()}
