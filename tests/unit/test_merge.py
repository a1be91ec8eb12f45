from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldsvc.base.merge import POLICIES, merge, same

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
LATER = NOON + timedelta(seconds=1)


def edit(policy, base, device, record, *, changed=None, at=NOON, current_at=None):
    """Merge one field ``f``; by default somebody changed it when the record differs from what the device saw."""
    if changed is None:
        changed = {"f"} if base != record else set()
    was = {} if base is ... else {"f": base}
    return merge({"f": policy}, was, {"f": device}, {"f": record}, changed, at, current_at)


MERGING = sorted(POLICIES - {"state_machine", "must_match"})


@pytest.mark.parametrize("policy", sorted(POLICIES))
@pytest.mark.parametrize("base", ["old", "new", ...])
def test_equal_values_are_no_conflict_under_any_policy(policy, base):
    merged = edit(policy, base, "new", "new", changed={"f"})
    assert (merged.outcome, merged.values, merged.conflicts) == ("merged", {}, ())


@pytest.mark.parametrize("policy", ["server_wins", "field_wins", "latest_occurred", "review"])
def test_an_edit_of_what_the_device_saw_is_applied(policy):
    merged = edit(policy, "a", "b", "a")
    assert (merged.outcome, merged.values, merged.conflicts) == ("applied", {"f": "b"}, ())


@pytest.mark.parametrize("policy", ["server_wins", "field_wins", "latest_occurred", "review"])
def test_a_stale_edit_of_another_field_is_merged(policy):
    merged = merge({"*": policy}, {"f": "a"}, {"f": "b"}, {"f": "a", "g": "y"}, {"g"}, NOON)
    assert (merged.outcome, merged.values, merged.conflicts) == ("merged", {"f": "b"}, ())


@pytest.mark.parametrize(
    ("policy", "chosen", "values"), [("server_wins", "record", {}), ("field_wins", "device", {"f": "device"})]
)
def test_in_overlap_the_policy_chooses_and_a_review_stays_open(policy, chosen, values):
    merged = edit(policy, "base", "device", "record")
    assert (merged.outcome, merged.values) == ("applied_conflict", values)
    assert merged.conflicts == (
        {
            "field": "f",
            "base": "base",
            "device": "device",
            "record": "record",
            "policy": policy,
            "chosen": chosen,
            "severity": "soft",
        },
    )


@pytest.mark.parametrize(
    ("at", "current_at", "chosen"),
    [(LATER, NOON, "device"), (NOON, NOON, "record"), (NOON, LATER, "record"), (NOON, None, "device")],
)
def test_the_value_set_later_in_the_field_counts(at, current_at, chosen):
    merged = edit("latest_occurred", "a", "b", "c", at=at, current_at=current_at)
    assert merged.conflicts[0]["chosen"] == chosen
    assert merged.values == ({"f": "b"} if chosen == "device" else {})


def test_times_may_be_known_per_field():
    policies = {"*": "latest_occurred"}
    merged = merge(
        policies,
        {"f": 1, "g": 1},
        {"f": 2, "g": 2},
        {"f": 3, "g": 3},
        {"f", "g"},
        NOON,
        {"f": LATER, "g": NOON - timedelta(1)},
    )
    assert merged.values == {"g": 2}


def test_a_field_to_review_parks_the_whole_edit():
    merged = merge(
        {"name": "review", "phone": "field_wins"},
        {"name": "a", "phone": "1"},
        {"name": "b", "phone": "2"},
        {"name": "c", "phone": "1"},
        {"name"},
        NOON,
    )
    assert (merged.outcome, merged.values) == ("parked", {})
    assert [(c["field"], c["chosen"], c["severity"]) for c in merged.conflicts] == [("name", "nobody", "hard")]


def test_what_must_match_parks_when_it_does_not_even_without_overlap():
    assert edit("must_match", "7", "7", "7").outcome == "applied"
    merged = edit("must_match", "7", "8", "7")
    assert (merged.outcome, merged.values, merged.conflicts[0]["severity"]) == ("parked", {}, "hard")


def test_a_status_is_never_merged():
    merged = edit("state_machine", "on_site", "completed", "on_site")
    assert (merged.outcome, merged.values) == ("rejected", {})


