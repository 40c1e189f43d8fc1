"""Real Docker Engines for tests, each a host of its own: network, mount, pid and uts namespaces, and a registry.

The host's network namespaces live below a directory that both the tests' process and the engine see, so that an agent
in the tests' process can wire them. Everything dies with the tests' process; what a killed run left on disk is taken
away when the next host of that name boots.
"""

from __future__ import annotations

import fcntl
import http.client
import io
import json
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from agent.runtime import wrapper
from tests.patience import PATIENCE

BASE = Path("/var/lib/stackyard-tests")
CACHE = Path(os.environ.get("STACKYARD_CACHE", "/var/cache/stackyard"))
ADDRESS = "10.79.0.1"
REGISTRY = "127.0.0.1:5000"
BOX = "box:1"
"""What the test image is called on an engine: nothing but busybox."""

_BOOT = r"""
set -eu
home=$1 root=$2
hostname "$(basename "$home")"
cd /
if [ "$root" ]; then
    mount --rbind "$root" "$root"
    for each in dev sys; do mount --rbind "/$each" "$root/$each"; done
    mkdir -p "$root$home" "$root$3" "$root/old"
    mount --rbind "$home" "$root$home"
    mount --make-rslave "$root$home"
    mount --bind "$3" "$root$3"
    cd "$root"
    pivot_root . old
fi
mount -t proc proc /proc
[ -z "$root" ] || umount -l /old
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/lock /run/netns /run/stackyard/netns
mount --bind "$home/links" /run/stackyard/netns
: >"$home/booted"
exec tini -g -- sleep infinity
"""


def require_engine(version: str) -> Path | None:
    """The root file system of that engine (None: this machine's). Without it tests skip, or fail where CI is set."""
    if version == "20.10":
        root, there, how = None, shutil.which("dockerd") is not None, "apt-get install docker.io docker-registry tini"
    else:
        root, how = CACHE / "engine-26", "run scripts/fetch-engine-26"
        there = (root / "usr/sbin/dockerd").exists()
    if there:
        return root
    message = f"Docker Engine {version} is not here: {how}"
    if os.environ.get("CI", "").lower() in ("1", "true"):
        pytest.fail(message, pytrace=False)
    pytest.skip(message)


class Program:
    """A program on a host; it is nsenter's child, so its signals go to that."""

    def __init__(self, entering: subprocess.Popen[bytes], log: Path) -> None:
        self._entering, self._log = entering, log

    def send(self, number: int) -> None:
        os.kill(_children(self._entering.pid)[0], number)

    def wait(self) -> int:
        """Wait for its end; gives the exit code."""
        return self._entering.wait(30)

    def said(self) -> str:
        return self._log.read_text()


