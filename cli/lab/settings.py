"""What a lab was asked to be, kept in a file so that `start` and a second `up` know it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from cli.lab.layout import MAX_NODES
from cli.lab.programs import ETCD, MANAGER_PROGRAMS, PROGRAMS
from cluster.errors import UserError


@dataclass(frozen=True, slots=True)
class Settings:
    """The shape of one lab."""

    subnet: str
    nodes: int = 3
    managers: int = 1
    programs: tuple[str, ...] = PROGRAMS
    engine_args: tuple[str, ...] = ()

    def belongs(self, program: str, node: int) -> bool:
        """Whether the program runs on that node."""
        return program in self.programs and (node <= self.managers or program not in MANAGER_PROGRAMS)


def plan(
    old: Settings | None,
    subnet: str,
    nodes: int | None,
    managers: int | None,
    programs: Sequence[str] | None,
    engine_args: Sequence[str] | None,
) -> Settings:
    """The settings after an `up`: those of the lab as it is, with what was asked for where it can still be changed."""
    new = old or Settings(subnet)
    if programs is not None:
        if unknown := set(programs) - set(PROGRAMS):
            raise UserError(f"a lab has no program {', '.join(sorted(unknown))}", hint=f"It has {', '.join(PROGRAMS)}.")
        wanted = {*programs, *(old.programs if old else ())}
        new = replace(new, programs=tuple(program for program in PROGRAMS if program in wanted))
    if nodes is not None:
        new = replace(new, nodes=max(nodes, old.nodes if old else 0))
    if engine_args is not None:
        new = replace(new, engine_args=tuple(engine_args))
    if managers is not None and managers != new.managers:
        if old is not None and ETCD in old.programs:
            raise UserError(
                f"this lab has {old.managers} manager(s), which cannot be changed",
                hint="Begin anew: `stack lab down`, then `stack lab up`.",
            )
        new = replace(new, managers=managers)
    if not 1 <= new.nodes <= MAX_NODES:
        raise UserError(f"a lab has 1 to {MAX_NODES} nodes, not {new.nodes}")
    if not 1 <= new.managers <= new.nodes:
        raise UserError(f"a lab of {new.nodes} nodes cannot have {new.managers} managers")
    return new


def read(path: Path) -> Settings | None:
    """The settings on disk; a file that is not what we write counts as none."""
    try:
        raw = json.loads(path.read_text())
        return Settings(
            subnet=str(raw["subnet"]),
            nodes=int(raw["nodes"]),
            managers=int(raw["managers"]),
            programs=tuple(program for program in PROGRAMS if program in raw["programs"]),
            engine_args=tuple(map(str, raw["engine_args"])),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write(path: Path, settings: Settings) -> None:
    """Put the file in its place whole, or not at all."""
    new = path.with_name(path.name + ".new")
    new.write_text(json.dumps(asdict(settings), indent=2) + "\n")
    new.replace(path)
