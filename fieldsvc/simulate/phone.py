"""A crew's phone through a shift: what befalls it, and its app that is ended at any point and opened again."""

from __future__ import annotations

import random
import threading
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from fieldsvc.base.clock import new_id
from fieldsvc.demo.client import Client, Refused
from fieldsvc.simulate import fieldwork, photos
from fieldsvc.simulate.app import App, Broken, Clock, Crash, Later, Revoked, Tally, TokenDead
from fieldsvc.simulate.line import Line, LineDown
from fieldsvc.simulate.world import UNANSWERED, Options, World

_LIVES = 4
"""How often an app is opened again in one step."""
_SYNCS = 0.3
"""How often a phone with a line syncs, per step."""


@dataclass(frozen=True)
class Fate:
    """What befalls a phone, by steps of the play; None: never.

    :param error: how far ahead its clock is.
    :param set_back: from when on it is two hours less.
    :param reboots: when it is switched off and on.
    :param revoked: revoked by mistake, and enrolled again two steps later.
    :param lost: revoked because it is lost; it is told to wipe itself.
    :param moved: enrolled for another crew, the one of this number.
    :param away: steps without any line, from … to.
    :param badness: the chance of a fault per request.
    """

    error: timedelta = timedelta(0)
    set_back: int | None = None
    reboots: tuple[int, ...] = ()
    revoked: int | None = None
    lost: int | None = None
    moved: tuple[int, int] | None = None
    away: tuple[int, int] = (0, 0)
    badness: float = 0.1


