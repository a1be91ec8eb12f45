"""``GET /board/stream``: tells a board which jobs and crews have changed (server-sent events); what they are now, the
board asks for. Nothing is told of other territories.

What has changed is read from the history, and from the last signs of life of the crews. Every event has an id from
which a board that was cut off goes on, at any process; a board that was away for too long is told to take everything
anew. An open stream holds a thread and no connection. Their number is bounded: a board for which there is no place is
told what it has missed, and asks again after some seconds.
"""

from __future__ import annotations

import random
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import orjson
from flask import Flask, Response, current_app, request
from flask_login import current_user
from sqlalchemy import select

from fieldsvc.api.lanes import BOARDS
from fieldsvc.api.stream import Places, Rhythm
from fieldsvc.base.clock import utc_now
from fieldsvc.base.db import db, reading
from fieldsvc.console.frame import actor, page, pages
from fieldsvc.console.session import ttl
from fieldsvc.feed import watch
from fieldsvc.feed.watch import Watch
from fieldsvc.history import follow
from fieldsvc.history.follow import Follower
from fieldsvc.people import crews, sessions
from fieldsvc.people.actors import Actor
from fieldsvc.people.models import Crew
from fieldsvc.work.board import signs_of_life

OF_ONE = 6
"""Open streams of one account in a process: windows, and some whose line was cut unseen."""
MOST_NEWS = 2000
"""Entries of the history that are told one by one; after more than these a board takes everything anew."""
SIGNS_S = 3.0
"""How often signs of life and sessions are looked at."""
AGAIN_S = (8, 15)
"""How long a board waits for which there is no place."""

_EXTENSION = "fieldsvc.boards"
_HISTORY = "history"
_SESSION, _CREW = "session:", "crew:"


class Boards:
    """The open streams of one process."""

    def __init__(self, app: Flask, rhythm: Rhythm, most: int, most_news: int, signs_s: float) -> None:
        self.app, self.rhythm, self.most_news = app, rhythm, most_news
        self.places = Places(most, OF_ONE)
        self.watch = Watch(self._look, rhythm.look_s)
        self._signs_s = signs_s
        self._signs: dict[str, object] = {}
        self._signs_of: frozenset[str] = frozenset()
        self._signs_until = 0.0

    def _look(self, keys: Collection[str]) -> Mapping[str, object]:
        """Where the history stands, who the sessions belong to, and the signs of life of the crews."""
        others = frozenset(keys) - {_HISTORY}
        with self.app.app_context(), reading():
            if time.monotonic() >= self._signs_until or not others <= self._signs_of:
                self._signs = _signs(others)
                self._signs_of, self._signs_until = others, time.monotonic() + self._signs_s
            return {**self._signs, _HISTORY: follow.mark()}


def init_app(
    app: Flask,
    rhythm: Rhythm | None = None,
    most: int = BOARDS,
    most_news: int = MOST_NEWS,
    signs_s: float = SIGNS_S,
) -> None:
    """Let ``app`` keep streams open. Starts nothing."""
    rhythm = rhythm or Rhythm(heartbeat_s=15.0, life_s=(120.0, 180.0))
    app.extensions[_EXTENSION] = Boards(app, rhythm, most, most_news, signs_s)


def end_with_process(app: Flask) -> None:
    """End all streams when this process is told to stop. Call as ``feed.watch.end_with_process``."""
    boards: Boards = app.extensions[_EXTENSION]
    watch.end_with_process(boards.watch)


def _signs(keys: Collection[str]) -> dict[str, object]:
    crew_ids = [key.removeprefix(_CREW) for key in keys if key.startswith(_CREW)]
    lives = signs_of_life(crew_ids, located=True)
    found: dict[str, object] = {_CREW + crew_id: lives.get(crew_id) for crew_id in crew_ids}
    return found | {key: _whose(key.removeprefix(_SESSION)) for key in keys if key.startswith(_SESSION)}


def _whose(secret: str) -> Actor | None:
    found = sessions.find(secret, utc_now(), ttl())
    return found.actor if found else None


