"""The documented client against a running service: first sync, no line, cut lines, a new process, another life."""

from __future__ import annotations

import importlib.util
import itertools
import json
import select
import socket
import sqlite3
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from fieldsvc.cli import main
from tests.processes import Up, up, wait_for

ROOT = Path(__file__).resolve().parents[2]
CLIENT = ROOT / "docs" / "sync-protocol" / "client.py"
REPAIRED = {"cause_major": "lamp", "fault_place": "lamp 7", "ownership": "utility", "work_done": "lamp replaced"}


def load() -> Any:
    """The client as a module: a new process of the app would have it like this."""
    spec = importlib.util.spec_from_file_location("sync_client", CLIENT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


client = load()


class Line:
    """A bad line: a TCP proxy. `cut` looks at a request and says after how many bytes of its answer the line breaks."""

    def __init__(self, url: str) -> None:
        self.host, _, port = url.removeprefix("http://").partition(":")
        self.port = int(port)
        self.cut: Callable[[bytes], int | None] = lambda request: None
        self.requests: list[bytes] = []
        self.longest = 0
        self.dropped = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()

    def _serve(self) -> None:
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            with near, socket.create_connection((self.host, self.port)) as far:
                self._carry(near, far)

    def _carry(self, near: socket.socket, far: socket.socket) -> None:
        """One request and its answer; the client asks on a new connection each time."""
        sent, allowed, given = b"", None, 0
        while True:
            for one in select.select([near, far], [], [], 30)[0]:
                data = one.recv(65536)
                if not data:
                    return
                if one is near:
                    sent += data
                    far.sendall(data)
                    continue
                if not given:
                    self.requests.append(sent)
                    allowed = self.cut(sent)
                given += len(data)
                self.longest = max(self.longest, given)
                if allowed is not None and given > allowed:
                    near.sendall(data[: max(0, allowed - (given - len(data)))])
                    self.dropped += 1
                    return
                near.sendall(data)

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join(10)


class Office:
    """What the office does: through the API and the command line of the running service."""

    def __init__(self, run: Up, folder: Path) -> None:
        self.url, self.folder = run.url(), folder
        self._cli("users", "add", "boss", "--role", "admin", "--all-territories", "--generate")
        self.token = self._cli("users", "token", "boss")
        self.crew = ""
        self.crews = itertools.count(1)

    def _cli(self, *words: str) -> str:
        command = [sys.executable, "-m", "fieldsvc.cli", *words]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=True)
        return done.stdout.split()[-1]

    def post(self, path: str, body: Any = None) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        data = json.dumps(body or {}).encode()
        with urllib.request.urlopen(urllib.request.Request(self.url + path, data, headers), timeout=30) as answer:
            told: dict[str, Any] = json.load(answer)
            return told

    def code(self) -> str:
        """For a device of a new crew, the one that gets the jobs from now on."""
        number = next(self.crews)
        crew = {"code": f"C{number}", "name": f"Crew {number}", "skills": ["repair"]}
        self.crew = self.post("/v1/crews", crew)["id"]
        return str(self.post(f"/v1/crews/{self.crew}/enrolment-codes")["code"])

    def job(self) -> str:
        job = str(self.post("/v1/jobs", {"kind": "repair", "lon": 111.55, "lat": 35.45})["id"])
        self.post(f"/v1/jobs/{job}/assign", {"crew_id": self.crew})
        return job

    def change(self, statement: str) -> None:
        """What a restored backup or a fault of an app would leave."""
        with closing(sqlite3.connect(self.folder / "var" / "fieldsvc.db", timeout=30)) as database, database:
            database.execute(statement)


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    folder = tmp_path_factory.mktemp("service")
    with up(folder, "--port", "0") as run:
        yield Office(run, folder)


@pytest.fixture
def line(office: Office) -> Iterator[Line]:
    line = Line(office.url)
    yield line
    line.close()


@pytest.fixture
def device(office: Office, line: Line, tmp_path: Path) -> Iterator[Any]:
    device = client.Device(tmp_path / "phone.db", line.url, pause=lambda seconds: None)
    device.enrol(office.code())
    yield device
    device.db.close()


def copy(device: Any) -> dict[tuple[str, str], Any]:
    rows = device.db.execute("SELECT entity, id, doc FROM copy")
    return {(entity, entity_id): json.loads(doc) for entity, entity_id, doc in rows}


