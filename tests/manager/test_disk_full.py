"""A manager whose etcd has no room left on its disk says so, and goes on by itself when there is some."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import pytest

from tests.etcd_server import require_binary
from tests.manager.test_main import Program
from tests.patience import PATIENCE

pytestmark = [pytest.mark.etcd, pytest.mark.root]

SIZE = "200M"
"""etcd takes two thirds of it at once, for its write-ahead log."""
LARGE = "x" * 300_000


class Manager(Program):
    """One whose answers are read, refusals as well."""

    def local(self, method: str, path: str, body: Any = None) -> Any:
        connection = _Local(str(self.socket))
        try:
            data = None if body is None else json.dumps(body)
            connection.request(method, path, data, {"Content-Type": "application/json"})
            response = connection.getresponse()
            text = response.read()
            if response.status >= 400:
                raise Refusal(f"{response.status}: {text.decode()}")
            return json.loads(text) if text else None
        finally:
            connection.close()

    def writes(self, name: str) -> bool:
        """Whether a write is accepted: a config is made."""
        try:
            self.local("PUT", f"/v1/configs/{name}", {"data": "aGVsbG8="})
        except (OSError, HTTPException, Refusal):
            return False
        return True


class Refusal(AssertionError):
    """The manager answered with an error."""


class _Local(HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=PATIENCE)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(PATIENCE)
        self.sock.connect(self.path)


def eventually(true: Callable[[], object], manager: Manager) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        with suppress(OSError, HTTPException, Refusal):
            if true():
                return
        assert time.monotonic() < deadline, manager.said()
        time.sleep(0.1)  # a program tells in no other way


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    require_binary("3.4")
    manager = Manager(tmp_path)
    disk = manager.data / "etcd"
    disk.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=0700", "tmpfs", str(disk)], check=True)
    try:
        yield manager
    finally:
        if manager.process is not None:
            manager.end()
        subprocess.run(["umount", str(disk)], check=True)


def test_it_is_told_and_over_as_soon_as_there_is_room(manager: Manager) -> None:
    disk = manager.data / "etcd"
    manager.start()
    eventually(lambda: manager.writes("before"), manager)
    ballast = disk / "ballast"
    with ballast.open("wb") as file, suppress(OSError):
        while True:
            file.write(bytes(2**20))
            file.flush()
    asked = iter(range(10**6))

    def refuses() -> bool:
        """Whether it says why it cannot serve, once etcd had to write what does not fit."""
        number = next(asked)
        with suppress(OSError, HTTPException, Refusal):
            manager.local("PUT", f"/v1/configs/large-{number}", {"data": f"{number:08d}{LARGE}"})
        try:
            manager.local("GET", "/v1/cluster")
        except Refusal as refusal:
            return f"free on the disk of {disk}" in str(refusal)
        return False

    eventually(refuses, manager)
    assert manager.process is not None and manager.process.poll() is None
    ballast.unlink()
    eventually(lambda: manager.writes("after"), manager)
    assert {one["name"] for one in manager.local("GET", "/v1/configs")} >= {"before", "after"}
