from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from fieldsvc.kinds.registers import Record, energy, fall_candidates, fallen, sum_check, swap_energy, text, too_long

AT = datetime(2026, 11, 21, tzinfo=UTC)
VALUES = st.decimals(min_value=0, max_value=Decimal("999999999999"), places=6)
RATIOS = st.integers(1, 100_000)


def record(billed, digits=6, multiplier=Decimal(1), **other):
    return Record.of(
        {"asset_no": "A", "digits": digits, "multiplier": multiplier, "last_billed": {"total": billed}} | other
    )


@given(last=VALUES, used_before=VALUES, initial=VALUES, used_after=VALUES, old=RATIOS, new=RATIOS, ratio=RATIOS)
def test_energy_is_conserved_across_the_swap(last, used_before, initial, used_after, old, new, ratio):
    """What the customer used before and after is what the two meters say together, to the last digit."""
    multiplier = Decimal(old * ratio)
    final, current = last + used_before, initial + used_after
    step = swap_energy(record(last, 13, multiplier), {"total": final})["total"]
    whole = Decimal(step["energy_kwh"]) + energy(initial, current, Decimal(new))
    assert whole == used_before * multiplier + used_after * Decimal(new)


@given(readings=st.tuples(VALUES, VALUES, VALUES))
def test_a_reading_in_between_changes_no_energy(readings):
    last, between, final = sorted(readings)
    assert energy(last, between, Decimal(3)) + energy(between, final, Decimal(3)) == energy(last, final, Decimal(3))


@given(readings=st.tuples(st.integers(0, 999_999), st.integers(0, 999_999)).filter(lambda pair: pair[0] != pair[1]))
def test_a_register_that_wrapped_gives_back_what_was_used(readings):
    final, last = sorted(readings)
    used = 1_000_000 - last + final
    step = swap_energy(record(Decimal(last)), {"total": Decimal(final)}, "wrap")["total"]
    assert (Decimal(step["energy_kwh"]), step["wrapped"]) == (Decimal(used), True)
    assert swap_energy(record(Decimal(last)), {"total": Decimal(final)})["total"]["energy_kwh"] is None


@given(
    readings=st.tuples(VALUES, VALUES), daily=st.none() | st.decimals(0, 10_000, places=2), digits=st.integers(1, 12)
)
def test_plausibilities_are_shares_of_one(readings, daily, digits):
    final, last = sorted(readings)
    meter = record(last, digits, daily_kwh=daily, installed_at=AT.replace(year=2026, month=1))
    for candidate in fall_candidates(meter, "total", final, AT):
        assert 0 <= Decimal(candidate["plausibility"]) <= 1


@given(parts=st.lists(VALUES, min_size=4, max_size=4))
def test_the_sum_of_the_parts_is_always_within_no_tolerance_at_all(parts):
    values = dict(zip(("sharp", "peak", "flat", "valley"), parts, strict=True))
    check = sum_check(values | {"total": sum(parts, Decimal(0))}, Decimal(0), Decimal(0), Decimal(1))
    assert (check["checked"], check["within"], check["difference"]) == (True, True, "0")


def test_the_smallest_difference_over_the_limit_is_outside():
    values = {"peak": Decimal(1), "flat": Decimal(1), "valley": Decimal(1)}

    def within(total):
        return sum_check(values | {"total": Decimal(total)}, Decimal(1), Decimal(0), Decimal(1))["within"]

    assert within("4")
    assert not within("4.000001")
    assert within("2")
    assert not within("1.999999")


def test_without_total_or_a_needed_part_nothing_is_checked():
    for values in ({"peak": Decimal(9)}, {"total": Decimal(1), "peak": Decimal(9)}, {}):
        assert sum_check(values, Decimal(0), Decimal(0), Decimal(1)) == {"checked": False, "within": True}


def test_a_value_may_be_as_long_as_the_meter_shows_and_no_longer():
    assert too_long({"total": Decimal("99999.9")}, 5) == []
    assert too_long({"total": Decimal("100000")}, 5) == ["total"]
    assert too_long({"total": Decimal("100000")}, None) == []


def test_standing_still_is_no_fall():
    meter = record(Decimal(5), last_read={"total": Decimal(7)})
    assert fallen(meter, {"total": Decimal(7)}) == []
    assert fallen(meter, {"total": Decimal("6.9")}) == ["total"]
    assert fallen(meter, {"peak": Decimal(0)}) == []


def test_without_known_digits_only_a_misread_can_be_told():
    meter = record(Decimal(5), digits=None)
    assert [candidate["kind"] for candidate in fall_candidates(meter, "total", Decimal(1), AT)] == ["misread"]


def test_decimals_are_written_as_people_write_them():
    assert [text(Decimal(value)) for value in ("0.0", "48213.60", "100", "1E+3", "0.000001")] == [
        "0",
        "48213.6",
        "100",
        "1000",
        "0.000001",
    ]


def test_a_record_that_is_garbage_has_no_values():
    meter = Record.of({"digits": "6", "multiplier": "x", "last_billed": [1], "last_read": {"total": float("nan")}})
    assert (meter.digits, meter.multiplier, meter.billed, meter.read) == (None, Decimal(1), {}, {})
