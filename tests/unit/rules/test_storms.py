from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from fieldsvc import rules
from fieldsvc.geo.storms import REASONS
from fieldsvc.rules import RuleError

TODAY = date(2026, 11, 21)
NEAR = "near_in_space_and_time"


def pack(rule: str, value: str) -> str:
    entry = f'rule = "{rule}"\nvalue = {value}\neffective_from = 2020-01-01\nedition = "first"\nsource = "a source"\n'
    return 'pack = "storms"\n[[entry]]\n' + entry


def test_every_reason_has_its_limits_with_a_source():
    found = rules.load().storms(TODAY)
    assert set(found) == {*REASONS, "kinds", "never", "surge"}
    assert found["kinds"].value == ["repair"] and "metering" in found["never"].value
    assert all(answer.source for answer in found.values())


@pytest.mark.parametrize(
    ("rule", "value"),
    [
        ("same_transformer_area", "{ minutes = 1, propose = 2 }"),
        ("same_transformer_area", "{ minutes = 1440, propose = 2, merge = 2 }"),
        (NEAR, "{ minutes = 1, propose = 2, metres = 5000 }"),
        ("never", "[]"),
        ("surge", "{ minutes = 30, calls = 2 }"),
    ],
)
def test_what_a_limit_may_be(tmp_path: Path, rule, value):
    (tmp_path / "pack.toml").write_text(pack(rule, value), "utf-8")
    assert set(rules.load_folder(tmp_path).storms(TODAY)) == {rule}


@pytest.mark.parametrize(
    ("rule", "value", "fault"),
    [
        ("same_street", "{ minutes = 1, propose = 2 }", "rule must be one of"),
        ("same_feeder", "{ minutes = 0, propose = 2 }", "from 1 to 1440"),
        ("same_feeder", "{ minutes = 1, propose = 1 }", "from 2 to"),
        ("same_feeder", "{ minutes = 1, propose = 3, merge = 2 }", "from 3 to"),
        ("same_feeder", "{ minutes = 1, propose = 2, metres = 5 }", "value must be"),
        (NEAR, "{ minutes = 1, propose = 2 }", "metres"),
        (NEAR, "{ minutes = 1, propose = 2, metres = 5001 }", "from 1 to 5000"),
        ("kinds", '"repair"', "list of names"),
        ("never", "[1]", "list of names"),
        ("surge", "{ minutes = 30 }", "value must be"),
        ("surge", "{ minutes = 30, calls = 1 }", "from 2 to"),
    ],
)
def test_what_it_may_not_be(tmp_path: Path, rule, value, fault):
    (tmp_path / "pack.toml").write_text(pack(rule, value), "utf-8")
    with pytest.raises(RuleError, match=fault):
        rules.load_folder(tmp_path)
