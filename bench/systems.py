"""The lab of the benchmarks, and the rivals of `bench/deploy.py` on its engines, one of them in charge at a time.

Each takes a stack of N replicas of a small program that ends on SIGTERM, with one overlay network, from nothing to all
running, and back until no container and no network of it is left on any node.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import aiohttp

from cli.lab import Lab

IMAGE = "busybox:1"
COMMAND = ["sh", "-c", "trap 'exit 0' TERM; sleep 100000 & wait"]
AT_ONCE = 8
STACK = Path(sys.prefix) / "bin" / "stack"
NODES = ("n1", "n2", "n3")


class System(Protocol):
    """One way to run N replicas. `deploy` and `remove` give seconds, from the command to the end."""

    name: str

    def take_charge(self) -> None: ...
    def step_down(self) -> None: ...
    def deploy(self, stack: str, replicas: int) -> float: ...
    def remove(self, stack: str) -> float: ...


class Engine:
    """The API of one node's engine, as far as the benchmark needs it."""

    def __init__(self, lab: Lab, node: str) -> None:
        self.node = node
        self._path = str(lab.engine_socket(node))

    async def call(
        self, session: aiohttp.ClientSession, method: str, path: str, body: Any = None, ok: Sequence[int] = ()
    ) -> Any:
        async with session.request(method, f"http://engine{path}", json=body) as answer:
            text = await answer.text()
            if answer.status >= 400 and answer.status not in ok:
                raise RuntimeError(f"{self.node}: {method} {path}: {answer.status} {text}")
            return json.loads(text) if text.startswith(("{", "[")) else text

    def session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.UnixConnector(self._path, limit=0), timeout=aiohttp.ClientTimeout(total=300)
        )

    def get(self, path: str) -> Any:
        async def ask() -> Any:
            async with self.session() as session:
                return await self.call(session, "GET", path)

        return asyncio.run(ask())


@contextmanager
def lab_of_its_own(name: str = "bench", subnet: str = "10.79.0.0/24", managers: int = 1) -> Iterator[tuple[Lab, Path]]:
    """Make a lab of three nodes with the image on each, Stackyard in charge of it, and a folder for files."""
    with tempfile.TemporaryDirectory(prefix="stackyard-bench-") as folder:
        os.environ |= {"XDG_CONFIG_HOME": folder, "STACKYARD_LAB": name}
        lab = Lab(name=name, subnet=subnet, say=lambda line: print(line, file=sys.stderr))
        lab.down()
        try:
            lab.up(nodes=len(NODES), managers=managers)
            for node in NODES:
                lab.exec(node, ["docker", "-H", "unix:///run/docker.sock", "pull", "-q", IMAGE])
            yield lab, Path(folder)
        finally:
            lab.down()