def cast(options: Options) -> list[Fate]:
    """Who has which mishap, by the seed alone. Of every kind there is at least one, and seldom two on one phone."""
    chance, end = options.chance("cast"), options.slices
    free = list(range(options.devices))
    chance.shuffle(free)
    fates = [
        Fate(error=timedelta(seconds=chance.gauss(0, 20)), badness=chance.choice((0.02, 0.1, 0.1, 0.3)))
        for _ in range(options.devices)
    ]

    def some(share: float) -> list[int]:
        count = max(1, round(options.devices * share))
        return [free.pop() if free else chance.randrange(options.devices) for _ in range(count)]

    def middle() -> int:
        return chance.randrange(max(1, end // 4), max(2, end * 3 // 4))

    def away() -> tuple[int, int]:
        begins = chance.randrange(end)
        return begins, begins + chance.randint(2, max(2, end * 3 // 4))

    makers: tuple[tuple[float, Callable[[], dict[str, Any]]], ...] = (
        (0.04, lambda: {"lost": middle()}),
        (0.06, lambda: {"revoked": middle()}),
        (0.06, lambda: {"moved": (middle(), chance.randrange(options.crews))}),
        (0.08, lambda: {"error": timedelta(hours=chance.choice((-3, 2)), minutes=chance.randint(0, 59))}),
        (0.08, lambda: {"set_back": middle()}),
        (0.1, lambda: {"reboots": tuple(sorted({middle(), middle()}))}),
        (0.25, lambda: {"away": away()}),
    )
    for share, make in makers:
        for number in some(share):
            if fates[number].lost is None:  # what happens to a lost phone later happens to nobody
                fates[number] = replace(fates[number], **make())
    return fates


@dataclass
class Registry:
    """What the phones of a crew know of each other without a line, and the office's window for new codes."""

    admin: Client
    last: dict[str, dict[int, str]] = field(default_factory=lambda: defaultdict(dict))
    faults: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def ask(self, path: str, body: object = None) -> dict[str, object] | None:
        """One question to the office; None where nobody answers."""
        with self.lock:
            try:
                answer: dict[str, object] = self.admin.post(path, body)
            except Refused as refused:
                if refused.status == 500:
                    self.faults.append(f"the office: {refused}")
                return None
            except UNANSWERED:
                self.admin.close()
                return None
            return answer

    def code(self, crew_id: str) -> str | None:
        """A new enrolment code."""
        answer = self.ask(f"/v1/crews/{crew_id}/enrolment-codes")
        return str(answer["code"]) if answer else None


@dataclass
class Phone:
    """One phone: its hardware, its file, and where it stands in its fate."""

    number: int
    crew: int
    crew_of: int
    fate: Fate
    world: World
    registry: Registry
    file: Path
    line: Line = field(init=False)
    clock: Clock = field(init=False)
    tally: Tally = field(default_factory=Tally)
    broken: list[str] = field(default_factory=list)
    gone: bool = False
    _needs_code: bool = True
    _revoked: bool = False
    _back: bool = False
    _moved: bool = False

    def __post_init__(self) -> None:
        options = self.world.options
        self.line = Line(self.world.service.url, options.chance("line", self.number))
        self.clock = Clock(self.fate.error, self.world.begins - timedelta(minutes=5 + self.number))

    @property
    def name(self) -> str:
        return f"phone {self.number:03}"

    @property
    def crew_id(self) -> str:
        return self.world.crews[self.crew]

    def app(self, here: Callable[[str], None] | None = None) -> App:
        """The app, opened; close it."""
        return App(self.file, self.line, self.clock, self.tally, *([here] if here else []))

    def first(self) -> None:
        """Enrolled and filled before the shift, on a good line."""
        app = self.app()
        try:
            code = self.registry.code(self.crew_id)
            assert code is not None, "the office gives no code before anything has gone wrong"
            app.enrol(code)
            self._needs_code = False
            app.sync(random.Random(0), 0.0, patient=True)
        finally:
            app.close()

    def turn(self, step: int) -> None:
        """One step of the play: work, mishaps, and now and then a line. Never raises on what the service does."""
        if self.gone:
            return
        chance = self.world.options.chance("phone", self.number, step)
        self.line.badness = self.fate.badness
        self._befall(step)
        worked = False
        for _ in range(_LIVES):
            app = self.app(_crashes(chance))
            try:
                if not worked:
                    worked = True
                    self._work(app, chance, step)
                if self._has_line(chance, step):
                    self._sync(app, chance, step)
                return
            except Crash as crash:
                self.tally.crashes[str(crash)] += 1
            except (LineDown, Later):
                return
            except Broken as fault:
                self.broken.append(f"{self.name}, step {step}: {fault}")
                return
            finally:
                app.close()

    def _befall(self, step: int) -> None:
        if step == self.fate.set_back:
            self.clock.error -= timedelta(hours=2)
        if step in self.fate.reboots:
            self.clock.booted, self.clock.boot_id = self.world.at(step), new_id()

    def _work(self, app: App, chance: random.Random, step: int) -> None:
        begins, ends = self.world.at(step), self.world.at(step + 1)
        written = fieldwork.work(
            app, self.number, self.crew_of, chance, begins, ends, lambda: self._of_colleagues(chance)
        )
        if written and self.fate.lost is None:
            self.registry.last[self.crew_id][self.number] = written[-1]

    def _of_colleagues(self, chance: random.Random) -> str | None:
        others = {number: op for number, op in dict(self.registry.last[self.crew_id]).items() if number != self.number}
        return others[chance.choice(sorted(others))] if others else None

    def _has_line(self, chance: random.Random, step: int) -> bool:
        begins, ends = self.fate.away
        due = self._is_moving(step) or self._is_being_revoked(step)
        return not begins <= step < ends and (chance.random() < _SYNCS or due)

    def _sync(self, app: App, chance: random.Random, step: int) -> None:
        if self._keeps_away(app, step):
            return
        if not self._enrolled(app):
            return
        try:
            app.sync(chance, 0.2)
            photos.send(app, chance, most=3)
            if self._is_moving(step) and not app.waiting():
                self.crew = self.fate.moved[1] if self.fate.moved else self.crew
                self._needs_code = True
                self._moved = True
                self._enrolled(app)
        except TokenDead:
            self._needs_code = True
        except Revoked:
            app.wipe()
            self.gone = True
            if not self._revoked:
                self.broken.append(f"{self.name}, step {step}: told to wipe itself, and nobody has revoked it")

    def _is_moving(self, step: int) -> bool:
        return self.fate.moved is not None and step >= self.fate.moved[0] and not self._moved

    def _is_being_revoked(self, step: int) -> bool:
        times = (self.fate.lost, self.fate.revoked)
        return not self._back and any(at is not None and step >= at for at in times)

    def _keeps_away(self, app: App, step: int) -> bool:
        """Revoke the phone when its time has come; one revoked by mistake keeps away until it has a new code."""
        if not self._is_being_revoked(step):
            return False
        self._revoked = True
        answer = self._revoke(app)
        if self.fate.lost is not None:
            return False
        if answer:
            self._needs_code, self._back = True, True
        return True

    def _revoke(self, app: App) -> bool:
        path = f"/v1/devices/{app.get('device_id')}/revoke"
        return self.registry.ask(path, {"reason": "it cannot be found"}) is not None

    def _enrolled(self, app: App) -> bool:
        """Have a token, with a new code if need be; False while the office does not answer."""
        if not self._needs_code:
            return True
        code = self.registry.code(self.crew_id)
        if code is None:
            return False
        try:
            app.enrol(code)
        except TokenDead:  # the first answer was lost: the code is used, and the old token is dead
            return False
        self._needs_code = False
        return True

    def settle(self) -> int:
        """Sync on a good line; answers how many operations have no end yet."""
        if self.gone:
            return 0
        self.line.badness = 0.0
        app = self.app()
        try:
            if self._revoked and self.fate.lost is not None:
                self._last_call(app)
                return 0
            if self._revoked and not self._back:  # whether the office has got to it is not known
                self._needs_code = self._back = True
            if not self._enrolled(app):
                return len(app.undecided()) + 1
            app.sync(random.Random(0), 0.0, patient=True)
            photos.send(app, random.Random(0), most=1000)
            return len(app.undecided()) + len(photos.unfinished(app))
        except TokenDead:
            self._needs_code = True
            return len(app.undecided()) + 1
        except (LineDown, Later):
            return len(app.undecided()) + 1
        except Broken as fault:
            self.broken.append(f"{self.name}, at the end: {fault}")
            return 0
        finally:
            app.close()

    def _last_call(self, app: App) -> None:
        """A lost phone that has not called since it was revoked calls now."""
        self._revoke(app)
        try:
            app.hello()
            self.broken.append(f"{self.name}: it was revoked and is let in")
        except Revoked:
            app.wipe()
        self.gone = True


def _crashes(chance: random.Random) -> Callable[[str], None]:
    """The app's process ends at a few points of many."""

    def here(point: str) -> None:
        if chance.random() < 0.015:
            raise Crash(point)

    return here


def phones(world: World, registry: Registry, folder: Path) -> list[Phone]:
    """All phones of the play, each with its fate; the crews in turn."""
    options = world.options
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for number, fate in enumerate(cast(options)):
        crew = number % options.crews
        crew_of = len(range(crew, options.devices, options.crews))
        made.append(Phone(number, crew, crew_of, fate, world, registry, folder / f"{number:03}.db"))
    return made
