"""A whole client of the sync protocol with the standard library alone, to be read beside README.md.

    device = Device("phone.db", "http://127.0.0.1:8000")
    device.enrol("K7TQ-29XM")
    device.write("job.arrive", "job", job_id, payload={})     # any time, without a line
    device.sync()                                             # whenever there is one
All is kept in one SQLite file. A process may end at any line: the next one opens it and goes on.
"""

import base64
import hashlib
import http.client
import json
import random
import sqlite3
import time
import urllib.request
import uuid
import zlib
from datetime import UTC, datetime

BOOT = str(uuid.uuid4())  # monotonic times can be compared only within one life of the process
TABLES = """
CREATE TABLE IF NOT EXISTS state (name TEXT PRIMARY KEY, value TEXT);
CREATE TABLE IF NOT EXISTS copy (entity TEXT, id TEXT, rev INTEGER, doc TEXT, PRIMARY KEY (entity, id));
CREATE TABLE IF NOT EXISTS outbox (seq INTEGER PRIMARY KEY, op_id TEXT, body TEXT, status TEXT, outcome TEXT);
INSERT OR IGNORE INTO state VALUES ('install_id', lower(hex(randomblob(16))));
"""
BATCH = """SELECT seq, body FROM (SELECT *, row_number() OVER (ORDER BY seq) AS n, sum(length(body) + 2) OVER
(ORDER BY seq) AS s FROM outbox WHERE status IS NULL AND body NOTNULL) WHERE n=1 OR (n <= ? AND s <= ?) ORDER BY seq"""
HELD = "SELECT entity, id, rev FROM copy WHERE (entity IN ('outcome', 'attachment')) = ? ORDER BY entity, id"
SETTLED = "UPDATE outbox SET outcome = ?, body = iif(sha256(body) = ?, NULL, body) WHERE op_id = ?"


class Refused(Exception):  # the service has understood, and says no; `code` is stable: docs/errors.md
    def __init__(self, status, problem):
        self.status, self.problem, self.code = status, problem, problem.get("type", "").rsplit("/", 1)[-1]
        super().__init__(f"{status} {self.code}: {problem.get('detail')}")


