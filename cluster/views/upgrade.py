"""Upgrades of a cluster: which releases its programs have, and what keeps it from its newest records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class ProgramView:
    """A program of the cluster and its release. What keeps an upgrade from its end is said in `behind`, "" if nothing.

    `version` is the newest of records and messages that it is known to understand.
    """

    kind: Literal["manager", "agent"]
    name: str
    version: int
    release: str
    behind: str = ""


@dataclass(frozen=True, slots=True)
class UpgradeView:
    """`version` is that of records and messages which the cluster writes, `newest` that of its newest manager."""

    version: int
    newest: int
    programs: tuple[ProgramView, ...]

    @property
    def behind(self) -> tuple[ProgramView, ...]:
        return tuple(program for program in self.programs if program.behind)
