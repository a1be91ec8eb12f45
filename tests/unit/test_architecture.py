"""The house rules, held by machine: layers, commits, clocks, who may call a route, what is documented."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from inspect import isfunction
from pathlib import Path

import pytest
from flask import Flask
from jinja2 import Environment, nodes

from fieldsvc import kinds
from fieldsvc.app import create_app
from fieldsvc.base.errors import CODES
from fieldsvc.config import Settings
from fieldsvc.queue import QUEUE_OF
from tools import errors_page
from workers import tasks

ROOT = Path(__file__).resolve().parents[2]


@cache
def modules(*folders: str) -> dict[str, ast.Module]:
    """Path below the checkout -> syntax tree, of every Python file in ``folders``."""
    return {
        path.relative_to(ROOT).as_posix(): ast.parse(path.read_text(encoding="utf-8"))
        for folder in folders
        for path in sorted((ROOT / folder).rglob("*.py"))
    }


def service() -> dict[str, ast.Module]:
    return modules("fieldsvc", "workers", "migrations")


def places(trees: dict[str, ast.Module], wanted: type[ast.AST]) -> Iterator[tuple[str, ast.AST]]:
    for path, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, wanted):
                yield path, node


def dotted(node: ast.AST) -> str:
    """``a.b.c`` for an attribute or a name, else an empty string."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def where(path: str, node: ast.AST) -> str:
    return f"{path}:{getattr(node, 'lineno', 0)}"


def calls_ending(trees: dict[str, ast.Module], *names: str) -> list[tuple[str, str]]:
    """(path, path:line) of calls whose dotted name is, or ends with, one of ``names``."""
    found = []
    for path, node in places(trees, ast.Call):
        name = dotted(node.func)  # type: ignore[attr-defined]
        if any(name == wanted or name.endswith(f".{wanted}") for wanted in names):
            found.append((path, where(path, node)))
    return found


def test_import_linter_finds_every_layer_in_order() -> None:
    command = [sys.executable, "-c", "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports())"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]


def test_only_the_database_module_commits() -> None:
    outside = [line for path, line in calls_ending(service(), "commit") if path != "fieldsvc/base/db.py"]
    assert outside == []


def test_only_the_settings_read_the_environment() -> None:
    outside = [
        where(path, node)
        for path, node in places(service(), ast.Attribute)
        if dotted(node) in ("os.environ", "os.getenv", "os.environb") and path != "fieldsvc/config.py"
    ]
    outside += [
        where(path, node)
        for path, node in places(service(), ast.ImportFrom)
        if node.module == "os" and {name.name for name in node.names} & {"environ", "getenv"}  # type: ignore[attr-defined]
    ]
    assert outside == []


def test_only_the_clock_reads_the_wall_clock() -> None:
    names = ("datetime.now", "datetime.utcnow", "datetime.today", "date.today", "time.time")
    outside = [line for path, line in calls_ending(service(), *names) if path != "fieldsvc/base/clock.py"]
    assert outside == []


def test_no_code_outside_the_kinds_asks_which_kind_a_job_is() -> None:
    names = set(kinds.discover())
    outside = []
    for path, node in places(modules("fieldsvc", "workers"), ast.Compare):
        if path.startswith(("fieldsvc/kinds/", "fieldsvc/demo/", "fieldsvc/simulate/")):
            continue
        sides = [node.left, *node.comparators]  # type: ignore[attr-defined]
        constants = {inner.value for side in sides for inner in ast.walk(side) if isinstance(inner, ast.Constant)}
        if constants & names:
            outside.append(where(path, node))
    assert outside == [], "a fourth kind would be forgotten here: ask the kind itself"


def test_kinds_do_not_import_each_other() -> None:
    own = {f"fieldsvc.kinds.{name}" for name in kinds.discover()}
    wrong = []
    for path, node in places(modules("fieldsvc/kinds"), ast.ImportFrom):
        if "fieldsvc.kinds." + Path(path).stem not in own:
            continue
        imported = {f"{node.module}.{name.name}" for name in node.names} | {node.module}  # type: ignore[attr-defined]
        wrong += [where(path, node)] if imported & own else []
    assert wrong == []


