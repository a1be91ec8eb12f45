"""How often a device may call, and how long it is asked to wait: plain counting."""

from __future__ import annotations

from pathlib import Path

import pytest

from fieldsvc.api.lanes import THREADS
from fieldsvc.api.limits import Rate
from fieldsvc.sync.depth import MOST_S, backoff_s


def test_a_device_calls_as_often_as_it_may_and_is_told_how_long_to_wait() -> None:
    rate = Rate("3 per minute")
    assert [rate.call("a", now) for now in (100.0, 110.0, 130.0)] == [None, None, None]
    assert rate.call("a", 130.5) == 30
    assert rate.call("b", 130.5) is None, "each device has its own"
    assert rate.call("a", 159.9) == 1
    assert [rate.call("a", 160.0) for _ in range(4)] == [None, None, None, 60]


def test_devices_that_have_gone_are_forgotten() -> None:
    rate = Rate("1 per second")
    for number in range(10_001):
        assert rate.call(str(number), 0.5) is None
    assert rate.call("0", 2.0) is None and rate.call("0", 2.0) == 1
    assert len(rate._counts) == 1


@pytest.mark.parametrize(
    ("depth", "seconds"),
    [(0, 0), (1000, 0), (1001, 1), (1030, 10), (1500, 151), (2000, MOST_S), (1_000_000, MOST_S)],
)
def test_the_deeper_the_inbox_the_longer_the_wait(depth: int, seconds: int) -> None:
    assert backoff_s(depth, 1000, 2000) == seconds


def test_an_inbox_that_is_full_before_it_is_deep_still_gives_a_number() -> None:
    assert (backoff_s(10, 10, 5), backoff_s(11, 10, 5)) == (0, MOST_S)


def test_who_runs_the_service_by_hand_is_told_how_many_threads_the_lanes_need() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "operations.md").read_text(encoding="utf-8")
    assert f"--threads {THREADS} " in page
