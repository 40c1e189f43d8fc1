"""What one node's networks cost when they are many or large: time to program, time of one change, memory, answers.

    .venv/bin/python -m bench.scale [--services 1000] [--backends 10] [--sandboxes 10] [--networks 50] [--tasks 100]

A node in a namespace of its own gets its assignments as from a manager, through all of the agent's network code but
without containers: sandboxes are all that it makes. Three shapes are measured. `services` is one network with so many
services, each with a virtual address and so many endpoints on other nodes, and some sandboxes that could reach any of
them. `networks` is that many networks with two sandboxes in each. `in K` is K networks with ten services in each, and
so many tasks that are in all of them: each has one sandbox, and K endpoints. Needs root.

    set        from a full set of assignments to all of it programmed, while there is no sandbox yet
    sandbox    making one, complete with its table of virtual addresses
    at once    making all of them anew, as many at a time as the agent makes, until each is complete and its name server
               listens: sandboxes and endpoints a second, and the agent's own CPU (the median of some rounds)
    gone       taking all of them away, until nothing leads there: the kernel ends their namespaces when it gets to it
    change     one endpoint that becomes, or ceases to be, ready: in force in all sandboxes and names
    audit      comparing everything with the kernel, where nothing is wrong
    kernel     growth of the kernel's own memory (slab); other programs on the machine count in
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from agent.network.wiring import Wiring
from agent.networks import Networks
from agent.resolver import Resolver
from cluster.assignments import Item, NetworkItem, PeerItem, ServiceItem, TaskItem, VipItem
from cluster.model.container import ContainerSpec
from cluster.model.network import Endpoint, Network
from cluster.model.service import ServiceSpec
from cluster.model.task import Task

HOME = "stackyard-scale"
PLACE = Path("/run/stackyard-scale")
ADDRESS = "10.78.0.1"
CHANGES = 20
ROUNDS = 3
PAUSE = 3.0
"""Seconds between rounds, in which the kernel ends the namespaces of the last one."""
LOOKUPS = 2000
STACK, UID = "stack", "own"


@contextmanager
def node() -> Iterator[Wiring]:
    """A node's namespace with one link, and the wiring in it; all of it goes in the end."""

    def ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True)

    _clean()
    ip("netns", "add", HOME)
    try:
        ip("-n", HOME, "link", "add", "eth0", "type", "veth", "peer", "name", "peer0")
        ip("-n", HOME, "addr", "add", f"{ADDRESS}/24", "dev", "eth0")
        for end in ("eth0", "peer0"):
            ip("-n", HOME, "link", "set", end, "up")
        yield Wiring("n1", ADDRESS, netns=PLACE / "netns", links=PLACE / "links", home=Path("/run/netns") / HOME)
    finally:
        _clean()


def _clean() -> None:
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for mount in sorted((m for m in mounts if m.startswith(f"{PLACE}/")), reverse=True):
        subprocess.run(["umount", "-l", mount], check=True)
    shutil.rmtree(PLACE, ignore_errors=True)
    if (Path("/run/netns") / HOME).exists():
        subprocess.run(["ip", "netns", "del", HOME], check=True)


class Assignments:
    """Sets as a manager gives them: `networks` of them, each with `services`, and this node's sandboxes: so many in
    each of the networks alone, or in all of them at once.
    """

    def __init__(self, networks: int, services: int, backends: int, sandboxes: int, *, in_all: bool = False) -> None:
        self.items: dict[str, Item] = {}
        self.tasks: list[Task] = []
        self.endpoints: list[PeerItem] = []
        spec = ServiceItem(UID, 1, STACK, ServiceSpec("own", ContainerSpec("image")))
        self._put(spec)
        filled = [self._filled(number, services, backends) for number in range(networks)]
        for some in [filled] if in_all else ([one] for one in filled):
            for _ in range(sandboxes):
                self._place(some)

    def _filled(self, number: int, services: int, backends: int) -> tuple[Network, Iterator[str]]:
        """Make a network; gives it with the addresses that are still free."""
        network = Network(f"net{number}", f"net{number}", STACK, "net", 5000 + number, (f"10.{number + 100}.0.0/16",))
        self._put(NetworkItem(network))
        addresses = (f"{network.subnets[0][:-7]}.{host >> 8}.{host & 255}" for host in range(10, 65000))
        for service in range(services):
            uid = f"{network.id}-{service}"
            self._put(VipItem(network.id, uid, STACK, f"web{service}", (next(addresses),)))
            for slot in range(1, backends + 1):
                peer = _peer(network, f"{uid}-{slot}", "n2", "10.78.0.2", next(addresses), f"web{service}", uid, slot)
                self.endpoints.append(peer)
                self._put(peer)
        return network, addresses

    def _place(self, networks: list[tuple[Network, Iterator[str]]]) -> None:
        """Place a task that is in these networks."""
        slot = len(self.tasks) + 1
        task = f"{slot:04d}{'a' * 21}"  # the first 13 letters are all that tells one from another in names of links
        at = tuple(Endpoint(network.id, (next(addresses),)) for network, addresses in networks)
        self.tasks.append(Task(task, STACK, UID, slot, 1, 1, 0.0, "n1", endpoints=at))
        self._put(TaskItem(self.tasks[-1]))
        for (network, _), endpoint in zip(networks, at, strict=True):
            self._put(_peer(network, task, "n1", ADDRESS, endpoint.addresses[0], "own", UID, slot))

    def _put(self, item: Item) -> None:
        self.items[item.ident] = item

    def turn(self, number: int) -> None:
        """Have another endpoint become, or cease to be, ready."""
        peer = self.endpoints[number * 37 % len(self.endpoints)]
        held = self.items[peer.ident]
        assert isinstance(held, PeerItem)
        self._put(replace(held, ready=not held.ready))


