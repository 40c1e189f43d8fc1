"""Whole hosts for tests: Debian 12 with systemd as its init, its own engine and etcd, in namespaces of this machine.

Each has a root file system of its own (an overlay on what scripts/fetch-host made), so that what a command leaves on a
host can be looked at. They hang on a switch as the lab's nodes do. Everything dies with the test's process.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from cli.lab.host import remove_cgroups, unmount_below
from cli.lab.layout import Layout
from cli.lab.switch import Switch
from tests.patience import PATIENCE

CACHE = Path(os.environ.get("STACKYARD_CACHE", "/var/cache/stackyard"))
BASE = Path("/var/lib/stackyard-tests")
CHECKOUT = Path(__file__).parent.parent
_CGROUPS = Path("/sys/fs/cgroup")

_BOOT = r"""
set -eu
root=$1 name=$2
shift 2
mount -t tmpfs tmpfs "$root/tmp"  # first, for the checkout may be in there
for shared; do
    mkdir -p "$root$shared"
    mount --rbind "$shared" "$root$shared"
    mount -o remount,bind,ro "$root$shared"
done
mkdir -p "$root/old"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount --make-rslave "$root/dev"
mount -t sysfs sysfs "$root/sys"
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
    mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
else
    mount -t tmpfs -o mode=755 tmpfs "$root/sys/fs/cgroup"
    for tree in cpu cpuacct cpuset memory devices freezer blkio pids; do
        mkdir "$root/sys/fs/cgroup/$tree"
        mount -t cgroup -o "$tree" cgroup "$root/sys/fs/cgroup/$tree"
    done
    mkdir "$root/sys/fs/cgroup/systemd"
    mount -t cgroup -o none,name=systemd cgroup "$root/sys/fs/cgroup/systemd"
fi
mount -t tmpfs -o mode=755 tmpfs "$root/run"
hostname "$name"
cd "$root"
pivot_root . old
umount -l /old
exec env -i container=stackyard PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd
"""


def require_host() -> Path:
    """The root file system. Without it tests skip, or fail where CI is set."""
    root = CACHE / "host-12"
    if (root / "lib/systemd/systemd").exists():
        return root
    if os.environ.get("CI", "").lower() in ("1", "true"):
        pytest.fail("no file system for hosts is here: run scripts/fetch-host", pytrace=False)
    pytest.skip("no file system for hosts is here: run scripts/fetch-host")


class Machine:
    """One host. `shared` are directories of this machine that it sees, read-only, in the same place."""

    def __init__(self, layout: Layout, switch: Switch, number: int, shared: Sequence[Path]) -> None:
        node = layout.node(f"n{number}")
        self.name, self.address = node.name, node.address
        self._layout, self._node, self._switch, self._shared = layout, node, switch, shared
        self._home = BASE / layout.name / self.name
        self.root = self._home / "root"
        self._cgroup = layout.namespace(self.name)
        self._entering: subprocess.Popen[bytes] | None = None
        self._pid = 0

    def boot(self) -> None:
        """Switch it on, with an empty disk the first time, and wait until its engine answers."""
        self.switch_on()
        self.await_engine()

    def switch_on(self) -> None:
        for each in ("root", "upper", "work", "docker"):
            (self._home / each).mkdir(parents=True, exist_ok=True)
        layers = f"lowerdir={require_host()},upperdir={self._home}/upper,workdir={self._home}/work"
        _run("mount", "-t", "overlay", "overlay", "-o", layers, str(self.root))
        for needless in ("console-getty", "getty@tty1", "etcd"):
            unit = self.root / f"etc/systemd/system/{needless}.service"
            if not unit.is_symlink():
                unit.symlink_to("/dev/null")
        (self.root / "var/lib/docker").mkdir(parents=True, exist_ok=True)
        _run("mount", "--bind", str(self._home / "docker"), str(self.root / "var/lib/docker"))
        names = [f"{node.address} {node.name}\n" for node in self._layout.nodes(9)]
        (self.root / "etc/hostname").write_text(self.name + "\n")
        (self.root / "etc/hosts").write_text("127.0.0.1 localhost\n" + "".join(names))
        self._switch.plug(self.name, self._node.switch_port, self.address)
        namespace = self._layout.namespace_path(self.name)
        self._entering = subprocess.Popen(
            ["sh", "-c", _ENTER_CGROUP, "enter", self._cgroup,
             "setpriv", "--pdeathsig", "KILL", "nsenter", f"--net={namespace}",
             "unshare", "--mount", "--propagation", "private", "--pid", "--uts", "--ipc", "--cgroup", "--fork",
             "--kill-child", "sh", "-c", _BOOT, "boot", str(self.root), self.name, *map(str, self._shared)],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        )  # fmt: skip

    def await_engine(self) -> None:
        self.until(self._find_init, "it did not boot")
        self.until(lambda: self.run("docker", "version", code=None).returncode == 0, "its engine did not start")

    def cut_power(self) -> None:
        """End everything at once; the disk is left, for the next `boot`."""
        if self._entering is not None:
            self._entering.kill()
            self._entering.wait()
            self._entering = None
        self._switch.unplug(self.name, self._node.switch_port)
        unmount_below(self._home)
        remove_cgroups(self._cgroup)

    def end(self) -> None:
        """Cut the power and throw the host away."""
        self.cut_power()
        wipe(self._home)

    def run(
        self, *words: str, code: int | None = 0, stdin: bytes = b"", environment: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as root; its exit code must be `code` (None: any)."""
        path = f"{sys.prefix}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        done = subprocess.run(
            ["nsenter", "-t", str(self._pid), "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--",
             "env", "-i", f"PATH={path}", "HOME=/root", "LANG=C.UTF-8",
             *(f"{name}={value}" for name, value in (environment or {}).items()), *words],
            input=stdin, capture_output=True, check=False, timeout=600,
        )  # fmt: skip
        text = subprocess.CompletedProcess(words, done.returncode, done.stdout.decode(), done.stderr.decode())
        if code is not None:
            assert text.returncode == code, (
                f"{self.name}: {' '.join(words)}: {text.returncode}\n{text.stdout}{text.stderr}"
            )
        return text

    def until(self, true: Callable[[], object], why: str, within: float = PATIENCE) -> None:
        """Wait for something of which no event tells."""
        deadline = time.monotonic() + within
        while not true():
            assert time.monotonic() < deadline, f"{self.name}: {why}"
            time.sleep(0.1)

    def _find_init(self) -> bool:
        assert self._entering is not None and self._entering.poll() is None, f"{self.name} ended"
        for pid in _descendants(self._entering.pid):
            with contextlib.suppress(OSError):
                if Path(f"/proc/{pid}/comm").read_text() == "systemd\n":
                    self._pid = pid
                    return (self._proc_root() / "run/systemd/system").is_dir()
        return False

    def _proc_root(self) -> Path:
        return Path(f"/proc/{self._pid}/root")