def with_lab(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Let the person choose the lab's place."""
    parser.add_argument("--lab", default="bench", help="the lab's name; with --subnet, so that two can run at a time")
    parser.add_argument("--subnet", default="10.79.0.0/24")
    return parser


def _by_label(label: str) -> str:
    return json.dumps({"label": [label]})


def _left(engines: Sequence[Engine], label: str) -> int:
    return sum(len(e.get(f"/containers/json?all=1&filters={_by_label(label)}")) for e in engines)


def _running(engines: Sequence[Engine], label: str) -> int:
    return sum(len(e.get(f"/containers/json?filters={_by_label(label)}")) for e in engines)


def _check(what: bool, why: str) -> None:
    if not what:
        raise RuntimeError(why)


class Stackyard:
    """`stack deploy` and `stack rm`, which wait for the end by themselves; the engines are asked whether it is true."""

    name = "stackyard"

    def __init__(self, lab: Lab, folder: Path) -> None:
        self._lab, self._folder = lab, folder
        self._engines = [Engine(lab, node) for node in NODES]

    def take_charge(self) -> None:
        for program in ("etcd", "manager"):
            self._lab.start("n1", program)
        for node in NODES:
            self._lab.start(node, "agent")
        end = time.monotonic() + 30
        while time.monotonic() < end:
            nodes = self.stack("node", "ls", "--format", "json", check=False)
            if nodes.returncode == 0 and [n["status"] for n in json.loads(nodes.stdout)] == ["ready"] * len(NODES):
                return
            time.sleep(0.2)
        raise RuntimeError("the nodes of the lab did not become ready within 30 s")

    def step_down(self) -> None:
        for node in NODES:
            self._lab.stop(node, "agent")
        for program in ("manager", "etcd"):
            self._lab.stop("n1", program)

    def deploy(self, stack: str, replicas: int) -> float:
        file = self._folder / "bench.yml"
        service = {
            "image": IMAGE,
            "command": COMMAND,
            "networks": ["a"],
            "deploy": {"replicas": replicas},
        }
        file.write_text(json.dumps({"services": {"web": service}, "networks": {"a": {}}}))
        start = time.perf_counter()
        self.stack("deploy", "-f", str(file), "--settle", "0", stack)
        seconds = time.perf_counter() - start
        _check(_running(self._engines, f"com.stackyard.stack={stack}") == replicas, "not all replicas run")
        return seconds

    def remove(self, stack: str) -> float:
        start = time.perf_counter()
        self.stack("rm", stack)
        seconds = time.perf_counter() - start
        _check(_left(self._engines, f"com.stackyard.stack={stack}") == 0, "containers are left after `stack rm`")
        for node in NODES:
            left = self._lab.exec(node, ["ls", "/run/netns"]).stdout.split()
            _check(not [name for name in left if name.startswith("sy-")], f"namespaces are left on {node}: {left}")
        return seconds

    def stack(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run([STACK, *words], capture_output=True, text=True, env=os.environ | {"NO_COLOR": "1"})
        _check(not check or done.returncode == 0, f"stack {' '.join(words)}: {done.stdout}{done.stderr}")
        return done


class Swarm:
    """Docker Swarm, formed anew for each turn; the image is named by its id, so that no node tries to pull."""

    def __init__(self, lab: Lab, folder: Path, mode: str) -> None:
        self.name = f"swarm {mode}"
        self._lab, self._folder, self._mode = lab, folder, mode
        self._engines = [Engine(lab, node) for node in NODES]

    def take_charge(self) -> None:
        first, *others = NODES
        address = self._lab.layout.node(first).address
        self.docker(first, "swarm", "init", "--advertise-addr", address, "--listen-addr", address)
        token = self.docker(first, "swarm", "join-token", "-q", "worker").strip()
        for node in others:
            own = self._lab.layout.node(node).address
            self.docker(
                node, "swarm", "join", "--advertise-addr", own, "--listen-addr", own, "--token", token,
                f"{address}:2377",
            )  # fmt: skip
        while [n["Status"]["State"] for n in self._engines[0].get("/nodes")] != ["ready"] * len(NODES):
            time.sleep(0.05)

    def step_down(self) -> None:
        for node in reversed(NODES):
            self.docker(node, "swarm", "leave", "--force")

    def deploy(self, stack: str, replicas: int) -> float:
        image = self._engines[0].get(f"/images/{IMAGE}/json")["Id"]
        service = {
            "image": image,
            "command": COMMAND,
            "networks": ["a"],
            "deploy": {"replicas": replicas, "endpoint_mode": self._mode},
        }
        file = self._folder / "swarm.yml"
        content = {"version": "3.8", "services": {"web": service}, "networks": {"a": {"driver": "overlay"}}}
        file.write_text(json.dumps(content))
        label = "com.docker.stack.namespace=" + stack
        filters = json.dumps({"label": [label], "desired-state": ["running"]})
        start = time.perf_counter()
        self.docker(
            "n1", "stack", "deploy", "--detach=true", "--resolve-image", "never", "-c", str(file), stack
        )  # fmt: skip
        while True:
            tasks = self._engines[0].get(f"/tasks?filters={filters}")
            if sum(task["Status"]["State"] == "running" for task in tasks) == replicas:
                break
            _check(time.perf_counter() - start < 300, "swarm did not get there in 300 s")
            time.sleep(0.02 if replicas < 20 else 0.05)
        seconds = time.perf_counter() - start
        _check(_running(self._engines, label) == replicas, "not all replicas run")
        return seconds

    def remove(self, stack: str) -> float:
        label = "com.docker.stack.namespace=" + stack
        start = nudge = time.perf_counter()
        self.docker("n1", "stack", "rm", stack)
        while _left(self._engines, label) or self._networks(stack):
            time.sleep(0.05)
            # Seen: a network's removal is refused while a task holds it, and nobody asks again.
            if time.perf_counter() - nudge > 15:
                nudge = time.perf_counter()
                for network in self._networks(stack):
                    self.docker("n1", "network", "rm", network, check=False)
        return time.perf_counter() - start

    def _networks(self, stack: str) -> list[str]:
        names = [network["Name"] for engine in self._engines for network in engine.get("/networks")]
        return [name for name in names if name.startswith(stack + "_")]

    def docker(self, node: str, *words: str, check: bool = True) -> str:
        host = f"unix://{self._lab.engine_socket(node)}"
        done = subprocess.run(["docker", "-H", host, *words], capture_output=True, text=True)
        _check(not check or done.returncode == 0, f"docker {' '.join(words)} on {node}: {done.stderr}")
        return done.stdout


class Floor:
    """The engines alone: the same create request, eight at a time each, in empty namespaces made beforehand."""

    name = "floor"

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._engines = [Engine(lab, node) for node in NODES]
        self._namespaces: dict[str, list[str]] = {}

    def take_charge(self) -> None: ...

    def step_down(self) -> None: ...

    def deploy(self, stack: str, replicas: int) -> float:
        shares = [replicas // 3 + (index < replicas % 3) for index in range(3)]
        for engine, share in zip(self._engines, shares, strict=True):
            names = [f"sy-{stack}-{index}" for index in range(share)]
            self._namespaces[engine.node] = names
            script = "mkdir -p /run/stackyard/netns; for n in " + " ".join(names) + "; do ip netns add $n; done"
            _check(self._lab.exec(engine.node, ["sh", "-c", script]).returncode == 0, "no namespaces")
        start = time.perf_counter()
        asyncio.run(self._deploy(stack))
        return time.perf_counter() - start

    async def _deploy(self, stack: str) -> None:
        async def one(engine: Engine, session: aiohttp.ClientSession, gate: asyncio.Semaphore, namespace: str) -> None:
            async with gate:
                request = {
                    "Image": IMAGE,
                    "Cmd": COMMAND,
                    "NetworkDisabled": True,
                    "Labels": {"bench": stack},
                    "HostConfig": {"Runtime": "stackyard"},
                }
                made = await engine.call(session, "POST", f"/containers/create?name={namespace}", request)
                link = self._lab.layout.node(engine.node).run_dir / "stackyard" / "netns" / made["Id"]
                os.symlink(f"/run/netns/{namespace}", link)
                await engine.call(session, "POST", f"/containers/{made['Id']}/start")

        async with asyncio.TaskGroup() as group:
            for engine in self._engines:
                group.create_task(self._each(engine, one, self._namespaces[engine.node]))

    async def _each(self, engine: Engine, work: Any, names: list[str]) -> None:
        gate = asyncio.Semaphore(AT_ONCE)
        async with engine.session() as session, asyncio.TaskGroup() as group:
            for name in names:
                group.create_task(work(engine, session, gate, name))

    def remove(self, stack: str) -> float:
        start = time.perf_counter()
        asyncio.run(self._remove())
        seconds = time.perf_counter() - start
        for engine in self._engines:
            names = self._namespaces.pop(engine.node)
            self._lab.exec(engine.node, ["sh", "-c", "for n in " + " ".join(names) + "; do ip netns del $n; done"])
        return seconds

    async def _remove(self) -> None:
        async def one(engine: Engine, session: aiohttp.ClientSession, gate: asyncio.Semaphore, name: str) -> None:
            async with gate:
                await engine.call(session, "POST", f"/containers/{name}/stop?t=10", ok=(304,))
                await engine.call(session, "DELETE", f"/containers/{name}?force=1")

        async with asyncio.TaskGroup() as group:
            for engine in self._engines:
                group.create_task(self._each(engine, one, self._namespaces[engine.node]))
