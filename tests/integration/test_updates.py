"""Services that are replaced while they are asked: nobody may notice. And updates that go wrong, end to end."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import Cluster, eventually

pytestmark = [pytest.mark.lab, pytest.mark.root, pytest.mark.timeout(1200)]

PROBE = Path(__file__).parent / "probe"
RATE = 200

APP = """
services:
  web:
    image: "stackyard-probe:1"
    command: ["python3", "/drain.py", "8000"]
    environment: {{VERSION: "{version}"}}
    ports: ["8095:8000"]
    healthcheck: {{test: ["CMD", "bash", "-c", "</dev/tcp/127.0.0.1/8000"], interval: 1s}}
    deploy:
      replicas: {replicas}
      update_config: {{parallelism: 2, monitor: 500ms, order: {order}}}
      rollback_config: {{parallelism: 2, monitor: 500ms, order: {order}}}
  client:
    image: "stackyard-probe:1"
    deploy: {{placement: {{constraints: ["node.hostname == n2"]}}}}
"""


class Loads:
    """Both kinds of clients at both doors: a container that asks by name, a host that asks a published port."""

    def __init__(self, cluster: Cluster, stack: str) -> None:
        [client] = cluster.tasks(f"{stack}_client")
        container = client["container"]
        inside = ["docker", "-H", f"unix://{cluster.lab.engine_socket('n2')}", "exec", "-i", container]
        published = f"{cluster.lab.layout.node('n3').address}:8095"
        self._running: dict[str, subprocess.Popen[str]] = {}
        for kind in ("new", "keep-alive"):
            self._start(f"name, {kind}", [*inside, "python3", "/load.py", "web:8000", kind, str(RATE)])
            self._start(f"port, {kind}", [sys.executable, str(PROBE / "load.py"), published, kind, str(RATE)])

    def _start(self, name: str, command: list[str]) -> None:
        self._running[name] = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def begun(self) -> None:
        """Wait until each asks and is answered: before that there is nobody to notice anything."""
        for name, load in self._running.items():
            assert load.stdout and load.stdout.readline() == "ready\n", name

    def end(self) -> dict[str, Any]:
        for load in self._running.values():
            assert load.stdin
            load.stdin.close()
        told = {name: json.loads(load.stdout.read()) for name, load in self._running.items() if load.stdout}
        print(json.dumps(told, indent=1))  # noqa: T201 (seen when the test fails)
        return told

    def kill(self) -> None:
        for load in self._running.values():
            with load:
                load.kill()


def deploy(cluster: Cluster, stack: str, folder: Path, version: str, order: str, replicas: int = 6) -> None:
    (folder / "app.yml").write_text(APP.format(version=version, order=order, replicas=replicas))
    cluster.deploy(folder / "app.yml", stack)


def images(cluster: Cluster, stack: str) -> set[str]:
    return {task["id"] for task in cluster.tasks(f"{stack}_web")}


UPDATE, ROLLBACK, SCALE, DRAIN, REBALANCE = "update", "rollback", "scale down", "drain", "rebalance"


@pytest.mark.parametrize("order", ["stop-first", "start-first"])
@pytest.mark.parametrize("what", [UPDATE, ROLLBACK, SCALE, DRAIN, REBALANCE])
def test_nobody_notices(cluster: Cluster, probe: str, tmp_path: Path, what: str, order: str) -> None:
    deploy(cluster, probe, tmp_path, "one", order)
    if what == ROLLBACK:
        deploy(cluster, probe, tmp_path, "two", order)
    if what == REBALANCE:
        drained(cluster, probe, "n1")
        cluster.stack("node", "update", "n1", "--availability", "active")
    act: dict[str, Callable[[], object]] = {
        UPDATE: lambda: deploy(cluster, probe, tmp_path, "two", order),
        ROLLBACK: lambda: cluster.stack("rollback", probe),
        SCALE: lambda: cluster.stack("scale", f"{probe}_web=2"),
        DRAIN: lambda: drained(cluster, probe, "n1"),
        REBALANCE: lambda: cluster.stack("rebalance", "--max-unavailable", "2"),
    }
    before = images(cluster, probe)
    loads = Loads(cluster, probe)
    try:
        loads.begun()
        act[what]()
        told = loads.end()
    finally:
        loads.kill()
        if what == DRAIN:
            cluster.stack("node", "update", "n1", "--availability", "active")
    after = images(cluster, probe)
    if what in (UPDATE, ROLLBACK):
        assert len(after) == 6 and not after & before, "every task was replaced"
    if what == REBALANCE:
        assert Counter(task["node"] for task in cluster.tasks(f"{probe}_web")) == {"n1": 2, "n2": 2, "n3": 2}
    # A node that takes more than two seconds to let go of a task is named and passed over, as on a machine that is too
    # busy: then nothing is promised to the clients whose packets that very node leads.
    messages = [task["message"] for task in cluster.listing("ps", f"{probe}_web")]
    late = [found[1].split(", ") for said in messages if (found := re.search("without word from (.*?) that", said))]
    for name, one in told.items():
        leads = "n2" if name.startswith("name") else "n3"
        assert one["failed"] == 0 or any(leads in nodes for nodes in late), (name, one, messages)


def drained(cluster: Cluster, stack: str, node: str) -> None:
    cluster.stack("node", "update", node, "--availability", "drain")
    eventually(
        lambda: len(t := cluster.tasks(f"{stack}_web")) == 6 and all(x["node"] != node for x in t), "all elsewhere"
    )


SINGLE = """
services:
  web:
    image: "{image}"
    command: ["python3", "/drain.py"]
    volumes: ["data:/data"]
