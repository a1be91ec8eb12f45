"""The dispatcher's console: pages for people. They call the same functions as the API; there is no second API.

How a page is made is told in :mod:`fieldsvc.console.frame`, who is signed in by :mod:`fieldsvc.console.session`, how
things are called in the visitor's language by :mod:`fieldsvc.console.words`, and how the pieces look by the macros in
``templates/_parts.html`` and ``static/console.css``.
"""

from __future__ import annotations

import importlib

from flask import Flask
from flask_babel import lazy_gettext as _l

PAGES = (
    "account",
    "assign",
    "board",
    "crews",
    "customers",
    "devices",
    "history",
    "incidents",
    "intake",
    "job_changes",
    "jobs",
    "live",
    "maps",
    "meters",
    "photos",
    "planned",
    "reviews",
    "runs",
    "sync_desk",
    "territories",
    "territory_files",
    "tickets",
    "users",
)
"""The modules of this package that have pages, in alphabetical order."""

MENU = (
    ("board", _l("Board"), "b", (), ""),
    ("intake", _l("New ticket"), "n", ("dispatcher", "supervisor"), "intake"),
    ("runs", _l("Plans"), "p", (), "runs campaigns outages inspections"),
    ("reviews", _l("Reviews"), "r", (), "reviews"),
    ("sync_desk", _l("Sync desk"), "s", (), "sync-desk"),
    ("customers", _l("Customers"), "c", (), "customers usage-points meters tickets incidents"),
    ("crews", _l("Crews"), "w", (), "crews devices"),
    ("territories", _l("Territories"), "t", (), "territories"),
    ("history", _l("History"), "h", (), "history"),
    ("users", _l("Users"), "u", ("admin",), "users"),
)
"""Endpoint, text, second key of its shortcut (after g), roles that see it (none: all), and what the addresses of the
pages that belong to it begin with."""


def init_app(app: Flask) -> None:
    """Put the pages on ``app``."""
    from fieldsvc.console import errors, libraries, live, session, words
    from fieldsvc.console.frame import pages

    for name in PAGES:
        importlib.import_module(f"fieldsvc.console.{name}")
    session.init_app(app)
    words.init_app(app)
    libraries.init_app(app)
    live.init_app(app)
    app.register_blueprint(pages)
    errors.init_app(app)
    app.jinja_env.globals["menu"] = MENU
    app.view_functions["console.static"].__dict__["__access__"] = "public: style sheets, scripts and icons of the pages"
