"""The database: one declarative base, UTC times, decimal strings, and the only place that commits.

A use case works on ``db.session`` and may flush; an edge (view, task, command) wraps it in :func:`transaction`. Outside
of it the session only reads: a flush there raises, so a forgotten ``with transaction()`` is an error, not a lost write.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import orjson
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import JSON, Boolean, DateTime, Dialect, Engine, MetaData, String, Text, bindparam, event
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import DeclarativeBase, Session, registry
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator, TypeEngine

from fieldsvc.config import Settings


class UtcDateTime(TypeDecorator[datetime]):
    """An aware datetime, stored in UTC. A naive one is refused: nobody could say later what it meant."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without zone cannot be stored")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class DecimalString(TypeDecorator[Decimal]):
    """A Decimal stored as text: register values are compared digit for digit, and SQLite has no decimal type."""

    impl = String(40)
    cache_ok = True

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> str | None:
        return None if value is None else format(value, "f")

    def process_result_value(self, value: str | None, dialect: Dialect) -> Decimal | None:
        return None if value is None else Decimal(value)


Json = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
"""A JSON column: JSONB on PostgreSQL, text on SQLite. Replace values, never mutate them in place."""


class _TextList(TypeDecorator[list[str]]):
    """Texts as one parameter: an array on PostgreSQL, a JSON array on SQLite."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(ARRAY(Text()) if dialect.name == "postgresql" else Text())

    def process_bind_param(self, value: Iterable[str] | None, dialect: Dialect) -> Any:
        values = list(value or ())
        return values if dialect.name == "postgresql" else dumps(values)


class among(FunctionElement[bool]):  # noqa: N801 - reads as an operator in a condition
    """``column IN values`` with all values in one parameter: one statement to prepare, whatever their number.

    In a statement that is made beforehand ``values`` is the name of the parameter that will bring them.
    """

    type = Boolean()
    inherit_cache = True

    def __init__(self, column: Any, values: Iterable[str] | str) -> None:
        if isinstance(values, str):
            parameter = bindparam(values, type_=_TextList())
        else:
            parameter = bindparam(None, list(values), type_=_TextList(), unique=True)
        super().__init__(column, parameter)


@compiles(among)
def _among(element: Any, compiler: Any, **kw: Any) -> str:
    column, values = element.clauses
    listed = compiler.process(values, **kw)
    return f"{compiler.process(column, **kw)} IN (SELECT value FROM json_each({listed}))"  # noqa: S608 - bound


@compiles(among, "postgresql")
def _among_array(element: Any, compiler: Any, **kw: Any) -> str:
    column, values = element.clauses
    return f"{compiler.process(column, **kw)} = ANY ({compiler.process(values, **kw)})"


_NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}
"""Stable constraint names, so that migrations are the same on both databases."""


class Base(DeclarativeBase):
    """Every table's base: what a plain annotation means as a column type is said once, here."""

    registry = registry(
        metadata=MetaData(naming_convention=_NAMING),
        type_annotation_map={datetime: UtcDateTime(), Decimal: DecimalString(), dict[str, Any]: Json, list[Any]: Json},
    )


db = SQLAlchemy(model_class=Base, disable_autonaming=True)


def dumps(value: Any) -> str:
    """JSON text as every JSON column stores it."""
    return orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS).decode()


def engine_options(settings: Settings) -> dict[str, Any]:
    """Options for ``SQLALCHEMY_ENGINE_OPTIONS`` fitting the database in ``settings``."""
    options: dict[str, Any] = {"json_serializer": dumps, "json_deserializer": orjson.loads}
    options["hide_parameters"] = True  # a fault is logged with its statement; the values are people's names and phones
    if settings.database_url != "sqlite://":  # in memory there is one connection only
        options |= {"pool_size": 10, "max_overflow": 20}
    if settings.is_sqlite:
        options["connect_args"] = {"timeout": 30, "check_same_thread": False}
    return options


def prepare_engine(engine: Engine) -> None:
    """Give an engine what it needs: SQLite the settings under which concurrent writers lose nothing, PostgreSQL a look
    at connections that have been idle.

    pysqlite's own transaction handling begins too late (a read-modify-write then silently loses updates), so it is
    switched off and every transaction begins IMMEDIATE unless the connection was opened for reading.
    """
    if engine.dialect.name != "sqlite":
        _ask_after_idling(engine)
        return

    @event.listens_for(engine, "connect")
    def _connect(dbapi: Any, _record: Any) -> None:
        dbapi.isolation_level = None
        cursor = dbapi.cursor()
        for pragma in ("busy_timeout=30000", "journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(conn: Any) -> None:
        reading = conn.get_execution_options().get("sqlite_readonly")
        conn.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")


_IDLE_S = 1.0


def _ask_after_idling(engine: Engine) -> None:
    """Replace a connection the server has closed meanwhile. SQLAlchemy's ``pool_pre_ping`` asks before every use: two
    more questions per request, for connections that have answered a moment ago.
    """

    @event.listens_for(engine, "checkin")
    def _checkin(_dbapi: Any, record: Any) -> None:
        record.info["idle_since"] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def _checkout(dbapi: Any, record: Any, _proxy: Any) -> None:
        if time.monotonic() - record.info.get("idle_since", math.inf) > _IDLE_S:
            try:
                engine.dialect.do_ping(dbapi)
            except engine.dialect.loaded_dbapi.Error as error:
                raise DisconnectionError("the server has closed it") from error


Finisher = Callable[[], None]


@contextmanager
def transaction() -> Iterator[Session]:
    """One transaction of the whole unit of work: commit at the end, roll back on any exception.

    :raises RuntimeError: when one is open already; the edge owns the transaction, nobody else.
    """
    session = db.session()
    if session.info.get("writing"):
        raise RuntimeError("a transaction is open already: only edges open one")
    session.rollback()  # a read that an earlier step of this edge left open
    session.info["writing"] = True
    session.info["finishers"] = {}
    try:
        session.connection()
        yield session
        session.flush()
        for _key, (_last, finish) in sorted(session.info["finishers"].items(), key=lambda item: item[1][0]):
            finish()
        session.flush()
        session.commit()
    except BaseException:
        session.rollback()
        raise
    finally:
        session.info["writing"] = False
        session.info.pop("finishers", None)


_READING: dict[str, dict[str, Any]] = {
    "sqlite": {"sqlite_readonly": True},
    "postgresql": {"isolation_level": "AUTOCOMMIT"},
}


@contextmanager
def reading() -> Iterator[Session]:
    """A block that only reads; on SQLite it takes no write lock. Inside :func:`transaction` it simply joins in.

    On PostgreSQL its statements are transactions of their own: READ COMMITTED, our isolation, lets each of them see
    what is committed by then anyway, and BEGIN and ROLLBACK would be two more questions to the server.
    """
    session = db.session()
    if session.info.get("writing"):
        yield session
        return
    session.rollback()
    try:
        session.connection(execution_options=_READING[session.get_bind().dialect.name])
        yield session
    finally:
        session.rollback()


def at_end(key: str, finish: Finisher, *, last: bool = False) -> None:
    """Run ``finish`` once before the open transaction commits; ``last``: after all others (the feed's counters)."""
    session = db.session()
    if not session.info.get("writing"):
        raise RuntimeError("no transaction is open")
    session.info["finishers"].setdefault(key, (last, finish))


@event.listens_for(Session, "before_flush")
def _only_in_transaction(session: Session, _context: Any, _instances: Any) -> None:
    if not session.info.get("writing") and (session.new or session.dirty or session.deleted):
        raise RuntimeError("a write outside of transaction(): it would never be committed")
