"""Watch what others wait for: one look a second for all who wait in a process, whatever their number.

The database is asked, not a message bus: every process looks for itself, and nothing is missed while Redis is away. Who
waits holds no connection; the thread that looks is there only while somebody waits.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType

import structlog

Look = Callable[[Collection[str]], Mapping[str, object]]
"""Keys -> what stands at each now; a value that differs from the one before is news. A key may be missing."""

log = structlog.get_logger(__name__)
_NEVER_SEEN = object()


class Watch:
    """What one process watches. ``look`` is called in a thread of its own, every ``every_s`` seconds."""

    def __init__(self, look: Look, every_s: float = 1.0) -> None:
        self._look, self._every_s = look, every_s
        self._news = threading.Condition()
        self._waiting: set[Watched] = set()
        self._now = threading.Event()
        self._thread: threading.Thread | None = None
        self._ended = False

    @contextmanager
    def on(self, keys: Iterable[str]) -> Iterator[Watched]:
        """Watch ``keys`` inside the block. The first news is how they stand: whoever acts on it has missed nothing."""
        one = Watched(self, frozenset(keys))
        with self._news:
            self._waiting.add(one)
            if self._thread is None and not self._ended:
                self._thread = threading.Thread(target=self._run, name="fieldsvc-feed-watch", daemon=True)
                self._thread.start()
        self._now.set()
        try:
            yield one
        finally:
            with self._news:
                self._waiting.discard(one)
            self._now.set()

    def end(self) -> None:
        """Let everybody who waits go, now and from now on. May be called by a signal handler: it takes no lock that the
        interrupted thread could hold.
        """
        self._ended = True
        self._now.set()

    @property
    def at_work(self) -> bool:
        """Whether somebody looks."""
        return self._thread is not None

    def wait(self, one: Watched, timeout_s: float) -> dict[str, object] | None:
        with self._news:
            self._news.wait_for(lambda: one.news or self._ended, timeout_s)
            if self._ended:
                return None
            news, one.news = one.news, {}
            return news

    def _run(self) -> None:
        failing = False
        while True:
            self._now.clear()
            with self._news:
                if self._ended or not self._waiting:
                    self._thread = None
                    self._news.notify_all()
                    return
                waiting = list(self._waiting)
            try:
                found = self._look(frozenset().union(*(one.keys for one in waiting)))
                failing = False
            except Exception as error:  # the database is away: they wait, as they would for news
                if not failing:
                    log.warning("feed-watch-failed", error=type(error).__name__)
                failing = True
            else:
                with self._news:
                    for one in waiting:
                        one.take(found)
                    self._news.notify_all()
            self._now.wait(self._every_s)


class Watched:
    """One who waits for news of ``keys``."""

    def __init__(self, watch: Watch, keys: frozenset[str]) -> None:
        self.keys = keys
        self.news: dict[str, object] = {}
        self._watch = watch
        self._seen: dict[str, object] = {}

    def wait(self, timeout_s: float) -> dict[str, object] | None:
        """What has moved, with what stands there now; ``{}`` after ``timeout_s`` without news, None when it is over."""
        return self._watch.wait(self, timeout_s)

    def take(self, found: Mapping[str, object]) -> None:
        moved = {key: found.get(key) for key in self.keys if found.get(key) != self._seen.get(key, _NEVER_SEEN)}
        self._seen |= moved
        self.news |= moved


def end_with_process(watch: Watch) -> None:
    """End ``watch`` when this process is told to stop; else a stop would wait for those who wait. Call from the main
    thread, after the web server has set up its own handlers, which are called as well.
    """
    for number in (signal.SIGTERM, signal.SIGQUIT, signal.SIGINT):
        before = signal.getsignal(number)

        def end(number: int, frame: FrameType | None, before: object = before) -> None:
            watch.end()
            if callable(before):
                before(number, frame)

        if callable(before):
            signal.signal(number, end)
