"""Words of the console: every code has one in every language, every sentence of a room a translation."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from fieldsvc import kinds
from fieldsvc.console.words import LANGUAGES, patterns, translated, vocabulary
from fieldsvc.geo.model import REASONS as UNASSIGNED
from fieldsvc.kinds.base import REASONS
from fieldsvc.kinds.lifecycle import STATUSES
from fieldsvc.people.actors import ROLES
from fieldsvc.sync.receive import TERMINAL
from tools import catalogue

ROOT = Path(__file__).resolve().parents[2]

_MACHINES = {
    "Ed25519",
    "EdDSA",
    "OKP",
    "Point",
    "feature",
    "sig",
    "put",
    "delete",
    "leave",
    "transfer",
    "set",
    "customers",
}
_NOT_SHOWN = set("awaiting complete cut_twice outcomes reported".split())

_SPEAK = {"Invalid", "field", "Conflict", "Forbidden", "Refusal", "Said", "Left", "Judged"}
"""What makes a sentence for a person out of its arguments."""
_VALUE_ALONE = re.compile(r"(X1[:/; ]*)+|X1 has no shift from nowX1")
"""Put together of values alone, or of clauses that are translated each for itself."""
_ROOMS = ("people", "work", "geo", "history")


def enumerated(node: Any) -> Iterator[str]:
    """Every value of every enumeration in a part of the API's description."""
    if isinstance(node, dict):
        yield from (str(value) for value in node.get("enum", []) if value) if isinstance(node.get("enum"), list) else ()
        for inner in node.values():
            yield from enumerated(inner)
    elif isinstance(node, list):
        for inner in node:
            yield from enumerated(inner)


def test_every_code_of_the_api_has_a_word_in_every_language() -> None:
    described = yaml.safe_load((ROOT / "openapi.yaml").read_text(encoding="utf-8"))
    codes = set(enumerated(described)) | set(STATUSES) | set(ROLES) | REASONS | TERMINAL | set(UNASSIGNED)
    codes |= {operation.replace(".", "_") for kind in kinds.discover().values() for operation in kind.operations}
    known = vocabulary()
    assert sorted(codes - set(known) - _MACHINES - _NOT_SHOWN) == []
    assert [code for code, words in known.items() if set(words) != set(LANGUAGES) or not all(words.values())] == []


def spoken(path: Path) -> Iterator[tuple[int, str]]:
    """Line and English of each sentence that a module makes for people, with ``X1`` for its values."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call) or ast.unparse(node.func).split(".")[-1] not in _SPEAK:
            continue
        named = [keyword.value for keyword in node.keywords if keyword.arg in (None, "detail", "reason")]
        for argument in [*node.args, *named]:
            parts = [argument.body, argument.orelse] if isinstance(argument, ast.IfExp) else [argument]
            for text in filter(None, map(sample, parts)):
                if " " in text.strip():
                    yield node.lineno, text


def sample(node: ast.expr) -> str | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "X1" for part in node.values)
    return None


def test_every_sentence_a_room_makes_for_people_is_translated() -> None:
    missing = [
        f"{path.relative_to(ROOT)}:{line}: {text}"
        for room in _ROOMS
        for path in sorted((ROOT / "fieldsvc" / room).rglob("*.py"))
        for line, text in spoken(path)
        if _VALUE_ALONE.fullmatch(text) is None and translated(text, "zh") is None
    ]
    assert missing == [], "add them to fieldsvc/console/sentences.toml"


def test_a_translation_names_no_value_that_its_sentence_lacks() -> None:
    for pattern, translation in patterns("zh", "."):
        assert translation.format_map(dict.fromkeys(pattern.groupindex, "x"))


@pytest.mark.parametrize(
    ("english", "chinese"),
    [
        ("must have 10 to 200 characters", "长度须为 10 至 200 个字符"),
        ("there is no job 123", "没有工单 123"),
        ("must be one of repair, meter_change", "须为以下之一：抢修，换表"),
        (
            "MN-2 lacks metering (skill needed: metering; it has: repair, inspection)",
            "MN-2 缺少计量（需要技能：计量；现有：抢修，检查）",
        ),
        (
            "M-2 could: begins at 10:30 as stop 2 of 5, 3 min of driving more (+1 km); B-1, which has it, adds 3 min",
            "M-2 可以承担：10:30 开始，第 2 站（共 5 站），多行驶 3 分钟（+1 千米）；现持有的 B-1 增加 3 分钟",
        ),
        ("3 crews lack metering, 2 are off shift", "3 个班组缺少计量，2 个班组不在班"),
        ("a text that somebody typed", None),
    ],
)
def test_a_sentence_is_translated_by_its_pattern_with_its_values(english: str, chinese: str | None) -> None:
    assert translated(english, "zh") == chinese


def test_a_text_of_commas_costs_no_more_than_its_length() -> None:
    assert translated(", ".join(["somebody typed this"] * 2000), "zh") is None


def test_the_catalogues_have_everything_the_console_says() -> None:
    wanted = catalogue.gathered()
    assert len(wanted) > 20
    assert [fault for language in catalogue.LANGUAGES for fault in catalogue.faults(language, wanted)] == []
