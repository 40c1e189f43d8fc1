"""One manager under a thousand agents: real WebSockets over mTLS, a real etcd, 30,000 tasks.

    .venv/bin/python -m bench.control [--agents 1000] [--tasks 30000] [--stack-tasks 100] [--no-networks]

Manager, etcd and agents share this machine's cores, which the figures suffer from: the simulated agents take about as
much as the manager. Reported are the time until all agents are ready, until all tasks run, the manager's memory, the
longest stall of its event loop in each phase and where it was, whether it kept its lease, what a change of one service
costs, the times of `stack ps` and of what it asks over HTTP (all tasks, and one stack's), CPU at rest, and what happens
when all agents dial again at once.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import uvloop

from bench.stalls import Stalls
from cluster import pki
from cluster.errors import Unavailable
from cluster.model.container import ContainerSpec
from cluster.model.network import NetworkSpec
from cluster.model.node import SessionState
from cluster.model.service import NetworkAttachment, ServiceSpec
from cluster.model.stack import StackSpec
from manager.api.core import Core
from manager.main import Settings, managing

HOST, PORT, ETCD_PORT = "127.0.0.1", 23770, 23790
BESIDE = 2
"""Processes of simulated agents."""
LONG = 0.04
"""Seconds of its own work in which the manager's loop had no turn: it is told where it was."""
MOST_PLACES = 8


# The manager, in a process of its own, with something that looks how long its loop is held.


def be_manager(directory: Path, figures: Path) -> None:
    """Manage until told to stop, or until the benchmark is killed: then nobody else clears up."""
    benchmark = multiprocessing.parent_process()
    assert benchmark is not None

    async def run() -> None:
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        asyncio.get_running_loop().add_reader(benchmark.sentinel, stop.set)
        where = (HOST, PORT)
        settings = Settings("m1", directory / "data", directory / "m.sock", where, where, etcd_port=ETCD_PORT)
        async with managing(settings) as core, asyncio.TaskGroup() as group:
            await core.presence.held.wait()
            watching = group.create_task(watch(core))
            await stop.wait()
            watching.cancel()

    async def watch(core: Core) -> None:
        """Note each stall of more than 20 ms, with how much of it was this loop's own work, and now and then CPU and
        memory. The rest of a stall is the wait for a core."""
        loop = asyncio.get_running_loop()
        stalls = Stalls()
        stalls.start()
        with figures.open("a", buffering=1) as out, open("/proc/self/statm") as statm:  # noqa: ASYNC230
            told = 0.0
            while True:
                began, used_by_then = loop.time(), time.thread_time()
                await asyncio.sleep(0.005)
                late, own = loop.time() - began - 0.005, time.thread_time() - used_by_then
                seen = stalls.turn()
                if late > 0.02:
                    out.write(json.dumps({"at": time.time(), "stall": late, "own": own, "seen": seen}) + "\n")
                if began - told > 0.5:
                    told = began
                    used = resource.getrusage(resource.RUSAGE_SELF)
                    statm.seek(0)
                    pages = int(statm.read().split()[1])
                    out.write(
                        json.dumps(
                            {
                                "at": time.time(),
                                "cpu": used.ru_utime + used.ru_stime,
                                "memory": pages * os.sysconf("SC_PAGE_SIZE"),
                                "lease": core.presence.held.is_set(),
                                "epochs": [
                                    session.epoch
                                    for session in core.state.sessions.values()
                                    if session.state is SessionState.OPEN
                                ],
                            }
                        )
                        + "\n"
                    )

    try:
        uvloop.run(run())
    finally:
        if not benchmark.is_alive():
            shutil.rmtree(directory, ignore_errors=True)


