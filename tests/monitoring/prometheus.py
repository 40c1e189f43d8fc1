"""Debian's Prometheus and promtool, unpacked and not installed."""

from __future__ import annotations

import functools
import subprocess
from pathlib import Path

MONITORING = Path(__file__).parents[2] / "monitoring"
_FETCH = Path(__file__).parents[2] / "scripts" / "fetch-prometheus"


@functools.cache
def programs() -> Path:
    """The folder of both; fetched at first use."""
    return Path(subprocess.run([_FETCH], check=True, capture_output=True, text=True).stdout.strip())


def promtool(*words: str, text: str = "") -> None:
    """Run it, with `text` to read; what it finds wrong, or would have written in another way, fails."""
    done = subprocess.run([programs() / "promtool", *words], input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
