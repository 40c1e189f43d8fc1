"""Takes out of what a cluster tells whatever may be somebody's secret. Pure.

Specs come from people: the values of environments, labels and options, and the words of commands, may hold passwords,
so only their names and numbers are left. Programs and engines may repeat them, so they are masked in all that is told
besides; what programs print is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from cluster.model.task import IT_SAID

MASK = "***"

_VALUES = {"environment", "labels", "annotations", "options", "driver_options"}
_WORDS = {"command", "entrypoint", "test"}
_PRINTED = {"log"}
_SHORTEST = 4
"""Characters of the shortest value that is looked for in sentences: shorter ones are in every word."""
_BETWEEN = re.compile(r"[\s=:,;@/|&?\"']+")
_LOGIN = re.compile(r"(?<=://)[^/\s@]+(?=@)")


def spec(told: Any) -> Any:
    """Give a spec (of JSON types) with the names of what may be secret, and without the values."""
    if isinstance(told, dict):
        return {key: _hidden(value) if _is_secret(key, value) else spec(value) for key, value in told.items()}
    if isinstance(told, list | tuple):
        return [spec(value) for value in told]
    return _LOGIN.sub(MASK, told) if isinstance(told, str) else told


def _is_secret(key: str, value: Any) -> bool:
    """Tell a field that may hold secrets from a service or node that somebody calls `labels` or `test`."""
    if isinstance(value, dict):
        return key in _VALUES and all(isinstance(one, str) for one in value.values())
    return key in _WORDS and isinstance(value, list | tuple)


def _hidden(value: Any) -> Any:
    return dict.fromkeys(value, MASK) if isinstance(value, dict) else [MASK] * len(value)


def values(told: Any) -> Iterator[str]:
    """Give all that `spec` takes out of it, and the parts of that which may be told alone."""
    if isinstance(told, dict):
        for key, value in told.items():
            if _is_secret(key, value):
                for text in value.values() if isinstance(value, dict) else value:
                    yield from _parts(text)
            else:
                yield from values(value)
    elif isinstance(told, list | tuple):
        for value in told:
            yield from values(value)
    elif isinstance(told, str):
        yield from _LOGIN.findall(told)


def _parts(text: str) -> Iterator[str]:
    """Give a value and its words: of `--password=x` and `postgres://ann:x@db` somebody may tell the x alone."""
    yield text
    yield from _BETWEEN.split(text)


class Redactor:
    """Masks in all texts what specs would not show. Without knowing the specs (None) it leaves no sentence as it is."""

    def __init__(self, secret: Iterable[str] | None) -> None:
        self._pattern: re.Pattern[str] | None = None
        if secret is not None:
            longest_first = sorted(
                {text for text in secret if len(text) >= _SHORTEST}, key=lambda text: (-len(text), text)
            )
            # A word of its own, where it begins or ends with a letter: `data` is not looked for in `database`.
            words = (f"{_edge(text[0], '<')}{re.escape(text)}{_edge(text[-1], '')}" for text in longest_first)
            self._pattern = re.compile("|".join(words) or r"(?!)")

    def told(self, told: Any) -> Any:
        """Give what was told (of JSON types) without secrets: sentences masked, names as they are."""
        if isinstance(told, dict):
            return {
                key: _left_out(value) if key in _PRINTED and isinstance(value, list | tuple) else self.told(value)
                for key, value in told.items()
            }
        if isinstance(told, list | tuple):
            return [self.told(value) for value in told]
        return self.text(told) if isinstance(told, str) else told

    def text(self, text: str) -> str:
        """Mask a sentence. A single word is a name, a state or an address, and stays."""
        text = _LOGIN.sub(MASK, text)
        if " " not in text:
            return text
        if self._pattern is None:
            return MASK
        before, said, _ = text.partition(IT_SAID)
        return self._pattern.sub(MASK, before) + (f"{said}{MASK}" if said else "")


def _edge(character: str, way: str) -> str:
    return rf"(?{way}!\w)" if character.isalnum() or character == "_" else ""


def _left_out(lines: Any) -> list[str]:
    return [f"({len(lines)} lines left out)"] if lines else []
