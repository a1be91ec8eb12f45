"""The packs of planned work: at what hours, with what numbers, and which packs stop the start."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from fieldsvc import rules
from fieldsvc.geo.model import Window
from fieldsvc.rules import RuleError
from fieldsvc.work import windows

TODAY = date(2026, 11, 21)
SHANGHAI = ZoneInfo("Asia/Shanghai")


def hours(kind: str, customer_class: str, importance: str) -> list[tuple[str, str]]:
    answer = rules.load().windows(kind, customer_class, importance, TODAY)
    return [(one["from"], one["to"]) for one in answer.value] if answer else []


@pytest.mark.parametrize(
    ("customer_class", "importance", "expected"),
    [
        ("hospital", "special", [("22:00", "06:00")]),
        ("hospital", "none", [("22:00", "06:00")]),
        ("school", "first", [("22:00", "07:00"), ("08:00", "18:00")]),
        ("government", "first", [("22:00", "08:00"), ("08:00", "18:00")]),
        ("commercial", "second", [("22:00", "09:00")]),
        ("commercial", "none", []),
        ("industrial", "special", [("22:00", "06:00")]),
        ("industrial", "second", []),
        ("residential", "none", []),
    ],
)
def test_hours_for_a_meter_change(customer_class: str, importance: str, expected: list[tuple[str, str]]) -> None:
    assert hours("meter_change", customer_class, importance) == expected


def test_what_cuts_nobody_off_may_be_done_at_any_time() -> None:
    for kind in ("repair", "safety_inspection"):
        assert hours(kind, "hospital", "special") == []


def pack(tmp_path: Path, value: str, **keys: str) -> rules.RuleBook:
    asked = {"kind": "meter_change", "customer_class": "hospital", "importance": "*"} | keys
    lines = [f'{name} = "{text}"' for name, text in asked.items()]
    lines += [f"value = {value}", "effective_from = 2020-01-01", 'edition = "x"', 'source = "illustrative"']
    name = "planned_work" if "name" in asked else "windows"
    if name == "planned_work":
        lines = [line for line in lines if not line.startswith(("kind", "customer_class", "importance"))]
    (tmp_path / "pack.toml").write_text(f'pack = "{name}"\n[[entry]]\n' + "\n".join(lines) + "\n", "utf-8")
    return rules.load_folder(tmp_path)


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ("[]", "at least one span"),
        ('"22:00-06:00"', "at least one span"),
        ('[{ from = "22:00" }]', "hours must be"),
        ('[{ from = "22:00", to = "24:00" }]', "times of the day"),
        ('[{ from = "22:00", to = 6 }]', "times of the day"),
        ('[{ from = "22:00", to = "06:00", days = ["sunday"] }]', "days must be"),
        ('[{ from = "22:00", to = "06:00", days = [] }]', "days must be"),
    ],
)
def test_hours_that_cannot_be_read_stop_the_start(tmp_path: Path, value: str, fault: str) -> None:
    with pytest.raises(RuleError, match=fault):
        pack(tmp_path, value)


@pytest.mark.parametrize(
    ("name", "value"),
    [("day_shift", '"8-18"'), ("day_shift", '"08:00-08:00"'), ("day_shift", "8"), ("crew_minutes", '"420"')],
)
def test_numbers_of_planned_work_that_cannot_be_used(tmp_path: Path, name: str, value: str) -> None:
    with pytest.raises(RuleError, match=r"pack\.toml entry 1: value must be"):
        pack(tmp_path, value, name=name)
    assert pack(tmp_path, '"20:00-04:00"', name="day_shift").planned_work("day_shift", TODAY).value == "20:00-04:00"


# -- what it means for a job ---------------------------------------------------------------------------------------


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def asked(customer_class: str, start: str, end: str, **members: Any) -> tuple[Window, ...]:
    members = {"kind": "meter_change", "window_start": None, "window_end": None, "service_minutes": 30} | members
    customer: Any = SimpleNamespace(customer_class=customer_class, importance="none") if customer_class else None
    job: Any = SimpleNamespace(**members)
    return windows.for_job(job, customer, Window(utc(start), utc(end)), SHANGHAI)


DAY = ("2027-03-01T00:00", "2027-03-01T10:00")  # eight to six in Shanghai
NIGHT = ("2027-03-01T12:00", "2027-03-01T23:00")  # eight in the evening to seven in the morning


def test_a_window_of_the_job_itself_is_an_appointment() -> None:
    agreed = {"window_start": utc("2027-03-01T02:00"), "window_end": utc("2027-03-01T03:00")}
    for customer_class in ("hospital", "residential", ""):
        assert asked(customer_class, *DAY, **agreed) == (Window(agreed["window_start"], agreed["window_end"]),)


def test_by_rule_the_work_ends_in_the_hours_and_by_day_it_is_for_the_night_to_come() -> None:
    night = Window(utc("2027-03-01T14:00"), utc("2027-03-01T21:30"))
    assert asked("hospital", *NIGHT) == (night,)
    assert asked("hospital", *DAY) == (night,), "not empty, which would mean at any time"
    assert asked("residential", *DAY) == () == asked("", *DAY)
    assert asked("hospital", *DAY, kind="repair") == ()


def test_one_end_of_a_window_narrows_the_hours() -> None:
    late = utc("2027-03-01T16:00")
    assert asked("hospital", *NIGHT, window_start=late) == (Window(late, utc("2027-03-01T21:30")),)
    assert asked("hospital", *NIGHT, window_end=late) == (Window(utc("2027-03-01T14:00"), late),)
    assert asked("residential", *DAY, window_start=utc("2027-03-01T02:00")) == (
        Window(utc("2027-03-01T02:00"), utc(DAY[1])),
    )
    assert asked("residential", *DAY, window_end=utc("2027-03-01T02:00")) == (
        Window(utc(DAY[0]), utc("2027-03-01T02:00")),
    )
