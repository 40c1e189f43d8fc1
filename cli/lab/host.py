"""A set of namespaces with an init, in which programs run as on a machine of their own."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from cli.lab import processes
from cluster.errors import Failed, Unavailable

INIT = "init"
_INIT_EXECUTABLE = "tini"
_CGROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class Host:
    """Mount, process, IPC and host-name namespaces, and the network namespace at `network` (None: the machine's).

    It holds no state: whether it is up is asked of the kernel each time. `run_dir` becomes its /run, so the machine
    sees its sockets there; `hosts_file` its /etc/hosts.
    """

    lab: str
    name: str
    run_dir: Path
    data_dir: Path
    hosts_file: Path
    network: Path | None

    def init(self) -> processes.Process | None:
        """The init while the host is up: it lives, and in the network namespace that now has the name."""
        found = processes.main_process(self.processes(), self.name, INIT, _INIT_EXECUTABLE)
        if found is None:
            return None
        try:
            network = self.network or Path("/proc/self/ns/net")
            here = os.stat(f"/proc/{found.pid}/ns/net").st_ino == network.stat().st_ino
        except FileNotFoundError:
            return None
        return found if here and (self.run_dir / "lab-node-ready").exists() else None

    def processes(self) -> list[processes.Process]:
        return processes.census(self.lab, self.name)

    def log_file(self, program: str) -> Path:
        return self.data_dir / f"{program}.log"

    def boot(self, cgroup: str) -> None:
        """Start afresh, with an empty /run and the same data; what was up, or half up, is ended."""
        self.end()
        remove_cgroups(cgroup)
        for directory in (self.run_dir, self.data_dir):
            directory.mkdir(parents=True, exist_ok=True)
        processes.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", str(self.run_dir)])
        script = resources.files("cli.lab") / "node-init"
        log = self.log_file(INIT)
        own_network = ("nsenter", f"--net={self.network}") if self.network else ()
        processes.spawn(
            [
                *("setsid", "--fork", *own_network),
                *("unshare", "--mount", "--uts", "--ipc", "--pid", "--fork", "--propagation", "private"),
                *(_INIT_EXECUTABLE, "-g", "--", "sh", str(script)),
                *(self.name, str(self.run_dir), str(self.data_dir), str(self.hosts_file)),
                "own" if self.network else "machine",
            ],
            processes.environment(self.lab, self.name, INIT),
            log,
        )
        processes.wait_until(lambda: self.init() is not None or processes.over(self.processes), 60, 0.03)
        if self.init() is None:
            raise Failed(f"{self.name} did not come up: {processes.tail(log)}", hint=f"The log is {log}.")

    def end(self) -> None:
        """End everything at once, as when the power fails."""

        def ended() -> bool:
            # the init first: the kernel ends its whole pid namespace with it; then what was started beside it
            living = self.processes()
            for process in living:
                if process.program == INIT or not any(p.program == INIT for p in living):
                    processes.send(process, signal.SIGKILL)
            return not living

        if not processes.wait_until(ended, 60):
            pids = ", ".join(str(process.pid) for process in self.processes())
            raise Failed(f"processes of {self.name} do not end after SIGKILL: {pids}")
        unmount_below(self.run_dir)

    def start(self, program: str, argv: Sequence[str], env: Mapping[str, str] | None = None) -> None:
        """Start a program. The host's init becomes its parent, so its end leaves no trace but the log."""
        # setsid within the pid namespace: a waiting nsenter outside would have to be stopped and continued with it
        processes.spawn(
            [*self.enter(), "setsid", "--fork", *argv],
            processes.environment(self.lab, self.name, program, env),
            self.log_file(program),
        )

    def enter(self) -> list[str]:
        """The words that run a command in the host when they are put before it."""
        init = self.init()
        if init is None:
            raise Unavailable(f"node {self.name} is not up", hint=f"Start it with `stack lab start {self.name}`.")
        return ["nsenter", "-t", str(init.pid), "--mount", "--uts", "--ipc", "--net", "--pid", "--"]

    def exec(self, argv: Sequence[str], stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.enter(), *argv],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            env=self.exec_environment(),
        )

    def exec_environment(self) -> dict[str, str]:
        terminal = {name: os.environ[name] for name in ("TERM", "COLUMNS", "LINES") if name in os.environ}
        return processes.environment(self.lab, self.name, "exec", terminal)


def unmount_below(directory: Path) -> None:
    """Unmount what is mounted at the directory or below it; mounts on one another are met one by one."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    points = [line.split()[4] for line in lines]
    for point in sorted(points, reverse=True):
        if point == str(directory) or point.startswith(f"{directory}/"):
            processes.run(["umount", "--lazy", point])


def cgroups(pattern: str) -> list[Path]:
    """The cgroups of that name: in the one tree (v2), or below each controller (v1)."""
    tops = [_CGROUPS] if (_CGROUPS / "cgroup.controllers").exists() else list(_CGROUPS.glob("*/"))
    return [path for top in tops for path in top.glob(pattern) if path.is_dir()]


def remove_cgroups(pattern: str) -> None:
    """Remove cgroups that dead engines have left; the kernel may need a moment after the last process."""

    def removed() -> bool:
        try:
            for top in cgroups(pattern):
                for directory in sorted((top, *top.rglob("*/")), reverse=True):
                    directory.rmdir()
        except OSError:  # still in use, or going away by itself: looked at once more
            return False
        return True

    if not processes.wait_until(removed, 30, 0.05):
        raise Failed(f"cgroups {pattern} below {_CGROUPS} cannot be removed: processes are still in them")
