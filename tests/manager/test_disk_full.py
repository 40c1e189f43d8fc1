"""A manager whose etcd has no room left on its disk says so, and goes on by itself when there is some."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path

import pytest

from tests.etcd_server import require_binary
from tests.manager.test_growing import Manager, Refusal, configs, eventually

pytestmark = [pytest.mark.etcd, pytest.mark.root]

SIZE = "200M"
"""etcd takes two thirds of it at once, for its write-ahead log."""
LARGE = "x" * 300_000


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    require_binary("3.4")
    manager = Manager(tmp_path / "m1", "m1")
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
    manager.begin()
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
    assert configs(manager) >= {"before", "after"}
