"""What Stackyard costs while nothing happens: the agents' and the manager's CPU and memory, on a lab of three nodes.

    .venv/bin/python -m bench.rest [--tasks 50] [--network 250] [--seconds 60]

First one node has so many tasks, and the others none; then a network has so many over all nodes, for which the seconds
from the command to all running are told, too.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

from bench.systems import COMMAND, IMAGE, NODES, Stackyard, lab_of_its_own, with_lab
from cli.lab import Lab, processes, supervise

SETTLE = 20.0
"""Seconds after the last task runs in which the agents' own looks at the network come to their usual pace."""

_TICK = os.sysconf("SC_CLK_TCK")


def used(pid: int) -> float:
    """Seconds of CPU that a process has had."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


def resident(pid: int) -> float:
    """Memory of a process in MiB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def programs(lab: Lab) -> dict[str, int]:
    """The pids of what is measured, by what they are called."""
    census = processes.census(lab.layout.name)
    found = {}
    for program in ("agent", "manager"):
        for node in NODES:
            if (process := supervise.among(census, node, program)) is not None:
                found[f"{program} of {node}"] = process.pid
    return found


def measure(lab: Lab, what: str, seconds: float) -> None:
    time.sleep(SETTLE)
    pids = programs(lab)
    before, began = {name: used(pid) for name, pid in pids.items()}, time.monotonic()
    time.sleep(seconds)
    passed = time.monotonic() - began
    for name, pid in pids.items():
        share = (used(pid) - before[name]) / passed
        print(f"{what:24} {name:14} {share:7.2%} of a core  {resident(pid):6.1f} MiB", flush=True)


def deploy(stackyard: Stackyard, folder: Path, replicas: int, placement: dict[str, Any]) -> float:
    service = {"image": IMAGE, "command": COMMAND, "networks": ["a"], "deploy": {"replicas": replicas} | placement}
    file = folder / "rest.yml"
    file.write_text(json.dumps({"services": {"web": service}, "networks": {"a": {}}}))
    start = time.perf_counter()
    stackyard.stack("deploy", "-f", str(file), "--settle", "0", "rest")
    return time.perf_counter() - start


def main() -> None:
    parser = with_lab(argparse.ArgumentParser(prog="python -m bench.rest", description=__doc__.partition("\n")[0]))
    parser.add_argument("--tasks", type=int, default=50)
    parser.add_argument("--network", type=int, default=250)
    parser.add_argument("--seconds", type=float, default=60.0)
    wanted = parser.parse_args()
    with lab_of_its_own(wanted.lab, wanted.subnet) as (lab, folder):
        stackyard = Stackyard(lab, folder)
        here = {"placement": {"constraints": [f"node.hostname == {NODES[0]}"]}}
        deploy(stackyard, folder, wanted.tasks, here)
        measure(lab, f"{wanted.tasks} tasks on {NODES[0]}", wanted.seconds)
        stackyard.stack("rm", "rest")
        seconds = deploy(stackyard, folder, wanted.network, {})
        print(f"{wanted.network} tasks in one network ran after {seconds:.1f} s", flush=True)
        measure(lab, f"{wanted.network} in one network", wanted.seconds)
        print(f"removed after {stackyard.remove('rest'):.1f} s")


if __name__ == "__main__":
    main()