class Figures:
    """What the manager's process has written down, phase by phase."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._since = time.time()

    def phase(self, name: str, result: str) -> None:
        """Tell how a phase went that ends now, and begin the next."""
        lines = [json.loads(line) for line in self._file.read_text().splitlines()]
        lines = [line for line in lines if line["at"] >= self._since]
        stalls = [line for line in lines if "stall" in line]
        longest: Any = max(stalls, key=lambda line: line["own"], default={"own": 0.0, "seen": {}})
        usage = [line for line in lines if "cpu" in line]
        spent = usage[-1]["cpu"] - usage[0]["cpu"] if usage else 0.0
        kept = all(line["lease"] for line in usage)
        passed = time.time() - self._since
        print(
            f"{name:34} {result:40} manager {spent:6.1f} s CPU in {passed:6.1f} s, "
            f"{max((line['memory'] for line in usage), default=0) / 2**20:5.0f} MiB, "
            f"longest stall {max((line['stall'] for line in stalls), default=0) * 1000:5.0f} ms, "
            f"of own work {longest['own'] * 1000:4.0f} ms" + ("" if kept else ", LEASE LOST"),
            flush=True,
        )
        if longest["own"] > LONG:
            print(f"    the longest was in {_told(longest['seen'])}", flush=True)
            shares = Counter[str]()
            for line in stalls:
                if line["own"] > LONG:
                    shares.update(line["seen"])
            over = sum(line["own"] > LONG for line in stalls)
            print(f"    all {over} of more than {LONG * 1000:.0f} ms of own work, in {_told(shares)}", flush=True)
        self._since = time.time()

    def epochs(self) -> tuple[int, int]:
        """Tell how many sessions are open, and the sum of their epochs: each agent that dials again adds one."""
        lines = self._file.read_text().splitlines()
        newest = next(json.loads(line) for line in reversed(lines) if '"epochs"' in line)["epochs"]
        return len(newest), sum(newest)


def _told(seen: dict[str, int]) -> str:
    return ", ".join(f"{count}x {place}" for place, count in Counter(seen).most_common(MOST_PLACES)) or "no place seen"


# People


class Client:
    def __init__(self, directory: Path) -> None:
        # A connection for each request: on a machine this busy, the server's end of an idle one closes at bad moments.
        path = str(directory / "m.sock")
        self._http = aiohttp.ClientSession(connector=aiohttp.UnixConnector(path, force_close=True))

    async def ask(self, method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else msgspec.json.encode(body)
        async with self._http.request(method, f"http://manager/v1{path}", data=data) as response:
            content = await response.read()
            if response.status == 503:
                raise Unavailable(content.decode())
            assert response.status < 300, content
            return msgspec.json.decode(content) if content else None

    async def change(self, method: str, path: str, body: Any) -> None:
        """Ask until it is done; `body` has the id of an operation, which is carried out once."""

        async def done() -> bool:
            await self.ask(method, path, body)
            return True

        await until(done)

    async def close(self) -> None:
        await self._http.close()


async def until(true: Callable[[], Any], pause: float = 0.25, within: float = 900.0) -> None:
    """Wait for something to come true, also over times in which the manager has lost its lease: the figures tell."""
    end = time.monotonic() + within
    while not await _holds(true):
        assert time.monotonic() < end, "it did not come true in time"
        await asyncio.sleep(pause)


async def _holds(true: Callable[[], Any]) -> bool:
    try:
        return bool(await true())
    except Unavailable:
        return False


async def join(client: Client, directory: Path, agents: int) -> None:
    """Give each agent its certificate, a few at a time."""
    tokens = await client.ask("GET", "/join-tokens")
    certificates = directory / "certificates"
    certificates.mkdir()
    names = iter([f"n{number:04d}" for number in range(agents)])

    async def some() -> None:
        for name in names:
            key = pki.new_key()
            reply = await client.ask(
                "POST", "/join", {"token": tokens["worker"], "csr": pki.new_csr(key), "name": name}
            )
            (certificates / f"{name}.pem").write_text(reply["certificate"])
            (certificates / f"{name}-key.pem").write_text(key)
            (certificates / "ca.pem").write_text(reply["ca"])

    async with asyncio.TaskGroup() as group:
        for _ in range(8):
            group.create_task(some())


@contextmanager
def agents_at_work(directory: Path, agents: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    share = -(-agents // BESIDE)
    certificates = str(directory / "certificates")
    program = ["setpriv", "--pdeathsig", "TERM", sys.executable, "-m", "bench.agents"]
    program += ["--url", f"https://{HOST}:{PORT}/v1/agent/session"]
    processes = [
        subprocess.Popen(
            [
                *program,
                "--first",
                str(first),
                "--count",
                str(min(share, agents - first)),
                "--certificates",
                certificates,
            ],
            start_new_session=True,  # apart from the manager, as on hosts of their own: the kernel is fair to sessions
        )
        for first in range(0, agents, share)
    ]
    try:
        yield processes
    finally:
        for process in processes:
            process.terminate()
            process.wait()


def a_stack(number: int, replicas: int, *, networks: bool) -> StackSpec:
    attached = (NetworkAttachment("default", ("web",)),) if networks else ()
    service = ServiceSpec("web", ContainerSpec("app:1"), attached, replicas=replicas)
    name = f"s{number:04d}"
    made = {"default": NetworkSpec("default", f"{name}_default")} if networks else {}
    return StackSpec(name, {"web": service}, made)


async def deploy(client: Client, specs: list[StackSpec]) -> None:
    left = iter(specs)

    async def some() -> None:
        for spec in left:
            await client.change("PUT", f"/stacks/{spec.name}", {"spec": spec, "operation": os.urandom(8).hex()})

    async with asyncio.TaskGroup() as group:
        for _ in range(4):
            group.create_task(some())


async def times(once: Callable[[], Awaitable[Any]], count: int) -> str:
    """Tell how long something takes so many times, and by itself how long the first time, when no row is made yet."""
    took = []
    for _ in range(count):
        began = time.monotonic()
        await once()
        took.append((time.monotonic() - began) * 1000)
    first = took[0]
    took.sort()
    p99 = took[-(-len(took) * 99 // 100) - 1]
    return f"first {first:.0f} ms, p50 {statistics.median(took):.0f} ms, p99 {p99:.0f} ms of {count}"


async def stack_ps(directory: Path) -> None:
    """Run the command itself, as at a terminal."""
    program = [str(Path(sys.executable).parent / "stack"), "ps"]
    environment = os.environ | {"STACK_HOST": str(directory / "m.sock")}
    process = await asyncio.create_subprocess_exec(*program, env=environment, stdout=asyncio.subprocess.DEVNULL)
    assert await process.wait() == 0


async def measure(directory: Path, agents: int, tasks: int, stack_tasks: int, *, networks: bool) -> None:
    client = Client(directory)
    figures = Figures(directory / "figures")

    async def ready() -> bool:
        return bool((await client.ask("GET", "/cluster"))["ready_nodes"] == agents)

    async def running() -> bool:
        stacks = await client.ask("GET", "/stacks")
        wanted = sum(int(stack["wanted"]) for stack in stacks)
        return sum(int(stack["running"]) for stack in stacks) == wanted > 0

    async def answers() -> bool:
        try:
            return bool(await client.ask("GET", "/version"))
        except aiohttp.ClientError:
            return False

    await until(answers)
    began = time.monotonic()
    await join(client, directory, agents)
    figures.phase(f"{agents} nodes join", f"{time.monotonic() - began:.1f} s")
    with agents_at_work(directory, agents) as processes:
        began = time.monotonic()
        await until(ready)
        figures.phase(f"{agents} agents connect", f"all ready after {time.monotonic() - began:.1f} s")
        began = time.monotonic()
        await deploy(client, [a_stack(i, stack_tasks, networks=networks) for i in range(tasks // stack_tasks)])
        stored = time.monotonic() - began
        await until(running, pause=1.0)
        took = time.monotonic() - began
        figures.phase(f"{tasks} tasks", f"stored {stored:.1f} s, all run {took:.1f} s, {tasks / took:.0f}/s")
        await asyncio.sleep(20)
        figures.phase("at rest", "")
        figures.phase("GET /tasks, all", await times(partial(client.ask, "GET", "/tasks"), 100))
        figures.phase("stack ps, the command", await times(partial(stack_ps, directory), 100))
        figures.phase("GET /tasks, one stack", await times(partial(client.ask, "GET", "/tasks?stack=s0001"), 100))
        took_each = []
        for n in range(20):
            began = time.monotonic()
            body = {"replicas": {"web": stack_tasks + 1 + n}, "operation": os.urandom(8).hex()}
            await client.change("POST", "/stacks/s0001/scale", body)

            async def grown(wanted: int = stack_tasks + 1 + n) -> bool:
                [service] = await client.ask("GET", "/services?stack=s0001")
                return bool(service["updated"] == wanted)

            await until(grown, pause=0.01)
            took_each.append(time.monotonic() - began)
        figures.phase("one replica more, running", f"median {statistics.median(took_each) * 1000:.0f} ms")
        before = {node["id"]: node["since"] for node in await client.ask("GET", "/nodes")}
        _, epochs = figures.epochs()

        async def again() -> bool:
            connected, summed = figures.epochs()
            return connected == agents and summed >= epochs + agents

        began = time.monotonic()
        for process in processes:
            process.send_signal(signal.SIGUSR1)
        await until(again)
        await until(ready)
        await until(running)
        lost = sum(node["since"] != before[node["id"]] for node in await client.ask("GET", "/nodes"))
        figures.phase("all agents dial again", f"all is well {time.monotonic() - began:.1f} s after, {lost} verdicts")
    await client.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--agents", type=int, default=1000)
    parser.add_argument("--tasks", type=int, default=30_000)
    parser.add_argument("--stack-tasks", type=int, default=100, help="tasks of each stack, which is one service")
    parser.add_argument("--no-networks", action="store_true", help="tasks in no overlay network")
    parsed = parser.parse_args()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # all is cleared up, as after Ctrl-C
    with tempfile.TemporaryDirectory(prefix="stackyard-bench-") as home:
        directory = Path(home)
        (directory / "figures").touch()
        spawn = multiprocessing.get_context("spawn")
        manager = spawn.Process(target=be_manager, args=(directory, directory / "figures"))
        manager.start()
        try:
            asyncio.run(
                measure(directory, parsed.agents, parsed.tasks, parsed.stack_tasks, networks=not parsed.no_networks)
            )
        finally:
            manager.terminate()
            manager.join()


if __name__ == "__main__":
    main()
