"""What a process writes to standard error: one event a line, without personal data and without local variables.

Processes configure this when they start (web server, worker, command); importing or composing the application does not.
"""

from __future__ import annotations

import logging
import sys

import structlog

from fieldsvc.config import BadSetting, Settings


def configure(settings: Settings) -> None:
    """Log from ``settings.log_level`` on, as JSON or readable.

    :raises BadSetting: no such level.
    """
    level = logging.getLevelNamesMapping().get(settings.log_level.upper())
    if level is None:
        raise BadSetting(f"FIELDSVC_LOG_LEVEL must be DEBUG, INFO, WARNING or ERROR, not {settings.log_level!r}")
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    readable = structlog.dev.ConsoleRenderer(
        colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
    )
    rendered: list[structlog.typing.Processor] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()] if settings.log_json else [readable]
    )
    structlog.configure(
        processors=shared + rendered,
        wrapper_class=structlog.make_filtering_bound_logger(level),
        # Looked up at every event: a command run inside a test configures this too, and its stderr is closed after.
        logger_factory=lambda *_: structlog.WriteLogger(sys.stderr),
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(level=max(level, logging.WARNING), format="%(asctime)s [%(levelname)s] %(name)s: %(message)s")
