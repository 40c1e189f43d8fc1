"""`stack doctor` on a cluster in which something is broken for real, and after it was mended."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.integration.conftest import Cluster, eventually

pytestmark = [pytest.mark.lab, pytest.mark.root, pytest.mark.timeout(1200)]

DROP = """
table inet doctortest {{
  chain c {{
    type filter hook {hook} priority 0
    {what} udp dport 4789 drop
  }}
}}
"""


def doctor(cluster: Cluster) -> list[dict[str, Any]]:
    """What is wrong; the exit code tells whether anything is."""
    done = cluster.stack("doctor", "--format", "json", code=None)
    found: list[dict[str, Any]] = [f for f in json.loads(done.stdout)["findings"] if not f["mended"]]
    assert done.returncode == bool(found), done.stdout
    return found


def well(cluster: Cluster) -> None:
    """Nothing is found: what was broken before may take a moment to be as it was."""
    eventually(lambda: doctor(cluster) == [], "nothing is wrong any more", within=180)


@contextmanager
def dropped(cluster: Cluster, node: str, hook: str, what: str = "") -> Iterator[None]:
    """Rules of the node's own firewall that overlays' packets do not get past."""
    rules = DROP.format(hook=hook, what=what)
    cluster.stack("lab", "exec", node, "--", "sh", "-c", f"echo '{rules}' | nft -f -")
    try:
        yield
    finally:
        cluster.stack("lab", "exec", node, "--", "nft", "delete", "table", "inet", "doctortest")


@contextmanager
def narrow(cluster: Cluster, port: str, mtu: int) -> Iterator[None]:
    """A port of the switch that lets larger packets fall."""
    change = ["ip", "-n", cluster.lab.layout.namespace("switch"), "link", "set", port, "mtu"]
    subprocess.run([*change, str(mtu)], check=True)
    try:
        yield
    finally:
        subprocess.run([*change, "1500"], check=True)


def test_what_is_broken_between_nodes_is_found_with_its_remedy(cluster: Cluster) -> None:
    well(cluster)
    n1 = cluster.lab.layout.node("n1").address
    with dropped(cluster, "n2", "input", f"ip saddr {n1}"):
        [found] = doctor(cluster)
        assert (found["kind"], found["about"]) == ("udp", "n1 -> n2")
        assert "Let UDP port 4789 in on n2" in found["remedy"]
    with dropped(cluster, "n3", "input"):
        found_all = doctor(cluster)
        assert [f["about"] for f in found_all] == ["n1 -> n3", "n2 -> n3"]
        assert {f["remedy"] for f in found_all} == {"Nobody is answered by n3: let UDP port 4789 in there."}
        assert "Nobody is answered by n3" in cluster.stack("doctor", code=1).stdout
    with dropped(cluster, "n2", "output"):
        assert [f["about"] for f in doctor(cluster)] == ["n2 -> n1", "n2 -> n3"]
    well(cluster)


def test_packets_that_do_not_pass_are_found_by_their_size(cluster: Cluster) -> None:
    with narrow(cluster, "p2", 1400):
        found = doctor(cluster)
        assert [(f["kind"], f["about"]) for f in found] == [
            ("mtu", "n1 -> n2"), ("mtu", "n2 -> n1"), ("mtu", "n2 -> n3"), ("mtu", "n3 -> n2")
        ]  # fmt: skip
        assert all("Raise the MTU between the two to 1500" in f["remedy"] for f in found)
    link = ("lab", "exec", "n3", "--", "ip", "link", "set", "eth0", "mtu")
    cluster.stack(*link, "1450")
    try:
        # The node itself follows its link; the others still send what they may.
        found = doctor(cluster)
        assert {"mtu"} == {f["kind"] for f in found} and all("n3" in f["about"] for f in found)
    finally:
        cluster.stack(*link, "1500")
    well(cluster)


def test_names_are_looked_up_where_containers_do(cluster: Cluster, probe: str) -> None:
    cluster.deploy("probe.yml", probe)
    well(cluster)
    looked = json.loads(cluster.stack("doctor", "--format", "json").stdout)
    assert looked["names"] > 0 and looked["vips"] > 0
    task = cluster.tasks(probe)[0]
    sandbox = ("lab", "exec", task["node"], "--", "nsenter", f"--net=/run/netns/sy-{task['id']}", "nft")
    cluster.stack(*sandbox, "delete", "table", "inet", "stackyard")
    well(cluster)
    assert "inet stackyard" in cluster.stack(*sandbox, "list", "tables").stdout


def test_agents_find_by_themselves_what_is_wrong_and_that_it_is_mended(cluster: Cluster, probe: str) -> None:
    cluster.deploy("two-nets.yml", probe)  # it publishes a port, so that all nodes have a network

    def told() -> set[str]:
        return {n["name"] for n in cluster.listing("node", "ls") if any(c.startswith("way/") for c in n["conditions"])}

    with dropped(cluster, "n3", "input"):
        eventually(lambda: told() == {"n1", "n2"}, "both others tell of it", within=900)
        address = cluster.lab.layout.node("n3").address
        shown = cluster.stack("node", "ls").stdout
        assert f"packets to UDP port 4789 of {address} are not answered" in shown
    eventually(lambda: told() == set(), "it is mended", within=900)


def test_what_is_left_over_is_removed_and_a_node_that_is_away_is_told(cluster: Cluster) -> None:
    well(cluster)
    for name in ("sn-left", "sy-left"):
        cluster.stack("lab", "exec", "n2", "--", "ip", "netns", "add", name)
    done = json.loads(cluster.stack("doctor", "--format", "json").stdout)
    # The agent may have come by itself before it was asked.
    assert {f["what"].split()[0] for f in done["findings"]} <= {"sn-left", "sy-left"}
    assert not any("left" in one for one in cluster.stack("lab", "exec", "n2", "--", "ls", "/run/netns").stdout.split())
    cluster.lab.pause("n3", "agent")
    try:
        assert ("unexamined", "n3") in {(f["kind"], f["about"]) for f in doctor(cluster)}
    finally:
        cluster.lab.unpause("n3", "agent")
    well(cluster)
