"""Subcommands of ``fieldsvc``: every module here with a ``register(main)`` adds its own."""

from __future__ import annotations

import pkgutil
from importlib import import_module

import click


def attach(main: click.Group) -> None:
    """Let every module of this package add its commands to ``main``."""
    for module in sorted(found.name for found in pkgutil.iter_modules(__path__)):
        register = getattr(import_module(f"{__name__}.{module}"), "register", None)
        if register is not None:
            register(main)
