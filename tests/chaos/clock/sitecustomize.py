"""Lets a Python program take the time of day from its host's real clock and a file that says by how much it is off.

Loaded by every interpreter that has this folder in its PYTHONPATH. What is not Python has its own clock: engines, etcd,
and the C library under TLS.
"""

import os
import sys
import time

LOOK = 0.5
"""Seconds between two looks at the file."""

_real, _monotonic = time.time, time.monotonic
_file = os.environ.get("STACKYARD_CHAOS_CLOCK", "")
_shift = 0.0
_next = 0.0


def _shifted() -> float:
    global _shift, _next
    if _monotonic() >= _next:
        _next = _monotonic() + LOOK
        try:
            with open(_file) as file:
                _shift = float(file.read())
        except (OSError, ValueError):
            pass  # as it was: the file is being written
    # gRPC hands the instants that it computes to its core, which is no Python: there, this clock would be another one
    ours = not sys._getframe(1).f_globals.get("__name__", "").startswith("grpc")
    return _real() + (_shift if ours else 0.0)


if _file:
    time.time = _shifted
