"""Throughput, round trips, connections and names between containers of two hosts: Stackyard, Docker Swarm, no overlay.

    .venv/bin/python -m bench.network [--rounds 3] [--seconds 3] [--partition 30]

A lab of its own is made, with three engines; the systems have them in turn, as in `bench.deploy`. Needs the Debian
packages iperf3, sockperf and dnsperf. The ways that are measured:

    raw        from one host's own network to another's        direct     from a container to a task's own address
    vip        from a container to the service's address       ingress    from a host to a port that another publishes
    encrypted  as direct, in a network that is (where wireguard-go is there; compare it with direct)

The two ends of a throughput are on a core each, those of a round trip on one and the same (the cost of the way,
without wake-ups). The CPU that a round trip, a connection and a gigabyte take, both ends in one thread, is what to
compare on a busy machine. Names are asked from a container. `reach` is the time from the start of a new task's
process to the moment at which its service's name leads to it in containers on all three hosts; `heal` that from the
end of a partition until a container on the host that was cut off for so many seconds has the names that changed
meanwhile. Swarm is measured with dnsrr and direct only: its VIP and its ingress need IPVS, which not every kernel
has.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from bench.systems import COMMAND, IMAGE, NODES, Engine, Stackyard, Swarm, System, lab_of_its_own, with_lab
from cli.lab import Lab

CLIENT, EDGE, SERVER = NODES
THROUGHPUT, ROUND_TRIP, CONNECTIONS = range(3)
PORTS, RAW_PORTS = 7201, 7211
"""The first of three ports: containers listen on those that are published, a host on its own ones."""

ENCRYPTS = shutil.which("wireguard-go") is not None
FLOWS = [sys.executable, "-m", "bench.flows"]
HERE = Path(__file__).resolve().parent.parent
LOOKUPS = 20_000
REACHES = 5
PATIENCE = 60.0


class Place(NamedTuple):
    """Where a program runs: on a node, in the network of the process `pid` there (the node's own for 0)."""

    node: str
    pid: int = 0


class Way(NamedTuple):
    name: str
    client: Place
    server: Place
    address: str
    ports: int = PORTS


class Programs:
    """Runs programs in places of a lab."""

    def __init__(self, lab: Lab, seconds: int) -> None:
        self._lab, self._seconds = lab, seconds

    def run(self, place: Place, words: Sequence[str], core: int = 0) -> str:
        enter = ["nsenter", "-t", str(place.pid), "-n", "--"] if place.pid else []
        command = ["env", "-C", str(HERE), *enter, "taskset", "-c", str(core), *words]
        done = self._lab.exec(place.node, command)
        if done.returncode:
            raise RuntimeError(f"{place.node}: {' '.join(words)}: {done.stdout[-500:]}{done.stderr[-500:]}")
        return done.stdout

    def between(self, way: Way, port: str, server: Sequence[str], client: Sequence[str], cores: tuple[int, int]) -> str:
        """Run a server, and a client as soon as that listens; gives what the client printed."""
        limit = ["timeout", "--preserve-status", str(self._seconds + 10)]
        with ThreadPoolExecutor(1) as pool:
            serving = pool.submit(self.run, way.server, [*limit, *server], cores[0])
            try:
                self._listening(way.server, port, serving)
                return self.run(way.client, client, cores[1])
            finally:
                # what ends by itself has ended; sockperf's server does not
                self._lab.exec(way.server.node, ["sh", "-c", f"kill $({self._found(server)}) 2>/dev/null; true"])

    def _found(self, server: Sequence[str]) -> str:
        return f"pgrep -f -x -- '{re.escape(' '.join(server))}'"

    def _listening(self, place: Place, port: str, serving: Future[str]) -> None:
        end = time.monotonic() + 10
        while f":{port} " not in self.run(place, ["ss", "-Hltn"]):
            if serving.done():
                raise RuntimeError(f"{place.node}: the server of the measurement ended: {serving.result()}")
            if time.monotonic() > end:
                raise RuntimeError(f"{place.node}: the server of the measurement does not listen")
            time.sleep(0.05)

    def throughput(self, way: Way) -> float:
        """Gigabits a second of one TCP stream."""
        port = str(way.ports + THROUGHPUT)
        client = ["iperf3", "-c", way.address, "-p", port, "-t", str(self._seconds), "-J"]
        out = self.between(way, port, ["iperf3", "-s", "-1", "-p", port], client, (1, 0))
        found = json.loads(out)
        if "error" in found:
            raise RuntimeError(f"{way.name}: iperf3: {found['error']}")
        return float(found["end"]["sum_received"]["bits_per_second"]) / 1e9

    def round_trip(self, way: Way) -> float:
        """Median of a round trip of 64 bytes over TCP, in microseconds."""
        port = str(way.ports + ROUND_TRIP)
        server = ["sockperf", "server", "--tcp", "-p", port]
        client = ["sockperf", "ping-pong", "--tcp", "-i", way.address, "-p", port, "-m", "64"]
        out = self.between(way, port, server, [*client, "-t", str(self._seconds)], (1, 1))
        found = re.search(r"percentile 50\.000 = *([\d.]+)", out)
        if found is None:
            raise RuntimeError(f"sockperf printed no median: {out[-500:]}")
        return 2 * float(found.group(1))

    def connections(self, way: Way) -> float:
        """TCP connections a second."""
        port = str(way.ports + CONNECTIONS)
        server = [*FLOWS, "accept", port, str(self._seconds + 3)]
        return float(
            self.between(way, port, server, [*FLOWS, "connect", way.address, port, str(self._seconds)], (1, 0))
        )

    def cost(self, way: Way) -> Iterator[tuple[str, float]]:
        """What a way costs in CPU, which programs beside hardly change."""
        ends = self._namespace(way.client), self._namespace(way.server)
        command = [*FLOWS, "cost", *ends, way.address, str(way.ports + CONNECTIONS)]
        done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, check=True)
        found = json.loads(done.stdout)
        yield "CPU us / trip", found["round trip"]
        yield "CPU us / conn.", found["connection"]
        yield "CPU ms / GB", found["gigabyte"]

    def _namespace(self, place: Place) -> str:
        """The file of a place's network namespace, as it is seen from outside of the lab."""
        inner = self._lab.exec(place.node, ["readlink", f"/proc/{place.pid or 1}/ns/net"]).stdout.strip()
        for file in Path("/proc").glob("[0-9]*/ns/net"):
            with suppress(OSError):  # a process may end meanwhile
                if os.readlink(file) == inner:
                    return str(file)
        raise RuntimeError(f"no process outside of {place.node} is seen in {inner}")

    def names(self, place: Place, name: str) -> Iterator[tuple[str, float]]:
        """Look-ups, one after the other and many at a time."""
        alone = json.loads(self.run(place, [*FLOWS, "lookups", name, str(LOOKUPS)]))
        yield "dns p50 ms", alone["p50"]
        yield "dns p99 ms", alone["p99"]
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as queries:
            queries.write(f"{name} A\n")
            queries.flush()
            words = ["dnsperf", "-s", "127.0.0.11", "-d", queries.name, "-l", str(self._seconds), "-q", "50"]
            out = self.run(place, words)
        found = re.search(r"Queries per second: *([\d.]+)", out)
        lost = re.search(r"Queries lost: *(\d+)", out)
        if found is None or lost is None:
            raise RuntimeError(f"dnsperf printed no rate: {out[-500:]}")
        yield "dns /s", float(found.group(1))
        yield "dns lost", float(lost.group(1))