@pages.get("/board/stream")
@page()
def board_stream() -> Response:
    """Events ``changed`` (``{"jobs": [ids], "crews": [ids]}``), ``reload`` (take everything anew), ``beat`` (nothing
    has happened), ``full`` (there is no place: this ends, ask again) and ``bye`` (this ends, as it does now and then).

    Goes on after ``Last-Event-ID``, or ``since`` in the address. Ends by itself after some minutes, and when the
    session or what its account may see has changed.
    """
    boards: Boards = current_app.extensions[_EXTENSION]
    since = request.headers.get("Last-Event-ID") or request.args.get("since")
    session = _Session(actor(), current_user.get_id(), since)
    placed = boards.places.enter(session.actor.id)
    response = Response(_events(boards, session) if placed else _once(boards, session), mimetype="text/event-stream")
    if placed:
        response.call_on_close(partial(boards.places.leave, session.actor.id))
    response.headers["X-Accel-Buffering"] = "no"
    return response


class _Session:
    """One who listens, and how far it has come."""

    def __init__(self, who: Actor, ident: str, since: str | None) -> None:
        self.actor, self.ident = who, ident
        known = since is not None and since.isascii() and since.isdigit() and len(since) < 19
        self._follower = Follower(int(since)) if since and known else None

    def news(self, boards: Boards, lives: Collection[str] = ()) -> bytes:
        """The event for what is new in the history, and for crews with a new sign of life; nothing when there is none
        for this account.
        """
        with boards.app.app_context(), reading():
            rows = self._follower.read(utc_now(), boards.most_news) if self._follower else None
            if rows is None:
                self._follower = Follower(follow.newest())
                return self._event(b"reload", {})
            told = _told(self.actor, rows)
        told["crews"] |= set(lives)
        return self._event(b"changed", {name: sorted(ids) for name, ids in told.items()}) if any(told.values()) else b""

    def _event(self, name: bytes, data: Mapping[str, Any]) -> bytes:
        settled = self._follower.settled if self._follower else 0
        return b"id: %d\nevent: %s\ndata: %s\n\n" % (settled, name, orjson.dumps(data))


def _told(who: Actor, rows: Sequence[Any]) -> dict[str, set[str]]:
    """The jobs and crews that entries of the history are about, as far as they are the account's to see. A job that has
    left its territories is told as well: it is asked for, and found to be gone.
    """
    jobs, crew_ids = set(), set()
    for row in rows:
        if row.job_id and (who.sees(row.territory_id) or who.sees((row.before or {}).get("territory_id"))):
            jobs.add(row.job_id)
        elif row.crew_id and row.entity in ("crew", "shift", "device"):
            crew_ids.add(row.crew_id)
    visible = crews.visible_ids(who) if crew_ids else None
    return {"jobs": jobs, "crews": crew_ids if visible is None else crew_ids & set(visible)}


def _events(boards: Boards, session: _Session) -> Iterator[bytes]:
    ends = time.monotonic() + random.uniform(*boards.rhythm.life_s)
    yield b"retry: %d\n\n" % random.randint(1000, 3000)
    key = _SESSION + session.ident
    with boards.watch.on([_HISTORY, key, *_crew_keys(boards.app, session.actor)]) as watched:
        begun = False
        while time.monotonic() < ends:
            news = watched.wait(boards.rhythm.heartbeat_s)
            if news is None or news.get(key, session.actor) != session.actor:
                return
            # The first news is how all crews stand, not that they have moved.
            lives = [one.removeprefix(_CREW) for one in news if one.startswith(_CREW)] if begun else []
            begun = begun or bool(news)
            yield (session.news(boards, lives) if news else b"") or b"event: beat\ndata: {}\n\n"
    yield b"event: bye\ndata: {}\n\n"


def _crew_keys(app: Flask, who: Actor) -> list[str]:
    with app.app_context(), reading():
        visible = crews.visible_ids(who)
        found = db.session.scalars(select(Crew.id).where(Crew.active)) if visible is None else visible
        return [_CREW + crew_id for crew_id in found]


def _once(boards: Boards, session: _Session) -> Iterator[bytes]:
    """What was missed, and when to ask again."""
    yield b"retry: %d\n\n" % (random.randint(*AGAIN_S) * 1000)
    if missed := session.news(boards):
        yield missed
    yield b"event: full\ndata: {}\n\n"
