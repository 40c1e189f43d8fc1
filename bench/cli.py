"""What the `stack` command costs: its start, lists, and a command in a container beside the node's own `docker exec`.

    .venv/bin/python -m bench.cli [--times 20] [--lab NAME --node n2]

Needs a lab that is up. The ways take turns, so that what else the machine does troubles both; what counts is the wall
time from the shell and back, as the median and the best of so many times, in milliseconds.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from cli.lab import Lab

STACK = str(Path(sys.executable).parent / "stack")
NAME = "bench-cli"
COMPOSE = """
services:
  box:
    image: busybox:1
    command: [sleep, infinity]
    init: true
    deploy: {placement: {constraints: [node.hostname == %s]}}
"""


def run(words: Sequence[str]) -> None:
    subprocess.run(words, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def timed(words: Sequence[str]) -> float:
    began = time.perf_counter()
    run(words)
    return (time.perf_counter() - began) * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--lab", default=os.environ.get("STACKYARD_LAB", "lab"))
    parser.add_argument("--node", default="n2")
    given = parser.parse_args()
    os.environ["STACKYARD_LAB"] = given.lab
    lab = Lab(name=given.lab)
    subprocess.run(
        [STACK, "deploy", "-f", "-", NAME], input=(COMPOSE % given.node).encode(), check=True, stdout=subprocess.DEVNULL
    )
    try:
        engine = f"unix://{lab.engine_socket(given.node)}"
        listed = ["docker", "-H", engine, "ps", "-q", "--filter", f"label=com.stackyard.stack={NAME}"]
        container = subprocess.run(listed, check=True, capture_output=True, text=True).stdout.split()[0]
        docker = f"docker exec, to the engine of {given.node}"
        exec_ = f"stack exec, to {given.node} through the manager"
        ways = {
            "stack --help": [STACK, "--help"],
            "stack ps": [STACK, "ps"],
            docker: ["docker", "-H", engine, "exec", container, "true"],
            exec_: [STACK, "exec", f"{NAME}_box.1", "true"],
        }
        took: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(given.times + 1):  # the first round warms up
            for way, words in ways.items():
                took[way].append(timed(words))
        for way, times in took.items():
            print(f"{way:45} {statistics.median(times[1:]):7.0f} ms, at best {min(times[1:]):5.0f} ms")
        more = statistics.median(a - b for a, b in zip(took[exec_][1:], took[docker][1:], strict=True))
        best = min(took[exec_][1:]) - min(took[docker][1:])
        print(f"{'stack exec over docker exec':45} {more:7.0f} ms, at best {best:5.0f} ms (goal: less than 30)")
    finally:
        run([STACK, "rm", NAME])


if __name__ == "__main__":
    main()