def outcomes(device: Any) -> list[str | None]:
    rows = device.db.execute("SELECT outcome FROM outbox ORDER BY seq")
    return [doc and json.loads(doc)["outcome"] for (doc,) in rows]


def settle(device: Any) -> list[str | None]:
    """Sync until every operation has its outcome."""

    def settled() -> bool:
        device.sync()
        return None not in outcomes(device)

    wait_for(settled)
    return outcomes(device)


def work(device: Any, job: str) -> None:
    device.write("job.arrive", "job", job, payload={})
    device.write("job.complete", "job", job, payload=REPAIRED)


def pushes(line: Line) -> list[Any]:
    bodies = [request.partition(b"\r\n\r\n")[2] for request in line.requests if b"/push " in request.split(b"\r\n")[0]]
    return [json.loads(body)["ops"] for body in bodies]


def test_a_first_sync_then_work_without_a_line(office: Office, device: Any) -> None:
    jobs = [office.job() for _ in range(3)]
    device.sync()
    assert {job for entity, job in copy(device) if entity == "job"} == set(jobs)
    for job in jobs:
        work(device, job)
    assert outcomes(device) == [None] * 6
    assert settle(device) == ["applied"] * 6
    assert {copy(device)["job", job]["status"] for job in jobs} == {"completed"}
    ids = [op_id for (op_id,) in device.db.execute("SELECT op_id FROM outbox ORDER BY seq")]
    assert device.ask([*ids, "unknown"]) == dict.fromkeys(ids, "applied") | {"unknown": "not_found"}
    assert device.check() is True


def test_answers_lost_after_sending_change_nothing(office: Office, device: Any, line: Line) -> None:
    job = office.job()
    device.sync()
    work(device, job)
    lost = iter([0, 0, 20])
    line.cut = lambda request: next(lost, None) if b"/push " in request.split(b"\r\n")[0] else None
    device.push(most_ops=1)
    assert line.dropped == 3
    sent = pushes(line)
    assert len(sent) == 5 and sent[0] == sent[1] == sent[2] == sent[3] != sent[4], "the very same, again"
    line.cut = lambda request: None
    assert settle(device) == ["applied", "applied"]
    assert [status for (status,) in device.db.execute("SELECT status FROM outbox")] == ["duplicate", "accepted"]
    assert copy(device)["job", job]["status"] == "completed"


def test_a_new_process_goes_on_from_the_file(office: Office, device: Any, line: Line, tmp_path: Path) -> None:
    job = office.job()
    device.sync()
    work(device, job)
    line.cut = lambda request: 0
    device.tries = 2
    with pytest.raises(OSError):
        device.push()
    assert line.dropped == 2
    device.db.close()
    line.cut = lambda request: None
    again = load().Device(tmp_path / "phone.db", line.url, pause=lambda seconds: None)
    with closing(again.db):
        assert settle(again) == ["applied", "applied"]
        assert copy(again)["job", job]["status"] == "completed"
        assert again.check() is True
    ops = [op["op_id"] for push in pushes(line) for op in push]
    assert len(set(ops)) == 2


