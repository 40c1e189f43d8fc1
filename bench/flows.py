"""The small programs of `bench.network` that run inside a network namespace: `python -m bench.flows ROLE ...`.

They print one JSON value when they end. `cost` alone runs outside, and enters two of them by itself.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import select
import socket
import statistics
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from agent import libc

DNS = ("127.0.0.11", 53)
PATIENCE = 30.0
CLONE_NEWNET = 0x40000000
COSTS, ROUND_TRIPS, CONNECTIONS, CARRIED = 9, 1000, 200, 150_000_000


def accept(port: int, seconds: float) -> None:
    """Take connections, and close each when the client has."""
    with socket.create_server(("0.0.0.0", port), backlog=1024) as server:
        server.settimeout(seconds)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                connection, _ = server.accept()
            except TimeoutError:
                return
            with connection:
                connection.recv(1)


def connect(host: str, port: int, seconds: float) -> float:
    """Open and close connections, four at a time; gives how many a second."""
    made = [0] * 4
    end = time.monotonic() + seconds

    def one(index: int) -> None:
        while time.monotonic() < end:
            with socket.create_connection((host, port), timeout=5):
                made[index] += 1

    threads = [threading.Thread(target=one, args=(index,)) for index in range(len(made))]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(made) / (time.monotonic() - began)


def cost(client: str, server: str, host: str, port: int) -> dict[str, float]:
    """Tell the CPU that TCP takes between two network namespaces (their files), both ends in this one thread.

    The kernel carries what is sent to the other end at once and on the sender's account, so that programs which want
    the same cores change little in it: microseconds of a round trip of 64 bytes and of a connection from begin to end,
    milliseconds of a gigabyte.
    """
    with _entered(server, lambda: socket.create_server(("0.0.0.0", port))) as listening:
        near = _entered(client, lambda: socket.create_connection((host, port), timeout=5))
        far, _ = listening.accept()
        connected = [_connect(listening, (host, port), CONNECTIONS) / CONNECTIONS for _ in range(COSTS)]
    with near, far:
        for end in (near, far):
            end.setblocking(False)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        trips = [_trips(near, far, ROUND_TRIPS) / ROUND_TRIPS for _ in range(COSTS)]
        carried = [_carry(near, far, CARRIED) / CARRIED for _ in range(COSTS)]
    trip, connection, byte = (statistics.median(each) for each in (trips, connected, carried))
    return {"round trip": trip * 1e6, "connection": connection * 1e6, "gigabyte": byte * 1e12}


def _entered(namespace: str, make: Callable[[], socket.socket]) -> socket.socket:
    place = os.open(namespace, os.O_RDONLY)
    try:
        libc.call("setns", place, CLONE_NEWNET)
    finally:
        os.close(place)
    return make()


def _connect(listening: socket.socket, address: tuple[str, int], count: int) -> float:
    """Open and close connections from the namespace that this thread is in; gives seconds of CPU."""
    began = time.thread_time()
    for _ in range(count):
        with socket.socket() as near:
            near.connect(address)
            listening.accept()[0].close()
    return time.thread_time() - began


def _trips(near: socket.socket, far: socket.socket, count: int) -> float:
    """Send some bytes to and fro; gives seconds of CPU."""
    ping = b"x" * 64
    began = time.thread_time()
    for _ in range(count):
        for sender, taker in ((near, far), (far, near)):
            sender.send(ping)
            left = len(ping)
            while left:
                left -= _take(taker, memoryview(bytearray(left)))
    return time.thread_time() - began


def _carry(near: socket.socket, far: socket.socket, count: int) -> float:
    """Carry bytes one way; gives seconds of CPU."""
    piece, room = bytes(1 << 16), memoryview(bytearray(1 << 16))
    taken = 0
    began = time.thread_time()
    while taken < count:
        with suppress(BlockingIOError):
            near.send(piece)
        taken += _take(far, room)
    return time.thread_time() - began


def _take(taker: socket.socket, room: memoryview) -> int:
    while True:
        try:
            return taker.recv_into(room)
        except BlockingIOError:
            select.select([taker], [], [], 1)


def question(name: str, ident: int) -> bytes:
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return struct.pack("!6H", ident, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!2H", 1, 1)


def ask(client: socket.socket, name: str) -> int:
    """Ask for the A records of a name; gives how many there are."""
    ident = random.randrange(0x10000)
    client.send(question(name, ident))
    answer = client.recv(4096)
    while struct.unpack_from("!H", answer)[0] != ident:
        answer = client.recv(4096)
    return int(struct.unpack_from("!H", answer, 6)[0])


def resolver() -> socket.socket:
    client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    client.settimeout(5)
    client.connect(DNS)
    return client


def lookups(name: str, count: int) -> dict[str, float]:
    """One after the other; gives p50 and p99 in milliseconds, and how many a second."""
    times = []
    with resolver() as client:
        for _ in range(count):
            began = time.perf_counter()
            ask(client, name)
            times.append(time.perf_counter() - began)
    rate = count / sum(times)
    times.sort()
    return {"p50": times[count // 2] * 1e3, "p99": times[count * 99 // 100] * 1e3, "rate": rate}


def watch(name: str, count: int) -> float:
    """Wait until a name leads to so many addresses; gives when it did, as a wall clock's seconds."""
    end = time.monotonic() + PATIENCE
    with resolver() as client:
        while time.monotonic() < end:
            if ask(client, name) == count:
                return time.time()
            time.sleep(0.002)
    raise SystemExit(f"{name} did not get {count} addresses in {PATIENCE:.0f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    roles = parser.add_subparsers(dest="role", required=True)
    one = roles.add_parser("accept")
    one.add_argument("port", type=int)
    one.add_argument("seconds", type=float)
    one = roles.add_parser("connect")
    one.add_argument("host")
    one.add_argument("port", type=int)
    one.add_argument("seconds", type=float)
    one = roles.add_parser("cost")
    for what in ("client", "server", "host"):
        one.add_argument(what)
    one.add_argument("port", type=int)
    for asking in ("lookups", "watch"):
        one = roles.add_parser(asking)
        one.add_argument("name")
        one.add_argument("count", type=int)
    words = vars(parser.parse_args())
    programs: dict[str, Callable[..., object]] = {
        "accept": accept, "connect": connect, "cost": cost, "lookups": lookups, "watch": watch
    }  # fmt: skip
    print(json.dumps(programs[words.pop("role")](**words)))


if __name__ == "__main__":
    main()
