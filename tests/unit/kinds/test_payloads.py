from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldsvc import kinds
from fieldsvc.kinds.payloads import MAX_FAULTS, BadPayload
from tests.unit.kinds.situations import REPAIRED, exchange


def faults(kind, op_kind, payload):
    with pytest.raises(BadPayload) as caught:
        kinds.parse(kind, op_kind, payload)
    return {error["field"]: error["reason"] for error in caught.value.errors}


def test_a_good_payload_becomes_its_struct():
    parsed = kinds.parse("repair", "job.complete", REPAIRED)
    assert parsed.cause_major == "cable"


def test_members_nobody_knows_are_no_fault():
    kinds.parse("repair", "job.complete", REPAIRED | {"mood": "fine", "weather": {"rain": [1, 2]}})


def test_all_faults_are_named_at_once():
    payload = exchange(
        old={"asset_no": 5, "registers": {"total": "x", "night": "1"}}, new={"digits": 0, "seals": [None]}
    )
    del payload["new"]["asset_no"]
    assert faults("meter_change", "meter.exchange", payload) == {
        "/payload/old/asset_no": "must be text",
        "/payload/old/registers/total": (
            'must be a decimal in text such as "48213.6": at most 12 digits before and 6 after the point'
        ),
        "/payload/old/registers/night": "is not known; it must be one of flat, peak, sharp, total, valley",
        "/payload/new/asset_no": "is missing",
        "/payload/new/digits": "must be a number from 1 to 12",
        "/payload/new/seals/0": "must be an object or text",
    }


@pytest.mark.parametrize(
    ("position", "field"),
    [
        ({"type": "Point", "coordinates": [180.1, 0]}, "/payload/position/coordinates/0"),
        ({"type": "Point", "coordinates": [0, -90.1]}, "/payload/position/coordinates/1"),
        ({"type": "Point", "coordinates": [10**400, 0]}, "/payload/position/coordinates/0"),
        ({"type": "Point", "coordinates": [float("nan"), 0]}, "/payload/position/coordinates/0"),
        ({"type": "Point", "coordinates": [True, 0]}, "/payload/position/coordinates/0"),
        ({"type": "Point", "coordinates": [1]}, "/payload/position/coordinates"),
        ({"type": "Point", "coordinates": [1, 2, 3, 4]}, "/payload/position/coordinates"),
        ({"type": "Line", "coordinates": [1, 2]}, "/payload/position/type"),
        ([111.5, 35.4], "/payload/position"),
    ],
)
def test_a_place_outside_the_earth_is_named(position, field):
    assert list(faults("repair", "job.arrive", {"position": position})) == [field]


@pytest.mark.parametrize("coordinates", [[180, 90], [-180, -90], [111.57, 35.49, 812.5]])
def test_every_place_on_the_earth_is_taken(coordinates):
    kinds.parse("repair", "job.arrive", {"position": {"type": "Point", "coordinates": coordinates}})


@pytest.mark.parametrize("restored", ["2026-11-21T08:00:00", "2026-02-30T08:00:00Z", "yesterday", "", "2" * 41])
def test_a_time_without_zone_or_sense_is_named(restored):
    assert list(faults("repair", "job.complete", REPAIRED | {"restored_at": restored})) == ["/payload/restored_at"]


@pytest.mark.parametrize(
    ("payload", "field"),
    [
        ({"text": "a\x00"}, "/payload/text"),
        ({"text": "fine", "unknown": {"deep": ["x\x00"]}}, "/payload/unknown/deep/0"),
        ({"text": "fine", "a\x00b": 1}, "/payload"),
        ({"text": "fine", "a\x00b": {"c": "\x00"}}, "/payload"),
        ({"text": "\ud800"}, "/payload/text"),
    ],
)
def test_nul_and_half_characters_are_named_wherever_they_are(payload, field):
    assert list(faults("repair", "note.add", payload)) == [field]


@pytest.mark.parametrize(("length", "good"), [(0, False), (1, True), (2000, True), (2001, False)])
def test_text_has_its_length(length, good):
    payload = {"text": "字" * length}
    if good:
        kinds.parse("repair", "note.add", payload)
    else:
        assert list(faults("repair", "note.add", payload)) == ["/payload/text"]


def nested(levels):
    value = "x"
    for _ in range(levels):
        value = [value]
    return value


def test_ten_levels_are_taken_and_a_thousand_named():
    kinds.parse("repair", "note.add", {"text": "fine", "extra": nested(10)})
    assert "nested deeper" in next(iter(faults("repair", "note.add", {"text": "fine", "extra": nested(1000)}).values()))


def test_a_flood_of_faults_is_cut_off():
    payload = REPAIRED | {"parts": [{"code": "?", "qty": "?"}] * 200}
    assert len(faults("repair", "job.complete", payload)) == MAX_FAULTS


def test_a_pointer_into_an_absurd_name_is_cut():
    pointer = next(iter(faults("repair", "note.add", {"text": "fine", "n" * 60_000: "\x00"})))
    assert len(pointer) == 300


def test_pointers_escape_what_they_must():
    assert list(faults("repair", "note.add", {"text": "fine", "a/b~c": "\x00"})) == ["/payload/a~1b~0c"]


@pytest.mark.parametrize("payload", [None, [], "text", 3, True])
def test_a_payload_that_is_no_object_is_named(payload):
    assert faults("repair", "note.add", payload) == {"/payload": "must be an object"}


def test_an_edit_is_named_without_payload():
    assert list(faults("repair", "job.update", {"set": {"priority": 0}, "was": {}})) == ["/set/priority"]
    assert list(faults("customer", "customer.update", {"set": {"phone": 5}, "was": []})) == ["/set/phone", "/was"]


def test_an_operation_that_is_not_of_the_kind_is_named():
    assert list(faults("repair", "meter.exchange", {})) == ["/kind"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(st.sampled_from(sorted(kinds.discover())), st.data())
def test_whatever_a_device_sends_is_a_struct_or_a_list_of_faults(kind, data):
    op_kind = data.draw(st.sampled_from(sorted(kinds.get(kind).operations)))
    known = kinds.get(kind).operations[op_kind].__struct_fields__
    payload = data.draw(JSON | st.dictionaries(st.sampled_from(known) if known else st.text(), JSON, max_size=6))
    try:
        kinds.parse(kind, op_kind, payload)
    except BadPayload as bad:
        assert bad.errors
        assert all(set(error) == {"field", "reason"} for error in bad.errors)
        json.dumps(bad.errors)
