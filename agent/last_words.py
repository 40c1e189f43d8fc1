"""What a container printed last before it failed, as the cluster is told: readable, short, without secrets. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

MOST_LINES, LONGEST_LINE = 5, 200
"""How much of the end of a failed task's log is told; with it a status stays a small record."""

MASK = "****"
LONG_ENOUGH = 4
"""Characters from which on a secret is found inside of words too; a shorter one would be found in most lines."""

_COLOURS = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


def last_lines(log: bytes, secrets: Iterable[bytes] = ()) -> tuple[str, ...]:
    """Give the end of a log as people can read it: no control characters, no secrets, long lines cut."""
    hidden = _hidden(secrets)
    texts = (hidden.sub(MASK, text) if hidden is not None else text for text in _readable(log))
    told = [text if len(text) <= LONGEST_LINE else text[: LONGEST_LINE - 1] + "…" for text in texts]
    return tuple(told[-MOST_LINES:])


def check_said(exit_code: int, output: bytes, secrets: Iterable[bytes] = ()) -> str:
    """Say in one line what came of a health check that failed."""
    *_, last = "", *last_lines(output, secrets)
    said = f'the check said "{last}"' if last else "the check said nothing"
    return said if exit_code < 0 else f"{said}, with exit code {exit_code}"


def _readable(text: bytes) -> list[str]:
    lines = text.decode(errors="replace").splitlines()
    texts = ("".join(c if c.isprintable() else " " for c in _COLOURS.sub("", line)).strip() for line in lines)
    return [text for text in texts if text]


def _hidden(secrets: Iterable[bytes]) -> re.Pattern[str] | None:
    """Give what finds secrets in a line; one of several lines, such as a key, is found line by line."""
    lines = {line for secret in secrets for line in _readable(secret)}
    if not lines:
        return None
    # The longest first: one that another one begins with would leave the rest of that.
    return re.compile("|".join(map(_found_by, sorted(lines, key=lambda line: (-len(line), line)))))


def _found_by(line: str) -> str:
    return re.escape(line) if len(line) >= LONG_ENOUGH else rf"(?<!\w){re.escape(line)}(?!\w)"
