"""What is said to whoever keeps sockets, also when it reads late or is not there."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from pathlib import Path

import pytest

from agent.fdstore import FdStore
from tests.patience import PATIENCE


async def test_what_is_said_waits_in_order_for_one_who_reads_late(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as keeper:
        keeper.bind(str(tmp_path / "keeper"))
        store = FdStore(str(tmp_path / "keeper"))
        mine, other = socket.socketpair()
        for number in range(600):
            store.keep(f"n{number}", mine)
        store.forget("n0")
        mine.close()
        loop = asyncio.get_running_loop()
        said = [await loop.sock_recv(keeper, 999) for _ in range(601)]  # whose descriptors are closed with it
        assert said == [f"FDSTORE=1\nFDNAME=n{n}\nFDPOLL=0".encode() for n in range(600)] + [
            b"FDSTOREREMOVE=1\nFDNAME=n0"
        ]
        other.setblocking(False)
        assert await loop.sock_recv(other, 1) == b"", "no copy is left open"
        other.close()
        store.close()


async def test_one_that_closes_lets_go_of_what_it_has_not_said(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as keeper:
        keeper.bind(str(tmp_path / "keeper"))
        store = FdStore(str(tmp_path / "keeper"))
        mine, other = socket.socketpair()
        for number in range(600):
            store.keep(f"n{number}", mine)
        mine.close()
        store.close()
    other.settimeout(PATIENCE)
    assert other.recv(1) == b""
    other.close()


async def test_without_a_keeper_nothing_happens() -> None:
    store = FdStore.of_process({})
    mine, other = socket.socketpair()
    store.keep("a", mine)
    store.forget("a")
    store.forget_rest()
    mine.close()
    assert other.recv(1) == b"" and store.take("a") == []
    other.close()
    store.close()


async def test_a_keeper_that_is_gone_costs_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        FdStore.of_process({"NOTIFY_SOCKET": str(tmp_path / "keeper")}).close()
    assert "nothing can be kept for the next agent" in caplog.text


def test_what_another_process_was_given_is_not_ours() -> None:
    environment = {"LISTEN_PID": str(os.getpid() + 1), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "a", "HOME": "/"}
    assert FdStore.of_process(environment).take("a") == []
    assert environment == {"HOME": "/"}
