"""Traffic for tests of networks: talkers that notice what is lost, taps, and packets that nobody should believe."""

from __future__ import annotations

import re
import socket
import struct
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cluster.model.network import Endpoint
from tests.agent.network.test_wiring import opened_in, socket_in

TALK = """
import select, socket, sys, time
talking = socket.socket(type=socket.SOCK_DGRAM)
talking.connect((sys.argv[1], int(sys.argv[2])))
talking.settimeout(10)
sent, heard = 0, set()
while not select.select([sys.stdin], [], [], 0.02)[0]:
    talking.send(str(sent).encode())
    sent += 1
    while select.select([talking], [], [], 0)[0]:
        heard.add(int(talking.recv(99)))
    if sent == 10:
        print("up", flush=True)
try:
    while len(heard) < sent:
        heard.add(int(talking.recv(99)))
except TimeoutError:
    pass
print(sorted(set(range(sent)) - heard))
"""
ECHO = """
import socket, sys
server = socket.socket(type=socket.SOCK_DGRAM)
server.bind(("", int(sys.argv[1])))
print("up", flush=True)
while True:
    server.sendto(*server.recvfrom(99))
"""


@contextmanager
def tapped(switch: Path) -> Iterator[Callable[[], list[bytes]]]:
    """Hear everything that passes between hosts: all frames at their switch, with each call those since the last."""
    tap = opened_in(switch, lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)))
    tap.setsockopt(socket.SOL_SOCKET, 33, 1 << 24)  # SO_RCVBUFFORCE
    tap.setblocking(False)

    def heard() -> list[bytes]:
        frames = []
        with suppress(BlockingIOError):
            while True:
                frames.append(tap.recv(1 << 16))
        return frames

    try:
        yield heard
    finally:
        tap.close()


@contextmanager
def echoing(where: Path, port: int = 7000) -> Iterator[None]:
    command = ["setpriv", "--pdeathsig", "KILL", "nsenter", f"--net={where}", "python3", "-c", ECHO, str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as server:
        try:
            assert server.stdout is not None
            server.stdout.readline()
            yield
        finally:
            server.kill()


@contextmanager
def talking(where: Path, to: str, lost: list[int], port: int = 7000) -> Iterator[None]:
    """Send without pause during the block; then tell which of the packets were not answered."""
    command = ["setpriv", "--pdeathsig", "KILL", "nsenter", f"--net={where}", "python3", "-c", TALK, to, str(port)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as talker:
        assert talker.stdout is not None
        talker.stdout.readline()
        yield
        said, _ = talker.communicate("enough\n", timeout=60)
        lost += map(int, re.findall(r"\d+", said))


def say(where: Path, to: str, words: bytes) -> bytes:
    with socket_in(where, socket.SOCK_DGRAM) as saying:
        saying.settimeout(10)
        saying.connect((to, 7000))
        saying.send(words)
        return saying.recv(99)


def forged(vni: int, source: str, target: str, words: bytes) -> bytes:
    """A VXLAN packet as a node would send it in clear, from one container's address to another's, at port 7000."""
    outer = struct.pack("!II", 0x08000000, vni << 8)
    ends = [Endpoint("", (address,)) for address in (target, source)]
    frame = b"".join(bytes.fromhex(end.mac.replace(":", "")) for end in ends) + b"\x08\x00"
    udp = struct.pack("!HHHH", 7000, 7000, 8 + len(words), 0) + words
    addresses = [socket.inet_aton(end.addresses[0]) for end in reversed(ends)]
    header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0, *addresses)
    total = sum(struct.unpack("!10H", header))
    total = (total & 0xFFFF) + (total >> 16)
    return outer + frame + header[:10] + struct.pack("!H", 0xFFFF - total) + header[12:] + udp
