"""What has been asked about pairs of places before: a bounded table in memory, one for each process.

The way between two places stays what it is from one plan to the next, and plans are made again and again over nearly
the same places. For the geodesic this would gain nothing: measuring a pair takes less time than finding it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple

import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray

NO_ROAD = np.float32(np.inf)
"""Seconds of a pair that no way connects."""
OFF_NETWORK = np.float32(-1.0)
"""Seconds of a pair of which one is too far from every road."""
UNKNOWN = np.float32(np.nan)
"""Seconds of a pair nobody has answered."""

_MOST_BLOCKS = 8


class Ways(NamedTuple):
    """Seconds and metres between origins (rows) and destinations (columns), float32.

    Seconds may also be :data:`NO_ROAD`, :data:`OFF_NETWORK` or :data:`UNKNOWN`; metres then mean nothing.
    """

    seconds: NDArray[np.float32]
    metres: NDArray[np.float32]

    @classmethod
    def unknown(cls, rows: int, columns: int) -> Ways:
        return cls(np.full((rows, columns), UNKNOWN, np.float32), np.zeros((rows, columns), np.float32))


Question = Callable[[Sequence[int], Sequence[int]], Ways]
"""Answers for the origins and destinations at these positions."""


class PairCache:
    """Remembers ways between the ``places`` most recently asked for. Safe to share between threads.

    The table is dense, so that a thousand places are looked up with one indexing instead of a million: 8 bytes a pair,
    32 MB for the default when it is full.
    """

    def __init__(self, places: int = 2000) -> None:
        self._most = places
        self._slots: LRUCache[Hashable, int] = LRUCache(maxsize=places)
        self._ways: Ways | None = None
        self._lock = threading.Lock()

    def ways(self, keys: Sequence[Hashable], ask: Question) -> tuple[Ways, NDArray[np.bool_]]:
        """The ways between all of ``keys`` (each only once), and which of them were known before.

        :param ask: is asked for the missing ones, in as few rectangles as they fall into. What it does not know either
            is asked again the next time.
        """
        found = self._read(keys)
        before = ~np.isnan(found.seconds)
        for rows, columns in _blocks(~before):
            answer = ask(rows, columns)
            here = np.ix_(rows, columns)
            news = ~np.isnan(answer.seconds)
            found.seconds[here] = np.where(news, answer.seconds, found.seconds[here])
            found.metres[here] = np.where(news, answer.metres, found.metres[here])
        if not before.all():
            self._write(keys, found)
        np.fill_diagonal(found.seconds, 0.0)
        return found, before

    def _read(self, keys: Sequence[Hashable]) -> Ways:
        found = Ways.unknown(len(keys), len(keys))
        with self._lock:
            if self._ways is None:
                return found
            there = [(i, slot) for i, key in enumerate(keys) if (slot := self._slots.get(key)) is not None]
            if there:
                at, slots = np.array(there).T
                found.seconds[np.ix_(at, at)] = self._ways.seconds[np.ix_(slots, slots)]
                found.metres[np.ix_(at, at)] = self._ways.metres[np.ix_(slots, slots)]
        return found

    def _write(self, keys: Sequence[Hashable], found: Ways) -> None:
        if len(keys) > self._most:
            return  # as many places as this would drive each other out
        with self._lock:
            if self._ways is None:
                self._ways = Ways.unknown(self._most, self._most)
            for key in keys:
                self._slots.get(key)  # now the most recent: none of this question makes room for another of it
            slots = np.array([self._slot(key, self._ways) for key in keys])
            here = np.ix_(slots, slots)
            news = ~np.isnan(found.seconds)
            self._ways.seconds[here] = np.where(news, found.seconds, self._ways.seconds[here])
            self._ways.metres[here] = np.where(news, found.metres, self._ways.metres[here])

    def _slot(self, key: Hashable, ways: Ways) -> int:
        slot = self._slots.get(key)
        if slot is None:
            slot = len(self._slots)
            if slot == self._most:
                _, slot = self._slots.popitem()
                ways.seconds[slot, :] = ways.seconds[:, slot] = UNKNOWN
            self._slots[key] = slot
        return slot


def _blocks(missing: NDArray[np.bool_]) -> list[tuple[list[int], list[int]]]:
    """Rectangles that cover what is missing: rows that miss the same columns belong together.

    A few new places among many known ones are two of them: from the new ones to all, from the others to the new ones.
    """
    rows = np.flatnonzero(missing.any(axis=1))
    if not rows.size:
        return []
    patterns, pattern_of = np.unique(missing[rows], axis=0, return_inverse=True)
    if len(patterns) > _MOST_BLOCKS:
        return [(rows.tolist(), np.flatnonzero(missing.any(axis=0)).tolist())]
    return [(rows[pattern_of == i].tolist(), np.flatnonzero(pattern).tolist()) for i, pattern in enumerate(patterns)]