volumes: {{data: }}
"""


def test_the_old_one_serves_until_the_image_of_the_new_one_is_there(
    cluster: Cluster, probe: str, tmp_path: Path
) -> None:
    build = tmp_path / "build"
    build.mkdir()
    (build / "Dockerfile").write_text("FROM stackyard-probe:1\nRUN head -c 1000000 /dev/urandom > /ballast\n")
    (build / "build.yml").write_text(f"services: {{one: {{image: '{probe}:2', build: .}}}}")
    cluster.stack("lab", "build", "-f", str(build / "build.yml"), timeout=300)
    (tmp_path / "app.yml").write_text(SINGLE.format(image="stackyard-probe:1"))
    cluster.deploy(tmp_path / "app.yml", probe)
    [old] = cluster.tasks(probe)
    (tmp_path / "app.yml").write_text(SINGLE.format(image=f"{probe}:2"))

    def service() -> dict[str, Any]:
        [one] = cluster.listing("services", probe)
        return one

    with registry_held(cluster):
        cluster.stack("deploy", "--detach", "-f", str(tmp_path / "app.yml"), probe)
        eventually(lambda: "waits for the image on" in (service()["update"] or {"message": ""})["message"], "it waits")
        assert [task["id"] for task in cluster.tasks(probe)] == [old["id"]]
    eventually(lambda: [t["image"] for t in cluster.tasks(probe)] == [f"{probe}:2"], "the new one runs", within=120)


@contextmanager
def registry_held(cluster: Cluster) -> Iterator[None]:
    """Have the lab's registry answer nobody, until the end of the block."""
    found = subprocess.run(
        ["pgrep", "-f", f"^docker-registry serve {cluster.lab.layout.data_dir}/"],
        capture_output=True,
        text=True,
        check=True,
    )
    [registry] = map(int, found.stdout.split())
    os.kill(registry, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(registry, signal.SIGCONT)


BAD = """
services:
  web:
    image: "stackyard-probe:1"
    command: {command}
    deploy:
      replicas: 3
      update_config: {{delay: 2s, monitor: 6s, failure_action: {action}}}
  other:
    image: "stackyard-probe:1"
    environment: {{VERSION: "{version}"}}
    deploy: {{update_config: {{monitor: 1s}}}}
"""
GOOD_COMMAND, BAD_COMMAND = '["python3", "/drain.py"]', '["sh", "-c", "echo no database; exit 3"]'


def bad(cluster: Cluster, stack: str, folder: Path, command: str, action: str, version: str, *words: str) -> Any:
    (folder / "app.yml").write_text(BAD.format(command=command, action=action, version=version))
    return cluster.stack("deploy", "-f", str(folder / "app.yml"), *words, stack, code=None)


def test_a_bad_version_goes_back_by_itself_and_the_command_says_so(
    cluster: Cluster, probe: str, tmp_path: Path
) -> None:
    assert bad(cluster, probe, tmp_path, GOOD_COMMAND, "rollback", "1").returncode == 0
    before = images(cluster, probe)
    done = bad(cluster, probe, tmp_path, BAD_COMMAND, "rollback", "1")
    assert done.returncode == 1
    assert "back to revision 1" in done.stderr, done.stderr
    eventually(lambda: len(images(cluster, probe)) == 3, "three run again")
    assert len(images(cluster, probe) & before) == 2, "what was not replaced was left alone"
    newest, *_ = cluster.listing("history", probe)
    assert newest["current"] and newest["author"] == "stackyard"


def test_a_bad_version_pauses_and_goes_on_when_told_to(cluster: Cluster, probe: str, tmp_path: Path) -> None:
    bad(cluster, probe, tmp_path, GOOD_COMMAND, "pause", "1")
    done = bad(cluster, probe, tmp_path, BAD_COMMAND, "pause", "1")
    assert done.returncode == 1
    assert "update is paused: 1 of 3 new tasks failed" in done.stderr, done.stderr

    def two_run() -> bool:
        """The third is tried again and again, and each time runs for a moment."""
        [web] = [s for s in cluster.listing("services", probe) if s["service"] == "web"]
        assert web["update"]["state"] == "paused"
        return bool(web["running"] == 2)

    eventually(two_run, "what was not replaced runs")
    again = cluster.stack("update", "--continue", "--timeout", "60", f"{probe}_web", code=1)
    assert "update is paused" in again.stderr
    cluster.stack("rollback", f"{probe}_web")
    assert len(images(cluster, probe)) == 3


def test_an_atomic_deploy_is_undone_whole(cluster: Cluster, probe: str, tmp_path: Path) -> None:
    bad(cluster, probe, tmp_path, GOOD_COMMAND, "pause", "1")
    done = bad(cluster, probe, tmp_path, BAD_COMMAND, "pause", "2", "--atomic")
    assert done.returncode == 1 and "back to revision 1" in done.stderr, done.stderr
    newest, *_ = cluster.listing("history", probe)
    assert sorted(newest["changes"]) == ["other: environment", "web: command"]
    eventually(lambda: len(cluster.tasks(probe)) == 4, "all run again")
