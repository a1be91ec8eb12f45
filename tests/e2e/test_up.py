"""`fieldsvc up` as its user meets it: processes, signals, ports, data directory; and the supervisor's own promises."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from redis import Redis
from rq import Worker

from fieldsvc.cli import main
from fieldsvc.config import Settings
from fieldsvc.embedded import Service, StartError, settle, socket_path
from fieldsvc.schema import is_current, migrate
from tests.processes import descendants, get, is_running, up, wait_for


def test_up_in_an_empty_folder_serves_and_ends_clean_on_ctrl_c(tmp_path: Path) -> None:
    with up(tmp_path, "--port", "0") as run:
        url = run.url()
        assert get(f"{url}/healthz") == 200
        children = descendants(run.process.pid)
        assert len(children) >= 5, "Redis, web server with its processes, two workers"
        assert (tmp_path / "var" / "fieldsvc.db").exists()
        assert stat.S_IMODE((tmp_path / "var" / "secret_key").stat().st_mode) == 0o600
        assert stat.S_IMODE((tmp_path / "var").stat().st_mode) == 0o700
        assert run.end(signal.SIGINT) == 0
        assert run.lines[-1] == "ended"
        wait_for(lambda: not any(is_running(child) for child in children))
        assert list((tmp_path / "var" / "redis" / "appendonlydir").iterdir()), "Redis kept what it was told"


def test_nothing_survives_when_up_itself_is_killed_and_the_next_one_starts(tmp_path: Path) -> None:
    with up(tmp_path, "--port", "0") as run:
        run.url()
        children = descendants(run.process.pid)
        assert children
        run.process.kill()
        run.end()
        wait_for(lambda: not any(is_running(child) for child in children))
    with up(tmp_path, "--port", "0") as again:
        assert get(f"{again.url()}/healthz") == 200
        assert again.end() == 0


def test_a_port_that_is_taken_is_named_and_nothing_is_left_running(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with up(tmp_path, "--port", str(port)) as run:
            assert run.process.wait(40) == 1
            run.reader.join(10)
            assert f"port {port} on 127.0.0.1 is taken; choose another with --port" in run.output
            assert "Traceback" not in run.output


def test_without_a_port_the_first_free_one_is_taken(tmp_path: Path) -> None:
    with up(tmp_path, "--workers", "0") as one, up(tmp_path, "--workers", "0", "--data-dir", "other") as two:
        urls = {one.url(), two.url()}
        assert len(urls) == 2
        assert all(8000 <= int(url.rsplit(":", 1)[1]) <= 8099 for url in urls)


def test_a_second_service_in_the_same_data_directory_is_refused(tmp_path: Path) -> None:
    with up(tmp_path, "--port", "0", "--workers", "0") as first:
        first.url()
        with up(tmp_path, "--port", "0") as second:
            assert second.process.wait(40) == 1
            second.reader.join(10)
            assert f"is in use by a running service (process {first.process.pid})" in second.output
        assert get(f"{first.url()}/healthz") == 200


def test_a_setting_that_cannot_be_used_is_explained_in_one_line(tmp_path: Path) -> None:
    with up(tmp_path, env={"FIELDSVC_SWEEP_INTERVAL": "often"}) as run:
        assert run.process.wait(40) == 1
        run.reader.join(10)
        assert run.lines == ["Error: FIELDSVC_SWEEP_INTERVAL must be a whole number of at least 1, not 'often'"]


def test_a_database_that_does_not_answer_is_explained_without_a_traceback(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    url = f"postgresql://someone:secret@127.0.0.1:{port}/nothing"
    with up(tmp_path, "--port", "0", env={"DATABASE_URL": url}) as run:
        assert run.process.wait(40) == 1
        run.reader.join(10)
        assert run.output.startswith("Error: the database cannot be used: ")
        assert "Traceback" not in run.output
        assert "secret" not in run.output


def test_a_data_directory_that_cannot_be_made_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with up(tmp_path, "--data-dir", "file/var") as run:
        assert run.process.wait(40) == 1
        run.reader.join(10)
        assert run.output.startswith("Error: the data directory cannot be used: ")


def test_a_redis_that_is_away_is_said_and_does_not_keep_the_service_down(tmp_path: Path) -> None:
    env = {"REDIS_URL": f"unix://{tmp_path}/nobody.sock"}
    with up(tmp_path, "--port", "0", "--workers", "1", env=env) as run:
        assert get(f"{run.url()}/healthz") == 200
        assert "does not answer" in run.lines[0]


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def service(tmp_path: Path, said: list[str]) -> Iterator[Service]:
    settings = settle(Settings(data_dir=tmp_path / "data"), tmp_path / "data")
    with Service(settings, port=0, say=said.append) as service:
        yield service


def test_every_child_that_dies_is_started_again(service: Service, said: list[str]) -> None:
    names = ("redis", "web", "worker-1", "worker-2")
    before = {name: service.pid(name) for name in names}
    for name in names:
        service.kill(name)
    wait_for(lambda: all(service.pid(name) != before[name] and is_running(service.pid(name)) for name in names))
    assert get(f"{service.url}/healthz") == 200
    assert {line.split()[0] for line in said} == set(names)


def test_requests_during_a_restart_of_the_web_server_wait_instead_of_failing(service: Service) -> None:
    for _ in range(3):
        service.end_child("web")
        starting = threading.Timer(0.3, service.start_child, args=["web"])
        starting.start()
        assert get(f"{service.url}/healthz") == 200
        starting.join()


def test_redis_keeps_its_data_through_a_restart(service: Service) -> None:
    with Redis.from_url(service.settings.redis_url or "") as redis:
        redis.set("kept", "yes")
    service.restart_redis()
    with Redis.from_url(service.settings.redis_url or "") as redis:
        assert redis.get("kept") == b"yes"


def test_the_database_is_migrated_before_anything_is_served(service: Service) -> None:
    assert is_current(service.settings)


def test_the_secret_key_stays_the_same_from_start_to_start(tmp_path: Path) -> None:
    first, second = (settle(Settings(), tmp_path).secret_key for _ in range(2))
    assert first == second
    assert len(first) == 64


def test_a_data_directory_with_a_long_path_still_gets_a_socket(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["a folder with a long name"] * 5)
    deep.mkdir(parents=True)
    path = socket_path(deep)
    assert len(os.fsencode(path)) < 100
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    settings = settle(Settings(data_dir=deep), deep)
    with Service(settings, port=0, workers=0) as service:
        assert get(f"{service.url}/healthz") == 200


def test_a_folder_with_blanks_and_any_letters_is_no_trouble(tmp_path: Path) -> None:
    folder = tmp_path / "field work 100% 测试"
    folder.mkdir()
    with up(folder, "--port", "0", "--workers", "1") as run:
        url = run.url()
        assert get(f"{url}/healthz") == 200
        with Redis(unix_socket_path=str(socket_path(folder / "var"))) as redis:
            wait_for(lambda: Worker.count(redis) == 1)
        assert run.end() == 0
    assert "starting it again" not in run.output


def test_stopping_twice_or_before_starting_is_no_trouble(tmp_path: Path) -> None:
    service = Service(settle(Settings(data_dir=tmp_path), tmp_path), port=0, workers=0)
    service.stop()
    for _ in range(2):
        service.start()
        assert is_running(service.pid("redis"))
        service.stop()
        service.stop()
    with pytest.raises(StartError, match="not running"):
        service.restart_redis()


@pytest.mark.parametrize("command", [["up", "--port", "0"], ["migrate"], ["users", "list"]])
@pytest.mark.parametrize("what", ["newer", "text"])
def test_a_database_of_something_else_is_explained_and_left_alone(
    tmp_path: Path, command: list[str], what: str
) -> None:
    path = tmp_path / "fieldsvc.db"
    if what == "text":
        path.write_text("not a database " * 100)
    else:
        migrate(Settings(database_url=f"sqlite:///{path}"))
        with sqlite3.connect(path) as connection:
            connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.close()
    before = path.read_bytes()
    answer = CliRunner().invoke(main, [*command, "--data-dir", str(tmp_path)])
    assert answer.exit_code == 1
    assert answer.output.startswith("Error: the database cannot be used: ")
    assert len(answer.output.strip().splitlines()) == 1
    assert path.read_bytes() == before


def test_a_key_file_left_empty_by_a_crash_gets_its_key(tmp_path: Path) -> None:
    (tmp_path / "secret_key").touch()
    key = settle(Settings(), tmp_path).secret_key
    assert len(key) == 64 and settle(Settings(), tmp_path).secret_key == key
