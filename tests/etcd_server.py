"""Real etcd servers for tests: started, killed, frozen and thawed at will; they die with the tests' process.

Each member has a loopback address of its own (127.x.y.z) with etcd's usual ports: nothing can take a port while a
killed member is away, and its certificate can name its address. Data is on tmpfs, without fsync.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.patience import PATIENCE

CLIENT_PORT, PEER_PORT = 2379, 2380
ROOT = Path("/dev/shm")
PREFIX = "stackyard-etcd-"
LONE_TIMING = ("--heartbeat-interval=20", "--election-timeout=100")
TIMING = ("--heartbeat-interval=100", "--election-timeout=1000")

BINARIES = {
    "3.4": shutil.which("etcd") or "",
    "3.5": os.environ.get("STACKYARD_ETCD_3_5", "/var/cache/stackyard/etcd-3.5/usr/bin/etcd"),
}


def require_binary(version: str) -> str:
    """The binary of that line of etcd; without it the test is skipped, or fails where CI is set."""
    binary = BINARIES[version]
    if os.access(binary, os.X_OK):
        return binary
    how = "apt-get install etcd-server" if version == "3.4" else "run scripts/fetch-etcd-3.5"
    message = f"etcd {version} is not here: {how}"
    if os.environ.get("CI", "").lower() in ("1", "true"):
        pytest.fail(message, pytrace=False)
    pytest.skip(message)


@dataclass(frozen=True, slots=True)
class ServerTls:
    """Files of a member's certificate, and the CA that clients' certificates must come from."""

    ca: Path
    cert: Path
    key: Path
    client_cert: Path
    client_key: Path

    def arguments(self) -> list[str]:
        return [
            f"--trusted-ca-file={self.ca}",
            f"--cert-file={self.cert}",
            f"--key-file={self.key}",
            "--client-cert-auth",
        ]

    def client_context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.ca))
        context.load_cert_chain(self.client_cert, self.client_key)
        return context


class Member:
    """One etcd process. Its data outlives a kill, so that it can be started again."""

    def __init__(
        self, binary: str, name: str, address: str, home: Path, tls: ServerTls | None, arguments: Sequence[str]
    ) -> None:
        self.name = name
        self.address = address
        self.tls = tls
        self.client_url = f"{'https' if tls else 'http'}://{address}:{CLIENT_PORT}"
        self.peer_url = f"http://{address}:{PEER_PORT}"
        self._home = home
        self._command = [
            # The kernel kills it when the tests' process dies, however that happens.
            *("setpriv", "--pdeathsig", "KILL"),
            binary,
            f"--name={name}",
            f"--data-dir={home / name}",
            f"--listen-client-urls={self.client_url}",
            f"--advertise-client-urls={self.client_url}",
            f"--listen-peer-urls={self.peer_url}",
            f"--initial-advertise-peer-urls={self.peer_url}",
            "--unsafe-no-fsync",
            "--logger=zap",
            "--log-level=error",
            *(tls.arguments() if tls else ()),
            *arguments,
        ]
        self._process: subprocess.Popen[bytes] | None = None
        self._paused = False

    def start(self, peers: Sequence[Member]) -> None:
        if self._process is not None:
            return
        members = ",".join(f"{peer.name}={peer.peer_url}" for peer in peers)
        with open(self._home / f"{self.name}.log", "ab") as log:
            self._process = subprocess.Popen(
                [*self._command, f"--initial-cluster={members}"], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def healthy(self) -> bool:
        context = self.tls.client_context() if self.tls else None
        try:
            with urllib.request.urlopen(f"{self.client_url}/health", timeout=10, context=context) as answer:
                return b'"true"' in answer.read()
        except (OSError, urllib.error.URLError):
            return False

    def exited(self) -> bool:
        return self._process is not None and self._process.poll() is not None

    def output(self) -> str:
        return (self._home / f"{self.name}.log").read_text(errors="replace")[-2000:]

    def kill(self) -> None:
        """As kill -9, or a power cut of this one process."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """In order: it says goodbye to its connections."""
        self.resume()
        self._end(signal.SIGTERM)

    def pause(self) -> None:
        """Frozen: it keeps its connections and says nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED)  # its threads may run on for a moment
        self._paused = True

    def resume(self) -> None:
        if self._paused and self._process is not None:
            self._process.send_signal(signal.SIGCONT)
        self._paused = False

    def _end(self, how: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(how)
        try:
            self._process.wait(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None
        self._paused = False


class Servers:
    """The members of one etcd cluster."""

    def __init__(self, members: Sequence[Member]) -> None:
        self.members = tuple(members)
        self.endpoints = tuple(member.client_url for member in self.members)

    @property
    def first(self) -> Member:
        return self.members[0]

    def start(self) -> None:
        """Starts and thaws whoever is away, without waiting. The kernel kills them with the thread that called this."""
        for member in self.members:
            member.resume()
            member.start(self.members)

    def restore(self) -> None:
        """Starts and thaws whoever is away, and waits until all answer."""
        self.start()
        deadline = time.monotonic() + PATIENCE
        waiting = list(self.members)
        while waiting := [member for member in waiting if not member.healthy()]:
            for member in waiting:
                if member.exited() or time.monotonic() > deadline:
                    raise RuntimeError(f"etcd {member.name} at {member.client_url} did not start:\n{member.output()}")
            time.sleep(0.02)  # etcd has no sign of being ready but its answer

    def kill(self) -> None:
        for member in self.members:
            member.kill()


def loopback_address() -> str:
    """An address of 127.0.0.0/8 on which nobody listens on etcd's ports."""
    while True:
        address = f"127.{random.randint(1, 254)}.{random.randint(0, 254)}.{random.randint(1, 254)}"
        try:
            for port in (CLIENT_PORT, PEER_PORT):
                with socket.socket() as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind((address, port))
        except OSError:
            continue
        return address


@contextmanager
def running(
    version: str,
    members: int = 1,
    *,
    addresses: Sequence[str] = (),
    tls: Sequence[ServerTls] = (),
    arguments: Sequence[str] = (),
) -> Iterator[Servers]:
    """A cluster of etcd that is up and answers, gone without trace at the end of the block."""
    binary = require_binary(version)
    _sweep()
    home = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=ROOT))
    servers = Servers(
        [
            Member(
                binary,
                f"m{number + 1}",
                addresses[number] if addresses else loopback_address(),
                home,
                tls[number] if tls else None,
                # Shorter than the defaults, so that a cluster is back sooner: a lone member elects only itself.
                [*(LONE_TIMING if members == 1 else TIMING), *arguments],
            )
            for number in range(members)
        ]
    )
    try:
        servers.restore()
        yield servers
    finally:
        servers.kill()
        shutil.rmtree(home)


def _sweep() -> None:
    """Removes the data of runs that were killed."""
    for left in ROOT.glob(f"{PREFIX}*"):
        owner = left.name.removeprefix(PREFIX).partition("-")[0]
        if owner.isdigit() and not Path("/proc", owner).exists():
            shutil.rmtree(left, ignore_errors=True)
