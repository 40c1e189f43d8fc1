"""The agent's unit under systemd: sockets that it gives away are there for the next process, with what came in."""

from __future__ import annotations

import os
import sys

import pytest

from cli.host import units
from tests import own
from tests.machines import Machine, installation, machines

pytestmark = [pytest.mark.lab, pytest.mark.root, pytest.mark.engine, pytest.mark.timeout(1200)]

PROGRAM = """
import asyncio, os, socket
from agent.fdstore import FdStore

async def main():
    store = FdStore.of_process(os.environ)
    kept = {each.type: each for each in store.take("a")}
    heard = kept[socket.SOCK_DGRAM].recv(99).decode() if kept else ""
    if not kept:
        udp, tcp = socket.socket(type=socket.SOCK_DGRAM), socket.socket()
        udp.bind(("127.0.0.1", 5379))
        tcp.bind(("127.0.0.1", 5379))
        tcp.listen()
        store.keep("a", udp, tcp)
    with open("/run/said", "a") as said:
        print(os.getpid(), len(kept), heard, file=said)
    await asyncio.Event().wait()

asyncio.run(main())
"""
TELL = "import socket, sys; socket.socket(type=socket.SOCK_DGRAM).sendto(sys.argv[1].encode(), ('127.0.0.1', 5379))"


def test_systemd_keeps_what_the_agent_gives_it() -> None:
    with machines(*own.place(own.HOSTS), 1, installation()) as [host]:
        (host.root / "root/program.py").write_text(PROGRAM)
        unit = units.agent(["/usr/bin/env", f"PYTHONPATH={os.getcwd()}", sys.executable, "/root/program.py"])
        (host.root / "etc/systemd/system/kept.service").write_text(unit)
        host.run("systemctl", "start", "kept")
        said = [last(host, 1)]
        for number, how in enumerate((("restart",), ("kill", "-s", "KILL"), ("kill", "-s", "KILL")), 2):
            host.run(sys.executable, "-c", TELL, f"query-{number}")  # nobody reads it before the next process
            host.run("systemctl", *how, "kept")
            said.append(last(host, number))
        assert [line.split()[1:] for line in said] == [["0"], ["2", "query-2"], ["2", "query-3"], ["2", "query-4"]]
        assert len({line.split()[0] for line in said}) == 4, "each was another process"


def last(host: Machine, number: int) -> str:
    """What the so-manieth process says."""

    def lines() -> list[str]:
        return host.run("cat", "/run/said", code=None).stdout.splitlines()

    host.until(lambda: len(lines()) >= number, f"process {number} does not start")
    return lines()[number - 1]
