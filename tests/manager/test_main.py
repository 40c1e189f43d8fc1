"""The program as it is started: an etcd of its own, its end, and what it says when it cannot begin."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.etcd_server import loopback_address, require_binary
from tests.patience import PATIENCE

pytestmark = pytest.mark.etcd


def free_port() -> int:
    """Of two free neighbours, the first: etcd takes one for clients and the next for its peers."""
    while True:
        with socket.socket() as one, socket.socket() as two:
            one.bind(("127.0.0.1", 0))
            port = int(one.getsockname()[1])
            try:
                two.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port


class Program:
    """`stack-manager` in a directory of its own, started as often as a test wants."""

    def __init__(self, directory: Path) -> None:
        self.socket = directory / "m.sock"
        self.log = directory / "log"
        self.etcd_port = free_port()
        self.address = loopback_address()
        self.data = directory / "data"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *arguments: str, path: str | None = None) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "manager.main", "--name=m1", f"--data-dir={self.data}"]
        command += [f"--socket={self.socket}", f"--listen={self.address}:2377", f"--etcd-port={self.etcd_port}"]
        environment = os.environ if path is None else os.environ | {"PATH": path}
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen([*command, *arguments], stderr=log, env=environment)
        return self.process

    def asks(self, path: str) -> dict[str, object]:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(PATIENCE)
            connection.connect(str(self.socket))
            connection.sendall(f"GET /v1{path} HTTP/1.0\r\nHost: m\r\n\r\n".encode())
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        head, _, body = answer.partition(b"\r\n\r\n")
        assert b" 200 " in head.splitlines()[0], answer
        decoded: dict[str, object] = json.loads(body)
        return decoded

    def serves(self) -> dict[str, object]:
        """Wait until it answers for the cluster."""
        return eventually(lambda: self.asks("/cluster"), self)

    def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(how)
        return self.process.wait(timeout=PATIENCE)

    def said(self) -> str:
        return self.log.read_text(errors="replace")


def eventually(ask: Callable[[], dict[str, object]], program: Program) -> dict[str, object]:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return ask()
        except (OSError, AssertionError):
            assert time.monotonic() < deadline, program.said()
            time.sleep(0.05)  # a program tells in no other way that it serves


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    require_binary("3.4")
    program = Program(tmp_path)
    yield program
    if program.process is not None and program.process.poll() is None:
        program.process.kill()
        program.process.wait()


def own_etcd(program: Program) -> list[int]:
    """The processes whose command line names this program's directory as etcd's."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if f"--data-dir={program.data}/etcd".encode() in command:
                found.append(int(entry.name))
    return found


def test_with_an_etcd_of_its_own_it_keeps_the_cluster_over_restarts(program: Program) -> None:
    program.start()
    first = program.serves()
    assert program.end() == 0, program.said()
    assert own_etcd(program) == [] and not program.socket.exists()
    program.start()
    again = program.serves()
    assert again["id"] == first["id"]


def test_its_etcd_is_started_again_when_it_dies(program: Program) -> None:
    program.start()
    first = program.serves()
    (etcd,) = own_etcd(program)
    os.kill(etcd, signal.SIGKILL)
    eventually(lambda: {"new": program.asks("/join-tokens")}, program)
    assert own_etcd(program) not in ([], [etcd])
    assert program.serves()["id"] == first["id"]


def test_a_killed_manager_takes_its_etcd_along_and_starts_again(program: Program) -> None:
    program.start()
    first = program.serves()
    program.end(signal.SIGKILL)
    deadline = time.monotonic() + PATIENCE
    while own_etcd(program):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    program.start()
    assert program.serves()["id"] == first["id"]


def test_nobody_else_can_read_or_use_what_it_writes(program: Program) -> None:
    before = os.umask(0)
    try:
        program.start()
    finally:
        os.umask(before)
    program.serves()
    made = subprocess.run(
        [
            "curl",
            "-s",
            "--unix-socket",
            program.socket,
            "-X",
            "PUT",
            "http://m/v1/secrets/db",
            "-d",
            '{"data": "aGk="}',
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert '"size":2' in made.stdout
    written = [path for path in (program.socket, program.data, *program.data.rglob("*")) if not path.is_symlink()]
    assert {"contents.key", "manager-key.pem", "ca-key.pem", "db", "etcd.log", "m.sock"} <= {
        one.name for one in written
    }
    assert [str(path) for path in written if path.stat().st_mode & 0o077] == []


def test_its_etcd_speaks_to_nobody_without_its_certificate(program: Program) -> None:
    program.start()
    program.serves()
    health = subprocess.run(
        ["curl", "-sk", "--max-time", "3", f"https://127.0.0.1:{program.etcd_port}/health"],
        capture_output=True,
        check=False,
    )
    assert health.returncode != 0 and health.stdout == b""


def test_without_etcd_on_the_path_it_says_what_to_do(program: Program, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    setpriv = shutil.which("setpriv")
    assert setpriv is not None
    (tmp_path / "bin" / "setpriv").symlink_to(setpriv)
    process = program.start(path=str(tmp_path / "bin"))
    assert process.wait(timeout=PATIENCE) == 1
    assert "there is no etcd on this host's PATH" in program.said() and "apt-get install" in program.said()


def test_with_an_etcd_that_does_not_answer_it_says_so(program: Program) -> None:
    process = program.start(f"--etcd=http://127.0.0.1:{free_port()}")
    assert process.wait(timeout=PATIENCE) == 3
    assert "Traceback" not in program.said(), program.said()


def test_an_address_that_is_taken_is_told(program: Program) -> None:
    with socket.create_server((program.address, 2377)):
        assert program.start().wait(timeout=PATIENCE) == 1
    assert "cannot listen on" in program.said() and "Traceback" not in program.said(), program.said()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--listen=nonsense:port"], "is not HOST:PORT"),
        (["--listen=0.0.0.0:2377"], "--advertise"),
    ],
    ids=["no port", "an address that nobody can reach"],
)
def test_settings_that_are_wrong(program: Program, arguments: list[str], message: str) -> None:
    assert program.start(*arguments).wait(timeout=PATIENCE) == 2
    assert message in program.said()