class EngineHost:
    """One host: `boot` it, then start, stop and kill its engine at will; `end` is a power cut and takes all away."""

    def __init__(self, version: str, name: str) -> None:
        self._root = require_engine(version)
        self._lock, self.home = _claim(name)
        self.socket = self.home / "docker.sock"
        self.netns = self.home / "netns"
        self.links = self.home / "links"
        self.files = self.home / "files"
        self.memory = self.home / "memory"
        """Mounts below it are seen by the tests' process and by the engine."""
        self.cgroup = f"stackyard-tests-{self.home.name}"
        self._init: subprocess.Popen[bytes] | None = None
        self._pid = 0
        self._programs: list[subprocess.Popen[bytes]] = []

    def boot(self, *, empty: bool = True) -> None:
        """Make the host, with an empty disk or with what a power cut left on it."""
        if empty:
            _wipe(self.home)
        for each in (self.netns, self.links, self.files, self.memory):
            each.mkdir(parents=True, exist_ok=True)
        for shared in (self.netns, self.memory):
            _run("mount", "--bind", str(shared), str(shared))
            _run("mount", "--make-shared", str(shared))
        (self.home / "booted").unlink(missing_ok=True)
        runtime = wrapper().parent
        self._init = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "unshare", "--net", "--mount", "--propagation", "slave", "--pid",
             "--uts", "--ipc", "--fork", "--kill-child",
             "sh", "-c", _BOOT, "boot", str(self.home), str(self._root or ""), str(runtime)],
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        _until((self.home / "booted").exists, "the host did not boot", self._init_lives)
        self._pid = int(Path(f"/proc/{self._init.pid}/task/{self._init.pid}/children").read_text())
        _run(*self._enter("net"), "ip", "link", "add", "under0", "type", "veth", "peer", "under1")
        _run(*self._enter("net"), "ip", "addr", "add", f"{ADDRESS}/24", "dev", "under0")
        for end in ("lo", "under0", "under1"):
            _run(*self._enter("net"), "ip", "link", "set", end, "up")

    def start_engine(self, *, live_restore: bool = False, runtime: bool = True, iptables: bool = False) -> None:
        """Start the engine and wait until it answers; with `iptables` it has its bridge and its own rules."""
        config: dict[str, Any] = {
            "hosts": [f"unix://{self.socket}"],
            "data-root": str(self.home / "docker"),
            "exec-root": "/run/docker",
            "pidfile": "/run/docker.pid",
            "iptables": iptables,
            **({} if iptables else {"bridge": "none"}),
            "live-restore": live_restore,
            "shutdown-timeout": 5,
            "cgroup-parent": f"/{self.cgroup}",
            "exec-opts": ["native.cgroupdriver=cgroupfs"],
            "log-level": "warn",
        }
        if runtime:
            config["runtimes"] = {"stackyard": {"path": str(wrapper())}}
        (self.home / "daemon.json").write_text(json.dumps(config))
        self.socket.unlink(missing_ok=True)
        self.start("dockerd", "--config-file", str(self.home / "daemon.json"))
        _until(self.answers, f"the engine did not start, see {self.home}/dockerd.log", self._init_lives)

    def reload_engine(self, *, runtime: bool) -> None:
        """Have the engine read its configuration again, with our runtime in it or not."""
        file = self.home / "daemon.json"
        config = json.loads(file.read_text()) | {"runtimes": {"stackyard": {"path": str(wrapper())}} if runtime else {}}
        file.write_text(json.dumps(config))
        os.kill(self.engine_pid(), signal.SIGHUP)

    def stop_engine(self, number: int = signal.SIGTERM) -> None:
        """Stop the engine and wait until it is gone."""
        handle = os.pidfd_open(self.engine_pid())
        try:
            signal.pidfd_send_signal(handle, number)
            _until(lambda: not _lives(handle), "the engine does not stop")
        finally:
            os.close(handle)

    def engine_pid(self) -> int:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect(str(self.socket))
            pid: int = struct.unpack("3i", probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
            return pid

    def hang_engine(self) -> None:
        os.kill(self.engine_pid(), signal.SIGSTOP)

    def let_engine_go_on(self) -> None:
        """Of the hung engine, which cannot be asked who it is; `nsenter` stops itself when its child does."""
        for entered in self._programs:
            for pid in (entered.pid, *_children(entered.pid)):
                os.kill(pid, signal.SIGCONT)

    def start_registry(self) -> None:
        """Start an image registry on the host's own loopback, at REGISTRY; its data goes with the host."""
        (self.home / "registry.json").write_text(
            json.dumps(
                {
                    "version": 0.1,
                    "log": {"level": "warn", "accesslog": {"disabled": True}},
                    "storage": {"filesystem": {"rootdirectory": str(self.home / "registry")}},
                    "http": {"addr": REGISTRY},
                }
            )
        )
        self.start("docker-registry", "serve", str(self.home / "registry.json"), namespaces=("net", "pid"))
        probe = [*self._enter("net"), "busybox", "wget", "-q", "-O", "/dev/null", f"http://{REGISTRY}/v2/"]
        _until(lambda: not subprocess.run(probe, stderr=subprocess.DEVNULL).returncode, "the registry did not start")

    def network_namespace(self) -> Path:
        return Path(f"/proc/{self._pid}/ns/net")

    def cut_power(self) -> None:
        """End everything at once; only the disk is left."""
        if self._init is not None:
            self._init.kill()
            self._init.wait()
            self._init = None
        for program in self._programs:
            program.wait()
        self._programs.clear()
        _unmount(self.home)
        for memory in (self.netns, self.links, self.memory):
            shutil.rmtree(memory, ignore_errors=True)

    def end(self) -> None:
        """Cut the power and take everything away."""
        self.cut_power()
        _wipe(self.home)
        os.close(self._lock)

    def run(self, *argv: str) -> str:
        """Run a program on the host to its end."""
        done = subprocess.run([*self._enter(), *argv], capture_output=True, text=True, check=False)
        return done.stdout

    def inside(self, task: str, *argv: str) -> str:
        """Run a program of this machine in the network namespace of a task."""
        entered = ["nsenter", f"--net={self.netns}/sy-{task}", *argv]
        return subprocess.run(entered, capture_output=True, text=True, check=True).stdout

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        content: str = "application/json",
        headers: dict[str, str] | None = None,
    ) -> Any:
        """Ask the engine directly, as a person would with the docker command. Streams are given as bytes."""
        connection = _UnixConnection(self.socket)
        try:
            data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
            connection.request(method, path, data, {**({"Content-Type": content} if data else {}), **(headers or {})})
            answer = connection.getresponse()
            text = answer.read()
            assert answer.status < 400, f"{method} {path}: {answer.status} {text!r}"
            try:
                return json.loads(text)
            except ValueError:
                return text
        finally:
            connection.close()

    def load_box(self, *changes: str, name: str = BOX) -> None:
        """Put the test image on the engine, changed by Dockerfile instructions."""
        repository, _, tag = name.rpartition(":")
        query = urlencode([("fromSrc", "-"), ("repo", repository), ("tag", tag), *(("changes", c) for c in changes)])
        answer = self.call("POST", f"/images/create?{query}", _box(), content="application/x-tar")
        assert b'"error"' not in answer, answer

    def push_box(self, name: str) -> None:
        """Put the test image into the registry under this name, and take it off the engine again."""
        reference = f"{REGISTRY}/{name}"
        self.load_box('CMD ["sleep", "100000"]', name=reference)
        self.push(reference)
        self.call("DELETE", f"/images/{reference}?force=1")

    def push(self, reference: str) -> None:
        """Put an image that the engine has into the registry that its name tells."""
        repository, _, tag = reference.rpartition(":")
        answer = self.call("POST", f"/images/{repository}/push?tag={tag}", headers={"X-Registry-Auth": "e30="})
        assert b'"error"' not in answer, answer

    def containers(self) -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = self.call("GET", "/containers/json?all=1")
        return listed

    def runs(self, container: str) -> bool:
        return bool(self.call("GET", f"/containers/{container}/json")["State"]["Running"])

    def _enter(self, *namespaces: str) -> list[str]:
        chosen = [f"--{each}" for each in namespaces] or ["--all"]
        return ["nsenter", "--target", str(self._pid), *chosen, "--"]

    def start(self, *argv: str, namespaces: tuple[str, ...] = ()) -> Program:
        """Start a program on the host; what it prints is in a file of its name below `home`."""
        path = self.home / f"{Path(argv[0]).name}.log"
        with path.open("ab") as log:
            entering = subprocess.Popen(
                [*self._enter(*namespaces), *argv], stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/"
            )
        self._programs.append(entering)
        return Program(entering, path)

    def _init_lives(self) -> bool:
        return self._init is not None and self._init.poll() is None

    def answers(self) -> bool:
        """Tell whether the engine is there."""
        try:
            return bool(self.call("GET", "/_ping") == b"OK")
        except (OSError, AssertionError):
            return False


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("engine", timeout=PATIENCE)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def _claim(name: str) -> tuple[int, Path]:
    """Take a place that no living run has, and take away what dead ones left there. The lock ends with its holder."""
    BASE.mkdir(parents=True, exist_ok=True)
    taken: tuple[int, Path] | None = None
    for n in range(100):
        home = BASE / f"{name}.{n}"
        if taken is not None and not home.exists():
            return taken
        handle = os.open(BASE / f"{name}.{n}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            continue
        _wipe(home)
        if taken is None:
            taken = handle, home
        else:
            os.close(handle)
    raise AssertionError(f"a hundred hosts {name} in {BASE}")


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _unmount(home: Path) -> None:
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for point in sorted((m for m in mounts if Path(m).is_relative_to(home)), reverse=True):
        _run("umount", "--lazy", point)


def _wipe(home: Path) -> None:
    """Unmount and remove what there is of a host that does not run."""
    if home.exists():
        _unmount(home)
        shutil.rmtree(home)
    cgroup = f"stackyard-tests-{home.name}"
    for root in (*Path("/sys/fs/cgroup").glob(f"*/{cgroup}"), Path("/sys/fs/cgroup") / cgroup):
        for folder in (*sorted(root.rglob("*/"), reverse=True), root) if root.exists() else ():
            folder.rmdir()


def _box() -> bytes:
    """A root file system of nothing but busybox."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        tar.add("/usr/bin/busybox", "bin/busybox")
        for name in (
            "sh",
            "sleep",
            "cat",
            "echo",
            "ip",
            "hostname",
            "true",
            "false",
            "env",
            "head",
            "id",
            "ls",
            "mkdir",
        ):
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
        for name in ("tmp", "etc"):
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755
            tar.addfile(folder)
    return packed.getvalue()


def _run(*argv: str) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(argv)}: {done.stderr}"


def _lives(handle: int) -> bool:
    return not select.select([handle], [], [], 0)[0]


def _until(condition: Callable[[], bool], why: str, alive: Callable[[], bool] = lambda: True) -> None:
    """Poll what no event tells."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert alive() and time.monotonic() < deadline, why
        time.sleep(0.01)
