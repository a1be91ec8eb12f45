"""Parents and children among processes: no child outlives the one that started it (Linux only)."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


def die_with_parent(parent: int, sig: int = signal.SIGTERM) -> Callable[[], None] | None:
    """A ``preexec_fn`` by which the child gets ``sig`` when the thread that started it ends."""
    if _libc is None:
        return None
    libc = _libc

    def arrange() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, sig)
        if os.getppid() != parent:
            os._exit(1)

    return arrange


def end_with_parent() -> None:
    """Have this process told to end (SIGTERM) when its parent is gone.

    A process of the web server whose master was killed would else go on for minutes: it takes requests out of the
    socket it shares with the next master, and answers none.
    """
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
