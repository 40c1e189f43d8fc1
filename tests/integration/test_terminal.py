"""One terminal for a cluster of which a part is down: what is told is true, and says what is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.conftest import Cluster, eventually
from tests.integration.terminal import dead

pytestmark = [pytest.mark.lab, pytest.mark.root, pytest.mark.timeout(1200)]

WEB = """
services:
  web:
    image: "stackyard-probe:1"
    stop_grace_period: 1s
    deploy: {mode: global}
"""


def events(cluster: Cluster, *filters: str) -> str:
    words = [word for one in filters for word in ("--filter", one)]
    return cluster.stack("events", "--since", "30m", "--no-trunc", *words).stdout


def test_a_node_that_dies_is_told_with_what_becomes_of_its_tasks(cluster: Cluster, probe: str, tmp_path: Path) -> None:
    (tmp_path / "web.yml").write_text(WEB)
    cluster.deploy(tmp_path / "web.yml", probe)
    deployed = events(cluster, f"stack={probe}")
    assert "revision 1 by" in deployed and deployed.count("running") == 3
    with dead(cluster, "n3"):
        eventually(lambda: " down " in events(cluster, "node=n3", "type=node"), "that it is down is told")
        assert "n3" in events(cluster, "node=n3", "event=down")
    eventually(lambda: " ready " in events(cluster, "node=n3", "type=node").rpartition(" down ")[2], "it is back")


def test_services_are_stopped_started_restarted_and_killed_also_with_a_dead_node(
    cluster: Cluster, probe: str, tmp_path: Path
) -> None:
    (tmp_path / "web.yml").write_text(WEB)
    cluster.deploy(tmp_path / "web.yml", probe)
    web = f"{probe}_web"
    first = {task["id"] for task in cluster.tasks(probe)}
    assert f"{web} is stopped" in cluster.stack("stop", web).stdout
    assert cluster.tasks(probe) == []
    assert "was stopped" in cluster.stack("services", probe).stdout
    assert f"{probe} runs" in cluster.stack("start", probe).stdout
    second = {task["node"]: task for task in cluster.tasks(probe)}
    assert len(second) == 3 and not first & {task["id"] for task in second.values()}
    name = str(second["n2"]["name"])
    assert f"sent HUP to {name} on n2" in cluster.stack("kill", "-s", "hup", name).stdout
    assert cluster.stack("kill", "-s", "NONSENSE", name, code=2).stderr
    assert f"{name} was restarted" in cluster.stack("restart", name).stdout
    assert cluster.stack("attach", "--no-stdin", f"{web}.99", code=2).stderr
    with dead(cluster, "n3"):
        gone = str(second["n3"]["name"])
        said = cluster.stack("kill", gone, code=3).stderr
        assert "n3 is down" in said
        assert f"{web} is stopped" in cluster.stack("stop", web).stdout
        assert f"{web} runs" in cluster.stack("start", web).stdout
        assert {task["node"] for task in cluster.tasks(probe)} == {"n1", "n2"}
        assert "was restarted" in cluster.stack("restart", web).stdout
