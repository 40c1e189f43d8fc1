"""People at terminals in which `stack` runs, and nodes that are dead for a while."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.integration.conftest import STACK, Cluster, eventually
from tests.patience import PATIENCE


def _is_its_terminal() -> None:
    """Have what is typed, such as Ctrl-C, go to this process."""
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


class Person:
    """Someone at a terminal in which `stack` runs."""

    def __init__(self, cluster: Cluster, *words: str, columns: int = 101, **options: Any) -> None:
        self._mine, theirs = pty.openpty()
        self.resize(31, columns)
        self.before = termios.tcgetattr(theirs)
        self._theirs = theirs
        self.process = subprocess.Popen(
            ["env", "--default-signal=INT,HUP", STACK, *words], stdin=theirs, stdout=theirs, stderr=theirs,
            preexec_fn=_is_its_terminal, **{"env": cluster.environment} | options,
        )  # fmt: skip
        self._seen = b""

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self._mine, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def types(self, text: bytes) -> None:
        os.write(self._mine, text)

    def sees(self, text: bytes) -> None:
        end = time.monotonic() + PATIENCE
        while text not in self._seen:
            readable, _, _ = select.select([self._mine], [], [], max(0.0, end - time.monotonic()))
            assert readable, self._seen
            self._seen += os.read(self._mine, 4096)
        self._seen = self._seen[self._seen.index(text) + len(text) :]

    def told(self, until: str | None = None) -> str:
        """What is still to be read, up to a text or to the end of the command."""
        told, end = "", time.monotonic() + PATIENCE
        while until is None or until not in told:
            if select.select([self._mine], [], [], 0.05)[0]:
                told += os.read(self._mine, 65536).decode(errors="replace")
            elif self.process.poll() is not None:
                break
            assert time.monotonic() < end, told
        return told

    def settings(self) -> list[object]:
        return termios.tcgetattr(self._theirs)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._mine)
        os.close(self._theirs)


@contextmanager
def at_terminal(cluster: Cluster, *words: str, **options: Any) -> Iterator[Person]:
    person = Person(cluster, *words, **options)
    try:
        yield person
    finally:
        person.close()


@contextmanager
def dead(cluster: Cluster, node: str) -> Iterator[None]:
    """A node whose power is cut for the block; the cluster has noticed."""
    cluster.lab.kill(node)
    try:
        eventually(lambda: status(cluster, node) == "down", f"{node} is called down")
        yield
    finally:
        cluster.lab.up()
        eventually(lambda: status(cluster, node) == "ready", f"{node} is back")


def status(cluster: Cluster, node: str) -> str:
    return next(str(one["status"]) for one in cluster.listing("node", "ls") if one["name"] == node)
