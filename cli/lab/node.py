"""One node: a set of namespaces with an init, in which programs are started as on a host of its own."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from cli.lab import processes
from cli.lab.layout import NodeLayout
from cli.lab.switch import Switch
from cluster.errors import Failed, Unavailable

INIT = "init"
_INIT_EXECUTABLE = "tini"
_CGROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class Node:
    """The namespaces of one node. It holds no state: whether the node is up is asked of the kernel each time."""

    layout: NodeLayout
    switch: Switch

    @property
    def name(self) -> str:
        return self.layout.name

    def init(self) -> processes.Process | None:
        """The node's init while the node is up: it lives, and in the network namespace that has the node's name."""
        found = processes.main_process(self.processes(), self.name, INIT, _INIT_EXECUTABLE)
        if found is None:
            return None
        try:
            mine = os.stat(f"/proc/{found.pid}/ns/net").st_ino
            named = self.layout.lab.namespace_path(self.name).stat().st_ino
        except FileNotFoundError:
            return None
        return found if mine == named and (self.layout.run_dir / "lab-node-ready").exists() else None

    def processes(self) -> list[processes.Process]:
        return processes.census(self.layout.lab.name, self.name)

    def boot(self) -> None:
        """Start the node afresh: a new network namespace, an empty /run, the same data."""
        self.power_off()
        remove_cgroups(self.layout.cgroup)
        run_dir, data_dir = self.layout.run_dir, self.layout.data_dir
        for directory in (run_dir, data_dir):
            directory.mkdir(parents=True, exist_ok=True)
        processes.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", str(run_dir)])
        self.switch.plug(self.name, self.layout.switch_port, self.layout.address)
        script = resources.files("cli.lab") / "node-init"
        log = self.layout.log_file(INIT)
        processes.spawn(
            [
                *("setsid", "--fork", "nsenter", f"--net={self.layout.lab.namespace_path(self.name)}"),
                *("unshare", "--mount", "--uts", "--ipc", "--pid", "--fork", "--propagation", "private"),
                *(_INIT_EXECUTABLE, "-g", "--", "sh", str(script), self.name, str(run_dir), str(data_dir)),
                str(self.layout.lab.hosts_file),
            ],
            processes.environment(self.layout.lab.name, self.name, INIT),
            log,
        )
        processes.wait_until(lambda: self.init() is not None or not self.processes(), 10, 0.03)
        if self.init() is None:
            raise Failed(f"node {self.name} did not come up: {processes.tail(log)}", hint=f"The log is {log}.")

    def power_off(self) -> None:
        """End everything at once, as when the power fails: the cable first, so that nobody hears a goodbye."""
        self.switch.set_port(self.layout.switch_port, up=False)

        def ended() -> bool:
            # the init first: the kernel ends its whole pid namespace with it; then what was started beside it
            living = self.processes()
            for process in living:
                if process.program == INIT or not any(p.program == INIT for p in living):
                    processes.send(process, signal.SIGKILL)
            return not living

        if not processes.wait_until(ended, 20):
            pids = ", ".join(str(process.pid) for process in self.processes())
            raise Failed(f"processes of node {self.name} do not end after SIGKILL: {pids}")
        unmount_below(self.layout.run_dir)

    def start(self, program: str, argv: Sequence[str], env: Mapping[str, str]) -> None:
        """Start a program in the node. The node's init becomes its parent, so its end leaves no trace but the log."""
        # setsid within the pid namespace: a waiting nsenter outside would have to be stopped and continued with it
        processes.spawn(
            [*self.enter(), "setsid", "--fork", *argv],
            processes.environment(self.layout.lab.name, self.name, program, env),
            self.layout.log_file(program),
        )

    def enter(self) -> list[str]:
        """The words that run a command in the node when they are put before it."""
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
        return processes.environment(self.layout.lab.name, self.name, "exec", terminal)


def unmount_below(directory: Path) -> None:
    """Unmount what is mounted at the directory or below it; mounts on one another are met one by one."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    points = [line.split()[4] for line in lines]
    for point in sorted(points, reverse=True):
        if point == str(directory) or point.startswith(f"{directory}/"):
            processes.run(["umount", "--lazy", point])


def cgroups(pattern: str) -> list[Path]:
    """The cgroups of that name: below each controller (v1), or in the one tree (v2)."""
    return [path for top in (_CGROUPS, *_CGROUPS.glob("*/")) for path in top.glob(pattern) if path.is_dir()]


def remove_cgroups(pattern: str) -> None:
    """Remove cgroups that dead engines have left; the kernel may need a moment after the last process."""

    def removed() -> bool:
        for top in cgroups(pattern):
            for directory in sorted((top, *top.rglob("*/")), reverse=True):
                try:
                    directory.rmdir()
                except FileNotFoundError:
                    continue
                except OSError:
                    return False
        return True

    if not processes.wait_until(removed, 5, 0.05):
        raise Failed(f"cgroups {pattern} below {_CGROUPS} cannot be removed: processes are still in them")
