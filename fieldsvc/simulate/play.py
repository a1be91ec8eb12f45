"""The play: step by step all phones, the office and the trouble at once; then good lines until all is told."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from fieldsvc.demo.show import Story
from fieldsvc.simulate.office import Office
from fieldsvc.simulate.phone import Phone, Registry, phones
from fieldsvc.simulate.trouble import Trouble
from fieldsvc.simulate.world import World, give_out

_AT_ONCE = 16
"""Phones that do something at the same moment."""
_FIRST_SHARE = 0.5
_PATIENCE_S = 90.0
"""So long nothing may move at the end before we call it stuck."""

_pause = threading.Event()


@dataclass(frozen=True)
class Sample:
    """Where things stood so many seconds after the play began: operations written, answered, decided and known."""

    seconds: float
    written: int
    answered: int
    known: int


@dataclass
class Played:
    """What is left when the play is over."""

    world: World
    phones: list[Phone]
    office: Office
    trouble: Trouble
    samples: list[Sample] = field(default_factory=list)
    seconds: float = 0.0
    settled_s: float = 0.0
    undecided: int = 0

    @property
    def broken(self) -> list[str]:
        """What the service answered that it must never answer."""
        said = [fault for phone in self.phones for fault in phone.broken]
        return said + self.office.faults + (self.phones[0].registry.faults if self.phones else [])


def play(world: World, story: Story) -> Played:
    """The whole shift, with everything that goes wrong, until every operation has an end that its phone knows."""
    registry = Registry(world.client("admin"))
    give_out(world, _FIRST_SHARE, story)
    cast = phones(world, registry, world.options.folder / "phones")
    with story.step("Phones are enrolled and filled", "enrol · snapshot · pull", len(cast)) as step:
        at_once(cast, Phone.first, step.advance)
        step.tell(f"{len(cast)} phones enrolled")
    done = Played(world, cast, Office(world, world.client("dispatcher")), Trouble(world))
    _shift(done, story)
    _settle(done, story)
    return done


def at_once(cast: Sequence[Phone], act: Callable[[Phone], object], advance: Callable[[], None] = lambda: None) -> None:
    """Let phones act at the same time, a few at a time."""
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="phone") as pool:
        for turn in [pool.submit(act, phone) for phone in cast]:
            turn.result()
            advance()


def _shift(done: Played, story: Story) -> None:
    options = done.world.options
    what = f"{options.hours} hours in the field, in {options.slices} steps"
    with (
        story.step(what, "", options.slices) as step,
        ThreadPoolExecutor(_AT_ONCE + 1, thread_name_prefix="phone") as pool,
    ):
        for number in range(options.slices):
            done.trouble.turn(number)
            turns = [pool.submit(done.office.turn, number)]
            order = list(done.phones)
            options.chance("order", number).shuffle(order)
            turns += [pool.submit(phone.turn, number) for phone in order]
            for turn in turns:
                turn.result()
            done.samples.append(_sample(done))
            step.advance()
        done.trouble.end()
        done.seconds = time.monotonic() - done.trouble.began
        last = done.samples[-1]
        step.tell(f"{options.hours} h: {last.written} operations written, {last.answered} answered, {last.known} known")


def _sample(done: Played) -> Sample:
    written = answered = known = 0
    for phone in done.phones:
        app = phone.app()
        query = "SELECT count(*), count(status), count(outcome) FROM outbox"
        one = app.db.execute(query).fetchone()
        app.close()
        written, answered, known = written + one[0], answered + one[1], known + one[2]
    return Sample(time.monotonic() - done.trouble.began, written, answered, known)


def _settle(done: Played, story: Story) -> None:
    """Good lines and no more trouble: everybody syncs until nothing moves any more."""
    began = moved = time.monotonic()
    with story.step("Good lines: everybody syncs until nothing is left to tell") as step:
        left, least = list(done.phones), -1
        while left:
            waiting = _round(left)
            done.undecided = sum(waiting.values())
            left = [phone for phone in left if waiting[phone.number]]
            now = time.monotonic()
            done.samples.append(_sample(done))
            if least < 0 or done.undecided < least:
                least, moved = done.undecided, now
            if now - moved > _PATIENCE_S:
                break
            if left:
                _pause.wait(0.3)
        _round(done.phones)  # everybody once more: what came of the last ones
        done.settled_s = time.monotonic() - began
        step.tell("quiet" if not left else f"{done.undecided} operations of {len(left)} phones have no end: stuck")


def _round(cast: Sequence[Phone]) -> dict[int, int]:
    """Everybody syncs; how many operations have no end yet, by the phone's number."""
    waiting: dict[int, int] = {}
    lock = threading.Lock()

    def one(phone: Phone) -> None:
        count = phone.settle()
        with lock:
            waiting[phone.number] = count

    at_once(cast, one)
    return waiting
