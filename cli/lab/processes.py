"""Finding and signalling the lab's processes.

Each process that the lab starts carries a mark in its environment,
`STACKYARD_LAB_PROCESS=<machine>/<lab>/<node>/<program>`. What is running is always read from /proc, so no pid file can
be stale and a lab command may be killed at any moment. Processes that a program starts itself inherit the mark; the
program proper is the one that runs its executable. The machine is in the mark as the pid namespace of the lab command,
so a lab in a container and one of the same name on its host do not take each other's processes for their own.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from cluster.errors import Failed

MARK = "STACKYARD_LAB_PROCESS"
_MARK_BYTES = MARK.encode() + b"="
_INHERITED = ("PATH", "LANG", "LC_ALL", "TZ", "HOME", "SSL_CERT_FILE", "SSL_CERT_DIR")


@dataclass(frozen=True, slots=True)
class Process:
    """One marked process; `started` (in clock ticks since boot) tells it from a later one with the same pid."""

    pid: int
    started: int
    lab: str
    node: str
    program: str
    command: str
    stopped: bool


def census(lab: str | None, node: str | None = None) -> list[Process]:
    """All living processes of the lab or of one of its nodes; None is any."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (process := _read(int(entry))) is not None:
            if lab in (None, process.lab) and node in (None, process.node):
                found.append(process)
    return found


def main_process(processes: Iterable[Process], node: str, program: str, executable: str) -> Process | None:
    """The process that is the program, among what it forked: a shim or an engine's containerd also carry its mark."""
    command = executable[:15]  # the kernel keeps no more of a name
    candidates = [p for p in processes if (p.node, p.program, p.command) == (node, program, command)]
    return min(candidates, key=lambda p: (p.started, p.pid), default=None)


def environment(lab: str, node: str, program: str, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a program of the lab: the mark, and of the caller's only what every program needs."""
    kept = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    kept.setdefault("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    return {**kept, **(extra or {}), MARK: f"{_machine()}/{lab}/{node}/{program}"}


def run(argv: Sequence[str], stdin: str | None = None) -> str:
    """Run a tool to its end and give its output; a failure tells what was tried and what the tool said."""
    done = subprocess.run(list(argv), input=stdin, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).strip()
        raise Failed(f"`{' '.join(argv)}` failed with exit code {done.returncode}: {said}")
    return done.stdout


def spawn(argv: Sequence[str], env: Mapping[str, str], log: Path) -> None:
    """Start a program that outlives this command, its output appended to `log`.

    It is no child of this process (`setsid --fork`), so nobody has to wait for it; an executable that cannot be
    started is told in the log.
    """
    with log.open("ab") as output:
        done = subprocess.run(
            list(argv), env=dict(env), stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd="/", check=False
        )
    if done.returncode:
        raise Failed(f"cannot start {argv[0]} (exit code {done.returncode}): {tail(log)}", hint=f"The log is {log}.")


def send(process: Process, number: int) -> bool:
    """Signal exactly this process; False if it was gone already."""
    try:
        handle = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return False
    try:
        # the handle pins the pid: if it still names the process that we saw, the signal cannot reach another
        now = _read(process.pid)
        if now is None or now.started != process.started:
            return False
        signal.pidfd_send_signal(handle, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(handle)
    return True


def wait_until(condition: Callable[[], bool], seconds: float, interval: float = 0.01) -> bool:
    """Poll a condition of the kernel that no event tells; False if it does not come true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(interval)
    return True


def over(find: Callable[[], object]) -> bool:
    """Tell whether processes are not found for good: one that takes another program on has no mark for that moment."""
    return not find() and not wait_until(lambda: bool(find()), 1)


def gone(process: Process) -> bool:
    now = _read(process.pid)
    return now is None or now.started != process.started


def tail(log: Path, lines: int = 5) -> str:
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 8192))
            text = file.read().decode(errors="replace")
    except OSError:
        return "(no log)"
    return "\n".join(text.splitlines()[-lines:]) or "(the log is empty)"


@cache
def _machine() -> str:
    return str(os.stat("/proc/self/ns/pid").st_ino)


def _read(pid: int) -> Process | None:
    """The process if it carries a mark and lives; zombies have no environment any more."""
    try:
        environ = Path(f"/proc/{pid}/environ").read_bytes()
        if _MARK_BYTES not in environ:
            return None
        mark = next((v for v in environ.split(b"\0") if v.startswith(_MARK_BYTES)), None)
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (OSError, UnicodeDecodeError):
        return None  # it ended, or is not ours to read
    parts = mark[len(_MARK_BYTES) :].decode(errors="replace").split("/") if mark else []
    if len(parts) != 4 or parts[0] != _machine():
        return None
    command, _, rest = stat[stat.index("(") + 1 :].rpartition(")")
    fields = rest.split()  # from field 3 of proc(5), the state
    if fields[0] in "ZX":
        return None
    return Process(
        pid=pid,
        started=int(fields[19]),
        lab=parts[1],
        node=parts[2],
        program=parts[3],
        command=command,
        stopped=fields[0] in "Tt",
    )
