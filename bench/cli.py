"""What the `stack` command costs: its start, lists, and a command in a container beside the node's own `docker exec`.

    .venv/bin/python -m bench.cli [--times 20] [--lab NAME --node n2]

Needs a lab that is up. The ways take turns, so that what else the machine does troubles both; what counts is the wall
time from the shell and back, as the median and the best of so many times, in milliseconds. Of an exec the way alone is
timed besides, from a program that runs already: what is left of the difference is the start of Python. And a key that
is typed into one that runs, until its echo is there.
"""

from __future__ import annotations

import argparse
import json
import os
import pty
import signal
import statistics
import subprocess
import sys
import time
import tty
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

from cli.client.channel import open_channel
from cli.client.contexts import chosen
from cli.client.pump import Pump
from cli.client.transport import Transport, UnixConnection
from cli.lab import Lab
from cluster.channel import ExecRequest, Kind

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


def timed(go: Callable[[], None]) -> float:
    began = time.perf_counter()
    go()
    return (time.perf_counter() - began) * 1000


def exec_by_stack(task: str) -> None:
    """Do what `stack exec` does once its modules are loaded."""
    with (
        open(os.devnull, "wb") as nowhere,
        closing(Transport(chosen())) as transport,
        closing(open_channel(transport, task, "exec")) as channel,
    ):
        channel.request(ExecRequest(("true",)))
        sinks = dict.fromkeys((Kind.OUTPUT, Kind.ERROR_OUTPUT), nowhere.fileno())
        if Pump(channel, None, sinks).run() != 0:
            raise RuntimeError("the command failed")


def exec_by_engine(path: str, container: str) -> None:
    """Do the same as three calls of the engine's API."""

    def ask(method: str, target: str, body: object = None) -> dict[str, object]:
        with closing(UnixConnection(path, 60.0)) as connection:
            connection.request(method, target, json.dumps(body), {"Content-Type": "application/json"})
            answer = connection.getresponse().read()
            return dict(json.loads(answer)) if answer.startswith(b"{") else {}

    wanted = {"AttachStdout": True, "AttachStderr": True, "Cmd": ["true"]}
    ident = ask("POST", f"/containers/{container}/exec", wanted)["Id"]
    ask("POST", f"/exec/{ident}/start", {"Detach": False})
    while ask("GET", f"/exec/{ident}/json")["ExitCode"] != 0:
        pass


class Typist:
    """A person at a terminal of a container, by one of the commands: types a key when called, and awaits its echo."""

    def __init__(self, words: Sequence[str]) -> None:
        self._pid, self._terminal = pty.fork()
        if self._pid == 0:
            os.execvp(words[0], list(words))
        tty.setraw(self._terminal)  # or this one echoes, and not the container's
        self()

    def __call__(self) -> None:
        os.write(self._terminal, b"x")
        if (echo := os.read(self._terminal, 100)) != b"x":
            raise RuntimeError(f"instead of an echo came {echo!r}")

    def close(self) -> None:
        os.kill(self._pid, signal.SIGHUP)
        os.close(self._terminal)
        os.waitpid(self._pid, 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--lab", default=os.environ.get("STACKYARD_LAB", "lab"))
    parser.add_argument("--node", default="n2")
    given = parser.parse_args()
    os.environ["STACKYARD_LAB"] = given.lab
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # where it is installed, nothing is compiled at each start
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
        docker_way, stack_way = "the way of docker exec alone", "the way of stack exec alone"
        task, path = f"{NAME}_box.1", str(lab.engine_socket(given.node))
        ways: dict[str, Callable[[], None]] = {
            "stack --help": partial(run, [STACK, "--help"]),
            "stack ps": partial(run, [STACK, "ps"]),
            docker: partial(run, ["docker", "-H", engine, "exec", container, "true"]),
            exec_: partial(run, [STACK, "exec", task, "true"]),
            docker_way: partial(exec_by_engine, path, container),
            stack_way: partial(exec_by_stack, task),
        }
        took: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(given.times + 1):  # the first round warms up
            for way, go in ways.items():
                took[way].append(timed(go))
        docker_key, stack_key = "a key and its echo by docker exec", "a key and its echo by stack exec"
        with (
            closing(Typist(["docker", "-H", engine, "exec", "-it", container, "cat"])) as by_docker,
            closing(Typist([STACK, "exec", "-it", task, "cat"])) as by_stack,
        ):
            keys = {docker_key: by_docker, stack_key: by_stack}
            took |= {way: [] for way in keys}
            for _ in range(10 * given.times + 1):
                for way, typist in keys.items():
                    took[way].append(timed(typist))
        for way, times in took.items():
            print(f"{way:45} {statistics.median(times[1:]):7.1f} ms, at best {min(times[1:]):6.1f} ms")
        for what, ours, theirs in (
            ("stack exec over docker exec", exec_, docker),
            ("the way", stack_way, docker_way),
            ("a key and its echo", stack_key, docker_key),
        ):
            more = statistics.median(a - b for a, b in zip(took[ours][1:], took[theirs][1:], strict=True))
            best = min(took[ours][1:]) - min(took[theirs][1:])
            print(f"{what + ', more by':45} {more:7.1f} ms, at best {best:6.1f} ms (goal: less than 30)")
    finally:
        run([STACK, "rm", NAME])


if __name__ == "__main__":
    main()
