"""Whether the lab's programs live, what they said last, and the lab made whole again when one has died.

A program that dies of itself is a failure of the test under which it was seen, and of that test only: the lab is
mended for those after it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from cli.lab import Lab
from cluster.errors import StackyardError

_LINES, _WIDTH = 12, 240
_LOUD = ("WARNING", "ERROR", "CRITICAL", "Traceback", "panic", "fatal", "level=error")


class Programs:
    """The programs of one lab. `begin` at the start of a test: what was said from then on is what `said` tells."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._sizes: dict[Path, int] = {}

    def begin(self) -> None:
        self._sizes = {log: log.stat().st_size for log in self._logs()}

    def damage(self) -> str:
        """What is not as a test finds and leaves it, with the last words of what died; empty when all is well."""
        found = []
        for node in self._lab.status():
            if node.state != "up":
                found.append(f"{node.name} is down")
                continue
            if node.link != "up":
                found.append(f"{node.name} is cut off")
            for program, state in node.programs.items():
                if state == "paused":
                    found.append(f"{program} of {node.name} is paused")
                elif state == "down":
                    log = self._lab.node(node.name).host.log_file(program)
                    found.append(f"{program} of {node.name} has died; its last words:\n{_shown(_lines(log, 0))}")
        return "\n".join(found)

    def mend(self) -> bool:
        """Start what is down, and go on with what is held; False if only a new lab will do."""
        try:
            for node in self._lab.status():
                if node.state == "up":
                    for program in (name for name, state in node.programs.items() if state == "paused"):
                        self._lab.unpause(node.name, program)
                    if node.link != "up":
                        self._lab.heal(node.name)
            self._lab.up()
        except StackyardError:
            return False
        return True

    def said(self) -> str:
        """The warnings and errors in the logs since `begin`, the newest of each program."""
        told = []
        for log in self._logs():
            loud = [line for line in _lines(log, self._sizes.get(log, 0)) if any(word in line for word in _LOUD)]
            if loud:
                told.append(f"{log.stem} of {log.parent.name}:\n{_shown(loud)}")
        return "\n".join(told)

    def _logs(self) -> Iterator[Path]:
        yield from sorted(self._lab.layout.data_dir.glob("n*/*.log"))


def _lines(log: Path, start: int) -> list[str]:
    try:
        with log.open("rb") as file:
            file.seek(max(start, log.stat().st_size - 2**16))
            return file.read().decode(errors="replace").splitlines()
    except FileNotFoundError:
        return ["(no log)"]


def _shown(lines: list[str]) -> str:
    return "\n".join(f"    {line[:_WIDTH]}" for line in lines[-_LINES:]) or "    (nothing)"
