"""Ctrl-C while there is nothing to clean up: the program ends at once.

KeyboardInterrupt is not for that: what loads a module shows it with a traceback, or loses it in a callback.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

INTERRUPTED = 130


@contextmanager
def at_once() -> Iterator[None]:
    """Have Ctrl-C end the program at once for the block, unless it is ignored or has another handler."""
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, _leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _leave(*_: object) -> None:
    os._exit(INTERRUPTED)
