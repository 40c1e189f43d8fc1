"""The holder of descriptors: a command gives sockets away, ends, and the next one finds them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.patience import PATIENCE

KEEPER = "from cli.host.fdstore import main; main()"
PROGRAM = """
import asyncio, os, socket, sys
from agent.fdstore import FdStore

async def main():
    store = FdStore.of_process(os.environ)
    assert not [name for name in os.environ if name.startswith(("LISTEN_", "NOTIFY_"))]
    for word in sys.argv[1:]:
        verb, _, name = word.partition("=")
        if verb == "keep":
            store.keep(name, *socket.socketpair())
        elif verb == "forget":
            store.forget(name)
        elif verb == "take":
            taken = store.take(name)
            taken[0].send(name.encode())
            print(len(taken), taken[1].recv(99).decode())
        elif verb == "rest":
            store.forget_rest()
        elif verb == "open":
            print(len(os.listdir("/proc/self/fd")))
asyncio.run(main())
"""


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """Where the holder listens; it is ended with the test."""
    path = tmp_path / "run" / "keeper"
    try:
        yield path
    finally:
        for entry in filter(str.isdigit, os.listdir("/proc")):
            try:
                words = Path(f"/proc/{entry}/cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if str(path).encode() in words:
                os.kill(int(entry), signal.SIGKILL)


def run(place: Path, *words: str) -> list[str]:
    """Run the program once; what it says."""
    command = [sys.executable, "-c", KEEPER, str(place), "--", sys.executable, "-c", PROGRAM, *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_what_is_given_away_is_found_by_the_next_run_until_it_is_forgotten(place: Path) -> None:
    run(place, "keep=a", "keep=b")
    assert run(place, "take=a", "take=b") == ["2 a", "2 b"]
    assert run(place, "forget=a", "take=b") == ["2 b"]
    assert run(place, "take=b", "rest") == ["2 b"]
    run(place, "rest")
    [fewest] = run(place, "open")
    assert run(place, "open") == [fewest], "nothing is left"


def test_a_run_gets_nothing_but_what_is_kept(place: Path) -> None:
    [none] = run(place, "open")
    run(place, *(f"keep={number}" for number in range(8)))
    assert run(place, "open") == [str(int(none) + 16)]


def test_a_holder_that_is_gone_is_replaced(place: Path) -> None:
    run(place, "keep=a")
    place.unlink()
    run(place, "keep=b")
    assert run(place, "take=b") == ["2 b"]


@pytest.mark.parametrize("words", [(), ("socket",), ("socket", "command"), ("socket", "--")])
def test_its_use_is_told(words: tuple[str, ...]) -> None:
    done = subprocess.run([sys.executable, "-c", KEEPER, *words], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "usage: stack-fdstore SOCKET -- COMMAND...\n")


def test_a_command_that_is_not_there_is_told(place: Path) -> None:
    command = [sys.executable, "-c", KEEPER, str(place), "--", "/no/such"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stderr == "stack-fdstore: /no/such cannot be started: No such file or directory\n"
