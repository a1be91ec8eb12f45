"""The composition root: the only place that puts settings, database, queue, API and console together."""

from __future__ import annotations

import importlib
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog
from flask import Flask
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.routing import Rule

from fieldsvc import api, console, queue, rules
from fieldsvc.base import signing
from fieldsvc.base.db import db, engine_options, prepare_engine
from fieldsvc.base.store import Store
from fieldsvc.config import BadSetting, Settings
from fieldsvc.geo.roads import BadNetwork
from fieldsvc.geo.source import TravelSource

log = structlog.get_logger(__name__)

_MODELS = ("people", "records", "work", "feed", "history", "sync", "api")


def load_models() -> None:
    """Import every room's tables, so that ``Base.metadata`` is whole."""
    for room in _MODELS:
        importlib.import_module(f"fieldsvc.{room}.models")


def migrations_dir() -> Path:
    """Where the migrations lie: inside an installed package, beside it in a checkout."""
    installed = Path(__file__).parent / "_migrations"
    return installed if installed.is_dir() else Path(__file__).parent.parent / "migrations"


class LazyRule(Rule):
    """A route that makes what builds its address when somebody first asks for an address.

    Werkzeug compiles two functions for each route as it is added, which is most of the work of composing the
    application, and few of them are ever called in a process.
    """

    def _compile_builder(self, append_unknown: bool = True) -> Callable[..., tuple[str, str]]:
        made: list[Callable[..., tuple[str, str]]] = []

        def build(rule: Rule, **values: Any) -> tuple[str, str]:
            if not made:
                made.append(Rule._compile_builder(rule, append_unknown))
            return made[0](rule, **values)

        return build


def create_app(settings: Settings | None = None) -> Flask:
    """A ready Flask application for ``settings`` (default: from the environment).

    :raises BadSetting: PostgreSQL without ``FIELDSVC_SECRET_KEY``: several processes must sign with one key; rule packs
        or a road network that cannot be used.
    """
    settings = settings or Settings.from_env()
    secret = settings.secret_key
    if not secret:
        if not settings.is_sqlite:
            raise BadSetting(
                "FIELDSVC_SECRET_KEY must be set: checkpoints are signed with it, in every process the same"
            )
        secret = secrets.token_hex(32)
    try:
        rules.read_also(settings.rules_dir)
    except rules.RuleError as error:
        raise BadSetting(f"FIELDSVC_RULES_DIR: {error}") from None
    try:
        travel = TravelSource.of(settings.travel)
    except BadNetwork as error:
        raise BadSetting(f"FIELDSVC_TRAVEL: {error}") from None
    for row in travel.network.refused if travel.network else ():
        log.warning("road-left-out", file=row.file, line=row.line, reason=row.reason)
    load_models()
    app = Flask("fieldsvc", static_folder=None)
    app.url_rule_class = LazyRule
    app.config.update(
        SECRET_KEY=secret,
        SQLALCHEMY_DATABASE_URI=settings.database_url,
        SQLALCHEMY_ENGINE_OPTIONS=engine_options(settings),
        MAX_CONTENT_LENGTH=settings.request_bytes,
    )
    app.extensions["fieldsvc.settings"] = settings
    app.extensions["fieldsvc.travel"] = travel
    if settings.trusted_proxies:
        hops = settings.trusted_proxies
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=hops, x_proto=hops, x_host=hops)  # type: ignore[method-assign]
    try:
        app.extensions["fieldsvc.store"] = Store(settings.evidence)
    except ImportError:
        raise BadSetting("FIELDSVC_EVIDENCE_URL names S3, which needs more: install fieldsvc[s3]") from None
    db.init_app(app)
    with app.app_context():
        prepare_engine(db.engine)
    signing.init_app(app)
    queue.init_app(app, settings)
    api.init_app(app)
    console.init_app(app)
    return app
