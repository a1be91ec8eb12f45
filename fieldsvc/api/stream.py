"""``GET /sync/v1/stream``: tells a device that there is something to pull (server-sent events). It says no more than
that: what there is, the pull tells.

An open stream holds a thread of the web server and nothing else. Their number is bounded per process, they end by
themselves after some minutes, so that they spread over the processes anew, and at once when the process is to stop.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import orjson
from flask import Flask, Response, current_app, g, request
from sqlalchemy import select

from fieldsvc.api import access
from fieldsvc.api.frame import Blueprint
from fieldsvc.api.lanes import STREAMS
from fieldsvc.api.schemas import ListOf, Schema, Text
from fieldsvc.api.sync import scopes
from fieldsvc.base.db import among, db, reading
from fieldsvc.base.errors import FieldsvcError
from fieldsvc.feed import watch
from fieldsvc.feed.pull import counters
from fieldsvc.feed.watch import Watch
from fieldsvc.people.actors import token_hash
from fieldsvc.people.models import Device

blp = Blueprint("stream", __name__, url_prefix="/sync/v1", description="Hints that there is something to pull")

OF_ONE = 8
"""Open streams of a device in a process: one for each collection of a library, and some whose line was cut unseen."""

_EXTENSION = "fieldsvc.streams"
_TOKEN = "token:"  # noqa: S105 - what keys of the watch begin with that are no scopes

Render = Callable[[Sequence[str]], bytes]
"""Scopes that have moved -> the event that says so; no bytes: nothing is said."""


@dataclass(frozen=True)
class Rhythm:
    """How often the feed is looked at, how long a stream is silent at most, and how long it lives. Seconds."""

    look_s: float = 1.0
    heartbeat_s: float = 20.0
    life_s: tuple[float, float] = (240.0, 360.0)


class Places:
    """How many streams a process keeps open: at most ``most``, ``of_one`` of one device or person."""

    def __init__(self, most: int, of_one: int) -> None:
        self._most, self._of_one = most, of_one
        self._open: Counter[str] = Counter()
        self._counting = threading.Lock()

    def enter(self, whose: str) -> bool:
        """Take a place, if there is one for them; :meth:`leave` gives it back."""
        with self._counting:
            if self._open.total() >= self._most or self._open[whose] >= self._of_one:
                return False
            self._open[whose] += 1
            return True

    def leave(self, whose: str) -> None:
        with self._counting:
            self._open[whose] -= 1
            self._open += Counter()  # forgets whoever has none


class Streams:
    """The open streams of one process."""

    def __init__(self, app: Flask, rhythm: Rhythm, most: int) -> None:
        self.rhythm = rhythm
        self.places = Places(most, OF_ONE)
        self.watch = Watch(lambda keys: _look(app, keys), rhythm.look_s)

    def hints(self, scopes: Sequence[str], token: str, crew_id: str, render: Render) -> Iterator[bytes]:
        """Events as they come. Ends when the device may no longer read these scopes."""
        ends = time.monotonic() + random.uniform(*self.rhythm.life_s)
        yield b"retry: %d\n\n" % random.randint(1000, 5000)
        with self.watch.on([*scopes, token]) as watched:
            while time.monotonic() < ends:
                news = watched.wait(self.rhythm.heartbeat_s)
                if news is None or news.get(token, crew_id) != crew_id:
                    return
                event = render([scope for scope in scopes if scope in news]) if news else b""
                yield event or b":\n\n"


def init_app(app: Flask, rhythm: Rhythm | None = None, most: int = STREAMS) -> None:
    """Let ``app`` keep streams open. Starts nothing."""
    app.extensions[_EXTENSION] = Streams(app, rhythm or Rhythm(), most)


def end_with_process(app: Flask) -> None:
    """End all streams when this process is told to stop: see ``feed.watch``."""
    streams: Streams = app.extensions[_EXTENSION]
    watch.end_with_process(streams.watch)


def _look(app: Flask, keys: Collection[str]) -> Mapping[str, object]:
    """Where scopes stand, and which crew the device with a token belongs to."""
    tokens = [key.removeprefix(_TOKEN) for key in keys if key.startswith(_TOKEN)]
    with app.app_context(), reading():
        found: dict[str, object] = dict(counters([key for key in keys if not key.startswith(_TOKEN)]))
        valid = select(Device.token_hash, Device.crew_id).where(
            among(Device.token_hash, tokens), Device.revoked_at.is_(None)
        )
        return found | {_TOKEN + row.token_hash: row.crew_id for row in db.session.execute(valid)}


def respond(render: Render) -> Response:
    """An open stream for the calling device: ``render`` makes its events, one for how things stand now, then one
    whenever one of the device's scopes moves.

    :raises FieldsvcError: ``unavailable`` when the process has no place left, or the device too many streams.
    """
    streams: Streams = current_app.extensions[_EXTENSION]
    if not streams.places.enter(g.actor.device_id):
        wait = random.randint(10, 30)
        raise FieldsvcError("unavailable", "too many streams are open here: pull instead", retry_after=wait)
    token = _TOKEN + token_hash(request.headers["Authorization"].partition(" ")[2].strip())
    response = Response(streams.hints(scopes(), token, g.actor.crew_id, render), mimetype="text/event-stream")
    response.call_on_close(partial(streams.places.leave, g.actor.device_id))
    response.headers["X-Accel-Buffering"] = "no"  # nginx would else keep hints until it has many
    return response


class Hint(Schema):
    """The data of one event ``resync``."""

    scopes = ListOf(Text(80), max=3, required=True, metadata={"description": "Those with something to pull."})


@blp.get("/stream")
@access.device()
@blp.response(200, Hint, content_type="text/event-stream")
@blp.errors("unavailable")
def stream() -> Response:
    """Be told when there is something to pull

    Events `resync`, a comment at least every 20 s. The first event comes at once. Ends by itself after some minutes.
    """
    return respond(_resync)


def _resync(moved: Sequence[str]) -> bytes:
    return b"event: resync\ndata: " + orjson.dumps({"scopes": moved}) + b"\n\n"
