"""What people do with an app: deploy, reach it, scale it, read its logs, remove it."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import pytest

from tests.integration.conftest import Cluster, eventually

pytestmark = [pytest.mark.lab, pytest.mark.root, pytest.mark.timeout(1200)]


def fetch(cluster: Cluster, url: str, *, door: int = 8080, node: str = "n1", within: int = 60) -> Any:
    """Have the task behind a published port fetch a URL from inside of its networks."""
    return cluster.get(node, door, f"/fetch?url={url}&timeout={within}", timeout=90)


def test_names_networks_and_ports(cluster: Cluster, probe: str) -> None:
    cluster.deploy("two-nets.yml", probe)
    web = cluster.tasks(f"{probe}_web")
    assert len({task["node"] for task in web}) == 2, "two replicas are spread over two nodes"

    for name in ("web", f"{probe}_web", "tasks.web", "www"):
        hosts = {json.loads(fetch(cluster, f"http://{name}:8000/")["body"])["host"] for _ in range(20)}
        assert len(hosts) == 2, f"{name} leads to both replicas, on whichever node they are"
    for slot in (1, 2):
        assert fetch(cluster, f"http://web.{slot}:8000/")["status"] == 200
    assert fetch(cluster, "http://vault:8000/")["status"] == 200

    for node in ("n1", "n2", "n3"):
        assert cluster.get(node, 8080)["host"], f"the published port answers on {node}"

    addresses = cluster.get("n1", 8080, "/resolve?name=tasks.web")["addresses"]
    assert len(addresses) == 2
    assert "error" in fetch(cluster, "http://web:8000/", door=8081), "vault does not know a name of the other network"
    for address in addresses:
        assert "error" in fetch(cluster, f"http://{address}:8000/", door=8081, within=3), (
            "nor does it reach its addresses"
        )


def test_scaling_up_and_down(cluster: Cluster, probe: str) -> None:
    cluster.deploy("two-nets.yml", probe)
    before = {task["id"] for task in cluster.tasks(f"{probe}_web")}
    cluster.stack("scale", f"{probe}_web=6")
    up = cluster.tasks(f"{probe}_web")
    assert len(up) == 6 and before <= {task["id"] for task in up}, "those that ran go on"
    assert sorted(sum(t["node"] == node for t in up) for node in ("n1", "n2", "n3")) == [2, 2, 2]
    eventually(
        lambda: len(cluster.get("n2", 8080, "/resolve?name=tasks.web")["addresses"]) == 6, "all six are in the names"
    )
    cluster.stack("service", "scale", f"{probe}_web=1")
    down = cluster.tasks(f"{probe}_web")
    assert len(down) == 1
    eventually(
        lambda: len(cluster.get("n2", 8080, "/resolve?name=tasks.web")["addresses"]) == 1, "only one is in the names"
    )


def test_a_redeploy_touches_only_what_changed(cluster: Cluster, probe: str, tmp_path: Any) -> None:
    text = (cluster_file := tmp_path / "compose.yml") and (
        "services:\n"
        "  a: {image: 'stackyard-probe:1', environment: {V: '1'}, deploy: {replicas: 2}}\n"
        "  b: {image: 'stackyard-probe:1'}\n"
    )
    cluster_file.write_text(text)
    cluster.deploy(cluster_file, probe)
    first = {t["id"]: t["service"] for t in cluster.tasks(probe)}
    cluster.deploy(cluster_file, probe)
    assert {t["id"] for t in cluster.tasks(probe)} == set(first), "the same file again changes nothing"
    cluster_file.write_text(text.replace("V: '1'", "V: '2'"))
    cluster.deploy(cluster_file, probe)
    second = {t["id"]: t["service"] for t in cluster.tasks(probe)}
    assert len(second) == 3
    kept = set(first) & set(second)
    assert {first[task] for task in kept} == {b for b in first.values() if b.endswith("b")}


def test_logs_of_all_tasks(cluster: Cluster, probe: str) -> None:
    cluster.deploy("two-nets.yml", probe)
    lines = [line for line in cluster.stack("logs", f"{probe}_web").stdout.splitlines() if "probe ready" in line]
    assert len(lines) == 2, lines


def test_rm_leaves_nothing(cluster: Cluster, probe: str) -> None:
    def traces(node: str) -> str:
        # ip6tables makes its table when it is first asked for its rules, and keeps it: only our rules in it count
        tables = "nft list tables | grep -vx 'table ip6 filter'; nft -s list table ip6 filter 2>&1 | grep sy-"
        links = "ls /run/netns /run/stackyard/netns; ip -o link | cut -d: -f2"
        return cluster.lab.exec(node, ["sh", "-c", f"{links}; {tables}"]).stdout

    def is_as_before(node: str) -> bool:
        return traces(node) == before[node]

    cluster.stack("rm", probe, code=None)
    eventually(lambda: not any("sn-" in traces(node) for node in ("n1", "n2", "n3")), "earlier stacks are gone")
    before = {node: traces(node) for node in ("n1", "n2", "n3")}
    cluster.deploy("two-nets.yml", probe)
    cluster.stack("scale", f"{probe}_web=5")
    cluster.stack("rm", probe)
    assert probe not in [stack["name"] for stack in cluster.listing("ls")]
    for node in ("n1", "n2", "n3"):
        assert not cluster.containers(node, f"label=com.stackyard.stack={probe}")
        eventually(partial(is_as_before, node), f"no namespace, link or table is left on {node}")

    def stored(options: str) -> str:
        command = f"ETCDCTL_API=3 etcdctl --endpoints http://127.0.0.1:2379 get --prefix {options}"
        return cluster.lab.exec("n1", ["sh", "-c", command]).stdout

    kinds = {key.split("/")[2] for key in stored("--keys-only /stackyard/").split()}
    for kind in kinds - {"audit"}:  # which tells for months what once was
        assert probe not in stored(f"/stackyard/{kind}/"), kind


def test_a_volume_outlives_its_stack_unless_it_is_to_go_too(cluster: Cluster, probe: str, tmp_path: Any) -> None:
    (tmp_path / "c.yml").write_text(
        "services:\n"
        "  db:\n"
        "    image: 'stackyard-probe:1'\n"
        "    volumes: ['data:/data']\n"
        "    deploy: {placement: {constraints: ['node.hostname == n2']}}\n"
        "volumes: {data: {}}\n"
    )

    def inside(*words: str) -> str:
        [container] = cluster.docker("n2", "ps", "-q", "--filter", f"label=com.stackyard.stack={probe}").split()
        return cluster.docker("n2", "exec", container, *words)

    cluster.deploy(tmp_path / "c.yml", probe)
    inside("touch", "/data/mark")
    cluster.stack("rm", probe)
    cluster.deploy(tmp_path / "c.yml", probe)
    assert inside("ls", "/data").split() == ["mark"]
    cluster.stack("rm", "--volumes", probe)
    assert f"{probe}_data" not in cluster.docker("n2", "volume", "ls", "-q").split()
    cluster.deploy(tmp_path / "c.yml", probe)
    assert inside("ls", "/data").split() == []
