"""What a mistyped key may have been meant to be."""

from __future__ import annotations

from collections.abc import Iterable

from cluster.alike import did_you_mean


def suggest(name: str, known: Iterable[str]) -> str:
    """Give the hint for an unknown key."""
    return did_you_mean(name, known, "See the Compose Specification; keys of your own begin with x-.")