def test_tests_do_not_sleep_and_patch_nothing_of_ours() -> None:
    trees = modules("tests")
    assert [line for _, line in calls_ending(trees, "sleep")] == []
    imports = [*places(trees, ast.ImportFrom), *places(trees, ast.Import)]
    assert [where(path, node) for path, node in imports if "mock" in ast.unparse(node)] == []
    patched = [
        where(path, node)
        for path, node in places(trees, ast.Call)
        if dotted(node.func).endswith("monkeypatch.setattr")  # type: ignore[attr-defined]
    ]
    assert patched == []


@pytest.mark.parametrize("folder", ["fieldsvc", "workers", "tests", "migrations", "bench", "tools"])
def test_files_and_functions_stay_short_enough_to_read(folder: str) -> None:
    too_long = []
    for path, tree in modules(folder).items():
        if path.startswith("migrations/versions/"):
            continue
        lines = (ROOT / path).read_text(encoding="utf-8").count("\n")
        if lines > 600:
            too_long.append(f"{path}: {lines} lines")
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno
                too_long += [f"{where(path, node)} {node.name}: {length} lines"] if length > 60 else []
    assert too_long == []


def test_names_say_what_a_thing_is_for() -> None:
    empty = re.compile(r"(Manager|Helper|Utils?)\b")
    named = [where(path, node) for path, node in places(service(), ast.ClassDef) if empty.search(node.name)]  # type: ignore[attr-defined]
    named += [path for path in service() if empty.search(Path(path).stem.title())]
    assert named == []


@pytest.fixture(scope="module")
def app() -> Flask:
    return create_app(Settings(database_url="sqlite://", secret_key="not used to sign anything"))


def test_every_route_says_who_may_call_it(app: Flask) -> None:
    statement = re.compile(r"staff: (any staff|[a-z, ]+)|device|public: .{10,}")
    silent = []
    for rule in app.url_map.iter_rules():
        view = app.view_functions[rule.endpoint]
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            handler = getattr(getattr(view, "view_class", None), method.lower(), view)
            if not statement.fullmatch(getattr(handler, "__access__", "")):
                silent.append(f"{method} {rule.rule}")
    assert silent == [], "decorate with staff(...), device() or public(reason)"


def test_every_error_code_is_documented_with_its_status() -> None:
    page = ROOT / "docs" / "errors.md"
    assert page.read_text(encoding="utf-8") == errors_page.text(), "run `python -m tools.errors_page`"


def test_every_error_code_raised_is_on_the_list() -> None:
    raised = {
        (path, node.args[0].value)  # type: ignore[attr-defined]
        for path, node in places(service(), ast.Call)
        if dotted(node.func).endswith("FieldsvcError") and node.args and isinstance(node.args[0], ast.Constant)  # type: ignore[attr-defined]
    }
    assert {f"{path}: {code}" for path, code in raised if code not in CODES} == set()


def test_every_task_that_is_rung_for_exists() -> None:
    there = {name for name, value in vars(tasks).items() if isfunction(value) and "is_task" in vars(value)}
    assert set(QUEUE_OF) == there
    rung = {
        node.args[0].value  # type: ignore[attr-defined]
        for _, node in places(service(), ast.Call)
        if dotted(node.func).split(".")[-1] == "ring" and isinstance(node.args[0], ast.Constant)  # type: ignore[attr-defined]
    }
    assert rung <= there


def test_a_page_uses_the_pieces_of_its_frame_inside_of_its_blocks_only() -> None:
    """Outside of them the frame has not been read yet, and what is set there fails where it is shown."""
    env, outside = Environment(extensions=["jinja2.ext.do"]), []
    for path in sorted((ROOT / "fieldsvc/console/templates").glob("*.html")):
        body = env.parse(path.read_text(encoding="utf-8")).body
        if not any(isinstance(node, nodes.Extends) for node in body):
            continue
        own = {node.target for node in body if isinstance(node, nodes.Import)}
        rest = [node for node in body if not isinstance(node, nodes.Block | nodes.Import | nodes.Macro)]
        used = {name.name for node in rest for name in node.find_all(nodes.Name)}
        outside += [f"{path.name}: parts"] if "parts" in used - own else []
    assert outside == []


def test_the_lock_files_name_no_host_and_every_line_has_its_hash() -> None:
    for name in ("requirements.lock", "requirements-dev.lock"):
        text = (ROOT / name).read_text(encoding="utf-8")
        assert "://" not in text
        assert text.count("==") <= text.count("--hash=sha256:")