class Rival:
    """Services `server` (on one node) and `client` (on each) of one system."""

    stack = "net"
    label: str

    def __init__(self, lab: Lab, system: System) -> None:
        self.system = system
        self._engines = {node: Engine(lab, node) for node in NODES}

    def deploy(self, folder: Path) -> None:
        raise NotImplementedError

    def scale(self, replicas: int) -> None:
        raise NotImplementedError

    def remove(self) -> None:
        raise NotImplementedError

    def containers(self, node: str, service: str) -> list[Any]:
        """The running containers of a service on a node, as the engine inspects them."""
        engine = self._engines[node]
        filters = json.dumps({"label": [f"{self.label}={service}"]})
        return [
            engine.get(f"/containers/{found['Id']}/json") for found in engine.get(f"/containers/json?filters={filters}")
        ]

    def place(self, node: str, service: str) -> Place:
        end = time.monotonic() + PATIENCE
        while not (found := self.containers(node, service)):
            if time.monotonic() > end:
                raise RuntimeError(f"{self.system.name}: no {service} on {node} after {PATIENCE:.0f} s")
            time.sleep(0.1)
        return Place(node, found[0]["State"]["Pid"])


def services(image: str, endpoint_mode: str) -> dict[str, Any]:
    common = {"image": image, "command": COMMAND, "networks": ["a"]}
    constraint = {"constraints": [f"node.hostname == {SERVER}"]}
    server = {"replicas": 1, "endpoint_mode": endpoint_mode, "placement": constraint}
    return {"server": common | {"deploy": server}, "client": common | {"deploy": {"mode": "global"}}}


