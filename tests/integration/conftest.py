"""One lab of three nodes for all tests of this folder (for each worker, where several run), made at first use and
taken away at the end.

It has a name and subnet of its own, so a person's own lab on the machine is not touched (see tests/own.py); what a
killed run left behind is taken away first. Tests deploy stacks of their own name and remove them; a test that breaks
a node mends it again. One that leaves a program dead fails, and the lab is mended for the next.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from cli.lab import Lab
from tests import own
from tests.integration.programs import Programs
from tests.patience import PATIENCE

Answer = TypeVar("Answer")
STACKS = Path(__file__).parent / "stacks"
STACK = Path(sys.prefix) / "bin" / "stack"


class Cluster:
    """A lab, and `stack` typed at its terminal."""

    def __init__(self, lab: Lab, config: Path) -> None:
        self.lab = lab
        self.programs = Programs(lab)
        self.environment = os.environ | {"XDG_CONFIG_HOME": str(config), "STACKYARD_LAB": lab.layout.name}
        self.environment.pop("COLUMNS", None)  # pytest's workers have it, and lists would be folded to it

    def anew(self) -> None:
        """Make the lab from nothing, with the probe's image."""
        self.lab.down()
        self.lab.up(nodes=3)
        self.stack("lab", "build", "-f", str(STACKS / "probe.yml"))

    def made_whole(self) -> str:
        """Mend what is broken, and tell what it was."""
        damage = self.programs.damage()
        if damage and not self.programs.mend():
            self.anew()
        return damage

    def stack(
        self, *words: str, code: int | None = 0, timeout: float = 4 * PATIENCE
    ) -> subprocess.CompletedProcess[str]:
        """Run `stack WORDS`; its exit code must be `code` (None: any)."""
        done = subprocess.run(
            [STACK, *words], env=self.environment, capture_output=True, text=True, timeout=timeout, check=False
        )
        assert "Traceback" not in done.stdout + done.stderr, done.stderr
        if code is not None:
            assert done.returncode == code, f"stack {' '.join(words)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def listing(self, *words: str) -> list[dict[str, Any]]:
        """Run a command that lists things and give them as JSON."""
        answer: list[dict[str, Any]] = json.loads(self.stack(*words, "--format", "json").stdout)
        return answer

    def deploy(self, file: str | Path, name: str, **options: Any) -> subprocess.CompletedProcess[str]:
        return self.stack("deploy", "-f", str(STACKS / file), name, **options)

    def tasks(self, what: str, *, state: str = "running") -> list[dict[str, Any]]:
        """The tasks of a stack or service that are in that state and are to run."""
        return [t for t in self.listing("ps", what) if t["state"] == state and t["desired"] == "running"]

    def get(self, node: str, port: int, path: str = "/", timeout: float = 60) -> Any:
        """GET from a published port on a node, as someone outside of the cluster."""
        address = self.lab.layout.node(node).address
        with urllib.request.urlopen(f"http://{address}:{port}{path}", timeout=timeout) as answer:
            return json.load(answer)

    def containers(self, node: str, *filters: str) -> list[str]:
        """Ids of all containers on a node, also dead ones, by engine filters such as label=..."""
        words = [word for f in filters for word in ("--filter", f)]
        done = subprocess.run(
            ["docker", "-H", f"unix://{self.lab.engine_socket(node)}", "ps", "-aq", "--no-trunc", *words],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        return done.stdout.split()

    def docker(self, node: str, *words: str) -> str:
        done = subprocess.run(
            ["docker", "-H", f"unix://{self.lab.engine_socket(node)}", *words],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        return done.stdout


def eventually(what: Callable[[], Answer], why: str, *, within: float = PATIENCE) -> Answer:
    """Ask until the answer is true; the cluster's own events are not to be had through the commands under test.

    What takes long to ask is asked less often: who asks without pause takes the processor from who is asked.
    """
    end = time.monotonic() + within
    while True:
        began = time.monotonic()
        answer = what()
        if answer:
            return answer
        assert time.monotonic() < end, f"not within {within} s: {why}; last answer {answer!r}"
        time.sleep(min(max(0.1, time.monotonic() - began), 1.0))


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    config = tmp_path_factory.mktemp("config")
    os.environ["XDG_CONFIG_HOME"] = str(config)  # the lab writes its context there
    lab = Lab(*own.place(own.CLUSTER))
    try:
        cluster = Cluster(lab, config)
        cluster.anew()
        yield cluster
    finally:
        kept = tmp_path_factory.mktemp("lab-logs")  # what the programs said outlives the lab: failures are read there
        for log in lab.layout.data_dir.glob("n*/*.log"):
            shutil.copy(log, kept / f"{log.parent.name}-{log.name}")
        if not os.environ.get("STACKYARD_KEEP_LAB"):
            lab.down()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """See to it that each test finds the lab whole and leaves it so; tell what the programs said where one fails."""
    cluster = getattr(item, "funcargs", {}).get("cluster")
    if not isinstance(cluster, Cluster):
        return (yield)
    before = cluster.made_whole()
    cluster.programs.begin()
    try:
        if before:
            pytest.fail(f"{before}\n(seen before this test)", pytrace=False)
        yield
    except BaseException:
        item.add_report_section("call", "warnings of the lab's programs", cluster.programs.said())
        if after := cluster.made_whole():
            item.add_report_section("call", "the lab after this test", after)
        raise
    if after := cluster.made_whole():
        pytest.fail(f"{after}\n(seen after this test)", pytrace=False)


@pytest.fixture
def probe(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of a stack for this test, removed afterwards; the lab has the probe's image."""
    name = re.sub("[^a-z0-9]+", "-", request.node.name.removeprefix("test_"))[:30].strip("-")
    yield name
    cluster.stack("rm", "--volumes", name, code=None)
