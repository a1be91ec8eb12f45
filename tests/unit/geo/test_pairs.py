"""What is remembered of pairs of places: never more than its bound, never another answer than the first."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldsvc.geo.pairs import NO_ROAD, OFF_NETWORK, UNKNOWN, PairCache, Question, Ways


def truth(here: int, there: int) -> float:
    """A time for each pair of numbers; some have no way, some lie off the network."""
    if here == there:
        return 0.0
    return float(NO_ROAD if here % 7 == 3 else OFF_NETWORK if 9 in (here, there) else here * 100 + there)


def asking(keys: Sequence[int], asked: list[int], away: Sequence[int] = ()) -> Question:
    def ask(rows: Sequence[int], columns: Sequence[int]) -> Ways:
        asked.append(len(rows) * len(columns))
        table = [[UNKNOWN if keys[i] in away else truth(keys[i], keys[j]) for j in columns] for i in rows]
        seconds = np.array(table, dtype=np.float32)
        return Ways(seconds, seconds * 2)

    return ask


@given(
    bound=st.integers(1, 6),
    questions=st.lists(st.lists(st.integers(0, 11), max_size=8, unique=True), max_size=8),
)
def test_the_answers_are_those_of_who_is_asked_whatever_was_asked_before(
    bound: int, questions: list[list[int]]
) -> None:
    cache = PairCache(bound)
    for keys in questions:
        asked: list[int] = []
        ways, before = cache.ways(keys, asking(keys, asked))
        assert ways.seconds.tolist() == [[truth(here, there) for there in keys] for here in keys]
        far = (ways.seconds > 0) & np.isfinite(ways.seconds)
        assert (ways.metres[far] == ways.seconds[far] * 2).all()
        assert sum(asked) <= len(keys) ** 2
        if keys and len(keys) <= bound:
            assert cache.ways(keys, asking(keys, asked))[1].all(), "the last question is remembered"
        if len(keys) > bound and not asked:
            pytest.fail("more places than the bound cannot all have been remembered")
        assert not before.all() or not asked


def test_what_nobody_knew_is_asked_again_and_nothing_else() -> None:
    cache, keys, asked = PairCache(10), [0, 1, 2], []
    ways, _ = cache.ways(keys, asking(keys, asked, away=[1]))
    assert np.isnan(ways.seconds[1]).tolist() == [True, False, True]
    ways, before = cache.ways(keys, asking(keys, asked))
    assert ways.seconds.tolist() == [[truth(here, there) for there in keys] for here in keys]
    assert asked == [9, 3]
    assert before[[0, 0, 2, 2], [1, 2, 0, 1]].all()


@pytest.mark.parametrize(("places", "remembered"), [(4, True), (5, False)])
def test_the_bound_is_kept(places: int, remembered: bool) -> None:
    cache, keys = PairCache(4), list(range(places))
    asked: list[int] = []
    for _ in range(2):
        cache.ways(keys, asking(keys, asked))
    assert len(asked) == (1 if remembered else 2)


def test_a_few_new_places_are_asked_for_as_two_rectangles() -> None:
    cache, keys, asked = PairCache(100), list(range(50)), []
    cache.ways(keys, asking(keys, asked))
    more = [*keys, 60, 61]
    _, before = cache.ways(more, asking(more, asked))
    assert asked == [2500, 100, 104]
    assert np.count_nonzero(before) == 2500
