"""Roll, scale, break and drain a service of a few replicas on three nodes: Stackyard against Docker Swarm.

    .venv/bin/python -m bench.update [--rounds 3] [--systems stackyard,...] [--only roll,scale,...]

A lab of its own is made, with three engines; the systems have them in turn, as in `bench.deploy`. Seconds are from the
command, or the blow, to the moment at which all tasks that should run do, none of them an old one or on a lost node:

    roll    10 replicas get a new version, two at a time, stop-first
    up      3 replicas become 30            down    30 become 3, and the 27 have ended
    crash   one container is killed         drain   a node's third of 9 replicas is elsewhere
    kill    a node loses power              cut     a node loses its network

After `kill` and `cut` the node is mended, and ready again, before the next turn.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.systems import COMMAND, IMAGE, NODES, STACK, Engine, Stackyard, Swarm, lab_of_its_own, with_lab
from cli.client import Client
from cli.client.contexts import chosen
from cli.lab import Lab
from cluster.model.task import Desired, TaskState

PATIENCE = 90.0
PAUSE = 0.05
WHATS = ("roll", "up", "down", "crash", "drain", "kill", "cut")
VICTIM = "n3"


class Rival:
    """A service of one system. `running` tells the tasks that run and should, as (id, version, node)."""

    name: str

    def apply(self, version: int, replicas: int) -> None:
        raise NotImplementedError

    def running(self) -> list[tuple[str, str, str]]:
        raise NotImplementedError

    def drain(self, node: str, *, on: bool) -> None:
        raise NotImplementedError

    def ready(self) -> bool:
        """Tell whether all nodes are."""
        raise NotImplementedError

    def take_charge(self) -> None:
        raise NotImplementedError

    def step_down(self) -> None:
        raise NotImplementedError

    def remove(self) -> None:
        raise NotImplementedError


class OfStackyard(Rival):
    name = "stackyard"

    def __init__(self, lab: Lab, folder: Path) -> None:
        self._system, self._file = Stackyard(lab, folder), folder / "update.yml"
        self.take_charge, self.step_down = self._system.take_charge, self._system.step_down  # type: ignore[method-assign]

    def apply(self, version: int, replicas: int) -> None:
        deploy = {"replicas": replicas, "update_config": {"parallelism": 2}}
        service = {
            "image": IMAGE, "command": COMMAND, "networks": ["a"], "environment": {"V": str(version)}, "deploy": deploy
        }  # fmt: skip
        self._file.write_text(json.dumps({"services": {"web": service}, "networks": {"a": {}}}))
        self._stack("deploy", "--detach", "--resolve-image", "never", "-f", str(self._file), "u")

    def running(self) -> list[tuple[str, str, str]]:
        # Over the API, as with Swarm: a command for each look would slow down what it looks at.
        with Client(chosen(None)) as client:
            tasks = client.tasks("u")
        return [
            (t.container, str(t.version), t.node)
            for t in tasks
            if t.state is TaskState.RUNNING and t.desired is Desired.RUNNING
        ]

    def drain(self, node: str, *, on: bool) -> None:
        self._stack("node", "update", node, "--availability", "drain" if on else "active")

    def ready(self) -> bool:
        with Client(chosen(None)) as client:
            return [node.status for node in client.nodes()] == ["ready"] * len(NODES)

    def remove(self) -> None:
        self._stack("rm", "u")

    def _stack(self, *words: str) -> str:
        return _run([str(STACK), *words])


class OfSwarm(Rival):
    def __init__(self, lab: Lab, folder: Path, mode: str) -> None:
        self.name = f"swarm {mode}"
        self._lab, self._mode, self._file = lab, mode, folder / "update-swarm.yml"
        self._system, self._engine = Swarm(lab, folder, mode), Engine(lab, NODES[0])
        self.take_charge, self.step_down = self._system.take_charge, self._system.step_down  # type: ignore[method-assign]

    def apply(self, version: int, replicas: int) -> None:
        deploy = {"replicas": replicas, "endpoint_mode": self._mode, "update_config": {"parallelism": 2}}
        service = {
            "image": self._engine.get(f"/images/{IMAGE}/json")["Id"],
            "command": COMMAND, "networks": ["a"], "environment": {"V": str(version)}, "deploy": deploy,
        }  # fmt: skip
        content = {"version": "3.8", "services": {"web": service}, "networks": {"a": {"driver": "overlay"}}}
        self._file.write_text(json.dumps(content))
        self._docker("stack", "deploy", "--detach=true", "--resolve-image", "never", "-c", str(self._file), "u")

    def running(self) -> list[tuple[str, str, str]]:
        filters = json.dumps({"service": ["u_web"], "desired-state": ["running"]})
        names = {node["ID"]: node["Description"]["Hostname"] for node in self._engine.get("/nodes")}
        return [
            (t["Status"]["ContainerStatus"]["ContainerID"], t["Spec"]["ContainerSpec"]["Env"][0], names[t["NodeID"]])
            for t in self._engine.get(f"/tasks?filters={filters}")
            if t["Status"]["State"] == "running"
        ]

    def drain(self, node: str, *, on: bool) -> None:
        self._docker("node", "update", "--availability", "drain" if on else "active", node)

    def ready(self) -> bool:
        return [node["Status"]["State"] for node in self._engine.get("/nodes")] == ["ready"] * len(NODES)

    def remove(self) -> None:
        self._docker("stack", "rm", "u")  # not waited for: seen to hang after a cut, and leaving the swarm ends all

    def _docker(self, *words: str) -> str:
        return _run(["docker", "-H", f"unix://{self._lab.engine_socket(NODES[0])}", *words])


class Course:
    """One turn of one system."""

    def __init__(self, lab: Lab, rival: Rival) -> None:
        self._lab, self._rival = lab, rival
        self._version = 0

    def run(self, whats: list[str]) -> Iterator[tuple[str, float | None]]:
        """Give the seconds of each; None for what did not come to its end in time, as when Swarm pauses an update."""
        steps: dict[str, Callable[[], float]] = {
            "roll": self._roll, "up": self._up, "down": self._down, "crash": self._crash, "drain": self._drain,
            "kill": lambda: self._lose(self._lab.kill), "cut": lambda: self._lose(self._lab.cut),
        }  # fmt: skip
        for what in (what for what in WHATS if what in whats):
            try:
                yield what, steps[what]()
            except TimeoutError as error:
                print(f"{self._rival.name}: {what}: {error}")
                yield what, None

    def _roll(self) -> float:
        self._settle(10)
        old = {ident for ident, _, _ in self._rival.running()}
        self._version += 1
        return self._until(10, lambda: self._rival.apply(self._version, 10), without=old)

    def _up(self) -> float:
        self._settle(3)
        return self._until(30, lambda: self._rival.apply(self._version, 30))

    def _down(self) -> float:
        self._settle(30)

        def ended() -> bool:
            return sum(len(self._containers(node, "com.docker.stack.namespace=u")) for node in NODES) == 3

        began = time.perf_counter()
        self._rival.apply(self._version, 3)
        _await(lambda: len(self._rival.running()) == 3 and ended(), "scaled down")
        return time.perf_counter() - began

    def _crash(self) -> float:
        self._settle(3)
        ident, _, node = self._rival.running()[0]
        return self._until(3, lambda: self._docker(node, "kill", ident), without={ident})

    def _drain(self) -> float:
        self._settle(9)
        try:
            return self._until(9, lambda: self._rival.drain(VICTIM, on=True), off=VICTIM)
        finally:
            self._rival.drain(VICTIM, on=False)

    def _lose(self, blow: Callable[[str], None]) -> float:
        self._settle(9)
        try:
            return self._until(9, lambda: blow(VICTIM), off=VICTIM)
        finally:
            (self._lab.heal if blow == self._lab.cut else self._lab.start)(VICTIM)
            _await(self._rival.ready, f"{VICTIM} is back")

    def _settle(self, replicas: int) -> None:
        """Have so many tasks, on all nodes: a new version is spread anew where one node lost its own."""
        self._rival.apply(self._version, replicas)
        _await(lambda: len(self._rival.running()) == replicas, f"{replicas} tasks run")
        older = {version for _, version, _ in self._rival.running()}
        if not self._everywhere():
            self._version += 1
            self._rival.apply(self._version, replicas)

            def anew() -> bool:
                tasks = self._rival.running()
                return len(tasks) == replicas and not older & {version for _, version, _ in tasks}

            _await(lambda: anew() and self._everywhere(), f"{replicas} tasks run, on all nodes")
        time.sleep(2)  # an update that has just ended is watched for a while: not in the next one's time

    def _everywhere(self) -> bool:
        return {node for _, _, node in self._rival.running()} == set(NODES)

    def _until(self, replicas: int, act: Callable[[], object], without: set[str] | None = None, off: str = "") -> float:
        gone = without or set()
        began = time.perf_counter()
        act()

        def there() -> bool:
            tasks = self._rival.running()
            return len(tasks) == replicas and not any(ident in gone or node == off for ident, _, node in tasks)

        _await(there, "all run again")
        return time.perf_counter() - began

    def _containers(self, node: str, label: str) -> list[str]:
        return self._docker(node, "ps", "-q", "--filter", f"label={label}").split()

    def _docker(self, node: str, *words: str) -> str:
        return _run(["docker", "-H", f"unix://{self._lab.engine_socket(node)}", *words])


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"NO_COLOR": "1"})
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stdout}{done.stderr}")
    return done.stdout


def _await(what: Callable[[], bool], why: str) -> None:
    end = time.perf_counter() + PATIENCE
    while not what():
        if time.perf_counter() > end:
            raise TimeoutError(f"not within {PATIENCE:.0f} s: {why}")
        time.sleep(PAUSE)


def table(figures: dict[tuple[str, str], list[float]]) -> str:
    """Medians with their spread, and the ratio to the faster of Swarm's modes."""
    names = list(dict.fromkeys(name for name, _ in figures))
    lines = [f"{'':8}" + "".join(f"{name:>24}" for name in names) + f"{'/ swarm':>10}"]
    for what in WHATS:
        found = {name: figures[name, what] for name in names if (name, what) in figures}
        medians = {name: statistics.median(values) for name, values in found.items()}
        cells = [
            f"{medians[name]:.2f} ({min(found[name]):.2f}-{max(found[name]):.2f})" if name in found else "-"
            for name in names
        ]
        swarm = min((m for name, m in medians.items() if name.startswith("swarm")), default=None)
        ours = medians.get("stackyard")
        ratio = f"{ours / swarm:.2f}" if ours and swarm else "-"
        if found:
            lines.append(f"{what:8}" + "".join(f"{cell:>24}" for cell in cells) + f"{ratio:>10}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--systems", default="stackyard,swarm vip,swarm dnsrr")
    parser.add_argument("--only", default=",".join(WHATS))
    words = with_lab(parser).parse_args()
    figures: dict[tuple[str, str], list[float]] = {}
    with lab_of_its_own(words.lab, words.subnet) as (lab, here):
        rivals: list[Rival] = [OfStackyard(lab, here), OfSwarm(lab, here, "vip"), OfSwarm(lab, here, "dnsrr")]
        rivals = [rival for rival in rivals if rival.name in words.systems.split(",")]
        Stackyard(lab, here).step_down()
        for turn in range(words.rounds):
            shift = turn % len(rivals)
            for rival in rivals[shift:] + rivals[:shift]:
                began = time.perf_counter()
                rival.take_charge()
                try:
                    for what, seconds in Course(lab, rival).run(words.only.split(",")):
                        if seconds is None:
                            continue
                        figures.setdefault((rival.name, what), []).append(seconds)
                        load = os.getloadavg()[0]
                        print(f"round {turn + 1}: {rival.name:13} {what:6} {seconds:7.2f} s  load {load:.1f}")
                        sys.stdout.flush()
                    rival.remove()
                finally:
                    rival.step_down()
                print(f"round {turn + 1}: {rival.name:13} took {time.perf_counter() - began:.0f} s in all")
    print()
    print(table(figures))


if __name__ == "__main__":
    main()
