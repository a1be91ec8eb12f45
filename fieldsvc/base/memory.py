"""Memory of a process that serves for long: what the garbage collector need not look at."""

from __future__ import annotations

import gc

_NEW_OBJECTS = 20_000
"""New objects between two collections. The default of 700 makes a push of 100 operations collect a hundred times."""


def settle() -> None:
    """Call when a process is composed: what is there by now stays, so collections pass it by and come less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS, 20, 20)
