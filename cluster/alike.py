"""What a mistyped name may have been meant to be."""

from __future__ import annotations

from collections.abc import Iterable


def did_you_mean(name: str, known: Iterable[str], otherwise: str = "") -> str:
    """Give the hint for an unknown name: one that is like it, or else what helps otherwise."""
    from difflib import get_close_matches  # only where something is wrong

    close = get_close_matches(name[:60], sorted(known), n=1)
    return f"Did you mean {close[0]}?" if close else otherwise
