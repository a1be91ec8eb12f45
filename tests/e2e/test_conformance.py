"""The written conversations of the protocol, played against a running service; and the player itself can say no."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import services
from tests.processes import up

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "sync-protocol" / "conformance"


def load() -> Any:
    spec = importlib.util.spec_from_file_location("conformance_play", FOLDER / "play.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


play = load()
SCRIPTS: dict[str, Any] = play.scripts()


@pytest.fixture(scope="module")
def served(
    database: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, str]]:
    """(address, an admin's token) of one service."""
    folder = tmp_path_factory.mktemp("conformance")
    env: dict[str, str] = {}
    if database == "postgresql":
        server: services.Postgres = request.getfixturevalue("postgres")
        env = {"DATABASE_URL": server.database_url(server.create()), "FIELDSVC_SECRET_KEY": "a key for tests"}

    with up(folder, "--port", "0", env=env) as run:
        yield run.url(), run.token()


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_service_answers_as_written(served: tuple[str, str], name: str) -> None:
    play.Conversation(*served).play(SCRIPTS[name])


@pytest.mark.parametrize(
    ("expected", "got"),
    [
        (1, 2),
        ("a", None),
        ("$any", None),
        ({"a": 1}, {"a": 2}),
        ({"a": 1}, {}),
        ({"a": "$absent"}, {"a": 1}),
        ({"a": 1}, [1]),
        ([1], [1, 2]),
        ([], [1]),
        ({"$has": [1, 2]}, [2, 1]),
        ({"$has": [1]}, []),
        ({"$has": [1]}, None),
        ({"$one_of": [1, 2]}, 3),
    ],
)
def test_the_player_sees_what_differs(expected: Any, got: Any) -> None:
    with pytest.raises(play.Differs):
        play.check(expected, got, "")


@pytest.mark.parametrize(
    ("expected", "got"),
    [
        (1, 1),
        ("$any", 0),
        ({"a": 1}, {"a": 1, "b": 2}),
        ({"a": "$absent"}, {"b": 1}),
        ([{"a": 1}], [{"a": 1, "b": 2}]),
        ({"$has": [1, 3]}, [1, 2, 3]),
        ({"$one_of": [1, 2]}, 2),
    ],
)
def test_the_player_lets_pass_what_is_as_expected(expected: Any, got: Any) -> None:
    play.check(expected, got, "")


def test_a_conversation_that_goes_otherwise_is_told_by_its_step(served: tuple[str, str]) -> None:
    given = {"crews": ["north"], "phones": {"a": "north"}}
    step = {"note": "nothing is there", "as": "a", "send": "GET /sync/v1/pull", "answer": {"changes": []}}
    with pytest.raises(play.Differs, match=r"step 1 \(nothing is there\): /changes: expected \[\]"):
        play.Conversation(*served).play({"given": given, "steps": [step]})


def test_the_command_tells_each_and_its_status(served: tuple[str, str], tmp_path: Path) -> None:
    url, token = served
    run: Callable[..., Any] = subprocess.run
    command = [sys.executable, str(FOLDER / "play.py"), url, "duplicate"]
    done = run(command, env={"FIELDSVC_TOKEN": token}, capture_output=True, text=True)
    assert (done.returncode, done.stdout[:17]) == (0, "ok      duplicate"), done.stderr
    done = run([*command, "nothing"], env={"FIELDSVC_TOKEN": token}, capture_output=True, text=True)
    assert done.returncode == 1 and "no such conversation: nothing" in done.stderr
    done = run(command, env={}, capture_output=True, text=True)
    assert done.returncode == 2 and "FIELDSVC_TOKEN" in done.stderr
