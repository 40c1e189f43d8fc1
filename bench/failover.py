"""The leader's host loses power, its etcd or raft member with it: Stackyard against Docker Swarm, 3 managers each.

    .venv/bin/python -m bench.failover [--rounds 3] [--systems stackyard,swarm]

A lab of its own is made, with three engines; the systems have them in turn. From the blow on, a new service of one task
is asked for again and again, as a person would, until it is accepted. Seconds are from the blow:

    write   until the service is accepted          task    until its task runs

The task may not run on the lost host, so that how soon that is noticed does not count here (bench.update has it). The
lost member is raft's leader in both: before Stackyard's turns etcd is made to lead there. In Swarm's turns the three
etcd members idle: a host that is switched on again needs the others'.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import grpc
from aetcd import rpc

from bench.systems import COMMAND, IMAGE, NODES, STACK, Engine, Stackyard, Swarm, lab_of_its_own, with_lab
from cli.client import Client
from cli.client.contexts import chosen
from cli.lab import Lab
from cli.lab.programs import etcd_url
from cluster.errors import StackyardError, Unavailable
from cluster.model.task import TaskState
from manager.etcd import Etcd

PATIENCE = 180.0
PAUSE = 0.05
WHATS = ("write", "task")


class OfStackyard:
    name = "stackyard"

    def __init__(self, lab: Lab, folder: Path) -> None:
        self._lab, self._file = lab, folder / "failover.yml"
        self._system = Stackyard(lab, folder)

    def take_charge(self) -> None:
        for node in NODES:
            for program in ("manager", "agent"):
                self._lab.start(node, program)
        _await(self.ready, "all nodes are ready, all managers there")

    def step_down(self) -> None:
        for program in ("agent", "manager"):
            for node in NODES:
                self._lab.stop(node, program)

    def ready(self) -> bool:
        try:
            with Client(chosen(None)) as client:
                there = len(client.cluster().managers)
                return there == 3 and [node.status for node in client.nodes()] == ["ready"] * 3
        except StackyardError:
            return False

    def leader(self) -> str:
        with Client(chosen(None)) as client:
            leader = next(manager.name for manager in client.cluster().managers if manager.leader)
        asyncio.run(self._have_etcd_lead(leader))
        return leader

    async def _have_etcd_lead(self, node: str) -> None:
        urls = {name: etcd_url(self._lab.layout.node(name)) for name in NODES}
        async with Etcd.connect(tuple(urls.values())) as etcd:
            members = {member.endpoint: member for member in await etcd.status()}
        leading = next(member for member in members.values() if member.is_leader)
        if leading.endpoint == urls[node]:
            return
        async with grpc.aio.insecure_channel(leading.endpoint.removeprefix("http://")) as channel:
            request = rpc.MoveLeaderRequest(targetID=members[urls[node]].member_id)
            await rpc.MaintenanceStub(channel).MoveLeader(request)

    def mend(self, node: str) -> None:
        self._lab.start(node)

    def ask(self, number: int, lost: str) -> bool:
        deploy = {"placement": {"constraints": [f"node.hostname != {lost}"]}}
        self._file.write_text(json.dumps({"services": {"web": {"image": IMAGE, "command": COMMAND, "deploy": deploy}}}))
        return _try([str(STACK), "deploy", "--detach", "--resolve-image", "never", "-f", str(self._file), f"f{number}"])

    def runs(self, number: int, lost: str) -> bool:
        try:
            with Client(chosen(None)) as client:
                return any(task.state is TaskState.RUNNING for task in client.tasks(f"f{number}"))
        except StackyardError:
            return False

    def remove(self, number: int) -> None:
        self._system.stack("rm", f"f{number}")


class OfSwarm:
    name = "swarm"

    def __init__(self, lab: Lab, folder: Path) -> None:
        self._lab, self._swarm = lab, Swarm(lab, folder, "vip")
        self._engines = {node: Engine(lab, node) for node in NODES}

    def take_charge(self) -> None:
        self._swarm.take_charge()
        self._swarm.docker(NODES[0], "node", "promote", *NODES[1:])
        _await(self.ready, "all nodes are managers")

    def step_down(self) -> None:
        self._swarm.step_down()

    def ready(self) -> bool:
        nodes = self._engines[NODES[0]].get("/nodes")
        return all(
            node["Status"]["State"] == "ready" and node.get("ManagerStatus", {}).get("Reachability") == "reachable"
            for node in nodes
        )

    def leader(self) -> str:
        nodes = self._engines[NODES[0]].get("/nodes")
        leading = (node for node in nodes if node.get("ManagerStatus", {}).get("Leader"))
        return str(next(leading)["Description"]["Hostname"])

    def mend(self, node: str) -> None:
        """Switch it on: etcd and engine come up, and the other system's manager fails, as its port is Swarm's."""
        with suppress(Unavailable):
            self._lab.start(node)
        for program in ("agent", "manager"):
            self._lab.stop(node, program)

    def ask(self, number: int, lost: str) -> bool:
        image = self._engines[self._other(lost)].get(f"/images/{IMAGE}/json")["Id"]
        return _try(
            ["docker", "-H", f"unix://{self._lab.engine_socket(self._other(lost))}", "service", "create", "--detach",
             "--no-resolve-image", "--constraint", f"node.hostname!={lost}", "--name", f"f{number}", image, *COMMAND]
        )  # fmt: skip

    def runs(self, number: int, lost: str) -> bool:
        filters = json.dumps({"service": [f"f{number}"]})
        tasks = self._engines[self._other(lost)].get(f"/tasks?filters={filters}")
        return any(task["Status"]["State"] == "running" for task in tasks)

    def remove(self, number: int) -> None:
        self._swarm.docker(NODES[0], "service", "rm", f"f{number}")

    def _other(self, lost: str) -> str:
        return next(node for node in NODES if node != lost)


def lose_the_leader(lab: Lab, rival: OfStackyard | OfSwarm, number: int) -> dict[str, float]:
    leader = rival.leader()
    found: dict[str, float] = {}
    began = time.perf_counter()
    lab.kill(leader)
    try:
        _await(lambda: rival.ask(number, leader), "a write is accepted")
        found["write"] = time.perf_counter() - began
        _await(lambda: rival.runs(number, leader), "its task runs")
        found["task"] = time.perf_counter() - began
    finally:
        rival.mend(leader)
        _await(rival.ready, f"{leader} is back")
    rival.remove(number)
    return found


def _try(command: list[str]) -> bool:
    try:
        done = subprocess.run(command, capture_output=True, timeout=20, check=False, env=os.environ | {"NO_COLOR": "1"})
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def _await(what: Callable[[], bool], why: str) -> None:
    end = time.perf_counter() + PATIENCE
    while not what():
        if time.perf_counter() > end:
            raise RuntimeError(f"not within {PATIENCE:.0f} s: {why}")
        time.sleep(PAUSE)


def main() -> None:
    logging.disable(logging.WARNING)  # of the version of etcd, each time
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--systems", default="stackyard,swarm")
    words = with_lab(parser).parse_args()
    figures: dict[tuple[str, str], list[float]] = {}
    with lab_of_its_own(words.lab, words.subnet, managers=3) as (lab, folder):
        ours = OfStackyard(lab, folder)
        rivals = [one for one in (ours, OfSwarm(lab, folder)) if one.name in words.systems.split(",")]
        ours.step_down()
        for turn in range(words.rounds):
            shift = turn % len(rivals)
            for rival in rivals[shift:] + rivals[:shift]:
                rival.take_charge()
                try:
                    for what, seconds in lose_the_leader(lab, rival, turn).items():
                        figures.setdefault((rival.name, what), []).append(seconds)
                        load = os.getloadavg()[0]
                        print(f"round {turn + 1}: {rival.name:10} {what:6} {seconds:7.2f} s  load {load:.1f}")
                        sys.stdout.flush()
                finally:
                    rival.step_down()
    for what in WHATS:
        medians = {name: statistics.median(values) for (name, kind), values in figures.items() if kind == what}
        ratio = f"  ratio {medians['stackyard'] / medians['swarm']:.2f}" if len(medians) == 2 else ""
        print(f"{what:6} " + "  ".join(f"{name} {seconds:.2f} s" for name, seconds in medians.items()) + ratio)


if __name__ == "__main__":
    main()