def test_a_refused_field_outweighs_a_parked_one():
    merged = merge({"s": "state_machine", "n": "must_match"}, {}, {"s": 1, "n": 1}, {"s": 2, "n": 2}, set(), NOON)
    assert merged.outcome == "rejected"


@pytest.mark.parametrize("policies", [{}, {"g": "field_wins"}])
def test_a_field_without_a_policy_is_reviewed(policies):
    assert merge(policies, {"f": 1}, {"f": 2}, {"f": 3}, {"f"}, NOON).outcome == "parked"


def test_an_unknown_policy_is_an_error_of_the_rules():
    with pytest.raises(ValueError, match="no such merge policy: coin_toss"):
        edit("coin_toss", 1, 2, 3)


def test_without_knowing_what_the_device_saw_a_changed_field_is_in_overlap():
    assert edit("field_wins", ..., "b", "c", changed={"f"}).outcome == "applied_conflict"
    assert edit("field_wins", ..., "b", "c", changed=set()).outcome == "applied"


def test_a_record_that_differs_from_what_was_seen_is_in_overlap_even_if_nobody_else_changed_it():
    assert edit("field_wins", "a", "b", "c", changed=set()).outcome == "applied_conflict"


def test_a_field_changed_and_changed_back_is_not_in_overlap():
    assert edit("review", "a", "b", "a", changed={"f"}).outcome == "merged"


@pytest.mark.parametrize(
    ("base", "device", "record", "value"),
    [
        (["a"], ["a", "b"], ["a", "c"], ["a", "c", "b"]),
        ([], ["b"], None, ["b"]),
        (["a"], ["a", "a2"], ["a"], ["a", "a2"]),
        (..., ["x"], ["a"], ["a", "x"]),
        ("a", "a\nb", "a\nc", "a\nc\nb"),
        ("", "b", None, "b"),
        (..., "b", "a", "a\nb"),
    ],
)
def test_what_a_device_appended_is_added_to_the_record(base, device, record, value):
    merged = edit("append", base, device, record)
    assert merged.outcome in ("applied", "merged")
    assert merged.values == {"f": value}
    assert all(conflict["severity"] == "none" for conflict in merged.conflicts)


@pytest.mark.parametrize(
    ("base", "device", "record"), [([], ["b"], ["a", "b"]), ("", "b", "a\nb"), ("a", "a\nb", "a\nb\nc")]
)
def test_what_is_there_already_is_not_appended_again(base, device, record):
    assert edit("append", base, device, record).values == {}


@pytest.mark.parametrize(
    ("base", "device", "record", "value"),
    [
        (["a"], ["a", "b"], ["a", "c"], ["a", "c", "b"]),
        (["a", "b"], ["a"], ["a", "b", "c"], ["a", "c"]),
        (..., ["b"], ["a"], ["a", "b"]),
        (["a"], [], ["a"], []),
        (None, ["b"], None, ["b"]),
        (
            [{"code": 1}],
            [{"code": 1}, {"code": 2}],
            [{"code": 1}, {"code": 3}],
            [{"code": 1}, {"code": 3}, {"code": 2}],
        ),
    ],
)
def test_of_a_set_what_was_added_is_added_and_what_was_removed_is_removed(base, device, record, value):
    merged = edit("set_union", base, device, record)
    assert merged.values == {"f": value}
    assert merged.outcome in ("applied", "merged")


@pytest.mark.parametrize(
    ("policy", "device", "record", "values"),
    [
        ("max", 5, 3, {"f": 5}),
        ("max", 3, 5, {}),
        ("min", 3, 5, {"f": 3}),
        ("min", 5, 3, {}),
        ("max", "10", "9", {"f": "10"}),
        ("max", "9.5", 9, {"f": "9.5"}),
        ("max", "2026-11-21T12:00:00Z", "2026-11-20T12:00:00Z", {"f": "2026-11-21T12:00:00Z"}),
        ("max", 5, None, {"f": 5}),
        ("min", None, 5, {}),
    ],
)
@pytest.mark.parametrize("stale", [True, False])
def test_the_larger_or_the_smaller_counts_in_overlap_or_not(policy, device, record, values, stale):
    merged = edit(policy, 0 if stale else record, device, record)
    assert merged.values == values
    assert merged.outcome == ("merged" if stale else "applied")


