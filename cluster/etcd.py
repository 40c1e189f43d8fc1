"""What an etcd must be to hold a cluster's state, whoever starts it. Pure."""

from __future__ import annotations

import re

OLDEST = (3, 4)

CORRUPTING = frozenset({(3, 5, 0), (3, 5, 1), (3, 5, 2)})
"""A member of these that crashes may come back with data that differs from the others'."""

FIXED_IN = {(3, 4): 42, (3, 5): 28, (3, 6): 9}
"""The first patch of each line without the known ways round etcd's own permission checks."""


def refusal(version: str) -> tuple[str, str] | None:
    """Tell why a server of this version must not be used, and the remedy; None when it may be."""
    numbers = _numbers(version)
    if numbers[:2] < OLDEST:
        return f"version {version}; 3.4 is the oldest that Stackyard can use", "Use etcd 3.5.28, 3.6.9 or later."
    if numbers in CORRUPTING:
        return (
            f"version {version}, whose data can go inconsistent after a crash",
            "Upgrade it to 3.5.28 or later (3.5.3 is the first that is safe).",
        )
    return None


def lacks_fixes_of(version: str) -> str | None:
    """Give the version of the same line that has the security fixes which this one lacks."""
    major, minor, patch = _numbers(version)
    fixed = FIXED_IN.get((major, minor), 0)
    return f"{major}.{minor}.{fixed}" if patch < fixed else None


def _numbers(version: str) -> tuple[int, int, int]:
    """Read the three numbers; what cannot be read is older than all."""
    found = re.match(r"(\d+)\.(\d+)\.(\d+)", version)
    return (int(found[1]), int(found[2]), int(found[3])) if found else (0, 0, 0)