def _peer(
    network: Network, owner: str, node: str, vtep: str, address: str, service: str, uid: str, slot: int
) -> PeerItem:
    mac = Endpoint(network.id, (address,)).mac
    return PeerItem(network.id, owner, node, vtep, (address,), mac, True, STACK, service, uid, slot)


async def timed(work: Awaitable[object]) -> float:
    """Milliseconds that something takes."""
    begin = time.perf_counter()
    await work
    return (time.perf_counter() - begin) * 1e3


def slab() -> float:
    """The kernel's own memory, in MB."""
    line = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("Slab:"))
    return int(line.split()[1]) / 1024


def resident() -> float:
    """This program's memory, in MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


async def measure(given: Assignments, name: str) -> None:
    """Print what a shape costs."""
    say: Callable[[str, str], None] = lambda what, figure: print(f"{name:10}{what:34}{figure}")  # noqa: E731
    with node() as wiring:
        networks = Networks(wiring, Resolver(wiring))
        memory, kernel = resident(), slab()
        await networks.open()
        try:
            say("set", f"{await timed(networks.apply(given.items.values())):.0f} ms")
            made = [await timed(networks.create_sandbox(task.id, task.endpoints)) for task in given.tasks]
            say(f"sandbox, median of {len(made)}", f"{statistics.median(made):.1f} ms (most {max(made):.1f})")
            await at_once(networks, given, say)
            changed, work = [], time.process_time()
            for number in range(CHANGES):
                given.turn(number)
                changed.append(await timed(networks.apply(given.items.values())))
            work = (time.process_time() - work) / CHANGES * 1e3
            say("change, median", f"{statistics.median(changed):.1f} ms (most {max(changed):.1f}, CPU {work:.1f})")
            say("audit", f"{await timed(wiring.audit()):.0f} ms")
            say("agent's memory", f"{resident() - memory:.0f} MB more")
            say("kernel's memory", f"{slab() - kernel:.0f} MB more")
            if given.endpoints:
                await answers(wiring, given, say)
        finally:
            await networks.close()


async def at_once(networks: Networks, given: Assignments, say: Callable[[str, str], None]) -> None:
    """Take all sandboxes away and make them anew, some times."""
    endpoints = sum(len(task.endpoints) for task in given.tasks) / len(given.tasks)
    gone, made = Rounds(len(given.tasks)), Rounds(len(given.tasks))
    for _ in range(ROUNDS):
        await gone.time(asyncio.gather(*(networks.delete_sandbox(task.id) for task in given.tasks)))
        await asyncio.sleep(PAUSE)
        await made.time(asyncio.gather(*(networks.create_sandbox(task.id, task.endpoints) for task in given.tasks)))
    rate, work = made.median()
    say("at once", f"{rate:.0f} sandboxes, {rate * endpoints:.0f} endpoints a second (CPU {work:.2f} ms a sandbox)")
    rate, work = gone.median()
    say("gone", f"{rate:.0f} sandboxes, {rate * endpoints:.0f} endpoints a second (CPU {work:.2f} ms a sandbox)")


class Rounds:
    """How long it took, and what CPU, to do something with so many sandboxes."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._rounds: list[tuple[float, float]] = []

    async def time(self, work: Awaitable[object]) -> None:
        used = time.process_time()
        passed = await timed(work)
        self._rounds.append((passed, (time.process_time() - used) * 1e3))

    def median(self) -> tuple[float, float]:
        """Sandboxes a second, and milliseconds of CPU for each."""
        passed, used = (statistics.median(figures) for figures in zip(*self._rounds, strict=True))
        return self._count / passed * 1e3, used / self._count


async def answers(wiring: Wiring, given: Assignments, say: Callable[[str, str], None]) -> None:
    """Ask for services from inside of a sandbox, one after the other, in a program of its own."""
    path = wiring.namespace(given.tasks[0].id)
    names = [f"web{number}" for number in (0, len(given.endpoints) // 20, len(given.endpoints) // 10 - 1)]
    for name in dict.fromkeys(names):
        command = ["nsenter", f"--net={path}", sys.executable, "-m", "bench.flows", "lookups", name, str(LOOKUPS)]
        asking = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        printed, _ = await asking.communicate()
        say(f"look-up of {name}", printed.decode().strip())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--services", type=int, default=1000)
    parser.add_argument("--backends", type=int, default=10)
    parser.add_argument("--sandboxes", type=int, default=10)
    parser.add_argument("--networks", type=int, default=50)
    parser.add_argument("--tasks", type=int, default=100)
    words = parser.parse_args()
    if os.geteuid() != 0:
        raise SystemExit("needs root, for network namespaces")
    asyncio.run(measure(Assignments(1, words.services, words.backends, words.sandboxes), "services"))
    asyncio.run(measure(Assignments(words.networks, 2, 2, 2), "networks"))
    for networks in (1, 3):
        asyncio.run(measure(Assignments(networks, 10, 3, words.tasks, in_all=True), f"in {networks}"))


if __name__ == "__main__":
    main()
