"""The web server's process: ``gunicorn fieldsvc.wsgi:app``."""

from __future__ import annotations

from fieldsvc import logs
from fieldsvc.api import stream
from fieldsvc.app import create_app
from fieldsvc.base import family, memory
from fieldsvc.config import Settings
from fieldsvc.console import live

_settings = Settings.from_env()
logs.configure(_settings)
app = create_app(_settings)
stream.end_with_process(app)
live.end_with_process(app)
family.end_with_parent()
memory.settle()
