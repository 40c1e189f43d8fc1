"""Typed reading of the plain model, in the forms that Docker prints: `"1m30s"`, `"52428800"`, `"0440"`.

The loader has checked the shape of what it read; everything is checked again here, so that no model, however it was
made, gives anything but a value or a ComposeError that says where.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, Protocol

from cluster import templates
from cluster.compose.tree import Where
from cluster.errors import ComposeError

Path = tuple[str | int, ...]

LARGEST = 2**63 - 1

_DURATION = re.compile(r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:ns|us|µs|μs|ms|s|m|h)")
_UNIT = re.compile(r"[a-zµμ]+")
_SECONDS = {
    "ns": Decimal("1e-9"),
    "us": Decimal("1e-6"),
    "µs": Decimal("1e-6"),
    "μs": Decimal("1e-6"),
    "ms": Decimal("0.001"),
    "s": Decimal(1),
    "m": Decimal(60),
    "h": Decimal(3600),
}
_NANO = Decimal(10**9)
_LITERAL = 'Where the braces are meant as they stand, write {{"{{"}} for the opening ones.'


class Source(Protocol):
    """A loaded project, as far as it is read here."""

    @property
    def name(self) -> str: ...

    @property
    def model(self) -> dict[str, Any]: ...

    def where(self, *path: str | int) -> Where: ...


@dataclass(frozen=True, slots=True)
class Field:
    """A value of the model and its path; one that is missing or null is a field too, which is not `given`."""

    value: Any
    path: Path
    source: Source

    @property
    def given(self) -> bool:
        return self.value is not None

    def __getitem__(self, key: str) -> Field:
        entries = self.value if isinstance(self.value, dict) else {}
        if self.value is not None and not isinstance(self.value, dict):
            raise self.wrong("a mapping")
        return Field(entries.get(key), (*self.path, key), self.source)

    def items(self) -> Iterator[Field]:
        """Give the items of a list; none if it is missing."""
        if self.value is not None and not isinstance(self.value, list):
            raise self.wrong("a list")
        for n, value in enumerate(self.value or ()):
            yield Field(value, (*self.path, n), self.source)

    def entries(self) -> Iterator[tuple[str, Field]]:
        """Give the entries of a mapping; none if it is missing."""
        if self.value is not None and not isinstance(self.value, dict):
            raise self.wrong("a mapping")
        for key, value in (self.value or {}).items():
            if not isinstance(key, str):
                raise self.error(f"the key {key!r} is not text")
            yield key, Field(value, (*self.path, key), self.source)

    def text(self, default: str = "") -> str:
        """Read text, also a number or truth value that stands where text may."""
        if self.value is None:
            return default
        if isinstance(self.value, bool):
            return "true" if self.value else "false"
        if isinstance(self.value, int | float):
            return str(self.value)
        if not isinstance(self.value, str):
            raise self.wrong("text")
        if "\0" in self.value:
            raise self.error("the text holds a NUL character")
        return self.value

    def template(self) -> str:
        """Read text whose `{{...}}` each task's node expands; what cannot be parsed would fail there."""
        written = self.text()
        try:
            templates.check(written)
        except templates.TemplateError as error:
            raise self.error(f"{written[:60]!r} is no template: {error.message}", hint=_LITERAL) from None
        return written

    def one_of(self, default: str, *choices: str) -> str:
        """Read one of a few words."""
        word = self.text(default)
        if word not in choices:
            raise self.error(f"{word[:40]!r} is none of {', '.join(repr(choice) for choice in choices if choice)}")
        return word

    def boolean(self, default: bool = False) -> bool:
        if self.value is None:
            return default
        if not isinstance(self.value, bool):
            raise self.wrong("true or false")
        return self.value

    def integer(self, *, least: int = -LARGEST, most: int = LARGEST) -> int | None:
        """Read a whole number, also one printed as text such as a byte size; None if missing."""
        value = self.value
        if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,19}", value):
            value = int(value)
        elif isinstance(value, float) and value.is_integer():
            value = int(value)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.wrong("a whole number")
        if not least <= value <= most:
            bounds = f"at least {least}" if most == LARGEST else f"between {least} and {most}"
            raise self.error(f"{value} is out of range: it must be {bounds}")
        return value

    def number(self, default: float = 0.0) -> float:
        value = self.value
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise self.wrong("a number")
        return float(value)

    def nano_cpus(self) -> int:
        """Read a number of cores, in billionths of a core; 0 if missing or 0."""
        if self.value is None:
            return 0
        try:
            cores = Decimal(self.text())
        except InvalidOperation:
            raise self.wrong("a number of cores") from None
        if not cores.is_finite() or not 0 <= cores <= 10**6:
            raise self.wrong("a number of cores")
        return int(cores * _NANO)

    def seconds(self) -> float | None:
        """Read a duration as Go prints one; None if missing."""
        if self.value is None:
            return None
        written = self.text()
        if written == "0":
            return 0.0
        parts = _DURATION.findall(written[:100])
        if not parts or "".join(parts) != written:
            raise self.error(f"{written[:40]!r} is not a duration", hint="Write it like 90s, 1m30s or 500ms.")
        total = Decimal(0)
        for part in parts:
            unit = _UNIT.search(part)
            assert unit is not None
            total += Decimal(part[: unit.start()]) * _SECONDS[unit.group()]
        if total > 10**9:
            raise self.error(f"{written} is too long a time")
        return float(total)

    def texts(self) -> tuple[str, ...]:
        """Read a list of texts."""
        return tuple(item.text() for item in self.items())

    def pairs(self) -> dict[str, str]:
        """Read a mapping of names to text; a name without a value has an empty one."""
        return {key: value.text() for key, value in self.entries()}

    def error(self, message: str, *, hint: str = "") -> ComposeError:
        return self.source.where(*self.path).error(message, hint=hint)

    def wrong(self, wanted: str) -> ComposeError:
        """Give the error for a value of another kind than is wanted."""
        match self.value:
            case dict():
                found = "a mapping"
            case list():
                found = "a list"
            case str():
                found = repr(self.value if len(self.value) <= 40 else self.value[:37] + "...")
            case _:
                found = str(self.value)[:40]
        return self.error(f"{wanted} is wanted here, not {found}")


def root(source: Source) -> Field:
    return Field(source.model, (), source)