class Device:
    """One installation of an app. `tries` and `pause` say how stubborn it is while the line is bad."""

    def __init__(self, file, url, tries=8, pause=time.sleep):
        self.url, self.tries, self.pause = url, tries, pause
        self.db = sqlite3.connect(file, check_same_thread=False)  # one thread at a time
        self.db.executescript(TABLES)
        self.db.create_function("sha256", 1, lambda text: text and hashlib.sha256(text.encode()).hexdigest())

    def enrol(self, code):
        """Once, with a code from a supervisor. Again, with a new one, to move to another crew: push before."""
        told = self._call("POST", "enrol", {"code": code, "install_id": self._get("install_id")})
        with self.db:
            self._set(**{name: told[name] for name in ("token", "device_id", "crew_id")})

    def write(self, kind, entity, entity_id, **content):
        """Note what the crew has done (payload, or was and set): in an app together with what changes on its screen."""
        (seq,) = self.db.execute("SELECT coalesce(max(seq), 0) + 1 FROM outbox").fetchone()
        held = self.db.execute("SELECT rev FROM copy WHERE (entity, id) = (?, ?)", (entity, entity_id)).fetchone()
        op = {"op_id": str(uuid.uuid4()), "seq": seq, "kind": kind, "entity": entity, "entity_id": entity_id}
        op |= self.clocks("occurred_at") | {"schema_version": 1} | ({"base_rev": held[0]} if held else {}) | content
        with self.db:
            self.db.execute("INSERT INTO outbox VALUES (?, ?, ?, NULL, NULL)", (seq, op["op_id"], json.dumps(op)))
        return op["op_id"]

    def sync(self):
        """What to do whenever there is a line. Pushes go first: the crew's work is worth more than its news."""
        told = self.hello()
        self.push(told["limits"]["push_ops"], told["limits"]["push_bytes"], told["backoff_s"])
        self.pull(told["limits"]["pull_rows"])

    def hello(self):
        (pending,) = self.db.execute("SELECT count(*) FROM outbox WHERE status IS NULL").fetchone()
        told = self._call("POST", "hello", self.clocks("device_time") | {"pending": pending})
        with self.db:  # the service may have lost what it had answered (an older backup): it goes out again
            self.db.execute("UPDATE outbox SET status = NULL WHERE seq >= ? AND body NOTNULL", (told["next_seq"],))
        return told

    def push(self, most_ops=200, most_bytes=1 << 20, wait=0):
        """Send what has had no answer, in order, in batches within the limits (or one), as slowly as asked for."""
        while batch := self.db.execute(BATCH, (most_ops, most_bytes - 500)).fetchall():
            self.pause(wait)
            head = json.dumps({"install_id": self._get("install_id")} | self.clocks("device_time"))
            told = self._call("POST", "push", head[:-1] + ', "ops": [' + ", ".join(body for _, body in batch) + "]}")
            with self.db:
                self.db.executemany("UPDATE outbox SET status = :status WHERE op_id = :op_id", told["results"])
            wait = told["backoff_s"]

    def pull(self, limit=500):
        """Everything new. Changes and checkpoint are stored together: cut anywhere, nothing is lost or skipped."""
        while True:
            while self._get("checkpoint") is None:  # on a slow line it comes in several parts, and without old outcomes
                self.ask([op_id for (op_id,) in self.db.execute("SELECT op_id FROM outbox WHERE outcome IS NULL")])
                self._stubborn(self.snapshot)
            page = self._call("GET", f"pull?limit={limit}&cp={self._get('checkpoint')}")
            with self.db:
                self._take(page["changes"])
                self._set(checkpoint=None if page.get("reset") else page["checkpoint"])
            if not page["has_more"]:
                return

    def snapshot(self):
        """The copy anew, line by line; after a cut it goes on from the last position that was stored."""
        position = self._get("position")
        if position is None:
            self.db.execute("DELETE FROM copy")  # the outbox stays: it is the crew's work
        for told in map(json.loads, self._lines("GET", "snapshot" + (f"?after={position}" if position else ""))):
            if "op" in told:
                self._take([told])  # in one transaction with the position or checkpoint that follows
            else:
                self._set(position=told.get("position"), checkpoint=told.get("checkpoint"))
                self.db.commit()

    def _take(self, changes):
        for change in changes:
            key = (change["entity"], change["id"])
            self.db.execute("DELETE FROM copy WHERE (entity, id) = (?, ?)", key)
            if change["op"] == "put":
                self.db.execute("INSERT INTO copy VALUES (?,?,?,?)", (*key, change["rev"], json.dumps(change["doc"])))
                if change["entity"] == "outcome":
                    self._settle(change["doc"])

    def _settle(self, outcome):
        """What the crew did is let go when a receipt names its bytes. (An app checks its signature, too: Ed25519.)"""
        said = json.loads(base64.urlsafe_b64decode(outcome["receipt"].split(".")[1] + "=="))
        self.db.execute(SETTLED, (json.dumps(outcome), said["body_sha256"], outcome["op_id"]))

    def ask(self, op_ids):
        """What became of operations: status or outcome of each, `not_found` if it never arrived."""
        told = self._call("GET", "ops?ids=" + ",".join(op_ids[:200]))["results"] if op_ids else []
        with self.db:
            for outcome in filter(None, (one.get("outcome") for one in told)):
                self._settle(outcome)
        return {one["op_id"]: one["status"] for one in told} | (self.ask(op_ids[200:]) if told else {})

    def check(self, limit=500):
        """Compare the copy with the service and put right what differs. True: nothing did. Pull before."""
        right = True
        for scope, own in (f"crew:{self._get('crew_id')}", 0), (f"device:{self._get('device_id')}", 1):
            after = {"entity": "", "id": ""}
            while after:
                rows = self.db.execute(HELD, (own,)).fetchall()
                lines = "".join("{} {} {}\n".format(*row) for row in rows)
                rest = [row for row in rows if row[:2] > (after["entity"], after["id"])]
                told = {"rows": [dict(zip(("entity", "id", "rev"), row, strict=True)) for row in rest[:limit]]}
                told |= {"more": len(rest) > limit} | ({"after": after} if after["entity"] else {})
                told |= {"count": len(rows), "checksum": hashlib.sha256(lines.encode()).hexdigest()}
                answer = self._call("POST", "manifest", {"scopes": {scope: told}})
                if answer["ok"]:
                    break
                found, right = answer["scopes"][scope], False
                with self.db:
                    self._take(found["put"] + [{"op": "delete", **key} for key in found["delete"]])
                after = found["next"]
        return right

    def _call(self, method, path, body=None):
        data = None if body is None else (body if isinstance(body, str) else json.dumps(body)).encode()
        return self._stubborn(lambda: json.loads(b"".join(self._lines(method, path, data))))

    def _stubborn(self, ask, turn=1):
        """A lost answer, 429 and 5xx are asked for again, with the very same body: nothing is done twice by that."""
        wait = random.uniform(0.5, 1) * min(2**turn, 300)
        try:
            return ask()
        except urllib.request.HTTPError as error:
            with error:
                if error.code == 400 and self._get("position"):
                    self._set(position=None)  # it was of another life of the feed: begin anew
                elif turn == self.tries or (error.code != 429 and error.code < 500):
                    raise Refused(error.code, json.loads(error.read() or b"{}")) from None
                wait = max(wait, float(error.headers.get("Retry-After") or 0))
        except (OSError, EOFError, ValueError, http.client.HTTPException):
            if turn == self.tries:
                raise
        self.pause(wait)
        return self._stubborn(ask, turn + 1)

    def _lines(self, method, path, data=None):
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self._get('token')}"}
        headers["Accept-Encoding"] = "gzip"
        request = urllib.request.Request(f"{self.url}/sync/v1/{path}", data, headers, method=method)  # noqa: S310
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
            unpack = zlib.decompressobj(wbits=31).decompress if answer.headers["Content-Encoding"] == "gzip" else bytes
            rest = b""
            while data := answer.read1():
                *lines, rest = (rest + unpack(data)).split(b"\n")
                yield from lines
            yield from [rest] if rest else []

    def _get(self, name):
        return (self.db.execute("SELECT value FROM state WHERE name = ?", (name,)).fetchone() or [None])[0]

    def _set(self, **values):
        self.db.executemany("REPLACE INTO state VALUES (?, ?)", values.items())

    def clocks(self, name):
        now = datetime.now(UTC).astimezone().isoformat()
        return {name: now, "mono_ms": time.monotonic_ns() // 10**6, "boot_id": BOOT}