_ENTER_CGROUP = r"""
name=$1
shift
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
    trees=/sys/fs/cgroup
else
    trees=$(ls -d /sys/fs/cgroup/*/)
fi
for tree in $trees; do
    mkdir -p "$tree/$name"
    for file in cpuset.cpus cpuset.mems; do
        if [ -e "$tree/$name/$file" ] && [ ! -s "$tree/$name/$file" ]; then cat "$tree/$file" >"$tree/$name/$file"; fi
    done
    echo 0 >"$tree/$name/cgroup.procs"
done
exec "$@"
"""


@contextlib.contextmanager
def machines(name: str, subnet: str, count: int, shared: Sequence[Path] = ()) -> Iterator[list[Machine]]:
    """Boot hosts on a switch of their own; what a killed run left is taken away first."""
    layout = Layout(name, subnet)
    switch = Switch(layout)
    made = [Machine(layout, switch, number, shared) for number in range(1, count + 1)]
    try:
        for each in made:
            each.end()
        switch.down()
        switch.up()
        for each in made:
            each.switch_on()
        for each in made:
            each.await_engine()
        yield made
    finally:
        for each in made:
            each.end()
        switch.down()
        wipe(BASE / name)


def installation() -> list[Path]:
    """What a host must see so that this installation runs on it: checkout, environment, interpreter.

    Where that is the system's own Python, the host has the same one.
    """
    found = {CHECKOUT, Path(sys.prefix), Path(sys.base_prefix)}
    outside = [path for path in found if not path.is_relative_to("/usr")]
    return sorted(path for path in outside if not any(parent in found for parent in path.parents))


def wipe(directory: Path) -> None:
    unmount_below(directory)
    if directory.exists():
        _run("rm", "-rf", "--one-file-system", str(directory))


def _descendants(pid: int) -> list[int]:
    try:
        children = [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:  # it has ended meanwhile
        return []
    return [*children, *(below for child in children for below in _descendants(child))]


def _run(*argv: str) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(argv)}: {done.stderr}"
