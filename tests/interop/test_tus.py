"""tuspy and tus-js-client, unchanged, against a running service that restarts in the middle or is away for a moment."""

from __future__ import annotations

import io
import json
import socket
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest
from tusclient import client as tuspy

from tests.evidence import UPLOADS, complete, entry, photo, stands
from tests.field import Phone
from tests.interop.conftest import HERE, NODE, Node
from tests.processes import wait_for
from tests.running import Running

PHOTO = photo(size=(2400, 1600)) + b"\0" * 3_000_000


@pytest.fixture
def phone(served: Running) -> Phone:
    return served.field.phone()


@pytest.fixture
def named(phone: Phone) -> dict[str, Any]:
    """A photo nobody has sent yet, named by a completion that has been pushed; ``data`` is its content."""
    data = PHOTO + phone.id.encode()
    found = entry(data)
    assert phone.push(complete(phone, phone.field.job("repair", phone.crew_id), found)) == ["awaiting_attachment"]
    return found | {"data": data}


def bearer(phone: Phone) -> str:
    return str(phone.client.environ_base["HTTP_AUTHORIZATION"])


def metadata(named: dict[str, Any]) -> dict[str, str]:
    return {"id": named["id"], "sha256": named["sha256"], "filename": "表.jpg", "filetype": "image/jpeg"}


def verified(phone: Phone, named: dict[str, Any]) -> None:
    wait_for(lambda: stands(phone, named, "verified"))


class Flaky:
    """A line on which the first ``refusals`` requests are answered 503, as by a proxy whose service is away."""

    def __init__(self, url: str, refusals: int) -> None:
        host, port = url.removeprefix("http://").split(":")
        self.far, self.refusals = (host, int(port)), refusals
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
            threading.Thread(target=self._carry, args=(near,)).start()

    def _carry(self, near: socket.socket) -> None:
        with near:
            if self.refusals:
                self.refusals -= 1
                near.recv(65536)
                near.sendall(b"HTTP/1.1 503 Away\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                near.shutdown(socket.SHUT_WR)
                while near.recv(65536):
                    pass
                return
            with socket.create_connection(self.far) as far:
                back = threading.Thread(target=self._pipe, args=(far, near))
                back.start()
                self._pipe(near, far)
                back.join()

    @staticmethod
    def _pipe(source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join(10)


@pytest.mark.parametrize("check", [False, True])
def test_tuspy_goes_on_after_the_server_was_restarted(
    served: Running, phone: Phone, named: dict[str, Any], check: bool
) -> None:
    tus = tuspy.TusClient(served.url + UPLOADS, headers={"Authorization": bearer(phone)})
    options = {"chunk_size": 500_000, "metadata": metadata(named), "upload_checksum": check}
    uploader = tus.uploader(file_stream=io.BytesIO(named["data"]), **options)
    uploader.upload(stop_at=1_000_000)
    assert uploader.offset == 1_000_000
    served.service.end_child("web")
    served.service.start_child("web")
    later = tus.uploader(file_stream=io.BytesIO(named["data"]), url=uploader.url, **options)
    assert later.get_offset() == 1_000_000
    later.upload()
    verified(phone, named)


def test_tuspy_sends_an_empty_file_and_is_told_so(served: Running, phone: Phone, named: dict[str, Any]) -> None:
    tus = tuspy.TusClient(served.url + UPLOADS, headers={"Authorization": bearer(phone)})
    tus.uploader(file_stream=io.BytesIO(b""), metadata=metadata(named)).upload()
    wait_for(lambda: stands(phone, named, "empty"))
    tus.uploader(file_stream=io.BytesIO(named["data"]), metadata=metadata(named)).upload()
    verified(phone, named)


@pytest.fixture
def file(tmp_path: Path, named: dict[str, Any]) -> Path:
    path = tmp_path / "photo.jpg"
    path.write_bytes(named["data"])
    return path


def env(served: Running, phone: Phone, named: dict[str, Any], **more: str) -> dict[str, str]:
    token = bearer(phone).removeprefix("Bearer ")
    return {"SERVER": served.url, "TOKEN": token, "METADATA": json.dumps(metadata(named))} | more


def test_tus_js_client_sends_a_file(
    served: Running, phone: Phone, named: dict[str, Any], file: Path, node: Node
) -> None:
    (said,) = node("tus.mjs", str(file), **env(served, phone, named))
    assert said["done"] and said["retried"] == 0
    verified(phone, named)


def test_tus_js_client_goes_on_in_another_process(
    served: Running, phone: Phone, named: dict[str, Any], file: Path, node: Node
) -> None:
    (first,) = node("tus.mjs", str(file), "600000", **env(served, phone, named))
    assert first["stopped"] >= 600_000
    (second,) = node("tus.mjs", str(file), **env(served, phone, named, UPLOAD=first["url"]))
    assert second["done"] and second["url"] == first["url"]
    verified(phone, named)


def test_tus_js_client_survives_a_restart_in_the_middle(
    served: Running, phone: Phone, named: dict[str, Any], file: Path
) -> None:
    # So many pieces that it is still sending, however late the server is killed on a busy machine.
    more = env(served, phone, named, CHUNK="10000", TELL="1", PATH="/usr/bin:/bin")
    with subprocess.Popen([NODE, HERE / "tus.mjs", file], cwd=HERE, env=more, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        assert json.loads(run.stdout.readline())["accepted"] > 0
        served.kill_web()
        said = [json.loads(line) for line in run.stdout]
    assert said[-1]["done"] and said[-1]["retried"] > 0
    verified(phone, named)


def test_tus_js_client_tries_again_after_503(
    served: Running, phone: Phone, named: dict[str, Any], file: Path, node: Node
) -> None:
    line = Flaky(served.url, refusals=3)
    try:
        (said,) = node("tus.mjs", str(file), **env(served, phone, named, SERVER=line.url))
    finally:
        line.close()
    assert said["done"] and said["retried"] == 3
    verified(phone, named)
