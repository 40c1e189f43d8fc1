"""Hosts for network tests: network namespaces on one bridge, each with a Wiring as if it were a node of its own."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from agent.network.wireguard import OwnKey
from agent.network.wiring import Wiring
from cluster.assignments import Item, NetworkItem, PeerItem, PortItem, ServiceItem, TaskItem, VipItem
from cluster.model.network import INGRESS, Endpoint, Network
from cluster.model.service import PortSpec
from cluster.model.task import Task
from tests.own import NAME
from tests.patience import PATIENCE

SUBNET = "10.79.0"
NAMES = ("h1", "h2", "h3", "client")
TAG = f"syt-{NAME}"
"""Tells the namespaces of one run of the tests from those of another on the same machine."""
ROOT = Path(f"/run/stackyard-network-tests-{TAG}")
FRONT = Network("front", "front", "stack", "front", 4101, ("10.101.0.0/16",))
BACK = Network("back", "back", "stack", "back", 4102, ("10.102.0.0/16", "fd00:102::/64"))
INGRESS_NETWORK = Network(INGRESS, INGRESS, "", INGRESS, 4100, ("10.100.0.0/16",))


def run(*command: str, check: bool = True) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    if check and done.returncode:
        raise AssertionError(f"{' '.join(command)}: {done.stderr or done.stdout}")
    return done.stdout


def namespace(host: str) -> str:
    return f"{TAG}-{host}"


def host(name: str) -> Path:
    return Path("/run/netns") / namespace(name)


def clean() -> None:
    """Remove what an earlier run may have left, however it ended."""
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for mount in sorted((m for m in mounts if m.startswith(f"{ROOT}/")), reverse=True):
        run("umount", "-l", mount)
    shutil.rmtree(ROOT, ignore_errors=True)
    for name in (*NAMES, "switch"):
        if host(name).exists():
            run("ip", "netns", "del", namespace(name))


@contextmanager
def underlay() -> Iterator[None]:
    clean()
    try:
        run("ip", "netns", "add", namespace("switch"))
        run("ip", "-n", namespace("switch"), "link", "add", "br0", "type", "bridge")
        run("ip", "-n", namespace("switch"), "link", "set", "br0", "up")
        run("nsenter", f"--net={host('switch')}", "sysctl", "-qw", "net.bridge.bridge-nf-call-iptables=0")
        for number, name in enumerate(NAMES, 1):
            here = ("ip", "-n", namespace(name))
            run("ip", "netns", "add", namespace(name))
            run("ip", "link", "add", "eth0", "netns", namespace(name), "type", "veth",
                "peer", "name", name, "netns", namespace("switch"))  # fmt: skip
            run("ip", "-n", namespace("switch"), "link", "set", name, "master", "br0", "up")
            run(*here, "addr", "add", f"{SUBNET}.{number}/24", "dev", "eth0")
            run(*here, "link", "set", "lo", "up")
            run(*here, "link", "set", "eth0", "up")
        yield
    finally:
        clean()


def address_of(name: str) -> str:
    return f"{SUBNET}.{NAMES.index(name) + 1}"


def wiring(name: str, keys: Sequence[OwnKey] = (), managers: Sequence[str] = ()) -> Wiring:
    place = {"netns": ROOT / name, "links": ROOT / f"{name}-links", "home": host(name)}
    return Wiring(name, address_of(name), **place, keys=keys, managers=lambda: managers)


class Cluster:
    """What a manager would say: tasks with their places and addresses, and the items that each node gets."""

    def __init__(self) -> None:
        self.tasks: dict[str, tuple[str, tuple[Endpoint, ...]]] = {}
        self.ports: list[PortItem] = []
        self.networks = [FRONT, BACK]
        self.unready: set[str] = set()
        self.vips: list[VipItem] = []
        self.services: list[ServiceItem] = []
        self.versions: dict[str, int] = {}
        """Of tasks that are not of the first."""
        self.keeps_source = True

    def task(self, number: int, node: str, *networks: Network) -> str:
        """Place a task; its addresses end in its number, far from the gateways'."""
        task = f"{number:04d}{'a' * 21}"
        self.tasks[task] = (node, tuple(endpoint(network, number) for network in networks))
        return task

    def publish(self, published: int, target: int, **more: str) -> None:
        self.ports.append(PortItem("uid", PortSpec(target, published, **more)))  # type: ignore[arg-type]

    def items(self, node: str) -> list[Item]:
        node_ingress = {name: endpoint(INGRESS_NETWORK, 249 * 256 + i) for i, name in enumerate(NAMES[:3], 1)}
        items: list[Item] = [NetworkItem(network) for network in self.networks]
        items.append(NetworkItem(INGRESS_NETWORK, node_ingress[node].addresses))
        for name, own in node_ingress.items():
            items.append(PeerItem(INGRESS, name, name, address_of(name), own.addresses, own.mac, True))
        for task, (where, endpoints) in self.tasks.items():
            if where == node:
                slot, version = int(task[:4]), self.versions.get(task, 1)
                items.append(TaskItem(Task(task, "stack", "uid", slot, 1, version, 0.0, node, endpoints=endpoints)))
            for at in endpoints:
                items.append(
                    PeerItem(
                        at.network, task, where, address_of(where), at.addresses, at.mac, task not in self.unready,
                        "stack", "web", "uid", int(task[:4]), keeps_source=self.keeps_source,
                    )
                )  # fmt: skip
        return items + self.services + self.ports + self.vips

    async def start(self, wirings: dict[str, Wiring]) -> None:
        await self.apply(wirings)
        for task, (where, endpoints) in self.tasks.items():
            await wirings[where].create_sandbox(task, endpoints)

    async def apply(self, wirings: dict[str, Wiring]) -> None:
        for name, each in wirings.items():
            await each.apply(self.items(name))


def endpoint(network: Network, number: int) -> Endpoint:
    base = network.subnets[0].removesuffix(".0.0/16")
    v6 = [subnet.removesuffix("/64") + f"1:{number:x}" for subnet in network.subnets[1:]]
    return Endpoint(network.id, (f"{base}.{1 + (number >> 8)}.{number & 255}", *v6))


def inside(path: Path, *command: str, check: bool = True) -> str:
    return run("nsenter", f"--net={path}", *command, check=check)


def reaches(path: Path, address: str, within: int = 20) -> bool:
    """Tell whether a ping is answered; `within` (seconds) is worth naming where it should not be."""
    ping = ("busybox", "ping", "-6" if ":" in address else "-4", "-c1", f"-W{within}", address)
    return "1 packets received" in inside(path, *ping, check=False)


def rows(path: Path) -> set[str]:
    """Everything that the kernel holds in one namespace, but for what has its own time.

    That is carrier, multicast, and whether an address is still looked for elsewhere.
    """
    found: Iterable[str] = (
        *inside(path, "ip", "-o", "link").splitlines(),
        *inside(path, "ip", "-o", "addr").splitlines(),
        *inside(path, "bridge", "fdb").splitlines(),
        *inside(path, "ip", "neigh", "show", "nud", "permanent").splitlines(),
    )
    kept = (line for line in found if not line.startswith(("33:33:", "01:00:5e:")))
    return {re.sub(r"NO-CARRIER,|,LOWER_UP| state [A-Z]+| tentative", "", line) for line in kept}