class OfStackyard(Rival):
    label = "com.stackyard.service"

    def __init__(self, lab: Lab, folder: Path) -> None:
        self._stackyard = Stackyard(lab, folder)
        super().__init__(lab, self._stackyard)

    def deploy(self, folder: Path) -> None:
        content: dict[str, Any] = {"services": services(IMAGE, "vip"), "networks": {"a": {}}}
        content["services"]["client"]["x-on-disconnect"] = {"replace": False}
        content["services"]["server"]["ports"] = [f"{PORTS}-{PORTS + 2}:{PORTS}-{PORTS + 2}"]
        if ENCRYPTS:
            content["networks"]["safe"] = {"driver_opts": {"encrypted": "true"}}
            content["services"]["client"]["networks"] = ["a", "safe"]
            content["services"]["sealed"] = services(IMAGE, "dnsrr")["server"] | {"networks": ["safe"]}
        file = folder / "net.yml"
        file.write_text(json.dumps(content))
        self._stackyard.stack("deploy", "-f", str(file), self.stack)

    def scale(self, replicas: int) -> None:
        self._stackyard.stack("scale", "--detach", f"{self.stack}_server={replicas}")

    def remove(self) -> None:
        self._stackyard.stack("rm", self.stack)


class OfSwarm(Rival):
    label = "com.docker.swarm.service.name"

    def __init__(self, lab: Lab, folder: Path) -> None:
        self._swarm = Swarm(lab, folder, "dnsrr")
        super().__init__(lab, self._swarm)

    def deploy(self, folder: Path) -> None:
        image = self._engines[NODES[0]].get(f"/images/{IMAGE}/json")["Id"]
        content = {"services": services(image, "dnsrr"), "networks": {"a": {"driver": "overlay"}}, "version": "3.8"}
        file = folder / "net-swarm.yml"
        file.write_text(json.dumps(content))
        self._swarm.docker(
            NODES[0], "stack", "deploy", "--detach=true", "--resolve-image", "never", "-c", str(file), self.stack
        )

    def containers(self, node: str, service: str) -> list[Any]:
        return super().containers(node, f"{self.stack}_{service}")

    def scale(self, replicas: int) -> None:
        self._swarm.docker(NODES[0], "service", "scale", "--detach=true", f"{self.stack}_server={replicas}")

    def remove(self) -> None:
        self._swarm.docker(NODES[0], "stack", "rm", self.stack)  # leaving the swarm ends what is left


def address_of(programs: Programs, place: Place, name: str) -> str:
    """The first address that a name leads to in a container."""
    resolve = (
        "import socket, struct; from bench import flows; c = flows.resolver(); "
        f"c.send(flows.question({name!r}, 1)); print(socket.inet_ntoa(c.recv(4096)[-4:]))"
    )
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return programs.run(place, [sys.executable, "-c", resolve]).strip()
        except RuntimeError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


def reach(rival: Rival, programs: Programs, clients: Sequence[Place], replicas: int) -> float:
    """Start one more task; gives the milliseconds from its start until its name leads to it on all nodes."""
    before = {found["Id"] for found in rival.containers(SERVER, "server")}
    with ThreadPoolExecutor(len(clients)) as pool:
        watching = [
            pool.submit(programs.run, place, [*FLOWS, "watch", "tasks.server", str(replicas)]) for place in clients
        ]
        rival.scale(replicas)
        seen = max(float(one.result()) for one in watching)
    [new] = [found for found in rival.containers(SERVER, "server") if found["Id"] not in before]
    started = re.sub(r"\.(\d{6})\d*Z", r".\1+00:00", new["State"]["StartedAt"])
    return (seen - datetime.fromisoformat(started).timestamp()) * 1e3


