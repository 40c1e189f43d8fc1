"""Signals to programs that the engine runs for us, of which it tells only the process id, in its own namespace.

Processes are looked up in the engine's own /proc and held by it, so that an id which belongs to another process by now
is never signalled; and only those in the container's cgroup are.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agent.engine_facts import peer

log = logging.getLogger(__name__)


def send_signal(engine: Path, container: str, pid: int, number: signal.Signals) -> bool:
    """Send a signal to a process of a container, and to all of the group that it leads, as a terminal does.

    Tells whether there was anyone to send it to.
    """
    try:
        proc = Path(f"/proc/{peer(engine) or 1}/root/proc")
        leads = _group(proc / str(pid)) == pid
        members = [int(entry.name) for entry in proc.iterdir() if entry.name.isdigit()] if leads else [pid]
    except OSError as error:
        log.info("process %d of container %s is not to be found: %s", pid, container[:12], error)
        return False
    sent = False
    for member in members:
        try:
            with _held(proc / str(member)) as held:
                if (not leads or _group(proc / str(member)) == pid) and _within(proc / str(member), container):
                    signal.pidfd_send_signal(held, number)
                    sent = True
        except OSError:
            continue  # it has just ended
    return sent


@contextmanager
def _held(process: Path) -> Iterator[int]:
    fd = os.open(process, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def _group(process: Path) -> int:
    return int((process / "stat").read_text().rpartition(")")[2].split()[2])


def _within(process: Path, container: str) -> bool:
    return container in (process / "cgroup").read_text()
