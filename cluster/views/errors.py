"""What is answered instead, when something does not go well."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ErrorBody:
    """The body of every answer that is not a success; `kind` is the name of the class in `cluster.errors`."""

    error: str
    hint: str = ""
    kind: str = ""