def heal(rival: Rival, lab: Lab, programs: Programs, client: Place, replicas: int, seconds: float) -> float:
    """Cut a host off while a task is started elsewhere; gives the milliseconds until its name leads there."""
    with ThreadPoolExecutor(1) as pool:
        lab.cut(EDGE)
        try:
            end = time.monotonic() + seconds
            rival.scale(replicas)
            time.sleep(max(0.0, end - time.monotonic()))
            watching = pool.submit(programs.run, client, [*FLOWS, "watch", "tasks.server", str(replicas)])
        finally:
            healed = time.time()
            lab.heal(EDGE)
        return (float(watching.result()) - healed) * 1e3


def measure(
    rival: Rival, lab: Lab, programs: Programs, folder: Path, partition: float
) -> Iterator[tuple[str, str, float]]:
    """Give (way, what, figure) of one system's turn."""
    rival.deploy(folder)
    clients = [rival.place(node, "client") for node in NODES]
    client, server = clients[NODES.index(CLIENT)], rival.place(SERVER, "server")
    direct = Way("direct", client, server, address_of(programs, client, "tasks.server"))
    ways = [Way("raw", Place(CLIENT), Place(SERVER), lab.layout.node(SERVER).address, RAW_PORTS), direct]
    if isinstance(rival, OfStackyard):
        ways.append(Way("vip", client, server, address_of(programs, client, "server")))
        ways.append(Way("ingress", Place(CLIENT), server, lab.layout.node(EDGE).address))
        if ENCRYPTS:
            sealed = rival.place(SERVER, "sealed")
            ways.append(Way("encrypted", client, sealed, address_of(programs, client, "sealed")))
    for way in ways:
        yield way.name, "Gbit/s", programs.throughput(way)
        yield way.name, "round trip us", programs.round_trip(way)
        yield way.name, "connections /s", programs.connections(way)
        if way.name != "encrypted":  # wireguard-go's part is not on the sender's account
            for what, figure in programs.cost(way):
                yield way.name, what, figure
    for what, figure in programs.names(client, "tasks.server"):
        yield "names", what, figure
    for index in range(REACHES):
        yield "names", "reach ms", reach(rival, programs, clients, 2 + index)
    if isinstance(rival, OfStackyard):
        edge = clients[NODES.index(EDGE)]
        yield "names", "heal ms", heal(rival, lab, programs, edge, 2 + REACHES, partition)
    rival.remove()


@contextmanager
def in_charge(rival: Rival) -> Iterator[None]:
    rival.system.take_charge()
    try:
        yield
    finally:
        rival.system.step_down()


Figures = dict[tuple[str, str, str], list[float]]


def table(figures: Figures) -> str:
    """Medians with their spread; the ratio to the raw way of the same turns."""
    lines = [f"{'system':14}{'way':11}{'what':16}{'median':>10}  {'spread':21}{'/ raw':>7}"]
    for (system, way, what), values in figures.items():
        median = statistics.median(values)
        spread = f"({min(values):.2f}-{max(values):.2f})"
        raw = figures.get((system, "raw", what))
        ratio = f"{median / statistics.median(raw):.2f}" if raw and way != "raw" else ""
        lines.append(f"{system:14}{way:11}{what:16}{median:10.2f}  {spread:21}{ratio:>7}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=3, help="of each measurement")
    parser.add_argument("--partition", type=float, default=30.0, help="how many seconds a host is cut off")
    parser.add_argument("--systems", default="stackyard,swarm dnsrr")
    words = with_lab(parser).parse_args()
    if subprocess.run(["sh", "-c", "command -v iperf3 sockperf dnsperf"], capture_output=True).returncode:
        raise SystemExit("needs iperf3, sockperf and dnsperf: apt-get install iperf3 sockperf dnsperf")
    figures: Figures = {}
    with lab_of_its_own(words.lab, words.subnet) as (lab, folder):
        programs = Programs(lab, words.seconds)
        rivals = [OfStackyard(lab, folder), OfSwarm(lab, folder)]
        rivals = [rival for rival in rivals if rival.system.name in words.systems.split(",")]
        Stackyard(lab, folder).step_down()
        for turn in range(words.rounds):
            for rival in rivals if turn % 2 == 0 else rivals[::-1]:
                with in_charge(rival):
                    for way, what, figure in measure(rival, lab, programs, folder, words.partition):
                        name = rival.system.name
                        figures.setdefault((name, way, what), []).append(figure)
                        load = os.getloadavg()[0]
                        print(f"round {turn + 1}: {name:13} {way:8} {what:15} {figure:10.2f}  load {load:.1f}")
                        sys.stdout.flush()
    print()
    print(table(figures))


if __name__ == "__main__":
    main()
