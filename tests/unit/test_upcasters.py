"""Older forms of operations: each step does what it says, leaves its argument alone, and judges nothing."""

from __future__ import annotations

import copy
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldsvc.kinds.meter_change import Exchange
from fieldsvc.kinds.payloads import read
from fieldsvc.sync.upcasters import KNOWN, SCHEMA_VERSION, STEPS, upcast

FLAT = {
    "old": {"asset_no": "A-1", "reading": "48213.6", "seals": ["s1"]},
    "new": {"asset_no": "A-2", "digits": 6, "reading": "0.0"},
    "position": {"lon": 111.57, "lat": 35.49, "accuracy_m": 8},
}
TODAY = {
    "old": {"asset_no": "A-1", "registers": {"total": "48213.6"}, "seals": ["s1"]},
    "new": {"asset_no": "A-2", "digits": 6, "registers": {"total": "0.0"}},
    "position": {"type": "Point", "coordinates": [111.57, 35.49], "accuracy_m": 8},
}


def test_the_steps_lead_from_the_oldest_form_to_todays_without_a_gap() -> None:
    assert list(KNOWN) == list(range(min(STEPS), SCHEMA_VERSION + 1))


def test_the_flat_form_becomes_points_and_registers() -> None:
    op = {"op_id": "1", "schema_version": 0, "payload": FLAT, "colour": "red"}
    before = copy.deepcopy(op)
    assert upcast(op) == {"op_id": "1", "schema_version": 1, "payload": TODAY, "colour": "red"}
    assert op == before
    assert read(Exchange, TODAY, "/payload") == msgspec.convert(upcast(op)["payload"], Exchange)


@pytest.mark.parametrize("version", [SCHEMA_VERSION, SCHEMA_VERSION + 1, -1, True, "0", 0.0, None, [0]])
def test_every_other_version_is_left_as_it_is(version: Any) -> None:
    op = {"schema_version": version, "payload": FLAT}
    assert upcast(op) == op


def test_an_operation_that_names_no_version_is_of_today() -> None:
    assert upcast({"payload": FLAT}) == {"payload": FLAT}


@pytest.mark.parametrize(
    "payload",
    [
        {"position": {"lon": 111.57}},
        {"position": {"type": "Point", "coordinates": [111.57, 35.49]}},
        {"position": [111.57, 35.49]},
        {"old": {"reading": "1", "registers": {"total": "2"}}},
        {"meter_check": "48213.6"},
        {"reading": "1"},
        [],
        None,
    ],
)
def test_what_is_not_of_the_flat_form_is_passed_on_for_the_kind_to_judge(payload: Any) -> None:
    assert upcast({"schema_version": 0, "payload": payload})["payload"] == payload


json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["position", "old", "new", "lon", "lat", "reading", "x"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(json, st.sampled_from(sorted(STEPS)))
def test_no_content_makes_a_step_fail_or_change_its_argument(payload: Any, version: int) -> None:
    op = {"schema_version": version, "payload": payload}
    before = copy.deepcopy(op)
    assert upcast(op)["schema_version"] == SCHEMA_VERSION
    assert op == before
