"""What befalls the servers during the play: processes killed, Redis emptied and away, the database started again."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from fieldsvc.simulate.world import Options, World

_pause = threading.Event()
_REDIS_AWAY_S = 1.5
_KILLS_PER_HOUR = 3


@dataclass(frozen=True)
class Blow:
    """What happens, in which step, and how many seconds after its begin."""

    step: int
    after_s: float
    what: str


def blows(options: Options) -> list[Blow]:
    """What happens when, by the seed alone: three kills in an hour, and everything else once."""
    chance = options.chance("trouble")
    found = []
    for _ in range(max(3, options.hours * _KILLS_PER_HOUR)):
        what = chance.choices(("a web process", "worker-1", "worker-2", "the web server"), (4, 2, 2, 1))[0]
        found.append(Blow(chance.randrange(options.slices), chance.uniform(0, 0.4), what))
    once = ["Redis emptied", "Redis away"]
    if options.database == "postgresql":
        once.append("the database restarted")
    middle = range(max(1, options.slices // 5), max(2, options.slices * 4 // 5))
    found += [Blow(chance.choice(middle), chance.uniform(0, 0.3), what) for what in once]
    return sorted(found, key=lambda blow: (blow.step, blow.after_s))


@dataclass
class Trouble:
    """Deals the blows. ``happened``: (seconds since the play began, what)."""

    world: World
    began: float = field(default_factory=time.monotonic)
    happened: list[tuple[float, str]] = field(default_factory=list)
    _hand: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, thread_name_prefix="trouble"))
    _dealt: list[Future[None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._due = blows(self.world.options)

    def turn(self, step: int) -> None:
        """Deal the blows of a step, in their own time."""
        for blow in [one for one in self._due if one.step == step]:
            self._dealt.append(self._hand.submit(self._deal, blow))

    def end(self) -> None:
        """Wait for the last blow; a fault of ours in dealing one is raised here."""
        self._hand.shutdown()
        for one in self._dealt:
            one.result()

    def _deal(self, blow: Blow) -> None:
        _pause.wait(blow.after_s)
        act: Callable[[], None] = {
            "Redis emptied": self.world.service.empty_redis,
            "Redis away": self._redis_away,
            "the database restarted": self._restart_database,
            "a web process": self._kill_web_process,
            "the web server": lambda: self.world.service.kill("web"),
        }.get(blow.what) or (lambda: self.world.service.kill(blow.what))
        self.happened.append((time.monotonic() - self.began, blow.what))
        with suppress(ProcessLookupError):  # it was killed before, and is not back yet
            act()

    def _redis_away(self) -> None:
        self.world.service.end_child("redis")
        _pause.wait(_REDIS_AWAY_S)
        self.world.service.start_child("redis")

    def _restart_database(self) -> None:
        """As if the power went: SIGQUIT, no shutdown, recovery from its log."""
        assert self.world.postgres is not None
        self.world.postgres.restart(signal.SIGQUIT)

    def _kill_web_process(self) -> None:
        """One of the processes that answer, not the one that watches over them."""
        master = self.world.service.pid("web")
        children = [
            int(child)
            for listed in Path(f"/proc/{master}/task").glob("*/children")
            for child in listed.read_text().split()
        ]
        if children:
            os.kill(sorted(children)[len(self.happened) % len(children)], signal.SIGKILL)
