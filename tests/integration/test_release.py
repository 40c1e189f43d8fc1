"""A cluster that an older release founded goes on to this one, back, and on again, one program after the other."""

from __future__ import annotations

import itertools
import json
import sys
import threading
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from cli.lab import Lab, programs, supervise
from cli.lab.programs import AGENT, MANAGER
from cluster.protocol import VERSION
from tests import own
from tests.integration.conftest import STACKS, Cluster, eventually
from tests.integration.test_failures import Load, ready, task_ids
from tests.machines import CHECKOUT
from tests.older import VERSION as OLDER_VERSION
from tests.older import extract

pytestmark = [pytest.mark.lab, pytest.mark.root, pytest.mark.timeout(1800)]

NODES = ("n1", "n2", "n3")
SHIM = """\
#!{python}
import sys
sys.path.insert(0, {checkout!r})
from {module} import main
sys.exit(main())
"""
WEB = """
services:
  web:
    image: "stackyard-probe:1"
    command: ["python3", "/drain.py", "8000"]
    ports: ["8092:8000"]
    healthcheck: {test: ["CMD", "bash", "-c", "</dev/tcp/127.0.0.1/8000"], interval: 1s}
    deploy: {replicas: 3}
"""
MODULES = {"stack-manager": "manager.main", "stack-agent": "agent.main", "stack-fdstore": "cli.host.fdstore"}


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """A folder with the older release's programs."""
    extract(tmp_path / "older")
    folder = tmp_path / "older-bin"
    folder.mkdir()
    for name, module in MODULES.items():
        # what keeps the agent's sockets meanwhile is the lab's, and stays
        checkout = CHECKOUT if name == "stack-fdstore" else tmp_path / "older"
        program = folder / name
        program.write_text(SHIM.format(python=sys.executable, checkout=str(checkout), module=module))
        program.chmod(0o755)
    return folder


class Releases:
    """Starts the programs of a lab from one folder or another."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab

    def run(self, name: str, program: str, folder: Path) -> None:
        """Have a program of that folder take the place of the one that runs."""
        node, settings = self._lab.node(name), self._lab.settings
        supervise.stop(program, node)
        managers = self._lab.layout.nodes(settings.managers)
        if program == MANAGER:
            built = programs.manager(node.layout, managers, folder)
        else:
            token = supervise._token(node.layout, managers)
            built = programs.agent(node.layout, managers, token, folder)
        node.host.start(program, built.argv)
        supervise.wait(program, node)


class Outside:
    """Asks a published port of one node after the other without pause, and counts."""

    def __init__(self, addresses: list[str], port: int) -> None:
        self._urls = [f"http://{address}:{port}/" for address in addresses]
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._ask)
        self.answers = 0
        self.failed: list[str] = []

    def __enter__(self) -> Outside:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _ask(self) -> None:
        for url in itertools.cycle(self._urls):
            if self._end.wait(0.01):
                return
            try:
                with urllib.request.urlopen(url, timeout=60) as answer:
                    answer.read()
                self.answers += 1
            except OSError as error:
                self.failed.append(f"{url}: {error}")

    def goes_on(self) -> None:
        start = self.answers
        eventually(lambda: self.answers >= start + 30, "the published port answers")


@pytest.fixture
def founded(older: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A lab of three managers whose programs are all of the older release."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    lab = Lab(*own.place(own.LAB))
    lab.down()
    try:
        lab.up(nodes=3, managers=3, programs=[programs.ETCD, programs.ENGINE])
        lab.up(programs=[])
        releases = Releases(lab)
        for program in (MANAGER, AGENT):
            for name in NODES:
                releases.run(name, program, older)
        lab.up(programs=programs.PROGRAMS)  # which finds them all, and tells `stack` of them
        cluster = Cluster(lab, tmp_path / "config")
        cluster.stack("lab", "build", "-f", str(STACKS / "probe.yml"))
        yield cluster
    finally:
        lab.down()


def test_one_by_one_to_this_release_and_back_under_load(founded: Cluster, older: Path, tmp_path: Path) -> None:
    cluster, releases = founded, Releases(founded.lab)
    newer = Path(sys.prefix) / "bin"

    def versions() -> dict[tuple[str, str], int]:
        shown = json.loads(cluster.stack("upgrade", "--format", "json").stdout)
        return {(program["kind"], program["name"]): program["version"] for program in shown["programs"]}

    def runs(agent: str, version: int) -> bool:
        return versions().get((AGENT, agent)) == version

    load = Load(cluster, "load", tmp_path)
    (tmp_path / "web.yml").write_text(WEB)
    cluster.deploy(tmp_path / "web.yml", "published")
    before = task_ids(cluster, "load") | task_ids(cluster, "published")
    addresses = [cluster.lab.layout.node(name).address for name in NODES]

    with Outside(addresses, 8092) as outside:

        def failed() -> list[str]:
            stats = load.stats()
            return [*outside.failed, *[str(stats["errors"])] * stats["failed"]]

        def all_goes_on() -> None:
            start = load.stats()["ok"]
            eventually(lambda: load.stats()["ok"] >= start + 100, "the load goes on")
            outside.goes_on()

        def all_to(folder: Path) -> None:
            version = VERSION if folder == newer else OLDER_VERSION
            for program in (MANAGER, AGENT) if folder == newer else (AGENT, MANAGER):
                for name in NODES:
                    releases.run(name, program, folder)
                    # An agent takes over with its session, some time after its start. What that made wait, and fail
                    # perhaps, is answered or has failed when the same clients' next requests are answered. All
                    # managers are of this release then; older ones could not be asked.
                    if program == AGENT:
                        eventually(partial(runs, name, version), f"the agent of {name} has taken over")
                    all_goes_on()
                    assert not failed()
            eventually(lambda: ready(cluster), "all nodes are ready")
            assert task_ids(cluster, "load") | task_ids(cluster, "published") == before, "no task was touched"

        def works(replicas: int) -> None:
            """What is asked for is done, whoever runs what."""
            cluster.stack("scale", f"published_web={replicas}")
            assert len(cluster.tasks("published")) == replicas
            all_goes_on()
            assert not failed()

        def skew() -> str:
            return "".join(line for line in cluster.stack("version").stderr.splitlines(True) if "warning" in line)

        all_goes_on()
        told = f"one protocol: {VERSION} (command stack), {OLDER_VERSION} (manager that answers)"
        assert told in skew()
        releases.run("n1", MANAGER, newer)
        told = skew()
        assert f"{VERSION} (command stack, manager n1), {OLDER_VERSION} (agent n1, agent n2, agent n3)" in told
        assert "warning: manager n2, manager n3 are of an older release" in told
        works(4)
        works(3)
        before = task_ids(cluster, "load") | task_ids(cluster, "published")
        all_to(newer)
        assert cluster.stack("upgrade").stdout
        all_to(older)
        works(5)
        works(3)
        before = task_ids(cluster, "load") | task_ids(cluster, "published")
        all_to(newer)
        assert set(versions().values()) == {VERSION}
        cluster.stack("upgrade", "--finish")
        assert not skew()
        works(4)