@pytest.mark.parametrize(
    ("policy", "device", "record"),
    [
        ("max", 5, "many"),
        ("min", True, 2),
        ("append", 5, ["a"]),
        ("set_union", "a", ["a"]),
        ("max", {"a": 1}, {"a": 2}),
    ],
)
def test_values_that_a_policy_cannot_combine_are_looked_at_by_a_person(policy, device, record):
    assert edit(policy, "base", device, record).outcome == "parked"
    assert edit(policy, record, device, record).values == {"f": device}


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        (1, True, False),
        (0, False, False),
        (1, 1.0, True),
        ("1", 1, False),
        (None, "", False),
        ({"a": 1, "b": [2]}, {"b": [2.0], "a": 1}, True),
        ([1, 2], [2, 1], False),
    ],
)
def test_values_are_compared_as_json(one, other, equal):
    assert same(one, other) is equal


SCALARS = st.none() | st.booleans() | st.integers(-3, 3) | st.text("ab", max_size=2)
LISTS = st.lists(st.sampled_from("abcd"), unique=True, max_size=4)
FIELDS = st.sampled_from("fgh")


@given(
    st.sampled_from(sorted(POLICIES)),
    st.dictionaries(FIELDS, SCALARS),
    st.dictionaries(FIELDS, SCALARS),
    st.sets(FIELDS),
)
def test_sending_what_is_on_record_changes_nothing(policy, was, record, changed):
    merged = merge({"*": policy}, was, record, record, changed, NOON)
    assert (merged.values, merged.conflicts) == ({}, ())


@given(
    st.dictionaries(FIELDS, st.sampled_from(sorted(POLICIES)), min_size=3),
    st.dictionaries(FIELDS, SCALARS | LISTS),
    st.dictionaries(FIELDS, SCALARS | LISTS),
    st.dictionaries(FIELDS, SCALARS | LISTS),
    st.sets(FIELDS),
)
def test_a_merge_never_raises_and_never_loses_a_conflict(policies, was, device, record, changed):
    merged = merge({"*": "review"} | policies, was, device, record, changed, NOON, NOON)
    worst = {conflict["severity"] for conflict in merged.conflicts}
    if "hard" in worst:
        assert merged.outcome in ("parked", "rejected")
        assert merged.values == {}
    elif "soft" in worst:
        assert merged.outcome == "applied_conflict"
    else:
        assert merged.outcome in ("applied", "merged")
    assert set(merged.values) <= set(device)


@given(st.sampled_from(["max", "min"]), SCALARS, st.integers(-9, 9), st.integers(-9, 9), st.integers(-9, 9))
def test_extremes_end_the_same_in_any_order(policy, base, record, one, other):
    def both(first, second):
        value = record
        for device in (first, second, first):
            value = edit(policy, base, device, value).values.get("f", value)
        return value

    assert both(one, other) == both(other, one)


@given(LISTS, LISTS, LISTS)
def test_additions_to_a_set_end_the_same_in_any_order_and_twice(base, one, other):
    def both(first, second):
        value = base
        for added in (first, second, first):
            value = edit("set_union", base, base + [a for a in added if a not in base], value).values.get("f", value)
        return sorted(value)

    assert both(one, other) == both(other, one) == sorted({*base, *one, *other})


@given(st.integers(-3, 3), st.integers(-3, 3), st.integers(0, 9), st.integers(0, 9))
def test_the_latest_in_the_field_ends_the_same_in_any_order(one, other, minutes, more):
    if minutes == more:
        return
    edits = {NOON + timedelta(minutes=minutes): one, NOON + timedelta(minutes=more): other}

    def all_in(order):
        value, since = "base", NOON - timedelta(days=1)
        for at in order:
            merged = edit("latest_occurred", "base", edits[at], value, at=at, current_at=since)
            if "f" in merged.values:
                value, since = merged.values["f"], at
            elif same(value, edits[at]):
                since = max(since, at)
        return value

    assert all_in(sorted(edits)) == all_in(sorted(edits, reverse=True)) == edits[max(edits)]
