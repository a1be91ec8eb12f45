"""Whatever a clock does in a shift: estimates keep the order, are never in the future, and exact where they can be."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from fieldsvc.sync.clocks import Boot, Clock, Seen, Told, estimates

MORNING = datetime(2026, 11, 21, 6, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
CLOSE = timedelta(seconds=1)


@st.composite
def shifts(draw: st.DrawFn) -> tuple[Clock, Seen, list[Told], list[datetime], set[int]]:
    """A shift as it truly was: operations, jumps of the clock, restarts, hellos; what the last push tells of it, the
    true times, and which operations were made in a boot that a hello or the push has told of.
    """
    offset, boot, booted = timedelta(0), 0, MORNING - timedelta(hours=1)
    now, told, true, boots = MORNING, [], [], {}
    seen_offset: timedelta | None = None
    seen_at: datetime | None = None
    for event in draw(st.lists(st.sampled_from(["op"] * 6 + ["jump", "boot", "hello"]), min_size=1, max_size=30)):
        now += draw(st.integers(1, 90)) * MINUTE
        mono = int((now - booted) / timedelta(milliseconds=1))
        if event == "op":
            monotonic = draw(st.booleans())
            told.append(
                Told(len(told) + 1, now - offset, mono if monotonic else None, f"b{boot}" if monotonic else None)
            )
            true.append(now)
        elif event == "jump":
            offset = draw(st.sampled_from([-600, -120, -1, 0, 1, 120, 600, 500_000])) * MINUTE
        elif event == "boot":
            boot, booted = boot + 1, now
        else:
            boots[f"b{boot}"] = Boot(mono, now)
            seen_offset, seen_at = offset, now
    now += MINUTE
    mono = int((now - booted) / timedelta(milliseconds=1))
    clock = Clock(now, offset if draw(st.booleans()) else None, mono, f"b{boot}")
    exact = {index for index, one in enumerate(told) if one.boot_id in {*boots, clock.boot_id}}
    return clock, Seen(seen_offset, seen_at, boots=boots), told, true, exact


@settings(deadline=None)
@given(shifts(), st.randoms())
def test_estimates_keep_the_order(shift, random) -> None:
    clock, seen, told, true, exact = shift
    got = estimates(clock, seen, told)
    assert got == sorted(got)
    assert all(at <= clock.now for at in got)
    for index in exact:
        assert abs(got[index] - true[index]) < CLOSE
    mixed = list(zip(told, got, strict=True))
    random.shuffle(mixed)
    assert estimates(clock, seen, [one for one, _ in mixed]) == [at for _, at in mixed], (
        "the order in a push is nothing"
    )


@settings(deadline=None)
@given(st.integers(-100_000, 100_000), st.lists(st.integers(1, 300), min_size=1, max_size=20), st.booleans())
def test_a_clock_that_is_wrong_all_day_by_the_same_is_put_right(off: int, pauses: list[int], by_hello: bool) -> None:
    offset, now, told, true = off * MINUTE, MORNING, [], []
    for seq, pause in enumerate(pauses, 1):
        now += pause * MINUTE
        told.append(Told(seq, now - offset))
        true.append(now)
    clock = Clock(now, None if by_hello else offset)
    assert estimates(clock, Seen(offset, MORNING), told) == true


@settings(deadline=None)
@given(
    st.sampled_from([-300, -45, -3, 3, 45, 300]),
    st.lists(st.integers(1, 60), min_size=1, max_size=8),
    st.lists(st.integers(1, 60), min_size=1, max_size=8),
)
def test_one_change_between_a_hello_and_the_push_keeps_the_order_and_the_later_times(
    off: int, before: list[int], after: list[int]
) -> None:
    now, told, true = MORNING, [], []
    for number, pause in enumerate([*before, *after]):
        now += pause * MINUTE
        offset = timedelta(0) if number < len(before) else off * MINUTE
        told.append(Told(number + 1, now - offset))
        true.append(now)
    got = estimates(Clock(now + MINUTE, off * MINUTE), Seen(timedelta(0), MORNING), told)
    assert got == sorted(got)
    assert got[-1] == true[-1]
