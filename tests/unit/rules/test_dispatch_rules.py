from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import pytest

from fieldsvc import rules
from fieldsvc.geo.goals import goals_of
from fieldsvc.rules import NoRule, RuleError
from fieldsvc.rules.loader import PACKS

TODAY = date(2026, 11, 22)


def entry(of: str, name: str, value: str, since: date = TODAY) -> str:
    keys = f'of = "{of}"\nname = "{name}"\nvalue = {value}\n'
    return f'[[entry]]\n{keys}effective_from = {since}\nedition = "e"\nsource = "a test"\n'


def written(folder: Path, *entries: str) -> Path:
    (folder / "mine.toml").write_text('pack = "dispatch"\n' + "".join(entries), "utf-8")
    return folder


def test_every_rule_of_dispatch_has_a_source():
    found = rules.load().dispatch(TODAY)
    assert list(found.tiers) == ["hazard", "emergency", "important", "at_risk", "planned"]
    assert len(found.sources) == len(found.hard) + len(found.tiers) + len(found.goals)
    assert all(found.sources.values())


def test_a_new_edition_changes_a_plan_from_its_date_on(tmp_path: Path):
    changed = entry("hard", "equipment", "false") + entry(
        "tier", "vip", "{ rank = 3, weight = 20, soonest = true, in_time = true }"
    )
    book = rules.load_folder(PACKS, written(tmp_path, changed, entry("goal", "overtime_min", "30")))
    before, after = (goals_of(book.dispatch(day)) for day in (TODAY - timedelta(days=1), TODAY))
    assert (before.off, before.overtime_min, "vip" in before.tiers) == (frozenset(), 0, False)
    assert (after.off, after.overtime_min, after.tiers["vip"].soonest) == (frozenset({"equipment"}), 30, True)


def test_what_nobody_has_said_is_not_guessed(tmp_path: Path):
    with pytest.raises(NoRule, match="no rule in dispatch for at_risk_min"):
        rules.load_folder(written(tmp_path, entry("hard", "skill", "true"))).dispatch(TODAY)


@pytest.mark.parametrize(
    ("of", "name", "value"),
    [
        ("tier", "hazard", "{ rank = 1, weight = 1, soonest = true, in_time = true }"),
        ("tier", "hazard", "{ rank = 100, weight = 100, soonest = false, in_time = true }"),
        ("goal", "lateness_steps_min", "[0]"),
        ("goal", "lateness_steps_min", "[0, 1, 2, 3, 4, 5, 6, 7, 8, 1440]"),
        ("goal", "overtime_min", "720"),
        ("goal", "effort", "5"),
    ],
)
def test_what_a_rule_may_be(tmp_path: Path, of: str, name: str, value: str):
    assert isinstance(rules.load_folder(written(tmp_path, entry(of, name, value))), rules.RuleBook)


@pytest.mark.parametrize(
    ("of", "name", "value", "fault"),
    [
        ("soft", "skill", "true", "of must be hard, tier or goal"),
        ("hard", "luck", "true", "name must be one of break, capacity"),
        ("hard", "skill", "1", "true or false"),
        ("tier", "hazard", "1", "{rank, weight, soonest, in_time}"),
        ("tier", "hazard", "{ rank = 1, weight = 1, soonest = 1, in_time = true }", "soonest and in_time must be"),
        ("tier", "hazard", "{ rank = 0, weight = 1, soonest = true, in_time = true }", "from 1 to 100"),
        ("tier", "hazard", "{ rank = 1, weight = 101, soonest = true, in_time = true }", "from 1 to 100"),
        ("goal", "speed", "1", "name must be one of"),
        ("goal", "lateness_steps_min", "[]", "1 to 10"),
        ("goal", "lateness_steps_min", "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]", "1 to 10"),
        ("goal", "lateness_steps_min", "[30, 0]", "rising"),
        ("goal", "lateness_steps_min", "[0, 1441]", "from 0 to 1440"),
        ("goal", "overtime_min", "721", "from 0 to 720"),
        ("goal", "effort", "6", "from 0 to 5"),
        ("goal", "effort", "true", "from 0 to 5"),
    ],
)
def test_what_it_may_not_be(tmp_path: Path, of: str, name: str, value: str, fault: str):
    with pytest.raises(RuleError, match=fault):
        rules.load_folder(written(tmp_path, entry(of, name, value)))
