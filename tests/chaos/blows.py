"""What goes wrong: chosen by a seed, done to a lab, and mended."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from cli.lab import Lab, programs, supervise
from cli.lab.node import Node
from cli.lab.programs import AGENT, ENGINE, ETCD, MANAGER
from cluster.errors import Unavailable

FAKED = Path(__file__).parent / "clock"
"""On the path of Python programs it gives them another time of day; engines and etcd keep theirs."""

CLOCK = "clock"
LONGEST = 20.0
BURST = 0.6


class Kind(StrEnum):
    KILL = "kill"
    PAUSE = "pause"
    BURSTS = "pause in bursts"
    POWER = "cut the power of"
    CUT = "cut off"
    JUMP = "shift the clock of"


@dataclass(frozen=True, slots=True)
class Blow:
    """Done `after` so many seconds of a round, mended `seconds` later; `shift` is by how much a clock is to jump."""

    kind: Kind
    node: str
    program: str
    after: float
    seconds: float
    shift: int = 0

    def __str__(self) -> str:
        what = f"{self.program} on {self.node}" if self.program else self.node
        by = f" by {self.shift} s" if self.shift else ""
        return f"{self.after:.1f} s: {self.kind} {what}{by} for {self.seconds:.1f} s"


def chosen(rng: random.Random, nodes: tuple[str, ...]) -> list[Blow]:
    """Choose what a round does: one to three things, at most one to each program or node at a time."""
    kinds = [Kind.KILL] * 4 + [Kind.PAUSE] * 4 + [Kind.CUT, Kind.JUMP] * 2 + [Kind.BURSTS, Kind.POWER]
    blows: list[Blow] = []
    for _ in range(rng.randint(1, 3)):
        kind, node = rng.choice(kinds), rng.choice(nodes)
        program = rng.choice((MANAGER, MANAGER, ETCD, ETCD, AGENT, ENGINE)) if kind in (Kind.KILL, Kind.PAUSE) else ""
        program = ETCD if kind is Kind.BURSTS else program
        shift = rng.choice((3600, -3600, 120, -120)) if kind is Kind.JUMP else 0
        blow = Blow(kind, node, program, rng.uniform(0.0, 5.0), rng.uniform(0.2, LONGEST), shift)
        if not any(_meet(blow, other) for other in blows):
            blows.append(blow)
    return blows


def _meet(one: Blow, other: Blow) -> bool:
    """Tell whether both are done to the same: a node without power has no programs to kill."""
    if one.node != other.node:
        return False
    if Kind.POWER in (one.kind, other.kind) or (one.program and one.program == other.program):
        return True
    return one.kind is other.kind and one.program == other.program


class Hammer:
    """Strikes a lab, and heals it. Starts its managers and agents so that their clocks can jump."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab

    def prepare(self) -> None:
        """Have all managers and agents take the time from a file."""
        for node in self._lab.nodes():
            self._set_clock(node, 0)
            for program in (AGENT, MANAGER):
                supervise.stop(program, node)
        for program in (MANAGER, AGENT):
            for node in self._lab.nodes():
                self.start(node.name, program)

    def strike(self, blow: Blow) -> None:
        """Do it, wait, and mend it."""
        time.sleep(blow.after)
        node = self._lab.node(blow.node)
        match blow.kind:
            case Kind.KILL:
                self._lab.kill(blow.node, blow.program)
                time.sleep(blow.seconds)
                self.start(blow.node, blow.program)
            case Kind.PAUSE:
                with self._paused(blow):
                    time.sleep(blow.seconds)
            case Kind.BURSTS:
                end = time.monotonic() + blow.seconds
                while time.monotonic() < end:
                    with self._paused(blow):
                        time.sleep(BURST)
                    time.sleep(BURST)
            case Kind.POWER:
                self._lab.kill(blow.node)
                time.sleep(blow.seconds)
                node.boot()
                self._set_clock(node, 0)
                for program in programs.PROGRAMS:
                    self.start(blow.node, program)
            case Kind.CUT:
                self._lab.cut(blow.node)
                time.sleep(blow.seconds)
                self._lab.heal(blow.node)
            case Kind.JUMP:
                self._set_clock(node, blow.shift)
                time.sleep(blow.seconds)
                self._set_clock(node, 0)

    def start(self, name: str, program: str) -> None:
        """Start a program and do not wait until it answers: what it needs may be broken, too."""
        node = self._lab.node(name)
        if program not in (MANAGER, AGENT):
            supervise.start(program, node, self._lab.settings)
            return
        if supervise.find(node, program) is not None:
            return
        managers = self._lab.layout.nodes(self._lab.settings.managers)
        folder = Path(sys.prefix) / "bin"
        if program == MANAGER:
            built = programs.manager(node.layout, managers, folder)
        else:
            built = programs.agent(node.layout, managers, None, folder)
        faked = {"PYTHONPATH": str(FAKED), "STACKYARD_CHAOS_CLOCK": f"/run/{CLOCK}"}
        node.host.start(program, built.argv, faked)

    @contextmanager
    def _paused(self, blow: Blow) -> Iterator[None]:
        with suppress(Unavailable):  # it was killed beside
            self._lab.pause(blow.node, blow.program)
        yield
        with suppress(Unavailable):
            self._lab.unpause(blow.node, blow.program)

    def _set_clock(self, node: Node, shift: int) -> None:
        (node.layout.run_dir / CLOCK).write_text(f"{shift}\n")


def struck(hammer: Hammer, blows: list[Blow]) -> None:
    """Do all of it, each at its time. Raises what went wrong with the tools."""
    with ThreadPoolExecutor(max_workers=max(1, len(blows))) as pool:
        for done in [pool.submit(hammer.strike, blow) for blow in blows]:
            done.result()