def test_another_life_of_the_feed_drops_the_copy_and_keeps_the_work(office: Office, device: Any, line: Line) -> None:
    jobs = [office.job() for _ in range(260)]
    device.sync()
    work(device, jobs[0])
    office.change("UPDATE sync_epoch SET epoch = 'restored'")
    cuts = iter([line.longest // 3, line.longest * 7 // 8])  # among the first 200 lines, and behind them
    line.cut = lambda request: next(cuts, None) if b"/snapshot" in request.split(b"\r\n")[0] else None
    device.pull()
    assert line.dropped == 2
    asked = [request.split(b" ")[1] for request in line.requests if b"/snapshot" in request.split(b"\r\n")[0]]
    assert asked[:3] == [b"/sync/v1/snapshot"] * 3 and len(asked) == 4 and b"?after=" in asked[3], "it went on"
    assert {job for entity, job in copy(device) if entity == "job"} == set(jobs)
    assert settle(device) == ["applied", "applied"]
    assert device.check() is True


def test_a_position_of_another_life_is_given_up(office: Office, device: Any, line: Line) -> None:
    job = office.job()
    with device.db:
        device._set(position="of-another.life")
    device.sync()
    assert ("job", job) in copy(device)
    asked = [request.split(b" ")[1] for request in line.requests if b"/snapshot" in request.split(b"\r\n")[0]]
    assert asked == [b"/sync/v1/snapshot?after=of-another.life", b"/sync/v1/snapshot"]


def test_a_copy_that_differs_is_found_and_put_right(office: Office, device: Any) -> None:
    jobs = [office.job() for _ in range(5)]
    work(device, jobs[0])
    settle(device)
    right = copy(device)
    with device.db:
        device.db.execute("DELETE FROM copy WHERE entity = 'outcome'")
        device.db.execute("DELETE FROM copy WHERE id = ?", (jobs[1],))
        device.db.execute("UPDATE copy SET rev = 1, doc = '{}' WHERE id = ?", (jobs[2],))
        device.db.execute("INSERT INTO copy VALUES ('job', 'a ghost', 1, '{}')")
    assert device.check(limit=2) is False
    assert copy(device) == right
    assert device.check() is True


def test_what_the_service_lost_before_vouching_for_it_goes_out_again(office: Office, device: Any) -> None:
    device.sync()
    work(device, office.job())
    device.push()
    device.hello()
    assert device.db.execute("SELECT count(*) FROM outbox WHERE status IS NULL").fetchone() == (0,)
    office.change("UPDATE install SET next_seq = 2")
    device.hello()
    device.push()
    assert [status for (status,) in device.db.execute("SELECT status FROM outbox")] == ["accepted", "duplicate"]


def bodies(device: Any) -> list[bool]:
    return [held for (held,) in device.db.execute("SELECT body NOTNULL FROM outbox ORDER BY seq")]


def test_the_crews_work_is_let_go_of_when_a_receipt_names_its_bytes(office: Office, device: Any) -> None:
    job = office.job()
    device.sync()
    work(device, job)
    device.write("note.add", "job", job, payload={"text": "held otherwise"})
    device.push()
    assert bodies(device) == [True] * 3, "sent is not vouched for"
    with device.db:
        device.db.execute("UPDATE outbox SET body = body || ' ' WHERE seq = 3")
    assert settle(device) == ["applied"] * 3
    assert bodies(device) == [False, False, True]
    device.hello()
    device.push()
    device.write("note.add", "job", job, payload={"text": "the next"})
    assert settle(device) == ["applied"] * 4, "the count goes on"


def test_web_server_and_workers_sign_with_one_key_that_anybody_can_get(office: Office, device: Any) -> None:
    job = office.job()
    device.sync()
    device.write("job.arrive", "job", job, payload={})
    device.write("note.add", "job", job, payload={"text": "of the future"}, schema_version=99)
    assert settle(device) == ["applied", "rejected"], "by a worker, and at the door"
    with urllib.request.urlopen(f"{office.url}/sync/v1/keys", timeout=30) as answer:
        assert len(json.load(answer)["keys"]) == 1
    for (doc,) in device.db.execute("SELECT outcome FROM outbox"):
        checked = CliRunner().invoke(main, ["receipts", "verify", "-", "--keys", office.url], input=doc)
        assert checked.exit_code == 0, checked.output


def test_outcomes_the_feed_no_longer_tells_are_asked_for(office: Office, device: Any) -> None:
    device.sync()
    work(device, office.job())
    device.push()
    ids = [op_id for (op_id,) in device.db.execute("SELECT op_id FROM outbox")]
    wait_for(lambda: set(device.ask([*ids, "unknown"]).values()) == {"applied", "not_found"})
    with device.db:
        device.db.execute("UPDATE outbox SET outcome = NULL")
        device._set(checkpoint=None)
    office.change("DELETE FROM sync_feed WHERE entity = 'outcome'")
    device.pull()
    assert outcomes(device) == ["applied", "applied"]


def test_a_refusal_is_not_asked_for_again(office: Office, line: Line, tmp_path: Path) -> None:
    stranger = client.Device(tmp_path / "stranger.db", line.url, pause=lambda seconds: None)
    with closing(stranger.db):
        with pytest.raises(client.Refused, match="404 not-found"):
            stranger.enrol("NOTA-CODE")
        with pytest.raises(client.Refused, match="401 unauthenticated"):
            stranger.sync()
    assert len(line.requests) == 2


def test_the_client_is_short_and_needs_nothing() -> None:
    text = CLIENT.read_text(encoding="utf-8")
    assert text.count("\n") < 200
    imported = {line.split()[1].partition(".")[0] for line in text.splitlines() if line.startswith(("import", "from"))}
    assert imported <= sys.stdlib_module_names
